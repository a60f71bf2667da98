//! Random histories of several homes at one storage, each decided by a seed: who is next, what goes
//! wrong, who is forgotten in the middle. What was acknowledged must be there, and what is there
//! must be what was stored. Some homes are lazy: they leave their packs at the storage and have it
//! hold what they build on. Some readers pin what they read.
//!
//! `ZENITH_SEED=n` replays one seed and tells its story; `ZENITH_SEEDS=n` runs so many.

mod storage;

use super::dice::{memory_dir, seeded};
use super::*;
use crate::objects::Lazy;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use storage::{LATE_MAX, Profile, Storage};

const SEEDS: u64 = 1000;
/// Seeds run at once.
const THREADS: u64 = 2;
const HOMES: usize = 2;
/// Actors: the homes, a reader, a pruner and, if there is one, a collector.
const READER: usize = HOMES;
const PRUNER: usize = HOMES + 1;
const COLLECTOR: usize = HOMES + 2;
const FILE_MAX: usize = 3 * CHUNK;
/// So many packs make an index segment.
const SEGMENT_PACKS: usize = 2;

/// One step of a collector of the storage, through its own repository. Its errors are its own
/// business: what counts is what is there afterwards. The bytes that it packed anew.
type CollectorStep = fn(&Repository) -> Result<u64>;

/// What is run against the storage to free space there.
const COLLECTOR_STEP: Option<CollectorStep> = Some(collect_beside);

/// All that can be packed anew is.
const OFTEN: Repack = Repack {
    traffic: u64::MAX,
    poor_percent: 100,
    merged_from: 3,
};

/// Without patience: every session is over, nothing waits. Clocks only decide when to try.
fn collect_beside(there: &Repository) -> Result<u64> {
    let how = Collect {
        grace: 0,
        sessions: 0,
        repack: OFTEN,
        ..Collect::at(4_000_000_000)
    };
    Ok(there.collect(Operation::default(), how)?.rewritten)
}

/// Snapshots came, or went, somewhere between two moments.
#[derive(Debug)]
struct Fact {
    id: SnapshotId,
    is_there: bool,
    begin: u64,
    /// An answer that was lost may be followed by its effect, much later.
    end: u64,
    acknowledged: bool,
}

/// What everyone knows.
#[derive(Debug, Default)]
struct Model {
    /// Every snapshot that anyone took, in that order.
    taken: Vec<(SnapshotId, Files)>,
    facts: Vec<Fact>,
    /// What must not have happened.
    wrong: Vec<String>,
    counts: Counts,
}

/// How often each thing was done, and how often it failed.
type Counts = BTreeMap<&'static str, (u64, u64)>;

impl Model {
    fn files(&self, id: &SnapshotId) -> &Files {
        let taken = self.taken.iter().find(|(taken, _)| taken == id);
        &taken.expect("somebody took it").1
    }

    /// Whether a snapshot must be there: it was acknowledged, and whoever takes it out came before.
    fn must(&self, id: &SnapshotId) -> bool {
        let mut facts = self.facts.iter().filter(|fact| fact.id == *id);
        let last = |fact: &&Fact| fact.is_there && fact.acknowledged;
        let Some(begin) = facts.clone().filter(last).map(|fact| fact.begin).max() else {
            return false;
        };
        !facts.any(|fact| !fact.is_there && fact.end >= begin)
    }

    /// Whether a snapshot may be there: it was brought, and not taken out for certain after that.
    fn may(&self, id: &SnapshotId) -> bool {
        let mut facts = self.facts.iter().filter(|fact| fact.id == *id);
        let Some(end) = facts
            .clone()
            .filter(|fact| fact.is_there)
            .map(|fact| fact.end)
            .max()
        else {
            return false;
        };
        !facts.any(|fact| !fact.is_there && fact.acknowledged && fact.begin > end)
    }

    /// How often anyone tried to take it out.
    fn removals(&self, id: &SnapshotId) -> usize {
        let facts = self.facts.iter().filter(|fact| fact.id == *id);
        facts.filter(|fact| !fact.is_there).count()
    }
}

