//! A short-lived server: a snapshot that answers questions, and is gone.
//!
//! The checkout is temporary, so nothing of it is brought to disk, and a harmless copy: guarded,
//! without TCP, its socket in a private directory, whatever its own configuration says. It belongs
//! to nobody's history: no file cache, no lineage that a snapshot could carry.

mod keeper;
mod room;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use zenith_store::{SnapshotId, World};

use crate::checkout::{self, CheckoutOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::facts::Facts;
use crate::home::Home;
use crate::managed::{Managed, Surroundings};
use crate::pg::binaries::{self, Binaries};
use crate::pg::catalog::{self, Layout};
use crate::pg::files::Pgdata;
use crate::pg::server::{self, Server, StartOptions, Status};
use crate::pg::session::reason;
use crate::pg::{self, user};
use crate::revision::similar;

pub use keeper::{Closed, Keeper, Program, is_broken_pipe};
use room::Room;

/// How often it is looked whether the server is ready.
const POLL: Duration = Duration::from_millis(10);
/// What a server needs beyond the files of the snapshot: WAL, sorting.
const SPACE_MORE: u64 = 128 << 20;

/// The guard, and what makes a server quick that is to be thrown away. Given to the server
/// itself, so that no file of the snapshot wins over it.
const SETTINGS: [(&str, &str); 26] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("unix_socket_group", ""),
    ("ssl", "off"),
    ("archive_mode", "off"),
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("synchronous_standby_names", ""),
    ("autovacuum", "off"),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    // Its messages go to the room, in words that are looked for.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
    ("external_pid_file", ""),
    ("cluster_name", "zenith"),
    // A crash is told, not mended.
    ("restart_after_crash", "off"),
    // Nobody waits for the disk of what does not stay.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("shared_buffers", "64MB"),
    ("huge_pages", "off"),
    ("wal_buffers", "1MB"),
    ("max_wal_size", "1GB"),
    ("checkpoint_timeout", "1h"),
];

/// What a session of zenith's own begins with: the owner of a database, or a role, may have put
/// operators and functions of theirs before the catalog's, and a superuser must not run those.
pub(crate) const OWN_PATH: &str = "SET search_path = pg_catalog";

/// Clears what would cut a long read short, as far as this major knows it. After [`OWN_PATH`].
pub(crate) const NO_TIMEOUTS: &str = "SET statement_timeout = 0; \
     SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN \
     ('lock_timeout', 'transaction_timeout', 'idle_session_timeout', \
     'idle_in_transaction_session_timeout')";

/// What a server that roles or databases have libraries for is asked with: these settings of theirs
/// win over the server's own, and what it was compiled for may not be here.
const NO_PRELOAD: &str = "-c session_preload_libraries= -c local_preload_libraries=";
/// The same for a role that may not say the first, once [`NO_LIBRARIES_OF_ROLES`] was done.
const NO_LOCAL_PRELOAD: &str = "-c local_preload_libraries=";
/// Takes libraries out of what roles and databases set, in a copy that goes away.
const NO_LIBRARIES_OF_ROLES: &str = "\
    CREATE TEMPORARY TABLE kept AS SELECT setdatabase, setrole, ARRAY( \
        SELECT one FROM pg_catalog.unnest(setconfig) one \
        WHERE one !~* '^(session|local)_preload_libraries=') AS config \
    FROM pg_catalog.pg_db_role_setting; \
    DELETE FROM pg_catalog.pg_db_role_setting s USING kept k \
    WHERE s.setdatabase = k.setdatabase AND s.setrole = k.setrole AND k.config = '{}'; \
    UPDATE pg_catalog.pg_db_role_setting s SET setconfig = k.config FROM kept k \
    WHERE s.setdatabase = k.setdatabase AND s.setrole = k.setrole AND s.setconfig <> k.config; \
    DROP TABLE kept";

