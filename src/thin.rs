//! Space in a home: old automatic snapshots go by the policy, then what only they needed.

use zenith_store::{Change, Collect, Error as StoreError, Repository, SnapshotId};

use crate::discarded;
use crate::error::Result;
use crate::home::HomeLock;
use crate::managed::Managed;
use crate::retain::{self, Policy, Verdict};
use crate::who::{operation, seconds, verb};

/// How often the decision is made anew because others changed what it was made of.
const TRIES: u32 = 8;

/// Snapshots that one commit removes at most: a root names them all.
const BATCH: usize = 500;

/// What went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Number of snapshots.
    pub dropped: u64,
    /// Bytes of packs, less what had to be written anew.
    pub freed_bytes: u64,
}

/// Drops the snapshots that the settings do not keep, and collects their space.
///
/// Errors: `HomeInUse` when somebody reads packs; the snapshots are dropped then, and the next
/// call collects.
pub fn thin(managed: &Managed, lock: &HomeLock) -> Result<Thinned> {
    let repo = managed.home.writer(lock)?;
    discarded::expire(&repo, false)?;
    let dropped = drop_old(managed, &repo, &managed.needed()?)?;
    let _alone = managed.home.collect_guard()?;
    collect(&repo, dropped)
}

/// The same at the storage, beside whoever else uses it. What a branch, tag or home stands on
/// stays.
///
/// Errors: those of the storage; what was done stands.
pub fn thin_storage(managed: &Managed, storage: &Repository) -> Result<Thinned> {
    let dropped = drop_old(managed, storage, &[])?;
    collect(storage, dropped)
}

fn drop_old(
    managed: &Managed,
    repo: &Repository,
    needed: &[(SnapshotId, &'static str)],
) -> Result<u64> {
    let policy = Policy::from(&managed.settings.keep);
    let (mut tries, mut dropped) = (0, 0);
    loop {
        let state = repo.state()?;
        let candidates = retain::candidates(&state, needed);
        let remove: Vec<_> = candidates
            .iter()
            .zip(retain::decide(&candidates, &policy, seconds(repo.world())))
            .filter(|(_, verdict)| *verdict == Verdict::Drop)
            .map(|(candidate, _)| candidate.id)
            .take(BATCH)
            .collect();
        let number = remove.len() as u64;
        if number == 0 {
            return Ok(dropped);
        }
        let done = repo.commit(Change {
            remove,
            operation: operation(repo.world(), verb::THIN, format!("({number} automatic)")),
            ..Change::default()
        });
        match done {
            Ok(_) => dropped += number,
            // Another home came to stand on one, or dropped one itself: decided anew.
            Err(StoreError::InUse { .. } | StoreError::NoSnapshot { .. }) if tries < TRIES => {
                tries += 1;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn collect(repo: &Repository, dropped: u64) -> Result<Thinned> {
    let collected = repo.collect(
        operation(repo.world(), verb::GC, ""),
        Collect::at(seconds(repo.world())),
    )?;
    let freed = collected.bytes + collected.orphan_bytes;
    Ok(Thinned {
        dropped,
        freed_bytes: freed.saturating_sub(collected.rewritten),
    })
}
