//! Reads a pack: its directory, one blob, or all of it as a check.

use super::{
    BlobEntry, Directory, FrameEntry, TRAILER_LEN, Trailer, check_header, frame, short_hash,
};
use crate::delta::Form;
use crate::error::{Error, Result};
use crate::id::{Ids, PackName};
use crate::objects::Objects;
use crate::seal::Seal;

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
/// [`Error::Damaged`] when trailer or directory are not whole, or not sealed with this key.
pub fn directory(
    objects: &dyn Objects,
    pack: PackName,
    len: u64,
    seal: Option<&Seal>,
) -> Result<Directory> {
    open(objects, pack, len, seal).map(|(_, directory)| directory)
}

/// Reads trailer and directory of a pack of `len` bytes.
///
/// # Errors
/// Those of [`directory`].
pub fn open(
    objects: &dyn Objects,
    pack: PackName,
    len: u64,
    seal: Option<&Seal>,
) -> Result<(Trailer, Directory)> {
    let bad = |why: String| damaged(objects, pack, why);
    let (trailer, bytes) = open_raw(objects, pack, len)?;
    let directory = decode_directory(&trailer, &bytes, seal).map_err(bad)?;
    Ok((trailer, directory))
}

/// Reads trailer and directory of a pack of `len` bytes, the latter as it lies and not checked.
///
/// # Errors
/// [`Error::Damaged`] when there is no such trailer.
pub(crate) fn open_raw(
    objects: &dyn Objects,
    pack: PackName,
    len: u64,
) -> Result<(Trailer, Vec<u8>)> {
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
    Ok((trailer, bytes))
}

pub(crate) fn decode_directory(
    trailer: &Trailer,
    bytes: &[u8],
    seal: Option<&Seal>,
) -> Result<Directory, String> {
    if short_hash::<12>(bytes) != trailer.directory_hash {
        return Err("its directory has another hash".into());
    }
    let (frames, blobs) = (trailer.frames as usize, trailer.blobs as usize);
    let end = trailer.directory_offset;
    let opened;
    let bytes = match seal {
        Some(seal) if trailer.sealed => {
            let name = super::directory_name(&trailer.content_hash);
            opened = seal
                .open_object(&name, bytes)
                .map_err(|e| format!("its directory {e}"))?;
            &opened[..]
        }
        Some(_) => return Err("it is not sealed, in a repository that is".into()),
        None if trailer.sealed => return Err("it is sealed, in a repository that is not".into()),
        None => bytes,
    };
    let directory = match trailer.version {
        1 => Directory::decode_v1(bytes, end)?,
        _ => Directory::decode(bytes, frames, blobs, end, trailer.sealed)?,
    };
    if directory.frames.len() != frames || directory.blobs() != blobs {
        return Err("its directory has another number of blobs".into());
    }
    Ok(directory)
}

