//! Which packs snapshots use, row by row: how much of each, by ordinal.
//!
//! A row holds only what differs from the row before of its line. A line is what goes back to one
//! first snapshot: two clusters that are pushed in turn would else name all their packs each time.

use crate::root::{Removed, Row};
use std::collections::{BTreeMap, HashMap};

/// Ordinal of a pack → stored bytes used of it.
pub(crate) type Usage = BTreeMap<u64, u64>;

/// The usage at the rows seen last, of every line. Rows are to be given in their order.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<Option<u64>, Usage>);

impl Lines {
    /// What the next row uses.
    pub(crate) fn next(&mut self, row: &Row) -> &Usage {
        let usage = self.0.entry(row.line).or_default();
        apply(usage, &row.usage);
        usage
    }

    /// What a row added now is a difference to.
    pub(crate) fn last(&mut self, line: Option<u64>) -> &mut Usage {
        self.0.entry(line).or_default()
    }
}

/// What the last of these rows uses that belongs to `line` and has at most this serial.
pub(crate) fn until<'a>(
    rows: impl Iterator<Item = &'a Row>,
    line: Option<u64>,
    serial: u64,
) -> Usage {
    let mut usage = Usage::new();
    for row in rows.take_while(|row| row.serial <= serial) {
        if row.line == line {
            apply(&mut usage, &row.usage);
        }
    }
    usage
}

/// The same for removed rows.
pub(crate) fn until_removed<'a>(
    rows: impl Iterator<Item = &'a Removed>,
    line: Option<u64>,
    serial: u64,
) -> Usage {
    let mut usage = Usage::new();
    for removed in rows.take_while(|removed| removed.row.serial <= serial) {
        if removed.row.line == line {
            apply_removed(&mut usage, removed);
        }
    }
    usage
}

/// Makes the usage of the row before that of this one.
pub(crate) fn apply(usage: &mut Usage, difference: &Usage) {
    for (ordinal, bytes) in difference {
        if *bytes == 0 {
            usage.remove(ordinal);
        } else {
            usage.insert(*ordinal, *bytes);
        }
    }
}

/// The same for a removed row, whose usage may be whole.
pub(crate) fn apply_removed(usage: &mut Usage, removed: &Removed) {
    if removed.is_difference != Some(true) {
        usage.clear();
    }
    apply(usage, &removed.row.usage);
}

/// What makes `after` of `before`.
pub(crate) fn difference(before: &Usage, after: &Usage) -> Usage {
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

/// How many packs are used that are `gone`, kept while differences are applied: one look a change.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    usage: Usage,
    number: usize,
}

impl Gone {
    /// Whether a removed row uses packs that are gone.
    pub(crate) fn next(&mut self, removed: &Removed, gone: impl Fn(u64) -> bool) -> bool {
        if removed.is_difference != Some(true) {
            *self = Gone::default();
        }
        for (ordinal, bytes) in &removed.row.usage {
            let was = match bytes {
                0 => self.usage.remove(ordinal),
                bytes => self.usage.insert(*ordinal, *bytes),
            };
            match (was, bytes) {
                (Some(_), 0) if gone(*ordinal) => self.number -= 1,
                (None, 1..) if gone(*ordinal) => self.number += 1,
                _ => {}
            }
        }
        self.number > 0
    }
}
