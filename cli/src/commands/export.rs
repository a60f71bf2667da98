//! `zenith export`: a snapshot as plain PostgreSQL files, as tar, or as a repository.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use zenith::emit::{self, EmitOptions, Emitted, NewFile, Target};
use zenith::import::Format;
use zenith::managed::{self, Managed};
use zenith::store::SnapshotId;

use super::Context;
use crate::args::{ExportArgs, ExportFormat};
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::place;
use crate::render::size::{count, size};
use crate::render::time::took;

pub fn run(args: ExportArgs, context: &Context) -> Result<(), Failure> {
    zenith::home::Home::open(&context.home)?;
    context.env.refuse_memory(&args.snapshot_path)?;
    let is_stream = args.snapshot_path == "-";
    let location = context.env.absolute_location(&args.snapshot_path);
    let dir = if is_stream {
        None
    } else {
        emit::local_dir(&location)?
    };
    // A name that ends so is a file, unless it is a directory already.
    let file = dir
        .as_deref()
        .filter(|path| path.extension().is_some_and(|ext| ext == "tar") && !path.is_dir());
    let format = match args.snapshot_format {
        Some(ExportFormat::Pgdata) => Format::Pgdata,
        Some(ExportFormat::Tar) => Format::Tar,
        Some(ExportFormat::Zenith) => Format::Zenith,
        None if is_stream || file.is_some() => Format::Tar,
        None => Format::Pgdata,
    };
    if is_stream && format != Format::Tar {
        return Err(Failure::usage(
            "only a tar can go to stdout: --snapshot-format tar",
        ));
    }
    let file = file.filter(|_| format == Format::Tar);
    if let (Some(dir), None) = (&dir, file) {
        let mapped: Vec<&Path> = args
            .tablespace_mapping
            .iter()
            .map(|(_, new)| new.as_path())
            .collect();
        super::checkout::make_room(&args.rev, dir, &mapped, context)?;
    }
    let options = EmitOptions {
        tablespace_mapping: args.tablespace_mapping,
        no_sync: args.no_sync,
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let to = |managed: &Managed, target: Target<'_>| -> Result<(SnapshotId, Emitted), Failure> {
        let state = context.state(managed)?;
        let id = context.resolve_or_fetch(managed, &state, &args.rev)?;
        let around = context.around();
        Ok((
            id,
            emit::emit(managed, &around, id, target, format, &options, &on)?,
        ))
    };
    let (id, done) = if let Some(path) = file {
        // Where it lies whoever typed may write, but perhaps not the owner of the home.
        let mut new = NewFile::create(&context.home, path)?;
        let mut out = BufWriter::with_capacity(1 << 20, new.writer());
        let name = path.display().to_string();
        let mut done = None;
        managed::as_owner(&context.home, || {
            let target = Target::Stream(&mut out, &name);
            done = Some(context.look().and_then(|managed| to(&managed, target)));
            Ok(())
        })?;
        let done = done.expect("it was asked for")?;
        out.flush().map_err(|source| zenith::Error::Io {
            verb: "write",
            path: path.to_owned(),
            source,
        })?;
        drop(out);
        new.keep(!options.no_sync)?;
        done
    } else {
        let managed = context.open()?;
        if is_stream {
            let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
            let done = to(&managed, Target::Stream(&mut out, "stdout"))?;
            out.flush().map_err(Failure::from_output)?;
            done
        } else {
            to(&managed, Target::Location(&location))?
        }
    };
    let elapsed = progress.elapsed();
    drop(progress);
    let ui = &context.ui;
    let (files, bytes) = match &done {
        Emitted::Files(report) => (Some(report.files), report.bytes),
        Emitted::Repository { bytes, .. } => (None, *bytes),
    };
    let shown = match &dir {
        Some(dir) => place::path(dir, &context.env.current_dir),
        None => location.clone(),
    };
    if ui.is_json() {
        let record = serde_json::json!({
            "type": "export", "v": 1,
            "id": id.to_string(),
            "format": format.word(),
            "location": if is_stream { "-" } else { &location },
            "files": files,
            "bytes": bytes,
            "millis": elapsed.as_millis() as u64,
        });
        // stdout is the archive itself then.
        return if is_stream {
            ui.record_aside(&record)
        } else {
            ui.record(&record)
        };
    }
    let what = match (&done, files) {
        (Emitted::Repository { branch, .. }, _) => format!("branch {branch}, {} sent", size(bytes)),
        (_, Some(files)) => format!("{} in {} files", size(bytes), count(files)),
        (_, None) => size(bytes),
    };
    let line = format!(
        "exported {} as {} to {shown}  {what}, {}",
        id.short(),
        format.word(),
        took(elapsed)
    );
    if is_stream {
        ui.talk(line);
        return Ok(());
    }
    ui.answer(line)?;
    if let (Format::Pgdata, Some(dir)) = (format, &dir) {
        let managed = context.look()?;
        ui.talk(format_args!(
            "check it: {} {}",
            context.typed(&managed, dir, "pg_verifybackup"),
            place::quoted(dir)
        ));
    }
    Ok(())
}
