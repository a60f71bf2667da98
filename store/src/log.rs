//! The root log: which root is the latest, and how old ones go away.
//!
//! Roots are numbered without gaps, and only create-if-absent makes one, so the latest is the one
//! after which there is none. Deleting a root would free its name, and a writer that slept since
//! could make it again and take that for a commit. So roots are deleted in whole blocks, each after
//! its mark is there for good: who makes or reads a root looks for the mark of its block
//! afterwards, and with a mark there begins anew. Marks also say where to look first, so that
//! finding the latest of very many roots takes a few requests.

use crate::error::Result;
use crate::objects::{Created, Objects};
use crate::root::Root;

/// Roots of one block.
pub(crate) const BLOCK: u64 = 256;
/// A block is marked when the log is this many blocks further; before, its roots are news.
const BEHIND: u64 = 2;
/// After so many roots found one by one, a listing is quicker.
const STEPS: u64 = 8;

const ROOTS: &str = "roots/";
const MARKS: &str = "marks/";

fn mark(block: u64) -> String {
    format!("{MARKS}{block:020}")
}

/// Whether the block of this root is closed: names in it may be free again, and mean nothing.
pub(crate) fn is_closed(objects: &dyn Objects, seq: u64) -> Result<bool> {
    Ok(objects.size(&mark(seq / BLOCK))?.is_some())
}

/// Makes a root unless there is one of its name; whether it is the one that lies there. The bytes
/// hold a nonce, so that nobody else's are the same.
pub(crate) fn create(objects: &dyn Objects, key: &str, bytes: &[u8]) -> Result<bool> {
    let created = match objects.create(key, bytes) {
        // The answer is lost; the same again tells. Reading would not do: a name whose sync failed
        // can be read, and creating it again syncs it.
        Err(e) => objects.create(key, bytes).map_err(|_| e)?,
        Ok(created) => created,
    };
    match created {
        Created::New => Ok(true),
        // Ours, when the answer to an earlier try was lost.
        Created::Exists => match objects.get(key) {
            Ok(found) => Ok(found == bytes),
            // Left behind and deleted since.
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        },
    }
}

/// Marks a block that the log has left behind. Only a hint so far, so that it may fail.
pub(crate) fn close_behind(objects: &dyn Objects, seq: u64) {
    if let Some(block) = (seq / BLOCK).checked_sub(BEHIND)
        && seq.is_multiple_of(BLOCK)
        && let Err(e) = objects.create(&mark(block), b"zenith mark\n")
    {
        tracing::debug!("block {block} of the root log is not marked: {e}");
    }
}

/// The number of the latest root; none where there are no roots. `known` was the latest once.
pub(crate) fn latest(objects: &dyn Objects, known: Option<u64>) -> Result<Option<u64>> {
    let mut from = known;
    loop {
        let found = match from {
            Some(seq) => Some(seq),
            None => newest_listed(objects, "")?,
        };
        let Some(mut seq) = found else {
            return Ok(None);
        };
        // A listing may be late; an object that was made is there for who asks for it.
        let mut steps = 0;
        while objects.size(&Root::key(seq + 1))?.is_some() {
            seq += 1;
            steps += 1;
            if steps == STEPS {
                let listed = newest_listed(objects, &Root::key(seq))?;
                seq = listed.map_or(seq, |listed| listed.max(seq));
                steps = 0;
            }
        }
        if !is_closed(objects, seq)? {
            return Ok(Some(seq));
        }
        // Left behind while we slept, or the listing was late: what is closed is behind.
        let after = seq / BLOCK * BLOCK + (BLOCK - 1);
        from = Some(newest_listed(objects, &Root::key(after))?.unwrap_or(after + 1));
    }
}

fn newest_listed(objects: &dyn Objects, after: &str) -> Result<Option<u64>> {
    let number = |key: &str, prefix: &str| key.strip_prefix(prefix)?.parse::<u64>().ok();
    let newest = |listed: Vec<crate::objects::Listed>, prefix: &str| {
        listed.iter().filter_map(|l| number(&l.key, prefix)).max()
    };
    let marked = newest(objects.list(MARKS)?, MARKS);
    let behind = marked.map(|block| Root::key(block * BLOCK + (BLOCK - 1)));
    let after = behind
        .filter(|behind| behind.as_str() > after)
        .unwrap_or_else(|| after.to_owned());
    let listed = match after.as_str() {
        "" => objects.list(ROOTS)?,
        after => objects.list_after(ROOTS, after)?,
    };
    Ok(newest(listed, ROOTS))
}

/// Deletes roots in blocks that lie wholly more than `keep` roots before `latest`; how many.
pub(crate) fn trim(objects: &dyn Objects, latest: u64, keep: u64) -> Result<u64> {
    let keep = keep.max(BEHIND * BLOCK);
    let first_kept = latest.saturating_sub(keep) / BLOCK * BLOCK;
    let mut deleted = 0;
    let mut marked = None;
    let mut listed = objects.list(ROOTS)?;
    listed.sort();
    for root in listed {
        let Some(seq) = root
            .key
            .strip_prefix(ROOTS)
            .and_then(|n| n.parse::<u64>().ok())
        else {
            continue;
        };
        if seq >= first_kept {
            break;
        }
        let block = seq / BLOCK;
        if marked != Some(block) {
            objects.create(&mark(block), b"zenith mark\n")?;
            marked = Some(block);
        }
        objects.delete(&root.key)?;
        deleted += 1;
    }
    Ok(deleted)
}
