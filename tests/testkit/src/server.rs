//! A server that zenith did not start: an original to take snapshots of, or one on a checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{Place, Programs, port, process, user};

/// A running server. It is stopped when this goes out of scope.
pub struct Server {
    pub programs: Programs,
    pub pgdata: PathBuf,
    pub port: u16,
    /// Where its socket lies, and its log: `<name>.log`.
    sockets: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Makes a cluster in `<place>/<name>` without starting it; superuser postgres, trust.
    pub fn initdb(place: &Place, name: &str, programs: &Programs) -> PathBuf {
        let pgdata = place.join(name);
        let dir = pgdata.to_str().expect("UTF-8");
        programs.run(
            "initdb",
            place.path(),
            [
                "-D",
                dir,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ]
            .into_iter()
            .chain(["--locale=C.UTF-8", "--data-checksums"]),
        );
        pgdata
    }

    /// Makes a cluster, adds lines to its postgresql.conf and starts it.
    pub fn create(place: &Place, name: &str, programs: &Programs, conf: &str) -> Server {
        let pgdata = Server::initdb(place, name, programs);
        add_conf(&pgdata, conf);
        Server::start(place, programs, &pgdata, "")
    }

    /// Starts a server on a cluster that exists, a checkout for example, on a free port.
    pub fn start(place: &Place, programs: &Programs, pgdata: &Path, options: &str) -> Server {
        match Server::try_start(place, programs, pgdata, options) {
            Ok(server) => server,
            Err(said) => panic!("the server on {} did not start\n{said}", pgdata.display()),
        }
    }

    /// The same, for a start that may fail; `Err` holds what pg_ctl and the log said.
    pub fn try_start(
        place: &Place,
        programs: &Programs,
        pgdata: &Path,
        options: &str,
    ) -> Result<Server, String> {
        let port = port::free();
        let sockets = place.dir("s");
        let name = pgdata
            .file_name()
            .expect("a named directory")
            .to_string_lossy();
        let log = place.join(&format!("{name}-{port}.log"));
        let server = Server {
            programs: programs.clone(),
            pgdata: pgdata.into(),
            port,
            sockets,
            log,
        };
        server.pg_ctl_start(options)?;
        Ok(server)
    }

