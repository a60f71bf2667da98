//! A repository: packs, an index over them and the root log, in a home or at a storage.
//!
//! Opening is here; `commit` writes roots, `read` takes things out, `writer` puts things in,
//! `transfer` moves them between repositories, `collect` and `verify` look after them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::blob::Cache;
use crate::error::{Error, Result};
use crate::header::{self, Header};
use crate::id::{Ids, PackName, SnapshotId};
use crate::index::{Index, Location, MemIndex};
use crate::keys::Keys;
use crate::log;
use crate::objects::{Created, Objects, disk, exclusive};
use crate::pack;
use crate::root::{Operation, PackRow, Root};
use crate::seal::Seal;
use crate::segments;
use crate::state::State;
use crate::world::World;

pub use crate::commit::Change;
pub use crate::header::{HEADER_KEY, Params, Remembered};

/// A reader that is left behind this often while it looks for the latest root gives up.
const LOOKS: u32 = 32;

/// Where the index lies.
#[derive(Debug, Clone)]
pub enum IndexChoice {
    /// In memory, filled from pack directories when something is read.
    Memory,
    /// In RocksDB, for the one writer.
    #[cfg(feature = "rocks")]
    Rocks(PathBuf),
    /// In RocksDB, beside a process that may be writing.
    #[cfg(feature = "rocks")]
    RocksReadOnly(PathBuf),
}

impl IndexChoice {
    /// The index of a home for its writer: RocksDB, or memory where that is not compiled in.
    pub fn writer(dir: PathBuf) -> Self {
        #[cfg(feature = "rocks")]
        return IndexChoice::Rocks(dir);
        #[cfg(not(feature = "rocks"))]
        {
            let _ = dir;
            IndexChoice::Memory
        }
    }

    /// The index of a home for readers. Where there is none, memory serves.
    pub fn reader(dir: PathBuf) -> Self {
        #[cfg(feature = "rocks")]
        if dir.join("CURRENT").exists() {
            return IndexChoice::RocksReadOnly(dir);
        }
        let _ = dir;
        IndexChoice::Memory
    }
}

/// A repository. Cheap to clone; clones are the same one.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) objects: Arc<dyn Objects>,
    world: World,
    id: String,
    params: Params,
    pub(crate) keys: Keys,
    pub(crate) index: Box<dyn Index>,
    indexed_for_good: bool,
    /// What an index that is open for reading does not know yet.
    pub(crate) overlay: MemIndex,
    pub(crate) live: RwLock<Live>,
    pub(crate) cache: Cache,
    alone: AtomicBool,
    /// The home that writes, where it takes care to be the only one.
    only: OnceLock<String>,
    /// So many packs without an index segment make one.
    pub(crate) segment_packs: AtomicUsize,
}

/// Which packs may be read, and the state that says so.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) state: Option<Arc<State>>,
    /// Of the latest root.
    pub(crate) packs: HashMap<PackName, u64>,
    /// Those of `packs` that are condemned.
    pub(crate) condemned: HashSet<PackName>,
    /// Of a writer that has not committed yet.
    pub(crate) pending: HashMap<PackName, u64>,
    /// Packs that are read no more, whatever the root says.
    pub(crate) hidden: HashSet<PackName>,
    /// Whether the index knows all of `packs`.
    pub(crate) indexed: bool,
}

impl Live {
    /// Whether a pack may be read.
    pub(crate) fn holds(&self, pack: &PackName) -> bool {
        self.packs.contains_key(pack) || self.pending.contains_key(pack)
    }

    /// Of several places of an id any would do; the smallest is taken, so that it is always the
    /// same one and usage lists stay short: committed before left over before condemned, plain
    /// before delta.
    pub(crate) fn preference(&self, place: &Location) -> (u8, u8, PackName, u32) {
        let rank = if self.condemned.contains(&place.pack) {
            2
        } else {
            u8::from(!self.packs.contains_key(&place.pack))
        };
        (rank, place.depth, place.pack, place.ordinal)
    }
}

impl Repository {
    /// Makes a repository at `objects`: `zenith.json` and root 0. With a seal all that it holds is
    /// sealed; the slots that guard its key are the caller's to make.
    ///
    /// # Errors
    /// [`Error::RepositoryExists`] when there is one, [`Error::Invalid`] for bad parameters.
    pub fn create(
        objects: Arc<dyn Objects>,
        params: Params,
        seal: Option<Seal>,
        index: IndexChoice,
        operation: Operation,
    ) -> Result<Self> {
        Self::create_in(objects, params, seal, index, operation, World::real())
    }

