//! Bad input gets one clear error, a hint and a documented exit code, and harms nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use zenith_testkit::tmpfs::Tmpfs;
use zenith_testkit::{Server, Zenith, user};

use crate::support::{Home, PROGRAM, contents};

/// A home with one snapshot and no server.
fn home() -> Home {
    let home = Home::new();
    home.init(&[]);
    home
}

/// The snapshot is as whole as it was.
fn unharmed(home: &Home) {
    let dir = home.place.arg("unharmed");
    home.zenith.ok(&["checkout", "main", &dir]);
    home.zenith.ok(&["snapshot", "list"]);
}

#[test]
fn an_unknown_revision() {
    let home = home();
    let error = home
        .zenith
        .run(&["snapshot", "show", "mian"])
        .failed(1)
        .hints()
        .says("mian");
    assert!(
        error.stderr.contains("`main`"),
        "the near name is suggested\n{error}"
    );
    for rev in [
        "main~99",
        "deadbeef",
        "main@{0/1}",
        "a b",
        "main@{",
        "~",
        "",
    ] {
        home.zenith.run(&["snapshot", "show", rev]).failed(1);
        let dir = home.place.arg("never");
        home.zenith.run(&["checkout", rev, &dir]).failed(1);
        assert!(
            !Path::new(&dir).exists(),
            "checkout of `{rev}` made a directory"
        );
    }
    unharmed(&home);
}

/// A name that means two things, and a prefix too short to mean one.
#[test]
fn an_ambiguous_name() {
    let home = home();
    let pgdata = home.pgdata();
    let pgdata = pgdata.to_str().unwrap();
    // A local branch called like the tracked one of the storage.
    home.snapshot_with(&["--pgdata", pgdata, "--branch", "origin/main"]);
    let error = home.zenith.run(&["snapshot", "show", "origin/main"]);
    let error = error.failed(1).hints().says("ambiguous");
    assert!(
        error.stderr.contains("branch/origin/main") && error.stderr.contains("remote/origin/main"),
        "both candidates are named\n{error}"
    );
    let id = home.list()[0]["id"].as_str().unwrap().to_owned();
    home.zenith.ok(&["snapshot", "show", &id[..8]]);
    home.zenith
        .run(&["snapshot", "show", &id[..2]])
        .failed(1)
        .hints();
}

#[test]
fn a_wrong_url_scheme() {
    let home = Home::new();
    for url in ["ftp://host/path", "s3://", "http://host/x"] {
        let error = home.zenith.run(&["init", "--storage-dest", url]);
        let error = error.failed(1).hints();
        assert!(error.stderr.contains(url), "{error}");
        assert!(!home.zenith.home().exists(), "a home was made for {url}");
    }
    home.init(&[]);
    home.zenith
        .run(&["export", "--snapshot-path", "ftp://host/path"])
        .failed(1)
        .hints();
}

