//! The online backup: one connection that stays open from pg_backup_start to
//! pg_backup_stop, and longer, until the WAL in between is copied.
//!
//! The order, which the caller keeps:
//!
//! 1. [`Session::begin`]: a temporary replication slot pins the WAL, then the backup starts.
//! 2. Copy everything that `path::rule` takes, `global/pg_control` last: on a standby its
//!    minimum recovery point is the end of the backup, and must not be before any page.
//! 3. [`Session::finish`]: backup_label, tablespace_map and the end of the WAL.
//! 4. Copy the WAL and the timeline history files, then [`Hold::check`].
//! 5. Drop the hold.
//!
//! A session that is dropped before `finish` ends the backup without a result.

use std::collections::HashSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};

use super::label::Label;
use super::lsn::Lsn;
use super::tablespace::Tablespace;
use super::version::SUPPORTED;
use super::{Error, Result};

const APPLICATION: &str = "zenith";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The end of the backup is flushed before pg_backup_stop returns; this is for the doubt.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The session must outlive every timeout that an administrator may have set for others.
const SETUP: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; \
     SET client_encoding = 'UTF8'; SET search_path = pg_catalog; \
     SET standard_conforming_strings = on; SET datestyle = 'ISO'; \
     SET default_transaction_read_only = off; SET jit = off";

#[derive(Clone, Debug)]
pub struct BeginOptions {
    /// An immediate checkpoint instead of one spread over checkpoint_timeout.
    pub fast: bool,
    /// Goes into backup_label; line breaks and control characters become spaces.
    pub label: String,
}

/// What the server says about itself. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// 150018
    pub version_num: u32,
    pub major: u32,
    /// `15.18 (Debian 15.18-0+deb12u1)`
    pub version: String,
    /// version(): names compiler and architecture too.
    pub version_long: String,
    pub system_identifier: u64,
    pub catalog_version: u32,
    pub data_directory: PathBuf,
    pub config_file: PathBuf,
    pub hba_file: PathBuf,
    pub ident_file: PathBuf,
    pub in_recovery: bool,
    pub timeline: u32,
    pub data_checksums: bool,
    pub block_size: u32,
    /// Of a relation.
    pub segment_size: u64,
    pub wal_block_size: u32,
    pub wal_segment_size: u32,
    pub wal_level: String,
    pub archive_mode: String,
    pub shared_preload_libraries: String,
    pub server_encoding: String,
    /// Of the C library's and ICU's collations, where the server has any.
    pub libc_version: Option<String>,
    pub icu_version: Option<String>,
    pub databases: Vec<Database>,
    pub tablespaces: Vec<Tablespace>,
    /// Unix microseconds.
    pub postmaster_start_time: i64,
    /// pg_current_snapshot(), before the backup began.
    pub current_snapshot: String,
    pub prepared_xacts: u64,
    pub replay_lsn: Option<Lsn>,
    /// Of a primary: up to where there is WAL.
    pub insert_lsn: Option<Lsn>,
}

/// A database, and the collation on which the order of its text indexes depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub oid: u32,
    pub name: String,
    pub encoding: String,
    /// `c` the C library, `i` ICU, `b` built in.
    pub provider: char,
    pub collate: String,
    pub ctype: String,
    /// Of ICU and built-in collations.
    pub locale: Option<String>,
    /// With which its indexes were built.
    pub collation_version: Option<String>,
    /// Which this machine has.
    pub actual_collation_version: Option<String>,
    pub allows_connections: bool,
}

/// A relation that has files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Empty for catalogs that all databases share.
    pub database: String,
    /// 0 for shared catalogs.
    pub database_oid: u32,
    pub schema: String,
    pub name: String,
    pub oid: u32,
    /// pg_class.relkind: `r`, `i`, `t`, `m` or `S`.
    pub kind: char,
    pub relfilenode: u32,
    /// Where it lies, the default resolved: 1663 is base, 1664 global.
    pub tablespace_oid: u32,
    /// The table of an index, or what a TOAST table belongs to.
    pub table_oid: Option<u32>,
    /// What a partition is one of.
    pub parent_oid: Option<u32>,
}

