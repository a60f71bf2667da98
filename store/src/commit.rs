//! A change on its way into the next root: the commit loop, and what a root holds inline.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{Kind, PackName, SnapshotId};
use crate::log;
use crate::pack::PackWriter;
use crate::pack::frame::{self, Part};
use crate::repository::Repository;
use crate::root::{Operation, ROOT_MAX, RefChange, Root, SPILL_BYTES, SPILL_LEAST};
use crate::state::State;
use crate::table::SegmentPlace;

/// Refs that say what is known of elsewhere, and need not be here.
pub(crate) const NOTES: &str = "remote/";
/// A commit that loses this often to other writers gives up.
const COMMIT_TRIES: u32 = 32;
/// zstd level of table segments, which are small and read often.
const TABLE_LEVEL: i32 = 3;

/// Moves refs and takes snapshots out, without new data.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Snapshots to take out of the table.
    pub remove: Vec<SnapshotId>,
    /// Refs to move.
    pub refs: Vec<RefChange>,
    /// Who, what, when.
    pub operation: Operation,
}

impl Repository {
    /// Commits a change of refs and snapshot table.
    ///
    /// # Errors
    /// [`Error::RefMoved`] when a ref is not where the caller saw it, [`Error::NoSnapshot`] when a
    /// ref would name what is not there, [`Error::InUse`] when a ref names what is to be removed.
    pub fn commit(&self, change: Change) -> Result<Arc<State>> {
        let Change {
            remove,
            refs,
            operation,
        } = change;
        self.commit_with(operation, |state| {
            for id in &remove {
                if !state.remove_snapshot(id) {
                    return Err(Error::NoSnapshot {
                        id: *id,
                        location: self.location(),
                    });
                }
                state.root.operation.removed.push(*id);
            }
            self.move_refs(state, &refs)?;
            // Another may have moved a ref there since the caller looked.
            let named = |(name, id): &(&String, &SnapshotId)| {
                !name.starts_with(NOTES) && remove.contains(id)
            };
            match state.refs().iter().find(named) {
                Some((name, id)) => Err(Error::InUse {
                    id: *id,
                    name: name.clone(),
                }),
                None => Ok(()),
            }
        })
    }

    /// Moves refs that need not move together, in as many roots as it takes to tell of them.
    ///
    /// # Errors
    /// Those of [`Repository::commit`]. What moved before stays so.
    pub fn move_each(&self, refs: &[RefChange], operation: &Operation) -> Result<()> {
        for refs in RefChange::batches(refs) {
            self.commit(Change {
                refs: refs.to_vec(),
                operation: operation.clone(),
                ..Change::default()
            })?;
        }
        Ok(())
    }

    /// Moves refs in `state`, each from where the caller saw it.
    pub(crate) fn move_refs(&self, state: &mut State, refs: &[RefChange]) -> Result<()> {
        for change in refs {
            let found = state.get_ref(&change.name);
            if found != change.from {
                return Err(Error::RefMoved {
                    name: change.name.clone(),
                    expected: change.from,
                    found,
                });
            }
            match change.to {
                Some(id) => {
                    // A remote's tip may be known without being here; all others must be whole.
                    if !change.name.starts_with(NOTES) && state.snapshot(&id).is_none() {
                        return Err(Error::NoSnapshot {
                            id,
                            location: self.location(),
                        });
                    }
                    state.root.refs.insert(change.name.clone(), id);
                }
                None => {
                    state.root.refs.remove(&change.name);
                }
            }
            state.root.operation.refs.push(change.clone());
        }
        Ok(())
    }

    /// The commit loop: `make` changes a copy of the latest state, which becomes the next root.
    pub(crate) fn commit_with(
        &self,
        operation: Operation,
        make: impl FnMut(&mut State) -> Result<()>,
    ) -> Result<Arc<State>> {
        self.commit_of(operation, false, make)
    }

