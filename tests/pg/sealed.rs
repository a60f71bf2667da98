//! Encrypted repositories: what a storage is shown, what it can do, and who gets in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zenith_testkit::s3::S3Server;
use zenith_testkit::{Output, Zenith, load, process, server};

use crate::support::{Home, PROGRAM, contents, remove};

const PASSPHRASE: &str = "six words that nobody would guess";
/// In a row, a table's name, a branch's name and a message: each with an end of its own.
const MARKER: &str = "zqmarkerzq";

/// What the storage is never to see, and what of it a repository in the clear shows.
fn markers() -> Vec<String> {
    ["row", "table", "branch", "message"]
        .map(|what| format!("{MARKER}{what}"))
        .into()
}

fn with(zenith: &Zenith, passphrase: &str) -> Zenith {
    zenith.env("ZENITH_PASSPHRASE", passphrase)
}

/// Only `init` is told the passphrase, as by a person.
fn init(home: &Home, more: &[&str]) -> Output {
    let (storage, port) = (home.storage(), home.port.to_string());
    let args = ["init", "--encrypt", "--storage-dest", &storage, "--port"];
    with(&home.zenith, PASSPHRASE).ok(&[&args[..], &[&port], more].concat())
}

/// A home with markers wherever people leave words; pushed.
fn fill(home: &Home) {
    home.start(&[]);
    home.sql(&format!(
        "create table {MARKER}table as select '{MARKER}row' || n as t from generate_series(1, 500) n"
    ));
    home.snapshot(&format!("{MARKER}message"));
    home.zenith.ok(&["push"]);
}

/// Files below the folders that a storage, or a home's own repository, keeps its objects in.
fn objects(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    ["zenith.json", "roots", "packs", "sessions", "index", "keys"]
        .iter()
        .map(|name| dir.join(name))
        .flat_map(|path| match path.is_dir() {
            true => contents(&path),
            false => fs::read(&path)
                .map(|bytes| (path, bytes))
                .into_iter()
                .collect(),
        })
        .collect()
}

/// Which markers lie there to be read.
fn shown(dir: &Path) -> BTreeSet<String> {
    let objects = objects(dir);
    assert!(objects.len() > 3, "{}", dir.display());
    let has = |marker: &String| {
        let marker = marker.as_bytes();
        let within = |bytes: &[u8]| bytes.windows(marker.len()).any(|part| part == marker);
        objects
            .iter()
            .any(|(path, bytes)| within(path.as_os_str().as_encoded_bytes()) || within(bytes))
    };
    markers().into_iter().filter(has).collect()
}

/// Names and times of packs: those that are written again have another time.
fn packs(dir: &Path) -> Vec<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(dir.join("packs")).unwrap();
    let mut packs: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
        .collect();
    packs.sort();
    packs
}

fn key_file(home: &Home) -> PathBuf {
    home.zenith.home().join("key")
}

