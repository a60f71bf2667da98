//! What can be typed to look back: `log`, `diff`, `op log`, and back again: `undo`.

use clap::{Args, Subcommand};

use super::remote::At;
use super::scratch::ScratchArgs;

#[derive(Debug, Args)]
pub struct LogArgs {
    /// Where to begin; otherwise HEAD
    #[arg(value_name = "REV", conflicts_with = "all")]
    pub revs: Vec<String>,
    /// Begin with this branch
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub branch: Option<String>,
    /// Snapshots of every branch and of none
    #[arg(long, short)]
    pub all: bool,
    /// Draw which snapshot goes on from which
    #[arg(long)]
    pub graph: bool,
    /// Only id, names and message
    #[arg(long)]
    pub oneline: bool,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub at: At,
    /// Only snapshots in which one of these changed, or one of its indexes: orders, public.orders,
    /// app.public.orders; * stands for any text
    #[arg(value_name = "TABLE", last = true)]
    pub tables: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The snapshot to begin with [default: HEAD]
    #[arg(value_name = "A")]
    pub before: Option<String>,
    /// The snapshot to compare it with; without it the managed cluster
    #[arg(value_name = "B")]
    pub after: Option<String>,
    /// Files instead of relations
    #[arg(long, conflicts_with = "name_only")]
    pub stat: bool,
    /// Only the names of what changed, one a line
    #[arg(long)]
    pub name_only: bool,
    /// Show catalogs, maps, transaction status, WAL and other files, too
    #[arg(long)]
    pub all: bool,
    /// Exit with 1 when there are differences and with 0 when there are none
    #[arg(long)]
    pub exit_code: bool,
    /// The rows of this table that differ, instead of pages
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["stat", "name_only", "all"])]
    pub rows: Option<String>,
    #[command(flatten, next_help_heading = "With --rows")]
    pub scratch: ScratchArgs,
}

#[derive(Debug, Subcommand)]
pub enum OpVerb {
    /// List operations, newest first
    Log(OpLogArgs),
}

#[derive(Debug, Args)]
pub struct OpLogArgs {
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Also those that moved neither branches nor snapshots, nor HEAD
    #[arg(long, short)]
    pub all: bool,
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each branch, tag and snapshot goes back only where it still stands as the operation left it; \
otherwise nothing is changed. The managed cluster goes back as by a checkout: its server must be \
stopped, and what no snapshot holds is saved first. An undo is an operation, too, and can be undone. Deleted snapshots \
come back as long as `zenith gc` has not deleted what they need, at least a day.")]
pub struct UndoArgs {
    /// Number of the operation; otherwise the newest that somebody asked for
    #[arg(value_name = "N")]
    pub number: Option<u64>,
    /// Say what would be undone
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub at: At,
}
