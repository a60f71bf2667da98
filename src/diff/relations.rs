//! Files that differ → relations that changed, by name.
//!
//! A relation is all files of one number: forks and segments. One whose number changed is matched
//! by its oid, or by its name where it was made anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Diff, FileChange, Kind, Layout, Name, Pages, RelationChange, What, is_content};
use crate::error::Result;
use crate::names::{Named, Names, RelationId, is_catalog_file};
use crate::pg::catalog::relation_dir;
use crate::pg::path::Fork;

/// Bytes of the file at a path of one side; none where there is none.
pub(super) type Size<'a> = &'a dyn Fn(&str) -> Result<Option<u64>>;

/// What is known of the two sides beside the files that differ.
pub(super) struct Sides<'a> {
    pub(super) before: &'a Names,
    pub(super) after: &'a Names,
    pub(super) size_before: Size<'a>,
    pub(super) size_after: Size<'a>,
    pub(super) layout: Layout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Puts the files together.
///
/// Errors: those of asking for sizes.
pub(super) fn group(files: Vec<FileChange>, sides: &Sides<'_>) -> Result<Diff> {
    let mut diff = Diff {
        block_size: sides.layout.block_size,
        several_databases: sides.before.has_several_databases()
            || sides.after.has_several_databases(),
        ..Diff::default()
    };
    let mut by_relation: BTreeMap<RelationId, Group> = BTreeMap::new();
    for file in files {
        match RelationId::of_path(&file.path) {
            Some((id, part)) => {
                let group = by_relation.entry(id).or_default();
                group.files.push((part.fork, part.segment, file));
            }
            None => diff.files.push(file),
        }
    }
    let mut found = Vec::new();
    for (id, mut group) in by_relation {
        if sides.is_left_out(id, &group)? {
            group.files.retain(|(fork, ..)| *fork == Fork::Init);
        }
        if !group.files.is_empty() {
            found.push(sides.change(id, group)?);
        }
    }
    let mut relations = match_rewritten(found);
    add_indexes(&mut relations, sides)?;
    let mut relations: Vec<RelationChange> = relations.into_iter().map(|f| f.change).collect();
    relations.sort_by(|a, b| {
        let order = b.touched().cmp(&a.touched());
        order
            .then_with(|| a.name.cmp(&b.name))
            .then(a.oid.cmp(&b.oid))
    });
    diff.relations = relations;
    for names in [sides.before, sides.after] {
        for warning in &names.warnings {
            if !diff.warnings.contains(warning) {
                diff.warnings.push(warning.clone());
            }
        }
    }
    Ok(diff)
}

/// The files of one relation that differ.
#[derive(Default)]
struct Group {
    files: Vec<(Fork, u32, FileChange)>,
}

impl Group {
    fn get(&self, fork: Fork, segment: u32) -> Option<&FileChange> {
        let mut files = self.files.iter();
        let found = files.find(|(f, s, _)| (*f, *s) == (fork, segment));
        found.map(|(.., file)| file)
    }
}

/// A relation that changed, and by what it may be matched.
struct Found {
    id: RelationId,
    change: RelationChange,
}

/// Where one file of a relation lies.
pub(super) fn path(layout: Layout, id: RelationId, fork: Fork, segment: u32) -> String {
    let dir = relation_dir(layout.catalog, id.tablespace, id.database);
    let fork = match fork {
        Fork::Main => String::new(),
        other => format!("_{}", other.name()),
    };
    let segment = match segment {
        0 => String::new(),
        n => format!(".{n}"),
    };
    format!("{dir}/{}{fork}{segment}", id.filenode)
}

