//! What changed between two snapshots, or between a snapshot and the managed cluster: files, and
//! pages of each relation, by name. No server is started.
//!
//! Between snapshots the cost follows what changed: trees and extent maps are walked where they
//! differ, and most changed chunks tell their changed pages by the patch they are stored as. Of the
//! cluster files that look as they did when they were last read are not read again.
//!
//! Pages are compared byte by byte. Permissions, and the times of files, are no content.

mod cluster;
mod only;
mod relations;
mod stored;

use std::collections::BTreeSet;

use zenith_store::{Node, Repository, Snapshot, SnapshotId};

use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::names::{Names, RelationId};
use crate::pg::path::Fork;
use crate::snapshot::threads;

pub use cluster::{Bounds, Unsaved, cluster, unsaved};
pub use only::{Follower, Pattern};

/// A file that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Relative to PGDATA.
    pub path: String,
    /// Its bytes before; none where it was not there.
    pub before: Option<u64>,
    /// Its bytes after; none where it is not there.
    pub after: Option<u64>,
    /// Pages that are on both sides and differ.
    pub changed: u64,
}

impl FileChange {
    /// Whether only one side has it.
    fn is_one_sided(&self) -> bool {
        self.before.is_some() != self.after.is_some()
    }

    /// Its pages.
    pub fn pages(&self, block_size: u32) -> Pages {
        let pages = |size: Option<u64>| size.unwrap_or(0).div_ceil(block_size.into());
        Pages {
            before: pages(self.before),
            after: pages(self.after),
            changed: self.changed,
        }
    }
}

/// How many pages there are, and how many of them differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pages {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
    /// On both sides, and not the same.
    pub changed: u64,
}

impl Pages {
    /// Pages of either side that the other has not, or not the same.
    pub fn touched(&self) -> u64 {
        self.changed + self.before.abs_diff(self.after)
    }

    /// Of how many that is.
    pub fn of(&self) -> u64 {
        self.before.max(self.after)
    }
}

impl std::ops::AddAssign for Pages {
    fn add_assign(&mut self, other: Pages) {
        self.before += other.before;
        self.after += other.after;
        self.changed += other.changed;
    }
}

/// What became of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Pages of it changed, or came, or went.
    Changed,
    /// It has other files: VACUUM FULL, TRUNCATE, REINDEX, ALTER, or made anew under its name.
    Rewritten,
    /// It was not there.
    New,
    /// It is not there any more.
    Dropped,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table.
    Table,
    /// An index, of a TOAST table, too.
    Index,
    /// A TOAST table.
    Toast,
    /// A sequence.
    Sequence,
    /// A materialized view.
    MaterializedView,
    /// Nobody knows its name.
    Unknown,
}

impl Kind {
    /// By pg_class.relkind.
    pub fn of(relkind: char) -> Kind {
        match relkind {
            'r' => Kind::Table,
            'i' => Kind::Index,
            't' => Kind::Toast,
            'S' => Kind::Sequence,
            'm' => Kind::MaterializedView,
            _ => Kind::Unknown,
        }
    }

    /// One word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::Index => "index",
            Kind::Toast => "toast",
            Kind::Sequence => "sequence",
            Kind::MaterializedView => "matview",
            Kind::Unknown => "unknown",
        }
    }
}

/// A relation by its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its database; empty for shared relations.
    pub database: String,
    /// Its schema.
    pub schema: String,
    /// Its name; the path of its first file where nobody knows it, with an empty schema.
    pub name: String,
}

/// A relation of which something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationChange {
    /// What it is called; what it was called where it is gone.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Its oid; none where nobody knows it.
    pub oid: Option<u32>,
    /// The table of an index or a TOAST table.
    pub table: Option<Name>,
    /// Whether it is a catalog, or belongs to one.
    pub is_catalog: bool,
    /// What became of it.
    pub what: What,
    /// Pages of its content. Of one that was rewritten all of them are others.
    pub pages: Pages,
    /// Pages of its maps of free space and visibility.
    pub maps: Pages,
    /// Its files that differ; none for an index that did not change with its table.
    pub files: Vec<FileChange>,
}

impl RelationChange {
    /// Pages of its content that are not what they were.
    pub fn touched(&self) -> u64 {
        match self.what {
            What::Rewritten => self.pages.of(),
            _ => self.pages.touched(),
        }
    }

    /// The same for its maps.
    pub fn maps_touched(&self) -> u64 {
        match self.what {
            What::Rewritten => self.maps.of(),
            _ => self.maps.touched(),
        }
    }
}

/// What belongs to no relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Which transactions committed: pages.
    Transactions,
    /// WAL: what a start on the snapshot replays.
    Wal,
    /// Configuration.
    Config,
    /// pg_control, statistics, and such.
    Other,
}

impl Area {
    /// Of a file that belongs to no relation.
    pub fn of(path: &str) -> Area {
        const TRANSACTIONS: [&str; 5] = [
            "pg_xact",
            "pg_multixact",
            "pg_commit_ts",
            "pg_subtrans",
            "pg_serial",
        ];
        match path.split_once('/') {
            Some(("pg_wal", _)) => Area::Wal,
            Some((dir, _)) if TRANSACTIONS.contains(&dir) => Area::Transactions,
            _ if path.ends_with(".conf") => Area::Config,
            _ => Area::Other,
        }
    }

    /// One word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Area::Transactions => "transactions",
            Area::Wal => "wal",
            Area::Config => "config",
            Area::Other => "other",
        }
    }
}

