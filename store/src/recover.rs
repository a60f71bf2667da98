//! The way back to a log that can be read, when the latest root or a table of it cannot.
//!
//! A root that is damaged is never passed over in silence: whoever asks for the state is told.
//! Here a new root is written behind it, which goes on from the newest one that can be read. What
//! was done in between is not known; but a snapshot that came with it is in the packs, and every
//! one that is complete there comes back. The same is done for rows of tables that are lost, and
//! in a home for snapshots that no root names. At a storage, where a collector may go on from the
//! lost root at any time, only what cannot be in its way is used under its old name (`doubt`).

use crate::blob::Fetched;
use crate::commit::NOTES;
use crate::damage::{Bad, Survey};
use crate::doubt::{Copies, Doubt};
use crate::error::{Error, Result};
use crate::heal::NewPacks;
use crate::id::{Kind, PackName, SnapshotId};
use crate::log;
use crate::object::Snapshot;
use crate::repair::Repair;
use crate::repository::Repository;
use crate::root::{Operation, Root, Row};
use crate::state::State;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How far back a root that can be read is looked for before the error is told.
const LOOK_BACK: u64 = 64;

/// What became of a log, and of snapshots that no root named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The root that could not be read, and why.
    pub lost: Option<(u64, String)>,
    /// The root that the new one goes on from; none where there was none that could be read.
    pub base: Option<u64>,
    /// Number of the root that was written; none where nothing had to be.
    pub root: Option<u64>,
    /// Parts of tables that were lost, as told.
    pub tables: Vec<String>,
    /// Snapshots that came back, with the ref that was made for each that nothing goes on from.
    pub snapshots: Vec<(SnapshotId, Option<String>)>,
    /// Snapshots that were found and are not complete, with what is missing.
    pub incomplete: Vec<(SnapshotId, String)>,
    /// Refs that named a snapshot which did not come back, and are gone.
    pub refs: Vec<(String, SnapshotId)>,
    /// Packs of a storage that were copied under other names, since a lost root may have given up
    /// the old ones, which stand first.
    pub renamed: Vec<(PackName, PackName)>,
}

impl Recovered {
    /// Whether a root was written.
    pub fn did_anything(&self) -> bool {
        self.root.is_some()
    }

    /// Adds what a later look brought, which also says anew what is incomplete.
    pub(crate) fn go_on(&mut self, later: Recovered) {
        self.root = later.root.or(self.root);
        self.snapshots.extend(later.snapshots);
        self.refs.extend(later.refs);
        self.incomplete = later.incomplete;
    }

    /// Numbers of the roots whose operations are not known, first and last.
    pub fn unknown(&self) -> Option<(u64, u64)> {
        let (lost, _) = self.lost.as_ref()?;
        let first = self.base.map_or(0, |base| base + 1);
        (first <= *lost).then_some((first, *lost))
    }
}

/// What a new root goes on from.
pub(crate) struct Base {
    pub(crate) state: State,
    /// Number of the root that the state is of; none for an empty one.
    pub(crate) seq: Option<u64>,
    /// Number of the latest root, readable or not.
    pub(crate) latest: u64,
    /// BLAKE3 of the latest root object, as far as there is one.
    hash: Option<[u8; 32]>,
    tables: Vec<String>,
}

/// Packs that a snapshot uses, with length and bytes used of each.
type Usage = BTreeMap<PackName, (u64, u64)>;

/// Snapshots found in packs.
#[derive(Default, Clone)]
pub(crate) struct Found {
    /// Complete ones with their usage, parents first.
    pub(crate) rows: Vec<(Row, Usage)>,
    pub(crate) incomplete: Vec<(SnapshotId, String)>,
}

impl Repository {
    /// The error for a latest root that cannot be read.
    pub(crate) fn root_lost(&self, seq: u64, e: &Error) -> Error {
        let why = match e {
            Error::Damaged { what, why, .. } if *what == format!("root {seq}") => why.clone(),
            e => e.to_string(),
        };
        let earlier = (0..seq).rev().take(LOOK_BACK as usize);
        let previous = earlier.into_iter().find_map(|seq| {
            let bytes = self.objects().get(&Root::key(seq)).ok()?;
            let state = State::load(&bytes, seq, &**self.objects(), &self.inner.keys).ok()?;
            Some((seq, told(state.operation())))
        });
        Error::RootLost {
            seq,
            location: self.location(),
            why,
            previous,
        }
    }

