//! PGDATA → sorted entries with metadata; nothing is read here.
//!
//! What belongs to a copy is decided by `pg::path` alone, plus three things that only this side
//! knows: zenith's own marker, sockets, and tablespaces that lie inside PGDATA. Whatever no rule
//! covers is refused, never skipped.
//!
//! A tablespace appears as the directory `pg_tblspc/<oid>/PG_<major>_<catalog>`; what else lies at
//! its location belongs to other clusters.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::facts::LeftOut;
use crate::marker;
use crate::pg::path::{REQUIRED, Rule};
use crate::pg::{self, Tablespace};

/// Mode of `pg_tblspc/<oid>`, which is a link in a cluster and has none worth keeping.
const TABLESPACE_MODE: u32 = 0o700;
/// A cluster is four levels deep; a hundred are a loop.
const DEPTH_MAX: usize = 100;

/// A cluster as found on disk.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Sorted by path; directories before what they hold. The root is not among them.
    pub entries: Vec<Entry>,
    /// What is left out, and by which rule.
    pub left_out: Vec<LeftOut>,
    /// Tablespaces outside `pg_tblspc`, by oid.
    pub tablespaces: Vec<Tablespace>,
}

/// A file or directory of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to PGDATA, separated by `/`.
    pub path: String,
    /// Where it really lies.
    pub source: PathBuf,
    /// Whether it is a directory; otherwise it is a plain file.
    pub is_dir: bool,
    /// Permission bits.
    pub mode: u32,
    /// Tells whether the file changed.
    pub stamp: Stamp,
}

impl Entry {
    /// Bytes of a file.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }
}

/// What `stat` says about a file, as far as it tells whether the content changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Stamp {
    /// In bytes.
    #[n(0)]
    pub size: u64,
    /// Nanoseconds since 1970.
    #[n(1)]
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    #[n(2)]
    pub ctime_ns: i64,
    /// Inode number.
    #[n(3)]
    pub inode: u64,
    /// Device number.
    #[n(4)]
    pub device: u64,
}

impl Stamp {
    /// Of this file.
    pub fn of(meta: &Metadata) -> Stamp {
        let ns = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
        Stamp {
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }
}

/// Whether a server may change the directory while it is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// A server runs: files may vanish, replay puts it right.
    Running,
    /// Nothing may change.
    Still,
}

/// What becomes of the contents of unlogged relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlogged {
    /// After a clean stop they are as good as all others, and nothing would make them anew.
    Take,
    /// Recovery makes them anew from their init forks.
    LeaveOut,
}

/// Lists the cluster in `pgdata`.
///
/// Errors: `UnknownEntry`, `NameNotUtf8`, `FileVanished`, `TablespaceMissing`, `Io`; what
/// `pg::tablespace` gives.
pub fn scan(pgdata: &Path, version_dir: &str, motion: Motion, unlogged: Unlogged) -> Result<Scan> {
    let tablespaces = pg::tablespace::list(pgdata)?;
    let inside = tablespaces
        .iter()
        .filter_map(|t| fs::metadata(&t.location).ok());
    let mut walk = Walk {
        pgdata,
        motion,
        unlogged,
        tablespace_dirs: inside.map(|meta| (meta.dev(), meta.ino())).collect(),
        out: Scan::default(),
    };
    walk.directory("", pgdata, 0)?;
    for tablespace in &tablespaces {
        let path = format!("pg_tblspc/{}", tablespace.oid);
        let source = tablespace.location.join(version_dir);
        let meta = match fs::symlink_metadata(&source) {
            Ok(meta) if meta.is_dir() => meta,
            // A dropped one takes its link along; a link without its directory is a missing disk.
            Err(e) if e.kind() == ErrorKind::NotFound && !walk.link_is_there(&path) => continue,
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("stat", &source)(e)),
            _ => {
                return Err(Error::TablespaceMissing {
                    oid: tablespace.oid,
                    location: tablespace.location.clone(),
                });
            }
        };
        walk.out.entries.push(Entry {
            path: path.clone(),
            source: tablespace.location.clone(),
            is_dir: true,
            mode: TABLESPACE_MODE,
            stamp: Stamp::default(),
        });
        walk.push_directory(format!("{path}/{version_dir}"), source.clone(), &meta);
        walk.directory(&format!("{path}/{version_dir}"), &source, 2)?;
        walk.out.tablespaces.push(tablespace.clone());
    }
    let mut scan = walk.out;
    scan.entries.sort_by(|a, b| a.path.cmp(&b.path));
    scan.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    for required in REQUIRED {
        let there = scan
            .entries
            .binary_search_by(|e| e.path.as_str().cmp(required))
            .is_ok();
        if !there {
            return Err(vanished(pgdata, required));
        }
    }
    Ok(scan)
}