/// Why a snapshot cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The temporary checkout would fill the disk.
    #[error(
        "{} has {} MB free, and a temporary checkout of snapshot {id} needs {} MB",
        dir.display(), free >> 20, needed.div_ceil(1 << 20)
    )]
    NoSpace {
        /// The snapshot, short.
        id: String,
        /// Where it would lie.
        dir: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The server did not come up, or not stay up.
    #[error("the server of snapshot {id} {what}: {status}\n{log}")]
    Died {
        /// The snapshot, short.
        id: String,
        /// `did not start` or `ended on its own`.
        what: &'static str,
        /// As the system says it.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A client program is not there.
    #[error("there is no {program} in {} or in PATH", dir.display())]
    NoProgram {
        /// Its name.
        program: &'static str,
        /// Where the server's programs are.
        dir: PathBuf,
    },
    /// No role that was tried can log in.
    #[error("the cluster of snapshot {id} has no role {}", tried.join(" or "))]
    NoRole {
        /// The snapshot, short.
        id: String,
        /// What was tried.
        tried: Vec<String>,
    },
    /// The cluster has no such database.
    #[error("{place} has no database `{name}`; it has {}", known.join(", "))]
    NoDatabase {
        /// `snapshot 4f1c9a27`, `the managed cluster`.
        place: String,
        /// What was asked for.
        name: String,
        /// Names like it, nearest first.
        similar: Vec<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// Rows are to be compared with those of a stopped server.
    #[error("no server runs on the managed cluster {}", pgdata.display())]
    NotRunning {
        /// The managed cluster.
        pgdata: PathBuf,
    },
    /// A statement does not run.
    #[error("the statement is refused: {reason}")]
    Statement {
        /// The server's words.
        reason: String,
    },
    /// The process is about to end.
    #[error("interrupted")]
    Interrupted,
}

impl ScratchError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ScratchError::NoSpace { .. }
            | ScratchError::Died { .. }
            | ScratchError::NoProgram { .. } => ErrorKind::Io,
            ScratchError::NoRole { .. } | ScratchError::NoDatabase { .. } => ErrorKind::NotFound,
            ScratchError::Statement { .. } => ErrorKind::Invalid,
            ScratchError::NotRunning { .. } => ErrorKind::Conflict,
            ScratchError::Interrupted => ErrorKind::Unavailable,
        }
    }
}

/// How a snapshot is to be asked.
#[derive(Debug, Clone, Default)]
pub struct ScratchOptions {
    /// Where the temporary checkout lies; otherwise in the home.
    pub tmp_dir: Option<PathBuf>,
    /// The role that asks; otherwise a superuser is looked for.
    pub user: Option<String>,
    /// Libraries to preload: a value of `shared_preload_libraries`.
    pub preload: Option<String>,
}

/// A server on a snapshot. It ends, and its files go, when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    keeper: Keeper,
    number: u64,
    bin: Binaries,
    id: SnapshotId,
    sockets: PathBuf,
    log: PathBuf,
    user: String,
    /// Options of every connection.
    options: &'static str,
    world: World,
}

