//! Which lineage a cluster on this machine has, and where that is written down.
//!
//! A directory that zenith filled says so in its marker (`marker.rs`): every checkout begins a
//! lineage. Nothing is ever written into a cluster that zenith did not make; those are listed in
//! `<home>/clusters.toml`, by path, directory and system identifier, so that a cluster which was
//! replaced or copied is another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zenith_store::World;

use crate::disk;
use crate::error::{Error, Result};
use crate::facts::Lineage;
use crate::home::Home;
use crate::marker::Marker;

/// Clusters that are remembered; the oldest are forgotten first.
const CLUSTERS_MAX: usize = 1000;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Clusters {
    #[serde(default)]
    cluster: Vec<Cluster>,
}

/// A cluster that zenith did not make, and of which the home has taken snapshots.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
    pub(crate) system_identifier: u64,
    lineage: String,
}

/// Every one that is remembered.
///
/// Errors: `HomeDamaged`, `Io`.
pub(crate) fn known(home: &Home) -> Result<Vec<Cluster>> {
    Ok(read(&home.dir().join("clusters.toml"))?.cluster)
}

fn read(file: &Path) -> Result<Clusters> {
    let Some(bytes) = disk::read_if_there(file)? else {
        return Ok(Clusters::default());
    };
    toml::from_slice(&bytes).map_err(|e| Error::HomeDamaged {
        path: file.to_owned(),
        why: e.to_string().trim_end().to_owned(),
    })
}

/// The lineage of the cluster in `pgdata`; a new one, remembered in `home`, where it has none. The
/// caller holds the home's lock.
///
/// Errors: `HomeDamaged`, `Io`.
pub fn of(
    world: &World,
    home: Option<&Home>,
    pgdata: &Path,
    system_identifier: u64,
) -> Result<Lineage> {
    if let Some(marker) = Marker::read(pgdata)? {
        return marker.lineage.parse().map_err(|why| Error::HomeDamaged {
            path: pgdata.join("zenith.checkout"),
            why,
        });
    }
    let Some(home) = home else {
        return Ok(Lineage::random(world));
    };
    let file = home.dir().join("clusters.toml");
    let damaged = |why: String| Error::HomeDamaged {
        path: file.clone(),
        why,
    };
    let mut clusters = read(&file)?;
    let path = pgdata
        .canonicalize()
        .map_err(Error::io("resolve", pgdata))?;
    let meta = fs::metadata(&path).map_err(Error::io("stat", &path))?;
    let known = clusters.cluster.iter().find(|c| c.path == path);
    if let Some(known) = known
        && (known.device, known.inode) == (meta.dev(), meta.ino())
        && known.system_identifier == system_identifier
    {
        return known.lineage.parse().map_err(damaged);
    }
    let lineage = Lineage::random(world);
    clusters.cluster.retain(|c| c.path != path);
    clusters.cluster.push(Cluster {
        path,
        device: meta.dev(),
        inode: meta.ino(),
        system_identifier,
        lineage: lineage.to_string(),
    });
    let surplus = clusters.cluster.len().saturating_sub(CLUSTERS_MAX);
    clusters.cluster.drain(..surplus);
    let text = toml::to_string(&clusters).map_err(|e| damaged(e.to_string()))?;
    disk::replace(&file, text.as_bytes(), 0o600)?;
    Ok(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_cluster_keeps_its_lineage_until_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("home")).unwrap();
        home.complete(&Settings::new()).unwrap();
        let pgdata = dir.path().join("pgdata");
        fs::create_dir(&pgdata).unwrap();
        let of = |identifier| of(home.world(), Some(&home), &pgdata, identifier).unwrap();
        let first = of(1);
        assert_eq!(of(1), first);
        let replaced = of(2);
        assert_ne!(replaced, first);
        // The new directory is made before the old one goes, so that it has another inode.
        fs::rename(&pgdata, dir.path().join("old")).unwrap();
        fs::create_dir(&pgdata).unwrap();
        let third = of(2);
        assert_ne!(third, replaced);
        let lineage = Lineage::random(home.world());
        Marker::new(&pgdata, "00".repeat(32), lineage.to_string())
            .unwrap()
            .write(&pgdata)
            .unwrap();
        assert_eq!(of(2), lineage);
        assert_ne!(
            super::of(home.world(), None, &dir.path().join("old"), 2).unwrap(),
            super::of(home.world(), None, &dir.path().join("old"), 2).unwrap()
        );
    }
}