/// A machine with a repository of its own.
struct Home {
    number: usize,
    dir: tempfile::TempDir,
    dice: Dice,
    here: Repository,
    /// It leaves at the storage what it fetches.
    is_lazy: bool,
    /// Its snapshots, oldest first. All of them can be read, also in a lazy home.
    kept: Vec<SnapshotId>,
    files: Files,
}

/// One seed.
struct Sim {
    seal: Option<Seal>,
    profile: Profile,
    /// The number of a lazy home.
    lazy: Option<usize>,
    storage: Arc<Storage>,
    model: Mutex<Model>,
    collector: Option<CollectorStep>,
    /// How often the storage was looked at as it is.
    looks: AtomicU64,
}

fn seal_of(dice: &mut Dice) -> Seal {
    let mut key = [0; 32];
    dice.fill(&mut key);
    let master = MasterKey::from_hex(&id::hex(&key)).unwrap();
    Seal::new(&master, &id::hex(&key[..16]))
}

fn changed(files: &Files, dice: &mut Dice) -> Files {
    let mut files = files.clone();
    let path = dice.pick(&["noise", "rows", "small"]).unwrap();
    let bytes = files.entry(path.into()).or_default();
    match dice.below(4) {
        0 => {
            let more = 1 + dice.below(CHUNK);
            bytes.extend(noise(dice.next(), more));
        }
        1 if !bytes.is_empty() => bytes.truncate(1 + dice.below(bytes.len())),
        _ if !bytes.is_empty() => {
            let at = dice.below(bytes.len());
            let end = bytes.len().min(at + 1 + dice.below(50));
            dice.fill(&mut bytes[at..end]);
        }
        _ => bytes.extend(b"row\n".repeat(1 + dice.below(4000))),
    }
    bytes.truncate(if path == "small" { 900 } else { FILE_MAX });
    files
}

/// The bytes of a snapshot, or why they cannot be read.
fn read(repository: &Repository, id: SnapshotId) -> Result<Files> {
    let tree = repository.snapshot(id)?.tree;
    let mut files = Files::new();
    for (path, node) in repository.listing(tree)? {
        if let Node::File(file) = node {
            files.insert(path, repository.file_bytes(&file)?);
        }
    }
    Ok(files)
}

impl Sim {
    fn new(seed: u64, plan: Plan, is_logged: bool) -> Sim {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let profile = plan.profile.unwrap_or_else(|| Profile {
            fails: dice.pick(&[0, 20, 100]).unwrap(),
            lost_answers: dice.pick(&[0, 10, 40]).unwrap(),
            late: dice.pick(&[0, 15, 60]).unwrap(),
            stale: dice.pick(&[0, 0, 3]).unwrap(),
            pauses: dice.pick(&[0, 50]).unwrap(),
            crashes: dice.pick(&[0, 150]).unwrap(),
            sticky: dice.one_in(2),
            create_replaces: false,
        });
        Sim {
            seal: dice.one_in(4).then(|| seal_of(&mut dice)),
            profile,
            lazy: dice.one_in(2).then_some(HOMES - 1),
            storage: Storage::new(seed, profile, COLLECTOR + 1, is_logged),
            model: Mutex::default(),
            collector: plan.collector,
            looks: AtomicU64::new(0),
        }
    }

    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts something that was done or failed, for the story and for the end.
    fn tell<T>(&self, who: usize, what: &'static str, done: &Result<T>) {
        let how = match done {
            Ok(_) => "done".into(),
            Err(e) => e.to_string(),
        };
        self.storage.note(&format!("{who} {what}: {how}"));
        let mut model = self.model();
        let counts = model.counts.entry(what).or_default();
        match done {
            Ok(_) => counts.0 += 1,
            Err(_) => counts.1 += 1,
        }
    }

    fn wrong(&self, what: String) {
        self.storage.note(&what);
        self.model().wrong.push(what);
    }

    /// The storage's repository as it is.
    fn as_it_is(&self) -> Repository {
        let (objects, seal) = (self.storage.objects(None), self.seal.clone());
        // Another world each time: names are never had twice.
        let world = seeded(u64::MAX - self.looks.fetch_add(1, Ordering::Relaxed));
        Repository::open_in(objects, seal, IndexChoice::Memory, world)
            .unwrap()
            .with_segments_of(SEGMENT_PACKS)
    }

