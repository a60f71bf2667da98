//! Exports are what PostgreSQL's tools make, and imports of what they make are the same cluster.

use std::fs;
use std::path::Path;

use zenith_testkit::{Server, Zenith, load};

use crate::support::{Home, PROGRAM, id_of};

fn with_rows(home: &Home) {
    home.init(&[]);
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    home.snapshot("rows");
}

#[test]
fn pg_verifybackup_accepts_an_export() {
    let home = Home::new();
    with_rows(&home);
    // Offline snapshots carry their WAL as online ones do.
    home.sql("create table later as select 1");
    home.zenith.ok(&["stop"]);
    for (rev, name) in [("HEAD", "offline"), ("HEAD~1", "online")] {
        let dir = home.place.arg(name);
        home.zenith.ok(&[
            "export",
            rev,
            "--snapshot-path",
            &dir,
            "--snapshot-format",
            "pgdata",
        ]);
        let said = home
            .programs
            .run("pg_verifybackup", home.place.path(), [&dir]);
        assert!(said.contains("backup successfully verified"), "{said}");
        let copy = home.serve(&dir);
        load::check_balances(&copy.dsn());
        assert_eq!(
            copy.value("select count(*) from pgbench_accounts"),
            "100000"
        );
    }
}

/// A damaged export is noticed, so the check above checks something.
#[test]
fn pg_verifybackup_refuses_a_changed_export() {
    let home = Home::new();
    with_rows(&home);
    let dir = home.place.arg("out");
    home.zenith.ok(&[
        "export",
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "pgdata",
    ]);
    let file = Path::new(&dir).join("PG_VERSION");
    fs::write(&file, "99\n").unwrap();
    let said = home
        .programs
        .try_run("pg_verifybackup", home.place.path(), [&dir])
        .unwrap_err();
    assert!(said.contains("PG_VERSION"), "{said}");
}

#[test]
fn a_tar_holds_a_cluster_that_starts() {
    let home = Home::new();
    with_rows(&home);
    let dir = home.place.arg("tars");
    home.zenith.ok(&[
        "export",
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "tar",
    ]);
    assert!(
        Path::new(&dir).join("base.tar").exists(),
        "pg_basebackup's name"
    );

    let piped = home
        .zenith
        .ok(&["export", "--snapshot-path", "-", "--snapshot-format", "tar"])
        .bytes;
    let unpacked = home.place.dir("unpacked");
    let tar = home.place.join("piped.tar");
    fs::write(&tar, &piped).unwrap();
    let status = zenith_testkit::user::as_server_user(
        std::process::Command::new("tar")
            .args(["-xf"])
            .arg(&tar)
            .arg("-C")
            .arg(&unpacked),
    )
    .status()
    .unwrap();
    assert!(status.success());
    fs::set_permissions(
        &unpacked,
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let copy = home.serve(unpacked.to_str().unwrap());
    load::check_balances(&copy.dsn());
}

/// One pg_basebackup, as tar and unpacked, is one tree.
#[test]
fn a_base_backup_is_the_same_tree_as_tar_and_unpacked() {
    let home = Home::new();
    let original = Server::create(&home.place, "orig", &home.programs, "");
    load::init(&home.place, &home.programs, &original.connection(), 1);
    let tars = home.place.arg("tars");
    let mut args = original.connection();
    args.extend(
        [
            "-D",
            &tars,
            "-F",
            "tar",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]
        .map(Into::into),
    );
    home.programs.run("pg_basebackup", home.place.path(), &args);

    // The same backup unpacked: pg_basebackup itself would be another backup.
    let plain = home.place.dir("plain");
    for (tar, below) in [("base.tar", ""), ("pg_wal.tar", "pg_wal")] {
        let mut command = std::process::Command::new("tar");
        command
            .arg("-xf")
            .arg(Path::new(&tars).join(tar))
            .arg("-C")
            .arg(plain.join(below));
        assert!(
            zenith_testkit::user::as_server_user(&mut command)
                .status()
                .unwrap()
                .success()
        );
    }
    let manifest = plain.join("backup_manifest");
    fs::copy(Path::new(&tars).join("backup_manifest"), &manifest).unwrap();
    zenith_testkit::user::give(&manifest);
    fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();

    home.init(&[]);
    let plain = home.place.arg("plain");
    let tree = |zenith: &Zenith, path: &str, format: &str, branch: &str| {
        let args = [
            "--json",
            "import",
            "--snapshot-path",
            path,
            "--snapshot-format",
            format,
        ];
        let output = zenith.ok(&[&args[..], &["--branch", branch]].concat());
        let shown = zenith
            .ok(&["--json", "snapshot", "show", &id_of(&output)])
            .json();
        shown[0]["tree"].as_str().expect("a tree").to_owned()
    };
    let unpacked = tree(&home.zenith, &plain, "pgdata", "a");
    assert_eq!(unpacked, tree(&home.zenith, &tars, "tar", "b"));
    // Detection finds the same.
    assert_eq!(unpacked, tree(&home.zenith, &tars, "auto", "c"));
    assert_eq!(unpacked, tree(&home.zenith, &plain, "auto", "d"));

    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", "b", &dir]);
    let copy = home.serve(&dir);
    load::check_balances(&copy.dsn());
    assert_eq!(
        copy.value("select count(*) from pgbench_accounts"),
        "100000"
    );
}

/// tar on stdin is the same cluster as the directory that it came from.
#[test]
fn tar_goes_through_a_pipe_into_another_home() {
    let home = Home::new();
    with_rows(&home);
    let tar = home
        .zenith
        .ok(&["export", "--snapshot-path", "-", "--snapshot-format", "tar"])
        .bytes;
    let other = Zenith::new(PROGRAM, &home.place, "other");
    let storage = home.place.arg("storage2");
    other.ok(&["init", "--storage-dest", &storage]);
    let args = [
        "--json",
        "import",
        "--snapshot-path",
        "-",
        "--snapshot-format",
        "tar",
    ];
    let output = other.run_with_input(&[&args[..], &["--branch", "piped"]].concat(), tar);
    assert_eq!(output.code, Some(0), "{output}");
    let tree = |zenith: &Zenith, rev: &str| {
        zenith.ok(&["--json", "snapshot", "show", rev]).json()[0]["tree"].clone()
    };
    assert_eq!(tree(&other, "piped"), tree(&home.zenith, "HEAD"));
}

/// A repository of its own, from which another home starts.
#[test]
fn an_exported_repository_is_a_storage() {
    let home = Home::new();
    with_rows(&home);
    let repository = home.place.arg("repository");
    home.zenith.ok(&[
        "export",
        "--snapshot-path",
        &repository,
        "--snapshot-format",
        "zenith",
    ]);
    let other = Zenith::new(PROGRAM, &home.place, "other");
    let storage = home.place.arg("storage2");
    other.ok(&[
        "init",
        "--snapshot-path",
        &repository,
        "--snapshot-format",
        "zenith",
        "--storage-dest",
        &storage,
    ]);
    let dir = home.place.arg("copy");
    other.ok(&["checkout", "HEAD", &dir]);
    let copy = home.serve(&dir);
    load::check_balances(&copy.dsn());
    assert_eq!(
        copy.value("select count(*) from pgbench_accounts"),
        "100000"
    );
}
