//! The directory of a pack: its frames, and the blobs in each.

use super::frame::{BLOB_ROW_LEN, Codec, FRAME_HEADER_LEN, PLAIN_MAX};
use crate::id::{ID_LEN, Id, Kind};

/// A blob as the directory knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobEntry {
    /// Hash of its plain bytes.
    pub id: Id,
    /// What it is.
    pub kind: Kind,
    /// Where it begins in the decoded payload of its frame.
    pub offset: u32,
    /// Its plain bytes.
    pub len: u32,
}

/// A frame as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Of the frame header in the pack.
    pub offset: u64,
    /// Bytes of the payload as it lies.
    pub stored_len: u32,
    /// Bytes of the payload when decoded.
    pub plain_len: u32,
    /// How the payload lies.
    pub codec: Codec,
    /// In the order of the payload.
    pub blobs: Vec<BlobEntry>,
}

impl FrameEntry {
    /// Where the payload begins in the pack.
    pub fn payload_offset(&self) -> u64 {
        self.offset + (FRAME_HEADER_LEN + self.blobs.len() * BLOB_ROW_LEN) as u64
    }

    /// Bytes of header, blob table and payload.
    pub fn total_len(&self) -> u64 {
        self.payload_offset() - self.offset + u64::from(self.stored_len)
    }
}

/// What lies where in one pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// In order of their offsets.
    pub frames: Vec<FrameEntry>,
}

const FRAME_ROW: usize = 20;
const BLOB_ROW: usize = ID_LEN + 8;

impl Directory {
    /// Number of blobs in all frames.
    pub fn blobs(&self) -> usize {
        self.frames.iter().map(|f| f.blobs.len()).sum()
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.len() * FRAME_ROW + self.blobs() * BLOB_ROW);
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.stored_len.to_le_bytes());
            out.extend_from_slice(&frame.plain_len.to_le_bytes());
            out.push(frame.codec as u8);
            out.push(0);
            out.extend_from_slice(&(frame.blobs.len() as u16).to_le_bytes());
            for blob in &frame.blobs {
                out.extend_from_slice(&blob.id.0);
                out.extend_from_slice(&[blob.kind as u8, 0, 0, 0]);
                out.extend_from_slice(&blob.len.to_le_bytes());
            }
        }
        out
    }

    /// The directory in these bytes, of a pack whose frames end at `end`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode(mut bytes: &[u8], end: u64) -> Result<Self, String> {
        let mut frames: Vec<FrameEntry> = Vec::new();
        let mut next = super::HEADER_LEN as u64;
        while !bytes.is_empty() {
            let row = take::<FRAME_ROW>(&mut bytes)?;
            let n = u16::from_le_bytes([row[18], row[19]]);
            let mut frame = FrameEntry {
                offset: u64::from_le_bytes(row[..8].try_into().expect("8 bytes")),
                stored_len: u32::from_le_bytes(row[8..12].try_into().expect("4 bytes")),
                plain_len: u32::from_le_bytes(row[12..16].try_into().expect("4 bytes")),
                codec: Codec::from_u8(row[16])
                    .ok_or_else(|| format!("its directory names the codec {}", row[16]))?,
                blobs: Vec::with_capacity(n.into()),
            };
            if row[17] != 0 || n == 0 || frame.plain_len > PLAIN_MAX || frame.offset != next {
                return Err("its directory has a frame that cannot be".into());
            }
            let mut offset = 0u32;
            for _ in 0..n {
                let row = take::<BLOB_ROW>(&mut bytes)?;
                let kind = Kind::from_u8(row[32])
                    .ok_or_else(|| format!("its directory has a blob of kind {}", row[32]))?;
                if row[33] != 0 {
                    return Err(format!("its directory has a blob of the form {}", row[33]));
                }
                let len = u32::from_le_bytes(row[36..40].try_into().expect("4 bytes"));
                let id = Id(row[..32].try_into().expect("32 bytes"));
                frame.blobs.push(BlobEntry {
                    id,
                    kind,
                    offset,
                    len,
                });
                offset = offset.checked_add(len).ok_or("its directory overflows")?;
            }
            if offset != frame.plain_len {
                return Err("its directory has blobs that do not fit their frame".into());
            }
            next = frame.offset + frame.total_len();
            frames.push(frame);
        }
        if next != end {
            return Err("its directory does not cover it".into());
        }
        Ok(Directory { frames })
    }
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N], String> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or("its directory is cut short")?;
    *bytes = rest;
    Ok(head)
}
