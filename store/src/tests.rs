//! The store as a whole, in temporary directories and in memory.

use crate::object::snapshot::sample;
use crate::objects::{Directory, Environment, OpenOptions, StorageUrl};
use crate::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

mod arriving;
mod bases;
mod bulk;
mod chains;
mod collection;
mod crash;
mod cut;
mod damage;
mod dice;
mod histories;
mod limits;
mod meanwhile;
mod mended;
mod parts;
mod repacking;
mod repairs;
mod restores;
mod roots;
mod segments;
mod sim;

pub(crate) use dice::Dice;

const MAIN: &str = "branch/main";

fn home(dir: &Path) -> Repository {
    let objects = Arc::new(Directory::new(dir));
    Repository::create(
        objects,
        Params::default(),
        None,
        IndexChoice::Memory,
        Operation::default(),
    )
    .unwrap()
}

fn reopen(dir: &Path) -> Repository {
    Repository::open(Arc::new(Directory::new(dir)), None, IndexChoice::Memory).unwrap()
}

fn in_memory(name: &str) -> Repository {
    let url = StorageUrl::parse(&format!("memory://{name}"), Path::new("/")).unwrap();
    let objects = url
        .open(&Environment(BTreeMap::new()), &OpenOptions::default())
        .unwrap();
    Repository::create(
        objects,
        Params::default(),
        None,
        IndexChoice::Memory,
        Operation::default(),
    )
    .unwrap()
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A cluster in small: path → bytes.
type Files = BTreeMap<String, Vec<u8>>;

fn put(writer: &Writer, files: &Files) -> TreeId {
    let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
    for (path, bytes) in files {
        let file = if bytes.len() <= 1024 {
            writer.put_inline(0o600, bytes.clone())
        } else {
            let ids: Vec<_> = bytes
                .chunks(64 << 10)
                .map(|c| writer.put_chunk(c, None).unwrap())
                .collect();
            writer
                .put_file(0o600, bytes.len() as u64, &ids, &[])
                .unwrap()
        };
        listing.insert(path.clone(), Node::File(file));
    }
    writer.put_tree(&listing).unwrap()
}

fn snapshot(repository: &Repository, files: &Files, message: &str) -> Committed {
    let writer = repository.writer().unwrap();
    let tree = put(&writer, files);
    let tip = repository.state().unwrap().get_ref(MAIN);
    let snapshot = Snapshot {
        parents: tip.into_iter().collect(),
        message: message.into(),
        ..sample(tree)
    };
    let refs = vec![RefChange {
        name: MAIN.into(),
        from: tip,
        to: None,
    }];
    let id = repository.ids().snapshot(&snapshot.encode());
    let refs = refs
        .into_iter()
        .map(|r| RefChange { to: Some(id), ..r })
        .collect();
    writer
        .commit(snapshot, vec![1], refs, Operation::default())
        .unwrap()
}

/// Small chunks, so that files of several are short.
const SMALL: Params = Params {
    chunk_size: 8 << 10,
    inline_limit: 1 << 10,
};
const CHUNK: usize = SMALL.chunk_size as usize;

/// A directory with a repository of small chunks, sealed or not, which many programs open.
struct Place {
    dir: tempfile::TempDir,
    seal: Option<Seal>,
}

impl Place {
    fn new(seal: Option<Seal>) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let objects = Arc::new(Directory::new(dir.path()));
        let index = IndexChoice::Memory;
        Repository::create(objects, SMALL, seal.clone(), index, Operation::default()).unwrap();
        Place { dir, seal }
    }

    fn open(&self) -> Repository {
        let objects = Arc::new(Directory::new(self.dir.path()));
        Repository::open(objects, self.seal.clone(), IndexChoice::Memory).unwrap()
    }
}

/// A bucket in memory of its own.
fn bucket() -> Arc<dyn Objects> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("memory://bucket-{n}");
    let url = StorageUrl::parse(&name, Path::new("/")).unwrap();
    let none = Environment(BTreeMap::new());
    url.open(&none, &OpenOptions::default()).unwrap()
}

/// The chunks of every file of a snapshot.
type Chunks = BTreeMap<String, Vec<ChunkId>>;

