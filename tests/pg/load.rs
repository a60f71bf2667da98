//! Snapshots of a busy server are whole.

use zenith_testkit::{Load, load, soak};

use crate::support::{Home, remove};

/// Twenty snapshots while pgbench runs; each is checked out, started, and examined by
/// PostgreSQL's own tools.
#[test]
fn twenty_snapshots_under_load_are_each_consistent() {
    let home = Home::alone();
    home.init(&[]);
    home.start(&[]);
    let (scale, rounds, clients) = if soak() { (100, 60, 8) } else { (10, 20, 2) };
    load::init(&home.place, &home.programs, &home.connection(), scale);
    home.sql("create table marker (n int primary key, at timestamptz default now())");

    let mut pgbench = Load::start(
        &home.place,
        &home.programs,
        &home.connection(),
        clients,
        None,
    );
    let mut transactions = 0;
    for round in 1..=rounds {
        home.sql(&format!("insert into marker values ({round})"));
        let id = home.snapshot(&format!("round {round}"));
        home.sql(&format!("insert into marker values ({})", -round));
        assert!(
            pgbench.is_running(),
            "pgbench ran while snapshot {round} was taken"
        );

        let dir = home.place.arg("copy");
        home.zenith.ok(&["checkout", &id, &dir, "--no-sync"]);
        let copy = home.serve(&dir);
        assert_eq!(
            copy.value("select max(n) || ' ' || min(n) from marker"),
            format!("{round} {}", if round == 1 { 1 } else { 1 - round }),
            "the rows committed before snapshot {round}, and none after it"
        );
        let now = load::check_balances(&copy.dsn());
        assert!(
            now >= transactions,
            "snapshot {round} lost transactions: {now} < {transactions}"
        );
        transactions = now;
        load::amcheck(&home.programs, home.place.path(), &copy.connection());
        copy.stop();
        load::checksums(&home.programs, home.place.path(), &copy.pgdata);
        drop(copy);
        remove(&dir);
    }
    assert!(transactions > 0, "pgbench did nothing");
    pgbench.stop();

    let history = load::check_balances(&home.dsn());
    assert!(history >= transactions, "the original went on meanwhile");
    home.zenith.ok(&["stop"]);
}

/// The same of a cluster that zenith did not start, on the same machine.
#[test]
fn a_foreign_server_under_load() {
    let home = Home::alone();
    let original = zenith_testkit::Server::create(&home.place, "orig", &home.programs, "");
    load::init(&home.place, &home.programs, &original.connection(), 2);
    home.init(&[]);
    let mut pgbench = Load::start(&home.place, &home.programs, &original.connection(), 2, None);
    let pgdata = home.place.arg("orig");
    for round in 0..3 {
        let dsn = original.dsn();
        let id = home.snapshot_with(&["--pgdata", &pgdata, "--dsn", &dsn, "--branch", "foreign"]);
        let dir = home.place.arg(&format!("copy{round}"));
        home.zenith.ok(&["checkout", &id, &dir, "--no-sync"]);
        let copy = home.serve(&dir);
        load::check_balances(&copy.dsn());
        load::amcheck(&home.programs, home.place.path(), &copy.connection());
    }
    assert!(pgbench.is_running(), "pgbench ran all the time");
    pgbench.stop();
    // Nothing of zenith stays behind in the original.
    assert_eq!(
        original.value("select count(*) from pg_replication_slots"),
        "0"
    );
}
