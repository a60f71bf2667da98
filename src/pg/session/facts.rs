//! What a server says about itself, and what of it tells whether it is still the same.

use std::path::PathBuf;

use postgres::{Client, Row};

use super::{configure, connect, letter, number, query, query_one, replay_lsn};
use crate::pg::lsn::Lsn;
use crate::pg::tablespace::Tablespace;
use crate::pg::version::SUPPORTED;
use crate::pg::{Error, Result};

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

/// The facts of a server without a backup.
pub fn facts(dsn: &str) -> Result<ServerFacts> {
    ServerFacts::read(&mut connect(&configure(dsn)?)?)
}

impl ServerFacts {
    pub(super) fn read(client: &mut Client) -> Result<ServerFacts> {
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
pub(super) struct Identity {
    pub(super) system_identifier: u64,
    pub(super) postmaster_start_time: i64,
    pub(super) in_recovery: bool,
    pub(super) timeline: u32,
}

impl Identity {
    pub(super) fn of(facts: &ServerFacts) -> Identity {
        Identity {
            system_identifier: facts.system_identifier,
            postmaster_start_time: facts.postmaster_start_time,
            in_recovery: facts.in_recovery,
            timeline: facts.timeline,
        }
    }

    pub(super) fn read(client: &mut Client) -> Result<Identity> {
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
