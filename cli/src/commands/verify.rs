//! `zenith verify`: is everything there and whole? With `--repair`: who else has it?

use serde_json::{Value, json};
use zenith::remote;
use zenith::store::verify::WHOLE;
use zenith::store::{Brought, Damage, Lost, Recovered, Verify};
use zenith::verify::{self, Mended, Verified};

use super::Context;
use crate::args::VerifyArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::size::{plural, size};
use crate::ui::Ui;

/// Lines of one kind that people are shown.
const LINES: usize = 20;

pub fn run(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let how = match (args.sample, args.read_data) {
        (Some(part), _) => Verify::Sample(part),
        (None, true) => Verify::ReadData,
        (None, false) => Verify::Quick,
    };
    let place = match &args.at.remote {
        Some(name) => remote::location(&managed, name)?,
        None => managed.home.dir().display().to_string(),
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let (mended, found) = match (&args.at.remote, args.repair) {
        (None, false) => (None, verify::home(&managed, how, &on)?),
        (Some(name), false) => {
            let storage = context.storage(&managed, name)?;
            (None, verify::repository(&storage, how, &on)?)
        }
        (None, true) => {
            let mended = verify::repair_home(&managed, &context.around(), &on)?;
            (Some(mended.clone()), mended.left)
        }
        (Some(name), true) => {
            let mended = verify::repair_remote(&managed, &context.around(), name, &on)?;
            (Some(mended.clone()), mended.left)
        }
    };
    drop(progress);
    let ui = &context.ui;
    for (source, why) in mended.iter().flat_map(|m| &m.done.unavailable) {
        ui.warn(format_args!("{source} could not be asked: {why}"));
    }
    if ui.is_json() {
        records(ui, &found)?;
        ui.record(&match &mended {
            Some(mended) => repair_record(mended, &place),
            None => verify_record(&found, how, &place),
        })?;
    } else {
        if let Some(mended) = &mended {
            repaired(ui, mended)?;
        }
        lines(ui, &found)?;
    }
    let report = &found.report;
    let home = context.as_typed(&managed.home.dir().display().to_string());
    let at = match args.at.remote.as_deref() {
        None => String::new(),
        Some(zenith::sync::ORIGIN) => " --remote".to_owned(),
        Some(name) => format!(" --remote={name}"),
    };
    for (segment, why) in report.bad_segments.iter().take(LINES) {
        ui.warn(format_args!(
            "index segment {segment}: {why}; nothing is lost: packs are asked instead, which takes \
             longer, until `zenith {home}verify --repair{at}` writes it anew"
        ));
    }
    if !report.is_good() {
        return Err(Failure::Damaged {
            place,
            packs: report.bad_packs.len(),
            snapshots: report.bad_snapshots.len(),
            of: report.snapshots,
            repair: (!args.repair).then(|| format!("zenith {home}verify --repair{at}")),
        });
    }
    if ui.is_json() {
        return Ok(());
    }
    let read = match (how, args.repair) {
        (Verify::ReadData, _) | (_, true) => ": everything was read and is whole".to_owned(),
        (Verify::Quick, false) => ": everything is there".to_owned(),
        (Verify::Sample(_), false) => format!(
            ": everything is there; {} of {}, chosen at random, were read and are whole",
            size(report.read_bytes),
            size(report.bytes)
        ),
    };
    ui.answer(format_args!(
        "{} in {} at {place}{read}{}",
        plural(report.snapshots, "snapshot"),
        plural(report.packs, "pack"),
        match how {
            Verify::Sample(_) => String::new(),
            _ => format!(", {}", size(report.bytes)),
        }
    ))?;
    if how == Verify::Quick && !args.repair {
        ui.talk("lengths and structure were checked; --read-data reads every byte");
    }
    Ok(())
}

/// `5%`, `0.5%` or `5`: a part of everything, in ten-thousandths.
pub fn parse_sample(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number
        .parse()
        .map_err(|_| "a percentage such as 5% or 0.5% is needed".to_owned())?;
    let part = (percent * f64::from(WHOLE) / 100.0).round();
    if !(1.0..=f64::from(WHOLE)).contains(&part) {
        return Err("it must be from 0.01% to 100%".to_owned());
    }
    Ok(part as u32)
}

fn records(ui: &Ui, found: &Verified) -> Result<(), Failure> {
    for (pack, why) in &found.report.bad_packs {
        ui.record(&json!({
            "type": "bad_pack", "v": 1, "pack": pack.to_string(), "why": why,
        }))?;
    }
    for (segment, why) in &found.report.bad_segments {
        ui.record(&json!({
            "type": "bad_segment", "v": 1, "segment": segment.to_string(), "why": why,
        }))?;
    }
    for (id, why) in &found.report.bad_snapshots {
        ui.record(&json!({
            "type": "bad_snapshot", "v": 1, "id": id.to_string(), "why": why,
        }))?;
    }
    for (damage, relation) in found.report.damage.iter().zip(&found.relations) {
        ui.record(&damage_record(damage, relation.as_deref()))?;
    }
    Ok(())
}

fn damage_record(damage: &Damage, relation: Option<&str>) -> Value {
    let (what, size, parts) = match &damage.lost {
        Lost::File { size, parts } => ("file", Some(*size), parts.as_slice()),
        Lost::Directory => ("directory", None, &[][..]),
        Lost::Snapshot => ("snapshot", None, &[][..]),
    };
    let parts: Vec<Value> = parts
        .iter()
        .map(|(offset, bytes)| json!({ "offset": offset, "bytes": bytes }))
        .collect();
    let snapshots: Vec<String> = damage.snapshots.iter().map(ToString::to_string).collect();
    json!({
        "type": "damage", "v": 1, "path": damage.path, "what": what, "relation": relation,
        "size": size, "lost": parts, "snapshots": snapshots,
    })
}

fn verify_record(found: &Verified, how: Verify, place: &str) -> Value {
    let report = &found.report;
    let sample = match how {
        Verify::Sample(part) => Some(part),
        _ => None,
    };
    json!({
        "type": "verify", "v": 1, "location": place, "read_data": how == Verify::ReadData,
        "sample": sample, "read_bytes": report.read_bytes, "good": report.is_good(),
        "packs": report.packs, "bytes": report.bytes, "snapshots": report.snapshots,
    })
}

fn repair_record(mended: &Mended, place: &str) -> Value {
    let done = &mended.done;
    let healed: Vec<Value> = done
        .from
        .iter()
        .map(|(from, brought)| {
            json!({
                "from": from, "packs": brought.packs, "pack_bytes": brought.pack_bytes,
                "pieces": brought.blobs, "piece_bytes": brought.blob_bytes,
            })
        })
        .collect();
    let log = &done.log;
    let back: Vec<Value> = log
        .snapshots
        .iter()
        .map(|(id, branch)| json!({ "id": id.to_string(), "branch": branch }))
        .collect();
    let incomplete: Vec<Value> = log
        .incomplete
        .iter()
        .map(|(id, why)| json!({ "id": id.to_string(), "why": why }))
        .collect();
    let refs: Vec<Value> = log
        .refs
        .iter()
        .map(|(name, id)| json!({ "name": name, "id": id.to_string() }))
        .collect();
    let unavailable: Vec<Value> = done
        .unavailable
        .iter()
        .map(|(source, why)| json!({ "source": source, "why": why }))
        .collect();
    let retired: Vec<String> = done.retired.iter().map(ToString::to_string).collect();
    let renamed: Vec<Value> = done
        .renamed
        .iter()
        .map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string() }))
        .collect();
    json!({
        "type": "repair", "v": 1, "location": place, "good": done.after.is_good(),
        "header": mended.header, "packs": done.before.packs, "bytes": done.before.bytes,
        "snapshots": done.before.snapshots, "healed": healed,
        "retired_packs": retired, "renamed_packs": renamed,
        "lost_root": log.lost.as_ref().map(|(seq, _)| seq),
        "lost_root_why": log.lost.as_ref().map(|(_, why)| why),
        "goes_on_from": log.base, "new_root": log.root,
        "unknown_from": log.unknown().map(|(first, _)| first),
        "unknown_to": log.unknown().map(|(_, last)| last),
        "lost_tables": log.tables, "snapshots_back": back, "incomplete": incomplete,
        "refs_lost": refs, "unavailable": unavailable, "segments": done.segments,
    })
}

