//! Frames, directories and trailers of packs, and deltas.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith_store::delta;
use zenith_store::pack::frame;
use zenith_store::pack::{Directory, TRAILER_LEN, Trailer};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_frame(bytes);
    if let [frames, blobs, rest @ ..] = bytes {
        let (frames, blobs) = (usize::from(*frames), usize::from(*blobs));
        let end = rest.len() as u64 * 40;
        let _ = Directory::decode(rest, frames, blobs, end, false);
    }
    if let Ok(directory) = Directory::decode_v1(bytes, bytes.len() as u64) {
        let _ = directory.encode();
    }
    let mut chunk = vec![1; 1000];
    let _ = delta::patch(bytes, 2000, &mut chunk);
    let base = std::mem::take(&mut chunk);
    let _ = delta::decompress(&base, bytes, 2000, &mut chunk);
    if let Some(trailer) = bytes.last_chunk::<TRAILER_LEN>() {
        let _ = Trailer::decode(trailer, bytes.len() as u64);
    }
});

fn decode_frame(bytes: &[u8]) -> Result<(), String> {
    let (header, payload) = frame::open(bytes, None)?;
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut plain = Vec::new();
    frame::decode_payload(
        header.codec,
        &payload,
        header.plain_len,
        &mut decompressor,
        &mut plain,
    )?;
    header.parts(&plain).map(drop)
}
