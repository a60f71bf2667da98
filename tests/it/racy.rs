//! A file that looks as it did is not read again. Here is what may look so and is another, and
//! each time the next snapshot has the new bytes.

use std::fs::{self, FileTimes, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use zenith::checkout::{self, CheckoutOptions};
use zenith::event::{Event, ignore};
use zenith::plan::FileCache;
use zenith::scan::Stamp;
use zenith::snapshot::{SnapshotOptions, SnapshotReport};
use zenith_store::{Node, SnapshotId, World};
use zenith_testkit::{Server, server, user};

use crate::fixture::Fixture;

/// Times younger than this are not trusted.
const RACY: Duration = Duration::from_millis(2100);

/// A stopped cluster of which the file cache knows every file.
struct Armed {
    f: Fixture,
    pgdata: PathBuf,
    /// Files of relations, each for a trap of its own.
    files: Vec<String>,
}

impl Armed {
    fn new() -> Armed {
        let f = Fixture::new();
        let pgdata = Server::initdb(&f.place, "a", &f.programs);
        Armed::of(f, pgdata)
    }

    fn of(f: Fixture, pgdata: PathBuf) -> Armed {
        std::thread::sleep(RACY);
        let id = f.offline(&pgdata).unwrap().id;
        let files = f.listing(id).into_iter().filter_map(|(path, node)| {
            let name = path.strip_prefix("base/1/")?;
            let is_main = name.bytes().all(|b| b.is_ascii_digit());
            let is_long = matches!(&node, Node::File(file) if file.size >= 16_384);
            (is_main && is_long).then_some(path)
        });
        let armed = Armed {
            files: files.collect(),
            pgdata,
            f,
        };
        // Without this no test below would show anything.
        let again = armed.snapshot();
        assert!(
            again.unchanged && armed.read_bytes() < again.size / 10,
            "the cache is not trusted"
        );
        armed
    }

    fn path(&self, file: &str) -> PathBuf {
        self.pgdata.join(file)
    }

    fn options(&self) -> SnapshotOptions {
        self.f.options()
    }

    fn snapshot(&self) -> SnapshotReport {
        self.f.offline(&self.pgdata).unwrap()
    }

    /// What a snapshot that stores the same again has to read.
    fn read_bytes(&self) -> u64 {
        let options = SnapshotOptions {
            skip_if_unchanged: false,
            ..self.options()
        };
        zenith::snapshot::offline(&self.f.repo, &self.pgdata, &options, &ignore)
            .unwrap()
            .read_bytes
    }

    fn cache_path(&self) -> PathBuf {
        FileCache::path(&self.f.home.file_cache_dir(), &self.pgdata)
    }

    /// Makes the cache say that the file looked then as it does now: as if a write had left no
    /// trace. `change` adds the reason not to believe it.
    fn forge(&self, file: &str, change: impl FnOnce(&mut FileCache)) {
        let mut cache = FileCache::load(&self.cache_path(), &World::real()).unwrap();
        let meta = fs::symlink_metadata(self.path(file)).unwrap();
        cache.stamps.insert(file.to_owned(), Stamp::of(&meta));
        change(&mut cache);
        cache.save(&self.cache_path()).unwrap();
    }

    /// That the next snapshot has what lies there.
    #[track_caller]
    fn is_seen(&self, trap: &str) {
        let report = self.snapshot();
        assert!(!report.unchanged, "{trap}: nothing is seen");
        assert_holds(&self.f, report.id, &self.pgdata, trap);
    }
}

/// That a snapshot has what lies in a directory, but for WAL and what is made on the way.
#[track_caller]
fn assert_holds(f: &Fixture, id: SnapshotId, pgdata: &Path, trap: &str) {
    let mut n = 0;
    for (path, node) in f.listing(id) {
        let Node::File(file) = node else { continue };
        if path.starts_with("pg_wal/") || path == "postgresql.auto.conf" {
            continue;
        }
        let here = fs::read(pgdata.join(&path)).unwrap();
        assert!(
            f.repo.file_bytes(&file).unwrap() == here,
            "{trap}: `{path}` is not what lies there"
        );
        n += 1;
    }
    assert!(n > 500);
}

/// Turns one bit of a file.
fn flip(path: &Path) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 8200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 8200).unwrap();
}

