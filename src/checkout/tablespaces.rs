//! Where the tablespaces of a checkout lie: never where the original has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::marker;

/// Oid → directory of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tablespaces(pub(super) BTreeMap<u32, PathBuf>);

impl Tablespaces {
    /// `DIR.tablespaces/<oid>`, or what `mapping` says for where it lay.
    ///
    /// Errors: `NoSuchTablespace`, `TargetInvalid`.
    pub(super) fn plan(
        facts: &Facts,
        dir: &Path,
        mapping: &[(PathBuf, PathBuf)],
    ) -> Result<Tablespaces> {
        for (old, new) in mapping {
            if !facts
                .tablespaces
                .iter()
                .any(|t| Path::new(&t.location) == old)
            {
                return Err(Error::NoSuchTablespace { old: old.clone() });
            }
            if !new.is_absolute() {
                let why = "the directory of a tablespace must be absolute".to_owned();
                return Err(Error::TargetInvalid {
                    dir: new.clone(),
                    why,
                });
            }
            if new.starts_with(dir) {
                let why = format!("it lies inside {}", dir.display());
                return Err(Error::TargetInvalid {
                    dir: new.clone(),
                    why,
                });
            }
        }
        let mut beside = dir.as_os_str().to_owned();
        beside.push(".tablespaces");
        let beside = PathBuf::from(beside);
        let place = |oid: u32, location: &str| {
            let mapped = mapping.iter().find(|(old, _)| old == Path::new(location));
            mapped.map_or_else(|| beside.join(oid.to_string()), |(_, new)| new.clone())
        };
        let all: BTreeMap<u32, PathBuf> = facts
            .tablespaces
            .iter()
            .map(|t| (t.oid, place(t.oid, &t.location)))
            .collect();
        let mut sorted: Vec<&PathBuf> = all.values().collect();
        sorted.sort();
        // A path sorts directly before what lies in it.
        if let Some(pair) = sorted.windows(2).find(|pair| pair[1].starts_with(pair[0])) {
            let why = format!("another tablespace lies at {}", pair[0].display());
            return Err(Error::TargetInvalid {
                dir: pair[1].clone(),
                why,
            });
        }
        Ok(Tablespaces(all))
    }

    /// That each directory is empty or not there, unless it is one of `ours`.
    ///
    /// Errors: `TargetNotEmpty`.
    pub(super) fn refuse_occupied(&self, ours: &[PathBuf]) -> Result<()> {
        for dir in self.0.values().filter(|dir| !ours.contains(dir)) {
            if let Some(found) = first_name(dir)? {
                return Err(Error::TargetNotEmpty {
                    dir: dir.clone(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// The directory on this machine for a path of the tree.
    pub(super) fn resolve(&self, dir: &Path, path: &str) -> PathBuf {
        let inside = path.strip_prefix("pg_tblspc/").and_then(|rest| {
            let (oid, rest) = rest.split_once('/').unwrap_or((rest, ""));
            Some((self.0.get(&oid.parse().ok()?)?, rest))
        });
        match inside {
            Some((place, "")) => place.clone(),
            Some((place, rest)) => place.join(rest),
            None => dir.join(path),
        }
    }
}

/// Some name in a directory; nothing when it is empty or not there.
pub(super) fn first_name(dir: &Path) -> Result<Option<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(Error::io("read", dir))?.file_name();
                let name = name.to_string_lossy().into_owned();
                // The first marker is written over what a crash left of writing it.
                if name == marker::NAME || !marker::is_marker(&name) {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", dir)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::TablespaceFact;

    fn facts(locations: &[(u32, &str)]) -> Facts {
        let tablespaces = locations
            .iter()
            .map(|(oid, location)| TablespaceFact {
                oid: *oid,
                location: (*location).into(),
            })
            .collect();
        Facts {
            tablespaces,
            ..Facts::default()
        }
    }

    #[test]
    fn beside_the_checkout_unless_mapped() {
        let facts = facts(&[(16400, "/srv/a"), (16401, "/srv/b")]);
        let mapping = [("/srv/b".into(), "/new/b".into())];
        let places = Tablespaces::plan(&facts, Path::new("/tmp/x"), &mapping).unwrap();
        let resolve = |path| places.resolve(Path::new("/tmp/x"), path);
        assert_eq!(
            resolve("pg_tblspc/16400"),
            Path::new("/tmp/x.tablespaces/16400")
        );
        assert_eq!(
            resolve("pg_tblspc/16401/PG_15/5/1"),
            Path::new("/new/b/PG_15/5/1")
        );
        assert_eq!(
            resolve("pg_tblspc/16402/PG_15"),
            Path::new("/tmp/x/pg_tblspc/16402/PG_15")
        );
        assert_eq!(resolve("base/5/1"), Path::new("/tmp/x/base/5/1"));
        assert_eq!(resolve("pg_tblspc"), Path::new("/tmp/x/pg_tblspc"));
    }

    #[test]
    fn mappings_that_cannot_be_are_refused() {
        let facts = facts(&[(16400, "/srv/a"), (16401, "/srv/b")]);
        let refuse = |mapping: &[(&str, &str)]| {
            let mapping: Vec<_> = mapping.iter().map(|(a, b)| (a.into(), b.into())).collect();
            Tablespaces::plan(&facts, Path::new("/tmp/x"), &mapping).unwrap_err();
        };
        refuse(&[("/srv/c", "/new")]);
        refuse(&[("/srv/a", "relative")]);
        refuse(&[("/srv/a", "/tmp/x/inside")]);
        refuse(&[("/srv/a", "/new"), ("/srv/b", "/new")]);
        refuse(&[("/srv/a", "/new"), ("/srv/b", "/new/below")]);
    }
}
