//! Bytes → files: writes what differs, and only that.
//!
//! Files are taken in windows. Of each window the files are opened: one that is not there is made
//! with its whole length as a hole. What is there is compared chunk by chunk, through its hash,
//! or, where the file cache knows what it holds, through ids alone. What is missing is read in
//! the order of its packs and written where it belongs.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use zenith_store::{ChunkId, Content, Params, Repository, bulk};

use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::user::RunAs;
use crate::plan::{Known, Plan};
use crate::scan::{Entry, Stamp};

/// Bytes of a file that one thread compares at a time; a multiple of every chunk size up to it.
const PIECE_BYTES: u64 = 4 << 20;
/// Files that are open at once.
const WINDOW_FILES: usize = 256;
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

impl Source {
    /// What lies in memory.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Source::Bytes(bytes)
            | Source::Stored(zenith_store::File {
                content: Content::Inline(bytes),
                ..
            }) => Some(bytes),
            Source::Stored(_) => None,
        }
    }
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
    /// Directories in which files were made.
    pub(super) dirty_dirs: BTreeSet<PathBuf>,
    /// Path in the tree → what each file looked like when it held what it is to hold: before it
    /// was compared, or after the last write. Whoever changes it from then on leaves a trace.
    pub(super) stamps: HashMap<String, Stamp>,
}

/// A file that is being written.
struct Open<'a> {
    wanted: &'a Wanted,
    file: File,
    /// Before any of its bytes was compared or written.
    stamp: Stamp,
    /// Anything, its mode and length included.
    wrote: AtomicBool,
    /// Any bytes.
    wrote_bytes: AtomicBool,
    /// Whether it was not there.
    is_new: bool,
    ids: Vec<ChunkId>,
    now: Now,
}

/// What a file is known to hold.
enum Now {
    /// Nothing but a hole.
    Hole,
    /// These chunks.
    Chunks(Vec<ChunkId>),
    /// That is to be seen.
    Unknown,
}

/// A chunk that must be written: number of the file in its window, number of the chunk.
type Missing = (ChunkId, (usize, usize));

