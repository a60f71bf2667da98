//! What can be typed about passphrases: `key`, and the flags of commands that need one.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

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
