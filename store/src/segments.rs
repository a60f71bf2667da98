//! Index segments of a storage: copies of pack directories, many to an object (`index::segment`).
//!
//! They are written after a commit that leaves many packs without one, and listed by a root of
//! their own; small ones are merged, and those whose packs are gone are dropped. Nothing depends on
//! them: what one does not say, the directory of the pack does.

use crate::bulk::in_parallel;
use crate::error::{Error, Result};
use crate::id::PackName;
use crate::index::segment::{self, Entry, SEGMENT_BYTES, SegmentRow};
use crate::pack::reader;
use crate::repository::{IndexChoice, Repository};
use crate::root::{Operation, PackRow};
use crate::state::State;
use crate::transfer::tending;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// So many packs without a segment make one.
pub(crate) const PACKS: usize = 100;
/// Directories that are read at once, and kept until all of them are there.
const BATCH: usize = 32;
const THREADS: usize = 8;
/// A request takes as long as so many bytes: a segment is read where that is quicker than the
/// directories that are needed of it.
const REQUEST_BYTES: u64 = 256 << 10;
/// A trailer and a directory.
const REQUESTS_OF_PACK: u64 = 2;
/// For so few packs the storage of a lazy home is not asked which segments it has.
const FEW: usize = 8;
/// A new pack has a directory of at most this many bytes, as long as nobody knows.
const DIRECTORY_GUESS: u64 = 256 << 10;

/// What became of index segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tended {
    /// Written.
    pub written: u64,
    /// Not listed any more.
    pub dropped: u64,
}

/// Packs beside each other in the pack table that are to have one segment, or have it.
#[derive(Debug, Default)]
struct Part {
    /// Segments that have them by now.
    rows: Vec<SegmentRow>,
    packs: Vec<PackRow>,
    /// Of the segment, at most.
    bytes: u64,
    /// Whether it is to be written.
    is_due: bool,
}

impl Part {
    /// Whether the part behind it is to be in the same segment.
    fn goes_with(&self, next: &Part) -> bool {
        self.packs.len() < 2 * next.packs.len() && self.bytes + next.bytes <= SEGMENT_BYTES as u64
    }

    fn append(&mut self, next: Part) {
        self.rows.extend(next.rows);
        self.packs.extend(next.packs);
        self.bytes += next.bytes;
        self.is_due = true;
    }
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    parts: Vec<Part>,
    /// Rows that go without anything in their place.
    dropped: Vec<SegmentRow>,
}

impl State {
    /// Index segments, in the order of the packs that they speak of.
    pub fn index_segments(&self) -> impl Iterator<Item = &SegmentRow> {
        self.index.rows()
    }

    /// Everything in `packs/` and `index/` that this root names.
    pub(crate) fn named_keys(&self) -> HashSet<String> {
        let packs = self.named_packs().into_iter().map(|name| name.key());
        packs
            .chain(self.index.rows().map(SegmentRow::key))
            .collect()
    }

    /// What is to be done so that all packs that are there have a segment, once `every` have none.
    /// Of segments in `bad` nothing is taken.
    fn plan_segments(&self, every: usize, bad: &HashSet<PackName>) -> Plan {
        let mut plan = Plan::default();
        let mut rows = self.index.rows().peekable();
        let mut current: Option<&SegmentRow> = None;
        let mut parts: Vec<Part> = Vec::new();
        for pack in self.packs() {
            while let Some(row) = rows.next_if(|row| row.first <= pack.ordinal) {
                current = Some(row);
                parts.push(Part {
                    rows: vec![row.clone()],
                    ..Part::default()
                });
            }
            let covered = current.is_some_and(|row| row.spans(pack.ordinal));
            match parts.last_mut() {
                Some(part) if part.rows.is_empty() != covered => part.packs.push(*pack),
                _ => parts.push(Part {
                    packs: vec![*pack],
                    ..Part::default()
                }),
            }
        }
        parts.extend(rows.map(|row| Part {
            rows: vec![row.clone()],
            ..Part::default()
        }));
        let without = |part: &Part| part.rows.is_empty();
        let left: usize = parts
            .iter()
            .filter(|part| without(part))
            .map(|part| part.packs.len())
            .sum();
        for mut part in parts {
            let (all, is_bad) = match part.rows.first() {
                None if left < every => continue,
                None => (part.packs.len() as u64, true),
                Some(row) => (u64::from(row.packs), bad.contains(&row.name)),
            };
            let there = part.packs.len() as u64;
            if there == 0 {
                plan.dropped.append(&mut part.rows);
                continue;
            }
            part.is_due = is_bad || there * 2 < all;
            part.bytes = match part.rows.first() {
                Some(row) => row.len * there.min(all) / all.max(1),
                None => part
                    .packs
                    .iter()
                    .map(|pack| pack.len.min(DIRECTORY_GUESS))
                    .sum(),
            };
            plan.parts.push(part);
            while let [.., before, last] = &plan.parts[..]
                && before.goes_with(last)
            {
                let last = plan.parts.pop().unwrap_or_default();
                if let Some(before) = plan.parts.last_mut() {
                    before.append(last);
                }
            }
        }
        plan.parts.retain(|part| part.is_due);
        plan
    }

