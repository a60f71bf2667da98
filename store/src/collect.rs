//! Local space: packs that no snapshot needs go away, mostly dead ones are packed anew.
//!
//! For the home only, under its lock and with no reader: safe there because nobody else writes.
//! A pack leaves the root first and the disk second, so an interruption leaves only garbage.

use crate::error::{Error, Result};
use crate::id::{Id, Kind, PackName};
use crate::index::{Location, locations};
use crate::pack::{self, frame};
use crate::repository::Repository;
use crate::root::{Operation, PackRow, Root};
use crate::writer::Writer;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A pack with less than this share of its bytes in use is packed anew.
const REPACK_BELOW_PERCENT: u64 = 50;
/// Roots kept in a home: the operations that can be looked at and undone.
const ROOTS_KEPT: u64 = 1000;

/// What a collection did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that went away.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes written anew to keep what was alive in them.
    pub rewritten: u64,
}

impl Repository {
    /// Frees space. The caller holds the home's lock and knows that nobody reads.
    ///
    /// # Errors
    /// When something is missing, damaged or cannot be written; nothing that a snapshot needs has
    /// gone then.
    pub fn collect(&self, operation: Operation, dry_run: bool) -> Result<Collected> {
        let state = self.state()?;
        // What a writer left that did not commit is about to go away: nothing may lean on it.
        self.inner
            .live
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pending
            .clear();
        // Every blob in use, once, by pack.
        let mut in_use: HashMap<PackName, HashMap<u32, (Id, Kind, Location)>> = HashMap::new();
        let mut seen = HashSet::new();
        for row in state.snapshots() {
            self.places(row.id, row.tree, &mut seen, &mut |id, kind, place| {
                in_use
                    .entry(place.pack)
                    .or_default()
                    .insert(place.ordinal, (id, kind, place));
            })?;
        }
        let mut keep: HashSet<PackName> = HashSet::new();
        let mut repack: Vec<(PackName, u64)> = Vec::new();
        let mut drop: Vec<(PackName, u64)> = Vec::new();
        for pack in state.packs() {
            let used: u64 = in_use.get(&pack.name).map_or(0, |blobs| {
                blobs.values().map(|(_, _, p)| p.stored_share()).sum()
            });
            if used * 100 >= pack.len * REPACK_BELOW_PERCENT
                || used > 0 && used * 100 >= self.could_use(pack)? * REPACK_BELOW_PERCENT
            {
                keep.insert(pack.name);
                continue;
            }
            drop.push((pack.name, pack.len));
            if used > 0 {
                repack.push((pack.name, pack.len));
            }
        }
        let mut done = Collected {
            packs: drop.len() as u64,
            bytes: drop.iter().map(|(_, len)| len).sum(),
            rewritten: 0,
        };
        if dry_run {
            return Ok(done);
        }
        if !drop.is_empty() {
            done.rewritten = self.move_out(&repack, &in_use, &drop, operation)?;
            for (name, len) in &drop {
                match self.directory(*name, *len) {
                    Ok(directory) => self.inner.index.drop_pack(*name, &directory)?,
                    // Rows of packs that are not live do no harm.
                    Err(e) if e.is_lost() => {}
                    Err(e) => return Err(e),
                }
                self.objects().delete(&name.key())?;
            }
        }
        self.remove_unnamed()?;
        Ok(done)
    }

    /// What would be in use of a pack if all of it were. That is much less than its length where
    /// blobs are small: names and tables then take more than what they name.
    fn could_use(&self, pack: &PackRow) -> Result<u64> {
        let directory = self.directory(pack.name, pack.len)?;
        Ok(locations(pack.name, &directory)
            .map(|(_, place)| place.stored_share())
            .sum())
    }

