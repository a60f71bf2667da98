//! Fetch, pull and further remotes: what comes home, what moves, and what stays where it is.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zenith::clone::{self, CloneOptions};
use zenith::event::ignore;
use zenith::fetch::{self, Depth, FetchOptions, FetchReport, PullOptions, Pulled};
use zenith::home::Wait;
use zenith::init::InitOptions;
use zenith::managed::{Managed, Refusal, Surroundings};
use zenith::sync::{self, PushReport, Relation};
use zenith::who::verb;
use zenith::{Error, Result, refs, undo};
use zenith_store::objects::{Directory, Objects};
use zenith_store::{Change, Operation, Params, RefChange, Repository, SnapshotId, World};
use zenith_testkit::Place;

use crate::far::Far;
use crate::fixture::{is, operation};
use crate::machine::{Machine, fetch_options, ids, machine, push_options, set_ref, storage};

fn pull(machine: &Machine, storage: &Repository) -> Result<(FetchReport, Pulled)> {
    let managed = Managed::open(machine.home.dir()).unwrap();
    let options = PullOptions {
        remote: sync::ORIGIN.into(),
        branch: "main".into(),
        depth: Depth::TIP,
        force: false,
        dry_run: false,
        operation: operation(),
    };
    fetch::pull(&managed, storage, &options, &ignore)
}

#[test]
fn a_fetch_brings_branches_and_moves_no_local_one() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    b.attach(&there).unwrap();
    let two = a.snapshot("main", "2");
    let three = a.snapshot("main", "3");
    a.push(&there, false).unwrap();
    let (s1, s2) = (a.snapshot("side", "s1"), a.snapshot("side", "s2"));
    a.push_branch(&there, "side");

    // A dry run says the same and does nothing.
    let dry = FetchOptions {
        dry_run: true,
        ..fetch_options()
    };
    let said = b.fetch(&there, &dry).unwrap();
    assert_eq!((said.snapshots, said.left, said.bytes), (1, 1, 0));
    assert_eq!(ids(&b.state()), [one]);
    assert_eq!(b.at("remote/origin/main"), Some(one));

    let report = b.fetch(&there, &fetch_options()).unwrap();
    assert_eq!((report.snapshots, report.left), (1, 1));
    assert!(report.packs > 0 && report.bytes > 0);
    let [main] = &report.branches[..] else {
        panic!("{report:?}")
    };
    assert_eq!((main.from, main.to, main.forced), (Some(one), three, false));
    assert_eq!(main.local, Some((one, Relation::Behind)));
    assert_eq!(b.at("branch/main"), Some(one));
    assert_eq!(b.at("remote/origin/main"), Some(three));
    assert_eq!(ids(&b.state()), [one, three]);
    assert_eq!(
        there.state().unwrap().get_ref(&format!("homes/{}", b.id)),
        Some(one),
        "what is only fetched is nothing that commits build on"
    );
    assert!(b.fetch(&there, &fetch_options()).unwrap().is_up_to_date());

    let all = FetchOptions {
        all: true,
        ..fetch_options()
    };
    assert_eq!(b.fetch(&there, &all).unwrap().snapshots, 1);
    assert_eq!(b.at("remote/origin/side"), Some(s2));
    assert_eq!(b.at("branch/side"), None);
    // What is known is asked about the next time.
    let s3 = a.snapshot("side", "s3");
    a.push_branch(&there, "side");
    b.fetch(&there, &fetch_options()).unwrap();
    assert_eq!(b.at("remote/origin/side"), Some(s3));
    assert!(b.state().snapshot(&s1).is_none());

    let full = FetchOptions {
        depth: Depth::Full,
        ..fetch_options()
    };
    let report = b.fetch(&there, &full).unwrap();
    assert_eq!((report.snapshots, report.left), (2, 0));
    let here: BTreeSet<SnapshotId> = ids(&b.state()).into_iter().collect();
    assert_eq!(here, BTreeSet::from([one, two, three, s1, s2, s3]));
    // What came can be read.
    let (repo, _guard) = b.home.reader().unwrap();
    for id in here {
        let tree = repo.snapshot(id).unwrap().tree;
        assert!(repo.listing(tree).unwrap().contains_key("f"));
    }

    let none = FetchOptions {
        branches: vec!["none".into()],
        ..fetch_options()
    };
    is(b.fetch(&there, &none), |e| {
        matches!(e, Error::Managed(Refusal::BranchNotAtStorage { branches, .. })
            if *branches == ["main", "side"])
    });
    set_ref(&there, "branch/side", None);
    assert!(b.fetch(&there, &fetch_options()).unwrap().is_up_to_date());
    assert_eq!(b.at("remote/origin/side"), Some(s3));
    let prune = FetchOptions {
        prune: true,
        ..fetch_options()
    };
    assert_eq!(b.fetch(&there, &prune).unwrap().pruned, ["side"]);
    assert_eq!(b.at("remote/origin/side"), None);
}

