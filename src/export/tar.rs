//! A snapshot as the tar files of `pg_basebackup -Ft`: `base.tar`, one `<oid>.tar` for each
//! tablespace, and `backup_manifest` beside them; or one tar as a stream.
//!
//! `base.tar` begins with `backup_label` and ends with `global/pg_control`, so that what was
//! unpacked from a part of it cannot start. WAL lies in it, each segment with its `.done` in
//! `pg_wal/archive_status`, as the server sends it. Tablespaces are named by `tablespace_map`
//! where there is a `backup_label`, and by symbolic links otherwise: a server reads the map only
//! together with the label.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ::tar::{Builder, EntryType, Header};
use nix::unistd::{Group, User, getgid, getuid};
use zenith_store::objects::Objects;
use zenith_store::{File, Repository, SnapshotId};

use super::stream::{self, Source};
use super::{
    CONTROL, Cluster, ExportOptions, ExportReport, Item, LABEL, MANIFEST, MAP, small_file,
};
use crate::checkout;
use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::ManifestFile;

/// Where the tar goes.
pub enum TarDest<'a> {
    /// One tar, for a cluster without tablespaces; the text names it in errors: `stdout`.
    Stream(&'a mut dyn Write, &'a str),
    /// An empty or new directory of this machine.
    Directory(&'a Path),
    /// An empty place for objects.
    Objects(&'a dyn Objects),
}

/// The file that holds PGDATA.
pub const BASE: &str = "base.tar";
/// Unfinished files begin so; the next export to the same place replaces them.
const TEMPORARY: &str = ".tmp-";
const BUFFER: usize = 256 << 10;

/// Writes a snapshot as tar.
///
/// Errors: `TablespacesInStream`, `TargetNotEmpty`, `TargetBusy`, `NoSuchTablespace`, `NotACluster`, `Io`, and
/// those of the repository. A stream that ends in an error lacks the end of a tar file; in a
/// directory or at a URL nothing, or not `base.tar`, carries its final name.
pub fn tar(
    repo: &Repository,
    id: SnapshotId,
    dest: TarDest<'_>,
    options: &ExportOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<ExportReport> {
    let cluster = Cluster::read(repo, id, &options.tablespace_mapping)?;
    on(Event::Phase("writing tar"));
    on(Event::Total {
        bytes: cluster.snapshot.size,
    });
    let mut export = Export {
        repo,
        owner: Owner::current(),
        modified: cluster.modified(),
        threads: options.threads,
        on,
        manifest: Vec::new(),
        report: ExportReport::default(),
    };
    match dest {
        TarDest::Stream(out, name) => {
            if let Some(first) = cluster.tablespaces.first() {
                return Err(Error::TablespacesInStream {
                    oid: first.oid,
                    location: first.location.clone(),
                    number: cluster.tablespaces.len(),
                });
            }
            let path = Path::new(name);
            let mut out = BufWriter::with_capacity(BUFFER, out);
            export.archive(&mut out, path, &base(&cluster), "")?;
            out.flush().map_err(Error::io("write", path))?;
            export.report.archives.push(name.to_owned());
        }
        TarDest::Directory(dir) => {
            let dir = &std::path::absolute(dir).map_err(Error::io("resolve", dir))?;
            let _alone = checkout::lock_target(dir)?;
            remove_left_overs(dir)?;
            if let Err(e) = to_directory(&mut export, &cluster, dir, options.sync) {
                // What is half written is of no use; the error that led here counts.
                let _ = remove_left_overs(dir);
                return Err(e);
            }
        }
        TarDest::Objects(objects) => to_objects(&mut export, &cluster, objects)?,
    }
    Ok(export.report)
}

/// Removes what an export that was cut off left in `dir`, once all that is there is of this kind.
///
/// Errors: `TargetNotEmpty`, `Io`.
fn remove_left_overs(dir: &Path) -> Result<()> {
    let mut left_over = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        let found = name.to_string_lossy().into_owned();
        if !is_left_over(&found) {
            return Err(Error::TargetNotEmpty {
                dir: dir.to_owned(),
                found,
            });
        }
        left_over.push(dir.join(name));
    }
    for path in left_over {
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Whether an export gives a file this name before it is whole.
fn is_left_over(name: &str) -> bool {
    let Some(name) = name.strip_prefix(TEMPORARY) else {
        return false;
    };
    let oid = name.strip_suffix(".tar").map(str::parse::<u32>);
    [BASE, MANIFEST].contains(&name) || matches!(oid, Some(Ok(_)))
}

/// Fills a file; the path is for errors.
type Fill<'a> = dyn FnMut(&mut dyn Write, &Path) -> Result<()> + 'a;

fn to_directory(export: &mut Export<'_>, cluster: &Cluster, dir: &Path, sync: bool) -> Result<()> {
    let write = |name: &str, fill: &mut Fill<'_>| -> Result<()> {
        let path = dir.join(format!("{TEMPORARY}{name}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        fill(&mut out, &path)?;
        let file = out
            .into_inner()
            .map_err(|e| Error::io("write", &path)(e.into_error()))?;
        if sync {
            file.sync_all().map_err(Error::io("fsync", &path))?;
        }
        Ok(())
    };
    for (name, items, prefix) in archives(cluster) {
        write(&name, &mut |out, path| {
            export.archive(out, path, &items, &prefix)
        })?;
        export.report.archives.push(name);
    }
    let manifest = cluster.manifest(std::mem::take(&mut export.manifest));
    write(MANIFEST, &mut |out, path| {
        out.write_all(&manifest).map_err(Error::io("write", path))
    })?;
    // Everything is written before the first file is named, and base.tar is named last: if we
    // stop in between, there is no base.tar.
    let tablespaces = export.report.archives.iter().filter(|name| *name != BASE);
    for name in tablespaces.map(String::as_str).chain([MANIFEST, BASE]) {
        let (from, to) = (dir.join(format!("{TEMPORARY}{name}")), dir.join(name));
        fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
    }
    if sync {
        disk::sync_dir(dir)?;
        disk::sync_dir(disk::parent(dir))?;
    }
    Ok(())
}

fn to_objects(export: &mut Export<'_>, cluster: &Cluster, objects: &dyn Objects) -> Result<()> {
    let place = PathBuf::from(objects.location());
    if let Some(found) = objects.list("")?.into_iter().next() {
        return Err(Error::TargetNotEmpty {
            dir: place,
            found: found.key,
        });
    }
    let mut base_out = None;
    for (name, items, prefix) in archives(cluster) {
        let mut out = BufWriter::with_capacity(BUFFER, objects.writer(&name)?);
        export.archive(&mut out, &place.join(&name), &items, &prefix)?;
        let out = out
            .into_inner()
            .map_err(|e| Error::io("write", &place.join(&name))(e.into_error()))?;
        if name == BASE {
            base_out = Some(out);
        } else {
            out.finish()?;
        }
        export.report.archives.push(name);
    }
    let manifest = cluster.manifest(std::mem::take(&mut export.manifest));
    objects.create(MANIFEST, &manifest)?;
    // Here too base.tar appears last.
    base_out
        .expect("base.tar is one of the archives")
        .finish()?;
    Ok(())
}

/// Name, content and the prefix that its entries lose, base.tar last.
fn archives(cluster: &Cluster) -> Vec<(String, Vec<Item>, String)> {
    let tablespaces = cluster.tablespaces.iter().map(|t| {
        let prefix = format!("pg_tblspc/{}/", t.oid);
        (
            format!("{}.tar", t.oid),
            cluster.tablespace_items(t.oid),
            prefix,
        )
    });
    tablespaces
        .chain([(BASE.to_owned(), base(cluster), String::new())])
        .collect()
}

fn base(cluster: &Cluster) -> Vec<Item> {
    let mut items = cluster.base_items();
    let segments: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            Item::File { path, .. } => path.strip_prefix("pg_wal/"),
            _ => None,
        })
        .filter(|name| !name.contains('/'))
        .map(str::to_owned)
        .collect();
    let control = items.iter().position(|item| item.path() == CONTROL);
    let control = items.remove(control.expect("a cluster has pg_control"));
    for name in segments {
        let path = format!("pg_wal/archive_status/{name}.done");
        items.push(Item::File {
            path,
            file: small_file(Vec::new()),
        });
    }
    items.push(control);
    let label = items.first().is_some_and(|item| item.path() == LABEL);
    if label {
        let map = cluster.tablespace_map().map(|file| Item::File {
            path: MAP.to_owned(),
            file,
        });
        items.splice(1..1, map);
    } else {
        let links = cluster.tablespaces.iter().map(|t| Item::Link {
            path: format!("pg_tblspc/{}", t.oid),
            target: t.location.clone(),
        });
        // After the directory that they lie in.
        let at = items
            .iter()
            .position(|item| item.path() == "pg_tblspc")
            .map_or(0, |at| at + 1);
        items.splice(at..at, links.collect::<Vec<_>>());
    }
    items
}

struct Export<'a> {
    repo: &'a Repository,
    owner: Owner,
    modified: i64,
    threads: usize,
    on: &'a (dyn Fn(Event) + Sync),
    manifest: Vec<ManifestFile>,
    report: ExportReport,
}

impl Export<'_> {
    /// One whole tar. `path` names it in errors; entries lose `prefix`.
    fn archive(
        &mut self,
        out: &mut dyn Write,
        path: &Path,
        items: &[Item],
        prefix: &str,
    ) -> Result<()> {
        let files: Vec<File> = items
            .iter()
            .filter_map(|item| match item {
                Item::File { file, .. } => Some(file.clone()),
                _ => None,
            })
            .collect();
        let (repo, threads) = (self.repo, self.threads);
        stream::read_in_order(repo, &files, threads, |source| {
            let mut builder = Builder::new(Gate { out, open: true });
            for item in items {
                if let Err(error) = self.entry(&mut builder, item, prefix, source) {
                    // A builder ends its archive when it is dropped; this one has no end.
                    builder.get_mut().open = false;
                    return Err(Error::io("write", path)(error));
                }
            }
            builder.finish().map_err(Error::io("write", path))
        })
    }

    fn entry(
        &mut self,
        builder: &mut Builder<Gate<'_>>,
        item: &Item,
        prefix: &str,
        source: &mut Source<'_>,
    ) -> io::Result<()> {
        let name = item.path().strip_prefix(prefix).unwrap_or(item.path());
        match item {
            Item::Directory { mode, .. } => {
                let mut header = self.header(EntryType::Directory, *mode, 0);
                builder.append_data(&mut header, format!("{name}/"), io::empty())
            }
            Item::Link { target, .. } => {
                let mut header = self.header(EntryType::Symlink, 0o777, 0);
                builder.append_link(&mut header, name, target)
            }
            Item::File { path, file } => {
                source.next_file();
                let mut header = self.header(EntryType::Regular, file.mode, file.size);
                let mut counted = Counted {
                    source,
                    crc32c: 0,
                    on: self.on,
                };
                builder.append_data(&mut header, name, &mut counted)?;
                self.report.files += 1;
                self.report.bytes += file.size;
                self.manifest.push(ManifestFile {
                    path: path.as_bytes().to_vec(),
                    size: file.size,
                    modified: self.modified,
                    crc32c: counted.crc32c,
                });
                Ok(())
            }
        }
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(u64::try_from(self.modified).unwrap_or(0));
        header.set_uid(self.owner.uid);
        header.set_gid(self.owner.gid);
        // Names that do not fit are left empty; the numbers are there.
        let _ = header.set_username(&self.owner.user);
        let _ = header.set_groupname(&self.owner.group);
        header
    }
}

/// Whoever runs this process, as `pg_basebackup` has it.
struct Owner {
    uid: u64,
    gid: u64,
    user: String,
    group: String,
}

impl Owner {
    fn current() -> Owner {
        let (uid, gid) = (getuid(), getgid());
        let user = User::from_uid(uid).ok().flatten();
        let group = Group::from_gid(gid).ok().flatten();
        Owner {
            uid: uid.as_raw().into(),
            gid: gid.as_raw().into(),
            user: user.map(|user| user.name).unwrap_or_default(),
            group: group.map(|group| group.name).unwrap_or_default(),
        }
    }
}

/// Lets nothing through once it is closed.
struct Gate<'a> {
    out: &'a mut dyn Write,
    open: bool,
}

impl Write for Gate<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open {
            self.out.write(bytes)
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Takes the checksum of what passes, and reports it.
struct Counted<'a, 's> {
    source: &'a mut Source<'s>,
    crc32c: u32,
    on: &'a (dyn Fn(Event) + Sync),
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(into)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &into[..len]);
        (self.on)(Event::Placed { bytes: len as u64 });
        Ok(len)
    }
}
