//! The engine on real clusters: snapshots, checkouts, and what may go wrong in between.

mod fixture;
mod in_place;
mod offline;
mod online;
mod tablespaces;