#[test]
fn tags_come_with_what_they_name_and_are_never_moved() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    a.set_ref("tag/old", Some(one));
    a.set_ref("tag/new", Some(two));
    let lone = a.snapshot("unpushed", "3");
    a.set_ref("tag/lone", Some(lone));
    let pushed = sync::push_tags(&a.home, &there, &operation(), &ignore).unwrap();
    assert_eq!(pushed.sent.len(), 3);
    assert!(pushed.bytes > 0 && there.state().unwrap().snapshot(&lone).is_some());
    let again = sync::push_tags(&a.home, &there, &operation(), &ignore).unwrap();
    assert_eq!((again.sent.len(), again.kept.len(), again.bytes), (0, 0, 0));

    b.attach(&there).unwrap();
    let report = b.fetch(&there, &fetch_options()).unwrap();
    assert_eq!(report.tags, [("new".to_owned(), two)]);
    assert_eq!((b.at("tag/new"), b.at("tag/old")), (Some(two), None));
    let tags = FetchOptions {
        tags: true,
        ..fetch_options()
    };
    assert_eq!(b.fetch(&there, &tags).unwrap().snapshots, 2);
    assert_eq!((b.at("tag/old"), b.at("tag/lone")), (Some(one), Some(lone)));

    // A tag that stands elsewhere stays, on either side.
    b.set_ref("tag/new", Some(one));
    let report = b.fetch(&there, &tags).unwrap();
    assert!(report.is_up_to_date());
    assert_eq!(report.tags_kept, ["new"]);
    let pushed = sync::push_tags(&b.home, &there, &operation(), &ignore).unwrap();
    assert_eq!(pushed.kept, ["new"]);
    assert_eq!(there.state().unwrap().get_ref("tag/new"), Some(two));
    assert_eq!(b.at("tag/new"), Some(one));
}

#[test]
fn a_pull_goes_forward_or_not_at_all() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    a.snapshot("main", "1");
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    // A home without any snapshot gets its first.
    let (report, pulled) = pull(&b, &there).unwrap();
    assert_eq!(report.snapshots, 1);
    assert!(matches!(pulled, Pulled::Moved { from: None, to, switched: None } if to == two));
    assert_eq!(b.at("branch/main"), Some(two));
    let mine = |m: &Machine| there.state().unwrap().get_ref(&format!("homes/{}", m.id));
    assert_eq!(mine(&b), Some(two));
    let (_, pulled) = pull(&b, &there).unwrap();
    assert!(matches!(pulled, Pulled::UpToDate { tip } if tip == two));

    a.snapshot("main", "3");
    let four = a.snapshot("main", "4");
    a.push(&there, false).unwrap();
    let (_, pulled) = pull(&b, &there).unwrap();
    assert!(
        matches!(pulled, Pulled::Moved { from: Some(f), to, .. } if (f, to) == (two, four)),
        "{pulled:?}"
    );
    assert_eq!((b.at("branch/main"), mine(&b)), (Some(four), Some(four)));
    assert_eq!(b.unpushed(), []);

    let ours = b.snapshot("main", "b5");
    let (_, pulled) = pull(&b, &there).unwrap();
    assert!(matches!(pulled, Pulled::Ahead { ours: o, theirs } if (o, theirs) == (ours, four)));
    let theirs = a.snapshot("main", "a5");
    a.push(&there, false).unwrap();
    is(pull(&b, &there), |e| {
        matches!(e, Error::PullDiverged { branch, remote, ours: o, theirs: t }
            if (branch.as_str(), remote.as_str(), *o, *t) == ("main", "origin", ours, theirs))
    });
    assert_eq!(b.at("branch/main"), Some(ours));
    // It came, and the way out can be gone.
    assert_eq!(b.at("remote/origin/main"), Some(theirs));
    assert!(b.state().snapshot(&theirs).is_some());

    // Even when what was fetched is gone again, a push takes it for nothing that was sent.
    b.set_ref("remote/origin/main", None);
    b.remove(&[theirs]);
    is(b.push(&there, false), |e| {
        matches!(e, Error::Diverged { .. })
    });
}

#[test]
fn an_interrupted_fetch_goes_on_where_it_stopped() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let near = storage(&place);
    let tips: Vec<_> = (0..12)
        .map(|n| a.snapshot("main", &n.to_string()))
        .collect();
    a.push(&near, false).unwrap();
    let far = Far::new(&place);
    let full = FetchOptions {
        depth: Depth::Full,
        ..fetch_options()
    };
    far.left.store(5, Ordering::Relaxed);
    is(b.fetch(&far.open(), &full), |e| {
        e.to_string().contains("the line is cut")
    });
    assert_eq!(far.take().0, 5);
    // Nothing of it counts yet.
    assert!(b.state().is_empty());
    assert_eq!(b.at("remote/origin/main"), None);
    far.left.store(i64::MAX, Ordering::Relaxed);
    let report = b.fetch(&far.open(), &full).unwrap();
    assert_eq!(report.snapshots, 12);
    let all = near.state().unwrap().packs().count() as u64;
    assert_eq!((report.packs, far.take().0), (all - 5, all - 5));
    assert_eq!(b.at("remote/origin/main"), tips.last().copied());
}

