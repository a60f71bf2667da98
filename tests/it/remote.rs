//! Fetch, pull and further remotes: what comes home, what moves, and what stays where it is.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use zenith::clone::{self, CloneOptions};
use zenith::event::ignore;
use zenith::fetch::{self, Depth, FetchOptions, FetchReport, PullOptions, Pulled};
use zenith::init::InitOptions;
use zenith::lazy;
use zenith::managed::{Managed, Refusal, Surroundings};
use zenith::sync::{self, PushOptions, PushReport, Relation};
use zenith::{Error, Result, forget, undo};
use zenith_store::objects::{Created, Directory, Listed, ObjectWriter, Objects, ObjectsError};
use zenith_store::{Change, Collect, IndexChoice, Params, RefChange, Repository, SnapshotId};
use zenith_testkit::Place;

use crate::fixture::{is, operation};
use crate::sync::{Machine, ids, machine, storage};

fn options() -> FetchOptions {
    FetchOptions {
        remote: sync::ORIGIN.into(),
        branches: Vec::new(),
        all: false,
        tags: false,
        prune: false,
        depth: Depth::TIP,
        dry_run: false,
        operation: operation(),
    }
}

impl Machine {
    fn fetch(&self, storage: &Repository, options: &FetchOptions) -> Result<FetchReport> {
        fetch::fetch(&self.home, storage, options, &ignore)
    }

    fn pull(&self, storage: &Repository) -> Result<(FetchReport, Pulled)> {
        let managed = Managed::open(self.home.dir()).unwrap();
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

    fn push_branch(&self, storage: &Repository, branch: &str) {
        let options = PushOptions {
            branch: branch.into(),
            background: false,
            operation: operation(),
        };
        sync::push(&self.home, storage, &options, &ignore).unwrap();
    }

    fn set_ref(&self, name: &str, to: Option<SnapshotId>) {
        let lock = self.home.lock("test", zenith::home::Wait::Forever).unwrap();
        set_ref(&self.home.writer(&lock).unwrap(), name, to);
    }

    fn at(&self, name: &str) -> Option<SnapshotId> {
        self.state().get_ref(name)
    }
}

fn set_ref(repository: &Repository, name: &str, to: Option<SnapshotId>) {
    let refs = vec![RefChange {
        name: name.into(),
        from: repository.state().unwrap().get_ref(name),
        to,
    }];
    repository
        .commit(Change {
            refs,
            operation: operation(),
            ..Change::default()
        })
        .unwrap();
}

/// A storage that is no directory of this machine, counts what is fetched of it, and fails after
/// so many packs.
#[derive(Debug)]
pub(crate) struct Far {
    inner: Directory,
    packs: AtomicU64,
    ranges: AtomicU64,
    left: AtomicI64,
    /// No commit arrives.
    refuses: AtomicBool,
}

impl Far {
    pub(crate) fn new(place: &Place) -> Arc<Far> {
        Arc::new(Far {
            inner: Directory::new(place.join("storage")),
            packs: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            left: AtomicI64::new(i64::MAX),
            refuses: AtomicBool::new(false),
        })
    }

    /// Packs and ranges of packs fetched since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (
            self.packs.swap(0, Ordering::Relaxed),
            self.ranges.swap(0, Ordering::Relaxed),
        )
    }

    fn open(self: &Arc<Far>) -> Repository {
        Repository::open(self.clone(), None, IndexChoice::Memory).unwrap()
    }
}

