//! What went wrong → what is said about it: message, details, a hint with a command that helps,
//! and the exit code. The only place with hints, since hints name commands.

mod command_line;
mod engine;
mod managed;
mod panics;
mod postgresql;
mod report;
mod revision;
mod scratch;
mod store;
mod system;

use std::io;

use zenith::Error;

use crate::exit;
pub use panics::Panics;
use report::bug_hint;

/// The end of a run that did not work.
#[derive(Debug)]
pub enum Failure {
    /// The engine says why.
    Engine(Box<Error>),
    /// The command line is not one that there is: clap's words.
    CommandLine {
        what: String,
        details: Vec<String>,
        /// `zenith snapshot list`: whose help says more.
        command: String,
    },
    /// The words on the command line do not go together.
    Usage(String),
    /// The same, with what to type instead.
    Words { what: String, hint: String },
    /// There is no passphrase, or none that could be one.
    Passphrase { what: String, hint: String },
    /// A verification found damage, which was told already.
    Damaged {
        place: String,
        packs: usize,
        snapshots: usize,
        of: u64,
        /// The command that repairs; none where that was it.
        repair: Option<String>,
    },
    /// A program of PostgreSQL said what is wrong; the exit code is given.
    Client(u8),
    /// The answer was given, and it is no.
    No,
    /// The answer was given, and it is that there are differences.
    Differs,
    /// What went wrong where 1 means that there are differences.
    Trouble(Box<Failure>),
    /// Whoever read stdout went away: nothing is wrong.
    BrokenPipe,
    /// stdout cannot be written.
    Output(io::Error),
    /// The working directory or this program cannot be told.
    Place(io::Error),
    /// A panic, or what cannot be.
    Bug(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // Only stdout is a pipe: whoever read a tar there went away.
            Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                Failure::BrokenPipe
            }
            error => Failure::Engine(Box::new(error)),
        }
    }
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
        match self {
            Failure::Trouble(inner) => inner.is_silent(),
            other => matches!(
                other,
                Failure::No | Failure::Differs | Failure::BrokenPipe | Failure::Client(_)
            ),
        }
    }

    pub fn code(&self) -> u8 {
        match self {
            Failure::Engine(error) => exit::of(error.kind()),
            Failure::CommandLine { .. } | Failure::Usage(_) | Failure::Words { .. } => exit::USAGE,
            Failure::Passphrase { .. } => exit::INVALID,
            Failure::Damaged { .. } => exit::DAMAGED,
            Failure::Client(code) => *code,
            Failure::No => exit::NO,
            Failure::Differs => exit::DIFFERS,
            Failure::Trouble(inner) => match inner.code() {
                exit::DIFFERS => exit::USAGE,
                code => code,
            },
            Failure::BrokenPipe => exit::OK,
            Failure::Output(_) | Failure::Place(_) => exit::IO,
            Failure::Bug(_) => exit::INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests;
