//! Homes and their storage: what is pushed, what is fetched, and that nobody loses anything.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use zenith::event::{Event, ignore};
use zenith::history::History;
use zenith::home::Wait;
use zenith::managed::Managed;
use zenith::sync::{self, Attached, PushReport};
use zenith::{Error, forget, head::Head, refs};
use zenith_store::{Change, RefChange, SnapshotId, State, Verify};
use zenith_testkit::Place;

use crate::far::Far;
use crate::fixture::{is, operation, torn};
use crate::machine::{
    Machine, collect, content, ids, machine, push_options, pushed, set_ref, storage,
};

#[test]
fn a_push_is_incremental_and_noted() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    is(a.push(&there, false), |e| {
        matches!(e, Error::NothingToPush { .. })
    });
    let (one, two) = (a.snapshot("main", "1"), a.snapshot("main", "2"));
    assert_eq!(a.unpushed(), [one, two]);
    assert!(sync::unpushed(&a.state()).bytes > 0);
    pushed(a.push(&there, false), two, 2);
    assert_eq!(a.unpushed(), []);
    let state = there.state().unwrap();
    assert_eq!(ids(&state), [one, two]);
    assert_eq!(state.get_ref("branch/main"), Some(two));
    assert_eq!(state.get_ref(&format!("homes/{}", a.id)), Some(two));
    assert_eq!(a.state().get_ref("remote/origin/main"), Some(two));
    assert_eq!(
        a.push(&there, false).unwrap(),
        PushReport::UpToDate { tip: two }
    );

    let three = a.snapshot("main", "3");
    assert_eq!(a.unpushed(), [three]);
    pushed(a.push(&there, true), three, 1);
    // What arrived can be read there.
    let there = storage(&place);
    assert!(content(&there, three).starts_with(b"333"));
    assert!(content(&there, one).starts_with(b"111"));
}

#[test]
fn a_home_attaches_to_what_the_storage_has() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    assert_eq!(b.attach(&there).unwrap(), Attached::Empty);
    let (one, two) = (a.snapshot("main", "1"), a.snapshot("main", "2"));
    a.push(&there, false).unwrap();
    let options = push_options("side");
    a.snapshot("side", "s");
    sync::push(&a.home, &there, &options, &ignore).unwrap();
    assert!(matches!(b.attach(&there).unwrap(), Attached::Fetched { tip, .. } if tip == two));
    // Only the newest came; its parent is history.
    assert_eq!(ids(&b.state()), [two]);
    assert_eq!(b.home.head().unwrap(), Head::Branch("main".into()));
    assert_eq!(b.unpushed(), []);
    assert_eq!(b.attach(&there).unwrap(), Attached::UpToDate { tip: two });
    assert_eq!(
        there.state().unwrap().get_ref(&format!("homes/{}", b.id)),
        Some(two)
    );

    // It goes on from there, and the first home follows.
    let three = b.snapshot("main", "3");
    pushed(b.push(&there, false), three, 1);
    assert_eq!(ids(&there.state().unwrap()).len(), 4);
    let behind = PushReport::Behind {
        ours: two,
        theirs: three,
    };
    assert_eq!(a.push(&there, true).unwrap(), behind);
    assert!(matches!(a.attach(&there).unwrap(), Attached::Fetched { tip, .. } if tip == three));
    let numbers: Vec<_> = History::of(&a.state())
        .first_parents(three)
        .map(|node| node.id)
        .collect();
    assert_eq!(numbers, [three, two, one]);

    let none = sync::attach(&b.home, &there, "none", &operation(), &ignore).unwrap();
    let branches = vec!["main".to_owned(), "side".to_owned()];
    assert_eq!(none, Attached::NoBranch { branches });
}

#[test]
fn a_diverged_push_loses_nothing_on_either_side() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    b.attach(&there).unwrap();
    let (ours, theirs) = (a.snapshot("main", "a2"), b.snapshot("main", "b2"));
    pushed(b.push(&there, false), theirs, 1);
    is(a.push(&there, false), |e| {
        matches!(e, Error::Diverged { branch, ours: o, theirs: t }
            if branch == "main" && (*o, *t) == (ours, theirs))
    });
    is(a.attach(&there), |e| matches!(e, Error::Diverged { .. }));
    assert_eq!(ids(&there.state().unwrap()), [one, theirs]);

    let aside = format!("diverged/{}/main", a.id);
    let turned_aside = |tip: SnapshotId, sent: bool| match a.push(&there, true).unwrap() {
        PushReport::Diverged {
            ours,
            theirs: t,
            branch,
            bytes,
        } => {
            assert_eq!((ours, t, &branch, bytes > 0), (tip, theirs, &aside, sent));
        }
        other => panic!("{other:?}"),
    };
    turned_aside(ours, true);
    turned_aside(ours, false);
    turned_aside(a.snapshot("main", "a3"), true);
    let state = there.state().unwrap();
    let tip = a.state().get_ref("branch/main");
    assert_eq!(state.get_ref("branch/main"), Some(theirs));
    assert_eq!(state.get_ref(&format!("branch/{aside}")), tip);
    assert_eq!(a.state().get_ref(&format!("remote/origin/{aside}")), tip);
    assert_eq!(a.unpushed(), []);
}

