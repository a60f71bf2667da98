//! `zenith diff`: what it says is what a comparison of the files says, by the right names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Home, contents, id_of};

const PAGE: usize = 8192;

/// A server with tables of all kinds, snapshotted as `one`.
fn home() -> Home {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    for sql in [
        "alter system set autovacuum = off",
        "select pg_reload_conf()",
        "create table orders (id int primary key, n int, doc text)",
        "insert into orders select g, g, repeat('x', 100) from generate_series(1, 20000) g",
        "create index orders_n on orders (n)",
        "create table rewritten as select generate_series(1, 5000) x",
        "create table emptied as select generate_series(1, 5000) x",
        "create table dropped as select generate_series(1, 5000) x",
        "create table same as select generate_series(1, 5000) x",
        "create index same_x on same (x)",
        "create table big (doc text)",
        "alter table big alter doc set storage external",
        "insert into big select repeat(md5(g::text), 1000) from generate_series(1, 20) g",
        "create sequence numbers",
        "create materialized view view as select count(*) from orders",
        "create unlogged table unlogged as select generate_series(1, 5000) x",
        "vacuum (freeze, analyze)",
    ] {
        home.sql(sql);
    }
    home.snapshot("one");
    home
}

/// One per cent of a table, and whatever else can become of one.
fn change(home: &Home) {
    for sql in [
        "update orders set n = -n where id between 1001 and 1200",
        "insert into big select repeat(md5(g::text), 1000) from generate_series(1, 5) g",
        "vacuum full rewritten",
        "truncate emptied",
        "drop table dropped",
        "create table new as select generate_series(1, 5000) x",
        "select nextval('numbers')",
        "refresh materialized view view",
        "checkpoint",
    ] {
        home.sql(sql);
    }
}

impl Home {
    fn diff(&self, args: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json", "diff"];
        all.extend(args);
        self.zenith.ok(&all).json()
    }

    fn checked_out(&self, revision: &str) -> BTreeMap<String, Vec<u8>> {
        let dir = self.place.arg(&format!("at-{}", revision.len()));
        self.zenith.ok(&["checkout", revision, &dir]);
        let files = contents(Path::new(&dir)).into_iter();
        let relative = |path: &Path| path.strip_prefix(&dir).unwrap().display().to_string();
        files
            .map(|(path, bytes)| (relative(&path), bytes))
            .collect()
    }
}

/// By `public.name`, and kind.
fn by_name(records: &[Value]) -> BTreeMap<(String, String), &Value> {
    let relations = records.iter().filter(|r| r["type"] == "diff_relation");
    relations
        .map(|r| {
            let text = |key: &str| r[key].as_str().unwrap().to_owned();
            ((text("name"), text("kind")), r)
        })
        .collect()
}

fn pages(bytes: Option<&Vec<u8>>) -> Vec<&[u8]> {
    bytes.map_or(vec![], |bytes| bytes.chunks(PAGE).collect())
}

/// Pages that differ, by the bytes.
fn naive(before: Option<&Vec<u8>>, after: Option<&Vec<u8>>) -> u64 {
    let (before, after) = (pages(before), pages(after));
    let n = before.len().max(after.len());
    (0..n).filter(|n| before.get(*n) != after.get(*n)).count() as u64
}

fn is_map(path: &str) -> bool {
    path.contains("_vm") || path.contains("_fsm")
}

