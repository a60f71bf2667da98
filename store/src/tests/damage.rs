//! Damage of every kind: what is told of it, what comes back, and that all else stays readable.

use super::*;
use crate::damage::Lost;
use crate::id::Kind;
use crate::pack::{TRAILER_LEN, Trailer};
use crate::root::PackRow;

mod log;
mod several;

fn repair<'a>(sources: &[&'a dyn Source]) -> Repair<'a> {
    Repair {
        operation: Operation {
            verb: "repair".into(),
            ..Operation::default()
        },
        sources: sources.to_vec(),
        summary: &|snapshot| snapshot.body.clone(),
    }
}

pub(super) fn mend(repository: &Repository, sources: &[&dyn Source]) -> Repaired {
    repository.repair(&repair(sources), &|_| {}).unwrap()
}

/// What was written may be shared with another place by a hard link.
pub(super) fn rewrite(repository: &Repository, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = repository.objects().local_path(key).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

fn home_or(dir: &Path) -> Repository {
    match Repository::exists(&Directory::new(dir)).unwrap() {
        true => reopen(dir),
        false => home(dir),
    }
}

fn packs_of(repository: &Repository) -> Vec<PackName> {
    let state = repository.state().unwrap();
    state.packs().map(|row| row.name).collect()
}

/// Three versions of a cluster, the later two as differences.
fn history(place: &Place) -> Vec<(SnapshotId, Files)> {
    let mut out: Vec<(SnapshotId, Files)> = Vec::new();
    for n in 0..3u8 {
        let mut big = noise(1, 40 * CHUNK);
        for at in (0..big.len()).step_by(3 * CHUNK) {
            big[at + 5] = n;
        }
        let files = Files::from([
            ("base/big".into(), big),
            ("base/rows".into(), format!("{n} row\n").repeat(9000).into()),
            (format!("own{n}"), noise(50 + u64::from(n), 3 * CHUNK + 7)),
            ("small".into(), vec![n; 10]),
        ]);
        // Directories have nodes of their own.
        let parent = out.last().map(|(id, _)| *id);
        let (id, _) = snapshot_in_directories(&place.open(), &files, parent);
        out.push((id, files));
    }
    out
}

fn snapshot_in_directories(
    repository: &Repository,
    files: &Files,
    parent: Option<SnapshotId>,
) -> (SnapshotId, TreeId) {
    let writer = repository.writer().unwrap();
    let before = parent.map(|id| chunks_of(repository, id));
    let before = before.unwrap_or_default();
    let mut listing = Listing::from([
        (String::new(), Node::Directory { mode: 0o700 }),
        ("base".into(), Node::Directory { mode: 0o700 }),
    ]);
    for (path, bytes) in files {
        let old = before.get(path).map_or(&[][..], Vec::as_slice);
        let file = if bytes.len() <= SMALL.inline_limit as usize {
            writer.put_inline(0o600, bytes.clone())
        } else {
            let chunks = bytes.chunks(CHUNK).zip(0..);
            let put = |(chunk, at)| {
                let base = old.get::<usize>(at).copied();
                writer.put_chunk(chunk, base).unwrap()
            };
            let ids: Vec<_> = chunks.map(put).collect();
            let size = bytes.len() as u64;
            writer.put_file(0o600, size, &ids, old).unwrap()
        };
        listing.insert(path.clone(), Node::File(file));
    }
    let tree = writer.put_tree(&listing).unwrap();
    let snapshot = Snapshot {
        parents: parent.into_iter().collect(),
        ..sample(tree)
    };
    let tip = repository.state().unwrap().get_ref(MAIN);
    let id = repository.ids().snapshot(&snapshot.encode());
    let refs = vec![RefChange {
        name: MAIN.into(),
        from: tip,
        to: Some(id),
    }];
    writer
        .commit(snapshot, vec![9], refs, Operation::default())
        .unwrap();
    (id, tree)
}

fn assert_whole(place: &Place, history: &[(SnapshotId, Files)]) {
    assert_good(&place.open());
    for (id, files) in history {
        assert!(files_of(&place.open(), *id) == *files, "{id}");
    }
}

/// A copy of all of a place, as a push leaves it.
fn copy_of(place: &Place) -> Place {
    let copy = Place::new(place.seal.clone());
    let (from, to) = (place.open(), copy.open());
    let state = from.state().unwrap();
    let what = Transfer {
        snapshots: state.snapshots().map(|row| row.id).collect(),
        refs: vec![RefChange {
            name: MAIN.into(),
            from: None,
            to: state.get_ref(MAIN),
        }],
        ..Transfer::default()
    };
    transfer(&from, &to, what, &|_| {}).unwrap();
    copy
}

const CLASSES: usize = 13;

/// One offset in every class of bytes that a pack has.
fn classes(
    repository: &Repository,
    name: PackName,
    bytes: &[u8],
) -> [(&'static str, usize); CLASSES] {
    let trailer: &[u8; TRAILER_LEN] = bytes.last_chunk().unwrap();
    let trailer = Trailer::decode(trailer, bytes.len() as u64).unwrap();
    let directory = repository.directory(name, bytes.len() as u64).unwrap();
    let frame = &directory.frames[0];
    let at = trailer.directory_offset as usize;
    let end = bytes.len() - TRAILER_LEN;
    [
        ("magic", 0),
        ("reserved bytes of the header", 13),
        ("magic of a frame", frame.offset as usize),
        ("length in a frame", frame.offset as usize + 9),
        ("check of a frame", frame.offset as usize + 17),
        ("payload", frame.payload_offset as usize + 3),
        ("last payload", at - 1),
        ("directory", at + 4),
        ("offset of the directory", end),
        ("number of blobs", end + 20),
        ("hash of the content", end + 25),
        ("hash of the directory", end + 41),
        ("magic of the trailer", end + 60),
    ]
}

/// Damages one byte of each class in each pack, repairs, and sees that all is whole.
fn every_class(seal: Option<Seal>, heal: impl Fn(&Place)) {
    let place = Place::new(seal);
    let history = history(&place);
    // A pack that is healed makes way for another.
    for number in 0..CLASSES {
        let names = packs_of(&place.open());
        let name = names[number % names.len()];
        let key = name.key();
        let path = place.open().objects().local_path(&key).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (class, at) = classes(&place.open(), name, &bytes)[number];
        rewrite(&place.open(), &key, |bytes| bytes[at] ^= 0x21);
        let report = place.open().verify(Verify::ReadData).unwrap();
        assert_eq!(report.bad_packs.len(), 1, "{class} of {name}: {report:?}");
        heal(&place);
        assert_whole(&place, &history);
    }
}

#[test]
fn a_byte_of_every_class_heals_by_the_same_pack_from_elsewhere() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let original = Place::new(seal.clone());
        let history = history(&original);
        let other = copy_of(&original);
        every_class_of(&original, &history, |place| {
            let done = mend(&place.open().alone(), &[&other.open()]);
            let brought: Vec<_> = done.from.values().collect();
            assert_eq!((brought.len(), brought[0].packs), (1, 1));
            assert!(done.after.is_good() && done.retired.is_empty());
        });
    }
}

