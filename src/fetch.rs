//! `fetch` and `pull`: what a remote has comes home.
//!
//! A fetch brings snapshots with their packs and moves `remote/<name>/<branch>`; local branches
//! stay where they are. A pull moves the branch that HEAD is on, too, and the managed cluster with
//! it, and only forward.
//!
//! The home's own ref at the storage, `homes/<id>`, is moved by a pull and not by a fetch: it says
//! what local commits build on, and a push takes it for what this home sent. What was only fetched
//! lies here whole and needs nobody's protection, but in a lazy home, which has its packs at the
//! storage alone: that one holds `homes/<id>/<branch>` there until it is complete, and what its commits
//! build on (`lazy`).

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use zenith_store::{
    Change, Operation, RefChange, Repository, SnapshotId, State, Transfer, follow_packs,
};

use crate::checkout;
use crate::error::{Error, Result};
use crate::event::{self, Event};
use crate::head::Head;
use crate::history::History;
use crate::home::{Home, LOCK_WAIT, Wait};
use crate::managed::{Managed, Presence, Refusal};
use crate::switch::{self, SwitchOptions, Switched};
use crate::sync::{self, Relation};
use crate::who::{operation, verb};

/// How much of a branch's history comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The tip and its ancestors, so many snapshots deep.
    Snapshots(NonZeroU64),
    /// All of it.
    Full,
}

impl Depth {
    /// The tip alone.
    pub const TIP: Depth = Depth::Snapshots(NonZeroU64::MIN);

    /// As people count: 0 is all.
    pub fn of(number: u64) -> Depth {
        NonZeroU64::new(number).map_or(Depth::Full, Depth::Snapshots)
    }
}

/// What to bring.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The remote's name.
    pub remote: String,
    /// Branches, without `branch/`; none for the one that HEAD is on and those known already.
    pub branches: Vec<String>,
    /// Every branch; what homes pushed aside under `diverged/` only where it is known already.
    pub all: bool,
    /// Every tag with its snapshot; otherwise only those whose snapshots are here.
    pub tags: bool,
    /// Forget branches that the remote has no more.
    pub prune: bool,
    /// How much history.
    pub depth: Depth,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who fetches, when.
    pub operation: Operation,
}

/// Where a branch of the remote stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Without `branch/`.
    pub branch: String,
    /// Where it was known to stand.
    pub from: Option<SnapshotId>,
    /// Where it stands.
    pub to: SnapshotId,
    /// Whether it left what was known of it behind.
    pub forced: bool,
    /// The local branch of this name, and how that stands to it.
    pub local: Option<(SnapshotId, Relation)>,
}

/// What a fetch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// Every branch that was asked about.
    pub branches: Vec<Fetched>,
    /// Tags that are new here.
    pub tags: Vec<(String, SnapshotId)>,
    /// Tags that stand elsewhere here, and are left.
    pub tags_kept: Vec<String>,
    /// Branches that the remote has no more, and that are forgotten here.
    pub pruned: Vec<String>,
    /// Number of snapshots that came.
    pub snapshots: u64,
    /// Packs that came.
    pub packs: u64,
    /// Stored bytes that came.
    pub bytes: u64,
    /// Older snapshots of these branches that stay at the remote.
    pub left: u64,
}

impl FetchReport {
    /// Whether anything changed here.
    pub fn is_up_to_date(&self) -> bool {
        let moved = self.branches.iter().any(|b| b.from != Some(b.to));
        !moved && self.snapshots == 0 && self.tags.is_empty() && self.pruned.is_empty()
    }
}

/// Brings branches of a remote home. An interrupted fetch goes on where it stopped: packs that
/// arrived stay.
///
/// Errors: `Refusal::BranchNotAtStorage`, and those of both repositories.
pub fn fetch(
    home: &Home,
    storage: &Repository,
    options: &FetchOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<FetchReport> {
    for _ in 0..sync::TRIES {
        match once(home, storage, options, on) {
            // It was deleted there since we looked.
            Err(Error::Store(zenith_store::Error::NoSnapshot { .. })) => {}
            done => return done,
        }
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: sync::TRIES,
    })
}

