//! Snapshots from one repository to another: push, fetch, clone, and export and import as zenith.
//!
//! Only packs that the other does not have travel, verbatim and under their own names; then one
//! root there makes the snapshots exist. Interrupted, the packs that arrived stay, and the same
//! call goes on from there.

use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::pack;
use crate::repository::Repository;
use crate::root::{Operation, RefChange};
use crate::seal::Seal;
use crate::session::{self, Pulse};
use crate::state::State;
use minicbor::Encode;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

/// Packs that travel at once.
const PARALLEL: usize = 4;
/// Snapshots that one root adds at most: it names them all.
const BATCH: usize = 500;
/// How often a transfer begins anew because its packs were collected under it.
const REPLANS: u32 = 8;

/// What is to be moved.
#[derive(Debug, Clone, Default)]
pub struct Transfer {
    /// They arrive in the order in which they were committed; those that the other has already are
    /// passed over.
    pub snapshots: Vec<SnapshotId>,
    /// Refs to move there.
    pub refs: Vec<RefChange>,
    /// Who, what, when.
    pub operation: Operation,
}

/// What was moved.
#[derive(Debug, Clone)]
pub struct Transferred {
    /// Packs that travelled.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots that are new there.
    pub snapshots: u64,
    /// The other's state afterwards.
    pub state: Arc<State>,
}

/// Progress of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEvent {
    /// This much is to travel.
    Plan {
        /// Packs.
        packs: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// This much more has arrived.
    Sent {
        /// Bytes of one pack.
        bytes: u64,
    },
}

/// A session object: made before the first upload.
#[derive(Encode)]
#[cbor(map)]
struct Session<'a> {
    #[n(0)]
    version: u16,
    #[n(1)]
    root: u64,
    #[n(2)]
    unix_micros: i64,
    #[n(3)]
    who: &'a str,
}

/// Whether packs travel with the snapshots that need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packs {
    Travel,
    Stay,
}

