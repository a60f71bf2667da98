//! WAL segments and timelines, as files of pg_wal.
//!
//! A segment file keeps its name while the server recycles it for later WAL: only the page
//! headers tell what it really holds. Sources: src/include/access/xlog_internal.h,
//! XLogReaderValidatePageHeader in src/backend/access/transam/xlogreader.c,
//! src/backend/access/transam/timeline.c.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::control::Control;
use super::lsn::{Lsn, parse_segment_name, segment_name};
use super::version::wal_magic;
use super::{Error, Result};

const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;
const XLP_LONG_HEADER: u16 = 0x0002;
const XLP_ALL_FLAGS: u16 = 0x000F;

/// What all the WAL of one cluster has in common. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalFacts {
    pub major: u32,
    pub system_identifier: u64,
    pub wal_block_size: u32,
    pub wal_segment_size: u32,
}

impl From<&Control> for WalFacts {
    fn from(control: &Control) -> WalFacts {
        WalFacts {
            major: control.major,
            system_identifier: control.system_identifier,
            wal_block_size: control.wal_block_size,
            wal_segment_size: control.wal_segment_size,
        }
    }
}

/// Checks the first page of a segment. `page` holds at least its first 40 bytes, `segment`
/// is the name for errors, `lsn` the segment's first position.
///
/// A segment in which its timeline began starts with pages of the timelines before it,
/// therefore an older timeline than `timeline` in the header is right.
pub fn check_segment(
    page: &[u8],
    segment: &str,
    timeline: u32,
    lsn: Lsn,
    facts: &WalFacts,
) -> Result<()> {
    check_page(page, segment, timeline, lsn, lsn, facts).map(drop)
}

/// Checks one page header and returns its timeline.
fn check_page(
    page: &[u8],
    segment: &str,
    timeline: u32,
    start: Lsn,
    at: Lsn,
    facts: &WalFacts,
) -> Result<u32> {
    let offset = at.0 - start.0;
    let first = offset == 0;
    let damaged = |reason: String| Error::WalDamaged {
        segment: segment.to_owned(),
        offset,
        reason,
    };
    if page.len() < if first { LONG_HEADER } else { SHORT_HEADER } {
        return Err(damaged("the file ends here".into()));
    }
    let magic = u16_at(page, 0);
    let expected = wal_magic(facts.major)
        .ok_or_else(|| damaged(format!("the WAL of PostgreSQL {} is unknown", facts.major)))?;
    if magic == 0 && page.iter().all(|b| *b == 0) {
        return Err(damaged("nothing was written here".into()));
    }
    if magic != expected {
        return Err(damaged(format!(
            "magic number {magic:04X}, expected {expected:04X}"
        )));
    }
    let info = u16_at(page, 2);
    if info & !XLP_ALL_FLAGS != 0 || (info & XLP_LONG_HEADER != 0) != first {
        return Err(damaged(format!("page header flags are {info:04X}")));
    }
    let found = Lsn(u64_at(page, 8));
    if found != at {
        return Err(Error::WalRecycled {
            segment: segment.to_owned(),
            offset,
            found,
            expected: at,
        });
    }
    let found = u32_at(page, 4);
    if found == 0 || found > timeline {
        return Err(damaged(format!("timeline is {found}, expected {timeline}")));
    }
    if first {
        let identifier = u64_at(page, 24);
        if identifier != facts.system_identifier {
            return Err(Error::WalForeign {
                segment: segment.to_owned(),
                found: identifier,
                expected: facts.system_identifier,
            });
        }
        for (what, found, expected) in [
            ("segment size", u32_at(page, 32), facts.wal_segment_size),
            ("block size", u32_at(page, 36), facts.wal_block_size),
        ] {
            if found != expected {
                return Err(damaged(format!("{what} is {found}, expected {expected}")));
            }
        }
    }
    Ok(found)
}

