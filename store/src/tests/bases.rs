//! What deltas stand on: bases that are missing, damaged, ambiguous or in a circle.

use super::*;
use crate::delta::{self, Form};
use crate::id::{Id, Kind};
use crate::pack::{PackWriter, Part, frame};
use std::collections::HashMap;

/// Adds a pack of these blobs to what the newest snapshot uses, so that it is live. Packs of a low
/// `number` are preferred to those that writers make.
fn add_pack(repository: &Repository, number: u8, blobs: &[(Id, Part, &[u8])]) -> PackName {
    let name = PackName {
        session: [number; 16],
        number: 0,
    };
    let mut pack = PackWriter::new(Vec::new(), name, repository.seal().cloned()).unwrap();
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    for (id, part, body) in blobs {
        let frame = frame::encode(vec![*part], body.to_vec(), &mut compressor);
        pack.append(frame, &[*id]).unwrap();
    }
    let (bytes, sealed) = pack.finish().unwrap();
    repository.objects().create(&name.key(), &bytes).unwrap();
    repository
        .commit_with(Operation::default(), |state| {
            let row = state.snapshots().last().unwrap().clone();
            let lens: HashMap<_, _> = state.packs().map(|p| (p.name, p.len)).collect();
            let usage = state.usage(&row.id).into_iter();
            let mut usage: BTreeMap<_, _> = usage.map(|(n, b)| (n, (lens[&n], b))).collect();
            let before = usage.keys().copied().collect();
            usage.insert(name, (sealed.len, 1));
            state.replace_usage(&before, &HashMap::from([(row.id, usage)]), true)?;
            Ok(())
        })
        .unwrap();
    name
}

fn plain(bytes: &[u8]) -> Part {
    Part::plain(Kind::Chunk, bytes.len())
}

/// `new` as a patch of `base`.
fn patch(depth: u8, base: &[u8], new: &[u8]) -> (Part, Vec<u8>) {
    let mut body = Vec::new();
    assert!(delta::diff(base, new, usize::MAX, &mut body));
    let base = Ids::plain().chunk(base);
    let part = Part {
        form: Form::Patch,
        len: new.len() as u32,
        depth,
        base: Id::from(base).base(),
        ..Part::plain(Kind::Chunk, body.len())
    };
    (part, body)
}

/// What a chunk goes through.
fn versions(first: Vec<u8>, n: usize) -> Vec<Vec<u8>> {
    let mut out = vec![first];
    for at in 1..n {
        let mut next = out[at - 1].clone();
        next[at] ^= 1;
        out.push(next);
    }
    out
}

fn one(bytes: &[u8]) -> Files {
    Files::from([("file".into(), bytes.to_vec())])
}

/// A repository with a snapshot of each version, each in a pack of its own.
fn history(seal: Option<Seal>, versions: &[Vec<u8>]) -> (Place, Vec<SnapshotId>, Vec<ChunkId>) {
    let place = Place::new(seal);
    let mut ids: Vec<SnapshotId> = Vec::new();
    for bytes in versions {
        let tip = ids.last().copied();
        ids.push(snapshot_on(&place.open(), &one(bytes), tip, "").0);
    }
    let repository = place.open();
    let chunks = ids
        .iter()
        .map(|id| chunks_of(&repository, *id)["file"][0])
        .collect();
    (place, ids, chunks)
}

/// The pack of a chunk, and where the payload of its frame begins.
fn pack_of(repository: &Repository, id: ChunkId) -> (PackName, u64) {
    let (_, place) = repository.find(Kind::Chunk, id.into()).unwrap()[0];
    (place.pack, place.payload_offset)
}

#[test]
fn another_id_that_begins_like_a_base_does_no_harm() {
    let versions = versions(noise(1, CHUNK), 3);
    let (place, ids, chunks) = history(None, &versions[..2]);
    let repository = place.open();
    let mut like = Id::from(chunks[0]);
    like.0[31] ^= 1;
    let other = noise(2, CHUNK);
    add_pack(&repository, 0, &[(like, plain(&other), &other)]);
    let (base_pack, _) = pack_of(&repository, chunks[0]);

    let repository = place.open();
    assert_eq!(repository.chunk(chunks[1]).unwrap(), versions[1]);
    assert_eq!(many_of(&repository, ids[1], 2), one(&versions[1]));
    let chain = repository.find(Kind::Chunk, chunks[1].into()).unwrap();
    assert_eq!((chain.len(), chain[1].0), (2, chunks[0].into()));
    // Nothing new is put on a name that means two things.
    let writer = repository.writer().unwrap();
    writer.put_chunk(&versions[2], Some(chunks[0])).unwrap();
    assert_eq!(writer.stats().chunks_delta, 0);
    writer.abort();

    // What is sent and what is kept is the right one.
    let storage = Place::new(None);
    let what = Transfer {
        snapshots: vec![ids[1]],
        ..Transfer::default()
    };
    let usage = repository
        .usage_of(ids[1], repository.snapshot(ids[1]).unwrap().tree)
        .unwrap();
    assert!(usage.contains_key(&base_pack));
    transfer(&repository, &storage.open(), what, &|_| {}).unwrap();
    assert_eq!(files_of(&storage.open(), ids[1]), one(&versions[1]));
    remove(&repository, &[ids[0]]);
    collect(&repository);
    assert_eq!(files_of(&repository, ids[1]), one(&versions[1]));
    assert_eq!(files_of(&place.open(), ids[1]), one(&versions[1]));
}

