//! Rows that differ: `+` only after, `-` only before, `~` in both with other values.

use serde_json::json;
use zenith::rows::{Column, Counts, Difference, Plan, Value};
use zenith::table::{Table, shown};

use super::glyphs::Glyphs;
use super::size::count;
use super::value;

/// What is compared: both sides, how rows belong together, and columns that one side lacks.
pub fn head(table: &Table, old: &str, new: &str, plan: &Plan, glyphs: Glyphs) -> Vec<String> {
    let arrow = glyphs.arrow();
    let by = match &plan.key {
        Some(key) => format!("by {} ({})", key.what, names(&key.columns)),
        None => "by whole rows: there is no key that both have".to_owned(),
    };
    let mut lines = vec![format!("{}  {old} {arrow} {new}, {by}", table.shown())];
    for (mark, columns) in [("+", &plan.added), ("-", &plan.dropped)] {
        for column in columns {
            lines.push(format!("{mark} column {}", shown(column)));
        }
    }
    for column in &plan.retyped {
        let (old, new) = (&column.old, &column.new);
        lines.push(format!(
            "~ column {}: {old} {arrow} {new}",
            shown(&column.name)
        ));
    }
    lines
}

fn names(columns: &[String]) -> String {
    let shown: Vec<String> = columns.iter().map(|name| shown(name)).collect();
    shown.join(", ")
}

/// `+ id=18 note='a b'`, `~ id=19  amount: 10.00 → 12.50`.
pub fn line(plan: &Plan, difference: Difference<'_>, glyphs: Glyphs) -> String {
    match difference {
        Difference::Added(row) => format!("+ {}", all(&plan.new, row)),
        Difference::Removed(row) => format!("- {}", all(&plan.old, row)),
        Difference::Changed(old, new) => {
            let key = plan.key_positions(&plan.old);
            let key = pairs(&plan.old, old, &key);
            let changed = plan.changed(old, new).map(|(i, j)| {
                let name = shown(&plan.old[i].name);
                let (old, new) = (text(&old[i]), text(&new[j]));
                format!("{name}: {old} {} {new}", glyphs.arrow())
            });
            format!("~ {key}  {}", changed.collect::<Vec<_>>().join(", "))
        }
    }
}

fn all(columns: &[Column], row: &[Value]) -> String {
    pairs(columns, row, &(0..columns.len()).collect::<Vec<_>>())
}

fn pairs(columns: &[Column], row: &[Value], at: &[usize]) -> String {
    let pair = |i: &usize| format!("{}={}", shown(&columns[*i].name), text(&row[*i]));
    at.iter().map(pair).collect::<Vec<_>>().join(" ")
}