#[test]
fn snapshots_thinned_before_they_were_pushed_never_travel() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let all: Vec<_> = (0..6).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&there, false).unwrap();
    let more: Vec<_> = (6..10)
        .map(|n| a.snapshot("main", &n.to_string()))
        .collect();
    a.remove(&[all[1], all[2], all[4], more[0], more[2]]);
    assert_eq!(a.unpushed(), [more[1], more[3]]);
    pushed(a.push(&there, false), more[3], 2);
    let state = there.state().unwrap();
    assert!(state.snapshot(&more[0]).is_none() && state.snapshot(&more[2]).is_none());
    assert_eq!(ids(&state).len(), 8);
    // The line holds together on both sides.
    let line = |state: &State| -> Vec<SnapshotId> {
        History::of(state)
            .first_parents(more[3])
            .map(|node| node.id)
            .collect()
    };
    assert_eq!(line(&a.state()), [more[3], more[1], all[5], all[3], all[0]]);
    assert_eq!(
        line(&state),
        [
            more[3], more[1], all[5], all[4], all[3], all[2], all[1], all[0]
        ]
    );
    b.attach(&there).unwrap();
    let last = b.snapshot("main", "b");
    pushed(b.push(&there, false), last, 1);
}

#[test]
fn an_interrupted_push_is_completed() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    // Torn while packs travel: nothing counts yet, and what arrived stays.
    assert!(torn(0, |on| a.push_watched(&there, false, on)));
    assert!(there.state().unwrap().is_empty());
    pushed(a.push(&storage(&place), false), one, 1);

    // Stopped before the note: the storage is ahead of what the home knows, and the snapshot
    // that was pushed is thinned meanwhile.
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    {
        let lock = a.home.lock("test", Wait::No).unwrap();
        let repo = a.home.writer(&lock).unwrap();
        let name = "remote/origin/main".to_owned();
        let refs = vec![RefChange {
            name,
            from: Some(two),
            to: Some(one),
        }];
        repo.commit(Change {
            refs,
            operation: operation(),
            ..Change::default()
        })
        .unwrap();
    }
    let three = a.snapshot("main", "3");
    a.remove(&[two]);
    assert_eq!(a.unpushed(), [three]);
    pushed(a.push(&there, false), three, 1);
    let state = there.state().unwrap();
    assert_eq!(ids(&state), [one, two, three]);
    assert_eq!(a.state().get_ref("remote/origin/main"), Some(three));
}

#[test]
fn a_push_after_a_fetch_that_failed_moves_nothing_back() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    b.attach(&there).unwrap();
    let theirs = b.snapshot("main", "b2");
    pushed(b.push(&there, false), theirs, 1);
    assert!(torn(0, |on| a.attach_watched(&there, on)));
    a.snapshot("main", "a2");
    is(
        a.push(&there, false),
        |e| matches!(e, Error::Diverged { theirs: t, .. } if *t == theirs),
    );
    assert!(matches!(
        a.push(&there, true).unwrap(),
        PushReport::Diverged { .. }
    ));
    let state = storage(&place).state().unwrap();
    assert_eq!(state.get_ref("branch/main"), Some(theirs));
}

#[test]
fn an_upload_leaves_the_home_unlocked() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    a.snapshot("main", "1");
    let during = std::sync::Mutex::new(Vec::new());
    let on = |event| {
        if matches!(event, Event::Sent { .. } | Event::Total { .. }) {
            let lock = a.home.lock("a snapshot meanwhile", Wait::No).is_ok();
            // Packs that are being sent may not be collected.
            let collect = a.home.collect_guard().is_ok();
            during.lock().unwrap().push((lock, collect));
        }
    };
    a.push_watched(&there, true, &on).unwrap();
    let during = during.into_inner().unwrap();
    assert!(
        !during.is_empty() && during.iter().all(|d| *d == (true, false)),
        "{during:?}"
    );
    assert!(a.home.collect_guard().is_ok());
}

