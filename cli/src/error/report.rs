//! An error as people read it, and as programs do.

use std::fmt::Write as _;

use serde::Serialize;
use zenith::ErrorKind;

use super::{Failure, engine, system};
use crate::render::size::plural;

/// A failure as people and programs see it.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "type")]
    kind_of_record: &'static str,
    v: u32,
    pub(super) kind: &'static str,
    pub(super) exit: u8,
    pub(super) message: String,
    pub(super) details: Vec<String>,
    pub(super) hints: Vec<String>,
}

impl Failure {
    pub fn report(&self) -> Report {
        let (kind, message, mut details, hints) = match self {
            Failure::Engine(error) => {
                let (message, details) = engine::words(error.as_ref());
                (
                    kind_name(error.kind()),
                    message,
                    details,
                    engine::hints(error),
                )
            }
            Failure::CommandLine {
                what,
                details,
                command,
            } => (
                "usage",
                what.clone(),
                details.clone(),
                vec![format!("`{command} --help` shows what there is.")],
            ),
            Failure::Usage(message) => (
                "usage",
                message.clone(),
                vec![],
                vec!["Run `zenith --help` for the ways to say it.".to_owned()],
            ),
            Failure::Words { what, hint } => ("usage", what.clone(), vec![], vec![hint.clone()]),
            Failure::Passphrase { what, hint } => (
                kind_name(ErrorKind::Invalid),
                what.clone(),
                vec![],
                vec![hint.clone()],
            ),
            Failure::Damaged {
                place,
                packs,
                snapshots,
                of,
                repair,
            } => (
                kind_name(ErrorKind::Damaged),
                format!(
                    "{} missing or damaged at {place}; {snapshots} of {} need what is lost",
                    plural(*packs as u64, "pack"),
                    plural(*of, "snapshot")
                ),
                vec![],
                vec![match repair {
                    Some(command) => format!(
                        "`{command}` brings back what the managed cluster or another repository \
                         has. The other snapshots are whole."
                    ),
                    None => "The other snapshots are whole, and what was brought back stays. Run \
                             it again when another place has what is lost; `zenith snapshot \
                             delete REV` gives up a damaged snapshot."
                        .to_owned(),
                }],
            ),
            Failure::Client(_) => (
                "client",
                "the program above says why".to_owned(),
                vec![],
                vec![],
            ),
            Failure::No => ("no", "the answer is no".to_owned(), vec![], vec![]),
            Failure::Differs => ("no", "there are differences".to_owned(), vec![], vec![]),
            Failure::Trouble(inner) => {
                return Report {
                    exit: self.code(),
                    ..inner.report()
                };
            }
            Failure::BrokenPipe => (
                "broken_pipe",
                "stdout was closed".to_owned(),
                vec![],
                vec![],
            ),
            Failure::Output(e) => ("io", format!("stdout: {e}"), vec![], system::hints(e)),
            Failure::Place(e) => {
                let hint = "Change to a directory that exists and that you may read.";
                (
                    "io",
                    format!("the working directory: {e}"),
                    vec![],
                    vec![hint.to_owned()],
                )
            }
            Failure::Bug(what) => (
                "internal",
                format!("internal error: {what}"),
                vec![format!("zenith {}", env!("CARGO_PKG_VERSION"))],
                vec![bug_hint()],
            ),
        };
        details.retain(|line| !line.trim().is_empty());
        Report {
            kind_of_record: "error",
            v: 1,
            kind,
            exit: self.code(),
            message,
            details,
            hints,
        }
    }
}

impl Report {
    /// The whole text, with the two words in their colours.
    pub fn text(&self, error: &str, hint: &str) -> String {
        let mut text = format!("{error}: {}\n", self.message);
        for line in &self.details {
            let _ = writeln!(text, "  {line}");
        }
        if !self.hints.is_empty() {
            text.push('\n');
        }
        for line in &self.hints {
            let _ = writeln!(text, "{hint}: {line}");
        }
        text
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Damaged => "damaged",
        ErrorKind::Io => "io",
        ErrorKind::Internal => "internal",
    }
}

pub fn bug_hint() -> String {
    format!(
        "This is a bug in zenith. Report it with this message at {}/issues.",
        env!("CARGO_PKG_REPOSITORY")
    )
}
