//! The command line: typed text → meaning. Words only; nothing here does anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

mod scratch;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::complete;
pub use scratch::{CpArgs, CpFormat, PsqlArgs, ScratchArgs, SqlArgs};

const AFTER_HELP: &str = "\
Revisions (REV): a branch, a tag, a snapshot id or a unique prefix of one, or HEAD; then any of
~N and ^ (ancestors), @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028} (an LSN).

Environment: ZENITH_HOME, ZENITH_STORAGE_DEST, ZENITH_PG_BIN, ZENITH_PORT,
ZENITH_SNAPSHOT_INTERVAL, ZENITH_PASSPHRASE, ZENITH_NEW_PASSPHRASE, ZENITH_PAGER (or PAGER) and
NO_COLOR; a flag wins over the environment, the environment over config.toml. Storages read the usual names of their cloud
(AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS,
AZURE_STORAGE_ACCOUNT_NAME, ...); for --snapshot-path the same names with SNAPSHOT_ in front win.";

/// git for PostgreSQL clusters: snapshots, branches and backups of a whole server
#[derive(Debug, Parser)]
#[command(name = "zenith", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every command understands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The home; otherwise ZENITH_HOME, the nearest .zenith upwards, or ./.zenith
    #[arg(short = 'D', long, value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// Say only the answer
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice for the log lines of the engine
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Answer with one JSON object per line, each with `type` and `v`
    #[arg(long, global = true)]
    pub json: bool,
    /// Print long lists as they are, without a pager
    #[arg(long, global = true)]
    pub no_pager: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a home: a new cluster or an imported one, and its first snapshot
    Init(InitArgs),
    /// Start the server and the agent that takes and pushes snapshots
    Start(StartArgs),
    /// Stop the server, take a last snapshot and push it
    Stop(StopArgs),
    /// Server, snapshots, storage: how things stand
    Status(StatusArgs),
    /// Take, list, show and delete snapshots
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Show the history of branches, newest first
    #[command(after_help = "\
A line of dots (┊) is where snapshots are missing: they were pruned, or are not here.")]
    Log(LogArgs),
    /// Materialise a snapshot: in a new directory, or as the managed cluster
    Checkout(CheckoutArgs),
    /// What changed between two snapshots, or since one: pages of each relation
    ///
    /// Without B the managed cluster is compared, running or not; without A, HEAD with it. No server
    /// is started: names come from the snapshots, pages are compared byte by byte.
    #[command(after_help = "\
With --rows both snapshots are asked by short-lived servers, and without B the running server of the
managed cluster: rows with + are only after, with - only before, with ~ in both with other values.
They belong together by primary key or replica identity; without one, whole rows are compared.")]
    Diff(DiffArgs),
    /// Ask a snapshot: run SQL on a short-lived server made from it
    Sql(SqlArgs),
    /// A psql session on a short-lived server made from a snapshot
    Psql(PsqlArgs),
    /// Write a table of a snapshot as SQL that makes it anew
    Cp(CpArgs),
    /// List, create, rename and delete branches
    ///
    /// A branch that is checked out is not deleted, and none that alone leads to snapshots without
    /// --force. Snapshots of a deleted branch stay until they are pruned.
    Branch(BranchArgs),
    /// List, create and delete tags, which keep their snapshots
    Tag(TagArgs),
    /// Send snapshots that the storage does not have yet
    Push(PushArgs),
    /// Bring what a remote has; local branches stay where they are
    Fetch(FetchArgs),
    /// Fetch, then move the branch and the managed cluster forward
    Pull(PullArgs),
    /// Make a home from a storage: its branches, and a guarded copy of the cluster
    #[command(after_help = "\
DIR is the home: go on with `zenith -D DIR start`. A clone that was cut off goes on with the same
command.")]
    Clone(CloneArgs),
    /// List, show, add, change and remove the repositories to fetch from and push to
    Remote(RemoteArgs),
    /// Write a snapshot as plain PostgreSQL files, as tar, or as a repository
    Export(ExportArgs),
    /// Read a cluster from plain PostgreSQL files, tar, or a repository into a branch
    Import(ImportArgs),
    /// Free the space of what no snapshot uses
    Gc(GcArgs),
    /// Check that everything snapshots need is there and whole
    Verify(VerifyArgs),
    /// Reverse an operation that moved branches, tags or snapshots
    Undo(UndoArgs),
    /// The operation log: who did what, when
    #[command(subcommand)]
    Op(OpVerb),
    /// Delete snapshots that no rule keeps
    ///
    /// A rule keeps the newest snapshot of each of the last N hours, days, ... that have one, in
    /// local time; what any rule keeps stays. Every branch is judged for itself. Whatever the rules
    /// say, these stay: the tip of a branch (unless --force), what HEAD stands on, what homes build
    /// on, and what has a tag, until `zenith tag -d NAME` deletes that. Space is freed by `zenith gc`.
    Prune(PruneArgs),
    /// List, add, change and remove the passphrases of an encrypted repository
    #[command(subcommand)]
    Key(KeyVerb),
    /// List the homes that build on what lies at the storage, and forget those that are gone
    #[command(subcommand)]
    Home(HomeVerb),
    /// Show the settings of this home and where each comes from
    Config(ConfigArgs),
    /// Print the completion script of a shell
    ///
    /// The script asks zenith itself, so that branches, tags, remotes and snapshots complete, too.
    #[command(after_help = "\