/// As [`every_class`], of a place that is there.
fn every_class_of(place: &Place, history: &[(SnapshotId, Files)], heal: impl Fn(&Place)) {
    for name in packs_of(&place.open()) {
        let path = place.open().objects().local_path(&name.key()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for (class, at) in classes(&place.open(), name, &bytes) {
            rewrite(&place.open(), &name.key(), |bytes| bytes[at] ^= 0x21);
            let report = place.open().verify(Verify::ReadData).unwrap();
            assert_eq!(report.bad_packs.len(), 1, "{class} of {name}: {report:?}");
            heal(place);
            assert_whole(place, history);
            assert!(std::fs::read(&path).unwrap() == bytes, "{class} of {name}");
        }
    }
}

/// Another repository has the same content in packs of its own, so single blobs are brought.
#[test]
fn a_byte_of_every_class_heals_blob_by_blob() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let elsewhere = Place::new(seal.clone());
        history(&elsewhere);
        every_class(seal, |place| {
            let done = mend(&place.open().alone(), &[&elsewhere.open()]);
            assert!(done.after.is_good(), "{:?}", done.after);
            // What is retired goes, and nothing that is needed with it.
            collect(&place.open());
        });
    }
}

/// The place itself has all that it needs: deltas and nodes are what is left of the pack.
#[test]
fn a_lost_directory_is_made_anew_from_the_frames() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let place = Place::new(seal);
        let history = history(&place);
        for (name, knows) in packs_of(&place.open())
            .into_iter()
            .zip([false, true, false])
        {
            // An index may know what is in the pack.
            let repository = place.open().alone();
            repository.state().unwrap();
            if knows {
                repository.ensure_indexed().unwrap();
            }
            rewrite(&place.open(), &name.key(), |bytes| {
                let len = bytes.len();
                bytes[len - TRAILER_LEN..].fill(0);
            });
            let report = place.open().verify(Verify::Quick).unwrap();
            assert_eq!(report.bad_packs.len(), 1);
            assert!(!report.bad_snapshots.is_empty());
            let done = mend(&repository, &[]);
            assert!(done.after.is_good(), "{:?}", done.after);
            assert_eq!(done.retired, [name]);
            assert_whole(&place, &history);
        }
        collect(&place.open());
        assert_whole(&place, &history);
    }
}

