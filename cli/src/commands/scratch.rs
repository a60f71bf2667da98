//! What `sql`, `psql`, `cp` and `diff --rows` share: a server on a snapshot that is gone when the
//! command ends, whichever way.

use std::process::{Command, ExitStatus};

use nix::unistd::{Uid, User};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use zenith::managed::Managed;
use zenith::scratch::{self, Keeper, Scratch, ScratchOptions};
use zenith::store::SnapshotId;

use super::Context;
use crate::args::ScratchArgs;
use crate::error::Failure;
use crate::exit;
use crate::progress::Progress;
use crate::render::time::took;
use crate::ui::Ui;

/// Variables of libpq that say how to talk, not with whom.
const KEPT: [&str; 5] = [
    "PGAPPNAME",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGOPTIONS",
    "PGTZ",
];
/// Ctrl-C and Ctrl-\ at a terminal, which a session answers itself.
const KEYS: [i32; 2] = [SIGINT, SIGQUIT];

/// What ends servers when a signal ends this process. A signal that is ignored stays so.
pub fn keeper(ui: &Ui) -> Result<Keeper, Failure> {
    let keeper = Keeper::default();
    let watched = keeper.clone();
    let ui = ui.clone();
    let ignored = ignored();
    let signals = [SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter();
    let signals = signals.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals =
        Signals::new(signals).map_err(|e| Failure::Bug(format!("watching signals: {e}")))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if KEYS.contains(&signal) && watched.is_interactive() {
                continue;
            }
            // Everybody else waits until the process has ended.
            let _closed = watched.close();
            // Whoever reads what has come until now has the terminal.
            let _ = ui.end_paging();
            // It ends as one that never watched for the signal.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(keeper)
}

/// The signals that this process was started to ignore (`nohup`), one bit each; none where nobody
/// tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// The snapshot that a text names, fetched where it is not here.
pub fn resolve(
    context: &Context,
    managed: &Managed,
    revision: &str,
) -> Result<SnapshotId, Failure> {
    let state = context.state(managed)?;
    context.resolve_or_fetch(managed, &state, revision)
}

/// A server on a snapshot.
pub fn serve(
    context: &Context,
    managed: &Managed,
    keeper: &Keeper,
    id: SnapshotId,
    args: &ScratchArgs,
) -> Result<Scratch, Failure> {
    let options = ScratchOptions {
        tmp_dir: args.tmp_dir.as_deref().map(|dir| context.env.absolute(dir)),
        user: args.username.clone(),
        preload: args.preload.clone(),
    };
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    let scratch = Scratch::open(managed, &context.around(), keeper, id, &options, &on)?;
    let elapsed = progress.elapsed();
    drop(progress);
    context.ui.detail(format_args!(
        "a server on {} is up, {}",
        id.short(),
        took(elapsed)
    ));
    Ok(scratch)
}

/// A client program that finds the server by itself, and no other one.
pub fn client(
    context: &Context,
    scratch: &Scratch,
    program: &'static str,
    database: &str,
) -> Result<Command, Failure> {
    let mut command = Command::new(scratch.program(program, &context.around())?);
    for name in context.env.storage.0.keys() {
        let is_color = name.starts_with("PG_COLOR");
        if name.starts_with("PG") && !is_color && !KEPT.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    for name in ["ZENITH_PASSPHRASE", "ZENITH_NEW_PASSPHRASE"] {
        command.env_remove(name);
    }
    // What the person asks for comes last and wins.
    let theirs = context.env.storage.0.get("PGOPTIONS");
    let theirs = theirs.map_or("", String::as_str);
    let options = format!("{} {theirs}", scratch.options());
    command
        .env("PGHOST", scratch.sockets())
        .env("PGPORT", scratch.port().to_string())
        .env("PGUSER", scratch.user())
        .env("PGDATABASE", database)
        .env("PGOPTIONS", options);
    if crate::render::place::typed_by_root()
        && let Ok(Some(user)) = User::from_uid(Uid::effective())
    {
        // Root's own files cannot be read any more.
        command.env("HOME", user.dir);
    }
    Ok(command)
}

/// The same failure, or the death of a server where that is why.
pub fn explain(failure: Failure, scratch: &Scratch) -> Failure {
    match failure {
        Failure::Engine(error) => Failure::from(scratch.explain(*error)),
        failure => failure,
    }
}

/// What the end of a client program means for this one.
///
/// Errors: `Failure::Client`, `BrokenPipe`, and the server's death.
pub fn ended(status: ExitStatus, scratch: &Scratch) -> Result<(), Failure> {
    const CONNECTION_LOST: i32 = 2;
    match status.code() {
        Some(0) => Ok(()),
        Some(CONNECTION_LOST) => {
            scratch.check()?;
            Err(Failure::Client(exit::UNAVAILABLE))
        }
        Some(_) => Err(Failure::Client(exit::INVALID)),
        None if scratch::is_broken_pipe(status) => Err(Failure::BrokenPipe),
        None => {
            scratch.check()?;
            // As shells say it.
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            let code = signal.and_then(|signal| u8::try_from(128 + signal).ok());
            Err(Failure::Client(code.unwrap_or(exit::INTERNAL)))
        }
    }
}
