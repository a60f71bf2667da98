//! Everything that can be wrong with a PostgreSQL installation, cluster or server.

use std::io;
use std::path::{Path, PathBuf};

use super::lsn::Lsn;

pub type Result<T> = std::result::Result<T, Error>;

/// One variant per condition; the facts are fields.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is not a PostgreSQL cluster: it has no PG_VERSION", path.display())]
    NotACluster { path: PathBuf },
    #[error("{} holds a cluster of PostgreSQL {major}; supported are 15 to 18", path.display())]
    UnsupportedMajor { path: PathBuf, major: String },
    #[error("the server runs PostgreSQL {version}; supported are 15 to 18")]
    UnsupportedServer { version: String },
    #[error("{} is damaged: {reason}", path.display())]
    ControlDamaged { path: PathBuf, reason: String },
    #[error("pg_control is damaged: {reason}")]
    ControlBytes { reason: String },
    #[error("`{text}` is not a log sequence number like 0/3000028")]
    BadLsn { text: String },
    #[error("`{name}` is not the name of a WAL segment")]
    BadSegmentName { name: String },
    #[error("WAL segment size {bytes} is not a power of two from 1 MiB to 1 GiB")]
    BadSegmentSize { bytes: u64 },
    #[error("backup_label is damaged: {reason}")]
    BadLabel { reason: String },
    #[error("the catalogs cannot be read: {path}: {reason}")]
    CatalogUnreadable {
        /// Relative to PGDATA.
        path: String,
        reason: String,
    },
    #[error("tablespace_map is damaged in line {line}: {reason}")]
    BadTablespaceMap { line: usize, reason: String },
    #[error("timeline history file {name} is damaged in line {line}: {reason}")]
    BadHistory {
        name: String,
        line: usize,
        reason: String,
    },
    #[error("WAL segment {segment} is missing from {}", dir.display())]
    WalMissing { segment: String, dir: PathBuf },
    #[error("WAL segment {segment} is damaged at offset {offset}: {reason}")]
    WalDamaged {
        segment: String,
        offset: u64,
        reason: String,
    },
    #[error(
        "WAL segment {segment} was recycled: offset {offset} holds WAL of {found}, expected {expected}"
    )]
    WalRecycled {
        segment: String,
        offset: u64,
        found: Lsn,
        expected: Lsn,
    },
    #[error(
        "WAL segment {segment} belongs to system identifier {found}, the cluster is {expected}"
    )]
    WalForeign {
        segment: String,
        found: u64,
        expected: u64,
    },
    #[error("no PostgreSQL {want} server programs (postgres, initdb, pg_ctl); searched {searched}")]
    NoBinaries { searched: String, want: String },
    #[error("{} is PostgreSQL {found}, needed is {want}", dir.display())]
    WrongBinaries {
        dir: PathBuf,
        found: String,
        want: String,
    },
    #[error("there is no user `{name}`")]
    NoSuchUser { name: String },
    #[error("user {user} cannot search {} (mode {mode:04o}), which leads to {}", dir.display(), path.display())]
    CannotSearch {
        user: String,
        dir: PathBuf,
        path: PathBuf,
        mode: u32,
    },
    #[error("becoming user {user}: {reason}")]
    BecomeUser { user: String, reason: String },
    #[error("{program} ended with {status}: {stderr}")]
    Program {
        program: String,
        status: String,
        stderr: String,
    },
    #[error("{} holds a character that pg_ctl cannot pass on: one of \" $ ` \\ or a line break", path.display())]
    PathUnquotable { path: PathBuf },
    #[error("{} is damaged: {reason}", path.display())]
    BadPidFile { path: PathBuf, reason: String },
    #[error("port {port} is in use by another program")]
    PortInUse { port: u16 },
    #[error("the server of {} runs already (pid {pid})", pgdata.display())]
    AlreadyRunning { pgdata: PathBuf, pid: i32 },
    #[error("lock file {} exists", path.display())]
    LockFileExists { path: PathBuf },
    #[error("the server of {} did not start: {log}", pgdata.display())]
    StartFailed { pgdata: PathBuf, log: String },
    #[error("the server of {} is not ready after {seconds} s", pgdata.display())]
    NotReady { pgdata: PathBuf, seconds: u64 },
    #[error("the server of {} (pid {pid}) still runs after {seconds} s", pgdata.display())]
    StopTimeout {
        pgdata: PathBuf,
        pid: i32,
        seconds: u64,
    },
    #[error("the connection string is not understood: {reason}")]
    BadDsn { reason: String },
    #[error("no connection to the server: {reason}")]
    Connect { reason: String },
    #[error("the server reports, while {doing}: {reason}")]
    Query {
        doing: &'static str,
        reason: String,
        /// SQLSTATE; `None` when the connection broke.
        code: Option<String>,
    },
    #[error("role {role} may not {what}")]
    Privilege { role: String, what: String },
    #[error("wal_level is minimal: an online backup needs replica or logical")]
    WalLevelMinimal,
    #[error("the server refuses a replication slot: {reason}")]
    SlotRefused { reason: String },
    #[error("replication slot {slot} lost its WAL (wal_status {status})")]
    SlotLost { slot: String, status: String },
    #[error("the server changed during the backup: {what} was {before}, is {after}")]
    ServerChanged {
        what: &'static str,
        before: String,
        after: String,
    },
    #[error("{what} {}", path.display())]
    Io {
        /// A verb phrase: `reading`, `creating`.
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the context of a failed file operation.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}
