//! Files → chunks, on all threads at once.
//!
//! Relation files are cut into pieces, so that one segment of 1 GiB keeps every thread busy. Each
//! is read up to the size it had when it was listed: what is appended later comes from WAL, what
//! was cut off meanwhile is zeros, which replay cuts off too (as pg_basebackup does it). Holes are
//! passed over, pages are verified before they are stored. All other files are read whole, again
//! and again until nothing changed meanwhile.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zenith_store::{ChunkId, Params, Writer};

use super::pages::{Findings, Layout};
use crate::before::Before;
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

/// What the reading of files needs to know.
pub(super) struct Copy<'a> {
    pub(super) writer: &'a Writer,
    pub(super) before: &'a Before,
    pub(super) params: Params,
    pub(super) pgdata: &'a Path,
    pub(super) motion: Motion,
    /// Where its pages are.
    pub(super) layout: Layout,
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
    /// Pages that do not hold.
    pub(super) findings: Findings,
}

/// One file, and what its pieces have come to.
struct Task<'a> {
    entry: &'a Entry,
    /// The segment number of a relation's file that is read in pieces.
    segment: Option<u32>,
    state: Mutex<State>,
    left: AtomicUsize,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    vanished: bool,
    ids: Vec<ChunkId>,
    stored: Option<zenith_store::File>,
}

