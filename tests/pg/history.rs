//! What is kept of a history, and what its parts are called: prune, delete, branch, tag, home.

use serde_json::Value;
use zenith_testkit::{Zenith, port, server};

use crate::support::{Home, PROGRAM, list, remove, running};

/// A server with a table of `rows` rows after each snapshot: one, two, three.
fn three() -> Home {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    home.snapshot("one");
    for (n, message) in [(2, "two"), (3, "three")] {
        home.sql(&format!("insert into t values ({n})"));
        home.snapshot(message);
    }
    home
}

fn messages(list: &[Value]) -> Vec<&str> {
    list.iter()
        .map(|row| row["message"].as_str().unwrap())
        .collect()
}

impl Home {
    /// Rows of the table as a snapshot holds it.
    fn rows_at(&self, revision: &str) -> String {
        let dir = self.place.arg("copy");
        self.zenith.ok(&["checkout", revision, &dir]);
        let rows = self.serve(&dir).value("select count(*) from t");
        remove(&dir);
        rows
    }

    fn push(&self) {
        self.zenith.ok(&["push"]);
        self.wait_pushed();
    }

    fn list_at_storage(&self) -> Vec<Value> {
        self.zenith
            .ok(&["--json", "snapshot", "list", "--all", "--remote"])
            .json()
    }
}

#[test]
fn what_is_left_after_a_prune_is_whole() {
    let home = three();
    home.zenith.ok(&["tag", "first", "main~2"]);
    // What the storage is known to have last is kept here, too.
    home.push();
    let dry = home.zenith.ok(&["prune", "--keep-last", "1", "--dry-run"]);
    assert!(dry.stdout.contains("tag first"), "{dry}");
    assert_eq!(home.list().len(), 4, "a dry run deletes nothing");

    let done = home.zenith.ok(&["prune", "--keep-last", "1"]);
    assert!(
        done.stdout.starts_with("deleted 2 of 4 snapshots"),
        "{done}"
    );
    assert_eq!(messages(&home.list()), ["three", "one"]);
    assert_eq!(home.rows_at("first"), "1");
    assert_eq!(home.rows_at("main"), "3");
    assert_eq!(home.rows_at("main~1"), "1", "the line is one");

    // The server goes on, and so does its branch.
    home.sql("insert into t values (4)");
    home.snapshot("four");
    assert_eq!(home.rows_at("main"), "4");
    home.push();
    home.zenith.ok(&["tag", "-d", "first"]);
    home.zenith.ok(&["prune", "--keep-last", "1"]);
    assert_eq!(messages(&home.list()), ["four"]);
    assert_eq!(home.rows_at("main"), "4");
    home.zenith.ok(&["stop"]);
}

#[test]
fn what_is_deleted_at_the_storage_does_not_come_back() {
    let home = three();
    home.push();
    home.zenith
        .ok(&["snapshot", "delete", "main~1", "--remote"]);
    assert_eq!(messages(&home.list_at_storage()), ["three", "one", ""]);
    home.zenith.ok(&["prune", "--keep-last", "1", "--remote"]);
    assert_eq!(messages(&home.list_at_storage()), ["three"]);
    assert_eq!(home.list().len(), 4, "nothing went here");

    home.sql("insert into t values (4)");
    home.snapshot("four");
    home.push();
    assert_eq!(messages(&home.list_at_storage()), ["four", "three"]);

    // Another home begins there, and what it builds on stays for it, until it is forgotten.
    let other = Zenith::new(PROGRAM, &home.place, "other");
    other.ok(&["init", "--storage-dest", &home.storage()]);
    home.sql("insert into t values (5)");
    home.snapshot("five");
    home.push();
    home.zenith.ok(&["prune", "--keep-last", "1", "--remote"]);
    assert_eq!(messages(&home.list_at_storage()), ["five", "four"]);
    home.zenith
        .run(&["snapshot", "delete", "main~1", "--remote", "--force"])
        .failed(1)
        .hints();
    other.ok(&["start", "--port", &port::free().to_string()]);
    let rows = server::value(&running(&other.pgdata()).dsn(), "select count(*) from t");
    assert_eq!(rows, "4");
    other.ok(&["stop", "--no-snapshot"]);
    assert_eq!(list(&other).len(), 1);

    let homes = home
        .zenith
        .ok(&["--json", "home", "list", "--remote"])
        .json();
    let gone = homes.iter().find(|known| known["own"] == false).unwrap();
    let id = gone["home"].as_str().unwrap();
    home.zenith.ok(&["home", "forget", &id[..8], "--remote"]);
    home.zenith
        .ok(&["snapshot", "delete", "main~1", "--remote"]);
    assert_eq!(messages(&home.list_at_storage()), ["five"]);
    home.zenith.ok(&["stop"]);
}

#[test]
fn branches_around_a_running_server() {
    let home = three();
    home.zenith.ok(&["tag", "v1", "main~2"]);
    home.zenith.ok(&["branch", "-m", "trunk"]);
    home.sql("insert into t values (4)");
    home.snapshot("four");
    let branches = home.zenith.ok(&["--json", "branch"]).json();
    assert_eq!(branches.len(), 1, "{branches:?}");
    assert_eq!(branches[0]["name"], "trunk");
    assert_eq!(branches[0]["message"], "four", "the line goes on");
    assert_eq!(home.rows_at("trunk~1"), "3");
    home.zenith
        .run(&["branch", "-d", "trunk"])
        .failed(1)
        .hints();
    home.zenith.ok(&["stop"]);

    home.zenith
        .run(&["checkout", "-b", "deadbeef", "v1"])
        .failed(1)
        .hints();
    home.zenith.ok(&["checkout", "-b", "try", "v1"]);
    home.start(&[]);
    assert_eq!(home.value("select count(*) from t"), "1");
    home.sql("insert into t values (40), (41)");
    home.snapshot("tried");
    home.zenith.run(&["branch", "-d", "try"]).failed(1).hints();
    home.zenith.ok(&["stop"]);

    home.zenith.ok(&["checkout", "trunk"]);
    home.start(&[]);
    assert_eq!(home.value("select count(*) from t"), "4");
    let deleted = home
        .zenith
        .ok(&["--json", "branch", "-d", "try", "--force"])
        .json();
    let id = deleted[0]["id"].as_str().unwrap();
    home.zenith.ok(&["branch", "again", id]);
    assert_eq!(home.rows_at("again"), "3");
    home.zenith.ok(&["stop"]);
}
