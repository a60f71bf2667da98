//! `zenith checkout`: a snapshot as a cluster, in a directory or as the managed one.

use std::path::Path;

use zenith::checkout::journal;
use zenith::facts::Facts;
use zenith::head::Head;
use zenith::managed;
use zenith::store::SnapshotId;
use zenith::switch::{self, SwitchOptions};

use super::Context;
use crate::args::CheckoutArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::place;
use crate::render::size::size;
use crate::render::snapshot::discarded;
use crate::render::time::took;

pub fn run(args: CheckoutArgs, context: &Context) -> Result<(), Failure> {
    let target = args.dir.as_deref().map(|dir| context.env.absolute(dir));
    zenith::home::Home::open(&context.home)?;
    if let Some(dir) = &target {
        let mapped: Vec<&Path> = args
            .tablespace_mapping
            .iter()
            .map(|(_, new)| new.as_path())
            .collect();
        make_room(&args.rev, dir, &mapped, context)?;
    }
    let managed = context.open()?;
    let state = context.state(&managed)?;
    let id = context.resolve_or_fetch(&managed, &state, &args.rev)?;
    let is_branch = state.get_ref(&format!("branch/{}", args.rev)) == Some(id);
    let to = match (&args.branch, is_branch) {
        (Some(new), _) => Head::Branch(new.clone()),
        (None, true) => Head::Branch(args.rev.clone()),
        (None, false) if ["HEAD", "@"].contains(&args.rev.as_str()) => managed.home.head()?,
        (None, false) => Head::Detached(id.to_string()),
    };
    let is_managed = target
        .as_deref()
        .is_none_or(|dir| journal::same_dir(dir, &managed.home.pgdata()));
    if args.dry_run {
        let dir = target.clone().unwrap_or_else(|| managed.home.pgdata());
        if context.ui.is_json() {
            return context.ui.record(&serde_json::json!({
                "type": "checkout_planned", "v": 1, "id": id.to_string(), "dir": dir,
                "managed": is_managed, "saves_first": is_managed && !args.force,
            }));
        }
        return context.ui.answer(format_args!(
            "would check out {} into {}{}",
            named(id, &args.rev),
            dir.display(),
            if is_managed && !args.force {
                ", after saving what no snapshot holds"
            } else {
                ""
            }
        ));
    }
    let options = SwitchOptions {
        force: args.force,
        unguarded: args.unguarded,
        tablespace_mapping: args.tablespace_mapping,
        no_sync: args.no_sync,
        new_branch: args.branch,
        saves_beside: false,
        part_of: None,
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let done = match target.as_deref().filter(|_| !is_managed) {
        None => switch::managed(&managed, id, &to, &options, &on)?,
        Some(dir) => switch::directory(&managed, id, dir, &options, &on)?,
    };
    let elapsed = progress.elapsed();
    drop(progress);
    let dir = target.unwrap_or_else(|| managed.home.pgdata());
    let ui = &context.ui;
    if ui.is_json() {
        return ui.record(&serde_json::json!({
            "type": "checkout", "v": 1,
            "id": id.to_string(),
            "dir": dir,
            "size": done.report.size,
            "files": done.report.files,
            "written_bytes": done.report.written_bytes,
            "removed": done.report.removed,
            "saved": done.saved.as_ref().map(|taken| taken.report.id.to_string()),
            "discarded": done.discarded.as_ref().map(|taken| taken.report.id.to_string()),
            "lineage": done.report.lineage.to_string(),
            "millis": elapsed.as_millis() as u64,
        }));
    }
    if let Some(saved) = &done.saved {
        ui.answer(format_args!(
            "saved what no snapshot held as {}  (on {})",
            saved.report.id.short(),
            saved.branch
        ))?;
    }
    if let Some(taken) = &done.discarded {
        ui.answer(discarded(taken))?;
    }
    let shown = place::path(&dir, &context.env.current_dir);
    let written = if done.report.written_bytes < done.report.size {
        format!(" ({} written)", size(done.report.written_bytes))
    } else {
        String::new()
    };
    ui.answer(format_args!(
        "checked out {} into {shown}  {}{written}, {}",
        named(id, &args.rev),
        size(done.report.size),
        took(elapsed)
    ))?;
    if is_managed {
        if let Head::Detached(_) = to {
            ui.talk("HEAD is at this snapshot without a branch; the next snapshot begins one");
        }
        ui.talk("next: zenith start");
    } else {
        let guard = if options.unguarded {
            "NOT guarded: it archives and replicates as its settings say"
        } else {
            "guarded: it will not archive or replicate"
        };
        ui.talk(format_args!(
            "start it: {} -D {} -o \"-p 5433\" start",
            context.typed(&managed, &dir, "pg_ctl"),
            place::quoted(&dir)
        ));
        ui.talk(guard);
    }
    Ok(())
}

/// `09d2e8f1 (v1.0)`, or the id alone where that was typed.
fn named(id: SnapshotId, revision: &str) -> String {
    if id.to_string().starts_with(revision) {
        id.short()
    } else {
        format!("{} ({revision})", id.short())
    }
}

/// As root: the directories that the home's owner is going to fill. Which tablespaces there are
/// only the snapshot knows, so it is looked at first.
pub fn make_room(
    revision: &str,
    dir: &Path,
    mapped: &[&Path],
    context: &Context,
) -> Result<(), Failure> {
    if !zenith::pg::user::is_root() {
        return Ok(());
    }
    let mut found = Ok(Facts::default());
    managed::as_owner(&context.home, || {
        found = facts(revision, context);
        Ok(())
    })?;
    let tablespaces = found?.tablespaces;
    context.give_target(dir)?;
    for new in mapped {
        context.give_target(new)?;
    }
    if tablespaces.len() > mapped.len() {
        let mut beside = dir.as_os_str().to_owned();
        beside.push(".tablespaces");
        context.give_target(Path::new(&beside))?;
    }
    Ok(())
}

fn facts(revision: &str, context: &Context) -> Result<Facts, Failure> {
    let managed = context.look()?;
    let state = context.state(&managed)?;
    let id = context.resolve_or_fetch(&managed, &state, revision)?;
    let (repo, _guard) = managed.home.reader()?;
    let snapshot = repo.snapshot(id).map_err(zenith::Error::from)?;
    Ok(Facts::decode(&snapshot.body, &id)?)
}
