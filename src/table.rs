//! The names people type for tables: `orders`, `public.orders`, `app.public.orders`,
//! `"Order Items"`, `public.orders_*`.
//!
//! Up to three parts with dots between them: database, schema, table. A part in double quotes is
//! that name. One without is compared as it stands first and then in lower case, which is what SQL
//! makes of it; `*` and `?` in it stand for any characters and for one. Without a schema every
//! schema is searched, those of the system only when they are named.

use std::fmt::Write as _;

use postgres::Client;

use crate::error::{ErrorKind, Result};
use crate::retain;
use crate::revision::similar;
use crate::scratch::{OWN_PATH, query_error};

/// Candidates that an error carries at most.
const LISTED_MAX: usize = 8;

/// Why a text names no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is no name.
    #[error("`{text}` is not the name of a table: {why}")]
    Invalid {
        /// What was given.
        text: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// No table is called so.
    #[error("database `{database}` of {place} has no table `{name}`")]
    NotFound {
        /// `snapshot 4f1c9a27`, `the managed cluster`.
        place: String,
        /// Where it was looked for.
        database: String,
        /// What was given.
        name: String,
        /// Names like it, nearest first.
        similar: Vec<String>,
    },
    /// Several tables are.
    #[error("`{name}` names {number} tables: {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// How many there are.
        number: usize,
        /// The first of them.
        candidates: Vec<String>,
    },
}

impl TableError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TableError::NotFound { .. } => ErrorKind::NotFound,
            TableError::Invalid { .. } | TableError::Ambiguous { .. } => ErrorKind::Invalid,
        }
    }
}

/// A table or what can be read like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Of pg_class.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// pg_class.relkind: `r`, `p`, `m`, `v`, `f` or `S`.
    pub kind: char,
}

impl Table {
    /// `public."Order Items"`, as SQL takes it.
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// The same with quotes only where they are needed, as people read it.
    pub fn shown(&self) -> String {
        format!("{}.{}", shown(&self.schema), shown(&self.name))
    }
}

/// An identifier in double quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An identifier in quotes where SQL needs some.
pub fn shown(name: &str) -> String {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if begins && name.bytes().all(plain) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// `REV:TABLE` at its first `:` outside of `@{…}`; time stamps hold some, names of refs never do.
pub fn split(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '@' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
        before = c;
    }
    None
}

/// What stands between two dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    text: String,
    quoted: bool,
}

impl Part {
    /// The ways to read it, the better one first.
    fn spellings(&self) -> Vec<String> {
        let folded = self.text.to_lowercase();
        if self.quoted || folded == self.text {
            vec![self.text.clone()]
        } else {
            vec![self.text.clone(), folded]
        }
    }

    /// Without quotes and marks.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for this name in any of the ways to read it.
    pub(crate) fn fits(&self, name: &str) -> bool {
        let mut spellings = self.spellings().into_iter();
        spellings.any(|spelling| match self.is_pattern() {
            true => retain::matches(&spelling, name),
            false => spelling == name,
        })
    }

    fn is_pattern(&self) -> bool {
        !self.quoted && self.text.contains(['*', '?'])
    }
}

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    text: String,
    database: Option<String>,
    schema: Option<Part>,
    table: Part,
}

impl TableName {
    /// Errors: `TableError::Invalid`.
    pub fn parse(text: &str) -> Result<TableName, TableError> {
        let invalid = |why| TableError::Invalid {
            text: text.to_owned(),
            why,
        };
        let mut parts = parts(text)?;
        let table = parts.pop().ok_or_else(|| invalid("it is empty"))?;
        let schema = parts.pop();
        let database = match parts.pop() {
            Some(part) if part.is_pattern() => {
                return Err(invalid("a pattern cannot stand for the database"));
            }
            part => part.map(|part| part.text),
        };
        Ok(TableName {
            text: text.to_owned(),
            database,
            schema,
            table,
        })
    }

    /// The database that it names.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The one table that it names in the database of `client`.
    ///
    /// Errors: `TableError::{NotFound, Ambiguous}`.
    pub fn find(&self, client: &mut Client, place: &str) -> Result<Table> {
        let mut found = self.find_all(client, place)?;
        if found.len() > 1 {
            return Err(TableError::Ambiguous {
                name: self.text.clone(),
                number: found.len(),
                candidates: found.iter().take(LISTED_MAX).map(Table::shown).collect(),
            }
            .into());
        }
        Ok(found.remove(0))
    }

