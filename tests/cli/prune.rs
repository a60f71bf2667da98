//! `zenith prune` and `zenith snapshot delete`, here and at the storage.

use insta::assert_snapshot;
use serde_json::{Value, json};
use zenith::head::Head;

use crate::made_up::{MadeUp, messages};
use crate::zenith::Zenith;

/// Messages of a dry run's snapshots, newest first, each with its reasons; none when it goes.
fn judged(objects: &[Value], state: &zenith::store::State) -> Vec<(String, Vec<String>)> {
    let judged = objects.iter().filter(|o| o["type"] == "snapshot_judged");
    let shown = |object: &Value| {
        let id = object["id"].as_str().unwrap().parse().unwrap();
        let reasons: Vec<String> = serde_json::from_value(object["reasons"].clone()).unwrap();
        assert_eq!(object["stays"], json!(!reasons.is_empty()));
        (state.snapshot(&id).unwrap().message.clone(), reasons)
    };
    judged.map(shown).collect()
}

#[test]
fn without_a_rule_nothing_goes() {
    assert_snapshot!(Zenith::new().transcript("prune --dry-run"), @r#"
    $ zenith prune --dry-run
    --- stderr
    error: nothing says which snapshots to keep

    hint: Give at least one rule, and look first: `zenith prune --keep-last 10 --keep-daily 30 --dry-run`.
    --- exit 2
    "#);
    for line in [
        "prune --keep-last 0",
        "prune --keep-within never",
        "prune --keep-tag=",
    ] {
        let output = Zenith::new().command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
}

#[test]
fn what_stays_and_why() {
    let m = MadeUp::new();
    let ids: Vec<_> = ["one", "two", "three", "four", "five"]
        .iter()
        .zip([200, 150, 100, 50, 1])
        .map(|(message, hours)| m.snapshot("main", message, hours))
        .collect();
    m.name("tag/v1", ids[0]);
    m.name("homes/0a1b2c3d4e5f", ids[2]);
    let before = m.state().seq();
    let objects = m.json("prune --keep-last 1 --keep-within 60h --dry-run");
    let expect = [
        (
            "five",
            vec![
                "--keep-within 60h",
                "--keep-last 1",
                "tip of main",
                "HEAD needs it",
            ],
        ),
        ("four", vec!["--keep-within 60h"]),
        ("three", vec!["home 0a1b2c3d builds on it"]),
        ("two", vec![]),
        ("one", vec!["tag v1"]),
    ];
    let expect: Vec<(String, Vec<String>)> = expect
        .into_iter()
        .map(|(m, why)| (m.to_owned(), why.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(judged(&objects, &m.state()), expect);
    let end = objects.last().unwrap();
    assert_eq!(end["type"], "pruned");
    assert_eq!((&end["deleted"], &end["kept"]), (&json!(1), &json!(4)));
    assert_eq!(m.state().seq(), before, "a dry run changes nothing");

    let answer = m.run("prune --keep-last 1 --keep-within 60h");
    let answer = m.zenith.shown(&answer);
    assert!(
        answer.starts_with("deleted 1 of 5 snapshots  ("),
        "{answer}"
    );
    assert!(answer.contains("zenith tag -d"), "{answer}");
    assert!(answer.contains("zenith gc"), "{answer}");
    assert_eq!(m.messages(), ["one", "three", "four", "five"]);
    assert_eq!(m.state().seq(), before + 1, "one operation");
    assert_eq!(m.state().operation().verb, "prune");
    // The line stays one: three goes on from one.
    assert_eq!(m.state().snapshot(&ids[2]).unwrap().parents, [ids[0]]);

    let answer = m.ok("prune --keep-last 1 --keep-within 60h");
    assert_eq!(answer, "nothing to prune: 4 snapshots stay\n");
    assert_eq!(m.state().seq(), before + 1);
}

#[test]
fn branches_are_judged_for_themselves() {
    let m = MadeUp::new();
    let fork = m.snapshot("main", "fork", 90);
    m.name("branch/side", fork);
    m.snapshot("main", "m1", 80);
    m.snapshot("main", "m2", 70);
    m.snapshot("side", "s1", 60);
    m.snapshot("side", "s2", 50);
    let gone = |line: &str| -> Vec<String> {
        let judged = judged(&m.json(&format!("prune --dry-run {line}")), &m.state());
        let gone = judged.into_iter().filter(|(_, reasons)| reasons.is_empty());
        gone.map(|(message, _)| message).collect()
    };
    assert_eq!(gone("--keep-last 1"), ["s1", "m1", "fork"]);
    assert_eq!(gone("--keep-last 2"), ["fork"]);
    assert_eq!(gone("--keep-last 1 --branch main"), ["m1"]);
    assert_eq!(gone("--keep-last 1 --branch side"), ["s1"]);
    assert_eq!(gone("--keep-within 10h"), ["s1", "m1", "fork"]);
    assert_eq!(
        gone("--keep-within 10h --force"),
        ["s2", "s1", "m1", "fork"]
    );
    let error = m.refused("prune --keep-last 1 --branch mian", 1);
    assert!(error.contains("Did you mean `main`?"), "{error}");
}

#[test]
fn a_forced_tip_steps_back_or_takes_its_branch_along() {
    let m = MadeUp::new();
    m.snapshot("main", "new", 1);
    let first = m.snapshot("old", "o1", 90);
    m.name("tag/keep", first);
    m.snapshot("old", "o2", 80);
    m.snapshot("old", "o3", 70);
    m.snapshot("gone", "g", 60);
    let answer = m.ok("prune --keep-within 10h --force");
    let short = first.short();
    assert!(
        answer.contains(&format!(
            "  branch gone goes with its snapshots\n  branch old steps back to {short}\n"
        )),
        "{answer}"
    );
    assert_eq!(m.messages(), ["new", "o1"]);
    let state = m.state();
    assert_eq!(state.get_ref("branch/old"), Some(first));
    assert_eq!(state.get_ref("branch/gone"), None);
}

#[test]
fn where_head_stands_stays() {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 90);
    m.snapshot("main", "two", 80);
    m.snapshot("main", "three", 70);
    m.stand_at(&Head::Detached(one.to_string()));
    m.ok("prune --keep-last 1 --force");
    assert_eq!(m.messages(), ["one", "three"]);
    m.stand_at(&Head::Branch("main".into()));
    m.ok("prune --keep-within 1h --force");
    assert_eq!(
        m.messages(),
        ["three"],
        "the branch that is checked out keeps its tip"
    );
}

#[test]
fn at_the_storage_what_homes_build_on_stays() {
    let m = MadeUp::new();
    m.snapshot("main", "one", 90);
    m.snapshot("main", "two", 80);
    m.ok("push");
    let other = m.another_home("other");
    for (message, hours) in [("three", 70), ("four", 60), ("five", 50)] {
        m.snapshot("main", message, hours);
    }
    m.ok("push");
    m.snapshot("main", "six", 1);
    let there = m.storage();
    let before = there.state().unwrap();
    let objects = m.json("prune --remote --keep-last 1 --dry-run");
    assert_eq!(there.state().unwrap().seq(), before.seq());
    let mine = m.home.settings().unwrap().home_id;
    let builds = |id: &str| format!("home {} builds on it", &id[..8]);
    let last = || "--keep-last 1".to_owned();
    assert_eq!(
        judged(&objects, &before),
        [
            (
                "five".into(),
                vec![last(), "tip of main".into(), builds(&mine)]
            ),
            ("four".into(), vec![]),
            ("three".into(), vec![]),
            ("two".into(), vec![builds(&other)]),
            ("one".into(), vec![]),
        ]
    );
    let answer = m.run("prune --remote --keep-last 1");
    let answer = m.zenith.shown(&answer);
    assert!(answer.contains("zenith gc --remote"), "{answer}");
    assert_eq!(messages(&there.state().unwrap()), ["two", "five"]);
    // Nothing went here, and the next push does not bring back what was deleted there.
    assert_eq!(m.messages().len(), 6);
    m.ok("push");
    assert_eq!(messages(&there.state().unwrap()), ["two", "five", "six"]);
}

#[test]
fn a_branch_that_went_from_the_storage_is_no_longer_noted_here() {
    let m = MadeUp::new();
    m.snapshot("main", "one", 90);
    m.snapshot("side", "s", 80);
    m.ok("push --branch side");
    m.ok("push");
    assert!(m.state().get_ref("remote/origin/side").is_some());
    m.ok("prune --remote --keep-within 1h --force");
    // This home builds on main, which it pushed last.
    let there = m.storage().state().unwrap();
    assert_eq!(messages(&there), ["one"]);
    assert_eq!(there.get_ref("branch/side"), None);
    assert_eq!(m.state().get_ref("remote/origin/side"), None);
    assert_eq!(m.messages(), ["one", "s"]);
}

#[test]
fn a_snapshot_is_deleted_at_the_storage() {
    let m = MadeUp::new();
    m.snapshot("side", "s1", 90);
    let s2 = m.snapshot("side", "s2", 80);
    m.ok("push --branch side");
    m.snapshot("main", "one", 70);
    let two = m.snapshot("main", "two", 60);
    m.ok("push");
    let there = m.storage();
    let at_storage = || messages(&there.state().unwrap());

    // What this home pushed last is what it builds on.
    let mine = m.home.settings().unwrap().home_id;
    for force in ["", " --force"] {
        let error = m.refused(&format!("snapshot delete main --remote{force}"), 1);
        assert!(error.contains(&format!("home {mine} builds on")), "{error}");
        assert!(
            error.contains(&format!("zenith home forget {mine} --remote")),
            "{error}"
        );
    }
    let error = m.refused("snapshot delete side --remote", 1);
    assert!(error.contains("branch `side`"), "{error}");
    assert!(at_storage() == ["s1", "s2", "one", "two"]);

    let object = &m.json("snapshot delete main~1 --remote --dry-run")[0];
    assert_eq!(object["dry_run"], true);
    assert!(at_storage() == ["s1", "s2", "one", "two"]);
    m.ok("snapshot delete main~1 --remote");
    assert_eq!(at_storage(), ["s1", "s2", "two"]);
    let answer = m.run("snapshot delete side --remote --force");
    let answer = m.zenith.shown(&answer);
    assert!(answer.contains("branch side steps back to"), "{answer}");
    assert!(answer.contains("warning: "), "{answer}");
    assert_eq!(at_storage(), ["s1", "two"]);
    // Here all is as it was, but for what is known of the storage.
    let here = m.state();
    assert_eq!(m.messages(), ["s1", "s2", "one", "two"]);
    assert_eq!(here.get_ref("branch/side"), Some(s2));
    assert_eq!(
        here.get_ref("remote/origin/side"),
        here.snapshot(&s2).unwrap().parents.first().copied()
    );
    assert_eq!(here.get_ref("remote/origin/main"), Some(two));
}

#[test]
fn a_dry_run_of_gc_says_what_would_be_condemned() {
    let m = MadeUp::new();
    for (message, hours) in [("one", 90), ("two", 80), ("three", 70)] {
        m.snapshot("main", message, hours);
    }
    m.ok("push");
    m.ok("snapshot delete main~1");
    let gone = m.storage();
    let two = gone.state().unwrap().snapshots().nth(1).unwrap().id;
    m.ok(&format!("snapshot delete {two} --remote"));
    for at in ["", " --remote"] {
        let answer = m.ok(&format!("gc --dry-run{at}"));
        assert!(answer.contains("would free nothing yet at "), "{answer}");
        assert!(answer.contains(" would be condemned"), "{answer}");
        let said = m.json(&format!("gc --dry-run{at}"));
        let done = m.json(&format!("gc{at}"));
        for field in ["condemned_packs", "condemned_bytes", "waiting_packs"] {
            assert_eq!(said[0][field], done[0][field], "{field}");
        }
        assert!(done[0]["condemned_packs"].as_u64() > Some(0), "{done:?}");
        let answer = m.ok(&format!("gc --dry-run{at}"));
        assert!(!answer.contains("condemned"), "{answer}");
    }
}

/// What a killed `sql` left is told of, and goes with the rest of what nobody uses.
#[test]
fn temporary_checkouts_of_killed_commands_go() {
    let m = MadeUp::new();
    let room = m.home.dir().join("tmp/0123456789abcdef");
    std::fs::create_dir_all(&room).unwrap();
    let status = m.ok("status");
    assert!(status.contains("1 temporary checkout of"), "{status}");
    assert_eq!(m.json("status")[0]["left_behind"], 1);
    m.ok("gc --dry-run");
    assert!(room.is_dir());
    m.ok("gc");
    assert!(!room.exists());
    assert_eq!(m.json("status")[0]["left_behind"], 0);
    assert!(!m.ok("status").contains("left behind"));
}
