//! A chunk as its difference to an older one. Pure; both directions side by side.
//!
//! Between two snapshots of a busy cluster the median changed page differs in a few bytes: page
//! header, a tuple, a hint bit. A *patch* says which runs of bytes are replaced by which; patches
//! of many chunks share a frame, where zstd finds what they have in common. Where bytes moved
//! within their page (a page that was pruned or vacuumed) a patch is large, and the chunk is
//! compressed with its base as prefix instead.
//!
//! Bytes: docs/format.md. Why runs and not XOR: docs/deltas.md.

use std::io;

/// How the body of a blob lies. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// The plain bytes.
    Plain = 0,
    /// Runs that replace bytes of the base.
    Patch = 1,
    /// One zstd frame with the base as prefix.
    Prefix = 2,
}

impl Form {
    /// The form with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Form::Plain),
            1 => Some(Form::Patch),
            2 => Some(Form::Prefix),
            _ => None,
        }
    }
}

/// Runs with at most so many equal bytes between them are one: a run costs two bytes to name.
const GAP_MAX: usize = 4;

/// Appends the patch that turns `base` into `new` to `out`; what is longer than the base counts
/// as different from zeros. False, with `out` as it was, when the patch would pass `limit` bytes.
pub fn diff(base: &[u8], new: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    // Places first, then all bytes: each of the two compresses better by itself.
    let mut bytes: Vec<u8> = Vec::new();
    let mut places: Vec<u8> = Vec::new();
    let mut last = 0;
    let mut at = 0;
    while let Some(from) = next_difference(base, new, at) {
        let end = end_of_run(base, new, from);
        put_varint(&mut places, from - last);
        put_varint(&mut places, end - from);
        bytes.extend_from_slice(&new[from..end]);
        if places.len() + bytes.len() > limit {
            return false;
        }
        last = end;
        at = end;
    }
    put_varint(out, places.len());
    out.extend_from_slice(&places);
    out.extend_from_slice(&bytes);
    if out.len() - begin > limit {
        out.truncate(begin);
        return false;
    }
    true
}

/// What the base is taken to hold at `at`.
fn byte_of(base: &[u8], at: usize) -> u8 {
    base.get(at).copied().unwrap_or(0)
}

fn next_difference(base: &[u8], new: &[u8], mut at: usize) -> Option<usize> {
    const STEP: usize = 32;
    let both = base.len().min(new.len());
    while at + STEP <= both && base[at..at + STEP] == new[at..at + STEP] {
        at += STEP;
    }
    (at..new.len()).find(|&i| byte_of(base, i) != new[i])
}

/// The end of the run of differences that begins at `from`.
fn end_of_run(base: &[u8], new: &[u8], from: usize) -> usize {
    let mut end = from + 1;
    let mut equal = 0;
    for (i, byte) in new.iter().enumerate().skip(from + 1) {
        if byte_of(base, i) != *byte {
            end = i + 1;
            equal = 0;
        } else {
            equal += 1;
            if equal > GAP_MAX {
                break;
            }
        }
    }
    end
}

/// Turns the base in `chunk` into the chunk of `len` bytes that the patch `body` makes of it.
///
/// # Errors
/// Says what is wrong; `chunk` is of no use then.
pub fn patch(body: &[u8], len: usize, chunk: &mut Vec<u8>) -> Result<(), String> {
    chunk.resize(len, 0);
    runs(body, len, |from, run| {
        chunk[from..from + run.len()].copy_from_slice(run);
    })
}

/// Gives the runs of a patch that makes a chunk of `len` bytes, each with where it begins. A run
/// begins and ends with a byte that is not the base's, and has at most [`GAP_MAX`] equal ones in a
/// row between, so that runs alone tell which pages differ.
///
/// # Errors
/// Says what is wrong; runs may have been given then.
pub fn runs(body: &[u8], len: usize, mut each: impl FnMut(usize, &[u8])) -> Result<(), String> {
    let short = || "has a patch that is cut short".to_owned();
    let mut rest = body;
    let places_len = take_varint(&mut rest).ok_or_else(short)?;
    let (mut places, mut bytes) = rest.split_at_checked(places_len).ok_or_else(short)?;
    let mut at = 0usize;
    while !places.is_empty() {
        let skip = take_varint(&mut places).ok_or_else(short)?;
        let run = take_varint(&mut places).ok_or_else(short)?;
        let from = at.checked_add(skip);
        let end = from.and_then(|from| from.checked_add(run));
        let (Some(from), Some(end)) = (from, end.filter(|end| *end <= len)) else {
            return Err("has a patch beyond its end".to_owned());
        };
        let (run, left) = bytes.split_at_checked(run).ok_or_else(short)?;
        each(from, run);
        bytes = left;
        at = end;
    }
    if !bytes.is_empty() {
        return Err("has a patch with bytes to spare".to_owned());
    }
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// At most four bytes, which is more than any chunk is long.
fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Compresses `new` with `base` as prefix.
///
/// # Errors
/// What zstd says.
pub fn compress(base: &[u8], new: &[u8], level: i32) -> io::Result<Vec<u8>> {
    use zstd::zstd_safe::{CCtx, CParameter};
    let said = |code| io::Error::other(zstd::zstd_safe::get_error_name(code));
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(level),
        // Base and chunk in one window.
        CParameter::WindowLog(window_log(base.len() + new.len())),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
    ] {
        context.set_parameter(parameter).map_err(said)?;
    }
    context.ref_prefix(base).map_err(said)?;
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(new.len()));
    context.compress2(&mut out, new).map_err(said)?;
    Ok(out)
}

