//! An index in memory: for storages that are read rarely, and for tests.

use super::{Index, Location, locations};
use crate::error::Result;
use crate::id::{BASE_LEN, Id, PackName};
use crate::pack::Directory;
use std::collections::{BTreeMap, HashSet};
use std::sync::{PoisonError, RwLock};

/// Everything in two maps.
#[derive(Debug, Default)]
pub struct MemIndex {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    packs: HashSet<PackName>,
    blobs: BTreeMap<Id, Vec<Location>>,
}

impl Index for MemIndex {
    fn packs(&self) -> Result<HashSet<PackName>> {
        Ok(self
            .inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .packs
            .clone())
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn add_pack(&self, pack: PackName, directory: &Directory) -> Result<()> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.packs.insert(pack) {
            for (id, location) in locations(pack, directory) {
                inner.blobs.entry(id).or_default().push(location);
            }
        }
        Ok(())
    }

    fn drop_pack(&self, pack: PackName, directory: &Directory) -> Result<()> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.packs.remove(&pack);
        for (id, _) in locations(pack, directory) {
            if let Some(places) = inner.blobs.get_mut(&id) {
                places.retain(|l| l.pack != pack);
            }
        }
        Ok(())
    }

    fn get(&self, id: &Id) -> Result<Vec<Location>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.blobs.get(id).cloned().unwrap_or_default())
    }

    fn get_base(&self, base: &[u8; BASE_LEN]) -> Result<Vec<(Id, Location)>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut first = Id::default();
        first.0[..BASE_LEN].copy_from_slice(base);
        Ok(inner
            .blobs
            .range(first..)
            .take_while(|(id, _)| id.base() == *base)
            .flat_map(|(id, places)| places.iter().map(|place| (*id, *place)))
            .collect())
    }
}
