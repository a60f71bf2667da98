//! An index segment: copies of the directories of many packs, so that who needs them all asks for
//! a few objects. It says nothing that packs do not say; bytes: docs/format.md.

use crate::id::PackName;
use crate::pack::reader::decode_directory;
use crate::pack::{Directory, TRAILER_LEN, Trailer};
use crate::seal::Seal;
use crate::table::Row as TableRow;
use minicbor::{Decode, Encode};

const MAGIC: &[u8; 8] = b"ZENINDX1";
const VERSION: u16 = 1;
const SEALED: u16 = 1;
const HEADER_LEN: usize = 16;
const HASH_LEN: usize = 32;
/// Session, number and length of a pack, and its trailer.
const ENTRY_LEN: usize = 16 + 4 + 8 + TRAILER_LEN;
/// A segment is closed when it has so many bytes.
pub(crate) const SEGMENT_BYTES: usize = 16 << 20;
/// None is read that has more: the last directory may pass the limit.
const BYTES_MAX: u64 = 64 << 20;

/// A segment as the root knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SegmentRow {
    /// Ordinal of the first pack that it speaks of.
    #[n(0)]
    pub first: u64,
    /// Of the last. It has all between them that were there and could be read.
    #[n(1)]
    pub last: u64,
    /// Its name: that of a pack would be the same, in another folder.
    #[n(2)]
    pub name: PackName,
    /// Its bytes.
    #[n(3)]
    pub len: u64,
    /// BLAKE3 of all but its last 32 bytes, which are that.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub hash: [u8; HASH_LEN],
    /// Packs in it.
    #[n(5)]
    pub packs: u32,
}

impl SegmentRow {
    /// `index/<session>-<n>`, the object's key.
    pub fn key(&self) -> String {
        key(&self.name)
    }

    /// Whether it speaks of the pack with this ordinal.
    pub(crate) fn spans(&self, ordinal: u64) -> bool {
        (self.first..=self.last).contains(&ordinal)
    }

    /// What is wrong with these bytes of the segment, if anything is.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() as u64 != self.len {
            let (found, expected) = (bytes.len(), self.len);
            return Err(format!("it has {found} bytes, {expected} expected"));
        }
        match bytes.last_chunk::<HASH_LEN>() {
            Some(hash) if *hash == self.hash => Ok(()),
            _ => Err("it has another hash".into()),
        }
    }

    /// Whether it is too long to be read.
    pub(crate) fn is_too_long(&self) -> bool {
        self.len > BYTES_MAX
    }
}

impl TableRow for SegmentRow {
    fn key(&self) -> u64 {
        self.first
    }
}

/// `index/<session>-<n>`.
pub(crate) fn key(name: &PackName) -> String {
    format!("index/{name}")
}

/// The end of a pack: its trailer, and its directory as it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which pack.
    pub pack: PackName,
    /// Its bytes.
    pub len: u64,
    /// Its trailer.
    pub trailer: Trailer,
    /// Its directory, as it lies.
    pub directory: Vec<u8>,
}

impl Entry {
    /// Bytes in a segment.
    pub(crate) fn stored_len(&self) -> usize {
        ENTRY_LEN + self.directory.len()
    }

    /// The directory in it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode(&self, seal: Option<&Seal>) -> Result<Directory, String> {
        decode_directory(&self.trailer, &self.directory, seal)
    }
}

/// The bytes of a segment, and the hash that they end with.
pub fn encode(entries: &[Entry], sealed: bool) -> (Vec<u8>, [u8; HASH_LEN]) {
    let bodies: usize = entries.iter().map(Entry::stored_len).sum();
    let mut out = Vec::with_capacity(HEADER_LEN + bodies + HASH_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&if sealed { SEALED } else { 0 }.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.pack.session);
        out.extend_from_slice(&entry.pack.number.to_le_bytes());
        out.extend_from_slice(&entry.len.to_le_bytes());
        out.extend_from_slice(&entry.trailer.encode());
        out.extend_from_slice(&entry.directory);
    }
    let hash = *blake3::hash(&out).as_bytes();
    out.extend_from_slice(&hash);
    (out, hash)
}