    /// The storage's repository as an actor sees it, whose turn it is; tried until it answers.
    fn connect(&self, actor: usize, dice: &mut Dice) -> Repository {
        loop {
            let (objects, seal) = (self.storage.objects(Some(actor)), self.seal.clone());
            let world = seeded(dice.next());
            if let Ok(there) = Repository::open_in(objects, seal, IndexChoice::Memory, world) {
                return there.with_segments_of(SEGMENT_PACKS);
            }
            self.storage.restart(actor);
        }
    }

    fn create_there(&self, seed: u64) {
        let (objects, seal) = (self.storage.objects(None), self.seal.clone());
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        Repository::create_in(objects, SMALL, seal, index, operation, seeded(seed)).unwrap();
    }

    fn create_home(&self, number: usize, seed: u64) -> Home {
        let mut dice = Dice::new(seed + 1000 * (1 + number as u64));
        let dir = memory_dir();
        let objects = Arc::new(Directory::new(dir.path()));
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        let (seal, world) = (self.seal.clone(), seeded(dice.next()));
        let here = Repository::create_in(objects, SMALL, seal, index, operation, world).unwrap();
        let here = here.alone();
        let files = Files::from([
            ("noise".into(), noise(seed, CHUNK + 500)),
            ("rows".into(), b"row\n".repeat(3000)),
        ]);
        Home {
            number,
            dir,
            dice,
            here,
            is_lazy: self.lazy == Some(number),
            kept: Vec::new(),
            files,
        }
    }

    /// The repository of a home; a lazy one sees the storage as an actor does.
    fn open_home(&self, home: &Home, actor: Option<usize>, seed: u64) -> Repository {
        let local = Directory::new(home.dir.path());
        let objects: Arc<dyn Objects> = match home.is_lazy {
            true => Arc::new(Lazy::new(local, self.storage.objects(actor))),
            false => Arc::new(local),
        };
        let (seal, world) = (self.seal.clone(), seeded(seed));
        let here = Repository::open_in(objects, seal, IndexChoice::Memory, world).unwrap();
        here.alone()
    }

    /// A home to which the storage is as it should be.
    fn calm(&self, home: &Home) -> Repository {
        // No two of them, nor the storage, give the same names.
        self.open_home(home, None, u64::MAX - 1 - home.number as u64)
    }

    /// An error that no fault of the storage explains.
    fn judge(&self, doing: &str, e: &Error) {
        // Who is told of a root that is not the newest may miss what was taken out since.
        if e.kind() == ErrorKind::Damaged && self.profile.stale == 0 {
            self.wrong(format!("{doing}: {e} ({e:?})"));
        }
    }

    /// A program on this machine.
    fn live(&self, home: &mut Home, steps: usize) {
        let mut there = self.connect(home.number, &mut home.dice);
        self.restart(home, &mut there);
        if home.kept.is_empty() {
            self.take(home);
        }
        for _ in 0..steps {
            match home.dice.below(16) {
                0..5 => self.take(home),
                5..10 => self.push(home, &there),
                10..12 => self.fetch(home, &there),
                12 => self.look(&there, &mut home.dice),
                13 => self.forget(home),
                14 => {
                    // Half a snapshot, which nobody will ever commit.
                    if home.is_lazy {
                        home.here.lean_on(None).unwrap();
                    }
                    let writer = home.here.writer().unwrap();
                    let bytes = noise(home.dice.next(), CHUNK);
                    writer.put_chunk(&bytes, None).unwrap();
                    writer.into_packs().unwrap();
                    self.restart(home, &mut there);
                }
                _ => self.restart(home, &mut there),
            }
            if self.storage.restart(home.number) {
                self.restart(home, &mut there);
            }
        }
    }

    /// All that the program knew is gone; what is on disk is there.
    fn restart(&self, home: &mut Home, there: &mut Repository) {
        self.storage.note(&format!("{} starts anew", home.number));
        let seed = home.dice.next();
        home.here = self.open_home(home, Some(home.number), seed);
        *there = self.connect(home.number, &mut home.dice);
    }

