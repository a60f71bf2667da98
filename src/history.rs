//! The graph of a repository's snapshots: parents, as far as the snapshot table still has them.
//!
//! Parents are history, never reachability: a snapshot may be deleted or thinned while its
//! children stay. The walk therefore follows the rows of the table: a parent without a row ends
//! its line. Where rows are deleted the table hands their parents on to their children, so that
//! a line that was thinned stays a line and `~N` counts the survivors.

use std::collections::{BTreeSet, HashMap, VecDeque};

use zenith_store::{SnapshotId, State};

use crate::facts::{Lineage, Summary};
use crate::pg::lsn::Lsn;

/// What the walks need to know of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its parents, the first one first; some may have no node.
    pub parents: Vec<SnapshotId>,
    /// When it was begun, in microseconds since 1970, UTC.
    pub unix_micros: i64,
    /// Where its WAL ends.
    pub stop_lsn: Option<Lsn>,
    /// Which run of which cluster it was taken from: only LSNs of one lineage compare.
    pub lineage: Option<Lineage>,
}

/// The snapshots of a repository and what they were made from.
#[derive(Debug, Clone, Default)]
pub struct History {
    nodes: HashMap<SnapshotId, Node>,
}

impl History {
    /// The history in a repository's table.
    pub fn of(state: &State) -> History {
        History::from_nodes(state.snapshots().map(|row| {
            // A summary that this program cannot read is one without LSN and lineage.
            let summary = Summary::decode(&row.summary, &row.id).ok();
            Node {
                id: row.id,
                parents: row.parents.clone(),
                unix_micros: row.time.unix_micros,
                stop_lsn: summary
                    .as_ref()
                    .map(|s| Lsn(s.stop_lsn))
                    .filter(|lsn| !lsn.is_zero()),
                lineage: summary.map(|s| s.lineage),
            }
        }))
    }

    /// The history of these nodes.
    pub fn from_nodes(nodes: impl IntoIterator<Item = Node>) -> History {
        History {
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
        }
    }

    /// A snapshot that the table has.
    pub fn get(&self, id: SnapshotId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// Every snapshot, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The snapshot and its surviving ancestors by first parent, newest first.
    pub fn first_parents(&self, from: SnapshotId) -> impl Iterator<Item = &Node> {
        // Ids are hashes over the parents, so a cycle takes damage; the bound ends it.
        std::iter::successors(self.nodes.get(&from), |node| {
            self.nodes.get(node.parents.first()?)
        })
        .take(self.nodes.len())
    }

    /// The snapshot and all its surviving ancestors by any parent, nearest first.
    pub fn ancestors(&self, from: SnapshotId) -> Vec<&Node> {
        let mut seen = BTreeSet::from([from]);
        let mut queue = VecDeque::from([from]);
        let mut found = Vec::new();
        while let Some(node) = queue.pop_front().and_then(|id| self.nodes.get(&id)) {
            found.push(node);
            // Parents without a row are dropped here, so that the queue holds nodes only.
            queue.extend(
                node.parents
                    .iter()
                    .filter(|id| self.nodes.contains_key(id) && seen.insert(**id)),
            );
        }
        found
    }

    /// Whether `old` is `new` or one of its surviving ancestors. The id of a deleted ancestor
    /// still counts where a surviving child names it.
    pub fn descends(&self, new: SnapshotId, old: SnapshotId) -> bool {
        new == old
            || self
                .ancestors(new)
                .iter()
                .any(|node| node.parents.contains(&old))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(n: u8) -> SnapshotId {
        SnapshotId([n; 32])
    }

    /// A node `n` at minute `n`, stopping at LSN 0/n0.
    pub(crate) fn node(n: u8, parents: &[u8]) -> Node {
        Node {
            id: id(n),
            parents: parents.iter().map(|&p| id(p)).collect(),
            unix_micros: i64::from(n) * 60_000_000,
            stop_lsn: Some(Lsn(u64::from(n) << 4)),
            lineage: Some(Lineage([1; 16])),
        }
    }

    fn numbers<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<u8> {
        nodes.into_iter().map(|node| node.id.0[0]).collect()
    }

    #[test]
    fn walks_follow_what_is_there() {
        // 1 ◂ 2 ◂ 4 ◂ 5, with 3 as second parent of 4, and 9 deleted before 1.
        let history = History::from_nodes([
            node(1, &[9]),
            node(2, &[1]),
            node(3, &[1]),
            node(4, &[2, 3]),
            node(5, &[4]),
        ]);
        assert_eq!(numbers(history.first_parents(id(5))), [5, 4, 2, 1]);
        assert_eq!(numbers(history.first_parents(id(9))), [0; 0]);
        assert_eq!(numbers(history.ancestors(id(5))), [5, 4, 2, 3, 1]);
        for (new, old, yes) in [
            (5, 5, true),
            (5, 3, true),
            (5, 9, true),
            (3, 2, false),
            (2, 5, false),
            (9, 9, true),
        ] {
            assert_eq!(history.descends(id(new), id(old)), yes, "{new} {old}");
        }
    }

    #[test]
    fn a_damaged_circle_ends() {
        let history = History::from_nodes([node(1, &[2]), node(2, &[1])]);
        assert_eq!(numbers(history.first_parents(id(1))), [1, 2]);
        assert_eq!(numbers(history.ancestors(id(1))), [1, 2]);
    }
}
