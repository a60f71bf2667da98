//! Which rows of a table differ between two servers.
//!
//! Both sides are read at once, each in the order of its key, and merged; neither is ever held in
//! memory. The order must be the same on both sides and known here, whatever types, collations and
//! versions are at work. So rows are ordered by the *text* of their key, byte by byte: the server
//! sorts `key::text COLLATE "C"`, and the same texts come along to be compared here.
//!
//! Rows belong together when the texts of their keys are equal. Types whose equal values can look
//! different are written in one way first: `1.0` and `1.00`, `-0` and `0`, citext. Of the rest
//! (intervals such as `1 day` and `24:00:00`, collations that ignore case) a key that was written
//! anew in another way counts as one row less and one more.
//!
//! Without a key that both sides have, whole rows are compared, duplicates counted: then there are
//! no changed rows, only fewer and more. Values are compared as they look, so that `1.0` → `1.00`
//! is a change.

mod stream;

use std::cmp::Ordering;

use postgres::Client;

use crate::error::{Error, Result};
use crate::scratch::{NO_TIMEOUTS, OWN_PATH, query_error};
use crate::table::{Table, TableError, TableName, quoted};
use stream::Stream;

/// numeric, float4 and float8 of pg_type.
const NUMERIC: u32 = 1700;
const FLOATS: [u32; 2] = [700, 701];

/// What decides how values look and how they compare; the same on both sides. Row security fails
/// rather than hides rows.
const SETUP: &str = "SET datestyle = 'ISO, YMD'; \
     SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; \
     SET xmloption = 'content'; SET lc_monetary = 'C'; SET extra_float_digits = 1; \
     SET row_security = off; SET jit = off; SET work_mem = '32MB'; \
     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The server's text of a value; `None` is NULL.
pub type Value = Option<String>;

/// A column of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// As SQL writes it: `numeric(10,2)`.
    pub type_name: String,
    /// The type, below any domain.
    pub type_oid: u32,
    /// Its name: extensions have no fixed numbers.
    base_name: String,
}

/// A key: how it is named when people are told, and its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `primary key` or `replica identity`.
    pub what: &'static str,
    /// Names of columns, in the key's order.
    pub columns: Vec<String>,
}

/// A column that both sides have, with another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retyped {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub old: String,
    /// Its type after.
    pub new: String,
}

/// One side: a server, and the table there; `None` where it has none.
pub struct Side {
    /// A connection to the database.
    pub client: Client,
    /// The table.
    pub table: Option<Table>,
}

/// What will be compared, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Columns before, in order; empty where there is no table.
    pub old: Vec<Column>,
    /// Columns after.
    pub new: Vec<Column>,
    /// By what rows belong together; `None` compares whole rows.
    pub key: Option<Key>,
    /// Columns that only the new table has.
    pub added: Vec<String>,
    /// Columns that only the old table has.
    pub dropped: Vec<String>,
    /// Columns of another type.
    pub retyped: Vec<Retyped>,
    /// Positions before and after of the columns that are compared.
    common: Vec<(usize, usize)>,
    /// Whether orders are those of UTF-8, made by the server.
    convert: bool,
}

/// One difference. Values stand in the order of the columns of their side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference<'a> {
    /// Only the new table has the row.
    Added(&'a [Value]),
    /// Only the old table has it.
    Removed(&'a [Value]),
    /// Both have it, with other values.
    Changed(&'a [Value], &'a [Value]),
}

/// How many rows there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Only in the new table.
    pub added: u64,
    /// Only in the old table.
    pub removed: u64,
    /// In both, with other values.
    pub changed: u64,
    /// In both, alike.
    pub same: u64,
}

impl Counts {
    /// Whether any row differs.
    pub fn differ(&self) -> bool {
        self.added + self.removed + self.changed > 0
    }
}

impl Side {
    /// The table that `name` names in the database before (`old`) and after; where one of them has
    /// none, the rows of the other came or went as a whole. The text is a place, as in errors.
    ///
    /// Errors: those of [`TableName::find`], `NotFound` when neither has it.
    pub fn pair(
        name: &TableName,
        mut old: (Client, &str),
        mut new: (Client, &str),
    ) -> Result<(Side, Side)> {
        let missing = |found: Result<Table>| match found {
            Err(Error::Table(TableError::NotFound { .. })) => Ok(None),
            found => found.map(Some),
        };
        let before = missing(name.find(&mut old.0, old.1))?;
        let after = match &before {
            Some(table) => missing(TableName::parse(&table.sql())?.find(&mut new.0, new.1))?,
            None => Some(name.find(&mut new.0, new.1)?),
        };
        let side = |client, table| Side { client, table };
        Ok((side(old.0, before), side(new.0, after)))
    }
}

