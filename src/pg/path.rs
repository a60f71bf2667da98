//! Which paths below PGDATA belong to a copy of the cluster, and what their names mean.
//!
//! Sources: excludeDirContents, excludeFiles and sendDir in
//! src/backend/backup/basebackup.c; src/common/relpath.c; src/backend/storage/file/reinit.c.

use std::collections::HashSet;

/// Files that no cluster is without: when one of these vanishes during a copy, the copy is
/// void. (A relation file may vanish; replay removes or recreates it.)
pub const REQUIRED: &[&str] = &["PG_VERSION", "global/pg_control", "global/pg_filenode.map"];

/// The directories that a server needs and that are empty in a copy.
pub const EMPTY_DIRECTORIES: &[(&str, &str)] = &[
    ("pg_wal", "WAL is kept apart"),
    ("pg_wal/archive_status", "archiving belongs to the original"),
    ("pg_wal/summaries", "WAL summaries are made anew"),
    ("pg_replslot", "replication slots belong to the original"),
    ("pg_dynshmem", "shared memory of the running server"),
    ("pg_notify", "reset at every start"),
    ("pg_serial", "reset at every start"),
    (
        "pg_snapshots",
        "exported snapshots end with their transaction",
    ),
    ("pg_stat_tmp", "reset at every start"),
    ("pg_subtrans", "reset at every start"),
    ("log", "the server log"),
    ("pg_log", "the server log"),
];

/// Files left out by their whole path.
const FILES: &[(&str, &str)] = &[
    ("postmaster.pid", "belongs to the running server"),
    ("postmaster.opts", "belongs to the running server"),
    ("postgresql.auto.conf.tmp", "half-written"),
    ("current_logfiles", "belongs to the running server"),
    ("current_logfiles.tmp", "half-written"),
    ("backup_label", "of another backup"),
    ("backup_label.old", "of another backup"),
    ("tablespace_map", "of another backup"),
    ("tablespace_map.old", "of another backup"),
    ("backup_manifest", "of another backup"),
    ("backup_manifest.tmp", "of another backup"),
    ("recovery.signal", "a copy decides itself how it starts"),
    ("standby.signal", "a copy decides itself how it starts"),
];

/// What becomes of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Take,
    /// The directory itself without its content; the reason.
    TakeDirOnly(&'static str),
    /// The reason.
    LeaveOut(&'static str),
}

/// What becomes of `rel`, a path relative to PGDATA separated by `/`. Tablespaces are
/// addressed as `pg_tblspc/<oid>/PG_…`. `is_dir` follows a symlink at `pg_wal`.
///
/// Forks of unlogged relations depend on their neighbours: see [`unlogged`].
pub fn rule(rel: &str, is_dir: bool) -> Rule {
    let (parent, name) = rel.rsplit_once('/').unwrap_or(("", rel));
    for (dir, reason) in EMPTY_DIRECTORIES {
        if rel == *dir {
            // A plain file of that name is not PostgreSQL's: it has no meaning that we know.
            return if is_dir {
                Rule::TakeDirOnly(reason)
            } else {
                Rule::Take
            };
        }
    }
    for (dir, reason) in EMPTY_DIRECTORIES {
        if rel
            .strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            return Rule::LeaveOut(reason);
        }
    }
    // Everything below a temporary directory goes with it.
    if rel.split('/').any(|part| part.starts_with("pgsql_tmp")) {
        return Rule::LeaveOut("temporary files of running queries");
    }
    if !is_dir {
        if let Some((_, reason)) = FILES.iter().find(|(file, _)| *file == rel) {
            return Rule::LeaveOut(reason);
        }
        if name.starts_with("pg_internal.init") {
            return Rule::LeaveOut("relation cache, rebuilt at start");
        }
        if name == ".DS_Store" {
            return Rule::LeaveOut("belongs to the file manager");
        }
        if parent.is_empty() && is_core_file(name) {
            return Rule::LeaveOut("core file of a crashed process");
        }
        if is_relation_dir(parent) && is_temporary_relation(name) {
            return Rule::LeaveOut("temporary relation");
        }
    } else if name == "lost+found" {
        return Rule::LeaveOut("belongs to the file system");
    }
    Rule::Take
}

