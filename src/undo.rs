//! `op log` and `undo`: the root log as the operation log.

use zenith_store::{
    Logged, Operation, RefChange, Repository, SnapshotId, State, Time, UNDO, World,
};

use crate::discarded;
use crate::error::Result;
use crate::event::Event;
use crate::head::Head;
use crate::home::{LOCK_WAIT, Wait};
use crate::managed::{Managed, Refusal};
use crate::marker::Marker;
use crate::switch::{self, SwitchOptions, Switched};
use crate::who::{operation, verb};

/// Roots of others that may lie between two parts of one operation.
const APART: u64 = 16;

/// Ids that one root tells of: with 34 bytes for each, half of what it may hold.
const IDS_AT_ONCE: usize = 1000;

/// An operation that was reversed, or would be.
#[derive(Debug, Clone)]
pub struct Undone {
    /// That operation.
    pub logged: Logged,
    /// What reversing it did; none for a dry run, and where nothing but the cluster moved.
    pub did: Option<Operation>,
    /// Where the managed cluster went, or would go.
    pub back: Option<Back>,
}

/// The way back from a checkout that saved or discarded what no snapshot held.
#[derive(Debug, Clone)]
pub struct Back {
    /// What the cluster was.
    pub id: SnapshotId,
    /// Where HEAD was; where its branch went on since, the snapshot itself.
    pub head: Head,
    /// What moving did; none for a dry run.
    pub switched: Option<Switched>,
}

impl Back {
    /// The way back from this operation, if it was such a checkout or a pull with one.
    fn of(state: &State, parts: &[Logged]) -> Option<Back> {
        let verb = parts.first()?.operation.verb.as_str();
        if ![switch::SAVED, switch::FORCED, verb::PULL].contains(&verb) {
            return None;
        }
        let change = parts.iter().find_map(kept)?;
        let id = change.to?;
        let row = state.snapshot(&id)?;
        let parent = row.parents.first().copied();
        let at = |branch: &str| {
            let name = format!("branch/{branch}");
            let now = state.get_ref(&name);
            // What else the operation moved goes back, too.
            let mut moved = parts.iter().flat_map(|part| &part.operation.refs);
            let moved = moved.find(|other| *other != change && other.name == name);
            moved
                .filter(|moved| moved.to == now)
                .map_or(now, |moved| moved.from)
        };
        let (branch, stood) = match change.name.strip_prefix("branch/") {
            Some(branch) => (Some(branch), Some(id)),
            None => (discarded::branch(&change.name), parent),
        };
        let head = match (branch, stood) {
            (Some(branch), stood) if at(branch) == stood => Head::Branch(branch.to_owned()),
            (None, Some(stood)) => Head::Detached(stood.to_string()),
            _ => Head::Detached(id.to_string()),
        };
        Some(Back {
            id,
            head,
            switched: None,
        })
    }
}

/// The ref of what a checkout saved or discarded, if this is the part that did.
fn kept(part: &Logged) -> Option<&RefChange> {
    let operation = &part.operation;
    let is_new = |change: &&RefChange| change.to.is_some_and(|id| operation.added.contains(&id));
    let mut changes = operation.refs.iter().filter(is_new);
    changes.find(|change| {
        change.name.starts_with("branch/") || change.name.starts_with(discarded::FOLDER)
    })
}

/// What such a checkout did beside keeping what was there: the branch that it made, or that a pull
/// moved.
fn beside(parts: &[Logged]) -> Vec<Logged> {
    let others = parts.iter().filter(|part| kept(part).is_none());
    others.cloned().collect()
}

/// Whether it discarded something.
fn discards(parts: &[Logged]) -> bool {
    let mut kept = parts.iter().filter_map(kept);
    kept.any(|change| change.name.starts_with(discarded::FOLDER))
}

/// The newest operations first, at most `limit`; those that moved nothing only with `all`.
pub fn log(repo: &Repository, limit: usize, all: bool) -> Result<Vec<Logged>> {
    let entries = repo.operations(None)?;
    let wanted = entries.filter(|entry| match entry {
        Ok(logged) => all || logged.moved() || logged.is_lost(),
        Err(_) => true,
    });
    Ok(wanted.take(limit).collect::<zenith_store::Result<_>>()?)
}

