//! Reads a pack: its directory, one blob, or all of it as a check.

use super::frame::{self, BLOB_ROW_LEN, FRAME_HEADER_LEN};
use super::{Directory, FrameEntry, TRAILER_LEN, Trailer, check_header, short_hash};
use crate::error::{Error, Result};
use crate::id::{Id, PackName};
use crate::objects::Objects;

fn damaged(objects: &dyn Objects, pack: PackName, why: String) -> Error {
    Error::Damaged {
        what: format!("pack {pack}"),
        location: objects.location(),
        why,
    }
}

/// Reads the directory of a pack of `len` bytes.
///
/// # Errors
/// [`Error::Damaged`] when trailer or directory are not whole.
pub fn directory(objects: &dyn Objects, pack: PackName, len: u64) -> Result<Directory> {
    let bad = |why: String| damaged(objects, pack, why);
    let start = len
        .checked_sub(TRAILER_LEN as u64)
        .ok_or_else(|| bad("it is empty".into()))?;
    let bytes = objects.get_range(&pack.key(), start, TRAILER_LEN)?;
    let bytes: [u8; TRAILER_LEN] = bytes
        .try_into()
        .map_err(|_| bad("its trailer is cut short".into()))?;
    let trailer = Trailer::decode(&bytes, len).map_err(bad)?;
    let directory_len = usize::try_from(trailer.directory_len)
        .map_err(|_| bad("its directory is too large".into()))?;
    let bytes = objects.get_range(&pack.key(), trailer.directory_offset, directory_len)?;
    decode_directory(&trailer, &bytes).map_err(bad)
}

fn decode_directory(trailer: &Trailer, bytes: &[u8]) -> Result<Directory, String> {
    if short_hash::<12>(bytes) != trailer.directory_hash {
        return Err("its directory has another hash".into());
    }
    let directory = Directory::decode(bytes, trailer.directory_offset)?;
    if directory.frames.len() != trailer.frames as usize
        || directory.blobs() != trailer.blobs as usize
    {
        return Err("its directory has another number of blobs".into());
    }
    Ok(directory)
}

/// Checks a whole pack in memory: hashes, every frame, every blob's id; gives its directory.
///
/// # Errors
/// Says what is wrong.
pub fn check(bytes: &[u8]) -> Result<Directory, String> {
    check_header(bytes)?;
    let trailer: &[u8; TRAILER_LEN] = bytes.last_chunk().ok_or("it is shorter than its trailer")?;
    let trailer = Trailer::decode(trailer, bytes.len() as u64)?;
    let (content, rest) = bytes.split_at(trailer.directory_offset as usize);
    let directory = decode_directory(&trailer, &rest[..trailer.directory_len as usize])?;
    if short_hash::<16>(content) != trailer.content_hash {
        // Name the place where one can be named.
        for frame in &directory.frames {
            check_frame(content, frame)?;
        }
        return Err("its content has another hash".into());
    }
    for frame in &directory.frames {
        check_frame(content, frame)?;
    }
    Ok(directory)
}

/// Checks the bytes of a pack in a file against its hashes, in little memory: that it is what its
/// writer wrote. What that was, [`check`] tells.
///
/// # Errors
/// The outer: what reading gives. The inner says what is wrong.
pub fn check_file(file: &mut std::fs::File) -> std::io::Result<Result<(), String>> {
    use std::io::{Read, Seek, SeekFrom};
    let len = file.seek(SeekFrom::End(0))?;
    let Some(trailer_at) = len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(Err("it is shorter than its trailer".into()));
    };
    let mut bytes = [0; TRAILER_LEN];
    file.seek(SeekFrom::Start(trailer_at))?;
    file.read_exact(&mut bytes)?;
    let trailer = match Trailer::decode(&bytes, len) {
        Ok(trailer) => trailer,
        Err(why) => return Ok(Err(why)),
    };
    file.seek(SeekFrom::Start(0))?;
    let mut hash_of = |len: u64| -> std::io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file.by_ref().take(len))?;
        Ok(hasher.finalize())
    };
    let content = hash_of(trailer.directory_offset)?;
    let directory = hash_of(trailer.directory_len)?;
    if content.as_bytes()[..16] != trailer.content_hash {
        return Ok(Err("its content has another hash".into()));
    }
    if directory.as_bytes()[..12] != trailer.directory_hash {
        return Ok(Err("its directory has another hash".into()));
    }
    Ok(Ok(()))
}

