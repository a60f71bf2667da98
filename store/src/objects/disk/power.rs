//! Power loss, for tests: what of a directory would be there after it.
//!
//! A [`Power`] watches one directory. The directory itself is what the kernel has in memory; the
//! watcher keeps what is on disk: the bytes of a file as its last sync left them, the names of a
//! directory as its last sync left them. What lies between the two may be there or not.
//! Whatever thread takes a step is seen, since steps are told apart by their paths.

use crate::tests::Dice;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static WATCHED: Mutex<Vec<Arc<Power>>> = Mutex::new(Vec::new());

/// A file, whatever it is called and whichever inode it has after others were removed.
type FileId = u64;
/// The bytes of every file.
type Bytes = BTreeMap<FileId, Vec<u8>>;
/// The names in every directory, by its path below the watched one.
type Names = BTreeMap<PathBuf, BTreeMap<String, Entry>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(FileId),
    Directory,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Never,
    /// This step and all after it fail: nothing more happens.
    CutAt(u64),
    /// This step alone fails; the power goes when all is done.
    FailAt(u64),
    /// So many steps from this one on fail.
    FailFrom(u64, u64),
}

/// A program that is wrong: shows that tests see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    NoFileSync,
    NoDirectorySync,
    /// Packs are brought to disk after the root that names them.
    RootBeforePacks,
}

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Each name is there or not; of each file nothing, half, zeros or all.
    Mixed(u64),
}

/// Watches a directory.
#[derive(Debug)]
pub(crate) struct Power {
    root: PathBuf,
    fault: Fault,
    mutant: Mutant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    steps: u64,
    next: FileId,
    /// By inode.
    ids: HashMap<u64, FileId>,
    synced: Bytes,
    names: Names,
    /// What the kernel had in memory when the power went.
    at_cut: Option<(Bytes, Names)>,
    /// Of [`Mutant::RootBeforePacks`].
    late: Vec<Late>,
    root_is_there: bool,
}

#[derive(Debug)]
enum Late {
    Bytes(FileId, Vec<u8>),
    Names(PathBuf, BTreeMap<String, Entry>),
}

