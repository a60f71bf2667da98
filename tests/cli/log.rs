//! `zenith log`: histories as lines and as graphs.

use insta::assert_snapshot;
use zenith::head::Head;

use crate::made_up::MadeUp;

/// `main` with four snapshots, a tag on the first, `try` with two more after the second.
fn forked() -> MadeUp {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 90);
    m.name("tag/v1.0", one);
    let two = m.snapshot("main", "two", 50);
    m.name("branch/try", two);
    m.snapshot("try", "index", 5);
    m.snapshot("main", "three", 4);
    m.snapshot("try", "index2", 3);
    m.snapshot("main", "four", 2);
    m
}

/// What a command says; how small things are packed is not this test's matter.
fn sized(m: &MadeUp, line: &str) -> String {
    let shown = m.transcript(line);
    let parts = shown.split(" B new").map(|part| {
        let part = part.trim_end_matches(|c: char| c.is_ascii_digit());
        part.to_owned()
    });
    parts.collect::<Vec<_>>().join("N B new")
}

#[test]
fn a_home_without_snapshots() {
    let m = MadeUp::new();
    assert_snapshot!(sized(&m, "log"), @r"
    $ zenith log
    --- stderr
    branch main has no snapshot yet
    --- exit 0
    ");
    assert_snapshot!(m.transcript("log --all --graph"), @r"
    $ zenith log --all --graph
    --- stderr
    branch main has no snapshot yet
    --- exit 0
    ");
    m.refused("log HEAD", 1);
}

#[test]
fn histories_as_lines() {
    let m = forked();
    assert_snapshot!(sized(&m, "log"), @r"
    $ zenith log
    ● four____  main  2 h     0/0  20 KB  N B new  four
      three___        4 h     0/0  25 KB  N B new  three
      two_____        2 days  0/0  15 KB  N B new  two
      one_____  v1.0  3 days  0/0  15 KB  N B new  one
    --- exit 0
    ");
    assert_snapshot!(m.transcript("log try --limit 2 --oneline"), @r"
    $ zenith log try --limit 2 --oneline
      index2__  try  index2
      index___       index
    --- stderr
    2 more, --limit 4 shows them
    --- exit 0
    ");
    assert_snapshot!(sized(&m, "log main~1 try -n 3"), @r"
    $ zenith log main~1 try -n 3
      index2__  try  3 h  0/0  30 KB  N B new  index2
      three___       4 h  0/0  25 KB  N B new  three
      index___       5 h  0/0  25 KB  N B new  index
    --- stderr
    2 more, --limit 5 shows them
    --- exit 0
    ");
    assert_snapshot!(m.transcript("log --branch mian"), @r"
    $ zenith log --branch mian
    --- stderr
    error: no branch is called `mian`

    hint: Did you mean `main`? `zenith branch` lists those that are here, `zenith branch --remote` those of the storage.
    --- exit 1
    ");
    let objects = m.json("log --branch try");
    let said: Vec<_> = objects
        .iter()
        .map(|o| (o["message"].as_str().unwrap(), o["head"] == true))
        .collect();
    assert_eq!(
        said,
        [
            ("index2", false),
            ("index", false),
            ("two", false),
            ("one", false)
        ]
    );
    assert_eq!(objects[3]["refs"], serde_json::json!(["v1.0"]));
    assert!(
        objects
            .iter()
            .all(|o| o["type"] == "log_entry" && o["gap"] == false)
    );
}

#[test]
fn histories_as_graphs() {
    let m = forked();
    m.ok("push");
    m.snapshot("main", "five", 1);
    assert_snapshot!(sized(&m, "log --graph --all"), @r"
    $ zenith log --graph --all
    ● five____  main         1 h     0/0  20 KB  N B new  five
    ○ four____  origin/main  2 h     0/0  20 KB  N B new  four
    │ ○ index2__  try        3 h     0/0  30 KB  N B new  index2
    ○ │ three___             4 h     0/0  25 KB  N B new  three
    │ ○ index___             5 h     0/0  25 KB  N B new  index
    ├─╯
    ○ two_____               2 days  0/0  15 KB  N B new  two
    ○ one_____  v1.0         3 days  0/0  15 KB  N B new  one
    --- exit 0
    ");
    assert_snapshot!(m.transcript("log --graph --oneline main try"), @r"
    $ zenith log --graph --oneline main try
    ● five____  main         five
    ○ four____  origin/main  four
    │ ○ index2__  try        index2
    ○ │ three___             three
    │ ○ index___             index
    ├─╯
    ○ two_____               two
    ○ one_____  v1.0         one
    --- exit 0
    ");
    let output = m
        .zenith
        .command("log --graph --oneline --all")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let drawn = m.named(&m.zenith.shown(&output));
    assert!(drawn.is_ascii(), "{drawn}");
    assert_snapshot!(drawn, @r"
    * five____  main         five
    o four____  origin/main  four
    | o index2__  try        index2
    o | three___             three
    | o index___             index
    +-'
    o two_____               two
    o one_____  v1.0         one
    --- exit 0
    ");
    assert_snapshot!(sized(&m, "log --graph --all --remote"), @r"
    $ zenith log --graph --all --remote
    ● four____  main  2 h     0/0  20 KB  N B new  four
    ○ three___        4 h     0/0  25 KB  N B new  three
    ○ two_____        2 days  0/0  15 KB  N B new  two
    ○ one_____        3 days  0/0  15 KB  N B new  one
    --- exit 0
    ");
    // Colour says nothing that the marks do not say.
    let colored = m.ok("log --graph --all --color always");
    let plain = m.ok("log --graph --all --color never");
    assert!(colored.contains("\u{1b}[") && !plain.contains("\u{1b}["));
}

/// History goes on over what was pruned, and says so.
#[test]
fn what_is_missing_is_marked() {
    let m = forked();
    m.ok("snapshot delete main~1");
    m.ok("snapshot delete try~1");
    assert_snapshot!(m.transcript("log --graph --all --oneline"), @r"
    $ zenith log --graph --all --oneline
    ● four____  main   four
    ┊
    │ ○ index2__  try  index2
    │ ┊
    ├─╯
    ○ two_____         two
    ○ one_____  v1.0   one
    --- exit 0
    ");
    assert_snapshot!(m.transcript("log --oneline"), @r"
    $ zenith log --oneline
    ● four____  main  four
    ┊
      two_____        two
      one_____  v1.0  one
    --- exit 0
    ");
    let gaps: Vec<_> = m.json("log").iter().map(|o| o["gap"] == true).collect();
    assert_eq!(gaps, [true, false, false]);
    // `~N` counts what is left.
    assert_eq!(m.json("log main~1")[0]["message"], "two");
    let second = m.state().seq();
    m.ok(&format!("undo {second}"));
    m.ok(&format!("undo {}", second - 1));
    assert!(m.json("log --all").iter().all(|o| o["gap"] == false));

    // The beginning of a history that is elsewhere, or gone.
    m.ok("tag -d v1.0");
    m.ok("snapshot delete main~3");
    assert_snapshot!(m.transcript("log main~1 --graph --oneline"), @r"
    $ zenith log main~1 --graph --oneline
    ○ three___  three
    ○ two_____  two
    ┊
    --- exit 0
    ");
}

#[test]
fn where_nobody_stands() {
    let m = forked();
    m.stand_at(&Head::Detached(m.at("branch/try").unwrap().to_string()));
    assert_snapshot!(m.transcript("log --graph --oneline -n 2"), @r"
    $ zenith log --graph --oneline -n 2
    ● index2__  try  index2
    ○ index___       index
    --- stderr
    2 more, --limit 4 shows them
    --- exit 0
    ");
    m.ok("branch -d try --force");
    assert_snapshot!(m.transcript("log --graph --oneline --all"), @r"
    $ zenith log --graph --oneline --all
    ○ four____  main  four
    │ ● index2__      index2
    ○ │ three___      three
    │ ○ index___      index
    ├─╯
    ○ two_____        two
    ○ one_____  v1.0  one
    --- exit 0
    ");
}
