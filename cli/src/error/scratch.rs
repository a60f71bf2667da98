//! Hints where a snapshot is asked: its short-lived server, its tables.

use zenith::scratch::ScratchError;
use zenith::table::TableError;

pub fn of_server(error: &ScratchError) -> Vec<String> {
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

pub fn of_table(error: &TableError) -> Vec<String> {
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
