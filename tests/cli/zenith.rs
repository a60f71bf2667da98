//! Runs the binary in a directory and an environment of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A place without a home, where nothing of the machine's settings reaches the command.
pub(crate) struct Zenith {
    dir: tempfile::TempDir,
}

impl Zenith {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zenith"));
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.dir());
        command.stdin(Stdio::null());
        command
    }

    /// stdout, stderr and code as one text, paths of this place replaced.
    pub(crate) fn transcript(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        format!("$ zenith {line}\n{}", self.shown(&output))
    }

    pub(crate) fn shown(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut shown = text(&output.stdout);
        let stderr = text(&output.stderr);
        if !stderr.is_empty() {
            shown.push_str("--- stderr\n");
            shown.push_str(&stderr);
        }
        shown.push_str(&format!("--- exit {}\n", output.status.code().unwrap()));
        shown.replace(
            &self.dir().canonicalize().unwrap().display().to_string(),
            "DIR",
        )
    }
}
