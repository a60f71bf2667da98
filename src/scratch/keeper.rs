//! Who ends what is short-lived when the process is told to end.
//!
//! Short-lived servers end when their values are dropped. A signal comes on another thread, which
//! calls [`Keeper::close`]: everything ends and goes at once, and nothing begins any more.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::ScratchError;
use super::room::Room;
use crate::error::{Error, Result};

/// The short-lived servers of this process, and the program that works with one of them.
#[derive(Debug, Clone, Default)]
pub struct Keeper(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    closed: bool,
    next: u64,
    rooms: BTreeMap<u64, (Room, Option<Child>)>,
    program: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    pid: i32,
    interactive: bool,
}

/// Everything ended. As long as this lives, whoever used it waits: the process is to end first.
#[must_use]
pub struct Closed<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, Kept>);

impl Keeper {
    /// Whether a program runs that answers Ctrl-C itself.
    pub fn is_interactive(&self) -> bool {
        self.lock()
            .program
            .is_some_and(|program| program.interactive)
    }

    /// Ends everything, the program first, and removes all traces.
    pub fn close(&self) -> Closed<'_> {
        let mut kept = self.lock();
        kept.closed = true;
        if let Some(program) = kept.program {
            // An error means that it has ended.
            let _ = kill(Pid::from_raw(program.pid), Signal::SIGTERM);
        }
        for (room, server) in std::mem::take(&mut kept.rooms).into_values() {
            // Nobody is left to be told; what stays is removed by the next command.
            let _ = leave(&room, server);
        }
        Closed(kept)
    }

    /// Runs a program with this process's terminal or pipes until it ends.
    pub fn run(&self, command: &mut Command, interactive: bool) -> Result<ExitStatus> {
        self.spawn(command, interactive)?.wait()
    }

    /// Starts a program that [`Keeper::close`] ends.
    ///
    /// Errors: `ScratchError::Interrupted`.
    pub fn spawn(&self, command: &mut Command, interactive: bool) -> Result<Program> {
        let mut kept = self.open()?;
        let child = command
            .spawn()
            .map_err(Error::io("run", command.get_program().as_ref()))?;
        let pid = child.id() as i32;
        kept.program = Some(Running { pid, interactive });
        Ok(Program {
            child,
            keeper: self.clone(),
            ended: false,
        })
    }

    pub(super) fn enter(&self, room: Room) -> Result<u64> {
        let mut kept = match self.open() {
            Ok(kept) => kept,
            Err(e) => {
                room.remove()?;
                return Err(e);
            }
        };
        kept.next += 1;
        let number = kept.next;
        kept.rooms.insert(number, (room, None));
        Ok(number)
    }

    /// Starts the server of a room.
    pub(super) fn start(&self, number: u64, command: &mut Command) -> Result<()> {
        let mut kept = self.open()?;
        let Some((_, server)) = kept.rooms.get_mut(&number) else {
            return Err(ScratchError::Interrupted.into());
        };
        let program = command.get_program().to_owned();
        *server = Some(
            command
                .spawn()
                .map_err(Error::io("run", program.as_ref()))?,
        );
        Ok(())
    }

    /// How the server of a room ended, if it did.
    pub(super) fn ended(&self, number: u64) -> Result<Option<ExitStatus>> {
        let mut kept = self.open()?;
        match kept.rooms.get_mut(&number) {
            Some((room, Some(server))) => server
                .try_wait()
                .map_err(Error::io("watch", &room.pgdata())),
            _ => Ok(None),
        }
    }

    /// Ends the server of a room and removes the room; fine when that was done.
    pub(super) fn leave(&self, number: u64) -> Result<()> {
        let gone = self.lock().rooms.remove(&number);
        gone.map_or(Ok(()), |(room, server)| leave(&room, server))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // What is kept is right at every step, also where a thread ended in the middle.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors: `ScratchError::Interrupted` when all is over.
    fn open(&self) -> Result<MutexGuard<'_, Kept>> {
        let kept = self.lock();
        if kept.closed {
            return Err(ScratchError::Interrupted.into());
        }
        Ok(kept)
    }
}

fn leave(room: &Room, server: Option<Child>) -> Result<()> {
    if let Some(mut server) = server {
        let pid = server.id() as i32;
        let server = std::cell::RefCell::new(&mut server);
        room.end(pid, || {
            let ended = server.borrow_mut().try_wait();
            Ok(ended.map_err(Error::io("watch", &room.pgdata()))?.is_some())
        })?;
    }
    room.remove()
}

/// A program at work on a short-lived server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    keeper: Keeper,
    ended: bool,
}

impl Program {
    /// Its stdout, where the command made that a pipe.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let pid = Pid::from_raw(self.child.id() as i32);
        let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        // It is reaped under the lock, so that no signal goes to who has its number next.
        while waitid(Id::Pid(pid), how) == Err(Errno::EINTR) {}
        let mut kept = self.keeper.lock();
        let status = self.child.wait();
        kept.program = None;
        self.ended = true;
        status.map_err(|source| Error::Io {
            verb: "watch",
            path: format!("process {}", self.child.id()).into(),
            source,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody waits for its answer any more.
            let _ = self.child.kill();
            let _ = self.end();
        }
    }
}

/// Whether a program ended because whoever read its stdout went away.
pub fn is_broken_pipe(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGPIPE as i32)
}
