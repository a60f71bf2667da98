//! Brings back what is missing or damaged, as far as another place has it.
//!
//! A pack of a home is replaced by a verbatim copy of the same pack from elsewhere, checked whole
//! before it takes its place. At a storage names are never used again: the copy goes up under a
//! new name and takes over the row, and the old name is dead. What no whole pack brings is sought
//! blob by blob: in what is left of the pack, then in the other places; it goes into new packs, to
//! which the good frames of the damaged one move, too. A pack of which something is still lost
//! stays as it is, for a later try. One root makes all of it count.
//!
//! A log whose latest root cannot be read is mended first (`recover`).

use crate::blob::Fetched;
use crate::damage::{Bad, Damage, PackDamage, Survey, Wanted};
use crate::error::{Error, Result};
use crate::heal::NewPacks;
use crate::id::{Id, Kind, PackName};
use crate::index::{Location, locations};
use crate::object::Snapshot;
use crate::objects::disk;
use crate::pack::{Directory, TRAILER_LEN, Trailer, frame, reader, salvage};
use crate::recover::Recovered;
use crate::repository::{Live, Repository};
use crate::root::{Operation, Row};
use crate::verify::{Verify, VerifyEvent, VerifyReport};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How often the snapshots are walked for more that healing made reachable.
const ROUNDS: u32 = 4;
/// How often a commit is prepared anew because others committed meanwhile.
const TRIES: u32 = 8;

/// A place where lost things may be found.
pub trait Source {
    /// For people: `s3://bucket/prefix`, `the cluster in /x`.
    fn name(&self) -> String;

    /// Writes the pack of this name and length to `file`; false where it has none. What it wrote
    /// is checked by the caller.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn pack(&self, name: PackName, len: u64, file: &Path) -> Result<bool>;

    /// The bytes of a blob, if they are here. They are checked by the caller.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>>;
}

impl Source for Repository {
    fn name(&self) -> String {
        self.location()
    }

    fn pack(&self, name: PackName, len: u64, file: &Path) -> Result<bool> {
        let key = name.key();
        if self.objects().size(&key)? != Some(len) {
            return Ok(false);
        }
        match self.objects().get_to_file(&key, file) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        let Some(chain) = self.locate(&wanted.id)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        match self.read_found(wanted.kind, &chain, &Fetched::default(), &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(e) if e.is_lost() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// How to repair.
pub struct Repair<'a> {
    /// Who, when; goes into the roots that it makes.
    pub operation: Operation,
    /// Where lost things may be, the likeliest first. Those with other keys have nothing.
    pub sources: Vec<&'a dyn Source>,
    /// The engine's part of the row of a snapshot whose row is lost.
    pub summary: &'a dyn Fn(&Snapshot) -> Vec<u8>,
}

/// What came from where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Whole packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Single blobs.
    pub blobs: u64,
    /// Their plain bytes.
    pub blob_bytes: u64,
}

/// What a repair found and did.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// What became of the log, where its latest root could not be read, and snapshots that no
    /// root named.
    pub log: Recovered,
    /// What was wrong before.
    pub before: VerifyReport,
    /// What is still lost.
    pub after: VerifyReport,
    /// By the name of the source.
    pub from: BTreeMap<String, Brought>,
    /// Packs that are not used any more, since what they held is elsewhere.
    pub retired: Vec<PackName>,
    /// Packs that have another name now, the old one first.
    pub renamed: Vec<(PackName, PackName)>,
    /// Sources that could not be asked, with the reason.
    pub unavailable: Vec<(String, String)>,
    /// Index segments written anew.
    pub segments: u64,
}

impl Repaired {
    /// Whether anything was changed.
    pub fn did_anything(&self) -> bool {
        !self.from.is_empty()
            || !self.retired.is_empty()
            || self.segments > 0
            || self.log.did_anything()
    }
}

