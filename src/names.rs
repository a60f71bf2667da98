//! What relations are called: of a snapshot, of a cluster that lies here, of a running server.
//!
//! A snapshot carries the names that were known when it was taken. Where it has none of a database
//! (it came as a stream, or the database could not be asked) they are read from its own pages.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::Path;

use zenith_store::object::Entry;
use zenith_store::{Repository, TreeId};

use crate::error::Result;
use crate::facts::{Database, Facts, Relation};
use crate::pg::catalog::{self, Catalog, GLOBAL_TABLESPACE, Layout};
use crate::pg::files::{Files, Pgdata};
use crate::pg::path::{RelationFile, is_relation_dir, relation_file};
use crate::pg::{self, Control, session};

/// FirstNormalObjectId: relations with smaller oids came with initdb.
const FIRST_NORMAL: u32 = 16384;
/// pg_largeobject and its index: in the system's catalog, and full of what users put there.
const LARGE_OBJECTS: [u32; 2] = [2613, 2683];

/// Partitions of partitions that are followed.
const LEVELS_MAX: usize = 100;

/// Files of one relation, whichever fork and segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId {
    /// Oid of the database; 0 is `global`.
    pub database: u32,
    /// Oid of the tablespace; 1663 is `base`, 1664 `global`.
    pub tablespace: u32,
    /// What the files are called by.
    pub filenode: u32,
}

impl RelationId {
    /// The relation that a file of PGDATA belongs to, and which of its files it is; nothing where
    /// it belongs to none.
    pub fn of_path(path: &str) -> Option<(RelationId, RelationFile)> {
        let (dir, name) = path.rsplit_once('/')?;
        if !is_relation_dir(dir) {
            return None;
        }
        let file = relation_file(name)?;
        let mut parts = dir.split('/');
        let (database, tablespace) = match parts.next()? {
            "global" => (0, GLOBAL_TABLESPACE),
            "base" => (parts.next()?.parse().ok()?, catalog::BASE_TABLESPACE),
            _ => {
                let tablespace = parts.next()?.parse().ok()?;
                (parts.nth(1)?.parse().ok()?, tablespace)
            }
        };
        let id = RelationId {
            database,
            tablespace,
            filenode: file.relnode,
        };
        Some((id, file))
    }
}

/// A relation and the database it is in.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its database; number 0 for shared ones.
    pub database: &'a Database,
    /// The relation.
    pub relation: &'a Relation,
}

impl Named<'_> {
    /// Whether it came with initdb, and what is in it is about other relations.
    pub fn is_catalog(&self) -> bool {
        let oid = self.relation.oid;
        self.database.oid == 0 || oid < FIRST_NORMAL && !LARGE_OBJECTS.contains(&oid)
    }
}

/// What is not named by anything counts as a catalog if its number came with initdb.
pub fn is_catalog_file(id: RelationId) -> bool {
    id.database == 0 || id.filenode < FIRST_NORMAL
}

/// The names of all relations of one cluster at one time.
#[derive(Debug, Clone, Default)]
pub struct Names {
    databases: Vec<Database>,
    by_file: HashMap<RelationId, (usize, usize)>,
    by_oid: HashMap<(u32, u32), (usize, usize)>,
    /// What is not known, and why.
    pub warnings: Vec<String>,
}

impl Names {
    /// Of these databases.
    pub fn new(databases: Vec<Database>, warnings: Vec<String>) -> Names {
        let mut names = Names {
            warnings,
            ..Names::default()
        };
        for (d, database) in databases.iter().enumerate() {
            for (r, relation) in database.relations.iter().enumerate() {
                let id = RelationId {
                    database: database.oid,
                    tablespace: relation.tablespace,
                    filenode: relation.filenode,
                };
                if relation.filenode != 0 {
                    names.by_file.insert(id, (d, r));
                }
                names.by_oid.insert((database.oid, relation.oid), (d, r));
            }
        }
        names.databases = databases;
        names
    }