#[test]
fn homes_that_push_at_the_same_time_all_arrive() {
    let place = Place::new();
    let first = machine(&place, "first");
    first.snapshot("main", "1");
    first.push(&storage(&place), false).unwrap();
    let machines: Vec<Machine> = (0..4).map(|n| machine(&place, &n.to_string())).collect();
    let tips: Vec<SnapshotId> = machines
        .iter()
        .enumerate()
        .map(|(n, m)| {
            m.attach(&storage(&place)).unwrap();
            m.snapshot("main", &format!("from {n}"))
        })
        .collect();
    let reports: Vec<PushReport> = std::thread::scope(|scope| {
        let pushes: Vec<_> = machines
            .iter()
            .map(|m| scope.spawn(|| m.push(&storage(&place), true).unwrap()))
            .collect();
        pushes
            .into_iter()
            .map(|push| push.join().unwrap())
            .collect()
    });
    let state = storage(&place).state().unwrap();
    let won = reports
        .iter()
        .filter(|r| matches!(r, PushReport::Pushed { .. }))
        .count();
    assert_eq!(won, 1, "{reports:?}");
    for ((machine, tip), report) in machines.iter().zip(&tips).zip(&reports) {
        assert!(state.snapshot(tip).is_some());
        let name = match report {
            PushReport::Pushed { .. } => "branch/main".to_owned(),
            _ => format!("branch/diverged/{}/main", machine.id),
        };
        assert_eq!(state.get_ref(&name), Some(*tip));
        assert_eq!(machine.unpushed(), []);
    }
}

#[test]
fn one_snapshot_is_copied_into_a_repository_of_its_own() {
    let place = Place::new();
    let a = machine(&place, "a");
    a.snapshot("main", "1");
    let two = a.snapshot("main", "2");
    let (from, _guard) = a.home.reader().unwrap();
    let to = storage(&place);
    assert!(sync::copy(&from, &to, two, "main", &operation(), &ignore).unwrap() > 0);
    let state = to.state().unwrap();
    assert_eq!(
        (ids(&state), state.get_ref("branch/main")),
        (vec![two], Some(two))
    );
    assert_eq!(
        sync::copy(&from, &to, two, "main", &operation(), &ignore).unwrap(),
        0
    );
    // An older one would move the branch back.
    let one = from.state().unwrap().snapshots().next().unwrap().id;
    let back = sync::copy(&from, &to, one, "main", &operation(), &ignore);
    is(back, |e| matches!(e, Error::Diverged { .. }));
}

/// Packs that were deleted there are never sent again under their names.
#[test]
fn a_copy_goes_where_its_packs_were_collected() {
    let place = Place::new();
    let a = machine(&place, "a");
    let id = a.snapshot("main", "1");
    let to = storage(&place);
    let copy = || sync::copy_out(&a.home, &to, id, "main", &operation(), &ignore);
    assert!(copy().unwrap() > 0);
    let main = RefChange {
        name: "branch/main".into(),
        from: Some(id),
        to: None,
    };
    to.commit(Change {
        remove: vec![id],
        refs: vec![main],
        ..Change::default()
    })
    .unwrap();
    assert_eq!(collect(&to).packs, 1);
    assert!(copy().unwrap() > 0);
    let tree = to.snapshot(id).unwrap().tree;
    assert_eq!(to.listing(tree).unwrap().len(), 2);
    assert!(to.verify(Verify::ReadData).unwrap().is_good());
    assert!(
        a.home
            .reader()
            .unwrap()
            .0
            .verify(Verify::ReadData)
            .unwrap()
            .is_good()
    );
}

