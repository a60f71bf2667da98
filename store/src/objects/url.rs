//! The one grammar for places: `/path`, `file:///path`, `s3://bucket/prefix`, `gs://`, `az://`
//! and `memory://name`; and how such a place is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

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

/// The clouds and what speaks like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    S3,
    Gcs,
    Azure,
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

/// The variables of S3 that only make sense together.
const S3_CREDENTIALS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SKIP_SIGNATURE",
];

const GCS_CREDENTIALS: &[&str] = &[
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
];

const AZURE_CREDENTIALS: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_MSI_ENDPOINT",
    "AZURE_USE_AZURE_CLI",
    "AZURE_SKIP_SIGNATURE",
];

const S3_NOT_READ: &[Warning] = &[
    Warning {
        variable: "AWS_PROFILE",
        instead: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    },
    Warning {
        variable: "AWS_DEFAULT_PROFILE",
        instead: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    },
    Warning {
        variable: "AWS_CONFIG_FILE",
        instead: "AWS_REGION and AWS_ENDPOINT_URL",
    },
    Warning {
        variable: "AWS_SHARED_CREDENTIALS_FILE",
        instead: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    },
    Warning {
        variable: "AWS_CA_BUNDLE",
        instead: "SSL_CERT_FILE",
    },
];

const AZURE_NOT_READ: &[Warning] = &[Warning {
    variable: "AZURE_STORAGE_CONNECTION_STRING",
    instead: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}];

/// Where a machine of a cloud asks for its own credentials; the same address in all three.
const METADATA_SERVICE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
/// It is on the machine or next to it, or nowhere.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

impl Service {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn credentials(self) -> &'static [&'static str] {
        match self {
            Self::S3 => S3_CREDENTIALS,
            Self::Gcs => GCS_CREDENTIALS,
            Self::Azure => AZURE_CREDENTIALS,
        }
    }

    fn not_read(self) -> &'static [Warning] {
        match self {
            Self::S3 => S3_NOT_READ,
            Self::Gcs => &[],
            Self::Azure => AZURE_NOT_READ,
        }
    }

    /// The URL that requests go to. Refuses one without encryption unless that is allowed.
    fn endpoint(self, location: &str, environment: &Environment) -> Result<String, ObjectsError> {
        let (names, allow): (&[&str], &'static str) = match self {
            Self::S3 => (
                &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
                "AWS_ALLOW_HTTP",
            ),
            Self::Gcs => (&["GOOGLE_BASE_URL"], "GOOGLE_ALLOW_HTTP"),
            Self::Azure => (
                &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"],
                "AZURE_ALLOW_HTTP",
            ),
        };
        let set = names
            .iter()
            .find_map(|name| Some((*name, environment.get(name)?)));
        let Some((name, endpoint)) = set else {
            return Ok(match self {
                Self::S3 => {
                    let region = environment
                        .get("AWS_REGION")
                        .or_else(|| environment.get("AWS_DEFAULT_REGION"))
                        .unwrap_or("us-east-1");
                    format!("https://s3.{region}.amazonaws.com")
                }
                Self::Gcs => "https://storage.googleapis.com".to_owned(),
                Self::Azure => {
                    let account = environment.get("AZURE_STORAGE_ACCOUNT_NAME").unwrap_or("*");
                    format!("https://{account}.blob.core.windows.net")
                }
            });
        };
        let lower = endpoint.to_ascii_lowercase();
        if lower.starts_with("http://") && !environment.is_true(allow) {
            return Err(ObjectsError::HttpNotAllowed {
                endpoint: without_credentials(endpoint),
                variable: allow,
            });
        }
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Err(ObjectsError::Configuration {
                location: location.to_owned(),
                why: format!(
                    "{name} is `{}`, which begins neither with https:// nor with http://",
                    without_credentials(endpoint)
                ),
            });
        }
        Ok(endpoint.to_owned())
    }

    /// Without any credentials the metadata service of the cloud is asked for some, and
    /// object_store would try that for minutes on a machine that is in no cloud.
    fn check_credentials(
        self,
        location: &str,
        environment: &Environment,
    ) -> Result<(), ObjectsError> {
        let set = |names: &[&str]| names.iter().any(|name| environment.get(name).is_some());
        let (given, names) = match self {
            Self::S3 => (
                set(&[
                    "AWS_ACCESS_KEY_ID",
                    "AWS_SECRET_ACCESS_KEY",
                    "AWS_WEB_IDENTITY_TOKEN_FILE",
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                ]) || environment.is_true("AWS_SKIP_SIGNATURE"),
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            Self::Gcs => (
                set(GCS_CREDENTIALS)
                    || environment.get("HOME").is_some_and(|home| {
                        // object_store finds what `gcloud auth application-default login` wrote.
                        Path::new(home)
                            .join(".config/gcloud/application_default_credentials.json")
                            .exists()
                    }),
                "GOOGLE_APPLICATION_CREDENTIALS and GOOGLE_SERVICE_ACCOUNT",
            ),
            Self::Azure => (
                set(&AZURE_CREDENTIALS[1..]) || environment.is_true("AZURE_STORAGE_USE_EMULATOR"),
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            ),
        };
        if given || self.metadata_service_answers(environment) {
            return Ok(());
        }
        Err(ObjectsError::NoCredentials {
            location: location.to_owned(),
            why: format!("{names} are not set"),
        })
    }

    /// Whether someone listens where a machine of the cloud asks for its own credentials.
    fn metadata_service_answers(self, environment: &Environment) -> bool {
        let own = match self {
            Self::S3 => environment.get("AWS_METADATA_ENDPOINT"),
            Self::Gcs | Self::Azure => None,
        };
        let addresses = match own {
            None => vec![SocketAddr::from(METADATA_SERVICE)],
            Some(endpoint) => ::url::Url::parse(endpoint)
                .ok()
                .and_then(|url| url.socket_addrs(|| None).ok())
                .unwrap_or_default(),
        };
        addresses
            .iter()
            .any(|address| TcpStream::connect_timeout(address, METADATA_TIMEOUT).is_ok())
    }

    fn build(
        self,
        bucket: &str,
        environment: &Environment,
        client: ClientOptions,
        retry: RetryConfig,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        // As the builders' own `from_env` do: what is no setting of theirs is not theirs.
        match self {
            Self::S3 => {
                let mut builder = AmazonS3Builder::new()
                    .with_client_options(client)
                    .with_retry(retry)
                    // Objects are deleted one by one, which every S3 server can do.
                    .with_disable_bulk_delete(true);
                for (name, value) in environment.with_prefix("AWS_") {
                    if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
            }
            Self::Gcs => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_client_options(client)
                    .with_retry(retry);
                for (name, value) in environment.with_prefix("GOOGLE_") {
                    if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
            }
            Self::Azure => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_client_options(client)
                    .with_retry(retry);
                for (name, value) in environment.with_prefix("AZURE_") {
                    if let Ok(key) = name.to_ascii_lowercase().parse::<AzureConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Ok(Arc::new(builder.with_container_name(bucket).build()?))
            }
        }
    }
}

/// Exponential backoff bounded by time alone.
fn retry(timeout: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(15).min(timeout / 4),
            base: 2.0,
        },
        max_retries: usize::MAX,
        retry_timeout: timeout,
    }
}

