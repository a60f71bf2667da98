//! Who frees space at the storage.

use super::*;

/// One step of a collector of the storage, through its own repository. Its errors are its own
/// business: what counts is what is there afterwards. The bytes that it packed anew.
pub(super) type CollectorStep = fn(&Repository, Patience) -> Result<u64>;

/// What a collector says what the time is, and how many seconds it leaves what is condemned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    now: i64,
    grace: i64,
}

impl Patience {
    /// Later than everything in the world.
    pub(super) const NONE: Patience = Patience {
        now: 5_000_000_000,
        grace: 0,
    };
}

/// What is run against the storage to free space there.
pub(super) const COLLECTOR_STEP: Option<CollectorStep> = Some(collect_beside);

/// Clocks differ by so many seconds, of which each event takes one.
const SKEW: usize = 500;

/// All that can be packed anew is.
pub(super) const OFTEN: Repack = Repack {
    traffic: u64::MAX,
    poor_percent: 100,
    merged_from: 3,
};

/// Every session is over. Clocks only decide when to try.
pub(super) fn collect_beside(there: &Repository, patience: Patience) -> Result<u64> {
    let how = Collect {
        grace: patience.grace,
        sessions: 0,
        repack: OFTEN,
        ..Collect::at(patience.now)
    };
    Ok(there.collect(Operation::default(), how)?.rewritten)
}

impl Sim {
    /// One of several collectors, each a program of its own.
    pub(super) fn free(&self, who: usize, step: CollectorStep, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(who, dice);
        for _ in 0..steps {
            self.collect(who, &there, step, dice);
            if self.storage.restart(who) || dice.one_in(3) {
                there = self.connect(who, dice);
            }
        }
    }

    /// One run, with some patience or none.
    pub(super) fn collect(
        &self,
        who: usize,
        there: &Repository,
        step: CollectorStep,
        dice: &mut Dice,
    ) {
        let patience = Patience {
            // No two clocks are the same.
            now: 4_000_000_000 + self.storage.now() as i64 + dice.below(SKEW) as i64,
            grace: dice.pick(&[0, 0, 100]).unwrap(),
        };
        let done = step(there, patience);
        self.tell(who, "collection", &done);
        if done.as_ref().is_ok_and(|rewritten| *rewritten > 0) {
            self.tell(who, "packing anew", &done);
        }
    }
}

/// A collector that believes the root it sees: what is on its way to a root it takes for garbage.
pub(super) fn hasty(there: &Repository, _: Patience) -> Result<u64> {
    let state = there.state()?;
    let named: BTreeSet<String> = state.packs().map(|pack| pack.name.key()).collect();
    for listed in there.objects().list("packs/")? {
        if !named.contains(&listed.key) {
            there.objects().delete(&listed.key)?;
        }
    }
    Ok(0)
}
