//! `op log` and `undo`: the root log as the operation log.

use zenith_store::{
    HeadMove, Logged, Operation, RefChange, Repository, SnapshotId, State, Time, UNDO, World,
};

use crate::checkout;
use crate::discarded;
use crate::error::Result;
use crate::event::Event;
use crate::head::Head;
use crate::home::{LOCK_WAIT, Wait};
use crate::managed::{Managed, Refusal};
use crate::marker::Marker;
use crate::refs;
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

/// The way back from an operation that moved the managed cluster.
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
    /// The way back from this operation, if it moved the cluster and the log says from where.
    fn of(state: &State, parts: &[Logged]) -> Option<Back> {
        let (id, was) = match cluster_move(parts) {
            Some(HeadMove { from, .. }) => (from.holds?, from.head.parse().ok()),
            // Who wrote the log noted only what was saved or discarded.
            None => (parts.iter().find_map(|part| kept(parts, part))?.to?, None),
        };
        let mut removed = parts.iter().flat_map(|part| &part.operation.removed);
        if state.snapshot(&id).is_none() && !removed.any(|gone| *gone == id) {
            return None;
        }
        let change = parts.iter().find_map(|part| kept(parts, part));
        let parent = state
            .snapshot(&id)
            .and_then(|row| row.parents.first().copied());
        // Where the branch of what the cluster was is: at that, or before it where that was kept
        // beside it.
        let noted = change.and_then(|change| match change.name.strip_prefix("branch/") {
            Some(branch) => Some(branch),
            None => discarded::branch(&change.name),
        });
        let stands = |branch: &str| {
            let Some(at) = stood(state, parts, change, branch) else {
                return false;
            };
            let is_beside = change.is_some_and(|change| {
                change.name.strip_prefix("branch/") != Some(branch) && Some(at) == parent
            });
            at == id || is_beside
        };
        let is_there = |id: &str| {
            let id = id.parse().ok();
            id.is_some_and(|id: SnapshotId| state.snapshot(&id).is_some())
        };
        let head = match (was, noted, parent) {
            (Some(Head::Branch(branch)), ..) if stands(&branch) => Head::Branch(branch),
            (Some(Head::Detached(at)), ..) if is_there(&at) => Head::Detached(at),
            (Some(_), ..) => Head::Detached(id.to_string()),
            (None, Some(branch), _) if stands(branch) => Head::Branch(branch.to_owned()),
            (None, None, Some(parent)) => Head::Detached(parent.to_string()),
            (None, ..) => Head::Detached(id.to_string()),
        };
        Some(Back {
            id,
            head,
            switched: None,
        })
    }

    /// Whether the home is there already.
    fn is_here(&self, marker: Option<&Marker>, head: &Head) -> bool {
        is_made_from(marker, self.id) && *head == self.head
    }
}

fn is_made_from(marker: Option<&Marker>, id: SnapshotId) -> bool {
    marker.is_some_and(|marker| marker.snapshot == id.to_string())
}

/// Where a branch stands, or stood before the operation moved it.
fn stood(
    state: &State,
    parts: &[Logged],
    kept: Option<&RefChange>,
    branch: &str,
) -> Option<SnapshotId> {
    let name = format!("branch/{branch}");
    let now = state.get_ref(&name);
    // What else the operation moved goes back, too.
    let mut moved = parts.iter().flat_map(|part| &part.operation.refs);
    let moved = moved.find(|other| Some(*other) != kept && other.name == name);
    moved
        .filter(|moved| moved.to == now)
        .map_or(now, |moved| moved.from)
}

/// Where the operation moved the managed cluster.
fn cluster_move(parts: &[Logged]) -> Option<&HeadMove> {
    let mut moves = parts.iter().filter_map(|part| part.operation.head.as_ref());
    moves.find(|moved| moved.to.holds.is_some())
}

/// Where the operation moved HEAD alone.
fn head_move(parts: &[Logged]) -> Option<&HeadMove> {
    let mut moves = parts.iter().filter_map(|part| part.operation.head.as_ref());
    moves.find(|moved| moved.to.holds.is_none())
}