#[test]
fn two_that_stand_on_each_other_are_an_error() {
    let versions = versions(noise(1, CHUNK), 3);
    let (place, _, _) = history(None, &versions[..1]);
    let (x, y) = (&versions[1], &versions[2]);
    let [x_id, y_id] = [x, y].map(|bytes| Ids::plain().chunk(bytes));
    for (n, (x_depth, y_depth)) in [(1, 1), (2, 1), (1, 2), (255, 255)].into_iter().enumerate() {
        let repository = place.open();
        let number = 2 * n as u8;
        let (part, body) = patch(x_depth, y, x);
        add_pack(&repository, number, &[(x_id.into(), part, &body)]);
        let (part, body) = patch(y_depth, x, y);
        add_pack(&repository, number + 1, &[(y_id.into(), part, &body)]);
        for repository in [repository, place.open()] {
            for id in [x_id, y_id] {
                let error = repository.chunk(id).unwrap_err();
                assert!(matches!(error, Error::BaseMissing { .. }), "{error}");
            }
            // Nothing passes for stored that cannot be read.
            let writer = repository.writer().unwrap();
            writer.put_chunk(x, Some(y_id)).unwrap();
            let stats = writer.stats();
            assert_eq!((stats.chunks_new, stats.chunks_delta), (1, 0));
        }
    }
    add_pack(&place.open(), 99, &[(y_id.into(), plain(y), y)]);
    assert_eq!(place.open().chunk(x_id).unwrap(), *x);
    assert_eq!(place.open().chunk(y_id).unwrap(), *y);
}

#[test]
fn many_copies_of_a_chain_without_a_base_are_soon_given_up() {
    let versions = versions(noise(1, CHUNK), 25);
    let (place, _, _) = history(None, &versions[..1]);
    let repository = place.open();
    let deltas: Vec<_> = versions[1..]
        .windows(2)
        .zip(1..)
        .map(|(two, depth)| {
            let (part, body) = patch(depth, &two[0], &two[1]);
            (Ids::plain().chunk(&two[1]), part, body)
        })
        .collect();
    for number in 0..4 {
        let blobs: Vec<_> = deltas
            .iter()
            .map(|(id, part, body)| (Id::from(*id), *part, &body[..]))
            .collect();
        add_pack(&repository, number, &blobs);
    }
    let (top, ..) = deltas.last().unwrap();
    let error = repository.chunk(*top).unwrap_err();
    assert!(matches!(error, Error::BaseMissing { .. }), "{error}");
    // Nor do many ways to a damaged one take long.
    let bad = noise(3, CHUNK);
    let id = Ids::plain().chunk(&versions[1]);
    let name = add_pack(&repository, 9, &[(id.into(), plain(&bad), &bad)]);
    let error = repository.chunk(*top).unwrap_err();
    assert!(
        matches!(error, Error::BlobDamaged { pack, .. } if pack == name),
        "{error}"
    );
}

/// Rows, as it were: they compress.
fn rows() -> Vec<u8> {
    let rows = (0..).map(|n| format!("{n} row {}\n", n * 7919 % 1000));
    rows.flat_map(String::into_bytes).take(CHUNK).collect()
}

