//! What pg_control, the WAL and the server tell of a cluster, as the facts of its snapshot.

use std::path::Path;
use std::sync::OnceLock;

use super::wal::Span;
use crate::error::{Error, Result};
use crate::facts::{Collation, Facts, Mark, OutsideFile, TablespaceFact, TimelineEnd};
use crate::pg::{self, ClusterState, Control};
use crate::scan::Scan;

/// The facts that pg_control and the WAL tell.
pub(super) fn facts_of(control: &Control, span: &Span, outside: Vec<OutsideFile>) -> Facts {
    let ancestors = span.history.ancestors.iter();
    Facts {
        libc: libc_version(),
        timeline: span.history.timeline,
        history: ancestors
            .map(|(timeline, end)| TimelineEnd {
                timeline: *timeline,
                end_lsn: end.0,
            })
            .collect(),
        start_lsn: span.start.0,
        stop_lsn: span.stop.0,
        outside_files: outside,
        ..Facts::of_control(control)
    }
}

/// What `pg_current_snapshot()` will say when a server is started on a cluster at rest. With
/// prepared transactions, and on a standby, only the server knows.
pub(super) fn mark_at_rest(pgdata: &Path, control: &Control, backup: bool) -> Result<Option<Mark>> {
    let dir = pgdata.join("pg_twophase");
    let prepared = match std::fs::read_dir(&dir) {
        Ok(entries) => entries.count(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(Error::io("read", &dir)(e)),
    };
    let known = !backup && prepared == 0 && control.state == ClusterState::ShutDown;
    let xid = control.next_xid;
    Ok(known.then(|| Mark {
        xids: format!("{xid}:{xid}:"),
        prepared: 0,
        replay_lsn: None,
    }))
}

pub(super) fn tablespace_facts(scan: &Scan) -> Vec<TablespaceFact> {
    let fact = |t: &pg::Tablespace| TablespaceFact {
        oid: t.oid,
        location: t.location.to_string_lossy().into_owned(),
    };
    scan.tablespaces.iter().map(fact).collect()
}

pub(super) fn collation(database: &pg::session::Database) -> Collation {
    let provider = match database.provider {
        'c' => "libc",
        'i' => "icu",
        'b' => "builtin",
        _ => "unknown",
    };
    Collation {
        database: database.name.clone(),
        provider: provider.to_owned(),
        locale: database
            .locale
            .clone()
            .or_else(|| Some(database.collate.clone())),
        version: database.collation_version.clone(),
    }
}

/// `a, "b c"` as a list.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|word| word.trim().trim_matches('"').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// `glibc 2.36`, asked once.
pub(super) fn libc_version() -> Option<String> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    VERSION
        .get_or_init(|| {
            let out = std::process::Command::new("getconf")
                .arg("GNU_LIBC_VERSION")
                .output()
                .ok()?;
            let text = String::from_utf8(out.stdout).ok()?.trim().to_owned();
            (out.status.success() && !text.is_empty()).then_some(text)
        })
        .clone()
}