/// The home, a checkout, an export, the storage: each on a disk that is too small.
#[test]
fn a_full_disk() {
    let home = home();
    let Some(small) = Tmpfs::mount(&home.place, "small", 12) else {
        return;
    };

    for args in [
        ["checkout", "main", &small.arg("copy"), "", "", ""],
        [
            "export",
            "main",
            "--snapshot-path",
            &small.arg("out"),
            "--snapshot-format",
            "pgdata",
        ],
        [
            "export",
            "main",
            "--snapshot-path",
            &small.arg("tars"),
            "--snapshot-format",
            "tar",
        ],
    ] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        home.zenith.run(&args).failed(8).hints().says("space");
        for dir in ["copy", "out"] {
            let control = small.path().join(dir).join("global/pg_control");
            assert!(!control.exists(), "half a cluster looks whole");
        }
        assert!(
            !small.path().join("tars/base.tar").exists(),
            "half a tar looks whole"
        );
        for entry in fs::read_dir(small.path()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    // A storage that fills up: the snapshot stays local, and goes once there is room.
    let Some(storage) = Tmpfs::mount(&home.place, "tiny", 1) else {
        return;
    };
    let other = Zenith::new(PROGRAM, &home.place, "other");
    let output = other.run(&["init", "--storage-dest", &storage.arg("r")]);
    assert!(
        output.code != Some(0) || output.stderr.contains("warning"),
        "{output}"
    );
    assert!(output.stderr.contains("space"), "{output}");

    // A home that fills up.
    let third = Zenith::new(PROGRAM, &home.place, "third");
    let Some(disk) = Tmpfs::mount(&home.place, "third", 30) else {
        return;
    };
    third.run(&["init"]).failed(8).hints();
    drop(disk);
    unharmed(&home);
}

/// A snapshot that finds the home's disk full leaves the earlier ones as they are, and works
/// once there is room.
#[test]
fn a_disk_that_fills_up_during_a_snapshot() {
    let home = Home::new();
    let Some(disk) = Tmpfs::mount(&home.place, "h", 80) else {
        return;
    };
    home.zenith.ok(&["init", "--port", &home.port.to_string()]);
    let original = Server::create(&home.place, "orig", &home.programs, "");
    // Random bytes do not compress.
    original.sql(
        "create table t as select string_agg(md5(random()::text || n), '') x \
           from generate_series(1, 2000000) n group by n / 100",
    );
    let (pgdata, dsn) = (home.place.arg("orig"), original.dsn());
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let before = home.list();
    let args = [
        "snapshot", "create", "--pgdata", &pgdata, "--dsn", &dsn, "--branch", "other",
    ];
    home.zenith.run(&args).failed(8).hints().says("space");
    assert_eq!(home.list(), before);
    assert_eq!(
        original.value("select count(*) from pg_replication_slots"),
        "0"
    );
    home.zenith
        .ok(&["checkout", "main", &home.place.arg("copy")]);

    fs::remove_file(&ballast).unwrap();
    original.sql("drop table t;\nvacuum;\ncheckpoint;\nselect pg_switch_wal();\ncheckpoint");
    home.zenith.ok(&args);
    assert_eq!(home.list().len(), before.len() + 1);
}

#[test]
fn a_directory_that_is_not_pgdata() {
    let home = home();
    let empty = home.place.dir("empty");
    let plain = home.place.dir("plain");
    fs::write(plain.join("notes.txt"), "not a cluster").unwrap();
    for dir in [&empty, &plain] {
        let dir = dir.to_str().unwrap();
        home.zenith
            .run(&["snapshot", "create", "--pgdata", dir])
            .failed(1)
            .hints()
            .says(dir);
        let other = Zenith::new(PROGRAM, &home.place, "other");
        other
            .run(&["init", "--snapshot-path", dir])
            .failed(1)
            .says(dir);
        assert!(
            !other.home().join("config.toml").exists(),
            "a home without a cluster"
        );
    }
    home.zenith
        .run(&["snapshot", "create", "--pgdata", "/nonexistent"])
        .failed(1);

    // Nor is a checkout made over something foreign.
    let before = contents(&plain);
    home.zenith
        .run(&["checkout", "main", plain.to_str().unwrap()])
        .failed(1)
        .hints();
    assert_eq!(contents(&plain), before);
    let path = plain.to_str().unwrap();
    home.zenith
        .run(&[
            "export",
            "--snapshot-path",
            path,
            "--snapshot-format",
            "pgdata",
        ])
        .failed(1)
        .hints();
    assert_eq!(contents(&plain), before);
    // Nor over a cluster on which a server runs.
    let original = Server::create(&home.place, "orig", &home.programs, "");
    let pgdata = home.place.arg("orig");
    let output = home.zenith.run(&["checkout", "main", &pgdata]);
    assert!(matches!(output.code, Some(1 | 4)), "{output}");
    assert_eq!(original.value("select 1"), "1");
    unharmed(&home);
}

#[test]
fn a_cluster_of_another_major() {
    let home = home();
    let pgdata = Server::initdb(&home.place, "old", &home.programs);
    for major in ["14", "99"] {
        fs::write(pgdata.join("PG_VERSION"), format!("{major}\n")).unwrap();
        let dir = pgdata.to_str().unwrap();
        home.zenith
            .run(&["snapshot", "create", "--pgdata", dir])
            .failed(6)
            .says(major)
            .hints();
        let other = Zenith::new(PROGRAM, &home.place, "other");
        other
            .run(&["init", "--snapshot-path", dir])
            .failed(6)
            .says(major);
    }
    unharmed(&home);
}

#[test]
fn a_read_only_target() {
    let mut home = Home::new();
    home.zenith = home.zenith.unprivileged();
    home.init(&[]);
    let locked = home.place.dir("locked");
    fs::set_permissions(&locked, Permissions::from_mode(0o555)).unwrap();
    let target = locked.join("copy");
    let target = target.to_str().unwrap();
    home.zenith
        .run(&["checkout", "main", target])
        .failed(8)
        .hints()
        .says(target);
    home.zenith
        .run(&[
            "export",
            "--snapshot-path",
            target,
            "--snapshot-format",
            "pgdata",
        ])
        .failed(8)
        .hints();
    let other = Zenith::new(PROGRAM, &home.place, "other").unprivileged();
    other.run(&["init", "--storage-dest", target]).failed(8);
    assert_eq!(fs::read_dir(&locked).unwrap().count(), 0);
    unharmed(&home);
}

/// The user that runs the server must be able to search the directories above it.
#[test]
fn a_parent_that_the_server_user_cannot_search() {
    let home = home();
    if !user::is_root() {
        return;
    }
    let hidden = home.place.join("hidden");
    fs::create_dir(&hidden).unwrap();
    fs::set_permissions(&hidden, Permissions::from_mode(0o700)).unwrap();
    let target = hidden.join("copy");
    let error = home
        .zenith
        .run(&["checkout", "main", target.to_str().unwrap()]);
    let error = error.failed(8).hints();
    assert!(error.stderr.contains(hidden.to_str().unwrap()), "{error}");
    assert!(!target.exists(), "something was made before it was refused");
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    contents(dir)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.parent().is_some_and(|dir| dir.ends_with("packs")))
        .collect()
}

