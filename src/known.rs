//! The repositories that a home has been with, by where they lie: `<home>/storages.json`.
//!
//! A storage that is empty where there was a repository is a disk that is not mounted, or a loss.
//! Making a new repository there would hide either, and the packs that the old one needs would
//! never be sent again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zenith_store::Repository;

use crate::disk;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::managed::Refusal;

/// Location → id of the repository there.
type Known = BTreeMap<String, String>;

/// Refuses a place that held a repository and holds none now.
///
/// Errors: `Refusal::StorageGone`, `HomeDamaged`.
pub(crate) fn expect(home: &Home, location: &str, there: bool) -> Result<()> {
    if there || !read(home)?.contains_key(location) {
        return Ok(());
    }
    Err(Refusal::StorageGone {
        location: location.to_owned(),
    }
    .into())
}

/// Remembers the repository at a place, which must be the one that was there before. A home that
/// is only being made remembers nothing: what it pushes to may still be named differently.
///
/// Errors: `Refusal::StorageReplaced`, `HomeDamaged`, `Io`.
pub(crate) fn meet(home: &Home, location: &str, repository: &Repository) -> Result<()> {
    let mut known = read(home)?;
    let id = repository.id();
    match known.get(location) {
        Some(known) if known == id => Ok(()),
        Some(_) => Err(Refusal::StorageReplaced {
            location: location.to_owned(),
        }
        .into()),
        None if !home.config_path().exists() => Ok(()),
        None => {
            known.insert(location.to_owned(), id.to_owned());
            write(home, &known)
        }
    }
}

/// Forgets what was at a place, since somebody said that it is another one's or gone.
///
/// Errors: `HomeDamaged`, `Io`.
pub(crate) fn forget(home: &Home, location: &str) -> Result<()> {
    let mut known = read(home)?;
    match known.remove(location) {
        Some(_) => write(home, &known),
        None => Ok(()),
    }
}

/// The repository that was at a place, as far as the home remembers.
///
/// Errors: `HomeDamaged`.
pub(crate) fn id(home: &Home, location: &str) -> Result<Option<String>> {
    Ok(read(home)?.remove(location))
}

fn path(home: &Home) -> PathBuf {
    home.dir().join("storages.json")
}

fn read(home: &Home) -> Result<Known> {
    let path = path(home);
    let Some(bytes) = disk::read_if_there(&path)? else {
        return Ok(Known::new());
    };
    serde_json::from_slice(&bytes).map_err(|e| Error::HomeDamaged {
        path,
        why: e.to_string(),
    })
}

fn write(home: &Home, known: &Known) -> Result<()> {
    let bytes = serde_json::to_vec(known).map_err(|e| Error::Internal {
        what: format!("JSON of the known storages: {e}"),
    })?;
    disk::replace(&path(home), &bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zenith_store::objects::{Directory, Objects};
    use zenith_store::{IndexChoice, Operation, Params};

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_place_is_known_by_its_repository() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        let make = |name: &str| {
            let place = dir.path().join(name);
            std::fs::create_dir(&place).unwrap();
            let objects: Arc<dyn Objects> = Arc::new(Directory::new(&place));
            let index = IndexChoice::Memory;
            Repository::create(
                objects,
                Params::default(),
                None,
                index,
                Operation::default(),
            )
            .unwrap()
        };
        let (a, b) = (make("a"), make("b"));
        meet(&home, "/a", &a).unwrap();
        expect(&home, "/a", false).unwrap();

        home.complete(&Settings::new()).unwrap();
        meet(&home, "/a", &a).unwrap();
        meet(&home, "/a", &a).unwrap();
        expect(&home, "/a", true).unwrap();
        let gone = expect(&home, "/a", false).unwrap_err();
        assert!(matches!(gone, Error::Managed(Refusal::StorageGone { .. })));
        let other = meet(&home, "/a", &b).unwrap_err();
        assert!(matches!(
            other,
            Error::Managed(Refusal::StorageReplaced { .. })
        ));

        forget(&home, "/a").unwrap();
        expect(&home, "/a", false).unwrap();
        meet(&home, "/a", &b).unwrap();
        std::fs::write(path(&home), "{").unwrap();
        assert!(matches!(
            meet(&home, "/a", &b),
            Err(Error::HomeDamaged { .. })
        ));
    }
}
