//! `zenith branch`, `zenith tag` and `zenith home`.

use insta::assert_snapshot;
use zenith::head::Head;
use zenith::store::SnapshotId;

use crate::made_up::MadeUp;

/// `main` with three snapshots, `side` with one more after the first.
fn forked() -> (MadeUp, [SnapshotId; 4]) {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 90);
    m.name("branch/side", one);
    let two = m.snapshot("main", "two", 3);
    let three = m.snapshot("main", "three", 1);
    let side = m.snapshot("side", "aside", 2);
    (m, [one, two, three, side])
}

#[test]
fn lists() {
    let m = MadeUp::new();
    assert_snapshot!(m.transcript("branch"), @r"
    $ zenith branch
      BRANCH  ID  AGE  MESSAGE
    ● main    -   -    (no snapshot yet)
    --- exit 0
    ");
    assert_snapshot!(m.transcript("tag"), @r"
    $ zenith tag
    --- stderr
    no tags
    --- exit 0
    ");
    let (m, [one, ..]) = forked();
    m.ok("push");
    m.name("tag/v1", one);
    assert_snapshot!(m.transcript("branch"), @r"
    $ zenith branch
      BRANCH  ID        AGE  MESSAGE
    ● main    three___  1 h  three
      side    aside___  2 h  aside
    --- exit 0
    ");
    assert_snapshot!(m.transcript("branch --all"), @r"
    $ zenith branch --all
      BRANCH       ID        AGE  MESSAGE
    ● main         three___  1 h  three
      side         aside___  2 h  aside
      origin/main  three___  1 h  three
    --- exit 0
    ");
    assert_snapshot!(m.transcript("branch --remote"), @r"
    $ zenith branch --remote
    BRANCH  ID        AGE  MESSAGE
    main    three___  1 h  three
    --- stderr
    DIR/storage
    --- exit 0
    ");
    assert_snapshot!(m.transcript("tag"), @r"
    $ zenith tag
    TAG  ID        AGE     MESSAGE
    v1   one_____  3 days  one
    --- exit 0
    ");
    m.stand_at(&Head::Detached(one.to_string()));
    assert_snapshot!(m.transcript("branch"), @r"
    $ zenith branch
      BRANCH       ID        AGE     MESSAGE
    ● (no branch)  one_____  3 days  one
      main         three___  1 h     three
      side         aside___  2 h     aside
    --- exit 0
    ");
    let objects = m.json("branch --all");
    let names: Vec<_> = objects
        .iter()
        .map(|o| (o["type"].as_str().unwrap(), o["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("branch", "(no branch)"),
            ("branch", "main"),
            ("branch", "side"),
            ("tracking_branch", "origin/main"),
        ]
    );
    assert_eq!(objects[0]["id"], one.to_string());
    assert_eq!(m.json("tag")[0]["id"], one.to_string());
}

#[test]
fn what_is_created() {
    let (m, [one, two, three, _]) = forked();
    assert_snapshot!(m.transcript("branch new"), @r"
    $ zenith branch new
    branch new at three___
    --- stderr
    `zenith checkout new` moves there
    --- exit 0
    ");
    assert_snapshot!(m.transcript("tag v1.0 main~2"), @r"
    $ zenith tag v1.0 main~2
    tag v1.0 at one_____
    --- exit 0
    ");
    m.ok("branch other side~1");
    assert_eq!(m.at("branch/new"), Some(three));
    assert_eq!(m.at("tag/v1.0"), Some(one));
    assert_eq!(m.at("branch/other"), Some(one));
    let object = &m.json("branch dry main~1 --dry-run")[0];
    assert_eq!(
        (&object["id"], &object["dry_run"]),
        (&two.to_string().into(), &true.into())
    );
    assert_eq!(m.at("branch/dry"), None);

    // HEAD did not move, and the next snapshot goes where it would have gone.
    assert_eq!(m.home.head().unwrap(), Head::Branch("main".into()));
    assert_snapshot!(m.transcript("branch main"), @r"
    $ zenith branch main
    --- stderr
    error: there is a branch `main` already, at three___

    hint: Take another name; `zenith branch` lists those that are taken.
    --- exit 4
    ");
    assert_snapshot!(m.transcript("tag v1.0 --dry-run"), @r"
    $ zenith tag v1.0 --dry-run
    --- stderr
    error: there is a tag `v1.0` already, at one_____

    hint: Take another name; `zenith tag` lists those that are taken.
    --- exit 4
    ");
    assert_snapshot!(m.transcript("branch x mian"), @r"
    $ zenith branch x mian
    --- stderr
    error: no branch, tag or snapshot is called `mian`

    hint: Did you mean `main`? `zenith branch` lists branches, `zenith snapshot list --all` every snapshot.
    --- exit 1
    ");
    for name in [
        "a@b",
        "a~1",
        "HEAD",
        "deadbeef",
        &one.short(),
        &one.to_string(),
        "a..b/.c",
    ] {
        for line in [format!("branch {name}"), format!("tag {name}")] {
            let error = m.refused(&line, 1);
            assert!(error.contains("cannot be the name"), "{error}");
        }
        let error = m.refused(&format!("checkout -b {name} main"), 1);
        assert!(error.contains("cannot be the name"), "{error}");
    }
    let output = m.run("branch --json new2 nowhere");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["kind"], "not_found");
}

#[test]
fn branches_are_deleted_with_care() {
    let (m, [one, _, three, side]) = forked();
    let seq = || m.state().seq();
    let before = seq();
    assert_snapshot!(m.transcript("branch -d main"), @r"
    $ zenith branch -d main
    --- stderr
    error: branch `main` is checked out

    hint: Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("branch -d main --force"), @r"
    $ zenith branch -d main --force
    --- stderr
    error: branch `main` is checked out

    hint: Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("branch -d side"), @r"
    $ zenith branch -d side
    --- stderr
    error: nothing but branch `side` leads to 1 of its snapshots, aside___ the newest

    hint: `zenith branch -d --force side` deletes it all the same; `zenith tag NAME side` keeps a name for them.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("branch -d sied"), @r"
    $ zenith branch -d sied
    --- stderr
    error: no branch is called `sied`

    hint: Did you mean `side`? `zenith branch` lists those that are here, `zenith branch --remote` those of the storage.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("branch -d side --force --dry-run"), @r"
    $ zenith branch -d side --force --dry-run
    would delete branch side  (it was at aside___)
    --- stderr
    nothing else leads to 1 snapshot: the next prune may take it
    --- exit 0
    ");
    assert_eq!(seq(), before);

    // What a tag, another branch or the storage has is not lost.
    m.name("branch/old", one);
    assert_snapshot!(m.transcript("branch -d old"), @r"
    $ zenith branch -d old
    deleted branch old  (it was at one_____)
    --- stderr
    `zenith undo` brings it back, and later `zenith branch old one_____` makes it again
    --- exit 0
    ");
    m.name("tag/keep", side);
    m.ok("branch -d side");
    m.ok("branch side keep");
    m.ok("tag -d keep");
    m.ok("push --branch side");
    m.ok("branch -d side");
    assert_eq!(m.at("branch/side"), None);
    m.name("branch/side", side);
    m.name("branch/lone", m.snapshot("lone", "alone", 1));
    let object = &m.json("branch -d lone --force")[0];
    assert_eq!(
        (&object["type"], &object["left"]),
        (&"branch_deleted".into(), &1.into())
    );
    assert_eq!(m.state().operation().verb, "branch -d");
    // The snapshot stays, and the way back is the one that was said.
    assert!(m.messages().contains(&"alone".to_owned()));
    assert_eq!(m.at("branch/main"), Some(three));
}

#[test]
fn tags_are_renamed() {
    let (m, [one, ..]) = forked();
    m.name("tag/v1", one);
    assert_snapshot!(m.transcript("tag -m v1 v1.0 --dry-run"), @r"
    $ zenith tag -m v1 v1.0 --dry-run
    would rename tag v1 to v1.0  (at one_____)
    --- exit 0
    ");
    assert_eq!(m.at("tag/v1"), Some(one));
    assert_snapshot!(m.transcript("tag -m v1 v1.0"), @r"
    $ zenith tag -m v1 v1.0
    renamed tag v1 to v1.0  (at one_____)
    --- exit 0
    ");
    assert_eq!((m.at("tag/v1"), m.at("tag/v1.0")), (None, Some(one)));
    assert_eq!(m.state().operation().verb, "tag -m");
    m.name("tag/v2", one);
    let taken = m.run("tag -m v2 v1.0");
    assert_eq!(taken.status.code(), Some(4), "{}", m.zenith.shown(&taken));
    m.refused("tag -m v3 v4", 1);
    m.refused("tag -m v2", 2);
    m.ok("tag -d v2");
    m.ok("undo");
    m.ok("tag -m v2 v3");
    m.ok("undo");
    assert_eq!((m.at("tag/v2"), m.at("tag/v3")), (Some(one), None));
}

/// HEAD goes with its branch by one operation, and back.
#[test]
fn the_branch_of_head_is_renamed_as_one() {
    let (m, [_, _, three, _]) = forked();
    let on = |branch: &str, other: &str| {
        let at = (
            m.at(&format!("branch/{branch}")),
            m.at(&format!("branch/{other}")),
        );
        assert_eq!(at, (Some(three), None));
        assert_eq!(m.home.head().unwrap(), Head::Branch(branch.into()));
        assert_eq!(m.home.settings().unwrap().branch, branch);
        assert!(!m.home.dir().join("HEAD.next").exists());
    };
    let before = m.state().seq();
    m.ok("branch -m trunk");
    assert_eq!(m.state().seq(), before + 1);
    on("trunk", "main");
    let moved = &m.json("op log")[0]["head"];
    assert_eq!(
        (&moved["from"], &moved["to"], &moved["cluster_to"]),
        (
            &"branch/main".into(),
            &"branch/trunk".into(),
            &serde_json::Value::Null
        )
    );
    assert!(m.ok("op log -n 1").contains("HEAD: main → trunk"));
    m.ok("undo --dry-run");
    on("trunk", "main");
    let undone = m.run("undo");
    assert_eq!(undone.status.code(), Some(0), "{}", m.zenith.shown(&undone));
    let said = String::from_utf8(undone.stderr).unwrap();
    assert!(said.contains("HEAD is on main again"), "{said}");
    on("main", "trunk");
    m.ok("undo");
    on("trunk", "main");
    // Where HEAD is elsewhere by now only the branch goes back.
    m.ok("branch -m main");
    m.stand_at(&Head::Detached(three.to_string()));
    m.ok("undo");
    assert_eq!(
        (m.at("branch/main"), m.at("branch/trunk")),
        (None, Some(three))
    );
    assert_eq!(m.home.head().unwrap(), Head::Detached(three.to_string()));
}

/// HEAD never names a branch that is not there, wherever a rename stops.
#[test]
fn a_rename_that_was_cut_off_goes_on() {
    let (m, [_, _, three, _]) = forked();
    let next = m.home.dir().join("HEAD.next");
    let head = || m.home.head().unwrap();
    // Before the commit.
    std::fs::write(&next, "ref: branch/trunk\n").unwrap();
    assert_eq!(head(), Head::Branch("main".into()));
    m.ok("branch -m side beside");
    assert_eq!(head(), Head::Branch("main".into()));
    // After it.
    m.ok("branch trunk main");
    m.stand_at(&Head::Branch("beside".into()));
    m.ok("branch -d main");
    std::fs::write(m.home.dir().join("HEAD"), "ref: branch/main\n").unwrap();
    std::fs::write(&next, "ref: branch/trunk\n").unwrap();
    assert_eq!(head(), Head::Branch("trunk".into()));
    assert_eq!(m.json("log HEAD")[0]["id"], three.to_string());
    m.ok("branch -m main trunk");
    assert_eq!(m.home.settings().unwrap().branch, "trunk");
    assert!(!next.exists());
    assert_eq!(head(), Head::Branch("trunk".into()));
    let done = std::fs::read_to_string(m.home.dir().join("HEAD")).unwrap();
    assert_eq!(done, "ref: branch/trunk\n");
}

#[test]
fn branches_are_renamed() {
    let (m, [_, _, three, side]) = forked();
    let before = m.state().seq();
    assert_snapshot!(m.transcript("branch -m side aside --dry-run"), @r"
    $ zenith branch -m side aside --dry-run
    would rename branch side to aside  (at aside___)
    --- exit 0
    ");
    assert_eq!(m.state().seq(), before);
    m.ok("branch -m side aside");
    assert_eq!(m.state().seq(), before + 1);
    assert_eq!(
        (m.at("branch/side"), m.at("branch/aside")),
        (None, Some(side))
    );

    m.ok("push");
    assert_snapshot!(m.transcript("branch -m trunk"), @r"
    $ zenith branch -m trunk
    renamed branch main to trunk  (at three___)
    --- stderr
    the storage still has main; `zenith branch -d main --remote` deletes it there once trunk is pushed
    --- exit 0
    ");
    assert_eq!(
        (m.at("branch/main"), m.at("branch/trunk")),
        (None, Some(three))
    );
    assert_eq!(m.home.head().unwrap(), Head::Branch("trunk".into()));
    assert_eq!(m.home.settings().unwrap().branch, "trunk");

    m.ok("branch -m trunk main");
    assert_snapshot!(m.transcript("branch -m aside main"), @r"
    $ zenith branch -m aside main
    --- stderr
    error: there is a branch `main` already, at three___

    hint: Take another name; `zenith branch` lists those that are taken.
    --- exit 4
    ");
    assert_snapshot!(m.transcript("branch -m main main"), @r"
    $ zenith branch -m main main
    --- stderr
    error: there is a branch `main` already, at three___

    hint: Take another name; `zenith branch` lists those that are taken.
    --- exit 4
    ");
    m.refused("branch -m main deadbeef", 1);
    m.refused("branch -m nowhere x", 1);
    m.stand_at(&Head::Detached(three.to_string()));
    assert_snapshot!(m.transcript("branch -m x"), @r"
    $ zenith branch -m x
    --- stderr
    error: HEAD is at three___ without a branch to rename

    hint: Name both: `zenith branch -m OLD x`.
    --- exit 2
    ");
}

#[test]
fn tags_are_deleted() {
    let (m, [one, ..]) = forked();
    m.name("tag/v1", one);
    assert_snapshot!(m.transcript("tag -d v2"), @r"
    $ zenith tag -d v2
    --- stderr
    error: no tag is called `v2`

    hint: Did you mean `v1`? `zenith tag` lists what there is.
    --- exit 1
    ");
    assert_snapshot!(m.transcript("tag -d v1 --dry-run"), @r"
    $ zenith tag -d v1 --dry-run
    would delete tag v1  (it was at one_____)
    --- exit 0
    ");
    assert_eq!(m.at("tag/v1"), Some(one));
    assert_snapshot!(m.transcript("tag -d v1"), @r"
    $ zenith tag -d v1
    deleted tag v1  (it was at one_____)
    --- stderr
    `zenith undo` brings it back, and later `zenith tag v1 one_____` makes it again
    --- exit 0
    ");
    assert_eq!(m.at("tag/v1"), None);
    m.refused("tag -d main", 1);
}

#[test]
fn a_branch_is_deleted_at_the_storage() {
    let (m, [one, ..]) = forked();
    m.ok("push --branch side");
    m.ok("push");
    let there = m.storage();
    let at = |name: &str| there.state().unwrap().get_ref(name);
    assert_snapshot!(m.transcript("branch -d side --remote"), @r"
    $ zenith branch -d side --remote
    --- stderr
    error: nothing but branch `side` leads to 1 of its snapshots, aside___ the newest

    hint: `zenith branch -d --force side --remote` deletes it all the same.
    --- exit 1
    ");
    m.ok("branch -d side --remote --force --dry-run");
    assert!(at("branch/side").is_some());
    assert_snapshot!(m.transcript("branch -d side --remote --force"), @r"
    $ zenith branch -d side --remote --force
    deleted branch side at DIR/storage  (it was at aside___)
    --- stderr
    warning: branch side is here too: the agent, or the next `zenith stop`, sends it again, unless `zenith branch -d side` deletes it here first
    `zenith undo --remote` brings it back
    --- exit 0
    ");
    assert_eq!(at("branch/side"), None);
    assert_eq!(m.at("remote/origin/side"), None);
    assert!(m.at("branch/side").is_some());
    assert_snapshot!(m.transcript("branch -d side --remote"), @r"
    $ zenith branch -d side --remote
    --- stderr
    error: no branch is called `side`

    hint: `zenith branch` lists those that are here, `zenith branch --remote` those of the storage.
    --- exit 1
    ");
    m.name("branch/old", one);
    m.ok("push --branch old");
    m.ok("branch -d old --remote");
    assert_eq!(at("branch/old"), None);
    assert_snapshot!(m.transcript("branch new --remote"), @r"
    $ zenith branch new --remote
    --- stderr
    error: a branch comes to the storage by a push

    hint: Run `zenith branch new`, then `zenith push --branch new`.
    --- exit 2
    ");
}

#[test]
fn homes_are_listed_and_forgotten() {
    let m = MadeUp::new();
    assert_snapshot!(m.transcript("home list"), @r"
    $ zenith home list
    --- stderr
    no home pushes here; --remote lists those of the storage
    --- exit 0
    ");
    assert_snapshot!(m.transcript("home list --remote"), @r"
    $ zenith home list --remote
    --- stderr
    no home has pushed there yet
    --- exit 0
    ");
    m.snapshot("main", "one", 90);
    m.ok("push");
    let other = m.another_home("other");
    m.snapshot("main", "two", 1);
    m.ok("push");
    let mine = m.home.settings().unwrap().home_id;
    let homes = || -> Vec<(String, bool)> {
        let one = |o: &serde_json::Value| {
            assert_eq!(o["type"], "home");
            (o["home"].as_str().unwrap().to_owned(), o["own"] == true)
        };
        let mut homes: Vec<_> = m.json("home list --remote").iter().map(one).collect();
        homes.sort_by_key(|(_, own)| *own);
        homes
    };
    assert_eq!(homes(), [(other.clone(), false), (mine.clone(), true)]);

    assert_snapshot!(m.transcript("home forget nobody --remote"), @r"
    $ zenith home forget nobody --remote
    --- stderr
    error: no home is called `nobody`

    hint: `zenith home list --remote` lists what there is.
    --- exit 1
    ");
    let error = m.refused(&format!("home forget {} --remote", &other[..2]), 1);
    assert!(
        error.contains("too short") || error.contains("ambiguous"),
        "{error}"
    );
    let dry = m.run(&format!("home forget {} --remote --dry-run", &other[..8]));
    assert!(dry.status.success() && homes().len() == 2);
    let forgot = m.run(&format!("home forget {} --remote", &other[..8]));
    let shown = m.zenith.shown(&forgot).replace(&other, "OTHER");
    assert!(
        shown.starts_with("forgot home OTHER  (it was at "),
        "{shown}"
    );
    assert!(
        shown.contains("warning: what home OTHER did not push yet"),
        "{shown}"
    );
    assert_eq!(homes(), [(mine, true)]);
    // What it built on is nobody's any more.
    m.ok("prune --remote --keep-last 1");
    assert_eq!(
        crate::made_up::messages(&m.storage().state().unwrap()),
        ["two"]
    );
}

/// A home has one journal; what waits for it makes nothing meanwhile.
#[test]
fn no_branch_is_made_for_a_checkout_that_cannot_begin() {
    let (m, [one, ..]) = forked();
    let pgdata = m.home.pgdata();
    std::fs::create_dir_all(pgdata.join("global")).unwrap();
    for name in ["PG_VERSION", "global/pg_control"] {
        std::fs::write(pgdata.join(name), "").unwrap();
    }
    let journal = format!("dir = \"/elsewhere\"\nsnapshot = \"{one}\"\nstep = \"placing\"\n");
    std::fs::write(m.home.dir().join("journal"), journal).unwrap();
    let refused = m.run("checkout -b new main --force");
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("/elsewhere"), "{error}");
    assert_eq!(m.at("branch/new"), None);
}
