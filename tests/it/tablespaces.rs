//! Tablespaces: captured, moved, and never shared with the original.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zenith::Error;
use zenith::checkout::{self, CheckoutOptions};
use zenith::event::Event;
use zenith_testkit::Server;

use crate::fixture::{Fixture, assert_same_contents, contents, is};

fn with_tablespace(f: &Fixture) -> (Server, PathBuf) {
    let location = f.place.dir("ts");
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql(&format!(
        "create tablespace ts location '{}'",
        location.display()
    ));
    server.sql("create table t tablespace ts as select generate_series(1, 1000) i");
    (server, location)
}

#[test]
fn a_checkout_has_tablespaces_of_its_own() {
    let f = Fixture::new();
    let (server, location) = with_tablespace(&f);
    let online = f.online(&server.pgdata, &server.dsn()).unwrap();
    server.stop();
    let offline = f.offline(&server.pgdata).unwrap();
    let before = contents(&location);
    assert!(f.facts(online.id).tablespace_map.ends_with(b"/ts\n"));
    for (id, name) in [(online.id, "b"), (offline.id, "c")] {
        let dir = f.checkout(id, name);
        let beside = f.place.arg(&format!("{name}.tablespaces"));
        let copy = Server::start(&f.place, &f.programs, &dir, "");
        copy.sql("insert into t values (0)");
        assert_eq!(copy.value("select count(*) from t"), "1001");
        let query = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'ts'";
        assert!(copy.value(query).starts_with(&beside));
        copy.stop();
    }
    assert!(contents(&location) == before, "the original was written to");
}

#[test]
fn mapped_where_the_user_says_but_nowhere_occupied() {
    let f = Fixture::new();
    let (server, location) = with_tablespace(&f);
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let to = |new: &Path| CheckoutOptions {
        tablespace_mapping: vec![(location.clone(), new.to_owned())],
        ..f.checkout_options()
    };
    is(
        f.try_checkout(id, &f.place.join("x"), &to(&location)),
        |e| matches!(e, Error::TargetNotEmpty { dir, .. } if *dir == location),
    );
    assert!(!f.place.join("x").exists());
    let new = f.place.join("elsewhere/ts");
    let report = f.try_checkout(id, &f.place.join("b"), &to(&new)).unwrap();
    assert_eq!(report.tablespaces[0].1, new);
    let copy = Server::start(&f.place, &f.programs, &f.place.join("b"), "");
    assert_eq!(copy.value("select count(*) from t"), "1000");
    copy.stop();
    is(f.try_checkout(id, &f.place.join("y"), &to(&new)), |e| {
        matches!(e, Error::TargetNotEmpty { .. })
    });
}

#[test]
fn in_place_tablespaces_come_and_go() {
    let f = Fixture::new();
    let (server, _) = with_tablespace(&f);
    server.stop();
    let with = f.offline(&server.pgdata).unwrap().id;
    server.restart("");
    server.sql("drop table t");
    server.sql("drop tablespace ts");
    server.stop();
    let without = f.offline(&server.pgdata).unwrap().id;
    f.checkout(with, "fresh-with");
    let fresh_without = f.checkout(without, "fresh-without");
    let dir = f.checkout(with, "b");
    f.in_place(without, &dir).unwrap();
    assert_same_contents(&dir, &fresh_without);
    let beside = f.place.join("b.tablespaces");
    assert_eq!(fs::read_dir(&beside).unwrap().count(), 0);
    f.in_place(with, &dir).unwrap();
    assert_same_contents(&beside, &f.place.join("fresh-with.tablespaces"));
}

#[test]
fn what_others_have_in_a_tablespace_stays() {
    let f = Fixture::new();
    let (server, _) = with_tablespace(&f);
    server.stop();
    let with = f.offline(&server.pgdata).unwrap().id;
    server.restart("");
    server.sql("drop table t");
    server.sql("drop tablespace ts");
    server.stop();
    let without = f.offline(&server.pgdata).unwrap().id;
    let dir = f.checkout(with, "b");
    let only = |dir: &Path| fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let place = only(&f.place.join("b.tablespaces"));
    let (ours, theirs) = (only(&place), place.join("PG_99_209901010/5/1"));
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    let surplus = ours.join("surplus");
    fs::write(&surplus, "").unwrap();
    for id in [with, without] {
        f.in_place(id, &dir).unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert!(!surplus.exists());
        assert_eq!(ours.exists(), id == with);
    }
}

#[test]
fn what_the_user_made_elsewhere_is_left_as_it_is() {
    let f = Fixture::new();
    let (server, _) = with_tablespace(&f);
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let dir = f.checkout(id, "b");
    let theirs = f.place.dir("theirs");
    let copy = Server::start(&f.place, &f.programs, &dir, "");
    copy.sql(&format!(
        "create tablespace theirs location '{}'",
        theirs.display()
    ));
    copy.sql("create table x tablespace theirs as select 1");
    copy.stop();
    let before = contents(&theirs);
    let notes = Mutex::new(Vec::new());
    let on = |event| {
        if let Event::Note(text) = event {
            notes.lock().unwrap().push(text);
        }
    };
    checkout::in_place(&f.repo, id, &dir, &f.home, &f.checkout_options(), &on).unwrap();
    assert!(contents(&theirs) == before && !before.is_empty());
    let notes = notes.into_inner().unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains(theirs.to_str().unwrap()),
        "{notes:?}"
    );
    assert_same_contents(&dir.join("base"), &f.checkout(id, "c").join("base"));
}