    fn take(&self, home: &mut Home) {
        home.files = changed(&home.files, &mut home.dice);
        let parent = match home.dice.one_in(4) {
            true => home.dice.pick(&home.kept),
            false => home.kept.last().copied(),
        };
        let message = format!("{} of {}", self.model().taken.len(), home.number);
        // Of the storage a lazy home uses what is held for it alone.
        if home.is_lazy {
            home.here.lean_on(parent).unwrap();
        }
        let done = try_snapshot(&home.here, &home.files, parent, &message, vec![1]);
        let id = match done {
            Ok(id) => id,
            Err(e) if home.is_lazy => {
                self.judge("a snapshot of a lazy home", &e);
                self.tell(home.number, "snapshot from afar", &Err::<(), _>(e));
                return;
            }
            Err(e) => panic!("{e}"),
        };
        self.storage
            .note(&format!("{} takes {message}", home.number));
        self.model().taken.push((id, home.files.clone()));
        home.kept.push(id);
    }

    fn push(&self, home: &mut Home, there: &Repository) {
        let mut ids = Vec::new();
        for _ in 0..=home.dice.below(3) {
            ids.extend(home.dice.pick(&home.kept).filter(|id| !ids.contains(id)));
        }
        let begin = self.storage.now();
        let done = send(&home.here, there, &ids);
        match &done {
            Ok(done) => {
                // Who was told of an old root may have been told that nothing was to be done.
                let added = &done.state.operation().added;
                let is_sure = |id: &SnapshotId| {
                    self.profile.stale == 0 || done.snapshots > 0 && added.contains(id)
                };
                let (sure, unsure): (Vec<_>, Vec<_>) = ids.iter().partition(|id| is_sure(id));
                self.note(&sure, true, begin, true);
                self.note(&unsure, true, begin, false);
            }
            Err(e) => {
                self.note(&ids, true, begin, false);
                self.judge("a push", e);
            }
        }
        self.tell(home.number, "push", &done);
    }

    fn fetch(&self, home: &mut Home, there: &Repository) {
        let Some(id) = self.pick(there, &mut home.dice) else {
            return;
        };
        // What is kept there is there when it is asked for, whatever others do.
        let folder = if home.is_lazy { "homes" } else { "pins" };
        let name = format!("{folder}/{}/{id}", home.number);
        let is_kept = (home.is_lazy || home.dice.one_in(2))
            && self.set_ref(home.number, there, &name, Some(id)).is_ok();
        if home.is_lazy && !is_kept {
            return;
        }
        if home.is_lazy {
            // What an earlier snapshot did not lean on is out of sight of the handle that took it.
            let seed = home.dice.next();
            home.here = self.open_home(home, Some(home.number), seed);
        }
        let done = match home.is_lazy {
            true => transfer_without_packs(there, &home.here, whole(&[id])),
            false => transfer(there, &home.here, whole(&[id]), &|_| {}),
        };
        self.tell(home.number, "fetch", &done);
        let found = done.and_then(|_| {
            if !home.kept.contains(&id) {
                home.kept.push(id);
            }
            read(&home.here, id)
        });
        match found {
            Ok(files) if files == *self.model().files(&id) => {}
            Ok(_) => self.wrong(format!("{id} was fetched and is another")),
            Err(Error::NoSnapshot { .. }) if is_kept => {
                self.wrong(format!("{id} was kept and is gone"));
            }
            // It may have gone in the meantime.
            Err(e) if is_kept || self.model().removals(&id) == 0 => self.judge("a fetch", &e),
            Err(_) => {}
        }
        if is_kept && !home.is_lazy {
            // One that stays keeps a snapshot, and does no harm.
            let _ = self.set_ref(home.number, there, &name, None);
        }
    }

    /// Has the storage keep a snapshot, or not any more.
    fn set_ref(
        &self,
        who: usize,
        there: &Repository,
        name: &str,
        to: Option<SnapshotId>,
    ) -> Result<()> {
        let done = there.state().and_then(|state| {
            let change = RefChange {
                name: name.to_owned(),
                from: state.get_ref(name),
                to,
            };
            let refs = Vec::from_iter((change.from != to).then_some(change));
            there.commit(Change {
                refs,
                ..Change::default()
            })
        });
        self.tell(who, "keeping", &done);
        done.map(drop)
    }

