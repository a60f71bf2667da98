//! PGDATA as objects under a URL → a snapshot: what [`crate::export::objects`] writes.
//!
//! Objects have no modes, and directories without files are not there: files get 0600,
//! directories 0700, and the empty directories that every cluster has are put back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::bounded;
use zenith_store::objects::Listed;
use zenith_store::{Objects, Repository};

use super::intake::{self, Intake, Refused, normalise};
use crate::checkout::DIRECTORIES;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::export::objects::MARKER;
use crate::snapshot::stream::{Streamed, finish};
use crate::snapshot::{SnapshotOptions, SnapshotReport, begin, threads};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Objects up to this size are fetched ahead, several at once.
const AHEAD_MAX: u64 = 4 << 20;
/// Requests at once; most objects are small, and each costs a round trip.
const FETCHERS: usize = 8;

/// Takes a snapshot of the cluster at a URL. The caller holds the home's lock.
///
/// Errors: `ExportUnfinished`, `StreamIncomplete`, `TablespaceMissing`, `BackupWithoutWal`,
/// `NotShutDown`, `PathInvalid`, those of the objects.
pub fn pgdata(
    repo: &Repository,
    objects: &dyn Objects,
    opts: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    let name = PathBuf::from(objects.location());
    let found = objects.list("")?;
    if found.iter().any(|object| object.key == MARKER) {
        return Err(Error::ExportUnfinished { path: name });
    }
    let skeleton = intake::skeleton(repo)?;
    let writer = begin(repo, opts)?;
    on(Event::Phase("reading objects"));
    on(Event::Total {
        bytes: found.iter().map(|object| object.size).sum(),
    });
    let feed = |intake: &mut Intake<'_>| -> Result<()> {
        for path in DIRECTORIES {
            intake.directory(path, DIRECTORY_MODE)?;
        }
        feed(intake, objects, &found)
    };
    let threads = threads(repo.world(), opts.threads);
    let mut taken = intake::take_in(repo, &writer, skeleton.path(), threads, on, feed)?;
    let version = std::fs::read(skeleton.path().join(super::VERSION)).unwrap_or_default();
    if String::from_utf8_lossy(&version)
        .trim()
        .parse::<u32>()
        .is_ok_and(|major| major >= 17)
    {
        let node = zenith_store::Node::Directory {
            mode: DIRECTORY_MODE,
        };
        intake::insert(&mut taken.listing, "pg_wal/summaries", node)?;
    }
    let streamed = Streamed {
        name: &name,
        skeleton: skeleton.path(),
        listing: taken.listing,
        left_out: taken.left_out,
        links: taken.links,
        bytes: taken.bytes,
        findings: taken.findings,
    };
    finish(repo, writer, streamed, opts, on)
}

/// Small objects are fetched by several threads, large ones are streamed one by one.
fn feed(intake: &mut Intake<'_>, objects: &dyn Objects, found: &[Listed]) -> Result<()> {
    let (small, large): (Vec<&Listed>, Vec<&Listed>) =
        found.iter().partition(|object| object.size <= AHEAD_MAX);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (fetched_in, fetched) = bounded(FETCHERS);
        for _ in 0..FETCHERS {
            let (fetched_in, next, small) = (fetched_in.clone(), &next, &small);
            scope.spawn(move || {
                while let Some(object) = small.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody receives after an error.
                    if fetched_in
                        .send((*object, objects.get(&object.key)))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(fetched_in);
        for (object, bytes) in fetched {
            let bytes = bytes?;
            take(intake, objects, object, bytes.len() as u64, &mut &bytes[..])?;
        }
        Ok::<(), Error>(())
    })?;
    for object in large {
        let mut from = objects.reader(&object.key)?;
        take(intake, objects, object, object.size, &mut from)?;
    }
    Ok(())
}

fn take(
    intake: &mut Intake<'_>,
    objects: &dyn Objects,
    object: &Listed,
    size: u64,
    from: &mut dyn std::io::Read,
) -> Result<()> {
    let invalid = |_| Error::PathInvalid {
        path: object.key.clone(),
    };
    let path = normalise(&object.key).map_err(invalid)?;
    intake
        .file(&path, FILE_MODE, size, from)
        .map_err(|refused| match refused {
            Refused::Read(e) => {
                Error::io("read", &PathBuf::from(objects.location()).join(&object.key))(e)
            }
            Refused::Other(error) => error,
        })
}
