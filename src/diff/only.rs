//! What changed of some relations alone, snapshot by snapshot: other files are passed over by
//! their names, and pages are counted of those relations only.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use zenith_store::{Node, Repository, SnapshotId, TreeId};

use super::{FileChange, Kind, Layout, RelationChange, What, relations, snapshot, stored};
use crate::error::Result;
use crate::names::{Named, Names, RelationId};
use crate::revision::{self, RevisionError};
use crate::snapshot::threads;
use crate::table::{self, Part, TableError};

/// Snapshots of which names are kept: a log comes to each twice in a short while.
const KEPT: usize = 8;

/// A table or index as people name it: `orders`, `public.orders`, `app.public.orders`,
/// `"Order Items"`. A part without quotes is meant as it stands and in lower case, which is what
/// SQL makes of it, and may have `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The last one is the relation's.
    parts: Vec<Part>,
}

impl Pattern {
    /// The pattern that this text is.
    ///
    /// Errors: `TableError::Invalid`.
    pub fn parse(text: &str) -> Result<Pattern, TableError> {
        let text = text.trim();
        Ok(Pattern {
            parts: table::parts(text)?,
            text: text.to_owned(),
        })
    }

    /// Whether it names this relation. Catalogs are meant only where their schema is named.
    fn is(&self, named: Named<'_>) -> bool {
        let (database, relation) = (&named.database.name, named.relation);
        match &self.parts[..] {
            [name] => name.fits(&relation.name) && !named.is_catalog(),
            [schema, name] => schema.fits(&relation.schema) && name.fits(&relation.name),
            [base, schema, name] => {
                base.fits(database) && schema.fits(&relation.schema) && name.fits(&relation.name)
            }
            _ => false,
        }
    }
}

/// One snapshot and what its files are called.
#[derive(Debug)]
struct Side {
    id: SnapshotId,
    tree: TreeId,
    names: Names,
    layout: Layout,
    /// Of which names were asked for, at least.
    databases: BTreeSet<u32>,
    /// The relations that are asked about.
    wanted: BTreeSet<RelationId>,
}

/// Follows relations through a history.
#[derive(Debug)]
pub struct Follower<'a> {
    repo: &'a Repository,
    patterns: Vec<Pattern>,
    /// Which patterns named something.
    found: Vec<bool>,
    /// Names of tables and indexes, for who mistyped one.
    seen: BTreeSet<String>,
    kept: VecDeque<Arc<Side>>,
    warnings: Vec<String>,
}

