//! What one chunk costs on its way into a pack and out again: `make bench-micro`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use zenith_store::id::{Id, Kind};
use zenith_store::index::{Index, MemIndex};
use zenith_store::pack::frame::{self, Frame, Part};
use zenith_store::pack::{Codec, Directory, FrameEntry, PackWriter};
use zenith_store::seal::{Origin, Seal};
use zenith_store::{Ids, PackName, delta};

/// The default chunk, and what else was considered.
const SIZES: [usize; 3] = [8 << 10, 64 << 10, 256 << 10];
const CHUNK: usize = 64 << 10;
/// Chunks of a cluster of 6 GiB.
const INDEXED: u64 = 100_000;

fn main() {
    divan::main();
}

/// Bytes as in a table: rows that share most of their words, half of a chunk numbers.
fn rows(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 64);
    for n in 0u64.. {
        if bytes.len() >= len {
            break;
        }
        bytes.extend_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        bytes.extend_from_slice(b"shipped, in two parcels ");
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The same rows after an update of one row of every page.
fn updated(rows: &[u8]) -> Vec<u8> {
    const PAGE: usize = 8 << 10;
    let mut bytes = rows.to_vec();
    for page in bytes.chunks_mut(PAGE) {
        page[0] ^= 1;
        page[PAGE / 2..PAGE / 2 + 7].copy_from_slice(b"updated");
    }
    bytes
}

fn compressor() -> zstd::bulk::Compressor<'static> {
    zstd::bulk::Compressor::new(1).expect("level 1 exists")
}

fn chunk_frame(bytes: &[u8]) -> Frame {
    frame::encode_chunk(bytes, &mut compressor())
}

#[divan::bench(args = SIZES)]
fn hash(bencher: Bencher<'_, '_>, len: usize) {
    let (ids, bytes) = (Ids::plain(), rows(len));
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| ids.chunk(black_box(&bytes)));
}

/// Whether an extent is still its parent's: by id, and what it would cost to have the old bytes.
mod compare {
    use super::*;

    #[divan::bench]
    fn by_id(bencher: Bencher<'_, '_>) {
        let (ids, bytes) = (Ids::plain(), rows(CHUNK));
        let parent = ids.chunk(&bytes);
        bencher
            .counter(BytesCount::new(CHUNK))
            .bench_local(|| ids.chunk(black_box(&bytes)) == parent);
    }

    #[divan::bench]
    fn by_bytes(bencher: Bencher<'_, '_>) {
        let (bytes, parent) = (rows(CHUNK), rows(CHUNK));
        bencher
            .counter(BytesCount::new(CHUNK))
            .bench_local(|| black_box(&bytes) == black_box(&parent));
    }
}

#[divan::bench(args = SIZES)]
fn compress(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = rows(len);
    let mut compressor = compressor();
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| frame::encode_chunk(black_box(&bytes), &mut compressor));
}

#[divan::bench(args = SIZES)]
fn decompress(bencher: Bencher<'_, '_>, len: usize) {
    let stored = zstd::bulk::compress(&rows(len), 1).expect("it fits");
    let mut decompressor = zstd::bulk::Decompressor::new().expect("memory is there");
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| decompressor.decompress(black_box(&stored), len));
}

/// Looking up ids that are there, and ids that are not, which is what a new chunk asks.
mod index {
    use super::*;

    fn id(n: u64) -> Id {
        Ids::plain().of(Kind::Chunk, &n.to_le_bytes())
    }

    fn directory(first: u64, number: u64) -> Directory {
        let entry = |n: u64| FrameEntry {
            offset: 16 + n * 8192,
            payload_offset: 36 + n * 8192,
            stored_len: 8000,
            plain_len: 65_536,
            codec: Codec::Zstd,
            table: false,
            blobs: vec![zenith_store::pack::BlobEntry {
                id: id(first + n),
                part: Part::plain(Kind::Chunk, 65_536),
                offset: 0,
            }],
        };
        Directory {
            frames: (0..number).map(entry).collect(),
        }
    }

    fn fill(index: &dyn Index) {
        const PACK: u64 = 1000;
        for pack in 0..INDEXED / PACK {
            let name = PackName {
                session: [7; 16],
                number: u32::try_from(pack).expect("few packs"),
            };
            index
                .add_pack(name, &directory(pack * PACK, PACK))
                .expect("an index takes packs");
        }
    }

