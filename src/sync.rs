//! A home and its storage, the remote `origin`: push, attach, and what is still to be pushed.
//!
//! Branches of a remote are known at home as `remote/<name>/<branch>`. A branch there only
//! ever moves forward, by compare-and-swap, so two homes that push at the same time lose nothing:
//! the later one finds that the branch moved. The storage keeps a ref `homes/<id>` at what each
//! home last pushed or fetched, so that nothing which its local commits build on is collected.
//!
//! The home's lock is never held during an upload. What is read locally is kept by the shared
//! guard against collection; the lock is taken afterwards, for the one commit that notes where
//! the storage stands. If we stop between the two, the next push finds the storage ahead of the
//! note and mends it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zenith_store::objects::{Environment, Exclusive, Objects, OpenOptions, StorageUrl, exclusive};
use zenith_store::{
    Change, IndexChoice, Operation, PackName, Params, RefChange, Repository, Row, Seal, SnapshotId,
    State, Transfer, TransferEvent, Transferred, World, transfer, transfer_without_packs,
};

use crate::error::{Error, Result};
use crate::event::{self, Event};
use crate::head::Head;
use crate::history::History;
use crate::home::{Home, Wait};
use crate::pin;
use crate::settings::Settings;
use crate::who::{operation, verb};

/// The remote that is the home's storage.
pub const ORIGIN: &str = "origin";
/// How often a push starts over because another home moved the branch meanwhile.
pub(crate) const TRIES: u32 = 8;
/// How long the note of a finished push waits for the home's lock.
pub(crate) const NOTE_WAIT: Duration = Duration::from_secs(60);

/// Opens the objects at a URL or path; see [`StorageUrl`]. `cwd` is what a relative path counts
/// from.
pub fn open_objects(
    url: &str,
    cwd: &Path,
    environment: &Environment,
    options: &OpenOptions,
) -> Result<Arc<dyn Objects>> {
    Ok(StorageUrl::parse(url, cwd)?.open(environment, options)?)
}

/// The objects of a home's storage, or of another place that it goes to. Where the home is declared
/// the only writer of its storage, its processes there take turns.
pub(crate) fn open_of(
    home: &Home,
    settings: &Settings,
    location: &str,
    environment: &Environment,
    options: &OpenOptions,
) -> Result<Arc<dyn Objects>> {
    let objects = open_objects(location, home.dir(), environment, options)?;
    if is_only_writer(settings, location) {
        return Ok(Arc::new(Exclusive::new(objects, home.storage_lock())));
    }
    Ok(objects)
}

/// The same for a repository there: it may write where this home alone may.
pub(crate) fn only_of(settings: &Settings, location: &str, repository: Repository) -> Repository {
    match is_only_writer(settings, location) {
        true => repository.only(&settings.home_id),
        false => repository,
    }
}

fn is_only_writer(settings: &Settings, location: &str) -> bool {
    settings.single_writer && settings.storage_dest.as_deref() == Some(location)
}

/// Sees that a repository may be made at a place of this machine: not in a cluster, whose files
/// would lie among its own, and not in the home, which is lost together with it.
///
/// Errors: `Url`, `TargetInvalid`.
pub fn refuse_unusable(location: &str, home: &Path) -> Result<()> {
    let url = StorageUrl::parse(location, Path::new("/"))?;
    let Some(dir) = url.local_path() else {
        return Ok(());
    };
    let invalid = |why: &str| Error::TargetInvalid {
        dir: dir.to_owned(),
        why: why.to_owned(),
    };
    // By real names, as far as there is something.
    let real = |path: &Path| {
        let mut rest = Vec::new();
        let mut there = path;
        loop {
            if let Ok(real) = there.canonicalize() {
                return rest.iter().rev().fold(real, |real, name| real.join(name));
            }
            match (there.parent(), there.file_name()) {
                (Some(above), Some(name)) => {
                    rest.push(name.to_owned());
                    there = above;
                }
                _ => return path.to_owned(),
            }
        }
    };
    if real(dir).starts_with(real(home)) {
        return Err(invalid("it is in the home, whose snapshots it is to keep"));
    }
    if dir.join("PG_VERSION").exists() || dir.join("global").exists() {
        return Err(invalid("it is a data directory of PostgreSQL"));
    }
    Ok(())
}

