//! What a home, a storage and clusters have of each other when one of them lost it.

use std::fs;
use std::path::Path;

use zenith::event::ignore;
use zenith::managed::{Managed, Surroundings};
use zenith::verify::{self, Mended};
use zenith::{Error, publish, remote};
use zenith_store::id::Kind;
use zenith_store::pack::reader;
use zenith_store::{Listing, Repository};
use zenith_testkit::{Place, Server};

use crate::fixture::{Fixture, is};
use crate::machine::{machine, pushed};

/// Damages every frame that has nodes of trees and no record of a snapshot; how many there are.
fn lose_lists(repo: &Repository, home: &Path) -> usize {
    let mut lost = 0;
    for row in repo.state().unwrap().packs() {
        let directory = reader::directory(&**repo.objects(), row.name, row.len, None).unwrap();
        let path = home.join(row.name.key());
        let mut bytes = fs::read(&path).unwrap();
        for frame in &directory.frames {
            let has = |kind| frame.blobs.iter().any(|blob| blob.part.kind == kind);
            if has(Kind::Tree) && !has(Kind::Snapshot) {
                bytes[frame.payload_offset as usize + 1] ^= 4;
                lost += 1;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    lost
}

fn repaired(managed: &Managed) -> Mended {
    verify::repair_home(managed, &Surroundings::default(), &ignore).unwrap()
}

/// The snapshot is of a cluster that zenith did not make and does not manage.
#[test]
fn lists_of_files_come_back_from_the_cluster_that_was_taken() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 50000) i");
    server.sql("create unlogged table u as select 1 x");
    // So many files that not all lists lie in one frame with the record of the snapshot.
    for name in ["d1", "d2", "d3"] {
        server.sql(&format!("create database {name}"));
    }
    let online = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let was: Vec<Listing> = [online, id].iter().map(|id| f.listing(*id)).collect();
    assert!(lose_lists(&f.repo, f.home.dir()) > 0);
    let Fixture {
        place,
        programs,
        home,
        repo,
        lock,
    } = f;
    drop((repo, lock));
    let managed = Managed::open(home.dir()).unwrap();

    // Another cluster at that path is not asked.
    let (pgdata, away) = (&server.pgdata, place.join("away"));
    fs::rename(pgdata, &away).unwrap();
    let other = Server::create(&place, "b", &programs, "");
    other.stop();
    fs::rename(&other.pgdata, pgdata).unwrap();
    let mended = repaired(&managed);
    assert!(!mended.left.report.is_good());
    let why = &mended.done.unavailable[0];
    assert!(why.0.contains("the cluster in"), "{why:?}");
    assert!(why.1.contains("another cluster lies there now"), "{why:?}");

    fs::rename(pgdata, place.join("b again")).unwrap();
    fs::rename(&away, pgdata).unwrap();
    let mended = repaired(&managed);
    assert_eq!(mended.done.unavailable, []);
    let from: Vec<&String> = mended.done.from.keys().collect();
    assert!(
        from.iter().any(|from| from.contains("the cluster in")),
        "{from:?}"
    );
    let (repo, _guard) = managed.home.reader().unwrap();
    let listing = |id| repo.listing(repo.snapshot(id).unwrap().tree);
    assert!(listing(id).unwrap() == was[1], "the last one is whole");
    // Of the one that the server was running at, what is another by now stays lost, by name.
    for lost in &mended.left.report.damage {
        assert_eq!(lost.snapshots, [online], "{lost}");
    }
}

/// `zenith.json` at the storage comes back from the home, and that of the home from the storage.
#[test]
fn a_header_comes_back_from_the_other_side() {
    let place = Place::new();
    let a = machine(&place, "a");
    let one = a.snapshot("main", "1");
    let around = Surroundings::default();
    let location = place.arg("storage");
    let mut managed = Managed::open(a.home.dir()).unwrap();
    managed.settings.storage_dest = Some(location.clone());
    managed.home.save_settings(&managed.settings).unwrap();
    let push = || publish::push_branch(&managed, &around, &location, "main", &ignore);
    pushed(push(), one, 1);

    let at_storage = place.join("storage").join("zenith.json");
    let at_home = a.home.dir().join("zenith.json");
    for damage in [None, Some("{")] {
        for header in [&at_storage, &at_home] {
            let was = fs::read(header).unwrap();
            fs::remove_file(header).unwrap();
            if let Some(damage) = damage {
                fs::write(header, damage).unwrap();
            }
            let lost = |e: &Error| e.to_string().contains("zenith.json");
            let mended = match header == &at_home {
                true => {
                    is(managed.home.reader().map(drop), lost);
                    verify::repair_home(&managed, &around, &ignore).unwrap()
                }
                false => {
                    is(push(), lost);
                    is(remote::open(&managed, &around, "origin"), lost);
                    verify::repair_remote(&managed, &around, "origin", &ignore).unwrap()
                }
            };
            assert!(mended.header.is_some() && mended.left.report.is_good());
            assert!(fs::read(header).unwrap() == was, "{}", header.display());
        }
    }
    push().unwrap();

    // Without anybody who has it, it stays lost and is told.
    fs::remove_file(&at_home).unwrap();
    fs::remove_dir_all(place.join("storage")).unwrap();
    let warned = std::sync::Mutex::new(String::new());
    let on = |event: zenith::event::Event| {
        if let zenith::event::Event::Warning(text) = event {
            *warned.lock().unwrap() += &text;
        }
    };
    is(verify::repair_home(&managed, &around, &on), |e| {
        e.to_string().contains("it is missing")
    });
    assert!(warned.lock().unwrap().contains("could not be asked"));
}
