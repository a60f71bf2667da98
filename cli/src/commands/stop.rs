//! `zenith stop`: agent, server, a last snapshot, a last push.

use zenith::managed::Managed;
use zenith::pg::server;
use zenith::stop::{self, LastPush, StopOptions, Stopped};

use super::Context;
use crate::args::{StopArgs, StopMode};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::size::{plural, size};

pub fn run(args: &StopArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let options = StopOptions {
        mode: match args.mode {
            StopMode::Fast => server::StopMode::Fast,
            StopMode::Smart => server::StopMode::Smart,
            StopMode::Immediate => server::StopMode::Immediate,
        },
        snapshot: !args.no_snapshot,
        push: managed.settings.snapshots.push,
    };
    let progress = Progress::new(&context.ui);
    let stopped = stop::stop(&managed, &context.around(), &options, &|event| {
        progress.on(event);
    })?;
    drop(progress);
    tell(&stopped, &managed, context)
}

/// What was stopped and what is left to push.
pub fn tell(stopped: &Stopped, managed: &Managed, context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    let location = managed.settings.storage_dest.as_deref();
    if ui.is_json() {
        return ui.record(&serde_json::json!({
            "type": "stop", "v": 1,
            "server": stopped.server,
            "agent": stopped.agent,
            "id": stopped.snapshot.as_ref().map(|taken| taken.report.id.to_string()),
            "unchanged": stopped.snapshot.as_ref().map(|taken| taken.report.unchanged),
            "pushed": matches!(stopped.push, LastPush::Done(_)),
            "unpushed": stopped.unpushed.map(|unpushed| serde_json::json!({
                "snapshots": unpushed.snapshots, "bytes": unpushed.bytes,
            })),
        }));
    }
    match stopped.server {
        Some(pid) => ui.answer(format_args!("stopped the server (pid {pid})"))?,
        None => ui.answer("the server was not running")?,
    }
    if let Some(taken) = stopped
        .snapshot
        .as_ref()
        .filter(|taken| !taken.report.unchanged)
    {
        ui.answer(format_args!(
            "snapshot {}  {}, {} new  (final)",
            taken.report.id.short(),
            size(taken.report.size),
            size(taken.report.new_bytes)
        ))?;
        if taken.new_branch {
            ui.talk(format_args!(
                "HEAD was detached: branch {} begins here",
                taken.branch
            ));
        }
    }
    if let Some(taken) = stopped
        .snapshot
        .as_ref()
        .filter(|taken| taken.report.unchanged)
    {
        let id = taken.report.id.short();
        ui.answer(format_args!("nothing changed since snapshot {id}"))?;
    }
    match (&stopped.push, location) {
        (LastPush::Failed(why), Some(location)) => {
            ui.warn(format_args!("push to {location}: {why}"));
        }
        (LastPush::TimedOut, Some(location)) => ui.warn(format_args!(
            "push to {location}: not done within {} s",
            stop::PUSH_WITHIN.as_secs()
        )),
        _ => {}
    }
    if let (Some(unpushed), Some(location)) = (stopped.unpushed, location) {
        match unpushed.snapshots {
            0 => ui.talk(format_args!("everything is pushed to {location}")),
            n => ui.answer(format_args!(
                "{} not pushed to {location} ({}); `zenith push` sends them",
                plural(n, "snapshot"),
                size(unpushed.bytes)
            ))?,
        }
    }
    Ok(())
}
