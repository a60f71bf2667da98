//! What damage touches: a walk through snapshots that goes on where something is lost, and names
//! the files.

use crate::blob::{Chain, Fetched};
use crate::error::Result;
use crate::id::{ChunkId, Id, Kind, PackName, SnapshotId, TreeId};
use crate::index::Location;
use crate::object::tree::TreeNode;
use crate::object::{Content, Entry, Extents, File, Snapshot, extents};
use crate::repository::Repository;
use std::collections::{BTreeMap, HashSet};

/// Something of snapshots that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In the snapshot, separated by `/`; empty for its root and for a snapshot itself.
    pub path: String,
    /// What is lost of it.
    pub lost: Lost,
    /// The snapshots that have it, in the order of the table.
    pub snapshots: Vec<SnapshotId>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&told(&self.lost)),
            path => write!(f, "{path}: {}", told(&self.lost)),
        }
    }
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Parts of a file.
    File {
        /// Bytes of the file.
        size: u64,
        /// Lost parts, offset and length in bytes, in order.
        parts: Vec<(u64, u64)>,
    },
    /// A part of the list of what a directory holds, and so all that it names.
    Directory,
    /// The snapshot's own record; what it holds is told apart.
    Snapshot,
}

/// What is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PackDamage {
    /// Nothing of it is to be found: it is missing, or its directory is.
    Gone(String),
    /// Some blobs, by their numbers in it. None: only the whole is not what was written.
    Blobs { why: String, bad: HashSet<u32> },
}

/// Packs with something wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bad {
    pub(crate) packs: BTreeMap<PackName, PackDamage>,
}

impl Bad {
    /// Each with what is wrong.
    pub(crate) fn told(&self) -> Vec<(PackName, String)> {
        let told = |(name, damage): (&PackName, &PackDamage)| match damage {
            PackDamage::Gone(why) | PackDamage::Blobs { why, .. } => (*name, why.clone()),
        };
        self.packs.iter().map(told).collect()
    }

    /// Whether what lies at this place is known to be damaged.
    pub(crate) fn has(&self, place: &Location) -> bool {
        match self.packs.get(&place.pack) {
            None => false,
            Some(PackDamage::Gone(_)) => true,
            Some(PackDamage::Blobs { bad, .. }) => bad.contains(&place.ordinal),
        }
    }
}

/// A blob that a snapshot needs, and what it is part of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
    /// The path in the snapshot: of the file, or of the directory; empty for the root.
    pub path: &'a str,
    /// The file, for chunks and extent map nodes.
    pub file: Option<&'a File>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How many bytes of the file it stands for.
    pub len: u64,
}

/// Brings what is lost: the bytes, checked against the id.
pub(crate) type Heal<'a> = &'a mut dyn FnMut(&Wanted<'_>) -> Result<Option<Vec<u8>>>;

/// A walk through snapshots. What was found whole is not looked at again.
pub(crate) struct Survey<'a> {
    repository: &'a Repository,
    bad: &'a Bad,
    heal: Option<Heal<'a>>,
    /// Told of every place that is needed. With it nothing is passed over.
    visit: Option<&'a mut dyn FnMut(&Location)>,
    whole: HashSet<Id>,
    snapshot: SnapshotId,
    /// By path and id of what is damaged there.
    damage: BTreeMap<(String, Id), Damage>,
    snapshots: Vec<(SnapshotId, String)>,
    first: Option<String>,
}

impl<'a> Survey<'a> {
    pub(crate) fn new(repository: &'a Repository, bad: &'a Bad) -> Self {
        Survey {
            repository,
            bad,
            heal: None,
            visit: None,
            whole: HashSet::new(),
            snapshot: SnapshotId([0; 32]),
            damage: BTreeMap::new(),
            snapshots: Vec::new(),
            first: None,
        }
    }

    pub(crate) fn healing(self, heal: Heal<'a>) -> Self {
        Survey {
            heal: Some(heal),
            ..self
        }
    }

    pub(crate) fn visiting(self, visit: &'a mut dyn FnMut(&Location)) -> Self {
        Survey {
            visit: Some(visit),
            ..self
        }
    }

