//! Base backups that come as tar: the same backup is the same tree, however it came.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use zenith::event::ignore;
use zenith::export::{self, tar::TarDest};
use zenith::import::tar::{TarSource, tar};
use zenith::snapshot::SnapshotReport;
use zenith::{Error, Result};
use zenith_store::SnapshotId;
use zenith_testkit::Server;

use crate::export::{options, unpack};
use crate::fixture::{Fixture, is};

/// That two snapshots have the same tree; otherwise the paths that differ.
#[track_caller]
pub(crate) fn assert_same_tree(f: &Fixture, a: SnapshotId, b: SnapshotId) {
    let (left, right) = (f.listing(a), f.listing(b));
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differs = paths
        .into_iter()
        .filter(|path| left.get(*path) != right.get(*path));
    assert_eq!(differs.collect::<Vec<_>>(), [""; 0], "paths that differ");
    let tree = |id| f.repo.snapshot(id).unwrap().tree;
    assert_eq!(tree(a), tree(b));
}

fn from_path(f: &Fixture, branch: &str, path: &Path) -> Result<SnapshotReport> {
    let options = zenith::snapshot::SnapshotOptions {
        branch: branch.into(),
        ..f.options()
    };
    tar(&f.repo, TarSource::Path(path), &options, &ignore)
}

fn from_bytes(f: &Fixture, branch: &str, mut bytes: &[u8]) -> Result<SnapshotReport> {
    let options = zenith::snapshot::SnapshotOptions {
        branch: branch.into(),
        ..f.options()
    };
    tar(
        &f.repo,
        TarSource::Stream(&mut bytes, "stdin"),
        &options,
        &ignore,
    )
}

/// Runs `pg_basebackup -Ft` into `<place>/<name>`.
fn backup(f: &Fixture, server: &Server, name: &str, wal: &str) -> PathBuf {
    let port = server.port.to_string();
    let (dir, host) = (f.place.arg(name), f.place.arg("s"));
    let args = [
        "-D", &dir, "-Ft", "-c", "fast", "-X", wal, "-h", &host, "-p", &port,
    ];
    f.programs.run(
        "pg_basebackup",
        f.place.path(),
        args.into_iter().chain(["-U", "postgres"]),
    );
    f.place.join(name)
}

#[test]
fn tar_and_unpacked_are_the_same_tree() {
    let f = Fixture::new();
    let location = f.place.dir("ts");
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql(&format!(
        "create tablespace ts location '{}'",
        location.display()
    ));
    server.sql("create table t tablespace ts as select generate_series(1, 1000) i");
    server.sql("create unlogged table u as select 1 x");
    server.sql("create table big as select generate_series(1, 100000) i");
    let oid = server.value("select oid from pg_tablespace where spcname = 'ts'");
    for wal in ["stream", "fetch"] {
        let tars = backup(&f, &server, &format!("tars-{wal}"), wal);
        let as_tar = from_path(&f, &format!("tar-{wal}"), &tars).unwrap();

        let plain = f.place.join(&format!("plain-{wal}"));
        let elsewhere = f.place.join(&format!("ts-{wal}"));
        unpack(&tars.join("base.tar"), &plain);
        unpack(&tars.join(format!("{oid}.tar")), &elsewhere);
        if wal == "stream" {
            unpack(&tars.join("pg_wal.tar"), &plain.join("pg_wal"));
        }
        symlink(&elsewhere, plain.join("pg_tblspc").join(&oid)).unwrap();
        fs::copy(tars.join("backup_manifest"), plain.join("backup_manifest")).unwrap();
        let mut options = f.options();
        options.branch = format!("plain-{wal}");
        let unpacked = zenith::snapshot::offline(&f.repo, &plain, &options, &ignore).unwrap();
        assert_same_tree(&f, as_tar.id, unpacked.id);

        let (a, b) = (f.facts(as_tar.id), f.facts(unpacked.id));
        assert_eq!((a.start_lsn, a.stop_lsn), (b.start_lsn, b.stop_lsn));
        assert_eq!(
            (a.system_identifier, a.timeline),
            (b.system_identifier, b.timeline)
        );
        assert_eq!(a.tablespaces[0].location, location.to_str().unwrap());
        assert_eq!(a.tablespace_map, b.tablespace_map);

        // base.tar by its name finds the others; what is exported comes back.
        let by_name = from_path(&f, &format!("name-{wal}"), &tars.join("base.tar")).unwrap();
        assert_same_tree(&f, by_name.id, as_tar.id);
        let again = f.place.join(&format!("again-{wal}"));
        let dest = TarDest::Directory(&again);
        export::tar::tar(&f.repo, as_tar.id, dest, &options_of_export(), &ignore).unwrap();
        let again = from_path(&f, &format!("again-{wal}"), &again).unwrap();
        assert_same_tree(&f, again.id, as_tar.id);
    }
    server.stop();
    let id = f
        .repo
        .state()
        .unwrap()
        .get_ref("branch/tar-stream")
        .unwrap();
    let dir = f.checkout(id, "c");
    let copy = Server::start(&f.place, &f.programs, &dir, "");
    assert_eq!(
        copy.value("select (select count(*) from t) + (select count(*) from big)"),
        "101000"
    );
    copy.stop();
}

