//! How a home stands.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use zenith::agent::state::{AgentState, Phase};
use zenith::diff::Unsaved;
use zenith::head::Head;
use zenith::status::{Agent, Server, Status};

use super::size::{plural, size};
use super::time::{age, age_of, interval};

/// Columns that a terminal no wider than most has for a value.
const VALUE_COLUMNS: usize = 80 - 24;

/// The first line says most of it, the others have a name each.
pub fn lines(status: &Status, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("{}, {}", place(status), server(&status.server))];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<20}  {value}"));
    if let Some(tip) = &status.tip {
        let message = if tip.message.is_empty() {
            format!("({})", tip.kind.word())
        } else {
            tip.message.clone()
        };
        row(
            "last snapshot",
            format!("{} ago  {message}", age_of(tip.time.unix_micros, now)),
        );
    }
    if status.guarded {
        row(
            "guarded",
            "as a copy: it neither archives nor replicates (start --primary)".into(),
        );
    }
    row("agent", agent(&status.agent, now));
    if let Agent::Up(state) | Agent::Silent(Some(state)) = &status.agent {
        if let Some(reason) = &state.paused {
            row(
                "PAUSED",
                format!("automatic snapshots are paused: {reason}"),
            );
        }
        if let Some(trouble) = &state.trouble {
            let ago = age(now.as_second() - trouble.time);
            row(
                "last snapshot error",
                format!("{ago} ago: {}", trouble.message),
            );
        }
    }
    if let Some(unsaved) = &status.unsaved {
        row(
            "not yet snapshotted",
            match unsaved {
                Ok(unsaved) => not_snapshotted(unsaved),
                Err(why) => why.clone(),
            },
        );
    }
    row(
        "not yet pushed",
        match (status.unpushed, &status.storage) {
            (0, Some(_)) => "nothing".to_owned(),
            (n, Some(_)) => format!("{}, {}", plural(n, "snapshot"), size(status.unpushed_bytes)),
            (n, None) => format!("{}, there is no storage_dest", plural(n, "snapshot")),
        },
    );
    if let Some(storage) = &status.storage {
        let reachable = match &storage.reachable {
            Ok(time) => format!("reachable ({} ms)", time.as_millis()),
            Err(why) if why.contains("unreachable") => why.clone(),
            Err(why) => format!("unreachable: {why}"),
        };
        let last = match status.push_age() {
            Some(seconds) => format!("last push {} ago", age(seconds)),
            None => "never pushed from here".to_owned(),
        };
        let how = format!("{reachable}, {last}");
        let one = format!("{}, {how}", storage.location);
        match one.chars().count() <= VALUE_COLUMNS {
            true => row("storage", one),
            false => {
                row("storage", storage.location.clone());
                row("", how);
            }
        }
        if let Some(trouble) = &storage.pushes.trouble {
            let ago = age(now.as_second() - trouble.time);
            row("last push error", format!("{ago} ago: {}", trouble.message));
        }
        if let Some(branch) = &storage.pushes.diverged_to {
            row(
                "diverged",
                format!("pushed to {branch}, since the branch moved without us"),
            );
        }
    }
    row(
        "on this machine",
        format!(
            "packs {}, index {}",
            size(status.packs_bytes),
            size(status.index_bytes)
        ),
    );
    if status.left_behind > 0 {
        let left = plural(status.left_behind, "temporary checkout");
        row(
            "left behind",
            format!("{left} of commands that were killed (zenith gc removes them)"),
        );
    }
    lines
}

/// Bytes of WAL that say something where no page changed.
const WAL_PAGE: u64 = 8192;