impl Plan {
    /// Looks at both tables. From here on both connections read one state of their database.
    ///
    /// Errors: `Query`.
    pub fn make(old: &mut Side, new: &mut Side) -> Result<Plan> {
        let (a, b) = (Look::at(old)?, Look::at(new)?);
        let position = |name: &str| b.columns.iter().position(|c| c.name == name);
        let mut common = Vec::new();
        let mut retyped = Vec::new();
        let mut dropped = Vec::new();
        for (i, column) in a.columns.iter().enumerate() {
            let Some(j) = position(&column.name) else {
                dropped.push(column.name.clone());
                continue;
            };
            common.push((i, j));
            let now = &b.columns[j];
            if now.type_name != column.type_name {
                retyped.push(Retyped {
                    name: column.name.clone(),
                    old: column.type_name.clone(),
                    new: now.type_name.clone(),
                });
            }
        }
        let is_new = |c: &&Column| !a.columns.iter().any(|old| old.name == c.name);
        let mut added: Vec<String> = b.columns.iter().filter(is_new).map(name).collect();
        let key = match (&old.table, &new.table) {
            (Some(_), Some(_)) => a
                .keys
                .iter()
                .find(|key| b.keys.iter().any(|other| other.columns == key.columns))
                .cloned(),
            // A table that comes or goes as a whole has no columns that do.
            _ => {
                added.clear();
                dropped.clear();
                a.keys.first().or(b.keys.first()).cloned()
            }
        };
        let convert = a.encoding != b.encoding || !matches!(&*a.encoding, "UTF8" | "SQL_ASCII");
        if a.encoding == "SQL_ASCII" && !convert {
            // Bytes of no encoding cannot be checked against one.
            for side in [&mut *old, new] {
                batch(&mut side.client, "SET client_encoding = 'SQL_ASCII'")?;
            }
        }
        Ok(Plan {
            old: a.columns,
            new: b.columns,
            key,
            added,
            dropped,
            retyped,
            common,
            convert,
        })
    }

    /// Reads both tables and tells every difference, in the order of the key's text.
    ///
    /// Errors: `Query`, and those of `on`, after which the rest is not read.
    pub fn run<E: From<Error>>(
        &self,
        old: &mut Side,
        new: &mut Side,
        on: &mut dyn FnMut(Difference<'_>) -> Result<(), E>,
    ) -> Result<Counts, E> {
        let (ours, theirs) = self.order();
        let mut a = self.stream(old, &self.old, &ours)?;
        let mut b = self.stream(new, &self.new, &theirs)?;
        let mut counts = Counts::default();
        let (mut left, mut right) = (a.next()?, b.next()?);
        loop {
            let order = match (&left, &right) {
                (None, None) => return Ok(counts),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => left.key.cmp(&right.key),
            };
            match order {
                Ordering::Less => {
                    counts.removed += 1;
                    if let Some(row) = &left {
                        on(Difference::Removed(&row.values))?;
                    }
                    left = a.next()?;
                }
                Ordering::Greater => {
                    counts.added += 1;
                    if let Some(row) = &right {
                        on(Difference::Added(&row.values))?;
                    }
                    right = b.next()?;
                }
                Ordering::Equal => {
                    if let (Some(old), Some(new)) = (&left, &right) {
                        if self.is_same(&old.values, &new.values) {
                            counts.same += 1;
                        } else {
                            counts.changed += 1;
                            on(Difference::Changed(&old.values, &new.values))?;
                        }
                    }
                    (left, right) = (a.next()?, b.next()?);
                }
            }
        }
    }

    /// Positions before and after of the columns that differ between two rows.
    pub fn changed<'a>(
        &'a self,
        old: &'a [Value],
        new: &'a [Value],
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        let differ = |(i, j): &(usize, usize)| old[*i] != new[*j];
        self.common.iter().copied().filter(differ)
    }

    /// Positions of the key among these columns, which are one side's.
    pub fn key_positions(&self, columns: &[Column]) -> Vec<usize> {
        let names = self.key.iter().flat_map(|key| &key.columns);
        names
            .filter_map(|name| columns.iter().position(|c| c.name == *name))
            .collect()
    }

    fn is_same(&self, old: &[Value], new: &[Value]) -> bool {
        // Whole rows that look alike as a key are alike.
        self.key.is_none() || self.changed(old, new).next().is_none()
    }

