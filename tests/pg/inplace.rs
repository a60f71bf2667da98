//! Moving a cluster from one snapshot to another, in place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zenith_testkit::{load, seed};

use crate::support::{Home, contents};

fn two_snapshots(home: &Home, scale: u32) -> (String, String) {
    home.init(&[]);
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), scale);
    let old = home.snapshot("old");
    home.sql(
        "update pgbench_accounts set abalance = abalance + 1 where aid % 20 = 0;\n\
         update pgbench_accounts set abalance = 0;\n\
         create table added as select generate_series(1, 1000) n",
    );
    let new = home.snapshot("new");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    (old, new)
}

#[test]
fn the_managed_cluster_moves_back_and_forth() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    home.zenith.ok(&["checkout", &old, "--force"]);
    home.start(&[]);
    assert_eq!(home.value("select to_regclass('added') is null"), "t");
    // The server runs: its cluster does not move under it.
    home.zenith.run(&["checkout", &new]).failed(4).hints();
    home.zenith.ok(&["stop", "--no-snapshot"]);
    home.zenith.ok(&["checkout", &new, "--force"]);
    home.start(&[]);
    assert_eq!(home.value("select count(*) from added"), "1000");
    home.zenith.ok(&["stop"]);
}

/// Changes that no snapshot holds are kept in one before the cluster moves.
#[test]
fn unsaved_changes_are_snapshotted_first() {
    let home = Home::new();
    let (old, _) = two_snapshots(&home, 1);
    home.start(&[]);
    home.sql("create table precious as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    home.zenith.ok(&["checkout", &old]);
    let safety = home
        .list()
        .into_iter()
        .find(|row| row["kind"] == "safety")
        .expect("a snapshot of what was there");
    let dir = home.place.arg("saved");
    home.zenith
        .ok(&["checkout", safety["id"].as_str().unwrap(), &dir]);
    assert_eq!(home.serve(&dir).value("select n from precious"), "1");
}

/// Even what was discarded by force comes back, with HEAD where it was.
#[test]
fn what_a_forced_checkout_discards_comes_back() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    home.start(&[]);
    home.sql("create table precious as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let head = || fs::read_to_string(home.zenith.home().join("HEAD")).unwrap();
    let before = head();
    let done = home.zenith.ok(&["checkout", &old, "--force"]);
    assert!(
        done.stdout.contains("`zenith undo` brings it back"),
        "{done}"
    );
    let branches = home.zenith.ok(&["--json", "branch"]).json();
    let named: Vec<_> = branches.iter().map(|b| (&b["name"], &b["id"])).collect();
    let (none, main) = ("(no branch)".into(), "main".into());
    assert_eq!(
        named,
        [(&none, &old.clone().into()), (&main, &new.clone().into())]
    );
    let kept = home.list();
    let kept = kept.iter().find(|row| row["kind"] == "safety").unwrap();
    assert_eq!(kept["refs"], serde_json::json!(["(undo)"]));
    assert_eq!(kept["parents"], serde_json::json!([new]));

    // The server is in the way, and what it did meanwhile is not lost either.
    home.start(&[]);
    assert_eq!(home.value("select to_regclass('added') is null"), "t");
    home.sql("create table meanwhile as select 1 n");
    home.zenith.run(&["undo"]).failed(4).hints();
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let dry = home.zenith.ok(&["undo", "--dry-run"]);
    assert!(dry.stdout.contains("the cluster would be back"), "{dry}");
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("on main"), "{undone}");
    assert!(undone.stdout.contains("(on from-"), "{undone}");
    assert_eq!(head(), before);
    home.start(&[]);
    assert_eq!(home.value("select n from precious"), "1");
    home.snapshot("precious");
    let log = home.zenith.ok(&["--json", "log", "-n", "2"]).json();
    assert_eq!(
        log[1]["id"],
        new.as_str(),
        "the branch goes on from where it was"
    );
    home.zenith.ok(&["stop"]);

    // What is to be free is free.
    home.zenith.ok(&["gc", "--now"]);
    let kinds: Vec<_> = home.list().iter().map(|row| row["kind"].clone()).collect();
    let safety = kinds.iter().filter(|kind| *kind == "safety").count();
    assert_eq!(safety, 1, "that on from-: {kinds:?}");
}

/// What one command did is one operation: the cluster goes back, and the branch goes.
#[test]
fn what_a_forced_checkout_onto_a_new_branch_discards_comes_back() {
    let home = Home::new();
    let (old, _) = two_snapshots(&home, 1);
    home.start(&[]);
    home.sql("create table precious as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let head = || fs::read_to_string(home.zenith.home().join("HEAD")).unwrap();
    let before = head();
    home.zenith.ok(&["checkout", "-b", "try", &old, "--force"]);
    let dry = home.zenith.ok(&["undo", "--dry-run"]);
    assert!(dry.stdout.contains("the cluster would be back"), "{dry}");
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("on main"), "{undone}");
    assert!(undone.stdout.contains("branch try is gone"), "{undone}");
    assert_eq!(head(), before);
    home.start(&[]);
    assert_eq!(home.value("select n from precious"), "1");
    home.zenith.ok(&["stop"]);
}

