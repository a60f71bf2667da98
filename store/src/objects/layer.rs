//! Objects over other objects: what is not done otherwise is done by those below.

use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Created, Listed, ObjectWriter, Objects, ObjectsError};

/// [`Objects`] of which each method is that of the place below, unless it is written anew.
///
/// It is implemented by its path: where it is imported beside [`Objects`], calls are ambiguous.
pub trait Layer: Send + Sync + Debug {
    /// The place below.
    fn below(&self) -> &dyn Objects;

    /// [`Objects::location`]
    fn location(&self) -> String {
        self.below().location()
    }

    /// [`Objects::local_path`]
    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.below().local_path(key)
    }

    /// [`Objects::far`]
    fn far(&self) -> Option<Arc<dyn Objects>> {
        self.below().far()
    }

    /// [`Objects::get`]
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        self.below().get(key)
    }

    /// [`Objects::get_range`]
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        self.below().get_range(key, offset, len)
    }

    /// [`Objects::size`]
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        self.below().size(key)
    }

    /// [`Objects::create`]
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        self.below().create(key, bytes)
    }

    /// [`Objects::put_file`]
    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        self.below().put_file(key, file)
    }

    /// [`Objects::get_to_file`]
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        self.below().get_to_file(key, file)
    }

    /// [`Objects::reader`]
    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        self.below().reader(key)
    }

    /// [`Objects::writer`]
    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        self.below().writer(key)
    }

    /// [`Objects::list`]
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.below().list(prefix)
    }

    /// [`Objects::list_after`]
    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.below().list_after(prefix, after)
    }

    /// [`Objects::delete`]
    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.below().delete(key)
    }
}

impl<L: Layer> Objects for L {
    fn location(&self) -> String {
        Layer::location(self)
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        Layer::local_path(self, key)
    }

    fn far(&self) -> Option<Arc<dyn Objects>> {
        Layer::far(self)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        Layer::get(self, key)
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        Layer::get_range(self, key, offset, len)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        Layer::size(self, key)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        Layer::create(self, key, bytes)
    }

    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        Layer::put_file(self, key, file)
    }

    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        Layer::get_to_file(self, key, file)
    }

    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        Layer::reader(self, key)
    }

    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        Layer::writer(self, key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        Layer::list(self, prefix)
    }

    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        Layer::list_after(self, prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        Layer::delete(self, key)
    }
}
