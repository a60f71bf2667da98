//! Why the managed cluster is left alone: the refusals of the commands around it.

use std::path::PathBuf;

use zenith_store::SnapshotId;

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
    /// The agent was started, or asked to end, and does not answer.
    #[error("the agent did not answer within {seconds} s; its log is {}", log.display())]
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
