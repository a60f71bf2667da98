//! What the files are called by people: relfilenode → database.schema.relation.
//!
//! A database is asked again only when the files of the catalogs that say so changed since the
//! parent: each question takes a connection. Where nobody can be asked the pages of the catalogs are read.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use zenith_store::{Listing, Node, Repository};

use super::Parent;
use crate::error::Result;
use crate::facts::Database;
use crate::names;
use crate::pg::Control;
use crate::pg::session::Session;

/// The names, and the databases that could not be asked.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) databases: Vec<Database>,
    pub(super) warnings: Vec<String>,
}

/// Asks the server for the names of what is in `listing`.
pub(super) fn ask(
    session: &mut Session,
    repo: &Repository,
    parent: Option<&Parent>,
    listing: &Listing,
) -> Result<Names> {
    let mut databases: BTreeMap<u32, Database> = BTreeMap::new();
    let mut same = HashSet::new();
    if let Some(parent) = parent {
        let before = repo.listing(parent.snapshot.tree)?;
        for database in &parent.facts.databases {
            let there = session
                .facts()
                .databases
                .iter()
                .any(|d| d.oid == database.oid && d.name == database.name);
            // Shared relations come with any database that is asked, and stay as they are if none
            // is.
            if database.oid == 0 || (there && names_are_same(database, &before, listing)) {
                same.insert(database.oid);
                databases.insert(database.oid, database.clone());
            }
        }
    }
    for database in &session.facts().databases {
        databases.entry(database.oid).or_insert_with(|| Database {
            oid: database.oid,
            name: database.name.clone(),
            relations: Vec::new(),
        });
    }
    let found = session.relations_where(|oid| !same.contains(&oid))?;
    let mut cleared = HashSet::new();
    for relation in found.relations {
        let database = databases.entry(relation.database_oid).or_default();
        database.oid = relation.database_oid;
        if cleared.insert(relation.database_oid) {
            database.relations.clear();
        }
        database.relations.push(relation.into());
    }
    let mut databases: Vec<Database> = databases.into_values().collect();
    for database in &mut databases {
        database
            .relations
            .sort_by_key(|r| (r.filenode, r.tablespace));
    }
    let warnings = found.unreachable.into_iter();
    let warnings = warnings.map(|u| names::unknown(&u.database, &u.reason));
    Ok(Names {
        databases,
        warnings: warnings.collect(),
    })
}

/// Reads the names from a cluster where no server runs. Names are for people: what cannot be read
/// is a warning. Of a base backup they are what was written when it was copied, before replay.
pub(super) fn read(pgdata: &Path, control: &Control) -> Names {
    let (databases, warnings) = names::read(pgdata, control);
    Names {
        databases,
        warnings,
    }
}

/// Catalogs of a database from which names, schemas, and what belongs to which table come.
const CATALOGS: [&str; 4] = ["pg_class", "pg_namespace", "pg_index", "pg_inherits"];

/// Whether no file of the database changed that says how its relations are called.
fn names_are_same(database: &Database, before: &Listing, now: &Listing) -> bool {
    let dir = format!("base/{}", database.oid);
    let map = format!("{dir}/pg_filenode.map");
    // In a tablespace other than the default one they are asked for each time.
    let is_same_catalog = |name: &&str| {
        let mut relations = database.relations.iter();
        let catalog = relations.find(|r| r.name == **name && r.schema == "pg_catalog");
        catalog.is_some_and(|catalog| {
            let file = format!("{dir}/{}", catalog.filenode);
            let (before, now) = (parts(before, &file), parts(now, &file));
            !now.is_empty() && before == now
        })
    };
    now.contains_key(&map)
        && before.get(&map) == now.get(&map)
        && CATALOGS.iter().all(is_same_catalog)
}

/// A file of a relation with all its segments.
fn parts<'a>(listing: &'a Listing, file: &str) -> Vec<(&'a String, &'a Node)> {
    let segment = format!("{file}.");
    let parts = listing.range(file.to_owned()..format!("{file}/"));
    parts
        .filter(|(path, _)| *path == file || path.starts_with(&segment))
        .collect()
}
