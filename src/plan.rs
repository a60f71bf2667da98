//! Entry + file cache + parent → reuse or read. Pure, apart from loading and saving the cache.
//!
//! A file that looks as it did when it was last read is not read again. This trusts `stat`, so it
//! is narrow: size, modification and change time to the nanosecond, inode and device must all be
//! the same, on the same boot (a crash of the machine may undo what was written and keep the
//! times), on a file system that keeps times itself, and all times must lie safely before the
//! moment the cache was begun, since a write in the same tick of the clock leaves no trace. Any
//! doubt means reading; a lost cache costs time only.
//!
//! Maps of visibility and free space are always read: 0.03 % of the data, and the one place where
//! a stale page gives wrong answers.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minicbor::{Decode, Encode};
use nix::sys::statfs;
use zenith_store::{File, Listing, Node, World};

use crate::disk;
use crate::error::{Error, Result};
use crate::pg::path::{Fork, relation_file};
use crate::scan::{Entry, Stamp};

/// Files changed so shortly before the cache was begun are read again: the coarsest clock of the
/// file systems that are trusted ticks once a second.
const RACY_NS: i64 = 2_000_000_000;
const MAGIC: &[u8; 8] = b"zfcache1";

/// What the files of one cluster looked like when a snapshot of it was made.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
pub struct FileCache {
    /// The snapshot, 64 hexadecimal digits.
    #[n(0)]
    pub snapshot: String,
    /// When the scan for it began, in nanoseconds since 1970.
    #[n(1)]
    pub begun_ns: i64,
    /// The boot it ran on.
    #[n(2)]
    pub boot_id: String,
    /// Path → what `stat` said before the file was read, or after it was written.
    #[n(3)]
    pub stamps: HashMap<String, Stamp>,
}

/// What to do with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The parent has it.
    Reuse(File),
    /// Read it.
    Read,
}

/// What files may be compared with.
#[derive(Debug, Default)]
pub struct Known {
    cache: FileCache,
    listing: Arc<Listing>,
    /// Devices on trusted file systems.
    trusted: HashMap<u64, bool>,
}

impl Known {
    /// Nothing is known: everything is read.
    pub fn nothing() -> Known {
        Known::default()
    }

    /// A cache, and the listing of the snapshot it belongs to.
    pub fn new(cache: FileCache, listing: Arc<Listing>) -> Known {
        Known {
            cache,
            listing,
            trusted: HashMap::new(),
        }
    }

    /// Looks at the file systems that the entries lie on.
    pub fn trust_local(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|e| !e.is_dir) {
            let device = entry.stamp.device;
            self.trusted
                .entry(device)
                .or_insert_with(|| is_local(disk::parent(&entry.source)));
        }
    }

    /// As [`Known::trust_local`], for directories whose files will be looked at.
    pub fn trust_local_dirs<'a>(&mut self, dirs: impl Iterator<Item = &'a Path>) {
        for dir in dirs {
            if let Ok(meta) = std::fs::metadata(dir) {
                self.trusted
                    .entry(meta.dev())
                    .or_insert_with(|| is_local(dir));
            }
        }
    }

    /// Decides about one file. `boot_id` is that of now.
    pub fn decide(&self, entry: &Entry, boot_id: &str) -> Plan {
        self.reuse(entry, boot_id).map_or(Plan::Read, Plan::Reuse)
    }

    fn reuse(&self, entry: &Entry, boot_id: &str) -> Option<File> {
        let name = entry.path.rsplit('/').next()?;
        let is_map = relation_file(name).is_some_and(|f| matches!(f.fork, Fork::Vm | Fork::Fsm));
        // These are made or changed on the way, so that their size there is not their size here.
        let is_made = matches!(
            entry.path.as_str(),
            "global/pg_control" | "postgresql.auto.conf" | "backup_label"
        );
        let stamp = self.cache.stamps.get(&entry.path)?;
        let latest = stamp.mtime_ns.max(stamp.ctime_ns);
        let sure = !is_map
            && !is_made
            && !boot_id.is_empty()
            && boot_id == self.cache.boot_id
            && *stamp == entry.stamp
            && latest < self.cache.begun_ns.saturating_sub(RACY_NS)
            && self.trusted.get(&stamp.device) == Some(&true);
        match self.listing.get(&entry.path)? {
            Node::File(file) if sure && file.size == stamp.size => Some(File {
                mode: entry.mode,
                ..file.clone()
            }),
            _ => None,
        }
    }
}

