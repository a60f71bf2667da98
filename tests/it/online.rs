//! Running servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use zenith::Error;
use zenith::event::ignore;
use zenith::snapshot::{self, SnapshotOptions};
use zenith_store::SnapshotSource;
use zenith_testkit::{Load, Programs, Server, load, process};

use crate::fixture::{Fixture, is};

/// A checkpoint that is spread takes longer than any of them allows.
fn no_timeout_ends_a_backup(programs: &Programs) {
    let f = Fixture::new();
    let names = ["statement_timeout", "lock_timeout", "idle_session_timeout"]
        .into_iter()
        .chain(["idle_in_transaction_session_timeout", "transaction_timeout"])
        .filter(|name| *name != "transaction_timeout" || programs.major >= 17);
    let mut settings = "checkpoint_timeout = 30\ncheckpoint_completion_target = 0.2\n".to_owned();
    for name in names {
        settings += &format!("{name} = '2s'\n");
    }
    let server = Server::create(&f.place, "a", programs, &settings);
    server.sql("create table t as select i, repeat('x', 500) x from generate_series(1, 20000) i");
    let options = SnapshotOptions {
        fast: false,
        ..f.options()
    };
    let report = snapshot::online(&f.repo, &server.pgdata, &server.dsn(), &options, &ignore);
    assert!(!report.unwrap().unchanged);
    server.stop();
}

#[test]
fn no_timeout_ends_a_backup_of_15() {
    no_timeout_ends_a_backup(&Programs::debian());
}

#[test]
fn no_timeout_ends_a_backup_of_17() {
    no_timeout_ends_a_backup(&Programs::fetched(17));
}

#[test]
fn no_timeout_ends_a_backup_of_18() {
    no_timeout_ends_a_backup(&Programs::fetched(18));
}

#[test]
fn snapshots_under_load_are_consistent() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "max_wal_size = 64MB");
    load::init(&f.place, &f.programs, &server.connection(), 3);
    server.sql("create table marker (n int)");
    server.sql("create unlogged table u as select generate_series(1, 1000) x");
    let mut work = Load::start(&f.place, &f.programs, &server.connection(), 4, None);
    let mut ids = Vec::new();
    for n in 0..4 {
        server.sql(&format!("insert into marker values ({n})"));
        let report = f.online(&server.pgdata, &server.dsn()).unwrap();
        assert!(
            !report.unchanged && report.warnings.is_empty(),
            "{:?}",
            report.warnings
        );
        ids.push(report.id);
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(work.is_running());
    work.stop();
    let mut transactions = 0;
    for (n, id) in ids.iter().enumerate() {
        let dir = f.checkout(*id, &format!("c{n}"));
        let copy = Server::start(&f.place, &f.programs, &dir, "");
        let count = load::check_balances(&copy.dsn());
        assert!(count >= transactions, "{count} after {transactions}");
        transactions = count;
        assert_eq!(copy.value("select max(n) from marker"), n.to_string());
        assert_eq!(copy.value("select count(*) from u"), "0");
        load::amcheck(&f.programs, f.place.path(), &copy.connection());
        copy.stop();
        load::checksums(&f.programs, f.place.path(), &dir);
    }
    assert!(transactions > 0);
    let facts = f.facts(ids[3]);
    assert_eq!(
        f.repo.snapshot(ids[3]).unwrap().source,
        SnapshotSource::Online
    );
    assert!(facts.stop_lsn > facts.start_lsn && facts.wal_bytes >= 16 << 20);
    let database = facts
        .databases
        .iter()
        .find(|d| d.name == "postgres")
        .unwrap();
    let relation = database
        .relations
        .iter()
        .find(|r| r.name == "pgbench_accounts")
        .unwrap();
    assert_eq!(
        facts.relation(database.oid, relation.filenode).unwrap().1,
        relation
    );
}

/// A schema that gets another name changes no page of pg_class.
#[test]
fn names_follow_their_schemas() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create schema before; create table before.t as select 1 x");
    f.online(&server.pgdata, &server.dsn()).unwrap();
    server.sql("alter schema before rename to after");
    let facts = f.facts(f.online(&server.pgdata, &server.dsn()).unwrap().id);
    let relations = facts.databases.iter().flat_map(|d| &d.relations);
    let schemas: Vec<&str> = relations
        .filter(|r| r.name == "t")
        .map(|r| r.schema.as_str())
        .collect();
    assert_eq!(schemas, ["after"]);
}