#[test]
fn a_damaged_base_is_named_and_mended() {
    let (seal, _) = Seal::generate("k");
    for (first, seal) in [
        (noise(1, CHUNK), None),
        (rows(), None),
        (rows(), Some(seal)),
    ] {
        let versions = versions(first, 4);
        let (place, ids, chunks) = history(seal, &versions[..3]);
        let repository = place.open();
        let elsewhere = Files::from([("other".into(), noise(7, CHUNK))]);
        let (good, _) = snapshot_on(&repository, &elsewhere, None, "");
        let (bad_pack, at) = pack_of(&repository, chunks[0]);
        let path = repository.objects().local_path(&bad_pack.key()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at as usize + 100] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();

        let repository = place.open();
        for id in &chunks {
            let error = repository.chunk(*id).unwrap_err();
            assert!(
                matches!(error, Error::BlobDamaged { pack, .. } if pack == bad_pack),
                "{error}"
            );
        }
        let report = repository.verify(Verify::ReadData).unwrap();
        let packs: Vec<_> = report.bad_packs.iter().map(|(name, _)| *name).collect();
        assert_eq!(packs, [bad_pack]);
        let snapshots: Vec<_> = report.bad_snapshots.iter().map(|(id, _)| *id).collect();
        assert_eq!(snapshots, ids);

        // What comes next stands on its own.
        let (next, stats) = snapshot_on(&repository, &one(&versions[3]), Some(ids[2]), "next");
        assert_eq!((stats.chunks_new, stats.chunks_delta), (1, 0));
        for repository in [&repository, &place.open()] {
            assert_eq!(files_of(repository, next), one(&versions[3]));
            assert_eq!(files_of(repository, good), elsewhere);
        }
    }
}

#[test]
fn a_whole_copy_of_a_damaged_base_serves() {
    for first in [noise(1, CHUNK), rows()] {
        let versions = versions(first, 3);
        let (place, _, chunks) = history(None, &versions);
        let repository = place.open();
        let whole = &versions[0];
        let (id, part) = (chunks[0].into(), plain(whole));
        let name = add_pack(&repository, 0, &[(id, part, whole)]);
        assert_eq!(pack_of(&repository, chunks[0]).0, name);
        let path = repository.objects().local_path(&name.key()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        for (id, bytes) in chunks.iter().zip(&versions).skip(1) {
            assert_eq!(place.open().chunk(*id).unwrap(), *bytes);
        }
        // Also when it goes away while it is known.
        let repository = place.open();
        assert_eq!(pack_of(&repository, chunks[0]).0, name);
        std::fs::remove_file(&path).unwrap();
        for (id, bytes) in chunks.iter().zip(&versions).skip(1) {
            assert_eq!(repository.chunk(*id).unwrap(), *bytes);
        }
    }
}

#[test]
fn a_lost_pack_takes_only_what_stands_on_it() {
    let versions = versions(noise(1, CHUNK), 4);
    let (place, ids, chunks) = history(None, &versions[..3]);
    let elsewhere = Files::from([("other".into(), noise(7, CHUNK))]);
    let (good, _) = snapshot_on(&place.open(), &elsewhere, None, "");
    let known = place.open();
    let (lost, _) = pack_of(&known, chunks[0]);
    known.objects().delete(&lost.key()).unwrap();
    for id in &chunks {
        let error = known.chunk(*id).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(&lost.to_string()), "{error}");
    }

    let repository = place.open();
    let missing = repository.chunk(chunks[0]).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
    for id in &chunks[1..] {
        let error = repository.chunk(*id).unwrap_err();
        assert!(matches!(error, Error::BaseMissing { .. }), "{error}");
    }
    assert_eq!(files_of(&repository, good), elsewhere);
    for how in [Verify::Quick, Verify::ReadData] {
        let report = place.open().verify(how).unwrap();
        let packs: Vec<_> = report.bad_packs.iter().map(|(name, _)| *name).collect();
        assert_eq!(packs, [lost]);
        let snapshots: Vec<_> = report.bad_snapshots.iter().map(|(id, _)| *id).collect();
        assert_eq!(snapshots, ids);
    }
    // A collection goes by what snapshots say they need, so damage takes nothing with it.
    assert_eq!(collect(&place.open()).packs, 0);
    assert_eq!(files_of(&place.open(), good), elsewhere);
    // What was lost comes back with the next snapshot that has it, as does all that stands on it.
    remove(&repository, &ids[1..]);
    let (back, _) = snapshot_on(&place.open(), &one(&versions[0]), None, "back");
    assert_eq!(files_of(&place.open(), back), one(&versions[0]));
    let report = place.open().verify(Verify::ReadData).unwrap();
    let snapshots: Vec<_> = report.bad_snapshots.iter().map(|(id, _)| *id).collect();
    assert_eq!(snapshots, ids[..1], "which says that it needs what is lost");
    assert_eq!(place.open().chunk(chunks[0]).unwrap(), versions[0]);
    remove(&repository, &ids[..1]);
    collect(&place.open());
    assert_good(&place.open());
    assert_eq!(files_of(&place.open(), good), elsewhere);
}
