//! A file that is read once, in pieces, by several threads, as if nobody had: its access time
//! stays, what the server has in memory stays there, and what was not there does not stay.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, fstatfs, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// RWF_DONTCACHE of Linux 6.14: pages that this read brings in are dropped after it.
const DONT_CACHE: u32 = 0x80;
/// Bytes in a block of `st_blocks`, whatever the file system's are.
const STAT_BLOCK: u64 = 512;
/// f_type of ZFS. Before 2.2.2 it took data for a hole that it had not written yet, and zeros cost
/// it no reading anyway.
const ZFS: i64 = 0x2FC1_2FC1;

/// An open file.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    /// Whether pages are dropped; not, once a read was refused for that.
    dropping: AtomicBool,
    /// Whether there may be holes.
    sparse: bool,
}

impl Source {
    /// Errors: those of `open` and `stat`.
    pub(crate) fn open(path: &Path) -> io::Result<Source> {
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags.bits() as i32);
            options.open(path)
        };
        // Only a file's owner may leave its access time alone.
        let file = match open(OFlags::NOATIME) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => open(OFlags::empty())?,
            opened => opened?,
        };
        // Advice: that it is not taken harms nothing.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let _ = fadvise(&file, 0, None, Advice::NoReuse);
        let meta = file.metadata()?;
        let fewer = meta.blocks().saturating_mul(STAT_BLOCK) < meta.size();
        Ok(Source {
            sparse: fewer && fstatfs(&file).is_ok_and(|fs| fs.f_type != ZFS),
            dropping: AtomicBool::new(true),
            file,
        })
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// As much as there is from `at` on, up to the whole buffer.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            match self.read_once(&mut buffer[got..], at + got as u64) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got)
    }

    fn read_once(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if self.dropping.load(Ordering::Relaxed) {
            let flags = ReadWriteFlags::from_bits_retain(DONT_CACHE);
            match preadv2(&self.file, &mut [IoSliceMut::new(buffer)], at, flags) {
                Ok(n) => return Ok(n),
                Err(Errno::INTR) => return Err(Errno::INTR.into()),
                // A kernel, file system or sandbox without it. What else is wrong, the plain read
                // will say.
                Err(_) => self.dropping.store(false, Ordering::Relaxed),
            }
        }
        self.file.read_at(buffer, at)
    }

    /// Where data goes on: from `at` up to there are zeros, which need no reading. `end` where
    /// they reach that far. `at` where there are none, or nobody knows.
    pub(crate) fn data_from(&self, at: u64, end: u64) -> u64 {
        if !self.sparse {
            return at;
        }
        // Positions are given with every read, so that moving the file's own disturbs nobody.
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(found) => found.clamp(at, end),
            Err(Errno::NXIO) => end,
            Err(_) => at,
        }
    }

    /// From the beginning to the end.
    pub(crate) fn reader(&self) -> impl Read + '_ {
        Reader {
            source: self,
            at: 0,
        }
    }
}

struct Reader<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pieces_and_the_whole_are_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        for dropping in [true, false] {
            let source = Source::open(&path).unwrap();
            source.dropping.store(dropping, Ordering::Relaxed);
            let mut whole = Vec::new();
            source.reader().read_to_end(&mut whole).unwrap();
            assert!(whole == bytes);
            let mut piece = vec![0; 100_000];
            assert_eq!(source.read_at(&mut piece, 250_000).unwrap(), 50_000);
            assert!(piece[..50_000] == bytes[250_000..]);
            assert_eq!(source.read_at(&mut piece, 300_000).unwrap(), 0);
            assert_eq!(source.data_from(7, 300_000), 7);
        }
        assert_eq!(
            Source::open(&dir.path().join("none")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    /// What refuses such reads is read all the same.
    #[test]
    fn a_file_that_takes_no_flags_is_read_plainly() {
        let source = Source::open(Path::new("/proc/self/status")).unwrap();
        let mut bytes = vec![0; 100];
        assert_eq!(source.read_at(&mut bytes, 0).unwrap(), 100);
        assert!(bytes.starts_with(b"Name:"));
        assert!(!source.dropping.load(Ordering::Relaxed));
    }

    #[test]
    fn holes_are_told_from_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        let end = 4 << 30;
        file.set_len(end).unwrap();
        file.write_all_at(&[1; 8192], 3 << 30).unwrap();
        let source = Source::open(&path).unwrap();
        assert_eq!(source.data_from(0, end), 3 << 30);
        assert_eq!(source.data_from(1 << 20, 2 << 20), 2 << 20, "not beyond");
        let inside = (3 << 30) + 5;
        assert_eq!(source.data_from(inside, end), inside);
        assert_eq!(source.data_from((3 << 30) + (1 << 20), end), end);
        assert_eq!(source.data_from(end, end), end);
    }
}
