//! The scenarios that zenith began with, typed as they were written down, and what surrounds
//! init, start, stop and status.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use zenith_testkit::process::{self, wait_for};
use zenith_testkit::{Server, Zenith, port, server};

use crate::support::{Home, PROGRAM, list, running};

/// 1: an empty cluster, a server, snapshots pushed in the background.
#[test]
fn init_and_start() {
    let home = Home::new();
    let dest = format!("--storage_dest={}", home.storage());
    home.zenith
        .ok(&["init", &dest, &format!("--port={}", home.port)]);
    let config = fs::read_to_string(home.zenith.home().join("config.toml")).unwrap();
    assert!(
        config.contains(&home.storage()),
        "storage_dest is saved: {config}"
    );
    assert_eq!(home.list().len(), 1, "the first snapshot");

    let answer = home.zenith.ok(&["start", "--snapshot-interval", "1s"]);
    assert!(
        answer.stdout.contains("postgres://"),
        "the DSN is printed\n{answer}"
    );
    assert_eq!(running(&home.pgdata()).port, home.port);
    // It is data of a server that listens on localhost only, and of nobody else.
    let mode = fs::metadata(home.zenith.home())
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o700, "{mode:o}");
    assert_eq!(home.value("show listen_addresses"), "localhost");
    assert_eq!(home.value("show data_checksums"), "on");
    assert_eq!(home.value("show server_encoding"), "UTF8");

    home.sql("create table t as select generate_series(1, 1000) n");
    wait_for(
        "an automatic snapshot of the table",
        Duration::from_secs(30),
        || (home.list().len() >= 2).then_some(()),
    );
    home.wait_pushed();
    home.zenith.ok(&["stop"]);
    assert!(!process::alive(
        server::postmaster_pid(&home.pgdata()).unwrap_or(i32::MAX)
    ));
    assert_eq!(home.agent_pid(), None);

    // What was pushed is whole: another home begins with it.
    let other = Zenith::new(PROGRAM, &home.place, "other");
    other.ok(&["init", "--storage-dest", &home.storage()]);
    other.ok(&["start", "--port", &port::free().to_string()]);
    let dsn = running(&other.pgdata()).dsn();
    assert_eq!(server::value(&dsn, "select count(*) from t"), "1000");
    other.ok(&["stop"]);
}

/// 2: the same start after a stop, a crash, and the loss of the data.
#[test]
fn start_again() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    home.zenith.ok(&["stop"]);

    home.zenith.ok(&["start"]);
    assert_eq!(home.value("select count(*) from t"), "1", "after a stop");
    home.sql("insert into t values (2)");
    server::kill9_server(&home.pgdata());

    home.zenith.ok(&["start"]);
    assert_eq!(home.value("select count(*) from t"), "2", "after a crash");
    home.zenith.ok(&["stop"]);
    fs::remove_dir_all(home.pgdata()).unwrap();

    home.zenith.ok(&["start"]);
    assert_eq!(home.value("select count(*) from t"), "2", "after a loss");
    home.zenith.ok(&["stop"]);
}