impl<'a> Follower<'a> {
    /// Of the tables and indexes that these name, each table with its indexes and TOAST table, and
    /// what is partitioned with its partitions.
    pub fn new(repo: &'a Repository, patterns: Vec<Pattern>) -> Follower<'a> {
        Follower {
            repo,
            found: vec![false; patterns.len()],
            patterns,
            seen: BTreeSet::new(),
            kept: VecDeque::new(),
            warnings: Vec::new(),
        }
    }

    /// What changed of them from one snapshot to another, tables first; from nothing where there
    /// is none before. Changes of their maps alone are none.
    ///
    /// Errors: those of the store, `FactsDamaged`.
    pub fn changes(
        &mut self,
        before: Option<SnapshotId>,
        after: SnapshotId,
    ) -> Result<Vec<RelationChange>> {
        let (before, after, files) = match before {
            Some(before) => {
                let mut pairs = self.differing(before, after)?;
                // Names are asked for only where something happened.
                let databases = pairs.iter().map(|(id, _)| id.database).collect();
                let before = self.side(before, Some(&databases))?;
                let after = self.side(after, Some(&databases))?;
                pairs.retain(|(id, _)| before.wanted.contains(id) || after.wanted.contains(id));
                let pairs = pairs.into_iter().map(|(_, pair)| pair).collect();
                let block_size = after.layout.block_size;
                let files =
                    stored::compare(self.repo, pairs, block_size, threads(self.repo.world(), 0))?;
                (Some(before), after, files)
            }
            None => {
                let after = self.side(after, None)?;
                let files = self.all(&after)?;
                (None, after, files)
            }
        };
        let nothing = Names::default();
        let tree_before = before.as_ref().map(|side| side.tree);
        let sides = relations::Sides {
            before: before.as_ref().map_or(&nothing, |side| &side.names),
            after: &after.names,
            size_before: &|path| match tree_before {
                Some(tree) => stored::size(self.repo, tree, path),
                None => Ok(None),
            },
            size_after: &|path| stored::size(self.repo, after.tree, path),
            layout: after.layout,
        };
        let mut relations = relations::group(files, &sides)?.relations;
        relations.retain(|relation| relation.what != What::Changed || relation.touched() > 0);
        relations.sort_by_key(|relation| match relation.kind {
            Kind::Index => 1,
            Kind::Toast => 2,
            _ => 0,
        });
        Ok(relations)
    }

    /// Sees that every pattern named something in the snapshots that were looked at.
    ///
    /// Errors: `Revision(NoRef)`.
    pub fn refuse_unknown(&self) -> Result<()> {
        let unknown = self.patterns.iter().zip(&self.found).find(|(_, f)| !**f);
        let Some((pattern, _)) = unknown else {
            return Ok(());
        };
        let last = pattern.parts.last().map_or("", Part::text);
        let seen = self.seen.iter().map(String::as_str);
        let similar = revision::similar(seen, last);
        Err(RevisionError::NoRef {
            what: "table or index",
            name: pattern.text.clone(),
            // As they can be typed.
            similar: similar.iter().map(|name| table::shown(name)).collect(),
        }
        .into())
    }

    /// For people: names that are not known.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A snapshot with the names of at least these databases, or of every one.
    fn side(&mut self, id: SnapshotId, databases: Option<&BTreeSet<u32>>) -> Result<Arc<Side>> {
        let has = |side: &&Arc<Side>| {
            side.id == id && databases.is_some_and(|asked| asked.is_subset(&side.databases))
        };
        if let Some(side) = self.kept.iter().find(has) {
            return Ok(Arc::clone(side));
        }
        let (snapshot, facts) = snapshot(self.repo, id)?;
        let layout = Layout::of(&facts);
        let databases = match databases {
            Some(databases) => databases.clone(),
            None => facts
                .databases
                .iter()
                .map(|database| database.oid)
                .collect(),
        };
        let names = Names::of_snapshot(self.repo, snapshot.tree, facts, &databases)?;
        let mut wanted = BTreeSet::new();
        for named in names.iter() {
            let above = names.above(named);
            let mut is_wanted = false;
            for (pattern, found) in self.patterns.iter().zip(&mut self.found) {
                if pattern.is(named) || above.iter().any(|one| pattern.is(*one)) {
                    (is_wanted, *found) = (true, true);
                }
            }
            // What is partitioned has no files.
            if is_wanted && named.relation.filenode != 0 {
                wanted.insert(RelationId {
                    database: named.database.oid,
                    tablespace: named.relation.tablespace,
                    filenode: named.relation.filenode,
                });
            }
        }
        if self.found.contains(&false) {
            let own = names.iter().filter(|named| !named.is_catalog());
            let own = own.filter(|named| named.relation.kind != 't');
            self.seen
                .extend(own.map(|named| named.relation.name.clone()));
        }
        for warning in &names.warnings {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
        let side = Arc::new(Side {
            id,
            tree: snapshot.tree,
            names,
            layout,
            databases,
            wanted,
        });
        self.kept.truncate(KEPT - 1);
        self.kept.push_front(Arc::clone(&side));
        Ok(side)
    }

    /// The files of any relation that are not the same in two snapshots.
    fn differing(
        &self,
        before: SnapshotId,
        after: SnapshotId,
    ) -> Result<Vec<(RelationId, stored::Pair)>> {
        let tree = |id| self.repo.snapshot(id).map(|snapshot| snapshot.tree);
        let mut pairs = Vec::new();
        self.repo
            .changed_entries(tree(before)?, tree(after)?, &mut |change| {
                let Some((id, _)) = RelationId::of_path(&change.path) else {
                    return Ok(());
                };
                let file = |node: Option<Node>| match node {
                    Some(Node::File(file)) => Some(file),
                    _ => None,
                };
                let pair = stored::Pair {
                    path: change.path,
                    before: file(change.before),
                    after: file(change.after),
                };
                if pair.differs() {
                    pairs.push((id, pair));
                }
                Ok(())
            })?;
        Ok(pairs)
    }

    /// Every file of the relations' content, as if there had been none.
    fn all(&self, side: &Side) -> Result<Vec<FileChange>> {
        let mut files = Vec::new();
        for id in &side.wanted {
            for segment in 0.. {
                let path = relations::path(side.layout, *id, crate::pg::path::Fork::Main, segment);
                let Some(size) = stored::size(self.repo, side.tree, &path)? else {
                    break;
                };
                files.push(FileChange {
                    path,
                    before: None,
                    after: Some(size),
                    changed: 0,
                });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Database, Relation};

    #[test]
    fn names_as_people_write_them() {
        let relation = |schema: &str, name: &str, oid| Relation {
            filenode: oid,
            tablespace: 1663,
            schema: schema.into(),
            name: name.into(),
            kind: 'r',
            oid,
            table: None,
            parent: None,
        };
        let database = Database {
            oid: 5,
            name: "app".into(),
            relations: vec![
                relation("public", "orders", 20_000),
                relation("sales", "Orders", 20_001),
                relation("public", "order.lines", 20_002),
                relation("public", "a\"b", 20_003),
                relation("public", "star*", 20_004),
                relation("pg_catalog", "pg_class", 1259),
            ],
        };
        let named = |text: &str| -> Vec<u32> {
            let pattern = Pattern::parse(text).unwrap();
            let relations = database.relations.iter();
            let named = relations.filter(|relation| {
                pattern.is(Named {
                    database: &database,
                    relation,
                })
            });
            named.map(|relation| relation.oid % 100).collect()
        };
        for (text, expected) in [
            ("orders", &[0][..]),
            ("ORDERS", &[0]),
            ("Order*", &[0, 1, 2]),
            ("public.orders", &[0]),
            ("app.public.orders", &[0]),
            ("other.public.orders", &[]),
            ("Orders", &[0, 1]),
            ("\"Orders\"", &[1]),
            ("\"orders\"", &[0]),
            ("\"a\"\"b\"", &[3]),
            ("\"star*\"", &[4]),
            ("\"order*\"", &[]),
            ("sales.\"Orders\"", &[1]),
            ("\"order.lines\"", &[2]),
            ("order*", &[0, 2]),
            ("*", &[0, 1, 2, 3, 4]),
            ("*.*", &[0, 1, 2, 3, 4, 59]),
            ("pg_catalog.pg_class", &[59]),
            ("pg_class", &[]),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
        for text in ["", "a..b", "a.b.c.d", "\"Orders", "orders\""] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
