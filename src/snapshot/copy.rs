//! Files → chunks, on all threads at once.
//!
//! Relation files are cut into pieces, so that one segment of 1 GiB keeps every thread busy. Each
//! is read up to the size it had when it was listed: what is appended later comes from WAL, what
//! was cut off meanwhile is zeros, which replay cuts off too (as pg_basebackup does it). Holes are
//! passed over. All other files are read whole, again and again until nothing changed meanwhile.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zenith_store::{ChunkId, Params, Writer};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg;
use crate::pg::path::{REQUIRED, is_relation_dir, relation_file};
use crate::scan::{Entry, Motion, Stamp};
use crate::source::Source;
use crate::tree;

/// Bytes of a relation that one thread takes at a time.
const PIECE_BYTES: u64 = 4 << 20;
/// Bytes read at once; a multiple of every chunk size up to itself.
const READ_BYTES: usize = 1 << 20;
/// A file that changes while it is read is read again so often.
const ATTEMPTS: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// Pages with unknown flags that are named; the rest is counted.
const PAGES_NAMED_MAX: usize = 20;

/// What the reading of files needs to know.
pub(super) struct Copy<'a> {
    pub(super) writer: &'a Writer,
    pub(super) params: Params,
    pub(super) pgdata: &'a Path,
    pub(super) motion: Motion,
    /// Bytes of a page.
    pub(super) block_size: u32,
    pub(super) threads: usize,
    pub(super) on: &'a (dyn Fn(Event) + Sync),
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Path → stored file. Files that vanished are not in it.
    pub(super) files: HashMap<String, zenith_store::File>,
    /// For people.
    pub(super) warnings: Vec<String>,
}

/// One file, and what its pieces have come to.
struct Task<'a> {
    entry: &'a Entry,
    relation: bool,
    state: Mutex<State>,
    left: AtomicUsize,
}

#[derive(Default)]
struct State {
    open: Option<Arc<Source>>,
    vanished: bool,
    ids: Vec<ChunkId>,
    stored: Option<zenith_store::File>,
}

/// A range of one file.
struct Piece {
    task: usize,
    first: u64,
    bytes: u64,
}

