//! The way in: bytes → id → dedup → frame → pack → commit.
//!
//! One writer at a time, who holds the home's lock; many threads may put at once. A sealed pack
//! is synced and named in the background; what an interrupted writer left sealed is adopted by
//! the next one, so that nothing is stored twice.

use crate::error::{Error, Result};
use crate::id::{ChunkId, ExtentsId, Id, Kind, PackName, SnapshotId, TreeId};
use crate::object::{Content, File, Listing, Snapshot, extents, snapshot, tree};
use crate::objects::{ObjectsError, TEMPORARY_PREFIX, disk};
use crate::pack::frame::{self, Frame, Part};
use crate::pack::{self, ALONE_BYTES, Directory, PACK_BYTES, PackWriter, SHARED_BYTES, SealedPack};
use crate::repository::Repository;
use crate::root::{Operation, RefChange, Row, State};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// zstd level of new frames: by measurement, more gains little on pages and costs much.
pub const LEVEL: i32 = 1;
const SHARDS: usize = 64;
/// Sealed packs that wait to be synced; more hold the writing threads back.
const SYNCS_WAITING: usize = 2;

/// What a writer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Chunks given, zeros apart.
    pub chunks_seen: u64,
    /// Of these, chunks that were stored.
    pub chunks_new: u64,
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

/// Puts things into a repository in a directory.
#[derive(Debug)]
pub struct Writer {
    repository: Repository,
    packs_dir: PathBuf,
    session: [u8; 16],
    /// Ids that this writer has taken in hand.
    taken: Vec<Mutex<HashSet<Id>>>,
    small: Mutex<Small>,
    open: Mutex<Open>,
    syncer: Mutex<Option<JoinHandle<Result<Vec<NewPack>>>>>,
    /// Whole packs that an interrupted writer left.
    adopted: HashMap<PackName, u64>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    chunks_seen: AtomicU64,
    chunks_new: AtomicU64,
    bytes_seen: AtomicU64,
    bytes_new: AtomicU64,
}

/// Small blobs that wait for a shared frame.
#[derive(Debug, Default)]
struct Small {
    blobs: Vec<(Id, Part)>,
    plain: Vec<u8>,
}

/// The pack being written.
#[derive(Debug)]
struct Open {
    pack: Option<(PathBuf, PackWriter<std::fs::File>)>,
    next: u32,
    to_sync: Option<SyncSender<Unsynced>>,
}

#[derive(Debug)]
struct Unsynced {
    name: PackName,
    path: PathBuf,
    file: std::fs::File,
    sealed: SealedPack,
}