    /// All tables that it names, by schema and name; at least one.
    ///
    /// Errors: `TableError::NotFound`.
    pub fn find_all(&self, client: &mut Client, place: &str) -> Result<Vec<Table>> {
        let (database, all) = list(client)?;
        let found = self.among(&all);
        if !found.is_empty() {
            return Ok(found);
        }
        let own = || all.iter().filter(|table| !is_system(&table.schema));
        let mut near = similar(
            own().map(|table| table.name.as_str()),
            &self.table.text.to_lowercase(),
        );
        near.truncate(LISTED_MAX);
        let similar = near
            .iter()
            .flat_map(|name| own().filter(move |table| table.name == *name))
            .take(LISTED_MAX)
            .map(Table::shown)
            .collect();
        let mut name = String::new();
        if let Some(schema) = &self.schema {
            let _ = write!(name, "{}.", schema.text);
        }
        name += &self.table.text;
        Err(TableError::NotFound {
            place: place.to_owned(),
            database,
            name,
            similar,
        }
        .into())
    }

    fn among(&self, all: &[Table]) -> Vec<Table> {
        let schemas = self.schema.as_ref().map(Part::spellings);
        for name in self.table.spellings() {
            let matches = |part: &Part, pattern: &str, text: &str| {
                if part.is_pattern() {
                    retain::matches(pattern, text)
                } else {
                    pattern == text
                }
            };
            let in_schema = |table: &Table| match (&self.schema, &schemas) {
                (Some(part), Some(spellings)) => {
                    spellings
                        .iter()
                        .any(|schema| matches(part, schema, &table.schema))
                        && (!part.is_pattern() || !is_system(&table.schema))
                }
                _ => !is_system(&table.schema),
            };
            let found: Vec<Table> = all
                .iter()
                .filter(|table| matches(&self.table, &name, &table.name) && in_schema(table))
                // Sequences go with the tables that own them; alone they are called by name.
                .filter(|table| table.kind != 'S' || !self.table.is_pattern())
                .cloned()
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}

/// One to three parts between dots outside of quotes.
///
/// Errors: `TableError::Invalid`.
pub(crate) fn parts(text: &str) -> Result<Vec<Part>, TableError> {
    let invalid = |why| TableError::Invalid {
        text: text.to_owned(),
        why,
    };
    let parts = between_dots(text).ok_or_else(|| invalid("a double quote is not closed"))?;
    if parts.iter().any(|part| part.text.is_empty()) {
        return Err(invalid("a part of it is empty"));
    }
    if parts.len() > 3 {
        return Err(invalid(
            "at most database, schema and table have a dot between them",
        ));
    }
    Ok(parts)
}

/// Nothing where a quote is not closed.
fn between_dots(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut part = Part {
        text: String::new(),
        quoted: false,
    };
    let mut inside = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                part.text.push('"');
                chars.next();
            }
            '"' => {
                inside = !inside;
                part.quoted = true;
            }
            '.' if !inside => parts.push(std::mem::replace(
                &mut part,
                Part {
                    text: String::new(),
                    quoted: false,
                },
            )),
            c => part.text.push(c),
        }
    }
    parts.push(part);
    (!inside).then_some(parts)
}

