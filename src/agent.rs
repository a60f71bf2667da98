//! The process in the background: takes a snapshot every interval in which something changed,
//! pushes it, thins the old ones.
//!
//! It outlives neither machine nor `stop`, but it does outlive the server, for which it waits,
//! and the server outlives it. It never starts a server. The home's lock is held only while it
//! works on the home, never while it sends. Three threads: the *keeper* takes and thins, the
//! *pusher* sends, the *porter* answers on the socket; whoever runs the agent waits for the end.

pub mod socket;
pub mod spawn;
pub mod state;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tracing::{error, info, warn};
use zenith_store::{SnapshotKind, Watch};

use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::head::Head;
use crate::home::{Home, Wait};
use crate::managed::{self, Managed, Presence, Refusal, Surroundings};
use crate::publish;
use crate::settings::Settings;
use crate::take::{self, Take};
use crate::thin::{self, Thinned};
use crate::who::seconds;
use state::{AgentState, Phase, Taken, Trouble, one_line};

/// An automatic snapshot comes no sooner than so many times what the last one took.
const REST_FACTOR: u32 = 4;
/// Time between two thinnings of the storage.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Automatic snapshots between two thinnings when they come faster than hourly.
const THIN_EVERY_SNAPSHOTS: u32 = 60;
/// Time between two thinnings otherwise.
const THIN_EVERY: Duration = Duration::from_secs(3_600);
/// How often a server that is down is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First and last pause after a push that went wrong.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// How long the end waits for work that is under way. What is cut off is as if never begun.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// A checkpoint is spread over minutes only where snapshots are that far apart.
const SPREAD_FROM: Duration = Duration::from_secs(240);
/// The server's log begins anew at this size.
const SERVER_LOG_MAX: u64 = 64 << 20;

/// How this agent works; what is not given is as saved.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Time between two automatic snapshots.
    pub interval: Duration,
    /// Where snapshots are pushed.
    pub push_to: Option<String>,
}

/// Runs until `stop` is set or a command asks for the end.
///
/// Errors: `Refusal::AgentRunning`, what keeps it from listening, and `Internal` when one of its
/// threads panicked.
pub fn run(
    managed: &Managed,
    around: &Surroundings,
    options: &AgentOptions,
    stop: &AtomicBool,
) -> Result<()> {
    let _alone = claim(&managed.home)?;
    step_back();
    // It was run by way of a link, whose name says nothing in lists of processes.
    if let Err(e) = fs::write("/proc/self/comm", "zenith") {
        info!("/proc/self/comm: {e}");
    }
    let listener = socket::listen(&managed.home)?;
    let agent = Arc::new(Agent::new(managed, around, options));
    agent.save();
    info!(interval_secs = options.interval.as_secs(), push_to = ?options.push_to, "agent began");

    agent.spawn("keeper", Agent::keep)?;
    agent.spawn("pusher", Agent::push)?;
    agent.spawn("porter", move |agent| agent.answer(&listener))?;

    agent.wait_for_end(stop)?;
    info!("agent ended");
    Ok(())
}

/// The server comes first: idle I/O priority and a low one for the processor. By the programs of
/// util-linux, since the system calls have no safe binding; without them the agent works all the
/// same. Called before there are threads, which inherit it.
fn step_back() {
    let pid = std::process::id().to_string();
    for (program, args) in [
        ("ionice", ["-c", "3", "-p"]),
        ("renice", ["-n", "10", "-p"]),
    ] {
        let done = Command::new(program)
            .args(args)
            .arg(&pid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match done {
            Ok(status) if status.success() => {}
            Ok(status) => info!("{program} ended with {status}: the priority stays as it was"),
            Err(e) => info!("{program}: {e}: the priority stays as it was"),
        }
    }
}

/// The only agent of this home: holds `agent.pid` locked, with its process id in it.
fn claim(home: &Home) -> Result<Flock<File>> {
    let path = pid_path(home);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(Error::io("read", &path))?;
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            let pid = text.trim().parse().unwrap_or_default();
            Refusal::AgentRunning {
                dir: home.dir().to_owned(),
                pid,
            }
            .into()
        } else {
            Error::io("lock", &path)(errno.into())
        }
    })?;
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(Error::io("write", &path))?;
    Ok(file)
}