impl Scratch {
    /// Makes the temporary checkout and waits until its server accepts connections. What killed
    /// processes left in the home is removed first.
    ///
    /// Errors: `NoSpace`, `Died`, `NoRole`, `NoBinaries`, those of a checkout.
    pub fn open(
        managed: &Managed,
        around: &Surroundings,
        keeper: &Keeper,
        id: SnapshotId,
        options: &ScratchOptions,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<Scratch> {
        let home = &managed.home;
        clear(home, on)?;
        let (repo, reading) = home.reader()?;
        let snapshot = repo.snapshot(id)?;
        let facts = Facts::decode(&snapshot.body, &id)?;
        let bin = programs(managed, around, facts.major)?;
        let room = Room::make(home, options.tmp_dir.as_deref())?;
        let wal = 2 * u64::from(facts.wal_segment_size);
        refuse_full(id, &room.data(), snapshot.size + wal + SPACE_MORE)
            .inspect_err(|_| room.remove().unwrap_or(()))?;
        let (pgdata, log, sockets) = (room.pgdata(), room.file("log"), room.sockets());
        let hba = room.file("pg_hba.conf");
        let ident = room.file("pg_ident.conf");
        // From here on the room goes with the value, or with the process.
        let mut scratch = Scratch {
            keeper: keeper.clone(),
            number: keeper.enter(room)?,
            bin,
            id,
            sockets,
            log,
            user: String::new(),
            options: NO_PRELOAD,
            world: home.world().clone(),
        };
        let how = CheckoutOptions {
            sync: false,
            threads: managed.settings.snapshots.threads.unwrap_or(0),
            ..CheckoutOptions::default()
        };
        checkout::to_new(&repo, id, &pgdata, &how, on)?;
        drop((repo, reading));
        // Nobody but this user reaches the socket, so that there is nothing to prove.
        fs::write(&hba, "local all all trust\n").map_err(Error::io("write", &hba))?;
        fs::write(&ident, "").map_err(Error::io("write", &ident))?;
        on(Event::Phase("starting the server"));
        scratch.start(&pgdata, &hba, &ident, options.preload.as_deref())?;
        let layout = Layout {
            major: facts.major,
            catalog_version: facts.catalog_version,
            block_size: facts.block_size,
        };
        let asked = options.user.as_deref();
        (scratch.user, scratch.options) = scratch.find_user(asked, &pgdata, layout)?;
        Ok(scratch)
    }

    fn start(&self, pgdata: &Path, hba: &Path, ident: &Path, preload: Option<&str>) -> Result<()> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut options: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in [
            ("unix_socket_directories", text(&self.sockets)),
            ("port", room::PORT.to_string()),
            ("hba_file", text(hba)),
            ("ident_file", text(ident)),
            (
                "shared_preload_libraries",
                preload.unwrap_or_default().to_owned(),
            ),
        ] {
            options.push((name.to_owned(), value));
        }
        let server = Server {
            bin: self.bin.clone(),
            pgdata: pgdata.to_owned(),
            world: self.world.clone(),
        };
        let mut command = server.command_foreground(&StartOptions {
            options,
            log: self.log.clone(),
            timeout: Duration::ZERO,
        })?;
        let log = File::create(&self.log).map_err(Error::io("create", &self.log))?;
        let also = log.try_clone().map_err(Error::io("open", &self.log))?;
        command.stdout(log).stderr(also).stdin(Stdio::null());
        // Ctrl-C at the terminal is for this process, which ends the server.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.keeper.start(self.number, &mut command)?;
        loop {
            self.refuse_dead("did not start")?;
            let postmaster = server::postmaster(pgdata).ok().flatten();
            if postmaster.is_some_and(|it| it.status == Status::Ready) {
                return Ok(());
            }
            self.world.sleep(POLL);
        }
    }

    fn refuse_dead(&self, what: &'static str) -> Result<()> {
        match self.keeper.ended(self.number)? {
            None => Ok(()),
            Some(status) => Err(ScratchError::Died {
                id: self.id.short(),
                what,
                status: status.to_string(),
                log: server::tail(&self.log, 0),
            }
            .into()),
        }
    }

    /// What went wrong, or the server's death where that is why.
    pub fn explain(&self, error: Error) -> Error {
        match &error {
            Error::Pg(pg::Error::Connect { .. } | pg::Error::Query { code: None, .. }) => {
                self.check().err().unwrap_or(error)
            }
            _ => error,
        }
    }

    /// That the server still runs, for whoever lost the connection to it.
    ///
    /// Errors: `Died`.
    pub fn check(&self) -> Result<()> {
        // The server closes its connections before it ends.
        self.world.sleep(20 * POLL);
        self.refuse_dead("ended on its own")
    }