fn once(
    home: &Home,
    storage: &Repository,
    options: &FetchOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<FetchReport> {
    // The remote may take its time, so it is asked before the home is locked.
    let there = storage.state()?;
    let home_id = home.settings()?.home_id;
    let own = there.get_ref(&format!("homes/{home_id}"));
    let lock = home.lock("fetching", Wait::UpTo(sync::NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    if options.remote == sync::ORIGIN && home.is_lazy() && !options.dry_run {
        // What was repaired there lies under other names by now.
        follow_packs(storage, &local, options.operation.clone())?;
    }
    let here = local.state()?;
    let history = History::of(&there);

    let mut report = FetchReport::default();
    let mut wanted = BTreeSet::new();
    let mut all = BTreeSet::new();
    let mut refs = Vec::new();
    let noted = |branch: &str| format!("remote/{}/{branch}", options.remote);
    for branch in wanted_branches(home, &here, &there, storage, options)? {
        let Some(to) = there.get_ref(&format!("branch/{branch}")) else {
            continue;
        };
        wanted.extend(reach(&history, to, options.depth));
        all.extend(history.ancestors(to).iter().map(|node| node.id));
        let from = here.get_ref(&noted(&branch));
        if from != Some(to) {
            refs.push(RefChange {
                name: noted(&branch),
                from,
                to: Some(to),
            });
        }
        let ours = here.get_ref(&format!("branch/{branch}"));
        report.branches.push(Fetched {
            from,
            to,
            forced: from.is_some_and(|from| !history.descends(to, from)),
            local: ours.map(|ours| {
                let relation = sync::relation(&here, ours, &there, Some(to), own);
                (ours, relation)
            }),
            branch,
        });
    }
    for (name, id) in there.refs() {
        let Some(tag) = name.strip_prefix("tag/") else {
            continue;
        };
        match here.get_ref(name) {
            Some(found) if found == *id => continue,
            Some(_) => {
                report.tags_kept.push(tag.to_owned());
                continue;
            }
            None if options.tags => drop(wanted.insert(*id)),
            None if wanted.contains(id) || here.snapshot(id).is_some() => {}
            None => continue,
        }
        report.tags.push((tag.to_owned(), *id));
        refs.push(RefChange {
            name: name.clone(),
            from: None,
            to: Some(*id),
        });
    }
    if options.prune {
        for (name, at) in here.refs() {
            let Some(branch) = name.strip_prefix(&noted("")) else {
                continue;
            };
            if there.get_ref(&format!("branch/{branch}")).is_none() {
                report.pruned.push(branch.to_owned());
                refs.push(RefChange {
                    name: name.clone(),
                    from: Some(*at),
                    to: None,
                });
            }
        }
    }
    // In the order in which they were committed there, so that parents come first.
    let snapshots: Vec<SnapshotId> = there
        .snapshots()
        .map(|row| row.id)
        .filter(|id| wanted.contains(id) && here.snapshot(id).is_none())
        .collect();
    report.snapshots = snapshots.len() as u64;
    let stays = |id: &&SnapshotId| !wanted.contains(*id) && here.snapshot(id).is_none();
    report.left = all.iter().filter(stays).count() as u64;
    if options.dry_run || (refs.is_empty() && snapshots.is_empty()) {
        return Ok(report);
    }
    on(Event::Phase("fetching"));
    let what = Transfer {
        snapshots,
        refs,
        operation: options.operation.clone(),
    };
    let done = if options.remote == sync::ORIGIN {
        if home.is_lazy() {
            keep_there(storage, &home_id, &report, &options.operation, on)?;
        }
        sync::bring(home, storage, &local, what, on)?
    } else {
        // A lazy home looks for packs at its storage alone.
        sync::bring_packs(home, storage, &local, what, on)?
    };
    report.packs = done.packs;
    report.bytes = done.bytes;
    Ok(report)
}

/// Has the storage keep what a lazy home is going to read of it: its packs are nowhere else.
fn keep_there(
    storage: &Repository,
    home_id: &str,
    report: &FetchReport,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let there = storage.state()?;
    let branches = report.branches.iter();
    let branches = branches.map(|fetched| (fetched.branch.clone(), fetched.to));
    // No branch has a name that begins so.
    let tags = report.tags.iter().map(|(tag, at)| (format!("^{tag}"), *at));
    let refs: Vec<RefChange> = branches
        .chain(tags)
        .map(|(what, to)| {
            let name = format!("homes/{home_id}/{what}");
            RefChange {
                from: there.get_ref(&name),
                to: Some(to),
                name,
            }
        })
        .filter(|change| change.from != change.to)
        .collect();
    if refs.is_empty() {
        return Ok(());
    }
    sync::keep(storage, refs, operation, on)
}

/// Brings all packs that a lazy home left at its storage; their number and bytes. It is a home
/// like any other from then on. Interrupted, it is lazy still, and the same call goes on.
///
/// Errors: those of both repositories.
pub fn complete(
    home: &Home,
    storage: &Repository,
    on: &(dyn Fn(Event) + Sync),
) -> Result<(u64, u64)> {
    let lock = home.lock("fetching", Wait::UpTo(sync::NOTE_WAIT))?;
    let local = home.alone().writer(&lock)?;
    let follows = operation(storage.world(), verb::FETCH, "complete");
    follow_packs(storage, &local, follows)?;
    on(Event::Phase("fetching"));
    let done = zenith_store::complete(storage, &local, &|event| sync::tell(event, on))?;
    let mut settings = home.settings()?;
    // Everything is here by now. In the other order, what is kept there would be kept for ever if
    // we stopped in between.
    release(storage, &settings.home_id, on)?;
    settings.lazy = false;
    home.save_settings(&settings)?;
    Ok(done)
}

/// Nothing needs to be kept at the storage for a home that has it all.
fn release(storage: &Repository, home_id: &str, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    let there = storage.state()?;
    let folder = format!("homes/{home_id}/");
    let held = there.refs().iter();
    let refs: Vec<RefChange> = held
        .filter(|(name, _)| name.starts_with(&folder))
        .map(|(name, at)| RefChange {
            name: name.clone(),
            from: Some(*at),
            to: None,
        })
        .collect();
    if refs.is_empty() {
        return Ok(());
    }
    sync::keep(
        storage,
        refs,
        &operation(storage.world(), verb::FETCH, "complete"),
        on,
    )
}

/// Which branches are meant, all of them there.
fn wanted_branches(
    home: &Home,
    here: &State,
    there: &State,
    storage: &Repository,
    options: &FetchOptions,
) -> Result<BTreeSet<String>> {
    let names = there.refs().keys();
    let branches: Vec<&str> = names
        .filter_map(|name| name.strip_prefix("branch/"))
        .collect();
    let is_there = |name: &str| branches.contains(&name);
    if let Some(branch) = options.branches.iter().find(|name| !is_there(name)) {
        return Err(Refusal::BranchNotAtStorage {
            branch: branch.clone(),
            location: storage.location(),
            branches: branches
                .iter()
                .filter(|name| !name.starts_with("diverged/"))
                .map(|name| (*name).to_owned())
                .collect(),
        }
        .into());
    }
    if !options.branches.is_empty() {
        return Ok(options.branches.iter().cloned().collect());
    }
    let current = match home.head()? {
        Head::Branch(branch) => branch,
        Head::Detached(_) => home.settings()?.branch,
    };
    let folder = format!("remote/{}/", options.remote);
    let is_known = |name: &str| here.get_ref(&format!("{folder}{name}")).is_some();
    Ok(branches
        .iter()
        .filter(|name| {
            let all = options.all && !name.starts_with("diverged/");
            all || **name == current || is_known(name)
        })
        .map(|name| (*name).to_owned())
        .collect())
}

/// The snapshot and its surviving ancestors, as deep as asked for.
fn reach(history: &History, tip: SnapshotId, depth: Depth) -> BTreeSet<SnapshotId> {
    let Depth::Snapshots(depth) = depth else {
        return history.ancestors(tip).iter().map(|node| node.id).collect();
    };
    let mut found = BTreeSet::new();
    let mut level = BTreeSet::from([tip]);
    for _ in 0..depth.get() {
        let nodes = level.iter().filter_map(|id| history.get(*id));
        let above: BTreeSet<SnapshotId> = nodes.flat_map(|node| node.parents.clone()).collect();
        found.extend(level.into_iter().filter(|id| history.get(*id).is_some()));
        level = above.difference(&found).copied().collect();
        if level.is_empty() {
            break;
        }
    }
    found
}

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The remote's name.
    pub remote: String,
    /// The branch that HEAD is on.
    pub branch: String,
    /// How much history.
    pub depth: Depth,
    /// Changes of the managed cluster that no snapshot holds are discarded.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who pulls, when.
    pub operation: Operation,
}

/// What a pull did to the branch.
#[derive(Debug, Clone)]
pub enum Pulled {
    /// Both are the same.
    UpToDate {
        /// The tip.
        tip: SnapshotId,
    },
    /// The branch here has all of it and more.
    Ahead {
        /// The tip here.
        ours: SnapshotId,
        /// The tip there.
        theirs: SnapshotId,
    },
    /// The branch moved forward, or would.
    Moved {
        /// Where it was.
        from: Option<SnapshotId>,
        /// Where it is.
        to: SnapshotId,
        /// What became of the managed cluster, where there is one.
        switched: Option<Box<Switched>>,
    },
}

/// Fetches a branch and moves the local one there, with the managed cluster: only forward. What
/// no snapshot holds of the cluster is saved first, as `checkout` does.
///
/// The branch moves last. If we stop before that, the same command completes it.
///
/// Errors: `PullDiverged`, `Refusal::PullRunning` when the cluster would have to move, and those
/// of [`fetch`] and [`switch::managed`].
pub fn pull(
    managed: &Managed,
    storage: &Repository,
    options: &PullOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<(FetchReport, Pulled)> {
    let on = &event::once(on);
    let (home, branch) = (&managed.home, &options.branch);
    let what = FetchOptions {
        remote: options.remote.clone(),
        branches: vec![branch.clone()],
        all: false,
        tags: false,
        prune: false,
        depth: options.depth,
        dry_run: options.dry_run,
        operation: options.operation.clone(),
    };
    let report = fetch(home, storage, &what, on)?;
    let fetched = report.branches.first().ok_or_else(|| Error::Internal {
        what: format!("branch {branch} was fetched and is not reported"),
    })?;
    let to = fetched.to;
    let mine = format!("homes/{}", home.settings()?.home_id);
    let from = match fetched.local {
        Some((ours, Relation::Same)) => {
            if !options.dry_run {
                // We may have stopped right before this.
                sync::hold(storage, &mine, to, &options.operation, on)?;
            }
            return Ok((report, Pulled::UpToDate { tip: ours }));
        }
        Some((ours, Relation::Ahead)) => {
            let pulled = Pulled::Ahead { ours, theirs: to };
            return Ok((report, pulled));
        }
        Some((ours, Relation::Diverged)) => {
            return Err(Error::PullDiverged {
                branch: branch.clone(),
                remote: options.remote.clone(),
                ours,
                theirs: to,
            });
        }
        Some((ours, Relation::Behind | Relation::New)) => Some(ours),
        None => None,
    };
    let goes_on =
        checkout::pending(home)?.is_some_and(|journal| journal.snapshot == to.to_string());
    let has_cluster = goes_on || managed.presence()? != Presence::Missing;
    if let (true, Some(postmaster)) = (has_cluster, managed.postmaster()?) {
        return Err(Refusal::PullRunning {
            pgdata: home.pgdata(),
            pid: postmaster.pid,
            id: to.short(),
            upstream: format!("{}/{branch}", options.remote),
        }
        .into());
    }
    let mut switched = None;
    if !options.dry_run {
        if has_cluster {
            let how = SwitchOptions {
                force: options.force,
                part_of: Some(options.operation.clone()),
                ..SwitchOptions::default()
            };
            let head = Head::Branch(branch.clone());
            let moved = switch::managed(managed, to, &head, &how, on)?;
            switched = Some(Box::new(moved));
        }
        advance(home, branch, from, to, &options.operation)?;
        sync::hold(storage, &mine, to, &options.operation, on)?;
    }
    Ok((report, Pulled::Moved { from, to, switched }))
}

/// Moves a local branch.
///
/// Errors: `Store(RefMoved)` when somebody else did meanwhile.
fn advance(
    home: &Home,
    branch: &str,
    from: Option<SnapshotId>,
    to: SnapshotId,
    operation: &Operation,
) -> Result<()> {
    let lock = home.lock("pull", Wait::UpTo(LOCK_WAIT))?;
    let local = home.writer(&lock)?;
    let refs = vec![RefChange {
        name: format!("branch/{branch}"),
        from,
        to: Some(to),
    }];
    local.commit(Change {
        refs,
        operation: operation.clone(),
        ..Change::default()
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{id, node};

    #[test]
    fn depth_counts_snapshots_and_ends_with_the_history() {
        // 1 ◂ 2 ◂ 4 ◂ 5, with 3 as second parent of 4, and 9 deleted before 1.
        let history = History::from_nodes([
            node(1, &[9]),
            node(2, &[1]),
            node(3, &[1]),
            node(4, &[2, 3]),
            node(5, &[4]),
        ]);
        let reached = |depth: u64| -> Vec<u8> {
            let found = reach(&history, id(5), Depth::of(depth));
            found.iter().map(|id| id.0[0]).collect()
        };
        assert_eq!(reached(1), [5]);
        assert_eq!(reached(2), [4, 5]);
        assert_eq!(reached(3), [2, 3, 4, 5]);
        assert_eq!(reached(4), [1, 2, 3, 4, 5]);
        assert_eq!(reached(9), reached(0));
        assert_eq!(reached(0), [1, 2, 3, 4, 5]);
    }
}
