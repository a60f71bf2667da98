//! Values that are typed in a form of their own.

use std::path::PathBuf;
use std::time::Duration;

/// `2s`, `5m`, `1h 30m`, `2 days`: jiff's friendly durations, above zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let example = "expected a time such as 30s, 5m, 1h or 2 days";
    let span: jiff::Span = text.parse().map_err(|_| example.to_owned())?;
    let signed = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years differ in length; use days or hours".to_owned())?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than nothing".to_owned()),
    }
}

/// `OLD=NEW`, both absolute; `\=` is an equals sign inside a path, as in pg_basebackup.
pub fn tablespace_mapping(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let mut sides = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'=') => {
                sides.last_mut().expect("never empty").extend(chars.next());
            }
            '=' => sides.push(String::new()),
            c => sides.last_mut().expect("never empty").push(c),
        }
    }
    let [old, new] = sides.as_slice() else {
        return Err("expected OLD=NEW with one equals sign".to_owned());
    };
    for side in [old, new] {
        if !side.starts_with('/') {
            return Err(format!("`{side}` is not an absolute path"));
        }
    }
    Ok((PathBuf::from(old), PathBuf::from(new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_friendly() {
        for (text, seconds) in [
            ("2s", 2),
            ("5m", 300),
            ("1h", 3600),
            ("1h 30m", 5400),
            ("2 days", 172_800),
            ("1w", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "5", "fast", "0s", "-5m", "1 month"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tablespaces_are_mapped_by_absolute_paths() {
        let pair = |a: &str, b: &str| Ok((PathBuf::from(a), PathBuf::from(b)));
        assert_eq!(tablespace_mapping("/a=/b"), pair("/a", "/b"));
        assert_eq!(tablespace_mapping("/a\\=x=/b"), pair("/a=x", "/b"));
        for wrong in ["/a", "a=/b", "/a=b", "/a=/b=/c", "="] {
            assert!(tablespace_mapping(wrong).is_err(), "{wrong}");
        }
    }
}