fn options_of_export() -> export::ExportOptions {
    options()
}

#[test]
fn a_stream_and_a_tar_by_hand_of_a_stopped_cluster() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 100000) i");
    server.sql("create unlogged table u as select 1 x");
    server.stop();
    let offline = f.offline(&server.pgdata).unwrap();

    let mut bytes = Vec::new();
    let dest = TarDest::Stream(&mut bytes, "stdout");
    export::tar::tar(&f.repo, offline.id, dest, &options(), &ignore).unwrap();
    let streamed = from_bytes(&f, "streamed", &bytes).unwrap();
    assert_same_tree(&f, streamed.id, offline.id);
    assert_eq!(f.facts(streamed.id).stop_lsn, f.facts(offline.id).stop_lsn);

    let by_hand = f.place.join("by-hand.tar");
    let args = [
        "-cf",
        by_hand.to_str().unwrap(),
        "-C",
        server.pgdata.to_str().unwrap(),
        ".",
    ];
    assert!(
        std::process::Command::new("tar")
            .args(args)
            .status()
            .unwrap()
            .success()
    );
    let by_hand = from_path(&f, "by-hand", &by_hand).unwrap();
    assert_same_tree(&f, by_hand.id, offline.id);
    let left_out = |r: &SnapshotReport| r.left_out.iter().any(|l| l.path == "postmaster.opts");
    assert!(left_out(&by_hand) && left_out(&offline));
}

