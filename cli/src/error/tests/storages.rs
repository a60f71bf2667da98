use insta::assert_snapshot;

use zenith::store::id::Id;

use super::*;

pub(super) fn storages() -> Vec<Error> {
    let (location, key, why) = (|| s("s3://b/p"), || s("packs/x"), || s("told so"));
    let objects = vec![
        ObjectsError::NotFound {
            location: location(),
            key: key(),
        },
        ObjectsError::BucketMissing {
            location: location(),
            bucket: s("b"),
        },
        ObjectsError::BadCredentials {
            location: location(),
            why: why(),
        },
        ObjectsError::PermissionDenied {
            location: location(),
            key: key(),
            why: why(),
        },
        ObjectsError::Unreachable {
            location: location(),
            key: key(),
            host: s("127.0.0.1:9"),
            why: why(),
        },
        ObjectsError::NoSpace {
            location: location(),
            key: key(),
        },
        ObjectsError::ReadOnly {
            location: location(),
            key: key(),
        },
        ObjectsError::HttpNotAllowed {
            endpoint: s("http://h"),
            variable: "AWS_ALLOW_HTTP",
        },
        ObjectsError::Unsupported {
            location: location(),
            what: s("conditional writes"),
        },
        ObjectsError::Configuration {
            location: location(),
            why: why(),
        },
        ObjectsError::Service {
            location: location(),
            key: key(),
            why: why(),
        },
        ObjectsError::Io {
            location: s("/s"),
            key: key(),
            source: io(io::ErrorKind::Other),
        },
    ];
    let moved = |expected| StoreError::RefMoved {
        name: s("branch/x"),
        expected,
        found: Some(id(2)),
    };
    let store = vec![
        StoreError::NotARepository {
            location: location(),
        },
        StoreError::RepositoryExists {
            location: location(),
        },
        StoreError::TooNew {
            location: location(),
            what: s("format 2"),
        },
        StoreError::RootLost {
            seq: 7,
            location: location(),
            why: s("it has another hash"),
            previous: Some((6, s("snapshot create by ann@db1"))),
        },
        StoreError::Damaged {
            what: s("root 7"),
            location: location(),
            why: s("its hash is another"),
        },
        StoreError::NoSnapshot {
            id: id(1),
            location: location(),
        },
        moved(None),
        moved(Some(id(1))),
        StoreError::NoConditionalWrites {
            location: location(),
            why: s("it replaces what is there instead"),
        },
        StoreError::SingleWriter {
            location: location(),
            writer: s("0f3a"),
        },
        StoreError::Contended {
            location: location(),
            tries: 9,
        },
        StoreError::ParamsDiffer {
            from: s("/a"),
            to: s("/b"),
            what: s("chunk size"),
        },
        StoreError::Index {
            path: s("/h/rocks"),
            why: s("corrupt"),
        },
        StoreError::File {
            verb: "write",
            path: s("/h/packs/x"),
            source: io(io::ErrorKind::StorageFull),
        },
    ];
    let all = objects.into_iter().map(StoreError::from).chain(store);
    all.map(Error::from).collect()
}

