//! What a directory that zenith filled says about itself: the file `zenith.checkout` in it.
//!
//! It lies in PGDATA, so that it goes where the directory goes and is gone when that is.
//! PostgreSQL does not look at names it does not know; scan, checkout and export leave it out. A
//! copy of the directory is another cluster: its inode tells, and the marker counts for nothing.
//!
//! While it is being filled the marker says `placing`. Only then, and as long as there is no
//! `global/pg_control`, is the directory half made; one that was complete and lost that file is a
//! damaged cluster, with data that a checkout must not replace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{Error, Result};
use crate::pg::control::control_path;

/// Name of the file.
pub const NAME: &str = "zenith.checkout";
const HEAD: &str = "# Written by zenith: which snapshot this directory was made from.\n";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The snapshot, 64 hexadecimal digits.
    pub snapshot: String,
    /// The lineage of what is written from here on, 32 hexadecimal digits.
    pub lineage: String,
    /// Device of the directory.
    pub device: u64,
    /// Inode of the directory.
    pub inode: u64,
    /// Whether a checkout fills the directory, or was cut off doing so.
    #[serde(default)]
    pub placing: bool,
    /// Directories outside it that hold its tablespaces and were made for it.
    #[serde(default)]
    pub tablespaces: Vec<PathBuf>,
}

/// Whether a path relative to PGDATA is the marker, or what a crash left of writing it.
pub fn is_marker(path: &str) -> bool {
    path == NAME || path.strip_prefix(NAME) == Some(".tmp")
}

impl Marker {
    /// Of a directory that is about to be filled; it must exist.
    pub fn new(dir: &Path, snapshot: String, lineage: String) -> Result<Marker> {
        let meta = fs::metadata(dir).map_err(Error::io("stat", dir))?;
        Ok(Marker {
            snapshot,
            lineage,
            device: meta.dev(),
            inode: meta.ino(),
            placing: true,
            tablespaces: Vec::new(),
        })
    }

    /// The marker of `dir`; nothing when there is none, or when it speaks of another directory.
    ///
    /// Errors: `HomeDamaged` when it cannot be understood.
    pub fn read(dir: &Path) -> Result<Option<Marker>> {
        let path = dir.join(NAME);
        let Some(bytes) = disk::read_if_there(&path)? else {
            return Ok(None);
        };
        let marker = Marker::parse(&bytes).map_err(|why| Error::HomeDamaged { path, why })?;
        let meta = fs::metadata(dir).map_err(Error::io("stat", dir))?;
        let same = (marker.device, marker.inode) == (meta.dev(), meta.ino());
        Ok(same.then_some(marker))
    }

    /// What these bytes of a file say, wherever it lies; else why they cannot be understood.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Marker, String> {
        toml::from_slice(bytes).map_err(|e| e.to_string().trim_end().to_owned())
    }

    /// The marker of a directory that a checkout did not complete.
    ///
    /// Errors: those of [`Marker::read`].
    pub fn half_made(dir: &Path) -> Result<Option<Marker>> {
        let marker = Marker::read(dir)?;
        Ok(marker.filter(|marker| marker.placing && !control_path(dir).exists()))
    }

    /// Says durably that nothing is missing any more. The caller saw that pg_control is there.
    pub(crate) fn complete(&mut self, dir: &Path) -> Result<()> {
        if !self.placing {
            return Ok(());
        }
        // As root zenith may have given the file to another user.
        let path = dir.join(NAME);
        let meta = fs::metadata(&path).map_err(Error::io("stat", &path))?;
        self.placing = false;
        self.write(dir)?;
        std::os::unix::fs::chown(&path, Some(meta.uid()), Some(meta.gid()))
            .map_err(Error::io("chown", &path))
    }

    /// Writes it durably into `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(NAME);
        let text = toml::to_string(self).map_err(|e| Error::HomeDamaged {
            path: path.clone(),
            why: e.to_string(),
        })?;
        disk::replace(&path, format!("{HEAD}{text}").as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_goes_with_its_directory_and_not_with_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (one, moved) = (dir.path().join("one"), dir.path().join("moved"));
        fs::create_dir(&one).unwrap();
        assert_eq!(Marker::read(&one).unwrap(), None);
        let mut marker = Marker::new(&one, "ab".repeat(32), "cd".repeat(16)).unwrap();
        marker.tablespaces.push("/srv/ts \"1\"".into());
        marker.write(&one).unwrap();
        fs::rename(&one, &moved).unwrap();
        assert_eq!(Marker::read(&moved).unwrap(), Some(marker));
        fs::create_dir(&one).unwrap();
        fs::copy(moved.join(NAME), one.join(NAME)).unwrap();
        assert_eq!(Marker::read(&one).unwrap(), None);
    }

    #[test]
    fn only_what_was_never_complete_is_half_made() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut marker = Marker::new(dir, "ab".repeat(32), "cd".repeat(16)).unwrap();
        marker.write(dir).unwrap();
        assert_eq!(Marker::half_made(dir).unwrap(), Some(marker.clone()));
        fs::create_dir(dir.join("global")).unwrap();
        fs::write(control_path(dir), "").unwrap();
        assert_eq!(Marker::half_made(dir).unwrap(), None);
        marker.complete(dir).unwrap();
        fs::remove_file(control_path(dir)).unwrap();
        assert_eq!(Marker::half_made(dir).unwrap(), None);
    }

    #[test]
    fn a_damaged_marker_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "snapshot = 1").unwrap();
        assert!(matches!(
            Marker::read(dir.path()),
            Err(Error::HomeDamaged { .. })
        ));
    }
}