/// A pack under its name, synced.
#[derive(Debug)]
struct NewPack {
    name: PackName,
    len: u64,
    directory: Directory,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn encode(parts: &[Part], plain: &[u8]) -> Result<Frame> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(c) => c,
            None => {
                slot.insert(
                    zstd::bulk::Compressor::new(LEVEL).map_err(|e| Error::Invalid {
                        what: e.to_string(),
                    })?,
                )
            }
        };
        Ok(frame::encode(parts, plain, compressor))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Repository {
    /// Begins to write. The caller holds the home's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a repository that is not in a directory.
    pub fn writer(&self) -> Result<Writer> {
        let packs_dir = self
            .objects()
            .local_path("packs")
            .filter(|_| self.inner.index.is_writable())
            .ok_or_else(|| Error::Invalid {
                what: format!("{} is open for reading only", self.location()),
            })?;
        disk::create_directories(&packs_dir).map_err(|e| self.pack_error(e))?;
        let adopted = self.adopt_leftovers(&packs_dir)?;
        let (to_sync, unsynced) = sync_channel::<Unsynced>(SYNCS_WAITING);
        let repository = self.clone();
        let syncer = std::thread::Builder::new()
            .name("sync packs".into())
            .spawn(move || {
                unsynced
                    .into_iter()
                    .map(|pack| repository.name_pack(pack))
                    .collect()
            })
            .map_err(|e| Error::Invalid {
                what: format!("a thread cannot be started: {e}"),
            })?;
        Ok(Writer {
            repository: self.clone(),
            packs_dir,
            session: rand::random(),
            taken: (0..SHARDS).map(|_| Mutex::default()).collect(),
            small: Mutex::default(),
            open: Mutex::new(Open {
                pack: None,
                next: 0,
                to_sync: Some(to_sync),
            }),
            syncer: Mutex::new(Some(syncer)),
            adopted,
            counts: Counts::default(),
        })
    }

    fn pack_error(&self, e: std::io::Error) -> Error {
        ObjectsError::from_io(&self.location(), "packs", e).into()
    }

    /// Brings a sealed pack to disk, then gives it its name.
    fn name_pack(&self, pack: Unsynced) -> Result<NewPack> {
        let Unsynced {
            name,
            path,
            file,
            sealed,
        } = pack;
        disk::sync_file(&file).map_err(|e| self.pack_error(e))?;
        disk::rename(&path, &path.with_file_name(name.to_string()))
            .map_err(|e| self.pack_error(e))?;
        Ok(NewPack {
            name,
            len: sealed.len,
            directory: sealed.directory,
        })
    }

    /// Packs that no root names: whole ones are kept for use, all else goes away.
    fn adopt_leftovers(&self, packs_dir: &Path) -> Result<HashMap<PackName, u64>> {
        let state = self.state()?;
        let named: HashSet<PackName> = state
            .packs()
            .map(|p| p.name)
            .chain(state.snapshots.segment_packs().map(|(name, _)| name))
            .chain(state.packs.segment_packs().map(|(name, _)| name))
            .collect();
        disk::remove_leftovers(packs_dir).map_err(|e| self.pack_error(e))?;
        let mut adopted = HashMap::new();
        for listed in self.objects().list("packs/")? {
            let Some(name) = listed
                .key
                .strip_prefix("packs/")
                .and_then(|n| n.parse().ok())
            else {
                continue;
            };
            if named.contains(&name) {
                continue;
            }
            // It may never have been synced, so its bytes are read, not believed.
            match pack::reader::check(&self.objects().get(&listed.key)?) {
                Ok(directory) => {
                    self.inner.index.add_pack(name, &directory)?;
                    adopted.insert(name, listed.size);
                }
                Err(why) => {
                    tracing::debug!("pack {name} of an interrupted writer is removed: {why}");
                    self.objects().delete(&listed.key)?;
                }
            }
        }
        let mut live = self
            .inner
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        live.pending.clone_from(&adopted);
        Ok(adopted)
    }
}

impl Writer {
    /// Stores one chunk and gives its id. Zeros are not stored.
    ///
    /// # Errors
    /// When the pack cannot be written.
    ///
    /// # Panics
    /// When it is empty or larger than the repository's chunk size.
    pub fn put_chunk(&self, bytes: &[u8]) -> Result<ChunkId> {
        let limit = self.repository.params().chunk_size as usize;
        assert!(
            (1..=limit).contains(&bytes.len()),
            "{} bytes are not a chunk",
            bytes.len()
        );
        if is_zero(bytes) {
            return Ok(ChunkId::ZERO);
        }
        let id = ChunkId::of(bytes);
        let new = self.put(Kind::Chunk, id.into(), bytes)?;
        self.counts.chunks_seen.fetch_add(1, Ordering::Relaxed);
        self.counts
            .bytes_seen
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.counts
            .chunks_new
            .fetch_add(new.into(), Ordering::Relaxed);
        Ok(id)
    }

