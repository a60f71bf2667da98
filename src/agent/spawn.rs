//! Starting and stopping the agent's process.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::state::AgentState;
use super::{is_alive, socket};
use crate::error::{Error, Result};
use crate::managed::{Managed, Refusal, Surroundings, rotate_log};

/// How long a new agent has until it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long an agent that was asked to stop has until it is gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The agent's log begins anew at this size.
const LOG_MAX: u64 = 16 << 20;

/// What differs from the saved settings, for this agent only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentFlags {
    /// Time between two automatic snapshots.
    pub interval: Option<Duration>,
    /// Take snapshots, do not push them.
    pub no_push: bool,
    /// Push elsewhere.
    pub storage_dest: Option<String>,
}

impl AgentFlags {
    fn args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if let Some(interval) = self.interval {
            args.extend([
                "--snapshot-interval".to_owned(),
                format!("{}s", interval.as_secs()),
            ]);
        }
        if self.no_push {
            args.push("--no-push".to_owned());
        }
        if let Some(url) = &self.storage_dest {
            args.extend(["--storage-dest".to_owned(), url.clone()]);
        }
        args
    }
}

/// Starts an agent that outlives this process, and waits until it answers. It detaches itself
/// from terminal and session.
///
/// Errors: `Refusal::AgentSilent`.
pub fn detached(
    managed: &Managed,
    around: &Surroundings,
    flags: &AgentFlags,
) -> Result<AgentState> {
    let log = managed.agent_log();
    rotate_log(&log, LOG_MAX)?;
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(Error::io("open", &log))?;
    let err = out.try_clone().map_err(Error::io("open", &log))?;
    let mut child = command(managed, around, flags)
        .arg("--detach")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(Error::io("run", &around.program))?;
    wait_for_answer(managed, &mut child)
}

/// Starts an agent in this process's tree that talks on its stderr, and waits until it answers.
pub fn attached(
    managed: &Managed,
    around: &Surroundings,
    flags: &AgentFlags,
) -> Result<(Child, AgentState)> {
    let mut child = command(managed, around, flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(Error::io("run", &around.program))?;
    let state = wait_for_answer(managed, &mut child)?;
    Ok((child, state))
}

/// Asks the agent to stop and waits until it is gone; whether there was one. One that hangs is
/// left alone: it holds no lock that the kernel would not take from it.
pub fn stop(managed: &Managed) -> Result<bool> {
    if !is_alive(&managed.home) {
        return Ok(false);
    }
    let begun = managed.home.world().watch();
    // Asked again and again: a new agent may not listen yet.
    while is_alive(&managed.home) {
        if begun.elapsed() > GONE_WITHIN {
            return Err(Refusal::AgentSilent {
                seconds: GONE_WITHIN.as_secs(),
                log: managed.agent_log(),
            }
            .into());
        }
        socket::ask(&managed.home, socket::Request::Stop, Duration::from_secs(2));
        managed.home.world().sleep(LOOK_EVERY);
    }
    Ok(true)
}

fn command(managed: &Managed, around: &Surroundings, flags: &AgentFlags) -> Command {
    // By this link, since the user of the home may not search the directories above the program
    // (root's home, say); the list of processes still shows the name people look for.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(&around.program);
    command
        .arg("--home")
        .arg(managed.home.dir())
        .arg("agent")
        .args(flags.args());
    command.current_dir(managed.home.dir());
    for name in crate::key::SECRET_VARIABLES {
        command.env_remove(name);
    }
    command
}

fn wait_for_answer(managed: &Managed, child: &mut Child) -> Result<AgentState> {
    let begun = managed.home.world().watch();
    loop {
        let asked = socket::ask(
            &managed.home,
            socket::Request::Status,
            Duration::from_secs(2),
        );
        if let Some(state) = asked.filter(|state| state.pid == child.id()) {
            return Ok(state);
        }
        let gone = matches!(child.try_wait(), Ok(Some(_)));
        if gone || begun.elapsed() > ANSWERS_WITHIN {
            return Err(Refusal::AgentSilent {
                seconds: begun.elapsed().as_secs(),
                log: managed.agent_log(),
            }
            .into());
        }
        managed.home.world().sleep(LOOK_EVERY);
    }
}
