//! A pack: an immutable object of frames, its directory at the end.
//!
//! `frame` holds the codec of one frame, `directory` what lies where, `writer` writes a pack front
//! to back, `reader` reads it. Bytes: docs/format.md.

pub mod directory;
pub mod frame;
pub mod reader;
pub(crate) mod salvage;
pub mod writer;

pub use directory::{BlobEntry, Directory, FrameEntry};
pub use frame::{Codec, Frame, Part};
pub use writer::{FinishedPack, PackWriter};

/// A pack is finished when it reaches this many bytes.
pub const PACK_BYTES: u64 = 64 << 20;
/// So is one with this many blobs: small deltas make a directory of many entries, which is in
/// memory until the pack is indexed.
pub const PACK_BLOBS: usize = 128 << 10;
/// A chunk of at least this many bytes that is stored plain has a frame of its own.
pub const ALONE_BYTES: usize = 32 << 10;
/// Shared frames hold at most this many bytes of bodies, or one larger body.
pub const SHARED_BYTES: usize = 64 << 10;

const HEADER_MAGIC: &[u8; 8] = b"ZENPACK1";
const TRAILER_MAGIC: &[u8; 8] = b"ZENPEND1";
/// What is written; version 1 is read for ever.
const VERSION: u16 = 2;
const SEALED: u16 = 1;
/// zstd level of directories: ids do not compress, and the rest does so easily.
const DIRECTORY_LEVEL: i32 = 1;
/// Bytes of the header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the trailer.
pub const TRAILER_LEN: usize = 64;

/// The first bytes of every pack.
pub fn header(sealed: bool) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    out[..8].copy_from_slice(HEADER_MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[10..12].copy_from_slice(&flags_of(sealed).to_le_bytes());
    out
}

fn flags_of(sealed: bool) -> u16 {
    if sealed { SEALED } else { 0 }
}

/// Checks the first bytes of a pack whose trailer is this.
///
/// # Errors
/// Says what is there instead.
pub fn check_header(bytes: &[u8], trailer: &Trailer) -> Result<(), String> {
    let head = bytes
        .get(..HEADER_LEN)
        .ok_or("it is shorter than its header")?;
    if &head[..8] != HEADER_MAGIC {
        return Err("it does not begin like a pack".into());
    }
    let version = u16::from_le_bytes([head[8], head[9]]);
    let flags = u16::from_le_bytes([head[10], head[11]]);
    if version != trailer.version || flags != flags_of(trailer.sealed) {
        return Err(format!(
            "it begins as version {version} with flags {flags:#x} and ends otherwise"
        ));
    }
    Ok(())
}

/// The last bytes of every pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Of the pack: 1 or 2.
    pub version: u16,
    /// Whether frames and directory are sealed.
    pub sealed: bool,
    /// Where the directory begins.
    pub directory_offset: u64,
    /// Its bytes.
    pub directory_len: u64,
    /// Frames in the pack.
    pub frames: u32,
    /// Blobs in the pack.
    pub blobs: u32,
    /// First bytes of BLAKE3 of everything before the directory.
    pub content_hash: [u8; 16],
    /// First bytes of BLAKE3 of the directory.
    pub directory_hash: [u8; 12],
}

impl Trailer {
    /// The stored bytes.
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut out = Vec::with_capacity(TRAILER_LEN);
        out.extend_from_slice(&self.directory_offset.to_le_bytes());
        out.extend_from_slice(&self.directory_len.to_le_bytes());
        out.extend_from_slice(&self.frames.to_le_bytes());
        out.extend_from_slice(&self.blobs.to_le_bytes());
        out.extend_from_slice(&self.content_hash);
        out.extend_from_slice(&self.directory_hash);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&flags_of(self.sealed).to_le_bytes());
        out.extend_from_slice(TRAILER_MAGIC);
        out.try_into().expect("the fields have 64 bytes")
    }

    /// The trailer in these bytes of a pack of `pack_len` bytes.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode(bytes: &[u8; TRAILER_LEN], pack_len: u64) -> Result<Self, String> {
        if &bytes[56..] != TRAILER_MAGIC {
            return Err("it does not end like a pack; it may be cut short".into());
        }
        let version = u16::from_le_bytes([bytes[52], bytes[53]]);
        let flags = u16::from_le_bytes([bytes[54], bytes[55]]);
        let known = if version == 1 { 0 } else { SEALED };
        if !(1..=VERSION).contains(&version) || flags & !known != 0 {
            return Err(format!(
                "pack version {version} with flags {flags:#x} is not known; a newer zenith may be"
            ));
        }
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4"));
        let trailer = Trailer {
            version,
            sealed: flags & SEALED != 0,
            directory_offset: u64_at(0),
            directory_len: u64_at(8),
            frames: u32_at(16),
            blobs: u32_at(20),
            content_hash: bytes[24..40].try_into().expect("16"),
            directory_hash: bytes[40..52].try_into().expect("12"),
        };
        let end = trailer.directory_offset.checked_add(trailer.directory_len);
        if end.and_then(|end| end.checked_add(TRAILER_LEN as u64)) != Some(pack_len)
            || trailer.directory_offset < HEADER_LEN as u64
        {
            return Err("its directory does not end where the trailer begins".into());
        }
        Ok(trailer)
    }
}

/// Begins of BLAKE3 that guard parts of a pack.
fn short_hash<const N: usize>(bytes: &[u8]) -> [u8; N] {
    blake3::hash(bytes).as_bytes()[..N]
        .try_into()
        .expect("N is at most 32")
}

/// What the seal of a directory is bound to: the content of its pack.
fn directory_name(content_hash: &[u8; 16]) -> String {
    format!("directory {}", crate::id::hex(content_hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    #[test]
    fn golden() {
        insta::assert_snapshot!(hex(&header(false)), @"5a454e5041434b310200000000000000");
        insta::assert_snapshot!(hex(&header(true)), @"5a454e5041434b310200010000000000");
        let trailer = Trailer {
            version: VERSION,
            sealed: true,
            directory_offset: 0x1234,
            directory_len: 0x56,
            frames: 7,
            blobs: 8,
            content_hash: [9; 16],
            directory_hash: [10; 12],
        };
        let bytes = trailer.encode();
        insta::assert_snapshot!(hex(&bytes), @"341200000000000056000000000000000700000008000000090909090909090909090909090909090a0a0a0a0a0a0a0a0a0a0a0a020001005a454e50454e4431");
        let len = 0x1234 + 0x56 + TRAILER_LEN as u64;
        assert_eq!(Trailer::decode(&bytes, len), Ok(trailer));
    }
}