    /// As [`Repository::create`], in a world of the caller's.
    ///
    /// # Errors
    /// As [`Repository::create`].
    pub fn create_in(
        objects: Arc<dyn Objects>,
        params: Params,
        seal: Option<Seal>,
        index: IndexChoice,
        operation: Operation,
        world: World,
    ) -> Result<Self> {
        params.check()?;
        let header = Header::new(&world, params, seal.as_ref());
        let bytes = header.encode();
        // Root 0 comes second, so a repository without roots is one whose making was interrupted;
        // opening it makes root 0 again.
        if header::has_roots(&*objects)? || objects.create(HEADER_KEY, &bytes)? == Created::Exists {
            return Err(Error::RepositoryExists {
                location: objects.location(),
            });
        }
        let keys = Keys::new(seal.clone());
        write_root_0(&*objects, &header.id, operation, &keys, &world)?;
        Self::open_in(objects, seal, index, world)
    }

    /// Opens the repository at `objects`.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is none, [`Error::TooNew`] when it is not understood,
    /// [`Error::Sealed`], [`Error::NotSealed`] and [`Error::WrongKey`] for a seal that is not its
    /// own.
    pub fn open(objects: Arc<dyn Objects>, seal: Option<Seal>, index: IndexChoice) -> Result<Self> {
        Self::open_in(objects, seal, index, World::real())
    }

