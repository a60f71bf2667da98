//! What changed, relation by relation or file by file.

use serde::Serialize;
use serde_json::{Value, json};
use zenith::diff::{Area, Diff, FileChange, Kind, Name, RelationChange, Summary, What};
use zenith::store::SnapshotId;

use super::glyphs::Glyphs;
use super::size::{count, plural, size};
use super::table::{Align, Table};

/// Cells of the longest bar.
const BAR_CELLS: usize = 10;
/// Cells of the longest bar that is worth drawing.
const BAR_CELLS_MIN: usize = 3;
/// Columns of a terminal that is no wider than most.
const COLUMNS: usize = 80;

/// A snapshot on one side.
pub struct End {
    pub id: SnapshotId,
    /// Its age.
    pub ago: Option<String>,
}

/// What was compared.
pub struct Ends {
    pub before: End,
    /// None is the managed cluster.
    pub after: Option<End>,
    /// What is drawn with.
    pub glyphs: Glyphs,
}

impl End {
    fn shown(&self) -> String {
        match &self.ago {
            Some(ago) => format!("{} ({ago} ago)", self.id.short()),
            None => self.id.short(),
        }
    }
}

impl Ends {
    fn shown(&self) -> String {
        let after = match &self.after {
            Some(end) => end.shown(),
            None => "cluster".to_owned(),
        };
        format!("{} {} {after}", self.before.shown(), self.glyphs.arrow())
    }
}

/// How much of it is shown.
#[derive(Clone, Copy)]
pub struct Shown {
    /// Catalogs, maps and other files, too.
    pub all: bool,
}

impl Shown {
    pub fn relations(self, diff: &Diff) -> impl Iterator<Item = &RelationChange> {
        let shown = move |relation: &&RelationChange| {
            // Where only its maps changed there is nothing of a relation itself to tell, and next
            // to every table there is a TOAST table, mostly an empty one.
            let is_empty_toast = relation.kind == Kind::Toast && relation.pages.of() == 0;
            self.all || !relation.is_catalog && !is_map_only(relation) && !is_empty_toast
        };
        diff.relations.iter().filter(shown)
    }

