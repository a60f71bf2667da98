//! Reading many chunks of a bucket: few requests, and errors that end it.

use super::*;
use crate::id::Kind;
use crate::objects::ObjectsError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Counts ranges that are asked for, and fails after so many.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Arc<dyn Objects>,
    /// Whatever was asked, ranges included.
    asked: AtomicU64,
    ranges: AtomicU64,
    bytes: AtomicU64,
    left: AtomicI64,
}

impl Counted {
    pub(super) fn new(inner: Arc<dyn Objects>) -> Arc<Counted> {
        Arc::new(Counted {
            inner,
            asked: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            left: AtomicI64::new(i64::MAX),
        })
    }

    /// Requests of any kind since the last call.
    pub(super) fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// Ranges and bytes since the last call.
    pub(super) fn take(&self) -> (u64, u64) {
        let (ranges, bytes) = (&self.ranges, &self.bytes);
        (
            ranges.swap(0, Ordering::Relaxed),
            bytes.swap(0, Ordering::Relaxed),
        )
    }
}

impl objects::Layer for Counted {
    fn below(&self) -> &dyn Objects {
        self.asked.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.ranges.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            let why = std::io::Error::other("out of order");
            return Err(ObjectsError::from_io(&self.inner.location(), key, why));
        }
        self.below().get_range(key, offset, len)
    }
}

/// A bucket with two snapshots of 500 chunks that lie side by side, the second all deltas.
fn bucket(seal: Option<Seal>) -> (Arc<Counted>, [SnapshotId; 2], [Files; 2]) {
    let place = Place::new(seal.clone());
    let mut bytes = noise(1, 500 * CHUNK);
    let old = Files::from([("file".into(), bytes.clone())]);
    let (first, _) = snapshot_on(&place.open(), &old, None, "old");
    for chunk in bytes.chunks_mut(CHUNK) {
        chunk[77] ^= 1;
    }
    let new = Files::from([("file".into(), bytes)]);
    let (second, stats) = snapshot_on(&place.open(), &new, Some(first), "new");
    assert_eq!(stats.chunks_delta, 500);
    let objects = super::bucket();
    let storage = Repository::create(
        objects.clone(),
        SMALL,
        seal,
        IndexChoice::Memory,
        Operation::default(),
    )
    .unwrap();
    let what = Transfer {
        snapshots: vec![first, second],
        ..Transfer::default()
    };
    transfer(&place.open(), &storage, what, &|_| {}).unwrap();
    (Counted::new(objects), [first, second], [old, new])
}

#[test]
fn neighbours_are_fetched_together() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let (objects, ids, files) = bucket(seal.clone());
        let repository = Repository::open(objects.clone(), seal, IndexChoice::Memory).unwrap();
        let plain = 500 * CHUNK as u64;
        for (id, files) in ids.into_iter().zip(files) {
            // Directories of packs and nodes of trees are read first.
            chunks_of(&repository, id);
            objects.take();
            assert!(many_of(&repository, id, 4) == files);
            let (ranges, bytes) = objects.take();
            assert!(ranges <= 30, "{ranges} ranges");
            assert!((plain..plain * 11 / 10).contains(&bytes), "{bytes} bytes");
        }
    }
}

#[test]
fn the_first_error_ends_it() {
    let (objects, ids, _) = bucket(None);
    let repository = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
    let ids = chunks_of(&repository, ids[1]).remove("file").unwrap();
    let wanted = || ids.iter().copied().zip(0..);
    let given = AtomicU64::new(0);
    let count = |_: &i32, _: &[u8]| {
        given.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(())
    };
    repository.chunk(ids[0]).unwrap();
    for threads in [1, 4] {
        for left in [0, 1, 3] {
            given.store(0, Ordering::Relaxed);
            objects.left.store(left, Ordering::Relaxed);
            let error = repository.read_many(wanted(), threads, &count).unwrap_err();
            assert!(error.to_string().contains("out of order"), "{error}");
            assert!(given.load(Ordering::Relaxed) < 500);
        }
    }
    objects.left.store(i64::MAX, Ordering::Relaxed);
    // So does the first error of whoever takes the bytes.
    let refuse = |n: &i32, bytes: &[u8]| match n {
        300 => Err(Error::Invalid {
            what: "not this one".into(),
        }),
        n => count(n, bytes),
    };
    let error = repository.read_many(wanted(), 4, &refuse).unwrap_err();
    assert_eq!(error.to_string(), "not this one");
    repository.read_many(wanted(), 4, &count).unwrap();
    // A chunk that is nowhere ends it, too.
    let nowhere = wanted().chain([(ChunkId([9; 32]), 500)]);
    let error = repository.read_many(nowhere, 4, &count).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn a_pack_that_is_gone_is_named() {
    let (objects, ids, _) = bucket(None);
    let repository = Repository::open(objects.clone(), None, IndexChoice::Memory).unwrap();
    let ids = chunks_of(&repository, ids[0]).remove("file").unwrap();
    let (_, place) = repository.find(Kind::Chunk, ids[0].into()).unwrap()[0];
    objects.delete(&place.pack.key()).unwrap();
    let take = |_: &usize, _: &[u8]| Ok::<_, Error>(());
    let error = repository.read_many(ids.into_iter().zip(0..), 2, &take);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains(&place.pack.to_string()));
}
