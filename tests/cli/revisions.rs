//! Snapshots by time and by LSN; src/revision.rs tests what else names one.

use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use zenith::store::SnapshotId;

use crate::made_up::MadeUp;

/// `main` with three snapshots, three days, three hours and one hour old, and their ends.
fn aged() -> (MadeUp, [SnapshotId; 3]) {
    let m = MadeUp::new();
    let ids = [
        ("one", 90, 0x10),
        ("two", 3, 0x2000),
        ("three", 1, 0x1_0000_0030),
    ]
    .map(|(message, hours, lsn)| m.snapshot_to(message, hours, lsn));
    (m, ids)
}

/// Which snapshot a revision names, or with which code it is refused.
fn named(m: &MadeUp, revision: &str) -> Result<String, i32> {
    let mut command = m.zenith.command("--json snapshot show");
    let output = command.arg(revision).output().unwrap();
    if !output.status.success() {
        return Err(output.status.code().unwrap());
    }
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(record["id"].as_str().unwrap().to_owned())
}

#[test]
fn the_newest_that_is_as_old() {
    let (m, [one, two, three]) = aged();
    let ago = |hours: i64| Timestamp::now() - hours.hours();
    let utc = |hours: i64| ago(hours).strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    for (revision, id) in [
        ("main@{now}".to_owned(), three),
        ("main@{an hour ago}".to_owned(), three),
        ("main@{2 hours ago}".to_owned(), two),
        ("@{4h ago}".to_owned(), one),
        ("HEAD@{yesterday}".to_owned(), one),
        (format!("main@{{{}}}", utc(1)), three),
        (format!("main@{{{}}}", utc(3)), two),
        (format!("main~1@{{{}}}", utc(5)), one),
    ] {
        assert_eq!(named(&m, &revision), Ok(id.to_string()), "{revision}");
    }
    assert_eq!(named(&m, "main@{5 days ago}"), Err(1));
    assert_eq!(named(&m, "main@{2 hours}"), Err(1));
}

#[test]
fn the_newest_that_ends_by_an_lsn() {
    let (m, [one, two, three]) = aged();
    for (revision, id) in [
        ("main@{1/30}", three),
        ("main@{1/2F}", two),
        ("@{0/2000}", two),
        ("main@{0/1FFF}", one),
        ("main@{0/10}", one),
    ] {
        assert_eq!(named(&m, revision), Ok(id.to_string()), "{revision}");
    }
    assert_eq!(named(&m, "main@{0/F}"), Err(1));
}
