//! Snapshots: one that was taken, a list, everything about one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use zenith::facts::{Damage, DamagedPage, Facts, Summary};
use zenith::pg::Lsn;
use zenith::snapshot::SnapshotReport;
use zenith::store::{Row, Snapshot, SnapshotId, State};

use super::glyphs::Glyphs;
use super::size::{count, percent, size};
use super::table::{Align, Table};
use super::time::{age_of, moment, rfc3339, took};

/// Column where the branch stands after a result.
const BRANCH_COLUMN: usize = 64;
/// Damaged pages of a snapshot that are shown without being asked for more.
const DAMAGED_SHOWN: usize = 3;

/// `snapshot a41c9e2f  2.37 GB, 3.9 MB new (0.2 %), 1.1 s                     main`
pub fn taken(report: &SnapshotReport, branch: &str, duration: Duration) -> String {
    let left = if report.unchanged {
        format!("nothing changed since snapshot {}", report.id.short())
    } else {
        let share = percent(report.new_bytes, report.size)
            .filter(|_| report.new_bytes < report.size)
            .map(|share| format!(" ({share})"));
        format!(
            "snapshot {}  {}, {} new{}, {}",
            report.id.short(),
            size(report.size),
            size(report.new_bytes),
            share.unwrap_or_default(),
            took(duration)
        )
    };
    format!("{left:<BRANCH_COLUMN$} {branch}")
}

/// What a forced checkout discarded.
pub fn discarded(taken: &zenith::take::Taken) -> String {
    let id = taken.report.id.short();
    format!(
        "discarded what no snapshot held: {id} keeps it for a day, `zenith undo` brings it back"
    )
}

#[derive(Debug, Serialize)]
pub struct TakenRecord<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    id: String,
    branch: &'a str,
    unchanged: bool,
    size: u64,
    new_bytes: u64,
    read_bytes: u64,
    files: u64,
    lsn: String,
    millis: u64,
    damaged_pages: u64,
    warnings: &'a [String],
}

pub fn taken_record<'a>(
    report: &'a SnapshotReport,
    branch: &'a str,
    duration: Duration,
) -> TakenRecord<'a> {
    TakenRecord {
        kind: "snapshot_taken",
        v: 1,
        id: report.id.to_string(),
        branch,
        unchanged: report.unchanged,
        size: report.size,
        new_bytes: report.new_bytes,
        read_bytes: report.read_bytes,
        files: report.files,
        lsn: report.lsn.to_string(),
        millis: duration.as_millis() as u64,
        damaged_pages: report.damaged_pages,
        warnings: &report.warnings,
    }
}

/// One snapshot of a list, as it is shown and as JSON.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(rename = "type")]
    kind_of_record: &'static str,
    v: u32,
    pub id: String,
    /// Where the home stands.
    pub head: bool,
    pub time: Option<String>,
    #[serde(skip)]
    pub unix_micros: i64,
    pub lsn: Option<String>,
    pub timeline: Option<u32>,
    pub size: u64,
    pub new_bytes: u64,
    pub refs: Vec<String>,
    pub kind: &'static str,
    pub message: String,
    pub parents: Vec<String>,
    /// Whether the storage is known to have it.
    pub pushed: bool,
}

impl Listed {
    /// The same as an entry of a log.
    pub fn of_log(mut self) -> Self {
        self.kind_of_record = "log_entry";
        self
    }
}

/// Rows in the order given; `head` is where the home stands, `unpushed` what is local only.
/// `remotes`: also names of what a storage is known to have.
pub fn listed<'a>(
    rows: impl Iterator<Item = &'a Row>,
    state: &State,
    head: Option<SnapshotId>,
    unpushed: &BTreeSet<SnapshotId>,
    remotes: bool,
) -> Vec<Listed> {
    let mut refs: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    for (name, id) in state.refs() {
        let remote = name.strip_prefix("remote/").filter(|_| remotes);
        if let Some(shown) = ref_name(name).or_else(|| remote.map(str::to_owned)) {
            refs.entry(*id).or_default().push(shown);
        }
    }
    rows.map(|row| {
        let summary = Summary::decode(&row.summary, &row.id).ok();
        Listed {
            kind_of_record: "snapshot",
            v: 1,
            id: row.id.to_string(),
            head: head == Some(row.id),
            time: rfc3339(row.time.unix_micros, row.time.offset_secs),
            unix_micros: row.time.unix_micros,
            lsn: summary.as_ref().map(|s| Lsn(s.stop_lsn).to_string()),
            timeline: summary.as_ref().map(|s| s.timeline),
            size: row.size,
            new_bytes: row.new_bytes,
            refs: refs.get(&row.id).cloned().unwrap_or_default(),
            kind: row.kind.word(),
            message: row.message.clone(),
            parents: row.parents.iter().map(ToString::to_string).collect(),
            pushed: !unpushed.contains(&row.id),
        }
    })
    .collect()
}