    /// A thousand look-ups an iteration; `first` says whether they find anything.
    fn look_up(bencher: Bencher<'_, '_>, index: &dyn Index, first: u64) {
        const MANY: u64 = 1000;
        let ids: Vec<Id> = (0..MANY)
            .map(|n| id(first + n * (INDEXED / MANY)))
            .collect();
        bencher.counter(ItemsCount::new(MANY)).bench_local(|| {
            ids.iter()
                .filter(|id| index.get(id).is_ok_and(|places| !places.is_empty()))
                .count()
        });
    }

    #[divan::bench(args = ["found", "new"])]
    fn memory(bencher: Bencher<'_, '_>, which: &str) {
        let index = MemIndex::default();
        fill(&index);
        look_up(bencher, &index, first(which));
    }

    #[cfg(feature = "rocks")]
    #[divan::bench(args = ["found", "new"])]
    fn rocks(bencher: Bencher<'_, '_>, which: &str) {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let index = zenith_store::index::RocksIndex::open(dir.path()).expect("RocksDB opens");
        fill(&index);
        look_up(bencher, &index, first(which));
    }

    fn first(which: &str) -> u64 {
        if which == "found" { 0 } else { INDEXED }
    }
}

/// A chunk of eight changed pages as a difference to what it was, and back.
mod differences {
    use super::*;

    #[divan::bench]
    fn diff(bencher: Bencher<'_, '_>) {
        let old = rows(CHUNK);
        let new = updated(&old);
        let mut body = Vec::new();
        bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
            body.clear();
            delta::diff(black_box(&old), black_box(&new), CHUNK, &mut body)
        });
    }

    #[divan::bench]
    fn patch(bencher: Bencher<'_, '_>) {
        let old = rows(CHUNK);
        let mut body = Vec::new();
        delta::diff(&old, &updated(&old), CHUNK, &mut body);
        let mut chunk = old;
        bencher
            .counter(BytesCount::new(CHUNK))
            .bench_local(|| delta::patch(black_box(&body), CHUNK, &mut chunk));
    }

    #[divan::bench]
    fn compress_on_base(bencher: Bencher<'_, '_>) {
        let old = rows(CHUNK);
        let new = updated(&old);
        bencher
            .counter(BytesCount::new(CHUNK))
            .bench_local(|| delta::compress(black_box(&old), black_box(&new), 1));
    }

    #[divan::bench]
    fn decompress_on_base(bencher: Bencher<'_, '_>) {
        let old = rows(CHUNK);
        let body = delta::compress(&old, &updated(&old), 1).expect("it compresses");
        let mut chunk = Vec::new();
        bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
            delta::decompress(black_box(&old), black_box(&body), CHUNK, &mut chunk)
        });
    }
}

#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher<'_, '_>, len: usize) {
    let (seal, _) = Seal::generate("a benchmark");
    let bytes = rows(len);
    let mut origin = Origin {
        session: [7; 16],
        pack: 0,
        frame: 0,
    };
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        origin.frame += 1;
        let mut payload = bytes.clone();
        seal.seal_frame(&origin, b"header", &mut payload);
        payload
    });
}

#[divan::bench(args = SIZES)]
fn open(bencher: Bencher<'_, '_>, len: usize) {
    let (seal, _) = Seal::generate("a benchmark");
    let origin = Origin {
        session: [7; 16],
        pack: 0,
        frame: 0,
    };
    let mut sealed = rows(len);
    seal.seal_frame(&origin, b"header", &mut sealed);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let mut payload = sealed.clone();
        seal.open_frame(&origin, b"header", &mut payload)
            .expect("it is as it was");
        payload
    });
}

/// A whole pack of chunks that are compressed already, into nothing: hash and directory remain.
#[divan::bench]
fn append(bencher: Bencher<'_, '_>) {
    const FRAMES: usize = 1000;
    const NAME: PackName = PackName {
        session: [7; 16],
        number: 0,
    };
    let bytes = rows(CHUNK);
    let (frame, id) = (chunk_frame(&bytes), Id::from(Ids::plain().chunk(&bytes)));
    bencher
        .counter(BytesCount::new(FRAMES * frame.payload.len()))
        .bench_local(|| {
            let mut pack = PackWriter::new(std::io::sink(), NAME, None).expect("a sink takes all");
            for _ in 0..FRAMES {
                pack.append(frame.clone(), &[id]).expect("a sink takes all");
            }
            pack.finish().expect("a sink takes all").1.len
        });
}
