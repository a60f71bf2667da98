//! Running as another user: server programs refuse root.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{
    Gid, Uid, User, geteuid, getgrouplist, getgroups, getuid, initgroups, setgid, setuid,
};

use super::{Error, Result};

/// A user whom a process can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    pub uid: u32,
    pub gid: u32,
    pub name: String,
    /// All groups, `gid` among them.
    pub groups: Vec<u32>,
}

impl RunAs {
    fn new(user: &User) -> Result<RunAs> {
        let bad = |reason: String| Error::BecomeUser {
            user: user.name.clone(),
            reason,
        };
        let name = CString::new(user.name.as_str()).map_err(|e| bad(e.to_string()))?;
        let groups = getgrouplist(&name, user.gid).map_err(|e| bad(e.to_string()))?;
        Ok(RunAs {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            name: user.name.clone(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        })
    }

    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Whether this process has root's rights.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The user of this process. One without an entry in the user database is named by its
/// number.
pub fn current() -> RunAs {
    let (uid, gid) = (geteuid(), nix::unistd::getegid());
    let name = match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    };
    let mut groups: Vec<u32> = getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(Gid::as_raw)
        .collect();
    if !groups.contains(&gid.as_raw()) {
        groups.push(gid.as_raw());
    }
    RunAs {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        name,
        groups,
    }
}

/// Errors: `NoSuchUser`.
pub fn lookup(name: &str) -> Result<RunAs> {
    match User::from_name(name) {
        Ok(Some(user)) => RunAs::new(&user),
        _ => Err(Error::NoSuchUser {
            name: name.to_owned(),
        }),
    }
}

/// The user to whom `dir` belongs. Errors: `NoSuchUser` with the number of a user who is
/// not in the user database.
pub fn owner_of(dir: &Path) -> Result<RunAs> {
    let uid = fs::metadata(dir).map_err(Error::io("reading", dir))?.uid();
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => RunAs::new(&user),
        _ => Err(Error::NoSuchUser {
            name: uid.to_string(),
        }),
    }
}

/// Turns this whole process into `user`, for good. Does nothing where it is that user
/// already; anyone but root can become nobody else.
pub fn become_user(user: &RunAs) -> Result<()> {
    let bad = |reason: String| Error::BecomeUser {
        user: user.name.clone(),
        reason,
    };
    if geteuid().as_raw() == user.uid && getuid().as_raw() == user.uid {
        return Ok(());
    }
    if !is_root() {
        return Err(bad("only root can become another user".into()));
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let name = CString::new(user.name.as_str()).map_err(|e| bad(e.to_string()))?;
    // Groups first: afterwards the right to change them is gone.
    initgroups(&name, gid).map_err(|e| bad(e.to_string()))?;
    setgid(gid).map_err(|e| bad(e.to_string()))?;
    setuid(uid).map_err(|e| bad(e.to_string()))?;
    if getuid() != uid || geteuid() != uid || setuid(Uid::from_raw(0)).is_ok() {
        return Err(bad("the change did not last".into()));
    }
    Ok(())
}

/// Whether `user` can reach `path`: names the first directory on the way, outermost first,
/// that lacks search permission for it. Links are followed; `path` itself need not exist,
/// and when it is a directory it must be searchable too. Access control lists beyond the
/// mode are not seen.
pub fn can_search(path: &Path, user: &RunAs) -> Result<()> {
    if user.is_root() {
        return Ok(());
    }
    let absolute = std::path::absolute(path).map_err(Error::io("resolving", path))?;
    // As far as it exists, by its real name; whatever comes after will be created.
    let mut existing: &Path = &absolute;
    let real: PathBuf = loop {
        match fs::canonicalize(existing) {
            Ok(real) => break real,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                existing = existing.parent().ok_or_else(|| Error::Io {
                    what: "resolving",
                    path: absolute.clone(),
                    source: e,
                })?;
            }
            Err(e) => return Err(Error::io("resolving", existing)(e)),
        }
    };
    let mut ancestors: Vec<&Path> = real.ancestors().collect();
    ancestors.reverse();
    for dir in ancestors {
        let meta = fs::metadata(dir).map_err(Error::io("reading", dir))?;
        let bit = if meta.uid() == user.uid {
            0o100
        } else if meta.gid() == user.gid || user.groups.contains(&meta.gid()) {
            0o010
        } else {
            0o001
        };
        if meta.is_dir() && meta.mode() & bit == 0 {
            return Err(Error::CannotSearch {
                user: user.name.clone(),
                dir: dir.to_owned(),
                path: path.to_owned(),
                mode: meta.mode() & 0o7777,
            });
        }
    }
    Ok(())
}

