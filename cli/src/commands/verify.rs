//! `zenith verify`: is everything there and whole?

use serde_json::json;
use zenith::remote;
use zenith::store::Verify;

use super::Context;
use crate::args::VerifyArgs;
use crate::error::Failure;
use crate::render::size::{plural, size};

pub fn run(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let how = if args.read_data {
        Verify::ReadData
    } else {
        Verify::Quick
    };
    let (report, place) = if let Some(name) = &args.at.remote {
        let storage = context.storage(&managed, name)?;
        let place = remote::location(&managed, name)?;
        (storage.verify(how).map_err(zenith::Error::from)?, place)
    } else {
        let (repo, _guard) = managed.home.reader()?;
        let place = managed.home.dir().display().to_string();
        (repo.verify(how).map_err(zenith::Error::from)?, place)
    };
    let ui = &context.ui;
    if ui.is_json() {
        for (pack, why) in &report.bad_packs {
            ui.record(&json!({
                "type": "bad_pack", "v": 1, "pack": pack.to_string(), "why": why,
            }))?;
        }
        for (id, why) in &report.bad_snapshots {
            ui.record(&json!({
                "type": "bad_snapshot", "v": 1, "id": id.to_string(), "why": why,
            }))?;
        }
        ui.record(&json!({
            "type": "verify", "v": 1, "location": place, "read_data": args.read_data,
            "good": report.is_good(), "packs": report.packs, "bytes": report.bytes,
            "snapshots": report.snapshots,
        }))?;
    } else {
        for (pack, why) in &report.bad_packs {
            ui.answer(format_args!("pack {pack}: {why}"))?;
        }
        for (id, why) in &report.bad_snapshots {
            ui.answer(format_args!("snapshot {}: {why}", id.short()))?;
        }
    }
    if !report.is_good() {
        return Err(Failure::Damaged {
            place,
            packs: report.bad_packs.len(),
            snapshots: report.bad_snapshots.len(),
            of: report.snapshots,
        });
    }
    if ui.is_json() {
        return Ok(());
    }
    let looked = match how {
        Verify::Quick => "is there",
        Verify::ReadData => "was read and is whole",
    };
    ui.answer(format_args!(
        "{} in {} at {place}: everything {looked}, {}",
        plural(report.snapshots, "snapshot"),
        plural(report.packs, "pack"),
        size(report.bytes)
    ))?;
    if how == Verify::Quick {
        ui.talk("lengths and structure were checked; --read-data reads every byte");
    }
    Ok(())
}
