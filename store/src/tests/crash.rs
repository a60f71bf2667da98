//! The power goes at every step that changes something on disk: what was acknowledged is there,
//! what is there is whole, and the same call again completes the work.

mod mending;

use super::dice::{memory_dir, seeded};
use super::*;
use crate::objects::Bucket;
use crate::objects::disk::power::{Fault, Mutant, Power, Unsynced};
use std::cell::Cell;

/// A disk that does not answer does so for so many steps: more than are tried again by themselves.
const STEPS_FAIL: u64 = 3;

/// What snapshots there are, by their messages.
type Model = BTreeMap<String, Files>;

/// Does what is not done yet in the repository at a directory; `done` is called after each commit.
type Run = Box<dyn Fn(&Path, &dyn Fn()) -> Result<()>>;

struct Case {
    name: &'static str,
    /// Makes what is there before.
    before: Box<dyn Fn(&Path)>,
    run: Run,
    /// What there is at first and after each commit.
    states: Vec<Found>,
}

/// What is found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// No repository yet.
    Nothing,
    /// A repository whose latest root cannot be read, or in which something of these snapshots
    /// is lost; nothing of them is another.
    Damaged(Model),
    /// These snapshots.
    Whole(Model),
}

/// One thread, and every time other names.
fn world() -> World {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    seeded(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn open(dir: &Path) -> Result<Repository> {
    let objects = Arc::new(Directory::new(dir));
    let repository = Repository::open_in(objects, None, IndexChoice::Memory, world())?;
    Ok(repository.alone())
}

/// As a storage is opened that is a directory.
fn open_storage(dir: &Path) -> Result<Repository> {
    let objects = Arc::new(Bucket::local(dir)?);
    Repository::open_in(objects, None, IndexChoice::Memory, world())
}

fn create(dir: &Path) -> Result<Repository> {
    let (objects, index) = (Arc::new(Directory::new(dir)), IndexChoice::Memory);
    Repository::create_in(objects, SMALL, None, index, Operation::default(), world())
}

/// A small cluster of which a little changes every time.
fn version(n: usize) -> Files {
    let mut large = noise(7, 3 * CHUNK + 100);
    for n in 0..=n {
        large[n * 2000..][..20].copy_from_slice(&noise(n as u64, 20));
    }
    Files::from([
        ("large".into(), large),
        ("new".into(), noise(100 + n as u64, CHUNK)),
        ("inline".into(), format!("version {n}").into_bytes()),
    ])
}

fn model(versions: impl IntoIterator<Item = usize>) -> Model {
    versions
        .into_iter()
        .map(|n| (n.to_string(), version(n)))
        .collect()
}

fn whole(versions: impl IntoIterator<Item = usize>) -> Found {
    Found::Whole(model(versions))
}

/// The snapshot with this message.
fn id_of(repository: &Repository, message: &str) -> Result<Option<SnapshotId>> {
    let state = repository.state()?;
    let row = state.snapshots().find(|row| row.message == message);
    Ok(row.map(|row| row.id))
}

/// Takes these versions, each over the one before, unless they are there.
fn take(
    repository: &Repository,
    versions: std::ops::Range<usize>,
    summary: usize,
    done: &dyn Fn(),
) -> Result<()> {
    for n in versions {
        let message = n.to_string();
        if id_of(repository, &message)?.is_some() {
            continue;
        }
        let parent = repository.state()?.snapshots().last().map(|row| row.id);
        let summary = noise(n as u64, summary);
        try_snapshot(repository, &version(n), parent, &message, summary)?;
        done();
    }
    Ok(())
}

fn creation() -> Case {
    Case {
        name: "create",
        before: Box::new(|_| {}),
        run: Box::new(|dir, done| {
            match create(dir) {
                Err(Error::RepositoryExists { .. }) => drop(open(dir)?.state()?),
                made => drop(made?),
            }
            done();
            Ok(())
        }),
        states: vec![Found::Nothing, whole([])],
    }
}

fn commits() -> Case {
    Case {
        name: "commit",
        before: Box::new(|dir| drop(create(dir).unwrap())),
        run: Box::new(|dir, done| take(&open(dir)?, 0..3, 0, done)),
        states: (0..=3).map(|n| whole(0..n)).collect(),
    }
}

fn deletion(name: &'static str, open: fn(&Path) -> Result<Repository>) -> Case {
    Case {
        name,
        before: Box::new(|dir| take(&create(dir).unwrap(), 0..5, 0, &|| {}).unwrap()),
        run: Box::new(move |dir, done| {
            let repository = open(dir)?;
            let mut gone = Vec::new();
            for message in ["0", "2", "4"] {
                gone.extend(id_of(&repository, message)?);
            }
            if !gone.is_empty() {
                let remove = Change {
                    remove: gone,
                    ..Change::default()
                };
                repository.commit(remove)?;
                done();
            }
            let how = Collect {
                grace: 0,
                ..Collect::at(0)
            };
            repository.collect(Operation::default(), how).map(drop)
        }),
        states: vec![whole(0..5), whole([1, 3])],
    }
}

/// Rows are so large that they move to segments.
fn spill() -> Case {
    const SUMMARY: usize = 7000;
    let before = |dir: &Path| take(&create(dir).unwrap(), 0..3, SUMMARY, &|| {}).unwrap();
    Case {
        name: "table spill",
        before: Box::new(before),
        run: Box::new(|dir, done| {
            let repository = open(dir)?;
            take(&repository, 3..5, SUMMARY, done)?;
            assert!(repository.state()?.snapshots.segment_packs().count() > 0);
            Ok(())
        }),
        states: (3..=5).map(|n| whole(0..n)).collect(),
    }
}

/// Snapshots come from elsewhere: packs of files as links, of a bucket as copies.
fn fetch(name: &'static str, from: Repository) -> Case {
    arrival(name, from, open)
}

/// Snapshots go to a storage that is a directory.
fn push(source: &Path) -> Case {
    let from = create(source).unwrap();
    take(&from, 0..3, 0, &|| {}).unwrap();
    arrival("push to a directory", from, open_storage)
}

fn arrival(name: &'static str, from: Repository, open: fn(&Path) -> Result<Repository>) -> Case {
    Case {
        name,
        before: Box::new(|dir| drop(create(dir).unwrap())),
        run: Box::new(move |dir, done| {
            let here = open(dir)?;
            for messages in [&["0"][..], &["1", "2"]] {
                let mut snapshots = Vec::new();
                for message in messages {
                    snapshots.extend(id_of(&from, message)?);
                }
                let what = Transfer {
                    snapshots,
                    ..Transfer::default()
                };
                if transfer(&from, &here, what, &|_| {})?.snapshots > 0 {
                    done();
                }
            }
            Ok(())
        }),
        states: [0, 1, 3].map(|n| whole(0..n)).into(),
    }
}

/// Snapshots are pushed to a directory; of every two packs there an index segment is made.
fn push_with_segments(source: &Path) -> Case {
    let from = create(source).unwrap();
    take(&from, 0..3, 0, &|| {}).unwrap();
    Case {
        name: "push with index segments",
        before: Box::new(|dir| drop(create(dir).unwrap())),
        run: Box::new(move |dir, done| {
            let objects = Arc::new(Directory::new(dir));
            let there = Repository::open_in(objects, None, IndexChoice::Memory, world())?;
            let there = there.with_segments_of(2);
            for n in 0..3 {
                let what = Transfer {
                    snapshots: id_of(&from, &n.to_string())?.into_iter().collect(),
                    ..Transfer::default()
                };
                if transfer(&from, &there, what, &|_| {})?.snapshots > 0 {
                    done();
                }
            }
            // What could not be written beside a push is written by the next one, or by a
            // collection.
            there.tend_segments(None, &Operation::default())?;
            let state = there.state()?;
            let packs: u32 = state.index_segments().map(|row| row.packs).sum();
            assert!(packs + 2 > state.packs().count() as u32, "{packs} packs");
            assert!(there.verify(Verify::ReadData)?.bad_segments.is_empty());
            Ok(())
        }),
        states: (0..=3).map(|n| whole(0..n)).collect(),
    }
}

fn fetch_from_directory(source: &Path) -> Case {
    let from = create(source).unwrap();
    take(&from, 0..3, 0, &|| {}).unwrap();
    fetch("fetch from a directory", from)
}

fn fetch_from_bucket() -> Case {
    let dir = memory_dir();
    let local = create(dir.path()).unwrap();
    take(&local, 0..3, 0, &|| {}).unwrap();
    let (index, operation) = (IndexChoice::Memory, Operation::default());
    let there = Repository::create_in(bucket(), SMALL, None, index, operation, world()).unwrap();
    let what = Transfer {
        snapshots: local
            .state()
            .unwrap()
            .snapshots()
            .map(|row| row.id)
            .collect(),
        ..Transfer::default()
    };
    transfer(&local, &there, what, &|_| {}).unwrap();
    fetch("fetch from a bucket", there)
}

/// What is at `dir`, as far as it can be read at all; `before` is what was there when all was well.
fn find(dir: &Path, before: &Model) -> Result<Found, String> {
    let told = |e: Error| format!("{e} ({e:?})");
    if !dir.join("zenith.json").exists() {
        return Ok(Found::Nothing);
    }
    let repository = open(dir).map_err(told)?;
    let state = match repository.state() {
        Err(Error::RootLost { .. }) => return Ok(Found::Damaged(before.clone())),
        state => state.map_err(told)?,
    };
    let report = repository.verify(Verify::ReadData).map_err(told)?;
    if !report.bad_segments.is_empty() {
        return Err(format!("{report:?}"));
    }
    let mut found = Model::new();
    for row in state.snapshots() {
        let files = match try_files_of(&repository, row.id) {
            Err(e) if !report.is_good() && e.kind() == ErrorKind::Damaged => {
                before.get(&row.message).cloned().unwrap_or_default()
            }
            files => files.map_err(told)?,
        };
        found.insert(row.message.clone(), files);
    }
    Ok(match report.is_good() {
        true => Found::Whole(found),
        false => Found::Damaged(found),
    })
}

/// What is wrong with what is at `dir`, where it should be one of `allowed`.
fn look(dir: &Path, allowed: &[Found]) -> Result<(), String> {
    let before = allowed.iter().find_map(|found| match found {
        Found::Damaged(model) => Some(model.clone()),
        Found::Nothing | Found::Whole(_) => None,
    });
    let found = find(dir, &before.unwrap_or_default())?;
    match allowed.contains(&found) {
        true => Ok(()),
        false => Err(match found {
            Found::Nothing => "there is no repository".into(),
            Found::Damaged(model) => format!("of {:?} something is lost", model.keys()),
            Found::Whole(model) => format!("there are {:?}", model.keys()),
        }),
    }
}

impl Case {
    /// Runs with this fault; the watcher, which has stopped, and the number of acknowledged commits.
    fn run_with(&self, dir: &Path, fault: Fault, mutant: Mutant) -> (Arc<Power>, usize) {
        let power = Power::watch(dir, fault, mutant);
        let acknowledged = Cell::new(0);
        let done = (self.run)(dir, &|| {
            if !power.is_cut() {
                acknowledged.set(acknowledged.get() + 1);
            }
        });
        power.stop();
        match fault {
            Fault::Never => done.unwrap(),
            Fault::CutAt(_) => assert!(power.is_cut()),
            // Whether the call goes on without that step is its own business.
            Fault::FailAt(_) | Fault::FailFrom(..) => {}
        }
        (power, acknowledged.get())
    }

    /// What was acknowledged, or what was just being committed.
    fn allowed(&self, acknowledged: usize) -> &[Found] {
        &self.states[acknowledged..self.states.len().min(acknowledged + 2)]
    }

    /// What is wrong after this fault, if anything is.
    fn check(&self, before: &Path, fault: Fault, mutant: Mutant) -> Result<(), String> {
        let dir = memory_dir();
        let home = dir.path().join("home");
        copy_dir(before, &home);
        let (power, acknowledged) = self.run_with(&home, fault, mutant);
        let (Fault::CutAt(step) | Fault::FailAt(step)) = fault else {
            unreachable!("a check has a fault");
        };
        let mixed = [0, 1000, 2000].map(|n| Unsynced::Mixed(step + n));
        for unsynced in [Unsynced::Lost, Unsynced::Kept].into_iter().chain(mixed) {
            let wrong = |what: &str, why| {
                let name = self.name;
                format!("{name}: {fault:?}, {unsynced:?}, {acknowledged} done, {what}: {why}")
            };
            let found = memory_dir();
            let found = found.path();
            power.write_loss(found, unsynced);
            look(found, self.allowed(acknowledged)).map_err(|e| wrong("afterwards", e))?;

            // The same again, which the power does not survive either; then once more.
            let steps = 1 + step % 7;
            let again = Power::watch(found, Fault::CutAt(steps), mutant);
            let _ = (self.run)(found, &|| {});
            again.stop();
            let last = memory_dir();
            let last = last.path();
            again.write_loss(last, unsynced);
            look(last, &self.states[acknowledged..]).map_err(|e| wrong("cut again", e))?;
            (self.run)(last, &|| {}).map_err(|e| wrong("the same again", e.to_string()))?;
            let end = &self.states[self.states.len() - 1..];
            look(last, end).map_err(|e| wrong("in the end", e))?;
        }
        Ok(())
    }

    /// What is wrong when some steps fail, the same call is made again, and the power goes after
    /// that one said that all is done.
    fn check_again(&self, before: &Path, fault: Fault, mutant: Mutant) -> Result<(), String> {
        let dir = memory_dir();
        let home = dir.path().join("home");
        copy_dir(before, &home);
        let power = Power::watch(&home, fault, mutant);
        // Some calls do without what failed; others are made until they do not say that it did.
        let mut done = (self.run)(&home, &|| {});
        for _ in 0..STEPS_FAIL {
            if done.is_ok() {
                break;
            }
            done = (self.run)(&home, &|| {});
        }
        power.stop();
        let name = self.name;
        done.map_err(|e| format!("{name}: {fault:?}, again: {e}"))?;
        let end = &self.states[self.states.len() - 1..];
        let found = memory_dir();
        power.write_loss(found.path(), Unsynced::Lost);
        look(found.path(), end).map_err(|e| format!("{name}: {fault:?}, done again: {e}"))
    }

    /// Everything that is wrong, over all steps; how many steps there are.
    fn everywhere(&self, mutant: Mutant) -> (u64, Vec<String>) {
        let dir = memory_dir();
        let (before, whole) = (dir.path().join("before"), dir.path().join("whole"));
        std::fs::create_dir(&before).unwrap();
        (self.before)(&before);
        copy_dir(&before, &whole);
        let (power, acknowledged) = self.run_with(&whole, Fault::Never, Mutant::None);
        assert_eq!(acknowledged + 1, self.states.len(), "{}", self.name);
        look(&whole, &self.states[acknowledged..]).unwrap();
        let steps = power.steps();
        let faults = (1..=steps).flat_map(|step| [Fault::CutAt(step), Fault::FailAt(step)]);
        let wrong = faults.filter_map(|fault| self.check(&before, fault, mutant).err());
        let mut wrong: Vec<String> = wrong.collect();
        let faults = (1..=steps).map(|step| Fault::FailFrom(step, STEPS_FAIL));
        let again = faults.filter_map(|fault| self.check_again(&before, fault, mutant).err());
        wrong.extend(again);
        (steps, wrong)
    }

    #[track_caller]
    fn holds(&self, steps_at_least: u64) {
        let (steps, wrong) = self.everywhere(Mutant::None);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(steps >= steps_at_least, "only {steps} steps were seen");
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn creating_survives_every_power_loss() {
    creation().holds(10);
}

#[test]
fn commits_survive_every_power_loss() {
    commits().holds(25);
}

#[test]
fn deleting_and_collecting_survive_every_power_loss() {
    deletion("delete and collect", open).holds(15);
}

#[test]
fn deleting_and_collecting_in_a_storage_survive_every_power_loss() {
    deletion("delete and collect in a storage", open_storage).holds(15);
}

#[test]
fn a_table_spill_survives_every_power_loss() {
    spill().holds(20);
}

#[test]
fn pushing_with_segments_survives_every_power_loss() {
    let source = memory_dir();
    push_with_segments(source.path()).holds(25);
}

#[test]
fn fetching_links_survives_every_power_loss() {
    let source = memory_dir();
    fetch_from_directory(source.path()).holds(25);
}

#[test]
fn pushing_to_a_directory_survives_every_power_loss() {
    let source = memory_dir();
    push(source.path()).holds(25);
}

#[test]
fn fetching_copies_survives_every_power_loss() {
    fetch_from_bucket().holds(25);
}

/// A store that is wrong is seen to be.
#[test]
fn what_would_lose_data_is_found() {
    for mutant in [
        Mutant::NoFileSync,
        Mutant::NoDirectorySync,
        Mutant::RootBeforePacks,
    ] {
        let (_, wrong) = commits().everywhere(mutant);
        assert!(!wrong.is_empty(), "{mutant:?} was not found");
    }
    let (_, wrong) = mending::renaming().everywhere(Mutant::NoDirectorySync);
    assert!(!wrong.is_empty(), "new names that were not synced");
}
