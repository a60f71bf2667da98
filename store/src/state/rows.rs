//! The snapshot table: rows that come, go and come back, and what they use.

use super::{State, need};
use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::root::{LINES, REMOVED_2, Removed, Row};
use crate::usage::{self, Lines, Usage, apply, difference};
use std::collections::{BTreeMap, HashMap, HashSet};

impl State {
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
            at: Some(self.root.operation.time.unix_micros.div_euclid(1_000_000)),
        });
    }

    /// Keeps a removed row no longer; the next of its line takes over its difference.
    pub(super) fn drop_removed(&mut self, serial: u64) {
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::{id, row};
    use super::*;
    use crate::root::Operation;

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
}
