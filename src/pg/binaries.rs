//! Finding the server programs of one major.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::version::SUPPORTED;
use super::{Error, Result};

/// Where distributions put each major: a directory of majors, and what follows the major.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/usr/local", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql@"),
];

/// The programs without which nothing works.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// A directory with server programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
    pub major: u32,
    /// As the server says it: `15.18`.
    pub version: String,
}

impl Binaries {
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The programs in `dir`; `None` when one is missing, does not run, or is of an
    /// unknown kind.
    fn open(dir: &Path) -> Option<Found> {
        if !PROGRAMS.iter().all(|p| dir.join(p).is_file()) {
            return None;
        }
        // The server's own word: pg_config of a developer package may be of another major.
        let said = output(Command::new(dir.join("postgres")).arg("--version"))?;
        let version = said
            .split_once("(PostgreSQL) ")?
            .1
            .split_ascii_whitespace()
            .next()?;
        let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Found {
            major: digits.parse().ok()?,
            version: version.to_owned(),
        })
    }
}

struct Found {
    major: u32,
    version: String,
}

/// The newest fitting programs: out of `explicit` alone when given, otherwise the first of
/// the directories in `path_env` (the value of PATH), `pg_config --bindir`, and the places
/// of distributions. `want_major` None takes any supported major.
///
/// Errors: `WrongBinaries` when `explicit` holds another major, `NoBinaries` with all that
/// was searched.
pub fn find(
    explicit: Option<&Path>,
    path_env: Option<&OsStr>,
    want_major: Option<u32>,
) -> Result<Binaries> {
    let fits = |major: u32| want_major.map_or(SUPPORTED.contains(&major), |want| want == major);
    let want = want_major.map_or("15 to 18".to_owned(), |major| major.to_string());
    if let Some(dir) = explicit {
        return match Binaries::open(dir) {
            Some(Found { major, version }) if fits(major) => Ok(Binaries {
                dir: dir.to_owned(),
                major,
                version,
            }),
            Some(Found { version, .. }) => Err(Error::WrongBinaries {
                dir: dir.to_owned(),
                found: version,
                want,
            }),
            None => Err(Error::NoBinaries {
                searched: dir.display().to_string(),
                want,
            }),
        };
    }
    let mut searched: Vec<String> = Vec::new();
    let mut tried: Vec<PathBuf> = Vec::new();
    for (place, dirs) in [
        ("PATH".to_owned(), path_dirs(path_env)),
        ("pg_config --bindir".to_owned(), config_dirs(path_env)),
        (well_known_name(), well_known_dirs()),
    ] {
        let mut others = Vec::new();
        for dir in dirs {
            if tried.contains(&dir) {
                continue;
            }
            tried.push(dir.clone());
            match Binaries::open(&dir) {
                Some(Found { major, version }) if fits(major) => {
                    return Ok(Binaries {
                        dir,
                        major,
                        version,
                    });
                }
                Some(Found { version, .. }) => {
                    others.push(format!("{} is {version}", dir.display()));
                }
                None => {}
            }
        }
        searched.push(if others.is_empty() {
            place
        } else {
            format!("{place} ({})", others.join(", "))
        });
    }
    Err(Error::NoBinaries {
        searched: searched.join(", "),
        want,
    })
}

fn path_dirs(path_env: Option<&OsStr>) -> Vec<PathBuf> {
    // Programs are never taken from the current directory by accident.
    path_env
        .map(|path| {
            std::env::split_paths(path)
                .filter(|dir| dir.is_absolute())
                .collect()
        })
        .unwrap_or_default()
}

fn config_dirs(path_env: Option<&OsStr>) -> Vec<PathBuf> {
    path_dirs(path_env)
        .into_iter()
        .map(|dir| dir.join("pg_config"))
        .find(|program| program.is_file())
        .and_then(|program| output(Command::new(program).arg("--bindir")))
        .map(|dir| PathBuf::from(dir.trim_end()))
        .into_iter()
        .collect()
}

fn well_known_name() -> String {
    let place = |(parent, prefix): &(&str, &str)| format!("{parent}/{prefix}*/bin");
    WELL_KNOWN.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// Newest first.
fn well_known_dirs() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in WELL_KNOWN {
        let names = fs::read_dir(parent).into_iter().flatten().flatten();
        found.extend(names.filter_map(|entry| {
            let name: OsString = entry.file_name();
            let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        }));
    }
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn output(command: &mut Command) -> Option<String> {
    let out = command.stdin(Stdio::null()).output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory whose postgres says that it is of `version`.
    fn fake(version: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for program in PROGRAMS {
            let path = dir.path().join(program);
            fs::write(
                &path,
                format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n"),
            )
            .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    #[test]
    fn the_installed_server_is_found() {
        let found = find(None, None, Some(15)).unwrap();
        assert_eq!(found.dir, Path::new("/usr/lib/postgresql/15/bin"));
        assert!(
            found.version.starts_with("15.") && found.version.len() <= 6,
            "{found:?}"
        );
    }

    #[test]
    fn path_comes_before_distributions_and_the_major_must_fit() {
        let (old, new) = (fake("14.3"), fake("17.2 (Debian 17.2-1)"));
        let path = std::env::join_paths([old.path(), new.path()]).unwrap();
        let found = find(None, Some(&path), None).unwrap();
        assert_eq!((found.major, found.version.as_str()), (17, "17.2"));
        assert_eq!(found.dir, new.path());
        let found = find(None, Some(&path), Some(15)).unwrap();
        assert_eq!(found.dir, Path::new("/usr/lib/postgresql/15/bin"));
    }

    #[test]
    fn an_explicit_directory_is_the_only_one() {
        let beta = fake("18beta1");
        assert_eq!(find(Some(beta.path()), None, None).unwrap().major, 18);
        assert!(matches!(
            find(Some(beta.path()), None, Some(15)),
            Err(Error::WrongBinaries { found, want, .. }) if found == "18beta1" && want == "15"
        ));
        fs::remove_file(beta.path().join("initdb")).unwrap();
        assert!(matches!(
            find(Some(beta.path()), None, None),
            Err(Error::NoBinaries { .. })
        ));
    }

    #[test]
    fn the_error_names_what_was_searched() {
        let old = fake("14.3");
        let error = find(None, Some(old.path().as_os_str()), Some(99))
            .unwrap_err()
            .to_string();
        for part in [
            "PostgreSQL 99",
            "PATH (",
            "is 14.3",
            "pg_config",
            "/usr/lib/postgresql/*",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
