//! The index: id → where its blobs lie. Always rebuildable from pack directories.
//!
//! It is never trusted about liveness: the repository filters what it says by the packs that the
//! latest root lists, so stale rows are harmless.

mod mem;
#[cfg(feature = "rocks")]
mod rocks;
pub mod segment;

pub use mem::MemIndex;
#[cfg(feature = "rocks")]
pub use rocks::RocksIndex;

use crate::delta::Form;
use crate::error::Result;
use crate::id::{BASE_LEN, Id, PackName};
use crate::pack::{Codec, Directory};
use std::collections::HashSet;

/// Where one blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// In which pack.
    pub pack: PackName,
    /// Where the payload of its frame begins.
    pub payload_offset: u64,
    /// Bytes of the payload as it lies.
    pub stored_len: u32,
    /// Bytes of the payload when decoded.
    pub plain_len: u32,
    /// How the payload lies.
    pub codec: Codec,
    /// Where the body begins in the decoded payload.
    pub offset: u32,
    /// Bytes of the body.
    pub body_len: u32,
    /// Plain bytes of the blob.
    pub len: u32,
    /// How the body lies.
    pub form: Form,
    /// How many blobs are under it.
    pub depth: u8,
    /// First bytes of the base's id, where it has one.
    pub base: [u8; BASE_LEN],
    /// Its number in the pack.
    pub ordinal: u32,
}

impl Location {
    /// The blob's share of the stored bytes of its frame.
    pub fn stored_share(&self) -> u64 {
        if self.plain_len == 0 {
            return 0;
        }
        u64::from(self.stored_len) * u64::from(self.body_len) / u64::from(self.plain_len)
    }
}

/// What an index can do.
pub trait Index: Send + Sync + std::fmt::Debug {
    /// The packs it knows.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn packs(&self) -> Result<HashSet<PackName>>;

    /// Whether packs can be added and dropped.
    fn is_writable(&self) -> bool;

    /// Learns all blobs of a pack, in one step.
    ///
    /// # Errors
    /// When the index cannot be written.
    fn add_pack(&self, pack: PackName, directory: &Directory) -> Result<()>;

    /// Forgets a pack and its blobs.
    ///
    /// # Errors
    /// When the index cannot be written.
    fn drop_pack(&self, pack: PackName, directory: &Directory) -> Result<()>;

    /// Every place of this id in the packs it knows.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn get(&self, id: &Id) -> Result<Vec<Location>>;

    /// Every place of every id that begins so: what a delta calls its base.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn get_base(&self, base: &[u8; BASE_LEN]) -> Result<Vec<(Id, Location)>>;
}

/// The blobs of a directory with their places.
pub fn locations(
    pack: PackName,
    directory: &Directory,
) -> impl Iterator<Item = (Id, Location)> + '_ {
    directory
        .frames
        .iter()
        .flat_map(|frame| frame.blobs.iter().map(move |blob| (frame, blob)))
        .zip(0u32..)
        .map(move |((frame, blob), ordinal)| {
            let location = Location {
                pack,
                payload_offset: frame.payload_offset,
                stored_len: frame.stored_len,
                plain_len: frame.plain_len,
                codec: frame.codec,
                offset: blob.offset,
                body_len: blob.part.body_len,
                len: blob.part.len,
                form: blob.part.form,
                depth: blob.part.depth,
                base: blob.part.base,
                ordinal,
            };
            (blob.id, location)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;
    use crate::pack::{BlobEntry, FrameEntry, Part};

    fn delta(n: u8) -> Part {
        Part {
            form: Form::Patch,
            len: 500,
            depth: n,
            base: [n + 1; BASE_LEN],
            ..Part::plain(Kind::Chunk, 10)
        }
    }

    fn directory(ids: &[u8]) -> Directory {
        Directory {
            frames: vec![FrameEntry {
                offset: 16,
                payload_offset: 36,
                stored_len: 50,
                plain_len: 10 * ids.len() as u32,
                codec: Codec::Zstd,
                table: true,
                blobs: ids
                    .iter()
                    .zip(0u32..)
                    .map(|(&n, i)| BlobEntry {
                        id: Id([n; 32]),
                        part: delta(n),
                        offset: 10 * i,
                    })
                    .collect(),
            }],
        }
    }

    /// What every index must do.
    fn conforms(index: &dyn Index) {
        let name = |number| PackName {
            session: [5; 16],
            number,
        };
        index.add_pack(name(0), &directory(&[1, 2])).unwrap();
        index.add_pack(name(1), &directory(&[2, 3])).unwrap();
        // Learning a pack twice changes nothing.
        index.add_pack(name(1), &directory(&[2, 3])).unwrap();
        assert_eq!(index.packs().unwrap(), HashSet::from([name(0), name(1)]));
        let places = |n: u8| {
            let mut found: Vec<_> = index
                .get(&Id([n; 32]))
                .unwrap()
                .iter()
                .map(|l| (l.pack.number, l.offset))
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(
            (places(1), places(2), places(3)),
            (vec![(0, 0)], vec![(0, 10), (1, 0)], vec![(1, 10)])
        );
        assert_eq!(places(4), []);
        let based = |n: u8| {
            let mut found: Vec<_> = index
                .get_base(&[n; BASE_LEN])
                .unwrap()
                .iter()
                .map(|(id, l)| (id.0[31], l.pack.number, l.depth, l.base))
                .collect();
            found.sort_unstable();
            found
        };
        let expected = |number| (2, number, 2, [3; BASE_LEN]);
        assert_eq!(based(2), [expected(0), expected(1)]);
        assert_eq!(based(4), []);
        index.drop_pack(name(0), &directory(&[1, 2])).unwrap();
        assert_eq!((places(1), places(2)), (vec![], vec![(1, 0)]));
        assert_eq!(index.packs().unwrap(), HashSet::from([name(1)]));
    }

    #[test]
    fn memory_conforms() {
        conforms(&MemIndex::default());
    }

    #[cfg(feature = "rocks")]
    #[test]
    fn rocks_conforms_and_outlives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        conforms(&RocksIndex::open(dir.path()).unwrap());
        let index = RocksIndex::open_read_only(dir.path()).unwrap();
        assert_eq!(index.get(&Id([3; 32])).unwrap().len(), 1);
        assert_eq!(index.get(&Id([1; 32])).unwrap().len(), 0);
    }

    #[cfg(feature = "rocks")]
    #[test]
    fn a_reader_beside_a_writer_sees_what_was_there_when_it_opened() {
        let dir = tempfile::tempdir().unwrap();
        let writer = RocksIndex::open(dir.path()).unwrap();
        let name = PackName {
            session: [5; 16],
            number: 0,
        };
        writer.add_pack(name, &directory(&[1])).unwrap();
        let reader = RocksIndex::open_read_only(dir.path()).unwrap();
        assert_eq!(reader.get(&Id([1; 32])).unwrap().len(), 1);
        let other = PackName { number: 1, ..name };
        assert!(reader.add_pack(other, &directory(&[9])).is_err());
    }
}
