//! Remotes: repositories that a home fetches from and pushes to, by name. `origin` is its
//! storage; the others lie in the settings. Credentials never do.

use zenith_store::Repository;

use crate::error::Result;
use crate::managed::{Managed, Refusal, Surroundings};
use crate::sync::ORIGIN;
use crate::{publish, start};

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