    /// One of the snapshots at the storage.
    fn pick(&self, there: &Repository, dice: &mut Dice) -> Option<SnapshotId> {
        let state = match there.state() {
            Ok(state) => state,
            Err(e) => {
                self.judge("a look at the root", &e);
                return None;
            }
        };
        let ids: Vec<_> = state.snapshots().map(|row| row.id).collect();
        dice.pick(&ids)
    }

    /// Reads a snapshot at the storage.
    fn look(&self, there: &Repository, dice: &mut Dice) {
        let Some(id) = self.pick(there, dice) else {
            return;
        };
        let found = read(there, id);
        self.tell(READER, "reading", &found);
        let model = self.model();
        let is_right = found.as_ref().map(|files| files == model.files(&id));
        let removals = model.removals(&id);
        drop(model);
        match is_right {
            Ok(true) => {}
            Ok(false) => self.wrong(format!("{id} is read and is another")),
            Err(e) if removals == 0 => self.judge("a reader", e),
            Err(_) => {}
        }
    }

    /// Takes snapshots out of a home, and packs.
    fn forget(&self, home: &mut Home) {
        if home.kept.len() > 1 {
            let gone = home.kept.remove(home.dice.below(home.kept.len()));
            remove(&home.here, &[gone]);
        }
        let how = Collect {
            grace: 0,
            repack: OFTEN,
            ..Collect::at(4_000_000_000)
        };
        match home.here.collect(Operation::default(), how) {
            Err(e) if home.is_lazy => self.judge("a collection of a lazy home", &e),
            done => drop(done.unwrap()),
        }
    }

    fn prune(&self, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(PRUNER, dice);
        for _ in 0..steps {
            if let Some(id) = self.pick(&there, dice).filter(|_| dice.one_in(2)) {
                let begin = self.storage.now();
                // An attempt that is under way may have had its effect already.
                self.model().facts.push(Fact {
                    id,
                    is_there: false,
                    begin,
                    end: begin,
                    acknowledged: false,
                });
                let change = Change {
                    remove: vec![id],
                    ..Change::default()
                };
                let done = there.commit(change);
                self.note(&[id], false, begin, done.is_ok());
                self.tell(PRUNER, "removal", &done);
                if let Err(e) = done {
                    self.judge("a removal", &e);
                }
            }
            if self.storage.restart(PRUNER) {
                there = self.connect(PRUNER, dice);
            }
        }
    }

    fn watch(&self, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(READER, dice);
        for _ in 0..steps {
            self.look(&there, dice);
            if self.storage.restart(READER) || dice.one_in(3) {
                there = self.connect(READER, dice);
            }
        }
    }

    fn free(&self, step: CollectorStep, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(COLLECTOR, dice);
        for _ in 0..steps {
            let done = step(&there);
            self.tell(COLLECTOR, "collection", &done);
            if done.as_ref().is_ok_and(|rewritten| *rewritten > 0) {
                self.tell(COLLECTOR, "packing anew", &done);
            }
            if self.storage.restart(COLLECTOR) || dice.one_in(3) {
                there = self.connect(COLLECTOR, dice);
            }
        }
    }

    /// A part of the history, with everyone at once.
    fn round(&self, homes: &mut [Home], dice: &mut Dice) {
        let mut actors: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        for home in homes {
            let steps = 3 + dice.below(10);
            actors.push(Box::new(move || self.live(home, steps)));
        }
        let (steps, mut chance) = (1 + dice.below(4), Dice::new(dice.next()));
        actors.push(Box::new(move || self.watch(&mut chance, steps)));
        let (steps, mut chance) = (1 + dice.below(6), Dice::new(dice.next()));
        actors.push(Box::new(move || self.prune(&mut chance, steps)));
        if let Some(step) = self.collector {
            let (steps, mut chance) = (1 + dice.below(4), Dice::new(dice.next()));
            actors.push(Box::new(move || self.free(step, &mut chance, steps)));
        }
        for panic in self.storage.run(actors) {
            self.wrong(panic);
        }
    }

