//! Packs packed anew beside others: what is alive stays readable, and what homes build on stays
//! where it is.

use super::collection::{Pair, at_once, collect_beside, push, push_until};
use super::crash::copy_dir;
use super::limits::ClockAt;
use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::objects::disk;
use crate::repack::PACKS_MAX;
use crate::world::World;

fn packing(traffic: u64) -> Collect {
    Collect {
        repack: Repack {
            traffic,
            ..Repack::default()
        },
        ..at_once()
    }
}

fn collect_with(repository: &Repository, traffic: u64) -> Collected {
    let done = repository.collect(Operation::default(), packing(traffic));
    done.unwrap()
}

const CHUNK_64K: usize = 64 << 10;

/// Twelve chunks, of which the second keeps one.
fn first() -> Files {
    let files = (0..12).map(|n| (format!("f{n}"), noise(n, CHUNK_64K)));
    files.collect()
}

fn second() -> Files {
    Files::from([
        ("f3".into(), noise(3, CHUNK_64K)),
        ("own".into(), noise(50, CHUNK_64K)),
    ])
}

fn packs(repository: &Repository) -> Vec<PackName> {
    let listed = repository.objects().list("packs/").unwrap();
    let names = listed
        .iter()
        .filter_map(|l| l.key.strip_prefix("packs/")?.parse().ok());
    names.collect()
}

fn bytes(repository: &Repository) -> u64 {
    let listed = repository.objects().list("packs/").unwrap();
    listed.iter().map(|listed| listed.size).sum()
}

/// Two snapshots at the storage, the second of which alone stays and uses little of the pack of the
/// first.
fn mostly_dead() -> (Pair, SnapshotId) {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids = [first(), second()].map(|files| snapshot(&local, &files, "x").id);
    push(&local, &storage, &ids).unwrap();
    remove(&storage, &[ids[0]]);
    (pair, ids[1])
}

#[test]
fn mostly_dead_packs_of_a_storage_are_packed_anew() {
    let (pair, id) = mostly_dead();
    let storage = pair.storage();
    // One that has looked, and reads later.
    let reader = pair.storage();
    reader.state().unwrap();
    let (old, before) = (packs(&storage), bytes(&storage));
    assert_eq!(
        collect_beside(&storage).rewritten,
        0,
        "not without being asked"
    );
    assert_eq!(
        collect_with(&storage, 1000).rewritten,
        0,
        "not beyond the traffic"
    );
    let done = collect_with(&storage, u64::MAX);
    assert!(
        done.rewritten > CHUNK_64K as u64 && done.packs == 1,
        "{done:?}"
    );
    assert!(
        bytes(&storage) * 4 < before,
        "{} of {before}",
        bytes(&storage)
    );
    assert!(packs(&storage).iter().any(|name| !old.contains(name)));
    for place in [reader, pair.storage()] {
        assert_eq!(files_of(&place, id), second());
    }
    assert_good(&storage);
    // A second time there is nothing to be gained.
    let again = collect_with(&pair.storage(), u64::MAX);
    assert_eq!((again.rewritten, again.packs), (0, 0));
    // The home has the old pack, and goes on with it: it goes up under another name.
    let local = pair.home();
    let third = snapshot(&local, &first(), "y").id;
    push_until(&local, &storage, &[third]);
    assert_eq!(files_of(&pair.storage(), third), first());
    assert_good(&storage);
}

#[test]
fn what_branches_and_homes_build_on_is_not_moved() {
    for name in ["branch/main", "homes/a", "tag/old"] {
        let (pair, id) = mostly_dead();
        let stands = RefChange {
            name: name.into(),
            from: None,
            to: Some(id),
        };
        let change = Change {
            refs: vec![stands],
            ..Change::default()
        };
        pair.storage().commit(change).unwrap();
        let done = collect_with(&pair.storage(), u64::MAX);
        assert_eq!(done.rewritten > 0, name == "tag/old", "{name}");
    }
}

/// A lazy home has them nowhere else, and lists all that goes before what it holds.
#[test]
fn what_a_lazy_home_reads_is_not_moved() {
    for name in ["homes/a/main", "homes/a"] {
        let (pair, old) = mostly_dead();
        let (local, storage) = (pair.home(), pair.storage());
        let files = Files::from([("new".into(), noise(60, 3000))]);
        let tip = snapshot_on(&local, &files, Some(old), "tip").0;
        push(&local, &storage, &[tip]).unwrap();
        let stands = RefChange {
            name: name.into(),
            from: None,
            to: Some(tip),
        };
        let change = Change {
            refs: vec![stands],
            ..Change::default()
        };
        storage.commit(change).unwrap();
        let done = collect_with(&pair.storage(), u64::MAX);
        assert_eq!(done.rewritten > 0, name == "homes/a", "{name}");
    }
}

