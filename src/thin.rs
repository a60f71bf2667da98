//! Space in a home: old automatic snapshots go by the policy, then what only they needed.

use zenith_store::{Change, Collect};

use crate::error::Result;
use crate::home::HomeLock;
use crate::managed::Managed;
use crate::retain::{self, Policy, Verdict};
use crate::who::operation;

/// What went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Number of snapshots.
    pub dropped: u64,
    /// Bytes of packs, less what had to be written anew.
    pub freed_bytes: u64,
}

/// Drops the snapshots that the settings do not keep, and collects their space.
///
/// Errors: `HomeInUse` when somebody reads packs; the snapshots are dropped then, and the next
/// call collects.
pub fn thin(managed: &Managed, lock: &HomeLock) -> Result<Thinned> {
    let repo = managed.home.writer(lock)?;
    let state = repo.state()?;
    let keep = &managed.settings.keep;
    let policy = Policy {
        all_hours: keep.all_hours,
        hourly_days: keep.hourly_days,
        daily_days: keep.daily_days,
        monthly_months: keep.monthly_months,
    };
    let candidates = retain::candidates(&state, &managed.needed()?);
    let now = jiff::Timestamp::now().as_second();
    let remove: Vec<_> = candidates
        .iter()
        .zip(retain::decide(&candidates, &policy, now))
        .filter(|(_, verdict)| *verdict == Verdict::Drop)
        .map(|(candidate, _)| candidate.id)
        .collect();
    let dropped = remove.len() as u64;
    if dropped > 0 {
        let operation = operation("thin", format!("{dropped} automatic snapshots"));
        repo.commit(Change {
            remove,
            operation,
            ..Change::default()
        })?;
    }
    let _alone = managed.home.collect_guard()?;
    let collected = repo.collect(operation("gc", ""), Collect::at(now))?;
    Ok(Thinned {
        dropped,
        freed_bytes: collected.bytes.saturating_sub(collected.rewritten),
    })
}
