//! Snapshots as PostgreSQL's own tools know them: what is exported verifies and starts.

use std::fs;
use std::io::{self, Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;

use zenith::Error;
use zenith::event::{Event, ignore};
use zenith::export::tar::TarDest;
use zenith::export::{self, ExportOptions};
use zenith::import;
use zenith::marker::Marker;
use zenith_store::SnapshotId;
use zenith_store::objects::{Directory, Objects};
use zenith_testkit::{Programs, Server, user};

use crate::fixture::{Fixture, is, torn};
use crate::import::assert_same_tree;

pub(crate) fn options() -> ExportOptions {
    ExportOptions {
        threads: 3,
        sync: false,
        ..ExportOptions::default()
    }
}

fn pgdata(f: &Fixture, id: SnapshotId, name: &str) -> std::path::PathBuf {
    let dir = f.place.join(name);
    let owner = f.checkout_options().owner;
    let report =
        export::pgdata::pgdata(&f.repo, id, &dir, owner.as_ref(), &options(), &ignore).unwrap();
    assert!(
        report.files > 900 && report.bytes > 20_000_000,
        "{report:?}"
    );
    dir
}

fn verify(f: &Fixture, dir: &Path) -> Result<String, String> {
    f.programs.try_run("pg_verifybackup", f.place.path(), [dir])
}

#[test]
fn a_directory_verifies_and_starts() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 50000) i");
    let online = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    server.stop();
    let offline = f.offline(&server.pgdata).unwrap().id;
    for (id, name) in [(online, "b"), (offline, "c")] {
        let dir = pgdata(&f, id, name);
        verify(&f, &dir).unwrap();
        assert!(!dir.join(zenith::marker::NAME).exists());
        // Unguarded: nothing was added to the original's settings.
        let same = |file: &str| fs::read(dir.join(file)).unwrap();
        let original = fs::read(server.pgdata.join("postgresql.auto.conf")).unwrap();
        assert_eq!(same("postgresql.auto.conf"), original);
        let copy = Server::start(&f.place, &f.programs, &dir, "");
        assert_eq!(copy.value("select count(*) from t"), "50000");
        copy.stop();
    }
    // The manifest tells: one byte more or less is found.
    let dir = pgdata(&f, online, "d");
    let hurt = dir.join("global/pg_filenode.map");
    let mut bytes = fs::read(&hurt).unwrap();
    bytes[100] ^= 1;
    fs::write(&hurt, bytes).unwrap();
    let said = verify(&f, &dir).unwrap_err();
    assert!(
        said.contains("checksum mismatch for file \"global/pg_filenode.map\""),
        "{said}"
    );
}

#[test]
fn an_interrupted_directory_is_no_cluster_and_is_completed() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let dir = f.place.join("b");
    let owner = f.checkout_options().owner;
    let work = |on: &(dyn Fn(Event) + Sync)| {
        export::pgdata::pgdata(&f.repo, id, &dir, owner.as_ref(), &options(), on)
    };
    assert!(torn(200, work));
    assert!(!dir.join("global/pg_control").exists());
    assert!(!dir.join("backup_manifest").exists());
    // Torn out of what comes last before it is a cluster, and right after it became one.
    let manifest = |event| {
        if matches!(event, Event::Phase("writing the manifest")) {
            std::panic::resume_unwind(Box::new("torn"));
        }
    };
    std::panic::catch_unwind(AssertUnwindSafe(|| work(&manifest))).unwrap_err();
    assert!(!dir.join("global/pg_control").exists());
    work(&ignore).unwrap();
    verify(&f, &dir).unwrap();
    Marker::new(&dir, id.to_string(), "0".repeat(32))
        .unwrap()
        .write(&dir)
        .unwrap();
    work(&ignore).unwrap();
    assert!(!dir.join(zenith::marker::NAME).exists());
    verify(&f, &dir).unwrap();
    is(work(&ignore), |e| matches!(e, Error::TargetNotEmpty { .. }));
}

/// Entries of a tar in their order.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    let name = |e: tar::Entry<'_, &[u8]>| e.path().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| name(entry.unwrap())).collect()
}

