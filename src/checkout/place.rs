//! Bytes → files: writes what differs, and only that.
//!
//! A file that is not there is made with its whole length as a hole, into which the chunks that
//! are not zeros are written. One that is there is compared chunk by chunk, through its hash, or,
//! where the file cache knows what it holds, through ids alone.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zenith_store::{ChunkId, Content, Repository};

use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::user::RunAs;
use crate::plan::{Known, Plan};
use crate::scan::{Entry, Stamp};

/// Bytes of a file that one thread takes at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// So many changed files are synced one by one; more, and the whole file system is.
const SYNC_SINGLY_MAX: usize = 64;

/// What a file is to hold.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A file of the tree.
    Stored(zenith_store::File),
    /// Bytes made here.
    Bytes(Vec<u8>),
}

/// A file that is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// In the tree.
    pub(super) path: String,
    /// On this machine.
    pub(super) target: PathBuf,
    pub(super) mode: u32,
    pub(super) source: Source,
}

impl Wanted {
    fn size(&self) -> u64 {
        match &self.source {
            Source::Stored(file) => file.size,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// Puts files in place.
pub(super) struct Place<'a> {
    pub(super) repo: &'a Repository,
    pub(super) known: Known,
    pub(super) boot_id: String,
    pub(super) owner: Option<&'a RunAs>,
    pub(super) threads: usize,
    pub(super) on: &'a (dyn Fn(Event) + Sync),
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Plain bytes written.
    pub(super) written_bytes: u64,
    /// Plain bytes that were read to see whether they had to be.
    pub(super) compared_bytes: u64,
    /// Files that were written to.
    pub(super) dirty: BTreeSet<PathBuf>,
    /// Path in the tree → what each file looked like when it held what it is to hold: before it
    /// was compared, or after the last write. Whoever changes it from then on leaves a trace.
    pub(super) stamps: HashMap<String, Stamp>,
}

struct Task<'a> {
    wanted: &'a Wanted,
    state: Mutex<State>,
    left: AtomicUsize,
    /// Anything, its mode and length included.
    wrote: AtomicBool,
    /// Any bytes.
    wrote_bytes: AtomicBool,
}

#[derive(Default)]
struct State {
    open: Option<Arc<Open>>,
    /// Once it is done.
    stamp: Option<Stamp>,
}

/// A file that is being written.
struct Open {
    file: File,
    /// Before any of its bytes was compared or written.
    stamp: Stamp,
    /// Nothing but a hole.
    fresh: bool,
    ids: Vec<ChunkId>,
    /// What it is known to hold now, chunk by chunk.
    held: Option<Vec<ChunkId>>,
}

impl Place<'_> {
    /// Makes all files; their directories exist.
    pub(super) fn run(&self, wanted: &[Wanted]) -> Result<Placed> {
        let mut pieces = Vec::new();
        let mut tasks = Vec::with_capacity(wanted.len());
        for (number, wanted) in wanted.iter().enumerate() {
            let count = wanted.size().div_ceil(PIECE_BYTES).max(1);
            pieces.extend((0..count).map(|n| (number, n)));
            tasks.push(Task {
                wanted,
                state: Mutex::default(),
                left: AtomicUsize::new(count as usize),
                wrote: AtomicBool::new(false),
                wrote_bytes: AtomicBool::new(false),
            });
        }
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let (written, compared) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let work = || {
                let mut buffers = Buffers::default();
                while !stop.load(Ordering::Relaxed) {
                    let Some((task, piece)) = pieces.get(next.fetch_add(1, Ordering::Relaxed))
                    else {
                        return;
                    };
                    match self.piece(&tasks[*task], *piece, &mut buffers) {
                        Ok(bytes) => {
                            written.fetch_add(bytes, Ordering::Relaxed);
                            let read = std::mem::take(&mut buffers.compared);
                            compared.fetch_add(read, Ordering::Relaxed);
                        }
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            lock(&failure).get_or_insert(error);
                            return;
                        }
                    }
                }
            };
            for _ in 1..self.threads.max(1) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let dirty = tasks
            .iter()
            .filter(|task| task.wrote.load(Ordering::Relaxed));
        let stamps = tasks
            .iter()
            .filter_map(|task| Some((task.wanted.path.clone(), lock(&task.state).stamp?)));
        Ok(Placed {
            stamps: stamps.collect(),
            written_bytes: written.into_inner(),
            compared_bytes: compared.into_inner(),
            dirty: dirty.map(|task| task.wanted.target.clone()).collect(),
        })
    }

    /// One piece of a file; gives the bytes written.
    fn piece(&self, task: &Task<'_>, number: u64, buffers: &mut Buffers) -> Result<u64> {
        let open = self.open_once(task)?;
        let first = number * PIECE_BYTES;
        let end = task.wanted.size().min(first + PIECE_BYTES);
        let mut written = 0;
        match &task.wanted.source {
            Source::Bytes(bytes) => written += self.bytes(task.wanted, &open, bytes)?,
            Source::Stored(zenith_store::File {
                content: Content::Inline(bytes),
                ..
            }) => {
                written += self.bytes(task.wanted, &open, bytes)?;
            }
            Source::Stored(_) => {
                let chunk_size = u64::from(self.repo.params().chunk_size);
                let mut at = first;
                while at < end {
                    let len = (end - at).min(chunk_size) as usize;
                    let index = (at / chunk_size) as usize;
                    if self.chunk(task.wanted, &open, index, at, len, buffers)? {
                        written += len as u64;
                    }
                    at += len as u64;
                }
            }
        }
        if written > 0 {
            task.wrote.store(true, Ordering::Relaxed);
            task.wrote_bytes.store(true, Ordering::Relaxed);
        }
        if task.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut state = lock(&task.state);
            state.stamp = Some(if task.wrote_bytes.load(Ordering::Relaxed) {
                stamp(&open.file, &task.wanted.target)?
            } else {
                open.stamp
            });
            state.open = None;
        }
        (self.on)(Event::Placed { bytes: end - first });
        Ok(written)
    }

    /// A small file that lies in memory.
    fn bytes(&self, wanted: &Wanted, open: &Open, bytes: &[u8]) -> Result<u64> {
        let mut now = vec![0; bytes.len()];
        if !open.fresh && open.file.read_exact_at(&mut now, 0).is_ok() && now == bytes {
            return Ok(0);
        }
        open.file
            .write_all_at(bytes, 0)
            .map_err(Error::io("write", &wanted.target))?;
        Ok(bytes.len() as u64)
    }

    /// One chunk; whether it had to be written.
    fn chunk(
        &self,
        wanted: &Wanted,
        open: &Open,
        index: usize,
        at: u64,
        len: usize,
        buffers: &mut Buffers,
    ) -> Result<bool> {
        let id = *open.ids.get(index).ok_or_else(|| Error::Internal {
            what: format!("`{}` has fewer chunks than its size says", wanted.path),
        })?;
        if open.fresh && id.is_zero() {
            return Ok(false);
        }
        if !open.fresh {
            let held = match &open.held {
                Some(held) => held.get(index) == Some(&id),
                None => {
                    buffers.now.resize(len, 0);
                    buffers.compared += len as u64;
                    open.file
                        .read_exact_at(&mut buffers.now, at)
                        .map_err(Error::io("read", &wanted.target))?;
                    if id.is_zero() {
                        buffers.now.iter().all(|b| *b == 0)
                    } else {
                        ChunkId::of(&buffers.now) == id
                    }
                }
            };
            if held {
                return Ok(false);
            }
        }
        if id.is_zero() {
            buffers.new.clear();
            buffers.new.resize(len, 0);
        } else {
            self.repo.read_chunk(id, &mut buffers.new)?;
        }
        if buffers.new.len() != len {
            return Err(Error::Internal {
                what: format!(
                    "a chunk of `{}` has {} bytes, not {len}",
                    wanted.path,
                    buffers.new.len()
                ),
            });
        }
        open.file
            .write_all_at(&buffers.new, at)
            .map_err(Error::io("write", &wanted.target))?;
        Ok(true)
    }

    fn open_once(&self, task: &Task<'_>) -> Result<Arc<Open>> {
        let mut state = lock(&task.state);
        if let Some(open) = &state.open {
            return Ok(open.clone());
        }
        let open = Arc::new(self.open(task)?);
        state.open = Some(open.clone());
        Ok(open)
    }

    /// Opens the file with its right length and mode, or makes it.
    fn open(&self, task: &Task<'_>) -> Result<Open> {
        let wanted = task.wanted;
        let (target, size) = (&wanted.target, wanted.size());
        let ids = match &wanted.source {
            Source::Stored(file) => self.repo.chunk_ids(file)?,
            Source::Bytes(_) => Vec::new(),
        };
        let there = match fs::symlink_metadata(target) {
            // Another name for the same file is another's file: that one must not change.
            Ok(meta) if meta.nlink() > 1 => {
                fs::remove_file(target).map_err(Error::io("remove", target))?;
                None
            }
            Ok(meta) => Some(meta),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("stat", target)(e)),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(there.is_none())
            .mode(wanted.mode)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(target)
            .map_err(Error::io("open", target))?;
        let Some(meta) = there else {
            task.wrote.store(true, Ordering::Relaxed);
            file.set_permissions(Permissions::from_mode(wanted.mode))
                .map_err(Error::io("chmod", target))?;
            if let Some(owner) = self.owner {
                std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
                    .map_err(Error::io("chown", target))?;
            }
            file.set_len(size).map_err(Error::io("extend", target))?;
            return Ok(Open {
                stamp: stamp(&file, target)?,
                file,
                fresh: true,
                ids,
                held: None,
            });
        };
        if meta.mode() & 0o7777 != wanted.mode {
            task.wrote.store(true, Ordering::Relaxed);
            file.set_permissions(Permissions::from_mode(wanted.mode))
                .map_err(Error::io("chmod", target))?;
        }
        let held = match self.known.decide(&self.entry(wanted, &meta), &self.boot_id) {
            // What the cache knows counts only for the length it knows.
            Plan::Reuse(file) if file.size == size => match &file.content {
                Content::Extents(_) => Some(self.repo.chunk_ids(&file)?),
                Content::Inline(_) => None,
            },
            _ => None,
        };
        if meta.len() != size {
            task.wrote.store(true, Ordering::Relaxed);
            file.set_len(size).map_err(Error::io("truncate", target))?;
        }
        Ok(Open {
            stamp: stamp(&file, target)?,
            file,
            fresh: false,
            ids,
            held,
        })
    }

    fn entry(&self, wanted: &Wanted, meta: &fs::Metadata) -> Entry {
        Entry {
            path: wanted.path.clone(),
            source: wanted.target.clone(),
            is_dir: false,
            mode: wanted.mode,
            stamp: Stamp::of(meta),
        }
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Buffers {
    now: Vec<u8>,
    new: Vec<u8>,
    /// Bytes read since this was last asked.
    compared: u64,
}

fn stamp(file: &File, path: &Path) -> Result<Stamp> {
    let meta = file.metadata().map_err(Error::io("stat", path))?;
    Ok(Stamp::of(&meta))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Brings files and directories to disk. Many are brought there with their whole file systems:
/// one commit of the journal instead of one per file, and since Linux 5.8 no error is lost.
pub(super) fn sync(
    files: &BTreeSet<PathBuf>,
    dirs: &BTreeSet<PathBuf>,
    roots: &[PathBuf],
) -> Result<()> {
    if files.len() > SYNC_SINGLY_MAX && syncfs_tells_errors() {
        for root in roots {
            let dir = File::open(root).map_err(Error::io("open", root))?;
            nix::unistd::syncfs(&dir).map_err(|e| Error::io("fsync", root)(e.into()))?;
        }
        return Ok(());
    }
    for file in files {
        match File::open(file) {
            Ok(open) => open.sync_all().map_err(Error::io("fsync", file))?,
            Err(e) => return Err(Error::io("open", file)(e)),
        }
    }
    dirs.iter().try_for_each(|dir| disk::sync_dir(dir))
}

fn syncfs_tells_errors() -> bool {
    let release = nix::sys::utsname::uname();
    let release = release
        .map(|u| u.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
        _ => false,
    }
}

/// Whether a directory is what it is to be; sets its mode and owner.
pub(super) fn directory(dir: &Path, mode: u32, owner: Option<&RunAs>) -> Result<()> {
    disk::create_dir(dir, mode)?;
    let meta = fs::symlink_metadata(dir).map_err(Error::io("stat", dir))?;
    if meta.mode() & 0o7777 != mode {
        fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(Error::io("chmod", dir))?;
    }
    if let Some(owner) = owner
        && (meta.uid(), meta.gid()) != (owner.uid, owner.gid)
    {
        std::os::unix::fs::chown(dir, Some(owner.uid), Some(owner.gid))
            .map_err(Error::io("chown", dir))?;
    }
    Ok(())
}
