//! What can be typed about other repositories: `push`, `fetch`, `pull`, `clone`, `remote`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::key::PassphraseArgs;

/// Where a command acts.
#[derive(Debug, Clone, Default, Args)]
pub struct At {
    /// At a remote instead of here [default: origin, which is storage_dest]
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "origin")]
    pub remote: Option<String>,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    /// The remote; otherwise origin, which is storage_dest
    #[arg(value_name = "REMOTE")]
    pub remote: Option<String>,
    /// The branch; otherwise the one checked out
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub branch: Option<String>,
    /// Every branch
    #[arg(long)]
    pub all: bool,
    /// Also every tag that the remote does not have
    #[arg(long)]
    pub tags: bool,
    /// Say what would be sent, send nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct FetchArgs {
    /// A remote first, where one has this name, then branches; otherwise origin, the branch
    /// checked out and those known already
    #[arg(value_name = "REMOTE|BRANCH")]
    pub names: Vec<String>,
    /// Every branch
    #[arg(long)]
    pub all: bool,
    /// Every tag with its snapshot; otherwise tags of snapshots that are here
    #[arg(long)]
    pub tags: bool,
    /// Forget branches that the remote does not have any more
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub depth: DepthArgs,
    /// Say what would be fetched, fetch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How much history comes along.
#[derive(Debug, Clone, Copy, Args)]
pub struct DepthArgs {
    /// So many snapshots of each branch, newest first; 0 for all of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub depth: u64,
    /// The whole history, as --depth 0; `fetch` completes a lazy home with it
    #[arg(long, conflicts_with = "depth")]
    pub full: bool,
}

#[derive(Debug, Args)]
pub struct PullArgs {
    /// The remote; otherwise origin, which is storage_dest
    #[arg(value_name = "REMOTE")]
    pub remote: Option<String>,
    #[command(flatten)]
    pub depth: DepthArgs,
    /// Discard changes of the managed cluster that no snapshot holds
    #[arg(long)]
    pub force: bool,
    /// Say what would happen; nothing is fetched or moved
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct CloneArgs {
    /// The storage: /path, file://, s3://, gs:// or az://
    #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub url: String,
    /// The home that is made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The branch to stand on; otherwise main, or the only one
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Leave the other branches there
    #[arg(long)]
    pub single_branch: bool,
    /// Bring the list of snapshots and no packs: these are read as they are needed; makes no cluster
    #[arg(long)]
    pub lazy: bool,
    #[command(flatten)]
    pub depth: DepthArgs,
    /// TCP port of the server [default: 5432]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Directory of the PostgreSQL programs; otherwise PATH, pg_config, /usr/lib/postgresql
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// As root: the user who owns the home and runs the server [default: postgres]
    #[arg(long, value_name = "USER")]
    pub pg_user: Option<String>,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub struct RemoteArgs {
    #[command(subcommand)]
    pub verb: Option<RemoteVerb>,
}

#[derive(Debug, Subcommand)]
pub enum RemoteVerb {
    /// List the remotes; origin is storage_dest
    List,
    /// Ask a remote for its branches, and say how those here stand to them
    Show(RemoteShowArgs),
    /// Add a remote; credentials come from the environment and are never saved
    Add(RemoteUrlArgs),
    /// Change where a remote is; what is known of its branches is forgotten
    SetUrl(RemoteUrlArgs),
    /// Forget a remote; nothing changes there
    Remove(RemoteRemoveArgs),
}

#[derive(Debug, Args)]
pub struct RemoteShowArgs {
    /// The remote
    #[arg(value_name = "NAME", default_value = "origin")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct RemoteUrlArgs {
    /// The remote
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where it is: /path, file://, s3://, gs:// or az://
    #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub url: String,
}

#[derive(Debug, Args)]
pub struct RemoteRemoveArgs {
    /// The remote
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Say what would be forgotten, forget nothing
    #[arg(long)]
    pub dry_run: bool,
}
