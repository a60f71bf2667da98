//! What a fetch or a pull did.

use std::time::Duration;

use serde_json::{Value, json};
use zenith::fetch::{FetchReport, Fetched, PullOptions, Pulled};
use zenith::sync::Relation;

use super::glyphs::Glyphs;
use super::size::{plural, size};
use super::time::took;

/// One line for all, then one per name that changed.
pub fn lines(
    report: &FetchReport,
    remote: &str,
    location: &str,
    dry_run: bool,
    duration: Duration,
    glyphs: Glyphs,
) -> Vec<String> {
    if report.is_up_to_date() {
        return vec![format!("nothing new at {location}")];
    }
    let mut lines = vec![if dry_run {
        format!(
            "would fetch {} from {location}",
            plural(report.snapshots, "snapshot")
        )
    } else {
        format!(
            "fetched {} from {location}  {}{}",
            plural(report.snapshots, "snapshot"),
            match report.packs {
                0 => String::new(),
                packs => format!("{} in {}, ", size(report.bytes), plural(packs, "pack")),
            },
            took(duration)
        )
    }];
    lines.extend(changed(report, remote, glyphs));
    lines
}

/// A line for each name that changed.
pub fn changed(report: &FetchReport, remote: &str, glyphs: Glyphs) -> Vec<String> {
    let mut lines: Vec<String> = report
        .branches
        .iter()
        .filter_map(|branch| line(branch, remote, glyphs))
        .collect();
    for (tag, id) in &report.tags {
        lines.push(format!("  {tag}  {}  new tag", id.short()));
    }
    for branch in &report.pruned {
        lines.push(format!("  {remote}/{branch}  gone, forgotten"));
    }
    lines
}

fn line(branch: &Fetched, remote: &str, glyphs: Glyphs) -> Option<String> {
    let name = format!("{remote}/{}", branch.branch);
    match branch.from {
        Some(from) if from == branch.to => None,
        Some(from) => Some(format!(
            "  {name}  {} {} {}{}",
            from.short(),
            glyphs.arrow(),
            branch.to.short(),
            if branch.forced {
                "  not a descendant"
            } else {
                ""
            }
        )),
        None => Some(format!("  {name}  {}  new", branch.to.short())),
    }
}

/// What a person may want to do now.
pub fn next(report: &FetchReport, remote: &str) -> Option<String> {
    let behind = report
        .branches
        .iter()
        .find(|b| matches!(b.local, Some((_, Relation::Behind))));
    if let Some(branch) = behind {
        return Some(format!(
            "{0} is behind {remote}/{0}: `zenith pull` moves the branch that is checked out",
            branch.branch
        ));
    }
    (report.left > 0 && report.snapshots > 0).then(|| {
        format!(
            "{} of these branches stay there; --depth 0 brings them",
            plural(report.left, "older snapshot")
        )
    })
}

/// One record per branch, tag and forgotten branch, then one for all.
pub fn records(report: &FetchReport, remote: &str, location: &str, dry_run: bool) -> Vec<Value> {
    let mut records: Vec<Value> = Vec::new();
    for branch in &report.branches {
        records.push(json!({
            "type": "fetched_branch", "v": 1,
            "remote": remote,
            "branch": branch.branch,
            "from": branch.from.map(|id| id.to_string()),
            "to": branch.to.to_string(),
            "forced": branch.forced,
            "local": branch.local.map(|(id, _)| id.to_string()),
            "relation": branch.local.map_or("new", |(_, relation)| relation_word(relation)),
        }));
    }
    for (tag, id) in &report.tags {
        records.push(json!({
            "type": "fetched_tag", "v": 1, "tag": tag, "id": id.to_string(),
        }));
    }
    records.push(json!({
        "type": "fetch", "v": 1,
        "remote": remote,
        "location": location,
        "dry_run": dry_run,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "bytes": report.bytes,
        "left": report.left,
        "pruned": report.pruned,
        "tags_kept": report.tags_kept,
    }));
    records
}

/// How a local branch stands to that of a remote.
pub fn relation_word(relation: Relation) -> &'static str {
    match relation {
        Relation::New => "new",
        Relation::Same => "same",
        Relation::Ahead => "ahead",
        Relation::Behind => "behind",
        Relation::Diverged => "diverged",
    }
}

/// One or two lines.
pub fn pull_lines(
    report: &FetchReport,
    pulled: &Pulled,
    options: &PullOptions,
    location: &str,
    duration: Duration,
    glyphs: Glyphs,
) -> Vec<String> {
    let branch = &options.branch;
    match pulled {
        Pulled::UpToDate { tip } => vec![format!(
            "{branch} is up to date with {location} at {}",
            tip.short()
        )],
        Pulled::Ahead { theirs, .. } => vec![format!(
            "{branch} is ahead of {location} at {}: nothing to pull",
            theirs.short()
        )],
        Pulled::Moved { from, to, .. } if options.dry_run => vec![format!(
            "would move {branch} {}, {} to fetch from {location}",
            step(*from, *to, glyphs),
            plural(report.snapshots, "snapshot")
        )],
        Pulled::Moved { from, to, switched } => {
            let mut lines = Vec::new();
            let saved = switched
                .as_ref()
                .and_then(|switched| switched.saved.as_ref());
            if let Some(saved) = saved {
                lines.push(format!(
                    "saved what no snapshot held as {}  (on {})",
                    saved.report.id.short(),
                    saved.branch
                ));
            }
            let discarded = switched
                .as_ref()
                .and_then(|switched| switched.discarded.as_ref());
            lines.extend(discarded.map(super::snapshot::discarded));
            let with = match switched {
                Some(switched) => format!(
                    "  with its cluster ({} written)",
                    size(switched.report.written_bytes)
                ),
                None => String::new(),
            };
            lines.push(format!(
                "{branch} moved {}{with}  {}{}",
                step(*from, *to, glyphs),
                match report.bytes {
                    0 => String::new(),
                    bytes => format!("{} fetched, ", size(bytes)),
                },
                took(duration)
            ));
            lines
        }
    }
}

fn step(
    from: Option<zenith::store::SnapshotId>,
    to: zenith::store::SnapshotId,
    glyphs: Glyphs,
) -> String {
    match from {
        Some(from) => format!("{} {} {}", from.short(), glyphs.arrow(), to.short()),
        None => format!("to {}", to.short()),
    }
}

pub fn pull_record(
    report: &FetchReport,
    pulled: &Pulled,
    options: &PullOptions,
    location: &str,
) -> Value {
    let (outcome, from, to, switched) = match pulled {
        Pulled::UpToDate { tip } => ("up_to_date", Some(tip), tip, None),
        Pulled::Ahead { ours, theirs } => ("ahead", Some(ours), theirs, None),
        Pulled::Moved { from, to, switched } => ("moved", from.as_ref(), to, switched.as_ref()),
    };
    let saved = switched.and_then(|s| s.saved.as_ref());
    let discarded = switched.and_then(|s| s.discarded.as_ref());
    json!({
        "type": "pull", "v": 1,
        "outcome": outcome,
        "remote": options.remote,
        "location": location,
        "branch": options.branch,
        "dry_run": options.dry_run,
        "from": from.map(ToString::to_string),
        "to": to.to_string(),
        "saved": saved.map(|taken| taken.report.id.to_string()),
        "discarded": discarded.map(|taken| taken.report.id.to_string()),
        "snapshots": report.snapshots,
        "bytes": report.bytes,
    })
}
