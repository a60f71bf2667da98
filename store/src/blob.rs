//! id → place → frame → bytes, checked against the id.
//!
//! A delta stands on a chain of blobs down to a plain one. The index knows all of it, so a chain
//! is known before the first of its blobs is read.

use crate::delta::{self, Form};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Id, Kind, PackName};
use crate::index::{Index, Location};
use crate::pack::{Directory, frame};
use crate::repository::Repository;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A reader that is left behind by collections this often gives up.
const LOOKS: u32 = 32;
/// Descriptors kept open at once.
const FILES_MAX: usize = 128;
/// Bytes of decoded shared frames kept: neighbours in a file have their deltas in few frames,
/// most of which have 64 KiB.
const FRAMES_BYTES_MAX: usize = 16 << 20;
/// A frame that would push out too many others is not kept.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// A frame: its pack, and where its payload begins there.
pub(crate) type FrameKey = (PackName, u64);
/// A blob: its pack, and its number there.
type BlobKey = (PackName, u32);

/// Open packs and decoded shared frames.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    files: Mutex<HashMap<PackName, Arc<File>>>,
    frames: Mutex<Frames>,
}

/// The frames that were used last.
#[derive(Debug, Default)]
struct Frames {
    clock: u64,
    bytes: usize,
    by_key: HashMap<FrameKey, (u64, Arc<Vec<u8>>)>,
}

impl Frames {
    fn get(&mut self, key: &FrameKey) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let (used, plain) = self.by_key.get_mut(key)?;
        *used = self.clock;
        Some(plain.clone())
    }

    fn put(&mut self, key: FrameKey, plain: Arc<Vec<u8>>) {
        if plain.len() > FRAME_BYTES_MAX {
            return;
        }
        while self.bytes + plain.len() > FRAMES_BYTES_MAX {
            let oldest = self.by_key.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                break;
            };
            self.forget(&oldest);
        }
        self.forget(&key);
        self.bytes += plain.len();
        self.by_key.insert(key, (self.clock, plain));
    }

    fn forget(&mut self, key: &FrameKey) {
        if let Some((_, plain)) = self.by_key.remove(key) {
            self.bytes -= plain.len();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers and a decompressor of one thread.
#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    other: Vec<u8>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Scratch {
    fn decompressor(&mut self) -> Result<&mut zstd::bulk::Decompressor<'static>> {
        Ok(match &mut self.decompressor {
            Some(d) => d,
            slot => slot.insert(zstd::bulk::Decompressor::new().map_err(|e| Error::Invalid {
                what: e.to_string(),
            })?),
        })
    }
}

/// Stored bytes that were fetched ahead, by where they begin in their pack.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    ranges: HashMap<PackName, Vec<(u64, Vec<u8>)>>,
}

impl Fetched {
    pub(crate) fn add(&mut self, pack: PackName, offset: u64, bytes: Vec<u8>) {
        self.ranges.entry(pack).or_default().push((offset, bytes));
    }

    fn get(&self, pack: PackName, offset: u64, len: usize) -> Option<&[u8]> {
        self.ranges.get(&pack)?.iter().find_map(|(begin, bytes)| {
            let at = usize::try_from(offset.checked_sub(*begin)?).ok()?;
            bytes.get(at..at.checked_add(len)?)
        })
    }
}

impl Location {
    /// Where its frame's origin and header begin to matter: before the payload of a sealed one.
    pub(crate) fn stored_range(&self, sealed: bool) -> (u64, usize) {
        let head = if sealed { frame::payload_at(true) } else { 0 };
        let begin = self.payload_offset.saturating_sub(head as u64);
        (begin, head + self.stored_len as usize)
    }

    fn frame(&self) -> FrameKey {
        (self.pack, self.payload_offset)
    }

    fn blob(&self) -> BlobKey {
        (self.pack, self.ordinal)
    }
}

/// The blobs that are read for one: itself first, a plain one last.
pub(crate) type Chain = Vec<(Id, Location)>;

impl Repository {
    /// Forgets what is kept open and decoded of a pack whose file was replaced.
    pub(crate) fn forget_pack(&self, pack: PackName) {
        lock(&self.inner.cache.files).remove(&pack);
        *lock(&self.inner.cache.frames) = Frames::default();
    }