/// As root, lets a server program run as the owner of `dir`, since it refuses root; for
/// anyone else nothing changes.
pub(crate) fn run_as_owner(command: &mut Command, dir: &Path) -> Result<()> {
    if is_root() {
        let owner = owner_of(dir)?;
        if owner.is_root() {
            return Err(Error::BecomeUser {
                user: owner.name,
                reason: format!("{} belongs to root, whom PostgreSQL refuses", dir.display()),
            });
        }
        command.uid(owner.uid).gid(owner.gid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn users_are_looked_up() {
        let postgres = lookup("postgres").unwrap();
        assert!(postgres.uid != 0 && postgres.groups.contains(&postgres.gid));
        assert!(
            matches!(lookup("no-such-user"), Err(Error::NoSuchUser { name }) if name == "no-such-user")
        );
        assert_eq!(owner_of(Path::new("/")).unwrap().name, "root");
        assert_eq!(current().uid, geteuid().as_raw());
    }

    /// It cannot be undone, so that it happens in a process of its own.
    #[test]
    fn becoming_a_user_is_for_good() {
        const CHILD: &str = "ZENITH_TEST_BECOME_USER";
        let postgres = lookup("postgres").unwrap();
        if std::env::var_os(CHILD).is_some() || !is_root() {
            let got = become_user(&postgres);
            if std::env::var_os(CHILD).is_none() && current() != postgres {
                assert!(matches!(got, Err(Error::BecomeUser { .. })));
                return;
            }
            got.unwrap();
            let mut now = current();
            assert!(
                now.groups
                    .iter()
                    .all(|group| postgres.groups.contains(group))
            );
            now.groups = postgres.groups.clone();
            assert_eq!(now, postgres);
            assert!(become_user(&lookup("root").unwrap()).is_err());
            become_user(&postgres).unwrap();
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pg::user::tests::becoming_a_user_is_for_good"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("1 passed"),
            "{said}"
        );
        assert!(is_root());
    }

    #[test]
    fn the_first_closed_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir_all(closed.join("in/side")).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stranger = RunAs {
            uid: 54321,
            gid: 54321,
            name: "stranger".into(),
            groups: vec![54321],
        };
        for (mode, open) in [(0o755, true), (0o711, true), (0o750, false), (0o666, false)] {
            fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
            for below in ["in/side", "in/absent/file", ""] {
                let got = can_search(&closed.join(below), &stranger);
                match got {
                    Ok(()) => assert!(open, "{mode:o} {below}"),
                    Err(Error::CannotSearch { dir, mode: m, .. }) => {
                        assert!(
                            !open && dir.ends_with("closed") && m == mode,
                            "{mode:o} {below}"
                        );
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        let meta = fs::metadata(&closed).unwrap();
        let owner = RunAs {
            uid: meta.uid(),
            ..stranger.clone()
        };
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(can_search(&closed, &owner).is_ok());
        let member = RunAs {
            groups: vec![meta.gid()],
            ..stranger
        };
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o701)).unwrap();
        // The group's bits count for its members, even where others have more.
        assert!(can_search(&closed, &member).is_err());
    }
}