#[test]
fn tar_has_the_layout_of_pg_basebackup() {
    let f = Fixture::new();
    let location = f.place.dir("ts");
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql(&format!(
        "create tablespace ts location '{}'",
        location.display()
    ));
    server.sql("create table t tablespace ts as select generate_series(1, 1000) i");
    let oid = server.value("select oid from pg_tablespace where spcname = 'ts'");
    let online = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    server.stop();
    let offline = f.offline(&server.pgdata).unwrap().id;
    for (id, name, label) in [(online, "b", true), (offline, "c", false)] {
        let dir = f.place.join(name);
        let moved = f.place.join(&format!("{name}-ts"));
        let options = ExportOptions {
            tablespace_mapping: vec![(location.clone(), moved.clone())],
            ..options()
        };
        let dest = TarDest::Directory(&dir);
        let report = export::tar::tar(&f.repo, id, dest, &options, &ignore).unwrap();
        assert_eq!(
            report.archives,
            [format!("{oid}.tar"), "base.tar".to_owned()]
        );

        let base = entries(&fs::read(dir.join("base.tar")).unwrap());
        assert_eq!(base.last().unwrap(), "global/pg_control");
        assert_eq!(
            base[0] == "backup_label" && base[1] == "tablespace_map",
            label
        );
        let link = format!("pg_tblspc/{oid}");
        assert_eq!(base.contains(&link), !label, "a link where there is no map");
        assert!(
            base.iter()
                .any(|p| p.starts_with("pg_wal/0000") && p.len() == 31)
        );
        let done = |p: &String| p.starts_with("pg_wal/archive_status/0") && p.ends_with(".done");
        assert!(base.iter().any(done));
        let inside = entries(&fs::read(dir.join(format!("{oid}.tar"))).unwrap());
        assert!(inside.iter().all(|p| p.starts_with("PG_")), "{inside:?}");

        // GNU tar unpacks it, pg_verifybackup and a server take it.
        let plain = f.place.dir(&format!("{name}-plain"));
        let moved = f.place.dir(&format!("{name}-ts"));
        unpack(&dir.join("base.tar"), &plain);
        unpack(&dir.join(format!("{oid}.tar")), &moved);
        if label {
            std::os::unix::fs::symlink(&moved, plain.join(&link)).unwrap();
        }
        fs::copy(dir.join("backup_manifest"), plain.join("backup_manifest")).unwrap();
        give(&plain);
        give(&moved);
        verify(&f, &plain).unwrap();
        let copy = Server::start(&f.place, &f.programs, &plain, "");
        assert_eq!(copy.value("select count(*) from t"), "1000");
        copy.stop();

        is(
            export::tar::tar(
                &f.repo,
                id,
                TarDest::Stream(&mut Vec::new(), "x"),
                &options,
                &ignore,
            ),
            |e| matches!(e, Error::TablespacesInStream { number: 1, .. }),
        );
        is(
            export::tar::tar(&f.repo, id, TarDest::Directory(&dir), &options, &ignore),
            |e| matches!(e, Error::TargetNotEmpty { .. }),
        );
    }
}

pub(crate) fn unpack(tar: &Path, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let status = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(dir)
        .status()
        .unwrap();
    assert!(status.success(), "tar -xf {}", tar.display());
    give(dir);
}

/// Everything below, to the server user; with 0700 at the top, which a server insists on.
fn give(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            give(&path);
        } else if !path.is_symlink() {
            user::give(&path);
        }
    }
    user::give(dir);
}

#[test]
fn a_stream_that_breaks_off_has_no_end() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let mut whole = Vec::new();
    let dest = TarDest::Stream(&mut whole, "stdout");
    export::tar::tar(&f.repo, id, dest, &options(), &ignore).unwrap();
    assert!(whole.ends_with(&[0; 1024]));

    // A reader of the store that meets damage in the middle.
    let packs = f.home.dir().join("packs");
    let mut sizes: Vec<_> = fs::read_dir(&packs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (fs::metadata(&path).unwrap().len(), path))
        .collect();
    sizes.sort();
    let (size, path) = sizes.pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = size as usize / 2;
    bytes[at..at + 64].iter_mut().for_each(|b| *b ^= 0x55);
    fs::write(&path, bytes).unwrap();
    let repo = zenith_store::Repository::open(
        f.repo.objects().clone(),
        None,
        zenith_store::IndexChoice::Memory,
    )
    .unwrap();
    let mut part = Vec::new();
    let dest = TarDest::Stream(&mut part, "stdout");
    is(
        export::tar::tar(&repo, id, dest, &options(), &ignore),
        |e| e.kind() == zenith::ErrorKind::Damaged,
    );
    assert!(!part.is_empty() && part.len() < whole.len());
    let source = import::tar::TarSource::Stream(&mut &part[..], "stdin");
    let mut options = f.options();
    options.branch = "other".into();
    is(import::tar::tar(&f.repo, source, &options, &ignore), |e| {
        matches!(e, Error::TarTruncated { .. })
    });

    // A pipe whose other end went away.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut full = Full(1 << 20);
    let dest = TarDest::Stream(&mut full, "stdout");
    is(
        export::tar::tar(&f.repo, id, dest, &self::options(), &ignore),
        |e| matches!(e, Error::Io { verb: "write", .. } | Error::Store(_)),
    );
}

#[test]
fn an_interrupted_tar_directory_has_no_base_tar() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let id = f.offline(&server.pgdata).unwrap().id;
    let dir = f.place.join("b");
    let work = |on: &(dyn Fn(Event) + Sync)| {
        export::tar::tar(&f.repo, id, TarDest::Directory(&dir), &options(), on)
    };
    assert!(torn(500, work));
    let names = || fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name());
    assert!(names().all(|name| name.to_str().unwrap().starts_with(".tmp-")));
    assert!(names().count() > 0);
    work(&ignore).unwrap();
    let mut left: Vec<_> = names().collect();
    left.sort();
    assert_eq!(left, ["backup_manifest", "base.tar"]);
}

