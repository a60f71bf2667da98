//! Files that are stored on both sides: by their chunks' ids, then by what the store knows of the
//! pages of those that differ.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zenith_store::bulk::in_parallel;
use zenith_store::object::Entry;
use zenith_store::{ChunkId, Content, File, Repository, TreeId};

use super::FileChange;
use crate::error::{Error, Result};

/// Two versions of a file.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) path: String,
    pub(super) before: Option<File>,
    pub(super) after: Option<File>,
}

impl Pair {
    /// Whether there is a file at all, with other bytes on the one side than on the other.
    pub(super) fn differs(&self) -> bool {
        let bytes = |file: &Option<File>| file.as_ref().map(|f| (f.size, f.content.clone()));
        bytes(&self.before) != bytes(&self.after)
    }
}

/// Bytes of the file at a path of a tree.
pub(super) fn size(repo: &Repository, tree: TreeId, path: &str) -> Result<Option<u64>> {
    Ok(match repo.entry(tree, path)? {
        Some(Entry::File(file)) => Some(file.size),
        _ => None,
    })
}

/// What differs in each pair.
///
/// Errors: those of the store.
pub(super) fn compare(
    repo: &Repository,
    pairs: Vec<Pair>,
    block_size: u32,
    threads: usize,
) -> Result<Vec<FileChange>> {
    let counts: Vec<AtomicU64> = pairs.iter().map(|_| AtomicU64::new(0)).collect();
    let chunks = Mutex::new(Vec::new());
    let numbers: Vec<usize> = (0..pairs.len()).collect();
    in_parallel(threads, &numbers, |&n| -> Result<()> {
        let (Some(before), Some(after)) = (&pairs[n].before, &pairs[n].after) else {
            return Ok(());
        };
        if is_inline(before) || is_inline(after) {
            counts[n].store(small(repo, before, after, block_size)?, Ordering::Relaxed);
            return Ok(());
        }
        let changed = repo.changed_chunks(Some(before), Some(after))?;
        let both = changed.iter().filter_map(|chunk| {
            let (before, after) = (chunk.before?, chunk.after?);
            Some((before, after, (n, chunk.ordinal)))
        });
        let mut chunks = chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.extend(both);
        Ok(())
    })?;
    let chunks = chunks.into_inner().unwrap_or_else(PoisonError::into_inner);
    count(repo, chunks, block_size, threads, &counts)?;
    let changes = pairs
        .into_iter()
        .zip(counts)
        .map(|(pair, changed)| FileChange {
            path: pair.path,
            before: pair.before.map(|file| file.size),
            after: pair.after.map(|file| file.size),
            changed: changed.into_inner(),
        });
    Ok(changes.collect())
}

/// Counts the pages that differ in pairs of chunks, each under its file and its number there.
fn count(
    repo: &Repository,
    chunks: Vec<(ChunkId, ChunkId, (usize, u64))>,
    block_size: u32,
    threads: usize,
    counts: &[AtomicU64],
) -> Result<()> {
    let chunk_size = repo.params().chunk_size;
    if block_size <= chunk_size {
        return repo.changed_parts(chunks, block_size as usize, threads, &|(n, _), parts| {
            counts[*n].fetch_add(parts.len() as u64, Ordering::Relaxed);
            Ok::<_, Error>(())
        });
    }
    // A page is several chunks.
    let pages = Mutex::new(BTreeSet::new());
    let each = |(n, ordinal): &(usize, u64), parts: &[u32]| {
        if !parts.is_empty() {
            let page = ordinal * u64::from(chunk_size) / u64::from(block_size);
            let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
            pages.insert((*n, page));
        }
        Ok::<_, Error>(())
    };
    repo.changed_parts(chunks, chunk_size as usize, threads, &each)?;
    for (n, _) in pages.into_inner().unwrap_or_else(PoisonError::into_inner) {
        counts[n].fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) fn is_inline(file: &File) -> bool {
    matches!(file.content, Content::Inline(_))
}

/// Pages that both have and that differ, where one of them is so small that it lies in the tree.
fn small(repo: &Repository, before: &File, after: &File, block_size: u32) -> Result<u64> {
    let shorter = before.size.min(after.size).div_ceil(block_size.into());
    let bytes = |file: &File| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let wanted = shorter * u64::from(block_size);
        let mut reader = repo.file_reader(file)?.take(wanted);
        reader.read_to_end(&mut bytes).map_err(|e| {
            e.downcast::<zenith_store::Error>()
                .map_or_else(Error::io("read", "a stored file".as_ref()), Error::from)
        })?;
        Ok(bytes)
    };
    Ok(pages_that_differ(
        &bytes(before)?,
        &bytes(after)?,
        block_size,
    ))
}

/// Pages that both have and that differ; one that is cut short on one side does.
pub(super) fn pages_that_differ(before: &[u8], after: &[u8], block_size: u32) -> u64 {
    let block = block_size as usize;
    let pages = before.chunks(block).zip(after.chunks(block));
    pages.filter(|(before, after)| before != after).count() as u64
}
