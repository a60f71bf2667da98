//! `zenith man`: manual pages, generated from the same definitions as everything else.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use super::Context;
use crate::args::{self, ManArgs};
use crate::error::Failure;

pub fn run(args: &ManArgs, context: &Context) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let page = page(args::command())?;
        if context.ui.is_json() {
            return context.ui.record(&serde_json::json!({
                "type": "man_page", "v": 1, "name": "zenith.1",
                "page": String::from_utf8_lossy(&page),
            }));
        }
        return context.ui.raw(&page);
    };
    let dir = context.env.absolute(dir);
    let pages = write(&args::command(), "zenith", &dir)?;
    if context.ui.is_json() {
        return context.ui.record(&serde_json::json!({
            "type": "man_pages", "v": 1, "dir": dir, "pages": pages,
        }));
    }
    context
        .ui
        .answer(format_args!("{pages} manual pages in {}", dir.display()))
}

/// One page for the command and each of its visible subcommands, named as git names its own; how
/// many.
fn write(command: &Command, name: &str, dir: &Path) -> Result<u32, Failure> {
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command.clone().name(name.to_owned()))?).map_err(|source| {
        zenith::Error::Io {
            verb: "write",
            path,
            source,
        }
    })?;
    let mut pages = 1;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages += write(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(pages)
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(Failure::Output)?;
    Ok(with_sections(&String::from_utf8_lossy(&page)).into_bytes())
}

/// What follows the help is one section to clap; notes and examples have sections of their own, and
/// examples keep their lines.
fn with_sections(page: &str) -> String {
    const EXTRA: &str = "\n.SH EXTRA\n";
    let Some((before, after)) = page.split_once(EXTRA) else {
        return page.to_owned();
    };
    let (extra, rest) = match after.find("\n.SH ") {
        Some(end) => after.split_at(end + 1),
        None => (after, ""),
    };
    let (notes, examples) = extra.split_once("Examples:\n").unwrap_or((extra, ""));
    let mut page = before.to_owned();
    if !notes.trim().is_empty() {
        page.push_str("\n.SH NOTES\n");
        page.push_str(notes.trim_end());
    }
    if !examples.is_empty() {
        page.push_str("\n.SH EXAMPLES\n.nf\n");
        page.push_str(examples.trim_end());
        page.push_str("\n.fi");
    }
    page + "\n" + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each page has the examples of its command, in a section that keeps their lines.
    #[test]
    fn every_page_has_the_examples() {
        fn walk(command: &Command) {
            let help = command.clone().render_long_help().to_string();
            let (_, examples) = help.split_once("\nExamples:\n").unwrap();
            let page = String::from_utf8(page(command.clone()).unwrap()).unwrap();
            assert!(!page.contains(".SH EXTRA"), "{page}");
            let (_, section) = page.split_once("\n.SH EXAMPLES\n.nf\n").unwrap();
            let section = section.split("\n.fi").next().unwrap();
            // What troff must not take for its own is written in another way.
            let plain = section
                .replace("\\\\", "\\")
                .replace("\\-", "-")
                .replace("\\*(Aq", "'")
                .replace("\\(aq", "'");
            assert_eq!(plain.trim_end(), examples.trim_end());
            command
                .get_subcommands()
                .filter(|sub| !sub.is_hide_set())
                .for_each(walk);
        }
        walk(&args::command());
    }
}