/// Gives a file the modification time that it had.
fn set_back(path: &Path, mtime: SystemTime) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(mtime))
        .unwrap();
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), mtime);
}

fn mtime(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn run(program: &str, args: &[&Path]) {
    let options = ["-p"].iter().filter(|_| program == "cp");
    let status = Command::new(program)
        .args(options)
        .args(args)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn times_that_were_set_back_are_seen() {
    let armed = Armed::new();
    let beside = armed.f.place.join("beside");

    let path = armed.path(&armed.files[0]);
    let before = mtime(&path);
    flip(&path);
    set_back(&path, before);
    armed.is_seen("mtime set back after a write");

    // Another file of equal length and time in its place.
    let path = armed.path(&armed.files[1]);
    let before = mtime(&path);
    run("cp", &[&path, &beside]);
    flip(&beside);
    set_back(&beside, before);
    fs::rename(&beside, &path).unwrap();
    assert_eq!(mtime(&path), before);
    armed.is_seen("a rename over it");

    // The same, into the file that is there: the inode stays.
    let path = armed.path(&armed.files[2]);
    let (before, inode) = (mtime(&path), fs::metadata(&path).unwrap().ino());
    run("cp", &[&path, &beside]);
    flip(&beside);
    set_back(&beside, before);
    run("cp", &[&beside, &path]);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.modified().unwrap(), meta.ino()), (before, inode));
    armed.is_seen("cp -p");

    // A new file that may get the inode of the one that is gone.
    let path = armed.path(&armed.files[3]);
    let before = mtime(&path);
    flip(&path);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    set_back(&path, before);
    armed.is_seen("removed and made again");
}

#[test]
fn what_leaves_no_trace_is_read() {
    let armed = Armed::new();
    let path = |n: usize| armed.path(&armed.files[n]);

    // The cache was begun in the same tick of the clock as the write.
    flip(&path(0));
    armed.forge(&armed.files[0], |_| ());
    armed.is_seen("a write in the same tick");
    // Shortly before: a file system with coarse times.
    flip(&path(0));
    std::thread::sleep(Duration::from_millis(1000));
    armed.forge(&armed.files[0], |cache| {
        cache.begun_ns = FileCache::begin(&World::real()).begun_ns;
    });
    armed.is_seen("a write a second before");
    // The clock was set back after the cache was made.
    flip(&path(1));
    armed.forge(&armed.files[1], |cache| {
        cache.begun_ns += 3_600_000_000_000;
    });
    armed.is_seen("a cache from the future");
    // The machine crashed: what was written is undone, the times stay.
    flip(&path(2));
    std::thread::sleep(RACY);
    armed.forge(&armed.files[2], |cache| {
        cache.begun_ns = FileCache::begin(&World::real()).begun_ns;
        cache.boot_id = "another".to_owned();
    });
    armed.is_seen("a crash of the machine");
    // Maps of visibility and free space: even if all looks the same.
    let listing = armed.f.listing(armed.snapshot().id);
    for suffix in ["_vm", "_fsm"] {
        let map = listing
            .keys()
            .find(|path| path.starts_with("base/1/") && path.ends_with(suffix))
            .unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(armed.path(map))
            .unwrap();
        file.write_all_at(b"stale", 100).unwrap();
        std::thread::sleep(RACY);
        armed.forge(map, |cache| {
            cache.begun_ns = FileCache::begin(&World::real()).begun_ns;
        });
        armed.is_seen(suffix);
    }
    // Only what is asked to trust nothing sees through a cache that lies in all things.
    flip(&path(3));
    std::thread::sleep(RACY);
    armed.forge(&armed.files[3], |cache| {
        cache.begun_ns = FileCache::begin(&World::real()).begun_ns;
    });
    assert!(armed.snapshot().unchanged, "the forgery is no good");
    armed.forge(&armed.files[3], |_| ());
    let options = SnapshotOptions {
        read_all: true,
        ..armed.options()
    };
    let report = zenith::snapshot::offline(&armed.f.repo, &armed.pgdata, &options, &ignore);
    let report = report.unwrap();
    assert!(!report.unchanged && report.read_bytes > report.size / 2);
    assert_holds(&armed.f, report.id, &armed.pgdata, "--read-all");
}

