//! The root log as the operation log: what was done, and the way back.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::repository::Repository;
use crate::root::{Operation, RefChange, Root};
use crate::state::State;
use std::collections::HashSet;
use std::sync::Arc;

/// One entry of the operation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Number of its root.
    pub seq: u64,
    /// What it did.
    pub operation: Operation,
}

/// The verb of an operation that reversed another one.
pub const UNDO: &str = "undo";
/// The verb in the place of one that cannot be read.
const LOST: &str = "(damaged)";

impl Logged {
    /// Whether its root is damaged, so that nobody knows what it did.
    pub fn is_lost(&self) -> bool {
        self.operation.verb == LOST
    }

    /// Whether it changed refs or the snapshot table, or the home went elsewhere.
    pub fn moved(&self) -> bool {
        did_anything(&self.operation) || self.operation.head.is_some()
    }
}

impl Repository {
    /// The operations from `before` (without it; none for the latest) backwards, as far as roots
    /// are kept. An iterator: every step reads one root. Of a damaged root it is known only that
    /// it was there: [`Logged::is_lost`].
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn operations(&self, before: Option<u64>) -> Result<impl Iterator<Item = Result<Logged>>> {
        let state = self.state()?;
        let end = before.unwrap_or(u64::MAX).min(state.seq() + 1);
        let repository = self.clone();
        Ok((0..end)
            .rev()
            .map_while(move |seq| repository.logged_or_lost(seq).transpose()))
    }

    fn logged_or_lost(&self, seq: u64) -> Result<Option<Logged>> {
        match self.logged(seq) {
            Err(e @ Error::Damaged { .. }) => Ok(Some(Logged {
                seq,
                operation: Operation {
                    verb: LOST.to_owned(),
                    detail: e.to_string(),
                    ..Operation::default()
                },
            })),
            logged => logged,
        }
    }

    /// The operation of one root; none where it is not kept any more.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn logged(&self, seq: u64) -> Result<Option<Logged>> {
        let bytes = match self.objects().get(&Root::key(seq)) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let root = Root::decode(&bytes, seq, self.seal()).map_err(|e| Error::Damaged {
            what: format!("root {seq}"),
            location: self.location(),
            why: e.0,
        })?;
        Ok(Some(Logged {
            seq,
            operation: root.operation,
        }))
    }

    /// Reverses what these operations did to refs and to the snapshot table, one after the other,
    /// by one root. A branch or tag is moved back only where it stands as the operation left it;
    /// what was removed comes back; what was added goes, unless a ref or one of `needed` stands on
    /// it or on what was made from it.
    ///
    /// # Errors
    /// [`Error::NotUndone`] when a branch or tag was moved since, a removed snapshot is gone for
    /// good, or nothing is left to reverse; nothing is changed then.
    pub fn undo(
        &self,
        seqs: &[u64],
        operation: Operation,
        needed: &[SnapshotId],
    ) -> Result<Arc<State>> {
        let logged: Vec<Logged> = seqs
            .iter()
            .map(|&seq| {
                self.logged(seq)?.ok_or_else(|| Error::NotUndone {
                    seq,
                    why: "the log does not reach back so far".into(),
                })
            })
            .collect::<Result<_>>()?;
        let seq = seqs.first().copied().unwrap_or_default();
        if !logged.iter().any(|one| did_anything(&one.operation)) {
            return Err(Error::NotUndone {
                seq,
                why: "it changed neither refs nor snapshots".into(),
            });
        }
        self.commit_with(operation, |state| {
            for logged in &logged {
                self.reverse(state, logged, needed)?;
            }
            let done = &mut state.root.operation;
            done.refs = joined(std::mem::take(&mut done.refs));
            if !did_anything(done) {
                return Err(Error::NotUndone {
                    seq,
                    why: "nothing that it did is left to reverse".into(),
                });
            }
            Ok(())
        })
    }

    /// What undoing these operations one after the other would do by now, each for itself; nothing
    /// is changed.
    ///
    /// # Errors
    /// As [`Repository::undo`], where there is something to reverse.
    pub fn would_undo(&self, logged: &[Logged], needed: &[SnapshotId]) -> Result<Vec<Operation>> {
        let mut state = (*self.state()?).clone();
        let one = |logged: &Logged| {
            state.begin_step();
            state.root.operation = Operation::default();
            self.reverse(&mut state, logged, needed)?;
            Ok(state.root.operation.clone())
        };
        logged.iter().map(one).collect()
    }

    fn reverse(&self, state: &mut State, logged: &Logged, needed: &[SnapshotId]) -> Result<()> {
        let Logged {
            seq,
            operation: old,
        } = logged;
        let not = |why: String| Error::NotUndone { seq: *seq, why };
        for id in old.removed.iter().rev() {
            if state.snapshot(id).is_some() {
                continue;
            }
            state
                .restore_snapshot(id, &self.location())
                .map_err(|e| match e {
                    Error::NoSnapshot { .. } => {
                        not(format!("snapshot {} was collected since", id.short()))
                    }
                    e => e,
                })?;
            state.root.operation.added.push(*id);
        }
        let mut back = Vec::new();
        // Notes of what is where stay true.
        for change in old.refs.iter().filter(|change| goes_back(change)) {
            if state.get_ref(&change.name) != change.to {
                return Err(not(format!("{} was moved since", change.name)));
            }
            if let Some(from) = change.from
                && state.snapshot(&from).is_none()
            {
                let why = format!("{} was at {}, which is gone", change.name, from.short());
                return Err(not(why));
            }
            back.push(RefChange {
                name: change.name.clone(),
                from: change.to,
                to: change.from,
            });
        }
        self.move_refs(state, &back)?;
        let stays = self.kept(state, old, needed);
        for id in &old.added {
            if state.snapshot(id).is_some() && !stays.contains(id) {
                state.remove_snapshot(id);
                state.root.operation.removed.push(*id);
            }
        }
        Ok(())
    }

    /// What a ref, a home or the caller stands on, with all that it was made from: somebody went on
    /// from there. What an undo brought back into the midst of a history goes out of it again.
    fn kept(&self, state: &State, old: &Operation, needed: &[SnapshotId]) -> HashSet<SnapshotId> {
        let mut left: Vec<SnapshotId> = needed.to_vec();
        left.extend(state.refs().values());
        if old.verb == UNDO {
            return left.into_iter().collect();
        }
        let mut kept = HashSet::new();
        while let Some(id) = left.pop() {
            if kept.insert(id)
                && let Some(row) = state.snapshot(&id)
            {
                left.extend(&row.parents);
            }
        }
        kept
    }
}

/// Whether undoing moves this ref back. Notes of what is where stay true; that a home which was
/// forgotten is known again is no note.
fn goes_back(change: &RefChange) -> bool {
    let is = |kinds: &[&str]| kinds.iter().any(|kind| change.name.starts_with(kind));
    is(&["branch/", "tag/"]) || is(&["homes/"]) && change.to.is_none()
}

/// Several moves of one ref as one.
fn joined(changes: Vec<RefChange>) -> Vec<RefChange> {
    let mut joined: Vec<RefChange> = Vec::new();
    for change in changes {
        match joined.iter_mut().find(|other| other.name == change.name) {
            Some(other) => other.to = change.to,
            None => joined.push(change),
        }
    }
    joined.retain(|change| change.from != change.to);
    joined
}

fn did_anything(operation: &Operation) -> bool {
    !(operation.refs.is_empty() && operation.added.is_empty() && operation.removed.is_empty())
}