/// A checkout that has nothing to save is an operation, too, and goes back and forth.
#[test]
fn a_plain_checkout_is_undone() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    // From here on the cluster is what its snapshot holds.
    home.zenith.ok(&["checkout", "main", "--force"]);
    let head = || fs::read_to_string(home.zenith.home().join("HEAD")).unwrap();
    let logged = || {
        home.zenith
            .ok(&["--json", "op", "log", "-n", "1"])
            .json()
            .remove(0)
    };
    let tables = |want: &str| {
        home.start(&["--no-push"]);
        assert_eq!(home.value("select to_regclass('added') is null"), want);
        home.zenith.ok(&["stop", "--no-snapshot"]);
    };
    let on_main = head();
    home.zenith.ok(&["checkout", &old]);
    let detached = head();
    let operation = logged();
    assert_eq!(
        (&operation["verb"], &operation["head"]),
        (
            &"checkout".into(),
            &serde_json::json!({
                "from": "branch/main", "to": old, "cluster_from": new, "cluster_to": old,
            })
        )
    );
    let number = operation["number"].to_string();
    // The same once more goes nowhere.
    home.zenith.ok(&["checkout", &old]);
    assert_eq!(logged()["number"], operation["number"]);

    // What is new there is kept, and is where an undo of the undo goes back to.
    home.start(&["--no-push"]);
    home.sql("create table meanwhile as select 1 n");
    home.zenith.run(&["undo"]).failed(4).hints();
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let dry = home.zenith.ok(&["undo", "--dry-run"]);
    assert!(dry.stdout.contains("the cluster would be back"), "{dry}");
    assert_eq!(head(), detached);
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("on main"), "{undone}");
    assert_eq!(head(), on_main);
    tables("f");
    // The way back of one that was gone already is no other's.
    let again = home.zenith.run(&["undo", &number]).failed(4);
    assert!(again.stderr.contains("was moved since"), "{again}");
    home.zenith.ok(&["undo"]);
    assert_eq!(head(), format!("ref: branch/from-{}\n", &old[..8]));
    home.start(&["--no-push"]);
    assert_eq!(home.value("select n from meanwhile"), "1");
    home.zenith.ok(&["stop", "--no-snapshot"]);

    // With the branch that was made for it.
    home.zenith.ok(&["checkout", "main"]);
    home.zenith.ok(&["checkout", "-b", "try", &old]);
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("branch try is gone"), "{undone}");
    assert_eq!(head(), on_main);
    // Under a server nothing of it is undone.
    home.start(&["--no-push"]);
    home.zenith.run(&["undo"]).failed(4).hints();
    let branches = home.zenith.ok(&["branch"]).stdout;
    assert!(!branches.contains("try"), "{branches}");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("branch try is back"), "{undone}");
    assert_eq!(head(), "ref: branch/try\n");
    tables("t");
    // What is new there does not go onto the branch that goes.
    home.start(&["--no-push"]);
    home.sql("create table meanwhile as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("branch try is gone"), "{undone}");
    assert!(undone.stdout.contains("(on saved-"), "{undone}");
    assert_eq!(head(), on_main);
    tables("f");
}

/// What was cut off before the operation log was told is told by who completes it.
#[test]
fn a_checkout_that_was_cut_off_at_its_end_is_logged() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    home.zenith.ok(&["checkout", "main", "--force"]);
    home.zenith.ok(&["checkout", &old]);
    let logged = || {
        home.zenith
            .ok(&["--json", "op", "log", "-n", "1"])
            .json()
            .remove(0)
    };
    let first = logged();
    // As it was between the last step and the log.
    let journal = format!(
        "dir = \"{}\"\nsnapshot = \"{old}\"\nhead = \"{old}\"\nfrom_head = \"ref: branch/main\"\n\
         from = \"{new}\"\nstep = \"placing\"\n",
        home.zenith.home().join("pgdata").display()
    );
    let path = home.zenith.home().join("journal");
    fs::write(&path, &journal).unwrap();
    zenith_testkit::user::give(&path);
    home.zenith.run(&["start"]).failed(4).hints();
    home.zenith.ok(&["checkout", &old]);
    assert!(!path.exists());
    let again = logged();
    assert!(again["number"].as_u64() > first["number"].as_u64());
    assert_eq!(again["head"], first["head"]);
    // One that goes elsewhere completes it first.
    fs::write(&path, &journal).unwrap();
    zenith_testkit::user::give(&path);
    home.zenith.ok(&["checkout", "main"]);
    let log = home.zenith.ok(&["--json", "op", "log", "-n", "2"]).json();
    assert_eq!(log[1]["head"], first["head"]);
    assert_eq!(log[0]["head"]["to"], "branch/main");
    assert!(!path.exists());
}

