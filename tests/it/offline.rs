//! Stopped clusters and base backups in a directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use zenith::Error;
use zenith::checkout::{self, CheckoutOptions};
use zenith::event::ignore;
use zenith_store::Node;
use zenith_testkit::{Server, load};

use crate::fixture::{Fixture, assert_same_contents, is, torn};

#[test]
fn a_stopped_cluster_comes_back_with_its_rows() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 50000) i");
    server.sql("create unlogged table u as select 1 x");
    server.stop();
    let first = f.offline(&server.pgdata).unwrap();
    assert!(!first.unchanged && first.size > 20_000_000 && first.new_bytes < first.size / 3);
    let left_out: Vec<&str> = first.left_out.iter().map(|l| l.path.as_str()).collect();
    assert!(left_out.contains(&"postmaster.opts") && left_out.contains(&"pg_wal/*"));

    let again = f.offline(&server.pgdata).unwrap();
    assert!(again.unchanged && again.id == first.id && again.new_bytes == 0);

    let dir = f.checkout(first.id, "b");
    let copy = Server::start(&f.place, &f.programs, &dir, "");
    assert_eq!(copy.value("select count(*) from t"), "50000");
    assert_eq!(copy.value("select count(*) from u"), "1");
    assert_eq!(copy.value("show archive_mode"), "off");
    copy.stop();
    load::checksums(&f.programs, f.place.path(), &dir);
}

#[test]
fn brought_to_disk_it_is_the_same() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let one = f.offline(&server.pgdata).unwrap().id;
    server.restart("");
    server.sql("create table t as select 1 x");
    server.stop();
    let two = f.offline(&server.pgdata).unwrap().id;
    let options = CheckoutOptions {
        sync: true,
        ..f.checkout_options()
    };
    let dir = f.place.join("b");
    f.try_checkout(one, &dir, &options).unwrap();
    assert_same_contents(&dir, &f.checkout(one, "c"));
    checkout::in_place(&f.repo, two, &dir, &f.home, &options, &ignore).unwrap();
    assert_same_contents(&dir, &f.checkout(two, "d"));
}

#[test]
fn a_checkout_that_was_never_started_is_the_same_tree() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("alter system set work_mem = '8MB'");
    let online = f.online(&server.pgdata, &server.dsn()).unwrap();
    server.stop();
    let offline = f.offline(&server.pgdata).unwrap();
    for (id, name) in [(online.id, "b"), (offline.id, "c")] {
        let dir = f.checkout(id, name);
        let auto_conf = fs::read_to_string(dir.join("postgresql.auto.conf")).unwrap();
        assert!(auto_conf.contains("archive_mode = 'off'") && auto_conf.contains("8MB"));
        let mut options = f.options();
        (options.branch, options.parent) = (name.into(), Some(id));
        let again = zenith::snapshot::offline(&f.repo, &dir, &options, &ignore).unwrap();
        assert!(again.unchanged && again.id == id, "{name}");
    }
}

#[test]
fn what_is_not_at_rest_is_refused() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "");
    is(f.offline(&server.pgdata), |e| {
        matches!(e, Error::ServerRunning { .. })
    });
    server.kill9();
    is(
        f.offline(&server.pgdata),
        |e| matches!(e, Error::NotShutDown { state, .. } if state == "in production"),
    );
    is(f.offline(&f.place.join("nowhere")), |e| {
        matches!(e, Error::NoSuchPath { .. })
    });
    is(f.offline(&f.place.dir("empty")), |e| {
        matches!(e, Error::Pg(zenith::pg::Error::NotACluster { .. }))
    });
    assert_eq!(f.repo.state().unwrap().len(), 0);
}

#[test]
fn a_base_backup_with_its_wal_is_as_good() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "");
    server.sql("create table t as select generate_series(1, 1000) i");
    let backup = |name: &str, wal: &str| {
        let dir = f.place.join(name);
        let connection = server.connection();
        let args = ["-D", dir.to_str().unwrap(), "-X", wal, "-c", "fast"];
        let args = connection.iter().map(String::as_str).chain(args);
        f.programs.run("pg_basebackup", f.place.path(), args);
        dir
    };
    for (name, wal) in [("b", "stream"), ("c", "fetch")] {
        let dir = backup(name, wal);
        let report = f.offline(&dir).unwrap();
        let listing = f.listing(report.id);
        assert!(listing.contains_key("backup_label") && !listing.contains_key("backup_manifest"));
        let copy = f.checkout(report.id, &format!("{name}2"));
        let copy = Server::start(&f.place, &f.programs, &copy, "");
        assert_eq!(copy.value("select count(*) from t"), "1000");
        copy.stop();
    }
    let without = backup("d", "none");
    is(f.offline(&without), |e| {
        matches!(e, Error::BackupWithoutWal { .. })
    });
    // WAL that was never written is as bad as none.
    let cut = backup("e", "stream");
    for entry in fs::read_dir(cut.join("pg_wal")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, vec![0; bytes.len()]).unwrap();
        }
    }
    is(f.offline(&cut), |e| {
        matches!(e, Error::BackupWithoutWal { .. })
    });
}