#[test]
fn sealed_frames_are_moved_as_they_lie() {
    let (seal, _) = Seal::generate("k");
    let places = [(); 2].map(|()| Place::new(Some(seal.clone())));
    let (local, storage) = (places[0].open().alone(), places[1].open());
    let ids = [first(), second()].map(|files| snapshot_on(&local, &files, None, "x").0);
    push(&local, &storage, &ids).unwrap();
    remove(&storage, &[ids[0]]);
    let done = collect_with(&storage, u64::MAX);
    assert!(done.rewritten > 0 && done.packs > 0, "{done:?}");
    assert_eq!(files_of(&places[1].open(), ids[1]), second());
    assert_good(&places[1].open());
}

/// Small snapshots, as an agent takes them: each is one small pack.
fn many_small(local: &Repository) -> Vec<(SnapshotId, Files)> {
    let one = |n: u64| {
        let files = Files::from([("f".into(), noise(n, 2000))]);
        (snapshot(local, &files, "small").id, files)
    };
    (0..40).map(one).collect()
}

#[test]
fn many_small_packs_become_one() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let small = many_small(&local);
    let ids: Vec<_> = small.iter().map(|(id, _)| *id).collect();
    push(&local, &storage, &ids).unwrap();
    for place in [&local, &storage] {
        let before = place.state().unwrap().packs().count();
        assert!(before >= 40, "{before}");
        collect_with(place, u64::MAX);
        let after = place.state().unwrap().packs().count();
        assert!(after < 10, "{after}");
    }
    for place in [pair.home(), pair.storage()] {
        for (id, files) in &small {
            assert_eq!(files_of(&place, *id), *files);
        }
        assert_good(&place);
        // What was merged waits for others like it.
        assert_eq!(collect_with(&place, u64::MAX).rewritten, 0);
    }
}

/// Of such a pack the names take more than what they name, though all of it is in use.
fn many_of_small_blobs(local: &Repository, number: u64) {
    for n in 0..number {
        let files = Files::from([("f".into(), n.to_string().into_bytes())]);
        snapshot(local, &files, "small");
    }
    let state = local.state().unwrap();
    let used = state.used();
    assert!(state.packs().all(|pack| used[&pack.ordinal] * 2 < pack.len));
}

#[test]
fn packs_of_small_blobs_are_merged_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let local = home(dir.path()).alone();
    many_of_small_blobs(&local, 40);
    collect_with(&local, 0);
    let after = local.state().unwrap().packs().count();
    assert!(after < 10, "{after}");
    assert_good(&local);
}

#[test]
fn a_mostly_dead_pack_is_found_behind_many_others() {
    let dir = tempfile::tempdir().unwrap();
    let local = home(dir.path()).alone();
    many_of_small_blobs(&local, PACKS_MAX as u64 + 6);
    let ids = [first(), second()].map(|files| snapshot(&local, &files, "x").id);
    remove(&local, &[ids[0]]);
    let how = Collect {
        grace: 0,
        repack: Repack {
            merged_from: usize::MAX,
            ..Repack::default()
        },
        ..Collect::at(4_000_000_000)
    };
    let done = local.collect(Operation::default(), how).unwrap();
    assert!(done.bytes > 8 * CHUNK_64K as u64, "{done:?}");
    assert_eq!(files_of(&local, ids[1]), second());
    assert_good(&local);
}

/// Their frames have another layout than the trailer of a new pack would say: they would be sent
/// every time for nothing.
#[test]
fn small_packs_of_the_first_version_stay_as_they_are_at_a_storage() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/v1/repository");
    copy_dir(&fixture, dir.path());
    let storage = reopen(dir.path());
    let refs = storage.state().unwrap().refs().clone();
    let gone = refs.into_iter().map(|(name, at)| RefChange {
        name,
        from: Some(at),
        to: None,
    });
    let change = Change {
        refs: gone.collect(),
        ..Change::default()
    };
    storage.commit(change).unwrap();
    let before = packs(&storage);
    let how = Collect {
        grace: 0,
        repack: Repack {
            traffic: u64::MAX,
            merged_from: 2,
            ..Repack::default()
        },
        ..Collect::at(4_000_000_000)
    };
    storage.collect(Operation::default(), how).unwrap();
    let after = packs(&storage);
    assert!(after.len() > 2 && after.iter().all(|name| before.contains(name)));
    assert_good(&reopen(dir.path()));
}