/// What changed.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// Relations, those with most changed pages first.
    pub relations: Vec<RelationChange>,
    /// Files that are no relation's, by path.
    pub files: Vec<FileChange>,
    /// Bytes of a page.
    pub block_size: u32,
    /// Pages of the second side, WAL apart.
    pub pages: u64,
    /// Whether relations must be told apart by their databases.
    pub several_databases: bool,
    /// Whether a server runs: what it has not written yet is not seen.
    pub is_moving: bool,
    /// For people: names that are not known.
    pub warnings: Vec<String>,
}

/// What is not told relation by relation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pages of catalogs, their maps included.
    pub catalogs: u64,
    /// Pages of maps of free space and visibility.
    pub maps: u64,
    /// Pages of transaction status.
    pub transactions: u64,
    /// Bytes of WAL files of the second side that the first has not, or not the same.
    pub wal_bytes: u64,
    /// Files of configuration.
    pub config_files: u64,
    /// Other files.
    pub other_files: u64,
}

impl Summary {
    /// Pages of any kind.
    pub fn pages(&self) -> u64 {
        self.catalogs + self.maps + self.transactions
    }
}

impl Diff {
    /// Whether both sides are the same.
    pub fn is_empty(&self) -> bool {
        self.relations.is_empty() && self.files.is_empty()
    }

    /// Relations that users made.
    pub fn own(&self) -> impl Iterator<Item = &RelationChange> {
        self.relations.iter().filter(|r| !r.is_catalog)
    }

    /// What is not among [`Diff::own`].
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for relation in &self.relations {
            if relation.is_catalog {
                summary.catalogs += relation.touched() + relation.maps_touched();
            } else {
                summary.maps += relation.maps_touched();
            }
        }
        for file in &self.files {
            match Area::of(&file.path) {
                Area::Transactions => {
                    summary.transactions += file.pages(self.block_size).touched();
                }
                Area::Wal => summary.wal_bytes += file.after.unwrap_or(0),
                Area::Config => summary.config_files += 1,
                Area::Other => summary.other_files += 1,
            }
        }
        summary
    }

    /// Pages that are not what they were, of whatever.
    pub fn touched(&self) -> u64 {
        let own: u64 = self.own().map(RelationChange::touched).sum();
        own + self.summary().pages()
    }
}

/// What changed from one snapshot to another one of the same repository.
///
/// Errors: those of the store, `FactsDamaged`.
pub fn snapshots(repo: &Repository, before: SnapshotId, after: SnapshotId) -> Result<Diff> {
    let (old, old_facts) = snapshot(repo, before)?;
    let (new, new_facts) = snapshot(repo, after)?;
    let block_size = new_facts.block_size;
    let mut pairs = Vec::new();
    let threads = threads(repo.world(), 0);
    repo.changed_entries(old.tree, new.tree, &mut |change| {
        let file = |node: Option<Node>| match node {
            Some(Node::File(file)) => Some(file),
            _ => None,
        };
        let pair = stored::Pair {
            path: change.path,
            before: file(change.before),
            after: file(change.after),
        };
        if pair.differs() {
            pairs.push(pair);
        }
        Ok(())
    })?;
    let files = stored::compare(repo, pairs, block_size, threads)?;
    let databases = databases_of(&files);
    let layout = Layout::of(&new_facts);
    let wal_bytes = new_facts.wal_bytes;
    let names = |tree, facts: Facts| match databases.is_empty() {
        true => Ok(Names::default()),
        false => Names::of_snapshot(repo, tree, facts, &databases),
    };
    let sides = relations::Sides {
        before: &names(old.tree, old_facts)?,
        after: &names(new.tree, new_facts)?,
        size_before: &|path| stored::size(repo, old.tree, path),
        size_after: &|path| stored::size(repo, new.tree, path),
        layout,
    };
    let mut diff = relations::group(files, &sides)?;
    diff.pages = (new.size.saturating_sub(wal_bytes)).div_ceil(block_size.into());
    Ok(diff)
}

fn snapshot(repo: &Repository, id: SnapshotId) -> Result<(Snapshot, Facts)> {
    let snapshot = repo.snapshot(id)?;
    let facts = Facts::decode(&snapshot.body, &id)?;
    // What PostgreSQL can be built with: 1 to 32 KiB.
    let is_page =
        facts.block_size.is_power_of_two() && (1 << 10..=32 << 10).contains(&facts.block_size);
    if !is_page || facts.segment_blocks == 0 {
        return Err(Error::FactsDamaged {
            id: id.to_string(),
            why: format!(
                "pages of {} bytes, {} to a segment",
                facts.block_size, facts.segment_blocks
            ),
        });
    }
    Ok((snapshot, facts))
}

/// How relations lie in files.
#[derive(Debug, Clone, Copy)]
struct Layout {
    block_size: u32,
    /// Pages of a whole segment.
    segment_blocks: u32,
    catalog: crate::pg::catalog::Layout,
}

impl Layout {
    fn of(facts: &Facts) -> Layout {
        Layout {
            block_size: facts.block_size,
            segment_blocks: facts.segment_blocks,
            catalog: crate::pg::catalog::Layout {
                major: facts.major,
                catalog_version: facts.catalog_version,
                block_size: facts.block_size,
            },
        }
    }
}

/// The databases whose relations the files belong to; 0 is `global`.
fn databases_of(files: &[FileChange]) -> BTreeSet<u32> {
    let relations = files
        .iter()
        .filter_map(|file| RelationId::of_path(&file.path));
    relations.map(|(id, _)| id.database).collect()
}

/// Whether pages of a fork are content of the relation.
fn is_content(fork: Fork) -> bool {
    matches!(fork, Fork::Main | Fork::Init)
}
