//! A snapshot of the managed cluster, running or stopped, onto the branch where HEAD is.

use std::path::PathBuf;

use zenith_store::{Operation, Row, SnapshotId, SnapshotKind, State};

use crate::discarded;
use crate::error::Result;
use crate::event::Event;
use crate::facts::{Lineage, Summary};
use crate::head::{self, Head};
use crate::home::HomeLock;
use crate::lineage;
use crate::managed::Managed;
use crate::pg::Control;
use crate::snapshot::{self, SnapshotOptions, SnapshotReport};
use crate::who::{self, operation};

/// What is asked for, beyond the cluster itself.
#[derive(Debug, Clone, Default)]
pub struct Take {
    /// For people.
    pub message: String,
    /// Why it is taken.
    pub kind: Option<SnapshotKind>,
    /// Onto this branch instead of HEAD's; HEAD stays.
    pub branch: Option<String>,
    /// Beside all branches, for `undo`: no branch moves, nor does HEAD.
    pub aside: bool,
    /// Nothing is stored when nothing changed.
    pub skip_if_unchanged: bool,
    /// The server's checkpoint comes at once instead of being spread.
    pub fast: bool,
    /// Files that look unchanged are read, too.
    pub read_all: bool,
    /// The command, for the operation log.
    pub verb: &'static str,
    /// What this is a part of; otherwise an operation of its own.
    pub part_of: Option<Operation>,
    /// Another cluster of this machine instead of the managed one.
    pub cluster: Option<Elsewhere>,
}

/// A cluster that zenith does not manage.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Its directory.
    pub pgdata: PathBuf,
    /// How its server is reached; without one it is taken as stopped.
    pub dsn: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The snapshot, or the one that still says everything.
    pub report: SnapshotReport,
    /// The branch it is on.
    pub branch: String,
    /// Whether the branch was made for it, because HEAD was detached.
    pub new_branch: bool,
}

/// Takes it: online when the server runs, offline when it was shut down.
///
/// Errors: those of [`snapshot::online`] and [`snapshot::offline`], `Refusal::NoCluster`.
pub fn take(
    managed: &Managed,
    lock: &HomeLock,
    take: &Take,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Taken> {
    if take.cluster.is_none() {
        managed.require_cluster()?;
    }
    let repo = managed.home.writer(lock)?;
    let head = managed.home.head()?;
    let asked = take.branch.as_deref();
    let ours = match take.cluster {
        Some(_) => None,
        None => Some(Identity::of(managed)?),
    };
    let state = repo.state()?;
    let target = match take.aside {
        true => Target::aside(&state, &head, ours.as_ref())?,
        false => Target::of(&state, &head, asked, ours.as_ref())?,
    };
    let detail = if take.message.is_empty() {
        &target.branch
    } else {
        &take.message
    };
    let options = SnapshotOptions {
        branch: target.branch.clone(),
        parent: target.parent,
        aside: take.aside.then(|| target.branch.clone()),
        message: take.message.clone(),
        kind: take.kind.unwrap_or(SnapshotKind::Manual),
        skip_if_unchanged: take.skip_if_unchanged,
        fast: take.fast,
        threads: managed.settings.snapshots.threads.unwrap_or(0),
        on_damage: managed.settings.snapshots.on_damage,
        read_all: take.read_all,
        writer: managed.settings.snapshots.writer(),
        operation: match &take.part_of {
            Some(whole) => whole.clone(),
            None => operation(managed.home.world(), take.verb, detail.clone()),
        },
        host: who::host(),
        home: Some(managed.home.clone()),
    };
    let report = match (&take.cluster, managed.postmaster()) {
        (
            Some(Elsewhere {
                pgdata,
                dsn: Some(dsn),
            }),
            _,
        ) => snapshot::online(&repo, pgdata, dsn, &options, on)?,
        (Some(Elsewhere { pgdata, dsn: None }), _) => {
            snapshot::offline(&repo, pgdata, &options, on)?
        }
        (None, Ok(Some(postmaster))) => {
            let dsn = managed.dsn(&postmaster);
            snapshot::online(&repo, &managed.home.pgdata(), &dsn, &options, on)?
        }
        (None, Ok(None)) => snapshot::offline(&repo, &managed.home.pgdata(), &options, on)?,
        (None, Err(e)) => return Err(e),
    };
    // If we stop before this, HEAD is detached still, and the next snapshot goes on from this one
    // on the branch that is there by now.
    if target.leaves_detached && Some(report.id) != target.parent {
        managed
            .home
            .set_head(&Head::Branch(target.branch.clone()))?;
    }
    Ok(Taken {
        report,
        branch: target.branch,
        new_branch: target.is_new,
    })
}

/// What tells the managed cluster from others.
struct Identity {
    system_identifier: u64,
    lineage: Lineage,
}

impl Identity {
    fn of(managed: &Managed) -> Result<Identity> {
        let pgdata = managed.home.pgdata();
        let system_identifier = Control::read(&pgdata, managed.home.world())?.system_identifier;
        Ok(Identity {
            system_identifier,
            lineage: lineage::of(
                managed.home.world(),
                Some(&managed.home),
                &pgdata,
                system_identifier,
            )?,
        })
    }

    /// Whether the snapshot holds this cluster, in whatever state.
    fn is_in(&self, row: &Row) -> Result<bool> {
        Ok(Summary::decode(&row.summary, &row.id)?.system_identifier == self.system_identifier)
    }

    /// Whether the snapshot was taken of this cluster after it was last checked out.
    fn is_of_this_run(&self, row: &Row) -> Result<bool> {
        Ok(Summary::decode(&row.summary, &row.id)?.lineage == self.lineage)
    }
}

/// Where a snapshot goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    branch: String,
    /// Where the branch begins if it is new.
    parent: Option<SnapshotId>,
    is_new: bool,
    /// Whether HEAD goes along to the branch.
    leaves_detached: bool,
}