fn is_system(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// The tables with all partitions of those that are partitioned, each once.
///
/// Errors: `Query`.
pub fn with_partitions(client: &mut Client, tables: &[Table]) -> Result<Vec<Table>> {
    const SQL: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text \
         FROM pg_catalog.pg_partition_tree($1::oid::regclass) p \
         JOIN pg_catalog.pg_class c ON c.oid = p.relid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY p.level, 2, 3";
    let mut all: Vec<Table> = Vec::new();
    let mut add = |table: Table| {
        if !all.iter().any(|known| known.oid == table.oid) {
            all.push(table);
        }
    };
    for table in tables {
        add(table.clone());
        if table.kind != 'p' {
            continue;
        }
        let rows = client
            .query(SQL, &[&table.oid])
            .map_err(|e| query_error("listing partitions", &e))?;
        for row in rows {
            add(Table {
                oid: row.get(0),
                schema: row.get(1),
                name: row.get(2),
                kind: row.get::<_, String>(3).chars().next().unwrap_or(' '),
            });
        }
    }
    Ok(all)
}

/// The database, and everything in it that can be read like a table. The owner of a database may
/// say where its sessions find operators, and a superuser must not run theirs.
fn list(client: &mut Client) -> Result<(String, Vec<Table>)> {
    const SQL: &str = "SELECT pg_catalog.current_database()::text, c.oid, n.nspname::text, \
         c.relname::text, c.relkind::text FROM pg_catalog.pg_namespace n \
         LEFT JOIN pg_catalog.pg_class c \
         ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S') \
         ORDER BY n.nspname, c.relname";
    let failed = |e: postgres::Error| query_error("listing tables", &e);
    client.batch_execute(OWN_PATH).map_err(failed)?;
    let rows = client.query(SQL, &[]).map_err(failed)?;
    // Some schema is always there, whether or not it has tables.
    let database = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let tables = rows.iter().filter_map(|row| {
        Some(Table {
            oid: row.get::<_, Option<u32>>(1)?,
            schema: row.get(2),
            name: row.get(3),
            kind: row.get::<_, String>(4).chars().next()?,
        })
    });
    Ok((database, tables.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_outside_of_a_time_splits() {
        for (text, rev, table) in [
            ("main:orders", "main", "orders"),
            (
                "main@{10 minutes ago}:public.orders",
                "main@{10 minutes ago}",
                "public.orders",
            ),
            (
                "main~2@{2026-11-22 10:00}^:a",
                "main~2@{2026-11-22 10:00}^",
                "a",
            ),
            ("@{10:00}:\"a:b\"", "@{10:00}", "\"a:b\""),
            (":orders", "", "orders"),
        ] {
            assert_eq!(split(text), Some((rev, table)));
        }
        for text in ["main", "main@{10:00}", "main@{10:00"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    fn tables() -> Vec<Table> {
        let names = [
            ("pg_catalog", "pg_class"),
            ("public", "Orders"),
            ("public", "orders"),
            ("public", "orders_1"),
            ("Shop", "Order Items"),
            ("shop", "a.b\"c"),
            ("shop", "orders"),
        ];
        let table = |(schema, name): (&str, &str)| Table {
            oid: 0,
            schema: schema.into(),
            name: name.into(),
            kind: 'r',
        };
        names.map(table).into()
    }

    #[test]
    fn names_are_read_as_sql_does_and_as_they_stand() {
        for (typed, expect) in [
            ("public.orders", "public.orders"),
            ("public.Orders", "public.\"Orders\""),
            ("PUBLIC.\"Orders\"", "public.\"Orders\""),
            ("public.ORDERS", "public.orders"),
            ("app.public.orders", "public.orders"),
            ("order items", ""),
            ("Order Items", "\"Shop\".\"Order Items\""),
            ("Shop.\"Order Items\"", "\"Shop\".\"Order Items\""),
            ("shop.\"a.b\"\"c\"", "shop.\"a.b\"\"c\""),
            ("orders", "public.orders shop.orders"),
            ("public.orders*", "public.orders public.orders_1"),
            ("public.order?", "public.orders"),
            ("*.orders", "public.orders shop.orders"),
            ("\"*\".orders", ""),
            ("pg_class", ""),
            ("pg_catalog.pg_class", "pg_catalog.pg_class"),
        ] {
            let found = TableName::parse(typed).unwrap().among(&tables());
            let found: Vec<String> = found.iter().map(Table::shown).collect();
            assert_eq!(found.join(" "), expect, "{typed}");
        }
        let name = TableName::parse("App.public.orders").unwrap();
        assert_eq!(name.database(), Some("App"));
        // A character is not a byte.
        let one = TableName::parse("g?te").unwrap();
        let table = Table {
            name: "g\u{fc}te".into(),
            ..tables()[1].clone()
        };
        assert_eq!(one.among(&[table]).len(), 1);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "public.",
            ".orders",
            "a.b.c.d",
            "\"a",
            "*.public.orders",
        ] {
            TableName::parse(text).unwrap_err();
        }
    }
}
