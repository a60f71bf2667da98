//! Damage of a home or a storage, and who heals it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zenith_testkit::{Output, Zenith, load, user};

use crate::support::{Home, PROGRAM};

/// A stopped server with rows, two snapshots, all pushed.
fn stopped() -> Home {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), 1);
    home.sql("vacuum freeze");
    home.sql("checkpoint");
    home.snapshot("rows");
    home.zenith.ok(&["stop"]);
    home
}

/// The packs of a repository, the largest first.
fn packs(repository: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.join("packs")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

/// Home and storage may share a file by a hard link, so it gets a new one.
fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    user::give(path);
}

fn flip_in_the_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
}

fn records<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|record| record["type"] == kind).collect()
}

/// All that a verification says, as objects, though it ends with an error.
#[track_caller]
fn damage(zenith: &Zenith, more: &[&str]) -> Vec<Value> {
    let args = [&["--json", "verify"], more].concat();
    let output = zenith.run(&args);
    assert_eq!(output.code, Some(7), "{output}");
    output.json()
}

/// Demands words of the answer.
#[track_caller]
fn answers(output: &Output, words: &[&str]) {
    for words in words {
        assert!(
            output.stdout.contains(words),
            "expected `{words}`\n{output}"
        );
    }
}

#[track_caller]
fn starts_from(home: &Home, zenith: &Zenith, rev: &str, name: &str) {
    let dir = home.place.arg(name);
    zenith.ok(&["checkout", rev, &dir]);
    let copy = home.serve(&dir);
    load::check_balances(&copy.dsn());
    let rows = copy.value("select count(*) from pgbench_accounts");
    assert_eq!(rows, "100000");
}

#[track_caller]
fn is_whole(zenith: &Zenith, more: &[&str]) -> Output {
    zenith.ok(&[&["verify", "--read-data"], more].concat())
}

#[test]
fn a_home_heals_from_the_storage() {
    let home = stopped();
    let zenith = &home.zenith;
    let largest = packs(&zenith.home())[0].clone();
    let was = fs::read(&largest).unwrap();
    fs::remove_file(&largest).unwrap();
    let said = zenith
        .fails(7, &["verify"])
        .says("`zenith verify --repair`");
    answers(
        &said,
        &["it is missing", "base/1: the list of its files is lost"],
    );
    let said = zenith.ok(&["verify", "--repair"]);
    answers(&said, &["healed 1 pack", &home.storage()]);
    assert!(fs::read(&largest).unwrap() == was, "verbatim");
    is_whole(zenith, &[]);
    starts_from(&home, zenith, "HEAD", "copy");
}

#[test]
fn a_home_heals_from_its_cluster() {
    let home = stopped();
    let zenith = &home.zenith;
    let storage = PathBuf::from(home.storage());
    let away = storage.with_extension("away");
    fs::rename(&storage, &away).unwrap();
    change(&packs(&zenith.home())[0], |bytes| flip_in_the_middle(bytes));
    zenith.ok(&["verify"]);
    zenith.fails(7, &["verify", "--read-data"]);
    let said = zenith.ok(&["verify", "--repair"]);
    answers(&said, &["from the cluster in"]);
    said.says("could not be asked");
    is_whole(zenith, &[]);
    starts_from(&home, zenith, "HEAD", "copy");
    // It goes on: what was moved is pushed when the storage is back.
    fs::rename(&away, &storage).unwrap();
    home.start(&[]);
    home.sql("create table after_repair as select 1 x");
    home.snapshot("after");
    zenith.ok(&["push"]);
    home.zenith.ok(&["stop"]);
    is_whole(zenith, &["--remote"]);
}

/// What nobody has is told exactly, and everything else stays readable.
#[test]
fn what_nobody_has_is_told() {
    let home = stopped();
    let zenith = &home.zenith;
    fs::remove_dir_all(home.storage()).unwrap();
    let largest = packs(&zenith.home())[0].clone();
    change(&largest, |bytes| flip_in_the_middle(bytes));
    fs::remove_dir_all(home.pgdata()).unwrap();
    let told = damage(zenith, &["--repair"]);
    let files = records(&told, "damage");
    // Several databases may share the one chunk that is lost.
    assert!(!files.is_empty());
    for file in files {
        assert!(!file["path"].as_str().unwrap().is_empty());
        let parts = file["lost"].as_array().unwrap();
        let lost: u64 = parts.iter().map(|p| p["bytes"].as_u64().unwrap()).sum();
        assert!(lost > 0 && lost <= 64 << 10, "one chunk: {lost}");
    }
    assert_eq!(records(&told, "repair")[0]["good"], false);
    assert!(largest.exists(), "it is kept for another try");
    zenith
        .fails(7, &["verify", "--repair"])
        .says("snapshot delete REV");
}

