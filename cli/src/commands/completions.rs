//! `zenith completions`: the script by which a shell asks how a word goes on.

use super::Context;
use crate::args::CompletionsArgs;
use crate::complete;
use crate::error::Failure;

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let script = complete::script(args.shell).map_err(Failure::Output)?;
    context.ui.raw(&script)
}
