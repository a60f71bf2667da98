//! The read path: snapshot → cluster in a directory.
//!
//! [`to_new`] fills an empty directory, [`in_place`] turns an older checkout or the managed
//! cluster into another snapshot and writes only what differs. Both go through [`fill`], whose
//! order is the promise: as long as not everything is in place and on disk there is no
//! `global/pg_control`, and without it no server starts. A directory whose marker says `placing`
//! and that has no pg_control is half made, and running the command again completes it.

pub mod journal;
mod place;
pub(crate) mod settings;
mod tablespaces;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use zenith_store::{Content, File, Listing, Node, Repository, SnapshotId, Stand};

use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::{Facts, Lineage};
use crate::head::Head;
use crate::home::Home;
use crate::marker::{self, Marker};
use crate::pg;
use crate::pg::user::RunAs;
use crate::plan::{self, FileCache, Known};
use crate::scan::Stamp;
use crate::snapshot::threads;
use journal::{Journal, Step};
use place::{Place, Source, Wanted};
use tablespaces::Tablespaces;

pub use journal::pending;

/// PGDATA is nobody else's business.
const ROOT_MODE: u32 = 0o700;
/// Directories without which no server starts, whether or not a tree has them.
pub(crate) const DIRECTORIES: [&str; 19] = [
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
];
pub(crate) const CONTROL: &str = "global/pg_control";

/// How a checkout is made.
#[derive(Debug, Clone)]
pub struct CheckoutOptions {
    /// Leave out the settings that keep the copy from disturbing its original.
    pub unguarded: bool,
    /// Where tablespaces lay → where they are to lie.
    pub tablespace_mapping: Vec<(PathBuf, PathBuf)>,
    /// Bring everything to disk before it counts.
    pub sync: bool,
    /// Threads that write files; 0 chooses.
    pub threads: usize,
    /// Whom the files are given to, when that is another user.
    pub owner: Option<RunAs>,
    /// Keeps the file cache, so that the next snapshot or checkout need not read everything.
    pub home: Option<Home>,
    /// Where the home's HEAD goes together with the managed cluster.
    pub head: Option<Head>,
    /// Where the home stands before that. With it, the journal of a move in place stays until the
    /// caller has told the operation log, and removes it.
    pub from: Option<Stand>,
}

