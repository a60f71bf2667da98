//! A snapshot against the managed cluster as it lies on the disk.
//!
//! Files that look as they did when a snapshot last read them are what that snapshot has. All
//! others are read and compared chunk by chunk with what is stored. A running server goes on
//! writing meanwhile: what is told is what it had written when each file was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use zenith_store::bulk::in_parallel;
use zenith_store::{
    ChunkId, File, Listing, Node, Repository, Snapshot, SnapshotId, SnapshotSource, Watch, World,
};

use super::stored::{self, Pair, is_inline, pages_that_differ};
use super::{Diff, FileChange, Layout, relations};
use crate::error::{Error, Result};
use crate::event::{self, Event};
use crate::facts::Facts;
use crate::lineage;
use crate::managed::Managed;
use crate::names::{Names, RelationId, is_catalog_file};
use crate::pg::path::{Fork, RelationFile, Rule, rule};
use crate::pg::wal::WalFacts;
use crate::pg::{self, Control, Lsn, Postmaster};
use crate::plan::{FileCache, Known, Plan, boot_id};
use crate::scan::{self, Entry, Motion, Unlogged};
use crate::snapshot::threads;
use crate::source::Source;

/// Chunks of a file that one thread takes at a time.
const PIECE_CHUNKS: u64 = 64;
const AUTO_CONF: &str = "postgresql.auto.conf";

/// What changed from a snapshot to the managed cluster, whether or not its server runs.
///
/// Errors: `Refusal::NoCluster` and such, those of `scan`, `pg` and the store.
pub fn cluster(
    managed: &Managed,
    repo: &Repository,
    before: SnapshotId,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Diff> {
    let (old, facts) = super::snapshot(repo, before)?;
    let now = Now::look(managed, repo)?;
    let listing = repo.listing(old.tree)?;
    let files = now.compare(repo, &listing, facts.block_size, &Bounds::none(), on)?;
    let databases = super::databases_of(&files);
    let layout = Layout::of(&facts);
    let (before, after) = match databases.is_empty() {
        true => Default::default(),
        false => (
            Names::of_snapshot(repo, old.tree, facts, &databases)?,
            now.names(managed),
        ),
    };
    let mut diff = relations::group(
        files,
        &relations::Sides {
            before: &before,
            after: &after,
            size_before: &|path| {
                Ok(match listing.get(path) {
                    Some(Node::File(file)) => Some(file.size),
                    _ => None,
                })
            },
            size_after: &|path| Ok(now.size(path)),
            layout,
        },
    )?;
    let bytes: u64 = now.scan.entries.iter().map(Entry::size).sum();
    diff.pages = bytes.div_ceil(layout.block_size.into());
    diff.is_moving = now.postmaster.is_some();
    Ok(diff)
}

/// What no snapshot holds yet, as far as looking for it is allowed to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// Pages of relations that are not what the snapshot has.
    pub pages: u64,
    /// Relations they belong to, catalogs apart.
    pub relations: u64,
    /// Bytes of WAL written since; none where positions do not compare, since the cluster is another
    /// run of what the snapshot was taken of.
    pub wal_bytes: Option<u64>,
    /// Whether looking came to an end before all was seen.
    pub at_least: bool,
}

/// How far looking goes.
#[derive(Debug)]
pub struct Bounds {
    bytes: Option<AtomicU64>,
    time: Option<(Watch, Duration)>,
    ended: AtomicBool,
}

impl Bounds {
    fn none() -> Bounds {
        Bounds {
            bytes: None,
            time: None,
            ended: AtomicBool::new(false),
        }
    }

    /// So many bytes are read, for so long, whichever ends first.
    pub fn new(world: &World, bytes: u64, time: Duration) -> Bounds {
        Bounds {
            bytes: Some(AtomicU64::new(bytes)),
            time: Some((world.watch(), time)),
            ended: AtomicBool::new(false),
        }
    }

    /// Whether so many bytes more may be read.
    fn allow(&self, bytes: u64) -> bool {
        let is_left = |(begun, time): &(Watch, Duration)| begun.elapsed() < *time;
        let in_time = self.time.as_ref().is_none_or(is_left);
        let take = |left: &AtomicU64| {
            let less = |left: u64| left.checked_sub(bytes);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
        };
        let allowed = in_time && self.bytes.as_ref().is_none_or(take);
        if !allowed {
            self.ended.store(true, Ordering::Relaxed);
        }
        allowed
    }
}

