//! Packs packed anew: what is alive in mostly dead packs, and many small packs as one.
//!
//! Blobs keep their form and frames their bytes, so that a delta stays the delta it is and
//! ciphertext is moved without being opened. Snapshots go on to use the new packs by one root; the
//! old ones are condemned by the step that follows, and readers that miss one look again.
//!
//! A home does this under its lock, and takes nothing along that no snapshot names: deltas that
//! stand on it are written anew (`renew`). At a storage it is done beside everybody, and only to packs
//! that no branch and no home builds on: what the next push builds on would have to come again. A
//! home moves that itself, and its next push takes the new packs along.

use crate::delta::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Id, PackName, SnapshotId};
use crate::index::locations;
use crate::needs::{Alive, Needs, Usage, Used};
use crate::pack::{self, FrameEntry, PACK_BLOBS, PACK_BYTES, PackWriter, frame};
use crate::repository::Repository;
use crate::root::{Operation, PackRow};
use crate::state::State;
use crate::transfer::announce_sessions;
use crate::usage::Lines;
use crate::writer::Writer;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tempfile::NamedTempFile;

/// In a home a pack with less than this share in use is packed anew.
const POOR_HERE_PERCENT: u64 = 50;
/// Packs of one run at most, of either sort.
pub(crate) const PACKS_MAX: usize = 64;
/// Blobs in them at most: of each that is in use its place is kept in mind.
const BLOBS_MAX: usize = 512 << 10;
/// A pack that is shorter is merged with others of about its length, once there are many.
const SMALL_BYTES: u64 = 1 << 20;
/// Two packs are of about the same length when their bits differ by fewer than this: what was
/// merged is not merged again with the next few.
const CLASS_BITS: u32 = 3;

/// Which packs are packed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repack {
    /// Bytes of packs that may be read at a storage for it; a home is not bounded.
    pub traffic: u64,
    /// At a storage, a pack with less than this share in use; in a home it is half.
    pub poor_percent: u64,
    /// Small packs, once there are so many of about the same length.
    pub merged_from: usize,
}

impl Default for Repack {
    /// None at a storage.
    fn default() -> Self {
        Repack {
            traffic: 0,
            poor_percent: 25,
            merged_from: 32,
        }
    }
}

/// What is packed anew.
pub(crate) struct Plan<'a> {
    /// Packs that go, with their lengths.
    pub(crate) moved: Vec<(PackName, u64)>,
    needs: Needs<'a>,
}

/// What was packed anew.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Repacked {
    /// Bytes that were written.
    pub(crate) bytes: u64,
    /// Packs that were to go and are damaged.
    pub(crate) damaged: u64,
}

/// New packs, each with its part of an old one, and of how much.
type Shares = BTreeMap<PackName, (u64, u64)>;

impl Repository {
    /// Packs anew what it is time for. What others did first at a storage, and what cannot be read,
    /// is left to the next run. `removed` says that snapshots were removed lately.
    pub(crate) fn repack(
        &self,
        operation: &Operation,
        how: Repack,
        removed: bool,
    ) -> Result<Repacked> {
        match self.try_repack(operation, how, removed) {
            Err(e) if e.is_lost() || !self.is_alone() && e.kind() == ErrorKind::Conflict => {
                tracing::warn!("nothing is packed anew at {}: {e}", self.location());
                Ok(Repacked {
                    bytes: 0,
                    damaged: u64::from(e.is_lost()),
                })
            }
            done => done,
        }
    }

    fn try_repack(&self, operation: &Operation, how: Repack, removed: bool) -> Result<Repacked> {
        let state = self.state()?;
        match self.plan_repack(&state, how, removed)? {
            Some(plan) => self.move_out(&state, &plan, operation),
            None => Ok(Repacked::default()),
        }
    }

