//! COPY's text format → rows, one at a time.
//!
//! Fields are separated by tabs and rows by line breaks; both are escaped inside of fields, and
//! `\N` alone is NULL.

use std::io::BufRead;

use postgres::CopyOutReader;

use super::Value;
use crate::error::Result;
use crate::pg;
use crate::query::io_error;

const READING: &str = "reading rows";

/// Rows in the order of their key.
pub(super) struct Stream<'a> {
    reader: Option<CopyOutReader<'a>>,
    /// Fields before those of the table itself.
    key_len: usize,
    len: usize,
    line: Vec<u8>,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What it is ordered by; NULL, as `None`, comes first.
    pub(super) key: Vec<Option<Vec<u8>>>,
    pub(super) values: Vec<Value>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(reader: CopyOutReader<'a>, key_len: usize, len: usize) -> Stream<'a> {
        Stream {
            reader: Some(reader),
            key_len,
            len,
            line: Vec::new(),
        }
    }

    /// Of a table that is not there.
    pub(super) fn empty() -> Stream<'a> {
        Stream {
            reader: None,
            key_len: 0,
            len: 0,
            line: Vec::new(),
        }
    }

    /// Errors: `Query`.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        self.line.clear();
        let read = reader.read_until(b'\n', &mut self.line);
        if read.map_err(|e| io_error(READING, &e))? == 0 {
            self.reader = None;
            return Ok(None);
        }
        let row = parse(&self.line, self.key_len);
        if row.key.len() != self.key_len || row.values.len() != self.len {
            // A table without columns has empty lines.
            if self.key_len + self.len == 0 {
                let (key, values) = (Vec::new(), Vec::new());
                return Ok(Some(Row { key, values }));
            }
            return Err(pg::Error::Query {
                doing: READING,
                reason: format!("a row of {} columns has {}", self.len, row.values.len()),
                code: None,
            }
            .into());
        }
        Ok(Some(row))
    }
}

fn parse(line: &[u8], key_len: usize) -> Row {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.split(|b| *b == b'\t');
    let key = fields.by_ref().take(key_len).map(unescape).collect();
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text,
        // Only of a database without encoding.
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    };
    let values = fields.map(|field| unescape(field).map(text)).collect();
    Row { key, values }
}

fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(b) = bytes.next() {
        let escaped = match b {
            b'\\' => bytes.next(),
            b => {
                out.push(*b);
                continue;
            }
        };
        out.push(match escaped {
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'v') => 11,
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            // The server writes no other escape than `\\`.
            Some(other) => *other,
            None => b'\\',
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_and_a_row() {
        let row = parse(b"a\\tb\t\\N\tx\\\\N\\n\\r\\b\\v\\f\t\t\\N\n", 2);
        assert_eq!(row.key, [Some(b"a\tb".to_vec()), None]);
        let values = [Some("x\\N\n\r\u{8}\u{b}\u{c}"), Some(""), None];
        assert_eq!(row.values, values.map(|v| v.map(str::to_owned)));
    }

    #[test]
    fn null_comes_first_and_a_prefix_before_what_it_begins() {
        let key = |line: &[u8]| parse(line, 2).key;
        let ordered = [
            key(b"\\N\tz"),
            key(b"\tz"),
            key(b"a\t\\N"),
            key(b"a\ta"),
            key(b"ab\t\\N"),
            key(b"b\t\\N"),
        ];
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
