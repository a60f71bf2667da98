//! git for PostgreSQL clusters: cluster ⇄ snapshots.

pub mod pg;