/// What a repair did, for people.
fn repaired(ui: &Ui, mended: &Mended) -> Result<(), Failure> {
    let done = &mended.done;
    if let Some(why) = &mended.header {
        ui.answer(format_args!("wrote zenith.json anew: {why}"))?;
    }
    log_mended(ui, &done.log)?;
    for (from, brought) in &done.from {
        ui.answer(format_args!("healed {} from {from}", amount(brought)))?;
    }
    if done.segments > 0 {
        let segments = plural(done.segments, "index segment");
        ui.answer(format_args!("wrote {segments} anew"))?;
    }
    let moved: Vec<_> = done.retired.iter().collect();
    capped(ui, &moved, "packs", |pack| {
        format!("pack {pack} is not used any more: what was whole in it has moved")
    })?;
    let nothing = mended.header.is_none() && done.segments == 0 && !done.log.did_anything();
    if done.before.is_good() && nothing {
        ui.talk("nothing had to be repaired");
    }
    Ok(())
}

fn log_mended(ui: &Ui, log: &Recovered) -> Result<(), Failure> {
    if let (Some((seq, why)), Some(root)) = (&log.lost, log.root) {
        let base = match log.base {
            Some(base) if base == *seq => "what is left of it".to_owned(),
            Some(base) => format!("root {base}"),
            None => "nothing: no root before it can be read".to_owned(),
        };
        ui.answer(format_args!("root {seq} cannot be read: {why}"))?;
        ui.answer(format_args!("  root {root} goes on from {base}"))?;
    }
    if let Some((first, last)) = log.unknown() {
        let which = match first == last {
            true => format!("root {first}"),
            false => format!("roots {first} to {last}"),
        };
        ui.answer(format_args!(
            "  what {which} did to branches, tags and snapshots is not known"
        ))?;
    }
    for table in &log.tables {
        ui.answer(format_args!("  made anew from the packs: {table}"))?;
    }
    capped(
        ui,
        &log.snapshots,
        "snapshots",
        |(id, branch)| match branch {
            Some(branch) => format!("  snapshot {} is back, as branch {branch}", id.short()),
            None => format!("  snapshot {} is back", id.short()),
        },
    )?;
    if let Some(branch) = log.snapshots.iter().find_map(|(_, branch)| branch.as_ref()) {
        ui.talk(format_args!(
            "next: `zenith branch NAME {branch}` gives them a name again; `zenith snapshot list \
             --all` shows all there are"
        ));
    }
    capped(ui, &log.incomplete, "snapshots", |(id, why)| {
        format!(
            "  snapshot {} is not complete and stays away: {why}",
            id.short()
        )
    })?;
    capped(ui, &log.refs, "names", |(name, id)| {
        let name = name.replacen('/', " ", 1);
        format!(
            "  {name} is gone: it stood at {}, which is lost",
            id.short()
        )
    })
}