/// Somebody commits a snapshot of the old pack right before the root that moves it.
#[test]
fn what_is_committed_meanwhile_keeps_the_old_pack() {
    let (pair, id) = mostly_dead();
    let local = pair.home();
    let late = snapshot(&local, &first(), "late").id;
    let storage = pair.storage();
    let objects = Meanwhile::new(pair.dirs.1.path(), When::Created("sessions/"), move || {
        push(&local, &storage, &[late]).unwrap();
    });
    let collector = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let done = collect_with(&collector, u64::MAX);
    assert!(done.rewritten > 0, "{done:?}");
    let there = pair.storage();
    assert_eq!(files_of(&there, late), first());
    assert_eq!(files_of(&there, id), second());
    assert_good(&there);
}

/// Another collector fences the session of the new packs before they are committed.
#[test]
fn a_collector_that_was_fenced_moves_nothing() {
    let (pair, id) = mostly_dead();
    let path = pair.dirs.1.path().to_owned();
    let objects = Meanwhile::new(pair.dirs.1.path(), When::Created("sessions/"), move || {
        let there = reopen(&path);
        let session = there.objects().list("sessions/").unwrap();
        let newest = session.iter().map(|l| l.key.clone()).max().unwrap();
        let name = newest.strip_prefix("sessions/").unwrap();
        let name: PackName = format!("{name}-0").parse().unwrap();
        there
            .commit_with(Operation::default(), |state| {
                state.fence(&[name.session], 0);
                Ok(())
            })
            .unwrap();
    });
    let collector = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let done = collect_with(&collector, u64::MAX);
    assert_eq!((done.rewritten, done.packs), (0, 0), "{done:?}");
    assert_eq!(files_of(&pair.storage(), id), second());
    assert_good(&pair.storage());
}

/// Whoever looks at everything while packs are moved and deleted calls nothing damaged that is
/// whole, wherever in its look that happens; what is missing for good is told all the same.
#[test]
fn a_collection_beside_a_verification_is_no_damage() {
    for (how, loses) in [(Verify::Quick, false), (Verify::ReadData, true)] {
        for moment in 0.. {
            let (pair, id) = mostly_dead();
            let (others, local) = (pair.storage(), pair.home());
            let lost = snapshot(
                &local,
                &Files::from([("z".into(), noise(99, 9000))]),
                "lost",
            )
            .id;
            push(&local, &others, &[lost]).unwrap();
            let gone = others.state().unwrap().packs().last().unwrap().name;
            if loses {
                others.objects().delete(&gone.key()).unwrap();
            }
            let collects = move || {
                collect_with(&others, u64::MAX);
            };
            let objects = Meanwhile::new(pair.dirs.1.path(), When::Reads("packs/"), collects);
            let objects = Arc::new(objects.far(moment));
            let place = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
            let report = place.verify(how).unwrap();
            if !objects.has_happened() {
                assert!(moment > 10, "{moment}");
                break;
            }
            let bad: Vec<_> = report.bad_packs.iter().map(|(name, _)| *name).collect();
            let snapshots: Vec<_> = report.bad_snapshots.iter().map(|(id, _)| *id).collect();
            let expected = if loses {
                (vec![gone], vec![lost])
            } else {
                (vec![], vec![])
            };
            assert_eq!((bad, snapshots), expected, "{how:?}, {moment}: {report:?}");
            assert_eq!(files_of(&pair.storage(), id), second());
        }
    }
}

/// A snapshot that is removed and collected while it is looked at was not damaged.
#[test]
fn a_removal_beside_a_verification_is_no_damage() {
    for moment in 0.. {
        let (pair, id) = mostly_dead();
        let others = pair.storage();
        let objects = Meanwhile::new(pair.dirs.1.path(), When::Reads("packs/"), move || {
            remove(&others, &[id]);
            collect_with(&others, u64::MAX);
        });
        let objects = Arc::new(objects.far(moment));
        let place = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
        let report = place.verify(Verify::ReadData).unwrap();
        assert!(report.is_good(), "{moment}: {report:?}");
        if !objects.has_happened() {
            assert!(moment > 10, "{moment}");
            break;
        }
    }
}

/// A lazy home has the storage keep what it commits on, right before the root that moves it: the
/// packs that it knows stay.
#[test]
fn what_a_home_came_to_hold_is_not_moved() {
    let (pair, id) = mostly_dead();
    let others = pair.storage();
    let known = others.state().unwrap().usage(&id);
    let objects = Meanwhile::new(pair.dirs.1.path(), When::Created("sessions/"), move || {
        let hold = RefChange {
            name: format!("homes/a/@{id}"),
            from: None,
            to: Some(id),
        };
        let change = Change {
            refs: vec![hold],
            ..Change::default()
        };
        others.commit(change).unwrap();
    });
    let objects = Arc::new(objects);
    let collector = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
    let done = collect_with(&collector, u64::MAX);
    assert!(objects.has_happened() && done.rewritten == 0, "{done:?}");
    collect_with(&pair.storage(), u64::MAX);
    assert_eq!(pair.storage().state().unwrap().usage(&id), known);
    assert_eq!(files_of(&pair.storage(), id), second());
}

