//! How a repository names things, and whether it seals them.

use crate::id::Ids;
use crate::seal::Seal;

/// Ids and, in a sealed repository, its keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) ids: Ids,
    pub(crate) seal: Option<Seal>,
}

impl Keys {
    /// Of a sealed repository, or of one that is not.
    pub(crate) fn new(seal: Option<Seal>) -> Keys {
        Keys {
            ids: match &seal {
                Some(seal) => Ids::keyed(|kind| seal.id_key(kind)),
                None => Ids::plain(),
            },
            seal,
        }
    }
}
