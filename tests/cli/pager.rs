//! Long lists on a terminal go through a pager.

use std::process::Command;

use crate::made_up::MadeUp;

impl MadeUp {
    /// What a terminal shows of a line of the shell in which `zenith` is the program.
    fn on_terminal(&self, env: &[(&str, &str)], line: &str) -> String {
        self.named(&self.typed_on_terminal(env, line))
    }

    /// The same with the ids as they are.
    fn typed_on_terminal(&self, env: &[(&str, &str)], line: &str) -> String {
        let line = line.replace("zenith", env!("CARGO_BIN_EXE_zenith"));
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .envs(env.iter().copied())
            .current_dir(self.zenith.dir())
            .output()
            .expect("script is a part of every Debian");
        String::from_utf8(output.stdout).unwrap().replace('\r', "")
    }
}

const MARKS: (&str, &str) = ("ZENITH_PAGER", "sed s/^/P:/");

#[test]
fn long_lists_are_paged_on_a_terminal() {
    let m = MadeUp::new();
    m.snapshot("main", "one", 9);
    m.ok("tag v1");
    // Time goes on between the two.
    let age = regex::Regex::new(r" *\b\d+ (s|min|h)\b").unwrap();
    let ageless = |text: &str| age.replace_all(text, " AGE").into_owned();
    for line in [
        "log",
        "snapshot list",
        "branch",
        "tag",
        "op log",
        "prune --keep-last 1 --dry-run",
    ] {
        let plain = m.ok(line);
        let plain = ageless(&m.named(&plain));
        let paged = m.on_terminal(&[MARKS], &format!("zenith {line} --color never"));
        let paged = ageless(&paged);
        for line in plain.lines() {
            assert!(paged.contains(&format!("P:{line}\n")), "{line}\n{paged}");
        }
        assert!(
            paged.lines().all(|line| line.starts_with("P:")),
            "what is said, too\n{paged}"
        );
    }
    let paged = m.on_terminal(&[("PAGER", "sed s/^/Q:/"), MARKS], "zenith log");
    assert!(
        paged.starts_with("P:") && paged.contains("\u{1b}["),
        "{paged:?}"
    );
    let paged = m.on_terminal(&[("PAGER", "sed s/^/Q:/")], "zenith log");
    assert!(paged.starts_with("Q:"), "{paged:?}");
}

#[test]
fn what_is_not_for_a_person_to_page_is_not_paged() {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 9);
    for line in [
        "zenith log --no-pager",
        "zenith log --json",
        "zenith log | cat",
        "zenith status",
        "zenith branch new",
        "zenith log nosuch",
    ] {
        let shown = m.on_terminal(&[MARKS], line);
        assert!(!shown.contains("P:"), "{line}\n{shown}");
    }
    let shown = m.on_terminal(
        &[("ZENITH_PAGER", ""), ("PAGER", "sed s/^/P:/")],
        "zenith log",
    );
    assert!(!shown.contains("P:"), "{shown}");
    assert!(m.ok("log --oneline").contains(&one.short()));
}

#[test]
fn a_pager_that_ends_early_or_does_not_begin() {
    let m = MadeUp::new();
    for n in 0..40 {
        m.snapshot("main", &format!("number{n}"), 90 - n);
    }
    let shown = m.on_terminal(
        &[("ZENITH_PAGER", "head -n 1")],
        "zenith log --oneline --color never; echo code $?",
    );
    assert_eq!(shown, "● number39  main  number39\ncode 0\n");
    let shown = m.on_terminal(
        &[("ZENITH_PAGER", "./nosuch")],
        "zenith log --color never; echo code $?",
    );
    assert!(
        shown.contains("error: the pager `./nosuch` cannot be run"),
        "{shown}"
    );
    assert!(
        shown.contains("--no-pager") && shown.ends_with("code 2\n"),
        "{shown}"
    );
    // An error comes after the pager, where it stays on the screen.
    let shown = m.on_terminal(&[MARKS], "zenith log nosuch --color never; echo code $?");
    assert!(
        shown.starts_with("error: no branch, tag or snapshot"),
        "{shown}"
    );
    // In colour, unless the person wants none.
    let shown = m.on_terminal(&[MARKS], "zenith log nosuch");
    assert!(shown.starts_with("\u{1b}["), "{shown:?}");
    let shown = m.on_terminal(&[MARKS, ("NO_COLOR", "1")], "zenith log nosuch");
    assert!(shown.starts_with("error: "), "{shown:?}");
}

/// A pager shows what is written, whatever the locale is.
#[test]
fn less_knows_that_it_reads_utf_8() {
    let m = MadeUp::new();
    m.snapshot("main", "one", 9);
    let pager = ("ZENITH_PAGER", "cat; echo charset $LESSCHARSET");
    let shown = m.on_terminal(&[pager], "zenith log");
    assert!(shown.ends_with("charset utf-8\n"), "{shown}");
    let shown = m.on_terminal(&[pager, ("LESSCHARSET", "latin1")], "zenith log");
    assert!(shown.ends_with("charset latin1\n"), "{shown}");
}

/// A message that is longer than the terminal is wide is cut there, and a log says less before
/// that; in a pipe all is said.
#[test]
fn lists_are_as_wide_as_the_terminal() {
    let m = MadeUp::new();
    let message = "as long as the sentence in which somebody says all of it";
    m.snapshot("main", message, 9);
    let plain = ("ZENITH_PAGER", "");
    for line in ["log", "log --graph", "log --oneline", "snapshot list"] {
        let on = |rest: &str| {
            let line = format!("stty cols 60; zenith --color never {line}{rest}");
            m.typed_on_terminal(&[plain], &line)
        };
        let shown = on("");
        let long = shown.lines().find(|line| line.ends_with('…'));
        let long = long.unwrap_or_else(|| panic!("{line} is not cut\n{shown}"));
        assert_eq!(long.chars().count(), 60, "{shown}");
        assert!(long.contains("as long"), "{shown}");
        assert!(on(" | cat").contains(message), "{line}");
    }
    let log = |columns: u32| {
        let line = format!("stty cols {columns}; zenith log --color never");
        m.typed_on_terminal(&[plain], &line)
    };
    let (narrow, wide) = (log(90), log(200));
    assert!(
        narrow.contains(message) && !narrow.contains(" new "),
        "{narrow}"
    );
    assert!(wide.contains(message) && wide.contains(" new "), "{wide}");
}
