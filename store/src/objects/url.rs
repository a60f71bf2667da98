//! The one grammar for places: `/path`, `file:///path`, `s3://bucket/prefix`, `gs://`, `az://`
//! and `memory://name`; and how such a place is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

mod service;
#[cfg(test)]
mod tests;

pub use self::service::Service;
use self::service::{ordinary_client, retry, upload_client};
use super::bucket::{Bucket, Place};
use super::{Environment, Objects, ObjectsError};

/// Where objects lie, as a person names it. Made by [`StorageUrl::parse`], printed back in
/// canonical absolute form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StorageUrl {
    /// A directory of this machine, absolute.
    Local(PathBuf),
    /// A bucket (Azure: a container) and a prefix without slashes at its ends, often empty.
    Bucket {
        service: Service,
        bucket: String,
        prefix: String,
    },
    /// A store in the memory of this process, for tests. All openings of one name share it.
    Memory { name: String, prefix: String },
}

/// Why a text names no place. The text is shown without user and password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the storage location is empty")]
    Empty,
    #[error("`{text}` has the unknown scheme `{scheme}`")]
    UnknownScheme { text: String, scheme: String },
    #[error("`{text}` names no bucket")]
    BucketMissing { text: String },
    #[error("`{text}` holds credentials")]
    Credentials { text: String },
    #[error("`{text}` names the host `{host}`, but only files of this machine can be reached")]
    ForeignHost { text: String, host: String },
    #[error("`{text}` is not a storage location: {why}")]
    Malformed { text: String, why: &'static str },
}

/// How a place is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Variables with the prefix `SNAPSHOT_` win over the plain ones.
    pub snapshot_path: bool,
    /// After this long no request is tried again. Short for a probe.
    pub retry_timeout: Duration,
}

impl Default for OpenOptions {
    /// Three minutes: below the five after which a request's signature may be too old.
    fn default() -> Self {
        Self {
            snapshot_path: false,
            retry_timeout: Duration::from_secs(180),
        }
    }
}

impl OpenOptions {
    /// For commands whose answer a person waits for.
    pub fn interactive() -> Self {
        Self {
            retry_timeout: Duration::from_secs(15),
            ..Self::default()
        }
    }
}

/// A variable that people expect to work and that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is set but not read; set {instead}")]
pub struct Warning {
    pub variable: &'static str,
    pub instead: &'static str,
}

