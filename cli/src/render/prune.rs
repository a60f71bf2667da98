//! What `prune` does, and why.

use jiff::Timestamp;
use serde::Serialize;
use zenith::prune::{Judged, Pruned};
use zenith::retain::{Every, Limit, Reason, Rule, Verdict};

use super::size::{count, plural, size};
use super::table::{Align, Table};
use super::time::{age_of, interval, rfc3339};

const DAY: i64 = 86_400;

/// Every snapshot with what becomes of it, title first.
pub fn table(pruned: &Pruned, now: Timestamp) -> Vec<String> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("AGE", Align::Left),
        ("NEW", Align::Right),
        ("MESSAGE", Align::Left),
        ("", Align::Left),
        ("WHY", Align::Left),
    ]);
    for judged in &pruned.judged {
        let row = &judged.row;
        let (fate, why) = match &judged.verdict {
            Verdict::Keep(_) => ("stays", reasons(judged).join(", ")),
            Verdict::Drop => ("goes", "no rule keeps it".to_owned()),
        };
        table.row(vec![
            row.id.short(),
            age_of(row.time.unix_micros, now),
            size(row.new_bytes),
            if row.message.is_empty() {
                format!("({})", row.kind.word())
            } else {
                row.message.lines().next().unwrap_or_default().to_owned()
            },
            fate.to_owned(),
            why,
        ]);
    }
    table.lines()
}