/// Files of unlogged relations that have an init fork by now: a relation may become known as
/// unlogged only after its directory was listed.
pub fn newly_unlogged(scan: &Scan) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for dir in scan
        .entries
        .iter()
        .filter(|e| e.is_dir && pg::path::is_relation_dir(&e.path))
    {
        let names: Vec<String> = match fs::read_dir(&dir.source) {
            Ok(entries) => entries
                .filter_map(|e| e.ok()?.file_name().into_string().ok())
                .collect(),
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", &dir.source)(e)),
        };
        let unlogged = pg::path::unlogged(names.iter().map(String::as_str));
        found.extend(
            unlogged
                .into_iter()
                .map(|name| format!("{}/{name}", dir.path)),
        );
    }
    Ok(found)
}

/// Why contents of unlogged relations are not in a copy.
pub const UNLOGGED: &str = "unlogged relation, made anew by recovery";

struct Walk<'a> {
    pgdata: &'a Path,
    motion: Motion,
    unlogged: Unlogged,
    tablespace_dirs: HashSet<(u64, u64)>,
    out: Scan,
}

impl Walk<'_> {
    fn directory(&mut self, rel: &str, source: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(self.unknown(rel, format!("directory deeper than {DEPTH_MAX} levels")));
        }
        let read = match fs::read_dir(source) {
            Ok(read) => read,
            Err(e) if self.may_vanish(rel, &e) => return Ok(()),
            Err(e) => return Err(Error::io("read", source)(e)),
        };
        let mut found = Vec::new();
        for entry in read {
            let entry = entry.map_err(Error::io("read", source))?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| Error::NameNotUtf8 {
                    dir: source.to_owned(),
                    name,
                })?;
            found.push((name, entry));
        }
        let unlogged = if self.unlogged == Unlogged::LeaveOut && pg::path::is_relation_dir(rel) {
            pg::path::unlogged(found.iter().map(|(name, _)| name.as_str()))
                .into_iter()
                .map(str::to_owned)
                .collect()
        } else {
            HashSet::new()
        };
        for (name, entry) in found {
            let path = if rel.is_empty() {
                name.clone()
            } else {
                format!("{rel}/{name}")
            };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if self.may_vanish(&path, &e) => continue,
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    return Err(vanished(self.pgdata, &path));
                }
                Err(e) => return Err(Error::io("stat", &entry.path())(e)),
            };
            if unlogged.contains(&name) {
                self.leave_out(path, UNLOGGED);
            } else {
                self.entry(path, entry.path(), &meta, depth)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: String,
        source: PathBuf,
        meta: &Metadata,
        depth: usize,
    ) -> Result<()> {
        let kind = meta.file_type();
        let name = path.rsplit('/').next().unwrap_or(&path);
        if marker::is_marker(&path) {
            // Not named among what is left out: it is no part of the cluster.
            return Ok(());
        }
        if kind.is_socket() || (kind.is_file() && name.starts_with(".s.PGSQL.")) {
            self.leave_out(path, "socket of the running server");
            return Ok(());
        }
        if kind.is_symlink() {
            return self.symlink(path, source, depth);
        }
        if !kind.is_file() && !kind.is_dir() {
            let what = if kind.is_fifo() {
                "named pipe"
            } else {
                "device"
            };
            return Err(self.unknown(&path, what.to_owned()));
        }
        if kind.is_dir() && self.tablespace_dirs.contains(&(meta.dev(), meta.ino())) {
            self.leave_out(path, "tablespace, taken through pg_tblspc");
            return Ok(());
        }
        match pg::path::rule(&path, kind.is_dir()) {
            Rule::LeaveOut(reason) => self.leave_out(path, reason),
            Rule::TakeDirOnly(reason) => self.empty_directory(path, source, meta, reason)?,
            Rule::Take if kind.is_dir() => {
                self.push_directory(path.clone(), source.clone(), meta);
                self.directory(&path, &source, depth + 1)?;
            }
            Rule::Take => self.out.entries.push(Entry {
                path,
                source,
                is_dir: false,
                mode: meta.mode() & 0o7777,
                stamp: Stamp::of(meta),
            }),
        }
        Ok(())
    }

    /// The only links that have a rule: tablespaces, and directories whose content is left out
    /// anyway, such as `pg_wal` on a disk of its own.
    fn symlink(&mut self, path: String, source: PathBuf, depth: usize) -> Result<()> {
        let oid = path
            .strip_prefix("pg_tblspc/")
            .filter(|name| !name.contains('/'));
        if oid.is_some_and(|name| name.parse::<u32>().is_ok()) {
            return Ok(());
        }
        if depth == 0
            && let Rule::TakeDirOnly(reason) = pg::path::rule(&path, true)
        {
            let meta = fs::metadata(&source).map_err(Error::io("stat", &source))?;
            return self.empty_directory(path, source, &meta, reason);
        }
        let what = match fs::read_link(&source) {
            Ok(target) => format!("symbolic link to {}", target.display()),
            Err(_) => "symbolic link".to_owned(),
        };
        Err(self.unknown(&path, what))
    }

    /// The directory without its content, but with the directories in it that have a rule too.
    fn empty_directory(
        &mut self,
        path: String,
        source: PathBuf,
        meta: &Metadata,
        reason: &'static str,
    ) -> Result<()> {
        self.push_directory(path.clone(), source.clone(), meta);
        let mut anything = false;
        let read = fs::read_dir(&source).map_err(Error::io("read", &source))?;
        for entry in read {
            let entry = entry.map_err(Error::io("read", &source))?;
            let Ok(name) = entry.file_name().into_string() else {
                anything = true;
                continue;
            };
            let below = format!("{path}/{name}");
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            match pg::path::rule(&below, is_dir) {
                Rule::TakeDirOnly(reason) => {
                    let meta = entry.metadata().map_err(Error::io("stat", &entry.path()))?;
                    self.empty_directory(below, entry.path(), &meta, reason)?;
                }
                _ => anything = true,
            }
        }
        if anything {
            self.leave_out(format!("{path}/*"), reason);
        }
        Ok(())
    }

    fn push_directory(&mut self, path: String, source: PathBuf, meta: &Metadata) {
        self.out.entries.push(Entry {
            path,
            source,
            is_dir: true,
            mode: meta.mode() & 0o7777,
            stamp: Stamp::default(),
        });
    }

    fn leave_out(&mut self, path: String, reason: &str) {
        self.out.left_out.push(LeftOut {
            path,
            reason: reason.to_owned(),
        });
    }

    fn unknown(&self, path: &str, what: String) -> Error {
        Error::UnknownEntry {
            pgdata: self.pgdata.to_owned(),
            path: path.to_owned(),
            what,
        }
    }

    fn link_is_there(&self, path: &str) -> bool {
        self.motion == Motion::Still || fs::symlink_metadata(self.pgdata.join(path)).is_ok()
    }

    fn may_vanish(&self, path: &str, error: &std::io::Error) -> bool {
        error.kind() == ErrorKind::NotFound
            && self.motion == Motion::Running
            && !path.is_empty()
            && !REQUIRED.contains(&path)
    }
}

