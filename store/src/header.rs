//! `zenith.json`: what is fixed when a repository is created, and what makes a place one.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::seal::Seal;
use crate::world::World;

/// The object that makes a place a repository.
pub const HEADER_KEY: &str = "zenith.json";
const KIND: &str = "zenith repository";
const VERSION: u32 = 1;
/// Bytes of a chunk that a repository may choose.
const CHUNK_SIZES: std::ops::RangeInclusive<u32> = 8 << 10..=16 << 20;

/// What is fixed when a repository is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Bytes of a chunk, a power of two.
    pub chunk_size: u32,
    /// Files of at most this many bytes lie in the tree.
    pub inline_limit: u32,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            chunk_size: 64 << 10,
            inline_limit: 1 << 10,
        }
    }
}

impl Params {
    pub(crate) fn check(self) -> Result<()> {
        let Params { chunk_size, .. } = self;
        if chunk_size.is_power_of_two() && CHUNK_SIZES.contains(&chunk_size) {
            return Ok(());
        }
        let (least, most) = CHUNK_SIZES.into_inner();
        Err(Error::Invalid {
            what: format!(
                "chunk size {chunk_size}: a power of two from {least} to {most} is needed"
            ),
        })
    }
}

/// The content of `zenith.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    kind: String,
    version: u32,
    /// 32 hexadecimal digits that name the repository.
    pub(crate) id: String,
    hash: String,
    keyed: bool,
    /// Names the master key of a sealed repository; no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_id: Option<String>,
    chunk_size: u32,
    inline_limit: u32,
    #[serde(default)]
    incompatible: Vec<String>,
}

impl Header {
    /// Of a new repository.
    pub(crate) fn new(world: &World, params: Params, seal: Option<&Seal>) -> Header {
        Header {
            kind: KIND.into(),
            version: VERSION,
            id: crate::id::hex(&world.bytes::<16>()),
            hash: "blake3".into(),
            keyed: seal.is_some(),
            key_id: seal.map(|seal| seal.key_id().to_owned()),
            chunk_size: params.chunk_size,
            inline_limit: params.inline_limit,
            incompatible: vec![],
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data has a JSON form");
        bytes.push(b'\n');
        bytes
    }

    pub(crate) fn params(&self) -> Params {
        Params {
            chunk_size: self.chunk_size,
            inline_limit: self.inline_limit,
        }
    }

    /// Of the repository at `objects`.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::TooNew`], [`Error::Damaged`]; when the place cannot be
    /// asked.
    pub(crate) fn read(objects: &dyn Objects) -> Result<Header> {
        let location = objects.location();
        let bytes = match objects.get(HEADER_KEY) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Err(Error::NotARepository { location }),
            Err(e) => return Err(e.into()),
        };
        let damaged = |why: String| Error::Damaged {
            what: HEADER_KEY.into(),
            location: location.clone(),
            why,
        };
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if header.kind != KIND {
            return Err(Error::NotARepository { location });
        }
        let keyed_as_known = header.keyed == header.key_id.is_some();
        if header.version > VERSION || !header.incompatible.is_empty() || !keyed_as_known {
            return Err(Error::TooNew {
                location,
                what: format!(
                    "version {}, features {:?}, keyed {}",
                    header.version, header.incompatible, header.keyed
                ),
            });
        }
        header.params().check()?;
        Ok(header)
    }
}