impl Sides<'_> {
    fn names(&self, side: Side) -> &Names {
        match side {
            Side::Before => self.before,
            Side::After => self.after,
        }
    }

    fn size(&self, side: Side, path: &str) -> Result<Option<u64>> {
        match side {
            Side::Before => (self.size_before)(path),
            Side::After => (self.size_after)(path),
        }
    }

    fn path(&self, id: RelationId, fork: Fork, segment: u32) -> String {
        path(self.layout, id, fork, segment)
    }

    /// Whether one of the snapshots lacks the content of an unlogged relation, since nothing would
    /// be left of it after recovery: that it is there on the other side says nothing.
    fn is_left_out(&self, id: RelationId, group: &Group) -> Result<bool> {
        if !group
            .get(Fork::Main, 0)
            .is_some_and(FileChange::is_one_sided)
        {
            return Ok(false);
        }
        let init = self.path(id, Fork::Init, 0);
        Ok(self.size(Side::Before, &init)?.is_some() && self.size(Side::After, &init)?.is_some())
    }

    /// Whether a file on both sides is what stands in for a relation that was dropped or rewritten
    /// until the next checkpoint: nothing is in it, and nothing of its database is called so.
    fn is_left_empty(&self, id: RelationId, file: &FileChange) -> bool {
        file.after == Some(0)
            && self.before.get(id).is_some()
            && self.after.get(id).is_none()
            && self
                .after
                .iter()
                .any(|named| named.database.oid == id.database)
    }

    fn change(&self, id: RelationId, group: Group) -> Result<Found> {
        let mut forks: Vec<Fork> = group.files.iter().map(|(fork, ..)| *fork).collect();
        forks.push(Fork::Main);
        forks.sort_unstable();
        forks.dedup();
        let (mut pages, mut maps) = (Pages::default(), Pages::default());
        for fork in forks {
            let into = if is_content(fork) {
                &mut pages
            } else {
                &mut maps
            };
            *into += self.fork(id, fork, Some(&group))?;
        }
        // What is not among the differences is the same on both sides.
        let first = group.get(Fork::Main, 0).or(group.get(Fork::Init, 0));
        let what = match first.map(|file| (file.before.is_some(), file.after.is_some())) {
            Some((false, true)) => What::New,
            Some((true, false)) => What::Dropped,
            _ if first.is_some_and(|file| self.is_left_empty(id, file)) => What::Dropped,
            _ => What::Changed,
        };
        let side = match what {
            What::Dropped => Side::Before,
            _ => Side::After,
        };
        let other = match side {
            Side::Before => Side::After,
            Side::After => Side::Before,
        };
        let names = match self.names(side).get(id) {
            Some(_) => self.names(side),
            None if what == What::Changed => self.names(other),
            None => self.names(side),
        };
        let mut change = match names.get(id) {
            Some(named) => named_change(names, named),
            None => RelationChange {
                name: Name {
                    database: String::new(),
                    schema: String::new(),
                    name: self.path(id, Fork::Main, 0),
                },
                kind: Kind::Unknown,
                oid: None,
                table: None,
                is_catalog: is_catalog_file(id),
                what,
                pages,
                maps,
                files: Vec::new(),
            },
        };
        change.what = what;
        change.pages = pages;
        change.maps = maps;
        change.files = group.files.into_iter().map(|(.., file)| file).collect();
        change.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Found { id, change })
    }

    /// The pages of a fork on both sides, those included that are the same.
    fn fork(&self, id: RelationId, fork: Fork, group: Option<&Group>) -> Result<Pages> {
        let mut pages = Pages::default();
        for side in [Side::Before, Side::After] {
            let count = self.fork_pages(id, fork, group, side)?;
            match side {
                Side::Before => pages.before = count,
                Side::After => pages.after = count,
            }
        }
        let files = group.map_or(&[][..], |group| &group.files);
        let files = files.iter().filter(|(f, ..)| *f == fork);
        pages.changed = files.map(|(.., file)| file.changed).sum();
        Ok(pages)
    }

    fn fork_pages(
        &self,
        id: RelationId,
        fork: Fork,
        group: Option<&Group>,
        side: Side,
    ) -> Result<u64> {
        let size_of = |file: &FileChange| match side {
            Side::Before => file.before,
            Side::After => file.after,
        };
        // All segments below one that is there are whole, so that the last one tells.
        let known = group.into_iter().flat_map(|group| &group.files);
        let last = known
            .filter(|(f, _, file)| *f == fork && size_of(file).is_some())
            .max_by_key(|(_, segment, _)| *segment);
        let mut at = match last {
            Some((_, segment, file)) => Some((*segment, size_of(file).unwrap_or(0))),
            None => self
                .size(side, &self.path(id, fork, 0))?
                .map(|bytes| (0, bytes)),
        };
        let block = u64::from(self.layout.block_size);
        let blocks = u64::from(self.layout.segment_blocks);
        let mut pages = 0;
        while let Some((segment, bytes)) = at {
            pages = u64::from(segment) * blocks + bytes.div_ceil(block);
            if bytes < blocks * block {
                break;
            }
            let next = segment + 1;
            at = match group.and_then(|group| group.get(fork, next)) {
                Some(file) => size_of(file),
                None => self.size(side, &self.path(id, fork, next))?,
            }
            .map(|bytes| (next, bytes));
        }
        Ok(pages)
    }
}

