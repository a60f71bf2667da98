//! `op log` and `undo`: the root log as the operation log.

use zenith_store::{Logged, Operation, Repository, SnapshotId, State, Time};

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

/// An operation that was reversed, or would be.
#[derive(Debug, Clone)]
pub struct Undone {
    /// That operation.
    pub logged: Logged,
    /// What reversing it did; none for a dry run, and where the cluster was moved instead.
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
    /// The way back from this operation, if it was such a checkout.
    fn of(state: &State, logged: &Logged) -> Option<Back> {
        let operation = &logged.operation;
        if ![switch::SAVED, switch::FORCED].contains(&operation.verb.as_str()) {
            return None;
        }
        let change = operation.refs.iter().find(|change| change.to.is_some())?;
        let id = change.to?;
        let row = state.snapshot(&id)?;
        let parent = row.parents.first().copied();
        let at = |branch: &str| state.get_ref(&format!("branch/{branch}"));
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
    let parts = find(&repo, seq, &needed, |logged| {
        match Back::of(&state, logged) {
            Some(back) if is_there(&back) => Left::Nothing,
            Some(_) => Left::Something,
            None if logged.operation.verb == switch::FORCED => Left::Nothing,
            None => Left::Unknown,
        }
    })?;
    let logged = &parts[0];
    if logged.operation.verb == switch::FORCED && Back::of(&state, logged).is_none() {
        let why = "what it discarded was kept for a day and is gone".to_owned();
        let seq = logged.seq;
        return Err(zenith_store::Error::NotUndone { seq, why }.into());
    }
    if let Some(mut back) = Back::of(&state, logged) {
        drop((repo, lock));
        if !dry_run {
            let options = SwitchOptions::default();
            let switched = switch::managed(managed, back.id, &back.head, &options, on)?;
            back.switched = Some(switched);
        }
        return Ok(Undone {
            logged: whole(parts),
            did: None,
            back: Some(back),
        });
    }
    if let Head::Branch(branch) = managed.home.head()? {
        let name = format!("branch/{branch}");
        let ends = |change: &&zenith_store::RefChange| change.name == name && change.from.is_none();
        let mut changes = parts.iter().flat_map(|part| &part.operation.refs);
        if let Some(change) = changes.find(ends) {
            let id = change.to.map_or_else(String::new, |id| id.short());
            let by = vec!["the branch that is checked out"];
            return Err(Refusal::Needed { id, by }.into());
        }
    }
    reverse(&repo, parts, &needed, dry_run)
}

/// Reverses an operation at a storage.
///
/// Errors: `Refusal::NothingToUndo`, `Store(NotUndone)`.
pub fn undo_storage(storage: &Repository, seq: Option<u64>, dry_run: bool) -> Result<Undone> {
    let parts = find(storage, seq, &[], |_| Left::Unknown)?;
    reverse(storage, parts, &[], dry_run)
}

/// What there is to reverse of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
    /// The repository tells.
    Unknown,
}

/// The operation that an undo is about, with all its parts, the newest first: this one, or the
/// newest that a person asked for and of which something is left to reverse.
///
/// Errors: `Refusal::NothingToUndo`.
fn find(
    repo: &Repository,
    seq: Option<u64>,
    needed: &[SnapshotId],
    left: impl Fn(&Logged) -> Left,
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
        let left = left(&logged);
        if left == Left::Nothing {
            continue;
        }
        let parts = parts(repo, logged)?;
        if left == Left::Something {
            return Ok(parts);
        }
        match repo.would_undo(&parts, needed) {
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

fn reverse(
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
    let told = told(&parts[0]);
    let mut did: Option<Operation> = None;
    for (part, would) in parts.iter().zip(would) {
        if dry_run || is_empty(&would) {
            continue;
        }
        let state = repo.undo(part.seq, told.clone(), needed)?;
        let done = state.operation();
        let all = did.get_or_insert_with(|| told.clone());
        all.refs.extend_from_slice(&done.refs);
        all.added.extend_from_slice(&done.added);
        all.removed.extend_from_slice(&done.removed);
    }
    Ok(Undone {
        logged: whole(parts),
        did,
        back: None,
    })
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

fn told(logged: &Logged) -> Operation {
    operation(
        "undo",
        format!("{} ({})", logged.seq, logged.operation.verb),
    )
}