#[test]
fn storages_in_words() {
    assert_snapshot!(shown(storages()), @r"
    [1] error: s3://b/p/packs/x does not exist

    hint: An object is missing: check the URL, and that nothing else deletes there.

    [1] error: the bucket `b` of s3://b/p does not exist

    hint: Create the bucket `b` first, or correct the URL.

    [1] error: s3://b/p does not accept the credentials: told so

    hint: Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (or the names of your cloud); for --snapshot-path the same with SNAPSHOT_ in front.

    [8] error: no permission for s3://b/p/packs/x: told so

    hint: Give the user or key the right to read, write and list there.

    [5] error: 127.0.0.1:9 is unreachable: told so

    hint: Check the network and AWS_ENDPOINT_URL, then run the command again; snapshots stay in the home meanwhile.

    [8] error: no space left for s3://b/p/packs/x

    hint: No space is left there: make room and run the same command again.

    [8] error: s3://b/p/packs/x is on a read-only file system

    hint: Name a place on a file system that can be written.

    [1] error: the endpoint `http://h` is not encrypted and AWS_ALLOW_HTTP is not set

    hint: Set AWS_ALLOW_HTTP=true to allow http, or use an https endpoint.

    [6] error: s3://b/p does not support conditional writes

    hint: zenith needs conditional writes (If-None-Match: *); use a service that has them.

    [1] error: the settings of s3://b/p are not valid: told so

    hint: Check URL and settings of the storage, then run the command again.

    [8] error: s3://b/p/packs/x: told so

    hint: Check URL and settings of the storage, then run the command again.

    [8] error: /s/packs/x: other error

    hint: Look at the disk (`dmesg`), then run the same command again.

    [1] error: there is no zenith repository at s3://b/p

    hint: `zenith init --storage-dest URL` makes one; check the URL for a typo.

    [4] error: there is a zenith repository at s3://b/p already

    hint: Name another place, or push to this one.

    [6] error: the repository at s3://b/p needs a newer zenith: format 2

    hint: Install a newer zenith; this one changes nothing there.

    [7] error: root 7, the latest of s3://b/p, cannot be read: it has another hash
      the newest before it that can be read is root 6: snapshot create by ann@db1

    hint: Nothing was changed. `zenith verify --repair` goes on from there with a new root and brings back the snapshots that are whole in the packs; for a storage add --remote.

    [7] error: root 7 at s3://b/p is damaged: its hash is another

    hint: Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith verify --repair` brings back what the managed cluster or a remote has; for a storage add --remote.

    [1] error: there is no snapshot 0101010101010101010101010101010101010101010101010101010101010101 in the repository at s3://b/p

    hint: `zenith snapshot list --all` lists what there is.

    [4] error: branch/x moved: expected nothing, found 02020202

    hint: There is a branch of this name already; `zenith branch` lists what there is.

    [4] error: branch/x moved: expected 01010101, found 02020202

    hint: Somebody else was faster: run the command again.

    [6] error: s3://b/p cannot keep two writers apart: asked to create an object only where there is none, it replaces what is there instead

    hint: Use a directory, or a server with conditional writes (If-None-Match). Where this home is the only one that will ever write there, say so: `zenith init --single-writer --storage-dest URL`.

    [4] error: the repository at s3://b/p is written by home 0f3a alone, as its storage cannot keep two writers apart

    hint: Where that home is gone for good, `zenith init --single-writer --storage-dest URL` makes this one the writer; `zenith import --snapshot-path URL --snapshot-format zenith` only reads.

    [4] error: other writers committed 9 times before this commit to s3://b/p could

    hint: Somebody else was faster: run the command again.

    [1] error: /a and /b differ in chunk size

    hint: Export to an empty place: `zenith export --snapshot-path URL --snapshot-format zenith`.

    [8] error: the index /h/rocks cannot be used: corrupt

    hint: The index only saves time: move /h/rocks away and run the command again.

    [8] error: write /h/packs/x: no storage space

    hint: No space is left: make room and run the same command again; `df -h` shows where.
    ");
}

pub(super) fn damage() -> Vec<Error> {
    let location = || s("s3://b/p");
    let pack = PackName {
        session: [1; 16],
        number: 2,
    };
    let store = vec![
        StoreError::BlobDamaged {
            pack,
            location: location(),
            offset: 4096,
            why: s("has another hash"),
        },
        StoreError::BaseMissing {
            pack,
            location: location(),
            offset: 4096,
        },
        StoreError::Missing {
            id: Id([1; 32]),
            kind: "chunk",
            location: location(),
        },
        StoreError::RootTooLarge {
            bytes: 70_000,
            limit: 65_536,
        },
        StoreError::Invalid {
            what: s("a chunk size of 3 bytes"),
        },
        ObjectsError::NoCredentials {
            location: location(),
            why: s("told so"),
        }
        .into(),
        ObjectsError::InvalidKey {
            location: location(),
            key: s("a//b"),
            why: s("an empty part"),
        }
        .into(),
        ObjectsError::OutOfRange {
            location: location(),
            key: s("packs/x"),
            offset_bytes: 10,
            len_bytes: 20,
            size_bytes: 15,
        }
        .into(),
    ];
    store.into_iter().map(Error::from).collect()
}

#[test]
fn damage_in_words() {
    assert_snapshot!(shown(damage()), @r#"
    [7] error: pack 01010101010101010101010101010101-2 at s3://b/p is damaged: the blob at offset 4096 has another hash

    hint: Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith verify --repair` brings back what the managed cluster or a remote has; for a storage add --remote.

    [7] error: the base of the delta at offset 4096 of pack 01010101010101010101010101010101-2 is in no pack of the repository at s3://b/p

    hint: Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith verify --repair` brings back what the managed cluster or a remote has; for a storage add --remote.

    [7] error: chunk 0101010101010101010101010101010101010101010101010101010101010101 is in no pack of the repository at s3://b/p

    hint: Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith verify --repair` brings back what the managed cluster or a remote has; for a storage add --remote.

    [1] error: the root would have 70000 bytes; at most 65536 are allowed: it would tell of too much at once

    hint: Give fewer names and snapshots at a time: one root tells of all that a command did.

    [1] error: a chunk size of 3 bytes

    hint: Run the command again with -vv, which shows what was being done.

    [1] error: there are no credentials for s3://b/p: told so

    hint: Check URL and settings of the storage, then run the command again.

    [1] error: `a//b` cannot name an object in s3://b/p: an empty part

    hint: Check URL and settings of the storage, then run the command again.

    [1] error: s3://b/p/packs/x has 15 bytes, but 20 bytes at offset 10 were asked for

    hint: Check URL and settings of the storage, then run the command again.
    "#);
}
