//! Who frees space at the storage.

use super::*;

/// One step of a collector of the storage, through its own repository. Its errors are its own
/// business: what counts is what is there afterwards. The bytes that it packed anew.
pub(super) type CollectorStep = fn(&Repository) -> Result<u64>;

/// What is run against the storage to free space there.
pub(super) const COLLECTOR_STEP: Option<CollectorStep> = Some(collect_beside);

/// All that can be packed anew is.
pub(super) const OFTEN: Repack = Repack {
    traffic: u64::MAX,
    poor_percent: 100,
    merged_from: 3,
};

/// Without patience: every session is over, nothing waits. Clocks only decide when to try.
pub(super) fn collect_beside(there: &Repository) -> Result<u64> {
    let how = Collect {
        grace: 0,
        sessions: 0,
        repack: OFTEN,
        ..Collect::at(4_000_000_000)
    };
    Ok(there.collect(Operation::default(), how)?.rewritten)
}

impl Sim {
    pub(super) fn free(&self, step: CollectorStep, dice: &mut Dice, steps: usize) {
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
}

/// A collector that believes the root it sees: what is on its way to a root it takes for garbage.
pub(super) fn hasty(there: &Repository) -> Result<u64> {
    let state = there.state()?;
    let named: BTreeSet<String> = state.packs().map(|pack| pack.name.key()).collect();
    for listed in there.objects().list("packs/")? {
        if !named.contains(&listed.key) {
            there.objects().delete(&listed.key)?;
        }
    }
    Ok(0)
}