/// 3: an existing cluster is the beginning.
#[test]
fn init_with_an_existing_cluster() {
    let home = Home::new();
    let original = Server::create(&home.place, "orig", &home.programs, "");
    original.sql("create table t as select generate_series(1, 10) n");
    let path = home.place.arg("orig");
    let args = [
        "init".to_owned(),
        format!("--snapshot_path={path}"),
        "--snapshot_format=pgdata".to_owned(),
        format!("--storage_dest={}", home.storage()),
        format!("--port={}", home.port),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();

    // The server runs: a plain copy would be torn.
    home.zenith.run(&args).failed(4).hints();
    original.stop();
    home.zenith.ok(&args);
    let config = fs::read_to_string(home.zenith.home().join("config.toml")).unwrap();
    assert!(
        !config.contains(&path),
        "snapshot_path is not saved: {config}"
    );
    assert!(
        config.contains(&home.storage()),
        "storage_dest is: {config}"
    );
    assert_eq!(home.list()[0]["kind"], "import");

    home.start(&[]);
    assert_eq!(home.value("select count(*) from t"), "10");
    // A copy begins guarded, until it is said to be the original.
    home.zenith.ok(&["stop"]);
    home.start(&["--primary"]);
    assert_eq!(home.value("select count(*) from t"), "10");
    home.zenith.ok(&["stop"]);
    let config = fs::read_to_string(home.zenith.home().join("config.toml")).unwrap();
    assert!(
        config.contains("primary = true"),
        "--primary is remembered: {config}"
    );
}

/// 4: out of zenith, to a place other than the storage.
#[test]
fn export_of_the_latest_snapshot() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select generate_series(1, 10) n");
    home.snapshot("ten");
    home.sql("insert into t values (11)");
    let out = home.place.arg("out");
    home.zenith.ok(&[
        "export",
        &format!("--snapshot_path={out}"),
        "--snapshot_format=pgdata",
    ]);
    let copy = home.serve(&out);
    assert_eq!(copy.value("select count(*) from t"), "10");
}

#[test]
fn init_is_idempotent_and_overwrites_nothing() {
    let home = Home::new();
    home.init(&[]);
    let first = home.list();
    home.init(&[]);
    assert_eq!(home.list(), first, "nothing was added");

    // Another cluster in the home's place is refused, with a way out, and stays as it is.
    let other = Server::initdb(&home.place, "foreign", &home.programs);
    let path = other.to_str().unwrap().to_owned();
    home.zenith
        .run(&["init", "--snapshot-path", &path])
        .failed(1)
        .hints();
    assert_eq!(home.list(), first);

    // The storage has a cluster: a home with another one is refused too.
    let second = Zenith::new(PROGRAM, &home.place, "second");
    let args = [
        "init",
        "--snapshot-path",
        &path,
        "--storage-dest",
        &home.storage(),
    ];
    let output = second.run(&args);
    assert!(matches!(output.code, Some(1 | 4)), "{output}");
    assert!(output.stderr.contains("hint: "), "{output}");
    home.start(&[]);
    home.zenith.ok(&["stop"]);
}

#[test]
fn start_without_a_home() {
    let home = Home::new();
    // A wrong working directory must never yield an empty server.
    home.zenith.run(&["start"]).failed(1).hints();
    assert!(!home.zenith.home().exists());

    let (storage, port) = (home.storage(), home.port.to_string());
    home.zenith
        .ok(&["start", "--storage-dest", &storage, "--port", &port]);
    assert_eq!(home.value("select 1"), "1");
    home.zenith.ok(&["stop"]);
}

#[test]
fn a_second_start_says_that_it_runs() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    let (server, agent) = (home.server_pid(), home.agent_pid());
    let again = home.start(&[]);
    assert!(again.stdout.contains("postgres://"), "{again}");
    assert_eq!((home.server_pid(), home.agent_pid()), (server, agent));
    home.zenith.ok(&["stop"]);
    // Stopping what is stopped is no error of anybody's.
    home.zenith.ok(&["stop"]);
}

#[test]
fn the_foreground_ends_cleanly_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new();
        home.init(&[]);
        let mut running = home.zenith.spawn(&["start", "--foreground"]);
        wait_for("the server", Duration::from_secs(30), || {
            let pgdata = home.pgdata();
            let text = fs::read_to_string(pgdata.join("postmaster.pid")).ok()?;
            text.lines().nth(7)?.contains("ready").then_some(())
        });
        home.sql("create table t as select 1 n");
        assert!(running.is_running());
        running.signal(signal);
        let output = running.wait(Duration::from_secs(120));
        assert_eq!(output.code, Some(0), "{output}");
        let state = home.programs.run(
            "pg_controldata",
            home.place.path(),
            ["-D", home.pgdata().to_str().unwrap()],
        );
        let state = state
            .lines()
            .find(|line| line.contains("cluster state"))
            .unwrap();
        assert!(state.ends_with("shut down"), "after {signal}: {state}");
        assert_eq!(
            process::under(&home.zenith.home()).len(),
            0,
            "nothing is left running"
        );
        home.start(&[]);
        assert_eq!(home.value("select n from t"), "1");
    }
}