    /// Positions before and after of the columns by which rows are ordered.
    fn order(&self) -> (Vec<usize>, Vec<usize>) {
        match &self.key {
            Some(_) => (self.key_positions(&self.old), self.key_positions(&self.new)),
            // One of the tables is not there.
            None if self.old.is_empty() || self.new.is_empty() => {
                ((0..self.old.len()).collect(), (0..self.new.len()).collect())
            }
            None => self.common.iter().copied().unzip(),
        }
    }

    fn stream<'a>(
        &self,
        side: &'a mut Side,
        columns: &[Column],
        order: &[usize],
    ) -> Result<Stream<'a>> {
        let Some(table) = &side.table else {
            return Ok(Stream::empty());
        };
        let mut shown: Vec<String> = order.iter().map(|i| self.key_text(&columns[*i])).collect();
        shown.extend(columns.iter().map(|c| format!("t.{}", quoted(&c.name))));
        let by = (1..=order.len()).map(|n| format!("{n} NULLS FIRST"));
        let by = by.collect::<Vec<_>>().join(", ");
        let order_by = if by.is_empty() {
            String::new()
        } else {
            format!(" ORDER BY {by}")
        };
        let sql = format!(
            "COPY (SELECT {} FROM {} t{order_by}) TO STDOUT",
            shown.join(", "),
            table.sql()
        );
        let reader = side
            .client
            .copy_out(&sql)
            .map_err(|e| query_error("reading rows", &e))?;
        Ok(Stream::new(reader, order.len(), columns.len()))
    }

    /// The text by which a column is ordered.
    fn key_text(&self, column: &Column) -> String {
        let name = format!("t.{}", quoted(&column.name));
        let text = match column.type_oid {
            _ if self.key.is_none() => format!("{name}::text"),
            NUMERIC => format!("trim_scale({name}::numeric)::text"),
            // -0 + 0 is 0.
            oid if FLOATS.contains(&oid) => format!("({name}::float8 + 0)::text"),
            _ if column.base_name == "citext" => format!("lower({name}::text)"),
            _ => format!("{name}::text"),
        };
        if self.convert {
            format!("convert_to({text}, 'UTF8')")
        } else {
            format!("{text} COLLATE \"C\"")
        }
    }
}

fn name(column: &Column) -> String {
    column.name.clone()
}

/// What one side says about its table.
struct Look {
    columns: Vec<Column>,
    /// The primary key first.
    keys: Vec<Key>,
    encoding: String,
}

impl Look {
    fn at(side: &mut Side) -> Result<Look> {
        const COLUMNS: &str = "WITH RECURSIVE base(oid, type) AS ( \
               SELECT t.oid, t.oid FROM pg_type t WHERE t.typbasetype = 0 \
               UNION ALL SELECT t.oid, b.type FROM pg_type t JOIN base b ON t.typbasetype = b.oid) \
             SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.oid, t.typname::text \
             FROM pg_attribute a JOIN base b ON b.oid = a.atttypid JOIN pg_type t ON t.oid = b.type \
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        const KEYS: &str = "SELECT i.indisprimary, \
               array(SELECT a.attname::text \
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
                 WHERE k.n <= i.indnkeyatts ORDER BY k.n) \
             FROM pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid \
             AND i.indpred IS NULL AND i.indexprs IS NULL \
             AND (i.indisprimary OR i.indisreplident) ORDER BY i.indisprimary DESC";
        let client = &mut side.client;
        for sql in [OWN_PATH, NO_TIMEOUTS, SETUP] {
            batch(client, sql)?;
        }
        let failed = |e: postgres::Error| query_error("looking at the table", &e);
        let encoding = client
            .query_one("SELECT current_setting('server_encoding')", &[])
            .map_err(failed)?
            .get(0);
        let (mut columns, mut keys) = (Vec::new(), Vec::new());
        if let Some(table) = &side.table {
            for row in client.query(COLUMNS, &[&table.oid]).map_err(failed)? {
                columns.push(Column {
                    name: row.get(0),
                    type_name: row.get(1),
                    type_oid: row.get(2),
                    base_name: row.get(3),
                });
            }
            for row in client.query(KEYS, &[&table.oid]).map_err(failed)? {
                let what = if row.get(0) {
                    "primary key"
                } else {
                    "replica identity"
                };
                keys.push(Key {
                    what,
                    columns: row.get(1),
                });
            }
        }
        Ok(Look {
            columns,
            keys,
            encoding,
        })
    }
}

fn batch(client: &mut Client, sql: &str) -> Result<()> {
    client
        .batch_execute(sql)
        .map_err(|e| query_error("preparing the session", &e))
}

#[cfg(test)]
mod tests;
