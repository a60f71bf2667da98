//! `zenith clone`: a new home from a storage.

use zenith::clone::{self, CloneOptions};
use zenith::init::{InitOptions, Origin};
use zenith::settings::EncryptionSettings;

use super::Context;
use crate::args::CloneArgs;
use crate::error::Failure;
use crate::passphrase;
use crate::progress::Progress;
use crate::render::size::size;
use crate::render::time::took;
use crate::render::{self, place};

pub fn run(args: CloneArgs, context: &Context) -> Result<(), Failure> {
    let context = &context.at(&args.dir);
    context.env.refuse_memory(&args.url)?;
    let location = context.env.absolute_location(&args.url);
    clone::look(&context.home, &context.around(), &location)?;
    let pg_bin = args.pg_bin.or_else(|| context.env.pg_bin.clone());
    let mut init = InitOptions {
        storage_dest: Some(location.clone()),
        branch: args.branch,
        pg_bin: pg_bin.map(|dir| context.env.absolute(&dir)),
        port: args.port.or(context.env.port()?),
        attach_only: true,
        lazy: args.lazy,
        encryption: EncryptionSettings {
            passphrase_file: passphrase::file(
                &context.env,
                args.passphrase.passphrase_file.as_ref(),
            ),
            passphrase_command: args.passphrase.passphrase_command,
        },
        ..InitOptions::default()
    };
    super::init::ready(&mut init, args.pg_user.as_deref(), context)?;
    let options = CloneOptions {
        init,
        depth: args.depth.depth(),
        single_branch: args.single_branch,
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let done = clone::clone(&context.home, &context.around(), &options, &on)?;
    let elapsed = progress.elapsed();
    drop(progress);
    let (init, report, ui) = (&done.init, &done.report, &context.ui);
    let bytes = report.bytes
        + match &init.origin {
            Origin::Attached { bytes, .. } => *bytes,
            _ => 0,
        };
    if ui.is_json() {
        let branches = report.branches.iter();
        return ui.record(&serde_json::json!({
            "type": "clone", "v": 1,
            "home": context.home,
            "location": location,
            "branch": init.branch,
            "id": init.tip.to_string(),
            "was_home": init.was_home,
            "lazy": init.managed.settings.lazy,
            "bytes": bytes,
            "branches": branches
                .map(|b| serde_json::json!({ "branch": b.branch, "tip": b.to.to_string() }))
                .collect::<Vec<_>>(),
        }));
    }
    let shown = place::path(&context.home, &context.env.current_dir);
    let (branch, tip) = (&init.branch, init.tip.short());
    if init.was_home && bytes == 0 && report.is_up_to_date() {
        ui.answer(format_args!(
            "{shown} is a home of {location} already: {branch} at {tip}"
        ))?;
    } else {
        ui.answer(format_args!(
            "cloned {location} into {shown}: {branch} at {tip}  {}{}",
            match bytes {
                0 => String::new(),
                bytes => format!("{} fetched, ", size(bytes)),
            },
            took(elapsed)
        ))?;
        for line in render::fetch::changed(report, "origin", ui.glyphs()) {
            ui.answer(line)?;
        }
    }
    if init.managed.settings.lazy {
        ui.talk("packs stay there until they are read; `zenith fetch --full` brings them all");
    }
    if !init.managed.settings.primary {
        ui.talk("it starts guarded as a copy, until `zenith start --primary`");
    }
    let at = context.as_typed(&shown);
    ui.talk(format_args!("next: zenith {at}start"));
    Ok(())
}
