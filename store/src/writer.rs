//! The way in: bytes → id → dedup → delta or plain → frame → pack → commit.
//!
//! One writer at a time, who holds the home's lock; many threads may put at once. A finished pack
//! is synced, named and indexed in the background; what an interrupted writer left finished is
//! adopted by the next one, so that nothing is stored twice.
//!
//! A changed chunk is stored as its difference to the chunk that was at its place before, and a
//! changed node of an extent map likewise (`encode`).

mod leftovers;

use crate::blob::Fetched;
use crate::delta::Form;
use crate::encode::{Encoded, compressing};
use crate::error::{Error, Result};
use crate::id::{ChunkId, Id, Kind, PackName, SnapshotId, TreeId};
use crate::object::{Content, File, Listing, Snapshot, extents, snapshot, tree};
use crate::objects::{ObjectsError, TEMPORARY_PREFIX, disk};
use crate::pack::frame::{self, Frame, Part};
use crate::pack::{
    ALONE_BYTES, FinishedPack, FrameEntry, PACK_BLOBS, PACK_BYTES, PackWriter, SHARED_BYTES,
};
use crate::repository::Repository;
use crate::root::{Operation, RefChange, Row};
use crate::state::State;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// zstd level where nobody says otherwise: docs/deltas.md has the measurements.
pub const LEVEL: i32 = 1;
/// Shared frames are few and full of deltas, which a higher level suits; never a lower one.
const SHARED_LEVEL: i32 = 3;
const SHARDS: usize = 64;
/// Finished packs that wait to be synced; more hold the writing threads back.
const SYNCS_WAITING: usize = 2;

/// What a writer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Chunks given, zeros apart.
    pub chunks_seen: u64,
    /// Of these, chunks that were stored.
    pub chunks_new: u64,
    /// Of those, chunks that were stored as a difference.
    pub chunks_delta: u64,
    /// Plain bytes given.
    pub bytes_seen: u64,
    /// Bytes written into packs.
    pub bytes_new: u64,
}

/// What a commit made.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The snapshot.
    pub id: SnapshotId,
    /// Bytes of the packs that came with it.
    pub new_bytes: u64,
    /// The state it is part of.
    pub state: Arc<State>,
}

/// How things are put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// zstd level of new frames, 1 to 19.
    pub level: i32,
    /// Believe of nothing that it is stored before it was read: what is damaged is stored anew.
    pub check_stored: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            level: LEVEL,
            check_stored: false,
        }
    }
}

/// Puts things into a repository in a directory.
#[derive(Debug)]
pub struct Writer {
    repository: Repository,
    options: WriterOptions,
    packs_dir: PathBuf,
    session: [u8; 16],
    taken: Arc<Taken>,
    /// Chunks, mostly deltas, whose neighbours are in the same file.
    small_chunks: Mutex<Small>,
    /// Everything else.
    small_nodes: Mutex<Small>,
    open: Mutex<Open>,
    syncer: Mutex<Option<Syncer>>,
    /// Whole packs that an interrupted writer left.
    adopted: HashMap<PackName, u64>,
    counts: Counts,
    /// The nodes of trees and extent maps, where nothing is stored.
    rehearsed: Option<Mutex<Nodes>>,
}

/// Id → bytes.
pub type Nodes = HashMap<Id, Vec<u8>>;

#[derive(Debug, Default)]
struct Counts {
    chunks_seen: AtomicU64,
    chunks_new: AtomicU64,
    chunks_delta: AtomicU64,
    bytes_seen: AtomicU64,
    bytes_new: AtomicU64,
}

/// Ids that a writer has in hand: those of packs that the index does not know yet.
#[derive(Debug)]
struct Taken(Vec<Mutex<HashSet<Id>>>);

