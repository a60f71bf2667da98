//! Tar files as `pg_basebackup` writes them → a snapshot: `base.tar` with `<oid>.tar` and
//! `pg_wal.tar` beside it, or one tar from a stream. A tar of a stopped cluster's directory is
//! read by the same rules.
//!
//! A tar ends with a block of zeros. One that ends without it was cut off, wherever the cut is,
//! and yields no snapshot.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ::tar::{Archive, Entry, EntryType};
use zenith_store::{Objects, Repository};

use super::intake::{self, Intake, Refused, normalise};
use super::refuse_compressed;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::Tablespace;
use crate::snapshot::stream::{Streamed, finish};
use crate::snapshot::{SnapshotOptions, SnapshotReport, begin, threads};

/// The tar of PGDATA itself.
pub const BASE: &str = "base.tar";
/// The tar of the WAL, where it is not in `base.tar`.
pub const WAL: &str = "pg_wal.tar";
const MANIFEST: &str = "backup_manifest";
const BUFFER: usize = 256 << 10;

/// Where the tar comes from.
pub enum TarSource<'a> {
    /// One tar; the text names it in errors: `stdin`.
    Stream(&'a mut dyn Read, &'a str),
    /// A file, or the directory that holds `base.tar`. Beside a `base.tar`, the tar files of
    /// tablespaces and WAL are read too.
    Path(&'a Path),
    /// The same under a URL.
    Objects(&'a dyn Objects),
}

/// What a tar file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    Tablespace(u32),
    Wal,
}

impl Kind {
    /// By the name of a file beside `base.tar`.
    fn of(name: &str) -> Option<Kind> {
        match name.strip_suffix(".tar")? {
            "base" => Some(Kind::Base),
            "pg_wal" => Some(Kind::Wal),
            oid => {
                let oid: u32 = oid.parse().ok().filter(|oid| *oid > 0)?;
                Some(Kind::Tablespace(oid))
            }
        }
    }

    /// What its entries lack in front to be paths of PGDATA.
    fn prefix(self) -> String {
        match self {
            Kind::Base => String::new(),
            Kind::Tablespace(oid) => format!("pg_tblspc/{oid}/"),
            Kind::Wal => "pg_wal/".to_owned(),
        }
    }
}

/// Takes a snapshot of the cluster in a base backup. The caller holds the home's lock.
///
/// Errors: `TarTruncated`, `TarEntry`, `Compressed`, `PathInvalid`, and those of every stream:
/// `StreamIncomplete`, `TablespaceMissing`, `BackupWithoutWal`, `NotShutDown`.
pub fn tar(
    repo: &Repository,
    source: TarSource<'_>,
    opts: &SnapshotOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    let skeleton = intake::skeleton(repo)?;
    let writer = begin(repo, opts)?;
    on(Event::Phase("reading tar"));
    let mut name = PathBuf::new();
    let feed = |intake: &mut Intake<'_>| -> Result<()> {
        match source {
            TarSource::Stream(from, named) => {
                name = PathBuf::from(named);
                archive(intake, Kind::Base, from, &name)
            }
            TarSource::Path(path) => {
                name = path.to_owned();
                from_path(intake, path, on)
            }
            TarSource::Objects(objects) => {
                name = PathBuf::from(objects.location());
                from_objects(intake, objects, on)
            }
        }
    };
    let taken = intake::take_in(
        repo,
        &writer,
        skeleton.path(),
        threads(repo.world(), opts.threads),
        on,
        feed,
    )?;
    let streamed = Streamed {
        name: &name,
        skeleton: skeleton.path(),
        listing: taken.listing,
        left_out: taken.left_out,
        links: taken.links,
        bytes: taken.bytes,
        findings: taken.findings,
    };
    finish(repo, writer, streamed, opts, on)
}

fn from_path(intake: &mut Intake<'_>, path: &Path, on: &(dyn Fn(Event) + Sync)) -> Result<()> {
    let mut files: Vec<(Kind, PathBuf)> = Vec::new();
    let is_dir = path.is_dir();
    let base = if is_dir {
        path.join(BASE)
    } else {
        path.to_owned()
    };
    let dir = crate::disk::parent(&base);
    if base.file_name().is_some_and(|name| name == BASE) {
        for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
            let entry = entry.map_err(Error::io("read", dir))?;
            let name = entry.file_name();
            if let Some(kind) = name.to_str().and_then(Kind::of) {
                files.push((kind, entry.path()));
            } else if let Some((stem, how)) = name.to_str().and_then(|n| n.rsplit_once('.'))
                && Kind::of(stem).is_some()
            {
                let how = how.to_owned();
                return Err(Error::Compressed {
                    path: entry.path(),
                    how,
                });
            }
        }
        let manifest = dir.join(MANIFEST);
        if let Some(bytes) = crate::disk::read_if_there(&manifest)? {
            intake
                .file(MANIFEST, 0o600, bytes.len() as u64, &mut &bytes[..])
                .map_err(|e| broken(e, &manifest))?;
        }
    }
    if !files.iter().any(|(kind, _)| *kind == Kind::Base) {
        files.push((Kind::Base, base));
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    on(Event::Total {
        bytes: files.iter().map(|(_, path)| size(path)).sum(),
    });
    for (kind, path) in files {
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        archive(intake, kind, &mut file, &path)?;
    }
    Ok(())
}

