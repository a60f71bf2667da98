//! `zenith push`: what the storage, or another remote, does not have yet.

use zenith::sync::ORIGIN;
use zenith::{publish, remote, sync};

use super::Context;
use crate::args::PushArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::push;
use crate::render::size::{plural, size};

pub fn run(args: &PushArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let name = args.remote.as_deref().unwrap_or(ORIGIN);
    let location = remote::location(&managed, name)?;
    let branches = match &args.branch {
        _ if args.all => branches(context, &managed)?,
        Some(branch) => vec![branch.clone()],
        None => vec![context.branch(&managed, "say which one with --branch")?],
    };
    if args.dry_run {
        let waiting = sync::unpushed_to(&*context.state(&managed)?, name);
        if context.ui.is_json() {
            return context.ui.record(&serde_json::json!({
                "type": "push_planned", "v": 1, "remote": name, "location": location,
                "snapshots": waiting.rows.len(), "bytes": waiting.bytes,
            }));
        }
        return context.ui.answer(format_args!(
            "would push {} ({}) to {location}",
            plural(waiting.rows.len() as u64, "snapshot"),
            size(waiting.bytes)
        ));
    }
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let around = context.around();
    let done = publish::push_to(&managed, &around, name, &branches, args.tags, &on)?;
    let took = progress.elapsed();
    drop(progress);
    let ui = &context.ui;
    for (branch, report) in &done.branches {
        if ui.is_json() {
            ui.record(&push::record(report, branch, &location))?;
        } else if args.all {
            ui.answer(format_args!(
                "{branch}: {}",
                push::line(report, &location, took)
            ))?;
        } else {
            ui.answer(push::line(report, &location, took))?;
        }
    }
    for tag in done.tags.iter().flat_map(|tags| &tags.kept) {
        ui.warn(format_args!(
            "tag {tag} is at another snapshot at {location}, and stays there"
        ));
    }
    if let Some(tags) = &done.tags {
        if ui.is_json() {
            let sent = tags.sent.iter();
            ui.record(&serde_json::json!({
                "type": "push_tags", "v": 1, "location": location, "bytes": tags.bytes,
                "tags": sent
                    .map(|(tag, id)| serde_json::json!({ "tag": tag, "id": id.to_string() }))
                    .collect::<Vec<_>>(),
                "kept": tags.kept,
            }))?;
        } else {
            ui.answer(format_args!(
                "{} new at {location}",
                plural(tags.sent.len() as u64, "tag")
            ))?;
        }
    }
    match done.failed {
        Some(e) => Err(e.into()),
        None => Ok(()),
    }
}

/// Every local branch.
fn branches(context: &Context, managed: &zenith::managed::Managed) -> Result<Vec<String>, Failure> {
    let state = context.state(managed)?;
    let names = state.refs().keys();
    Ok(names
        .filter_map(|name| name.strip_prefix("branch/"))
        .map(str::to_owned)
        .collect())
}
