//! All that a long operation can tell whoever watches it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// One piece of news. Operations take `on: &(dyn Fn(Event) + Sync)` and call it from any thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A stage of the work begins; the text is a verb phrase such as `reading files`.
    Phase(&'static str),
    /// How many bytes the work of this phase has in all.
    Total {
        /// Plain bytes.
        bytes: u64,
    },
    /// Bytes read from the cluster, or known without reading.
    Read {
        /// Plain bytes since the last such event.
        bytes: u64,
    },
    /// Bytes that were new to the repository.
    New {
        /// Stored bytes since the last such event.
        bytes: u64,
    },
    /// Bytes put in place in a directory, or found to be in place.
    Placed {
        /// Plain bytes since the last such event.
        bytes: u64,
    },
    /// Bytes sent to another repository or place.
    Sent {
        /// Stored bytes since the last such event.
        bytes: u64,
    },
    /// Something the person should know and may have to act on.
    Warning(String),
    /// Something worth a line, nothing to act on.
    Note(String),
}

/// The same without warnings that were given before: steps of one command may meet the same trouble.
pub(crate) fn once<'a>(on: &'a (dyn Fn(Event) + Sync)) -> impl Fn(Event) + Sync + 'a {
    let told = Mutex::new(HashSet::new());
    move |event| {
        let is_new = match &event {
            Event::Warning(text) => told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(text.clone()),
            _ => true,
        };
        if is_new {
            on(event);
        }
    }
}

/// For callers that do not watch.
pub fn ignore(_: Event) {}
