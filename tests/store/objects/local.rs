//! What holds for objects that are files of this machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use zenith_store::objects::{Directory, Objects, ObjectsError};
use zenith_testkit::Place;
use zenith_testkit::tmpfs::Tmpfs;

use super::open;

/// Both ways to keep objects in a directory.
fn both(path: &Path) -> [Arc<dyn Objects>; 2] {
    let bucket = open(path.to_str().unwrap(), Vec::new(), Duration::from_secs(1)).unwrap();
    [Arc::new(Directory::new(path)), bucket]
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        }
        files.push(path);
    }
    files
}

#[test]
fn pages_are_secrets() {
    for which in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("new");
        let objects = &both(&root)[which];
        objects.create("zenith.json", b"{}").unwrap();
        objects.create("roots/1", b"root").unwrap();
        let mut writer = objects.writer("streams/a/one").unwrap();
        writer.write_all(b"stream").unwrap();
        writer.finish().unwrap();
        let mut writer = objects.writer("streams/b/two").unwrap();
        writer.write_all(&vec![7; 33 << 20]).unwrap();
        writer.finish().unwrap();
        let mut files = files_below(&root);
        files.push(root.clone());
        assert!(files.len() > 6);
        for file in files {
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            let expected = if file.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{}", file.display());
        }
    }
}

#[test]
fn opening_and_reading_create_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("absent");
    for objects in both(&root) {
        assert_eq!(objects.list("").unwrap(), []);
        assert_eq!(objects.size("zenith.json").unwrap(), None);
        objects.delete("zenith.json").unwrap();
        assert!(!root.exists());
    }
}

#[test]
fn files_on_the_same_file_system_are_shared() {
    let directory = tempfile::tempdir().unwrap();
    let pack = directory.path().join("pack");
    fs::write(&pack, b"pack").unwrap();
    for (number, objects) in both(&directory.path().join("root")).into_iter().enumerate() {
        let key = format!("packs/{number}");
        objects.put_file(&key, &pack).unwrap();
        let stored = objects.local_path(&key).unwrap();
        assert_eq!(
            fs::metadata(stored).unwrap().ino(),
            fs::metadata(&pack).unwrap().ino()
        );
    }
    // The file, two objects, and no forgotten temporary name.
    assert_eq!(fs::metadata(&pack).unwrap().nlink(), 3);
}

#[test]
fn unfinished_files_are_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    for objects in both(directory.path()) {
        let mut writer = objects.writer("packs/one").unwrap();
        writer.write_all(&vec![1; 33 << 20]).unwrap();
        assert!(!files_below(directory.path()).is_empty());
        assert_eq!(objects.list("").unwrap(), []);
    }
    fs::write(directory.path().join("packs/.tmp-0123"), b"half").unwrap();
    for objects in both(directory.path()) {
        assert_eq!(objects.list("").unwrap(), []);
    }
}

#[test]
fn a_full_and_a_read_only_disk_are_named() {
    let place = Place::new();
    let Some(disk) = Tmpfs::mount(&place, "disk", 1) else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("large");
    fs::write(&file, vec![1; 2 << 20]).unwrap();
    let root = disk.path().join("root");
    for objects in both(&root) {
        objects.create("small", b"small").unwrap();
        let streamed = || {
            let mut writer = objects.writer("stream")?;
            if let Err(error) = writer.write_all(&vec![1; 2 << 20]) {
                return Err(ObjectsError::from_io(&objects.location(), "stream", error));
            }
            writer.finish()
        };
        for (call, error) in [
            (
                "create",
                objects.create("large", &vec![1; 2 << 20]).map(drop),
            ),
            ("put_file", objects.put_file("large", &file)),
            ("writer", streamed()),
        ] {
            let error = error.unwrap_err();
            assert!(
                matches!(error, ObjectsError::NoSpace { .. }),
                "{call}: {error:?}"
            );
        }
        // Nothing that takes up space stays behind.
        assert_eq!(files_below(&root), [root.join("small")]);
        objects.delete("small").unwrap();
    }
    let read_only = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(read_only.success());
    for objects in both(&root) {
        let error = objects.create("small", b"small").unwrap_err();
        assert!(matches!(error, ObjectsError::ReadOnly { .. }), "{error:?}");
        let error = objects.put_file("large", &file).unwrap_err();
        assert!(matches!(error, ObjectsError::ReadOnly { .. }), "{error:?}");
    }
}
