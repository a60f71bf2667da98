//! Runs the `zenith` program as a user would: a working directory, a clean environment.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Place, process, user};

/// No command of the tests takes longer, except where a test says so.
const LIMIT: Duration = Duration::from_secs(300);

/// The program, with the directory it is run in. Its home is `<dir>/.zenith`.
#[derive(Debug, Clone)]
pub struct Zenith {
    program: PathBuf,
    dir: PathBuf,
    env: Vec<(String, OsString)>,
    as_server_user: bool,
}

impl Zenith {
    /// `program` is `env!("CARGO_BIN_EXE_zenith")`; `name` becomes a directory in the place.
    pub fn new(program: &str, place: &Place, name: &str) -> Zenith {
        Zenith {
            program: program.into(),
            dir: place.dir(name),
            env: Vec::new(),
            as_server_user: false,
        }
    }

    /// The same with a variable set in its environment.
    pub fn env(&self, name: &str, value: impl Into<OsString>) -> Zenith {
        let mut new = self.clone();
        new.env.push((name.into(), value.into()));
        new
    }

    /// The same, run as the server user and not as root; from a copy, since that user may not
    /// search the directories above the target directory.
    pub fn unprivileged(&self) -> Zenith {
        let copy = self.dir.with_extension("program");
        if !copy.exists() {
            fs::copy(&self.program, &copy).expect("the place is writable");
            fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("own file");
        }
        Zenith {
            program: copy,
            as_server_user: true,
            ..self.clone()
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn home(&self) -> PathBuf {
        self.dir.join(".zenith")
    }

    pub fn pgdata(&self) -> PathBuf {
        self.home().join("pgdata")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("HOME", &self.dir)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.as_server_user {
            user::as_server_user(&mut command);
        }
        command
    }

    /// Starts the program and returns at once.
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdin(Stdio::null());
        Running::new(command, args)
    }

    /// Runs it to its end, whatever that is.
    pub fn run(&self, args: &[&str]) -> Output {
        self.spawn(args).wait(LIMIT)
    }

    /// The same with bytes on its stdin.
    pub fn run_with_input(&self, args: &[&str], input: Vec<u8>) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut running = Running::new(command, args);
        let mut stdin = running.child.stdin.take().expect("it is piped");
        let writer = thread::spawn(move || {
            // A program that refuses its input early closes the pipe: its answer says why.
            let _ = stdin.write_all(&input);
        });
        let output = running.wait(LIMIT);
        writer.join().expect("the writer does not panic");
        output
    }

    /// Runs it and demands success.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert!(output.code == Some(0), "expected success\n{output}");
        output
    }

    /// Runs it and demands this exit code, with one error message on stderr that is none of a
    /// panic's.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> Output {
        self.run(args).failed(code)
    }
}

/// A program that has been started. It is killed when this goes out of scope.
pub struct Running {
    child: Child,
    args: Vec<String>,
    since: Instant,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

impl Running {
    fn new(mut command: Command, args: &[&str]) -> Running {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let stdout = collect(child.stdout.take().expect("it is piped"));
        let stderr = collect(child.stderr.take().expect("it is piped"));
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Running {
            child,
            args,
            since: Instant::now(),
            stdout,
            stderr,
        }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_none()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        process::signal(self.pid(), signal);
    }

    /// SIGKILL; the output says how it ended, which may be before the signal came.
    pub fn kill9(mut self) -> Output {
        // An error means that it ended already, which the output tells.
        let _ = self.child.kill();
        self.wait(Duration::from_secs(30))
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Output {
        let end = self.since + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("own child") {
                break status;
            }
            assert!(
                Instant::now() < end,
                "zenith {} still runs after {limit:?}",
                self.args.join(" ")
            );
            thread::sleep(Duration::from_millis(2));
        };
        self.output(status)
    }

    #[track_caller]
    fn output(&self, status: ExitStatus) -> Output {
        let elapsed = self.since.elapsed();
        let text = |pipe: &Receiver<Vec<u8>>, name: &str| match pipe
            .recv_timeout(Duration::from_secs(10))
        {
            Ok(bytes) => bytes,
            Err(_) => panic!(
                "zenith {} has ended, but a process it left behind still holds its {name}",
                self.args.join(" ")
            ),
        };
        let bytes = text(&self.stdout, "stdout");
        Output {
            args: self.args.clone(),
            code: status.code(),
            status,
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            stderr: String::from_utf8_lossy(&text(&self.stderr, "stderr")).into_owned(),
            bytes,
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a run of the program gave.
pub struct Output {
    pub args: Vec<String>,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// stdout as it is, for archives.
    pub bytes: Vec<u8>,
    pub elapsed: Duration,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ zenith {}", self.args.join(" "))?;
        let mut stdout: &str = &self.stdout;
        if stdout.len() > 8000 {
            stdout = "(long)\n";
        }
        writeln!(f, "{stdout}{}", self.stderr)?;
        write!(f, "({}, {:.1} s)", self.status, self.elapsed.as_secs_f64())
    }
}

impl Output {
    /// Demands this exit code and a message in the form every error has: `error: …` in lower
    /// case, once, and never a panic.
    #[track_caller]
    pub fn failed(self, code: i32) -> Output {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count();
        assert!(
            errors == 1,
            "expected one line that begins with `error: `\n{self}"
        );
        assert!(!self.stderr.contains("panicked"), "a panic\n{self}");
        assert!(
            !self.stderr.contains("RUST_BACKTRACE"),
            "a backtrace\n{self}"
        );
        self
    }

    /// Demands words on stderr.
    #[track_caller]
    pub fn says(self, words: &str) -> Output {
        assert!(
            self.stderr.contains(words),
            "expected `{words}` on stderr\n{self}"
        );
        self
    }

    /// Demands a hint.
    #[track_caller]
    pub fn hints(self) -> Output {
        assert!(self.stderr.contains("hint: "), "expected a hint\n{self}");
        self
    }

    /// The JSON objects of stdout, one on each line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| match serde_json::from_str(line) {
                Ok(value) => value,
                Err(error) => panic!("not JSON: {error}: {line}\n{self}"),
            })
            .collect()
    }
}
