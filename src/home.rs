//! The `.zenith` directory of one machine.
//!
//! ```text
//! config.toml   settings; a directory with this file is a home, so init writes it last
//! HEAD          the branch or snapshot it stands on
//! lock          held exclusively (flock) by whoever writes; names its holder
//! gc.lock       held shared by readers of packs, exclusively by collection
//! storage.lock  held by whoever writes to a storage that cannot keep two writers apart
//! stop.lock     names the server that was stopped on purpose last; held while that is done
//! key           the master key of a sealed repository
//! zenith.json, roots/, packs/, keys/, …   the local repository, laid out as every repository
//! index.db/     the index of the repository; disposable
//! filecache/    what files looked like when they were read; disposable
//! clusters.toml lineages of clusters that zenith did not make
//! HEAD.next     where HEAD goes with a commit that is being made
//! journal       an in-place checkout that is not complete
//! pgdata/       the managed cluster
//! run/, log/    sockets and logs
//! tmp/          short-lived servers; see `scratch`
//! ```
//!
//! Directories are 0700 and files 0600, since pages are secrets. The locks are the kernel's, so
//! that a killed process holds none.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use zenith_store::objects::{Directory, Lazy, Objects};
use zenith_store::{IndexChoice, Operation, Params, Remembered, Repository, Seal, State, World};

use crate::disk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::key;
use crate::settings::Settings;
use crate::who;

/// How long another command may hold the home before one that somebody waits for gives up.
pub const LOCK_WAIT: Duration = Duration::from_secs(600);
/// How often a waiting process looks whether the lock is free.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// How long nobody is told who is waited for.
const TELL_AFTER: Duration = Duration::from_millis(500);

/// Its settings, which make a directory a home.
const CONFIG: &str = "config.toml";

/// A home that exists.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    /// Where packs lie that are not here, in a lazy home.
    remote: Option<Arc<dyn Objects>>,
    /// Where time, randomness and threads come from for all that is done with it.
    world: World,
    /// Who is told when somebody else's work is waited for.
    on_wait: Option<OnWait>,
}

/// Is told who holds the home, once for each wait that takes longer than a moment.
#[derive(Clone)]
struct OnWait(Arc<dyn Fn(&Holder) + Send + Sync>);

impl fmt::Debug for OnWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnWait")
    }
}

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until then.
    UpTo(Duration),
    /// As long as it takes.
    Forever,
}

/// Who holds a home's lock; the content of the file `lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// What it does, for people: `snapshot create`, `agent`, …
    pub purpose: String,
    /// When it began, as RFC 3339.
    pub since: String,
}

/// The right to write to a home; given up when dropped, or when the process ends.
#[derive(Debug)]
pub struct HomeLock {
    file: Flock<File>,
    dir: PathBuf,
    world: World,
}

/// Keeps packs from being collected while they are read, or readers out while they are collected.
#[derive(Debug)]
pub struct GcGuard {
    _file: Flock<File>,
}

impl Home {
    /// Makes the directory of a home without `config.toml`: what init fills before it calls
    /// [`Home::complete`]. A directory that an interrupted init left is taken over.
    ///
    /// Errors: `HomeExists`, `HomeForeign`, `Io`.
    #[expect(clippy::disallowed_methods, reason = "for who has no other world")]
    pub fn prepare(dir: &Path) -> Result<Home> {
        Home::prepare_in(dir, World::real())
    }

    /// As [`Home::prepare`], in a world of the caller's.
    ///
    /// Errors: as [`Home::prepare`].
    pub fn prepare_in(dir: &Path, world: World) -> Result<Home> {
        let home = Home::at(dir, world)?;
        if home.config_path().exists() {
            return Err(Error::HomeExists { dir: home.dir });
        }
        if home.dir.exists() {
            home.refuse_foreign_content()?;
        } else if let Some(above) = home.dir.parent() {
            fs::create_dir_all(above).map_err(Error::io("create", above))?;
        }
        disk::create_dir(&home.dir, 0o700)?;
        for sub in [home.run_dir(), home.log_dir()] {
            disk::create_dir(&sub, 0o700)?;
        }
        Ok(home)
    }

    /// Makes a prepared directory a home: HEAD at the settings' branch, then `config.toml`. If we
    /// stop before that, there is no home and init begins again.
    pub fn complete(&self, settings: &Settings) -> Result<()> {
        self.set_head(&Head::Branch(settings.branch.clone()))?;
        self.save_settings(settings)
    }