impl Taken {
    fn new() -> Taken {
        Taken((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    fn shard(&self, id: &Id) -> MutexGuard<'_, HashSet<Id>> {
        lock(&self.0[usize::from(id.0[0]) % SHARDS])
    }
}

/// Small blobs that wait for a shared frame.
#[derive(Debug, Default)]
struct Small {
    ids: Vec<Id>,
    parts: Vec<Part>,
    bodies: Vec<u8>,
}

/// The pack being written.
#[derive(Debug)]
struct Open {
    pack: Option<(PackName, PathBuf, PackWriter<std::fs::File>)>,
    next: u32,
    /// Something could not be written.
    failed: bool,
    to_sync: Option<SyncSender<Unsynced>>,
    /// Packs that were synced here, where no thread may be started for it.
    named: Vec<NewPack>,
}

impl Open {
    fn refuse_failed(&self) -> Result<()> {
        if self.failed {
            return Err(Error::Invalid {
                what: "nothing can be stored after a pack that could not be written".into(),
            });
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Unsynced {
    name: PackName,
    path: PathBuf,
    file: std::fs::File,
    finished: FinishedPack,
}

/// Syncs and names packs in the background; gives all of them in the end.
type Syncer = JoinHandle<Result<Vec<NewPack>>>;

/// A pack under its name, synced.
#[derive(Debug)]
struct NewPack {
    name: PackName,
    len: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Repository {
    /// Begins to write with defaults. The caller holds the home's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a repository that is not in a directory.
    pub fn writer(&self) -> Result<Writer> {
        self.writer_with(WriterOptions::default())
    }

    /// Begins to write. The caller holds the home's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a repository that is not in a directory.
    pub fn writer_with(&self, options: WriterOptions) -> Result<Writer> {
        let packs_dir = self
            .objects()
            .local_path("packs")
            .filter(|_| self.inner.index.is_writable())
            .ok_or_else(|| Error::Invalid {
                what: format!("{} is open for reading only", self.location()),
            })?;
        disk::create_directories(&packs_dir).map_err(|e| self.pack_error(e))?;
        let adopted = self.adopt_leftovers(&packs_dir)?;
        let taken = Arc::new(Taken::new());
        let (to_sync, syncer) = match self.world().threads() {
            1 => (None, None),
            _ => {
                let (to_sync, syncer) = self.start_syncer(taken.clone())?;
                (Some(to_sync), Some(syncer))
            }
        };
        Ok(Writer {
            repository: self.clone(),
            options,
            packs_dir,
            session: self.world().session(),
            taken,
            small_chunks: Mutex::default(),
            small_nodes: Mutex::default(),
            open: Mutex::new(Open {
                pack: None,
                next: 0,
                failed: false,
                to_sync,
                named: Vec::new(),
            }),
            syncer: Mutex::new(syncer),
            adopted,
            counts: Counts::default(),
            rehearsed: None,
        })
    }

    /// A writer that stores nothing and names everything: what of trees and extent maps came to be
    /// is given by [`Writer::into_nodes`]. It needs no lock.
    pub fn rehearsal(&self) -> Writer {
        Writer {
            repository: self.clone(),
            options: WriterOptions::default(),
            packs_dir: PathBuf::new(),
            session: [0; 16],
            taken: Arc::new(Taken::new()),
            small_chunks: Mutex::default(),
            small_nodes: Mutex::default(),
            open: Mutex::new(Open {
                pack: None,
                next: 0,
                // So that nothing is ever written, whatever is called.
                failed: true,
                to_sync: None,
                named: Vec::new(),
            }),
            syncer: Mutex::new(None),
            adopted: HashMap::new(),
            counts: Counts::default(),
            rehearsed: Some(Mutex::default()),
        }
    }

    fn start_syncer(&self, in_hand: Arc<Taken>) -> Result<(SyncSender<Unsynced>, Syncer)> {
        let (to_sync, unsynced) = sync_channel::<Unsynced>(SYNCS_WAITING);
        let repository = self.clone();
        let syncer = std::thread::Builder::new()
            .name("sync packs".into())
            .spawn(move || {
                unsynced
                    .into_iter()
                    .map(|pack| repository.name_pack(pack, &in_hand))
                    .collect()
            })
            .map_err(|e| Error::Invalid {
                what: format!("a thread cannot be started: {e}"),
            })?;
        Ok((to_sync, syncer))
    }

    fn pack_error(&self, e: std::io::Error) -> Error {
        ObjectsError::from_io(&self.location(), "packs", e).into()
    }

    /// Brings a finished pack to disk, gives it its name, and has the index answer for its ids.
    fn name_pack(&self, pack: Unsynced, taken: &Taken) -> Result<NewPack> {
        let Unsynced {
            name,
            path,
            file,
            finished,
        } = pack;
        disk::sync_file(&file).map_err(|e| self.pack_error(e))?;
        disk::rename(&path, &path.with_file_name(name.to_string()))
            .map_err(|e| self.pack_error(e))?;
        self.inner.index.add_pack(name, &finished.directory)?;
        self.lock_live_write().pending.insert(name, finished.len);
        for blob in finished.directory.frames.iter().flat_map(|f| &f.blobs) {
            taken.shard(&blob.id).remove(&blob.id);
        }
        Ok(NewPack {
            name,
            len: finished.len,
        })
    }
}

impl Writer {
    /// Stores one chunk and gives its id. Zeros are not stored. `base` is the chunk that a
    /// snapshot of this repository has at the same place, if there is one.
    ///
    /// # Errors
    /// When the pack cannot be written.
    ///
    /// # Panics
    /// When it is empty or larger than the repository's chunk size.
    pub fn put_chunk(&self, bytes: &[u8], base: Option<ChunkId>) -> Result<ChunkId> {
        let limit = self.repository.params().chunk_size as usize;
        assert!(
            (1..=limit).contains(&bytes.len()),
            "{} bytes are not a chunk",
            bytes.len()
        );
        if is_zero(bytes) {
            return Ok(ChunkId::ZERO);
        }
        let id = self.repository.ids().chunk(bytes);
        self.counts.chunks_seen.fetch_add(1, Ordering::Relaxed);
        self.counts
            .bytes_seen
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.rehearsed.is_some() {
            return Ok(id);
        }
        // What a snapshot holds at this place is there: nothing needs to be looked up.
        let at_its_place = base == Some(id) && !self.options.check_stored;
        if at_its_place || !self.takes(Kind::Chunk, &id.into())? {
            return Ok(id);
        }
        self.counts.chunks_new.fetch_add(1, Ordering::Relaxed);
        let base = base.filter(|base| !base.is_zero()).map(Id::from);
        let as_delta = self.store_on(Kind::Chunk, id.into(), bytes, base)?;
        self.counts
            .chunks_delta
            .fetch_add(as_delta.into(), Ordering::Relaxed);
        Ok(id)
    }

    /// Stores the extent map of a file whose chunks are stored, and gives the file. `before` are
    /// the chunks that a snapshot of this repository has in it, if it has it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the chunks cannot make up `size` bytes; when the pack cannot be
    /// written.
    pub fn put_file(
        &self,
        mode: u32,
        size: u64,
        ids: &[ChunkId],
        before: &[ChunkId],
    ) -> Result<File> {
        if ids.len() as u64 != size.div_ceil(self.repository.params().chunk_size.into()) {
            return Err(Error::Invalid {
                what: format!("{} chunks for a file of {size} bytes", ids.len()),
            });
        }
        if ids.is_empty() {
            return Ok(self.put_inline(mode, Vec::new()));
        }
        // The nodes that were there before follow from their ids alone.
        let name = |bytes: &[u8]| self.repository.ids().extents(bytes);
        let mut old = HashMap::new();
        if !before.is_empty() {
            extents::build(before, |at, bytes| {
                let id = name(&bytes);
                old.insert(at, id);
                Ok::<_, Error>(id.0)
            })?;
        }
        let map = extents::build(ids, |at, bytes| {
            let id = name(&bytes);
            if self.rehearse(id.into(), &bytes) {
                return Ok(id.0);
            }
            if self.takes(Kind::Extents, &id.into())? {
                let base = old.get(&at).map(|id| Id::from(*id));
                self.store_on(Kind::Extents, id.into(), &bytes, base)?;
            }
            Ok::<_, Error>(id.0)
        })?;
        Ok(File {
            mode,
            size,
            content: Content::Extents(map),
        })
    }

    /// A file that lies in the tree itself.
    pub fn put_inline(&self, mode: u32, bytes: Vec<u8>) -> File {
        File {
            mode,
            size: bytes.len() as u64,
            content: Content::Inline(bytes),
        }
    }

    /// Stores the tree of a listing.
    ///
    /// # Errors
    /// When a path lies in no directory of it, or the pack cannot be written.
    pub fn put_tree(&self, listing: &Listing) -> Result<TreeId> {
        tree::build::<TreeError>(listing, |bytes| {
            let id = self.repository.ids().tree(&bytes);
            self.put(Kind::Tree, id.into(), &bytes)?;
            Ok(id)
        })
        .map_err(|e| e.0)
    }

    /// All nodes of what was put into a [rehearsal](Repository::rehearsal); none of another writer.
    pub fn into_nodes(self) -> Nodes {
        let nodes = self
            .rehearsed
            .as_ref()
            .map(|nodes| std::mem::take(&mut *lock(nodes)));
        nodes.unwrap_or_default()
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            chunks_seen: get(&self.counts.chunks_seen),
            chunks_new: get(&self.counts.chunks_new),
            chunks_delta: get(&self.counts.chunks_delta),
            bytes_seen: get(&self.counts.bytes_seen),
            bytes_new: get(&self.counts.bytes_new),
        }
    }

    /// Whether this blob is to be stored, and by the caller: neither the index nor another thread
    /// has it.
    fn takes(&self, kind: Kind, id: &Id) -> Result<bool> {
        if !self.taken.shard(id).insert(*id) {
            return Ok(false);
        }
        // The index is believed only about packs that the latest root lists (or that are ours).
        if self.is_stored(kind, id)? {
            self.taken.shard(id).remove(id);
            return Ok(false);
        }
        Ok(true)
    }

    fn is_stored(&self, kind: Kind, id: &Id) -> Result<bool> {
        let Some(chain) = self.repository.locate(id)? else {
            return Ok(false);
        };
        if !self.options.check_stored {
            return Ok(true);
        }
        let (nothing, mut bytes) = (Fetched::default(), Vec::new());
        match self
            .repository
            .read_found(kind, &chain, &nothing, &mut bytes)
        {
            Ok(()) => Ok(true),
            Err(e) if e.is_lost() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Keeps a node, where nothing is stored: whether that is so.
    fn rehearse(&self, id: Id, bytes: &[u8]) -> bool {
        if let Some(nodes) = &self.rehearsed {
            lock(nodes).insert(id, bytes.to_vec());
        }
        self.rehearsed.is_some()
    }

    /// Stores a blob unless it is stored.
    fn put(&self, kind: Kind, id: Id, bytes: &[u8]) -> Result<()> {
        if !self.rehearse(id, bytes) && self.takes(kind, &id)? {
            self.store(kind, id, bytes)?;
        }
        Ok(())
    }

    /// Stores a blob whether or not it is stored, as a difference to `base` where that is worth it:
    /// whether it was.
    fn store_on(&self, kind: Kind, id: Id, bytes: &[u8], base: Option<Id>) -> Result<bool> {
        let encoded = match base {
            Some(base) => {
                let level = self.options.level;
                self.repository.encode_on(kind, base, bytes, level)?
            }
            None => Encoded::Plain,
        };
        self.store_encoded(kind, id, bytes, encoded)
    }

    /// Stores a blob in this form, whether or not it is stored: whether that is a delta.
    pub(crate) fn store_encoded(
        &self,
        kind: Kind,
        id: Id,
        bytes: &[u8],
        encoded: Encoded,
    ) -> Result<bool> {
        match encoded {
            Encoded::Delta(part, body) => {
                self.append_small(self.small(kind), id, part, &body)?;
                return Ok(true);
            }
            Encoded::Alone(frame) => self.append(frame, &[id])?,
            Encoded::Plain => self.store(kind, id, bytes)?,
        }
        Ok(false)
    }

    /// Where small blobs of this kind wait for others.
    fn small(&self, kind: Kind) -> &Mutex<Small> {
        match kind {
            Kind::Chunk => &self.small_chunks,
            _ => &self.small_nodes,
        }
    }

    /// Stores a blob plain, whether or not it is stored.
    pub(crate) fn store(&self, kind: Kind, id: Id, bytes: &[u8]) -> Result<()> {
        if kind == Kind::Chunk && bytes.len() >= ALONE_BYTES {
            let frame = compressing(self.options.level, |c| frame::encode_chunk(bytes, c))?;
            return self.append(frame, &[id]);
        }
        self.append_small(self.small(kind), id, Part::plain(kind, bytes.len()), bytes)
    }

    /// Stores a blob in the form it has.
    pub(crate) fn store_body(&self, id: Id, part: Part, body: &[u8]) -> Result<()> {
        if part.form == Form::Plain {
            return self.store(part.kind, id, body);
        }
        self.append_small(self.small(part.kind), id, part, body)
    }

    fn append_small(&self, small: &Mutex<Small>, id: Id, part: Part, body: &[u8]) -> Result<()> {
        let full = {
            let mut small = lock(small);
            let is_full = small.bodies.len() + body.len() > SHARED_BYTES
                || small.parts.len() == usize::from(u16::MAX);
            let full = is_full.then(|| std::mem::take(&mut *small));
            small.ids.push(id);
            small.parts.push(part);
            small.bodies.extend_from_slice(body);
            full
        };
        full.map_or(Ok(()), |small| self.append_shared(small))
    }

    fn append_shared(&self, small: Small) -> Result<()> {
        if small.parts.is_empty() {
            return Ok(());
        }
        let level = self.options.level.max(SHARED_LEVEL);
        let frame = compressing(level, |c| frame::encode(small.parts, small.bodies, c))?;
        self.append(frame, &small.ids)
    }

    fn append(&self, frame: Frame, ids: &[Id]) -> Result<()> {
        self.append_with(|pack| pack.append(frame, ids).map(drop))
    }

    /// Appends a frame of another pack of this repository as it lies; `bytes` are all of it.
    pub(crate) fn append_verbatim(&self, entry: &FrameEntry, bytes: &[u8]) -> Result<()> {
        self.append_with(|pack| pack.append_verbatim(entry, bytes))
    }

    fn append_with(
        &self,
        append: impl FnOnce(&mut PackWriter<std::fs::File>) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut open = lock(&self.open);
        open.refuse_failed()?;
        let done = self.append_to(&mut open, append);
        // What was written of it is not what its writer believes: nothing may follow, be it
        // another frame or a commit.
        open.failed |= done.is_err();
        done
    }

    fn append_to(
        &self,
        open: &mut Open,
        append: impl FnOnce(&mut PackWriter<std::fs::File>) -> std::io::Result<()>,
    ) -> Result<()> {
        let failed = |e| self.repository.pack_error(e);
        let (_, _, pack) = match &mut open.pack {
            Some(open) => open,
            slot => {
                // A number is used once, whatever becomes of its pack: it makes nonces.
                let name = PackName {
                    session: self.session,
                    number: open.next,
                };
                open.next += 1;
                let path = self.packs_dir.join(format!("{TEMPORARY_PREFIX}{name}"));
                let file = disk::create_new_private(&path).map_err(failed)?;
                let seal = self.repository.seal().cloned();
                let pack = PackWriter::new(file, name, seal).map_err(failed)?;
                slot.insert((name, path, pack))
            }
        };
        let before = pack.position();
        append(pack).map_err(failed)?;
        self.counts
            .bytes_new
            .fetch_add(pack.position() - before, Ordering::Relaxed);
        if pack.position() >= PACK_BYTES || pack.blobs() >= PACK_BLOBS {
            self.finish_pack(open)?;
        }
        Ok(())
    }

    /// Closes the open pack and has it synced in the background.
    fn finish_pack(&self, open: &mut Open) -> Result<()> {
        let Some((name, path, pack)) = open.pack.take() else {
            return Ok(());
        };
        let (file, finished) = pack.finish().map_err(|e| self.repository.pack_error(e))?;
        let unsynced = Unsynced {
            name,
            path,
            file,
            finished,
        };
        let Some(to_sync) = &open.to_sync else {
            open.named
                .push(self.repository.name_pack(unsynced, &self.taken)?);
            return Ok(());
        };
        // The thread ends early only with an error, which joining it gives.
        if to_sync.send(unsynced).is_err() {
            self.join()?;
        }
        Ok(())
    }

    fn join(&self) -> Result<Vec<NewPack>> {
        let Some(syncer) = lock(&self.syncer).take() else {
            return Ok(Vec::new());
        };
        syncer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Finishes what is open; gives all packs of this writer, synced, named and indexed.
    fn finish(&self) -> Result<BTreeMap<PackName, u64>> {
        for small in [&self.small_chunks, &self.small_nodes] {
            let small = std::mem::take(&mut *lock(small));
            self.append_shared(small)?;
        }
        let mut packs = {
            let mut open = lock(&self.open);
            open.refuse_failed()?;
            self.finish_pack(&mut open)?;
            open.to_sync = None;
            std::mem::take(&mut open.named)
        };
        packs.append(&mut self.join()?);
        Ok(packs
            .into_iter()
            .map(|pack| (pack.name, pack.len))
            .collect())
    }

    /// Whether nothing had to be stored, and nothing was left by an interrupted writer.
    fn is_empty(&self) -> bool {
        let waits = |small: &Mutex<Small>| !lock(small).ids.is_empty();
        self.adopted.is_empty()
            && self.counts.bytes_new.load(Ordering::Relaxed) == 0
            && !waits(&self.small_chunks)
            && !waits(&self.small_nodes)
    }

    /// Commits a snapshot: packs, then the root. `summary` is the engine's part of the row.
    ///
    /// # Errors
    /// [`Error::RefMoved`]; when something cannot be written. Nothing is committed then.
    pub fn commit(
        self,
        snapshot: Snapshot,
        summary: Vec<u8>,
        refs: Vec<RefChange>,
        operation: Operation,
    ) -> Result<Committed> {
        let snapshot = Snapshot {
            version: snapshot::VERSION,
            ..snapshot
        };
        let bytes = snapshot.encode();
        let repository = &self.repository;
        let id = repository.ids().snapshot(&bytes);
        // Another snapshot with this tree may use packs that this one must not.
        let all_there = self.is_empty() && !repository.hides();
        self.put(Kind::Snapshot, id.into(), &bytes)?;
        let ours = self.finish()?;
        let usage = match all_there {
            true => repository.usage_of_new(id, snapshot.tree)?,
            // Also where an older snapshot has this tree: some of what it needs was lost.
            false => repository.usage_of(id, snapshot.tree)?,
        };
        let known = repository.lock_live_read();
        let usage: BTreeMap<PackName, (u64, u64)> = usage
            .into_iter()
            .map(|(name, bytes)| {
                let len = known.packs.get(&name).or_else(|| known.pending.get(&name));
                (
                    name,
                    (
                        *len.expect("locate gives packs that are live or pending"),
                        bytes,
                    ),
                )
            })
            .collect();
        drop(known);
        let new_bytes = ours.values().sum();
        let row = Row {
            serial: 0,
            id,
            tree: snapshot.tree,
            parents: snapshot.parents,
            time: snapshot.time,
            kind: snapshot.kind,
            message: snapshot.message,
            size: snapshot.size,
            new_bytes,
            summary,
            usage: BTreeMap::new(),
            made_from: None,
            line: None,
        };
        let state = repository.commit_with(operation, |state| {
            // The same snapshot twice is one.
            if state.snapshot(&id).is_none() {
                state.add_snapshot(row.clone(), &usage, repository.is_alone())?;
                state.root.operation.added.push(id);
            }
            repository.move_refs(state, &refs)
        })?;
        // What was adopted and is of no use goes away; so do packs of ours that dedup emptied.
        let unused = ours
            .keys()
            .chain(self.adopted.keys())
            .filter(|name| !usage.contains_key(name));
        for name in unused {
            repository.objects().delete(&name.key())?;
        }
        repository
            .inner
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .pending
            .clear();
        Ok(Committed {
            id,
            new_bytes,
            state,
        })
    }

    /// Stops without a commit. Sealed packs stay for the next writer to adopt; dropping the
    /// writer does the same.
    pub fn abort(self) {
        drop(self);
    }

    /// Packs of this writer, synced, named and indexed, for a commit of another kind.
    pub(crate) fn into_packs(self) -> Result<BTreeMap<PackName, u64>> {
        self.finish()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.to_sync = None;
        if let Some((_, path, _)) = open.pack.take() {
            // An unfinished pack is of no use; the next writer would remove it too.
            let _ = disk::unlink(&path);
        }
        drop(open);
        if let Some(syncer) = lock(&self.syncer).take() {
            let _ = syncer.join();
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Most chunks differ from zero at once; the rest is compared as the compiler likes it best.
    bytes.iter().take(16).all(|b| *b == 0) && bytes.iter().fold(0, |acc, b| acc | b) == 0
}

/// Lets [`tree::build`] give errors of either kind.
struct TreeError(Error);

impl From<Error> for TreeError {
    fn from(e: Error) -> Self {
        TreeError(e)
    }
}

impl From<crate::object::Malformed> for TreeError {
    fn from(e: crate::object::Malformed) -> Self {
        TreeError(Error::Invalid { what: e.0 })
    }
}
