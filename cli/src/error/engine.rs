//! What the engine says: its words, and hints about clusters, homes and copies.

use std::error::Error as _;
use std::path::Path;

use zenith::Error;

use super::{bug_hint, managed, postgresql, revision, scratch, store, system};
use crate::render::place;

/// The first line of an error, and the rest: its further lines, then its causes as far as they
/// say something new.
pub fn words(error: &Error) -> (String, Vec<String>) {
    let whole = error.to_string();
    let mut lines = whole.lines();
    let message = lines.next().unwrap_or_default().to_owned();
    let mut details: Vec<String> = lines.map(str::to_owned).collect();
    let mut said = whole.clone();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            let mut lines = text.lines();
            details.push(format!("caused by: {}", lines.next().unwrap_or_default()));
            details.extend(lines.map(|line| format!("  {line}")));
            said.push_str(&text);
        }
        cause = inner.source();
    }
    (message, details)
}

/// Commands that help.
pub fn hints(error: &Error) -> Vec<String> {
    let hint: String = match error {
        Error::Store(e) => return store::hints(e),
        Error::Pg(e) => return postgresql::hints(e),
        Error::Managed(e) => return managed::hints(e),
        Error::Revision(e) => return revision::hints(e),
        Error::Scratch(e) => return scratch::of_server(e),
        Error::Table(e) => return scratch::of_table(e),
        Error::Url(_) => {
            "A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or \
             az://container/prefix; credentials come from the environment."
                .into()
        }

        Error::NoHome { .. } => {
            "`zenith init` makes one here; -D DIR or ZENITH_HOME names another place.".into()
        }
        Error::HomeExists { .. } => {
            "`zenith status` shows it; `zenith import --snapshot-path PATH --branch NEW` brings \
             another cluster into it, -D DIR makes another home."
                .into()
        }
        Error::HomeForeign { .. } => "Name an empty or a new directory with -D DIR.".into(),
        Error::HomeBusy { pid, .. } if *pid == 0 => {
            "Run the command again; `zenith status` shows what the agent does.".into()
        }
        Error::HomeBusy { pid, .. } => {
            format!("Run the command again when it is done; `ps {pid}` shows the process.")
        }
        Error::HomeInUse { .. } => "Run the command again when the other one is done.".into(),
        Error::SettingsInvalid { .. } => "Mend the file and run the command again.".into(),
        Error::HomeDamaged { path, .. } if path.ends_with("key") => format!(
            "Move {} away and run `zenith init` with ZENITH_PASSPHRASE set: the passphrase brings \
             the key back.",
            path.display()
        ),
        Error::HomeDamaged { path, .. } => format!(
            "Move {} away and run `zenith start`: what it said is found again or asked for.",
            path.display()
        ),
        Error::NotSealed { .. } => {
            "Encryption is decided when a repository is made: `zenith -D NEW init --encrypt \
             --storage-dest URL`; --snapshot-path brings a cluster into it."
                .into()
        }
        Error::KeyMissing { dir } => format!(
            "Run `zenith -D {} init` with ZENITH_PASSPHRASE set: the passphrase brings the key back.",
            dir.display()
        ),
        Error::KeyForeign { .. } => {
            "Attach a new home to that storage: `zenith -D NEW init --storage-dest URL`, or name \
             another storage."
                .into()
        }
        Error::PassphraseMissing { .. } => {
            "Set ZENITH_PASSPHRASE, or give --passphrase-file FILE or --passphrase-command CMD to \
             `zenith init`."
                .into()
        }
        Error::NameInvalid { .. } => {
            "Letters, digits, and - _ . / between them are fine, for instance `try-index`.".into()
        }

        Error::NoSuchPath { .. } => "Check the path; a relative one counts from here.".into(),
        Error::NotShutDown { pgdata, .. } if is_managed(pgdata) => {
            "`zenith start && zenith stop` shuts it down; `zenith checkout --force REV` discards \
             what it holds."
                .into()
        }
        Error::NotShutDown { pgdata, .. } if pgdata.is_absolute() => format!(
            "Start the server and stop it cleanly: `{ctl} start && {ctl} stop`. A running one is \
             taken with `zenith snapshot create --pgdata {0} --dsn DSN`.",
            place::quoted(pgdata),
            ctl = pg_ctl(pgdata)
        ),
        Error::NotShutDown { .. } => {
            "Make the archive of a server that is shut down, or of one that runs with \
             `pg_basebackup -D DIR -F tar -X fetch`."
                .into()
        }
        Error::ServerRunning { pgdata, .. } if is_managed(pgdata) => {
            "Run `zenith stop` first, or check out beside it with `zenith checkout REV DIR`.".into()
        }
        Error::ServerRunning { pgdata, .. } => format!(
            "Stop it with `{} stop`, or take it as it runs: `zenith snapshot create --pgdata {} \
             --dsn DSN`.",
            pg_ctl(pgdata),
            place::quoted(pgdata)
        ),
        Error::ClusterChanged { .. } | Error::FileUnstable { .. } => {
            "Run the command again when the server is stopped, or online with --dsn DSN.".into()
        }
        Error::PagesDamaged { .. } => {
            "Mend them from an older snapshot or a standby (`pg_amcheck` shows what is hit), or take \
             the cluster as it is with --on-damage warn: the snapshot records them."
                .into()
        }
        Error::FileVanished { .. } => {
            "Something else removes files from the cluster; `pg_amcheck` shows what is missing."
                .into()
        }
        Error::BackupWithoutWal { .. } => {
            "Make the backup again with its WAL: `pg_basebackup -D DIR -X stream`, or `-X fetch` for \
             a tar on stdout."
                .into()
        }
        Error::BackupIncremental { .. } => {
            "Combine it with the backups before it: `pg_combinebackup -o DIR FULL … THIS`.".into()
        }
        Error::BackupDamaged { .. } => "Make the backup again: `pg_basebackup -D DIR`.".into(),
        Error::WalMissing { .. } => {
            "Start the server once and stop it cleanly, then run the command again.".into()
        }
        Error::PathInvalid { .. } | Error::TarEntry { .. } => {
            "Make the archive with `pg_basebackup -D DIR -F tar -X fetch` or `zenith export --snapshot-path DIR \
             --snapshot-format tar`."
                .into()
        }
        Error::UnknownEntry { path, .. } => format!(
            "Move `{path}` out of the cluster; PostgreSQL itself makes no such entry there."
        ),
        Error::NameNotUtf8 { .. } => "Rename it, or move it out of the cluster.".into(),
        Error::TablespaceMissing { oid, .. } => format!(
            "Mount or restore its directory; of tar files it is {oid}.tar beside base.tar. Then run \
             the command again."
        ),
        Error::OtherServer { .. } => {
            "Give the DSN of the server that runs on --pgdata: `SHOW data_directory` tells.".into()
        }
        Error::FactsDamaged { .. } | Error::NotACluster { .. } => {
            "Take another snapshot: `zenith snapshot list --all`.".into()
        }

        Error::TargetNotEmpty { .. } => {
            "Name an empty or a new directory; only older checkouts are moved in place.".into()
        }
        Error::TargetChanged { dir, .. } => format!(
            "--force discards that; `zenith snapshot create --pgdata {} --branch NEW` keeps it first.",
            place::quoted(dir)
        ),
        Error::TargetForeign { .. } => "Name an empty or a new directory.".into(),
        Error::TargetInvalid { .. } => "Name another place.".into(),
        Error::TargetBusy { .. } => "Run the command again when the other one is done.".into(),
        Error::CheckoutPending { dir, snapshot } => {
            let short = snapshot.get(..8).unwrap_or(snapshot);
            if is_managed(dir) {
                format!("Complete it with `zenith checkout {short}`.")
            } else {
                format!(
                    "Complete it with `zenith checkout {short} {}`.",
                    dir.display()
                )
            }
        }
        Error::NoSuchTablespace { .. } => {
            "`zenith snapshot show REV` lists the tablespaces of a snapshot.".into()
        }
        Error::TablespacesInStream { .. } => {
            "Export to a directory or URL instead: one tar per tablespace goes there.".into()
        }
        Error::FormatUnknown { path, .. } if path == Path::new("stdin") => {
            "Pipe one tar in: `pg_basebackup -D - -F tar -X fetch | zenith import --snapshot-path \
             -`."
                .into()
        }
        Error::FormatUnknown { .. } => {
            "Name a data directory, the tar files of pg_basebackup, or a zenith repository; \
             --snapshot-format says which."
                .into()
        }
        Error::Compressed { path, how } => {
            let program = match how.as_str() {
                "gz" => "gunzip",
                "zst" => "unzstd",
                "lz4" => "unlz4",
                "xz" => "unxz",
                _ => "bunzip2",
            };
            if path.is_absolute() && !path.to_string_lossy().contains("://") {
                format!("Decompress it first: `{program} {}`.", place::quoted(path))
            } else {
                format!(
                    "Decompress it on the way: `{program} -c < FILE | zenith import \
                     --snapshot-path -`."
                )
            }
        }
        Error::BranchForeign { .. } => {
            "Give it a branch of its own: run the same command with --branch NEW.".into()
        }
        Error::TarTruncated { .. } | Error::StreamIncomplete { .. } => {
            "Copy or make it again: `pg_basebackup -D DIR -F tar -X fetch`.".into()
        }
        Error::ExportUnfinished { .. } => {
            "Run the same export again; it goes on where it stopped.".into()
        }
        Error::WriteRefused { .. } => "What is here stays here: run `zenith push` again with \
             credentials that may write there. `zenith fetch` needs none."
            .into(),
        Error::NothingToPush { .. } => "`zenith snapshot create` takes one.".into(),
        Error::Diverged { branch, ours, .. } => format!(
            "Keep both: `zenith checkout -b {branch}-{0} {0}` begins a branch here that \
             `zenith push --branch {branch}-{0}` sends.",
            ours.short()
        ),
        Error::PullDiverged {
            branch,
            remote,
            ours,
            theirs,
        } => format!(
            "Keep both: `zenith checkout -b {branch}-{} {remote}/{branch}` goes on from theirs on \
             a branch of its own, and {branch} keeps {}.",
            theirs.short(),
            ours.short()
        ),
        Error::StorageBusy { .. } => "Run `zenith push` again.".into(),
        Error::Io { source, .. } => return system::hints(source),
        Error::Internal { .. } => bug_hint(),
    };
    vec![hint]
}

/// `pg_ctl -D DIR` as it can be typed here.
fn pg_ctl(pgdata: &Path) -> String {
    let path = std::env::var_os("PATH");
    let program = place::program("pg_ctl", pgdata, path.as_deref(), None);
    format!("{program} -D {}", place::quoted(pgdata))
}

/// Whether a directory is the managed cluster of a home: its neighbour is the config.
fn is_managed(pgdata: &Path) -> bool {
    pgdata
        .parent()
        .is_some_and(|home| home.join("config.toml").is_file())
}
