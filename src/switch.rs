//! `checkout`: the managed cluster moves to another snapshot, or a directory gets one.

use std::path::{Path, PathBuf};

use zenith_store::{
    Change, HeadMove, Operation, RefChange, Repository, SnapshotId, SnapshotKind, Stand, World,
};

use crate::checkout::journal::{self, Journal};
use crate::checkout::{self, CheckoutOptions, CheckoutReport};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::head::{self, Head};
use crate::home::{Home, HomeLock, LOCK_WAIT, Wait};
use crate::lazy;
use crate::managed::{Managed, Presence};
use crate::marker::Marker;
use crate::settings::OnDamage;
use crate::snapshot;
use crate::take::{self, Take, Taken};
use crate::who::operation;

/// Verbs of the operation log: a checkout that saved something, and one that discarded it.
pub(crate) const SAVED: &str = "checkout";
pub(crate) const FORCED: &str = "checkout --force";

/// How to check out.
#[derive(Debug, Clone, Default)]
pub struct SwitchOptions {
    /// Changes that no snapshot holds are discarded; those of the managed cluster can be brought
    /// back for a day.
    pub force: bool,
    /// The copy gets no guard. The managed cluster of an original never has one.
    pub unguarded: bool,
    /// Where tablespaces lie → where they are to lie.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Nobody waits for the disk.
    pub no_sync: bool,
    /// A branch that begins at the snapshot when it is checked out.
    pub new_branch: Option<String>,
    /// What is saved first gets a branch of its own.
    pub saves_beside: bool,
    /// What this is a part of, so that `undo` reverses both; otherwise an operation of its own.
    pub part_of: Option<Operation>,
}

/// What happened.
#[derive(Debug, Clone)]
pub struct Switched {
    /// What was made.
    pub report: CheckoutReport,
    /// What was saved of the managed cluster before it moved.
    pub saved: Option<Taken>,
    /// What was discarded of it, kept beside all branches for a day.
    pub discarded: Option<Taken>,
}

/// Makes a branch, or takes it back.
fn set_branch(
    managed: &Managed,
    lock: &HomeLock,
    name: &str,
    from: Option<SnapshotId>,
    to: Option<SnapshotId>,
    operation: Operation,
) -> Result<()> {
    let repo = managed.home.writer(lock)?;
    let refs = vec![RefChange {
        name: format!("branch/{name}"),
        from,
        to,
    }];
    repo.commit(Change {
        refs,
        operation,
        ..Change::default()
    })?;
    Ok(())
}

fn is_there(managed: &Managed, branch: &str, at: SnapshotId) -> Result<bool> {
    let tip = crate::publish::local_state(managed)?.get_ref(&format!("branch/{branch}"));
    Ok(tip == Some(at))
}

/// The move of this directory that is not complete.
fn pending(home: &Home, dir: &Path) -> Result<Option<Journal>> {
    let journal = checkout::pending(home)?;
    Ok(journal.filter(|journal| journal::same_dir(&journal.dir, dir)))
}

fn is_pending(home: &Home, dir: &Path) -> Result<bool> {
    Ok(pending(home, dir)?.is_some())
}

/// Sees that a branch can be made, before anything moves for it.
///
/// Errors: `NameInvalid`, `Refusal::NameTaken`.
fn refuse_taken(managed: &Managed, name: &str) -> Result<()> {
    head::check_new_name(name)?;
    let state = crate::publish::local_state(managed)?;
    crate::refs::refuse_taken(&state, &format!("branch/{name}"))
}

