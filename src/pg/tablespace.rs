//! Tablespaces: the links in pg_tblspc, and tablespace_map which names them in a backup.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tablespace {
    pub oid: u32,
    pub location: PathBuf,
}

/// TABLESPACE_VERSION_DIRECTORY, such as `PG_15_202209061`: where a server keeps its files in a
/// tablespace; what else lies there belongs to others.
pub fn version_dir(major: u32, catalog_version: u32) -> String {
    format!("PG_{major}_{catalog_version}")
}

/// The tablespaces whose links lie in `pgdata`/pg_tblspc, by oid. Only symlinks named by an
/// oid are tablespaces elsewhere; what else lies there is for the caller to judge. The
/// locations are as the links say, not resolved further.
pub fn list(pgdata: &Path) -> Result<Vec<Tablespace>> {
    let dir = pgdata.join("pg_tblspc");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io("reading", &dir))? {
        let entry = entry.map_err(Error::io("reading", &dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("reading", &path))?;
        let oid = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok());
        let (true, Some(oid)) = (kind.is_symlink(), oid) else {
            continue;
        };
        let target = fs::read_link(&path).map_err(Error::io("reading", &path))?;
        // A relative link counts from the directory that it lies in.
        let location = dir.join(target);
        found.push(Tablespace { oid, location });
    }
    found.sort();
    Ok(found)
}

/// The content of tablespace_map: one line `<oid> <location>` each, with a backslash before
/// backslash, line feed and carriage return (do_pg_backup_start in
/// src/backend/access/transam/xlog.c).
pub fn map_format(tablespaces: &[Tablespace]) -> Vec<u8> {
    let mut out = Vec::new();
    for tablespace in tablespaces {
        out.extend_from_slice(format!("{} ", tablespace.oid).as_bytes());
        for byte in tablespace.location.as_os_str().as_bytes() {
            if matches!(byte, b'\n' | b'\r' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'\n');
    }
    out
}

/// The opposite of [`map_format`] (read_tablespace_map in
/// src/backend/access/transam/xlogrecovery.c).
pub fn parse_map(bytes: &[u8]) -> Result<Vec<Tablespace>> {
    let mut lines = vec![Vec::new()];
    let mut escaped = false;
    for &byte in bytes {
        let line = lines.last_mut().expect("there is always a line");
        match byte {
            _ if escaped => {
                line.push(byte);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => line.push(byte),
        }
    }
    let bad = |line: usize, reason: &str| Error::BadTablespaceMap {
        line,
        reason: reason.to_owned(),
    };
    if escaped || lines.pop().is_some_and(|rest| !rest.is_empty()) {
        return Err(bad(lines.len() + 1, "it has no end"));
    }
    let mut found = Vec::new();
    for (i, line) in lines.into_iter().enumerate().filter(|(_, l)| !l.is_empty()) {
        let space = line.iter().position(|b| *b == b' ');
        let Some(space) = space else {
            return Err(bad(i + 1, "no space after the oid"));
        };
        let oid = std::str::from_utf8(&line[..space])
            .ok()
            .and_then(|t| t.parse().ok());
        let Some(oid) = oid.filter(|oid| *oid != 0) else {
            return Err(bad(i + 1, "it does not begin with an oid"));
        };
        let location = PathBuf::from(OsString::from_vec(line[space + 1..].to_vec()));
        if !location.is_absolute() {
            return Err(bad(i + 1, "the location is not absolute"));
        }
        found.push(Tablespace { oid, location });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn map_of_ordinary_and_odd_paths() {
        let odd = vec![
            Tablespace {
                oid: 16400,
                location: "/srv/fast disk".into(),
            },
            Tablespace {
                oid: 16401,
                location: "/a\\b\nc".into(),
            },
        ];
        let text = map_format(&odd);
        assert_eq!(text, b"16400 /srv/fast disk\n16401 /a\\\\b\\\nc\n");
        assert_eq!(parse_map(&text).unwrap(), odd);
        assert_eq!(parse_map(b"").unwrap(), vec![]);
        for bad in [
            "1 /a", "x /a\n", "1\n", "0 /a\n", "1 a\n", "1 /a\\", "-1 /a\n",
        ] {
            assert!(parse_map(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let links = dir.path().join("pg_tblspc");
        assert!(list(dir.path()).is_err());
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink("/srv/b", links.join("16401")).unwrap();
        std::os::unix::fs::symlink("/srv/a", links.join("16400")).unwrap();
        std::os::unix::fs::symlink("/srv/a", links.join("other")).unwrap();
        fs::create_dir(links.join("16402")).unwrap();
        let found = list(dir.path()).unwrap();
        assert_eq!(
            found.iter().map(|t| t.oid).collect::<Vec<_>>(),
            [16400, 16401]
        );
        assert_eq!(version_dir(15, 202_209_061), "PG_15_202209061");
    }

    proptest! {
        #[test]
        fn both_ways(paths in prop::collection::vec("/[a \\\\\n\r]{0,9}", 0..4)) {
            let all: Vec<_> = paths
                .into_iter()
                .zip(1..)
                .map(|(p, oid)| Tablespace { oid, location: p.into() })
                .collect();
            prop_assert_eq!(parse_map(&map_format(&all)).unwrap(), all);
        }
    }
}
