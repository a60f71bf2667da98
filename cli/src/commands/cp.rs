//! `zenith cp`: a table of a snapshot as SQL that makes it anew.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::Stdio;
use std::time::Instant;

use zenith::scratch::{Keeper, Scratch};
use zenith::table::{self, Table, TableName};

use super::Context;
use super::scratch::{client, ended, explain, keeper, resolve, serve};
use crate::args::{CpArgs, CpFormat};
use crate::error::Failure;
use crate::render::size::{count, plural, size};
use crate::render::time::took;

/// A script stops at its first error, says nothing but its last line, and is one transaction: a
/// table comes back whole or not at all.
const BEGIN: &str = "\\set ON_ERROR_STOP on\n\\set QUIET on\n\\o /dev/null\nBEGIN;\n";
const COMMIT: &str = "COMMIT;\n\\o\n";

/// What went out.
#[derive(Default)]
struct Sent {
    rows: u64,
    bytes: u64,
}

pub fn run(args: &CpArgs, context: &Context) -> Result<(), Failure> {
    let (revision, name) = table::split(&args.what).ok_or_else(|| Failure::Words {
        what: format!("`{}` names no table", args.what),
        hint: format!("Name snapshot and table: `zenith cp {}:TABLE`.", args.what),
    })?;
    let name = TableName::parse(name).map_err(zenith::Error::from)?;
    refuse(args, &name, context)?;
    let keeper = keeper(&context.ui)?;
    let managed = context.open()?;
    let id = resolve(context, &managed, revision)?;
    let begun = Instant::now();
    let scratch = serve(context, &managed, &keeper, id, &args.scratch)?;
    let (tables, sent) = send(args, &name, revision, context, &keeper, &scratch)
        .map_err(|e| explain(e, &scratch))?;
    scratch.close()?;
    let mut parts = vec![size(sent.bytes), took(begun.elapsed())];
    if sent.rows > 0 {
        parts.insert(0, format!("{} rows", count(sent.rows)));
    }
    context.ui.talk(format_args!(
        "{} of {}  {}",
        list(&tables),
        id.short(),
        parts.join(", ")
    ));
    Ok(())
}

/// Finds the tables and writes them.
fn send(
    args: &CpArgs,
    name: &TableName,
    revision: &str,
    context: &Context,
    keeper: &Keeper,
    scratch: &Scratch,
) -> Result<(Vec<Table>, Sent), Failure> {
    let database = scratch.database(args.scratch.dbname.as_deref().or(name.database()))?;
    let mut client = scratch.connect(&database)?;
    let place = format!("snapshot {}", scratch.id().short());
    let tables = if args.all_matching {
        name.find_all(&mut client, &place)?
    } else {
        vec![name.find(&mut client, &place)?]
    };
    let sent = match (args.format, tables.as_slice()) {
        (CpFormat::Csv, [table]) => csv(table, scratch, &database)?,
        (CpFormat::Csv, _) => {
            return Err(Failure::Words {
                what: format!(
                    "{} do not fit into one CSV",
                    plural(tables.len() as u64, "table")
                ),
                hint: "Name one table with --format csv.".to_owned(),
            });
        }
        _ => {
            let all = table::with_partitions(&mut client, &tables)?;
            let id = scratch.id().short();
            let head = comment(&format!("{} of snapshot {id} ({revision})", list(&tables)));
            dump(args, &all, &head, context, keeper, scratch, &database)?
        }
    };
    Ok((tables, sent))
}

fn refuse(args: &CpArgs, name: &TableName, context: &Context) -> Result<(), Failure> {
    let words = |what: &str, hint: &str| {
        Err(Failure::Words {
            what: what.to_owned(),
            hint: hint.to_owned(),
        })
    };
    if context.ui.is_json() {
        return words(
            "cp writes SQL or CSV, no JSON",
            "`zenith sql REV --json -c 'table orders'` answers rows as JSON.",
        );
    }
    if args.format == CpFormat::Csv && args.schema_only {
        return words(
            "a definition has no rows to write as CSV",
            "Leave out --schema-only, or --format csv.",
        );
    }
    if let (Some(one), Some(other)) = (&args.scratch.dbname, name.database())
        && one != other
    {
        return words(
            &format!("-d says database `{one}`, the table's name `{other}`"),
            "Name the database once.",
        );
    }
    Ok(())
}

/// A line of SQL that does nothing: what it says may hold line breaks, as names of tables may.
fn comment(text: &str) -> String {
    format!("-- {}\n", text.replace(['\n', '\r'], " "))
}

/// `public.orders`, `3 tables`.
fn list(tables: &[Table]) -> String {
    match tables {
        [table] => table.shown(),
        tables => plural(tables.len() as u64, "table"),
    }
}

fn csv(table: &Table, scratch: &Scratch, database: &str) -> Result<Sent, Failure> {
    let mut client = scratch.connect(database)?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut sent = Sent::default();
    zenith::query::copy_csv::<Failure>(&mut client, table, &mut |bytes| {
        sent.bytes += bytes.len() as u64;
        out.write_all(bytes).map_err(Failure::from_output)
    })?;
    out.flush().map_err(Failure::from_output)?;
    Ok(sent)
}