/// What an index knows of a pack without a directory, and nobody finds in it, is not moved. So the
/// pack stays.
#[test]
fn a_pack_of_which_only_an_index_knows_stays() {
    let place = Place::new(None);
    history(&place);
    let repository = place.open().alone();
    repository.state().unwrap();
    repository.ensure_indexed().unwrap();
    let name = packs_of(&repository)[0];
    rewrite(&repository, &name.key(), |bytes| {
        let len = bytes.len();
        bytes[len - TRAILER_LEN..].fill(0);
        bytes[16] ^= 1;
    });
    let done = mend(&repository, &[]);
    assert!(!done.after.is_good() && done.retired.is_empty());
    assert!(packs_of(&place.open()).contains(&name));
}

#[test]
fn of_a_cut_pack_all_before_the_cut_comes_back() {
    let place = Place::new(None);
    let history = history(&place);
    let name = packs_of(&place.open())[0];
    let directory = {
        let repository = place.open();
        let len = repository.state().unwrap().packs().next().unwrap().len;
        repository.directory(name, len).unwrap()
    };
    let lost = &directory.frames[4];
    rewrite(&place.open(), &name.key(), |bytes| {
        bytes.truncate(lost.end() as usize - 1);
    });
    // Behind the cut was what names the chunks; without it they are of no use.
    let done = mend(&place.open().alone(), &[]);
    assert!(!done.after.is_good() && done.retired.is_empty());
    let listed = place.open().objects().list("packs/").unwrap();
    assert_eq!(listed.len(), packs_of(&place.open()).len());
    let elsewhere = Place::new(None);
    self::history(&elsewhere);
    let done = mend(&place.open().alone(), &[&Nodes(elsewhere.open())]);
    let lost: Vec<_> = done.after.damage.iter().map(|d| &d.lost).collect();
    assert!(lost.iter().all(|lost| matches!(lost, Lost::File { .. })));
    // The frames before it are read by their new names, whatever became of the old pack.
    let repository = place.open();
    for blob in directory.frames[..4].iter().flat_map(|f| &f.blobs) {
        let mut bytes = Vec::new();
        repository
            .read_blob(blob.part.kind, blob.id, &mut bytes)
            .unwrap();
    }
    // A pack of which something is missed stays, and so it is told of until it is healed.
    assert!(done.retired.is_empty());
    let done = mend(&place.open().alone(), &[&elsewhere.open()]);
    assert!(done.after.is_good(), "{:?}", done.after);
    assert_eq!(done.retired, [name]);
    assert_whole(&place, &history);
}

