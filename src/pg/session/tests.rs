use zenith_store::World;

use super::*;
use crate::pg::path::{Rule, is_relation_dir, rule, unlogged};
use crate::pg::tablespace::Tablespace;
use crate::pg::testing::{Cluster, bin_dirs, give, run};
use crate::pg::wal::{TimelineHistory, WalFacts, history_files, read_segment};
use crate::pg::{Control, guard, tablespace};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

/// What of the facts tells whether anything was committed.
#[derive(Debug, PartialEq)]
struct Mark {
    snapshot: String,
    prepared: u64,
    replay_lsn: Option<Lsn>,
}

fn mark(cluster: &Cluster) -> Mark {
    let facts = facts(&cluster.dsn()).unwrap();
    Mark {
        snapshot: facts.current_snapshot,
        prepared: facts.prepared_xacts,
        replay_lsn: facts.replay_lsn,
    }
}

fn begin(cluster: &Cluster) -> Session {
    let options = BeginOptions {
        fast: true,
        label: "a\ntest".into(),
        world: World::real(),
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
        if rel == "global/pg_control" || rel.starts_with("pg_tblspc/") && to.ends_with("pg_tblspc")
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
    let (control, bytes) = Control::read_with_bytes(original.pgdata(), &World::real()).unwrap();
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
        let bytes = read_segment(original.pgdata(), &name, timeline, lsn, lsn, stop, &wal).unwrap();
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
        let location = copy
            .sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'");
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
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the standby does not follow");
    };
    caught_up(&primary.sql("select pg_current_wal_lsn()"));
    let before = mark(&standby);
    assert!(before.replay_lsn.is_some());
    let (copy, finished) = copy_live(&standby, bin, || {
        primary.sql("insert into marker values (-1)");
        caught_up(&primary.sql("select pg_current_wal_lsn()"));
        standby.sql("checkpoint");
    });
    assert!(finished.from_standby);
    drop(finished);
    assert_ne!(mark(&standby), before);
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
        let control = Control::read(cluster.pgdata(), &World::real()).unwrap();
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

        let found = session.relations_where(|_| true).unwrap();
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
        assert_eq!(session.relations_where(|_| true).unwrap().unreachable, []);
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
    let found = session.relations_where(|_| true).unwrap();
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
    let before = mark(&cluster);
    cluster.sql("select count(*) from pg_class");
    cluster.sql("checkpoint");
    begin(&cluster).finish().unwrap();
    assert_eq!(mark(&cluster), before);
    cluster.sql("create table t ()");
    let after = mark(&cluster);
    assert_ne!(after.snapshot, before.snapshot);
    cluster.sql("begin; create table u (); prepare transaction 'p'");
    let prepared = mark(&cluster);
    assert_eq!(prepared.prepared, 1);
    cluster.sql("commit prepared 'p'");
    assert_ne!(mark(&cluster), prepared);
}

#[test]
fn what_a_server_refuses_is_named() {
    let cluster = Cluster::init(&bin_dirs()[0], &[]);
    let start = |dsn: &str| {
        let options = BeginOptions {
            fast: true,
            label: String::new(),
            world: World::real(),
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
    assert!(matches!(start(&dsn), Error::SlotRefused { reason } if reason.contains("replication")));
    cluster.sql("alter role backup replication");
    assert!(
        matches!(start(&dsn), Error::Privilege { what, .. } if what.contains("pg_backup_start"))
    );
    // The least that a role needs.
    cluster.sql("grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to backup");
    let options = BeginOptions {
        fast: true,
        label: String::new(),
        world: World::real(),
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
        std::thread::sleep(Duration::from_millis(50));
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
