//! Clones, and what comes to them later.

use std::fs;

use zenith_testkit::{Zenith, port, server};

use crate::support::{Home, PROGRAM, id_of, running};

fn answer(zenith: &Zenith, args: &[&str], kind: &str) -> serde_json::Value {
    let mut all = vec!["--json"];
    all.extend(args);
    let output = zenith.ok(&all);
    let found = output.json().into_iter().find(|o| o["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}\n{output}"))
}

/// A clone starts guarded, follows with pull, and never moves under a running server.
#[test]
fn a_clone_follows_its_origin() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select generate_series(1, 1000) n");
    let first = home.snapshot("first");
    home.zenith.ok(&["push"]);

    let copy = Zenith::new(PROGRAM, &home.place, "copy");
    let port = port::free().to_string();
    let nothing = home.place.arg("nothing");
    copy.run(&["clone", &nothing, ".zenith"]).failed(1).hints();
    assert!(!copy.home().exists(), "nothing is made for nothing");
    let args = ["clone", &home.storage(), ".zenith", "--port", &port];
    let cloned = answer(&copy, &args, "clone");
    assert_eq!(cloned["id"], first.as_str());
    assert_eq!(cloned["was_home"], false);
    // The same command again finds all done.
    assert_eq!(answer(&copy, &args, "clone")["was_home"], true);
    let started = answer(&copy, &["start", "--snapshot-interval", "1h"], "start");
    assert_eq!(started["guarded"], true);
    let value = |sql: &str| server::value(&running(&copy.pgdata()).dsn(), sql);
    assert_eq!(value("select count(*) from t"), "1000");
    assert_eq!(value("show archive_mode"), "off");

    home.sql("insert into t values (0)");
    let second = home.snapshot("second");
    home.zenith.ok(&["push"]);
    let refused = copy.run(&["pull"]).failed(4).hints();
    assert!(refused.to_string().contains("zenith stop"), "{refused}");
    assert_eq!(value("select count(*) from t"), "1000");
    // It was fetched all the same.
    let known = copy.ok(&["snapshot", "show", "origin/main"]);
    assert!(known.to_string().contains(&second[..8]), "{known}");

    copy.ok(&["stop", "--no-snapshot"]);
    let pulled = answer(&copy, &["pull"], "pull");
    assert_eq!(pulled["outcome"], "moved");
    assert_eq!(pulled["to"], second.as_str());
    assert_eq!(answer(&copy, &["pull"], "pull")["outcome"], "up_to_date");
    copy.ok(&["start", "--snapshot-interval", "1h"]);
    assert_eq!(value("select count(*) from t"), "1001");
    copy.ok(&["stop"]);
    home.zenith.ok(&["stop"]);
}

/// A lazy clone has no packs and no cluster, and reads both out of the storage.
#[test]
fn a_lazy_clone_reads_what_it_needs() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select generate_series(1, 1000) n");
    home.snapshot("first");
    home.zenith.ok(&["stop"]);

    let copy = Zenith::new(PROGRAM, &home.place, "copy");
    let port = port::free().to_string();
    let args = [
        "clone",
        "--lazy",
        &home.storage(),
        ".zenith",
        "--port",
        &port,
    ];
    let cloned = answer(&copy, &args, "clone");
    assert_eq!(
        (&cloned["lazy"], &cloned["bytes"]),
        (&true.into(), &0.into())
    );
    assert!(!copy.pgdata().exists());
    let packs = || fs::read_dir(copy.home().join("packs")).map_or(0, Iterator::count);
    assert_eq!(packs(), 0);
    let status = copy.run(&["--json", "status"]).json().remove(0);
    assert!(status.to_string().contains("\"packs_bytes\":0"), "{status}");
    copy.ok(&["snapshot", "show", "main"]);
    let dir = home.place.arg("out");
    copy.ok(&["checkout", "main", &dir]);
    let served = home.serve(&dir);
    assert_eq!(served.value("select count(*) from t"), "1000");
    served.stop();
    assert_eq!(packs(), 0);

    // It becomes a home with a server like any other, and what it adds is pushed.
    copy.ok(&["start", "--snapshot-interval", "1h"]);
    server::execute(&running(&copy.pgdata()).dsn(), "insert into t values (0)");
    copy.ok(&["stop"]);
    assert!(packs() > 0);
    answer(&home.zenith, &["pull"], "pull");
    home.start(&[]);
    assert_eq!(home.value("select count(*) from t"), "1001");
    home.zenith.ok(&["stop"]);

    copy.ok(&["fetch", "--full"]);
    let config = fs::read_to_string(copy.home().join("config.toml")).unwrap();
    assert!(!config.contains("lazy"), "{config}");
    fs::rename(home.storage(), home.place.join("away")).unwrap();
    let alone = home.place.arg("alone");
    copy.ok(&["checkout", "main", &alone]);
    let served = home.serve(&alone);
    assert_eq!(served.value("select count(*) from t"), "1001");
    served.stop();
}

/// What a lazy clone commits on an older snapshot is readable and pushed, whatever others delete
/// and collect meanwhile.
#[test]
fn what_a_lazy_clone_builds_on_is_kept() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select generate_series(1, 1000) n");
    let old = home.snapshot("first");
    home.sql("insert into t select generate_series(1, 100000)");
    home.zenith.ok(&["stop"]);

    let copy = Zenith::new(PROGRAM, &home.place, "copy");
    let port = port::free().to_string();
    let storage = home.storage();
    copy.ok(&[
        "clone", "--lazy", "--depth", "0", &storage, ".zenith", "--port", &port,
    ]);
    copy.ok(&["checkout", &old]);
    copy.ok(&["start", "--snapshot-interval", "1h", "--no-push"]);
    server::execute(&running(&copy.pgdata()).dsn(), "insert into t values (0)");
    copy.ok(&["stop", "--no-snapshot"]);
    let ours = id_of(&copy.ok(&["--json", "snapshot", "create"]));
    let delete = ["snapshot", "delete", &old, "--remote"];
    home.zenith.run(&delete).failed(1).hints();
    // Elsewhere it may be let go, if what is kept there now has all that the commit builds on.
    copy.ok(&["checkout", "main"]);
    home.zenith.run(&delete);
    home.zenith.ok(&["gc", "--remote", "--now"]);
    copy.ok(&["push", "--all"]);
    let dir = home.place.arg("out");
    copy.ok(&["checkout", &ours, &dir]);
    let served = home.serve(&dir);
    assert_eq!(served.value("select count(*) from t"), "1001");
    served.stop();
}

/// An encrypted storage asks for its passphrase; what one home fetched is read without it.
#[test]
fn a_sealed_storage_is_cloned_with_its_passphrase() {
    let mut home = Home::new();
    let copy = Zenith::new(PROGRAM, &home.place, "copy");
    home.zenith = home.zenith.env("ZENITH_PASSPHRASE", "open sesame");
    home.init(&["--encrypt"]);
    let storage = home.storage();
    let args = ["clone", "--lazy", &storage, ".zenith"];
    copy.run(&args).failed(1).hints();
    assert!(!copy.home().join("config.toml").exists());
    let wrong = copy.env("ZENITH_PASSPHRASE", "open barley");
    wrong.run(&args).failed(1);
    answer(
        &copy.env("ZENITH_PASSPHRASE", "open sesame"),
        &args,
        "clone",
    );
    copy.ok(&["snapshot", "show", "main"]);
    answer(&copy, &["fetch"], "fetch");
}
