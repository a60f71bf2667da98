//! `stop`: agent, server, a last snapshot, a last push.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use zenith_store::SnapshotKind;
use zenith_store::objects::OpenOptions;

use crate::agent;
use crate::agent::spawn;
use crate::agent::state::one_line;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::home::{self, Home, Wait};
use crate::managed::{Managed, Presence, Refusal, Surroundings};
use crate::pg::server::{Postmaster, StopMode};
use crate::publish;
use crate::sync::PushReport;
use crate::take::{self, Take, Taken};

/// How long the last push may take.
pub const PUSH_WITHIN: Duration = Duration::from_secs(30);
/// How long a server has to shut down. Its clients may be many, its checkpoint large.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(600);

/// What a start holds the home for.
pub(crate) const START: &str = "start";

/// How long the last snapshot waits for a home that an agent which hangs may hold.
const HUNG_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether another stop is done.
const LOOK: Duration = Duration::from_millis(50);

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
    /// Snapshots that are on this machine only; nothing where nobody can tell, as the key is not
    /// here.
    pub unpushed: Option<Unpushed>,
}

/// Snapshots that are on this machine only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpushed {
    /// Their number.
    pub snapshots: u64,
    /// Their stored bytes.
    pub bytes: u64,
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
    // Whoever watches the server must not take its end for a crash, nor the agent's.
    let running = running(managed)?;
    let _purpose = running
        .map(|server| Purpose::declare(&managed.home, server.pid))
        .transpose()?;
    // Told first, so that it neither begins a snapshot now nor holds the lock.
    let agent = stop_agent(managed, on)?;
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

/// The server; where somebody is starting one, as soon as it can be told from its directory.
fn running(managed: &Managed) -> Result<Option<Postmaster>> {
    loop {
        if let Some(postmaster) = managed.postmaster()? {
            return Ok(Some(postmaster));
        }
        // A start holds the home until its server runs.
        match managed.home.lock("stop", Wait::No) {
            Err(Error::HomeBusy { by, .. }) if by == START => managed.home.world().sleep(LOOK),
            Err(Error::HomeBusy { .. }) => return Ok(None),
            // It may have come to its end since the look above.
            Ok(_) => return managed.postmaster(),
            Err(e) => return Err(e),
        }
    }
}

/// Whether there was an agent, which is gone now, unless it hangs: on a storage that hangs, say.
/// The server is stopped all the same.
pub(crate) fn stop_agent(managed: &Managed, on: &(dyn Fn(Event) + Sync)) -> Result<bool> {
    match spawn::stop(managed) {
        Err(e @ Error::Managed(Refusal::AgentSilent { .. })) => {
            on(Event::Warning(format!("{e}; it is left alone")));
            Ok(true)
        }
        stopped => stopped,
    }
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
            unpushed: None,
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
    with_unpushed(
        managed,
        Stopped {
            server,
            agent,
            snapshot,
            push,
            unpushed: None,
        },
    )
}

/// Waits for a `stop` of another process that stopped this server, for what was left to do then,
/// unless `hurry` is set. What it saved and sent is its own to tell.
pub(crate) fn after_another(managed: &Managed, server: i32, hurry: &AtomicBool) -> Result<Stopped> {
    while Purpose::is_at_work(&managed.home)? && !hurry.load(Ordering::Relaxed) {
        managed.home.world().sleep(LOOK);
    }
    let stopped = Stopped {
        server: Some(server),
        agent: false,
        snapshot: None,
        push: LastPush::None,
        unpushed: None,
    };
    match managed.home.check_key() {
        Ok(()) => with_unpushed(managed, stopped),
        Err(_) => Ok(stopped),
    }
}

fn with_unpushed(managed: &Managed, stopped: Stopped) -> Result<Stopped> {
    let location = managed.settings.storage_dest.as_deref();
    let unpushed = publish::unpushed(managed, location, &*publish::local_state(managed)?)?;
    Ok(Stopped {
        unpushed: Some(Unpushed {
            snapshots: unpushed.rows.len() as u64,
            bytes: unpushed.bytes,
        }),
        ..stopped
    })
}

/// That somebody stops a server on purpose: the file `<home>/stop.lock` names its process and is
/// locked as long as the stop works. It goes on naming it, so that who looks later knows, unless the
/// stop is gone and the server was never told: then [`Purpose::take_back`] empties it.
pub(crate) struct Purpose {
    _file: Flock<File>,
}

