//! Random histories: whatever happens to files, snapshots and packs, every snapshot that exists
//! reads back byte for byte, here and at the storage.

use super::*;
use crate::encode::CHAIN_MAX;
use crate::id::Kind;
use proptest::prelude::*;

/// What happens next. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    /// A few bytes of a file become others.
    Change {
        file: usize,
        at: usize,
        len: usize,
        seed: u64,
    },
    /// Bytes move within a file, as in a page that is pruned.
    Move {
        file: usize,
        from: usize,
        to: usize,
        len: usize,
    },
    Truncate {
        file: usize,
        to: usize,
    },
    Extend {
        file: usize,
        by: usize,
        seed: u64,
    },
    /// A file is what it was in an older version.
    Revert {
        file: usize,
        version: usize,
    },
    /// A chunk of one file takes the place of one of another.
    Copy {
        file: usize,
        chunk: usize,
        to: usize,
        at: usize,
    },
    /// All of a chunk is zeros.
    Clear {
        file: usize,
        chunk: usize,
    },
    Delete {
        snapshot: usize,
    },
    Forget {
        snapshot: usize,
    },
    Collect,
    Reopen,
    Verify,
    Push {
        snapshot: usize,
    },
    Fetch {
        snapshot: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..1000;
    let at = 0usize..100_000;
    let (file, len) = (0usize..3, 1usize..60);
    prop_oneof![
        12 => (file.clone(), at.clone(), len, any::<u64>())
            .prop_map(|(file, at, len, seed)| Step::Change { file, at, len, seed }),
        2 => (file.clone(), at.clone(), at.clone(), 1usize..3000)
            .prop_map(|(file, from, to, len)| Step::Move { file, from, to, len }),
        1 => (file.clone(), at.clone()).prop_map(|(file, to)| Step::Truncate { file, to }),
        2 => (file.clone(), 1usize..20_000, any::<u64>())
            .prop_map(|(file, by, seed)| Step::Extend { file, by, seed }),
        1 => (file.clone(), n.clone()).prop_map(|(file, version)| Step::Revert { file, version }),
        1 => (file.clone(), n.clone(), file.clone(), n.clone())
            .prop_map(|(file, chunk, to, at)| Step::Copy { file, chunk, to, at }),
        1 => (file, n.clone()).prop_map(|(file, chunk)| Step::Clear { file, chunk }),
        3 => n.clone().prop_map(|snapshot| Step::Delete { snapshot }),
        1 => n.clone().prop_map(|snapshot| Step::Forget { snapshot }),
        2 => Just(Step::Collect),
        2 => Just(Step::Reopen),
        1 => Just(Step::Verify),
        3 => n.clone().prop_map(|snapshot| Step::Push { snapshot }),
        2 => n.prop_map(|snapshot| Step::Fetch { snapshot }),
    ]
}

const PATHS: [&str; 3] = ["noise", "rows", "mixed"];
/// A file is no longer.
const FILE_MAX: usize = 5 * CHUNK;

fn rows(seed: u64, len: usize) -> Vec<u8> {
    let rows = (0..).map(|n: u64| format!("{seed} row {}\n", n * 7919 % 1000));
    rows.flat_map(String::into_bytes).take(len).collect()
}

fn any_bytes(path: &str, seed: u64, len: usize) -> Vec<u8> {
    match (path, seed % 2) {
        ("noise", _) | ("mixed", 0) => noise(seed, len),
        _ => rows(seed, len),
    }
}

struct World {
    home: Place,
    storage_objects: Arc<dyn Objects>,
    here: Repository,
    there: Repository,
    files: Files,
    versions: Vec<Files>,
    kept: BTreeMap<SnapshotId, Files>,
    pushed: BTreeMap<SnapshotId, Files>,
    tip: Option<SnapshotId>,
    stats: Stats,
    longest: usize,
}

fn nth<T: Clone>(of: &BTreeMap<SnapshotId, T>, n: usize) -> Option<(SnapshotId, T)> {
    let n = n.checked_rem(of.len())?;
    of.iter().nth(n).map(|(id, files)| (*id, files.clone()))
}

impl World {
    fn new(sealed: bool) -> World {
        let home = Place::new(sealed.then(|| Seal::generate("k").0));
        let objects = bucket();
        let there = Repository::create(
            objects.clone(),
            SMALL,
            home.seal.clone(),
            IndexChoice::Memory,
            Operation::default(),
        )
        .unwrap();
        let files = PATHS.map(|path| (path.to_owned(), any_bytes(path, 1, 3 * CHUNK + 999)));
        let mut world = World {
            here: home.open(),
            home,
            storage_objects: objects,
            there,
            files: files.into(),
            versions: Vec::new(),
            kept: BTreeMap::new(),
            pushed: BTreeMap::new(),
            tip: None,
            stats: Stats::default(),
            longest: 0,
        };
        world.take();
        world
    }

    fn take(&mut self) {
        let message = self.versions.len().to_string();
        let (id, stats) = snapshot_on(&self.here, &self.files, self.tip, &message);
        self.stats.chunks_new += stats.chunks_new;
        self.stats.chunks_delta += stats.chunks_delta;
        self.kept.insert(id, self.files.clone());
        self.versions.push(self.files.clone());
        self.tip = Some(id);
    }

    fn file(&mut self, file: usize) -> &mut Vec<u8> {
        self.files.get_mut(PATHS[file]).unwrap()
    }

