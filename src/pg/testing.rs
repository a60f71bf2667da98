//! A real cluster for unit tests: in a directory of its own under /tmp, owned by `postgres`
//! when the tests run as root, its server stopped when it goes out of scope.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

/// PostgreSQL 15 always; more from ZENITH_TEST_PG_BINS, separated by colons.
pub(crate) fn bin_dirs() -> Vec<PathBuf> {
    let more = std::env::var_os("ZENITH_TEST_PG_BINS").unwrap_or_default();
    std::iter::once(PathBuf::from("/usr/lib/postgresql/15/bin"))
        .chain(std::env::split_paths(&more).filter(|p| !p.as_os_str().is_empty()))
        .collect()
}

/// A command that runs as the user whom server programs accept.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        let user = postgres_user();
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn postgres_user() -> User {
    User::from_name("postgres")
        .unwrap()
        .expect("tests as root need a user postgres")
}

/// Gives a path to the user of [`command`].
pub(crate) fn give(path: &Path) {
    if geteuid().is_root() {
        let user = postgres_user();
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// A new directory under /tmp that the user of [`command`] owns.
pub(crate) fn tempdir() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("pg-")
        .tempdir_in("/tmp")
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    give(dir.path());
    dir
}

pub(crate) fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(
        out.status.success(),
        "{command:?}\n{}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    text(&out.stdout)
}

pub(crate) struct Cluster {
    bin: PathBuf,
    pgdata: PathBuf,
    dir: TempDir,
}

impl Cluster {
    pub(crate) fn init(bin: &Path, args: &[&str]) -> Cluster {
        let cluster = Cluster::empty(bin);
        run(command(&bin.join("initdb"))
            .args([
                "-N",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "-D",
            ])
            .arg(cluster.pgdata())
            .args(args));
        cluster
    }

    /// A place for a cluster that something else makes.
    pub(crate) fn empty(bin: &Path) -> Cluster {
        let dir = tempdir();
        Cluster {
            bin: bin.to_owned(),
            pgdata: dir.path().join("pgdata"),
            dir,
        }
    }

    pub(crate) fn pgdata(&self) -> &Path {
        &self.pgdata
    }

    /// The directory around PGDATA; it holds the socket and the log.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn bin(&self, program: &str) -> Command {
        command(&self.bin.join(program))
    }

    /// Starts the server without TCP and without fsync.
    pub(crate) fn start(&self, options: &[&str]) {
        let mut o = format!(
            "-c listen_addresses= -c fsync=off -k {}",
            self.dir().display()
        );
        for option in options {
            o += &format!(" -c {option}");
        }
        run(self
            .bin("pg_ctl")
            .args(["start", "-w", "-s", "-D"])
            .arg(self.pgdata())
            .arg("-l")
            .arg(self.dir().join("log"))
            .args(["-o", &o])
            .stdout(Stdio::null()));
    }

    pub(crate) fn stop(&self, mode: &str) {
        run(self
            .bin("pg_ctl")
            .args(["stop", "-w", "-s", "-m", mode, "-D"])
            .arg(self.pgdata()));
    }

    pub(crate) fn dsn(&self) -> String {
        format!(
            "host={} user=postgres dbname=postgres",
            self.dir().display()
        )
    }

    /// The output of one psql command, unaligned.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// The same in another database.
    pub(crate) fn sql_in(&self, database: &str, sql: &str) -> String {
        let out = run(self.bin("psql").args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self
                .dsn()
                .replace("dbname=postgres", &format!("dbname={database}")),
            "-c",
            sql,
        ]));
        out.trim_end().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.pgdata.join("postmaster.pid").exists() {
            let stop = self
                .bin("pg_ctl")
                .args(["stop", "-w", "-s", "-m", "immediate", "-D"])
                .arg(&self.pgdata)
                .status();
            if !std::thread::panicking() {
                assert!(stop.unwrap().success());
            }
        }
    }
}
