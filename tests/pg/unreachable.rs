//! A storage that goes away for a while, under load.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use zenith_testkit::process::wait_for;
use zenith_testkit::s3::S3Server;
use zenith_testkit::{Load, Zenith, load};

use crate::support::{Home, PROGRAM, on_s3, unpushed};

#[test]
fn snapshots_go_on_and_pushes_catch_up() {
    let s3 = S3Server::start();
    let (home, dest) = on_s3(Home::alone(), &s3);
    home.start(&["--snapshot-interval", "1s"]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    let mut pgbench = Load::start(&home.place, &home.programs, &home.connection(), 2, Some(50));
    wait_for("a push", Duration::from_secs(60), || {
        (home.zenith.run(&["status", "--max-age", "10s"]).code == Some(0)).then_some(())
    });

    s3.pause();
    let before = home.list().len();
    wait_for(
        "three snapshots that are not pushed",
        Duration::from_secs(120),
        || {
            let waiting = unpushed(&home.status());
            (home.list().len() >= before + 3 && waiting >= 3).then_some(())
        },
    );
    assert!(
        pgbench.is_running(),
        "the server is not held up by its storage"
    );
    let status = home.zenith.run(&["status", "--max-age", "2s"]);
    assert_eq!(status.code, Some(3), "{status}");
    let said = format!("{}{}", status.stdout, status.stderr);
    assert!(said.contains("unreachable"), "{status}");
    // A command that needs the storage says which host, and that later may help.
    let address = s3.endpoint();
    let host = address.trim_start_matches("http://");
    home.zenith.run(&["push"]).failed(5).hints().says(host);

    s3.resume();
    pgbench.stop();
    home.wait_pushed();
    let status = home.zenith.run(&["status", "--max-age", "1h"]);
    assert_eq!(status.code, Some(0), "{status}");
    let transactions = load::check_balances(&home.dsn());
    home.zenith.ok(&["stop"]);

    let reader = Zenith::new(PROGRAM, &home.place, "reader");
    let reader = s3
        .env("bucket")
        .into_iter()
        .fold(reader, |z, (name, value)| z.env(&name, value));
    reader.ok(&["init", "--storage-dest", &dest]);
    let dir = home.place.arg("copy");
    reader.ok(&["checkout", "HEAD", &dir]);
    assert_eq!(load::check_balances(&home.serve(&dir).dsn()), transactions);
}

/// The spool never fills the disk of the server: automatic snapshots pause, loudly.
#[test]
fn automatic_snapshots_pause_at_the_limit_of_the_spool() {
    let s3 = S3Server::start();
    let (home, _) = on_s3(Home::alone(), &s3);
    let config = home.zenith.home().join("config.toml");
    let limit = "spool_max_bytes = 1200000";
    let text = fs::read_to_string(&config).unwrap();
    let text = match text
        .lines()
        .find(|line| line.starts_with("spool_max_bytes"))
    {
        Some(line) => text.replace(line, limit),
        None => format!("{text}\n[space]\n{limit}\n"),
    };
    fs::write(&config, text).unwrap();
    home.start(&["--snapshot-interval", "1s"]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    home.wait_pushed();

    s3.pause();
    let mut pgbench = Load::start(&home.place, &home.programs, &home.connection(), 2, Some(50));
    let paused = wait_for("the pause", Duration::from_secs(120), || {
        let status = home.status();
        status["paused"].as_str().map(str::to_owned)
    });
    let shown = home.zenith.ok(&["status"]);
    assert!(
        shown.stdout.contains("PAUSED") && shown.stdout.contains(&paused),
        "{shown}"
    );
    let stuck = home.list().len();
    sleep(Duration::from_secs(6));
    assert_eq!(home.list().len(), stuck, "snapshots went on");
    // A person's own snapshot is still taken.
    home.snapshot("by hand");

    s3.resume();
    let stuck = home.list().len();
    wait_for(
        "snapshots after the storage came back",
        Duration::from_secs(120),
        || (home.list().len() > stuck).then_some(()),
    );
    pgbench.stop();
    home.wait_pushed();
    home.zenith.ok(&["stop"]);
}
