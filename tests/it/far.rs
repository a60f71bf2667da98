//! A storage that is no directory of this machine, and does not always do what it should.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zenith_store::objects::{Created, Directory, Objects, ObjectsError};
use zenith_store::{IndexChoice, Repository};
use zenith_testkit::Place;

/// A storage that is no directory of this machine, counts what is fetched of it, and fails after
/// so many packs.
#[derive(Debug)]
pub(crate) struct Far {
    inner: Directory,
    packs: AtomicU64,
    ranges: AtomicU64,
    pub(crate) left: AtomicI64,
    /// No commit arrives.
    pub(crate) refuses: AtomicBool,
    /// What is created replaces what is there, as with some servers that speak S3.
    pub(crate) replaces: AtomicBool,
    before_root: BeforeRoot,
}

/// What happens before the next root is made.
#[derive(Default)]
struct BeforeRoot(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for BeforeRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforeRoot")
    }
}

impl Far {
    pub(crate) fn new(place: &Place) -> Arc<Far> {
        Arc::new(Far {
            inner: Directory::new(place.join("storage")),
            packs: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            left: AtomicI64::new(i64::MAX),
            refuses: AtomicBool::new(false),
            replaces: AtomicBool::new(false),
            before_root: BeforeRoot::default(),
        })
    }

    /// Somebody else is faster than whoever makes the next root through this.
    pub(crate) fn before_root(&self, then: impl FnOnce() + Send + 'static) {
        *self.before_root.0.lock().unwrap() = Some(Box::new(then));
    }

    /// Packs and ranges of packs fetched since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (
            self.packs.swap(0, Ordering::Relaxed),
            self.ranges.swap(0, Ordering::Relaxed),
        )
    }

    pub(crate) fn open(self: &Arc<Far>) -> Repository {
        Repository::open(self.clone(), None, IndexChoice::Memory).unwrap()
    }
}

impl zenith_store::objects::Layer for Far {
    fn below(&self) -> &dyn Objects {
        &self.inner
    }
    fn local_path(&self, _key: &str) -> Option<PathBuf> {
        None
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        if key.starts_with("packs/") {
            self.ranges.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.get_range(key, offset, len)
    }
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        if key.starts_with("roots/")
            && let Some(then) = self.before_root.0.lock().unwrap().take()
        {
            then();
        }
        if key.starts_with("roots/") && self.refuses.load(Ordering::Relaxed) {
            let why = std::io::Error::other("the line is cut");
            return Err(ObjectsError::from_io(&self.inner.location(), key, why));
        }
        if self.replaces.load(Ordering::Relaxed) && self.inner.size(key)?.is_some() {
            self.inner.delete(key)?;
        }
        self.inner.create(key, bytes)
    }
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            let why = std::io::Error::other("the line is cut");
            return Err(ObjectsError::from_io(&self.inner.location(), key, why));
        }
        self.packs.fetch_add(1, Ordering::Relaxed);
        self.inner.get_to_file(key, file)
    }
}