/// The relations of all databases but `unreachable`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    pub relations: Vec<Relation>,
    pub unreachable: Vec<Unreachable>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    pub database: String,
    pub reason: String,
}

/// What tells whether anything was committed since another time; not whether configuration
/// files or relation maps changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMark {
    /// pg_current_snapshot()
    pub snapshot: String,
    pub prepared: u64,
    pub in_recovery: bool,
    /// `None` on a primary.
    pub replay_lsn: Option<Lsn>,
}

/// A running backup.
pub struct Session {
    client: Client,
    config: Config,
    facts: ServerFacts,
    slot: String,
    start_lsn: Lsn,
}

/// A backup that ended well. The WAL from `start_lsn` to `stop_lsn` is in pg_wal, and stays
/// there as long as `hold` lives.
#[derive(Debug)]
pub struct Finished {
    /// Byte for byte what the backup needs.
    pub backup_label: Vec<u8>,
    /// Empty without tablespaces: then there must be no such file.
    pub tablespace_map: Vec<u8>,
    pub label: Label,
    pub start_lsn: Lsn,
    /// Exclusive: the end of the last record that is needed.
    pub stop_lsn: Lsn,
    /// At the stop. A standby may have begun on an ancestor: `label.timeline` is that of
    /// the start, and TimelineHistory::segments_between finds the way.
    pub timeline: u32,
    pub wal_start_segment: String,
    pub from_standby: bool,
    pub hold: Hold,
}