fn chunks_of(repository: &Repository, id: SnapshotId) -> Chunks {
    try_chunks_of(repository, id).unwrap()
}

fn try_chunks_of(repository: &Repository, id: SnapshotId) -> Result<Chunks> {
    let tree = repository.snapshot(id)?.tree;
    let mut chunks = Chunks::new();
    for (path, node) in repository.listing(tree)? {
        if let Node::File(file) = node {
            chunks.insert(path, repository.chunk_ids(&file)?);
        }
    }
    Ok(chunks)
}

/// Puts files, each chunk over the one that was at its place before.
fn put_on(writer: &Writer, files: &Files, before: &Chunks) -> TreeId {
    let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
    for (path, bytes) in files {
        let old = before.get(path).map_or(&[][..], Vec::as_slice);
        let file = if bytes.len() <= SMALL.inline_limit as usize {
            writer.put_inline(0o600, bytes.clone())
        } else {
            let ids: Vec<_> = bytes
                .chunks(CHUNK)
                .zip(0..)
                .map(|(chunk, at)| {
                    let base = old.get::<usize>(at).copied();
                    writer.put_chunk(chunk, base).unwrap()
                })
                .collect();
            let size = bytes.len() as u64;
            writer.put_file(0o600, size, &ids, old).unwrap()
        };
        listing.insert(path.clone(), Node::File(file));
    }
    writer.put_tree(&listing).unwrap()
}

/// A snapshot over `parent`, which moves no ref.
fn snapshot_on(
    repository: &Repository,
    files: &Files,
    parent: Option<SnapshotId>,
    message: &str,
) -> (SnapshotId, Stats) {
    let writer = repository.writer().unwrap();
    let before = parent.map(|id| chunks_of(repository, id));
    let tree = put_on(&writer, files, &before.unwrap_or_default());
    let stats = writer.stats();
    let snapshot = Snapshot {
        parents: parent.into_iter().collect(),
        message: message.into(),
        ..sample(tree)
    };
    let done = writer
        .commit(snapshot, vec![], vec![], Operation::default())
        .unwrap();
    (done.id, stats)
}

/// A snapshot over `parent` with a summary, which moves no ref; errors of the store are given.
fn try_snapshot(
    repository: &Repository,
    files: &Files,
    parent: Option<SnapshotId>,
    message: &str,
    summary: Vec<u8>,
) -> Result<SnapshotId> {
    let writer = repository.writer()?;
    let before = parent.map(|id| try_chunks_of(repository, id));
    let before = before.transpose()?.unwrap_or_default();
    let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
    for (path, bytes) in files {
        let old = before.get(path).map_or(&[][..], Vec::as_slice);
        let file = if bytes.len() <= SMALL.inline_limit as usize {
            writer.put_inline(0o600, bytes.clone())
        } else {
            let mut ids = Vec::new();
            for (chunk, at) in bytes.chunks(CHUNK).zip(0..) {
                ids.push(writer.put_chunk(chunk, old.get::<usize>(at).copied())?);
            }
            writer.put_file(0o600, bytes.len() as u64, &ids, old)?
        };
        listing.insert(path.clone(), Node::File(file));
    }
    let snapshot = Snapshot {
        parents: parent.into_iter().collect(),
        message: message.into(),
        ..sample(writer.put_tree(&listing)?)
    };
    let done = writer.commit(snapshot, summary, vec![], Operation::default())?;
    Ok(done.id)
}

fn remove(repository: &Repository, ids: &[SnapshotId]) {
    let change = Change {
        remove: ids.to_vec(),
        ..Change::default()
    };
    repository.commit(change).unwrap();
}

/// A whole collection, as a home whose lock is held does it.
fn collect(repository: &Repository) -> Collected {
    try_collect(repository).unwrap()
}

fn try_collect(repository: &Repository) -> Result<Collected> {
    let alone = repository.clone().alone();
    alone.collect(Operation::default(), no_grace())
}

fn no_grace() -> Collect {
    Collect {
        grace: 0,
        ..Collect::at(0)
    }
}

#[track_caller]
fn assert_good(repository: &Repository) {
    let report = repository.verify(Verify::ReadData).unwrap();
    assert!(report.is_good(), "{report:?}");
}

