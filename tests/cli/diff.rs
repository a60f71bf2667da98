//! `zenith diff` of snapshots that are made up; tests/pg has those of clusters.

use insta::assert_snapshot;

use crate::made_up::MadeUp;

fn two() -> MadeUp {
    let m = MadeUp::new();
    m.snapshot("main", "one", 90);
    m.snapshot("main", "two", 3);
    m
}

#[test]
fn files_that_belong_to_no_relation() {
    let m = two();
    assert_snapshot!(m.transcript("diff main~1 main"), @r"
    $ zenith diff main~1 main
    one_____ (3 days ago) → two_____ (3 h ago), 0 relations, 0 of 2 pages
      (and 1 other file; --all shows them)
    --- exit 0
    ");
    assert_snapshot!(m.transcript("diff main main"), @r"
    $ zenith diff main main
    two_____ (3 h ago) → two_____ (3 h ago), no difference
    --- exit 0
    ");
    assert_snapshot!(m.transcript("diff main~1 main --all"), @r"
    $ zenith diff main~1 main --all
    one_____ (3 days ago) → two_____ (3 h ago), 0 relations, 0 of 2 pages
      f  other  2 / 2  100.0 %  ██████████
    --- exit 0
    ");
    assert_snapshot!(m.transcript("diff main~1 main --stat"), @r"
    $ zenith diff main~1 main --stat
      f  other  2 / 2  100.0 %  ██████████
    1 file changed, 0 added, 0 removed, 2 pages
    --- exit 0
    ");
    assert_snapshot!(m.transcript("diff main~1 main --name-only"), @r"
    $ zenith diff main~1 main --name-only
    --- exit 0
    ");
    assert_snapshot!(m.transcript("diff main~1 main --name-only --all"), @r"
    $ zenith diff main~1 main --name-only --all
    f
    --- exit 0
    ");
    let records = m.json("diff main~1 main --stat");
    let kinds: Vec<_> = records
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["diff", "diff_file"]);
}

#[test]
fn codes_tell_whether_there_is_a_difference() {
    let m = two();
    for (line, code) in [
        ("diff main~1 main --exit-code", 1),
        ("diff main~1 main --exit-code --json", 1),
        ("diff main main --exit-code", 0),
        ("diff main~1 main", 0),
    ] {
        let output = m.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(
            !String::from_utf8(output.stderr).unwrap().contains("error"),
            "{line}"
        );
    }
    // What is not there is no difference.
    for (line, code) in [("diff mian main", 1), ("diff mian main --exit-code", 2)] {
        let error = m.refused(line, code);
        assert!(error.contains("Did you mean `main`?"), "{error}");
    }
}

#[test]
fn without_a_cluster_there_is_nothing_to_compare_with() {
    let m = two();
    assert_snapshot!(m.transcript("diff"), @r"
    $ zenith diff
    --- stderr
    error: the home DIR/.zenith has snapshots, but no cluster now

    hint: `zenith start` makes it anew from the last snapshot.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("diff main --exit-code"), @r"
    $ zenith diff main --exit-code
    --- stderr
    error: the home DIR/.zenith has snapshots, but no cluster now

    hint: `zenith start` makes it anew from the last snapshot.
    --- exit 2
    ");
}

/// What is not here may lie at the storage, but only what the same words mean there.
#[test]
fn a_revision_is_not_taken_for_another_one_at_the_storage() {
    let m = two();
    let here = m.at("branch/main").unwrap();
    for message in ["a", "b", "c", "d"] {
        m.snapshot("side", message, 2);
    }
    m.ok("push --all");
    // A branch that stands elsewhere there.
    m.name("branch/side", here);
    let error = m.refused("diff side~3 main", 1);
    assert!(error.contains("surviving ancestors"), "{error}");
    // A name that means two things.
    let one = m.ok("--json log -n 2").lines().last().map(str::to_owned);
    let one: serde_json::Value = serde_json::from_str(&one.unwrap()).unwrap();
    m.name("tag/main", one["id"].as_str().unwrap().parse().unwrap());
    let error = m.refused("diff main side", 1);
    assert!(error.contains("`main` is ambiguous"), "{error}");
    m.ok("tag -d main");
    // What was deleted here comes from there, wherever HEAD is.
    m.ok("snapshot delete main~1");
    m.ok("branch other");
    m.stand_at(&zenith::head::Head::Branch("other".into()));
    assert_eq!(m.json("diff main~1 main")[0]["before"], one["id"]);
}
