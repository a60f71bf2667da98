//! Writes one pack front to back into a file.

use super::directory::{BlobEntry, Directory, FrameEntry};
use super::frame::{self, Frame};
use super::{HEADER_LEN, TRAILER_LEN, Trailer, VERSION, header, short_hash};
use crate::id::{Id, PackName};
use crate::seal::{Origin, Seal};
use std::io::{self, BufWriter, Write};

/// A pack being written.
#[derive(Debug)]
pub struct PackWriter<W: Write> {
    out: BufWriter<W>,
    hasher: blake3::Hasher,
    position: u64,
    blobs: usize,
    directory: Directory,
    /// Key, session and number: what with the frame's number makes the nonce.
    seal: Option<(Seal, PackName)>,
}

/// A finished pack: what the index and the root must know of it.
#[derive(Debug)]
pub struct FinishedPack {
    /// All its bytes.
    pub len: u64,
    /// What lies where.
    pub directory: Directory,
}

impl<W: Write> PackWriter<W> {
    /// Begins the pack `name` in `out`. With a seal no other pack of that name may ever be begun.
    ///
    /// # Errors
    /// What writing gives.
    pub fn new(out: W, name: PackName, seal: Option<Seal>) -> io::Result<Self> {
        let sealed = seal.is_some();
        let mut writer = PackWriter {
            out: BufWriter::with_capacity(256 << 10, out),
            hasher: blake3::Hasher::new(),
            position: 0,
            blobs: 0,
            directory: Directory::default(),
            seal: seal.map(|seal| (seal, name)),
        };
        writer.write(&header(sealed))?;
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

    /// Blobs written so far.
    pub fn blobs(&self) -> usize {
        self.blobs
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.position == HEADER_LEN as u64
    }

    /// Appends a frame whose blobs have these ids, and says where it lies.
    ///
    /// # Errors
    /// What writing gives.
    ///
    /// # Panics
    /// When there are not as many ids as blobs.
    pub fn append(&mut self, frame: Frame, ids: &[Id]) -> io::Result<&FrameEntry> {
        assert_eq!(frame.parts.len(), ids.len(), "every blob has an id");
        self.blobs += frame.parts.len();
        let mut offset = 0;
        let blobs = frame.parts.iter().zip(ids).map(|(part, id)| {
            let entry = BlobEntry {
                id: *id,
                part: *part,
                offset,
            };
            offset += part.body_len;
            entry
        });
        let mut entry = FrameEntry {
            offset: self.position,
            payload_offset: self.position + frame::payload_at(self.seal.is_some()) as u64,
            stored_len: 0,
            plain_len: frame.plain_len,
            codec: frame.codec,
            table: frame.table,
            blobs: blobs.collect(),
        };
        let seal = self.seal.as_ref().map(|(seal, name)| {
            let origin = Origin {
                session: name.session,
                pack: name.number,
                frame: self.directory.frames.len() as u32,
            };
            (seal, origin)
        });
        let bytes = frame.finish(seal);
        self.write(&bytes)?;
        entry.stored_len = (self.position - entry.payload_offset) as u32;
        self.directory.frames.push(entry);
        Ok(self.directory.frames.last().expect("just pushed"))
    }

    /// Appends a frame of another pack as it lies there; `bytes` are all of it.
    ///
    /// # Errors
    /// What writing gives.
    pub fn append_verbatim(&mut self, entry: &FrameEntry, bytes: &[u8]) -> io::Result<()> {
        let moved = FrameEntry {
            offset: self.position,
            payload_offset: self.position + (entry.payload_offset - entry.offset),
            ..entry.clone()
        };
        self.write(bytes)?;
        self.blobs += moved.blobs.len();
        self.directory.frames.push(moved);
        Ok(())
    }

    /// Writes directory and trailer, and gives back what it wrote into, flushed but not synced.
    ///
    /// # Errors
    /// What writing gives.
    pub fn finish(mut self) -> io::Result<(W, FinishedPack)> {
        let content_hash: [u8; 16] = *self
            .hasher
            .finalize()
            .as_bytes()
            .first_chunk()
            .expect("16 of 32");
        let mut bytes = self.directory.encode();
        if let Some((seal, _)) = &self.seal {
            bytes = seal.seal_object(&super::directory_name(&content_hash), &bytes);
        }
        let trailer = Trailer {
            version: VERSION,
            sealed: self.seal.is_some(),
            directory_offset: self.position,
            directory_len: bytes.len() as u64,
            frames: self.directory.frames.len() as u32,
            blobs: self.directory.blobs() as u32,
            content_hash,
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
            FinishedPack {
                len,
                directory: self.directory,
            },
        ))
    }
}