#[test]
fn a_corrupted_pack() {
    let home = Home::new();
    home.zenith.ok(&["init"]);
    let packs = packs(&home.zenith.home());
    assert!(!packs.is_empty(), "no packs in the home");
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        // Every kilobyte, so that data, directory and trailer are hit.
        for at in (0..bytes.len()).step_by(1024) {
            bytes[at] ^= 0x55;
        }
        fs::write(pack, bytes).unwrap();
    }
    let dir = home.place.arg("copy");
    home.zenith
        .run(&["checkout", "main", &dir])
        .failed(7)
        .hints();
    assert!(
        !Path::new(&dir).join("global/pg_control").exists(),
        "half a cluster looks whole"
    );
    let out = home.place.arg("out");
    home.zenith
        .run(&[
            "export",
            "--snapshot-path",
            &out,
            "--snapshot-format",
            "pgdata",
        ])
        .failed(7)
        .hints();
    assert!(
        !Path::new(&out).join("global/pg_control").exists(),
        "half a cluster looks whole"
    );
}

/// One flipped byte, somewhere in the data.
#[test]
fn a_pack_damaged_in_the_middle() {
    let home = Home::new();
    home.zenith.ok(&["init"]);
    let largest = packs(&home.zenith.home())
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .expect("a pack");
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    // Many, since one in a thousand single flips decodes to the same bytes.
    bytes[middle..middle + 64]
        .iter_mut()
        .for_each(|b| *b ^= 0x55);
    fs::write(&largest, bytes).unwrap();
    let dir = home.place.arg("copy");
    let error = home
        .zenith
        .run(&["checkout", "main", &dir])
        .failed(7)
        .hints();
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert!(
        error.stderr.contains(&name[..8]),
        "the pack is named\n{error}"
    );
    assert!(
        !Path::new(&dir).join("global/pg_control").exists(),
        "half a cluster looks whole"
    );
}