    /// Stores the extent map of a file whose chunks are stored, and gives the file.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the chunks cannot make up `size` bytes; when the pack cannot be
    /// written.
    pub fn put_file(&self, mode: u32, size: u64, ids: &[ChunkId]) -> Result<File> {
        if ids.len() as u64 != size.div_ceil(self.repository.params().chunk_size.into()) {
            return Err(Error::Invalid {
                what: format!("{} chunks for a file of {size} bytes", ids.len()),
            });
        }
        if ids.is_empty() {
            return Ok(self.put_inline(mode, Vec::new()));
        }
        let map = extents::build(ids, |bytes| {
            let id = ExtentsId::of(&bytes);
            self.put(Kind::Extents, id.into(), &bytes)?;
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
            let id = TreeId::of(&bytes);
            self.put(Kind::Tree, id.into(), &bytes)?;
            Ok(id)
        })
        .map_err(|e| e.0)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            chunks_seen: get(&self.counts.chunks_seen),
            chunks_new: get(&self.counts.chunks_new),
            bytes_seen: get(&self.counts.bytes_seen),
            bytes_new: get(&self.counts.bytes_new),
        }
    }

    /// Stores a blob unless it is stored; true when it was not.
    fn put(&self, kind: Kind, id: Id, bytes: &[u8]) -> Result<bool> {
        if !lock(&self.taken[usize::from(id.0[0]) % SHARDS]).insert(id) {
            return Ok(false);
        }
        // The index is believed only about packs that the latest root lists (or that are ours).
        if self.repository.locate(&id)?.is_some() {
            return Ok(false);
        }
        self.store(kind, id, bytes)?;
        Ok(true)
    }

    /// Stores a blob whether or not it is stored.
    pub(crate) fn store(&self, kind: Kind, id: Id, bytes: &[u8]) -> Result<()> {
        let part = Part {
            kind,
            len: bytes.len() as u32,
        };
        if bytes.len() >= ALONE_BYTES {
            return self.append(&encode(&[part], bytes)?, &[(id, part)]);
        }
        let full = {
            let mut small = lock(&self.small);
            let full = small.plain.len() + bytes.len() > SHARED_BYTES;
            let full = if full {
                Some(std::mem::take(&mut *small))
            } else {
                None
            };
            small.blobs.push((id, part));
            small.plain.extend_from_slice(bytes);
            full
        };
        full.map_or(Ok(()), |small| self.append_shared(&small))
    }

    fn append_shared(&self, small: &Small) -> Result<()> {
        if small.blobs.is_empty() {
            return Ok(());
        }
        let parts: Vec<Part> = small.blobs.iter().map(|(_, part)| *part).collect();
        self.append(&encode(&parts, &small.plain)?, &small.blobs)
    }

    fn append(&self, frame: &Frame, blobs: &[(Id, Part)]) -> Result<()> {
        let mut open = lock(&self.open);
        if open.pack.is_none() {
            let path = self.packs_dir.join(format!(
                "{TEMPORARY_PREFIX}{}-{}",
                crate::id::hex(&self.session),
                open.next
            ));
            let file = disk::create_private(&path).map_err(|e| self.repository.pack_error(e))?;
            let pack = PackWriter::new(file).map_err(|e| self.repository.pack_error(e))?;
            open.pack = Some((path, pack));
        }
        let (_, pack) = open.pack.as_mut().expect("opened above");
        pack.append(frame, blobs)
            .map_err(|e| self.repository.pack_error(e))?;
        self.counts
            .bytes_new
            .fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
        if pack.position() >= PACK_BYTES {
            self.seal(&mut open)?;
        }
        Ok(())
    }

    /// Closes the open pack and has it synced in the background.
    fn seal(&self, open: &mut Open) -> Result<()> {
        let Some((path, pack)) = open.pack.take() else {
            return Ok(());
        };
        let (file, sealed) = pack.seal().map_err(|e| self.repository.pack_error(e))?;
        let name = PackName {
            session: self.session,
            number: open.next,
        };
        open.next += 1;
        let unsynced = Unsynced {
            name,
            path,
            file,
            sealed,
        };
        let sent = open.to_sync.as_ref().map(|to_sync| to_sync.send(unsynced));
        // The thread ends early only with an error, which joining it gives.
        if !matches!(sent, Some(Ok(()))) {
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

    /// Seals what is open; gives all packs of this writer, synced, named and indexed.
    fn finish(&self) -> Result<BTreeMap<PackName, u64>> {
        let small = std::mem::take(&mut *lock(&self.small));
        self.append_shared(&small)?;
        {
            let mut open = lock(&self.open);
            self.seal(&mut open)?;
            open.to_sync = None;
        }
        let packs = self.join()?;
        for pack in &packs {
            self.repository
                .inner
                .index
                .add_pack(pack.name, &pack.directory)?;
        }
        let mut live = self
            .repository
            .inner
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        live.pending
            .extend(packs.iter().map(|pack| (pack.name, pack.len)));
        Ok(packs
            .into_iter()
            .map(|pack| (pack.name, pack.len))
            .collect())
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
        let id = SnapshotId::of(&bytes);
        self.put(Kind::Snapshot, id.into(), &bytes)?;
        let ours = self.finish()?;
        let repository = &self.repository;
        let usage = repository.usage_of(id, snapshot.tree)?;
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
        };
        let state = repository.commit_with(operation, |state| {
            // The same snapshot twice is one.
            if state.snapshot(&id).is_none() {
                state.add_snapshot(row.clone(), &usage);
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
        if let Some((path, _)) = open.pack.take() {
            // An unfinished pack is of no use; the next writer would remove it too.
            let _ = std::fs::remove_file(path);
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
