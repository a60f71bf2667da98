//! `start --foreground`: server and agent are children of this process, which goes with them.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zenith_store::Watch;

use super::{READY_WITHIN, Rebuilt, StartOptions, Started, is_guarded, prepare, warn_of_key};
use crate::agent;
use crate::agent::spawn;
use crate::agent::state::{AgentState, one_line};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::home::HomeLock;
use crate::managed::{Managed, Refusal, Surroundings};
use crate::pg;
use crate::pg::server::{Postmaster, Server, Status, StopMode};
use crate::stop::{self, Purpose, StopOptions, Stopped};

/// How soon a signal or a death is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// Until an agent that could not be started is tried again.
const AGENT_REST: Duration = Duration::from_secs(30);
/// So many looks in a row find that a stop is gone and the server goes on, until that is believed:
/// one that told the server may have gone before the server says that it stops.
const GIVEN_UP: u32 = 20;

/// As [`start`](super::start) with the server and the agent as children, until `stop` is set: then
/// everything is stopped as `stop` does it. Where a `stop` of another process comes first, this ends
/// with that. `up` is called once, when connections are accepted.
///
/// Errors: those of [`start`](super::start), `AlreadyRunning`, and `Refusal::ServerDied` when the
/// server ended on its own.
pub fn foreground(
    managed: &mut Managed,
    around: &Surroundings,
    options: &StartOptions,
    stop: &AtomicBool,
    up: &dyn Fn(&Started),
    on: &(dyn Fn(Event) + Sync),
) -> Result<Stopped> {
    if managed.postmaster()?.is_none() {
        // An agent that was left over would push with yesterday's settings. It goes before the
        // home is locked, since it might wait for that.
        spawn::stop(managed)?;
        Purpose::forget(&managed.home)?;
    }
    let (rebuilt, lock) = prepare(managed, around, options, on)?;
    warn_of_key(managed, on);
    let server = managed.server(around)?;
    if let Some(running) = server.postmaster()? {
        return Err(pg::Error::AlreadyRunning {
            pgdata: server.pgdata,
            pid: running.pid,
        }
        .into());
    }
    let begun = managed.home.world().watch();
    on(Event::Phase("starting the server"));
    let program = server.bin.program("postgres");
    let child = server
        .command_foreground(&managed.start_options(READY_WITHIN)?)?
        .stdin(Stdio::null())
        // Ctrl-C at the terminal is for this process, which stops the server in order.
        .process_group(0)
        .spawn()
        .map_err(Error::io("run", &program))?;
    let mut run = Run {
        managed,
        around,
        options,
        server,
        child,
        stop,
        on,
        given_up: 0,
    };
    match run.watch(lock, rebuilt, &begun, up) {
        Ok(End::Asked) => {
            let ended = run.end();
            if ended.is_err() {
                run.drop_all();
            }
            ended
        }
        Ok(End::Stopped) => stop::after_another(managed, run.pid(), stop),
        Err(e) => {
            run.drop_all();
            Err(e)
        }
    }
}

/// What brought a run to its end.
enum End {
    /// A signal, and everything runs still.
    Asked,
    /// Another process stopped the server.
    Stopped,
}

struct Run<'a> {
    managed: &'a Managed,
    around: &'a Surroundings,
    options: &'a StartOptions,
    server: Server,
    child: Child,
    stop: &'a AtomicBool,
    on: &'a (dyn Fn(Event) + Sync),
    /// Looks in a row that found a stop which came to nothing.
    given_up: u32,
}

