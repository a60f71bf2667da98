//! What everyone knows, and what must therefore be there.

use super::*;

/// Snapshots came, or went, somewhere between two moments.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) id: SnapshotId,
    pub(super) is_there: bool,
    pub(super) begin: u64,
    /// An answer that was lost may be followed by its effect, much later.
    pub(super) end: u64,
    pub(super) acknowledged: bool,
}

/// What everyone knows.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Every snapshot that anyone took, in that order.
    pub(super) taken: Vec<(SnapshotId, Files)>,
    pub(super) facts: Vec<Fact>,
    /// What must not have happened.
    pub(super) wrong: Vec<String>,
    pub(super) counts: Counts,
}

/// How often each thing was done, and how often it failed.
pub(super) type Counts = BTreeMap<&'static str, (u64, u64)>;

impl Model {
    pub(super) fn files(&self, id: &SnapshotId) -> &Files {
        let taken = self.taken.iter().find(|(taken, _)| taken == id);
        &taken.expect("somebody took it").1
    }

    /// Whether a snapshot must be there: it was acknowledged, and whoever takes it out came before.
    pub(super) fn must(&self, id: &SnapshotId) -> bool {
        let mut facts = self.facts.iter().filter(|fact| fact.id == *id);
        let last = |fact: &&Fact| fact.is_there && fact.acknowledged;
        let Some(begin) = facts.clone().filter(last).map(|fact| fact.begin).max() else {
            return false;
        };
        !facts.any(|fact| !fact.is_there && fact.end >= begin)
    }

    /// Whether a snapshot may be there: it was brought, and not taken out for certain after that.
    pub(super) fn may(&self, id: &SnapshotId) -> bool {
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
    pub(super) fn removals(&self, id: &SnapshotId) -> usize {
        let facts = self.facts.iter().filter(|fact| fact.id == *id);
        facts.filter(|fact| !fact.is_there).count()
    }
}

impl Sim {
    /// Notes that snapshots were to come or go since `begin`.
    pub(super) fn note(&self, ids: &[SnapshotId], is_there: bool, begin: u64, acknowledged: bool) {
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
