//! A log: one snapshot a line, what it goes on from beside it.

use jiff::Timestamp;
use serde::Serialize;
use zenith::log::Entry;

use super::graph::{Glyphs, Graph};
use super::size::size;
use super::snapshot::Listed;
use super::table::{Align, Table};
use super::time::age_of;

/// How much is said of each snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Its id, names and message.
    Short,
    /// That, and its age, LSN, size and new bytes.
    Full,
    /// That, and its age and what changed.
    Changes,
}

/// One snapshot of a log, as JSON.
#[derive(Debug, Serialize)]
pub struct Logged {
    #[serde(flatten)]
    pub listed: Listed,
    /// Whether snapshots are missing between it and its parent.
    pub gap: bool,
    /// Of the relations that were asked for.
    pub changes: Option<Vec<Changed>>,
}

/// What changed of a relation.
#[derive(Debug, Serialize)]
pub struct Changed {
    pub database: String,
    pub schema: String,
    pub relation: String,
    pub kind: &'static str,
    /// `new`, `dropped`, `rewritten`, `changed`.
    pub change: &'static str,
    pub pages_changed: u64,
    pub pages_before: u64,
    pub pages: u64,
    /// As people read it.
    #[serde(skip)]
    pub text: String,
}

/// A line: what is drawn, and what is said.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub drawn: String,
    pub text: String,
}

/// The lines of a log; `entries` and `logged` go together. Without `graph` HEAD is marked alone.
pub fn lines(
    entries: &[Entry<'_>],
    logged: &[Logged],
    detail: Detail,
    graph: bool,
    glyphs: Glyphs,
    now: Timestamp,
) -> Vec<Line> {
    let mut graphs = graph.then(|| Graph::new(glyphs));
    let drawn: Vec<_> = entries
        .iter()
        .zip(logged)
        .map(|(entry, logged)| match &mut graphs {
            Some(graph) => graph.draw(entry, logged.listed.head),
            None => plain(logged, glyphs),
        })
        .collect();
    let columns: &[(&str, Align)] = match detail {
        Detail::Short => &[("", Align::Left), ("", Align::Left)],
        Detail::Full => &[
            ("", Align::Left),
            ("", Align::Left),
            ("", Align::Left),
            ("", Align::Right),
            ("", Align::Right),
            ("", Align::Left),
        ],
        Detail::Changes => &[
            ("", Align::Left),
            ("", Align::Left),
            ("", Align::Left),
            ("", Align::Left),
        ],
    };
    let mut table = Table::new(columns);
    for (drawn, logged) in drawn.iter().zip(logged) {
        let one = &logged.listed;
        // The id follows what is drawn, however wide that is; the rest stands in columns.
        let mut first = format!("{} {}", drawn.beside, &one.id[..8]);
        if !one.refs.is_empty() {
            first = format!("{first}  {}", one.refs.join(", "));
        }
        let message = match one.message.lines().next() {
            Some(line) => line.to_owned(),
            None => format!("({})", one.kind),
        };
        let age = age_of(one.unix_micros, now);
        table.row(match detail {
            Detail::Short => vec![first, message],
            Detail::Full => vec![
                first,
                age,
                one.lsn.clone().unwrap_or_else(|| "-".to_owned()),
                size(one.size),
                format!("{} new", size(one.new_bytes)),
                message,
            ],
            Detail::Changes => {
                let changes = logged.changes.iter().flatten();
                let texts: Vec<&str> = changes.map(|change| change.text.as_str()).collect();
                vec![first, age, message, texts.join("; ")]
            }
        });
    }
    let mut lines = Vec::new();
    let alone = |drawn: String| Line {
        drawn,
        text: String::new(),
    };
    // Columns without a title have an empty first line.
    for (drawn, text) in drawn.into_iter().zip(table.lines().into_iter().skip(1)) {
        lines.extend(drawn.above.map(alone));
        let text = text.strip_prefix(&drawn.beside).unwrap_or_default();
        lines.push(Line {
            text: text.to_owned(),
            drawn: drawn.beside,
        });
        lines.extend(drawn.below.into_iter().map(alone));
    }
    lines
}

fn plain(logged: &Logged, glyphs: Glyphs) -> super::graph::Drawn {
    super::graph::Drawn {
        above: None,
        beside: match logged.listed.head {
            true => glyphs.node(true).to_owned(),
            false => " ".to_owned(),
        },
        below: logged
            .gap
            .then(|| glyphs.gap().to_owned())
            .into_iter()
            .collect(),
    }
}