To install it:
  bash  echo 'source <(zenith completions bash)' >> ~/.bashrc
  zsh   echo 'source <(zenith completions zsh)' >> ~/.zshrc
  fish  echo 'zenith completions fish | source' >> ~/.config/fish/config.fish")]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one per command into a directory
    Man(ManArgs),
    /// The process that takes and pushes snapshots in the background
    #[command(hide = true)]
    Agent(AgentArgs),
}

/// How an import finds what lies at `--snapshot-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// Look and see
    Auto,
    /// A PostgreSQL data directory
    Pgdata,
    /// Base backup archives as pg_basebackup -F tar makes them
    Tar,
    /// Another zenith repository
    Zenith,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A PostgreSQL data directory with a backup_manifest
    Pgdata,
    /// Base backup archives as pg_basebackup -F tar makes them
    Tar,
    /// A zenith repository holding this snapshot
    Zenith,
}

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

/// What to do about damaged pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDamage {
    Fail,
    Warn,
}

/// For commands that read a cluster.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct DamageArgs {
    /// Damaged pages: warn and record them, or fail; otherwise as in config.toml
    #[arg(long, value_name = "WHAT", value_enum)]
    pub on_damage: Option<OnDamage>,
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

/// Where a passphrase comes from; otherwise ZENITH_PASSPHRASE, the settings, the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct PassphraseArgs {
    /// A file that holds the passphrase; a newline at its end does not count
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// A command of the shell that prints the passphrase as its first line
    #[arg(long, value_name = "CMD", conflicts_with = "passphrase_file",
          value_parser = NonEmptyStringValueParser::new())]
    pub passphrase_command: Option<String>,
}

/// Where a new passphrase comes from; otherwise ZENITH_NEW_PASSPHRASE, the terminal.
#[derive(Debug, Clone, Default, Args)]
pub struct NewPassphraseArgs {
    /// A file that holds the new passphrase; a newline at its end does not count
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

/// Where a command acts.
#[derive(Debug, Clone, Default, Args)]
pub struct At {
    /// At a remote instead of here [default: origin, which is storage_dest]
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "origin")]
    pub remote: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What no snapshot uses is condemned first and deleted a day later, so that it can come back until
then (`zenith undo`); --now does both. A storage may be in use by other homes meanwhile: what they
are about to use is kept or sent again, whatever their clocks say.")]
pub struct GcArgs {
    /// Say what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// Delete at once what nothing uses; it cannot come back
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Damage is told by pack, and by the files and snapshots that it touches. --repair looks for what is
lost in the remotes, in the managed cluster and in what is left of damaged packs; with --remote it
repairs the remote, also from this home. Where the latest root cannot be read it goes on from the
newest one that can, and brings back every snapshot that is whole in the packs. Nothing is deleted.

Exits with 0 when everything is whole and with 7 when something is missing or damaged.")]
pub struct VerifyArgs {
    /// Read every byte and check every hash, instead of lengths and structure alone
    #[arg(long)]
    pub read_data: bool,
    /// Read and check so much of the data, chosen at random
    #[arg(long, value_name = "N%", conflicts_with = "read_data",
          value_parser = crate::commands::parse_sample)]
    pub sample: Option<u32>,
    /// Read every byte and bring back what is missing or damaged, as far as another place has it
    #[arg(long, conflicts_with = "sample")]
    pub repair: bool,
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each branch, tag and snapshot goes back only where it still stands as the operation left it;
otherwise nothing is changed. An undo is an operation, too, and can be undone. Deleted snapshots
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
    /// Also those that moved neither branches nor snapshots
    #[arg(long, short)]
    pub all: bool,
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// List the key slots: each opens the repository with a passphrase of its own
    List,
    /// Add a key slot with a new passphrase
    Add(KeyAddArgs),
    /// Replace a passphrase by a new one; nothing is encrypted anew
    Change(KeyChangeArgs),
    /// Remove a key slot: its passphrase opens nothing any more
    Remove(KeyRemoveArgs),
}

