//! How commands talk to the agent: `<home>/agent.sock`, one line of JSON each way.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::AgentState;
use crate::error::{Error, Result};
use crate::home::Home;

/// Longest line that either side reads, in bytes.
const LINE_MAX: u64 = 1 << 20;
/// How long the agent waits for a question that was begun.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// What the agent can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How are you?
    Status,
    /// Finish what can be finished within seconds, and go.
    Stop,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To both requests.
    State(Box<AgentState>),
    /// The question was not understood.
    Unknown(String),
}

/// Asks the agent of this home; nothing when there is none, or none that answers in time.
pub fn ask(home: &Home, request: Request, timeout: Duration) -> Option<AgentState> {
    let place = Place::of(home).ok()?;
    let mut stream = UnixStream::connect(place.path()).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    stream.set_write_timeout(Some(timeout)).ok()?;
    let mut line = serde_json::to_string(&request).ok()?;
    line.push('\n');
    stream.write_all(line.as_bytes()).ok()?;
    match serde_json::from_str(&read_line(&stream).ok()?).ok()? {
        Reply::State(state) => Some(*state),
        Reply::Unknown(_) => None,
    }
}

/// Listens in the agent's place. The caller has made sure that it is the only agent, so a socket
/// that lies there is a dead one's.
pub fn listen(home: &Home) -> Result<UnixListener> {
    let sock = home.agent_sock();
    match fs::remove_file(&sock) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &sock)(e));
        }
        _ => {}
    }
    let place = Place::of(home)?;
    let listener = UnixListener::bind(place.path()).map_err(Error::io("listen on", &sock))?;
    fs::set_permissions(&sock, fs::Permissions::from_mode(0o600))
        .map_err(Error::io("chmod", &sock))?;
    Ok(listener)
}

/// Answers one question.
pub fn answer(
    stream: &UnixStream,
    reply: impl FnOnce(Request) -> AgentState,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(QUESTION_TIMEOUT))?;
    stream.set_write_timeout(Some(QUESTION_TIMEOUT))?;
    let line = read_line(stream)?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => Reply::State(Box::new(reply(request))),
        Err(_) => Reply::Unknown(line.trim_end().to_owned()),
    };
    let mut line = serde_json::to_string(&reply)?;
    line.push('\n');
    let mut stream = stream;
    stream.write_all(line.as_bytes())
}

fn read_line(stream: &UnixStream) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// The path of the socket, through an open directory where it would be too long for one.
struct Place {
    path: PathBuf,
    /// Keeps the short path valid.
    _dir: Option<File>,
}

impl Place {
    fn of(home: &Home) -> Result<Place> {
        const PATH_MAX: usize = 107;
        let path = home.agent_sock();
        if path.as_os_str().len() <= PATH_MAX {
            return Ok(Place { path, _dir: None });
        }
        let dir = File::open(home.dir()).map_err(Error::io("open", home.dir()))?;
        let name = path.file_name().unwrap_or_default();
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
        Ok(Place {
            path,
            _dir: Some(dir),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Phase;
    use super::*;
    use crate::settings::Settings;

    fn state() -> AgentState {
        AgentState {
            pid: 7,
            since: 1,
            phase: Phase::Idle,
            interval_secs: 300,
            push_to: None,
            next: 2,
            unchanged: None,
            taken: None,
            paused: None,
            trouble: None,
        }
    }

    fn talk(home: &Home) {
        let patience = Duration::from_secs(5);
        assert_eq!(ask(home, Request::Status, patience), None);
        let listener = listen(home).unwrap();
        let mode = fs::metadata(home.agent_sock())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let agent = std::thread::spawn(move || {
            for asked in [Request::Status, Request::Stop] {
                let (stream, _) = listener.accept().unwrap();
                answer(&stream, |request| {
                    assert_eq!(request, asked);
                    state()
                })
                .unwrap();
            }
            let (stream, _) = listener.accept().unwrap();
            answer(&stream, |_| panic!("nothing was asked")).unwrap();
        });
        assert_eq!(ask(home, Request::Status, patience), Some(state()));
        assert_eq!(ask(home, Request::Stop, patience), Some(state()));
        let place = Place::of(home).unwrap();
        let mut stream = UnixStream::connect(place.path()).unwrap();
        stream.write_all(b"\"dance\"\n").unwrap();
        assert!(read_line(&stream).unwrap().contains("dance"));
        agent.join().unwrap();
        // The socket of a dead agent is no agent, and no obstacle to the next.
        assert_eq!(ask(home, Request::Status, patience), None);
        listen(home).unwrap();
    }

    #[test]
    fn the_agent_answers_what_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["near".to_owned(), "far".repeat(50)] {
            let home = Home::prepare(&dir.path().join(name)).unwrap();
            home.complete(&Settings::new()).unwrap();
            talk(&home);
        }
    }
}
