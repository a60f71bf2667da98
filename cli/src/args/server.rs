//! What can be typed to make a home and run its server: `init`, `start`, `stop`, `status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::files::ImportFormat;
use super::key::PassphraseArgs;
use super::snapshot::DamageArgs;
use super::value::duration;

/// Settings of the server and its agent that init saves, and that hold once for start.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Where snapshots are pushed: /path, file://, s3://, gs:// or az://
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub storage_dest: Option<String>,
    /// Directory of the PostgreSQL programs; otherwise PATH, pg_config, /usr/lib/postgresql
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// TCP port of the server [default: 5432]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Addresses the server listens on [default: localhost]
    #[arg(long, value_name = "ADDRESSES")]
    pub listen: Option<String>,
    /// Time between automatic snapshots, such as 30s, 5m or 1h [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub snapshot_interval: Option<Duration>,
    /// As root: the user who owns the home and runs the server [default: postgres]
    #[arg(long, value_name = "USER")]
    pub pg_user: Option<String>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Begin with this cluster instead of an empty one: a path or URL; never saved
    #[arg(long, value_name = "PATH_OR_URL", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot_path: Option<String>,
    /// What lies at --snapshot-path
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ImportFormat::Auto)]
    pub snapshot_format: ImportFormat,
    /// An argument for initdb; can be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub initdb_arg: Vec<String>,
    /// Name of the branch
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    #[command(flatten)]
    pub damage: DamageArgs,
    /// Declare this home the only one that ever writes to --storage-dest
    ///
    /// For servers that cannot create an object only where there is none. Other homes are refused
    /// there, until one takes over with this flag.
    #[arg(long)]
    pub single_writer: bool,
    /// Encrypt what is stored, here and at --storage-dest, under a passphrase
    #[arg(long)]
    pub encrypt: bool,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Stay in the foreground until SIGTERM or SIGINT (containers, service managers)
    #[arg(long)]
    pub foreground: bool,
    /// Take snapshots but do not push them
    #[arg(long)]
    pub no_push: bool,
    /// This cluster is the original from now on: lift the guard of an imported or cloned one
    #[arg(long)]
    pub primary: bool,
}

#[derive(Debug, Args)]
pub struct StopArgs {
    /// How the server stops: as pg_ctl's modes
    #[arg(long, value_name = "MODE", value_enum, default_value_t = StopMode::Fast)]
    pub mode: StopMode,
    /// Take no last snapshot; immediate implies it
    #[arg(long)]
    pub no_snapshot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StopMode {
    /// Disconnect clients, then shut down
    Fast,
    /// Wait for clients to disconnect
    Smart,
    /// Abort; the next start recovers
    Immediate,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Exit with 3 when the last push is older than this, such as 15m or 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_age: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Take snapshots but do not push them
    #[arg(long)]
    pub no_push: bool,
    /// Time between automatic snapshots
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub snapshot_interval: Option<Duration>,
    /// Push here instead of to the saved storage_dest
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub storage_dest: Option<String>,
    /// Leave the terminal and its session
    #[arg(long)]
    pub detach: bool,
}
