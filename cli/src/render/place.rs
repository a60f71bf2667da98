//! Paths and programs as people type them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use zenith::pg::{binaries, user, version};

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

/// Whether root typed the command, whoever this process becomes; asked first before it does.
pub fn typed_by_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(user::is_root)
}

/// A program of PostgreSQL for a cluster, as it can be typed where this command was: with its
/// directory where PATH has none of that name, as the cluster's owner where root typed.
pub fn program(name: &str, pgdata: &Path, path: Option<&OsStr>, pg_bin: Option<&Path>) -> String {
    let dirs = path.unwrap_or_default();
    let is_on_path = std::env::split_paths(dirs).any(|dir| dir.join(name).is_file());
    let found = || -> Option<PathBuf> {
        let major = version::major_of_dir(pgdata).ok()?;
        let found = binaries::find(pg_bin, path, Some(major)).ok()?;
        Some(found.program(name))
    };
    let command = match found().filter(|_| !is_on_path) {
        Some(path) => quoted(&path),
        None => name.to_owned(),
    };
    match user::owner_of(pgdata) {
        Ok(owner) if typed_by_root() && !owner.is_root() => {
            format!("runuser -u {} -- {command}", owner.name)
        }
        _ => command,
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
