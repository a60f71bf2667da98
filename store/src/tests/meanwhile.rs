//! Objects beside which something happens at a chosen moment.

use super::*;
use crate::objects::{Created, Listed, ObjectWriter, Objects, ObjectsError};

/// The moment, and the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// After it was listed.
    Listed(&'static str),
    /// Before an object in it is created, and after.
    Creates(&'static str),
    Created(&'static str),
    /// After an object in it was read.
    Read(&'static str),
    /// Before an object in it is deleted.
    Deletes(&'static str),
    /// Never, and listings of roots are empty.
    Late,
}

/// Objects beside which something happens once.
pub(super) struct Meanwhile {
    inner: Directory,
    when: When,
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
            then: Mutex::new(Some(Box::new(then))),
        }
    }

    /// Objects of which no root is ever listed, as by a listing that is late.
    pub(super) fn late(dir: &Path) -> Self {
        Meanwhile::new(dir, When::Late, || {})
    }

    fn happen(&self, when: impl Fn(&'static str) -> When, key: &str) {
        let folder = key.find('/').map_or(key, |at| &key[..=at]);
        let folders = ["packs/", "roots/", "marks/", "sessions/"];
        let Some(folder) = folders.into_iter().find(|known| *known == folder) else {
            return;
        };
        if when(folder) != self.when {
            return;
        }
        let then = self.then.lock().unwrap().take();
        then.into_iter().for_each(|then| then());
    }
}

impl Objects for Meanwhile {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn local_path(&self, key: &str) -> Option<std::path::PathBuf> {
        self.inner.local_path(key)
    }
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        let got = self.inner.get(key);
        self.happen(When::Read, key);
        got
    }
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.inner.get_range(key, offset, len)
    }
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.inner.size(key)
    }
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        self.happen(When::Creates, key);
        let created = self.inner.create(key, bytes);
        self.happen(When::Created, key);
        created
    }
    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        self.inner.put_file(key, file)
    }
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        self.inner.get_to_file(key, file)
    }
    fn reader(&self, key: &str) -> Result<Box<dyn std::io::Read + Send>, ObjectsError> {
        self.inner.reader(key)
    }
    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        self.inner.writer(key)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        if self.when == When::Late && prefix == "roots/" {
            return Ok(Vec::new());
        }
        let listed = self.inner.list(prefix);
        self.happen(When::Listed, prefix);
        listed
    }
    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.inner.list_after(prefix, after)
    }
    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.happen(When::Deletes, key);
        self.inner.delete(key)
    }
}
