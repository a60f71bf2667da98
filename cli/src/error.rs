//! What went wrong → what is said about it: message, details, a hint with a command that helps,
//! and the exit code. The only place with hints, since hints name commands.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use clap::error::ErrorKind as ClapKind;
use serde::Serialize;
use zenith::managed::Refusal;
use zenith::pg::Error as PgError;
use zenith::revision::RevisionError;
use zenith::scratch::ScratchError;
use zenith::store::Error as StoreError;
use zenith::store::objects::ObjectsError;
use zenith::table::TableError;
use zenith::{Error, ErrorKind};

use crate::exit;
use crate::render::place;
use crate::render::size::plural;

/// The end of a run that did not work.
#[derive(Debug)]
pub enum Failure {
    /// The engine says why.
    Engine(Box<Error>),
    /// The command line is not one that there is: clap's words.
    CommandLine {
        what: String,
        details: Vec<String>,
        /// `zenith snapshot list`: whose help says more.
        command: String,
    },
    /// The words on the command line do not go together.
    Usage(String),
    /// The same, with what to type instead.
    Words { what: String, hint: String },
    /// There is no passphrase, or none that could be one.
    Passphrase { what: String, hint: String },
    /// A verification found damage, which was told already.
    Damaged {
        place: String,
        packs: usize,
        snapshots: usize,
        of: u64,
        /// The command that repairs; none where that was it.
        repair: Option<String>,
    },
    /// A program of PostgreSQL said what is wrong; the exit code is given.
    Client(u8),
    /// The answer was given, and it is no.
    No,
    /// The answer was given, and it is that there are differences.
    Differs,
    /// What went wrong where 1 means that there are differences.
    Trouble(Box<Failure>),
    /// Whoever read stdout went away: nothing is wrong.
    BrokenPipe,
    /// stdout cannot be written.
    Output(io::Error),
    /// The working directory or this program cannot be told.
    Place(io::Error),
    /// A panic, or what cannot be.
    Bug(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // Only stdout is a pipe: whoever read a tar there went away.
            Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                Failure::BrokenPipe
            }
            error => Failure::Engine(Box::new(error)),
        }
    }
}

