//! Clusters whose pages are not what PostgreSQL wrote.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zenith::Error;
use zenith::event::{Event, ignore};
use zenith::import::tar::{TarSource, tar};
use zenith::snapshot::{self, OnDamage, SnapshotOptions};
use zenith_store::Node;
use zenith_testkit::Server;

use crate::fixture::{Fixture, is};

const PAGE: u64 = 8192;

/// A stopped cluster with a table of some pages, and the path of its file.
fn cluster(f: &Fixture) -> (Server, String) {
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 10000) i");
    server.sql("vacuum t");
    let path = server.value("select pg_relation_filepath('t')");
    server.stop();
    (server, path)
}

fn flip(file: &Path, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn failing(options: SnapshotOptions) -> SnapshotOptions {
    SnapshotOptions {
        on_damage: OnDamage::Fail,
        ..options
    }
}

#[test]
fn a_flipped_byte_is_told_and_recorded() {
    let f = Fixture::new();
    let (server, path) = cluster(&f);
    let clean = f.offline(&server.pgdata).unwrap();
    assert!(clean.warnings.is_empty() && clean.damaged_pages == 0);
    assert_eq!(f.facts(clean.id).damage, None);
    flip(&server.pgdata.join(&path), 3 * PAGE + 5000);
    flip(&server.pgdata.join(format!("{path}_fsm")), 100);

    let options = failing(f.options());
    is(
        snapshot::offline(&f.repo, &server.pgdata, &options, &ignore),
        |e| matches!(e, Error::PagesDamaged { count: 2, pages, .. } if pages[0].contains(&path)),
    );
    assert_eq!(f.repo.state().unwrap().len(), 1, "nothing is committed");

    let told = std::sync::Mutex::new(Vec::new());
    let on = |event| {
        if let Event::Warning(text) = event {
            told.lock().unwrap().push(text);
        }
    };
    let report = snapshot::offline(&f.repo, &server.pgdata, &f.options(), &on).unwrap();
    assert_eq!((report.warnings.len(), report.damaged_pages), (2, 2));
    assert_eq!(*told.lock().unwrap(), report.warnings);
    let expect = format!("page 3 of `{path}` is damaged: its checksum is ");
    assert!(
        report.warnings[0].starts_with(&expect),
        "{}",
        report.warnings[0]
    );
    let damage = f.facts(report.id).damage.unwrap();
    let places: Vec<_> = damage
        .pages
        .iter()
        .map(|p| (p.path.clone(), p.block))
        .collect();
    let fsm = format!("{path}_fsm");
    assert_eq!(places, [(path.clone(), 3), (fsm, 0)]);
    // What is stored is what was there.
    let Node::File(stored) = &f.listing(report.id)[&path] else {
        panic!()
    };
    assert!(f.repo.file_bytes(stored).unwrap() == fs::read(server.pgdata.join(&path)).unwrap());
}

/// A file that looks unchanged is not read again, but for one that is damaged.
#[test]
fn damage_is_told_every_time() {
    let f = Fixture::new();
    let (server, path) = cluster(&f);
    flip(&server.pgdata.join(&path), 3 * PAGE + 5000);
    // Younger files are not trusted.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let first = f.offline(&server.pgdata).unwrap();
    let again = f.offline(&server.pgdata).unwrap();
    assert!(again.unchanged && again.warnings == first.warnings && again.damaged_pages == 1);
    server.restart("");
    server.sql("create table other as select 1 x");
    server.stop();
    let second = f.offline(&server.pgdata).unwrap();
    assert!(!second.unchanged && second.read_bytes < first.read_bytes / 2);
    assert_eq!(f.facts(second.id).damage, f.facts(first.id).damage);
}

#[test]
fn a_running_cluster_is_verified() {
    let f = Fixture::new();
    let (server, path) = cluster(&f);
    flip(&server.pgdata.join(&path), 3 * PAGE + 5000);
    server.restart("");
    let options = failing(f.options());
    is(
        snapshot::online(&f.repo, &server.pgdata, &server.dsn(), &options, &ignore),
        |e| matches!(e, Error::PagesDamaged { count: 1, .. }),
    );
    assert_eq!(f.repo.state().unwrap().len(), 0);
    let report = f.online(&server.pgdata, &server.dsn()).unwrap();
    assert_eq!(f.facts(report.id).damage.unwrap().pages[0].block, 3);
    server.stop();
}

#[test]
fn streams_and_base_backups_are_verified() {
    let f = Fixture::new();
    let (server, path) = cluster(&f);
    flip(&server.pgdata.join(&path), 3 * PAGE + 5000);
    server.restart("");
    let backup = |name: &str, format: &str| -> PathBuf {
        let dir = f.place.join(name);
        let mut args = server.connection();
        let more = ["-D", dir.to_str().unwrap(), "-X", "fetch", "-c", "fast"];
        let how = ["-F", format, "--no-verify-checksums"];
        args.extend(more.into_iter().chain(how).map(str::to_owned));
        f.programs.run("pg_basebackup", f.place.path(), &args);
        dir
    };
    let (plain, tars) = (backup("plain", "p"), backup("tars", "t"));
    server.stop();
    let options = |branch: &str| SnapshotOptions {
        branch: branch.into(),
        ..f.options()
    };
    let from_tar = |options: &SnapshotOptions| {
        let source = TarSource::Path(&tars);
        tar(&f.repo, source, options, &ignore)
    };
    is(from_tar(&failing(options("c"))), |e| {
        matches!(e, Error::PagesDamaged { count: 1, .. })
    });
    assert_eq!(f.repo.state().unwrap().len(), 0);
    let a = snapshot::offline(&f.repo, &plain, &options("a"), &ignore).unwrap();
    let b = from_tar(&options("b")).unwrap();
    assert_eq!((a.damaged_pages, &a.warnings), (1, &b.warnings));
    assert!(a.warnings[0].contains(&path));
    assert_eq!(f.facts(a.id).damage, f.facts(b.id).damage);
}
