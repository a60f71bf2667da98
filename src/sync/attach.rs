//! The newest snapshot of a storage's branch, on its way into a home.

use zenith_store::{Operation, RefChange, Repository, SnapshotId, Transfer};

use super::{NOTE_WAIT, Relation, bring, hold, relation};
use crate::error::{Error, Result};
use crate::event::{self, Event};
use crate::head::Head;
use crate::home::{Home, Wait};

/// What [`attach`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// The storage has no snapshot at all.
    Empty,
    /// The storage has snapshots, on these branches, and none on the one asked for.
    NoBranch {
        /// Without `branch/`.
        branches: Vec<String>,
    },
    /// The home had the storage's tip, or is ahead of it.
    UpToDate {
        /// The home's tip.
        tip: SnapshotId,
    },
    /// The branch of the home is at the storage's tip now.
    Fetched {
        /// That tip.
        tip: SnapshotId,
        /// Stored bytes fetched.
        bytes: u64,
    },
}

/// Brings the newest snapshot of a branch of the storage into the home, and the home's branch to
/// it where that loses nothing. HEAD goes to the branch.
///
/// Errors: `Diverged` when the home has what the storage lacks, and the other way round; those of
/// both repositories.
pub fn attach(
    home: &Home,
    storage: &Repository,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Attached> {
    let on = &event::once(on);
    let there = storage.state()?;
    let Some(theirs) = there.get_ref(&format!("branch/{branch}")) else {
        if there.snapshots().next().is_none() {
            return Ok(Attached::Empty);
        }
        let names = there
            .refs()
            .keys()
            .filter_map(|name| name.strip_prefix("branch/"));
        return Ok(Attached::NoBranch {
            branches: names.map(str::to_owned).collect(),
        });
    };
    let home_id = home.settings()?.home_id;
    let lock = home.lock("fetching", Wait::UpTo(NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    let here = local.state()?;
    let (name, noted) = (
        format!("branch/{branch}"),
        format!("remote/origin/{branch}"),
    );
    let mine = format!("homes/{home_id}");
    if let Some(ours) = here.get_ref(&name) {
        match relation(&here, ours, &there, Some(theirs), there.get_ref(&mine)) {
            relation @ (Relation::Same | Relation::Ahead) => {
                if relation == Relation::Same {
                    // We may have stopped right before this.
                    hold(storage, &mine, theirs, operation, on)?;
                }
                home.set_head(&Head::Branch(branch.to_owned()))?;
                return Ok(Attached::UpToDate { tip: ours });
            }
            Relation::Behind | Relation::New => {}
            Relation::Diverged => {
                return Err(Error::Diverged {
                    branch: branch.to_owned(),
                    ours,
                    theirs,
                });
            }
        }
    }
    on(Event::Phase("fetching"));
    let refs = [name, noted].map(|name| RefChange {
        from: here.get_ref(&name),
        to: Some(theirs),
        name,
    });
    let what = Transfer {
        snapshots: vec![theirs],
        refs: refs.into_iter().filter(|r| r.from != r.to).collect(),
        operation: operation.clone(),
    };
    if home.is_lazy() {
        // Its packs stay there: from now on, and whatever the home pushes.
        hold(storage, &format!("{mine}/{branch}"), theirs, operation, on)?;
    }
    let done = bring(home, storage, &local, what, on)?;
    // Not before it is here: a push must never take what we failed to fetch for what we sent.
    hold(storage, &mine, theirs, operation, on)?;
    home.set_head(&Head::Branch(branch.to_owned()))?;
    Ok(Attached::Fetched {
        tip: theirs,
        bytes: done.bytes,
    })
}

/// Brings one snapshot of the storage into the home, whole and on no branch; the bytes fetched.
///
/// Errors: those of both repositories.
pub fn fetch(
    home: &Home,
    storage: &Repository,
    id: SnapshotId,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    let lock = home.lock("fetching", Wait::UpTo(NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    on(Event::Phase("fetching"));
    let what = Transfer {
        snapshots: vec![id],
        operation: operation.clone(),
        ..Transfer::default()
    };
    Ok(bring(home, storage, &local, what, on)?.bytes)
}