fn is_core_file(name: &str) -> bool {
    name == "core"
        || name
            .strip_prefix("core.")
            .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

/// A fork of a relation; as a number it is PostgreSQL's ForkNumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    Main = 0,
    Fsm = 1,
    Vm = 2,
    Init = 3,
}

impl Fork {
    /// The name in file names; `main` never appears there.
    pub fn name(self) -> &'static str {
        match self {
            Fork::Main => "main",
            Fork::Fsm => "fsm",
            Fork::Vm => "vm",
            Fork::Init => "init",
        }
    }
}

/// `<relnode>[_<fork>][.<segment>]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationFile {
    pub relnode: u32,
    pub fork: Fork,
    /// Counts whole segments; 0 has no suffix.
    pub segment: u32,
}

/// The meaning of a file name in a relation directory (parse_filename_for_nontemp_relation).
/// Only the canonical spelling is one: no leading zeros, no `.0`.
pub fn relation_file(name: &str) -> Option<RelationFile> {
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, canonical(segment).filter(|n| *n > 0)?),
        None => (name, 0),
    };
    let (relnode, fork) = match stem.split_once('_') {
        Some((relnode, "fsm")) => (relnode, Fork::Fsm),
        Some((relnode, "vm")) => (relnode, Fork::Vm),
        Some((relnode, "init")) => (relnode, Fork::Init),
        Some(_) => return None,
        None => (stem, Fork::Main),
    };
    let relnode = canonical(relnode).filter(|n| *n > 0)?;
    Some(RelationFile {
        relnode,
        fork,
        segment,
    })
}

fn canonical(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = plain && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok()).flatten()
}

/// `t<backend>_<relnode>[_<fork>][.<segment>]` (looks_like_temp_rel_name).
fn is_temporary_relation(name: &str) -> bool {
    name.strip_prefix('t')
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(backend, file)| {
            canonical(backend).is_some() && relation_file(file).is_some()
        })
}

/// Of all the names in one database directory, those that hold the content of unlogged
/// relations: all forks of a relation that has an init fork, but that fork itself. The
/// server recreates them from the init fork.
pub fn unlogged<'a>(names: impl IntoIterator<Item = &'a str>) -> HashSet<&'a str> {
    let files: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((name, relation_file(name)?)))
        .collect();
    let with_init: HashSet<u32> = files
        .iter()
        .filter(|(_, f)| f.fork == Fork::Init)
        .map(|(_, f)| f.relnode)
        .collect();
    files
        .into_iter()
        .filter(|(_, f)| f.fork != Fork::Init && with_init.contains(&f.relnode))
        .map(|(name, _)| name)
        .collect()
}

