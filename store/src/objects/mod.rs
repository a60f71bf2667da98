//! The one place where the store touches the world: immutable objects under names, in a
//! directory or in a bucket.
//!
//! This is not a file system: an object is written whole, once, and never changed. Only
//! [`disk`] calls fsync, link and rename, and only [`bucket`] awaits.

pub mod bucket;
pub mod directory;
pub mod disk;
mod environment;
mod error;
pub mod exclusive;
mod layer;
pub mod lazy;
pub mod url;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use bucket::Bucket;
pub use directory::Directory;
pub use environment::Environment;
pub use error::{ObjectsError, ObjectsErrorKind};
pub use exclusive::Exclusive;
pub use layer::Layer;
pub use lazy::Lazy;
pub use url::{OpenOptions, StorageUrl, UrlError, Warning};

/// Names that begin so belong to files that are still being written. They are never listed and
/// no object may be called so.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A place where immutable objects lie under names: a directory or a bucket.
///
/// A key is one or more names joined by `/`, without empty names, `.`, `..` and control
/// characters. All calls block the thread; a bucket runs its own tokio runtime, so no call may
/// be made from inside another runtime.
pub trait Objects: Send + Sync + Debug {
    /// The place as a person would write it, for messages. Never holds credentials.
    fn location(&self) -> String;

    /// The path of an object where objects are files of this machine: lets readers use pread
    /// and hard-link. The file need not exist.
    fn local_path(&self, key: &str) -> Option<PathBuf>;

    /// The place that has the packs which are not here, where there is one: [`Lazy`].
    fn far(&self) -> Option<Arc<dyn Objects>> {
        None
    }

    /// The whole object.
    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError>;

    /// Exactly `len` bytes from `offset` on; `OutOfRange` where the object is shorter.
    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError>;

    /// The size in bytes, or `None` where there is no such object.
    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError>;

    /// Creates the object if there is none of this name: atomic, and durable on return.
    ///
    /// `Exists` may be the answer to one's own earlier attempt whose answer was lost, and
    /// `Unreachable` may hide a success. The caller settles both by reading back: objects that
    /// race for a name hold a nonce. After `Exists` the object of a concurrent writer may need
    /// a moment to become visible.
    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError>;

    /// Stores a file as an object, whole or not at all, durable on return. An object of this
    /// name is replaced. In a directory on the same file system the object is a hard link to
    /// `file`, which must never be changed afterwards.
    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError>;

    /// Writes the object to `file` (created with mode 0600, or truncated) and syncs it;
    /// the number of bytes. Syncing the directory is left to the caller, who will rename.
    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError>;

    /// The object as a stream.
    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError>;

    /// A new object as a stream of unknown size. Nothing appears under `key` before
    /// [`ObjectWriter::finish`], which replaces an object of this name.
    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError>;

    /// All objects in the folder `prefix` and below, sorted by key; everything for an empty
    /// prefix. A folder that does not exist is empty.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError>;

    /// The objects of [`list`](Objects::list) whose keys are greater than the key `after`.
    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError>;

    /// Deletes the object. An absent object is fine.
    fn delete(&self, key: &str) -> Result<(), ObjectsError>;
}

/// The writing end of [`Objects::writer`]. Dropped without `finish` it leaves nothing behind.
pub trait ObjectWriter: Write + Send {
    /// Makes what was written the object, atomic and durable on return.
    fn finish(self: Box<Self>) -> Result<(), ObjectsError>;
}

/// The answer of [`Objects::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object did not exist and holds these bytes now.
    New,
    /// The name is taken, by another writer or by one's own attempt whose answer was lost.
    Exists,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// Refuses keys that some place could not hold, so that all places hold the same.
fn check_key(location: &str, key: &str) -> Result<(), ObjectsError> {
    let why = if key.is_empty() {
        "it is empty"
    } else if key.chars().any(char::is_control) {
        "it has a control character"
    } else if key.split('/').any(|name| matches!(name, "" | "." | "..")) {
        "it has an empty name, `.` or `..`"
    } else if key
        .split('/')
        .any(|name| name.starts_with(TEMPORARY_PREFIX))
    {
        "names of temporary files begin so"
    } else {
        return Ok(());
    };
    Err(ObjectsError::InvalidKey {
        location: location.to_owned(),
        key: key.to_owned(),
        why: why.to_owned(),
    })
}

/// True for the key of a file that is still being written.
fn is_temporary(key: &str) -> bool {
    key.split('/')
        .any(|name| name.starts_with(TEMPORARY_PREFIX))
}
