//! `zenith op log` and `zenith undo`.

use jiff::Timestamp;
use serde_json::{Value, json};
use zenith::head::Head;
use zenith::managed::Managed;
use zenith::store::{HeadMove, Logged, Operation, SnapshotId};
use zenith::undo::{self, Back, Undone};

use super::Context;
use crate::args::{OpLogArgs, UndoArgs};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::glyphs::Glyphs;
use crate::render::size::{plural, size};
use crate::render::time;

pub fn log(args: &OpLogArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let entries = if let Some(name) = &args.at.remote {
        undo::log(&context.storage(&managed, name)?, args.limit, args.all)?
    } else {
        let (repo, _guard) = managed.home.reader()?;
        undo::log(&repo, args.limit, args.all)?
    };
    let ui = &context.ui;
    let now = Timestamp::now();
    for logged in &entries {
        if ui.is_json() {
            ui.record(&record(logged))?;
            continue;
        }
        ui.answer(format_args!("{:>6}  {}", logged.seq, line(logged, now)))?;
        for moved in moves(logged, ui.glyphs()) {
            ui.answer(format_args!("        {moved}"))?;
        }
    }
    Ok(())
}

pub fn undo(args: &UndoArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let undone = if let Some(name) = &args.at.remote {
        undo::undo_storage(&context.storage(&managed, name)?, args.number, args.dry_run)?
    } else {
        let progress = Progress::new(&context.ui);
        undo::undo_home(&managed, args.number, args.dry_run, &|event| {
            progress.on(event);
        })?
    };
    let (ui, logged) = (&context.ui, &undone.logged);
    if ui.is_json() {
        let mut record = record(logged);
        record["type"] = json!("undone");
        record["dry_run"] = json!(args.dry_run);
        let back = undone.back.as_ref();
        let switched = back.and_then(|back| back.switched.as_ref());
        let saved = switched.and_then(|switched| switched.saved.as_ref());
        record["cluster"] = json!(back.map(|back| back.id.to_string()));
        record["saved"] = json!(saved.map(|taken| taken.report.id.to_string()));
        return ui.record(&record);
    }
    let did = if args.dry_run { "would undo" } else { "undid" };
    ui.answer(format_args!("{did}: {}", line(logged, Timestamp::now())))?;
    if let Some(back) = &undone.back {
        moved_back(back, context)?;
    }
    if let Some(did) = &undone.did {
        reversed(did, context)?;
    }
    let Some(Back { switched, .. }) = &undone.back else {
        return stays(&managed, &undone, args, context);
    };
    if switched.is_some() {
        ui.talk("next: zenith start");
    }
    Ok(())
}

/// What reversing did to refs and snapshots.
fn reversed(did: &Operation, context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    for change in &did.refs {
        let Some((kind, name)) = shown(&change.name) else {
            continue;
        };
        match change.to {
            Some(id) => ui.answer(format_args!("  {kind} {name} is back at {}", id.short()))?,
            None => ui.answer(format_args!("  {kind} {name} is gone"))?,
        }
    }
    let of = |ids: &[SnapshotId]| plural(ids.len() as u64, "snapshot");
    if !did.added.is_empty() {
        ui.answer(format_args!("  {} back", of(&did.added)))?;
    }
    if !did.removed.is_empty() {
        ui.answer(format_args!("  {} removed", of(&did.removed)))?;
    }
    Ok(())
}

/// Says so where the branch moved under the managed cluster.
fn stays(
    managed: &Managed,
    undone: &Undone,
    args: &UndoArgs,
    context: &Context,
) -> Result<(), Failure> {
    let (Head::Branch(branch), None) = (managed.home.head()?, &args.at.remote) else {
        return Ok(());
    };
    if undone.did.as_ref().is_some_and(|did| did.head.is_some()) {
        context.ui.talk(format_args!("HEAD is on {branch} again"));
        return Ok(());
    }
    let mut moved = undone.did.iter().flat_map(|did| &did.refs);
    if moved.any(|change| shown(&change.name) == Some(("branch", &branch))) {
        context.ui.talk(format_args!(
            "the managed cluster stays as it is; `zenith checkout {branch}` moves it to the branch"
        ));
    }
    Ok(())
}

