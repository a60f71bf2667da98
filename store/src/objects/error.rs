//! What can go wrong between the store and the place where its objects lie, by condition.

use std::io;

/// What the caller can do about an [`ObjectsError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectsErrorKind {
    /// The request, the credentials or the configuration must change.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The place does not answer now; trying later may help.
    Unavailable,
    /// The place cannot do what was asked.
    Unsupported,
    /// The machine or the place must be put right: permission, space, a broken disk.
    Io,
}

/// A failed operation on [`Objects`](super::Objects). `location` is the place as a person would
/// write it (never with credentials), `key` the object, empty where the place as a whole is meant.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("{} does not exist", object(location, key))]
    NotFound { location: String, key: String },

    #[error("the bucket `{bucket}` of {location} does not exist")]
    BucketMissing { location: String, bucket: String },

    #[error("there are no credentials for {location}: {why}")]
    NoCredentials { location: String, why: String },

    #[error("{location} does not accept the credentials: {why}")]
    BadCredentials { location: String, why: String },

    #[error("no permission for {}: {why}", object(location, key))]
    PermissionDenied {
        location: String,
        key: String,
        why: String,
    },

    #[error("{host} is unreachable: {why}")]
    Unreachable {
        location: String,
        key: String,
        host: String,
        why: String,
    },

    #[error("no space left for {}", object(location, key))]
    NoSpace { location: String, key: String },

    #[error("{} is on a read-only file system", object(location, key))]
    ReadOnly { location: String, key: String },

    #[error("the endpoint `{endpoint}` is not encrypted and {variable} is not set")]
    HttpNotAllowed {
        endpoint: String,
        variable: &'static str,
    },

    #[error("{location} does not support {what}")]
    Unsupported { location: String, what: String },

    #[error("the settings of {location} are not valid: {why}")]
    Configuration { location: String, why: String },

    #[error("`{key}` cannot name an object in {location}: {why}")]
    InvalidKey {
        location: String,
        key: String,
        why: String,
    },

    #[error(
        "{} has {size_bytes} bytes, but {len_bytes} bytes at offset {offset_bytes} were asked for",
        object(location, key)
    )]
    OutOfRange {
        location: String,
        key: String,
        offset_bytes: u64,
        len_bytes: u64,
        size_bytes: u64,
    },

    #[error("{}: {source}", object(location, key))]
    Io {
        location: String,
        key: String,
        source: io::Error,
    },

    /// An answer of the service that no other condition describes.
    #[error("{}: {why}", object(location, key))]
    Service {
        location: String,
        key: String,
        why: String,
    },
}

impl ObjectsError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ObjectsErrorKind {
        match self {
            Self::NotFound { .. } | Self::BucketMissing { .. } => ObjectsErrorKind::NotFound,
            Self::Unreachable { .. } => ObjectsErrorKind::Unavailable,
            Self::Unsupported { .. } => ObjectsErrorKind::Unsupported,
            Self::NoCredentials { .. }
            | Self::BadCredentials { .. }
            | Self::HttpNotAllowed { .. }
            | Self::Configuration { .. }
            | Self::InvalidKey { .. }
            | Self::OutOfRange { .. } => ObjectsErrorKind::Invalid,
            Self::PermissionDenied { .. }
            | Self::NoSpace { .. }
            | Self::ReadOnly { .. }
            | Self::Io { .. }
            | Self::Service { .. } => ObjectsErrorKind::Io,
        }
    }

    /// True when the object is not there. A missing bucket is another condition.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// True when the object is shorter than what was asked for.
    pub fn is_out_of_range(&self) -> bool {
        matches!(self, Self::OutOfRange { .. })
    }

    /// The condition behind an error of the local file system.
    pub fn from_io(location: &str, key: &str, source: io::Error) -> Self {
        let (location, key) = (location.to_owned(), key.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { location, key },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied {
                location,
                key,
                why: source.to_string(),
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { location, key }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { location, key },
            _ => Self::Io {
                location,
                key,
                source,
            },
        }
    }
}

/// The full name of an object, or of the place when `key` is empty.
fn object(location: &str, key: &str) -> String {
    if key.is_empty() {
        return location.to_owned();
    }
    format!("{}/{key}", location.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_the_file_system_are_told_apart() {
        let check = |code: i32, message: &str, kind: ObjectsErrorKind| {
            let source = io::Error::from_raw_os_error(code);
            let error = ObjectsError::from_io("/backup", "packs/1", source);
            assert_eq!(error.to_string(), message);
            assert_eq!(error.kind(), kind, "{message}");
        };
        check(
            nix::libc::ENOENT,
            "/backup/packs/1 does not exist",
            ObjectsErrorKind::NotFound,
        );
        for code in [nix::libc::ENOSPC, nix::libc::EDQUOT] {
            check(
                code,
                "no space left for /backup/packs/1",
                ObjectsErrorKind::Io,
            );
        }
        check(
            nix::libc::EROFS,
            "/backup/packs/1 is on a read-only file system",
            ObjectsErrorKind::Io,
        );
        check(
            nix::libc::EACCES,
            "no permission for /backup/packs/1: Permission denied (os error 13)",
            ObjectsErrorKind::Io,
        );
        check(
            nix::libc::EIO,
            "/backup/packs/1: Input/output error (os error 5)",
            ObjectsErrorKind::Io,
        );
    }

    #[test]
    fn a_place_without_a_key_is_named_as_it_is() {
        let error = ObjectsError::from_io("/backup", "", io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "/backup does not exist");
    }
}
