//! Every place where objects can lie keeps the same promises, and names what goes wrong.

mod conformance;
mod faults;
mod local;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zenith_store::objects::{Environment, Objects, ObjectsError, OpenOptions, StorageUrl};

/// Opens a place for a test, where no request is tried again for longer than `retry_timeout`.
fn open(
    url: &str,
    variables: Vec<(String, String)>,
    retry_timeout: Duration,
) -> Result<Arc<dyn Objects>, ObjectsError> {
    let environment: Environment = variables.into_iter().collect();
    let options = OpenOptions {
        retry_timeout,
        ..OpenOptions::default()
    };
    StorageUrl::parse(url, Path::new("/"))
        .unwrap()
        .open(&environment, &options)
}

/// `len` bytes that differ between seeds and do not repeat soon.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
