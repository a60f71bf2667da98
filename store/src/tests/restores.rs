//! Restores in the midst of which their packs go: between two requests for chunks of one file.

use super::collection::{Pair, at_once, push};
use super::dice::seeded;
use super::*;
use crate::objects::ObjectsError;
use std::collections::BTreeSet;

const PART: usize = 64 << 10;

type Event = Box<dyn FnOnce() + Send>;

/// A storage at which something happens before a chunk is fetched, by the number of that request.
struct Between {
    inner: Directory,
    requests: AtomicU64,
    events: Mutex<BTreeMap<u64, Event>>,
    /// Packs of which chunks came.
    gave: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Between {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

impl objects::Layer for Between {
    fn below(&self) -> &dyn Objects {
        &self.inner
    }
    fn local_path(&self, _: &str) -> Option<std::path::PathBuf> {
        None
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        // All else that is read of packs is short.
        if len < PART {
            return self.inner.get_range(key, offset, len);
        }
        let number = 1 + self.requests.fetch_add(1, Ordering::SeqCst);
        let event = self.events.lock().unwrap().remove(&number);
        if let Some(event) = event {
            std::thread::spawn(event).join().unwrap();
        }
        let found = self.inner.get_range(key, offset, len)?;
        self.gave.lock().unwrap().insert(key.to_owned());
        Ok(found)
    }
}

/// Every so many chunks of one file, far enough from each other to be fetched one by one.
fn file(every: usize) -> Files {
    let parts = (0..24).step_by(every).map(|n| noise(n, PART));
    Files::from([("f".into(), parts.collect::<Vec<_>>().concat())])
}

/// Front to back, as an export reads.
fn one_by_one(repository: &Repository, id: SnapshotId) -> Files {
    files_of(repository, id)
}

/// In the order of packs, as a checkout reads.
fn together(repository: &Repository, id: SnapshotId) -> Files {
    let tree = repository.snapshot(id).unwrap().tree;
    let Node::File(file) = repository.listing(tree).unwrap()["f"].clone() else {
        unreachable!("it is a file");
    };
    let ids = repository.chunk_ids(&file).unwrap();
    let bytes = Mutex::new(vec![0; file.size as usize]);
    let wanted = ids.into_iter().zip(0..);
    repository
        .read_many(wanted, 1, &|at: &usize, chunk: &[u8]| {
            bytes.lock().unwrap()[at * PART..][..chunk.len()].copy_from_slice(chunk);
            Ok::<_, Error>(())
        })
        .unwrap();
    Files::from([("f".into(), bytes.into_inner().unwrap())])
}

/// The first collection moves what is being read out of its pack, and so does the second.
fn runs_through_two_collections(read: fn(&Repository, SnapshotId) -> Files, at: [u64; 2]) {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    // Two thirds of a pack are of no use without the first snapshot, half of what is left without
    // the second.
    let all = [1, 3, 6].map(file);
    let ids = all.each_ref().map(|files| snapshot(&local, files, "x").id);
    push(&local, &storage, &ids).unwrap();
    let collection = |gone: SnapshotId| -> Event {
        let there = pair.storage();
        Box::new(move || {
            remove(&there, &[gone]);
            let how = Collect {
                repack: Repack {
                    traffic: u64::MAX,
                    poor_percent: 100,
                    ..Repack::default()
                },
                ..at_once()
            };
            let done = there.collect(Operation::default(), how).unwrap();
            assert!(done.rewritten > 0 && done.packs > 0, "{done:?}");
        })
    };
    let objects = Arc::new(Between {
        inner: Directory::new(pair.dirs.1.path()),
        requests: AtomicU64::new(0),
        events: Mutex::new(
            at.into_iter()
                .zip([0, 1].map(|n| collection(ids[n])))
                .collect(),
        ),
        gave: Mutex::default(),
    });
    let (index, world) = (IndexChoice::Memory, seeded(1));
    let reader = Repository::open_in(objects.clone(), None, index, world).unwrap();
    assert!(read(&reader, ids[2]) == all[2]);
    let left: Vec<u64> = objects.events.lock().unwrap().keys().copied().collect();
    assert!(left.is_empty(), "nothing was asked for as number {left:?}");
    let gave = objects.gave.lock().unwrap();
    assert_eq!(
        gave.len(),
        3,
        "one pack after the other gave chunks: {gave:?}"
    );
    assert_good(&pair.storage());
}

#[test]
fn a_file_is_read_through_two_collections() {
    runs_through_two_collections(one_by_one, [2, 4]);
}

#[test]
fn chunks_are_read_together_through_two_collections() {
    runs_through_two_collections(together, [2, 8]);
}
