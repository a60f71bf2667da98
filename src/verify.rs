//! `verify` and `verify --repair`: is everything that snapshots need there and whole, and if not,
//! who else has it? A home is healed by its remotes and by the cluster that it manages, a storage
//! by the home, by other remotes and by that cluster.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zenith_store::id::{Id, Kind};
use zenith_store::object::extents;
use zenith_store::{
    ChunkId, Damage, Ids, PackName, Repair, Repaired, Repository, Snapshot, SnapshotId, Source,
    Verify, VerifyEvent, VerifyReport, Wanted,
};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::Facts;
use crate::home::Wait;
use crate::managed::{Managed, Surroundings};
use crate::pg::path::relation_file;
use crate::remote;
use crate::who::operation;

/// How long another command may hold the home before this one gives up.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// What was found, with the names of the relations that are touched.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What was found.
    pub report: VerifyReport,
    /// `database.schema.relation` for each of the report's damages, where it is known.
    pub relations: Vec<Option<String>>,
}

/// What a repair found and did.
#[derive(Debug, Clone)]
pub struct Mended {
    /// In the store.
    pub done: Repaired,
    /// What is still lost.
    pub left: Verified,
}

/// Looks at the home's repository.
pub fn home(managed: &Managed, how: Verify, on: &(dyn Fn(Event) + Sync)) -> Result<Verified> {
    let (repo, _guard) = managed.home.reader()?;
    repository(&repo, how, on)
}

/// Looks at any repository, beside whoever uses it.
pub fn repository(repo: &Repository, how: Verify, on: &(dyn Fn(Event) + Sync)) -> Result<Verified> {
    on(Event::Phase("verifying"));
    let report = repo.verify_with(how, &|event| tell(event, on))?;
    Ok(named(repo, report))
}

