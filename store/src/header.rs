//! `zenith.json`: what is fixed when a repository is created, and what makes a place one.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{Kind, PackName};
use crate::objects::{Created, Objects};
use crate::pack;
use crate::root::Root;
use crate::seal::Seal;
use crate::world::World;

/// The object that makes a place a repository.
pub const HEADER_KEY: &str = "zenith.json";
const KIND: &str = "zenith repository";
const VERSION: u32 = 1;
/// Bytes of a chunk that a repository may choose.
const CHUNK_SIZES: std::ops::RangeInclusive<u32> = 8 << 10..=16 << 20;
/// Packs that are asked how large chunks are.
const PACKS_ASKED: usize = 8;

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
            id: crate::id::hex(&world.bytes::<16>()),
            ..Header::of(params, seal)
        }
    }

    /// Of a repository without a name.
    fn of(params: Params, seal: Option<&Seal>) -> Header {
        Header {
            kind: KIND.into(),
            version: VERSION,
            id: String::new(),
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

    /// Of the repository at `objects`. Where it is missing, or is another program's, and there are
    /// roots, it is lost.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::TooNew`], [`Error::Damaged`]; when the place cannot be
    /// asked.
    pub(crate) fn read(objects: &dyn Objects) -> Result<Header> {
        let location = objects.location();
        let bytes = match objects.get(HEADER_KEY) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Err(absent(objects, "it is missing")?),
            Err(e) => return Err(e.into()),
        };
        let damaged = |why: String| Error::Damaged {
            what: HEADER_KEY.into(),
            location: location.clone(),
            why,
        };
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if header.kind != KIND {
            return Err(absent(objects, "it is no header of a repository")?);
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

/// Whether roots lie there.
pub(crate) fn has_roots(objects: &dyn Objects) -> Result<bool> {
    Ok(!objects.list("roots/")?.is_empty())
}

/// The error for a place without header: a repository that lost it, or none.
fn absent(objects: &dyn Objects, why: &str) -> Result<Error> {
    let location = objects.location();
    Ok(match has_roots(objects)? {
        true => lost(location, why),
        false => Error::NotARepository { location },
    })
}

fn lost(location: String, why: impl Into<String>) -> Error {
    Error::Damaged {
        what: HEADER_KEY.into(),
        location,
        why: why.into(),
    }
}

/// What a header that is lost was like, as far as its repository does not say that itself.
#[derive(Debug, Clone, Copy)]
pub struct Remembered<'a> {
    /// Of a repository that has the same: its home, or the storage of a home.
    pub params: Params,
    /// Of a sealed repository.
    pub seal: Option<&'a Seal>,
    /// The repository that was there, where that is known.
    pub id: Option<&'a str>,
}

/// See [`Repository::restore_header`](crate::Repository::restore_header).
pub(crate) fn restore(objects: &dyn Objects, remembered: Remembered<'_>) -> Result<Option<String>> {
    let location = objects.location();
    let why = match Header::read(objects) {
        Ok(_) => return Ok(None),
        Err(Error::Damaged { why, .. }) => why,
        Err(e) => return Err(e),
    };
    let Remembered { params, seal, id } = remembered;
    let Some(found) = id_in_roots(objects, seal)? else {
        return Err(lost(
            location,
            format!("{why}, and no root says whose it is"),
        ));
    };
    if let Some(id) = id.filter(|id| *id != found) {
        return Err(lost(
            location,
            format!("{why}, and the roots are of repository {found}, where {id} was"),
        ));
    }
    let largest = largest_chunk(objects, seal)?;
    if largest > params.chunk_size {
        let size = params.chunk_size;
        return Err(lost(
            location,
            format!("{why}, and there are chunks of {largest} bytes, where {size} are the most"),
        ));
    }
    let header = Header {
        id: found,
        ..Header::of(params, seal)
    };
    // What cannot be read is no header; whoever is faster writes the same.
    if objects.size(HEADER_KEY)?.is_some() {
        objects.delete(HEADER_KEY)?;
    }
    if objects.create(HEADER_KEY, &header.encode())? == Created::Exists {
        Header::read(objects)?;
    }
    Ok(Some(why))
}

/// The repository that the newest root which can be read belongs to.
fn id_in_roots(objects: &dyn Objects, seal: Option<&Seal>) -> Result<Option<String>> {
    let mut roots: Vec<u64> = objects
        .list("roots/")?
        .iter()
        .filter_map(|listed| listed.key.strip_prefix("roots/")?.parse().ok())
        .collect();
    roots.sort_unstable();
    for seq in roots.into_iter().rev() {
        let bytes = match objects.get(&Root::key(seq)) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e.into()),
        };
        if let Ok(root) = Root::decode(&bytes, seq, seal) {
            return Ok(Some(root.repository));
        }
    }
    Ok(None)
}

/// Bytes of the largest chunk in some packs.
fn largest_chunk(objects: &dyn Objects, seal: Option<&Seal>) -> Result<u32> {
    let mut largest = 0;
    for listed in objects.list("packs/")?.iter().take(PACKS_ASKED) {
        let name = listed.key.strip_prefix("packs/");
        let Some(name) = name.and_then(|name| name.parse::<PackName>().ok()) else {
            continue;
        };
        match pack::reader::directory(objects, name, listed.size, seal) {
            Ok(directory) => {
                let blobs = directory.frames.iter().flat_map(|frame| &frame.blobs);
                let chunks = blobs.filter(|blob| blob.part.kind == Kind::Chunk);
                largest = chunks.map(|blob| blob.part.len).fold(largest, u32::max);
            }
            // The verification that follows tells of it.
            Err(e) if e.is_lost() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(largest)
}