fn from_objects(
    intake: &mut Intake<'_>,
    objects: &dyn Objects,
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let place = PathBuf::from(objects.location());
    let found = objects.list("")?;
    let named = |object: &zenith_store::objects::Listed| Kind::of(&object.key).is_some();
    let bytes = found
        .iter()
        .filter(|object| named(object))
        .map(|object| object.size)
        .sum();
    on(Event::Total { bytes });
    for object in found {
        let path = place.join(&object.key);
        if object.key == MANIFEST {
            let bytes = objects.get(MANIFEST)?;
            intake
                .file(MANIFEST, 0o600, bytes.len() as u64, &mut &bytes[..])
                .map_err(|e| broken(e, &path))?;
        } else if let Some(kind) = Kind::of(&object.key) {
            archive(intake, kind, &mut objects.reader(&object.key)?, &path)?;
        }
    }
    Ok(())
}

fn archive(intake: &mut Intake<'_>, kind: Kind, from: &mut dyn Read, path: &Path) -> Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let head = io::BufRead::fill_buf(&mut from).map_err(Error::io("read", path))?;
    refuse_compressed(path, head)?;
    let is_empty = head.is_empty();
    let (ended, failed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let mut archive = Archive::new(Watched {
        from,
        ended: ended.clone(),
        failed: failed.clone(),
    });
    let truncated = |entry: &str| Error::TarTruncated {
        path: path.to_owned(),
        entry: entry.to_owned(),
    };
    let no_tar = || Error::FormatUnknown {
        path: path.to_owned(),
        found: if is_empty { "empty" } else { "no tar" }.to_owned(),
    };
    let mut last = String::new();
    let entries = archive.entries().map_err(Error::io("read", path))?;
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(e) if failed.get() => return Err(Error::io("read", path)(e)),
            Err(_) if last.is_empty() => return Err(no_tar()),
            Err(_) if ended.get() => return Err(truncated(&last)),
            // What is no header has no checksum that fits.
            Err(_) => {
                return Err(Error::BackupDamaged {
                    path: path.to_owned(),
                    why: format!("what follows `{last}` is no entry of a tar"),
                });
            }
        };
        let name = name_of(&entry, path)?;
        let refused = |why: &str| Error::TarEntry {
            path: path.to_owned(),
            entry: name.clone(),
            why: why.to_owned(),
        };
        let inside = normalise(&name).map_err(refused)?;
        last = name.clone();
        if inside.is_empty() {
            continue;
        }
        let inside = format!("{}{inside}", kind.prefix());
        let mode = entry
            .header()
            .mode()
            .map_err(|_| refused("it has no mode"))?;
        match entry.header().entry_type() {
            EntryType::Directory => intake.directory(&inside, mode)?,
            EntryType::Symlink => intake.link(tablespace(&entry, &inside).map_err(refused)?),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let size = entry.size();
                match intake.file(&inside, mode, size, &mut entry) {
                    Ok(()) => {}
                    Err(Refused::Read(_)) if ended.get() => return Err(truncated(&name)),
                    Err(other) => return Err(broken(other, path)),
                }
            }
            EntryType::XGlobalHeader => {}
            EntryType::Link => return Err(refused("it is a hard link")),
            EntryType::Char | EntryType::Block => return Err(refused("it is a device")),
            EntryType::Fifo => return Err(refused("it is a pipe")),
            _ => return Err(refused("it is of a kind that no rule covers")),
        }
    }
    // The reader above ends at a block of zeros, or where the file ends without one.
    if ended.get() {
        return Err(if last.is_empty() {
            no_tar()
        } else {
            truncated(&last)
        });
    }
    // Whoever writes into a pipe wants to write to the end.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(Error::io("read", path))?;
    Ok(())
}

fn name_of<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<String> {
    let bytes = entry.path_bytes();
    String::from_utf8(bytes.into_owned()).map_err(|e| Error::TarEntry {
        path: path.to_owned(),
        entry: String::from_utf8_lossy(e.as_bytes()).into_owned(),
        why: "the name is not UTF-8".to_owned(),
    })
}

/// The only links that have a rule are those of tablespaces.
fn tablespace<R: Read>(entry: &Entry<'_, R>, path: &str) -> Result<Tablespace, &'static str> {
    let oid = path
        .strip_prefix("pg_tblspc/")
        .and_then(|oid| oid.parse::<u32>().ok());
    let target = entry.link_name().ok().flatten();
    match (oid, target) {
        (Some(oid), Some(target)) if target.is_absolute() => Ok(Tablespace {
            oid,
            location: target.into_owned(),
        }),
        (Some(_), _) => Err("the link of a tablespace must be absolute"),
        _ => Err("it is a symbolic link, and no rule covers it"),
    }
}

fn broken(refused: Refused, path: &Path) -> Error {
    match refused {
        Refused::Read(e) => Error::io("read", path)(e),
        Refused::Other(error) => error,
    }
}

/// Notes when the end of the file is met, and when it could not be read: the reader of tars says
/// both in words of its own.
struct Watched<R> {
    from: R,
    ended: Rc<Cell<bool>>,
    failed: Rc<Cell<bool>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = match self.from.read(into) {
            Ok(len) => len,
            Err(e) => {
                // An interrupted one is tried again.
                self.failed.set(e.kind() != io::ErrorKind::Interrupted);
                return Err(e);
            }
        };
        if len == 0 && !into.is_empty() {
            self.ended.set(true);
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_names() {
        for (name, expect) in [
            ("base.tar", Some(Kind::Base)),
            ("pg_wal.tar", Some(Kind::Wal)),
            ("16384.tar", Some(Kind::Tablespace(16384))),
            ("0.tar", None),
            ("other.tar", None),
            ("base.tar.gz", None),
            ("backup_manifest", None),
        ] {
            assert_eq!(Kind::of(name), expect, "{name}");
        }
    }
}
