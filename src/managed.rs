//! The managed cluster: `<home>/pgdata`, the server that runs on it, and how to reach that.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zenith_store::SnapshotId;
use zenith_store::objects::OpenOptions;

use crate::disk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::home::Home;
use crate::marker::{self, Marker};
use crate::pg::binaries::{self, Binaries};
use crate::pg::server::{Postmaster, Server, StartOptions};
use crate::pg::{self, user, version};
use crate::settings::Settings;

/// What the process was given from outside; passed in, since a library reads no environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// PATH, to find the programs of PostgreSQL.
    pub path: Option<OsString>,
    /// Variables that storages read: credentials, regions, endpoints.
    pub storage: zenith_store::objects::Environment,
    /// This program, which is also the agent.
    pub program: PathBuf,
}

/// Why the managed cluster is not started, stopped, moved or made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A directory without home, and nothing that says where its snapshots are.
    #[error("there is no zenith home at {}, and no storage_dest to make one from", dir.display())]
    NothingToStart {
        /// Where the home would be.
        dir: PathBuf,
    },
    /// Neither cluster nor snapshot.
    #[error("the home {} has no cluster and no snapshot to make one from", dir.display())]
    NoCluster {
        /// The home.
        dir: PathBuf,
    },
    /// The cluster is gone, its snapshots are not.
    #[error("the home {} has snapshots, but no cluster now", dir.display())]
    ClusterMissing {
        /// The home.
        dir: PathBuf,
    },
    /// A push or fetch without a storage.
    #[error("the home {} has no storage_dest", dir.display())]
    NoStorage {
        /// The home.
        dir: PathBuf,
    },
    /// The storage has snapshots, but none of this branch.
    #[error("the repository at {location} has no branch `{branch}`; it has {}", branches.join(", "))]
    BranchNotAtStorage {
        /// What was asked for.
        branch: String,
        /// Where.
        location: String,
        /// What there is.
        branches: Vec<String>,
    },
    /// A clone of nothing.
    #[error("the repository at {location} has no branch with a snapshot")]
    NothingToClone {
        /// Where.
        location: String,
    },
    /// An import is to begin a branch that has snapshots.
    #[error(
        "branch `{branch}` at {location} holds a cluster already (system identifier {expected}): \
         {source_place} is not imported over it"
    )]
    BranchTaken {
        /// What was asked for.
        branch: String,
        /// Where.
        location: String,
        /// Of its last snapshot.
        expected: u64,
        /// What was to be imported.
        source_place: String,
    },
    /// There was a repository at the storage, and there is none now.
    #[error("the repository at {location} is gone: this home was with it before")]
    StorageGone {
        /// Where.
        location: String,
    },
    /// There is another repository at the storage than before.
    #[error("the repository at {location} is another than this home was with before")]
    StorageReplaced {
        /// Where.
        location: String,
    },
    /// The home pushes elsewhere.
    #[error("the home {} pushes to {saved}, not to {asked}", dir.display())]
    OtherStorage {
        /// The home.
        dir: PathBuf,
        /// What is saved.
        saved: String,
        /// What was asked for.
        asked: String,
    },
    /// The home is on another branch than init was asked for.
    #[error("the home {} was made for branch `{saved}`, not `{asked}`", dir.display())]
    OtherBranch {
        /// The home.
        dir: PathBuf,
        /// What is saved.
        saved: String,
        /// What was asked for.
        asked: String,
    },
    /// A cluster is to become the managed one where another one is.
    #[error(
        "{source_place} is cluster {found}, but {place} holds cluster {expected} (system identifiers)"
    )]
    OtherCluster {
        /// Where the new one is.
        source_place: String,
        /// Its system identifier.
        found: u64,
        /// The home or repository.
        place: String,
        /// The system identifier there.
        expected: u64,
    },
    /// The directory is empty and lies on another device than before.
    #[error("{} is empty and on another device than the cluster was: a disk is not mounted", pgdata.display())]
    Unmounted {
        /// The managed cluster.
        pgdata: PathBuf,
    },
    /// Files of a cluster without those that make it one.
    #[error("{} is not empty and not a whole cluster: {missing} is missing", pgdata.display())]
    Incomplete {
        /// The managed cluster.
        pgdata: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// The agent was started and does not answer.
    #[error("the agent does not answer {seconds} s after it was started; its log is {}", log.display())]
    AgentSilent {
        /// How long it was waited for.
        seconds: u64,
        /// Where it writes.
        log: PathBuf,
    },
    /// There is an agent already.
    #[error("an agent works in {} already (pid {pid})", dir.display())]
    AgentRunning {
        /// The home.
        dir: PathBuf,
        /// The agent.
        pid: u32,
    },
    /// The server ended without being asked to, under `--foreground`.
    #[error("the server ended on its own: {status}")]
    ServerDied {
        /// As the system says it.
        status: String,
    },
    /// The socket directory belongs to somebody else.
    #[error("{} exists and is not a private directory of this user", dir.display())]
    SocketDirForeign {
        /// The directory.
        dir: PathBuf,
    },
    /// A ref still needs the snapshot.
    #[error("{} points at snapshot {id}", refs.join(", "))]
    Referenced {
        /// The snapshot, short.
        id: String,
        /// Names of refs.
        refs: Vec<String>,
    },
    /// A new branch or tag would have the name of another one.
    #[error("there is a {kind} `{name}` already, at {id}")]
    NameTaken {
        /// `branch` or `tag`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it is, short.
        id: String,
    },
    /// The home is on the branch.
    #[error("branch `{branch}` is checked out")]
    CheckedOut {
        /// The branch.
        branch: String,
    },
    /// A branch is to go, and nothing else leads to its snapshots.
    #[error("nothing but branch `{branch}` leads to {number} of its snapshots, {id} the newest")]
    NotKept {
        /// The branch.
        branch: String,
        /// How many.
        number: u64,
        /// Its tip, short.
        id: String,
        /// Whether it lies at the storage.
        at_storage: bool,
    },
    /// A lazy home is to build on what its storage has deleted.
    #[error("snapshot {id} is not at {location} any more, and its packs are not here")]
    NotHeld {
        /// The snapshot, short.
        id: String,
        /// The storage.
        location: String,
    },
    /// Homes build on the snapshot, or somebody reads it right now.
    #[error("{} snapshot {id}", by.join(" and "))]
    Held {
        /// The snapshot, short.
        id: String,
        /// `home 0a… builds on`, `a reader (…) is at`.
        by: Vec<String>,
        /// The first of the homes, as it is named to be forgotten.
        home: Option<String>,
    },
    /// The home itself stands on the snapshot, or is on its way there.
    #[error("{} needs snapshot {id}", by.join(" and "))]
    Needed {
        /// The snapshot, short.
        id: String,
        /// `HEAD`, `an unfinished checkout`.
        by: Vec<&'static str>,
    },
    /// The operation log has nothing to reverse.
    #[error("{}", seq.map_or_else(
        || "there is no operation to undo".to_owned(),
        |seq| format!("the operation log has no operation {seq}"),
    ))]
    NothingToUndo {
        /// The number asked for.
        seq: Option<u64>,
    },
    /// No remote has this name.
    #[error("no remote is called `{name}`")]
    NoRemote {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A remote cannot be called so.
    #[error("`{name}` cannot be the name of a remote: {why}")]
    RemoteNameInvalid {
        /// What was asked for.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A remote has this name already.
    #[error("the remote `{name}` is {location} already")]
    RemoteExists {
        /// The name.
        name: String,
        /// Where it is.
        location: String,
    },
    /// A pull is to move a cluster whose server runs.
    #[error("the server runs on {} (pid {pid}), which is to move to {id}", pgdata.display())]
    PullRunning {
        /// The managed cluster.
        pgdata: PathBuf,
        /// Its postmaster.
        pid: i32,
        /// Where the branch goes, short.
        id: String,
        /// The branch at the remote, `origin/main`.
        upstream: String,
    },
    /// Guard and network do not go together.
    #[error("the cluster in {} is guarded as a copy and listens on localhost only", pgdata.display())]
    Guarded {
        /// The managed cluster.
        pgdata: PathBuf,
    },
}

impl Refusal {
    /// The refusal for refs, by their full names, that nobody but their owner moves.
    pub(crate) fn held(id: SnapshotId, refs: &[&str]) -> Refusal {
        // A home that reads here has a ref for each branch below its own.
        let first = |home: &str| home.split('/').next().unwrap_or(home).to_owned();
        let by = |name: &&str| match name.split_once('/') {
            Some(("homes", home)) => format!("home {} builds on", first(home)),
            _ => format!("a reader ({name}) is at"),
        };
        let home = refs.iter().find_map(|name| name.strip_prefix("homes/"));
        Refusal::Held {
            id: id.short(),
            by: refs.iter().map(by).collect(),
            home: home.map(first),
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> crate::ErrorKind {
        use crate::ErrorKind::{Conflict, Invalid, Io, NotFound, Unavailable};
        match self {
            Refusal::NothingToStart { .. }
            | Refusal::NoCluster { .. }
            | Refusal::ClusterMissing { .. }
            | Refusal::NoRemote { .. }
            | Refusal::NothingToClone { .. }
            | Refusal::BranchNotAtStorage { .. } => NotFound,
            Refusal::NoStorage { .. }
            | Refusal::Guarded { .. }
            | Refusal::RemoteNameInvalid { .. }
            | Refusal::OtherCluster { .. }
            | Refusal::Referenced { .. }
            | Refusal::NothingToUndo { .. }
            | Refusal::NotHeld { .. }
            | Refusal::Held { .. }
            | Refusal::CheckedOut { .. }
            | Refusal::NotKept { .. }
            | Refusal::Needed { .. } => Invalid,
            Refusal::StorageReplaced { .. }
            | Refusal::OtherStorage { .. }
            | Refusal::OtherBranch { .. }
            | Refusal::BranchTaken { .. }
            | Refusal::RemoteExists { .. }
            | Refusal::PullRunning { .. }
            | Refusal::NameTaken { .. }
            | Refusal::AgentRunning { .. } => Conflict,
            Refusal::Unmounted { .. }
            | Refusal::StorageGone { .. }
            | Refusal::Incomplete { .. }
            | Refusal::SocketDirForeign { .. } => Io,
            Refusal::AgentSilent { .. } | Refusal::ServerDied { .. } => Unavailable,
        }
    }
}

/// What is in `<home>/pgdata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A cluster, running, stopped or crashed.
    Whole,
    /// What a checkout of this snapshot was cut off in the middle of.
    HalfMade(SnapshotId),
    /// Nothing.
    Missing,
}

/// What is remembered of the managed cluster between commands: the file `cluster.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Device number of the cluster's directory.
    device: u64,
}

/// A home with its settings, as the commands around the server see it.
#[derive(Debug, Clone)]
pub struct Managed {
    /// Where it is.
    pub home: Home,
    /// As saved, or with what holds for this command only.
    pub settings: Settings,
}

impl Managed {
    /// Longest path of a socket, its file name included: `sun_path` without its end.
    const SOCKET_PATH_MAX: usize = 107;

    /// The home in `dir` with its saved settings.
    pub fn open(dir: &Path) -> Result<Managed> {
        let home = Home::open(dir)?;
        let settings = home.settings()?;
        Ok(Managed { home, settings })
    }

    /// Has a lazy home read at its storage what is not here.
    ///
    /// Errors: `Url`, and those of the place.
    pub fn see_through(&mut self, around: &Surroundings) -> Result<()> {
        if let (true, Some(location)) = (self.settings.lazy, &self.settings.storage_dest) {
            let options = OpenOptions::interactive();
            let dir = self.home.dir();
            let remote = crate::sync::open_objects(location, dir, &around.storage, &options)?;
            self.home = self.home.alone().with_remote(remote);
        }
        Ok(())
    }

    /// Whether there is a cluster. An empty directory on another device than before is a disk
    /// that is not mounted, not a loss.
    ///
    /// Errors: `CheckoutPending`, `Refusal::Unmounted`, `Refusal::Incomplete`.
    pub fn presence(&self) -> Result<Presence> {
        let pgdata = self.home.pgdata();
        crate::checkout::journal::refuse_pending(&self.home, &pgdata)?;
        let entries = match fs::read_dir(&pgdata) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Presence::Missing),
            entries => entries.map_err(Error::io("read", &pgdata))?,
        };
        let mut is_empty = true;
        for entry in entries {
            // What the root of a file system brings along is no content, nor is a marker whose
            // writing was cut off.
            let name = entry.map_err(Error::io("read", &pgdata))?.file_name();
            is_empty &= name == "lost+found"
                || Some(name.as_os_str()) == disk::temp_name(Path::new(marker::NAME)).file_name();
        }
        if is_empty {
            let device = device_of(&pgdata)?;
            return match self.memory()? {
                Some(memory) if memory.device != device => {
                    Err(Refusal::Unmounted { pgdata }.into())
                }
                _ => Ok(Presence::Missing),
            };
        }
        for missing in ["PG_VERSION", "global/pg_control"] {
            if !pgdata.join(missing).is_file() {
                let marker = Marker::half_made(&pgdata)?;
                if let Some(snapshot) = marker.and_then(|m| m.snapshot.parse().ok()) {
                    return Ok(Presence::HalfMade(snapshot));
                }
                return Err(Refusal::Incomplete { pgdata, missing }.into());
            }
        }
        Ok(Presence::Whole)
    }

    /// That there is a cluster to look at.
    ///
    /// Errors: `Refusal::ClusterMissing`, `Refusal::NoCluster`, those of [`Managed::presence`].
    pub fn require_cluster(&self) -> Result<()> {
        if self.presence()? == Presence::Whole {
            return Ok(());
        }
        let dir = self.home.dir().to_owned();
        let state = crate::publish::local_state(self)?;
        let has_snapshots = state.snapshots().next().is_some();
        Err(if has_snapshots {
            Refusal::ClusterMissing { dir }.into()
        } else {
            Refusal::NoCluster { dir }.into()
        })
    }

    /// Snapshots that this home stands on or is on its way to, and what each is needed for. They
    /// stay as they are, refs or none.
    pub fn needed(&self) -> Result<Vec<(SnapshotId, &'static str)>> {
        let mut needed = Vec::new();
        if let Head::Detached(id) = self.home.head()? {
            needed.extend(id.parse().ok().map(|id| (id, "HEAD")));
        }
        let unfinished = "an unfinished checkout";
        if let Some(journal) = crate::checkout::pending(&self.home)? {
            needed.extend(journal.snapshot.parse().ok().map(|id| (id, unfinished)));
        }
        if let Some(marker) = Marker::half_made(&self.home.pgdata())? {
            needed.extend(marker.snapshot.parse().ok().map(|id| (id, unfinished)));
        }
        Ok(needed)
    }

    /// Remembers where the cluster lies, for [`Managed::presence`].
    pub fn remember(&self) -> Result<()> {
        let memory = Memory {
            device: device_of(&self.home.pgdata())?,
        };
        let text = toml::to_string(&memory).map_err(|e| Error::Internal {
            what: format!("cluster.toml: {e}"),
        })?;
        disk::replace(&self.memory_path(), text.as_bytes(), 0o600)
    }

    /// The programs for a cluster of this major.
    pub fn binaries(&self, around: &Surroundings, major: Option<u32>) -> Result<Binaries> {
        let explicit = self.settings.server.pg_bin.as_deref();
        Ok(binaries::find(explicit, around.path.as_deref(), major)?)
    }

    /// The managed cluster with the programs of its major.
    pub fn server(&self, around: &Surroundings) -> Result<Server> {
        let pgdata = self.home.pgdata();
        let bin = self.binaries(around, Some(version::major_of_dir(&pgdata)?))?;
        Ok(Server { bin, pgdata })
    }

    /// The live postmaster of the managed cluster.
    pub fn postmaster(&self) -> Result<Option<Postmaster>> {
        Ok(pg::server::postmaster(&self.home.pgdata())?)
    }

    /// Where the server's socket lies: `<home>/run`, or a short private directory where a
    /// socket's path would be too long. Created with mode 0700.
    pub fn socket_dir(&self) -> Result<PathBuf> {
        let near = self.home.run_dir();
        let file_name = "/.s.PGSQL.65535".len();
        if near.as_os_str().len() + file_name <= Self::SOCKET_PATH_MAX {
            private_dir(&near)?;
            return Ok(near);
        }
        let id = self
            .settings
            .home_id
            .get(..12)
            .unwrap_or(&self.settings.home_id);
        let short = PathBuf::from(format!("/tmp/zenith-{id}"));
        private_dir(&short)?;
        Ok(short)
    }

    /// How the server is started. A guarded cluster never listens beyond localhost.
    pub fn start_options(&self, timeout: Duration) -> Result<StartOptions> {
        let server = &self.settings.server;
        let listen = server.listen.as_deref().unwrap_or("localhost");
        if !self.settings.primary && !is_local(listen) {
            return Err(Refusal::Guarded {
                pgdata: self.home.pgdata(),
            }
            .into());
        }
        let mut options: Vec<(String, String)> = vec![
            ("listen_addresses".into(), listen.into()),
            (
                "unix_socket_directories".into(),
                self.socket_dir()?.to_string_lossy().into_owned(),
            ),
        ];
        options.extend(server.port.map(|port| ("port".into(), port.to_string())));
        options.extend(
            server
                .parameters
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Ok(StartOptions {
            options,
            log: self.server_log(),
            timeout,
        })
    }

    /// Where the server's messages go.
    pub fn server_log(&self) -> PathBuf {
        self.home.log_dir().join("postgresql.log")
    }

    /// Where the agent's messages go.
    pub fn agent_log(&self) -> PathBuf {
        self.home.log_dir().join("agent.log")
    }

    /// The connection that zenith itself uses: the socket of this postmaster, as superuser.
    pub fn dsn(&self, postmaster: &Postmaster) -> String {
        let host = postmaster
            .socket_dir
            .as_deref()
            .unwrap_or(Path::new("localhost"));
        format!(
            "host='{}' port={} user=postgres dbname=postgres",
            host.display()
                .to_string()
                .replace('\\', "\\\\")
                .replace('\'', "\\'"),
            postmaster.port
        )
    }

    /// Bytes that the file system of the home has, and those of them that are free to this user.
    pub fn space(&self) -> Result<(u64, u64)> {
        let dir = self.home.dir();
        let stat = nix::sys::statvfs::statvfs(dir)
            .map_err(|errno| Error::io("statvfs of", dir)(errno.into()))?;
        let fragment = stat.fragment_size();
        Ok((stat.blocks() * fragment, stat.blocks_available() * fragment))
    }

    fn memory_path(&self) -> PathBuf {
        self.home.dir().join("cluster.toml")
    }

    /// A memory that cannot be read is none: it only ever makes zenith more careful.
    fn memory(&self) -> Result<Option<Memory>> {
        let bytes = disk::read_if_there(&self.memory_path())?;
        Ok(bytes
            .and_then(|b| String::from_utf8(b).ok())
            .and_then(|text| toml::from_str(&text).ok()))
    }
}

