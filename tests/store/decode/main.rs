//! Whatever bytes lie in a repository, decoding them gives something or an error: no panic, and no
//! more memory than the bytes are worth.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use proptest::sample::Index;
use zenith_store::index::segment::{self, Entry, SegmentRow};
use zenith_store::object::tree::TreeNode;
use zenith_store::object::{Snapshot, extents};
use zenith_store::objects::Directory as Place;
use zenith_store::pack::frame;
use zenith_store::pack::{Directory, TRAILER_LEN, Trailer};
use zenith_store::root::{PackRow, Root, Row};
use zenith_store::{IndexChoice, Node, PackName, Repository, Verify, delta};
use zenith_testkit::bytes::{Counting, Mutation, mutated, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A frame has up to 65,535 blobs, for which there is room at once.
const PARTS_BYTES: usize = 4 << 20;

/// That decoding takes memory in proportion to the bytes, and `more`.
fn bounded<T>(bytes: &[u8], more: usize, work: impl FnOnce() -> T) -> T {
    let (out, used) = peak(work);
    let limit = (64 << 10) + more + 256 * bytes.len();
    assert!(used <= limit, "{used} bytes for {} bytes", bytes.len());
    out
}

/// Every decoder, whatever the bytes are.
fn decode(bytes: &[u8]) {
    bounded(bytes, PARTS_BYTES, || {
        let (header, payload) = frame::open(bytes, None)?;
        // The plain length is what the header says, up to its limit.
        let plain_len = header.plain_len.min(1 << 20);
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        let mut plain = Vec::new();
        frame::decode_payload(
            header.codec,
            &payload,
            plain_len,
            &mut decompressor,
            &mut plain,
        )?;
        header.parts(&plain)
    })
    .ok();
    bounded(bytes, PARTS_BYTES, || {
        // Numbers that a trailer might give.
        let number = |at| bytes.get(at).map_or(0, |b| usize::from(*b));
        let end = bytes.len() as u64 * 40;
        Directory::decode(bytes, number(1), number(2), end, false).ok();
        Directory::decode_v1(bytes, end).map(|directory| directory.encode())
    })
    .ok();
    bounded(bytes, PARTS_BYTES, || {
        let mut chunk = vec![1; 1000];
        delta::patch(bytes, 2000, &mut chunk).ok();
        let base = std::mem::take(&mut chunk);
        delta::decompress(&base, bytes, 2000, &mut chunk)
    })
    .ok();
    if let Some(trailer) = bytes.last_chunk::<TRAILER_LEN>() {
        bounded(trailer, 0, || {
            Trailer::decode(trailer, bytes.len() as u64).ok()
        });
    }
    // What decodes is written the same way, or is no canonical form of it.
    if let Ok((depth, ids)) = bounded(bytes, 0, || extents::decode(bytes)) {
        assert_eq!(extents::encode(depth, &ids), bytes);
    }
    if let Ok(node) = bounded(bytes, 0, || TreeNode::decode(bytes)) {
        assert_eq!(TreeNode::decode(&node.encode()).unwrap(), node);
    }
    if let Ok(snapshot) = bounded(bytes, 0, || Snapshot::decode(bytes)) {
        assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
    }
    if let Ok(root) = bounded(bytes, 0, || Root::decode(bytes, 0, None)) {
        assert_eq!(Root::decode(&root.encode(None), 0, None).unwrap(), root);
    }
    // What is in it is in the bytes twice, while it is taken out.
    if let Ok(entries) = bounded(bytes, PARTS_BYTES, || segment::decode(bytes, false)) {
        assert_eq!(segment::encode(&entries, false).0, bytes);
        for entry in entries {
            entry.decode(None).ok();
        }
    }
    bounded(bytes, 0, || minicbor::decode::<Vec<SegmentRow>>(bytes)).ok();
    bounded(bytes, 0, || minicbor::decode::<Vec<Row>>(bytes)).ok();
    bounded(bytes, 0, || minicbor::decode::<Vec<PackRow>>(bytes)).ok();
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/v1/repository")
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    out.sort();
    out
}

/// Of each kind of stored bytes some that are right: trailers, directories, index segments, frames, what is in
/// the frames, and roots.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut out = Vec::new();
        for pack in files_in(&fixture().join("packs")) {
            let bytes = std::fs::read(pack).unwrap();
            let (_, last) = bytes.split_last_chunk::<TRAILER_LEN>().unwrap();
            let trailer = Trailer::decode(last, bytes.len() as u64).unwrap();
            let at = trailer.directory_offset as usize;
            let directory = &bytes[at..at + trailer.directory_len as usize];
            let frames = match trailer.version {
                1 => Directory::decode_v1(directory, trailer.directory_offset),
                _ => Directory::decode(
                    directory,
                    trailer.frames as usize,
                    trailer.blobs as usize,
                    trailer.directory_offset,
                    false,
                ),
            };
            let frames = frames.unwrap();
            out.extend([last.to_vec(), directory.to_vec()]);
            let entry = Entry {
                pack: PackName {
                    session: [7; 16],
                    number: 7,
                },
                len: bytes.len() as u64,
                directory: directory.to_vec(),
                trailer,
            };
            out.push(segment::encode(&[entry.clone(), entry.clone()], false).0);
            let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
            for entry in frames.frames {
                let whole = &bytes[entry.offset as usize..entry.end() as usize];
                out.push(whole.to_vec());
                let payload = &whole[whole.len() - entry.stored_len as usize..];
                let mut plain = Vec::new();
                frame::decode_payload(
                    entry.codec,
                    payload,
                    entry.plain_len,
                    &mut decompressor,
                    &mut plain,
                )
                .unwrap();
                for blob in entry.blobs {
                    out.push(plain[blob.offset as usize..][..blob.part.body_len as usize].to_vec());
                }
            }
        }
        for root in files_in(&fixture().join("roots")) {
            out.push(std::fs::read(root).unwrap());
        }
        out
    })
}

