//! A snapshot as other tools know it: a plain PGDATA directory, objects under a URL, or the tar
//! files of `pg_basebackup`. Each comes with a `backup_manifest`, and none gets the guard that
//! checkouts have: an export is the cluster itself.
//!
//! A snapshot as another zenith repository needs nothing here: that is a transfer (`sync.rs`).

pub mod objects;
pub mod pgdata;
pub(crate) mod stream;
pub mod tar;

use std::path::{Path, PathBuf};

use zenith_store::{Content, File, Listing, Node, Repository, Snapshot, SnapshotId};

use crate::checkout::settings;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::manifest::{self, Manifest, ManifestFile, WalRange};
use crate::pg::lsn::Lsn;
use crate::pg::tablespace::{self, Tablespace};

/// How an export is made.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Tablespaces to be placed elsewhere: old location, new location.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Threads that read and decode.
    pub threads: usize,
    /// Whether files of this machine are synced before the export counts as complete.
    pub sync: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        ExportOptions {
            tablespace_mapping: Vec::new(),
            threads: 4,
            sync: true,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportReport {
    /// Regular files of the cluster.
    pub files: u64,
    /// Their plain bytes.
    pub bytes: u64,
    /// Names of the tar files, in the order in which they were written; empty for other formats.
    pub archives: Vec<String>,
}

/// A snapshot with what an export needs to know of it.
pub(crate) struct Cluster {
    pub(crate) snapshot: Snapshot,
    pub(crate) facts: Facts,
    pub(crate) listing: Listing,
    /// Where the tablespaces are to lie, by oid.
    pub(crate) tablespaces: Vec<Tablespace>,
}

/// One thing to write; its path is relative to PGDATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Directory { path: String, mode: u32 },
    File { path: String, file: File },
    Link { path: String, target: PathBuf },
}

impl Item {
    pub(crate) fn path(&self) -> &str {
        match self {
            Item::Directory { path, .. } | Item::File { path, .. } | Item::Link { path, .. } => {
                path
            }
        }
    }
}

impl Cluster {
    /// Errors: those of reading the snapshot; `NotACluster` without pg_control;
    /// `NoSuchTablespace` where a mapping fits none.
    pub(crate) fn read(
        repo: &Repository,
        id: SnapshotId,
        mapping: &[(PathBuf, PathBuf)],
    ) -> Result<Cluster> {
        let snapshot = repo.snapshot(id)?;
        let facts = Facts::decode(&snapshot.body, &id)?;
        let mut listing = repo.listing(snapshot.tree)?;
        listing.remove("");
        if !matches!(listing.get(CONTROL), Some(Node::File(_))) {
            let why = format!("it has no {CONTROL}");
            return Err(Error::NotACluster {
                id: id.to_string(),
                why,
            });
        }
        let tablespaces = mapped(&facts, mapping)?;
        // Configuration that lay outside PGDATA; without it the cluster could not start.
        let missing = settings::missing(&facts, |name| listing.contains_key(name));
        for (name, bytes) in missing {
            listing.insert(name, Node::File(small_file(bytes)));
        }
        Ok(Cluster {
            snapshot,
            facts,
            listing,
            tablespaces,
        })
    }

    /// Seconds since 1970; every file of an export has this time.
    pub(crate) fn modified(&self) -> i64 {
        self.snapshot.time.unix_micros.div_euclid(1_000_000)
    }

    /// The content of `tablespace_map`, which a server reads together with `backup_label`.
    pub(crate) fn tablespace_map(&self) -> Option<File> {
        (!self.tablespaces.is_empty())
            .then(|| small_file(tablespace::map_format(&self.tablespaces)))
    }

    /// What lies in PGDATA itself, `backup_label` first and `global/pg_control` last.
    pub(crate) fn base_items(&self) -> Vec<Item> {
        let mut items: Vec<Item> = self
            .listing
            .iter()
            .filter(|(path, _)| tablespace_of(path).is_none())
            .map(|(path, node)| item(path, node))
            .collect();
        items.sort_by_key(|item| match item.path() {
            LABEL => 0,
            CONTROL => 2,
            _ => 1,
        });
        items
    }

    /// What lies in one tablespace, the tablespace's own directory not among it. Paths are still
    /// relative to PGDATA.
    pub(crate) fn tablespace_items(&self, oid: u32) -> Vec<Item> {
        let inside = |path: &str| {
            tablespace_of(path)
                .is_some_and(|(name, rest)| name == oid.to_string() && !rest.is_empty())
        };
        let inside = self.listing.iter().filter(|(path, _)| inside(path));
        inside.map(|(path, node)| item(path, node)).collect()
    }

    pub(crate) fn manifest(&self, mut files: Vec<ManifestFile>) -> Vec<u8> {
        files.retain(|file| std::str::from_utf8(&file.path).is_ok_and(Manifest::lists));
        Manifest {
            major: self.facts.major,
            system_identifier: self.facts.system_identifier,
            files,
            wal: wal_ranges(&self.facts),
        }
        .render()
    }
}

