//! Files of a cluster → the tree of a snapshot, however they come: from a directory, from a tar
//! stream, from memory. The same paths, modes and bytes give the same id.

use std::io::Read;
use std::path::Path;

use zenith_store::{ChunkId, File, Listing, Node, Params, Repository, TreeId, Writer};

use crate::error::{Error, Result};

/// Mode of directories that nobody gave one.
const DIRECTORY_MODE: u32 = 0o700;

/// Stores files and collects the listing of a tree.
#[derive(Debug)]
pub struct TreeWriter<'a> {
    writer: &'a Writer,
    params: Params,
    listing: Listing,
}

/// A tree that is stored, and not yet part of a snapshot.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Its id.
    pub id: TreeId,
    /// Number of files.
    pub files: u64,
    /// Plain bytes of all files.
    pub size: u64,
    /// Plain bytes of the WAL segments among them.
    pub wal_bytes: u64,
    /// All paths.
    pub listing: Listing,
}

impl<'a> TreeWriter<'a> {
    /// An empty tree.
    pub fn new(repo: &Repository, writer: &'a Writer) -> TreeWriter<'a> {
        let root = (
            String::new(),
            Node::Directory {
                mode: DIRECTORY_MODE,
            },
        );
        TreeWriter {
            writer,
            params: repo.params(),
            listing: Listing::from([root]),
        }
    }

    /// Adds a directory, or sets the mode of one that is there.
    ///
    /// Errors: `PathInvalid`.
    pub fn add_dir(&mut self, path: &str, mode: u32) -> Result<()> {
        self.insert(
            path,
            Node::Directory {
                mode: mode & 0o7777,
            },
        )
    }

    /// Stores a file of `size` bytes, in order; `from` must have no fewer.
    ///
    /// Errors: `PathInvalid`, `Io` when reading fails or ends early, those of the store.
    pub fn add_file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<()> {
        check_path(path)?;
        let file = store(self.writer, self.params, mode, size, &[], from)
            .map_err(|e| e.at(Path::new(path)))?;
        self.insert(path, Node::File(file))
    }

    /// Stores a file that lies in memory.
    pub fn add_bytes(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.add_file(path, mode, bytes.len() as u64, &mut &bytes[..])
    }

    /// Adds a file whose bytes are stored already.
    pub fn add_stored(&mut self, path: &str, file: File) -> Result<()> {
        self.insert(path, Node::File(file))
    }

    /// Takes a file out again.
    pub fn remove(&mut self, path: &str) {
        self.listing.remove(path);
    }

    /// Whether there is an entry at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.listing.contains_key(path)
    }

    /// What was added so far.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Stores the directories and gives the tree.
    pub fn finish(self) -> Result<Tree> {
        let id = self.writer.put_tree(&self.listing)?;
        let mut tree = Tree {
            id,
            files: 0,
            size: 0,
            wal_bytes: 0,
            listing: self.listing,
        };
        for (path, node) in &tree.listing {
            if let Node::File(file) = node {
                tree.files += 1;
                tree.size += file.size;
                tree.wal_bytes += if path.starts_with("pg_wal/") {
                    file.size
                } else {
                    0
                };
            }
        }
        Ok(tree)
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        check_path(path)?;
        let mut above = path;
        while let Some((dir, _)) = above.rsplit_once('/') {
            match self.listing.get(dir) {
                Some(Node::Directory { .. }) => break,
                Some(Node::File(_)) => {
                    return Err(Error::PathInvalid {
                        path: path.to_owned(),
                    });
                }
                None => {
                    self.listing.insert(
                        dir.to_owned(),
                        Node::Directory {
                            mode: DIRECTORY_MODE,
                        },
                    );
                }
            }
            above = dir;
        }
        let replaces_directory = matches!(
            (self.listing.get(path), &node),
            (Some(Node::Directory { .. }), Node::File(_))
                | (Some(Node::File(_)), Node::Directory { .. })
        );
        if replaces_directory {
            return Err(Error::PathInvalid {
                path: path.to_owned(),
            });
        }
        self.listing.insert(path.to_owned(), node);
        Ok(())
    }
}

/// Paths of a tree lead nowhere but down.
fn check_path(path: &str) -> Result<()> {
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if path.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::PathInvalid {
        path: path.to_owned(),
    })
}

/// Stores `size` bytes of `from` as a file that had the chunks `before`.
pub(crate) fn store(
    writer: &Writer,
    params: Params,
    mode: u32,
    size: u64,
    before: &[ChunkId],
    from: &mut dyn Read,
) -> Result<File, StoreError> {
    let mode = mode & 0o7777;
    if size <= u64::from(params.inline_limit) {
        let mut bytes = vec![0; size as usize];
        from.read_exact(&mut bytes).map_err(StoreError::Read)?;
        return Ok(writer.put_inline(mode, bytes));
    }
    let chunk_size = u64::from(params.chunk_size);
    let mut ids: Vec<ChunkId> = Vec::new();
    let mut buffer = vec![0; params.chunk_size as usize];
    let mut left = size;
    while left > 0 {
        let chunk = &mut buffer[..left.min(chunk_size) as usize];
        from.read_exact(chunk).map_err(StoreError::Read)?;
        let base = before.get(ids.len()).copied();
        ids.push(writer.put_chunk(chunk, base).map_err(StoreError::Put)?);
        left -= chunk.len() as u64;
    }
    writer
        .put_file(mode, size, &ids, before)
        .map_err(StoreError::Put)
}

/// Which side of [`store`] went wrong.
#[derive(Debug)]
pub(crate) enum StoreError {
    Read(std::io::Error),
    Put(zenith_store::Error),
}

impl StoreError {
    /// With the file it happened to.
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            StoreError::Read(source) => Error::io("read", path)(source),
            StoreError::Put(e) => e.into(),
        }
    }
}
