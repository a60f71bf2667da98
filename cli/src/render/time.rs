//! Moments and durations as people read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// `4 s`, `5 min`, `3 h`, `2 days`, `4 months`, `2 years`: the largest unit that says enough.
/// A moment in the future (clocks differ) is `0 s`.
pub fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let of = |n: i64, unit: &str| {
        if n == 1 {
            format!("1 {unit}")
        } else {
            format!("{n} {unit}s")
        }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400..5_184_000 => of(seconds / 86_400, "day"),
        5_184_000..63_072_000 => of(seconds / 2_592_000, "month"),
        _ => of(seconds / 31_536_000, "year"),
    }
}

/// Age of a moment given in microseconds since 1970, as seen at `now`.
pub fn age_of(unix_micros: i64, now: Timestamp) -> String {
    age((now.as_microsecond() - unix_micros) / 1_000_000)
}

/// How long something took: `0.3 s`, `41 s`, `2 min 5 s`, `3 h 12 min`.
pub fn took(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

/// An interval as it is typed: `5m`, `2s`, `1h 30m`.
pub fn interval(seconds: u64) -> String {
    let parts = [
        (seconds / 3_600, "h"),
        (seconds % 3_600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect();
    if shown.is_empty() {
        "0s".to_owned()
    } else {
        shown.join(" ")
    }
}

/// `2026-11-22 10:00:00 +01:00`: the moment in the zone where it was taken.
pub fn moment(unix_micros: i64, offset_secs: i32) -> String {
    zoned(unix_micros, offset_secs).map_or_else(
        || format!("{unix_micros} µs since 1970"),
        |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
    )
}

/// RFC 3339, for JSON.
pub fn rfc3339(unix_micros: i64, offset_secs: i32) -> Option<String> {
    zoned(unix_micros, offset_secs)
        .map(|zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string())
}

fn zoned(unix_micros: i64, offset_secs: i32) -> Option<jiff::Zoned> {
    let at = Timestamp::from_microsecond(unix_micros).ok()?;
    let offset = Offset::from_seconds(offset_secs).ok()?;
    Some(at.to_zoned(TimeZone::fixed(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_use_one_unit() {
        for (seconds, shown) in [
            (-5, "0 s"),
            (4, "4 s"),
            (59, "59 s"),
            (60, "1 min"),
            (300, "5 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (86_399, "23 h"),
            (86_400, "1 day"),
            (172_800, "2 days"),
            (59 * 86_400, "59 days"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(age(seconds), shown, "{seconds}");
        }
    }

    #[test]
    fn durations_and_intervals() {
        assert_eq!(took(Duration::from_millis(340)), "0.3 s");
        assert_eq!(took(Duration::from_millis(9_960)), "10 s");
        assert_eq!(took(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(took(Duration::from_secs(11_520)), "3 h 12 min");
        assert_eq!(interval(300), "5m");
        assert_eq!(interval(2), "2s");
        assert_eq!(interval(5_400), "1h 30m");
        assert_eq!(interval(0), "0s");
    }

    #[test]
    fn moments_keep_their_zone() {
        let micros = 1_795_338_000_250_000; // 2026-11-22 09:00:00.25 UTC
        assert_eq!(moment(micros, 3_600), "2026-11-22 10:00:00 +01:00");
        assert_eq!(
            rfc3339(micros, 0).as_deref(),
            Some("2026-11-22T09:00:00.250000+00:00")
        );
        assert_eq!(moment(i64::MAX, 0), "9223372036854775807 µs since 1970");
    }
}