/// A pack with two damaged chunks, of which one is brought.
#[test]
fn what_was_healed_outlives_a_collection_beside_what_was_not() {
    #[derive(Debug)]
    struct One(ChunkId, Vec<u8>);
    impl Source for One {
        fn name(&self) -> String {
            "one".into()
        }
        fn pack(&self, _: PackName, _: u64, _: &Path) -> Result<bool> {
            Ok(false)
        }
        fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
            Ok((wanted.id == self.0.into()).then(|| self.1.clone()))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let id = snapshot(&home(dir.path()), &example(0), "").id;
    let chunks = chunks_of(&reopen(dir.path()), id)["shared"].clone();
    for chunk in &chunks[1..3] {
        let repository = reopen(dir.path());
        let at = repository.locate(&(*chunk).into()).unwrap().unwrap()[0].1;
        rewrite(&repository, &at.pack.key(), |bytes| {
            bytes[at.payload_offset as usize + 9] ^= 4;
        });
    }
    let bytes = example(0)["shared"][1 << 16..2 << 16].to_vec();
    let lost = |offset: u64, len: u64| {
        let size = 2_000_000;
        let parts = vec![(offset, len)];
        [Lost::File { size, parts }]
    };
    let told = |damage: &[Damage]| damage.iter().map(|d| d.lost.clone()).collect::<Vec<_>>();
    let done = mend(&reopen(dir.path()).alone(), &[&One(chunks[1], bytes)]);
    assert_eq!(told(&done.before.damage), lost(1 << 16, 2 << 16));
    assert_eq!(told(&done.after.damage), lost(2 << 16, 1 << 16));
    collect(&reopen(dir.path()));
    let report = reopen(dir.path()).verify(Verify::ReadData).unwrap();
    assert_eq!(told(&report.damage), lost(2 << 16, 1 << 16));
}

#[test]
fn who_checks_what_is_stored_stores_damaged_chunks_anew() {
    let dir = tempfile::tempdir().unwrap();
    let id = snapshot(&home(dir.path()), &example(0), "").id;
    let chunk = chunks_of(&reopen(dir.path()), id)["shared"][3];
    let repository = reopen(dir.path());
    let at = repository.locate(&chunk.into()).unwrap().unwrap()[0].1;
    rewrite(&repository, &at.pack.key(), |bytes| {
        bytes[at.payload_offset as usize + 9] ^= 4;
    });
    let again = |check_stored| {
        let repository = reopen(dir.path());
        let options = WriterOptions {
            check_stored,
            ..WriterOptions::default()
        };
        let writer = repository.writer_with(options).unwrap();
        let chunk = &example(0)["shared"][3 << 16..4 << 16];
        let id = writer.put_chunk(chunk, Some(chunk_id(&repository, chunk)));
        id.unwrap();
        let tree = put(&writer, &example(0));
        let new = writer.stats().chunks_new;
        let snapshot = Snapshot {
            message: format!("{check_stored}"),
            ..sample(tree)
        };
        writer
            .commit(snapshot, vec![], vec![], Operation::default())
            .unwrap();
        new
    };
    assert_eq!(again(false), 0);
    assert!(reopen(dir.path()).chunk(chunk).is_err());
    assert_eq!(again(true), 1);
    assert!(reopen(dir.path()).chunk(chunk).is_ok());
    let report = reopen(dir.path()).verify(Verify::ReadData).unwrap();
    assert_eq!((report.bad_packs.len(), report.damage.len()), (1, 0));
}

fn chunk_id(repository: &Repository, bytes: &[u8]) -> ChunkId {
    repository.ids().chunk(bytes)
}

/// A place that has all but chunks.
#[derive(Debug)]
struct Nodes(Repository);

impl Source for Nodes {
    fn name(&self) -> String {
        "nodes".into()
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        match wanted.kind {
            Kind::Chunk => Ok(None),
            _ => self.0.blob(wanted),
        }
    }
}

#[test]
fn damage_names_the_files_and_the_rest_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let history: Vec<_> = (1..4u64)
        .map(|n| {
            let mut files = example(0);
            files.insert(format!("own{n}"), noise(50 + n, (3 << 16) + 7));
            (snapshot(&home_or(dir.path()), &files, "").id, files)
        })
        .collect();
    let repository = reopen(dir.path());
    let own = chunks_of(&repository, history[1].0)["own2"][1];
    let found = repository.locate(&own.into()).unwrap().unwrap()[0].1;
    rewrite(&repository, &found.pack.key(), |bytes| {
        bytes[found.payload_offset as usize + 9] ^= 4;
    });
    let repository = reopen(dir.path());
    let told = |report: &VerifyReport| {
        let lost = Lost::File {
            size: (3 << 16) + 7,
            parts: vec![(1 << 16, 1 << 16)],
        };
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        let damage = &report.damage[0];
        assert_eq!((damage.path.as_str(), &damage.lost), ("own2", &lost));
        assert_eq!(damage.snapshots, [history[1].0]);
    };
    let report = repository.verify(Verify::ReadData).unwrap();
    told(&report);
    assert_eq!(report.read_bytes, {
        // All but directories and trailers, which every look reads.
        let state = repository.state().unwrap();
        let content = |row: &PackRow| {
            let objects = &**repository.objects();
            let opened = pack::reader::open(objects, row.name, row.len, None);
            opened.unwrap().0.directory_offset
        };
        state.packs().map(content).sum::<u64>()
    });
    // Without a place to bring it from nothing is worse than before.
    let done = mend(&reopen(dir.path()).alone(), &[]);
    told(&done.after);
    assert!(!done.did_anything());
    for (id, files) in [&history[0], &history[2]] {
        assert!(files_of(&reopen(dir.path()), *id) == *files);
    }
    let listing = repository.listing(repository.snapshot(history[1].0).unwrap().tree);
    for (path, node) in listing.unwrap() {
        if let Node::File(file) = node {
            assert_eq!(repository.file_bytes(&file).is_ok(), path != "own2");
        }
    }
}