    fn transfer(from: &Repository, to: &Repository, id: SnapshotId) {
        let what = Transfer {
            snapshots: vec![id],
            ..Transfer::default()
        };
        transfer(from, to, what, &|_| {}).unwrap();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Change {
                file,
                at,
                len,
                seed,
            } => {
                let bytes = self.file(file);
                let at = at % bytes.len();
                let end = bytes.len().min(at + len);
                bytes[at..end].copy_from_slice(&noise(seed, end - at));
            }
            Step::Move {
                file,
                from,
                to,
                len,
            } => {
                let bytes = self.file(file);
                let len = len.min(bytes.len());
                let from = from % (bytes.len() - len + 1);
                let to = to % (bytes.len() - len + 1);
                bytes.copy_within(from..from + len, to);
            }
            Step::Truncate { file, to } => {
                let bytes = self.file(file);
                let to = to % bytes.len() + 1;
                bytes.truncate(to);
            }
            Step::Extend { file, by, seed } => {
                let bytes = self.file(file);
                bytes.extend(any_bytes(PATHS[file], seed, by));
                bytes.truncate(FILE_MAX);
            }
            Step::Revert { file, version } => {
                let old = &self.versions[version % self.versions.len()];
                *self.files.get_mut(PATHS[file]).unwrap() = old[PATHS[file]].clone();
            }
            Step::Copy {
                file,
                chunk,
                to,
                at,
            } => {
                let from = self.file(file);
                let chunk = chunk % from.len().div_ceil(CHUNK) * CHUNK;
                let bytes = from[chunk..from.len().min(chunk + CHUNK)].to_vec();
                let into = self.file(to);
                let at = at % into.len().div_ceil(CHUNK) * CHUNK;
                into.resize(into.len().max(at + bytes.len()), 0);
                into[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Step::Clear { file, chunk } => {
                let bytes = self.file(file);
                let at = chunk % bytes.len().div_ceil(CHUNK) * CHUNK;
                let end = bytes.len().min(at + CHUNK);
                bytes[at..end].fill(0);
            }
            Step::Delete { snapshot } => {
                if let Some((id, _)) = nth(&self.kept, snapshot).filter(|_| self.kept.len() > 1) {
                    remove(&self.here, &[id]);
                    self.kept.remove(&id);
                    if self.tip == Some(id) {
                        self.tip = self.here.state().unwrap().snapshots().last().map(|r| r.id);
                    }
                }
                return;
            }
            Step::Forget { snapshot } => {
                if let Some((id, _)) = nth(&self.pushed, snapshot) {
                    remove(&self.there, &[id]);
                    self.pushed.remove(&id);
                }
                return;
            }
            Step::Collect => {
                collect(&self.here);
                let again = collect(&self.here);
                assert_eq!((again.packs, again.rewritten), (0, 0));
                return;
            }
            Step::Reopen => {
                let seal = &self.home.seal;
                self.here = self.home.open();
                let objects = self.storage_objects.clone();
                self.there = Repository::open(objects, seal.clone(), IndexChoice::Memory).unwrap();
                return;
            }
            Step::Verify => {
                assert_good(&self.here);
                assert_good(&self.there);
                return;
            }
            Step::Push { snapshot } => {
                let (id, files) = nth(&self.kept, snapshot).unwrap();
                World::transfer(&self.here, &self.there, id);
                self.pushed.insert(id, files);
                return;
            }
            Step::Fetch { snapshot } => {
                if let Some((id, files)) = nth(&self.pushed, snapshot) {
                    World::transfer(&self.there, &self.here, id);
                    self.kept.insert(id, files);
                }
                return;
            }
        }
        self.take();
    }

    fn check(&mut self) {
        for (repository, expected) in [(&self.here, &self.kept), (&self.there, &self.pushed)] {
            assert_eq!(repository.state().unwrap().len(), expected.len());
            for (id, files) in expected {
                assert!(files_of(repository, *id) == *files, "{id} is another");
                assert!(many_of(repository, *id, 2) == *files, "{id} is another");
                for chunk in chunks_of(repository, *id).values().flatten() {
                    if !chunk.is_zero() {
                        let chain = repository.find(Kind::Chunk, (*chunk).into()).unwrap();
                        self.longest = self.longest.max(chain.len());
                    }
                }
            }
        }
        assert!(self.longest <= usize::from(CHAIN_MAX) + 2);
    }
}

fn live(sealed: bool, steps: &[Step]) -> World {
    let mut world = World::new(sealed);
    for step in steps {
        world.step(step);
        world.check();
    }
    world.step(&Step::Reopen);
    world.check();
    world.step(&Step::Verify);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn every_snapshot_reads_back(
        steps in prop::collection::vec(step(), 20..50),
        sealed: bool,
    ) {
        let world = live(sealed, &steps);
        let changes = steps.iter().filter(|step| matches!(step, Step::Change { .. })).count();
        prop_assert!(changes < 3 || world.stats.chunks_delta > 0);
    }
}

/// So many snapshots that chains begin anew, and more than once, with collections in between.
#[test]
fn long_histories_read_back() {
    for sealed in [false, true] {
        let steps: Vec<Step> = (0..60u64)
            .flat_map(|n| {
                let mut steps = vec![Step::Change {
                    file: 0,
                    at: 5000,
                    len: 20,
                    seed: n,
                }];
                let every = |k: u64, step: Step| (n % k == k - 1).then_some(step);
                let snapshot = n as usize * 7;
                steps.extend(every(5, Step::Push { snapshot }));
                steps.extend(every(3, Step::Delete { snapshot }));
                steps.extend(every(20, Step::Collect));
                steps.extend(every(25, Step::Reopen));
                steps.extend(every(11, Step::Fetch { snapshot }));
                steps
            })
            .collect();
        let world = live(sealed, &steps);
        assert_eq!(world.longest, usize::from(CHAIN_MAX) + 2);
        assert!(world.stats.chunks_delta >= 55, "{:?}", world.stats);
    }
}
