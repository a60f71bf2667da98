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
mod tests {
    use super::*;
    use crate::pg::path::{Rule, is_relation_dir, rule, unlogged};
    use crate::pg::testing::{Cluster, bin_dirs, give, run};
    use crate::pg::wal::{TimelineHistory, WalFacts, history_files, read_segment};
    use crate::pg::{Control, guard, tablespace};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn begin(cluster: &Cluster) -> Session {
        let options = BeginOptions {
            fast: true,
            label: "a\ntest".into(),
        };
        Session::begin(&cluster.dsn(), &options).unwrap()
    }

    /// Copies what the rules take from one directory of a live cluster.
    fn copy_dir(from: &Path, rel: &str, to: &Path) {
        fs::create_dir(to).unwrap();
        fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        give(to);
        let entries: Vec<_> = fs::read_dir(from).unwrap().map(|e| e.unwrap()).collect();
        let names: Vec<_> = entries
            .iter()
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        let unlogged = if is_relation_dir(rel) {
            unlogged(names.iter().map(String::as_str))
        } else {
            HashSet::new()
        };
        for name in names.iter().filter(|n| !unlogged.contains(n.as_str())) {
            let (source, target) = (from.join(name), to.join(name));
            let rel = if rel.is_empty() {
                name.clone()
            } else {
                format!("{rel}/{name}")
            };
            // Tablespaces are copied apart, pg_control comes last.
            if rel == "global/pg_control"
                || rel.starts_with("pg_tblspc/") && to.ends_with("pg_tblspc")
            {
                continue;
            }
            let Ok(meta) = fs::symlink_metadata(&source) else {
                continue;
            };
            match rule(&rel, meta.is_dir()) {
                Rule::Take if meta.is_dir() => copy_dir(&source, &rel, &target),
                Rule::Take => match fs::copy(&source, &target) {
                    Ok(_) => give(&target),
                    // Dropped in the meantime: replay knows.
                    Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{rel}"),
                },
                Rule::TakeDirOnly(_) => {
                    fs::create_dir(&target).unwrap();
                    give(&target);
                    if rel == "pg_wal" {
                        fs::create_dir(target.join("archive_status")).unwrap();
                        give(&target.join("archive_status"));
                    }
                }
                Rule::LeaveOut(_) => {}
            }
        }
    }

    /// A copy of the live cluster `original`, made between begin and finish.
    fn copy_live(original: &Cluster, bin: &Path, meanwhile: impl FnOnce()) -> (Cluster, Finished) {
        let session = begin(original);
        let facts = session.facts().clone();
        assert_eq!(
            fs::canonicalize(original.pgdata()).unwrap(),
            facts.data_directory
        );
        let copy = Cluster::empty(bin);
        copy_dir(original.pgdata(), "", copy.pgdata());
        let spaces = tablespace::list(original.pgdata()).unwrap();
        assert_eq!(spaces, facts.tablespaces);
        let version = tablespace::version_dir(facts.major, facts.catalog_version);
        let moved: Vec<Tablespace> = spaces
            .iter()
            .map(|space| {
                let location = copy.dir().join(format!("space-{}", space.oid));
                fs::create_dir(&location).unwrap();
                give(&location);
                let rel = format!("pg_tblspc/{}/{version}", space.oid);
                copy_dir(
                    &space.location.join(&version),
                    &rel,
                    &location.join(&version),
                );
                symlink(
                    &location,
                    copy.pgdata().join(format!("pg_tblspc/{}", space.oid)),
                )
                .unwrap();
                Tablespace {
                    oid: space.oid,
                    location,
                }
            })
            .collect();
        meanwhile();
        let (control, bytes) = Control::read_with_bytes(original.pgdata()).unwrap();
        fs::write(copy.pgdata().join("global/pg_control"), bytes).unwrap();
        give(&copy.pgdata().join("global/pg_control"));

        let mut finished = session.finish().unwrap();
        assert!(finished.stop_lsn > finished.start_lsn);
        assert!(finished.stop_lsn >= control.min_recovery_point);
        assert_eq!(finished.label.label, "a test");
        assert_eq!(
            tablespace::parse_map(&finished.tablespace_map).unwrap(),
            spaces
        );
        let write = |name: &str, bytes: &[u8]| {
            fs::write(copy.pgdata().join(name), bytes).unwrap();
            give(&copy.pgdata().join(name));
        };
        write("backup_label", &finished.backup_label);
        if !moved.is_empty() {
            write("tablespace_map", &tablespace::map_format(&moved));
        }
        let wal = WalFacts::from(&control);
        let history = TimelineHistory::read(original.pgdata(), finished.timeline).unwrap();
        let (start, stop) = (finished.start_lsn, finished.stop_lsn);
        let segments = history.segments_between(start, stop, wal.wal_segment_size);
        assert_eq!(segments[0].1, finished.wal_start_segment);
        for (timeline, name, lsn) in segments {
            let bytes =
                read_segment(original.pgdata(), &name, timeline, lsn, lsn, stop, &wal).unwrap();
            write(&format!("pg_wal/{name}"), &bytes);
        }
        for (_, name) in history_files(original.pgdata()).unwrap() {
            let bytes = fs::read(original.pgdata().join("pg_wal").join(&name)).unwrap();
            write(&format!("pg_wal/{name}"), &bytes);
        }
        finished.hold.check().unwrap();
        let auto = fs::read(copy.pgdata().join("postgresql.auto.conf")).unwrap();
        write("postgresql.auto.conf", &guard::add(&auto));
        (copy, finished)
    }

