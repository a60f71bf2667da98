//! The directory of a short-lived server, and that it goes again.
//!
//! ```text
//! <home>/tmp/lock         held while a room is made or leftovers are looked for
//! <home>/tmp/<id>/        one room
//!   lock                  held as long as the process that made the room lives
//!   log                   the server's messages
//!   pgdata                the checkout; its tablespaces lie in pgdata.tablespaces
//!   data → DIR/zenith-<id>      where these two lie instead when DIR was asked for
//!   run                   the directory of the socket
//!   run → /tmp/zenith-<id>.run  where the path of the socket would be too long
//! ```
//!
//! Whatever lies elsewhere has its link first, so that a killed process leaves nothing that the
//! next one does not find. The locks are the kernel's: a killed process holds none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zenith_store::World;

use crate::error::{Error, Result};
use crate::home::Home;
use crate::pg;

/// Longest path of a socket: `sun_path` without its end.
const SOCKET_PATH_MAX: usize = 107;
/// The socket has this name, since nobody else has one in its directory.
pub(super) const PORT: u16 = 5432;
/// How long a server may take to end at once before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long files may go on appearing in what is removed: threads that write them end soon.
const REMOVE_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// A room that this process made, or that it took over from a dead one.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    id: String,
    world: World,
    _lock: Flock<File>,
}

impl Room {
    /// A new room. Its data lies in `elsewhere` when that is given.
    pub(super) fn make(home: &Home, elsewhere: Option<&Path>) -> Result<Room> {
        let all = home.tmp_dir();
        private(&all, true)?;
        let id = format!("{:016x}", u64::from_be_bytes(home.world().bytes()));
        let dir = all.join(&id);
        let room = {
            let _making = lock(&all.join("lock"))?;
            private(&dir, false)?;
            let lock = lock(&dir.join("lock"))?;
            Room {
                dir,
                id,
                world: home.world().clone(),
                _lock: lock,
            }
        };
        if let Err(e) = room.furnish(elsewhere) {
            // The first error counts; what is left is found by the next command.
            let _ = room.remove();
            return Err(e);
        }
        Ok(room)
    }

    fn furnish(&self, elsewhere: Option<&Path>) -> Result<()> {
        if let Some(elsewhere) = elsewhere {
            let data = elsewhere.join(self.outside(""));
            link(&data, &self.dir.join("data"))?;
            private(&data, false)?;
        }
        let run = self.dir.join("run");
        if is_socket_dir(&run) {
            return private(&run, false);
        }
        let short = Path::new("/tmp").join(self.outside(".run"));
        link(&short, &run)?;
        private(&short, false)
    }

    /// The name of what lies outside of the home.
    fn outside(&self, suffix: &str) -> String {
        format!("zenith-{}{suffix}", self.id)
    }

    /// The directory that the checkout lies in.
    pub(super) fn data(&self) -> PathBuf {
        fs::read_link(self.dir.join("data")).unwrap_or_else(|_| self.dir.clone())
    }

    pub(super) fn pgdata(&self) -> PathBuf {
        self.data().join("pgdata")
    }

    /// The directory of the socket, by a path that is short enough.
    pub(super) fn sockets(&self) -> PathBuf {
        let run = self.dir.join("run");
        fs::read_link(&run).unwrap_or(run)
    }

    /// A file of the room.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Ends a server whose parent is gone.
    fn stop_orphan(&self) -> Result<()> {
        let pgdata = self.pgdata();
        // A damaged postmaster.pid names nobody who could be stopped.
        let running = || pg::server::postmaster(&pgdata).ok().flatten();
        let Some(postmaster) = running() else {
            return Ok(());
        };
        self.end(postmaster.pid, || Ok(running().is_none()))
    }

