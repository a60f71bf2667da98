//! Where a passphrase comes from: a file, a command, the environment, the settings, a person.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zenith::settings::EncryptionSettings;
use zeroize::Zeroizing;

use crate::config::Environment;
use crate::error::Failure;
use crate::ui::Ui;

/// A new passphrase below this many bytes is warned of.
const SHORT: usize = 8;

/// A passphrase; wiped from memory when dropped, shown by nothing.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    pub fn new(bytes: Vec<u8>) -> Self {
        Passphrase(Zeroizing::new(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// The places of one passphrase, in the order in which they are asked.
#[derive(Debug)]
pub struct Sources<'a> {
    /// `--passphrase-file`.
    pub file: Option<&'a Path>,
    /// `--passphrase-command`.
    pub command: Option<&'a str>,
    /// The environment.
    pub variable: Option<&'a Passphrase>,
    /// `[encryption]` of the settings.
    pub saved: Option<&'a EncryptionSettings>,
    /// What to give where there is none, for the error.
    pub ways: &'static str,
}

/// The ways to give the passphrase of a repository, for whoever typed `init` or `start`.
pub const WAYS_INIT: &str = "Set ZENITH_PASSPHRASE, or give `zenith init` --passphrase-file FILE or \
                             --passphrase-command CMD";
/// The same for other commands.
pub const WAYS: &str =
    "Set ZENITH_PASSPHRASE, or give --passphrase-file FILE or --passphrase-command CMD";
/// The ways to give a new one where there is an old one, too.
pub const WAYS_NEW: &str = "Set ZENITH_NEW_PASSPHRASE, or give --new-passphrase-file FILE";

/// Whether what is typed is checked by typing it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It opens something or it does not.
    Once,
    /// What is mistyped now would open nothing later.
    Twice,
}

impl Sources<'_> {
    /// The passphrase of the first place that is given; a person is asked last.
    pub fn read(&self, ui: &Ui, prompt: &str, ask: Ask) -> Result<Passphrase, Failure> {
        let passphrase = match self.given()? {
            Some(passphrase) => passphrase,
            None => self.ask(ui, prompt, ask)?,
        };
        if passphrase.bytes().is_empty() {
            return Err(self.failed(format!("the {prompt} is empty")));
        }
        if ask == Ask::Twice && passphrase.bytes().len() < SHORT {
            ui.warn(format_args!(
                "the {prompt} has fewer than {SHORT} characters and can be guessed by whoever has \
                 the storage"
            ));
        }
        Ok(passphrase)
    }

    fn failed(&self, what: String) -> Failure {
        failure(what, self.ways)
    }

    fn given(&self) -> Result<Option<Passphrase>, Failure> {
        let from_command = |command: &str| from_command(command, self.ways);
        if let Some(file) = self.file {
            return from_file(file).map(Some);
        }
        if let Some(command) = self.command {
            return from_command(command).map(Some);
        }
        if let Some(passphrase) = self.variable {
            return Ok(Some(passphrase.clone()));
        }
        let Some(saved) = self.saved else {
            return Ok(None);
        };
        if let Some(file) = &saved.passphrase_file {
            return from_file(file).map(Some);
        }
        saved
            .passphrase_command
            .as_deref()
            .map(from_command)
            .transpose()
    }

    fn ask(&self, ui: &Ui, prompt: &str, ask: Ask) -> Result<Passphrase, Failure> {
        let Some(first) = ui.ask_secret(&format!("{prompt}: "))? else {
            return Err(self.failed(format!("the {prompt} is needed, and none is given")));
        };
        // Nothing is to be gained by typing nothing twice.
        if first.is_empty() {
            return Ok(Passphrase::new(vec![]));
        }
        if ask == Ask::Twice
            && let Some(again) = ui.ask_secret("the same again: ")?
            && again != first
        {
            return Err(self.failed("the two passphrases differ".to_owned()));
        }
        Ok(Passphrase(Zeroizing::new(first.as_bytes().to_vec())))
    }
}

fn failure(what: String, ways: &str) -> Failure {
    let hint = format!("{ways}; on a terminal it is asked for.");
    Failure::Passphrase { what, hint }
}

