//! Every error as people see it: code, words, hint. `walk` sees to it that none is left out.

mod clusters;
mod homes;
mod postgresql;
mod snapshots;
mod storages;
mod walk;

use std::ffi::OsString;
use std::path::PathBuf;

use insta::assert_snapshot;
use zenith::managed::Refusal;
use zenith::pg::{Error as PgError, Lsn};
use zenith::revision::RevisionError;
use zenith::scratch::ScratchError;
use zenith::store::objects::{ObjectsError, UrlError};
use zenith::store::{Error as StoreError, PackName, SnapshotId};
use zenith::table::TableError;

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

/// What the command line itself has to say.
fn no_errors_of_the_engine() -> Vec<Failure> {
    let typed = |line: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = crate::args::parse(words.iter().cloned()).unwrap_err();
        Failure::from_clap(&error, &words)
    };
    vec![
        typed("zenith inot"),
        typed("zenith snapshot list --colour red"),
        typed("zenith snapshot show a b"),
        typed("zenith start --port many"),
        typed("zenith snapshot"),
        typed("zenith branch -d"),
        Failure::usage("--all is every branch, and main is named"),
        Failure::Words {
            what: s("nothing says which snapshots to keep"),
            hint: s("Give a rule: `zenith prune --keep-last 10 --dry-run`."),
        },
        Failure::Passphrase {
            what: s("the passphrase of /srv/store is empty"),
            hint: s("Set ZENITH_PASSPHRASE."),
        },
        Failure::Damaged {
            place: s("/h"),
            packs: 1,
            snapshots: 2,
            of: 3,
            repair: Some(s("zenith verify --repair")),
        },
        Failure::Damaged {
            place: s("/h"),
            packs: 0,
            snapshots: 1,
            of: 3,
            repair: None,
        },
        Failure::Client(1),
        Failure::No,
        Failure::Differs,
        Failure::Trouble(Box::new(Failure::usage(
            "--stat shows files, and --rows shows rows",
        ))),
        Failure::BrokenPipe,
        Failure::Output(io(io::ErrorKind::StorageFull)),
        Failure::Place(io(io::ErrorKind::NotFound)),
        Failure::Bug(s("index out of bounds (src/x.rs:1)")),
    ]
}

#[test]
fn no_errors_of_the_engine_in_words() {
    let texts = no_errors_of_the_engine().into_iter();
    let texts = texts.filter(|failure| !failure.is_silent()).map(|failure| {
        format!(
            "[{}] {}",
            failure.code(),
            failure.report().text("error", "hint")
        )
    });
    assert_snapshot!(texts.collect::<Vec<_>>().join("\n"), @r#"
    [2] error: there is no command `inot`
      similar commands are: `import`, `init`
      usage: zenith [OPTIONS] <COMMAND>

    hint: `zenith --help` shows what there is.

    [2] error: unexpected argument `--colour` found
      a similar argument exists: `--color`
      usage: zenith snapshot list --color <WHEN>

    hint: `zenith snapshot list --help` shows what there is.

    [2] error: unexpected argument `b` found
      usage: zenith snapshot show [OPTIONS] [REV]

    hint: `zenith snapshot show --help` shows what there is.

    [2] error: invalid value `many` for `--port <N>`: it is no whole number

    hint: `zenith start --help` shows what there is.

    [2] error: a command is missing after `zenith snapshot`

    hint: `zenith snapshot --help` shows what there is.

    [2] error: the following required arguments were not provided: <NAME>
      usage: zenith branch --delete <NAME> [REV]

    hint: `zenith branch --help` shows what there is.

    [2] error: --all is every branch, and main is named

    hint: Run `zenith --help` for the ways to say it.

    [2] error: nothing says which snapshots to keep

    hint: Give a rule: `zenith prune --keep-last 10 --dry-run`.

    [1] error: the passphrase of /srv/store is empty

    hint: Set ZENITH_PASSPHRASE.

    [7] error: 1 pack missing or damaged at /h; 2 of 3 snapshots need what is lost

    hint: `zenith verify --repair` brings back what the managed cluster or another repository has. The other snapshots are whole.

    [7] error: 0 packs missing or damaged at /h; 1 of 3 snapshots need what is lost

    hint: The other snapshots are whole, and what was brought back stays. Run it again when another place has what is lost; `zenith snapshot delete REV` gives up a damaged snapshot.

    [2] error: --stat shows files, and --rows shows rows

    hint: Run `zenith --help` for the ways to say it.

    [8] error: stdout: no storage space

    hint: No space is left: make room and run the same command again; `df -h` shows where.

    [8] error: the working directory: entity not found

    hint: Change to a directory that exists and that you may read.

    [70] error: internal error: index out of bounds (src/x.rs:1)
      zenith 0.1.0

    hint: This is a bug in zenith. Report it with this message at https://github.com/zenith-pg/zenith/issues.
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
}