/// Notes at home where branches of a remote stand now, after something else than a push or fetch
/// moved them there. What is not noted yet stays so; `after` says what it was.
pub fn follow(
    home: &Home,
    remote: &str,
    there: &State,
    branches: &[&str],
    after: &str,
) -> Result<()> {
    let moves = |here: &State| -> Vec<RefChange> {
        let change = |branch: &&str| {
            let name = format!("remote/{remote}/{branch}");
            let from = here.get_ref(&name);
            let to = there.get_ref(&format!("branch/{branch}"));
            (from.is_some() && from != to).then_some(RefChange { name, from, to })
        };
        branches.iter().filter_map(change).collect()
    };
    if moves(&*home.state()?).is_empty() {
        return Ok(());
    }
    let lock = home.lock("noting a storage", Wait::UpTo(NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    let refs = moves(&*local.state()?);
    if refs.is_empty() {
        return Ok(());
    }
    // It tells what is, as a fetch does: there is nothing in it for a person to undo.
    local.commit(Change {
        refs,
        operation: operation(verb::FETCH, format!("after {after}")),
        ..Change::default()
    })?;
    Ok(())
}

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

/// How our branch and the storage's stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The storage has no such branch.
    New,
    /// Both are the same.
    Same,
    /// Ours goes on where the storage's ends.
    Ahead,
    /// The storage's goes on where ours ends.
    Behind,
    /// Each has what the other lacks.
    Diverged,
}

/// How tips stand, as far as both tables tell. `own` is what this home is noted for at the
/// storage.
pub(crate) fn relation(
    local: &State,
    ours: SnapshotId,
    remote: &State,
    theirs: Option<SnapshotId>,
    own: Option<SnapshotId>,
) -> Relation {
    let Some(theirs) = theirs else {
        return Relation::New;
    };
    if ours == theirs {
        return Relation::Same;
    }
    if History::of(local).descends(ours, theirs) {
        return Relation::Ahead;
    }
    if History::of(remote).descends(theirs, ours) {
        return Relation::Behind;
    }
    // A tip that this home pushed itself and removed afterwards, so that its descendants here no
    // longer name it. That it is not here proves nothing: the home may have been set back.
    let is_told = || {
        let history = History::of(local);
        let line = history.ancestors(ours);
        let rows = line.iter().filter_map(|node| local.snapshot(&node.id));
        let mut made_from = rows.filter_map(|row| row.made_from.as_ref());
        local.was_removed(&theirs) || made_from.any(|parents| parents.contains(&theirs))
    };
    if own == Some(theirs) && local.snapshot(&theirs).is_none() && is_told() {
        return Relation::Ahead;
    }
    Relation::Diverged
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
    note(home, name, branch, tip, &options.operation)?;
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

/// Says once what it means to read at a storage that takes nothing: its collection moves packs
/// under who reads, who looks again then, and what is pruned there is gone.
pub(crate) fn warn_reader(storage: &Repository, on: &(dyn Fn(Event) + Sync)) {
    on(Event::Warning(format!(
        "this user may not write to {}: it is read there only, and a prune there does not wait",
        storage.location()
    )));
}

/// Whether somebody was faster, and a push has to look again: a ref moved, or a snapshot that was
/// there is removed.
fn is_overtaken(error: &zenith_store::Error) -> bool {
    use zenith_store::Error::{NoSnapshot, RefMoved};
    matches!(error, RefMoved { .. } | NoSnapshot { .. })
}

/// Gives packs of the home names that no storage has used up.
fn rename(home: &Home, packs: &[PackName], floor: u64, operation: &Operation) -> Result<()> {
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

pub(crate) fn tell(event: TransferEvent, on: &(dyn Fn(Event) + Sync)) {
    match event {
        TransferEvent::Plan { bytes, .. } => on(Event::Total { bytes }),
        TransferEvent::Sent { bytes } => on(Event::Sent { bytes }),
    }
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

/// Notes at home where a branch of a remote stands.
fn note(
    home: &Home,
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

/// What [`attach`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// The storage has no snapshot at all.
    Empty,
    /// The storage has snapshots, on these branches, and none on the one asked for.
    NoBranch {
        /// Without `branch/`.
        branches: Vec<String>,
    },
    /// The home had the storage's tip, or is ahead of it.
    UpToDate {
        /// The home's tip.
        tip: SnapshotId,
    },
    /// The branch of the home is at the storage's tip now.
    Fetched {
        /// That tip.
        tip: SnapshotId,
        /// Stored bytes fetched.
        bytes: u64,
    },
}

/// Brings the newest snapshot of a branch of the storage into the home, and the home's branch to
/// it where that loses nothing. HEAD goes to the branch.
///
/// Errors: `Diverged` when the home has what the storage lacks, and the other way round; those of
/// both repositories.
pub fn attach(
    home: &Home,
    storage: &Repository,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Attached> {
    let on = &event::once(on);
    let there = storage.state()?;
    let Some(theirs) = there.get_ref(&format!("branch/{branch}")) else {
        if there.snapshots().next().is_none() {
            return Ok(Attached::Empty);
        }
        let names = there
            .refs()
            .keys()
            .filter_map(|name| name.strip_prefix("branch/"));
        return Ok(Attached::NoBranch {
            branches: names.map(str::to_owned).collect(),
        });
    };
    let home_id = home.settings()?.home_id;
    let lock = home.lock("fetching", Wait::UpTo(NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    let here = local.state()?;
    let (name, noted) = (
        format!("branch/{branch}"),
        format!("remote/origin/{branch}"),
    );
    let mine = format!("homes/{home_id}");
    if let Some(ours) = here.get_ref(&name) {
        match relation(&here, ours, &there, Some(theirs), there.get_ref(&mine)) {
            relation @ (Relation::Same | Relation::Ahead) => {
                if relation == Relation::Same {
                    // We may have stopped right before this.
                    hold(storage, &mine, theirs, operation, on)?;
                }
                home.set_head(&Head::Branch(branch.to_owned()))?;
                return Ok(Attached::UpToDate { tip: ours });
            }
            Relation::Behind | Relation::New => {}
            Relation::Diverged => {
                return Err(Error::Diverged {
                    branch: branch.to_owned(),
                    ours,
                    theirs,
                });
            }
        }
    }
    on(Event::Phase("fetching"));
    let refs = [name, noted].map(|name| RefChange {
        from: here.get_ref(&name),
        to: Some(theirs),
        name,
    });
    let what = Transfer {
        snapshots: vec![theirs],
        refs: refs.into_iter().filter(|r| r.from != r.to).collect(),
        operation: operation.clone(),
    };
    if home.is_lazy() {
        // Its packs stay there: from now on, and whatever the home pushes.
        hold(storage, &format!("{mine}/{branch}"), theirs, operation, on)?;
    }
    let done = bring(home, storage, &local, what, on)?;
    // Not before it is here: a push must never take what we failed to fetch for what we sent.
    hold(storage, &mine, theirs, operation, on)?;
    home.set_head(&Head::Branch(branch.to_owned()))?;
    Ok(Attached::Fetched {
        tip: theirs,
        bytes: done.bytes,
    })
}

/// Brings one snapshot of the storage into the home, whole and on no branch; the bytes fetched.
///
/// Errors: those of both repositories.
pub fn fetch(
    home: &Home,
    storage: &Repository,
    id: SnapshotId,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    let lock = home.lock("fetching", Wait::UpTo(NOTE_WAIT))?;
    let local = home.writer(&lock)?;
    on(Event::Phase("fetching"));
    let what = Transfer {
        snapshots: vec![id],
        operation: operation.clone(),
        ..Transfer::default()
    };
    Ok(bring(home, storage, &local, what, on)?.bytes)
}

/// Moves snapshots of its storage into a home; into a lazy one without their packs.
pub(crate) fn bring(
    home: &Home,
    storage: &Repository,
    local: &Repository,
    what: Transfer,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Transferred> {
    if home.is_lazy() {
        return Ok(transfer_without_packs(storage, local, what)?);
    }
    bring_packs(home, storage, local, what, on)
}

/// Moves snapshots of any remote into a home with their packs, which are not pruned there meanwhile.
pub(crate) fn bring_packs(
    home: &Home,
    remote: &Repository,
    local: &Repository,
    what: Transfer,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Transferred> {
    let home_id = home.settings()?.home_id;
    pin::during(remote, &home_id, &what.clone(), on, || {
        Ok(transfer(remote, local, what, &|event| tell(event, on))?)
    })
}

/// Has the storage keep what commits of a home build on from now on, under the home's ref. Who may
/// not write there goes on without, and is told.
pub(crate) fn hold(
    storage: &Repository,
    mine: &str,
    tip: SnapshotId,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let from = storage.state()?.get_ref(mine);
    if from == Some(tip) {
        return Ok(());
    }
    let refs = vec![RefChange {
        name: mine.to_owned(),
        from,
        to: Some(tip),
    }];
    keep(storage, refs, operation, on)
}

/// Moves refs by which a storage keeps something for a home, as far as it takes them.
pub(crate) fn keep(
    storage: &Repository,
    refs: Vec<RefChange>,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let done = storage.commit(Change {
        refs,
        operation: operation.clone(),
        ..Change::default()
    });
    match done {
        Err(e) if e.is_write_refused() => {
            warn_reader(storage, on);
            Ok(())
        }
        done => Ok(done.map(drop)?),
    }
}

/// Copies one snapshot into another repository, as export and import in the format `zenith` do:
/// `branch` there is moved to it, and must not be there yet or must be one of its ancestors.
///
/// Errors: `Diverged`, and those of both repositories.
pub fn copy(
    from: &Repository,
    to: &Repository,
    id: SnapshotId,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    let name = format!("branch/{branch}");
    for _ in 0..TRIES {
        let (here, there) = (from.state()?, to.state()?);
        if here.snapshot(&id).is_none() {
            let location = from.location();
            return Err(zenith_store::Error::NoSnapshot { id, location }.into());
        }
        let theirs = there.get_ref(&name);
        match relation(&here, id, &there, theirs, None) {
            Relation::New | Relation::Ahead => {}
            Relation::Same => {
                to.confirm()?;
                return Ok(0);
            }
            Relation::Behind | Relation::Diverged => {
                let theirs = theirs.expect("a branch that stands elsewhere is there");
                return Err(Error::Diverged {
                    branch: branch.to_owned(),
                    ours: id,
                    theirs,
                });
            }
        }
        let refs = vec![RefChange {
            name: name.clone(),
            from: theirs,
            to: Some(id),
        }];
        let snapshots = if there.snapshot(&id).is_some() {
            Vec::new()
        } else {
            vec![id]
        };
        let what = Transfer {
            snapshots,
            refs,
            operation: operation.clone(),
        };
        match transfer(from, to, what, &|event| tell(event, on)) {
            Ok(done) => return Ok(done.bytes),
            Err(e) if is_overtaken(&e) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::StorageBusy {
        location: to.location(),
        tries: TRIES,
    })
}

/// The same out of a home. Packs whose names are used up there go under new ones.
///
/// Errors: those of [`copy`]; `HomeBusy` and `HomeInUse` where packs have to be renamed.
pub fn copy_out(
    home: &Home,
    to: &Repository,
    id: SnapshotId,
    branch: &str,
    operation: &Operation,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u64> {
    for _ in 0..TRIES {
        let (local, guard) = home.reader()?;
        match copy(&local, to, id, branch, operation, on) {
            Err(Error::Store(zenith_store::Error::NamesUsedUp { packs, floor })) => {
                drop(guard);
                rename(home, &packs, floor, operation)?;
            }
            done => return done,
        }
    }
    Err(Error::StorageBusy {
        location: to.location(),
        tries: TRIES,
    })
}

/// The repository at a storage; made with `params` where there is none yet.
pub fn open_or_create(
    objects: Arc<dyn Objects>,
    params: Params,
    seal: Option<Seal>,
    operation: &Operation,
) -> Result<Repository> {
    match Repository::open(objects.clone(), seal.clone(), IndexChoice::Memory) {
        Err(zenith_store::Error::NotARepository { .. }) => {}
        other => return Ok(other?),
    }
    exclusive::check(&*objects, &World::real())?;
    let made = Repository::create(
        objects.clone(),
        params,
        seal.clone(),
        IndexChoice::Memory,
        operation.clone(),
    );
    match made {
        // Another home made it in between.
        Err(zenith_store::Error::RepositoryExists { .. }) => {
            Ok(Repository::open(objects, seal, IndexChoice::Memory)?)
        }
        other => Ok(other?),
    }
}

/// Snapshots of local branches that the storage is not known to have.
#[derive(Debug, Clone, Default)]
pub struct Unpushed {
    /// In order of commit.
    pub rows: Vec<Row>,
    /// Stored bytes that they added here.
    pub bytes: u64,
}

/// What a push of every branch would send, by the notes of earlier pushes alone.
pub fn unpushed(state: &State) -> Unpushed {
    unpushed_to(state, ORIGIN)
}

/// The same for any remote, by its name.
pub fn unpushed_to(state: &State, name: &str) -> Unpushed {
    let history = History::of(state);
    let reach = |folder: &str| -> BTreeSet<SnapshotId> {
        let tips = state
            .refs()
            .iter()
            .filter(|(name, _)| name.starts_with(folder));
        tips.flat_map(|(_, tip)| history.ancestors(*tip))
            .map(|node| node.id)
            .collect()
    };
    let (local, pushed) = (reach("branch/"), reach(&format!("remote/{name}/")));
    let rows: Vec<Row> = state
        .snapshots()
        .filter(|row| local.contains(&row.id) && !pushed.contains(&row.id))
        .cloned()
        .collect();
    Unpushed {
        bytes: rows.iter().map(|row| row.new_bytes).sum(),
        rows,
    }
}
