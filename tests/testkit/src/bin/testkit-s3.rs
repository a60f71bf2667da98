//! The S3 server of the tests as a program, for demos and for tests of separate processes.
//!
//! `testkit-s3 --dir DIR --port PORT --bucket BUCKET` serves until it is killed. Port 0 takes a
//! free one. The environment that reaches the bucket is printed as shell assignments.

use std::io::{self, Write};
use std::path::PathBuf;

use zenith_testkit::s3::S3Server;

fn main() -> io::Result<()> {
    let (directory, port, bucket) = arguments(std::env::args().skip(1))?;
    std::fs::create_dir_all(&directory)?;
    let server = S3Server::start_on(&directory, port)?;
    let mut out = io::stdout().lock();
    for (name, value) in server.env(&bucket) {
        writeln!(out, "export {name}={value}")?;
    }
    out.flush()?;
    drop(out);
    loop {
        std::thread::park();
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> io::Result<(PathBuf, u16, String)> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let (mut directory, mut port, mut bucket) = (None, 0, None);
    while let Some(name) = given.next() {
        let value = given
            .next()
            .ok_or_else(|| wrong(format!("{name} needs a value")))?;
        match name.as_str() {
            "--dir" => directory = Some(PathBuf::from(value)),
            "--port" => {
                port = value
                    .parse()
                    .map_err(|_| wrong(format!("no port: {value}")))?;
            }
            "--bucket" => bucket = Some(value),
            _ => return Err(wrong(format!("unknown argument: {name}"))),
        }
    }
    match (directory, bucket) {
        (Some(directory), Some(bucket)) => Ok((directory, port, bucket)),
        _ => Err(wrong("--dir and --bucket are needed".to_owned())),
    }
}
