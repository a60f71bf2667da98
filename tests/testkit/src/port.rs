//! Free TCP ports, also between test processes that run at the same time.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

/// Ports below those that the kernel gives to outgoing connections.
const FIRST: u16 = 21_000;
const LAST: u16 = 29_999;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port nobody listens on, which no other test process gets while this one lives.
pub fn free() -> u16 {
    let dir = Path::new("/tmp/zenith-test-ports");
    fs::create_dir_all(dir).expect("/tmp is writable");
    // Refused where another user made it, who has done the same.
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o1777));
    for _ in 0..1000 {
        let port = rand::random_range(FIRST..=LAST);
        let path = dir.join(format!("{port}-{}", nix::unistd::Uid::effective()));
        let Ok(file) = File::create(path) else {
            continue;
        };
        if file.try_lock().is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        HELD.lock().expect("no panic while it is held").push(file);
        return port;
    }
    panic!("no free port between {FIRST} and {LAST}");
}