    /// Files that belong to no relation; with those of relations where `of_relations`.
    pub fn files(self, diff: &Diff, of_relations: bool) -> Vec<&FileChange> {
        let relations = diff.relations.iter().filter(|_| of_relations);
        let mut files: Vec<&FileChange> = relations.flat_map(|r| &r.files).collect();
        files.extend(&diff.files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }
}

fn is_map_only(relation: &RelationChange) -> bool {
    relation.what == What::Changed && relation.touched() == 0 && relation.maps_touched() > 0
}

/// The answer for people: a line that says most of it, then a table.
pub fn lines(diff: &Diff, ends: &Ends, shown: Shown) -> Vec<String> {
    if diff.is_empty() {
        return vec![format!("{}, no difference", ends.shown())];
    }
    // An index that did not change with its table is shown, and is no change.
    let changed = Shown { all: false }.relations(diff);
    let changed = changed.filter(|r| r.touched() > 0 || r.what != What::Changed);
    let first = [
        ends.shown(),
        plural(changed.count() as u64, "relation"),
        format!(
            "{} of {} pages",
            count(diff.touched()),
            count(diff.pages.max(diff.touched()))
        ),
    ];
    let mut lines = folded("", &first, "", "  ");
    let mut rows = Vec::new();
    for relation in shown.relations(diff) {
        let (name, kind) = titled(relation, diff);
        let (touched, of) = (relation.touched(), relation.pages.of());
        if !is_map_only(relation) {
            let what = relation.what;
            rows.push(Row::new(name.clone(), kind, touched, of).what(what));
        }
        if shown.all && relation.maps_touched() > 0 {
            let (touched, of) = (relation.maps_touched(), relation.maps.of());
            rows.push(Row::new(name, "map", touched, of));
        }
    }
    if shown.all {
        rows.extend(diff.files.iter().map(|file| {
            let pages = file.pages(diff.block_size);
            let kind = Area::of(&file.path).word();
            let what = what_of(file);
            Row::new(file.path.clone(), kind, pages.touched(), pages.of()).what(what)
        }));
    }
    lines.extend(table(rows, ends.glyphs));
    if !shown.all {
        lines.extend(rest(&diff.summary()));
    }
    lines
}

/// The same by files, as `git diff --stat` has it.
pub fn stat(diff: &Diff, ends: &Ends) -> Vec<String> {
    let files = Shown { all: true }.files(diff, true);
    if files.is_empty() {
        return vec![format!("{}, no difference", ends.shown())];
    }
    let rows = files.iter().map(|file| {
        let pages = file.pages(diff.block_size);
        let kind = match zenith::names::RelationId::of_path(&file.path) {
            Some((_, part)) => part.fork.name(),
            None => Area::of(&file.path).word(),
        };
        Row::new(file.path.clone(), kind, pages.touched(), pages.of()).what(what_of(file))
    });
    let mut lines = table(rows.collect(), ends.glyphs);
    let of = |what| files.iter().filter(|file| what_of(file) == what).count() as u64;
    let paged = files.iter().filter(|f| Area::of(&f.path) != Area::Wal);
    let pages: u64 = paged
        .map(|file| file.pages(diff.block_size).touched())
        .sum();
    lines.push(format!(
        "{} changed, {} added, {} removed, {}",
        plural(of(What::Changed), "file"),
        count(of(What::New)),
        count(of(What::Dropped)),
        plural(pages, "page")
    ));
    lines
}

/// Names of relations that changed, and paths of other files where all is shown.
pub fn names(diff: &Diff, shown: Shown) -> Vec<String> {
    let mut names = Vec::new();
    let changed = |r: &&RelationChange| !r.files.is_empty();
    for relation in shown.relations(diff).filter(changed) {
        let (name, _) = titled(relation, diff);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if shown.all {
        names.extend(diff.files.iter().map(|file| file.path.clone()));
    }
    names
}

fn what_of(file: &FileChange) -> What {
    match (file.before, file.after) {
        (None, _) => What::New,
        (_, None) => What::Dropped,
        _ => What::Changed,
    }
}

/// A relation's name and kind for people: a TOAST table goes by its table's name.
fn titled(relation: &RelationChange, diff: &Diff) -> (String, &'static str) {
    let is_toast = relation.name.schema == "pg_toast";
    match &relation.table {
        Some(table) if relation.kind == Kind::Toast => (qualified(table, diff), "toast"),
        Some(table) if is_toast => (qualified(table, diff), "toast index"),
        _ => (qualified(&relation.name, diff), relation.kind.word()),
    }
}

/// `public.orders`, or `app.public.orders` where several databases have relations.
fn qualified(name: &Name, diff: &Diff) -> String {
    let database = match diff.several_databases && !name.database.is_empty() {
        true => format!("{}.", name.database),
        false => String::new(),
    };
    let schema = match name.schema.is_empty() {
        true => String::new(),
        false => format!("{}.", name.schema),
    };
    format!("{database}{schema}{}", name.name)
}

/// One line of a table.
struct Row {
    name: String,
    kind: &'static str,
    touched: u64,
    of: u64,
    what: What,
}

impl Row {
    fn new(name: String, kind: &'static str, touched: u64, of: u64) -> Row {
        Row {
            name,
            kind,
            touched,
            of,
            what: What::Changed,
        }
    }

    fn what(self, what: What) -> Row {
        Row { what, ..self }
    }
}

/// Columns that line up, without a title: the numbers say what they are.
fn table(rows: Vec<Row>, glyphs: Glyphs) -> Vec<String> {
    let most = rows.iter().map(|row| row.touched).max().unwrap_or(0);
    let width = rows
        .iter()
        .map(|row| count(row.of).len())
        .max()
        .unwrap_or(0);
    let mut table = Table::new(&[
        ("", Align::Left),
        ("", Align::Left),
        ("", Align::Right),
        ("", Align::Right),
    ]);
    for row in &rows {
        let share = match row.what {
            What::Changed if row.of == 0 => String::new(),
            What::Changed => {
                let share = row.touched as f64 * 100.0 / row.of as f64;
                match share {
                    share if share > 0.0 && share < 0.05 => "< 0.1 %".to_owned(),
                    share => format!("{share:.1} %"),
                }
            }
            What::Rewritten => "rewritten".to_owned(),
            What::New => "new".to_owned(),
            What::Dropped => "dropped".to_owned(),
        };
        table.row(vec![
            format!("  {}", row.name),
            row.kind.to_owned(),
            format!("{} / {:>width$}", count(row.touched), count(row.of)),
            share,
        ]);
    }
    let lines = table.lines().split_off(1);
    // The bars have what the columns leave; they say nothing that those do not say.
    let wide = lines.iter().map(|line| line.chars().count()).max();
    let wide = wide.unwrap_or(0);
    let cells = COLUMNS.saturating_sub(wide + 2).min(BAR_CELLS);
    if cells < BAR_CELLS_MIN {
        return lines;
    }
    let with_bar = |(line, row): (&String, &Row)| {
        let bar = bar(row.touched, most, cells, glyphs);
        match bar.is_empty() {
            true => line.clone(),
            false => format!("{line:<wide$}  {bar}"),
        }
    };
    lines.iter().zip(&rows).map(with_bar).collect()
}

/// Parts of a sentence, on as many lines as they need; a part stays whole.
fn folded(begin: &str, parts: &[String], end: &str, indent: &str) -> Vec<String> {
    let mut lines = vec![begin.to_owned()];
    for (i, part) in parts.iter().enumerate() {
        let after = if i + 1 < parts.len() { "," } else { end };
        let line = lines.last_mut().expect("there is one");
        let space = if i == 0 { "" } else { " " };
        let columns = [line.as_str(), space, part, after]
            .map(|text| text.chars().count())
            .iter()
            .sum::<usize>();
        if i > 0 && columns > COLUMNS {
            lines.push(format!("{indent}{part}{after}"));
        } else {
            line.extend([space, part, after]);
        }
    }
    lines
}

/// A bar of so many cells at most, as long as `n` is in comparison with `most`; of something there
/// is always a trace.
fn bar(n: u64, most: u64, cells: usize, glyphs: Glyphs) -> String {
    if n == 0 || most == 0 {
        return String::new();
    }
    let eighths = n as f64 / most as f64 * (cells * 8) as f64;
    glyphs.bar((eighths.round() as usize).max(1))
}

/// What the table leaves out.
fn rest(summary: &Summary) -> Vec<String> {
    let kinds: Vec<&str> = [
        (summary.catalogs, "catalogs"),
        (summary.maps, "maps"),
        (summary.transactions, "transaction status"),
    ]
    .into_iter()
    .filter_map(|(pages, kind)| (pages > 0).then_some(kind))
    .collect();
    let mut parts = Vec::new();
    if let Some((last, first)) = kinds.split_last() {
        let kinds = match first {
            [] => (*last).to_owned(),
            first => format!("{} and {last}", first.join(", ")),
        };
        parts.push(format!("{} of {kinds}", plural(summary.pages(), "page")));
    }
    if summary.wal_bytes > 0 {
        parts.push(format!("{} of WAL", size(summary.wal_bytes)));
    }
    if summary.config_files > 0 {
        let files = plural(summary.config_files, "file");
        parts.push(format!("{files} of configuration"));
    }
    if summary.other_files > 0 {
        parts.push(plural(summary.other_files, "other file"));
    }
    match parts.is_empty() {
        true => Vec::new(),
        false => folded("  (and ", &parts, "; --all shows them)", "   "),
    }
}

#[derive(Debug, Serialize)]
pub struct DiffRecord {
    #[serde(rename = "type")]
    kind: &'static str,
    v: u32,
    /// The snapshot on the first side.
    before: String,
    /// The snapshot on the second side; null is the managed cluster.
    after: Option<String>,
    same: bool,
    /// Pages that are not what they were, of everything.
    pages: u64,
    /// Of how many, on the second side.
    of_pages: u64,
    block_size: u32,
    catalog_pages: u64,
    map_pages: u64,
    transaction_pages: u64,
    wal_bytes: u64,
    config_files: u64,
    other_files: u64,
    /// Whether a server wrote to the second side meanwhile.
    moving: bool,
}

pub fn record(diff: &Diff, ends: &Ends) -> DiffRecord {
    let summary = diff.summary();
    DiffRecord {
        kind: "diff",
        v: 1,
        before: ends.before.id.to_string(),
        after: ends.after.as_ref().map(|end| end.id.to_string()),
        same: diff.is_empty(),
        pages: diff.touched(),
        of_pages: diff.pages,
        block_size: diff.block_size,
        catalog_pages: summary.catalogs,
        map_pages: summary.maps,
        transaction_pages: summary.transactions,
        wal_bytes: summary.wal_bytes,
        config_files: summary.config_files,
        other_files: summary.other_files,
        moving: diff.is_moving,
    }
}

pub fn relation_record(relation: &RelationChange) -> Value {
    let named = !relation.name.schema.is_empty();
    let table = relation.table.as_ref();
    json!({
        "type": "diff_relation", "v": 1,
        "database": named.then_some(&relation.name.database),
        "schema": named.then_some(&relation.name.schema),
        "name": relation.name.name,
        "kind": relation.kind.word(),
        "oid": relation.oid,
        "table": table.map(|table| json!({ "schema": table.schema, "name": table.name })),
        "catalog": relation.is_catalog,
        "what": what_word(relation.what),
        "pages": relation.touched(),
        "pages_before": relation.pages.before,
        "pages_after": relation.pages.after,
        "map_pages": relation.maps_touched(),
        "files": relation.files.iter().map(|file| &file.path).collect::<Vec<_>>(),
    })
}

pub fn file_record(file: &FileChange, block_size: u32) -> Value {
    json!({
        "type": "diff_file", "v": 1,
        "path": file.path,
        "what": what_word(what_of(file)),
        "bytes_before": file.before,
        "bytes_after": file.after,
        "pages": file.pages(block_size).touched(),
    })
}

pub fn what_word(what: What) -> &'static str {
    match what {
        What::Changed => "changed",
        What::Rewritten => "rewritten",
        What::New => "new",
        What::Dropped => "dropped",
    }
}

#[cfg(test)]
mod tests;
