//! Durable changes to local files: the only fsync, link and rename of the store.
//!
//! Crash argument of every function here: a file gets its final name only after its bytes are
//! on disk, and the function returns only after the name is too. Whatever stops us before that
//! leaves at most a file whose name begins with [`TEMPORARY_PREFIX`].

#[cfg(test)]
pub(crate) mod power;
mod steps;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::TEMPORARY_PREFIX;
use crate::world::World;

/// Brings the bytes and the size of an open file to disk.
pub fn sync_file(file: &File) -> io::Result<()> {
    steps::sync_file(file)
}

/// Brings the names in a directory to disk, where its file system can do that.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    steps::sync_directory(directory)
}

/// The directory that holds the name of `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Creates a directory and its missing parents with mode 0700, durably.
pub fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = parent(directory);
    if above != directory {
        create_directories(above)?;
    }
    match steps::make_directory(directory) {
        // Another writer was faster; its sync may still be under way, so ours follows too.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        result => result?,
    }
    // A directory that is there is not synced again: it must not stay where that failed.
    sync_directory(above).inspect_err(|_| drop(fs::remove_dir(directory)))
}

/// Renames a file or directory over `to`, durably. The bytes of `from` must be synced already.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    steps::rename(from, to)?;
    sync_directory(parent(to))?;
    if parent(from) != parent(to) {
        sync_directory(parent(from))?;
    }
    Ok(())
}

/// Removes a file, which may come back after a power loss. An absent file is fine.
pub fn unlink(file: &Path) -> io::Result<()> {
    match steps::remove(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a file durably. An absent file is fine.
pub fn remove_file(file: &Path) -> io::Result<()> {
    match steps::remove(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_directory(parent(file)),
    }
}

/// Writes a new file durably; false where one of this name exists, which stays as it is.
pub fn write_new(file: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut temporary = Temporary::beside(file)?;
    temporary.write_all(bytes)?;
    temporary.link_to(file)
}

/// Writes a file durably, in place of one of this name: readers see the old bytes or the new.
pub fn write_over(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = Temporary::beside(file)?;
    temporary.write_all(bytes)?;
    temporary.rename_to(file)
}

/// Gives the bytes of `from` the name `to` as well, durably and in place of a file of this
/// name: a hard link where the file system allows, else a copy.
pub fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    create_directories(parent(to))?;
    let temporary = temporary_path(parent(to));
    match steps::link(from, &temporary) {
        Ok(()) => {
            let guard = Leftover(&temporary);
            sync_file(&File::open(&temporary)?)?;
            // Where both names are links to one file already, rename does nothing and keeps
            // both (rename(2)); the guard then removes the temporary one.
            rename(&temporary, to)?;
            drop(guard);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        // Another file system, one without links, too many links, or a file of another owner
        // (fs.protected_hardlinks). A copy that fails says what is really wrong.
        Err(_) => {
            let mut source = File::open(from)?;
            let mut copy = Temporary::beside(to)?;
            io::copy(&mut source, &mut copy)?;
            copy.rename_to(to)
        }
    }
}

/// Creates a file with mode 0600 that must not be there.
pub fn create_new_private(file: &Path) -> io::Result<File> {
    steps::create_new(file)
}

/// Creates or truncates a file with mode 0600.
pub fn create_private(file: &Path) -> io::Result<File> {
    steps::create(file)
}

/// Removes what interrupted writers left in a directory (not below it); the number of files.
/// Only for a directory that no other process writes to.
pub fn remove_leftovers(directory: &Path) -> io::Result<u64> {
    remove_temporary(directory, |_| true)
}

/// Removes what was last written before `before`, in seconds since 1970 by the clock of the file
/// system. Others may write to the directory: whose file goes under its hands is told that it is
/// not there when it is to get its name, and tries again.
pub fn remove_old_leftovers(directory: &Path, before: i64) -> io::Result<u64> {
    remove_temporary(directory, |metadata| metadata.mtime() < before)
}

fn remove_temporary(directory: &Path, goes: impl Fn(&fs::Metadata) -> bool) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut n_removed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            continue;
        }
        match entry.metadata() {
            // Its writer has finished.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => {
                let metadata = metadata?;
                if metadata.is_file() && goes(&metadata) {
                    unlink(&entry.path())?;
                    n_removed += 1;
                }
            }
        }
    }
    Ok(n_removed)
}

