//! What a root is worth: its number, its repository, what it needs, and the mark of its block.

use super::dice::memory_dir;
use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::log;
use crate::objects::{Bucket, Listed, ObjectsError};
use crate::root::Root;

fn commit_often(repository: &Repository, times: u64) {
    for _ in 0..times {
        repository.commit(Change::default()).unwrap();
    }
}

/// A root that a late request makes under a name that has become free, between the look at the mark
/// and the reading.
#[test]
fn a_root_that_comes_late_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    commit_often(&repository, 3);
    let others = reopen(dir.path());
    let objects = Meanwhile::new(dir.path(), When::Asked("marks/"), move || {
        let seq = others.state().unwrap().seq();
        let late = others.objects().get(&Root::key(seq)).unwrap();
        commit_often(&others, 3 * log::BLOCK);
        let latest = others.state().unwrap().seq();
        log::trim(&**others.objects(), latest, 0).unwrap();
        others.objects().create(&Root::key(seq), &late).unwrap();
    });
    let reader = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    assert!(reader.state().unwrap().seq() > 3 * log::BLOCK);
}

/// A writer whose root was trimmed with its block before it could look knows that it committed.
#[test]
fn a_commit_that_was_left_behind_is_told_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let id = snapshot(&repository, &example(1), "x").id;
    let others = reopen(dir.path());
    let objects = Meanwhile::new(dir.path(), When::Created("roots/"), move || {
        commit_often(&others, 3 * log::BLOCK);
        let latest = others.state().unwrap().seq();
        log::trim(&**others.objects(), latest, 0).unwrap();
    });
    let sleeper = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let tag = RefChange {
        name: "tag/t".into(),
        from: None,
        to: Some(id),
    };
    let state = sleeper
        .commit(Change {
            refs: vec![tag],
            ..Change::default()
        })
        .unwrap();
    assert!(state.seq() > 3 * log::BLOCK);
    assert_eq!(
        reopen(dir.path()).state().unwrap().get_ref("tag/t"),
        Some(id)
    );
}

#[test]
fn a_long_log_opens_in_a_few_requests_and_names_stay_used() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    commit_often(&repository, 5 * log::BLOCK);
    let latest = repository.state().unwrap().seq();
    let objects = &**repository.objects();
    assert_eq!(log::latest(objects, None).unwrap(), Some(latest));
    assert_eq!(log::latest(objects, Some(3)).unwrap(), Some(latest));
    let asleep = reopen(dir.path());
    asleep.state().unwrap();
    commit_often(&repository, 3 * log::BLOCK);
    let latest = repository.state().unwrap().seq();
    assert!(log::trim(objects, latest, 0).unwrap() > 5 * log::BLOCK);
    // The name after the one that the sleeper knows is free; making it is no commit.
    let before = asleep.commit(Change::default()).unwrap();
    assert_eq!(before.seq(), latest + 1);
    assert_eq!(reopen(dir.path()).state().unwrap().seq(), latest + 1);
    // And a root that somebody made there and forgot misleads nobody.
    objects.create(&Root::key(1281), b"forged").unwrap();
    for known in [None, Some(1280), Some(1281)] {
        assert_eq!(log::latest(objects, known).unwrap(), Some(latest + 1));
    }
}

/// Who finds a root of the block gone must find the mark.
#[test]
fn a_block_is_marked_before_a_root_of_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    commit_often(&repository, 3 * log::BLOCK);
    // The hint that each commit may leave got lost.
    std::fs::remove_dir_all(dir.path().join("marks")).unwrap();
    let others = reopen(dir.path());
    let objects = Meanwhile::new(dir.path(), When::Deletes("roots/"), move || {
        assert!(log::is_closed(&**others.objects(), 0).unwrap());
    });
    let deleted = log::trim(&objects, 3 * log::BLOCK, 0).unwrap();
    assert_eq!(deleted, log::BLOCK);
}

#[test]
fn a_root_of_another_number_or_repository_is_told() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = [0, 1].map(|n: usize| home(dirs[n].path()));
    let seq = commit_to(&ours, 2);
    commit_to(&theirs, seq + 1);
    let next = Root::key(seq + 1);
    let told = |bytes: Vec<u8>, why: &str| {
        ours.objects().create(&next, &bytes).unwrap();
        let error = reopen(dirs[0].path()).state().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        ours.objects().delete(&next).unwrap();
    };
    let get = |from: &Repository, seq| from.objects().get(&Root::key(seq)).unwrap();
    told(get(&ours, seq), "it says that it is root");
    told(get(&theirs, seq + 1), "it belongs to another repository");
    assert_eq!(reopen(dirs[0].path()).state().unwrap().seq(), seq);
}

