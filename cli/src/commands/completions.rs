//! `zenith completions`: generated from the same definitions as everything else.

use super::Context;
use crate::args::{self, CompletionsArgs};
use crate::error::Failure;

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "zenith", &mut script);
    context.ui.raw(&script)
}
