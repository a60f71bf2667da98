//! `zenith diff`: what changed between two snapshots, or a snapshot and the managed cluster.

use jiff::Timestamp;
use zenith::diff::{self, Diff};
use zenith::store::{Row, SnapshotId, State};

use super::Context;
use crate::args::DiffArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render;
use crate::render::diff::{End, Ends, Shown};

pub fn run(args: &DiffArgs, context: &Context) -> Result<(), Failure> {
    if !args.exit_code {
        return answer(args, context).map(drop);
    }
    match answer(args, context) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Differs),
        Err(e) => Err(Failure::Trouble(Box::new(e))),
    }
}

/// Answers; whether both sides are the same.
fn answer(args: &DiffArgs, context: &Context) -> Result<bool, Failure> {
    if let Some(table) = &args.rows {
        let before = args.before.as_deref().unwrap_or("HEAD");
        let after = args.after.as_deref();
        return super::rows::run(context, before, after, table, &args.scratch)
            .map(|differ| !differ);
    }
    if args.scratch.is_any() {
        return Err(Failure::usage("short-lived servers are for --rows alone"));
    }
    let managed = context.open()?;
    let state = context.state(&managed)?;
    let before = args.before.as_deref().unwrap_or("HEAD");
    let before = context.resolve_or_fetch(&managed, &state, before)?;
    let after = args.after.as_deref();
    let after = after
        .map(|revision| context.resolve_or_fetch(&managed, &state, revision))
        .transpose()?;
    // What was fetched just now is in a newer state.
    let state = context.state(&managed)?;
    let (repo, _guard) = managed.home.reader()?;
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let found = match after {
        Some(after) => diff::snapshots(&repo, before, after)?,
        None => diff::cluster(&managed, &repo, before, &on)?,
    };
    drop(progress);
    let now = Timestamp::now();
    let ends = Ends {
        before: end(&state, before, now),
        after: after.map(|id| end(&state, id, now)),
        glyphs: context.ui.glyphs(),
    };
    show(args, context, &found, &ends)?;
    for warning in &found.warnings {
        context.ui.warn(warning);
    }
    if found.is_moving {
        context
            .ui
            .talk("the server runs: what it has not written to disk yet is not in this");
    }
    Ok(found.is_empty())
}

fn end(state: &State, id: SnapshotId, now: Timestamp) -> End {
    let row: Option<&Row> = state.snapshot(&id);
    End {
        id,
        ago: row.map(|row| render::time::age_of(row.time.unix_micros, now)),
    }
}

fn show(args: &DiffArgs, context: &Context, diff: &Diff, ends: &Ends) -> Result<(), Failure> {
    let ui = &context.ui;
    let shown = Shown { all: args.all };
    if ui.is_json() {
        ui.record(&render::diff::record(diff, ends))?;
        for relation in shown.relations(diff) {
            ui.record(&render::diff::relation_record(relation))?;
        }
        if args.stat || args.all {
            for file in shown.files(diff, args.stat) {
                ui.record(&render::diff::file_record(file, diff.block_size))?;
            }
        }
        return Ok(());
    }
    let lines = if args.name_only {
        render::diff::names(diff, shown)
    } else if args.stat {
        render::diff::stat(diff, ends)
    } else {
        render::diff::lines(diff, ends, shown)
    };
    for line in lines {
        ui.answer(line)?;
    }
    Ok(())
}
