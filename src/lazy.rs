//! What a lazy home has its storage keep, so that its commits never lose what they build on.
//!
//! A commit of a lazy home uses packs that lie at the storage alone. Before it begins, the snapshot
//! that it goes on from is held there, under `homes/<id>/@<snapshot>`, and of the packs there it
//! uses those of this snapshot only. Its own far packs, and those of all commits after it, are
//! among these then, so one ref serves a whole line of commits.
//!
//! These refs are moved under the home's lock alone: no push or fetch in between can take away
//! what a commit relies on. One that no commit needs any more goes with the next one that is made.

use std::collections::BTreeSet;

use zenith_store::{
    Change, IndexChoice, Operation, PackName, RefChange, Repository, SnapshotId, State,
};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::head::Head;
use crate::home::{Home, HomeLock};
use crate::managed::Refusal;
use crate::sync::{self, TRIES};

/// Prepares the home's repository for a commit that goes on from `base`. Nothing happens in a home
/// that has its packs itself.
///
/// Errors: those of [`hold`].
pub fn lean(
    home: &Home,
    local: &Repository,
    base: Option<SnapshotId>,
    operation: &Operation,
) -> Result<()> {
    let Some(storage) = storage(home)? else {
        return Ok(());
    };
    if let Some(base) = base {
        keep(home, local, &storage, base, operation)?;
    }
    Ok(local.lean_on(base)?)
}

/// Has the storage of a lazy home keep what a commit on `base` would use. Who may not write there
/// goes on without, and is told: it is the commit that is refused then.
///
/// Errors: `Refusal::NotHeld` when the storage has it no more, and those of the storage.
pub fn hold(
    home: &Home,
    lock: &HomeLock,
    base: SnapshotId,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let Some(storage) = storage(home)? else {
        return Ok(());
    };
    debug_assert_eq!(lock.dir(), home.dir());
    match keep(home, &home.reader()?.0, &storage, base, operation) {
        Err(Error::Store(e)) if e.is_write_refused() => {
            sync::warn_reader(&storage, on);
            Ok(())
        }
        done => done,
    }
}

fn storage(home: &Home) -> Result<Option<Repository>> {
    let Some(objects) = home.far() else {
        return Ok(None);
    };
    let storage = Repository::open_in(
        objects,
        home.seal()?,
        IndexChoice::Memory,
        home.world().clone(),
    )?;
    Ok(Some(storage))
}

fn keep(
    home: &Home,
    local: &Repository,
    storage: &Repository,
    base: SnapshotId,
    operation: &Operation,
) -> Result<()> {
    let folder = format!("homes/{}/@", home.settings()?.home_id);
    let here = local.state()?;
    let wanted = local.far_packs(&base)?;
    for _ in 0..TRIES {
        let there = storage.state()?;
        let mut needed = wanted.clone();
        for id in building_on(home, &here, &there, local)? {
            needed.extend(local.far_packs(&id)?);
        }
        let held = held(&there, &folder);
        let refs = changes(&there, &folder, held, base, &wanted, needed);
        let refs = refs.ok_or_else(|| Refusal::NotHeld {
            id: base.short(),
            location: storage.location(),
        })?;
        if refs.is_empty() {
            return Ok(());
        }
        let done = storage.commit(Change {
            refs,
            operation: operation.clone(),
            ..Change::default()
        });
        match done {
            Ok(_) => return Ok(()),
            // Somebody deleted it or forgot this home meanwhile; look again.
            Err(zenith_store::Error::RefMoved { .. } | zenith_store::Error::NoSnapshot { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: TRIES,
    })
}

/// Snapshots whose far packs must not go: those made here that the storage has not, and where the
/// next commits may begin.
fn building_on(
    home: &Home,
    here: &State,
    there: &State,
    local: &Repository,
) -> Result<BTreeSet<SnapshotId>> {
    let branches = here.refs().iter();
    let mut found: BTreeSet<SnapshotId> = branches
        .filter(|(name, _)| name.starts_with("branch/"))
        .map(|(_, id)| *id)
        .collect();
    if let Head::Detached(id) = home.head()? {
        found.extend(id.parse::<SnapshotId>().ok());
    }
    for row in here.snapshots() {
        // What was only fetched has no pack here.
        if there.snapshot(&row.id).is_none()
            && here.usage(&row.id).len() > local.far_packs(&row.id)?.len()
        {
            found.insert(row.id);
        }
    }
    Ok(found)
}

/// What is held already, the newest first.
fn held(there: &State, folder: &str) -> Vec<SnapshotId> {
    let refs = there.refs().iter();
    let held: BTreeSet<SnapshotId> = refs
        .filter(|(name, _)| name.starts_with(folder))
        .map(|(_, id)| *id)
        .collect();
    let rows = there.snapshots().rev().map(|row| row.id);
    rows.filter(|id| held.contains(id)).collect()
}

/// What has to change so that all of `wanted` is held, and of `needed` what is held now. Nothing
/// when it cannot be.
fn changes(
    there: &State,
    folder: &str,
    mut held: Vec<SnapshotId>,
    base: SnapshotId,
    wanted: &BTreeSet<PackName>,
    mut needed: BTreeSet<PackName>,
) -> Option<Vec<RefChange>> {
    let used = |id: &SnapshotId| there.usage(id);
    let mut open = wanted.clone();
    for id in &held {
        let used = used(id);
        open.retain(|name| !used.contains_key(name));
    }
    let mut refs = Vec::new();
    if !open.is_empty() {
        let used = used(&base);
        if open.iter().any(|name| !used.contains_key(name)) {
            return None;
        }
        held.insert(0, base);
        refs.push(RefChange {
            name: format!("{folder}{base}"),
            from: None,
            to: Some(base),
        });
    }
    for id in held {
        let used = used(&id);
        let before = needed.len();
        needed.retain(|name| !used.contains_key(name));
        if needed.len() == before {
            refs.push(RefChange {
                name: format!("{folder}{id}"),
                from: Some(id),
                to: None,
            });
        }
    }
    Some(refs)
}
