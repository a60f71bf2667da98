//! Machines with a home each, and what the tests do with them and their storage.
//!
//! The snapshots are made up: what they hold does not matter here.

use std::path::Path;
use std::sync::Arc;

use zenith::Result;
use zenith::event::{Event, ignore};
use zenith::facts::Facts;
use zenith::fetch::{self, Depth, FetchOptions, FetchReport};
use zenith::home::{Home, Wait};
use zenith::settings::Settings;
use zenith::sync::{self, Attached, PushOptions, PushReport};
use zenith_store::objects::{Directory, Objects};
use zenith_store::{
    Change, Collect, Collected, Listing, Node, Params, RefChange, Repository, Snapshot, SnapshotId,
    SnapshotKind, SnapshotSource, State, World,
};
use zenith_testkit::Place;

use crate::fixture::operation;

pub(crate) struct Machine {
    pub(crate) home: Home,
    pub(crate) id: String,
}

pub(crate) fn machine(place: &Place, name: &str) -> Machine {
    let home = Home::prepare(&place.join(name)).unwrap();
    home.create_repository(Params::default(), operation())
        .unwrap();
    home.complete(&Settings::new()).unwrap();
    let id = home.settings().unwrap().home_id;
    Machine { home, id }
}

/// The storage, opened anew as by another process.
pub(crate) fn storage(place: &Place) -> Repository {
    let objects: Arc<dyn Objects> = Arc::new(Directory::new(place.join("storage")));
    sync::open_or_create(
        objects,
        Params::default(),
        None,
        &operation(),
        &World::real(),
    )
    .unwrap()
}

impl Machine {
    pub(crate) fn state(&self) -> Arc<State> {
        self.home.reader().unwrap().0.state().unwrap()
    }

    /// A snapshot on `branch` with a file of its own.
    pub(crate) fn snapshot(&self, branch: &str, content: &str) -> SnapshotId {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        let repo = self.home.writer(&lock).unwrap();
        let name = format!("branch/{branch}");
        let tip = repo.state().unwrap().get_ref(&name);
        zenith::lazy::lean(&self.home, &repo, tip, &operation()).unwrap();
        let writer = repo.writer().unwrap();
        let bytes = content.repeat(5_000);
        let ids = [writer
            .put_chunk(&bytes.as_bytes()[..bytes.len().min(65_536)], None)
            .unwrap()];
        let size = bytes.len().min(65_536) as u64;
        let file = writer.put_file(0o600, size, &ids, &[]).unwrap();
        let listing = Listing::from([("f".to_owned(), Node::File(file))]);
        let tree = writer.put_tree(&listing).unwrap();
        let facts = Facts::default();
        let snapshot = Snapshot {
            version: 1,
            tree,
            parents: tip.into_iter().collect(),
            time: operation().time,
            host: "here".into(),
            message: content.into(),
            kind: SnapshotKind::Automatic,
            source: SnapshotSource::Offline,
            tool: "test".into(),
            files: 1,
            size,
            body: facts.encode(),
        };
        let id = zenith_store::Ids::plain().snapshot(&snapshot.encode());
        let refs = vec![RefChange {
            name,
            from: tip,
            to: Some(id),
        }];
        let summary = facts.summary().encode();
        assert_eq!(
            writer
                .commit(snapshot, summary, refs, operation())
                .unwrap()
                .id,
            id
        );
        id
    }

    pub(crate) fn remove(&self, remove: &[SnapshotId]) {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        let repo = self.home.writer(&lock).unwrap();
        let change = Change {
            remove: remove.to_vec(),
            ..Change::default()
        };
        repo.commit(Change {
            operation: operation(),
            ..change
        })
        .unwrap();
    }

    pub(crate) fn push(&self, storage: &Repository, background: bool) -> Result<PushReport> {
        self.push_watched(storage, background, &ignore)
    }

    pub(crate) fn push_watched(
        &self,
        storage: &Repository,
        background: bool,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<PushReport> {
        let options = PushOptions {
            background,
            ..push_options("main")
        };
        sync::push(&self.home, storage, &options, on)
    }

    pub(crate) fn attach(&self, storage: &Repository) -> Result<Attached> {
        self.attach_watched(storage, &ignore)
    }

    pub(crate) fn attach_watched(
        &self,
        storage: &Repository,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<Attached> {
        sync::attach(&self.home, storage, "main", &operation(), on)
    }

    pub(crate) fn fetch(
        &self,
        storage: &Repository,
        options: &FetchOptions,
    ) -> Result<FetchReport> {
        fetch::fetch(&self.home, storage, options, &ignore)
    }

    pub(crate) fn push_branch(&self, storage: &Repository, branch: &str) {
        sync::push(&self.home, storage, &push_options(branch), &ignore).unwrap();
    }

    pub(crate) fn set_ref(&self, name: &str, to: Option<SnapshotId>) {
        let lock = self.home.lock("test", Wait::Forever).unwrap();
        set_ref(&self.home.writer(&lock).unwrap(), name, to);
    }

    pub(crate) fn at(&self, name: &str) -> Option<SnapshotId> {
        self.state().get_ref(name)
    }

    pub(crate) fn unpushed(&self) -> Vec<SnapshotId> {
        sync::unpushed(&self.state())
            .rows
            .iter()
            .map(|row| row.id)
            .collect()
    }
}

pub(crate) fn ids(state: &State) -> Vec<SnapshotId> {
    state.snapshots().map(|row| row.id).collect()
}

#[track_caller]
pub(crate) fn pushed(result: Result<PushReport>, tip: SnapshotId, number: u64) {
    match result.unwrap() {
        PushReport::Pushed {
            tip: t, snapshots, ..
        } => assert_eq!((t, snapshots), (tip, number)),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn push_options(branch: &str) -> PushOptions {
    PushOptions {
        branch: branch.into(),
        background: false,
        operation: operation(),
    }
}

pub(crate) fn fetch_options() -> FetchOptions {
    FetchOptions {
        remote: sync::ORIGIN.into(),
        branches: Vec::new(),
        all: false,
        tags: false,
        prune: false,
        depth: Depth::TIP,
        dry_run: false,
        operation: operation(),
    }
}

pub(crate) fn set_ref(repository: &Repository, name: &str, to: Option<SnapshotId>) {
    let refs = vec![RefChange {
        name: name.into(),
        from: repository.state().unwrap().get_ref(name),
        to,
    }];
    repository
        .commit(Change {
            refs,
            operation: operation(),
            ..Change::default()
        })
        .unwrap();
}

/// The file of a snapshot.
pub(crate) fn content(repo: &Repository, id: SnapshotId) -> Vec<u8> {
    let listing = repo.listing(repo.snapshot(id).unwrap().tree).unwrap();
    match &listing["f"] {
        Node::File(file) => repo.file_bytes(file).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Frees at once what nothing uses.
pub(crate) fn collect(repository: &Repository) -> Collected {
    let now = Collect {
        grace: 0,
        ..Collect::at(4_000_000_000)
    };
    repository.collect(operation(), now).unwrap()
}

/// A copy of a directory with all that is in it.
pub(crate) fn image(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => image(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}
