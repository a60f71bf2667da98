//! What can be typed about snapshots: `snapshot`, `checkout`, `prune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::remote::At;
use super::value::{duration, tablespace_mapping};

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Take a snapshot of the managed cluster, or of any cluster on this machine
    Create(CreateArgs),
    /// List snapshots, newest first
    List(ListArgs),
    /// Show everything known about one snapshot
    Show(ShowArgs),
    /// Delete one snapshot; its space is freed by the next collection
    ///
    /// What HEAD stands on and what homes build on stays in any case.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What to remember about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// A data directory other than the managed cluster's
    #[arg(long, value_name = "DIR")]
    pub pgdata: Option<PathBuf>,
    /// Connection to the server that runs on --pgdata
    #[arg(long, value_name = "DSN", requires = "pgdata")]
    pub dsn: Option<String>,
    /// Branch that gets the snapshot; otherwise the one checked out
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Read every file, even those that look unchanged
    #[arg(long)]
    pub read_all: bool,
    #[command(flatten)]
    pub damage: DamageArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what this branch has; otherwise the one checked out
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub branch: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// Snapshots of every branch and of none
    #[arg(long, short)]
    pub all: bool,
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The snapshot
    #[arg(value_name = "REV", default_value = "HEAD")]
    pub rev: String,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The snapshot
    #[arg(value_name = "REV")]
    pub rev: String,
    /// Also when a branch or tag points at it; branches step back to the parent
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub at: At,
    /// Say what would be deleted, delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// For commands that read a cluster.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DamageArgs {
    /// Damaged pages: warn and record them, or fail; otherwise as in config.toml
    #[arg(long, value_name = "WHAT", value_enum)]
    pub on_damage: Option<OnDamage>,
}

/// What to do about damaged pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDamage {
    Fail,
    Warn,
}

#[derive(Debug, Args)]
pub struct CheckoutArgs {
    /// The snapshot
    #[arg(value_name = "REV")]
    pub rev: String,
    /// A new directory, or an older checkout to move; without it the managed cluster moves
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Create this branch at REV and continue on it
    #[arg(short = 'b', long = "new-branch", value_name = "NEW")]
    pub branch: Option<String>,
    /// Discard changes that no snapshot holds; those of the managed cluster come back by `undo`
    #[arg(long)]
    pub force: bool,
    /// Leave out the guard that keeps a copy from archiving, replicating and listening
    #[arg(long)]
    pub unguarded: bool,
    /// Put a tablespace elsewhere; can be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = tablespace_mapping)]
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Do not wait for the disk; a power loss right after may damage the result
    #[arg(long)]
    pub no_sync: bool,
    /// Say what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Keep the N newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_yearly: Option<u32>,
    /// Keep all that are younger, such as 12h, 30d or 8w
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub keep_within: Option<Duration>,
    /// Keep what this tag is at: a name, or a pattern with * and ?; can be given several times
    #[arg(long, value_name = "TAG", value_parser = NonEmptyStringValueParser::new())]
    pub keep_tag: Vec<String>,
    /// Only this branch; what another branch has too stays
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Tips of branches go by the rules as well; a branch steps back to what is left of it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub at: At,
    /// Say of each snapshot whether it would go and why, delete nothing
    #[arg(long)]
    pub dry_run: bool,
}
