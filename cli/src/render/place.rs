//! Paths as people read them.

use std::path::Path;

/// Relative where that is shorter: `.zenith` instead of `/home/me/app/.zenith`.
pub fn path(path: &Path, current_dir: &Path) -> String {
    match path.strip_prefix(current_dir) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// As one word for a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        assert_eq!(quoted(Path::new("/srv/a-1/.zenith")), "/srv/a-1/.zenith");
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }

    #[test]
    fn paths_below_are_shown_from_here() {
        let here = Path::new("/home/me");
        for (given, shown) in [
            ("/home/me/.zenith", ".zenith"),
            ("/home/me", "/home/me"),
            ("/srv", "/srv"),
        ] {
            assert_eq!(path(Path::new(given), here), shown);
        }
    }
}
