//! The state of a repository: the latest root with its tables, and what commits may do to it.
//!
//! Every change here is made to a copy, which becomes the next root. The bytes are `root`'s matter.

use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::keys::Keys;
use crate::objects::Objects;
use crate::root::{
    CONDEMNED, Fence, HASH_LEN, LINES, Operation, PACKS_2, PackRow, REF_BYTES, REF_TABLE,
    REFS_INLINE, REMOVED_2, RefRow, Removed, Root, Row, SINGLE_WRITER, VERSION,
};
use crate::table::{Inline, Table};
use crate::usage::{self, Gone, Lines, Usage, apply, difference};
use std::collections::{BTreeMap, HashMap, HashSet};

/// More fences than these become a floor: a root has little room.
pub(crate) const FENCES_MAX: usize = 256;
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
        let ref_table = root.ref_table.take().unwrap_or_default();
        let ref_table = Table::load_found(ref_table, objects, keys, on_lost)?;
        let in_table = ref_table
            .rows()
            .cloned()
            .map(|row: RefRow| (row.name, row.at));
        root.refs.extend(in_table);
        let mut state = State {
            hash: *blake3::hash(bytes).as_bytes(),
            snapshots: Table::load_found(snapshots, objects, keys, on_lost)?,
            packs: Table::load_found(packs, objects, keys, on_lost)?,
            removed: Table::load_found(removed, objects, keys, on_lost)?,
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
                ref_table: None,
            },
            hash: [0; HASH_LEN],
            snapshots: Table::default(),
            packs: Table::default(),
            removed: Table::default(),
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

    /// Adds a row at the end, and rows for packs that have none. `usage` names packs with their
    /// length and the bytes used.
    ///
    /// # Errors
    /// [`Error::NamesUsedUp`] for packs that are dead or of a fenced session. With `alone` nobody
    /// else can be about to delete them: their names may be used again.
    pub(crate) fn add_snapshot(
        &mut self,
        row: Row,
        usage: &BTreeMap<PackName, (u64, u64)>,
        alone: bool,
    ) -> Result<()> {
        let mut lines = self.lines();
        self.add_to(&mut lines, row, usage, alone)
    }

    /// Where all lines end, for rows to be added.
    pub(crate) fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for row in self.snapshots.rows() {
            lines.next(row);
        }
        lines
    }

    /// As [`State::add_snapshot`], for one row after the other; `lines` is brought up to date.
    ///
    /// # Errors
    /// As [`State::add_snapshot`].
    pub(crate) fn add_to(
        &mut self,
        lines: &mut Lines,
        mut row: Row,
        usage: &BTreeMap<PackName, (u64, u64)>,
        alone: bool,
    ) -> Result<()> {
        let full = self.ordinals(usage, alone)?;
        row.serial = self.root.next_snapshot;
        self.root.next_snapshot += 1;
        let parent = row.parents.first().and_then(|id| self.snapshot(id));
        row.line = match parent {
            Some(parent) => parent.line,
            None if self.is_empty() => None,
            None => Some(row.serial),
        };
        if row.line.is_some() {
            need(&mut self.root.incompatible, LINES);
        }
        let last = lines.last(row.line);
        row.usage = difference(last, &full);
        *last = full;
        self.by_id.insert(row.id, row.serial);
        self.snapshots.put(row);
        Ok(())
    }

    /// Takes a row out; the next one takes over its difference. It is kept for undo.
    pub(crate) fn remove_snapshot(&mut self, id: &SnapshotId) -> bool {
        let Some(serial) = self.by_id.remove(id) else {
            return false;
        };
        let Some(line) = self.snapshots.get(serial).map(|row| row.line) else {
            return false;
        };
        let full = self.usage_until(line, serial);
        let Some(row) = self.snapshots.remove(serial) else {
            return false;
        };
        if let Some(mut next) = self.next_of(line, serial) {
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
        self.keep_removed(row, &full, children);
        true
    }

    /// The row after `serial` in its line.
    fn next_of(&self, line: Option<u64>, serial: u64) -> Option<Row> {
        let mut after = self.snapshots.after(serial);
        after.find(|next| next.line == line).cloned()
    }

    fn next_removed(&self, line: Option<u64>, serial: u64) -> Option<Removed> {
        let mut after = self.removed.after(serial);
        after.find(|next| next.row.line == line).cloned()
    }

    /// What a removed row uses.
    fn removed_usage(&self, row: &Row) -> Usage {
        usage::until_removed(self.removed.rows(), row.line, row.serial)
    }

    /// Keeps a row that was removed, and what it used as a difference.
    fn keep_removed(&mut self, row: Row, full: &Usage, children: Vec<SnapshotId>) {
        need(&mut self.root.read_only, REMOVED_2);
        let before = self.removed_usage(&row);
        if let Some(mut next) = self.next_removed(row.line, row.serial) {
            let mut its = before.clone();
            usage::apply_removed(&mut its, &next);
            next.row.usage = difference(full, &its);
            next.is_difference = Some(true);
            self.removed.put(next);
        }
        let usage = difference(&before, full);
        self.removed.put(Removed {
            row: Row { usage, ..row },
            since: self.root.seq,
            children,
            is_difference: Some(true),
        });
    }

    /// Keeps a removed row no longer; the next of its line takes over its difference.
    fn drop_removed(&mut self, serial: u64) {
        let Some(removed) = self.removed.remove(serial) else {
            return;
        };
        let next = self.next_removed(removed.row.line, serial);
        if let Some(mut next) = next.filter(|next| next.is_difference == Some(true)) {
            let mut usage = removed.row.usage;
            if removed.is_difference == Some(true) {
                usage.extend(next.row.usage);
            } else {
                apply(&mut usage, &next.row.usage);
            }
            next.row.usage = usage;
            next.is_difference = removed.is_difference;
            self.removed.put(next);
        }
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
        let full = self.removed_usage(&removed.row);
        let (serial, line) = (removed.row.serial, removed.row.line);
        for ordinal in full.keys() {
            match self.packs.get(*ordinal).copied() {
                Some(row) if row.is_there() => self.rescue(row),
                _ => return Err(not_there()),
            }
        }
        let before = self.usage_before(line, serial);
        // The row after it told its difference to the row before.
        if let Some(mut next) = self.next_of(line, serial) {
            let its = self.usage_until(line, next.serial);
            next.usage = difference(&full, &its);
            self.snapshots.put(next);
        }
        let mut row = removed.row;
        row.usage = difference(&before, &full);
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
        self.drop_removed(serial);
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

    /// Gives the row of a pack to another that holds the same. The old name is dead.
    pub(crate) fn take_over(&mut self, old: &PackName, new: PackName, now: i64) {
        let row = self.packs.rows().find(|row| row.name == *old).copied();
        let Some(row) = row.filter(PackRow::is_there) else {
            return;
        };
        self.packs.put(PackRow { name: new, ..row });
        let ordinal = self.root.next_pack;
        self.root.next_pack += 1;
        self.packs.put(PackRow {
            ordinal,
            ..self.dead_row(row, now)
        });
        self.need_condemned();
    }

    /// Declares packs dead that no snapshot uses any more.
    pub(crate) fn retire(&mut self, packs: &HashSet<PackName>, now: i64) {
        let used = self.used();
        let is_over = |row: &&PackRow| {
            packs.contains(&row.name) && row.is_there() && !used.contains_key(&row.ordinal)
        };
        let over: Vec<PackRow> = self.packs.rows().filter(is_over).copied().collect();
        for row in over {
            self.packs.put(self.dead_row(row, now));
            self.need_condemned();
        }
    }

    fn dead_row(&self, row: PackRow, now: i64) -> PackRow {
        PackRow {
            state: PackRow::DEAD,
            since: self.root.seq,
            at: Some(now),
            ..row
        }
    }

    /// Ordinals of packs that some snapshot uses, each with the most that one of them uses.
    pub(crate) fn used(&self) -> BTreeMap<u64, u64> {
        let mut most = Usage::new();
        for row in self.snapshots.rows() {
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
        let gone = |ordinal: u64| self.packs.get(ordinal).is_none_or(|row| !row.is_there());
        let mut lines: HashMap<Option<u64>, Gone> = HashMap::new();
        let mut lost = Vec::new();
        for removed in self.removed.rows() {
            let line = lines.entry(removed.row.line).or_default();
            if line.next(removed, gone) || removed.since + REMOVED_KEPT < seq {
                lost.push(removed.row.serial);
            }
        }
        for serial in &lost {
            self.drop_removed(*serial);
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
            .chain(self.removed.segment_packs())
            .chain(self.ref_table.segment_packs());
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

    /// Fences these sessions, and all with a label below `floor`. When they are many, the floor
    /// rises above the older ones: uploads that began before them go up again under other names.
    pub(crate) fn fence(&mut self, sessions: &[[u8; 16]], floor: u64) {
        let label = |session: [u8; 16]| PackName { session, number: 0 }.label();
        let mut floor = floor.max(self.floor());
        let known = self.root.fences.iter().map(|fence| fence.session);
        let mut labels: Vec<u64> = known.chain(sessions.iter().copied()).map(label).collect();
        labels.retain(|label| *label >= floor);
        if labels.len() > FENCES_MAX {
            labels.sort_unstable();
            let above = labels[labels.len() - FENCES_MAX / 2];
            floor = floor.max(above.min(self.newest_label()));
        }
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
        let fences = &mut self.root.fences;
        fences.retain(|fence| label(fence.session) >= floor);
        for session in sessions {
            if label(*session) >= floor && !fences.iter().any(|f| f.session == *session) {
                fences.push(Fence { session: *session });
            }
        }
    }

    /// Gives rows that use one of the packs `gone` the usage that `new` says; how many.
    ///
    /// # Errors
    /// [`Error::NamesUsedUp`], as [`State::add_snapshot`].
    pub(crate) fn replace_usage(
        &mut self,
        gone: &HashSet<PackName>,
        new: &HashMap<SnapshotId, BTreeMap<PackName, (u64, u64)>>,
        alone: bool,
    ) -> Result<usize> {
        let gone: HashSet<u64> = self
            .packs()
            .filter(|row| gone.contains(&row.name))
            .map(|row| row.ordinal)
            .collect();
        let rows: Vec<Row> = self.snapshots.rows().cloned().collect();
        let (mut lines, mut new_lines) = (Lines::default(), Lines::default());
        let mut replaced = 0;
        for mut row in rows {
            let full = lines.next(&row);
            let uses_gone = || full.keys().any(|ordinal| gone.contains(ordinal));
            let after = match new.get(&row.id).filter(|_| uses_gone()) {
                Some(usage) => {
                    replaced += 1;
                    self.ordinals(usage, alone)?
                }
                None => full.clone(),
            };
            let last = new_lines.last(row.line);
            let usage = difference(last, &after);
            *last = after;
            if usage != row.usage {
                row.usage = usage;
                self.snapshots.put(row);
            }
        }
        Ok(replaced)
    }

    /// Sets what a row uses, where others may be about to delete packs unless `alone`. Rows are to
    /// be set in their order, all of a line after the first that changes.
    ///
    /// # Errors
    /// [`Error::NamesUsedUp`].
    pub(crate) fn set_usage(
        &mut self,
        serial: u64,
        usage: &BTreeMap<PackName, (u64, u64)>,
        alone: bool,
    ) -> Result<()> {
        let Some(mut row) = self.snapshots.get(serial).cloned() else {
            return Ok(());
        };
        let full = self.ordinals(usage, alone)?;
        let before = self.usage_before(row.line, serial);
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
            line: None,
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