/// A stop from elsewhere is no death: nothing is started again, and the end is a good one.
#[test]
fn a_stop_elsewhere_ends_the_foreground() {
    for mode in ["fast", "smart", "immediate"] {
        let home = Home::new();
        home.init(&[]);
        let running = home.zenith.spawn(&["start", "--foreground"]);
        wait_for("the agent", Duration::from_secs(30), || home.agent_pid());
        home.sql("create table t as select 1 n");
        let stopped = home.zenith.ok(&["stop", "--mode", mode]);
        assert!(stopped.stdout.contains("stopped the server"), "{stopped}");
        let output = running.wait(Duration::from_secs(60));
        assert_eq!(output.code, Some(0), "{mode}: {output}");
        assert!(!output.stderr.contains("another one begins"), "{output}");
        assert_eq!(process::under(&home.zenith.home()).len(), 0, "{mode}");
        let kind = home.list()[0]["kind"].clone();
        assert_eq!(kind == "final", mode != "immediate", "{mode}: {kind}");
        if mode != "immediate" {
            assert_eq!(crate::support::unpushed(&home.status()), 0);
        }
    }
}

/// The agent is an addition to a server, not a reason to end it.
#[test]
fn the_foreground_outlives_its_agent() {
    let home = Home::new();
    home.init(&[]);
    let mut running = home.zenith.spawn(&["start", "--foreground"]);
    let answering = || home.status()["agent_pid"].as_i64();
    let first = wait_for("the agent", Duration::from_secs(30), answering) as i32;
    process::kill9(first);
    let second = wait_for("another agent", Duration::from_secs(30), || {
        home.agent_pid().filter(|pid| *pid != first)
    });
    // What another start wants of the agent holds.
    home.zenith.ok(&["start", "--snapshot-interval", "7m"]);
    let third = home.agent_pid();
    assert!(third.is_some_and(|third| third != second));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(home.agent_pid(), third);
    assert!(running.is_running());
    home.zenith.ok(&["stop"]);
    let output = running.wait(Duration::from_secs(60));
    assert_eq!(output.code, Some(0), "{output}");
}

/// In the foreground a dead server is the end, for the supervisor to notice.
#[test]
fn the_foreground_fails_when_the_server_dies() {
    let home = Home::new();
    home.init(&[]);
    let running = home.zenith.spawn(&["start", "--foreground"]);
    wait_for("the server", Duration::from_secs(30), || {
        let text = fs::read_to_string(home.pgdata().join("postmaster.pid")).ok()?;
        text.lines().nth(7)?.contains("ready").then_some(())
    });
    server::kill9_server(&home.pgdata());
    let output = running.wait(Duration::from_secs(60));
    assert!(output.code.is_some_and(|code| code != 0), "{output}");
}

/// A stop that never got as far as the server is none: a death afterwards is one.
#[test]
fn a_stop_that_was_cut_off_is_forgotten() {
    let home = Home::new();
    home.init(&[]);
    let running = home.zenith.spawn(&["start", "--foreground"]);
    let agent = wait_for("the agent", Duration::from_secs(120), || {
        home.status()["agent_pid"].as_i64()
    });
    // It waits for the agent, which comes first.
    process::signal(agent as i32, Signal::SIGSTOP);
    let stop = home.zenith.spawn(&["stop"]);
    let lock = home.zenith.home().join("stop.lock");
    let named = || fs::read_to_string(&lock).unwrap_or_default();
    let server = home.server_pid().to_string();
    wait_for("the stop to begin", Duration::from_secs(120), || {
        (named().trim() == server).then_some(())
    });
    stop.kill9();
    wait_for("the stop to be forgotten", Duration::from_secs(120), || {
        named().is_empty().then_some(())
    });
    process::signal(agent as i32, Signal::SIGCONT);
    server::kill9_server(&home.pgdata());
    let output = running.wait(Duration::from_secs(300)).failed(5);
    output.says("ended on its own").says("was given up");
}

