//! What can be typed to ask a snapshot: `sql`, `psql`, `cp`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How a short-lived server is made and asked.
#[derive(Debug, Clone, Default, Args)]
pub struct ScratchArgs {
    /// The database [default: the only one besides postgres and templates, else postgres]
    #[arg(short, long, value_name = "DBNAME")]
    pub dbname: Option<String>,
    /// The role that asks [default: postgres]
    #[arg(short = 'U', long, value_name = "ROLE")]
    pub username: Option<String>,
    /// Put the temporary checkout into this directory instead of the home
    #[arg(long, value_name = "DIR")]
    pub tmp_dir: Option<PathBuf>,
    /// Libraries to preload, as in shared_preload_libraries; otherwise none
    #[arg(long, value_name = "LIBRARIES")]
    pub preload: Option<String>,
}

impl ScratchArgs {
    /// Whether anything was asked for.
    pub fn is_any(&self) -> bool {
        self.dbname.is_some()
            || self.username.is_some()
            || self.tmp_dir.is_some()
            || self.preload.is_some()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
The server is a copy that nobody else reaches: it can be written to, and goes with the command. The \
answer is psql's; the exit code is 1 when a statement fails.")]
pub struct SqlArgs {
    /// The snapshot
    #[arg(value_name = "REV")]
    pub rev: String,
    /// `-`: read statements from stdin
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true)]
    pub stdin: Option<String>,
    /// Run this; can be given several times
    #[arg(short, long, value_name = "SQL", conflicts_with_all = ["stdin", "file"])]
    pub command: Vec<String>,
    /// Run the statements of a file; can be given several times
    #[arg(short, long, value_name = "FILE", conflicts_with = "stdin")]
    pub file: Vec<PathBuf>,
    /// Answer as CSV
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    pub scratch: ScratchArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The server is a copy that nobody else reaches: it can be written to, and is gone when psql ends. \
PGHOST, PGPORT, PGUSER and PGDATABASE lead there, also for programs that psql starts.")]
pub struct PsqlArgs {
    /// The snapshot
    #[arg(value_name = "REV")]
    pub rev: String,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// For psql
    #[arg(last = true, value_name = "PSQL_ARG")]
    pub args: Vec<std::ffi::OsString>,
}

/// How the rows of a table are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CpFormat {
    /// A script for psql, rows as COPY
    Copy,
    /// Plain SQL, rows as INSERT
    Sql,
    /// The rows alone, as CSV with a line of names
    Csv,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Everything that is the table's comes along: columns, rows, indexes, constraints, owned sequences, \
triggers, policies, privileges, partitions. It comes back whole or not at all, and never into a \
table that is there.")]
pub struct CpArgs {
    /// The snapshot and the table: `orders`, `public.orders` or `db.public.orders`; * and ? match
    #[arg(value_name = "REV:TABLE")]
    pub what: String,
    /// The rows without the definition
    #[arg(long)]
    pub data_only: bool,
    /// The definition without rows
    #[arg(long, conflicts_with = "data_only")]
    pub schema_only: bool,
    /// How rows are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CpFormat::Copy)]
    pub format: CpFormat,
    /// Take every table that the name matches
    #[arg(long)]
    pub all_matching: bool,
    /// Leave out who owns it
    #[arg(long)]
    pub no_owner: bool,
    /// Leave out who may use it
    #[arg(long)]
    pub no_privileges: bool,
    #[command(flatten)]
    pub scratch: ScratchArgs,
}
