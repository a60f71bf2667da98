//! Which majors are supported, and the numbers by which their files are known.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Error, Result};

pub const SUPPORTED: RangeInclusive<u32> = 15..=18;

/// The major of the cluster in `pgdata`, from its PG_VERSION.
///
/// Errors: `NotACluster` without that file, `UnsupportedMajor` outside [`SUPPORTED`].
pub fn major_of_dir(pgdata: &Path) -> Result<u32> {
    let file = pgdata.join("PG_VERSION");
    let text = match fs::read(&file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(Error::NotACluster {
                path: pgdata.to_owned(),
            });
        }
        Err(e) => return Err(Error::io("reading", &file)(e)),
    };
    match text.parse() {
        Ok(major) if SUPPORTED.contains(&major) => Ok(major),
        _ => Err(Error::UnsupportedMajor {
            path: pgdata.to_owned(),
            major: text,
        }),
    }
}

/// CATALOG_VERSION_NO (src/include/catalog/catversion.h); `None` for an unknown major.
pub fn catalog_version(major: u32) -> Option<u32> {
    match major {
        15 => Some(202_209_061),
        16 => Some(202_307_071),
        17 => Some(202_406_281),
        18 => Some(202_506_291),
        _ => None,
    }
}

/// The major of which `catalog` is the catalog version.
pub fn major_of_catalog(catalog: u32) -> Option<u32> {
    SUPPORTED
        .into_iter()
        .find(|m| catalog_version(*m) == Some(catalog))
}

/// XLOG_PAGE_MAGIC (src/include/access/xlog_internal.h); `None` for an unknown major.
pub fn wal_magic(major: u32) -> Option<u16> {
    match major {
        15 => Some(0xD110),
        16 => Some(0xD113),
        17 => Some(0xD116),
        18 => Some(0xD118),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_pg_version_is_no_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            major_of_dir(dir.path()),
            Err(Error::NotACluster { .. })
        ));
        assert!(matches!(
            major_of_dir(&dir.path().join("absent")),
            Err(Error::NotACluster { .. })
        ));
    }

    #[test]
    fn unknown_majors_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (text, expect) in [
            ("15\n", Some(15)),
            ("18", Some(18)),
            ("14\n", None),
            ("9.6\n", None),
            ("", None),
        ] {
            fs::write(dir.path().join("PG_VERSION"), text).unwrap();
            match (major_of_dir(dir.path()), expect) {
                (Ok(got), Some(want)) => assert_eq!(got, want),
                (Err(Error::UnsupportedMajor { major, .. }), None) => {
                    assert_eq!(major, text.trim());
                }
                (got, _) => panic!("{text:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn every_supported_major_has_its_numbers() {
        for major in SUPPORTED {
            assert!(wal_magic(major).is_some());
            assert_eq!(
                major_of_catalog(catalog_version(major).unwrap()),
                Some(major)
            );
        }
    }
}
