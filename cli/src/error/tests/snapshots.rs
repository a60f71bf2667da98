//! Errors of questions to snapshots and their tables.

use super::*;

pub(super) fn questions_to_snapshots() -> Vec<Error> {
    let (place, id) = (s("snapshot 01010101"), s("01010101"));
    let near = |similar: &[&str]| similar.iter().map(|name| s(name)).collect::<Vec<_>>();
    vec![
        ScratchError::NoSpace {
            id: id.clone(),
            dir: p("/h/tmp/1"),
            needed: 3 << 20,
            free: 2 << 20,
        }
        .into(),
        ScratchError::Died {
            id: id.clone(),
            what: "did not start",
            status: s("exit status: 1"),
            log: s("FATAL:  no_such_setting"),
        }
        .into(),
        ScratchError::NoProgram {
            program: "psql",
            dir: p("/usr/lib/postgresql/15/bin"),
        }
        .into(),
        ScratchError::NoRole {
            id,
            tried: near(&["postgres", "me"]),
        }
        .into(),
        ScratchError::NoDatabase {
            place: place.clone(),
            name: s("ap"),
            similar: near(&["app"]),
            known: near(&["app", "postgres"]),
        }
        .into(),
        ScratchError::Interrupted.into(),
        ScratchError::NotRunning {
            pgdata: p("/h/pgdata"),
        }
        .into(),
        ScratchError::Statement {
            reason: s("syntax error at end of input"),
        }
        .into(),
        TableError::NotFound {
            place: place.clone(),
            database: s("app"),
            name: s("order"),
            similar: near(&["public.orders"]),
        }
        .into(),
        TableError::NotFound {
            place,
            database: s("app"),
            name: s("x"),
            similar: vec![],
        }
        .into(),
        TableError::Ambiguous {
            name: s("o*"),
            number: 2,
            candidates: near(&["a.o", "b.o"]),
        }
        .into(),
        TableError::Invalid {
            text: s("a."),
            why: "a part of it is empty",
        }
        .into(),
    ]
}

#[test]
fn questions_to_snapshots_in_words() {
    assert_snapshot!(shown(questions_to_snapshots()), @r#"
    [8] error: /h/tmp/1 has 2 MB free, and a temporary checkout of snapshot 01010101 needs 3 MB

    hint: Name a place with more room with --tmp-dir DIR, or make room; `df -h` shows where.

    [8] error: the server of snapshot 01010101 did not start: exit status: 1
      FATAL:  no_such_setting

    hint: The lines above say why; `zenith checkout REV DIR` makes a copy to look into. Libraries that its tables need are named with --preload LIBRARIES.

    [8] error: there is no psql in /usr/lib/postgresql/15/bin or in PATH

    hint: Install the client programs (`apt install postgresql-client`); `zenith sql REV --json -c SQL` needs none.

    [1] error: the cluster of snapshot 01010101 has no role postgres or me

    hint: Name a role that can log in with -U ROLE.

    [1] error: snapshot 01010101 has no database `ap`; it has app, postgres

    hint: Did you mean `app`? -d DBNAME names a database.

    [5] error: interrupted

    hint: Run the command again; nothing of it is left.

    [4] error: no server runs on the managed cluster /h/pgdata

    hint: Start it with `zenith start`, or name the snapshot to compare with: `zenith diff A B --rows TABLE`.

    [1] error: the statement is refused: syntax error at end of input

    hint: `zenith psql REV` is a session on the same data: \d lists its tables.

    [1] error: database `app` of snapshot 01010101 has no table `order`

    hint: Did you mean `public.orders`? -d DBNAME names another database.

    [1] error: database `app` of snapshot 01010101 has no table `x`

    hint: `zenith sql REV -c '\dt *.*'` lists its tables; -d DBNAME names another database.

    [1] error: `o*` names 2 tables: a.o, b.o

    hint: Name one of them, for instance `a.o`; `zenith cp REV:TABLE --all-matching` takes all that match.

    [1] error: `a.` is not the name of a table: a part of it is empty

    hint: A table is `orders`, `public.orders` or `db.public.orders`; names with other characters stand in double quotes.
    "#);
}
