//! Every command answers in JSON, as docs/json.md has it.

use std::collections::BTreeSet;

use zenith::store::Operation;
use zenith_testkit::shapes::{Shapes, WITH_SERVER};

use crate::help::leaves;
use crate::made_up::{self, MadeUp};
use crate::zenith::Zenith;

/// A command, a line of it, and the types of what it writes on stdout.
type Step = (&'static str, &'static str, &'static [&'static str]);

/// In this order, at a home with a history; what is left out runs with a server, in tests/pg.
const STEPS: &[Step] = &[
    ("status", "status", &["status"]),
    ("config", "config", &["setting"]),
    ("completions", "completions bash", &["completions"]),
    ("man", "man", &["man_page"]),
    ("man", "man .", &["man_pages"]),
    ("tag", "tag v1 main~1", &["tag_created"]),
    ("tag", "tag v2 main~1", &["tag_created"]),
    ("tag", "tag", &["tag"]),
    ("tag", "tag -m v2 v3", &["tag_renamed"]),
    ("tag", "tag -d v3", &["tag_deleted"]),
    ("branch", "branch try main~1", &["branch_created"]),
    ("branch", "branch -m try tried", &["branch_renamed"]),
    ("branch", "branch -d tried", &["branch_deleted"]),
    ("push", "push --dry-run", &["push_planned"]),
    ("push", "push --all --tags", &["push", "push_tags"]),
    ("push", "push", &["push"]),
    ("status", "status --max-age 1h", &["status"]),
    ("branch", "branch --all", &["branch", "tracking_branch"]),
    ("branch", "branch --remote", &["branch"]),
    ("snapshot list", "snapshot list", &["snapshot"]),
    ("snapshot show", "snapshot show main", &["snapshot_shown"]),
    ("log", "log --graph --all", &["log_entry"]),
    ("remote", "remote", &["remote"]),
    ("remote list", "remote list", &["remote"]),
    ("remote show", "remote show", &["remote_branch"]),
    ("remote add", "remote add offsite other", &["remote"]),
    (
        "remote set-url",
        "remote set-url offsite another",
        &["remote"],
    ),
    (
        "remote remove",
        "remote remove offsite",
        &["remote_removed"],
    ),
    // Another home has pushed a branch and a tag meanwhile.
    (
        "fetch",
        "fetch --all --tags",
        &["fetched_branch", "fetched_tag", "fetch"],
    ),
    ("fetch", "fetch --dry-run", &["fetched_branch", "fetch"]),
    ("pull", "pull", &["pull"]),
    ("op log", "op log --all", &["operation"]),
    ("undo", "undo --dry-run", &["undone"]),
    (
        "prune",
        "prune --keep-last 1 --dry-run",
        &["snapshot_judged", "pruned"],
    ),
    (
        "prune",
        "prune --keep-last 2 --branch side",
        &["snapshot_judged", "pruned"],
    ),
    (
        "snapshot delete",
        "snapshot delete main~1 --force --dry-run",
        &["snapshot_deleted"],
    ),
    (
        "snapshot delete",
        "snapshot delete side --force",
        &["snapshot_deleted"],
    ),
    ("undo", "undo", &["undone"]),
    ("home list", "home list --remote", &["home"]),
    ("gc", "gc", &["gc"]),
    ("gc", "gc --remote --dry-run", &["gc"]),
    ("verify", "verify --read-data", &["verify"]),
    ("verify", "verify --repair", &["repair"]),
];

#[test]
fn every_command_answers_as_documented() {
    let shapes = Shapes::documented();
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 90);
    m.name("branch/side", one);
    m.snapshot("main", "two", 3);
    m.snapshot("main", "three", 1);
    m.snapshot("side", "aside", 2);
    let mut seen = BTreeSet::new();
    for (_, line, types) in STEPS {
        if *line == "fetch --all --tags" {
            another_home_pushes(&m);
        }
        let output = m.run(&format!("--json {line}"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found = shapes.check_lines(line, &text(&output.stdout));
        let wanted: BTreeSet<String> = types.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, wanted, "{line}\n{}", m.zenith.shown(&output));
        assert!(
            output.status.success(),
            "{line}\n{}",
            m.zenith.shown(&output)
        );
        seen.extend(found);
        seen.extend(shapes.check_lines(line, &text(&output.stderr)));
    }
    let gone = m.another_home("gone");
    seen.extend(records(
        &shapes,
        &m,
        &format!("home forget {gone} --remote"),
        0,
    ));
    seen.extend(records(&shapes, &m, "snapshot show nothing", 1));
    seen.extend(records(&shapes, &m, "psuh", 2));
    let storage = m.storage().with_segments_of(1);
    storage.tend_segments(None, &Operation::default()).unwrap();
    let segments = storage.objects().list("index/").unwrap();
    assert_eq!(segments.len(), 1);
    storage.objects().delete(&segments[0].key).unwrap();
    seen.extend(records(&shapes, &m, "verify --remote", 0));
    seen.extend(records(&shapes, &m, "verify --remote --repair", 0));
    let left = records(&shapes, &m, "verify --remote --read-data", 0);
    assert!(!left.contains("bad_segment"));
    for pack in std::fs::read_dir(m.home.dir().join("packs")).unwrap() {
        std::fs::write(pack.unwrap().path(), b"").unwrap();
    }
    seen.extend(records(&shapes, &m, "verify", 7));

    let with_server: BTreeSet<&str> = WITH_SERVER
        .iter()
        .flat_map(|(_, types)| *types)
        .copied()
        .collect();
    let left: Vec<String> = shapes
        .names()
        .into_iter()
        .filter(|name| !seen.contains(name) && !with_server.contains(name.as_str()))
        .collect();
    assert_eq!(left, [""; 0], "documented, and no command answers so");
}

/// A command of clap's that no step runs is one whose JSON nobody looks at.
#[test]
fn no_command_is_forgotten() {
    let run: BTreeSet<&str> = STEPS
        .iter()
        .map(|(command, ..)| *command)
        .chain(WITH_SERVER.iter().map(|(command, _)| *command))
        .chain(["home forget"])
        .collect();
    for (command, line, _) in STEPS {
        assert!(line.starts_with(command), "{line}");
    }
    let missing: Vec<String> = leaves(&Zenith::new())
        .into_iter()
        .filter(|command| !run.contains(command.as_str()))
        .collect();
    assert_eq!(missing, [""; 0]);
}

fn another_home_pushes(m: &MadeUp) {
    let other = made_up::home(&m.zenith, "second");
    m.ok("-D second fetch");
    let kind = zenith::store::SnapshotKind::Manual;
    made_up::snapshot(&other, "elsewhere", "four", 1, kind);
    m.ok("-D second tag w1 elsewhere");
    m.ok("-D second push --branch elsewhere --tags");
}

/// The types of what a command writes, which ends with this code.
fn records(shapes: &Shapes, m: &MadeUp, line: &str, code: i32) -> BTreeSet<String> {
    let output = m.run(&format!("--json {line}"));
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        m.zenith.shown(&output)
    );
    let text = [output.stdout, output.stderr].concat();
    shapes.check_lines(line, &String::from_utf8(text).unwrap())
}
