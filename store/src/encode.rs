//! Which form a changed blob is stored in: a difference to what was at its place before, or plain.
//!
//! Chains of differences are short: after [`CHAIN_MAX`] of them the next one stands on the plain
//! blob again, and where that has grown too large, a plain blob begins anew.

use crate::blob::{Chain, Fetched};
use crate::delta::{self, Form};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Id, Kind};
use crate::pack::ALONE_BYTES;
use crate::pack::frame::{self, Frame, Part};
use crate::repository::Repository;
use std::cell::RefCell;

/// Deltas that stand one on the other, above the one that stands on the plain blob.
pub(crate) const CHAIN_MAX: u8 = 8;
/// A patch of at most so many bytes is taken as it is; with a larger one other forms compete.
const PATCH_SMALL: usize = 4 << 10;
/// What is shorter is stored plain: naming the base would cost as much.
const DELTA_MIN: usize = 512;

thread_local! {
    /// With the level it was made for.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> =
        const { RefCell::new(None) };
    static BASE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Does something with this thread's compressor.
pub(crate) fn compressing<T>(
    level: i32,
    work: impl FnOnce(&mut zstd::bulk::Compressor<'static>) -> T,
) -> Result<T> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            let compressor = zstd::bulk::Compressor::new(level).map_err(|e| Error::Invalid {
                what: format!("zstd level {level}: {e}"),
            })?;
            *slot = Some((level, compressor));
        }
        let (_, compressor) = slot.as_mut().expect("made above");
        Ok(work(compressor))
    })
}

/// How a blob is to be stored.
pub(crate) enum Encoded {
    /// As a difference.
    Delta(Part, Vec<u8>),
    /// Plain, and compressed already: it has a frame of its own.
    Alone(Frame),
    /// Plain.
    Plain,
}

/// What a delta stands on: the chain that gives its bytes, and the stored bytes of the plain blob
/// at the bottom.
struct Ground {
    chain: Chain,
    plain_len: usize,
}

/// What a blob is compared with.
pub(crate) struct Base<'a> {
    pub(crate) id: Id,
    /// Blobs under it.
    pub(crate) depth: u8,
    pub(crate) bytes: &'a [u8],
    /// Stored bytes of the plain blob at the bottom.
    pub(crate) plain_len: usize,
}

/// A delta is worth its reading when it has at most this share of the plain blob's stored bytes.
/// Ids do not compress and are few, so that for nodes any gain is one.
fn worth(kind: Kind, plain_len: usize) -> usize {
    match kind {
        Kind::Chunk => plain_len / 2,
        _ => plain_len - plain_len / 8,
    }
}

impl Repository {
    /// The cheapest form of a blob whose place was `base`'s before.
    ///
    /// # Errors
    /// When the base is there and cannot be read, for other reasons than damage.
    pub(crate) fn encode_on(
        &self,
        kind: Kind,
        base: Id,
        bytes: &[u8],
        level: i32,
    ) -> Result<Encoded> {
        if bytes.len() < DELTA_MIN {
            return Ok(Encoded::Plain);
        }
        let Some(ground) = self.ground(base)? else {
            return Ok(Encoded::Plain);
        };
        BASE.with_borrow_mut(|old| {
            match self.read_chain(kind, &ground.chain, &Fetched::default(), old) {
                Ok(()) => {}
                // A plain blob mends what would otherwise be damaged for ever.
                Err(e) if e.kind() == ErrorKind::Damaged => {
                    let name = kind.name();
                    tracing::warn!("{name} {base} is no base for what follows it: {e}");
                    return Ok(Encoded::Plain);
                }
                Err(e) => return Err(e),
            }
            let (id, place) = &ground.chain[0];
            let base = Base {
                id: *id,
                depth: place.depth,
                bytes: old,
                plain_len: ground.plain_len,
            };
            encode_over(kind, &base, bytes, level)
        })
    }

    /// What a delta to `base` would stand on: the base itself, or below a long chain its plain
    /// blob. Nothing when it is not at hand, or another id begins like its own.
    fn ground(&self, base: Id) -> Result<Option<Ground>> {
        let Some(mut chain) = self.locate(&base)? else {
            return Ok(None);
        };
        let (last, plain) = chain[chain.len() - 1];
        if chain[0].1.depth > CHAIN_MAX {
            chain = vec![(last, plain)];
        }
        if !self.is_clear_base(&chain[0].0)? {
            return Ok(None);
        }
        Ok(Some(Ground {
            chain,
            plain_len: plain.stored_share() as usize,
        }))
    }
}

/// The cheapest form of a blob over a base.
///
/// # Errors
/// When it does not compress.
pub(crate) fn encode_over(
    kind: Kind,
    base: &Base<'_>,
    bytes: &[u8],
    level: i32,
) -> Result<Encoded> {
    if bytes.len() < DELTA_MIN {
        return Ok(Encoded::Plain);
    }
    let delta = |form, body: Vec<u8>| {
        let part = Part {
            form,
            len: bytes.len() as u32,
            depth: base.depth + 1,
            base: base.id.base(),
            ..Part::plain(kind, body.len())
        };
        Encoded::Delta(part, body)
    };
    let mut patch = Vec::new();
    let patched = delta::diff(base.bytes, bytes, bytes.len(), &mut patch);
    let small = PATCH_SMALL.min(worth(kind, base.plain_len));
    if patched && patch.len() <= small {
        return Ok(delta(Form::Patch, patch));
    }
    if kind != Kind::Chunk {
        let most = worth(kind, bytes.len());
        return Ok(match patched && patch.len() <= most {
            true => delta(Form::Patch, patch),
            false => Encoded::Plain,
        });
    }
    // Patches are compressed later, together; alone they come out a little larger.
    let patch_len = match patched {
        true => compressing(level, |c| c.compress(&patch))?.map_or(patch.len(), |c| c.len()),
        false => usize::MAX,
    };
    let prefix = delta::compress(base.bytes, bytes, level).map_err(|e| Error::Invalid {
        what: format!("a chunk does not compress: {e}"),
    })?;
    let plain = compressing(level, |c| frame::encode_chunk(bytes, c))?;
    let least = patch_len.min(prefix.len());
    Ok(if least <= worth(kind, plain.payload.len()) {
        if patch_len <= prefix.len() {
            delta(Form::Patch, patch)
        } else {
            delta(Form::Prefix, prefix)
        }
    } else if bytes.len() >= ALONE_BYTES {
        Encoded::Alone(plain)
    } else {
        Encoded::Plain
    })
}
