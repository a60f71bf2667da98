//! Log sequence numbers and the names of the WAL segments that hold them.

use std::fmt;
use std::str::FromStr;

use super::{Error, Result};

/// A byte position in the WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    pub const ZERO: Lsn = Lsn(0);

    /// PostgreSQL's "no position".
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The start of the segment that holds the byte at this position.
    pub fn segment_start(self, wal_segment_size: u32) -> Lsn {
        Lsn(self.0 - self.0 % u64::from(wal_segment_size))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Lsn> {
        let half = |s: &str| {
            let fits = (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(s, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| Error::BadLsn {
                text: text.to_owned(),
            })
    }
}

/// Segment sizes that initdb --wal-segsize makes.
pub fn check_segment_size(bytes: u32) -> Result<()> {
    if bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes) {
        Ok(())
    } else {
        Err(Error::BadSegmentSize {
            bytes: bytes.into(),
        })
    }
}

/// The name of the segment that holds the byte at `lsn` (XLogFileName,
/// src/include/access/xlog_internal.h). `wal_segment_size` is in bytes.
pub fn segment_name(timeline: u32, lsn: Lsn, wal_segment_size: u32) -> String {
    let number = lsn.0 / u64::from(wal_segment_size);
    let per_id = (1u64 << 32) / u64::from(wal_segment_size);
    format!(
        "{timeline:08X}{:08X}{:08X}",
        number / per_id,
        number % per_id
    )
}

/// Timeline and first position of the segment called `name`.
pub fn parse_segment_name(name: &str, wal_segment_size: u32) -> Result<(u32, Lsn)> {
    check_segment_size(wal_segment_size)?;
    let bad = || Error::BadSegmentName {
        name: name.to_owned(),
    };
    let upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if name.len() != 24 || !name.bytes().all(upper_hex) {
        return Err(bad());
    }
    let part = |i: usize| u32::from_str_radix(&name[i * 8..i * 8 + 8], 16).map_err(|_| bad());
    let (timeline, id, number) = (part(0)?, part(1)?, part(2)?);
    let per_id = (1u64 << 32) / u64::from(wal_segment_size);
    if timeline == 0 || u64::from(number) >= per_id {
        return Err(bad());
    }
    let start = (u64::from(id) * per_id + u64::from(number)) * u64::from(wal_segment_size);
    // The very last one has no end that a position could name.
    match start.checked_add(u64::from(wal_segment_size)) {
        Some(_) => Ok((timeline, Lsn(start))),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_of_positions() {
        assert_eq!("0/3000028".parse::<Lsn>().unwrap(), Lsn(0x300_0028));
        assert_eq!(
            "16/b374d848".parse::<Lsn>().unwrap().to_string(),
            "16/B374D848"
        );
        for bad in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/123456789",
            "g/0",
            "0/+1",
            "0/0/0",
            " 0/0",
        ] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_segments() {
        let mib = 1 << 20;
        assert_eq!(
            segment_name(1, Lsn(0x300_0028), 16 * mib),
            "000000010000000000000003"
        );
        assert_eq!(
            segment_name(0x1F, Lsn(0x16_B374_D848), 64 * mib),
            "0000001F000000160000002C"
        );
        assert_eq!(
            parse_segment_name("000000010000000000000003", 16 * mib).unwrap(),
            (1, Lsn(0x300_0000))
        );
        for bad in [
            "000000010000000000000103",
            "00000001000000000000000G",
            "00000001000000000000000a",
            "000000000000000000000003",
            "00000001FFFFFFFF000000FF",
            "000000010000000000000003.partial",
            "00000002.history",
            "éééééééééééé",
        ] {
            assert!(parse_segment_name(bad, 16 * mib).is_err(), "{bad}");
        }
        assert!(parse_segment_name("000000010000000000000003", 3).is_err());
    }

    proptest! {
        #[test]
        fn both_ways(n in 0..=u64::MAX - (1 << 30), timeline in 1u32.., shift in 20u32..=30) {
            let size = 1 << shift;
            prop_assert_eq!(Lsn(n).to_string().parse::<Lsn>().unwrap(), Lsn(n));
            let name = segment_name(timeline, Lsn(n), size);
            prop_assert_eq!(
                parse_segment_name(&name, size).unwrap(),
                (timeline, Lsn(n).segment_start(size))
            );
        }
    }
}
