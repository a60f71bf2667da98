//! The directory of a pack: its frames, and the blobs in each.

use super::frame::{self, Codec, PLAIN_MAX, Part};
use crate::delta::Form;
use crate::id::{BASE_LEN, ID_LEN, Id, Kind};

/// A blob as the directory knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobEntry {
    /// Hash of its plain bytes.
    pub id: Id,
    /// What it is and how it lies.
    pub part: Part,
    /// Where its body begins in the decoded payload of its frame.
    pub offset: u32,
}

/// A frame as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Of the frame header in the pack.
    pub offset: u64,
    /// Where the payload begins in the pack.
    pub payload_offset: u64,
    /// Bytes of the payload as it lies.
    pub stored_len: u32,
    /// Bytes of the payload when decoded.
    pub plain_len: u32,
    /// How the payload lies.
    pub codec: Codec,
    /// Whether a blob table ends the payload.
    pub table: bool,
    /// In the order of the payload.
    pub blobs: Vec<BlobEntry>,
}

impl FrameEntry {
    /// Where the frame ends in the pack.
    pub fn end(&self) -> u64 {
        self.payload_offset + u64::from(self.stored_len)
    }
}

/// What lies where in one pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// In order of their offsets.
    pub frames: Vec<FrameEntry>,
}

/// Bytes of a frame over all columns, and of a blob without its base.
const FRAME_ROW: usize = 4 + 4 + 1 + 2;
const BLOB_ROW: usize = 1 + 4 + 4 + ID_LEN;
const DELTA_ROW: usize = 1 + BASE_LEN;
const TABLE: u8 = 0x80;
/// No directory decodes to more; a larger one is damage and must not allocate.
const PLAIN_BYTES_MAX: usize = 256 << 20;
// Nothing is written that would not be read: the last frame may still have as many as there can be.
const _: () = assert!(
    (super::PACK_BLOBS + u16::MAX as usize) * (FRAME_ROW + BLOB_ROW + DELTA_ROW) <= PLAIN_BYTES_MAX
);

impl Directory {
    /// Number of blobs in all frames.
    pub fn blobs(&self) -> usize {
        self.frames.iter().map(|f| f.blobs.len()).sum()
    }

    /// The stored bytes, before they are sealed: columns, so that all but ids compress to little.
    pub fn encode(&self) -> Vec<u8> {
        let frames = || self.frames.iter();
        let parts = || frames().flat_map(|f| &f.blobs).map(|b| b.part);
        let deltas = || parts().filter(|p| p.form != Form::Plain);
        let mut columns: Vec<u8> = Vec::new();
        columns.extend(frames().flat_map(|f| f.stored_len.to_le_bytes()));
        columns.extend(frames().flat_map(|f| f.plain_len.to_le_bytes()));
        columns.extend(frames().map(|f| f.codec as u8 | if f.table { TABLE } else { 0 }));
        columns.extend(frames().flat_map(|f| (f.blobs.len() as u16).to_le_bytes()));
        columns.extend(parts().map(|p| p.kind_and_form()));
        columns.extend(parts().flat_map(|p| p.len.to_le_bytes()));
        columns.extend(parts().flat_map(|p| p.body_len.to_le_bytes()));
        columns.extend(deltas().map(|p| p.depth));
        columns.extend(deltas().flat_map(|p| p.base));
        columns.extend(frames().flat_map(|f| &f.blobs).flat_map(|b| b.id.0));
        let mut out = Vec::with_capacity(1 + columns.len());
        match zstd::bulk::compress(&columns, super::DIRECTORY_LEVEL) {
            Ok(compressed) if compressed.len() < columns.len() => {
                out.push(Codec::Zstd as u8);
                out.extend_from_slice(&compressed);
            }
            _ => {
                out.push(Codec::Raw as u8);
                out.extend_from_slice(&columns);
            }
        }
        out
    }

