//! A snapshot as a plain PGDATA directory with its `backup_manifest`: a checkout without guard,
//! whose marker goes away in the end.

use std::fs;
use std::path::Path;

use zenith_store::{Repository, SnapshotId};

use super::stream;
use super::{Cluster, ExportOptions, ExportReport, Item, MANIFEST};
use crate::checkout::{self, CONTROL, CheckoutOptions};
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::ManifestFile;
use crate::marker::{self, Marker};
use crate::pg::user::RunAs;

/// Writes a snapshot into `dir`, which is empty or not there, or was half made by the same
/// command. Tablespaces lie at `DIR.tablespaces/<oid>` unless mapped. Files belong to `owner`.
///
/// While it is incomplete, `dir` has no `global/pg_control`; that comes after the manifest.
///
/// Errors: those of [`checkout::to_new`] and `HomeDamaged`.
pub fn pgdata(
    repo: &Repository,
    id: SnapshotId,
    dir: &Path,
    owner: Option<&RunAs>,
    options: &ExportOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<ExportReport> {
    let checkout = CheckoutOptions {
        unguarded: true,
        tablespace_mapping: options.tablespace_mapping.clone(),
        sync: options.sync,
        threads: options.threads,
        owner: owner.cloned(),
        home: None,
        head: None,
        from: None,
    };
    // All is there but that the marker was not removed: no checkout has a manifest.
    let is_made = dir.join(CONTROL).is_file()
        && dir.join(MANIFEST).is_file()
        && Marker::read(dir)?.is_some_and(|marker| marker.snapshot == id.to_string());
    if !is_made {
        let last = || {
            on(Event::Phase("writing the manifest"));
            let path = dir.join(MANIFEST);
            disk::replace(&path, &manifest(repo, id, options)?, 0o600)?;
            match owner {
                Some(owner) => std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))
                    .map_err(Error::io("chown", &path)),
                None => Ok(()),
            }
        };
        checkout::to_new_with(repo, id, dir, &checkout, on, &last)?;
    }
    // Nothing in an export is zenith's own.
    let marker = dir.join(marker::NAME);
    fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
    if options.sync {
        disk::sync_dir(dir)?;
    }
    let made = repo.snapshot(id)?;
    Ok(ExportReport {
        files: made.files,
        bytes: made.size,
        archives: Vec::new(),
    })
}

/// The manifest by what the snapshot holds, not by what came to lie on the disk: it is there to
/// tell the two apart.
fn manifest(repo: &Repository, id: SnapshotId, options: &ExportOptions) -> Result<Vec<u8>> {
    let cluster = Cluster::read(repo, id, &[])?;
    let tablespaces = cluster
        .tablespaces
        .iter()
        .flat_map(|t| cluster.tablespace_items(t.oid));
    let (mut paths, mut files) = (Vec::new(), Vec::new());
    for item in cluster.base_items().into_iter().chain(tablespaces) {
        // WAL is not listed and need not be read.
        if let Item::File { path, file } = item
            && crate::manifest::Manifest::lists(&path)
        {
            paths.push(path);
            files.push(file);
        }
    }
    let sums = stream::checksums(repo, &files, options.threads)?;
    let lines = paths
        .into_iter()
        .zip(&files)
        .zip(sums)
        .map(|((path, file), crc32c)| ManifestFile {
            path: path.into_bytes(),
            size: file.size,
            modified: cluster.modified(),
            crc32c,
        });
    Ok(cluster.manifest(lines.collect()))
}
