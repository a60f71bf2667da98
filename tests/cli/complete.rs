//! What a shell is told when it asks how a word goes on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zenith::store::SnapshotId;

use crate::made_up::MadeUp;
use crate::zenith::Zenith;

impl Zenith {
    /// What the shell gets for the last word of a line; an empty one is `""`.
    fn completed(&self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split(' ').map(|w| w.trim_matches('"')).collect();
        let output = self
            .command("--")
            .args(&words)
            .env("ZENITH_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", self.shown(&output));
        assert!(output.stderr.is_empty(), "{line}\n{}", self.shown(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }
}

fn named() -> (MadeUp, SnapshotId) {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 9);
    m.name("tag/v1.0", one);
    m.name("branch/feature/x", one);
    m.snapshot("main", "two", 3);
    m.ok("push");
    m.ok("remote add offsite /srv/store");
    (m, one)
}

#[test]
fn names_complete() {
    let (m, one) = named();
    let at = |line: &str| -> Vec<String> {
        let names = m.zenith.completed(line).into_iter();
        names.filter(|name| !name.starts_with('-')).collect()
    };
    let all = ["feature/x", "main", "v1.0", "HEAD", "origin/main"];
    for line in [
        "zenith log \"\"",
        "zenith checkout \"\"",
        "zenith log main \"\"",
    ] {
        assert_eq!(at(line), all, "{line}");
    }
    assert_eq!(at("zenith tag new fea"), ["feature/x"]);
    assert_eq!(at("zenith tag -d \"\""), ["v1.0"]);
    assert_eq!(at("zenith branch -d \"\""), ["feature/x", "main"]);
    assert_eq!(at("zenith push \"\""), ["origin", "offsite"]);
    assert_eq!(at("zenith push --branch f"), ["feature/x"]);
    assert_eq!(at("zenith fetch o"), ["origin", "offsite"]);
    assert_eq!(at("zenith fetch m"), ["main"]);
    assert_eq!(
        m.zenith.completed("zenith log --remote=of"),
        ["--remote=offsite"]
    );
    assert_eq!(m.zenith.completed("zenith snapshot sh"), ["show"]);
    // Of an id no more than is enough, but what was typed.
    let id = one.to_string();
    assert_eq!(at(&format!("zenith log {}", &id[..3])), [one.short()]);
    assert_eq!(at(&format!("zenith log {}", &id[..20])), [&id[..20]]);
    // A new branch has a new name.
    assert_eq!(at("zenith checkout -b m"), [""; 0]);
}

/// Whatever is wrong is no answer, and no word in the middle of the line that is typed.
#[test]
fn what_cannot_be_answered_is_silent() {
    let zenith = Zenith::new();
    assert_eq!(zenith.completed("zenith log m"), [""; 0]);
    assert_eq!(zenith.completed("zenith nosuch zz"), [""; 0]);
    let (m, _) = named();
    assert_eq!(m.zenith.completed("zenith -D elsewhere log m"), [""; 0]);
    assert_eq!(m.zenith.completed("zenith -D .zenith log m"), ["main"]);
    fs::write(m.home.dir().join("config.toml"), "[").unwrap();
    assert_eq!(m.zenith.completed("zenith log m"), [""; 0]);
    let unknown = m
        .zenith
        .command("-- zenith log")
        .env("ZENITH_COMPLETE", "nosuchshell")
        .output()
        .unwrap();
    assert!(unknown.stdout.is_empty() && unknown.stderr.is_empty());
}

/// A completion goes on beside everything: nothing is written, nobody is waited for.
#[test]
fn nothing_is_locked_or_written() {
    fn times(dir: &Path, found: &mut Vec<(String, i64, i64)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            found.push((path.display().to_string(), meta.mtime(), meta.mtime_nsec()));
            if meta.is_dir() {
                times(&path, found);
            }
        }
        found.sort();
    }
    let (m, _) = named();
    let _collecting = m.home.collect_guard().unwrap();
    let _writing = m.home.lock("test", zenith::home::Wait::Forever).unwrap();
    // What is asked of a storage that is gone fails.
    fs::remove_dir_all(m.zenith.dir().join("storage")).unwrap();
    fs::remove_file(m.home.dir().join("gc.lock")).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    times(m.home.dir(), &mut before);
    assert_eq!(m.zenith.completed("zenith log ma"), ["main"]);
    times(m.home.dir(), &mut after);
    assert_eq!(before, after);
}

#[test]
fn the_scripts_of_shells() {
    let zenith = Zenith::new();
    for (shell, asks) in [
        ("bash", "ZENITH_COMPLETE=\"bash\""),
        ("zsh", "ZENITH_COMPLETE=\"zsh\""),
        ("fish", "ZENITH_COMPLETE=fish"),
    ] {
        let output = zenith
            .command(&format!("completions {shell}"))
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains(asks), "{shell}\n{script}");
    }
    // As bash itself runs it.
    let (m, _) = named();
    let program = Path::new(env!("CARGO_BIN_EXE_zenith"));
    let bin = program.parent().unwrap().display();
    let script = format!(
        "PATH={bin}:$PATH; eval \"$(zenith completions bash)\"; \
         COMP_WORDS=(zenith log ma); COMP_CWORD=2; COMP_TYPE=9; \
         _clap_complete_zenith zenith ma log; printf '%s|' \"${{COMPREPLY[@]}}\""
    );
    let output = std::process::Command::new("bash")
        .args(["--norc", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(m.zenith.dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "main|");
}
