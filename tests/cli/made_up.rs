//! A home with snapshots that are made up: what they hold does not matter here.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;
use zenith::event::ignore;
use zenith::facts::{Database, Facts};
use zenith::head::Head;
use zenith::home::{Home, Wait};
use zenith::managed::{Managed, Surroundings};
use zenith::settings::Settings;
use zenith::store::objects::OpenOptions;
use zenith::store::{
    Change, Ids, Listing, Node, Params, RefChange, Repository, Snapshot, SnapshotId, SnapshotKind,
    SnapshotSource, State, Time,
};
use zenith::sync;
use zenith::who::operation;

use crate::zenith::Zenith;

const HOUR: i64 = 3_600;

/// The home `.zenith` and the storage `storage` of a place of its own, the time being now.
pub(crate) struct MadeUp {
    pub(crate) zenith: Zenith,
    pub(crate) home: Home,
}

impl MadeUp {
    pub(crate) fn new() -> MadeUp {
        let zenith = Zenith::new();
        let home = home(&zenith, ".zenith");
        MadeUp { zenith, home }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.home.state().unwrap()
    }

    /// What lies at the storage.
    pub(crate) fn storage(&self) -> Repository {
        let managed = Managed::open(self.home.dir()).unwrap();
        let location = zenith::publish::location(&managed).unwrap();
        let around = Surroundings::default();
        let options = OpenOptions::default();
        zenith::publish::storage(&managed, &around, location, &options).unwrap()
    }

    /// Another home that has fetched `main` of the storage, by its id.
    pub(crate) fn another_home(&self, name: &str) -> String {
        let home = home(&self.zenith, name);
        let operation = operation(self.home.world(), "fetch", "main");
        sync::attach(&home, &self.storage(), "main", &operation, &ignore).unwrap();
        home.settings().unwrap().home_id
    }

    /// An automatic snapshot on a branch, taken so many hours and a half ago.
    pub(crate) fn snapshot(&self, branch: &str, message: &str, hours: i64) -> SnapshotId {
        snapshot(&self.home, branch, message, hours, SnapshotKind::Automatic)
    }

    /// The same, just now, of a cluster with these databases.
    pub(crate) fn snapshot_of(&self, branch: &str, databases: Vec<Database>) -> SnapshotId {
        let facts = Facts {
            databases,
            ..Facts::default()
        };
        let kind = SnapshotKind::Manual;
        commit(&self.home, branch, "of tables", 0, kind, facts)
    }

    /// One on `main` whose WAL ends there.
    pub(crate) fn snapshot_to(&self, message: &str, hours: i64, stop_lsn: u64) -> SnapshotId {
        let facts = Facts {
            stop_lsn,
            ..Facts::default()
        };
        let kind = SnapshotKind::Automatic;
        commit(&self.home, "main", message, hours, kind, facts)
    }

    /// Points a ref, by its full name, at a snapshot.
    pub(crate) fn name(&self, name: &str, to: SnapshotId) {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        let repo = self.home.writer(&lock).unwrap();
        let refs = vec![RefChange {
            name: name.to_owned(),
            from: repo.state().unwrap().get_ref(name),
            to: Some(to),
        }];
        let operation = operation(self.home.world(), "test", name);
        repo.commit(Change {
            refs,
            operation,
            ..Change::default()
        })
        .unwrap();
    }

    pub(crate) fn stand_at(&self, head: &Head) {
        self.home.set_head(head).unwrap();
    }

    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Output {
        self.zenith.command(line).output().unwrap()
    }

    /// A command that works: its stdout.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(
            output.status.success(),
            "{line}\n{}",
            self.zenith.shown(&output)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects that a command that works answers with `--json`.
    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> Vec<Value> {
        let objects = self.ok(&format!("--json {line}"));
        let parse = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let objects: Vec<Value> = objects.lines().map(parse).collect();
        for object in &objects {
            assert!(object["type"].is_string() && object["v"] == 1, "{object}");
        }
        objects
    }