fn vanished(pgdata: &Path, path: &str) -> Error {
    Error::FileVanished {
        pgdata: pgdata.to_owned(),
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const VERSION_DIR: &str = "PG_15_202209061";

    fn cluster() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for sub in [
            "global",
            "base/5",
            "pg_tblspc",
            "pg_wal/archive_status",
            "pg_notify",
        ] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        for file in REQUIRED.iter().copied().chain([
            "base/5/1",
            "base/5/2",
            "base/5/2_init",
            "base/5/2_fsm",
            "pg_wal/000000010000000000000001",
            "pg_notify/0000",
            "postmaster.opts",
            "my.conf",
        ]) {
            fs::write(dir.path().join(file), file).unwrap();
        }
        dir
    }

    fn paths(scan: &Scan) -> Vec<&str> {
        scan.entries.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn what_is_taken_and_what_is_named_as_left_out() {
        let dir = cluster();
        let scan = scan(dir.path(), VERSION_DIR, Motion::Still, Unlogged::LeaveOut).unwrap();
        let expect = [
            "PG_VERSION",
            "base",
            "base/5",
            "base/5/1",
            "base/5/2_init",
            "global",
            "global/pg_control",
            "global/pg_filenode.map",
            "my.conf",
            "pg_notify",
            "pg_tblspc",
            "pg_wal",
            "pg_wal/archive_status",
        ];
        assert_eq!(paths(&scan), expect);
        let left_out: Vec<&str> = scan.left_out.iter().map(|l| l.path.as_str()).collect();
        let all = super::scan(dir.path(), VERSION_DIR, Motion::Still, Unlogged::Take).unwrap();
        assert_eq!(all.entries.len(), scan.entries.len() + 2);
        assert_eq!(
            left_out,
            [
                "base/5/2",
                "base/5/2_fsm",
                "pg_notify/*",
                "pg_wal/*",
                "postmaster.opts"
            ]
        );
    }

    #[test]
    fn tablespaces_appear_under_their_oid_and_only_with_their_version() {
        let dir = cluster();
        let disk = tempfile::tempdir().unwrap();
        fs::create_dir_all(disk.path().join(VERSION_DIR).join("5")).unwrap();
        fs::create_dir_all(disk.path().join("PG_14_202107181/5")).unwrap();
        fs::write(disk.path().join(VERSION_DIR).join("5/7"), "x").unwrap();
        symlink(disk.path(), dir.path().join("pg_tblspc/16400")).unwrap();
        let inside = dir.path().join("ts");
        fs::create_dir_all(inside.join(VERSION_DIR)).unwrap();
        symlink(&inside, dir.path().join("pg_tblspc/16401")).unwrap();
        let scan = scan(dir.path(), VERSION_DIR, Motion::Still, Unlogged::LeaveOut).unwrap();
        let found: Vec<&str> = paths(&scan)
            .into_iter()
            .filter(|p| p.starts_with("pg_tblspc/"))
            .collect();
        let expect = [
            "pg_tblspc/16400".to_owned(),
            format!("pg_tblspc/16400/{VERSION_DIR}"),
            format!("pg_tblspc/16400/{VERSION_DIR}/5"),
            format!("pg_tblspc/16400/{VERSION_DIR}/5/7"),
            "pg_tblspc/16401".to_owned(),
            format!("pg_tblspc/16401/{VERSION_DIR}"),
        ];
        assert_eq!(found, expect);
        assert!(scan.left_out.iter().any(|l| l.path == "ts"));
        assert_eq!(scan.tablespaces.len(), 2);

        fs::remove_dir_all(disk.path().join(VERSION_DIR)).unwrap();
        let error =
            super::scan(dir.path(), VERSION_DIR, Motion::Running, Unlogged::LeaveOut).unwrap_err();
        assert!(
            matches!(error, Error::TablespaceMissing { oid: 16400, .. }),
            "{error}"
        );
    }

    #[test]
    fn wal_on_a_disk_of_its_own_is_a_directory() {
        let dir = cluster();
        let disk = tempfile::tempdir().unwrap();
        fs::remove_dir_all(dir.path().join("pg_wal")).unwrap();
        fs::create_dir(disk.path().join("archive_status")).unwrap();
        symlink(disk.path(), dir.path().join("pg_wal")).unwrap();
        let scan = scan(dir.path(), VERSION_DIR, Motion::Still, Unlogged::LeaveOut).unwrap();
        assert!(paths(&scan).ends_with(&["pg_wal", "pg_wal/archive_status"]));
    }

    #[test]
    fn what_no_rule_covers_is_refused() {
        let refuse = |make: &dyn Fn(&Path)| {
            let dir = cluster();
            make(dir.path());
            let error =
                scan(dir.path(), VERSION_DIR, Motion::Running, Unlogged::LeaveOut).unwrap_err();
            assert!(matches!(error, Error::UnknownEntry { .. }), "{error}");
        };
        refuse(&|dir| symlink("/etc/passwd", dir.join("server.key")).unwrap());
        refuse(&|dir| symlink("/tmp", dir.join("base/6")).unwrap());
        refuse(&|dir| symlink("/tmp", dir.join("pg_tblspc/x")).unwrap());
        refuse(&|dir| {
            nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        });
    }

    #[test]
    fn sockets_have_a_rule() {
        let dir = cluster();
        let _socket =
            std::os::unix::net::UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        fs::write(dir.path().join(".s.PGSQL.5432.lock"), "1").unwrap();
        let scan = scan(dir.path(), VERSION_DIR, Motion::Still, Unlogged::LeaveOut).unwrap();
        assert_eq!(
            scan.left_out
                .iter()
                .filter(|l| l.path.starts_with(".s."))
                .count(),
            2
        );
    }

    #[test]
    fn a_cluster_without_a_required_file_is_none() {
        for required in REQUIRED {
            let dir = cluster();
            fs::remove_file(dir.path().join(required)).unwrap();
            let error =
                scan(dir.path(), VERSION_DIR, Motion::Running, Unlogged::LeaveOut).unwrap_err();
            assert!(matches!(error, Error::FileVanished { path, .. } if path == *required));
        }
    }

    #[test]
    fn a_relation_that_turns_out_unlogged_is_found() {
        let dir = cluster();
        let scan = scan(dir.path(), VERSION_DIR, Motion::Running, Unlogged::LeaveOut).unwrap();
        assert_eq!(paths(&scan).iter().filter(|p| **p == "base/5/1").count(), 1);
        fs::write(dir.path().join("base/5/1_init"), "").unwrap();
        let found = newly_unlogged(&scan).unwrap();
        assert!(
            found.contains("base/5/1") && !found.contains("base/5/1_init"),
            "{found:?}"
        );
    }
}
