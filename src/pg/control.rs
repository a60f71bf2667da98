//! global/pg_control: the one file that says what state a cluster is in.
//!
//! The layout is that of src/include/catalog/pg_control.h as a little-endian 64-bit build
//! writes it. Between 1300 (15, 16) and 1700 (17) only padding inside the checkpoint got a
//! meaning; 1800 (18) has one more byte before the nonce.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zenith_store::World;

use super::lsn::{Lsn, check_segment_size};
use super::version::major_of_catalog;
use super::{Error, Result};

/// PG_CONTROL_FILE_SIZE: bytes beyond the struct are zero.
pub const CONTROL_FILE_SIZE: usize = 8192;

/// While the server rewrites the file a reader may see both halves.
const READ_ATTEMPTS: u32 = 20;
const READ_PAUSE: Duration = Duration::from_millis(25);

/// DBState.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl ClusterState {
    fn from_number(n: u32) -> Option<ClusterState> {
        use ClusterState::*;
        [
            StartingUp,
            ShutDown,
            ShutDownInRecovery,
            ShuttingDown,
            InCrashRecovery,
            InArchiveRecovery,
            InProduction,
        ]
        .get(n as usize)
        .copied()
    }

    /// Nothing but its WAL from the checkpoint's redo on is needed to start it.
    pub fn is_shut_down(self) -> bool {
        matches!(
            self,
            ClusterState::ShutDown | ClusterState::ShutDownInRecovery
        )
    }
}

impl fmt::Display for ClusterState {
    /// As pg_controldata prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClusterState::StartingUp => "starting up",
            ClusterState::ShutDown => "shut down",
            ClusterState::ShutDownInRecovery => "shut down in recovery",
            ClusterState::ShuttingDown => "shutting down",
            ClusterState::InCrashRecovery => "in crash recovery",
            ClusterState::InArchiveRecovery => "in archive recovery",
            ClusterState::InProduction => "in production",
        })
    }
}

/// What pg_control says. Sizes are in bytes, except `segment_blocks`; times in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub system_identifier: u64,
    pub control_version: u32,
    pub catalog_version: u32,
    /// Derived from `catalog_version`.
    pub major: u32,
    pub state: ClusterState,
    /// When the file was last written.
    pub time: i64,
    pub checkpoint_lsn: Lsn,
    pub redo_lsn: Lsn,
    pub timeline: u32,
    pub prev_timeline: u32,
    pub full_page_writes: bool,
    /// Epoch in the upper half.
    pub next_xid: u64,
    pub next_oid: u32,
    pub next_multixact: u32,
    pub oldest_xid: u32,
    pub checkpoint_time: i64,
    /// Zero unless the cluster is in archive recovery.
    pub min_recovery_point: Lsn,
    pub min_recovery_timeline: u32,
    pub backup_start: Lsn,
    pub backup_end: Lsn,
    pub backup_end_required: bool,
    /// 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    pub wal_log_hints: bool,
    pub max_connections: i32,
    pub max_worker_processes: i32,
    pub max_wal_senders: i32,
    pub max_prepared_xacts: i32,
    pub max_locks_per_xact: i32,
    pub block_size: u32,
    /// RELSEG_SIZE: blocks in one segment of a relation.
    pub segment_blocks: u32,
    pub wal_block_size: u32,
    pub wal_segment_size: u32,
    /// 0 is off, 1 on.
    pub page_checksum_version: u32,
}

impl Control {
    /// Reads and checks `pgdata`/global/pg_control, again and again for half a second when
    /// its CRC does not match: the file is not written atomically.
    pub fn read(pgdata: &Path, world: &World) -> Result<Control> {
        Control::read_with_bytes(pgdata, world).map(|(control, _)| control)
    }