/// The same through many threads and batches.
fn many_of(repository: &Repository, id: SnapshotId, threads: usize) -> Files {
    let tree = repository.snapshot(id).unwrap().tree;
    let mut files = Files::new();
    let mut wanted = Vec::new();
    for (path, node) in repository.listing(tree).unwrap() {
        let Node::File(file) = node else { continue };
        if let Content::Inline(bytes) = file.content {
            files.insert(path, bytes);
            continue;
        }
        let ids = repository.chunk_ids(&file).unwrap().into_iter().zip(0..);
        wanted.extend(
            ids.filter(|(id, _)| !id.is_zero())
                .map(|(id, at)| (id, (path.clone(), at * CHUNK))),
        );
        files.insert(path, vec![0; file.size as usize]);
    }
    let files = Mutex::new(files);
    repository
        .read_many(wanted, threads, &|(path, at): &(String, usize), bytes| {
            let mut files = files.lock().unwrap();
            let file = files.get_mut(path).unwrap();
            file[*at..*at + bytes.len()].copy_from_slice(bytes);
            Ok::<_, Error>(())
        })
        .unwrap();
    files.into_inner().unwrap()
}

fn files_of(repository: &Repository, id: SnapshotId) -> Files {
    try_files_of(repository, id).unwrap()
}

/// The bytes of a snapshot, or why they cannot be read.
fn try_files_of(repository: &Repository, id: SnapshotId) -> Result<Files> {
    let tree = repository.snapshot(id)?.tree;
    let mut files = Files::new();
    for (path, node) in repository.listing(tree)? {
        if let Node::File(file) = node {
            files.insert(path, repository.file_bytes(&file)?);
        }
    }
    Ok(files)
}

fn example(n: u64) -> Files {
    BTreeMap::from([
        ("PG_VERSION".into(), b"15\n".to_vec()),
        ("a".into(), noise(n, 300_000)),
        ("shared".into(), noise(1000, 2_000_000)),
        ("zeros".into(), vec![0; 500_000]),
        ("tail".into(), noise(n + 1, 65_537)),
        ("text".into(), format!("{n} ").repeat(40_000).into_bytes()),
    ])
}

#[test]
fn what_goes_in_comes_out_also_for_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let first = snapshot(&repository, &example(1), "one");
    let second = snapshot(&repository, &example(2), "two");
    for repository in [repository, reopen(dir.path())] {
        assert_eq!(files_of(&repository, first.id), example(1));
        assert_eq!(files_of(&repository, second.id), example(2));
        assert!(repository.verify(Verify::ReadData).unwrap().is_good());
        let state = repository.state().unwrap();
        assert_eq!(state.get_ref(MAIN), Some(second.id));
        assert_eq!(
            state.snapshots().map(|r| r.id).collect::<Vec<_>>(),
            [first.id, second.id]
        );
    }
    // The shared file was not stored again, nor were the zeros.
    assert!(second.new_bytes < 700_000, "{}", second.new_bytes);
}

#[test]
fn the_same_again_stores_next_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    snapshot(&repository, &example(1), "one");
    let again = snapshot(&reopen(dir.path()), &example(1), "again");
    assert!(again.new_bytes < 2000, "{}", again.new_bytes);
}

#[test]
fn many_threads_store_each_chunk_once() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let writer = repository.writer().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for seed in 0..200 {
                    writer.put_chunk(&noise(seed, 64 << 10), None).unwrap();
                }
            });
        }
    });
    let stats = writer.stats();
    assert_eq!((stats.chunks_seen, stats.chunks_new), (800, 200));
}

#[test]
fn what_an_interrupted_writer_sealed_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let files: Files = (0..3)
        .map(|n| (n.to_string(), noise(n, 60 << 20)))
        .collect();
    let writer = repository.writer().unwrap();
    put(&writer, &files);
    writer.abort();
    let done = snapshot(&reopen(dir.path()), &files, "after all");
    assert!(
        done.new_bytes < 70 << 20,
        "{} bytes written again",
        done.new_bytes
    );
    let repository = reopen(dir.path());
    assert_eq!(files_of(&repository, done.id), files);
    assert!(repository.verify(Verify::ReadData).unwrap().is_good());
}

