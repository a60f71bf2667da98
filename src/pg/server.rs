//! The running server of one cluster: finding, starting and stopping it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use zenith_store::World;

use super::binaries::Binaries;
use super::user::run_as_owner;
use super::{Error, Result};

const POLL: Duration = Duration::from_millis(50);
/// How much of a server log an error carries.
const LOG_LINES: usize = 12;
const LOG_BYTES: u64 = 16 << 10;
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Line 8 of postmaster.pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    /// Accepts connections.
    Ready,
    /// In recovery, and accepts no connections (hot_standby is off).
    Standby,
    Stopping,
}

/// A live postmaster: postmaster.pid, and the proof that its process is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmaster {
    pub pid: i32,
    /// 0 while the server has not got that far.
    pub port: u16,
    /// The first of unix_socket_directories; `None` when there is none (yet).
    pub socket_dir: Option<PathBuf>,
    /// Unix seconds.
    pub started: i64,
    pub status: Status,
}

/// How to start. Nothing of it is remembered by the cluster.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Settings, passed as `-c name=value`.
    pub options: Vec<(String, String)>,
    /// What the server writes before, or without, a logging collector; appended to.
    pub log: PathBuf,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Disconnects clients.
    Fast,
    /// Without a checkpoint: the next start replays WAL.
    Immediate,
}

/// The live postmaster of `pgdata`; `None` without one, also where postmaster.pid is left
/// over from a crash and its number belongs to nobody or to another program.
///
/// Errors: `BadPidFile` when the file is not understood: then nobody knows.
pub fn postmaster(pgdata: &Path) -> Result<Option<Postmaster>> {
    let path = pgdata.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("reading", &path)(e)),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let line = |n: usize| lines.get(n - 1).copied().unwrap_or("");
    // A standalone backend (postgres --single) writes its number with a minus sign, and is
    // just as alive.
    let pid = line(1)
        .parse::<i32>()
        .ok()
        .map(i32::wrapping_abs)
        .filter(|pid| *pid > 0);
    let Some(pid) = pid else {
        return Err(Error::BadPidFile {
            path,
            reason: format!("`{}` is no process number", line(1)),
        });
    };
    if !is_server_of(pid, pgdata) {
        return Ok(None);
    }
    Ok(Some(Postmaster {
        pid,
        port: line(4).parse().unwrap_or(0),
        socket_dir: (!line(5).is_empty()).then(|| line(5).into()),
        started: line(3).parse().unwrap_or(0),
        status: match line(8) {
            "ready" => Status::Ready,
            "standby" => Status::Standby,
            "stopping" => Status::Stopping,
            _ => Status::Starting,
        },
    }))
}

/// Whether process `pid` is a PostgreSQL server of `pgdata`. A server never leaves its data
/// directory as current directory. Where another user's process does not show that, its name
/// decides: to take a stranger's server for this one is safe, the opposite is not.
fn is_server_of(pid: i32, pgdata: &Path) -> bool {
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return false;
    }
    let process = PathBuf::from(format!("/proc/{pid}"));
    if !Path::new("/proc/self").exists() {
        // No Linux: ask ps for the name.
        let ps = Command::new("ps")
            .args(["-o", "comm=", "-p", &pid.to_string()])
            .output();
        return ps.map_or(true, |out| {
            is_server_name(&String::from_utf8_lossy(&out.stdout))
        });
    }
    let named = fs::read_to_string(process.join("comm")).map_or(true, |comm| is_server_name(&comm));
    match (fs::metadata(process.join("cwd")), fs::metadata(pgdata)) {
        (Ok(cwd), Ok(pgdata)) => {
            use std::os::unix::fs::MetadataExt;
            named && (cwd.dev(), cwd.ino()) == (pgdata.dev(), pgdata.ino())
        }
        (Err(e), _) if e.kind() == io::ErrorKind::NotFound => false,
        _ => named,
    }
}

