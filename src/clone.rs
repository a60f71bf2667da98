//! `clone`: a new home that stands where a storage's branch stands.
//!
//! It is an init that only attaches: no cluster is ever made, and the one that is restored starts
//! guarded, since the original may be running. Then the other branches come, as far back as asked
//! for. Who may not write at the storage gets a home that reads there. Cut off at any point, the same clone goes on: packs that arrived stay.

use std::path::Path;

use zenith_store::Repository;
use zenith_store::objects::OpenOptions;

use crate::error::Result;
use crate::event::{self, Event};
use crate::fetch::{self, Depth, FetchOptions, FetchReport};
use crate::init::{self, InitOptions, Initialised};
use crate::managed::Surroundings;
use crate::remote;
use crate::sync::{self, ORIGIN};
use crate::who::operation;

/// What to clone.
#[derive(Debug, Clone)]
pub struct CloneOptions {
    /// With `storage_dest`; the branch is `main` or the only one where none is named.
    pub init: InitOptions,
    /// How much history of each branch.
    pub depth: Depth,
    /// The branch alone, and nothing known of the others.
    pub single_branch: bool,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Cloned {
    /// The home.
    pub init: Initialised,
    /// What came beside the tip of the branch.
    pub report: FetchReport,
}

/// Sees that there is a repository to clone, before anything is made for the clone.
///
/// Errors: `Url`, `NotARepository` of the store, and those of the place.
pub fn look(dir: &Path, around: &Surroundings, location: &str) -> Result<()> {
    let options = OpenOptions::interactive();
    let objects = sync::open_objects(location, dir, &around.storage, &options)?;
    if Repository::exists(&*objects)? {
        return Ok(());
    }
    Err(zenith_store::Error::NotARepository {
        location: objects.location(),
    }
    .into())
}

/// Makes a home in `dir` from the storage.
///
/// Errors: `Refusal::{NothingToClone, BranchNotAtStorage}`, those of [`init::init`] and of
/// [`fetch::fetch`].
pub fn clone(
    dir: &Path,
    around: &Surroundings,
    options: &CloneOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Cloned> {
    let on = &event::once(on);
    let attach = InitOptions {
        attach_only: true,
        ..options.init.clone()
    };
    let init = init::init(dir, around, &attach, on)?;
    let storage = remote::open(&init.managed, around, ORIGIN)?;
    let what = FetchOptions {
        remote: ORIGIN.to_owned(),
        branches: if options.single_branch {
            vec![init.branch.clone()]
        } else {
            Vec::new()
        },
        all: !options.single_branch,
        tags: false,
        prune: false,
        depth: options.depth,
        dry_run: false,
        operation: operation(init.managed.home.world(), "clone", init.branch.clone()),
    };
    let report = fetch::fetch(&init.managed.home, &storage, &what, on)?;
    Ok(Cloned { init, report })
}