    /// Lists new segments in the place of old ones; false where somebody else was faster, or may
    /// delete the new ones.
    fn list_segments(&mut self, new: &[SegmentRow], old: &[SegmentRow]) -> bool {
        if old.iter().any(|row| self.index.get(row.first) != Some(row)) {
            return false;
        }
        for row in old {
            self.index.remove(row.first);
        }
        let overlaps = |a: &SegmentRow, b: &SegmentRow| a.first <= b.last && b.first <= a.last;
        let is_free = |row: &SegmentRow| {
            !self.is_fenced(&row.name) && !self.index.rows().any(|other| overlaps(row, other))
        };
        if !new.iter().all(is_free) {
            return false;
        }
        new.iter().for_each(|row| self.index.put(row.clone()));
        true
    }
}

impl Repository {
    /// Has so many packs without an index segment make one, not a hundred.
    #[must_use]
    pub fn with_segments_of(self, packs: usize) -> Self {
        self.inner.segment_packs.store(packs, Ordering::Relaxed);
        self
    }

    /// Writes, merges and drops index segments where it is time to. Homes have none: their packs
    /// are beside them. What lies in `near` as well is read there.
    ///
    /// # Errors
    /// When the place cannot be read or written. The segments that are listed stay so.
    pub fn tend_segments(
        &self,
        near: Option<&Repository>,
        operation: &Operation,
    ) -> Result<Tended> {
        self.renew_segments(near, operation, &HashSet::new())
    }

    /// The same on the occasion of another operation. They cost time alone, so that this is done
    /// where they cannot be written.
    pub(crate) fn tend_or_warn(&self, near: Option<&Repository>, occasion: &Operation) {
        if let Err(e) = self.tend_segments(near, &tending(occasion)) {
            tracing::warn!("no index segment was written at {}: {e}", self.location());
        }
    }

    /// As [`Repository::tend_segments`]; segments in `bad` are written anew from packs.
    pub(crate) fn renew_segments(
        &self,
        near: Option<&Repository>,
        operation: &Operation,
        bad: &HashSet<PackName>,
    ) -> Result<Tended> {
        if self.is_alone() {
            return Ok(Tended::default());
        }
        let state = self.state()?;
        let every = self.inner.segment_packs.load(Ordering::Relaxed);
        let plan = state.plan_segments(every, bad);
        let mut old = plan.dropped;
        let mut writing = Writing::new(self, near, state.floor());
        for part in plan.parts {
            writing.part(&part, bad)?;
            old.extend(part.rows);
        }
        let new = writing.rows;
        if new.is_empty() && old.is_empty() && state.index_lost.is_empty() {
            return Ok(Tended::default());
        }
        let mut was_late = false;
        let committed = self.commit_with(operation.clone(), |next| {
            next.index_lost.clear();
            was_late = !next.list_segments(&new, &old);
            match was_late {
                true => Err(Error::Contended {
                    location: self.location(),
                    tries: 1,
                }),
                false => Ok(()),
            }
        });
        match committed {
            Ok(_) => Ok(Tended {
                written: new.len() as u64,
                dropped: old.len() as u64,
            }),
            // What was written is left to the collection.
            Err(_) if was_late => Ok(Tended::default()),
            Err(e) => Err(e),
        }
    }

    /// The bytes of a segment, checked.
    fn segment(&self, row: &SegmentRow) -> Result<Vec<Entry>> {
        let bad = |why: String| Error::Damaged {
            what: format!("index segment {}", row.key()),
            location: self.location(),
            why,
        };
        if row.is_too_long() {
            return Err(bad(format!("it would have {} bytes", row.len)));
        }
        let bytes = self.objects().get_range(&row.key(), 0, row.len as usize)?;
        row.check(&bytes).map_err(bad)?;
        segment::decode(&bytes, self.seal().is_some()).map_err(bad)
    }

