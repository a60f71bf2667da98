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
    assert_snapshot!(marked, @"");
}

/// Command lines that are not run, and those within the text, are such as zenith understands.
#[test]
fn what_is_not_run_is_understood() {
    for path in all() {
        let text = read(&path);
        for (line, span) in page::spans(&text) {
            understood(&format!("{path}:{}", line + 1), span);
        }
        for block in blocks(&path) {
            if matches!(block.kind, Kind::Parsed(_)) {
                for step in block.steps {
                    understood(&format!("{path}:{}", step.line + 1), &step.command);
                }
            }
        }
    }
}

/// With `--help` behind it, a command line is read up to there and nothing is done.
fn understood(at: &str, line: &str) {
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
    let output = Command::new("bash")
        .args(["-c", &line])
        .env_clear()
        .env("PATH", program.parent().expect("it lies in a directory"))
        .output()
        .expect("bash is there");
    assert!(
        output.status.success(),
        "{at}: {line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
