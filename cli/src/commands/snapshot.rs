//! `zenith snapshot create|list|show|delete`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use zenith::facts::Facts;
use zenith::head::Head;
use zenith::history::History;
use zenith::home::Wait;
use zenith::refs::Kind;
use zenith::store::{Row, SnapshotId, SnapshotKind, State};
use zenith::take::{self, Elsewhere, Take};
use zenith::{forget, remote, sync};

use super::Context;
use crate::args::{CreateArgs, DeleteArgs, ListArgs, ShowArgs};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::size::{plural, size};
use crate::render::snapshot::{self, Shown};
use crate::ui::Tone;

pub fn create(args: CreateArgs, context: &Context) -> Result<(), Failure> {
    let mut managed = context.open()?;
    args.damage.apply(&mut managed.settings);
    let cluster = args.pgdata.map(|dir| Elsewhere {
        pgdata: context.env.absolute(&dir),
        dsn: args.dsn,
    });
    let take = Take {
        message: args.message.unwrap_or_default(),
        kind: Some(SnapshotKind::Manual),
        branch: args.branch,
        fast: true,
        read_all: args.read_all,
        verb: "snapshot create",
        cluster,
        ..Take::default()
    };
    let progress = Progress::new(&context.ui);
    let lock = managed.home.lock(take.verb, Wait::Forever)?;
    let taken = take::take(&managed, &lock, &take, &|event| progress.on(event))?;
    drop(lock);
    let took = progress.elapsed();
    drop(progress);
    let (ui, report) = (&context.ui, &taken.report);
    if taken.new_branch {
        ui.talk(format_args!("branch {} begins here", taken.branch));
    }
    if ui.is_json() {
        ui.record(&snapshot::taken_record(report, &taken.branch, took))
    } else if ui.is_quiet() {
        ui.answer(report.id)
    } else {
        ui.answer(snapshot::taken(report, &taken.branch, took))
    }
}

pub fn list(args: &ListArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let state = match &args.at.remote {
        Some(name) => {
            let storage = context.storage(&managed, name)?;
            storage.state().map_err(zenith::Error::from)?
        }
        None => context.state(&managed)?,
    };
    let head = managed.home.head()?;
    let here = stands_at(&state, &head);
    let of_branch = match (&args.branch, args.all) {
        (_, true) => None,
        (Some(branch), _) => Some(Kind::Branch.find(&state, branch)?),
        // A home without a snapshot has an empty list.
        (None, _) => here,
    };
    let wanted: Option<BTreeSet<SnapshotId>> = (!args.all).then(|| {
        let history = History::of(&state);
        of_branch
            .map(|tip| history.ancestors(tip).iter().map(|node| node.id).collect())
            .unwrap_or_default()
    });
    // Nothing that lies at the storage waits to go there.
    let waiting = if args.at.remote.is_some() {
        sync::Unpushed::default()
    } else {
        sync::unpushed(&state)
    };
    let unpushed: BTreeSet<SnapshotId> = waiting.rows.iter().map(|row| row.id).collect();
    let mut rows: Vec<&Row> = state
        .snapshots()
        .filter(|row| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&row.id))
        })
        .collect();
    // By time, and where that is equal in the order of commit.
    rows.sort_by_key(|row| (row.time.unix_micros, row.serial));
    let all = rows.len();
    let shown = rows
        .into_iter()
        .rev()
        .take(args.limit.unwrap_or(usize::MAX));
    let listed = snapshot::listed(shown, &state, here, &unpushed, false);
    let ui = &context.ui;
    if ui.is_json() {
        return listed.iter().try_for_each(|one| ui.record(one));
    }
    for (i, line) in snapshot::list(&listed, Timestamp::now(), ui.glyphs())
        .into_iter()
        .enumerate()
    {
        let line = ui.fit(&line);
        ui.answer(match i {
            0 => ui.tone(line, Tone::Faint),
            _ => ui.marked(&line),
        })?;
    }
    if listed.len() < all {
        ui.talk(format_args!(
            "{} more, --limit {all} shows them",
            all - listed.len()
        ));
    }
    if let Some(name) = &args.at.remote {
        let location = remote::location(&managed, name)?;
        let how = if name == sync::ORIGIN {
            "checkout and export fetch what is not here".to_owned()
        } else {
            format!("`zenith fetch {name}` brings what is not here")
        };
        ui.talk(format_args!("{} at {location}; {how}", state.len()));
    } else if managed.settings.storage_dest.is_some() {
        let pushed = state.len() - waiting.rows.len();
        let waiting_text = match waiting.rows.len() {
            0 => String::new(),
            n => format!(", {n} waiting ({})", size(waiting.bytes)),
        };
        ui.talk(format_args!("{pushed} pushed{waiting_text}"));
    }
    Ok(())
}