impl Purpose {
    /// Before anything is stopped. Stops beside each other do not wait.
    fn declare(home: &Home, server: i32) -> Result<Purpose> {
        let path = Self::path(home);
        let file = home::open_lock(&path)?;
        let mut file = Flock::lock(file, FlockArg::LockShared)
            .map_err(|(_, errno)| Error::io("lock", &path)(errno.into()))?;
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{server}"));
        // On a full disk a server is stopped all the same.
        if let Err(e) = written {
            tracing::warn!("{} does not say what is stopped: {e}", path.display());
        }
        Ok(Purpose { _file: file })
    }

    /// Whether this server is or was stopped so.
    pub(crate) fn is_about(home: &Home, server: i32) -> bool {
        fs::read_to_string(Self::path(home)).is_ok_and(|text| text.trim().parse() == Ok(server))
    }

    /// Says of a stop that came to nothing that it was none. One that works, or begins, is left as it
    /// is.
    pub(crate) fn take_back(home: &Home) -> Result<()> {
        let path = Self::path(home);
        match Flock::lock(home::open_lock(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file.set_len(0).map_err(Error::io("truncate", &path)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(()),
            Err((_, errno)) => Err(Error::io("lock", &path)(errno.into())),
        }
    }

    pub(crate) fn is_at_work(home: &Home) -> Result<bool> {
        let path = Self::path(home);
        match Flock::lock(home::open_lock(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(_) => Ok(false),
            Err((_, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, errno)) => Err(Error::io("lock", &path)(errno.into())),
        }
    }

    /// Of an earlier server, whose number another one may have got.
    pub(crate) fn forget(home: &Home) -> Result<()> {
        let path = Self::path(home);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path)(e))
            }
            _ => Ok(()),
        }
    }

    fn path(home: &Home) -> PathBuf {
        home.dir().join("stop.lock")
    }
}

/// A cluster that crashed earlier has nothing to take offline; that is worth a word, not an error.
fn last_snapshot(managed: &Managed, on: &(dyn Fn(Event) + Sync)) -> Result<Option<Taken>> {
    if managed.presence()? != Presence::Whole {
        return Ok(None);
    }
    // An agent that hangs may hang while it holds the home.
    let wait = match agent::is_alive(&managed.home) {
        true => Wait::UpTo(HUNG_WAIT),
        false => Wait::Forever,
    };
    let lock = match managed.home.lock("stop", wait) {
        Err(e @ Error::HomeBusy { .. }) => {
            on(Event::Warning(format!("no last snapshot: {e}")));
            return Ok(None);
        }
        lock => lock?,
    };
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_stop_waits_for_the_server_that_is_being_started() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let managed = Managed::open(home.dir()).unwrap();
        assert!(running(&managed).unwrap().is_none());
        let other = home.lock("checkout", Wait::No).unwrap();
        assert!(running(&managed).unwrap().is_none());
        drop(other);

        // A start that comes to nothing.
        let start = home.lock(START, Wait::No).unwrap();
        let found = std::thread::scope(|scope| {
            let found = scope.spawn(|| running(&managed));
            std::thread::sleep(4 * LOOK);
            assert!(!found.is_finished(), "it did not wait for the start");
            drop(start);
            found.join().unwrap()
        });
        assert!(found.unwrap().is_none());

        // One that runs its server. By its name and its current directory a process is that.
        let start = home.lock(START, Wait::No).unwrap();
        let pgdata = home.pgdata();
        fs::create_dir(&pgdata).unwrap();
        let program = dir.path().join("postgres");
        symlink("/bin/sleep", &program).unwrap();
        let mut server = Command::new(&program)
            .arg("60")
            .current_dir(&pgdata)
            .spawn()
            .unwrap();
        let found = std::thread::scope(|scope| {
            let found = scope.spawn(|| running(&managed));
            fs::write(pgdata.join("postmaster.pid"), server.id().to_string()).unwrap();
            found.join().unwrap()
        });
        server.kill().unwrap();
        server.wait().unwrap();
        drop(start);
        assert_eq!(
            found.unwrap().map(|s| s.pid),
            Some(server.id().cast_signed())
        );
    }
}