    /// Compares the storage with the model while nobody does anything.
    fn check(&self) {
        let there = self.as_it_is();
        let state = there.state().unwrap();
        let found: BTreeSet<SnapshotId> = state.snapshots().map(|row| row.id).collect();
        let mut wrong = Vec::new();
        let model = self.model();
        for (id, files) in &model.taken {
            let is_there = found.contains(id);
            if model.must(id) && !is_there {
                wrong.push(format!("{id} was acknowledged and is not there"));
            }
            if is_there && !model.may(id) {
                wrong.push(format!("{id} was removed and is there"));
            }
            if is_there {
                match read(&there, *id) {
                    Ok(read) if read == *files => {}
                    Ok(_) => wrong.push(format!("{id} is another at the storage")),
                    Err(e) => wrong.push(format!("{id} cannot be read at the storage: {e}")),
                }
            }
        }
        drop(model);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    fn check_home(&self, home: &Home) {
        let here = self.calm(home);
        let state = here.state().unwrap();
        let found: BTreeSet<SnapshotId> = state.snapshots().map(|row| row.id).collect();
        if found != home.kept.iter().copied().collect() {
            self.wrong(format!("home {} has other snapshots", home.number));
        }
        for id in found {
            match read(&here, id) {
                Ok(files) if files == *self.model().files(&id) => {}
                Ok(_) => self.wrong(format!("{id} is another in home {}", home.number)),
                Err(e) => self.wrong(format!("{id} cannot be read in home {}: {e}", home.number)),
            }
        }
    }

    /// Once nothing fails any more, every home gets all that it has to the storage, and all of it
    /// is whole.
    fn settle(&self, homes: &[Home]) {
        self.storage.land_all();
        self.check();
        for home in homes {
            self.check_home(home);
            let there = self.as_it_is();
            let begin = self.storage.now();
            match send(&self.calm(home), &there, &home.kept) {
                Ok(_) => self.note(&home.kept, true, begin, true),
                Err(e) => self.wrong(format!("a last push: {e} ({e:?})")),
            }
        }
        if let Some(step) = self.collector {
            let there = self.as_it_is();
            for _ in 0..4 {
                if let Err(e) = step(&there) {
                    self.wrong(format!("a last collection: {e} ({e:?})"));
                }
            }
            // What nothing names is gone.
            let named = there.state().unwrap().named_packs();
            for listed in there.objects().list("packs/").unwrap() {
                let name = listed.key.strip_prefix("packs/").unwrap().parse().unwrap();
                if !named.contains(&name) {
                    self.wrong(format!("{name} is garbage that stays"));
                }
            }
        }
        self.check();
        let state = self.as_it_is().state().unwrap();
        let covered: u64 = state.index_segments().map(|row| u64::from(row.packs)).sum();
        self.model().counts.entry("segments").or_default().0 += covered;
        for place in homes
            .iter()
            .map(|home| self.calm(home))
            .chain([self.as_it_is()])
        {
            let report = place.verify(Verify::ReadData).unwrap();
            // No segment is deleted that the latest root lists.
            if !report.is_good() || !report.bad_segments.is_empty() {
                self.wrong(format!("{}: {report:?}", place.location()));
            }
        }
    }

    /// Notes that snapshots were to come or go since `begin`.
    fn note(&self, ids: &[SnapshotId], is_there: bool, begin: u64, acknowledged: bool) {
        let now = self.storage.now();
        let end = match acknowledged {
            true => now,
            false => now + LATE_MAX as u64,
        };
        let facts = ids.iter().map(|id| Fact {
            id: *id,
            is_there,
            begin,
            end,
            acknowledged,
        });
        self.model().facts.extend(facts);
    }
}

/// As a push does it: packs whose names are used up there get others.
fn send(here: &Repository, there: &Repository, ids: &[SnapshotId]) -> Result<Transferred> {
    for _ in 0..8 {
        match transfer(here, there, whole(ids), &|_| {}) {
            Err(Error::NamesUsedUp { packs, floor }) => {
                here.rename_packs(&packs, floor, Operation::default())?;
            }
            done => return done,
        }
    }
    transfer(here, there, whole(ids), &|_| {})
}

fn whole(snapshots: &[SnapshotId]) -> Transfer {
    Transfer {
        snapshots: snapshots.to_vec(),
        ..Transfer::default()
    }
}

/// What a history is to be like, beside its seed.
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    /// The seed chooses, unless one is given.
    profile: Option<Profile>,
    collector: Option<CollectorStep>,
}

const PLAN: Plan = Plan {
    profile: None,
    collector: COLLECTOR_STEP,
};

