//! Homes that leave their packs at the storage, and what is kept for them there.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zenith::event::ignore;
use zenith::fetch::{self, Depth, FetchOptions};
use zenith::head::Head;
use zenith::home::Wait;
use zenith::managed::{Managed, Refusal};
use zenith::switch::{self, SwitchOptions};
use zenith::sync::{self, PushReport};
use zenith::{Error, forget, lazy};
use zenith_store::{Repair, Repository, SnapshotId};
use zenith_testkit::Place;

use crate::far::Far;
use crate::fixture::{is, operation};
use crate::machine::{Machine, collect, content, fetch_options, ids, machine, set_ref, storage};

/// A machine whose home leaves its packs at the storage.
fn lazy_machine(place: &Place, name: &str, far: &Arc<Far>) -> Machine {
    let Machine { home, id } = machine(place, name);
    let mut settings = home.settings().unwrap();
    settings.lazy = true;
    home.save_settings(&settings).unwrap();
    let home = home.with_remote(far.clone());
    Machine { home, id }
}

/// Four snapshots at a storage, and a lazy home that knows them all.
fn cloned(place: &Place) -> (Machine, Repository, Vec<SnapshotId>, Arc<Far>, Machine) {
    let a = machine(place, "a");
    let near = storage(place);
    let tips: Vec<_> = (0..4).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&near, false).unwrap();
    let far = Far::new(place);
    let b = lazy_machine(place, "b", &far);
    b.attach(&far.open()).unwrap();
    let full = FetchOptions {
        depth: Depth::Full,
        ..fetch_options()
    };
    b.fetch(&far.open(), &full).unwrap();
    (a, near, tips, far, b)
}

/// What the storage holds for commits of a home.
fn held(storage: &Repository, home: &Machine) -> Vec<SnapshotId> {
    let folder = format!("homes/{}/@", home.id);
    let state = storage.state().unwrap();
    let refs = state.refs().iter();
    refs.filter(|(name, _)| name.starts_with(&folder))
        .map(|(_, id)| *id)
        .collect()
}

fn local_packs(home: &Path) -> usize {
    std::fs::read_dir(home.join("packs")).map_or(0, Iterator::count)
}