fn check_frame(content: &[u8], entry: &FrameEntry) -> Result<(), String> {
    let at = |why: String| format!("the frame at offset {} {why}", entry.offset);
    let start = entry.offset as usize;
    let bytes = &content[start..start + entry.total_len() as usize];
    let header = frame::decode_header(bytes).map_err(at)?;
    let agrees = header.codec == entry.codec
        && header.plain_len == entry.plain_len
        && header.stored_len == entry.stored_len
        && usize::from(header.blobs) == entry.blobs.len();
    if !agrees {
        return Err(at("has a header that differs from the directory".into()));
    }
    if short_hash::<4>(&bytes[FRAME_HEADER_LEN..]) != header.check {
        return Err(at("has another check".into()));
    }
    let table_end = FRAME_HEADER_LEN + entry.blobs.len() * BLOB_ROW_LEN;
    let parts = frame::decode_parts(&header, &bytes[FRAME_HEADER_LEN..table_end]).map_err(at)?;
    let mut plain = Vec::new();
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?;
    frame::decode_payload(
        header.codec,
        &bytes[table_end..],
        header.plain_len,
        &mut decompressor,
        &mut plain,
    )
    .map_err(at)?;
    for (part, blob) in parts.iter().zip(&entry.blobs) {
        let bytes = &plain[blob.offset as usize..(blob.offset + blob.len) as usize];
        if part.kind != blob.kind || Id::of(blob.kind, bytes) != blob.id {
            return Err(at("decodes to other bytes than its name says".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;
    use crate::pack::PackWriter;
    use crate::pack::frame::Part;

    fn sample() -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        let mut pack = PackWriter::new(Vec::new()).unwrap();
        for n in 0..3u8 {
            let plain: Vec<u8> = (0..n + 1).flat_map(|i| vec![i + n; 100]).collect();
            let blobs: Vec<_> = plain
                .chunks(100)
                .map(|b| {
                    (
                        Id::of(Kind::Tree, b),
                        Part {
                            kind: Kind::Tree,
                            len: 100,
                        },
                    )
                })
                .collect();
            let parts: Vec<_> = blobs.iter().map(|b| b.1).collect();
            let frame = frame::encode(&parts, &plain, &mut compressor);
            pack.append(&frame, &blobs).unwrap();
        }
        let (bytes, sealed) = pack.seal().unwrap();
        assert_eq!(bytes.len() as u64, sealed.len);
        assert_eq!(check(&bytes).unwrap(), sealed.directory);
        bytes
    }

    #[test]
    fn a_pack_checks() {
        sample();
    }

    #[test]
    fn any_cut_and_any_flip_is_noticed() {
        let pack = sample();
        for len in 0..pack.len() {
            assert!(check(&pack[..len]).is_err(), "cut at {len}");
        }
        // The reserved bytes of header and directory carry no meaning of their own, but the
        // hashes cover them.
        let mut file = tempfile::tempfile().unwrap();
        let mut check_as_file = |bytes: &[u8]| {
            use std::io::{Seek, Write};
            file.rewind().unwrap();
            file.set_len(0).unwrap();
            file.write_all(bytes).unwrap();
            check_file(&mut file).unwrap()
        };
        check_as_file(&pack).unwrap();
        for at in 0..pack.len() {
            let mut bad = pack.clone();
            bad[at] ^= 0x10;
            assert!(check(&bad).is_err(), "flip at {at}");
            // The numbers of frames and blobs are told by the directory, which only `check` reads.
            let trailer = pack.len() - TRAILER_LEN;
            assert!(
                check_as_file(&bad).is_err() || (trailer + 16..trailer + 24).contains(&at),
                "flip at {at} of a file"
            );
        }
    }
}
