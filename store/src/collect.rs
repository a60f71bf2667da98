//! Space: packs that no snapshot needs go away, in steps that are safe beside writers of any
//! patience.
//!
//! A pack goes from live to condemned to dead to deleted, each by a root of its own, so that every
//! step is ordered with every commit. A commit that uses a condemned pack rescues it; a dead one is
//! dead for ever, and so is its name. Clocks decide only when the next step is tried. What was
//! uploaded and never committed is deleted after a root has fenced its session, which then can
//! never commit it. docs/concurrency.md has the whole argument.
//!
//! What is alive in mostly dead packs, and in many small ones, is packed anew (`repack`).

use crate::error::{Error, Result};
use crate::id::{PackName, SnapshotId};
use crate::log;
use crate::objects::disk;
use crate::repack::Repack;
use crate::repository::Repository;
use crate::root::{Operation, PackRow};
use crate::session::{PATIENCE, Sessions, began};
use crate::state::{FENCES_MAX, FENCES_ROOM, KEPT_FOR, KEPT_ROOTS, State};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How often a run looks again for packs to be packed anew.
const REPACK_ROUNDS: u32 = 8;
const DAY: i64 = 24 * 3600;
/// Sessions that old are fenced by a number, not by name.
const FLOOR: i64 = 30 * DAY;

/// When a collection takes which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collect {
    /// Seconds since 1970, by the caller's clock.
    pub now: i64,
    /// Seconds for which a pack stays condemned: how long what was deleted can come back.
    pub grace: i64,
    /// Seconds after which a session that left uncommitted packs is taken to be over.
    pub sessions: i64,
    /// Which packs are packed anew.
    pub repack: Repack,
}

impl Collect {
    /// A day of grace, a week for sessions, and no traffic for packing anew.
    pub fn at(now: i64) -> Self {
        Collect {
            now,
            grace: DAY,
            sessions: PATIENCE,
            repack: Repack::default(),
        }
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs condemned now.
    pub condemned: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Packs that wait condemned, these included.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packs deleted.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes written anew to keep what was alive in packs that were small or mostly dead.
    pub rewritten: u64,
    /// Packs that were to be packed anew and are damaged: they stay as they are.
    pub damaged: u64,
    /// Packs and index segments deleted that were never committed, or are listed no more.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Files of interrupted writers deleted that never got a name.
    pub unfinished: u64,
    /// Sessions fenced.
    pub fenced: u64,
    /// Roots deleted.
    pub roots: u64,
}

impl Repository {
    /// Frees space, as far as it is time. Of a home the caller holds the lock and knows that nobody
    /// reads; a storage may be in use by anybody.
    ///
    /// # Errors
    /// When something is missing, damaged or cannot be written; nothing that a snapshot needs has
    /// gone then. Called again it goes on.
    pub fn collect(&self, operation: Operation, how: Collect) -> Result<Collected> {
        let mut done = Collected::default();
        // What a writer left that did not commit is about to go away: nothing may lean on it.
        if self.is_alone() {
            self.lock_live_write().pending.clear();
        }
        let state = self.state()?;
        let removed = state.removed.len() > 0;
        let arriving = self.still_arriving(&how, true)?;
        let mut orphans = self.orphans(&state)?;
        orphans.retain(|orphan| !arriving.contains(&orphan.name));
        let sessions = Sessions::of(self)?;
        let fence = self.to_fence(&state, &orphans, &sessions, how);
        let floor = (how.now.saturating_sub(FLOOR).max(0) as u64).saturating_mul(1000);
        let living = sessions.living(how.now, how.sessions);
        let floor = Floor {
            label: floor.min(living),
            living,
        };
        let before: HashMap<PackName, u8> = state.packs().map(|p| (p.name, p.state)).collect();
        done.fenced = fence.len() as u64;
        let mut state = self.step(&operation, how, &fence, floor)?;
        // Without grace the second step follows at once: it needs a root of its own all the same.
        if how.grace == 0 {
            state = self.step(&operation, how, &[], floor)?;
        }
        count(&before, &state, &mut done);
        // Before anything is written: the disk may be full.
        self.delete_dead(&state, &operation, how, &mut done)?;
        // A writer may have committed them between the listing and the fence: the fence keeps out
        // what comes after it alone, so what counts is what the root with the fence names.
        let named = state.named_keys();
        let left = orphans.iter().filter(|o| !named.contains(&o.key));
        for orphan in left.filter(|o| self.is_alone() || state.is_fenced(&o.name)) {
            self.objects().delete(&orphan.key)?;
            done.orphans += 1;
            done.orphan_bytes += orphan.len;
        }
        for key in sessions.over(&state, how.now, how.sessions) {
            self.objects().delete(&key)?;
        }
        self.repack_all(&operation, how, floor, removed, &mut done)?;
        self.tend_or_warn(None, &operation);
        done.unfinished = self.remove_unfinished(how)?;
        let latest = self.state()?.seq();
        let keep = latest - self.first_kept(latest, how.now)?;
        done.roots = log::trim(&**self.objects(), latest, keep)?;
        Ok(done)
    }

