//! What can go wrong with clusters and snapshots, named by condition.
//!
//! Hints are the command line's: they name commands, and it matches on these variants.

use std::path::{Path, PathBuf};

/// The result of every operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub use zenith_store::ErrorKind;

use crate::pg;

/// An error of this crate, or of one that it stands on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository.
    #[error(transparent)]
    Store(#[from] zenith_store::Error),
    /// PostgreSQL, its files or its programs.
    #[error(transparent)]
    Pg(#[from] pg::Error),

    // ---- homes -------------------------------------------------------------------------------
    /// There is no home in this directory.
    #[error("there is no zenith home at {}", dir.display())]
    NoHome {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A home is there already.
    #[error("there is a zenith home at {} already", dir.display())]
    HomeExists {
        /// Where.
        dir: PathBuf,
    },
    /// Something that is not a home lies where one was to be made.
    #[error("{} is not empty and not a zenith home: it holds `{found}`", dir.display())]
    HomeForeign {
        /// Where.
        dir: PathBuf,
        /// One name in it.
        found: String,
    },
    /// Another process works in the home.
    #[error("{} is busy: process {pid} has been in `{by}` since {since}", dir.display())]
    HomeBusy {
        /// The home.
        dir: PathBuf,
        /// What the holder does.
        by: String,
        /// The holder.
        pid: u32,
        /// When it began, as RFC 3339.
        since: String,
    },
    /// Somebody reads the home's packs, or collects them.
    #[error("{} is being {} by another process", dir.display(), if *.collecting { "collected" } else { "read" })]
    HomeInUse {
        /// The home.
        dir: PathBuf,
        /// Whether the other one collects garbage; otherwise it reads.
        collecting: bool,
    },
    /// `config.toml` does not say what it must.
    #[error("{}: {why}", path.display())]
    SettingsInvalid {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        why: String,
    },
    /// A small file of the home does not hold what it must.
    #[error("{} is damaged: {why}", path.display())]
    HomeDamaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },

    // ---- encryption --------------------------------------------------------------------------
    /// Encryption is asked for, or of, what lies in the clear.
    #[error("{location} is not encrypted")]
    NotSealed {
        /// The home or storage.
        location: String,
    },
    /// The home lost its key; a passphrase brings it back.
    #[error("the home {} is encrypted, and its key is gone", dir.display())]
    KeyMissing {
        /// The home.
        dir: PathBuf,
    },
    /// Home and storage have keys of their own.
    #[error("the storage {location} is encrypted with another key than the home {}", dir.display())]
    KeyForeign {
        /// The home.
        dir: PathBuf,
        /// The storage.
        location: String,
    },
    /// There is something to open, or to seal, and nothing to do it with.
    #[error("{location} is encrypted, and no passphrase is given")]
    PassphraseMissing {
        /// The home or storage.
        location: String,
    },

    // ---- names -------------------------------------------------------------------------------
    /// A branch or tag may not be called so.
    #[error("`{name}` cannot be the name of a branch or tag: {why}")]
    NameInvalid {
        /// What was given.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },

    // ---- clusters ----------------------------------------------------------------------------
    /// A path is not there.
    #[error("{} does not exist", path.display())]
    NoSuchPath {
        /// Which.
        path: PathBuf,
    },
    /// The cluster was not shut down.
    #[error("the cluster in {} was not shut down: its state is `{state}`", pgdata.display())]
    NotShutDown {
        /// The cluster.
        pgdata: PathBuf,
        /// As `pg_controldata` prints it.
        state: String,
    },
    /// A server runs on the cluster.
    #[error("a server runs on {} (pid {pid})", pgdata.display())]
    ServerRunning {
        /// The cluster.
        pgdata: PathBuf,
        /// The postmaster.
        pid: i32,
    },
    /// A server started, or the cluster changed, while a stopped cluster was being read.
    #[error("the cluster in {} changed while it was read: {what}", pgdata.display())]
    ClusterChanged {
        /// The cluster.
        pgdata: PathBuf,
        /// What was seen.
        what: String,
    },
    /// `backup_label` is there, and the WAL that it needs is not.
    #[error("the base backup in {} lacks the WAL it needs: {missing} is missing", pgdata.display())]
    BackupWithoutWal {
        /// The backup.
        pgdata: PathBuf,
        /// The first missing segment.
        missing: String,
    },
    /// WAL that a start on the snapshot would need is missing.
    #[error("WAL segment {missing} that the cluster in {} needs is missing", pgdata.display())]
    WalMissing {
        /// The cluster.
        pgdata: PathBuf,
        /// The segment.
        missing: String,
    },
    /// A path that could lead out of the cluster, or two things at one path.
    #[error("`{path}` cannot be the path of a file in a cluster")]
    PathInvalid {
        /// As it was given.
        path: String,
    },
    /// An incremental backup is no cluster on its own.
    #[error("{} is an incremental backup", pgdata.display())]
    BackupIncremental {
        /// The backup.
        pgdata: PathBuf,
    },
    /// A file that a base backup brought does not say what it must.
    #[error("{} is damaged: {why}", path.display())]
    BackupDamaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// No rule says what to do with an entry.
    #[error("`{path}` in the cluster {} is a {what}, which no rule covers", pgdata.display())]
    UnknownEntry {
        /// The cluster.
        pgdata: PathBuf,
        /// The entry, relative to it.
        path: String,
        /// `symbolic link to …`, `socket`, …
        what: String,
    },
    /// A name that is not UTF-8.
    #[error("the name `{}` in {} is not UTF-8", name.as_encoded_bytes().escape_ascii(), dir.display())]
    NameNotUtf8 {
        /// The directory.
        dir: PathBuf,
        /// The name, other bytes than ASCII shown as `\xff`.
        name: std::ffi::OsString,
    },
    /// The directory of a tablespace is not there.
    #[error("tablespace {oid} has no files of this cluster at {}", location.display())]
    TablespaceMissing {
        /// Its oid.
        oid: u32,
        /// Where its link leads.
        location: PathBuf,
    },
    /// A file that cannot vanish did.
    #[error("`{path}` vanished from the cluster {} while it was read", pgdata.display())]
    FileVanished {
        /// The cluster.
        pgdata: PathBuf,
        /// The file, relative to it.
        path: String,
    },
    /// A file changed at every attempt to read it.
    #[error("`{path}` in the cluster {} kept changing while it was read", pgdata.display())]
    FileUnstable {
        /// The cluster.
        pgdata: PathBuf,
        /// The file, relative to it.
        path: String,
    },
    /// Pages of the cluster are not what PostgreSQL wrote, and that was not to be taken.
    #[error(
        "{count} {} of the cluster in {} {} damaged\n{}",
        if *.count == 1 { "page" } else { "pages" },
        place.display(),
        if *.count == 1 { "is" } else { "are" },
        pages.join("\n")
    )]
    PagesDamaged {
        /// Where the cluster lies.
        place: PathBuf,
        /// How many.
        count: u64,
        /// A line for each of the first, and one for the rest.
        pages: Vec<String>,
    },
    /// The directory given is not that of the server that answers.
    #[error("the server does not run on {}: {why}", pgdata.display())]
    OtherServer {
        /// The directory given.
        pgdata: PathBuf,
        /// What differs.
        why: String,
    },
    /// A snapshot would go on from one of another cluster.
    #[error(
        "{} is cluster {found}, but branch `{branch}` holds cluster {expected} (system identifiers)",
        place.display()
    )]
    BranchForeign {
        /// Where the cluster lies.
        place: PathBuf,
        /// Its system identifier.
        found: u64,
        /// The branch.
        branch: String,
        /// The system identifier of its tip, or of where it would begin.
        expected: u64,
    },
    /// The PostgreSQL part of a snapshot does not decode.
    #[error("the facts of snapshot {id} are damaged: {why}")]
    FactsDamaged {
        /// The snapshot, or a word for where they were.
        id: String,
        /// The decoder's words.
        why: String,
    },
    /// The tree of a snapshot and its facts do not fit.
    #[error("snapshot {id} does not hold a cluster: {why}")]
    NotACluster {
        /// The snapshot.
        id: String,
        /// What is missing.
        why: String,
    },

    // ---- checkout ----------------------------------------------------------------------------
    /// The target holds something.
    #[error("{} is not empty: it holds `{found}`", dir.display())]
    TargetNotEmpty {
        /// The target.
        dir: PathBuf,
        /// One name in it.
        found: String,
    },
    /// The target of an in-place checkout is none that zenith made.
    #[error("{} was not made by a checkout", dir.display())]
    TargetForeign {
        /// The target.
        dir: PathBuf,
    },
    /// The target of an in-place checkout is not what was checked out there.
    #[error("{} was changed since {id} was checked out there", dir.display())]
    TargetChanged {
        /// The target.
        dir: PathBuf,
        /// What it was made from, short.
        id: String,
    },
    /// The target lies inside something it must not.
    #[error("{} cannot be a target: {why}", dir.display())]
    TargetInvalid {
        /// The target.
        dir: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another checkout or export fills the target.
    #[error("another process is filling {}", dir.display())]
    TargetBusy {
        /// The target.
        dir: PathBuf,
    },
    /// An in-place checkout was interrupted.
    #[error("a checkout of {snapshot} into {} is half done", dir.display())]
    CheckoutPending {
        /// The directory.
        dir: PathBuf,
        /// The snapshot, in full.
        snapshot: String,
    },
    /// A tablespace mapping names no tablespace of the snapshot.
    #[error("the snapshot has no tablespace at {}", old.display())]
    NoSuchTablespace {
        /// What was to be mapped.
        old: PathBuf,
    },

    // ---- export, import, storage -------------------------------------------------------------
    /// A text names no snapshot.
    #[error(transparent)]
    Revision(#[from] crate::revision::RevisionError),
    /// One stream holds one tar, and tablespaces need one each.
    #[error(
        "a cluster with tablespaces does not fit into one tar stream: {number} of them, the \
         first is {oid} at {}", location.display()
    )]
    TablespacesInStream {
        /// The first tablespace.
        oid: u32,
        /// Where it lay.
        location: PathBuf,
        /// How many there are.
        number: usize,
    },
    /// What lies at a place to be imported is nothing that can be.
    #[error("{} is nothing that can be imported: it is {found}", path.display())]
    FormatUnknown {
        /// The place.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
    /// A tar file that must be decompressed first.
    #[error("{} is compressed ({how})", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// How, as file names end: `gz`, `zst`, …
        how: String,
    },
    /// A tar file ends before its end mark.
    #[error("{} is cut off after `{entry}`", path.display())]
    TarTruncated {
        /// The file.
        path: PathBuf,
        /// The last entry that was begun; empty when there was none.
        entry: String,
    },
    /// An entry of a tar file cannot be part of a cluster.
    #[error("`{entry}` in {} cannot be part of a cluster: {why}", path.display())]
    TarEntry {
        /// The file.
        path: PathBuf,
        /// The entry as it is named there.
        entry: String,
        /// Why not.
        why: String,
    },
    /// A stream lacks a file that no cluster is without.
    #[error("{} holds no whole cluster: `{missing}` is missing", name.display())]
    StreamIncomplete {
        /// The stream.
        name: PathBuf,
        /// The file.
        missing: String,
    },
    /// An export to a URL was interrupted.
    #[error("the export at {} was not completed", path.display())]
    ExportUnfinished {
        /// The place.
        path: PathBuf,
    },
    /// A storage location that cannot be understood.
    #[error(transparent)]
    Url(#[from] zenith_store::objects::UrlError),
    /// The branch has no snapshot.
    #[error("branch `{branch}` has no snapshot to push")]
    NothingToPush {
        /// The branch.
        branch: String,
    },
    /// Each side of a branch has snapshots that the other lacks.
    #[error(
        "branch `{branch}` diverged: it is at {} here and at {} there, and neither descends from \
         the other", ours.short(), theirs.short()
    )]
    Diverged {
        /// The branch.
        branch: String,
        /// The tip here.
        ours: zenith_store::SnapshotId,
        /// The tip there.
        theirs: zenith_store::SnapshotId,
    },
    /// The branch that a pull is to move has what the remote's lacks.
    #[error(
        "branch `{branch}` and {remote}/{branch} have diverged: {} here, {} there", ours.short(), theirs.short()
    )]
    PullDiverged {
        /// The branch.
        branch: String,
        /// The remote's name.
        remote: String,
        /// The tip here.
        ours: zenith_store::SnapshotId,
        /// The tip there.
        theirs: zenith_store::SnapshotId,
    },
    /// A push to a place that this user may read at most.
    #[error("nothing can be pushed to {location}, where this user may not write")]
    WriteRefused {
        /// Where.
        location: String,
        /// As the place says it.
        source: Box<zenith_store::Error>,
    },
    /// Others kept moving the same refs.
    #[error("{location} is busy: other homes moved the branch {tries} times in a row")]
    StorageBusy {
        /// The storage.
        location: String,
        /// How often it was tried.
        tries: u32,
    },

    // ---- the managed cluster -----------------------------------------------------------------
    /// Why the managed cluster is not started, stopped, moved or made.
    #[error(transparent)]
    Managed(#[from] crate::managed::Refusal),

    // ---- short-lived servers -----------------------------------------------------------------
    /// Why a snapshot cannot be asked.
    #[error(transparent)]
    Scratch(#[from] crate::scratch::ScratchError),
    /// Why a text names no table.
    #[error(transparent)]
    Table(#[from] crate::table::TableError),

    // ---- machine -----------------------------------------------------------------------------
    /// A file operation.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was being done: `open`, `write`, …
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something that cannot be.
    #[error("{what}")]
    Internal {
        /// What was seen.
        what: String,
    },
}

impl From<zenith_store::objects::ObjectsError> for Error {
    fn from(error: zenith_store::objects::ObjectsError) -> Error {
        zenith_store::Error::from(error).into()
    }
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Store(e) => e.kind(),
            Error::Pg(e) => pg_kind(e),
            Error::NoHome { .. } | Error::NoSuchPath { .. } | Error::NoSuchTablespace { .. } => {
                ErrorKind::NotFound
            }
            Error::HomeExists { .. }
            | Error::HomeBusy { .. }
            | Error::HomeInUse { .. }
            | Error::ServerRunning { .. }
            | Error::ClusterChanged { .. }
            | Error::BranchForeign { .. }
            | Error::FileUnstable { .. }
            | Error::TargetBusy { .. }
            | Error::CheckoutPending { .. } => ErrorKind::Conflict,
            Error::HomeForeign { .. }
            | Error::SettingsInvalid { .. }
            | Error::NameInvalid { .. }
            | Error::NotShutDown { .. }
            | Error::BackupWithoutWal { .. }
            | Error::UnknownEntry { .. }
            | Error::PathInvalid { .. }
            | Error::BackupIncremental { .. }
            | Error::NameNotUtf8 { .. }
            | Error::OtherServer { .. }
            | Error::TargetNotEmpty { .. }
            | Error::TargetForeign { .. }
            | Error::TargetChanged { .. }
            | Error::NotSealed { .. }
            | Error::KeyMissing { .. }
            | Error::KeyForeign { .. }
            | Error::PassphraseMissing { .. }
            | Error::TargetInvalid { .. } => ErrorKind::Invalid,
            Error::HomeDamaged { .. }
            | Error::WalMissing { .. }
            | Error::BackupDamaged { .. }
            | Error::TablespaceMissing { .. }
            | Error::FileVanished { .. }
            | Error::PagesDamaged { .. }
            | Error::FactsDamaged { .. }
            | Error::NotACluster { .. } => ErrorKind::Damaged,
            Error::Revision(error) => error.kind(),
            Error::TablespacesInStream { .. }
            | Error::FormatUnknown { .. }
            | Error::Compressed { .. }
            | Error::TarEntry { .. }
            | Error::Url(_) => ErrorKind::Invalid,
            Error::TarTruncated { .. }
            | Error::StreamIncomplete { .. }
            | Error::ExportUnfinished { .. } => ErrorKind::Damaged,
            Error::WriteRefused { source, .. } => source.kind(),
            Error::NothingToPush { .. } => ErrorKind::NotFound,
            Error::Diverged { .. } | Error::PullDiverged { .. } | Error::StorageBusy { .. } => {
                ErrorKind::Conflict
            }
            Error::Managed(refusal) => refusal.kind(),
            Error::Scratch(error) => error.kind(),
            Error::Table(error) => error.kind(),
            Error::Io { .. } => ErrorKind::Io,
            Error::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// For `map_err`: the same file and verb with whatever the system said.
    pub(crate) fn io(
        verb: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { verb, path, source }
    }
}

/// PostgreSQL's conditions in the words of this crate's callers.
fn pg_kind(error: &pg::Error) -> ErrorKind {
    use pg::Error as E;
    match error {
        E::NotACluster { .. }
        | E::BadLsn { .. }
        | E::BadSegmentName { .. }
        | E::BadSegmentSize { .. }
        | E::BadDsn { .. }
        | E::PathUnquotable { .. }
        | E::Privilege { .. }
        | E::WalLevelMinimal
        | E::WrongBinaries { .. } => ErrorKind::Invalid,
        E::PortInUse { .. }
        | E::AlreadyRunning { .. }
        | E::LockFileExists { .. }
        | E::ServerChanged { .. } => ErrorKind::Conflict,
        E::UnsupportedMajor { .. } | E::UnsupportedServer { .. } => ErrorKind::Unsupported,
        E::ControlDamaged { .. }
        | E::ControlBytes { .. }
        | E::BadLabel { .. }
        | E::BadTablespaceMap { .. }
        | E::CatalogUnreadable { .. }
        | E::BadHistory { .. }
        | E::BadPidFile { .. }
        | E::WalMissing { .. }
        | E::WalDamaged { .. }
        | E::WalForeign { .. } => ErrorKind::Damaged,
        E::Connect { .. }
        | E::Query { .. }
        | E::SlotRefused { .. }
        | E::SlotLost { .. }
        | E::WalRecycled { .. }
        | E::NotReady { .. }
        | E::StopTimeout { .. } => ErrorKind::Unavailable,
        E::NoBinaries { .. }
        | E::NoSuchUser { .. }
        | E::CannotSearch { .. }
        | E::BecomeUser { .. }
        | E::Program { .. }
        | E::StartFailed { .. }
        | E::Io { .. } => ErrorKind::Io,
    }
}
