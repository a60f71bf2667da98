//! How far WAL was written, by the pages themselves: for people who want to know how much there
//! is, not for replay, which reads record by record.
//!
//! Pages are written in order, so that those of a segment which are its own come first. A segment
//! file that was recycled holds pages of older WAL behind them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::lsn::{Lsn, segment_name};
use super::wal::WalFacts;

/// Where xlp_pageaddr lies in a page header.
const PAGE_ADDRESS: usize = 8;

/// The end of what was written on `timeline`, `from` or later: where the last page that is not
/// another's has its last byte.
///
/// Errors: what reading gives; a segment that is not there ends it.
pub fn written_to(pgdata: &Path, timeline: u32, from: Lsn, facts: &WalFacts) -> io::Result<Lsn> {
    let size = facts.wal_segment_size;
    let mut end = from;
    let mut segment = from.segment_start(size);
    loop {
        let path = pgdata
            .join("pg_wal")
            .join(segment_name(timeline, segment, size));
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(end),
            Err(e) => return Err(e),
        };
        let Some(last) = last_page(&file, segment, facts)? else {
            return Ok(end);
        };
        end = end.max(last);
        segment = Lsn(segment.0 + u64::from(size));
    }
}

/// The end of the last page of a segment that is its own; nothing when not even the first is.
fn last_page(file: &File, segment: Lsn, facts: &WalFacts) -> io::Result<Option<Lsn>> {
    let block = u64::from(facts.wal_block_size);
    let mut page = vec![0; block as usize];
    let is_own = |n: u64, page: &mut [u8]| -> io::Result<bool> {
        match file.read_exact_at(page, n * block) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        let address = page[PAGE_ADDRESS..].first_chunk::<8>();
        let address = address.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Ok(address == segment.0 + n * block)
    };
    let (mut own, mut other) = (0, u64::from(facts.wal_segment_size) / block);
    if !is_own(0, &mut page)? {
        return Ok(None);
    }
    while own + 1 < other {
        let middle = own + (other - own) / 2;
        match is_own(middle, &mut page)? {
            true => own = middle,
            false => other = middle,
        }
    }
    is_own(own, &mut page)?;
    // What was not written of a page yet is zeros.
    let used = page.iter().rposition(|byte| *byte != 0);
    let used = used.map_or(0, |last| (last as u64 + 1).next_multiple_of(8));
    Ok(Some(Lsn(segment.0 + own * block + used)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Control;
    use crate::pg::testing::{Cluster, bin_dirs};
    use zenith_store::World;

    #[test]
    fn the_end_is_where_the_server_is() {
        let cluster = Cluster::init(&bin_dirs()[0], &["--wal-segsize", "1"]);
        cluster.start(&["autovacuum=off"]);
        let control = Control::read(cluster.pgdata(), &World::real()).unwrap();
        let facts = WalFacts::from(&control);
        for sql in [
            "create table t as select generate_series(1, 1000) x",
            "insert into t select generate_series(1, 100000) x",
            "select pg_switch_wal()",
            "insert into t values (1)",
        ] {
            cluster.sql(sql);
            if sql.contains("switch") {
                // The rest of a segment is passed over, not written.
                continue;
            }
            let flushed = cluster.sql("select pg_current_wal_flush_lsn()");
            let flushed: Lsn = flushed.parse().unwrap();
            let from = control.checkpoint_lsn;
            let end = written_to(cluster.pgdata(), control.timeline, from, &facts).unwrap();
            // A record ends with its own bytes, which may be zeros.
            let tolerance = u64::from(facts.wal_block_size);
            assert!(end.0.abs_diff(flushed.0) < tolerance, "{end} {flushed}");
        }
    }

    #[test]
    fn what_was_recycled_is_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pg_wal")).unwrap();
        let facts = WalFacts {
            major: 15,
            system_identifier: 1,
            wal_block_size: 8192,
            wal_segment_size: 1 << 20,
        };
        let start = Lsn(5 << 20);
        let put = |segment: Lsn, own: u64| {
            let mut bytes = vec![0xff; 1 << 20];
            for n in 0..128 {
                let page = &mut bytes[n as usize * 8192..][..8192];
                let address = segment.0 + n * 8192 - if n < own { 0 } else { 3 << 20 };
                page[8..16].copy_from_slice(&address.to_le_bytes());
                if n + 1 == own {
                    page[1000..].fill(0);
                }
            }
            let name = segment_name(1, segment, 1 << 20);
            std::fs::write(dir.path().join("pg_wal").join(name), bytes).unwrap();
        };
        let end = || written_to(dir.path(), 1, start, &facts).unwrap();
        assert_eq!(end(), start, "no segment at all");
        for own in [1, 2, 64, 127, 128] {
            put(start, own);
            assert_eq!(end(), Lsn(start.0 + (own - 1) * 8192 + 1000), "{own}");
        }
        put(Lsn(6 << 20), 0);
        assert_eq!(end(), Lsn((6 << 20) - 8192 + 1000));
        put(Lsn(6 << 20), 3);
        assert_eq!(end(), Lsn((6 << 20) + 2 * 8192 + 1000));
    }
}
