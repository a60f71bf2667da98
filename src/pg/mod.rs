//! What PostgreSQL is. Nothing here mentions zenith.

mod error;

pub mod control;
pub mod guard;
pub mod label;
pub mod lsn;
pub mod page;
pub mod path;
pub mod tablespace;
pub mod version;
pub mod wal;

#[cfg(test)]
mod testing;

pub use control::{ClusterState, Control};
pub use error::{Error, Result};
pub use label::Label;
pub use lsn::Lsn;
pub use tablespace::Tablespace;
