//! `status`: how a home stands. Works without agent, without server, without network, and never
//! waits for long.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use zenith_store::Repository;
use zenith_store::objects::OpenOptions;
use zenith_store::{Row, SnapshotId};

use crate::agent::state::{AgentState, PushState, one_line};
use crate::agent::{self, socket};
use crate::diff::{self, Bounds, Unsaved};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::managed::{Managed, Presence, Surroundings};
use crate::pg::{Control, Postmaster};
use crate::who::seconds;
use crate::{known, publish, scratch, start, sync};

/// How long the storage has to answer.
const PROBE: Duration = Duration::from_secs(3);

/// How many bytes of the cluster are read, and for how long. Longer than a moment nobody waits for
/// a status, and what is known by then is a lower bound.
const LOOK_BYTES: u64 = 256 << 20;
const LOOK: Duration = Duration::from_millis(300);
/// When the answer is no longer waited for: listing the files of a large cluster takes its time.
const LOOK_MOST: Duration = Duration::from_secs(2);

/// The managed cluster and its server.
#[derive(Debug, Clone)]
pub enum Server {
    /// It runs.
    Up(Postmaster),
    /// It does not; the state of the cluster as `pg_controldata` prints it.
    Down(String),
    /// It does not: the cluster is a checkout of a snapshot that was taken from a running server,
    /// and its first start brings it to where that was.
    NotStarted,
    /// There is no cluster.
    Missing,
    /// The cluster cannot be used as it is, and why.
    Unusable(String),
}

/// The agent.
#[derive(Debug, Clone)]
pub enum Agent {
    /// It answers.
    Up(AgentState),
    /// It lives and does not answer.
    Silent(Option<AgentState>),
    /// There is none; its last word.
    Down(Option<AgentState>),
}

/// The storage.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Where.
    pub location: String,
    /// Time to an answer, or why there was none.
    pub reachable: std::result::Result<Duration, String>,
    /// What is known of pushes to it.
    pub pushes: PushState,
}

/// How a home stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// When this was, in seconds since 1970.
    pub now: i64,
    /// Its directory.
    pub home: PathBuf,
    /// The branch or snapshot it is on.
    pub head: Head,
    /// The last snapshot there.
    pub tip: Option<Row>,
    /// What of the cluster that snapshot does not hold, or why nobody knows; nothing where there is
    /// no snapshot or no cluster.
    pub unsaved: Option<std::result::Result<Unsaved, String>>,
    /// The server.
    pub server: Server,
    /// Whether the cluster is guarded as a copy.
    pub guarded: bool,
    /// The agent.
    pub agent: Agent,
    /// Number of snapshots that are on this machine only.
    pub unpushed: u64,
    /// Their stored bytes.
    pub unpushed_bytes: u64,
    /// The storage, where there is one.
    pub storage: Option<Storage>,
    /// Bytes of packs in the home.
    pub packs_bytes: u64,
    /// Bytes of the index in the home.
    pub index_bytes: u64,
    /// Temporary checkouts of killed commands.
    pub left_behind: u64,
}

impl Status {
    /// Seconds since the storage was last known to have everything; nothing when it never was.
    pub fn push_age(&self) -> Option<i64> {
        let complete = self.storage.as_ref()?.pushes.complete?;
        Some((self.now - complete).max(0))
    }
}