#[test]
fn a_torn_leftover_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let writer = repository.writer().unwrap();
    put(&writer, &BTreeMap::from([("x".into(), noise(1, 70 << 20))]));
    writer.abort();
    let packs = repository.objects().list("packs/").unwrap();
    assert_eq!(packs.len(), 1);
    let path = repository.objects().local_path(&packs[0].key).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let files = BTreeMap::from([("x".into(), noise(1, 70 << 20))]);
    let done = snapshot(&reopen(dir.path()), &files, "again");
    assert!(!path.exists());
    assert_eq!(files_of(&repository, done.id), files);
}

#[test]
fn a_ref_moves_only_from_where_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let one = snapshot(&repository, &example(1), "one").id;
    let two = snapshot(&repository, &example(2), "two").id;
    let change = |from, to| Change {
        refs: vec![RefChange {
            name: MAIN.into(),
            from,
            to,
        }],
        ..Change::default()
    };
    let moved = repository.commit(change(Some(one), Some(one)));
    assert!(matches!(moved, Err(Error::RefMoved { found, .. }) if found == Some(two)));
    repository.commit(change(Some(two), Some(one))).unwrap();
    let unknown = repository.commit(change(Some(one), Some(SnapshotId([9; 32]))));
    assert!(matches!(unknown, Err(Error::NoSnapshot { .. })));
    assert_eq!(reopen(dir.path()).state().unwrap().get_ref(MAIN), Some(one));
}

#[test]
fn two_writers_of_refs_both_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let id = snapshot(&repository, &example(1), "one").id;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let repository = reopen(dir.path());
            scope.spawn(move || {
                for n in 0..5 {
                    let name = format!("tag/{thread}-{n}");
                    let refs = vec![RefChange {
                        name,
                        from: None,
                        to: Some(id),
                    }];
                    repository
                        .commit(Change {
                            refs,
                            ..Change::default()
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(repository.state().unwrap().refs().len(), 21);
}

#[test]
fn transfer_sends_what_is_missing_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let local = home(dir.path());
    let remote = in_memory("transfer");
    let one = snapshot(&local, &example(1), "one");
    let push = |id: SnapshotId, from: Option<SnapshotId>| {
        let what = Transfer {
            snapshots: vec![id],
            refs: vec![RefChange {
                name: MAIN.into(),
                from,
                to: Some(id),
            }],
            ..Transfer::default()
        };
        transfer(&local, &remote, what, &|_| {})
    };
    let done = push(one.id, None).unwrap();
    assert_eq!((done.packs, done.snapshots), (1, 1));
    let two = snapshot(&local, &example(2), "two");
    let done = push(two.id, Some(one.id)).unwrap();
    assert_eq!((done.packs, done.bytes), (1, two.new_bytes));
    assert!(matches!(
        push(one.id, Some(one.id)),
        Err(Error::RefMoved { .. })
    ));
    assert_eq!(files_of(&remote, two.id), example(2));
    assert!(remote.verify(Verify::ReadData).unwrap().is_good());

    // And back into an empty home, one snapshot alone.
    let other = tempfile::tempdir().unwrap();
    let back = home(other.path());
    let what = Transfer {
        snapshots: vec![two.id],
        refs: vec![RefChange {
            name: MAIN.into(),
            from: None,
            to: Some(two.id),
        }],
        ..Transfer::default()
    };
    transfer(&remote, &back, what.clone(), &|_| {}).unwrap();
    assert_eq!(files_of(&reopen(other.path()), two.id), example(2));
    // What travels on from there is whole, though the first snapshot never was there.
    let third = in_memory("third");
    transfer(&back, &third, what, &|_| {}).unwrap();
    assert!(third.verify(Verify::ReadData).unwrap().is_good());
}

#[test]
fn an_interrupted_transfer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let local = home(dir.path());
    let remote = in_memory("interrupted");
    let files: Files = (0..3)
        .map(|n| (n.to_string(), noise(n, 60 << 20)))
        .collect();
    let id = snapshot(&local, &files, "big").id;
    let first = local.objects().list("packs/").unwrap().remove(0);
    let path = local.objects().local_path(&first.key).unwrap();
    remote.objects().put_file(&first.key, &path).unwrap();
    let what = Transfer {
        snapshots: vec![id],
        ..Transfer::default()
    };
    let done = transfer(&local, &remote, what, &|_| {}).unwrap();
    assert_eq!(
        done.packs + 1,
        local.state().unwrap().packs().count() as u64
    );
    assert!(remote.verify(Verify::ReadData).unwrap().is_good());
}

#[test]
fn collection_frees_what_nobody_needs_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let ids: Vec<_> = (0..6)
        .map(|n| snapshot(&repository, &example(n * 10), "x").id)
        .collect();
    let before = repository.objects().list("packs/").unwrap();
    let remove = ids[..5].to_vec();
    repository
        .commit(Change {
            remove,
            ..Change::default()
        })
        .unwrap();
    let planned = repository
        .clone()
        .alone()
        .would_collect(no_grace(), &[])
        .unwrap();
    assert_eq!(repository.objects().list("packs/").unwrap(), before);
    let done = collect(&reopen(dir.path()));
    assert_eq!((done.packs, done.bytes), (planned.packs, planned.bytes));
    // The first pack holds the file that all share, and little else.
    assert_eq!(done.packs, 4, "{done:?}");
    let repository = reopen(dir.path());
    assert_eq!(files_of(&repository, ids[5]), example(50));
    assert!(repository.verify(Verify::ReadData).unwrap().is_good());
    assert!(matches!(
        repository.snapshot(ids[0]),
        Err(Error::NoSnapshot { .. })
    ));
}

#[test]
fn mostly_dead_packs_are_packed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let big: Files = BTreeMap::from([
        ("kept".into(), noise(1, 200_000)),
        ("gone".into(), noise(2, 5_000_000)),
    ]);
    let first = snapshot(&repository, &big, "big").id;
    let small = BTreeMap::from([("kept".to_owned(), noise(1, 200_000))]);
    let second = snapshot(&repository, &small, "small").id;
    repository
        .commit(Change {
            remove: vec![first],
            ..Change::default()
        })
        .unwrap();
    let done = collect(&repository);
    assert!(
        done.rewritten > 200_000 && done.rewritten < 300_000,
        "{done:?}"
    );
    for repository in [repository, reopen(dir.path())] {
        assert_eq!(files_of(&repository, second), small);
        assert!(repository.verify(Verify::ReadData).unwrap().is_good());
        let left: u64 = repository
            .objects()
            .list("packs/")
            .unwrap()
            .iter()
            .map(|l| l.size)
            .sum();
        assert!(left < 300_000, "{left}");
    }
}

