//! The way out: snapshot → tree → file → chunks. How one of these is read is `blob`'s matter.

use crate::error::{Error, Result};
use crate::id::{ChunkId, Id, Kind, PackName, SnapshotId, TreeId};
use crate::index::Location;
use crate::object::{
    Content, Entry, Extents, File, Listing, Malformed, Node, Snapshot, extents, tree,
};
use crate::repository::Repository;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

impl Repository {
    /// The snapshot with this id.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when no row names it; [`Error::Damaged`] and such for damage.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let state = self.loaded()?;
        if state.snapshot(&id).is_none() && self.state()?.snapshot(&id).is_none() {
            return Err(Error::NoSnapshot {
                id,
                location: self.location(),
            });
        }
        let mut bytes = Vec::new();
        self.read_blob(Kind::Snapshot, id.into(), &mut bytes)?;
        Snapshot::decode(&bytes).map_err(|e| self.malformed("snapshot", id.into(), e))
    }

    /// Every path below `tree`.
    ///
    /// # Errors
    /// When a node is missing or damaged.
    pub fn listing(&self, tree: TreeId) -> Result<Listing> {
        let mut out = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
        self.walk(tree, &mut |path, entry| {
            let node = match entry {
                Entry::File(file) => Node::File(file),
                Entry::Directory { mode, .. } => Node::Directory { mode },
            };
            out.insert(path, node);
            Ok(())
        })?;
        Ok(out)
    }

    /// Visits every entry below `tree`, directories before what they hold.
    ///
    /// # Errors
    /// What `visit` gives; when a node is missing or damaged.
    pub fn walk(
        &self,
        tree: TreeId,
        visit: &mut impl FnMut(String, Entry) -> Result<()>,
    ) -> Result<()> {
        tree::walk::<Walk>(
            tree,
            &mut |id| {
                let mut bytes = Vec::new();
                self.read_blob(Kind::Tree, id.into(), &mut bytes)?;
                Ok(bytes)
            },
            &mut |path, entry| visit(path, entry).map_err(Walk::Error),
        )
        .map_err(|e| match e {
            Walk::Error(e) => e,
            Walk::Malformed(e) => self.malformed("tree", tree.into(), e),
        })
    }

    /// Ids of the chunks of a file, in order; none where it lies in the tree.
    ///
    /// # Errors
    /// When a node is missing or damaged, or the map does not fit the size.
    pub fn chunk_ids(&self, file: &File) -> Result<Vec<ChunkId>> {
        let Content::Extents(map) = &file.content else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        self.extent_ids(*map, &mut ids)?;
        let expected = file.size.div_ceil(u64::from(self.params().chunk_size));
        if ids.len() as u64 != expected {
            let e = Malformed(format!("{} chunks where {expected} belong", ids.len()));
            return Err(self.malformed("extent map", Id(map.id), e));
        }
        Ok(ids)
    }

    fn extent_ids(&self, map: Extents, out: &mut Vec<ChunkId>) -> Result<()> {
        if map.depth == 0 {
            out.push(ChunkId(map.id));
            return Ok(());
        }
        let ids = self.extent_node(map)?;
        if map.depth == 1 {
            out.extend(ids.into_iter().map(ChunkId));
            return Ok(());
        }
        ids.into_iter().try_for_each(|id| {
            self.extent_ids(
                Extents {
                    depth: map.depth - 1,
                    id,
                },
                out,
            )
        })
    }

    /// The ids in one node of an extent map.
    pub(crate) fn extent_node(&self, map: Extents) -> Result<Vec<[u8; 32]>> {
        let mut bytes = Vec::new();
        self.read_blob(Kind::Extents, Id(map.id), &mut bytes)?;
        match extents::decode(&bytes) {
            Ok((depth, ids)) if depth == map.depth => Ok(ids),
            Ok((depth, _)) => {
                let e = Malformed(format!("depth {depth} where {} belongs", map.depth));
                Err(self.malformed("extent map node", Id(map.id), e))
            }
            Err(e) => Err(self.malformed("extent map node", Id(map.id), e)),
        }
    }

    /// One node of a tree.
    pub(crate) fn tree_node(&self, id: TreeId) -> Result<tree::TreeNode> {
        let mut bytes = Vec::new();
        self.read_blob(Kind::Tree, id.into(), &mut bytes)?;
        tree::TreeNode::decode(&bytes).map_err(|e| self.malformed("tree node", id.into(), e))
    }

    /// The bytes of a chunk that is not [`ChunkId::ZERO`].
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::BlobDamaged`].
    pub fn chunk(&self, id: ChunkId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_chunk(id, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of a chunk into `into`, which is cleared first.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::BlobDamaged`].
    pub fn read_chunk(&self, id: ChunkId, into: &mut Vec<u8>) -> Result<()> {
        self.read_blob(Kind::Chunk, id.into(), into)
    }

    /// All bytes of a small file.
    ///
    /// # Errors
    /// As [`Repository::chunk`].
    pub fn file_bytes(&self, file: &File) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let io = |source| Error::File {
            verb: "read",
            path: "a stored file".into(),
            source,
        };
        match self.file_reader(file)?.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => Err(e.downcast::<Error>().unwrap_or_else(io)),
        }
    }

    /// Reads a file front to back. Errors of the store come as [`std::io::Error`] around
    /// [`Error`].
    ///
    /// # Errors
    /// When its extent map is missing or damaged.
    pub fn file_reader(&self, file: &File) -> Result<FileReader> {
        let (ids, buffer) = match &file.content {
            Content::Inline(bytes) => (Vec::new(), bytes.clone()),
            Content::Extents(_) => (self.chunk_ids(file)?, Vec::new()),
        };
        Ok(FileReader {
            repository: self.clone(),
            left: file.size,
            ids: ids.into_iter(),
            buffer,
            at: 0,
        })
    }

    /// The state that was read last, or the latest.
    pub(crate) fn loaded(&self) -> Result<Arc<crate::state::State>> {
        let known = self.lock_live_read().state.clone();
        known.map_or_else(|| self.state(), Ok)
    }

    fn malformed(&self, what: &str, id: Id, e: Malformed) -> Error {
        Error::Damaged {
            what: format!("{what} {id}"),
            location: self.location(),
            why: e.0,
        }
    }

    /// Visits the live place of every blob that a snapshot needs, bases of deltas included, each
    /// node once over all calls that share `seen`. Chunks are visited as often as nodes name them.
    pub(crate) fn places(
        &self,
        id: SnapshotId,
        tree: TreeId,
        seen: &mut HashSet<Id>,
        visit: &mut impl FnMut(Id, Kind, Location),
    ) -> Result<()> {
        let mut place = |kind: Kind, id: Id| -> Result<()> {
            let Some(chain) = self.locate(&id)? else {
                return Err(self.missing(kind, id)?);
            };
            for (id, place) in chain {
                visit(id, kind, place);
            }
            Ok(())
        };
        place(Kind::Snapshot, id.into())?;
        let mut trees = vec![tree];
        while let Some(tree) = trees.pop() {
            if !seen.insert(tree.into()) {
                continue;
            }
            place(Kind::Tree, tree.into())?;
            let entries = match self.tree_node(tree)? {
                tree::TreeNode::Inner(_, items) => {
                    trees.extend(items.into_iter().map(|(_, id)| id));
                    continue;
                }
                tree::TreeNode::Leaf(entries) => entries,
            };
            for (_, entry) in entries {
                let mut maps = match entry {
                    Entry::Directory { tree, .. } => {
                        trees.push(tree);
                        continue;
                    }
                    Entry::File(File {
                        content: Content::Inline(_),
                        ..
                    }) => continue,
                    Entry::File(File {
                        content: Content::Extents(map),
                        ..
                    }) => vec![map],
                };
                while let Some(map) = maps.pop() {
                    if map.depth == 0 {
                        if !ChunkId(map.id).is_zero() {
                            place(Kind::Chunk, Id(map.id))?;
                        }
                    } else if seen.insert(Id(map.id)) {
                        place(Kind::Extents, Id(map.id))?;
                        let depth = map.depth - 1;
                        let ids = self.extent_node(map)?;
                        maps.extend(ids.into_iter().map(|id| Extents { depth, id }));
                    }
                }
            }
        }
        Ok(())
    }

    /// Packs that a snapshot which is to be committed needs, as [`Repository::usage_of`]; what
    /// another snapshot of the same tree is known to need is not looked up again.
    pub(crate) fn usage_of_new(
        &self,
        id: SnapshotId,
        tree: TreeId,
    ) -> Result<BTreeMap<PackName, u64>> {
        let state = self.state()?;
        let Some(same) = state.snapshots().rev().find(|row| row.tree == tree) else {
            return self.usage_of(id, tree);
        };
        let mut usage = state.usage(&same.id);
        // The other's own blob is counted along: a pack too many does no harm, one too few would.
        for (_, place) in self.find(Kind::Snapshot, id.into())? {
            *usage.entry(place.pack).or_default() += place.stored_share();
        }
        Ok(usage)
    }

    /// Packs that a snapshot needs, with the stored bytes it needs of each.
    pub(crate) fn usage_of(&self, id: SnapshotId, tree: TreeId) -> Result<BTreeMap<PackName, u64>> {
        let mut usage: HashMap<PackName, u64> = HashMap::new();
        self.places(id, tree, &mut HashSet::new(), &mut |_, _, place| {
            *usage.entry(place.pack).or_default() += place.stored_share();
        })?;
        Ok(usage.into_iter().collect())
    }
}

