//! Frames, directories and trailers of packs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith_store::pack::frame::{self, BLOB_ROW_LEN, FRAME_HEADER_LEN};
use zenith_store::pack::{Directory, TRAILER_LEN, Trailer};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_frame(bytes);
    if let Ok(directory) = Directory::decode(bytes, bytes.len() as u64) {
        let _ = directory.encode();
    }
    if let Some(trailer) = bytes.last_chunk::<TRAILER_LEN>() {
        let _ = Trailer::decode(trailer, bytes.len() as u64);
    }
});

fn decode_frame(bytes: &[u8]) -> Result<(), String> {
    let header = frame::decode_header(bytes)?;
    let table = usize::from(header.blobs) * BLOB_ROW_LEN;
    let (table, payload) = bytes[FRAME_HEADER_LEN..]
        .split_at_checked(table)
        .ok_or("short")?;
    frame::decode_parts(&header, table)?;
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    frame::decode_payload(
        header.codec,
        payload,
        header.plain_len,
        &mut decompressor,
        &mut Vec::new(),
    )
}