/// `214 pages in 5 relations, 38 KB of WAL`.
fn not_snapshotted(unsaved: &Unsaved) -> String {
    let pages = match (unsaved.pages, unsaved.relations) {
        (0, _) => String::new(),
        (pages, 0) => format!("{} of catalogs", plural(pages, "page")),
        (pages, n) => format!("{} in {}", plural(pages, "page"), plural(n, "relation")),
    };
    let wal = match unsaved.wal_bytes {
        // An idle server writes a little, too.
        Some(bytes) if bytes >= WAL_PAGE || !pages.is_empty() && bytes > 0 => {
            format!("{} of WAL", size(bytes))
        }
        _ => String::new(),
    };
    let parts: Vec<String> = [pages, wal].into_iter().filter(|p| !p.is_empty()).collect();
    match (unsaved.at_least, parts.is_empty()) {
        (false, true) => "nothing".to_owned(),
        (true, true) => "not known: too much was written to look at all of it".to_owned(),
        (false, false) => parts.join(", "),
        (true, false) => format!("at least {}", parts.join(", ")),
    }
}

fn place(status: &Status) -> String {
    match (&status.head, &status.tip) {
        (Head::Branch(branch), Some(tip)) => format!("{branch} at {}", tip.id.short()),
        (Head::Branch(branch), None) => format!("{branch} without a snapshot"),
        (Head::Detached(id), _) => format!("no branch, at {}", &id[..8]),
    }
}

fn server(server: &Server) -> String {
    match server {
        Server::Up(postmaster) => {
            format!(
                "server up (pid {}, localhost:{})",
                postmaster.pid, postmaster.port
            )
        }
        Server::Down(state) if state == "shut down" => "server down".to_owned(),
        Server::Down(state) => format!("server DOWN, not shut down (its state is `{state}`)"),
        Server::NotStarted => "server down, not started since the checkout".to_owned(),
        Server::Missing => "no cluster (start rebuilds it)".to_owned(),
        Server::Unusable(why) => format!("cluster NOT usable: {why}"),
    }
}

fn agent(agent: &Agent, now: Timestamp) -> String {
    let ago = |state: &AgentState| {
        let last = match (&state.taken, state.unchanged) {
            (Some(taken), Some(unchanged)) => taken.time.max(unchanged),
            (Some(taken), None) => taken.time,
            (None, Some(unchanged)) => unchanged,
            (None, None) => return String::new(),
        };
        format!(", looked {} ago", age(now.as_second() - last))
    };
    match agent {
        Agent::Up(state) => {
            let does = match state.phase {
                Phase::Idle => "idle",
                Phase::WaitingForServer => "waiting for the server",
                Phase::WaitingForHome => "waiting for another command",
                Phase::Snapshot => "taking a snapshot",
                Phase::Thinning => "thinning",
                Phase::Stopping => "stopping",
            };
            let every = interval(state.interval_secs);
            format!("{does} (pid {}), every {every}{}", state.pid, ago(state))
        }
        Agent::Silent(_) => "alive, does not answer".to_owned(),
        Agent::Down(None) => "not running".to_owned(),
        Agent::Down(Some(state)) => format!("not running{}", ago(state)),
    }
}

#[derive(Debug, Serialize)]
pub struct StatusRecord<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    home: &'a Path,
    branch: Option<&'a str>,
    head: Option<String>,
    server: &'static str,
    pid: Option<i32>,
    port: Option<u16>,
    cluster_state: Option<&'a str>,
    guarded: bool,
    agent: &'static str,
    agent_pid: Option<u32>,
    agent_phase: Option<Phase>,
    paused: Option<&'a str>,
    snapshot_error: Option<&'a str>,
    last_snapshot_age_secs: Option<i64>,
    unsaved: Option<UnsavedRecord>,
    unpushed: Unpushed,
    storage: Option<&'a str>,
    reachable: Option<bool>,
    reachable_error: Option<&'a str>,
    last_push_age_secs: Option<i64>,
    push_error: Option<&'a str>,
    packs_bytes: u64,
    index_bytes: u64,
    left_behind: u64,
}

/// What the last snapshot does not hold of the cluster.
#[derive(Debug, Serialize)]
struct UnsavedRecord {
    pages: u64,
    relations: u64,
    wal_bytes: Option<u64>,
    /// Whether not all was looked at.
    at_least: bool,
}

#[derive(Debug, Serialize)]
struct Unpushed {
    snapshots: u64,
    bytes: u64,
}