#[test]
fn pages_rewritten_on_a_stopped_cluster_are_seen() {
    let armed = Armed::new();
    let checksums = |mode: &str| {
        let dir = armed.pgdata.to_str().unwrap();
        let args = [mode, "--no-sync", "-D", dir];
        armed
            .f
            .programs
            .run("pg_checksums", armed.f.place.path(), args);
    };
    // Changes no page, only pg_control.
    checksums("--disable");
    armed.is_seen("pg_checksums --disable");
    // Pages that were changed without are given theirs.
    flip(&armed.path(&armed.files[0]));
    armed.is_seen("a change without checksums");
    checksums("--enable");
    armed.is_seen("pg_checksums --enable");

    // And by a server that runs again, though there was no transaction.
    let server = Server::start(&armed.f.place, &armed.f.programs, &armed.pgdata, "");
    let online = || armed.f.online(&armed.pgdata, &server.dsn()).unwrap();
    assert!(online().unchanged);
    server.stop();
    checksums("--disable");
    server.restart("");
    let seen = online();
    assert!(!seen.unchanged && armed.f.facts(seen.id).checksum_version == 0);
    assert!(online().unchanged);
}

#[test]
fn a_backup_copied_over_the_cluster_is_seen() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 20000) i");
    server.stop();
    let pgdata = server.pgdata.clone();
    let backup = f.place.join("backup");
    let copy = |from: &Path, to: &Path| {
        let from = format!("{}/.", from.display());
        let args = ["-a", &from, to.to_str().unwrap()];
        assert!(Command::new("cp").args(args).status().unwrap().success());
    };
    copy(&pgdata, &backup);
    let first = f.offline(&pgdata).unwrap();
    server.restart("");
    server.sql("update t set i = i + 1");
    server.stop();
    let armed = Armed::of(f, pgdata);
    // Times of the files are older than the cache.
    copy(&backup, &armed.pgdata);
    armed.is_seen("a backup copied over it");
    let tree = |id| armed.f.repo.snapshot(id).unwrap().tree;
    let last = armed.snapshot().id;
    for path in armed.f.listing(first.id).keys() {
        let of = |id| armed.f.listing(id).get(path).cloned();
        if path.starts_with("base/") {
            assert_eq!(of(first.id), of(last), "{path}");
        }
    }
    assert_ne!(
        tree(first.id),
        tree(armed.f.repo.snapshot(last).unwrap().parents[0])
    );
}

#[test]
fn another_history_with_as_many_transactions_is_seen_online() {
    other_history("insert into t values ('two')");
    // Also when it went further than the one before.
    other_history("insert into t select 'two' from generate_series(1, 10000)");
}

fn other_history(change: &str) {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t (x text)");
    server.stop();
    let copy = |from: &Path, to: &Path| {
        let from = format!("{}/.", from.display());
        let args = ["-a", &from, to.to_str().unwrap()];
        assert!(Command::new("cp").args(args).status().unwrap().success());
    };
    let backup = f.place.join("backup");
    copy(&server.pgdata, &backup);
    server.restart("");
    server.sql("insert into t values ('one')");
    let one = f.online(&server.pgdata, &server.dsn()).unwrap();
    server.stop();
    // The cluster of the same directory goes back and on again, to the same number.
    for entry in fs::read_dir(&server.pgdata).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    copy(&backup, &server.pgdata);
    server.restart("");
    server.sql(change);
    let two = f.online(&server.pgdata, &server.dsn()).unwrap();
    let (marks, lineages) = (
        [one.id, two.id].map(|id| f.facts(id).mark),
        [one.id, two.id].map(|id| f.facts(id).lineage),
    );
    assert_eq!((&marks[0], lineages[0]), (&marks[1], lineages[1]));
    assert!(!two.unchanged);
    let copy = f.checkout(two.id, "b");
    let copy = Server::start(&f.place, &f.programs, &copy, "");
    assert_eq!(copy.value("select min(x) from t"), "two");
}

