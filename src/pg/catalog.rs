//! What relations are called, out of the pages of the catalogs themselves.
//!
//! For clusters of which nobody can be asked: pg_database and pg_authid in `global`, pg_class, pg_namespace
//! and pg_index of each database. Their files are found as a server finds them, by
//! `pg_filenode.map`. Only columns of fixed width at the beginning of a tuple are read, which lie
//! at the same place in every one.
//!
//! Sources: src/include/catalog/pg_class.h, pg_database.h, pg_namespace.h and pg_index.h of
//! REL_15_STABLE to REL_18_STABLE, src/backend/utils/cache/relmapper.c.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use super::files::Files;
use super::heap;
use super::slru::Transactions;
use super::tablespace::version_dir;
use super::{Control, Error, Result};

const PG_CLASS: u32 = 1259;
const PG_AUTHID: u32 = 1260;
const PG_DATABASE: u32 = 1262;
const PG_INDEX: u32 = 2610;
const PG_INHERITS: u32 = 2611;
const PG_NAMESPACE: u32 = 2615;
/// DEFAULTTABLESPACE_OID: `base`.
pub const BASE_TABLESPACE: u32 = 1663;
/// GLOBALTABLESPACE_OID: `global`.
pub const GLOBAL_TABLESPACE: u32 = 1664;
/// NAMEDATALEN.
const NAME_BYTES: usize = 64;
/// RELMAPPER_FILEMAGIC.
const MAP_MAGIC: u32 = 0x0059_2717;
/// Longer names of segments are not read: 1 TiB of one catalog.
const SEGMENTS_MAX: u32 = 1024;

/// What must be known to read pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub major: u32,
    pub catalog_version: u32,
    pub block_size: u32,
}

impl From<&Control> for Layout {
    fn from(control: &Control) -> Layout {
        Layout {
            major: control.major,
            catalog_version: control.catalog_version,
            block_size: control.block_size,
        }
    }
}

/// What the relations of a cluster are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By oid. Database 0 holds the shared relations.
    pub databases: Vec<Database>,
    /// Databases whose catalogs cannot be read.
    pub unreadable: Vec<Unreadable>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub oid: u32,
    pub name: String,
    /// Those that have files, or partitions with files, by number and tablespace.
    pub relations: Vec<Relation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// pg_class.relkind: `r`, `i`, `t`, `m`, `S`, `p` or `I`.
    pub kind: char,
    /// 0 for what is partitioned.
    pub filenode: u32,
    /// The default resolved.
    pub tablespace: u32,
    /// The table of an index; what a TOAST table belongs to.
    pub table: Option<u32>,
    /// What a partition is one of.
    pub parent: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub database: String,
    pub reason: String,
}

/// The directory of a database's relations in a tablespace; database 0 is `global`.
pub fn relation_dir(layout: Layout, tablespace: u32, database: u32) -> String {
    match tablespace {
        GLOBAL_TABLESPACE => "global".to_owned(),
        BASE_TABLESPACE => format!("base/{database}"),
        oid => {
            let version = version_dir(layout.major, layout.catalog_version);
            format!("pg_tblspc/{oid}/{version}/{database}")
        }
    }
}

/// Reads the names of all relations that have files, of those databases that are wanted; shared
/// ones come with any of them, or alone as number 0.
///
/// Errors: `CatalogUnreadable` where not even the databases are known; a database that cannot be
/// read is one of [`Catalog::unreadable`].
pub fn read(files: &dyn Files, layout: Layout, wanted: &dyn Fn(u32) -> bool) -> Result<Catalog> {
    let mut reader = Reader {
        files,
        layout,
        transactions: Transactions::new(files, layout.block_size),
    };
    let global = reader.map("global")?;
    let mut catalog = Catalog::default();
    let mut shared = Vec::new();
    for (oid, name, tablespace) in reader.databases(&global)? {
        let is_wanted = wanted(oid);
        if !is_wanted && (!shared.is_empty() || !wanted(0)) {
            continue;
        }
        match reader.relations(oid, tablespace, &global) {
            Ok((relations, common)) => {
                // Every database lists the shared relations.
                if shared.is_empty() {
                    shared = common;
                }
                if is_wanted {
                    catalog.databases.push(Database {
                        oid,
                        name,
                        relations,
                    });
                }
            }
            Err(_) if !is_wanted => {}
            Err(e) => catalog.unreadable.push(Unreadable {
                database: name,
                reason: e.to_string(),
            }),
        }
    }
    catalog.databases.push(Database {
        oid: 0,
        name: String::new(),
        relations: shared,
    });
    catalog.databases.sort_by_key(|database| database.oid);
    Ok(catalog)
}