/// An agent that hangs, on a storage that hangs for instance, keeps no server from being stopped.
#[test]
fn an_agent_that_hangs_is_left_alone() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    let agent = home.agent_pid().unwrap();
    process::signal(agent, Signal::SIGSTOP);
    let stopped = home.zenith.ok(&["stop"]);
    let stopped = stopped.says("the agent did not answer");
    assert!(stopped.stdout.contains("stopped the server"), "{stopped}");
    assert_eq!(home.list()[0]["kind"], "final");
    process::kill9(agent);

    let mut running = home.zenith.spawn(&["start", "--foreground"]);
    let agent = wait_for("the agent", Duration::from_secs(120), || {
        home.status()["agent_pid"].as_i64()
    });
    process::signal(agent as i32, Signal::SIGSTOP);
    running.signal(Signal::SIGTERM);
    wait_for("the end", Duration::from_secs(120), || {
        (!running.is_running()).then_some(())
    });
    assert_eq!(server::postmaster_pid(&home.pgdata()), None);
    // It has the stderr of the foreground.
    process::kill9(agent as i32);
    let output = running.wait(Duration::from_secs(300));
    assert_eq!(output.code, Some(0), "{output}");
}

#[test]
fn stop_takes_a_last_snapshot_and_pushes_it() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    home.zenith.ok(&["stop"]);
    let after = home.list();
    assert_eq!(after[0]["kind"], "final");
    assert_eq!(crate::support::unpushed(&home.status()), 0);
    let finals = |home: &Home| {
        home.list()
            .iter()
            .filter(|row| row["kind"] == "final")
            .count()
    };
    assert_eq!(finals(&home), 1);

    home.start(&[]);
    home.sql("insert into t values (2)");
    home.zenith.ok(&["stop", "--mode", "immediate"]);
    assert_eq!(finals(&home), 1, "immediate takes none");
    home.start(&[]);
    assert_eq!(
        home.value("select count(*) from t"),
        "2",
        "the server recovered"
    );
    home.zenith.ok(&["stop", "--no-snapshot"]);
    assert_eq!(finals(&home), 1);
}

/// Any cluster on this machine, stopped or running, without a home's server.
#[test]
fn snapshots_of_a_cluster_that_zenith_did_not_start() {
    let home = Home::new();
    home.init(&[]);
    let original = Server::create(&home.place, "orig", &home.programs, "");
    original.sql("create table t as select generate_series(1, 10) n");
    let (pgdata, dsn) = (home.place.arg("orig"), original.dsn());

    // It runs, and without a connection string a copy would be torn.
    home.zenith
        .run(&[
            "snapshot", "create", "--pgdata", &pgdata, "--branch", "other",
        ])
        .failed(4)
        .hints();
    let online = home.snapshot_with(&["--pgdata", &pgdata, "--dsn", &dsn, "--branch", "other"]);
    original.sql("insert into t values (11)");
    original.stop();
    let offline = home.snapshot_with(&["--pgdata", &pgdata, "--branch", "other"]);
    for (id, rows) in [(online, "10"), (offline, "11")] {
        let dir = home.place.arg(&format!("copy{rows}"));
        home.zenith.ok(&["checkout", &id, &dir]);
        assert_eq!(home.serve(&dir).value("select count(*) from t"), rows);
    }

    // A crashed one is refused; after a start and a clean stop it is fine.
    original.restart("");
    original.kill9();
    home.zenith
        .run(&[
            "snapshot", "create", "--pgdata", &pgdata, "--branch", "other",
        ])
        .failed(1)
        .hints();
}