impl Place<'_> {
    /// Makes all files; their directories exist.
    pub(super) fn run(&self, wanted: &[Wanted]) -> Result<Placed> {
        let mut placed = Placed::default();
        let mut rest = wanted;
        while !rest.is_empty() {
            let (window, after) = rest.split_at(self.window(rest));
            self.place(window, &mut placed)?;
            rest = after;
        }
        Ok(placed)
    }

    /// How many files make a window: their number is bounded, and their chunks, but for one file.
    fn window(&self, files: &[Wanted]) -> usize {
        let chunk_size = u64::from(self.repo.params().chunk_size);
        let mut chunks = 0;
        let fit = files.iter().take(WINDOW_FILES).take_while(|file| {
            let before = chunks;
            chunks += file.size().div_ceil(chunk_size);
            before == 0 || chunks <= bulk::WINDOW as u64
        });
        fit.count()
    }

    fn place(&self, window: &[Wanted], placed: &mut Placed) -> Result<()> {
        let slots: Vec<_> = window.iter().map(|w| (w, OnceLock::new())).collect();
        bulk::in_parallel(self.threads, &slots, |(wanted, slot)| -> Result<()> {
            let open = self.open(wanted)?;
            let _ = slot.set(open);
            Ok(())
        })?;
        let files: Vec<Open<'_>> = slots
            .into_iter()
            .filter_map(|(_, slot)| slot.into_inner())
            .collect();

        let missing = self.missing(&files, placed)?;
        let written = AtomicU64::new(0);
        self.repo
            .read_many(missing, self.threads, &|(file, chunk), bytes| {
                let file = &files[*file];
                file.put(*chunk, self.repo.params(), bytes)?;
                let len = bytes.len() as u64;
                written.fetch_add(len, Ordering::Relaxed);
                (self.on)(Event::Placed { bytes: len });
                Ok::<_, Error>(())
            })?;
        placed.written_bytes += written.into_inner();

        for file in files {
            let Wanted { path, target, .. } = file.wanted;
            let stamp = if file.wrote_bytes.into_inner() {
                placed.dirty.insert(target.clone());
                stamp(&file.file, target)?
            } else {
                file.stamp
            };
            if file.wrote.into_inner() {
                placed.dirty.insert(target.clone());
            }
            if file.is_new {
                placed.dirty_dirs.insert(disk::parent(target).to_owned());
            }
            placed.stamps.insert(path.clone(), stamp);
        }
        Ok(())
    }

    /// The chunks that the files do not hold. What needs no store is written here: bytes that lie
    /// in memory, and zeros where something else is.
    fn missing(&self, files: &[Open<'_>], placed: &mut Placed) -> Result<Vec<Missing>> {
        let chunk_size = u64::from(self.repo.params().chunk_size);
        let mut pieces = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let count = file.wanted.size().div_ceil(PIECE_BYTES).max(1);
            pieces.extend((0..count).map(|n| (number, n * PIECE_BYTES)));
        }
        let missing = Mutex::new(Vec::new());
        let (written, compared) = (AtomicU64::new(0), AtomicU64::new(0));
        bulk::in_parallel(self.threads, &pieces, |(number, first)| {
            let file = &files[*number];
            let size = file.wanted.size();
            if let Some(bytes) = file.wanted.source.bytes() {
                written.fetch_add(file.put_all(bytes)?, Ordering::Relaxed);
                (self.on)(Event::Placed { bytes: size });
                return Ok(());
            }
            let mut found: Vec<Missing> = Vec::new();
            let mut buffer = Vec::new();
            let mut at = *first;
            while at < size.min(first + PIECE_BYTES) {
                let len = (size - at).min(chunk_size) as usize;
                let index = (at / chunk_size) as usize;
                let id = file.id(index)?;
                if !file.holds(index, id, at, len, self.repo, &mut buffer, &compared)? {
                    if id.is_zero() {
                        buffer.clear();
                        buffer.resize(len, 0);
                        file.write_at(&buffer, at)?;
                        written.fetch_add(len as u64, Ordering::Relaxed);
                        (self.on)(Event::Placed { bytes: len as u64 });
                    } else {
                        found.push((id, (*number, index)));
                    }
                } else {
                    (self.on)(Event::Placed { bytes: len as u64 });
                }
                at += len as u64;
            }
            lock(&missing).append(&mut found);
            Ok::<_, Error>(())
        })?;
        placed.written_bytes += written.into_inner();
        placed.compared_bytes += compared.into_inner();
        Ok(missing.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the file with its right length and mode, or makes it.
    fn open<'a>(&self, wanted: &'a Wanted) -> Result<Open<'a>> {
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
        let is_new = there.is_none();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(is_new)
            .mode(wanted.mode)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(target)
            .map_err(Error::io("open", target))?;
        let mut wrote = false;
        let chmod = |file: &File| {
            file.set_permissions(Permissions::from_mode(wanted.mode))
                .map_err(Error::io("chmod", target))
        };
        let now = match there {
            None => {
                wrote = true;
                chmod(&file)?;
                if let Some(owner) = self.owner {
                    std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
                        .map_err(Error::io("chown", target))?;
                }
                file.set_len(size).map_err(Error::io("extend", target))?;
                Now::Hole
            }
            Some(meta) => {
                if meta.mode() & 0o7777 != wanted.mode {
                    wrote = true;
                    chmod(&file)?;
                }
                let now = match self.known.decide(&entry(wanted, &meta), &self.boot_id) {
                    // What the cache knows counts only for the length it knows.
                    Plan::Reuse(file) if file.size == size => match &file.content {
                        Content::Extents(_) => Now::Chunks(self.repo.chunk_ids(&file)?),
                        Content::Inline(_) => Now::Unknown,
                    },
                    _ => Now::Unknown,
                };
                if meta.len() != size {
                    wrote = true;
                    file.set_len(size).map_err(Error::io("truncate", target))?;
                }
                now
            }
        };
        Ok(Open {
            wanted,
            stamp: stamp(&file, target)?,
            file,
            wrote: AtomicBool::new(wrote),
            wrote_bytes: AtomicBool::new(false),
            is_new,
            ids,
            now,
        })
    }
}

