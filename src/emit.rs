//! `export`: a snapshot goes to a path or URL, in the format that was asked for.

use std::fs::{self, File, OpenOptions as OpenFile};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use zenith_store::objects::{OpenOptions, StorageUrl};
use zenith_store::{Repository, SnapshotId};

use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::export::{self, ExportOptions, ExportReport, tar::TarDest};
use crate::head::Head;
use crate::import::Format;
use crate::key;
use crate::managed::{Managed, Surroundings};
use crate::pg::user;
use crate::who::operation;
use crate::{publish, sync};

/// Where an export goes.
pub enum Target<'a> {
    /// A stream, and its name for errors: tar only.
    Stream(&'a mut dyn Write, &'a str),
    /// An absolute path or a URL.
    Location(&'a str),
}

/// How an export is made.
#[derive(Debug, Clone, Default)]
pub struct EmitOptions {
    /// Where tablespaces lie → where they are to lie.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Nobody waits for the disk.
    pub no_sync: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emitted {
    /// Files or archives.
    Files(ExportReport),
    /// Another repository, to whose branch so many stored bytes were sent.
    Repository {
        /// The branch.
        branch: String,
        /// Stored bytes.
        bytes: u64,
    },
}

/// A file that is being written under a temporary name; it goes when this does, unless it was kept.
#[derive(Debug)]
pub struct NewFile {
    file: Option<File>,
    temp: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Readable by its owner alone, since pages are secrets; as root, that of the home, as
    /// everything that is exported.
    ///
    /// Errors: `TargetInvalid` for a file that is there, `Io`.
    pub fn create(home: &Path, path: &Path) -> Result<NewFile> {
        if path.exists() {
            return Err(Error::TargetInvalid {
                dir: path.to_owned(),
                why: "it exists already".to_owned(),
            });
        }
        let (temp, file) = Self::temporary(path)?;
        if user::is_root() {
            let owner = user::owner_of(home)?;
            fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(Error::io("chown", &temp))?;
        }
        Ok(NewFile {
            file: Some(file),
            temp,
            path: path.to_owned(),
        })
    }

    /// A file that nobody has, of no link, beside `path`.
    fn temporary(path: &Path) -> Result<(PathBuf, File)> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let mut number = 0;
        loop {
            let mut temp = name.clone();
            if number > 0 {
                temp.push(format!("-{number}"));
            }
            let temp = disk::temp_name(Path::new(&temp));
            let opened = OpenFile::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temp);
            match opened {
                Ok(file) => return Ok((temp, file)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && number < 100 => number += 1,
                Err(e) => return Err(Error::io("create", &temp)(e)),
            }
        }
    }

    /// What to write into.
    pub fn writer(&mut self) -> &mut impl Write {
        self.file.as_mut().expect("it is there until it is kept")
    }

    /// Gives it its name, durably where `sync`.
    ///
    /// Errors: `Io`.
    pub fn keep(mut self, sync: bool) -> Result<()> {
        let file = self.file.take().expect("it is there until it is kept");
        if sync {
            file.sync_all().map_err(Error::io("fsync", &self.temp))?;
        }
        fs::rename(&self.temp, &self.path).map_err(Error::io("rename", &self.temp))?;
        if sync {
            disk::sync_dir(disk::parent(&self.path))?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // What is left of it is a file that ends in `.tmp`.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// The directory of this machine that a location names, if it names one.
///
/// Errors: `Url`.
pub fn local_dir(location: &str) -> Result<Option<PathBuf>> {
    let url = StorageUrl::parse(location, Path::new("/"))?;
    Ok(url.local_path().map(Path::to_owned))
}

/// Writes a snapshot.
///
/// Errors: those of `export`, of [`sync::copy_out`] and of the objects.
pub fn emit(
    managed: &Managed,
    around: &Surroundings,
    id: SnapshotId,
    target: Target<'_>,
    format: Format,
    options: &EmitOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Emitted> {
    let (repo, guard) = managed.home.reader()?;
    let defaults = ExportOptions::default();
    let export_options = ExportOptions {
        tablespace_mapping: options.tablespace_mapping.clone(),
        threads: managed
            .settings
            .snapshots
            .threads
            .unwrap_or(defaults.threads),
        sync: !options.no_sync,
    };
    let location = match target {
        Target::Stream(out, name) => {
            let dest = TarDest::Stream(out, name);
            return export::tar::tar(&repo, id, dest, &export_options, on).map(Emitted::Files);
        }
        Target::Location(location) => location,
    };
    let dir = local_dir(location)?;
    if let (Some(dir), Format::Pgdata) = (&dir, format) {
        let written = export::pgdata::pgdata(&repo, id, dir, None, &export_options, on);
        return written.map(Emitted::Files);
    }
    if let (Some(dir), Format::Tar) = (&dir, format) {
        let dest = TarDest::Directory(dir);
        return export::tar::tar(&repo, id, dest, &export_options, on).map(Emitted::Files);
    }
    if format == Format::Zenith {
        sync::refuse_unusable(location, managed.home.dir())?;
    }
    let open = OpenOptions {
        snapshot_path: true,
        ..OpenOptions::interactive()
    };
    publish::warn_unread(around, location, &open, on);
    let objects = sync::open_objects(location, managed.home.dir(), &around.storage, &open)?;
    match format {
        Format::Pgdata => {
            export::objects::pgdata(&repo, id, &*objects, &export_options, on).map(Emitted::Files)
        }
        Format::Tar => {
            let dest = TarDest::Objects(&*objects);
            export::tar::tar(&repo, id, dest, &export_options, on).map(Emitted::Files)
        }
        Format::Zenith => {
            let operation = operation(managed.home.world(), "export", id.short());
            let to = {
                let key = key::read(&managed.home)?;
                if let Some(key) = &key
                    && !Repository::exists(&*objects)?
                {
                    key::publish(&managed.home, &*objects, key)?;
                }
                sync::open_or_create(
                    objects,
                    repo.params(),
                    repo.seal().cloned(),
                    &operation,
                    managed.home.world(),
                )?
            };
            let branch = branch_of(managed, &repo, id)?;
            drop((repo, guard));
            let bytes = sync::copy_out(&managed.home, &to, id, &branch, &operation, on)?;
            Ok(Emitted::Repository { branch, bytes })
        }
    }
}

/// The branch under which a snapshot goes to another repository: the current one where it is its
/// tip, otherwise one that is, otherwise the branch of this home.
fn branch_of(managed: &Managed, repo: &Repository, id: SnapshotId) -> Result<String> {
    let state = repo.state()?;
    let is_tip = |branch: &str| state.get_ref(&format!("branch/{branch}")) == Some(id);
    if let Head::Branch(branch) = managed.home.head()?
        && is_tip(&branch)
    {
        return Ok(branch);
    }
    let mut branches = state
        .refs()
        .keys()
        .filter_map(|name| name.strip_prefix("branch/"));
    let found = branches.find(|branch| is_tip(branch)).map(str::to_owned);
    Ok(found.unwrap_or_else(|| managed.settings.branch.clone()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_new_file_is_made_of_nothing_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.tar");
        let mine = disk::temp_name(&path);
        fs::write(&mine, "mine").unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let named = dir
            .path()
            .join(format!("orders.tar.{}", std::process::id()));
        symlink(&secret, disk::temp_name(&named)).unwrap();
        let mut one = NewFile::create(dir.path(), &path).unwrap();
        let mut other = NewFile::create(dir.path(), &path).unwrap();
        one.writer().write_all(b"one").unwrap();
        other.writer().write_all(b"the other").unwrap();
        one.keep(false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        drop(other);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
