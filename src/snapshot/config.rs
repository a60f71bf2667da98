//! Configuration: what lies outside PGDATA, and whether any of it changed.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::{Error, Result};
use crate::facts::{ConfigDigest, OutsideFile};
use crate::pg;
use crate::pg::path::Rule;

/// A configuration file is smaller; nothing larger counts as one.
const BYTES_MAX: u64 = 4 << 20;

/// Where a server found its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) config: Option<PathBuf>,
    pub(super) hba: Option<PathBuf>,
    pub(super) ident: Option<PathBuf>,
}

impl Places {
    /// Of a stopped cluster: from the command line that its last server left in
    /// `postmaster.opts`, and from the file that is named there.
    pub(super) fn of_stopped(pgdata: &Path) -> Result<Places> {
        let opts = disk::read_if_there(&pgdata.join("postmaster.opts"))?.unwrap_or_default();
        let opts = String::from_utf8_lossy(&opts);
        let mut places = Places::default();
        // `/usr/lib/…/postgres "-D" "/data" "-c" "config_file=/etc/…/postgresql.conf"`
        for word in opts.split('"') {
            let set = |name: &str| {
                word.strip_prefix("--")
                    .unwrap_or(word)
                    .strip_prefix(name)?
                    .strip_prefix('=')
            };
            places.config = set("config_file").map(PathBuf::from).or(places.config);
            places.hba = set("hba_file").map(PathBuf::from).or(places.hba);
            places.ident = set("ident_file").map(PathBuf::from).or(places.ident);
        }
        let Some(config) = &places.config else {
            return Ok(places);
        };
        let Some(bytes) = disk::read_if_there(config)? else {
            return Ok(Places::default());
        };
        let text = String::from_utf8_lossy(&bytes);
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| setting(line, name))
                .next_back()
        };
        places.hba = places
            .hba
            .take()
            .or_else(|| value("hba_file").map(PathBuf::from));
        places.ident = places
            .ident
            .take()
            .or_else(|| value("ident_file").map(PathBuf::from));
        Ok(places)
    }

    /// The files among them that lie outside `pgdata` and can be read.
    pub(super) fn outside(&self, pgdata: &Path) -> Result<Vec<OutsideFile>> {
        let pgdata = pgdata
            .canonicalize()
            .map_err(Error::io("resolve", pgdata))?;
        let mut found = Vec::new();
        for (name, path) in [
            ("postgresql.conf", &self.config),
            ("pg_hba.conf", &self.hba),
            ("pg_ident.conf", &self.ident),
        ] {
            let Some(path) = path else { continue };
            // A relative path counts from PGDATA.
            let path = pgdata.join(path);
            let Ok(real) = path.canonicalize() else {
                continue;
            };
            if real.starts_with(&pgdata) {
                continue;
            }
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            found.push(OutsideFile {
                name: name.to_owned(),
                path: path.display().to_string(),
                bytes,
            });
        }
        Ok(found)
    }
}

/// The value of `name = 'value'` in a line of a configuration file.
fn setting(line: &str, name: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(name)?;
    if !rest.starts_with(|c: char| c == '=' || c.is_whitespace()) {
        return None;
    }
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    match value.strip_prefix('\'') {
        Some(quoted) => {
            let mut out = String::new();
            let mut chars = quoted.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\'' if chars.peek() == Some(&'\'') => out.extend(chars.next()),
                    '\'' => return Some(out),
                    '\\' => out.extend(chars.next()),
                    c => out.push(c),
                }
            }
            None
        }
        None => {
            let end = value
                .find(|c: char| c.is_whitespace() || c == '#')
                .unwrap_or(value.len());
            (end > 0).then(|| value[..end].to_owned())
        }
    }
}

/// Over the names and bytes of what changes a cluster without a transaction: configuration files
/// in the cluster's own directory and outside, and relation maps.
pub(super) fn digest(pgdata: &Path, outside: &[OutsideFile]) -> Result<ConfigDigest> {
    let mut hasher = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        for part in [name.as_bytes(), bytes] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    };
    let mut paths = Vec::new();
    for (name, is_dir) in list(pgdata)? {
        let taken = pg::path::rule(&name, false) == Rule::Take
            && !crate::marker::is_marker(&name)
            && !name.starts_with(".s.PGSQL.");
        if !is_dir && taken {
            paths.push(name);
        } else if is_dir && is_config_dir(&name) {
            for (file, is_dir) in list(&pgdata.join(&name))? {
                paths.extend((!is_dir).then(|| format!("{name}/{file}")));
            }
        }
    }
    paths.push("global/pg_filenode.map".to_owned());
    for (database, _) in list(&pgdata.join("base"))? {
        paths.push(format!("base/{database}/pg_filenode.map"));
    }
    for path in paths {
        let full = pgdata.join(&path);
        let size = fs::symlink_metadata(&full).map_or(0, |meta| meta.len());
        if size > BYTES_MAX {
            continue;
        }
        if let Some(mut bytes) = disk::read_if_there(&full)? {
            if path == "postgresql.auto.conf" {
                bytes = pg::guard::remove(&bytes);
            }
            add(&path, &bytes);
        }
    }
    for file in outside {
        add(&file.path, &file.bytes);
    }
    Ok(ConfigDigest(hasher.finalize().into()))
}

/// Directories in PGDATA that are not PostgreSQL's are people's: `conf.d` and such.
fn is_config_dir(name: &str) -> bool {
    !(name.starts_with("pg_") || matches!(name, "base" | "global" | "log" | "lost+found"))
}

/// Sorted names of files and directories.
fn list(dir: &Path) -> Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let kind = entry
            .file_type()
            .map_err(Error::io("stat", &entry.path()))?;
        let name = entry.file_name().into_string().ok();
        if kind.is_file() || kind.is_dir() {
            found.extend(name.map(|name| (name, kind.is_dir())));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_the_server_reads_them() {
        for (line, value) in [
            (
                "hba_file = '/etc/x/pg_hba.conf'\t# comment",
                Some("/etc/x/pg_hba.conf"),
            ),
            ("  hba_file='/a b'", Some("/a b")),
            ("hba_file '/a''b'", Some("/a'b")),
            ("hba_file = plain # x", Some("plain")),
            ("#hba_file = '/x'", None),
            ("hba_file = '/x", None),
            ("hba_file_other = x", None),
        ] {
            assert_eq!(setting(line, "hba_file").as_deref(), value, "{line}");
        }
    }
}
