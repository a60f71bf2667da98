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

mod attach;
mod copy;
mod push;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zenith_store::objects::{Environment, Exclusive, Objects, OpenOptions, StorageUrl, exclusive};
use zenith_store::{
    Change, IndexChoice, Operation, Params, RefChange, Repository, Row, Seal, SnapshotId, State,
    Transfer, TransferEvent, Transferred, World, transfer, transfer_without_packs,
};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::history::History;
use crate::home::{Home, Wait};
use crate::pin;
use crate::settings::Settings;
use crate::who::{operation, verb};

pub use self::attach::{Attached, attach, fetch};
pub use self::copy::{copy, copy_out};
pub use self::push::{PushOptions, PushReport, TagsPushed, push, push_tags, push_to};

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

/// Whether the notes under `origin` are about what lies at `location`: it is the home's saved
/// storage. Where none is saved, whatever a flag or variable names is.
///
/// Errors: `NoHome`, `SettingsInvalid`.
pub(crate) fn is_origin(home: &Home, location: &str) -> Result<bool> {
    let place = |text: &str| StorageUrl::parse(text, home.dir());
    let saved = home.settings()?.storage_dest;
    Ok(saved.is_none_or(|saved| saved == location || place(&saved) == place(location)))
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
        operation: operation(home.world(), verb::FETCH, format!("after {after}")),
        ..Change::default()
    })?;
    Ok(())
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

/// Says once what it means to read at a storage that takes nothing: its collection moves packs
/// under who reads, who looks again then, and what is pruned there is gone.
pub(crate) fn warn_reader(storage: &Repository, on: &(dyn Fn(Event) + Sync)) {
    on(Event::Warning(format!(
        "this user may not write to {}: it is read there only, and a prune there does not wait",
        storage.location()
    )));
}

pub(crate) fn tell(event: TransferEvent, on: &(dyn Fn(Event) + Sync)) {
    match event {
        TransferEvent::Plan { bytes, .. } => on(Event::Total { bytes }),
        TransferEvent::Sent { bytes } => on(Event::Sent { bytes }),
    }
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
    match storage.move_each(&refs, operation) {
        Err(e) if e.is_write_refused() => {
            warn_reader(storage, on);
            Ok(())
        }
        done => Ok(done?),
    }
}

/// The repository at a storage; made with `params` where there is none yet.
pub fn open_or_create(
    objects: Arc<dyn Objects>,
    params: Params,
    seal: Option<Seal>,
    operation: &Operation,
    world: &World,
) -> Result<Repository> {
    let index = || IndexChoice::Memory;
    match Repository::open_in(objects.clone(), seal.clone(), index(), world.clone()) {
        Err(zenith_store::Error::NotARepository { .. }) => {}
        other => return Ok(other?),
    }
    exclusive::check(&*objects, world)?;
    let made = Repository::create_in(
        objects.clone(),
        params,
        seal.clone(),
        index(),
        operation.clone(),
        world.clone(),
    );
    match made {
        // Another home made it in between.
        Err(zenith_store::Error::RepositoryExists { .. }) => {
            Ok(Repository::open_in(objects, seal, index(), world.clone())?)
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
    unpushed_beside(state, &tips(state, &format!("remote/{name}/")))
}

fn tips(state: &State, folder: &str) -> Vec<SnapshotId> {
    let refs = state.refs().iter();
    refs.filter(|(name, _)| name.starts_with(folder))
        .map(|(_, tip)| *tip)
        .collect()
}

/// Snapshots of local branches to which none of the pushed tips leads.
pub(crate) fn unpushed_beside(state: &State, pushed: &[SnapshotId]) -> Unpushed {
    let history = History::of(state);
    let reach = |tips: &[SnapshotId]| -> BTreeSet<SnapshotId> {
        tips.iter()
            .flat_map(|tip| history.ancestors(*tip))
            .map(|node| node.id)
            .collect()
    };
    let (local, pushed) = (reach(&tips(state, "branch/")), reach(pushed));
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