/// How long a connection may take to be made, and to answer or go on.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one upload of up to 128 MiB may take: 150 KiB/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(900);
/// No timeout is shorter than this, or a slow but healthy place would seem unreachable.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// For downloads of any size and small requests: no total limit, but one for each stall.
fn ordinary_client(retry_timeout: Duration) -> ClientOptions {
    let limit = retry_timeout.max(TIMEOUT_MIN);
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT.min(limit))
        .with_read_timeout(STALL_TIMEOUT.min(limit))
}

/// For large uploads: waiting for their answer is no stall, so only the total is limited.
fn upload_client(retry_timeout: Duration) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(UPLOAD_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT.min(retry_timeout.max(TIMEOUT_MIN)))
}

/// The text of the first cause, which says most.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StorageUrl, UrlError> {
        StorageUrl::parse(text, Path::new("/home/ann"))
    }

    #[test]
    fn every_shape_has_one_canonical_text() {
        let check = |text: &str, canonical: &str| {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), canonical, "{text}");
            assert_eq!(parse(canonical).unwrap(), url, "{canonical}");
        };
        check("/backup", "/backup");
        check("/backup//x/./y/", "/backup/x/y");
        check("./backup", "/home/ann/backup");
        check("backup", "/home/ann/backup");
        check("../bob", "/home/bob");
        check("C:backup", "/home/ann/C:backup");
        check("a b#c%41", "/home/ann/a b#c%41");
        check("file:///backup/a%20b", "/backup/a b");
        check("file://localhost/backup", "/backup");
        check("FILE:///backup", "/backup");
        check("s3://acme-db", "s3://acme-db");
        check("s3://acme-db/", "s3://acme-db");
        check("S3://acme-db/orders/", "s3://acme-db/orders");
        check("gs://acme/a/b", "gs://acme/a/b");
        check("az://container/prefix", "az://container/prefix");
        check("memory://one", "memory://one");
        check("memory://one/two", "memory://one/two");
    }

    #[test]
    fn what_names_no_place_is_refused_by_name() {
        let check = |text: &str, message: &str| {
            assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
        };
        check("", "the storage location is empty");
        check(
            "ftp://host/path",
            "`ftp://host/path` has the unknown scheme `ftp`",
        );
        check(
            "https://ann:secret@host/path",
            "`https://host/path` holds credentials",
        );
        check(
            "s3://key:secret@bucket/x",
            "`s3://bucket/x` holds credentials",
        );
        check("s3://", "`s3://` names no bucket");
        check("s3:///orders", "`s3:///orders` names no bucket");
        check(
            "s3:bucket/x",
            "`s3:bucket/x` is not a storage location: two slashes must follow the scheme",
        );
        check(
            "s3://bucket/a//b",
            "`s3://bucket/a//b` is not a storage location: \
             the prefix has an empty name, `.` or `..`",
        );
        check(
            "s3://bucket:99/x",
            "`s3://bucket:99/x` is not a storage location: \
             the bucket has a character that no bucket can have",
        );
        check(
            "s3://bucket/x?versionId=1",
            "`s3://bucket/x?versionId=1` is not a storage location: it has a query or a fragment",
        );
        check(
            "file://server/share",
            "`file://server/share` names the host `server`, \
             but only files of this machine can be reached",
        );
        check(
            "file:///a#b",
            "`file:///a#b` is not a storage location: \
             it has a query or a fragment; write `%3F` for ? and `%23` for #",
        );
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn open_error(url: &str, variables: &[(&str, &str)]) -> ObjectsError {
        let url = parse(url).unwrap();
        url.open(&environment(variables), &OpenOptions::default())
            .map(drop)
            .unwrap_err()
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];

    #[test]
    fn an_http_endpoint_must_be_allowed() {
        let endpoint = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
        let error = open_error("s3://bucket", &[KEYS[0], KEYS[1], endpoint]);
        assert!(
            matches!(error, ObjectsError::HttpNotAllowed { .. }),
            "{error}"
        );
        let refused = open_error(
            "s3://bucket",
            &[KEYS[0], KEYS[1], endpoint, ("AWS_ALLOW_HTTP", "false")],
        );
        assert!(
            matches!(refused, ObjectsError::HttpNotAllowed { .. }),
            "{refused}"
        );
        let url = parse("s3://bucket").unwrap();
        let allowed = environment(&[KEYS[0], KEYS[1], endpoint, ("AWS_ALLOW_HTTP", "true")]);
        assert!(url.open(&allowed, &OpenOptions::default()).is_ok());
    }

    #[test]
    fn an_endpoint_without_scheme_is_named() {
        let error = open_error(
            "s3://bucket",
            &[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "localhost:9000")],
        );
        assert!(
            matches!(error, ObjectsError::Configuration { .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("AWS_ENDPOINT_URL is `localhost:9000`"),
            "{error}"
        );
    }

    #[test]
    fn half_a_key_pair_is_named() {
        let error = open_error("s3://bucket", &[KEYS[0]]);
        assert!(
            error.to_string().to_lowercase().contains("secretaccesskey"),
            "{error}"
        );
    }

    #[test]
    fn gcs_and_azure_open() {
        let azure = parse("az://container/prefix").unwrap();
        let account = [
            ("AZURE_STORAGE_ACCOUNT_NAME", "acme"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
        ];
        let opened = azure
            .open(&environment(&account), &OpenOptions::default())
            .unwrap();
        assert_eq!(opened.location(), "az://container/prefix");

        let gcs = parse("gs://bucket").unwrap();
        let token = [("GOOGLE_BEARER_TOKEN", "token")];
        let opened = gcs
            .open(&environment(&token), &OpenOptions::default())
            .unwrap();
        assert_eq!(opened.location(), "gs://bucket");
    }

    #[test]
    fn a_profile_is_warned_about_for_s3_only() {
        let profile = environment(&[("AWS_PROFILE", "prod")]);
        let options = OpenOptions::default();
        let warnings = parse("s3://bucket").unwrap().warnings(&profile, &options);
        assert_eq!(
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["AWS_PROFILE is set but not read; \
                 set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"]
        );
        assert!(
            parse("/backup")
                .unwrap()
                .warnings(&profile, &options)
                .is_empty()
        );
    }
}
