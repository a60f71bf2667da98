//! `prune`: snapshots that no rule wants leave the table, here or at a storage.

use std::collections::BTreeSet;

use zenith_store::{Change, RefChange, Repository, Row, SnapshotId, State, World};

use crate::error::{Error, Result};
use crate::head::Head;
use crate::history::History;
use crate::home::{LOCK_WAIT, Wait};
use crate::managed::Managed;
use crate::retain::{self, Candidate, Keep, Verdict};
use crate::revision;
use crate::sync::{self, TRIES};
use crate::who::operation;

/// Snapshots that leave with one root: the root lists them all, and its size has a limit.
const BATCH: usize = 500;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// What stays.
    pub keep: Keep,
    /// Only this branch, without `branch/`.
    pub branch: Option<String>,
    /// Nothing is removed.
    pub dry_run: bool,
    /// Ages count back from here, in seconds since 1970, UTC.
    pub now: i64,
}

/// A snapshot and what becomes of it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its row, as it was before.
    pub row: Row,
    /// Full names of the refs at it.
    pub refs: Vec<String>,
    /// Whether it stays, and why.
    pub verdict: Verdict,
}

impl Judged {
    /// Whether it goes.
    pub fn goes(&self) -> bool {
        self.verdict == Verdict::Drop
    }
}

/// What went, or would go.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Every snapshot that was asked about, newest first.
    pub judged: Vec<Judged>,
    /// Branches whose tip goes, and where they step back to; nothing when they go with it.
    pub moved: Vec<(String, Option<SnapshotId>)>,
}

impl Pruned {
    /// Those that go, newest first.
    pub fn gone(&self) -> impl Iterator<Item = &Row> {
        let gone = self.judged.iter().filter(|judged| judged.goes());
        gone.map(|judged| &judged.row)
    }

    /// Takes over what one commit of `other` removed, and where branches went with it.
    fn add(&mut self, other: &Pruned, removed: &[SnapshotId], is_first: bool) {
        let removed: BTreeSet<&SnapshotId> = removed.iter().collect();
        let judged = other.judged.iter();
        let gone = judged.filter(|judged| removed.contains(&judged.row.id));
        self.judged.extend(gone.cloned());
        for (branch, to) in other.moved.iter().filter(|_| is_first) {
            self.moved.retain(|(moved, _)| moved != branch);
            self.moved.push((branch.clone(), *to));
        }
    }

    fn sort(&mut self) {
        self.judged
            .sort_by_key(|j| std::cmp::Reverse((j.row.time.unix_micros, j.row.serial)));
    }
}

/// Prunes the home's repository. What HEAD is at, and what an unfinished checkout is on its way
/// to, stays in any case; space is freed by the next collection.
///
/// Errors: `Revision(NoRef)`, `HomeBusy`.
pub fn prune(managed: &Managed, options: &PruneOptions) -> Result<Pruned> {
    let lock = managed.home.lock("prune", Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let state = repo.state()?;
    let mut needed = managed.needed()?;
    if let Head::Branch(branch) = managed.home.head()? {
        let tip = state.get_ref(&format!("branch/{branch}"));
        needed.extend(tip.map(|tip| (tip, "HEAD")));
    }
    let (pruned, changes) = plan(&state, repo.world(), &needed, options)?;
    if !options.dry_run {
        for change in changes {
            repo.commit(change)?;
        }
    }
    Ok(pruned)
}

/// Prunes a remote of this home. What homes build on stays in any case.
///
/// Errors: `Revision(NoRef)`, `StorageBusy`, those of the storage.
pub fn prune_storage(
    managed: &Managed,
    remote: &str,
    storage: &Repository,
    options: &PruneOptions,
) -> Result<Pruned> {
    // What went before another home was faster.
    let mut before = Pruned::default();
    'again: for _ in 0..TRIES {
        let state = storage.state()?;
        let (pruned, changes) = plan(&state, storage.world(), &[], options)?;
        if options.dry_run {
            return Ok(pruned);
        }
        for change in changes {
            let (removed, is_first) = (change.remove.clone(), !change.refs.is_empty());
            match storage.commit(change) {
                Ok(_) => before.add(&pruned, &removed, is_first),
                // Look again. What went already is not asked for twice.
                Err(
                    zenith_store::Error::RefMoved { .. }
                    | zenith_store::Error::InUse { .. }
                    | zenith_store::Error::NoSnapshot { .. },
                ) => continue 'again,
                Err(e) => return Err(e.into()),
            }
        }
        before
            .judged
            .extend(pruned.judged.into_iter().filter(|j| !j.goes()));
        before.sort();
        let moved: Vec<&str> = before.moved.iter().map(|(name, _)| name.as_str()).collect();
        sync::follow(&managed.home, remote, &*storage.state()?, &moved, "prune")?;
        return Ok(before);
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: TRIES,
    })
}

