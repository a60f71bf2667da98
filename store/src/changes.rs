//! What differs between two trees, and between two versions of a file.
//!
//! Only nodes that differ are read, so the cost follows what changed. A node that both sides have
//! says the same on both, wherever it is cut, and is left out on both.
//!
//! Out of nodes alone: no chunk is read here. Which parts of a changed chunk differ is
//! `parts`' matter.

use crate::error::{Error, Result};
use crate::id::{ChunkId, Id, Kind, TreeId};
use crate::object::extents::{self, FANOUT};
use crate::object::tree::TreeNode;
use crate::object::{Content, Entry, Extents, File, Malformed, Node};
use crate::repository::Repository;
use std::cmp::Ordering;
use std::collections::HashSet;

/// A path that is not the same in two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedEntry {
    /// Relative to the root, separated by `/`.
    pub path: String,
    /// What the first tree has there.
    pub before: Option<Node>,
    /// What the second tree has there; never the same as `before`.
    pub after: Option<Node>,
}

/// A chunk that is not the same in two versions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedChunk {
    /// Counted from the beginning of the file; its first byte is `ordinal` × chunk size.
    pub ordinal: u64,
    /// Of the first version; none beyond its end, or where it lies in the tree.
    pub before: Option<ChunkId>,
    /// Of the second version; never the same as `before`.
    pub after: Option<ChunkId>,
}

impl Repository {
    /// Visits every path that is not the same below two trees, in the order of a walk: a directory
    /// comes before what it holds. A directory of which only the content changed is not visited,
    /// what changed in it is.
    ///
    /// # Errors
    /// What `visit` gives; when a node is missing or damaged.
    pub fn changed_entries(
        &self,
        before: TreeId,
        after: TreeId,
        visit: &mut impl FnMut(ChangedEntry) -> Result<()>,
    ) -> Result<()> {
        entries(
            &mut |id: TreeId| {
                let mut bytes = Vec::new();
                self.read_blob(Kind::Tree, id.into(), &mut bytes)?;
                TreeNode::decode(&bytes).map_err(|e| self.damaged("tree node", id.into(), e))
            },
            &mut |id, e| self.damaged("tree node", id.into(), e),
            Some(before),
            Some(after),
            visit,
        )
    }

    /// The chunks that are not the same in two versions of a file, in order. A version that is not
    /// there, or lies in the tree itself, has none.
    ///
    /// # Errors
    /// When a node is missing or damaged, or a map does not fit its size.
    pub fn changed_chunks(
        &self,
        before: Option<&File>,
        after: Option<&File>,
    ) -> Result<Vec<ChangedChunk>> {
        let chunk_size = u64::from(self.params().chunk_size);
        let map = |file: Option<&File>| match file {
            Some(File {
                size,
                content: Content::Extents(map),
                ..
            }) => Some(Map {
                root: *map,
                chunks: size.div_ceil(chunk_size),
            }),
            _ => None,
        };
        let mut out = Vec::new();
        chunks(
            &mut |map: Extents| self.extent_node(map),
            &mut |id, e| self.damaged("extent map node", id, e),
            map(before),
            map(after),
            &mut out,
        )?;
        Ok(out)
    }