/// A log that grew large begins anew; the one before is kept. Call it while nobody writes.
pub fn rotate_log(log: &Path, bytes_max: u64) -> Result<()> {
    match fs::metadata(log) {
        Ok(meta) if meta.len() > bytes_max => {
            fs::rename(log, log.with_extension("log.1")).map_err(Error::io("rename", log))
        }
        _ => Ok(()),
    }
}

/// A log that a running server appends to is copied and emptied: its lines of that moment may be
/// lost, which is better than a full disk.
pub fn rotate_open_log(log: &Path, bytes_max: u64) -> Result<()> {
    match fs::metadata(log) {
        Ok(meta) if meta.len() > bytes_max => {}
        _ => return Ok(()),
    }
    fs::copy(log, log.with_extension("log.1")).map_err(Error::io("copy", log))?;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(log)
        .map_err(Error::io("open", log))?;
    file.set_len(0).map_err(Error::io("truncate", log))
}

fn is_local(listen: &str) -> bool {
    listen
        .split(',')
        .all(|address| matches!(address.trim(), "" | "localhost" | "127.0.0.1" | "::1"))
}

fn device_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(Error::io("stat", path))?.dev())
}

/// Makes the directory, or sees that it is this user's alone.
fn private_dir(dir: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(dir).map_err(Error::io("stat", dir))?;
            let ours = meta.uid() == nix::unistd::geteuid().as_raw();
            if meta.is_dir() && ours && meta.mode() & 0o077 == 0 {
                Ok(())
            } else {
                Err(Refusal::SocketDirForeign {
                    dir: dir.to_owned(),
                }
                .into())
            }
        }
        made => made.map_err(Error::io("create", dir)),
    }
}

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

#[cfg(test)]
mod tests;
