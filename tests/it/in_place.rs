//! Moving an older checkout, or the managed cluster, to another snapshot.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use zenith::checkout::{self, CheckoutOptions, journal};
use zenith::event::Event;
use zenith::head::Head;
use zenith::{Error, marker::Marker};
use zenith_store::SnapshotId;
use zenith_testkit::Server;

use crate::fixture::{Fixture, assert_same_contents, is, torn};

struct Two {
    f: Fixture,
    ids: [SnapshotId; 2],
    fresh: [PathBuf; 2],
}

/// Two snapshots that differ in files, in chunks of files and in lengths of files.
fn two() -> Two {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select i, repeat('x', 100) x from generate_series(1, 50000) i");
    server.sql("create table gone as select generate_series(1, 5000) i");
    server.stop();
    let one = f.offline(&server.pgdata).unwrap().id;
    server.restart("");
    server.sql("update t set x = 'y' where i % 1000 = 0");
    server.sql("insert into t select i, 'z' from generate_series(1, 20000) i");
    server.sql("drop table gone");
    server.sql("create table come as select generate_series(1, 5000) i");
    server.sql("create database more");
    server.stop();
    let ids = [one, f.offline(&server.pgdata).unwrap().id];
    let fresh = [f.checkout(ids[0], "fresh0"), f.checkout(ids[1], "fresh1")];
    Two { f, ids, fresh }
}

#[test]
fn only_what_differs_is_written_and_the_rest_is_as_if_new() {
    let Two { f, ids, fresh } = two();
    let dir = f.checkout(ids[0], "b");
    let size = f.repo.snapshot(ids[1]).unwrap().size;
    let forth = f.in_place(ids[1], &dir).unwrap();
    assert_same_contents(&dir, &fresh[1]);
    assert!(
        forth.written_bytes < size * 2 / 3,
        "{} of {size}",
        forth.written_bytes
    );
    // Litter of all kinds goes away.
    fs::write(dir.join("litter"), "x").unwrap();
    fs::create_dir_all(dir.join("base/9/9")).unwrap();
    fs::write(dir.join("base/9/9/9"), "x").unwrap();
    symlink("/etc", dir.join("pg_tblspc/99")).unwrap();
    fs::remove_dir_all(dir.join("pg_xact")).unwrap();
    fs::write(dir.join("pg_xact"), "a file where a directory belongs").unwrap();
    fs::remove_file(dir.join("PG_VERSION")).unwrap();
    symlink("/etc/hostname", dir.join("PG_VERSION")).unwrap();
    fs::set_permissions(dir.join("postgresql.conf"), Permissions::from_mode(0o644)).unwrap();
    let linked = f.place.join("linked");
    fs::hard_link(dir.join("pg_hba.conf"), &linked).unwrap();
    fs::write(&linked, "theirs").unwrap();
    let back = f.in_place(ids[0], &dir).unwrap();
    assert_same_contents(&dir, &fresh[0]);
    assert_eq!(fs::read_to_string(&linked).unwrap(), "theirs");
    assert!(back.removed >= 4);
    assert!(fs::metadata("/etc/hostname").is_ok());
    let copy = Server::start(&f.place, &f.programs, &dir, "");
    assert_eq!(copy.value("select count(*) from gone"), "5000");
    is(f.in_place(ids[1], &dir), |e| {
        matches!(e, Error::ServerRunning { .. })
    });
    copy.stop();
    // What the server wrote meanwhile is undone as well.
    f.in_place(ids[1], &dir).unwrap();
    assert_same_contents(&dir, &fresh[1]);
    let copy = Server::start(&f.place, &f.programs, &dir, "");
    assert_eq!(copy.value("select count(*) from t"), "70000");
}

#[test]
fn what_the_file_cache_knows_is_not_even_read() {
    let Two { f, ids, fresh } = two();
    let dir = f.checkout(ids[0], "b");
    let size = f.repo.snapshot(ids[0]).unwrap().size;
    // Younger files are not trusted.
    std::thread::sleep(Duration::from_millis(2100));
    let first = f.in_place(ids[1], &dir).unwrap();
    assert!(first.compared_bytes > size / 2);
    let second = f.in_place(ids[0], &dir).unwrap();
    let (compared, before) = (second.compared_bytes, first.compared_bytes);
    assert!(compared < before / 2, "{compared} after {before}");
    assert_same_contents(&dir, &fresh[0]);
    // What somebody changed is seen all the same.
    let path = dir.join("base/1/PG_VERSION");
    fs::write(&path, "16\n").unwrap();
    f.in_place(ids[1], &dir).unwrap();
    assert_same_contents(&dir, &fresh[1]);
}

