//! Paths as people read them.

use std::path::Path;

/// Relative where that is shorter: `.zenith` instead of `/home/me/app/.zenith`.
pub fn path(path: &Path, current_dir: &Path) -> String {
    match path.strip_prefix(current_dir) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
