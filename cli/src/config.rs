//! The only place that reads the environment: where the home is, and what holds unless a flag
//! says otherwise.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zenith::settings::Settings;

use crate::error::Failure;
use crate::passphrase::Passphrase;
use crate::render::glyphs::Glyphs;

/// The passphrase of an encrypted repository. No storage has any use for it.
const PASSPHRASE: &str = "ZENITH_PASSPHRASE";
/// The one that `zenith key` is to set.
const NEW_PASSPHRASE: &str = "ZENITH_NEW_PASSPHRASE";

/// Set by a shell that asks how a word goes on; never by people.
pub const COMPLETE: &str = "ZENITH_COMPLETE";

/// What zenith takes from outside of its command line.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub home: Option<PathBuf>,
    pub storage_dest: Option<String>,
    pub pg_bin: Option<PathBuf>,
    pub port: Option<String>,
    pub snapshot_interval: Option<String>,
    /// ZENITH_PASSPHRASE.
    pub passphrase: Option<Passphrase>,
    /// ZENITH_NEW_PASSPHRASE.
    pub new_passphrase: Option<Passphrase>,
    pub no_color: bool,
    /// The command that long lists are read with; none where there is none.
    pub pager: Option<String>,
    /// Every variable, for the storages: the names they read are theirs.
    pub storage: zenith::store::objects::Environment,
    /// PATH, to find the programs of PostgreSQL.
    pub path: Option<OsString>,
    pub current_dir: PathBuf,
    /// This program, to start the agent.
    pub program: PathBuf,
}

impl Environment {
    /// As this process finds it. An empty variable is one that is not set.
    pub fn read() -> Result<Self, Failure> {
        let get = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| match get(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
        };
        Ok(Self {
            home: get("ZENITH_HOME").map(PathBuf::from),
            storage_dest: text("ZENITH_STORAGE_DEST")?,
            pg_bin: get("ZENITH_PG_BIN").map(PathBuf::from),
            port: text("ZENITH_PORT")?,
            snapshot_interval: text("ZENITH_SNAPSHOT_INTERVAL")?,
            passphrase: get(PASSPHRASE).map(|value| Passphrase::new(value.into_vec())),
            new_passphrase: get(NEW_PASSPHRASE).map(|value| Passphrase::new(value.into_vec())),
            no_color: get("NO_COLOR").is_some(),
            pager: pager(|name| std::env::var_os(name)),
            storage: std::env::vars_os()
                .filter(|(name, _)| name != PASSPHRASE && name != NEW_PASSPHRASE)
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            path: std::env::var_os("PATH"),
            current_dir: std::env::current_dir().map_err(Failure::from_current_dir)?,
            program: std::env::current_exe().map_err(Failure::from_current_dir)?,
        })
    }

    /// ZENITH_PORT.
    pub fn port(&self) -> Result<Option<u16>, Failure> {
        let Some(text) = &self.port else {
            return Ok(None);
        };
        match text.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(Failure::usage(format!(
                "ZENITH_PORT is `{text}`, not a port"
            ))),
        }
    }

    /// ZENITH_SNAPSHOT_INTERVAL.
    pub fn snapshot_interval(&self) -> Result<Option<Duration>, Failure> {
        let Some(text) = &self.snapshot_interval else {
            return Ok(None);
        };
        match crate::args::duration(text) {
            Ok(interval) => Ok(Some(interval)),
            Err(why) => Err(Failure::usage(format!(
                "ZENITH_SNAPSHOT_INTERVAL is `{text}`: {why}"
            ))),
        }
    }

    /// Puts what is set here in the place of what is saved, for this run.
    pub fn apply(&self, settings: &mut Settings) -> Result<(), Failure> {
        if let Some(location) = &self.storage_dest {
            self.refuse_memory(location)?;
            settings.storage_dest = Some(self.absolute_location(location));
        }
        if let Some(dir) = &self.pg_bin {
            settings.server.pg_bin = Some(self.absolute(dir));
        }
        settings.server.port = self.port()?.or(settings.server.port);
        if let Some(interval) = self.snapshot_interval()? {
            settings.snapshots.interval_secs = interval.as_secs().max(1);
        }
        Ok(())
    }

    /// Where the home is or would be: `-D`, ZENITH_HOME, the nearest `.zenith` upwards, or
    /// `./.zenith`. Absolute, so that it holds after the user or directory changes.
    pub fn find_home(&self, flag: Option<&Path>) -> PathBuf {
        let given = flag.or(self.home.as_deref());
        let dir = match given {
            Some(dir) => dir.to_owned(),
            None => zenith::home::Home::find(&self.current_dir)
                .unwrap_or_else(|| PathBuf::from(".zenith")),
        };
        self.absolute(&dir)
    }

    /// A path as seen from where the command was typed, without `.` in it.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.current_dir.join(path).components().collect()
    }

    /// What lies in memory is gone when this process ends: for tests only.
    pub fn refuse_memory(&self, location: &str) -> Result<(), Failure> {
        let is_test = self.storage.get("ZENITH_TEST_MEMORY").is_some();
        if location.to_ascii_lowercase().starts_with("memory:") && !is_test {
            return Err(Failure::usage(format!(
                "{location} is gone when this command ends: name a path, s3://, gs:// or az://"
            )));
        }
        Ok(())
    }

    /// A storage or snapshot location that stays true elsewhere: URLs as they are, paths made
    /// absolute.
    pub fn absolute_location(&self, location: &str) -> String {
        if location == "-" || has_scheme(location) {
            return location.to_owned();
        }
        self.absolute(Path::new(location))
            .to_string_lossy()
            .into_owned()
    }
}