/// Makes the lock files of a server that is proven dead name nobody.
///
/// PostgreSQL refuses to start while any process has the number in its lock files: also a zombie
/// that nobody reaps, as in a container without an init, and a stranger who got the number after
/// a reboot. Only the number is replaced, by one that no process can have; the rest stays, so
/// that the server still looks for shared memory in use. Called when [`postmaster`] found none.
fn disown_dead_locks(pgdata: &Path) -> Result<()> {
    const NOBODY: i32 = i32::MAX - 1;
    let path = pgdata.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(pid) = lines.first().and_then(|line| line.parse::<i32>().ok()) else {
        return Ok(());
    };
    if kill(Pid::from_raw(pid.wrapping_abs()), None) == Err(Errno::ESRCH) {
        return Ok(());
    }
    let mut locks = vec![path];
    if let (Some(port), Some(sockets)) = (lines.get(3), lines.get(4).filter(|dir| !dir.is_empty()))
    {
        locks.push(Path::new(sockets).join(format!(".s.PGSQL.{port}.lock")));
    }
    for lock in locks {
        // A socket's lock may be another server's by now.
        let Ok(text) = fs::read_to_string(&lock) else {
            continue;
        };
        if let Some((first, rest)) = text.split_once('\n')
            && first.trim().parse() == Ok(pid)
        {
            fs::write(&lock, format!("{NOBODY}\n{rest}")).map_err(Error::io("writing", &lock))?;
        }
    }
    Ok(())
}

fn is_server_name(comm: &str) -> bool {
    let name = comm.trim().rsplit('/').next().unwrap_or("");
    name == "postmaster" || name.starts_with("postgres")
}

/// One cluster and the programs that serve it.
#[derive(Clone, Debug)]
pub struct Server {
    pub bin: Binaries,
    pub pgdata: PathBuf,
    pub world: World,
}

impl Server {
    pub fn postmaster(&self) -> Result<Option<Postmaster>> {
        postmaster(&self.pgdata)
    }

    /// Starts the server in the background, in a process group and session of its own, and
    /// waits until it accepts connections. As root it runs as the owner of the data
    /// directory, who must be able to write the log.
    ///
    /// Errors: `AlreadyRunning`, `PortInUse`, `LockFileExists`, `NotReady` (it goes on
    /// starting, as after a crash with much WAL), `StartFailed` with the end of the log.
    pub fn start(&self, options: &StartOptions) -> Result<Postmaster> {
        if let Some(running) = self.postmaster()? {
            return Err(Error::AlreadyRunning {
                pgdata: self.pgdata.clone(),
                pid: running.pid,
            });
        }
        disown_dead_locks(&self.pgdata)?;
        // pg_ctl puts these into a shell command between double quotes.
        for path in [&self.pgdata, &options.log, &self.bin.dir] {
            let unsafe_byte = |b: &u8| matches!(b, b'"' | b'$' | b'`' | b'\\' | b'\n');
            if path.as_os_str().as_bytes().iter().any(unsafe_byte) {
                return Err(Error::PathUnquotable { path: path.clone() });
            }
        }
        let log_before = fs::metadata(&options.log).map_or(0, |meta| meta.len());
        let settings: Vec<String> = options
            .options
            .iter()
            .map(|(name, value)| format!("-c {}", shell_quoted(&format!("{name}={value}"))))
            .collect();
        let program = self.bin.program("pg_ctl");
        let mut command = self.command(&program)?;
        let temp = std::env::temp_dir();
        let mut talk = tempfile::tempfile().map_err(Error::io("creating", &temp))?;
        let seconds = options.timeout.as_secs().max(1).to_string();
        command
            .args(["start", "-w", "-s", "-t", &seconds, "-D"])
            .arg(&self.pgdata)
            .arg("-l")
            .arg(&options.log)
            .arg("-o")
            .arg(settings.join(" "))
            .stdout(Stdio::null())
            // A file, since a pipe that a server inherited would never see its end.
            .stderr(talk.try_clone().map_err(Error::io("creating", &temp))?)
            // Ctrl-C at the terminal is not for the server.
            .process_group(0);
        let status = command.status().map_err(Error::io("running", &program))?;
        let running = self.postmaster()?;
        match running {
            Some(postmaster) if status.success() => Ok(postmaster),
            Some(_) => Err(Error::NotReady {
                pgdata: self.pgdata.clone(),
                seconds: options.timeout.as_secs(),
            }),
            None => {
                let mut said = String::new();
                // What pg_ctl says helps only where the log does not.
                if talk
                    .rewind()
                    .and_then(|()| talk.read_to_string(&mut said))
                    .is_err()
                {
                    said.clear();
                }
                Err(self.start_error(&options.log, log_before, &said))
            }
        }
    }

