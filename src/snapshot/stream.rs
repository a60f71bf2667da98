//! Snapshots of clusters that do not lie in a directory: tar streams, objects under a URL.
//!
//! Whoever reads the stream stores the files it takes and puts the few that decide what the
//! cluster is into a *skeleton*, a directory with the shape of PGDATA: `PG_VERSION`,
//! `global/pg_control`, `backup_label`, `tablespace_map`, `backup_manifest` and the files of
//! `pg_wal`, each with the mode it had. From there on the rules are those of a base backup or a stopped cluster that lies in
//! a directory, so the same backup gives the same tree, however it came.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zenith_store::{Listing, Node, Repository, SnapshotSource, Writer};

pub(crate) use super::pages::{Findings, Layout};

use super::copy::Copy;
use super::pages::Replay;
use super::wal::Span;
use super::{Parent, SnapshotOptions, SnapshotReport, commit, facts_of, read_label, report};
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::{Facts, LeftOut, Lineage, TablespaceFact};
use crate::pg::path::REQUIRED;
use crate::pg::tablespace::{self, Tablespace};
use crate::pg::{self, ClusterState, Control};
use crate::scan::{Motion, UNLOGGED, Unlogged};
use crate::tree::TreeWriter;

/// Whether a file goes into the skeleton; the others, and `PG_VERSION`, are stored as they come.
pub(crate) fn is_skeleton(path: &str) -> bool {
    const FILES: [&str; 5] = [
        "PG_VERSION",
        "global/pg_control",
        "backup_label",
        "tablespace_map",
        "backup_manifest",
    ];
    let in_wal = path
        .strip_prefix("pg_wal/")
        .is_some_and(|name| !name.contains('/'));
    in_wal || FILES.contains(&path)
}

/// A cluster that was read from a stream.
pub(crate) struct Streamed<'a> {
    /// Names the stream in errors.
    pub(crate) name: &'a Path,
    /// The small files.
    pub(crate) skeleton: &'a Path,
    /// Everything else that was taken, with all directories.
    pub(crate) listing: Listing,
    /// What was not.
    pub(crate) left_out: Vec<LeftOut>,
    /// By symbolic links in the stream.
    pub(crate) links: Vec<Tablespace>,
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// Pages that do not hold, if the cluster is laid out as usual and has checksums.
    pub(crate) findings: Findings,
}

/// Commits what was read.
///
/// Errors: `StreamIncomplete`, `TablespaceMissing`, `NotShutDown`, `BackupWithoutWal`,
/// `BackupIncremental`, `BranchForeign`, `PagesDamaged`, those of `pg` and the store.
pub(crate) fn finish(
    repo: &Repository,
    writer: Writer,
    streamed: Streamed<'_>,
    opts: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    let Streamed {
        name,
        skeleton,
        mut listing,
        mut left_out,
        links,
        bytes,
        findings,
    } = streamed;
    for required in REQUIRED {
        if !listing.contains_key(*required) && !skeleton.join(required).exists() {
            let missing = (*required).to_owned();
            return Err(Error::StreamIncomplete {
                name: name.to_owned(),
                missing,
            });
        }
    }
    pg::version::major_of_dir(skeleton)?;
    let (control, control_bytes) = Control::read_with_bytes(skeleton, repo.world())?;
    Parent::of(repo, opts, name, control.system_identifier)?;
    let label = read_label(skeleton)?;
    let map = disk::read_if_there(&skeleton.join("tablespace_map"))?.unwrap_or_default();
    let span = match &label {
        Some((label, _)) => Span::of_backup(skeleton, &control, label)?,
        None if control.state.is_shut_down() => Span::at_rest(skeleton, &control)?,
        None => {
            let state = control.state.to_string();
            return Err(Error::NotShutDown {
                pgdata: name.to_owned(),
                state,
            });
        }
    };
    let version_dir = tablespace::version_dir(control.major, control.catalog_version);
    let tablespaces = tablespaces(&map, links)?;
    for Tablespace { oid, location } in &tablespaces {
        if !listing.contains_key(&format!("pg_tblspc/{oid}/{version_dir}")) {
            let (oid, location) = (*oid, location.clone());
            return Err(Error::TablespaceMissing { oid, location });
        }
    }
    // Recovery is what empties unlogged relations, and a start after a clean stop has none.
    let clean = label.is_none() && control.state == ClusterState::ShutDown;
    let unlogged = if clean {
        Unlogged::Take
    } else {
        Unlogged::LeaveOut
    };
    leave_out(&mut listing, &version_dir, unlogged, &mut left_out);

    let before = super::before(repo, None)?;
    let copy = Copy::new(
        &before,
        &writer,
        skeleton,
        &control,
        Motion::Still,
        opts,
        on,
    );
    let mut tree = TreeWriter::new(repo, &writer);
    for (path, node) in listing {
        match node {
            Node::Directory { mode } => tree.add_dir(&path, mode)?,
            Node::File(file) => tree.add_stored(&path, file)?,
        }
    }
    on(Event::Phase("reading WAL"));
    for (path, file) in span.store(&copy)? {
        tree.add_stored(&path, file)?;
    }
    let mode = |path: &str| -> Result<u32> {
        let path = skeleton.join(path);
        Ok(std::fs::metadata(&path)
            .map_err(Error::io("stat", &path))?
            .mode())
    };
    if let Some((_, bytes)) = &label {
        tree.add_bytes("backup_label", mode("backup_label")?, bytes)?;
    }
    tree.add_bytes(
        "global/pg_control",
        mode("global/pg_control")?,
        &control_bytes,
    )?;
    let tree = tree.finish()?;

    // At rest nothing restores pages; a base backup's WAL does.
    let replay = label.is_some().then(|| Replay::of(&span));
    let is_taken = |path: &str| tree.listing.contains_key(path);
    let verdict = findings.judge(copy.layout, Layout::USUAL, replay, is_taken);
    verdict.pass(opts.on_damage, name)?;
    for warning in &verdict.warnings {
        on(Event::Warning(warning.clone()));
    }

    left_out.sort_by(|a, b| a.path.cmp(&b.path));
    let fact = |t: &Tablespace| TablespaceFact {
        oid: t.oid,
        location: t.location.to_string_lossy().into_owned(),
    };
    let facts = Facts {
        lineage: Lineage::random(repo.world()),
        tablespaces: tablespaces.iter().map(fact).collect(),
        tablespace_map: if label.is_some() { map } else { Vec::new() },
        left_out,
        wal_bytes: tree.wal_bytes,
        damage: verdict.damage,
        ..facts_of(&control, &span, Vec::new())
    };
    on(Event::Phase("committing"));
    let committed = commit(repo, writer, &tree, &facts, SnapshotSource::Remote, opts)?;
    Ok(report(&committed, &tree, facts, bytes, verdict.warnings))
}