/// The names of all superusers, who may be told not to log in.
///
/// Errors: `CatalogUnreadable`.
pub fn superusers(files: &dyn Files, layout: Layout) -> Result<Vec<String>> {
    let mut reader = Reader {
        files,
        layout,
        transactions: Transactions::new(files, layout.block_size),
    };
    let global = reader.map("global")?;
    let path = format!("global/{}", mapped(&global, PG_AUTHID, "global")?);
    let mut found = Vec::new();
    // oid, rolname, rolsuper at the same place in all versions.
    reader.scan(&path, 3, |columns| {
        if columns.byte(4 + NAME_BYTES)? != 0 {
            found.push(columns.name(4)?);
        }
        Some(())
    })?;
    Ok(found)
}

/// pg_class.oid → number of its file, for relations that pg_class cannot say it of.
type Map = HashMap<u32, u32>;

struct Reader<'a> {
    files: &'a dyn Files,
    layout: Layout,
    transactions: Transactions<'a>,
}

/// A row of pg_class.
struct Class {
    oid: u32,
    name: String,
    namespace: u32,
    filenode: u32,
    tablespace: u32,
    toast: u32,
    is_shared: bool,
    persistence: u8,
    kind: u8,
}

impl Class {
    /// Where columns begin: 18 put relallfrozen before reltoastrelid.
    fn of(columns: Columns<'_>, major: u32) -> Option<Class> {
        let toast = if major >= 18 { 112 } else { 108 };
        Some(Class {
            oid: columns.oid(0)?,
            name: columns.name(4)?,
            namespace: columns.oid(68)?,
            filenode: columns.oid(88)?,
            tablespace: columns.oid(92)?,
            toast: columns.oid(toast)?,
            is_shared: columns.byte(toast + 5)? != 0,
            persistence: columns.byte(toast + 6)?,
            kind: columns.byte(toast + 7)?,
        })
    }

    /// Views and such have no files; those of temporary tables are in no snapshot.
    fn has_files(&self) -> bool {
        (b"ritmS".contains(&self.kind) || self.is_partitioned()) && self.persistence != b't'
    }

    /// Then its partitions have the files.
    fn is_partitioned(&self) -> bool {
        b"pI".contains(&self.kind)
    }
}