/// One flipped byte in the cluster itself: the flag goes before the file, and what is taken says
/// what is damaged.
#[test]
fn a_damaged_page() {
    let home = Home::new();
    home.init(&["--on-damage", "fail"]);
    let before = home.list();
    let path = "base/5/1255";
    let file = home.pgdata().join(path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[3 * 8192 + 4000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let create = ["snapshot", "create"];
    let error = home.zenith.run(&create).failed(7).hints();
    assert!(
        error.stderr.contains(&format!("page 3 of `{path}`")) && error.stderr.contains("--on-dam"),
        "{error}"
    );
    assert_eq!(home.list(), before);
    unharmed(&home);
    let output = home
        .zenith
        .ok(&["snapshot", "create", "--on-damage", "warn"]);
    assert_eq!(
        output.stderr.matches("warning: page 3 of").count(),
        1,
        "{output}"
    );
    let shown = home.zenith.ok(&["snapshot", "show"]);
    assert!(
        shown
            .stdout
            .contains(&format!("damaged       page 3 of {path}: ")),
        "{shown}"
    );
    // The file still says fail, and another home has a default of its own.
    home.zenith.run(&create).failed(7);
    let (pgdata, other) = (home.pgdata(), home.place.arg("other"));
    let source = pgdata.to_str().unwrap();
    let init = ["-D", &other, "init", "--snapshot-path", source];
    let mut failing = init.to_vec();
    failing.extend(["--on-damage", "fail"]);
    home.zenith.run(&failing).failed(7);
    home.zenith.ok(&init);
}

#[test]
fn a_truncated_tar() {
    let home = home();
    let tar = home
        .zenith
        .ok(&["export", "--snapshot-path", "-", "--snapshot-format", "tar"])
        .bytes;
    let before = home.list();
    for keep in [tar.len() / 2, tar.len() / 3 + 100, 700, 0] {
        let input = tar[..keep].to_vec();
        let args = [
            "import",
            "--snapshot-path",
            "-",
            "--snapshot-format",
            "tar",
            "--branch",
            "x",
        ];
        let output = home.zenith.run_with_input(&args, input);
        assert!(
            matches!(output.code, Some(1 | 7)),
            "cut at {keep}: {output}"
        );
        assert!(output.stderr.contains("error: ") && !output.stderr.contains("panicked"));
    }
    // As a file, too.
    let file = home.place.join("base.tar");
    fs::write(&file, &tar[..tar.len() / 2]).unwrap();
    user::give(&file);
    let path = file.to_str().unwrap();
    let output = home
        .zenith
        .run(&["import", "--snapshot-path", path, "--branch", "x"]);
    assert!(matches!(output.code, Some(1 | 7)), "{output}");
    assert_eq!(home.list(), before);
    unharmed(&home);
}

#[test]
fn a_port_in_use() {
    let home = home();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    home.zenith
        .run(&["start", "--port", &port])
        .failed(4)
        .hints()
        .says(&port);
    assert_eq!(home.agent_pid(), None, "an agent without a server");
    home.start(&[]);
    home.zenith.ok(&["stop"]);
}

#[test]
fn no_server_binaries() {
    let home = Home::new();
    let empty = home.place.dir("empty");
    let empty = empty.to_str().unwrap();
    home.zenith
        .run(&["init", "--pg-bin", empty])
        .failed(8)
        .hints()
        .says(empty);
    assert!(!home.zenith.home().join("config.toml").exists());
    home.zenith
        .run(&["init", "--pg-bin", "/nonexistent"])
        .failed(8)
        .hints();
}

/// The user database without a postgres user, in a mount namespace of its own.
#[test]
fn root_without_a_postgres_user() {
    let home = Home::new();
    if !user::is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root");
        return;
    }
    let passwd = home.place.join("passwd");
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with("postgres:"))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&passwd, without).unwrap();
    fs::set_permissions(&passwd, Permissions::from_mode(0o644)).unwrap();
    let script = format!(
        "mount --bind {} /etc/passwd && exec {PROGRAM} init",
        passwd.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(home.zenith.dir())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    assert!(
        stderr.contains("error: ") && stderr.contains("postgres"),
        "{stderr}"
    );
    assert!(
        stderr.contains("hint: ") && stderr.contains("--pg-user"),
        "{stderr}"
    );
    assert!(!home.zenith.home().exists());

    home.zenith
        .run(&["init", "--pg-user", "nosuchuser"])
        .failed(8)
        .hints()
        .says("nosuchuser");
    assert!(!home.zenith.home().exists());
}

#[test]
fn a_missing_home_and_usage() {
    let home = Home::new();
    for verb in [
        vec!["status"],
        vec!["stop"],
        vec!["push"],
        vec!["snapshot", "list"],
        vec!["snapshot", "create"],
        vec!["checkout", "main"],
    ] {
        home.zenith.run(&verb).failed(1).hints();
        assert!(!home.zenith.home().exists(), "{verb:?} made a home");
    }
    for wrong in [vec!["strat"], vec!["start", "--prot", "1"], vec![]] {
        let output = home.zenith.run(&wrong);
        assert_eq!(output.code, Some(2), "{output}");
        assert!(output.stdout.is_empty(), "usage is talk: stderr\n{output}");
    }
    let version = home.zenith.ok(&["--version"]);
    assert!(version.stdout.starts_with("zenith "), "{version}");
}

/// A reader that goes away is no error.
#[test]
fn a_closed_pipe() {
    let home = home();
    let script = format!(
        "{PROGRAM} export --snapshot-path - --snapshot-format tar | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home.zenith.dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