    /// A command that is refused with this code: its stderr, which has a hint.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let shown = self.zenith.shown(&output);
        assert_eq!(output.status.code(), Some(code), "{line}\n{shown}");
        assert!(output.stdout.is_empty(), "{line}\n{shown}");
        assert!(shown.contains("\nhint: "), "{line}\n{shown}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What a command says, ids of snapshots replaced by their messages, the home's by `HOME`.
    pub(crate) fn transcript(&self, line: &str) -> String {
        self.named(&self.zenith.transcript(line))
    }

    /// The same for any text.
    pub(crate) fn named(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        let states = [self.state(), self.storage().state().unwrap()];
        for row in states.iter().flat_map(|state| state.snapshots()) {
            // As wide as what it stands for, so that columns stay columns.
            let short = format!("{:_<8}", row.message);
            shown = shown.replace(&row.id.to_string(), &format!("ID-{}", row.message));
            shown = shown.replace(&row.id.short(), &short);
        }
        let mine = self.home.settings().unwrap().home_id;
        shown.replace(&mine, &format!("{:_<1$}", "HOME", mine.len()))
    }

    /// Where a ref is, by its full name.
    pub(crate) fn at(&self, name: &str) -> Option<SnapshotId> {
        self.state().get_ref(name)
    }

    /// Messages of the snapshots that are there, in the order of their commits.
    pub(crate) fn messages(&self) -> Vec<String> {
        messages(&self.state())
    }
}

pub(crate) fn messages(state: &State) -> Vec<String> {
    state.snapshots().map(|row| row.message.clone()).collect()
}

/// A home that pushes to `storage`.
pub(crate) fn home(zenith: &Zenith, name: &str) -> Home {
    let dir = zenith.dir().canonicalize().unwrap();
    let home = Home::prepare(&dir.join(name)).unwrap();
    home.create_repository(Params::default(), operation(home.world(), "init", ""))
        .unwrap();
    let mut settings = Settings::new();
    settings.storage_dest = Some(text(&dir.join("storage")));
    home.complete(&settings).unwrap();
    home
}

pub(crate) fn snapshot(
    home: &Home,
    branch: &str,
    message: &str,
    hours: i64,
    kind: SnapshotKind,
) -> SnapshotId {
    commit(home, branch, message, hours, kind, Facts::default())
}

fn commit(
    home: &Home,
    branch: &str,
    message: &str,
    hours: i64,
    kind: SnapshotKind,
    facts: Facts,
) -> SnapshotId {
    let lock = home.lock("test", Wait::Forever).unwrap();
    let repo = home.writer(&lock).unwrap();
    let name = format!("branch/{branch}");
    let tip = repo.state().unwrap().get_ref(&name);
    let writer = repo.writer().unwrap();
    let mut bytes = message.repeat(5_000);
    bytes.truncate(64 << 10);
    let ids = [writer.put_chunk(bytes.as_bytes(), None).unwrap()];
    let size = bytes.len() as u64;
    let file = writer.put_file(0o600, size, &ids, &[]).unwrap();
    let listing = Listing::from([("f".to_owned(), Node::File(file))]);
    let tree = writer.put_tree(&listing).unwrap();
    let now = zenith::who::now(home.world());
    let facts = Facts {
        block_size: 8192,
        segment_blocks: 131_072,
        ..facts
    };
    let snapshot = Snapshot {
        version: 1,
        tree,
        parents: tip.into_iter().collect(),
        time: Time {
            unix_micros: now.unix_micros - (hours * HOUR + HOUR / 2) * 1_000_000,
            ..now
        },
        host: "here".into(),
        message: message.into(),
        kind,
        source: SnapshotSource::Offline,
        tool: "test".into(),
        files: 1,
        size,
        body: facts.encode(),
    };
    let id = Ids::plain().snapshot(&snapshot.encode());
    let refs = vec![RefChange {
        name,
        from: tip,
        to: Some(id),
    }];
    let summary = facts.summary().encode();
    let operation = operation(home.world(), "snapshot create", message);
    writer.commit(snapshot, summary, refs, operation).unwrap();
    id
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