/// A relation by its names, of which nothing changed.
fn named_change(names: &Names, named: Named<'_>) -> RelationChange {
    let table = names.table_of(named);
    let is_other = table.relation.oid != named.relation.oid;
    RelationChange {
        name: name(named),
        kind: Kind::of(named.relation.kind),
        oid: Some(named.relation.oid),
        table: is_other.then(|| name(table)),
        is_catalog: named.is_catalog(),
        what: What::Changed,
        pages: Pages::default(),
        maps: Pages::default(),
        files: Vec::new(),
    }
}

fn name(named: Named<'_>) -> Name {
    Name {
        database: named.database.name.clone(),
        schema: named.relation.schema.clone(),
        name: named.relation.name.clone(),
    }
}

/// What went and what came, where both are the same relation.
fn match_rewritten(found: Vec<Found>) -> Vec<Found> {
    let (gone, mut left): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|found| found.change.what == What::Dropped);
    let mut by_oid = HashMap::new();
    let mut by_name = HashMap::new();
    for (n, found) in gone.iter().enumerate() {
        if let Some(oid) = found.change.oid {
            by_oid.insert((found.id.database, oid), n);
            by_name.insert((found.id.database, found.change.name.clone()), n);
        }
    }
    let mut gone: Vec<Option<Found>> = gone.into_iter().map(Some).collect();
    // All oids first: a name may have moved to another relation.
    for by in [true, false] {
        for new in left.iter_mut().filter(|f| f.change.what == What::New) {
            let database = new.id.database;
            let at = match (by, new.change.oid) {
                (_, None) => None,
                (true, Some(oid)) => by_oid.get(&(database, oid)),
                (false, _) => by_name.get(&(database, new.change.name.clone())),
            };
            let is_like = |old: &Found| old.change.kind == new.change.kind;
            let old = at.and_then(|n| gone[*n].take_if(|old| is_like(old)));
            if let Some(old) = old {
                new.change.what = What::Rewritten;
                new.change.pages.before = old.change.pages.before;
                new.change.maps.before = old.change.maps.before;
                new.change.files.extend(old.change.files);
                new.change.files.sort_by(|a, b| a.path.cmp(&b.path));
            }
        }
    }
    left.extend(gone.into_iter().flatten());
    left
}

/// Indexes of tables that changed and did not change themselves: that says something, too.
fn add_indexes(found: &mut Vec<Found>, sides: &Sides<'_>) -> Result<()> {
    let is_table = |kind| matches!(kind, Kind::Table | Kind::MaterializedView);
    let tables: HashSet<(u32, u32)> = found
        .iter()
        .filter(|f| f.change.what == What::Changed && f.change.touched() > 0)
        .filter(|f| is_table(f.change.kind) && !f.change.is_catalog)
        .filter_map(|f| Some((f.id.database, f.change.oid?)))
        .collect();
    if tables.is_empty() {
        return Ok(());
    }
    let seen: HashSet<(u32, Option<u32>)> = found
        .iter()
        .map(|f| (f.id.database, f.change.oid))
        .collect();
    for named in sides.after.iter().filter(|n| n.relation.kind == 'i') {
        let database = named.database.oid;
        let Some(table) = named.relation.table else {
            continue;
        };
        let is_seen = seen.contains(&(database, Some(named.relation.oid)));
        if is_seen || !tables.contains(&(database, table)) {
            continue;
        }
        let id = RelationId {
            database,
            tablespace: named.relation.tablespace,
            filenode: named.relation.filenode,
        };
        let mut change = named_change(sides.after, named);
        change.pages = sides.fork(id, Fork::Main, None)?;
        found.push(Found { id, change });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