/// Moves the managed cluster, and HEAD with it. What no snapshot holds is saved first.
///
/// If we stop in between, start and snapshot refuse until the same command has completed it; HEAD
/// moves when all files are there, so that revisions that count from it mean the same then.
///
/// Errors: `ServerRunning`, `NotShutDown` (nothing can be saved), those of `checkout`.
pub fn managed(
    managed: &Managed,
    id: SnapshotId,
    to: &Head,
    options: &SwitchOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Switched> {
    let home = &managed.home;
    let pgdata = home.pgdata();
    let is_pending = is_pending(home, &pgdata)?;
    if let Some(new) = &options.new_branch
        && !(is_pending && is_there(managed, new, id)?)
    {
        refuse_taken(managed, new)?;
    }
    checkout::refuse_running(&pgdata)?;
    let lock = home.lock("checkout", Wait::UpTo(LOCK_WAIT))?;
    // What is whole but for the end of its journal may have been started and written to since.
    if pending(home, &pgdata)?.is_some_and(|journal| journal.snapshot != id.to_string()) {
        checkout::complete(home, &pgdata, |journal| {
            let begun = operation(
                home.world(),
                SAVED,
                journal.snapshot.get(..8).unwrap_or_default(),
            );
            let holds = journal.snapshot.parse().ok();
            moved(managed, &lock, journal.stood(), holds, &begun)
        })?;
    }
    let is_pending = self::is_pending(home, &pgdata)?;
    let presence = if is_pending {
        Presence::Whole
    } else {
        managed.presence()?
    };
    // All that it commits is one operation, which is undone as one.
    let whole = options
        .part_of
        .clone()
        .unwrap_or_else(|| whole(home.world(), id, options));
    // Before anything is made for it: one journal is all that a home has.
    if let (Presence::Whole, Some(other)) = (presence, checkout::pending(home)?)
        && !is_pending
    {
        let (dir, snapshot) = (other.dir, other.snapshot);
        return Err(Error::CheckoutPending { dir, snapshot });
    }
    let mut saved = None;
    let mut discarded = None;
    // The snapshot that is all of what the cluster was.
    let mut was = None;
    if presence == Presence::Whole && !is_pending && options.force {
        let taken = discard(managed, &lock, id, &whole, on);
        was = taken.as_ref().map(|taken| taken.report.id);
        discarded = taken.filter(|taken| !taken.report.unchanged);
    } else if presence == Presence::Whole && !is_pending {
        let here = home.head()?;
        let take = Take {
            message: format!("before checkout of {}", id.short()),
            kind: Some(SnapshotKind::Safety),
            // The branch that the cluster goes to must not get what it leaves behind.
            // A name of its own, or it would be told from what an older one holds.
            branch: match here == *to || options.saves_beside {
                true => Some(take::free_branch(
                    managed,
                    &format!("saved-{}", id.short()),
                )?),
                false => None,
            },
            skip_if_unchanged: true,
            part_of: Some(whole.clone()),
            ..Take::default()
        };
        let taken = take::take(managed, &lock, &take, on)?;
        was = Some(taken.report.id);
        saved = Some(taken).filter(|taken| !taken.report.unchanged);
    }
    let begun = pending(home, &pgdata)?.and_then(|journal| journal.stood());
    let from = match begun {
        Some(begun) => begun,
        None => Stand {
            head: home.head()?.to_string(),
            holds: was,
        },
    };
    let what = operation(home.world(), "checkout", id.short());
    lazy::hold(home, &lock, id, &what, on)?;
    // HEAD goes there together with the cluster, so that it must be there before. A move that was
    // cut off has made it already.
    if let Some(new) = &options.new_branch
        && !is_there(managed, new, id)?
    {
        set_branch(managed, &lock, new, None, Some(id), whole.clone())?;
    }
    let (repo, guard) = home.reader()?;
    let checkout_options = CheckoutOptions {
        unguarded: options.unguarded || managed.settings.primary,
        head: Some(to.clone()),
        from: Some(from.clone()),
        ..self::options(managed, options)
    };
    let moved = match presence {
        Presence::Whole => checkout::in_place(&repo, id, &pgdata, home, &checkout_options, on),
        Presence::Missing | Presence::HalfMade(_) => {
            checkout::to_new(&repo, id, &pgdata, &checkout_options, on)
        }
    };
    drop((repo, guard));
    let report = match (moved, &options.new_branch) {
        (Ok(report), _) => report,
        (Err(e), Some(new)) if !self::is_pending(home, &pgdata)? => {
            let undone = operation(home.world(), "branch", new);
            set_branch(managed, &lock, new, Some(id), None, undone)?;
            return Err(e);
        }
        (Err(e), _) => return Err(e),
    };
    managed.remember()?;
    self::moved(managed, &lock, Some(from), Some(id), &whole)?;
    journal::remove(home)?;
    Ok(Switched {
        report,
        saved,
        discarded,
    })
}

/// Tells the operation log where HEAD and the cluster went, unless they stayed.
fn moved(
    managed: &Managed,
    lock: &HomeLock,
    from: Option<Stand>,
    holds: Option<SnapshotId>,
    whole: &Operation,
) -> Result<()> {
    let head = managed.home.head()?.to_string();
    let to = Stand { head, holds };
    let Some(from) = from.filter(|from| *from != to) else {
        return Ok(());
    };
    let operation = Operation {
        head: Some(HeadMove { from, to }),
        ..whole.clone()
    };
    managed.home.writer(lock)?.commit(Change {
        operation,
        ..Change::default()
    })?;
    Ok(())
}

/// What the operation log says of it.
fn whole(world: &World, id: SnapshotId, options: &SwitchOptions) -> Operation {
    let verb = if options.force { FORCED } else { SAVED };
    let detail = match &options.new_branch {
        Some(new) => format!("-b {new} {}", id.short()),
        None => id.short(),
    };
    operation(world, verb, detail)
}

/// Keeps what a forced move discards, where that can be done: who forces it must not be stopped by
/// a cluster of which no snapshot can be taken.
fn discard(
    managed: &Managed,
    lock: &HomeLock,
    to: SnapshotId,
    whole: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Option<Taken> {
    let take = Take {
        message: format!("discarded by checkout of {}", to.short()),
        kind: Some(SnapshotKind::Safety),
        aside: true,
        skip_if_unchanged: true,
        part_of: Some(whole.clone()),
        ..Take::default()
    };
    let mut lenient = managed.clone();
    lenient.settings.snapshots.on_damage = OnDamage::Warn;
    match take::take(&lenient, lock, &take, on) {
        Ok(taken) => Some(taken),
        Err(e) => {
            on(Event::Warning(format!(
                "what is discarded cannot be brought back: {e}"
            )));
            None
        }
    }
}

/// Sees that nothing happened in an older checkout that is about to move.
///
/// Errors: `TargetChanged`, `ServerRunning`, those of the repository.
fn refuse_changed(repo: &Repository, dir: &Path) -> Result<()> {
    let Some(marker) = Marker::read(dir)? else {
        return Ok(());
    };
    checkout::refuse_running(dir)?;
    // What it was made from may be gone; then nobody can tell.
    let made_from: Option<SnapshotId> = marker.snapshot.parse().ok();
    let state = repo.state()?;
    let made_from = made_from.filter(|id| state.snapshot(id).is_some());
    match made_from {
        Some(id) if snapshot::is_as_made(repo, id, dir)? => Ok(()),
        _ => Err(Error::TargetChanged {
            dir: dir.to_owned(),
            id: marker.snapshot.chars().take(8).collect(),
        }),
    }
}

/// Makes a cluster in a directory: a new one, or an older checkout that moves.
///
/// Errors: `TargetChanged` without `force`, those of `checkout`.
pub fn directory(
    managed: &Managed,
    id: SnapshotId,
    dir: &Path,
    options: &SwitchOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Switched> {
    let home = &managed.home;
    if let Some(new) = &options.new_branch {
        refuse_taken(managed, new)?;
    }
    let checkout_options = self::options(managed, options);
    let is_checkout = dir.is_dir() && Marker::read(dir)?.is_some();
    let is_whole = dir.join("global/pg_control").exists();
    let report = if is_pending(home, dir)? || (is_checkout && is_whole) {
        let _lock = home.lock("checkout", Wait::UpTo(LOCK_WAIT))?;
        if pending(home, dir)?.is_some_and(|journal| journal.snapshot != id.to_string()) {
            checkout::complete(home, dir, |_| Ok(()))?;
        }
        let (repo, _guard) = home.reader()?;
        if !is_pending(home, dir)? && !options.force {
            refuse_changed(&repo, dir)?;
        }
        checkout::in_place(&repo, id, dir, home, &checkout_options, on)?
    } else {
        let (repo, _guard) = home.reader()?;
        checkout::to_new(&repo, id, dir, &checkout_options, on)?
    };
    if let Some(new) = &options.new_branch {
        let lock = home.lock("checkout", Wait::UpTo(LOCK_WAIT))?;
        set_branch(
            managed,
            &lock,
            new,
            None,
            Some(id),
            operation(home.world(), "branch", new),
        )?;
    }
    Ok(Switched {
        report,
        saved: None,
        discarded: None,
    })
}

fn options(managed: &Managed, options: &SwitchOptions) -> CheckoutOptions {
    CheckoutOptions {
        unguarded: options.unguarded,
        tablespace_mapping: options.tablespace_mapping.clone(),
        sync: !options.no_sync,
        threads: managed.settings.snapshots.threads.unwrap_or(0),
        owner: None,
        home: Some(managed.home.clone()),
        head: None,
        from: None,
    }
}
