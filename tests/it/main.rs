//! The engine on real clusters: snapshots, checkouts, and what may go wrong in between.

#![allow(clippy::disallowed_methods, reason = "tests may take the real world")]

mod damage;
mod discarded;
mod export;
mod far;
mod fixture;
mod import;
mod in_place;
mod lazy;
mod machine;
mod offline;
mod online;
mod racy;
mod recovery;
mod remote;
mod s3;
mod set_back;
mod sync;
mod tablespaces;
mod take;
mod worlds;
mod writers;
