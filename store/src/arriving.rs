//! Packs on their way into a home.
//!
//! A fetch commits once all of its packs are here. Their names are written down before the first
//! arrives, so that what an interrupted one brought is no leftover of a writer: it waits for the
//! fetch that goes on with it. The names go with that commit, with a collection that gives no
//! grace, and when no fetch went on for as long as a session may take.

use crate::collect::Collect;
use crate::error::{Error, Result};
use crate::id::PackName;
use crate::objects::disk;
use crate::repository::Repository;
use crate::state::State;
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names of packs, one a line.
const FILE: &str = "arriving";

impl Repository {
    /// Only a home has one writer, who may tell what is whose.
    fn arriving_file(&self) -> Option<PathBuf> {
        let path = self.objects().local_path(FILE);
        path.filter(|_| self.is_alone())
    }

    /// Packs that a fetch is bringing, or was when it was interrupted.
    pub(crate) fn arriving(&self) -> Result<HashSet<PackName>> {
        let Some(path) = self.arriving_file() else {
            return Ok(HashSet::new());
        };
        match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(HashSet::new()),
            text => {
                let text = text.map_err(Error::file("read", &path))?;
                Ok(text.lines().filter_map(|name| name.parse().ok()).collect())
            }
        }
    }

    /// Notes that these packs are going to arrive.
    pub(crate) fn expect_packs(&self, packs: impl Iterator<Item = PackName>) -> Result<()> {
        let Some(path) = self.arriving_file() else {
            return Ok(());
        };
        let mut names: BTreeSet<PackName> = packs.collect();
        if names.is_empty() {
            return Ok(());
        }
        names.extend(self.arriving()?);
        write(&path, &names)
    }

    /// Notes that of the packs which were to arrive those that `state` names belong to it.
    pub(crate) fn packs_arrived(&self, state: &State) -> Result<()> {
        let Some(path) = self.arriving_file() else {
            return Ok(());
        };
        let expected = self.arriving()?;
        if expected.is_empty() {
            return Ok(());
        }
        let named = state.named_packs();
        let left: BTreeSet<PackName> = expected.difference(&named).copied().collect();
        match left.is_empty() {
            true => disk::remove_file(&path).map_err(Error::file("remove", &path)),
            false => write(&path, &left),
        }
    }

    /// Packs that a collection leaves for a fetch to go on with; what it leaves no more is
    /// forgotten, unless nothing is to be changed.
    pub(crate) fn still_arriving(&self, how: &Collect, forgets: bool) -> Result<HashSet<PackName>> {
        let Some(path) = self.arriving_file() else {
            return Ok(HashSet::new());
        };
        let written = match std::fs::metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(HashSet::new()),
            found => found.map_err(Error::file("look at", &path))?.mtime(),
        };
        if how.grace > 0 && how.now <= written.saturating_add(how.sessions) {
            return self.arriving();
        }
        if forgets {
            disk::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
        Ok(HashSet::new())
    }
}

fn write(path: &Path, names: &BTreeSet<PackName>) -> Result<()> {
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    disk::write_over(path, lines.as_bytes()).map_err(Error::file("write", path))
}
