//! The state of a repository: the latest root with its tables, and what commits may do to it.
//!
//! Every change is made to a copy, which becomes the next root: of snapshots in `rows`, of packs in
//! `packs`. The bytes are `root`'s matter.

mod packs;
mod rows;

pub(crate) use packs::{KEPT_FOR, KEPT_ROOTS};

use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::index::segment::SegmentRow;
use crate::keys::Keys;
use crate::objects::Objects;
use crate::root::{
    CONDEMNED, HASH_LEN, LINES, Operation, PACKS_2, PackRow, REF_BYTES, REF_TABLE, REFS_INLINE,
    REMOVED_2, RefRow, Removed, Root, Row, SINGLE_WRITER, VERSION,
};
use crate::table::{Inline, Table};
use crate::usage::{self, Lines, Usage};
use std::collections::{BTreeMap, HashMap, HashSet};

/// More fences than these become a floor: a root has little room.
pub(crate) const FENCES_MAX: usize = 256;
/// No more are added to so many, which are there when an upload that goes on keeps the floor low.
pub(crate) const FENCES_ROOM: usize = 4 * FENCES_MAX;

/// The state of a repository: the latest root with its tables.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) root: Root,
    /// BLAKE3 of the root object.
    pub(crate) hash: [u8; HASH_LEN],
    pub(crate) snapshots: Table<Row>,
    pub(crate) packs: Table<PackRow>,
    /// Whether a part of that table is lost.
    pub(crate) packs_lost: bool,
    pub(crate) removed: Table<Removed>,
    /// Index segments. What is lost of this table costs time alone, and is told of here.
    pub(crate) index: Table<SegmentRow>,
    pub(crate) index_lost: Vec<String>,
    /// The refs once more, where the root has no room for all of them.
    pub(crate) ref_table: Table<RefRow>,
    pub(crate) by_id: HashMap<SnapshotId, u64>,
}

impl State {
    /// The state that these bytes of a root describe.
    ///
    /// # Errors
    /// When root or tables are damaged or from a newer program.
    pub(crate) fn load(bytes: &[u8], seq: u64, objects: &dyn Objects, keys: &Keys) -> Result<Self> {
        Self::load_found(bytes, seq, objects, keys, &mut Err)
    }

