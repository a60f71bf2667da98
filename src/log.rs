//! `log`: snapshots of a history in the order in which it is told, and what each goes on from.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use zenith_store::{Row, SnapshotId, State};

/// One snapshot of a log.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Its row of the table.
    pub row: &'a Row,
    /// Snapshots of the same log that it goes on from, the first parent first.
    pub parents: Vec<SnapshotId>,
    /// Whether snapshots are missing between it and what it goes on from: they were removed, or
    /// are not in this repository.
    pub is_gap: bool,
}

/// These snapshots and all of their ancestors, newest first, but none before one that was made
/// from it, whatever the clocks said.
pub fn entries<'a>(state: &'a State, tips: &[SnapshotId]) -> Vec<Entry<'a>> {
    let mut found: HashMap<SnapshotId, &Row> = HashMap::new();
    let mut left: Vec<SnapshotId> = tips.to_vec();
    while let Some(id) = left.pop() {
        if let Some(row) = state.snapshot(&id)
            && found.insert(id, row).is_none()
        {
            left.extend(&row.parents);
        }
    }
    let mut children: HashMap<SnapshotId, usize> = HashMap::new();
    for row in found.values() {
        for parent in distinct(row) {
            *children.entry(parent).or_default() += 1;
        }
    }
    // By time, and where that is equal in the order of commit.
    let key = |row: &Row| (row.time.unix_micros, row.serial, row.id);
    let ready = found.values().filter(|row| !children.contains_key(&row.id));
    let mut ready: BinaryHeap<_> = ready.map(|row| key(row)).collect();
    let mut entries = Vec::with_capacity(found.len());
    while let Some((.., id)) = ready.pop() {
        let row = found[&id];
        let mut parents = Vec::new();
        for parent in distinct(row) {
            let Some(parent_row) = found.get(&parent) else {
                continue;
            };
            parents.push(parent);
            if let Some(count) = children.get_mut(&parent) {
                *count -= 1;
                if *count == 0 {
                    ready.push(key(parent_row));
                }
            }
        }
        let is_gap = row.made_from.is_some() || parents.len() < distinct(row).count();
        entries.push(Entry {
            row,
            parents,
            is_gap,
        });
    }
    entries
}

/// The parents of a row, each once.
fn distinct(row: &Row) -> impl Iterator<Item = SnapshotId> {
    let mut seen = BTreeSet::new();
    let parents = row.parents.iter().copied();
    parents.filter(move |parent| seen.insert(*parent))
}

/// The same log with only those entries for which `keep` says so, in its order. What is left goes
/// on from the nearest ones before it that are left.
///
/// # Errors
/// What `keep` gives.
pub fn only<'a, E>(
    entries: Vec<Entry<'a>>,
    mut keep: impl FnMut(&Entry<'a>) -> Result<bool, E>,
) -> Result<Vec<Entry<'a>>, E> {
    // What stands for an entry that is not kept: the ones it leads to, and whether over a gap.
    let mut stands: BTreeMap<SnapshotId, (Vec<SnapshotId>, bool)> = BTreeMap::new();
    let mut kept = Vec::new();
    for entry in &entries {
        kept.push(keep(entry)?);
    }
    // From the oldest on, so that what an entry leads to is known before it.
    let mut left = Vec::new();
    for (mut entry, kept) in entries.into_iter().zip(kept).rev() {
        let mut parents = Vec::new();
        for parent in &entry.parents {
            match stands.get(parent) {
                Some((over, is_gap)) => {
                    parents.extend(over);
                    entry.is_gap |= is_gap;
                }
                None => parents.push(*parent),
            }
        }
        let mut seen = BTreeSet::new();
        parents.retain(|parent| seen.insert(*parent));
        entry.parents = parents;
        if kept {
            left.push(entry);
        } else {
            stands.insert(entry.row.id, (entry.parents, entry.is_gap));
        }
    }
    left.reverse();
    Ok(left)
}