/// What of the managed cluster the snapshot does not hold, within bounds.
///
/// Errors: those of [`cluster`].
pub fn unsaved(
    managed: &Managed,
    repo: &Repository,
    tip: SnapshotId,
    bounds: &Bounds,
) -> Result<Unsaved> {
    let (snapshot, facts) = super::snapshot(repo, tip)?;
    let now = Now::look(managed, repo)?;
    let listing = repo.listing(snapshot.tree)?;
    let files = now.compare(repo, &listing, facts.block_size, bounds, &event::ignore)?;
    let mut unsaved = Unsaved {
        at_least: bounds.ended.load(Ordering::Relaxed),
        ..Unsaved::default()
    };
    let left_out = now.left_out(&files, &listing, Layout::of(&facts));
    let mut relations = BTreeMap::new();
    for file in files {
        if let Some((id, part)) = RelationId::of_path(&file.path)
            && (part.fork == Fork::Init || !left_out.contains(&id))
        {
            let touched = file.pages(facts.block_size).touched();
            unsaved.pages += touched;
            *relations.entry(id).or_insert(0) += touched;
        }
    }
    let is_catalog = |id: &RelationId| match facts.relation(id.database, id.filenode) {
        Some((database, relation)) => crate::names::Named { database, relation }.is_catalog(),
        None => is_catalog_file(*id),
    };
    let own = relations
        .iter()
        .filter(|(id, n)| **n > 0 && !is_catalog(id));
    unsaved.relations = own.count() as u64;
    unsaved.wal_bytes = wal_since(managed, &now.control, &snapshot, &facts)?;
    Ok(unsaved)
}

fn wal_since(
    managed: &Managed,
    control: &Control,
    snapshot: &Snapshot,
    facts: &Facts,
) -> Result<Option<u64>> {
    let pgdata = managed.home.pgdata();
    let identifier = control.system_identifier;
    if lineage::of(
        managed.home.world(),
        Some(&managed.home),
        &pgdata,
        identifier,
    )? != facts.lineage
    {
        return Ok(None);
    }
    let size = control.wal_segment_size;
    let since = match snapshot.source {
        // The end of a backup switches to the next segment; nothing is written in between.
        SnapshotSource::Online => {
            let start = Lsn(facts.stop_lsn.saturating_sub(1)).segment_start(size);
            start.0 + u64::from(size)
        }
        _ => facts.stop_lsn,
    };
    let from = control.checkpoint_lsn;
    let wal = WalFacts::from(control);
    let end = pg::wal_end::written_to(&pgdata, control.timeline, from, &wal);
    let end = end.map_err(Error::io("read", &pgdata.join("pg_wal")))?;
    Ok(Some(end.0.saturating_sub(since)))
}

/// The cluster as it lies there.
struct Now {
    scan: scan::Scan,
    control: Control,
    postmaster: Option<Postmaster>,
    known: Known,
    boot_id: String,
    by_path: HashMap<String, usize>,
}

impl Now {
    fn look(managed: &Managed, repo: &Repository) -> Result<Now> {
        managed.require_cluster()?;
        let pgdata = managed.home.pgdata();
        let postmaster = managed.postmaster()?;
        let control = Control::read(&pgdata, managed.home.world())?;
        let version_dir = pg::tablespace::version_dir(control.major, control.catalog_version);
        let motion = match &postmaster {
            Some(_) => Motion::Running,
            None => Motion::Still,
        };
        // What a snapshot taken now would have.
        let unlogged = match (&postmaster, control.state) {
            (None, pg::ClusterState::ShutDown) => Unlogged::Take,
            _ => Unlogged::LeaveOut,
        };
        let scan = scan::scan(&pgdata, &version_dir, motion, unlogged)?;
        let cache = FileCache::load(
            &FileCache::path(&managed.home.file_cache_dir(), &pgdata),
            repo.world(),
        );
        let mut known = match cache {
            Some(cache) => known(repo, cache)?,
            None => Known::nothing(),
        };
        known.trust_local(&scan.entries);
        let files = scan.entries.iter().enumerate().filter(|(_, e)| !e.is_dir);
        Ok(Now {
            by_path: files.map(|(n, e)| (e.path.clone(), n)).collect(),
            scan,
            control,
            postmaster,
            known,
            boot_id: boot_id(),
        })
    }

    fn size(&self, path: &str) -> Option<u64> {
        let at = *self.by_path.get(path)?;
        Some(self.scan.entries[at].size())
    }

