//! Homes and their storage: what is pushed, what is fetched, and that nobody loses anything.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use zenith::event::{Event, ignore};
use zenith::facts::Facts;
use zenith::history::History;
use zenith::home::{Home, Wait};
use zenith::settings::Settings;
use zenith::sync::{self, Attached, PushOptions, PushReport};
use zenith::{Error, Result, head::Head};
use zenith_store::objects::{Directory, Objects};
use zenith_store::{
    Change, Collect, Listing, Node, Params, RefChange, Repository, Snapshot, SnapshotId,
    SnapshotKind, SnapshotSource, State, Verify,
};
use zenith_testkit::Place;

use crate::fixture::{is, operation, torn};

pub(crate) struct Machine {
    pub(crate) home: Home,
    pub(crate) id: String,
}

pub(crate) fn machine(place: &Place, name: &str) -> Machine {
    let home = Home::prepare(&place.join(name)).unwrap();
    home.create_repository(Params::default(), operation())
        .unwrap();
    home.complete(&Settings::new()).unwrap();
    let id = home.settings().unwrap().home_id;
    Machine { home, id }
}

/// The storage, opened anew as by another process.
pub(crate) fn storage(place: &Place) -> Repository {
    let objects: Arc<dyn Objects> = Arc::new(Directory::new(place.join("storage")));
    sync::open_or_create(objects, Params::default(), None, &operation()).unwrap()
}

impl Machine {
    pub(crate) fn state(&self) -> Arc<State> {
        self.home.reader().unwrap().0.state().unwrap()
    }

    /// A snapshot on `branch` with a file of its own.
    pub(crate) fn snapshot(&self, branch: &str, content: &str) -> SnapshotId {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        let repo = self.home.writer(&lock).unwrap();
        let name = format!("branch/{branch}");
        let tip = repo.state().unwrap().get_ref(&name);
        zenith::lazy::lean(&self.home, &repo, tip, &operation()).unwrap();
        let writer = repo.writer().unwrap();
        let bytes = content.repeat(5_000);
        let ids = [writer
            .put_chunk(&bytes.as_bytes()[..bytes.len().min(65_536)], None)
            .unwrap()];
        let size = bytes.len().min(65_536) as u64;
        let file = writer.put_file(0o600, size, &ids, &[]).unwrap();
        let listing = Listing::from([("f".to_owned(), Node::File(file))]);
        let tree = writer.put_tree(&listing).unwrap();
        let facts = Facts::default();
        let snapshot = Snapshot {
            version: 1,
            tree,
            parents: tip.into_iter().collect(),
            time: operation().time,
            host: "here".into(),
            message: content.into(),
            kind: SnapshotKind::Automatic,
            source: SnapshotSource::Offline,
            tool: "test".into(),
            files: 1,
            size,
            body: facts.encode(),
        };
        let id = zenith_store::Ids::plain().snapshot(&snapshot.encode());
        let refs = vec![RefChange {
            name,
            from: tip,
            to: Some(id),
        }];
        let summary = facts.summary().encode();
        assert_eq!(
            writer
                .commit(snapshot, summary, refs, operation())
                .unwrap()
                .id,
            id
        );
        id
    }

    pub(crate) fn remove(&self, remove: &[SnapshotId]) {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        let repo = self.home.writer(&lock).unwrap();
        let change = Change {
            remove: remove.to_vec(),
            ..Change::default()
        };
        repo.commit(Change {
            operation: operation(),
            ..change
        })
        .unwrap();
    }

    pub(crate) fn push(&self, storage: &Repository, background: bool) -> Result<PushReport> {
        self.push_watched(storage, background, &ignore)
    }

