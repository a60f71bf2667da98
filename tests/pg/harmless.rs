//! A server on a copy never touches the original.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use zenith_testkit::process::wait_for;
use zenith_testkit::{Server, port};

use crate::support::Home;

/// The original archives, subscribes to a publisher and has a tablespace. A server on a checkout
/// of it does none of that, and takes none of its slots and ports.
#[test]
fn a_server_on_a_checkout_leaves_the_original_alone() {
    let home = Home::new();
    let publisher = Server::create(&home.place, "pub", &home.programs, "wal_level = logical");
    publisher.sql("create table t (n int primary key);\ncreate publication p for table t");

    home.place.dir("archive");
    home.place.dir("space");
    let archive = home.place.arg("archive");
    let port = port::free();
    let original = Server::create(
        &home.place,
        "orig",
        &home.programs,
        &format!(
            "archive_mode = on\n\
             archive_command = 'test ! -e {archive}/%f && cp %p {archive}/%f'\n\
             archive_timeout = 1\n\
             wal_retrieve_retry_interval = 200\n\
             shared_preload_libraries = 'pg_stat_statements'\n\
             listen_addresses = '*'\n\
             port = {port}"
        ),
    );
    let space = home.place.arg("space");
    original.sql(&format!("create tablespace space location '{space}'"));
    original.sql("create table t (n int primary key) tablespace space");
    let connection = publisher.dsn();
    original.sql(&format!(
        "create subscription s connection '{connection}' publication p"
    ));
    publisher.sql("insert into t values (1)");
    wait_for("the subscription", Duration::from_secs(30), || {
        (original.value("select count(*) from t") == "1").then_some(())
    });
    original.sql("alter system set archive_library = ''");

    home.init(&[]);
    let (pgdata, dsn) = (home.place.arg("orig"), original.dsn());
    let id = home.snapshot_with(&["--pgdata", &pgdata, "--dsn", &dsn, "--branch", "other"]);
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", &id, &dir]);
    // The original is away, so that whatever arrives comes from the copy.
    original.stop();
    wait_for(
        "the publisher's slot to be free",
        Duration::from_secs(30),
        || {
            (publisher.value("select count(*) from pg_replication_slots where active") == "0")
                .then_some(())
        },
    );
    let archived = fs::read_dir(&archive).unwrap().count();

    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from t"), "1");
    assert_eq!(copy.value("show archive_mode"), "off");
    assert_eq!(copy.value("show shared_preload_libraries"), "");
    assert_eq!(copy.value("show listen_addresses"), "localhost");
    publisher.sql("insert into t values (2)");
    copy.sql("create table u as select generate_series(1, 100000) n");
    for _ in 0..3 {
        copy.sql("select pg_switch_wal();\ncheckpoint");
        sleep(Duration::from_millis(800));
    }
    assert_eq!(
        fs::read_dir(&archive).unwrap().count(),
        archived,
        "the copy archived"
    );
    assert_eq!(
        publisher.value("select count(*) from pg_replication_slots where active"),
        "0",
        "the copy took the slot"
    );
    assert_eq!(
        copy.value("select count(*) from t"),
        "1",
        "the copy replicated"
    );
    copy.sql("delete from t");
    copy.stop();

    // The original comes back, goes on replicating and archiving, and has its rows.
    original.restart("");
    wait_for("the original to catch up", Duration::from_secs(30), || {
        (original.value("select count(*) from t") == "2").then_some(())
    });

    // Without the guard it is a plain copy, as asked for.
    let dir = home.place.arg("plain");
    home.zenith.ok(&["checkout", &id, &dir, "--unguarded"]);
    let auto = fs::read_to_string(home.place.join("plain/postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("zenith"), "{auto}");
    let guarded = fs::read_to_string(home.place.join("copy/postgresql.auto.conf")).unwrap();
    assert!(guarded.contains("zenith"), "{guarded}");
}

/// The guard belongs to the checkout: a snapshot of it does not carry it.
#[test]
fn the_guard_is_never_snapshotted() {
    let home = Home::new();
    home.init(&[]);
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", "HEAD", &dir]);
    let copy = home.serve(&dir);
    copy.sql("alter system set work_mem = '5MB'");
    copy.stop();
    let id = home.snapshot_with(&["--pgdata", &dir, "--branch", "other"]);
    let out = home.place.arg("out");
    home.zenith.ok(&[
        "export",
        &id,
        "--snapshot-path",
        &out,
        "--snapshot-format",
        "pgdata",
    ]);
    let auto = fs::read_to_string(home.place.join("out/postgresql.auto.conf")).unwrap();
    assert!(auto.contains("work_mem"), "{auto}");
    assert!(!auto.contains("zenith"), "{auto}");
}