    /// What [`Repository::collect`] would do if the snapshots `without` were removed first; of what
    /// is packed anew the first round, about.
    ///
    /// # Errors
    /// When something is missing, damaged or cannot be read.
    pub fn would_collect(&self, how: Collect, without: &[SnapshotId]) -> Result<Collected> {
        let mut done = Collected::default();
        let state = self.state()?;
        let arriving = self.still_arriving(&how, false)?;
        let mut orphans = self.orphans(&state)?;
        orphans.retain(|orphan| !arriving.contains(&orphan.name));
        let fence = self.to_fence(&state, &orphans, &Sessions::of(self)?, how);
        done.fenced = fence.len() as u64;
        let before: HashMap<PackName, u8> = state.packs().map(|p| (p.name, p.state)).collect();
        let mut next = (*state).clone();
        for id in without {
            next.remove_snapshot(id);
        }
        let removed = next.removed.len() > 0;
        let steps = if how.grace == 0 { 2 } else { 1 };
        for _ in 0..steps {
            next.begin_step();
            next.condemn(how.now, how.grace);
        }
        count(&before, &next, &mut done);
        for (_, len) in next.dead() {
            done.packs += 1;
            done.bytes += len;
        }
        let goes = |name: &PackName| {
            self.is_alone() || fence.contains(&name.session) || state.is_fenced(name)
        };
        for orphan in orphans.iter().filter(|o| goes(&o.name)) {
            done.orphans += 1;
            done.orphan_bytes += orphan.len;
        }
        if !self.repacks(how) {
            return Ok(done);
        }
        if let Some(plan) = self.plan_repack(&next, how.repack, removed)? {
            done.rewritten = self.expected(&plan)?;
            let packs = plan.moved.len() as u64;
            let bytes: u64 = plan.moved.iter().map(|(_, len)| len).sum();
            if how.grace == 0 {
                done.packs += packs;
                done.bytes += bytes;
            } else {
                done.condemned += packs;
                done.condemned_bytes += bytes;
                done.waiting += packs;
                done.waiting_bytes += bytes;
            }
        }
        Ok(done)
    }

    /// Sessions that are over and left packs which no root names.
    fn to_fence(
        &self,
        state: &State,
        orphans: &[Orphan],
        sessions: &Sessions,
        how: Collect,
    ) -> Vec<[u8; 16]> {
        if self.is_alone() {
            return Vec::new();
        }
        let is_over = |name: &PackName| {
            began(&name.session).saturating_add(how.sessions) <= how.now
                && !sessions.is_alive(&name.session, how.now, how.sessions)
        };
        let mut fence: Vec<[u8; 16]> = orphans
            .iter()
            .map(|orphan| orphan.name)
            .filter(|name| is_over(name) && !state.is_fenced(name))
            .map(|name| name.session)
            .collect();
        fence.sort_unstable();
        fence.dedup();
        // The others are for the next run: a root has little room.
        let room = FENCES_ROOM.saturating_sub(state.root.fences.len());
        fence.truncate(FENCES_MAX.min(room));
        fence
    }

    /// Whether packs are packed anew at all.
    fn repacks(&self, how: Collect) -> bool {
        self.is_alone() || how.repack.traffic > 0
    }

    /// The first root that stays: one of the latest, or young. Found by halving, since times rise
    /// with the numbers but for clocks that differ, which does no harm here.
    fn first_kept(&self, latest: u64, now: i64) -> Result<u64> {
        let (mut old, mut kept) = (0, latest.saturating_sub(KEPT_ROOTS));
        while old < kept {
            let middle = old + (kept - old) / 2;
            let is_old = match self.logged(middle) {
                Ok(None) => true,
                Ok(Some(logged)) => {
                    let at = logged.operation.time.unix_micros.div_euclid(1_000_000);
                    at.saturating_add(KEPT_FOR) <= now
                }
                Err(Error::Damaged { .. }) => false,
                Err(e) => return Err(e),
            };
            match is_old {
                true => old = middle + 1,
                false => kept = middle,
            }
        }
        Ok(kept)
    }

