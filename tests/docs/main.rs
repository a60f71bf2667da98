//! The pages for people: every command line in them runs, or says why not.
//!
//! A block ` ```console ` is typed into a shell in a fresh directory, with real servers, and what
//! is answered compared with what the page shows. `ZENITH_UPDATE_DOCS=1` writes the answers anew
//! where they differ by more than what varies from run to run.

mod compare;
mod examples;
mod links;
mod page;
mod recording;
mod shell;
mod syntax;

use std::fs;
use std::path::{Path, PathBuf};

use compare::Names;
use page::{Block, Kind, Step};
use shell::Shell;
use zenith_testkit::port;

/// One test for each page with something to run, so that they run beside each other.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        const RUN: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $name() {
                run($path);
            }
        )*
    };
}

pages! {
    readme: "README.md",
    quick_start: "docs/quick-start.md",
    restore_drill: "docs/restore-drill.md",
    branching: "docs/branching.md",
    storage: "docs/storage.md",
    retention: "docs/retention.md",
    encryption: "docs/encryption.md",
    least_privilege: "docs/least-privilege.md",
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages at the top and everything in docs/, by their paths from the top.
fn all() -> Vec<String> {
    let mut pages = Vec::new();
    for dir in ["", "docs/"] {
        for entry in fs::read_dir(top().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                pages.push(format!("{dir}{name}"));
            }
        }
    }
    pages.sort();
    pages
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn blocks(path: &str) -> Vec<Block> {
    page::blocks(&read(path)).unwrap_or_else(|why| panic!("{path}:{why}"))
}

/// Types a page, and compares.
fn run(path: &str) {
    let text = read(path);
    let update = std::env::var_os("ZENITH_UPDATE_DOCS").is_some();
    let mut new = Vec::new();
    let result = type_all(path, &text, |step, shown| {
        new.push((step.answer.clone(), shown));
        update
    });
    if update {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (answer, shown) in new.into_iter().rev() {
            lines.splice(answer, shown);
        }
        fs::write(top().join(path), lines.join("\n") + "\n").unwrap();
    }
    if let Err(why) = result {
        panic!("{why}");
    }
}

/// Types the command lines of a page one after the other. An answer that is not what the page
/// shows is given to `differs`, which says whether to go on.
fn type_all(
    path: &str,
    text: &str,
    mut differs: impl FnMut(&Step, Vec<String>) -> bool,
) -> Result<(), String> {
    let mut names = Names::new(port::free);
    let mut shell = Shell::new(&compare::buckets(text), names.port("5432"));
    names.root = shell.root();
    let blocks = blocks(path);
    let steps: Vec<(&Kind, &Step)> = blocks
        .iter()
        .filter(|block| matches!(block.kind, Kind::Run | Kind::Setup))
        .flat_map(|block| block.steps.iter().map(|step| (&block.kind, step)))
        .collect();
    for (n, (kind, step)) in steps.iter().enumerate() {
        let at = format!("{path}:{}: $ {}", step.line + 1, step.command);
        let (said, code) = shell
            .run(&names.typed(&step.command))
            .map_err(|why| format!("{at}\n{why}"))?;
        let mut shown = names.shown(&said);
        let told = step.shown.iter().any(|line| line.contains("error:"))
            || matches!(steps.get(n + 1), Some((_, next)) if next.command == "echo $?");
        if code != 0 && !told {
            return Err(format!("{at}\nexit code {code}\n{}", shown.join("\n")));
        }
        if **kind == Kind::Setup || names.agree(&step.shown, &shown) {
            continue;
        }
        let answer = shown.join("\n");
        if names.learn_all(&step.shown, &shown) {
            shown = names.shown(&said);
        }
        if !differs(step, shown) {
            return Err(format!(
                "{at}\nThe page shows\n{}\n\nbut the answer is\n{answer}\n\n\
                 Is that right? ZENITH_UPDATE_DOCS=1 puts it into the page.",
                step.shown.join("\n"),
            ));
        }
    }
    Ok(())
}