    /// The role that can log in: what was asked for, `postgres`, or who owns the cluster.
    fn find_user(
        &self,
        asked: Option<&str>,
        pgdata: &Path,
        layout: Layout,
    ) -> Result<(String, &'static str)> {
        let tried: Vec<String> = match asked {
            Some(name) => vec![name.to_owned()],
            None => vec!["postgres".to_owned(), user::current().name],
        };
        let ways = [NO_PRELOAD, NO_LOCAL_PRELOAD];
        for (name, options) in tried.iter().flat_map(|name| ways.map(|way| (name, way))) {
            // Every cluster has template1, if no other database.
            let mut config = self.config(name, "template1");
            match config.options(options).connect(NoTls) {
                Ok(_) => return Ok((name.clone(), options)),
                Err(e) if e.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {}
                Err(e)
                    if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                        && options == NO_PRELOAD =>
                {
                    // Nobody may be asked whose libraries cannot be kept out.
                    if !self.forget_libraries(pgdata, layout)? {
                        return Err(self.explain(connect_error(&e)));
                    }
                }
                Err(e) => return Err(self.explain(connect_error(&e))),
            }
        }
        let id = self.id.short();
        Err(ScratchError::NoRole { id, tried }.into())
    }

    /// Has a superuser take out of the copy what roles and databases want to have loaded; whether
    /// there was one who can log in. All that was replayed is in the files by now.
    fn forget_libraries(&self, pgdata: &Path, layout: Layout) -> Result<bool> {
        for name in catalog::superusers(&Pgdata(pgdata.to_owned()), layout)? {
            let mut config = self.config(&name, "template1");
            if let Ok(mut client) = config.options(NO_PRELOAD).connect(NoTls) {
                let doing = "taking libraries out of settings";
                let done = client.batch_execute(NO_LIBRARIES_OF_ROLES);
                done.map_err(|e| self.explain(query_error(doing, &e)))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.sockets)
            .port(room::PORT)
            .user(user)
            .dbname(database)
            .options(self.options)
            .application_name("zenith");
        config
    }

    /// A connection.
    ///
    /// Errors: `Connect`, `Died`.
    pub fn connect(&self, database: &str) -> Result<Client> {
        let config = self.config(&self.user, database);
        let connected = config.connect(NoTls);
        connected.map_err(|e| self.explain(connect_error(&e)))
    }

    /// The database that is meant: the one that is `asked` for, else the only one besides those
    /// that every cluster has, else `postgres`.
    ///
    /// Errors: `NoDatabase`.
    pub fn database(&self, asked: Option<&str>) -> Result<String> {
        let mut client = self.connect("template1")?;
        let place = format!("snapshot {}", self.id.short());
        database(&mut client, &place, asked).map_err(|e| self.explain(e))
    }

    /// The snapshot.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The directory of the server's socket.
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The number in the socket's name.
    pub fn port(&self) -> u16 {
        room::PORT
    }

    /// Options that every connection to it needs, as `PGOPTIONS` has them.
    pub fn options(&self) -> &str {
        self.options
    }

    /// The role that asks.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A client program: the one beside the server, which is of its version, else one in `path`.
    ///
    /// Errors: `NoProgram`.
    pub fn program(&self, name: &'static str, around: &Surroundings) -> Result<PathBuf> {
        let beside = self.bin.program(name);
        if beside.is_file() {
            return Ok(beside);
        }
        let path = around.path.as_deref().unwrap_or_default();
        let mut found = std::env::split_paths(path).map(|dir| dir.join(name));
        found
            .find(|program| program.is_absolute() && program.is_file())
            .ok_or_else(|| {
                ScratchError::NoProgram {
                    program: name,
                    dir: self.bin.dir.clone(),
                }
                .into()
            })
    }

    /// Ends the server and removes everything; dropping does the same, and tells nobody when it
    /// does not work.
    pub fn close(self) -> Result<()> {
        self.keeper.leave(self.number)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = self.keeper.leave(self.number) {
            tracing::warn!("a temporary checkout stays: {e}");
        }
    }
}

/// Removes what killed commands left in the home: servers, and the checkouts under them. What
/// cannot be removed is a warning.
///
/// Errors: `Io`, where it cannot even be looked for.
pub fn clear(home: &Home, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    for left in room::sweep(home)? {
        on(Event::Warning(format!(
            "what an interrupted command left in {} stays: {left}",
            home.tmp_dir().display()
        )));
    }
    Ok(())
}

/// How many temporary checkouts killed commands left in the home.
///
/// Errors: `Io`.
pub fn left_behind(home: &Home) -> Result<u64> {
    Ok(room::of_the_dead(home)?.len() as u64)
}

/// A connection to the server of the managed cluster that only reads, and its database: see
/// [`Scratch::database`].
///
/// Errors: `NotRunning`, `NoDatabase`, `Connect`.
pub fn connect_managed(
    managed: &Managed,
    user: Option<&str>,
    asked: Option<&str>,
) -> Result<(Client, String)> {
    let Some(postmaster) = managed.postmaster()? else {
        let pgdata = managed.home.pgdata();
        return Err(ScratchError::NotRunning { pgdata }.into());
    };
    let dsn = managed.dsn(&postmaster);
    let mut config: Config = dsn.parse().map_err(|e| connect_error(&e))?;
    config
        .options("-c default_transaction_read_only=on")
        .application_name("zenith");
    if let Some(user) = user {
        config.user(user);
    }
    let connect = |config: &Config| config.connect(NoTls).map_err(|e| connect_error(&e));
    let name = database(
        &mut connect(config.dbname("template1"))?,
        "the managed cluster",
        asked,
    )?;
    Ok((connect(config.dbname(&name))?, name))
}

fn database(client: &mut Client, place: &str, asked: Option<&str>) -> Result<String> {
    const SQL: &str = "SELECT datname::text, datistemplate FROM pg_catalog.pg_database \
                       WHERE datallowconn ORDER BY datname";
    let rows = client
        .query(SQL, &[])
        .map_err(|e| query_error("listing databases", &e))?;
    let all: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let names = || all.iter().map(|(name, _)| name.as_str());
    if let Some(asked) = asked {
        if names().any(|name| name == asked) {
            return Ok(asked.to_owned());
        }
        return Err(ScratchError::NoDatabase {
            place: place.to_owned(),
            name: asked.to_owned(),
            similar: similar(names(), asked),
            known: names().map(str::to_owned).collect(),
        }
        .into());
    }
    let is_own = |(name, is_template): &&(String, bool)| !is_template && name != "postgres";
    let mut own = all.iter().filter(is_own);
    match (own.next(), own.next()) {
        (Some((only, _)), None) => Ok(only.clone()),
        _ if names().any(|name| name == "postgres") => Ok("postgres".to_owned()),
        _ => Ok("template1".to_owned()),
    }
}

/// The programs of the snapshot's own major, wherever they are: those of the settings may be of
/// another one.
fn programs(managed: &Managed, around: &Surroundings, major: u32) -> Result<Binaries> {
    match managed.binaries(around, Some(major)) {
        Err(Error::Pg(wrong @ pg::Error::WrongBinaries { .. })) => {
            let found = binaries::find(None, around.path.as_deref(), Some(major));
            found.map_err(|_| wrong.into())
        }
        found => found,
    }
}

fn refuse_full(id: SnapshotId, dir: &Path, needed: u64) -> Result<()> {
    let stat = nix::sys::statvfs::statvfs(dir)
        .map_err(|errno| Error::io("statvfs of", dir)(errno.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    if free < needed {
        return Err(ScratchError::NoSpace {
            id: id.short(),
            dir: dir.to_owned(),
            needed,
            free,
        }
        .into());
    }
    Ok(())
}

fn connect_error(error: &postgres::Error) -> Error {
    let reason = reason(error);
    pg::Error::Connect { reason }.into()
}

pub(crate) fn query_error(doing: &'static str, error: &postgres::Error) -> Error {
    pg::Error::Query {
        doing,
        reason: reason(error),
        code: error.code().map(|code| code.code().to_owned()),
    }
    .into()
}