    /// The chain of a live blob of this id, if there is one that is whole: a delta that nothing
    /// needs may have lost what it stands on.
    pub(crate) fn locate(&self, id: &Id) -> Result<Option<Chain>> {
        for place in self.live_places(id)? {
            if let Some(chain) = self.chain(*id, place)? {
                return Ok(Some(chain));
            }
        }
        Ok(None)
    }

    /// The live places of an id, the best first.
    pub(crate) fn live_places(&self, id: &Id) -> Result<Vec<Location>> {
        self.ensure_indexed()?;
        let mut places = self.inner.index.get(id)?;
        places.extend(self.inner.overlay.get(id)?);
        let live = self.lock_live_read();
        places.retain(|l| live.holds(&l.pack));
        places.sort_by_key(|l| live.preference(l));
        Ok(places)
    }

    /// The chain from the blob at `place` down, or nothing when a base is in no live pack.
    pub(crate) fn chain(&self, id: Id, place: Location) -> Result<Option<Chain>> {
        let mut chain = vec![(id, place)];
        let whole = self.stands(&mut chain, &mut HashSet::new())?;
        Ok(whole.then_some(chain))
    }

    /// Puts under the last blob of a chain what it stands on; false, with the chain as it was,
    /// when that is not to be had. `lost` are blobs of which that is known: with several copies of
    /// each base there are more ways down than anyone wants to try.
    fn stands(&self, chain: &mut Chain, lost: &mut HashSet<BlobKey>) -> Result<bool> {
        let (_, top) = chain[chain.len() - 1];
        if top.form == Form::Plain {
            return Ok(true);
        }
        if lost.contains(&top.blob()) {
            return Ok(false);
        }
        let bases = self.bases(&top)?;
        // Where two ids begin alike only the bytes tell which of them is meant. Whoever keeps or
        // sends what a chain names must not take the other.
        let is_clear = bases.iter().all(|(id, _)| *id == bases[0].0);
        let height = chain.len();
        for base in bases {
            chain.push(base);
            if self.stands(chain, lost)? && (is_clear || self.is_right(&chain[height - 1..])?) {
                return Ok(true);
            }
            chain.truncate(height);
        }
        lost.insert(top.blob());
        Ok(false)
    }

