//! `start`: the cluster is there, its server accepts connections, an agent takes snapshots.
//!
//! Each step looks before it acts, so that a second start finds everything done: a missing
//! cluster is rebuilt, an intact one is used as it is (PostgreSQL replays its own WAL after a
//! crash), a running server is adopted, a dead agent is replaced.

mod foreground;

use std::time::Duration;

use zenith_store::SnapshotId;
use zenith_store::objects::{Directory, OpenOptions};

use crate::agent::spawn::{self, AgentFlags};
use crate::agent::state::{AgentState, Phase, one_line};
use crate::agent::{self, socket};
use crate::checkout::{self, CheckoutOptions};
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::head::Head;
use crate::home::{HomeLock, LOCK_WAIT, Wait};
use crate::known;
use crate::managed::{self, Managed, Presence, Refusal, Surroundings};
use crate::marker::Marker;
use crate::pg::server::Postmaster;
use crate::pg::{self, Control, guard};
use crate::publish;
use crate::scratch;
use crate::sync::{self, Attached};
use crate::who::{operation, verb};

pub use foreground::foreground;

/// How long a server may take until it accepts connections. After a crash it replays WAL first;
/// it goes on when this is over.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// The server's log begins anew at this size when the server is started.
const SERVER_LOG_MAX: u64 = 16 << 20;

/// How to start, beyond the settings.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// The cluster is the original from now on; remembered.
    pub primary: bool,
    /// What differs from the settings for this agent.
    pub agent: AgentFlags,
}

/// A cluster that was made anew because it was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// From this snapshot.
    pub id: SnapshotId,
    /// Stored bytes that came from the storage for it.
    pub fetched_bytes: u64,
}

/// What is up now.
#[derive(Debug, Clone)]
pub struct Started {
    /// The server.
    pub postmaster: Postmaster,
    /// Whether it ran already.
    pub was_running: bool,
    /// Whether the cluster had to be made anew first.
    pub rebuilt: Option<Rebuilt>,
    /// The agent.
    pub agent: AgentState,
    /// Whether that was running already, with the same settings.
    pub agent_was_running: bool,
    /// Whether the cluster is guarded as a copy.
    pub guarded: bool,
    /// From the start of the server to its first connection.
    pub took: Duration,
}