/// Whether an agent of this home lives, answering or not.
pub fn is_alive(home: &Home) -> bool {
    let Ok(file) = File::open(pid_path(home)) else {
        return false;
    };
    // A lock that can be had is no agent's; it is given back at once.
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

fn pid_path(home: &Home) -> PathBuf {
    home.dir().join("agent.pid")
}

struct Agent {
    managed: Managed,
    around: Surroundings,
    options: AgentOptions,
    shared: Mutex<Shared>,
    /// Anything in `shared` changed that somebody may wait for.
    changed: Condvar,
}

struct Shared {
    state: AgentState,
    stopping: bool,
    /// The thread that is no more, by a bug.
    panicked: Option<&'static str>,
    /// Threads in the middle of something.
    busy: u32,
    /// Counts the reasons to push; the pusher remembers how many it has served.
    push_wanted: u64,
}

impl Agent {
    fn new(managed: &Managed, around: &Surroundings, options: &AgentOptions) -> Agent {
        // Its past is worth keeping over a restart; where it stands is not.
        let before = AgentState::load(&managed.home);
        let now = seconds(managed.home.world());
        let (taken, unchanged) = before.map_or((None, None), |b| (b.taken, b.unchanged));
        Agent {
            managed: managed.clone(),
            around: around.clone(),
            options: options.clone(),
            shared: Mutex::new(Shared {
                state: AgentState {
                    pid: std::process::id(),
                    since: now,
                    phase: Phase::Idle,
                    interval_secs: options.interval.as_secs(),
                    push_to: options.push_to.clone(),
                    next: now,
                    unchanged,
                    taken,
                    paused: None,
                    trouble: None,
                },
                stopping: false,
                panicked: None,
                busy: 0,
                // Whatever an earlier run left is pushed at once.
                push_wanted: 1,
            }),
            changed: Condvar::new(),
        }
    }

    /// Begins one of the threads. If it panics the agent ends: one that lacks a thread would say
    /// that all is well, and one that is gone is started again.
    fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce(&Agent) + Send + 'static,
    ) -> Result<()> {
        let agent = Arc::clone(self);
        let watched = move || {
            if catch_unwind(AssertUnwindSafe(|| work(&agent))).is_err() {
                error!("the {name} panicked: the agent ends");
                agent.shared().panicked = Some(name);
                agent.begin_end();
            }
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(watched)
            .map(drop)
            .map_err(|e| Error::Internal {
                what: format!("starting the thread {name}: {e}"),
            })
    }

    /// The keeper's life.
    fn keep(&self) {
        let first = self.time_to_first();
        self.update(|state| state.next = self.now() + first.as_secs() as i64);
        if !self.sleep_for(&self.watch(), first) {
            return;
        }
        let mut snapshots = 0;
        let mut thinned: Option<Watch> = None;
        loop {
            let begun = self.watch();
            let turn = self.turn();
            let rest = match &turn {
                Turn::Down => LOOK_EVERY.min(self.options.interval),
                Turn::Took(took) => {
                    snapshots += 1;
                    self.options.interval.max(*took * REST_FACTOR)
                }
                Turn::Nothing => self.options.interval,
            };
            let due = thinned
                .as_ref()
                .is_none_or(|at| at.elapsed() >= THIN_EVERY || snapshots >= THIN_EVERY_SNAPSHOTS);
            if due && !self.is_stopping() && self.thin() {
                thinned = Some(self.watch());
                snapshots = 0;
            }
            // After thinning, which would find the packs in use while they are sent. Where nothing
            // was taken this shows that the storage has everything, and what fills the spool may
            // be a storage that is back by now.
            if !matches!(turn, Turn::Down) {
                self.want_push();
            }
            if let Err(e) = managed::rotate_open_log(&self.managed.server_log(), SERVER_LOG_MAX) {
                warn!("{}", one_line(&e));
            }
            self.update(|state| {
                if state.phase != Phase::WaitingForServer {
                    state.phase = Phase::Idle;
                }
                state.next = self.now() + rest.saturating_sub(begun.elapsed()).as_secs() as i64;
            });
            if !self.sleep_for(&begun, rest) {
                return;
            }
        }
    }

    /// An interval after the last look, which may have been that of an agent before this one:
    /// restarts neither delay snapshots nor add any.
    fn time_to_first(&self) -> Duration {
        let tip = || -> Result<Option<i64>> {
            let state = publish::local_state(&self.managed)?;
            let id = match self.managed.home.head()? {
                Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")),
                Head::Detached(id) => id.parse().ok(),
            };
            let row = id.and_then(|id| state.snapshot(&id));
            Ok(row.map(|row| row.time.unix_micros / 1_000_000))
        };
        // What keeps this from being told will be told by the first turn.
        let taken = tip().ok().flatten();
        let Some(last) = taken.max(self.shared().state.unchanged) else {
            return Duration::ZERO;
        };
        let since = Duration::from_secs((self.now() - last).max(0) as u64);
        self.options.interval.saturating_sub(since)
    }

    /// One look at the server, and a snapshot when something changed.
    fn turn(&self) -> Turn {
        match self.is_up() {
            Ok(true) => {}
            Ok(false) => {
                self.update(|state| state.phase = Phase::WaitingForServer);
                return Turn::Down;
            }
            Err(e) => {
                self.trouble(&e);
                return Turn::Nothing;
            }
        }
        match self.reason_to_pause() {
            Ok(None) => self.update(|state| state.paused = None),
            Ok(Some(reason)) => {
                if self.shared().state.paused.is_none() {
                    error!("automatic snapshots pause: {reason}");
                }
                self.update(|state| state.paused = Some(reason));
                return Turn::Nothing;
            }
            Err(e) => {
                self.trouble(&e);
                return Turn::Nothing;
            }
        }
        let Some(_busy) = self.busy() else {
            return Turn::Nothing;
        };
        self.update(|state| state.phase = Phase::WaitingForHome);
        // Somebody who works longer than an interval is waited for again at the next turn.
        let lock = match self
            .managed
            .home
            .lock("agent", Wait::UpTo(self.options.interval))
        {
            Ok(lock) => lock,
            Err(Error::HomeBusy { by, pid, .. }) => {
                info!("no snapshot: process {pid} is in `{by}`");
                return Turn::Nothing;
            }
            Err(e) => {
                self.trouble(&e);
                return Turn::Nothing;
            }
        };
        self.update(|state| state.phase = Phase::Snapshot);
        // Waiting for a checkpoint that is spread on purpose is no work.
        let begun = self.watch();
        let waited = AtomicU64::new(0);
        let on = |event: Event| match event {
            Event::Total { .. } | Event::Read { .. } => {
                let millis = begun.elapsed().as_millis() as u64;
                let _ = waited.compare_exchange(0, millis, Ordering::Relaxed, Ordering::Relaxed);
            }
            Event::Warning(text) => warn!("{text}"),
            _ => {}
        };
        let taken = take::take(
            &self.managed,
            &lock,
            &Take {
                kind: Some(SnapshotKind::Automatic),
                skip_if_unchanged: true,
                fast: self.options.interval < SPREAD_FROM,
                verb: crate::who::verb::AGENT,
                ..Take::default()
            },
            &on,
        );
        drop(lock);
        let took = begun
            .elapsed()
            .saturating_sub(Duration::from_millis(waited.into_inner()));
        match taken {
            Ok(taken) if taken.report.unchanged => {
                self.update(|state| {
                    state.unchanged = Some(self.now());
                    state.trouble = None;
                });
                Turn::Nothing
            }
            Ok(taken) => {
                let report = taken.report;
                let millis = took.as_millis() as u64;
                info!(id = %report.id, millis, new_bytes = report.new_bytes, "snapshot");
                if taken.new_branch {
                    warn!("HEAD was detached: branch {} begins here", taken.branch);
                }
                self.update(|state| {
                    state.taken = Some(Taken {
                        time: self.now(),
                        id: report.id.to_string(),
                        millis,
                        new_bytes: report.new_bytes,
                    });
                    state.trouble = None;
                });
                Turn::Took(took)
            }
            // A server that is stopped takes the backup with it; that is no trouble.
            Err(_) if self.is_stopping() || matches!(self.is_up(), Ok(false)) => Turn::Nothing,
            Err(e) => {
                self.trouble(&e);
                Turn::Took(took)
            }
        }
    }

    fn is_up(&self) -> Result<bool> {
        Ok(self.managed.presence()? == Presence::Whole && self.managed.postmaster()?.is_some())
    }

    /// Snapshots must never fill the disk of a server that goes on working.
    fn reason_to_pause(&self) -> Result<Option<String>> {
        // Whoever is in the middle of changing them does not want to go without snapshots.
        let limits = match self.settings_now() {
            Ok(settings) => settings.space,
            Err(e) => {
                warn!("the limits of the agent's start hold: {}", one_line(&e));
                self.managed.settings.space.clone()
            }
        };
        let (total, free) = self.managed.space()?;
        if free < total / 100 * u64::from(limits.min_free_percent) {
            return Ok(Some(format!(
                "{free} of {total} bytes are free, less than {} %",
                limits.min_free_percent
            )));
        }
        if let Some(location) = self.options.push_to.as_deref() {
            let (repo, _guard) = self.managed.home.reader()?;
            let state = repo.state()?;
            let waiting = publish::unpushed(&self.managed, Some(location), &state)?.bytes;
            if waiting > limits.spool_max_bytes {
                return Ok(Some(format!(
                    "{waiting} bytes wait to be pushed, more than {}",
                    limits.spool_max_bytes
                )));
            }
        }
        Ok(None)
    }

    /// What is to be kept, and how much space there is, may have been changed since the agent began:
    /// it must not delete what somebody wants kept now.
    ///
    /// Errors: `NoHome`, `SettingsInvalid`.
    fn settings_now(&self) -> Result<Settings> {
        self.managed.home.settings()
    }

    /// The home with these settings.
    fn managed_now(&self) -> Result<Managed> {
        Ok(Managed {
            settings: self.settings_now()?,
            ..self.managed.clone()
        })
    }

    /// Whether it is done; not while somebody else writes or reads, which the next turn looks at.
    fn thin(&self) -> bool {
        let Some(_busy) = self.busy() else {
            return false;
        };
        let before = self.shared().state.phase;
        let lock = match self.managed.home.lock("agent thinning", Wait::No) {
            Ok(lock) => lock,
            Err(Error::HomeBusy { .. }) => return false,
            Err(e) => {
                self.trouble(&e);
                return true;
            }
        };
        self.update(|state| state.phase = Phase::Thinning);
        let thinned = self
            .managed_now()
            .and_then(|managed| thin::thin(&managed, &lock));
        let done = match thinned {
            Ok(thinned) => {
                if thinned.dropped > 0 {
                    let freed_bytes = thinned.freed_bytes;
                    info!(snapshots = thinned.dropped, freed_bytes, "thinned");
                }
                true
            }
            Err(Error::HomeInUse { .. }) => false,
            Err(e) => {
                self.trouble(&e);
                true
            }
        };
        self.update(|state| state.phase = before);
        done
    }

    /// The pusher's life.
    fn push(&self) {
        let Some(location) = self.options.push_to.clone() else {
            return;
        };
        let mut served = 0;
        let mut pause = RETRY.0;
        let mut tidied: Option<Watch> = None;
        loop {
            // Every turn of the keeper is a reason, also where nothing changed: it shows that the
            // storage has everything.
            let Some(wanted) = self.wait_for_push(served) else {
                return;
            };
            let Some(busy) = self.busy() else { return };
            let on = |event: Event| {
                if let Event::Warning(text) = event {
                    warn!("{text}");
                }
            };
            let outcome = publish::push_all(&self.managed, &self.around, &location, &on);
            if outcome.is_ok()
                && tidied.as_ref().is_none_or(|at| at.elapsed() >= TIDY_EVERY)
                && !self.is_stopping()
            {
                tidied = Some(self.watch());
                let done = self
                    .managed_now()
                    .and_then(|managed| publish::tidy(&managed, &self.around, &location));
                match done {
                    Ok(thinned) if thinned != Thinned::default() => {
                        let (dropped, bytes) = (thinned.dropped, thinned.freed_bytes);
                        info!(dropped, bytes, "thinned {location}");
                    }
                    Ok(_) => {}
                    Err(e) => warn!("thinning {location}: {}", one_line(&e)),
                }
            }
            drop(busy);
            match outcome {
                Ok(reports) => {
                    let bytes = publish::sent_bytes(&reports);
                    if bytes > 0 {
                        info!(bytes, "pushed to {location}");
                    }
                    served = wanted;
                    pause = RETRY.0;
                }
                Err(e) => {
                    warn!("push to {location}: {}", one_line(&e));
                    // A request that is wrong stays wrong; the others may get better soon.
                    let lasting = matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
                    let rest = if lasting {
                        RETRY.1
                    } else {
                        pause.min(self.retry_max())
                    };
                    if !self.sleep_for(&self.watch(), rest) {
                        return;
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// With short intervals nobody wants to wait ten minutes after an outage.
    fn retry_max(&self) -> Duration {
        (self.options.interval * 2).clamp(RETRY.0, RETRY.1)
    }

    /// The porter's life.
    fn answer(&self, listener: &std::os::unix::net::UnixListener) {
        for stream in listener.incoming() {
            let outcome = stream.and_then(|stream| {
                socket::answer(&stream, |request| {
                    if request == socket::Request::Stop {
                        self.begin_end();
                    }
                    self.shared().state.clone()
                })
            });
            if let Err(e) = outcome {
                warn!("a question on the socket: {e}");
            }
        }
    }

    /// Returns when the end was asked for and what was under way is done, or takes too long.
    ///
    /// Errors: `Internal` when it was a panic that asked.
    fn wait_for_end(&self, stop: &AtomicBool) -> Result<()> {
        /// How soon a signal is noticed.
        const LOOK: Duration = Duration::from_millis(250);
        let mut shared = self.shared();
        while !shared.stopping {
            if stop.load(Ordering::Relaxed) {
                drop(shared);
                self.begin_end();
                shared = self.shared();
                break;
            }
            shared = self.wait(shared, LOOK);
        }
        let begun = self.watch();
        while shared.busy > 0 && begun.elapsed() < FINISH_WITHIN {
            shared = self.wait(shared, LOOK);
        }
        if shared.busy > 0 {
            warn!("work was cut off; the last committed state stands");
        }
        match shared.panicked {
            Some(name) => Err(Error::Internal {
                what: format!("the agent's {name} panicked"),
            }),
            None => Ok(()),
        }
    }

    fn begin_end(&self) {
        let mut shared = self.shared();
        shared.stopping = true;
        shared.state.phase = Phase::Stopping;
        drop(shared);
        self.changed.notify_all();
        self.save();
    }

    fn is_stopping(&self) -> bool {
        self.shared().stopping
    }

    fn want_push(&self) {
        self.shared().push_wanted += 1;
        self.changed.notify_all();
    }

    /// The count of reasons as soon as it is more than `served`; nothing at the end.
    fn wait_for_push(&self, served: u64) -> Option<u64> {
        let mut shared = self.shared();
        loop {
            if shared.stopping {
                return None;
            }
            if shared.push_wanted > served {
                return Some(shared.push_wanted);
            }
            shared = self.wait(shared, Duration::from_secs(3_600));
        }
    }

    /// Whether to go on, so long after `begun`; at once and no when the end comes.
    fn sleep_for(&self, begun: &Watch, rest: Duration) -> bool {
        let mut shared = self.shared();
        loop {
            if shared.stopping {
                return false;
            }
            let Some(left) = begun.left_of(rest) else {
                return true;
            };
            shared = self.wait(shared, left);
        }
    }

    fn watch(&self) -> Watch {
        self.managed.home.world().watch()
    }

    /// Seconds since 1970, UTC.
    fn now(&self) -> i64 {
        seconds(self.managed.home.world())
    }

    fn wait<'a>(&self, shared: MutexGuard<'a, Shared>, limit: Duration) -> MutexGuard<'a, Shared> {
        self.changed
            .wait_timeout(shared, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Marks work that the end should wait for; nothing when the end has begun.
    fn busy(&self) -> Option<Busy<'_>> {
        let mut shared = self.shared();
        if shared.stopping {
            return None;
        }
        shared.busy += 1;
        Some(Busy(self))
    }

    fn trouble(&self, e: &Error) {
        let message = one_line(e);
        error!("{message}");
        self.update(|state| {
            state.trouble = Some(Trouble {
                time: self.now(),
                message,
            });
        });
    }

    fn update(&self, change: impl FnOnce(&mut AgentState)) {
        let mut shared = self.shared();
        let before = shared.state.clone();
        change(&mut shared.state);
        let same = shared.state == before;
        drop(shared);
        if !same {
            self.save();
        }
    }

    /// The file is a convenience; that it cannot be written is noted and no reason to stop.
    fn save(&self) {
        // Saved under the lock, so that a later state is never overwritten by an earlier one.
        let shared = self.shared();
        if let Err(e) = shared.state.save(&self.managed.home) {
            warn!("{}", one_line(&e));
        }
    }

    /// A thread that panicked changed one field at most; the state is still worth telling.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at the server led to.
enum Turn {
    /// No server.
    Down,
    /// No snapshot.
    Nothing,
    /// A snapshot, or an attempt at one, that took so long.
    Took(Duration),
}

struct Busy<'a>(&'a Agent);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.shared().busy -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_thread_ends_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("home")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let managed = Managed::open(home.dir()).unwrap();
        let options = AgentOptions {
            interval: Duration::from_secs(1),
            push_to: None,
        };
        let agent = Arc::new(Agent::new(&managed, &Surroundings::default(), &options));
        let torn = |agent: &Agent| {
            let _busy = agent.busy();
            panic!("torn");
        };
        agent.spawn("keeper", torn).unwrap();
        let end = agent.wait_for_end(&AtomicBool::new(false));
        assert!(matches!(end, Err(Error::Internal { what }) if what.contains("keeper")));
        assert!(agent.is_stopping());
    }
}
