//! Which parts of chunks differ, however they are stored.

use super::*;
use crate::object::Entry;
use std::collections::BTreeSet;

const PART: usize = 1 << 10;

/// By the bytes.
fn naive(before: &[u8], after: &[u8]) -> Vec<u32> {
    let parts = before.chunks(PART).zip(after.chunks(PART)).zip(0..);
    parts
        .filter(|((before, after), _)| before != after)
        .map(|(_, at)| at)
        .collect()
}

/// Versions of a chunk, each put over the one before it, and their ids.
fn store(repository: &Repository, versions: &[Vec<u8>]) -> Vec<ChunkId> {
    let mut parent = None;
    let mut ids = Vec::new();
    for (version, n) in versions.iter().zip(0..) {
        let files = Files::from([("f".to_owned(), version.clone())]);
        let (id, _) = snapshot_on(repository, &files, parent, &format!("{n}"));
        ids.push(chunks_of(repository, id)["f"][0]);
        parent = Some(id);
    }
    ids
}

fn changed(
    repository: &Repository,
    pairs: impl IntoIterator<Item = (ChunkId, ChunkId, (usize, usize))>,
) -> BTreeMap<(usize, usize), Vec<u32>> {
    let found = Mutex::new(BTreeMap::new());
    repository
        .changed_parts(pairs, PART, 2, &|key, parts: &[u32]| -> Result<()> {
            assert!(found.lock().unwrap().insert(*key, parts.to_vec()).is_none());
            Ok(())
        })
        .unwrap();
    found.into_inner().unwrap()
}

fn versions() -> Vec<Vec<u8>> {
    let first = noise(1, CHUNK);
    let mut all = vec![first.clone()];
    let mut next = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut version = all[all.len() - 1].clone();
        change(&mut version);
        all.push(version);
    };
    next(&|v| v[0] ^= 1);
    // Over a boundary, with equal bytes on both sides of it.
    next(&|v| [PART - 2, PART + 2].iter().for_each(|at| v[*at] ^= 1));
    next(&|v| {
        [PART - 1, 3 * PART, CHUNK - 1]
            .iter()
            .for_each(|at| v[*at] ^= 1);
    });
    // Back to what it was.
    next(&|v| v[PART - 1] ^= 1);
    // Moved, so that it is no patch.
    next(&|v| v.rotate_left(100));
    next(&|v| v[5 * PART] ^= 1);
    // Shorter: at a boundary, and not; longer again.
    next(&|v| v.truncate(5 * PART));
    next(&|v| v[7] ^= 1);
    next(&|v| v.truncate(4 * PART + 10));
    next(&|v| v.extend([0; PART / 2]));
    next(&|v| v.resize(6 * PART, 0));
    next(&|v| v.resize(CHUNK, 9));
    all
}

#[test]
fn parts_differ_as_their_bytes_do() {
    let place = Place::new(None);
    let repository = place.open();
    let versions = versions();
    let ids = store(&repository, &versions);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let all = 0..ids.len();
    let pairs = all.clone().flat_map(|i| all.clone().map(move |j| (i, j)));
    let pairs: Vec<_> = pairs.filter(|(i, j)| i != j).collect();
    let found = changed(&repository, pairs.iter().map(|p| (ids[p.0], ids[p.1], *p)));
    for pair in pairs {
        let expected = naive(&versions[pair.0], &versions[pair.1]);
        assert_eq!(found[&pair], expected, "{pair:?}");
    }
}

#[test]
fn zeros_are_as_long_as_what_they_are_compared_with() {
    let place = Place::new(None);
    let repository = place.open();
    let mut bytes = vec![0; 5 * PART + 1];
    bytes[2 * PART] = 1;
    bytes[5 * PART] = 1;
    let ids = store(&repository, &[bytes]);
    let found = changed(
        &repository,
        [
            (ids[0], ChunkId::ZERO, (0, 1)),
            (ChunkId::ZERO, ids[0], (1, 0)),
            (ChunkId::ZERO, ChunkId::ZERO, (1, 1)),
        ],
    );
    assert_eq!(found[&(0, 1)], [2, 5]);
    assert_eq!(found[&(1, 0)], [2, 5]);
    assert!(found[&(1, 1)].is_empty());
}

