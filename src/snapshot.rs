//! The write path: cluster → snapshot.
//!
//! [`offline`] takes a stopped cluster or a base backup that lies in a directory, [`online`] a
//! running one. Both read top to bottom: is there anything to do; list; read; prove that what was
//! read belongs together; commit. A snapshot carries the WAL that a start on it needs. It is
//! complete or does not exist: if anything goes wrong before the commit, nothing is left but packs
//! that the next writer takes over.

mod config;
mod copy;
mod facts;
mod idle;
mod names;
mod pages;
mod parent;
mod read;
mod refuse;
pub(crate) mod rehearse;
pub(crate) mod stream;
mod wal;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zenith_store::{
    Committed, Node, Operation, RefChange, Repository, Snapshot, SnapshotId, SnapshotKind,
    SnapshotSource, State, World, Writer, WriterOptions,
};

use crate::checkout;
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::{Damage, Facts, LeftOut, Mark};
use crate::home::Home;
use crate::lazy;
use crate::lineage;
use crate::pg::wal::TimelineHistory;
use crate::pg::{self, ClusterState, Control, Label};
use crate::plan::FileCache;
use crate::scan::{self, Motion, Scan, Unlogged};
use crate::tree::{Tree, TreeWriter};
use config::Places;
use copy::Copy;
use facts::{collation, facts_of, libc_version, mark_at_rest, split_list, tablespace_facts};
use pages::Replay;
use parent::{Parent, base, before};
use read::{save_cache, store_files};
use refuse::{check_same_files, check_same_server, refuse_unfinished};
use wal::Span;

pub use crate::settings::OnDamage;

/// Threads where nobody says how many: one per processor, at most so many.
const THREADS_MAX: usize = 4;
/// Mode of files that come from the server's answers.
const FILE_MODE: u32 = 0o600;

/// How a snapshot is taken.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// The branch it goes to.
    pub branch: String,
    /// Where that branch begins if it does not exist yet.
    pub parent: Option<SnapshotId>,
    /// A folder of refs, one of which gets the snapshot instead of the branch: it goes on from
    /// `parent`, and the branch stays where it is.
    pub aside: Option<String>,
    /// For people.
    pub message: String,
    /// Why it is taken.
    pub kind: SnapshotKind,
    /// Commit nothing when nothing changed since the branch's tip.
    pub skip_if_unchanged: bool,
    /// Online: an immediate checkpoint instead of a spread one.
    pub fast: bool,
    /// Threads that read files; 0 chooses.
    pub threads: usize,
    /// Whether damaged pages are taken.
    pub on_damage: OnDamage,
    /// Trust no file times: read everything.
    pub read_all: bool,
    /// How hard is compressed.
    pub writer: WriterOptions,
    /// Who does it and when; its time is the snapshot's.
    pub operation: Operation,
    /// Name of this machine.
    pub host: String,
    /// Keeps the file cache and the cluster's lineage.
    pub home: Option<Home>,
}

impl SnapshotOptions {
    /// Where the branch is that gets the snapshot.
    fn tip(&self, state: &State) -> Option<SnapshotId> {
        match self.aside {
            Some(_) => None,
            None => state.get_ref(&branch_ref(&self.branch)),
        }
    }

