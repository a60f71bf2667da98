//! `verify` and `verify --repair`: is everything that snapshots need there and whole, and if not,
//! who else has it? A home is healed by its remotes and by the clusters that it has snapshots of, a
//! storage by the home, by other remotes and by those clusters.

mod cluster;

use std::collections::HashMap;
use std::time::Duration;

use zenith_store::objects::OpenOptions;
use zenith_store::{
    Damage, PackName, Remembered, Repair, Repaired, Repository, Snapshot, SnapshotId, Source,
    Verify, VerifyEvent, VerifyReport,
};

use crate::error::Result;
use crate::event::Event;
use crate::facts::Facts;
use crate::home::Wait;
use crate::managed::{Managed, Surroundings};
use crate::pg::path::relation_file;
use crate::who::operation;
use crate::{known, remote, sync};
use cluster::Cluster;

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
    /// What was wrong with `zenith.json`, where that was written anew.
    pub header: Option<String>,
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
    let (remotes, unavailable) = remotes(managed, around, None);
    let header = match remotes.first() {
        // A home takes after its storage.
        Some(remote) => managed.home.restore_header(remote.params())?,
        None => None,
    };
    let repo = managed.home.writer(&lock).inspect_err(|_| {
        for (place, why) in &unavailable {
            on(Event::Warning(format!("{place} could not be asked: {why}")));
        }
    })?;
    let mended = repair(&repo, managed, &remotes, unavailable, on)?;
    Ok(Mended { header, ..mended })
}

/// Repairs the repository of a remote, beside whoever uses it.
///
/// Errors: those of both repositories, and of [`remote::open`].
pub fn repair_remote(
    managed: &Managed,
    around: &Surroundings,
    name: &str,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Mended> {
    let header = restore_header(managed, around, name)?;
    let storage = &remote::open(managed, around, name)?;
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
    Ok(Mended { header, ..mended })
}

/// Writes `zenith.json` of a remote anew where it is lost, as the home knows it: what was wrong
/// with it.
fn restore_header(managed: &Managed, around: &Surroundings, name: &str) -> Result<Option<String>> {
    let (home, settings) = (&managed.home, &managed.settings);
    let location = remote::location(managed, name)?;
    let options = OpenOptions::interactive();
    let objects = sync::open_of(home, settings, &location, &around.storage, &options)?;
    let (seal, id) = (home.seal()?, known::id(home, &location)?);
    let remembered = Remembered {
        params: home.alone().reader()?.0.params(),
        seal: seal.as_ref(),
        id: id.as_deref(),
    };
    Ok(Repository::restore_header(&*objects, remembered)?)
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
    let (clusters, elsewhere) = cluster::all(managed, repo)?;
    let trees: Vec<_> = clusters.iter().map(Cluster::trees).collect();
    let sources = others.iter().map(|other| other as &dyn Source);
    let sources = sources.chain(clusters.iter().map(|cluster| cluster as &dyn Source));
    let sources = sources.chain(trees.iter().map(|trees| trees as &dyn Source));
    on(Event::Phase("repairing"));
    let how = Repair {
        operation: operation(managed.home.world(), "repair", ""),
        sources: sources.collect(),
        summary: &|snapshot| summary(snapshot),
    };
    let mut done = repo.repair(&how, &|event| tell(event, on))?;
    let unavailable = unavailable.into_iter().chain(elsewhere);
    done.unavailable.splice(0..0, unavailable);
    let left = named(repo, done.after.clone());
    let header = None;
    Ok(Mended { header, done, left })
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