#[derive(Debug, Args)]
pub struct KeyAddArgs {
    #[command(flatten)]
    pub new: NewPassphraseArgs,
}

#[derive(Debug, Args)]
pub struct KeyChangeArgs {
    #[command(flatten)]
    pub old: PassphraseArgs,
    #[command(flatten)]
    pub new: NewPassphraseArgs,
}

#[derive(Debug, Args)]
pub struct KeyRemoveArgs {
    /// The slot, as `zenith key list` numbers it
    #[arg(value_name = "N")]
    pub number: u32,
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
    #[arg(value_name = "NAME", required_if_eq("delete", "true"))]
    pub name: Option<String>,
    /// What it names [default: HEAD]
    #[arg(value_name = "REV", conflicts_with = "delete")]
    pub rev: Option<String>,
    /// Delete it; its snapshot stays until it is pruned
    #[arg(short, long)]
    pub delete: bool,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum HomeVerb {
    /// List the homes for which snapshots are kept, and at which
    List(HomeListArgs),
    /// Keep nothing any more for a home that is gone
    ///
    /// What such a home did not push yet builds on snapshots that may go then, so this is for homes
    /// that will not come back. One that does come back is noted again when it pushes.
    Forget(HomeForgetArgs),
}

#[derive(Debug, Args)]
pub struct HomeListArgs {
    #[command(flatten)]
    pub at: At,
}

#[derive(Debug, Args)]
pub struct HomeForgetArgs {
    /// Its id, or a unique prefix of at least four digits
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub at: At,
    /// Say what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,
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

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The snapshot
    #[arg(value_name = "REV", default_value = "HEAD")]
    pub rev: String,
    /// Where to: a path or URL; FILE.tar is one tar file, - writes it to stdout
    #[arg(long, value_name = "PATH_OR_URL", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot_path: String,
    /// In which format
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub snapshot_format: Option<ExportFormat>,
    /// Put a tablespace elsewhere; can be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = tablespace_mapping)]
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Do not wait for the disk; a power loss right after may damage the result
    #[arg(long)]
    pub no_sync: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where from: a path or URL; - reads a tar from stdin
    #[arg(long, value_name = "PATH_OR_URL", value_parser = NonEmptyStringValueParser::new())]
    pub snapshot_path: String,
    /// What lies there
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ImportFormat::Auto)]
    pub snapshot_format: ImportFormat,
    /// Branch that gets the snapshot; otherwise the one checked out
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// What to remember about it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    #[command(flatten)]
    pub damage: DamageArgs,
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

#[derive(Debug, Args)]
pub struct ConfigArgs {}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write zenith.1, zenith-init.1, ... here
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
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

/// The whole definition, every long flag also in snake_case (hidden).
pub fn command() -> Command {
    let command = with_snake_case(Cli::command());
    complete::with_names(crate::examples::add(command))
}

/// What was typed, or clap's error (help and version are errors of clap's, too).
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

fn with_snake_case(command: Command) -> Command {
    fn alias(arg: Arg) -> Arg {
        match arg
            .get_long()
            .filter(|long| long.contains('-'))
            .map(|long| long.replace('-', "_"))
        {
            Some(snake) => arg.alias(snake),
            None => arg,
        }
    }
    command.mut_args(alias).mut_subcommands(with_snake_case)
}

/// `2s`, `5m`, `1h 30m`, `2 days`: jiff's friendly durations, above zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let example = "expected a time such as 30s, 5m, 1h or 2 days";
    let span: jiff::Span = text.parse().map_err(|_| example.to_owned())?;
    let signed = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years differ in length; use days or hours".to_owned())?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than nothing".to_owned()),
    }
}

