//! The snapshot that the next one builds on.

use std::path::Path;

use zenith_store::{Repository, Snapshot, SnapshotId};

use super::{SnapshotOptions, SnapshotReport};
use crate::before::Before;
use crate::error::{Error, Result};
use crate::facts::{Damage, Facts};
use crate::pg;

/// What the parent has; nothing where there is none.
pub(super) fn before(repo: &Repository, parent: Option<&Parent>) -> Result<Before> {
    Before::of(repo, parent.map(|parent| parent.snapshot.tree))
}

/// The tip of the branch, or where it begins.
pub(super) fn base(repo: &Repository, opts: &SnapshotOptions) -> Result<Option<SnapshotId>> {
    Ok(opts.tip(&*repo.state()?).or(opts.parent))
}

/// The tip of the branch, or where the branch begins.
pub(super) struct Parent {
    pub(super) id: SnapshotId,
    pub(super) snapshot: Snapshot,
    pub(super) facts: Facts,
}

impl Parent {
    /// `place` names the cluster with this system identifier, which is to go on from there.
    ///
    /// Errors: `BranchForeign`.
    pub(super) fn of(
        repo: &Repository,
        opts: &SnapshotOptions,
        place: &Path,
        system_identifier: u64,
    ) -> Result<Option<Parent>> {
        let Some(id) = base(repo, opts)? else {
            return Ok(None);
        };
        let snapshot = repo.snapshot(id)?;
        let facts = Facts::decode(&snapshot.body, &id)?;
        if facts.system_identifier != system_identifier {
            return Err(Error::BranchForeign {
                place: place.to_owned(),
                found: system_identifier,
                branch: opts.branch.clone(),
                expected: facts.system_identifier,
            });
        }
        Ok(Some(Parent {
            id,
            snapshot,
            facts,
        }))
    }

    /// What is reported when there is nothing new.
    pub(super) fn unchanged(&self) -> SnapshotReport {
        SnapshotReport {
            id: self.id,
            unchanged: true,
            size: self.snapshot.size,
            new_bytes: 0,
            read_bytes: 0,
            files: self.snapshot.files,
            lsn: pg::Lsn(self.facts.stop_lsn),
            left_out: self.facts.left_out.clone(),
            damaged_pages: self.facts.damage.as_ref().map_or(0, Damage::count),
            warnings: Vec::new(),
        }
    }
}