/// The sources that still answer.
struct Sources<'a> {
    left: Vec<&'a dyn Source>,
    from: BTreeMap<String, Brought>,
    unavailable: Vec<(String, String)>,
}

impl<'a> Sources<'a> {
    /// What the first source that has it gives, and where to count it. A source that cannot be
    /// asked is not asked again.
    fn first<T>(
        &mut self,
        mut ask: impl FnMut(&dyn Source) -> Result<Option<T>>,
    ) -> Option<(T, &mut Brought)> {
        let mut found = None;
        let unavailable = &mut self.unavailable;
        self.left.retain(|source| {
            if found.is_some() {
                return true;
            }
            match ask(*source) {
                Ok(answer) => {
                    found = answer.map(|answer| (answer, source.name()));
                    true
                }
                Err(e) => {
                    unavailable.push((source.name(), e.to_string()));
                    false
                }
            }
        });
        let (found, name) = found?;
        Some((found, self.from.entry(name).or_default()))
    }
}

/// What is to be committed.
#[derive(Default)]
struct Changes {
    renamed: Vec<(PackName, PackName)>,
    retired: HashSet<PackName>,
    stored: Vec<PackName>,
}

impl Repository {
    /// Mends the log, then heals packs and blobs. Of a home the caller holds the lock and knows
    /// that nobody reads; a storage may be in use by anybody.
    ///
    /// # Errors
    /// When the place cannot be read or written. What was done by then stays, and called again it
    /// goes on.
    pub fn repair(&self, how: &Repair<'_>, on: &(dyn Fn(VerifyEvent) + Sync)) -> Result<Repaired> {
        // What an earlier call brought may be what makes it whole.
        self.confirm()?;
        let mut done = Repaired {
            log: self.mend_log(how)?,
            ..Repaired::default()
        };
        done.renamed = done.log.renamed.clone();
        let (before, bad) = self.look(Verify::ReadData, on)?;
        done.before = before.clone();
        done.after = before;
        if !done.before.is_good() {
            let outcome = self.heal(how, bad, &mut done);
            let mut live = self.lock_live_write();
            live.pending.clear();
            live.hidden.clear();
            // The next look goes by the latest root again.
            live.state = None;
            drop(live);
            outcome?;
            if !done.log.incomplete.is_empty() {
                // Some of it may be whole by now, and the next snapshot or collection takes away
                // what is left.
                let again = match self.is_alone() {
                    true => self.bring_back_unnamed(how, &self.state()?)?,
                    false => self.bring_back_again(how, &done.log.incomplete)?,
                };
                done.renamed.extend(again.renamed.iter().copied());
                done.log.go_on(again);
            }
        }
        let bad: HashSet<PackName> = done.before.bad_segments.iter().map(|(n, _)| *n).collect();
        if !bad.is_empty() {
            // They cost time alone: what was healed is told all the same.
            let renewed = self.renew_segments(None, &how.operation, &bad);
            match renewed.and_then(|done| Ok((done.written, self.bad_segments(true)?))) {
                Ok((written, left)) => {
                    done.segments = written;
                    done.after.bad_segments = left;
                }
                Err(e) => tracing::warn!("no index segment was written anew: {e}"),
            }
        }
        Ok(done)
    }