impl Default for CheckoutOptions {
    fn default() -> Self {
        CheckoutOptions {
            unguarded: false,
            tablespace_mapping: Vec::new(),
            sync: true,
            threads: 0,
            owner: None,
            home: None,
            head: None,
            from: None,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutReport {
    /// The snapshot.
    pub id: SnapshotId,
    /// Plain bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
    /// Plain bytes that were written; the rest was in place.
    pub written_bytes: u64,
    /// Plain bytes that were read to see whether they were in place.
    pub compared_bytes: u64,
    /// Files and directories that were removed.
    pub removed: u64,
    /// Files and directories that had changed and were brought to disk, its own notes aside.
    pub synced: u64,
    /// Oid → where the tablespace lies now.
    pub tablespaces: Vec<(u32, PathBuf)>,
    /// The lineage that begins here.
    pub lineage: Lineage,
}

/// Makes a cluster in `dir`, which is empty or not there, or was half made by the same command.
///
/// Errors: `TargetNotEmpty`, `TargetInvalid`, `TargetBusy`, `NoSuchTablespace`, `ServerRunning`, `Io`, those of
/// the store and `Pg(CannotSearch)`.
pub fn to_new(
    repo: &Repository,
    id: SnapshotId,
    dir: &Path,
    opts: &CheckoutOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<CheckoutReport> {
    let last = || go(opts.home.as_ref(), opts.head.as_ref());
    to_new_with(repo, id, dir, opts, on, &last)
}

/// The same, with a last step of the caller's before pg_control makes it a cluster.
pub(crate) fn to_new_with(
    repo: &Repository,
    id: SnapshotId,
    dir: &Path,
    opts: &CheckoutOptions,
    on: &(dyn Fn(Event) + Sync),
    last: &dyn Fn() -> Result<()>,
) -> Result<CheckoutReport> {
    let dir = &std::path::absolute(dir).map_err(Error::io("resolve", dir))?;
    let work = Work::load(repo, id, dir, opts, on)?;
    work.refuse_unusable_target()?;
    // Before anything is made, and again when nobody else can be filling it any more.
    work.refuse_content()?;
    let _alone = lock_target(dir)?;
    let resumes = work.refuse_content()?;
    place::directory(dir, ROOT_MODE, opts.owner.as_ref())?;
    work.fill(Known::nothing(), resumes, last)
}

/// Makes the directory where it is missing, and keeps other checkouts and exports out of it as
/// long as what is returned lives. The lock is on the directory itself, so that nothing of it
/// stays behind and it counts for the commands of all homes.
pub(crate) fn lock_target(dir: &Path) -> Result<Flock<fs::File>> {
    let above = disk::parent(dir);
    fs::create_dir_all(above).map_err(Error::io("create", above))?;
    disk::create_dir(dir, ROOT_MODE)?;
    let open = fs::File::open(dir).map_err(Error::io("open", dir))?;
    Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::TargetBusy {
            dir: dir.to_owned(),
        },
        errno => Error::io("lock", dir)(errno.into()),
    })
}

/// Turns the cluster in `dir`, an older checkout or the managed cluster of `home`, into snapshot
/// `id`. What is there and not in a snapshot is lost. The caller holds the home's lock.
///
/// Errors: `TargetForeign`, `ServerRunning`, `CheckoutPending` for another directory, those of
/// [`to_new`].
pub fn in_place(
    repo: &Repository,
    id: SnapshotId,
    dir: &Path,
    home: &Home,
    opts: &CheckoutOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<CheckoutReport> {
    let dir = &std::path::absolute(dir).map_err(Error::io("resolve", dir))?;
    let before = pending(home)?;
    if let Some(other) = before.as_ref().filter(|j| !journal::same_dir(&j.dir, dir)) {
        let (dir, snapshot) = (other.dir.clone(), other.snapshot.clone());
        return Err(Error::CheckoutPending { dir, snapshot });
    }
    let work = Work::load(repo, id, dir, opts, on)?;
    work.refuse_unusable_target()?;
    let is_managed = journal::same_dir(dir, &home.pgdata());
    if !is_managed && before.is_none() && Marker::read(dir)?.is_none() {
        return Err(Error::TargetForeign { dir: dir.clone() });
    }
    let _alone = lock_target(dir)?;
    let marker = Marker::read(dir)?;
    // If we stopped after pg_control was in place, all is done but the journal; and a server may
    // have written here since.
    let control = dir.join(CONTROL);
    let head = wanted_head(before.as_ref(), id, home, opts.head.as_ref())?;
    if let (Some(before), Some(mut marker)) = (&before, marker.clone())
        && before.step == Step::Placing
        && before.snapshot == id.to_string()
        && control.exists()
    {
        end(home, dir, &mut marker, head.as_ref())?;
        if opts.from.is_none() {
            journal::remove(home)?;
        }
        return work.report(&marker, place::Placed::default(), 0);
    }
    let ours = marker.map(|m| m.tablespaces).unwrap_or_default();
    work.tablespaces.refuse_occupied(&ours)?;

    let mut journal = Journal {
        dir: dir.clone(),
        snapshot: id.to_string(),
        head: head.as_ref().map(Head::to_string),
        from_head: opts.from.as_ref().map(|from| from.head.clone()),
        from: opts
            .from
            .as_ref()
            .and_then(|from| from.holds)
            .map(|id| id.to_string()),
        step: Step::Begun,
    };
    journal.write(home)?;
    if let Err(e) = take_control(dir) {
        // Everything is as it was.
        match &before {
            Some(before) => before.write(home)?,
            None => journal::remove(home)?,
        }
        return Err(e);
    }
    journal.step = Step::Placing;
    journal.write(home)?;
    place::directory(dir, ROOT_MODE, opts.owner.as_ref())?;
    let known = work.known(home)?;
    let last = || go(Some(home), head.as_ref());
    let report = work.fill(known, before.is_some(), &last)?;
    if opts.from.is_none() {
        journal::remove(home)?;
    }
    Ok(report)
}

/// Completes a checkout into `dir` that lacks nothing but the end of its journal, with a last step
/// of the caller's before that goes.
///
/// Errors: `HomeDamaged`, `Io`, those of the last step.
pub(crate) fn complete(
    home: &Home,
    dir: &Path,
    last: impl FnOnce(&Journal) -> Result<()>,
) -> Result<()> {
    let ours = |journal: &Journal| journal::same_dir(&journal.dir, dir);
    let Some(journal) = pending(home)?.filter(ours) else {
        return Ok(());
    };
    match Marker::read(dir)? {
        Some(mut marker) if journal.step == Step::Placing && dir.join(CONTROL).exists() => {
            end(home, dir, &mut marker, journal.head(home)?.as_ref())?;
            last(&journal)?;
            journal::remove(home)
        }
        _ => Ok(()),
    }
}

fn end(home: &Home, dir: &Path, marker: &mut Marker, head: Option<&Head>) -> Result<()> {
    marker.complete(dir)?;
    go(Some(home), head)
}

/// HEAD goes along before the cluster is whole: its next snapshot must not go to the branch it
/// left.
fn go(home: Option<&Home>, head: Option<&Head>) -> Result<()> {
    match (home, head) {
        (Some(home), Some(head)) => home.set_head(head),
        _ => Ok(()),
    }
}

/// Where HEAD goes. Whoever completes a checkout by naming the snapshot alone means what the
/// interrupted command meant.
fn wanted_head(
    before: Option<&Journal>,
    id: SnapshotId,
    home: &Home,
    asked: Option<&Head>,
) -> Result<Option<Head>> {
    if let (Some(before), None | Some(Head::Detached(_))) = (before, asked)
        && before.snapshot == id.to_string()
        && before.head.is_some()
    {
        return before.head(home);
    }
    Ok(asked.cloned())
}

/// Takes pg_control away durably: from here on no server starts. One that has read it made its
/// `postmaster.pid` before (PostmasterMain in postmaster.c), is seen by that, and gets it back.
fn take_control(dir: &Path) -> Result<()> {
    let control = dir.join(CONTROL);
    let aside = dir.join("global/pg_control.aside");
    match fs::rename(&control, &aside) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return refuse_running(dir),
        Err(e) => return Err(Error::io("rename", &control)(e)),
    }
    if let Err(e) = refuse_running(dir) {
        fs::rename(&aside, &control).map_err(Error::io("rename", &aside))?;
        disk::sync_dir(disk::parent(&control))?;
        return Err(e);
    }
    disk::remove(&aside)
}

/// Files are read and moved while no server runs on them.
///
/// Errors: `ServerRunning`.
pub(crate) fn refuse_running(dir: &Path) -> Result<()> {
    match pg::server::postmaster(dir)? {
        Some(postmaster) => Err(Error::ServerRunning {
            pgdata: dir.to_owned(),
            pid: postmaster.pid,
        }),
        None => Ok(()),
    }
}

/// A snapshot on its way into a directory.
struct Work<'a> {
    repo: &'a Repository,
    id: SnapshotId,
    dir: &'a Path,
    opts: &'a CheckoutOptions,
    on: &'a (dyn Fn(Event) + Sync),
    size: u64,
    files: u64,
    facts: Facts,
    listing: Listing,
    control: File,
    tablespaces: Tablespaces,
}

impl<'a> Work<'a> {
    fn load(
        repo: &'a Repository,
        id: SnapshotId,
        dir: &'a Path,
        opts: &'a CheckoutOptions,
        on: &'a (dyn Fn(Event) + Sync),
    ) -> Result<Work<'a>> {
        let snapshot = repo.snapshot(id)?;
        let facts = Facts::decode(&snapshot.body, &id)?;
        let mut listing = repo.listing(snapshot.tree)?;
        let Some(Node::File(control)) = listing.remove(CONTROL) else {
            let why = format!("it has no {CONTROL}");
            return Err(Error::NotACluster {
                id: id.to_string(),
                why,
            });
        };
        let tablespaces = Tablespaces::plan(&facts, dir, &opts.tablespace_mapping)?;
        let (size, files) = (snapshot.size, snapshot.files);
        Ok(Work {
            repo,
            id,
            dir,
            opts,
            on,
            size,
            files,
            facts,
            listing,
            control,
            tablespaces,
        })
    }