#[test]
fn nothing_changed_nothing_stored() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select 1 x");
    let snapshot = || f.online(&server.pgdata, &server.dsn()).unwrap();
    let first = snapshot();
    for _ in 0..3 {
        let next = snapshot();
        assert_eq!((next.id, next.unchanged), (first.id, true));
    }
    server.sql("select * from t");
    server.sql("checkpoint");
    assert!(
        snapshot().unchanged,
        "reading and checkpoints are no change"
    );
    server.sql("insert into t values (2)");
    assert!(!snapshot().unchanged && snapshot().unchanged);
    server.sql("alter system set work_mem = '9MB'");
    assert!(!snapshot().unchanged && snapshot().unchanged);
    let hba = server.pgdata.join("pg_hba.conf");
    fs::write(&hba, fs::read_to_string(&hba).unwrap() + "# more\n").unwrap();
    assert!(!snapshot().unchanged && snapshot().unchanged);
    // A clean stop and start changes nothing either.
    server.stop();
    let stopped = f.offline(&server.pgdata).unwrap();
    server.restart("");
    let last = snapshot();
    assert!(last.unchanged && last.id == stopped.id);
}

#[test]
fn only_the_server_of_the_directory_will_do() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "");
    let other = Server::initdb(&f.place, "b", &f.programs);
    is(f.online(&other, &server.dsn()), |e| {
        matches!(e, Error::OtherServer { .. })
    });
    server.stop();
    is(f.online(&server.pgdata, &server.dsn()), |e| {
        matches!(e, Error::Pg(zenith::pg::Error::Connect { .. }))
    });
    assert_eq!(f.repo.state().unwrap().len(), 0);
}

/// A standby has the identifier of its primary, and, on a machine of its own, its path.
#[test]
fn a_primary_is_not_taken_for_its_standby() {
    let f = Fixture::new();
    let real = Server::initdb(&f.place, "elsewhere", &f.programs);
    let dir = f.place.dir("a");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let primary = Server::start_elsewhere(&f.place, &f.programs, &real, &dir);
    let Some(primary) = primary else { return };
    let connection = primary.connection();
    let args = ["-D", dir.to_str().unwrap(), "-R", "-c", "fast"];
    let args = connection.iter().map(String::as_str).chain(args);
    f.programs.run("pg_basebackup", f.place.path(), args);
    let standby = Server::start(&f.place, &f.programs, &dir, "");
    assert_eq!(primary.value("show data_directory"), dir.to_str().unwrap());
    is(f.online(&dir, &primary.dsn()), |e| {
        matches!(e, Error::OtherServer { .. })
    });
    is(f.online(&real, &standby.dsn()), |e| {
        matches!(e, Error::OtherServer { .. })
    });
    assert_eq!(f.repo.state().unwrap().len(), 0);
    f.online(&dir, &standby.dsn()).unwrap();
    // What the server calls its directory does not matter, as in a container.
    f.online(&real, &primary.dsn()).unwrap();
}

#[test]
fn a_standby_gives_snapshots_too() {
    let f = Fixture::new();
    let primary = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    primary.sql("create table t as select generate_series(1, 1000) i");
    let dir = f.place.join("b");
    let connection = primary.connection();
    let args = ["-D", dir.to_str().unwrap(), "-R", "-c", "fast"];
    let args = connection.iter().map(String::as_str).chain(args);
    f.programs.run("pg_basebackup", f.place.path(), args);
    let standby = Server::start(&f.place, &f.programs, &dir, "");
    primary.sql("insert into t values (0)");
    primary.sql("checkpoint");
    let lsn = primary.value("select pg_current_wal_lsn()");
    let query = format!("select pg_last_wal_replay_lsn() >= '{lsn}'");
    process::wait_for("replay", Duration::from_secs(30), || {
        (standby.value(&query) == "t").then_some(())
    });
    let report = f.online(&dir, &standby.dsn()).unwrap();
    assert_eq!(
        f.repo.snapshot(report.id).unwrap().source,
        SnapshotSource::Standby
    );
    assert!(f.online(&dir, &standby.dsn()).unwrap().unchanged);
    let copy = f.checkout(report.id, "c");
    let copy = Server::start(&f.place, &f.programs, &copy, "");
    assert_eq!(copy.value("select count(*) from t"), "1001");
    assert_eq!(copy.value("select pg_is_in_recovery()"), "f");
    copy.stop();
    standby.stop();
    primary.stop();
    // So does a standby that was stopped.
    let stopped = f.offline(&dir).unwrap();
    let copy = f.checkout(stopped.id, "d");
    let copy = Server::start(&f.place, &f.programs, &copy, "");
    assert_eq!(copy.value("select count(*) from t"), "1001");
}

#[test]
fn every_major_there_is() {
    for major in [16, 17, 18] {
        let mut f = Fixture::new();
        f.programs = Programs::fetched(major);
        let server = Server::create(&f.place, "a", &f.programs, "");
        server.sql("create table t as select generate_series(1, 1000) i");
        let online = f.online(&server.pgdata, &server.dsn()).unwrap();
        server.stop();
        let offline = f.offline(&server.pgdata).unwrap();
        for (id, name) in [(online.id, "b"), (offline.id, "c")] {
            assert_eq!(f.facts(id).major, major);
            let dir = f.checkout(id, name);
            let copy = Server::start(&f.place, &f.programs, &dir, "");
            assert_eq!(copy.value("select count(*) from t"), "1000");
            copy.stop();
        }
    }
}