/// From the first passphrase to the loss of everything but the storage and a passphrase.
#[test]
fn a_cluster_lives_behind_a_passphrase() {
    let home = Home::new();
    let storage = home.place.join("storage");
    init(&home, &["--branch", &format!("{MARKER}branch")]);
    fill(&home);
    // Nobody tells the agent, which goes on by itself.
    for pid in [home.agent_pid().unwrap(), home.server_pid()] {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("ZENITH_PASSPHRASE"));
    }
    with(&home.zenith, PASSPHRASE).ok(&["stop"]);
    with(&home.zenith, PASSPHRASE).ok(&["start", "--snapshot-interval", "1s"]);
    for pid in [home.agent_pid().unwrap(), home.server_pid()] {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("ZENITH_PASSPHRASE"));
    }
    let before = packs(&storage).len();
    home.sql("create table later as select 1 as n");
    process::wait_for("the agent to push", Duration::from_secs(60), || {
        (packs(&storage).len() > before).then_some(())
    });
    home.zenith.ok(&["stop"]);

    for dir in [&storage, &home.zenith.home()] {
        assert_eq!(shown(dir), BTreeSet::new(), "{}", dir.display());
    }

    // Passphrases come and go, and no pack is written again.
    let before = (packs(&storage), packs(&home.zenith.home()));
    home.zenith
        .fails(1, &["key", "add"])
        .hints()
        .says("ZENITH_NEW_PASSPHRASE");
    let new = home.zenith.env("ZENITH_NEW_PASSPHRASE", "the new one");
    with(&new, "wrong")
        .fails(1, &["key", "change"])
        .hints()
        .says("opens no key slot");
    with(&new, PASSPHRASE).ok(&["key", "change"]);
    home.zenith.fails(1, &["key", "remove", "1"]).hints();
    home.zenith.fails(1, &["key", "remove", "7"]).hints();
    fs::write(home.place.join("spare"), "the spare one\n").unwrap();
    let spare = home.place.arg("spare");
    home.zenith
        .ok(&["key", "add", "--new-passphrase-file", &spare]);
    let slots: Vec<u64> = home
        .zenith
        .ok(&["--json", "key", "list"])
        .json()
        .iter()
        .map(|slot| slot["slot"].as_u64().unwrap())
        .collect();
    assert_eq!(slots, [1, 2]);
    assert_eq!(before, (packs(&storage), packs(&home.zenith.home())));

    // The key alone is lost: the server runs, nothing else does, and all of it says what helps.
    fs::remove_file(key_file(&home)).unwrap();
    home.start(&[]).says("its key is gone");
    for args in [
        &["status"][..],
        &["snapshot", "create"],
        &["push"],
        &["key", "list"],
    ] {
        let output = home.zenith.run(args).failed(1).hints();
        output
            .says("its key is gone")
            .says("init` with ZENITH_PASSPHRASE");
    }
    let stopped = home.zenith.ok(&["stop"]).says("its key is gone");
    let said = format!("{}{}", stopped.stdout, stopped.stderr);
    assert!(!said.contains("everything is pushed"), "{stopped}");
    let again = home.zenith.ok(&["--json", "stop"]).json();
    assert!(again[0]["unpushed"].is_null(), "{again:?}");
    assert!(
        server::postmaster_pid(&home.pgdata()).is_none(),
        "stop stops"
    );
    home.zenith.fails(1, &["init"]).says("ZENITH_PASSPHRASE");
    with(&home.zenith, PASSPHRASE).fails(1, &["init"]).hints();
    assert!(!key_file(&home).exists());
    with(&home.zenith, "the new one").ok(&["init"]);
    home.zenith.ok(&["status"]);

    // So is everything else, with and without the settings.
    for (keep, passphrase) in [(true, "the spare one"), (false, "the new one")] {
        let config = fs::read(home.zenith.home().join("config.toml")).unwrap();
        remove(home.zenith.home().to_str().unwrap());
        let branch = format!("{MARKER}branch");
        let storage = home.storage();
        let port = home.port.to_string();
        let mut args = vec!["init"];
        if keep {
            home.place.dir("h/.zenith");
            fs::write(home.zenith.home().join("config.toml"), config).unwrap();
            home.zenith
                .fails(1, &["start"])
                .says("its key is gone")
                .hints();
        } else {
            args.extend(["--storage-dest", &storage, "--branch", &branch]);
            args.extend(["--port", &port]);
            home.zenith.fails(1, &args).says("ZENITH_PASSPHRASE");
        }
        with(&home.zenith, PASSPHRASE)
            .fails(1, &args)
            .hints()
            .says("opens no key slot");
        with(&home.zenith, passphrase).ok(&args);
        home.start(&[]);
        let rows = format!("select count(*) from {MARKER}table");
        assert_eq!(home.value(&rows), "500");
        home.zenith.ok(&["stop"]);
    }
}

/// What the test above looks for is there to be found where nothing is encrypted.
#[test]
fn a_repository_in_the_clear_shows_what_an_encrypted_one_hides() {
    let home = Home::new();
    home.init(&["--branch", &format!("{MARKER}branch")]);
    fill(&home);
    home.zenith.ok(&["stop"]);
    // Rows and names of tables are compressed, which hides them from this search alone.
    for dir in [home.place.join("storage"), home.zenith.home()] {
        for what in ["branch", "message"] {
            assert!(shown(&dir).contains(&format!("{MARKER}{what}")), "{dir:?}");
        }
    }
}

