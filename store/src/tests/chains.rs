//! Chains of deltas: how they grow and begin anew, and what becomes of them.

use super::*;
use crate::encode::CHAIN_MAX;
use crate::id::Kind;

/// One file of one chunk.
fn one(bytes: &[u8]) -> Files {
    Files::from([("file".into(), bytes.to_vec())])
}

/// Blobs under a chunk, and the depth that it says it has.
fn height(repository: &Repository, id: ChunkId) -> (usize, u8) {
    let chain = repository.find(Kind::Chunk, id.into()).unwrap();
    (chain.len() - 1, chain[0].1.depth)
}

/// The depths of a chunk that changes `n` times, each time by `change`.
fn depths(n: usize, mut bytes: Vec<u8>, change: impl Fn(usize, &mut Vec<u8>)) -> Vec<usize> {
    let place = Place::new(None);
    let mut tip = None;
    let mut out = Vec::new();
    let mut expected = Vec::new();
    for step in 0..=n {
        if step > 0 {
            change(step, &mut bytes);
        }
        let repository = place.open();
        let (id, _) = snapshot_on(&repository, &one(&bytes), tip, &step.to_string());
        let (under, depth) = height(&repository, chunks_of(&repository, id)["file"][0]);
        assert_eq!(under, usize::from(depth));
        assert!(under < usize::from(CHAIN_MAX) + 2);
        out.push(under);
        expected.push((id, bytes.clone()));
        tip = Some(id);
    }
    let repository = place.open();
    for (id, bytes) in expected {
        assert!(files_of(&repository, id) == one(&bytes));
    }
    assert_good(&repository);
    out
}

/// 0, then so many rounds of 1 to 9.
fn rounds(n: usize) -> Vec<usize> {
    let round = 1..=usize::from(CHAIN_MAX) + 1;
    std::iter::once(0)
        .chain(std::iter::repeat_n(round, n).flatten())
        .collect()
}

#[test]
fn after_a_long_chain_the_next_stands_on_the_plain_chunk() {
    let found = depths(27, noise(1, CHUNK), |step, bytes| bytes[step * 100] ^= 1);
    assert_eq!(found, rounds(3));
}

#[test]
fn a_chunk_of_which_half_has_changed_begins_anew() {
    // Ten times 500 bytes are more than half, ten times 300 are not, but twenty times are.
    let found = depths(19, noise(1, CHUNK), |step, bytes| {
        let at = step % 16 * 500;
        bytes[at..at + 500].copy_from_slice(&noise(step as u64 + 10, 500));
    });
    assert_eq!(found, [rounds(1), rounds(1)].concat());
    let found = depths(19, noise(1, CHUNK), |step, bytes| {
        let at = step * 300;
        bytes[at..at + 300].copy_from_slice(&noise(step as u64 + 10, 300));
    });
    assert_eq!(found, [rounds(2), vec![0]].concat());
}

#[test]
fn a_chunk_that_grows_and_shrinks_stays_a_delta() {
    let whole = noise(1, CHUNK);
    let lens = [CHUNK, 5000, 8000, 512, CHUNK, CHUNK - 1, 700];
    let place = Place::new(None);
    let mut tip = None;
    let mut expected = Vec::new();
    for len in lens {
        let files = Files::from([("file".into(), [whole.clone(), whole[..len].into()].concat())]);
        let (id, stats) = snapshot_on(&place.open(), &files, tip, "");
        // What is new at its end is noise: only shorter ones are worth a delta.
        let shrank = tip.is_some() && len < CHUNK && len != 8000;
        assert!(!shrank || stats.chunks_delta == 1, "{len}: {stats:?}");
        expected.push((id, files));
        tip = Some(id);
    }
    for (id, files) in expected {
        assert!(files_of(&place.open(), id) == files);
        assert!(many_of(&place.open(), id, 2) == files);
    }
    assert_good(&place.open());
}

#[test]
fn many_threads_store_each_changed_chunk_once() {
    let place = Place::new(None);
    let repository = place.open();
    let old = |n: u64| noise(n, CHUNK);
    let new = |n: u64| [&[7; 10], &noise(n, CHUNK)[10..]].concat();
    let files = (0..50).map(|n| (n.to_string(), old(n))).collect();
    let (tip, _) = snapshot_on(&repository, &files, None, "");
    let bases = chunks_of(&repository, tip);
    let writer = repository.writer().unwrap();
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for n in 0..50 {
                    let base = bases[&n.to_string()][0];
                    writer.put_chunk(&new(n), Some(base)).unwrap();
                }
            });
        }
    });
    let stats = writer.stats();
    assert_eq!(
        (stats.chunks_seen, stats.chunks_new, stats.chunks_delta),
        (400, 50, 50)
    );
    assert!(stats.bytes_new < 5000, "{stats:?}");
    let files: Files = (0..50).map(|n| (n.to_string(), new(n))).collect();
    let tree = put_on(&writer, &files, &bases);
    let done = writer.commit(sample(tree), vec![], vec![], Operation::default());
    assert!(files_of(&place.open(), done.unwrap().id) == files);
}