    /// Segments that the latest root lists and that are missing or damaged, with what was found;
    /// `all` reads them, otherwise only their lengths are looked at.
    pub(crate) fn bad_segments(&self, all: bool) -> Result<Vec<(PackName, String)>> {
        let state = self.state()?;
        let mut bad = Vec::new();
        for row in state.index_segments() {
            let found = match self.objects().size(&row.key())? {
                None => Some("it is missing".to_owned()),
                Some(len) if len != row.len => {
                    Some(format!("it has {len} bytes, {} expected", row.len))
                }
                Some(_) if !all => None,
                Some(_) => match self.segment(row) {
                    Err(Error::Damaged { why, .. }) => Some(why),
                    Err(e) if e.is_lost() => Some(e.to_string()),
                    Err(e) => return Err(e),
                    Ok(entries) => self.lie(&state, &entries)?,
                },
            };
            bad.extend(found.map(|why| (row.name, why)));
        }
        if !bad.is_empty() {
            // One is deleted after a root that lists it no more: that is no damage.
            let newest = self.state()?;
            let listed: HashSet<PackName> = newest.index_segments().map(|row| row.name).collect();
            bad.retain(|(name, _)| listed.contains(name));
        }
        Ok(bad)
    }

    /// What a segment says that its packs do not say.
    fn lie(&self, state: &State, entries: &[Entry]) -> Result<Option<String>> {
        let packs: HashMap<PackName, u64> = state.packs().map(|row| (row.name, row.len)).collect();
        for entry in entries {
            if let Err(why) = entry.decode(self.seal()) {
                return Ok(Some(format!("of pack {} it says: {why}", entry.pack)));
            }
            if packs.get(&entry.pack) != Some(&entry.len) {
                continue;
            }
            let (trailer, directory) =
                match reader::open_raw(&**self.objects(), entry.pack, entry.len) {
                    Err(e) if e.is_lost() => continue,
                    found => found?,
                };
            let own = Entry {
                trailer,
                directory,
                ..entry.clone()
            };
            // Of a pack that is damaged itself the segment may well be right.
            if own != *entry && own.decode(self.seal()).is_ok() {
                let pack = entry.pack;
                return Ok(Some(format!("of pack {pack} it says what that does not")));
            }
        }
        Ok(None)
    }

    /// Teaches the index what segments say of packs that it does not know, and takes these out. A
    /// lazy home asks those of the storage that has its packs.
    pub(crate) fn learn_from_segments(&self, unknown: &mut BTreeMap<PackName, u64>) -> Result<()> {
        let there = match self.objects().far() {
            None => self.clone(),
            Some(_) if unknown.len() < FEW => return Ok(()),
            Some(far) => {
                let (seal, index) = (self.seal().cloned(), IndexChoice::Memory);
                match Repository::open_in(far, seal, index, self.world().clone()) {
                    Ok(there) => there,
                    Err(e) => return Self::do_without("index segments", &e),
                }
            }
        };
        let state = match there.loaded() {
            Ok(state) => state,
            Err(e) => return Self::do_without("index segments", &e),
        };
        let mut rows: HashMap<u64, u64> = HashMap::new();
        let mut packs = state.packs().peekable();
        for row in state.index_segments() {
            while packs.next_if(|pack| pack.ordinal < row.first).is_some() {}
            while let Some(pack) = packs.next_if(|pack| pack.ordinal <= row.last) {
                if unknown.get(&pack.name) == Some(&pack.len) {
                    *rows.entry(row.first).or_default() += 1;
                }
            }
        }
        for row in state.index_segments() {
            let Some(wanted) = rows.get(&row.first) else {
                continue;
            };
            if wanted * REQUESTS_OF_PACK * REQUEST_BYTES < row.len {
                continue;
            }
            match there.segment(row) {
                Ok(entries) => self.learn_entries(&entries, unknown)?,
                Err(e) => Self::do_without(&row.key(), &e)?,
            }
        }
        Ok(())
    }

    /// Segments only save time: what they do not tell, packs do.
    fn do_without(what: &str, e: &Error) -> Result<()> {
        tracing::warn!("{what}: {e}; the directories of packs are read instead");
        Ok(())
    }

    fn learn_entries(
        &self,
        entries: &[Entry],
        unknown: &mut BTreeMap<PackName, u64>,
    ) -> Result<()> {
        for entry in entries {
            if unknown.get(&entry.pack) != Some(&entry.len) {
                continue;
            }
            match entry.decode(self.seal()) {
                Ok(directory) => {
                    self.learn_pack(entry.pack, &directory)?;
                    unknown.remove(&entry.pack);
                }
                Err(why) => tracing::warn!("an index segment says of pack {}: {why}", entry.pack),
            }
        }
        Ok(())
    }
}

