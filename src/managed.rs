//! The managed cluster: `<home>/pgdata`, the server that runs on it, and how to reach that.

mod owner;
mod refusal;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zenith_store::objects::OpenOptions;
use zenith_store::{SnapshotId, World};

use crate::disk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::home::Home;
use crate::marker::{self, Marker};
use crate::pg::binaries::{self, Binaries};
use crate::pg::server::{Postmaster, Server, StartOptions};
use crate::pg::{self, version};
use crate::settings::Settings;

pub use self::owner::{as_owner, become_owner, give, give_and_become, give_target};
pub use self::refusal::Refusal;

/// What the process was given from outside; passed in, since a library reads no environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// PATH, to find the programs of PostgreSQL.
    pub path: Option<OsString>,
    /// Variables that storages read: credentials, regions, endpoints.
    pub storage: zenith_store::objects::Environment,
    /// This program, which is also the agent.
    pub program: PathBuf,
    /// Where time, randomness and threads come from.
    pub world: World,
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
    #[expect(clippy::disallowed_methods, reason = "for who has no other world")]
    pub fn open(dir: &Path) -> Result<Managed> {
        Managed::open_in(dir, World::real())
    }

    /// As [`Managed::open`], in a world of the caller's.
    pub fn open_in(dir: &Path, world: World) -> Result<Managed> {
        let home = Home::open_in(dir, world)?;
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
        Ok(Server {
            bin,
            pgdata,
            world: self.home.world().clone(),
        })
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