/// A base, and what an interrupted writer made of it: its packs are named, no root names them.
fn interrupted(place: &Place) -> (SnapshotId, Files) {
    let old: Files = (0..9).map(|n| (n.to_string(), noise(n, CHUNK))).collect();
    let repository = place.open();
    let (tip, _) = snapshot_on(&repository, &old, None, "");
    let new = old
        .into_iter()
        .map(|(path, bytes)| (path, [&bytes[..100], b"!", &bytes[101..]].concat()))
        .collect();
    let writer = repository.writer().unwrap();
    put_on(&writer, &new, &chunks_of(&repository, tip));
    assert_eq!(writer.stats().chunks_delta, 9);
    assert_eq!(writer.into_packs().unwrap().len(), 1);
    (tip, new)
}

#[test]
fn deltas_of_an_interrupted_writer_are_used() {
    let place = Place::new(None);
    let (tip, new) = interrupted(&place);
    let repository = place.open();
    let (id, stats) = snapshot_on(&repository, &new, Some(tip), "after all");
    assert_eq!((stats.chunks_new, stats.bytes_new), (0, 0));
    for repository in [&repository, &place.open()] {
        assert_eq!(files_of(repository, id), new);
        for ids in chunks_of(repository, id).values() {
            assert_eq!(height(repository, ids[0]), (1, 1));
        }
        assert_good(repository);
    }
    // They keep their bases, when nothing else does.
    remove(&repository, &[tip]);
    collect(&repository);
    assert_eq!(files_of(&place.open(), id), new);
    assert_good(&place.open());
}

#[test]
fn a_collection_takes_what_an_interrupted_writer_left() {
    let place = Place::new(None);
    let (tip, new) = interrupted(&place);
    // By the same program, whose writer failed, and by another.
    for repository in [place.open(), place.open()] {
        repository.writer().unwrap().abort();
        collect(&repository);
        assert_eq!(repository.objects().list("packs/").unwrap().len(), 1);
        for bytes in new.values() {
            let id = repository.ids().chunk(bytes);
            assert_eq!(repository.locate(&id.into()).unwrap(), None);
        }
        let ids = chunks_of(&repository, tip);
        let gone = put_on(&repository.writer().unwrap(), &new, &ids);
        assert!(repository.listing(gone).is_err());
    }
    let (id, stats) = snapshot_on(&place.open(), &new, Some(tip), "again");
    assert_eq!(stats.chunks_delta, 9);
    assert_eq!(files_of(&place.open(), id), new);
}

#[test]
fn a_collection_leaves_small_deltas_that_are_in_use() {
    let place = Place::new(None);
    let mut files: Files = (0..40)
        .map(|n| (format!("{n:0>4}"), noise(n, CHUNK)))
        .collect();
    let (mut tip, _) = snapshot_on(&place.open(), &files, None, "");
    for step in 0..3 {
        for bytes in files.values_mut() {
            bytes[step] ^= 1;
        }
        (tip, _) = snapshot_on(&place.open(), &files, Some(tip), "");
    }
    // Their names take more room than they do, which is no reason to write them again.
    assert_eq!(collect(&place.open()), Collected::default());
    assert_eq!(files_of(&place.open(), tip), files);
}

#[test]
fn what_is_moved_by_a_collection_stays_a_delta() {
    let place = Place::new(None);
    let mut files: Files = (0..40).map(|n| (n.to_string(), noise(n, CHUNK))).collect();
    let (base, _) = snapshot_on(&place.open(), &files, None, "");
    for n in 1..40 {
        files.remove(&n.to_string());
    }
    let (kept, _) = snapshot_on(&place.open(), &files, Some(base), "");
    files.get_mut("0").unwrap()[5] ^= 1;
    let (tip, _) = snapshot_on(&place.open(), &files, Some(kept), "");
    let top = chunks_of(&place.open(), tip)["0"][0];
    remove(&place.open(), &[base]);
    let done = collect(&place.open());
    assert!(done.packs >= 1 && done.rewritten < 12_000, "{done:?}");
    assert_eq!(files_of(&place.open(), tip), files);
    assert_eq!(height(&place.open(), top), (1, 1));
    assert_good(&place.open());
    assert_eq!(collect(&place.open()).rewritten, 0);
}