/// A failure as people and programs see it.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "type")]
    kind_of_record: &'static str,
    v: u32,
    kind: &'static str,
    exit: u8,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::Usage(message.into())
    }

    /// What clap says about the words that were typed, told as everything else is.
    pub fn from_clap(error: &clap::Error, typed: &[OsString]) -> Self {
        let command = command_of(typed);
        // Without a command clap shows the help, which is no error message.
        if let ClapKind::DisplayHelpOnMissingArgumentOrSubcommand | ClapKind::MissingSubcommand =
            error.kind()
        {
            return Failure::CommandLine {
                what: format!("a command is missing after `{command}`"),
                details: vec![],
                command,
            };
        }
        let text = error.to_string().replace('\'', "`");
        let mut lines = text.lines().map(str::trim_end).peekable();
        let first = lines.next().unwrap_or_default();
        let mut what = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        // What is missing is listed below a colon.
        while what.ends_with([':', ',']) {
            let Some(item) = lines.next_if(|line| line.starts_with("  ")) else {
                break;
            };
            what = format!("{what} {}", item.trim());
            if lines.peek().is_some_and(|line| line.starts_with("  <")) {
                what.push(',');
            }
        }
        let details = lines
            .take_while(|line| !line.starts_with("For more information"))
            .filter(|line| !line.is_empty())
            .map(|line| match line.strip_prefix("  tip: ") {
                Some(tip) => tip.to_owned(),
                None => line.trim().replacen("Usage: ", "usage: ", 1),
            });
        Failure::CommandLine {
            what,
            details: details.collect(),
            command,
        }
    }

    pub fn from_output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Output(error),
        }
    }

    pub fn from_current_dir(error: io::Error) -> Self {
        Failure::Place(error)
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        match self {
            Failure::Trouble(inner) => inner.is_silent(),
            other => matches!(
                other,
                Failure::No | Failure::Differs | Failure::BrokenPipe | Failure::Client(_)
            ),
        }
    }

    pub fn code(&self) -> u8 {
        match self {
            Failure::Engine(error) => exit::of(error.kind()),
            Failure::CommandLine { .. } | Failure::Usage(_) | Failure::Words { .. } => exit::USAGE,
            Failure::Passphrase { .. } => exit::INVALID,
            Failure::Damaged { .. } => exit::DAMAGED,
            Failure::Client(code) => *code,
            Failure::No => exit::NO,
            Failure::Differs => exit::DIFFERS,
            Failure::Trouble(inner) => match inner.code() {
                exit::DIFFERS => exit::USAGE,
                code => code,
            },
            Failure::BrokenPipe => exit::OK,
            Failure::Output(_) | Failure::Place(_) => exit::IO,
            Failure::Bug(_) => exit::INTERNAL,
        }
    }

    pub fn report(&self) -> Report {
        let (kind, message, mut details, hints) = match self {
            Failure::Engine(error) => {
                let (message, details) = words(error.as_ref());
                (kind_name(error.kind()), message, details, hints(error))
            }
            Failure::CommandLine {
                what,
                details,
                command,
            } => (
                "usage",
                what.clone(),
                details.clone(),
                vec![format!("`{command} --help` shows what there is.")],
            ),
            Failure::Usage(message) => (
                "usage",
                message.clone(),
                vec![],
                vec!["Run `zenith --help` for the ways to say it.".to_owned()],
            ),
            Failure::Words { what, hint } => ("usage", what.clone(), vec![], vec![hint.clone()]),
            Failure::Passphrase { what, hint } => (
                kind_name(ErrorKind::Invalid),
                what.clone(),
                vec![],
                vec![hint.clone()],
            ),
            Failure::Damaged {
                place,
                packs,
                snapshots,
                of,
                repair,
            } => (
                kind_name(ErrorKind::Damaged),
                format!(
                    "{} missing or damaged at {place}; {snapshots} of {} need what is lost",
                    plural(*packs as u64, "pack"),
                    plural(*of, "snapshot")
                ),
                vec![],
                vec![match repair {
                    Some(command) => format!(
                        "`{command}` brings back what the managed cluster or another repository \
                         has. The other snapshots are whole."
                    ),
                    None => "The other snapshots are whole, and what was brought back stays. Run \
                             it again when another place has what is lost; `zenith snapshot \
                             delete REV` gives up a damaged snapshot."
                        .to_owned(),
                }],
            ),
            Failure::Client(_) => (
                "client",
                "the program above says why".to_owned(),
                vec![],
                vec![],
            ),
            Failure::No => ("no", "the answer is no".to_owned(), vec![], vec![]),
            Failure::Differs => ("no", "there are differences".to_owned(), vec![], vec![]),
            Failure::Trouble(inner) => {
                return Report {
                    exit: self.code(),
                    ..inner.report()
                };
            }
            Failure::BrokenPipe => (
                "broken_pipe",
                "stdout was closed".to_owned(),
                vec![],
                vec![],
            ),
            Failure::Output(e) => ("io", format!("stdout: {e}"), vec![], io_hints(e)),
            Failure::Place(e) => {
                let hint = "Change to a directory that exists and that you may read.";
                (
                    "io",
                    format!("the working directory: {e}"),
                    vec![],
                    vec![hint.to_owned()],
                )
            }
            Failure::Bug(what) => (
                "internal",
                format!("internal error: {what}"),
                vec![format!("zenith {}", env!("CARGO_PKG_VERSION"))],
                vec![bug_hint()],
            ),
        };
        details.retain(|line| !line.trim().is_empty());
        Report {
            kind_of_record: "error",
            v: 1,
            kind,
            exit: self.code(),
            message,
            details,
            hints,
        }
    }
}

