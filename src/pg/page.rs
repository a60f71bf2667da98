//! One page of a relation: its header and checksum, nothing of its content.
//!
//! Sources: src/include/storage/bufpage.h, src/include/storage/checksum_impl.h.

use multiversion::multiversion;

use super::lsn::Lsn;

/// All flag bits that vanilla PostgreSQL knows.
pub const PD_VALID_FLAG_BITS: u16 = 0x0007;
/// SizeOfPageHeaderData.
pub const HEADER_SIZE: usize = 24;

/// What a page looks like, whether or not it is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// All zeros: the relation was extended, the page not used yet.
    New,
    Good,
    BadChecksum {
        stored: u16,
        computed: u16,
    },
    BadHeader {
        reason: &'static str,
    },
}

/// pd_lsn: the end of the last WAL record that changed the page. `page` is a whole page.
pub fn lsn(page: &[u8]) -> Lsn {
    let half = |at: usize| u64::from(u16_at(page, at)) | u64::from(u16_at(page, at + 2)) << 16;
    Lsn(half(0) << 32 | half(4))
}

/// pd_flags.
pub fn flags(page: &[u8]) -> u16 {
    u16_at(page, 10)
}

/// pd_checksum.
pub fn stored_checksum(page: &[u8]) -> u16 {
    u16_at(page, 8)
}

/// The flag bits that vanilla PostgreSQL rejects, if the page has some.
pub fn unknown_flags(page: &[u8]) -> Option<u16> {
    let unknown = flags(page) & !PD_VALID_FLAG_BITS;
    (unknown != 0).then_some(unknown)
}

/// Judges the page with absolute block number `blkno` in its fork (segment number times
/// blocks per segment included), as PageIsVerified does. `checksums` says whether the
/// cluster has them.
pub fn state(page: &[u8], blkno: u32, checksums: bool) -> PageState {
    let upper = u16_at(page, 14);
    if upper == 0 {
        return if is_zero(page) {
            PageState::New
        } else {
            PageState::BadHeader {
                reason: "pd_upper is 0, the page is not",
            }
        };
    }
    if checksums {
        let (stored, computed) = (stored_checksum(page), checksum(page, blkno));
        if stored != computed {
            return PageState::BadChecksum { stored, computed };
        }
    }
    let (lower, special) = (u16_at(page, 12), u16_at(page, 16));
    let reason = if unknown_flags(page).is_some() {
        "pd_flags has unknown bits"
    } else if lower > upper {
        "pd_lower is after pd_upper"
    } else if upper > special {
        "pd_upper is after pd_special"
    } else if usize::from(special) > page.len() {
        "pd_special is after the end"
    } else if special % 8 != 0 {
        "pd_special is not aligned"
    } else {
        return PageState::Good;
    };
    PageState::BadHeader { reason }
}

const N_SUMS: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
const BASE_OFFSETS: [u32; N_SUMS] = [
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
];

/// pg_checksum_page: 32 interleaved FNV-1a sums with the stored checksum taken as zero,
/// folded and mixed with the block number. A page's length is a multiple of 128.
///
/// The sums are independent of each other so that compilers make vectors of them, but what every
/// x86-64 has cannot multiply them: the right code is chosen when the program runs.
#[multiversion(targets("x86_64+avx2", "x86_64+sse4.1"))]
pub fn checksum(page: &[u8], blkno: u32) -> u16 {
    debug_assert!(page.len() >= HEADER_SIZE && page.len().is_multiple_of(4 * N_SUMS));
    let mix = |sum: &mut u32, value: u32| {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    };
    let mut sums = BASE_OFFSETS;
    let (rows, _) = page.as_chunks::<{ 4 * N_SUMS }>();
    for (r, row) in rows.iter().enumerate() {
        let (words, _) = row.as_chunks::<4>();
        for (w, (sum, word)) in sums.iter_mut().zip(words).enumerate() {
            let mut value = u32::from_le_bytes(*word);
            if r == 0 && w == 2 {
                // pd_checksum is the lower half of the third word.
                value &= 0xFFFF_0000;
            }
            mix(sum, value);
        }
    }
    for _ in 0..2 {
        sums.iter_mut().for_each(|sum| mix(sum, 0));
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ blkno;
    // Never 0, so that 0 can mean "not set".
    (folded % 65535 + 1) as u16
}

/// A page's length is a multiple of 64.
fn is_zero(page: &[u8]) -> bool {
    let (rows, _) = page.as_chunks::<64>();
    rows.iter()
        .all(|row| row.iter().fold(0, |all, byte| all | byte) == 0)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::path::{Fork, relation_file};
    use crate::pg::testing::{Cluster, bin_dirs};
    use std::fs;

    #[test]
    fn every_page_of_a_new_cluster_is_good() {
        let cluster = Cluster::init(&bin_dirs()[0], &["-N", "--data-checksums"]);
        let mut good = [0u32; 4];
        for dir in ["global", "base/1", "base/4", "base/5"] {
            for entry in fs::read_dir(cluster.pgdata().join(dir)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let Some(file) = relation_file(&name) else {
                    continue;
                };
                let bytes = fs::read(entry.path()).unwrap();
                for (blkno, page) in bytes.chunks(8192).enumerate() {
                    match state(page, blkno as u32, true) {
                        PageState::Good => good[file.fork as usize] += 1,
                        PageState::New => {}
                        bad => panic!("{dir}/{name} block {blkno}: {bad:?}"),
                    }
                    assert!(lsn(page) < Lsn(1 << 32));
                }
            }
        }
        assert!(good[Fork::Main as usize] > 1000, "{good:?}");
        assert!(
            good[Fork::Fsm as usize] > 10 && good[Fork::Vm as usize] > 10,
            "{good:?}"
        );
    }

    fn a_page(blkno: u32) -> Vec<u8> {
        let mut page = vec![0; 8192];
        page[12..14].copy_from_slice(&24u16.to_le_bytes());
        page[14..16].copy_from_slice(&8192u16.to_le_bytes());
        page[16..18].copy_from_slice(&8192u16.to_le_bytes());
        page[18..20].copy_from_slice(&(8192u16 | 4).to_le_bytes());
        let sum = checksum(&page, blkno);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Whatever instructions were chosen: from the algorithm's description, in another language.
    #[test]
    fn checksums_are_those_of_postgresql() {
        let page: Vec<u8> = (0..8192u32).map(|at| (at * 7 + at / 256) as u8).collect();
        for (blkno, expect) in [
            (0, 0x3e33),
            (1, 0x3e32),
            (131072, 0x3e35),
            (4294967294, 0xc1cf),
        ] {
            assert_eq!(checksum(&page, blkno), expect, "block {blkno}");
        }
    }

    #[test]
    fn bad_pages_are_named() {
        assert_eq!(state(&a_page(7), 7, true), PageState::Good);
        assert!(matches!(
            state(&a_page(7), 8, true),
            PageState::BadChecksum { .. }
        ));
        assert_eq!(state(&a_page(7), 8, false), PageState::Good);
        assert_eq!(state(&[0; 8192], 7, true), PageState::New);
        let mut page = a_page(7);
        page[11] = 0x80;
        assert_eq!(unknown_flags(&page), Some(0x8000));
        assert!(matches!(
            state(&page, 7, false),
            PageState::BadHeader { .. }
        ));
        let mut page = a_page(7);
        page[14..16].fill(0);
        assert!(matches!(
            state(&page, 7, false),
            PageState::BadHeader { .. }
        ));
    }
}
