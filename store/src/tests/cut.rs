//! Places of which something cannot be reached or written, which keeps nothing else from being
//! done.

use super::*;
use crate::objects::{Created, Lazy, ObjectsError};
use std::sync::atomic::AtomicBool;

/// A directory where nothing below one folder can be read, or else written, once the line is cut.
#[derive(Debug)]
struct Cut {
    inner: Directory,
    folder: &'static str,
    reads: bool,
    is_cut: AtomicBool,
}

impl Cut {
    fn new(dir: &Path, folder: &'static str, reads: bool) -> Arc<Cut> {
        Arc::new(Cut {
            inner: Directory::new(dir),
            folder,
            reads,
            is_cut: AtomicBool::new(false),
        })
    }

    fn check(&self, reads: bool, key: &str) -> Result<(), ObjectsError> {
        let is_met = reads == self.reads && key.starts_with(self.folder);
        match is_met && self.is_cut.load(Ordering::Relaxed) {
            true => Err(ObjectsError::from_io(
                "far",
                key,
                std::io::ErrorKind::NotConnected.into(),
            )),
            false => Ok(()),
        }
    }
}

impl objects::Layer for Cut {
    fn below(&self) -> &dyn Objects {
        &self.inner
    }
    fn local_path(&self, _: &str) -> Option<std::path::PathBuf> {
        None
    }
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.check(true, key)?;
        self.inner.size(key)
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.check(true, key)?;
        self.inner.get(key)
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.check(true, key)?;
        self.inner.get_range(key, offset, len)
    }
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        self.check(false, key)?;
        self.inner.create(key, bytes)
    }
}

fn open(objects: Arc<dyn Objects>) -> Repository {
    Repository::open(objects, None, IndexChoice::Memory).unwrap()
}

#[test]
fn a_lazy_home_frees_space_while_its_storage_is_out_of_reach() {
    let storage = Place::new(None);
    for n in 0..3 {
        let files = Files::from([("own".into(), noise(n, 3 * CHUNK))]);
        snapshot_on(&storage.open(), &files, None, "");
    }
    let dir = tempfile::tempdir().unwrap();
    let far = Cut::new(storage.dir.path(), "packs/", true);
    let objects = Arc::new(Lazy::new(Directory::new(dir.path()), far.clone()));
    let (index, operation) = (IndexChoice::Memory, Operation::default());
    let home = Repository::create(objects, SMALL, None, index, operation).unwrap();
    let home = home.alone();
    let state = storage.open().state().unwrap();
    let ids: Vec<SnapshotId> = state.snapshots().map(|row| row.id).collect();
    let what = Transfer {
        snapshots: ids.clone(),
        ..Transfer::default()
    };
    transfer_without_packs(&storage.open(), &home, what).unwrap();
    remove(&home, &ids);
    far.is_cut.store(true, Ordering::Relaxed);
    let done = home.collect(Operation::default(), no_grace()).unwrap();
    assert_eq!((done.packs, home.state().unwrap().packs().count()), (3, 0));
}

/// Index segments cost time alone: what else is to be done is done without.
#[test]
fn where_no_index_segment_can_be_written_all_else_is_done() {
    let place = Place::new(None);
    let far = Cut::new(place.dir.path(), "index/", false);
    let storage = || open(far.clone()).with_segments_of(1);
    let files = Files::from([("own".into(), noise(1, 3 * CHUNK))]);
    snapshot_on(&place.open(), &files, None, "");
    storage().collect(Operation::default(), no_grace()).unwrap();
    let state = storage().state().unwrap();
    let segment = state.index_segments().next().unwrap().key();
    far.is_cut.store(true, Ordering::Relaxed);
    snapshot_on(&place.open(), &files, None, "again");
    let seq = storage().state().unwrap().seq();
    storage().collect(Operation::default(), no_grace()).unwrap();
    assert_eq!(storage().state().unwrap().seq(), seq, "none was listed");
    place.open().objects().delete(&segment).unwrap();
    let how = Repair {
        operation: Operation::default(),
        sources: vec![],
        summary: &|_| vec![],
    };
    let done = storage().repair(&how, &|_| {}).unwrap();
    assert_eq!((done.before.bad_segments.len(), done.segments), (1, 0));
    assert_eq!(done.after.bad_segments, done.before.bad_segments);
}