impl Report {
    /// The whole text, with the two words in their colours.
    pub fn text(&self, error: &str, hint: &str) -> String {
        let mut text = format!("{error}: {}\n", self.message);
        for line in &self.details {
            let _ = writeln!(text, "  {line}");
        }
        if !self.hints.is_empty() {
            text.push('\n');
        }
        for line in &self.hints {
            let _ = writeln!(text, "{hint}: {line}");
        }
        text
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Damaged => "damaged",
        ErrorKind::Io => "io",
        ErrorKind::Internal => "internal",
    }
}

/// The command that was typed, without its arguments: `zenith snapshot list`.
fn command_of(typed: &[OsString]) -> String {
    let definition = crate::args::command();
    let mut names = vec!["zenith"];
    let mut command = &definition;
    for word in typed.iter().skip(1) {
        if let Some(sub) = command.find_subcommand(word) {
            command = sub;
            names.push(sub.get_name());
        }
    }
    names.join(" ")
}

fn bug_hint() -> String {
    format!(
        "This is a bug in zenith. Report it with this message at {}/issues.",
        env!("CARGO_PKG_REPOSITORY")
    )
}

/// The first line of an error, and the rest: its further lines, then its causes as far as they
/// say something new.
fn words(error: &Error) -> (String, Vec<String>) {
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
fn hints(error: &Error) -> Vec<String> {
    let hint: String = match error {
        Error::Store(e) => return store_hints(e),
        Error::Pg(e) => return pg_hints(e),
        Error::Managed(e) => return managed_hints(e),
        Error::Revision(e) => return revision_hints(e),
        Error::Scratch(e) => return scratch_hints(e),
        Error::Table(e) => return table_hints(e),
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
        Error::FormatUnknown { path, .. } if path == std::path::Path::new("stdin") => {
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
        Error::Io { source, .. } => return io_hints(source),
        Error::Internal { .. } => bug_hint(),
    };
    vec![hint]
}

/// `pg_ctl -D DIR` as it can be typed here.
fn pg_ctl(pgdata: &std::path::Path) -> String {
    let path = std::env::var_os("PATH");
    let program = place::program("pg_ctl", pgdata, path.as_deref(), None);
    format!("{program} -D {}", place::quoted(pgdata))
}

/// Whether a directory is the managed cluster of a home: its neighbour is the config.
fn is_managed(pgdata: &std::path::Path) -> bool {
    pgdata
        .parent()
        .is_some_and(|home| home.join("config.toml").is_file())
}

fn io_hints(source: &io::Error) -> Vec<String> {
    let hint = match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "Run it as the user that owns the place, or as root, which becomes that user."
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "No space is left: make room and run the same command again; `df -h` shows where."
        }
        io::ErrorKind::ReadOnlyFilesystem => "Name a place on a file system that can be written.",
        io::ErrorKind::NotFound => "Check the path; a relative one counts from here.",
        _ => "Look at the disk (`dmesg`), then run the same command again.",
    };
    vec![hint.to_owned()]
}

