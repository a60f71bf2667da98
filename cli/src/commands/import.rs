//! `zenith import`: a cluster that lies elsewhere becomes a snapshot.

use zenith::bring::{self, Source};
use zenith::head::Head;
use zenith::home::Wait;
use zenith::import::Format;

use super::Context;
use crate::args::{ImportArgs, ImportFormat};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::snapshot;

pub fn run(args: ImportArgs, context: &Context) -> Result<(), Failure> {
    let source = source(&args.snapshot_path, args.snapshot_format, context)?;
    let mut managed = context.open()?;
    args.damage.apply(&mut managed.settings);
    let branch = match (args.branch, managed.home.head()?) {
        (Some(branch), _) | (None, Head::Branch(branch)) => branch,
        (None, Head::Detached(id)) => {
            return Err(Failure::usage(format!(
                "HEAD is at {} without a branch: say which one gets the import with --branch",
                &id[..8]
            )));
        }
    };
    let message = args.message.unwrap_or_default();
    let progress = Progress::new(&context.ui);
    let lock = managed.home.lock("import", Wait::Forever)?;
    let on = |event| progress.on(event);
    let report = bring::bring(
        &managed,
        &lock,
        &context.around(),
        &source,
        &branch,
        &message,
        &on,
    )?;
    drop(lock);
    let took = progress.elapsed();
    drop(progress);
    let ui = &context.ui;
    if ui.is_json() {
        ui.record(&snapshot::taken_record(&report, &branch, took))
    } else if ui.is_quiet() {
        ui.answer(report.id)
    } else {
        ui.answer(snapshot::taken(&report, &branch, took))
    }
}

/// Where a cluster lies, as it was typed.
pub fn source(path: &str, format: ImportFormat, context: &Context) -> Result<Source, Failure> {
    let format = match format {
        ImportFormat::Auto => None,
        ImportFormat::Pgdata => Some(Format::Pgdata),
        ImportFormat::Tar => Some(Format::Tar),
        ImportFormat::Zenith => Some(Format::Zenith),
    };
    if path == "-" && !matches!(format, None | Some(Format::Tar)) {
        return Err(Failure::usage(
            "only a tar can come from stdin: --snapshot-format tar",
        ));
    }
    context.env.refuse_memory(path)?;
    Ok(Source::new(context.env.absolute_location(path), format)?)
}
