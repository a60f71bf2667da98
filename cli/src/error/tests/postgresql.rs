use insta::assert_snapshot;

use super::*;

pub(super) fn postgresql() -> Vec<Error> {
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
    errors.into_iter().map(Error::from).collect()
}

#[test]
fn postgresql_in_words() {
    assert_snapshot!(shown(postgresql()), @r#"
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

pub(super) fn the_machine() -> Vec<Error> {
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
    errors.into()
}

#[test]
fn the_machine_in_words() {
    assert_snapshot!(shown(the_machine()), @r#"
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

/// What only a damaged or foreign cluster says.
pub(super) fn files() -> Vec<Error> {
    let (segment, reason) = (|| s("000000010000000000000003"), || s("told so"));
    let errors = vec![
        PgError::ControlBytes { reason: reason() },
        PgError::BadLsn { text: s("0-3") },
        PgError::BadSegmentName { name: s("0001") },
        PgError::BadSegmentSize { bytes: 5 },
        PgError::BadLabel { reason: reason() },
        PgError::CatalogUnreadable {
            path: s("base/5/1259"),
            reason: reason(),
        },
        PgError::BadTablespaceMap {
            line: 2,
            reason: reason(),
        },
        PgError::BadHistory {
            name: s("00000002.history"),
            line: 2,
            reason: reason(),
        },
        PgError::WalMissing {
            segment: segment(),
            dir: p("/data/pg_wal"),
        },
        PgError::WalRecycled {
            segment: segment(),
            offset: 8192,
            found: Lsn(0x2000000),
            expected: Lsn(0x3000000),
        },
        PgError::WalForeign {
            segment: segment(),
            found: 1,
            expected: 2,
        },
    ];
    errors.into_iter().map(Error::from).collect()
}

#[test]
fn files_in_words() {
    assert_snapshot!(shown(files()), @r#"
    [7] error: pg_control is damaged: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [1] error: `0-3` is not a log sequence number like 0/3000028

    hint: An LSN looks like 0/3000028: `SELECT pg_current_wal_lsn()` shows one.

    [1] error: `0001` is not the name of a WAL segment

    hint: Check that the directory is that of a cluster: `pg_controldata DIR`.

    [1] error: WAL segment size 5 is not a power of two from 1 MiB to 1 GiB

    hint: Check that the directory is that of a cluster: `pg_controldata DIR`.

    [7] error: backup_label is damaged: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [7] error: the catalogs cannot be read: base/5/1259: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [7] error: tablespace_map is damaged in line 2: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [7] error: timeline history file 00000002.history is damaged in line 2: told so

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [7] error: WAL segment 000000010000000000000003 is missing from /data/pg_wal

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.

    [5] error: WAL segment 000000010000000000000003 was recycled: offset 8192 holds WAL of 0/2000000, expected 0/3000000

    hint: Take the snapshot again: `zenith snapshot create`.

    [7] error: WAL segment 000000010000000000000003 belongs to system identifier 1, the cluster is 2

    hint: Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is in `zenith snapshot list`.
    "#);
}