    /// The directory in these bytes, of a pack with so many frames and blobs, which end at `end`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode(
        bytes: &[u8],
        frames: usize,
        blobs: usize,
        end: u64,
        sealed: bool,
    ) -> Result<Self, String> {
        let (&codec, body) = bytes.split_first().ok_or("its directory is empty")?;
        // A frame has a header, so numbers that are damage must not allocate.
        let most = usize::try_from(end).unwrap_or(usize::MAX) / frame::HEADER_LEN;
        let limit = frames
            .checked_mul(FRAME_ROW)
            .zip(blobs.checked_mul(BLOB_ROW + DELTA_ROW))
            .and_then(|(a, b)| a.checked_add(b))
            .filter(|limit| frames <= most && *limit <= PLAIN_BYTES_MAX)
            .ok_or("its directory is too large")?;
        let columns = match Codec::from_u8(codec) {
            Some(Codec::Raw) => body.to_vec(),
            Some(Codec::Zstd) => zstd::bulk::decompress(body, limit)
                .map_err(|e| format!("its directory does not decompress: {e}"))?,
            None => return Err(format!("its directory has the codec {codec}")),
        };
        let mut rest = &columns[..];
        let stored_lens = take(&mut rest, 4 * frames)?.as_chunks::<4>().0;
        let plain_lens = take(&mut rest, 4 * frames)?.as_chunks::<4>().0;
        let codecs = take(&mut rest, frames)?;
        let numbers = take(&mut rest, 2 * frames)?.as_chunks::<2>().0;
        let kinds = take(&mut rest, blobs)?;
        let lens = take(&mut rest, 4 * blobs)?;
        let body_lens = take(&mut rest, 4 * blobs)?;
        let deltas = frame::deltas_of(kinds);
        let depths = take(&mut rest, deltas)?;
        let bases = take(&mut rest, BASE_LEN * deltas)?;
        let ids = take(&mut rest, ID_LEN * blobs)?.as_chunks::<ID_LEN>().0;
        if !rest.is_empty() {
            return Err("its directory has bytes after its end".into());
        }
        let parts = frame::decode_parts(kinds, lens, body_lens, depths, bases)
            .map_err(|why| format!("its directory {why}"))?;
        let mut all = parts.into_iter().zip(ids);
        let mut offset = super::HEADER_LEN as u64;
        let mut found = Vec::with_capacity(frames);
        for i in 0..frames {
            let codec = Codec::from_u8(codecs[i] & !TABLE)
                .ok_or_else(|| format!("its directory names the codec {}", codecs[i]))?;
            let number = usize::from(u16::from_le_bytes(numbers[i]));
            let mut body = 0u64;
            let blobs: Vec<BlobEntry> = all
                .by_ref()
                .take(number)
                .map(|(part, id)| {
                    let offset = body as u32;
                    body += u64::from(part.body_len);
                    let id = Id(*id);
                    BlobEntry { id, part, offset }
                })
                .collect();
            let entry = FrameEntry {
                offset,
                payload_offset: offset + frame::payload_at(sealed) as u64,
                stored_len: u32::from_le_bytes(stored_lens[i]),
                plain_len: u32::from_le_bytes(plain_lens[i]),
                codec,
                table: codecs[i] & TABLE != 0,
                blobs,
            };
            if number == 0 || entry.blobs.len() != number || entry.plain_len > PLAIN_MAX {
                return Err("its directory has a frame that cannot be".into());
            }
            let table = if entry.table {
                frame::table_len(entry.blobs.iter().map(|b| b.part.form))
            } else {
                0
            };
            if body + table as u64 != u64::from(entry.plain_len) {
                return Err("its directory has blobs that do not fit their frame".into());
            }
            offset = entry.end();
            found.push(entry);
        }
        if offset != end || all.next().is_some() {
            return Err("its directory does not cover it".into());
        }
        Ok(Directory { frames: found })
    }

    /// The directory in these bytes of a pack of version 1, whose frames end at `end`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode_v1(mut bytes: &[u8], end: u64) -> Result<Self, String> {
        const FRAME_ROW: usize = 20;
        const BLOB_ROW: usize = ID_LEN + 8;
        const FRAME_HEADER_LEN: u64 = 20;
        const TABLE_ROW: u64 = 8;
        let mut frames: Vec<FrameEntry> = Vec::new();
        let mut next = super::HEADER_LEN as u64;
        while !bytes.is_empty() {
            let row = take_row::<FRAME_ROW>(&mut bytes)?;
            let n = u16::from_le_bytes([row[18], row[19]]);
            let offset = u64::from_le_bytes(row[..8].try_into().expect("8 bytes"));
            if row[17] != 0 || n == 0 || offset != next {
                return Err("its directory has a frame that cannot be".into());
            }
            let mut frame = FrameEntry {
                offset,
                payload_offset: offset + FRAME_HEADER_LEN + u64::from(n) * TABLE_ROW,
                stored_len: u32::from_le_bytes(row[8..12].try_into().expect("4 bytes")),
                plain_len: u32::from_le_bytes(row[12..16].try_into().expect("4 bytes")),
                codec: Codec::from_u8(row[16])
                    .ok_or_else(|| format!("its directory names the codec {}", row[16]))?,
                table: false,
                blobs: Vec::new(),
            };
            let mut offset = 0u32;
            for _ in 0..n {
                let row = take_row::<BLOB_ROW>(&mut bytes)?;
                let kind = Kind::from_u8(row[32])
                    .ok_or_else(|| format!("its directory has a blob of kind {}", row[32]))?;
                if row[33] != 0 {
                    return Err(format!("its directory has a blob of the form {}", row[33]));
                }
                let len = u32::from_le_bytes(row[36..40].try_into().expect("4 bytes"));
                let id = Id(row[..32].try_into().expect("32 bytes"));
                let part = Part::plain(kind, len as usize);
                frame.blobs.push(BlobEntry { id, part, offset });
                offset = offset.checked_add(len).ok_or("its directory overflows")?;
            }
            if offset != frame.plain_len || frame.plain_len > PLAIN_MAX {
                return Err("its directory has blobs that do not fit their frame".into());
            }
            next = frame.end();
            frames.push(frame);
        }
        if next != end {
            return Err("its directory does not cover it".into());
        }
        Ok(Directory { frames })
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], String> {
    let (head, rest) = bytes
        .split_at_checked(len)
        .ok_or("its directory is cut short")?;
    *bytes = rest;
    Ok(head)
}

