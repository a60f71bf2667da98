//! Stored files as one sequence of bytes. Windows of chunks are read in the order of their packs,
//! by several threads, and come out in the order of the files; while one is consumed the next is
//! read, so that memory is that of two.

use std::io::{self, Read};
use std::sync::OnceLock;
use std::{thread, vec};

use crossbeam_channel::{Receiver, Sender, bounded};
use zenith_store::{ChunkId, Content, File, Repository, bulk};

use crate::error::{Error, Result};

/// The bytes of `files`, one after the other, for `consume`, which calls [`Source::next_file`]
/// once for each of them and reads each to its end.
pub(crate) fn read_in_order<R>(
    repo: &Repository,
    files: &[File],
    threads: usize,
    consume: impl FnOnce(&mut Source<'_>) -> Result<R>,
) -> Result<R> {
    // Nothing waits in the channel: a window is handed over when the one before is used up.
    let (windows_in, windows) = bounded::<Result<Window>>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = read_windows(repo, files, threads.max(1), &windows_in) {
                // The consumer meets the error in its place.
                let _ = windows_in.send(Err(error));
            }
        });
        let mut source = Source {
            files: files.iter(),
            windows,
            window: Vec::new().into_iter(),
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

/// Chunks, in the order of the files.
type Window = Vec<Vec<u8>>;

fn read_windows(
    repo: &Repository,
    files: &[File],
    threads: usize,
    windows: &Sender<Result<Window>>,
) -> Result<()> {
    let chunk_size = u64::from(repo.params().chunk_size);
    let full = bulk::BATCH * threads;
    let mut wanted: Vec<(ChunkId, usize)> = Vec::with_capacity(full);
    let of_chunks = |file: &&File| matches!(file.content, Content::Extents(_));
    for file in files.iter().filter(of_chunks) {
        let mut left = file.size;
        for id in repo.chunk_ids(file)? {
            let len = left.min(chunk_size);
            left -= len;
            wanted.push((id, len as usize));
            if wanted.len() == full {
                let window = read_window(repo, &wanted, threads)?;
                wanted.clear();
                // The consumer has gone when nobody receives.
                if windows.send(Ok(window)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if !wanted.is_empty() {
        let _ = windows.send(Ok(read_window(repo, &wanted, threads)?));
    }
    Ok(())
}

fn read_window(repo: &Repository, wanted: &[(ChunkId, usize)], threads: usize) -> Result<Window> {
    let slots: Vec<OnceLock<Vec<u8>>> = wanted.iter().map(|_| OnceLock::new()).collect();
    let stored = wanted
        .iter()
        .enumerate()
        .filter(|(_, (id, _))| !id.is_zero())
        .map(|(slot, (id, _))| (*id, slot));
    repo.read_many(stored, threads, &|slot, bytes| {
        let (id, len) = wanted[*slot];
        if bytes.len() != len {
            let what = format!(
                "chunk {} has {} bytes, its file wants {len}",
                id.short(),
                bytes.len()
            );
            return Err(Error::Internal { what });
        }
        let _ = slots[*slot].set(bytes.to_vec());
        Ok(())
    })?;
    let chunks = slots.into_iter().zip(wanted);
    Ok(chunks
        .map(|(slot, (_, len))| slot.into_inner().unwrap_or_else(|| vec![0; *len]))
        .collect())
}

/// The consumer's end of [`read_in_order`].
pub(crate) struct Source<'a> {
    files: std::slice::Iter<'a, File>,
    windows: Receiver<Result<Window>>,
    window: vec::IntoIter<Vec<u8>>,
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
        self.piece = match self.window.next() {
            Some(piece) => piece,
            None => {
                let window = self.windows.recv().map_err(|_| Error::Internal {
                    what: "the thread that reads chunks is gone".to_owned(),
                })?;
                self.window = window?.into_iter();
                self.window.next().ok_or_else(|| Error::Internal {
                    what: "a window without chunks".to_owned(),
                })?
            }
        };
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
