//! The graph of what is stored: chunk ◂ extent map ◂ tree ◂ snapshot.
//!
//! Each file encodes and decodes one of them; none does I/O.

pub mod extents;
pub mod snapshot;
pub mod tree;

pub use extents::Extents;
pub use snapshot::{Snapshot, SnapshotKind, SnapshotSource, Time};
pub use tree::{Content, Entry, File, Listing, Node};

/// A stored object that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl From<minicbor::decode::Error> for Malformed {
    fn from(e: minicbor::decode::Error) -> Self {
        Malformed(e.to_string())
    }
}