    /// Starts one that finds its directory at another path, as on a machine of its own or in a
    /// container. Needs root: `None` for an ordinary user, except under CI.
    pub fn start_elsewhere(
        place: &Place,
        programs: &Programs,
        pgdata: &Path,
        seen_at: &Path,
    ) -> Option<Server> {
        if !user::is_root() {
            assert!(std::env::var_os("CI").is_none(), "mounting needs root");
            return None;
        }
        let server = Server {
            programs: programs.clone(),
            pgdata: pgdata.into(),
            port: port::free(),
            sockets: place.dir("s"),
            log: place.join("elsewhere.log"),
        };
        let (uid, gid) = user::server_user();
        let script = format!(
            "mount --bind {real} {seen} && exec setpriv --reuid {uid} --regid {gid} --clear-groups \
             {pg_ctl} -D {seen} -l {log} -w -t 120 -o '-p {port} -k {sockets} -c fsync=off' start",
            real = pgdata.display(),
            seen = seen_at.display(),
            pg_ctl = programs.program("pg_ctl").display(),
            log = server.log.display(),
            port = server.port,
            sockets = server.sockets.display(),
        );
        let started = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .current_dir(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("util-linux is there");
        assert!(started.success(), "{}", server.log_text());
        Some(server)
    }

    fn pg_ctl_start(&self, options: &str) -> Result<(), String> {
        let pgdata = self.pgdata.to_str().expect("UTF-8");
        // Data survives kill -9 of a server without fsync; only a power cut could tell.
        let options = format!(
            "-p {} -k {} -c fsync=off {options}",
            self.port,
            self.sockets.display()
        );
        let log = self.log.to_str().expect("UTF-8");
        self.programs
            .try_run(
                "pg_ctl",
                self.sockets.parent().expect("inside the place"),
                [
                    "-D", pgdata, "-l", log, "-w", "-t", "120", "-o", &options, "start",
                ],
            )
            .map(|_| ())
            .map_err(|said| format!("{said}\n{}", self.log_text()))
    }

    /// Starts it again after [`Server::stop`] or [`Server::kill9`], with the same port.
    pub fn restart(&self, options: &str) {
        if let Err(said) = self.pg_ctl_start(options) {
            panic!("{said}");
        }
    }

    /// Everything the server logged.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A connection string over the socket, as `--dsn` takes it.
    pub fn dsn(&self) -> String {
        self.dsn_of("postgres")
    }

    pub fn dsn_of(&self, database: &str) -> String {
        format!(
            "host={} port={} user=postgres dbname={database}",
            self.sockets.display(),
            self.port
        )
    }

    pub fn client(&self) -> Client {
        connect(&self.dsn())
    }

    /// Runs statements one by one, without a transaction around them.
    pub fn sql(&self, sql: &str) {
        execute(&self.dsn(), sql);
    }

    /// The first column of the first row.
    pub fn value(&self, sql: &str) -> String {
        value(&self.dsn(), sql)
    }

    /// Arguments by which pgbench, psql and the rest reach it.
    pub fn connection(&self) -> Vec<String> {
        connection(&self.sockets, self.port)
    }

    pub fn pid(&self) -> Option<i32> {
        postmaster_pid(&self.pgdata)
    }

    /// A clean shutdown.
    pub fn stop(&self) {
        let pgdata = self.pgdata.to_str().expect("UTF-8");
        let dir = self.sockets.parent().expect("inside the place");
        self.programs.run(
            "pg_ctl",
            dir,
            ["-D", pgdata, "-m", "fast", "-w", "-t", "120", "stop"],
        );
    }

    /// SIGKILL to the postmaster, and waits until its children are gone too, and until its parent
    /// has taken note: PostgreSQL holds a zombie for alive.
    pub fn kill9(&self) {
        let pid = self.pid().expect("the server runs");
        kill9_server(&self.pgdata);
        process::wait_for(
            "the killed server to be reaped",
            Duration::from_secs(60),
            || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()),
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.pid().is_some_and(process::alive) {
            let pgdata = self.pgdata.to_str().expect("UTF-8");
            let dir = self.sockets.parent().expect("inside the place");
            let stopped =
                self.programs
                    .try_run("pg_ctl", dir, ["-D", pgdata, "-m", "immediate", "stop"]);
            if stopped.is_err() {
                kill9_server(&self.pgdata);
            }
        }
    }
}

/// Adds lines to the end of a cluster's postgresql.conf.
pub fn add_conf(pgdata: &Path, lines: &str) {
    let path = pgdata.join("postgresql.conf");
    let mut text = fs::read_to_string(&path).expect("a cluster has a postgresql.conf");
    text.push('\n');
    text.push_str(lines);
    text.push('\n');
    fs::write(&path, text).expect("root or the owner writes it");
    user::give(&path);
}

/// Arguments by which the client programs reach a server.
pub fn connection(sockets: &Path, port: u16) -> Vec<String> {
    [
        "-h",
        sockets.to_str().expect("UTF-8"),
        "-p",
        &port.to_string(),
        "-U",
        "postgres",
    ]
    .map(String::from)
    .to_vec()
}

/// The pid in postmaster.pid, whether or not it runs.
pub fn postmaster_pid(pgdata: &Path) -> Option<i32> {
    let text = fs::read_to_string(pgdata.join("postmaster.pid")).ok()?;
    // A standalone backend writes its pid negated.
    text.lines().next()?.trim().parse().ok().map(i32::abs)
}

/// SIGKILL to the postmaster of this directory; its children end by themselves and are waited for.
pub fn kill9_server(pgdata: &Path) {
    let pid = postmaster_pid(pgdata).expect("postmaster.pid is there");
    assert!(
        process::alive(pid),
        "the server on {} runs",
        pgdata.display()
    );
    process::kill9(pid);
    let root = pgdata.canonicalize().expect("the cluster exists");
    process::wait_for(
        "the backends of a killed server",
        Duration::from_secs(30),
        || {
            process::under(&root)
                .iter()
                .all(|process| process.cwd.as_deref() != Some(&root))
                .then_some(())
        },
    );
}

pub fn connect(dsn: &str) -> Client {
    match Client::connect(dsn, NoTls) {
        Ok(client) => client,
        Err(error) => panic!("cannot connect to {dsn}: {error:?}"),
    }
}

pub fn execute(dsn: &str, sql: &str) {
    let mut client = connect(dsn);
    // One message each: CREATE DATABASE and the like refuse the transaction of a joint one.
    for statement in sql
        .split(";\n")
        .filter(|statement| !statement.trim().is_empty())
    {
        if let Err(error) = client.batch_execute(statement) {
            panic!("{statement}: {error:?}");
        }
    }
}

/// The first column of the first row, as text.
pub fn value(dsn: &str, sql: &str) -> String {
    let messages = match connect(dsn).simple_query(sql) {
        Ok(messages) => messages,
        Err(error) => panic!("{sql}: {error:?}"),
    };
    messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        })
        .unwrap_or_else(|| panic!("{sql}: no row"))
}
