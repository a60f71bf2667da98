//! A snapshot as objects under a URL: one object for each file, named by its path in PGDATA.
//!
//! Directories are implied; the empty ones that every cluster has come back on import.
//! Tablespaces lie under `pg_tblspc/<oid>/` and are named by `tablespace_map`. `global/pg_control`
//! is written last, so that a part of an export does not pass for a cluster.
//!
//! While an export is under way, the object `zenith-export` holds the id of the snapshot; an
//! export of the same snapshot goes on where the one before it stopped.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use zenith_store::objects::{Created, Objects};
use zenith_store::{File, Repository, SnapshotId};

use super::{CONTROL, Cluster, ExportOptions, ExportReport, Item, MANIFEST, MAP};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::ManifestFile;

/// Names the snapshot of an export that is not complete.
pub const MARKER: &str = "zenith-export";
/// Files up to this size are one request; larger ones are streamed.
const SINGLE_MAX: u64 = 4 << 20;
const BUFFER: usize = 1 << 20;

/// Writes a snapshot as objects.
///
/// Errors: `TargetNotEmpty`, `NoSuchTablespace`, `NotACluster`, those of the repository and of
/// the objects.
pub fn pgdata(
    repo: &Repository,
    id: SnapshotId,
    objects: &dyn Objects,
    options: &ExportOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<ExportReport> {
    let cluster = Cluster::read(repo, id, &options.tablespace_mapping)?;
    let files = files(&cluster);
    let there = begin(objects, id, &files)?;
    on(Event::Phase("writing objects"));
    on(Event::Total {
        bytes: cluster.snapshot.size,
    });

    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<ManifestFile>> = Mutex::new(Vec::with_capacity(files.len()));
    let work = || -> Result<()> {
        loop {
            let Some((path, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return Ok(());
            };
            // pg_control is last and alone.
            let placed = if path == CONTROL || there.get(path) == Some(&file.size) {
                Place::Nowhere
            } else {
                Place::At(objects, path)
            };
            let line = line(&cluster, path, file, put(repo, file, placed, on)?);
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    // The others stop at their next file.
                    work().inspect_err(|_| next.store(files.len(), Ordering::Relaxed))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })?;

    let mut lines = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = cluster.manifest(lines);
    // An interrupted export of this snapshot may have left the same.
    create(objects, MANIFEST, &manifest)?;
    let (_, control) = files
        .iter()
        .find(|(path, _)| path == CONTROL)
        .expect("checked on reading");
    put(repo, control, Place::At(objects, CONTROL), on)?;
    objects.delete(MARKER)?;
    let bytes = files.iter().map(|(_, file)| file.size).sum();
    Ok(ExportReport {
        files: files.len() as u64,
        bytes,
        archives: Vec::new(),
    })
}

fn files(cluster: &Cluster) -> Vec<(String, File)> {
    let tablespaces = cluster
        .tablespaces
        .iter()
        .flat_map(|t| cluster.tablespace_items(t.oid));
    let mut files: Vec<(String, File)> = cluster
        .base_items()
        .into_iter()
        .chain(tablespaces)
        .filter_map(|item| match item {
            Item::File { path, file } => Some((path, file)),
            Item::Directory { .. } | Item::Link { .. } => None,
        })
        .collect();
    files.extend(cluster.tablespace_map().map(|map| (MAP.to_owned(), map)));
    files
}

/// Refuses a place where anything else lies, marks it, and gives what an interrupted export of
/// the same snapshot left: sizes by name.
fn begin(
    objects: &dyn Objects,
    id: SnapshotId,
    files: &[(String, File)],
) -> Result<BTreeMap<String, u64>> {
    let there: BTreeMap<String, u64> = objects
        .list("")?
        .into_iter()
        .map(|object| (object.key, object.size))
        .collect();
    let marker = format!("{id}\n").into_bytes();
    let ours = !there.contains_key(CONTROL)
        && there.contains_key(MARKER)
        && objects.get(MARKER)? == marker;
    let known = |key: &String| {
        ours && (key == MARKER || key == MANIFEST || files.iter().any(|(path, _)| path == key))
    };
    if let Some(found) = there.keys().find(|key| !known(key)) {
        let dir = PathBuf::from(objects.location());
        return Err(Error::TargetNotEmpty {
            dir,
            found: found.clone(),
        });
    }
    create(objects, MARKER, &marker)?;
    Ok(there)
}

/// Creates an object that may be there already with these very bytes: left by an interrupted
/// export, or by an attempt of our own whose answer was lost.
fn create(objects: &dyn Objects, key: &str, bytes: &[u8]) -> Result<()> {
    if objects.create(key, bytes)? == Created::Exists && objects.get(key)? != bytes {
        let dir = PathBuf::from(objects.location());
        return Err(Error::TargetNotEmpty {
            dir,
            found: key.to_owned(),
        });
    }
    Ok(())
}

enum Place<'a> {
    At(&'a dyn Objects, &'a str),
    /// Only the checksum is wanted.
    Nowhere,
}

/// Stores a file; its CRC-32C.
fn put(
    repo: &Repository,
    file: &File,
    place: Place<'_>,
    on: &(dyn Fn(Event) + Sync),
) -> Result<u32> {
    if file.size <= SINGLE_MAX {
        let bytes = repo.file_bytes(file)?;
        if let Place::At(objects, key) = place {
            create(objects, key, &bytes)?;
        }
        on(Event::Placed { bytes: file.size });
        return Ok(crc32c::crc32c(&bytes));
    }
    let mut reader = repo.file_reader(file)?;
    let mut crc = 0;
    let mut copy = |out: &mut dyn Write, named: PathBuf| -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = reader
                .read(&mut buffer)
                .map_err(Error::io("read", &named))?;
            if len == 0 {
                return Ok(());
            }
            crc = crc32c::crc32c_append(crc, &buffer[..len]);
            out.write_all(&buffer[..len])
                .map_err(Error::io("write", &named))?;
            on(Event::Placed { bytes: len as u64 });
        }
    };
    match place {
        Place::Nowhere => copy(&mut std::io::sink(), PathBuf::new())?,
        Place::At(objects, key) => {
            let named = PathBuf::from(format!("{}/{key}", objects.location()));
            let mut out = BufWriter::with_capacity(BUFFER, objects.writer(key)?);
            copy(&mut out, named.clone())?;
            out.into_inner()
                .map_err(|e| Error::io("write", &named)(e.into_error()))?
                .finish()?;
        }
    }
    Ok(crc)
}

fn line(cluster: &Cluster, path: &str, file: &File, crc32c: u32) -> ManifestFile {
    ManifestFile {
        path: path.as_bytes().to_vec(),
        size: file.size,
        modified: cluster.modified(),
        crc32c,
    }
}