/// Names that people gave; what a storage is known to have is said in the last line.
fn ref_name(full: &str) -> Option<String> {
    full.strip_prefix("branch/")
        .or_else(|| full.strip_prefix("tag/"))
        .or_else(|| full.strip_prefix("undo/").map(|_| "(undo)"))
        .map(str::to_owned)
}

/// The table, title first. The first column is the mark of HEAD.
pub fn list(listed: &[Listed], now: Timestamp, glyphs: Glyphs) -> Vec<String> {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("ID", Align::Left),
        ("AGE", Align::Left),
        ("LSN", Align::Left),
        ("SIZE", Align::Right),
        ("NEW", Align::Right),
        ("REFS", Align::Left),
        ("MESSAGE", Align::Left),
    ]);
    for one in listed {
        table.row(vec![
            glyphs.mark(one.head),
            one.id[..8].to_owned(),
            age_of(one.unix_micros, now),
            one.lsn.clone().unwrap_or_else(|| "-".to_owned()),
            size(one.size),
            size(one.new_bytes),
            one.refs.join(", "),
            if one.message.is_empty() {
                format!("({})", one.kind)
            } else {
                one.message.lines().next().unwrap_or_default().to_owned()
            },
        ]);
    }
    // One space after the mark is enough.
    table
        .lines()
        .iter()
        .map(|line| line.replacen("  ", " ", 1))
        .collect()
}

/// Everything about one snapshot.
pub struct Shown<'a> {
    pub id: SnapshotId,
    pub row: Option<&'a Row>,
    pub snapshot: &'a Snapshot,
    pub facts: &'a Facts,
    pub refs: Vec<String>,
    pub pushed: Option<bool>,
}

impl Shown<'_> {
    /// Lines of `name  value`.
    pub fn lines(&self, now: Timestamp, verbose: bool) -> Vec<String> {
        let (snapshot, facts) = (self.snapshot, self.facts);
        let time = snapshot.time;
        let mut rows: Vec<(&str, String)> = vec![("snapshot", self.id.to_string())];
        if !self.refs.is_empty() {
            rows.push(("refs", self.refs.join(", ")));
        }
        if !snapshot.message.is_empty() {
            rows.push((
                "message",
                snapshot.message.replace('\n', "\n                 "),
            ));
        }
        rows.push((
            "taken",
            format!(
                "{} ({} ago) on {}",
                moment(time.unix_micros, time.offset_secs),
                age_of(time.unix_micros, now),
                snapshot.host
            ),
        ));
        rows.push((
            "kind",
            format!("{}, {}", snapshot.kind.word(), snapshot.source.word()),
        ));
        let parents: Vec<String> = snapshot.parents.iter().map(SnapshotId::short).collect();
        rows.push((
            "parents",
            if parents.is_empty() {
                "none".into()
            } else {
                parents.join(", ")
            },
        ));
        let new = self
            .row
            .map(|row| format!(", {} new", size(row.new_bytes)))
            .unwrap_or_default();
        rows.push((
            "size",
            format!(
                "{} in {} files{new}",
                size(snapshot.size),
                count(snapshot.files)
            ),
        ));
        if facts.wal_bytes > 0 {
            rows.push(("wal inside", size(facts.wal_bytes)));
        }
        if let Some(pushed) = self.pushed {
            rows.push(("pushed", if pushed { "yes" } else { "no" }.to_owned()));
        }
        rows.push(("tree", snapshot.tree.to_string()));
        let version = facts
            .server_version
            .clone()
            .unwrap_or_else(|| facts.major.to_string());
        rows.push((
            "postgresql",
            format!("{version}, catalog {}", facts.catalog_version),
        ));
        rows.push(("system", facts.system_identifier.to_string()));
        rows.push(("lineage", facts.lineage.to_string()));
        rows.push((
            "lsn",
            format!(
                "{} to {}, timeline {}",
                Lsn(facts.start_lsn),
                Lsn(facts.stop_lsn),
                facts.timeline
            ),
        ));
        rows.push(("state", facts.cluster_state.clone()));
        let checksums = if facts.checksum_version == 0 {
            "off"
        } else {
            "on"
        };
        rows.push(("checksums", checksums.to_owned()));
        if let Some(damage) = &facts.damage {
            rows.extend(damaged(damage, verbose).map(|line| ("damaged", line)));
        }
        let libc = facts
            .libc
            .as_deref()
            .map(|libc| format!(", {libc}"))
            .unwrap_or_default();
        rows.push(("machine", format!("{}{libc}", facts.architecture)));
        for tablespace in &facts.tablespaces {
            rows.push((
                "tablespace",
                format!("{} at {}", tablespace.oid, tablespace.location),
            ));
        }
        if !facts.preload_libraries.is_empty() {
            rows.push(("preloads", facts.preload_libraries.join(", ")));
        }
        for file in &facts.outside_files {
            rows.push(("outside file", file.path.clone()));
        }
        rows.push(("tool", format!("zenith {}", snapshot.tool)));
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for left in &facts.left_out {
            reasons.entry(&left.reason).or_default().push(&left.path);
        }
        for (reason, paths) in reasons {
            let shown = if verbose || paths.len() <= 3 {
                paths.join(", ")
            } else {
                format!("{} and {} more", paths[..2].join(", "), paths.len() - 2)
            };
            rows.push(("left out", format!("{shown}: {reason}")));
        }
        rows.into_iter()
            .map(|(name, value)| format!("{name:<13} {value}"))
            .collect()
    }

    pub fn record(&self) -> ShownRecord<'_> {
        let (snapshot, facts) = (self.snapshot, self.facts);
        ShownRecord {
            kind_of_record: "snapshot_shown",
            v: 1,
            id: self.id.to_string(),
            tree: snapshot.tree.to_string(),
            parents: snapshot.parents.iter().map(ToString::to_string).collect(),
            refs: &self.refs,
            message: &snapshot.message,
            time: rfc3339(snapshot.time.unix_micros, snapshot.time.offset_secs),
            host: &snapshot.host,
            kind: snapshot.kind.word(),
            source: snapshot.source.word(),
            tool: &snapshot.tool,
            files: snapshot.files,
            size: snapshot.size,
            new_bytes: self.row.map(|row| row.new_bytes),
            wal_bytes: facts.wal_bytes,
            pushed: self.pushed,
            system_identifier: facts.system_identifier.to_string(),
            lineage: facts.lineage.to_string(),
            major: facts.major,
            server_version: facts.server_version.as_deref(),
            timeline: facts.timeline,
            start_lsn: Lsn(facts.start_lsn).to_string(),
            stop_lsn: Lsn(facts.stop_lsn).to_string(),
            cluster_state: &facts.cluster_state,
            checksums: facts.checksum_version != 0,
            damaged_pages: facts.damage.as_ref().map_or(0, Damage::count),
            damaged: facts
                .damage
                .iter()
                .flat_map(|damage| &damage.pages)
                .map(|page| Damaged {
                    path: &page.path,
                    block: page.block,
                    stored: page.stored,
                    computed: page.computed,
                })
                .collect(),
            tablespaces: facts
                .tablespaces
                .iter()
                .map(|t| Tablespace {
                    oid: t.oid,
                    location: &t.location,
                })
                .collect(),
            left_out: facts
                .left_out
                .iter()
                .map(|l| LeftOut {
                    path: &l.path,
                    reason: &l.reason,
                })
                .collect(),
        }
    }
}