/// Keeps the connection open and with it the temporary slot, which pins the WAL.
pub struct Hold {
    client: Client,
    slot: String,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("slot", &self.slot)
            .field("start_lsn", &self.start_lsn)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and starts the backup, which takes as long as a checkpoint.
    ///
    /// `dsn` is a connection string or URL; passwords stand in it, nothing is read from the
    /// environment. Connections are not encrypted.
    ///
    /// Errors: `BadDsn`, `Connect`, `UnsupportedServer`, `Privilege`, `WalLevelMinimal`,
    /// `SlotRefused`, `Query`.
    pub fn begin(dsn: &str, options: &BeginOptions) -> Result<Session> {
        let config = configure(dsn)?;
        let mut client = connect(&config)?;
        let facts = ServerFacts::read(&mut client)?;
        if facts.wal_level == "minimal" {
            return Err(Error::WalLevelMinimal);
        }
        let slot = format!(
            "{APPLICATION}_{}_{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        // First the slot: from here on no WAL is removed that the backup may need.
        client
            .execute(
                "SELECT pg_create_physical_replication_slot($1, true, true)",
                &[&slot],
            )
            .map_err(|e| Error::SlotRefused { reason: reason(&e) })?;
        let label: String = options
            .label
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let started: String = client
            .query_one(
                "SELECT pg_backup_start($1, $2)::text",
                &[&label, &options.fast],
            )
            .map_err(|e| query_error(&mut client, "starting the backup", &e))?
            .get(0);
        Ok(Session {
            client,
            config,
            facts,
            slot,
            start_lsn: started.parse()?,
        })
    }

    /// Where replay of the backup begins.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// As they were before the backup started.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Whether the backup can still succeed: for long copies, now and then. Errors:
    /// `Query`, `SlotLost`.
    pub fn check(&mut self) -> Result<()> {
        check_slot(&mut self.client, &self.slot)
    }

    /// The relations of every database that allows connections, over one connection each.
    pub fn relations(&mut self) -> Result<Relations> {
        self.relations_where(|_| true)
    }

    /// The relations of those databases, given by oid, that `wanted` takes; shared catalogs
    /// come with any of them.
    pub fn relations_where(&mut self, wanted: impl Fn(u32) -> bool) -> Result<Relations> {
        Ok(relations_in(&self.config, &self.facts, wanted))
    }

    /// Ends the backup. The result holds only when the server is the same as at the start.
    ///
    /// Errors: `Query` (a standby that was promoted, a broken connection, …),
    /// `ServerChanged`, `SlotLost`.
    pub fn finish(mut self) -> Result<Finished> {
        let client = &mut self.client;
        check_slot(client, &self.slot)?;
        // Waiting for the archive is pointless: the WAL is copied from pg_wal.
        let row = client
            .query_one(
                "SELECT lsn::text, labelfile, spcmapfile \
                 FROM pg_backup_stop(wait_for_archive => false)",
                &[],
            )
            .map_err(|e| query_error(client, "stopping the backup", &e))?;
        let stop_lsn: Lsn = row.get::<_, String>(0).parse()?;
        let backup_label = row.get::<_, String>(1).into_bytes();
        let tablespace_map = row
            .get::<_, Option<String>>(2)
            .unwrap_or_default()
            .into_bytes();

        let before = Identity::of(&self.facts);
        let after = Identity::read(client)?;
        for (what, before, after) in [
            (
                "the start of the server",
                before.postmaster_start_time.to_string(),
                after.postmaster_start_time.to_string(),
            ),
            (
                "the system identifier",
                before.system_identifier.to_string(),
                after.system_identifier.to_string(),
            ),
            (
                "recovery",
                before.in_recovery.to_string(),
                after.in_recovery.to_string(),
            ),
            (
                "the timeline",
                before.timeline.to_string(),
                after.timeline.to_string(),
            ),
        ] {
            if before != after {
                return Err(Error::ServerChanged {
                    what,
                    before,
                    after,
                });
            }
        }
        let label = Label::parse(&backup_label)?;
        if label.start_lsn != self.start_lsn {
            return Err(Error::ServerChanged {
                what: "the start of the backup",
                before: self.start_lsn.to_string(),
                after: label.start_lsn.to_string(),
            });
        }
        if !after.in_recovery {
            wait_flushed(client, stop_lsn)?;
        }
        check_slot(client, &self.slot)?;
        Ok(Finished {
            backup_label,
            tablespace_map,
            start_lsn: label.start_lsn,
            stop_lsn,
            timeline: after.timeline,
            wal_start_segment: label.start_segment.clone(),
            from_standby: label.from_standby,
            label,
            hold: Hold {
                client: self.client,
                slot: self.slot,
            },
        })
    }
}

impl Hold {
    /// Proves that no WAL of the backup was removed until now: call it when the WAL is
    /// copied. Errors: `SlotLost`, `Query`.
    pub fn check(&mut self) -> Result<()> {
        check_slot(&mut self.client, &self.slot)
    }
}

/// The state of the server, cheaply, over a connection of its own. It writes no WAL.
pub fn probe(dsn: &str) -> Result<ChangeMark> {
    let mut client = connect(&configure(dsn)?)?;
    let row = query_one(
        &mut client,
        "asking for changes",
        "SELECT pg_current_snapshot()::text, (SELECT count(*) FROM pg_prepared_xacts), \
         pg_is_in_recovery(), pg_last_wal_replay_lsn()::text",
        &[],
    )?;
    let in_recovery = row.get(2);
    Ok(ChangeMark {
        snapshot: row.get(0),
        prepared: number(&row, 1)?,
        in_recovery,
        replay_lsn: replay_lsn(&row, 3, in_recovery)?,
    })
}

/// The facts of a server without a backup.
pub fn facts(dsn: &str) -> Result<ServerFacts> {
    ServerFacts::read(&mut connect(&configure(dsn)?)?)
}

fn configure(dsn: &str) -> Result<Config> {
    let mut config: Config = dsn
        .parse()
        .map_err(|e: postgres::Error| Error::BadDsn { reason: reason(&e) })?;
    config.application_name(APPLICATION);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    Ok(config)
}

fn connect(config: &Config) -> Result<Client> {
    let refused = |e: &postgres::Error| Error::Connect { reason: reason(e) };
    let mut client = config.connect(NoTls).map_err(|e| refused(&e))?;
    client
        .batch_execute(SETUP)
        .map_err(|e| query_error(&mut client, "setting up", &e))?;
    Ok(client)
}

impl ServerFacts {
    fn read(client: &mut Client) -> Result<ServerFacts> {
        let doing = "asking for its facts";
        let row = query_one(
            client,
            doing,
            "SELECT current_setting('server_version_num')::int8, \
             current_setting('server_version'), version()",
            &[],
        )?;
        let version_num: u32 = number(&row, 0)?;
        let version: String = row.get(1);
        let version_long: String = row.get(2);
        let major = version_num / 10_000;
        if !SUPPORTED.contains(&major) {
            return Err(Error::UnsupportedServer { version });
        }
        let identity = Identity::read(client)?;
        let row = query_one(
            client,
            doing,
            "SELECT current_setting('data_directory'), current_setting('config_file'), \
             current_setting('hba_file'), current_setting('ident_file'), \
             current_setting('wal_level'), current_setting('archive_mode'), \
             current_setting('shared_preload_libraries'), current_setting('server_encoding'), \
             (SELECT catalog_version_no::int8 FROM pg_control_system()), \
             i.data_page_checksum_version <> 0, i.database_block_size::int8, \
             i.blocks_per_segment::int8, i.wal_block_size::int8, i.bytes_per_wal_segment::int8, \
             pg_current_snapshot()::text, (SELECT count(*) FROM pg_prepared_xacts), \
             pg_last_wal_replay_lsn()::text, \
             (SELECT max(pg_collation_actual_version(oid)) FROM pg_collation \
              WHERE collprovider = 'c'), \
             (SELECT max(pg_collation_actual_version(oid)) FROM pg_collation \
              WHERE collprovider = 'i' AND collname = 'und-x-icu'), \
             CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END \
             FROM pg_control_init() i",
            &[],
        )?;
        let path = |i: usize| PathBuf::from(row.get::<_, Option<String>>(i).unwrap_or_default());
        let block_size: u32 = number(&row, 10)?;
        Ok(ServerFacts {
            version_num,
            major,
            version,
            version_long,
            system_identifier: identity.system_identifier,
            catalog_version: number(&row, 8)?,
            data_directory: path(0),
            config_file: path(1),
            hba_file: path(2),
            ident_file: path(3),
            in_recovery: identity.in_recovery,
            timeline: identity.timeline,
            data_checksums: row.get(9),
            block_size,
            segment_size: number::<u64>(&row, 11)? * u64::from(block_size),
            wal_block_size: number(&row, 12)?,
            wal_segment_size: number(&row, 13)?,
            wal_level: row.get(4),
            archive_mode: row.get(5),
            shared_preload_libraries: row.get(6),
            server_encoding: row.get(7),
            libc_version: row.get(17),
            icu_version: row.get(18),
            databases: databases(client, major)?,
            tablespaces: tablespaces(client)?,
            postmaster_start_time: identity.postmaster_start_time,
            current_snapshot: row.get(14),
            prepared_xacts: number(&row, 15)?,
            replay_lsn: replay_lsn(&row, 16, identity.in_recovery)?,
            insert_lsn: row
                .get::<_, Option<String>>(19)
                .map(|lsn| lsn.parse())
                .transpose()?,
        })
    }
}

/// What must not change while a backup runs.
struct Identity {
    system_identifier: u64,
    postmaster_start_time: i64,
    in_recovery: bool,
    timeline: u32,
}

impl Identity {
    fn of(facts: &ServerFacts) -> Identity {
        Identity {
            system_identifier: facts.system_identifier,
            postmaster_start_time: facts.postmaster_start_time,
            in_recovery: facts.in_recovery,
            timeline: facts.timeline,
        }
    }

