//! A real S3 server in this process: s3s with its file system backend, made fit for tests.
//!
//! What s3s-fs 0.14 lacks is added around it: its If-None-Match looks first and renames then,
//! so conditional uploads pass one at a time; it makes a missing bucket on upload and finds no
//! key in it on download, so requests to a missing bucket are refused as S3 refuses them. And
//! the server can be told to misbehave.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// The only account of every server.
pub const ACCESS_KEY: &str = "testkit";
/// Its secret.
pub const SECRET_KEY: &str = "testkit-secret";

/// How a server that can be reached misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// It does not.
    #[default]
    None,
    /// Every request is answered with 503 Slow Down and changes nothing.
    Unavailable,
    /// Every upload is done, and then the connection closes instead of an answer.
    LostAnswers,
    /// Uploads do not look whether there is an object already, whatever they are told.
    NoConditions,
    /// Uploads and deletions are answered with 403 Access Denied, as for who may only read.
    ReadOnly,
    /// Conditional uploads are answered with 501 Not Implemented.
    RefusesConditions,
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// `None` only while dropping.
    runtime: Option<Runtime>,
    /// Goes away after the runtime.
    _temporary: Option<TempDir>,
}

struct Shared {
    directory: PathBuf,
    service: S3Service,
    /// Held by a conditional upload from its look to its rename.
    conditional: tokio::sync::Mutex<()>,
    fault: Mutex<Fault>,
    n_requests: Mutex<BTreeMap<String, u64>>,
}

impl S3Server {
    /// A server on a free port of 127.0.0.1 whose buckets lie in a temporary directory.
    pub fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let mut server = Self::start_on(temporary.path(), 0).expect("a free port on 127.0.0.1");
        server._temporary = Some(temporary);
        server
    }

    /// A server on `port` of 127.0.0.1, or on a free one for 0, whose buckets lie in
    /// `directory`, which must exist.
    pub fn start_on(directory: &Path, port: u16) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()?;
        let backend = FileSystem::new(directory)
            .map_err(|error| io::Error::other(format!("{}: {error:?}", directory.display())))?;
        let mut builder = S3ServiceBuilder::new(backend);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port)))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            service: builder.build(),
            conditional: tokio::sync::Mutex::new(()),
            fault: Mutex::new(Fault::None),
            n_requests: Mutex::new(BTreeMap::new()),
        });
        let accepting = runtime.spawn(accept(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            accepting: Mutex::new(Some(accepting)),
            runtime: Some(runtime),
            _temporary: None,
        })
    }

    /// The URL of the server, without a slash at its end.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a bucket, or leaves it as it is.
    pub fn create_bucket(&self, bucket: &str) {
        fs::create_dir_all(self.shared.directory.join(bucket)).expect("a directory for the bucket");
    }

    /// Creates the bucket where missing; the environment that reaches it as `s3://bucket`.
    pub fn env(&self, bucket: &str) -> Vec<(String, String)> {
        self.create_bucket(bucket);
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.endpoint()),
            ("AWS_ALLOW_HTTP", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The file of an object, to look at or to damage.
    pub fn object_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.shared.directory.join(bucket).join(key)
    }

    /// Refuses connections and breaks those there are, until [`resume`](Self::resume).
    pub fn pause(&self) {
        let accepting = self.accepting().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // The listener and the connections are closed when the task has ended.
            let _ = self.runtime().block_on(accepting);
        }
    }

    /// Accepts connections again, on the same port.
    pub fn resume(&self) {
        let mut accepting = self.accepting();
        if accepting.is_none() {
            let listener = self
                .runtime()
                .block_on(TcpListener::bind(self.address))
                .expect("the port is still free");
            *accepting = Some(self.runtime().spawn(accept(listener, self.shared.clone())));
        }
    }

    /// Makes the server misbehave from now on.
    pub fn set_fault(&self, fault: Fault) {
        *self.shared.fault() = fault;
    }

    /// How many requests with this method (`PUT`, `GET`, …) have arrived.
    pub fn n_requests(&self, method: &str) -> u64 {
        self.shared.n_requests().get(method).copied().unwrap_or(0)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("taken only when the server is dropped")
    }

    fn accepting(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.pause();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Serves connections until it is aborted, which breaks them.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say: some connection will end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Packets of small answers must not wait for each other.
        let _ = stream.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.answer(request).await }
            });
            // A client that breaks off is no concern of the server.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<HttpResponse> {
        let method = request.method().clone();
        *self.n_requests().entry(method.to_string()).or_default() += 1;
        let fault = *self.fault();
        if fault == Fault::Unavailable {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "Reduce your request rate.",
            );
        }
        if fault == Fault::ReadOnly && !matches!(method, Method::GET | Method::HEAD) {
            return refusal(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
        }
        if fault == Fault::RefusesConditions && request.headers().contains_key("if-none-match") {
            let message = "A header you provided implies functionality that is not implemented";
            return refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message);
        }
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let creates_bucket = method == Method::PUT && key.is_empty();
        if !bucket.is_empty() && !creates_bucket && !self.directory.join(bucket).is_dir() {
            return refusal(
                StatusCode::NOT_FOUND,
                "NoSuchBucket",
                "The specified bucket does not exist",
            );
        }
        let conditional = request.headers().contains_key("if-none-match")
            && matches!(method, Method::PUT | Method::POST);
        let turn = if conditional {
            Some(self.conditional.lock().await)
        } else {
            None
        };
        if fault == Fault::NoConditions && conditional {
            // The header is signed, so it stays; what it would find does not.
            let _ = fs::remove_file(self.directory.join(bucket).join(key));
        }
        let answer = self.service.call(request.map(Body::from)).await;
        drop(turn);
        if fault == Fault::LostAnswers && matches!(method, Method::PUT | Method::POST) {
            return Err(io::Error::other("the answer is lost"));
        }
        answer.map_err(|error| io::Error::other(format!("{error:?}")))
    }

    fn fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn n_requests(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.n_requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> io::Result<HttpResponse> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(Body::from(body))
        .map_err(io::Error::other)
}