    /// Ends a postmaster at once: it tells its children and waits for them. One that does not is
    /// killed, and they follow it.
    pub(super) fn end(&self, pid: i32, is_gone: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = self.world.watch();
        let mut signal = Signal::SIGQUIT;
        loop {
            // An error means that it is gone, which the next look tells.
            let _ = kill(Pid::from_raw(pid), signal);
            while begun.elapsed() < STOP_WITHIN || signal == Signal::SIGKILL {
                if is_gone()? {
                    return Ok(());
                }
                self.world.sleep(POLL);
            }
            signal = Signal::SIGKILL;
        }
    }

    /// Removes everything.
    pub(super) fn remove(&self) -> Result<()> {
        for (name, outside) in [("data", self.outside("")), ("run", self.outside(".run"))] {
            let link = self.dir.join(name);
            // Only what this room made, whatever the link says by now.
            if let Ok(target) = fs::read_link(&link)
                && target.file_name() == Some(outside.as_ref())
                && is_ours(&target)
            {
                remove_all(&target, &self.world)?;
            }
        }
        let lock = self.dir.join("lock");
        let begun = self.world.watch();
        loop {
            for entry in fs::read_dir(&self.dir).into_iter().flatten() {
                let path = entry.map_err(Error::io("read", &self.dir))?.path();
                if path != lock {
                    remove_all(&path, &self.world)?;
                }
            }
            gone(fs::remove_file(&lock)).map_err(Error::io("remove", &lock))?;
            match gone(fs::remove_dir(&self.dir)) {
                Ok(()) => return Ok(()),
                // Files appear as long as the threads of a checkout that is broken off write.
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {
                    if begun.elapsed() > REMOVE_WITHIN {
                        return Err(Error::io("remove", &self.dir)(e));
                    }
                    self.world.sleep(POLL);
                }
                Err(e) => return Err(Error::io("remove", &self.dir)(e)),
            }
        }
    }
}

/// Ends and removes what killed processes left in the home; gives what could not be.
pub(super) fn sweep(home: &Home) -> Result<Vec<Error>> {
    let left = of_the_dead(home)?;
    let cleared = left
        .iter()
        .map(|room| room.stop_orphan().and_then(|()| room.remove()));
    Ok(cleared.filter_map(Result::err).collect())
}

/// The rooms of killed processes, which are this one's while they are held.
pub(super) fn of_the_dead(home: &Home) -> Result<Vec<Room>> {
    let all = home.tmp_dir();
    if !all.is_dir() {
        return Ok(Vec::new());
    }
    let mut left = Vec::new();
    let _looking = lock(&all.join("lock"))?;
    for entry in fs::read_dir(&all).map_err(Error::io("read", &all))? {
        let dir = entry.map_err(Error::io("read", &all))?.path();
        let Some(id) = dir.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let is_room = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_room || !dir.is_dir() {
            continue;
        }
        let lock = match open(&dir.join("lock")) {
            Ok(lock) => lock,
            // Its process ends right now and takes it away.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => left.push(Room {
                id: id.to_owned(),
                dir,
                world: home.world().clone(),
                _lock: lock,
            }),
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => return Err(Error::io("lock", &dir)(errno.into())),
        }
    }
    Ok(left)
}

/// Whether a socket in this directory can be named, to a server and to its clients: the setting is
/// a list with commas and quotes, and so is the host of a connection.
fn is_socket_dir(dir: &Path) -> bool {
    let file_name = format!("/.s.PGSQL.{PORT}");
    let bytes = dir.as_os_str().as_bytes();
    let plain = |b: &u8| !matches!(b, b',' | b'"' | b'\'' | b'\\') && !b.is_ascii_control();
    bytes.len() + file_name.len() <= SOCKET_PATH_MAX
        && bytes.iter().all(plain)
        && dir.to_str().is_some()
}

/// Makes a directory of this user's alone; `keep` takes one that is there and is that.
fn private(dir: &Path, keep: bool) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if keep && e.kind() == ErrorKind::AlreadyExists && is_ours(dir) => Ok(()),
        made => made.map_err(Error::io("create", dir)),
    }
}

fn is_ours(dir: &Path) -> bool {
    let uid = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid)
}