    fn heal(&self, how: &Repair<'_>, mut bad: Bad, done: &mut Repaired) -> Result<()> {
        let mut sources = Sources {
            left: how.sources.clone(),
            from: BTreeMap::new(),
            unavailable: Vec::new(),
        };
        let floor = self.state()?.floor();
        let mut new = NewPacks::new(self, &how.operation, floor);
        let mut changes = Changes::default();
        self.replace_packs(&mut bad, &mut sources, &mut new, &mut changes)?;
        // An index may still know what was where in them; what counts is what can be moved.
        let is_gone = |damage: &PackDamage| matches!(damage, PackDamage::Gone(_));
        let gone = bad.packs.iter().filter(|(_, damage)| is_gone(damage));
        self.hide(&gone.map(|(name, _)| *name).collect());
        self.salvage_packs(&bad, &mut sources, &mut new)?;
        self.heal_blobs(&bad, &mut sources, &mut new)?;
        let mut remaining = self.damage_by(&bad)?;
        for (name, len, damage) in self.rows_of(&bad)? {
            if !remaining.is_empty() && !self.is_settled(name, len, damage)? {
                continue;
            }
            if let PackDamage::Blobs { bad, .. } = damage {
                self.move_good_frames(name, len, bad, &mut new)?;
            }
            changes.retired.insert(name);
        }
        new.flush()?;
        self.hide(&changes.retired);
        if !new.stored().is_empty() || !changes.retired.is_empty() {
            changes.stored = new.stored().to_vec();
            self.commit_repair(&how.operation, &bad, &changes)?;
            self.lock_live_write().pending.clear();
            new.drop_unused(&*self.state()?)?;
        }
        for name in &changes.retired {
            bad.packs.remove(name);
        }
        // By what counts now.
        remaining = self.damage_by(&bad)?;
        let state = self.state()?;
        done.after.bad_packs = bad.told();
        done.after.bad_snapshots = first_of_each(&remaining, state.snapshots());
        done.after.damage = remaining;
        done.from = sources.from;
        done.unavailable = sources.unavailable;
        for (old, new) in changes.renamed {
            // A copy that was replaced, too.
            match done.renamed.iter_mut().find(|(_, copy)| *copy == old) {
                Some((_, name)) => *name = new,
                None => done.renamed.push((old, new)),
            }
        }
        done.retired = changes.retired.into_iter().collect();
        done.retired.sort_unstable();
        Ok(())
    }

