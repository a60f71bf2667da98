//! What is no cluster to take: half a checkout, a running server, another server than the one that
//! answers.

use std::os::unix::fs::MetadataExt;
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

pub(super) fn refuse_running(pgdata: &Path) -> Result<()> {
    match pg::server::postmaster(pgdata)? {
        Some(postmaster) => Err(Error::ServerRunning {
            pgdata: pgdata.to_owned(),
            pid: postmaster.pid,
        }),
        None => Ok(()),
    }
}

/// That the server which answers is the one of this directory: the same system identifier, and
/// started when the directory's postmaster was. (Its own path may differ, in a container.)
pub(super) fn check_same_server(
    pgdata: &Path,
    server: &pg::session::ServerFacts,
    world: &World,
) -> Result<()> {
    let other = |why: String| Error::OtherServer {
        pgdata: pgdata.to_owned(),
        why,
    };
    let control = Control::read(pgdata, world)?;
    if control.system_identifier != server.system_identifier {
        return Err(other(format!(
            "its system identifier is {}, that of the directory is {}",
            server.system_identifier, control.system_identifier
        )));
    }
    let same_dir = |a: &Path, b: &Path| {
        let id = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        id(a).is_some() && id(a) == id(b)
    };
    if same_dir(pgdata, &server.data_directory) {
        return Ok(());
    }
    let started = started(pgdata)?;
    let theirs = server.postmaster_start_time / 1_000_000;
    match started {
        Some(ours) if (ours - theirs).abs() <= START_SECS_MAX => Ok(()),
        Some(_) => Err(other("it was started at another time".to_owned())),
        None => Err(other("the directory has no running server".to_owned())),
    }
}

/// postmaster.pid and the server note their start one after the other.
const START_SECS_MAX: i64 = 5;

/// The third line of postmaster.pid. Its process cannot be asked for: it may live in a container.
fn started(pgdata: &Path) -> Result<Option<i64>> {
    let bytes = disk::read_if_there(&pgdata.join("postmaster.pid"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .nth(2)
        .and_then(|line| line.trim().parse().ok()))
}