/// A whole segment out of `pgdata`/pg_wal, with every page from that of `from` up to `until`
/// (exclusive) proven to be the right one, and zeros before and after, so that a segment that is
/// still growing yields the same bytes each time. `until` is the end of a record, or a later
/// segment; `from` is where replay begins, or an earlier segment. The first page is proven and
/// stays in any case: its header is read whatever page is wanted (ReadPageInternal in
/// src/backend/access/transam/xlogreader.c).
///
/// Errors: `WalMissing`, `WalRecycled`, `WalDamaged`, `WalForeign`.
pub fn read_segment(
    pgdata: &Path,
    name: &str,
    timeline: u32,
    lsn: Lsn,
    from: Lsn,
    until: Lsn,
    facts: &WalFacts,
) -> Result<Vec<u8>> {
    let mut bytes = read_pages(pgdata, name, lsn, from, until, facts)?;
    check_pages(&mut bytes, name, timeline, lsn, from, until, facts)?;
    Ok(bytes)
}

/// As [`read_segment`] for a segment held in memory, such as one out of a tar file.
pub fn check_pages(
    bytes: &mut [u8],
    name: &str,
    timeline: u32,
    lsn: Lsn,
    from: Lsn,
    until: Lsn,
    facts: &WalFacts,
) -> Result<()> {
    check_length(bytes.len() as u64, name, facts)?;
    let needed = (until.0.saturating_sub(lsn.0)).min(bytes.len() as u64) as usize;
    let mut latest = 0;
    for (page, at) in pages(bytes, lsn, from, facts).take_while(|(_, at)| *at < until) {
        let offset = (at.0 - lsn.0) as usize;
        let found = match check_page(page, name, timeline, lsn, at, facts) {
            Err(_) if was_switched(bytes, offset, facts) => break,
            other => other?,
        };
        if found < latest {
            return Err(Error::WalDamaged {
                segment: name.to_owned(),
                offset: offset as u64,
                reason: format!("timeline {found} after timeline {latest}"),
            });
        }
        latest = found;
    }
    bytes[needed..].fill(0);
    let page = facts.wal_block_size as usize;
    let before = from.0.saturating_sub(lsn.0).min(bytes.len() as u64) as usize;
    if let Some(unread) = bytes.get_mut(page..before - before % page) {
        unread.fill(0);
    }
    Ok(())
}

/// For WAL whose end is not known (pg_basebackup's output): the segment with everything
/// zeroed from the first page on that is not its own, and the position of that page.
/// The start of the segment as position means that nothing of it is there. What lies before the
/// page of `from`, where replay begins, may be anything.
pub fn read_last_segment(
    pgdata: &Path,
    name: &str,
    timeline: u32,
    lsn: Lsn,
    from: Lsn,
    facts: &WalFacts,
) -> Result<(Vec<u8>, Lsn)> {
    let mut bytes = read_pages(pgdata, name, lsn, from, Lsn(u64::MAX), facts)?;
    let end = match pages(&bytes, lsn, from, facts)
        .find(|(page, at)| check_page(page, name, timeline, lsn, *at, facts).is_err())
    {
        Some((_, at)) if !was_switched(&bytes, (at.0 - lsn.0) as usize, facts) => at,
        _ => Lsn(lsn.0 + bytes.len() as u64),
    };
    bytes[(end.0 - lsn.0) as usize..].fill(0);
    Ok((bytes, end))
}

/// Whether the WAL of a segment ends before the page at `offset` because the server went on
/// to the next one: the rest is zeros, headers included, and the record before it is a valid
/// XLOG_SWITCH (CopyXLogRecordToWAL). Zeros alone could just as well be WAL that is missing.
fn was_switched(bytes: &[u8], offset: usize, facts: &WalFacts) -> bool {
    const RECORD: usize = 24;
    const XLOG_SWITCH: u8 = 0x40;
    let block = facts.wal_block_size as usize;
    let last = bytes[..offset].iter().rposition(|b| *b != 0);
    let Some(last) = last.filter(|_| bytes[offset..].iter().all(|b| *b == 0)) else {
        return false;
    };
    // The record ends aligned, with its kind and checksum in its last 8 bytes; it may begin
    // on the page before.
    let end = (last + 1).next_multiple_of(8);
    let page = last / block * block;
    let header = if page == 0 { LONG_HEADER } else { SHORT_HEADER };
    if end < page + header {
        return false;
    }
    let here = (end - page - header).min(RECORD);
    let mut record = bytes[end - here..end].to_vec();
    if here < RECORD {
        let Some(from) = page.checked_sub(RECORD - here) else {
            return false;
        };
        record.splice(0..0, bytes[from..page].iter().copied());
    }
    // xl_tot_len, xl_info, xl_rmid (0 is the WAL's own), xl_crc over what comes before it.
    u32_at(&record, 0) as usize == RECORD
        && record[16] & 0xF0 == XLOG_SWITCH
        && record[17] == 0
        && u32_at(&record, 20) == crc32c::crc32c(&record[..20])
}

