//! A small file system, to fill.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{Place, user};

/// A tmpfs that is unmounted when this goes out of scope.
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many MiB at `<place>/<name>`. Needs root: `None` for an ordinary user,
    /// except under CI, where a test that can't run is a failure.
    pub fn mount(place: &Place, name: &str, mib: u32) -> Option<Tmpfs> {
        if !user::is_root() {
            assert!(
                std::env::var_os("CI").is_none(),
                "mounting a tmpfs needs root"
            );
            return None;
        }
        let path = place.dir(name);
        let options = format!("size={mib}m,mode=0755");
        let mounted = mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options.as_str()),
        );
        if let Err(error) = mounted {
            panic!("cannot mount a tmpfs at {}: {error}", path.display());
        }
        user::give(&path);
        Some(Tmpfs { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn arg(&self, name: &str) -> String {
        self.path
            .join(name)
            .to_str()
            .expect("paths of the tests are UTF-8")
            .to_owned()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