    /// That the target is empty or not there, or was half made by the same command: whether it
    /// was.
    fn refuse_content(&self) -> Result<bool> {
        let dir = self.dir;
        let there = if dir.is_dir() {
            Marker::half_made(dir)?
        } else {
            None
        };
        let ours = there.filter(|marker| marker.snapshot == self.id.to_string());
        if ours.is_none()
            && let Some(found) = tablespaces::first_name(dir)?
        {
            return Err(Error::TargetNotEmpty {
                dir: dir.to_owned(),
                found,
            });
        }
        let resumes = ours.is_some();
        let tablespaces = ours.map(|marker| marker.tablespaces).unwrap_or_default();
        self.tablespaces.refuse_occupied(&tablespaces)?;
        Ok(resumes)
    }

    fn refuse_unusable_target(&self) -> Result<()> {
        let dir = self.dir;
        if dir.is_dir() {
            refuse_running(dir)?;
        } else if fs::symlink_metadata(dir).is_ok() {
            let why = "it is no directory".to_owned();
            return Err(Error::TargetInvalid {
                dir: dir.to_owned(),
                why,
            });
        }
        let user = self.opts.owner.clone().unwrap_or_else(pg::user::current);
        pg::user::can_search(disk::parent(dir), &user)?;
        for tablespace in self.tablespaces.0.values() {
            pg::user::can_search(disk::parent(tablespace), &user)?;
        }
        Ok(())
    }

