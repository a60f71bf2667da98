use insta::assert_snapshot;

use super::*;

pub(super) fn clusters() -> Vec<Error> {
    let pgdata = || p("/data");
    vec![
        Error::NoSuchPath { path: p("/x") },
        Error::NotShutDown {
            pgdata: pgdata(),
            state: s("in production"),
        },
        Error::NotShutDown {
            pgdata: p("stdin"),
            state: s("in production"),
        },
        Error::ServerRunning {
            pgdata: pgdata(),
            pid: 7,
        },
        Error::ClusterChanged {
            pgdata: pgdata(),
            what: s("pg_control is another"),
        },
        Error::BackupWithoutWal {
            pgdata: pgdata(),
            missing: s("000000010000000000000003"),
        },
        Error::WalMissing {
            pgdata: pgdata(),
            missing: s("000000010000000000000003"),
        },
        Error::PathInvalid { path: s("../x") },
        Error::BackupIncremental { pgdata: pgdata() },
        Error::BackupDamaged {
            path: p("/data/backup_label"),
            why: s("no START"),
        },
        Error::UnknownEntry {
            pgdata: pgdata(),
            path: s("x"),
            what: s("socket"),
        },
        Error::NameNotUtf8 {
            dir: pgdata(),
            name: "x".into(),
        },
        Error::TablespaceMissing {
            oid: 16384,
            location: p("/ts"),
        },
        Error::FileVanished {
            pgdata: pgdata(),
            path: s("base/1/1259"),
        },
        Error::FileUnstable {
            pgdata: pgdata(),
            path: s("pg_hba.conf"),
        },
        Error::PagesDamaged {
            place: pgdata(),
            count: 22,
            pages: vec![
                s("page 7 of `base/5/1` is damaged: its checksum is 1"),
                s("21 more pages are damaged"),
            ],
        },
        Error::OtherServer {
            pgdata: pgdata(),
            why: s("it runs on /other"),
        },
        Error::FactsDamaged {
            id: s("4f1c9a27"),
            why: s("end of input"),
        },
        Error::NotACluster {
            id: s("4f1c9a27"),
            why: s("it has no global/pg_control"),
        },
    ]
}