/// The tablespaces by the map and by links; the map is what a server goes by.
fn tablespaces(map: &[u8], links: Vec<Tablespace>) -> Result<Vec<Tablespace>> {
    let mut found: BTreeMap<u32, Tablespace> = links.into_iter().map(|t| (t.oid, t)).collect();
    found.extend(tablespace::parse_map(map)?.into_iter().map(|t| (t.oid, t)));
    Ok(found.into_values().collect())
}

/// Takes out what only the whole of a stream tells: content of unlogged relations, and what in a
/// tablespace belongs to other clusters.
fn leave_out(
    listing: &mut Listing,
    version_dir: &str,
    unlogged: Unlogged,
    left_out: &mut Vec<LeftOut>,
) {
    let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
    for (path, node) in listing.iter() {
        if let (Some((dir, name)), Node::File(_)) = (path.rsplit_once('/'), node)
            && unlogged == Unlogged::LeaveOut
            && pg::path::is_relation_dir(dir)
        {
            names.entry(dir).or_default().push(name);
        }
    }
    let mut out = Vec::new();
    for (dir, names) in names {
        let unlogged = pg::path::unlogged(names);
        out.extend(
            unlogged
                .into_iter()
                .map(|name| (format!("{dir}/{name}"), UNLOGGED)),
        );
    }
    for path in listing.keys() {
        let foreign = path
            .strip_prefix("pg_tblspc/")
            .and_then(|rest| rest.split('/').nth(1))
            .is_some_and(|version| version != version_dir);
        if foreign {
            out.push((path.clone(), "belongs to another cluster"));
        }
    }
    for (path, reason) in out {
        listing.remove(&path);
        left_out.push(LeftOut {
            path,
            reason: reason.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zenith_store::{Content, File};

    #[test]
    fn what_only_the_whole_tells_is_left_out() {
        let file = || {
            Node::File(File {
                mode: 0o600,
                size: 0,
                content: Content::Inline(vec![]),
            })
        };
        let paths = [
            "base/5/16384",
            "base/5/16384_fsm",
            "base/5/16384_init",
            "base/5/16385",
            "pg_tblspc/9/PG_15_1/5/7",
            "pg_tblspc/9/PG_14_1/5/7",
        ];
        let mut listing: Listing = paths.iter().map(|p| ((*p).to_owned(), file())).collect();
        let mut left_out = Vec::new();
        leave_out(
            &mut listing.clone(),
            "PG_15_1",
            Unlogged::Take,
            &mut left_out,
        );
        assert_eq!(left_out.len(), 1, "of a stopped cluster");
        left_out.clear();
        leave_out(&mut listing, "PG_15_1", Unlogged::LeaveOut, &mut left_out);
        let kept: Vec<_> = listing.keys().map(String::as_str).collect();
        assert_eq!(
            kept,
            [
                "base/5/16384_init",
                "base/5/16385",
                "pg_tblspc/9/PG_15_1/5/7"
            ]
        );
        assert_eq!(left_out.len(), 3);
    }

    #[test]
    fn the_map_goes_before_links() {
        let at = |oid, location: &str| Tablespace {
            oid,
            location: location.into(),
        };
        let found = tablespaces(b"1 /map\n", vec![at(1, "/link"), at(2, "/other")]).unwrap();
        assert_eq!(found, [at(1, "/map"), at(2, "/other")]);
    }
}
