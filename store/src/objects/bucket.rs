//! Objects in a bucket, or in any other place that object_store reaches: the only async code.
//!
//! Every bucket owns a small tokio runtime and every call blocks its thread, so that the rest
//! of the store stays plain threads. Requests are tried again with growing pauses by
//! object_store itself, for as long as the retry timeout of the open options says.

mod answer;
mod memory;
mod parts;

use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

use answer::Answer;
use memory::Memory;
use parts::PartWriter;

use super::directory::{copy_to_file, target_error};
use super::url::innermost;
use super::{Created, Listed, ObjectWriter, Objects, ObjectsError, check_key, disk, is_temporary};

/// Threads that drive the requests of one bucket.
const WORKER_THREADS: usize = 2;
/// Threads for the blocking calls of a local place.
const BLOCKING_THREADS_MAX: usize = 8;
/// A file up to this size is uploaded with one request; and all files being uploaded to one
/// bucket take no more memory than this, since object_store wants the bytes of a request as a
/// whole.
const UPLOAD_MEMORY_BYTES: u64 = 128 << 20;
/// Bytes go to object_store in blocks of this size, so that no huge buffer must grow or move.
const BLOCK_BYTES: usize = 1 << 20;
/// Up to this size a request counts as small and may not stall for long.
const SMALL_UPLOAD_BYTES: usize = 1 << 20;

/// What a bucket is called, for requests and for messages.
#[derive(Debug, Clone)]
pub struct Place {
    /// As a person would write it, without credentials.
    pub location: String,
    /// The bucket or container.
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Who is asked, with port.
    pub host: String,
}

/// Objects below a prefix of an object_store.
#[derive(Debug)]
pub struct Bucket {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    prefix: Path,
    ordinary: Arc<dyn ObjectStore>,
    uploads: Arc<dyn ObjectStore>,
    /// The directory, where objects are files of this machine.
    directory: Option<PathBuf>,
    /// Set by the first answer that only an existing bucket gives.
    exists: AtomicBool,
    upload_memory: Memory,
    runtime: OwnRuntime,
}

impl Bucket {
    /// Objects below `place.prefix` of a store. Large uploads go to `uploads`, which may be the
    /// same store or one for the same bucket with longer timeouts.
    pub fn new(
        ordinary: Arc<dyn ObjectStore>,
        uploads: Arc<dyn ObjectStore>,
        place: Place,
    ) -> Result<Self, ObjectsError> {
        Self::with_directory(ordinary, uploads, place, None)
    }

    /// Objects as files of a directory, which is made (0700, files 0600) by the first write.
    pub fn local(directory: &FilePath) -> Result<Self, ObjectsError> {
        let location = directory.display().to_string();
        let prefix = location.trim_matches('/').to_owned();
        let place = Place {
            location,
            bucket: String::new(),
            prefix,
            host: "localhost".to_owned(),
        };
        // Rooted at `/`, since object_store opens only directories that exist.
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new().with_fsync(true));
        Self::with_directory(store.clone(), store, place, Some(directory.to_owned()))
    }

    fn with_directory(
        ordinary: Arc<dyn ObjectStore>,
        uploads: Arc<dyn ObjectStore>,
        place: Place,
        directory: Option<PathBuf>,
    ) -> Result<Self, ObjectsError> {
        let prefix = Path::parse(&place.prefix).map_err(|error| ObjectsError::Configuration {
            location: place.location.clone(),
            why: error.to_string(),
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(|error| ObjectsError::from_io(&place.location, "", error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                place,
                prefix,
                ordinary,
                uploads,
                directory,
                exists: AtomicBool::new(false),
                upload_memory: Memory::new(UPLOAD_MEMORY_BYTES),
                runtime: OwnRuntime(Some(runtime)),
            }),
        })
    }
}

