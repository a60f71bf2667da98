//! Looks whether everything that snapshots need is there and whole.

use crate::blob::Fetched;
use crate::delta::Form;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PackName, SnapshotId};
use crate::index::locations;
use crate::pack;
use crate::repository::Repository;
use std::collections::HashSet;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// That every pack is there in its length and every node readable.
    Quick,
    /// Every byte, every blob against its id.
    ReadData,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Packs looked at.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots walked.
    pub snapshots: u64,
    /// Packs that are missing or damaged, with what was found.
    pub bad_packs: Vec<(PackName, String)>,
    /// Snapshots that need what is missing or damaged, with the first thing found.
    pub bad_snapshots: Vec<(SnapshotId, String)>,
}

impl VerifyReport {
    /// Whether nothing bad was found.
    pub fn is_good(&self) -> bool {
        self.bad_packs.is_empty() && self.bad_snapshots.is_empty()
    }
}

impl Repository {
    /// Looks at every pack and walks every snapshot. Damage is in the report, not an error.
    ///
    /// # Errors
    /// When the place itself cannot be read.
    pub fn verify(&self, how: Verify) -> Result<VerifyReport> {
        let state = self.state()?;
        let mut report = VerifyReport::default();
        for row in state.packs() {
            let key = row.name.key();
            let found = match (self.objects().size(&key)?, how) {
                (None, _) => Err("it is missing".to_owned()),
                (Some(len), _) if len != row.len => {
                    Err(format!("it has {len} bytes, {} expected", row.len))
                }
                (Some(_), Verify::ReadData) => self.check_pack(row.name)?,
                (Some(_), Verify::Quick) => match self.directory(row.name, row.len) {
                    Ok(_) => Ok(()),
                    Err(Error::Damaged { why, .. }) => Err(why),
                    Err(e) => return Err(e),
                },
            };
            report.packs += 1;
            report.bytes += row.len;
            if let Err(why) = found {
                report.bad_packs.push((row.name, why));
            }
        }
        let bad: HashSet<PackName> = report.bad_packs.iter().map(|(name, _)| *name).collect();
        for row in state.snapshots() {
            report.snapshots += 1;
            if let Some(pack) = state.usage(&row.id).keys().find(|name| bad.contains(name)) {
                report
                    .bad_snapshots
                    .push((row.id, format!("it needs pack {pack}")));
                continue;
            }
            // A walk of its own for each: damage in a shared node touches all who share it.
            let walked = self.places(row.id, row.tree, &mut HashSet::new(), &mut |_, _, _| {});
            match walked {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    report.bad_snapshots.push((row.id, e.to_string()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(report)
    }

    /// Reads a pack whole; what stands on blobs elsewhere is read with them. The inner error says
    /// what is wrong with it.
    fn check_pack(&self, name: PackName) -> Result<Result<(), String>> {
        let bytes = self.objects().get(&name.key())?;
        let directory = match pack::reader::check(&bytes, self.ids(), self.seal()) {
            Ok(directory) => directory,
            Err(why) => return Ok(Err(why)),
        };
        drop(bytes);
        let mut bytes = Vec::new();
        let kinds = directory.frames.iter().flat_map(|f| &f.blobs);
        for ((id, place), blob) in locations(name, &directory).zip(kinds) {
            if place.form == Form::Plain {
                continue;
            }
            // A delta that nothing needs may have lost its base; one that a snapshot needs is
            // missed when that is walked.
            let Some(chain) = self.chain(id, place)? else {
                continue;
            };
            match self.read_chain(blob.part.kind, &chain, &Fetched::default(), &mut bytes) {
                Ok(()) => {}
                Err(Error::BlobDamaged { pack, why, .. }) if pack == name => return Ok(Err(why)),
                // Damage below it is told of where it is.
                Err(e) if e.kind() == ErrorKind::Damaged => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Ok(()))
    }
}
