//! What is no cluster to take: half a checkout, a running server, another server than the one that
//! answers.

use std::path::Path;

use zenith_store::World;

use super::SnapshotOptions;
use crate::disk;
use crate::error::{Error, Result};
use crate::pg::{self, Control};

/// A directory that a checkout did not complete is no cluster.
pub(super) fn refuse_unfinished(pgdata: &Path, opts: &SnapshotOptions) -> Result<()> {
    if !pgdata.is_dir() {
        return Err(Error::NoSuchPath {
            path: pgdata.to_owned(),
        });
    }
    if let Some(home) = &opts.home {
        crate::checkout::journal::refuse_pending(home, pgdata)?;
    }
    match crate::marker::Marker::half_made(pgdata)? {
        Some(marker) => Err(Error::CheckoutPending {
            dir: pgdata.to_owned(),
            snapshot: marker.snapshot,
        }),
        None => Ok(()),
    }
}

/// That the server which answers may be the one of this directory: the same system identifier, and
/// started when the directory's postmaster was. A standby or another copy can have both, and its
/// own path tells nothing, as another machine or a container has the same: [`check_same_files`]
/// proves it.
pub(super) fn check_same_server(
    pgdata: &Path,
    server: &pg::session::ServerFacts,
    world: &World,
) -> Result<()> {
    let control = Control::read(pgdata, world)?;
    if control.system_identifier != server.system_identifier {
        let why = format!(
            "its system identifier is {}, that of the directory is {}",
            server.system_identifier, control.system_identifier
        );
        return Err(other(pgdata, &why));
    }
    let theirs = server.postmaster_start_time / 1_000_000;
    match started(pgdata)? {
        Some(ours) if (ours - theirs).abs() <= START_SECS_MAX => Ok(()),
        Some(_) => Err(other(pgdata, "it was started at another time")),
        None => Err(other(pgdata, "the directory has no running server")),
    }
}

/// That the server on which a backup began writes into this directory: the slot of the backup,
/// whose name no other has, is there. Slots are neither replicated nor part of a base backup.
pub(super) fn check_same_files(pgdata: &Path, session: &pg::session::Session) -> Result<()> {
    let slot = pgdata.join("pg_replslot").join(session.slot());
    match std::fs::metadata(&slot) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(other(
            pgdata,
            "it made the replication slot of this backup in another directory",
        )),
        Err(e) => Err(Error::io("stat", &slot)(e)),
    }
}

fn other(pgdata: &Path, why: &str) -> Error {
    Error::OtherServer {
        pgdata: pgdata.to_owned(),
        why: why.to_owned(),
    }
}

/// postmaster.pid and the server note their start one after the other; in between it loads its
/// libraries and sets up its memory.
const START_SECS_MAX: i64 = 60;

/// The third line of postmaster.pid. Its process cannot be asked for: it may live in a container.
fn started(pgdata: &Path) -> Result<Option<i64>> {
    let bytes = disk::read_if_there(&pgdata.join("postmaster.pid"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .nth(2)
        .and_then(|line| line.trim().parse().ok()))
}
