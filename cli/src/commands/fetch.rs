//! `zenith fetch`: what a remote has comes home.

use zenith::fetch::{self, Depth, FetchOptions};
use zenith::managed::Managed;
use zenith::remote;
use zenith::sync::ORIGIN;
use zenith::who::{operation, verb};

use super::Context;
use crate::args::{DepthArgs, FetchArgs};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render;
use crate::render::size::{plural, size};

pub fn run(args: &FetchArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let (name, branches) = split(&managed, &args.names);
    if args.all && !branches.is_empty() {
        return Err(Failure::usage(format!(
            "--all is every branch, and {} is named",
            branches[0]
        )));
    }
    let location = remote::location(&managed, name)?;
    let options = FetchOptions {
        remote: name.to_owned(),
        branches: branches.to_vec(),
        all: args.all,
        tags: args.tags,
        prune: args.prune,
        depth: args.depth.depth(),
        dry_run: args.dry_run,
        operation: operation(managed.home.world(), verb::FETCH, name),
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let storage = remote::open(&managed, &context.around(), name)?;
    let mut report = fetch::fetch(&managed.home, &storage, &options, &on)?;
    let completes = args.depth.full && managed.home.is_lazy() && name == ORIGIN && !args.dry_run;
    if completes {
        let (packs, bytes) = fetch::complete(&managed.home, &storage, &on)?;
        report.packs += packs;
        report.bytes += bytes;
    }
    let took = progress.elapsed();
    drop(progress);
    let ui = &context.ui;
    if ui.is_json() {
        let records = render::fetch::records(&report, name, &location, args.dry_run);
        return records.iter().try_for_each(|record| ui.record(record));
    }
    let glyphs = ui.glyphs();
    for line in render::fetch::lines(&report, name, &location, args.dry_run, took, glyphs) {
        ui.answer(line)?;
    }
    if completes {
        ui.answer(format_args!(
            "the home is complete: {} ({}) came",
            plural(report.packs, "pack"),
            size(report.bytes)
        ))?;
    }
    for tag in &report.tags_kept {
        ui.warn(format_args!(
            "tag {tag} is at another snapshot at {location}; the one here stays"
        ));
    }
    if let Some(hint) = render::fetch::next(&report, name) {
        ui.talk(hint);
    }
    Ok(())
}

/// A remote, where the first word names one, and branches.
fn split<'a>(managed: &Managed, names: &'a [String]) -> (&'a str, &'a [String]) {
    let known = remote::names(managed);
    match names.split_first() {
        Some((first, rest)) if first == ORIGIN || known.contains(first) => (first, rest),
        _ => (ORIGIN, names),
    }
}

impl DepthArgs {
    /// In the engine's words.
    pub fn depth(self) -> Depth {
        if self.full {
            return Depth::Full;
        }
        Depth::of(self.depth)
    }
}
