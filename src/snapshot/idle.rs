//! Whether a cluster is still as its parent was: asked of a running one before a backup begins, of
//! a stopped one when all of it was read.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use zenith_store::{Listing, Node, Repository};

use super::Parent;
use crate::error::{Error, Result};
use crate::facts::{ConfigDigest, Facts, Lineage, Mark};
use crate::pg::{self, Lsn};

/// How much WAL before the parent's end is compared. A chunk begins with a page, so this is in one.
const PAGE_BYTES: u64 = 8192;

/// What the cluster is now.
pub(super) struct Now<'a> {
    pub(super) timeline: u32,
    pub(super) checksums: bool,
    /// How far WAL is written; none on a standby.
    pub(super) insert_lsn: Option<Lsn>,
    pub(super) lineage: Lineage,
    pub(super) mark: &'a Mark,
    pub(super) config_digest: Option<ConfigDigest>,
}

impl Parent {
    /// Whether nothing happened since: no transaction, no configuration, and no other history. A
    /// cluster that was put back and went on may have come to the same number of transactions.
    pub(super) fn still_is(&self, repo: &Repository, pgdata: &Path, now: &Now<'_>) -> Result<bool> {
        let facts = &self.facts;
        let looks_so = facts.lineage == now.lineage
            && facts.mark.as_ref().is_some_and(|mark| same(mark, now.mark))
            && facts.config_digest == now.config_digest
            && facts.timeline == now.timeline
            && (facts.checksum_version != 0) == now.checksums;
        Ok(looks_so
            && match now.insert_lsn {
                Some(lsn) => lsn.0 >= facts.stop_lsn && self.wal_goes_on(repo, pgdata)?,
                // How far a standby replayed says all.
                None => true,
            })
    }

    /// Whether a stopped cluster with these facts differs from the snapshot in nothing but what a
    /// server leaves behind that started and did nothing.
    pub(super) fn only_ran(
        &self,
        repo: &Repository,
        pgdata: &Path,
        facts: &Facts,
        before: &Listing,
        after: &Listing,
    ) -> Result<bool> {
        let Some(mark) = &facts.mark else {
            return Ok(false);
        };
        let now = Now {
            timeline: facts.timeline,
            checksums: facts.checksum_version != 0,
            insert_lsn: Some(Lsn(facts.stop_lsn)),
            lineage: facts.lineage,
            mark,
            config_digest: facts.config_digest,
        };
        let rest = |(path, _): &(&String, &Node)| !is_of_running(path);
        let is_same = before.iter().filter(rest).eq(after.iter().filter(rest));
        Ok(is_same && self.still_is(repo, pgdata, &now)?)
    }

    /// Whether the last WAL of the snapshot still lies in the directory. Where the server needs
    /// its segment no more and it is gone, the transactions must do.
    fn wal_goes_on(&self, repo: &Repository, pgdata: &Path) -> Result<bool> {
        let (stop, size) = (self.facts.stop_lsn, self.facts.wal_segment_size);
        pg::lsn::check_segment_size(size)?;
        let Some(last) = stop.checked_sub(1).map(Lsn) else {
            return Ok(false);
        };
        let start = last.segment_start(size);
        let listing = repo.listing(self.snapshot.tree)?;
        // The newest timeline has the highest name.
        let stored = listing.iter().rev().find_map(|(path, node)| {
            let name = path.strip_prefix("pg_wal/")?;
            let (_, at) = pg::lsn::parse_segment_name(name, size).ok()?;
            match node {
                Node::File(file) if at == start => Some((name, file)),
                _ => None,
            }
        });
        let Some((name, file)) = stored else {
            return Ok(true);
        };
        let from = last.0 - last.0 % PAGE_BYTES;
        let mut here = vec![0; (stop - from) as usize];
        let path = pgdata.join("pg_wal").join(name);
        match File::open(&path).and_then(|f| f.read_exact_at(&mut here, from - start.0)) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(Error::io("read", &path)(e)),
        }
        let chunk_size = u64::from(repo.params().chunk_size);
        let at = from - start.0;
        let id = repo
            .chunk_ids(file)?
            .get((at / chunk_size) as usize)
            .copied();
        let Some(id) = id.filter(|id| !id.is_zero()) else {
            return Ok(false);
        };
        let there = repo.chunk(id)?;
        let within = (at % chunk_size) as usize;
        Ok(there.get(within..within + here.len()) == Some(&here[..]))
    }
}

/// Whether a file is written by a server that starts, runs and stops without doing anything, or is
/// there of an online backup alone.
pub(super) fn is_of_running(path: &str) -> bool {
    const FILES: [&str; 3] = ["global/pg_control", "backup_label", "tablespace_map"];
    FILES.contains(&path) || path.starts_with("pg_wal/") || path.starts_with("pg_stat/")
}

/// A standby has no transactions of its own: how far it replayed says all.
fn same(before: &Mark, now: &Mark) -> bool {
    match (before.replay_lsn, now.replay_lsn) {
        (None, None) => before == now,
        (Some(before), Some(now)) => before == now,
        _ => false,
    }
}
