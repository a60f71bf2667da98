//! Tuples of a heap page, and whether they are to be seen.
//!
//! What is to be seen is decided as a server would that starts on these files: by hint bits, and
//! where there are none by the status of the transaction. Nothing runs, so a transaction that did
//! not commit never will.
//!
//! Sources: src/include/access/htup_details.h, src/include/storage/itemid.h,
//! src/backend/access/heap/heapam_visibility.c.

use std::io;

use super::page::HEADER_SIZE;
use super::slru::Transactions;

/// SizeofHeapTupleHeader.
const TUPLE_HEADER_SIZE: usize = 23;
/// LP_NORMAL.
const LP_NORMAL: u32 = 1;

const HEAP_HASNULL: u16 = 0x0001;
const HEAP_XMAX_KEYSHR_LOCK: u16 = 0x0010;
const HEAP_XMAX_EXCL_LOCK: u16 = 0x0040;
const HEAP_XMAX_LOCK_ONLY: u16 = 0x0080;
const HEAP_XMIN_COMMITTED: u16 = 0x0100;
const HEAP_XMIN_INVALID: u16 = 0x0200;
const HEAP_XMAX_COMMITTED: u16 = 0x0400;
const HEAP_XMAX_INVALID: u16 = 0x0800;
const HEAP_XMAX_IS_MULTI: u16 = 0x1000;
/// HEAP_LOCK_MASK.
const LOCKS: u16 = HEAP_XMAX_KEYSHR_LOCK | HEAP_XMAX_EXCL_LOCK;

/// One tuple of a page.
#[derive(Clone, Copy, Debug)]
pub struct Tuple<'a> {
    bytes: &'a [u8],
    infomask: u16,
    data: usize,
}

/// The tuples of a page that have content, dead or alive. A page that is none has none.
pub fn tuples(page: &[u8]) -> impl Iterator<Item = Tuple<'_>> {
    let lower = match page.get(12..14) {
        Some(bytes) => usize::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        None => 0,
    };
    let pointers = page.get(HEADER_SIZE..lower).unwrap_or_default();
    pointers.chunks_exact(4).filter_map(|pointer| {
        let pointer = u32::from_le_bytes([pointer[0], pointer[1], pointer[2], pointer[3]]);
        let (offset, len) = ((pointer & 0x7fff) as usize, (pointer >> 17) as usize);
        if pointer >> 15 & 3 != LP_NORMAL {
            return None;
        }
        Tuple::of(page.get(offset..offset + len)?)
    })
}

impl<'a> Tuple<'a> {
    fn of(bytes: &'a [u8]) -> Option<Tuple<'a>> {
        let head = bytes.first_chunk::<TUPLE_HEADER_SIZE>()?;
        let data = usize::from(head[22]);
        (data >= TUPLE_HEADER_SIZE && data <= bytes.len()).then_some(Tuple {
            bytes,
            infomask: u16::from_le_bytes([head[20], head[21]]),
            data,
        })
    }

    /// The columns, without the header. Columns of fixed width at the beginning, none of them
    /// null, lie at the same place in every tuple.
    pub fn data(&self) -> &'a [u8] {
        &self.bytes[self.data..]
    }

    /// Whether any of the first `n` columns is null.
    pub fn has_null(&self, n: usize) -> bool {
        let is_null = |at: usize| match self.bytes.get(TUPLE_HEADER_SIZE + at / 8) {
            Some(bits) => bits >> (at % 8) & 1 == 0,
            None => true,
        };
        self.infomask & HEAP_HASNULL != 0 && (0..n).any(is_null)
    }

    /// Whether a transaction that begins now sees it.
    ///
    /// Errors: what reading the status of transactions gives.
    pub fn is_visible(&self, transactions: &mut Transactions<'_>) -> io::Result<bool> {
        Ok(self.was_inserted(transactions)? && !self.was_deleted(transactions)?)
    }

    fn was_inserted(&self, transactions: &mut Transactions<'_>) -> io::Result<bool> {
        // Both bits together mean frozen.
        if self.infomask & HEAP_XMIN_COMMITTED != 0 {
            return Ok(true);
        }
        if self.infomask & HEAP_XMIN_INVALID != 0 {
            return Ok(false);
        }
        transactions.is_committed(self.u32_at(0))
    }