impl Open<'_> {
    fn id(&self, index: usize) -> Result<ChunkId> {
        self.ids.get(index).copied().ok_or_else(|| Error::Internal {
            what: format!("`{}` has fewer chunks than its size says", self.wanted.path),
        })
    }

    /// Whether a chunk is in its place.
    #[expect(
        clippy::too_many_arguments,
        reason = "a place, and what looking at it takes"
    )]
    fn holds(
        &self,
        index: usize,
        id: ChunkId,
        at: u64,
        len: usize,
        repo: &Repository,
        buffer: &mut Vec<u8>,
        compared: &AtomicU64,
    ) -> Result<bool> {
        match &self.now {
            Now::Hole => Ok(id.is_zero()),
            Now::Chunks(held) => Ok(held.get(index) == Some(&id)),
            Now::Unknown => {
                buffer.resize(len, 0);
                compared.fetch_add(len as u64, Ordering::Relaxed);
                self.file
                    .read_exact_at(buffer, at)
                    .map_err(Error::io("read", &self.wanted.target))?;
                Ok(if id.is_zero() {
                    buffer.iter().all(|b| *b == 0)
                } else {
                    repo.ids().chunk(buffer) == id
                })
            }
        }
    }

    /// A chunk from the store.
    fn put(&self, index: usize, params: Params, bytes: &[u8]) -> Result<()> {
        let at = index as u64 * u64::from(params.chunk_size);
        let wanted = (self.wanted.size() - at).min(params.chunk_size.into());
        if bytes.len() as u64 != wanted {
            return Err(Error::Internal {
                what: format!(
                    "a chunk of `{}` has {} bytes, not {wanted}",
                    self.wanted.path,
                    bytes.len()
                ),
            });
        }
        self.write_at(bytes, at)
    }

    /// A small file that lies in memory; gives the bytes written.
    fn put_all(&self, bytes: &[u8]) -> Result<u64> {
        let mut now = vec![0; bytes.len()];
        let hole = matches!(self.now, Now::Hole);
        if !hole && self.file.read_exact_at(&mut now, 0).is_ok() && now == bytes {
            return Ok(0);
        }
        self.write_at(bytes, 0)?;
        Ok(bytes.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.wrote_bytes.store(true, Ordering::Relaxed);
        self.file
            .write_all_at(bytes, at)
            .map_err(Error::io("write", &self.wanted.target))
    }
}

fn entry(wanted: &Wanted, meta: &fs::Metadata) -> Entry {
    Entry {
        path: wanted.path.clone(),
        source: wanted.target.clone(),
        is_dir: false,
        mode: wanted.mode,
        stamp: Stamp::of(meta),
    }
}

fn stamp(file: &File, target: &Path) -> Result<Stamp> {
    let meta = file.metadata().map_err(Error::io("stat", target))?;
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

/// Makes a directory, or sets its mode and owner; whether it was not as it is to be.
pub(super) fn directory(dir: &Path, mode: u32, owner: Option<&RunAs>) -> Result<bool> {
    let mut wrote = !dir.is_dir();
    disk::create_dir(dir, mode)?;
    let meta = fs::symlink_metadata(dir).map_err(Error::io("stat", dir))?;
    if meta.mode() & 0o7777 != mode {
        wrote = true;
        fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(Error::io("chmod", dir))?;
    }
    if let Some(owner) = owner
        && (meta.uid(), meta.gid()) != (owner.uid, owner.gid)
    {
        wrote = true;
        std::os::unix::fs::chown(dir, Some(owner.uid), Some(owner.gid))
            .map_err(Error::io("chown", dir))?;
    }
    Ok(wrote)
}