#[test]
fn a_tar_that_was_cut_off_yields_nothing() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    let tars = backup(&f, &server, "tars", "fetch");
    server.stop();
    let whole = fs::read(tars.join("base.tar")).unwrap();
    let before = f.repo.state().unwrap().len();
    // In a header, in a file, in padding, at the border of an entry, before and in the end mark.
    let end = whole.len() - 1024;
    for cut in [
        0,
        300,
        512,
        700,
        737,
        1024,
        whole.len() / 2,
        whole.len() / 2 / 512 * 512,
        end,
    ] {
        let cut_off = from_bytes(&f, "main", &whole[..cut]);
        // What is shorter than a header does not tell that it is a tar.
        is(cut_off, |e| match e {
            Error::FormatUnknown { .. } => cut < 512,
            e => cut >= 512 && matches!(e, Error::TarTruncated { .. }),
        });
    }
    assert_eq!(f.repo.state().unwrap().len(), before);
    // One block of the two that end a tar is enough for a reader.
    from_bytes(&f, "main", &whole[..end + 512]).unwrap();
    assert_eq!(f.repo.state().unwrap().len(), before + 1);
    let left: Vec<_> = fs::read_dir(f.home.dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".tmp-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_a_base_backup_lacks_is_named() {
    let f = Fixture::new();
    let location = f.place.dir("ts");
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql(&format!(
        "create tablespace ts location '{}'",
        location.display()
    ));
    server.sql("create table t tablespace ts as select 1 i");
    let oid = server.value("select oid from pg_tablespace where spcname = 'ts'");
    let tars = backup(&f, &server, "tars", "stream");
    server.stop();
    let without = |name: &str| {
        let dir = f.place.dir(&format!("without-{name}"));
        for entry in fs::read_dir(&tars).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != name {
                fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
        }
        from_path(&f, "main", &dir)
    };
    is(without("pg_wal.tar"), |e| {
        matches!(e, Error::BackupWithoutWal { .. })
    });
    is(without(&format!("{oid}.tar")), |e| {
        matches!(e, Error::TablespaceMissing { .. })
    });
    is(without("base.tar"), |e| matches!(e, Error::Io { .. }));
    // Both lie in the manifest, so without it WAL is still needed to the checkpoint.
    without("backup_manifest").unwrap();

    let gz = tars.join("base.tar");
    assert!(
        std::process::Command::new("gzip")
            .arg(&gz)
            .status()
            .unwrap()
            .success()
    );
    is(
        from_path(&f, "main", &gz.with_extension("tar.gz")),
        |e| matches!(e, Error::Compressed { how, .. } if how == "gz"),
    );
    is(from_path(&f, "main", &tars), |e| {
        matches!(e, Error::Compressed { .. })
    });
}

#[test]
fn entries_that_lead_elsewhere_are_refused() {
    let f = Fixture::new();
    let made = |name: &str, kind: tar::EntryType, link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        // As an attacker would: past what the library allows.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_size(0);
        header.set_cksum();
        let mut out = header.as_bytes().to_vec();
        out.extend([0; 1024]);
        out
    };
    use tar::EntryType::{Char, Link, Regular, Symlink};
    for (name, kind, link) in [
        ("../x", Regular, None),
        ("base/../../x", Regular, None),
        ("/etc/passwd", Regular, None),
        ("base/1/9", Symlink, Some("/etc/passwd")),
        ("pg_tblspc/9", Symlink, Some("../x")),
        ("pg_tblspc/x", Symlink, Some("/x")),
        ("base/1/9", Link, Some("base/1/8")),
        ("null", Char, None),
    ] {
        let refused = from_bytes(&f, "main", &made(name, kind, link));
        is(
            refused,
            |e| matches!(e, Error::TarEntry { entry, .. } if entry == name),
        );
    }
    // And what is no cluster at all is missing its first file.
    is(
        from_bytes(&f, "main", &made("x", Regular, None)),
        |e| matches!(e, Error::StreamIncomplete { missing, .. } if missing == "PG_VERSION"),
    );
    assert!(f.repo.state().unwrap().is_empty());
}

/// Other programs write pages that PostgreSQL rejects; the person is told which.
#[test]
fn a_page_with_flags_that_postgresql_lacks_is_named() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 100000) i");
    let path = server.value("select pg_relation_filepath('t')");
    server.stop();
    let file = server.pgdata.join(&path);
    let mut bytes = fs::read(&file).unwrap();
    // pd_flags of page 11, which lies in the second chunk.
    bytes[11 * 8192 + 11] |= 0x80;
    fs::write(&file, bytes).unwrap();
    let tar = f.place.join("by-hand.tar");
    let mut command = std::process::Command::new("tar");
    command
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&server.pgdata)
        .arg(".");
    assert!(command.status().unwrap().success());
    let by_tar = from_path(&f, "tar", &tar).unwrap();
    let by_dir = f.offline(&server.pgdata).unwrap();
    assert_eq!(by_tar.warnings, by_dir.warnings);
    assert!(
        by_tar.warnings[0].starts_with(&format!("page 11 of `{path}`")),
        "{:?}",
        by_tar.warnings
    );
}