/// What rotted must not get a fresh hash, here or at a storage.
#[test]
fn a_rotten_pack_is_not_packed_anew() {
    for alone in [true, false] {
        let (pair, id) = mostly_dead();
        let open = || match alone {
            true => pair.storage().alone(),
            false => pair.storage(),
        };
        // Another pack of which little is in use, shorter than the one that rots.
        let short: Files = (4..12)
            .map(|n| (format!("f{n}"), noise(100 + n, CHUNK_64K)))
            .collect();
        let one = Files::from([("f5".into(), noise(105, CHUNK_64K))]);
        let ids = [short, one].map(|files| snapshot(&pair.home(), &files, "y").id);
        push(&pair.home(), &pair.storage(), &ids).unwrap();
        let other = *pair
            .storage()
            .state()
            .unwrap()
            .usage(&ids[1])
            .keys()
            .min()
            .unwrap();
        remove(&pair.storage(), &ids[..1]);
        let state = open().state().unwrap();
        let big = state.packs().max_by_key(|pack| pack.len).unwrap();
        let path = pair.dirs.1.path().join(big.name.key());
        let mut bytes = std::fs::read(&path).unwrap();
        // Of chunks, not of what tells that they are in use.
        let frames = open().directory(big.name, big.len).unwrap().frames;
        for frame in frames
            .iter()
            .filter(|f| f.stored_len as usize > CHUNK_64K / 2)
        {
            bytes[(frame.payload_offset + frame.end()) as usize / 2] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        // The other pack that is mostly dead goes all the same, and so does all that comes after.
        let unfinished = disk::temporary_path(&pair.dirs.1.path().join("packs"));
        std::fs::write(&unfinished, b"half").unwrap();
        for n in 0..2 {
            let done = collect_with(&open(), u64::MAX);
            assert_eq!((done.damaged, done.rewritten > 0), (1, n == 0), "{done:?}");
            let named = open().state().unwrap().named_packs();
            assert!(packs(&open()).iter().all(|name| named.contains(name)));
        }
        assert!(!unfinished.exists());
        assert!(!packs(&open()).contains(&other));
        let usage = open().state().unwrap().usage(&id);
        assert!(usage.contains_key(&big.name), "it is where it was");
    }
}

/// By a clock that is behind, new packs would be below the floor.
#[test]
fn a_collector_whose_clock_is_behind_moves_packs_above_the_floor() {
    let (pair, id) = mostly_dead();
    let raise = |state: &mut State| {
        state.fence(&[], state.newest_label());
        Ok(())
    };
    let storage = pair.storage();
    storage.commit_with(Operation::default(), raise).unwrap();
    let objects = Arc::new(Directory::new(pair.dirs.1.path()));
    let (index, world) = (IndexChoice::Memory, World::new(ClockAt(0)));
    let behind = Repository::open_in(objects, None, index, world).unwrap();
    assert!(collect_with(&behind, u64::MAX).rewritten > 0);
    assert_eq!(files_of(&pair.storage(), id), second());
    assert_good(&pair.storage());
}

/// A dry run says what a run then does, and does nothing.
#[test]
fn a_dry_run_says_what_a_run_does() {
    for grace in [0, 24 * 3600] {
        let (pair, _) = mostly_dead();
        let local = pair.home();
        let gone = local.state().unwrap().snapshots().next().unwrap().id;
        for (place, without) in [(&pair.storage(), vec![]), (&local, vec![gone])] {
            let how = Collect {
                grace,
                ..packing(u64::MAX)
            };
            let before = (place.state().unwrap().seq(), packs(place));
            let said = place.would_collect(how, &without).unwrap();
            assert_eq!((place.state().unwrap().seq(), packs(place)), before);
            if !without.is_empty() {
                remove(place, &without);
            }
            let done = place.collect(Operation::default(), how).unwrap();
            let numbers = |c: &Collected| {
                let packs = (c.packs, c.bytes, c.orphans, c.orphan_bytes);
                let waiting = (c.waiting, c.waiting_bytes);
                (packs, waiting, (c.condemned, c.condemned_bytes), c.fenced)
            };
            assert_eq!(numbers(&said), numbers(&done));
            assert!(said.packs + said.condemned > 0);
            // Names and tables of the new pack come on top.
            assert!(said.rewritten >= CHUNK_64K as u64, "{said:?}");
            assert!((said.rewritten..said.rewritten + 4000).contains(&done.rewritten));
        }
    }
}
