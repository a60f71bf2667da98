//! What earlier versions wrote is read for ever: repositories that they made lie in
//! tests/fixtures, one folder a version.
//!
//! Fixtures are never remade. A new version of the format adds one, with
//! `make_fixture` below; docs/testing.md says how.

mod maker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zenith_store::objects::{Directory, Layer, ObjectsError};
use zenith_store::pack::TRAILER_LEN;
use zenith_store::{
    Change, Collect, Content, IndexChoice, Node, Objects, Operation, RefChange, Repository,
    SnapshotId, Verify,
};

const MAIN: &str = "branch/main";

/// What a repository is to hold: `expected.json` beside it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    /// Name → id.
    refs: BTreeMap<String, String>,
    /// Were there once.
    removed: Vec<String>,
    /// In the order of their making.
    snapshots: Vec<ExpectedSnapshot>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ExpectedSnapshot {
    id: String,
    /// Bytes of the message, and BLAKE3 of them.
    message: String,
    parents: Vec<String>,
    /// Path → mode, size, BLAKE3 of the bytes.
    files: BTreeMap<String, String>,
    /// Path → mode.
    directories: BTreeMap<String, String>,
}

fn about(bytes: &[u8]) -> String {
    format!("{} {}", bytes.len(), blake3::hash(bytes).to_hex())
}

fn open(dir: &Path) -> Repository {
    Repository::open(Arc::new(Directory::new(dir)), None, IndexChoice::Memory).unwrap()
}

/// Reads everything.
fn described(repository: &Repository) -> Expected {
    let state = repository.state().unwrap();
    let refs = state.refs().iter();
    let snapshots = state.snapshots().map(|row| {
        let snapshot = repository.snapshot(row.id).unwrap();
        assert_eq!((row.tree, &row.message), (snapshot.tree, &snapshot.message));
        let (mut files, mut directories) = (BTreeMap::new(), BTreeMap::new());
        for (path, node) in repository.listing(row.tree).unwrap() {
            match node {
                Node::File(file) => {
                    let bytes = repository.file_bytes(&file).unwrap();
                    assert_eq!(bytes.len() as u64, file.size);
                    files.insert(path, format!("{:o} {}", file.mode, about(&bytes)));
                }
                Node::Directory { mode } => {
                    directories.insert(path, format!("{mode:o}"));
                }
            }
        }
        ExpectedSnapshot {
            id: row.id.to_string(),
            message: about(row.message.as_bytes()),
            parents: snapshot.parents.iter().map(ToString::to_string).collect(),
            files,
            directories,
        }
    });
    Expected {
        snapshots: snapshots.collect(),
        refs: refs
            .map(|(name, id)| (name.clone(), id.to_string()))
            .collect(),
        removed: Vec::new(),
    }
}

#[track_caller]
fn assert_holds(repository: &Repository, expected: &Expected) {
    let found = described(repository);
    assert_eq!(found.refs, expected.refs);
    // One by one: a whole difference would fill the screen.
    let ids = |e: &Expected| e.snapshots.iter().map(|s| s.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(expected));
    for (found, expected) in found.snapshots.iter().zip(&expected.snapshots) {
        for (path, about) in &expected.files {
            assert_eq!(found.files.get(path), Some(about), "{path} of {}", found.id);
        }
        assert!(found == expected, "{} is another", found.id);
    }
    for id in &expected.removed {
        assert!(repository.snapshot(id.parse().unwrap()).is_err());
    }
    let report = repository.verify(Verify::ReadData).unwrap();
    assert!(report.is_good(), "{report:?}");
}

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.json").exists())
        .collect();
    out.sort();
    assert!(!out.is_empty());
    out
}

/// A copy that may be written to, and what it is to hold.
fn copied(fixture: &Path) -> (tempfile::TempDir, Expected) {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (name, path) = entry.map(|e| (e.file_name(), e.path())).unwrap();
            if path.is_dir() {
                copy(&path, &to.join(name));
            } else {
                std::fs::copy(&path, to.join(name)).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture.join("repository"), dir.path());
    let text = std::fs::read(fixture.join("expected.json")).unwrap();
    (dir, serde_json::from_slice(&text).unwrap())
}

#[test]
fn what_was_written_is_read() {
    for fixture in fixtures() {
        let (dir, expected) = copied(&fixture);
        assert_holds(&open(dir.path()), &expected);
        assert!(expected.snapshots.len() >= 4 && !expected.removed.is_empty());
    }
}