/// Checks a whole pack in memory: hashes, every frame, the id of every blob that needs no other.
/// Whether deltas are what their names say only their bases tell.
///
/// # Errors
/// Says what is wrong.
pub fn check(bytes: &[u8], ids: &Ids, seal: Option<&Seal>) -> Result<Directory, String> {
    let trailer: &[u8; TRAILER_LEN] = bytes.last_chunk().ok_or("it is shorter than its trailer")?;
    let trailer = Trailer::decode(trailer, bytes.len() as u64)?;
    check_header(bytes, &trailer)?;
    let (content, rest) = bytes.split_at(trailer.directory_offset as usize);
    let directory = decode_directory(&trailer, &rest[..trailer.directory_len as usize], seal)?;
    for entry in &directory.frames {
        let bytes = &content[entry.offset as usize..entry.end() as usize];
        check_frame(bytes, entry, trailer.version, ids, seal)?;
    }
    // Last, since the frames name the place.
    if short_hash::<16>(content) != trailer.content_hash {
        return Err("its content has another hash".into());
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

/// Checks the bytes of one frame: that they are what the directory says, and the id of every blob
/// that needs no other.
pub(crate) fn check_frame(
    bytes: &[u8],
    entry: &FrameEntry,
    version: u16,
    ids: &Ids,
    seal: Option<&Seal>,
) -> Result<(), String> {
    let at = |why: String| format!("the frame at offset {} {why}", entry.offset);
    let opened;
    // A frame of version 1 has another header, which says nothing that the directory does not.
    let (header, payload) = if version == 1 {
        let payload_at = (entry.payload_offset - entry.offset) as usize;
        (None, &bytes[payload_at..])
    } else {
        let header = frame::FrameHeader::decode(bytes).map_err(at)?;
        let agrees = header.codec == entry.codec
            && header.has_table() == entry.table
            && header.plain_len == entry.plain_len
            && header.stored_len == entry.stored_len
            && usize::from(header.blobs) == entry.blobs.len();
        if !agrees {
            return Err(at("has a header that differs from the directory".into()));
        }
        if !frame::check_holds(&header, &bytes[frame::HEADER_LEN..]) {
            return Err(at("has another check".into()));
        }
        opened = frame::open(bytes, seal).map_err(at)?.1;
        (Some(header), &opened[..])
    };
    let mut plain = Vec::new();
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?;
    frame::decode_payload(
        entry.codec,
        payload,
        entry.plain_len,
        &mut decompressor,
        &mut plain,
    )
    .map_err(at)?;
    if let Some(header) = header {
        let parts = header.parts(&plain).map_err(at)?;
        if !parts.iter().eq(entry.blobs.iter().map(|b| &b.part)) {
            return Err(at("has a blob table that differs from the directory".into()));
        }
    }
    let whole = |blob: &&BlobEntry| blob.part.form == Form::Plain;
    for blob in entry.blobs.iter().filter(whole) {
        let bytes = &plain[blob.offset as usize..][..blob.part.body_len as usize];
        if ids.of(blob.part.kind, bytes) != blob.id {
            return Err(at("decodes to other bytes than its name says".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Id, Kind};
    use crate::pack::{PackWriter, Part};

    const NAME: PackName = PackName {
        session: [1; 16],
        number: 0,
    };

    fn sample(seal: Option<&Seal>) -> Vec<u8> {
        let ids = Ids::plain();
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        let mut pack = PackWriter::new(Vec::new(), NAME, seal.cloned()).unwrap();
        for n in 0..3u8 {
            let plain: Vec<u8> = (0..n + 1).flat_map(|i| vec![i + n; 100]).collect();
            let blobs: Vec<Id> = plain.chunks(100).map(|b| ids.of(Kind::Tree, b)).collect();
            let parts = vec![Part::plain(Kind::Tree, 100); blobs.len()];
            let frame = frame::encode(parts, plain, &mut compressor);
            pack.append(frame, &blobs).unwrap();
        }
        let chunk = vec![9; 40_000];
        let frame = frame::encode_chunk(&chunk, &mut compressor);
        pack.append(frame, &[ids.of(Kind::Chunk, &chunk)]).unwrap();
        let delta = Part {
            form: Form::Patch,
            len: 40_000,
            depth: 1,
            base: [7; 8],
            ..Part::plain(Kind::Chunk, 3)
        };
        let frame = frame::encode(vec![delta], vec![0; 3], &mut compressor);
        pack.append(frame, &[Id([5; 32])]).unwrap();
        let (bytes, finished) = pack.finish().unwrap();
        assert_eq!(bytes.len() as u64, finished.len);
        assert_eq!(check(&bytes, &ids, seal).unwrap(), finished.directory);
        bytes
    }

    #[test]
    fn a_pack_checks() {
        sample(None);
        let (seal, _) = Seal::generate("k");
        let bytes = sample(Some(&seal));
        let ids = Ids::plain();
        assert!(check(&bytes, &ids, None).is_err());
        assert!(check(&bytes, &ids, Some(&Seal::generate("k").0)).is_err());
        assert!(check(&sample(None), &ids, Some(&seal)).is_err());
    }

    #[test]
    fn any_cut_and_any_flip_is_noticed() {
        let (seal, _) = Seal::generate("k");
        for seal in [None, Some(&seal)] {
            cuts_and_flips(seal);
        }
    }

    fn cuts_and_flips(seal: Option<&Seal>) {
        let ids = Ids::plain();
        let pack = sample(seal);
        for len in 0..pack.len() {
            assert!(check(&pack[..len], &ids, seal).is_err(), "cut at {len}");
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
            assert!(check(&bad, &ids, seal).is_err(), "flip at {at}");
            // The numbers of frames and blobs are told by the directory, which only `check` reads.
            let trailer = pack.len() - TRAILER_LEN;
            assert!(
                check_as_file(&bad).is_err() || (trailer + 16..trailer + 24).contains(&at),
                "flip at {at} of a file"
            );
        }
    }
}