/// The first page of the segment at `lsn`, and all from that of `from` on.
fn pages<'a>(
    bytes: &'a [u8],
    lsn: Lsn,
    from: Lsn,
    facts: &WalFacts,
) -> impl Iterator<Item = (&'a [u8], Lsn)> + use<'a> {
    let size = facts.wal_block_size;
    bytes
        .chunks(size as usize)
        .enumerate()
        .map(move |(i, page)| (page, Lsn(lsn.0 + i as u64 * u64::from(size))))
        .filter(move |(_, at)| *at == lsn || from.0.saturating_sub(at.0) < u64::from(size))
}

fn check_length(len: u64, name: &str, facts: &WalFacts) -> Result<()> {
    if len == u64::from(facts.wal_segment_size) {
        return Ok(());
    }
    Err(Error::WalDamaged {
        segment: name.to_owned(),
        offset: len,
        reason: format!(
            "the file has {len} bytes, expected {}",
            facts.wal_segment_size
        ),
    })
}

/// The first page of the segment at `lsn` and all pages from that of `from` to that before
/// `until`; zeros elsewhere. Most of a segment is of no use to most snapshots.
fn read_pages(
    pgdata: &Path,
    name: &str,
    lsn: Lsn,
    from: Lsn,
    until: Lsn,
    facts: &WalFacts,
) -> Result<Vec<u8>> {
    parse_segment_name(name, facts.wal_segment_size)?;
    let dir = pgdata.join("pg_wal");
    let path = dir.join(name);
    let file = match fs::File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::WalMissing {
                segment: name.to_owned(),
                dir,
            });
        }
        other => other.map_err(Error::io("reading", &path))?,
    };
    let len = file.metadata().map_err(Error::io("reading", &path))?.len();
    check_length(len, name, facts)?;
    let (size, page) = (len as usize, facts.wal_block_size as usize);
    let offset = |of: Lsn| (of.0.saturating_sub(lsn.0)).min(len) as usize;
    let begin = offset(from) / page * page;
    let end = offset(until).next_multiple_of(page).min(size);
    let mut bytes = vec![0; size];
    let mut read = |range: std::ops::Range<usize>| match bytes.get_mut(range.clone()) {
        Some(part) => file
            .read_exact_at(part, range.start as u64)
            .map_err(Error::io("reading", &path)),
        None => Ok(()),
    };
    read(0..page.min(size))?;
    read(begin..end)?;
    Ok(bytes)
}

/// The end of the record that begins at `lsn`, such as a shutdown checkpoint, which is the
/// last record of a cluster at rest.
pub fn record_end(pgdata: &Path, timeline: u32, lsn: Lsn, facts: &WalFacts) -> Result<Lsn> {
    let name = segment_name(timeline, lsn, facts.wal_segment_size);
    let start = lsn.segment_start(facts.wal_segment_size);
    let next = Lsn(lsn.0.saturating_add(1));
    let bytes = read_pages(pgdata, &name, start, lsn, next, facts)?;
    // The check zeroes what lies around.
    check_pages(&mut bytes.clone(), &name, timeline, start, lsn, next, facts)?;
    let offset = (lsn.0 - start.0) as usize;
    let damaged = |reason: String| Error::WalDamaged {
        segment: name.clone(),
        offset: offset as u64,
        reason,
    };
    if !lsn.0.is_multiple_of(8) {
        return Err(damaged("no record can begin here".into()));
    }
    // Records are aligned to 8 bytes, so that xl_tot_len is never split.
    let mut rest = u64::from(u32_at(&bytes, offset));
    if !(24..=1 << 30).contains(&rest) {
        return Err(damaged(format!("a record of {rest} bytes is impossible")));
    }
    let block = u64::from(facts.wal_block_size);
    let mut at = lsn.0;
    loop {
        let room = block - at % block;
        if rest <= room {
            return Ok(Lsn((at + rest).next_multiple_of(8)));
        }
        rest -= room;
        at += room;
        let long = at.is_multiple_of(u64::from(facts.wal_segment_size));
        at += if long { LONG_HEADER } else { SHORT_HEADER } as u64;
    }
}

