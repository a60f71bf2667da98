//! What PostgreSQL is. Nothing here mentions zenith.

mod error;

pub mod binaries;
pub mod catalog;
pub mod control;
pub mod files;
pub mod guard;
pub mod heap;
pub mod initdb;
pub mod label;
pub mod lsn;
pub mod page;
pub mod path;
pub mod server;
pub mod session;
pub mod slru;
pub mod tablespace;
pub mod user;
pub mod version;
pub mod wal;
pub mod wal_end;

#[cfg(test)]
pub(crate) mod testing;

pub use binaries::Binaries;
pub use control::{ClusterState, Control};
pub use error::{Error, Result};
pub use label::Label;
pub use lsn::Lsn;
pub use server::{Postmaster, Server};
pub use session::Session;
pub use tablespace::Tablespace;