    /// Snapshots with the first thing found, and all that was found.
    pub(crate) fn into_damage(self) -> (Vec<(SnapshotId, String)>, Vec<Damage>) {
        (self.snapshots, self.damage.into_values().collect())
    }

    /// Walks one snapshot; whether all of it is whole.
    pub(crate) fn snapshot(&mut self, id: SnapshotId, tree: TreeId) -> Result<bool> {
        self.snapshot = id;
        self.first = None;
        let record = Wanted {
            kind: Kind::Snapshot,
            id: id.into(),
            path: "",
            file: None,
            offset: 0,
            len: 0,
        };
        let bytes = self.bytes(&record)?;
        let mut whole = bytes.is_some_and(|bytes| Snapshot::decode(&bytes).is_ok());
        if !whole {
            self.note("", id.into(), Lost::Snapshot);
        }
        whole &= self.tree(tree, "")?;
        if let Some(first) = self.first.take() {
            self.snapshots.push((id, first));
        }
        Ok(whole)
    }

    fn note(&mut self, path: &str, id: Id, lost: Lost) {
        let damage = self
            .damage
            .entry((path.to_owned(), id))
            .or_insert_with(|| Damage {
                path: path.to_owned(),
                lost,
                snapshots: Vec::new(),
            });
        self.first.get_or_insert_with(|| damage.to_string());
        if damage.snapshots.last() != Some(&self.snapshot) {
            damage.snapshots.push(self.snapshot);
        }
    }

    /// Whether everything below a node of a directory is whole.
    fn tree(&mut self, id: TreeId, path: &str) -> Result<bool> {
        if self.is_known(id.into()) {
            return Ok(true);
        }
        let wanted = Wanted {
            kind: Kind::Tree,
            id: id.into(),
            path,
            file: None,
            offset: 0,
            len: 0,
        };
        let node = match self.bytes(&wanted)? {
            Some(bytes) => TreeNode::decode(&bytes).ok(),
            None => None,
        };
        let Some(node) = node else {
            self.note(path, id.into(), Lost::Directory);
            return Ok(false);
        };
        let mut whole = true;
        match node {
            TreeNode::Inner(_, items) => {
                for (_, id) in items {
                    whole &= self.tree(id, path)?;
                }
            }
            TreeNode::Leaf(entries) => {
                for (name, entry) in entries {
                    let path = match path {
                        "" => name,
                        path => format!("{path}/{name}"),
                    };
                    whole &= match entry {
                        Entry::Directory { tree, .. } => self.tree(tree, &path)?,
                        Entry::File(file) => self.file(&file, &path)?,
                    };
                }
            }
        }
        self.found_whole(id.into(), whole);
        Ok(whole)
    }

    fn file(&mut self, file: &File, path: &str) -> Result<bool> {
        let Content::Extents(map) = file.content else {
            return Ok(true);
        };
        // Another snapshot has the same, and lost the same of it.
        if self.visit.is_none()
            && self.heal.is_none()
            && let Some(known) = self.damage.get(&(path.to_owned(), Id(map.id)))
        {
            let lost = known.lost.clone();
            self.note(path, Id(map.id), lost);
            return Ok(false);
        }
        let mut parts = Vec::new();
        self.map(map, file, path, 0, &mut parts)?;
        if parts.is_empty() {
            return Ok(true);
        }
        let size = file.size;
        self.note(path, Id(map.id), Lost::File { size, parts });
        Ok(false)
    }

