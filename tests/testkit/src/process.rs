//! Processes: finding those of a test, killing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running process as /proc shows it.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub cwd: Option<PathBuf>,
    pub cmdline: String,
}

impl Process {
    fn read(pid: i32) -> Option<Process> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let cmdline = fs::read(dir.join("cmdline")).ok()?;
        if !alive(pid) {
            return None;
        }
        Some(Process {
            pid,
            cwd: fs::read_link(dir.join("cwd")).ok(),
            cmdline: String::from_utf8_lossy(&cmdline).replace('\0', " "),
        })
    }
}

/// Whether the process runs; a zombie doesn't.
pub fn alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the name, which is in parentheses and may hold anything.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The processes whose working directory or command line lies in `root`, without this one.
pub fn under(root: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let needle = root.to_string_lossy().into_owned();
    let own = i32::try_from(std::process::id()).expect("a pid fits");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(Process::read)
        .filter(|process| {
            process
                .cwd
                .as_ref()
                .is_some_and(|cwd| cwd.starts_with(root))
                || process.cmdline.contains(&needle)
        })
        .collect()
}

/// Sends SIGKILL to one process and waits until it is gone.
pub fn kill9(pid: i32) {
    signal(pid, Signal::SIGKILL);
    wait_gone(pid, Duration::from_secs(20));
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => panic!("cannot signal process {pid}: {error}"),
    }
}

/// Waits until the process is gone.
pub fn wait_gone(pid: i32, limit: Duration) {
    let end = Instant::now() + limit;
    while alive(pid) {
        assert!(
            Instant::now() < end,
            "process {pid} still runs after {limit:?}"
        );
        sleep(Duration::from_millis(5));
    }
}

/// Kills what still runs under `root`: what a panic or a killed zenith left behind.
pub fn kill_all_under(root: &Path) {
    for _ in 0..50 {
        let found = under(root);
        if found.is_empty() {
            return;
        }
        for process in found {
            signal(process.pid, Signal::SIGKILL);
        }
        sleep(Duration::from_millis(20));
    }
}

/// Repeats `check` until it gives something, or panics after `limit` naming `what`.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        sleep(Duration::from_millis(50));
    }
}
