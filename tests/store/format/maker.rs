//! Makes a repository that has everything the format has. The same for every version, but for
//! random names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use zenith_store::delta::Form;
use zenith_store::id::Kind;
use zenith_store::object::Malformed;
use zenith_store::object::tree::{self, TreeNode};
use zenith_store::objects::Directory;
use zenith_store::pack::reader;
use zenith_store::root::Root;
use zenith_store::{
    Change, ChunkId, Committed, Ids, IndexChoice, Listing, Node, Operation, Params, RefChange,
    Repository, Snapshot, SnapshotId, SnapshotKind, SnapshotSource, Time, TreeId, Writer,
};

use crate::{MAIN, is_deep, open};

/// Small, so that a deep extent map is short.
const PARAMS: Params = Params {
    chunk_size: 32 << 10,
    inline_limit: 1 << 10,
};
const CHUNK: usize = PARAMS.chunk_size as usize;
/// A table with longer rows moves them to a segment.
const LONG: usize = 25_000;

/// Path → bytes. Directories are made for their files.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Rows of a table, as it were: they compress.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for row in 0.. {
        if out.len() >= len {
            break;
        }
        out.extend(format!("{seed} row {}\n", row % 50).bytes());
    }
    out.truncate(len);
    out
}

/// The files of snapshot `n`, from 1.
pub(crate) fn files(n: u64) -> Files {
    // Of few different chunks, some of them zeros, in an order that no rule repeats.
    let patterns: Vec<Vec<u8>> = (0..4).map(|p| text(p, CHUNK)).collect();
    let mut deep = Vec::new();
    for at in 0..258 + n {
        match at * at % 7 + at / 100 {
            p @ 0..4 => deep.extend_from_slice(&patterns[p as usize]),
            _ => deep.resize(deep.len() + CHUNK, 0),
        }
    }
    deep.extend(text(n, 5000));
    let mut out = Files::from([
        ("VERSION".into(), b"15\n".to_vec()),
        ("base/empty".into(), Vec::new()),
        ("base/deep".into(), deep),
        // Its own frame, raw; and one that shares a frame.
        ("base/noise".into(), noise(1, CHUNK)),
        ("base/tail".into(), noise(n, 1025)),
        ("base/zeros".into(), vec![0; 5 * CHUNK + 77]),
        ("base/changes".into(), {
            let mut bytes = text(10, 3 * CHUNK + 100);
            let at = CHUNK + n as usize;
            bytes[at] = b'!';
            bytes
        }),
        // Bytes that move, as in a page that is pruned.
        ("base/moves".into(), {
            let mut bytes = noise(2, 8000);
            bytes.rotate_left(100 * n as usize);
            bytes
        }),
        // One chunk among zeros that moves: its map changes.
        ("base/sparse".into(), {
            let mut bytes = vec![0; 20 * CHUNK];
            let at = n as usize * CHUNK;
            bytes[at..at + CHUNK].copy_from_slice(&patterns[0]);
            bytes
        }),
        ("base/5/inline".into(), text(n, 1024)),
        ("base/5/ünïcode \u{1f980}".into(), text(n, 10)),
    ]);
    if n >= 4 {
        // So many that the directory's node has nodes below it.
        for name in 0..150 + n / 5 {
            out.insert(format!("names/{name:05}"), format!("{name}").into_bytes());
        }
    }
    out
}

/// What a snapshot on top of all holds: much of the last and some of the first.
pub(crate) fn next() -> Files {
    let mut out = files(5);
    out.insert("base/first".into(), files(1)["base/deep"].clone());
    out.insert("base/new".into(), text(99, 2 * CHUNK));
    out
}

/// The chunks of every file of a snapshot.
fn chunks_of(repository: &Repository, id: SnapshotId) -> BTreeMap<String, Vec<ChunkId>> {
    let tree = repository.snapshot(id).unwrap().tree;
    let mut out = BTreeMap::new();
    for (path, node) in repository.listing(tree).unwrap() {
        if let Node::File(file) = node {
            out.insert(path, repository.chunk_ids(&file).unwrap());
        }
    }
    out
}

/// Puts files, each chunk over the one that was at its place in the parent.
fn put(writer: &Writer, files: &Files, before: &BTreeMap<String, Vec<ChunkId>>) -> (TreeId, u64) {
    let directory = Node::Directory { mode: 0o700 };
    let mut listing = Listing::from([(String::new(), directory.clone())]);
    listing.insert("none".into(), Node::Directory { mode: 0o750 });
    let mut size = 0;
    for (path, bytes) in files {
        for (at, _) in path.match_indices('/') {
            listing.insert(path[..at].to_owned(), directory.clone());
        }
        let file = if bytes.len() <= PARAMS.inline_limit as usize {
            writer.put_inline(0o600, bytes.clone())
        } else {
            let old = before.get(path).map_or(&[][..], Vec::as_slice);
            let ids: Vec<_> = bytes
                .chunks(CHUNK)
                .enumerate()
                .map(|(at, chunk)| writer.put_chunk(chunk, old.get(at).copied()).unwrap())
                .collect();
            writer
                .put_file(0o600, bytes.len() as u64, &ids, old)
                .unwrap()
        };
        size += bytes.len() as u64;
        listing.insert(path.clone(), Node::File(file));
    }
    (writer.put_tree(&listing).unwrap(), size)
}

fn operation(verb: &str) -> Operation {
    Operation {
        verb: verb.into(),
        detail: "a fixture".into(),
        who: "tester@here".into(),
        time: Time {
            unix_micros: 1_800_000_000_000_000,
            offset_secs: 3600,
        },
        ..Operation::default()
    }
}

