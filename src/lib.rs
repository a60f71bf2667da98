//! git for PostgreSQL clusters: cluster ⇄ snapshots.
//!
//! A *cluster* is PGDATA with its tablespaces, a *snapshot* an immutable commit of one. The write
//! path is [`snapshot`] (scan, plan, read, store, commit), the read path is [`checkout`]; both
//! read top to bottom. A [`home`] is the `.zenith` directory of one machine: settings, locks, the
//! local repository and the managed cluster.
//!
//! This crate knows what PGDATA is. How chunks are packed and sent belongs to `zenith_store`; what
//! people are told, and how, belongs to the command line.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests may take the real world"
    )
)]

pub mod agent;
mod before;
pub mod bring;
pub mod checkout;
pub mod clone;
pub mod diff;
pub mod discarded;
mod disk;
pub mod emit;
pub mod error;
pub mod event;
pub mod export;
pub mod facts;
pub mod fetch;
pub mod forget;
pub mod head;
pub mod history;
pub mod home;
pub mod import;
pub mod init;
pub mod key;
mod known;
pub mod lazy;
pub mod lineage;
pub mod log;
pub mod managed;
pub mod manifest;
pub mod marker;
pub mod names;
pub mod pg;
mod pin;
pub mod plan;
pub mod prune;
pub mod publish;
pub mod query;
pub mod refs;
pub mod remote;
pub mod retain;
pub mod revision;
pub mod rows;
pub mod scan;
pub mod scratch;
pub mod settings;
pub mod snapshot;
mod source;
pub mod space;
pub mod start;
pub mod status;
pub mod stop;
pub mod switch;
pub mod sync;
pub mod table;
pub mod take;
pub mod thin;
pub mod tree;
pub mod undo;
pub mod verify;
pub mod who;

pub use error::{Error, ErrorKind, Result};
pub use zenith_store as store;
