//! `zenith agent`, which `start` runs: the process in the background.

use std::time::Duration;

use zenith::agent::{self, AgentOptions};

use super::Context;
use crate::args::AgentArgs;
use crate::error::Failure;
use crate::logging;

pub fn run(args: AgentArgs, context: &Context) -> Result<(), Failure> {
    if args.detach {
        // A session of its own: whoever started it may log out.
        nix::unistd::setsid().map_err(|e| Failure::Bug(format!("setsid: {e}")))?;
    }
    let mut managed = context.open()?;
    managed.home = managed.home.telling(|holder| {
        tracing::info!("waiting for `{}` (pid {})", holder.purpose, holder.pid);
    });
    if args.detach {
        logging::to_file(&managed.agent_log()).map_err(Failure::Output)?;
    } else {
        logging::to_stderr_as_agent();
    }
    let settings = &managed.settings;
    let pushes = settings.snapshots.push && !args.no_push;
    let options = AgentOptions {
        interval: args
            .snapshot_interval
            .unwrap_or(Duration::from_secs(settings.snapshots.interval_secs)),
        push_to: args
            .storage_dest
            .or_else(|| settings.storage_dest.clone())
            .filter(|_| pushes),
    };
    let stop = context.stop_on_signals()?;
    Ok(agent::run(&managed, &context.around(), &options, &stop)?)
}
