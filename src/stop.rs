//! `stop`: agent, server, a last snapshot, a last push.

use std::time::Duration;

use zenith_store::SnapshotKind;
use zenith_store::objects::OpenOptions;

use crate::agent::spawn;
use crate::agent::state::one_line;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::home::Wait;
use crate::managed::{Managed, Presence, Surroundings};
use crate::pg::server::StopMode;
use crate::publish;
use crate::sync::{self, PushReport};
use crate::take::{self, Take, Taken};

/// How long the last push may take.
pub const PUSH_WITHIN: Duration = Duration::from_secs(30);
/// How long a server has to shut down. Its clients may be many, its checkpoint large.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(600);

/// How to stop.
#[derive(Debug, Clone, Copy)]
pub struct StopOptions {
    /// As pg_ctl's modes.
    pub mode: StopMode,
    /// Whether a last snapshot is taken and pushed; not after `Immediate`, which leaves nothing
    /// that an offline snapshot could be taken of.
    pub snapshot: bool,
    /// Whether the last snapshot is pushed.
    pub push: bool,
}

/// What the last push came to.
#[derive(Debug, Clone)]
pub enum LastPush {
    /// There is no storage, or nobody wanted it.
    None,
    /// It went well.
    Done(Vec<PushReport>),
    /// It did not; the snapshots stay in the home.
    Failed(String),
    /// It was not done in [`PUSH_WITHIN`].
    TimedOut,
}

/// What happened.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// The process id of the server, when there was one.
    pub server: Option<i32>,
    /// Whether there was an agent.
    pub agent: bool,
    /// The last snapshot, or the one that still says everything.
    pub snapshot: Option<Taken>,
    /// The last push.
    pub push: LastPush,
    /// Number of snapshots that are on this machine only.
    pub unpushed: u64,
    /// Their stored bytes.
    pub unpushed_bytes: u64,
}

/// Stops what runs. Fine when nothing does.
///
/// Errors: `StopTimeout`, and those of an offline snapshot.
pub fn stop(
    managed: &Managed,
    around: &Surroundings,
    options: &StopOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Stopped> {
    // Told first, so that it neither begins a snapshot now nor holds the lock.
    let agent = spawn::stop(managed)?;
    let postmaster = managed.postmaster()?;
    if postmaster.is_some() {
        on(Event::Phase("stopping the server"));
        managed.server(around)?.stop(options.mode, STOP_WITHIN)?;
    }
    after_server(
        managed,
        around,
        options,
        postmaster.map(|p| p.pid),
        agent,
        on,
    )
}

/// The rest of a stop, when the server is down.
pub(crate) fn after_server(
    managed: &Managed,
    around: &Surroundings,
    options: &StopOptions,
    server: Option<i32>,
    agent: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Stopped> {
    // The server is down, which is what was asked for; what needs the key has to wait.
    if let Err(e) = managed.home.check_key() {
        on(Event::Warning(format!(
            "no last snapshot is taken and nothing is pushed: {}",
            one_line(&e)
        )));
        return Ok(Stopped {
            server,
            agent,
            snapshot: None,
            push: LastPush::None,
            unpushed: 0,
            unpushed_bytes: 0,
        });
    }
    let snapshot = if options.snapshot && options.mode != StopMode::Immediate {
        last_snapshot(managed, on)?
    } else {
        None
    };
    let push = match managed
        .settings
        .storage_dest
        .as_deref()
        .filter(|_| options.push)
    {
        None => LastPush::None,
        Some(location) => {
            on(Event::Phase("pushing"));
            publish::warn_unread(around, location, &OpenOptions::default(), on);
            match publish::push_all_within(managed, around, location, PUSH_WITHIN, on) {
                None => LastPush::TimedOut,
                Some(Ok(reports)) => LastPush::Done(reports),
                Some(Err(e)) => LastPush::Failed(one_line(&e)),
            }
        }
    };
    let unpushed = sync::unpushed(&*publish::local_state(managed)?);
    Ok(Stopped {
        server,
        agent,
        snapshot,
        push,
        unpushed: unpushed.rows.len() as u64,
        unpushed_bytes: unpushed.bytes,
    })
}

/// A cluster that crashed earlier has nothing to take offline; that is worth a word, not an error.
fn last_snapshot(managed: &Managed, on: &(dyn Fn(Event) + Sync)) -> Result<Option<Taken>> {
    if managed.presence()? != Presence::Whole {
        return Ok(None);
    }
    let lock = managed.home.lock("stop", Wait::Forever)?;
    let take = Take {
        kind: Some(SnapshotKind::Final),
        skip_if_unchanged: true,
        verb: "stop",
        ..Take::default()
    };
    match take::take(managed, &lock, &take, on) {
        Ok(taken) => Ok(Some(taken)),
        Err(Error::NotShutDown { state, .. }) => {
            on(Event::Warning(format!(
                "no last snapshot: the cluster was not shut down (its state is \"{state}\"); the \
                 next start recovers it"
            )));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}