    /// Collects which bytes of a file cannot be read; the map begins at `offset` of it.
    fn map(
        &mut self,
        map: Extents,
        file: &File,
        path: &str,
        offset: u64,
        parts: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        let chunk = u64::from(self.repository.params().chunk_size);
        let full = (0..map.depth).fold(chunk, |bytes, _| {
            bytes.saturating_mul(extents::FANOUT as u64)
        });
        let len = full.min(file.size.saturating_sub(offset));
        let wanted = |kind, id| Wanted {
            kind,
            id,
            path,
            file: Some(file),
            offset,
            len,
        };
        if map.depth == 0 {
            let is_there =
                ChunkId(map.id).is_zero() || self.is_there(&wanted(Kind::Chunk, Id(map.id)))?;
            if !is_there {
                lose(parts, offset, len);
            }
            return Ok(());
        }
        if self.is_known(Id(map.id)) {
            return Ok(());
        }
        let node = match self.bytes(&wanted(Kind::Extents, Id(map.id)))? {
            Some(bytes) => extents::decode(&bytes).ok(),
            None => None,
        };
        let Some((_, ids)) = node.filter(|(depth, _)| *depth == map.depth) else {
            lose(parts, offset, len);
            return Ok(());
        };
        let before = parts.clone();
        let depth = map.depth - 1;
        let each = full / extents::FANOUT as u64;
        for (id, n) in ids.into_iter().zip(0u64..) {
            let at = offset.saturating_add(each.saturating_mul(n));
            self.map(Extents { depth, id }, file, path, at, parts)?;
        }
        self.found_whole(Id(map.id), *parts == before);
        Ok(())
    }

    fn is_known(&self, id: Id) -> bool {
        self.visit.is_none() && self.whole.contains(&id)
    }

    fn found_whole(&mut self, id: Id, whole: bool) {
        if whole {
            self.whole.insert(id);
        }
    }

    /// The bytes of a node, or what healing brings.
    fn bytes(&mut self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        if self.read(wanted, &mut bytes)? {
            return Ok(Some(bytes));
        }
        self.healed(wanted)
    }

    /// Whether a blob can be read, or healing brings it. Only one at a place that is known to be
    /// damaged is read.
    fn is_there(&mut self, wanted: &Wanted<'_>) -> Result<bool> {
        let found = match self.repository.locate(&wanted.id)? {
            Some(chain) if chain.iter().any(|(_, place)| self.bad.has(place)) => {
                self.read(wanted, &mut Vec::new())?
            }
            Some(chain) => {
                self.visited(&chain)?;
                true
            }
            None => false,
        };
        Ok(found || self.healed(wanted)?.is_some())
    }

    fn read(&mut self, wanted: &Wanted<'_>, into: &mut Vec<u8>) -> Result<bool> {
        let Some(chain) = self.repository.locate(&wanted.id)? else {
            return Ok(false);
        };
        let (kind, nothing) = (wanted.kind, Fetched::default());
        match self.repository.read_found(kind, &chain, &nothing, into) {
            Ok(()) => {}
            Err(e) if e.is_lost() => return Ok(false),
            Err(e) => return Err(e),
        }
        self.visited(&chain)?;
        Ok(true)
    }

    /// Tells of the places of a chain. Where some of them are damaged it was read otherwise, and
    /// all other places of its blobs count: one too many does no harm.
    fn visited(&mut self, chain: &Chain) -> Result<()> {
        let Some(visit) = &mut self.visit else {
            return Ok(());
        };
        let is_bad = chain.iter().any(|(_, place)| self.bad.has(place));
        for (id, place) in chain {
            match is_bad {
                true => self
                    .repository
                    .live_places(id)?
                    .iter()
                    .for_each(&mut *visit),
                false => visit(place),
            }
        }
        Ok(())
    }

    fn healed(&mut self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        match &mut self.heal {
            Some(heal) => heal(wanted),
            None => Ok(None),
        }
    }
}

/// Adds a part, which may go on where the last one ends.
fn lose(parts: &mut Vec<(u64, u64)>, offset: u64, len: u64) {
    match parts.last_mut() {
        Some((from, before)) if *from + *before == offset => *before += len,
        _ => parts.push((offset, len)),
    }
}

fn told(lost: &Lost) -> String {
    match lost {
        Lost::File { size, parts } => {
            let bytes: u64 = parts.iter().map(|(_, len)| len).sum();
            format!("{bytes} of {size} bytes are lost")
        }
        Lost::Directory => "the list of its files is lost".to_owned(),
        Lost::Snapshot => "its own record is lost".to_owned(),
    }
}