/// The chunk of `len` bytes that was compressed with `base` as prefix, into `chunk`, which is
/// cleared first.
///
/// # Errors
/// Says what is wrong.
pub fn decompress(base: &[u8], body: &[u8], len: usize, chunk: &mut Vec<u8>) -> Result<(), String> {
    use zstd::zstd_safe::{DCtx, DParameter};
    let said = |code| {
        let why = zstd::zstd_safe::get_error_name(code);
        format!("does not decompress with its base: {why}")
    };
    chunk.clear();
    chunk.reserve_exact(len);
    let mut context = DCtx::create();
    context
        .set_parameter(DParameter::WindowLogMax(window_log(base.len() + len)))
        .map_err(said)?;
    context.ref_prefix(base).map_err(said)?;
    context.decompress(chunk, body).map_err(said)?;
    if chunk.len() != len {
        return Err(format!("decodes to {} bytes, {len} expected", chunk.len()));
    }
    Ok(())
}

/// log2 of a window over so many bytes, in zstd's limits.
fn window_log(bytes: usize) -> u32 {
    bytes.next_power_of_two().trailing_zeros().clamp(10, 26)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(base: &[u8], new: &[u8]) {
        let mut body = vec![7];
        assert!(diff(base, new, usize::MAX, &mut body));
        let mut chunk = base.to_vec();
        patch(&body[1..], new.len(), &mut chunk).unwrap();
        assert_eq!(chunk, new);

        let body = compress(base, new, 1).unwrap();
        decompress(base, &body, new.len(), &mut chunk).unwrap();
        assert_eq!(chunk, new);
    }

    #[test]
    fn ends_and_lengths() {
        let page = |n: u8| vec![n; 8192];
        for (base, new) in [
            (vec![], vec![1]),
            (page(1), page(1)),
            (page(1), page(2)),
            (page(1), vec![1; 100]),
            (vec![1; 100], page(1)),
            (page(0), [page(0), page(0)].concat()),
            ([page(3), page(4)].concat(), [page(4), page(3)].concat()),
        ] {
            back(&base, &new);
        }
    }

    #[test]
    fn a_few_bytes_of_a_page_cost_a_few_bytes() {
        let base: Vec<u8> = (0..65536u32).map(|i| (i * 7 % 251) as u8).collect();
        let mut new = base.clone();
        for at in [0, 3, 8192, 65535] {
            new[at] ^= 1;
        }
        let mut body = Vec::new();
        assert!(diff(&base, &new, 20, &mut body));
        assert!(body.len() < 20, "{}", body.len());
        assert!(!diff(&base, &new, 10, &mut body));
    }

    #[test]
    fn a_moved_page_is_small_with_its_base_as_prefix() {
        let base: Vec<u8> = (0..2048u32)
            .flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes().to_owned())
            .collect();
        let new = [&base[100..], &base[..100]].concat();
        assert!(!diff(&base, &new, base.len() / 2, &mut Vec::new()));
        assert!(compress(&base, &new, 1).unwrap().len() < 300);
    }

    proptest! {
        #[test]
        fn any_pair_comes_back(
            base in prop::collection::vec(0u8..3, 0..600),
            new in prop::collection::vec(0u8..3, 1..600),
        ) {
            back(&base, &new);
        }

        #[test]
        fn any_body_applies_or_not(
            body in prop::collection::vec(any::<u8>(), 0..80),
            base in prop::collection::vec(any::<u8>(), 0..100),
            len in 0usize..300,
        ) {
            let mut chunk = base.clone();
            if patch(&body, len, &mut chunk).is_ok() {
                prop_assert_eq!(chunk.len(), len);
            }
            let _ = decompress(&base, &body, len, &mut chunk);
        }
    }
}
