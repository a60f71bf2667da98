//! Statements, and their answers as the server writes them: text with types.

use std::io::BufRead;

use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::error::Result;
use crate::pg;
use crate::pg::session::reason;
use crate::scratch::{NO_TIMEOUTS, OWN_PATH, ScratchError, query_error};
use crate::table::Table;

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
/// Errors: `ScratchError::Statement`, `Query` when the connection broke, and those of `on`, after
/// which the rest is not read.
pub fn run<E: From<crate::Error>>(
    client: &mut Client,
    sql: &str,
    on: &mut dyn FnMut(Answer<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |e: &postgres::Error| E::from(refused(e));
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

/// Reads a table as CSV with a line of names, in pieces.
///
/// Errors: `Query`, and those of `on`, after which the rest is not read.
pub fn copy_csv<E: From<crate::Error>>(
    client: &mut Client,
    table: &Table,
    on: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    const READING: &str = "reading rows";
    let sql = format!(
        "COPY (SELECT * FROM {}) TO STDOUT (FORMAT csv, HEADER)",
        table.sql()
    );
    for first in [OWN_PATH, NO_TIMEOUTS] {
        client
            .batch_execute(first)
            .map_err(|e| E::from(query_error(READING, &e)))?;
    }
    let mut reader = client
        .copy_out(&sql)
        .map_err(|e| E::from(query_error(READING, &e)))?;
    loop {
        let piece = reader
            .fill_buf()
            .map_err(|e| E::from(io_error(READING, &e)))?;
        if piece.is_empty() {
            return Ok(());
        }
        let len = piece.len();
        on(piece)?;
        reader.consume(len);
    }
}

/// A failed read of what the server sends: its own words, where it said any.
pub(crate) fn io_error(doing: &'static str, error: &std::io::Error) -> crate::Error {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(inner) => query_error(doing, inner),
        None => pg::Error::Query {
            doing,
            reason: error.to_string(),
            code: None,
        }
        .into(),
    }
}

/// The server's word on a statement is about the statement.
fn refused(error: &postgres::Error) -> crate::Error {
    match error.code() {
        Some(_) => ScratchError::Statement {
            reason: reason(error),
        }
        .into(),
        None => query_error("running the statement", error),
    }
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
