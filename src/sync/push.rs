//! What a storage lacks of a branch, and the tags, on their way there.

use std::collections::BTreeSet;

use zenith_store::{
    Change, Operation, PackName, RefChange, Repository, SnapshotId, State, Transfer, transfer,
};

use super::{NOTE_WAIT, ORIGIN, Relation, TRIES, is_origin, relation, tell};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::history::History;
use crate::home::{Home, Wait};
use crate::who::verb;

/// What a push is to do.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Without `branch/`.
    pub branch: String,
    /// Nobody waits: a branch that moved does not refuse the push but turns it aside.
    pub background: bool,
    /// Who pushes, when; goes into the logs of both repositories.
    pub operation: Operation,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushReport {
    /// The storage had it all.
    UpToDate {
        /// Its tip.
        tip: SnapshotId,
    },
    /// The storage is ahead: its branch holds ours and more.
    Behind {
        /// Our tip.
        ours: SnapshotId,
        /// The storage's tip.
        theirs: SnapshotId,
    },
    /// Snapshots were sent and the branch was moved.
    Pushed {
        /// The tip now.
        tip: SnapshotId,
        /// Number of snapshots sent.
        snapshots: u64,
        /// Packs sent.
        packs: u64,
        /// Stored bytes sent.
        bytes: u64,
    },
    /// The storage's branch has what we lack; ours went to a branch of its own.
    Diverged {
        /// Our tip.
        ours: SnapshotId,
        /// The tip of the storage's branch.
        theirs: SnapshotId,
        /// The branch at the storage that holds ours, without `branch/`.
        branch: String,
        /// Stored bytes sent; 0 when it was there already.
        bytes: u64,
    },
}

