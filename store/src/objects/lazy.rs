//! A home whose packs lie elsewhere: what is not here is read from there, by ranges.
//!
//! Only packs are looked for there. Everything else, and everything that is written, is the
//! home's own: its roots are another log than that of the place which its packs came from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Directory, Objects, ObjectsError};

/// The objects of a directory, and below `packs/` those of another place under it.
#[derive(Debug, Clone)]
pub struct Lazy {
    local: Directory,
    remote: Arc<dyn Objects>,
}

impl Lazy {
    /// `remote` has the packs that `local` has not.
    pub fn new(local: Directory, remote: Arc<dyn Objects>) -> Self {
        Self { local, remote }
    }

    /// What `near` gives, or where that has no such pack what `far` gives.
    fn either<T>(
        &self,
        key: &str,
        near: impl FnOnce(&Directory) -> Result<T, ObjectsError>,
        far: impl FnOnce(&dyn Objects) -> Result<T, ObjectsError>,
    ) -> Result<T, ObjectsError> {
        match near(&self.local) {
            Err(e) if e.is_not_found() && is_pack(key) => far(&*self.remote),
            answer => answer,
        }
    }
}

fn is_pack(key: &str) -> bool {
    key.starts_with("packs/")
}

impl super::Layer for Lazy {
    /// What is written, listed and deleted is so here: whoever lists packs looks for what may be
    /// removed.
    fn below(&self) -> &dyn Objects {
        &self.local
    }

    /// None for a pack that is not here.
    fn local_path(&self, key: &str) -> Option<PathBuf> {
        let path = self.local.local_path(key)?;
        (!is_pack(key) || path.is_file()).then_some(path)
    }

    fn far(&self) -> Option<Arc<dyn Objects>> {
        Some(self.remote.clone())
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.either(key, |near| near.get(key), |far| far.get(key))
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.either(
            key,
            |near| near.get_range(key, offset, len),
            |far| far.get_range(key, offset, len),
        )
    }

    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        match self.local.size(key)? {
            None if is_pack(key) => self.remote.size(key),
            size => Ok(size),
        }
    }

    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        self.either(
            key,
            |near| near.get_to_file(key, file),
            |far| far.get_to_file(key, file),
        )
    }

    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        self.either(key, |near| near.reader(key), |far| far.reader(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_come_from_the_nearer_place_and_nothing_else_from_afar() {
        let dir = tempfile::tempdir().unwrap();
        let near = Directory::new(dir.path().join("near"));
        let far = Directory::new(dir.path().join("far"));
        let lazy = Lazy::new(near.clone(), Arc::new(far.clone()));
        near.create("packs/a", b"near").unwrap();
        far.create("packs/a", b"distant").unwrap();
        far.create("packs/b", b"distant").unwrap();
        far.create("roots/1", b"another log").unwrap();
        assert_eq!(lazy.get("packs/a").unwrap(), b"near");
        assert_eq!(lazy.get("packs/b").unwrap(), b"distant");
        assert_eq!(lazy.get_range("packs/b", 3, 2).unwrap(), b"ta");
        assert_eq!(lazy.size("packs/a").unwrap(), Some(4));
        assert_eq!(lazy.size("packs/b").unwrap(), Some(7));
        assert_eq!(lazy.size("packs/c").unwrap(), None);
        assert!(lazy.get("packs/c").unwrap_err().is_not_found());
        assert!(lazy.get("roots/1").unwrap_err().is_not_found());
        assert_eq!(lazy.size("roots/1").unwrap(), None);
        // A pack that is here is not looked for elsewhere, even where it is too short.
        assert!(
            lazy.get_range("packs/a", 3, 2)
                .unwrap_err()
                .is_out_of_range()
        );
        let file = dir.path().join("copy");
        assert_eq!(lazy.get_to_file("packs/b", &file).unwrap(), 7);
        let mut text = String::new();
        let mut reader = lazy.reader("packs/b").unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "distant");

        assert!(lazy.local_path("packs/a").is_some() && lazy.local_path("packs").is_some());
        assert_eq!(lazy.local_path("packs/b"), None);
        lazy.create("packs/c", b"new").unwrap();
        lazy.delete("packs/b").unwrap();
        assert_eq!(far.size("packs/c").unwrap(), None);
        assert_eq!(far.size("packs/b").unwrap(), Some(7));
        let listed: Vec<String> = lazy
            .list("packs/")
            .unwrap()
            .into_iter()
            .map(|l| l.key)
            .collect();
        assert_eq!(listed, ["packs/a", "packs/c"]);
    }
}
