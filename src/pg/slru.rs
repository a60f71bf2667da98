//! Whether transactions committed: pg_xact and pg_multixact.
//!
//! Sources: src/backend/access/transam/clog.c, src/backend/access/transam/multixact.c,
//! src/include/access/slru.h.

use std::collections::HashMap;
use std::io;

use super::files::Files;

/// SLRU_PAGES_PER_SEGMENT.
const PAGES_PER_SEGMENT: u64 = 32;
/// TRANSACTION_STATUS_COMMITTED.
const COMMITTED: u8 = 1;
/// CLOG_XACTS_PER_BYTE.
const XACTS_PER_BYTE: u64 = 4;
/// FirstNormalTransactionId; those before it are always committed, but for 0.
const FIRST_NORMAL: u32 = 3;
/// MULTIXACT_MEMBERS_PER_MEMBERGROUP: one byte of status for each, then their ids.
const GROUP: u64 = 4;
/// MULTIXACT_MEMBERGROUP_SIZE.
const GROUP_BYTES: u64 = 20;
/// MultiXactStatusNoKeyUpdate; from here on a member changed the tuple.
const UPDATES: u8 = 4;
/// A tuple is locked by as many transactions as there are sessions, 2^18 at most.
const MEMBERS_MAX: u64 = 1 << 18;

/// The status of transactions of a cluster where nothing runs.
pub struct Transactions<'a> {
    files: &'a dyn Files,
    block_size: u64,
    segments: HashMap<String, Option<Vec<u8>>>,
}

impl<'a> Transactions<'a> {
    /// As the files of a cluster with pages of `block_size` bytes say.
    pub fn new(files: &'a dyn Files, block_size: u32) -> Transactions<'a> {
        Transactions {
            files,
            block_size: block_size.into(),
            segments: HashMap::new(),
        }
    }

    /// Whether a transaction committed. Where nobody knows, it did not.
    pub fn is_committed(&mut self, xid: u32) -> io::Result<bool> {
        if xid < FIRST_NORMAL {
            return Ok(xid != 0);
        }
        let at = u64::from(xid) / XACTS_PER_BYTE;
        let byte = self.bytes::<1>("pg_xact", at)?;
        let shift = u64::from(xid) % XACTS_PER_BYTE * 2;
        Ok(byte.is_some_and(|[byte]| byte >> shift & 3 == COMMITTED))
    }

    /// The member of a multixact that updated or deleted the tuple; none when all only locked it.
    pub fn updater(&mut self, multi: u32) -> io::Result<Option<u32>> {
        let mut offset = |multi: u32| -> io::Result<u32> {
            let bytes = self.bytes("pg_multixact/offsets", u64::from(multi) * 4)?;
            Ok(bytes.map_or(0, u32::from_le_bytes))
        };
        let first = offset(multi)?;
        // Multixact 0 is none; the one after the latest has no offset yet.
        let end = offset(multi.checked_add(1).unwrap_or(1))?;
        if first == 0 {
            return Ok(None);
        }
        let most = match end.wrapping_sub(first) {
            _ if end == 0 => MEMBERS_MAX,
            n => u64::from(n).min(MEMBERS_MAX),
        };
        for at in 0..most {
            let member = u64::from(first.wrapping_add(at as u32));
            let groups_per_page = self.block_size / GROUP_BYTES;
            let group = member / GROUP;
            let page = group / groups_per_page;
            let base = page * self.block_size + group % groups_per_page * GROUP_BYTES;
            let nth = member % GROUP;
            let status = self.bytes::<1>("pg_multixact/members", base + nth)?;
            let xid = self.bytes("pg_multixact/members", base + GROUP + nth * 4)?;
            let (Some([status]), Some(xid)) = (status, xid) else {
                return Ok(None);
            };
            let xid = u32::from_le_bytes(xid);
            if xid == 0 && member == 0 {
                // This one is passed over when numbers begin anew.
                continue;
            }
            if xid == 0 {
                return Ok(None);
            }
            if status >= UPDATES {
                return Ok(Some(xid));
            }
        }
        Ok(None)
    }

    /// Bytes of an area that is cut into segments; none beyond what there is.
    fn bytes<const N: usize>(&mut self, dir: &str, at: u64) -> io::Result<Option<[u8; N]>> {
        let segment_bytes = self.block_size * PAGES_PER_SEGMENT;
        let path = format!("{dir}/{:04X}", at / segment_bytes);
        let segment = match self.segments.get(&path) {
            Some(segment) => segment,
            None => {
                let read = self.files.read(&path)?;
                self.segments.entry(path).or_insert(read)
            }
        };
        let at = (at % segment_bytes) as usize;
        let bytes = segment.as_ref().and_then(|bytes| bytes.get(at..at + N));
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
    }
}