/// A value that cannot be taken for something else: in quotes where it could, line breaks and
/// other control characters as escapes.
fn text(value: &Value) -> String {
    let Some(text) = value else {
        return "NULL".to_owned();
    };
    let is_plain = |c: char| !(c.is_whitespace() || c.is_control() || "'\\,=→".contains(c));
    let has_arrow = text.contains(Glyphs::Ascii.arrow());
    if !text.is_empty() && text != "NULL" && !has_arrow && text.chars().all(is_plain) {
        return text.clone();
    }
    let escaped = text.chars().any(|c| c.is_control());
    let mut out = if escaped { "E'" } else { "'" }.to_owned();
    for c in text.chars() {
        match c {
            '\'' => out += "''",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\\' if escaped => out += "\\\\",
            c if c.is_control() => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "'"
}

/// `3 rows differ: 1 added, 1 removed, 1 changed; 1,000 are the same`.
pub fn summary(counts: &Counts) -> String {
    let differ = counts.added + counts.removed + counts.changed;
    let same = match counts.same {
        1 => "1 is the same".to_owned(),
        n => format!("{} are the same", count(n)),
    };
    if differ == 0 {
        return format!("no row differs; {same}");
    }
    let kinds = [
        (counts.added, "added"),
        (counts.removed, "removed"),
        (counts.changed, "changed"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", count(*n)))
        .collect();
    let rows = if differ == 1 {
        "row differs"
    } else {
        "rows differ"
    };
    format!("{} {rows}: {}; {same}", count(differ), kinds.join(", "))
}

/// What is compared, for programs.
pub fn head_record(table: &Table, old: &str, new: Option<&str>, plan: &Plan) -> serde_json::Value {
    let retyped: Vec<_> = plan
        .retyped
        .iter()
        .map(|c| json!({ "name": c.name, "old": c.old, "new": c.new }))
        .collect();
    json!({
        "type": "rows", "v": 1,
        "schema": table.schema,
        "table": table.name,
        "old": old,
        "new": new,
        "key": plan.key.as_ref().map(|key| &key.columns),
        "columns_added": plan.added,
        "columns_removed": plan.dropped,
        "columns_changed": retyped,
    })
}

/// One difference as a line of JSON. It is no value of serde's: numbers keep every digit.
pub fn record(plan: &Plan, difference: Difference<'_>) -> String {
    let row = |columns: &[Column], row: &[Value], at: &[usize]| {
        let field = |i: &usize| {
            let column = &columns[*i];
            let value = value::json(column.type_oid, row[*i].as_deref());
            (column.name.as_str(), value)
        };
        value::object(at.iter().map(field))
    };
    let every = |columns: &[Column]| (0..columns.len()).collect::<Vec<_>>();
    let (kind, rest) = match difference {
        Difference::Added(new) => {
            let row = row(&plan.new, new, &every(&plan.new));
            ("added", format!("\"key\":null,\"old\":null,\"new\":{row}"))
        }
        Difference::Removed(old) => {
            let row = row(&plan.old, old, &every(&plan.old));
            (
                "removed",
                format!("\"key\":null,\"old\":{row},\"new\":null"),
            )
        }
        Difference::Changed(old, new) => {
            let key = row(&plan.old, old, &plan.key_positions(&plan.old));
            let (before, after): (Vec<_>, Vec<_>) = plan.changed(old, new).unzip();
            let (before, after) = (row(&plan.old, old, &before), row(&plan.new, new, &after));
            let text = format!("\"key\":{key},\"old\":{before},\"new\":{after}");
            ("changed", text)
        }
    };
    format!("{{\"type\":\"row_changed\",\"v\":1,\"change\":\"{kind}\",{rest}}}")
}

/// How many, for programs.
pub fn summary_record(counts: &Counts) -> serde_json::Value {
    json!({
        "type": "row_counts", "v": 1,
        "added": counts.added,
        "removed": counts.removed,
        "changed": counts.changed,
        "same": counts.same,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_for_nothing_else() {
        for (value, expect) in [
            (None, "NULL"),
            (Some("NULL"), "'NULL'"),
            (Some(""), "''"),
            (Some("10.00"), "10.00"),
            (Some("2026-01-01 10:00:00+00"), "'2026-01-01 10:00:00+00'"),
            (Some("a=1"), "'a=1'"),
            (Some("a->1"), "'a->1'"),
            (Some("it's"), "'it''s'"),
            (Some("a\\b"), "'a\\b'"),
            (Some("a\\\n\u{1}"), "E'a\\\\\\n\\u0001'"),
        ] {
            assert_eq!(text(&value.map(str::to_owned)), expect);
        }
    }

    #[test]
    fn a_summary_says_what_there_is() {
        let counts = |added, removed, changed, same| Counts {
            added,
            removed,
            changed,
            same,
        };
        for (counts, expect) in [
            (counts(0, 0, 0, 1), "no row differs; 1 is the same"),
            (
                counts(1, 0, 0, 1000),
                "1 row differs: 1 added; 1,000 are the same",
            ),
            (
                counts(1, 2, 3, 0),
                "6 rows differ: 1 added, 2 removed, 3 changed; 0 are the same",
            ),
        ] {
            assert_eq!(summary(&counts), expect);
        }
    }
}
