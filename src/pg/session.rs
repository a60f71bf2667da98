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

use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};

use zenith_store::World;

use super::label::Label;
use super::lsn::Lsn;
use super::{Error, Result};

mod facts;
mod relations;

use facts::Identity;
pub use facts::{Database, ServerFacts, facts};
use relations::relations_in;
pub use relations::{Relation, Relations, Unreachable, relations};

const APPLICATION: &str = "zenith";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The end of the backup is flushed before pg_backup_stop returns; this is for the doubt.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The session must outlive every timeout that an administrator may have set for others; the last
/// one is there since 17.
const SETUP: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; \
     SET client_encoding = 'UTF8'; SET search_path = pg_catalog; \
     SET standard_conforming_strings = on; SET datestyle = 'ISO'; \
     SET default_transaction_read_only = off; SET jit = off; \
     SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

#[derive(Clone, Debug)]
pub struct BeginOptions {
    /// An immediate checkpoint instead of one spread over checkpoint_timeout.
    pub fast: bool,
    /// Goes into backup_label; line breaks and control characters become spaces.
    pub label: String,
    pub world: World,
}

/// A running backup.
pub struct Session {
    client: Client,
    config: Config,
    facts: ServerFacts,
    slot: String,
    start_lsn: Lsn,
    world: World,
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
            u32::from_be_bytes(options.world.bytes())
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
            world: options.world.clone(),
        })
    }

    /// Where replay of the backup begins.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// The temporary slot that pins the WAL; its name is its own.
    pub fn slot(&self) -> &str {
        &self.slot
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

    /// The relations of those databases, given by oid, that `wanted` takes, over one connection
    /// each; shared catalogs come with any of them.
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
            wait_flushed(client, stop_lsn, &self.world)?;
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

fn wait_flushed(client: &mut Client, stop: Lsn, world: &World) -> Result<()> {
    let begun = world.watch();
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
        if begun.elapsed() >= FLUSH_TIMEOUT {
            return Err(Error::Query {
                doing,
                reason: format!("it is flushed up to {flushed}, the backup ends at {stop}"),
                code: None,
            });
        }
        world.sleep(Duration::from_millis(20));
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