    /// The home in `dir`.
    ///
    /// Errors: `NoHome`.
    #[expect(clippy::disallowed_methods, reason = "for who has no other world")]
    pub fn open(dir: &Path) -> Result<Home> {
        Home::open_in(dir, World::real())
    }

    /// As [`Home::open`], in a world of the caller's.
    ///
    /// Errors: as [`Home::open`].
    pub fn open_in(dir: &Path, world: World) -> Result<Home> {
        let home = Home::at(dir, world)?;
        let config = home.config_path();
        match fs::metadata(&config) {
            Ok(meta) if meta.is_file() => Ok(home),
            // It may be one; this user may not look.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Error::io("open", &config)(e))
            }
            _ => Err(Error::NoHome { dir: home.dir }),
        }
    }

    /// Whether `dir` is a home.
    pub fn is_at(dir: &Path) -> bool {
        dir.join(CONFIG).is_file()
    }

    fn at(dir: &Path, world: World) -> Result<Home> {
        Ok(Home {
            dir: std::path::absolute(dir).map_err(Error::io("resolve", dir))?,
            remote: None,
            on_wait: None,
            world,
        })
    }

    /// The nearest directory `.zenith` upwards from `start`, be it a home or not.
    pub fn find(start: &Path) -> Option<PathBuf> {
        start
            .ancestors()
            .map(|dir| dir.join(".zenith"))
            .find(|dir| dir.is_dir())
    }

    /// The same home, where packs that are not here are read from `remote`.
    pub fn with_remote(self, remote: Arc<dyn Objects>) -> Home {
        let remote = Some(remote);
        Home { remote, ..self }
    }

    /// The same home, which tells who is waited for.
    pub fn telling(self, on_wait: impl Fn(&Holder) + Send + Sync + 'static) -> Home {
        let on_wait = Some(OnWait(Arc::new(on_wait)));
        Home { on_wait, ..self }
    }

    /// The same home as it lies here alone.
    pub fn alone(&self) -> Home {
        Home {
            remote: None,
            ..self.clone()
        }
    }

    /// Whether packs stay at the storage until they are read.
    pub fn is_lazy(&self) -> bool {
        self.remote.is_some()
    }

    /// Where packs lie that are not here, in a lazy home.
    pub(crate) fn far(&self) -> Option<Arc<dyn Objects>> {
        self.remote.clone()
    }

    /// The objects of the local repository.
    fn objects(&self) -> Arc<dyn Objects> {
        let local = Directory::new(&self.dir);
        match &self.remote {
            Some(remote) => Arc::new(Lazy::new(local, remote.clone())),
            None => Arc::new(local),
        }
    }

    /// Where time, randomness and threads come from.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The managed cluster.
    pub fn pgdata(&self) -> PathBuf {
        self.dir.join("pgdata")
    }

    /// Where sockets lie, as long as the path is short enough for one.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Logs of server and agent.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Short-lived servers.
    pub fn tmp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The agent answers here.
    pub fn agent_sock(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// What files looked like when they were read.
    pub fn file_cache_dir(&self) -> PathBuf {
        self.dir.join("filecache")
    }

    /// Locked by whoever writes to a storage that this home alone may write to.
    pub fn storage_lock(&self) -> PathBuf {
        storage_lock(&self.dir)
    }

    /// The index of the local repository.
    pub fn index_dir(&self) -> PathBuf {
        self.dir.join("index.db")
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// The saved settings.
    ///
    /// Errors: `NoHome`, `SettingsInvalid`, `Io`.
    pub fn settings(&self) -> Result<Settings> {
        let path = self.config_path();
        let Some(bytes) = disk::read_if_there(&path)? else {
            return Err(Error::NoHome {
                dir: self.dir.clone(),
            });
        };
        let invalid = |why: String| Error::SettingsInvalid {
            path: path.clone(),
            why,
        };
        let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        toml::from_str(&text).map_err(|e| invalid(e.to_string().trim_end().to_owned()))
    }

    /// Replaces the saved settings as a whole.
    pub fn save_settings(&self, settings: &Settings) -> Result<()> {
        let text = toml::to_string(settings).map_err(|e| Error::SettingsInvalid {
            path: self.config_path(),
            why: e.to_string(),
        })?;
        disk::replace(&self.config_path(), text.as_bytes(), 0o600)
    }

    /// The file that says where the home stands.
    pub(crate) fn head_path(&self) -> PathBuf {
        self.dir.join("HEAD")
    }

    /// Where the home stands.
    ///
    /// Errors: `HomeDamaged` when the file is missing or says something else.
    pub fn head(&self) -> Result<Head> {
        let path = self.head_path();
        let head = read_head(&path)?.ok_or_else(|| Error::HomeDamaged {
            path,
            why: "it is missing".to_owned(),
        })?;
        // A commit may have taken its branch away before HEAD went along.
        if let (Head::Branch(branch), Some(next)) = (&head, self.next_head()?) {
            let state = self.peek()?;
            let is_there = |branch: &str| state.get_ref(&format!("branch/{branch}")).is_some();
            let can_go = match &next {
                Head::Branch(next) => is_there(next),
                Head::Detached(_) => true,
            };
            if can_go && !is_there(branch) {
                return Ok(next);
            }
        }
        Ok(head)
    }

    /// Moves HEAD.
    pub fn set_head(&self, head: &Head) -> Result<()> {
        let text = format!("{head}\n");
        disk::replace(&self.head_path(), text.as_bytes(), 0o600)?;
        disk::remove(&self.next_head_path())
    }

    /// Moves HEAD together with a commit that takes away the branch that it is on: HEAD must never
    /// name a branch that is not there, or the next snapshot would begin anew.
    ///
    /// If we stop in between, HEAD is there with the commit and not without it.
    pub(crate) fn move_head_with<T>(
        &self,
        next: &Head,
        commit: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let text = format!("{next}\n");
        disk::replace(&self.next_head_path(), text.as_bytes(), 0o600)?;
        let done = commit()?;
        self.set_head(next)?;
        Ok(done)
    }

    /// Where HEAD goes with a commit, if we stopped while that was made.
    pub(crate) fn next_head(&self) -> Result<Option<Head>> {
        read_head(&self.next_head_path())
    }

    fn next_head_path(&self) -> PathBuf {
        self.dir.join("HEAD.next")
    }

    /// Takes the right to write to this home.
    ///
    /// Errors: `HomeBusy` with the holder when it is not free in time.
    pub fn lock(&self, purpose: &str, wait: Wait) -> Result<HomeLock> {
        let path = self.dir.join("lock");
        let begun = self.world.watch();
        let mut file = open_lock(&path)?;
        let mut told = false;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let mut lock = HomeLock {
                        file,
                        dir: self.dir.clone(),
                        world: self.world.clone(),
                    };
                    // Held without a name is held all the same: where the disk is full, whoever
                    // makes room must not fail here.
                    if let Err(e) = lock.sign(purpose) {
                        tracing::warn!("{} does not say who holds it: {e}", path.display());
                    }
                    return Ok(lock);
                }
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(Error::io("lock", &path)(errno.into())),
            }
            let over = match wait {
                Wait::No => true,
                Wait::UpTo(limit) => begun.elapsed() >= limit,
                Wait::Forever => false,
            };
            if over {
                let holder = self.holder_or_unknown();
                return Err(Error::HomeBusy {
                    dir: self.dir.clone(),
                    by: holder.purpose,
                    pid: holder.pid,
                    since: holder.since,
                });
            }
            if let Some(OnWait(on_wait)) = &self.on_wait
                && !told
                && begun.elapsed() >= TELL_AFTER
            {
                told = true;
                on_wait(&self.holder_or_unknown());
            }
            self.world.sleep(LOCK_POLL);
        }
    }

    /// Between lock and signature, and after a crash while it was signed, the file names nobody.
    fn holder_or_unknown(&self) -> Holder {
        self.holder().unwrap_or_else(|| Holder {
            pid: 0,
            purpose: "an unknown command".to_owned(),
            since: "just now".to_owned(),
        })
    }

    /// Who holds the lock, by its own word; nobody when the file says nothing.
    pub fn holder(&self) -> Option<Holder> {
        toml::from_str(&fs::read_to_string(self.dir.join("lock")).ok()?).ok()
    }

    /// Keeps packs from being collected as long as the guard lives; waits for a collection that
    /// runs.
    pub fn read_guard(&self) -> Result<GcGuard> {
        let path = self.dir.join("gc.lock");
        match Flock::lock(open_lock(&path)?, FlockArg::LockShared) {
            Ok(file) => Ok(GcGuard { _file: file }),
            Err((_, errno)) => Err(Error::io("lock", &path)(errno.into())),
        }
    }

    /// Keeps readers out as long as the guard lives; never waits.
    ///
    /// Errors: `HomeInUse` when there are readers.
    pub fn collect_guard(&self) -> Result<GcGuard> {
        let path = self.dir.join("gc.lock");
        match Flock::lock(open_lock(&path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(GcGuard { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::HomeInUse {
                dir: self.dir.clone(),
                collecting: false,
            }),
            Err((_, errno)) => Err(Error::io("lock", &path)(errno.into())),
        }
    }

    /// The keys of a sealed home; none when it is not sealed.
    ///
    /// Errors: `HomeDamaged`, `Io`.
    pub fn seal(&self) -> Result<Option<Seal>> {
        Ok(key::read(self)?.map(|key| key.seal()))
    }

    /// Makes the local repository, sealed where the home has a key, or opens the one that an
    /// interrupted init made.
    pub fn create_repository(&self, params: Params, operation: Operation) -> Result<Repository> {
        let objects = self.objects();
        let index = IndexChoice::writer(self.index_dir());
        let seal = self.seal()?;
        if Repository::exists(&*objects)? {
            return self.open_repository(index);
        }
        let world = self.world.clone();
        Ok(Repository::create_in(
            objects, params, seal, index, operation, world,
        )?)
    }

    /// Writes the local repository's `zenith.json` anew where it is lost: what was wrong with it.
    /// The caller holds the lock; `params` are the storage's.
    pub fn restore_header(&self, params: Params) -> Result<Option<String>> {
        let seal = self.seal()?;
        let remembered = Remembered {
            params,
            seal: seal.as_ref(),
            id: None,
        };
        let done = Repository::restore_header(&Directory::new(&self.dir), remembered);
        Ok(done?)
    }

    /// The local repository for reading; nothing is collected while the guard lives.
    pub fn reader(&self) -> Result<(Repository, GcGuard)> {
        let guard = self.read_guard()?;
        let repo = self.open_repository(IndexChoice::reader(self.index_dir()))?;
        Ok((repo, guard))
    }

    /// What the latest root of the local repository says. Nothing is looked up, so the index stays
    /// closed.
    pub fn state(&self) -> Result<Arc<State>> {
        let _guard = self.read_guard()?;
        self.peek()
    }

    /// The same without keeping collections off and without making anything, for who can do
    /// without an answer.
    pub fn peek(&self) -> Result<Arc<State>> {
        Ok(self.open_repository(IndexChoice::Memory)?.state()?)
    }

    /// The local repository for a look into snapshots, as [`Home::peek`]: what is read may be
    /// collected meanwhile.
    pub fn peek_inside(&self) -> Result<Repository> {
        self.open_repository(IndexChoice::reader(self.index_dir()))
    }

    /// The local repository for writing.
    pub fn writer(&self, lock: &HomeLock) -> Result<Repository> {
        debug_assert_eq!(lock.dir(), self.dir());
        let index = IndexChoice::writer(self.index_dir());
        Ok(self.open_repository(index)?.alone())
    }

    /// A key that is not that of the local repository is the home's trouble, not a storage's.
    ///
    /// Errors: `KeyMissing`, `HomeDamaged`, and all others as they are.
    fn open_repository(&self, index: IndexChoice) -> Result<Repository> {
        let opened = Repository::open_in(self.objects(), self.seal()?, index, self.world.clone());
        opened.map_err(|e| match e {
            zenith_store::Error::Sealed { .. } => Error::KeyMissing {
                dir: self.dir.clone(),
            },
            zenith_store::Error::NotSealed { .. } | zenith_store::Error::WrongKey { .. } => {
                Error::HomeDamaged {
                    path: key::path(self),
                    why: "it is not the key of the repository beside it".to_owned(),
                }
            }
            e => e.into(),
        })
    }

    /// Whether the local repository can be opened with the key that the home keeps.
    ///
    /// Errors: `KeyMissing`, `HomeDamaged`.
    pub fn check_key(&self) -> Result<()> {
        if !Repository::exists(&*self.objects())? {
            return Ok(());
        }
        self.open_repository(IndexChoice::Memory).map(drop)
    }

    /// What init may find in a directory that it began to fill earlier.
    fn refuse_foreign_content(&self) -> Result<()> {
        const OURS: [&str; 21] = [
            "HEAD",
            "HEAD.tmp",
            "lock",
            "gc.lock",
            "storage.lock",
            "config.toml.tmp",
            "zenith.json",
            "keys",
            "key",
            "key.tmp",
            "roots",
            "packs",
            "index",
            "sessions",
            "index.db",
            "filecache",
            "run",
            "log",
            "pgpass",
            "clusters.toml",
            "tmp",
        ];
        for entry in fs::read_dir(&self.dir).map_err(Error::io("read", &self.dir))? {
            let name = entry.map_err(Error::io("read", &self.dir))?.file_name();
            // Half-made clusters of an interrupted init have names of their own.
            let ours = name.to_str().is_some_and(|n| {
                OURS.contains(&n) || n.starts_with("pgdata") || n.starts_with(".tmp")
            });
            if !ours {
                return Err(Error::HomeForeign {
                    dir: self.dir.clone(),
                    found: name.to_string_lossy().into_owned(),
                });
            }
        }
        Ok(())
    }
}

impl HomeLock {
    /// The home it locks.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says who holds the lock and what for.
    pub fn sign(&mut self, purpose: &str) -> std::io::Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            purpose: purpose.to_owned(),
            since: who::utc(&self.world)
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
        };
        let text = toml::to_string(&holder).map_err(std::io::Error::other)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for HomeLock {
    fn drop(&mut self) {
        // Only so that nobody reads a name that holds nothing; the kernel releases the lock.
        let _ = self.file.set_len(0);
    }
}

/// [`Home::storage_lock`] of a home that may not be there yet.
pub(crate) fn storage_lock(dir: &Path) -> PathBuf {
    dir.join("storage.lock")
}

pub(crate) fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}