    /// Bad packs with their lengths.
    fn rows_of<'b>(&self, bad: &'b Bad) -> Result<Vec<(PackName, u64, &'b PackDamage)>> {
        let state = self.loaded()?;
        let rows = state.packs().filter_map(|row| {
            let damage = bad.packs.get(&row.name)?;
            Some((row.name, row.len, damage))
        });
        Ok(rows.collect())
    }

    fn damage_by(&self, bad: &Bad) -> Result<Vec<Damage>> {
        let mut survey = Survey::new(self, bad);
        for row in self.state()?.snapshots() {
            survey.snapshot(row.id, row.tree)?;
        }
        Ok(survey.into_damage().1)
    }

    /// From now on nothing is read from these packs.
    pub(crate) fn hide(&self, packs: &HashSet<PackName>) {
        let mut live = self.lock_live_write();
        live.hidden.extend(packs.iter().copied());
        let Live { packs, hidden, .. } = &mut *live;
        packs.retain(|name, _| !hidden.contains(name));
    }

    /// Whole packs from elsewhere.
    fn replace_packs(
        &self,
        bad: &mut Bad,
        sources: &mut Sources<'_>,
        new: &mut NewPacks<'_>,
        changes: &mut Changes,
    ) -> Result<()> {
        let here = self.objects().local_path("packs");
        let in_place = here.filter(|_| self.is_alone());
        let mut replaced = HashSet::new();
        for (name, len, _) in self.rows_of(bad)? {
            let dir = in_place.clone().unwrap_or_else(std::env::temp_dir);
            let copy = Copy(disk::temporary_path(&dir));
            let ask = |source: &dyn Source| -> Result<Option<Directory>> {
                if !source.pack(name, len, &copy.0)? {
                    return Ok(None);
                }
                // What rotted there, too, is no help.
                Ok(self.check_copy(&copy.0, len)?.ok())
            };
            let Some((directory, brought)) = sources.first(ask) else {
                continue;
            };
            brought.packs += 1;
            brought.pack_bytes += len;
            match &in_place {
                Some(dir) => {
                    let target = dir.join(name.to_string());
                    disk::rename(&copy.0, &target).map_err(Error::file("rename", &target))?;
                    self.forget_pack(name);
                    self.inner.index.add_pack(name, &directory)?;
                }
                None => {
                    let other = new.whole(&copy.0, len, &directory)?;
                    changes.renamed.push((name, other));
                    self.hide(&HashSet::from([name]));
                }
            }
            replaced.insert(name);
        }
        bad.packs.retain(|name, _| !replaced.contains(name));
        Ok(())
    }

    /// Whether a file is a whole pack of this repository, every blob of it that stands alone.
    fn check_copy(&self, path: &Path, len: u64) -> Result<Result<Directory, String>> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        let found = file.metadata().map_err(Error::file("open", path))?.len();
        let Some(at) = len.checked_sub(TRAILER_LEN as u64).filter(|_| found == len) else {
            return Ok(Err(format!("it has {found} bytes, {len} expected")));
        };
        let mut trailer = [0; TRAILER_LEN];
        file.read_exact_at(&mut trailer, at)
            .map_err(Error::file("read", path))?;
        let trailer = match Trailer::decode(&trailer, len) {
            Ok(trailer) => trailer,
            Err(why) => return Ok(Err(why)),
        };
        let mut read = |offset: u64, len: usize| -> Result<Option<Vec<u8>>> {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, offset)
                .map_err(Error::file("read", path))?;
            Ok(Some(bytes))
        };
        let bytes = read(trailer.directory_offset, trailer.directory_len as usize)?;
        let decoded = reader::decode_directory(&trailer, &bytes.unwrap_or_default(), self.seal());
        let directory = match decoded {
            Ok(directory) => directory,
            Err(why) => return Ok(Err(why)),
        };
        let checked = self.check_pieces(&trailer, &directory, &|_| true, true, &mut read)?;
        Ok(match checked.why {
            None => Ok(directory),
            Some(why) => Err(why),
        })
    }

    /// What is left of packs whose directory is lost moves to new ones.
    fn salvage_packs(
        &self,
        bad: &Bad,
        sources: &mut Sources<'_>,
        new: &mut NewPacks<'_>,
    ) -> Result<()> {
        for (name, _, damage) in self.rows_of(bad)? {
            if matches!(damage, PackDamage::Blobs { .. }) {
                continue;
            }
            let bytes = match self.objects().get(&name.key()) {
                Ok(bytes) => bytes,
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            let mut bases = |base: &[u8; crate::id::BASE_LEN]| self.bases_elsewhere(base);
            let left = salvage::salvage(&bytes, self.ids(), self.seal(), &mut bases);
            let brought = sources.from.entry(format!("what is left of pack {name}"));
            let brought = brought.or_default();
            for entry in &left.frames {
                new.frame(entry, &bytes[entry.offset as usize..entry.end() as usize])?;
                brought.blobs += entry.blobs.len() as u64;
                let len = |blob: &crate::pack::BlobEntry| u64::from(blob.part.len);
                brought.blob_bytes += entry.blobs.iter().map(len).sum::<u64>();
            }
            if left.frames.is_empty() {
                sources.from.remove(&format!("what is left of pack {name}"));
            }
            new.flush()?;
        }
        Ok(())
    }

    /// Plain bytes of the blobs of live packs whose id begins so.
    fn bases_elsewhere(&self, base: &[u8; crate::id::BASE_LEN]) -> Vec<Vec<u8>> {
        let Ok(places) = self.inner.index.get_base(base) else {
            return Vec::new();
        };
        let ids: HashSet<Id> = places.into_iter().map(|(id, _)| id).collect();
        let read = |id: &Id| {
            let chain = self.locate(id).ok()??;
            let mut bytes = Vec::new();
            Kind::OF_DELTAS.iter().find_map(|kind| {
                let read = self.read_found(*kind, &chain, &Fetched::default(), &mut bytes);
                read.is_ok().then(|| bytes.clone())
            })
        };
        ids.iter().filter_map(read).collect()
    }

    /// Walks all snapshots and seeks what is lost in the other places, until there is no more.
    fn heal_blobs(
        &self,
        bad: &Bad,
        sources: &mut Sources<'_>,
        new: &mut NewPacks<'_>,
    ) -> Result<()> {
        for _ in 0..ROUNDS {
            let mut healed: HashSet<Id> = HashSet::new();
            let mut heal = |wanted: &Wanted<'_>| -> Result<Option<Vec<u8>>> {
                if wanted.kind == Kind::Chunk && healed.contains(&wanted.id) {
                    return Ok(Some(Vec::new()));
                }
                let ask = |source: &dyn Source| -> Result<Option<Vec<u8>>> {
                    let bytes = source.blob(wanted)?;
                    Ok(bytes.filter(|bytes| self.ids().of(wanted.kind, bytes) == wanted.id))
                };
                let Some((bytes, brought)) = sources.first(ask) else {
                    return Ok(None);
                };
                if healed.insert(wanted.id) {
                    brought.blobs += 1;
                    brought.blob_bytes += bytes.len() as u64;
                    new.blob(wanted.kind, wanted.id, &bytes)?;
                }
                Ok(Some(bytes))
            };
            let mut survey = Survey::new(self, bad).healing(&mut heal);
            for row in self.state()?.snapshots() {
                survey.snapshot(row.id, row.tree)?;
            }
            drop(survey);
            new.flush()?;
            if healed.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing that was in a pack is missed: all that is damaged in it is elsewhere.
    fn is_settled(&self, name: PackName, len: u64, damage: &PackDamage) -> Result<bool> {
        let PackDamage::Blobs { bad, .. } = damage else {
            return Ok(false);
        };
        let directory = self.directory(name, len)?;
        let kinds = directory.frames.iter().flat_map(|f| &f.blobs);
        let mut bytes = Vec::new();
        for ((id, place), blob) in locations(name, &directory).zip(kinds) {
            if !bad.contains(&place.ordinal) {
                continue;
            }
            let Some(chain) = self.locate(&id)? else {
                return Ok(false);
            };
            let kind = blob.part.kind;
            match self.read_found(kind, &chain, &Fetched::default(), &mut bytes) {
                Ok(()) => {}
                Err(e) if e.is_lost() => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Writes what is whole in a pack into new packs.
    fn move_good_frames(
        &self,
        name: PackName,
        len: u64,
        bad: &HashSet<u32>,
        new: &mut NewPacks<'_>,
    ) -> Result<()> {
        let directory = self.directory(name, len)?;
        let payload_at = frame::payload_at(self.seal().is_some()) as u64;
        let mut places = locations(name, &directory);
        let mut bytes = Vec::new();
        for entry in &directory.frames {
            let blobs: Vec<_> = entry.blobs.iter().zip(&mut places).collect();
            let whole = blobs.iter().all(|(_, (_, at))| !bad.contains(&at.ordinal));
            if whole && entry.payload_offset - entry.offset == payload_at {
                let len = (entry.end() - entry.offset) as usize;
                let stored = self.objects().get_range(&name.key(), entry.offset, len)?;
                new.frame(entry, &stored)?;
                continue;
            }
            // Frames of other versions, and what is whole in a frame that is not.
            for (blob, (id, place)) in blobs {
                let Some(chain) = self.chain(id, place)? else {
                    continue;
                };
                let kind = blob.part.kind;
                match self.read_chain(kind, &chain, &Fetched::default(), &mut bytes) {
                    Ok(()) => new.blob(kind, id, &bytes)?,
                    Err(e) if e.is_lost() => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// One root whose snapshots use what is whole.
    fn commit_repair(&self, operation: &Operation, bad: &Bad, changes: &Changes) -> Result<()> {
        let Changes {
            renamed, retired, ..
        } = changes;
        let (new_names, location): (HashMap<_, _>, _) =
            (renamed.iter().copied().collect(), self.location());
        for _ in 0..TRIES {
            let state = self.state()?;
            let mut usages = Vec::new();
            for row in state.snapshots() {
                let old: BTreeMap<PackName, u64> = state
                    .usage(&row.id)
                    .into_iter()
                    .map(|(name, bytes)| (*new_names.get(&name).unwrap_or(&name), bytes))
                    .collect();
                let usage = match old.keys().any(|name| bad.packs.contains_key(name)) {
                    true => self.usage_now(row, &old, bad, changes)?,
                    false => old,
                };
                usages.push((row.serial, usage));
            }
            let lengths: HashMap<PackName, u64> = {
                let live = self.lock_live_read();
                let rows = state.packs().map(|row| (row.name, row.len));
                let pending = live.pending.iter().map(|(name, len)| (*name, *len));
                rows.chain(pending).collect()
            };
            let base = state.seq();
            let now = operation.time.unix_micros.div_euclid(1_000_000);
            let committed = self.commit_with(operation.clone(), |next| {
                if next.seq() != base + 1 {
                    return Err(Error::Contended {
                        location: location.clone(),
                        tries: 1,
                    });
                }
                for (old, new) in renamed {
                    next.take_over(old, *new, now)?;
                }
                for (serial, usage) in &usages {
                    let with_len: BTreeMap<PackName, (u64, u64)> = usage
                        .iter()
                        .filter_map(|(name, bytes)| Some((*name, (*lengths.get(name)?, *bytes))))
                        .collect();
                    next.set_usage(*serial, &with_len, self.is_alone())?;
                }
                next.retire(retired, now);
                Ok(())
            });
            match committed {
                // Somebody was faster; what they added is looked at, too.
                Err(Error::Contended { tries: 1, .. }) => {}
                Err(e) => return Err(e),
                Ok(_) => return Ok(()),
            }
        }
        Err(Error::Contended {
            location,
            tries: TRIES,
        })
    }

    /// The packs that a snapshot uses when those that are retired are not to be found. One that is
    /// not whole keeps all that it used, and what was moved out of that: nobody knows what it needs
    /// below a node that is lost.
    fn usage_now(
        &self,
        row: &Row,
        old: &BTreeMap<PackName, u64>,
        bad: &Bad,
        changes: &Changes,
    ) -> Result<BTreeMap<PackName, u64>> {
        let mut usage: BTreeMap<PackName, u64> = BTreeMap::new();
        let mut visit = |place: &Location| {
            *usage.entry(place.pack).or_default() += place.stored_share();
        };
        let is_whole = Survey::new(self, bad)
            .visiting(&mut visit)
            .snapshot(row.id, row.tree)?;
        for (name, bytes) in old {
            let is_kept = !is_whole || bad.packs.contains_key(name);
            if is_kept && !changes.retired.contains(name) {
                usage.entry(*name).or_insert(*bytes);
            }
        }
        if !is_whole {
            for name in &changes.stored {
                usage.entry(*name).or_insert(1);
            }
        }
        Ok(usage)
    }
}

/// Each damaged snapshot, in the order of the table, with the first thing that it lost.
fn first_of_each<'r>(
    damage: &[Damage],
    rows: impl Iterator<Item = &'r Row>,
) -> Vec<(crate::id::SnapshotId, String)> {
    let mut first = HashMap::new();
    for lost in damage {
        for id in &lost.snapshots {
            first.entry(*id).or_insert_with(|| lost.to_string());
        }
    }
    rows.filter_map(|row| Some((row.id, first.remove(&row.id)?)))
        .collect()
}

/// A file that goes away unless it was renamed.
pub(crate) struct Copy(pub(crate) std::path::PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // Left behind it is one of the files that the next writer removes.
        let _ = disk::unlink(&self.0);
    }
}