fn dump(
    args: &CpArgs,
    tables: &[Table],
    head: &str,
    context: &Context,
    keeper: &Keeper,
    scratch: &Scratch,
    database: &str,
) -> Result<Sent, Failure> {
    let mut dump = client(context, scratch, "pg_dump", database)?;
    // Settings of a session are for people.
    dump.env("PGOPTIONS", scratch.options());
    for (is_set, flag) in [
        (args.data_only, "--data-only"),
        (args.schema_only, "--schema-only"),
        (args.no_owner, "--no-owner"),
        (args.no_privileges, "--no-privileges"),
        (args.format == CpFormat::Sql, "--column-inserts"),
        (args.format == CpFormat::Sql, "--rows-per-insert=100"),
    ] {
        if is_set {
            dump.arg(flag);
        }
    }
    for table in tables {
        dump.arg("-t").arg(table.sql());
    }
    dump.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut program = keeper.spawn(&mut dump, false)?;
    let stdout = program
        .stdout()
        .ok_or_else(|| Failure::Bug("pg_dump has no stdout".to_owned()))?;
    let is_script = args.format == CpFormat::Copy;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut script = Script {
        out: &mut out,
        is_script,
        restricted: None,
        in_rows: false,
        sent: Sent::default(),
    };
    let begin = if is_script { BEGIN } else { "BEGIN;\n" };
    script.put(head.as_bytes())?;
    script.put(begin.as_bytes())?;
    let mut reader = BufReader::with_capacity(1 << 16, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        match read.map_err(|e| Failure::Bug(format!("reading from pg_dump: {e}")))? {
            0 => break,
            _ => script.line(&line)?,
        }
    }
    // Without its last line nothing of it counts.
    ended(program.wait()?, scratch)?;
    let commit = if is_script { COMMIT } else { "COMMIT;\n" };
    script.put(commit.as_bytes())?;
    if is_script && !args.schema_only {
        let last = format!("\\echo COPY {}\n", script.sent.rows);
        script.put(last.as_bytes())?;
    }
    let sent = script.sent;
    out.flush().map_err(Failure::from_output)?;
    Ok(sent)
}

/// pg_dump's lines on their way.
struct Script<'a> {
    out: &'a mut dyn Write,
    is_script: bool,
    /// The key of `\restrict`, a command for psql alone.
    restricted: Option<Vec<u8>>,
    in_rows: bool,
    sent: Sent,
}

impl Script<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if self.in_rows {
            self.in_rows = text != b"\\.";
            self.sent.rows += u64::from(self.in_rows);
        } else if text.starts_with(b"COPY ") && text.ends_with(b" FROM stdin;") {
            self.in_rows = true;
        } else if !self.is_script {
            // The key is random, so that no row holds it.
            if let (Some(key), None) = (text.strip_prefix(b"\\restrict "), &self.restricted) {
                self.restricted = Some(key.to_owned());
                return Ok(());
            }
            let end = text.strip_prefix(b"\\unrestrict ");
            if end.is_some() && end == self.restricted.as_deref() {
                return Ok(());
            }
        }
        self.put(line)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sent.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Failure::from_output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(is_script: bool, lines: &str) -> (String, u64) {
        let mut out = Vec::new();
        let mut script = Script {
            out: &mut out,
            is_script,
            restricted: None,
            in_rows: false,
            sent: Sent::default(),
        };
        for line in lines.split_inclusive('\n') {
            script.line(line.as_bytes()).unwrap();
        }
        let rows = script.sent.rows;
        (String::from_utf8(out).unwrap(), rows)
    }

    #[test]
    fn a_comment_is_one_line_whatever_a_table_is_called() {
        let table = Table {
            oid: 1,
            schema: "public".into(),
            name: "orders_x\n\\! touch it\r--".into(),
            kind: 'r',
        };
        let head = comment(&format!("{} of snapshot x (main\n1)", list(&[table])));
        assert_eq!(head.matches(['\n', '\r']).count(), 1, "{head}");
        assert!(head.starts_with("-- ") && head.ends_with(")\n"), "{head}");
    }

    #[test]
    fn rows_are_counted_and_lines_stay() {
        let text = "CREATE TABLE t (n text);\nCOPY public.t (n) FROM stdin;\n1\nCOPY x FROM stdin;\n\
                    \\N\n\\.\nSELECT 1;\nCOPY public.u (n) FROM stdin;\n\\.\n";
        assert_eq!(through(true, text), (text.to_owned(), 3));
    }

    #[test]
    fn plain_sql_has_no_commands_of_psql() {
        let text = "\\restrict abc\nINSERT INTO t VALUES ('\n\\restrict x\n\\unrestrict x\n');\n\
                    \\unrestrict abc\n";
        let (out, _) = through(false, text);
        assert_eq!(
            out,
            "INSERT INTO t VALUES ('\n\\restrict x\n\\unrestrict x\n');\n"
        );
        assert_eq!(through(true, text).0, text);
    }
}
