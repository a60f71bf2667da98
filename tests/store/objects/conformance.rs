//! The promises of the trait, checked on each place.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use zenith_store::objects::{Created, Directory, Listed, Objects, ObjectsError, ObjectsErrorKind};
use zenith_testkit::s3::S3Server;

use super::{bytes, open};

const RETRY: Duration = Duration::from_secs(30);

#[test]
fn directory() {
    let directory = tempfile::tempdir().unwrap();
    conformance(&Directory::new(directory.path().join("home/objects")));
}

#[test]
fn memory() {
    conformance(&*open("memory://conformance/a/b", Vec::new(), RETRY).unwrap());
    conformance(&*open("memory://conformance-bare", Vec::new(), RETRY).unwrap());
}

#[test]
fn file() {
    let directory = tempfile::tempdir().unwrap();
    // A path that URLs and object names write differently must still be this path.
    let path = directory.path().join("a b%41#1/ü/objects");
    conformance(&*open(path.to_str().unwrap(), Vec::new(), RETRY).unwrap());
    assert!(path.is_dir());
}

#[test]
fn s3() {
    let server = S3Server::start();
    for url in ["s3://bare", "s3://nested/a/b"] {
        let bucket = url.split('/').nth(2).unwrap();
        conformance(&*open(url, server.env(bucket), RETRY).unwrap());
    }
}

/// Checks all promises of an empty place and leaves it empty.
fn conformance(objects: &dyn Objects) {
    assert_eq!(objects.list("").unwrap(), []);
    assert_eq!(objects.list("roots").unwrap(), []);
    absence(objects);
    creation(objects);
    ranges(objects);
    files(objects);
    streams(objects);
    listing(objects);
    names(objects);
    race(objects);
    for listed in objects.list("").unwrap() {
        objects.delete(&listed.key).unwrap();
    }
    assert_eq!(objects.list("").unwrap(), []);
}

fn absence(objects: &dyn Objects) {
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(objects.size("packs/absent").unwrap(), None);
    for error in [
        objects.get("packs/absent").map(drop).unwrap_err(),
        objects
            .get_range("packs/absent", 0, 1)
            .map(drop)
            .unwrap_err(),
        objects
            .get_range("packs/absent", 0, 0)
            .map(drop)
            .unwrap_err(),
        objects
            .get_to_file("packs/absent", &scratch.path().join("file"))
            .map(drop)
            .unwrap_err(),
        objects.reader("packs/absent").map(drop).unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error:?}");
        assert_eq!(error.kind(), ObjectsErrorKind::NotFound);
        let named = format!("{}/packs/absent does not exist", objects.location());
        assert_eq!(error.to_string(), named);
    }
    objects.delete("packs/absent").unwrap();
    objects.delete("nowhere/absent").unwrap();
}

fn creation(objects: &dyn Objects) {
    assert_eq!(
        objects.create("zenith.json", b"first").unwrap(),
        Created::New
    );
    assert_eq!(
        objects.create("zenith.json", b"second").unwrap(),
        Created::Exists
    );
    assert_eq!(objects.get("zenith.json").unwrap(), b"first");
    assert_eq!(objects.size("zenith.json").unwrap(), Some(5));

    assert_eq!(objects.create("empty", b"").unwrap(), Created::New);
    assert_eq!(objects.get("empty").unwrap(), b"");
    assert_eq!(objects.size("empty").unwrap(), Some(0));

    let large = bytes(1, (1 << 20) + 1);
    assert_eq!(objects.create("large", &large).unwrap(), Created::New);
    assert!(objects.get("large").unwrap() == large);

    objects.delete("zenith.json").unwrap();
    assert_eq!(objects.size("zenith.json").unwrap(), None);
    assert_eq!(
        objects.create("zenith.json", b"third").unwrap(),
        Created::New
    );
    assert_eq!(objects.get("zenith.json").unwrap(), b"third");
}

fn ranges(objects: &dyn Objects) {
    objects.create("range", b"0123456789").unwrap();
    let check = |offset: u64, len: usize, expect: &[u8]| {
        assert_eq!(
            objects.get_range("range", offset, len).unwrap(),
            expect,
            "{offset} {len}"
        );
    };
    check(0, 10, b"0123456789");
    check(3, 4, b"3456");
    check(9, 1, b"9");
    check(4, 0, b"");
    check(10, 0, b"");
    for (offset, len) in [(0, 11), (9, 2), (10, 1), (11, 0), (50, 5), (u64::MAX, 2)] {
        let error = objects.get_range("range", offset, len).unwrap_err();
        assert!(
            matches!(error, ObjectsError::OutOfRange { size_bytes: 10, .. }),
            "{offset} {len}: {error:?}"
        );
    }
}