    /// What is at a path below a tree, if anything is.
    ///
    /// # Errors
    /// When a node is missing or damaged.
    pub fn entry(&self, tree: TreeId, path: &str) -> Result<Option<Entry>> {
        let mut tree = tree;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let Some(entry) = self.entry_in(tree, name)? else {
                return Ok(None);
            };
            match (entry, names.peek()) {
                (entry, None) => return Ok(Some(entry)),
                (Entry::Directory { tree: below, .. }, Some(_)) => tree = below,
                (Entry::File(_), Some(_)) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The entry of one directory. A node of which the first name is greater has it not.
    fn entry_in(&self, directory: TreeId, name: &str) -> Result<Option<Entry>> {
        let mut id = directory;
        let mut bytes = Vec::new();
        let mut above = None;
        loop {
            self.read_blob(Kind::Tree, id.into(), &mut bytes)?;
            let bad = |e| self.damaged("tree node", id.into(), e);
            let node = TreeNode::decode(&bytes).map_err(bad)?;
            let level = level_of(&node);
            if above.is_some_and(|above| above != level + 1) {
                return Err(bad(Malformed(format!(
                    "level {level} where another belongs"
                ))));
            }
            above = Some(level);
            match node {
                TreeNode::Leaf(mut entries) => {
                    let at = entries.binary_search_by(|(own, _)| own.as_str().cmp(name));
                    return Ok(at.ok().map(|at| entries.swap_remove(at).1));
                }
                TreeNode::Inner(_, items) => {
                    let after = items.partition_point(|(first, _)| first.as_str() <= name);
                    match after.checked_sub(1) {
                        Some(at) => id = items[at].1,
                        None => return Ok(None),
                    }
                }
            }
        }
    }

    fn damaged(&self, what: &str, id: Id, e: Malformed) -> Error {
        Error::Damaged {
            what: format!("{what} {id}"),
            location: self.location(),
            why: e.0,
        }
    }
}

/// See [`Repository::changed_entries`]; no tree is an empty one.
fn entries<E>(
    get: &mut impl FnMut(TreeId) -> Result<TreeNode, E>,
    damaged: &mut impl FnMut(TreeId, Malformed) -> E,
    before: Option<TreeId>,
    after: Option<TreeId>,
    visit: &mut impl FnMut(ChangedEntry) -> Result<(), E>,
) -> Result<(), E> {
    directory("", get, damaged, before, after, visit)
}

fn directory<E>(
    prefix: &str,
    get: &mut impl FnMut(TreeId) -> Result<TreeNode, E>,
    damaged: &mut impl FnMut(TreeId, Malformed) -> E,
    before: Option<TreeId>,
    after: Option<TreeId>,
    visit: &mut impl FnMut(ChangedEntry) -> Result<(), E>,
) -> Result<(), E> {
    if before == after {
        return Ok(());
    }
    let (before, after) = leaves(get, damaged, before, after)?;
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = (order != Ordering::Greater)
            .then(|| before.next())
            .flatten();
        let new = (order != Ordering::Less).then(|| after.next()).flatten();
        let Some((name, _)) = old.as_ref().or(new.as_ref()) else {
            return Ok(());
        };
        let path = match prefix {
            "" => name.clone(),
            _ => format!("{prefix}/{name}"),
        };
        let (old, old_tree) = split(old);
        let (new, new_tree) = split(new);
        if old != new {
            visit(ChangedEntry {
                path: path.clone(),
                before: old,
                after: new,
            })?;
        }
        directory(&path, get, damaged, old_tree, new_tree, visit)?;
    }
}

/// An entry as a node, and the tree below it.
fn split(entry: Option<(String, Entry)>) -> (Option<Node>, Option<TreeId>) {
    match entry {
        None => (None, None),
        Some((_, Entry::File(file))) => (Some(Node::File(file)), None),
        Some((_, Entry::Directory { mode, tree })) => (Some(Node::Directory { mode }), Some(tree)),
    }
}

/// Entries of two versions of a directory, sorted by name, without those of leaves that both have.
type Leaves = (Vec<(String, Entry)>, Vec<(String, Entry)>);

fn leaves<E>(
    get: &mut impl FnMut(TreeId) -> Result<TreeNode, E>,
    damaged: &mut impl FnMut(TreeId, Malformed) -> E,
    before: Option<TreeId>,
    after: Option<TreeId>,
) -> Result<Leaves, E> {
    let mut before = Side::top(get, before)?;
    let mut after = Side::top(get, after)?;
    loop {
        let (old, new) = (before.level(), after.level());
        if old.max(new) == 0 {
            return Ok((before.entries(), after.entries()));
        }
        // Children of one level are known before any of them is read, on the higher side; where
        // the sides are level, on both, and what both have is left out.
        let mut below_old = (old >= new).then(|| before.children());
        let mut below_new = (new >= old).then(|| after.children());
        if let (Some(old), Some(new)) = (&mut below_old, &mut below_new) {
            let left: HashSet<TreeId> = old.iter().copied().collect();
            let right: HashSet<TreeId> = new.iter().copied().collect();
            old.retain(|id| !right.contains(id));
            new.retain(|id| !left.contains(id));
        } else if let (Some(below), None) = (&mut below_old, &below_new) {
            below.retain(|id| !after.drop(id, old - 1));
        } else if let (None, Some(below)) = (&below_old, &mut below_new) {
            below.retain(|id| !before.drop(id, new - 1));
        }
        if let Some(ids) = below_old {
            before = Side::below(get, damaged, ids, old - 1)?;
        }
        if let Some(ids) = below_new {
            after = Side::below(get, damaged, ids, new - 1)?;
        }
    }
}

/// Nodes of one level of a directory, those that the other side may not have.
struct Side {
    level: u8,
    nodes: Vec<(TreeId, TreeNode)>,
}

fn level_of(node: &TreeNode) -> u8 {
    match node {
        TreeNode::Leaf(_) => 0,
        TreeNode::Inner(level, _) => *level,
    }
}

impl Side {
    fn top<E>(
        get: &mut impl FnMut(TreeId) -> Result<TreeNode, E>,
        tree: Option<TreeId>,
    ) -> Result<Side, E> {
        let Some(tree) = tree else {
            return Ok(Side {
                level: 0,
                nodes: vec![],
            });
        };
        let node = get(tree)?;
        Ok(Side {
            level: level_of(&node),
            nodes: vec![(tree, node)],
        })
    }

    fn below<E>(
        get: &mut impl FnMut(TreeId) -> Result<TreeNode, E>,
        damaged: &mut impl FnMut(TreeId, Malformed) -> E,
        ids: Vec<TreeId>,
        level: u8,
    ) -> Result<Side, E> {
        let mut nodes = Vec::with_capacity(ids.len());
        for id in ids {
            let node = get(id)?;
            if level_of(&node) != level {
                let why = Malformed(format!("level {} where {level} belongs", level_of(&node)));
                return Err(damaged(id, why));
            }
            nodes.push((id, node));
        }
        Ok(Side { level, nodes })
    }

