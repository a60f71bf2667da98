//! One frame: blobs that are compressed as one. Pure; both directions side by side.

use super::short_hash;
use crate::id::Kind;

/// How the payload of a frame lies. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is: compression gained nothing.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The codec with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Bytes of a frame before its blob table.
pub const FRAME_HEADER_LEN: usize = 20;
/// Bytes of one row of the blob table.
pub const BLOB_ROW_LEN: usize = 8;
/// No frame decodes to more; a larger length is damage and must not allocate.
pub const PLAIN_MAX: u32 = 64 << 20;
const MAGIC: &[u8; 4] = b"ZFRM";

/// A blob of a frame: its kind and its length when decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Plain bytes.
    pub len: u32,
}

/// An encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How the payload lies.
    pub codec: Codec,
    /// Bytes of the decoded payload.
    pub plain_len: u32,
    /// Header, blob table and payload.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Bytes of the payload as it lies.
    pub fn stored_len(&self, parts: usize) -> u32 {
        (self.bytes.len() - FRAME_HEADER_LEN - parts * BLOB_ROW_LEN) as u32
    }
}

/// Encodes `plain`, the concatenated blobs of `parts`.
///
/// # Panics
/// When `parts` do not add up to `plain`, or there are none or too many.
pub fn encode(parts: &[Part], plain: &[u8], compressor: &mut zstd::bulk::Compressor<'_>) -> Frame {
    let total: usize = parts.iter().map(|p| p.len as usize).sum();
    assert_eq!(
        total,
        plain.len(),
        "the blobs of a frame make up its payload"
    );
    assert!(!parts.is_empty() && parts.len() <= usize::from(u16::MAX));
    let table_end = FRAME_HEADER_LEN + parts.len() * BLOB_ROW_LEN;

    let mut bytes = vec![0; table_end];
    bytes.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    for (row, part) in bytes[FRAME_HEADER_LEN..]
        .chunks_exact_mut(BLOB_ROW_LEN)
        .zip(parts)
    {
        row[0] = part.kind as u8;
        row[4..8].copy_from_slice(&part.len.to_le_bytes());
    }
    let compressed = compressor.compress(plain);
    // What compression does not shrink by a sixteenth is not worth decoding.
    let codec = match compressed {
        Ok(payload) if payload.len() + plain.len() / 16 < plain.len() => {
            bytes.extend_from_slice(&payload);
            Codec::Zstd
        }
        _ => {
            bytes.extend_from_slice(plain);
            Codec::Raw
        }
    };
    let stored_len = (bytes.len() - table_end) as u32;
    let check: [u8; 4] = short_hash(&bytes[FRAME_HEADER_LEN..]);
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = codec as u8;
    bytes[6..8].copy_from_slice(&(parts.len() as u16).to_le_bytes());
    bytes[8..12].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&stored_len.to_le_bytes());
    bytes[16..20].copy_from_slice(&check);
    Frame {
        codec,
        plain_len: plain.len() as u32,
        bytes,
    }
}

/// What the header and blob table of a frame say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload lies.
    pub codec: Codec,
    /// Bytes when decoded.
    pub plain_len: u32,
    /// Bytes as it lies.
    pub stored_len: u32,
    /// Guards blob table and payload.
    pub check: [u8; 4],
    /// Number of blobs.
    pub blobs: u16,
}

/// Decodes the first [`FRAME_HEADER_LEN`] bytes of a frame.
///
/// # Errors
/// Says what is wrong.
pub fn decode_header(bytes: &[u8]) -> Result<FrameHeader, String> {
    let head: &[u8; FRAME_HEADER_LEN] = bytes
        .get(..FRAME_HEADER_LEN)
        .and_then(|b| b.try_into().ok())
        .ok_or("is shorter than a frame header")?;
    if &head[..4] != MAGIC {
        return Err("is not a frame".into());
    }
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let header = FrameHeader {
        codec: Codec::from_u8(head[4]).ok_or_else(|| format!("has the codec {}", head[4]))?,
        plain_len: u32_at(8),
        stored_len: u32_at(12),
        check: head[16..20].try_into().expect("4 bytes"),
        blobs: u16::from_le_bytes([head[6], head[7]]),
    };
    if head[5] != 0 {
        return Err(format!("has flags {:#x} that are not known", head[5]));
    }
    if header.blobs == 0 || header.plain_len > PLAIN_MAX || header.stored_len > PLAIN_MAX {
        return Err("has lengths out of range".into());
    }
    Ok(header)
}

