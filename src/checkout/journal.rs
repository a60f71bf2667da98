//! The note in the home that an in-place checkout has begun: the file `journal`.
//!
//! It is written before the target is touched and removed after `global/pg_control` is in place.
//! As long as it is there, the target is neither started nor snapshotted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zenith_store::Stand;

use crate::disk;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::home::Home;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// `pg_control` may still be there, and everything else is as it was.
    Begun,
    /// `pg_control` was removed. If it is there, it is the new one, and the checkout is complete.
    Placing,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The directory that is being changed.
    pub dir: PathBuf,
    /// The snapshot it is to hold, 64 hexadecimal digits.
    pub snapshot: String,
    /// Where HEAD goes with it, as the file `HEAD` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Where HEAD was, as the file `HEAD` said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_head: Option<String>,
    /// The snapshot that was all of the cluster, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How far it is.
    pub step: Step,
}

/// The in-place checkout that is not complete, if there is one.
///
/// Errors: `HomeDamaged`, `Io`.
pub fn pending(home: &Home) -> Result<Option<Journal>> {
    let path = path(home);
    let Some(bytes) = disk::read_if_there(&path)? else {
        return Ok(None);
    };
    toml::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::HomeDamaged {
            path,
            why: e.to_string().trim_end().to_owned(),
        })
}

/// Fails while a checkout into `dir` is not complete.
///
/// Errors: `CheckoutPending`.
pub fn refuse_pending(home: &Home, dir: &Path) -> Result<()> {
    match pending(home)? {
        Some(journal) if same_dir(&journal.dir, dir) => Err(Error::CheckoutPending {
            dir: journal.dir,
            snapshot: journal.snapshot,
        }),
        _ => Ok(()),
    }
}

impl Journal {
    /// Where HEAD goes.
    ///
    /// Errors: `HomeDamaged`.
    pub(super) fn head(&self, home: &Home) -> Result<Option<Head>> {
        let head = self.head.as_deref().map(str::parse).transpose();
        head.map_err(|why| Error::HomeDamaged {
            path: path(home),
            why,
        })
    }

    /// Where the home stood when it began, if it said so.
    pub(crate) fn stood(&self) -> Option<Stand> {
        Some(Stand {
            head: self.from_head.clone()?,
            holds: self.from.as_deref().and_then(|id| id.parse().ok()),
        })
    }

    pub(super) fn write(&self, home: &Home) -> Result<()> {
        let path = path(home);
        let text = toml::to_string(self).map_err(|e| Error::HomeDamaged {
            path: path.clone(),
            why: e.to_string(),
        })?;
        disk::replace(&path, text.as_bytes(), 0o600)
    }
}

/// The move is over.
pub(crate) fn remove(home: &Home) -> Result<()> {
    disk::remove(&path(home))
}

/// Whether both name the same directory, however they are spelled.
pub fn same_dir(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

fn path(home: &Home) -> PathBuf {
    home.dir().join("journal")
}