/// `OLD=NEW`, both absolute; `\=` is an equals sign inside a path, as in pg_basebackup.
fn tablespace_mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let mut sides = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'=') => {
                sides.last_mut().expect("never empty").extend(chars.next());
            }
            '=' => sides.push(String::new()),
            c => sides.last_mut().expect("never empty").push(c),
        }
    }
    let [old, new] = sides.as_slice() else {
        return Err("expected OLD=NEW with one equals sign".to_owned());
    };
    for side in [old, new] {
        if !side.starts_with('/') {
            return Err(format!("`{side}` is not an absolute path"));
        }
    }
    Ok((PathBuf::from(old), PathBuf::from(new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    /// Every long flag with a hyphen, of every command, is understood in snake_case.
    #[test]
    fn every_long_flag_has_its_snake_case() {
        fn walk(command: &Command, seen: &mut Vec<String>) {
            for arg in command.get_arguments() {
                if let Some(long) = arg.get_long().filter(|long| long.contains('-')) {
                    let aliases = arg.get_all_aliases().unwrap_or_default();
                    assert!(
                        aliases.contains(&long.replace('-', "_").as_str()),
                        "--{long} of {}",
                        command.get_name()
                    );
                    seen.push(long.to_owned());
                }
            }
            command.get_subcommands().for_each(|sub| walk(sub, seen));
        }
        let mut seen = Vec::new();
        walk(&command(), &mut seen);
        for wanted in [
            "storage-dest",
            "snapshot-path",
            "snapshot-format",
            "max-age",
        ] {
            assert!(seen.iter().any(|long| long == wanted), "--{wanted}");
        }
    }

    #[test]
    fn the_scenarios_are_understood_as_typed() {
        for line in [
            "zenith init --storage_dest=s3://b/p",
            "zenith init --snapshot_path=/x --snapshot_format=pgdata --storage_dest=/y",
            "zenith export --snapshot_path=/x --snapshot_format=pgdata",
            "zenith export main --snapshot-path /tmp/out --snapshot-format pgdata",
            "zenith start",
            "zenith snapshot list",
            "zenith checkout main~3 /tmp/yesterday",
            "zenith status --max-age 1h",
            "zenith checkout -b try HEAD~2",
            "zenith sql v1 -c select -c table -d app --csv",
            "zenith sql v1 -f a.sql -f b.sql -U app",
            "zenith sql v1 -",
            "zenith psql v1 -d app --tmp_dir /x -- -c select --csv",
            "zenith cp main~1:public.orders --data-only --format csv",
            "zenith cp main:orders_* --all_matching --no-owner",
            "zenith diff main~1 --rows public.orders -d app --exit_code",
            "zenith snapshot create -m before --json -q",
            "zenith snapshot create --on_damage=fail",
            "zenith -D /h start --snapshot-interval 2s --no_push",
            "zenith init --initdb-arg --locale=C --initdb-arg -k",
            "zenith init --encrypt --passphrase-file /p --storage-dest /s",
            "zenith key add --new_passphrase_file /n",
            "zenith key change --passphrase-command pass",
            "zenith key remove 3",
            "zenith push offsite --all --tags",
            "zenith fetch origin main --depth 0 --prune --dry_run",
            "zenith pull --full",
            "zenith clone /s d --lazy",
            "zenith clone s3://b/p d --branch x --depth 3 --single_branch",
            "zenith remote",
            "zenith remote set-url offsite s3://b/p",
            "zenith remote remove offsite --dry_run",
            "zenith snapshot list --remote --all",
            "zenith log",
            "zenith log main~1 --graph -- public.orders app.*",
            "zenith log main origin/main --graph -n 3 --oneline",
            "zenith log --all --remote=offsite",
            "zenith snapshot list --remote=offsite",
            "zenith branch",
            "zenith branch --all",
            "zenith branch try HEAD~2",
            "zenith branch -d try --force --remote",
            "zenith branch -m old new",
            "zenith branch -m new",
            "zenith tag v1 main~3",
            "zenith tag -d v1",
            "zenith home list --remote",
            "zenith home forget 0a1b --remote",
            "zenith prune --keep-last 3 --keep_daily 7 --keep-within 2d --keep-tag v* --dry_run",
        ] {
            if let Err(e) = typed(line) {
                panic!("{line}: {e}");
            }
        }
        let cli = typed("zenith start --storage_dest=/s --snapshot_interval=5m").unwrap();
        let Verb::Start(start) = cli.verb else {
            panic!("not start")
        };
        assert_eq!(start.server.storage_dest.as_deref(), Some("/s"));
        assert_eq!(
            start.server.snapshot_interval,
            Some(Duration::from_secs(300))
        );
    }

    #[test]
    fn durations_are_friendly() {
        for (text, seconds) in [
            ("2s", 2),
            ("5m", 300),
            ("1h", 3600),
            ("1h 30m", 5400),
            ("2 days", 172_800),
            ("1w", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "5", "fast", "0s", "-5m", "1 month"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tablespaces_are_mapped_by_absolute_paths() {
        let pair = |a: &str, b: &str| Ok((PathBuf::from(a), PathBuf::from(b)));
        assert_eq!(tablespace_mapping("/a=/b"), pair("/a", "/b"));
        assert_eq!(tablespace_mapping("/a\\=x=/b"), pair("/a=x", "/b"));
        for wrong in ["/a", "a=/b", "/a=b", "/a=/b=/c", "="] {
            assert!(tablespace_mapping(wrong).is_err(), "{wrong}");
        }
    }
}