/// A flush of the disk takes long on a machine that writes much: there is one for what changed.
#[test]
fn what_did_not_change_is_not_brought_to_disk() {
    let Two { f, ids, fresh } = two();
    let dir = f.checkout(ids[0], "b");
    let options = CheckoutOptions {
        sync: true,
        ..f.checkout_options()
    };
    let go = |id| {
        let ignore = zenith::event::ignore;
        checkout::in_place(&f.repo, id, &dir, &f.home, &options, &ignore).unwrap()
    };
    assert!(go(ids[1]).synced > 5);
    assert_eq!(go(ids[1]).synced, 0);
    // A file that must go is a directory that changed; one that must come is both.
    fs::write(dir.join("base/litter"), "x").unwrap();
    assert_eq!(go(ids[1]).synced, 1);
    fs::remove_file(dir.join("base/1/PG_VERSION")).unwrap();
    assert_eq!(go(ids[1]).synced, 2);
    assert_same_contents(&dir, &fresh[1]);
}

#[test]
fn torn_at_any_moment_it_resumes_and_nothing_starts_before() {
    let Two { f, ids, fresh } = two();
    let dir = f.checkout(ids[0], "b");
    for (turn, stop_after) in [0, 1, 5, 50, 200, 400, 800].into_iter().enumerate() {
        let side = 1 - turn % 2;
        let to = ids[side];
        assert!(torn(stop_after, |on| {
            checkout::in_place(&f.repo, to, &dir, &f.home, &f.checkout_options(), on)
        }));
        assert!(!dir.join("global/pg_control").exists());
        let journal = checkout::pending(&f.home).unwrap().unwrap();
        assert_eq!(
            (journal.dir.as_path(), journal.snapshot),
            (dir.as_path(), to.to_string())
        );
        is(journal::refuse_pending(&f.home, &dir), |e| {
            matches!(e, Error::CheckoutPending { .. })
        });
        journal::refuse_pending(&f.home, &fresh[0]).unwrap();
        is(f.offline(&dir), |e| {
            matches!(e, Error::CheckoutPending { .. })
        });
        is(f.in_place(to, &fresh[0]), |e| {
            matches!(e, Error::CheckoutPending { .. })
        });
        assert!(Server::try_start(&f.place, &f.programs, &dir, "").is_err());
        f.in_place(to, &dir).unwrap();
        assert_same_contents(&dir, &fresh[side]);
        assert_eq!(checkout::pending(&f.home).unwrap(), None);
    }
}

#[test]
fn a_journal_left_after_the_last_step_is_only_removed() {
    let Two { f, ids, .. } = two();
    let dir = f.checkout(ids[0], "b");
    f.in_place(ids[1], &dir).unwrap();
    let (path, id) = (dir.display(), ids[1]);
    let text = format!("dir = \"{path}\"\nsnapshot = \"{id}\"\nstep = \"placing\"\n");
    fs::write(f.home.dir().join("journal"), text).unwrap();
    // A server that somebody started by hand wrote since; that must not be lost.
    fs::write(dir.join("written-since"), "x").unwrap();
    let lineage = Marker::read(&dir).unwrap().unwrap().lineage;
    let report = f.in_place(ids[1], &dir).unwrap();
    assert_eq!(
        (report.written_bytes, report.lineage.to_string()),
        (0, lineage)
    );
    assert!(dir.join("written-since").exists());
    assert_eq!(checkout::pending(&f.home).unwrap(), None);
}

