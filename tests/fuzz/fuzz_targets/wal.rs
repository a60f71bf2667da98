//! Pages of WAL: the headers of a small segment and what follows them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith::pg::Lsn;
use zenith::pg::version::wal_magic;
use zenith::pg::wal::{WalFacts, check_pages};

const SEGMENT: u32 = 1 << 20;
const PAGE: u32 = 64 << 10;
const HEAD: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let facts = WalFacts {
        major: 15,
        system_identifier: 7,
        wal_block_size: PAGE,
        wal_segment_size: SEGMENT,
    };
    let start = 5 * u64::from(SEGMENT);
    let mut segment = vec![0; SEGMENT as usize];
    // Each 64 bytes begin a page; the first three fields are right where they are zero.
    for (n, (page, head)) in segment
        .chunks_mut(PAGE as usize)
        .zip(bytes.chunks(HEAD))
        .enumerate()
    {
        page[..head.len()].copy_from_slice(head);
        if page[..2] == [0, 0] {
            page[..2].copy_from_slice(&wal_magic(15).unwrap().to_le_bytes());
            page[2] = if n == 0 { 2 } else { 0 };
            page[4..8].copy_from_slice(&1u32.to_le_bytes());
            page[8..16].copy_from_slice(&(start + n as u64 * u64::from(PAGE)).to_le_bytes());
        }
    }
    segment[24..32].copy_from_slice(&7u64.to_le_bytes());
    segment[32..36].copy_from_slice(&SEGMENT.to_le_bytes());
    segment[36..40].copy_from_slice(&PAGE.to_le_bytes());
    let until = start + u64::from(bytes.first().copied().unwrap_or(0)) * 8192;
    let _ = check_pages(&mut segment, "x", 1, Lsn(start), Lsn(start), Lsn(until), &facts);
});
