//! What the snapshot before has, path by path: the chunks that new ones are compared with, and
//! stored as a difference to.

use std::sync::Arc;

use zenith_store::{ChunkId, Listing, Node, Repository, TreeId};

use crate::error::Result;

/// The tree of an older snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    repo: Repository,
    listing: Arc<Listing>,
}

impl Before {
    /// The tree of a snapshot of `repo`, or nothing where there is none before.
    pub(crate) fn of(repo: &Repository, tree: Option<TreeId>) -> Result<Before> {
        let listing = match tree {
            Some(tree) => repo.listing(tree)?,
            None => Listing::new(),
        };
        Ok(Before {
            repo: repo.clone(),
            listing: Arc::new(listing),
        })
    }

    /// The repository that it is in.
    pub(crate) fn repo(&self) -> &Repository {
        &self.repo
    }

    /// All paths.
    pub(crate) fn listing(&self) -> &Arc<Listing> {
        &self.listing
    }

    /// The chunks of the file at `path`; none where it is new, or lies in the tree.
    pub(crate) fn chunks(&self, path: &str) -> Result<Vec<ChunkId>> {
        match self.listing.get(path) {
            Some(Node::File(file)) => Ok(self.repo.chunk_ids(file)?),
            _ => Ok(Vec::new()),
        }
    }
}
