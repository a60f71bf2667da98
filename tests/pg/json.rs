//! What only a server brings about answers in JSON as docs/json.md has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use zenith_testkit::shapes::{Shapes, WITH_SERVER};

use crate::support::Home;

#[test]
fn commands_around_a_server_answer_as_documented() {
    let shapes = Shapes::documented();
    let mut home = Home::new();
    home.zenith = home
        .zenith
        .env("ZENITH_PASSPHRASE", "not a short one")
        .env("ZENITH_NEW_PASSPHRASE", "another long one");
    let (storage, port) = (home.storage(), home.port.to_string());
    let (copy, out) = (home.place.arg("copy"), home.place.arg("out"));
    let clone = home.place.arg("clone");
    let clone_port = zenith_testkit::port::free().to_string();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut run = |command: &str, more: &[&str]| {
        let words: Vec<&str> = ["--json"]
            .into_iter()
            .chain(command.split(' '))
            .chain(more.iter().copied())
            .collect();
        let output = home.zenith.ok(&words);
        // An archive on stdout has its record on stderr.
        let is_archive = more.contains(&"-");
        let stdout = if is_archive { "" } else { &output.stdout };
        let mut found = shapes.check_lines(command, stdout);
        found.extend(shapes.check_lines(command, &output.stderr));
        seen.entry(command.to_owned()).or_default().extend(found);
        output
    };
    run(
        "init",
        &["--encrypt", "--storage-dest", &storage, "--port", &port],
    );
    run("start", &["--snapshot-interval", "1h"]);
    run("status", &[]);
    home.sql("create table t as select 1 as n");
    run("snapshot create", &["-m", "one"]);
    run("snapshot list", &[]);
    run("snapshot show", &[]);
    run("sql", &["main", "-c", "select 1 as one, 'x' as two"]);
    home.sql(
        "create table u (id int primary key, v text); insert into u values (1, 'a'), (2, 'b')",
    );
    run("snapshot create", &[]);
    home.sql("update u set v = 'c' where id = 1; delete from u where id = 2; insert into u values (3, 'd')");
    run("snapshot create", &[]);
    run("diff", &["main~1", "main", "--stat"]);
    run("diff", &["main~1", "main", "--rows", "u"]);
    run("log", &["-n", "1", "--", "u"]);
    run("push", &[]);
    run("stop", &[]);
    run("status", &[]);
    run("checkout", &["main", &copy]);
    run("checkout", &["main~1", "--dry-run"]);
    run("checkout", &["main~1"]);
    home.start(&["--no-push"]);
    home.sql("create table discarded as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    run("checkout", &["main", "--force"]);
    run("undo", &[]);
    run("export", &["main", "--snapshot-path", &out]);
    let tar = run("export", &["main", "--snapshot-path", "-"]);
    assert!(tar.bytes.len() > 1_000_000 && tar.stderr.contains("\"location\":\"-\""));
    run("import", &["--snapshot-path", &out, "--branch", "imported"]);
    run("checkout", &["main"]);
    run("pull", &["--dry-run"]);
    run("clone", &[&storage, &clone, "--port", &clone_port]);
    run("gc", &[]);
    run("verify", &["--read-data"]);
    run("key add", &[]);
    run("key list", &[]);
    fs::write(home.place.join("new"), "a third one\n").unwrap();
    let new = home.place.arg("new");
    run("key change", &["--new-passphrase-file", &new]);
    run("key remove", &["1"]);
    for (command, types) in WITH_SERVER {
        for name in *types {
            assert!(seen[*command].contains(*name), "{command}: no {name}");
        }
    }
}