    /// The same without the parts of its tables that are lost, where `on_lost` lets that pass.
    ///
    /// # Errors
    /// What `on_lost` gives; when the root is damaged or from a newer program.
    pub(crate) fn load_found(
        bytes: &[u8],
        seq: u64,
        objects: &dyn Objects,
        keys: &Keys,
        on_lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<Self> {
        let damaged = |why: String| Error::Damaged {
            what: format!("root {seq}"),
            location: objects.location(),
            why,
        };
        let mut root = Root::decode(bytes, seq, keys.seal.as_ref()).map_err(|e| damaged(e.0))?;
        let is_known = |feature: &String| [PACKS_2, LINES, REF_TABLE].contains(&feature.as_str());
        if root.version != VERSION || !root.incompatible.iter().all(is_known) {
            return Err(Error::TooNew {
                location: objects.location(),
                what: format!(
                    "root version {}, features {:?}",
                    root.version, root.incompatible
                ),
            });
        }
        if root.seq != seq {
            return Err(damaged(format!("it says that it is root {}", root.seq)));
        }
        let snapshots = std::mem::take(&mut root.snapshots);
        let packs = std::mem::take(&mut root.packs);
        let removed = root.removed.take().unwrap_or_default();
        let (index, mut index_lost) = (root.index.take().unwrap_or_default(), Vec::new());
        // A program that does not know this table may have collected a part of it.
        let index = Table::load_found(index, objects, keys, &mut |e| {
            index_lost.push(e.to_string());
            Ok(())
        })?;
        let ref_table = root.ref_table.take().unwrap_or_default();
        let ref_table = Table::load_found(ref_table, objects, keys, on_lost)?;
        let in_table = ref_table
            .rows()
            .cloned()
            .map(|row: RefRow| (row.name, row.at));
        root.refs.extend(in_table);
        let mut packs_lost = false;
        let packs = Table::load_found(packs, objects, keys, &mut |e| {
            packs_lost = true;
            on_lost(e)
        })?;
        let mut state = State {
            hash: *blake3::hash(bytes).as_bytes(),
            snapshots: Table::load_found(snapshots, objects, keys, on_lost)?,
            packs,
            packs_lost,
            removed: Table::load_found(removed, objects, keys, on_lost)?,
            index,
            index_lost,
            ref_table,
            by_id: HashMap::new(),
            root,
        };
        state.by_id = state
            .snapshots
            .rows()
            .map(|row| (row.id, row.serial))
            .collect();
        Ok(state)
    }

    /// Of a repository that holds nothing yet.
    pub(crate) fn empty(repository: String, nonce: [u8; 16], operation: Operation) -> Self {
        State {
            root: Root {
                version: VERSION,
                repository,
                seq: 0,
                previous: None,
                nonce,
                compatible: vec![],
                read_only: vec![],
                incompatible: vec![PACKS_2.to_owned()],
                operation,
                refs: BTreeMap::new(),
                snapshots: Inline::default(),
                packs: Inline::default(),
                next_pack: 0,
                next_snapshot: 0,
                fences: vec![],
                removed: None,
                floor: None,
                writer: None,
                index: None,
                ref_table: None,
            },
            hash: [0; HASH_LEN],
            snapshots: Table::default(),
            packs: Table::default(),
            packs_lost: false,
            removed: Table::default(),
            index: Table::default(),
            index_lost: Vec::new(),
            ref_table: Table::default(),
            by_id: HashMap::new(),
        }
    }

    /// The root object of this state.
    pub(crate) fn encode(&self, keys: &Keys) -> Vec<u8> {
        let mut root = self.root.clone();
        root.snapshots = self.snapshots.inline();
        root.packs = self.packs.inline();
        let removed = self.removed.inline();
        root.removed = (removed != Inline::default()).then_some(removed);
        let index = self.index.inline();
        root.index = (index != Inline::default()).then_some(index);
        if self.ref_table.len() > 0 {
            root.ref_table = Some(self.ref_table.inline());
            root.refs.clear();
        }
        root.encode(keys.seal.as_ref())
    }

    /// Has the table of refs say what the refs are, or empties it where the root has room for them.
    pub(crate) fn settle_refs(&mut self) {
        let bytes: usize = self
            .root
            .refs
            .keys()
            .map(|name| name.len() + REF_BYTES)
            .sum();
        if bytes <= REFS_INLINE {
            self.ref_table = Table::default();
            return;
        }
        need(&mut self.root.incompatible, REF_TABLE);
        let mut left = self.root.refs.clone();
        let rows: Vec<RefRow> = self.ref_table.rows().cloned().collect();
        for row in rows {
            match left.remove(&row.name) {
                Some(at) if at == row.at => {}
                Some(at) => self.ref_table.put(RefRow { at, ..row }),
                None => drop(self.ref_table.remove(row.number)),
            }
        }
        for (name, at) in left {
            let number = self.ref_table.next_key();
            self.ref_table.put(RefRow { number, name, at });
        }
    }

    /// Has all tables written anew where the root has no room for them.
    pub(crate) fn take_in_tables(&mut self) {
        self.snapshots.take_in();
        self.packs.take_in();
        self.removed.take_in();
        self.index.take_in();
        self.ref_table.take_in();
    }

    /// Notes that packs are written which the first programs do not know.
    pub(crate) fn need_packs_2(&mut self) {
        need(&mut self.root.incompatible, PACKS_2);
    }

    /// Features without which writing is refused and which this program does not know.
    pub(crate) fn unknown_for_writing(&self) -> Vec<&String> {
        let needed = self.root.read_only.iter();
        let is_known =
            |feature: &&String| [CONDEMNED, REMOVED_2, SINGLE_WRITER].contains(&feature.as_str());
        needed.filter(|feature| !is_known(feature)).collect()
    }

    /// The home that alone may write here, by its id; none where all may.
    pub fn writer(&self) -> Option<&str> {
        self.root.writer.as_deref()
    }

    /// Has one home alone write from the next root on.
    pub(crate) fn set_writer(&mut self, home: &str) {
        self.root.writer = Some(home.to_owned());
        let needed = &mut self.root.read_only;
        if !needed.iter().any(|feature| feature == SINGLE_WRITER) {
            needed.push(SINGLE_WRITER.to_owned());
        }
    }

    fn need_condemned(&mut self) {
        need(&mut self.root.read_only, CONDEMNED);
    }

    /// Its place in the log.
    pub fn seq(&self) -> u64 {
        self.root.seq
    }

    /// What the latest root did.
    pub fn operation(&self) -> &Operation {
        &self.root.operation
    }

    /// Every ref by its full name.
    pub fn refs(&self) -> &BTreeMap<String, SnapshotId> {
        &self.root.refs
    }

    /// Where this ref is.
    pub fn get_ref(&self, name: &str) -> Option<SnapshotId> {
        self.root.refs.get(name).copied()
    }

    /// Every snapshot in order of commit.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &Row> {
        self.snapshots.rows()
    }