const FILES: u64 = 20;

/// Twenty chunks of which every snapshot changes a tenth of each, always the same part of it; the
/// first has so many others.
fn hot(place: &Place, others: u64, n: u64) -> Vec<(SnapshotId, Files)> {
    let all = 0..FILES + others;
    let mut files: Files = all.map(|n| (n.to_string(), noise(n, CHUNK))).collect();
    let mut all = Vec::new();
    for step in 0..n {
        if step == 1 {
            files.retain(|name, _| name.parse::<u64>().unwrap() < FILES);
        }
        if step > 0 {
            for (bytes, file) in files.values_mut().zip(0..) {
                let part = 1000..1000 + CHUNK / 10;
                bytes[part.clone()].copy_from_slice(&noise(1000 + step * FILES + file, part.len()));
            }
        }
        let tip = all.last().map(|(id, _)| *id);
        let (id, _) = snapshot_on(&place.open(), &files, tip, &step.to_string());
        all.push((id, files.clone()));
    }
    all
}

fn stored(place: &Place) -> u64 {
    let listed = place.open().objects().list("packs/").unwrap();
    listed.iter().map(|listed| listed.size).sum()
}

/// Removes all but these of a history, and collects; the bytes stored before and after, and the
/// heights of a chunk.
fn thin(sealed: bool, others: u64, of: u64, kept: &[u64]) -> (u64, u64, Vec<usize>) {
    let place = Place::new(sealed.then(|| Seal::generate("k").0));
    let all: Vec<_> = (0..).zip(hot(&place, others, of)).collect();
    let (kept, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|(n, _)| kept.contains(n));
    let gone: Vec<_> = gone.iter().map(|(_, (id, _))| *id).collect();
    remove(&place.open(), &gone);
    let before = stored(&place);
    let done = collect(&place.open());
    assert!(done.rewritten > 0, "{done:?}");
    let mut heights = Vec::new();
    for (n, (id, files)) in &kept {
        assert!(files_of(&place.open(), *id) == *files, "{n}");
        assert!(many_of(&place.open(), *id, 2) == *files, "{n}");
        let chunk = chunks_of(&place.open(), *id)["0"][0];
        let (under, depth) = height(&place.open(), chunk);
        assert!(under <= usize::from(depth) && depth <= CHAIN_MAX + 1);
        heights.push(under);
    }
    assert_good(&place.open());
    let after = stored(&place);
    let again = collect(&place.open());
    assert_eq!((again.packs, again.rewritten), (0, 0));
    (before, after, heights)
}

/// What is removed between two snapshots leaves nothing behind that only deltas need.
#[test]
fn deltas_of_no_snapshot_are_not_kept() {
    for sealed in [false, true] {
        // Twenty plain chunks and eight rounds of deltas of a tenth; then one round.
        let (before, after, heights) = thin(sealed, 0, 9, &[0, 8]);
        assert_eq!(heights, [0, 1]);
        assert!(after * 10 < before * 7, "{after} of {before}");
        // The plain chunks are of no snapshot, but whole packs of them stay.
        let (before, after, heights) = thin(sealed, 0, 16, &[7, 12, 15]);
        assert_eq!(heights, [1, 1, 2]);
        assert!(after * 10 < before * 7, "{after} of {before}");
    }
}

/// Where a plain chunk would have to be moved, one that a snapshot has is written in its place.
#[test]
fn what_stands_on_no_snapshot_is_made_plain() {
    for sealed in [false, true] {
        let (before, after, heights) = thin(sealed, 30, 9, &[8]);
        assert_eq!(heights, [0]);
        assert!(after * 10 < before * 4, "{after} of {before}");
        let (before, after, heights) = thin(sealed, 30, 16, &[7, 12, 15]);
        assert_eq!(heights, [1, 0, 1]);
        assert!(after * 10 < before * 4, "{after} of {before}");
    }
}

/// A base that is whole stays as it is where nothing would be gained.
#[test]
fn plain_bases_of_a_full_pack_stay() {
    let place = Place::new(None);
    let all = hot(&place, 0, 2);
    let before = stored(&place);
    remove(&place.open(), &[all[0].0]);
    let done = collect(&place.open());
    assert_eq!((done.rewritten, done.packs), (0, 0), "{done:?}");
    assert_eq!(stored(&place), before);
    assert_eq!(files_of(&place.open(), all[1].0), all[1].1);
}
