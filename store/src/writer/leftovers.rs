//! What an interrupted writer left in the folder of packs.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::id::PackName;
use crate::objects::disk;
use crate::pack::{self, Directory};
use crate::repository::Repository;

impl Repository {
    /// Packs that no root names and no fetch is bringing: whole ones are kept for use, all else goes away.
    pub(super) fn adopt_leftovers(&self, packs_dir: &Path) -> Result<HashMap<PackName, u64>> {
        let state = self.state()?;
        let mut named = state.named_packs();
        // Those of an interrupted fetch wait for the one that goes on with them.
        named.extend(self.arriving()?);
        disk::remove_leftovers(packs_dir).map_err(|e| self.pack_error(e))?;
        let mut adopted = HashMap::new();
        for listed in self.objects().list("packs/")? {
            let Some(name) = listed
                .key
                .strip_prefix("packs/")
                .and_then(|n| n.parse().ok())
            else {
                continue;
            };
            if named.contains(&name) {
                continue;
            }
            match self.whole_directory(name, listed.size, packs_dir)? {
                Ok(directory) => {
                    self.inner.index.add_pack(name, &directory)?;
                    adopted.insert(name, listed.size);
                }
                Err(why) => {
                    tracing::debug!("pack {name} of an interrupted writer is removed: {why}");
                    self.objects().delete(&listed.key)?;
                }
            }
        }
        // The name may be all that its writer could not bring to disk.
        if !adopted.is_empty() {
            disk::sync_directory(packs_dir).map_err(|e| self.pack_error(e))?;
        }
        let mut live = self.lock_live_write();
        live.pending.clone_from(&adopted);
        Ok(adopted)
    }

    /// The directory of a pack that may never have been synced, so that its bytes are read, not
    /// believed. The inner error says what is wrong with it.
    fn whole_directory(
        &self,
        name: PackName,
        len: u64,
        packs_dir: &Path,
    ) -> Result<Result<Directory, String>> {
        let path = packs_dir.join(name.to_string());
        let mut file = std::fs::File::open(&path).map_err(Error::file("open", &path))?;
        let checked = pack::reader::check_file(&mut file).map_err(Error::file("read", &path))?;
        if let Err(why) = checked {
            return Ok(Err(why));
        }
        match self.directory(name, len) {
            Ok(directory) => Ok(Ok(directory)),
            Err(Error::Damaged { why, .. }) => Ok(Err(why)),
            Err(e) => Err(e),
        }
    }
}
