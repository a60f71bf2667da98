//! Bytes as people read them: decimal units, as many digits as one needs.

const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];

/// `812 B`, `38 KB`, `3.9 MB`, `251 MB`, `2.37 GB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be shown as 1000 of a unit is shown as 1 of the next.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match unit {
        0 => 0,
        1 if value >= 9.95 => 0,
        1 | 2 if value >= 99.95 => 0,
        1 | 2 => 1,
        _ if value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `2.1 GB/s`; nothing sensible can be said of no time at all.
pub fn rate(bytes: u64, seconds: f64) -> Option<String> {
    if seconds < 0.001 {
        return None;
    }
    Some(format!("{}/s", size((bytes as f64 / seconds) as u64)))
}

/// `0.2 %` of a whole.
pub fn percent(part: u64, whole: u64) -> Option<String> {
    if whole == 0 {
        return None;
    }
    let share = part as f64 * 100.0 / whole as f64;
    Some(if share > 0.0 && share < 0.1 {
        "< 0.1 %".to_owned()
    } else if share >= 99.5 {
        format!("{share:.0} %")
    } else {
        format!("{share:.1} %")
    })
}

/// `20,117`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 snapshot`, `3 snapshots`.
pub fn plural(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", count(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_and_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 KB"),
            (38_200, "38 KB"),
            (999_499, "999 KB"),
            (999_500, "1.0 MB"),
            (3_900_000, "3.9 MB"),
            (38_900_000, "38.9 MB"),
            (251_000_000, "251 MB"),
            (999_999_999, "1.00 GB"),
            (2_370_000_000, "2.37 GB"),
            (23_700_000_000, "23.7 GB"),
            (812_000_000_000, "812 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn shares_and_counts() {
        assert_eq!(percent(39, 23_700).as_deref(), Some("0.2 %"));
        assert_eq!(percent(1, 1_000_000).as_deref(), Some("< 0.1 %"));
        assert_eq!(percent(0, 10).as_deref(), Some("0.0 %"));
        assert_eq!(percent(10, 10).as_deref(), Some("100 %"));
        assert_eq!(percent(1, 0), None);
        assert_eq!(count(7), "7");
        assert_eq!(count(289_512), "289,512");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(plural(1, "snapshot"), "1 snapshot");
        assert_eq!(plural(1_500, "object"), "1,500 objects");
        assert_eq!(rate(2_100_000_000, 1.0).as_deref(), Some("2.10 GB/s"));
        assert_eq!(rate(1, 0.0), None);
    }
}