/// A root whose hash is right, so that what it guards is looked at.
fn rehashed(mut root: Vec<u8>) -> Vec<u8> {
    if let Some(at) = root.len().checked_sub(32) {
        let hash = blake3::hash(&root[..at]);
        root[at..].copy_from_slice(hash.as_bytes());
    }
    root
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(any::<Mutation>(), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode(&bytes);
        let root = [b"ZENROOT1".as_slice(), &bytes, &[0; 32]].concat();
        decode(&rehashed(root));
    }

    #[test]
    fn nearly_right_bytes_decode_or_not(which in any::<Index>(), how in mutations()) {
        let bytes = mutated(which.get::<Vec<u8>>(samples()), &how);
        decode(&bytes);
        decode(&rehashed(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// As a whole: it opens, reads and verifies, or says what is wrong.
    #[test]
    fn a_repository_with_a_damaged_object_gives_errors(
        which in any::<Index>(), how in mutations(), reaches in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = vec![PathBuf::from("zenith.json")];
        for name in ["packs", "roots"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            let names = files_in(&fixture().join(name)).into_iter();
            files.extend(names.map(|path| path.strip_prefix(fixture()).unwrap().to_owned()));
        }
        for file in &files {
            std::fs::copy(fixture().join(file), dir.path().join(file)).unwrap();
        }
        // The newest root is what counts.
        let newest = files.iter().filter(|f| f.starts_with("roots")).max().unwrap().clone();
        let file = if reaches { &newest } else { which.get(&files) };
        let bytes = mutated(&std::fs::read(fixture().join(file)).unwrap(), &how);
        let bytes = if file.starts_with("roots") { rehashed(bytes) } else { bytes };
        std::fs::write(dir.path().join(file), bytes).unwrap();

        let read = || -> zenith_store::Result<()> {
            let repository = Repository::open(Arc::new(Place::new(dir.path())), None, IndexChoice::Memory)?;
            let state = repository.state()?;
            for row in state.snapshots() {
                state.usage(&row.id);
                repository.snapshot(row.id).ok();
                for node in repository.listing(row.tree).unwrap_or_default().values() {
                    if let Node::File(file) = node {
                        repository.chunk_ids(file).ok();
                    }
                }
            }
            repository.verify(Verify::ReadData)?;
            Ok(())
        };
        read().ok();
    }
}
