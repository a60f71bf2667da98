//! Looks whether everything that snapshots need is there and whole.
//!
//! Packs are looked at first, on several threads and piece by piece, so that memory does not grow
//! with them. Then snapshots are walked: which of them, and which of their files, need what is
//! missing or damaged (`damage`).

use crate::bulk::{self, Item, in_parallel};
use crate::damage::{Bad, Damage, PackDamage, Survey};
use crate::delta::Form;
use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::index::locations;
use crate::pack::reader::{self, check_frame};
use crate::pack::{Directory, Trailer, check_header};
use crate::repository::Repository;
use crate::root::PackRow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of a pack that are read at a time, and what a sample is made of.
const PIECE_BYTES: u64 = 4 << 20;
/// Packs that are read at once.
const THREADS: usize = 4;
/// All of a sample, in the unit of [`Verify::Sample`].
pub const WHOLE: u32 = 10_000;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// That every pack is there in its length and every node readable.
    Quick,
    /// Every byte, every blob against its id.
    ReadData,
    /// As quick, and so many ten-thousandths of all bytes, chosen at random.
    Sample(u32),
}

/// Progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyEvent {
    /// About this much is to be read.
    Plan {
        /// Stored bytes.
        bytes: u64,
    },
    /// This much more was read.
    Read {
        /// Stored bytes.
        bytes: u64,
    },
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Packs looked at.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, bytes that were read and checked against their hashes.
    pub read_bytes: u64,
    /// Snapshots walked.
    pub snapshots: u64,
    /// Packs that are missing or damaged, with what was found.
    pub bad_packs: Vec<(PackName, String)>,
    /// Snapshots that need what is missing or damaged, with the first thing found.
    pub bad_snapshots: Vec<(SnapshotId, String)>,
    /// What of these snapshots cannot be read.
    pub damage: Vec<Damage>,
    /// Index segments that are missing or damaged, with what was found: they cost time alone.
    pub bad_segments: Vec<(PackName, String)>,
}

impl VerifyReport {
    /// Whether nothing is lost.
    pub fn is_good(&self) -> bool {
        self.bad_packs.is_empty() && self.bad_snapshots.is_empty()
    }
}

impl Repository {
    /// Looks at every pack and walks every snapshot. Damage is in the report, not an error.
    ///
    /// # Errors
    /// When the place itself cannot be read.
    pub fn verify(&self, how: Verify) -> Result<VerifyReport> {
        self.verify_with(how, &|_| {})
    }

    /// The same, watched.
    ///
    /// # Errors
    /// As [`Repository::verify`].
    pub fn verify_with(
        &self,
        how: Verify,
        on: &(dyn Fn(VerifyEvent) + Sync),
    ) -> Result<VerifyReport> {
        Ok(self.look(how, on)?.0)
    }

    /// A look at everything; also which blobs of which packs are bad. What others moved or deleted
    /// meanwhile is no damage: what seems bad is judged by the newest root, read afterwards.
    pub(crate) fn look(
        &self,
        how: Verify,
        on: &(dyn Fn(VerifyEvent) + Sync),
    ) -> Result<(VerifyReport, Bad)> {
        let mut state = self.state()?;
        let (mut bad, mut read_bytes) = (Bad::default(), 0);
        let mut looked_at = HashSet::new();
        loop {
            let rows = state.packs().filter(|row| looked_at.insert(row.name));
            let packs: Vec<PackRow> = rows.copied().collect();
            if !packs.is_empty() {
                let (found, read) = self.look_at_packs(&packs, how, on)?;
                bad.packs.extend(found.packs);
                read_bytes += read;
            }
            let mut survey = Survey::new(self, &bad);
            for row in state.snapshots() {
                survey.snapshot(row.id, row.tree)?;
            }
            let (bad_snapshots, damage) = survey.into_damage();
            let newest = self.state()?;
            // A pack is deleted after a root says so: one that is listed still is missed.
            let there: HashSet<PackName> = newest.packs().map(|row| row.name).collect();
            bad.packs.retain(|name, _| there.contains(name));
            // Of packs that stayed with it, what was not to be had is lost. Names never come back,
            // so what uses the same packs as before used them all the time.
            let ids: HashSet<SnapshotId> = bad_snapshots.iter().map(|(id, _)| *id).collect();
            if newest.usages(&ids) == state.usages(&ids) {
                let report = VerifyReport {
                    packs: state.packs().count() as u64,
                    bytes: state.packs().map(|row| row.len).sum(),
                    read_bytes,
                    snapshots: state.len() as u64,
                    bad_packs: bad.told(),
                    bad_snapshots,
                    damage,
                    bad_segments: self.bad_segments(how == Verify::ReadData)?,
                };
                return Ok((report, bad));
            }
            state = newest;
        }
    }

