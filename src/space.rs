//! `gc`: space of a home or of a storage.

use zenith_store::{Collect, Collected, Repository, World};

use crate::discarded;
use crate::error::Result;
use crate::home::{LOCK_WAIT, Wait};
use crate::managed::Managed;
use crate::who::{operation, seconds, verb};

/// Bytes that one run reads at a storage to pack mostly dead and small packs anew. The agent reads
/// fewer, as finding what is alive takes requests, but does it every day.
const REPACK_TRAFFIC: u64 = 1 << 30;

/// How a collection is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gc {
    /// Change nothing.
    pub dry_run: bool,
    /// What nothing uses goes at once and cannot come back.
    pub at_once: bool,
}

impl Gc {
    fn collect(self, world: &World) -> Collect {
        let mut how = Collect::at(seconds(world));
        if self.at_once {
            how.grace = 0;
        }
        how
    }
}

/// Frees space in the home.
///
/// Errors: `HomeBusy`; `HomeInUse` when somebody reads packs.
pub fn collect_home(managed: &Managed, gc: Gc) -> Result<Collected> {
    let lock = managed.home.lock("gc", Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let _alone = managed.home.collect_guard()?;
    let needed = managed.needed()?;
    if gc.dry_run {
        let expired = discarded::expired(&*repo.state()?, repo.world(), gc.at_once, &needed);
        return Ok(repo.would_collect(gc.collect(repo.world()), &expired.remove)?);
    }
    discarded::expire(&repo, gc.at_once, &needed)?;
    Ok(repo.collect(
        operation(repo.world(), verb::GC, ""),
        gc.collect(repo.world()),
    )?)
}

/// Frees space at a storage, beside whoever writes and reads there.
pub fn collect_storage(storage: &Repository, gc: Gc) -> Result<Collected> {
    let mut how = gc.collect(storage.world());
    how.repack.traffic = REPACK_TRAFFIC;
    if gc.dry_run {
        return Ok(storage.would_collect(how, &[])?);
    }
    Ok(storage.collect(operation(storage.world(), verb::GC, ""), how)?)
}