/// A pull that discards what was there is undone as a whole, too.
#[test]
fn what_a_forced_pull_discards_comes_back() {
    let home = Home::new();
    let (old, _) = two_snapshots(&home, 1);
    home.zenith.ok(&["push"]);
    home.zenith.ok(&["checkout", &old]);
    // Somebody else went on with the branch.
    home.zenith.ok(&["branch", "-d", "main", "--force"]);
    home.zenith.ok(&["branch", "main", &old]);
    home.zenith.ok(&["checkout", "main", "--force"]);
    home.start(&["--no-push"]);
    home.sql("create table precious as select 1 n");
    home.zenith.ok(&["stop", "--no-snapshot"]);
    let done = home.zenith.ok(&["pull", "--force"]);
    assert!(
        done.stdout.contains("`zenith undo` brings it back"),
        "{done}"
    );
    let dry = home.zenith.ok(&["undo", "--dry-run"]);
    assert!(dry.stdout.contains("the cluster would be back"), "{dry}");
    let undone = home.zenith.ok(&["undo"]);
    assert!(undone.stdout.contains("on main"), "{undone}");
    assert!(
        undone
            .stdout
            .contains(&format!("branch main is back at {}", &old[..8])),
        "{undone}"
    );
    home.start(&[]);
    assert_eq!(home.value("select n from precious"), "1");
    home.zenith.ok(&["stop", "--no-snapshot"]);
}

/// Each reset saves what it leaves, and nothing where it leaves nothing.
#[test]
fn one_reset_after_another_saves_what_is_new() {
    let home = Home::new();
    let (_, new) = two_snapshots(&home, 1);
    let head = || fs::read_to_string(home.zenith.home().join("HEAD")).unwrap();
    let before = head();
    // However the place is spelled, this is the managed cluster.
    let spelled = home.zenith.home().join("../.zenith/pgdata");
    let spelled = spelled.to_str().unwrap();
    let reset = |more: &[&str]| {
        let mut args = vec!["checkout"];
        args.extend(more);
        home.zenith.ok(&args)
    };
    let change = |table: &str| {
        home.start(&[]);
        home.sql(&format!("create table {table} as select 1 n"));
        home.zenith.ok(&["stop", "--no-snapshot"]);
    };
    change("one");
    let done = reset(&["@"]);
    let saved = format!("(on saved-{})", &new[..8]);
    assert!(done.stdout.contains(&saved), "{done}");
    assert_eq!(head(), before, "@ is HEAD");
    for args in [&["main"][..], &["main", spelled], &["@", "--dry-run"]] {
        let done = reset(args);
        assert!(!done.stdout.contains("(on saved-"), "{done}");
    }
    change("two");
    let done = reset(&["main", spelled]);
    let saved = format!("(on saved-{}-2)", &new[..8]);
    assert!(done.stdout.contains(&saved), "{done}");
    assert_eq!(head(), before);
}

/// A cluster that crashed cannot be kept; who forces it all the same is told.
#[test]
fn what_cannot_be_kept_is_said() {
    let home = Home::new();
    let (old, _) = two_snapshots(&home, 1);
    home.start(&[]);
    home.sql("create table precious as select 1 n");
    home.zenith.ok(&["stop", "--mode", "immediate"]);
    home.zenith.run(&["checkout", &old]).failed(1).hints();
    let done = home.zenith.ok(&["checkout", &old, "--force"]);
    assert!(done.stderr.contains("cannot be brought back"), "{done}");
    home.start(&[]);
    assert_eq!(home.value("select to_regclass('precious') is null"), "t");
    home.zenith.ok(&["stop"]);
}

/// A copy that was only looked at moves; one in which something happened takes force.
#[test]
fn a_copy_that_was_changed_is_not_moved_over() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    let dir = home.place.arg("copy");
    home.zenith.ok(&["checkout", &new, &dir]);
    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from added"), "1000");
    copy.stop();
    home.zenith.ok(&["checkout", &old, &dir]);
    let copy = home.serve(&dir);
    home.zenith.run(&["checkout", &new, &dir]).failed(4).hints();
    copy.sql("create table mine as select 1 n");
    copy.stop();
    let refused = home.zenith.run(&["checkout", &new, &dir]).failed(1).hints();
    assert!(refused.stderr.contains("was changed since"), "{refused}");
    home.zenith
        .ok(&["snapshot", "create", "--pgdata", &dir, "--branch", "mine"]);
    home.zenith.ok(&["checkout", &new, &dir, "--force"]);
    let other = home.place.arg("other");
    home.zenith.ok(&["checkout", "mine", &other]);
    assert_eq!(home.serve(&other).value("select n from mine"), "1");
    // Settings are changes, too.
    let conf = Path::new(&dir).join("postgresql.conf");
    fs::write(
        &conf,
        format!("{}\nwork_mem = '5MB'\n", fs::read_to_string(&conf).unwrap()),
    )
    .unwrap();
    home.zenith.run(&["checkout", &old, &dir]).failed(1).hints();
}

