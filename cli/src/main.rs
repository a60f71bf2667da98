//! The `zenith` command: people ⇄ operations.
//!
//! `args` says what can be typed, `commands` what happens then, `render` what is answered, `ui`
//! how it is printed, `error` what is said when it went wrong, and `exit` with which code.

#![expect(
    unreachable_pub,
    reason = "nothing of a program can be reached from outside"
)]

mod args;
mod commands;
mod complete;
mod config;
mod error;
mod examples;
mod exit;
mod logging;
mod pager;
mod passphrase;
mod progress;
mod render;
#[cfg(test)]
mod spoken;
mod ui;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use error::Failure;
use ui::Ui;

fn main() -> ExitCode {
    let panics = error::Panics::watch();
    // A panic is a bug of ours; it gets an error message as everything else does.
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    ExitCode::from(outcome.unwrap_or_else(|_| {
        let failure = Failure::Bug(panics.last());
        Ui::plain().fail(&failure);
        failure.code()
    }))
}

/// Parses, runs, and says what went wrong; the exit code.
fn run() -> u8 {
    if complete::answered() {
        return exit::OK;
    }
    let typed: Vec<_> = std::env::args_os().collect();
    let cli = match args::parse(typed.iter().cloned()) {
        Ok(cli) => cli,
        Err(e) => return not_a_command(&e, &typed),
    };
    let env = config::Environment::read();
    // An environment that cannot be read says nothing about colours.
    let no_color = env.as_ref().is_ok_and(|env| env.no_color);
    let outcome = env.and_then(|env| {
        let pager = env.pager.clone().filter(|_| commands::is_long(&cli.verb));
        let ui = Ui::new(&cli.global, env.no_color).paged(pager.filter(|_| !cli.global.no_pager));
        logging::to_stderr(cli.global.verbose);
        let context = commands::Context::new(ui, env, cli.global.home.as_deref());
        let outcome = commands::run(cli.verb, &context);
        // A pager that did not work is why nobody read what was said.
        context.ui.end_paging().and(outcome)
    });
    match outcome {
        Ok(()) => exit::OK,
        Err(failure) => {
            Ui::new(&cli.global, no_color).fail(&failure);
            failure.code()
        }
    }
}

/// Help and version are errors of clap's that belong on stdout and are a success.
fn not_a_command(error: &clap::Error, typed: &[OsString]) -> u8 {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as NoCommand;
    let ui = Ui::before_parsing(typed);
    let told = match error.kind() {
        _ if !error.use_stderr() => ui.help(&error.render()),
        NoCommand if !ui.is_json() => {
            ui.usage(&error.render());
            return exit::USAGE;
        }
        _ => Err(Failure::from_clap(error, typed)),
    };
    match told {
        Ok(()) => exit::OK,
        Err(failure) => {
            ui.fail(&failure);
            failure.code()
        }
    }
}
