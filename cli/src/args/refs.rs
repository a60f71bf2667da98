//! What can be typed about names: `branch`, `tag`.

use clap::Args;

use super::remote::At;

#[derive(Debug, Args)]
pub struct BranchArgs {
    /// The branch; without it branches are listed
    #[arg(value_name = "NAME", required_if_eq_any([("delete", "true"), ("rename", "true")]))]
    pub name: Option<String>,
    /// Where a new one begins [default: HEAD]; with -m the new name
    #[arg(value_name = "REV", conflicts_with = "delete")]
    pub rev: Option<String>,
    /// Delete it
    #[arg(short, long)]
    pub delete: bool,
    /// Rename: `-m OLD NEW`, or `-m NEW` for the one that is checked out
    #[arg(short = 'm', long = "move", conflicts_with_all = ["delete", "remote"])]
    pub rename: bool,
    /// Delete it although nothing else leads to some of its snapshots
    #[arg(long, requires = "delete")]
    pub force: bool,
    /// List what is known of the storage's, too
    #[arg(short, long, conflicts_with_all = ["name", "remote"])]
    pub all: bool,
    #[command(flatten)]
    pub at: At,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct TagArgs {
    /// The tag; without it tags are listed
    #[arg(value_name = "NAME", required_if_eq_any([("delete", "true"), ("rename", "true")]))]
    pub name: Option<String>,
    /// What it names [default: HEAD]; with -m the new name
    #[arg(
        value_name = "REV",
        conflicts_with = "delete",
        required_if_eq("rename", "true")
    )]
    pub rev: Option<String>,
    /// Delete it; its snapshot stays until it is pruned
    #[arg(short, long)]
    pub delete: bool,
    /// Rename: `-m OLD NEW`
    #[arg(short = 'm', long = "move", conflicts_with = "delete")]
    pub rename: bool,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
}
