//! Homes of who may read at the storage and not write there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zenith_testkit::s3::{Fault, S3Server};
use zenith_testkit::{Output, Zenith, port, server};

use crate::support::{Home, PROGRAM, list, on_s3, running};

#[test]
fn a_bucket_is_read_without_the_right_to_write() {
    let s3 = S3Server::start();
    let (home, storage) = on_s3(Home::new(), &s3);
    fill(&home);
    s3.set_fault(Fault::ReadOnly);
    reads(&home, &storage, &s3.env("bucket"));
}

#[test]
fn a_directory_is_read_without_the_right_to_write() {
    let home = Home::new();
    home.init(&[]);
    fill(&home);
    let storage = home.storage();
    forbid(Path::new(&storage));
    reads(&home, &storage, &[]);
}

/// Three snapshots at the storage, and the home at rest.
fn fill(home: &Home) {
    home.start(&[]);
    home.sql("create table t as select 1 n");
    home.snapshot("first");
    home.sql("insert into t values (2)");
    home.zenith.ok(&["stop"]);
}

/// Takes the right to write in all directories from their owner.
fn forbid(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            forbid(&path);
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(0o500)).expect("root may");
}

fn told(output: &Output) -> usize {
    output.stderr.matches("may not write to").count()
}

/// All that reads works and is told of once a command; a push says why it does not.
fn reads(home: &Home, storage: &str, env: &[(String, String)]) {
    let at_home = home.list();
    let first = at_home.last().expect("a snapshot")["id"].as_str().unwrap();
    let port = port::free().to_string();
    let copy = |name: &str| {
        let copy = Zenith::new(PROGRAM, &home.place, name);
        env.iter()
            .fold(copy, |copy, (name, value)| copy.env(name, value))
    };

    let reader = copy("reader");
    let cloned = reader.ok(&["clone", storage, ".zenith", "--port", &port]);
    assert_eq!(told(&cloned), 1, "{cloned}");
    // The same command again finds all done, and there is nothing to push.
    reader.ok(&["clone", storage, ".zenith", "--port", &port]);
    reader.ok(&["push"]);
    let there = reader.ok(&["--json", "snapshot", "list", "--remote", "--all"]);
    assert_eq!(there.json().len(), at_home.len(), "{there}");
    // The first one stayed there, and comes when it is asked for.
    assert_eq!(list(&reader).len(), 1);
    let moved = reader.ok(&["checkout", &first[..12]]);
    assert_eq!(told(&moved), 1, "{moved}");
    reader.ok(&["fetch", "--full", "--all"]);
    assert_eq!(list(&reader).len(), at_home.len());
    reader.ok(&["checkout", "main"]);
    reader.ok(&["pull"]);

    reader.ok(&["start", "--snapshot-interval", "1h"]);
    let dsn = running(&reader.pgdata()).dsn();
    assert_eq!(server::value(&dsn, "select count(*) from t"), "2");
    server::execute(&dsn, "insert into t values (3)");
    reader.ok(&["snapshot", "create", "-m", "mine"]);
    let refused = reader.run(&["push"]).failed(8).hints();
    assert!(
        refused.stderr.contains("nothing can be pushed to"),
        "{refused}"
    );
    let stopped = reader.ok(&["stop"]);
    assert!(
        stopped.stderr.contains("nothing can be pushed to"),
        "{stopped}"
    );

    let lazy = copy("lazy");
    let args = ["clone", "--lazy", storage, ".zenith", "--port", &port];
    let cloned = lazy.ok(&args);
    assert_eq!(told(&cloned), 1, "{cloned}");
    lazy.ok(&["checkout", "main"]);
    lazy.ok(&["fetch", "--full", "--all"]);
    lazy.ok(&["start", "--snapshot-interval", "1h"]);
    let dsn = running(&lazy.pgdata()).dsn();
    assert_eq!(server::value(&dsn, "select count(*) from t"), "2");
    lazy.ok(&["stop", "--no-snapshot"]);
}