pub fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let state = context.state(&managed)?;
    let id = context.resolve(&managed, &state, &args.rev)?;
    let (repo, _guard) = managed.home.reader()?;
    let snapshot = repo.snapshot(id).map_err(zenith::Error::from)?;
    let facts = Facts::decode(&snapshot.body, &id)?;
    let unpushed = sync::unpushed(&state);
    let names = state
        .refs()
        .iter()
        .filter(|(name, at)| **at == id && !name.starts_with("homes/"));
    let shown = Shown {
        id,
        row: state.snapshot(&id),
        snapshot: &snapshot,
        facts: &facts,
        refs: names.map(|(name, _)| name.clone()).collect(),
        pushed: managed
            .settings
            .storage_dest
            .as_ref()
            .map(|_| !unpushed.rows.iter().any(|row| row.id == id)),
    };
    if context.ui.is_json() {
        return context.ui.record(&shown.record());
    }
    let lines = shown.lines(Timestamp::now(), context.ui.is_verbose());
    lines.iter().try_for_each(|line| context.ui.answer(line))
}

pub fn delete(args: &DeleteArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let (state, id, gone) = if let Some(name) = &args.at.remote {
        let storage = context.storage(&managed, name)?;
        let state = storage.state().map_err(zenith::Error::from)?;
        let id = context.resolve(&managed, &state, &args.rev)?;
        let gone = forget::forget_at(&managed, name, &storage, id, args.force, args.dry_run)?;
        (state, id, gone)
    } else {
        let state = context.state(&managed)?;
        let id = context.resolve(&managed, &state, &args.rev)?;
        let gone = forget::forget(&managed, id, args.force, args.dry_run)?;
        (state, id, gone)
    };
    let ui = &context.ui;
    if args.at.remote.is_some() && !gone.moved.is_empty() {
        let names: Vec<&str> = gone.moved.iter().map(|(name, _)| name.as_str()).collect();
        ui.warn(format_args!(
            "a home that still has {} pushes it again with {}",
            id.short(),
            names.join(", ")
        ));
    }
    if ui.is_json() {
        let moved: Vec<_> = gone
            .moved
            .iter()
            .map(|(name, to)| serde_json::json!({ "branch": name, "to": to.map(|id| id.to_string()) }))
            .collect();
        return ui.record(&serde_json::json!({
            "type": "snapshot_deleted", "v": 1,
            "id": id.to_string(), "dry_run": args.dry_run, "branches": moved, "tags": gone.tags,
        }));
    }
    let verb = if args.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let new = state.snapshot(&id).map_or(0, |row| row.new_bytes);
    ui.answer(format_args!(
        "{verb} snapshot {}  ({} came with it)",
        id.short(),
        size(new)
    ))?;
    for (branch, to) in &gone.moved {
        match to {
            Some(to) => ui.answer(format_args!(
                "  branch {branch} steps back to {}",
                to.short()
            ))?,
            None => ui.answer(format_args!("  branch {branch} goes with it"))?,
        }
    }
    if !gone.tags.is_empty() {
        let tags = plural(gone.tags.len() as u64, "tag");
        ui.answer(format_args!("  {tags} with it: {}", gone.tags.join(", ")))?;
    }
    Ok(())
}

/// The snapshot that HEAD is at.
pub fn stands_at(state: &State, head: &Head) -> Option<SnapshotId> {
    match head {
        Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")),
        Head::Detached(id) => id.parse().ok(),
    }
}
