//! Pins: what a home reads at a storage for long is not pruned there meanwhile.
//!
//! A pin is the ref `pins/<home>/<snapshot>` at the storage; refs keep their snapshots. It is set
//! before packs travel and dropped afterwards. One that a crash left is dropped by the next fetch of
//! that home, or by `home forget`. Who may not write there reads without, and is told: a collection
//! that moves packs only has the transfer look again, and a snapshot that is pruned is named.

use zenith_store::{Change, ErrorKind, Operation, RefChange, Repository, SnapshotId, Transfer};

use crate::error::Result;
use crate::event::Event;
use crate::sync;

/// Pins of one transfer: the root that lists them has a limit.
const PINS_MAX: usize = 64;
/// How often pins are set or dropped anew because others changed what was looked at.
const TRIES: u32 = 8;

/// Does what reads at a storage while the tips of what it reads are pinned there for this home. The
/// caller holds the home's lock.
pub(crate) fn during<T>(
    storage: &Repository,
    home_id: &str,
    what: &Transfer,
    on: &(dyn Fn(Event) + Sync),
    read: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if what.snapshots.is_empty() {
        return read();
    }
    let folder = format!("pins/{home_id}/");
    let pinned = set(storage, &folder, &tips(what), &what.operation);
    match &pinned {
        Err(e) if e.is_write_refused() => sync::warn_reader(storage, on),
        Err(e) => tracing::debug!("nothing is pinned at {}: {e}", storage.location()),
        Ok(()) => {}
    }
    let done = read();
    if pinned.is_ok()
        && let Err(e) = drop_all(storage, &folder, &what.operation)
    {
        tracing::warn!(
            "pins stay at {} until the next fetch: {e}",
            storage.location()
        );
    }
    done
}

/// Where refs come to stand; without refs all of it. Older snapshots may go meanwhile: then the
/// fetch decides anew.
fn tips(what: &Transfer) -> Vec<SnapshotId> {
    let targets = what.refs.iter().filter_map(|change| change.to);
    let mut tips: Vec<_> = targets.filter(|to| what.snapshots.contains(to)).collect();
    if tips.is_empty() {
        tips = what.snapshots.iter().rev().copied().collect();
    }
    tips.sort_unstable();
    tips.dedup();
    tips.truncate(PINS_MAX);
    tips
}

fn set(
    storage: &Repository,
    folder: &str,
    ids: &[SnapshotId],
    operation: &Operation,
) -> zenith_store::Result<()> {
    commit(storage, operation, |state| {
        let there = ids.iter().filter(|id| state.snapshot(id).is_some());
        let pin = |id: &SnapshotId| {
            let name = format!("{folder}{id}");
            RefChange {
                from: state.get_ref(&name),
                to: Some(*id),
                name,
            }
        };
        there.map(pin).filter(|pin| pin.from != pin.to).collect()
    })
}

/// Drops every pin of a home, those of an earlier run included.
fn drop_all(storage: &Repository, folder: &str, operation: &Operation) -> zenith_store::Result<()> {
    commit(storage, operation, |state| {
        let pins = state.refs().iter();
        let pins = pins.filter(|(name, _)| name.starts_with(folder));
        pins.map(|(name, at)| RefChange {
            name: name.clone(),
            from: Some(*at),
            to: None,
        })
        .collect()
    })
}

fn commit(
    storage: &Repository,
    operation: &Operation,
    refs: impl Fn(&zenith_store::State) -> Vec<RefChange>,
) -> zenith_store::Result<()> {
    let mut tries = 0;
    loop {
        let refs = refs(&*storage.state()?);
        if refs.is_empty() {
            return Ok(());
        }
        // What the machinery does: nobody who types `undo` means it.
        let operation = Operation {
            verb: "fetch".to_owned(),
            ..operation.clone()
        };
        let change = Change {
            refs,
            operation,
            ..Change::default()
        };
        match storage.commit(change) {
            Err(e) if e.kind() == ErrorKind::Conflict && tries < TRIES => {}
            done => return done.map(drop),
        }
        tries += 1;
    }
}