/// The ref of what the operation saved or discarded of the cluster, if this is the part that did.
fn kept<'a>(parts: &[Logged], part: &'a Logged) -> Option<&'a RefChange> {
    let operation = &part.operation;
    let is_its = match cluster_move(parts) {
        // Nothing else adds what the cluster was.
        Some(moved) => operation
            .added
            .iter()
            .all(|id| Some(*id) == moved.from.holds),
        None => [switch::SAVED, switch::FORCED, verb::PULL].contains(&operation.verb.as_str()),
    };
    let is_new = |change: &&RefChange| change.to.is_some_and(|id| operation.added.contains(&id));
    let mut changes = operation.refs.iter().filter(is_new);
    changes.find(|change| {
        let folders = ["branch/", discarded::FOLDER];
        is_its && folders.iter().any(|folder| change.name.starts_with(folder))
    })
}

/// What such an operation did beside keeping what was there: the branch that it made, or that a
/// pull moved.
fn beside(parts: &[Logged]) -> Vec<Logged> {
    let others = parts.iter().filter(|part| kept(parts, part).is_none());
    others.cloned().collect()
}

/// Whether it discarded something.
fn discards(parts: &[Logged]) -> bool {
    let mut kept = parts.iter().filter_map(|part| kept(parts, part));
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

/// Reverses an operation in the home. Of one that moved the managed cluster the way back is a
/// checkout; what no snapshot holds by then is saved first.
///
/// Errors: `Refusal::{NothingToUndo, Needed}`, `Store(NotUndone)`, those of [`switch::managed`].
pub fn undo_home(
    managed: &Managed,
    seq: Option<u64>,
    dry_run: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Undone> {
    let home = &managed.home;
    let lock = home.lock("undo", Wait::UpTo(LOCK_WAIT))?;
    let repo = home.writer(&lock)?;
    let state = repo.state()?;
    let marker = Marker::read(&home.pgdata())?;
    let head = home.head()?;
    let needed: Vec<SnapshotId> = managed.needed()?.iter().map(|(id, _)| *id).collect();
    let is_left = |moved: &HeadMove| match moved.to.holds {
        Some(id) => is_made_from(marker.as_ref(), id),
        None => head.to_string() == moved.to.head,
    };
    let parts = find(&repo, seq, &needed, |parts| {
        let left = cluster_move(parts).is_none_or(is_left)
            || parts.iter().any(|part| kept(parts, part).is_some());
        match Back::of(&state, parts) {
            // One whose way back was gone already is not meant again.
            Some(back) if !left || back.is_here(marker.as_ref(), &head) => Left::Of(beside(parts)),
            Some(_) => Left::Something,
            None if discards(parts) => Left::Nothing,
            // It is what was meant, and is not reversed.
            None if left && cluster_move(parts).is_some() => Left::Something,
            None => Left::Of(parts.to_vec()),
        }
    })?;
    let not = |why: &str| zenith_store::Error::NotUndone {
        seq: parts[0].seq,
        why: why.to_owned(),
    };
    let is_kept = parts.iter().any(|part| kept(&parts, part).is_some());
    match (Back::of(&state, &parts), cluster_move(&parts)) {
        (Some(_), Some(moved)) if !is_kept && !is_left(moved) => {
            Err(not("the cluster was moved since").into())
        }
        (Some(back), _) => {
            drop((repo, lock));
            go_back(managed, parts, back, dry_run, on)
        }
        (None, _) if discards(&parts) => {
            Err(not("what it discarded was kept for a day and is gone").into())
        }
        (None, Some(moved)) if moved.from.holds.is_some() => {
            Err(not("the snapshot that the cluster was is gone").into())
        }
        (None, Some(_)) => Err(not("no snapshot holds what the cluster was").into()),
        (None, None) => match head_move(&parts).filter(|moved| is_left(moved)).cloned() {
            Some(moved) => rename_back(managed, &repo, parts, moved, &needed, dry_run),
            None => {
                refuse_end_of(&head, &parts)?;
                undone(&repo, parts, &needed, dry_run)
            }
        },
    }
}

/// The branch that is checked out stays.
///
/// Errors: `Refusal::Needed`.
fn refuse_end_of(head: &Head, parts: &[Logged]) -> Result<()> {
    let Head::Branch(branch) = head else {
        return Ok(());
    };
    let name = format!("branch/{branch}");
    let ends = |change: &&RefChange| change.name == name && change.from.is_none();
    let mut changes = parts.iter().flat_map(|part| &part.operation.refs);
    if let Some(change) = changes.find(ends) {
        let id = change.to.map_or_else(String::new, |id| id.short());
        let by = vec!["the branch that is checked out"];
        return Err(Refusal::Needed { id, by }.into());
    }
    Ok(())
}

/// Moves the managed cluster back, and reverses what else the operation did: all by one operation.
fn go_back(
    managed: &Managed,
    parts: Vec<Logged>,
    mut back: Back,
    dry_run: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Undone> {
    let beside = beside(&parts);
    let told = told(managed.home.world(), &parts[0]);
    let rest = |dry_run: bool| -> Result<(bool, Option<Operation>)> {
        let lock = managed.home.lock("undo", Wait::UpTo(LOCK_WAIT))?;
        let repo = managed.home.writer(&lock)?;
        let needed: Vec<SnapshotId> = managed.needed()?.iter().map(|(id, _)| *id).collect();
        let state = repo.state()?;
        let is_there = match &back.head {
            Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")).is_some(),
            Head::Detached(_) => true,
        };
        let is_there = is_there && state.snapshot(&back.id).is_some();
        // All of it can be reversed, or nothing is.
        repo.would_undo(&beside, &needed)?;
        match dry_run {
            true => Ok((is_there, None)),
            false => Ok((is_there, reverse(&repo, &beside, &told, &needed)?)),
        }
    };
    let (is_there, mut did) = rest(true)?;
    if !dry_run {
        // Before anything is reversed: all of it is, or nothing.
        checkout::refuse_running(&managed.home.pgdata())?;
        // The cluster first, since what a checkout made is what HEAD is on until then; but an undo
        // took away what the cluster goes back to.
        if !is_there {
            did = rest(false)?.1;
        }
        // What is saved must not move the branch that goes back.
        let saves_beside = match managed.home.head()? {
            Head::Branch(branch) => {
                let name = format!("branch/{branch}");
                let mut moved = beside.iter().flat_map(|part| &part.operation.refs);
                moved.any(|change| change.name == name)
            }
            Head::Detached(_) => false,
        };
        let options = SwitchOptions {
            part_of: Some(told.clone()),
            saves_beside,
            ..SwitchOptions::default()
        };
        let switched = switch::managed(managed, back.id, &back.head, &options, on)?;
        if is_there {
            did = rest(false)?.1;
        }
        back.switched = Some(switched);
    }
    Ok(Undone {
        logged: whole(parts),
        did,
        back: Some(back),
    })
}

/// Gives the branch that is checked out its name back, and HEAD with it.
fn rename_back(
    managed: &Managed,
    repo: &Repository,
    parts: Vec<Logged>,
    moved: HeadMove,
    needed: &[SnapshotId],
    dry_run: bool,
) -> Result<Undone> {
    let HeadMove { from, to } = moved;
    let (Ok(Head::Branch(old)), Ok(Head::Branch(new))) = (from.head.parse(), to.head.parse())
    else {
        return undone(repo, parts, needed, dry_run);
    };
    if dry_run {
        return undone(repo, parts, needed, true);
    }
    let next = Head::Branch(old.clone());
    let back = HeadMove { from: to, to: from };
    let undone = managed.home.move_head_with(&next, || {
        undone_with(repo, parts, needed, false, Some(back))
    })?;
    refs::settle(&managed.home, &new, &old)?;
    Ok(undone)
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
    undone_with(repo, parts, needed, dry_run, None)
}

fn undone_with(
    repo: &Repository,
    parts: Vec<Logged>,
    needed: &[SnapshotId],
    dry_run: bool,
    head: Option<HeadMove>,
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
        false => {
            let told = Operation {
                head,
                ..told(repo.world(), &parts[0])
            };
            reverse(repo, &parts, &told, needed)?
        }
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
    told: &Operation,
    needed: &[SnapshotId],
) -> Result<Option<Operation>> {
    let would = repo.would_undo(parts, needed)?;
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
