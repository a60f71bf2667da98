//! A shell in a fresh place, for one page: what a page types, typed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use zenith_testkit::{Place, Programs, S3Server, turn, user};

/// No command of a page takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// Where a page is typed, below the place: what it shows as `/home/ann/shop`.
const DIR: &str = "home/ann/shop";

/// What is there, as on any machine.
const DIRS: [&str; 22] = [
    "bin",
    "srv",
    "mnt",
    "root",
    "etc",
    "etc/bash_completion.d",
    "home",
    "home/ann",
    "home/ann/.zfunc",
    DIR,
    "run",
    "run/postgresql",
    "usr",
    "usr/local",
    "usr/local/share",
    "usr/local/share/man",
    "usr/local/share/man/man1",
    "var",
    "var/lib",
    "var/lib/postgresql",
    "var/run",
    "var/run/postgresql",
];

/// One bash process, so that `cd`, `export` and `$?` mean what a reader expects.
///
/// Fields are dropped in this order: the place goes last, and with it whatever still runs.
pub(crate) struct Shell {
    bash: Child,
    stdin: ChildStdin,
    stdout: Receiver<String>,
    _s3: S3Server,
    place: Place,
    _turn: turn::Turn,
}

impl Shell {
    /// `buckets` are those of the S3 server that the environment names; `port` is what client
    /// programs take for 5432.
    pub(crate) fn new(buckets: &[String], port: u16) -> Shell {
        let turn = turn::shared();
        let place = Place::new();
        for dir in DIRS {
            place.dir(dir);
        }
        // A copy, since the server user may not search the directories above the original.
        let program = place.join("bin/zenith");
        fs::copy(env!("CARGO_BIN_EXE_zenith"), &program).expect("the place is writable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("own file");
        let s3 = S3Server::start();
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .env_clear()
            .envs(s3.env("bucket"))
            .env(
                "PATH",
                format!(
                    "{}:{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    place.arg("bin"),
                    Programs::debian().bin.display()
                ),
            )
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("USER", "ann")
            .env("HOME", place.join("home/ann"))
            .env("PGPORT", port.to_string())
            .env("PAGER", "cat")
            .current_dir(place.join(DIR))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        for bucket in buckets {
            s3.create_bucket(bucket);
        }
        let mut bash = user::as_server_user(&mut command)
            .spawn()
            .expect("bash is there");
        let stdin = bash.stdin.take().expect("it is piped");
        let lines = BufReader::new(bash.stdout.take().expect("it is piped")).lines();
        let (sender, stdout) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Shell {
            bash,
            stdin,
            stdout,
            _s3: s3,
            place,
            _turn: turn,
        }
    }

    /// The directory that stands for `/`.
    pub(crate) fn root(&self) -> String {
        self.place.path().display().to_string()
    }

    /// Runs a command line: everything it wrote, and its exit code. Both its outputs go to one
    /// file, since a server that it starts may hold them open.
    pub(crate) fn run(&mut self, command: &str) -> Result<(String, i32), String> {
        let (typed, answer) = (self.place.join("typed"), self.place.join("answer"));
        fs::write(&typed, format!("{command}\n")).expect("the place is writable");
        fs::write(&answer, "").expect("the place is writable");
        user::give(&answer);
        // `source` runs it in this very shell; the exit code before is handed in for `$?`.
        writeln!(
            self.stdin,
            "(exit ${{code:-0}}); source {} </dev/null >{} 2>&1; code=$?; echo $code",
            typed.display(),
            answer.display()
        )
        .map_err(|error| format!("the shell ended: {error}"))?;
        let code = self
            .stdout
            .recv_timeout(LIMIT)
            .map_err(|error| format!("no end within {LIMIT:?} ({error})"))?;
        let said = String::from_utf8_lossy(&fs::read(&answer).expect("it is there")).into_owned();
        let code = code.parse().map_err(|_| format!("the shell said {code}"))?;
        Ok((said, code))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.bash.kill();
        let _ = self.bash.wait();
    }
}