fn store_hints(error: &StoreError) -> Vec<String> {
    let hint: String = match error {
        StoreError::Objects(e) => return objects_hints(e),
        StoreError::NotARepository { .. } => {
            "`zenith init --storage-dest URL` makes one; check the URL for a typo.".into()
        }
        StoreError::RepositoryExists { .. } => "Name another place, or push to this one.".into(),
        StoreError::TooNew { .. } => {
            "Install a newer zenith; this one changes nothing there.".into()
        }
        StoreError::NoConditionalWrites { .. } => {
            "Use a directory, or a server with conditional writes (If-None-Match). Where this home \
             is the only one that will ever write there, say so: `zenith init --single-writer \
             --storage-dest URL`."
                .into()
        }
        StoreError::SingleWriter { .. } => {
            "Where that home is gone for good, `zenith init --single-writer --storage-dest URL` \
             makes this one the writer; `zenith import --snapshot-path URL --snapshot-format \
             zenith` only reads."
                .into()
        }
        StoreError::Damaged { .. }
        | StoreError::BlobDamaged { .. }
        | StoreError::BaseMissing { .. }
        | StoreError::Missing { .. } => {
            "Nothing was changed. `zenith verify --read-data` shows what is touched, `zenith \
             verify --repair` brings back what the managed cluster or a remote has; for a storage \
             add --remote."
                .into()
        }
        StoreError::RootLost { .. } => {
            "Nothing was changed. `zenith verify --repair` goes on from there with a new root and \
             brings back the snapshots that are whole in the packs; for a storage add --remote."
                .into()
        }
        StoreError::NoSnapshot { .. } => "`zenith snapshot list --all` lists what there is.".into(),
        StoreError::RefMoved {
            name,
            expected: None,
            ..
        } => format!(
            "There is a {kind} of this name already; `zenith {kind}` lists what there is.",
            kind = name.split('/').next().unwrap_or("branch")
        ),
        StoreError::InUse { .. } => {
            "Nothing was removed. Move the branch or delete the tag first; `zenith snapshot list \
             --all` shows which."
                .into()
        }
        StoreError::NotUndone { .. } => {
            "Nothing was changed. `zenith op log` lists the operations.".into()
        }
        StoreError::RefMoved { .. }
        | StoreError::Contended { .. }
        | StoreError::NamesUsedUp { .. } => {
            "Somebody else was faster: run the command again.".into()
        }
        StoreError::ParamsDiffer { .. } => {
            "Export to an empty place: `zenith export --snapshot-path URL --snapshot-format zenith`."
                .into()
        }
        StoreError::Index { path, .. } => {
            format!("The index only saves time: move {path} away and run the command again.")
        }
        StoreError::Sealed { .. } => {
            "A home that is made for it asks for its passphrase: `zenith -D NEW init --storage-dest \
             URL`; from there, `zenith export --snapshot-path DIR` takes a cluster elsewhere."
                .into()
        }
        StoreError::NotSealed { .. } => {
            "Name an empty place, which is encrypted like this home; clusters come and go between \
             the two with --snapshot-format pgdata or tar."
                .into()
        }
        StoreError::WrongKey { .. } => {
            "Name a place of this home's own. A home for that one is `zenith -D NEW init \
             --storage-dest URL`; clusters come and go between the two with --snapshot-format \
             pgdata or tar."
                .into()
        }
        StoreError::WrongPassphrase { .. } => {
            "Check for another keyboard layout, upper case and white space; the passphrase of any \
             key slot will do. ZENITH_PASSPHRASE and --passphrase-file win over config.toml."
                .into()
        }
        StoreError::NoSlots { .. } => {
            "A home that still has its key gives the repository a new one: `zenith key add`.".into()
        }
        StoreError::NoSlot { .. } => "`zenith key list` lists what there is.".into(),
        StoreError::LastSlot { .. } => {
            "Add another passphrase first, `zenith key add`, or replace this one: `zenith key \
             change`."
                .into()
        }
        StoreError::File { source, .. } => return io_hints(source),
        StoreError::RootTooLarge { .. } => {
            "Delete names that nobody needs: `zenith tag -d NAME`, `zenith branch -d NAME`.".into()
        }
        StoreError::Invalid { .. } => {
            "Run the command again with -vv, which shows what was being done.".into()
        }
    };
    vec![hint]
}

