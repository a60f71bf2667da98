//! `zenith pull`: fetch, then forward.

use zenith::fetch::{self, PullOptions, Pulled};
use zenith::remote;
use zenith::sync::ORIGIN;
use zenith::who::{operation, verb};

use super::Context;
use crate::args::PullArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render;

pub fn run(args: &PullArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let name = args.remote.as_deref().unwrap_or(ORIGIN);
    let location = remote::location(&managed, name)?;
    let what = "a pull moves a branch; `zenith checkout BRANCH` goes back to one";
    let options = PullOptions {
        remote: name.to_owned(),
        branch: context.branch(&managed, what)?,
        depth: args.depth.depth(),
        force: args.force,
        dry_run: args.dry_run,
        operation: operation(managed.home.world(), verb::PULL, name),
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let storage = remote::open(&managed, &context.around(), name)?;
    let (report, pulled) = fetch::pull(&managed, &storage, &options, &on)?;
    let took = progress.elapsed();
    drop(progress);
    let ui = &context.ui;
    if ui.is_json() {
        let record = render::fetch::pull_record(&report, &pulled, &options, &location);
        return ui.record(&record);
    }
    let glyphs = ui.glyphs();
    for line in render::fetch::pull_lines(&report, &pulled, &options, &location, took, glyphs) {
        ui.answer(line)?;
    }
    if let (
        Pulled::Moved {
            switched: Some(_), ..
        },
        false,
    ) = (&pulled, args.dry_run)
    {
        ui.talk("next: zenith start");
    }
    Ok(())
}
