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
    for bytes in files.values_mut() {
        bytes[5] ^= 1;
    }
    let (gone, _) = snapshot_on(&place.open(), &files, Some(base), "");
    for n in 1..40 {
        files.remove(&n.to_string());
    }
    files.get_mut("0").unwrap()[9] ^= 1;
    let (kept, _) = snapshot_on(&place.open(), &files, Some(gone), "");
    let top = chunks_of(&place.open(), kept)["0"][0];
    assert_eq!(height(&place.open(), top), (2, 2));
    remove(&place.open(), &[base, gone]);
    let done = collect(&place.open());
    assert!(done.packs >= 2 && done.rewritten < 12_000, "{done:?}");
    assert_eq!(files_of(&place.open(), kept), files);
    assert_eq!(height(&place.open(), top), (2, 2));
    assert_good(&place.open());
    assert_eq!(collect(&place.open()).rewritten, 0);
}