/// A file that is being read.
#[derive(Clone)]
struct Open {
    file: Arc<Source>,
    /// The chunks that it had before.
    before: Arc<Vec<ChunkId>>,
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
            let segment = relation_file(name)
                .filter(|_| is_relation_dir(dir))
                .filter(|_| entry.size() > u64::from(self.params.inline_limit))
                .map(|file| file.segment);
            let size = segment.map_or(0, |_| entry.size());
            let count = size.div_ceil(PIECE_BYTES).max(1);
            pieces.extend((0..count).map(|n| Piece {
                task: number,
                first: n * PIECE_BYTES,
                bytes: size.saturating_sub(n * PIECE_BYTES).min(PIECE_BYTES),
            }));
            tasks.push(Task {
                entry,
                segment,
                state: Mutex::default(),
                left: AtomicUsize::new(count as usize),
            });
        }
        let findings = Mutex::new(Findings::default());
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
                    let done = match task.segment {
                        Some(segment) => self.piece(task, segment, piece, &mut buffer, &findings),
                        None => self.whole(task, &warnings),
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
        copied.findings = findings
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(copied)
    }

    /// One piece of a relation; whoever does the last one puts the file together.
    fn piece(
        &self,
        task: &Task<'_>,
        segment: u32,
        piece: &Piece,
        buffer: &mut [u8],
        findings: &Mutex<Findings>,
    ) -> Result<()> {
        if let Some(Open { file, before }) = self.open_once(task)? {
            let entry = task.entry;
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
                let read = |part: &mut [u8], at| file.read_at(part, at);
                let got = read(part, at).map_err(Error::io("read", &entry.source))?;
                if got < wanted {
                    if self.motion == Motion::Still {
                        return Err(self.changed(entry, "is shorter than before"));
                    }
                    part[got..].fill(0);
                }
                let world = self.before.repo().world();
                let running = (self.motion == Motion::Running).then_some(world);
                let found = self
                    .layout
                    .verify(&entry.path, segment, part, at, running, read)
                    .map_err(Error::io("read", &entry.source))?;
                if !found.is_empty() {
                    lock(findings).add(found);
                }
                for (chunk, index) in part.chunks(chunk_size as usize).zip(at / chunk_size..) {
                    let base = before.get(index as usize).copied();
                    ids.push(self.writer.put_chunk(chunk, base)?);
                }
                (self.on)(Event::Read {
                    bytes: wanted as u64,
                });
                at += wanted as u64;
            }
            let first = (piece.first / chunk_size) as usize;
            let mut state = lock(&task.state);
            let chunks = entry.size().div_ceil(chunk_size) as usize;
            state.ids.resize(chunks, ChunkId::ZERO);
            state.ids[first..first + ids.len()].copy_from_slice(&ids);
        }
        if task.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut state = lock(&task.state);
            // Nothing is open where the file vanished.
            let Some(Open { file, before }) = state.open.take() else {
                return Ok(());
            };
            if self.motion == Motion::Still {
                self.check_still(task.entry, &file)?;
            }
            let ids = std::mem::take(&mut state.ids);
            state.stored =
                Some(
                    self.writer
                        .put_file(task.entry.mode, task.entry.size(), &ids, &before)?,
                );
        }
        Ok(())
    }

    /// The open file and what it had before, shared by the pieces, so that all of them read the
    /// same one.
    fn open_once(&self, task: &Task<'_>) -> Result<Option<Open>> {
        let mut state = lock(&task.state);
        if state.open.is_none() && !state.vanished {
            match Source::open(&task.entry.source) {
                Ok(file) => {
                    state.open = Some(Open {
                        file: Arc::new(file),
                        before: Arc::new(self.before.chunks(&task.entry.path)?),
                    });
                }
                Err(e) if self.may_vanish(task.entry, &e) => state.vanished = true,
                Err(e) => return Err(self.open_error(task.entry, e)),
            }
        }
        Ok(state.open.clone())
    }

    /// A file that is no relation: read whole, until it held still.
    fn whole(&self, task: &Task<'_>, warnings: &Mutex<Vec<String>>) -> Result<()> {
        let entry = task.entry;
        let before_ids = self.before.chunks(&entry.path)?;
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
                self.store(entry, bytes.len() as u64, &before_ids, &mut &bytes[..])
            } else {
                self.store(entry, before.size, &before_ids, &mut file.reader())
            };
            // Trying again is for files that move, not for a store that takes nothing.
            let stored = match stored {
                Err(tree::StoreError::Put(e)) => return Err(e.into()),
                other => other,
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
            self.before.repo().world().sleep(ATTEMPT_PAUSE);
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
        before: &[ChunkId],
        from: &mut dyn Read,
    ) -> Result<zenith_store::File, tree::StoreError> {
        tree::store(self.writer, self.params, entry.mode, size, before, from)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use zenith_store::objects::Directory;
    use zenith_store::{IndexChoice, Operation, Repository};

    const GIB: u64 = 1 << 30;

    struct Bench {
        dir: tempfile::TempDir,
        repo: Repository,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let objects = Arc::new(Directory::new(dir.path().join("repo")));
            let (params, index) = (Params::default(), IndexChoice::Memory);
            let repo =
                Repository::create(objects, params, None, index, Operation::default()).unwrap();
            Bench { dir, repo }
        }

        fn entry(&self, name: &str) -> Entry {
            let source = self.dir.path().join(name);
            let stamp = Stamp::of(&fs::metadata(&source).unwrap());
            Entry {
                path: format!("base/5/{name}"),
                source,
                is_dir: false,
                mode: 0o600,
                stamp,
            }
        }

        fn copy<T>(&self, motion: Motion, with: impl FnOnce(&Copy<'_>) -> T) -> T {
            let writer = self.repo.writer().unwrap();
            let before = Before::of(&self.repo, None).unwrap();
            let with = with(&Copy {
                writer: &writer,
                before: &before,
                params: self.repo.params(),
                pgdata: self.dir.path(),
                motion,
                layout: Layout::USUAL,
                threads: 2,
                on: &crate::event::ignore,
            });
            writer.abort();
            with
        }
    }

    /// Bytes that this thread has read from anywhere.
    fn bytes_read() -> u64 {
        let io = fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn holes_are_passed_over() {
        let bench = Bench::new();
        let file = File::create(bench.dir.path().join("16384")).unwrap();
        file.set_len(6 * GIB + 8192).unwrap();
        let places = [3 * GIB + 5 * 8192, 6 * GIB];
        for at in places {
            file.write_all_at(&[7; 8192], at).unwrap();
        }
        let entry = bench.entry("16384");
        let done = AtomicU64::new(0);
        let on = |event| {
            if let Event::Read { bytes } = event {
                done.fetch_add(bytes, Ordering::Relaxed);
            }
        };
        let copied = bench.copy(Motion::Still, |copy| {
            let before = bytes_read();
            let copied = Copy {
                on: &on,
                threads: 1,
                ..*copy
            }
            .run(&[&entry])
            .unwrap();
            let read = bytes_read() - before;
            assert!(read < 8 << 20, "{read} bytes");
            copied
        });
        assert_eq!(done.into_inner(), entry.size());
        assert_eq!(copied.files["base/5/16384"].size, entry.size());
        // The pages, which have no checksums, are where they were.
        let verdict = copied
            .findings
            .judge(Layout::USUAL, Layout::USUAL, None, |_| true);
        let blocks: Vec<u64> = verdict
            .damage
            .unwrap()
            .pages
            .iter()
            .map(|page| page.block * 8192)
            .collect();
        assert_eq!(blocks, places);
    }

    /// Half of a page is written while it is read; a moment later it is whole.
    #[test]
    fn a_page_that_heals_is_stored_healed() {
        let bench = Bench::new();
        let name = "16384";
        let mut whole = vec![0; 8192];
        whole[14..16].copy_from_slice(&8192u16.to_le_bytes());
        whole[16..18].copy_from_slice(&8192u16.to_le_bytes());
        whole[6000] = 9;
        let sum = pg::page::checksum(&whole, 0);
        whole[8..10].copy_from_slice(&sum.to_le_bytes());
        let mut torn = whole.clone();
        torn[6000] = 0;
        let path = bench.dir.path().join(name);
        let expect = bench.copy(Motion::Still, |copy| {
            let id = copy.writer.put_chunk(&whole, None).unwrap();
            copy.writer.put_file(0o600, 8192, &[id], &[]).unwrap()
        });
        fs::write(&path, &torn).unwrap();
        let entry = bench.entry(name);
        let file = File::options().write(true).open(&path).unwrap();
        // On a busy machine it may heal too late.
        let heals = |_| {
            file.write_all_at(&torn, 0).unwrap();
            let mut copied = bench.copy(Motion::Running, |copy| {
                std::thread::scope(|scope| {
                    let copying = scope.spawn(|| copy.run(&[&entry]).unwrap());
                    std::thread::sleep(Duration::from_millis(25));
                    file.write_all_at(&whole, 0).unwrap();
                    copying.join().unwrap()
                })
            });
            let findings = std::mem::take(&mut copied.findings);
            let verdict = findings.judge(Layout::USUAL, Layout::USUAL, None, |_| true);
            verdict.damage.is_none().then_some(copied)
        };
        let copied = (0..20).find_map(heals).expect("it never heals");
        assert_eq!(copied.files["base/5/16384"], expect);
    }
}