/// A patch says enough: the chunk under it is gone, and nobody misses it.
#[test]
fn what_a_patch_tells_needs_no_base() {
    let place = Place::new(None);
    let ids = store(&place.open(), &versions()[..2]);
    for entry in std::fs::read_dir(place.dir.path().join("packs")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        // The chunk of noise lies in the larger pack; its bytes are spoilt, its directory is not.
        if bytes.len() > CHUNK {
            let mut bytes = bytes;
            bytes[200..CHUNK].fill(0);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let repository = place.open();
    assert!(repository.chunk(ids[0]).is_err() && repository.chunk(ids[1]).is_err());
    assert_eq!(
        changed(&repository, [(ids[0], ids[1], (0, 1))])[&(0, 1)],
        [0]
    );
    assert_eq!(
        changed(&repository, [(ids[1], ids[0], (1, 0))])[&(1, 0)],
        [0]
    );
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let place = Place::new(None);
    let repository = place.open();
    let missing = ChunkId([3; 32]);
    let told = repository.changed_parts([(missing, ChunkId::ZERO, ())], PART, 1, &|(),
                                                                                   _|
     -> Result<
        (),
    > { Ok(()) });
    assert!(matches!(told, Err(Error::Missing { .. })), "{told:?}");
}

/// Through the store: what differs, and what is at a path, is what the listings say.
#[test]
fn entries_are_found_by_their_paths() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
    let writer = repository.writer().unwrap();
    for dir in ["a", "a/b", "empty"] {
        listing.insert(dir.to_owned(), Node::Directory { mode: 0o750 });
    }
    for n in 0..20_000 {
        let file = writer.put_inline(0o600, vec![1]);
        listing.insert(format!("a/b/{}", n * 2), Node::File(file));
    }
    let before = writer.put_tree(&listing).unwrap();
    let mut after = listing.clone();
    after.remove("a/b/4242");
    after.insert(
        "a/b/7".into(),
        Node::File(writer.put_inline(0o600, vec![7])),
    );
    let after = writer.put_tree(&after).unwrap();
    let snapshot = Snapshot {
        parents: vec![],
        ..sample(before)
    };
    let other = Snapshot {
        tree: after,
        ..snapshot.clone()
    };
    writer
        .commit(snapshot, vec![], vec![], Operation::default())
        .unwrap();
    repository
        .writer()
        .unwrap()
        .commit(other, vec![], vec![], Operation::default())
        .unwrap();

    let mut found = Vec::new();
    let mut note = |change: ChangedEntry| {
        found.push((change.path, change.before.is_some(), change.after.is_some()));
        Ok(())
    };
    repository
        .changed_entries(before, after, &mut note)
        .unwrap();
    let expected = [("a/b/4242", true, false), ("a/b/7", false, true)];
    assert_eq!(found, expected.map(|(path, a, b)| (path.to_owned(), a, b)));

    for path in ["a/b/0", "a/b/4242", "a/b/39998", "a/b/9999", "a/b/9998"] {
        let is_there = matches!(
            repository.entry(before, path).unwrap(),
            Some(Entry::File(_))
        );
        assert_eq!(is_there, listing.contains_key(path), "{path}");
    }
    assert!(repository.entry(after, "a/b/7").unwrap().is_some());
    assert!(repository.entry(after, "a/b/4242").unwrap().is_none());
    for path in ["a", "a/b", "empty"] {
        let entry = repository.entry(before, path).unwrap();
        assert!(
            matches!(entry, Some(Entry::Directory { mode: 0o750, .. })),
            "{path}"
        );
    }
    for path in ["", "b", "a/", "a/b/0/c", "empty/x", "a/b/0/", "!"] {
        assert_eq!(repository.entry(before, path).unwrap(), None, "{path}");
    }
}
