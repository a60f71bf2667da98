//! What goes wrong between us and a bucket has a name, and what passes is waited for.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a call takes is what is tested"
)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use zenith_store::World;
use zenith_store::objects::{
    Created, Exclusive, Objects, ObjectsError, ObjectsErrorKind, exclusive,
};
use zenith_testkit::s3::{Fault, S3Server};

use super::{bytes, open};

const PROBE: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(60);

/// The environment of a bucket with one variable changed.
fn env_with(server: &S3Server, name: &str, value: &str) -> Vec<(String, String)> {
    let mut variables = server.env("bucket");
    variables.retain(|(variable, _)| variable != name);
    variables.push((name.to_owned(), value.to_owned()));
    variables
}

/// The errors of all ways to reach an object.
fn all_errors(objects: &dyn Objects) -> Vec<(&'static str, ObjectsError)> {
    let scratch = tempfile::tempdir().unwrap();
    let (file, large) = (scratch.path().join("file"), scratch.path().join("large"));
    fs::write(&file, b"bytes").unwrap();
    fs::write(&large, vec![0; 2 << 20]).unwrap();
    let written = || {
        let mut writer = objects.writer("key")?;
        writer.write_all(b"bytes").unwrap();
        writer.finish()
    };
    vec![
        ("get", objects.get("key").map(drop).unwrap_err()),
        (
            "get_range",
            objects.get_range("key", 0, 1).map(drop).unwrap_err(),
        ),
        ("size", objects.size("key").map(drop).unwrap_err()),
        (
            "create",
            objects.create("key", b"bytes").map(drop).unwrap_err(),
        ),
        ("put_file", objects.put_file("key", &file).unwrap_err()),
        (
            "put_file, large",
            objects.put_file("key", &large).unwrap_err(),
        ),
        (
            "get_to_file",
            objects.get_to_file("key", &file).map(drop).unwrap_err(),
        ),
        ("reader", objects.reader("key").map(drop).unwrap_err()),
        ("writer", written().unwrap_err()),
        ("list", objects.list("").map(drop).unwrap_err()),
        (
            "list_after",
            objects.list_after("", "a").map(drop).unwrap_err(),
        ),
        ("delete", objects.delete("key").unwrap_err()),
    ]
}

/// The server closes before it has read a large body, whose sender may not get to see the answer.
fn was_hung_up(call: &str, error: &ObjectsError) -> bool {
    call == "put_file, large" && matches!(error, ObjectsError::Unreachable { .. })
}

#[test]
fn a_missing_bucket_is_named() {
    let server = S3Server::start();
    let objects = open("s3://absent/prefix", server.env("bucket"), PROBE).unwrap();
    for (call, error) in all_errors(&*objects) {
        if was_hung_up(call, &error) {
            continue;
        }
        assert_eq!(
            error.to_string(),
            "the bucket `absent` of s3://absent/prefix does not exist",
            "{call}: {error:?}"
        );
        assert_eq!(error.kind(), ObjectsErrorKind::NotFound);
        assert!(
            !error.is_not_found(),
            "a missing bucket must not pass for a missing object"
        );
    }
}

#[test]
fn bad_credentials_are_named() {
    let server = S3Server::start();
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "somebody"),
        ("AWS_SECRET_ACCESS_KEY", "a-wrong-secret"),
    ] {
        let objects = open("s3://bucket", env_with(&server, name, value), PROBE).unwrap();
        for (call, error) in all_errors(&*objects) {
            if was_hung_up(call, &error) {
                continue;
            }
            assert!(
                matches!(error, ObjectsError::BadCredentials { .. }),
                "{call}: {error:?}"
            );
            assert!(
                error
                    .to_string()
                    .starts_with("s3://bucket does not accept the credentials: ")
            );
            assert!(!error.to_string().contains(value), "{error}");
        }
    }
}

/// The environment of a bucket without keys, on a machine whose metadata service is `endpoint`.
fn env_without_keys(server: &S3Server, endpoint: &str) -> Vec<(String, String)> {
    let mut variables = env_with(server, "AWS_METADATA_ENDPOINT", endpoint);
    variables.retain(|(name, _)| {
        !matches!(name.as_str(), "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY")
    });
    variables
}

#[test]
fn no_credentials_are_named_at_once() {
    let server = S3Server::start();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let began = Instant::now();
    let variables = env_without_keys(&server, &format!("http://{free}"));
    let error = open("s3://bucket", variables, PATIENT)
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there are no credentials for s3://bucket: \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_metadata_service_without_credentials_is_no_missing_object() {
    let server = S3Server::start();
    // It answers 404 to everything, as that of a machine without a role does.
    let metadata = S3Server::start();
    let variables = env_without_keys(&server, &metadata.endpoint());
    let objects = open("s3://bucket", variables, PROBE).unwrap();
    for (call, error) in all_errors(&*objects) {
        assert!(
            matches!(error, ObjectsError::NoCredentials { .. }),
            "{call}: {error:?}"
        );
        let asked = metadata.endpoint().replace("http://", "");
        assert!(error.to_string().contains(&asked), "{error}");
    }
    metadata.pause();
    let error = objects.size("key").map(drop).unwrap_err();
    assert_eq!(error.kind(), ObjectsErrorKind::Unavailable, "{error:?}");
}

