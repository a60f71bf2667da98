//! The clouds whose buckets are storages: what each reads from the environment, and how a client
//! for it is built.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::{Environment, ObjectsError, Warning, without_credentials};

/// The clouds and what speaks like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    S3,
    Gcs,
    Azure,
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

/// Where object_store looks for Azurite.
const AZURE_EMULATOR: &str = "http://127.0.0.1:10000";
/// Where a machine of a cloud asks for its own credentials; the same address in all three.
const METADATA_SERVICE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);
/// It is on the machine or next to it, or nowhere.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

impl Service {
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    pub(super) fn credentials(self) -> &'static [&'static str] {
        match self {
            Self::S3 => S3_CREDENTIALS,
            Self::Gcs => GCS_CREDENTIALS,
            Self::Azure => AZURE_CREDENTIALS,
        }
    }

    pub(super) fn not_read(self) -> &'static [Warning] {
        match self {
            Self::S3 => S3_NOT_READ,
            Self::Gcs => &[],
            Self::Azure => AZURE_NOT_READ,
        }
    }

    /// The URL that requests go to. Refuses one without encryption unless that is allowed.
    pub(super) fn endpoint(
        self,
        location: &str,
        environment: &Environment,
    ) -> Result<String, ObjectsError> {
        if self == Self::Azure && environment.is_true("AZURE_STORAGE_USE_EMULATOR") {
            // There it is, whatever else is set. An answer from there is one of the storage.
            let place = environment.get("AZURITE_BLOB_STORAGE_URL");
            return Ok(place.unwrap_or(AZURE_EMULATOR).to_owned());
        }
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
    pub(super) fn check_credentials(
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

    pub(super) fn build(
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
pub(super) fn retry(timeout: Duration) -> RetryConfig {
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
pub(super) fn ordinary_client(retry_timeout: Duration) -> ClientOptions {
    let limit = retry_timeout.max(TIMEOUT_MIN);
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT.min(limit))
        .with_read_timeout(STALL_TIMEOUT.min(limit))
}

/// For large uploads: waiting for their answer is no stall, so only the total is limited.
pub(super) fn upload_client(retry_timeout: Duration) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(UPLOAD_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT.min(retry_timeout.max(TIMEOUT_MIN)))
}