    /// Writes what is alive in `repack` into new packs and commits a root without `drop`.
    fn move_out(
        &self,
        repack: &[(PackName, u64)],
        in_use: &HashMap<PackName, HashMap<u32, (Id, Kind, Location)>>,
        drop: &[(PackName, u64)],
        operation: Operation,
    ) -> Result<u64> {
        let writer = self.writer()?;
        for (name, len) in repack {
            self.move_pack(*name, *len, &in_use[name], &writer)?;
        }
        let new = writer.into_packs()?;
        // From here on the old packs are not to be found, so usage is counted without them.
        let gone: HashSet<PackName> = drop.iter().map(|(name, _)| *name).collect();
        {
            let mut live = self
                .inner
                .live
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            live.packs.retain(|name, _| !gone.contains(name));
        }
        let state = self
            .lock_live_read()
            .state
            .clone()
            .ok_or_else(|| Error::Invalid {
                what: "a collection without a state".into(),
            })?;
        let mut usages = Vec::new();
        for row in state.snapshots() {
            usages.push((row.clone(), self.usage_of(row.id, row.tree)?));
        }
        let lengths: HashMap<PackName, u64> = {
            // Pending are the new packs, and whole ones that an interrupted collection left.
            let live = self.lock_live_read();
            live.packs
                .iter()
                .chain(&live.pending)
                .map(|(name, len)| (*name, *len))
                .collect()
        };
        let base = state.seq();
        let committed = self.commit_with(operation, |next| {
            // The lock keeps others out; a root from elsewhere means that it was not held.
            if next.seq() != base + 1 {
                return Err(Error::Contended {
                    location: self.location(),
                    tries: 1,
                });
            }
            next.forget_packs(&gone);
            for (row, usage) in &usages {
                let with_len: BTreeMap<PackName, (u64, u64)> = usage
                    .iter()
                    .map(|(name, bytes)| (*name, (lengths[name], *bytes)))
                    .collect();
                next.set_usage(row.serial, &with_len);
            }
            Ok(())
        });
        let mut live = self
            .inner
            .live
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        live.pending.clear();
        if committed.is_err() {
            live.state = None;
        }
        std::mem::drop(live);
        committed?;
        Ok(new.values().sum())
    }

    /// Writes what is alive in one pack into another: frames that are mostly alive as they lie, of
    /// others the blobs that are. A delta stays the delta it is; what it stands on is alive, too.
    fn move_pack(
        &self,
        name: PackName,
        len: u64,
        alive: &HashMap<u32, (Id, Kind, Location)>,
        writer: &Writer,
    ) -> Result<()> {
        // Frames and bodies are moved as they lie, so what rotted must not get a fresh hash.
        self.check_content(name)?;
        let directory = self.directory(name, len)?;
        let mut ordinals = 0u32..;
        for frame in &directory.frames {
            let blobs: Vec<_> = frame
                .blobs
                .iter()
                .zip(&mut ordinals)
                .filter_map(|(blob, ordinal)| Some((blob, alive.get(&ordinal)?)))
                .collect();
            let used: u64 = blobs
                .iter()
                .map(|(blob, _)| u64::from(blob.part.body_len))
                .sum();
            if blobs.is_empty() {
                continue;
            }
            let all: u64 = frame
                .blobs
                .iter()
                .map(|blob| u64::from(blob.part.body_len))
                .sum();
            let as_it_lies = all <= 2 * used
                && frame.payload_offset - frame.offset
                    == frame::payload_at(self.seal().is_some()) as u64;
            if as_it_lies {
                let frame_len = (frame.end() - frame.offset) as usize;
                let bytes = self
                    .objects()
                    .get_range(&name.key(), frame.offset, frame_len)?;
                writer.append_verbatim(frame, &bytes)?;
                continue;
            }
            for (blob, (_, _, place)) in blobs {
                let body = self.body(place)?;
                writer.store_body(blob.id, blob.part, &body)?;
            }
        }
        Ok(())
    }

    /// Whether a pack is what its writer wrote.
    fn check_content(&self, name: PackName) -> Result<()> {
        let Some(path) = self.objects().local_path(&name.key()) else {
            return Ok(());
        };
        let mut file = std::fs::File::open(&path).map_err(Error::file("open", &path))?;
        let checked = pack::reader::check_file(&mut file).map_err(Error::file("read", &path))?;
        checked.map_err(|why| Error::Damaged {
            what: format!("pack {name}"),
            location: self.location(),
            why,
        })
    }

    /// Removes files that no root names and roots that are older than anyone looks at.
    fn remove_unnamed(&self) -> Result<()> {
        let state = self.state()?;
        let named: HashSet<PackName> = state
            .packs()
            .map(|p| p.name)
            .chain(state.snapshots.segment_packs().map(|(name, _)| name))
            .chain(state.packs.segment_packs().map(|(name, _)| name))
            .collect();
        let sessions: HashSet<String> = named
            .iter()
            .map(|name| crate::id::hex(&name.session))
            .collect();
        for listed in self.objects().list("packs/")? {
            let name = listed
                .key
                .strip_prefix("packs/")
                .and_then(|n| n.parse().ok());
            if name.is_some_and(|name| !named.contains(&name)) {
                self.objects().delete(&listed.key)?;
            }
        }
        for listed in self.objects().list("sessions/")? {
            if listed
                .key
                .strip_prefix("sessions/")
                .is_some_and(|s| !sessions.contains(s))
            {
                self.objects().delete(&listed.key)?;
            }
        }
        let oldest = Root::key(state.seq().saturating_sub(ROOTS_KEPT));
        for listed in self.objects().list("roots/")? {
            if listed.key < oldest {
                self.objects().delete(&listed.key)?;
            }
        }
        Ok(())
    }
}
