//! The programs of one PostgreSQL installation.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::user;

/// The folder with `postgres`, `initdb`, `pg_ctl` and the rest.
#[derive(Debug, Clone)]
pub struct Programs {
    pub bin: PathBuf,
    pub major: u32,
}

impl Programs {
    /// The newest supported server of the distribution, the one with amcheck.
    pub fn debian() -> Programs {
        (15..=18)
            .rev()
            .map(|major| {
                (
                    major,
                    PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
                )
            })
            .find(|(_, bin)| bin.join("postgres").exists())
            .map(|(major, bin)| Programs { bin, major })
            .expect("no server under /usr/lib/postgresql: run scripts/install-deps --tests")
    }

    /// PostgreSQL 16, 17 or 18 of those that scripts/install-deps unpacks. Its absence fails the
    /// test rather than skipping it. Of 17 there are server programs, psql and pgbench only.
    pub fn fetched(major: u32) -> Programs {
        let home = std::env::var("HOME").unwrap_or_default();
        let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
        let mut roots = vec![
            PathBuf::from("/var/cache/zenith/pgserver-0.6.0"),
            PathBuf::from(cache).join("zenith/pgserver-0.6.0"),
        ];
        if let Ok(root) = std::env::var("ZENITH_TEST_PG") {
            roots.insert(0, root.into());
        }
        let bin = roots
            .iter()
            .map(|root| root.join(major.to_string()).join("bin"))
            .find(|bin| bin.join("postgres").exists());
        match bin {
            // The links of the folder are resolved, since the programs find their files from it.
            Some(bin) => Programs {
                bin: bin.canonicalize().expect("it exists"),
                major,
            },
            None => panic!(
                "no PostgreSQL {major} in any of {roots:?}: run scripts/install-deps --tests"
            ),
        }
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command of this installation, run as the server user in `dir`, without the environment
    /// of the tests and without stdin.
    pub fn command(&self, name: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.program(name));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("HOME", dir)
            .current_dir(dir)
            .stdin(Stdio::null());
        user::as_server_user(&mut command);
        command
    }

    /// Runs a command to its end; `Err` holds everything it said.
    pub fn try_run<S: AsRef<OsStr>>(
        &self,
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String, String> {
        let output = self
            .command(name, dir)
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program(name).display()));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(stdout)
        } else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{name} ended with {}\n{stdout}{stderr}",
                output.status
            ))
        }
    }

    /// Runs a command that must succeed.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        name: &str,
        dir: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        match self.try_run(name, dir, args) {
            Ok(stdout) => stdout,
            Err(said) => panic!("{said}"),
        }
    }
}
