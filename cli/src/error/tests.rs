//! Every error that can be reached, as people see it: code, words, hint.

use std::path::PathBuf;

use insta::assert_snapshot;
use zenith::pg::Lsn;
use zenith::store::objects::UrlError;
use zenith::store::{PackName, SnapshotId};

use super::*;

fn shown(errors: Vec<Error>) -> String {
    let texts = errors.into_iter().map(|error| {
        let failure = Failure::from(error);
        let report = failure.report();
        assert!(!report.hints.is_empty(), "no hint: {report:?}");
        for text in report.details.iter().chain([&report.message]) {
            assert!(!text.contains("ailed to") && !text.ends_with('.'), "{text}");
        }
        for hint in &report.hints {
            assert!(hint.ends_with(['.', '`']), "a hint is a sentence: {hint}");
        }
        format!("[{}] {}", failure.code(), report.text("error", "hint"))
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn p(path: &str) -> PathBuf {
    path.into()
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn io(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

fn id(n: u8) -> SnapshotId {
    SnapshotId([n; 32])
}

#[test]
fn homes() {
    let busy = |pid| Error::HomeBusy {
        dir: p("/h"),
        by: s("snapshot create"),
        pid,
        since: s("2026-11-22T10:00:00Z"),
    };
    assert_snapshot!(shown(vec![
        Error::NoHome { dir: p("/h") },
        Error::HomeExists { dir: p("/h") },
        Error::HomeForeign { dir: p("/h"), found: s("thesis.tex") },
        busy(7),
        busy(0),
        Error::HomeInUse { dir: p("/h"), collecting: false },
        Error::SettingsInvalid { path: p("/h/config.toml"), why: s("unknown field\n  prot") },
        Error::HomeDamaged { path: p("/h/HEAD"), why: s("it is missing") },
        Error::NameInvalid { name: s("a b"), why: "it contains white space" },
    ]), @r#"
    [1] error: there is no zenith home at /h

    hint: `zenith init` makes one here; -D DIR or ZENITH_HOME names another place.

    [4] error: there is a zenith home at /h already

    hint: `zenith status` shows it; `zenith import --branch NEW` brings another cluster into it, -D DIR makes another home.

    [1] error: /h is not empty and not a zenith home: it holds `thesis.tex`

    hint: Name an empty or a new directory with -D DIR.

    [4] error: /h is busy: process 7 has been in `snapshot create` since 2026-11-22T10:00:00Z

    hint: Run the command again when it is done; `ps 7` shows the process.

    [4] error: /h is busy: process 0 has been in `snapshot create` since 2026-11-22T10:00:00Z

    hint: Run the command again; `zenith status` shows what the agent does.

    [4] error: /h is being read by another process

    hint: Run the command again when the other one is done.

    [1] error: /h/config.toml: unknown field
        prot

    hint: Mend the file and run the command again.

    [7] error: /h/HEAD is damaged: it is missing

    hint: Move /h/HEAD away and run `zenith start`: what it said is found again or asked for.

    [1] error: `a b` cannot be the name of a branch or tag: it contains white space

    hint: Letters, digits, and - _ . / between them are fine, for instance `try-index`.
    "#);
}

#[test]
fn collection_and_undo() {
    let packs = vec![PackName {
        session: [1; 16],
        number: 2,
    }];
    assert_snapshot!(shown(vec![
        Refusal::NothingToUndo { seq: None }.into(),
        Refusal::NothingToUndo { seq: Some(7) }.into(),
        StoreError::NotUndone { seq: 7, why: s("branch/main was moved since") }.into(),
        StoreError::InUse { id: id(1), name: s("branch/main") }.into(),
        StoreError::NamesUsedUp { packs, floor: 0 }.into(),
    ]), @r"
    [1] error: there is no operation to undo

    hint: `zenith op log --all` lists every operation.

    [1] error: the operation log has no operation 7

    hint: `zenith op log --all` lists every operation.

    [4] error: operation 7 cannot be undone: branch/main was moved since

    hint: Nothing was changed. `zenith op log` lists the operations.

    [4] error: snapshot 01010101 is not removed: branch/main stands on it

    hint: Nothing was removed. Move the branch or delete the tag first; `zenith snapshot list --all` shows which.

    [4] error: packs that are needed were collected meanwhile, the first is 01010101010101010101010101010101-2

    hint: Somebody else was faster: run the command again.
    ");
    let damaged = Failure::Damaged {
        place: s("/h"),
        packs: 1,
        snapshots: 2,
        of: 3,
    };
    assert_eq!(damaged.code(), exit::DAMAGED);
    let message = damaged.report().message;
    assert_eq!(
        message,
        "1 pack missing or damaged at /h; 2 of 3 snapshots need what is lost"
    );
}

#[test]
fn encryption() {
    let location = || s("/srv/store");
    assert_snapshot!(shown(vec![
        Error::NotSealed { location: location() },
        Error::KeyForeign { dir: p("/h"), location: location() },
        Error::KeyMissing { dir: p("/h") },
        Error::HomeDamaged { path: p("/h/key"), why: s("it holds no key") },
        Error::PassphraseMissing { location: location() },
        StoreError::Sealed { location: location() }.into(),
        StoreError::NotSealed { location: location() }.into(),
        StoreError::WrongKey { location: location() }.into(),
        StoreError::WrongPassphrase { location: location() }.into(),
        StoreError::NoSlots { location: location() }.into(),
        StoreError::NoSlot { number: 7, location: location() }.into(),
        StoreError::LastSlot { number: 0, location: location() }.into(),
    ]), @r"
    [1] error: /srv/store is not encrypted

    hint: Encryption is decided when a repository is made: `zenith -D NEW init --encrypt --storage-dest URL`; --snapshot-path brings a cluster into it.

    [1] error: the storage /srv/store is encrypted with another key than the home /h

    hint: Attach a new home to that storage: `zenith -D NEW init --storage-dest URL`, or name another storage.

    [1] error: the home /h is encrypted, and its key is gone

    hint: Run `zenith -D /h init` with ZENITH_PASSPHRASE set: the passphrase brings the key back.

    [7] error: /h/key is damaged: it holds no key

    hint: Move /h/key away and run `zenith init` with ZENITH_PASSPHRASE set: the passphrase brings the key back.

    [1] error: /srv/store is encrypted, and no passphrase is given

    hint: Set ZENITH_PASSPHRASE, or give --passphrase-file FILE or --passphrase-command CMD to `zenith init`.

    [1] error: the repository at /srv/store is encrypted, and there is no key for it here

    hint: A home that is made for it asks for its passphrase: `zenith -D NEW init --storage-dest URL`; from there, `zenith export --snapshot-format pgdata` takes a cluster elsewhere.

    [1] error: the repository at /srv/store is not encrypted, unlike this home

    hint: Name an empty place, which is encrypted like this home; clusters come and go between the two with --snapshot-format pgdata or tar.

    [1] error: the repository at /srv/store is encrypted with another key than this home's

    hint: Name a place of this home's own. A home for that one is `zenith -D NEW init --storage-dest URL`; clusters come and go between the two with --snapshot-format pgdata or tar.

    [1] error: the passphrase opens no key slot of /srv/store

    hint: Check for another keyboard layout, upper case and white space; the passphrase of any key slot will do. ZENITH_PASSPHRASE and --passphrase-file win over config.toml.

    [1] error: there is no key slot at /srv/store

    hint: A home that still has its key gives the repository a new one: `zenith key add`.

    [1] error: there is no key slot 7 at /srv/store

    hint: `zenith key list` lists what there is.

    [1] error: key slot 0 at /srv/store is the last that opens the repository

    hint: Add another passphrase first, `zenith key add`, or replace this one: `zenith key change`.
    ");
}

#[test]
fn clusters() {
    let pgdata = || p("/data");
    assert_snapshot!(shown(vec![
        Error::NoSuchPath { path: p("/x") },
        Error::NotShutDown { pgdata: pgdata(), state: s("in production") },
        Error::ServerRunning { pgdata: pgdata(), pid: 7 },
        Error::ClusterChanged { pgdata: pgdata(), what: s("pg_control is another") },
        Error::BackupWithoutWal { pgdata: pgdata(), missing: s("000000010000000000000003") },
        Error::WalMissing { pgdata: pgdata(), missing: s("000000010000000000000003") },
        Error::PathInvalid { path: s("../x") },
        Error::BackupIncremental { pgdata: pgdata() },
        Error::BackupDamaged { path: p("/data/backup_label"), why: s("no START") },
        Error::UnknownEntry { pgdata: pgdata(), path: s("x"), what: s("socket") },
        Error::NameNotUtf8 { dir: pgdata(), name: "x".into() },
        Error::TablespaceMissing { oid: 16384, location: p("/ts") },
        Error::FileVanished { pgdata: pgdata(), path: s("base/1/1259") },
        Error::FileUnstable { pgdata: pgdata(), path: s("pg_hba.conf") },
        Error::PagesDamaged {
            place: pgdata(),
            count: 22,
            pages: vec![s("page 7 of `base/5/1` is damaged: its checksum is 1"), s("21 more pages are damaged")],
        },
        Error::OtherServer { pgdata: pgdata(), why: s("it runs on /other") },
        Error::FactsDamaged { id: s("4f1c9a27"), why: s("end of input") },
        Error::NotACluster { id: s("4f1c9a27"), why: s("it has no global/pg_control") },
    ]), @r#"
    [1] error: /x does not exist

    hint: Check the path; a relative one counts from here.

    [1] error: the cluster in /data was not shut down: its state is "in production"

    hint: Start the server and stop it cleanly: `pg_ctl -D /data start && pg_ctl -D /data stop`; for the managed cluster `zenith start && zenith stop`. A running one is taken with `zenith snapshot create --pgdata /data --dsn DSN`. `zenith checkout --force` discards.

    [4] error: a server runs on /data (process 7)

    hint: Stop it with `pg_ctl -D /data stop`, or take it as it runs: `zenith snapshot create --pgdata /data --dsn DSN`.

    [4] error: the cluster in /data changed while it was read: pg_control is another

    hint: Run the command again when the server is stopped, or online with --dsn DSN.

    [1] error: the base backup in /data lacks the WAL it needs: 000000010000000000000003 is missing

    hint: Make the backup again with its WAL: `pg_basebackup -X stream`.

    [7] error: WAL segment 000000010000000000000003 that the cluster in /data needs is missing

    hint: Start the server once and stop it cleanly, then run the command again.

    [1] error: `../x` cannot be the path of a file in a cluster

    hint: Make the archive with `pg_basebackup -F tar -X fetch` or `zenith export`.

    [1] error: /data is an incremental backup

    hint: Combine it with the backups before it: `pg_combinebackup`.

    [7] error: /data/backup_label is damaged: no START

    hint: Make the backup again: `pg_basebackup`.

    [1] error: `x` in the cluster /data is a socket, which no rule covers

    hint: Move `x` out of the cluster; PostgreSQL itself makes no such entry there.

    [1] error: the name "x" in /data is not UTF-8

    hint: Rename it, or move it out of the cluster.

    [7] error: tablespace 16384 has no files of this cluster at /ts

    hint: Mount or restore the directory of the tablespace, then run the command again.

    [7] error: `base/1/1259` vanished from the cluster /data while it was read

    hint: Something else removes files from the cluster; `pg_amcheck` shows what is missing.

    [4] error: `pg_hba.conf` in the cluster /data kept changing while it was read

    hint: Run the command again when the server is stopped, or online with --dsn DSN.

    [7] error: 22 pages of the cluster in /data are damaged
      page 7 of `base/5/1` is damaged: its checksum is 1
      21 more pages are damaged

    hint: Mend them from an older snapshot or a standby (`pg_amcheck` shows what is hit), or take the cluster as it is with --on-damage warn: the snapshot records them.

    [1] error: the server does not run on /data: it runs on /other

    hint: Give the DSN of the server that runs on --pgdata: `SHOW data_directory` tells.

    [7] error: the facts of snapshot 4f1c9a27 are damaged: end of input

    hint: Take another snapshot: `zenith snapshot list --all`.

    [7] error: snapshot 4f1c9a27 does not hold a cluster: it has no global/pg_control

    hint: Take another snapshot: `zenith snapshot list --all`.
    "#);
}

#[test]
fn targets_and_sources() {
    assert_snapshot!(shown(vec![
        Error::TargetNotEmpty { dir: p("/t"), found: s("x") },
        Error::TargetForeign { dir: p("/t") },
        Error::TargetInvalid { dir: p("/t"), why: s("it is no directory") },
        Error::TargetBusy { dir: p("/t") },
        Error::CheckoutPending { dir: p("/t"), snapshot: id(0xab).to_string() },
        Error::NoSuchTablespace { old: p("/ts") },
        Error::TablespacesInStream { oid: 16384, location: p("/ts"), number: 2 },
        Error::FormatUnknown { path: p("/x"), found: s("an empty directory") },
        Error::Compressed { path: p("/x/base.tar.gz"), how: s("gz") },
        Error::TarTruncated { path: p("/x.tar"), entry: s("base/1/1259") },
        Error::TarEntry { path: p("/x.tar"), entry: s("dev"), why: s("it is a device") },
        Error::StreamIncomplete { name: p("stdin"), missing: s("backup_label") },
        Error::ExportUnfinished { path: p("/x") },
        Error::Url(UrlError::UnknownScheme { text: s("ftp://h"), scheme: s("ftp") }),
        Error::NothingToPush { branch: s("main") },
        Error::Diverged { branch: s("main"), ours: id(1), theirs: id(2) },
        Error::StorageBusy { location: s("s3://b/p"), tries: 8 },
    ]), @r#"
    [1] error: /t is not empty: it holds `x`

    hint: Name an empty or a new directory; only older checkouts are moved in place.

    [1] error: /t was not made by a checkout

    hint: Name an empty or a new directory.

    [1] error: /t cannot be a target: it is no directory

    hint: Name another directory.

    [4] error: another process is filling /t

    hint: Run the command again when the other one is done.

    [4] error: a checkout of abababababababababababababababababababababababababababababababab into /t is half done

    hint: Complete it with `zenith checkout abababab /t`.

    [1] error: the snapshot has no tablespace at /ts

    hint: `zenith snapshot show REV` lists the tablespaces of a snapshot.

    [1] error: a cluster with tablespaces does not fit into one tar stream: 2 of them, the first is 16384 at /ts

    hint: Export to a directory or URL instead of `-`: one tar per tablespace goes there.

    [1] error: /x is nothing that can be imported: it is an empty directory

    hint: Name a data directory, the tar files of pg_basebackup, or a zenith repository; --snapshot-format says which.

    [1] error: /x/base.tar.gz is compressed (gz)

    hint: Decompress it first: `gunzip /x/base.tar.gz`.

    [7] error: /x.tar is cut off after `base/1/1259`

    hint: Copy or make it again: `pg_basebackup -F tar -X fetch`.

    [1] error: `dev` in /x.tar cannot be part of a cluster: it is a device

    hint: Make the archive with `pg_basebackup -F tar -X fetch` or `zenith export`.

    [7] error: stdin holds no whole cluster: `backup_label` is missing

    hint: Copy or make it again: `pg_basebackup -F tar -X fetch`.

    [7] error: the export at /x was not completed

    hint: Run the same `zenith export` again; it goes on where it stopped.

    [1] error: `ftp://h` has the unknown scheme `ftp`

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: branch `main` has no snapshot to push

    hint: `zenith snapshot create` takes one.

    [4] error: branch `main` diverged: it is at 01010101 here and at 02020202 there, and neither descends from the other

    hint: Keep both: `zenith checkout -b main-01010101 01010101` begins a branch here that `zenith push --branch main-01010101` sends.

    [4] error: s3://b/p is busy: other homes moved the branch 8 times in a row

    hint: Run `zenith push` again.
    "#);
}

#[test]
fn revisions() {
    let not_found = |similar: &[&str]| RevisionError::NotFound {
        name: s("mian"),
        similar: similar.iter().map(|name| s(name)).collect(),
    };
    let errors = vec![
        not_found(&["main"]),
        not_found(&[]),
        RevisionError::NoRef {
            what: "branch",
            name: s("mian"),
            similar: vec![s("main")],
        },
        RevisionError::NoRef {
            what: "tag",
            name: s("v1"),
            similar: vec![],
        },
        RevisionError::NoRef {
            what: "home",
            name: s("0a1b"),
            similar: vec![],
        },
        RevisionError::Unborn { branch: s("main") },
        RevisionError::Ambiguous {
            name: s("4f1c"),
            candidates: vec![s("4f1c9a27"), s("4f1c0000")],
        },
        RevisionError::TooShort { name: s("4f1") },
        RevisionError::Gone {
            name: s("v1"),
            id: id(1),
        },
        RevisionError::Step {
            revision: s("main~x"),
            step: s("~x"),
            why: "a number is missing",
        },
        RevisionError::NoAncestor {
            base: s("main"),
            ancestors: 1,
            asked: 3,
        },
        RevisionError::NoneAsOld {
            base: s("main"),
            asked: s("2025-01-01"),
            first: s("4f1c9a27"),
        },
        RevisionError::OtherLineage {
            base: s("main"),
            lsn: Lsn(0x3000028),
            first: s("4f1c9a27 at 0/5000028"),
            before: id(1),
        },
    ];
    assert_snapshot!(shown(errors.into_iter().map(Error::from).collect()), @r"
    [1] error: no branch, tag or snapshot is called `mian`

    hint: Did you mean `main`? `zenith branch` lists branches, `zenith snapshot list --all` every snapshot.

    [1] error: no branch, tag or snapshot is called `mian`

    hint: `zenith branch` lists branches, `zenith snapshot list --all` every snapshot.

    [1] error: no branch is called `mian`

    hint: Did you mean `main`? `zenith branch` lists those that are here, `zenith branch --remote` those of the storage.

    [1] error: no tag is called `v1`

    hint: `zenith tag` lists what there is.

    [1] error: no home is called `0a1b`

    hint: `zenith home list --remote` lists what there is.

    [1] error: branch `main` has no snapshot yet

    hint: `zenith snapshot create` takes the first one.

    [1] error: `4f1c` is ambiguous: 4f1c9a27, 4f1c0000

    hint: Write more digits, or the full name of the ref.

    [1] error: `4f1` is too short for a snapshot id: four digits are the least

    hint: Write at least four digits.

    [7] error: `v1` points at snapshot 0101010101010101010101010101010101010101010101010101010101010101, which is gone

    hint: `zenith snapshot list` shows the history of the branch.

    [1] error: `~x` in `main~x` is not a step: a number is missing

    hint: Steps are ~N, ^, @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028}.

    [1] error: `main` has 1 surviving ancestors, not 3

    hint: `zenith snapshot list` shows the history of the branch.

    [1] error: no snapshot in the history of `main` is as old as 2025-01-01: the first is 4f1c9a27

    hint: `zenith snapshot list` shows the history of the branch.

    [1] error: LSN 0/3000028 is before the first snapshot of this lineage in the history of `main` (4f1c9a27 at 0/5000028); an LSN means nothing in another lineage

    hint: Ask below it: `01010101@{LSN}`.
    ");
}

#[test]
fn the_managed_cluster() {
    let dir = || p("/h");
    let errors = vec![
        Refusal::NothingToStart { dir: dir() },
        Refusal::NoCluster { dir: dir() },
        Refusal::ClusterMissing { dir: dir() },
        Refusal::NoStorage { dir: dir() },
        Refusal::BranchNotAtStorage {
            branch: s("mian"),
            location: s("s3://b/p"),
            branches: vec![s("main"), s("dev")],
        },
        Refusal::BranchTaken {
            branch: s("main"),
            location: s("s3://b/p"),
            expected: 7,
            source_place: s("/x"),
        },
        Refusal::OtherStorage {
            dir: dir(),
            saved: s("/a"),
            asked: s("/b"),
        },
        Refusal::OtherBranch {
            dir: dir(),
            saved: s("main"),
            asked: s("dev"),
        },
        Refusal::OtherCluster {
            source_place: s("/x"),
            found: 1,
            place: s("/h"),
            expected: 2,
        },
        Refusal::Unmounted {
            pgdata: p("/h/pgdata"),
        },
        Refusal::Incomplete {
            pgdata: p("/h/pgdata"),
            missing: "PG_VERSION",
        },
        Refusal::AgentSilent {
            seconds: 20,
            log: p("/h/log/agent.log"),
        },
        Refusal::AgentRunning { dir: dir(), pid: 7 },
        Refusal::ServerDied {
            status: s("exit status: 1"),
        },
        Refusal::SocketDirForeign {
            dir: p("/tmp/zenith-0a"),
        },
        Refusal::Referenced {
            id: s("4f1c9a27"),
            refs: vec![s("branch `main`"), s("tag `v1`")],
        },
        Refusal::NameTaken {
            kind: "tag",
            name: s("v1"),
            id: s("4f1c9a27"),
        },
        Refusal::CheckedOut { branch: s("main") },
        Refusal::NotKept {
            branch: s("try"),
            number: 3,
            id: s("4f1c9a27"),
            at_storage: false,
        },
        Refusal::NotKept {
            branch: s("try"),
            number: 1,
            id: s("4f1c9a27"),
            at_storage: true,
        },
        Refusal::Held {
            id: s("4f1c9a27"),
            by: vec![s("home 0a1b builds on"), s("home 2c3d builds on")],
            home: Some(s("0a1b")),
        },
        Refusal::Held {
            id: s("4f1c9a27"),
            by: vec![s("a reader (pins/x) is at")],
            home: None,
        },
        Refusal::Needed {
            id: s("4f1c9a27"),
            by: vec!["HEAD"],
        },
        Refusal::Guarded {
            pgdata: p("/h/pgdata"),
        },
    ];
    assert_snapshot!(shown(errors.into_iter().map(Error::from).collect()), @r"
    [1] error: there is no zenith home at /h, and no storage_dest to make one from

    hint: Change to the directory of your home or name it with -D DIR; a new one is made by `zenith start --storage-dest URL` or `zenith init`.

    [1] error: the home /h has no cluster and no snapshot to make one from

    hint: `zenith init` makes a cluster; `zenith init --snapshot-path PATH` takes one over.

    [1] error: the home /h has snapshots, but no cluster now

    hint: `zenith start` makes it anew from the last snapshot.

    [1] error: the home /h has no storage_dest

    hint: Add one: `zenith init --storage-dest URL`; nothing that is there changes.

    [1] error: the repository at s3://b/p has no branch `mian`; it has main, dev

    hint: Name one of them, for instance --branch main, or another storage.

    [4] error: branch `main` at s3://b/p holds a cluster already (system identifier 7): /x is not imported over it

    hint: Attach to it with `zenith init` without --snapshot-path, or import into a branch of its own with --branch NEW.

    [4] error: the home /h pushes to /a, not to /b

    hint: To move on to another storage, run `zenith -D /h remote set-url origin /b` and `zenith -D /h push`; another DIR makes another home.

    [4] error: the home /h was made for branch `main`, not `dev`

    hint: `zenith checkout -b NEW HEAD` begins a branch; -D DIR makes another home.

    [1] error: /x is cluster 1, but /h holds cluster 2 (system identifiers)

    hint: Import it into a branch of its own with `zenith import --snapshot-path PATH --branch NEW`, or make another home with -D DIR.

    [8] error: /h/pgdata is empty and on another device than the cluster was: a disk is not mounted

    hint: Mount the disk; if the cluster is lost for good, remove /h/pgdata and run `zenith start`.

    [8] error: /h/pgdata is not empty and not a whole cluster: PG_VERSION is missing

    hint: Move /h/pgdata away and run `zenith start`: it is rebuilt from the last snapshot.

    [5] error: the agent does not answer 20 s after it was started; its log is /h/log/agent.log

    hint: `tail /h/log/agent.log` shows why; `zenith start` tries again.

    [4] error: an agent works in /h already (process 7)

    hint: `zenith stop` stops it, `zenith status` shows it.

    [5] error: the server ended on its own: exit status: 1

    hint: Its messages above say why; `zenith start --foreground` starts it again.

    [8] error: /tmp/zenith-0a exists and is not a private directory of this user

    hint: Look at /tmp/zenith-0a and remove it if it is nobody's.

    [1] error: branch `main`, tag `v1` points at snapshot 4f1c9a27

    hint: `zenith snapshot delete --force 4f1c9a27` deletes it all the same: branches step back to its parent, tags go.

    [4] error: there is a tag `v1` already, at 4f1c9a27

    hint: Take another name; `zenith tag` lists those that are taken.

    [1] error: branch `main` is checked out

    hint: Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`.

    [1] error: nothing but branch `try` leads to 3 of its snapshots, 4f1c9a27 the newest

    hint: `zenith branch -d --force try` deletes it all the same; `zenith tag NAME try` keeps a name for them.

    [1] error: nothing but branch `try` leads to 1 of its snapshots, 4f1c9a27 the newest

    hint: `zenith branch -d --force try --remote` deletes it all the same.

    [1] error: home 0a1b builds on and home 2c3d builds on snapshot 4f1c9a27

    hint: If that home is gone for good: `zenith home forget 0a1b --remote`, then delete again.

    [1] error: a reader (pins/x) is at snapshot 4f1c9a27

    hint: Run the command again when the other one is done.

    [1] error: HEAD needs snapshot 4f1c9a27

    hint: Complete the checkout, or move the cluster to another snapshot: `zenith checkout REV`.

    [1] error: the cluster in /h/pgdata is guarded as a copy and listens on localhost only

    hint: If this is the original now: `zenith start --primary`.
    ");
}

#[test]
fn remotes() {
    let name = || s("offsite");
    let mut errors = vec![Error::PullDiverged {
        branch: s("main"),
        remote: s("origin"),
        ours: id(1),
        theirs: id(2),
    }];
    let refusals = [
        Refusal::PullRunning {
            pgdata: p("/h/pgdata"),
            pid: 7,
            id: s("02020202"),
            upstream: s("origin/main"),
        },
        Refusal::NoRemote {
            name: name(),
            known: vec![s("origin")],
        },
        Refusal::RemoteExists {
            name: name(),
            location: s("s3://b/p"),
        },
        Refusal::RemoteNameInvalid {
            name: s("a/b"),
            why: "it contains a slash",
        },
        Refusal::NothingToClone {
            location: s("s3://b/p"),
        },
    ];
    errors.extend(refusals.into_iter().map(Error::from));
    assert_snapshot!(shown(errors), @r#"
    [4] error: branch `main` and origin/main have diverged: 01010101 here, 02020202 there

    hint: Keep both: `zenith checkout -b main-02020202 origin/main` goes on from theirs on a branch of its own, and main keeps 01010101.

    [4] error: the server runs on /h/pgdata (process 7), which is to move to 02020202

    hint: Run `zenith stop` first, then `zenith pull`. `zenith fetch` alone moves nothing: `zenith checkout origin/main DIR` is a copy beside it.

    [1] error: no remote is called `offsite`

    hint: `zenith remote` lists them; `zenith remote add offsite URL` adds this one.

    [4] error: the remote `offsite` is s3://b/p already

    hint: `zenith remote set-url offsite URL` changes where it is.

    [1] error: `a/b` cannot be the name of a remote: it contains a slash

    hint: Letters, digits, and - _ . between them are fine, for instance `offsite`.

    [1] error: the repository at s3://b/p has no branch with a snapshot

    hint: Push to it first with `zenith push`, or begin with a new cluster: `zenith init --storage-dest s3://b/p`.
    "#);
}

#[test]
fn storages() {
    let (location, key, why) = (|| s("s3://b/p"), || s("packs/x"), || s("told so"));
    let objects = vec![
        ObjectsError::NotFound {
            location: location(),
            key: key(),
        },
        ObjectsError::BucketMissing {
            location: location(),
            bucket: s("b"),
        },
        ObjectsError::BadCredentials {
            location: location(),
            why: why(),
        },
        ObjectsError::PermissionDenied {
            location: location(),
            key: key(),
            why: why(),
        },
        ObjectsError::Unreachable {
            location: location(),
            key: key(),
            host: s("127.0.0.1:9"),
            why: why(),
        },
        ObjectsError::NoSpace {
            location: location(),
            key: key(),
        },
        ObjectsError::ReadOnly {
            location: location(),
            key: key(),
        },
        ObjectsError::HttpNotAllowed {
            endpoint: s("http://h"),
            variable: "AWS_ALLOW_HTTP",
        },
        ObjectsError::Unsupported {
            location: location(),
            what: s("conditional writes"),
        },
        ObjectsError::Configuration {
            location: location(),
            why: why(),
        },
        ObjectsError::Service {
            location: location(),
            key: key(),
            why: why(),
        },
        ObjectsError::Io {
            location: s("/s"),
            key: key(),
            source: io(io::ErrorKind::Other),
        },
    ];
    let moved = |expected| StoreError::RefMoved {
        name: s("branch/x"),
        expected,
        found: Some(id(2)),
    };
    let store = vec![
        StoreError::NotARepository {
            location: location(),
        },
        StoreError::RepositoryExists {
            location: location(),
        },
        StoreError::TooNew {
            location: location(),
            what: s("format 2"),
        },
        StoreError::Damaged {
            what: s("root 7"),
            location: location(),
            why: s("its hash is another"),
        },
        StoreError::NoSnapshot {
            id: id(1),
            location: location(),
        },
        moved(None),
        moved(Some(id(1))),
        StoreError::Contended {
            location: location(),
            tries: 9,
        },
        StoreError::ParamsDiffer {
            from: s("/a"),
            to: s("/b"),
            what: s("chunk size"),
        },
        StoreError::Index {
            path: s("/h/rocks"),
            why: s("corrupt"),
        },
        StoreError::File {
            verb: "write",
            path: s("/h/packs/x"),
            source: io(io::ErrorKind::StorageFull),
        },
    ];
    let all = objects.into_iter().map(StoreError::from).chain(store);
    assert_snapshot!(shown(all.map(Error::from).collect()), @r"
    [1] error: s3://b/p/packs/x does not exist

    hint: An object is missing: check the URL, and that nothing else deletes there.

    [1] error: the bucket `b` of s3://b/p does not exist

    hint: Create the bucket `b` first, or correct the URL.

    [1] error: s3://b/p does not accept the credentials: told so

    hint: Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (or the names of your cloud); for --snapshot-path the same with SNAPSHOT_ in front.

    [8] error: no permission for s3://b/p/packs/x: told so

    hint: Give the user or key the right to read, write and list there.

    [5] error: 127.0.0.1:9 is unreachable: told so

    hint: Check the network and AWS_ENDPOINT_URL, then run the command again; snapshots stay in the home meanwhile.

    [8] error: no space left for s3://b/p/packs/x

    hint: No space is left there: make room and run the same command again.

    [8] error: s3://b/p/packs/x is on a read-only file system

    hint: Name a place on a file system that can be written.

    [1] error: the endpoint `http://h` is not encrypted and AWS_ALLOW_HTTP is not set

    hint: Set AWS_ALLOW_HTTP=true to allow http, or use an https endpoint.

    [6] error: s3://b/p does not support conditional writes

    hint: zenith needs conditional writes (If-None-Match: *); use a service that has them.

    [1] error: the settings of s3://b/p are not valid: told so

    hint: Check URL and settings of the storage, then run the command again.

    [8] error: s3://b/p/packs/x: told so

    hint: Check URL and settings of the storage, then run the command again.

    [8] error: /s/packs/x: other error

    hint: Look at the disk (`dmesg`), then run the same command again.

    [1] error: there is no zenith repository at s3://b/p

    hint: `zenith init --storage-dest URL` makes one; check the URL for a typo.

    [4] error: there is a zenith repository at s3://b/p already

    hint: Name another place, or push to this one.

    [6] error: the repository at s3://b/p needs a newer zenith: format 2

    hint: Install a newer zenith; this one changes nothing there.

    [7] error: root 7 at s3://b/p is damaged: its hash is another

    hint: Nothing was changed. What the storage has comes into a new home with `zenith -D NEW init --storage-dest URL`; which snapshots are touched shows `zenith export REV --snapshot-path - > /dev/null`, one after the other.

    [1] error: there is no snapshot 0101010101010101010101010101010101010101010101010101010101010101 in the repository at s3://b/p

    hint: `zenith snapshot list --all` lists what there is.

    [4] error: branch/x moved: expected nothing, found 02020202

    hint: There is a branch of this name already; `zenith branch` lists what there is.

    [4] error: branch/x moved: expected 01010101, found 02020202

    hint: Somebody else was faster: run the command again.

    [4] error: other writers committed 9 times before this commit to s3://b/p could

    hint: Somebody else was faster: run the command again.

    [1] error: /a and /b differ in chunk size

    hint: Export to an empty place: `zenith export --snapshot-format zenith`.

    [8] error: the index /h/rocks cannot be used: corrupt

    hint: The index only saves time: move /h/rocks away and run the command again.

    [8] error: write /h/packs/x: no storage space

    hint: No space is left: make room and run the same command again; `df -h` shows where.
    ");
}

#[test]
fn postgresql() {
    let pgdata = || p("/h/pgdata");
    let (path, reason) = (|| p("/x"), || s("told so"));
    let errors = vec![
        PgError::NotACluster { path: path() },
        PgError::UnsupportedMajor {
            path: path(),
            major: s("14"),
        },
        PgError::UnsupportedServer { version: s("14.1") },
        PgError::ControlDamaged {
            path: path(),
            reason: reason(),
        },
        PgError::WalDamaged {
            segment: s("000000010000000000000003"),
            offset: 8192,
            reason: reason(),
        },
        PgError::NoBinaries {
            searched: s("PATH"),
            want: s("15"),
        },
        PgError::WrongBinaries {
            dir: path(),
            found: s("16.1"),
            want: s("15"),
        },
        PgError::NoSuchUser {
            name: s("postgres"),
        },
        PgError::CannotSearch {
            user: s("postgres"),
            dir: p("/root"),
            path: p("/root/h"),
            mode: 0o700,
        },
        PgError::BecomeUser {
            user: s("postgres"),
            reason: reason(),
        },
        PgError::Program {
            program: s("initdb"),
            status: s("exit status: 1"),
            stderr: s("first line\nsecond line"),
        },
        PgError::PathUnquotable { path: path() },
        PgError::BadPidFile {
            path: path(),
            reason: reason(),
        },
        PgError::PortInUse { port: 5432 },
        PgError::AlreadyRunning {
            pgdata: pgdata(),
            pid: 7,
        },
        PgError::LockFileExists {
            path: p("/h/run/.s.PGSQL.5432.lock"),
        },
        PgError::StartFailed {
            pgdata: pgdata(),
            log: s("FATAL:  one\nHINT:  two"),
        },
        PgError::NotReady {
            pgdata: pgdata(),
            seconds: 300,
        },
        PgError::StopTimeout {
            pgdata: pgdata(),
            pid: 7,
            seconds: 600,
        },
        PgError::BadDsn { reason: reason() },
        PgError::Connect { reason: reason() },
        PgError::Query {
            doing: "starting the backup",
            reason: reason(),
            code: None,
        },
        PgError::Privilege {
            role: s("app"),
            what: s("run pg_backup_start"),
        },
        PgError::WalLevelMinimal,
        PgError::SlotRefused { reason: reason() },
        PgError::SlotLost {
            slot: s("zenith_1"),
            status: s("lost"),
        },
        PgError::ServerChanged {
            what: "timeline",
            before: s("1"),
            after: s("2"),
        },
        PgError::Io {
            what: "reading",
            path: path(),
            source: io(io::ErrorKind::PermissionDenied),
        },
    ];
    assert_snapshot!(shown(errors.into_iter().map(Error::from).collect()), @r#"
    [1] error: /x is not a PostgreSQL cluster: it has no PG_VERSION

    hint: Name a data directory: the one with PG_VERSION in it (`SHOW data_directory`).

    [6] error: /x holds a cluster of PostgreSQL 14; supported are 15 to 18

    hint: Upgrade it with `pg_upgrade`, or use a newer zenith.

    [6] error: the server runs PostgreSQL 14.1; supported are 15 to 18

    hint: Upgrade it with `pg_upgrade`, or use a newer zenith.

    [7] error: /x is damaged: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [7] error: WAL segment 000000010000000000000003 is damaged at offset 8192: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [8] error: no PostgreSQL 15 server programs (postgres, initdb, pg_ctl); searched PATH

    hint: Install a server (`apt install postgresql`), or name its programs with --pg-bin DIR.

    [1] error: /x is PostgreSQL 16.1, needed is 15

    hint: Name the programs of PostgreSQL 15 with --pg-bin DIR.

    [8] error: there is no user `postgres`

    hint: Name the user that runs the server with --pg-user USER, or run zenith as that user.

    [8] error: user postgres cannot search /root (mode 0700), which leads to /root/h

    hint: Let postgres through with `chmod a+x /root`, or choose a place elsewhere, for instance below /var/lib or /srv.

    [8] error: becoming user postgres: told so

    hint: Name the user that runs the server with --pg-user USER, or run zenith as that user.

    [8] error: initdb ended with exit status: 1: first line
      second line

    hint: The lines above say why; mend that and run the same command again.

    [1] error: /x holds a character that pg_ctl cannot pass on: one of " $ ` \ or a line break

    hint: Use a directory without such characters.

    [7] error: /x is damaged: told so

    hint: If no server runs on this cluster, remove /x; if one does, wait for it.

    [4] error: port 5432 is in use by another program

    hint: Choose another port: `zenith start --port 5433`.

    [4] error: the server of /h/pgdata runs already (pid 7)

    hint: `zenith stop` stops it; `zenith start` without --foreground adopts it.

    [4] error: lock file /h/run/.s.PGSQL.5432.lock exists

    hint: Another server uses this socket: choose another --port; remove /h/run/.s.PGSQL.5432.lock only if no server runs.

    [8] error: the server of /h/pgdata did not start: FATAL:  one
      HINT:  two

    hint: The lines above say why; mend that and run the same command again.

    [5] error: the server of /h/pgdata is not ready after 300 s

    hint: It goes on starting (after a crash it replays WAL): `zenith start` waits again.

    [5] error: the server of /h/pgdata (pid 7) still runs after 600 s

    hint: `zenith stop` waits again; `zenith stop --mode immediate` does not wait for clients.

    [1] error: the connection string is not understood: told so

    hint: A DSN looks like `host=/run/postgresql user=postgres dbname=postgres`.

    [5] error: no connection to the server: told so

    hint: Check that the server runs and that pg_hba.conf lets you in: `psql DSN`.

    [5] error: the server reports, while starting the backup: told so

    hint: The server's log says more.

    [1] error: role app may not run pg_backup_start

    hint: docs/least-privilege.md shows the role that --dsn needs.

    [1] error: wal_level is minimal: an online backup needs replica or logical

    hint: Set wal_level = replica and restart the server, or stop it and take it offline.

    [5] error: the server refuses a replication slot: told so

    hint: Raise max_replication_slots and max_wal_senders, and restart the server.

    [5] error: replication slot zenith_1 lost its WAL (wal_status lost)

    hint: Raise max_slot_wal_keep_size and take the snapshot again.

    [4] error: the server changed during the backup: timeline was 1, is 2

    hint: Take the snapshot again: `zenith snapshot create`.

    [8] error: reading /x
      caused by: permission denied

    hint: Run it as the user that owns the place, or as root, which becomes that user.
    "#);
}

#[test]
fn the_machine() {
    let kinds = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::NotFound,
        io::ErrorKind::Other,
    ];
    let errors = kinds.map(|kind| Error::Io {
        verb: "write",
        path: p("/x"),
        source: io(kind),
    });
    assert_snapshot!(shown(errors.into()), @r#"
    [8] error: write /x: permission denied

    hint: Run it as the user that owns the place, or as root, which becomes that user.

    [8] error: write /x: no storage space

    hint: No space is left: make room and run the same command again; `df -h` shows where.

    [8] error: write /x: read-only filesystem or storage medium

    hint: Name a place on a file system that can be written.

    [8] error: write /x: entity not found

    hint: Check the path; a relative one counts from here.

    [8] error: write /x: other error

    hint: Look at the disk (`dmesg`), then run the same command again.
    "#);
}

#[test]
fn what_is_no_error_of_the_engine() {
    let pipe = Error::Io {
        verb: "write",
        path: p("stdout"),
        source: io(io::ErrorKind::BrokenPipe),
    };
    let failure = Failure::from(pipe);
    assert!(failure.is_silent());
    assert_eq!(failure.code(), 0);
    assert!(Failure::No.is_silent());
    assert_eq!(Failure::No.code(), 3);
    assert_eq!(Failure::usage("x").code(), 2);
    let bug = Failure::Bug(s("index out of bounds (src/x.rs:1)"));
    assert_eq!(bug.code(), 70);
    assert_snapshot!(bug.report().text("error", "hint"), @r#"
    error: internal error: index out of bounds (src/x.rs:1)
      zenith 0.1.0

    hint: This is a bug in zenith. Report it with this message at https://github.com/zenith-pg/zenith/issues.
    "#);
}