/// The sources are asked, not believed.
#[test]
fn a_source_that_lies_heals_nothing() {
    #[derive(Debug)]
    struct Liar(Repository);
    impl Source for Liar {
        fn name(&self) -> String {
            "liar".into()
        }
        fn pack(&self, name: PackName, len: u64, file: &Path) -> Result<bool> {
            let there = self.0.pack(name, len, file)?;
            if there {
                let mut bytes = std::fs::read(file).unwrap();
                bytes[200] ^= 1;
                std::fs::write(file, bytes).unwrap();
            }
            Ok(there)
        }
        fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
            let bytes = self.0.blob(wanted)?;
            Ok(bytes.map(|mut bytes| {
                bytes[0] ^= 1;
                bytes
            }))
        }
    }
    let place = Place::new(None);
    let history = history(&place);
    let other = copy_of(&place);
    let name = packs_of(&place.open())[0];
    place.open().objects().delete(&name.key()).unwrap();
    let liar = Liar(other.open());
    let done = mend(&place.open().alone(), &[&liar]);
    assert_eq!(done.after.bad_snapshots.len(), 3);
    assert!(done.from.is_empty());
    let done = mend(&place.open().alone(), &[&liar, &other.open()]);
    assert!(done.after.is_good());
    assert_whole(&place, &history);
    // What was only written, and not named, leaves no trace.
    let listed = place.open().objects().list("packs/").unwrap();
    assert_eq!(listed.len(), packs_of(&place.open()).len());
}