#[test]
fn an_unreachable_host_is_named_within_the_retry_timeout() {
    let server = S3Server::start();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for endpoint in [
        format!("http://{free}"),
        "http://no-such-host.invalid:9".to_owned(),
    ] {
        let objects = open(
            "s3://bucket",
            env_with(&server, "AWS_ENDPOINT_URL", &endpoint),
            PROBE,
        )
        .unwrap();
        for (call, error) in [
            ("size", objects.size("key").map(drop)),
            ("create", objects.create("key", b"").map(drop)),
            ("list", objects.list("").map(drop)),
        ] {
            let began = Instant::now();
            let error = error.unwrap_err();
            assert!(
                matches!(
                    &error,
                    ObjectsError::Unreachable { host, .. } if endpoint.ends_with(host.as_str())
                ),
                "{call}: {error:?}"
            );
            assert_eq!(error.kind(), ObjectsErrorKind::Unavailable);
            assert!(began.elapsed() < Duration::from_secs(10));
        }
    }
}

#[test]
fn a_silent_host_is_given_up() {
    let server = S3Server::start();
    // Connections are made, by the kernel, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let objects = open(
        "s3://bucket",
        env_with(&server, "AWS_ENDPOINT_URL", &endpoint),
        PROBE,
    )
    .unwrap();
    let began = Instant::now();
    let error = objects.size("key").map(drop).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(" is unreachable: no answer in time"),
        "{error}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_pause_of_the_server_is_waited_for() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PATIENT).unwrap();
    objects.create("before", b"1").unwrap();
    server.pause();
    std::thread::scope(|scope| {
        let created = scope.spawn(|| objects.create("during", b"2").unwrap());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!created.is_finished());
        server.resume();
        assert_eq!(created.join().unwrap(), Created::New);
    });
    assert_eq!(objects.get("before").unwrap(), b"1");
    assert_eq!(objects.get("during").unwrap(), b"2");
}

#[test]
fn a_busy_server_is_asked_again_and_then_unreachable() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PROBE).unwrap();
    server.set_fault(Fault::Unavailable);
    let error = objects.create("key", b"bytes").unwrap_err();
    assert!(
        matches!(error, ObjectsError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .ends_with("Reduce your request rate. (SlowDown)"),
        "{error}"
    );
    assert!(server.n_requests("PUT") > 1);
    server.set_fault(Fault::None);
    assert_eq!(objects.create("key", b"bytes").unwrap(), Created::New);
}

#[test]
fn a_lost_answer_is_settled_by_reading_back() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PROBE).unwrap();
    server.set_fault(Fault::LostAnswers);
    match objects.create("root", b"with a nonce") {
        Ok(Created::Exists) | Err(ObjectsError::Unreachable { .. }) => {}
        answer => panic!("{answer:?} claims more than is known"),
    }
    assert_eq!(objects.get("root").unwrap(), b"with a nonce");
    server.set_fault(Fault::None);
    assert_eq!(
        objects.create("root", b"another nonce").unwrap(),
        Created::Exists
    );
    assert_eq!(objects.get("root").unwrap(), b"with a nonce");
}

#[test]
fn a_writer_whose_server_goes_away_leaves_nothing() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PROBE).unwrap();
    let mut writer = objects.writer("stream").unwrap();
    writer.write_all(&bytes(1, 33 << 20)).unwrap();
    server.pause();
    assert!(matches!(
        writer.finish(),
        Err(ObjectsError::Unreachable { .. })
    ));
    server.resume();
    assert_eq!(objects.size("stream").unwrap(), None);
}

#[test]
fn packs_take_one_request_each() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PATIENT).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let pack = scratch.path().join("pack");
    fs::write(&pack, bytes(1, 9 << 20)).unwrap();
    objects.put_file("packs/one", &pack).unwrap();
    assert_eq!(
        (server.n_requests("PUT"), server.n_requests("POST")),
        (1, 0)
    );
}

/// A server without create-if-absent is told from one that has it, whichever way it lacks it.
#[test]
fn a_server_that_keeps_no_two_writers_apart_is_found() {
    let server = S3Server::start();
    let objects = open("s3://bucket", server.env("bucket"), PROBE).unwrap();
    let world = World::real();
    let left = || objects.list("").unwrap();
    exclusive::check(&*objects, &world).unwrap();
    for fault in [Fault::NoConditions, Fault::RefusesConditions] {
        server.set_fault(fault);
        let found = exclusive::check(&*objects, &world).unwrap_err();
        assert!(
            matches!(found, zenith_store::Error::NoConditionalWrites { .. }),
            "{fault:?}: {found}"
        );
        assert!(found.to_string().starts_with("s3://"), "{found}");
        assert!(left().is_empty(), "{fault:?}: {:?}", left());
    }
    // That it does not answer says nothing about it.
    server.set_fault(Fault::Unavailable);
    let silent = exclusive::check(&*objects, &world).unwrap_err();
    assert_eq!(
        silent.kind(),
        zenith_store::ErrorKind::Unavailable,
        "{silent}"
    );
}

/// Its processes take turns, so that a name is given once all the same.
#[test]
fn one_machine_keeps_its_own_writers_apart() {
    let server = S3Server::start();
    let dir = tempfile::tempdir().unwrap();
    for fault in [Fault::NoConditions, Fault::RefusesConditions] {
        server.set_fault(fault);
        let made: u32 = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|n: u8| {
                    let objects = Exclusive::new(
                        open("s3://bucket", server.env("bucket"), PROBE).unwrap(),
                        dir.path().join("lock"),
                    );
                    let key = format!("roots/{fault:?}");
                    scope.spawn(move || match objects.create(&key, &[n]).unwrap() {
                        Created::New => {
                            assert_eq!(objects.get(&key).unwrap(), [n]);
                            1
                        }
                        Created::Exists => 0,
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .sum()
        });
        assert_eq!(made, 1, "{fault:?}");
    }
}
