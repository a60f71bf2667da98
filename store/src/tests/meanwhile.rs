//! Objects beside which something happens at a chosen moment.

use super::*;
use crate::objects::{Created, Listed, ObjectsError};

/// The moment, and the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// After it was listed.
    Listed(&'static str),
    /// Before an object in it is created, and after.
    Creates(&'static str),
    Created(&'static str),
    /// Before something of an object in it is read or asked for, and after it was read whole.
    Reads(&'static str),
    Read(&'static str),
    /// After somebody asked for an object in it.
    Asked(&'static str),
    /// Before an object in it is deleted.
    Deletes(&'static str),
    /// Never, and listings of roots are empty.
    Late,
}

/// Objects beside which something happens once.
pub(super) struct Meanwhile {
    inner: Directory,
    when: When,
    /// Moments that pass before.
    left: AtomicU64,
    /// Whether the objects are no files of this machine.
    far: bool,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Meanwhile {
    pub(super) fn new(dir: &Path, when: When, then: impl FnOnce() + Send + 'static) -> Self {
        Meanwhile {
            inner: Directory::new(dir),
            when,
            left: AtomicU64::new(0),
            far: false,
            then: Mutex::new(Some(Box::new(then))),
        }
    }

    /// The same as at a storage, and at a later one of these moments.
    pub(super) fn far(self, later: u64) -> Self {
        Meanwhile {
            left: AtomicU64::new(later),
            far: true,
            ..self
        }
    }

    /// Whether it has happened.
    pub(super) fn has_happened(&self) -> bool {
        self.then.lock().unwrap().is_none()
    }

    /// Objects of which no root is ever listed, as by a listing that is late.
    pub(super) fn late(dir: &Path) -> Self {
        Meanwhile::new(dir, When::Late, || {})
    }

    fn happen(&self, when: impl Fn(&'static str) -> When, key: &str) {
        let folder = key.find('/').map_or(key, |at| &key[..=at]);
        let folders = ["packs/", "index/", "roots/", "marks/", "sessions/"];
        let Some(folder) = folders.into_iter().find(|known| *known == folder) else {
            return;
        };
        if when(folder) != self.when {
            return;
        }
        let passes = |left: u64| left.checked_sub(1);
        let moment = (Ordering::SeqCst, Ordering::SeqCst);
        if self.left.fetch_update(moment.0, moment.1, passes).is_ok() {
            return;
        }
        let then = self.then.lock().unwrap().take();
        // Another machine, which has buffers of its own.
        if let Some(then) = then {
            std::thread::spawn(then).join().unwrap();
        }
    }
}

impl objects::Layer for Meanwhile {
    fn below(&self) -> &dyn Objects {
        &self.inner
    }
    fn local_path(&self, key: &str) -> Option<std::path::PathBuf> {
        self.inner.local_path(key).filter(|_| !self.far)
    }
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.happen(When::Reads, key);
        let size = self.inner.size(key);
        self.happen(When::Asked, key);
        size
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.happen(When::Reads, key);
        self.inner.get_range(key, offset, len)
    }
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        self.happen(When::Reads, key);
        self.inner.get_to_file(key, file)
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.happen(When::Reads, key);
        let got = self.inner.get(key);
        self.happen(When::Read, key);
        got
    }
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        self.happen(When::Creates, key);
        let created = self.inner.create(key, bytes);
        self.happen(When::Created, key);
        created
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        if self.when == When::Late && prefix == "roots/" {
            return Ok(Vec::new());
        }
        let listed = self.inner.list(prefix);
        self.happen(When::Listed, prefix);
        listed
    }
    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.happen(When::Deletes, key);
        self.inner.delete(key)
    }
}