/// A reader that takes long keeps what it reads, and nothing of it afterwards.
#[test]
fn what_is_fetched_is_not_pruned_meanwhile() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let options = push_options("main");
    let tip = a.snapshot("main", "1");
    sync::push(&a.home, &storage(&place), &options, &ignore).unwrap();
    let pins = || {
        let state = storage(&place).state().unwrap();
        let names = state.refs().keys().filter(|name| name.starts_with("pins/"));
        names.cloned().collect::<Vec<_>>()
    };
    // Nothing else is to stand on it, as after `home forget` and `branch delete`.
    let remove = || {
        let there = storage(&place);
        let state = there.state().unwrap();
        let gone = |(name, at): (&String, &SnapshotId)| RefChange {
            name: name.clone(),
            from: Some(*at),
            to: None,
        };
        let refs = state
            .refs()
            .iter()
            .filter(|(name, _)| !name.starts_with("pins/"));
        there.commit(Change {
            refs: refs.map(gone).collect(),
            remove: vec![tip],
            ..Change::default()
        })
    };
    // What an earlier fetch left when it crashed.
    let left = RefChange {
        name: format!("pins/{}/left", b.id),
        from: None,
        to: Some(tip),
    };
    storage(&place)
        .commit(Change {
            refs: vec![left],
            ..Change::default()
        })
        .unwrap();
    let known = refs::homes(&storage(&place).state().unwrap());
    let known: Vec<_> = known.into_iter().map(|known| known.home).collect();
    assert_eq!(known, [a.id.clone(), b.id.clone()]);

    let refused = AtomicU32::new(0);
    let on = |event: Event| {
        if let Event::Total { .. } = event {
            assert_eq!(pins().len(), 2);
            let name = match remove() {
                Err(zenith_store::Error::InUse { id, name }) if id == tip => name,
                done => panic!("{done:?}"),
            };
            assert!(name.starts_with("pins/"), "{name}");
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    sync::fetch(&b.home, &storage(&place), tip, &operation(), &on).unwrap();
    assert_eq!(refused.into_inner(), 1);
    assert!(pins().is_empty());
    remove().unwrap();
    assert!(b.state().snapshot(&tip).is_some());
}

/// As when the home is forgotten at the storage while it fetches.
#[test]
fn pins_go_although_others_drop_one_of_them_meanwhile() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let tip = a.snapshot("main", "1");
    a.push(&storage(&place), false).unwrap();
    let left = format!("pins/{}/left", b.id);
    set_ref(&storage(&place), &left, Some(tip));
    let far = Far::new(&place);
    let dropped = Arc::new(AtomicU32::new(0));
    let on = |event: Event| {
        // All are there; the next root is to drop them.
        if let Event::Total { .. } = event {
            let (there, left, dropped) = (storage(&place), left.clone(), dropped.clone());
            far.before_root(move || {
                set_ref(&there, &left, None);
                dropped.fetch_add(1, Ordering::Relaxed);
            });
        }
    };
    sync::fetch(&b.home, &far.open(), tip, &operation(), &on).unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    let state = storage(&place).state().unwrap();
    let pins: Vec<_> = state
        .refs()
        .keys()
        .filter(|n| n.starts_with("pins/"))
        .collect();
    assert!(pins.is_empty(), "{pins:?}");
}

#[test]
fn a_push_beside_a_removal_sends_it_again() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    // Nothing there needs it but this push, which found it there.
    let refs = ["branch/main".to_owned(), format!("homes/{}", a.id)].map(|name| RefChange {
        name,
        from: Some(one),
        to: None,
    });
    let drop_refs = Change {
        refs: refs.into(),
        operation: operation(),
        ..Change::default()
    };
    there.commit(drop_refs).unwrap();
    let once = std::sync::Once::new();
    let on = |event| {
        if matches!(event, Event::Phase("pushing")) {
            once.call_once(|| {
                let change = Change {
                    remove: vec![one],
                    operation: operation(),
                    ..Change::default()
                };
                storage(&place).commit(change).unwrap();
            });
        }
    };
    pushed(a.push_watched(&there, false, &on), one, 1);
    assert!(once.is_completed());
    assert_eq!(ids(&storage(&place).state().unwrap()), [one]);
}

/// Others prune and collect all that this home builds on: its own ref keeps what it pushed last,
/// and when that is forgotten, too, what is here goes up again.
#[test]
fn a_push_arrives_whatever_others_deleted_meanwhile() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let all: Vec<_> = (0..3).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&there, false).unwrap();
    let waiting = [a.snapshot("main", "0"), a.snapshot("main", "4")];
    let managed = Managed::open(b.home.dir()).unwrap();
    let gone = |id| forget::forget_at(&managed, sync::ORIGIN, &there, id, true, false);
    gone(all[0]).unwrap();
    gone(all[1]).unwrap();
    is(gone(all[2]), |e| {
        matches!(e, Error::Managed(zenith::managed::Refusal::Held { .. }))
    });
    refs::forget_home(&there, &a.id, false).unwrap();
    gone(all[2]).unwrap();
    collect(&there);
    assert!(there.objects().list("packs/").unwrap().is_empty());
    pushed(a.push(&there, false), waiting[1], 5);
    for (id, begin) in waiting.iter().zip(["0", "4"]) {
        assert!(content(&storage(&place), *id).starts_with(begin.as_bytes()));
    }
    assert!(there.verify(Verify::ReadData).unwrap().is_good());
    assert_eq!(a.unpushed(), []);
}