impl StorageUrl {
    /// Reads a text. A relative path is taken from `cwd`, which must be absolute.
    pub fn parse(text: &str, cwd: &Path) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return local(text, &cwd.join(text));
        };
        let scheme = scheme.to_ascii_lowercase();
        let shown = without_credentials(text);
        let malformed = |why| UrlError::Malformed {
            text: shown.clone(),
            why,
        };
        let Some(rest) = rest.strip_prefix("//") else {
            // A colon is fine in the name of a file.
            return match scheme.as_str() {
                "file" | "s3" | "gs" | "az" | "memory" => {
                    Err(malformed("two slashes must follow the scheme"))
                }
                _ => local(text, &cwd.join(text)),
            };
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (rest, None),
        };
        if host.contains('@') {
            return Err(UrlError::Credentials { text: shown });
        }
        let service = match scheme.as_str() {
            "file" => return file(text, host),
            "memory" => None,
            "s3" => Some(Service::S3),
            "gs" => Some(Service::Gcs),
            "az" => Some(Service::Azure),
            _ => {
                return Err(UrlError::UnknownScheme {
                    text: shown,
                    scheme,
                });
            }
        };
        if host.is_empty() {
            return Err(UrlError::BucketMissing { text: shown });
        }
        if !host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        {
            return Err(malformed(
                "the bucket has a character that no bucket can have",
            ));
        }
        let prefix = path.unwrap_or("").trim_end_matches('/');
        if prefix.contains(['?', '#']) {
            return Err(malformed("it has a query or a fragment"));
        }
        if !prefix.is_empty()
            && prefix
                .split('/')
                .any(|name| matches!(name, "" | "." | ".."))
        {
            return Err(malformed("the prefix has an empty name, `.` or `..`"));
        }
        if prefix.chars().any(char::is_control) {
            return Err(malformed("it has a control character"));
        }
        let prefix = prefix.to_owned();
        Ok(match service {
            Some(service) => Self::Bucket {
                service,
                bucket: host.to_owned(),
                prefix,
            },
            None => Self::Memory {
                name: host.to_owned(),
                prefix,
            },
        })
    }

    /// The directory, where the place is one of this machine.
    pub fn local_path(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Bucket { .. } | Self::Memory { .. } => None,
        }
    }

    /// Opens the place. Credentials and settings come from `environment` under the standard
    /// names of the cloud. Nothing is created, and no request is made, except that without any
    /// credentials the cloud's metadata service is tried for a second.
    pub fn open(
        &self,
        environment: &Environment,
        options: &OpenOptions,
    ) -> Result<Arc<dyn Objects>, ObjectsError> {
        Ok(Arc::new(self.open_bucket(environment, options)?))
    }

    fn open_bucket(
        &self,
        environment: &Environment,
        options: &OpenOptions,
    ) -> Result<Bucket, ObjectsError> {
        let location = self.to_string();
        let environment = self.effective(environment, options);
        let (service, bucket, prefix) = match self {
            Self::Local(path) => return Bucket::local(path),
            Self::Memory { name, prefix } => {
                let place = Place {
                    location,
                    bucket: name.clone(),
                    prefix: prefix.clone(),
                    host: "memory".to_owned(),
                };
                let store = memory(name);
                return Bucket::new(store.clone(), store, place);
            }
            Self::Bucket {
                service,
                bucket,
                prefix,
            } => (*service, bucket, prefix),
        };
        let endpoint = service.endpoint(&location, &environment)?;
        service.check_credentials(&location, &environment)?;
        let build = |client| {
            service
                .build(bucket, &environment, client, retry(options.retry_timeout))
                .map_err(|error| ObjectsError::Configuration {
                    location: location.clone(),
                    why: innermost(&error),
                })
        };
        let ordinary = build(ordinary_client(options.retry_timeout))?;
        let uploads = build(upload_client(options.retry_timeout))?;
        let host = ::url::Url::parse(&endpoint)
            .ok()
            .and_then(|url| {
                url.host_str().map(|host| match url.port() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                })
            })
            .unwrap_or(endpoint);
        let place = Place {
            location,
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            host,
        };
        Bucket::new(ordinary, uploads, place)
    }

    /// What is set in the environment, expected to work for this place, and not read.
    pub fn warnings(&self, environment: &Environment, options: &OpenOptions) -> Vec<Warning> {
        let Self::Bucket { service, .. } = self else {
            return Vec::new();
        };
        let environment = self.effective(environment, options);
        service
            .not_read()
            .iter()
            .filter(|warning| environment.get(warning.variable).is_some())
            .copied()
            .collect()
    }

    fn effective(&self, environment: &Environment, options: &OpenOptions) -> Environment {
        match self {
            Self::Bucket { service, .. } if options.snapshot_path => {
                environment.for_snapshot_path(service.credentials())
            }
            _ => environment.clone(),
        }
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, prefix) = match self {
            Self::Local(path) => return path.display().fmt(formatter),
            Self::Bucket {
                service,
                bucket,
                prefix,
            } => (service.scheme(), bucket, prefix),
            Self::Memory { name, prefix } => ("memory", name, prefix),
        };
        write!(formatter, "{scheme}://{host}")?;
        if !prefix.is_empty() {
            write!(formatter, "/{prefix}")?;
        }
        Ok(())
    }
}

/// The scheme and what follows its colon, or `None` for a plain path.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut letters = scheme.chars();
    let valid = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    valid.then_some((scheme, rest))
}

/// The text with `user:password@` taken out, for messages.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_len = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_len].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

fn file(text: &str, host: &str) -> Result<StorageUrl, UrlError> {
    if !matches!(host.to_ascii_lowercase().as_str(), "" | "localhost") {
        return Err(UrlError::ForeignHost {
            text: text.to_owned(),
            host: host.to_owned(),
        });
    }
    let malformed = |why| UrlError::Malformed {
        text: text.to_owned(),
        why,
    };
    let url = ::url::Url::parse(text).map_err(|_| malformed("it is not a URL"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(malformed(
            "it has a query or a fragment; write `%3F` for ? and `%23` for #",
        ));
    }
    let path = url
        .to_file_path()
        .map_err(|()| malformed("it names no path"))?;
    local(text, &path)
}

/// A local place, without `.` and `..`. As in a shell's `cd`, `..` undoes the name before it.
fn local(text: &str, path: &Path) -> Result<StorageUrl, UrlError> {
    let malformed = |why| UrlError::Malformed {
        text: text.to_owned(),
        why,
    };
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            component => plain.push(component),
        }
    }
    if !plain.is_absolute() {
        return Err(malformed(
            "it is a relative path, and the current directory is not known",
        ));
    }
    match plain.to_str() {
        None => Err(malformed("the path is not UTF-8")),
        Some(plain) if plain.chars().any(char::is_control) => {
            Err(malformed("the path has a control character"))
        }
        Some(_) => Ok(StorageUrl::Local(plain)),
    }
}

/// The store of a name in this process.
fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static STORES: Mutex<BTreeMap<String, Arc<InMemory>>> = Mutex::new(BTreeMap::new());
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.entry(name.to_owned()).or_default().clone()
}

/// The text of the first cause, which says most.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
