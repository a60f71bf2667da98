//! The command line: typed text → meaning. Words only; nothing here does anything.

mod files;
mod history;
mod key;
mod program;
mod refs;
mod remote;
mod scratch;
mod server;
mod snapshot;
mod upkeep;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::complete;
pub use files::{ExportArgs, ExportFormat, ImportArgs, ImportFormat};
pub use history::{DiffArgs, LogArgs, OpLogArgs, OpVerb, UndoArgs};
pub use key::{KeyAddArgs, KeyChangeArgs, KeyRemoveArgs, KeyVerb, NewPassphraseArgs};
pub use program::{CompletionsArgs, ConfigArgs, ManArgs};
pub use refs::{BranchArgs, TagArgs};
pub use remote::{
    CloneArgs, DepthArgs, FetchArgs, PullArgs, PushArgs, RemoteArgs, RemoteRemoveArgs,
    RemoteUrlArgs, RemoteVerb,
};
pub use scratch::{CpArgs, CpFormat, PsqlArgs, ScratchArgs, SqlArgs};
pub use server::{AgentArgs, InitArgs, ServerArgs, StartArgs, StatusArgs, StopArgs, StopMode};
pub use snapshot::{
    CheckoutArgs, CreateArgs, DamageArgs, DeleteArgs, ListArgs, OnDamage, PruneArgs, ShowArgs,
    SnapshotVerb,
};
pub use upkeep::{GcArgs, HomeForgetArgs, HomeListArgs, HomeVerb, VerifyArgs};
pub use value::duration;

const AFTER_HELP: &str = "\
Revisions (REV): a branch, a tag, a snapshot id or a unique prefix of one, or HEAD; then any of \
~N and ^ (ancestors), @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028} (an LSN).

Environment: ZENITH_HOME, ZENITH_STORAGE_DEST, ZENITH_PG_BIN, ZENITH_PORT, \
ZENITH_SNAPSHOT_INTERVAL, ZENITH_PASSPHRASE, ZENITH_NEW_PASSPHRASE, ZENITH_PAGER (or PAGER) and \
NO_COLOR; a flag wins over the environment, the environment over config.toml. Storages read the \
usual names of their cloud (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, \
GOOGLE_APPLICATION_CREDENTIALS, \
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
A line of dots (┊, or : in ASCII) is where snapshots are missing: they were pruned, or are not here.")]
    Log(LogArgs),
    /// Materialise a snapshot: in a new directory, or as the managed cluster
    Checkout(CheckoutArgs),
    /// What changed between two snapshots, or since one: pages of each relation
    ///
    /// Without B the managed cluster is compared, running or not; without A, HEAD with it. No server
    /// is started: names come from the snapshots, pages are compared byte by byte.
    #[command(after_help = "\
With --rows both snapshots are asked by short-lived servers, and without B the running server of \
the managed cluster: rows with + are only after, with - only before, with ~ in both with other \
values. \
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
    /// List, create, rename and delete tags, which keep their snapshots
    Tag(TagArgs),
    /// Send snapshots that the storage does not have yet
    Push(PushArgs),
    /// Bring what a remote has; local branches stay where they are
    Fetch(FetchArgs),
    /// Fetch, then move the branch and the managed cluster forward
    Pull(PullArgs),
    /// Make a home from a storage: its branches, and a guarded copy of the cluster
    #[command(after_help = "\
DIR is the home: go on with `zenith -D DIR start`. A clone that was cut off goes on with the same \
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
            "zenith tag -m v1 v2",
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
            Some(std::time::Duration::from_secs(300))
        );
    }
}
