//! What people see where something is odd: archives, half-made things, a cluster that is not what
//! its control file says.

use std::fs;
use std::path::Path;
use std::process::Command;

use zenith_testkit::{Server, server};

use crate::support::Home;

#[test]
fn archives_by_name_and_by_pipe() {
    let home = Home::new();
    home.init(&[]);
    let (file, import) = (home.place.arg("out.tar"), ["import", "--snapshot-path"]);
    let export = ["export", "--snapshot-path", &file];
    home.zenith.ok(&export);
    assert!(Path::new(&file).is_file());
    assert!(!Path::new(&format!("{file}.tmp")).exists());
    let listed = Command::new("tar").args(["tf", &file]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("global/pg_control\n"));
    home.zenith.fails(1, &export).says("exists already").hints();
    home.zenith
        .ok(&[import[0], import[1], &file, "--branch", "back"]);

    // A directory of that name is one, as before.
    let dir = home.place.arg("dir.tar");
    fs::create_dir(&dir).unwrap();
    zenith_testkit::user::give(Path::new(&dir));
    home.zenith.ok(&[
        "export",
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "tar",
    ]);
    assert!(Path::new(&dir).join("base.tar").is_file());

    let piped = |input: &[u8]| {
        let line = ["import", "--snapshot-path", "-", "--branch", "piped"];
        home.zenith.run_with_input(&line, input.to_vec())
    };
    for (input, words) in [
        (
            &b""[..],
            "stdin is nothing that can be imported: it is empty",
        ),
        (b"hello", "it is no tar"),
        (&[b'x'; 100_000], "it is no tar"),
        (b"\x1f\x8b\x08", "stdin is compressed (gz)"),
    ] {
        let output = piped(input).failed(1).hints().says(words);
        assert!(
            output.stderr.contains("| zenith import --snapshot-path -`"),
            "{output}"
        );
    }
    let whole = fs::read(&file).unwrap();
    let mut torn = whole.clone();
    // A header in the middle that is none.
    let at = 512 * (torn.len() / 1024);
    torn[at..].fill(b'x');
    piped(&torn).failed(7).hints();
    piped(&whole[..whole.len() / 2])
        .failed(7)
        .says("is cut off after")
        .hints();
}

/// A checkout of a snapshot of a running server has the control file of a running one.
#[test]
fn a_checkout_that_was_never_started_is_no_crash() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 as n");
    let online = home.snapshot("while it runs");
    home.zenith.ok(&["stop"]);
    home.zenith.ok(&["checkout", &online]);
    let status = home.zenith.ok(&["status"]);
    assert!(
        status
            .stdout
            .contains("server down, not started since the checkout"),
        "{status}"
    );
    home.start(&[]);
    assert_eq!(home.value("select n::text from t"), "1");
    home.zenith.ok(&["stop"]);
    let status = home.zenith.ok(&["status"]);
    assert!(status.stdout.contains(", server down\n"), "{status}");
}

/// A cluster of somebody else that crashed: what the hint says can be typed as it is.
#[test]
fn the_hint_for_a_crashed_cluster_works_for_root() {
    let home = Home::new();
    home.init(&[]);
    let server = Server::create(&home.place, "theirs", &home.programs, "");
    let pgdata = home.place.arg("theirs");
    server.kill9();
    // Started by its own settings it is in nobody's way.
    let sockets = home.place.arg("s");
    let own = format!("listen_addresses = ''\nunix_socket_directories = '{sockets}'");
    server::add_conf(Path::new(&pgdata), &own);
    let create = [
        "snapshot", "create", "--pgdata", &pgdata, "--branch", "theirs",
    ];
    let refused = home.zenith.fails(1, &create).says("was not shut down");
    let line = refused
        .stderr
        .split('`')
        .find(|part| part.contains("pg_ctl"));
    let line = line.unwrap_or_else(|| panic!("no command\n{refused}"));
    let log = home.place.arg("theirs.out");
    let line = line.replace(" start", &format!(" -l {log} start"));
    let status = Command::new("sh")
        .args(["-c", &line])
        .current_dir("/")
        .status();
    assert!(status.unwrap().success(), "{line}");
    home.zenith.ok(&create);
}

#[test]
fn a_failed_init_leaves_nothing_or_says_what() {
    let home = Home::new();
    let output = home
        .zenith
        .run(&["init", "--snapshot-path", "/nonexistent"]);
    output.failed(1).hints();
    assert!(!home.zenith.home().exists());
    let bad = ["init", "--initdb-arg", "--no-such-flag"];
    let output = home.zenith.run(&bad).failed(8).hints();
    assert!(
        !home.zenith.home().exists() || output.stderr.contains("what was made stays in .zenith"),
        "{output}"
    );
    home.init(&[]);
}

#[test]
fn a_short_passphrase_and_one_that_is_not_used() {
    let home = Home::new();
    let short = home.zenith.env("ZENITH_PASSPHRASE", "short");
    let (storage, port) = (home.storage(), home.port.to_string());
    let init = [
        "init",
        "--encrypt",
        "--storage-dest",
        &storage,
        "--port",
        &port,
    ];
    short.ok(&init).says("fewer than 8 characters");
    short.ok(&init).says("is not used");
}
