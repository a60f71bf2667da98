//! What snapshots need, found on one walk that visits shared nodes once.

use crate::error::Result;
use crate::id::{ChunkId, Id, Kind, PackName, SnapshotId, TreeId};
use crate::index::Location;
use crate::object::tree::TreeNode;
use crate::object::{Content, Entry, Extents};
use crate::repository::Repository;
use crate::state::State;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Deltas that are noted at most, some 60 bytes each.
const DELTAS_MAX: usize = 1 << 20;

/// Entries of the usages of nodes that are kept in each of two generations, some 40 bytes each. A
/// large cluster that is written to everywhere has other nodes in every snapshot.
const BELOW_MAX: usize = 1 << 20;

/// A blob in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
    pub(crate) place: Location,
    /// Whether a snapshot names it. Else only deltas stand on it.
    pub(crate) named: bool,
}

/// Blobs in use, by their number in the pack.
pub(crate) type Alive = HashMap<u32, Used>;
/// Packs with the stored bytes used of each.
pub(crate) type Usage = BTreeMap<PackName, u64>;

/// What snapshots need: which blobs of the packs that matter, and which packs in all.
pub(crate) struct Needs<'a> {
    repository: &'a Repository,
    /// Packs whose blobs are noted. One that a damaged snapshot uses is taken out: what it needs
    /// of it cannot be told. So is one on which more deltas stand than there is memory for.
    pub(crate) noted: HashSet<PackName>,
    pub(crate) alive: HashMap<PackName, Alive>,
    /// In a home, deltas that a snapshot names and that stand on blobs of noted packs.
    pub(crate) deltas: HashMap<Id, Kind>,
    /// Of each snapshot that uses one of them.
    pub(crate) usages: HashMap<SnapshotId, Usage>,
    /// What is needed for a node and all below it; nodes are shared by many snapshots.
    below: Below,
}

/// What was found for nodes lately. What was not asked for while a whole generation came in is
/// forgotten, and found anew when it is.
#[derive(Default)]
struct Below {
    max: usize,
    entries: usize,
    young: HashMap<Id, Arc<Usage>>,
    old: HashMap<Id, Arc<Usage>>,
}

impl Below {
    fn get(&mut self, id: &Id) -> Option<Arc<Usage>> {
        if let Some(known) = self.young.get(id) {
            return Some(known.clone());
        }
        let known = self.old.remove(id)?;
        self.keep(*id, known.clone());
        Some(known)
    }

    fn keep(&mut self, id: Id, usage: Arc<Usage>) {
        // The node has a place of its own beside what it holds.
        let entries = usage.len() + 2;
        if self.entries + entries > self.max {
            self.old = std::mem::take(&mut self.young);
            self.entries = 0;
        }
        self.entries += entries;
        self.young.insert(id, usage);
    }
}

impl<'a> Needs<'a> {
    pub(crate) fn new(repository: &'a Repository, noted: HashSet<PackName>) -> Self {
        Needs {
            repository,
            noted,
            alive: HashMap::new(),
            deltas: HashMap::new(),
            usages: HashMap::new(),
            below: Below {
                max: BELOW_MAX,
                ..Below::default()
            },
        }
    }

    /// Forgets what only further snapshots would have use for.
    pub(crate) fn forget(&mut self) {
        self.below = Below {
            max: self.below.max,
            ..Below::default()
        };
    }

    pub(crate) fn look(&mut self, state: &State) -> Result<()> {
        let noted = state.packs().filter(|pack| self.noted.contains(&pack.name));
        let mut noted: HashMap<u64, PackName> = noted.map(|p| (p.ordinal, p.name)).collect();
        state.each_usage(|row, usage| {
            if !usage.keys().any(|ordinal| noted.contains_key(ordinal)) {
                return Ok(());
            }
            match self.snapshot(row.id, row.tree) {
                Ok(usage) => drop(self.usages.insert(row.id, usage)),
                Err(e) if e.is_lost() => {
                    tracing::warn!("packs of snapshot {} are not packed anew: {e}", row.id);
                    noted.retain(|ordinal, _| !usage.contains_key(ordinal));
                    self.noted
                        .retain(|name| noted.values().any(|left| left == name));
                }
                Err(e) => return Err(e),
            }
            Ok(())
        })
    }