#[test]
fn a_storage_heals_from_the_home() {
    let home = stopped();
    let zenith = &home.zenith;
    let storage = PathBuf::from(home.storage());
    let all = packs(&storage);
    fs::remove_file(&all[0]).unwrap();
    change(&all[1], |bytes| bytes.truncate(1000));
    zenith
        .fails(7, &["verify", "--remote"])
        .says("`zenith verify --repair --remote`");
    is_whole(zenith, &[]);
    let said = zenith.ok(&["verify", "--remote", "--repair"]);
    answers(&said, &["healed 2 packs"]);
    is_whole(zenith, &["--remote"]);
    is_whole(zenith, &[]);
    let said = zenith.ok(&["verify", "--remote", "--sample", "10%"]);
    answers(&said, &["chosen at random, were read and are whole"]);
    // The next push sends what is new, and nothing twice.
    home.start(&[]);
    home.sql("create table after_repair as select 1 x");
    home.snapshot("after");
    zenith.ok(&["push"]);
    home.zenith.ok(&["stop"]);
    is_whole(zenith, &["--remote"]);
    zenith.ok(&["gc", "--remote", "--now"]);
    assert!(!all[1].exists(), "its name is dead");
    let other = Zenith::new(PROGRAM, &home.place, "other");
    let dir = home.place.arg("other/.zenith");
    other.ok(&["clone", storage.to_str().unwrap(), &dir]);
    starts_from(&home, &other, "HEAD", "copy");
}

/// The roots of a repository, the latest last.
fn roots(repository: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.join("roots")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_log_that_cannot_be_read_is_gone_on_from() {
    let home = stopped();
    let zenith = &home.zenith;
    let before = home.list();
    for (place, at) in [
        (zenith.home(), None),
        (home.storage().into(), Some("--remote")),
    ] {
        let latest = roots(&place).pop().unwrap();
        change(&latest, |bytes| bytes.truncate(80));
        let seq: u64 = latest
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let list: Vec<&str> = ["snapshot", "list"].into_iter().chain(at).collect();
        if at.is_none() {
            zenith
                .fails(7, &list)
                .says(&format!("root {seq}"))
                .says(&format!("root {}", seq - 1))
                .says("`zenith verify --repair`");
        }
        let verify: Vec<&str> = ["verify", "--repair"].into_iter().chain(at).collect();
        zenith.fails(
            7,
            &verify[..1].iter().copied().chain(at).collect::<Vec<_>>(),
        );
        let said = zenith.ok(&verify);
        let new = format!("root {} goes on from root {}", seq + 1, seq - 1);
        answers(&said, &[&format!("root {seq} cannot be read"), &new]);
        is_whole(zenith, &at.into_iter().collect::<Vec<_>>());
    }
    // Every snapshot is there again, those that only the lost root named under a branch.
    let listed = zenith.ok(&["--json", "snapshot", "list", "--all"]).json();
    let ids = |all: &[Value]| {
        let mut ids: Vec<_> = all.iter().map(|s| s["id"].clone().to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&listed), ids(&before));
    let said = zenith.ok(&["op", "log", "--all"]);
    answers(&said, &["what it did is not known"]);
    zenith.ok(&["op", "log", "--remote"]);
    // An index is made anew.
    let _ = fs::remove_dir_all(zenith.home().join("index.db"));
    let id = before[0]["id"].as_str().unwrap();
    starts_from(&home, zenith, id, "copy");
}

#[test]
fn a_snapshot_that_reads_all_stores_damaged_chunks_anew() {
    let home = stopped();
    let zenith = &home.zenith;
    fs::remove_dir_all(home.storage()).unwrap();
    change(&packs(&zenith.home())[0], |bytes| flip_in_the_middle(bytes));
    let told = damage(zenith, &["--read-data"]);
    assert!(!records(&told, "bad_snapshot").is_empty());
    zenith.ok(&["snapshot", "create", "--read-all"]);
    let told = damage(zenith, &["--read-data"]);
    assert!(!records(&told, "bad_pack").is_empty());
    assert_eq!(records(&told, "bad_snapshot"), Vec::<&Value>::new());
    starts_from(&home, zenith, "HEAD", "copy");
}