pub(crate) const LABEL: &str = "backup_label";
pub(crate) const MAP: &str = "tablespace_map";
pub(crate) const CONTROL: &str = "global/pg_control";
pub(crate) const MANIFEST: &str = manifest::FILE_NAME;

/// `pg_tblspc/<oid>/<rest>` taken apart; the rest is empty for the tablespace's own directory.
pub(crate) fn tablespace_of(path: &str) -> Option<(&str, &str)> {
    let inside = path.strip_prefix("pg_tblspc/")?;
    Some(inside.split_once('/').unwrap_or((inside, "")))
}

/// A file that lies in no repository.
pub(crate) fn small_file(bytes: Vec<u8>) -> File {
    File {
        mode: 0o600,
        size: bytes.len() as u64,
        content: Content::Inline(bytes),
    }
}

fn item(path: &str, node: &Node) -> Item {
    let path = path.to_owned();
    match node {
        Node::File(file) => Item::File {
            path,
            file: file.clone(),
        },
        Node::Directory { mode } => Item::Directory { path, mode: *mode },
    }
}

fn mapped(facts: &Facts, mapping: &[(PathBuf, PathBuf)]) -> Result<Vec<Tablespace>> {
    for (old, new) in mapping {
        if !new.is_absolute() {
            let why = "the directory of a tablespace must be absolute".to_owned();
            return Err(Error::TargetInvalid {
                dir: new.clone(),
                why,
            });
        }
        if !facts
            .tablespaces
            .iter()
            .any(|t| Path::new(&t.location) == old)
        {
            return Err(Error::NoSuchTablespace { old: old.clone() });
        }
    }
    let location = |old: &str| {
        let old = Path::new(old);
        let new = mapping
            .iter()
            .find(|(from, _)| from == old)
            .map(|(_, to)| to.as_path());
        new.unwrap_or(old).to_owned()
    };
    let mapped = facts.tablespaces.iter();
    Ok(mapped
        .map(|t| Tablespace {
            oid: t.oid,
            location: location(&t.location),
        })
        .collect())
}

/// From the start to the stop of the snapshot, newest timeline first, as the server lists them
/// (AddWALInfoToBackupManifest).
fn wal_ranges(facts: &Facts) -> Vec<WalRange> {
    let mut start = facts.start_lsn;
    let mut ranges = Vec::new();
    if start == 0 || facts.stop_lsn <= start {
        return ranges;
    }
    for end in facts
        .history
        .iter()
        .filter(|end| end.timeline < facts.timeline)
    {
        if end.end_lsn > start {
            let (from, to) = (Lsn(start), Lsn(end.end_lsn));
            ranges.push(WalRange {
                timeline: end.timeline,
                start: from,
                end: to,
            });
            start = end.end_lsn;
        }
    }
    let (from, to) = (Lsn(start), Lsn(facts.stop_lsn));
    ranges.push(WalRange {
        timeline: facts.timeline,
        start: from,
        end: to,
    });
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{TablespaceFact, TimelineEnd};

    #[test]
    fn wal_of_several_timelines_is_listed_newest_first() {
        let end = |timeline, end_lsn| TimelineEnd { timeline, end_lsn };
        let facts = Facts {
            timeline: 3,
            start_lsn: 0x150,
            stop_lsn: 0x400,
            history: vec![end(1, 0x100), end(2, 0x200)],
            ..Facts::default()
        };
        let range = |timeline, start, end| WalRange {
            timeline,
            start: Lsn(start),
            end: Lsn(end),
        };
        assert_eq!(
            wal_ranges(&facts),
            [range(3, 0x200, 0x400), range(2, 0x150, 0x200)]
        );
        let none = Facts {
            stop_lsn: 0x150,
            ..facts
        };
        assert_eq!(wal_ranges(&none), []);
    }

    #[test]
    fn a_mapping_moves_its_tablespace_and_must_fit_one() {
        let fact = |oid, location: &str| TablespaceFact {
            oid,
            location: location.into(),
        };
        let facts = Facts {
            tablespaces: vec![fact(1, "/a"), fact(2, "/b")],
            ..Facts::default()
        };
        let pair = |a: &str, b: &str| (PathBuf::from(a), PathBuf::from(b));
        let locations: Vec<_> = mapped(&facts, &[pair("/b", "/c")])
            .unwrap()
            .into_iter()
            .map(|t| t.location)
            .collect();
        assert_eq!(locations, [Path::new("/a"), Path::new("/c")]);
        let error = mapped(&facts, &[pair("/x", "/c")]).unwrap_err();
        assert!(matches!(error, Error::NoSuchTablespace { old } if old == Path::new("/x")));
    }

    #[test]
    fn paths_of_tablespaces() {
        for (path, expect) in [
            ("pg_tblspc", None),
            ("pg_tblspc/16384", Some(("16384", ""))),
            ("pg_tblspc/16384/PG_15_1/5", Some(("16384", "PG_15_1/5"))),
            ("base/5", None),
        ] {
            assert_eq!(tablespace_of(path), expect, "{path}");
        }
    }
}