/// The segments that hold WAL from `start` to `stop` (exclusive), each with its name and its
/// first position. Empty when `stop` is not after `start`.
pub fn segments_between(
    start: Lsn,
    stop: Lsn,
    timeline: u32,
    wal_segment_size: u32,
) -> Vec<(String, Lsn)> {
    let mut found = Vec::new();
    let mut at = start.segment_start(wal_segment_size);
    while start < stop && at < stop {
        found.push((segment_name(timeline, at, wal_segment_size), at));
        let Some(next) = at.0.checked_add(u64::from(wal_segment_size)) else {
            break;
        };
        at = Lsn(next);
    }
    found
}

/// The ancestors of a timeline: the content of `<timeline>.history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    pub timeline: u32,
    /// Oldest first: an ancestor, and the position at which its successor left it.
    pub ancestors: Vec<(u32, Lsn)>,
}

impl TimelineHistory {
    pub fn parse(timeline: u32, text: &[u8]) -> Result<TimelineHistory> {
        let text = String::from_utf8_lossy(text);
        let mut ancestors: Vec<(u32, Lsn)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |reason: &str| Error::BadHistory {
                name: history_name(timeline),
                line: i + 1,
                reason: reason.to_owned(),
            };
            let mut fields = line.split_ascii_whitespace();
            let ancestor = fields.next().and_then(|t| t.parse::<u32>().ok());
            let switch = fields.next().and_then(|t| t.parse::<Lsn>().ok());
            let (Some(ancestor), Some(switch)) = (ancestor, switch) else {
                return Err(bad("expected a timeline and the position of its end"));
            };
            if ancestor >= timeline || ancestors.last().is_some_and(|(last, _)| *last >= ancestor) {
                return Err(bad("timelines must increase"));
            }
            ancestors.push((ancestor, switch));
        }
        Ok(TimelineHistory {
            timeline,
            ancestors,
        })
    }

    /// The history of `timeline` in `pgdata`/pg_wal; without a file the timeline has no
    /// ancestors, as in readTimeLineHistory.
    pub fn read(pgdata: &Path, timeline: u32) -> Result<TimelineHistory> {
        let path = pgdata.join("pg_wal").join(history_name(timeline));
        match fs::read(&path) {
            Ok(text) => TimelineHistory::parse(timeline, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => TimelineHistory::parse(timeline, b""),
            Err(e) => Err(Error::io("reading", &path)(e)),
        }
    }

    /// The timeline whose file replay takes for the segment that begins at `start`: the
    /// newest one that began in it or before (XLogFileReadAnyTLI).
    pub fn timeline_of_segment(&self, start: Lsn, wal_segment_size: u32) -> u32 {
        let mut timeline = self
            .ancestors
            .first()
            .map_or(self.timeline, |(oldest, _)| *oldest);
        let successors = self.ancestors.iter().skip(1).map(|(t, _)| *t);
        for ((_, switch), next) in self.ancestors.iter().zip(successors.chain([self.timeline])) {
            if switch.segment_start(wal_segment_size) <= start {
                timeline = next;
            }
        }
        timeline
    }

    /// As [`segments_between`], across switches of the timeline.
    pub fn segments_between(
        &self,
        start: Lsn,
        stop: Lsn,
        wal_segment_size: u32,
    ) -> Vec<(u32, String, Lsn)> {
        segments_between(start, stop, self.timeline, wal_segment_size)
            .into_iter()
            .map(|(_, at)| {
                let timeline = self.timeline_of_segment(at, wal_segment_size);
                (timeline, segment_name(timeline, at, wal_segment_size), at)
            })
            .collect()
    }
}

