//! Storages: a real S3 server, and what is said about one that does not work.

use std::path::Path;

use zenith_testkit::s3::{Fault, S3Server};
use zenith_testkit::{Zenith, load};

use crate::support::{Home, PROGRAM, id_of, on_s3};

fn with_env(zenith: &Zenith, env: Vec<(String, String)>) -> Zenith {
    env.into_iter()
        .fold(zenith.clone(), |zenith, (name, value)| {
            zenith.env(&name, value)
        })
}

/// The whole life of a cluster whose storage is a bucket.
#[test]
fn a_cluster_lives_in_a_bucket() {
    let s3 = S3Server::start();
    let (home, _) = on_s3(Home::new(), &s3);
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    home.snapshot("rows");
    home.zenith.ok(&["push"]);
    let pushed = s3.n_requests("PUT");
    home.zenith.ok(&["push"]);
    assert_eq!(s3.n_requests("PUT"), pushed, "nothing new, nothing sent");
    home.zenith.ok(&["stop"]);
    std::fs::remove_dir_all(home.pgdata()).unwrap();
    for name in ["packs", "roots"] {
        let _ = std::fs::remove_dir_all(home.zenith.home().join(name));
    }
    home.start(&[]);
    load::check_balances(&home.dsn());
    home.zenith.ok(&["stop"]);
}

/// pgdata at a URL is one object per file, and comes back with its empty directories; a tar at a
/// URL comes back too.
#[test]
fn exports_to_a_url_come_back() {
    let s3 = S3Server::start();
    let (home, _) = on_s3(Home::new(), &s3);
    let tree = |zenith: &Zenith, rev: &str| {
        zenith.ok(&["--json", "snapshot", "show", rev]).json()[0]["tree"].clone()
    };
    s3.create_bucket("exports");
    for format in ["pgdata", "tar", "zenith"] {
        let url = format!("s3://exports/{format}");
        home.zenith.ok(&[
            "export",
            "--snapshot-path",
            &url,
            "--snapshot-format",
            format,
        ]);
        let args = [
            "--json",
            "import",
            "--snapshot-path",
            &url,
            "--snapshot-format",
            format,
        ];
        let output = home.zenith.ok(&[&args[..], &["--branch", format]].concat());
        let id = id_of(&output);
        if format == "zenith" {
            assert_eq!(tree(&home.zenith, &id), tree(&home.zenith, "main"));
        }
        let dir = home.place.arg(&format!("copy-{format}"));
        home.zenith.ok(&["checkout", &id, &dir]);
        assert!(Path::new(&dir).join("pg_replslot").is_dir());
        assert_eq!(home.serve(&dir).value("select 1"), "1");
    }
}

#[test]
fn what_does_not_work_is_named() {
    let s3 = S3Server::start();
    let home = Home::new();
    let env = s3.env("bucket");
    let init = |zenith: &Zenith, url: &str| zenith.run(&["init", "--storage-dest", url]);

    let zenith = with_env(&home.zenith, env.clone());
    init(&zenith, "s3://nosuchbucket/x")
        .failed(1)
        .hints()
        .says("nosuchbucket");

    let wrong = zenith.env("AWS_SECRET_ACCESS_KEY", "wrong");
    init(&wrong, "s3://bucket/x")
        .failed(1)
        .hints()
        .says("credentials");

    let away = zenith.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    init(&away, "s3://bucket/x")
        .failed(5)
        .hints()
        .says("127.0.0.1:9");

    let http = env
        .iter()
        .filter(|(name, _)| name != "AWS_ALLOW_HTTP")
        .cloned()
        .collect();
    let http = with_env(&home.zenith, http);
    init(&http, "s3://bucket/x")
        .failed(1)
        .hints()
        .says("AWS_ALLOW_HTTP");

    // Nothing of these attempts is in the way of one that is right.
    let profile = zenith.env("AWS_PROFILE", "work");
    let output = profile.ok(&["init", "--storage-dest", "s3://bucket/x"]);
    assert!(
        output.stderr.contains("AWS_PROFILE"),
        "it is not read, and that is said\n{output}"
    );
}

/// Credentials of an import's source have names of their own, and are not saved.
#[test]
fn snapshot_path_has_credentials_of_its_own() {
    let (theirs, ours) = (S3Server::start(), S3Server::start());
    let home = Home::new();
    let there = with_env(
        &Zenith::new(PROGRAM, &home.place, "there"),
        theirs.env("source"),
    );
    there.ok(&["init", "--storage-dest", "s3://source/x"]);

    let mut env = ours.env("bucket");
    for (name, value) in theirs.env("source") {
        env.push((format!("SNAPSHOT_{name}"), value));
    }
    let zenith = with_env(&home.zenith, env);
    let from = [
        "init",
        "--snapshot-path",
        "s3://source/x",
        "--snapshot-format",
        "zenith",
    ];
    zenith.ok(&[&from[..], &["--storage-dest", "s3://bucket/y"]].concat());
    let config = std::fs::read_to_string(zenith.home().join("config.toml")).unwrap();
    assert!(
        !config.contains("source") && !config.contains("testkit"),
        "{config}"
    );
}

/// A server that replaces what is to be created is refused before anything is made, unless this
/// home is declared the only one that writes there.
#[test]
fn a_server_without_conditional_writes_has_one_writer() {
    let s3 = S3Server::start();
    s3.set_fault(Fault::NoConditions);
    let (one, other) = (Home::new(), Home::new());
    let env = s3.env("bucket");
    let [first, second] = [&one, &other].map(|home| with_env(&home.zenith, env.clone()));
    let url = "s3://bucket/x";
    let init = ["init", "--storage-dest", url];
    let declared = ["init", "--storage-dest", url, "--single-writer"];
    first.run(&init).failed(6).hints().says("--single-writer");
    assert!(!first.home().join("config.toml").exists());
    assert!(
        std::fs::read_dir(s3.object_path("bucket", "x")).map_or(true, |mut dir| {
            dir.all(|entry| {
                std::fs::read_dir(entry.unwrap().path())
                    .unwrap()
                    .next()
                    .is_none()
            })
        })
    );
    first.ok(&declared);
    first.ok(&["push"]);
    second.run(&init).failed(4).hints().says("--single-writer");
    second.ok(&declared);
    first.ok(&["tag", "v1"]);
    first
        .run(&["push", "--tags"])
        .failed(4)
        .hints()
        .says("alone");
}
