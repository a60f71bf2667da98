//! `zenith push`: what the storage does not have yet.

use zenith::head::Head;
use zenith::{publish, sync};

use super::Context;
use crate::args::PushArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::push;
use crate::render::size::{plural, size};

pub fn run(args: &PushArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let location = publish::location(&managed)?.to_owned();
    let branch = match (&args.branch, managed.home.head()?) {
        (Some(branch), _) => branch.clone(),
        (None, Head::Branch(branch)) => branch,
        (None, Head::Detached(id)) => {
            return Err(Failure::usage(format!(
                "HEAD is at {} without a branch: say which one with --branch",
                &id[..8]
            )));
        }
    };
    if args.dry_run {
        let waiting = sync::unpushed(&*context.state(&managed)?);
        return context.ui.answer(format_args!(
            "would push {} ({}) to {location}",
            plural(waiting.rows.len() as u64, "snapshot"),
            size(waiting.bytes)
        ));
    }
    let progress = Progress::new(&context.ui);
    let report = publish::push_branch(&managed, &context.around(), &location, &branch, &|event| {
        progress.on(event);
    })?;
    let took = progress.elapsed();
    drop(progress);
    if context.ui.is_json() {
        return context.ui.record(&push::record(&report, &location));
    }
    context.ui.answer(push::line(&report, &location, took))
}
