//! Nothing changed, nothing stored.

use std::thread::sleep;
use std::time::Duration;

use crate::support::Home;
use zenith_testkit::process::wait_for;

/// A server that was started and stopped, and did nothing, yields no snapshot either.
#[test]
fn a_stop_after_nothing_yields_no_snapshot() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select generate_series(1, 1000) n");
    // The first who reads a row notes on its page that it is committed.
    home.sql("vacuum (freeze) t");
    home.zenith.ok(&["stop"]);
    home.start(&[]);
    home.snapshot("table");
    assert_eq!(home.value("select count(*) from t"), "1000");
    let stopped = home.zenith.ok(&["stop"]);
    let before = home.list();
    assert!(stopped.stdout.contains("nothing changed"), "{stopped}");
    for _ in 0..2 {
        home.start(&[]);
        assert_eq!(home.value("select count(*) from t"), "1000");
        home.zenith.ok(&["stop"]);
    }
    assert_eq!(home.list(), before);
    home.start(&[]);
    home.sql("insert into t values (1)");
    home.zenith.ok(&["stop"]);
    assert_eq!(home.list().len(), before.len() + 1);

    // Unlogged relations are in the snapshot of a stopped cluster alone.
    home.start(&[]);
    home.sql("create unlogged table u as select 1 n");
    home.snapshot("unlogged");
    home.zenith.ok(&["stop"]);
    let list = home.list();
    assert_eq!(
        (list.len(), &list[0]["kind"]),
        (before.len() + 3, &"final".into())
    );
}

/// Ten intervals of two seconds with an idle server yield no snapshot; a change yields one.
#[test]
fn an_idle_server_yields_no_snapshot() {
    let home = Home::alone();
    home.init(&[]);
    home.start(&["--snapshot-interval", "2s"]);
    home.sql("create table t (n int)");
    // The changes of the start and of the table go into snapshots first.
    let settled = wait_for(
        "the automatic snapshot of the change",
        Duration::from_secs(30),
        || {
            let list = home.list();
            (list.len() > 1).then_some(list.len())
        },
    );
    sleep(Duration::from_secs(5));
    let before = home.list().len();
    assert!(before <= settled + 1, "{before} snapshots of one change");

    // A checkpoint, a WAL switch and reading change no data.
    home.sql("checkpoint;\nselect pg_switch_wal();\nselect count(*) from pg_class");
    sleep(Duration::from_secs(20));
    let after = home.list().len();
    assert_eq!(
        after,
        before,
        "snapshots of an idle server: {:#?}",
        home.list()
    );

    home.sql("insert into t values (1)");
    wait_for(
        "the automatic snapshot of the row",
        Duration::from_secs(30),
        || (home.list().len() > after).then_some(()),
    );
    home.wait_pushed();
}