/// Reverses an operation in the home. After a checkout that saved or discarded something that is
/// the managed cluster's way back, as by a checkout.
///
/// Errors: `Refusal::{NothingToUndo, Needed}`, `Store(NotUndone)`, those of [`switch::managed`].
pub fn undo_home(
    managed: &Managed,
    seq: Option<u64>,
    dry_run: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Undone> {
    let lock = managed.home.lock("undo", Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let state = repo.state()?;
    // One whose way back was gone already is not meant again.
    let marker = Marker::read(&managed.home.pgdata())?;
    let is_there = |back: &Back| {
        marker
            .as_ref()
            .is_some_and(|m| m.snapshot == back.id.to_string())
    };
    let needed: Vec<SnapshotId> = managed.needed()?.iter().map(|(id, _)| *id).collect();
    let parts = find(&repo, seq, &needed, |parts| match Back::of(&state, parts) {
        Some(back) if is_there(&back) => Left::Of(beside(parts)),
        Some(_) => Left::Something,
        None if discards(parts) => Left::Nothing,
        None => Left::Of(parts.to_vec()),
    })?;
    let back = Back::of(&state, &parts);
    if back.is_none() && discards(&parts) {
        let why = "what it discarded was kept for a day and is gone".to_owned();
        let seq = parts[0].seq;
        return Err(zenith_store::Error::NotUndone { seq, why }.into());
    }
    if let Some(mut back) = back {
        // All of it can be reversed, or nothing is.
        let beside = beside(&parts);
        repo.would_undo(&beside, &needed)?;
        drop((repo, lock));
        let mut did = None;
        if !dry_run {
            // The cluster first: what the checkout made is what HEAD is on until then.
            let options = SwitchOptions::default();
            let switched = switch::managed(managed, back.id, &back.head, &options, on)?;
            back.switched = Some(switched);
            let lock = managed.home.lock("undo", Wait::UpTo(LOCK_WAIT))?;
            let repo = managed.home.writer(&lock)?;
            let needed: Vec<SnapshotId> = managed.needed()?.iter().map(|(id, _)| *id).collect();
            did = reverse(&repo, &beside, &needed)?;
        }
        return Ok(Undone {
            logged: whole(parts),
            did,
            back: Some(back),
        });
    }
    if let Head::Branch(branch) = managed.home.head()? {
        let name = format!("branch/{branch}");
        let ends = |change: &&RefChange| change.name == name && change.from.is_none();
        let mut changes = parts.iter().flat_map(|part| &part.operation.refs);
        if let Some(change) = changes.find(ends) {
            let id = change.to.map_or_else(String::new, |id| id.short());
            let by = vec!["the branch that is checked out"];
            return Err(Refusal::Needed { id, by }.into());
        }
    }
    undone(&repo, parts, &needed, dry_run)
}

/// Reverses an operation at a storage.
///
/// Errors: `Refusal::NothingToUndo`, `Store(NotUndone)`.
pub fn undo_storage(storage: &Repository, seq: Option<u64>, dry_run: bool) -> Result<Undone> {
    let parts = find(storage, seq, &[], |parts| Left::Of(parts.to_vec()))?;
    undone(storage, parts, &[], dry_run)
}

/// What there is to reverse of an operation.
enum Left {
    Nothing,
    Something,
    /// What the repository finds of these parts.
    Of(Vec<Logged>),
}

/// The operation that an undo is about, with all its parts, the newest first: this one, or the
/// newest that a person asked for and of which something is left to reverse.
///
/// Errors: `Refusal::NothingToUndo`.
fn find(
    repo: &Repository,
    seq: Option<u64>,
    needed: &[SnapshotId],
    left: impl Fn(&[Logged]) -> Left,
) -> Result<Vec<Logged>> {
    if let Some(seq) = seq {
        let logged = repo.logged(seq)?;
        return parts(
            repo,
            logged.ok_or(Refusal::NothingToUndo { seq: Some(seq) })?,
        );
    }
    for entry in repo.operations(None)? {
        let logged = entry?;
        if !logged.moved() || verb::BY_ITSELF.contains(&logged.operation.verb.as_str()) {
            continue;
        }
        let parts = parts(repo, logged)?;
        let left = match left(&parts) {
            Left::Nothing => continue,
            Left::Something => return Ok(parts),
            Left::Of(left) => left,
        };
        match repo.would_undo(&left, needed) {
            // An older operation must not be taken for the one that was meant.
            Ok(would) if would.iter().all(is_empty) && parts[0].operation.verb == verb::REMOTE => {
                let why = "where remotes are stands in the settings, which no undo changes".into();
                let seq = parts[0].seq;
                return Err(zenith_store::Error::NotUndone { seq, why }.into());
            }
            Ok(would) if would.iter().all(is_empty) => {}
            // What stands in the way is said when it is tried.
            _ => return Ok(parts),
        }
    }
    Err(Refusal::NothingToUndo { seq: None }.into())
}

/// All of an operation that took several roots: these say the same of it, to the microsecond.
/// Others may have committed in between.
fn parts(repo: &Repository, one: Logged) -> Result<Vec<Logged>> {
    let is_part = |other: &Logged| said(other) == said(&one);
    let began = one.operation.time.unix_micros;
    let mut after = Vec::new();
    for seq in one.seq + 1.. {
        match repo.logged(seq)? {
            Some(logged) if is_part(&logged) => after.push(logged),
            Some(logged)
                if seq <= one.seq + APART && logged.operation.time.unix_micros >= began => {}
            _ => break,
        }
    }
    let mut parts: Vec<Logged> = after.into_iter().rev().collect();
    let before = one.seq;
    parts.push(one.clone());
    for entry in repo.operations(Some(before))? {
        let logged = entry?;
        if is_part(&logged) {
            parts.push(logged);
        } else if logged.operation.time.unix_micros < began || logged.seq + APART < before {
            break;
        }
    }
    Ok(parts)
}

fn said(logged: &Logged) -> (&str, &str, &str, Time) {
    let operation = &logged.operation;
    (
        &operation.verb,
        &operation.detail,
        &operation.who,
        operation.time,
    )
}

fn is_empty(operation: &Operation) -> bool {
    operation.refs.is_empty() && operation.added.is_empty() && operation.removed.is_empty()
}

fn undone(
    repo: &Repository,
    parts: Vec<Logged>,
    needed: &[SnapshotId],
    dry_run: bool,
) -> Result<Undone> {
    // All of it can be reversed, or nothing is.
    let would = repo.would_undo(&parts, needed)?;
    if would.iter().all(is_empty) {
        let why = match parts[0].moved() {
            true => "nothing that it did is left to reverse",
            false => "it changed neither refs nor snapshots",
        };
        return Err(zenith_store::Error::NotUndone {
            seq: parts[0].seq,
            why: why.into(),
        }
        .into());
    }
    let did = match dry_run {
        true => None,
        false => reverse(repo, &parts, needed)?,
    };
    Ok(Undone {
        logged: whole(parts),
        did,
        back: None,
    })
}

/// Reverses what is left of these parts; what that did, if there was anything.
fn reverse(
    repo: &Repository,
    parts: &[Logged],
    needed: &[SnapshotId],
) -> Result<Option<Operation>> {
    let would = repo.would_undo(parts, needed)?;
    let Some(told) = parts.first().map(|part| told(repo.world(), part)) else {
        return Ok(None);
    };
    let mut did: Option<Operation> = None;
    for batch in batches(parts, &would) {
        let state = repo.undo(&batch, told.clone(), needed)?;
        let done = state.operation();
        let all = did.get_or_insert_with(|| told.clone());
        all.refs.extend_from_slice(&done.refs);
        all.added.extend_from_slice(&done.added);
        all.removed.extend_from_slice(&done.removed);
    }
    Ok(did)
}

/// The parts of which something is left, as many at a time as one root can tell of. Nearly always
/// that is all of them, which are then reversed or not as one; where it is not, the same undo goes
/// on with what is left.
fn batches(parts: &[Logged], would: &[Operation]) -> Vec<Vec<u64>> {
    let mut batches: Vec<Vec<u64>> = Vec::new();
    let mut room = 0;
    for (part, would) in parts
        .iter()
        .zip(would)
        .filter(|(_, would)| !is_empty(would))
    {
        let ids = would.added.len() + would.removed.len() + 3 * would.refs.len();
        if ids > room {
            batches.push(Vec::new());
            room = IDS_AT_ONCE;
        }
        room = room.saturating_sub(ids);
        let batch = batches.last_mut().expect("there is room in one");
        batch.push(part.seq);
    }
    batches
}

/// What all parts did, as one, under the number of the newest.
fn whole(parts: Vec<Logged>) -> Logged {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().expect("an operation has a part");
    for Logged { operation, .. } in parts {
        whole.operation.refs.extend(operation.refs);
        whole.operation.added.extend(operation.added);
        whole.operation.removed.extend(operation.removed);
    }
    whole
}

fn told(world: &World, logged: &Logged) -> Operation {
    operation(
        world,
        UNDO,
        format!("{} ({})", logged.seq, logged.operation.verb),
    )
}