    /// By the server that runs, or else by the pages.
    fn names(&self, managed: &Managed) -> Names {
        let pgdata = managed.home.pgdata();
        let Some(postmaster) = &self.postmaster else {
            return Names::of_pgdata(&pgdata, &self.control);
        };
        Names::of_server(&managed.dsn(postmaster)).unwrap_or_else(|e| {
            let mut names = Names::of_pgdata(&pgdata, &self.control);
            names.warnings.push(format!(
                "the server was not asked for names, those it has written are shown: {e}"
            ));
            names
        })
    }

    /// Unlogged relations of which one side lacks the content, as [`relations::group`] finds them.
    fn left_out(
        &self,
        files: &[FileChange],
        listing: &Listing,
        layout: Layout,
    ) -> BTreeSet<RelationId> {
        let is_first = |part: &RelationFile| (part.fork, part.segment) == (Fork::Main, 0);
        let one_sided = files.iter().filter(|file| file.is_one_sided());
        let ids = one_sided.filter_map(|file| RelationId::of_path(&file.path));
        let ids = ids.filter(|(_, part)| is_first(part)).map(|(id, _)| id);
        ids.filter(|id| {
            let init = relations::path(layout, *id, Fork::Init, 0);
            listing.contains_key(&init) && self.by_path.contains_key(&init)
        })
        .collect()
    }

    /// What differs from what `listing` has.
    fn compare(
        &self,
        repo: &Repository,
        listing: &Listing,
        block_size: u32,
        bounds: &Bounds,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<FileChange>> {
        let (mut pairs, mut tasks, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for (path, node) in listing {
            let Node::File(before) = node else { continue };
            let is_gone = !self.by_path.contains_key(path);
            if is_gone && is_taken(path) {
                changes.push(FileChange {
                    path: path.clone(),
                    before: Some(before.size),
                    after: None,
                    changed: 0,
                });
            }
        }
        // pg_control changes with every checkpoint and says nothing about content.
        let files = self.scan.entries.iter().filter(|entry| !entry.is_dir);
        for entry in files.filter(|entry| entry.path != "global/pg_control") {
            let Some(Node::File(before)) = listing.get(&entry.path) else {
                changes.push(FileChange {
                    path: entry.path.clone(),
                    before: None,
                    after: Some(entry.size()),
                    changed: 0,
                });
                continue;
            };
            match self.known.decide(entry, &self.boot_id) {
                Plan::Reuse(after) => {
                    let pair = Pair {
                        path: entry.path.clone(),
                        before: Some(before.clone()),
                        after: Some(after),
                    };
                    if pair.differs() {
                        pairs.push(pair);
                    }
                }
                Plan::Read => tasks.push(Task {
                    entry,
                    before,
                    changed: AtomicU64::new(0),
                    // Its guard is in no snapshot.
                    differs: AtomicBool::new(
                        entry.size() != before.size && entry.path != AUTO_CONF,
                    ),
                }),
            }
        }
        changes.extend(stored::compare(
            repo,
            pairs,
            block_size,
            threads(repo.world(), 0),
        )?);
        let total = tasks.iter().map(|task| task.entry.size()).sum();
        on(Event::Total { bytes: total });
        read(repo, &tasks, block_size, bounds, on)?;
        changes.extend(tasks.into_iter().filter_map(Task::change));
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }
}

/// Whether a copy of the cluster has such a file: what only a snapshot has is no difference.
fn is_taken(path: &str) -> bool {
    rule(path, false) == Rule::Take
}

fn known(repo: &Repository, cache: FileCache) -> Result<Known> {
    let state = repo.state()?;
    let id = cache.snapshot.parse::<SnapshotId>();
    let row = id.ok().and_then(|id| state.snapshot(&id).cloned());
    Ok(match row {
        Some(row) => Known::new(cache, repo.listing(row.tree)?.into()),
        None => Known::nothing(),
    })
}

/// A file that is read.
struct Task<'a> {
    entry: &'a Entry,
    before: &'a File,
    /// Pages that both have and that differ.
    changed: AtomicU64,
    differs: AtomicBool,
}

impl Task<'_> {
    fn change(self) -> Option<FileChange> {
        self.differs.into_inner().then_some(FileChange {
            path: self.entry.path.clone(),
            before: Some(self.before.size),
            after: Some(self.entry.size()),
            changed: self.changed.into_inner(),
        })
    }

    fn found(&self, pages: u64) {
        if pages > 0 {
            self.changed.fetch_add(pages, Ordering::Relaxed);
            self.differs.store(true, Ordering::Relaxed);
        }
    }
}