#[test]
fn snapshots_are_listed_shown_and_deleted() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    let first = home.snapshot("first");
    home.sql("insert into t values (2)");
    let second = home.snapshot("second");
    let listed: Vec<String> = home
        .list()
        .iter()
        .map(|row| row["message"].as_str().unwrap_or("").to_owned())
        .collect();
    assert_eq!(listed[..2], ["second", "first"], "newest first");

    let shown = home.zenith.ok(&["snapshot", "show", &first[..8]]);
    assert!(shown.stdout.contains("first"), "{shown}");
    // What a branch stands at is not deleted by accident.
    home.zenith
        .run(&["snapshot", "delete", &second])
        .failed(1)
        .hints();
    home.zenith.ok(&["snapshot", "delete", &first, "--dry-run"]);
    assert_eq!(home.list().len(), listed.len());
    home.zenith.ok(&["snapshot", "delete", &first]);
    assert_eq!(home.list().len(), listed.len() - 1);
    home.zenith.run(&["snapshot", "show", &first]).failed(1);
    // The other one is as whole as before.
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", &second, &dir]);
    assert_eq!(home.serve(&dir).value("select count(*) from t"), "2");
}

/// Two homes push to one branch: neither loses anything.
#[test]
fn two_homes_at_one_storage() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    home.snapshot("common");
    home.zenith.ok(&["push"]);

    let other = Zenith::new(PROGRAM, &home.place, "other");
    other.ok(&["init", "--storage-dest", &home.storage()]);
    other.ok(&[
        "start",
        "--port",
        &port::free().to_string(),
        "--snapshot-interval",
        "1h",
    ]);
    server::execute(&running(&other.pgdata()).dsn(), "insert into t values (2)");
    other.ok(&["snapshot", "create", "-m", "theirs"]);
    other.ok(&["push"]);

    home.sql("insert into t values (3)");
    home.snapshot("ours");
    home.zenith.run(&["push"]).failed(4).hints();
    assert!(list(&other).iter().any(|row| row["message"] == "theirs"));
    assert!(home.list().iter().any(|row| row["message"] == "ours"));
    other.ok(&["stop"]);
}

/// An ordinary user needs no root for any of it.
#[test]
fn an_ordinary_user_does_everything() {
    let mut home = Home::new();
    home.zenith = home.zenith.unprivileged();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t as select 1 n");
    let id = home.snapshot("one");
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", &id, &dir]);
    let mode = fs::metadata(Path::new(&dir)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "{mode:o}");
    assert_eq!(home.serve(&dir).value("select n from t"), "1");
    home.zenith.ok(&["stop"]);
}

/// The role that docs/least-privilege.md describes is enough, and each of its rights is needed.
#[test]
fn a_role_with_few_rights_takes_snapshots() {
    let page = include_str!("../../docs/least-privilege.md");
    // Typed into psql, line by line.
    let typed = page.lines().filter_map(|line| line.strip_prefix("> "));
    let statements: Vec<&str> = typed.filter(|line| line.ends_with(';')).collect();
    assert!(statements.len() >= 4, "{statements:?}");

    let home = Home::new();
    home.init(&[]);
    let original = Server::create(&home.place, "orig", &home.programs, "");
    original.sql("create table t as select generate_series(1, 10) n");
    let (pgdata, dsn) = (home.place.arg("orig"), original.dsn());
    let dsn = dsn.replace("user=postgres", "user=zenith");
    let args = [
        "snapshot", "create", "--pgdata", &pgdata, "--dsn", &dsn, "--branch", "other",
    ];
    for (n, statement) in statements.iter().enumerate() {
        original.sql(statement);
        if n + 1 < statements.len() {
            let output = home.zenith.run(&args);
            assert_ne!(output.code, Some(0), "{} were enough\n{output}", n + 1);
            assert!(output.stderr.contains("hint: "), "{output}");
        }
    }
    home.zenith.ok(&args);
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", "other", &dir]);
    assert_eq!(home.serve(&dir).value("select count(*) from t"), "10");
}
