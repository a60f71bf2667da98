//! `zenith completions`: the script by which a shell asks how a word goes on.

use super::Context;
use crate::args::CompletionsArgs;
use crate::complete;
use crate::error::Failure;

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let script = complete::script(args.shell).map_err(Failure::Output)?;
    if context.ui.is_json() {
        return context.ui.record(&serde_json::json!({
            "type": "completions", "v": 1, "shell": args.shell.to_string(),
            "script": String::from_utf8_lossy(&script),
        }));
    }
    context.ui.raw(&script)
}