    /// What the home knows about the files in the directory.
    fn known(&self, home: &Home) -> Result<Known> {
        let cache = FileCache::load(
            &FileCache::path(&home.file_cache_dir(), self.dir),
            self.repo.world(),
        );
        let Some(cache) = cache else {
            return Ok(Known::nothing());
        };
        let Ok(id) = cache.snapshot.parse::<SnapshotId>() else {
            return Ok(Known::nothing());
        };
        let state = self.repo.state()?;
        let Some(row) = state.snapshot(&id) else {
            return Ok(Known::nothing());
        };
        let mut known = Known::new(cache, self.repo.listing(row.tree)?.into());
        let dirs = self
            .tablespaces
            .0
            .values()
            .map(PathBuf::as_path)
            .chain([self.dir]);
        known.trust_local_dirs(dirs);
        Ok(known)
    }

    /// Everything, then `last`, then pg_control. The directory exists, is locked and holds no
    /// pg_control. One that `resumes` brings to disk what the run before it wrote, too.
    fn fill(
        &self,
        known: Known,
        resumes: bool,
        last: &dyn Fn() -> Result<()>,
    ) -> Result<CheckoutReport> {
        let owner = self.opts.owner.as_ref();
        // First the marker: from here on the directory is known as half made.
        let old = Marker::read(self.dir)?
            .map(|m| m.tablespaces)
            .unwrap_or_default();
        let lineage = Lineage::random(self.repo.world());
        let mut marker = Marker::new(self.dir, self.id.to_string(), lineage.to_string())?;
        let mut places: BTreeSet<PathBuf> = self.tablespaces.0.values().cloned().collect();
        places.extend(old.iter().cloned());
        marker.tablespaces = places.into_iter().collect();
        marker.write(self.dir)?;
        self.give(&self.dir.join(marker::NAME))?;

        (self.on)(Event::Phase("writing files"));
        (self.on)(Event::Total {
            bytes: self.size.saturating_sub(self.control.size),
        });
        let (directories, wanted) = self.wanted()?;
        refuse_running(self.dir)?;
        let mut dirty_dirs = BTreeSet::new();
        let mut removed = self.remove_surplus(&directories, &wanted, &mut dirty_dirs)?;
        for place in self.tablespaces.0.values() {
            let above = disk::parent(place);
            if !above.exists() {
                fs::create_dir_all(above).map_err(Error::io("create", above))?;
                place::directory(above, ROOT_MODE, owner)?;
            }
            dirty_dirs.insert(above.to_owned());
        }
        for (path, mode) in &directories {
            let target = self.tablespaces.resolve(self.dir, path);
            if place::directory(&target, *mode, owner)? || resumes {
                dirty_dirs.insert(disk::parent(&target).to_owned());
                dirty_dirs.insert(target);
            }
        }
        for (oid, place) in &self.tablespaces.0 {
            if self.link(*oid, place)? || resumes {
                dirty_dirs.insert(self.dir.join("pg_tblspc"));
            }
        }
        let place = Place {
            repo: self.repo,
            known,
            boot_id: plan::boot_id(),
            owner,
            threads: threads(self.repo.world(), self.opts.threads),
            on: self.on,
        };
        let placed = place.run(&wanted)?;
        for place in old
            .iter()
            .filter(|old| !self.tablespaces.0.values().any(|p| p == *old))
        {
            removed += self.remove_tablespace(place)?;
        }
        let tablespaces: Vec<PathBuf> = self.tablespaces.0.values().cloned().collect();
        if marker.tablespaces != tablespaces {
            marker.tablespaces = tablespaces;
            marker.write(self.dir)?;
            self.give(&self.dir.join(marker::NAME))?;
        }
        let mut synced = 0;
        if self.opts.sync {
            (self.on)(Event::Phase("syncing"));
            dirty_dirs.extend(placed.dirty_dirs.iter().cloned());
            let roots: Vec<PathBuf> = self
                .tablespaces
                .0
                .values()
                .cloned()
                .chain([self.dir.to_owned()])
                .collect();
            let dirty = if resumes {
                wanted.iter().map(|wanted| wanted.target.clone()).collect()
            } else {
                placed.dirty.clone()
            };
            synced = (dirty.len() + dirty_dirs.len()) as u64;
            dirty_dirs.insert(self.dir.to_owned());
            dirty_dirs.insert(disk::parent(self.dir).to_owned());
            place::sync(&dirty, &dirty_dirs, &roots)?;
        }
        let cache = self.cache(&wanted, &placed.stamps);
        last()?;
        self.write_control()?;
        marker.complete(self.dir)?;
        if let (Some(home), Some(cache)) = (&self.opts.home, cache)
            && let Err(e) = cache.save(&FileCache::path(&home.file_cache_dir(), self.dir))
        {
            tracing::warn!("the file cache is not saved: {e}");
        }
        Ok(CheckoutReport {
            synced,
            ..self.report(&marker, placed, removed)?
        })
    }