    /// The server itself, to be run as a child in the foreground; it writes its log to
    /// stderr. Setting stdout and stderr, and spawning, are left to the caller;
    /// [`Server::wait_ready`] tells when it accepts connections.
    pub fn command_foreground(&self, options: &StartOptions) -> Result<Command> {
        if self.postmaster()?.is_none() {
            disown_dead_locks(&self.pgdata)?;
        }
        let mut command = self.command(&self.bin.program("postgres"))?;
        command.arg("-D").arg(&self.pgdata);
        for (name, value) in &options.options {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        Ok(command)
    }

    /// Waits until a server that someone else starts accepts connections. Errors: `NotReady`.
    pub fn wait_ready(&self, timeout: Duration) -> Result<Postmaster> {
        let begun = self.world.watch();
        loop {
            match self.postmaster()? {
                Some(it) if matches!(it.status, Status::Ready | Status::Standby) => return Ok(it),
                _ if begun.elapsed() >= timeout => {
                    return Err(Error::NotReady {
                        pgdata: self.pgdata.clone(),
                        seconds: timeout.as_secs(),
                    });
                }
                _ => self.world.sleep(POLL),
            }
        }
    }

    /// Stops the server and waits until it is gone; fine when there is none. Errors:
    /// `StopTimeout`, after which it is still stopping.
    pub fn stop(&self, mode: StopMode, timeout: Duration) -> Result<()> {
        let Some(running) = self.postmaster()? else {
            return Ok(());
        };
        let program = self.bin.program("pg_ctl");
        let mode = match mode {
            StopMode::Smart => "smart",
            StopMode::Fast => "fast",
            StopMode::Immediate => "immediate",
        };
        let out = self
            .command(&program)?
            .args(["stop", "-w", "-s", "-m", mode])
            .args(["-t", &timeout.as_secs().max(1).to_string(), "-D"])
            .arg(&self.pgdata)
            .process_group(0)
            .output()
            .map_err(Error::io("running", &program))?;
        match self.postmaster()? {
            None => Ok(()),
            Some(now) if now.pid != running.pid => Err(Error::AlreadyRunning {
                pgdata: self.pgdata.clone(),
                pid: now.pid,
            }),
            Some(now) if now.status == Status::Stopping || out.status.success() => {
                Err(Error::StopTimeout {
                    pgdata: self.pgdata.clone(),
                    pid: now.pid,
                    seconds: timeout.as_secs(),
                })
            }
            Some(_) => Err(Error::Program {
                program: "pg_ctl".into(),
                status: out.status.to_string(),
                stderr: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
            }),
        }
    }

    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        // The current directory may be closed to the other user, or go away.
        command.stdin(Stdio::null()).current_dir("/");
        // pg_ctl takes these as settings of its own.
        for name in ["PGDATA", "PGPORT", "PGCTLTIMEOUT"] {
            command.env_remove(name);
        }
        // A server shows its environment to whoever may run code in it.
        for name in ["ZENITH_PASSPHRASE", "ZENITH_NEW_PASSPHRASE"] {
            command.env_remove(name);
        }
        run_as_owner(&mut command, &self.pgdata)?;
        Ok(command)
    }

    fn start_error(&self, log: &Path, from: u64, pg_ctl: &str) -> Error {
        let begun = self.world.watch();
        let said = loop {
            let mut said = tail(log, from);
            // With a logging collector the reason lies in its file, a little later than the
            // server's end.
            let files =
                fs::read_to_string(self.pgdata.join("current_logfiles")).unwrap_or_default();
            if let Some(file) = files.lines().find_map(|line| line.strip_prefix("stderr ")) {
                said.push('\n');
                said += &tail(&self.pgdata.join(file), 0);
            }
            let has_reason = ["FATAL", "PANIC"].iter().any(|word| said.contains(word));
            if has_reason || said.is_empty() || begun.elapsed() >= LOG_PATIENCE {
                break said;
            }
            self.world.sleep(POLL);
        };
        if said.contains("Address already in use") {
            let word = |text: &str| {
                let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            };
            let after = |mark: &str| said.split(mark).skip(1).find_map(word);
            if let Some(port) = after("postmaster already running on port ") {
                return Error::PortInUse { port };
            }
        }
        // FATAL:  lock file "/run/.s.PGSQL.5432.lock" already exists
        let lock = said
            .split_once("lock file \"")
            .and_then(|(_, rest)| rest.split_once("\" already exists"));
        if let Some((file, _)) = lock {
            let port = Path::new(file)
                .file_name()
                .and_then(|name| {
                    name.to_str()?
                        .strip_prefix(".s.PGSQL.")?
                        .strip_suffix(".lock")
                })
                .and_then(|port| port.parse().ok());
            return match port {
                Some(port) => Error::PortInUse { port },
                None => Error::LockFileExists { path: file.into() },
            };
        }
        Error::StartFailed {
            pgdata: self.pgdata.clone(),
            log: if said.trim().is_empty() {
                pg_ctl
            } else {
                &said
            }
            .trim()
            .to_owned(),
        }
    }
}