fn objects_hints(error: &ObjectsError) -> Vec<String> {
    let hint: String = match error {
        ObjectsError::NotFound { .. } => {
            "An object is missing: check the URL, and that nothing else deletes there.".into()
        }
        ObjectsError::BucketMissing { bucket, .. } => {
            format!("Create the bucket `{bucket}` first, or correct the URL.")
        }
        ObjectsError::BadCredentials { .. } => {
            "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (or the names of your \
             cloud); for --snapshot-path the same with SNAPSHOT_ in front."
                .into()
        }
        ObjectsError::PermissionDenied { .. } => {
            "Give the user or key the right to read, write and list there.".into()
        }
        ObjectsError::Unreachable { .. } => {
            "Check the network and AWS_ENDPOINT_URL, then run the command again; snapshots stay \
             in the home meanwhile."
                .into()
        }
        ObjectsError::NoSpace { .. } => {
            "No space is left there: make room and run the same command again.".into()
        }
        ObjectsError::ReadOnly { .. } => {
            "Name a place on a file system that can be written.".into()
        }
        ObjectsError::HttpNotAllowed { variable, .. } => {
            format!("Set {variable}=true to allow http, or use an https endpoint.")
        }
        ObjectsError::Unsupported { .. } => {
            "zenith needs conditional writes (If-None-Match: *); use a service that has them."
                .into()
        }
        ObjectsError::Io { source, .. } => return io_hints(source),
        _ => "Check URL and settings of the storage, then run the command again.".into(),
    };
    vec![hint]
}

fn pg_hints(error: &PgError) -> Vec<String> {
    let hint: String = match error {
        PgError::NotACluster { .. } => {
            "Name a data directory: the one with PG_VERSION in it (`SHOW data_directory`).".into()
        }
        PgError::UnsupportedMajor { .. } | PgError::UnsupportedServer { .. } => {
            "Upgrade it with `pg_upgrade`, or use a newer zenith.".into()
        }
        PgError::NoBinaries { .. } => {
            "Install a server (`apt install postgresql`), or name its programs with --pg-bin DIR."
                .into()
        }
        PgError::WrongBinaries { want, .. } => {
            format!("Name the programs of PostgreSQL {want} with --pg-bin DIR.")
        }
        PgError::NoSuchUser { .. } | PgError::BecomeUser { .. } => {
            "Name the user that runs the server with --pg-user USER, or run zenith as that user."
                .into()
        }
        PgError::CannotSearch { user, dir, .. } => format!(
            "Let {user} through with `chmod a+x {}`, or choose a place elsewhere, for instance \
             below /var/lib or /srv.",
            dir.display()
        ),
        PgError::PortInUse { port } => format!(
            "Choose another port: `zenith start --port {}`.",
            if *port == u16::MAX {
                port - 1
            } else {
                port + 1
            }
        ),
        PgError::AlreadyRunning { .. } => {
            "`zenith stop` stops it; `zenith start` without --foreground adopts it.".into()
        }
        PgError::LockFileExists { path } => format!(
            "Another server uses this socket: choose another --port; remove {} only if no \
             server runs.",
            path.display()
        ),
        PgError::StartFailed { .. } | PgError::Program { .. } => {
            "The lines above say why; mend that and run the same command again.".into()
        }
        PgError::NotReady { .. } => {
            "It goes on starting (after a crash it replays WAL): `zenith start` waits again.".into()
        }
        PgError::StopTimeout { .. } => {
            "`zenith stop` waits again; `zenith stop --mode immediate` does not wait for clients."
                .into()
        }
        PgError::PathUnquotable { .. } => "Use a directory without such characters.".into(),
        PgError::BadPidFile { path, .. } => format!(
            "If no server runs on this cluster, remove {}; if one does, wait for it.",
            path.display()
        ),
        PgError::BadDsn { .. } => {
            "A DSN looks like `host=/run/postgresql user=postgres dbname=postgres`.".into()
        }
        PgError::Connect { .. } => {
            "Check that the server runs and that pg_hba.conf lets you in: `psql DSN`.".into()
        }
        PgError::Privilege { .. } => {
            "docs/least-privilege.md shows the role that --dsn needs.".into()
        }
        PgError::WalLevelMinimal => {
            "Set wal_level = replica and restart the server, or stop it and take it offline.".into()
        }
        PgError::SlotRefused { .. } => {
            "Raise max_replication_slots and max_wal_senders, and restart the server.".into()
        }
        PgError::SlotLost { .. } => {
            "Raise max_slot_wal_keep_size and take the snapshot again.".into()
        }
        PgError::ServerChanged { .. } | PgError::WalRecycled { .. } => {
            "Take the snapshot again: `zenith snapshot create`.".into()
        }
        PgError::ControlDamaged { .. }
        | PgError::ControlBytes { .. }
        | PgError::WalDamaged { .. }
        | PgError::WalMissing { .. }
        | PgError::WalForeign { .. }
        | PgError::BadLabel { .. }
        | PgError::BadHistory { .. }
        | PgError::BadTablespaceMap { .. }
        | PgError::CatalogUnreadable { .. } => {
            "Check the cluster with `pg_checksums --check` and `pg_amcheck`; an earlier state is \
             in `zenith snapshot list`."
                .into()
        }
        PgError::Query { .. } => "The server's log says more.".into(),
        PgError::BadLsn { .. } => {
            "An LSN looks like 0/3000028: `SELECT pg_current_wal_lsn()` shows one.".into()
        }
        PgError::BadSegmentName { .. } | PgError::BadSegmentSize { .. } => {
            "Check that the directory is that of a cluster: `pg_controldata DIR`.".into()
        }
        PgError::Io { source, .. } => return io_hints(source),
    };
    vec![hint]
}

