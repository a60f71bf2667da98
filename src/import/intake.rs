//! Files that come one after the other → the store: reading stays with the caller, hashing and
//! compressing go to several threads.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use zenith_store::{ChunkId, Listing, Node, Params, Repository, Writer};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::LeftOut;
use crate::pg::path::{Rule, is_relation_dir, relation_file, rule};
use crate::pg::tablespace::Tablespace;
use crate::snapshot::stream::{Findings, Layout, is_skeleton};

/// Chunks on their way for each thread.
const WINDOW_PER_THREAD: usize = 4;
/// Mode of directories that only paths of files tell of.
const DIRECTORY_MODE: u32 = 0o700;
/// Skeletons begin so; what a killed import left is removed by the next.
const SKELETON: &str = ".tmp-import-";
const BUFFER: usize = 64 << 10;

/// What was taken in; see `snapshot::stream`.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) listing: Listing,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) links: Vec<Tablespace>,
    /// Plain bytes that were read.
    pub(super) bytes: u64,
    /// Pages that do not hold, if the cluster is laid out as usual and has checksums.
    pub(super) findings: Findings,
}

/// Why a file was not taken in.
#[derive(Debug)]
pub(super) enum Refused {
    /// Reading it went wrong.
    Read(io::Error),
    /// Anything else did.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused::Other(error.into())
    }
}

