//! Remotes: repositories that a home fetches from and pushes to, by name. `origin` is its
//! storage; the others lie in the settings. Credentials never do.

use std::path::Path;

use zenith_store::objects::StorageUrl;
use zenith_store::{RefChange, Repository, SnapshotId};

use crate::error::{Error, Result};
use crate::head;
use crate::home::{HomeLock, Wait};
use crate::known;
use crate::managed::{Managed, Refusal, Surroundings};
use crate::settings::Settings;
use crate::sync::{self, ORIGIN, Relation};
use crate::who::{operation, verb};
use crate::{publish, start};

/// A remote of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// An absolute path or a URL.
    pub location: String,
    /// Its branches with their tips, as far as they are known here.
    pub branches: Vec<(String, SnapshotId)>,
}

/// A branch of a remote, asked for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteBranch {
    /// Without `branch/`.
    pub name: String,
    /// Its tip there.
    pub tip: SnapshotId,
    /// Where it is known here to stand.
    pub noted: Option<SnapshotId>,
    /// The local branch of this name, and how that stands to it.
    pub local: Option<(SnapshotId, Relation)>,
}

/// Where a remote lies.
///
/// Errors: `Refusal::NoStorage` for an `origin` that is none, `Refusal::NoRemote`.
pub fn location(managed: &Managed, name: &str) -> Result<String> {
    if name == ORIGIN {
        return publish::location(managed).map(str::to_owned);
    }
    match managed.settings.remotes.get(name) {
        Some(location) => Ok(location.clone()),
        None => Err(Refusal::NoRemote {
            name: name.to_owned(),
            known: names(managed),
        }
        .into()),
    }
}

/// The names of all remotes, `origin` first.
pub fn names(managed: &Managed) -> Vec<String> {
    let origin = managed.settings.storage_dest.as_ref().map(|_| ORIGIN);
    let others = managed.settings.remotes.keys().map(String::as_str);
    origin
        .into_iter()
        .chain(others)
        .map(str::to_owned)
        .collect()
}

/// The repository of a remote, which must be there.
///
/// Errors: those of [`location`] and of the store.
pub fn open(managed: &Managed, around: &Surroundings, name: &str) -> Result<Repository> {
    let location = location(managed, name)?;
    start::open_storage(managed, around, &location)
}

/// Every remote, `origin` first.
pub fn list(managed: &Managed) -> Result<Vec<Remote>> {
    names(managed)
        .into_iter()
        .map(|name| {
            let location = location(managed, &name)?;
            let branches = notes(managed, &name)?;
            Ok(Remote {
                name,
                location,
                branches,
            })
        })
        .collect()
}

