//! Files of a cluster, wherever they lie.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

/// A cluster of which files can be read.
pub trait Files {
    /// The file at a path relative to PGDATA, front to back; none where there is none.
    ///
    /// Errors: what opening and reading give.
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// All bytes of a small file.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// A PGDATA directory.
#[derive(Clone, Debug)]
pub struct Pgdata(pub PathBuf);

impl Files for Pgdata {
    fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        match File::open(self.0.join(path)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::collections::BTreeMap;

    /// Files in memory.
    pub(crate) type Mem = BTreeMap<String, Vec<u8>>;

    impl Files for Mem {
        fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
            let bytes = self.get(path).map(|bytes| &bytes[..]);
            Ok(bytes.map(|bytes| Box::new(bytes) as Box<dyn Read>))
        }
    }
}
