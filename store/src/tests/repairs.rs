//! Repairs of a storage, and what others do there before the root of the repair is made.

use super::collection::{Pair, at_once, collect_beside, push};
use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::damage::Wanted;
use crate::objects::Lazy;

/// A place with single blobs alone.
pub(super) struct Blobs(pub(super) Repository);

impl Source for Blobs {
    fn name(&self) -> String {
        "blobs".into()
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        self.0.blob(wanted)
    }
}

/// A pushed snapshot, of which a pack at the storage is damaged.
fn damaged() -> (Pair, SnapshotId) {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    let pack = storage.state().unwrap().packs().next().unwrap().name;
    let path = storage.objects().local_path(&pack.key()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    // The home has the same file under another name.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert!(!storage.verify(Verify::ReadData).unwrap().is_good());
    (pair, id)
}

/// Whole packs, and single blobs.
fn sources(pair: &Pair) -> [Box<dyn Source + Send>; 2] {
    [Box::new(pair.home()), Box::new(Blobs(pair.home()))]
}

fn repair(there: &Repository, source: &dyn Source) -> Result<Repaired> {
    let how = Repair {
        operation: Operation::default(),
        sources: vec![source],
        summary: &|_| Vec::new(),
    };
    there.repair(&how, &|_| {})
}

/// Repairs, while others are faster.
fn repair_beside(
    pair: &Pair,
    source: &dyn Source,
    others: impl FnOnce() + Send + 'static,
) -> Result<Repaired> {
    let dir = pair.dirs.1.path();
    let objects = Arc::new(Meanwhile::new(dir, When::Creates("roots/"), others));
    let there = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
    let done = repair(&there, source);
    assert!(objects.has_happened());
    done
}

#[track_caller]
fn assert_whole(pair: &Pair, snapshots: &[(SnapshotId, u64)]) {
    for (id, n) in snapshots {
        assert!(files_of(&pair.storage(), *id) == example(*n));
    }
    assert_good(&pair.storage());
}

/// What is pushed meanwhile uses the damaged pack as well.
#[test]
fn a_repair_takes_along_what_is_pushed_meanwhile() {
    for way in 0..2 {
        let (pair, one) = damaged();
        let (from, to) = (pair.home(), pair.storage());
        let two = snapshot(&from, &example(2), "two").id;
        let others = move || drop(push(&from, &to, &[two]).unwrap());
        let done = repair_beside(&pair, &*sources(&pair)[way], others).unwrap();
        assert!(done.after.is_good(), "{:?}", done.after);
        assert_whole(&pair, &[(one, 1), (two, 2)]);
    }
}

#[test]
fn of_two_repairs_one_does_it() {
    for way in 0..2 {
        let (pair, one) = damaged();
        let other = pair.storage();
        let [whole, blobs] = sources(&pair);
        let others = move || {
            let done = repair(&other, &*whole).unwrap();
            assert!(done.after.is_good(), "{:?}", done.after);
        };
        let source = match way {
            0 => sources(&pair).into_iter().next().unwrap(),
            _ => blobs,
        };
        let done = repair_beside(&pair, &*source, others).unwrap();
        assert!(done.after.is_good(), "{:?}", done.after);
        assert_whole(&pair, &[(one, 1)]);
        // What the slower one brought is gone.
        let storage = pair.storage();
        let named = storage.state().unwrap().named_keys();
        let listed = storage.objects().list("packs/").unwrap();
        assert!(listed.iter().all(|listed| named.contains(&listed.key)));
    }
}

/// A collection takes a repair that sleeps for one that is over, and what it brought for leftovers.
#[test]
fn a_repair_whose_session_was_fenced_begins_anew() {
    for way in 0..2 {
        let (pair, one) = damaged();
        let collector = pair.storage();
        let others = move || {
            let how = Collect {
                sessions: 0,
                ..at_once()
            };
            let done = collector.collect(Operation::default(), how).unwrap();
            assert!(done.orphans > 0, "{done:?}");
        };
        let source = &*sources(&pair)[way];
        let fenced = repair_beside(&pair, source, others).unwrap_err();
        assert!(matches!(fenced, Error::NamesUsedUp { .. }), "{fenced}");
        let done = repair(&pair.storage(), source).unwrap();
        assert!(done.after.is_good(), "{:?}", done.after);
        assert_whole(&pair, &[(one, 1)]);
    }
}

/// It knows packs by the names that they had.
#[test]
fn a_lazy_home_heals_by_a_storage_that_was_repaired() {
    let repairs = |lazy: &Repository, storage: &Repository| {
        let done = repair(lazy, storage).unwrap();
        assert!(done.after.is_good(), "{:?}", done.after);
    };
    a_lazy_home_after(&repairs);
}

/// No bytes travel: what a storage has elsewhere is asked for there.
#[test]
fn a_lazy_home_follows_a_storage_that_was_repaired() {
    let follows = |lazy: &Repository, storage: &Repository| {
        let follow = || follow_packs(storage, lazy, Operation::default()).unwrap();
        assert_eq!(follow(), 1);
        let seq = lazy.state().unwrap().seq();
        assert_eq!((follow(), lazy.state().unwrap().seq()), (0, seq));
        let packs = lazy.state().unwrap();
        let far = packs.packs().filter(|pack| lazy.is_far(&pack.name));
        assert!(far.count() > 0);
    };
    a_lazy_home_after(&follows);
}

fn a_lazy_home_after(does: &dyn Fn(&Repository, &Repository)) {
    let (pair, one) = damaged();
    let dir = tempfile::tempdir().unwrap();
    drop(home(dir.path()));
    let lazy = || {
        let near = Directory::new(dir.path());
        let far = Arc::new(Directory::new(pair.dirs.1.path()));
        let objects = Arc::new(Lazy::new(near, far));
        let home = Repository::open(objects, None, IndexChoice::Memory).unwrap();
        home.alone()
    };
    let what = Transfer {
        snapshots: vec![one],
        ..Transfer::default()
    };
    transfer_without_packs(&pair.storage(), &lazy(), what).unwrap();
    repair(&pair.storage(), &pair.home()).unwrap();
    assert_eq!(collect_beside(&pair.storage()).packs, 1);
    assert_whole(&pair, &[(one, 1)]);
    let missed = try_files_of(&lazy(), one).unwrap_err();
    assert_eq!(missed.kind(), ErrorKind::Damaged, "{missed}");
    does(&lazy(), &pair.storage());
    assert!(files_of(&lazy(), one) == example(1));
}