/// Decodes the blob table that follows the header.
///
/// # Errors
/// Says what is wrong.
pub fn decode_parts(header: &FrameHeader, table: &[u8]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::with_capacity(header.blobs.into());
    let mut total = 0u64;
    for row in table.chunks_exact(BLOB_ROW_LEN).take(header.blobs.into()) {
        let kind = Kind::from_u8(row[0]).ok_or_else(|| format!("has a blob of kind {}", row[0]))?;
        if row[1] != 0 {
            return Err(format!("has a blob of the unknown form {}", row[1]));
        }
        let len = u32::from_le_bytes(row[4..8].try_into().expect("4 bytes"));
        total += u64::from(len);
        parts.push(Part { kind, len });
    }
    if parts.len() != usize::from(header.blobs) || total != u64::from(header.plain_len) {
        return Err("has a blob table that does not fit its payload".into());
    }
    Ok(parts)
}

/// Decodes a payload into `plain`, which is cleared first.
///
/// # Errors
/// Says what is wrong.
pub fn decode_payload(
    codec: Codec,
    payload: &[u8],
    plain_len: u32,
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    plain: &mut Vec<u8>,
) -> Result<(), String> {
    plain.clear();
    if plain_len > PLAIN_MAX {
        return Err("has lengths out of range".into());
    }
    match codec {
        Codec::Raw => plain.extend_from_slice(payload),
        Codec::Zstd => {
            plain.reserve(plain_len as usize);
            decompressor
                .decompress_to_buffer(payload, plain)
                .map_err(|e| format!("does not decompress: {e}"))?;
        }
    }
    if plain.len() != plain_len as usize {
        return Err(format!(
            "decodes to {} bytes, {plain_len} expected",
            plain.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(frame: &[u8]) -> Result<(Vec<Part>, Vec<u8>), String> {
        let header = decode_header(frame)?;
        let rest = &frame[FRAME_HEADER_LEN..];
        if short_hash::<4>(rest) != header.check {
            return Err("check".into());
        }
        let (table, payload) = rest
            .split_at_checked(usize::from(header.blobs) * BLOB_ROW_LEN)
            .ok_or("short")?;
        if payload.len() != header.stored_len as usize {
            return Err("stored_len".into());
        }
        let parts = decode_parts(&header, table)?;
        let mut plain = Vec::new();
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        decode_payload(
            header.codec,
            payload,
            header.plain_len,
            &mut decompressor,
            &mut plain,
        )?;
        Ok((parts, plain))
    }

    proptest! {
        #[test]
        fn any_blobs_come_back(blobs in prop::collection::vec(
            (1u8..=5, prop::collection::vec(0u8..4, 0..3000)), 1..20)
        ) {
            let parts: Vec<_> = blobs.iter().map(|(kind, bytes)| Part {
                kind: Kind::from_u8(*kind).unwrap(), len: bytes.len() as u32 }).collect();
            let plain: Vec<u8> = blobs.iter().flat_map(|(_, b)| b.clone()).collect();
            let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
            let frame = encode(&parts, &plain, &mut compressor);
            prop_assert_eq!(back(&frame.bytes), Ok((parts, plain)));
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..200, bit in 0u8..8) {
            let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
            let plain: Vec<u8> = (0..150u8).collect();
            let parts = [Part { kind: Kind::Chunk, len: 100 }, Part { kind: Kind::Tree, len: 50 }];
            let mut frame = encode(&parts, &plain, &mut compressor).bytes;
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            prop_assert!(back(&frame).is_err());
        }
    }

    #[test]
    fn what_does_not_shrink_stays_raw() {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        let noise: Vec<u8> = (0..2000u32)
            .flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..4].to_vec())
            .collect();
        let part = [Part {
            kind: Kind::Chunk,
            len: noise.len() as u32,
        }];
        assert_eq!(encode(&part, &noise, &mut compressor).codec, Codec::Raw);
        let part = [Part {
            kind: Kind::Chunk,
            len: 8000,
        }];
        assert_eq!(
            encode(&part, &[7; 8000], &mut compressor).codec,
            Codec::Zstd
        );
    }
}
