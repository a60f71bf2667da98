//! What clap says about the words that were typed, told as everything else is.

use std::ffi::OsString;

use clap::error::ErrorKind;

use super::Failure;

/// Words of clap's and of Rust's, and those that are used here.
const WORDS: [(&str, &str); 6] = [
    ("unrecognized subcommand ", "there is no command "),
    ("some similar subcommands exist", "similar commands are"),
    ("a similar subcommand exists", "a similar command is"),
    ("invalid digit found in string", "it is no whole number"),
    ("number too large to fit in target type", "it is too large"),
    ("cannot parse integer from empty string", "it is empty"),
];

impl Failure {
    /// What clap says about the words that were typed, told as everything else is.
    pub fn from_clap(error: &clap::Error, typed: &[OsString]) -> Self {
        let command = command_of(typed);
        // Without a command clap shows the help, which is no error message.
        if let ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand =
            error.kind()
        {
            return Failure::CommandLine {
                what: format!("a command is missing after `{command}`"),
                details: vec![],
                command,
            };
        }
        let mut text = error.to_string().replace('\'', "`");
        for (theirs, ours) in WORDS {
            text = text.replace(theirs, ours);
        }
        let mut lines = text.lines().map(str::trim_end).peekable();
        let first = lines.next().unwrap_or_default();
        let mut what = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        // What is missing is listed below a colon.
        while what.ends_with([':', ',']) {
            let Some(item) = lines.next_if(|line| line.starts_with("  ")) else {
                break;
            };
            what = format!("{what} {}", item.trim());
            if lines.peek().is_some_and(|line| line.starts_with("  <")) {
                what.push(',');
            }
        }
        let details = lines
            .take_while(|line| !line.starts_with("For more information"))
            .filter(|line| !line.is_empty())
            .map(|line| match line.strip_prefix("  tip: ") {
                Some(tip) => tip.to_owned(),
                None => line.trim().replacen("Usage: ", "usage: ", 1),
            });
        Failure::CommandLine {
            what,
            details: details.collect(),
            command,
        }
    }
}

/// The command that was typed, without its arguments: `zenith snapshot list`.
fn command_of(typed: &[OsString]) -> String {
    let definition = crate::args::command();
    let mut names = vec!["zenith"];
    let mut command = &definition;
    for word in typed.iter().skip(1) {
        if let Some(sub) = command.find_subcommand(word) {
            command = sub;
            names.push(sub.get_name());
        }
    }
    names.join(" ")
}
