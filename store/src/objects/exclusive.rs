//! Creating an object only where there is none: whether a place does it, and what stands in for it
//! where it does not.
//!
//! The root log lives on this one promise. Some servers that speak S3 ignore `If-None-Match` and
//! replace what is there, others refuse it; either way two writers would lose each other's work.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Created, Objects, ObjectsError, ObjectsErrorKind};
use crate::error::{Error, Result};
use crate::world::World;

/// Whether a place creates an object only where there is none: tried with an object of its own,
/// which is gone afterwards.
///
/// # Errors
/// [`Error::NoConditionalWrites`] when it does not; when the place cannot be asked.
pub fn check(objects: &dyn Objects, world: &World) -> Result<()> {
    let key = format!("sessions/probe-{}", crate::id::hex(&world.bytes::<16>()));
    let kept = keeps(objects, &key);
    // A place that deletes nothing keeps a few bytes that say nothing.
    if let Err(e) = objects.delete(&key) {
        tracing::debug!("{key} stays: {e}");
    }
    match kept? {
        None => Ok(()),
        Some(why) => Err(Error::NoConditionalWrites {
            location: objects.location(),
            why,
        }),
    }
}

/// What the place does instead of creating only where there is nothing.
fn keeps(objects: &dyn Objects, key: &str) -> Result<Option<String>> {
    let (first, second) = (b"zenith probe, first\n", b"zenith probe, second\n");
    match objects.create(key, first) {
        // `Exists` is our own, where an answer was lost on the way.
        Ok(Created::New | Created::Exists) => {}
        // It takes the same object without the condition, so the condition is what it refuses.
        Err(e) if is_refusal(&e) && put(objects, key, first).is_ok() => {
            return Ok(Some(format!("it refuses conditional writes ({e})")));
        }
        Err(e) => return Err(e.into()),
    }
    let again = objects.create(key, second)?;
    let found = objects.get(key)?;
    Ok((again == Created::New || found != first)
        .then(|| "it replaces what is there instead".to_owned()))
}

fn is_refusal(error: &ObjectsError) -> bool {
    let kind = error.kind();
    matches!(kind, ObjectsErrorKind::Unsupported | ObjectsErrorKind::Io)
}

/// Writes an object, whether or not there is one.
fn put(objects: &dyn Objects, key: &str, bytes: &[u8]) -> Result<(), ObjectsError> {
    let mut writer = objects.writer(key)?;
    writer
        .write_all(bytes)
        .map_err(|e| match e.downcast::<ObjectsError>() {
            Ok(error) => error,
            Err(e) => ObjectsError::from_io(&objects.location(), key, e),
        })?;
    writer.finish()
}

/// A place that only this machine writes to, whose every process takes the lock file first: an
/// object is created by looking and writing.
#[derive(Debug)]
pub struct Exclusive {
    inner: Arc<dyn Objects>,
    lock: PathBuf,
}

impl Exclusive {
    /// `lock` is a file that every writer of the place locks; it is made where missing.
    pub fn new(inner: Arc<dyn Objects>, lock: impl Into<PathBuf>) -> Self {
        let lock = lock.into();
        Self { inner, lock }
    }

    fn hold(&self) -> Result<File, ObjectsError> {
        let error = |e| ObjectsError::from_io(&self.lock.display().to_string(), "", e);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.lock)
            .map_err(error)?;
        file.lock().map_err(error)?;
        Ok(file)
    }
}

impl super::Layer for Exclusive {
    fn below(&self) -> &dyn Objects {
        &*self.inner
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        let _held = self.hold()?;
        if self.inner.size(key)?.is_some() {
            return Ok(Created::Exists);
        }
        put(&*self.inner, key, bytes)?;
        Ok(Created::New)
    }
}
