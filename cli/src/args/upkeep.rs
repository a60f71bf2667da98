//! What can be typed to look after a repository: `gc`, `verify`, `home`.

use clap::{Args, Subcommand};

use super::remote::At;

#[derive(Debug, Args)]
#[command(after_help = "\
What no snapshot uses is condemned first and deleted a day later, so that it can come back until \
then (`zenith undo`); --now does both. A storage may be in use by other homes meanwhile: what they \
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
Damage is told by pack, and by the files and snapshots that it touches. --repair looks for what is \
lost in the remotes, in the managed cluster and in what is left of damaged packs; with --remote it \
repairs the remote, also from this home. Where the latest root cannot be read it goes on from the \
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
