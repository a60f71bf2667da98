//! A content-addressed, deduplicating store: bytes ⇄ ids. It has never heard of PostgreSQL.
//!
//! In: [`Writer::put_chunk`] → dedup by `index` → [`delta`] or plain → `pack::frame` →
//! `pack::writer` → one root ([`root`]). Out: [`Repository::read_chunk`], or [`bulk`] for many →
//! `index` → `blob` → bytes, checked against the id.
//! Between repositories: [`transfer()`]. The bytes of everything are in docs/format.md.
//!
//! Invariants
//! * What a root names is there: packs are durable before the root that names them.
//! * Objects never change. The only thing that moves is the latest root.
//! * Every blob that leaves is checked against its id.
//! * The index is a cache: it is filtered by the packs that the latest root lists.

mod arriving;
mod blob;
pub mod bulk;
pub mod changes;
pub mod collect;
mod commit;
pub mod damage;
pub mod delta;
mod doubt;
mod encode;
pub mod error;
mod header;
mod heal;
pub mod id;
pub mod index;
mod keys;
mod log;
mod needs;
pub mod object;
pub mod objects;
pub mod pack;
pub mod parts;
mod read;
pub mod recover;
mod renew;
pub mod repack;
pub mod repair;
pub mod repository;
pub mod root;
pub mod seal;
pub mod segments;
mod session;
pub mod state;
pub mod table;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod undo;
mod usage;
pub mod verify;
pub mod world;
pub mod writer;

pub use changes::{ChangedChunk, ChangedEntry};
pub use collect::{Collect, Collected};
pub use damage::{Damage, Lost, Wanted};
pub use error::{Error, ErrorKind, Result};
pub use id::{ChunkId, ExtentsId, Ids, PackName, SnapshotId, TreeId};
pub use object::{
    Content, Extents, File, Listing, Node, Snapshot, SnapshotKind, SnapshotSource, Time,
};
pub use objects::Objects;
pub use read::FileReader;
pub use recover::Recovered;
pub use repack::Repack;
pub use repair::{Brought, Repair, Repaired, Source};
pub use repository::{Change, IndexChoice, Params, Remembered, Repository};
pub use root::{HeadMove, Operation, RefChange, Row, Stand};
pub use seal::{MasterKey, Seal};
pub use state::State;
pub use transfer::{
    Transfer, TransferEvent, Transferred, complete, follow_packs, transfer, transfer_without_packs,
};
pub use undo::{Logged, UNDO};
pub use verify::{Verify, VerifyEvent, VerifyReport};
pub use world::{Watch, World};
pub use writer::{Committed, Stats, Writer, WriterOptions};
