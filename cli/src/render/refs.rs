//! Branches, tags and homes, as lists and as JSON.

use jiff::Timestamp;
use serde::Serialize;
use zenith::store::{SnapshotId, State};

use super::glyphs::Glyphs;
use super::table::{Align, Table};
use super::time::{age_of, rfc3339};

/// One name of a list.
#[derive(Debug, Serialize)]
pub struct Listed {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    pub name: String,
    /// Whether the home stands on it.
    pub head: bool,
    /// Nothing for a branch without a snapshot.
    pub id: Option<String>,
    pub time: Option<String>,
    #[serde(skip)]
    unix_micros: Option<i64>,
    pub message: Option<String>,
}

/// `kind` is the word of the record; `id` is looked up in `state`, which need not have it.
pub fn listed(
    kind: &'static str,
    name: String,
    head: bool,
    id: Option<SnapshotId>,
    state: &State,
) -> Listed {
    let row = id.and_then(|id| state.snapshot(&id));
    Listed {
        kind,
        v: 1,
        name,
        head,
        id: id.map(|id| id.to_string()),
        time: row.and_then(|row| rfc3339(row.time.unix_micros, row.time.offset_secs)),
        unix_micros: row.map(|row| row.time.unix_micros),
        message: row.map(|row| {
            if row.message.is_empty() {
                format!("({})", row.kind.word())
            } else {
                row.message.clone()
            }
        }),
    }
}

/// The table, title first. The first column is the mark of HEAD.
pub fn table(
    title: &'static str,
    listed: &[Listed],
    now: Timestamp,
    glyphs: Glyphs,
) -> Vec<String> {
    let mut table = Table::new(&[
        ("", Align::Left),
        (title, Align::Left),
        ("ID", Align::Left),
        ("AGE", Align::Left),
        ("MESSAGE", Align::Left),
    ]);
    for one in listed {
        let dash = || "-".to_owned();
        let missing = match one.id {
            Some(_) => "(not here)",
            None => "(no snapshot yet)",
        };
        table.row(vec![
            glyphs.mark(one.head),
            one.name.clone(),
            one.id.as_ref().map_or_else(dash, |id| id[..8].to_owned()),
            one.unix_micros.map_or_else(dash, |at| age_of(at, now)),
            one.message
                .as_ref()
                .and_then(|message| message.lines().next())
                .unwrap_or(missing)
                .to_owned(),
        ]);
    }
    // One space after the mark is enough, and none where nothing is marked.
    let after = if listed.iter().any(|one| one.head) {
        " "
    } else {
        ""
    };
    let lines = table.lines();
    lines.iter().map(|l| l.replacen("  ", after, 1)).collect()
}
