//! What can be typed about the program itself: `config`, `completions`, `man`.

use std::path::PathBuf;

use clap::Args;

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