fn managed_hints(error: &Refusal) -> Vec<String> {
    let hint: String = match error {
        Refusal::NothingToStart { .. } => {
            "Change to the directory of your home or name it with -D DIR; a new one is made by \
             `zenith start --storage-dest URL` or `zenith init`."
                .into()
        }
        Refusal::NoCluster { .. } => {
            "`zenith init` makes a cluster; `zenith init --snapshot-path PATH` takes one over."
                .into()
        }
        Refusal::ClusterMissing { .. } => {
            "`zenith start` makes it anew from the last snapshot.".into()
        }
        Refusal::NoStorage { .. } => {
            "Add one: `zenith init --storage-dest URL`; nothing that is there changes.".into()
        }
        Refusal::BranchNotAtStorage { branches, .. } => match branches.first() {
            Some(first) => {
                format!("Name one of them, for instance --branch {first}, or another storage.")
            }
            None => "Name another storage.".into(),
        },
        Refusal::NothingToClone { location } => format!(
            "Push to it first with `zenith push`, or begin with a new cluster: `zenith init \
             --storage-dest {location}`."
        ),
        Refusal::BranchTaken { .. } => {
            "Attach to it with `zenith init` without --snapshot-path, or import into a branch of \
             its own with --branch NEW."
                .into()
        }
        Refusal::StorageGone { location } => format!(
            "Mount the disk, or correct the settings of the storage. If it is lost for good: \
             `zenith remote remove NAME`, `zenith remote add NAME {location}`, then `zenith push \
             NAME` makes a new one (NAME is origin for storage_dest)."
        ),
        Refusal::StorageReplaced { location } => format!(
            "Look at what lies there. If it is meant to be used from now on: `zenith remote remove \
             NAME`, then `zenith remote add NAME {location}` (NAME is origin for storage_dest)."
        ),
        Refusal::OtherStorage { dir, asked, .. } => format!(
            "To move on to another storage, run `zenith -D {0} remote set-url origin {asked}` and \
             `zenith -D {0} push`; another DIR makes another home.",
            dir.display()
        ),
        Refusal::OtherBranch { .. } => {
            "`zenith checkout -b NEW HEAD` begins a branch; -D DIR makes another home.".into()
        }
        Refusal::OtherCluster { .. } => {
            "Import it into a branch of its own with `zenith import --snapshot-path PATH --branch \
             NEW`, or make another home with -D DIR."
                .into()
        }
        Refusal::Unmounted { pgdata } => format!(
            "Mount the disk; if the cluster is lost for good, remove {} and run `zenith start`.",
            pgdata.display()
        ),
        Refusal::Incomplete { pgdata, .. } => format!(
            "Move {} away and run `zenith start`: it is rebuilt from the last snapshot.",
            pgdata.display()
        ),
        Refusal::AgentSilent { log, .. } => {
            format!(
                "`tail {}` shows why; `zenith start` tries again.",
                log.display()
            )
        }
        Refusal::AgentRunning { .. } => "`zenith stop` stops it, `zenith status` shows it.".into(),
        Refusal::ServerDied { .. } => {
            "Its messages above say why; `zenith start --foreground` starts it again.".into()
        }
        Refusal::SocketDirForeign { dir } => {
            format!("Look at {} and remove it if it is nobody's.", dir.display())
        }
        Refusal::Referenced { id, .. } => format!(
            "`zenith snapshot delete --force {id}` deletes it all the same: branches step back to \
             its parent, tags go."
        ),
        Refusal::NothingToUndo { .. } => "`zenith op log --all` lists every operation.".into(),
        Refusal::NameTaken { kind, .. } => {
            format!("Take another name; `zenith {kind}` lists those that are taken.")
        }
        Refusal::CheckedOut { .. } => {
            "Move to another one first: `zenith checkout OTHER`, or `zenith checkout -b NEW HEAD`."
                .into()
        }
        Refusal::NotKept {
            branch, at_storage, ..
        } => {
            let how = format!("`zenith branch -d --force {branch}");
            if *at_storage {
                format!("{how} --remote` deletes it all the same.")
            } else {
                format!(
                    "{how}` deletes it all the same; `zenith tag NAME {branch}` keeps a name for \
                     them."
                )
            }
        }
        Refusal::NotHeld { .. } => {
            "`zenith snapshot list --remote` shows what is there; `zenith checkout --force REV` \
             moves to one of these, without changes that no snapshot holds."
                .into()
        }
        Refusal::Held {
            home: Some(home), ..
        } => format!(
            "If that home is gone for good: `zenith home forget {home} --remote`, then delete \
             again."
        ),
        Refusal::Held { home: None, .. } => {
            "Run the command again when the other one is done.".into()
        }
        Refusal::Needed { .. } => {
            "Complete the checkout, or move the cluster to another snapshot: `zenith checkout REV`."
                .into()
        }
        Refusal::NoRemote { name, .. } => {
            format!("`zenith remote` lists them; `zenith remote add {name} URL` adds this one.")
        }
        Refusal::RemoteNameInvalid { .. } => {
            "Letters, digits, and - _ . between them are fine, for instance `offsite`.".into()
        }
        Refusal::RemoteExists { name, .. } => {
            format!("`zenith remote set-url {name} URL` changes where it is.")
        }
        Refusal::PullRunning { upstream, .. } => format!(
            "Run `zenith stop` first, then `zenith pull`. `zenith fetch` alone moves nothing: \
             `zenith checkout {upstream} DIR` is a copy beside it."
        ),
        Refusal::Guarded { .. } => "If this is the original now: `zenith start --primary`.".into(),
    };
    vec![hint]
}