/// Sends what the storage lacks of a branch and moves its branch there. An interrupted push goes
/// on where it stopped: what was stored stays.
///
/// Errors: `NothingToPush`, `Diverged` (not in the background), and those of both repositories.
pub fn push(
    home: &Home,
    storage: &Repository,
    options: &PushOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushReport> {
    push_to(home, storage, ORIGIN, options, on)
}

/// The same to any remote, of which the home notes what it has under `name`.
///
/// Errors: those of [`push`].
pub fn push_to(
    home: &Home,
    storage: &Repository,
    name: &str,
    options: &PushOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushReport> {
    let home_id = home.settings()?.home_id;
    let report =
        upload(home, storage, name, &home_id, options, on).map_err(|e| refused_or(storage, e))?;
    let (branch, tip) = match &report {
        PushReport::UpToDate { tip } | PushReport::Pushed { tip, .. } => (&options.branch, *tip),
        PushReport::Diverged { branch, ours, .. } => (branch, *ours),
        // What the storage has and we lack is for fetch to bring.
        PushReport::Behind { .. } => return Ok(report),
    };
    note(home, storage, name, branch, tip, &options.operation)?;
    Ok(report)
}

/// The part of a push that touches the storage.
fn upload(
    home: &Home,
    storage: &Repository,
    remote: &str,
    home_id: &str,
    options: &PushOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushReport> {
    let branch = &options.branch;
    let mine = format!("homes/{home_id}");
    let aside = format!("diverged/{home_id}/{branch}");
    for _ in 0..TRIES {
        // The storage may take its time, so it is asked before packs are kept from collection.
        let there = storage.state()?;
        let (local, guard) = home.reader()?;
        let here = local.state()?;
        let ours =
            here.get_ref(&format!("branch/{branch}"))
                .ok_or_else(|| Error::NothingToPush {
                    branch: branch.clone(),
                })?;
        let theirs = there.get_ref(&format!("branch/{branch}"));
        let own = there.get_ref(&mine);
        if own.is_none() {
            storage.refuse_other_writer(&there)?;
        }
        let target = match relation(&here, ours, &there, theirs, own) {
            Relation::New | Relation::Ahead => branch,
            Relation::Same => {
                storage.confirm()?;
                return Ok(PushReport::UpToDate { tip: ours });
            }
            Relation::Behind => {
                let theirs = theirs.expect("a branch that is ahead is there");
                return Ok(PushReport::Behind { ours, theirs });
            }
            Relation::Diverged if options.background => &aside,
            Relation::Diverged => {
                let theirs = theirs.expect("a branch that diverged is there");
                return Err(Error::Diverged {
                    branch: branch.clone(),
                    ours,
                    theirs,
                });
            }
        };
        let name = format!("branch/{target}");
        let snapshots = missing(&here, ours, &there, remote, own);
        let moved = |name: &str| RefChange {
            name: name.to_owned(),
            from: there.get_ref(name),
            to: Some(ours),
        };
        // A ref that stands where it should is no change.
        let refs: Vec<RefChange> = [moved(&name), moved(&mine)]
            .into_iter()
            .filter(|r| r.from != r.to)
            .collect();
        let number = snapshots.len() as u64;
        let sent = if refs.is_empty() {
            (0, 0)
        } else {
            if own.is_none() {
                // Whoever made the repository may have had a better server.
                storage.check_create()?;
            }
            on(Event::Phase("pushing"));
            let what = Transfer {
                snapshots,
                refs,
                operation: options.operation.clone(),
            };
            match transfer(&local, storage, what, &|event| tell(event, on)) {
                Ok(done) => (done.packs, done.bytes),
                Err(e) if is_overtaken(&e) => continue,
                // Collected there: the names are used up, so what is here goes under new ones.
                Err(zenith_store::Error::NamesUsedUp { packs, floor }) => {
                    drop(guard);
                    rename(home, &packs, floor, &options.operation)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let (packs, bytes) = sent;
        return Ok(if target == branch {
            PushReport::Pushed {
                tip: ours,
                snapshots: number,
                packs,
                bytes,
            }
        } else {
            let theirs = theirs.expect("a branch that diverged is there");
            PushReport::Diverged {
                ours,
                theirs,
                branch: aside,
                bytes,
            }
        });
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: TRIES,
    })
}

/// An error of a push, which is about the place as a whole where that takes nothing.
fn refused_or(storage: &Repository, error: Error) -> Error {
    match error {
        Error::Store(source) if source.is_write_refused() => Error::WriteRefused {
            location: storage.location(),
            source: Box::new(source),
        },
        error => error,
    }
}

/// Whether somebody was faster, and a push has to look again: a ref moved, or a snapshot that was
/// there is removed.
pub(super) fn is_overtaken(error: &zenith_store::Error) -> bool {
    use zenith_store::Error::{NoSnapshot, RefMoved};
    matches!(error, RefMoved { .. } | NoSnapshot { .. })
}

/// Gives packs of the home names that no storage has used up.
pub(super) fn rename(
    home: &Home,
    packs: &[PackName],
    floor: u64,
    operation: &Operation,
) -> Result<()> {
    let lock = home.lock("renaming packs", Wait::UpTo(NOTE_WAIT))?;
    let _alone = home.collect_guard()?;
    let local = home.writer(&lock)?;
    let operation = Operation {
        verb: verb::RENAME_PACKS.to_owned(),
        ..operation.clone()
    };
    Ok(local.rename_packs(packs, floor, operation)?)
}

/// What of the history of `tip` the storage lacks, in the order in which it was committed here.
/// Snapshots that were thinned before they were pushed are not in the table and never travel, nor
/// does what this home pushed before and was deleted there since. `own` is what this home is noted
/// for at the storage.
fn missing(
    local: &State,
    tip: SnapshotId,
    storage: &State,
    remote: &str,
    own: Option<SnapshotId>,
) -> Vec<SnapshotId> {
    let history = History::of(local);
    let mut wanted: BTreeSet<SnapshotId> = history.ancestors(tip).iter().map(|n| n.id).collect();
    // A note is about what lies there now only if what it names is there, or was removed there:
    // the storage may have been set back, or be another.
    let is_known = |id: &SnapshotId| storage.snapshot(id).is_some() || storage.was_removed(id);
    let refs = local.refs().iter();
    let folder = format!("remote/{remote}/");
    let noted = refs.filter(|(name, id)| name.starts_with(&folder) && is_known(id));
    for pushed in noted.map(|(_, id)| *id).chain(own) {
        for node in history.ancestors(pushed) {
            wanted.remove(&node.id);
        }
    }
    wanted.insert(tip);
    let rows = local.snapshots().map(|row| row.id);
    rows.filter(|id| wanted.contains(id) && storage.snapshot(id).is_none())
        .collect()
}

/// What a push of tags did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagsPushed {
    /// Tags that are new at the storage, with their snapshots.
    pub sent: Vec<(String, SnapshotId)>,
    /// Tags that stand at another snapshot there, which is left as it is.
    pub kept: Vec<String>,
    /// Stored bytes sent.
    pub bytes: u64,
}

/// Sends every tag that the storage has not, with the snapshot that it names. A tag of the same
/// name there is never moved.
///
/// Errors: those of both repositories.
pub fn push_tags(
    home: &Home,
    storage: &Repository,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<TagsPushed> {
    for _ in 0..TRIES {
        let there = storage.state()?;
        let (local, guard) = home.reader()?;
        let here = local.state()?;
        let mut done = TagsPushed::default();
        let (mut refs, mut wanted) = (Vec::new(), BTreeSet::new());
        for (name, id) in here.refs() {
            let Some(tag) = name.strip_prefix("tag/") else {
                continue;
            };
            match there.get_ref(name) {
                Some(found) if found == *id => {}
                Some(_) => done.kept.push(tag.to_owned()),
                None => {
                    done.sent.push((tag.to_owned(), *id));
                    wanted.insert(*id);
                    refs.push(RefChange {
                        name: name.clone(),
                        from: None,
                        to: Some(*id),
                    });
                }
            }
        }
        if refs.is_empty() {
            return Ok(done);
        }
        on(Event::Phase("pushing"));
        let snapshots = here.snapshots().map(|row| row.id);
        let what = Transfer {
            snapshots: snapshots
                .filter(|id| wanted.contains(id) && there.snapshot(id).is_none())
                .collect(),
            refs,
            operation: operation.clone(),
        };
        match transfer(&local, storage, what, &|event| tell(event, on)) {
            Ok(sent) => {
                done.bytes = sent.bytes;
                return Ok(done);
            }
            Err(e) if is_overtaken(&e) => {}
            // As in a push of a branch.
            Err(zenith_store::Error::NamesUsedUp { packs, floor }) => {
                drop(guard);
                rename(home, &packs, floor, operation)?;
            }
            Err(error) => return Err(refused_or(storage, error.into())),
        }
    }
    Err(Error::StorageBusy {
        location: storage.location(),
        tries: TRIES,
    })
}

/// Notes at home where a branch of a remote stands. What went to another place than the home's own
/// storage, by a flag or a variable, or to where that lay before, is not noted as being there.
fn note(
    home: &Home,
    storage: &Repository,
    remote: &str,
    branch: &str,
    tip: SnapshotId,
    operation: &Operation,
) -> Result<()> {
    let name = format!("remote/{remote}/{branch}");
    {
        let (local, _guard) = home.reader()?;
        if local.state()?.get_ref(&name) == Some(tip) {
            return Ok(());
        }
    }
    let lock = home.lock("noting a push", Wait::UpTo(NOTE_WAIT))?;
    if remote == ORIGIN && !is_origin(home, &storage.location())? {
        return Ok(());
    }
    let local = home.writer(&lock)?;
    let from = local.state()?.get_ref(&name);
    // Meanwhile another push may have noted the same, or the snapshot may have been deleted.
    if from == Some(tip) || local.state()?.snapshot(&tip).is_none() {
        return Ok(());
    }
    let refs = vec![RefChange {
        name,
        from,
        to: Some(tip),
    }];
    local.commit(Change {
        refs,
        operation: operation.clone(),
        ..Change::default()
    })?;
    Ok(())
}