/// Moves snapshots. Into a home, the caller holds its lock.
///
/// # Errors
/// [`Error::RefMoved`] when a ref there is elsewhere, [`Error::ParamsDiffer`] when the chunk sizes
/// do, [`Error::NoSnapshot`] when `from` lacks one.
/// [`Error::NamesUsedUp`] when packs of `from` cannot go there under their names (see
/// [`Repository::rename_packs`]).
pub fn transfer(
    from: &Repository,
    to: &Repository,
    what: Transfer,
    on: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Transferred> {
    again(from, to, what, Packs::Travel, on)
}

/// The same without packs, into a home that reads those of `from` where it has none itself
/// ([`crate::objects::Lazy`]).
///
/// # Errors
/// Those of [`transfer`].
pub fn transfer_without_packs(
    from: &Repository,
    to: &Repository,
    what: Transfer,
) -> Result<Transferred> {
    again(from, to, what, Packs::Stay, &|_| {})
}

/// Has snapshots of a home that reads packs at `from` use what they use there by now, where the
/// names that the home knows are given up: packs that were repaired lie under others. What was made
/// here uses those of what it goes on from. Gives the number of these snapshots; the caller holds
/// the home's lock.
///
/// # Errors
/// When a log cannot be read, or the commit fails.
pub fn follow_packs(from: &Repository, to: &Repository, operation: Operation) -> Result<usize> {
    type Usage = BTreeMap<PackName, (u64, u64)>;
    let (there, here) = (from.state()?, to.state()?);
    let listed: HashSet<PackName> = there.packs().map(|pack| pack.name).collect();
    let used = here.used();
    let lost = here
        .packs()
        .filter(|pack| used.contains_key(&pack.ordinal) && !listed.contains(&pack.name))
        .filter(|pack| to.is_far(&pack.name));
    let lost: HashSet<PackName> = lost.map(|pack| pack.name).collect();
    if lost.is_empty() {
        return Ok(0);
    }
    let of = |name: PackName, bytes: u64, lengths: &HashMap<PackName, u64>| {
        lengths.get(&name).map(|len| (name, (*len, bytes)))
    };
    let lengths: HashMap<PackName, u64> = there.packs().map(|p| (p.name, p.len)).collect();
    let mut theirs: HashMap<SnapshotId, Usage> = HashMap::new();
    there.each_usage(|row, usage| {
        if here.snapshot(&row.id).is_some() {
            let packs = there.named(usage).into_iter();
            let packs = packs.filter_map(|(name, bytes)| of(name, bytes, &lengths));
            theirs.insert(row.id, packs.collect());
        }
        Ok(())
    })?;
    let lengths: HashMap<PackName, u64> = here.packs().map(|p| (p.name, p.len)).collect();
    let mut new: HashMap<SnapshotId, Usage> = HashMap::new();
    here.each_usage(|row, usage| {
        let packs = here.named(usage);
        if !packs.keys().any(|name| lost.contains(name)) {
            return Ok(());
        }
        // Parents come first.
        let known = |id: &SnapshotId| theirs.get(id).or_else(|| new.get(id));
        let above: Vec<&Usage> = match theirs.get(&row.id) {
            Some(usage) => vec![usage],
            None => row.parents.iter().filter_map(known).collect(),
        };
        if above.is_empty() {
            return Ok(());
        }
        let mut after: Usage = above.into_iter().flat_map(|u| u.clone()).collect();
        let kept = packs.into_iter().filter(|(name, _)| !lost.contains(name));
        after.extend(kept.filter_map(|(name, bytes)| of(name, bytes, &lengths)));
        new.insert(row.id, after);
        Ok(())
    })?;
    if new.is_empty() {
        return Ok(0);
    }
    let now = operation.time.unix_micros.div_euclid(1_000_000);
    let mut replaced = 0;
    to.commit_with(operation, |next| {
        replaced = next.replace_usage(&lost, &new, to.is_alone())?;
        next.retire(&lost, now);
        Ok(())
    })?;
    Ok(replaced)
}

/// Brings every pack that snapshots of a home use and that is not here, so that it needs `from`
/// no more; gives their number and bytes. `to` is opened without looking there.
///
/// # Errors
/// When a pack is not to be had, or is damaged. What arrived stays.
pub fn complete(
    from: &Repository,
    to: &Repository,
    on: &(dyn Fn(TransferEvent) + Sync),
) -> Result<(u64, u64)> {
    let state = to.state()?;
    // What was condemned there need not be there any more, and nobody here misses it.
    let used = state.used();
    let used = state
        .packs()
        .filter(|pack| used.contains_key(&pack.ordinal));
    let packs = used.map(|pack| (pack.name, pack.len)).collect();
    send(from, to, &packs, &mut Vec::new(), on)
}

fn again(
    from: &Repository,
    to: &Repository,
    what: Transfer,
    packs: Packs,
    on: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Transferred> {
    let mut tries = 0;
    loop {
        let seen = from.state()?.seq();
        match run(from, to, what.clone(), packs, on) {
            // A collection was faster than our reading: what it moved is elsewhere by now.
            Err(e) if e.is_lost() && tries < REPLANS && from.state()?.seq() != seen => tries += 1,
            // Removed there since we looked: it travels like any other.
            Err(Error::NoSnapshot { id, .. })
                if tries < REPLANS
                    && what.snapshots.contains(&id)
                    && from.state()?.snapshot(&id).is_some() =>
            {
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn run(
    from: &Repository,
    to: &Repository,
    what: Transfer,
    packs: Packs,
    on: &(dyn Fn(TransferEvent) + Sync),
) -> Result<Transferred> {
    if from.params() != to.params() {
        return Err(Error::ParamsDiffer {
            from: from.location(),
            to: to.location(),
            what: format!(
                "chunk size or inline limit ({:?}, {:?})",
                from.params(),
                to.params()
            ),
        });
    }
    if from.seal().map(Seal::key_id) != to.seal().map(Seal::key_id) {
        return Err(Error::ParamsDiffer {
            from: from.location(),
            to: to.location(),
            what: "their keys, or one of them is not sealed".into(),
        });
    }
    let source = from.state()?;
    let target = to.state()?;
    to.refuse_other_writer(&target)?;
    // Refs are checked before anything travels, and again by the commit.
    for change in &what.refs {
        let found = target.get_ref(&change.name);
        if found != change.from {
            let (name, expected) = (change.name.clone(), change.from);
            return Err(Error::RefMoved {
                name,
                expected,
                found,
            });
        }
    }
    let mut wanted = HashSet::new();
    for id in &what.snapshots {
        if source.snapshot(id).is_none() {
            return Err(Error::NoSnapshot {
                id: *id,
                location: from.location(),
            });
        }
        if target.snapshot(id).is_none() {
            wanted.insert(*id);
        }
    }
    let lengths: HashMap<PackName, u64> = source.packs().map(|p| (p.name, p.len)).collect();
    let there: HashSet<PackName> = target.packs().map(|p| p.name).collect();
    let mut ordinals = BTreeSet::new();
    source.each_usage(|row, usage| {
        if wanted.contains(&row.id) {
            ordinals.extend(usage.keys().copied());
        }
        Ok(())
    })?;
    let names = source.named(&ordinals.into_iter().map(|ordinal| (ordinal, 1)).collect());
    let mut missing: BTreeMap<PackName, u64> = BTreeMap::new();
    let mut used_up = Vec::new();
    for name in names.keys().filter(|name| !there.contains(*name)) {
        if !to.is_alone() && target.is_used_up(name) {
            used_up.push(*name);
        }
        let len = lengths.get(name).ok_or_else(|| Error::Damaged {
            what: format!("pack {name}"),
            location: from.location(),
            why: "a snapshot uses it, but the pack table does not list it".into(),
        })?;
        missing.insert(*name, *len);
    }
    if !used_up.is_empty() {
        let (packs, floor) = (used_up, target.floor());
        return Err(Error::NamesUsedUp { packs, floor });
    }
    let mut said = Vec::new();
    let moved = match packs {
        Packs::Travel => {
            said = announce_sessions(&missing, to, &what.operation, target.seq())?;
            to.expect_packs(missing.keys().copied())?;
            send(from, to, &missing, &mut said, on)?
        }
        Packs::Stay => {
            learn(to, &missing)?;
            (0, 0)
        }
    };

    let snapshots = wanted.len() as u64;
    let mut state = target.clone();
    // A root holds so many ids at most. The refs move with the last of them.
    let rows = source.snapshots().map(|row| row.id);
    let order: Vec<SnapshotId> = rows.filter(|id| wanted.contains(id)).collect();
    let snapshots_in: Vec<&[SnapshotId]> = order.chunks(BATCH).collect();
    let refs_in = RefChange::batches(&what.refs);
    // The last snapshots and the first refs go together.
    let before = snapshots_in.len().saturating_sub(1);
    let batches = (0..snapshots_in.len().max(before + refs_in.len())).map(|n| {
        let refs = n.checked_sub(before).and_then(|n| refs_in.get(n));
        let snapshots = snapshots_in.get(n).copied().unwrap_or_default();
        (snapshots, refs.copied().unwrap_or_default())
    });
    if batches.len() == 0 {
        to.confirm()?;
    }
    for (batch, refs) in batches {
        let batch: HashSet<&SnapshotId> = batch.iter().collect();
        state = to.commit_with(what.operation.clone(), |state| {
            let mut lines = state.lines();
            source.each_usage(|row, usage| {
                if !batch.contains(&row.id) || state.snapshot(&row.id).is_some() {
                    return Ok(());
                }
                let names = source.named(usage).into_iter();
                let usage = names
                    .map(|(name, bytes)| (name, (lengths[&name], bytes)))
                    .collect();
                // Packs collected there since we looked are refused; those that were condemned
                // are rescued.
                state.add_to(&mut lines, row.clone(), &usage, to.is_alone())?;
                state.root.operation.added.push(row.id);
                Ok(())
            })?;
            to.move_refs(state, refs)
        })?;
    }
    to.packs_arrived(&state)?;
    to.unsay(said);
    to.unsay_old(&target, &state);
    // Who reads has use for them; this transfer is done without.
    to.tend_or_warn(Some(from), &what.operation);
    Ok(Transferred {
        packs: moved.0,
        bytes: moved.1,
        snapshots,
        state,
    })
}

/// The operation of a root that lists index segments, on the occasion of another.
pub(crate) fn tending(occasion: &Operation) -> Operation {
    Operation {
        verb: "index".to_owned(),
        detail: String::new(),
        who: occasion.who.clone(),
        time: occasion.time,
        ..Operation::default()
    }
}

impl Repository {
    /// Gives packs of a home other names, under which they can go where theirs are used up: those
    /// of a session whose label is at least `floor`, though the clock here may be behind. The
    /// caller holds the home's lock.
    ///
    /// # Errors
    /// When a pack cannot be linked or read, or the commit fails; the home is as it was then.
    pub fn rename_packs(&self, packs: &[PackName], floor: u64, operation: Operation) -> Result<()> {
        let session = self.world().session_above(floor);
        let names: Vec<_> = (0..)
            .zip(packs)
            .map(|(number, old)| (*old, PackName { session, number }))
            .collect();
        self.rename_packs_to(&names, operation)
    }

    /// Gives packs of a home the names that a storage has them under by now, the old ones first.
    /// Names that are not here are passed over, and packs that came under the new one meanwhile:
    /// they may lie here twice. Of a pack that a lazy home reads elsewhere only the name here
    /// changes. The caller holds the home's lock.
    ///
    /// # Errors
    /// As [`Repository::rename_packs`].
    pub fn rename_packs_to(
        &self,
        names: &[(PackName, PackName)],
        operation: Operation,
    ) -> Result<()> {
        let names: HashMap<PackName, PackName> = names.iter().copied().collect();
        let state = self.state()?;
        let mut renamed = Vec::new();
        for row in state.packs() {
            let Some(&name) = names.get(&row.name).filter(|name| !state.has_pack(name)) else {
                continue;
            };
            let directory = match self.objects().local_path(&row.name.key()) {
                Some(path) => {
                    let directory = self.directory(row.name, row.len)?;
                    self.objects().put_file(&name.key(), &path)?;
                    directory
                }
                None if self.objects().size(&name.key())? == Some(row.len) => {
                    self.directory(name, row.len)?
                }
                None => {
                    return Err(Error::Damaged {
                        what: format!("pack {}", row.name),
                        location: self.location(),
                        why: "it is not here, and where it was it has been collected".into(),
                    });
                }
            };
            self.inner.index.add_pack(name, &directory)?;
            renamed.push((row.name, name, directory));
        }
        if renamed.is_empty() {
            return Ok(());
        }
        self.commit_with(operation, |state| {
            for (old, new, _) in &renamed {
                state.rename_pack(old, *new);
            }
            Ok(())
        })?;
        for (old, _, directory) in &renamed {
            self.inner.index.drop_pack(*old, directory)?;
            self.objects().delete(&old.key())?;
        }
        Ok(())
    }
}

/// A session is known to the repository before the first of its packs arrives; by these objects.
pub(crate) fn announce_sessions(
    packs: &BTreeMap<PackName, u64>,
    to: &Repository,
    operation: &Operation,
    root: u64,
) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut sessions: Vec<[u8; 16]> = packs.keys().map(|name| name.session).collect();
    sessions.dedup();
    for session in sessions {
        let record = Session {
            version: 1,
            root,
            unix_micros: operation.time.unix_micros,
            who: &operation.who,
        };
        let bytes = minicbor::to_vec(&record).expect("encoding into memory has no errors");
        let key = session::key(&session);
        let bytes = match to.seal() {
            Some(seal) => seal.seal_object(&key, &bytes),
            None => bytes,
        };
        to.objects().create(&key, &bytes)?;
        keys.push(key);
    }
    Ok(keys)
}

/// Sends the packs that are not there yet; gives their number and bytes. `said` are objects that
/// tell of their sessions.
fn send(
    from: &Repository,
    to: &Repository,
    missing: &BTreeMap<PackName, u64>,
    said: &mut Vec<String>,
    on: &(dyn Fn(TransferEvent) + Sync),
) -> Result<(u64, u64)> {
    // What an interrupted call left there is whole, since objects appear at once.
    let mut left = Vec::new();
    let mut present = Vec::new();
    for (name, len) in missing {
        match to.objects().size(&name.key())? {
            Some(found) if found == *len => present.push(*name),
            _ => left.push((*name, *len)),
        }
    }
    if !present.is_empty() {
        to.confirm()?;
    }
    let mut pulse = Pulse::new(to, missing.keys());
    if !left.is_empty() {
        pulse.beat()?;
    }
    let bytes = left.iter().map(|(_, len)| len).sum();
    on(TransferEvent::Plan {
        packs: left.len() as u64,
        bytes,
    });

    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let (arrived, arrivals) = mpsc::channel::<(PackName, u64)>();
    let threads = match from.world().threads().min(to.world().threads()) {
        1 => {
            for (name, len) in &left {
                send_pack(from, to, *name, *len)?;
                pulse.beat()?;
                on(TransferEvent::Sent { bytes: *len });
            }
            0
        }
        threads => PARALLEL.min(left.len()).min(threads),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let arrived = arrived.clone();
            scope.spawn(|| {
                let arrived = arrived;
                while let Some((name, len)) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .is_some()
                    {
                        return;
                    }
                    match send_pack(from, to, *name, *len) {
                        Ok(()) => drop(arrived.send((*name, *len))),
                        Err(e) => {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                        }
                    }
                }
            });
        }
        drop(arrived);
        for (_, len) in arrivals {
            if let Err(e) = pulse.beat() {
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(e);
            }
            on(TransferEvent::Sent { bytes: len });
        }
    });
    if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(e);
    }
    said.append(&mut pulse.said());
    // A home learns what its new packs hold; what an interrupted call left is checked first.
    if to.objects().local_path("packs").is_some() && to.is_indexed_for_good() {
        for name in present {
            check_pack(to, name)?;
        }
        learn(to, missing)?;
    }
    Ok((left.len() as u64, bytes))
}

/// Teaches an index that lasts what packs hold.
fn learn(to: &Repository, packs: &BTreeMap<PackName, u64>) -> Result<()> {
    if !to.is_indexed_for_good() {
        return Ok(());
    }
    let packs = packs.iter().map(|(name, len)| (*name, *len));
    let mut unknown = to.unknown_of(packs)?;
    to.learn_from_segments(&mut unknown)?;
    for (name, len) in unknown {
        let directory = to.directory(name, len)?;
        to.inner.index.add_pack(name, &directory)?;
    }
    Ok(())
}

/// Sends one pack, which is checked here first: what rotted must not pass for a copy.
fn send_pack(from: &Repository, to: &Repository, name: PackName, len: u64) -> Result<()> {
    let key = name.key();
    let mut fetched = None;
    let path = match from.objects().local_path(&key) {
        Some(path) => path,
        None => {
            let file = tempfile::NamedTempFile::new()
                .map_err(Error::file("create", std::env::temp_dir().as_path()))?;
            from.objects().get_to_file(&key, file.path())?;
            fetched.insert(file).path().to_owned()
        }
    };
    let mut file = std::fs::File::open(&path).map_err(Error::file("open", &path))?;
    let found = file.metadata().map_err(Error::file("open", &path))?.len();
    let checked = if found == len {
        pack::reader::check_file(&mut file).map_err(Error::file("read", &path))?
    } else {
        Err(format!("it has {found} bytes, {len} expected"))
    };
    checked.map_err(|why| Error::Damaged {
        what: format!("pack {name}"),
        location: from.location(),
        why,
    })?;
    to.objects().put_file(&key, &path)?;
    Ok(())
}

fn check_pack(repository: &Repository, name: PackName) -> Result<()> {
    let objects = repository.objects();
    let bytes = objects.get(&name.key())?;
    pack::reader::check(&bytes, repository.ids(), repository.seal())
        .map(drop)
        .map_err(|why| Error::Damaged {
            what: format!("pack {name}"),
            location: objects.location(),
            why,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let session = Session {
            version: 1,
            root: 300,
            unix_micros: 1_763_800_000_000_000,
            who: "ann@db1",
        };
        let bytes = minicbor::to_vec(&session).unwrap();
        insta::assert_snapshot!(crate::id::hex(&bytes), @"a400010119012c021b0006442ab07470000367616e6e40646231");
    }
}