    fn was_deleted(&self, transactions: &mut Transactions<'_>) -> io::Result<bool> {
        let mask = self.infomask;
        let xmax = self.u32_at(4);
        let only_locked = mask & HEAP_XMAX_LOCK_ONLY != 0
            || mask & (HEAP_XMAX_IS_MULTI | LOCKS) == HEAP_XMAX_EXCL_LOCK;
        if xmax == 0 || mask & HEAP_XMAX_INVALID != 0 || only_locked {
            return Ok(false);
        }
        if mask & HEAP_XMAX_IS_MULTI != 0 {
            return match transactions.updater(xmax)? {
                Some(xid) => transactions.is_committed(xid),
                None => Ok(false),
            };
        }
        if mask & HEAP_XMAX_COMMITTED != 0 {
            return Ok(true);
        }
        transactions.is_committed(xmax)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let bytes = &self.bytes[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::files::testing::Mem;

    /// pg_xact in which the transaction `xid` has a status.
    fn transactions(status: &[(u32, u8)]) -> Mem {
        let mut bytes = vec![0; 8192];
        for (xid, status) in status {
            bytes[*xid as usize / 4] |= status << (xid % 4 * 2);
        }
        Mem::from([("pg_xact/0000".to_owned(), bytes)])
    }

    fn tuple(xmin: u32, xmax: u32, infomask: u16) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[..4].copy_from_slice(&xmin.to_le_bytes());
        bytes[4..8].copy_from_slice(&xmax.to_le_bytes());
        bytes[20..22].copy_from_slice(&infomask.to_le_bytes());
        bytes[22] = 24;
        bytes
    }

    #[test]
    fn what_committed_and_was_not_deleted_is_seen() {
        const COMMITTED: u32 = 100;
        const ABORTED: u32 = 101;
        const NEITHER: u32 = 102;
        let files = transactions(&[(COMMITTED, 1), (ABORTED, 2)]);
        let check = |xmin, xmax, infomask, expected| {
            let bytes = tuple(xmin, xmax, infomask);
            let tuple = Tuple::of(&bytes).unwrap();
            let mut transactions = Transactions::new(&files, 8192);
            let seen = tuple.is_visible(&mut transactions).unwrap();
            assert_eq!(seen, expected, "{xmin} {xmax} {infomask:#x}");
        };
        // No hint bits.
        check(COMMITTED, 0, 0, true);
        check(ABORTED, 0, 0, false);
        check(NEITHER, 0, 0, false);
        check(2, 0, 0, true);
        check(1, 0, 0, true);
        // Hint bits go before.
        check(ABORTED, 0, HEAP_XMIN_COMMITTED, true);
        check(COMMITTED, 0, HEAP_XMIN_INVALID, false);
        check(ABORTED, 0, HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID, true);
        // Deleted.
        check(2, COMMITTED, 0, false);
        check(2, ABORTED, 0, true);
        check(2, NEITHER, 0, true);
        check(2, ABORTED, HEAP_XMAX_COMMITTED, false);
        check(2, COMMITTED, HEAP_XMAX_INVALID, true);
        // Locked.
        check(
            2,
            COMMITTED,
            HEAP_XMAX_LOCK_ONLY | HEAP_XMAX_KEYSHR_LOCK,
            true,
        );
        check(2, COMMITTED, HEAP_XMAX_EXCL_LOCK, true);
        check(
            2,
            COMMITTED,
            HEAP_XMAX_EXCL_LOCK | HEAP_XMAX_KEYSHR_LOCK,
            false,
        );
    }

    #[test]
    fn a_multixact_deletes_what_one_of_its_members_did() {
        let mut files = transactions(&[(100, 1), (101, 2)]);
        let mut offsets = vec![0; 8192];
        let mut members = vec![0; 8192];
        // Multixacts 5, 6 and 7 have two members each, from 1 on.
        for (multi, first) in [(5usize, 1u32), (6, 3), (7, 5)] {
            offsets[multi * 4..][..4].copy_from_slice(&first.to_le_bytes());
        }
        for (at, xid, status) in [
            (1, 50u32, 0u8),
            (2, 100, 5),
            (3, 101, 4),
            (4, 51, 1),
            (5, 100, 1),
            (6, 101, 2),
        ] {
            members[at / 4 * 20 + at % 4] = status;
            members[at / 4 * 20 + 4 + at % 4 * 4..][..4].copy_from_slice(&xid.to_le_bytes());
        }
        // 8 has its first member before numbers begin anew, and the number 0 is passed over.
        for (multi, first) in [(8usize, u32::MAX), (9, 3)] {
            offsets[multi * 4..][..4].copy_from_slice(&first.to_le_bytes());
        }
        let group = u64::from(u32::MAX) / 4;
        let at = group / 409 * 8192 + group % 409 * 20;
        let (segment, at) = (at / (32 * 8192), (at % (32 * 8192)) as usize);
        let mut last = vec![0; 32 * 8192];
        last[at + 4 + 3 * 4..][..4].copy_from_slice(&50u32.to_le_bytes());
        files.insert(format!("pg_multixact/members/{segment:04X}"), last);
        files.insert("pg_multixact/offsets/0000".to_owned(), offsets);
        files.insert("pg_multixact/members/0000".to_owned(), members);
        for (multi, expected) in [(5, false), (6, true), (7, true), (8, false)] {
            let bytes = tuple(2, multi, HEAP_XMAX_IS_MULTI);
            let mut transactions = Transactions::new(&files, 8192);
            let tuple = Tuple::of(&bytes).unwrap();
            assert_eq!(
                tuple.is_visible(&mut transactions).unwrap(),
                expected,
                "{multi}"
            );
        }
    }

    #[test]
    fn nulls_are_told_by_the_bitmap() {
        let mut bytes = tuple(2, 0, HEAP_HASNULL);
        bytes[23] = 0b1011;
        let nulls = Tuple::of(&bytes).unwrap();
        assert!(!nulls.has_null(2) && nulls.has_null(3) && nulls.has_null(100));
        let bytes = tuple(2, 0, 0);
        assert!(!Tuple::of(&bytes).unwrap().has_null(100));
    }

    #[test]
    fn pages_that_are_none_have_no_tuples() {
        let mut page = vec![0xff; 8192];
        assert_eq!(tuples(&page).count(), 0);
        page[12..14].copy_from_slice(&8192u16.to_le_bytes());
        let found: Vec<_> = tuples(&page).map(|tuple| tuple.data().len()).collect();
        assert!(found.is_empty());
        for len in [0, 12, 23, 24, 100] {
            assert_eq!(tuples(&vec![1; len]).count(), 0, "{len}");
        }
        // A pointer beyond the end, and a tuple shorter than its header.
        let mut page = vec![0; 8192];
        page[12..14].copy_from_slice(&32u16.to_le_bytes());
        page[24..28].copy_from_slice(&(8190u32 | LP_NORMAL << 15 | 40 << 17).to_le_bytes());
        page[28..32].copy_from_slice(&(8000u32 | LP_NORMAL << 15 | 22 << 17).to_le_bytes());
        assert_eq!(tuples(&page).count(), 0);
    }
}
