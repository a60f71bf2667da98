//! The nodes that a snapshot of a cluster would have, without taking one: where nodes of older
//! snapshots are lost, those of what did not change since are the same.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zenith_store::writer::Nodes;
use zenith_store::{Listing, Repository};

use super::copy::Copy;
use super::pages::Layout;
use super::wal::Span;
use super::{control_mode, read_label, threads};
use crate::before::Before;
use crate::error::{Error, Result};
use crate::event::ignore;
use crate::pg::{self, Control};
use crate::scan::{self, Entry, Motion, Unlogged};
use crate::tree::TreeWriter;

/// Every node that trees and extent maps of the cluster in `pgdata` have now, as they would be in
/// `repo`. A server may be running; what it changes meanwhile is the same as nothing anyway.
///
/// Errors: those of `scan`, `pg` and `Io`.
pub(crate) fn nodes(repo: &Repository, pgdata: &Path) -> Result<Nodes> {
    pg::version::major_of_dir(pgdata)?;
    let (control, control_bytes) = Control::read_with_bytes(pgdata, repo.world())?;
    let label = read_label(pgdata)?;
    let version_dir = pg::tablespace::version_dir(control.major, control.catalog_version);
    let scan = |unlogged| scan::scan(pgdata, &version_dir, Motion::Running, unlogged);
    let all = scan(Unlogged::Take)?;

    let writer = repo.rehearsal();
    let before = Before::of(repo, None)?;
    let copy = Copy {
        writer: &writer,
        before: &before,
        params: repo.params(),
        pgdata,
        motion: Motion::Running,
        layout: Layout::of(&control),
        threads: threads(repo.world(), 0),
        on: &ignore,
    };
    let mut tree = TreeWriter::new(repo, &writer);
    let is_control = |entry: &&Entry| entry.path == "global/pg_control";
    let files = all.entries.iter().filter(|e| !e.is_dir && !is_control(e));
    let mut copied = copy.run(&files.collect::<Vec<_>>())?;
    for entry in &all.entries {
        if entry.is_dir {
            tree.add_dir(&entry.path, entry.mode)?;
        } else if let Some(file) = copied.files.remove(&entry.path) {
            tree.add_stored(&entry.path, file)?;
        }
    }
    let mut made: Vec<String> = vec!["global/pg_control".into()];
    tree.add_bytes("global/pg_control", control_mode(&all), &control_bytes)?;
    let span = match &label {
        Some((label, _)) => Some(Span::of_backup(pgdata, &control, label)),
        None if control.state.is_shut_down() => Some(Span::at_rest(pgdata, &control)),
        // WAL of a server that runs goes on.
        None => None,
    };
    if let Some(span) = span {
        for (path, file) in span?.store(&copy)? {
            tree.add_stored(&path, file)?;
            made.push(path);
        }
    }
    if let Some((_, bytes)) = &label {
        let path = pgdata.join("backup_label");
        let meta = std::fs::metadata(&path).map_err(Error::io("stat", &path))?;
        tree.add_bytes("backup_label", meta.mode(), bytes)?;
        made.push("backup_label".into());
    }
    let listing = tree.finish()?.listing;

    // Snapshots of a running server leave out what unlogged relations hold.
    let logged = scan(Unlogged::LeaveOut)?;
    let taken: HashSet<&str> = logged
        .entries
        .iter()
        .map(|entry| entry.path.as_str())
        .chain(made.iter().map(String::as_str))
        .chain([""])
        .collect();
    let without: Listing = listing
        .into_iter()
        .filter(|(path, _)| taken.contains(path.as_str()))
        .collect();
    writer.put_tree(&without)?;
    Ok(writer.into_nodes())
}