#[test]
fn a_further_remote_has_notes_of_its_own() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let objects: Arc<dyn Objects> = Arc::new(Directory::new(place.join("offsite")));
    let offsite = sync::open_or_create(
        objects,
        Params::default(),
        None,
        &operation(),
        &World::real(),
    )
    .unwrap();
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    let two = a.snapshot("main", "2");
    let push = push_options("main");
    let report = sync::push_to(&a.home, &offsite, "offsite", &push, &ignore).unwrap();
    assert!(matches!(report, PushReport::Pushed { snapshots: 2, .. }));
    assert_eq!(a.at("remote/offsite/main"), Some(two));
    assert_eq!(a.at("remote/origin/main"), Some(one));
    assert_eq!(a.unpushed(), [two]);
    assert_eq!(sync::unpushed_to(&a.state(), "offsite").rows.len(), 0);

    // What went to one remote in the meantime is news to the other.
    let three = a.snapshot("main", "3");
    a.push(&there, false).unwrap();
    a.snapshot("main", "4");
    let report = sync::push_to(&a.home, &offsite, "offsite", &push, &ignore).unwrap();
    assert!(matches!(report, PushReport::Pushed { snapshots: 2, .. }));
    assert!(offsite.state().unwrap().snapshot(&three).is_some());
    let two = a.at("remote/offsite/main").unwrap();

    let b = machine(&place, "b");
    let from = FetchOptions {
        remote: "offsite".into(),
        ..fetch_options()
    };
    b.fetch(&offsite, &from).unwrap();
    assert_eq!(b.at("remote/offsite/main"), Some(two));
    assert_eq!(b.at("remote/origin/main"), None);
}

/// What moved notes and holds alone, or is wholly in use, is nothing to undo.
#[test]
fn an_undo_is_of_what_can_be_reversed() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    b.attach(&there).unwrap();
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    let pushed = there.state().unwrap().seq();
    pull(&b, &there).unwrap();
    assert!(there.state().unwrap().seq() > pushed, "the pull is noted");
    let undone = undo::undo_storage(&there, None, true).unwrap();
    assert_eq!(undone.logged.seq, pushed);
    let nothing = undo::undo_storage(&there, Some(pushed + 1), false);
    is(nothing, |e| {
        matches!(e, Error::Store(zenith_store::Error::NotUndone { why, .. })
            if why.contains("nothing"))
    });
    undo::undo_storage(&there, None, false).unwrap();
    assert_eq!(there.state().unwrap().get_ref("branch/main"), Some(one));
    undo::undo_storage(&there, None, false).unwrap();
    assert_eq!(there.state().unwrap().get_ref("branch/main"), Some(two));

    // A home that was forgotten is known again.
    let known = |home: &str| {
        let state = there.state().unwrap();
        refs::homes(&state).iter().any(|known| known.home == home)
    };
    refs::forget_home(&there, &b.id, false).unwrap();
    assert!(!known(&b.id));
    let undone = undo::undo_storage(&there, None, false).unwrap();
    assert_eq!(undone.logged.operation.verb, "home forget");
    assert!(known(&b.id));

    // A remote does not come back, and nothing older is taken for what was meant.
    let forgotten = Change {
        refs: vec![RefChange {
            name: "remote/origin/main".into(),
            from: b.at("remote/origin/main"),
            to: None,
        }],
        operation: Operation {
            verb: verb::REMOTE.into(),
            ..operation()
        },
        ..Change::default()
    };
    let lock = b.home.lock("test", Wait::No).unwrap();
    b.home.writer(&lock).unwrap().commit(forgotten).unwrap();
    drop(lock);
    let managed = Managed::open(b.home.dir()).unwrap();
    is(undo::undo_home(&managed, None, true, &ignore), |e| {
        matches!(e, Error::Store(zenith_store::Error::NotUndone { why, .. })
            if why.contains("remotes"))
    });

    // A fetch added what a note stands on; before it is the commit of the snapshot.
    let c = machine(&place, "c");
    let first = c.snapshot("other", "c");
    c.fetch(&there, &fetch_options()).unwrap();
    let managed = Managed::open(c.home.dir()).unwrap();
    let undone = undo::undo_home(&managed, None, true, &ignore).unwrap();
    assert_eq!(undone.logged.operation.added, [first]);
}