/// Takes files in, with `threads` behind it, for as long as `feed` runs.
pub(super) fn take_in(
    repo: &Repository,
    writer: &Writer,
    skeleton: &Path,
    threads: usize,
    on: &(dyn Fn(Event) + Sync),
    feed: impl FnOnce(&mut Intake<'_>) -> Result<()>,
) -> Result<Taken> {
    let threads = threads.max(1);
    let window = threads * WINDOW_PER_THREAD;
    let (jobs_in, jobs) = bounded::<Job>(window);
    // Every chunk under way fits, so that a thread never waits for the reader.
    let (done_in, done) = bounded::<Done>(window);
    let findings = Mutex::new(Findings::default());
    let mut taken = thread::scope(|scope| {
        let findings = &findings;
        let workers: Vec<ScopedJoinHandle<'_, ()>> = (0..threads)
            .map(|_| {
                let (jobs, done_in) = (jobs.clone(), done_in.clone());
                scope.spawn(move || {
                    for Job {
                        file,
                        index,
                        bytes,
                        pages,
                    } in jobs
                    {
                        if let Some(pages) = pages {
                            pages.look(&bytes, findings);
                        }
                        let id = writer.put_chunk(&bytes, None).map_err(Error::from);
                        if done_in
                            .send(Done {
                                file,
                                index,
                                id,
                                buffer: bytes,
                            })
                            .is_err()
                        {
                            return;
                        }
                    }
                })
            })
            .collect();
        drop((jobs, done_in));
        let mut intake = Intake {
            writer,
            params: repo.params(),
            skeleton,
            on,
            jobs: Some(jobs_in),
            done,
            window,
            under_way: 0,
            buffers: Vec::new(),
            open: HashMap::new(),
            next: 0,
            taken: Taken {
                listing: Listing::new(),
                left_out: Vec::new(),
                links: Vec::new(),
                bytes: 0,
                findings: Findings::default(),
            },
            stored: writer.stats().bytes_new,
        };
        feed(&mut intake)?;
        intake.finish()?;
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        Ok::<Taken, Error>(intake.taken)
    })?;
    taken.findings = findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(taken)
}

/// A directory for the skeleton beside the packs of `repo`, which has room for its WAL.
pub(super) fn skeleton(repo: &Repository) -> Result<tempfile::TempDir> {
    let packs = repo.objects().local_path("packs");
    let above = packs.as_deref().and_then(Path::parent).map(Path::to_owned);
    let above = above.unwrap_or_else(std::env::temp_dir);
    for entry in fs::read_dir(&above).map_err(Error::io("read", &above))? {
        let entry = entry.map_err(Error::io("read", &above))?;
        // The caller holds the home's lock, so nobody works in one.
        if entry.file_name().to_string_lossy().starts_with(SKELETON) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    let made = tempfile::Builder::new().prefix(SKELETON).tempdir_in(&above);
    let made = made.map_err(Error::io("create", &above))?;
    let wal = made.path().join("pg_wal");
    fs::create_dir(&wal).map_err(Error::io("create", &wal))?;
    Ok(made)
}

struct Job {
    file: u64,
    index: usize,
    bytes: Vec<u8>,
    pages: Option<Pages>,
}

/// Where in a relation a chunk is from.
struct Pages {
    path: Arc<str>,
    segment: u32,
    /// Bytes of the file before it.
    at: u64,
}

impl Pages {
    /// Looks as if pg_control, which may come last, said what it usually says.
    fn look(&self, bytes: &[u8], findings: &Mutex<Findings>) {
        let mut found = Vec::new();
        Layout::USUAL.look(&self.path, self.segment, bytes, self.at, &mut found);
        if !found.is_empty() {
            let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
            findings.add(found);
        }
    }
}

struct Done {
    file: u64,
    index: usize,
    id: Result<ChunkId>,
    buffer: Vec<u8>,
}

/// A file of which not all chunks are stored yet.
struct Open {
    path: String,
    mode: u32,
    size: u64,
    ids: Vec<ChunkId>,
    left: usize,
}

/// Where a stream puts what it finds.
pub(super) struct Intake<'a> {
    writer: &'a Writer,
    params: Params,
    skeleton: &'a Path,
    on: &'a (dyn Fn(Event) + Sync),
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    window: usize,
    under_way: usize,
    buffers: Vec<Vec<u8>>,
    open: HashMap<u64, Open>,
    next: u64,
    taken: Taken,
    stored: u64,
}

impl Intake<'_> {
    /// A directory, if the rules take it.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        match rule(path, true) {
            Rule::LeaveOut(reason) => self.leave_out(path, reason),
            Rule::Take | Rule::TakeDirOnly(_) => {
                insert(
                    &mut self.taken.listing,
                    path,
                    Node::Directory {
                        mode: mode & 0o7777,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// A tablespace's link.
    pub(super) fn link(&mut self, tablespace: Tablespace) {
        self.taken.links.push(tablespace);
    }

    /// A file of `size` bytes, if the rules take it; what they do not take is not read.
    pub(super) fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<(), Refused> {
        let mode = mode & 0o7777;
        if is_skeleton(path) {
            self.put_into_skeleton(path, mode, size, from)?;
            if path != super::VERSION {
                return Ok(());
            }
            let copy = self.skeleton.join(path);
            let mut copy = fs::File::open(&copy).map_err(Error::io("open", &copy))?;
            return self.store(path, mode, size, &mut copy);
        }
        if let Rule::LeaveOut(reason) = rule(path, false) {
            self.leave_out(path, reason);
            return Ok(());
        }
        self.store(path, mode, size, from)
    }

    fn store(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<(), Refused> {
        if size <= u64::from(self.params.inline_limit) {
            let mut bytes = vec![0; size as usize];
            from.read_exact(&mut bytes).map_err(Refused::Read)?;
            self.read(size);
            let file = self.writer.put_inline(mode, bytes);
            insert(&mut self.taken.listing, path, Node::File(file))?;
            return Ok(());
        }
        let chunk_size = u64::from(self.params.chunk_size);
        let chunks = size.div_ceil(chunk_size) as usize;
        let number = self.next;
        self.next += 1;
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let relation = relation_file(name).filter(|_| is_relation_dir(dir));
        let named: Option<(Arc<str>, u32)> = relation.map(|file| (path.into(), file.segment));
        let path = path.to_owned();
        self.open.insert(
            number,
            Open {
                path,
                mode,
                size,
                // It grows with what arrives: the size is only what a header says.
                ids: Vec::new(),
                left: chunks,
            },
        );
        let mut left = size;
        for index in 0..chunks {
            let len = left.min(chunk_size) as usize;
            let mut bytes = self.buffers.pop().unwrap_or_default();
            bytes.resize(len, 0);
            from.read_exact(&mut bytes).map_err(Refused::Read)?;
            self.read(len as u64);
            left -= len as u64;
            while self.under_way >= self.window {
                self.receive()?;
            }
            let pages = named.clone().map(|(path, segment)| Pages {
                path,
                segment,
                at: index as u64 * chunk_size,
            });
            let jobs = self.jobs.as_ref().expect("the intake is not finished");
            jobs.send(Job {
                file: number,
                index,
                bytes,
                pages,
            })
            .map_err(|_| gone())?;
            self.under_way += 1;
        }
        Ok(())
    }

    /// Waits for one chunk; the last of a file completes it.
    fn receive(&mut self) -> Result<()> {
        let Done {
            file,
            index,
            id,
            buffer,
        } = self.done.recv().map_err(|_| gone())?;
        self.under_way -= 1;
        self.buffers.push(buffer);
        let open = self.open.get_mut(&file).expect("a chunk belongs to a file");
        if open.ids.len() <= index {
            open.ids.resize(index + 1, ChunkId::ZERO);
        }
        open.ids[index] = id?;
        open.left -= 1;
        if open.left == 0 {
            let Open {
                path,
                mode,
                size,
                ids,
                ..
            } = self.open.remove(&file).expect("it was there just now");
            let file = self.writer.put_file(mode, size, &ids, &[])?;
            insert(&mut self.taken.listing, &path, Node::File(file))?;
            let stored = self.writer.stats().bytes_new;
            (self.on)(Event::New {
                bytes: stored.saturating_sub(self.stored),
            });
            self.stored = stored;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        while self.under_way > 0 {
            self.receive()?;
        }
        self.jobs = None;
        Ok(())
    }

    fn put_into_skeleton(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<(), Refused> {
        let target = self.skeleton.join(path);
        if let Some(above) = target.parent() {
            fs::create_dir_all(above).map_err(Error::io("create", above))?;
        }
        if target.exists() {
            return Err(Error::PathInvalid {
                path: path.to_owned(),
            }
            .into());
        }
        let mut out = fs::File::create(&target).map_err(Error::io("create", &target))?;
        let mut buffer = vec![0; BUFFER];
        let mut left = size;
        while left > 0 {
            let len = left.min(BUFFER as u64) as usize;
            from.read_exact(&mut buffer[..len]).map_err(Refused::Read)?;
            out.write_all(&buffer[..len])
                .map_err(Error::io("write", &target))?;
            left -= len as u64;
        }
        out.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(Error::io("chmod", &target))?;
        self.read(size);
        Ok(())
    }

    fn leave_out(&mut self, path: &str, reason: &str) {
        self.taken.left_out.push(LeftOut {
            path: path.to_owned(),
            reason: reason.to_owned(),
        });
    }

    fn read(&mut self, bytes: u64) {
        self.taken.bytes += bytes;
        (self.on)(Event::Read { bytes });
    }
}

/// Adds a node, and the directories above it where they are not there yet.
///
/// Errors: `PathInvalid` where something else lies at the path or above it.
pub(super) fn insert(listing: &mut Listing, path: &str, node: Node) -> Result<()> {
    let invalid = || Error::PathInvalid {
        path: path.to_owned(),
    };
    for (at, _) in path.match_indices('/') {
        let above = listing
            .entry(path[..at].to_owned())
            .or_insert(Node::Directory {
                mode: DIRECTORY_MODE,
            });
        if matches!(above, Node::File(_)) {
            return Err(invalid());
        }
    }
    let is_directory = matches!(node, Node::Directory { .. });
    match listing.insert(path.to_owned(), node) {
        None => Ok(()),
        // A directory that was known by a path gets its mode; a file comes once.
        Some(Node::Directory { .. }) if is_directory => Ok(()),
        Some(_) => Err(invalid()),
    }
}

fn gone() -> Error {
    Error::Internal {
        what: "a thread that stores chunks is gone".to_owned(),
    }
}

/// A path out of a stream as one of PGDATA: without `./`, without a slash at the end. Empty for
/// PGDATA itself.
///
/// Errors: the reason why it leads elsewhere.
pub(super) fn normalise(path: &str) -> Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("the path is absolute");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("the path leads out of the cluster"),
            part if part.contains(char::is_control) => {
                return Err("the path has a control character");
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zenith_store::{Content, File};

    #[test]
    fn paths_stay_inside() {
        for (path, expect) in [
            ("base/1/2", Ok("base/1/2")),
            ("./pg_wal/archive_status/", Ok("pg_wal/archive_status")),
            ("./", Ok("")),
            ("a//b", Ok("a/b")),
            ("/etc/passwd", Err("the path is absolute")),
            ("base/../../x", Err("the path leads out of the cluster")),
            ("..", Err("the path leads out of the cluster")),
            ("a\nb", Err("the path has a control character")),
        ] {
            assert_eq!(normalise(path), expect.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn a_path_is_one_thing() {
        let file = || {
            Node::File(File {
                mode: 0o600,
                size: 0,
                content: Content::Inline(vec![]),
            })
        };
        let dir = |mode| Node::Directory { mode };
        let mut listing = Listing::new();
        insert(&mut listing, "a/b/c", file()).unwrap();
        insert(&mut listing, "a/b", dir(0o750)).unwrap();
        assert_eq!(listing["a/b"], dir(0o750));
        assert_eq!(listing["a"], dir(0o700));
        for (path, node) in [
            ("a/b", file()),
            ("a/b/c", file()),
            ("a/b/c", dir(0o700)),
            ("a/b/c/d", file()),
        ] {
            assert!(insert(&mut listing.clone(), path, node).is_err(), "{path}");
        }
    }
}