/// What such a file says, where it is there.
fn read_head(path: &Path) -> Result<Option<Head>> {
    let damaged = |why: String| Error::HomeDamaged {
        path: path.to_owned(),
        why,
    };
    let Some(bytes) = disk::read_if_there(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8".to_owned()))?;
    text.parse().map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn made() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h/.zenith")).unwrap();
        home.complete(&Settings::new()).unwrap();
        (dir, home)
    }

    #[test]
    fn who_waits_is_told_for_whom() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiting = home.clone().telling({
            let told = told.clone();
            move |holder| told.lock().unwrap().push(holder.purpose.clone())
        });
        drop(waiting.lock("mine", Wait::Forever).unwrap());
        let _held = home.lock("agent", Wait::No).unwrap();
        for (wait, times) in [(Wait::No, 0), (Wait::UpTo(TELL_AFTER * 3), 1)] {
            let refused = waiting.lock("mine", wait).unwrap_err();
            assert!(matches!(refused, Error::HomeBusy { .. }), "{refused}");
            assert_eq!(*told.lock().unwrap(), vec!["agent"; times]);
        }
    }

    #[test]
    fn a_home_is_private_and_found_from_below() {
        let (dir, home) = made();
        assert_eq!(home.head().unwrap(), Head::Branch("main".into()));
        let below = dir.path().join("h/a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(Home::find(&below).as_deref(), Some(home.dir()));
        for path in [home.dir().to_owned(), home.run_dir()] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
        let config = fs::metadata(home.config_path()).unwrap();
        assert_eq!(config.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_what_init_left_is_taken_over() {
        let (_dir, home) = made();
        assert!(matches!(
            Home::prepare(home.dir()),
            Err(Error::HomeExists { .. })
        ));
        fs::remove_file(home.config_path()).unwrap();
        assert!(matches!(Home::open(home.dir()), Err(Error::NoHome { .. })));
        Home::prepare(home.dir()).unwrap();
        fs::write(home.dir().join("thesis.tex"), "").unwrap();
        let error = Home::prepare(home.dir()).unwrap_err();
        assert!(matches!(error, Error::HomeForeign { found, .. } if found == "thesis.tex"));
    }

    #[test]
    fn one_writer_whose_name_the_others_learn() {
        let (_dir, home) = made();
        let lock = home.lock("snapshot create", Wait::Forever).unwrap();
        let begun = home.world().watch();
        let error = home
            .lock("push", Wait::UpTo(Duration::from_millis(120)))
            .unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(120));
        let Error::HomeBusy { by, pid, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((by.as_str(), pid), ("snapshot create", std::process::id()));
        drop(lock);
        assert_eq!(home.holder(), None);
        home.lock("push", Wait::No).unwrap();
    }

    #[test]
    fn collection_waits_for_no_reader() {
        let (_dir, home) = made();
        let (one, two) = (home.read_guard().unwrap(), home.read_guard().unwrap());
        assert!(matches!(home.collect_guard(), Err(Error::HomeInUse { .. })));
        drop((one, two));
        home.collect_guard().unwrap();
    }

    #[test]
    fn a_damaged_head_is_named() {
        let (_dir, home) = made();
        fs::write(home.dir().join("HEAD"), "ref: branch/a..\0").unwrap();
        assert!(matches!(home.head(), Err(Error::HomeDamaged { .. })));
    }
}
