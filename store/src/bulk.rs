//! Many chunks at once, in the order in which they lie in their packs.
//!
//! Chunks are taken in windows, so that memory is bounded however many are wanted. Of a window
//! the chains are looked up, then sorted by the place of the plain blob, then cut into batches,
//! which threads read one after the other. Within a batch chunks come in the order of their keys,
//! since whoever writes them to files wants these to grow in order. From a bucket a batch is
//! fetched in few ranges; files of this machine are read frame by frame, which the sorting makes
//! sequential.

use crate::blob::{Chain, Fetched};
use crate::error::{Error, Result};
use crate::id::{ChunkId, Id, Kind, PackName};
use crate::index::Location;
use crate::repository::Repository;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Chunks of a window: 2 GiB of 64 KiB each, some 50 MB of chains.
pub const WINDOW: usize = 32 << 10;
/// Chunks of a batch: what one thread takes at a time, and what one round of ranges brings.
pub const BATCH: usize = 128;
/// Ranges of a pack with no more between them are fetched as one.
const GAP_BYTES: u64 = 128 << 10;
/// Ranges that one thread fetches at once: a chain is one round of requests.
const REQUESTS: usize = 8;
/// A range that is fetched as one is no longer.
const RANGE_BYTES: u64 = 8 << 20;

/// What becomes of the bytes of a chunk that was wanted under a key.
pub type Each<'a, K, E> = &'a (dyn Fn(&K, &[u8]) -> Result<(), E> + Sync);

/// A chunk that is wanted, with its chain and the places it is wanted for.
pub(crate) struct Item<K> {
    pub(crate) chain: Chain,
    pub(crate) keys: Vec<K>,
}

impl<K> Item<K> {
    /// Where the plain blob lies: the longest of what is read.
    fn order(&self) -> (PackName, u64) {
        let (_, last) = self.chain[self.chain.len() - 1];
        (last.pack, last.payload_offset)
    }
}

impl Repository {
    /// Gives the bytes of every wanted chunk, none of them [`ChunkId::ZERO`], to `each`, with the
    /// key it was asked for under; on `threads` threads, in the order of packs. A chunk that is
    /// wanted several times is read once.
    ///
    /// # Errors
    /// The first that reading or `each` gives; what is under way is completed.
    pub fn read_many<K, E>(
        &self,
        wanted: impl IntoIterator<Item = (ChunkId, K)>,
        threads: usize,
        each: Each<'_, K, E>,
    ) -> Result<(), E>
    where
        K: Ord + Send + Sync,
        E: From<Error> + Send,
    {
        let threads = threads.min(self.world().threads());
        let mut wanted = wanted.into_iter();
        loop {
            let mut window: BTreeMap<ChunkId, Vec<K>> = BTreeMap::new();
            for (id, key) in wanted.by_ref().take(WINDOW) {
                window.entry(id).or_default().push(key);
            }
            if window.is_empty() {
                return Ok(());
            }
            let window: Vec<_> = window.into_iter().collect();
            let mut items = self.look_up(window, threads)?;
            items.sort_by_key(Item::order);
            // Neighbours in a pack are read together, and given in the order of their keys.
            items
                .chunks_mut(BATCH)
                .for_each(|batch| batch.sort_by(|a, b| a.keys[0].cmp(&b.keys[0])));
            let batches: Vec<&[Item<K>]> = items.chunks(BATCH).collect();
            in_parallel(threads, &batches, |batch| self.read_batch(batch, each))?;
        }
    }

    fn look_up<K: Send>(
        &self,
        window: Vec<(ChunkId, Vec<K>)>,
        threads: usize,
    ) -> Result<Vec<Item<K>>> {
        let mut left = window;
        let mut parts = Vec::new();
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(BATCH * 8));
            parts.push(Mutex::new(Some(left)));
            left = rest;
        }
        let found = Mutex::new(Vec::new());
        in_parallel(threads, &parts, |part| -> Result<()> {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut items = Vec::new();
            for (id, keys) in part.into_iter().flatten() {
                let chain = self.find(Kind::Chunk, id.into())?;
                items.push(Item { chain, keys });
            }
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&mut items);
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_batch<K, E: From<Error>>(
        &self,
        batch: &[Item<K>],
        each: Each<'_, K, E>,
    ) -> Result<(), E> {
        let fetched = self.fetch_ahead(batch.iter().flat_map(|item| &item.chain))?;
        let mut bytes = Vec::new();
        for item in batch {
            self.read_found(Kind::Chunk, &item.chain, &fetched, &mut bytes)?;
            for key in &item.keys {
                each(key, &bytes)?;
            }
        }
        Ok(())
    }

    /// What blobs need of packs that are no files here, in ranges that lie close together.
    pub(crate) fn fetch_ahead<'a>(
        &self,
        blobs: impl Iterator<Item = &'a (Id, Location)>,
    ) -> Result<Fetched> {
        let fetched = Fetched::default();
        let mut near: HashMap<PackName, bool> = HashMap::new();
        let mut is_far = |pack: &PackName| {
            let objects = self.objects();
            let is_near = || objects.local_path(&pack.key()).is_some();
            !*near.entry(*pack).or_insert_with(is_near)
        };
        let sealed = self.seal().is_some();
        let mut frames: Vec<(PackName, u64, u64)> = blobs
            .filter(|(_, place)| is_far(&place.pack))
            .map(|(_, place)| {
                let (begin, len) = place.stored_range(sealed);
                (place.pack, begin, begin + len as u64)
            })
            .collect();
        if frames.is_empty() {
            return Ok(fetched);
        }
        frames.sort_unstable();
        frames.dedup();
        let mut ranges: Vec<(PackName, u64, u64)> = Vec::new();
        for (pack, begin, end) in frames {
            match ranges.last_mut() {
                Some((last, from, to))
                    if *last == pack && begin <= *to + GAP_BYTES && end - *from <= RANGE_BYTES =>
                {
                    *to = end.max(*to);
                }
                _ => ranges.push((pack, begin, end)),
            }
        }
        let fetched = Mutex::new(fetched);
        let requests = REQUESTS.min(self.world().threads());
        in_parallel(requests, &ranges, |(pack, begin, end)| -> Result<()> {
            let len = (end - begin) as usize;
            match self.objects().get_range(&pack.key(), *begin, len) {
                Ok(bytes) => fetched
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(*pack, *begin, bytes),
                // Told by the chunk that is read from it, unless there is another copy.
                Err(e) if e.is_not_found() || e.is_out_of_range() => {}
                Err(e) => return Err(e.into()),
            }
            Ok(())
        })?;
        Ok(fetched.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Does `work` for every item, in order, on so many threads; gives the first error.
///
/// # Errors
/// What `work` gives; what other threads have begun is completed.
pub fn in_parallel<T: Sync, E: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<E>> = Mutex::new(None);
    std::thread::scope(|scope| {
        let run = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                if let Err(e) = work(item) {
                    stop.store(true, Ordering::Relaxed);
                    failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(e);
                }
            }
        };
        for _ in 1..threads.clamp(1, items.len().max(1)) {
            scope.spawn(run);
        }
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(()),
    }
}
