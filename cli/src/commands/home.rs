//! `zenith home list|forget`: the homes that a repository keeps snapshots for.

use jiff::Timestamp;
use zenith::home::Wait;
use zenith::refs;
use zenith::{Error, remote};

use super::{Context, tag};
use crate::args::{HomeForgetArgs, HomeListArgs};
use crate::error::Failure;
use crate::render::refs::{Listed, listed, table};

pub fn list(args: &HomeListArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let state = if let Some(name) = &args.at.remote {
        context
            .storage(&managed, name)?
            .state()
            .map_err(Error::from)?
    } else {
        context.state(&managed)?
    };
    let homes: Vec<Listed> = refs::homes(&state)
        .into_iter()
        .map(|known| {
            let is_own = known.home == managed.settings.home_id;
            listed("home", known.home, is_own, Some(known.at), &state)
        })
        .collect();
    let ui = &context.ui;
    if ui.is_json() {
        return homes.iter().try_for_each(|one| {
            ui.record(&serde_json::json!({
                "type": "home", "v": 1, "home": one.name, "own": one.head,
                "id": one.id, "time": one.time, "message": one.message,
            }))
        });
    }
    if homes.is_empty() {
        ui.talk(if args.at.remote.is_some() {
            "no home has pushed there yet"
        } else {
            "no home pushes here; --remote lists those of the storage"
        });
        return Ok(());
    }
    let lines = table("HOME", &homes, Timestamp::now(), ui.glyphs());
    tag::lines(&lines, context)?;
    if let Some(name) = &args.at.remote {
        ui.talk(remote::location(&managed, name)?);
    }
    Ok(())
}

pub fn forget(args: &HomeForgetArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let known = if let Some(name) = &args.at.remote {
        refs::forget_home(&context.storage(&managed, name)?, &args.id, args.dry_run)?
    } else {
        let lock = managed.home.lock("home forget", Wait::Forever)?;
        refs::forget_home(&managed.home.writer(&lock)?, &args.id, args.dry_run)?
    };
    let ui = &context.ui;
    let at = known.at.short();
    ui.warn(format_args!(
        "what home {} did not push yet builds on {at}: it may be lost once that is deleted and \
         collected",
        known.home
    ));
    if ui.is_json() {
        return ui.record(&serde_json::json!({
            "type": "home_forgotten", "v": 1, "home": known.home,
            "id": known.at.to_string(), "dry_run": args.dry_run,
        }));
    }
    let verb = if args.dry_run {
        "would forget"
    } else {
        "forgot"
    };
    ui.answer(format_args!("{verb} home {}  (it was at {at})", known.home))
}