pub fn record(status: &Status, now: Timestamp) -> StatusRecord<'_> {
    let (server, postmaster, cluster_state) = match &status.server {
        Server::Up(postmaster) => ("up", Some(postmaster), None),
        Server::Down(state) => ("down", None, Some(state.as_str())),
        Server::NotStarted => ("down", None, Some("not started since the checkout")),
        Server::Missing => ("missing", None, None),
        Server::Unusable(why) => ("unusable", None, Some(why.as_str())),
    };
    let (agent, state) = match &status.agent {
        Agent::Up(state) => ("up", Some(state)),
        Agent::Silent(state) => ("silent", state.as_ref()),
        Agent::Down(state) => ("down", state.as_ref()),
    };
    let storage = status.storage.as_ref();
    StatusRecord {
        kind: "status",
        v: 1,
        home: &status.home,
        branch: match &status.head {
            Head::Branch(branch) => Some(branch),
            Head::Detached(_) => None,
        },
        head: match &status.head {
            Head::Branch(_) => status.tip.as_ref().map(|tip| tip.id.to_string()),
            Head::Detached(id) => Some(id.clone()),
        },
        server,
        pid: postmaster.map(|p| p.pid),
        port: postmaster.map(|p| p.port),
        cluster_state,
        guarded: status.guarded,
        agent,
        agent_pid: state.map(|state| state.pid).filter(|_| agent != "down"),
        agent_phase: state.map(|state| state.phase).filter(|_| agent == "up"),
        paused: state.and_then(|state| state.paused.as_deref()),
        snapshot_error: state
            .and_then(|s| s.trouble.as_ref())
            .map(|t| t.message.as_str()),
        last_snapshot_age_secs: status
            .tip
            .as_ref()
            .map(|tip| (now.as_microsecond() - tip.time.unix_micros) / 1_000_000),
        unsaved: match &status.unsaved {
            Some(Ok(unsaved)) => Some(UnsavedRecord {
                pages: unsaved.pages,
                relations: unsaved.relations,
                wal_bytes: unsaved.wal_bytes,
                at_least: unsaved.at_least,
            }),
            _ => None,
        },
        unpushed: Unpushed {
            snapshots: status.unpushed,
            bytes: status.unpushed_bytes,
        },
        storage: storage.map(|s| s.location.as_str()),
        reachable: storage.map(|s| s.reachable.is_ok()),
        reachable_error: storage
            .and_then(|s| s.reachable.as_ref().err())
            .map(String::as_str),
        last_push_age_secs: status.push_age(),
        push_error: storage
            .and_then(|s| s.pushes.trouble.as_ref())
            .map(|t| t.message.as_str()),
        packs_bytes: status.packs_bytes,
        index_bytes: status.index_bytes,
        left_behind: status.left_behind,
    }
}

/// How long ago the last push was, for `--max-age`.
pub fn too_old(seconds: Option<i64>, limit_secs: u64) -> Option<String> {
    match seconds {
        Some(seconds) if seconds as u64 <= limit_secs => None,
        Some(seconds) => Some(format!(
            "last push {} ago, more than {}",
            age(seconds),
            interval(limit_secs)
        )),
        None => Some("never pushed from here".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_snapshotted() {
        let shown = |pages, relations, wal_bytes, at_least| {
            not_snapshotted(&Unsaved {
                pages,
                relations,
                wal_bytes,
                at_least,
            })
        };
        for (said, expected) in [
            (
                shown(214, 5, Some(38_200), false),
                "214 pages in 5 relations, 38 KB of WAL",
            ),
            (shown(1, 1, None, false), "1 page in 1 relation"),
            (
                shown(3, 0, Some(500), false),
                "3 pages of catalogs, 500 B of WAL",
            ),
            (shown(0, 0, Some(500), false), "nothing"),
            (shown(0, 0, Some(16_000_000), false), "16.0 MB of WAL"),
            (
                shown(20_000, 2, None, true),
                "at least 20,000 pages in 2 relations",
            ),
            (
                shown(0, 0, None, true),
                "not known: too much was written to look at all of it",
            ),
        ] {
            assert_eq!(said, expected);
        }
    }
}
