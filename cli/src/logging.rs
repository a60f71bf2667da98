//! Log lines of the engine: on stderr for `-vv`, in the agent's log for the agent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The agent's log begins anew at this size; one older log is kept.
const LOG_MAX: u64 = 16 << 20;

/// Nothing below `-vv`: what people must know comes as events and errors.
pub fn to_stderr(verbose: u8) {
    let level = match verbose {
        0 | 1 => return,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    begin(level, io::stderr);
}

/// The lines of an agent in the foreground.
pub fn to_stderr_as_agent() {
    begin(LevelFilter::INFO, io::stderr);
}

/// The lines of a detached agent.
pub fn to_file(path: &Path) -> io::Result<()> {
    begin(LevelFilter::INFO, RotatingFile::open(path)?);
    Ok(())
}

fn begin<W>(level: LevelFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(writer);
    // A second call (an agent with -vv) changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

/// A file that moves itself aside when it is full.
struct RotatingFile {
    path: PathBuf,
    file: Mutex<Open>,
}

struct Open {
    file: File,
    bytes: u64,
}

impl RotatingFile {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(Open::at(path)?),
        })
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

impl Write for &RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self
            .file
            .lock()
            .map_err(|_| io::Error::other("the log is poisoned"))?;
        if open.bytes + line.len() as u64 > LOG_MAX {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *open = Open::at(&self.path)?;
        }
        let written = open.file.write(line)?;
        open.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatingFile {
    type Writer = &'a RotatingFile;
    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_moves_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.log");
        std::fs::write(&path, vec![b'x'; LOG_MAX as usize - 3]).unwrap();
        let log = RotatingFile::open(&path).unwrap();
        (&log).write_all(b"abc").unwrap();
        assert!(!dir.path().join("agent.log.1").exists());
        (&log).write_all(b"d").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"d");
        let old = std::fs::metadata(dir.path().join("agent.log.1")).unwrap();
        assert_eq!(old.len(), LOG_MAX);
    }
}
