//! What is not run: it is marked, and zenith understands it.

use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use crate::page::{self, Kind};
use crate::{RUN, all, blocks, read};

/// Blocks that are not run, with the reasons they give. A new one is a decision: try to run it.
#[test]
fn what_is_not_run_says_why() {
    let mut marked = String::new();
    for path in all() {
        for block in blocks(&path) {
            let at = format!("{path}:{}", block.line + 1);
            match &block.kind {
                Kind::Run => {
                    assert!(
                        RUN.contains(&&*path),
                        "{at}: add the page to tests/docs/main.rs"
                    );
                    assert!(block.other.is_empty(), "{at}: it begins with no `$ `");
                }
                Kind::Setup => assert!(RUN.contains(&&*path), "{at}: nothing runs it"),
                Kind::Parsed(why) => marked.push_str(&format!("{path} parsed: {why}\n")),
                Kind::Shown(why) => marked.push_str(&format!("{path} shown: {why}\n")),
                Kind::Text => {
                    for line in &block.other {
                        let program = line.split(' ').next().unwrap_or_default();
                        assert!(
                            !["$", "zenith", "make", "cargo", "sudo"].contains(&program),
                            "{at}: `{line}` is a command line: the block is ```console"
                        );
                    }
                }
            }
        }
    }
    assert_snapshot!(marked, @r"
    README.md shown: it installs packages and compiles for a quarter of an hour
    docs/concurrency.md shown: it takes minutes and gigabytes
    docs/storage.md shown: your server's address and keys go here
    docs/storage.md parsed: needs an account of Google's
    docs/storage.md parsed: needs an account of Azure's
    docs/testing.md shown: it makes files that are kept for ever
    docs/testing.md shown: it compiles, and runs for a minute
    ");
}

/// Command lines that are not run, and those within the text, are such as zenith understands.
#[test]
fn what_is_not_run_is_understood() {
    let mut wrong = Vec::new();
    for path in all() {
        let text = read(&path);
        let blocks = blocks(&path);
        let steps = blocks
            .iter()
            .filter(|block| matches!(block.kind, Kind::Parsed(_)))
            .flat_map(|block| &block.steps)
            .map(|step| (step.line, &*step.command));
        for (line, command) in page::spans(&text).into_iter().chain(steps) {
            if let Err(why) = understood(command) {
                wrong.push(format!("{path}:{}: `{command}`\n{why}", line + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// With `--help` behind it, a command line is read up to there and nothing is done.
fn understood(line: &str) -> Result<(), String> {
    // In a table a pipe is written so.
    let line = line.replace("\\|", "|");
    let end = [" | ", " > ", " < ", "; ", " && "]
        .iter()
        .filter_map(|stop| line.find(stop))
        .min()
        .unwrap_or(line.len());
    let line = &line[..end];
    let line = match line.split_once(" -- ") {
        Some((options, rest)) => format!("{options} --help -- {rest}"),
        None => format!("{line} --help"),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_zenith"));
    let dir = program.parent().expect("it lies in a directory");
    let output = Command::new("bash")
        .args(["-c", &line])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
        .output()
        .expect("bash is there");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
