//! The WAL that a snapshot carries, so that a server starts on it without any other.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use zenith_store::File;

use super::Copy;
use crate::error::{Error, Result};
use crate::pg::wal::{self, TimelineHistory, WalFacts};
use crate::pg::{self, Control, Label, Lsn};
use crate::tree;

/// Mode of a segment, as the server makes them.
const MODE: u32 = 0o600;
/// Bytes of segments held in memory at once.
const MEMORY_MAX: u64 = 64 << 20;

/// Which WAL to take.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) facts: WalFacts,
    pub(super) history: TimelineHistory,
    pub(super) start: Lsn,
    /// Exclusive. What follows in its segment is stored as zeros, unless it is `verbatim`.
    pub(super) stop: Lsn,
    /// Segments are stored byte for byte: a base backup is taken as it is.
    pub(super) verbatim: bool,
}

impl Span {
    /// Of a cluster at rest: from the redo of its checkpoint to the end of its record, and to the
    /// point up to which a standby had replayed.
    pub(super) fn at_rest(pgdata: &Path, control: &Control) -> Result<Span> {
        let facts = WalFacts::from(control);
        let recovered = control.min_recovery_point;
        let timeline = control.timeline.max(control.min_recovery_timeline);
        let history = TimelineHistory::read(pgdata, timeline)?;
        let at = history.timeline_of_segment(
            control.checkpoint_lsn.segment_start(facts.wal_segment_size),
            facts.wal_segment_size,
        );
        let end = wal::record_end(pgdata, at, control.checkpoint_lsn, &facts)?;
        Ok(Span {
            facts,
            history,
            start: control.redo_lsn,
            stop: end.max(recovered),
            verbatim: false,
        })
    }

    /// Of a base backup in a directory: all that lies there in one run from its start. With a
    /// manifest the end is known, otherwise the checkpoint must be in it.
    ///
    /// Errors: `BackupWithoutWal`.
    pub(super) fn of_backup(pgdata: &Path, control: &Control, label: &Label) -> Result<Span> {
        let facts = WalFacts::from(control);
        let size = facts.wal_segment_size;
        let newest = wal::history_files(pgdata)?
            .last()
            .map_or(label.timeline, |(t, _)| *t);
        let history = TimelineHistory::read(pgdata, newest.max(label.timeline))?;
        let start = label.start_lsn;
        let mut stop = start.segment_start(size);
        loop {
            let timeline = history.timeline_of_segment(stop, size);
            let name = pg::lsn::segment_name(timeline, stop, size);
            match wal::read_last_segment(pgdata, &name, timeline, stop, start, &facts) {
                Ok((_, end)) if end == Lsn(stop.0 + u64::from(size)) => stop = end,
                Ok((_, end)) => {
                    stop = end;
                    break;
                }
                Err(pg::Error::WalMissing { .. }) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let told = manifest_end(pgdata)?;
        let needed = told.unwrap_or(Lsn(label.checkpoint_lsn.0.saturating_add(1)));
        if stop < needed {
            let at = stop.segment_start(size);
            let missing = pg::lsn::segment_name(history.timeline_of_segment(at, size), at, size);
            return Err(Error::BackupWithoutWal {
                pgdata: pgdata.to_owned(),
                missing,
            });
        }
        // Pages end later than the last record does, which only the manifest knows.
        let stop = told
            .filter(|end| {
                end.segment_start(size) == Lsn(stop.0.saturating_sub(1)).segment_start(size)
            })
            .unwrap_or(stop);
        Ok(Span {
            facts,
            history,
            start: label.start_lsn,
            stop,
            verbatim: true,
        })
    }

    /// Reads, checks and stores the segments and the history files; gives their paths.
    pub(super) fn store(&self, copy: &Copy<'_>) -> Result<Vec<(String, File)>> {
        let size = self.facts.wal_segment_size;
        let segments = self.history.segments_between(self.start, self.stop, size);
        let threads = (MEMORY_MAX / u64::from(size)).clamp(1, copy.threads.max(1) as u64);
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<(String, File)>> = Mutex::default();
        let work = || -> Result<()> {
            while let Some((timeline, name, at)) =
                segments.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let file = self.segment(copy, *timeline, name, *at)?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((format!("pg_wal/{name}"), file));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                let theirs = other
                    .join()
                    .unwrap_or_else(|p| std::panic::resume_unwind(p));
                done = done.and(theirs);
            }
            done
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (timeline, name) in wal::history_files(copy.pgdata)? {
            if timeline <= self.history.timeline {
                let path = copy.pgdata.join("pg_wal").join(&name);
                let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
                let file = self.bytes(copy, &path, &bytes)?;
                found.push((format!("pg_wal/{name}"), file));
            }
        }
        Ok(found)
    }

    fn segment(&self, copy: &Copy<'_>, timeline: u32, name: &str, at: Lsn) -> Result<File> {
        let path = copy.pgdata.join("pg_wal").join(name);
        let (start, stop) = (self.start, self.stop);
        let checked = wal::read_segment(copy.pgdata, name, timeline, at, start, stop, &self.facts)?;
        let bytes = if self.verbatim {
            std::fs::read(&path).map_err(Error::io("read", &path))?
        } else {
            checked
        };
        let file = self.bytes(copy, &path, &bytes)?;
        (copy.on)(crate::event::Event::Read {
            bytes: bytes.len() as u64,
        });
        Ok(file)
    }

    fn bytes(&self, copy: &Copy<'_>, path: &Path, bytes: &[u8]) -> Result<File> {
        let mode = if self.verbatim {
            std::fs::metadata(path)
                .map_err(Error::io("stat", path))?
                .mode()
        } else {
            MODE
        };
        tree::store(
            copy.writer,
            copy.params,
            mode,
            bytes.len() as u64,
            &[],
            &mut &bytes[..],
        )
        .map_err(|e| e.at(path))
    }
}

/// Where the WAL of a base backup ends, by its `backup_manifest`.
fn manifest_end(pgdata: &Path) -> Result<Option<Lsn>> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        #[serde(rename = "WAL-Ranges", default)]
        ranges: Vec<Range>,
    }
    #[derive(serde::Deserialize)]
    struct Range {
        #[serde(rename = "End-LSN")]
        end: String,
    }
    let path = pgdata.join("backup_manifest");
    let Some(bytes) = crate::disk::read_if_there(&path)? else {
        return Ok(None);
    };
    let damaged = |why: String| Error::BackupDamaged {
        path: path.clone(),
        why,
    };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut end = None;
    for range in manifest.ranges {
        end = end.max(Some(range.end.parse::<Lsn>()?));
    }
    Ok(end)
}
