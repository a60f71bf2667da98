//! Which parts of changed chunks differ: pages, for who knows what a page is.
//!
//! Most changed chunks are stored as a patch of what was at their place before. The runs of a patch
//! name the bytes that differ, so that neither chunk is decoded; where there is no such patch both
//! are, the later on top of the earlier if it stands on that. What a patch says is not checked
//! against the id of the chunk, since no byte of it leaves the store.

use crate::blob::{Chain, Fetched};
use crate::bulk::{BATCH, WINDOW, in_parallel};
use crate::delta::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, Id, Kind, PackName};
use crate::index::Location;
use crate::repository::Repository;
use std::sync::{Mutex, PoisonError};

/// What becomes of the numbers of the parts that differ, in order, of chunks given under a key.
pub type EachParts<'a, K, E> = &'a (dyn Fn(&K, &[u32]) -> Result<(), E> + Sync);

/// How the parts of two chunks that differ are found.
enum Way {
    /// One is stored as a patch of the other, and both have so many parts.
    Patch((Id, Location), usize),
    /// By the bytes of both. The second chain may have the first one's chunk in it.
    Bytes(Chain, Chain),
    /// By the bytes of one; the other is zeros.
    Zeros(Chain),
    /// Both are zeros.
    Nothing,
}

impl Way {
    fn blobs(&self) -> impl Iterator<Item = &(Id, Location)> {
        let (patch, before, after) = match self {
            Way::Patch(patch, _) => (Some(patch), None, None),
            Way::Bytes(before, after) => (None, Some(before), Some(after)),
            Way::Zeros(chain) => (None, Some(chain), None),
            Way::Nothing => (None, None, None),
        };
        patch
            .into_iter()
            .chain(before.into_iter().flatten())
            .chain(after.into_iter().flatten())
    }

    /// Where the blob lies that is read first.
    fn order(&self) -> Option<(PackName, u64)> {
        let (_, place) = self.blobs().next()?;
        Some((place.pack, place.payload_offset))
    }
}

impl Repository {
    /// Tells for pairs of chunks, before and after, which of their parts of `part` bytes differ:
    /// gives the numbers of these parts to `each`, with the key of the pair, on `threads` threads.
    ///
    /// Only parts that both chunks have are compared; a part of which one chunk has fewer bytes
    /// differs. [`ChunkId::ZERO`] is as long as the other one.
    ///
    /// # Errors
    /// The first that reading or `each` gives; what is under way is completed.
    ///
    /// # Panics
    /// When `part` is less than 16: a patch does not tell so exactly.
    pub fn changed_parts<K, E>(
        &self,
        pairs: impl IntoIterator<Item = (ChunkId, ChunkId, K)>,
        part: usize,
        threads: usize,
        each: EachParts<'_, K, E>,
    ) -> Result<(), E>
    where
        K: Send + Sync,
        E: From<Error> + Send,
    {
        assert!(part >= 16, "parts of {part} bytes");
        let threads = threads.min(self.world().threads());
        let mut pairs = pairs.into_iter();
        loop {
            let window: Vec<_> = pairs.by_ref().take(WINDOW / 2).collect();
            if window.is_empty() {
                return Ok(());
            }
            let mut items = self.ways(&window, part, threads)?;
            items.sort_by_key(|(way, _)| way.order());
            let batches: Vec<&[(Way, &K)]> = items.chunks(BATCH).collect();
            in_parallel(threads, &batches, |batch| -> Result<(), E> {
                let fetched = self.fetch_ahead(batch.iter().flat_map(|(way, _)| way.blobs()))?;
                let mut buffers = (Vec::new(), Vec::new());
                let mut parts = Vec::new();
                for (way, key) in *batch {
                    parts.clear();
                    self.parts_of(way, part, &fetched, &mut buffers, &mut parts)?;
                    each(key, &parts)?;
                }
                Ok(())
            })?;
        }
    }