/// Brings everything up and leaves it running.
///
/// Errors: `CheckoutPending`, `Refusal::{Unmounted, Incomplete, NoCluster, AgentSilent}`, and
/// those of `pg::server`.
pub fn start(
    managed: &mut Managed,
    around: &Surroundings,
    options: &StartOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Started> {
    if let Some(location) = &managed.settings.storage_dest {
        publish::warn_unread(around, location, &OpenOptions::default(), on);
    }
    let (rebuilt, lock) = prepare(managed, around, options, on)?;
    warn_of_key(managed, on);
    let server = managed.server(around)?;
    let begun = managed.home.world().watch();
    let (postmaster, was_running) = match server.postmaster()? {
        // It may still be replaying WAL.
        Some(_) => (server.wait_ready(READY_WITHIN)?, true),
        None => {
            managed::rotate_log(&managed.server_log(), SERVER_LOG_MAX)?;
            on(Event::Phase("starting the server"));
            let options = managed.start_options(READY_WITHIN)?;
            let died = rebuilt.is_some()
                || !Control::read(&server.pgdata, &server.world)?
                    .state
                    .is_shut_down();
            (start_server(&server, &options, died)?, false)
        }
    };
    drop(lock);
    let took = begun.elapsed();
    managed.remember()?;
    let (agent, agent_was_running) = ensure_agent(managed, around, &options.agent)?;
    let guarded = is_guarded(managed)?;
    Ok(Started {
        postmaster,
        was_running,
        rebuilt,
        agent,
        agent_was_running,
        guarded,
        took,
    })
}

/// Starts the server. Where the one before died, its children may hold the port a moment longer.
fn start_server(
    server: &pg::Server,
    options: &pg::server::StartOptions,
    died: bool,
) -> Result<Postmaster> {
    const CHILDREN_GONE_WITHIN: Duration = Duration::from_secs(5);
    let begun = server.world.watch();
    loop {
        match server.start(options) {
            Err(pg::Error::PortInUse { .. }) if died && begun.elapsed() < CHILDREN_GONE_WITHIN => {
                server.world.sleep(Duration::from_millis(200));
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Everything up to a cluster that can be started. The home stays locked until its server runs, or
/// a checkout could take the cluster away in between. One that runs already needs no lock, and
/// nobody waits for the snapshot that may be taken of it.
fn prepare(
    managed: &mut Managed,
    around: &Surroundings,
    options: &StartOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<(Option<Rebuilt>, Option<HomeLock>)> {
    // Everything but the settings may have been lost.
    for dir in [managed.home.run_dir(), managed.home.log_dir()] {
        disk::create_dir(&dir, 0o700)?;
    }
    // Nobody's server and disk, and no reason not to start.
    if let Err(e) = scratch::clear(&managed.home, on) {
        on(Event::Warning(format!(
            "temporary checkouts of killed commands stay: {e}"
        )));
    }
    let mut rebuilt = None;
    let lock = loop {
        let lock = match managed.postmaster()? {
            Some(_) => None,
            None => Some(
                managed
                    .home
                    .lock(crate::stop::START, Wait::UpTo(LOCK_WAIT))?,
            ),
        };
        match managed.presence()? {
            Presence::Whole => {
                // A checkout that was cut off after its last file left this to do.
                let pgdata = managed.home.pgdata();
                if let Some(mut marker) = Marker::read(&pgdata)? {
                    marker.complete(&pgdata)?;
                }
                find_head(managed, on)?;
                break lock;
            }
            // Both lock the home themselves, and not while they fetch.
            Presence::Missing => {
                drop(lock);
                rebuilt = Some(rebuild(managed, around, on)?);
            }
            // The same snapshot, or what is in place would be foreign.
            Presence::HalfMade(id) => {
                drop(lock);
                place(managed, id, on)?;
                rebuilt = Some(Rebuilt {
                    id,
                    fetched_bytes: 0,
                });
            }
        }
    };
    if options.primary {
        lift_guard(managed, on)?;
    }
    Ok((rebuilt, lock))
}

/// Where HEAD is missing beside a cluster that is whole, it is on the branch of the settings, as
/// after a loss of everything but those.
fn find_head(managed: &Managed, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    let home = &managed.home;
    let path = home.head_path();
    if path.try_exists().map_err(Error::io("look for", &path))? {
        return Ok(());
    }
    let branch = &managed.settings.branch;
    home.set_head(&Head::Branch(branch.clone()))?;
    on(Event::Warning(format!(
        "HEAD was missing: it is on branch {branch} now, as config.toml says"
    )));
    Ok(())
}

/// A server that is whole runs without the key, too, since its clients need it more than it needs
/// snapshots.
fn warn_of_key(managed: &Managed, on: &(dyn Fn(Event) + Sync)) {
    if let Err(e) = managed.home.check_key() {
        on(Event::Warning(format!(
            "no snapshots are taken: {}; `zenith status` tells what helps",
            one_line(&e)
        )));
    }
}

/// Makes the missing managed cluster from the local tip, or from the storage's where that
/// descends from it or nothing is local. Unguarded only where this home is the original's.
///
/// Errors: `Refusal::NoCluster`, those of the storage when nothing is local, and of `checkout`.
pub fn rebuild(
    managed: &Managed,
    around: &Surroundings,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Rebuilt> {
    let home = &managed.home;
    let mut fetched_bytes = 0;
    let detached = match home.head() {
        Ok(Head::Detached(id)) => id.parse::<SnapshotId>().ok(),
        Ok(Head::Branch(_)) => None,
        // Everything but the settings was lost.
        Err(Error::HomeDamaged { .. }) => {
            home.set_head(&Head::Branch(managed.settings.branch.clone()))?;
            None
        }
        Err(e) => return Err(e),
    };
    let branch = match home.head()? {
        Head::Branch(branch) => branch,
        Head::Detached(_) => managed.settings.branch.clone(),
    };
    let location = managed
        .settings
        .storage_dest
        .as_deref()
        .filter(|_| detached.is_none());
    if let Some(location) = location {
        match fetch(managed, around, location, &branch, on) {
            Ok(bytes) => fetched_bytes = bytes,
            Err(e) => {
                if local_tip(managed, &branch)?.is_none() {
                    return Err(e);
                }
                on(Event::Warning(format!(
                    "taking the last snapshot of this machine, since {location} could not be \
                     asked: {}",
                    one_line(&e)
                )));
            }
        }
    }
    let tip = match detached {
        Some(id) => Some(id),
        None => local_tip(managed, &branch)?,
    };
    let id = tip.ok_or_else(|| Refusal::NoCluster {
        dir: home.dir().to_owned(),
    })?;
    place(managed, id, on)?;
    Ok(Rebuilt { id, fetched_bytes })
}

/// Checks a local snapshot out as the managed cluster where there is none.
pub(crate) fn place(managed: &Managed, id: SnapshotId, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    on(Event::Phase("rebuilding the cluster"));
    let home = &managed.home;
    let _lock = home.lock("checkout", Wait::UpTo(LOCK_WAIT))?;
    let (repo, _guard) = home.reader()?;
    let options = CheckoutOptions {
        unguarded: managed.settings.primary,
        home: Some(home.clone()),
        threads: managed.settings.snapshots.threads.unwrap_or(0),
        ..CheckoutOptions::default()
    };
    checkout::to_new(&repo, id, &home.pgdata(), &options, on)?;
    Ok(())
}

/// Brings the storage's tip home; stored bytes that came.
///
/// Errors: `Refusal::BranchNotAtStorage`, and those of [`sync::attach`].
pub(crate) fn fetch(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
    branch: &str,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    let home = &managed.home;
    let storage = open_storage(managed, around, location)?;
    let lock = home.lock("fetching", Wait::UpTo(LOCK_WAIT))?;
    home.create_repository(storage.params(), operation(home.world(), "init", ""))?;
    drop(lock);
    match sync::attach(
        home,
        &storage,
        branch,
        &operation(home.world(), verb::FETCH, branch),
        on,
    ) {
        Ok(Attached::Fetched { bytes, .. }) => Ok(bytes),
        Ok(Attached::UpToDate { .. } | Attached::Empty) => Ok(0),
        Ok(Attached::NoBranch { branches }) => Err(Refusal::BranchNotAtStorage {
            branch: branch.to_owned(),
            location: storage.location(),
            branches,
        }
        .into()),
        // The local tip is what this machine last had; the other one is for a person to look at.
        Err(e @ Error::Diverged { .. }) => {
            on(Event::Warning(one_line(&e)));
            Ok(0)
        }
        Err(e) => Err(e),
    }
}

/// The repository at a storage, which must be there.
///
/// Errors: `KeyMissing`, `Refusal::{StorageGone, StorageReplaced}`, and those of the store.
pub fn open_storage(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
) -> Result<zenith_store::Repository> {
    let options = OpenOptions::interactive();
    let (home, settings) = (&managed.home, &managed.settings);
    let objects = sync::open_of(home, settings, location, &around.storage, &options)?;
    let (seal, index) = (managed.home.seal()?, zenith_store::IndexChoice::Memory);
    match zenith_store::Repository::open_in(objects, seal, index, home.world().clone()) {
        // Everything but the settings was lost: the key, too.
        Err(zenith_store::Error::Sealed { .. })
            if !zenith_store::Repository::exists(&Directory::new(managed.home.dir()))? =>
        {
            Err(Error::KeyMissing {
                dir: managed.home.dir().to_owned(),
            })
        }
        Err(error @ zenith_store::Error::NotARepository { .. }) => {
            known::expect(&managed.home, location, false)?;
            Err(error.into())
        }
        opened => {
            let storage = opened?;
            known::meet(&managed.home, location, &storage)?;
            Ok(sync::only_of(settings, location, storage))
        }
    }
}

/// The local tip of a branch; nothing also where there is no repository.
pub(crate) fn local_tip(managed: &Managed, branch: &str) -> Result<Option<SnapshotId>> {
    match publish::local_state(managed) {
        Ok(state) => Ok(state.get_ref(&format!("branch/{branch}"))),
        Err(Error::Store(zenith_store::Error::NotARepository { .. })) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the managed cluster carries the guard of a copy.
pub fn is_guarded(managed: &Managed) -> Result<bool> {
    let path = managed.home.pgdata().join("postgresql.auto.conf");
    Ok(disk::read_if_there(&path)?.is_some_and(|conf| guard::is_present(&conf)))
}

/// The cluster is the original from now on.
fn lift_guard(managed: &mut Managed, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    let path = managed.home.pgdata().join("postgresql.auto.conf");
    if let Some(conf) = disk::read_if_there(&path)?.filter(|conf| guard::is_present(conf)) {
        disk::replace(&path, &guard::remove(&conf), 0o600)?;
        if managed.postmaster()?.is_some() {
            on(Event::Warning(
                "the server that runs still has the guard; it goes with the next restart".into(),
            ));
        }
    }
    // Saved settings only: what holds for this start alone is not remembered with it.
    let mut saved = managed.home.settings()?;
    if !saved.primary {
        saved.primary = true;
        managed.home.save_settings(&saved)?;
    }
    managed.settings.primary = true;
    Ok(())
}

/// An agent that works as it should: the one that runs, or a new one. Whether it ran.
fn ensure_agent(
    managed: &Managed,
    around: &Surroundings,
    flags: &AgentFlags,
) -> Result<(AgentState, bool)> {
    if agent::is_alive(&managed.home) {
        let asked = socket::ask(
            &managed.home,
            socket::Request::Status,
            Duration::from_secs(5),
        );
        if let Some(state) = asked.filter(|state| works_so(state, managed, flags)) {
            return Ok((state, true));
        }
        spawn::stop(managed)?;
    }
    Ok((spawn::detached(managed, around, flags)?, false))
}

/// Whether an agent does what this start asks for. What an earlier start asked for once stays
/// where this one says nothing.
fn works_so(state: &AgentState, managed: &Managed, flags: &AgentFlags) -> bool {
    let settings = &managed.settings;
    let interval = flags
        .interval
        .is_none_or(|asked| asked.as_secs() == state.interval_secs);
    let push = match (&state.push_to, flags.no_push) {
        (None, no_push) => no_push || settings.storage_dest.is_none() || !settings.snapshots.push,
        (Some(to), no_push) => !no_push && settings.storage_dest.as_ref() == Some(to),
    };
    interval && push && state.phase != Phase::Stopping
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::home::Home;
    use crate::settings::Settings;

    #[test]
    fn nobody_moves_the_cluster_before_its_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let mut managed = Managed::open(home.dir()).unwrap();
        fs::create_dir_all(home.pgdata().join("global")).unwrap();
        fs::write(home.pgdata().join("PG_VERSION"), "15\n").unwrap();
        fs::write(home.pgdata().join("global/pg_control"), "").unwrap();
        let (around, options) = (Surroundings::default(), StartOptions::default());
        let on = &crate::event::ignore;
        let (rebuilt, lock) = prepare(&mut managed, &around, &options, on).unwrap();
        assert_eq!(rebuilt, None);
        assert!(matches!(
            home.lock("checkout", Wait::No),
            Err(Error::HomeBusy { .. })
        ));
        drop(lock);
        home.lock("checkout", Wait::No).unwrap();
    }

    #[test]
    fn a_head_that_is_missing_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        let settings = Settings {
            branch: "trunk".into(),
            ..Settings::new()
        };
        home.complete(&settings).unwrap();
        fs::remove_file(home.head_path()).unwrap();
        let mut managed = Managed::open(home.dir()).unwrap();
        fs::create_dir_all(home.pgdata().join("global")).unwrap();
        fs::write(home.pgdata().join("PG_VERSION"), "15\n").unwrap();
        fs::write(home.pgdata().join("global/pg_control"), "").unwrap();
        let mut start = || {
            let told = std::sync::Mutex::new(Vec::new());
            let on = |event: Event| {
                if let Event::Warning(text) = event {
                    told.lock().unwrap().push(text);
                }
            };
            let around = Surroundings::default();
            prepare(&mut managed, &around, &StartOptions::default(), &on).unwrap();
            told.into_inner().unwrap().len()
        };
        assert_eq!(start(), 1);
        assert_eq!(home.head().unwrap(), Head::Branch("trunk".into()));
        assert_eq!(start(), 0);
        home.set_head(&Head::Branch("other".into())).unwrap();
        assert_eq!(start(), 0);
        assert_eq!(home.head().unwrap(), Head::Branch("other".into()));
    }

    #[test]
    fn primary_lifts_the_guard_and_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let mut managed = Managed::open(home.dir()).unwrap();
        fs::create_dir(home.pgdata()).unwrap();
        let conf = home.pgdata().join("postgresql.auto.conf");
        fs::write(&conf, guard::add(b"work_mem = '8MB'\n")).unwrap();
        assert!(is_guarded(&managed).unwrap());
        // What holds once is not saved along.
        managed.settings.server.port = Some(6000);
        lift_guard(&mut managed, &crate::event::ignore).unwrap();
        assert!(!is_guarded(&managed).unwrap());
        assert_eq!(fs::read(&conf).unwrap(), b"work_mem = '8MB'\n");
        let saved = home.settings().unwrap();
        assert!(saved.primary);
        assert_eq!(saved.server.port, None);
    }
}