#[test]
fn a_fixture_has_what_the_format_has() {
    for fixture in fixtures() {
        let (dir, _) = copied(&fixture);
        maker::assert_has_everything(&open(dir.path()));
    }
}

/// A repository whose packs are opened by what index segments say alone.
#[derive(Debug)]
struct WithoutDirectories(Directory);

impl Layer for WithoutDirectories {
    fn below(&self) -> &dyn Objects {
        &self.0
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        let end = Objects::size(&self.0, key)?.unwrap_or_default();
        assert!(
            !key.starts_with("packs/") || offset + len as u64 <= end - TRAILER_LEN as u64,
            "the directory of {key} is asked for"
        );
        Objects::get_range(&self.0, key, offset, len)
    }
}

#[test]
fn index_segments_are_read() {
    let mut with_segments = 0;
    for fixture in fixtures() {
        let (dir, expected) = copied(&fixture);
        if !maker::has_segments(&open(dir.path())) {
            continue;
        }
        with_segments += 1;
        let objects = Arc::new(WithoutDirectories(Directory::new(dir.path())));
        let repository = Repository::open(objects, None, IndexChoice::Memory).unwrap();
        let found = described(&repository);
        assert!(found.snapshots == expected.snapshots && found.refs == expected.refs);
        let report = open(dir.path()).verify(Verify::ReadData).unwrap();
        assert!(report.bad_segments.is_empty(), "{report:?}");
    }
    assert!(with_segments > 0);
}

#[test]
fn new_snapshots_stand_on_old_ones() {
    for fixture in fixtures() {
        let (dir, mut expected) = copied(&fixture);
        let repository = open(dir.path());
        let done = maker::snapshot(&repository, &maker::next(), "on top", MAIN);
        // All but a little is there already.
        assert!(done.new_bytes < 20_000, "{}", done.new_bytes);
        let top = described(&repository).snapshots.pop().unwrap();
        assert_eq!(top.id, done.id.to_string());
        for (path, bytes) in &maker::next() {
            let about = format!("600 {}", about(bytes));
            assert_eq!(top.files.get(path), Some(&about), "{path}");
        }
        expected.refs.insert(MAIN.into(), top.id.clone());
        expected.snapshots.push(top);
        assert_holds(&open(dir.path()), &expected);

        // And outlive them.
        let repository = open(dir.path());
        while expected.snapshots.len() > 1 {
            let gone = expected.snapshots.remove(0);
            let id: SnapshotId = gone.id.parse().unwrap();
            let refs = expected.refs.extract_if(.., |_, at| *at == gone.id);
            let change = Change {
                remove: vec![id],
                refs: refs
                    .map(|(name, _)| RefChange {
                        name,
                        from: Some(id),
                        to: None,
                    })
                    .collect(),
                ..Change::default()
            };
            repository.commit(change).unwrap();
            let how = Collect {
                grace: 0,
                ..Collect::at(0)
            };
            let repository = repository.clone().alone();
            repository.collect(Operation::default(), how).unwrap();
            expected.removed.push(gone.id);
            assert_holds(&open(dir.path()), &expected);
        }
    }
}

/// Makes tests/fixtures/`ZENITH_FIXTURE`, which is not there yet.
#[test]
#[ignore = "makes a fixture of what this program writes"]
fn make_fixture() {
    let name = std::env::var("ZENITH_FIXTURE").expect("ZENITH_FIXTURE=v<version> names it");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let fixture = dir.join(name);
    std::fs::create_dir(&fixture).expect("fixtures are never remade");
    let repository = fixture.join("repository");
    let removed = maker::make(&repository);
    let repository = open(&repository);
    maker::assert_has_everything(&repository);
    let expected = Expected {
        removed: vec![removed.to_string()],
        ..described(&repository)
    };
    let mut text = serde_json::to_string_pretty(&expected).unwrap();
    text.push('\n');
    std::fs::write(fixture.join("expected.json"), text).unwrap();
    assert_holds(&repository, &expected);
}

/// Whether a file's chunks are listed by a node of nodes.
fn is_deep(node: &Node) -> bool {
    matches!(node, Node::File(f) if matches!(&f.content, Content::Extents(e) if e.depth > 1))
}