    /// Whether a chain decodes to what its first id says.
    fn is_right(&self, chain: &[(Id, Location)]) -> Result<bool> {
        let mut bytes = Vec::new();
        match self.apply_all(chain, &Fetched::default(), &mut bytes) {
            Ok(()) => Ok(Kind::OF_DELTAS
                .iter()
                .any(|kind| self.ids().of(*kind, &bytes) == chain[0].0)),
            Err(e) if e.kind() == ErrorKind::Damaged => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Blobs that a delta may stand on, the likeliest first. Their depth is smaller than its own,
    /// so that no chain comes back to itself, whichever blobs of an id are there.
    fn bases(&self, delta: &Location) -> Result<Vec<(Id, Location)>> {
        let mut places = self.inner.index.get_base(&delta.base)?;
        places.extend(self.inner.overlay.get_base(&delta.base)?);
        let live = self.lock_live_read();
        places.retain(|(_, l)| l.depth < delta.depth && live.holds(&l.pack));
        places.sort_by_key(|(_, l)| live.preference(l));
        Ok(places)
    }

    /// Whether this id is the only one that deltas can mean by its beginning.
    pub(crate) fn is_clear_base(&self, id: &Id) -> Result<bool> {
        let all = |found: Vec<(Id, Location)>| found.iter().all(|(other, _)| other == id);
        Ok(all(self.inner.index.get_base(&id.base())?)
            && all(self.inner.overlay.get_base(&id.base())?))
    }

    /// Teaches the index the live packs that it does not know.
    pub(crate) fn ensure_indexed(&self) -> Result<()> {
        while !self.lock_live_read().indexed {
            self.loaded()?;
            let (state, packs) = {
                let live = self.lock_live_read();
                let packs = live.packs.iter().map(|(name, len)| (*name, *len));
                let mut packs: Vec<_> = packs.collect();
                packs.sort_unstable();
                (live.state.clone(), packs)
            };
            self.index_packs(packs)?;
            let mut live = self
                .inner
                .live
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Another thread may have come upon a newer root in the meantime, with other packs.
            let (latest, indexed) = (&live.state, &state);
            live.indexed = latest.as_ref().map(Arc::as_ptr) == indexed.as_ref().map(Arc::as_ptr);
        }
        Ok(())
    }

    /// Teaches the index what is in packs that it does not know: as index segments say, or packs.
    fn index_packs(&self, packs: Vec<(PackName, u64)>) -> Result<()> {
        let mut unknown = self.unknown_of(packs)?;
        self.learn_from_segments(&mut unknown)?;
        for (name, len) in unknown {
            match self.directory(name, len) {
                Ok(directory) => self.learn_pack(name, &directory)?,
                // What is in it is missing; that must not keep anyone from the other packs.
                Err(e) if e.is_lost() => {
                    tracing::warn!("what is in pack {name} is not to be had: {e}");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Those of these packs that the index does not know.
    pub(crate) fn unknown_of(
        &self,
        packs: impl IntoIterator<Item = (PackName, u64)>,
    ) -> Result<BTreeMap<PackName, u64>> {
        let mut known = self.inner.index.packs()?;
        known.extend(self.inner.overlay.packs()?);
        let packs = packs.into_iter();
        Ok(packs.filter(|(name, _)| !known.contains(name)).collect())
    }

    pub(crate) fn learn_pack(&self, name: PackName, directory: &Directory) -> Result<()> {
        match self.inner.index.is_writable() {
            true => self.inner.index.add_pack(name, directory),
            false => self.inner.overlay.add_pack(name, directory),
        }
    }

    /// The chain of a live blob of this id, after another look at the latest root where there
    /// seems to be none.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::BaseMissing`].
    pub(crate) fn find(&self, kind: Kind, id: Id) -> Result<Chain> {
        // Another process may have committed, or collected, since, and may again.
        let mut seen = None;
        for _ in 0..LOOKS {
            if let Some(chain) = self.locate(&id)? {
                return Ok(chain);
            }
            let seq = self.state()?.seq();
            if seen.replace(seq) == Some(seq) {
                break;
            }
        }
        Err(self.missing(kind, id)?)
    }

    /// Why there is no chain for this id.
    pub(crate) fn missing(&self, kind: Kind, id: Id) -> Result<Error> {
        Ok(match self.live_places(&id)?.first() {
            Some(delta) => self.base_missing(delta),
            None => Error::Missing {
                id,
                kind: kind.name(),
                location: self.location(),
            },
        })
    }

    /// The plain bytes of any blob into `into`, checked against the id.
    pub(crate) fn read_blob(&self, kind: Kind, id: Id, into: &mut Vec<u8>) -> Result<()> {
        let chain = self.find(kind, id)?;
        self.read_found(kind, &chain, &Fetched::default(), into)
    }

    /// The same as [`Repository::read_chain`]; where that fails, what the newest root has serves:
    /// a collection may have been faster than who looked the chain up, and another copy be whole.
    pub(crate) fn read_found(
        &self,
        kind: Kind,
        chain: &[(Id, Location)],
        fetched: &Fetched,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let error = match self.read_chain(kind, chain, fetched, into) {
            Err(e) if e.kind() == ErrorKind::Damaged => e,
            read => return read,
        };
        let (id, _) = chain[0];
        // As long as roots move on: what is where the newest says may be moved once more, and so
        // may be what a delta stands on.
        let mut seen = None;
        for _ in 0..LOOKS {
            let seq = self.state()?.seq();
            if seen.replace(seq) == Some(seq) {
                break;
            }
            for place in self.live_places(&id)? {
                let Some(chain) = self.chain(id, place)? else {
                    continue;
                };
                match self.read_chain(kind, &chain, &Fetched::default(), into) {
                    Err(e) if e.kind() == ErrorKind::Damaged => {}
                    read => return read,
                }
            }
        }
        Err(error)
    }

    /// The plain bytes of the first blob of a chain, checked against its id.
    pub(crate) fn read_chain(
        &self,
        kind: Kind,
        chain: &[(Id, Location)],
        fetched: &Fetched,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let (id, place) = &chain[0];
        let read = self
            .apply_all(chain, fetched, into)
            .and_then(|()| self.check(kind, *id, place, into));
        match read {
            // Another copy of what it stands on may be whole.
            Err(e) if e.kind() == ErrorKind::Damaged && chain.len() > 1 => {
                self.read_any(kind, *id, place, into, &mut HashSet::new())
            }
            other => other,
        }
    }

    /// The bytes of a chain, not checked.
    fn apply_all(
        &self,
        chain: &[(Id, Location)],
        fetched: &Fetched,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        chain
            .iter()
            .rev()
            .try_for_each(|(_, place)| self.apply(place, fetched, into))
    }

    fn check(&self, kind: Kind, id: Id, place: &Location, bytes: &[u8]) -> Result<()> {
        if self.ids().of(kind, bytes) == id {
            return Ok(());
        }
        Err(self.blob_damaged(place, "decodes to other bytes than its name says"))
    }

    /// The bytes of a blob over whichever bases give what its id says. When none do, the error
    /// names the lowest that is damaged. `bad` are blobs that were tried.
    fn read_any(
        &self,
        kind: Kind,
        id: Id,
        place: &Location,
        into: &mut Vec<u8>,
        bad: &mut HashSet<BlobKey>,
    ) -> Result<()> {
        if place.form == Form::Plain {
            self.apply(place, &Fetched::default(), into)?;
            return self.check(kind, id, place, into);
        }
        let (mut below, mut here) = (None, None);
        for (base, under) in self.bases(place)? {
            if bad.contains(&under.blob()) {
                continue;
            }
            match self.read_any(kind, base, &under, into, bad) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    bad.insert(under.blob());
                    below.get_or_insert(e);
                    continue;
                }
                Err(e) => return Err(e),
            }
            let read = self.apply(place, &Fetched::default(), into);
            match read.and_then(|()| self.check(kind, id, place, into)) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Damaged => here = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(below.or(here).unwrap_or_else(|| self.base_missing(place)))
    }

    fn base_missing(&self, delta: &Location) -> Error {
        Error::BaseMissing {
            pack: delta.pack,
            location: self.location(),
            offset: delta.payload_offset,
        }
    }

    fn blob_damaged(&self, place: &Location, why: impl Into<String>) -> Error {
        Error::BlobDamaged {
            pack: place.pack,
            location: self.location(),
            offset: place.payload_offset,
            why: why.into(),
        }
    }

    /// Turns the base in `into` into the blob at `place`; a plain one replaces what is there.
    fn apply(&self, place: &Location, fetched: &Fetched, into: &mut Vec<u8>) -> Result<()> {
        let bad = |why: String| self.blob_damaged(place, why);
        if place.form == Form::Plain && place.body_len == place.plain_len {
            return self.decode_frame(place, fetched, into);
        }
        let plain = self.shared_frame(place, fetched)?;
        let begin = place.offset as usize;
        let body = plain
            .get(begin..begin + place.body_len as usize)
            .ok_or_else(|| bad("is longer than its frame".into()))?;
        let len = place.len as usize;
        match place.form {
            Form::Plain => {
                into.clear();
                into.extend_from_slice(body);
                Ok(())
            }
            Form::Patch => delta::patch(body, len, into).map_err(bad),
            Form::Prefix => SCRATCH.with_borrow_mut(|scratch| {
                delta::decompress(into, body, len, &mut scratch.other).map_err(bad)?;
                std::mem::swap(into, &mut scratch.other);
                Ok(())
            }),
        }
    }

    /// The body of the blob at a place as it lies in its decoded frame, not checked.
    pub(crate) fn body(&self, place: &Location) -> Result<Vec<u8>> {
        let plain = self.shared_frame(place, &Fetched::default())?;
        let begin = place.offset as usize;
        plain
            .get(begin..begin + place.body_len as usize)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| self.blob_damaged(place, "is longer than its frame"))
    }

    /// The runs of the patch at a place, each with where it begins; bytes are not checked.
    pub(crate) fn runs(
        &self,
        place: &Location,
        fetched: &Fetched,
        each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let bad = |why: String| self.blob_damaged(place, why);
        let plain = self.shared_frame(place, fetched)?;
        let begin = place.offset as usize;
        let body = plain
            .get(begin..begin + place.body_len as usize)
            .ok_or_else(|| bad("is longer than its frame".into()))?;
        delta::runs(body, place.len as usize, each).map_err(bad)
    }

    /// The bytes of the first blob of a chain into `into`, which has those of the blob under
    /// `above` of them; checked against the id.
    pub(crate) fn read_above(
        &self,
        kind: Kind,
        chain: &[(Id, Location)],
        above: usize,
        fetched: &Fetched,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        self.apply_all(&chain[..above], fetched, into)?;
        let (id, place) = &chain[0];
        self.check(kind, *id, place, into)
    }

    /// The decoded payload of a frame that several blobs share.
    fn shared_frame(&self, place: &Location, fetched: &Fetched) -> Result<Arc<Vec<u8>>> {
        let key = place.frame();
        if let Some(plain) = lock(&self.inner.cache.frames).get(&key) {
            return Ok(plain);
        }
        let mut plain = Vec::new();
        self.decode_frame(place, fetched, &mut plain)?;
        let plain = Arc::new(plain);
        lock(&self.inner.cache.frames).put(key, plain.clone());
        Ok(plain)
    }

    /// The decoded payload of the frame of `place`, into `plain`, which is cleared first.
    fn decode_frame(&self, place: &Location, fetched: &Fetched, plain: &mut Vec<u8>) -> Result<()> {
        let bad = |why: String| self.blob_damaged(place, why);
        SCRATCH
            .with_borrow_mut(|scratch| {
                let (offset, len) = place.stored_range(self.seal().is_some());
                let mut stored = std::mem::take(&mut scratch.stored);
                let result = match fetched.get(place.pack, offset, len) {
                    Some(bytes) => self.decode_stored(place, bytes, scratch, plain),
                    None => self
                        .read_stored(place, offset, len, &mut stored)
                        .and_then(|()| self.decode_stored(place, &stored, scratch, plain)),
                };
                scratch.stored = stored;
                result
            })
            .map_err(|e| match e {
                Decode::Error(e) => e,
                Decode::Bad(why) => bad(why),
            })
    }

    fn decode_stored(
        &self,
        place: &Location,
        stored: &[u8],
        scratch: &mut Scratch,
        plain: &mut Vec<u8>,
    ) -> Result<(), Decode> {
        let opened;
        let payload = match self.seal() {
            None => stored,
            Some(seal) => {
                let (head, payload) = stored
                    .split_at_checked(frame::payload_at(true))
                    .ok_or_else(|| Decode::Bad("is cut short".into()))?;
                opened = frame::unseal(head, payload.to_vec(), seal).map_err(Decode::Bad)?;
                &opened
            }
        };
        let decompressor = scratch.decompressor().map_err(Decode::Error)?;
        frame::decode_payload(place.codec, payload, place.plain_len, decompressor, plain)
            .map_err(Decode::Bad)
    }

    fn read_stored(
        &self,
        place: &Location,
        offset: u64,
        len: usize,
        stored: &mut Vec<u8>,
    ) -> Result<(), Decode> {
        let key = place.pack.key();
        let Some(path) = self.inner.objects.local_path(&key) else {
            let range = self.inner.objects.get_range(&key, offset, len);
            *stored = range.map_err(|e| match e {
                e if e.is_not_found() => Decode::Error(self.gone(place.pack)),
                e if e.is_out_of_range() => Decode::Bad("is cut short".into()),
                e => Decode::Error(e.into()),
            })?;
            return Ok(());
        };
        let file = self.open_pack(place.pack, &path).map_err(Decode::Error)?;
        stored.resize(len, 0);
        file.read_exact_at(stored, offset)
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => Decode::Bad("is cut short".into()),
                _ => Decode::Error(Error::file("read", &path)(e)),
            })
    }

    fn gone(&self, pack: PackName) -> Error {
        Error::Damaged {
            what: format!("pack {pack}"),
            location: self.location(),
            why: "it is gone".into(),
        }
    }

    fn open_pack(&self, pack: PackName, path: &Path) -> Result<Arc<File>> {
        if let Some(file) = lock(&self.inner.cache.files).get(&pack) {
            return Ok(file.clone());
        }
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.gone(pack),
            _ => Error::file("open", path)(e),
        })?;
        let file = Arc::new(file);
        let mut files = lock(&self.inner.cache.files);
        if files.len() >= FILES_MAX {
            files.clear();
        }
        files.insert(pack, file.clone());
        Ok(file)
    }
}

/// What can go wrong between a place and its bytes.
enum Decode {
    Error(Error),
    /// Says what is wrong with the frame.
    Bad(String),
}
