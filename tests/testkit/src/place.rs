//! The directory of one test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{process, user};

/// A temporary directory that belongs to the server user and that everyone can search. Its path
/// is short, since the sockets of servers lie in it.
///
/// When it goes out of scope, the processes that still run in it are killed and it is removed.
pub struct Place {
    dir: TempDir,
}

impl Default for Place {
    fn default() -> Place {
        Place::new()
    }
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::Builder::new()
            .prefix("zt-")
            .rand_bytes(6)
            .tempdir_in("/tmp")
            .expect("/tmp is writable");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("own directory");
        user::give(dir.path());
        Place { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of something in this place, as an argument of a command.
    pub fn arg(&self, name: &str) -> String {
        self.join(name)
            .to_str()
            .expect("paths of the tests are UTF-8")
            .to_owned()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates a directory that belongs to the server user.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("the place is writable");
        user::give(&path);
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        process::kill_all_under(self.dir.path());
    }
}
