//! The single steps that durable changes are made of. Tests see each of them, and can have any one
//! fail or be the last (`power`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
use super::power;

/// Pages are secrets: nobody but the owner may look in.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Told before a step that changes something at `path`.
fn before(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    power::before(path)?;
    let _ = path;
    Ok(())
}

/// Creates a file that must not be there.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create_new(true))
}

/// Creates or truncates a file.
pub(super) fn create(path: &Path) -> io::Result<File> {
    open(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    before(path)?;
    let file = options.mode(FILE_MODE).open(path)?;
    #[cfg(test)]
    power::created(path);
    Ok(file)
}

/// Writes some of `bytes` to the file at `path`; how many.
pub(super) fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<usize> {
    before(path)?;
    file.write(bytes)
}

pub(super) fn sync_file(file: &File) -> io::Result<()> {
    #[cfg(test)]
    power::before_sync(file)?;
    file.sync_all()?;
    #[cfg(test)]
    power::synced(file);
    Ok(())
}

/// Some network file systems cannot do it and say EINVAL or EBADF; PostgreSQL accepts that too
/// (`fsync_fname_ext` in fd.c).
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    before(directory)?;
    match File::open(directory)?.sync_all() {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(code) if code == nix::libc::EINVAL || code == nix::libc::EBADF
            ) => {}
        result => result?,
    }
    #[cfg(test)]
    power::synced_directory(directory);
    Ok(())
}

pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    before(directory)?;
    DirBuilder::new().mode(DIRECTORY_MODE).create(directory)
}

pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    before(to)?;
    fs::hard_link(from, to)?;
    #[cfg(test)]
    power::linked(from, to);
    Ok(())
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(to)?;
    fs::rename(from, to)
}

pub(super) fn remove(file: &Path) -> io::Result<()> {
    before(file)?;
    fs::remove_file(file)
}