    /// Of a snapshot: those it carries, and what of `wanted` is not among them from its pages.
    ///
    /// Errors: those of the store; catalogs that cannot be read are a warning.
    pub fn of_snapshot(
        repo: &Repository,
        tree: TreeId,
        facts: Facts,
        wanted: &BTreeSet<u32>,
    ) -> Result<Names> {
        let layout = Layout {
            major: facts.major,
            catalog_version: facts.catalog_version,
            block_size: facts.block_size,
        };
        let mut carried = facts.databases;
        carried.retain(|database| !database.relations.is_empty());
        let has = |oid: &u32| carried.iter().any(|database| database.oid == *oid);
        if !carried.is_empty() && wanted.iter().all(has) {
            return Ok(Names::new(carried, Vec::new()));
        }
        let files = Stored { repo, tree };
        // Where there is nothing at all, everything is read: how relations are called depends on
        // which databases there are.
        let is_wanted = |oid| carried.is_empty() || wanted.contains(&oid) && !has(&oid);
        let (databases, warnings) = match catalog::read(&files, layout, &is_wanted) {
            Ok(catalog) => facts_of(catalog),
            Err(e) => (Vec::new(), vec![unknown_at_all(&e)]),
        };
        // What the server said goes before: it knew of more than was written.
        let has = |oid: u32| carried.iter().any(|database| database.oid == oid);
        let read: Vec<_> = databases.into_iter().filter(|d| !has(d.oid)).collect();
        carried.extend(read);
        carried.sort_by_key(|database| database.oid);
        Ok(Names::new(carried, warnings))
    }

    /// Of a cluster that lies in a directory, from its pages.
    pub fn of_pgdata(pgdata: &Path, control: &Control) -> Names {
        let (databases, warnings) = read(pgdata, control);
        Names::new(databases, warnings)
    }

    /// Of a running server.
    ///
    /// Errors: `Connect`, `Query`.
    pub fn of_server(dsn: &str) -> Result<Names> {
        let (server, found) = session::relations(dsn)?;
        let mut databases: Vec<Database> = server
            .databases
            .iter()
            .map(|database| Database {
                oid: database.oid,
                name: database.name.clone(),
                relations: Vec::new(),
            })
            .collect();
        databases.push(Database::default());
        for relation in found.relations {
            let mut all = databases.iter_mut();
            if let Some(database) = all.find(|d| d.oid == relation.database_oid) {
                database.relations.push(relation.into());
            }
        }
        let warnings = found.unreachable.iter();
        let warnings = warnings.map(|u| unknown(&u.database, &u.reason));
        Ok(Names::new(databases, warnings.collect()))
    }

    /// What files are called by people.
    pub fn get(&self, id: RelationId) -> Option<Named<'_>> {
        self.at(*self.by_file.get(&id)?)
    }

    /// A relation of a database by its oid.
    pub fn by_oid(&self, database: u32, oid: u32) -> Option<Named<'_>> {
        self.at(*self.by_oid.get(&(database, oid))?)
    }

    fn at(&self, (d, r): (usize, usize)) -> Option<Named<'_>> {
        let database = self.databases.get(d)?;
        let relation = database.relations.get(r)?;
        Some(Named { database, relation })
    }

    /// Every relation.
    pub fn iter(&self) -> impl Iterator<Item = Named<'_>> {
        self.databases.iter().flat_map(|database| {
            let relations = database.relations.iter();
            relations.map(move |relation| Named { database, relation })
        })
    }

    /// Whether relations must be told apart by their databases: more than one has some of its own.
    pub fn has_several_databases(&self) -> bool {
        let has_own = |database: &&Database| {
            database.oid != 0
                && database.relations.iter().any(|relation| {
                    !Named { database, relation }.is_catalog() && relation.oid >= FIRST_NORMAL
                })
        };
        self.databases.iter().filter(has_own).count() > 1
    }

    /// The table that an index or TOAST table belongs to, through the TOAST table of an index of
    /// one; the relation itself where it is a table.
    pub fn table_of<'a>(&'a self, named: Named<'a>) -> Named<'a> {
        let mut named = named;
        // An index of a TOAST table is two steps from its table.
        for _ in 0..2 {
            let above = named.relation.table;
            match above.and_then(|oid| self.by_oid(named.database.oid, oid)) {
                Some(table) => named = table,
                None => break,
            }
        }
        named
    }

    /// What it is a part of: its table, and the partitioned tables and indexes above both.
    pub fn above<'a>(&'a self, named: Named<'a>) -> Vec<Named<'a>> {
        let table = self.table_of(named);
        let mut above = vec![table];
        for mut part in [named, table] {
            // Parents cannot go round in a circle, but what a damaged page says may.
            for _ in 0..LEVELS_MAX {
                let parent = part.relation.parent;
                let Some(parent) = parent.and_then(|oid| self.by_oid(part.database.oid, oid))
                else {
                    break;
                };
                above.push(parent);
                part = parent;
            }
        }
        above
    }
}

/// The databases of a cluster that lies in a directory, and what is not known of them, from its
/// pages.
pub(crate) fn read(pgdata: &Path, control: &Control) -> (Vec<Database>, Vec<String>) {
    match catalog::read(&Pgdata(pgdata.to_owned()), control.into(), &|_| true) {
        Ok(catalog) => facts_of(catalog),
        Err(e) => (Vec::new(), vec![unknown_at_all(&e)]),
    }
}