#[test]
fn a_lazy_home_reads_at_its_storage_what_it_has_not() {
    let place = Place::new();
    let a = machine(&place, "a");
    let near = storage(&place);
    let tips: Vec<_> = (0..6).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&near, false).unwrap();
    let far = Far::new(&place);
    let b = lazy_machine(&place, "b", &far);
    b.attach(&far.open()).unwrap();
    let full = FetchOptions {
        depth: Depth::Full,
        ..fetch_options()
    };
    let report = b.fetch(&far.open(), &full).unwrap();
    assert_eq!((report.snapshots, report.packs, report.bytes), (5, 0, 0));
    assert_eq!((ids(&b.state()).len(), local_packs(b.home.dir())), (6, 0));
    let kept = format!("homes/{}/main", b.id);
    assert_eq!(near.state().unwrap().get_ref(&kept), Some(tips[5]));
    far.take();

    // Reading takes ranges, and never a pack.
    for (n, id) in tips.iter().enumerate() {
        let (repo, _guard) = b.home.reader().unwrap();
        assert!(content(&repo, *id).starts_with(n.to_string().as_bytes()));
    }
    let (packs, ranges) = far.take();
    assert!(packs == 0 && ranges > 0, "{packs} {ranges}");
    assert_eq!(local_packs(b.home.dir()), 0);

    // What is made here is here, and is all that a push sends.
    let ours = b.snapshot("main", "ours");
    let made = local_packs(b.home.dir());
    assert!(made > 0);
    far.take();
    match b.push(&far.open(), false).unwrap() {
        PushReport::Pushed {
            snapshots, packs, ..
        } => {
            assert_eq!((snapshots, packs as usize), (1, made));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(far.take().0, 0);
    assert!(content(&storage(&place), ours).starts_with(b"ours"));

    // Interrupted, it stays lazy and goes on.
    far.left.store(2, Ordering::Relaxed);
    let cut = fetch::complete(&b.home, &far.open(), &ignore);
    is(cut, |e| e.to_string().contains("the line is cut"));
    assert!(b.home.settings().unwrap().lazy);
    assert_eq!((far.take().0, local_packs(b.home.dir())), (2, made + 2));
    far.left.store(i64::MAX, Ordering::Relaxed);
    // Nothing may be kept there for ever: it is lazy until that is settled.
    far.refuses.store(true, Ordering::Relaxed);
    let cut = fetch::complete(&b.home, &far.open(), &ignore);
    is(cut, |e| e.to_string().contains("the line is cut"));
    assert!(b.home.settings().unwrap().lazy);
    far.refuses.store(false, Ordering::Relaxed);
    assert_eq!(near.state().unwrap().get_ref(&kept), Some(tips[5]));
    far.take();
    let (packs, bytes) = fetch::complete(&b.home, &far.open(), &ignore).unwrap();
    assert_eq!((packs, bytes), (0, 0), "they came before");
    assert!(!b.home.settings().unwrap().lazy);
    assert_eq!(near.state().unwrap().get_ref(&kept), None);
    assert_eq!(fetch::complete(&b.home, &far.open(), &ignore).unwrap().0, 0);
    far.take();
    let (repo, _guard) = b.home.alone().reader().unwrap();
    for (n, id) in tips.iter().enumerate() {
        assert!(content(&repo, *id).starts_with(n.to_string().as_bytes()));
    }
    assert_eq!(far.take(), (0, 0));
}

/// What a lazy home commits builds on packs of its storage, whatever becomes of snapshots there.
#[test]
fn a_lazy_home_has_its_storage_keep_what_it_builds_on() {
    let place = Place::new();
    let (a, near, tips, far, b) = cloned(&place);
    let held = || held(&near, &b);
    // On an older one; the content is all there already.
    b.set_ref("branch/old", Some(tips[1]));
    let ours = b.snapshot("old", "1");
    assert_eq!(held(), [tips[1]]);
    // Nothing there goes that it needs; all else may.
    let gone = |id| {
        let managed = Managed::open(a.home.dir()).unwrap();
        forget::forget_at(&managed, sync::ORIGIN, &near, id, true, false)
    };
    is(
        gone(tips[1]),
        |e| matches!(e, Error::Managed(Refusal::Held { home: Some(id), .. }) if *id == b.id),
    );
    for id in [tips[0], tips[2]] {
        gone(id).unwrap();
    }
    collect(&near);
    assert!(content(&b.home.reader().unwrap().0, ours).starts_with(b"1"));

    // The next ones build on no more than it did: not on another snapshot that is known here.
    let ours = b.snapshot("old", "2");
    let ours_too = b.snapshot("old", "3");
    assert_eq!(held(), [tips[1]]);
    let far_packs = |id| b.home.reader().unwrap().0.far_packs(&id).unwrap();
    assert!(far_packs(ours_too).is_subset(&far_packs(tips[1])));
    b.push_branch(&far.open(), "old");
    gone(tips[3]).unwrap_err();
    let there = storage(&place);
    assert!(content(&there, ours).starts_with(b"2"));
    assert!(content(&there, ours_too).starts_with(b"3"));

    // Where commits begin elsewhere, that is held instead, unless some are not there yet.
    b.set_ref("branch/old", None);
    let waiting = b.snapshot("main", "3");
    assert_eq!(held(), [tips[3]]);
    b.set_ref("branch/old", Some(ours));
    b.snapshot("old", "4");
    b.set_ref("branch/main", Some(tips[3]));
    b.set_ref("tag/waiting", Some(waiting));
    assert!(held().contains(&tips[3]), "{:?}", held());

    // On what the storage has no more nothing can be built.
    b.set_ref("branch/lost", Some(tips[2]));
    let lock = b.home.lock("test", Wait::No).unwrap();
    let lost = lazy::hold(&b.home, &lock, tips[2], &operation(), &ignore);
    is(lost, |e| {
        matches!(e, Error::Managed(Refusal::NotHeld { .. }))
    });
    drop(lock);
}

/// What branches and HEAD are at may be gone on from at any time: what is held of it stays.
#[test]
fn what_a_lazy_home_stands_on_stays_held() {
    let place = Place::new();
    let (_a, near, tips, far, b) = cloned(&place);
    b.set_ref("branch/old", Some(tips[1]));
    b.snapshot("old", "1");
    b.push_branch(&far.open(), "old");
    {
        let lock = b.home.lock("test", Wait::No).unwrap();
        lazy::hold(&b.home, &lock, tips[2], &operation(), &ignore).unwrap();
    }
    b.home
        .set_head(&Head::Detached(tips[2].to_string()))
        .unwrap();
    b.snapshot("main", "3");
    let all: Vec<SnapshotId> = held(&near, &b);
    for id in &tips[1..] {
        assert!(all.contains(id), "{id} is not among {all:?}");
    }
    // What nothing stands on goes with the next one.
    b.home.set_head(&Head::Branch("main".into())).unwrap();
    b.snapshot("main", "4");
    let all: Vec<SnapshotId> = held(&near, &b);
    assert!(!all.contains(&tips[2]) && all.contains(&tips[1]), "{all:?}");
}

/// A checkout has the storage keep what it goes to before anything moves.
#[test]
fn what_a_lazy_home_goes_to_is_held_or_refused() {
    let place = Place::new();
    let (a, near, tips, _far, b) = cloned(&place);
    let managed = Managed {
        home: b.home.clone(),
        settings: b.home.settings().unwrap(),
    };
    let go = |id: SnapshotId| {
        let to = Head::Detached(id.to_string());
        switch::managed(&managed, id, &to, &SwitchOptions::default(), &ignore)
    };
    // What is made up is no cluster, and goes nowhere.
    go(tips[1]).unwrap_err();
    assert_eq!(held(&near, &b), [tips[1]]);
    let others = Managed::open(a.home.dir()).unwrap();
    forget::forget_at(&others, sync::ORIGIN, &near, tips[2], true, false).unwrap();
    is(go(tips[2]), |e| {
        matches!(e, Error::Managed(Refusal::NotHeld { .. }))
    });
    assert_eq!(held(&near, &b), [tips[1]]);
}

/// The first snapshot of a lazy home is kept for its branch, and before the home has it: others may
/// delete it at any time, and the ref of the home goes on with every push.
#[test]
fn what_a_lazy_home_begins_with_is_kept() {
    let place = Place::new();
    let a = machine(&place, "a");
    let near = storage(&place);
    let one = a.snapshot("main", "1");
    a.push(&near, false).unwrap();
    let far = Far::new(&place);
    let b = lazy_machine(&place, "b", &far);
    far.refuses.store(true, Ordering::Relaxed);
    is(b.attach(&far.open()), |e| {
        e.to_string().contains("the line is cut")
    });
    assert!(b.state().snapshot(&one).is_none(), "nothing keeps it there");
    far.refuses.store(false, Ordering::Relaxed);
    b.attach(&far.open()).unwrap();
    let kept = format!("homes/{}/main", b.id);
    assert_eq!(near.state().unwrap().get_ref(&kept), Some(one));
    // Another branch goes up, and this one goes there.
    let side = a.snapshot("side", "s");
    a.push_branch(&near, "side");
    set_ref(&near, &format!("homes/{}", b.id), Some(side));
    let managed = Managed::open(a.home.dir()).unwrap();
    let gone = forget::forget_at(&managed, sync::ORIGIN, &near, one, true, false);
    is(
        gone,
        |e| matches!(e, Error::Managed(Refusal::Held { home: Some(id), .. }) if *id == b.id),
    );
    collect(&near);
    assert!(content(&b.home.reader().unwrap().0, one).starts_with(b"1"));
}

/// A repair of the storage gives packs other names; the next fetch brings these, and no bytes.
#[test]
fn a_fetch_follows_a_storage_that_was_repaired() {
    for completes in [false, true] {
        let place = Place::new();
        let (a, near, tips, far, b) = cloned(&place);
        let used = near.state().unwrap().usage(&tips[0]);
        let packs = near.objects().list("packs/").unwrap();
        for pack in &packs {
            let path = near.objects().local_path(&pack.key).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            // Home and storage share files by hard links.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let (source, _guard) = a.home.reader().unwrap();
        let how = Repair {
            operation: operation(),
            sources: vec![&source],
            summary: &|_| Vec::new(),
        };
        let done = near.repair(&how, &|_| {}).unwrap();
        assert!(done.after.is_good() && done.renamed.len() >= used.len());
        collect(&near);
        let read = |id| {
            let (repo, _guard) = b.home.reader().unwrap();
            repo.snapshot(id).map(|_| content(&repo, id))
        };
        assert!(read(tips[0]).is_err());
        if completes {
            fetch::complete(&b.home, &far.open(), &ignore).unwrap();
        } else {
            far.take();
            b.fetch(&far.open(), &fetch_options()).unwrap();
            assert_eq!((far.take().0, local_packs(b.home.dir())), (0, 0));
        }
        for (n, id) in tips.iter().enumerate() {
            assert!(read(*id).unwrap().starts_with(n.to_string().as_bytes()));
        }
    }
}
