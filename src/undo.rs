//! `op log` and `undo`: the root log as the operation log.

use std::time::Duration;

use zenith_store::{Logged, Operation, Repository, SnapshotId, State};

use crate::discarded;
use crate::error::Result;
use crate::event::Event;
use crate::head::Head;
use crate::home::Wait;
use crate::managed::{Managed, Refusal};
use crate::marker::Marker;
use crate::switch::{self, SwitchOptions, Switched};
use crate::who::operation;

/// How long another command may hold the home before this one gives up.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// What the machinery does by itself: nobody who types `undo` means it.
const BY_ITSELF: [&str; 6] = ["agent", "gc", "thin", "push", "fetch", "rename packs"];

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

/// Whether `undo` without a number means this one.
pub fn is_meant(logged: &Logged) -> bool {
    logged.moved() && !BY_ITSELF.contains(&logged.operation.verb.as_str())
}

/// The newest operations first, at most `limit`; those that moved nothing only with `all`.
pub fn log(repo: &Repository, limit: usize, all: bool) -> Result<Vec<Logged>> {
    let entries = repo.operations(None)?;
    let wanted = entries.filter(|entry| match entry {
        Ok(logged) => all || logged.moved(),
        Err(_) => true,
    });
    Ok(wanted.take(limit).collect::<zenith_store::Result<_>>()?)
}

/// The operation that an undo is about: this one, or the newest that a person asked for.
///
/// Errors: `Refusal::NothingToUndo`.
pub fn find(repo: &Repository, seq: Option<u64>) -> Result<Logged> {
    find_where(repo, seq, |_| true)
}

fn find_where(
    repo: &Repository,
    seq: Option<u64>,
    wanted: impl Fn(&Logged) -> bool,
) -> Result<Logged> {
    if let Some(seq) = seq {
        return Ok(repo
            .logged(seq)?
            .ok_or(Refusal::NothingToUndo { seq: Some(seq) })?);
    }
    for entry in repo.operations(None)? {
        let logged = entry?;
        if is_meant(&logged) && wanted(&logged) {
            return Ok(logged);
        }
    }
    Err(Refusal::NothingToUndo { seq: None }.into())
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
    let logged = find_where(&repo, seq, |logged| match Back::of(&state, logged) {
        Some(back) => !is_there(&back),
        None => logged.operation.verb != switch::FORCED,
    })?;
    if logged.operation.verb == switch::FORCED && Back::of(&state, &logged).is_none() {
        let why = "what it discarded was kept for a day and is gone".to_owned();
        let seq = logged.seq;
        return Err(zenith_store::Error::NotUndone { seq, why }.into());
    }
    if let Some(mut back) = Back::of(&state, &logged) {
        drop((repo, lock));
        if !dry_run {
            let options = SwitchOptions::default();
            let switched = switch::managed(managed, back.id, &back.head, &options, on)?;
            back.switched = Some(switched);
        }
        return Ok(Undone {
            logged,
            did: None,
            back: Some(back),
        });
    }
    let needed: Vec<SnapshotId> = managed.needed()?.iter().map(|(id, _)| *id).collect();
    if let Head::Branch(branch) = managed.home.head()? {
        let name = format!("branch/{branch}");
        let ends = |change: &&zenith_store::RefChange| change.name == name && change.from.is_none();
        if let Some(change) = logged.operation.refs.iter().find(ends) {
            let id = change.to.map_or_else(String::new, |id| id.short());
            let by = vec!["the branch that is checked out"];
            return Err(Refusal::Needed { id, by }.into());
        }
    }
    reverse(&repo, logged, &needed, dry_run)
}

/// Reverses an operation at a storage.
///
/// Errors: `Refusal::NothingToUndo`, `Store(NotUndone)`.
pub fn undo_storage(storage: &Repository, seq: Option<u64>, dry_run: bool) -> Result<Undone> {
    let logged = find(storage, seq)?;
    reverse(storage, logged, &[], dry_run)
}

fn reverse(
    repo: &Repository,
    logged: Logged,
    needed: &[SnapshotId],
    dry_run: bool,
) -> Result<Undone> {
    let did = match dry_run {
        true => None,
        false => {
            let state = repo.undo(logged.seq, told(&logged), needed)?;
            Some(state.operation().clone())
        }
    };
    Ok(Undone {
        logged,
        did,
        back: None,
    })
}

fn told(logged: &Logged) -> Operation {
    operation(
        "undo",
        format!("{} ({})", logged.seq, logged.operation.verb),
    )
}