impl Reader<'_> {
    /// (oid, name, default tablespace) of every database.
    fn databases(&mut self, global: &Map) -> Result<Vec<(u32, String, u32)>> {
        let path = format!("global/{}", mapped(global, PG_DATABASE, "global")?);
        let mut found = Vec::new();
        // oid, datname, datdba, encoding, …, dattablespace at the same place in all versions.
        self.scan(&path, 9, |columns| {
            found.push((columns.oid(0)?, columns.name(4)?, columns.oid(92)?));
            Some(())
        })?;
        Ok(found)
    }

    /// The relations of a database, and the shared ones.
    fn relations(
        &mut self,
        database: u32,
        tablespace: u32,
        global: &Map,
    ) -> Result<(Vec<Relation>, Vec<Relation>)> {
        let dir = relation_dir(self.layout, tablespace, database);
        let map = self.map(&dir)?;
        let major = self.layout.major;
        let mut classes = Vec::new();
        let path = format!("{dir}/{}", mapped(&map, PG_CLASS, &dir)?);
        self.scan(&path, 17, |columns| {
            classes.push(Class::of(columns, major)?);
            Some(())
        })?;
        let filenode = |class: &Class| match class.filenode {
            0 if class.is_shared => global.get(&class.oid).copied(),
            0 => map.get(&class.oid).copied(),
            filenode => Some(filenode),
        };
        let files = self.files;
        let file_of = |oid: u32| {
            let rows = classes.iter().filter(|class| class.oid == oid);
            // Before a base backup is replayed the row before the last change may be seen as well,
            // of which the file may be gone.
            for filenode in rows.filter_map(filenode) {
                let path = format!("{dir}/{filenode}");
                let file = files.open(&path);
                if file
                    .map_err(|e| unreadable(&path, e.to_string()))?
                    .is_some()
                {
                    return Ok(path);
                }
            }
            let reason = format!("pg_class has no row of relation {oid} with a file");
            Err(unreadable(&dir, reason))
        };
        let (namespaces, indexes) = (file_of(PG_NAMESPACE)?, file_of(PG_INDEX)?);
        let inherits = file_of(PG_INHERITS)?;
        let mut schemas = HashMap::new();
        self.scan(&namespaces, 3, |columns| {
            schemas.insert(columns.oid(0)?, columns.name(4)?);
            Some(())
        })?;
        let mut tables = HashMap::new();
        self.scan(&indexes, 2, |columns| {
            tables.insert(columns.oid(0)?, columns.oid(4)?);
            Some(())
        })?;
        for class in classes.iter().filter(|class| class.toast != 0) {
            tables.insert(class.toast, class.oid);
        }
        // Tables that inherit otherwise have rows of their own.
        let partitioned = classes.iter().filter(|class| class.is_partitioned());
        let partitioned: HashSet<u32> = partitioned.map(|class| class.oid).collect();
        let mut parents = HashMap::new();
        self.scan(&inherits, 2, |columns| {
            let (child, parent) = (columns.oid(0)?, columns.oid(4)?);
            if partitioned.contains(&parent) {
                parents.insert(child, parent);
            }
            Some(())
        })?;
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for class in classes.iter().filter(|class| class.has_files()) {
            let filenode = match class.is_partitioned() {
                true => Some(0),
                false => filenode(class),
            };
            let Some(filenode) = filenode else {
                continue;
            };
            let into = if class.is_shared {
                &mut shared
            } else {
                &mut own
            };
            into.push(Relation {
                oid: class.oid,
                schema: schemas.get(&class.namespace).cloned().unwrap_or_default(),
                name: class.name.clone(),
                kind: char::from(class.kind),
                filenode,
                tablespace: match class.tablespace {
                    0 => tablespace,
                    oid => oid,
                },
                table: tables.get(&class.oid).copied(),
                parent: parents.get(&class.oid).copied(),
            });
        }
        for relations in [&mut own, &mut shared] {
            relations.sort_by_key(|relation| (relation.filenode, relation.tablespace));
        }
        Ok((own, shared))
    }

    /// Gives the columns of every row that is to be seen to `row`, the first `columns` of which
    /// are not null.
    fn scan(
        &mut self,
        path: &str,
        columns: usize,
        mut row: impl FnMut(Columns<'_>) -> Option<()>,
    ) -> Result<()> {
        let io = |e: io::Error| unreadable(path, e.to_string());
        let mut page = vec![0; self.layout.block_size as usize];
        for segment in 0..SEGMENTS_MAX {
            let name = match segment {
                0 => path.to_owned(),
                n => format!("{path}.{n}"),
            };
            let mut file = match self.files.open(&name).map_err(io)? {
                Some(file) => file,
                None if segment == 0 => {
                    return Err(unreadable(path, "there is no such file".to_owned()));
                }
                None => return Ok(()),
            };
            while read_page(&mut file, &mut page).map_err(io)? {
                for tuple in heap::tuples(&page) {
                    if tuple.is_visible(&mut self.transactions).map_err(io)?
                        && !tuple.has_null(columns)
                    {
                        let short = || unreadable(path, "a row is too short".to_owned());
                        row(Columns(tuple.data())).ok_or_else(short)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The relation map in a directory.
    fn map(&self, dir: &str) -> Result<Map> {
        let path = format!("{dir}/pg_filenode.map");
        let bytes = self.files.read(&path);
        let bytes = bytes.map_err(|e| unreadable(&path, e.to_string()))?;
        let bytes = bytes.ok_or_else(|| unreadable(&path, "there is no such file".to_owned()))?;
        parse_map(&bytes).map_err(|reason| unreadable(&path, reason.to_owned()))
    }
}

fn unreadable(path: &str, reason: String) -> Error {
    Error::CatalogUnreadable {
        path: path.to_owned(),
        reason,
    }
}

fn mapped(map: &Map, oid: u32, dir: &str) -> Result<u32> {
    let number = map.get(&oid).copied();
    let path = format!("{dir}/pg_filenode.map");
    number.ok_or_else(|| unreadable(&path, format!("it has no relation {oid}")))
}

/// A whole page; false at the end. What is left of a page at the end is none.
fn read_page(file: &mut dyn Read, page: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(page) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// RelMapFile: magic, number of mappings, room for 62 of them (15) or 64 (from 16 on), CRC-32C.
fn parse_map(bytes: &[u8]) -> std::result::Result<Map, &'static str> {
    let word = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if word(0) != Some(MAP_MAGIC) {
        return Err("it does not begin as a relation map");
    }
    let is_right = |room: usize| {
        let crc_at = 8 + room * 8;
        let crc = word(crc_at);
        crc.is_some() && crc == bytes.get(..crc_at).map(crc32c::crc32c)
    };
    let Some(room) = [62, 64].into_iter().find(|room| is_right(*room)) else {
        return Err("its checksum does not match");
    };
    let number = word(4).map_or(0, |n| n as usize);
    if number > room {
        return Err("it has more entries than room");
    }
    let entries = (0..number).filter_map(|n| Some((word(8 + n * 8)?, word(12 + n * 8)?)));
    Ok(entries.collect())
}

/// The columns of a row, by where they begin.
#[derive(Clone, Copy)]
struct Columns<'a>(&'a [u8]);

impl Columns<'_> {
    fn oid(self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn byte(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// A `name`: what is no UTF-8, in a database of another encoding, is replaced.
    fn name(self, at: usize) -> Option<String> {
        let bytes = self.0.get(at..at + NAME_BYTES)?;
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

#[cfg(test)]
mod tests;
