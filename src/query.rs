//! Statements, and their answers as the server writes them: text with types.

use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::error::Result;
use crate::scratch::query_error;

/// Rows that are fetched at a time.
const BATCH: u32 = 1000;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The oid of its type, of that below a domain.
    pub type_oid: u32,
}

/// What a statement answers, piece by piece.
#[derive(Debug)]
pub enum Answer<'a> {
    /// A row, in the server's text form; `None` is NULL.
    Row(&'a [Column], Vec<Option<&'a str>>),
    /// The end: how many rows were answered or affected.
    Done(u64),
}

/// Runs one statement. Its rows come in batches where it is a query, so that they need not fit
/// into memory.
///
/// Errors: `Query`, and those of `on`, after which the rest is not read.
pub fn run<E: From<crate::Error>>(
    client: &mut Client,
    sql: &str,
    on: &mut dyn FnMut(Answer<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |e: &postgres::Error| E::from(query_error("running the statement", e));
    // A statement that cannot be prepared has no types; the server says why.
    let prepared = client.prepare(sql).map_err(|e| failed(&e))?;
    let columns: Vec<Column> = prepared
        .columns()
        .iter()
        .map(|column| Column {
            name: column.name().to_owned(),
            type_oid: base_type(column.type_()).oid(),
        })
        .collect();
    if columns.is_empty() || !begin_cursor(client, sql).map_err(|e| failed(&e))? {
        let messages = client.simple_query(sql).map_err(|e| failed(&e))?;
        return tell(&messages, &columns, on).and_then(|count| on(Answer::Done(count)));
    }
    let mut count = 0;
    loop {
        let sql = format!("FETCH {BATCH} FROM zenith_rows");
        let messages = client.simple_query(&sql).map_err(|e| failed(&e))?;
        match tell(&messages, &columns, on)? {
            0 => break,
            n => count += n,
        }
    }
    client
        .batch_execute("CLOSE zenith_rows; COMMIT")
        .map_err(|e| failed(&e))?;
    on(Answer::Done(count))
}

/// Whether the statement is one that a cursor can be of.
fn begin_cursor(client: &mut Client, sql: &str) -> Result<bool, postgres::Error> {
    client.batch_execute("BEGIN")?;
    // The line break ends a comment that the statement may end with.
    let declare = format!("DECLARE zenith_rows NO SCROLL CURSOR FOR {sql}\n");
    match client.batch_execute(&declare) {
        Ok(()) => Ok(true),
        Err(e) if is_no_query(e.code()) => {
            client.batch_execute("ROLLBACK")?;
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// What the server says to a cursor of SHOW, INSERT … RETURNING and the like.
fn is_no_query(code: Option<&SqlState>) -> bool {
    code.is_some_and(|code| {
        [
            SqlState::SYNTAX_ERROR,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::INVALID_CURSOR_DEFINITION,
        ]
        .contains(code)
    })
}

fn tell<E>(
    messages: &[SimpleQueryMessage],
    columns: &[Column],
    on: &mut dyn FnMut(Answer<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let mut count = 0;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => on(Answer::Row(columns, values(row)))?,
            SimpleQueryMessage::CommandComplete(n) => count = *n,
            _ => {}
        }
    }
    Ok(count)
}

fn values(row: &SimpleQueryRow) -> Vec<Option<&str>> {
    (0..row.len()).map(|i| row.get(i)).collect()
}

fn base_type(of: &postgres::types::Type) -> &postgres::types::Type {
    match of.kind() {
        postgres::types::Kind::Domain(base) => base_type(base),
        _ => of,
    }
}