fn link(target: &Path, link: &Path) -> Result<()> {
    symlink(target, link).map_err(Error::io("create", link))
}

/// A file, a link, or a directory with all that is in it and goes on appearing in it.
fn remove_all(path: &Path, world: &World) -> Result<()> {
    let begun = world.watch();
    loop {
        let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        match gone(removed) {
            Ok(()) if !is_dir || !path.exists() => return Ok(()),
            Err(e)
                if e.kind() != ErrorKind::DirectoryNotEmpty || begun.elapsed() > REMOVE_WITHIN =>
            {
                return Err(Error::io("remove", path)(e));
            }
            _ => world.sleep(POLL),
        }
    }
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}

fn lock(path: &Path) -> Result<Flock<File>> {
    Flock::lock(open(path)?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::io("lock", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn home(dir: &Path) -> Home {
        let home = Home::prepare(&dir.join(".zenith")).unwrap();
        home.complete(&Settings::new()).unwrap();
        home
    }

    fn rooms(home: &Home) -> usize {
        let entries = fs::read_dir(home.tmp_dir()).unwrap();
        entries
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count()
    }

    #[test]
    fn a_room_is_private_and_goes_with_all_that_lies_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(90));
        let elsewhere = dir.path().join("elsewhere");
        for dir in [&long, &elsewhere] {
            fs::create_dir(dir).unwrap();
        }
        for home in [home(dir.path()), home(&long)] {
            let room = Room::make(&home, Some(&elsewhere)).unwrap();
            assert!(is_socket_dir(&room.sockets()), "{:?}", room.sockets());
            for dir in [room.sockets(), room.data()] {
                assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
            }
            assert!(room.pgdata().starts_with(&elsewhere));
            fs::create_dir_all(room.pgdata().join("base/1")).unwrap();
            fs::write(room.file("log"), "").unwrap();
            let sockets = room.sockets();
            room.remove().unwrap();
            assert_eq!(rooms(&home), 0);
            assert!(!sockets.exists());
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
    }

    #[test]
    fn only_rooms_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        assert!(sweep(&home).unwrap().is_empty());
        let lives = Room::make(&home, None).unwrap();
        // The lock goes with the process, the rest stays; and one was killed before its lock.
        let dead = Room::make(&home, None).unwrap();
        fs::write(dead.file("log"), "").unwrap();
        drop(dead);
        fs::create_dir(home.tmp_dir().join("0123456789abcdef")).unwrap();
        fs::create_dir(home.tmp_dir().join("somebody's")).unwrap();
        assert_eq!(rooms(&home), 4);
        assert_eq!(of_the_dead(&home).unwrap().len(), 2);
        assert!(sweep(&home).unwrap().is_empty());
        assert_eq!(rooms(&home), 2);
        assert!(lives.sockets().is_dir());
    }

    #[test]
    fn sweeps_beside_each_other_leave_nothing_and_fail_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        for round in 0..20 {
            for n in 0..4 {
                let room = Room::make(&home, (n % 2 == 0).then_some(elsewhere.as_path())).unwrap();
                fs::create_dir_all(room.pgdata().join("base/1")).unwrap();
                for file in 0..20 {
                    fs::write(room.pgdata().join(format!("base/1/{file}")), "x").unwrap();
                }
            }
            let begin = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                let sweeps = [0; 3].map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        sweep(&home)
                    })
                });
                for swept in sweeps {
                    let left = swept.join().unwrap().unwrap();
                    assert!(left.is_empty(), "round {round}: {left:?}");
                }
            });
            assert_eq!(rooms(&home), 0);
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_link_to_what_no_room_made_leads_to_no_removal() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let room = Room::make(&home, None).unwrap();
        let precious = dir.path().join("precious");
        fs::create_dir(&precious).unwrap();
        symlink(&precious, room.dir.join("data")).unwrap();
        room.remove().unwrap();
        assert!(precious.is_dir());
    }
}