/// Chunks of one file.
struct Piece<'a> {
    task: &'a Task<'a>,
    first: u64,
    ids: Vec<ChunkId>,
}

fn read(
    repo: &Repository,
    tasks: &[Task<'_>],
    block_size: u32,
    bounds: &Bounds,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let mut pieces = Vec::new();
    for task in tasks {
        let ids = repo.chunk_ids(task.before)?;
        if ids.is_empty() || task.entry.path == AUTO_CONF {
            pieces.push(Piece {
                task,
                first: 0,
                ids,
            });
            continue;
        }
        let parts = ids.chunks(PIECE_CHUNKS as usize).zip(0u64..);
        pieces.extend(parts.map(|(ids, n)| Piece {
            task,
            first: n * PIECE_CHUNKS,
            ids: ids.to_vec(),
        }));
    }
    in_parallel(threads(repo.world(), 0), &pieces, |piece| {
        let chunk_size = u64::from(repo.params().chunk_size);
        let left = piece
            .task
            .entry
            .size()
            .saturating_sub(piece.first * chunk_size);
        if piece.task.entry.path == AUTO_CONF || is_inline(piece.task.before) {
            whole(repo, piece.task, block_size, bounds)?;
        } else {
            compare_piece(repo, piece, block_size, bounds)?;
        }
        let bytes = left.min(PIECE_CHUNKS * chunk_size);
        on(Event::Read { bytes });
        Ok(())
    })
}

/// A small file, or the one that is not stored as it lies there.
fn whole(repo: &Repository, task: &Task<'_>, block_size: u32, bounds: &Bounds) -> Result<()> {
    if !bounds.allow(task.entry.size()) {
        return Ok(());
    }
    let source = &task.entry.source;
    let after = match std::fs::read(source) {
        Ok(bytes) => bytes,
        // A server dropped it meanwhile.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", source)(e)),
    };
    let before = repo.file_bytes(task.before)?;
    if task.entry.path == AUTO_CONF {
        let after = pg::guard::remove(&after);
        task.differs.store(before != after, Ordering::Relaxed);
        return Ok(());
    }
    task.found(pages_that_differ(&before, &after, block_size));
    Ok(())
}

fn compare_piece(
    repo: &Repository,
    piece: &Piece<'_>,
    block_size: u32,
    bounds: &Bounds,
) -> Result<()> {
    let entry = piece.task.entry;
    let chunk_size = u64::from(repo.params().chunk_size);
    let shorter = entry.size().min(piece.task.before.size);
    if piece.first * chunk_size >= shorter {
        return Ok(());
    }
    let source = match Source::open(&entry.source) {
        Ok(source) => source,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", &entry.source)(e)),
    };
    // Pages that are larger than chunks are read whole.
    let step = chunk_size.max(block_size.into());
    let per_step = (step / chunk_size) as usize;
    let (mut now, mut old, mut chunk) = (vec![0; step as usize], Vec::new(), Vec::new());
    for (ids, n) in piece.ids.chunks(per_step).zip(0u64..) {
        let at = piece.first * chunk_size + n * step;
        let len = step.min(shorter.saturating_sub(at)) as usize;
        if len == 0 {
            break;
        }
        if !bounds.allow(len as u64) {
            return Ok(());
        }
        let now = &mut now[..len];
        let got = source
            .read_at(now, at)
            .map_err(Error::io("read", &entry.source))?;
        let now = &now[..got];
        let is_same = ids
            .iter()
            .zip(now.chunks(chunk_size as usize))
            .all(|(id, bytes)| match id.is_zero() {
                true => bytes.iter().all(|byte| *byte == 0),
                false => repo.ids().chunk(bytes) == *id,
            });
        if is_same {
            continue;
        }
        old.clear();
        for id in ids {
            if id.is_zero() {
                old.resize(old.len() + chunk_size as usize, 0);
            } else {
                repo.read_chunk(*id, &mut chunk)?;
                old.extend_from_slice(&chunk);
            }
        }
        let common = old.len().min(got);
        // A page that has fewer bytes on one side differs; the rest of a longer file is counted
        // by its size.
        let whole_pages = match old.len() == got {
            true => common,
            false => common.next_multiple_of(block_size as usize),
        };
        let before = &old[..old.len().min(whole_pages)];
        let after = &now[..got.min(whole_pages)];
        piece
            .task
            .found(pages_that_differ(before, after, block_size));
    }
    Ok(())
}