/// An operation of several roots is one to undo, also when others committed in between.
#[test]
fn all_parts_of_an_operation_are_undone_together() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let all: Vec<_> = (0..5).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&there, false).unwrap();
    let prune = operation();
    for (n, id) in all[..3].iter().enumerate() {
        let change = Change {
            remove: vec![*id],
            operation: prune.clone(),
            ..Change::default()
        };
        there.commit(change).unwrap();
        set_ref(&there, &format!("tag/{n}"), Some(all[4]));
    }
    let last = there.state().unwrap().seq() - 1;
    let undone = undo::undo_storage(&there, Some(last - 2), true).unwrap();
    assert_eq!((undone.logged.seq, undone.did), (last, None));
    let undone = undo::undo_storage(&there, Some(last), false).unwrap();
    assert_eq!(undone.logged.operation.removed.len(), 3);
    assert_eq!(undone.did.unwrap().added.len(), 3);
    assert_eq!(ids(&there.state().unwrap()), all);
    // And back again.
    let undone = undo::undo_storage(&there, None, false).unwrap();
    assert_eq!(undone.did.unwrap().removed.len(), 3);
    assert_eq!(ids(&there.state().unwrap()), all[3..]);
}

#[test]
fn a_clone_stands_on_a_branch_that_is_there_and_knows_the_others() {
    let place = Place::new();
    let around = Surroundings::default();
    let clone = |name: &str, branch: Option<&str>, single_branch: bool| {
        let options = CloneOptions {
            init: InitOptions {
                storage_dest: Some(place.arg("storage")),
                branch: branch.map(str::to_owned),
                // Without a cluster: what these snapshots hold is none.
                lazy: true,
                ..InitOptions::default()
            },
            depth: Depth::TIP,
            single_branch,
        };
        clone::clone(&place.join(name), &around, &options, &ignore)
    };
    is(clone("c", None, false), |e| {
        matches!(e, Error::Store(zenith_store::Error::NotARepository { .. }))
    });
    let there = storage(&place);
    is(clone("c", None, false), |e| {
        matches!(e, Error::Managed(Refusal::NothingToClone { .. }))
    });
    let a = machine(&place, "a");
    let side = a.snapshot("side", "s");
    a.push_branch(&there, "side");
    let only = clone("only", None, false).unwrap();
    assert_eq!((only.init.branch.as_str(), only.init.tip), ("side", side));
    assert!(!place.join("c").exists(), "nothing is made for nothing");

    let tip = {
        a.snapshot("main", "1");
        a.snapshot("main", "2")
    };
    a.push(&there, false).unwrap();
    is(clone("c", Some("mian"), false), |e| {
        matches!(e, Error::Managed(Refusal::BranchNotAtStorage { .. }))
    });
    let made = clone("c", None, false).unwrap();
    assert_eq!((made.init.branch.as_str(), made.init.tip), ("main", tip));
    let managed = Managed::open(&place.join("c")).unwrap();
    let settings = &managed.settings;
    assert!(settings.lazy && !settings.primary);
    assert_eq!(settings.storage_dest, Some(place.arg("storage")));
    let state = managed.home.state().unwrap();
    assert_eq!(state.get_ref("branch/main"), Some(tip));
    assert_eq!(state.get_ref("branch/side"), None);
    assert_eq!(state.get_ref("remote/origin/side"), Some(side));
    assert_eq!(ids(&state).len(), 2);
    let again = clone("c", None, false).unwrap();
    assert!(again.init.was_home && again.report.is_up_to_date());

    let single = clone("single", Some("side"), true).unwrap();
    assert_eq!(single.init.tip, side);
    let home = &single.init.managed.home;
    assert_eq!(home.state().unwrap().get_ref("remote/origin/main"), None);
}

/// Where a part of an operation cannot be reversed, none of it is.
#[test]
fn an_operation_is_undone_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let all: Vec<_> = (0..3).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&there, false).unwrap();
    set_ref(&there, "tag/t", Some(all[0]));
    let two = operation();
    let moved = Change {
        refs: vec![RefChange {
            name: "tag/t".into(),
            from: Some(all[0]),
            to: Some(all[2]),
        }],
        operation: two.clone(),
        ..Change::default()
    };
    let removed = Change {
        remove: vec![all[1]],
        operation: two,
        ..Change::default()
    };
    there.commit(moved).unwrap();
    let last = there.commit(removed).unwrap().seq();
    set_ref(&there, "tag/t", None);
    let before = there.state().unwrap().seq();
    is(undo::undo_storage(&there, Some(last), false), |e| {
        matches!(e, Error::Store(zenith_store::Error::NotUndone { why, .. })
            if why.contains("tag/t was moved since"))
    });
    let state = there.state().unwrap();
    assert_eq!((state.seq(), ids(&state)), (before, vec![all[0], all[2]]));
}