    /// Packs mostly dead packs anew, and takes the steps that follow. Only now, when copies in packs
    /// that are not used count for nothing; what is moved may leave the next pack mostly dead.
    fn repack_all(
        &self,
        operation: &Operation,
        how: Collect,
        floor: Floor,
        removed: bool,
        done: &mut Collected,
    ) -> Result<()> {
        let rounds = match self.is_alone() {
            true => REPACK_ROUNDS,
            false => u32::from(self.repacks(how)),
        };
        for _ in 0..rounds {
            let before = self.state()?.packs().map(|p| (p.name, p.state)).collect();
            let repacked = self.repack(operation, how.repack, removed)?;
            done.damaged = done.damaged.max(repacked.damaged);
            match repacked.bytes {
                0 => break,
                rewritten => done.rewritten += rewritten,
            }
            let mut state = self.step(operation, how, &[], floor)?;
            if how.grace == 0 {
                state = self.step(operation, how, &[], floor)?;
            }
            count(&before, &state, done);
            self.delete_dead(&state, operation, how, done)?;
        }
        Ok(())
    }

    /// One root that condemns, declares dead and fences; none where nothing changes.
    fn step(
        &self,
        operation: &Operation,
        how: Collect,
        fence: &[[u8; 16]],
        floor: Floor,
    ) -> Result<Arc<State>> {
        let state = self.state()?;
        let Floor { label, living } = floor;
        let floor = label.min(state.newest_label());
        let fences = |state: &State| {
            !fence.is_empty() || state.has_deleted_below(floor) || state.floor_rises(living)
        };
        let mut probe = (*state).clone();
        probe.begin_step();
        if !probe.condemn(how.now, how.grace) && !fences(&state) {
            return Ok(state);
        }
        self.commit_with(operation.clone(), |next| {
            next.condemn(how.now, how.grace);
            if fences(next) {
                next.fence_but(fence, floor, living);
            }
            Ok(())
        })
    }

    /// Deletes the objects of packs that a root has declared dead, and notes it.
    fn delete_dead(
        &self,
        state: &State,
        operation: &Operation,
        how: Collect,
        done: &mut Collected,
    ) -> Result<()> {
        let dead = state.dead();
        if dead.is_empty() {
            return Ok(());
        }
        for (name, len) in &dead {
            // An index that lasts need not keep them. Rows of packs that are not there do no harm,
            // and what a lazy home reads of them over the net may be out of reach.
            if self.is_indexed_for_good() {
                let forgotten = self
                    .directory(*name, *len)
                    .and_then(|directory| self.inner.index.drop_pack(*name, &directory));
                if let Err(e) = forgotten {
                    tracing::debug!("the index keeps what it knows of pack {name}: {e}");
                }
            }
            self.objects().delete(&name.key())?;
            done.packs += 1;
            done.bytes += len;
        }
        let gone: HashSet<PackName> = dead.iter().map(|(name, _)| *name).collect();
        self.commit_with(operation.clone(), |next| {
            next.deleted(&gone, how.now, self.is_alone());
            Ok(())
        })?;
        Ok(())
    }

    /// Packs and index segments that no root names.
    fn orphans(&self, state: &State) -> Result<Vec<Orphan>> {
        let named = state.named_keys();
        let mut orphans = Vec::new();
        for folder in ["packs/", "index/"] {
            let listed = self.objects().list(folder)?.into_iter();
            orphans.extend(listed.filter_map(|listed| {
                let name: PackName = listed.key.strip_prefix(folder)?.parse().ok()?;
                (!named.contains(&listed.key)).then_some(Orphan {
                    key: listed.key,
                    name,
                    len: listed.size,
                })
            }));
        }
        Ok(orphans)
    }

    /// Files that interrupted writers left in a directory without a name. In a home nobody else
    /// writes; elsewhere the age of a file decides, which is safe: who is late tries again.
    fn remove_unfinished(&self, how: Collect) -> Result<u64> {
        let mut removed = 0;
        for folder in ["packs", "index", "roots", "sessions", "marks"] {
            let Some(path) = self.objects().local_path(folder) else {
                return Ok(0);
            };
            let done = match self.is_alone() {
                true => disk::remove_leftovers(&path),
                false => disk::remove_old_leftovers(&path, how.now - how.sessions),
            };
            removed += done.map_err(Error::file("remove unfinished files from", &path))?;
        }
        Ok(removed)
    }
}

/// Up to which label sessions are fenced by a number.
#[derive(Clone, Copy)]
struct Floor {
    /// Because they are old.
    label: u64,
    /// Never above this, the label of an upload that goes on.
    living: u64,
}

/// What no root names.
struct Orphan {
    key: String,
    name: PackName,
    len: u64,
}

/// Counts what a step did to packs that were `before` it, and what waits after it.
fn count(before: &HashMap<PackName, u8>, state: &State, done: &mut Collected) {
    (done.waiting, done.waiting_bytes) = (0, 0);
    for pack in state.packs().filter(|p| p.state == PackRow::CONDEMNED) {
        done.waiting += 1;
        done.waiting_bytes += pack.len;
        if before.get(&pack.name) == Some(&PackRow::LIVE) {
            done.condemned += 1;
            done.condemned_bytes += pack.len;
        }
    }
}
