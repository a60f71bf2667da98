//! What a checkout discarded by force: kept for a day beside all branches, so that `undo` brings
//! it back. The ref `undo/<branch>/<id8>`, or `undo/HEAD/<id8>` where HEAD was detached.

use std::collections::BTreeSet;

use zenith_store::{Change, RefChange, Repository, SnapshotId, State, World};

use crate::error::Result;
use crate::head::Head;
use crate::history::History;
use crate::who::operation;

/// The folder of the refs.
pub const FOLDER: &str = "undo/";
/// How long they stay.
const KEPT_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// No branch is called so.
const DETACHED: &str = "HEAD";

/// The folder of the refs of what is discarded while HEAD is here.
pub fn folder(head: &Head) -> String {
    let name = match head {
        Head::Branch(branch) => branch,
        Head::Detached(_) => DETACHED,
    };
    format!("{FOLDER}{name}")
}

/// The branch where HEAD was, of the full name of a ref; none where it was detached.
pub fn branch(full: &str) -> Option<&str> {
    let (branch, _) = full.strip_prefix(FOLDER)?.rsplit_once('/')?;
    (branch != DETACHED).then_some(branch)
}

/// What the home stands on or is on its way to, and what that is needed for.
type Needed<'a> = &'a [(SnapshotId, &'static str)];

/// Lets go what was discarded more than a day ago, or all of it `at_once`: the refs, and the
/// snapshots to which nothing else leads. What is needed stays. How many refs.
///
/// Errors: those of the repository.
pub(crate) fn expire(repo: &Repository, at_once: bool, needed: Needed<'_>) -> Result<u64> {
    let change = expired(&*repo.state()?, repo.world(), at_once, needed);
    let refs = change.refs.len() as u64;
    if refs > 0 {
        repo.commit(change)?;
    }
    Ok(refs)
}

/// What [`expire`] changes.
pub(crate) fn expired(state: &State, world: &World, at_once: bool, needed: Needed<'_>) -> Change {
    let until = world.unix_micros() - KEPT_MICROS;
    let is_old = |id: &SnapshotId| {
        let row = state.snapshot(id);
        at_once || row.is_none_or(|row| row.time.unix_micros < until)
    };
    let old = state.refs().iter();
    let old: Vec<(&String, SnapshotId)> = old
        .filter(|(name, id)| name.starts_with(FOLDER) && is_old(id))
        .filter(|(_, id)| !needed.iter().any(|(needed, _)| needed == *id))
        .map(|(name, id)| (name, *id))
        .collect();
    if old.is_empty() {
        return Change::default();
    }
    let led_to = led_to(state, |name| !old.iter().any(|(gone, _)| *gone == name));
    let gone: BTreeSet<SnapshotId> = old.iter().map(|(_, id)| *id).collect();
    let is_alone = |id: &SnapshotId| state.snapshot(id).is_some() && !led_to.contains(id);
    let refs = old.iter().map(|(name, id)| RefChange {
        name: (*name).clone(),
        from: Some(*id),
        to: None,
    });
    Change {
        remove: gone.into_iter().filter(is_alone).collect(),
        refs: refs.collect(),
        operation: operation(world, "thin", format!("({} discarded)", old.len())),
    }
}

/// Every snapshot to which one of these refs leads.
fn led_to(state: &State, counts: impl Fn(&String) -> bool) -> BTreeSet<SnapshotId> {
    let history = History::of(state);
    let tips = state.refs().iter().filter(|(name, _)| counts(name));
    tips.flat_map(|(_, tip)| history.ancestors(*tip))
        .map(|node| node.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_where_head_was() {
        let head = Head::Branch("feature/x".into());
        assert_eq!(folder(&head), "undo/feature/x");
        assert_eq!(branch("undo/feature/x/0a1b2c3d"), Some("feature/x"));
        let head = Head::Detached("0a".repeat(32));
        assert_eq!(branch(&format!("{}/0a1b2c3d", folder(&head))), None);
        assert_eq!(branch("branch/main"), None);
    }
}