/// Only what differs is rewritten, and what should not be there goes.
#[test]
fn an_older_checkout_is_moved_in_place() {
    let home = Home::new();
    let (old, new) = two_snapshots(&home, 1);
    let (dir, fresh) = (home.place.arg("copy"), home.place.arg("fresh"));
    home.zenith.ok(&["checkout", &old, &dir]);
    let untouched = Path::new(&dir).join("base/1/PG_VERSION");
    let inode = fs::metadata(&untouched).unwrap().ino();
    let changed = fs::metadata(&untouched).unwrap().mtime_nsec();
    let stray = Path::new(&dir).join("base/1/999999");
    fs::write(&stray, b"stray").unwrap();

    home.zenith.ok(&["checkout", &new, &dir]);
    let meta = fs::metadata(&untouched).unwrap();
    assert_eq!(
        (meta.ino(), meta.mtime_nsec()),
        (inode, changed),
        "it was rewritten"
    );
    assert!(!stray.exists(), "a stray file stayed");

    // Byte for byte what a checkout into a new directory gives.
    home.zenith.ok(&["checkout", &new, &fresh]);
    let relative = |dir: &str| -> Vec<_> {
        contents(Path::new(dir))
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes))
            .filter(|(path, _)| !path.ends_with("zenith.checkout"))
            .collect()
    };
    let (moved, new_made) = (relative(&dir), relative(&fresh));
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(names(&moved), names(&new_made));
    let differing: Vec<_> = moved
        .iter()
        .zip(&new_made)
        .filter(|(a, b)| a != b)
        .map(|(a, _)| a.0.clone())
        .collect();
    assert!(differing.is_empty(), "{differing:?}");
    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from added"), "1000");
    load::amcheck(&home.programs, home.place.path(), &copy.connection());
}

/// kill -9 in the middle: start and snapshot refuse, the same command resumes.
#[test]
fn an_interrupted_move_is_resumed() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let home = Home::alone();
    let (old, new) = two_snapshots(&home, 3);
    let pgdata = home.pgdata();
    let mut half_done = 0;
    let mut target = &old;
    let mut other = &new;
    // Measured once, so that the kills fall into the work.
    let whole = home.zenith.ok(&["checkout", target, "--force"]).elapsed;
    std::mem::swap(&mut target, &mut other);
    for round in 0..40 {
        if half_done >= 5 {
            break;
        }
        let running = home.zenith.spawn(&["checkout", target, "--force"]);
        std::thread::sleep(whole.mul_f64(random.random_range(0.05..1.0)));
        let killed = running.kill9();
        let control = pgdata.join("global/pg_control");
        if killed.code.is_some() || control.exists() {
            // It was done, or had not begun: the command simply works.
            home.zenith.ok(&["checkout", target, "--force"]);
        } else {
            half_done += 1;
            let said = format!("round {round}, ZENITH_SEED={seed}");
            // Nobody may mistake it for a cluster.
            let refused = home.zenith.run(&["start"]).failed(4).hints();
            assert!(refused.stderr.contains("checkout"), "{said}\n{refused}");
            home.zenith.run(&["snapshot", "create"]).failed(4).hints();
            let direct =
                zenith_testkit::Server::try_start(&home.place, &home.programs, &pgdata, "");
            assert!(
                direct.is_err(),
                "the server started on half a cluster: {said}"
            );
            home.zenith.ok(&["checkout", target, "--force"]);
        }
        home.start(&[]);
        let expect = if target == &new { "f" } else { "t" };
        assert_eq!(home.value("select to_regclass('added') is null"), expect);
        assert_eq!(
            home.value("select count(*) from pgbench_accounts"),
            "300000"
        );
        home.zenith.ok(&["stop", "--no-snapshot"]);
        std::mem::swap(&mut target, &mut other);
    }
    assert!(
        half_done > 0,
        "no kill fell into the middle, ZENITH_SEED={seed}"
    );
    home.start(&[]);
    load::amcheck(&home.programs, home.place.path(), &home.connection());
    home.zenith.ok(&["stop"]);
}