#[test]
fn pg_rewind_is_seen() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 20000) i");
    server.stop();
    let base = f.offline(&server.pgdata).unwrap().id;
    let (source, target) = (f.checkout(base, "source"), f.checkout(base, "target"));
    // The source goes on on a timeline of its own.
    fs::write(source.join("recovery.signal"), "").unwrap();
    user::give(&source);
    let source = Server::start(
        &f.place,
        &f.programs,
        &source,
        "-c restore_command=/bin/false",
    );
    zenith_testkit::process::wait_for("the promotion", Duration::from_secs(30), || {
        (source.value("select pg_is_in_recovery()") == "f").then_some(())
    });
    source.sql("update t set i = 1 where i % 100 = 0; checkpoint");
    source.stop();
    let on_target = Server::start(&f.place, &f.programs, &target, "");
    on_target.sql("update t set i = 2 where i % 70 = 0; checkpoint");
    on_target.stop();

    let options = SnapshotOptions {
        branch: "target".into(),
        parent: Some(base),
        ..f.options()
    };
    std::thread::sleep(RACY);
    let snapshot = || zenith::snapshot::offline(&f.repo, &target, &options, &ignore).unwrap();
    let before = snapshot().id;
    let args = [
        "--source-pgdata",
        source.pgdata.to_str().unwrap(),
        "--target-pgdata",
        target.to_str().unwrap(),
        "--no-sync",
    ];
    f.programs.run("pg_rewind", f.place.path(), args);
    // A start replays what pg_rewind left to replay.
    let on_target = Server::start(&f.place, &f.programs, &target, "");
    assert_eq!(on_target.value("select count(*) from t where i = 2"), "1");
    on_target.stop();
    let after = snapshot();
    assert!(!after.unchanged && after.id != before);
    assert_holds(&f, after.id, &target, "pg_rewind");
}

/// Two snapshots of one cluster, and a checkout of the first that belongs to the tests.
fn two() -> (Fixture, [SnapshotId; 2], PathBuf) {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql("create table t as select generate_series(1, 20000) i");
    server.stop();
    let one = f.offline(&server.pgdata).unwrap().id;
    server.restart("");
    server.sql("update t set i = i + 1");
    server.stop();
    let two = f.offline(&server.pgdata).unwrap().id;
    let dir = f.checkout(one, "b");
    (f, [one, two], dir)
}

/// The next snapshot of a checkout.
fn snapshot_of(f: &Fixture, dir: &Path, from: SnapshotId) -> SnapshotReport {
    let options = SnapshotOptions {
        branch: format!("from-{from}"),
        parent: Some(from),
        ..f.options()
    };
    zenith::snapshot::offline(&f.repo, dir, &options, &ignore).unwrap()
}

#[test]
fn a_change_right_after_a_checkout_is_seen() {
    let (f, ids, dir) = two();
    for id in [ids[1], ids[0]] {
        f.in_place(id, &dir).unwrap();
        let untouched = snapshot_of(&f, &dir, id);
        assert!(untouched.unchanged);
        f.in_place(ids[0], &dir).unwrap();
        f.in_place(id, &dir).unwrap();
        flip(&dir.join("base/1/1259"));
        let before = mtime(&dir.join("base/1/1255"));
        flip(&dir.join("base/1/1255"));
        set_back(&dir.join("base/1/1255"), before);
        let report = snapshot_of(&f, &dir, id);
        assert!(!report.unchanged);
        assert_holds(&f, report.id, &dir, "a change after a checkout");
    }
}

#[test]
fn a_change_during_a_checkout_is_seen() {
    let (f, ids, dir) = two();
    let conf = dir.join("postgresql.conf");
    let changed = AtomicBool::new(false);
    let on = |event| {
        if let Event::Phase("syncing") = event {
            server::add_conf(&dir, "work_mem = '7MB'");
            flip(&dir.join("base/1/1259"));
            changed.store(true, Ordering::Relaxed);
            // All of this is old when the cache is made.
            std::thread::sleep(RACY);
        }
    };
    let options = CheckoutOptions {
        sync: true,
        ..f.checkout_options()
    };
    checkout::in_place(&f.repo, ids[1], &dir, &f.home, &options, &on).unwrap();
    assert!(changed.into_inner());
    assert!(fs::read_to_string(&conf).unwrap().contains("7MB"));
    let report = snapshot_of(&f, &dir, ids[1]);
    assert!(!report.unchanged);
    assert_holds(&f, report.id, &dir, "a change during a checkout");
}
