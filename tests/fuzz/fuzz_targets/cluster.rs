//! Files of PostgreSQL: pg_control (its checksum put right), backup_label, tablespace_map,
//! postgresql.auto.conf, history files, names of segments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith::pg::wal::TimelineHistory;
use zenith::pg::{Control, Label, Lsn, guard, lsn, tablespace};

const SEGMENT: u32 = 16 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut control = bytes.to_vec();
    control.resize(8192, 0);
    let at = if control[8..12] == 1800u32.to_le_bytes() {
        292
    } else {
        288
    };
    let crc = crc32c::crc32c(&control[..at]);
    control[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    let _ = Control::parse(&control);
    let _ = Label::parse(bytes);
    if let Ok(map) = tablespace::parse_map(bytes) {
        assert_eq!(
            tablespace::parse_map(&tablespace::map_format(&map)).unwrap(),
            map
        );
    }
    assert!(guard::remove(bytes).len() <= bytes.len());
    if let Ok(history) = TimelineHistory::parse(u32::MAX, bytes) {
        let _ = history.timeline_of_segment(Lsn(1 << 40), SEGMENT);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Lsn>();
        let _ = lsn::parse_segment_name(text, SEGMENT);
    }
});