fn amount(brought: &Brought) -> String {
    let mut parts = Vec::new();
    if brought.packs > 0 {
        let packs = plural(brought.packs, "pack");
        parts.push(format!("{packs} ({})", size(brought.pack_bytes)));
    }
    if brought.blobs > 0 {
        let pieces = plural(brought.blobs, "piece");
        parts.push(format!("{pieces} ({})", size(brought.blob_bytes)));
    }
    parts.join(" and ")
}

/// What is damaged, for people.
fn lines(ui: &Ui, found: &Verified) -> Result<(), Failure> {
    let report = &found.report;
    capped(ui, &report.bad_packs, "packs", |(pack, why)| {
        format!("pack {pack}: {why}")
    })?;
    let named: Vec<_> = report.damage.iter().zip(&found.relations).collect();
    capped(ui, &named, "files", |(damage, relation)| {
        line(damage, relation.as_deref())
    })?;
    capped(ui, &report.bad_snapshots, "snapshots", |(id, why)| {
        format!("snapshot {}: {why}", id.short())
    })
}

/// `base/5/16384 (app.public.orders): 64 KB of 8.2 MB lost at 1.2 MB, in 31 snapshots (newest 1a2b3c4d)`.
fn line(damage: &Damage, relation: Option<&str>) -> String {
    let what = match &damage.lost {
        Lost::File { size: all, parts } => {
            let lost: u64 = parts.iter().map(|(_, len)| len).sum();
            let first = parts.first().map_or(0, |(offset, _)| *offset);
            match lost == *all {
                true => format!("all {} lost", size(lost)),
                false => format!(
                    "{} of {} lost, from byte {first} on",
                    size(lost),
                    size(*all)
                ),
            }
        }
        Lost::Directory => "the list of its files is lost".to_owned(),
        Lost::Snapshot => "it is lost".to_owned(),
    };
    let path = match (damage.path.as_str(), relation) {
        ("", _) if damage.lost == Lost::Snapshot => "the snapshot's own record".to_owned(),
        ("", _) => "the top directory".to_owned(),
        (path, Some(relation)) => format!("{path} ({relation})"),
        (path, None) => path.to_owned(),
    };
    let newest = damage
        .snapshots
        .last()
        .map(zenith::store::SnapshotId::short);
    match (damage.snapshots.len() as u64, newest) {
        (1, Some(id)) => format!("{path}: {what}, in snapshot {id}"),
        (n, Some(id)) => format!("{path}: {what}, in {} (newest {id})", plural(n, "snapshot")),
        (_, None) => format!("{path}: {what}"),
    }
}

/// A line for each of the first, and one for the rest.
fn capped<T>(ui: &Ui, all: &[T], what: &str, line: impl Fn(&T) -> String) -> Result<(), Failure> {
    for one in all.iter().take(LINES) {
        ui.answer(line(one))?;
    }
    if all.len() > LINES {
        let more = all.len() - LINES;
        ui.answer(format_args!("and {more} more {what}; --json names all"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_percentage() {
        assert_eq!(parse_sample("5%"), Ok(500));
        assert_eq!(parse_sample("0.5"), Ok(50));
        assert_eq!(parse_sample("100%"), Ok(10_000));
        for bad in ["", "%", "0%", "101%", "-1", "NaN", "inf", "five"] {
            assert!(parse_sample(bad).is_err(), "{bad}");
        }
    }
}
