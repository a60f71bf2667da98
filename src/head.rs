//! Where a home stands: on a branch, or on a snapshot without one. The file `<home>/HEAD`.
//!
//! One line, as in git: `ref: branch/<name>`, or the 64 hexadecimal digits of a snapshot.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// The next snapshot goes to this branch.
    Branch(String),
    /// The managed cluster was moved to this snapshot (64 hexadecimal digits); the next one
    /// begins a branch.
    Detached(String),
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Head::Branch(name) => write!(f, "ref: branch/{name}"),
            Head::Detached(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for Head {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('\n');
        if let Some(name) = text.strip_prefix("ref: branch/") {
            check_name(name).map_err(|e| e.to_string())?;
            return Ok(Head::Branch(name.to_owned()));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Head::Detached(text.to_owned()));
        }
        Err(format!("`{text}` is neither a branch nor a snapshot"))
    }
}

/// Longest name of a branch or tag in bytes.
const NAME_LEN_MAX: usize = 200;

/// Whether a branch or tag may be called so: names take no `@ : ~ ^`, no white space and no
/// control characters, do not begin with `-` or `.`, and have no empty part between slashes.
pub fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_LEN_MAX {
        "it has more than 200 bytes"
    } else if name.contains(['@', ':', '~', '^', '\\', '*', '?', '[']) {
        "it contains one of @ : ~ ^ \\ * ? ["
    } else if name.contains(char::is_whitespace) || name.contains(char::is_control) {
        "it contains white space or a control character"
    } else if name.starts_with('-') {
        "it begins with -"
    } else if name
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        "a part of it is empty or begins with a dot"
    } else if name == "HEAD" {
        "HEAD is where the home stands"
    } else {
        return Ok(());
    };
    Err(Error::NameInvalid {
        name: name.to_owned(),
        why,
    })
}

/// Digits from which on a text is taken for the id of a snapshot, or the beginning of one.
const ID_PREFIX: usize = 8;

/// Whether a new branch or tag may be called so: what [`check_name`] says, and nothing that looks
/// like an id, which it would hide.
pub fn check_new_name(name: &str) -> Result<()> {
    check_name(name)?;
    if name.len() >= ID_PREFIX && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::NameInvalid {
            name: name.to_owned(),
            why: "it looks like the id of a snapshot",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_survives_its_text() {
        for head in [Head::Branch("main".into()), Head::Detached("0a".repeat(32))] {
            assert_eq!(format!("{head}\n").parse(), Ok(head));
        }
        for bad in [
            "",
            "main",
            "ref: branch/",
            "ref: branch/a b",
            &"0A".repeat(32),
            "ref: tag/x",
        ] {
            assert!(bad.parse::<Head>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_a_revision_could_not_name_are_refused() {
        for good in ["main", "feature/x", "v1.0", "from-0a1b2c3d", "größe"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in [
            "", "a@b", "a:b", "a~1", "a^", "a b", "a\n", "-a", "/a", "a//b", ".a", "a/..", "HEAD",
            &long,
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_name_is_no_id() {
        for good in ["main", "cafe", "deadbee", "from-0a1b2c3d", "0a1b2c3g"] {
            assert!(check_new_name(good).is_ok(), "{good}");
        }
        for bad in [
            "deadbeef",
            "0A1B2C3D",
            "20261122",
            &"0a".repeat(32),
            "a b",
            "HEAD",
        ] {
            assert!(check_new_name(bad).is_err(), "{bad}");
        }
        // A home that stands on such a branch goes on.
        assert!("ref: branch/deadbeef".parse::<Head>().is_ok());
    }
}
