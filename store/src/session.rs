//! Signs of life of sessions whose packs are on their way to a storage.
//!
//! A collection takes a session for over that began long ago and has packs which no root names.
//! One that is still being sent says so each day, by an object whose name is all that it says:
//! `sessions/<session>.<day>`. Clocks decide here when something is tried, never whether it is safe:
//! who is spared without need is fenced later, and who is fenced too early sends again.
//!
//! What is said of a session serves nobody any more once its packs are in a root, so who put them
//! there takes it away. What others left, since they were interrupted, goes when a week has passed,
//! with a collection or, where nobody collects, with a push now and then. Nothing relies on it:
//! who goes on under such a session says so again.

use crate::error::Result;
use crate::id::{PackName, hex};
use crate::log::BLOCK;
use crate::repository::Repository;
use crate::state::State;
use std::collections::{HashMap, HashSet};

/// Seconds of a day.
const DAY: i64 = 24 * 3600;
/// Seconds after which a session that says nothing is taken to be over.
pub(crate) const PATIENCE: i64 = 7 * DAY;
/// What the object holds.
const ALIVE: &[u8] = b"alive\n";

/// The folder of all that is said of sessions.
pub(crate) const FOLDER: &str = "sessions/";

/// Sessions that are being sent.
pub(crate) struct Pulse<'a> {
    to: &'a Repository,
    sessions: HashSet<[u8; 16]>,
    /// The day when they last said that they live.
    day: Option<i64>,
    /// By which objects.
    said: Vec<String>,
}

impl<'a> Pulse<'a> {
    pub(crate) fn new<'p>(
        to: &'a Repository,
        packs: impl Iterator<Item = &'p PackName>,
    ) -> Pulse<'a> {
        let sessions = packs.map(|name| name.session).collect();
        Pulse {
            to,
            sessions,
            day: None,
            said: Vec::new(),
        }
    }

    /// Says that they live, unless they did today. Those that began less than a day ago need not.
    ///
    /// # Errors
    /// When the storage does not take it.
    pub(crate) fn beat(&mut self) -> Result<()> {
        if self.to.is_alone() {
            return Ok(());
        }
        let now = self.to.world().unix_micros().div_euclid(1_000_000);
        let day = now.div_euclid(DAY);
        if self.day.replace(day) == Some(day) {
            return Ok(());
        }
        for session in &self.sessions {
            if began(session).saturating_add(DAY) <= now {
                let key = format!("{FOLDER}{}.{day}", hex(session));
                self.to.objects().create(&key, ALIVE)?;
                self.said.push(key);
            }
        }
        Ok(())
    }

    /// The objects by which they said so.
    pub(crate) fn said(self) -> Vec<String> {
        self.said
    }
}

/// `sessions/<session>`.
pub(crate) fn key(session: &[u8; 16]) -> String {
    format!("{FOLDER}{}", hex(session))
}

impl Repository {
    /// Takes away what was said of sessions whose packs are in a root by now. That a place does not
    /// let go of it is no harm.
    pub(crate) fn unsay(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if let Err(e) = self.objects().delete(&key) {
                tracing::debug!("{key} stays at {}: {e}", self.location());
                return;
            }
        }
    }

    /// The same for what others left, once in as many roots as a block of the log has: a listing is
    /// a request more.
    pub(crate) fn unsay_old(&self, before: &State, after: &State) {
        if before.seq() / BLOCK == after.seq() / BLOCK {
            return;
        }
        let now = self.world().unix_micros().div_euclid(1_000_000);
        match Sessions::of(self) {
            Ok(sessions) => self.unsay(sessions.over(after, now, PATIENCE)),
            Err(e) => tracing::debug!("sessions at {} are not listed: {e}", self.location()),
        }
    }
}

/// When a session began, by the clock of its machine.
pub(crate) fn began(session: &[u8; 16]) -> i64 {
    let name = PackName {
        session: *session,
        number: 0,
    };
    (name.label() / 1000) as i64
}

/// The session that an object of the folder is about, and the day on which it lived.
fn parse(key: &str) -> Option<([u8; 16], Option<i64>)> {
    let name = key.strip_prefix(FOLDER)?;
    let (session, day) = match name.split_once('.') {
        Some((session, day)) => (session, Some(day.parse().ok()?)),
        None => (name, None),
    };
    let name: PackName = format!("{session}-0").parse().ok()?;
    Some((name.session, day))
}

/// What is said of sessions: each object with its session, and when each last lived.
pub(crate) struct Sessions {
    pub(crate) keys: Vec<(String, [u8; 16])>,
    lived: HashMap<[u8; 16], i64>,
}

impl Sessions {
    /// # Errors
    /// When the place cannot be listed.
    pub(crate) fn of(repository: &Repository) -> Result<Sessions> {
        let (mut keys, mut lived) = (Vec::new(), HashMap::new());
        for listed in repository.objects().list(FOLDER)? {
            let Some((session, day)) = parse(&listed.key) else {
                continue;
            };
            keys.push((listed.key, session));
            if let Some(day) = day {
                let last: &mut i64 = lived.entry(session).or_insert(day);
                *last = day.max(*last);
            }
        }
        Ok(Sessions { keys, lived })
    }

    /// The objects of sessions that are fenced, or that began long ago and do not live.
    pub(crate) fn over(&self, state: &State, now: i64, patience: i64) -> Vec<String> {
        let is_over = |session: &[u8; 16]| {
            state.is_fenced_session(session)
                || began(session).saturating_add(patience) <= now
                    && !self.is_alive(session, now, patience)
        };
        let over = self.keys.iter().filter(|(_, session)| is_over(session));
        over.map(|(key, _)| key.clone()).collect()
    }

    /// Whether a session lived `patience` seconds ago or later. What is said of days to come is not
    /// believed: a clock that is ahead would keep its leftovers for as long.
    pub(crate) fn is_alive(&self, session: &[u8; 16], now: i64, patience: i64) -> bool {
        let today = now.div_euclid(DAY);
        self.lived.get(session).is_some_and(|day| {
            *day <= today + 1 && day.saturating_mul(DAY).saturating_add(patience) > now
        })
    }

    /// A label that none which lives is below; no floor is above it.
    pub(crate) fn living(&self, now: i64, patience: i64) -> u64 {
        let alive = self.lived.keys();
        let alive = alive.filter(|session| self.is_alive(session, now, patience));
        let labels = alive.map(|session| began(session).max(0) as u64 * 1000);
        labels.fold(u64::MAX, u64::min)
    }
}
