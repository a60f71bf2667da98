//! A snapshot as a plain PGDATA directory with its `backup_manifest`: a checkout without guard,
//! whose marker goes away in the end.

use std::fs;
use std::path::Path;

use zenith_store::{Repository, SnapshotId};

use super::stream;
use super::{Cluster, ExportOptions, ExportReport, Item, MANIFEST};
use crate::checkout::{self, CheckoutOptions};
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::ManifestFile;
use crate::marker;
use crate::pg::user::RunAs;

/// Writes a snapshot into `dir`, which is empty or not there, or was half made by the same
/// command. Tablespaces lie at `DIR.tablespaces/<oid>` unless mapped. Files belong to `owner`.
///
/// While it is incomplete, `dir` has no `global/pg_control` or no manifest.
///
/// Errors: those of [`checkout::to_new`].
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
    };
    let made = checkout::to_new(repo, id, dir, &checkout, on)?;
    on(Event::Phase("writing the manifest"));
    let manifest = manifest(repo, id, options)?;
    let path = dir.join(MANIFEST);
    disk::replace(&path, &manifest, 0o600)?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))
            .map_err(Error::io("chown", &path))?;
    }
    // Nothing in an export is zenith's own.
    let marker = dir.join(marker::NAME);
    fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
    if options.sync {
        disk::sync_dir(dir)?;
    }
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