/// Neither what somebody else left there nor what another export is at work on.
#[test]
fn a_tar_directory_has_nothing_of_others() {
    let f = Fixture::new();
    let pgdata = Server::initdb(&f.place, "a", &f.programs);
    let id = f.offline(&pgdata).unwrap().id;
    let export = |dir: &Path, on: &(dyn Fn(Event) + Sync)| {
        export::tar::tar(&f.repo, id, TarDest::Directory(dir), &options(), on)
    };
    let work = f.place.dir("work");
    let foreign = [".tmp-notes", ".tmp-base.tar", "notes"].map(|name| work.join(name));
    for path in &foreign {
        fs::write(path, "mine").unwrap();
    }
    is(export(&work, &ignore), |e| {
        matches!(e, Error::TargetNotEmpty { .. })
    });
    assert!(foreign.iter().all(|path| path.exists()));

    let dir = f.place.join("b");
    let beside = std::sync::Once::new();
    let on = |event: Event| {
        if matches!(event, Event::Placed { .. }) {
            beside.call_once(|| {
                is(export(&dir, &ignore), |e| {
                    matches!(e, Error::TargetBusy { .. })
                });
            });
        }
    };
    export(&dir, &on).unwrap();
    assert!(beside.is_completed());
    let other = f.place.join("c");
    export(&other, &ignore).unwrap();
    let bytes = |dir: &Path| fs::metadata(dir.join("base.tar")).unwrap().len();
    assert_eq!(bytes(&dir), bytes(&other));
}

#[test]
fn objects_hold_a_cluster_only_when_complete() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 300000) i");
    let id = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    server.stop();
    let other = f.offline(&server.pgdata).unwrap().id;
    let objects = Directory::new(f.place.dir("objects"));
    let work = |id, on: &(dyn Fn(Event) + Sync)| {
        export::objects::pgdata(&f.repo, id, &objects, &options(), on)
    };
    assert!(torn(300, |on| work(id, on)));
    assert_eq!(objects.size("global/pg_control").unwrap(), None);
    let mut import = f.options();
    import.branch = "imported".into();
    let back = |options: &_| import::objects::pgdata(&f.repo, &objects, options, &ignore);
    is(back(&import), |e| {
        matches!(e, Error::ExportUnfinished { .. })
    });
    is(work(other, &ignore), |e| {
        matches!(e, Error::TargetNotEmpty { .. })
    });
    work(id, &ignore).unwrap();
    assert_eq!(objects.size(export::objects::MARKER).unwrap(), None);
    is(work(id, &ignore), |e| {
        matches!(e, Error::TargetNotEmpty { .. })
    });

    assert_eq!(
        import::detect_objects(&objects).unwrap(),
        import::Format::Pgdata
    );
    let report = back(&import).unwrap();
    assert_same_tree(&f, report.id, id);
    // The objects, put into a directory as they are, are what the manifest says.
    let dir = f.place.dir("plain");
    for object in objects.list("").unwrap() {
        let path = dir.join(&object.key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        objects
            .reader(&object.key)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        fs::write(path, bytes).unwrap();
    }
    give(&dir);
    verify(&f, &dir).unwrap();
}

/// The manifest of version 2 as the server itself reads it: an incremental backup on top of an
/// export, put together by PostgreSQL's own program. (The `pg_verifybackup` of the wheel crashes
/// on every backup.)
#[test]
fn postgresql_18_takes_an_increment_on_top_of_an_export() {
    let mut f = Fixture::new();
    f.programs = Programs::fetched(18);
    let conf = "autovacuum = off\nsummarize_wal = on";
    let server = Server::create(&f.place, "a", &f.programs, conf);
    server.sql("create table t as select generate_series(1, 10000) i");
    let id = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    let full = pgdata(&f, id, "b");
    server.sql("insert into t select generate_series(1, 10000)");

    let increment = f.place.arg("increment");
    let manifest = full.join("backup_manifest");
    let manifest = format!("--incremental={}", manifest.display());
    let (port, host) = (server.port.to_string(), f.place.arg("s"));
    let args = [
        "-D", &increment, &manifest, "-c", "fast", "-h", &host, "-p", &port,
    ];
    f.programs.run(
        "pg_basebackup",
        f.place.path(),
        args.into_iter().chain(["-U", "postgres"]),
    );
    server.stop();
    let combined = f.place.join("combined");
    let args = [
        full.as_path(),
        Path::new(&increment),
        Path::new("-o"),
        &combined,
    ];
    f.programs.run("pg_combinebackup", f.place.path(), args);
    let copy = Server::start(&f.place, &f.programs, &combined, "");
    assert_eq!(copy.value("select count(*) from t"), "20000");
    copy.stop();
    let alone = Server::start(&f.place, &f.programs, &full, "");
    assert_eq!(alone.value("select count(*) from t"), "10000");
    alone.stop();
}
