//! Clusters that come as other tools write them → snapshots: a PGDATA directory or a base backup
//! in one, the same as objects under a URL, the tar files of `pg_basebackup`, another repository.
//!
//! A directory needs nothing here: [`crate::snapshot::offline`] takes it. Another repository is a
//! transfer: [`crate::sync::copy`]. [`tar`] and [`objects`] read streams.

mod intake;
pub mod objects;
pub mod tar;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zenith_store::Objects;

use crate::error::{Error, Result};

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A PGDATA directory, or a base backup unpacked into one.
    Pgdata,
    /// One or more tar files of a base backup.
    Tar,
    /// A zenith repository.
    Zenith,
}

impl Format {
    /// As people write it.
    pub fn word(self) -> &'static str {
        match self {
            Format::Pgdata => "pgdata",
            Format::Tar => "tar",
            Format::Zenith => "zenith",
        }
    }
}

const VERSION: &str = "PG_VERSION";
const CONTROL: &str = "global/pg_control";
const REPOSITORY: &str = "zenith.json";
/// Where the magic of a tar header lies (POSIX ustar, and GNU's variant of it).
const MAGIC_AT: usize = 257;
const HEAD_BYTES: usize = 512;

/// What lies at a path of this machine; `-` is a tar on standard input.
///
/// Errors: `NoSuchPath`, `FormatUnknown`, `Compressed`, `Io`.
pub fn detect(path: &Path) -> Result<Format> {
    if path == Path::new("-") {
        return Ok(Format::Tar);
    }
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::NoSuchPath {
                path: path.to_owned(),
            });
        }
        Err(e) => return Err(Error::io("stat", path)(e)),
    };
    let unknown = |found: String| Error::FormatUnknown {
        path: path.to_owned(),
        found,
    };
    if meta.is_file() {
        let head = head(path)?;
        refuse_compressed(path, &head)?;
        if is_tar(&head) {
            return Ok(Format::Tar);
        }
        return Err(unknown("a file that is no tar".to_owned()));
    }
    let has = |name: &str| path.join(name).exists();
    if has(VERSION) && has(CONTROL) {
        return Ok(Format::Pgdata);
    }
    if has(REPOSITORY) {
        return Ok(Format::Zenith);
    }
    if has(tar::BASE) {
        return Ok(Format::Tar);
    }
    let mut first = None;
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let name = entry.map_err(Error::io("read", path))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if let Some(how) = name.strip_prefix("base.tar.") {
            return Err(Error::Compressed {
                path: path.join(&name),
                how: how.to_owned(),
            });
        }
        first = first.min(Some(name.clone())).or(Some(name));
    }
    Err(unknown(match first {
        None => "an empty directory".to_owned(),
        Some(_) if has(VERSION) => format!("a directory with {VERSION} and without {CONTROL}"),
        Some(name) => format!("a directory with `{name}`"),
    }))
}

/// What lies at a URL.
///
/// Errors: `FormatUnknown`, `Compressed`, those of the objects.
pub fn detect_objects(objects: &dyn Objects) -> Result<Format> {
    let has = |key: &str| -> Result<bool> { Ok(objects.size(key)?.is_some()) };
    let path = PathBuf::from(objects.location());
    if has(REPOSITORY)? {
        return Ok(Format::Zenith);
    }
    if has(VERSION)? && has(CONTROL)? {
        return Ok(Format::Pgdata);
    }
    if has(tar::BASE)? {
        return Ok(Format::Tar);
    }
    let found = match objects.list("")?.into_iter().next() {
        None => "nothing".to_owned(),
        Some(first) => match first.key.strip_prefix("base.tar.") {
            Some(how) => {
                return Err(Error::Compressed {
                    path: path.join(&first.key),
                    how: how.to_owned(),
                });
            }
            None => format!("`{}` and other objects", first.key),
        },
    };
    Err(Error::FormatUnknown { path, found })
}

fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(Error::io("read", path))?;
    Ok(head)
}

fn is_tar(head: &[u8]) -> bool {
    head.len() == HEAD_BYTES && head[MAGIC_AT..].starts_with(b"ustar")
}

/// Refuses what must be decompressed first, by its first bytes.
fn refuse_compressed(path: &Path, head: &[u8]) -> Result<()> {
    const MAGICS: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gz"),
        (b"\x28\xb5\x2f\xfd", "zst"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bz2"),
    ];
    match MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, how)) => Err(Error::Compressed {
            path: path.to_owned(),
            how: (*how).to_owned(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let put = |name: &str, bytes: &[u8]| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), bytes).unwrap();
        };
        put("pgdata/PG_VERSION", b"15\n");
        put("pgdata/global/pg_control", b"");
        put("half/PG_VERSION", b"15\n");
        put("tars/base.tar", b"");
        put("zipped/base.tar.gz", b"");
        put("repo/zenith.json", b"");
        put("other/thesis.tex", b"");
        fs::create_dir(at("empty")).unwrap();
        put("x.tar.gz", b"\x1f\x8bxx");
        put("x.txt", b"hello");
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        put("x.tar", &tar);

        for (name, format) in [
            ("pgdata", Format::Pgdata),
            ("tars", Format::Tar),
            ("x.tar", Format::Tar),
            ("repo", Format::Zenith),
        ] {
            assert_eq!(detect(&at(name)).unwrap(), format, "{name}");
        }
        assert_eq!(detect(Path::new("-")).unwrap(), Format::Tar);
        for (name, message) in [
            (
                "half",
                "a directory with PG_VERSION and without global/pg_control",
            ),
            ("other", "a directory with `thesis.tex`"),
            ("empty", "an empty directory"),
            ("x.txt", "a file that is no tar"),
        ] {
            match detect(&at(name)).unwrap_err() {
                Error::FormatUnknown { found, .. } => assert_eq!(found, message),
                other => panic!("{name}: {other}"),
            }
        }
        for name in ["zipped", "x.tar.gz"] {
            let error = detect(&at(name)).unwrap_err();
            assert!(
                matches!(error, Error::Compressed { how, .. } if how == "gz"),
                "{name}"
            );
        }
        assert!(matches!(detect(&at("none")), Err(Error::NoSuchPath { .. })));
    }
}
