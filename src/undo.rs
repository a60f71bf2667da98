//! `op log` and `undo`: the root log as the operation log.

use std::time::Duration;

use zenith_store::{Logged, Operation, Repository, SnapshotId};

use crate::error::Result;
use crate::head::Head;
use crate::home::Wait;
use crate::managed::{Managed, Refusal};
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
    /// What reversing it did; none for a dry run.
    pub did: Option<Operation>,
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
    if let Some(seq) = seq {
        return Ok(repo
            .logged(seq)?
            .ok_or(Refusal::NothingToUndo { seq: Some(seq) })?);
    }
    for entry in repo.operations(None)? {
        let logged = entry?;
        if is_meant(&logged) {
            return Ok(logged);
        }
    }
    Err(Refusal::NothingToUndo { seq: None }.into())
}

/// Reverses an operation in the home.
///
/// Errors: `Refusal::{NothingToUndo, Needed}`, `Store(NotUndone)`.
pub fn undo_home(managed: &Managed, seq: Option<u64>, dry_run: bool) -> Result<Undone> {
    let lock = managed.home.lock("undo", Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let logged = find(&repo, seq)?;
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
    Ok(Undone { logged, did })
}

fn told(logged: &Logged) -> Operation {
    operation(
        "undo",
        format!("{} ({})", logged.seq, logged.operation.verb),
    )
}