pub(crate) fn snapshot(
    repository: &Repository,
    files: &Files,
    message: &str,
    branch: &str,
) -> Committed {
    let writer = repository.writer().unwrap();
    let tip = repository.state().unwrap().get_ref(branch);
    let before = tip.map(|tip| chunks_of(repository, tip));
    let (tree, size) = put(&writer, files, &before.unwrap_or_default());
    let snapshot = Snapshot {
        version: zenith_store::object::snapshot::VERSION,
        tree,
        parents: tip.into_iter().collect(),
        time: operation("").time,
        host: "here".into(),
        message: message.into(),
        kind: SnapshotKind::Manual,
        source: SnapshotSource::Offline,
        tool: "0.1.0".into(),
        files: files.len() as u64,
        size,
        body: b"a body that the store does not read".to_vec(),
    };
    let to = Some(repository.ids().snapshot(&snapshot.encode()));
    let refs = vec![RefChange {
        name: branch.into(),
        from: tip,
        to,
    }];
    writer
        .commit(snapshot, b"a summary".to_vec(), refs, operation("snapshot"))
        .unwrap()
}

/// Makes it; gives the snapshot that was taken out again.
pub(crate) fn make(dir: &Path) -> SnapshotId {
    std::fs::create_dir(dir).unwrap();
    let objects = Arc::new(Directory::new(dir));
    Repository::create(
        objects,
        PARAMS,
        None,
        IndexChoice::Memory,
        operation("init"),
    )
    .unwrap();
    // Each as by a program of its own, so that each has packs of its own.
    let take =
        |n: u64, message: &str, branch: &str| snapshot(&open(dir), &files(n), message, branch).id;
    let tags = |names: &[String], from: Option<SnapshotId>, to: Option<SnapshotId>| {
        let refs = names.iter().map(|name| RefChange {
            name: name.clone(),
            from,
            to,
        });
        let change = Change {
            refs: refs.collect(),
            operation: operation("tag"),
            ..Change::default()
        };
        open(dir).commit(change).unwrap();
    };
    let first = take(1, "one", MAIN);
    tags(&["tag/first".into()], None, Some(first));
    let second = take(2, "two", MAIN);
    take(3, "three", MAIN);
    take(4, &"four, and long ".repeat(LONG / 15), "branch/side");
    // More refs than a root has room for, for a while.
    let names: Vec<String> = (0..45)
        .map(|n| format!("tag/{n}/{}", "long".repeat(60)))
        .collect();
    tags(&names, None, Some(first));
    tags(&names, Some(first), None);
    let change = Change {
        remove: vec![second],
        operation: operation("delete"),
        ..Change::default()
    };
    open(dir).commit(change).unwrap();
    take(5, "five", MAIN);
    // So many refs have a table of their own.
    tags(&names, None, Some(first));
    let storage = open(dir).with_segments_of(1);
    let done = storage.tend_segments(None, &operation("index")).unwrap();
    assert_eq!(done.written, 1);
    second
}

/// That a fixture is worth having.
pub(crate) fn assert_has_everything(repository: &Repository) {
    let state = repository.state().unwrap();
    let root = repository.objects().get(&Root::key(state.seq())).unwrap();
    let root = Root::decode(&root, state.seq(), None).unwrap();
    assert!(!root.snapshots.segments.is_empty() && !root.snapshots.removed.is_empty());
    assert!(!root.snapshots.rows.is_empty() && !root.packs.rows.is_empty());
    // Before refs had a table, many of them left packs no room.
    assert!(!root.packs.segments.is_empty() || root.ref_table.is_some());
    let newest = state.snapshots().last().unwrap();
    let listing = repository.listing(newest.tree).unwrap();
    assert!(is_deep(&listing["base/deep"]));
    let mut inner = false;
    tree::build::<Malformed>(&listing, |bytes: Vec<u8>| {
        inner |= matches!(TreeNode::decode(&bytes)?, TreeNode::Inner(..));
        Ok(Ids::plain().tree(&bytes))
    })
    .unwrap();
    assert!(inner);
    // The first packs had no differences.
    if root.incompatible.iter().any(|feature| feature == "packs 2") {
        let forms = forms(repository);
        for form in [
            (Kind::Chunk, Form::Plain),
            (Kind::Chunk, Form::Patch),
            (Kind::Chunk, Form::Prefix),
            (Kind::Extents, Form::Plain),
            (Kind::Extents, Form::Patch),
        ] {
            assert!(forms.contains(&form), "no {form:?}");
        }
    }
}

/// Whether it was made since there are index segments, and tables of refs.
pub(crate) fn has_segments(repository: &Repository) -> bool {
    let state = repository.state().unwrap();
    let root = repository.objects().get(&Root::key(state.seq())).unwrap();
    let root = Root::decode(&root, state.seq(), None).unwrap();
    assert_eq!(root.index.is_some(), root.ref_table.is_some());
    root.index.is_some()
}

/// What lies how in packs.
fn forms(repository: &Repository) -> Vec<(Kind, Form)> {
    let state = repository.state().unwrap();
    let objects = repository.objects();
    state
        .packs()
        .flat_map(|pack| {
            let directory = reader::directory(&**objects, pack.name, pack.len, None);
            directory.unwrap().frames
        })
        .flat_map(|frame| frame.blobs)
        .map(|blob| (blob.part.kind, blob.part.form))
        .collect()
}
