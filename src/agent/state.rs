//! What the agent knows of itself, and what this home knows of its pushes.
//!
//! `agent.json` is the agent's last word, so that `status` can tell what a dead agent did;
//! `push.json` is written by whoever pushes.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::disk;
use crate::error::{Error, Result};
use crate::home::Home;

/// What the agent does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing to do until the next turn.
    Idle,
    /// The server is down.
    WaitingForServer,
    /// Another command writes to the home.
    WaitingForHome,
    /// Taking a snapshot.
    Snapshot,
    /// Dropping old automatic snapshots and collecting their space.
    Thinning,
    /// On the way out.
    Stopping,
}

/// A problem, and when it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Seconds since 1970, UTC.
    pub time: i64,
    /// The whole message with its causes.
    pub message: String,
}

/// A snapshot the agent took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Seconds since 1970, UTC.
    pub time: i64,
    /// 64 hexadecimal digits.
    pub id: String,
    /// How long it took.
    pub millis: u64,
    /// Bytes that were new.
    pub new_bytes: u64,
}

/// All the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// Its process.
    pub pid: u32,
    /// When it was started, in seconds since 1970, UTC.
    pub since: i64,
    /// What it does now.
    pub phase: Phase,
    /// Seconds between two automatic snapshots.
    pub interval_secs: u64,
    /// Whether and where it pushes.
    pub push_to: Option<String>,
    /// When it looks next, in seconds since 1970, UTC.
    pub next: i64,
    /// When it last found that the last snapshot still says everything.
    pub unchanged: Option<i64>,
    /// The last snapshot it took.
    pub taken: Option<Taken>,
    /// Why it takes none at present, although the server runs.
    pub paused: Option<String>,
    /// What went wrong at its last attempt to take a snapshot; nothing after a good one.
    pub trouble: Option<Trouble>,
}

/// What is known of pushes to the storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushState {
    /// Where to.
    pub location: String,
    /// When the storage was last known to have everything, in seconds since 1970, UTC.
    pub complete: Option<i64>,
    /// The snapshot that was the tip then.
    pub tip: Option<String>,
    /// What went wrong at the last attempt; nothing after a good one.
    pub trouble: Option<Trouble>,
    /// The name under which a diverged branch was pushed.
    pub diverged_to: Option<String>,
}

impl AgentState {
    /// The last word of the agent of this home, dead or alive.
    pub fn load(home: &Home) -> Option<AgentState> {
        load(&home.dir().join("agent.json"))
    }

    /// Replaces it.
    pub fn save(&self, home: &Home) -> Result<()> {
        save(&home.dir().join("agent.json"), self)
    }
}

impl PushState {
    /// What is known; of a storage other than `location` nothing is.
    pub fn load(home: &Home, location: &str) -> PushState {
        let nothing = PushState {
            location: location.to_owned(),
            ..PushState::default()
        };
        load::<PushState>(&home.dir().join("push.json"))
            .filter(|known| known.location == location)
            .unwrap_or(nothing)
    }

    /// Replaces it.
    pub fn save(&self, home: &Home) -> Result<()> {
        save(&home.dir().join("push.json"), self)
    }
}

/// An error with everything that led to it, on one line. A cause that its error already spells
/// out is not repeated.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text.lines().collect::<Vec<_>>().join("; ")
}

/// A file that is missing or cannot be read says nothing: it is information, not data.
fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn save(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::Internal {
        what: format!("JSON for {}: {e}", path.display()),
    })?;
    disk::replace(path, &bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn pushes_to_another_storage_are_not_taken_for_these() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let state = PushState {
            location: "s3://a/b".into(),
            complete: Some(7),
            tip: Some("x".into()),
            ..PushState::default()
        };
        state.save(&home).unwrap();
        assert_eq!(PushState::load(&home, "s3://a/b"), state);
        assert_eq!(PushState::load(&home, "s3://a/c").complete, None);
        std::fs::write(home.dir().join("push.json"), "{").unwrap();
        assert_eq!(PushState::load(&home, "s3://a/b").complete, None);
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("open x: {source}")]
        struct Outer {
            source: std::io::Error,
        }
        let error = Outer {
            source: std::io::Error::other("no\nway"),
        };
        assert_eq!(one_line(&error), "open x: no; way");
    }
}
