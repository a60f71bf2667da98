//! Turns: tests that want the machine for themselves, where nextest's groups don't see to it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

/// Held while a test runs.
pub struct Turn {
    _lock: File,
}

fn lock_file() -> File {
    let path = format!("/tmp/zenith-test-turn-{}", nix::unistd::Uid::effective());
    let file = File::create(&path).expect("/tmp is writable");
    let _ = fs::set_permissions(&path, Permissions::from_mode(0o600));
    file
}

/// Waits until no other test with a turn runs.
pub fn alone() -> Turn {
    let lock = lock_file();
    lock.lock().expect("flock works in /tmp");
    Turn { _lock: lock }
}

/// Waits until no test runs alone.
pub fn shared() -> Turn {
    let lock = lock_file();
    lock.lock_shared().expect("flock works in /tmp");
    Turn { _lock: lock }
}
