//! The engine on real clusters: snapshots, checkouts, and what may go wrong in between.

mod damage;
mod export;
mod fixture;
mod import;
mod in_place;
mod offline;
mod online;
mod racy;
mod remote;
mod s3;
mod sync;
mod tablespaces;
mod take;
