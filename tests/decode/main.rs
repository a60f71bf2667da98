//! Whatever bytes lie in a snapshot, a cluster or a home, decoding them gives something or an
//! error: no panic, and no more memory than the bytes are worth.

#![allow(clippy::disallowed_methods, reason = "tests may take the real world")]

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;
use zenith::facts::{Facts, LeftOut, Mark, Summary, TablespaceFact, TimelineEnd};
use zenith::marker::Marker;
use zenith::pg::wal::{TimelineHistory, WalFacts, check_pages};
use zenith::pg::{Control, Label, Lsn, guard, lsn, tablespace};
use zenith::plan::FileCache;
use zenith::scan::Stamp;
use zenith_testkit::bytes::{Counting, Mutation, mutated, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SEGMENT: u32 = 1 << 20;
const PAGE: u32 = 8192;

/// That decoding takes memory in proportion to the bytes.
fn bounded<T>(bytes: &[u8], work: impl FnOnce() -> T) -> T {
    let (out, used) = peak(work);
    let limit = (64 << 10) + 256 * bytes.len();
    assert!(used <= limit, "{used} bytes for {} bytes", bytes.len());
    out
}

/// Every decoder, whatever the bytes are.
fn decode(bytes: &[u8]) {
    if let Ok(facts) = bounded(bytes, || Facts::decode(bytes, &"x")) {
        // (A number that is not one is unequal to itself nowhere: there are no floats.)
        assert_eq!(Facts::decode(&facts.encode(), &"x").unwrap(), facts);
    }
    if let Ok(summary) = bounded(bytes, || Summary::decode(bytes, &"x")) {
        assert_eq!(Summary::decode(&summary.encode(), &"x").unwrap(), summary);
    }
    bounded(bytes, || FileCache::decode(bytes));
    bounded(bytes, || Marker::parse(bytes)).ok();
    bounded(bytes, || Label::parse(bytes)).ok();
    bounded(bytes, || Control::parse(bytes)).ok();
    if let Ok(map) = bounded(bytes, || tablespace::parse_map(bytes)) {
        assert_eq!(
            tablespace::parse_map(&tablespace::map_format(&map)).unwrap(),
            map
        );
    }
    let without = bounded(bytes, || guard::remove(bytes));
    assert!(without.len() <= bytes.len());
    if let Ok(history) = bounded(bytes, || TimelineHistory::parse(u32::MAX, bytes)) {
        for at in [0, 1 << 24, u64::MAX] {
            history.timeline_of_segment(Lsn(at).segment_start(SEGMENT), SEGMENT);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(position) = text.parse::<Lsn>() {
        lsn::segment_name(1, position, SEGMENT);
    }
    lsn::parse_segment_name(&text, SEGMENT).ok();
}

fn facts() -> Facts {
    Facts {
        system_identifier: 7_654_321,
        major: 15,
        architecture: "x86_64".into(),
        libc: Some("glibc 2.36".into()),
        history: vec![TimelineEnd {
            timeline: 1,
            end_lsn: 0x0300_0028,
        }],
        mark: Some(Mark {
            xids: "730:730:".into(),
            prepared: 0,
            replay_lsn: Some(7),
        }),
        tablespaces: vec![TablespaceFact {
            oid: 16390,
            location: "/srv/ts".into(),
        }],
        tablespace_map: b"16390 /srv/ts\n".to_vec(),
        left_out: vec![LeftOut {
            path: "pg_wal/*".into(),
            reason: "WAL".into(),
        }],
        ..Facts::default()
    }
}

/// Of PostgreSQL 15; its checksum is right.
fn control() -> Vec<u8> {
    let mut out = vec![0; 8192];
    for (at, value) in [
        (8, 1300),
        (12, 202_209_061),
        (16, 1),
        (216, PAGE),
        (220, 131_072),
        (224, PAGE),
        (228, SEGMENT),
    ] {
        out[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    with_checksum(out)
}

fn with_checksum(mut control: Vec<u8>) -> Vec<u8> {
    if control.len() >= 512 {
        let crc = crc32c::crc32c(&control[..288]);
        control[288..292].copy_from_slice(&crc.to_le_bytes());
    }
    control
}

fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut cache = FileCache::begin(&zenith_store::World::real());
        cache.snapshot = "ab".repeat(32);
        cache.stamps.insert("base/5/1".into(), Stamp::default());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        cache.save(&path).unwrap();
        let marker = Marker::new(dir.path(), "ab".repeat(32), "cd".repeat(16)).unwrap();
        marker.write(dir.path()).unwrap();
        let label = "START WAL LOCATION: 16/3000028 (file 000000020000001600000003)\n\
            CHECKPOINT LOCATION: 16/3000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
            START TIME: 2026-11-22 06:52:54 UTC\nLABEL: before: the migration\n\
            START TIMELINE: 2\nINCREMENTAL FROM LSN: 16/2000028\n";
        vec![
            facts().encode(),
            facts().summary().encode(),
            std::fs::read(path).unwrap(),
            std::fs::read(dir.path().join(zenith::marker::NAME)).unwrap(),
            label.into(),
            control(),
            b"16390 /srv/ts\n16391 /a\\\\b\\\nc\n".to_vec(),
            guard::add(b"port = '1'\n"),
            b"1\t0/3000028\tno recovery target specified\n\n2\t0/5000000\tx\n".to_vec(),
            b"000000020000001600000003".to_vec(),
            b"16/3000028".to_vec(),
        ]
    })
}

/// A file cache or a pg_control with the right checksum, so that what it guards is looked at.
fn rechecked(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(b"zfcache1") && bytes.len() >= 12 {
        let crc = crc32c::crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        return bytes;
    }
    with_checksum(bytes)
}

/// WAL of 15 in which all page headers are right.
fn segment(start: u64, facts: &WalFacts) -> Vec<u8> {
    let mut out = vec![7; SEGMENT as usize];
    for (n, page) in out.chunks_mut(PAGE as usize).enumerate() {
        let magic = zenith::pg::version::wal_magic(facts.major).unwrap();
        page[..2].copy_from_slice(&magic.to_le_bytes());
        page[2..4].copy_from_slice(&u16::to_le_bytes(if n == 0 { 2 } else { 0 }));
        page[4..8].copy_from_slice(&1u32.to_le_bytes());
        page[8..16].copy_from_slice(&(start + n as u64 * u64::from(PAGE)).to_le_bytes());
        page[24..32].copy_from_slice(&facts.system_identifier.to_le_bytes());
        page[32..36].copy_from_slice(&facts.wal_segment_size.to_le_bytes());
        page[36..40].copy_from_slice(&facts.wal_block_size.to_le_bytes());
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode(&bytes);
        decode(&rechecked(bytes));
    }

    #[test]
    fn any_text_decodes_or_not(text in "[A-Z0-9 :/().=\\\\\"'\n\t_-]{0,200}") {
        decode(text.as_bytes());
    }

    #[test]
    fn nearly_right_bytes_decode_or_not(
        which in any::<Index>(), how in prop::collection::vec(any::<Mutation>(), 1..6),
    ) {
        let bytes = mutated(which.get::<Vec<u8>>(samples()), &how);
        decode(&bytes);
        decode(&rechecked(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nearly_right_wal_is_checked_or_refused(
        first in prop_oneof![0u64..1 << 40, Just(u64::MAX / u64::from(SEGMENT))],
        (from, until) in any::<(u64, u64)>(),
        zeros_from in 0..=SEGMENT,
        how in prop::collection::vec((0u32..SEGMENT / PAGE, 0usize..48, any::<u8>()), 0..4),
    ) {
        let facts = WalFacts {
            major: 15,
            system_identifier: 7,
            wal_block_size: PAGE,
            wal_segment_size: SEGMENT,
        };
        let start = (first % (1 << 44)) * u64::from(SEGMENT);
        let mut bytes = segment(start, &facts);
        bytes[zeros_from as usize..].fill(0);
        for (page, at, byte) in how {
            bytes[(page * PAGE) as usize + at] = byte;
        }
        let near = |n: u64| Lsn(start.saturating_add(n % (2 * u64::from(SEGMENT))));
        let (from, until) = (near(from), near(until));
        check_pages(&mut bytes, "x", 1, Lsn(start), from, until, &facts).ok();
    }
}
