//! `zenith log`: the history of branches, newest first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use zenith::diff::{Follower, Pattern, RelationChange};
use zenith::head::Head;
use zenith::log::{self, Entry};
use zenith::managed::Managed;
use zenith::refs::Kind;
use zenith::store::SnapshotId;
use zenith::sync;

use super::Context;
use super::snapshot::stands_at;
use crate::args::LogArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::log::{Changed, Detail, Line, Logged, Naming, changes_text, lines};
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
    let mut followed = None;
    if !args.tables.is_empty() {
        let (left, changes) = follow(entries, args, &managed, context)?;
        (entries, followed) = (left, Some(changes));
    }
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
    let all_changes = followed.iter().flat_map(BTreeMap::values);
    let naming = Naming::of(all_changes.flat_map(|followed| &followed.changes));
    let logged: Vec<Logged> = listed
        .into_iter()
        .zip(&entries)
        .map(|(listed, entry)| {
            let followed = followed.as_ref().and_then(|all| all.get(&entry.row.id));
            let records =
                |followed: &Followed| followed.changes.iter().map(Changed::from).collect();
            let text = |f: &Followed| changes_text(&f.changes, naming, f.is_first);
            Logged {
                listed: listed.of_log(),
                gap: entry.is_gap,
                changes: followed.map(records),
                text: followed.map(text).unwrap_or_default(),
            }
        })
        .collect();
    let ui = &context.ui;
    if ui.is_json() {
        return logged.iter().try_for_each(|one| ui.record(one));
    }
    let mut detail = match (args.oneline, &followed) {
        (true, _) => Detail::Short,
        (false, Some(_)) => Detail::Changes,
        (false, None) => Detail::Full,
    };
    let glyphs = ui.glyphs();
    let now = Timestamp::now();
    let drawn = |detail| lines(&entries, &logged, detail, args.graph, glyphs, now);
    let whole = |line: &Line| format!("{}{}", line.drawn, line.text);
    let mut shown = drawn(detail);
    // What `snapshot list` says, too, makes room for the message.
    if detail == Detail::Full && !shown.iter().all(|line| ui.has_room(&whole(line))) {
        detail = Detail::Aged;
        shown = drawn(detail);
    }
    let mark = glyphs.node(true);
    for line in shown {
        let whole = whole(&line);
        // How tables changed is the answer; a message is shown whole by `snapshot show`.
        let whole = match detail {
            Detail::Changes => whole,
            _ => ui.fit(&whole),
        };
        ui.answer(match line.drawn.contains(mark) {
            true => whole.replacen(mark, &ui.tone(mark, Tone::Head), 1),
            false => whole,
        })?;
    }
    if entries.is_empty() {
        match (&head, tips.is_empty()) {
            (Head::Branch(branch), true) => {
                ui.talk(format_args!("branch {branch} has no snapshot yet"));
            }
            _ => ui.talk("no snapshot in which that changed"),
        }
    } else if entries.len() < all {
        ui.talk(format_args!(
            "{} more, --limit {all} shows them",
            all - entries.len()
        ));
    }
    Ok(())
}

/// What changed of the tables that were asked about in one snapshot.
struct Followed {
    changes: Vec<RelationChange>,
    /// What was before is not known: it was pruned, or is not here.
    is_first: bool,
}

type Changes = BTreeMap<SnapshotId, Followed>;

/// Only the snapshots in which one of the tables changed, and how.
fn follow<'a>(
    entries: Vec<Entry<'a>>,
    args: &LogArgs,
    managed: &Managed,
    context: &Context,
) -> Result<(Vec<Entry<'a>>, Changes), Failure> {
    let (repo, _guard) = match &args.at.remote {
        Some(name) => (context.storage(managed, name)?, None),
        None => {
            let (repo, guard) = managed.home.reader()?;
            (repo, Some(guard))
        }
    };
    let patterns = args.tables.iter().map(|table| Pattern::parse(table));
    let patterns: Vec<Pattern> = patterns
        .collect::<Result<_, _>>()
        .map_err(zenith::Error::from)?;
    let progress = Progress::of(&context.ui, "comparing snapshots");
    let mut follower = Follower::new(&repo, patterns);
    let mut found = Changes::new();
    let limit = args.limit.unwrap_or(usize::MAX);
    let left = log::only(entries, |entry| {
        if found.len() >= limit {
            return Ok::<_, Failure>(false);
        }
        let id = entry.row.id;
        let changes = follower.changes(entry.parents.first().copied(), id)?;
        let changed = !changes.is_empty();
        if changed {
            let is_first = entry.is_gap && entry.parents.is_empty();
            found.insert(id, Followed { changes, is_first });
        }
        Ok(changed)
    })?;
    drop(progress);
    if found.is_empty() {
        follower.refuse_unknown()?;
    }
    for warning in follower.warnings() {
        context.ui.warn(warning);
    }
    Ok((left, found))
}
