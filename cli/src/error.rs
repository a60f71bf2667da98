//! What went wrong → what is said about it: message, details, a hint with a command that helps,
//! and the exit code. The only place with hints, since hints name commands.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use zenith::{Error, ErrorKind};

use crate::exit;

/// The end of a run that did not work.
#[derive(Debug)]
pub enum Failure {
    /// The engine says why.
    Engine(Box<Error>),
    /// The words on the command line do not go together.
    Usage(String),
    /// The answer was given, and it is no.
    No,
    /// Whoever read stdout went away: nothing is wrong.
    BrokenPipe,
    /// stdout cannot be written.
    Output(io::Error),
    /// The working directory or this program cannot be told.
    Place(io::Error),
    /// Stopped by a signal before it was done.
    Interrupted,
    /// A panic, or what cannot be.
    Bug(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Engine(Box::new(error))
    }
}

/// A failure as people and programs see it.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "type")]
    kind_of_record: &'static str,
    v: u32,
    kind: &'static str,
    exit: u8,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(message.into())
    }

    pub fn from_output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Output(error),
        }
    }

    pub fn from_current_dir(error: io::Error) -> Self {
        Failure::Place(error)
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::No | Failure::BrokenPipe)
    }

    pub fn code(&self) -> u8 {
        match self {
            Failure::Engine(error) => exit::of(error.kind()),
            Failure::Usage(_) => exit::USAGE,
            Failure::No => exit::NO,
            Failure::BrokenPipe => exit::OK,
            Failure::Output(_) | Failure::Place(_) => exit::IO,
            Failure::Interrupted => exit::INTERRUPTED,
            Failure::Bug(_) => exit::INTERNAL,
        }
    }

    pub fn report(&self) -> Report {
        let (kind, message, mut details, hints) = match self {
            Failure::Engine(error) => {
                let (message, details) = words(error.as_ref());
                (kind_name(error.kind()), message, details, hints(error))
            }
            Failure::Usage(message) => (
                "usage",
                message.clone(),
                vec![],
                vec!["Run `zenith --help` for the ways to say it.".to_owned()],
            ),
            Failure::No => ("no", "the answer is no".to_owned(), vec![], vec![]),
            Failure::BrokenPipe => (
                "broken_pipe",
                "stdout was closed".to_owned(),
                vec![],
                vec![],
            ),
            Failure::Output(e) => ("io", format!("stdout: {e}"), vec![], vec![]),
            Failure::Place(e) => {
                let hint = "Change to a directory that exists and that you may read.";
                (
                    "io",
                    format!("the working directory: {e}"),
                    vec![],
                    vec![hint.to_owned()],
                )
            }
            Failure::Interrupted => {
                let hint = "What was committed stands; run the same command again to go on.";
                (
                    "interrupted",
                    "interrupted".to_owned(),
                    vec![],
                    vec![hint.to_owned()],
                )
            }
            Failure::Bug(what) => (
                "internal",
                format!("internal error: {what}"),
                vec![format!("zenith {}", env!("CARGO_PKG_VERSION"))],
                vec![format!(
                    "This is a bug in zenith. Report it with this message at {}/issues.",
                    env!("CARGO_PKG_REPOSITORY")
                )],
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
        _ => "internal",
    }
}

/// The first line of an error, and the rest: its further lines, then its causes as far as they
/// say something new.
fn words(error: &Error) -> (String, Vec<String>) {
    let whole = error.to_string();
    let mut lines = whole.lines();
    let message = lines.next().unwrap_or_default().to_owned();
    let mut details: Vec<String> = lines.map(str::to_owned).collect();
    let mut said = whole.clone();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            let mut lines = text.lines();
            details.push(format!("caused by: {}", lines.next().unwrap_or_default()));
            details.extend(lines.map(|line| format!("  {line}")));
            said.push_str(&text);
        }
        cause = inner.source();
    }
    (message, details)
}

/// Commands that help.
fn hints(error: &Error) -> Vec<String> {
    let hint = match error {
        Error::NoHome { .. } => {
            "`zenith init` makes one here; -D DIR or ZENITH_HOME names another place."
        }
        Error::SettingsInvalid { .. } => "Mend the file; `zenith config` shows what it says.",
        _ => return vec![],
    };
    vec![hint.to_owned()]
}

/// What panics say, kept instead of printed.
#[derive(Clone, Default)]
pub struct Panics(Arc<Mutex<Option<String>>>);

impl Panics {
    /// Takes the place of Rust's own message and backtrace.
    pub fn watch() -> Self {
        let panics = Self::default();
        let kept = panics.clone();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let what = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "something that is no text".to_owned());
            let place = info
                .location()
                .map(|at| format!(" ({}:{})", at.file(), at.line()));
            let text = format!("{what}{}", place.unwrap_or_default());
            tracing::error!("internal error: {text}");
            if let Ok(mut kept) = kept.0.lock() {
                // The first one is the cause of those that follow.
                kept.get_or_insert(text);
            }
        }));
        panics
    }

    pub fn last(&self) -> String {
        let kept = self.0.lock().ok().and_then(|text| text.clone());
        kept.unwrap_or_else(|| "a panic without words".to_owned())
    }
}