/// Clusters go between homes with other keys, or none, as files only; and homes stay what they are.
#[test]
fn keys_do_not_mix() {
    let home = Home::new();
    let place = &home.place;
    init(&home, &[]);
    let storage = home.storage();
    for format in ["zenith", "pgdata", "tar"] {
        let to = place.arg(&format!("exported-{format}"));
        home.zenith.ok(&[
            "export",
            "--snapshot-path",
            &to,
            "--snapshot-format",
            format,
        ]);
    }
    let tree = |zenith: &Zenith| {
        zenith.ok(&["--json", "snapshot", "show", "HEAD"]).json()[0]["tree"].clone()
    };
    let clear = Zenith::new(PROGRAM, place, "clear");
    let other = Zenith::new(PROGRAM, place, "other");
    let second = Zenith::new(PROGRAM, place, "second");
    let pgdata = place.arg("exported-pgdata");
    clear.ok(&["init", "--snapshot-path", &pgdata]);
    with(&other, "another").ok(&["init", "--encrypt", "--snapshot-path", &pgdata]);
    // The same files, and no id in common.
    let trees = [tree(&home.zenith), tree(&clear), tree(&other)];
    assert!(trees[0] != trees[1] && trees[1] != trees[2] && trees[0] != trees[2]);

    let exported = place.arg("exported-zenith");
    for (from, branch) in [(&storage, "b"), (&exported, "c")] {
        let import = ["import", "--branch", branch, "--snapshot-path", from];
        clear.fails(1, &import).hints().says("is encrypted");
        other.fails(1, &import).hints().says("another key");
        home.zenith.ok(&import);
    }
    // With the passphrase at hand, too: a home in the clear does not become an encrypted one.
    for zenith in [&clear, &with(&clear, PASSPHRASE)] {
        let output = zenith.run(&["init", "--storage-dest", &storage]);
        output.failed(1).hints().says("is encrypted");
        clear.ok(&["status"]);
    }
    let output = other.run(&["init", "--storage-dest", &storage]);
    output.failed(1).hints().says("another key");
    let plain = place.arg("clear/.zenith");
    let output = other.run(&["init", "--storage-dest", &plain]);
    output.failed(1).hints().says("is not encrypted");
    let output = with(&clear, "x").run(&["init", "--encrypt"]);
    output.failed(1).hints().says("is not encrypted");
    // Nor is a repository in the clear taken for an encrypted one by whoever has a passphrase.
    let third = with(&Zenith::new(PROGRAM, place, "third"), PASSPHRASE);
    for to in [plain, place.arg("new")] {
        let output = third.run(&["init", "--storage-dest", &to]);
        output.failed(1).hints().says("nothing is encrypted at");
        assert!(!place.join("new/zenith.json").exists());
    }
    other.ok(&["status"]);

    // Two homes of one storage see each other's snapshots.
    with(&second, PASSPHRASE).ok(&["init", "--storage-dest", &storage]);
    second.ok(&["checkout", "-b", "theirs", "HEAD"]);
    second.ok(&["push"]);
    let list = home.zenith.ok(&["snapshot", "list", "--all", "--remote"]);
    assert!(list.stdout.contains("theirs"), "{list}");
    assert_eq!(tree(&second), trees[0]);
}

/// Any byte of an object of a storage that is read counts.
#[test]
fn a_flipped_byte_is_noticed() {
    let home = Home::new();
    init(&home, &[]);
    let storage = home.place.join("storage");
    let attached = |name: &str| {
        let zenith = Zenith::new(PROGRAM, &home.place, name);
        let output = with(&zenith, PASSPHRASE).run(&["init", "--storage-dest", &home.storage()]);
        remove(zenith.home().to_str().unwrap());
        output
    };
    assert_eq!(attached("whole").code, Some(0));
    let mut folders = BTreeSet::new();
    for (path, good) in objects(&storage) {
        let folder = path.strip_prefix(&storage).unwrap().components().next();
        let folder = folder.unwrap().as_os_str().to_str().unwrap().to_owned();
        // Says what the repository is and names its key; it is read by people, and bound by none.
        if folder == "zenith.json" {
            continue;
        }
        // Of these, nobody reads more than the name.
        if folder == "sessions" {
            continue;
        }
        // What is older than the newest root is not asked for.
        if folder == "roots" && path.file_name().unwrap() != newest(&storage).as_os_str() {
            continue;
        }
        for at in [good.len() / 3, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            let output = attached("flipped");
            assert!(
                output.code == Some(7),
                "byte {at} of {}\n{output}",
                path.display()
            );
        }
        fs::write(&path, &good).unwrap();
        folders.insert(folder);
    }
    assert_eq!(attached("mended").code, Some(0));
    let all = ["keys", "packs", "roots"].map(str::to_owned);
    assert!(all.iter().all(|name| folders.contains(name)), "{folders:?}");
}

/// Name of the newest root of a storage.
fn newest(storage: &Path) -> PathBuf {
    let entries = fs::read_dir(storage.join("roots")).unwrap();
    let names = entries.map(|entry| PathBuf::from(entry.unwrap().file_name()));
    names.max().expect("there is a root")
}

/// The same in a bucket, after a crash; `start` finds what it has.
#[test]
fn an_encrypted_cluster_lives_in_a_bucket() {
    let s3 = S3Server::start();
    let mut home = Home::new();
    for (name, value) in s3.env("bucket") {
        home.zenith = home.zenith.env(&name, value);
    }
    let (url, port) = ("s3://bucket/some/prefix", home.port.to_string());
    let init = ["init", "--storage-dest", url, "--port", &port];
    with(&home.zenith, PASSPHRASE).ok(&[&init[..], &["--encrypt"]].concat());
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    home.snapshot("rows");
    home.zenith.ok(&["push"]);
    process::kill9(home.agent_pid().expect("the agent runs"));
    server::kill9_server(&home.pgdata());
    remove(home.zenith.home().to_str().unwrap());
    let start = ["start", "--storage-dest", url, "--port", &port];
    home.zenith.fails(1, &start).says("ZENITH_PASSPHRASE");
    with(&home.zenith, "wrong").fails(1, &start).hints();
    with(&home.zenith, PASSPHRASE).ok(&start);
    load::check_balances(&home.dsn());
    home.zenith.ok(&["stop"]);
}