    /// What is packed anew of this state.
    pub(crate) fn plan_repack(
        &self,
        state: &State,
        how: Repack,
        removed: bool,
    ) -> Result<Option<Plan<'_>>> {
        let built_on = match self.is_alone() {
            true => HashSet::new(),
            false => built_on(state),
        };
        let is_candidate = |pack: &PackRow| {
            // In a home, what lies elsewhere takes no space.
            let is_here = || self.objects().local_path(&pack.name.key()).is_some();
            !built_on.contains(&pack.name) && (!self.is_alone() || is_here())
        };
        let used = state.used();
        let percent = self.poor_percent(how);
        let sessions = match self.is_alone() && removed {
            true => Some(self.sessions_of_snapshots(state)?),
            false => None,
        };
        let (mut poor, mut suspect) = (Vec::new(), Vec::new());
        let mut small = BTreeMap::<u32, Vec<PackRow>>::new();
        for pack in state.packs() {
            let Some(most) = used.get(&pack.ordinal).filter(|_| is_candidate(pack)) else {
                continue;
            };
            // No snapshot alone uses that much; together they may, so these are looked at closely.
            // Where blobs are small, their names take more than they do, and a pack of which all
            // is in use is none of these.
            let share = match most * 100 < pack.len * percent {
                true => most * 100 / self.could_use(pack)?.max(1),
                false => 100,
            };
            if share < percent {
                poor.push((share, *pack));
                continue;
            }
            // Of what a snapshot brought that is gone, deltas of others may be all that needs it.
            if sessions
                .as_ref()
                .is_some_and(|known| !known.contains(&pack.name.session))
            {
                suspect.push(*pack);
            }
            if pack.len < SMALL_BYTES {
                let class = pack.len.max(1).ilog2() / CLASS_BITS;
                small.entry(class).or_default().push(*pack);
            }
        }
        small.retain(|_, packs| packs.len() >= how.merged_from);
        // Those of which nobody uses much come first: others may be looked at every time.
        poor.sort_by_key(|(share, pack)| (*share, pack.ordinal));
        let mut candidates = Vec::new();
        let mut blobs = BLOBS_MAX;
        let poor = poor.into_iter().map(|(_, pack)| pack);
        self.choose(poor, &mut blobs, &mut candidates)?;
        // The newest first: most of what is pruned is young.
        self.choose(suspect.into_iter().rev(), &mut blobs, &mut candidates)?;
        let closely: HashSet<PackName> = candidates.iter().map(|pack| pack.name).collect();
        let small: Vec<PackRow> = small.into_values().flatten().collect();
        let others = small.iter().filter(|pack| !closely.contains(&pack.name));
        self.choose(others.copied(), &mut blobs, &mut candidates)?;
        let small: HashSet<PackName> = small.into_iter().map(|pack| pack.name).collect();
        if !self.is_alone() {
            let mut left = how.traffic;
            candidates.retain(|pack| match left.checked_sub(pack.len) {
                Some(less) => {
                    left = less;
                    true
                }
                None => false,
            });
        }
        if candidates.is_empty() {
            return Ok(None);
        }
        let mut needs = Needs::new(self, candidates.iter().map(|pack| pack.name).collect());
        needs.look(state)?;
        needs.forget();
        let (mut moved, mut any_poor) = (Vec::new(), false);
        for pack in candidates.iter().filter(|p| needs.noted.contains(&p.name)) {
            let alive = needs.alive.get(&pack.name);
            let is_poor = closely.contains(&pack.name) && self.is_poor(pack, alive, percent)?;
            any_poor |= is_poor;
            if is_poor || small.contains(&pack.name) {
                moved.push((pack.name, pack.len));
            }
        }
        // One small pack alone is as small afterwards.
        if moved.is_empty() || (moved.len() == 1 && !any_poor) {
            return Ok(None);
        }
        Ok(Some(Plan { moved, needs }))
    }

    /// About how many bytes a plan writes.
    pub(crate) fn expected(&self, plan: &Plan<'_>) -> Result<u64> {
        let mut bytes = 0;
        for (name, len) in &plan.moved {
            let Some(alive) = plan.needs.alive.get(name) else {
                continue;
            };
            bytes += match self.is_alone() {
                true => in_use(alive),
                false => {
                    let directory = self.directory(*name, *len)?;
                    let moved = frames(&directory, alive).filter(|(_, is_alive)| *is_alive);
                    moved.map(|(frame, _)| frame.end() - frame.offset).sum()
                }
            };
        }
        Ok(bytes)
    }

    /// Takes as many of these packs as there is memory for; those whose frames can be moved.
    fn choose(
        &self,
        packs: impl Iterator<Item = PackRow>,
        blobs: &mut usize,
        chosen: &mut Vec<PackRow>,
    ) -> Result<()> {
        let end = chosen.len() + PACKS_MAX;
        for pack in packs {
            if chosen.len() == end {
                break;
            }
            let Some(directory) = self.whole_or_none(&pack)? else {
                continue;
            };
            if !self.is_alone() && !self.moves_as_it_lies(&directory) {
                continue;
            }
            let Some(left) = blobs.checked_sub(directory.blobs()) else {
                break;
            };
            *blobs = left;
            chosen.push(pack);
        }
        Ok(())
    }

    /// The directory of a pack; none where it is lost, which `verify` tells of.
    fn whole_or_none(&self, pack: &PackRow) -> Result<Option<pack::Directory>> {
        match self.directory(pack.name, pack.len) {
            Err(e) if e.is_lost() => {
                tracing::warn!("pack {} is not packed anew: {e}", pack.name);
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// The sessions in which the snapshots came that are here.
    fn sessions_of_snapshots(&self, state: &State) -> Result<HashSet<[u8; 16]>> {
        let mut sessions = HashSet::new();
        for row in state.snapshots() {
            let places = self.live_places(&row.id.into())?;
            sessions.extend(places.first().map(|place| place.pack.session));
        }
        Ok(sessions)
    }

    fn poor_percent(&self, how: Repack) -> u64 {
        match self.is_alone() {
            true => POOR_HERE_PERCENT,
            false => how.poor_percent,
        }
    }

    /// Whether so little of a pack is in use that it is worth writing that anew.
    fn is_poor(&self, pack: &PackRow, alive: Option<&Alive>, percent: u64) -> Result<bool> {
        let Some(alive) = alive else {
            return Ok(true);
        };
        if !self.is_alone() {
            // Frames are moved whole there, so that a second time would gain nothing.
            let directory = self.directory(pack.name, pack.len)?;
            let (mut used, mut all) = (0, 0);
            for (frame, is_alive) in frames(&directory, alive) {
                let len = frame.end() - frame.offset;
                all += len;
                used += if is_alive { len } else { 0 };
            }
            return Ok(used * 100 < all * percent);
        }
        let used = in_use(alive);
        let enough = used * 100 >= pack.len * percent
            || used > 0 && used * 100 >= self.could_use(pack)? * percent;
        Ok(!enough)
    }

    /// Packs of the first version have frames of another layout, which no pack of now can hold.
    fn moves_as_it_lies(&self, directory: &pack::Directory) -> bool {
        let at = frame::payload_at(self.seal().is_some()) as u64;
        let mut frames = directory.frames.iter();
        frames.all(|frame| frame.payload_offset - frame.offset == at)
    }

    /// What would be in use of a pack if all of it were. That is much less than its length where
    /// blobs are small: names and tables then take more than what they name.
    fn could_use(&self, pack: &PackRow) -> Result<u64> {
        let Some(directory) = self.whole_or_none(pack)? else {
            return Ok(0);
        };
        let places = locations(pack.name, &directory);
        Ok(places.map(|(_, place)| place.stored_share()).sum())
    }

    /// Writes what is alive in packs into new ones and commits a root whose snapshots use these.
    fn move_out(&self, state: &State, plan: &Plan<'_>, operation: &Operation) -> Result<Repacked> {
        let outcome = self.try_move_out(state, plan, operation);
        let mut live = self.lock_live_write();
        // What no root names is read no more, and the next look lists what there is.
        live.pending.clear();
        live.state = None;
        outcome
    }

    fn try_move_out(
        &self,
        state: &State,
        plan: &Plan<'_>,
        operation: &Operation,
    ) -> Result<Repacked> {
        let Plan { moved, needs } = plan;
        let mut gone: HashSet<PackName> = moved.iter().map(|(name, _)| *name).collect();
        // One that rotted stays where it is, for a repair, and no other for its sake.
        let stays = |name: &PackName, e: Error| match e.is_lost() {
            true => {
                tracing::warn!("pack {name} is not packed anew: {e}");
                Ok(())
            }
            false => Err(e),
        };
        let done = |gone: &HashSet<PackName>, new: &BTreeMap<PackName, u64>| Repacked {
            bytes: new.values().sum(),
            damaged: (moved.len() - gone.len()) as u64,
        };
        let (mut renewed, mut said) = (HashMap::new(), Vec::new());
        let new = if self.is_alone() {
            for (name, _) in moved {
                // Frames and bodies are moved as they lie, so what rotted must not get a fresh hash.
                if let Err(e) = self.check_content(*name) {
                    stays(name, e)?;
                    gone.remove(name);
                }
            }
            if gone.is_empty() {
                return Ok(done(&gone, &BTreeMap::new()));
            }
            let writer = self.writer()?;
            renewed = self.renew(&gone, needs, &writer)?;
            for (name, len) in moved.iter().filter(|(name, _)| gone.contains(name)) {
                let Some(alive) = needs.alive.get(name) else {
                    continue;
                };
                let stays = |used: &Used| used.named && !renewed.contains_key(&used.id);
                let alive = alive.iter().filter(|(_, used)| stays(used));
                let alive = alive.map(|(ordinal, used)| (*ordinal, *used)).collect();
                self.move_pack(*name, *len, &alive, &writer)?;
            }
            writer.into_packs()?
        } else {
            let mut uploads = Uploads::new(self, state, operation);
            for (name, len) in moved {
                let Some(alive) = needs.alive.get(name) else {
                    continue;
                };
                if let Err(e) = uploads.take(*name, *len, alive) {
                    stays(name, e)?;
                    gone.remove(name);
                }
            }
            let (new, of_session) = uploads.finish()?;
            said = of_session;
            new
        };
        if gone.is_empty() {
            return Ok(done(&gone, &new));
        }
        let usages = match renewed.is_empty() {
            true => self.share_out(&gone, &new, needs),
            false => self.count_without(&gone, state, needs),
        };
        self.use_new(&gone, &new, usages?, operation)?;
        self.unsay(said);
        Ok(done(&gone, &new))
    }

    /// Commits that snapshots which used what was moved use the new packs instead. Rows that came
    /// since, or whose packs others moved first, stay as they are.
    fn use_new(
        &self,
        gone: &HashSet<PackName>,
        new: &BTreeMap<PackName, u64>,
        after: HashMap<SnapshotId, Usage>,
        operation: &Operation,
    ) -> Result<()> {
        let lengths: HashMap<PackName, u64> = {
            let live = self.lock_live_read();
            let packs = live.packs.iter().chain(&live.pending).chain(new);
            packs.map(|(name, len)| (*name, *len)).collect()
        };
        let moved_on = || Error::Contended {
            location: self.location(),
            tries: 1,
        };
        let mut usages = HashMap::new();
        for (id, usage) in after {
            let mut with_len = BTreeMap::new();
            for (name, bytes) in usage {
                // One that was there when we looked, and is not any more.
                let len = *lengths.get(&name).ok_or_else(moved_on)?;
                with_len.insert(name, (len, bytes.min(len)));
            }
            usages.insert(id, with_len);
        }
        self.commit_with(operation.clone(), |next| {
            // A lazy home that came to build on them knows them by these names alone.
            if !self.is_alone() && !built_on(next).is_disjoint(gone) {
                return Err(moved_on());
            }
            match next.replace_usage(gone, &usages, self.is_alone())? {
                // Others moved it all meanwhile.
                0 => Err(moved_on()),
                _ => Ok(()),
            }
        })?;
        Ok(())
    }

    /// What snapshots use when what was alive in the packs `gone` is in the new ones.
    fn share_out(
        &self,
        gone: &HashSet<PackName>,
        new: &BTreeMap<PackName, u64>,
        needs: &Needs<'_>,
    ) -> Result<HashMap<SnapshotId, Usage>> {
        let shares = self.shares(gone, new, needs)?;
        let mut usages = HashMap::new();
        for (id, usage) in &needs.usages {
            let mut after = Usage::new();
            for (name, bytes) in usage {
                match shares.get(name).filter(|_| gone.contains(name)) {
                    Some(shares) => {
                        for (to, (share, of)) in shares {
                            let bytes = u128::from(*bytes) * u128::from(*share) / u128::from(*of);
                            *after.entry(*to).or_default() += bytes as u64;
                        }
                    }
                    None => *after.entry(*name).or_default() += bytes,
                }
            }
            usages.insert(*id, after);
        }
        Ok(usages)
    }

    /// What snapshots use when the packs `gone` are not there: where deltas were written anew they
    /// need less of other packs, too. Nothing is committed that would not be whole.
    fn count_without(
        &self,
        gone: &HashSet<PackName>,
        state: &State,
        needs: &Needs<'_>,
    ) -> Result<HashMap<SnapshotId, Usage>> {
        self.lock_live_write()
            .packs
            .retain(|name, _| !gone.contains(name));
        let mut without = Needs::new(self, HashSet::new());
        let rows = state
            .snapshots()
            .filter(|row| needs.usages.contains_key(&row.id));
        rows.map(|row| Ok((row.id, without.snapshot(row.id, row.tree)?)))
            .collect()
    }

    /// Where what was alive in each old pack is now: new pack → (its part, of how much). Parts are
    /// such that who uses all of a new pack uses its whole length.
    fn shares(
        &self,
        gone: &HashSet<PackName>,
        new: &BTreeMap<PackName, u64>,
        needs: &Needs<'_>,
    ) -> Result<HashMap<PackName, Shares>> {
        let mut places: HashMap<Id, BTreeSet<PackName>> = HashMap::new();
        for (name, len) in new {
            for (id, _) in locations(*name, &self.directory(*name, *len)?) {
                places.entry(id).or_default().insert(*name);
            }
        }
        let mut came: BTreeMap<PackName, u64> = BTreeMap::new();
        let mut parts: HashMap<PackName, BTreeMap<PackName, u64>> = HashMap::new();
        let mut wholes: HashMap<PackName, u64> = HashMap::new();
        for (old, alive) in needs.alive.iter().filter(|(old, _)| gone.contains(old)) {
            for Used {
                id, kind, place, ..
            } in alive.values()
            {
                let Some(found) = places.get(id) else {
                    return Err(self.missing(*kind, *id)?);
                };
                let share = place.stored_share().max(1);
                *wholes.entry(*old).or_default() += share;
                for to in found {
                    *came.entry(*to).or_default() += share;
                    *parts.entry(*old).or_default().entry(*to).or_default() += share;
                }
            }
        }
        let scaled = |old: &PackName, to: PackName, part: u64| {
            let (len, came) = (u128::from(new[&to]), u128::from(came[&to]));
            let share = u128::from(part) * len / came;
            (to, (share as u64, wholes[old]))
        };
        let of = |(old, parts): (PackName, BTreeMap<PackName, u64>)| {
            let shares = parts.iter().map(|(to, part)| scaled(&old, *to, *part));
            (old, shares.collect())
        };
        let mut shares: HashMap<_, Shares> = parts.into_iter().map(of).collect();
        // Nothing was alive in it: nobody uses it from now on.
        for old in gone {
            shares.entry(*old).or_default();
        }
        Ok(shares)
    }

    /// Writes what is alive in one pack, which was checked, into another: frames that are mostly alive as they lie, of
    /// others the blobs that are. A delta stays the delta it is.
    fn move_pack(&self, name: PackName, len: u64, alive: &Alive, writer: &Writer) -> Result<()> {
        let directory = self.directory(name, len)?;
        let mut ordinals = 0u32..;
        for frame in &directory.frames {
            let blobs: Vec<_> = frame
                .blobs
                .iter()
                .zip(&mut ordinals)
                .filter_map(|(blob, ordinal)| Some((blob, alive.get(&ordinal)?)))
                .collect();
            let used: u64 = blobs
                .iter()
                .map(|(blob, _)| u64::from(blob.part.body_len))
                .sum();
            if blobs.is_empty() {
                continue;
            }
            let all: u64 = frame
                .blobs
                .iter()
                .map(|blob| u64::from(blob.part.body_len))
                .sum();
            let as_it_lies = all <= 2 * used
                && frame.payload_offset - frame.offset
                    == frame::payload_at(self.seal().is_some()) as u64;
            if as_it_lies {
                let frame_len = (frame.end() - frame.offset) as usize;
                let bytes = self
                    .objects()
                    .get_range(&name.key(), frame.offset, frame_len)?;
                writer.append_verbatim(frame, &bytes)?;
                continue;
            }
            for (blob, used) in blobs {
                let body = self.body(&used.place)?;
                writer.store_body(blob.id, blob.part, &body)?;
            }
        }
        Ok(())
    }

    /// Whether a pack is what its writer wrote.
    fn check_content(&self, name: PackName) -> Result<()> {
        let Some(path) = self.objects().local_path(&name.key()) else {
            return Ok(());
        };
        let mut file = File::open(&path).map_err(Error::file("open", &path))?;
        let checked = pack::reader::check_file(&mut file).map_err(Error::file("read", &path))?;
        checked.map_err(|why| Error::Damaged {
            what: format!("pack {name}"),
            location: self.location(),
            why,
        })
    }
}

/// Bytes of a pack of a home that are in use. Deltas that no snapshot names go without anything in
/// their place. A plain blob does not: of what stands on it, some would have to be plain then.
fn in_use(alive: &Alive) -> u64 {
    let counts = |used: &&Used| used.named || used.place.form == Form::Plain;
    let used = alive.values().filter(counts);
    used.map(|used| used.place.stored_share()).sum()
}

/// The packs of what homes and branches are at: the next push builds on these. What a lazy home
/// reads it has nowhere else, all that goes before it included.
fn built_on(state: &State) -> HashSet<PackName> {
    let mut needed = HashSet::new();
    let mut open = Vec::new();
    for (name, tip) in state.refs() {
        match name.strip_prefix("homes/") {
            Some(home) if home.contains('/') => open.push(*tip),
            Some(_) => drop(needed.insert(*tip)),
            None if name.starts_with("branch/") => drop(needed.insert(*tip)),
            None => {}
        }
    }
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let row = state.snapshot(&id);
            open.extend(row.into_iter().flat_map(|row| &row.parents));
        }
    }
    needed.extend(seen);
    let mut packs = BTreeMap::new();
    let mut lines = Lines::default();
    for row in state.snapshots() {
        let usage = lines.next(row);
        if needed.contains(&row.id) {
            packs.extend(usage);
        }
    }
    state.named(&packs).into_keys().collect()
}

