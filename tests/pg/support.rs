//! What the tests share: homes with a server in them, and reading what the program answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use zenith_testkit::process::{self, wait_for};
use zenith_testkit::s3::S3Server;
use zenith_testkit::{Output, Place, Programs, Server, Zenith, port, server, turn};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_zenith");

/// A place, a directory in it where `zenith` is run, and a storage directory.
///
/// Fields are dropped in this order: the place goes last, and with it whatever still runs.
pub(crate) struct Home {
    pub(crate) zenith: Zenith,
    pub(crate) port: u16,
    pub(crate) programs: Programs,
    pub(crate) place: Place,
    _turn: turn::Turn,
}

impl Home {
    /// Nothing is initialised yet.
    pub(crate) fn new() -> Home {
        Home::with_turn(turn::shared())
    }

    /// For tests of load and time: no other test that starts servers runs meanwhile.
    pub(crate) fn alone() -> Home {
        Home::with_turn(turn::alone())
    }

    fn with_turn(turn: turn::Turn) -> Home {
        let place = Place::new();
        let zenith = Zenith::new(PROGRAM, &place, "h");
        place.dir("storage");
        Home {
            zenith,
            port: port::free(),
            programs: Programs::debian(),
            place,
            _turn: turn,
        }
    }

    pub(crate) fn storage(&self) -> String {
        self.place.arg("storage")
    }

    /// `init` with the storage directory and a free port.
    pub(crate) fn init(&self, more: &[&str]) -> Output {
        let (storage, port) = (self.storage(), self.port.to_string());
        let mut args = vec!["init", "--storage-dest", &storage, "--port", &port];
        args.extend(more);
        self.zenith.ok(&args)
    }

    /// `start`; the agent takes no snapshot by itself unless `more` says otherwise.
    pub(crate) fn start(&self, more: &[&str]) -> Output {
        let mut args = vec!["start"];
        if !more.contains(&"--snapshot-interval") {
            args.extend(["--snapshot-interval", "1h"]);
        }
        args.extend(more);
        self.zenith.ok(&args)
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.zenith.pgdata()
    }

    /// A connection string over the socket of the running server.
    pub(crate) fn dsn(&self) -> String {
        running(&self.pgdata()).dsn()
    }

    pub(crate) fn connection(&self) -> Vec<String> {
        let at = running(&self.pgdata());
        server::connection(Path::new(&at.sockets), at.port)
    }

    pub(crate) fn sql(&self, sql: &str) {
        server::execute(&self.dsn(), sql);
    }

    pub(crate) fn value(&self, sql: &str) -> String {
        server::value(&self.dsn(), sql)
    }

    pub(crate) fn server_pid(&self) -> i32 {
        server::postmaster_pid(&self.pgdata()).expect("the server runs")
    }

    /// The process that takes snapshots in the background.
    pub(crate) fn agent_pid(&self) -> Option<i32> {
        let home = self.zenith.home();
        process::under(&home)
            .into_iter()
            .find(|process| {
                let mut words = process.cmdline.split_whitespace();
                words
                    .next()
                    .is_some_and(|program| program.ends_with("zenith"))
                    && words.any(|word| word == "agent")
            })
            .map(|process| process.pid)
    }

    /// `snapshot create`; gives the full id.
    #[track_caller]
    pub(crate) fn snapshot(&self, message: &str) -> String {
        self.snapshot_with(&["-m", message])
    }

    #[track_caller]
    pub(crate) fn snapshot_with(&self, more: &[&str]) -> String {
        let mut args = vec!["--json", "snapshot", "create"];
        args.extend(more);
        id_of(&self.zenith.ok(&args))
    }

    /// All snapshots, newest first.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Value> {
        list(&self.zenith)
    }

    pub(crate) fn status(&self) -> Value {
        // Bad news is an answer too: the exit code says so, and the object is printed anyway.
        let output = self.zenith.run(&["--json", "status"]);
        output
            .json()
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("no object\n{output}"))
    }

    /// Waits until nothing is left to push.
    pub(crate) fn wait_pushed(&self) {
        wait_for("everything to be pushed", Duration::from_secs(90), || {
            (unpushed(&self.status()) == 0).then_some(())
        });
    }

    /// Starts a server on a checkout or an export in this place.
    pub(crate) fn serve(&self, dir: &str) -> Server {
        Server::start(&self.place, &self.programs, Path::new(dir), "")
    }
}

/// The same home with a prefix of a bucket as its storage, initialised; and the storage's URL.
pub(crate) fn on_s3(mut home: Home, s3: &S3Server) -> (Home, String) {
    for (name, value) in s3.env("bucket") {
        home.zenith = home.zenith.env(&name, value);
    }
    let dest = "s3://bucket/some/prefix".to_owned();
    home.zenith.ok(&[
        "init",
        "--storage-dest",
        &dest,
        "--port",
        &home.port.to_string(),
    ]);
    (home, dest)
}

/// The id that a command with `--json` answered.
#[track_caller]
pub(crate) fn id_of(output: &Output) -> String {
    output
        .json()
        .iter()
        .find_map(|object| object["id"].as_str().map(str::to_owned))
        .unwrap_or_else(|| panic!("no id in the answer\n{output}"))
}

/// Every snapshot that a home knows, newest first.
#[track_caller]
pub(crate) fn list(zenith: &Zenith) -> Vec<Value> {
    zenith
        .ok(&["--json", "snapshot", "list", "--all"])
        .json()
        .into_iter()
        .filter(|object| object["type"] == "snapshot")
        .collect()
}

/// The number of snapshots that wait for a push.
pub(crate) fn unpushed(status: &Value) -> u64 {
    status["unpushed"]["snapshots"]
        .as_u64()
        .unwrap_or_else(|| panic!("status does not count unpushed snapshots: {status}"))
}

pub(crate) struct Running {
    pub(crate) port: u16,
    pub(crate) sockets: String,
}

impl Running {
    pub(crate) fn dsn(&self) -> String {
        format!(
            "host={} port={} user=postgres dbname=postgres",
            self.sockets, self.port
        )
    }
}

/// Where the server on a cluster listens, as its postmaster.pid says.
pub(crate) fn running(pgdata: &Path) -> Running {
    let text = fs::read_to_string(pgdata.join("postmaster.pid")).expect("the server runs");
    let lines: Vec<&str> = text.lines().collect();
    Running {
        port: lines[3].parse().expect("a port"),
        sockets: lines[4].to_owned(),
    }
}

/// Removes a directory with everything in it, and gives its path back to be used again.
pub(crate) fn remove(dir: &str) {
    if Path::new(dir).exists() {
        fs::remove_dir_all(dir).expect("the place is writable");
    }
    let tablespaces = format!("{dir}.tablespaces");
    if Path::new(&tablespaces).exists() {
        fs::remove_dir_all(tablespaces).expect("the place is writable");
    }
}

/// All files below a directory with their bytes, to see whether anything changed.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}")) {
            let path = entry.expect("a readable directory").path();
            let meta = fs::symlink_metadata(&path).expect("it was listed");
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_file() {
                let bytes = fs::read(&path).expect("a readable file");
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