impl FileCache {
    /// A cache of a scan that begins now.
    pub fn begin(world: &World) -> FileCache {
        FileCache {
            begun_ns: now_ns(world),
            boot_id: boot_id(),
            ..FileCache::default()
        }
    }

    /// The file for a cluster: named by where it lies, so that each has its own.
    pub fn path(dir: &Path, pgdata: &Path) -> PathBuf {
        let pgdata = pgdata.canonicalize().unwrap_or_else(|_| pgdata.to_owned());
        let id = zenith_store::Ids::plain().chunk(pgdata.as_os_str().as_encoded_bytes());
        dir.join(id.short())
    }

    /// The scan is over. Where the clock was set back meanwhile, what was seen is younger than it
    /// looked at the beginning.
    pub fn scanned(&mut self, world: &World) {
        self.begun_ns = self.begun_ns.min(now_ns(world));
    }

    /// What was saved; nothing when there is none, it is not whole, or it was begun later than
    /// now: the clock was set back, and times tell no longer what came first.
    pub fn load(path: &Path, world: &World) -> Option<FileCache> {
        let cache = FileCache::decode(&std::fs::read(path).ok()?)?;
        (cache.begun_ns <= now_ns(world)).then_some(cache)
    }

    /// What these bytes of a file say, when they are whole.
    pub fn decode(bytes: &[u8]) -> Option<FileCache> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (crc, body) = rest.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return None;
        }
        minicbor::decode(body).ok()
    }

    /// Saves it for the next snapshot of the same cluster.
    pub fn save(&self, path: &Path) -> Result<()> {
        let body = minicbor::to_vec(self).map_err(|e| Error::Internal {
            what: format!("the file cache: {e}"),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
        bytes.extend(body);
        disk::create_dir(disk::parent(path), 0o700)?;
        disk::replace(path, &bytes, 0o600)
    }
}

/// Names this boot of the machine; empty where that cannot be told, which trusts nothing.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Nanoseconds since 1970; 0, which trusts nothing, before that.
fn now_ns(world: &World) -> i64 {
    world.unix_micros().max(0).saturating_mul(1000)
}

/// Whether a file system keeps its times itself. Only known ones are: a network file system may
/// answer from a cache, or by another machine's clock.
fn is_local(dir: &Path) -> bool {
    const F2FS: i64 = 0xF2F5_2010;
    const ZFS: i64 = 0x2FC1_2FC1;
    const BCACHEFS: i64 = 0xCA45_1A4E;
    let Ok(stat) = statfs::statfs(dir) else {
        return false;
    };
    let kind = stat.filesystem_type();
    [
        statfs::EXT4_SUPER_MAGIC, // and ext2, ext3
        statfs::XFS_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::TMPFS_MAGIC,
        statfs::OVERLAYFS_SUPER_MAGIC,
    ]
    .contains(&kind)
        || [F2FS, ZFS, BCACHEFS].contains(&kind.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zenith_store::Content;

    const NOW: i64 = 1_800_000_000_000_000_000;

    fn entry(path: &str, stamp: Stamp) -> Entry {
        Entry {
            path: path.into(),
            source: format!("/x/{path}").into(),
            is_dir: false,
            mode: 0o600,
            stamp,
        }
    }

    fn stamp(age_ns: i64) -> Stamp {
        Stamp {
            size: 3,
            mtime_ns: NOW - age_ns,
            ctime_ns: NOW - age_ns,
            inode: 7,
            device: 1,
        }
    }

    fn file() -> File {
        File {
            mode: 0o600,
            size: 3,
            content: Content::Inline(b"abc".to_vec()),
        }
    }

    fn known(path: &str, stamp: Stamp) -> Known {
        let cache = FileCache {
            snapshot: "ab".into(),
            begun_ns: NOW,
            boot_id: "boot".into(),
            stamps: [(path.to_owned(), stamp)].into(),
        };
        let listing = Arc::new([(path.to_owned(), Node::File(file()))].into());
        Known {
            trusted: [(1, true)].into(),
            ..Known::new(cache, listing)
        }
    }

    const OLD: i64 = 10_000_000_000;

    #[test]
    fn a_file_that_looks_the_same_is_not_read() {
        let known = known("base/5/1", stamp(OLD));
        assert_eq!(
            known.decide(&entry("base/5/1", stamp(OLD)), "boot"),
            Plan::Reuse(file())
        );
    }

    #[test]
    fn any_doubt_means_reading() {
        let read = |known: &Known, path: &str, stamp: Stamp, boot: &str| {
            assert_eq!(known.decide(&entry(path, stamp), boot), Plan::Read);
        };
        let same = stamp(OLD);
        let usual = known("base/5/1", same);
        for other in [
            Stamp { size: 4, ..same },
            Stamp {
                mtime_ns: same.mtime_ns + 1,
                ..same
            },
            Stamp {
                ctime_ns: same.ctime_ns + 1,
                ..same
            },
            Stamp { inode: 8, ..same },
            Stamp { device: 2, ..same },
        ] {
            read(&usual, "base/5/1", other, "boot");
        }
        read(&usual, "base/5/2", same, "boot");
        read(&usual, "base/5/1", same, "another boot");
        read(&usual, "base/5/1", same, "");
        // Racy: either time too close to the cache's beginning, or after it.
        for age in [0, 1_999_999_999, -5] {
            read(
                &known("base/5/1", stamp(age)),
                "base/5/1",
                stamp(age),
                "boot",
            );
        }
        let changed = Stamp {
            ctime_ns: NOW,
            ..same
        };
        read(&known("base/5/1", changed), "base/5/1", changed, "boot");
        // A file system that is not trusted.
        let mut network = known("base/5/1", same);
        network.trusted = [(1, false)].into();
        read(&network, "base/5/1", same, "boot");
        // Always read.
        for path in [
            "base/5/1_vm",
            "base/5/1_fsm",
            "global/pg_control",
            "postgresql.auto.conf",
        ] {
            read(&known(path, same), path, same, "boot");
        }
        // The parent's file is another size, or no file.
        let mut odd = known("base/5/1", same);
        Arc::make_mut(&mut odd.listing).insert("base/5/1".into(), Node::Directory { mode: 0o700 });
        read(&odd, "base/5/1", same, "boot");
    }

    #[test]
    fn a_cache_survives_its_file_and_damage_gives_none() {
        let world = World::real();
        let dir = tempfile::tempdir().unwrap();
        let path = FileCache::path(&dir.path().join("filecache"), Path::new("/somewhere"));
        assert_eq!(FileCache::load(&path, &world), None);
        let mut cache = FileCache::begin(&world);
        assert!(!cache.boot_id.is_empty() && cache.begun_ns > 0);
        cache.stamps.insert("base/5/1".into(), stamp(0));
        cache.save(&path).unwrap();
        assert_eq!(FileCache::load(&path, &world), Some(cache));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(FileCache::load(&path, &world), None);
        std::fs::write(&path, &bytes[..last]).unwrap();
        assert_eq!(FileCache::load(&path, &world), None);
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_trusted() {
        const HOUR: i64 = 3_600_000_000_000;
        let world = World::real();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        // After the cache was made: what was written since may look older than the cache.
        let mut cache = FileCache::begin(&world);
        cache.begun_ns += HOUR;
        cache.save(&path).unwrap();
        assert_eq!(FileCache::load(&path, &world), None);
        // During the scan: a file written and seen after the step looks old at its beginning.
        let late = now_ns(&world);
        cache.scanned(&world);
        assert!(cache.begun_ns >= late && cache.begun_ns <= now_ns(&world));
        cache.save(&path).unwrap();
        assert_eq!(FileCache::load(&path, &world), Some(cache.clone()));
        let begun = cache.begun_ns;
        cache.scanned(&world);
        assert_eq!(cache.begun_ns, begun);
        // Between a write and the cache: such a file comes from the future.
        let future = stamp(-HOUR);
        let entry = entry("base/5/1", future);
        let known = known("base/5/1", future);
        assert_eq!(known.decide(&entry, "boot"), Plan::Read);
    }

    #[test]
    fn this_machine_has_a_file_system_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_local(dir.path()) && !is_local(Path::new("/proc")));
    }
}