/// What the home knows of a remote's branches.
fn notes(managed: &Managed, name: &str) -> Result<Vec<(String, SnapshotId)>> {
    let state = match publish::local_state(managed) {
        Ok(state) => state,
        Err(Error::Store(zenith_store::Error::NotARepository { .. })) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let folder = format!("remote/{name}/");
    let branches = state
        .refs()
        .iter()
        .filter_map(|(full, tip)| Some((full.strip_prefix(&folder)?.to_owned(), *tip)));
    Ok(branches.collect())
}

/// Asks a remote for its branches.
///
/// Errors: those of [`open`].
pub fn show(managed: &Managed, around: &Surroundings, name: &str) -> Result<Vec<RemoteBranch>> {
    let there = open(managed, around, name)?.state()?;
    let here = publish::local_state(managed)?;
    let own = there.get_ref(&format!("homes/{}", managed.settings.home_id));
    let branches = there.refs().iter().filter_map(|(full, tip)| {
        let branch = full.strip_prefix("branch/")?;
        let ours = here.get_ref(full);
        Some(RemoteBranch {
            name: branch.to_owned(),
            tip: *tip,
            noted: here.get_ref(&format!("remote/{name}/{branch}")),
            local: ours.map(|ours| {
                let relation = sync::relation(&here, ours, &there, Some(*tip), own);
                (ours, relation)
            }),
        })
    });
    Ok(branches.collect())
}

/// Adds a remote. `origin` becomes the storage of a home that has none; what a flag or a variable
/// sent elsewhere before is forgotten then.
///
/// Errors: `Refusal::{RemoteNameInvalid, RemoteExists}`, `Url`, `TargetInvalid`.
pub fn add(managed: &Managed, name: &str, location: &str) -> Result<()> {
    check_name(name)?;
    check_location(managed, location)?;
    change(managed, |lock, settings| {
        let slot = find(settings, name);
        if let Some(there) = slot {
            return Err(Refusal::RemoteExists {
                name: name.to_owned(),
                location: there,
            }
            .into());
        }
        if name == ORIGIN {
            forget_notes(managed, lock, name)?;
        }
        put(settings, name, Some(location));
        Ok(())
    })
}

/// Has a remote lie elsewhere. What is known of the old place's branches is forgotten, so that
/// nothing passes for sent which the new one never got.
///
/// Errors: `Refusal::NoRemote`, `Url`, `TargetInvalid`.
pub fn set_url(managed: &Managed, name: &str, location: &str) -> Result<()> {
    check_location(managed, location)?;
    change(managed, |lock, settings| {
        let old = find(settings, name).ok_or_else(|| none(managed, name))?;
        if old != location {
            forget_notes(managed, lock, name)?;
            known::forget(&managed.home, &old)?;
            put(settings, name, Some(location));
        }
        Ok(())
    })
}

/// Forgets a remote, and what is known of its branches. Nothing changes there.
///
/// Errors: `Refusal::NoRemote`.
pub fn remove(managed: &Managed, name: &str, dry_run: bool) -> Result<Remote> {
    let branches = notes(managed, name)?;
    let mut location = None;
    change(managed, |lock, settings| {
        location = find(settings, name);
        if location.is_none() {
            return Err(none(managed, name).into());
        }
        if !dry_run {
            forget_notes(managed, lock, name)?;
            if let Some(location) = &location {
                known::forget(&managed.home, location)?;
            }
            put(settings, name, None);
        }
        Ok(())
    })?;
    Ok(Remote {
        name: name.to_owned(),
        location: location.unwrap_or_default(),
        branches,
    })
}

/// Changes the saved settings alone: what holds for this command only is not saved with them.
fn change(
    managed: &Managed,
    how: impl FnOnce(&HomeLock, &mut Settings) -> Result<()>,
) -> Result<()> {
    let lock = managed.home.lock("remote", Wait::UpTo(sync::NOTE_WAIT))?;
    let saved = managed.home.settings()?;
    let mut settings = saved.clone();
    how(&lock, &mut settings)?;
    if settings != saved {
        managed.home.save_settings(&settings)?;
    }
    Ok(())
}

fn find(settings: &Settings, name: &str) -> Option<String> {
    if name == ORIGIN {
        return settings.storage_dest.clone();
    }
    settings.remotes.get(name).cloned()
}

fn put(settings: &mut Settings, name: &str, location: Option<&str>) {
    let location = location.map(str::to_owned);
    match location {
        location if name == ORIGIN => settings.storage_dest = location,
        Some(location) => drop(settings.remotes.insert(name.to_owned(), location)),
        None => drop(settings.remotes.remove(name)),
    }
}

fn none(managed: &Managed, name: &str) -> Refusal {
    Refusal::NoRemote {
        name: name.to_owned(),
        known: names(managed),
    }
}

fn check_name(name: &str) -> Result<()> {
    let why = match head::check_name(name) {
        Err(Error::NameInvalid { why, .. }) => why,
        Err(e) => return Err(e),
        Ok(()) if name.contains('/') => "it contains a slash",
        Ok(()) => return Ok(()),
    };
    Err(Refusal::RemoteNameInvalid {
        name: name.to_owned(),
        why,
    }
    .into())
}

fn check_location(managed: &Managed, location: &str) -> Result<()> {
    StorageUrl::parse(location, Path::new("/"))?;
    sync::refuse_unusable(location, managed.home.dir())
}

fn forget_notes(managed: &Managed, lock: &HomeLock, name: &str) -> Result<()> {
    let noted = notes(managed, name)?;
    if noted.is_empty() {
        return Ok(());
    }
    let refs = noted.into_iter().map(|(branch, tip)| RefChange {
        name: format!("remote/{name}/{branch}"),
        from: Some(tip),
        to: None,
    });
    let refs: Vec<RefChange> = refs.collect();
    let operation = operation(managed.home.world(), verb::REMOTE, name);
    Ok(managed.home.writer(lock)?.move_each(&refs, &operation)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use zenith_store::Change;

    #[test]
    fn remotes_are_saved_by_name_and_origin_is_the_storage() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let lock = home.lock("test", Wait::No).unwrap();
        home.create_repository(
            zenith_store::Params::default(),
            operation(home.world(), "init", ""),
        )
        .unwrap();
        let note = RefChange {
            name: "remote/offsite/main".into(),
            from: None,
            to: Some(SnapshotId([1; 32])),
        };
        let noted = Change {
            refs: vec![note],
            ..Change::default()
        };
        home.writer(&lock).unwrap().commit(noted).unwrap();
        drop(lock);
        let open = || Managed::open(home.dir()).unwrap();
        let known = || {
            let all = list(&open()).unwrap();
            let lines = all
                .iter()
                .map(|r| format!("{} {} {}", r.name, r.location, r.branches.len()));
            lines.collect::<Vec<_>>()
        };
        assert!(known().is_empty());
        add(&open(), "offsite", "s3://b/p").unwrap();
        add(&open(), ORIGIN, "/srv/store").unwrap();
        assert_eq!(known(), ["origin /srv/store 0", "offsite s3://b/p 1"]);
        assert_eq!(open().settings.storage_dest.as_deref(), Some("/srv/store"));
        for (name, place) in [(ORIGIN, "/srv/store"), ("offsite", "s3://b/p")] {
            let refused = add(&open(), name, "/elsewhere").unwrap_err();
            assert!(
                matches!(&refused, Error::Managed(Refusal::RemoteExists { location, .. })
                    if location == place),
                "{refused}"
            );
        }
        for bad in ["", "a/b", "a b", "-x"] {
            let refused = add(&open(), bad, "/s").unwrap_err();
            assert!(
                matches!(refused, Error::Managed(Refusal::RemoteNameInvalid { .. })),
                "{bad}"
            );
        }
        let inside = home.dir().join("store");
        assert!(add(&open(), "in", inside.to_str().unwrap()).is_err());
        assert!(add(&open(), "odd", "ftp://x/y").is_err());

        // The same place again keeps what is known of it; another one has none of it.
        set_url(&open(), "offsite", "s3://b/p").unwrap();
        assert_eq!(known()[1], "offsite s3://b/p 1");
        set_url(&open(), "offsite", "s3://b/q").unwrap();
        assert_eq!(known()[1], "offsite s3://b/q 0");
        remove(&open(), "offsite", true).unwrap();
        assert_eq!(known().len(), 2);
        assert_eq!(
            remove(&open(), "offsite", false).unwrap().location,
            "s3://b/q"
        );
        remove(&open(), ORIGIN, false).unwrap();
        assert!(known().is_empty());
        for gone in ["offsite", ORIGIN] {
            let refused = remove(&open(), gone, false).unwrap_err();
            assert!(matches!(refused, Error::Managed(Refusal::NoRemote { .. })));
        }
        assert_eq!(open().settings, home.settings().unwrap());
    }
}
