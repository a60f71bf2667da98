//! What is in doubt at a storage behind a root that is lost.
//!
//! A lost root may have declared packs dead and fenced sessions, and a collector that read it may
//! delete them whenever it goes on. So nothing is used on the word of an older root that a later
//! one may have given up: packs that no snapshot used are dead from the mended root on, every
//! session that may have begun is fenced, and what snapshots need of other packs is copied under
//! names that nobody knows. A pack in use is trusted, since it takes three roots until one is dead:
//! one removes the snapshot, one condemns, one declares dead. Behind three lost roots all is copied.
//!
//! In a home nothing is in doubt: its lock keeps collectors away.

use crate::error::Result;
use crate::heal::NewPacks;
use crate::id::{PackName, SnapshotId};
use crate::objects::disk;
use crate::recover::{Base, Found};
use crate::repair::Copy;
use crate::repository::Repository;
use crate::root::PackRow;
use crate::session::Sessions;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many roots after one that uses a pack, the pack may be dead.
const ROOTS_TO_DEATH: u64 = 3;

/// What the newest root that can be read does not vouch for.
pub(crate) struct Doubt {
    /// Roots whose operations are not known.
    lost: u64,
    /// Whether rows of packs are lost.
    packs_lost: bool,
    /// Ordinals of packs in use.
    used: BTreeMap<u64, u64>,
    /// No session that began before has a label of this or above, as far as clocks tell.
    floor: u64,
    /// Those of which something is there all the same.
    ahead: Vec<[u8; 16]>,
}

/// Packs under new names.
#[derive(Default)]
pub(crate) struct Copies {
    pub(crate) renamed: BTreeMap<PackName, PackName>,
    /// Those that could not be read, and why.
    lost: BTreeMap<PackName, String>,
}

impl Doubt {
    /// What is in doubt behind this root; nothing in a home.
    pub(crate) fn of(repository: &Repository, base: &Base) -> Result<Option<Doubt>> {
        if repository.is_alone() {
            return Ok(None);
        }
        let lost = base.seq.map_or(u64::MAX, |seq| base.latest - seq);
        let mut doubt = Doubt {
            lost,
            packs_lost: base.state.packs_lost,
            used: base.state.used(),
            floor: base.state.floor(),
            ahead: Vec::new(),
        };
        if doubt.fences() {
            let now = repository.world().unix_micros() / 1000;
            let now = u64::try_from(now).unwrap_or(0);
            doubt.floor = doubt.floor.max(now + 1);
            let mut begun = repository.sessions_there()?;
            begun.retain(|session| label(session) >= doubt.floor);
            doubt.ahead = begun.into_iter().collect();
        }
        Ok(Some(doubt))
    }

    /// Whether sessions may be fenced, or names dead, and nobody knows.
    fn fences(&self) -> bool {
        self.lost > 0 || self.packs_lost
    }

    /// New packs get labels of this or above.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether nobody can be about to delete this pack.
    fn trusts(&self, state: &State, name: &PackName, row: Option<&PackRow>) -> bool {
        match row {
            None => !self.fences() && !state.is_fenced(name),
            Some(row) if self.lost == 0 => row.is_there(),
            Some(row) => self.lost < ROOTS_TO_DEATH && self.used.contains_key(&row.ordinal),
        }
    }

    /// Packs with rows that are not trusted.
    pub(crate) fn rows(&self, state: &State) -> Vec<PackName> {
        let doubted = state
            .packs()
            .filter(|r| !self.trusts(state, &r.name, Some(r)));
        doubted.map(|row| row.name).collect()
    }

    /// Packs in use that are not trusted, with their lengths: there are some where many roots are
    /// lost.
    pub(crate) fn used(&self, state: &State) -> BTreeMap<PackName, u64> {
        let used = state.packs().filter(|r| self.used.contains_key(&r.ordinal));
        used.filter(|r| !self.trusts(state, &r.name, Some(r)))
            .map(|row| (row.name, row.len))
            .collect()
    }

    /// Of these packs, those that are not trusted.
    pub(crate) fn doubted(
        &self,
        state: &State,
        packs: impl IntoIterator<Item = (PackName, u64)>,
    ) -> BTreeMap<PackName, u64> {
        let rows: HashMap<PackName, &PackRow> = state.packs.rows().map(|r| (r.name, r)).collect();
        let is_doubted =
            |(name, _): &(PackName, u64)| !self.trusts(state, name, rows.get(name).copied());
        packs.into_iter().filter(is_doubted).collect()
    }

