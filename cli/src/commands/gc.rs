//! `zenith gc`: the space of what no snapshot uses.

use serde_json::json;
use zenith::remote;
use zenith::scratch;
use zenith::space::{self, Gc};

use super::Context;
use crate::args::GcArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::size::{plural, size};

pub fn run(args: &GcArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let gc = Gc {
        dry_run: args.dry_run,
        at_once: args.now,
    };
    let progress = Progress::of(&context.ui, "collecting");
    let (done, place) = if let Some(name) = &args.at.remote {
        let storage = context.storage(&managed, name)?;
        let place = remote::location(&managed, name)?;
        (space::collect_storage(&storage, gc)?, place)
    } else {
        let place = managed.home.dir().display().to_string();
        if !args.dry_run {
            scratch::clear(&managed.home, &|event| progress.on(event))?;
        }
        (space::collect_home(&managed, gc)?, place)
    };
    drop(progress);
    let ui = &context.ui;
    if ui.is_json() {
        return ui.record(&json!({
            "type": "gc", "v": 1, "location": place, "dry_run": args.dry_run,
            "deleted_packs": done.packs, "deleted_bytes": done.bytes,
            "condemned_packs": done.condemned, "condemned_bytes": done.condemned_bytes,
            "waiting_packs": done.waiting, "waiting_bytes": done.waiting_bytes,
            "orphan_packs": done.orphans, "orphan_bytes": done.orphan_bytes,
            "rewritten_bytes": done.rewritten, "fenced_sessions": done.fenced,
            "deleted_roots": done.roots, "damaged_packs": done.damaged,
        }));
    }
    let would = args.dry_run;
    match (done.packs + done.orphans, would) {
        (0, true) if done.condemned > 0 => {
            ui.answer(format_args!("would free nothing yet at {place}"))?;
        }
        (0, _) => ui.answer(format_args!("nothing to free at {place}"))?,
        (packs, dry_run) => ui.answer(format_args!(
            "{} {} in {} at {place}",
            if dry_run { "would free" } else { "freed" },
            size(done.bytes + done.orphan_bytes),
            plural(packs, "pack")
        ))?,
    }
    match (done.rewritten, would) {
        (0, _) => {}
        (bytes, true) => ui.answer(format_args!(
            "  about {} would be written anew out of packs that are small or mostly dead",
            size(bytes)
        ))?,
        (bytes, false) => ui.answer(format_args!(
            "  {} written anew out of packs that were small or mostly dead",
            size(bytes)
        ))?,
    }
    if done.damaged > 0 {
        ui.talk(format!(
            "{} left as they are, being damaged; see `zenith verify --read-data`",
            plural(done.damaged, "pack")
        ));
    }
    if would && done.condemned > 0 {
        ui.answer(format_args!(
            "  {} in {} would be condemned",
            size(done.condemned_bytes),
            plural(done.condemned, "pack")
        ))?;
    }
    if done.waiting > 0 {
        ui.answer(format_args!(
            "  {} in {} {}wait a day, in case they are needed again",
            size(done.waiting_bytes),
            plural(done.waiting, "pack"),
            if would { "would " } else { "" },
        ))?;
        if !args.now {
            ui.talk("--now deletes them at once");
        }
    }
    Ok(())
}
