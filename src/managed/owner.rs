//! Whose a home is: under root, zenith becomes the user that owns the cluster, or gives it to one.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result};
use crate::pg::{self, user};

/// Makes this process the owner of an existing home when root runs it: server programs refuse
/// root, and files of the home stay one user's. The parents are checked before anything is done.
///
/// A home that belongs to root itself is given to the user `give_to` first, where there is one.
///
/// Errors: `CannotSearch`, `NoSuchUser`, `BecomeUser`.
pub fn become_owner(home: &Path, give_to: Option<&str>) -> Result<()> {
    if !user::is_root() || !home.is_dir() {
        return Ok(());
    }
    let mut owner = user::owner_of(home)?;
    if owner.is_root() {
        let Some(name) = give_to else {
            return Ok(());
        };
        owner = user::lookup(name)?;
        if owner.is_root() {
            let reason = "PostgreSQL runs as no root".to_owned();
            return Err(pg::Error::BecomeUser {
                user: owner.name,
                reason,
            }
            .into());
        }
        user::can_search(disk::parent(home), &owner)?;
        give_all(home, &owner)?;
    }
    give_empty(&home.join("pgdata"), &owner)?;
    become_user(home, &owner)
}

/// Gives what belongs to root at `path` and below to `owner`. Only directories of root's are
/// entered and no link is followed: nobody else can have put anything there.
fn give_all(path: &Path, owner: &user::RunAs) -> Result<()> {
    let meta = fs::symlink_metadata(path).map_err(Error::io("stat", path))?;
    if meta.uid() != 0 {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
            give_all(&entry.map_err(Error::io("read", path))?.path(), owner)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
        .map_err(Error::io("chown", path))
}

/// Gives an empty directory of root's to `owner`, who may swap names there meanwhile: what is
/// looked at and what is given are the same open directory.
fn give_empty(dir: &Path, owner: &user::RunAs) -> Result<()> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let Ok(file) = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(dir)
    else {
        // Not there, or no directory: whoever needs it says so.
        return Ok(());
    };
    if file.metadata().map_err(Error::io("stat", dir))?.uid() != 0 {
        return Ok(());
    }
    let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    for entry in fs::read_dir(&opened).map_err(Error::io("read", dir))? {
        if entry.map_err(Error::io("read", dir))?.file_name() != "lost+found" {
            return Ok(());
        }
    }
    std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))
        .map_err(Error::io("chown", dir))
}

/// Runs `work` with the rights of the home's owner where root runs zenith, and takes root's back
/// afterwards: for looking into a home before a target outside of it is made.
pub fn as_owner<T>(home: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    use nix::unistd::{Gid, Uid, getegid, setegid, seteuid};
    if !user::is_root() {
        return work();
    }
    let owner = user::owner_of(home)?;
    let bad = |errno: nix::errno::Errno| pg::Error::BecomeUser {
        user: owner.name.clone(),
        reason: errno.to_string(),
    };
    let before = getegid();
    setegid(Gid::from_raw(owner.gid)).map_err(bad)?;
    seteuid(Uid::from_raw(owner.uid)).map_err(bad)?;
    let done = work();
    seteuid(Uid::from_raw(0)).map_err(bad)?;
    setegid(before).map_err(bad)?;
    done
}

/// As root: makes a directory that the home's owner is about to fill, together with what leads
/// there, and gives it to that user.
///
/// Errors: `CannotSearch`, before anything is made.
pub fn give_target(home: &Path, dir: &Path) -> Result<()> {
    if !user::is_root() {
        return Ok(());
    }
    let owner = user::owner_of(home)?;
    if owner.is_root() {
        return Ok(());
    }
    user::can_search(disk::parent(dir), &owner)?;
    fs::create_dir_all(disk::parent(dir)).map_err(Error::io("create", disk::parent(dir)))?;
    give(dir, &owner)
}

/// Makes the directory of a home as root, gives it to `owner`, and becomes that user.
pub fn give_and_become(home: &Path, owner: &user::RunAs) -> Result<()> {
    if let Some(above) = home.parent() {
        user::can_search(above, owner)?;
        fs::create_dir_all(above).map_err(Error::io("create", above))?;
    }
    give(home, owner)?;
    become_user(home, owner)
}

/// Makes a directory as root and gives it to `owner`, so that files can be put there after this
/// process became that user. A directory that is not empty is left as it is.
pub fn give(dir: &Path, owner: &user::RunAs) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
            if entries.next().is_some() {
                return Ok(());
            }
        }
        made => made.map_err(Error::io("create", dir))?,
    }
    std::os::unix::fs::chown(dir, Some(owner.uid), Some(owner.gid)).map_err(Error::io("chown", dir))
}

fn become_user(home: &Path, owner: &user::RunAs) -> Result<()> {
    user::can_search(home, owner)?;
    user::become_user(owner)?;
    // Where root typed the command this user may not be; programs started from there complain.
    std::env::set_current_dir(home).map_err(Error::io("enter", home))
}