/// `NNNNNNNN.history`
pub fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// The history files in `pgdata`/pg_wal, by timeline.
pub fn history_files(pgdata: &Path) -> Result<Vec<(u32, String)>> {
    let dir = pgdata.join("pg_wal");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io("reading", &dir))? {
        let entry = entry.map_err(Error::io("reading", &dir))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let timeline = name
            .strip_suffix(".history")
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .filter(|timeline| history_name(*timeline) == name);
        found.extend(timeline.map(|t| (t, name)));
    }
    found.sort();
    Ok(found)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("the range has 2 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the range has 4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the range has 8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::testing::{Cluster, bin_dirs};
    use zenith_store::World;

    fn fresh(bin: &Path) -> (Cluster, Control, WalFacts) {
        let cluster = Cluster::init(bin, &["--wal-segsize=4"]);
        let control = Control::read(cluster.pgdata(), &World::real()).unwrap();
        let facts = WalFacts::from(&control);
        (cluster, control, facts)
    }

    #[test]
    fn the_wal_of_a_cluster_at_rest_is_found_and_proven() {
        for bin in bin_dirs() {
            let (cluster, control, facts) = fresh(&bin);
            let end = record_end(cluster.pgdata(), 1, control.checkpoint_lsn, &facts).unwrap();
            assert!(
                (100..250).contains(&(end.0 - control.checkpoint_lsn.0)),
                "{end}"
            );
            let segments = segments_between(control.redo_lsn, end, 1, facts.wal_segment_size);
            assert_eq!(segments.len(), 1);
            let (name, lsn) = &segments[0];
            assert!(cluster.pgdata().join("pg_wal").join(name).exists());
            let bytes = read_segment(cluster.pgdata(), name, 1, *lsn, *lsn, end, &facts).unwrap();
            let at = (end.0 - lsn.0) as usize;
            assert!(bytes[at..].iter().all(|b| *b == 0));
            assert!(bytes[at - 100..at].iter().any(|b| *b != 0));
            let (last, to) =
                read_last_segment(cluster.pgdata(), name, 1, *lsn, *lsn, &facts).unwrap();
            assert_eq!((last, to.0), (bytes, end.0.next_multiple_of(8192)));
        }
    }

    #[test]
    fn what_lies_before_replay_is_not_looked_at_but_the_first_page() {
        let (cluster, control, facts) = fresh(&bin_dirs()[0]);
        let (lsn, size) = (control.checkpoint_lsn, facts.wal_segment_size);
        let (name, start) = (segment_name(1, lsn, size), lsn.segment_start(size));
        let end = record_end(cluster.pgdata(), 1, lsn, &facts).unwrap();
        let page = (lsn.0 - start.0) as usize / 8192;
        assert!(page > 2, "{lsn}");
        let path = cluster.pgdata().join("pg_wal").join(&name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[8192..page * 8192].fill(7);
        fs::write(&path, &bytes).unwrap();
        let read = |from| read_segment(cluster.pgdata(), &name, 1, start, from, end, &facts);
        let found = read(lsn).unwrap();
        assert_eq!(found[..8192], bytes[..8192]);
        assert!(found[8192..page * 8192].iter().all(|b| *b == 0));
        assert_eq!(found[page * 8192..][..100], bytes[page * 8192..][..100]);
        assert!(read(Lsn(lsn.0 - 8192)).is_err());
        let last = |from| read_last_segment(cluster.pgdata(), &name, 1, start, from, &facts);
        assert_eq!(last(lsn).unwrap().1.0, end.0.next_multiple_of(8192));
        assert_eq!(last(start).unwrap().1.0, start.0 + 8192);
        // The first page has the header of the segment.
        bytes[..8192].fill(7);
        fs::write(&path, &bytes).unwrap();
        assert!(read(lsn).is_err());
    }

    #[test]
    fn wrong_wal_is_refused() {
        let (cluster, control, facts) = fresh(&bin_dirs()[0]);
        let name = segment_name(1, control.redo_lsn, facts.wal_segment_size);
        let lsn = control.redo_lsn.segment_start(facts.wal_segment_size);
        let end = record_end(cluster.pgdata(), 1, control.checkpoint_lsn, &facts).unwrap();
        let read = |facts: &WalFacts, lsn, until| {
            read_segment(cluster.pgdata(), &name, 1, lsn, lsn, until, facts)
        };
        assert!(read(&facts, lsn, end).is_ok());
        let beyond = Lsn(end.0.next_multiple_of(8192) + 1);
        assert!(matches!(
            read(&facts, lsn, beyond),
            Err(Error::WalDamaged { .. })
        ));
        let other = WalFacts {
            system_identifier: 1,
            ..facts
        };
        assert!(
            matches!(read(&other, lsn, end), Err(Error::WalForeign { found, .. })
            if found == control.system_identifier)
        );
        let other = WalFacts { major: 16, ..facts };
        assert!(matches!(
            read(&other, lsn, end),
            Err(Error::WalDamaged { .. })
        ));
        let other = WalFacts {
            wal_segment_size: 8 << 20,
            ..facts
        };
        assert!(matches!(
            read(&other, lsn, end),
            Err(Error::WalDamaged { .. })
        ));
        assert!(matches!(
            read_segment(
                cluster.pgdata(),
                "000000010000000100000000",
                1,
                lsn,
                lsn,
                end,
                &facts
            ),
            Err(Error::WalMissing { .. })
        ));

        let path = cluster.pgdata().join("pg_wal").join(&name);
        let good = fs::read(&path).unwrap();
        // What the server does to an old segment: another name, the old pages.
        let next = segment_name(1, Lsn(lsn.0 + (4 << 20)), 4 << 20);
        fs::write(cluster.pgdata().join("pg_wal").join(&next), &good).unwrap();
        let at = Lsn(lsn.0 + (4 << 20));
        assert!(matches!(
            read_segment(cluster.pgdata(), &next, 1, at, at, Lsn(at.0 + 1), &facts),
            Err(Error::WalRecycled { found, .. }) if found == lsn
        ));
        // Recycled from the third page on, while it was being read.
        let mut bytes = good.clone();
        bytes[2 * 8192 + 8] ^= 0x40;
        assert!(matches!(
            check_pages(&mut bytes.clone(), &name, 1, lsn, lsn, end, &facts),
            Err(Error::WalRecycled { offset: 16384, .. })
        ));
        assert!(
            check_pages(
                &mut bytes,
                &name,
                1,
                lsn,
                lsn,
                Lsn(lsn.0 + 2 * 8192),
                &facts
            )
            .is_ok()
        );
        let mut bytes = good.clone();
        bytes[4] = 2;
        assert!(check_segment(&bytes, &name, 1, lsn, &facts).is_err());
        assert!(check_segment(&bytes, &name, 2, lsn, &facts).is_ok());
        assert!(check_pages(&mut bytes, &name, 2, lsn, lsn, end, &facts).is_err());
        assert!(check_segment(&good[..39], &name, 1, lsn, &facts).is_err());
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(
            read(&facts, lsn, end),
            Err(Error::WalDamaged { .. })
        ));
    }

    #[test]
    fn a_segment_that_was_switched_may_end_in_zeros() {
        for bin in bin_dirs() {
            let (cluster, control, facts) = fresh(&bin);
            cluster.start(&["wal_keep_size=1GB"]);
            let mut found = Vec::new();
            // The switch record at different places of its page, split ones among them.
            for i in 0..30 {
                let text = "x".repeat(8 * i);
                let message = format!(
                    "select pg_logical_emit_message(false, '', repeat('y', 7900) || '{text}')"
                );
                cluster.sql(&message);
                let end: Lsn = cluster.sql("select pg_switch_wal()").parse().unwrap();
                found.push(end);
            }
            cluster.stop("fast");
            let size = facts.wal_segment_size;
            let split = |end: &Lsn| (SHORT_HEADER as u64 + 1..48).contains(&(end.0 % 8192));
            assert!(found.iter().any(split), "{found:?}");
            for end in found {
                let (start, name) = (end.segment_start(size), segment_name(1, end, size));
                let next = Lsn(start.0 + u64::from(size));
                let read = || read_segment(cluster.pgdata(), &name, 1, start, start, next, &facts);
                let good = read().unwrap();
                let (last, to) =
                    read_last_segment(cluster.pgdata(), &name, 1, start, start, &facts).unwrap();
                assert_eq!((&last, to), (&good, next));
                // Without the switch the same zeros are missing WAL.
                let at = (end.0 - start.0) as usize;
                // At the end of a page the server names the first byte after the next header.
                let at = if at % 8192 == SHORT_HEADER {
                    at - SHORT_HEADER
                } else {
                    at
                };
                for damage in [at - 1, at - 8, at + 8192] {
                    let mut bad = good.clone();
                    bad[damage] ^= 1;
                    assert!(
                        check_pages(&mut bad, &name, 1, start, start, next, &facts).is_err(),
                        "{end} {damage}"
                    );
                }
                let mut short = good.clone();
                short[at - 24..].fill(0);
                assert!(
                    check_pages(&mut short, &name, 1, start, start, next, &facts).is_err(),
                    "{end}"
                );
            }
            assert!(
                control.checkpoint_lsn
                    < Control::read(cluster.pgdata(), &World::real())
                        .unwrap()
                        .checkpoint_lsn
            );
        }
    }

    #[test]
    fn segments_of_a_range() {
        let mib = 1 << 20;
        let names = |from, to| {
            segments_between(Lsn(from), Lsn(to), 1, 16 * mib)
                .into_iter()
                .map(|(name, at)| (name[16..].to_owned(), at.0 >> 20))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0x100_0028, 0x100_0028), []);
        assert_eq!(names(0x100_0028, 0x200_0000), [("00000001".to_owned(), 16)]);
        assert_eq!(names(0x100_0028, 0x200_0001).len(), 2);
        let last = Lsn(u64::MAX);
        assert_eq!(segments_between(Lsn(last.0 - 1), last, 1, 1 << 24).len(), 1);
    }

    #[test]
    fn timelines() {
        let text = b"1\t0/3000100\tno recovery target specified\n\n# x\n2\t0/5000000\tbefore\n";
        let history = TimelineHistory::parse(3, text).unwrap();
        assert_eq!(
            history.ancestors,
            [(1, Lsn(0x300_0100)), (2, Lsn(0x500_0000))]
        );
        let of = |mib: u64| history.timeline_of_segment(Lsn(mib << 20), 16 << 20);
        assert_eq!(
            [of(16), of(32), of(48), of(64), of(80), of(96)],
            [1, 1, 2, 2, 3, 3]
        );
        let names: Vec<_> = history
            .segments_between(Lsn(0x200_0028), Lsn(0x500_0028), 16 << 20)
            .into_iter()
            .map(|(_, name, _)| name)
            .collect();
        assert_eq!(names[0], "000000010000000000000002");
        assert_eq!(names[3], "000000030000000000000005");
        assert!(TimelineHistory::parse(2, text).is_err());
        assert!(TimelineHistory::parse(3, b"1 nowhere").is_err());
        let none = TimelineHistory::parse(1, b"").unwrap();
        assert_eq!(none.timeline_of_segment(Lsn(0), 16 << 20), 1);
    }

    #[test]
    fn history_files_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("pg_wal");
        fs::create_dir(&wal).unwrap();
        for name in [
            "0000000A.history",
            "00000002.history",
            "2.history",
            "x.history",
        ] {
            fs::write(wal.join(name), "1\t0/3000100\tx\n").unwrap();
        }
        let found = history_files(dir.path()).unwrap();
        assert_eq!(found.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(
            TimelineHistory::read(dir.path(), 2)
                .unwrap()
                .ancestors
                .len(),
            1
        );
        assert_eq!(TimelineHistory::read(dir.path(), 3).unwrap().ancestors, []);
    }
}