#[test]
fn what_an_interrupted_collection_left_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let big: Files = BTreeMap::from([
        ("kept".into(), noise(1, 200_000)),
        ("gone".into(), noise(2, 5_000_000)),
    ]);
    let first = snapshot(&repository, &big, "big").id;
    let small = BTreeMap::from([("kept".to_owned(), noise(1, 200_000))]);
    let second = snapshot(&repository, &small, "small").id;
    // Copies of all packs under names of their own, as if moved out but never committed.
    for (n, listed) in repository
        .objects()
        .list("packs/")
        .unwrap()
        .iter()
        .enumerate()
    {
        let path = repository.objects().local_path(&listed.key).unwrap();
        let name = PackName {
            session: [0; 16],
            number: n as u32,
        };
        std::fs::copy(&path, dir.path().join(name.key())).unwrap();
    }
    repository
        .commit(Change {
            remove: vec![first],
            ..Change::default()
        })
        .unwrap();
    collect(&reopen(dir.path()));
    let repository = reopen(dir.path());
    assert_eq!(files_of(&repository, second), small);
    assert!(repository.verify(Verify::ReadData).unwrap().is_good());
}

#[test]
fn a_rotten_pack_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let local = home(dir.path());
    let id = snapshot(&local, &example(1), "one").id;
    let pack = local.objects().list("packs/").unwrap().remove(0);
    let path = local.objects().local_path(&pack.key).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let remote = in_memory("rotten");
    let what = Transfer {
        snapshots: vec![id],
        ..Transfer::default()
    };
    let error = transfer(&local, &remote, what, &|_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(remote.state().unwrap().is_empty());
    assert!(remote.objects().list("packs/").unwrap().is_empty());
}