/// The managed cluster is, or would be, what it was before a checkout.
fn moved_back(back: &Back, context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    let on = match &back.head {
        Head::Branch(branch) => format!("on {branch}"),
        Head::Detached(_) => "on no branch".to_owned(),
    };
    let Some(switched) = &back.switched else {
        return ui.answer(format_args!(
            "  the cluster would be back at what {} holds, {on}",
            back.id.short()
        ));
    };
    if let Some(saved) = &switched.saved {
        ui.answer(format_args!(
            "  saved what no snapshot held as {}  (on {})",
            saved.report.id.short(),
            saved.branch
        ))?;
    }
    ui.answer(format_args!(
        "  the cluster is back at what {} holds, {on}  {}, {} written",
        back.id.short(),
        size(switched.report.size),
        size(switched.report.written_bytes)
    ))?;
    Ok(())
}

fn line(logged: &Logged, now: Timestamp) -> String {
    let operation = &logged.operation;
    if logged.is_lost() {
        return format!("what it did is not known: {}", operation.detail);
    }
    let what = [operation.verb.as_str(), operation.detail.as_str()].join(" ");
    let age = time::age_of(operation.time.unix_micros, now);
    format!("{} ({age} ago, by {})", what.trim_end(), operation.who)
}

/// What moved, a line each; where the storage's branches and homes stand is no news.
fn moves(logged: &Logged, glyphs: Glyphs) -> Vec<String> {
    let arrow = glyphs.arrow();
    let short = |id: Option<SnapshotId>| id.map_or_else(|| "nothing".to_owned(), |id| id.short());
    let operation = &logged.operation;
    let mut lines: Vec<String> = operation
        .refs
        .iter()
        .filter_map(|change| {
            let (kind, name) = shown(&change.name)?;
            let (from, to) = (short(change.from), short(change.to));
            Some(format!("{kind} {name}: {from} {arrow} {to}"))
        })
        .collect();
    if let Some(HeadMove { from, to }) = &operation.head {
        if from.head != to.head {
            let (from, to) = (head(&from.head), head(&to.head));
            lines.push(format!("HEAD: {from} {arrow} {to}"));
        }
        if to.holds.is_some() && from.holds != to.holds {
            let was = from
                .holds
                .map_or_else(|| "unknown".to_owned(), |id| id.short());
            lines.push(format!("cluster: {was} {arrow} {}", short(to.holds)));
        }
    }
    for (ids, what) in [(&operation.added, "added"), (&operation.removed, "removed")] {
        if ids.len() > 3 {
            lines.push(format!("{what} {} snapshots", ids.len()));
        } else if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(SnapshotId::short).collect();
            lines.push(format!("{what} {}", ids.join(", ")));
        }
    }
    lines
}

/// The branch that HEAD is on, or the snapshot.
fn head(text: &str) -> String {
    match text.parse() {
        Ok(Head::Branch(branch)) => branch,
        Ok(Head::Detached(id)) => id.chars().take(8).collect(),
        Err(_) => text.to_owned(),
    }
}

fn shown(name: &str) -> Option<(&str, &str)> {
    let parts = name.split_once('/')?;
    matches!(parts.0, "branch" | "tag").then_some(parts)
}

/// `branch/main`, or the id of a snapshot.
fn full(head: &str) -> &str {
    head.strip_prefix("ref: ").unwrap_or(head)
}

fn record(logged: &Logged) -> Value {
    let operation = &logged.operation;
    let ids = |ids: &[SnapshotId]| ids.iter().map(SnapshotId::to_string).collect::<Vec<_>>();
    let refs: Vec<Value> = operation
        .refs
        .iter()
        .map(|change| {
            json!({
                "name": change.name,
                "from": change.from.map(|id| id.to_string()),
                "to": change.to.map(|id| id.to_string()),
            })
        })
        .collect();
    let when = (!logged.is_lost())
        .then(|| time::rfc3339(operation.time.unix_micros, operation.time.offset_secs));
    json!({
        "type": "operation", "v": 1, "number": logged.seq,
        "verb": operation.verb, "detail": operation.detail, "who": operation.who,
        "time": when,
        "refs": refs,
        "added": ids(&operation.added), "removed": ids(&operation.removed),
        "head": operation.head.as_ref().map(|moved| json!({
            "from": full(&moved.from.head), "to": full(&moved.to.head),
            "cluster_from": moved.from.holds.map(|id| id.to_string()),
            "cluster_to": moved.to.holds.map(|id| id.to_string()),
        })),
        "damaged": logged.is_lost(),
    })
}