fn files(objects: &dyn Objects) {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    for len in [0, 100, (3 << 20) + 17] {
        let pack = bytes(2, len);
        let key = format!("packs/file-{len}");
        fs::write(&source, &pack).unwrap();
        objects.put_file(&key, &source).unwrap();
        // Again, as after an interruption.
        objects.put_file(&key, &source).unwrap();
        fs::remove_file(&source).unwrap();
        assert_eq!(objects.size(&key).unwrap(), Some(len as u64));
        assert!(objects.get(&key).unwrap() == pack);

        fs::write(
            &target,
            b"what was there before, longer than a hundred bytes: ".repeat(3),
        )
        .unwrap();
        assert_eq!(objects.get_to_file(&key, &target).unwrap(), len as u64);
        assert!(fs::read(&target).unwrap() == pack);
        if let Some(path) = objects.local_path(&key) {
            assert!(fs::read(path).unwrap() == pack);
        }
    }
    fs::write(&source, b"other").unwrap();
    objects.put_file("packs/file-100", &source).unwrap();
    assert_eq!(objects.get("packs/file-100").unwrap(), b"other");

    let error = objects
        .put_file("packs/x", &scratch.path().join("none"))
        .unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    let error = objects
        .get_to_file("packs/file-0", &scratch.path().join("no/such"))
        .unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

fn streams(objects: &dyn Objects) {
    // Nothing, a small object, and one of more than one part.
    for len in [0, 1000, (32 << 20) + (1 << 20) + 3] {
        let stream = bytes(3, len);
        let key = format!("streams/{len}");
        let mut writer = objects.writer(&key).unwrap();
        for piece in stream.chunks(700_001) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        assert_eq!(
            objects.size(&key).unwrap(),
            None,
            "{key} shows before it is finished"
        );
        writer.finish().unwrap();
        assert_eq!(objects.size(&key).unwrap(), Some(len as u64));
        let mut read = Vec::new();
        objects
            .reader(&key)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == stream, "{key}");
    }
    // A reader may stop early.
    let mut first = [0; 10];
    objects
        .reader("streams/1000")
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    assert_eq!(first, bytes(3, 1000)[..10]);

    // A writer may too, before the first part is sent and after.
    for len in [1000, 33 << 20] {
        let mut writer = objects.writer("streams/abandoned").unwrap();
        writer.write_all(&bytes(4, len)).unwrap();
        drop(writer);
        assert_eq!(objects.size("streams/abandoned").unwrap(), None);
    }
    let keys: Vec<String> = objects
        .list("streams")
        .unwrap()
        .into_iter()
        .map(|listed| listed.key)
        .collect();
    assert_eq!(keys, ["streams/0", "streams/1000", "streams/34603011"]);
}

fn listing(objects: &dyn Objects) {
    for number in (0..12).rev() {
        objects
            .create(&format!("roots/{number:020}"), &bytes(5, number))
            .unwrap();
    }
    objects.create("roots/sub/deep/one", b"1").unwrap();
    objects.create("roots-other", b"not in roots").unwrap();
    let mut expected: Vec<Listed> = (0..12)
        .map(|number| Listed {
            key: format!("roots/{number:020}"),
            size: number,
        })
        .collect();
    expected.push(Listed {
        key: "roots/sub/deep/one".to_owned(),
        size: 1,
    });
    assert_eq!(objects.list("roots").unwrap(), expected);
    assert_eq!(objects.list("roots/").unwrap(), expected);
    assert_eq!(objects.list("roots/sub").unwrap(), expected[12..]);
    assert_eq!(objects.list("root").unwrap(), []);
    assert_eq!(objects.list("roots/00000000000000000003").unwrap(), []);

    let after = |after: &str| objects.list_after("roots", after).unwrap();
    assert_eq!(after(""), expected);
    assert_eq!(after("roots"), expected);
    assert_eq!(after("roots/00000000000000000009"), expected[10..]);
    // The key after which to list need not exist.
    assert_eq!(after("roots/00000000000000000009x"), expected[10..]);
    assert_eq!(after("roots/00000000000000000011"), expected[12..]);
    assert_eq!(after("roots/sub/deep/one"), []);
    assert_eq!(after("zzz"), []);

    let all = objects.list("").unwrap();
    assert!(all.is_sorted());
    assert!(all.iter().any(|listed| listed.key == "roots-other"));
    assert!(expected.iter().all(|listed| all.contains(listed)));
}

fn names(objects: &dyn Objects) {
    for key in [
        "a b",
        "100%",
        "%41",
        "#x",
        "ü",
        "x+y=z",
        "[*]?",
        "a'b\"c\\d",
        "~",
        "q&a;b",
    ] {
        let key = format!("names/{key}");
        assert_eq!(
            objects.create(&key, key.as_bytes()).unwrap(),
            Created::New,
            "{key}"
        );
        assert_eq!(objects.get(&key).unwrap(), key.as_bytes());
        assert!(
            objects
                .list("names")
                .unwrap()
                .iter()
                .any(|listed| listed.key == key),
            "{key}"
        );
        objects.delete(&key).unwrap();
    }
    assert_eq!(objects.list("names").unwrap(), []);
    for key in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/..",
        "a\nb",
        "a\0b",
        "packs/.tmp-1",
        ".tmp-x/a",
    ] {
        for error in [
            objects.create(key, b"").map(drop).unwrap_err(),
            objects.get(key).map(drop).unwrap_err(),
            objects.writer(key).map(drop).unwrap_err(),
            objects.delete(key).unwrap_err(),
        ] {
            assert!(
                matches!(error, ObjectsError::InvalidKey { .. }),
                "{key:?}: {error:?}"
            );
        }
    }
}

/// Many writers at one name: one wins, and the object is its bytes.
fn race(objects: &dyn Objects) {
    for round in 0..10 {
        let key = format!("roots/race-{round}");
        let answers: Vec<(u8, Created)> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4u8)
                .map(|writer| {
                    let key = &key;
                    scope.spawn(move || (writer, objects.create(key, &[writer; 100]).unwrap()))
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        let winners: Vec<u8> = answers
            .iter()
            .filter(|(_, created)| *created == Created::New)
            .map(|(writer, _)| *writer)
            .collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert_eq!(objects.get(&key).unwrap(), [winners[0]; 100]);
    }
}