/// For /bin/sh.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The last lines of a log from byte `from` on; empty when it cannot be read.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(len.saturating_sub(LOG_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::binaries;
    use crate::pg::testing::{Cluster, bin_dirs};
    use std::net::TcpListener;

    fn server(cluster: &Cluster, bin: &Path) -> Server {
        Server {
            world: World::real(),
            bin: binaries::find(Some(bin), None, None).unwrap(),
            pgdata: cluster.pgdata().to_owned(),
        }
    }

    fn options(cluster: &Cluster, more: &[(&str, &str)]) -> StartOptions {
        let socket = cluster.dir().display().to_string();
        let base = [
            ("unix_socket_directories", socket.as_str()),
            ("listen_addresses", ""),
        ];
        let all = base
            .iter()
            .chain(more)
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        StartOptions {
            options: all.collect(),
            log: cluster.dir().join("log"),
            timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_server_starts_once_and_stops() {
        for bin in bin_dirs() {
            let cluster = Cluster::init(&bin, &[]);
            let server = server(&cluster, &bin);
            assert_eq!(server.postmaster().unwrap(), None);
            // A value that a shell would take apart.
            let odd = "it's $HOME `x` \"y\" 100%";
            let started = server
                .start(&options(
                    &cluster,
                    &[("port", "5433"), ("cluster_name", odd)],
                ))
                .unwrap();
            assert_eq!((started.port, started.status), (5433, Status::Ready));
            assert_eq!(started.socket_dir.as_deref(), Some(cluster.dir()));
            assert_eq!(server.postmaster().unwrap(), Some(started.clone()));
            assert_eq!(server.wait_ready(Duration::ZERO).unwrap(), started);
            let shown = crate::pg::testing::run(cluster.bin("psql").args([
                "-XAtq",
                "-p",
                "5433",
                "-d",
                &cluster.dsn(),
                "-c",
                "show cluster_name",
            ]));
            assert_eq!(shown.trim_end(), odd);
            assert!(matches!(
                server.start(&options(&cluster, &[])),
                Err(Error::AlreadyRunning { pid, .. }) if pid == started.pid
            ));
            server
                .stop(StopMode::Fast, Duration::from_secs(30))
                .unwrap();
            assert_eq!(server.postmaster().unwrap(), None);
            server
                .stop(StopMode::Fast, Duration::from_secs(30))
                .unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let bin = &bin_dirs()[0];
        let cluster = Cluster::init(bin, &[]);
        let first_server = server(&cluster, bin);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let more = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port.to_string()),
        ];
        for collector in ["off", "on"] {
            let mut options = options(&cluster, &more);
            options
                .options
                .push(("logging_collector".into(), collector.into()));
            match first_server.start(&options) {
                Err(Error::PortInUse { port: named }) => assert_eq!(named, port),
                other => panic!("{collector}: {other:?}"),
            }
        }
        // The socket of another cluster.
        let other = Cluster::init(bin, &[]);
        let first = options(&cluster, &[("port", "5434")]);
        first_server.start(&first).unwrap();
        let second = server(&other, bin);
        let clash = StartOptions {
            log: other.dir().join("log"),
            ..first
        };
        assert!(matches!(
            second.start(&clash),
            Err(Error::PortInUse { port: 5434 })
        ));
        assert!(matches!(
            second.start(&options_with(&other, "no_such_setting", "1")),
            Err(Error::StartFailed { log, .. }) if log.contains("no_such_setting")
        ));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_named() {
        let bin = &bin_dirs()[0];
        let cluster = Cluster::init(bin, &[]);
        let elsewhere = StartOptions {
            log: "/proc/no/log".into(),
            ..options(&cluster, &[])
        };
        match server(&cluster, bin).start(&elsewhere) {
            Err(Error::StartFailed { log, .. }) => assert!(log.contains("/proc/no/log"), "{log}"),
            other => panic!("{other:?}"),
        }
    }

    fn options_with(cluster: &Cluster, name: &str, value: &str) -> StartOptions {
        options(cluster, &[(name, value)])
    }

    #[test]
    fn a_left_over_pid_file_is_nobody() {
        let bin = &bin_dirs()[0];
        let cluster = Cluster::init(bin, &[]);
        let file = cluster.pgdata().join("postmaster.pid");
        // This test is alive, but no server; process numbers end far below the other.
        for pid in [std::process::id() as i32, i32::MAX - 1] {
            fs::write(&file, format!("{pid}\n/x\n1\n5432\n\n\n1 2\nready   \n")).unwrap();
            assert_eq!(postmaster(cluster.pgdata()).unwrap(), None);
        }
        fs::write(&file, "").unwrap();
        assert!(matches!(
            postmaster(cluster.pgdata()),
            Err(Error::BadPidFile { .. })
        ));
        fs::remove_file(&file).unwrap();

        // A live server, but of another directory.
        let other = Cluster::init(bin, &[]);
        other.start(&[]);
        fs::copy(other.pgdata().join("postmaster.pid"), &file).unwrap();
        assert!(postmaster(other.pgdata()).unwrap().is_some());
        assert_eq!(postmaster(cluster.pgdata()).unwrap(), None);
        fs::remove_file(&file).unwrap();
    }

    /// A server killed in a container without an init stays a zombie for ever.
    #[test]
    fn a_server_starts_after_one_that_nobody_reaped() {
        let bin = &bin_dirs()[0];
        let cluster = Cluster::init(bin, &[]);
        let server = server(&cluster, bin);
        // Of the same user: PostgreSQL ignores those of others.
        let mut command = Command::new("true");
        run_as_owner(&mut command, cluster.pgdata()).unwrap();
        let mut zombie = command.spawn().unwrap();
        let stat = format!("/proc/{}/stat", zombie.id());
        while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(POLL);
        }
        let options = options(&cluster, &[("port", "5435")]);
        let socket_dir = server.start(&options).unwrap().socket_dir.unwrap();
        let file = cluster.pgdata().join("postmaster.pid");
        let left = fs::read_to_string(&file).unwrap();
        let (pid, rest) = left.split_once('\n').unwrap();
        let lock = socket_dir.join(".s.PGSQL.5435.lock");
        let left_lock = fs::read_to_string(&lock).unwrap();
        server
            .stop(StopMode::Immediate, Duration::from_secs(30))
            .unwrap();
        fs::write(&file, format!("{}\n{rest}", zombie.id())).unwrap();
        let of_zombie = left_lock.replacen(pid, &zombie.id().to_string(), 1);
        fs::write(&lock, of_zombie).unwrap();
        let again = server.start(&options).unwrap();
        assert_ne!(again.pid as u32, zombie.id());
        server
            .stop(StopMode::Immediate, Duration::from_secs(30))
            .unwrap();
        zombie.wait().unwrap();
    }

    #[test]
    fn a_child_in_the_foreground() {
        let bin = &bin_dirs()[0];
        let cluster = Cluster::init(bin, &[]);
        let server = server(&cluster, bin);
        let mut child = server
            .command_foreground(&options(&cluster, &[]))
            .unwrap()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ready = server.wait_ready(Duration::from_secs(30)).unwrap();
        assert_eq!(ready.pid as u32, child.id());
        // A zombie is reaped by its parent alone: stop and wait side by side.
        let stopper =
            std::thread::spawn(move || server.stop(StopMode::Immediate, Duration::from_secs(30)));
        child.wait().unwrap();
        stopper.join().unwrap().unwrap();
    }

    #[test]
    fn quoting() {
        assert_eq!(shell_quoted("a=it's"), r"'a=it'\''s'");
    }
}