    /// Writes a root that can be read where the latest cannot, and brings back what packs hold.
    pub(crate) fn mend_log(&self, how: &Repair<'_>) -> Result<Recovered> {
        match self.state() {
            Ok(state) if self.is_alone() => self.bring_back_unnamed(how, &state),
            Ok(_) => Ok(Recovered::default()),
            Err(Error::RootLost { seq, why, .. }) => {
                let base = self.newest_readable(seq)?;
                let outcome = self.go_on_from(base, how, why);
                let mut live = self.lock_live_write();
                live.pending.clear();
                live.hidden.clear();
                // By the latest root again; where none was written, this was none.
                live.state = None;
                drop(live);
                outcome
            }
            Err(e) => Err(e),
        }
    }

    /// The newest root that decodes, with what is left of its tables.
    fn newest_readable(&self, latest: u64) -> Result<Base> {
        let objects = &**self.objects();
        let mut hash = None;
        for seq in (0..=latest).rev() {
            let bytes = match objects.get(&Root::key(seq)) {
                Ok(bytes) => bytes,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            if seq == latest {
                hash = Some(*blake3::hash(&bytes).as_bytes());
            }
            let mut tables = Vec::new();
            let loaded = State::load_found(&bytes, seq, objects, &self.inner.keys, &mut |e| {
                tables.push(e.to_string());
                Ok(())
            });
            match loaded {
                Ok(state) if state.root.repository == self.id() => {
                    return Ok(Base {
                        state,
                        seq: Some(seq),
                        latest,
                        hash,
                        tables,
                    });
                }
                Ok(_) => {}
                Err(e) if e.is_lost() => {}
                Err(e) => return Err(e),
            }
        }
        let nonce = self.world().bytes();
        Ok(Base {
            state: State::empty(self.id().to_owned(), nonce, Operation::default()),
            seq: None,
            latest,
            hash,
            tables: Vec::new(),
        })
    }

    fn go_on_from(&self, base: Base, how: &Repair<'_>, why: String) -> Result<Recovered> {
        let mut done = Recovered {
            lost: Some((base.latest, why)),
            base: base.seq,
            tables: base.tables.clone(),
            ..Recovered::default()
        };
        if base.seq == Some(base.latest) {
            // The root itself is whole: only parts of its tables are lost.
            done.base = Some(base.latest);
        }
        self.may_write(&base.state)?;
        let doubt = Doubt::of(self, &base)?;
        let state = Arc::new(base.state);
        self.adopt(state.clone());
        // Rows that are lost may be of any pack.
        let any = !done.tables.is_empty() || base.seq.is_none();
        if let Some(doubt) = &doubt {
            // Others serve where they have the same.
            let doubted = doubt.rows(&state);
            self.lock_live_write().condemned.extend(doubted);
        }
        let mut found = self.find_snapshots(&state, any, how)?;
        let floor = doubt.as_ref().map_or(0, Doubt::floor);
        let mut new = NewPacks::new(self, &how.operation, floor);
        let copies = match &doubt {
            Some(doubt) => self.copy_needed(&state, doubt, any, &mut found, &mut new)?,
            None => Copies::default(),
        };
        done.renamed = copies.renamed.clone().into_iter().collect();
        let mut next = (*state).clone();
        next.root.seq = base.latest + 1;
        next.root.previous = base.hash.or(base.seq.map(|_| state.hash));
        next.root.nonce = self.world().bytes();
        next.root.operation = how.operation.clone();
        next.need_packs_2();
        let now = how.operation.time.unix_micros.div_euclid(1_000_000);
        if let Some(doubt) = &doubt {
            doubt.take_over(&mut next, &copies, now)?;
        }
        if any {
            // Usage tells differences to rows that may be lost, by numbers of packs that may be.
            self.count_anew(&mut next)?;
        }
        self.add_found(&mut next, found, &mut done)?;
        if let Some(doubt) = &doubt {
            doubt.settle(&mut next, now);
        }
        let bytes = self.fit(&mut next)?;
        let created = log::create(&**self.objects(), &Root::key(next.seq()), &bytes)?;
        if !created || log::is_closed(&**self.objects(), next.seq())? {
            return Err(Error::Contended {
                location: self.location(),
                tries: 1,
            });
        }
        next.hash = *blake3::hash(&bytes).as_bytes();
        done.root = Some(next.seq());
        let next = Arc::new(next);
        self.adopt(next.clone());
        new.drop_unused(&next)?;
        Ok(done)
    }

    /// Copies what snapshots need of packs in doubt, and has them use the copies.
    fn copy_needed(
        &self,
        state: &State,
        doubt: &Doubt,
        any: bool,
        found: &mut Found,
        new: &mut NewPacks<'_>,
    ) -> Result<Copies> {
        let mut needed = doubt.used(state);
        for (_, usage) in &found.rows {
            let packs = usage.iter().map(|(name, (len, _))| (*name, *len));
            needed.extend(doubt.doubted(state, packs));
        }
        if any {
            let mut usage = BTreeMap::new();
            for row in state.snapshots() {
                usage.append(&mut self.usage_found(row)?);
            }
            let usage = self.with_lengths(usage).into_iter();
            let packs = usage.map(|(name, (len, _))| (name, len));
            needed.extend(doubt.doubted(state, packs));
        }
        let copies = self.copy_doubted(&needed, new)?;
        copies.use_in(found);
        self.forget_doubted(state, doubt, &copies);
        Ok(copies)
    }

    /// Snapshots of a home that are whole in packs which no root names: the root that named them
    /// is gone, or was never written.
    pub(crate) fn bring_back_unnamed(
        &self,
        how: &Repair<'_>,
        state: &Arc<State>,
    ) -> Result<Recovered> {
        let mut done = Recovered::default();
        let found = self.find_snapshots(state, false, how)?;
        done.incomplete = found.incomplete.clone();
        if !found.rows.is_empty() {
            let mut found = Some(found);
            let committed = self.commit_with(how.operation.clone(), |next| {
                match found.take() {
                    Some(found) => self.add_found(next, found, &mut done),
                    // Nobody else commits in a home whose lock is held.
                    None => Err(Error::Contended {
                        location: self.location(),
                        tries: 1,
                    }),
                }
            })?;
            done.root = Some(committed.seq());
        }
        self.lock_live_write().pending.clear();
        Ok(done)
    }

    /// Looks once more at snapshots of a storage that were not complete when its log was mended.
    /// What they need that nobody names was fenced by that, so that it is copied.
    pub(crate) fn bring_back_again(
        &self,
        how: &Repair<'_>,
        incomplete: &[(SnapshotId, String)],
    ) -> Result<Recovered> {
        let wanted: HashSet<SnapshotId> = incomplete.iter().map(|(id, _)| *id).collect();
        let state = self.state()?;
        let base = Base {
            state: (*state).clone(),
            seq: Some(state.seq()),
            latest: state.seq(),
            hash: Some(state.hash),
            tables: Vec::new(),
        };
        let mut done = Recovered::default();
        let Some(doubt) = Doubt::of(self, &base)? else {
            return Ok(done);
        };
        let doubted = doubt.rows(&state);
        self.lock_live_write().condemned.extend(doubted);
        let mut found = self.find_snapshots(&state, false, how)?;
        // All others that no root names are uploads that go on.
        found.rows.retain(|(row, _)| wanted.contains(&row.id));
        found.incomplete.retain(|(id, _)| wanted.contains(id));
        let mut new = NewPacks::new(self, &how.operation, doubt.floor());
        let copies = self.copy_needed(&state, &doubt, false, &mut found, &mut new)?;
        done.renamed = copies.renamed.clone().into_iter().collect();
        done.incomplete = found.incomplete.clone();
        if !found.rows.is_empty() {
            let committed = self.commit_with(how.operation.clone(), |next| {
                done.snapshots.clear();
                self.add_found(next, found.clone(), &mut done)
            })?;
            done.root = Some(committed.seq());
            new.drop_unused(&committed)?;
        }
        let mut live = self.lock_live_write();
        live.pending.clear();
        live.hidden.clear();
        live.state = None;
        drop(live);
        Ok(done)
    }

    /// Gives every row the usage that a walk finds.
    fn count_anew(&self, next: &mut State) -> Result<()> {
        let rows: Vec<Row> = next.snapshots().cloned().collect();
        for row in &rows {
            let usage = self.with_lengths(self.usage_found(row)?);
            next.set_usage(row.serial, &usage, self.is_alone())?;
        }
        Ok(())
    }

    /// What a walk through a snapshot finds of it: where not all of it is whole, every pack that is
    /// there. What is lost may be healed right after this, and nobody knows what it needs.
    fn usage_found(&self, row: &Row) -> Result<BTreeMap<PackName, u64>> {
        let nothing = Bad::default();
        let mut usage = BTreeMap::new();
        let mut visit = |place: &crate::index::Location| {
            *usage.entry(place.pack).or_default() += place.stored_share();
        };
        let is_whole = Survey::new(self, &nothing)
            .visiting(&mut visit)
            .snapshot(row.id, row.tree)?;
        if !is_whole {
            let live = self.lock_live_read();
            for name in live.packs.keys().chain(live.pending.keys()) {
                usage.entry(*name).or_insert(1);
            }
        }
        Ok(usage)
    }

    fn with_lengths(&self, usage: BTreeMap<PackName, u64>) -> Usage {
        let live = self.lock_live_read();
        let len = |name: &PackName| live.packs.get(name).or_else(|| live.pending.get(name));
        usage
            .into_iter()
            .filter_map(|(name, bytes)| Some((name, (*len(&name)?, bytes))))
            .collect()
    }

    /// Rows and refs for what was found; refs that name nothing go.
    fn add_found(&self, next: &mut State, found: Found, done: &mut Recovered) -> Result<()> {
        done.incomplete = found.incomplete;
        let mut added = Vec::new();
        for (row, usage) in found.rows {
            let id = row.id;
            match next.add_snapshot(row, &usage, self.is_alone()) {
                Ok(()) => added.push(id),
                Err(e @ Error::NamesUsedUp { .. }) => done.incomplete.push((id, e.to_string())),
                Err(e) => return Err(e),
            }
        }
        next.root.operation.added.extend(&added);
        let lost: Vec<(String, SnapshotId)> = next
            .refs()
            .iter()
            .filter(|(name, id)| !name.starts_with(NOTES) && next.snapshot(id).is_none())
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        for (name, from) in &lost {
            let change = crate::root::RefChange {
                name: name.clone(),
                from: Some(*from),
                to: None,
            };
            self.move_refs(next, &[change])?;
        }
        done.refs = lost;
        let named: HashSet<SnapshotId> = next.refs().values().copied().collect();
        let parents: HashSet<SnapshotId> = next
            .snapshots()
            .flat_map(|row| row.parents.iter().copied())
            .collect();
        for id in added {
            let is_tip = !named.contains(&id) && !parents.contains(&id);
            let branch = is_tip.then(|| format!("recovered/{}", id.short()));
            if let Some(branch) = &branch {
                let change = crate::root::RefChange {
                    name: format!("branch/{branch}"),
                    from: None,
                    to: Some(id),
                };
                self.move_refs(next, &[change])?;
            }
            done.snapshots.push((id, branch));
        }
        Ok(())
    }

    /// Complete snapshots in packs that have no row: of packs that `state` does not name, or of
    /// `any`. What was deleted, as far as that is known, stays so.
    fn find_snapshots(&self, state: &State, any: bool, how: &Repair<'_>) -> Result<Found> {
        let mut named = state.named_packs();
        if !any {
            // They belong to a fetch that goes on.
            named.extend(self.arriving()?);
        }
        let mut ids = Vec::new();
        for listed in self.objects().list("packs/")? {
            let name = listed.key.strip_prefix("packs/");
            let Some(name) = name.and_then(|name| name.parse::<PackName>().ok()) else {
                continue;
            };
            let is_named = named.contains(&name);
            if is_named && !any {
                continue;
            }
            let directory = match self.directory(name, listed.size) {
                Ok(directory) => directory,
                // Told of by the verification that follows, where it is needed.
                Err(e) if e.is_lost() => continue,
                Err(e) => return Err(e),
            };
            if !is_named {
                self.inner.index.add_pack(name, &directory)?;
                self.lock_live_write().pending.insert(name, listed.size);
            }
            let blobs = directory.frames.iter().flat_map(|frame| &frame.blobs);
            let snapshots = blobs.filter(|blob| blob.part.kind == Kind::Snapshot);
            ids.extend(snapshots.map(|blob| SnapshotId(blob.id.0)));
        }
        let deleted: HashSet<SnapshotId> = state.removed.rows().map(|row| row.row.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| state.snapshot(id).is_none() && !deleted.contains(id));
        let mut found = Found::default();
        if ids.is_empty() {
            return Ok(found);
        }
        let deleted = self.deleted_by_log(state.seq())?;
        let nothing = Bad::default();
        let mut survey = Survey::new(self, &nothing);
        let mut snapshots = Vec::new();
        for id in ids.into_iter().filter(|id| !deleted.contains(id)) {
            match self.record(id)? {
                Ok(snapshot) if survey.snapshot(id, snapshot.tree)? => {
                    snapshots.push((id, snapshot));
                }
                Ok(_) => {}
                Err(why) => found.incomplete.push((id, why)),
            }
        }
        found.incomplete.extend(survey.into_damage().0);
        snapshots.sort_by_key(|(id, snapshot)| (snapshot.time, *id));
        for (id, snapshot) in parents_first(snapshots) {
            let usage = self.usage_of(id, snapshot.tree)?;
            let usage = self.with_lengths(usage);
            let summary = (how.summary)(&snapshot);
            found.rows.push((row_of(id, snapshot, summary), usage));
        }
        Ok(found)
    }

    /// The record of a snapshot that need not have a row. The inner error says what is wrong.
    fn record(&self, id: SnapshotId) -> Result<Result<Snapshot, String>> {
        let Some(chain) = self.locate(&id.into())? else {
            return Ok(Err("its own record is lost".into()));
        };
        let mut bytes = Vec::new();
        match self.read_found(Kind::Snapshot, &chain, &Fetched::default(), &mut bytes) {
            Ok(()) => Ok(Snapshot::decode(&bytes).map_err(|e| e.0)),
            Err(e) if e.is_lost() => Ok(Err(e.to_string())),
            Err(e) => Err(e),
        }
    }

    /// Snapshots that the roots up to `seq` removed and did not put back, as far as they are kept
    /// and can be read.
    pub(crate) fn deleted_by_log(&self, seq: u64) -> Result<HashSet<SnapshotId>> {
        let (mut known, mut deleted) = (HashSet::new(), HashSet::new());
        for seq in (0..=seq).rev() {
            match self.logged(seq) {
                Ok(Some(logged)) => {
                    known.extend(&logged.operation.added);
                    let removed = logged.operation.removed.into_iter();
                    deleted.extend(removed.filter(|id| known.insert(*id)));
                }
                Ok(None) => break,
                Err(e) if e.is_lost() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(deleted)
    }
}

fn row_of(id: SnapshotId, snapshot: Snapshot, summary: Vec<u8>) -> Row {
    Row {
        serial: 0,
        id,
        tree: snapshot.tree,
        parents: snapshot.parents,
        time: snapshot.time,
        kind: snapshot.kind,
        message: snapshot.message,
        size: snapshot.size,
        new_bytes: 0,
        summary,
        usage: BTreeMap::new(),
        made_from: None,
        line: None,
    }
}

/// By time, but no snapshot before a parent of its own: clocks may be wrong.
fn parents_first(mut left: Vec<(SnapshotId, Snapshot)>) -> Vec<(SnapshotId, Snapshot)> {
    let mut waiting: HashSet<SnapshotId> = left.iter().map(|(id, _)| *id).collect();
    let mut out = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_next = |(_, snapshot): &(SnapshotId, Snapshot)| {
            !snapshot.parents.iter().any(|id| waiting.contains(id))
        };
        // Hashes make no circles.
        let at = left.iter().position(is_next).unwrap_or(0);
        let next = left.remove(at);
        waiting.remove(&next.0);
        out.push(next);
    }
    out
}

/// `snapshot create by ann@db1`.
fn told(operation: &Operation) -> String {
    match operation.verb.as_str() {
        "" => "it was just made".to_owned(),
        verb => format!("{verb} by {}", operation.who),
    }
}