/// A new name in `directory` that no listing shows. Another machine may write there, too, so that
/// the number of a process would not do.
pub fn temporary_path(directory: &Path) -> PathBuf {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| u64::from_le_bytes(World::real().bytes()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, n) = (*PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    directory.join(format!("{TEMPORARY_PREFIX}{process:016x}-{n:x}"))
}

/// A file without its final name. Dropped, it goes away.
#[derive(Debug)]
pub struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// A new file (mode 0600) in the directory of `file`, which is created where missing.
    pub fn beside(file: &Path) -> io::Result<Self> {
        let directory = parent(file);
        create_directories(directory)?;
        let path = temporary_path(directory);
        let file = steps::create_new(&path)?;
        Ok(Self { file, path })
    }

    /// Gives the file the name `to` in the same directory, durably, unless that is taken:
    /// then false.
    pub fn link_to(self, to: &Path) -> io::Result<bool> {
        sync_file(&self.file)?;
        let new = match steps::link(&self.path, to) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        // The temporary name goes first, so that one sync covers both. A taken name is synced
        // too: its writer may have stopped before it could, and the caller will rely on it.
        steps::remove(&self.path)?;
        sync_directory(parent(to))?;
        Ok(new)
    }

    /// Gives the file the name `to` in the same directory, durably, in place of any other.
    pub fn rename_to(self, to: &Path) -> io::Result<()> {
        sync_file(&self.file)?;
        rename(&self.path, to)
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        steps::write(&mut self.file, &self.path, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(Leftover(&self.path));
    }
}

/// Removes a temporary name when dropped. Best effort: a name that stays is invisible.
struct Leftover<'a>(&'a Path);

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        let _ = steps::remove(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/b/file");
        assert!(write_new(&file, b"first").unwrap());
        assert!(!write_new(&file, b"second").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(names(file.parent().unwrap()), ["file"]);
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(&directory.path().join("a")), 0o700);
        assert_eq!(mode(&directory.path().join("a/b")), 0o700);
    }

    #[test]
    fn writing_over_replaces_the_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        write_over(&file, b"first").unwrap();
        write_over(&file, b"second").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn a_link_to_itself_leaves_no_temporary_name() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, b"bytes").unwrap();
        link_or_copy(&from, &to).unwrap();
        link_or_copy(&from, &to).unwrap();
        assert_eq!(names(directory.path()), ["from", "to"]);
    }

    #[test]
    fn a_dropped_temporary_file_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let mut temporary = Temporary::beside(&directory.path().join("file")).unwrap();
        temporary.write_all(b"half").unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(temporary);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(temporary_path(directory.path()), b"half").unwrap();
        fs::write(directory.path().join("whole"), b"whole").unwrap();
        assert_eq!(remove_leftovers(directory.path()).unwrap(), 1);
        assert_eq!(names(directory.path()), ["whole"]);
        let absent = directory.path().join("absent");
        assert_eq!(remove_leftovers(&absent).unwrap(), 0);
        assert_eq!(remove_old_leftovers(&absent, i64::MAX).unwrap(), 0);
    }

    /// Beside others only what is old, and whose file goes tries again.
    #[test]
    fn leftovers_of_others_go_when_they_are_old() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let mut temporary = Temporary::beside(&file).unwrap();
        temporary.write_all(b"half").unwrap();
        assert_eq!(remove_old_leftovers(directory.path(), 1_000).unwrap(), 0);
        assert_eq!(names(directory.path()).len(), 1);
        assert_eq!(remove_old_leftovers(directory.path(), i64::MAX).unwrap(), 1);
        let refused = temporary.link_to(&file).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(names(directory.path()).is_empty());
        assert!(write_new(&file, b"whole").unwrap());
    }
}