    fn level(&self) -> u8 {
        self.level
    }

    fn children(&self) -> Vec<TreeId> {
        let items = self.nodes.iter().filter_map(|(_, node)| match node {
            TreeNode::Inner(_, items) => Some(items),
            TreeNode::Leaf(_) => None,
        });
        items.flatten().map(|(_, id)| *id).collect()
    }

    /// Whether this node, of this level, is among them; it is no longer then.
    fn drop(&mut self, id: &TreeId, level: u8) -> bool {
        let at = self.nodes.iter().position(|(own, _)| own == id);
        match at.filter(|_| self.level == level) {
            Some(at) => {
                self.nodes.remove(at);
                true
            }
            None => false,
        }
    }

    fn entries(self) -> Vec<(String, Entry)> {
        let leaves = self.nodes.into_iter().filter_map(|(_, node)| match node {
            TreeNode::Leaf(entries) => Some(entries),
            TreeNode::Inner(..) => None,
        });
        leaves.flatten().collect()
    }
}

/// The extent map of a version of a file, with the number of chunks its size asks for.
#[derive(Clone, Copy)]
struct Map {
    root: Extents,
    chunks: u64,
}

/// A node of a map, and the number of its first chunk.
#[derive(Clone, Copy)]
struct Part {
    map: Map,
    node: Extents,
    first: u64,
}

fn chunks<E>(
    get: &mut impl FnMut(Extents) -> Result<Vec<[u8; 32]>, E>,
    damaged: &mut impl FnMut(Id, Malformed) -> E,
    before: Option<Map>,
    after: Option<Map>,
    out: &mut Vec<ChangedChunk>,
) -> Result<(), E> {
    let part = |map: Map| Part {
        map,
        node: map.root,
        first: 0,
    };
    for map in [before, after].into_iter().flatten() {
        // 256^depth chunks fit below the root, and one level less would not do.
        let depth = u32::from(map.root.depth);
        let fits = map.root.depth <= extents::MAX_DEPTH
            && map.chunks > 0
            && map.chunks <= span(depth)
            && (depth == 0 || map.chunks > span(depth - 1));
        if !fits {
            let why = format!("depth {depth} for {} chunks", map.chunks);
            return Err(damaged(Id(map.root.id), Malformed(why)));
        }
    }
    compare(get, damaged, before.map(part), after.map(part), out)
}

/// Chunks below a node of a depth.
fn span(depth: u32) -> u64 {
    (FANOUT as u64).pow(depth)
}

fn compare<E>(
    get: &mut impl FnMut(Extents) -> Result<Vec<[u8; 32]>, E>,
    damaged: &mut impl FnMut(Id, Malformed) -> E,
    before: Option<Part>,
    after: Option<Part>,
    out: &mut Vec<ChangedChunk>,
) -> Result<(), E> {
    let depth = |part: &Option<Part>| part.map(|p| p.node.depth);
    let (Some(deepest), Some(first)) = (
        depth(&before).max(depth(&after)),
        before.or(after).map(|part| part.first),
    ) else {
        return Ok(());
    };
    if before.map(|p| p.node) == after.map(|p| p.node) {
        return Ok(());
    }
    if deepest == 0 {
        let id = |part: Option<Part>| part.map(|p| ChunkId(p.node.id));
        out.push(ChangedChunk {
            ordinal: first,
            before: id(before),
            after: id(after),
        });
        return Ok(());
    }
    // A node that is less deep is what the deeper one has as its first child.
    let mut below = |part: Option<Part>| match part {
        None => Ok(Vec::new()),
        Some(part) if part.node.depth < deepest => Ok(vec![part]),
        Some(part) => children(get, damaged, part),
    };
    let (before, after) = (below(before)?, below(after)?);
    for at in 0..before.len().max(after.len()) {
        let (old, new) = (before.get(at).copied(), after.get(at).copied());
        compare(get, damaged, old, new, out)?;
    }
    Ok(())
}

fn children<E>(
    get: &mut impl FnMut(Extents) -> Result<Vec<[u8; 32]>, E>,
    damaged: &mut impl FnMut(Id, Malformed) -> E,
    part: Part,
) -> Result<Vec<Part>, E> {
    let depth = part.node.depth - 1;
    let each = span(depth.into());
    let ids = get(part.node)?;
    let left = part.map.chunks.saturating_sub(part.first);
    let expected = left.div_ceil(each).min(FANOUT as u64);
    if ids.len() as u64 != expected {
        let why = format!("{} ids where {expected} belong", ids.len());
        return Err(damaged(Id(part.node.id), Malformed(why)));
    }
    let parts = ids.into_iter().zip(0u64..).map(|(id, at)| Part {
        node: Extents { depth, id },
        first: part.first + at * each,
        ..part
    });
    Ok(parts.collect())
}

#[cfg(test)]
mod tests;
