//! The settings that make a server started on a copy harmless to the original, as a marked
//! block at the end of postgresql.auto.conf, where the last setting wins.
//!
//! ALTER SYSTEM rewrites that file and drops comments. The placeholder setting
//! `zenith.guard` survives it, so that the block is still known as one afterwards.

const BEGIN: &str = "# BEGIN zenith guard: this is a copy and must not disturb its original";
const END: &str = "# END zenith guard";
const MARK: (&str, &str) = ("zenith.guard", "on");

/// Names and values; every supported major knows them all.
const SETTINGS: &[(&str, &str)] = &[
    MARK,
    // Archiving would overwrite or extend the original's archive.
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_library", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    // Replication, in both directions. Subscriptions stay, their workers do not start.
    ("max_logical_replication_workers", "0"),
    ("synchronous_standby_names", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("hot_standby_feedback", "off"),
    // Replay ends with the copy's own WAL.
    ("restore_command", ""),
    ("recovery_target", ""),
    ("recovery_target_lsn", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_timeline", "latest"),
    // Libraries act on their own: job schedulers, extensions that archive.
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    // The network and the original's files.
    ("listen_addresses", "localhost"),
    ("external_pid_file", ""),
    ("log_directory", "log"),
    ("cluster_name", "copy"),
];

fn line(name: &str, value: &str) -> String {
    format!("{name} = '{value}'")
}

/// The block with its markers; ends with a line break. It suits every supported major.
pub fn block() -> String {
    let mut text = format!("{BEGIN}\n");
    for (name, value) in SETTINGS {
        text += &line(name, value);
        text.push('\n');
    }
    text + END + "\n"
}

/// `auto_conf` with the block as its last lines, whether or not it had one.
pub fn add(auto_conf: &[u8]) -> Vec<u8> {
    let mut out = remove(auto_conf);
    if out.last().is_some_and(|last| *last != b'\n') {
        out.push(b'\n');
    }
    out.extend_from_slice(block().as_bytes());
    out
}

/// `auto_conf` without the block, in whatever shape ALTER SYSTEM left it.
pub fn remove(auto_conf: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(auto_conf.len());
    let mut inside = false;
    let lines: Vec<&[u8]> = auto_conf.split_inclusive(|b| *b == b'\n').collect();
    let has_end = |from: usize| {
        lines[from..]
            .iter()
            .any(|l| l.trim_ascii() == END.as_bytes())
    };
    for (i, &text) in lines.iter().enumerate() {
        let bare = text.trim_ascii();
        if bare == BEGIN.as_bytes() && has_end(i) {
            inside = true;
        } else if bare == END.as_bytes() && inside {
            inside = false;
        } else if !inside {
            kept.push(text);
        }
    }
    let mark = line(MARK.0, MARK.1);
    if kept.iter().any(|text| text.trim_ascii() == mark.as_bytes()) {
        // Rewritten by ALTER SYSTEM. Of equal lines the last is the guard's: an earlier
        // one is the original's own.
        for (name, value) in SETTINGS {
            let own = line(name, value);
            if let Some(at) = kept
                .iter()
                .rposition(|text| text.trim_ascii() == own.as_bytes())
            {
                kept.remove(at);
            }
        }
    }
    kept.concat()
}

/// Whether the block is in force somewhere in `auto_conf`.
pub fn is_present(auto_conf: &[u8]) -> bool {
    remove(auto_conf) != auto_conf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::testing::{Cluster, bin_dirs};
    use std::fs;

    #[test]
    fn the_block_comes_last_and_goes_away_again() {
        for original in [
            "",
            "# Do not edit\nport = '1'\nlisten_addresses = 'localhost'\n",
        ] {
            let once = add(original.as_bytes());
            let text = String::from_utf8(once.clone()).unwrap();
            assert!(text.starts_with(original) && text.ends_with(&block()));
            assert_eq!(add(&once), once);
            assert_eq!(remove(&once), original.as_bytes());
            assert!(is_present(&once) && !is_present(original.as_bytes()));
        }
        assert_eq!(remove(&add(b"port = '1'")), b"port = '1'\n");
    }

    #[test]
    fn a_later_setting_does_not_outlive_the_block_before_it() {
        let mut conf = add(b"port = '1'\n");
        conf.extend_from_slice(b"archive_mode = 'on'\n");
        let again = String::from_utf8(add(&conf)).unwrap();
        assert!(again.ends_with(&block()) && again.matches("BEGIN").count() == 1);
    }

    #[test]
    fn the_block_is_found_after_alter_system() {
        let conf = String::from_utf8(add(b"listen_addresses = 'localhost'\n")).unwrap();
        let rewritten: String = conf
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
            + "work_mem = '1MB'\n";
        assert_eq!(
            String::from_utf8(remove(rewritten.as_bytes())).unwrap(),
            "listen_addresses = 'localhost'\nwork_mem = '1MB'\n"
        );
    }

    #[test]
    fn a_begin_without_an_end_loses_nothing() {
        let torn = format!("{BEGIN}\nport = '1'\n");
        assert_eq!(remove(torn.as_bytes()), torn.as_bytes());
    }

    #[test]
    fn a_server_accepts_the_block_and_obeys_it() {
        for bin in bin_dirs() {
            let cluster = Cluster::init(&bin, &[]);
            let auto = cluster.pgdata().join("postgresql.auto.conf");
            fs::write(
                cluster.pgdata().join("postgresql.conf"),
                "wal_level = logical\narchive_mode = on\narchive_command = 'touch /tmp/never'\n\
                 synchronous_standby_names = '*'\nrecovery_target_xid = '1'\n\
                 listen_addresses = '*'\nhot_standby_feedback = on\nlog_directory = '/tmp/never'\n\
                 external_pid_file = '/tmp/never'\nshared_preload_libraries = 'no_such_library'\n",
            )
            .unwrap();
            fs::write(&auto, add(b"archive_mode = 'always'\n")).unwrap();
            cluster.start(&[]);
            // Subscriptions stay as they are, and nothing runs for them.
            cluster.sql("create subscription s connection 'host=/nowhere' publication p with (connect = false)");
            cluster.sql("alter subscription s set (slot_name = 'slot')");
            cluster.sql("alter subscription s enable");
            cluster.stop("fast");
            cluster.start(&[]);
            assert_eq!(
                cluster.sql("select count(*) from pg_stat_activity where backend_type ~ 'logical'"),
                "0"
            );
            // The helper sets one, and the server shows the other as (disabled).
            let elsewhere = ["listen_addresses", "archive_command"];
            for (name, value) in SETTINGS {
                if elsewhere.contains(name) {
                    continue;
                }
                assert_eq!(cluster.sql(&format!("show {name}")), *value, "{name}");
            }
            // A commit that waited for a standby would hang here.
            cluster.sql("create table t ()");
            cluster.sql("alter system set work_mem = '5MB'");
            let rewritten = fs::read(&auto).unwrap();
            assert!(!String::from_utf8_lossy(&rewritten).contains(BEGIN));
            let removed = String::from_utf8(remove(&rewritten)).unwrap();
            let settings: Vec<&str> = removed.lines().filter(|l| !l.starts_with('#')).collect();
            assert_eq!(settings, ["archive_mode = 'always'", "work_mem = '5MB'"]);
        }
    }
}