    /// As [`Repository::commit_with`]; a claim is made also where another home writes.
    pub(crate) fn commit_of(
        &self,
        operation: Operation,
        is_claim: bool,
        mut make: impl FnMut(&mut State) -> Result<()>,
    ) -> Result<Arc<State>> {
        let objects = &*self.inner.objects;
        // What a root did of which it cannot be told any more whether it was a commit.
        let mut doubt: Option<Operation> = None;
        for _ in 0..COMMIT_TRIES {
            let current = self.state()?;
            if doubt.as_ref().is_some_and(|did| current.has(did)) {
                return Ok(current);
            }
            match is_claim {
                true => self.refuse_unknown(&current)?,
                false => self.may_write(&current)?,
            }
            let mut next = (*current).clone();
            next.root.seq += 1;
            next.root.previous = Some(current.hash);
            next.root.nonce = self.world().bytes();
            next.root.operation = operation.clone();
            next.need_packs_2();
            make(&mut next)?;
            let bytes = self.fit(&mut next)?;
            let key = Root::key(next.seq());
            let committed = log::create(objects, &key, &bytes)?;
            // Where the block of the name was closed, the name may have been free because roots
            // were deleted, or ours may have been among them while we slept.
            if log::is_closed(objects, next.seq())? {
                doubt = Some(next.root.operation);
                self.lock_live_write().state = None;
                continue;
            }
            if committed {
                log::close_behind(objects, next.seq());
                next.hash = *blake3::hash(&bytes).as_bytes();
                let state = Arc::new(next);
                self.adopt(state.clone());
                return Ok(state);
            }
        }
        Err(Error::Contended {
            location: self.location(),
            tries: COMMIT_TRIES,
        })
    }

    /// Sees that a root may be written behind this one: that no other home is the only one to, and
    /// that this program knows all that it would have to heed.
    pub(crate) fn may_write(&self, state: &State) -> Result<()> {
        self.refuse_other_writer(state)?;
        self.refuse_unknown(state)
    }

    fn refuse_unknown(&self, state: &State) -> Result<()> {
        let unknown = state.unknown_for_writing();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::TooNew {
            location: self.location(),
            what: format!("features {unknown:?}"),
        })
    }

    /// The bytes of a root, after moving rows to segments where they would be too many.
    pub(crate) fn fit(&self, state: &mut State) -> Result<Vec<u8>> {
        let keys = &self.inner.keys;
        let floor = state.floor();
        let write = |rows| self.write_segment(rows, floor);
        state.settle_refs();
        let mut bytes = state.encode(keys);
        // A table that holds little does not make the root small; where it must be, all of it goes.
        for (limit, least) in [(SPILL_BYTES, SPILL_LEAST), (ROOT_MAX, 1)] {
            if bytes.len() > limit && state.snapshots.inline_len() >= least {
                state.snapshots.spill(&keys.ids, write)?;
                bytes = state.encode(keys);
            }
            if bytes.len() > limit && state.packs.inline_len() >= least {
                state.packs.spill(&keys.ids, write)?;
                bytes = state.encode(keys);
            }
            if bytes.len() > limit && state.removed.inline_len() >= least {
                state.removed.spill(&keys.ids, write)?;
                bytes = state.encode(keys);
            }
            if bytes.len() > limit && state.ref_table.inline_len() >= least {
                state.ref_table.spill(&keys.ids, write)?;
                bytes = state.encode(keys);
            }
            if bytes.len() > limit && state.index.inline_len() >= least {
                state.index.spill(&keys.ids, write)?;
                bytes = state.encode(keys);
            }
        }
        if bytes.len() > ROOT_MAX {
            return Err(Error::RootTooLarge {
                bytes: bytes.len(),
                limit: ROOT_MAX,
            });
        }
        Ok(bytes)
    }

    /// Writes a table segment as a pack of its own, of a session that `floor` does not fence: what
    /// is fenced and named by no root may be deleted before the root is there that names it.
    pub(crate) fn write_segment(&self, plain: Vec<u8>, floor: u64) -> Result<SegmentPlace> {
        let invalid = |e: std::io::Error| Error::Invalid {
            what: e.to_string(),
        };
        let name = PackName {
            session: self.world().session_above(floor),
            number: 0,
        };
        let id = self.ids().table(&plain).into();
        let parts = vec![Part::plain(Kind::Table, plain.len())];
        let mut compressor = zstd::bulk::Compressor::new(TABLE_LEVEL).map_err(invalid)?;
        let frame = frame::encode(parts, plain, &mut compressor);
        let mut writer =
            PackWriter::new(Vec::new(), name, self.seal().cloned()).map_err(invalid)?;
        let entry = writer.append(frame, &[id]).map_err(invalid)?.clone();
        let (bytes, finished) = writer.finish().map_err(invalid)?;
        // The name is random: what exists under it can only be an earlier try of this very call.
        self.inner.objects.create(&name.key(), &bytes)?;
        Ok(SegmentPlace {
            pack: name,
            pack_len: finished.len,
            payload_offset: entry.payload_offset,
            stored_len: entry.stored_len,
            plain_len: entry.plain_len,
            codec: entry.codec,
        })
    }
}
