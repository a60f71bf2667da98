//! The files of a cluster on their way into the tree, and what reading them came to.

use std::path::Path;

use zenith_store::{SnapshotId, Writer};

use super::copy::Copy;
use super::pages::{Findings, Layout, Replay};
use super::parent::Parent;
use super::wal::Span;
use super::{SnapshotOptions, threads};
use crate::before::Before;
use crate::error::Result;
use crate::event::Event;
use crate::facts::{Damage, Facts};
use crate::pg::Control;
use crate::plan::{FileCache, Known, Plan};
use crate::scan::{Entry, Motion, Scan};
use crate::tree::{Tree, TreeWriter};

impl<'a> Copy<'a> {
    pub(super) fn new(
        before: &'a Before,
        writer: &'a Writer,
        pgdata: &'a Path,
        control: &Control,
        motion: Motion,
        opts: &SnapshotOptions,
        on: &'a (dyn Fn(Event) + Sync),
    ) -> Copy<'a> {
        Copy {
            writer,
            before,
            params: before.repo().params(),
            pgdata,
            motion,
            layout: Layout::of(control),
            threads: threads(before.repo().world(), opts.threads),
            on,
        }
    }
}

/// What reading the files came to.
pub(super) struct Read {
    /// Plain bytes that were read.
    pub(super) bytes: u64,
    /// For people.
    pub(super) warnings: Vec<String>,
    /// Pages that do not hold.
    pub(super) findings: Findings,
}

impl Read {
    /// Something more that people should know.
    pub(super) fn warn(&mut self, copy: &Copy<'_>, warnings: Vec<String>) {
        for warning in &warnings {
            (copy.on)(Event::Warning(warning.clone()));
        }
        self.warnings.extend(warnings);
    }

    /// What of the findings is damage, when all that the snapshot has is known.
    ///
    /// Errors: `PagesDamaged`.
    pub(super) fn judge(
        &mut self,
        copy: &Copy<'_>,
        replay: Option<Replay>,
        tree: &Tree,
        opts: &SnapshotOptions,
    ) -> Result<Option<Damage>> {
        let findings = std::mem::take(&mut self.findings);
        let is_taken = |path: &str| tree.listing.contains_key(path);
        let verdict = findings.judge(copy.layout, copy.layout, replay, is_taken);
        verdict.pass(opts.on_damage, copy.pgdata)?;
        self.warn(copy, verdict.warnings);
        Ok(verdict.damage)
    }
}

impl Replay {
    /// Of the WAL that a snapshot carries.
    pub(super) fn of(span: &Span) -> Replay {
        Replay {
            start: span.start,
            stop: span.stop,
        }
    }
}

/// Puts all scanned directories and files but pg_control into the tree, reading what changed, and
/// notes in `cache` what each file looked like.
pub(super) fn store_files(
    copy: &Copy<'_>,
    parent: Option<&Parent>,
    scan: &Scan,
    cache: &mut FileCache,
    opts: &SnapshotOptions,
    tree: &mut TreeWriter<'_>,
) -> Result<Read> {
    let (known, damaged) = known_files(copy, parent, scan, opts)?;
    let mut to_read: Vec<&Entry> = Vec::new();
    let total = scan
        .entries
        .iter()
        .filter(|e| !e.is_dir)
        .map(Entry::size)
        .sum();
    (copy.on)(Event::Total { bytes: total });
    for entry in &scan.entries {
        if entry.is_dir {
            tree.add_dir(&entry.path, entry.mode)?;
            continue;
        }
        if entry.path == "global/pg_control" {
            continue;
        }
        match known.decide(entry, &cache.boot_id) {
            // What is damaged is told every time.
            Plan::Reuse(_) if damaged.has(&entry.path) => to_read.push(entry),
            Plan::Reuse(file) => {
                (copy.on)(Event::Read {
                    bytes: entry.size(),
                });
                tree.add_stored(&entry.path, file)?;
            }
            Plan::Read => to_read.push(entry),
        }
    }
    let mut copied = copy.run(&to_read)?;
    let mut bytes = 0;
    for entry in to_read {
        if let Some(file) = copied.files.remove(&entry.path) {
            bytes += file.size;
            tree.add_stored(&entry.path, file)?;
        }
    }
    cache.stamps = scan
        .entries
        .iter()
        .filter(|e| !e.is_dir && tree.contains(&e.path))
        .map(|e| (e.path.clone(), e.stamp))
        .collect();
    let mut read = Read {
        bytes,
        warnings: Vec::new(),
        findings: copied.findings,
    };
    read.warn(copy, copied.warnings);
    Ok(read)
}

/// What the home knows about the files, when the snapshot that it was noted for is still there;
/// and what was damaged then.
fn known_files(
    copy: &Copy<'_>,
    parent: Option<&Parent>,
    scan: &Scan,
    opts: &SnapshotOptions,
) -> Result<(Known, Damage)> {
    let repo = copy.before.repo();
    let nothing = || Ok((Known::nothing(), Damage::default()));
    let Some(home) = opts.home.as_ref().filter(|_| !opts.read_all) else {
        return nothing();
    };
    let cache = FileCache::load(
        &FileCache::path(&home.file_cache_dir(), copy.pgdata),
        copy.before.repo().world(),
    );
    let Some(cache) = cache else {
        return nothing();
    };
    let Ok(id) = cache.snapshot.parse::<SnapshotId>() else {
        return nothing();
    };
    let state = repo.state()?;
    let Some(row) = state.snapshot(&id) else {
        return nothing();
    };
    let listing = match parent {
        Some(parent) if parent.id == id => copy.before.listing().clone(),
        // It builds on nothing but the parent.
        _ if home.is_lazy() => return nothing(),
        _ => repo.listing(row.tree)?.into(),
    };
    let mut known = Known::new(cache, listing);
    known.trust_local(&scan.entries);
    let facts = Facts::decode(&repo.snapshot(id)?.body, &id)?;
    Ok((known, facts.damage.unwrap_or_default()))
}

/// The cache only saves time: that it cannot be written is no reason to fail.
pub(super) fn save_cache(opts: &SnapshotOptions, pgdata: &Path, cache: &FileCache) {
    let Some(home) = &opts.home else { return };
    if let Err(e) = cache.save(&FileCache::path(&home.file_cache_dir(), pgdata)) {
        tracing::warn!("the file cache is not saved: {e}");
    }
}
