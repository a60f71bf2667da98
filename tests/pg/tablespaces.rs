//! Tablespaces: captured, restored with their links, moved, never shared with the original.

use std::fs;
use std::path::Path;

use zenith_testkit::Server;

use crate::support::{Home, contents};

fn with_tablespace(home: &Home) -> Server {
    let server = Server::create(&home.place, "orig", &home.programs, "");
    home.place.dir("fast disk");
    let location = home.place.arg("fast disk");
    server.sql(&format!("create tablespace fast location '{location}'"));
    server.sql("create table t tablespace fast as select generate_series(1, 1000) n");
    server
}

fn location(server: &Server) -> String {
    server.value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'")
}

#[test]
fn a_checkout_has_tablespaces_of_its_own() {
    let home = Home::new();
    home.init(&[]);
    let original = with_tablespace(&home);
    let (pgdata, dsn) = (home.place.arg("orig"), original.dsn());
    let id = home.snapshot_with(&["--pgdata", &pgdata, "--dsn", &dsn, "--branch", "other"]);

    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", &id, &dir]);
    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from t"), "1000");
    assert!(
        location(&copy).starts_with(&format!("{dir}.tablespaces/")),
        "{}",
        location(&copy)
    );
    copy.sql("delete from t");
    copy.stop();
    assert_eq!(original.value("select count(*) from t"), "1000");

    // Where it is told to.
    let (old, new) = (home.place.arg("fast disk"), home.place.arg("moved"));
    let dir = home.place.arg("mapped");
    let mapping = format!("{old}={new}");
    home.zenith
        .ok(&["checkout", &id, &dir, "--tablespace-mapping", &mapping]);
    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from t"), "1000");
    assert_eq!(location(&copy), new);
    copy.stop();

    // Never into the tablespace of the original, even when told to.
    let before = contents(Path::new(&old));
    let mapping = format!("{old}={old}");
    let dir = home.place.arg("wrong");
    home.zenith
        .run(&["checkout", &id, &dir, "--tablespace-mapping", &mapping])
        .failed(1)
        .hints();
    assert_eq!(contents(Path::new(&old)), before);
    home.zenith
        .run(&[
            "checkout",
            &id,
            &dir,
            "--tablespace-mapping",
            "/nowhere=/elsewhere",
        ])
        .failed(1);
    assert!(!Path::new(&dir).join("global/pg_control").exists());
}

#[test]
fn an_export_maps_tablespaces() {
    let home = Home::new();
    home.init(&[]);
    let original = with_tablespace(&home);
    original.stop();
    let id = home.snapshot_with(&["--pgdata", &home.place.arg("orig"), "--branch", "other"]);
    let (old, new) = (home.place.arg("fast disk"), home.place.arg("exported"));
    let out = home.place.arg("out");
    let mapping = format!("{old}={new}");
    home.zenith.ok(&[
        "export",
        &id,
        "--snapshot-path",
        &out,
        "--snapshot-format",
        "pgdata",
        "--tablespace-mapping",
        &mapping,
    ]);
    home.programs
        .run("pg_verifybackup", home.place.path(), [&out]);
    let copy = home.serve(&out);
    assert_eq!(copy.value("select count(*) from t"), "1000");
    assert_eq!(location(&copy), new);
    copy.stop();

    // As tar: one archive for each tablespace, named by its oid.
    let oid = fs::read_dir(home.place.join("orig/pg_tblspc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .next()
        .unwrap();
    let tars = home.place.arg("tars");
    home.zenith.ok(&[
        "export",
        &id,
        "--snapshot-path",
        &tars,
        "--snapshot-format",
        "tar",
    ]);
    assert!(Path::new(&tars).join("base.tar").exists());
    assert!(Path::new(&tars).join(format!("{oid}.tar")).exists());
    // A pipe has room for one archive.
    home.zenith
        .run(&[
            "export",
            &id,
            "--snapshot-path",
            "-",
            "--snapshot-format",
            "tar",
        ])
        .failed(1)
        .hints();
    // They come back as the same cluster.
    let args = [
        "--json",
        "import",
        "--snapshot-path",
        &tars,
        "--snapshot-format",
        "tar",
    ];
    let output = home
        .zenith
        .ok(&[&args[..], &["--branch", "again"]].concat());
    let dir = home.place.arg("again");
    home.zenith
        .ok(&["checkout", &crate::support::id_of(&output), &dir]);
    assert_eq!(home.serve(&dir).value("select count(*) from t"), "1000");
}