impl Objects for Far {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.inner.get(key)
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        if key.starts_with("packs/") {
            self.ranges.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.get_range(key, offset, len)
    }
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.inner.size(key)
    }
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        if key.starts_with("roots/") && self.refuses.load(Ordering::Relaxed) {
            let why = std::io::Error::other("the line is cut");
            return Err(ObjectsError::from_io(&self.location(), key, why));
        }
        self.inner.create(key, bytes)
    }
    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        self.inner.put_file(key, file)
    }
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            let why = std::io::Error::other("the line is cut");
            return Err(ObjectsError::from_io(&self.location(), key, why));
        }
        self.packs.fetch_add(1, Ordering::Relaxed);
        self.inner.get_to_file(key, file)
    }
    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        self.inner.reader(key)
    }
    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        self.inner.writer(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.inner.list(prefix)
    }
    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.inner.list_after(prefix, after)
    }
    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.inner.delete(key)
    }
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
        ..options()
    };
    let said = b.fetch(&there, &dry).unwrap();
    assert_eq!((said.snapshots, said.left, said.bytes), (1, 1, 0));
    assert_eq!(ids(&b.state()), [one]);
    assert_eq!(b.at("remote/origin/main"), Some(one));

    let report = b.fetch(&there, &options()).unwrap();
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
    assert!(b.fetch(&there, &options()).unwrap().is_up_to_date());

    let all = FetchOptions {
        all: true,
        ..options()
    };
    assert_eq!(b.fetch(&there, &all).unwrap().snapshots, 1);
    assert_eq!(b.at("remote/origin/side"), Some(s2));
    assert_eq!(b.at("branch/side"), None);
    // What is known is asked about the next time.
    let s3 = a.snapshot("side", "s3");
    a.push_branch(&there, "side");
    b.fetch(&there, &options()).unwrap();
    assert_eq!(b.at("remote/origin/side"), Some(s3));
    assert!(b.state().snapshot(&s1).is_none());

    let full = FetchOptions {
        depth: Depth::Full,
        ..options()
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
        ..options()
    };
    is(b.fetch(&there, &none), |e| {
        matches!(e, Error::Managed(Refusal::BranchNotAtStorage { branches, .. })
            if *branches == ["main", "side"])
    });
    set_ref(&there, "branch/side", None);
    assert!(b.fetch(&there, &options()).unwrap().is_up_to_date());
    assert_eq!(b.at("remote/origin/side"), Some(s3));
    let prune = FetchOptions {
        prune: true,
        ..options()
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
    let report = b.fetch(&there, &options()).unwrap();
    assert_eq!(report.tags, [("new".to_owned(), two)]);
    assert_eq!((b.at("tag/new"), b.at("tag/old")), (Some(two), None));
    let tags = FetchOptions {
        tags: true,
        ..options()
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
    let (report, pulled) = b.pull(&there).unwrap();
    assert_eq!(report.snapshots, 1);
    assert!(matches!(pulled, Pulled::Moved { from: None, to, switched: None } if to == two));
    assert_eq!(b.at("branch/main"), Some(two));
    let mine = |m: &Machine| there.state().unwrap().get_ref(&format!("homes/{}", m.id));
    assert_eq!(mine(&b), Some(two));
    let (_, pulled) = b.pull(&there).unwrap();
    assert!(matches!(pulled, Pulled::UpToDate { tip } if tip == two));

    a.snapshot("main", "3");
    let four = a.snapshot("main", "4");
    a.push(&there, false).unwrap();
    let (_, pulled) = b.pull(&there).unwrap();
    assert!(
        matches!(pulled, Pulled::Moved { from: Some(f), to, .. } if (f, to) == (two, four)),
        "{pulled:?}"
    );
    assert_eq!((b.at("branch/main"), mine(&b)), (Some(four), Some(four)));
    assert_eq!(b.unpushed(), []);

    let ours = b.snapshot("main", "b5");
    let (_, pulled) = b.pull(&there).unwrap();
    assert!(matches!(pulled, Pulled::Ahead { ours: o, theirs } if (o, theirs) == (ours, four)));
    let theirs = a.snapshot("main", "a5");
    a.push(&there, false).unwrap();
    is(b.pull(&there), |e| {
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
        ..options()
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
    let offsite = sync::open_or_create(objects, Params::default(), None, &operation()).unwrap();
    let one = a.snapshot("main", "1");
    a.push(&there, false).unwrap();
    let two = a.snapshot("main", "2");
    let push = PushOptions {
        branch: "main".into(),
        background: false,
        operation: operation(),
    };
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
        ..options()
    };
    b.fetch(&offsite, &from).unwrap();
    assert_eq!(b.at("remote/offsite/main"), Some(two));
    assert_eq!(b.at("remote/origin/main"), None);
}

fn content(repo: &Repository, id: SnapshotId) -> Vec<u8> {
    let listing = repo.listing(repo.snapshot(id).unwrap().tree).unwrap();
    match &listing["f"] {
        zenith_store::Node::File(file) => repo.file_bytes(file).unwrap(),
        other => panic!("{other:?}"),
    }
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
    let Machine { home, id } = lazy_machine(&place, "b");
    let b = Machine {
        home: home.with_remote(far.clone()),
        id,
    };
    b.attach(&far.open()).unwrap();
    let full = FetchOptions {
        depth: Depth::Full,
        ..options()
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
    let a = machine(&place, "a");
    let near = storage(&place);
    let tips: Vec<_> = (0..4).map(|n| a.snapshot("main", &n.to_string())).collect();
    a.push(&near, false).unwrap();
    let b = lazy_machine(&place, "b");
    let far = Far::new(&place);
    let b = Machine {
        home: b.home.with_remote(far.clone()),
        id: b.id,
    };
    b.attach(&far.open()).unwrap();
    let full = FetchOptions {
        depth: Depth::Full,
        ..options()
    };
    b.fetch(&far.open(), &full).unwrap();
    let held = || -> Vec<SnapshotId> {
        let folder = format!("homes/{}/@", b.id);
        let state = near.state().unwrap();
        let refs = state.refs().iter();
        refs.filter(|(name, _)| name.starts_with(&folder))
            .map(|(_, id)| *id)
            .collect()
    };
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
    let now = Collect {
        grace: 0,
        ..Collect::at(4_000_000_000)
    };
    near.collect(operation(), now).unwrap();
    assert!(content(&b.home.reader().unwrap().0, ours).starts_with(b"1"));

    // The next ones build on no more than it did: not on another snapshot that is known here.
    let ours = b.snapshot("old", "2");
    let ours_too = b.snapshot("old", "3");
    assert_eq!(held(), [tips[1]]);
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
    let lock = b.home.lock("test", zenith::home::Wait::No).unwrap();
    let lost = lazy::hold(&b.home, &lock, tips[2], &operation());
    is(lost, |e| {
        matches!(e, Error::Managed(Refusal::NotHeld { .. }))
    });
    drop(lock);
}

fn lazy_machine(place: &Place, name: &str) -> Machine {
    let made = machine(place, name);
    let mut settings = made.home.settings().unwrap();
    settings.lazy = true;
    made.home.save_settings(&settings).unwrap();
    made
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
    b.pull(&there).unwrap();
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

    // A fetch added what a note stands on; before it is the commit of the snapshot.
    let c = machine(&place, "c");
    let first = c.snapshot("other", "c");
    c.fetch(&there, &options()).unwrap();
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
