//! The relations of a server's databases, by what their files are called.

use std::collections::HashSet;

use postgres::{Config, Row};

use super::facts::{Database, Identity, ServerFacts, facts};
use super::{configure, connect, letter, query};
use crate::pg::{Error, Result};

/// A relation that has files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Empty for catalogs that all databases share.
    pub database: String,
    /// 0 for shared catalogs.
    pub database_oid: u32,
    pub schema: String,
    pub name: String,
    pub oid: u32,
    /// pg_class.relkind: `r`, `i`, `t`, `m` or `S`.
    pub kind: char,
    pub relfilenode: u32,
    /// Where it lies, the default resolved: 1663 is base, 1664 global.
    pub tablespace_oid: u32,
    /// The table of an index, or what a TOAST table belongs to.
    pub table_oid: Option<u32>,
    /// What a partition is one of.
    pub parent_oid: Option<u32>,
}

/// The relations of all databases but `unreachable`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    pub relations: Vec<Relation>,
    pub unreachable: Vec<Unreachable>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    pub database: String,
    pub reason: String,
}

/// The relations of all databases, without a backup.
pub fn relations(dsn: &str) -> Result<(ServerFacts, Relations)> {
    let facts = facts(dsn)?;
    let config = configure(dsn)?;
    let found = relations_in(&config, &facts, |_| true);
    Ok((facts, found))
}

pub(super) fn relations_in(
    config: &Config,
    facts: &ServerFacts,
    wanted: impl Fn(u32) -> bool,
) -> Relations {
    let mut all = Relations::default();
    let mut shared = HashSet::new();
    let databases = facts.databases.iter();
    for database in databases.filter(|d| d.allows_connections && wanted(d.oid)) {
        let mut config = config.clone();
        config.dbname(&database.name);
        match relations_of(&config, database, facts.postmaster_start_time) {
            Ok(found) => all.relations.extend(
                found
                    .into_iter()
                    .filter(|r| r.database_oid != 0 || shared.insert(r.oid)),
            ),
            Err(error) => all.unreachable.push(Unreachable {
                database: database.name.clone(),
                reason: error.to_string(),
            }),
        }
    }
    all
}

fn relations_of(config: &Config, database: &Database, started: i64) -> Result<Vec<Relation>> {
    let mut client = connect(config)?;
    // With several hosts in the connection string this may be another server.
    let identity = Identity::read(&mut client)?;
    if identity.postmaster_start_time != started {
        return Err(Error::ServerChanged {
            what: "the start of the server",
            before: started.to_string(),
            after: identity.postmaster_start_time.to_string(),
        });
    }
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
         coalesce(pg_relation_filenode(c.oid), 0::oid), \
         CASE WHEN c.reltablespace <> 0 THEN c.reltablespace ELSE d.dattablespace END, \
         c.relisshared, coalesce(i.indrelid, t.oid), h.inhparent \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_index i ON i.indexrelid = c.oid \
         LEFT JOIN pg_class t ON t.reltoastrelid = c.oid AND c.relkind = 't' \
         LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition, pg_database d \
         WHERE d.datname = current_database() AND c.relpersistence <> 't' \
         AND (c.relkind IN ('r', 'i', 't', 'm', 'S') AND pg_relation_filenode(c.oid) IS NOT NULL \
         OR c.relkind IN ('p', 'I')) ORDER BY c.oid";
    let rows = query(&mut client, "listing relations", sql, &[])?;
    let relation = |row: &Row| {
        let shared: bool = row.get(6);
        Relation {
            database: if shared {
                String::new()
            } else {
                database.name.clone()
            },
            database_oid: if shared { 0 } else { database.oid },
            schema: row.get(1),
            name: row.get(2),
            oid: row.get(0),
            kind: letter(row, 3),
            relfilenode: row.get(4),
            tablespace_oid: row.get(5),
            table_oid: row.get(7),
            parent_oid: row.get(8),
        }
    };
    Ok(rows.iter().map(relation).collect())
}