/// The entries in the bytes of a segment.
///
/// # Errors
/// Says what is wrong.
pub fn decode(bytes: &[u8], sealed: bool) -> Result<Vec<Entry>, String> {
    const SHORT: &str = "it is cut short";
    let (content, hash) = bytes.split_last_chunk::<HASH_LEN>().ok_or(SHORT)?;
    if blake3::hash(content).as_bytes() != hash {
        return Err("it has another hash".into());
    }
    let (header, mut rest) = content.split_first_chunk::<HEADER_LEN>().ok_or(SHORT)?;
    if &header[..8] != MAGIC {
        return Err("it does not begin like an index segment".into());
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    let flags = u16::from_le_bytes([header[10], header[11]]);
    if version != VERSION || flags & !SEALED != 0 {
        return Err(format!(
            "version {version} with flags {flags:#x} is not known; a newer zenith may be"
        ));
    }
    if (flags & SEALED != 0) != sealed {
        return Err("it is sealed in another way than the repository".into());
    }
    let number = u32::from_le_bytes(header[12..].try_into().expect("4 of 16 bytes"));
    // A number that is damage must not allocate.
    let mut entries = Vec::with_capacity((number as usize).min(rest.len() / ENTRY_LEN));
    while !rest.is_empty() {
        let (fixed, after) = rest.split_first_chunk::<ENTRY_LEN>().ok_or(SHORT)?;
        let (session, fixed) = fixed.split_first_chunk::<16>().expect("a part of it");
        let (pack, fixed) = fixed.split_first_chunk::<4>().expect("a part of it");
        let (len, trailer) = fixed.split_first_chunk::<8>().expect("a part of it");
        let pack = PackName {
            session: *session,
            number: u32::from_le_bytes(*pack),
        };
        let len = u64::from_le_bytes(*len);
        let trailer = trailer.try_into().expect("the rest of it is a trailer");
        let trailer = Trailer::decode(trailer, len).map_err(|why| format!("pack {pack}: {why}"))?;
        let length = usize::try_from(trailer.directory_len).map_err(|_| SHORT)?;
        let (directory, after) = after.split_at_checked(length).ok_or(SHORT)?;
        rest = after;
        entries.push(Entry {
            pack,
            len,
            trailer,
            directory: directory.to_vec(),
        });
    }
    if entries.is_empty() || entries.len() != number as usize {
        return Err("it has another number of packs than it says".into());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Id, Ids, Kind, hex};
    use crate::objects::{Directory as Place, Objects};
    use crate::pack::{PackWriter, Part, frame, reader};
    use proptest::prelude::*;

    fn entry(n: u8) -> Entry {
        let directory = vec![n; 3];
        let mut directory_hash = [0; 12];
        directory_hash.copy_from_slice(&blake3::hash(&directory).as_bytes()[..12]);
        let trailer = Trailer {
            version: 2,
            sealed: false,
            directory_offset: 0x100,
            directory_len: 3,
            frames: 1,
            blobs: 2,
            content_hash: [n; 16],
            directory_hash,
        };
        Entry {
            pack: PackName {
                session: [n; 16],
                number: n.into(),
            },
            len: 0x100 + 3 + TRAILER_LEN as u64,
            trailer,
            directory,
        }
    }

    #[test]
    fn golden() {
        let entries = [entry(7), entry(8)];
        let (bytes, hash) = encode(&entries, false);
        insta::assert_snapshot!(hex(&bytes), @"5a454e494e44583101000000020000000707070707070707070707070707070707000000430100000000000000010000000000000300000000000000010000000200000007070707070707070707070707070707a9212be7af3bfa10daaa68c0020000005a454e50454e443107070708080808080808080808080808080808080000004301000000000000000100000000000003000000000000000100000002000000080808080808080808080808080808080a13e2755b538247598f1df9020000005a454e50454e44310808087c4d461a58a547813476a9f1ad002a48cb2a394a6196eb9eff7f772f900196fc");
        assert!(bytes.ends_with(&hash));
        assert_eq!(decode(&bytes, false).as_deref(), Ok(&entries[..]));
        let row = SegmentRow {
            first: 3,
            last: 300,
            name: entry(9).pack,
            len: bytes.len() as u64,
            hash: [6; 32],
            packs: 2,
        };
        insta::assert_snapshot!(hex(&minicbor::to_vec(&row).unwrap()), @"a600030119012c02825009090909090909090909090909090909090318ee04582006060606060606060606060606060606060606060606060606060606060606060502");
        insta::assert_snapshot!(row.key(), @"index/09090909090909090909090909090909-9");
    }

    /// A pack with these blobs at `objects`.
    fn pack(objects: &dyn Objects, n: u8, blobs: &[Vec<u8>], seal: Option<&Seal>) -> Entry {
        let ids = Ids::plain();
        let name = entry(n).pack;
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        let mut writer = PackWriter::new(Vec::new(), name, seal.cloned()).unwrap();
        for blob in blobs {
            let frame = frame::encode(
                vec![Part::plain(Kind::Tree, blob.len())],
                blob.clone(),
                &mut compressor,
            );
            let id: Id = ids.of(Kind::Tree, blob);
            writer.append(frame, &[id]).unwrap();
        }
        let (bytes, finished) = writer.finish().unwrap();
        objects.create(&name.key(), &bytes).unwrap();
        let (trailer, directory) = reader::open_raw(objects, name, finished.len).unwrap();
        let entry = Entry {
            pack: name,
            len: finished.len,
            trailer,
            directory,
        };
        assert_eq!(entry.decode(seal).unwrap(), finished.directory);
        entry
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// What packs say is what a segment of them says, sealed or not.
        #[test]
        fn directories_come_back(
            packs in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..5), 1..6),
            sealed: bool,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let place = Place::new(dir.path());
            let seal = sealed.then(|| Seal::generate("k").0);
            let entries: Vec<Entry> = (0..)
                .zip(&packs)
                .map(|(n, blobs)| pack(&place, n, blobs, seal.as_ref()))
                .collect();
            let (bytes, _) = encode(&entries, sealed);
            let decoded = decode(&bytes, sealed).unwrap();
            prop_assert_eq!(&decoded, &entries);
            for (decoded, entry) in decoded.iter().zip(&entries) {
                prop_assert_eq!(decoded.decode(seal.as_ref()), entry.decode(seal.as_ref()));
            }
            prop_assert!(decode(&bytes, !sealed).is_err());
        }
    }

    #[test]
    fn any_cut_and_any_flip_is_noticed() {
        let (bytes, _) = encode(&[entry(7), entry(8)], false);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], false).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(decode(&bad, false).is_err(), "flip at {at}");
        }
        // With a hash that fits, too, nothing is believed that cannot be.
        let (empty, _) = encode(&[], false);
        assert!(decode(&empty, false).is_err());
        let mut newer = bytes[..bytes.len() - HASH_LEN].to_vec();
        newer[8] = 2;
        let hash = *blake3::hash(&newer).as_bytes();
        newer.extend_from_slice(&hash);
        assert!(decode(&newer, false).unwrap_err().contains("newer"));
    }
}