/// A line for each of the first damaged pages, and one for the rest.
fn damaged(damage: &Damage, verbose: bool) -> impl Iterator<Item = String> + '_ {
    let shown = if verbose { usize::MAX } else { DAMAGED_SHOWN };
    let more = damage.count() - damage.pages.len().min(shown) as u64;
    let line = |page: &DamagedPage| {
        let DamagedPage { path, block, .. } = page;
        if page.stored == page.computed {
            return format!("page {block} of {path}: its header");
        }
        let (stored, computed) = (page.stored, page.computed);
        format!("page {block} of {path}: checksum {stored:#06x}, content {computed:#06x}")
    };
    let rest = (more > 0).then(|| format!("{more} more"));
    damage.pages.iter().take(shown).map(line).chain(rest)
}

#[derive(Debug, Serialize)]
pub struct ShownRecord<'a> {
    #[serde(rename = "type")]
    kind_of_record: &'static str,
    v: u32,
    id: String,
    tree: String,
    parents: Vec<String>,
    refs: &'a [String],
    message: &'a str,
    time: Option<String>,
    host: &'a str,
    kind: &'static str,
    source: &'static str,
    tool: &'a str,
    files: u64,
    size: u64,
    new_bytes: Option<u64>,
    wal_bytes: u64,
    pushed: Option<bool>,
    /// A string, since JSON numbers lose digits.
    system_identifier: String,
    lineage: String,
    major: u32,
    server_version: Option<&'a str>,
    timeline: u32,
    start_lsn: String,
    stop_lsn: String,
    cluster_state: &'a str,
    checksums: bool,
    damaged_pages: u64,
    /// The first of them.
    damaged: Vec<Damaged<'a>>,
    tablespaces: Vec<Tablespace<'a>>,
    left_out: Vec<LeftOut<'a>>,
}

#[derive(Debug, Serialize)]
struct Tablespace<'a> {
    oid: u32,
    location: &'a str,
}

#[derive(Debug, Serialize)]
struct Damaged<'a> {
    path: &'a str,
    block: u64,
    stored: u16,
    computed: u16,
}

#[derive(Debug, Serialize)]
struct LeftOut<'a> {
    path: &'a str,
    reason: &'a str,
}