fn revision_hints(error: &RevisionError) -> Vec<String> {
    let hint: String = match error {
        RevisionError::NotFound { similar, .. } => {
            let list = "`zenith branch` lists branches, `zenith snapshot list --all` every \
                        snapshot.";
            match similar.first() {
                Some(name) => format!("Did you mean `{name}`? {list}"),
                None => list.to_owned(),
            }
        }
        RevisionError::NoRef { what, similar, .. } => {
            let list = match *what {
                "home" => "`zenith home list --remote` lists what there is.".to_owned(),
                "branch" => "`zenith branch` lists those that are here, `zenith branch --remote` \
                             those of the storage."
                    .to_owned(),
                "table or index" => "A name is `orders`, `public.orders` or `app.public.orders`; \
                                     `*` stands for any text, and quotes are as in SQL."
                    .to_owned(),
                what => format!("`zenith {what}` lists what there is."),
            };
            match similar.first() {
                Some(name) => format!("Did you mean `{name}`? {list}"),
                None => list,
            }
        }
        RevisionError::Unborn { .. } => "`zenith snapshot create` takes the first one.".into(),
        RevisionError::Ambiguous { .. } => "Write more digits, or the full name of the ref.".into(),
        RevisionError::TooShort { .. } => "Write at least four digits.".into(),
        RevisionError::Step { .. } => {
            "Steps are ~N, ^, @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028}.".into()
        }
        RevisionError::OtherLineage { before, .. } => {
            format!("Ask below it: `{}@{{LSN}}`.", before.short())
        }
        _ => "`zenith snapshot list` shows the history of the branch.".into(),
    };
    vec![hint]
}

