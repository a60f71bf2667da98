//! Stored files as one sequence of bytes: chunks are fetched and decoded by several threads, and
//! come out in order. Memory is bounded by the window, however uneven the threads are.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use zenith_store::{ChunkId, Content, File, Repository};

use crate::error::{Error, Result};

/// Chunks that are under way for each thread.
const WINDOW_PER_THREAD: usize = 8;

/// The bytes of `files`, one after the other, for `consume`, which calls [`Source::next_file`]
/// once for each of them and reads each to its end.
pub(crate) fn read_in_order<R>(
    repo: &Repository,
    files: &[File],
    threads: usize,
    consume: impl FnOnce(&mut Source<'_>) -> Result<R>,
) -> Result<R> {
    let threads = threads.max(1);
    let window = threads * WINDOW_PER_THREAD;
    let (jobs_in, jobs) = bounded::<Job>(window);
    let (done_in, done) = bounded::<Done>(window);
    // A ticket is taken for every chunk asked for and given back when it has been consumed.
    let (ticket_in, tickets) = bounded::<()>(window);
    for _ in 0..window {
        ticket_in
            .send(())
            .expect("the channel holds a whole window");
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            let (jobs, done_in) = (jobs.clone(), done_in.clone());
            scope.spawn(move || {
                for Job { number, id, len } in jobs {
                    // The consumer has gone when nobody receives.
                    if done_in.send((number, chunk(repo, id, len))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(jobs);
        scope.spawn(move || plan(repo, files, &jobs_in, &done_in, &tickets));
        let mut source = Source {
            files: files.iter(),
            done,
            ticket_in,
            early: BTreeMap::new(),
            next: 0,
            left: 0,
            inline: &[],
            piece: Vec::new(),
            piece_at: 0,
            error: None,
        };
        let result = consume(&mut source);
        match source.error.take() {
            // What the consumer made of it is an I/O error without its reason.
            Some(error) => Err(error),
            None => result,
        }
    })
}

struct Job {
    number: u64,
    id: ChunkId,
    len: usize,
}

type Done = (u64, Result<Vec<u8>>);

fn plan(
    repo: &Repository,
    files: &[File],
    jobs: &Sender<Job>,
    done: &Sender<Done>,
    tickets: &Receiver<()>,
) {
    let chunk_size = u64::from(repo.params().chunk_size);
    let mut number = 0;
    for file in files
        .iter()
        .filter(|file| matches!(file.content, Content::Extents(_)))
    {
        let ids = match repo.chunk_ids(file) {
            Ok(ids) => ids,
            Err(error) => {
                // The consumer meets the error in its place, and its going ends this thread.
                let _ = done.send((number, Err(error.into())));
                return;
            }
        };
        let mut left = file.size;
        for id in ids {
            let len = left.min(chunk_size) as usize;
            left -= len as u64;
            if tickets.recv().is_err() || jobs.send(Job { number, id, len }).is_err() {
                return;
            }
            number += 1;
        }
    }
}

fn chunk(repo: &Repository, id: ChunkId, len: usize) -> Result<Vec<u8>> {
    if id.is_zero() {
        return Ok(vec![0; len]);
    }
    let bytes = repo.chunk(id)?;
    if bytes.len() == len {
        Ok(bytes)
    } else {
        let what = format!(
            "chunk {} has {} bytes, its file wants {len}",
            id.short(),
            bytes.len()
        );
        Err(Error::Internal { what })
    }
}

/// The consumer's end of [`read_in_order`].
pub(crate) struct Source<'a> {
    files: std::slice::Iter<'a, File>,
    done: Receiver<Done>,
    ticket_in: Sender<()>,
    /// Chunks that overtook others.
    early: BTreeMap<u64, Result<Vec<u8>>>,
    /// Number of the next chunk.
    next: u64,
    /// Bytes of the current file that are still to come.
    left: u64,
    inline: &'a [u8],
    piece: Vec<u8>,
    piece_at: usize,
    error: Option<Error>,
}

impl<'a> Source<'a> {
    /// Turns to the next file; reading then gives its bytes and ends with it.
    pub(crate) fn next_file(&mut self) -> &'a File {
        assert_eq!(self.left, 0, "every file is read to its end");
        let file = self
            .files
            .next()
            .expect("no more files are asked for than were given");
        self.left = file.size;
        if let Content::Inline(bytes) = &file.content {
            self.inline = bytes;
        }
        file
    }

    fn next_piece(&mut self) -> Result<()> {
        let bytes = loop {
            if let Some(bytes) = self.early.remove(&self.next) {
                break bytes?;
            }
            let (number, bytes) = self.done.recv().map_err(|_| Error::Internal {
                what: "a thread that reads chunks is gone".to_owned(),
            })?;
            self.early.insert(number, bytes);
        };
        self.next += 1;
        // A planner that has finished takes no tickets any more.
        let _ = self.ticket_in.send(());
        self.piece = bytes;
        self.piece_at = 0;
        Ok(())
    }
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || into.is_empty() {
            return Ok(0);
        }
        let available = if !self.inline.is_empty() {
            self.inline
        } else {
            if self.piece_at == self.piece.len()
                && let Err(error) = self.next_piece()
            {
                let shown = io::Error::other(error.to_string());
                self.error = Some(error);
                return Err(shown);
            }
            &self.piece[self.piece_at..]
        };
        let len = available.len().min(into.len());
        into[..len].copy_from_slice(&available[..len]);
        if self.inline.is_empty() {
            self.piece_at += len;
        } else {
            self.inline = &self.inline[len..];
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// CRC-32C of each file.
pub(crate) fn checksums(repo: &Repository, files: &[File], threads: usize) -> Result<Vec<u32>> {
    read_in_order(repo, files, threads, |source| {
        let mut buffer = vec![0; 64 << 10];
        let mut sums = Vec::with_capacity(files.len());
        for _ in files {
            source.next_file();
            let mut crc = 0;
            loop {
                let len = source.read(&mut buffer).map_err(|e| Error::Internal {
                    what: e.to_string(),
                })?;
                if len == 0 {
                    break;
                }
                crc = crc32c::crc32c_append(crc, &buffer[..len]);
            }
            sums.push(crc);
        }
        Ok(sums)
    })
}