/// ZENITH_PAGER, PAGER, or less where there is one. An empty one is none, as is `cat`.
fn pager(get: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let asked = get("ZENITH_PAGER").or_else(|| get("PAGER"));
    let pager = match asked {
        Some(pager) => pager.into_string().ok()?,
        None => {
            let path = get("PATH")?;
            let mut dirs = std::env::split_paths(&path);
            dirs.any(|dir| dir.join("less").is_file())
                .then(|| "less".to_owned())?
        }
    };
    Some(pager).filter(|pager| !matches!(pager.trim(), "" | "cat"))
}

/// What is drawn with: ASCII where the locale, if one is set, has another encoding than UTF-8.
pub fn glyphs() -> Glyphs {
    glyphs_of(|name| std::env::var_os(name))
}

fn glyphs_of(get: impl Fn(&str) -> Option<OsString>) -> Glyphs {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = |name| get(name).filter(|value| !value.is_empty());
    match names.into_iter().find_map(set) {
        Some(locale) if !is_utf8(&locale.to_string_lossy()) => Glyphs::Ascii,
        _ => Glyphs::Unicode,
    }
}

/// Whether a locale such as `de_DE.UTF-8` has this encoding; `C` has ASCII.
fn is_utf8(locale: &str) -> bool {
    let encoding = locale.split_once('.').map_or("", |(_, encoding)| encoding);
    let encoding = encoding.split('@').next().unwrap_or_default();
    matches!(encoding.to_ascii_lowercase().as_str(), "utf-8" | "utf8")
}

/// `s3://…`, but not `./odd:name` and not `/a://b`.
pub fn has_scheme(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        std::fs::create_dir_all(root.join("a/.zenith")).unwrap();
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        let mut env = Environment {
            current_dir: root.join("a/b/c"),
            ..Default::default()
        };
        assert_eq!(env.find_home(None), root.join("a/.zenith"));
        env.current_dir = root.clone();
        assert_eq!(env.find_home(None), root.join(".zenith"));
        env.home = Some("elsewhere".into());
        assert_eq!(env.find_home(None), root.join("elsewhere"));
        assert_eq!(env.find_home(Some(Path::new("./flag"))), root.join("flag"));
        assert_eq!(env.find_home(Some(Path::new("/abs"))), Path::new("/abs"));
    }

    #[test]
    fn which_pager() {
        let pager = |zenith: Option<&str>, pager: Option<&str>| {
            super::pager(|name| match name {
                "ZENITH_PAGER" => zenith.map(OsString::from),
                "PAGER" => pager.map(OsString::from),
                _ => None,
            })
        };
        assert_eq!(
            pager(Some("less -S"), Some("more")).as_deref(),
            Some("less -S")
        );
        assert_eq!(pager(None, Some("more")).as_deref(), Some("more"));
        assert_eq!(pager(Some(""), Some("more")), None);
        assert_eq!(pager(None, Some("cat")), None);
        assert_eq!(pager(None, None), None, "no PATH, no less");
    }

    #[test]
    fn the_encoding_of_a_locale() {
        for utf8 in ["en_US.UTF-8", "C.utf8", "de_DE.UTF-8@euro"] {
            assert!(is_utf8(utf8), "{utf8}");
        }
        for other in ["C", "POSIX", "de_DE", "de_DE@euro", "ja_JP.eucJP"] {
            assert!(!is_utf8(other), "{other}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_says_the_locale() {
        for (all, ctype, lang, expect) in [
            ("", "", "", Glyphs::Unicode),
            ("C", "", "en_US.UTF-8", Glyphs::Ascii),
            ("", "C.UTF-8", "C", Glyphs::Unicode),
            ("", "POSIX", "C.UTF-8", Glyphs::Ascii),
            ("", "", "de_DE", Glyphs::Ascii),
        ] {
            let found = glyphs_of(|name| match name {
                "LC_ALL" => Some(all.into()),
                "LC_CTYPE" => Some(ctype.into()),
                _ => Some(lang.into()),
            });
            assert_eq!(found, expect, "{all} {ctype} {lang}");
        }
    }

    #[test]
    fn locations_become_absolute_and_urls_stay() {
        let env = Environment {
            current_dir: "/here".into(),
            ..Default::default()
        };
        for (given, absolute) in [
            ("store", "/here/store"),
            ("/srv/store", "/srv/store"),
            ("./s/../t", "/here/s/../t"),
            ("s3://b/p", "s3://b/p"),
            ("file:///x", "file:///x"),
            ("memory://", "memory://"),
            ("odd:name", "/here/odd:name"),
            ("-", "-"),
        ] {
            assert_eq!(env.absolute_location(given), absolute, "{given}");
        }
    }
}
