//! Random histories of several homes at one storage, each decided by a seed: who is next, what goes
//! wrong, who is forgotten in the middle. What was acknowledged must be there, and what is there
//! must be what was stored. Some homes are lazy: they leave their packs at the storage and have it
//! hold what they build on. Some readers pin what they read. Several collectors free space, each
//! with its own clock and patience, beside looks at everything. Some storages have one writer, and
//! create nothing only where there is nothing.
//!
//! `ZENITH_SEED=n` replays one seed and tells its story; `ZENITH_SEEDS=n` runs so many.

mod collector;
mod home;
mod model;
mod pruner;
mod reader;
mod single;
mod storage;
mod verdict;

use super::dice::{memory_dir, seeded};
use super::*;
use crate::objects::Lazy;
use collector::{COLLECTOR_STEP, CollectorStep, OFTEN, Patience, hasty};
use home::{Home, send};
use model::{Counts, Fact, Model};
use single::Single;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use storage::{LATE_MAX, Profile, Storage};

const SEEDS: u64 = 1000;
/// Seeds run at once.
const THREADS: u64 = 2;
const HOMES: usize = 2;
/// Actors: the homes, a reader, a pruner and, if there are any, collectors.
const READER: usize = HOMES;
const PRUNER: usize = HOMES + 1;
const COLLECTOR: usize = HOMES + 2;
/// So many packs make an index segment.
const SEGMENT_PACKS: usize = 2;

/// One seed.
struct Sim {
    seal: Option<Seal>,
    profile: Profile,
    /// The number of a lazy home.
    lazy: Option<usize>,
    storage: Arc<Storage>,
    model: Mutex<Model>,
    collector: Option<CollectorStep>,
    collectors: usize,
    /// Where one home alone may write.
    single: Option<Single>,
    /// How often the storage was looked at as it is.
    looks: AtomicU64,
}

fn seal_of(dice: &mut Dice) -> Seal {
    let mut key = [0; 32];
    dice.fill(&mut key);
    let master = MasterKey::from_hex(&id::hex(&key)).unwrap();
    Seal::new(&master, &id::hex(&key[..16]))
}

impl Sim {
    fn new(seed: u64, plan: Plan, is_logged: bool) -> Sim {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let mut profile = plan.profile.unwrap_or_else(|| Profile {
            fails: dice.pick(&[0, 20, 100]).unwrap(),
            lost_answers: dice.pick(&[0, 10, 40]).unwrap(),
            late: dice.pick(&[0, 15, 60]).unwrap(),
            stale: dice.pick(&[0, 0, 3]).unwrap(),
            pauses: dice.pick(&[0, 50]).unwrap(),
            crashes: dice.pick(&[0, 150]).unwrap(),
            sticky: dice.one_in(2),
            create_replaces: false,
        });
        let seal = dice.one_in(4).then(|| seal_of(&mut dice));
        let lazy = dice.one_in(2).then_some(HOMES - 1);
        let takes_turns = match plan.writers {
            Writers::BySeed => dice.one_in(4).then_some(true),
            Writers::Many => None,
            Writers::OneWithoutTurns => Some(false),
        };
        if takes_turns.is_some() {
            profile.create_replaces = true;
            // What was given up and lands later replaces what is there: nothing can be done about
            // that.
            profile.late = 0;
        }
        let collectors = plan.collector.and_then(|_| dice.pick(&[1, 2, 2, 3]));
        let collectors = collectors.unwrap_or(0);
        Sim {
            seal,
            profile,
            lazy,
            storage: Storage::new(seed, profile, COLLECTOR + collectors, is_logged),
            model: Mutex::default(),
            collector: plan.collector,
            collectors,
            single: takes_turns.map(Single::new),
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
        // Another world each time: names are never had twice.
        let seed = u64::MAX - self.looks.fetch_add(1, Ordering::Relaxed);
        let there = self.open_there(self.writer().unwrap_or(0), None, seed);
        there.unwrap()
    }

    /// The storage's repository as an actor sees it, whose turn it is; tried until it answers.
    fn connect(&self, actor: usize, dice: &mut Dice) -> Repository {
        loop {
            let machine = self.machine_of(actor);
            if let Ok(there) = self.open_there(machine, Some(actor), dice.next()) {
                return there;
            }
            self.storage.restart(actor);
        }
    }

    fn create_there(&self, seed: u64) {
        let (objects, seal) = (self.storage.objects(None), self.seal.clone());
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        Repository::create_in(objects, SMALL, seal, index, operation, seeded(seed)).unwrap();
        self.hand_over(0);
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
        for (step, who) in self
            .collector
            .iter()
            .cycle()
            .zip(COLLECTOR..)
            .take(self.collectors)
        {
            let (steps, mut chance) = (1 + dice.below(4), Dice::new(dice.next()));
            actors.push(Box::new(move || self.free(who, *step, &mut chance, steps)));
        }
        for panic in self.storage.run(actors) {
            self.wrong(panic);
        }
    }
}

/// What a history is to be like, beside its seed.
#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    /// The seed chooses, unless one is given.
    profile: Option<Profile>,
    collector: Option<CollectorStep>,
    writers: Writers,
}

/// Who may write to the storage.
#[derive(Debug, Clone, Copy, Default)]
enum Writers {
    /// All, or one home alone where the storage cannot keep two apart.
    BySeed,
    /// All, whatever the storage does.
    #[default]
    Many,
    /// One home, whose programs do not wait for each other.
    OneWithoutTurns,
}

const PLAN: Plan = Plan {
    profile: None,
    collector: COLLECTOR_STEP,
    writers: Writers::BySeed,
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
            if dice.one_in(2) {
                sim.hand_over(dice.below(HOMES));
            }
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
    for what in [
        "push",
        "fetch",
        "removal",
        "reading",
        "keeping",
        "verification",
        "repair",
    ] {
        let (done, failed) = counts[what];
        assert!(
            done > 0 && failed > 0,
            "{what}: {done} done, {failed} failed"
        );
    }
    assert!(counts["packing anew"].0 > 0, "nothing was packed anew");
    let refused = counts["a push where another writes alone"].1;
    assert!(refused > 0, "nobody was refused");
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

/// What would lose data is seen to.
#[test]
fn a_hasty_collector_is_found() {
    let plan = Plan {
        collector: Some(hasty),
        ..Plan::default()
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
        ..Plan::default()
    };
    assert!(!run_all(SEEDS, plan, 1).0.is_empty());
}

/// So does one of the same home's, where its programs take no turns.
#[test]
fn programs_that_take_no_turns_are_found() {
    let plan = Plan {
        writers: Writers::OneWithoutTurns,
        ..PLAN
    };
    assert!(!run_all(SEEDS, plan, 1).0.is_empty());
}
