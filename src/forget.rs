//! `snapshot delete`: one snapshot leaves the table, here or at a storage.

use zenith_store::{Change, RefChange, Repository, SnapshotId, State};

use crate::error::{Error, Result};
use crate::home::{LOCK_WAIT, Wait};
use crate::managed::{Managed, Refusal};
use crate::sync::{self, TRIES};
use crate::who::operation;

/// What goes, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The snapshot.
    pub id: SnapshotId,
    /// Branches that step back, and where to; nothing when they go with it.
    pub moved: Vec<(String, Option<SnapshotId>)>,
    /// Tags that go with it.
    pub tags: Vec<String>,
}

/// Deletes a snapshot. Its space is freed by the next collection. Where a branch or tag points at
/// it that takes `force`; a branch steps back to the nearest parent there is, a tag goes. What the
/// home stands on, or is on its way to, stays in any case, and so does what another home builds on.
///
/// Errors: `Refusal::{Referenced, Needed, Held}`, `Store(NoSnapshot)`.
pub fn forget(managed: &Managed, id: SnapshotId, force: bool, dry_run: bool) -> Result<Forgotten> {
    let lock = managed
        .home
        .lock("snapshot delete", Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let state = repo.state()?;
    let (plan, refs) = plan(&state, id, &managed.needed()?, force, &repo.location())?;
    if !dry_run {
        let operation = operation(managed.home.world(), "snapshot delete", id.short());
        repo.commit(Change {
            remove: vec![id],
            refs,
            operation,
        })?;
    }
    Ok(plan)
}

/// The same at a remote of this home, which notes where branches stand there now.
///
/// Errors: `Refusal::{Referenced, Held}`, `Store(NoSnapshot)`, `StorageBusy`, those of the storage.
pub fn forget_at(
    managed: &Managed,
    remote: &str,
    storage: &Repository,
    id: SnapshotId,
    force: bool,
    dry_run: bool,
) -> Result<Forgotten> {
    for _ in 0..TRIES {
        let state = storage.state()?;
        let (plan, refs) = plan(&state, id, &[], force, &storage.location())?;
        if dry_run {
            return Ok(plan);
        }
        let operation = operation(storage.world(), "snapshot delete", id.short());
        let change = Change {
            remove: vec![id],
            refs,
            operation,
        };
        match storage.commit(change) {
            Ok(state) => {
                let moved: Vec<&str> = plan.moved.iter().map(|(name, _)| name.as_str()).collect();
                sync::follow(&managed.home, remote, &state, &moved, "snapshot delete")?;
                return Ok(plan);
            }
            // Another home was faster; look again.
            Err(zenith_store::Error::RefMoved { .. } | zenith_store::Error::InUse { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: TRIES,
    })
}

fn plan(
    state: &State,
    id: SnapshotId,
    needed: &[(SnapshotId, &'static str)],
    force: bool,
    location: &str,
) -> Result<(Forgotten, Vec<RefChange>)> {
    let by: Vec<&str> = needed
        .iter()
        .filter(|(snapshot, _)| *snapshot == id)
        .map(|(_, what)| *what)
        .collect();
    if !by.is_empty() {
        let id = id.short();
        return Err(Refusal::Needed { id, by }.into());
    }
    let Some(row) = state.snapshot(&id) else {
        let location = location.to_owned();
        return Err(Error::Store(zenith_store::Error::NoSnapshot {
            id,
            location,
        }));
    };
    let at: Vec<&String> = state
        .refs()
        .iter()
        .filter(|(_, tip)| **tip == id)
        .map(|(name, _)| name)
        .collect();
    let held: Vec<&str> = at
        .iter()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("homes/") || name.starts_with("pins/"))
        .collect();
    if !held.is_empty() {
        return Err(Refusal::held(id, &held).into());
    }
    let shown = |name: &str| {
        name.split_once('/')
            .filter(|(kind, _)| matches!(*kind, "branch" | "tag"))
            .map(|(k, n)| {
                let kind = if k == "tag" { "tag" } else { "branch" };
                format!("{kind} `{n}`")
            })
    };
    let names: Vec<String> = at.iter().filter_map(|name| shown(name)).collect();
    if !names.is_empty() && !force {
        return Err(Refusal::Referenced {
            id: id.short(),
            refs: names,
        }
        .into());
    }
    let parent = row
        .parents
        .iter()
        .find(|parent| state.snapshot(parent).is_some())
        .copied();
    let mut plan = Forgotten {
        id,
        moved: Vec::new(),
        tags: Vec::new(),
    };
    let mut refs = Vec::new();
    for name in at {
        // What a remote is known to have is a note; without the snapshot it says nothing.
        let to = if let Some(branch) = name.strip_prefix("branch/") {
            plan.moved.push((branch.to_owned(), parent));
            parent
        } else {
            plan.tags
                .extend(name.strip_prefix("tag/").map(str::to_owned));
            parent.filter(|_| name.starts_with("remote/"))
        };
        refs.push(RefChange {
            name: name.clone(),
            from: Some(id),
            to,
        });
    }
    Ok((plan, refs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;
    use crate::home::Home;
    use crate::settings::Settings;

    #[test]
    fn where_head_stands_stays_even_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.create_repository(
            zenith_store::Params::default(),
            operation(home.world(), "init", ""),
        )
        .unwrap();
        home.complete(&Settings::new()).unwrap();
        let id = SnapshotId([7; 32]);
        home.set_head(&Head::Detached(id.to_string())).unwrap();
        let managed = Managed::open(home.dir()).unwrap();
        let error = forget(&managed, id, true, false).unwrap_err();
        assert!(
            matches!(error, Error::Managed(Refusal::Needed { .. })),
            "{error}"
        );
    }
}