#[test]
fn clusters_in_words() {
    assert_snapshot!(shown(clusters()), @r#"
    [1] error: /x does not exist

    hint: Check the path; a relative one counts from here.

    [1] error: the cluster in /data was not shut down: its state is `in production`

    hint: Start the server and stop it cleanly: `pg_ctl -D /data start && pg_ctl -D /data stop`. A running one is taken with `zenith snapshot create --pgdata /data --dsn DSN`.

    [1] error: the cluster in stdin was not shut down: its state is `in production`

    hint: Make the archive of a server that is shut down, or of one that runs with `pg_basebackup -D DIR -F tar -X fetch`.

    [4] error: a server runs on /data (pid 7)

    hint: Stop it with `pg_ctl -D /data stop`, or take it as it runs: `zenith snapshot create --pgdata /data --dsn DSN`.

    [4] error: the cluster in /data changed while it was read: pg_control is another

    hint: Run the command again when the server is stopped, or online with --dsn DSN.

    [1] error: the base backup in /data lacks the WAL it needs: 000000010000000000000003 is missing

    hint: Make the backup again with its WAL: `pg_basebackup -D DIR -X stream`, or `-X fetch` for a tar on stdout.

    [7] error: WAL segment 000000010000000000000003 that the cluster in /data needs is missing

    hint: Start the server once and stop it cleanly, then run the command again.

    [1] error: `../x` cannot be the path of a file in a cluster

    hint: Make the archive with `pg_basebackup -D DIR -F tar -X fetch` or `zenith export --snapshot-path DIR --snapshot-format tar`.

    [1] error: /data is an incremental backup

    hint: Combine it with the backups before it: `pg_combinebackup -o DIR FULL … THIS`.

    [7] error: /data/backup_label is damaged: no START

    hint: Make the backup again: `pg_basebackup -D DIR`.

    [1] error: `x` in the cluster /data is a socket, which no rule covers

    hint: Move `x` out of the cluster; PostgreSQL itself makes no such entry there.

    [1] error: the name `x` in /data is not UTF-8

    hint: Rename it, or move it out of the cluster.

    [7] error: tablespace 16384 has no files of this cluster at /ts

    hint: Mount or restore its directory; of tar files it is 16384.tar beside base.tar. Then run the command again.

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

pub(super) fn targets_and_sources() -> Vec<Error> {
    vec![
        Error::TargetNotEmpty {
            dir: p("/t"),
            found: s("x"),
        },
        Error::TargetForeign { dir: p("/t") },
        Error::TargetChanged {
            dir: p("/t"),
            id: s("0a1b2c3d"),
        },
        Error::TargetInvalid {
            dir: p("/t"),
            why: s("it is no directory"),
        },
        Error::TargetBusy { dir: p("/t") },
        Error::CheckoutPending {
            dir: p("/t"),
            snapshot: id(0xab).to_string(),
        },
        Error::NoSuchTablespace { old: p("/ts") },
        Error::TablespacesInStream {
            oid: 16384,
            location: p("/ts"),
            number: 2,
        },
        Error::FormatUnknown {
            path: p("/x"),
            found: s("an empty directory"),
        },
        Error::FormatUnknown {
            path: p("stdin"),
            found: s("no tar"),
        },
        Error::Compressed {
            path: p("/x/base.tar.gz"),
            how: s("gz"),
        },
        Error::Compressed {
            path: p("stdin"),
            how: s("zst"),
        },
        Error::TarTruncated {
            path: p("/x.tar"),
            entry: s("base/1/1259"),
        },
        Error::TarEntry {
            path: p("/x.tar"),
            entry: s("dev"),
            why: s("it is a device"),
        },
        Error::StreamIncomplete {
            name: p("stdin"),
            missing: s("backup_label"),
        },
        Error::ExportUnfinished { path: p("/x") },
        Error::Url(UrlError::UnknownScheme {
            text: s("ftp://h"),
            scheme: s("ftp"),
        }),
        Error::NothingToPush { branch: s("main") },
        Error::WriteRefused {
            location: s("s3://b/p"),
            source: Box::new(StoreError::Objects(ObjectsError::PermissionDenied {
                location: s("s3://b/p"),
                key: s("roots/1"),
                why: s("Access Denied"),
            })),
        },
        Error::Diverged {
            branch: s("main"),
            ours: id(1),
            theirs: id(2),
        },
        Error::StorageBusy {
            location: s("s3://b/p"),
            tries: 8,
        },
        Error::BranchForeign {
            place: p("/data"),
            found: 1,
            branch: s("main"),
            expected: 2,
        },
        Error::Internal {
            what: s("a snapshot without a row: 4f1c9a27"),
        },
    ]
}

#[test]
fn targets_and_sources_in_words() {
    assert_snapshot!(shown(targets_and_sources()), @r#"
    [1] error: /t is not empty: it holds `x`

    hint: Name an empty or a new directory; only older checkouts are moved in place.

    [1] error: /t was not made by a checkout

    hint: Name an empty or a new directory.

    [1] error: /t was changed since 0a1b2c3d was checked out there

    hint: --force discards that; `zenith snapshot create --pgdata /t --branch NEW` keeps it first.

    [1] error: /t cannot be a target: it is no directory

    hint: Name another place.

    [4] error: another process is filling /t

    hint: Run the command again when the other one is done.

    [4] error: a checkout of abababababababababababababababababababababababababababababababab into /t is half done

    hint: Complete it with `zenith checkout abababab /t`.

    [1] error: the snapshot has no tablespace at /ts

    hint: `zenith snapshot show REV` lists the tablespaces of a snapshot.

    [1] error: a cluster with tablespaces does not fit into one tar stream: 2 of them, the first is 16384 at /ts

    hint: Export to a directory or URL instead: one tar per tablespace goes there.

    [1] error: /x is nothing that can be imported: it is an empty directory

    hint: Name a data directory, the tar files of pg_basebackup, or a zenith repository; --snapshot-format says which.

    [1] error: stdin is nothing that can be imported: it is no tar

    hint: Pipe one tar in: `pg_basebackup -D - -F tar -X fetch | zenith import --snapshot-path -`.

    [1] error: /x/base.tar.gz is compressed (gz)

    hint: Decompress it first: `gunzip /x/base.tar.gz`.

    [1] error: stdin is compressed (zst)

    hint: Decompress it on the way: `unzstd -c < FILE | zenith import --snapshot-path -`.

    [7] error: /x.tar is cut off after `base/1/1259`

    hint: Copy or make it again: `pg_basebackup -D DIR -F tar -X fetch`.

    [1] error: `dev` in /x.tar cannot be part of a cluster: it is a device

    hint: Make the archive with `pg_basebackup -D DIR -F tar -X fetch` or `zenith export --snapshot-path DIR --snapshot-format tar`.

    [7] error: stdin holds no whole cluster: `backup_label` is missing

    hint: Copy or make it again: `pg_basebackup -D DIR -F tar -X fetch`.

    [7] error: the export at /x was not completed

    hint: Run the same export again; it goes on where it stopped.

    [1] error: `ftp://h` has the unknown scheme `ftp`

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: branch `main` has no snapshot to push

    hint: `zenith snapshot create` takes one.

    [8] error: nothing can be pushed to s3://b/p, where this user may not write
      caused by: no permission for s3://b/p/roots/1: Access Denied

    hint: What is here stays here: run `zenith push` again with credentials that may write there. `zenith fetch` needs none.

    [4] error: branch `main` diverged: it is at 01010101 here and at 02020202 there, and neither descends from the other

    hint: Keep both: `zenith checkout -b main-01010101 01010101` begins a branch here that `zenith push --branch main-01010101` sends.

    [4] error: s3://b/p is busy: other homes moved the branch 8 times in a row

    hint: Run `zenith push` again.

    [4] error: /data is cluster 1, but branch `main` holds cluster 2 (system identifiers)

    hint: Give it a branch of its own: run the same command with --branch NEW.

    [70] error: a snapshot without a row: 4f1c9a27

    hint: This is a bug in zenith. Report it with this message at https://github.com/zenith-pg/zenith/issues.
    "#);
}

pub(super) fn revisions() -> Vec<Error> {
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
            what: "table or index",
            name: s("public.ordrs"),
            similar: vec![s("orders")],
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
    errors.into_iter().map(Error::from).collect()
}

#[test]
fn revisions_in_words() {
    assert_snapshot!(shown(revisions()), @r"
    [1] error: no branch, tag or snapshot is called `mian`

    hint: Did you mean `main`? `zenith branch` lists branches, `zenith snapshot list --all` every snapshot.

    [1] error: no branch, tag or snapshot is called `mian`

    hint: `zenith branch` lists branches, `zenith snapshot list --all` every snapshot.

    [1] error: no branch is called `mian`

    hint: Did you mean `main`? `zenith branch` lists those that are here, `zenith branch --remote` those of the storage.

    [1] error: no tag is called `v1`

    hint: `zenith tag` lists what there is.

    [1] error: no table or index is called `public.ordrs`

    hint: Did you mean `orders`? A name is `orders`, `public.orders` or `app.public.orders`; `*` stands for any text, and quotes are as in SQL.

    [1] error: no home is called `0a1b`

    hint: `zenith home list --remote` lists what there is.

    [1] error: branch `main` has no snapshot yet

    hint: `zenith snapshot create` takes the first one.

    [1] error: `4f1c` is ambiguous: 4f1c9a27, 4f1c0000

    hint: Write more digits.

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

pub(super) fn urls() -> Vec<Error> {
    let text = || s("s3://b/p");
    let errors = vec![
        UrlError::Empty,
        UrlError::BucketMissing { text: s("s3:///p") },
        UrlError::Credentials { text: text() },
        UrlError::ForeignHost {
            text: s("file://h/p"),
            host: s("h"),
        },
        UrlError::Malformed {
            text: text(),
            why: "it holds a line break",
        },
    ];
    errors.into_iter().map(Error::from).collect()
}

#[test]
fn urls_in_words() {
    assert_snapshot!(shown(urls()), @r#"
    [1] error: the storage location is empty

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: `s3:///p` names no bucket

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: `s3://b/p` holds credentials

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: `file://h/p` names the host `h`, but only files of this machine can be reached

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.

    [1] error: `s3://b/p` is not a storage location: it holds a line break

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.
    "#);
}