    fn read(client: &mut Client) -> Result<Identity> {
        let doing = "asking for its identity";
        let row = query_one(
            client,
            doing,
            "SELECT system_identifier, \
             (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8, \
             pg_is_in_recovery() FROM pg_control_system()",
            &[],
        )?;
        let in_recovery = row.get(2);
        // A primary's control file still has the old timeline for a while after promotion,
        // and a standby has no name for its current WAL file.
        let timeline = if in_recovery {
            "SELECT greatest(r.min_recovery_end_timeline, c.timeline_id)::int8 \
             FROM pg_control_recovery() r, pg_control_checkpoint() c"
        } else {
            "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8"
        };
        let timeline = number(&query_one(client, doing, timeline, &[])?, 0)?;
        Ok(Identity {
            // An unsigned number in a signed column.
            system_identifier: row.get::<_, i64>(0).cast_unsigned(),
            postmaster_start_time: row.get(1),
            in_recovery,
            timeline,
        })
    }
}

fn databases(client: &mut Client, major: u32) -> Result<Vec<Database>> {
    let locale = if major >= 17 {
        "datlocale"
    } else {
        "daticulocale"
    };
    let sql = format!(
        "SELECT oid, datname::text, pg_encoding_to_char(encoding)::text, datlocprovider::text, \
         datcollate::text, datctype::text, {locale}::text, datcollversion::text, \
         pg_database_collation_actual_version(oid), datallowconn AND datconnlimit <> -2 \
         FROM pg_database ORDER BY oid"
    );
    let rows = query(client, "listing databases", &sql, &[])?;
    let database = |row: &Row| Database {
        oid: row.get(0),
        name: row.get(1),
        encoding: row.get(2),
        provider: letter(row, 3),
        collate: row.get(4),
        ctype: row.get(5),
        locale: row.get(6),
        collation_version: row.get(7),
        actual_collation_version: row.get(8),
        allows_connections: row.get(9),
    };
    Ok(rows.iter().map(database).collect())
}

fn tablespaces(client: &mut Client) -> Result<Vec<Tablespace>> {
    // In-place tablespaces have a relative location: they are directories of PGDATA.
    let sql = "SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace \
               WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY oid";
    let rows = query(client, "listing tablespaces", sql, &[])?;
    let tablespace = |row: &Row| Tablespace {
        oid: row.get(0),
        location: row.get::<_, String>(1).into(),
    };
    Ok(rows.iter().map(tablespace).collect())
}

/// The relations of all databases, without a backup.
pub fn relations(dsn: &str) -> Result<(ServerFacts, Relations)> {
    let facts = facts(dsn)?;
    let config = configure(dsn)?;
    let found = relations_in(&config, &facts, |_| true);
    Ok((facts, found))
}

fn relations_in(config: &Config, facts: &ServerFacts, wanted: impl Fn(u32) -> bool) -> Relations {
    let mut all = Relations::default();
    let mut shared = HashSet::new();
    let databases = facts.databases.iter();
    for database in databases.filter(|d| d.allows_connections && wanted(d.oid)) {
        let mut config = config.clone();
        config.dbname(&database.name);
        match relations_of(&config, database, facts.postmaster_start_time) {
            Ok(found) => all.relations.extend(
                found
                    .into_iter()
                    .filter(|r| r.database_oid != 0 || shared.insert(r.oid)),
            ),
            Err(error) => all.unreachable.push(Unreachable {
                database: database.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
    all
}

fn relations_of(config: &Config, database: &Database, started: i64) -> Result<Vec<Relation>> {
    let mut client = connect(config)?;
    // With several hosts in the connection string this may be another server.
    let identity = Identity::read(&mut client)?;
    if identity.postmaster_start_time != started {
        return Err(Error::ServerChanged {
            what: "the start of the server",
            before: started.to_string(),
            after: identity.postmaster_start_time.to_string(),
        });
    }
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
         coalesce(pg_relation_filenode(c.oid), 0::oid), \
         CASE WHEN c.reltablespace <> 0 THEN c.reltablespace ELSE d.dattablespace END, \
         c.relisshared, coalesce(i.indrelid, t.oid), h.inhparent \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_index i ON i.indexrelid = c.oid \
         LEFT JOIN pg_class t ON t.reltoastrelid = c.oid AND c.relkind = 't' \
         LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition, pg_database d \
         WHERE d.datname = current_database() AND c.relpersistence <> 't' \
         AND (c.relkind IN ('r', 'i', 't', 'm', 'S') AND pg_relation_filenode(c.oid) IS NOT NULL \
         OR c.relkind IN ('p', 'I')) ORDER BY c.oid";
    let rows = query(&mut client, "listing relations", sql, &[])?;
    let relation = |row: &Row| {
        let shared: bool = row.get(6);
        Relation {
            database: if shared {
                String::new()
            } else {
                database.name.clone()
            },
            database_oid: if shared { 0 } else { database.oid },
            schema: row.get(1),
            name: row.get(2),
            oid: row.get(0),
            kind: letter(row, 3),
            relfilenode: row.get(4),
            tablespace_oid: row.get(5),
            table_oid: row.get(7),
            parent_oid: row.get(8),
        }
    };
    Ok(rows.iter().map(relation).collect())
}

fn check_slot(client: &mut Client, slot: &String) -> Result<()> {
    let sql = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1";
    let rows = query(client, "looking after the slot", sql, &[slot])?;
    let status = match rows.first() {
        Some(row) => row
            .get::<_, Option<String>>(0)
            .unwrap_or_else(|| "unknown".into()),
        None => "gone".into(),
    };
    match status.as_str() {
        "reserved" | "extended" => Ok(()),
        _ => Err(Error::SlotLost {
            slot: slot.clone(),
            status,
        }),
    }
}

fn wait_flushed(client: &mut Client, stop: Lsn) -> Result<()> {
    let end = Instant::now() + FLUSH_TIMEOUT;
    loop {
        let doing = "waiting for its WAL";
        let row = query_one(
            client,
            doing,
            "SELECT pg_current_wal_flush_lsn()::text",
            &[],
        )?;
        let flushed: Lsn = row.get::<_, String>(0).parse()?;
        if flushed >= stop {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Error::Query {
                doing,
                reason: format!("it is flushed up to {flushed}, the backup ends at {stop}"),
                code: None,
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn query(
    client: &mut Client,
    doing: &'static str,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>> {
    client
        .query(sql, values)
        .map_err(|e| query_error(client, doing, &e))
}

fn query_one(
    client: &mut Client,
    doing: &'static str,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Row> {
    client
        .query_one(sql, values)
        .map_err(|e| query_error(client, doing, &e))
}

/// Column `i`, which is an int8 that the server says is never negative.
fn number<T: TryFrom<i64>>(row: &Row, i: usize) -> Result<T> {
    let value: i64 = row.get(i);
    value.try_into().map_err(|_| Error::Query {
        doing: "reading its answer",
        reason: format!("{value} is out of range"),
        code: None,
    })
}

fn letter(row: &Row, i: usize) -> char {
    row.get::<_, String>(i).chars().next().unwrap_or(' ')
}

/// pg_last_wal_replay_lsn() keeps its last value after a promotion.
fn replay_lsn(row: &Row, i: usize, in_recovery: bool) -> Result<Option<Lsn>> {
    let text: Option<String> = row.get(i);
    text.filter(|_| in_recovery)
        .map(|lsn| lsn.parse())
        .transpose()
}

fn query_error(client: &mut Client, doing: &'static str, error: &postgres::Error) -> Error {
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        let role = client.query_one("SELECT current_user::text", &[]);
        return Error::Privilege {
            role: role.map_or_else(|_| "unknown".into(), |row| row.get(0)),
            what: format!("be used for {doing}: {}", reason(error)),
        };
    }
    Error::Query {
        doing,
        reason: reason(error),
        code: error.code().map(|code| code.code().to_owned()),
    }
}

/// The server's message with detail and hint, or the chain of causes.
pub(crate) fn reason(error: &postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let more = [db.detail(), db.hint()].into_iter().flatten();
        return more.fold(db.message().to_owned(), |text, more| {
            format!("{text} ({more})")
        });
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // The driver repeats its causes in its own text, but not always.
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