    /// Directories with their modes, and files, as they are to be. pg_control is not among them.
    fn wanted(&self) -> Result<(BTreeMap<String, u32>, Vec<Wanted>)> {
        let mut directories: BTreeMap<String, u32> = DIRECTORIES
            .iter()
            .map(|path| ((*path).to_owned(), ROOT_MODE))
            .collect();
        if self.facts.major >= 17 {
            directories.insert("pg_wal/summaries".to_owned(), ROOT_MODE);
        }
        let mut files: BTreeMap<String, (u32, Source)> = BTreeMap::new();
        for (path, node) in &self.listing {
            match node {
                Node::Directory { .. } if path.is_empty() => {}
                Node::Directory { mode } => {
                    directories.insert(path.clone(), *mode);
                }
                Node::File(file) => {
                    files.insert(path.clone(), (file.mode, Source::Stored(file.clone())));
                }
            }
        }
        for (name, bytes) in settings::missing(&self.facts, |name| files.contains_key(name)) {
            files.insert(name, (0o600, Source::Bytes(bytes)));
        }
        if !self.opts.unguarded {
            const AUTO_CONF: &str = "postgresql.auto.conf";
            let (mode, now) = match files.get(AUTO_CONF) {
                Some((mode, Source::Stored(file))) => (*mode, self.repo.file_bytes(file)?),
                _ => (0o600, Vec::new()),
            };
            let guarded = pg::guard::add(&now);
            files.insert(AUTO_CONF.to_owned(), (mode, Source::Bytes(guarded)));
        }
        let wanted = files.into_iter().map(|(path, (mode, source))| Wanted {
            target: self.tablespaces.resolve(self.dir, &path),
            path,
            mode,
            source,
        });
        Ok((directories, wanted.collect()))
    }