impl Objects for Bucket {
    fn location(&self) -> String {
        self.inner.place.location.clone()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        Some(self.inner.directory.as_ref()?.join(key))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        let path = self.inner.path(key)?;
        let get = async { self.inner.ordinary.get(&path).await?.bytes().await };
        Ok(self.inner.run(key, get)?.into())
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        let path = self.inner.path(key)?;
        let len_bytes = len as u64;
        let out_of_range = |size_bytes| ObjectsError::OutOfRange {
            location: self.location(),
            key: key.to_owned(),
            offset_bytes: offset,
            len_bytes,
            size_bytes,
        };
        let in_range = |size: u64| offset.checked_add(len_bytes).is_some_and(|end| end <= size);
        let Some(end) = offset.checked_add(len_bytes) else {
            return Err(out_of_range(self.existing_size(key)?));
        };
        if len == 0 {
            // object_store refuses an empty range.
            let size = self.existing_size(key)?;
            return if in_range(size) {
                Ok(Vec::new())
            } else {
                Err(out_of_range(size))
            };
        }
        match self
            .inner
            .run(key, self.inner.ordinary.get_range(&path, offset..end))
        {
            Ok(bytes) if bytes.len() == len => Ok(bytes.into()),
            // A shorter answer, or one of the many words for a range beyond the end.
            Ok(_) => Err(out_of_range(self.existing_size(key)?)),
            Err(error @ (ObjectsError::Service { .. } | ObjectsError::Io { .. })) => {
                match self.existing_size(key)? {
                    size if in_range(size) => Err(error),
                    size => Err(out_of_range(size)),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        let path = self.inner.path(key)?;
        match self.inner.run(key, self.inner.ordinary.head(&path)) {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        let path = self.inner.path(key)?;
        if let Some(target) = self.local_path(key) {
            // Not by object_store, which leaves a name that is taken unsynced: its writer may have
            // failed at that, and whoever is told that it is there relies on it.
            return match disk::write_new(&target, bytes) {
                Ok(true) => Ok(Created::New),
                Ok(false) => Ok(Created::Exists),
                Err(error) => Err(ObjectsError::from_io(&self.location(), key, error)),
            };
        }
        let store = self.inner.store_for_upload(bytes.len());
        let payload = PutPayload::from(Bytes::copy_from_slice(bytes));
        let put = store.put_opts(&path, payload, PutOptions::from(PutMode::Create));
        match self.inner.runtime.get().block_on(put) {
            Ok(_) => {
                self.inner.exists.store(true, Ordering::Relaxed);
                Ok(Created::New)
            }
            // Also 409 of S3, where two such requests met: one of them, or a third, will win.
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Exists),
            Err(error) => Err(self.inner.explain(key, error)),
        }
    }

    fn put_file(&self, key: &str, file: &FilePath) -> Result<(), ObjectsError> {
        let path = self.inner.path(key)?;
        if let Some(target) = self.local_path(key) {
            return disk::link_or_copy(file, &target)
                .map_err(|error| ObjectsError::from_io(&self.inner.place.location, key, error));
        }
        let source_error = |error| target_error(file, error);
        let mut source = File::open(file).map_err(source_error)?;
        let size = source.metadata().map_err(source_error)?.len();
        if size > UPLOAD_MEMORY_BYTES {
            let mut writer = self.writer(key)?;
            io::copy(&mut source, &mut writer).map_err(|error| within(file, error))?;
            return writer.finish();
        }
        let _taken = self.inner.upload_memory.take(size);
        let payload = read_blocks(&mut source, size).map_err(source_error)?;
        let store = self.inner.store_for_upload(payload.content_length());
        self.inner.run(key, store.put(&path, payload)).map(drop)
    }

    fn get_to_file(&self, key: &str, file: &FilePath) -> Result<u64, ObjectsError> {
        let mut reader = self.reader(key)?;
        copy_to_file(&mut reader, file).map_err(|error| within(file, error))
    }

    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        let path = self.inner.path(key)?;
        let stream = self.inner.run(key, async {
            Ok(self.inner.ordinary.get(&path).await?.into_stream())
        })?;
        Ok(Box::new(BodyReader {
            inner: self.inner.clone(),
            key: key.to_owned(),
            stream,
            block: Bytes::new(),
        }))
    }

    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        let path = self.inner.path(key)?;
        self.inner.prepare(key)?;
        Ok(Box::new(PartWriter::new(self.inner.clone(), key, path)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        let folder = self.inner.folder(prefix)?;
        self.inner
            .listed(prefix, self.inner.ordinary.list(folder.as_ref()), "")
    }

    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        if after.is_empty() {
            return self.list(prefix);
        }
        let folder = self.inner.folder(prefix)?;
        let offset = self.inner.path(after)?;
        let stream = self
            .inner
            .ordinary
            .list_with_offset(folder.as_ref(), &offset);
        self.inner.listed(prefix, stream, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        let path = self.inner.path(key)?;
        match self.inner.run(key, self.inner.ordinary.delete(&path)) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}

impl Bucket {
    fn existing_size(&self, key: &str) -> Result<u64, ObjectsError> {
        self.size(key)?.ok_or_else(|| ObjectsError::NotFound {
            location: self.location(),
            key: key.to_owned(),
        })
    }
}

impl Inner {
    /// The full name of an object.
    fn path(&self, key: &str) -> Result<Path, ObjectsError> {
        check_key(&self.place.location, key)?;
        let full = match self.place.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Path::parse(full).map_err(|error| self.invalid_key(key, error.to_string()))
    }

    /// The full name of a folder; `None` where that is the whole bucket.
    fn folder(&self, prefix: &str) -> Result<Option<Path>, ObjectsError> {
        match prefix.trim_end_matches('/') {
            "" if self.place.prefix.is_empty() => Ok(None),
            "" => Ok(Some(self.prefix.clone())),
            folder => self.path(folder).map(Some),
        }
    }

    /// Runs a request to its end and explains its error.
    fn run<T>(
        &self,
        key: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectsError> {
        match self.runtime.get().block_on(request) {
            Ok(answer) => {
                self.exists.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.explain(key, error)),
        }
    }

    /// Gathers a listing, without the prefix of this place and without unfinished files.
    fn listed(
        &self,
        prefix: &str,
        stream: BoxStream<'static, object_store::Result<ObjectMeta>>,
        after: &str,
    ) -> Result<Vec<Listed>, ObjectsError> {
        let found: Vec<ObjectMeta> = self.run(prefix, stream.try_collect())?;
        let mut listed = Vec::with_capacity(found.len());
        for object in found {
            let full = object.location.as_ref();
            let key = match self.place.prefix.as_str() {
                "" => Some(full),
                prefix => full
                    .strip_prefix(prefix)
                    .and_then(|rest| rest.strip_prefix('/')),
            };
            let Some(key) = key else {
                return Err(ObjectsError::Service {
                    location: self.place.location.clone(),
                    key: prefix.to_owned(),
                    why: format!("the listing holds `{full}`, which was not asked for"),
                });
            };
            if key > after && !is_temporary(key) {
                listed.push(Listed {
                    key: key.to_owned(),
                    size: object.size,
                });
            }
        }
        listed.sort_unstable();
        Ok(listed)
    }

    /// The store whose timeouts suit an upload of this size.
    fn store_for_upload(&self, size_bytes: usize) -> &dyn ObjectStore {
        if size_bytes > SMALL_UPLOAD_BYTES {
            &*self.uploads
        } else {
            &*self.ordinary
        }
    }

    /// Makes the directory of a local object private before object_store makes it public.
    fn prepare(&self, key: &str) -> Result<(), ObjectsError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        disk::create_directories(disk::parent(&directory.join(key)))
            .map_err(|error| ObjectsError::from_io(&self.place.location, key, error))
    }

    /// Takes a new local object, which object_store made with the modes of the process, from
    /// everyone else. Its directory has been private all the time.
    fn make_private(&self, key: &str) -> Result<(), ObjectsError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        fs::set_permissions(directory.join(key), fs::Permissions::from_mode(0o600))
            .map_err(|error| ObjectsError::from_io(&self.place.location, key, error))
    }

    fn invalid_key(&self, key: &str, why: String) -> ObjectsError {
        ObjectsError::InvalidKey {
            location: self.place.location.clone(),
            key: key.to_owned(),
            why,
        }
    }

    /// The condition behind an error. HEAD requests are answered without a reason, so where
    /// that could be the bucket or the credentials, a listing is asked for one.
    fn explain(&self, key: &str, error: object_store::Error) -> ObjectsError {
        let answer = Answer::find(&error);
        let silent = answer.as_ref().is_some_and(|answer| answer.code.is_empty());
        let condition = self.condition(key, &error, answer);
        let worth_asking = match condition {
            ObjectsError::NotFound { .. } => !self.exists.load(Ordering::Relaxed),
            ObjectsError::PermissionDenied { .. } => true,
            _ => false,
        };
        if self.directory.is_some() || !silent || !worth_asking {
            return condition;
        }
        let prefix = (!self.place.prefix.is_empty()).then_some(&self.prefix);
        let first = self
            .runtime
            .get()
            .block_on(self.ordinary.list(prefix).next());
        match first {
            Some(Err(error)) => match self.condition("", &error, Answer::find(&error)) {
                reason @ (ObjectsError::BucketMissing { .. }
                | ObjectsError::BadCredentials { .. }) => reason,
                _ => condition,
            },
            Some(Ok(_)) | None => {
                self.exists.store(true, Ordering::Relaxed);
                condition
            }
        }
    }

    fn condition(
        &self,
        key: &str,
        error: &object_store::Error,
        answer: Option<Answer>,
    ) -> ObjectsError {
        let location = self.place.location.clone();
        let key = key.to_owned();
        if self.directory.is_some() {
            if let Some(code) = find::<io::Error>(error).and_then(io::Error::raw_os_error) {
                return ObjectsError::from_io(&location, &key, io::Error::from_raw_os_error(code));
            }
        } else {
            let other = self.other_host(error);
            match (answer, other) {
                // Whoever gives out credentials gives none. Nothing is known of the object, so
                // a 404 of theirs must not pass for its absence.
                (Some(answer), Some(host)) if answer.status < 500 => {
                    let why = format!("{host} was asked for some and says: {answer}");
                    return ObjectsError::NoCredentials { location, why };
                }
                (Some(answer), other) => {
                    let host = other.unwrap_or_else(|| self.place.host.clone());
                    return self.answered(location, key, host, answer);
                }
                (None, other) => {
                    if let Some(transport) = find::<HttpError>(error) {
                        let host = other.unwrap_or_else(|| self.place.host.clone());
                        let why = match transport.kind() {
                            HttpErrorKind::Timeout => "no answer in time".to_owned(),
                            _ => innermost(transport),
                        };
                        return ObjectsError::Unreachable {
                            location,
                            key,
                            host,
                            why,
                        };
                    }
                }
            }
        }
        let why = innermost(error);
        match error {
            object_store::Error::NotFound { .. } => ObjectsError::NotFound { location, key },
            object_store::Error::NotImplemented { operation, .. } => ObjectsError::Unsupported {
                location,
                what: operation.clone(),
            },
            object_store::Error::NotSupported { .. } => ObjectsError::Unsupported {
                location,
                what: why,
            },
            object_store::Error::InvalidPath { .. } => self.invalid_key(&key, why),
            object_store::Error::PermissionDenied { .. } => {
                ObjectsError::PermissionDenied { location, key, why }
            }
            object_store::Error::Unauthenticated { .. } => {
                ObjectsError::BadCredentials { location, why }
            }
            object_store::Error::UnknownConfigurationKey { .. } => {
                ObjectsError::Configuration { location, why }
            }
            _ if why.contains("not supported") && key.contains('#') => {
                // A local name that ends in `#` and digits belongs to object_store itself.
                self.invalid_key(&key, why)
            }
            _ => ObjectsError::Service { location, key, why },
        }
    }

    /// The service answered, and the answer is no.
    fn answered(
        &self,
        location: String,
        key: String,
        host: String,
        answer: Answer,
    ) -> ObjectsError {
        let why = answer.to_string();
        match (answer.status, answer.code.as_str()) {
            (_, "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted") => {
                ObjectsError::BucketMissing {
                    location,
                    bucket: self.place.bucket.clone(),
                }
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidSecurity"
                | "NotSignedUp"
                | "RequestTimeTooSkewed"
                | "AuthenticationFailed"
                | "InvalidAuthenticationInfo",
            )
            | (401, _) => ObjectsError::BadCredentials { location, why },
            (
                _,
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "IllegalLocationConstraintException",
            )
            | (300..=399, _) => ObjectsError::Configuration {
                location,
                why: format!("the bucket is in another region: {why}"),
            },
            (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage") => {
                ObjectsError::NoSpace { location, key }
            }
            (404, _) => ObjectsError::NotFound { location, key },
            (403, _) => ObjectsError::PermissionDenied { location, key, why },
            (501, _) | (_, "NotImplemented") => ObjectsError::Unsupported {
                location,
                what: why,
            },
            (408 | 429 | 500..=599, _) => ObjectsError::Unreachable {
                location,
                key,
                host,
                why,
            },
            _ => ObjectsError::Service { location, key, why },
        }
    }

    /// The host behind an error where that is not the bucket's own: one that was asked for
    /// credentials. Read from the text that object_store gives to a failed request.
    fn other_host(&self, error: &object_store::Error) -> Option<String> {
        let text = error.to_string();
        let (_, rest) = text.split_once("Error performing ")?;
        let (_method, rest) = rest.split_once(' ')?;
        let asked = rest.split(' ').next()?;
        if asked == "REDACTED" {
            // S3 keeps only the requests to its token service secret, which hold the token.
            let token_service = self.place.location.starts_with("s3://");
            return token_service.then(|| "the token service".to_owned());
        }
        let url = ::url::Url::parse(asked).ok()?;
        let host = url.host_str()?;
        let with_port = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        // The bucket may be a part of its host's name.
        let own = with_port.ends_with(&self.place.host)
            || with_port.starts_with(&format!("{}.", self.place.bucket));
        (!own).then_some(with_port)
    }
}

/// The first error of a type among the causes of another.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Takes the error of an object out of an error of a stream; any other came from `file`.
fn within(file: &FilePath, error: io::Error) -> ObjectsError {
    match error.downcast::<ObjectsError>() {
        Ok(error) => error,
        Err(error) => target_error(file, error),
    }
}

/// Reads exactly `size` bytes in blocks.
fn read_blocks(source: &mut dyn Read, size: u64) -> io::Result<PutPayload> {
    let mut blocks = Vec::new();
    let mut left = size;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let mut block = vec![0; len];
        source.read_exact(&mut block)?;
        blocks.push(Bytes::from(block));
        left -= len as u64;
    }
    Ok(blocks.into_iter().collect())
}

/// An object on its way in.
struct BodyReader {
    inner: Arc<Inner>,
    key: String,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    block: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.inner.runtime.get().block_on(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(block)) => self.block = block,
                Some(Err(error)) => {
                    return Err(io::Error::other(self.inner.explain(&self.key, error)));
                }
            }
        }
        let len = buffer.len().min(self.block.len());
        buffer[..len].copy_from_slice(&self.block.split_to(len));
        Ok(len)
    }
}

/// A runtime that stops without waiting, so that a bucket may be dropped anywhere.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn get(&self) -> &Runtime {
        self.0
            .as_ref()
            .expect("the runtime is taken only when the bucket is dropped")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