    /// What one snapshot needs.
    pub(crate) fn snapshot(&mut self, id: SnapshotId, tree: TreeId) -> Result<Usage> {
        let mut usage = Usage::new();
        self.place(Kind::Snapshot, id.into(), &mut usage)?;
        add(&mut usage, &*self.tree(tree)?);
        Ok(usage)
    }

    /// Notes where a blob lies, with all that it stands on.
    fn place(&mut self, kind: Kind, id: Id, usage: &mut Usage) -> Result<()> {
        let Some(chain) = self.repository.locate(&id)? else {
            return Err(self.repository.missing(kind, id)?);
        };
        for (under, (found, place)) in chain.into_iter().enumerate() {
            *usage.entry(place.pack).or_default() += place.stored_share();
            if !self.noted.contains(&place.pack) {
                continue;
            }
            let alive = self.alive.entry(place.pack).or_default();
            let used = alive.entry(place.ordinal).or_insert(Used {
                id: found,
                kind,
                place,
                named: false,
            });
            used.named |= under == 0;
            if under == 0 || !self.repository.is_alone() {
                continue;
            }
            if self.deltas.len() < DELTAS_MAX {
                self.deltas.insert(id, kind);
            } else if !self.deltas.contains_key(&id) {
                self.noted.remove(&place.pack);
                self.alive.remove(&place.pack);
            }
        }
        Ok(())
    }

    fn tree(&mut self, id: TreeId) -> Result<Arc<Usage>> {
        if let Some(known) = self.below.get(&id.into()) {
            return Ok(known);
        }
        let mut usage = Usage::new();
        self.place(Kind::Tree, id.into(), &mut usage)?;
        let mut children = Vec::new();
        match self.repository.tree_node(id)? {
            TreeNode::Inner(_, items) => {
                for (_, id) in items {
                    children.push(self.tree(id)?);
                }
            }
            TreeNode::Leaf(entries) => {
                for (_, entry) in entries {
                    match entry {
                        Entry::Directory { tree, .. } => children.push(self.tree(tree)?),
                        Entry::File(file) => {
                            if let Content::Extents(map) = file.content {
                                children.push(self.extents(map)?);
                            }
                        }
                    }
                }
            }
        }
        Ok(self.keep(id.into(), usage, &children))
    }

    fn extents(&mut self, map: Extents) -> Result<Arc<Usage>> {
        let id = Id(map.id);
        let mut usage = Usage::new();
        if map.depth == 0 {
            if !ChunkId(map.id).is_zero() {
                self.place(Kind::Chunk, id, &mut usage)?;
            }
            return Ok(Arc::new(usage));
        }
        if let Some(known) = self.below.get(&id) {
            return Ok(known);
        }
        self.place(Kind::Extents, id, &mut usage)?;
        let mut children = Vec::new();
        for id in self.repository.extent_node(map)? {
            let depth = map.depth - 1;
            let child = Extents { depth, id };
            match depth {
                0 if ChunkId(id).is_zero() => {}
                0 => self.place(Kind::Chunk, Id(id), &mut usage)?,
                _ => children.push(self.extents(child)?),
            }
        }
        Ok(self.keep(id, usage, &children))
    }

    fn keep(&mut self, id: Id, mut usage: Usage, children: &[Arc<Usage>]) -> Arc<Usage> {
        for child in children {
            add(&mut usage, child);
        }
        let usage = Arc::new(usage);
        self.below.keep(id, usage.clone());
        usage
    }
}

fn add(usage: &mut Usage, more: &Usage) {
    for (name, bytes) in more {
        *usage.entry(*name).or_default() += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(packs: u32) -> Arc<Usage> {
        let name = |number| PackName {
            session: [1; 16],
            number,
        };
        Arc::new((0..packs).map(|n| (name(n), 1)).collect())
    }

    /// However many nodes there are, so many entries are kept; what is asked for again stays.
    #[test]
    fn what_is_known_of_nodes_has_a_bound() {
        let mut below = Below {
            max: 1000,
            ..Below::default()
        };
        let id = |n: u32| Id(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for n in 0..10_000 {
            below.keep(id(n), usage(n % 20));
            assert_eq!(below.get(&id(n)), Some(usage(n % 20)));
            assert_eq!(below.get(&id(0)), Some(usage(0)), "after {n}");
            let kept = below.young.values().chain(below.old.values());
            let entries: usize = kept.map(|usage| usage.len() + 2).sum();
            assert!(entries <= 2 * below.max, "{entries}");
        }
        assert_eq!(below.get(&id(1)), None);
    }
}
