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
    let needed = managed.needed()?;
    discarded::expire(&repo, false, &needed)?;
    let dropped = drop_old(managed, &repo, &needed)?;
    let _alone = managed.home.collect_guard()?;
    collect(&repo, dropped, 0)
}

/// The same at the storage, beside whoever else uses it. What a branch, tag or home stands on
/// stays. Mostly dead packs are packed anew as far as the settings let it.
///
/// Errors: those of the storage; what was done stands.
pub fn thin_storage(managed: &Managed, storage: &Repository) -> Result<Thinned> {
    let dropped = drop_old(managed, storage, &[])?;
    let traffic = managed.settings.space.repack_daily_bytes;
    collect(storage, dropped, traffic)
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

/// At a storage, packs of so many bytes are read to be packed anew.
fn collect(repo: &Repository, dropped: u64, traffic: u64) -> Result<Thinned> {
    let mut how = Collect::at(seconds(repo.world()));
    how.repack.traffic = traffic;
    let collected = repo.collect(operation(repo.world(), verb::GC, ""), how)?;
    let freed = collected.bytes + collected.orphan_bytes;
    Ok(Thinned {
        dropped,
        freed_bytes: freed.saturating_sub(collected.rewritten),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use zenith_store::objects::Directory;
    use zenith_store::{
        IndexChoice, Listing, Node, PackName, Params, Snapshot, SnapshotKind, SnapshotSource, World,
    };

    use super::*;
    use crate::facts::Facts;
    use crate::home::Home;
    use crate::settings::{Settings, SpaceSettings};

    /// A snapshot on no branch with a file of these chunks, each filled with noise of its seed.
    fn snapshot(repo: &Repository, seeds: &[u64]) -> SnapshotId {
        let writer = repo.writer().unwrap();
        let len = repo.params().chunk_size as usize;
        let chunk = |seed: &u64| {
            let words = (0..len as u64 / 8).map(|n| (seed * 1_000_003 + n).wrapping_mul(n | 1));
            let bytes: Vec<u8> = words
                .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
                .collect();
            writer.put_chunk(&bytes, None).unwrap()
        };
        let ids: Vec<_> = seeds.iter().map(chunk).collect();
        let size = (ids.len() * len) as u64;
        let file = writer.put_file(0o600, size, &ids, &[]).unwrap();
        let listing = Listing::from([("f".to_owned(), Node::File(file))]);
        let facts = Facts::default();
        let snapshot = Snapshot {
            version: 1,
            tree: writer.put_tree(&listing).unwrap(),
            parents: Vec::new(),
            time: operation(repo.world(), "test", "").time,
            host: "here".into(),
            message: String::new(),
            kind: SnapshotKind::Manual,
            source: SnapshotSource::Offline,
            tool: "test".into(),
            files: 1,
            size,
            body: facts.encode(),
        };
        let id = repo.ids().snapshot(&snapshot.encode());
        writer
            .commit(
                snapshot,
                facts.summary().encode(),
                vec![],
                operation(repo.world(), "test", ""),
            )
            .unwrap();
        id
    }

    #[test]
    fn the_agent_packs_a_storage_anew_as_far_as_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("home")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let mut managed = Managed::open(home.dir()).unwrap();
        let objects = Arc::new(Directory::new(dir.path().join("storage")));
        let storage = Repository::create(
            objects,
            Params::default(),
            None,
            IndexChoice::Memory,
            operation(&World::real(), "test", ""),
        )
        .unwrap();
        let first = snapshot(&storage, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let second = snapshot(&storage, &[1, 11]);
        let removal = Change {
            remove: vec![first],
            ..Change::default()
        };
        storage.commit(removal).unwrap();
        let packs = || -> BTreeSet<PackName> {
            let usage = storage.state().unwrap().usage(&second);
            usage.into_keys().collect()
        };
        let before = packs();
        managed.settings.space.repack_daily_bytes = 0;
        thin_storage(&managed, &storage).unwrap();
        assert_eq!(packs(), before);
        managed.settings.space.repack_daily_bytes = SpaceSettings::default().repack_daily_bytes;
        thin_storage(&managed, &storage).unwrap();
        let after = packs();
        assert_eq!(before.difference(&after).count(), 1, "the poor one");
        let report = storage.verify(zenith_store::Verify::ReadData).unwrap();
        assert!(report.is_good(), "{report:?}");
    }
}