#[test]
fn files_that_look_the_same_are_not_read_again() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table big as select generate_series(1, 200000) i");
    server.sql("create table small as select 1 x");
    server.stop();
    // Younger files are not trusted.
    std::thread::sleep(Duration::from_millis(2100));
    let first = f.offline(&server.pgdata).unwrap();
    server.restart("");
    server.sql("update small set x = 2");
    server.stop();
    let second = f.offline(&server.pgdata).unwrap();
    assert!(!second.unchanged);
    let (before, now) = (first.read_bytes, second.read_bytes);
    assert!(now < before / 3, "{now} of {before}");
    let mut options = f.options();
    (options.read_all, options.branch) = (true, "other".into());
    let all = zenith::snapshot::offline(&f.repo, &server.pgdata, &options, &ignore).unwrap();
    assert!(all.read_bytes >= before);
    // Reading everything gives what trusting gave.
    let tree = |id| f.repo.snapshot(id).unwrap().tree;
    assert_eq!(tree(all.id), tree(second.id));
}

#[test]
fn configuration_outside_comes_along() {
    let f = Fixture::new();
    let pgdata = Server::initdb(&f.place, "a", &f.programs);
    let etc = f.place.dir("etc");
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(pgdata.join(name), etc.join(name)).unwrap();
    }
    let conf = etc.join("postgresql.conf");
    let (dir, data) = (etc.display(), pgdata.display());
    let text = fs::read_to_string(&conf).unwrap()
        + &format!(
            "data_directory = '{data}'\nhba_file = '{dir}/pg_hba.conf'\n\
             ident_file = '{dir}/pg_ident.conf'\nwork_mem = '5MB'\ninclude_dir = 'conf.d'\n"
        );
    fs::write(&conf, text).unwrap();
    f.place.dir("etc/conf.d");
    let option = format!("-c config_file={}", conf.display());
    let server = Server::start(&f.place, &f.programs, &pgdata, &option);
    let online = f.online(&pgdata, &server.dsn()).unwrap();
    server.stop();
    let offline = f.offline(&pgdata).unwrap();
    for (id, name) in [(online.id, "b"), (offline.id, "c")] {
        assert_eq!(f.facts(id).outside_files.len(), 3, "{name}");
        let dir = f.checkout(id, name);
        let copy = Server::start(&f.place, &f.programs, &dir, "");
        assert_eq!(copy.value("show work_mem"), "5MB");
        assert_eq!(
            copy.value("show hba_file"),
            dir.join("pg_hba.conf").to_str().unwrap()
        );
        copy.stop();
    }
    assert!(
        !pgdata.join("postgresql.conf").exists(),
        "the original is only read"
    );
}

#[test]
fn odd_pages_are_named_and_kept() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 1000) i");
    let path = server.value("select pg_relation_filepath('t')");
    server.stop();
    // Where there are checksums it is damage.
    let dir = server.pgdata.to_str().unwrap();
    f.programs
        .run("pg_checksums", f.place.path(), ["--disable", "-D", dir]);
    let file = server.pgdata.join(&path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8192 + 10] |= 0x80;
    fs::write(&file, &bytes).unwrap();
    let report = f.offline(&server.pgdata).unwrap();
    let warning = report.warnings.iter().find(|w| w.contains(&path)).unwrap();
    assert!(
        warning.contains("page 1 ") && warning.contains("0x008"),
        "{warning}"
    );
    let Node::File(stored) = &f.listing(report.id)[&path] else {
        panic!()
    };
    assert!(f.repo.file_bytes(stored).unwrap() == bytes);
}

#[test]
fn half_made_checkouts_do_not_pass_for_whole_ones() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "");
    server.sql("create table t as select generate_series(1, 100000) i");
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let whole = f.checkout(id, "whole");
    for stop_after in [0, 1, 2, 10, 100, 500] {
        let name = format!("half{stop_after}");
        let dir = f.place.join(&name);
        assert!(torn(stop_after, |on| {
            checkout::to_new(&f.repo, id, &dir, &f.checkout_options(), on)
        }));
        assert!(!dir.join("global/pg_control").exists());
        is(f.offline(&dir), |e| {
            matches!(e, Error::CheckoutPending { .. })
        });
        assert!(Server::try_start(&f.place, &f.programs, &dir, "").is_err());
        f.checkout(id, &name);
        assert_same_contents(&dir, &whole);
    }
    // One that was complete holds data: it is not made anew, whatever it lost.
    let lost = f.checkout(id, "lost");
    fs::remove_file(lost.join("global/pg_control")).unwrap();
    is(f.try_checkout(id, &lost, &f.checkout_options()), |e| {
        matches!(e, Error::TargetNotEmpty { .. })
    });
    assert!(lost.join("PG_VERSION").exists());
    let refuse = |dir: &Path, check: fn(&Error) -> bool| {
        is(f.try_checkout(id, dir, &f.checkout_options()), check);
    };
    refuse(&whole, |e| matches!(e, Error::TargetNotEmpty { .. }));
    refuse(f.home.dir(), |e| matches!(e, Error::TargetNotEmpty { .. }));
    refuse(&whole.join("PG_VERSION"), |e| {
        matches!(e, Error::TargetInvalid { .. })
    });
    refuse(Path::new("/proc/nothing/x"), |e| {
        matches!(e, Error::Io { .. })
    });
}