    /// Which of these packs are bad, and how many bytes were read to tell.
    fn look_at_packs(
        &self,
        packs: &[PackRow],
        how: Verify,
        on: &(dyn Fn(VerifyEvent) + Sync),
    ) -> Result<(Bad, u64)> {
        let bytes: u64 = packs.iter().map(|row| row.len).sum();
        let (part, seed) = match how {
            Verify::Quick => (0, [0; 32]),
            Verify::ReadData => (WHOLE, [0; 32]),
            Verify::Sample(part) => (part, self.world().bytes()),
        };
        if part > 0 {
            let bytes = (u128::from(bytes) * u128::from(part) / u128::from(WHOLE)) as u64;
            on(VerifyEvent::Plan { bytes });
        }
        let read = AtomicU64::new(0);
        let on_read = |bytes: u64| {
            read.fetch_add(bytes, Ordering::Relaxed);
            on(VerifyEvent::Read { bytes });
        };
        let bad = Mutex::new(Bad::default());
        let found = |name: PackName, damage: Option<PackDamage>| {
            if let Some(damage) = damage {
                let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                bad.packs.insert(name, damage);
            }
        };
        let threads = THREADS.min(self.world().threads());
        in_parallel(threads, packs, |row| -> Result<()> {
            let piece = |n: u64| part == WHOLE || draw(&seed, &row.name, n) < part;
            found(row.name, self.look_at_pack(row, part, &piece, &on_read)?);
            Ok(())
        })?;
        // However small the part, something is read: the first piece of some pack.
        if part > 0
            && read.load(Ordering::Relaxed) == 0
            && let Some(row) = packs.iter().min_by_key(|row| draw(&seed, &row.name, 0))
        {
            let damage = self.look_at_pack(row, part, &|n| n == 0, &on_read)?;
            found(row.name, damage);
        }
        let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((bad, read.into_inner()))
    }

    /// What is wrong with one pack. Of its bytes those pieces are read that `chosen` wants.
    fn look_at_pack(
        &self,
        row: &PackRow,
        part: u32,
        chosen: &dyn Fn(u64) -> bool,
        on_read: &dyn Fn(u64),
    ) -> Result<Option<PackDamage>> {
        let key = row.name.key();
        match self.objects().size(&key)? {
            None => return Ok(Some(PackDamage::Gone("it is missing".into()))),
            Some(len) if len != row.len => {
                let why = format!("it has {len} bytes, {} expected", row.len);
                return Ok(Some(PackDamage::Gone(why)));
            }
            Some(_) => {}
        }
        let opened = reader::open(&**self.objects(), row.name, row.len, self.seal());
        let (trailer, directory) = match opened {
            Ok(opened) => opened,
            Err(Error::Damaged { why, .. }) => return Ok(Some(PackDamage::Gone(why))),
            Err(e) if e.is_lost() => return Ok(Some(PackDamage::Gone(e.to_string()))),
            Err(e) => return Err(e),
        };
        if part == 0 {
            return Ok(None);
        }
        let mut read = |offset: u64, len: usize| -> Result<Option<Vec<u8>>> {
            match self.objects().get_range(&key, offset, len) {
                Ok(bytes) => {
                    on_read(len as u64);
                    Ok(Some(bytes))
                }
                Err(e) if e.is_not_found() || e.is_out_of_range() => Ok(None),
                Err(e) => Err(e.into()),
            }
        };
        let checked = self.check_pieces(&trailer, &directory, chosen, part == WHOLE, &mut read)?;
        let (mut why, mut bad) = (checked.why, checked.bad);
        for (ordinal, said) in self.check_deltas(row.name, &directory, &checked.read, &bad)? {
            bad.insert(ordinal);
            why.get_or_insert(said);
        }
        Ok(why.map(|why| PackDamage::Blobs { why, bad }))
    }

