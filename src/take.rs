//! A snapshot of the managed cluster, running or stopped, onto the branch where HEAD is.

use std::path::PathBuf;

use zenith_store::{SnapshotId, SnapshotKind, State};

use crate::error::Result;
use crate::event::Event;
use crate::head::{self, Head};
use crate::home::HomeLock;
use crate::managed::{Managed, Presence, Refusal};
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
    /// Nothing is stored when nothing changed.
    pub skip_if_unchanged: bool,
    /// The server's checkpoint comes at once instead of being spread.
    pub fast: bool,
    /// Files that look unchanged are read, too.
    pub read_all: bool,
    /// The command, for the operation log.
    pub verb: &'static str,
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
    if take.cluster.is_none() && managed.presence()? != Presence::Whole {
        return Err(Refusal::NoCluster {
            dir: managed.home.dir().to_owned(),
        }
        .into());
    }
    let repo = managed.home.writer(lock)?;
    let head = managed.home.head()?;
    let asked = take.branch.as_deref();
    let target = Target::of(&*repo.state()?, &head, asked, take.cluster.is_none())?;
    let detail = if take.message.is_empty() {
        &target.branch
    } else {
        &take.message
    };
    let options = SnapshotOptions {
        branch: target.branch.clone(),
        parent: target.parent,
        message: take.message.clone(),
        kind: take.kind.unwrap_or(SnapshotKind::Manual),
        skip_if_unchanged: take.skip_if_unchanged,
        fast: take.fast,
        threads: managed.settings.snapshots.threads.unwrap_or(0),
        read_all: take.read_all,
        operation: operation(take.verb, detail.clone()),
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
    // If we stop before this, HEAD is detached still, and the next snapshot goes to the branch
    // that is there by now.
    if target.leaves_detached && !report.unchanged {
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
    /// A branch that was asked for, HEAD's, or `from-<id>` where HEAD is detached.
    ///
    /// A new branch of the managed cluster goes on from where HEAD is.
    ///
    /// Errors: `NameInvalid`.
    fn of(state: &State, head: &Head, asked: Option<&str>, is_managed: bool) -> Result<Target> {
        let there = |branch: &str| state.get_ref(&format!("branch/{branch}")).is_some();
        if let Some(branch) = asked {
            head::check_name(branch)?;
            let here = match head {
                Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")),
                Head::Detached(id) => id.parse().ok(),
            };
            return Ok(Target {
                branch: branch.to_owned(),
                parent: here.filter(|_| is_managed),
                is_new: !there(branch),
                leaves_detached: false,
            });
        }
        Ok(match head {
            Head::Branch(branch) => Target {
                branch: branch.clone(),
                parent: None,
                is_new: false,
                leaves_detached: false,
            },
            Head::Detached(id) => {
                let parent = id.parse().ok();
                let branch = free_name(&format!("from-{}", &id[..8]), |name| {
                    // A branch of that name that still stands at the snapshot may be used.
                    let tip = state.get_ref(&format!("branch/{name}"));
                    tip.is_none() || tip == parent
                });
                Target {
                    is_new: !there(&branch),
                    branch,
                    parent,
                    leaves_detached: true,
                }
            }
        })
    }
}

/// The name itself, or with the first number that makes it free.
fn free_name(name: &str, is_free: impl Fn(&str) -> bool) -> String {
    if is_free(name) {
        return name.to_owned();
    }
    let numbered = (2u64..).map(|n| format!("{name}-{n}"));
    numbered
        .into_iter()
        .find(|name| is_free(name))
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_a_number() {
        assert_eq!(free_name("from-a", |_| true), "from-a");
        assert_eq!(free_name("from-a", |name| name == "from-a-3"), "from-a-3");
    }
}