/// What came of a seed.
struct Outcome {
    trace: u64,
    wrong: Vec<String>,
    counts: Counts,
    log: Vec<String>,
}

fn run(seed: u64, plan: Plan, is_logged: bool) -> Outcome {
    let sim = Sim::new(seed, plan, is_logged);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut dice = Dice::new(seed ^ 0x0d1c_e000);
        sim.create_there(dice.next());
        let mut homes: Vec<Home> = (0..HOMES)
            .map(|number| sim.create_home(number, dice.next()))
            .collect();
        for _ in 0..=dice.below(3) {
            sim.round(&mut homes, &mut dice);
            sim.check();
        }
        sim.settle(&homes);
    }));
    if lived.is_err() && sim.model().wrong.is_empty() {
        sim.wrong("it panicked, see above".into());
    }
    let model = std::mem::take(&mut *sim.model());
    Outcome {
        trace: sim.storage.trace(),
        wrong: model.wrong,
        counts: model.counts,
        log: sim.storage.log(),
    }
}

/// Seeds that went wrong, with what did.
type Failed = Vec<(u64, Vec<String>)>;

/// Runs the first so many seeds, until some have failed.
fn run_all(seeds: u64, plan: Plan, failed_at_most: usize) -> (Failed, Counts) {
    let next = AtomicU64::new(0);
    let all = Mutex::new((Failed::new(), Counts::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while all.lock().unwrap().0.len() < failed_at_most {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = run(seed, plan, false);
                    let (failed, counts) = &mut *all.lock().unwrap();
                    for (what, (done, failed)) in outcome.counts {
                        let sum = counts.entry(what).or_default();
                        *sum = (sum.0 + done, sum.1 + failed);
                    }
                    if !outcome.wrong.is_empty() {
                        failed.push((seed, outcome.wrong));
                    }
                }
            });
        }
    });
    all.into_inner().unwrap()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(seed) = number("ZENITH_SEED") {
        let outcome = run(seed, PLAN, true);
        println!("{}", outcome.log.join("\n"));
        assert!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
        return;
    }
    let seeds = number("ZENITH_SEEDS").unwrap_or(SEEDS);
    let (failed, counts) = run_all(seeds, PLAN, 5);
    let told = failed.iter().map(|(seed, wrong)| {
        let wrong = wrong.join("\n  ");
        format!("ZENITH_SEED={seed} replays this:\n  {wrong}")
    });
    assert!(failed.is_empty(), "{}", told.collect::<Vec<_>>().join("\n"));
    println!("{seeds} seeds; done and failed: {counts:?}");
    for what in ["push", "fetch", "removal", "reading", "keeping"] {
        let (done, failed) = counts[what];
        assert!(
            done > 0 && failed > 0,
            "{what}: {done} done, {failed} failed"
        );
    }
    assert!(counts["packing anew"].0 > 0, "nothing was packed anew");
    assert!(counts["segments"].0 > 0, "no segment was written");
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let (once, again) = (run(seed, PLAN, true), run(seed, PLAN, true));
        assert_eq!(once.log, again.log, "seed {seed}");
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert!(once.log.len() > 20, "seed {seed} does nothing");
    }
}

/// A collector that believes the root it sees: what is on its way to a root it takes for garbage.
fn hasty(there: &Repository) -> Result<u64> {
    let state = there.state()?;
    let named: BTreeSet<String> = state.packs().map(|pack| pack.name.key()).collect();
    for listed in there.objects().list("packs/")? {
        if !named.contains(&listed.key) {
            there.objects().delete(&listed.key)?;
        }
    }
    Ok(0)
}

/// What would lose data is seen to.
#[test]
fn a_hasty_collector_is_found() {
    let plan = Plan {
        profile: None,
        collector: Some(hasty),
    };
    assert!(!run_all(SEEDS, plan, 1).0.is_empty());
}

/// A root that replaces another's loses what that one did.
#[test]
fn a_storage_whose_create_replaces_is_found() {
    let profile = Profile {
        create_replaces: true,
        ..Profile::default()
    };
    let plan = Plan {
        profile: Some(profile),
        collector: None,
    };
    assert!(!run_all(SEEDS, plan, 1).0.is_empty());
}
