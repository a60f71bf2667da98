//! Every error as people see it: code, words, hint. `walk` sees to it that none is left out.

mod clusters;
mod homes;
mod postgresql;
mod storages;
mod walk;

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
        Failure::No,
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
    [2] error: unrecognized subcommand `inot`
      some similar subcommands exist: `import`, `init`
      usage: zenith [OPTIONS] <COMMAND>

    hint: `zenith --help` shows what there is.

    [2] error: unexpected argument `--colour` found
      a similar argument exists: `--color`
      usage: zenith snapshot list --color <WHEN>

    hint: `zenith snapshot list --help` shows what there is.

    [2] error: unexpected argument `b` found
      usage: zenith snapshot show [OPTIONS] [REV]

    hint: `zenith snapshot show --help` shows what there is.

    [2] error: invalid value `many` for `--port <N>`: invalid digit found in string

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

#[test]
fn questions_to_snapshots() {
    let (place, id) = (s("snapshot 01010101"), s("01010101"));
    let near = |similar: &[&str]| similar.iter().map(|name| s(name)).collect::<Vec<_>>();
    assert_snapshot!(shown(vec![
        ScratchError::NoSpace { id: id.clone(), dir: p("/h/tmp/1"), needed: 3 << 20, free: 2 << 20 }.into(),
        ScratchError::Died {
            id: id.clone(),
            what: "did not start",
            status: s("exit status: 1"),
            log: s("FATAL:  no_such_setting"),
        }.into(),
        ScratchError::NoProgram { program: "psql", dir: p("/usr/lib/postgresql/15/bin") }.into(),
        ScratchError::NoRole { id, tried: near(&["postgres", "me"]) }.into(),
        ScratchError::NoDatabase {
            place: place.clone(),
            name: s("ap"),
            similar: near(&["app"]),
            known: near(&["app", "postgres"]),
        }.into(),
        ScratchError::NotRunning { pgdata: p("/h/pgdata") }.into(),
        ScratchError::Statement { reason: s("column \"x\" does not exist") }.into(),
        TableError::NotFound {
            place: place.clone(),
            database: s("app"),
            name: s("order"),
            similar: near(&["public.orders"]),
        }.into(),
        TableError::NotFound { place, database: s("app"), name: s("x"), similar: vec![] }.into(),
        TableError::Ambiguous { name: s("o*"), number: 2, candidates: near(&["a.o", "b.o"]) }.into(),
        TableError::Invalid { text: s("a."), why: "a part of it is empty" }.into(),
    ]), @r#"
    [8] error: /h/tmp/1 has 2 MB free, and a temporary checkout of snapshot 01010101 needs 3 MB

    hint: Name a place with more room with --tmp-dir DIR, or make room; `df -h` shows where.

    [8] error: the server of snapshot 01010101 did not start: exit status: 1
      FATAL:  no_such_setting

    hint: The lines above say why; `zenith checkout REV DIR` makes a copy to look into. Libraries that its tables need are named with --preload LIBRARIES.

    [8] error: there is no psql in /usr/lib/postgresql/15/bin or in PATH

    hint: Install the client programs (`apt install postgresql-client`); `zenith sql --json` needs none.

    [1] error: the cluster of snapshot 01010101 has no role postgres or me

    hint: Name a role that can log in with -U ROLE.

    [1] error: snapshot 01010101 has no database `ap`; it has app, postgres

    hint: Did you mean `app`? -d DBNAME names a database.

    [4] error: no server runs on the managed cluster /h/pgdata

    hint: Start it with `zenith start`, or name the snapshot to compare with: `zenith diff A B --rows TABLE`.

    [1] error: the statement is refused: column "x" does not exist

    hint: `zenith psql REV` is a session on the same data: \d lists its tables.

    [1] error: database `app` of snapshot 01010101 has no table `order`

    hint: Did you mean `public.orders`? -d DBNAME names another database.

    [1] error: database `app` of snapshot 01010101 has no table `x`

    hint: `zenith sql REV -c '\dt *.*'` lists its tables; -d DBNAME names another database.

    [1] error: `o*` names 2 tables: a.o, b.o

    hint: Name one of them, for instance `a.o`; `zenith cp --all-matching` takes all.

    [1] error: `a.` is not the name of a table: a part of it is empty

    hint: A table is `orders`, `public.orders` or `db.public.orders`; names with other characters stand in double quotes.
    "#);
}