/// Whether `rel` holds relations: `global`, `base/<oid>`, `pg_tblspc/<oid>/PG_…/<oid>`.
pub fn is_relation_dir(rel: &str) -> bool {
    let is_oid = |s: &str| canonical(s).is_some_and(|oid| oid > 0);
    let mut parts = rel.split('/');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some("global"), None, ..) => true,
        (Some("base"), Some(database), None, ..) => is_oid(database),
        (Some("pg_tblspc"), Some(tablespace), Some(version), Some(database), None) => {
            is_oid(tablespace) && version.starts_with("PG_") && is_oid(database)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        let left_out = |rel| assert!(matches!(rule(rel, false), Rule::LeaveOut(_)), "{rel}");
        for rel in [
            "pg_wal/000000010000000000000001",
            "pg_wal/00000002.history",
            "pg_wal/archive_status/000000010000000000000001.ready",
            "pg_wal/summaries/x.summary",
            "pg_replslot/slot/state",
            "pg_notify/0000",
            "pg_subtrans/0000",
            "pg_stat_tmp/global.stat",
            "log/postgresql-1.log",
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "backup_label.old",
            "tablespace_map",
            "backup_manifest",
            "standby.signal",
            "current_logfiles",
            "postgresql.auto.conf.tmp",
            "global/pg_internal.init",
            "base/5/pg_internal.init.4711",
            "base/pgsql_tmp/pgsql_tmp12.0",
            "pg_tblspc/16400/PG_15_202209061/pgsql_tmp/pgsql_tmp12.0",
            "base/5/t3_16400",
            "base/5/t3_16400_fsm",
            "base/5/t3_16400.1",
            "pg_tblspc/16400/PG_15_202209061/5/t12_16400_vm.2",
            "core",
            "core.4711",
            ".DS_Store",
            "base/.DS_Store",
        ] {
            left_out(rel);
        }
        assert!(matches!(rule("lost+found", true), Rule::LeaveOut(_)));
        assert!(matches!(rule("base/pgsql_tmp", true), Rule::LeaveOut(_)));
    }

    #[test]
    fn what_is_taken() {
        for rel in [
            "PG_VERSION",
            "global/pg_control",
            "postgresql.conf",
            "postgresql.auto.conf",
            "base/5/16400",
            "base/5/16400_init",
            "base/5/t3_16400x",
            "base/5/t3_16400_other",
            "t3_16400",
            "pg_walk",
            "core.conf",
            "base/5/core",
            "conf.d/backup_label",
            "logs/x",
            "pg_xact/0000",
            "pg_stat/pgstat.stat",
            "pg_logical/replorigin_checkpoint",
        ] {
            assert_eq!(rule(rel, false), Rule::Take, "{rel}");
        }
        for rel in [
            "base",
            "base/5",
            "pg_tblspc",
            "pg_tblspc/16400/PG_15_202209061/5",
        ] {
            assert_eq!(rule(rel, true), Rule::Take, "{rel}");
        }
        for (rel, _) in EMPTY_DIRECTORIES.iter().filter(|(d, _)| !d.contains('/')) {
            assert!(matches!(rule(rel, true), Rule::TakeDirOnly(_)), "{rel}");
        }
        assert!(matches!(
            rule("pg_wal/archive_status", true),
            Rule::TakeDirOnly(_)
        ));
        assert!(matches!(rule("pg_replslot/slot", true), Rule::LeaveOut(_)));
    }

    #[test]
    fn names_of_relation_files() {
        let file = |relnode, fork, segment| {
            Some(RelationFile {
                relnode,
                fork,
                segment,
            })
        };
        assert_eq!(relation_file("16384"), file(16384, Fork::Main, 0));
        assert_eq!(relation_file("16384.12"), file(16384, Fork::Main, 12));
        assert_eq!(relation_file("16384_fsm"), file(16384, Fork::Fsm, 0));
        assert_eq!(
            relation_file("4294967295_vm.1"),
            file(u32::MAX, Fork::Vm, 1)
        );
        assert_eq!(relation_file("1_init"), file(1, Fork::Init, 0));
        for no in [
            "",
            "0",
            "016384",
            "16384.",
            "16384.0",
            "16384.01",
            "16384_main",
            "16384_fsm_vm",
            "_fsm",
            "t1_16384",
            "4294967296",
            "pg_filenode.map",
            "PG_VERSION",
            "16384.1.2",
            "+1",
            "pg_control",
            "16384_",
            "16384 ",
        ] {
            assert_eq!(relation_file(no), None, "{no}");
        }
    }

    #[test]
    fn unlogged_relations_keep_only_their_init_fork() {
        let names = [
            "1",
            "1.1",
            "1_fsm",
            "1_vm",
            "1_init",
            "2",
            "2_fsm",
            "11",
            "PG_VERSION",
        ];
        assert_eq!(
            unlogged(names),
            HashSet::from(["1", "1.1", "1_fsm", "1_vm"])
        );
    }

    #[test]
    fn directories_of_relations() {
        for yes in ["global", "base/5", "pg_tblspc/16400/PG_15_202209061/5"] {
            assert!(is_relation_dir(yes), "{yes}");
        }
        for no in [
            "",
            "base",
            "base/x",
            "base/5/6",
            "global/5",
            "pg_tblspc/16400",
            "pg_tblspc/16400/PG_15_202209061",
            "pg_tblspc/16400/PG_15/5/6",
            "base/0",
        ] {
            assert!(!is_relation_dir(no), "{no}");
        }
    }
}