    /// Number of snapshots.
    pub fn len(&self) -> usize {
        self.snapshots.len()
    }

    /// Whether there is no snapshot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of this snapshot.
    pub fn snapshot(&self, id: &SnapshotId) -> Option<&Row> {
        self.by_id
            .get(id)
            .and_then(|serial| self.snapshots.get(*serial))
    }

    /// Whether this snapshot was here and was removed, as long as that is remembered.
    pub fn was_removed(&self, id: &SnapshotId) -> bool {
        self.removed.rows().any(|removed| removed.row.id == *id)
    }

    /// Every pack that is there, used or condemned.
    pub fn packs(&self) -> impl Iterator<Item = &PackRow> {
        self.packs.rows().filter(|row| row.is_there())
    }

    /// Whether everything that this operation did still stands.
    pub(crate) fn has(&self, did: &Operation) -> bool {
        let moved_any = !(did.refs.is_empty() && did.added.is_empty() && did.removed.is_empty());
        moved_any
            && did
                .refs
                .iter()
                .all(|change| self.get_ref(&change.name) == change.to)
            && did.added.iter().all(|id| self.by_id.contains_key(id))
            && did.removed.iter().all(|id| !self.by_id.contains_key(id))
    }

    /// Whether packs of this name may not become part of a snapshot any more: it was deleted or
    /// may be at any time, or its session is fenced. A paused collector may delete such an object
    /// whenever it goes on, so what it held is stored under another name.
    pub fn is_used_up(&self, name: &PackName) -> bool {
        match self.packs.rows().find(|row| row.name == *name) {
            Some(row) => !row.is_there(),
            None => self.is_fenced(name),
        }
    }

    /// Sessions with a smaller label are fenced.
    pub(crate) fn floor(&self) -> u64 {
        self.root.floor.unwrap_or(0)
    }

    /// The highest label of packs that are there. No floor is above it: a clock that is ahead must
    /// not shut out all that begin from now on.
    pub(crate) fn newest_label(&self) -> u64 {
        let labels = self.packs().map(|pack| pack.name.label());
        labels.max().unwrap_or(0)
    }

    pub(crate) fn is_fenced_session(&self, session: &[u8; 16]) -> bool {
        self.is_fenced(&PackName {
            session: *session,
            number: 0,
        })
    }

    pub(crate) fn is_fenced(&self, name: &PackName) -> bool {
        let fences = &self.root.fences;
        name.label() < self.floor() || fences.iter().any(|fence| fence.session == name.session)
    }

    /// Packs that this snapshot uses, with the bytes it uses of each.
    pub fn usage(&self, id: &SnapshotId) -> BTreeMap<PackName, u64> {
        self.snapshot(id)
            .map(|row| self.named(&self.usage_until(row.line, row.serial)))
            .unwrap_or_default()
    }

    /// What these snapshots use, as far as they are here.
    pub(crate) fn usages(
        &self,
        ids: &HashSet<SnapshotId>,
    ) -> HashMap<SnapshotId, BTreeMap<PackName, u64>> {
        let (mut lines, mut usages) = (Lines::default(), HashMap::new());
        for row in self.snapshots.rows() {
            let usage = lines.next(row);
            if ids.contains(&row.id) {
                usages.insert(row.id, self.named(usage));
            }
        }
        usages
    }

