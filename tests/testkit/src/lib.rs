//! Servers, clusters and storages for the tests.
//!
//! Everything a test makes lies under its [`Place`], a directory of its own, and everything that
//! still runs there ends when the place goes out of scope, also when the test panics.

pub mod bytes;
pub mod command;
pub mod load;
pub mod place;
pub mod port;
pub mod process;
pub mod programs;
pub mod s3;
#[cfg(test)]
mod selftest;
pub mod server;
pub mod shapes;
pub mod tmpfs;
pub mod turn;
pub mod user;

pub use command::{Output, Running, Zenith};
pub use load::Load;
pub use place::Place;
pub use programs::Programs;
pub use s3::S3Server;
pub use server::Server;

/// Whether the long variants of the tests are asked for (`ZENITH_SOAK=1`).
pub fn soak() -> bool {
    std::env::var("ZENITH_SOAK").is_ok_and(|value| value == "1")
}

/// The seed of a randomised test: `ZENITH_SEED` when set, else a fresh one. A test prints it in
/// the message of each assertion that depends on it.
pub fn seed() -> u64 {
    match std::env::var("ZENITH_SEED") {
        Ok(text) => text.parse().expect("ZENITH_SEED is a number"),
        Err(_) => rand::random(),
    }
}
