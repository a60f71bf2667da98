//! One snapshot on its way into another repository, as the format `zenith` of export and import.

use zenith_store::{Operation, RefChange, Repository, SnapshotId, Transfer, transfer};

use super::push::{is_overtaken, rename};
use super::{Relation, TRIES, relation, tell};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::home::Home;

/// Copies one snapshot into another repository, as export and import in the format `zenith` do:
/// `branch` there is moved to it, and must not be there yet or must be one of its ancestors.
///
/// Errors: `Diverged`, and those of both repositories.
pub fn copy(
    from: &Repository,
    to: &Repository,
    id: SnapshotId,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    let name = format!("branch/{branch}");
    for _ in 0..TRIES {
        let (here, there) = (from.state()?, to.state()?);
        if here.snapshot(&id).is_none() {
            let location = from.location();
            return Err(zenith_store::Error::NoSnapshot { id, location }.into());
        }
        let theirs = there.get_ref(&name);
        match relation(&here, id, &there, theirs, None) {
            Relation::New | Relation::Ahead => {}
            Relation::Same => {
                to.confirm()?;
                return Ok(0);
            }
            Relation::Behind | Relation::Diverged => {
                let theirs = theirs.expect("a branch that stands elsewhere is there");
                return Err(Error::Diverged {
                    branch: branch.to_owned(),
                    ours: id,
                    theirs,
                });
            }
        }
        let refs = vec![RefChange {
            name: name.clone(),
            from: theirs,
            to: Some(id),
        }];
        let snapshots = if there.snapshot(&id).is_some() {
            Vec::new()
        } else {
            vec![id]
        };
        let what = Transfer {
            snapshots,
            refs,
            operation: operation.clone(),
        };
        match transfer(from, to, what, &|event| tell(event, on)) {
            Ok(done) => return Ok(done.bytes),
            Err(e) if is_overtaken(&e) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::StorageBusy {
        location: to.location(),
        tries: TRIES,
    })
}

/// The same out of a home. Packs whose names are used up there go under new ones.
///
/// Errors: those of [`copy`]; `HomeBusy` and `HomeInUse` where packs have to be renamed.
pub fn copy_out(
    home: &Home,
    to: &Repository,
    id: SnapshotId,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    for _ in 0..TRIES {
        let (local, guard) = home.reader()?;
        match copy(&local, to, id, branch, operation, on) {
            Err(Error::Store(zenith_store::Error::NamesUsedUp { packs, floor })) => {
                drop(guard);
                rename(home, &packs, floor, operation)?;
            }
            done => return done,
        }
    }
    Err(Error::StorageBusy {
        location: to.location(),
        tries: TRIES,
    })
}
