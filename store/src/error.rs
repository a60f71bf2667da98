//! What can go wrong in a repository, named by condition.

use crate::id::{Id, PackName, SnapshotId};
use crate::objects::{ObjectsError, ObjectsErrorKind};

/// The result of every operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the request.
    Invalid,
    /// Name something that exists.
    NotFound,
    /// Refresh and try again.
    Conflict,
    /// Try again later.
    Unavailable,
    /// Use a newer zenith.
    Unsupported,
    /// Stop, check, repair.
    Damaged,
    /// Mend the machine: disk, permissions.
    Io,
    /// A bug.
    Internal,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place could not be read or written.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// There is no `zenith.json`.
    #[error("there is no zenith repository at {location}")]
    NotARepository {
        /// Where it was looked for.
        location: String,
    },
    /// `zenith.json` is there already.
    #[error("there is a zenith repository at {location} already")]
    RepositoryExists {
        /// Where.
        location: String,
    },
    /// Written by a newer program.
    #[error("the repository at {location} needs a newer zenith: {what}")]
    TooNew {
        /// Where.
        location: String,
        /// Version or feature that is not known here.
        what: String,
    },
    /// Its key was not given.
    #[error("the repository at {location} is encrypted, and there is no key for it here")]
    Sealed {
        /// Where.
        location: String,
    },
    /// A key was given, and it is not sealed.
    #[error("the repository at {location} is not encrypted, unlike this home")]
    NotSealed {
        /// Where.
        location: String,
    },
    /// The key that was given is another's.
    #[error("the repository at {location} is encrypted with another key than this home's")]
    WrongKey {
        /// Where.
        location: String,
    },
    /// Packs that a commit needs were collected, or their session is fenced; their names are never
    /// used again.
    #[error("packs that are needed were collected meanwhile, the first is {}", packs[0])]
    NamesUsedUp {
        /// Which; never empty.
        packs: Vec<PackName>,
        /// Sessions with a smaller label are fenced: see [`PackName::label`].
        floor: u64,
    },
    /// The place does not create objects only where there are none.
    #[error(
        "{location} cannot keep two writers apart: asked to create an object only where there is none, {why}"
    )]
    NoConditionalWrites {
        /// The place.
        location: String,
        /// What it does instead.
        why: String,
    },
    /// Another home is the only one that may write.
    #[error(
        "the repository at {location} is written by home {writer} alone, as its storage cannot keep two writers apart"
    )]
    SingleWriter {
        /// Where.
        location: String,
        /// The id of that home.
        writer: String,
    },
    /// A ref names a snapshot that was to be removed.
    #[error("snapshot {} is not removed: {name} stands on it", id.short())]
    InUse {
        /// The snapshot.
        id: SnapshotId,
        /// Full name of the ref.
        name: String,
    },
    /// An operation cannot be reversed.
    #[error("operation {seq} cannot be undone: {why}")]
    NotUndone {
        /// Its number.
        seq: u64,
        /// What stands in the way.
        why: String,
    },
    /// A passphrase opens no key slot.
    #[error("the passphrase opens no key slot of {location}")]
    WrongPassphrase {
        /// Where the slots are.
        location: String,
    },
    /// There is nothing that a passphrase could open.
    #[error("there is no key slot at {location}")]
    NoSlots {
        /// Where slots were looked for.
        location: String,
    },
    /// There is no key slot of this number.
    #[error("there is no key slot {number} at {location}")]
    NoSlot {
        /// Which.
        number: u32,
        /// Where.
        location: String,
    },
    /// Without this slot nothing could be opened any more.
    #[error("key slot {number} at {location} is the last that opens the repository")]
    LastSlot {
        /// Which.
        number: u32,
        /// Where.
        location: String,
    },
    /// An object does not decode, or its hash is another.
    #[error("{what} at {location} is damaged: {why}")]
    Damaged {
        /// Which object.
        what: String,
        /// Where.
        location: String,
        /// What was found.
        why: String,
    },
    /// The latest root, or a table that it names, does not decode.
    #[error(
        "root {seq}, the latest of {location}, cannot be read: {why}{}",
        previous_told(.previous)
    )]
    RootLost {
        /// Its number.
        seq: u64,
        /// Where the repository is.
        location: String,
        /// What was found.
        why: String,
        /// The newest one before it that can be read: its number and what it did.
        previous: Option<(u64, String)>,
    },
    /// A blob decodes to other bytes than its name says.
    #[error("pack {pack} at {location} is damaged: the blob at offset {offset} {why}")]
    BlobDamaged {
        /// The pack.
        pack: PackName,
        /// Where the repository is.
        location: String,
        /// Of the frame in the pack.
        offset: u64,
        /// What was found.
        why: String,
    },
    /// No live pack holds what a delta stands on.
    #[error(
        "the base of the delta at offset {offset} of pack {pack} is in no pack of the repository at {location}"
    )]
    BaseMissing {
        /// The pack of the delta.
        pack: PackName,
        /// Where the repository is.
        location: String,
        /// Of the payload of its frame.
        offset: u64,
    },
    /// No live pack holds this id.
    #[error("{kind} {id} is in no pack of the repository at {location}")]
    Missing {
        /// What is missing.
        id: Id,
        /// The kind's name.
        kind: &'static str,
        /// Where.
        location: String,
    },
    /// The snapshot table has no such row.
    #[error("there is no snapshot {id} in the repository at {location}")]
    NoSnapshot {
        /// Which.
        id: SnapshotId,
        /// Where.
        location: String,
    },
    /// A ref is not where the caller saw it.
    #[error("{name} moved: expected {}, found {}", show(.expected), show(.found))]
    RefMoved {
        /// Full name of the ref.
        name: String,
        /// Where the caller saw it.
        expected: Option<SnapshotId>,
        /// Where it is.
        found: Option<SnapshotId>,
    },
    /// Other writers kept committing first.
    #[error("other writers committed {tries} times before this commit to {location} could")]
    Contended {
        /// Where.
        location: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Two repositories with other chunk sizes.
    #[error("{from} and {to} differ in {what}")]
    ParamsDiffer {
        /// One.
        from: String,
        /// The other.
        to: String,
        /// What, with both values.
        what: String,
    },
    /// A root cannot be made small enough.
    #[error(
        "the root would have {bytes} bytes; at most {limit} are allowed: it would tell of too much at \
         once"
    )]
    RootTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The local index broke.
    #[error("the index {path} cannot be used: {why}")]
    Index {
        /// The RocksDB directory.
        path: String,
        /// RocksDB's words.
        why: String,
    },
    /// A value is outside what the format allows.
    #[error("{what}")]
    Invalid {
        /// What, with its value.
        what: String,
    },
    /// A local file operation of the store itself.
    #[error("{verb} {path}: {source}")]
    File {
        /// What was being done: `write`, `open`, …
        verb: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
}