impl Copy<'_> {
    /// Reads and stores `entries`, which are files.
    pub(super) fn run(&self, entries: &[&Entry]) -> Result<Copied> {
        let mut tasks = Vec::with_capacity(entries.len());
        let mut pieces = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let (dir, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            let relation = is_relation_dir(dir)
                && relation_file(name).is_some()
                && entry.size() > u64::from(self.params.inline_limit);
            let size = if relation { entry.size() } else { 0 };
            let count = size.div_ceil(PIECE_BYTES).max(1);
            pieces.extend((0..count).map(|n| Piece {
                task: number,
                first: n * PIECE_BYTES,
                bytes: size.saturating_sub(n * PIECE_BYTES).min(PIECE_BYTES),
            }));
            tasks.push(Task {
                entry,
                relation,
                state: Mutex::default(),
                left: AtomicUsize::new(count as usize),
            });
        }
        let pages = Mutex::new(OddPages::default());
        let warnings = Mutex::new(Vec::new());
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let stored = AtomicU64::new(self.writer.stats().bytes_new);
        std::thread::scope(|scope| {
            let work = || {
                let mut buffer = vec![0; READ_BYTES];
                while !stop.load(Ordering::Relaxed) {
                    let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    let task = &tasks[piece.task];
                    let done = if task.relation {
                        self.piece(task, piece, &mut buffer, &pages)
                    } else {
                        self.whole(task, &warnings)
                    };
                    if let Err(error) = done {
                        stop.store(true, Ordering::Relaxed);
                        lock(&failure).get_or_insert(error);
                        return;
                    }
                    let now = self.writer.stats().bytes_new;
                    let before = stored.fetch_max(now, Ordering::Relaxed);
                    if now > before {
                        (self.on)(Event::New {
                            bytes: now - before,
                        });
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
        let mut copied = Copied::default();
        for task in tasks {
            let state = task
                .state
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = state.stored.filter(|_| !state.vanished) {
                copied.files.insert(task.entry.path.clone(), file);
            }
        }
        copied.warnings = warnings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        copied.warnings.extend(lock(&pages).describe());
        Ok(copied)
    }

    /// One piece of a relation; whoever does the last one puts the file together.
    fn piece(
        &self,
        task: &Task<'_>,
        piece: &Piece,
        buffer: &mut [u8],
        pages: &Mutex<OddPages>,
    ) -> Result<()> {
        if let Some(file) = self.open_once(task)? {
            let chunk_size = u64::from(self.params.chunk_size);
            let mut at = piece.first;
            let end = piece.first + piece.bytes;
            let mut ids = Vec::with_capacity((piece.bytes / chunk_size) as usize + 1);
            while at < end {
                // A hole that is filled from now on is in WAL, as any page written after we read.
                let data = match file.data_from(at, end) {
                    data if data < end => data - data % chunk_size,
                    _ => end,
                };
                if data > at {
                    let chunks = (data - at).div_ceil(chunk_size) as usize;
                    ids.resize(ids.len() + chunks, ChunkId::ZERO);
                    (self.on)(Event::Read { bytes: data - at });
                    at = data;
                    continue;
                }
                let wanted = (end - at).min(READ_BYTES as u64) as usize;
                let part = &mut buffer[..wanted];
                let got = file
                    .read_at(part, at)
                    .map_err(Error::io("read", &task.entry.source))?;
                if got < wanted {
                    if self.motion == Motion::Still {
                        return Err(self.changed(task.entry, "is shorter than before"));
                    }
                    part[got..].fill(0);
                }
                self.look_at_pages(task.entry, part, at, pages);
                for chunk in part.chunks(chunk_size as usize) {
                    ids.push(self.writer.put_chunk(chunk)?);
                }
                (self.on)(Event::Read {
                    bytes: wanted as u64,
                });
                at += wanted as u64;
            }
            let first = (piece.first / chunk_size) as usize;
            let mut state = lock(&task.state);
            let chunks = task.entry.size().div_ceil(chunk_size) as usize;
            state.ids.resize(chunks, ChunkId::ZERO);
            state.ids[first..first + ids.len()].copy_from_slice(&ids);
        }
        if task.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut state = lock(&task.state);
            let file = state.open.take();
            if state.vanished {
                return Ok(());
            }
            if self.motion == Motion::Still
                && let Some(file) = file
            {
                self.check_still(task.entry, &file)?;
            }
            let ids = std::mem::take(&mut state.ids);
            state.stored = Some(
                self.writer
                    .put_file(task.entry.mode, task.entry.size(), &ids)?,
            );
        }
        Ok(())
    }

    /// The open file, shared by the pieces, so that all of them read the same one.
    fn open_once(&self, task: &Task<'_>) -> Result<Option<Arc<Source>>> {
        let mut state = lock(&task.state);
        if state.open.is_none() && !state.vanished {
            match Source::open(&task.entry.source) {
                Ok(file) => state.open = Some(Arc::new(file)),
                Err(e) if self.may_vanish(task.entry, &e) => state.vanished = true,
                Err(e) => return Err(self.open_error(task.entry, e)),
            }
        }
        Ok(state.open.clone())
    }

    /// A file that is no relation: read whole, until it held still.
    fn whole(&self, task: &Task<'_>, warnings: &Mutex<Vec<String>>) -> Result<()> {
        let entry = task.entry;
        for attempt in 1.. {
            let file = match Source::open(&entry.source) {
                Ok(file) => file,
                Err(e) if self.may_vanish(entry, &e) => {
                    lock(&task.state).vanished = true;
                    return Ok(());
                }
                Err(e) => return Err(self.open_error(entry, e)),
            };
            let before = stat(&file, entry)?;
            let stored = if entry.path == "postgresql.auto.conf" {
                let mut bytes = Vec::new();
                file.reader()
                    .read_to_end(&mut bytes)
                    .map_err(Error::io("read", &entry.source))?;
                let bytes = pg::guard::remove(&bytes);
                self.store(entry, bytes.len() as u64, &mut &bytes[..])
            } else {
                self.store(entry, before.size, &mut file.reader())
            };
            let shrunk = matches!(
                &stored,
                Err(tree::StoreError::Read(e)) if e.kind() == ErrorKind::UnexpectedEof
            );
            let still = !shrunk && stat(&file, entry)? == before;
            if self.motion == Motion::Still && (!still || before != entry.stamp) {
                return Err(self.changed(entry, "changed"));
            }
            // The last resort is for files that are appended to all the time: what was read is
            // what they held when they were opened.
            let exempt = attempt >= ATTEMPTS && !shrunk && !must_be_still(&entry.path);
            if still || exempt {
                let stored = stored.map_err(|e| e.at(&entry.source))?;
                if !still {
                    let path = &entry.path;
                    lock(warnings).push(format!("`{path}` kept changing while it was read"));
                }
                (self.on)(Event::Read { bytes: before.size });
                lock(&task.state).stored = Some(stored);
                return Ok(());
            }
            if attempt >= ATTEMPTS {
                break;
            }
            std::thread::sleep(ATTEMPT_PAUSE);
        }
        Err(Error::FileUnstable {
            pgdata: self.pgdata.to_owned(),
            path: entry.path.clone(),
        })
    }

    fn store(
        &self,
        entry: &Entry,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<zenith_store::File, tree::StoreError> {
        tree::store(self.writer, self.params, entry.mode, size, from)
    }

    fn look_at_pages(&self, entry: &Entry, bytes: &[u8], at: u64, pages: &Mutex<OddPages>) {
        let block = u64::from(self.block_size);
        for (n, page) in bytes.chunks_exact(self.block_size as usize).enumerate() {
            if let Some(flags) = pg::page::unknown_flags(page) {
                lock(pages).add(&entry.path, at / block + n as u64, flags);
            }
        }
    }

    fn check_still(&self, entry: &Entry, file: &Source) -> Result<()> {
        if stat(file, entry)? == entry.stamp {
            Ok(())
        } else {
            Err(self.changed(entry, "changed"))
        }
    }

    fn changed(&self, entry: &Entry, how: &str) -> Error {
        Error::ClusterChanged {
            pgdata: self.pgdata.to_owned(),
            what: format!("`{}` {how}", entry.path),
        }
    }

    fn may_vanish(&self, entry: &Entry, error: &io::Error) -> bool {
        error.kind() == ErrorKind::NotFound
            && self.motion == Motion::Running
            && !REQUIRED.contains(&entry.path.as_str())
    }

    fn open_error(&self, entry: &Entry, error: io::Error) -> Error {
        if error.kind() == ErrorKind::NotFound {
            let (pgdata, path) = (self.pgdata.to_owned(), entry.path.clone());
            return Error::FileVanished { pgdata, path };
        }
        Error::io("open", &entry.source)(error)
    }
}

/// Files that replay does not mend, so that half an old and half a new one would be damage.
fn must_be_still(path: &str) -> bool {
    path.ends_with("pg_filenode.map") || path.ends_with("PG_VERSION") || path.ends_with(".conf")
}

fn stat(file: &Source, entry: &Entry) -> Result<Stamp> {
    let meta = file.metadata().map_err(Error::io("stat", &entry.source))?;
    Ok(Stamp::of(&meta))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pages whose header carries bits that PostgreSQL does not know.
#[derive(Debug, Default)]
pub(crate) struct OddPages {
    named: Vec<String>,
    count: u64,
}

impl OddPages {
    pub(crate) fn add(&mut self, path: &str, block: u64, flags: u16) {
        self.count += 1;
        if self.named.len() < PAGES_NAMED_MAX {
            self.named.push(format!(
                "page {block} of `{path}` has the flag bits {flags:#06x}, \
                 which PostgreSQL does not know"
            ));
        }
    }

    pub(crate) fn describe(&mut self) -> Vec<String> {
        let mut out = std::mem::take(&mut self.named);
        let more = self.count - out.len() as u64;
        if more > 0 {
            out.push(format!(
                "{more} more pages have flag bits that PostgreSQL does not know"
            ));
        }
        out
    }
}