impl Power {
    /// Begins to watch; all that is there now is on disk.
    pub(crate) fn watch(root: &Path, fault: Fault, mutant: Mutant) -> Arc<Power> {
        let power = Arc::new(Power {
            root: root.to_owned(),
            fault,
            mutant,
            inner: Mutex::default(),
        });
        {
            let mut inner = power.lock();
            let (bytes, names) = inner.in_memory(root);
            inner.synced = bytes;
            inner.names = names;
        }
        watched().push(power.clone());
        power
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Whether the power has gone: nothing that is said from then on was ever said.
    pub(crate) fn is_cut(&self) -> bool {
        self.lock().at_cut.is_some()
    }

    /// Stops to watch; what is there may be written out any number of times.
    pub(crate) fn stop(&self) {
        watched().retain(|other| !std::ptr::eq(Arc::as_ptr(other), self));
        let mut inner = self.lock();
        if inner.at_cut.is_none() {
            inner.at_cut = Some(inner.in_memory(&self.root));
        }
    }

    /// Writes what would be found after a power loss into `into`.
    pub(crate) fn write_loss(&self, into: &Path, unsynced: Unsynced) {
        let inner = self.lock();
        let (bytes, names) = inner.at_cut.as_ref().expect("watching has stopped");
        let mut dice = match unsynced {
            Unsynced::Mixed(seed) => Some(Dice::new(seed)),
            _ => None,
        };
        let keep = |dice: &mut Option<Dice>| match dice {
            Some(dice) => dice.one_in(2),
            None => matches!(unsynced, Unsynced::Kept),
        };
        let mut left = vec![PathBuf::new()];
        let none = BTreeMap::new();
        while let Some(directory) = left.pop() {
            fs::create_dir_all(into.join(&directory)).unwrap();
            let on_disk = inner.names.get(&directory).unwrap_or(&none);
            let in_memory = names.get(&directory).unwrap_or(&none);
            let mut both: Vec<&String> = on_disk.keys().chain(in_memory.keys()).collect();
            both.sort();
            both.dedup();
            for name in both {
                let (old, new) = (on_disk.get(name), in_memory.get(name));
                let entry = if old == new || !keep(&mut dice) {
                    old
                } else {
                    new
                };
                let path = directory.join(name);
                match entry {
                    None => {}
                    Some(Entry::Directory) => left.push(path),
                    Some(Entry::File(id)) => {
                        let old = inner.synced.get(id).cloned();
                        let new = bytes.get(id).cloned();
                        let found = match new {
                            Some(new) if old.as_ref() != Some(&new) => {
                                unsynced_bytes(old, new, unsynced, &mut dice)
                            }
                            _ => old.unwrap_or_default(),
                        };
                        fs::write(into.join(path), found).unwrap();
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let gone = || Err(io::Error::other("the power is gone"));
        if inner.at_cut.is_some() {
            return gone();
        }
        inner.steps += 1;
        if self.fault == Fault::CutAt(inner.steps) {
            inner.at_cut = Some(inner.in_memory(&self.root));
            return gone();
        }
        let fails = match self.fault {
            Fault::FailAt(step) => step == inner.steps,
            Fault::FailFrom(step, number) => (step..step + number).contains(&inner.steps),
            Fault::Never | Fault::CutAt(_) => false,
        };
        if fails {
            return Err(io::Error::other("the disk does not answer"));
        }
        if inner.root_is_there {
            inner.root_is_there = false;
            for late in std::mem::take(&mut inner.late) {
                match late {
                    Late::Bytes(id, bytes) => drop(inner.synced.insert(id, bytes)),
                    Late::Names(path, names) => drop(inner.names.insert(path, names)),
                }
            }
        }
        Ok(())
    }

    fn synced(&self, file: &File, path: &Path) {
        let mut inner = self.lock();
        let id = inner.id(file.metadata().unwrap().ino());
        let bytes = fs::read(descriptor(file)).unwrap();
        match self.mutant {
            Mutant::NoFileSync => {}
            Mutant::RootBeforePacks if path.starts_with(self.root.join("packs")) => {
                inner.late.push(Late::Bytes(id, bytes));
            }
            _ => drop(inner.synced.insert(id, bytes)),
        }
    }

    fn synced_directory(&self, directory: &Path) {
        let mut inner = self.lock();
        let names = inner.names_in(directory);
        let below = directory.strip_prefix(&self.root).unwrap().to_owned();
        inner.root_is_there |= below == Path::new("roots");
        match self.mutant {
            Mutant::NoDirectorySync => {}
            Mutant::RootBeforePacks if below == Path::new("packs") => {
                inner.late.push(Late::Names(below, names));
            }
            _ => drop(inner.names.insert(below, names)),
        }
    }
}

/// Of a file that was written to since its last sync.
fn unsynced_bytes(
    old: Option<Vec<u8>>,
    mut new: Vec<u8>,
    unsynced: Unsynced,
    dice: &mut Option<Dice>,
) -> Vec<u8> {
    let how = match (unsynced, dice) {
        (Unsynced::Kept, _) => 3,
        (_, Some(dice)) => dice.below(4),
        _ => 0,
    };
    match how {
        0 => return old.unwrap_or_default(),
        1 => new.truncate(new.len() / 2),
        2 => new.fill(0),
        _ => {}
    }
    new
}

impl Inner {
    fn new_id(&mut self, inode: u64) -> FileId {
        self.next += 1;
        self.ids.insert(inode, self.next);
        self.next
    }

    fn id(&mut self, inode: u64) -> FileId {
        match self.ids.get(&inode) {
            Some(id) => *id,
            None => self.new_id(inode),
        }
    }

    fn names_in(&mut self, directory: &Path) -> BTreeMap<String, Entry> {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let found = match metadata.is_dir() {
                true => Entry::Directory,
                false => Entry::File(self.id(metadata.ino())),
            };
            names.insert(entry.file_name().into_string().unwrap(), found);
        }
        names
    }

    /// What the kernel has in memory.
    fn in_memory(&mut self, root: &Path) -> (Bytes, Names) {
        let (mut bytes, mut all) = (Bytes::new(), Names::new());
        let mut left = match root.is_dir() {
            true => vec![PathBuf::new()],
            false => vec![],
        };
        while let Some(directory) = left.pop() {
            let names = self.names_in(&root.join(&directory));
            for (name, entry) in &names {
                let path = directory.join(name);
                match entry {
                    Entry::Directory => left.push(path),
                    Entry::File(id) => {
                        bytes.insert(*id, fs::read(root.join(path)).unwrap());
                    }
                }
            }
            all.insert(directory, names);
        }
        (bytes, all)
    }
}

fn watched() -> MutexGuard<'static, Vec<Arc<Power>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who watches this path.
fn watcher(path: &Path) -> Option<Arc<Power>> {
    let watched = watched();
    let found = watched.iter().find(|power| path.starts_with(&power.root));
    found.cloned()
}

fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

pub(super) fn before(path: &Path) -> io::Result<()> {
    watcher(path).map_or(Ok(()), |power| power.step())
}

pub(super) fn before_sync(file: &File) -> io::Result<()> {
    before(&fs::read_link(descriptor(file))?)
}

pub(super) fn created(path: &Path) {
    if let Some(power) = watcher(path) {
        // An inode may be that of a file which is gone.
        let inode = fs::metadata(path).unwrap().ino();
        power.lock().new_id(inode);
    }
}

pub(super) fn linked(from: &Path, to: &Path) {
    if let Some(power) = watcher(to).filter(|power| !from.starts_with(&power.root)) {
        let metadata = fs::metadata(to).unwrap();
        // Only the link from elsewhere and this one: not known under the inode's number.
        if metadata.nlink() <= 2 {
            power.lock().new_id(metadata.ino());
        }
    }
}

pub(super) fn synced(file: &File) {
    let path = fs::read_link(descriptor(file)).unwrap();
    if let Some(power) = watcher(&path) {
        power.synced(file, &path);
    }
}

pub(super) fn synced_directory(directory: &Path) {
    if let Some(power) = watcher(directory) {
        power.synced_directory(directory);
    }
}