/// What becomes of every snapshot, and the commits that make it so.
fn plan(
    state: &State,
    world: &World,
    needed: &[(SnapshotId, &str)],
    options: &PruneOptions,
) -> Result<(Pruned, Vec<Change>)> {
    if let Some(branch) = &options.branch
        && state.get_ref(&format!("branch/{branch}")).is_none()
    {
        return Err(revision::no_ref(state, "branch", branch).into());
    }
    let candidates = retain::candidates(state, needed);
    let lines = retain::lines(state, &candidates, options.branch.as_deref());
    let verdicts = retain::judge(&candidates, &lines, &options.keep, options.now);
    let judge = |(candidate, verdict): (&Candidate, Option<Verdict>)| {
        Some(Judged {
            row: state.snapshot(&candidate.id)?.clone(),
            refs: candidate.refs.clone(),
            verdict: verdict?,
        })
    };
    let mut pruned = Pruned {
        judged: candidates.iter().zip(verdicts).filter_map(judge).collect(),
        moved: Vec::new(),
    };
    pruned.sort();
    // Oldest first, so that a prune that is cut off leaves the newer ones.
    let gone: Vec<SnapshotId> = pruned
        .judged
        .iter()
        .rev()
        .filter(|j| j.goes())
        .map(|j| j.row.id)
        .collect();
    let is_gone: BTreeSet<SnapshotId> = gone.iter().copied().collect();
    let history = History::of(state);
    let mut refs = Vec::new();
    for (name, tip) in state.refs() {
        let Some(branch) = name.strip_prefix("branch/") else {
            continue;
        };
        if !is_gone.contains(tip) {
            continue;
        }
        let to = history
            .first_parents(*tip)
            .map(|node| node.id)
            .find(|id| !is_gone.contains(id));
        pruned.moved.push((branch.to_owned(), to));
        refs.push(RefChange {
            name: name.clone(),
            from: Some(*tip),
            to,
        });
    }
    let changes = changes(world, &gone, &refs);
    Ok((pruned, changes))
}

/// One commit, or as many as the limit of a root takes. Refs move before anything goes, the last of
/// them with the first snapshots, so that none is ever left at what is gone. All are one operation
/// to `undo`.
fn changes(world: &World, gone: &[SnapshotId], refs: &[RefChange]) -> Vec<Change> {
    let operation = operation(world, "prune", format!("({})", gone.len()));
    let change = |batch: &[SnapshotId], refs: &[RefChange]| Change {
        remove: batch.to_vec(),
        refs: refs.to_vec(),
        operation: operation.clone(),
    };
    let mut moves = RefChange::batches(refs);
    let with_first = moves.pop().unwrap_or_default();
    let mut changes: Vec<Change> = moves.into_iter().map(|refs| change(&[], refs)).collect();
    let first = gone.len().min(BATCH);
    if first > 0 {
        changes.push(change(&gone[..first], with_first));
    }
    changes.extend(gone[first..].chunks(BATCH).map(|batch| change(batch, &[])));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_root_lists_too_many() {
        let id = |i: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&i.to_be_bytes());
            SnapshotId(id)
        };
        assert!(changes(&World::real(), &[], &[]).is_empty());
        let gone: Vec<SnapshotId> = (0..2_500).map(id).collect();
        let refs = vec![RefChange {
            name: "branch/old".into(),
            from: Some(id(7)),
            to: None,
        }];
        let changes = changes(&World::real(), &gone, &refs);
        let sizes: Vec<usize> = changes.iter().map(|change| change.remove.len()).collect();
        assert_eq!(sizes, [500; 5]);
        let all: Vec<SnapshotId> = changes.iter().flat_map(|c| c.remove.clone()).collect();
        assert_eq!(all, gone);
        assert_eq!(changes[0].refs, refs);
        assert!(changes[1..].iter().all(|change| change.refs.is_empty()));
        // Branches that move come first where they are too many.
        let moved = |n: u32| RefChange {
            name: format!("branch/{n}"),
            from: Some(id(n)),
            to: None,
        };
        let refs: Vec<RefChange> = (0..500).map(moved).collect();
        let changes = super::changes(&World::real(), &gone, &refs);
        let all: Vec<RefChange> = changes.iter().flat_map(|c| c.refs.clone()).collect();
        assert_eq!(all, refs);
        let first = changes.iter().position(|change| !change.remove.is_empty());
        assert!(
            changes[first.unwrap() + 1..]
                .iter()
                .all(|change| change.refs.is_empty())
        );
    }
}