fn commit_to(repository: &Repository, seq: u64) -> u64 {
    commit_often(repository, seq - repository.state().unwrap().seq());
    seq
}

/// What a later program needs of whoever reads, or only of whoever writes.
#[test]
fn what_is_too_new_is_not_read_or_not_written() {
    let needs = |of: fn(&mut Root) -> &mut Vec<String>| {
        let dir = tempfile::tempdir().unwrap();
        let later = |state: &mut State| {
            of(&mut state.root).push("later".into());
            Ok(())
        };
        let made = home(dir.path()).commit_with(Operation::default(), later);
        made.unwrap();
        dir
    };
    let read = needs(|root| &mut root.incompatible);
    let refused = reopen(read.path()).state().unwrap_err();
    assert!(matches!(refused, Error::TooNew { .. }), "{refused}");
    let written = needs(|root| &mut root.read_only);
    let repository = reopen(written.path());
    let seq = repository.state().unwrap().seq();
    let refused = repository.commit(Change::default()).unwrap_err();
    assert!(matches!(refused, Error::TooNew { .. }), "{refused}");
    assert_eq!(reopen(written.path()).state().unwrap().seq(), seq);
}

/// Counts what is asked of a place.
#[derive(Debug)]
struct Requests {
    inner: Arc<dyn Objects>,
    verbs: Mutex<BTreeMap<&'static str, u64>>,
    /// Names in the longest listing.
    longest: AtomicU64,
}

impl Requests {
    fn new(inner: Arc<dyn Objects>) -> Arc<Requests> {
        Arc::new(Requests {
            inner,
            verbs: Mutex::default(),
            longest: AtomicU64::new(0),
        })
    }

    fn count(&self, verb: &'static str) -> &dyn Objects {
        *self.verbs.lock().unwrap().entry(verb).or_default() += 1;
        &*self.inner
    }

    /// Requests since the last call, and the names in the longest listing of all.
    fn take(&self) -> (u64, BTreeMap<&'static str, u64>, u64) {
        let verbs = std::mem::take(&mut *self.verbs.lock().unwrap());
        let longest = self.longest.load(Ordering::Relaxed);
        (verbs.values().sum(), verbs, longest)
    }

    fn listed(&self, listed: Vec<Listed>) -> Vec<Listed> {
        self.longest
            .fetch_max(listed.len() as u64, Ordering::Relaxed);
        listed
    }
}

impl objects::Layer for Requests {
    fn below(&self) -> &dyn Objects {
        self.count("others")
    }
    fn location(&self) -> String {
        self.inner.location()
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.count("get").get(key)
    }
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.count("head").size(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        Ok(self.listed(self.count("list").list(prefix)?))
    }
    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        let listed = self.count("list").list_after(prefix, after)?;
        Ok(self.listed(listed))
    }
}

/// Marks say where to look: whoever comes finds the latest of ten thousand roots with as many
/// requests as of a few hundred, in a bucket, in a directory and in one that is used as a storage.
#[test]
fn the_latest_of_ten_thousand_roots_is_found_in_a_few_requests() {
    const ROOTS: u64 = 10_000;
    /// A bucket lists so many names with one request.
    const PAGE: u64 = 1000;
    let dirs = [memory_dir(), memory_dir()];
    let places: [Arc<dyn Objects>; 3] = [
        bucket(),
        Arc::new(Directory::new(dirs[0].path())),
        Arc::new(Bucket::local(dirs[1].path()).unwrap()),
    ];
    for objects in places {
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        let params = Params::default();
        let made = Repository::create(objects.clone(), params, None, index, operation).unwrap();
        commit_to(&made, ROOTS - 1);
        let there = objects.list("roots/").unwrap().len() as u64;
        assert_eq!(there, ROOTS);

        let requests = Requests::new(objects);
        let within = |most: u64, what: &str| {
            let (all, verbs, longest) = requests.take();
            assert!(
                all <= most && longest < PAGE,
                "{what}: {verbs:?}, {longest} listed"
            );
        };
        let open = || Repository::open(requests.clone(), None, IndexChoice::Memory).unwrap();
        let repository = open();
        assert_eq!(repository.state().unwrap().seq(), ROOTS - 1);
        within(7, "who comes");
        // Who looks again, and who slept since some root.
        repository.state().unwrap();
        within(2, "who looks again");
        for known in [0, 17, 2 * log::BLOCK, ROOTS / 2, ROOTS - 2] {
            let found = log::latest(&*requests, Some(known)).unwrap();
            assert_eq!(found, Some(ROOTS - 1));
            within(14, "who slept");
        }
        let change = repository.commit(Change::default()).unwrap();
        assert_eq!(change.seq(), ROOTS);
        within(6, "a commit");
    }
}