    /// Visits every snapshot with what it uses, in order of commit.
    ///
    /// # Errors
    /// What `visit` gives.
    pub(crate) fn each_usage(
        &self,
        mut visit: impl FnMut(&Row, &Usage) -> Result<()>,
    ) -> Result<()> {
        let mut lines = Lines::default();
        let mut rows = self.snapshots.rows();
        rows.try_for_each(|row| visit(row, lines.next(row)))
    }

    /// The packs of a usage by name.
    pub(crate) fn named(&self, usage: &Usage) -> BTreeMap<PackName, u64> {
        let row = |ordinal: &u64| self.packs.get(*ordinal);
        usage
            .iter()
            .filter_map(|(ordinal, bytes)| row(ordinal).map(|row| (row.name, *bytes)))
            .collect()
    }

    /// What the last row of a line at or before `serial` uses.
    fn usage_until(&self, line: Option<u64>, serial: u64) -> Usage {
        usage::until(self.snapshots.rows(), line, serial)
    }

    /// The same before `serial`.
    fn usage_before(&self, line: Option<u64>, serial: u64) -> Usage {
        let before = serial.checked_sub(1);
        before.map_or_else(Usage::new, |before| self.usage_until(line, before))
    }
}

fn need(features: &mut Vec<String>, feature: &str) {
    if !features.iter().any(|known| known == feature) {
        features.push(feature.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TreeId;
    use crate::object::{SnapshotKind, Time};

    pub(super) fn id(n: u8) -> SnapshotId {
        SnapshotId([n; 32])
    }

    pub(super) fn row(n: u8, parents: &[u8]) -> Row {
        Row {
            serial: 0,
            id: id(n),
            tree: TreeId([n; 32]),
            parents: parents.iter().map(|&p| id(p)).collect(),
            time: Time::default(),
            kind: SnapshotKind::Manual,
            message: String::new(),
            size: 0,
            new_bytes: 0,
            summary: Vec::new(),
            usage: BTreeMap::new(),
            made_from: None,
            line: None,
        }
    }

    #[test]
    fn golden() {
        let operation = Operation {
            verb: "snapshot".into(),
            detail: "d".into(),
            who: "ann@db1".into(),
            time: Time {
                unix_micros: 1_763_800_000_000_000,
                offset_secs: 3600,
            },
            ..Operation::default()
        };
        let mut state = State::empty("00ff".into(), [5; 16], operation);
        let name = PackName {
            session: [6; 16],
            number: 7,
        };
        let usage = BTreeMap::from([(name, (1000, 900))]);
        state.add_snapshot(row(1, &[]), &usage, false).unwrap();
        state.add_snapshot(row(2, &[1]), &usage, false).unwrap();
        state.root.refs.insert("branch/main".into(), id(2));
        state.need_packs_2();
        let bytes = state.encode(&Keys::new(None));
        insta::assert_snapshot!(crate::id::hex(&bytes), @"5a454e524f4f5431ae00010164303066660200045005050505050505050505050505050505058006800781677061636b73203208a70068736e617073686f740161640267616e6e4064623103821b0006442ab0747000190e1004800580068009a16b6272616e63682f6d61696e582002020202020202020202020202020202020202020202020202020202020202020aa300800182ab000001582001010101010101010101010101010101010101010101010101010101010101010258200101010101010101010101010101010101010101010101010101010101010101038004820000050106600700080009400aa100190384ab00010158200202020202020202020202020202020202020202020202020202020202020202025820020202020202020202020202020202020202020202020202020202020202020203815820010101010101010101010101010101010101010101010101010101010101010104820000050106600700080009400aa002800ba300800181a500000182500606060606060606060606060606060607021903e80300040002800c010d020e80565e710786381f335fcba76b98092ee4c0c5d5b744a8700d57c2cbb54c8d23b3");
        let root = Root::decode(&bytes, 0, None).unwrap();
        let (snapshots, packs) = (root.snapshots.rows.len(), root.packs.rows.len());
        assert_eq!((snapshots, packs, root.seq), (2, 1, 0));
    }
}
