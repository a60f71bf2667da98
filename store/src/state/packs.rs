//! The pack table: from live to deleted, and the sessions that are fenced.

use super::{FENCES_MAX, State};
use crate::error::{Error, Result};
use crate::id::PackName;
use crate::root::{Fence, PackRow};
use crate::usage::{Gone, Usage};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Operations that can be undone and looked at: so many of the latest, and all that are younger
/// than so many seconds. A busy repository makes thousands of roots a day.
pub(crate) const KEPT_ROOTS: u64 = 1000;
pub(crate) const KEPT_FOR: i64 = 3 * 24 * 3600;

impl State {
    /// A condemned pack that is used again.
    pub(super) fn rescue(&mut self, mut row: PackRow) {
        if row.state == PackRow::CONDEMNED {
            row.state = PackRow::LIVE;
            row.since = self.root.seq;
            row.at = None;
            self.packs.put(row);
        }
    }

    /// Whether a pack of this name has a row, whatever became of it.
    pub(crate) fn has_pack(&self, name: &PackName) -> bool {
        self.packs.rows().any(|row| row.name == *name)
    }

    /// Gives a pack that is there another name; its object has that name already, and no row has.
    pub(crate) fn rename_pack(&mut self, from: &PackName, to: PackName) {
        let row = self.packs.rows().find(|row| row.name == *from).cloned();
        if let Some(mut row) = row {
            row.name = to;
            self.packs.put(row);
        }
    }

    /// Gives the row of a pack to another that holds the same. The old name is dead.
    ///
    /// # Errors
    /// [`Error::NamesUsedUp`] when the session of the other one is fenced: it may be deleted.
    pub(crate) fn take_over(&mut self, old: &PackName, new: PackName, now: i64) -> Result<()> {
        let row = self.packs.rows().find(|row| row.name == *old).copied();
        let Some(row) = row.filter(PackRow::is_there) else {
            return Ok(());
        };
        if self.is_fenced(&new) {
            let (packs, floor) = (vec![new], self.floor());
            return Err(Error::NamesUsedUp { packs, floor });
        }
        self.packs.put(PackRow { name: new, ..row });
        let ordinal = self.root.next_pack;
        self.root.next_pack += 1;
        self.packs.put(PackRow {
            ordinal,
            ..self.dead_row(row, now)
        });
        self.need_condemned();
        Ok(())
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
            let is_old = removed.since + KEPT_ROOTS < seq
                && removed
                    .at
                    .is_none_or(|at| at.saturating_add(KEPT_FOR) <= now);
            if line.next(removed, gone) || is_old {
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
            .chain(self.index.segment_packs())
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

    /// Where the floor is to be when these sessions are fenced, too.
    fn floor_above(&self, sessions: &[[u8; 16]], floor: u64, living: u64) -> u64 {
        let label = |session: [u8; 16]| PackName { session, number: 0 }.label();
        let floor = floor.max(self.floor());
        let known = self.root.fences.iter().map(|fence| fence.session);
        let mut labels: Vec<u64> = known.chain(sessions.iter().copied()).map(label).collect();
        labels.retain(|label| *label >= floor);
        if labels.len() <= FENCES_MAX {
            return floor;
        }
        labels.sort_unstable();
        let above = labels[labels.len() - FENCES_MAX / 2];
        floor.max(above.min(self.newest_label()).min(living))
    }

    /// Whether fences are many, and the floor can rise above some by now.
    pub(crate) fn floor_rises(&self, living: u64) -> bool {
        self.floor_above(&[], 0, living) > self.floor()
    }

    /// Fences these sessions, and all with a label below `floor`. When they are many, the floor
    /// rises above the older ones: uploads that began before them go up again under other names.
    pub(crate) fn fence(&mut self, sessions: &[[u8; 16]], floor: u64) {
        self.fence_but(sessions, floor, u64::MAX);
    }

    /// The same, but the floor does not rise above `living`, the label of an upload that goes on.
    pub(crate) fn fence_but(&mut self, sessions: &[[u8; 16]], floor: u64, living: u64) {
        let label = |session: [u8; 16]| PackName { session, number: 0 }.label();
        let floor = self.floor_above(sessions, floor, living);
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

    /// Usage by ordinal: packs without a row get one, condemned ones are rescued.
    pub(super) fn ordinals(
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