    fn tablespace_dir(cluster: &Cluster) -> PathBuf {
        let dir = cluster.dir().join("space");
        fs::create_dir(&dir).unwrap();
        give(&dir);
        dir
    }

    /// pgbench in the background; ends by itself.
    fn load(cluster: &Cluster, seconds: u32) -> std::process::Child {
        cluster
            .bin("pgbench")
            .args(["-c", "2", "-n", "-T", &seconds.to_string(), &cluster.dsn()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    const SUMS: &str = "select (select sum(abalance) from pgbench_accounts) = \
         all (array[(select sum(bbalance) from pgbench_branches), \
         (select sum(tbalance) from pgbench_tellers), (select sum(delta) from pgbench_history)])";

    #[test]
    fn a_copy_made_under_load_starts_and_has_all_that_was_committed() {
        // Not every installation comes with pgbench and pg_checksums.
        for bin in bin_dirs() {
            let original = Cluster::init(&bin, &["--data-checksums", "--wal-segsize=4"]);
            original.start(&[]);
            let bench = original.bin("pgbench").arg("--version").output();
            let bench = bench.is_ok_and(|out| out.status.success());
            let space = tablespace_dir(&original);
            original.sql(&format!(
                "create tablespace fast location '{}'",
                space.display()
            ));
            if bench {
                run(original
                    .bin("pgbench")
                    .args(["-i", "-q", "-s", "2", "--tablespace=fast"])
                    .arg(original.dsn()));
            }
            original.sql("create table marker (n int) tablespace fast");
            original.sql("create unlogged table volatile as select generate_series(1, 1000)");
            original.sql("create database other");
            original.sql("create table dropped as select generate_series(1, 100000)");
            let mut running = bench.then(|| load(&original, 8));
            let (copy, finished) = copy_live(&original, &bin, || {
                original.sql("insert into marker values (42)");
                original.sql("drop table dropped");
                original.sql("create table late as select generate_series(1, 100000) n");
                original.sql("checkpoint");
            });
            assert!(!finished.from_standby && finished.timeline == 1);
            original.sql("insert into marker values (43)");
            if let Some(child) = &mut running {
                assert!(child.wait().unwrap().success());
            }
            original.stop("fast");

            copy.start(&[]);
            assert_eq!(copy.sql("select n from marker"), "42");
            assert_eq!(copy.sql("select count(*) from late"), "100000");
            assert_eq!(copy.sql("select count(*) from volatile"), "0");
            assert_eq!(copy.sql("select to_regclass('dropped') is null"), "t");
            if bench {
                assert_eq!(copy.sql(SUMS), "t");
                assert_eq!(copy.sql("select count(*) > 100 from pgbench_history"), "t");
            }
            let location = copy.sql(
                "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'",
            );
            assert!(
                location.starts_with(&copy.dir().display().to_string()),
                "{location}"
            );
            copy.stop("fast");
            if copy
                .bin("pg_checksums")
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
            {
                run(copy.bin("pg_checksums").arg("--check").arg(copy.pgdata()));
            }
        }
    }

    #[test]
    fn a_copy_of_a_standby_starts() {
        let bin = &bin_dirs()[0];
        let primary = Cluster::init(bin, &["--wal-segsize=1"]);
        primary.start(&[]);
        primary.sql("create table marker as select generate_series(1, 50000) n");
        let standby = Cluster::empty(bin);
        run(primary
            .bin("pg_basebackup")
            .args([
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "-d",
                &primary.dsn(),
                "-D",
            ])
            .arg(standby.pgdata()));
        standby.start(&[]);
        primary.sql("update marker set n = n + 1");
        let caught_up = |lsn: &str| {
            for _ in 0..600 {
                let sql = format!("select pg_last_wal_replay_lsn() >= '{lsn}'");
                if standby.sql(&sql) == "t" {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
            panic!("the standby does not follow");
        };
        caught_up(&primary.sql("select pg_current_wal_lsn()"));
        let before = probe(&standby.dsn()).unwrap();
        assert!(before.in_recovery && before.replay_lsn.is_some());
        let (copy, finished) = copy_live(&standby, bin, || {
            primary.sql("insert into marker values (-1)");
            caught_up(&primary.sql("select pg_current_wal_lsn()"));
            standby.sql("checkpoint");
        });
        assert!(finished.from_standby);
        drop(finished);
        assert_ne!(probe(&standby.dsn()).unwrap(), before);
        copy.start(&[]);
        assert_eq!(
            copy.sql("select pg_is_in_recovery(), count(*) >= 50000 from marker"),
            "f|t"
        );

        // A promotion in the middle voids the backup.
        let session = begin(&standby);
        assert!(session.facts().in_recovery);
        assert_eq!(standby.sql("select pg_promote()"), "t");
        assert!(matches!(
            session.finish(),
            Err(Error::Query { .. } | Error::ServerChanged { .. })
        ));

        // What was promoted goes on, on a timeline of its own.
        let (copy, finished) = copy_live(&standby, bin, || {
            standby.sql("insert into marker values (-2)");
        });
        assert_eq!(finished.timeline, 2);
        copy.start(&[]);
        assert_eq!(copy.sql("select count(*) from marker where n = -2"), "1");
    }

    #[test]
    fn the_server_tells_its_facts() {
        for bin in bin_dirs() {
            let cluster = Cluster::init(&bin, &["--data-checksums", "--wal-segsize=8"]);
            cluster.start(&[]);
            cluster.sql("create database \"odd \"\" name\"");
            cluster.sql("create table t (n int primary key)");
            let control = Control::read(cluster.pgdata()).unwrap();
            let mut session = begin(&cluster);
            let facts = session.facts().clone();
            assert_eq!(facts.system_identifier, control.system_identifier);
            assert_eq!(
                (facts.major, facts.catalog_version),
                (control.major, control.catalog_version)
            );
            assert_eq!((facts.block_size, facts.wal_segment_size), (8192, 8 << 20));
            assert_eq!((facts.segment_size, facts.wal_block_size), (1 << 30, 8192));
            assert!(facts.data_checksums && !facts.in_recovery && facts.replay_lsn.is_none());
            assert_eq!((facts.timeline, facts.prepared_xacts), (1, 0));
            assert_eq!(facts.server_encoding, "UTF8");
            assert_eq!(
                facts.config_file,
                facts.data_directory.join("postgresql.conf")
            );
            assert!(facts.postmaster_start_time > 1_700_000_000_000_000);
            let names: Vec<_> = facts.databases.iter().map(|d| d.name.as_str()).collect();
            assert_eq!(names.len(), 4);
            assert!(names.contains(&"odd \" name"));
            assert!(
                facts
                    .databases
                    .iter()
                    .all(|d| d.provider == 'c' && d.collate == "C")
            );

            let found = session.relations().unwrap();
            assert_eq!(found.unreachable, []);
            let of = |name: &str| {
                found
                    .relations
                    .iter()
                    .filter(|r| r.name == name)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let (table, index) = (of("t"), of("t_pkey"));
            assert_eq!(
                (table.len(), table[0].kind, table[0].tablespace_oid),
                (1, 'r', 1663)
            );
            assert_eq!(
                (table[0].database.as_str(), table[0].schema.as_str()),
                ("postgres", "public")
            );
            assert_eq!(index[0].kind, 'i');
            let file = format!("base/{}/{}", table[0].database_oid, table[0].relfilenode);
            assert!(cluster.pgdata().join(file).exists());
            let shared = of("pg_authid");
            assert_eq!(
                (
                    shared.len(),
                    shared[0].database_oid,
                    shared[0].tablespace_oid
                ),
                (1, 0, 1664)
            );
            assert!(
                cluster
                    .pgdata()
                    .join(format!("global/{}", shared[0].relfilenode))
                    .exists()
            );
            assert_eq!(of("pg_class").len(), 3);
            assert_eq!(
                session
                    .relations_where(|oid| oid == table[0].database_oid)
                    .unwrap()
                    .relations
                    .iter()
                    .filter(|r| r.name == "pg_class")
                    .count(),
                1
            );

            cluster.sql("alter database \"odd \"\" name\" connection limit 0");
            cluster.sql("create role plain login");
            assert_eq!(session.relations().unwrap().unreachable, []);
            session.check().unwrap();
        }
    }

    #[test]
    fn a_database_that_refuses_is_reported() {
        let cluster = Cluster::init(&bin_dirs()[0], &[]);
        cluster.start(&[]);
        cluster.sql("create database closed");
        let mut session = begin(&cluster);
        let oid = cluster.sql("select oid from pg_database where datname = 'closed'");
        cluster.sql("drop database closed");
        let found = session.relations().unwrap();
        assert!(found.relations.iter().any(|r| r.database == "postgres"));
        assert_eq!(found.unreachable.len(), 1);
        assert_eq!(found.unreachable[0].database, "closed");
        assert!(
            found.unreachable[0].reason.contains("does not exist"),
            "{found:?} {oid}"
        );
    }

    #[test]
    fn nothing_changes_on_an_idle_server() {
        let cluster = Cluster::init(&bin_dirs()[0], &[]);
        cluster.start(&["autovacuum=off", "max_prepared_transactions=2"]);
        let before = probe(&cluster.dsn()).unwrap();
        cluster.sql("select count(*) from pg_class");
        cluster.sql("checkpoint");
        begin(&cluster).finish().unwrap();
        assert_eq!(probe(&cluster.dsn()).unwrap(), before);
        cluster.sql("create table t ()");
        let after = probe(&cluster.dsn()).unwrap();
        assert_ne!(after.snapshot, before.snapshot);
        cluster.sql("begin; create table u (); prepare transaction 'p'");
        let prepared = probe(&cluster.dsn()).unwrap();
        assert_eq!(prepared.prepared, 1);
        cluster.sql("commit prepared 'p'");
        assert_ne!(probe(&cluster.dsn()).unwrap(), prepared);
    }

    #[test]
    fn what_a_server_refuses_is_named() {
        let cluster = Cluster::init(&bin_dirs()[0], &[]);
        let start = |dsn: &str| {
            let options = BeginOptions {
                fast: true,
                label: String::new(),
            };
            Session::begin(dsn, &options).map(drop).unwrap_err()
        };
        assert!(matches!(start("host=/x nonsense=1"), Error::BadDsn { .. }));
        assert!(matches!(start(&cluster.dsn()), Error::Connect { .. }));

        cluster.start(&["wal_level=minimal", "max_wal_senders=0"]);
        assert!(matches!(start(&cluster.dsn()), Error::WalLevelMinimal));
        cluster.stop("fast");
        cluster.start(&["max_replication_slots=0"]);
        assert!(
            matches!(start(&cluster.dsn()), Error::SlotRefused { reason }
            if reason.contains("max_replication_slots"))
        );
        cluster.stop("fast");

        cluster.start(&[]);
        cluster.sql("create role backup login");
        let dsn = cluster.dsn().replace("user=postgres", "user=backup");
        assert!(matches!(start(&dsn), Error::Privilege { role, .. } if role == "backup"));
        cluster.sql("grant pg_read_all_settings to backup");
        assert!(
            matches!(start(&dsn), Error::SlotRefused { reason } if reason.contains("replication"))
        );
        cluster.sql("alter role backup replication");
        assert!(
            matches!(start(&dsn), Error::Privilege { what, .. } if what.contains("pg_backup_start"))
        );
        // The least that a role needs.
        cluster.sql("grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to backup");
        let options = BeginOptions {
            fast: true,
            label: String::new(),
        };
        let finished = Session::begin(&dsn, &options).unwrap().finish().unwrap();
        // Slot and backup end with the connection.
        assert_eq!(
            cluster.sql("select count(*) from pg_replication_slots"),
            "1"
        );
        drop(finished);
        for _ in 0..100 {
            if cluster.sql("select count(*) from pg_replication_slots") == "0" {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the slot stays");
    }

    #[test]
    fn a_restart_or_lost_wal_voids_the_backup() {
        let cluster = Cluster::init(&bin_dirs()[0], &["--wal-segsize=1"]);
        cluster.start(&[
            "max_slot_wal_keep_size=2MB",
            "max_wal_size=2MB",
            "min_wal_size=2MB",
        ]);
        let mut session = begin(&cluster);
        session.check().unwrap();
        cluster.sql("create table t as select generate_series(1, 200000)");
        cluster.sql("checkpoint");
        assert!(matches!(
            session.finish(),
            Err(Error::SlotLost { .. } | Error::Query { .. })
        ));

        let session = begin(&cluster);
        cluster.stop("immediate");
        cluster.start(&[]);
        assert!(matches!(session.finish(), Err(Error::Query { .. })));
    }
}
