//! A log: one snapshot a line, what it goes on from beside it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use zenith::diff::{Kind, RelationChange, What};
use zenith::log::Entry;

use super::diff::what_word;
use super::glyphs::Glyphs;
use super::graph::Graph;
use super::size::{count, plural, size};
use super::snapshot::Listed;
use super::table::{Align, Table};
use super::time::age_of;

/// How much is said of each snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Its id, names and message.
    Short,
    /// That, and its age.
    Aged,
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
    /// That, as people read it.
    #[serde(skip)]
    pub text: String,
}

/// What changed of a relation, in the words of `diff`.
#[derive(Debug, Serialize)]
pub struct Changed {
    database: String,
    schema: String,
    name: String,
    kind: &'static str,
    what: &'static str,
    pages: u64,
    pages_before: u64,
    pages_after: u64,
}

impl From<&RelationChange> for Changed {
    fn from(change: &RelationChange) -> Changed {
        Changed {
            database: change.name.database.clone(),
            schema: change.name.schema.clone(),
            name: change.name.name.clone(),
            kind: change.kind.word(),
            what: what_word(change.what),
            pages: change.touched(),
            pages_before: change.pages.before,
            pages_after: change.pages.after,
        }
    }
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
        Detail::Aged => &[("", Align::Left), ("", Align::Left), ("", Align::Left)],
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
            Detail::Aged => vec![first, age, message],
            Detail::Full => vec![
                first,
                age,
                one.lsn.clone().unwrap_or_else(|| "-".to_owned()),
                size(one.size),
                format!("{} new", size(one.new_bytes)),
                message,
            ],
            Detail::Changes => vec![first, age, message, logged.text.clone()],
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

/// How much of a relation's name must be said to tell it from the others of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naming {
    schemas: bool,
    databases: bool,
}

impl Naming {
    pub fn of<'a>(changes: impl Iterator<Item = &'a RelationChange>) -> Naming {
        // The indexes of a table are in its schema, its TOAST table is not.
        let names = changes.map(|change| change.table.as_ref().unwrap_or(&change.name));
        let names: BTreeSet<(&str, &str)> = names
            .map(|name| (name.database.as_str(), name.schema.as_str()))
            .collect();
        let databases: BTreeSet<&str> = names.iter().map(|(database, _)| *database).collect();
        Naming {
            schemas: names.len() > 1,
            databases: databases.len() > 1,
        }
    }
}

/// `orders 12 pages, +18; orders_doc_idx new, 6,120 pages`. `is_first`: what was before is not
/// known.
pub fn changes_text(changes: &[RelationChange], naming: Naming, is_first: bool) -> String {
    // The index of a TOAST table says nothing that the table does not say.
    let is_toast_index = |change: &&RelationChange| {
        change.kind == Kind::Index && change.name.schema.starts_with("pg_toast")
    };
    // Most tables have one without a page in it.
    let is_empty_toast = |change: &&RelationChange| {
        change.kind == Kind::Toast && change.pages.before == 0 && change.pages.after == 0
    };
    let changes = changes
        .iter()
        .filter(|change| !is_toast_index(change) && !is_empty_toast(change));
    let texts = changes.map(|change| {
        let name = match (&change.table, change.kind) {
            (Some(table), Kind::Toast) => table,
            _ => &change.name,
        };
        let mut shown = String::new();
        if naming.databases {
            shown = format!("{}.", name.database);
        }
        if naming.schemas {
            shown = format!("{shown}{}.", name.schema);
        }
        shown.push_str(&name.name);
        if change.kind == Kind::Toast {
            shown.push_str(" (toast)");
        }
        let pages = change.pages;
        let more = match (pages.before, pages.after) {
            (before, after) if before < after => Some(('+', after - before)),
            (before, after) if before > after => Some(('-', before - after)),
            _ => None,
        };
        let all = plural(pages.after, "page");
        match (change.what, pages.changed, more) {
            (What::New, ..) if is_first => format!("{shown} {all}"),
            (What::New, ..) => format!("{shown} new, {all}"),
            (What::Dropped, ..) => format!("{shown} dropped"),
            (What::Rewritten, ..) => format!("{shown} rewritten, {all}"),
            (What::Changed, 0, Some((sign, more))) => {
                format!("{shown} {sign}{}", plural(more, "page"))
            }
            (What::Changed, changed, Some((sign, more))) => {
                format!("{shown} {}, {sign}{}", plural(changed, "page"), count(more))
            }
            (What::Changed, changed, None) => format!("{shown} {}", plural(changed, "page")),
        }
    });
    texts.collect::<Vec<_>>().join("; ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use zenith::diff::{Name, Pages};

    fn change(kind: Kind, what: What, pages: (u64, u64, u64)) -> RelationChange {
        let name = |name: &str| Name {
            database: "app".into(),
            schema: "public".into(),
            name: name.into(),
        };
        let (before, after, changed) = pages;
        RelationChange {
            table: (kind == Kind::Toast).then(|| name("orders")),
            name: name(if kind == Kind::Toast {
                "pg_toast_1"
            } else {
                "orders"
            }),
            kind,
            oid: Some(20_000),
            is_catalog: false,
            what,
            pages: Pages {
                before,
                after,
                changed,
            },
            maps: Pages::default(),
            files: vec![],
        }
    }

    #[test]
    fn changes_as_people_read_them() {
        let said = |kind, what, pages| {
            let changes = [change(kind, what, pages)];
            let naming = Naming::of(changes.iter());
            changes_text(&changes, naming, false)
        };
        for (what, pages, text) in [
            (What::Changed, (10, 28, 0), "orders +18 pages"),
            (What::Changed, (10, 28, 1), "orders 1 page, +18"),
            (What::Changed, (10, 8, 3), "orders 3 pages, -2"),
            (What::Changed, (10, 10, 4), "orders 4 pages"),
            (What::New, (0, 31_250, 0), "orders new, 31,250 pages"),
            (What::Dropped, (7, 0, 0), "orders dropped"),
            (What::Rewritten, (7, 5, 0), "orders rewritten, 5 pages"),
        ] {
            assert_eq!(said(Kind::Table, what, pages), text);
        }
        let toast = said(Kind::Toast, What::Changed, (1, 2, 0));
        assert_eq!(toast, "orders (toast) +1 page");
        assert_eq!(said(Kind::Toast, What::New, (0, 0, 0)), "");
        let mut two = [
            change(Kind::Table, What::Changed, (1, 1, 1)),
            change(Kind::Table, What::New, (0, 2, 0)),
        ];
        two[1].name.schema = "sales".into();
        let naming = Naming::of(two.iter());
        assert_eq!(
            changes_text(&two, naming, false),
            "public.orders 1 page; sales.orders new, 2 pages"
        );
        two[1].name.database = "other".into();
        let naming = Naming::of(two.iter());
        assert_eq!(
            changes_text(&two[1..], naming, true),
            "other.sales.orders 2 pages"
        );
    }
}
