//! `zenith sql`: statements on a snapshot.

use std::fs::File;
use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::process::Stdio;

use zenith::query::{self, Answer};
use zenith::scratch::Scratch;

use super::Context;
use super::scratch::{client, ended, explain, keeper, resolve, serve};
use crate::args::SqlArgs;
use crate::error::Failure;
use crate::render::value;

pub fn run(args: &SqlArgs, context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    let reads_stdin = args.stdin.is_some() || args.file.iter().any(|file| file == Path::new("-"));
    if args.command.is_empty() && args.file.is_empty() && !reads_stdin && stdin().is_terminal() {
        return Err(Failure::Words {
            what: "there is nothing to run".to_owned(),
            hint: "Give -c SQL, -f FILE, or - for stdin; `zenith psql REV` is a session."
                .to_owned(),
        });
    }
    if ui.is_json() && (args.csv || args.command.is_empty()) {
        return Err(Failure::Words {
            what: "--json answers single statements".to_owned(),
            hint: "Give each with a -c of its own, and no --csv.".to_owned(),
        });
    }
    // As root, while the file can still be opened.
    let only = match args.file.as_slice() {
        [file] if crate::render::place::typed_by_root() && file != Path::new("-") => {
            let open = File::open(file).map_err(|e| Failure::Words {
                what: format!("{}: {e}", file.display()),
                hint: "Check the path; a relative one counts from here.".to_owned(),
            })?;
            Some(open)
        }
        _ => None,
    };
    let keeper = keeper(&context.ui)?;
    let managed = context.open()?;
    let id = resolve(context, &managed, &args.rev)?;
    let scratch = serve(context, &managed, &keeper, id, &args.scratch)?;
    let database = scratch.database(args.scratch.dbname.as_deref())?;
    if ui.is_json() {
        return records(args, context, &scratch, &database);
    }
    let mut psql = client(context, &scratch, "psql", &database)?;
    psql.args(["-X", "-v", "ON_ERROR_STOP=1"]);
    if args.csv {
        psql.arg("--csv");
    }
    if ui.is_quiet() {
        psql.arg("-q");
    }
    for sql in &args.command {
        psql.arg("-c").arg(sql);
    }
    if let Some(file) = only {
        psql.args(["-f", "-"]).stdin(Stdio::from(file));
    } else if !args.file.is_empty() {
        for file in &args.file {
            psql.arg("-f").arg(file);
        }
    } else if args.command.is_empty() {
        psql.args(["-f", "-"]);
    }
    let status = keeper.run(&mut psql, false)?;
    ended(status, &scratch)?;
    Ok(scratch.close()?)
}

/// Every row as an object, and one for the end of each statement.
fn records(
    args: &SqlArgs,
    context: &Context,
    scratch: &Scratch,
    database: &str,
) -> Result<(), Failure> {
    let mut client = scratch.connect(database)?;
    for (n, sql) in args.command.iter().enumerate() {
        let statement = n + 1;
        query::run::<Failure>(&mut client, sql, &mut |answer| {
            let line = match answer {
                Answer::Row(columns, values) => {
                    let fields = columns.iter().zip(values).map(|(column, text)| {
                        (column.name.as_str(), value::json(column.type_oid, text))
                    });
                    format!(
                        "{{\"type\":\"row\",\"v\":1,\"statement\":{statement},\"row\":{}}}\n",
                        value::object(fields)
                    )
                }
                Answer::Done(rows) => format!(
                    "{{\"type\":\"done\",\"v\":1,\"statement\":{statement},\"rows\":{rows}}}\n"
                ),
            };
            context.ui.raw(line.as_bytes())
        })
        .map_err(|e| explain(e, scratch))?;
    }
    Ok(())
}
