//! `import`: a cluster that lies elsewhere becomes a snapshot on a branch.

use std::path::{Path, PathBuf};

use zenith_store::objects::{OpenOptions, StorageUrl};
use zenith_store::{IndexChoice, Repository, SnapshotKind, State, World};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::{Damage, Facts};
use crate::home::HomeLock;
use crate::import::{self, Format, tar::TarSource};
use crate::managed::{Managed, Refusal, Surroundings};
use crate::pg::{Control, Lsn};
use crate::snapshot::{self, SnapshotOptions, SnapshotReport};
use crate::who::{self, operation};
use crate::{publish, sync};

/// Where a cluster lies that is to be imported.
#[derive(Debug, Clone)]
pub struct Source {
    /// An absolute path, a URL, or `-` for a tar on standard input.
    pub location: String,
    /// What lies there; nothing to look and see.
    pub format: Option<Format>,
    /// The path, where it is one of this machine.
    local: Option<PathBuf>,
}

impl Source {
    /// Errors: `Url`.
    pub fn new(location: String, format: Option<Format>) -> Result<Source> {
        let local = match location.as_str() {
            "-" => None,
            text => StorageUrl::parse(text, Path::new("/"))?
                .local_path()
                .map(Path::to_owned),
        };
        Ok(Source {
            location,
            format,
            local,
        })
    }

    /// The path, where it is one of this machine and there.
    pub fn local_dir(&self) -> Option<&Path> {
        self.local.as_deref().filter(|path| path.exists())
    }

    /// Sees that something that can be imported lies at a path of this machine.
    ///
    /// Errors: `NoSuchPath`, `FormatUnknown`, `Compressed`.
    pub fn look(&self) -> Result<()> {
        match (&self.local, self.format) {
            (Some(path), None) => import::detect(path).map(drop),
            (Some(path), Some(_)) if !path.exists() => {
                Err(Error::NoSuchPath { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Of the cluster, where that can be told without reading it.
    pub(crate) fn system_identifier(&self, world: &World) -> Result<Option<u64>> {
        match self
            .local_dir()
            .filter(|dir| dir.join("global/pg_control").is_file())
        {
            Some(dir) => Ok(Some(Control::read(dir, world)?.system_identifier)),
            None => Ok(None),
        }
    }
}

/// Takes a snapshot of what lies at the source, as the next one of `branch`.
///
/// Errors: those of `import`, of [`snapshot::offline`] and of [`sync::copy`], and
/// `Refusal::BranchNotAtStorage` where another repository has no branch to take.
pub fn bring(
    managed: &Managed,
    lock: &HomeLock,
    around: &Surroundings,
    source: &Source,
    branch: &str,
    message: &str,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    crate::head::check_name(branch)?;
    let repo = managed.home.writer(lock)?;
    let options = SnapshotOptions {
        branch: branch.to_owned(),
        parent: None,
        aside: None,
        message: message.to_owned(),
        kind: SnapshotKind::Import,
        skip_if_unchanged: false,
        fast: true,
        threads: managed.settings.snapshots.threads.unwrap_or(0),
        on_damage: managed.settings.snapshots.on_damage,
        read_all: true,
        writer: managed.settings.snapshots.writer(),
        operation: operation(managed.home.world(), "import", source.location.clone()),
        host: who::host(),
        home: Some(managed.home.clone()),
    };
    if source.location == "-" {
        let mut stdin = std::io::stdin().lock();
        return import::tar::tar(&repo, TarSource::Stream(&mut stdin, "stdin"), &options, on);
    }
    if let Some(path) = &source.local {
        let format = match source.format {
            Some(format) => format,
            None => import::detect(path)?,
        };
        match format {
            Format::Pgdata => return snapshot::offline(&repo, path, &options, on),
            Format::Tar => return import::tar::tar(&repo, TarSource::Path(path), &options, on),
            Format::Zenith => {}
        }
    }
    let open = OpenOptions {
        snapshot_path: true,
        ..OpenOptions::interactive()
    };
    publish::warn_unread(around, &source.location, &open, on);
    let objects = sync::open_objects(&source.location, managed.home.dir(), &around.storage, &open)?;
    let format = match source.format {
        Some(format) => format,
        None => import::detect_objects(&*objects)?,
    };
    match format {
        Format::Pgdata => import::objects::pgdata(&repo, &*objects, &options, on),
        Format::Tar => import::tar::tar(&repo, TarSource::Objects(&*objects), &options, on),
        Format::Zenith => {
            let from = Repository::open_in(
                objects,
                repo.seal().cloned(),
                IndexChoice::Memory,
                repo.world().clone(),
            )?;
            copy(&from, &repo, branch, &options, on)
        }
    }
}

/// The tip of a branch of another repository, as it is: its id stays.
fn copy(
    from: &Repository,
    to: &Repository,
    branch: &str,
    options: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    let state = from.state()?;
    let theirs = their_branch(&state, branch);
    let tip = theirs
        .and_then(|name| state.get_ref(&name))
        .ok_or_else(|| Refusal::BranchNotAtStorage {
            branch: branch.to_owned(),
            location: from.location(),
            branches: branches(&state).map(str::to_owned).collect(),
        })?;
    let new_bytes = sync::copy(from, to, tip, branch, &options.operation, on)?;
    let snapshot = to.snapshot(tip)?;
    let facts = Facts::decode(&snapshot.body, &tip)?;
    Ok(SnapshotReport {
        id: tip,
        unchanged: false,
        size: snapshot.size,
        new_bytes,
        read_bytes: 0,
        files: snapshot.files,
        lsn: Lsn(facts.stop_lsn),
        left_out: facts.left_out,
        damaged_pages: facts.damage.as_ref().map_or(0, Damage::count),
        warnings: Vec::new(),
    })
}

/// The branch of the same name, `main`, or the only one.
fn their_branch(state: &State, branch: &str) -> Option<String> {
    let there = |name: &str| branches(state).any(|there| there == name);
    let only = || {
        let mut all = branches(state);
        all.next().filter(|_| all.next().is_none())
    };
    [branch, "main"]
        .into_iter()
        .find(|name| there(name))
        .or_else(only)
        .map(|name| format!("branch/{name}"))
}

fn branches(state: &State) -> impl Iterator<Item = &str> {
    let names = state
        .refs()
        .keys()
        .filter_map(|name| name.strip_prefix("branch/"));
    names.filter(|name| !name.starts_with("diverged/"))
}