/// How many went, and what became of branches.
pub fn summary(pruned: &Pruned, dry_run: bool) -> Vec<String> {
    let gone = pruned.gone().count() as u64;
    let all = pruned.judged.len() as u64;
    if gone == 0 {
        return vec![format!(
            "nothing to prune: {} stay{}",
            plural(all, "snapshot"),
            if all == 1 { "s" } else { "" }
        )];
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    let mut lines = vec![format!(
        "{verb} {} of {}  ({} came with {})",
        count(gone),
        plural(all, "snapshot"),
        size(pruned.gone().map(|row| row.new_bytes).sum()),
        if gone == 1 { "it" } else { "them" }
    )];
    lines.extend(pruned.moved.iter().map(|(branch, to)| match to {
        Some(to) => format!("  branch {branch} steps back to {}", to.short()),
        None => format!("  branch {branch} goes with its snapshots"),
    }));
    lines
}

/// A remark where tags alone keep snapshots.
pub fn only_tagged(pruned: &Pruned) -> Option<String> {
    let is_tag = |reason: &Reason| matches!(reason, Reason::Ref(name) if name.starts_with("tag/"));
    let tagged = pruned
        .judged
        .iter()
        .filter(|judged| match &judged.verdict {
            Verdict::Keep(reasons) => reasons.iter().all(is_tag),
            Verdict::Drop => false,
        })
        .count() as u64;
    (tagged > 0).then(|| {
        format!(
            "{} only for {} tag; `zenith tag -d NAME` lets one go",
            if tagged == 1 {
                "1 snapshot stays".to_owned()
            } else {
                format!("{} snapshots stay", count(tagged))
            },
            if tagged == 1 { "its" } else { "their" }
        )
    })
}

#[derive(Debug, Serialize)]
pub struct JudgedRecord {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    id: String,
    time: Option<String>,
    new_bytes: u64,
    refs: Vec<String>,
    stays: bool,
    reasons: Vec<String>,
    dry_run: bool,
}

pub fn judged_record(judged: &Judged, dry_run: bool) -> JudgedRecord {
    let row = &judged.row;
    JudgedRecord {
        kind: "snapshot_judged",
        v: 1,
        id: row.id.to_string(),
        time: rfc3339(row.time.unix_micros, row.time.offset_secs),
        new_bytes: row.new_bytes,
        refs: judged.refs.clone(),
        stays: !judged.goes(),
        reasons: reasons(judged),
        dry_run,
    }
}

#[derive(Debug, Serialize)]
pub struct PrunedRecord {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    deleted: u64,
    kept: u64,
    /// Stored bytes that came with what is deleted; a collection frees what nothing else needs.
    new_bytes: u64,
    branches: Vec<Moved>,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Moved {
    branch: String,
    to: Option<String>,
}

pub fn pruned_record(pruned: &Pruned, dry_run: bool) -> PrunedRecord {
    let deleted = pruned.gone().count() as u64;
    let moved = pruned.moved.iter().map(|(branch, to)| Moved {
        branch: branch.clone(),
        to: to.map(|id| id.to_string()),
    });
    PrunedRecord {
        kind: "pruned",
        v: 1,
        deleted,
        kept: pruned.judged.len() as u64 - deleted,
        new_bytes: pruned.gone().map(|row| row.new_bytes).sum(),
        branches: moved.collect(),
        dry_run,
    }
}

/// Why a snapshot stays, in words.
fn reasons(judged: &Judged) -> Vec<String> {
    match &judged.verdict {
        Verdict::Keep(reasons) => reasons.iter().map(words).collect(),
        Verdict::Drop => vec![],
    }
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::Rule(rule) => flag(rule),
        Reason::Tag(tag) => format!("--keep-tag: tag {tag}"),
        Reason::Branch(branch) => format!("branch {branch} has it too"),
        Reason::Kind(kind) => format!("({})", kind.word()),
        Reason::Ref(name) => match name.split_once('/') {
            Some(("branch", branch)) => format!("tip of {branch}"),
            Some(("tag", tag)) => format!("tag {tag}"),
            Some(("homes", id)) => format!("home {} builds on it", short(id)),
            Some(("pins", pin)) => format!("a reader is at it ({pin})"),
            Some(("remote", branch)) => format!("{branch} is known to be there"),
            Some(("undo", _)) => "undo brings it back".to_owned(),
            _ => format!("{name} needs it"),
        },
    }
}

/// The first digits of a home's id, as many as of a snapshot's.
fn short(home: &str) -> &str {
    home.get(..8).unwrap_or(home)
}

/// A rule as it was typed.
fn flag(rule: &Rule) -> String {
    let name = match (rule.every, rule.limit) {
        (_, Limit::Age(_)) => "within",
        (Every::Snapshot, _) => "last",
        (Every::Hour, _) => "hourly",
        (Every::Day, _) => "daily",
        (Every::Week, _) => "weekly",
        (Every::Month, _) => "monthly",
        (Every::Year, _) => "yearly",
    };
    match rule.limit {
        Limit::Count(count) => format!("--keep-{name} {count}"),
        Limit::Age(age) if age % DAY == 0 => format!("--keep-{name} {}d", age / DAY),
        Limit::Age(age) => format!(
            "--keep-{name} {}",
            interval(age.unsigned_abs()).replace(' ', "")
        ),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use zenith::store::{Row, SnapshotId, SnapshotKind, Time, TreeId};

    use super::*;

    fn judged(n: u8, message: &str, verdict: Verdict) -> Judged {
        Judged {
            row: Row {
                serial: u64::from(n),
                id: SnapshotId([n; 32]),
                tree: TreeId([0; 32]),
                parents: vec![],
                time: Time {
                    unix_micros: -i64::from(n) * 3_600_000_000,
                    offset_secs: 0,
                },
                kind: SnapshotKind::Automatic,
                message: message.into(),
                size: 1_000_000_000,
                new_bytes: 1_300_000 * u64::from(n),
                summary: vec![],
                usage: [].into(),
                made_from: None,
                line: None,
            },
            refs: vec![],
            verdict,
        }
    }

    fn pruned() -> Pruned {
        let rule = |every, limit| Reason::Rule(Rule { every, limit });
        let name = |name: &str| Reason::Ref(name.into());
        Pruned {
            judged: vec![
                judged(
                    1,
                    "before migration 42",
                    Verdict::Keep(vec![
                        rule(Every::Snapshot, Limit::Age(2 * DAY)),
                        rule(Every::Hour, Limit::Count(24)),
                        name("HEAD"),
                        name("branch/main"),
                    ]),
                ),
                judged(2, "", Verdict::Drop),
                judged(
                    3,
                    "",
                    Verdict::Keep(vec![
                        name("homes/0a1b2c3d4e5f"),
                        name("remote/origin/main"),
                        Reason::Branch("side".into()),
                    ]),
                ),
                judged(4, "", Verdict::Keep(vec![name("tag/v1"), name("tag/v2")])),
                judged(
                    5,
                    "",
                    Verdict::Keep(vec![
                        Reason::Tag("w1".into()),
                        rule(Every::Snapshot, Limit::Age(5_400)),
                    ]),
                ),
                judged(6, "", Verdict::Drop),
            ],
            moved: vec![
                ("old".into(), Some(SnapshotId([4; 32]))),
                ("older".into(), None),
            ],
        }
    }

    #[test]
    fn every_reason_is_said() {
        let pruned = pruned();
        assert_snapshot!(table(&pruned, Timestamp::UNIX_EPOCH).join("\n"), @r"
        ID        AGE     NEW  MESSAGE                     WHY
        01010101  1 h  1.3 MB  before migration 42  stays  --keep-within 2d, --keep-hourly 24, HEAD needs it, tip of main
        02020202  2 h  2.6 MB  (automatic)          goes   no rule keeps it
        03030303  3 h  3.9 MB  (automatic)          stays  home 0a1b2c3d builds on it, origin/main is known to be there, branch side has it too
        04040404  4 h  5.2 MB  (automatic)          stays  tag v1, tag v2
        05050505  5 h  6.5 MB  (automatic)          stays  --keep-tag: tag w1, --keep-within 1h30m
        06060606  6 h  7.8 MB  (automatic)          goes   no rule keeps it
        ");
        assert_snapshot!(summary(&pruned, true).join("\n"), @r"
        would delete 2 of 6 snapshots  (10.4 MB came with them)
          branch old steps back to 04040404
          branch older goes with its snapshots
        ");
        assert_snapshot!(only_tagged(&pruned).unwrap(), @"1 snapshot stays only for its tag; `zenith tag -d NAME` lets one go");
        let record = serde_json::to_string(&judged_record(&pruned.judged[0], true)).unwrap();
        assert_snapshot!(record, @r#"{"type":"snapshot_judged","v":1,"id":"0101010101010101010101010101010101010101010101010101010101010101","time":"1969-12-31T23:00:00.000000+00:00","new_bytes":1300000,"refs":[],"stays":true,"reasons":["--keep-within 2d","--keep-hourly 24","HEAD needs it","tip of main"],"dry_run":true}"#);
        let record = serde_json::to_string(&pruned_record(&pruned, false)).unwrap();
        assert_snapshot!(record, @r#"{"type":"pruned","v":1,"deleted":2,"kept":4,"new_bytes":10400000,"branches":[{"branch":"old","to":"0404040404040404040404040404040404040404040404040404040404040404"},{"branch":"older","to":null}],"dry_run":false}"#);
    }

    #[test]
    fn nothing_to_do() {
        let pruned = Pruned {
            judged: vec![pruned().judged.remove(0)],
            moved: vec![],
        };
        assert_snapshot!(summary(&pruned, false).join("\n"), @"nothing to prune: 1 snapshot stays");
        assert_eq!(only_tagged(&pruned), None);
    }
}