    fn ways<'a, K: Sync>(
        &self,
        window: &'a [(ChunkId, ChunkId, K)],
        part: usize,
        threads: usize,
    ) -> Result<Vec<(Way, &'a K)>> {
        let groups: Vec<_> = window.chunks(BATCH * 4).collect();
        let found = Mutex::new(Vec::with_capacity(window.len()));
        in_parallel(threads, &groups, |group| -> Result<()> {
            let ways = group
                .iter()
                .map(|(before, after, key)| Ok((self.way(*before, *after, part)?, key)))
                .collect::<Result<Vec<_>>>()?;
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(ways);
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn way(&self, before: ChunkId, after: ChunkId, part: usize) -> Result<Way> {
        let chain = |id: ChunkId| self.find(Kind::Chunk, id.into());
        match (before.is_zero(), after.is_zero()) {
            (true, true) => Ok(Way::Nothing),
            (false, true) => Ok(Way::Zeros(chain(before)?)),
            (true, false) => Ok(Way::Zeros(chain(after)?)),
            (false, false) => {
                let (before, after) = (chain(before)?, chain(after)?);
                let patch = patch_of(&after, &before, part).or(patch_of(&before, &after, part));
                Ok(match patch {
                    Some((patch, both)) => Way::Patch(patch, both),
                    None if stands_on(&before, after[0].0).is_some() => Way::Bytes(after, before),
                    None => Way::Bytes(before, after),
                })
            }
        }
    }

    fn parts_of(
        &self,
        way: &Way,
        part: usize,
        fetched: &Fetched,
        (one, other): &mut (Vec<u8>, Vec<u8>),
        out: &mut Vec<u32>,
    ) -> Result<()> {
        match way {
            Way::Nothing => {}
            Way::Patch((_, place), both) => {
                self.runs(place, fetched, |from, run| {
                    // A run has few equal bytes in a row, so that no part of it is equal.
                    let end = (from + run.len()).div_ceil(part).min(*both);
                    let first = out.last().map_or(0, |last| *last as usize + 1);
                    out.extend((first.max(from / part)..end).map(|part| part as u32));
                })?;
            }
            Way::Zeros(chain) => {
                self.read_found(Kind::Chunk, chain, fetched, one)?;
                out.extend(differing(one.chunks(part), |bytes| {
                    bytes.iter().all(|byte| *byte == 0)
                }));
            }
            Way::Bytes(before, after) => {
                self.read_found(Kind::Chunk, before, fetched, one)?;
                self.read_on(before, after, one, fetched, other)?;
                let mut others = other.chunks(part);
                let both = one.len().min(other.len()).div_ceil(part);
                out.extend(differing(one.chunks(part).take(both), |bytes| {
                    others.next() == Some(bytes)
                }));
            }
        }
        Ok(())
    }

    /// The bytes of the chunk of `after` into `into`, given those of `before`'s.
    fn read_on(
        &self,
        before: &Chain,
        after: &Chain,
        bytes: &[u8],
        fetched: &Fetched,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(above) = stands_on(after, before[0].0) {
            into.clear();
            into.extend_from_slice(bytes);
            match self.read_above(Kind::Chunk, after, above, fetched, into) {
                // There may be another copy.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                read => return read,
            }
        }
        self.read_found(Kind::Chunk, after, fetched, into)
    }
}

/// How many blobs of a chain stand on this one.
fn stands_on(chain: &Chain, id: Id) -> Option<usize> {
    chain.iter().position(|(own, _)| *own == id)
}

/// The first blob of a chain where it is a patch of the other chain's first, and tells everything
/// about the parts that both have; with their number.
fn patch_of(chain: &Chain, other: &Chain, part: usize) -> Option<((Id, Location), usize)> {
    let (top, place) = chain[0];
    let (base, under) = other[0];
    let is_patch = place.form == Form::Patch && chain.get(1).is_some_and(|(id, _)| *id == base);
    // A base is cut, or goes on with zeros: nothing is told of how much of its last part there was.
    let shorter = place.len.min(under.len) as usize;
    let tells_all = place.len == under.len || shorter.is_multiple_of(part);
    (is_patch && tells_all).then_some(((top, place), shorter.div_ceil(part)))
}

fn differing<'a>(
    parts: impl Iterator<Item = &'a [u8]>,
    mut is_equal: impl FnMut(&[u8]) -> bool,
) -> impl Iterator<Item = u32> {
    (0u32..)
        .zip(parts)
        .filter(move |(_, bytes)| !is_equal(bytes))
        .map(|(at, _)| at)
}
