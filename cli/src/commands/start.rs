//! `zenith start`: a server that accepts connections, an agent that takes snapshots.

use zenith::agent::spawn::AgentFlags;
use zenith::home::Home;
use zenith::init::{self, InitOptions};
use zenith::managed::{Managed, Refusal};
use zenith::start::{self, StartOptions, Started};
use zenith::store::SnapshotId;

use super::{Context, stop};
use crate::args::StartArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::size::size;
use crate::render::time::{interval, took};

pub fn run(args: StartArgs, context: &Context) -> Result<(), Failure> {
    let server = args.server.or_environment(&context.env)?;
    if Home::open(&context.home).is_err() {
        // A wrong working directory must never yield an empty server.
        if server.storage_dest.is_none() {
            let dir = context.home.clone();
            return Err(zenith::Error::from(Refusal::NothingToStart { dir }).into());
        }
        let options = InitOptions {
            storage_dest: server.storage_dest.clone(),
            pg_bin: server.pg_bin.clone(),
            port: server.port,
            listen: server.listen.clone(),
            interval_secs: server
                .snapshot_interval
                .map(|interval| interval.as_secs().max(1)),
            ..InitOptions::default()
        };
        super::init::init(options, server.pg_user.as_deref(), context)?;
    }
    // Root may have put the settings in place alone, after the rest was lost.
    let saved_user = Home::open(&context.home)?.settings()?.server.pg_user;
    let pg_user = server.pg_user.clone().or(saved_user);
    let give_to = pg_user.as_deref().unwrap_or(init::PG_USER);
    let mut managed = context.open_for(Some(give_to))?;
    let saved = managed.settings.clone();
    // Flags of start hold once.
    let settings = &mut managed.settings;
    settings.server.port = server.port.or(settings.server.port);
    settings.server.listen = server.listen.clone().or(settings.server.listen.take());
    settings.server.pg_bin = server.pg_bin.or(settings.server.pg_bin.take());
    settings.storage_dest = server.storage_dest.or(settings.storage_dest.take());
    settings.snapshots.push &= !args.no_push;
    if let Some(interval) = server.snapshot_interval {
        settings.snapshots.interval_secs = interval.as_secs().max(1);
    }
    let options = StartOptions {
        primary: args.primary,
        agent: AgentFlags {
            interval: server.snapshot_interval,
            no_push: args.no_push,
            storage_dest: managed
                .settings
                .storage_dest
                .clone()
                .filter(|dest| saved.storage_dest.as_ref() != Some(dest)),
        },
    };
    let around = context.around();
    let progress = Progress::new(&context.ui);
    let on = |event| progress.on(event);
    if args.foreground {
        let stop = context.stop_on_signals()?;
        let place = managed.clone();
        let up = |started: &Started| {
            // Whoever started us may not read what we say; the server runs all the same.
            let _ = tell(started, &place, context);
        };
        let stopped = start::foreground(&mut managed, &around, &options, &stop, &up, &on)?;
        drop(progress);
        return stop::tell(&stopped, &managed, context);
    }
    let asked = (server.port, server.listen);
    let started = start::start(&mut managed, &around, &options, &on)?;
    drop(progress);
    if started.was_running
        && (asked.0.is_some_and(|port| port != started.postmaster.port)
            || asked.1.is_some_and(|listen| !listens_on(&managed, &listen)))
    {
        context.ui.warn(format_args!(
            "the server runs already, with port {} and the other settings of its own start; to \
             change them: `zenith stop`, then `zenith start` as now",
            started.postmaster.port
        ));
    }
    tell(&started, &managed, context)
}

fn tell(started: &Started, managed: &Managed, context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    let port = started.postmaster.port;
    let dsn = format!("postgres://postgres@localhost:{port}/postgres");
    let branch = match managed.home.head()? {
        zenith::head::Head::Branch(branch) => branch,
        zenith::head::Head::Detached(id) => id[..8].to_owned(),
    };
    let agent = &started.agent;
    if ui.is_json() {
        return ui.record(&serde_json::json!({
            "type": "start", "v": 1,
            "dsn": dsn,
            "socket_dir": started.postmaster.socket_dir,
            "port": port,
            "pid": started.postmaster.pid,
            "branch": branch,
            "was_running": started.was_running,
            "rebuilt_from": started.rebuilt.as_ref().map(|rebuilt| rebuilt.id.to_string()),
            "guarded": started.guarded,
            "agent_pid": agent.pid,
            "snapshot_interval_secs": agent.interval_secs,
            "push_to": agent.push_to,
        }));
    }
    if let Some(rebuilt) = &started.rebuilt {
        let fetched = match rebuilt.fetched_bytes {
            0 => String::new(),
            bytes => format!(", {} fetched", size(bytes)),
        };
        ui.talk(format_args!(
            "the cluster was missing: rebuilt from snapshot {}{}{fetched}",
            rebuilt.id.short(),
            age(managed, rebuilt.id, context)
        ));
    }
    let pid = started.postmaster.pid;
    let since = if started.was_running {
        "was running".to_owned()
    } else {
        took(started.took)
    };
    ui.answer(format_args!("{branch} is up  {dsn}  (pid {pid}, {since})"))?;
    if let Some(line) = psql(started, managed, &dsn) {
        ui.talk(format_args!("psql: {line}"));
    }
    let every = interval(agent.interval_secs);
    let may_store = managed.home.check_key().is_ok();
    let pushed = match &agent.push_to {
        Some(location) => format!(", pushed to {location}"),
        None => ", kept on this machine only".to_owned(),
    };
    if may_store {
        ui.talk(format_args!(
            "snapshots every {every} when something changed{pushed}"
        ));
    }
    if started.guarded {
        ui.talk(
            "guarded as a copy: it neither archives nor replicates until `zenith start --primary`",
        );
    }
    Ok(())
}

/// Whether the running server was started with these addresses (src/backend/postmaster/postmaster.c,
/// `CreateOptsFile`).
fn listens_on(managed: &Managed, listen: &str) -> bool {
    std::fs::read_to_string(managed.home.pgdata().join("postmaster.opts"))
        .is_ok_and(|options| options.contains(&format!("\"listen_addresses={listen}\"")))
}

/// How to get in: with the password that initdb gave the superuser, or by the socket, since the
/// password of a cluster that was made elsewhere is not known here.
fn psql(started: &Started, managed: &Managed, dsn: &str) -> Option<String> {
    let pgpass = managed.home.dir().join("pgpass");
    if pgpass.is_file() {
        let file = crate::render::place::quoted(&pgpass);
        return Some(format!("PGPASSFILE={file} psql {dsn}"));
    }
    let dir = started.postmaster.socket_dir.as_deref()?;
    let (dir, port) = (crate::render::place::quoted(dir), started.postmaster.port);
    Some(format!("psql -h {dir} -p {port} -U postgres postgres"))
}

/// What a loss may have cost: how old the snapshot is.
fn age(managed: &Managed, id: SnapshotId, context: &Context) -> String {
    let row = context
        .state(managed)
        .ok()
        .and_then(|state| state.snapshot(&id).cloned());
    row.map_or_else(String::new, |row| {
        let now = jiff::Timestamp::now();
        format!(
            ", taken {} ago",
            crate::render::time::age_of(row.time.unix_micros, now)
        )
    })
}