#[test]
fn pages_and_names_are_those_of_the_files() {
    let home = home();
    change(&home);
    home.snapshot("two");
    let records = home.diff(&["HEAD~1", "HEAD", "--all"]);
    let found = by_name(&records);
    let (before, after) = (home.checked_out("HEAD~1"), home.checked_out("HEAD"));

    // What every relation is said to have changed is what its files have.
    for relation in records
        .iter()
        .filter(|r| r["what"] == "changed" && r["type"] == "diff_relation")
    {
        let files: Vec<&str> = relation["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f.as_str().unwrap())
            .collect();
        let count = |maps| -> u64 {
            let files = files.iter().filter(|path| is_map(path) == maps);
            files
                .map(|path| naive(before.get(*path), after.get(*path)))
                .sum()
        };
        assert_eq!(relation["pages"], count(false), "{relation}");
        assert_eq!(relation["map_pages"], count(true), "{relation}");
    }
    // And no file of a relation that differs is missing.
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let is_relation = |path: &str| zenith::names::RelationId::of_path(path).is_some();
    let differ: BTreeSet<&str> = paths
        .into_iter()
        .filter(|path| is_relation(path) && before.get(*path) != after.get(*path))
        .map(String::as_str)
        .collect();
    let named: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| record["files"].as_array())
        .flatten()
        .map(|path| path.as_str().unwrap())
        .collect();
    assert_eq!(named, differ);

    let of = |name: &str, kind: &str| {
        let key = (name.to_owned(), kind.to_owned());
        *found
            .get(&key)
            .unwrap_or_else(|| panic!("{name} in {:?}", found.keys()))
    };
    // 200 rows of some 60 a page, old and new, in the table and both of its indexes.
    let orders = of("orders", "table");
    let touched = orders["pages"].as_u64().unwrap();
    assert!((6..=12).contains(&touched), "{orders}");
    assert_eq!(orders["schema"], "public");
    for index in ["orders_pkey", "orders_n"] {
        assert!(of(index, "index")["pages"].as_u64().unwrap() > 0);
        assert_eq!(of(index, "index")["table"]["name"], "orders");
    }
    for (name, kind, what) in [
        ("rewritten", "table", "rewritten"),
        ("emptied", "table", "rewritten"),
        ("dropped", "table", "dropped"),
        ("new", "table", "new"),
        ("numbers", "sequence", "changed"),
        ("view", "matview", "rewritten"),
    ] {
        assert_eq!(of(name, kind)["what"], what, "{name}");
    }
    assert_eq!(of("emptied", "table")["pages_after"], 0);
    assert_eq!(
        of("new", "table")["pages"],
        of("new", "table")["pages_after"]
    );
    let toast = found
        .values()
        .find(|r| r["kind"] == "toast" && r["table"]["name"] == "big");
    assert!(toast.unwrap()["pages"].as_u64().unwrap() > 0);
    assert!(of("pg_class", "table")["catalog"].as_bool().unwrap());
    for name in ["same", "same_x", "unlogged"] {
        assert!(!found.keys().any(|(n, _)| n == name), "{name}");
    }

    let text = home.zenith.ok(&["diff", "HEAD~1", "HEAD"]).stdout;
    let line = |begin: &str| -> &str {
        let found = text
            .lines()
            .find(|line| line.trim_start().starts_with(begin));
        found.unwrap_or_else(|| panic!("{begin} in\n{text}"))
    };
    assert!(line("public.rewritten ").contains("rewritten  █"), "{text}");
    assert!(line("public.dropped ").contains("dropped"), "{text}");
    assert!(line("public.new ").contains(" new "), "{text}");
    assert!(line("public.big ").contains("toast"), "{text}");
    assert!(
        line("(and ").contains("catalogs, maps and transaction status"),
        "{text}"
    );
    assert!(
        !text.contains("pg_catalog") && !text.contains("pg_toast"),
        "{text}"
    );
}

/// The snapshot of a stopped cluster holds what of a running one none does.
#[test]
fn unlogged_tables_are_not_unsaved_for_ever() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create unlogged table u as select generate_series(1, 10000) n");
    home.zenith.ok(&["stop"]);
    home.start(&[]);
    let unsaved = home.status()["unsaved"].clone();
    assert_eq!(
        (&unsaved["relations"], &unsaved["pages"]),
        (&0.into(), &0.into()),
        "{unsaved}"
    );
    home.zenith.ok(&["stop"]);
}

