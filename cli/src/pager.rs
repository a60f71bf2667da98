//! Long lists go through a pager, as with git: on a terminal only, and what is said beside the
//! list with it.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::unistd::{dup, dup2_stderr, dup2_stdout};

use crate::error::Failure;

/// What shells answer when there is no such program, or it cannot be run.
const NOT_RUN: [i32; 2] = [126, 127];

/// A pager that begins with the first line, so that whoever is asked for a passphrase before that
/// has the terminal.
#[derive(Debug)]
pub struct Pager {
    command: String,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Where stderr went before.
    stderr: Option<OwnedFd>,
}

impl Pager {
    pub fn new(command: String) -> Pager {
        Pager {
            command,
            running: Mutex::new(None),
        }
    }

    /// Has stdout read by the pager from here on. One that cannot be started is as none.
    pub fn begin(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = start(&self.command).ok();
        }
    }

    /// Waits until the person has read it.
    pub fn end(&self) -> Result<(), Failure> {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Running { mut child, stderr }) = running else {
            return Ok(());
        };
        // Who reads no more has seen enough.
        let _ = io::stdout().flush();
        // The pager has all when nobody has its pipe open any more.
        let nothing = File::open("/dev/null").map_err(Failure::Output)?;
        dup2_stdout(&nothing).map_err(|errno| Failure::Output(errno.into()))?;
        if let Some(stderr) = stderr {
            dup2_stderr(&stderr).map_err(|errno| Failure::Output(errno.into()))?;
        }
        let status = child.wait().map_err(Failure::Output)?;
        if status.code().is_some_and(|code| NOT_RUN.contains(&code)) {
            return Err(Failure::Words {
                what: format!("the pager `{}` cannot be run", self.command),
                hint: "Name another one in ZENITH_PAGER or PAGER, or use --no-pager.".to_owned(),
            });
        }
        Ok(())
    }
}

fn start(command: &str) -> io::Result<Running> {
    // Ctrl-C is for the pager; what it reads ends when it ends.
    let flag = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGINT, flag)?;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped());
    // What is written is UTF-8 whatever the locale says; less would show its bytes.
    for (name, value) in [("LESS", "FRX"), ("LESSCHARSET", "utf-8"), ("LV", "-c")] {
        if std::env::var_os(name).is_none() {
            shell.env(name, value);
        }
    }
    let mut child = shell.spawn()?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = match io::stderr().is_terminal() {
        true => Some(dup(io::stderr())?),
        false => None,
    };
    dup2_stdout(&pipe)?;
    if stderr.is_some() {
        dup2_stderr(&pipe)?;
    }
    Ok(Running { child, stderr })
}