    /// As [`Repository::open`], in a world of the caller's.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_in(
        objects: Arc<dyn Objects>,
        seal: Option<Seal>,
        index: IndexChoice,
        world: World,
    ) -> Result<Self> {
        let header = Header::read(&*objects)?;
        let key_id = seal.as_ref().map(Seal::key_id);
        match (&header.key_id, key_id) {
            (Some(_), None) => {
                return Err(Error::Sealed {
                    location: objects.location(),
                });
            }
            (None, Some(_)) => {
                return Err(Error::NotSealed {
                    location: objects.location(),
                });
            }
            (wanted, given) if wanted.as_deref() != given => {
                return Err(Error::WrongKey {
                    location: objects.location(),
                });
            }
            _ => {}
        }
        let indexed_for_good = !matches!(index, IndexChoice::Memory);
        let index: Box<dyn Index> = match index {
            IndexChoice::Memory => Box::new(MemIndex::default()),
            #[cfg(feature = "rocks")]
            IndexChoice::Rocks(dir) => Box::new(open_or_begin_again(&dir)?),
            #[cfg(feature = "rocks")]
            IndexChoice::RocksReadOnly(dir) => match crate::index::RocksIndex::open_read_only(&dir)
            {
                Ok(index) => Box::new(index),
                // The index is disposable: without it, directories are read.
                Err(Error::Index { path, why }) => {
                    tracing::warn!("index {path} cannot be read, doing without: {why}");
                    Box::new(MemIndex::default())
                }
                Err(e) => return Err(e),
            },
        };
        Ok(Repository {
            inner: Arc::new(Inner {
                id: header.id.clone(),
                params: header.params(),
                keys: Keys::new(seal),
                objects,
                world,
                index,
                indexed_for_good,
                overlay: MemIndex::default(),
                live: RwLock::default(),
                cache: Cache::default(),
                alone: AtomicBool::new(false),
                only: OnceLock::new(),
                segment_packs: AtomicUsize::new(segments::PACKS),
            }),
        })
    }

    /// Whether there is a repository at `objects`, be it one that lost its header.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub fn exists(objects: &dyn Objects) -> Result<bool> {
        Ok(objects.size(HEADER_KEY)?.is_some() || header::has_roots(objects)?)
    }

    /// Writes `zenith.json` anew where it is lost and there are roots, which say whose it is; why
    /// it was lost. Nothing where it can be read.
    ///
    /// # Errors
    /// [`Error::NotARepository`] without roots; [`Error::Damaged`] when no root can be read, or
    /// roots or packs say something else than what is remembered.
    pub fn restore_header(
        objects: &dyn Objects,
        remembered: Remembered<'_>,
    ) -> Result<Option<String>> {
        header::restore(objects, remembered)
    }

    /// The key id of the sealed repository at `objects`; none when it is not sealed.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::TooNew`]; when the place cannot be asked.
    pub fn key_id(objects: &dyn Objects) -> Result<Option<String>> {
        Ok(Header::read(objects)?.key_id)
    }

    /// The keys of a sealed repository.
    pub fn seal(&self) -> Option<&Seal> {
        self.inner.keys.seal.as_ref()
    }

    /// How its ids are made.
    pub fn ids(&self) -> &Ids {
        &self.inner.keys.ids
    }

    /// 32 hexadecimal digits that name it, wherever it lies.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What was fixed when it was created.
    pub fn params(&self) -> Params {
        self.inner.params
    }

    /// Where it lies, for messages.
    pub fn location(&self) -> String {
        self.inner.objects.location()
    }

    /// Where its objects lie.
    pub fn objects(&self) -> &Arc<dyn Objects> {
        &self.inner.objects
    }

    /// The state that the latest root describes, read now.
    ///
    /// # Errors
    /// When the log cannot be read or its latest root is damaged.
    pub fn state(&self) -> Result<Arc<State>> {
        let mut known = self.lock_live_read().state.clone();
        let objects = &*self.inner.objects;
        for _ in 0..LOOKS {
            let seq = match log::latest(objects, known.as_ref().map(|s| s.seq()))? {
                Some(seq) => seq,
                None => {
                    let (id, keys) = (&self.inner.id, &self.inner.keys);
                    let made = write_root_0(objects, id, Operation::default(), keys, self.world())?;
                    // Where there was one, the listing was late: it is looked for from there.
                    let found = match made {
                        Created::New => None,
                        Created::Exists => log::latest(objects, Some(0))?,
                    };
                    found.unwrap_or(0)
                }
            };
            if let Some(state) = known.take().filter(|state| state.seq() == seq) {
                return Ok(state);
            }
            let bytes = match objects.get(&Root::key(seq)) {
                Ok(bytes) => bytes,
                // It was left behind and deleted since we found it.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e.into()),
            };
            // Looked at again after the reading: only then is it known to be no root that a late
            // request made under a name that had become free.
            if log::is_closed(objects, seq)? {
                continue;
            }
            // Whoever writes here goes on from this root, and says so.
            if self.is_alone() {
                self.confirm()?;
            }
            match self.load(&bytes, seq) {
                // Its segments may have been merged and collected since it was found.
                Err(e) if e.is_lost() => {
                    if log::latest(objects, Some(seq))? == Some(seq) {
                        return Err(self.root_lost(seq, &e));
                    }
                }
                loaded => return loaded,
            }
        }
        Err(Error::Contended {
            location: self.location(),
            tries: LOOKS,
        })
    }

    /// Brings the names of what is there to disk, where it is a directory. An earlier call may have
    /// failed in this very step and said so; who relies on what it left has to do it again.
    ///
    /// # Errors
    /// When the disk does not do it.
    pub fn confirm(&self) -> Result<()> {
        for folder in ["", "packs", "roots"] {
            let Some(path) = self.objects().local_path(folder) else {
                return Ok(());
            };
            match disk::sync_directory(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                done => done.map_err(Error::file("sync", &path))?,
            }
        }
        Ok(())
    }

    fn load(&self, bytes: &[u8], seq: u64) -> Result<Arc<State>> {
        let objects = &*self.inner.objects;
        let state = Arc::new(State::load(bytes, seq, objects, &self.inner.keys)?);
        if state.root.repository != self.inner.id {
            return Err(Error::Damaged {
                what: format!("root {seq}"),
                location: self.location(),
                why: "it belongs to another repository".into(),
            });
        }
        self.adopt(state.clone());
        Ok(state)
    }

    /// Makes a state the one that reading goes by.
    pub(crate) fn adopt(&self, state: Arc<State>) {
        let mut live = self.lock_live_write();
        let shown = state.packs().filter(|p| !live.hidden.contains(&p.name));
        live.packs = shown.map(|p| (p.name, p.len)).collect();
        live.condemned = state
            .packs()
            .filter(|p| p.state == PackRow::CONDEMNED)
            .map(|p| p.name)
            .collect();
        live.indexed = false;
        live.state = Some(state);
    }

    pub(crate) fn lock_live_read(&self) -> std::sync::RwLockReadGuard<'_, Live> {
        self.inner
            .live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_live_write(&self) -> std::sync::RwLockWriteGuard<'_, Live> {
        self.inner
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs that a snapshot uses and that lie elsewhere: this is a home that reads them there
    /// ([`crate::objects::Lazy`]).
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn far_packs(&self, id: &SnapshotId) -> Result<BTreeSet<PackName>> {
        let usage = self.state()?.usage(id);
        Ok(usage.into_keys().filter(|name| self.is_far(name)).collect())
    }

    pub(crate) fn is_far(&self, name: &PackName) -> bool {
        let path = self.objects().local_path(&name.key());
        path.is_none_or(|path| !path.is_file())
    }

    /// From here on, of packs that lie elsewhere only those are looked in that this snapshot uses
    /// (with none: no such pack at all). What is committed then needs no others.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn lean_on(&self, id: Option<SnapshotId>) -> Result<()> {
        let state = self.state()?;
        let used = id.map(|id| state.usage(&id)).unwrap_or_default();
        let hidden = state
            .packs()
            .map(|pack| pack.name)
            .filter(|name| !used.contains_key(name) && self.is_far(name));
        self.lock_live_write().hidden = hidden.collect();
        self.adopt(state);
        Ok(())
    }

    /// Whether packs are kept out of sight.
    pub(crate) fn hides(&self) -> bool {
        !self.lock_live_read().hidden.is_empty()
    }

    /// Says that this is a home whose lock the caller holds: nobody else writes or collects here.
    #[must_use]
    pub fn alone(self) -> Self {
        self.inner.alone.store(true, Ordering::Relaxed);
        self
    }

    /// Says that the caller is this home, and that its objects keep its own processes apart
    /// ([`crate::objects::Exclusive`]): it may write where one home alone may.
    #[must_use]
    pub fn only(self, home: &str) -> Self {
        self.inner.only.get_or_init(|| home.to_owned());
        self
    }

    /// Has the home that [`Repository::only`] named be the only one to write from now on, in the
    /// place of whichever was.
    ///
    /// # Errors
    /// [`Error::Invalid`] when none was named; those of a commit.
    pub fn claim(&self, operation: Operation) -> Result<Arc<State>> {
        let home = self.inner.only.get().ok_or_else(|| Error::Invalid {
            what: "a repository is claimed by a home".into(),
        })?;
        let state = self.state()?;
        if state.writer() == Some(home) {
            return Ok(state);
        }
        self.commit_of(operation, true, |next| {
            next.set_writer(home);
            Ok(())
        })
    }

    /// Sees that this home may write.
    ///
    /// # Errors
    /// [`Error::SingleWriter`] when another home is the only one that may.
    pub fn refuse_other_writer(&self, state: &State) -> Result<()> {
        match state.writer() {
            Some(writer) if self.inner.only.get().is_none_or(|own| own != writer) => {
                Err(Error::SingleWriter {
                    location: self.location(),
                    writer: writer.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the place keeps two writers apart: see [`exclusive::check`].
    ///
    /// # Errors
    /// [`Error::NoConditionalWrites`] when it does not; when it cannot be asked.
    pub fn check_create(&self) -> Result<()> {
        exclusive::check(&**self.objects(), self.world())
    }

    /// Whether nobody else writes or collects here.
    pub(crate) fn is_alone(&self) -> bool {
        self.inner.alone.load(Ordering::Relaxed)
    }

    /// What it takes from the world around it.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// Whether the index outlives this process, and so is worth teaching ahead of need.
    pub(crate) fn is_indexed_for_good(&self) -> bool {
        self.inner.indexed_for_good
    }

    /// The directory of a pack that `live` lists.
    pub(crate) fn directory(&self, pack: PackName, len: u64) -> Result<pack::Directory> {
        pack::reader::directory(&*self.inner.objects, pack, len, self.seal())
    }
}

fn write_root_0(
    objects: &dyn Objects,
    id: &str,
    operation: Operation,
    keys: &Keys,
    world: &World,
) -> Result<Created> {
    let state = State::empty(id.to_owned(), world.bytes(), operation);
    // Another's root 0 is as good as ours: both are empty.
    Ok(objects.create(&Root::key(0), &state.encode(keys))?)
}

/// RocksDB's words for a lock that another process, or this one, holds.
#[cfg(feature = "rocks")]
fn is_held(why: &str) -> bool {
    why.contains("While lock file") || why.contains("lock hold by current process")
}

/// The index is disposable: one that cannot be opened is moved aside by beginning again.
#[cfg(feature = "rocks")]
fn open_or_begin_again(dir: &std::path::Path) -> Result<crate::index::RocksIndex> {
    match crate::index::RocksIndex::open(dir) {
        Ok(index) => Ok(index),
        // Held by another process: that one is the writer, and its index is fine.
        Err(Error::Index { path, why }) if is_held(&why) || why.contains("No space") => {
            Err(Error::Index { path, why })
        }
        Err(e) => {
            tracing::warn!("{e}; building it anew");
            std::fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
            crate::index::RocksIndex::open(dir)
        }
    }
}