/// Segments being written.
struct Writing<'a> {
    repository: &'a Repository,
    near: Option<&'a Repository>,
    session: [u8; 16],
    open: Open,
    /// What is there, not listed yet.
    rows: Vec<SegmentRow>,
}

/// A segment that is not there yet.
#[derive(Default)]
struct Open {
    entries: Vec<Entry>,
    bytes: usize,
    /// Ordinals of the packs that were looked at for it.
    span: Option<(u64, u64)>,
}

impl<'a> Writing<'a> {
    fn new(repository: &'a Repository, near: Option<&'a Repository>, floor: u64) -> Self {
        Writing {
            repository,
            near,
            session: repository.world().session_above(floor),
            open: Open::default(),
            rows: Vec::new(),
        }
    }

    /// Writes what the packs of a part say: as its segments say it, otherwise as they do.
    fn part(&mut self, part: &Part, bad: &HashSet<PackName>) -> Result<()> {
        let mut packs = &part.packs[..];
        for row in &part.rows {
            let from = packs.partition_point(|pack| pack.ordinal < row.first);
            self.packs(&packs[..from], HashMap::new())?;
            packs = &packs[from..];
            let to = packs.partition_point(|pack| pack.ordinal <= row.last);
            let known = match self.repository.segment(row) {
                _ if bad.contains(&row.name) => HashMap::new(),
                Ok(entries) => entries.into_iter().map(|e| ((e.pack, e.len), e)).collect(),
                Err(e) if e.is_lost() => {
                    Repository::do_without(&row.key(), &e)?;
                    HashMap::new()
                }
                Err(e) => return Err(e),
            };
            self.packs(&packs[..to], known)?;
            packs = &packs[to..];
        }
        self.packs(packs, HashMap::new())?;
        self.close()
    }

    fn packs(
        &mut self,
        packs: &[PackRow],
        mut known: HashMap<(PackName, u64), Entry>,
    ) -> Result<()> {
        for batch in packs.chunks(BATCH) {
            let mut entries: Vec<Option<Entry>> = batch
                .iter()
                .map(|pack| known.remove(&(pack.name, pack.len)))
                .collect();
            let missing: Vec<usize> = (0..batch.len()).filter(|n| entries[*n].is_none()).collect();
            let found = Mutex::new(Vec::new());
            let threads = THREADS.min(self.repository.world().threads());
            in_parallel(threads, &missing, |n| -> Result<()> {
                if let Some(entry) = self.entry(&batch[*n])? {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((*n, entry));
                }
                Ok(())
            })?;
            for (n, entry) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
                entries[n] = Some(entry);
            }
            for (pack, entry) in batch.iter().zip(entries) {
                let first = self.open.span.map_or(pack.ordinal, |(first, _)| first);
                self.open.span = Some((first, pack.ordinal));
                if let Some(entry) = entry {
                    self.open.bytes += entry.stored_len();
                    self.open.entries.push(entry);
                }
                if self.open.bytes >= SEGMENT_BYTES {
                    self.close()?;
                }
            }
        }
        Ok(())
    }

    /// What lies at the end of a pack; nothing where that is lost.
    fn entry(&self, pack: &PackRow) -> Result<Option<Entry>> {
        let is_near = |near: &&Repository| {
            let path = near.objects().local_path(&pack.name.key());
            path.is_some_and(|path| path.is_file())
        };
        for place in [self.near.filter(is_near), Some(self.repository)] {
            let Some(place) = place else { continue };
            let (trailer, directory) =
                match reader::open_raw(&**place.objects(), pack.name, pack.len) {
                    Ok(found) => found,
                    Err(e) if e.is_lost() => continue,
                    Err(e) => return Err(e),
                };
            let entry = Entry {
                pack: pack.name,
                len: pack.len,
                trailer,
                directory,
            };
            match entry.decode(self.repository.seal()) {
                Ok(_) => return Ok(Some(entry)),
                Err(why) => tracing::debug!("pack {} at {}: {why}", pack.name, place.location()),
            }
        }
        Ok(None)
    }

    fn close(&mut self) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        let (Some((first, last)), false) = (open.span, open.entries.is_empty()) else {
            return Ok(());
        };
        let (bytes, hash) = segment::encode(&open.entries, self.repository.seal().is_some());
        let row = SegmentRow {
            first,
            last,
            name: PackName {
                session: self.session,
                number: self.rows.len() as u32,
            },
            len: bytes.len() as u64,
            hash,
            packs: open.entries.len() as u32,
        };
        // The name is random: what exists under it can only be an earlier try of this very call.
        self.repository.objects().create(&row.key(), &bytes)?;
        self.rows.push(row);
        Ok(())
    }
}