/// Looks at everything.
///
/// Errors: `SettingsInvalid`, `HomeDamaged`, and a local repository that cannot be read.
pub fn status(managed: &Managed, around: &Surroundings) -> Result<Status> {
    let home = &managed.home;
    // The storage is asked while the rest is looked at.
    let probe = managed.settings.storage_dest.clone().map(|location| {
        let answer = probe(managed, around, &location);
        (location, answer)
    });
    let head = match home.head() {
        // What `start` makes of a home that lost everything but its settings.
        Err(Error::HomeDamaged { .. }) => Head::Branch(managed.settings.branch.clone()),
        head => head?,
    };
    let mut tip = None;
    let mut unpushed = sync::Unpushed::default();
    let mut packs_bytes = 0;
    match publish::local_state(managed) {
        Ok(state) => {
            let id = match &head {
                Head::Branch(branch) => state.get_ref(&format!("branch/{branch}")),
                Head::Detached(id) => id.parse::<SnapshotId>().ok(),
            };
            tip = id.and_then(|id| state.snapshot(&id)).cloned();
            let location = managed.settings.storage_dest.as_deref();
            unpushed = publish::unpushed(managed, location, &state)?;
            // A lazy home names packs that lie at its storage.
            let is_here = |pack: &zenith_store::PackName| {
                !home.is_lazy() || home.dir().join(pack.key()).is_file()
            };
            let packs = state.packs().filter(|pack| is_here(&pack.name));
            packs_bytes = packs.map(|pack| pack.len).sum();
        }
        Err(Error::Store(zenith_store::Error::NotARepository { .. })) => {}
        Err(e) => return Err(e),
    }
    let looking = tip.as_ref().map(|tip| look_at_cluster(managed, tip.id));
    let asked = socket::ask(home, socket::Request::Status, Duration::from_secs(2));
    let agent = match asked {
        Some(state) => Agent::Up(state),
        None if agent::is_alive(home) => Agent::Silent(AgentState::load(home)),
        None => Agent::Down(AgentState::load(home)),
    };
    let storage = probe.map(|(location, answer)| Storage {
        reachable: answer
            .recv_timeout(PROBE + Duration::from_millis(200))
            .unwrap_or_else(|_| {
                Err(format!(
                    "unreachable: no answer within {} s",
                    PROBE.as_secs()
                ))
            }),
        pushes: PushState::load(home, &location),
        location,
    });
    let server = server(managed);
    let unsaved = looking.map(|answer| {
        let answer = answer.recv_timeout(LOOK_MOST);
        answer.unwrap_or_else(|_| Err(format!("not known within {} s", LOOK_MOST.as_secs())))
    });
    Ok(Status {
        now: seconds(home.world()),
        unsaved: unsaved.filter(|_| matches!(server, Server::Up(_) | Server::Down(_))),
        home: home.dir().to_owned(),
        head,
        tip,
        server,
        guarded: start::is_guarded(managed).unwrap_or(false),
        agent,
        unpushed: unpushed.rows.len() as u64,
        unpushed_bytes: unpushed.bytes,
        storage,
        packs_bytes,
        index_bytes: bytes_below(&home.index_dir()),
        // Who may not look there has left nothing there.
        left_behind: scratch::left_behind(home).unwrap_or_default(),
    })
}

fn server(managed: &Managed) -> Server {
    let looked = || -> Result<Server> {
        if managed.presence()? != Presence::Whole {
            return Ok(Server::Missing);
        }
        Ok(match managed.postmaster()? {
            Some(postmaster) => Server::Up(postmaster),
            // The first start renames it.
            None if managed.home.pgdata().join("backup_label").is_file() => Server::NotStarted,
            None => Server::Down(
                Control::read(&managed.home.pgdata(), managed.home.world())?
                    .state
                    .to_string(),
            ),
        })
    };
    looked().unwrap_or_else(|e| Server::Unusable(one_line(&e)))
}

/// Looks for what the snapshot does not hold, on a thread of its own.
fn look_at_cluster(
    managed: &Managed,
    tip: SnapshotId,
) -> mpsc::Receiver<std::result::Result<Unsaved, String>> {
    let (tell, answer) = mpsc::channel();
    let managed = managed.clone();
    std::thread::spawn(move || {
        let looked = managed.home.reader().and_then(|(repo, _guard)| {
            let bounds = Bounds::new(managed.home.world(), LOOK_BYTES, LOOK);
            diff::unsaved(&managed, &repo, tip, &bounds)
        });
        let _ = tell.send(looked.map_err(|e| one_line(&e)));
    });
    answer
}

type Answer = std::result::Result<Duration, String>;

/// Asks whether there is a repository, on a thread of its own: a request that hangs must not
/// keep the rest from being told.
fn probe(managed: &Managed, around: &Surroundings, location: &str) -> mpsc::Receiver<Answer> {
    let (tell, answer) = mpsc::channel();
    let cwd = managed.home.dir().to_owned();
    let (around, location) = (around.clone(), location.to_owned());
    let home = managed.home.clone();
    std::thread::spawn(move || {
        let begun = home.world().watch();
        let options = OpenOptions {
            retry_timeout: PROBE,
            ..OpenOptions::default()
        };
        let looked = sync::open_objects(&location, &cwd, &around.storage, &options)
            .and_then(|objects| Ok(Repository::exists(&*objects)?));
        let _ = tell.send(match looked {
            Ok(true) => Ok(begun.elapsed()),
            Ok(false) => Err(match known::expect(&home, &location, false) {
                Ok(()) => "there is no zenith repository".to_owned(),
                Err(e) => one_line(&e),
            }),
            Err(e) => Err(one_line(&e)),
        });
    });
    answer
}

/// Bytes of the files in a directory and below; what cannot be read counts for nothing.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
