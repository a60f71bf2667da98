//! Hints where PostgreSQL, its files or its programs are in the way.

use zenith::pg::Error;

use super::system;

pub fn hints(error: &Error) -> Vec<String> {
    let hint: String = match error {
        Error::NotACluster { .. } => {
            "Name a data directory: the one with PG_VERSION in it (`SHOW data_directory`).".into()
        }
        Error::UnsupportedMajor { .. } | Error::UnsupportedServer { .. } => {
            "Upgrade it with `pg_upgrade`, or use a newer zenith.".into()
        }
        Error::NoBinaries { .. } => {
            "Install a server (`apt install postgresql`), or name its programs with --pg-bin DIR."
                .into()
        }
        Error::WrongBinaries { want, .. } => {
            format!("Name the programs of PostgreSQL {want} with --pg-bin DIR.")
        }
        Error::NoSuchUser { .. } | Error::BecomeUser { .. } => {
            "Name the user that runs the server with --pg-user USER, or run zenith as that user."
                .into()
        }
        Error::CannotSearch { user, dir, .. } => format!(
            "Let {user} through with `chmod a+x {}`, or choose a place elsewhere, for instance \
             below /var/lib or /srv.",
            dir.display()
        ),
        Error::PortInUse { port } => format!(
            "Choose another port: `zenith start --port {}`.",
            if *port == u16::MAX {
                port - 1
            } else {
                port + 1
            }
        ),
        Error::AlreadyRunning { .. } => {
            "`zenith stop` stops it; `zenith start` without --foreground adopts it.".into()
        }
        Error::LockFileExists { path } => format!(
            "Another server uses this socket: choose another --port; remove {} only if no \
             server runs.",
            path.display()
        ),
        Error::StartFailed { .. } | Error::Program { .. } => {
            "The lines above say why; mend that and run the same command again.".into()
        }
        Error::NotReady { .. } => {
            "It goes on starting (after a crash it replays WAL): `zenith start` waits again.".into()
        }
        Error::StopTimeout { .. } => {
            "`zenith stop` waits again; `zenith stop --mode immediate` does not wait for clients."
                .into()
        }
        Error::PathUnquotable { .. } => "Use a directory without such characters.".into(),
        Error::BadPidFile { path, .. } => format!(
            "If no server runs on this cluster, remove {}; if one does, wait for it.",
            path.display()
        ),
        Error::BadDsn { .. } => {
            "A DSN looks like `host=/run/postgresql user=postgres dbname=postgres`.".into()
        }
        Error::Connect { .. } => {
            "Check that the server runs and that pg_hba.conf lets you in: `psql DSN`.".into()
        }
        Error::Privilege { .. } => {
            "docs/least-privilege.md shows the role that --dsn needs.".into()
        }
        Error::WalLevelMinimal => {
            "Set wal_level = replica and restart the server, or stop it and take it offline.".into()
        }
        Error::SlotRefused { .. } => {
            "Raise max_replication_slots and max_wal_senders, and restart the server.".into()
        }
        Error::SlotLost { .. } => {
            "Raise max_slot_wal_keep_size and take the snapshot again.".into()
        }
        Error::ServerChanged { .. } | Error::WalRecycled { .. } => {
            "Take the snapshot again: `zenith snapshot create`.".into()
        }
        Error::ControlDamaged { .. }
        | Error::ControlBytes { .. }
        | Error::WalDamaged { .. }
        | Error::WalMissing { .. }
        | Error::WalForeign { .. }
        | Error::BadLabel { .. }
        | Error::BadHistory { .. }
        | Error::BadTablespaceMap { .. }
        | Error::CatalogUnreadable { .. } => {
            "Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is \
             in `zenith snapshot list`."
                .into()
        }
        Error::Query { .. } => "The server's log says more.".into(),
        Error::BadLsn { .. } => {
            "An LSN looks like 0/3000028: `SELECT pg_current_wal_lsn()` shows one.".into()
        }
        Error::BadSegmentName { .. } | Error::BadSegmentSize { .. } => {
            "Check that the directory is that of a cluster: `pg_controldata DIR`.".into()
        }
        Error::Io { source, .. } => return system::hints(source),
    };
    vec![hint]
}