    /// Removes what is there and should not be; gives how much.
    fn remove_surplus(
        &self,
        directories: &BTreeMap<String, u32>,
        wanted: &[Wanted],
        dirty_dirs: &mut BTreeSet<PathBuf>,
    ) -> Result<u64> {
        let files: BTreeSet<&str> = wanted.iter().map(|w| w.path.as_str()).collect();
        let mut removed = 0;
        let mut left = vec![(String::new(), self.dir.to_owned())];
        // Beside the directory of this major and catalog lie those of other clusters.
        let version = self.facts.tablespace_version_dir();
        for (oid, place) in &self.tablespaces.0 {
            left.push((format!("pg_tblspc/{oid}/{version}"), place.join(&version)));
        }
        while let Some((prefix, dir)) = left.pop() {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("read", &dir)(e)),
            };
            for entry in entries {
                let entry = entry.map_err(Error::io("read", &dir))?;
                let kind = entry
                    .file_type()
                    .map_err(Error::io("stat", &entry.path()))?;
                // A name that is not UTF-8 is in no tree.
                let name = entry.file_name().into_string().ok();
                let path = name.map(|name| {
                    if prefix.is_empty() {
                        name
                    } else {
                        format!("{prefix}/{name}")
                    }
                });
                let keep = path.as_deref().is_some_and(|path| {
                    if kind.is_dir() {
                        directories.contains_key(path) && !self.is_link(path)
                    } else if kind.is_symlink() {
                        // A right link stays; `link` looks at where it leads.
                        self.is_link(path)
                    } else {
                        kind.is_file() && (files.contains(path) || marker::is_marker(path))
                    }
                });
                match path {
                    Some(path) if keep && kind.is_dir() => left.push((path, entry.path())),
                    _ if keep => {}
                    _ => {
                        if kind.is_symlink() {
                            self.note_left(&entry.path());
                        }
                        removed += remove_all(&entry.path())?;
                        dirty_dirs.insert(dir.clone());
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Removes what this cluster had in a tablespace that it has no more, and the place itself
    /// where nothing else lies in it.
    fn remove_tablespace(&self, place: &Path) -> Result<u64> {
        let removed = remove_all(&place.join(self.facts.tablespace_version_dir()))?;
        match fs::remove_dir(place) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {
                let place = place.display();
                (self.on)(Event::Note(format!(
                    "{place} is no longer used and is left: others have files there"
                )));
            }
            Err(e) => return Err(Error::io("remove", place)(e)),
        }
        Ok(removed)
    }

    /// Whether `pg_tblspc/<oid>` is the link of a tablespace.
    fn is_link(&self, path: &str) -> bool {
        let oid = path
            .strip_prefix("pg_tblspc/")
            .and_then(|oid| oid.parse().ok());
        oid.is_some_and(|oid| self.tablespaces.0.contains_key(&oid))
    }

    /// A link that goes away leaves what it leads to: that may be anybody's.
    fn note_left(&self, link: &Path) {
        if let Ok(target) = fs::read_link(link) {
            let (link, target) = (link.display(), target.display());
            (self.on)(Event::Note(format!(
                "{link} led to {target}, which is left as it is"
            )));
        }
    }

    /// Makes the link of a tablespace; whether it was not there.
    fn link(&self, oid: u32, place: &Path) -> Result<bool> {
        let link = self.dir.join("pg_tblspc").join(oid.to_string());
        if fs::read_link(&link).is_ok_and(|target| target == place) {
            return Ok(false);
        }
        if fs::symlink_metadata(&link).is_ok() {
            self.note_left(&link);
            fs::remove_file(&link).map_err(Error::io("remove", &link))?;
        }
        symlink(place, &link).map_err(Error::io("link", &link))?;
        if let Some(owner) = &self.opts.owner {
            std::os::unix::fs::lchown(&link, Some(owner.uid), Some(owner.gid))
                .map_err(Error::io("chown", &link))?;
        }
        Ok(true)
    }

    /// The last step. A leftover of the temporary file is of no use to a server.
    fn write_control(&self) -> Result<()> {
        let path = self.dir.join(CONTROL);
        let bytes = self.repo.file_bytes(&self.control)?;
        pg::Control::parse(&bytes)?;
        let temp = disk::temp_name(&path);
        fs::write(&temp, &bytes).map_err(Error::io("write", &temp))?;
        fs::set_permissions(&temp, fs::Permissions::from_mode(self.control.mode))
            .map_err(Error::io("chmod", &temp))?;
        self.give(&temp)?;
        if self.opts.sync {
            let file = fs::File::open(&temp).map_err(Error::io("open", &temp))?;
            file.sync_all().map_err(Error::io("fsync", &temp))?;
        }
        fs::rename(&temp, &path).map_err(Error::io("rename", &temp))?;
        if self.opts.sync {
            disk::sync_dir(disk::parent(&path))?;
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some(owner) = &self.opts.owner else {
            return Ok(());
        };
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
            .map_err(Error::io("chown", path))
    }

    /// What the files looked like when they were written. A look at them now would take what
    /// somebody changed meanwhile for what the snapshot has.
    fn cache(&self, wanted: &[Wanted], stamps: &HashMap<String, Stamp>) -> Option<FileCache> {
        self.opts.home.as_ref()?;
        let of_chunks = |wanted: &&Wanted| {
            matches!(
                &wanted.source,
                Source::Stored(File {
                    content: Content::Extents(_),
                    ..
                })
            )
        };
        let stamps = wanted
            .iter()
            .filter(of_chunks)
            .filter_map(|w| Some((w.path.clone(), *stamps.get(&w.path)?)));
        Some(FileCache {
            snapshot: self.id.to_string(),
            stamps: stamps.collect(),
            ..FileCache::begin(self.repo.world())
        })
    }

    fn report(
        &self,
        marker: &Marker,
        placed: place::Placed,
        removed: u64,
    ) -> Result<CheckoutReport> {
        let lineage = marker.lineage.parse().map_err(|why| Error::HomeDamaged {
            path: self.dir.join(marker::NAME),
            why,
        })?;
        Ok(CheckoutReport {
            id: self.id,
            size: self.size,
            files: self.files,
            written_bytes: placed.written_bytes,
            compared_bytes: placed.compared_bytes,
            removed,
            synced: 0,
            tablespaces: self.tablespaces.0.clone().into_iter().collect(),
            lineage,
        })
    }
}

/// Removes a file, a link (not what it leads to) or a directory with all that is in it.
fn remove_all(path: &Path) -> Result<u64> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::io("stat", path)(e)),
    };
    let done = if meta.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    done.map_err(Error::io("remove", path))?;
    Ok(1)
}

#[cfg(test)]
mod tests;
