//! Objects as files of a directory: the home.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, Temporary};
use super::{Created, Listed, ObjectWriter, Objects, ObjectsError, TEMPORARY_PREFIX, check_key};

/// Objects as files of a directory, which is made (0700, files 0600) by the first write.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The objects below `path`, which should be absolute and need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn object(&self, key: &str) -> Result<PathBuf, ObjectsError> {
        check_key(&self.location(), key)?;
        Ok(self.path.join(key))
    }

    /// Gives an error of the file system its condition.
    fn error(&self, key: &str) -> impl Fn(io::Error) -> ObjectsError {
        let (location, key) = (self.location(), key.to_owned());
        move |error| ObjectsError::from_io(&location, &key, error)
    }

    /// Opens an object and says how long it is. A directory of this name is no object.
    fn open(&self, key: &str) -> Result<(File, u64), ObjectsError> {
        let path = self.object(key)?;
        let open = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((file, metadata.len()))
        };
        open().map_err(self.error(key))
    }

    /// Adds the objects of one directory and below whose keys are greater than `after`.
    fn walk(
        &self,
        folder: &str,
        after: &str,
        listed: &mut Vec<Listed>,
    ) -> Result<(), ObjectsError> {
        let error = self.error(folder);
        let entries = match fs::read_dir(self.path.join(folder)) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
            // An object, or below one, where a folder was asked for.
            Err(object) if object.kind() == io::ErrorKind::NotADirectory && !folder.is_empty() => {
                return Ok(());
            }
            entries => entries.map_err(&error)?,
        };
        for entry in entries {
            let entry = entry.map_err(&error)?;
            let name =
                entry
                    .file_name()
                    .into_string()
                    .map_err(|name| ObjectsError::InvalidKey {
                        location: self.location(),
                        key: format!("{folder}/{}", name.to_string_lossy()),
                        why: "it is not UTF-8".to_owned(),
                    })?;
            if name.starts_with(TEMPORARY_PREFIX) {
                continue;
            }
            let key = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            let file_type = entry.file_type().map_err(&error)?;
            // A folder may be a link to another disk.
            if file_type.is_dir() || (file_type.is_symlink() && entry.path().is_dir()) {
                self.walk(&key, after, listed)?;
            } else if key.as_str() > after {
                match fs::metadata(entry.path()) {
                    // Deleted since the directory was read, so it is not there.
                    Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
                    metadata => {
                        let size = metadata.map_err(&error)?.len();
                        listed.push(Listed { key, size });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Objects for Directory {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        Some(self.path.join(key))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        let (mut file, size) = self.open(key)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(self.error(key))?;
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        let (file, size_bytes) = self.open(key)?;
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > size_bytes)
        {
            return Err(ObjectsError::OutOfRange {
                location: self.location(),
                key: key.to_owned(),
                offset_bytes: offset,
                len_bytes: len as u64,
                size_bytes,
            });
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)
            .map_err(self.error(key))?;
        Ok(bytes)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        match fs::metadata(self.object(key)?) {
            Ok(metadata) => Ok((!metadata.is_dir()).then_some(metadata.len())),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(key)(error)),
        }
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        match disk::write_new(&self.object(key)?, bytes).map_err(self.error(key))? {
            true => Ok(Created::New),
            false => Ok(Created::Exists),
        }
    }

    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        disk::link_or_copy(file, &self.object(key)?).map_err(self.error(key))
    }

    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        let (mut source, _) = self.open(key)?;
        copy_to_file(&mut source, file).map_err(|error| target_error(file, error))
    }

    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        let (file, _) = self.open(key)?;
        Ok(Box::new(file))
    }

    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        let path = self.object(key)?;
        let temporary = Temporary::beside(&path).map_err(self.error(key))?;
        Ok(Box::new(FileWriter {
            temporary,
            path,
            location: self.location(),
            key: key.to_owned(),
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.list_after(prefix, "")
    }

    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        let folder = prefix.trim_end_matches('/');
        if !folder.is_empty() {
            check_key(&self.location(), folder)?;
        }
        let mut listed = Vec::new();
        self.walk(folder, after, &mut listed)?;
        listed.sort_unstable();
        Ok(listed)
    }

    /// Not synced: an object that comes back after a power loss is deleted again.
    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        disk::unlink(&self.object(key)?).map_err(self.error(key))
    }
}

/// Writes a stream to a private file and syncs it; the number of bytes.
pub(super) fn copy_to_file(source: &mut dyn Read, file: &Path) -> io::Result<u64> {
    let mut target = disk::create_private(file)?;
    let size = io::copy(source, &mut target)?;
    disk::sync_file(&target)?;
    Ok(size)
}

/// The condition of an error at the file an object is written to, which lies elsewhere.
pub(super) fn target_error(file: &Path, error: io::Error) -> ObjectsError {
    let directory = disk::parent(file).display().to_string();
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ObjectsError::from_io(&directory, &name, error)
}

/// A file on its way to its name.
struct FileWriter {
    temporary: Temporary,
    path: PathBuf,
    location: String,
    key: String,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

impl ObjectWriter for FileWriter {
    fn finish(self: Box<Self>) -> Result<(), ObjectsError> {
        let Self {
            temporary,
            path,
            location,
            key,
        } = *self;
        temporary
            .rename_to(&path)
            .map_err(|error| ObjectsError::from_io(&location, &key, error))
    }
}