impl Run<'_> {
    /// Returns when `stop` is set or the server was stopped.
    ///
    /// Errors: `Refusal::ServerDied`, those of starting the first agent.
    fn watch(
        &mut self,
        lock: Option<HomeLock>,
        rebuilt: Option<Rebuilt>,
        begun: &Watch,
        up: &dyn Fn(&Started),
    ) -> Result<End> {
        let Some(postmaster) = self.wait_ready()? else {
            return self.how_it_ended();
        };
        drop(lock);
        let took = begun.elapsed();
        self.managed.remember()?;
        let mut agent = None;
        match self.agent() {
            Ok((process, state)) => {
                agent = Some(process);
                up(&Started {
                    postmaster,
                    was_running: false,
                    rebuilt,
                    agent: state,
                    agent_was_running: false,
                    guarded: is_guarded(self.managed)?,
                    took,
                });
            }
            // It was told to go before it could answer.
            Err(_) if self.is_on_purpose() => {}
            Err(e) => return Err(e),
        }
        let mut rests: Option<Watch> = None;
        while !self.is_asked() {
            if ended(&mut self.child)?.is_some() {
                break;
            }
            self.look_for_given_up();
            if let Some(process) = &mut agent
                && let Some(status) = ended(process)?
            {
                agent = None;
                // A signal to the whole group ends the agent, too, and a stop begins with it: no
                // reason for another.
                self.managed.home.world().sleep(LOOK);
                if !self.is_asked() && !self.is_on_purpose() {
                    self.warn(format!("the agent ended ({status}): another one begins"));
                }
            }
            // A start elsewhere may have put one in its place.
            let is_wanted = agent.is_none()
                && rests
                    .as_ref()
                    .is_none_or(|rests| rests.elapsed() >= AGENT_REST)
                && !self.is_asked()
                && !self.is_on_purpose()
                && !agent::is_alive(&self.managed.home);
            if is_wanted {
                match self.agent() {
                    Ok((process, _)) => agent = Some(process),
                    Err(_) if self.is_on_purpose() => {}
                    // The server comes first: its clients do not need snapshots.
                    Err(e) => {
                        self.warn(format!("no snapshots are taken: {}", one_line(&e)));
                        rests = Some(self.managed.home.world().watch());
                    }
                }
            }
            self.managed.home.world().sleep(LOOK);
        }
        self.how_it_ended()
    }

    /// The server when it accepts connections; nothing when the end came first.
    fn wait_ready(&mut self) -> Result<Option<Postmaster>> {
        loop {
            if ended(&mut self.child)?.is_some() {
                return Ok(None);
            }
            match self.server.wait_ready(LOOK) {
                Ok(postmaster) => return Ok(Some(postmaster)),
                Err(pg::Error::NotReady { .. }) if self.is_asked() => return Ok(None),
                Err(pg::Error::NotReady { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn how_it_ended(&mut self) -> Result<End> {
        match ended(&mut self.child)? {
            None => Ok(End::Asked),
            Some(_) if self.is_on_purpose() => Ok(End::Stopped),
            Some(status) => Err(Refusal::ServerDied { status }.into()),
        }
    }

    fn agent(&self) -> Result<(Child, AgentState)> {
        spawn::attached(self.managed, self.around, &self.options.agent)
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn is_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn is_on_purpose(&self) -> bool {
        Purpose::is_about(&self.managed.home, self.pid())
    }

    /// A stop that failed or was killed before it told the server is none: an agent that ended
    /// meanwhile is wanted again, and an end of the server is no longer on purpose.
    fn look_for_given_up(&mut self) {
        let home = &self.managed.home;
        let is_stopping = || {
            let postmaster = self.managed.postmaster();
            !matches!(postmaster, Ok(Some(p)) if p.status != Status::Stopping)
        };
        // What cannot be told is looked at again.
        let is_given_up = self.is_on_purpose()
            && matches!(Purpose::is_at_work(home), Ok(false))
            && !is_stopping();
        self.given_up = if is_given_up { self.given_up + 1 } else { 0 };
        if self.given_up < GIVEN_UP {
            return;
        }
        self.given_up = 0;
        match Purpose::take_back(home) {
            Ok(()) => self.warn("a stop was given up: the server goes on".to_owned()),
            Err(e) => self.warn(one_line(&e)),
        }
    }

    fn warn(&self, text: String) {
        (self.on)(Event::Warning(text));
    }

    /// Stops what runs.
    fn end(&mut self) -> Result<Stopped> {
        let options = StopOptions {
            mode: StopMode::Fast,
            snapshot: true,
            push: self.managed.settings.snapshots.push,
        };
        let agent = stop::stop_agent(self.managed, self.on)?;
        let pid = self.managed.postmaster()?.map(|p| p.pid);
        (self.on)(Event::Phase("stopping the server"));
        // pg_ctl waits for the pid file to go; the child is reaped here.
        self.server.stop(options.mode, stop::STOP_WITHIN)?;
        self.child
            .wait()
            .map_err(Error::io("wait for", &self.managed.home.pgdata()))?;
        stop::after_server(self.managed, self.around, &options, pid, agent, self.on)
    }

    /// Nothing of this run is left behind, whatever went wrong. The first error counts.
    fn drop_all(&mut self) {
        let _ = spawn::stop(self.managed);
        if matches!(ended(&mut self.child), Ok(None)) {
            let _ = self.server.stop(StopMode::Fast, stop::STOP_WITHIN);
            let _ = self.child.wait();
        }
    }
}

fn ended(child: &mut Child) -> Result<Option<String>> {
    match child.try_wait() {
        Ok(status) => Ok(status.map(|status| status.to_string())),
        Err(e) => Err(Error::Internal {
            what: format!("waiting for a child: {e}"),
        }),
    }
}