#[test]
fn head_moves_with_the_cluster_and_as_the_interrupted_command_meant() {
    let Two { f, ids, .. } = two();
    let dir = f.checkout(ids[0], "b");
    let to = |head: Head| CheckoutOptions {
        head: Some(head),
        ..f.checkout_options()
    };
    let (main, side) = (Head::Branch("main".into()), Head::Branch("side".into()));
    f.home.set_head(&main).unwrap();
    assert!(torn(5, |on| {
        checkout::in_place(&f.repo, ids[1], &dir, &f.home, &to(side.clone()), on)
    }));
    assert_eq!(f.home.head().unwrap(), main);
    // As the hint says: by the id alone.
    let by_id = to(Head::Detached(ids[1].to_string()));
    let ignore = zenith::event::ignore;
    checkout::in_place(&f.repo, ids[1], &dir, &f.home, &by_id, &ignore).unwrap();
    assert_eq!(f.home.head().unwrap(), side);
    // Cut off when all was there but the end of the journal.
    let (path, id) = (dir.display(), ids[1]);
    let text =
        format!("dir = \"{path}\"\nsnapshot = \"{id}\"\nhead = \"{main}\"\nstep = \"placing\"\n");
    fs::write(f.home.dir().join("journal"), text).unwrap();
    checkout::in_place(&f.repo, ids[1], &dir, &f.home, &by_id, &ignore).unwrap();
    assert_eq!(f.home.head().unwrap(), main);
    assert_eq!(checkout::pending(&f.home).unwrap(), None);
    // And a new command moves it where it says.
    checkout::in_place(&f.repo, ids[0], &dir, &f.home, &to(side.clone()), &ignore).unwrap();
    assert_eq!(f.home.head().unwrap(), side);
}

#[test]
fn one_directory_is_filled_by_one_process_at_a_time() {
    let Two { f, ids, fresh } = two();
    let busy = |e: &Error| matches!(e, Error::TargetBusy { .. });
    let dir = f.place.join("b");
    let on = |event| {
        if let Event::Total { .. } = event {
            is(f.try_checkout(ids[0], &dir, &f.checkout_options()), busy);
            is(f.in_place(ids[0], &dir), busy);
        }
    };
    checkout::to_new(&f.repo, ids[0], &dir, &f.checkout_options(), &on).unwrap();
    assert_same_contents(&dir, &fresh[0]);
    let on = |event| {
        if let Event::Total { .. } = event {
            is(f.in_place(ids[1], &dir), busy);
        }
    };
    checkout::in_place(&f.repo, ids[1], &dir, &f.home, &f.checkout_options(), &on).unwrap();
    assert_same_contents(&dir, &fresh[1]);
}

#[test]
fn the_managed_cluster_may_be_missing() {
    let Two { f, ids, fresh } = two();
    let managed = f.home.pgdata();
    if zenith::pg::user::is_root() {
        // The server user must be able to get there, and is refused by name before anything is
        // done.
        is(f.in_place(ids[0], &managed), |e| {
            matches!(e, Error::Pg(zenith::pg::Error::CannotSearch { .. }))
        });
        assert_eq!(checkout::pending(&f.home).unwrap(), None);
        zenith_testkit::user::give(f.home.dir());
    }
    f.in_place(ids[0], &managed).unwrap();
    assert_same_contents(&managed, &fresh[0]);
    f.in_place(ids[1], &managed).unwrap();
    assert_same_contents(&managed, &fresh[1]);
}

#[test]
fn strangers_are_left_alone() {
    let Two { f, ids, .. } = two();
    for stranger in [f.place.join("a"), f.place.dir("empty")] {
        is(f.in_place(ids[0], &stranger), |e| {
            matches!(e, Error::TargetForeign { .. })
        });
    }
    assert!(f.place.join("a/global/pg_control").exists());
    assert_eq!(checkout::pending(&f.home).unwrap(), None);
}

#[test]
fn every_checkout_begins_a_lineage() {
    let Two { f, ids, .. } = two();
    let dir = f.checkout(ids[0], "b");
    let first = Marker::read(&dir).unwrap().unwrap();
    let report = f.in_place(ids[1], &dir).unwrap();
    let second = Marker::read(&dir).unwrap().unwrap();
    assert_eq!(second.lineage, report.lineage.to_string());
    assert!(first.lineage != second.lineage && second.snapshot == ids[1].to_string());
    assert_ne!(f.facts(ids[0]).lineage, report.lineage);
    // Snapshots of one cluster share one.
    assert_eq!(f.facts(ids[0]).lineage, f.facts(ids[1]).lineage);
}
