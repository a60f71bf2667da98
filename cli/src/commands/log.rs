//! `zenith log`: the history of branches, newest first.

use std::collections::BTreeSet;

use jiff::Timestamp;
use zenith::head::Head;
use zenith::log;
use zenith::refs::Kind;
use zenith::store::SnapshotId;
use zenith::sync;

use super::Context;
use super::snapshot::stands_at;
use crate::args::LogArgs;
use crate::error::Failure;
use crate::render::log::{Detail, Logged, lines};
use crate::render::snapshot;
use crate::ui::Tone;

pub fn run(args: &LogArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let state = match &args.at.remote {
        Some(name) => {
            let storage = context.storage(&managed, name)?;
            storage.state().map_err(zenith::Error::from)?
        }
        None => context.state(&managed)?,
    };
    let head = managed.home.head()?;
    let here = stands_at(&state, &head);
    let mut tips: Vec<SnapshotId> = Vec::new();
    if args.all {
        tips.extend(state.snapshots().map(|row| row.id));
    } else {
        for revision in &args.revs {
            tips.push(context.resolve(&managed, &state, revision)?);
        }
        if let Some(branch) = &args.branch {
            tips.push(Kind::Branch.find(&state, branch)?);
        }
        if args.revs.is_empty() && args.branch.is_none() {
            tips.extend(here);
        }
    }
    let mut entries = log::entries(&state, &tips);
    let all = entries.len();
    entries.truncate(args.limit.unwrap_or(usize::MAX));

    let unpushed: BTreeSet<SnapshotId> = match args.at.remote {
        // Nothing that lies at the storage waits to go there.
        Some(_) => BTreeSet::new(),
        None => {
            let unpushed = sync::unpushed(&state).rows;
            unpushed.iter().map(|row| row.id).collect()
        }
    };
    let rows = entries.iter().map(|entry| entry.row);
    let listed = snapshot::listed(rows, &state, here, &unpushed, true);
    let gaps = entries.iter().map(|entry| entry.is_gap);
    let logged: Vec<Logged> = listed
        .into_iter()
        .zip(gaps)
        .map(|(listed, gap)| Logged {
            listed: listed.of_log(),
            gap,
            changes: None,
        })
        .collect();
    let ui = &context.ui;
    if ui.is_json() {
        return logged.iter().try_for_each(|one| ui.record(one));
    }
    let detail = match args.oneline {
        true => Detail::Short,
        false => Detail::Full,
    };
    let glyphs = context.env.glyphs();
    let now = Timestamp::now();
    for line in lines(&entries, &logged, detail, args.graph, glyphs, now) {
        let mark = glyphs.node(true);
        let drawn = line.drawn.replace(mark, &ui.tone(mark, Tone::Head));
        ui.answer(format_args!("{drawn}{}", line.text))?;
    }
    if entries.is_empty() {
        match (&head, tips.is_empty()) {
            (Head::Branch(branch), true) => {
                ui.talk(format_args!("branch {branch} has no snapshot yet"));
            }
            _ => ui.talk("no snapshot"),
        }
    } else if entries.len() < all {
        ui.talk(format_args!(
            "{} more, --limit {all} shows them",
            all - entries.len()
        ));
    }
    Ok(())
}