    /// Who trusts no file times trusts no stored chunks either.
    fn writer(&self) -> WriterOptions {
        WriterOptions {
            check_stored: self.read_all,
            ..self.writer
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotReport {
    /// The snapshot; the branch's tip when nothing changed.
    pub id: SnapshotId,
    /// Whether nothing had changed, so that nothing was stored.
    pub unchanged: bool,
    /// Plain bytes of all files.
    pub size: u64,
    /// Stored bytes that came with it.
    pub new_bytes: u64,
    /// Plain bytes that had to be read.
    pub read_bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Where the cluster is consistent.
    pub lsn: pg::Lsn,
    /// What is not in it, and by which rule.
    pub left_out: Vec<LeftOut>,
    /// How many pages of it are damaged.
    pub damaged_pages: u64,
    /// For people, who were told by events, too.
    pub warnings: Vec<String>,
}

/// Takes a snapshot of the stopped cluster, or of the base backup, in `pgdata`. The caller holds
/// the home's lock.
///
/// Errors: `ServerRunning`, `NotShutDown`, `BackupWithoutWal`, `BackupIncremental`,
/// `BranchForeign`, `ClusterChanged`, `PagesDamaged`, those of `scan`, `pg` and the store.
pub fn offline(
    repo: &Repository,
    pgdata: &Path,
    opts: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    refuse_unfinished(pgdata, opts)?;
    checkout::refuse_running(pgdata)?;
    pg::version::major_of_dir(pgdata)?;
    let (control, control_bytes) = Control::read_with_bytes(pgdata, repo.world())?;
    let label = read_label(pgdata)?;
    let span = match &label {
        Some((label, _)) => Span::of_backup(pgdata, &control, label)?,
        None if control.state.is_shut_down() => Span::at_rest(pgdata, &control)?,
        None => {
            let state = control.state.to_string();
            return Err(Error::NotShutDown {
                pgdata: pgdata.to_owned(),
                state,
            });
        }
    };
    let parent = Parent::of(repo, opts, pgdata, control.system_identifier)?;
    let outside = Places::of_stopped(pgdata)?.outside(pgdata)?;
    let mut facts = Facts {
        lineage: lineage::of(
            repo.world(),
            opts.home.as_ref(),
            pgdata,
            control.system_identifier,
        )?,
        mark: mark_at_rest(pgdata, &control, label.is_some())?,
        config_digest: Some(config::digest(pgdata, &outside)?),
        ..facts_of(&control, &span, outside)
    };

    on(Event::Phase("reading files"));
    let version_dir = facts.tablespace_version_dir();
    let mut cache = FileCache::begin(repo.world());
    // Recovery is what empties unlogged relations, and a start after a clean stop has none.
    let clean = label.is_none() && control.state == ClusterState::ShutDown;
    let unlogged = if clean {
        Unlogged::Take
    } else {
        Unlogged::LeaveOut
    };
    let mut scan = scan::scan(pgdata, &version_dir, Motion::Still, unlogged)?;
    cache.scanned(repo.world());
    let writer = begin(repo, opts)?;
    let before = before(repo, parent.as_ref())?;
    let copy = Copy::new(&before, &writer, pgdata, &control, Motion::Still, opts, on);
    let mut tree = TreeWriter::new(repo, &writer);
    let mut read = store_files(&copy, parent.as_ref(), &scan, &mut cache, opts, &mut tree)?;
    for (path, file) in span.store(&copy)? {
        tree.add_stored(&path, file)?;
    }
    if let Some((_, bytes)) = &label {
        facts.tablespace_map = read_tablespace_map(pgdata, &scan)?;
        let path = pgdata.join("backup_label");
        let meta = std::fs::metadata(&path).map_err(Error::io("stat", &path))?;
        tree.add_bytes("backup_label", meta.mode(), bytes)?;
        scan.left_out
            .retain(|l| l.path != "backup_label" && l.path != "pg_wal/*");
    }
    tree.add_bytes("global/pg_control", control_mode(&scan), &control_bytes)?;
    let tree = tree.finish()?;

    // A server that started meanwhile would have written pg_control first.
    checkout::refuse_running(pgdata)?;
    if Control::read_with_bytes(pgdata, repo.world())?.1 != control_bytes {
        let what = "pg_control is another".to_owned();
        return Err(Error::ClusterChanged {
            pgdata: pgdata.to_owned(),
            what,
        });
    }
    facts.tablespaces = tablespace_facts(&scan);
    facts.left_out = std::mem::take(&mut scan.left_out);
    facts.wal_bytes = tree.wal_bytes;
    // At rest nothing restores pages; a base backup's WAL does.
    let replay = label.is_some().then(|| Replay::of(&span));
    facts.damage = read.judge(&copy, replay, &tree, opts)?;
    if let Some(parent) = &parent
        && opts.skip_if_unchanged
        && (parent.snapshot.tree == tree.id
            || parent.only_ran(repo, pgdata, &facts, before.listing(), &tree.listing)?)
    {
        writer.abort();
        // What the server left behind is not what the parent has there.
        cache.stamps.retain(|path, _| !idle::is_of_running(path));
        cache.snapshot = parent.id.to_string();
        save_cache(opts, pgdata, &cache);
        return Ok(SnapshotReport {
            warnings: read.warnings,
            ..parent.unchanged()
        });
    }
    if let Some(parent) = &parent {
        facts.collations.clone_from(&parent.facts.collations);
    }
    let names = names::read(pgdata, &control);
    facts.databases = names.databases;
    read.warn(&copy, names.warnings);
    commit(repo, writer, &tree, &facts, SnapshotSource::Offline, opts).map(|committed| {
        cache.snapshot = committed.id.to_string();
        save_cache(opts, pgdata, &cache);
        report(&committed, &tree, facts, read.bytes, read.warnings)
    })
}

/// Whether no transaction and no configuration changed in a stopped cluster that was made from this
/// snapshot. Where that cannot be told, it did.
///
/// Errors: those of the store, `Pg` when pg_control is damaged, `Io`.
pub(crate) fn is_as_made(repo: &Repository, id: SnapshotId, pgdata: &Path) -> Result<bool> {
    let snapshot = repo.snapshot(id)?;
    let facts = Facts::decode(&snapshot.body, &id)?;
    let (control, bytes) = Control::read_with_bytes(pgdata, repo.world())?;
    // A checkout writes into the directory what lay outside.
    if facts.outside_files.is_empty() && facts.config_digest != Some(config::digest(pgdata, &[])?) {
        return Ok(false);
    }
    let listing = repo.listing(snapshot.tree)?;
    let was_started = match listing.get("global/pg_control") {
        Some(Node::File(file)) => repo.file_bytes(file)? != bytes,
        _ => true,
    };
    if !was_started {
        return Ok(true);
    }
    let mark = mark_at_rest(pgdata, &control, pgdata.join("backup_label").exists())?;
    Ok(mark.is_some() && mark == facts.mark && control.timeline == facts.timeline)
}

/// Takes a snapshot of the cluster whose server answers at `dsn`; `pgdata` is its directory on
/// this machine. The caller holds the home's lock.
///
/// Errors: `OtherServer`, `BranchForeign`, `ClusterChanged`, `FileVanished`, `FileUnstable`,
/// `PagesDamaged`, those of `scan`, `pg` and the store.
pub fn online(
    repo: &Repository,
    pgdata: &Path,
    dsn: &str,
    opts: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    refuse_unfinished(pgdata, opts)?;
    // What tells whether anything changed is read before the backup begins: its calls write WAL,
    // and whatever is committed from now on counts as a change for the next snapshot.
    let server = pg::session::facts(dsn)?;
    check_same_server(pgdata, &server, repo.world())?;
    let parent = Parent::of(repo, opts, pgdata, server.system_identifier)?;
    let lineage = lineage::of(
        repo.world(),
        opts.home.as_ref(),
        pgdata,
        server.system_identifier,
    )?;
    let mark = Mark {
        xids: server.current_snapshot.clone(),
        prepared: server.prepared_xacts,
        replay_lsn: server.replay_lsn.map(|lsn| lsn.0),
    };
    let outside = Places {
        config: Some(server.config_file.clone()),
        hba: Some(server.hba_file.clone()),
        ident: Some(server.ident_file.clone()),
    }
    .outside(pgdata)?;
    let config_digest = Some(config::digest(pgdata, &outside)?);
    let now = idle::Now {
        timeline: server.timeline,
        checksums: server.data_checksums,
        insert_lsn: server.insert_lsn,
        lineage,
        mark: &mark,
        config_digest,
    };
    if let Some(parent) = &parent
        && opts.skip_if_unchanged
        && parent.still_is(repo, pgdata, &now)?
    {
        return Ok(parent.unchanged());
    }

    on(Event::Phase("waiting for a checkpoint"));
    let label = format!("zenith {}", opts.branch);
    let how = pg::session::BeginOptions {
        fast: opts.fast,
        label,
        world: repo.world().clone(),
    };
    let tablespaces = pg::tablespace::list(pgdata)?;
    // A write sets the times first and the bytes later, which a busy disk can make seconds. The
    // checkpoint that follows waits for all writes that have begun, so that a file whose times are
    // older than this moment has its bytes when it is read.
    let mut cache = FileCache::begin(repo.world());
    let mut session = pg::session::Session::begin(dsn, &how)?;
    check_same_files(pgdata, &session)?;

    if session.facts().postmaster_start_time != server.postmaster_start_time {
        let what = "the server was restarted".to_owned();
        return Err(Error::ClusterChanged {
            pgdata: pgdata.to_owned(),
            what,
        });
    }

    on(Event::Phase("reading files"));
    let control = Control::read(pgdata, repo.world())?;
    let version_dir = pg::tablespace::version_dir(control.major, control.catalog_version);
    let mut scan = scan::scan(pgdata, &version_dir, Motion::Running, Unlogged::LeaveOut)?;
    cache.scanned(repo.world());
    let writer = begin(repo, opts)?;
    let before = before(repo, parent.as_ref())?;
    let copy = Copy::new(
        &before,
        &writer,
        pgdata,
        &control,
        Motion::Running,
        opts,
        on,
    );
    let mut tree = TreeWriter::new(repo, &writer);
    let mut read = store_files(&copy, parent.as_ref(), &scan, &mut cache, opts, &mut tree)?;
    for path in scan::newly_unlogged(&scan)? {
        if tree.contains(&path) {
            tree.remove(&path);
            scan.left_out.push(LeftOut {
                path,
                reason: scan::UNLOGGED.to_owned(),
            });
        }
    }
    let names = names::ask(&mut session, repo, parent.as_ref(), tree.listing())?;
    read.warn(&copy, names.warnings);

    // pg_control comes last: on a standby its minimum recovery point covers all that was read.
    let (control, control_bytes) = Control::read_with_bytes(pgdata, repo.world())?;
    tree.add_bytes("global/pg_control", control_mode(&scan), &control_bytes)?;
    on(Event::Phase("ending the backup"));
    let mut finished = session.finish()?;
    if tablespaces != scan.tablespaces || tablespaces != pg::tablespace::list(pgdata)? {
        // Replay would make the new one where the original has it.
        let what = "a tablespace was created or dropped".to_owned();
        return Err(Error::ClusterChanged {
            pgdata: pgdata.to_owned(),
            what,
        });
    }
    let span = Span {
        facts: (&control).into(),
        history: TimelineHistory::read(pgdata, finished.timeline)?,
        start: finished.start_lsn,
        stop: finished.stop_lsn,
        verbatim: false,
    };
    on(Event::Phase("reading WAL"));
    for (path, file) in span.store(&copy)? {
        tree.add_stored(&path, file)?;
    }
    finished.hold.check()?;
    tree.add_bytes("backup_label", FILE_MODE, &finished.backup_label)?;
    let tree = tree.finish()?;
    let damage = read.judge(&copy, Some(Replay::of(&span)), &tree, opts)?;

    let facts = Facts {
        lineage,
        damage,
        mark: Some(mark),
        config_digest,
        libc: server.libc_version.clone().or_else(libc_version),
        icu: server.icu_version.clone(),
        collations: server.databases.iter().map(collation).collect(),
        preload_libraries: split_list(&server.shared_preload_libraries),
        server_version: Some(server.version.clone()),
        tablespaces: tablespace_facts(&scan),
        tablespace_map: std::mem::take(&mut finished.tablespace_map),
        databases: names.databases,
        left_out: std::mem::take(&mut scan.left_out),
        wal_bytes: tree.wal_bytes,
        ..facts_of(&control, &span, outside)
    };
    let source = if finished.from_standby {
        SnapshotSource::Standby
    } else {
        SnapshotSource::Online
    };
    drop(finished);
    on(Event::Phase("committing"));
    let committed = commit(repo, writer, &tree, &facts, source, opts)?;
    cache.snapshot = committed.id.to_string();
    save_cache(opts, pgdata, &cache);
    Ok(report(&committed, &tree, facts, read.bytes, read.warnings))
}

/// Commits a stored tree as the next snapshot of `opts.branch`. What came as a stream ends here
/// too.
///
/// Errors: `Store(RefMoved)` when the branch moved meanwhile.
pub fn commit(
    repo: &Repository,
    writer: Writer,
    tree: &Tree,
    facts: &Facts,
    source: SnapshotSource,
    opts: &SnapshotOptions,
) -> Result<Committed> {
    let state = repo.state()?;
    let tip = opts.tip(&state);
    let snapshot = Snapshot {
        version: zenith_store::object::snapshot::VERSION,
        tree: tree.id,
        parents: tip.or(opts.parent).into_iter().collect(),
        time: opts.operation.time,
        host: opts.host.clone(),
        message: opts.message.clone(),
        kind: opts.kind,
        source,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        files: tree.files,
        size: tree.size,
        body: facts.encode(),
    };
    let id = repo.ids().snapshot(&snapshot.encode());
    let name = match &opts.aside {
        Some(folder) => format!("{folder}/{}", id.short()),
        None => branch_ref(&opts.branch),
    };
    let refs = vec![RefChange {
        from: state.get_ref(&name),
        name,
        to: Some(id),
    }];
    Ok(writer.commit(
        snapshot,
        facts.summary().encode(),
        refs,
        opts.operation.clone(),
    )?)
}

/// Begins to store what is to become the next snapshot of `opts.branch`.
pub(crate) fn begin(repo: &Repository, opts: &SnapshotOptions) -> Result<Writer> {
    if let Some(home) = &opts.home {
        lazy::lean(home, repo, base(repo, opts)?, &opts.operation)?;
    }
    Ok(repo.writer_with(opts.writer())?)
}

/// The full name of a branch.
pub fn branch_ref(branch: &str) -> String {
    format!("branch/{branch}")
}

fn report(
    committed: &Committed,
    tree: &Tree,
    facts: Facts,
    read_bytes: u64,
    warnings: Vec<String>,
) -> SnapshotReport {
    SnapshotReport {
        id: committed.id,
        unchanged: false,
        size: tree.size,
        new_bytes: committed.new_bytes,
        read_bytes,
        files: tree.files,
        lsn: pg::Lsn(facts.stop_lsn),
        left_out: facts.left_out,
        damaged_pages: facts.damage.as_ref().map_or(0, Damage::count),
        warnings,
    }
}

/// `backup_label` of a base backup, parsed and as it is.
fn read_label(pgdata: &Path) -> Result<Option<(Label, Vec<u8>)>> {
    let Some(bytes) = disk::read_if_there(&pgdata.join("backup_label"))? else {
        return Ok(None);
    };
    let label = Label::parse(&bytes)?;
    if label.incremental_from.is_some() {
        return Err(Error::BackupIncremental {
            pgdata: pgdata.to_owned(),
        });
    }
    Ok(Some((label, bytes)))
}

/// `tablespace_map` of a base backup. What it names must be there: the files of a tablespace that
/// was not unpacked would be missing.
fn read_tablespace_map(pgdata: &Path, scan: &Scan) -> Result<Vec<u8>> {
    let bytes = disk::read_if_there(&pgdata.join("tablespace_map"))?.unwrap_or_default();
    for tablespace in pg::tablespace::parse_map(&bytes)? {
        if !scan
            .tablespaces
            .iter()
            .any(|found| found.oid == tablespace.oid)
        {
            let pg::Tablespace { oid, location } = tablespace;
            return Err(Error::TablespaceMissing { oid, location });
        }
    }
    Ok(bytes)
}

fn control_mode(scan: &Scan) -> u32 {
    let at = scan
        .entries
        .binary_search_by(|e| e.path.as_str().cmp("global/pg_control"));
    at.map_or(FILE_MODE, |at| scan.entries[at].mode)
}

/// As many as wanted; 0 means one per processor, at most four.
pub(crate) fn threads(world: &World, wanted: usize) -> usize {
    match wanted {
        0 => world.processors().min(THREADS_MAX),
        n => n,
    }
}