/// A storage heals from the home under new names; the old ones are dead for everybody.
#[test]
fn a_storage_heals_under_new_names() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let local = Place::new(seal);
        let history = history(&local);
        let storage = copy_of(&local);
        let packs = packs_of(&storage.open());
        storage.open().objects().delete(&packs[0].key()).unwrap();
        rewrite(&storage.open(), &packs[1].key(), |bytes| bytes[300] ^= 1);
        let asleep = storage.open();
        asleep.state().unwrap();
        let done = mend(&storage.open(), &[&local.open()]);
        assert!(done.after.is_good(), "{:?}", done.after);
        let old: Vec<_> = done.renamed.iter().map(|(old, _)| *old).collect();
        assert_eq!(old, packs[..2]);
        assert_whole(&storage, &history);
        // Who had looked before finds it again, and a home that pushes gets other names.
        assert!(files_of(&asleep, history[0].0) == history[0].1);
        let state = storage.open().state().unwrap();
        assert!(packs[..2].iter().all(|name| state.is_used_up(name)));
        let home = local.open().alone();
        home.rename_packs_to(&done.renamed, Operation::default())
            .unwrap();
        assert_whole(&local, &history);
        let (next, _) = snapshot_in_directories(&home, &history[1].1, Some(history[2].0));
        let what = Transfer {
            snapshots: vec![next],
            ..Transfer::default()
        };
        let sent = transfer(&home, &storage.open(), what, &|_| {}).unwrap();
        assert_eq!(sent.packs, 1, "only what is new travels");
        let how = Collect {
            grace: 0,
            ..Collect::at(0)
        };
        let freed = storage.open().collect(Operation::default(), how).unwrap();
        assert_eq!(freed.packs, 2);
        assert_whole(&storage, &history);
    }
}

/// Single blobs at a storage, while another commits.
#[test]
fn a_storage_heals_blob_by_blob() {
    let elsewhere = Place::new(None);
    let history = history(&elsewhere);
    let storage = Place::new(None);
    let again = self::history(&storage);
    assert_eq!(again[2].0, history[2].0, "ids depend on plain bytes alone");
    let packs = packs_of(&storage.open());
    rewrite(&storage.open(), &packs[0].key(), |bytes| bytes[200] ^= 1);
    let done = mend(&storage.open(), &[&elsewhere.open()]);
    assert!(done.after.is_good(), "{:?}", done.after);
    assert_eq!(done.retired, packs[..1]);
    assert!(storage.open().state().unwrap().is_used_up(&packs[0]));
    assert_whole(&storage, &history);
}

#[test]
fn a_sample_is_a_part_and_never_nothing() {
    let place = Place::new(None);
    let repository = place.open();
    let files: Files = (0..40)
        .map(|n| (format!("f{n}"), noise(n, 2 << 20)))
        .collect();
    snapshot_on(&repository, &files, None, "");
    let all = repository.verify(Verify::ReadData).unwrap().read_bytes;
    let read = |part| {
        let report = repository.verify(Verify::Sample(part)).unwrap();
        assert!(report.is_good());
        report.read_bytes
    };
    assert!(read(1) > 0);
    // One draw of these dozen pieces may well take none, or all.
    let part: u64 = (0..8).map(|_| read(3_000)).sum();
    let all_8 = 8 * all;
    assert!(
        part > all_8 / 50 && part < all_8 * 9 / 10,
        "{part} of {all_8}"
    );
    assert_eq!(read(10_000), all);
}

fn latest(repository: &Repository) -> (u64, String) {
    let roots = repository.objects().list("roots/").unwrap();
    let key = roots.last().unwrap().key.clone();
    (key[6..].parse().unwrap(), key)
}