/// A catalog that was read, as a snapshot carries it; and what could not be read.
fn facts_of(catalog: Catalog) -> (Vec<Database>, Vec<String>) {
    let relation = |r: catalog::Relation| Relation {
        filenode: r.filenode,
        tablespace: r.tablespace,
        schema: r.schema,
        name: r.name,
        kind: r.kind,
        oid: r.oid,
        table: r.table,
        parent: r.parent,
    };
    let databases = catalog.databases.into_iter().map(|database| Database {
        oid: database.oid,
        name: database.name,
        relations: database.relations.into_iter().map(relation).collect(),
    });
    let warnings = catalog.unreadable.iter();
    let warnings = warnings.map(|u| unknown(&u.database, &u.reason)).collect();
    (databases.collect(), warnings)
}

impl From<session::Relation> for Relation {
    fn from(relation: session::Relation) -> Relation {
        Relation {
            filenode: relation.relfilenode,
            tablespace: relation.tablespace_oid,
            schema: relation.schema,
            name: relation.name,
            kind: relation.kind,
            oid: relation.oid,
            table: relation.table_oid,
            parent: relation.parent_oid,
        }
    }
}

fn unknown_at_all(e: &pg::Error) -> String {
    format!("the names of relations are not known: {e}")
}

/// For people.
pub(crate) fn unknown(database: &str, reason: &str) -> String {
    format!("the names of the relations of database {database} are not known: {reason}")
}

/// Files of a snapshot.
struct Stored<'a> {
    repo: &'a Repository,
    tree: TreeId,
}

impl Files for Stored<'_> {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let entry = self.repo.entry(self.tree, path);
        match entry.map_err(io::Error::other)? {
            Some(Entry::File(file)) => {
                let reader = self.repo.file_reader(&file).map_err(io::Error::other)?;
                Ok(Some(Box::new(reader)))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_relations() {
        let id = |database, tablespace, filenode| RelationId {
            database,
            tablespace,
            filenode,
        };
        for (path, expected) in [
            ("base/5/16384", Some(id(5, 1663, 16384))),
            ("base/5/16384_vm.1", Some(id(5, 1663, 16384))),
            ("global/1262", Some(id(0, 1664, 1262))),
            ("pg_tblspc/16400/PG_15_202209061/5/7", Some(id(5, 16400, 7))),
            ("global/pg_control", None),
            ("base/5/PG_VERSION", None),
            ("pg_xact/0000", None),
            ("16384", None),
        ] {
            let found = RelationId::of_path(path).map(|(id, _)| id);
            assert_eq!(found, expected, "{path}");
        }
    }

    fn relation(oid: u32, name: &str, kind: char, table: Option<u32>) -> Relation {
        Relation {
            filenode: oid + 1000,
            tablespace: 1663,
            parent: None,
            schema: "public".into(),
            name: name.into(),
            kind,
            oid,
            table,
        }
    }

    #[test]
    fn an_index_of_a_toast_table_leads_to_the_table() {
        let database = Database {
            oid: 5,
            name: "app".into(),
            relations: vec![
                relation(20_000, "t", 'r', None),
                relation(20_001, "t_pkey", 'i', Some(20_000)),
                relation(20_002, "toast", 't', Some(20_000)),
                relation(20_003, "toast_index", 'i', Some(20_002)),
                relation(20_004, "lost", 'i', Some(1)),
                relation(2613, "pg_largeobject", 'r', None),
                relation(1259, "pg_class", 'r', None),
            ],
        };
        let mut other = database.clone();
        let names = Names::new(vec![database], vec![]);
        for (oid, expected) in [
            (20_000, "t"),
            (20_001, "t"),
            (20_002, "t"),
            (20_003, "t"),
            (20_004, "lost"),
        ] {
            let named = names.by_oid(5, oid).unwrap();
            assert_eq!(names.table_of(named).relation.name, expected);
            assert!(!named.is_catalog());
        }
        assert!(names.by_oid(5, 1259).unwrap().is_catalog());
        assert!(!names.by_oid(5, 2613).unwrap().is_catalog());
        assert!(!names.has_several_databases());
        other.oid = 6;
        let several = [names.databases[0].clone(), other.clone()];
        assert!(Names::new(several.to_vec(), vec![]).has_several_databases());
        other
            .relations
            .retain(|relation| relation.oid < FIRST_NORMAL);
        let several = [names.databases[0].clone(), other];
        assert!(!Names::new(several.to_vec(), vec![]).has_several_databases());
    }
}
