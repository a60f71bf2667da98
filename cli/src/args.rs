//! The command line: typed text → meaning. Words only; nothing here does anything.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
Revisions (REV): a branch, a tag, a snapshot id or a unique prefix of one, or HEAD; then any of
~N and ^ (ancestors), @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028} (an LSN).

Environment: ZENITH_HOME, ZENITH_STORAGE_DEST, ZENITH_PG_BIN, ZENITH_PORT,
ZENITH_SNAPSHOT_INTERVAL and NO_COLOR; a flag wins over the environment, the environment over
config.toml. Storages read the usual names of their cloud (AWS_ACCESS_KEY_ID, AWS_REGION,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...); for
--snapshot-path the same names with SNAPSHOT_ in front win.";

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
#[derive(Debug, Clone, Args)]
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the settings of this home and where each comes from
    Config(ConfigArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one per command into a directory
    Man(ManArgs),
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

/// The whole definition, every long flag also in snake_case (hidden).
pub fn command() -> Command {
    with_snake_case(Cli::command())
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
    }
}