#[test]
fn removing_any_row_keeps_the_usage_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let ids: Vec<_> = (0..5)
        .map(|n| snapshot(&repository, &example(n), "x").id)
        .collect();
    let usage = |id| repository.state().unwrap().usage(id);
    let expected: Vec<_> = ids.iter().map(&usage).collect();
    for (n, remove) in [(1usize, ids[1]), (0, ids[0]), (3, ids[3])] {
        let refs = vec![];
        let change = Change {
            remove: vec![remove],
            refs,
            ..Change::default()
        };
        repository.commit(change).unwrap();
        assert!(usage(&ids[n]).is_empty());
        for n in [2, 4] {
            assert_eq!(usage(&ids[n]), expected[n]);
        }
    }
}

#[test]
fn a_long_log_spills_into_segments_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let mut ids = Vec::new();
    for n in 0..900u64 {
        let files = BTreeMap::from([("n".to_owned(), n.to_le_bytes().to_vec())]);
        ids.push(snapshot(&repository, &files, &"a long message ".repeat(8)).id);
    }
    repository
        .commit(Change {
            remove: vec![ids[3], ids[700]],
            ..Change::default()
        })
        .unwrap();
    let state = reopen(dir.path()).state().unwrap();
    assert_eq!(state.len(), 898);
    assert!(state.snapshot(&ids[3]).is_none() && state.snapshot(&ids[4]).is_some());
    let largest = repository
        .objects()
        .list("roots/")
        .unwrap()
        .iter()
        .map(|l| l.size)
        .max();
    assert!(largest.unwrap() <= root::ROOT_MAX as u64);
    assert!(repository.verify(Verify::Quick).unwrap().is_good());
    collect(&repository);
    assert_eq!(reopen(dir.path()).state().unwrap().len(), 898);
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let id = snapshot(&repository, &example(1), "one").id;
    let pack = repository.objects().list("packs/").unwrap().remove(0);
    let path = repository.objects().local_path(&pack.key).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    let repository = reopen(dir.path());
    let report = repository.verify(Verify::ReadData).unwrap();
    assert_eq!(report.bad_packs.len(), 1);
    assert_eq!(report.bad_snapshots.len(), 1);
    assert_eq!(report.bad_snapshots[0].0, id);
    let file = match &repository
        .listing(repository.snapshot(id).unwrap().tree)
        .unwrap()["shared"]
    {
        Node::File(file) => file.clone(),
        Node::Directory { .. } => unreachable!(),
    };
    let error = repository.file_bytes(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

#[test]
fn places_that_are_no_repository_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        Repository::open(
            Arc::new(Directory::new(dir.path())),
            None,
            IndexChoice::Memory,
        )
    };
    assert!(matches!(open(), Err(Error::NotARepository { .. })));
    let header = dir.path().join("zenith.json");
    std::fs::write(&header, "{").unwrap();
    assert!(matches!(open(), Err(Error::Damaged { .. })));
    home(tempfile::tempdir().unwrap().path());
    std::fs::remove_file(&header).unwrap();
    home(dir.path());
    let text = std::fs::read_to_string(&header).unwrap();
    std::fs::write(&header, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert!(matches!(open(), Err(Error::TooNew { .. })));
}

#[cfg(feature = "rocks")]
#[test]
fn a_lost_index_costs_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join("index.db");
    let id = snapshot(&home(dir.path()), &example(1), "one").id;
    let open = || {
        let objects = Arc::new(Directory::new(dir.path()));
        Repository::open(objects, None, IndexChoice::writer(index.clone())).unwrap()
    };
    assert_eq!(files_of(&open(), id), example(1));
    let second = snapshot(&open(), &example(2), "two").id;
    let reader = Repository::open(
        Arc::new(Directory::new(dir.path())),
        None,
        IndexChoice::reader(index.clone()),
    )
    .unwrap();
    assert_eq!(files_of(&reader, second), example(2));
    std::fs::remove_dir_all(&index).unwrap();
    assert_eq!(files_of(&open(), id), example(1));
    let again = snapshot(&open(), &example(2), "again");
    assert!(again.new_bytes < 2000);
}