/// All bytes of a file but one newline at its end.
fn from_file(path: &Path) -> Result<Passphrase, Failure> {
    let mut bytes = Zeroizing::new(std::fs::read(path).map_err(|source| zenith::Error::Io {
        verb: "read",
        path: path.to_owned(),
        source,
    })?);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(Passphrase(bytes))
}

/// The first line of what a command of the shell prints. It may ask on the terminal itself.
fn from_command(command: &str, ways: &'static str) -> Result<Passphrase, Failure> {
    let shell = PathBuf::from("/bin/sh");
    let output = Command::new(&shell)
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| zenith::Error::Io {
            verb: "run",
            path: shell,
            source,
        })?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let what = format!(
            "the passphrase command `{command}` ended with {}",
            output.status
        );
        return Err(failure(what, ways));
    }
    let line = printed.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Passphrase::new(line.to_vec()))
}

/// The flags as paths from where the command was typed.
pub fn file(env: &Environment, given: Option<&PathBuf>) -> Option<PathBuf> {
    given.map(|path| env.absolute(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Sources<'static> {
        Sources {
            file: None,
            command: None,
            variable: None,
            saved: None,
            ways: WAYS,
        }
    }

    fn read(sources: &Sources) -> Result<String, Failure> {
        let found = sources.given()?.expect("something is given");
        Ok(String::from_utf8(found.bytes().to_vec()).unwrap())
    }

    #[test]
    fn the_first_place_that_is_given_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (flag, saved_file) = (dir.path().join("flag"), dir.path().join("saved"));
        std::fs::write(&flag, "of the flag\n").unwrap();
        std::fs::write(&saved_file, "of the settings").unwrap();
        let variable = Passphrase::new(b"of the environment".to_vec());
        let mut saved = EncryptionSettings {
            passphrase_file: Some(saved_file),
            passphrase_command: Some("echo of the saved command".into()),
        };
        let all = Sources {
            file: Some(&flag),
            command: Some("echo of the command"),
            variable: Some(&variable),
            saved: Some(&saved),
            ways: WAYS,
        };
        assert_eq!(read(&all).unwrap(), "of the flag");
        let all = Sources { file: None, ..all };
        assert_eq!(read(&all).unwrap(), "of the command");
        let all = Sources {
            command: None,
            ..all
        };
        assert_eq!(read(&all).unwrap(), "of the environment");
        let all = Sources {
            variable: None,
            ..all
        };
        assert_eq!(read(&all).unwrap(), "of the settings");
        saved.passphrase_file = None;
        let all = Sources {
            saved: Some(&saved),
            ..none()
        };
        assert_eq!(read(&all).unwrap(), "of the saved command");
        assert!(none().given().unwrap().is_none());
    }

    #[test]
    fn one_newline_is_no_part_of_a_passphrase_and_white_space_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (bytes, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("a\nb\n", "a\nb"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let found = from_file(&path).unwrap();
            assert_eq!(found.bytes(), expected.as_bytes(), "{bytes:?}");
        }
        for (command, expected) in [
            ("printf 'a\\nb\\n'", "a"),
            ("printf ' a '", " a "),
            ("printf 'a\\r\\n'", "a"),
        ] {
            let found = from_command(command, WAYS).unwrap();
            assert_eq!(found.bytes(), expected.as_bytes(), "{command}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_place_is_said() {
        let missing = Path::new("/nowhere/passphrase");
        let error = from_file(missing).unwrap_err();
        assert_eq!(error.code(), crate::exit::IO);
        let error = from_command("exit 3", WAYS).unwrap_err();
        assert!(format!("{error:?}").contains("exit status: 3"), "{error:?}");
        let empty = Passphrase::new(vec![]);
        let sources = Sources {
            variable: Some(&empty),
            ..none()
        };
        let error = sources.read(&Ui::plain(), "passphrase", Ask::Once);
        let error = format!("{:?}", error.unwrap_err());
        assert!(
            error.contains("empty") && error.contains("ZENITH_PASSPHRASE"),
            "{error}"
        );
        // Without a terminal nobody can be asked.
        let error = none()
            .read(&Ui::plain(), "passphrase", Ask::Twice)
            .unwrap_err();
        let error = format!("{error:?}");
        for way in [
            "ZENITH_PASSPHRASE",
            "--passphrase-file",
            "--passphrase-command",
        ] {
            assert!(error.contains(way), "{error}");
        }
        assert_eq!(format!("{empty:?}"), "Passphrase(..)");
    }
}
