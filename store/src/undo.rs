//! The root log as the operation log: what was done, and the way back.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::repository::Repository;
use crate::root::{Operation, RefChange, Root};
use crate::state::State;
use std::sync::Arc;

/// One entry of the operation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Number of its root.
    pub seq: u64,
    /// What it did.
    pub operation: Operation,
}

impl Logged {
    /// Whether it changed refs or the snapshot table, so that there is something to undo.
    pub fn moved(&self) -> bool {
        let Operation {
            refs,
            removed,
            added,
            ..
        } = &self.operation;
        !(refs.is_empty() && removed.is_empty() && added.is_empty())
    }
}

impl Repository {
    /// The operations from `before` (without it; none for the latest) backwards, as far as roots
    /// are kept. An iterator: every step reads one root.
    ///
    /// # Errors
    /// When the log cannot be read. Each step gives an error of its own for a damaged root.
    pub fn operations(&self, before: Option<u64>) -> Result<impl Iterator<Item = Result<Logged>>> {
        let state = self.state()?;
        let end = before.unwrap_or(u64::MAX).min(state.seq() + 1);
        let repository = self.clone();
        Ok((0..end)
            .rev()
            .map_while(move |seq| repository.logged(seq).transpose()))
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

    /// Reverses what one operation did to refs and to the snapshot table, by a root of its own. A
    /// branch or tag is moved back only where it stands as the operation left it; what was removed
    /// comes back; what was added goes, unless a ref or one of `needed` stands on it.
    ///
    /// # Errors
    /// [`Error::NotUndone`] when a branch or tag was moved since, or a removed snapshot is gone for
    /// good; nothing is changed then.
    pub fn undo(
        &self,
        seq: u64,
        operation: Operation,
        needed: &[SnapshotId],
    ) -> Result<Arc<State>> {
        let not = |why: String| Error::NotUndone { seq, why };
        let logged = self
            .logged(seq)?
            .ok_or_else(|| not("the log does not reach back so far".into()))?;
        if !logged.moved() {
            return Err(not("it changed neither refs nor snapshots".into()));
        }
        let Logged { operation: old, .. } = logged;
        self.commit_with(operation, |state| {
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
            for change in &old.refs {
                // Notes of what is where stay true.
                if !["branch/", "tag/"]
                    .iter()
                    .any(|kind| change.name.starts_with(kind))
                {
                    continue;
                }
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
            for id in &old.added {
                if state.snapshot(id).is_none() {
                    continue;
                }
                // What a ref, a home or the caller stands on stays.
                let stands = needed.contains(id) || state.refs().values().any(|tip| tip == id);
                if !stands {
                    state.remove_snapshot(id);
                    state.root.operation.removed.push(*id);
                }
            }
            Ok(())
        })
    }
}