    /// Also the bytes that were checked, so that a copy stores just these.
    pub fn read_with_bytes(pgdata: &Path, world: &World) -> Result<(Control, Vec<u8>)> {
        let path = control_path(pgdata);
        let mut attempt = 1;
        loop {
            let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
            match Control::parse(&bytes) {
                Ok(control) => return Ok((control, bytes)),
                Err(Error::ControlBytes { reason }) if attempt == READ_ATTEMPTS => {
                    return Err(Error::ControlDamaged { path, reason });
                }
                Err(Error::ControlBytes { .. }) => {
                    attempt += 1;
                    world.sleep(READ_PAUSE);
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Errors: `ControlBytes` when the content is not that of a supported, undamaged file.
    pub fn parse(bytes: &[u8]) -> Result<Control> {
        let damaged = |reason: String| Error::ControlBytes { reason };
        if bytes.len() < 512 {
            return Err(damaged(format!(
                "it has {} bytes, expected 8192",
                bytes.len()
            )));
        }
        let control_version = u32_at(bytes, 8);
        let crc_offset = match control_version {
            1300 | 1700 => 288,
            1800 => 292,
            v if v.swap_bytes() >> 16 == 0 && v > 0xFFFF => {
                return Err(damaged("it was written by a big-endian machine".into()));
            }
            v => return Err(damaged(format!("control version {v} is unknown"))),
        };
        let (stored, computed) = (
            u32_at(bytes, crc_offset),
            crc32c::crc32c(&bytes[..crc_offset]),
        );
        if stored != computed {
            return Err(damaged(format!(
                "its checksum is {stored:08x}, its content has {computed:08x}"
            )));
        }
        let catalog_version = u32_at(bytes, 12);
        let major = major_of_catalog(catalog_version)
            .ok_or_else(|| damaged(format!("catalog version {catalog_version} is unknown")))?;
        let state = u32_at(bytes, 16);
        let control = Control {
            system_identifier: u64_at(bytes, 0),
            control_version,
            catalog_version,
            major,
            state: ClusterState::from_number(state)
                .ok_or_else(|| damaged(format!("cluster state {state} is unknown")))?,
            time: i64_at(bytes, 24),
            checkpoint_lsn: Lsn(u64_at(bytes, 32)),
            // CheckPoint starts at 40.
            redo_lsn: Lsn(u64_at(bytes, 40)),
            timeline: u32_at(bytes, 48),
            prev_timeline: u32_at(bytes, 52),
            full_page_writes: bytes[56] != 0,
            next_xid: u64_at(bytes, 64),
            next_oid: u32_at(bytes, 72),
            next_multixact: u32_at(bytes, 76),
            oldest_xid: u32_at(bytes, 84),
            checkpoint_time: i64_at(bytes, 104),
            // It ends at 128, then unloggedLSN.
            min_recovery_point: Lsn(u64_at(bytes, 136)),
            min_recovery_timeline: u32_at(bytes, 144),
            backup_start: Lsn(u64_at(bytes, 152)),
            backup_end: Lsn(u64_at(bytes, 160)),
            backup_end_required: bytes[168] != 0,
            wal_level: i32_at(bytes, 172),
            wal_log_hints: bytes[176] != 0,
            max_connections: i32_at(bytes, 180),
            max_worker_processes: i32_at(bytes, 184),
            max_wal_senders: i32_at(bytes, 188),
            max_prepared_xacts: i32_at(bytes, 192),
            max_locks_per_xact: i32_at(bytes, 196),
            block_size: u32_at(bytes, 216),
            segment_blocks: u32_at(bytes, 220),
            wal_block_size: u32_at(bytes, 224),
            wal_segment_size: u32_at(bytes, 228),
            page_checksum_version: u32_at(bytes, 252),
        };
        // Sizes that later divide and allocate must be sane even with a good CRC.
        check_segment_size(control.wal_segment_size)?;
        for (what, size) in [
            ("block size", control.block_size),
            ("WAL block size", control.wal_block_size),
        ] {
            if !size.is_power_of_two() || !(1024..=65536).contains(&size) {
                return Err(damaged(format!("{what} {size} is impossible")));
            }
        }
        if control.segment_blocks == 0 {
            return Err(damaged("segments of 0 blocks are impossible".into()));
        }
        Ok(control)
    }
}

/// `pgdata`/global/pg_control.
pub fn control_path(pgdata: &Path) -> PathBuf {
    pgdata.join("global").join("pg_control")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::testing::{Cluster, bin_dirs};
    use std::process::Command;

    /// What pg_controldata prints, as (label, value) pairs.
    fn controldata(bin: &Path, pgdata: &Path) -> Vec<(String, String)> {
        let out = Command::new(bin.join("pg_controldata"))
            .arg(pgdata)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .filter_map(|l| l.split_once(':'))
            .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
            .collect()
    }

    /// Major 15 always; more with ZENITH_TEST_PG_BINS=/dir/bin:/dir/bin.
    #[test]
    fn agrees_with_pg_controldata() {
        for bin in bin_dirs() {
            let cluster = Cluster::init(&bin, &["--data-checksums", "--wal-segsize=32"]);
            let got = Control::read(cluster.pgdata(), &World::real()).unwrap();
            let said = controldata(&bin, cluster.pgdata());
            let value = |label: &str| {
                let found = said.iter().find(|(k, _)| k == label);
                found.unwrap_or_else(|| panic!("{label}")).1.clone()
            };
            let yes_no = |b: bool| if b { "yes" } else { "no" }.to_owned();
            let on_off = |b: bool| if b { "on" } else { "off" }.to_owned();
            for (label, ours) in [
                ("pg_control version number", got.control_version.to_string()),
                ("Catalog version number", got.catalog_version.to_string()),
                (
                    "Database system identifier",
                    got.system_identifier.to_string(),
                ),
                ("Database cluster state", got.state.to_string()),
                ("Latest checkpoint location", got.checkpoint_lsn.to_string()),
                (
                    "Latest checkpoint's REDO location",
                    got.redo_lsn.to_string(),
                ),
                ("Latest checkpoint's TimeLineID", got.timeline.to_string()),
                (
                    "Latest checkpoint's PrevTimeLineID",
                    got.prev_timeline.to_string(),
                ),
                (
                    "Latest checkpoint's full_page_writes",
                    on_off(got.full_page_writes),
                ),
                (
                    "Latest checkpoint's NextXID",
                    format!("{}:{}", got.next_xid >> 32, got.next_xid & 0xFFFF_FFFF),
                ),
                ("Latest checkpoint's NextOID", got.next_oid.to_string()),
                (
                    "Latest checkpoint's NextMultiXactId",
                    got.next_multixact.to_string(),
                ),
                ("Latest checkpoint's oldestXID", got.oldest_xid.to_string()),
                (
                    "Minimum recovery ending location",
                    got.min_recovery_point.to_string(),
                ),
                (
                    "Min recovery ending loc's timeline",
                    got.min_recovery_timeline.to_string(),
                ),
                ("Backup start location", got.backup_start.to_string()),
                ("Backup end location", got.backup_end.to_string()),
                (
                    "End-of-backup record required",
                    yes_no(got.backup_end_required),
                ),
                (
                    "wal_level setting",
                    ["minimal", "replica", "logical"][got.wal_level as usize].to_owned(),
                ),
                ("wal_log_hints setting", on_off(got.wal_log_hints)),
                ("max_connections setting", got.max_connections.to_string()),
                (
                    "max_worker_processes setting",
                    got.max_worker_processes.to_string(),
                ),
                ("max_wal_senders setting", got.max_wal_senders.to_string()),
                (
                    "max_prepared_xacts setting",
                    got.max_prepared_xacts.to_string(),
                ),
                (
                    "max_locks_per_xact setting",
                    got.max_locks_per_xact.to_string(),
                ),
                ("Database block size", got.block_size.to_string()),
                (
                    "Blocks per segment of large relation",
                    got.segment_blocks.to_string(),
                ),
                ("WAL block size", got.wal_block_size.to_string()),
                ("Bytes per WAL segment", got.wal_segment_size.to_string()),
                (
                    "Data page checksum version",
                    got.page_checksum_version.to_string(),
                ),
            ] {
                assert_eq!(ours, value(label), "{label} of {}", bin.display());
            }
            assert_eq!(got.wal_segment_size, 32 << 20);
            assert!(got.checkpoint_time > 1_700_000_000 && got.time >= got.checkpoint_time);
            let major = crate::pg::version::major_of_dir(cluster.pgdata()).unwrap();
            assert_eq!(got.major, major);
        }
    }

    #[test]
    fn damage_is_found() {
        let cluster = Cluster::init(&bin_dirs()[0], &["-N"]);
        let path = control_path(cluster.pgdata());
        let good = fs::read(&path).unwrap();
        assert!(Control::parse(&good).is_ok());
        for at in [0, 40, 100, 255, 287, 288] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Control::parse(&bad).is_err(), "byte {at}");
        }
        assert!(Control::parse(&good[..100]).is_err());
        fs::write(&path, [0; 8192]).unwrap();
        assert!(matches!(
            Control::read(cluster.pgdata(), &World::real()),
            Err(Error::ControlDamaged { .. })
        ));
    }
}
