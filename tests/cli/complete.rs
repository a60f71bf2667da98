//! What a shell is told when it asks how a word goes on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zenith::facts::{Database, Relation};
use zenith::store::SnapshotId;

use crate::made_up::MadeUp;
use crate::zenith::Zenith;

impl Zenith {
    /// What the shell gets for the last word of a line; an empty one is `""`.
    fn completed(&self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split(' ').map(|w| w.trim_matches('"')).collect();
        let output = self
            .command("--")
            .args(&words)
            .env("ZENITH_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", self.shown(&output));
        assert!(output.stderr.is_empty(), "{line}\n{}", self.shown(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }
}

fn named() -> (MadeUp, SnapshotId) {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 9);
    m.name("tag/v1.0", one);
    m.name("branch/feature/x", one);
    m.snapshot("main", "two", 3);
    m.ok("push");
    m.ok("remote add offsite /srv/store");
    (m, one)
}

#[test]
fn names_complete() {
    let (m, one) = named();
    let at = |line: &str| -> Vec<String> {
        let names = m.zenith.completed(line).into_iter();
        names.filter(|name| !name.starts_with('-')).collect()
    };
    let all = ["feature/x", "main", "v1.0", "HEAD", "origin/main"];
    for line in [
        "zenith log \"\"",
        "zenith checkout \"\"",
        "zenith log main \"\"",
    ] {
        assert_eq!(at(line), all, "{line}");
    }
    assert_eq!(at("zenith tag new fea"), ["feature/x"]);
    assert_eq!(at("zenith tag -d \"\""), ["v1.0"]);
    assert_eq!(at("zenith branch -d \"\""), ["feature/x", "main"]);
    assert_eq!(at("zenith push \"\""), ["origin", "offsite"]);
    assert_eq!(at("zenith push --branch f"), ["feature/x"]);
    assert_eq!(at("zenith fetch o"), ["origin", "offsite"]);
    assert_eq!(at("zenith fetch m"), ["main"]);
    assert_eq!(
        m.zenith.completed("zenith log --remote=of"),
        ["--remote=offsite"]
    );
    assert_eq!(m.zenith.completed("zenith snapshot sh"), ["show"]);
    // Of an id no more than is enough, but what was typed.
    let id = one.to_string();
    assert_eq!(at(&format!("zenith log {}", &id[..3])), [one.short()]);
    assert_eq!(at(&format!("zenith log {}", &id[..20])), [&id[..20]]);
    // A new branch has a new name.
    assert_eq!(at("zenith checkout -b m"), [""; 0]);
}

/// Whatever is wrong is no answer, and no word in the middle of the line that is typed.
#[test]
fn what_cannot_be_answered_is_silent() {
    let zenith = Zenith::new();
    assert_eq!(zenith.completed("zenith log m"), [""; 0]);
    assert_eq!(zenith.completed("zenith nosuch zz"), [""; 0]);
    let (m, _) = named();
    assert_eq!(m.zenith.completed("zenith -D elsewhere log m"), [""; 0]);
    assert_eq!(m.zenith.completed("zenith -D .zenith log m"), ["main"]);
    fs::write(m.home.dir().join("config.toml"), "[").unwrap();
    assert_eq!(m.zenith.completed("zenith log m"), [""; 0]);
    let unknown = m
        .zenith
        .command("-- zenith log")
        .env("ZENITH_COMPLETE", "nosuchshell")
        .output()
        .unwrap();
    assert!(unknown.stdout.is_empty() && unknown.stderr.is_empty());
}

/// A completion goes on beside everything: nothing is written, nobody is waited for.
#[test]
fn nothing_is_locked_or_written() {
    fn times(dir: &Path, found: &mut Vec<(String, i64, i64)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            found.push((path.display().to_string(), meta.mtime(), meta.mtime_nsec()));
            if meta.is_dir() {
                times(&path, found);
            }
        }
        found.sort();
    }
    let (m, _) = named();
    let _collecting = m.home.collect_guard().unwrap();
    let _writing = m.home.lock("test", zenith::home::Wait::Forever).unwrap();
    // What is asked of a storage that is gone fails.
    fs::remove_dir_all(m.zenith.dir().join("storage")).unwrap();
    fs::remove_file(m.home.dir().join("gc.lock")).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    times(m.home.dir(), &mut before);
    assert_eq!(m.zenith.completed("zenith log ma"), ["main"]);
    times(m.home.dir(), &mut after);
    assert_eq!(before, after);
}

/// Tables are those that a snapshot lists, by the names that `cp` takes.
#[test]
fn tables_complete() {
    let (m, one) = named();
    let at = |line: &str| -> Vec<String> {
        let names = m.zenith.completed(line).into_iter();
        names.filter(|name| !name.starts_with('-')).collect()
    };
    m.snapshot_of("main", vec![shop()]);
    // Without a colon, what can stand before it.
    assert_eq!(at("zenith cp ma"), ["main:"]);
    assert_eq!(at("zenith cp v"), ["v1.0:"]);
    let all = [
        "main:app.\"Order Items\"",
        "main:public.daily",
        "main:public.orders",
        "main:public.orders_old",
    ];
    assert_eq!(at("zenith cp main:"), all, "no index, no catalog");
    assert_eq!(at("zenith cp main:public.o"), all[2..]);
    assert_eq!(at("zenith cp main:ord"), ["main:orders", "main:orders_old"]);
    assert_eq!(at("zenith cp HEAD:public.d"), ["HEAD:public.daily"]);
    // Nothing is known of these.
    for line in ["main:nosuch", "v1.0:", "main~1:o", "nosuch:o", "main~9:o"] {
        assert_eq!(at(&format!("zenith cp {line}")), [""; 0], "{line}");
    }
    assert_eq!(at(&format!("zenith cp {one}:o")), [""; 0]);
    assert_eq!(at("zenith log -- public.da"), ["public.daily"]);
    assert_eq!(at("zenith diff --rows dai"), ["daily"]);
    // Where there are several databases the name says which.
    let both = [(5, "shop"), (6, "other")];
    let both = both.map(|(oid, name)| database(oid, name, &SHOP[..1]));
    m.snapshot_of("main", both.into());
    assert_eq!(
        at("zenith cp main:"),
        ["main:other.public.orders", "main:shop.public.orders"]
    );
}

/// Schema, name, kind and oid of some relations.
const SHOP: [(&str, &str, char, u32); 6] = [
    ("public", "orders", 'r', 20_000),
    ("public", "orders_old", 'r', 20_001),
    ("public", "daily", 'm', 20_002),
    ("app", "Order Items", 'r', 20_003),
    ("public", "orders_pkey", 'i', 20_004),
    ("pg_catalog", "pg_class", 'r', 1_259),
];

pub(crate) fn shop() -> Database {
    database(5, "shop", &SHOP)
}

fn database(oid: u32, name: &str, relations: &[(&str, &str, char, u32)]) -> Database {
    let relations = relations.iter().map(|&(schema, name, kind, oid)| Relation {
        filenode: oid,
        tablespace: 1663,
        schema: schema.into(),
        name: name.into(),
        kind,
        oid,
        parent: None,
        table: None,
    });
    Database {
        oid,
        name: name.into(),
        relations: relations.collect(),
    }
}