    /// Checks the frames of a pack of which `read` gives ranges.
    pub(crate) fn check_pieces(
        &self,
        trailer: &Trailer,
        directory: &Directory,
        chosen: &dyn Fn(u64) -> bool,
        all: bool,
        read: &mut dyn FnMut(u64, usize) -> Result<Option<Vec<u8>>>,
    ) -> Result<Checked> {
        let mut checked = Checked::default();
        let mut hasher = blake3::Hasher::new();
        let (mut begin, mut ordinal) = (0u64, 0u32);
        let mut frames = &directory.frames[..];
        for number in 0.. {
            if frames.is_empty() {
                break;
            }
            let fits = |frame: &&crate::pack::FrameEntry| frame.end() <= begin + PIECE_BYTES;
            let n = frames.iter().take_while(fits).count().max(1);
            let (piece, rest) = frames.split_at(n);
            frames = rest;
            let end = match rest {
                [] => trailer.directory_offset,
                [next, ..] => next.offset,
            };
            let blobs = piece.iter().map(|f| f.blobs.len() as u32).sum::<u32>();
            if chosen(number) {
                let bytes = read(begin, (end - begin) as usize)?;
                if let Some(bytes) = &bytes {
                    hasher.update(bytes);
                    if begin == 0
                        && let Err(why) = check_header(bytes, trailer)
                    {
                        checked.why.get_or_insert(why);
                    }
                }
                let mut at = ordinal;
                for frame in piece {
                    let next = at + frame.blobs.len() as u32;
                    let stored = bytes.as_ref().and_then(|bytes| {
                        let from = usize::try_from(frame.offset.checked_sub(begin)?).ok()?;
                        let to = usize::try_from(frame.end().checked_sub(begin)?).ok()?;
                        bytes.get(from..to)
                    });
                    let found = match stored {
                        Some(stored) => {
                            check_frame(stored, frame, trailer.version, self.ids(), self.seal())
                        }
                        None => Err(format!("the frame at offset {} is gone", frame.offset)),
                    };
                    if let Err(why) = found {
                        checked.why.get_or_insert(why);
                        checked.bad.extend(at..next);
                    }
                    checked.read.push((at, next));
                    at = next;
                }
            }
            ordinal += blobs;
            begin = end;
        }
        let hash = hasher.finalize();
        if all && checked.why.is_none() && hash.as_bytes()[..16] != trailer.content_hash {
            checked.why = Some("its content has another hash".into());
        }
        Ok(checked)
    }

    /// Numbers of deltas that do not give what their names say, with what was found. Damage below
    /// them is told of where it is; a delta that nothing needs may have lost its base.
    fn check_deltas(
        &self,
        name: PackName,
        directory: &Directory,
        read: &[(u32, u32)],
        bad: &HashSet<u32>,
    ) -> Result<Vec<(u32, String)>> {
        let mut found = Vec::new();
        let mut kinds = directory.frames.iter().flat_map(|f| &f.blobs);
        let mut ranges = read.iter().peekable();
        let mut batch = Vec::new();
        for (id, place) in locations(name, directory) {
            let Some(blob) = kinds.next() else { break };
            while ranges.peek().is_some_and(|(_, end)| *end <= place.ordinal) {
                ranges.next();
            }
            let was_read = ranges
                .peek()
                .is_some_and(|(from, _)| *from <= place.ordinal);
            if !was_read || place.form == Form::Plain || bad.contains(&place.ordinal) {
                continue;
            }
            if let Some(chain) = self.chain(id, place)? {
                let keys = vec![(place.ordinal, blob.part.kind)];
                batch.push(Item { chain, keys });
            }
            if batch.len() == bulk::BATCH {
                self.check_batch(name, &std::mem::take(&mut batch), &mut found)?;
            }
        }
        self.check_batch(name, &batch, &mut found)?;
        Ok(found)
    }

    fn check_batch(
        &self,
        name: PackName,
        batch: &[Item<(u32, crate::id::Kind)>],
        found: &mut Vec<(u32, String)>,
    ) -> Result<()> {
        let fetched = self.fetch_ahead(batch.iter().flat_map(|item| &item.chain))?;
        let mut bytes = Vec::new();
        for item in batch {
            let (ordinal, kind) = item.keys[0];
            match self.read_chain(kind, &item.chain, &fetched, &mut bytes) {
                Ok(()) => {}
                Err(Error::BlobDamaged { pack, why, .. }) if pack == name => {
                    found.push((ordinal, format!("a delta in it {why}")));
                }
                Err(e) if e.is_lost() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What checking the frames of a pack found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The first thing that is wrong.
    pub why: Option<String>,
    /// Numbers of the blobs that are damaged.
    pub bad: HashSet<u32>,
    /// Numbers of the blobs that were looked at, as ranges.
    pub read: Vec<(u32, u32)>,
}

/// A number below [`WHOLE`] for each piece of each pack, the same for the same seed.
fn draw(seed: &[u8; 32], name: &PackName, piece: u64) -> u32 {
    let mut hasher = blake3::Hasher::new_keyed(seed);
    hasher
        .update(&name.session)
        .update(&name.number.to_le_bytes());
    hasher.update(&piece.to_le_bytes());
    let hash = hasher.finalize();
    let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32"));
    (number % u64::from(WHOLE)) as u32
}
