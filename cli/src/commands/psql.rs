//! `zenith psql`: a session on a snapshot.

use std::io::{IsTerminal, stdin};

use super::Context;
use super::scratch::{client, ended, keeper, resolve, serve};
use crate::args::PsqlArgs;
use crate::error::Failure;

pub fn run(args: &PsqlArgs, context: &Context) -> Result<(), Failure> {
    if context.ui.is_json() {
        return Err(Failure::Words {
            what: "psql does not answer in JSON".to_owned(),
            hint: "`zenith sql REV --json -c SQL` does.".to_owned(),
        });
    }
    let keeper = keeper(&context.ui)?;
    let managed = context.open()?;
    let id = resolve(context, &managed, &args.rev)?;
    let scratch = serve(context, &managed, &keeper, id, &args.scratch)?;
    let database = scratch.database(args.scratch.dbname.as_deref())?;
    let mut psql = client(context, &scratch, "psql", &database)?;
    let is_session = stdin().is_terminal();
    if is_session {
        // `app@09d2e8f1=# `, so that nobody takes the past for the present.
        psql.arg("-v")
            .arg(format!("PROMPT1=%/@{}%R%x%# ", id.short()));
    }
    if context.ui.is_quiet() {
        psql.arg("-q");
    }
    psql.args(&args.args);
    let status = keeper.run(&mut psql, is_session)?;
    ended(status, &scratch)?;
    Ok(scratch.close()?)
}
