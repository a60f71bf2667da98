//! As whom servers run: the server programs refuse root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

/// Whether the tests run as root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The user that runs servers: `postgres` under root, else the user of the tests.
pub fn server_user() -> (Uid, Gid) {
    if is_root() {
        let user = User::from_name("postgres")
            .expect("the user database can be read")
            .expect("user postgres exists: scripts/install-deps installs the server");
        (user.uid, user.gid)
    } else {
        (Uid::effective(), Gid::effective())
    }
}

/// Makes a command run as the server user.
pub fn as_server_user(command: &mut Command) -> &mut Command {
    if is_root() {
        let (uid, gid) = server_user();
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
}

/// Gives one file or directory to the server user.
pub fn give(path: &Path) {
    if is_root() {
        let (uid, gid) = server_user();
        nix::unistd::chown(path, Some(uid), Some(gid)).expect("root may change the owner");
    }
}