fn take_row<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N], String> {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or("its directory is cut short")?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;

    fn sample() -> Directory {
        let delta = |form, n: u8, body_len| Part {
            form,
            len: 0x2000,
            depth: n,
            base: [0xb0 + n; BASE_LEN],
            ..Part::plain(Kind::Chunk, body_len)
        };
        let blob = |n: u8, offset, part| BlobEntry {
            id: Id([n; ID_LEN]),
            part,
            offset,
        };
        let alone = FrameEntry {
            offset: 16,
            payload_offset: 36,
            stored_len: 0x1111,
            plain_len: 0x2000,
            codec: Codec::Zstd,
            table: false,
            blobs: vec![blob(1, 0, Part::plain(Kind::Chunk, 0x2000))],
        };
        let shared = FrameEntry {
            offset: alone.end(),
            payload_offset: alone.end() + 20,
            stored_len: 54,
            plain_len: 54,
            codec: Codec::Raw,
            table: true,
            blobs: vec![
                blob(2, 0, delta(Form::Patch, 1, 3)),
                blob(3, 3, delta(Form::Prefix, 9, 2)),
                blob(4, 5, Part::plain(Kind::Extents, 4)),
            ],
        };
        Directory {
            frames: vec![alone, shared],
        }
    }

    #[test]
    fn golden() {
        let directory = sample();
        let end = directory.frames[1].end();
        let encoded = directory.encode();
        assert_eq!(encoded[0], Codec::Zstd as u8);
        // What zstd makes of the columns may change.
        let columns = zstd::bulk::decompress(&encoded[1..], 1000).unwrap();
        insta::assert_snapshot!(hex(&columns), @"111100003600000000200000360000000180010003000111210200200000002000000020000004000000002000000300000002000000040000000109b1b1b1b1b1b1b1b1b9b9b9b9b9b9b9b90101010101010101010101010101010101010101010101010101010101010101020202020202020202020202020202020202020202020202020202020202020203030303030303030303030303030303030303030303030303030303030303030404040404040404040404040404040404040404040404040404040404040404");
        let raw = [&[Codec::Raw as u8][..], &columns].concat();
        for bytes in [encoded, raw] {
            let decoded = Directory::decode(&bytes, 2, 4, end, false);
            assert_eq!(decoded.as_ref(), Ok(&directory));
        }
    }
}
