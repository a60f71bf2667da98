//! The state of a repository: the latest root with its tables, and what commits may do to it.
//!
//! Every change here is made to a copy, which becomes the next root. The bytes are `root`'s matter.

use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::keys::Keys;
use crate::objects::Objects;
use crate::root::{
    CONDEMNED, Fence, HASH_LEN, Operation, PACKS_2, PackRow, Removed, Root, Row, VERSION,
};
use crate::table::{Inline, Table};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Snapshots removed by a root as many roots ago can't come back any more.
const REMOVED_KEPT: u64 = 1000;

/// The state of a repository: the latest root with its tables.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) root: Root,
    /// BLAKE3 of the root object.
    pub(crate) hash: [u8; HASH_LEN],
    pub(crate) snapshots: Table<Row>,
    pub(crate) packs: Table<PackRow>,
    pub(crate) removed: Table<Removed>,
    pub(crate) by_id: HashMap<SnapshotId, u64>,
}

impl State {
    /// The state that these bytes of a root describe.
    ///
    /// # Errors
    /// When root or tables are damaged or from a newer program.
    pub(crate) fn load(bytes: &[u8], seq: u64, objects: &dyn Objects, keys: &Keys) -> Result<Self> {
        let damaged = |why: String| Error::Damaged {
            what: format!("root {seq}"),
            location: objects.location(),
            why,
        };
        let mut root = Root::decode(bytes, seq, keys.seal.as_ref()).map_err(|e| damaged(e.0))?;
        if root.version != VERSION || root.incompatible.iter().any(|f| f != PACKS_2) {
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
        let mut state = State {
            hash: *blake3::hash(bytes).as_bytes(),
            snapshots: Table::load(snapshots, objects, keys)?,
            packs: Table::load(packs, objects, keys)?,
            removed: Table::load(removed, objects, keys)?,
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
            },
            hash: [0; HASH_LEN],
            snapshots: Table::default(),
            packs: Table::default(),
            removed: Table::default(),
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
        root.encode(keys.seal.as_ref())
    }

    /// Notes that packs are written which the first programs do not know.
    pub(crate) fn need_packs_2(&mut self) {
        let needed = &mut self.root.incompatible;
        if !needed.iter().any(|feature| feature == PACKS_2) {
            needed.push(PACKS_2.to_owned());
        }
    }

    /// Features without which writing is refused and which this program does not know.
    pub(crate) fn unknown_for_writing(&self) -> Vec<&String> {
        let needed = self.root.read_only.iter();
        needed.filter(|feature| *feature != CONDEMNED).collect()
    }

    fn need_condemned(&mut self) {
        let needed = &mut self.root.read_only;
        if !needed.iter().any(|feature| feature == CONDEMNED) {
            needed.push(CONDEMNED.to_owned());
        }
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

    pub(crate) fn is_fenced(&self, name: &PackName) -> bool {
        let fences = &self.root.fences;
        name.label() < self.floor() || fences.iter().any(|fence| fence.session == name.session)
    }

    /// Packs that this snapshot uses, with the bytes it uses of each.
    pub fn usage(&self, id: &SnapshotId) -> BTreeMap<PackName, u64> {
        let Some(&serial) = self.by_id.get(id) else {
            return BTreeMap::new();
        };
        self.usage_until(serial)
            .into_iter()
            .filter_map(|(ordinal, bytes)| self.packs.get(ordinal).map(|row| (row.name, bytes)))
            .collect()
    }

    /// Usage of the last row at or before `serial`, by ordinal.
    fn usage_until(&self, serial: u64) -> BTreeMap<u64, u64> {
        let mut usage = BTreeMap::new();
        for row in self.snapshots.rows().take_while(|row| row.serial <= serial) {
            apply(&mut usage, &row.usage);
        }
        usage
    }

    /// Adds a row at the end, and rows for packs that have none. `usage` names packs with their
    /// length and the bytes used.
    ///
    /// # Errors
    /// [`Error::NamesUsedUp`] for packs that are dead or of a fenced session. With `alone` nobody
    /// else can be about to delete them: their names may be used again.
    pub(crate) fn add_snapshot(
        &mut self,
        mut row: Row,
        usage: &BTreeMap<PackName, (u64, u64)>,
        alone: bool,
    ) -> Result<()> {
        let full = self.ordinals(usage, alone)?;
        row.serial = self.root.next_snapshot;
        self.root.next_snapshot += 1;
        row.usage = difference(&self.usage_until(u64::MAX), &full);
        self.by_id.insert(row.id, row.serial);
        self.snapshots.put(row);
        Ok(())
    }

    /// Takes a row out; the next one takes over its difference. It is kept for undo.
    pub(crate) fn remove_snapshot(&mut self, id: &SnapshotId) -> bool {
        let Some(serial) = self.by_id.remove(id) else {
            return false;
        };
        let full = self.usage_until(serial);
        let Some(row) = self.snapshots.remove(serial) else {
            return false;
        };
        let next = self
            .snapshots
            .rows()
            .find(|next| next.serial > serial)
            .cloned();
        if let Some(mut next) = next {
            let mut usage = row.usage.clone();
            usage.extend(next.usage);
            next.usage = usage;
            self.snapshots.put(next);
        }
        // Its children go on from its parents, so that a history which is thinned stays one line;
        // those that were removed themselves, too, for they may come back.
        // The snapshots themselves keep saying what they were made from.
        let mut children = Vec::new();
        self.change_parents(|child, parents| {
            let at = parents.iter().position(|parent| parent == id)?;
            children.push(child);
            let mut new = parents.to_vec();
            new.splice(at..=at, row.parents.iter().copied());
            let mut seen = HashSet::new();
            new.retain(|parent| seen.insert(*parent));
            Some(new)
        });
        self.removed.put(Removed {
            row: Row { usage: full, ..row },
            since: self.root.seq,
            children,
        });
        true
    }

    /// Puts a removed row back where it was, and rescues its packs.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when nothing is kept of it, or some of its packs are gone.
    pub(crate) fn restore_snapshot(&mut self, id: &SnapshotId, location: &str) -> Result<()> {
        let not_there = || Error::NoSnapshot {
            id: *id,
            location: location.to_owned(),
        };
        // The one that was removed last.
        let found = self.removed.rows().rev().find(|r| r.row.id == *id).cloned();
        let removed = found.ok_or_else(not_there)?;
        let serial = removed.row.serial;
        for ordinal in removed.row.usage.keys() {
            match self.packs.get(*ordinal).copied() {
                Some(row) if row.is_there() => self.rescue(row),
                _ => return Err(not_there()),
            }
        }
        let before = match serial.checked_sub(1) {
            Some(before) => self.usage_until(before),
            None => BTreeMap::new(),
        };
        // The row after it told its difference to the row before.
        let next = self.snapshots.rows().find(|next| next.serial > serial);
        if let Some(mut next) = next.cloned() {
            let full = self.usage_until(next.serial);
            next.usage = difference(&removed.row.usage, &full);
            self.snapshots.put(next);
        }
        let mut row = removed.row;
        row.usage = difference(&before, &row.usage);
        let children = removed.children;
        self.change_parents(|child, parents| {
            let inherited = |parent: &SnapshotId| row.parents.contains(parent);
            // One that stands on another restored row by now is behind that.
            let at = match parents.iter().position(inherited) {
                _ if !children.contains(&child) => return None,
                Some(at) => at,
                None if row.parents.is_empty() && parents.is_empty() => 0,
                None => return None,
            };
            let mut new: Vec<_> = parents.to_vec();
            new.insert(at, row.id);
            new.retain(|parent| !inherited(parent));
            Some(new)
        });
        self.removed.remove(serial);
        self.by_id.insert(row.id, serial);
        self.snapshots.put(row);
        Ok(())
    }

    /// Gives rows, also removed ones, the parents that `change` says; none: they stay.
    fn change_parents(
        &mut self,
        mut change: impl FnMut(SnapshotId, &[SnapshotId]) -> Option<Vec<SnapshotId>>,
    ) {
        let mut changed = Vec::new();
        for row in self.snapshots.rows() {
            if let Some(parents) = change(row.id, &row.parents) {
                let mut row = row.clone();
                row.go_on_from(parents);
                changed.push(row);
            }
        }
        let mut removed = Vec::new();
        for row in self.removed.rows() {
            if let Some(parents) = change(row.row.id, &row.row.parents) {
                let mut row = row.clone();
                row.row.go_on_from(parents);
                removed.push(row);
            }
        }
        changed.into_iter().for_each(|row| self.snapshots.put(row));
        removed.into_iter().for_each(|row| self.removed.put(row));
    }

    /// A condemned pack that is used again.
    fn rescue(&mut self, mut row: PackRow) {
        if row.state == PackRow::CONDEMNED {
            row.state = PackRow::LIVE;
            row.since = self.root.seq;
            row.at = None;
            self.packs.put(row);
        }
    }

    /// Gives a pack that is there another name; its object has that name already.
    pub(crate) fn rename_pack(&mut self, from: &PackName, to: PackName) {
        let row = self.packs.rows().find(|row| row.name == *from).cloned();
        if let Some(mut row) = row {
            row.name = to;
            self.packs.put(row);
        }
    }

    /// Ordinals of packs that some snapshot uses, each with the most that one of them uses.
    pub(crate) fn used(&self) -> BTreeMap<u64, u64> {
        let (mut usage, mut most) = (BTreeMap::new(), BTreeMap::<u64, u64>::new());
        for row in self.snapshots.rows() {
            apply(&mut usage, &row.usage);
            // Only what a row changes can have grown.
            for (ordinal, bytes) in row.usage.iter().filter(|(_, bytes)| **bytes > 0) {
                let most = most.entry(*ordinal).or_default();
                *most = (*most).max(*bytes);
            }
        }
        most
    }

    /// One step of collection for every pack: what nothing uses is condemned; what was condemned
    /// before this root and `grace` seconds before `now` is dead. Whether anything changed.
    pub(crate) fn condemn(&mut self, now: i64, grace: i64) -> bool {
        let used = self.used();
        let seq = self.root.seq;
        let mut changed = Vec::new();
        for row in self.packs.rows() {
            let state = match (row.state, used.contains_key(&row.ordinal)) {
                (PackRow::LIVE, false) => PackRow::CONDEMNED,
                (PackRow::CONDEMNED, false)
                    if row.since < seq
                        && row.at.is_none_or(|at| at.saturating_add(grace) <= now) =>
                {
                    PackRow::DEAD
                }
                _ => continue,
            };
            changed.push(PackRow {
                state,
                since: seq,
                at: Some(now),
                ..*row
            });
        }
        let any = !changed.is_empty();
        if any {
            self.need_condemned();
        }
        for row in changed {
            self.packs.put(row);
        }
        // What is dead cannot come back, so nothing that needed it can.
        let gone = |ordinal: &u64| self.packs.get(*ordinal).is_none_or(|row| !row.is_there());
        let lost: Vec<u64> = self
            .removed
            .rows()
            .filter(|removed| {
                removed.since + REMOVED_KEPT < seq || removed.row.usage.keys().any(gone)
            })
            .map(|removed| removed.row.serial)
            .collect();
        for serial in &lost {
            self.removed.remove(*serial);
        }
        any || !lost.is_empty()
    }

    /// Makes a copy the state of the next root, as a commit does.
    pub(crate) fn begin_step(&mut self) {
        self.root.seq += 1;
    }

    /// Packs that this root names in any way, segments of its tables included.
    pub(crate) fn named_packs(&self) -> HashSet<PackName> {
        let segments = self
            .snapshots
            .segment_packs()
            .chain(self.packs.segment_packs())
            .chain(self.removed.segment_packs());
        let packs = self.packs.rows().map(|row| row.name);
        packs.chain(segments.map(|(name, _)| name)).collect()
    }

    /// Packs that are to be deleted.
    pub(crate) fn dead(&self) -> Vec<(PackName, u64)> {
        let dead = self.packs.rows().filter(|row| row.state == PackRow::DEAD);
        dead.map(|row| (row.name, row.len)).collect()
    }

    /// Notes that these dead packs are deleted. With `alone` nobody can be about to delete them
    /// once more, so their rows go.
    pub(crate) fn deleted(&mut self, gone: &HashSet<PackName>, now: i64, alone: bool) {
        let rows: Vec<PackRow> = self
            .packs
            .rows()
            .filter(|row| row.state >= PackRow::DEAD)
            .copied()
            .collect();
        for mut row in rows {
            if row.state == PackRow::DEAD {
                if !gone.contains(&row.name) {
                    continue;
                }
                row.state = PackRow::DELETED;
                row.since = self.root.seq;
                row.at = Some(now);
                self.packs.put(row);
            }
            if alone {
                self.packs.remove(row.ordinal);
            }
        }
    }

    /// Whether rows of deleted packs could go if the floor were there.
    pub(crate) fn has_deleted_below(&self, floor: u64) -> bool {
        let mut rows = self.packs.rows();
        rows.any(|row| row.state == PackRow::DELETED && row.name.label() < floor)
    }

    /// Fences these sessions, and all with a label below `floor`.
    pub(crate) fn fence(&mut self, sessions: &[[u8; 16]], floor: u64) {
        let floor = floor.max(self.floor());
        self.root.floor = Some(floor);
        let rows = self.packs.rows();
        let kept_out: Vec<u64> = rows
            .filter(|row| row.state == PackRow::DELETED && row.name.label() < floor)
            .map(|row| row.ordinal)
            .collect();
        for ordinal in kept_out {
            self.packs.remove(ordinal);
        }
        self.need_condemned();
        let label = |session: [u8; 16]| PackName { session, number: 0 }.label();
        let fences = &mut self.root.fences;
        fences.retain(|fence| label(fence.session) >= floor);
        for session in sessions {
            if label(*session) >= floor && !fences.iter().any(|f| f.session == *session) {
                fences.push(Fence { session: *session });
            }
        }
    }

    /// Sets what a row uses. Rows are to be set in their order, all after the first that changes.
    pub(crate) fn set_usage(
        &mut self,
        serial: u64,
        usage: &BTreeMap<PackName, (u64, u64)>,
    ) -> Result<()> {
        let Some(mut row) = self.snapshots.get(serial).cloned() else {
            return Ok(());
        };
        let full = self.ordinals(usage, true)?;
        let before = serial
            .checked_sub(1)
            .map(|s| self.usage_until(s))
            .unwrap_or_default();
        let usage = difference(&before, &full);
        if row.usage != usage {
            row.usage = usage;
            self.snapshots.put(row);
        }
        Ok(())
    }

    /// Usage by ordinal: packs without a row get one, condemned ones are rescued.
    fn ordinals(
        &mut self,
        usage: &BTreeMap<PackName, (u64, u64)>,
        alone: bool,
    ) -> Result<BTreeMap<u64, u64>> {
        let by_name: HashMap<PackName, PackRow> =
            self.packs.rows().map(|row| (row.name, *row)).collect();
        let used_up = |name: &PackName| match by_name.get(name) {
            Some(row) => !row.is_there(),
            None => self.is_fenced(name),
        };
        let packs: Vec<PackName> = usage.keys().filter(|n| used_up(n)).copied().collect();
        if !alone && !packs.is_empty() {
            let floor = self.floor();
            return Err(Error::NamesUsedUp { packs, floor });
        }
        let mut full = BTreeMap::new();
        for (name, (len, bytes)) in usage {
            let ordinal = match by_name.get(name) {
                Some(row) if row.is_there() => {
                    self.rescue(*row);
                    row.ordinal
                }
                row => {
                    // A new ordinal also where the name comes back: the old one may be in use in
                    // rows of removed snapshots.
                    if let Some(row) = row {
                        self.packs.remove(row.ordinal);
                    }
                    let ordinal = self.root.next_pack;
                    self.root.next_pack += 1;
                    let since = self.root.seq;
                    self.packs.put(PackRow {
                        ordinal,
                        name: *name,
                        len: *len,
                        state: PackRow::LIVE,
                        since,
                        at: None,
                    });
                    ordinal
                }
            };
            // 0 means "no longer used" in a difference.
            full.insert(ordinal, (*bytes).max(1));
        }
        Ok(full)
    }
}

fn apply(usage: &mut BTreeMap<u64, u64>, difference: &BTreeMap<u64, u64>) {
    for (ordinal, bytes) in difference {
        if *bytes == 0 {
            usage.remove(ordinal);
        } else {
            usage.insert(*ordinal, *bytes);
        }
    }
}

fn difference(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    let gone = before
        .keys()
        .filter(|o| !after.contains_key(o))
        .map(|o| (*o, 0));
    let new = after
        .iter()
        .filter(|(o, b)| before.get(o) != Some(b))
        .map(|(o, b)| (*o, *b));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TreeId;
    use crate::object::{SnapshotKind, Time};

    fn id(n: u8) -> SnapshotId {
        SnapshotId([n; 32])
    }

    fn row(n: u8, parents: &[u8]) -> Row {
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
        }
    }

    #[test]
    fn children_of_a_removed_snapshot_go_on_from_its_parents() {
        let mut state = State::empty("r".into(), [0; 16], Operation::default());
        // 1 ◂ 2 ◂ 3 and 1 ◂ 4; 5 was made from 2 and 4.
        for (n, parents) in [(1, &[][..]), (2, &[1]), (3, &[2]), (4, &[1]), (5, &[2, 4])] {
            state
                .add_snapshot(row(n, parents), &BTreeMap::new(), false)
                .unwrap();
        }
        let parents = |state: &State, n| {
            let row = state.snapshot(&id(n)).unwrap();
            row.parents.iter().map(|p| p.0[0]).collect::<Vec<_>>()
        };
        assert!(state.remove_snapshot(&id(2)));
        assert_eq!(
            (parents(&state, 3), parents(&state, 5)),
            (vec![1], vec![1, 4])
        );
        let made_from = |n| state.snapshot(&id(n)).unwrap().made_from.clone();
        assert_eq!(made_from(3), Some(vec![id(2)]));
        assert_eq!(
            (made_from(4), made_from(5)),
            (None, Some(vec![id(2), id(4)]))
        );
        // What both lines share is named once.
        assert!(state.remove_snapshot(&id(4)));
        assert_eq!(parents(&state, 5), [1]);
        assert!(state.remove_snapshot(&id(1)));
        assert_eq!((parents(&state, 3), parents(&state, 5)), (vec![], vec![]));
        assert!(!state.remove_snapshot(&id(1)));
    }

    /// Also when they come back in another order than they went.
    #[test]
    fn a_line_is_what_it_was_when_all_of_it_is_back() {
        let whole = [(1, &[][..]), (2, &[1]), (3, &[2]), (4, &[3])];
        let parents = |state: &State| -> Vec<(u8, Vec<u8>)> {
            let rows = state.snapshots();
            rows.map(|row| (row.id.0[0], row.parents.iter().map(|p| p.0[0]).collect()))
                .collect()
        };
        for back in [[3, 2], [2, 3]] {
            let mut state = State::empty("r".into(), [0; 16], Operation::default());
            for (n, parents) in whole {
                state
                    .add_snapshot(row(n, parents), &BTreeMap::new(), false)
                    .unwrap();
            }
            let before = parents(&state);
            assert!(state.remove_snapshot(&id(3)) && state.remove_snapshot(&id(2)));
            assert_eq!(parents(&state), [(1, vec![]), (4, vec![1])]);
            for n in back {
                state.restore_snapshot(&id(n), "r").unwrap();
            }
            assert_eq!(parents(&state), before, "{back:?}");
            assert!(state.snapshots().all(|row| row.made_from.is_none()));
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