    fn push_watched(
        &self,
        storage: &Repository,
        background: bool,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<PushReport> {
        let options = PushOptions {
            branch: "main".into(),
            background,
            operation: operation(),
        };
        sync::push(&self.home, storage, &options, on)
    }

    pub(crate) fn attach(&self, storage: &Repository) -> Result<Attached> {
        self.attach_watched(storage, &ignore)
    }

    fn attach_watched(
        &self,
        storage: &Repository,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<Attached> {
        sync::attach(&self.home, storage, "main", &operation(), on)
    }

    pub(crate) fn unpushed(&self) -> Vec<SnapshotId> {
        sync::unpushed(&self.state())
            .rows
            .iter()
            .map(|row| row.id)
            .collect()
    }
}

pub(crate) fn ids(state: &State) -> Vec<SnapshotId> {
    state.snapshots().map(|row| row.id).collect()
}

#[track_caller]
fn pushed(result: Result<PushReport>, tip: SnapshotId, number: u64) {
    match result.unwrap() {
        PushReport::Pushed {
            tip: t, snapshots, ..
        } => assert_eq!((t, snapshots), (tip, number)),
        other => panic!("{other:?}"),
    }
}

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
    let file = |id| {
        let tree = storage(&place).snapshot(id).unwrap().tree;
        match &storage(&place).listing(tree).unwrap()["f"] {
            Node::File(file) => storage(&place).file_bytes(file).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(file(three).starts_with(b"333") && file(one).starts_with(b"111"));
}

#[test]
fn a_home_attaches_to_what_the_storage_has() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let there = storage(&place);
    assert_eq!(b.attach(&there).unwrap(), Attached::Empty);
    let (one, two) = (a.snapshot("main", "1"), a.snapshot("main", "2"));
    a.push(&there, false).unwrap();
    let options = PushOptions {
        branch: "side".into(),
        background: false,
        operation: operation(),
    };
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
    let at_once = Collect {
        grace: 0,
        ..Collect::at(4_000_000_000)
    };
    assert_eq!(to.collect(operation(), at_once).unwrap().packs, 1);
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

/// Where one home alone writes, another one reads, and takes over only when it says so.
#[test]
fn a_single_writer_is_told_from_others() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let options = PushOptions {
        branch: "main".into(),
        background: false,
        operation: operation(),
    };
    let one = a.snapshot("main", "1");
    let as_a = || storage(&place).only(&a.id);
    as_a().claim(operation()).unwrap();
    let writer = |id: &str| assert_eq!(storage(&place).state().unwrap().writer(), Some(id));
    writer(&a.id);
    sync::push(&a.home, &as_a(), &options, &ignore).unwrap();

    let refused = |repo: &Repository, by: &Machine| {
        is(
            sync::push(&by.home, repo, &options, &ignore),
            |e| matches!(e, Error::Store(zenith_store::Error::SingleWriter { writer, .. }) if *writer == a.id),
        );
    };
    b.snapshot("main", "2");
    refused(&storage(&place), &b);
    refused(&storage(&place).only(&b.id), &b);
    // The same home without its turns is a stranger, too.
    a.snapshot("main", "3");
    refused(&storage(&place), &a);
    sync::fetch(&b.home, &storage(&place), one, &operation(), &ignore).unwrap();
    assert!(b.state().snapshot(&one).is_some());

    storage(&place).only(&b.id).claim(operation()).unwrap();
    writer(&b.id);
    is(
        sync::push(&a.home, &as_a(), &options, &ignore),
        |e| matches!(e, Error::Store(zenith_store::Error::SingleWriter { writer, .. }) if *writer == b.id),
    );
}

/// A reader that takes long keeps what it reads, and nothing of it afterwards.
#[test]
fn what_is_fetched_is_not_pruned_meanwhile() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let options = PushOptions {
        branch: "main".into(),
        background: false,
        operation: operation(),
    };
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
    let known = zenith::refs::homes(&storage(&place).state().unwrap());
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

/// A copy of a directory with all that is in it.
fn image(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => image(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

#[test]
fn a_home_that_was_set_back_moves_nothing_at_the_storage() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    a.snapshot("main", "monday");
    a.push(&there, false).unwrap();
    image(&place.join("a"), &place.join("image"));
    a.snapshot("main", "tuesday");
    let wednesday = a.snapshot("main", "wednesday");
    a.push(&there, false).unwrap();
    image(&place.join("image"), &place.join("a"));
    let ours = a.snapshot("main", "after");
    is(
        a.push(&there, false),
        |e| matches!(e, Error::Diverged { ours: o, theirs, .. } if (*o, *theirs) == (ours, wednesday)),
    );
    let aside = a.push(&there, true).unwrap();
    assert!(matches!(aside, PushReport::Diverged { .. }), "{aside:?}");
    let state = there.state().unwrap();
    assert_eq!(state.get_ref("branch/main"), Some(wednesday));
}

#[test]
fn a_tip_that_was_deleted_here_on_purpose_is_gone_beyond() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    {
        let lock = a.home.lock("test", Wait::No).unwrap();
        let back = |name: &str| RefChange {
            name: name.to_owned(),
            from: Some(two),
            to: Some(one),
        };
        let change = Change {
            remove: vec![two],
            refs: vec![back("branch/main"), back("remote/origin/main")],
            operation: operation(),
        };
        a.home.writer(&lock).unwrap().commit(change).unwrap();
    }
    let three = a.snapshot("main", "3");
    pushed(a.push(&there, false), three, 1);
}

#[test]
fn a_storage_that_was_set_back_gets_what_it_lost() {
    let place = Place::new();
    let a = machine(&place, "a");
    let monday = a.snapshot("main", "monday");
    a.push(&storage(&place), false).unwrap();
    image(&place.join("storage"), &place.join("copy"));
    let tuesday = a.snapshot("main", "tuesday");
    a.push(&storage(&place), false).unwrap();
    let wednesday = a.snapshot("main", "wednesday");
    a.push(&storage(&place), false).unwrap();
    image(&place.join("copy"), &place.join("storage"));
    let last = a.snapshot("main", "thursday");
    pushed(a.push(&storage(&place), false), last, 3);
    let there = storage(&place).state().unwrap();
    assert_eq!(ids(&there), [monday, tuesday, wednesday, last]);
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