    /// Gives the rows of packs in use to their copies, where many roots are lost.
    pub(crate) fn take_over(&self, next: &mut State, copies: &Copies, now: i64) -> Result<()> {
        for old in self.used(next).into_keys() {
            if let Some(new) = copies.renamed.get(&old) {
                next.take_over(&old, *new, now)?;
            }
        }
        Ok(())
    }

    /// Fences and declares dead what a lost root may have fenced and declared dead, and has tables
    /// written anew: their segments may be given up, too.
    pub(crate) fn settle(&self, next: &mut State, now: i64) {
        if self.lost > 0 {
            let all = next.packs().map(|row| row.name).collect();
            next.retire(&all, now);
        }
        if self.fences() {
            next.fence(&self.ahead, self.floor);
            next.take_in_tables();
        }
    }
}

impl Copies {
    /// Snapshots go on to the copies; those that need what could not be copied are told of.
    pub(crate) fn use_in(&self, found: &mut Found) {
        let mut rows = Vec::new();
        for (row, usage) in std::mem::take(&mut found.rows) {
            let lost = usage
                .keys()
                .find_map(|name| Some((name, self.lost.get(name)?)));
            if let Some((name, why)) = lost {
                let id: SnapshotId = row.id;
                found.incomplete.push((id, format!("pack {name}: {why}")));
                continue;
            }
            let new = |name| *self.renamed.get(&name).unwrap_or(&name);
            let usage = usage.into_iter().map(|(name, of)| (new(name), of));
            rows.push((row, usage.collect()));
        }
        found.rows = rows;
    }
}

impl Repository {
    /// Sessions of which anything is there.
    fn sessions_there(&self) -> Result<BTreeSet<[u8; 16]>> {
        let mut sessions: BTreeSet<[u8; 16]> = BTreeSet::new();
        for folder in ["packs/", "index/"] {
            let listed = self.objects().list(folder)?.into_iter();
            sessions.extend(listed.filter_map(|listed| {
                let name: PackName = listed.key.strip_prefix(folder)?.parse().ok()?;
                Some(name.session)
            }));
        }
        let told = Sessions::of(self)?.keys.into_iter();
        sessions.extend(told.map(|(_, session)| session));
        Ok(sessions)
    }

    /// Copies these packs under new names, as they lie here: what is damaged in them the
    /// verification tells that follows.
    pub(crate) fn copy_doubted(
        &self,
        packs: &BTreeMap<PackName, u64>,
        new: &mut NewPacks<'_>,
    ) -> Result<Copies> {
        let mut copies = Copies::default();
        for (name, len) in packs {
            let copy = Copy(disk::temporary_path(&std::env::temp_dir()));
            let directory = match self.directory(*name, *len) {
                Ok(directory) => directory,
                Err(e) if e.is_lost() => {
                    copies.lost.insert(*name, e.to_string());
                    continue;
                }
                Err(e) => return Err(e),
            };
            match self.objects().get_to_file(&name.key(), &copy.0) {
                Ok(_) => {
                    let other = new.whole(&copy.0, *len, &directory)?;
                    copies.renamed.insert(*name, other);
                }
                Err(e) if e.is_not_found() => {
                    copies.lost.insert(*name, "it is missing".into());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(copies)
    }

    /// From now on nothing is read from packs in doubt: what was copied is found in the copies.
    pub(crate) fn forget_doubted(&self, state: &State, doubt: &Doubt, copies: &Copies) {
        let mut rows = doubt.rows(state);
        // What could not be copied is not in better hands without it.
        rows.retain(|name| !copies.lost.contains_key(name));
        self.hide(&rows.into_iter().collect());
        let named = state.named_packs();
        let mut live = self.lock_live_write();
        let is_copy = |name: &PackName| copies.renamed.values().any(|copy| copy == name);
        live.pending.retain(|name, _| {
            is_copy(name) || (!named.contains(name) && doubt.trusts(state, name, None))
        });
    }
}

fn label(session: &[u8; 16]) -> u64 {
    PackName {
        session: *session,
        number: 0,
    }
    .label()
}
