//! Deltas written anew, so that what they stood on can go.
//!
//! A delta may stand on blobs that no snapshot names any more: its base was in one that was
//! removed. In packs that are packed anew such bases are not taken along. What a snapshot names and
//! what stands on one of them is written again: over the nearest blob below that stays, else over
//! another that was made plain in the place of the same old plain blob, else plain. So no depth
//! grows, and a chain has at most the blobs that it had.

use crate::encode::{Base, CHAIN_MAX, Encoded, encode_over};
use crate::error::Result;
use crate::id::{Id, Kind, PackName};
use crate::index::Location;
use crate::needs::Needs;
use crate::repository::Repository;
use crate::writer::{LEVEL, Writer};
use std::collections::{HashMap, HashSet};

/// What is written anew, with its depth.
pub(crate) type Renewed = HashMap<Id, u8>;

impl Repository {
    /// Writes every delta anew that would lose what it stands on when the packs `gone` go with what
    /// no snapshot names of them.
    ///
    /// # Errors
    /// When one of them cannot be read or written.
    pub(crate) fn renew(
        &self,
        gone: &HashSet<PackName>,
        needs: &Needs<'_>,
        writer: &Writer,
    ) -> Result<Renewed> {
        let is_named = |place: &Location| {
            let alive = needs.alive.get(&place.pack);
            alive
                .and_then(|alive| alive.get(&place.ordinal))
                .is_some_and(|used| used.named)
        };
        let goes = |place: &Location| gone.contains(&place.pack) && !is_named(place);
        // What others stand on comes before them.
        let mut deltas: Vec<(u8, Location, Id, Kind)> = Vec::new();
        for (id, kind) in &needs.deltas {
            let Some(chain) = self.locate(id)? else {
                return Err(self.missing(*kind, *id)?);
            };
            if chain.iter().any(|(_, place)| goes(place)) {
                deltas.push((chain[0].1.depth, chain[0].1, *id, *kind));
            }
        }
        deltas.sort_by_key(|(depth, place, ..)| (*depth, place.pack, place.ordinal));
        let mut renewed = Renewed::new();
        // What is plain now in the place of a plain blob that goes.
        let mut grounds: HashMap<Id, Id> = HashMap::new();
        let (mut bytes, mut old) = (Vec::new(), Vec::new());
        for (_, place, id, kind) in deltas {
            let Some(chain) = self.chain(id, place)? else {
                return Err(self.missing(kind, id)?);
            };
            let below = &chain[1..];
            // A named one stays, or was written anew itself.
            let stays = |at: usize| {
                let (id, place) = &below[at];
                needs.deltas.contains_key(id)
                    || is_named(place)
                    || !below[at..].iter().any(|(_, place)| goes(place))
            };
            let nearest = (0..below.len()).find(|at| stays(*at));
            if nearest == Some(0) {
                continue;
            }
            let (bottom, plain) = below[below.len() - 1];
            let base = match nearest.map(|at| below[at]) {
                Some((id, place)) => Some((id, self.depth_of(id, &place, &renewed)?)),
                None => grounds.get(&bottom).map(|id| (*id, 0)),
            };
            let mut usable = None;
            if let Some((base, depth)) = base.filter(|(_, depth)| *depth <= CHAIN_MAX)
                && self.is_clear_base(&base)?
            {
                usable = Some((base, depth));
            }
            self.read_blob(kind, id, &mut bytes)?;
            let encoded = match usable {
                Some((base, depth)) => {
                    self.read_blob(kind, base, &mut old)?;
                    let base = Base {
                        id: base,
                        depth,
                        bytes: &old,
                        plain_len: plain.stored_share() as usize,
                    };
                    encode_over(kind, &base, &bytes, LEVEL)?
                }
                None => Encoded::Plain,
            };
            let depth = match &encoded {
                Encoded::Delta(part, _) => part.depth,
                _ => {
                    grounds.insert(bottom, id);
                    0
                }
            };
            writer.store_encoded(kind, id, &bytes, encoded)?;
            renewed.insert(id, depth);
        }
        Ok(renewed)
    }

    /// Blobs under what will be there of an id that deltas stand on at `place`.
    fn depth_of(&self, id: Id, place: &Location, renewed: &Renewed) -> Result<u8> {
        if let Some(depth) = renewed.get(&id) {
            return Ok(*depth);
        }
        let found = self.locate(&id)?;
        Ok(found.map_or(place.depth, |chain| chain[0].1.depth.max(place.depth)))
    }
}