impl Target {
    /// A branch that was asked for, HEAD's, or `from-<id>` where HEAD is detached. `ours` is the
    /// managed cluster, if that is the one.
    ///
    /// A new branch of the managed cluster goes on from where HEAD is, and only its snapshots
    /// take a detached HEAD along.
    ///
    /// Errors: `NameInvalid`, `FactsDamaged`.
    fn of(
        state: &State,
        head: &Head,
        asked: Option<&str>,
        ours: Option<&Identity>,
    ) -> Result<Target> {
        let tip = |branch: &str| state.get_ref(&format!("branch/{branch}"));
        if let Some(branch) = asked {
            if tip(branch).is_none() {
                head::check_new_name(branch)?;
            }
            return Ok(Target {
                branch: branch.to_owned(),
                parent: Target::here(state, head, ours)?,
                is_new: tip(branch).is_none(),
                leaves_detached: false,
            });
        }
        let id = match head {
            Head::Branch(branch) => {
                return Ok(Target {
                    branch: branch.clone(),
                    parent: None,
                    is_new: false,
                    leaves_detached: false,
                });
            }
            Head::Detached(id) => id,
        };
        let parent: Option<SnapshotId> = id.parse().ok();
        // Free is also a branch that still stands at the snapshot, and one that goes on from there
        // with this very cluster: we stopped before HEAD went along.
        let is_free = |name: &str| -> Result<bool> {
            let Some(tip) = tip(name).filter(|tip| Some(*tip) != parent) else {
                return Ok(true);
            };
            match (state.snapshot(&tip), ours) {
                (Some(row), Some(ours)) => {
                    Ok(row.parents.first() == parent.as_ref() && ours.is_of_this_run(row)?)
                }
                _ => Ok(false),
            }
        };
        let branch = free_name(&format!("from-{}", &id[..8]), is_free)?;
        Ok(Target {
            is_new: tip(&branch).is_none(),
            branch,
            parent,
            leaves_detached: ours.is_some(),
        })
    }
}

impl Target {
    /// Beside all branches, in a folder named after where HEAD is.
    ///
    /// Errors: `FactsDamaged`.
    fn aside(state: &State, head: &Head, ours: Option<&Identity>) -> Result<Target> {
        Ok(Target {
            branch: discarded::folder(head),
            parent: Target::here(state, head, ours)?,
            is_new: false,
            leaves_detached: false,
        })
    }

    /// Where HEAD is, if that holds our cluster: one that took the place of another begins anew.
    fn here(state: &State, head: &Head, ours: Option<&Identity>) -> Result<Option<SnapshotId>> {
        let here = match head {
            Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")),
            Head::Detached(id) => id.parse().ok(),
        };
        Ok(match (here.and_then(|id| state.snapshot(&id)), ours) {
            (Some(row), Some(ours)) if ours.is_in(row)? => here,
            _ => None,
        })
    }
}

/// A branch that is not there yet: of this name, or with a number.
pub(crate) fn free_branch(managed: &Managed, name: &str) -> Result<String> {
    let state = crate::publish::local_state(managed)?;
    free_name(name, |name| {
        Ok(state.get_ref(&format!("branch/{name}")).is_none())
    })
}

/// The name itself, or with the first number that makes it free.
fn free_name(name: &str, is_free: impl Fn(&str) -> Result<bool>) -> Result<String> {
    let mut free = name.to_owned();
    let mut n = 2u64;
    while !is_free(&free)? {
        free = format!("{name}-{n}");
        n += 1;
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_a_number() {
        let free = |name, which: &str| free_name(name, |name| Ok(name == which)).unwrap();
        assert_eq!(free("from-a", "from-a"), "from-a");
        assert_eq!(free("from-a", "from-a-3"), "from-a-3");
    }
}