/// What can go wrong on a walk through nodes.
enum Walk {
    Error(Error),
    Malformed(Malformed),
}

impl From<Malformed> for Walk {
    fn from(e: Malformed) -> Self {
        Walk::Malformed(e)
    }
}

impl From<Error> for Walk {
    fn from(e: Error) -> Self {
        Walk::Error(e)
    }
}

/// The bytes of a stored file, front to back.
#[derive(Debug)]
pub struct FileReader {
    repository: Repository,
    left: u64,
    ids: std::vec::IntoIter<ChunkId>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.buffer.len() {
            let Some(id) = self.ids.next() else {
                return Ok(0);
            };
            let len = self.left.min(self.repository.params().chunk_size.into()) as usize;
            self.at = 0;
            if id.is_zero() {
                self.buffer.clear();
                self.buffer.resize(len, 0);
            } else {
                self.repository
                    .read_chunk(id, &mut self.buffer)
                    .map_err(std::io::Error::other)?;
                if self.buffer.len() != len {
                    return Err(std::io::Error::other(Error::Damaged {
                        what: format!("chunk {id}"),
                        location: self.repository.location(),
                        why: format!("{} bytes where {len} belong", self.buffer.len()),
                    }));
                }
            }
            self.left -= len as u64;
        }
        let n = out.len().min(self.buffer.len() - self.at);
        out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