/// The frames of a pack, and whether anything in each is in use.
fn frames<'a>(
    directory: &'a pack::Directory,
    alive: &'a Alive,
) -> impl Iterator<Item = (&'a FrameEntry, bool)> {
    let mut ordinals = 0u32..;
    directory.frames.iter().map(move |frame| {
        let number = frame.blobs.len();
        let is_alive = ordinals
            .by_ref()
            .take(number)
            .filter(|o| alive.contains_key(o))
            .count()
            > 0;
        (frame, is_alive)
    })
}

/// New packs on their way to a storage, under a session of their own.
struct Uploads<'a> {
    repository: &'a Repository,
    operation: &'a Operation,
    session: [u8; 16],
    root: u64,
    open: Option<(PackName, NamedTempFile, PackWriter<File>)>,
    done: BTreeMap<PackName, u64>,
    said: Vec<String>,
}

impl<'a> Uploads<'a> {
    fn new(repository: &'a Repository, state: &State, operation: &'a Operation) -> Self {
        Uploads {
            repository,
            operation,
            session: repository.world().session_above(state.floor()),
            root: state.seq(),
            open: None,
            done: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Takes the frames of a pack in which something is in use, as they lie.
    fn take(&mut self, name: PackName, len: u64, alive: &Alive) -> Result<()> {
        let directory = self.repository.directory(name, len)?;
        let (key, objects) = (name.key(), self.repository.objects().clone());
        let mut fetched = None;
        let path = match objects.local_path(&key) {
            Some(path) => path,
            None => {
                let file = temporary()?;
                objects.get_to_file(&key, file.path())?;
                fetched.insert(file).path().to_owned()
            }
        };
        let error = |e| Error::file("read", &path)(e);
        let mut file = File::open(&path).map_err(error)?;
        // What rotted must not get a fresh hash.
        let checked = pack::reader::check_file(&mut file).map_err(error)?;
        checked.map_err(|why| Error::Damaged {
            what: format!("pack {name}"),
            location: objects.location(),
            why,
        })?;
        for (frame, _) in frames(&directory, alive).filter(|(_, is_alive)| *is_alive) {
            let mut bytes = vec![0; (frame.end() - frame.offset) as usize];
            file.read_exact_at(&mut bytes, frame.offset)
                .map_err(error)?;
            self.append(frame, &bytes)?;
        }
        Ok(())
    }

    fn append(&mut self, frame: &FrameEntry, bytes: &[u8]) -> Result<()> {
        let (_, file, pack) = match &mut self.open {
            Some(open) => open,
            slot => {
                let name = PackName {
                    session: self.session,
                    number: self.done.len() as u32,
                };
                let file = temporary()?;
                let write = Error::file("write", file.path());
                let out = file
                    .reopen()
                    .and_then(|out| PackWriter::new(out, name, self.repository.seal().cloned()));
                let pack = out.map_err(write)?;
                slot.insert((name, file, pack))
            }
        };
        pack.append_verbatim(frame, bytes)
            .map_err(Error::file("write", file.path()))?;
        if pack.position() >= PACK_BYTES || pack.blobs() >= PACK_BLOBS {
            self.send()?;
        }
        Ok(())
    }

    /// Sends the pack that is open.
    fn send(&mut self) -> Result<()> {
        let Some((name, file, pack)) = self.open.take() else {
            return Ok(());
        };
        let (_, finished) = pack.finish().map_err(Error::file("write", file.path()))?;
        let to = self.repository;
        let packs = BTreeMap::from([(name, finished.len)]);
        self.said = announce_sessions(&packs, to, self.operation, self.root)?;
        to.objects().put_file(&name.key(), file.path())?;
        to.inner.index.add_pack(name, &finished.directory)?;
        to.lock_live_write().pending.insert(name, finished.len);
        self.done.insert(name, finished.len);
        Ok(())
    }

    /// The packs, and the objects that tell of their session.
    fn finish(mut self) -> Result<(BTreeMap<PackName, u64>, Vec<String>)> {
        self.send()?;
        Ok((self.done, self.said))
    }
}

fn temporary() -> Result<NamedTempFile> {
    NamedTempFile::new().map_err(Error::file("create", std::env::temp_dir().as_path()))
}
