//! Writes one pack front to back into a file.

use super::directory::{BlobEntry, Directory, FrameEntry};
use super::frame::{Frame, Part};
use super::{HEADER_LEN, TRAILER_LEN, Trailer, header, short_hash};
use crate::id::Id;
use std::io::{self, BufWriter, Write};

/// A pack being written.
#[derive(Debug)]
pub struct PackWriter<W: Write> {
    out: BufWriter<W>,
    hasher: blake3::Hasher,
    position: u64,
    directory: Directory,
}

/// A finished pack: what the index and the root must know of it.
#[derive(Debug)]
pub struct SealedPack {
    /// All its bytes.
    pub len: u64,
    /// What lies where.
    pub directory: Directory,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack in `out`.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = PackWriter {
            out: BufWriter::with_capacity(256 << 10, out),
            hasher: blake3::Hasher::new(),
            position: 0,
            directory: Directory::default(),
        };
        writer.write(&header())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.position == HEADER_LEN as u64
    }

    /// Appends a frame whose blobs have these ids, and says where it lies.
    ///
    /// # Errors
    /// What writing gives.
    pub fn append(&mut self, frame: &Frame, blobs: &[(Id, Part)]) -> io::Result<&FrameEntry> {
        let mut offset = 0;
        let entries = blobs
            .iter()
            .map(|(id, part)| {
                let entry = BlobEntry {
                    id: *id,
                    kind: part.kind,
                    offset,
                    len: part.len,
                };
                offset += part.len;
                entry
            })
            .collect();
        self.directory.frames.push(FrameEntry {
            offset: self.position,
            stored_len: frame.stored_len(blobs.len()),
            plain_len: frame.plain_len,
            codec: frame.codec,
            blobs: entries,
        });
        self.write(&frame.bytes)?;
        Ok(self.directory.frames.last().expect("just pushed"))
    }

    /// Writes directory and trailer, and gives back what it wrote into, flushed but not synced.
    ///
    /// # Errors
    /// What writing gives.
    pub fn seal(mut self) -> io::Result<(W, SealedPack)> {
        let content = self.hasher.finalize();
        let bytes = self.directory.encode();
        let trailer = Trailer {
            directory_offset: self.position,
            directory_len: bytes.len() as u64,
            frames: self.directory.frames.len() as u32,
            blobs: self.directory.blobs() as u32,
            content_hash: content.as_bytes()[..16].try_into().expect("16 of 32"),
            directory_hash: short_hash(&bytes),
        };
        self.out.write_all(&bytes)?;
        self.out.write_all(&trailer.encode())?;
        let len = self.position + bytes.len() as u64 + TRAILER_LEN as u64;
        let out = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok((
            out,
            SealedPack {
                len,
                directory: self.directory,
            },
        ))
    }
}