#[test]
fn the_cluster_is_compared_running_and_stopped() {
    let home = home();
    let same = home.zenith.ok(&["diff", "--exit-code"]);
    assert!(same.stdout.contains("→ cluster, no difference"), "{same}");
    assert!(same.stderr.contains("the server runs"), "{same}");
    let unsaved = home.status()["unsaved"].clone();
    assert_eq!(
        (&unsaved["pages"], &unsaved["at_least"]),
        (&0.into(), &false.into())
    );
    assert!(unsaved["wal_bytes"].as_u64().unwrap() < 8192, "{unsaved}");
    change(&home);
    let unsaved = home.status()["unsaved"].clone();
    assert!(unsaved["pages"].as_u64().unwrap() > 100, "{unsaved}");
    assert!(unsaved["relations"].as_u64().unwrap() > 8, "{unsaved}");
    assert!(
        unsaved["wal_bytes"].as_u64().unwrap() > 100_000,
        "{unsaved}"
    );
    let running = home.diff(&[]);
    assert_eq!(
        (&running[0]["after"], &running[0]["moving"]),
        (&Value::Null, &Value::Bool(true))
    );
    let differs = home.zenith.run(&["diff", "--exit-code", "--name-only"]);
    assert_eq!(differs.code, Some(1), "{differs}");
    let names: Vec<&str> = differs.stdout.lines().collect();
    assert!(
        names.contains(&"public.orders") && names.contains(&"public.dropped"),
        "{differs}"
    );
    assert!(!names.iter().any(|name| name.contains("same")), "{differs}");

    home.zenith.ok(&["stop", "--no-snapshot"]);
    let stopped = home.diff(&["HEAD"]);
    home.zenith.ok(&["snapshot", "create", "-m", "two"]);
    let stored = home.diff(&["HEAD~1", "HEAD"]);
    // What the server had written is what was there at the end.
    let (running, stopped, stored) = (by_name(&running), by_name(&stopped), by_name(&stored));
    assert_eq!(stopped, stored);
    let key = ("orders".to_owned(), "table".to_owned());
    assert_eq!(running[&key]["pages"], stored[&key]["pages"]);
    assert_eq!(
        running.keys().collect::<Vec<_>>(),
        stored.keys().collect::<Vec<_>>()
    );
    home.zenith.ok(&["diff", "HEAD", "--exit-code"]);

    // Another name on the command line is no difference.
    let wrong = home.zenith.run(&["diff", "HAED", "--exit-code"]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
    assert_eq!(home.zenith.run(&["diff", "HAED"]).code, Some(1));
}

/// Snapshots of which no server was asked: a stopped cluster, and what came as a stream.
#[test]
fn names_come_from_the_pages() {
    let home = home();
    home.sql("create database app");
    let dsn = home.dsn().replace("dbname=postgres", "dbname=app");
    zenith_testkit::server::execute(
        &dsn,
        "create table elsewhere as select generate_series(1, 5000) x",
    );
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let one = home.snapshot("offline one");
    home.start(&[]);
    home.sql("update orders set n = -n where id <= 100");
    let dsn = home.dsn().replace("dbname=postgres", "dbname=app");
    zenith_testkit::server::execute(&dsn, "update elsewhere set x = -x where x = 7");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let two = home.snapshot("offline two");
    let names = home.zenith.ok(&["diff", &one, &two, "--name-only"]).stdout;
    let names: BTreeSet<&str> = names.lines().collect();
    // Two databases have tables, so that names say of which they are.
    let expected = [
        "app.public.elsewhere",
        "postgres.public.orders",
        "postgres.public.orders_n",
        "postgres.public.orders_pkey",
    ];
    assert_eq!(names, BTreeSet::from(expected));

    let dir = home.place.arg("tar");
    home.zenith.ok(&[
        "export",
        &one,
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "tar",
    ]);
    let imported = home.zenith.ok(&[
        "--json",
        "import",
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "tar",
        "--branch",
        "copy",
    ]);
    let imported = id_of(&imported);
    let (from_stream, from_disk) = (home.diff(&[&imported, &two]), home.diff(&[&one, &two]));
    assert_eq!(by_name(&from_stream), by_name(&from_disk));

    // A map that nobody can read costs the names of one database, not the answer.
    let map = fs::read_dir(home.pgdata().join("base"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let map = map
        .map(|dir| dir.join("pg_filenode.map"))
        .find(|path| path.to_str().unwrap().contains("/base/5/"));
    let mut bytes = fs::read(map.as_ref().unwrap()).unwrap();
    bytes[9] ^= 1;
    fs::write(map.unwrap(), bytes).unwrap();
    let broken = home.zenith.ok(&["diff", &one]);
    assert!(
        broken
            .stderr
            .contains("the names of the relations of database postgres are not known"),
        "{broken}"
    );
    assert!(broken.stdout.contains("public.elsewhere"), "{broken}");
}