/// Repairs the home's repository.
///
/// Errors: `HomeBusy`; `HomeInUse` when somebody reads packs.
pub fn repair_home(
    managed: &Managed,
    around: &Surroundings,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Mended> {
    let lock = managed
        .home
        .lock("verify --repair", Wait::UpTo(LOCK_WAIT))?;
    let _alone = managed.home.collect_guard()?;
    let repo = managed.home.writer(&lock)?;
    let (remotes, unavailable) = remotes(managed, around, None);
    repair(&repo, managed, &remotes, unavailable, on)
}

/// Repairs the repository of a remote, beside whoever uses it.
///
/// Errors: those of both repositories.
pub fn repair_remote(
    managed: &Managed,
    around: &Surroundings,
    name: &str,
    storage: &Repository,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Mended> {
    let (remotes, unavailable) = remotes(managed, around, Some(name));
    let mended = {
        // A lazy home has nothing that the storage has not.
        let (here, _guard) = managed.home.alone().reader()?;
        let mut sources = vec![here];
        sources.extend(remotes);
        repair(storage, managed, &sources, unavailable, on)?
    };
    let renamed = &mended.done.renamed;
    if !renamed.is_empty() {
        // So that the next push need not send them once more. Without that the repair stands.
        if let Err(e) = rename_here(managed, renamed) {
            on(Event::Warning(format!(
                "the next push sends once more what was repaired: {e}"
            )));
        }
    }
    Ok(mended)
}

/// Gives packs of the home the names that a repair of the storage gave them there.
fn rename_here(managed: &Managed, renamed: &[(PackName, PackName)]) -> Result<()> {
    let lock = managed.home.lock("renaming packs", Wait::UpTo(LOCK_WAIT))?;
    let _alone = managed.home.collect_guard()?;
    let local = managed.home.writer(&lock)?;
    let operation = operation(managed.home.world(), "rename packs", "after a repair");
    Ok(local.rename_packs_to(renamed, operation)?)
}

fn repair(
    repo: &Repository,
    managed: &Managed,
    others: &[Repository],
    unavailable: Vec<(String, String)>,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Mended> {
    let cluster = Cluster::new(managed.home.pgdata(), repo);
    let mut sources: Vec<&dyn Source> = others.iter().map(|other| other as &dyn Source).collect();
    if cluster.pgdata.is_dir() {
        sources.push(&cluster);
    }
    on(Event::Phase("repairing"));
    let how = Repair {
        operation: operation(managed.home.world(), "repair", ""),
        sources,
        summary: &|snapshot| summary(snapshot),
    };
    let mut done = repo.repair(&how, &|event| tell(event, on))?;
    done.unavailable.splice(0..0, unavailable);
    let left = named(repo, done.after.clone());
    Ok(Mended { done, left })
}

/// The other remotes that can be opened, and why others cannot.
fn remotes(
    managed: &Managed,
    around: &Surroundings,
    but: Option<&str>,
) -> (Vec<Repository>, Vec<(String, String)>) {
    let (mut opened, mut unavailable) = (Vec::new(), Vec::new());
    for name in remote::names(managed) {
        if but == Some(name.as_str()) {
            continue;
        }
        match remote::open(managed, around, &name) {
            Ok(repo) => opened.push(repo),
            Err(e) => {
                let place = remote::location(managed, &name).unwrap_or(name);
                unavailable.push((place, e.to_string()));
            }
        }
    }
    (opened, unavailable)
}

fn tell(event: VerifyEvent, on: &(dyn Fn(Event) + Sync)) {
    on(match event {
        VerifyEvent::Plan { bytes } => Event::Total { bytes },
        VerifyEvent::Read { bytes } => Event::Read { bytes },
    });
}

/// The engine's part of a row that is made anew.
fn summary(snapshot: &Snapshot) -> Vec<u8> {
    // Of facts that cannot be read nothing is known, as of a row without a summary.
    Facts::decode(&snapshot.body, &"a recovered snapshot")
        .map(|facts| facts.summary().encode())
        .unwrap_or_default()
}

fn named(repo: &Repository, report: VerifyReport) -> Verified {
    let mut facts: HashMap<SnapshotId, Option<Facts>> = HashMap::new();
    let mut name = |damage: &Damage| {
        damage.snapshots.iter().rev().find_map(|id| {
            let known = facts.entry(*id).or_insert_with(|| {
                let snapshot = repo.snapshot(*id).ok()?;
                Facts::decode(&snapshot.body, id).ok()
            });
            relation_name(known.as_ref()?, &damage.path)
        })
    };
    let relations = report.damage.iter().map(&mut name).collect();
    Verified { report, relations }
}

/// `database.schema.relation` of a relation's file.
fn relation_name(facts: &Facts, path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').collect();
    let (database, file) = match names[..] {
        ["global", file] => (0, file),
        ["base", database, file] | ["pg_tblspc", _, _, database, file] => {
            (database.parse().ok()?, file)
        }
        _ => return None,
    };
    let (database, relation) = facts.relation(database, relation_file(file)?.relnode)?;
    let name = format!("{}.{}", relation.schema, relation.name);
    Some(match database.name.as_str() {
        "" => name,
        database => format!("{database}.{name}"),
    })
}

/// The managed cluster as a place where chunks may be found: at the same path and offset. What
/// changed there since has another id and is not taken.
#[derive(Debug)]
struct Cluster {
    pgdata: PathBuf,
    ids: Ids,
    chunk_size: u32,
    /// The nodes of the extent map of the file that was asked for last.
    nodes: RefCell<(String, HashMap<Id, Vec<u8>>)>,
}

impl Cluster {
    fn new(pgdata: PathBuf, repo: &Repository) -> Cluster {
        Cluster {
            pgdata,
            ids: repo.ids().clone(),
            chunk_size: repo.params().chunk_size,
            nodes: RefCell::default(),
        }
    }

    fn open(&self, path: &str) -> Result<Option<File>> {
        let path = self.pgdata.join(path);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if matches!(e.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    /// These bytes of a file, where it has them.
    fn bytes(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Every node that the extent map of a file of this size would have now.
    fn nodes_of(&self, file: &File, size: u64) -> Option<HashMap<Id, Vec<u8>>> {
        let chunk = u64::from(self.chunk_size);
        let mut ids = Vec::new();
        for offset in (0..size).step_by(self.chunk_size as usize) {
            let bytes = Self::bytes(file, offset, chunk.min(size - offset))?;
            ids.push(match bytes.iter().all(|byte| *byte == 0) {
                true => ChunkId::ZERO,
                false => self.ids.chunk(&bytes),
            });
        }
        let mut nodes = HashMap::new();
        if !ids.is_empty() {
            let built = extents::build(&ids, |_, bytes| {
                let id = self.ids.extents(&bytes);
                nodes.insert(id.into(), bytes);
                Ok::<_, std::convert::Infallible>(id.0)
            });
            let Ok(_) = built;
        }
        Some(nodes)
    }

    fn find(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        let Some(size) = wanted.file.map(|file| file.size) else {
            return Ok(None);
        };
        let Some(file) = self.open(wanted.path)? else {
            return Ok(None);
        };
        if wanted.kind == Kind::Chunk {
            return Ok(Self::bytes(&file, wanted.offset, wanted.len));
        }
        let mut nodes = self.nodes.borrow_mut();
        if nodes.0 != wanted.path || !nodes.1.contains_key(&wanted.id) {
            let found = self.nodes_of(&file, size).unwrap_or_default();
            *nodes = (wanted.path.to_owned(), found);
        }
        Ok(nodes.1.get(&wanted.id).cloned())
    }
}

impl Source for Cluster {
    fn name(&self) -> String {
        format!("the cluster in {}", self.pgdata.display())
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> zenith_store::Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> zenith_store::Result<Option<Vec<u8>>> {
        self.find(wanted).map_err(|e| zenith_store::Error::Invalid {
            what: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Database, Relation};

    #[test]
    fn files_of_relations_have_names() {
        let relation = |filenode, schema: &str, name: &str| Relation {
            filenode,
            tablespace: 1663,
            schema: schema.into(),
            name: name.into(),
            kind: 'r',
            oid: filenode,
            table: None,
            parent: None,
        };
        let database = |oid, name: &str, relation| Database {
            oid,
            name: name.into(),
            relations: vec![relation],
        };
        let facts = Facts {
            databases: vec![
                database(0, "", relation(1262, "pg_catalog", "pg_database")),
                database(5, "app", relation(16384, "public", "orders")),
            ],
            ..Facts::default()
        };
        for (path, name) in [
            ("base/5/16384", Some("app.public.orders")),
            ("base/5/16384.3", Some("app.public.orders")),
            ("base/5/16384_vm", Some("app.public.orders")),
            (
                "pg_tblspc/7/PG_15_202209061/5/16384",
                Some("app.public.orders"),
            ),
            ("global/1262", Some("pg_catalog.pg_database")),
            ("base/5/16385", None),
            ("base/5/PG_VERSION", None),
            ("base/6/16384", None),
            ("PG_VERSION", None),
            ("", None),
        ] {
            assert_eq!(relation_name(&facts, path).as_deref(), name, "{path}");
        }
    }
}