fn previous_told(previous: &Option<(u64, String)>) -> String {
    match previous {
        Some((seq, did)) => format!("\nthe newest before it that can be read is root {seq}: {did}"),
        None => "\nnone before it can be read".to_owned(),
    }
}

fn show(id: &Option<SnapshotId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| id.short())
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Objects(e) => match e.kind() {
                ObjectsErrorKind::Invalid => ErrorKind::Invalid,
                ObjectsErrorKind::NotFound => ErrorKind::NotFound,
                ObjectsErrorKind::Unavailable => ErrorKind::Unavailable,
                ObjectsErrorKind::Unsupported => ErrorKind::Unsupported,
                ObjectsErrorKind::Io => ErrorKind::Io,
            },
            Error::NotARepository { .. }
            | Error::NoSnapshot { .. }
            | Error::NoSlots { .. }
            | Error::NoSlot { .. } => ErrorKind::NotFound,
            Error::RepositoryExists { .. }
            | Error::RefMoved { .. }
            | Error::Contended { .. }
            | Error::NamesUsedUp { .. }
            | Error::InUse { .. }
            | Error::SingleWriter { .. }
            | Error::NotUndone { .. } => ErrorKind::Conflict,
            Error::TooNew { .. } | Error::NoConditionalWrites { .. } => ErrorKind::Unsupported,
            Error::Damaged { .. }
            | Error::RootLost { .. }
            | Error::BlobDamaged { .. }
            | Error::BaseMissing { .. }
            | Error::Missing { .. } => ErrorKind::Damaged,
            Error::Sealed { .. }
            | Error::NotSealed { .. }
            | Error::WrongKey { .. }
            | Error::WrongPassphrase { .. }
            | Error::LastSlot { .. }
            | Error::ParamsDiffer { .. }
            | Error::Invalid { .. }
            | Error::RootTooLarge { .. } => ErrorKind::Invalid,
            Error::Index { .. } | Error::File { .. } => ErrorKind::Io,
        }
    }

    /// Whether a place lets this user read at most.
    pub fn is_write_refused(&self) -> bool {
        use ObjectsError::{PermissionDenied, ReadOnly};
        matches!(
            self,
            Error::Objects(PermissionDenied { .. } | ReadOnly { .. })
        )
    }

    /// Whether what was to be read is gone or damaged, so that trying again is of no use.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Error::Objects(e) => e.is_not_found() || e.is_out_of_range(),
            e => e.kind() == ErrorKind::Damaged,
        }
    }

    pub(crate) fn file(
        verb: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = path.display().to_string();
        move |source| Error::File { verb, path, source }
    }
}