fn scratch_hints(error: &ScratchError) -> Vec<String> {
    let hint: String = match error {
        ScratchError::NoSpace { .. } => {
            "Name a place with more room with --tmp-dir DIR, or make room; `df -h` shows where."
                .into()
        }
        ScratchError::Died { .. } => {
            "The lines above say why; `zenith checkout REV DIR` makes a copy to look into. \
             Libraries that its tables need are named with --preload LIBRARIES."
                .into()
        }
        ScratchError::NoProgram { .. } => {
            "Install the client programs (`apt install postgresql-client`); `zenith sql REV --json \
             -c SQL` needs none."
                .into()
        }
        ScratchError::NoRole { .. } => "Name a role that can log in with -U ROLE.".into(),
        ScratchError::NoDatabase { similar, .. } => match similar.first() {
            Some(name) => format!("Did you mean `{name}`? -d DBNAME names a database."),
            None => "Name one of them with -d DBNAME.".into(),
        },
        ScratchError::Statement { .. } => {
            "`zenith psql REV` is a session on the same data: \\d lists its tables.".into()
        }
        ScratchError::NotRunning { .. } => {
            "Start it with `zenith start`, or name the snapshot to compare with: `zenith diff A B \
             --rows TABLE`."
                .into()
        }
        ScratchError::Interrupted => "Run the command again; nothing of it is left.".into(),
    };
    vec![hint]
}

fn table_hints(error: &TableError) -> Vec<String> {
    let hint: String = match error {
        TableError::NotFound { similar, .. } => match similar.first() {
            Some(name) => format!("Did you mean `{name}`? -d DBNAME names another database."),
            None => "`zenith sql REV -c '\\dt *.*'` lists its tables; -d DBNAME names another \
                     database."
                .into(),
        },
        TableError::Ambiguous { candidates, .. } => match candidates.first() {
            Some(name) => format!(
                "Name one of them, for instance `{name}`; `zenith cp REV:TABLE --all-matching` takes \
                 all that match."
            ),
            None => "Name one of them.".into(),
        },
        _ => "A table is `orders`, `public.orders` or `db.public.orders`; names with other \
              characters stand in double quotes."
            .into(),
    };
    vec![hint]
}

/// What panics say, kept instead of printed.
#[derive(Clone, Default)]
pub struct Panics(Arc<Mutex<Option<String>>>);

impl Panics {
    /// Takes the place of Rust's own message and backtrace.
    pub fn watch() -> Self {
        let panics = Self::default();
        let kept = panics.clone();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let what = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "something that is no text".to_owned());
            let place = info
                .location()
                .map(|at| format!(" ({}:{})", at.file(), at.line()));
            let text = format!("{what}{}", place.unwrap_or_default());
            tracing::error!("internal error: {text}");
            if let Ok(mut kept) = kept.0.lock() {
                // The first one is the cause of those that follow.
                kept.get_or_insert(text);
            }
        }));
        panics
    }

    pub fn last(&self) -> String {
        let kept = self.0.lock().ok().and_then(|text| text.clone());
        kept.unwrap_or_else(|| "a panic without words".to_owned())
    }
}

#[cfg(test)]
mod tests;
