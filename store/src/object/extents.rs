//! The extent map of one file: the ids of its chunks, as a tree of nodes of 256.
//!
//! All nodes of a level but the last are full, so unchanged ranges of a file keep their nodes
//! and two maps of one file are compared by comparing ids. Bytes: docs/format.md.

use super::Malformed;
use crate::id::{ChunkId, ID_LEN};

/// Ids in one node: 16 MiB of a file at 64 KiB a chunk.
pub const FANOUT: usize = 256;

/// Where the chunks of a file are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extents {
    /// 0: `id` names the only chunk; 1: a node of chunk ids; d: a node of nodes of depth d − 1.
    pub depth: u8,
    /// Of the chunk or of the root node.
    pub id: [u8; ID_LEN],
}

const VERSION: u8 = 1;
/// Enough for 256^5 chunks; a larger depth is damage.
pub const MAX_DEPTH: u8 = 6;

/// The bytes of a node: version, depth, number, ids.
///
/// # Panics
/// When there are no ids, or more than [`FANOUT`].
pub fn encode(depth: u8, ids: &[[u8; ID_LEN]]) -> Vec<u8> {
    assert!((1..=FANOUT).contains(&ids.len()) && (1..=MAX_DEPTH).contains(&depth));
    let mut out = Vec::with_capacity(4 + ids.len() * ID_LEN);
    out.push(VERSION);
    out.push(depth);
    out.extend_from_slice(&(ids.len() as u16).to_le_bytes());
    for id in ids {
        out.extend_from_slice(id);
    }
    out
}

/// Depth and ids of a node.
///
/// # Errors
/// When the bytes are not a node that [`encode`] could have written.
pub fn decode(bytes: &[u8]) -> Result<(u8, Vec<[u8; ID_LEN]>), Malformed> {
    let bad = |why: &str| Malformed(format!("extent map node: {why}"));
    let (head, ids) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| bad("shorter than 4 bytes"))?;
    let number = u16::from_le_bytes([head[2], head[3]]) as usize;
    if head[0] != VERSION {
        return Err(bad(&format!("version {} is not known", head[0])));
    }
    if !(1..=MAX_DEPTH).contains(&head[1]) || !(1..=FANOUT).contains(&number) {
        return Err(bad("depth or number out of range"));
    }
    if ids.len() != number * ID_LEN {
        return Err(bad("its length is not that of its ids"));
    }
    Ok((
        head[1],
        ids.chunks_exact(ID_LEN)
            .map(|c| c.try_into().expect("exact chunk"))
            .collect(),
    ))
}

/// Builds the map over `ids`, bottom up; `put` stores a node and gives its id. It is told where
/// the node is: its depth, and its number among those of that depth.
///
/// # Errors
/// What `put` gives.
///
/// # Panics
/// When there are no ids: such a file is inline.
pub fn build<E>(
    ids: &[ChunkId],
    mut put: impl FnMut((u8, usize), Vec<u8>) -> Result<[u8; ID_LEN], E>,
) -> Result<Extents, E> {
    assert!(!ids.is_empty(), "a file without chunks has no extent map");
    let mut level: Vec<[u8; ID_LEN]> = ids.iter().map(|id| id.0).collect();
    let mut depth = 0;
    while level.len() > 1 {
        depth += 1;
        level = level
            .chunks(FANOUT)
            .enumerate()
            .map(|(number, ids)| put((depth, number), encode(depth, ids)))
            .collect::<Result<_, E>>()?;
    }
    Ok(Extents {
        depth,
        id: level[0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;
    use std::collections::HashMap;
    use std::convert::Infallible;

    fn flatten(map: Extents, nodes: &HashMap<[u8; 32], Vec<u8>>) -> Vec<ChunkId> {
        if map.depth == 0 {
            return vec![ChunkId(map.id)];
        }
        let (depth, ids) = decode(&nodes[&map.id]).unwrap();
        assert_eq!(depth, map.depth);
        ids.iter()
            .flat_map(|&id| {
                flatten(
                    Extents {
                        depth: depth - 1,
                        id,
                    },
                    nodes,
                )
            })
            .collect()
    }

    #[test]
    fn every_length_comes_back() {
        for n in [1, 2, 255, 256, 257, 65_536, 65_537] {
            let ids: Vec<_> = (0..n as u32)
                .map(|i| Ids::plain().chunk(&i.to_le_bytes()))
                .collect();
            let mut nodes = HashMap::new();
            let map = build::<Infallible>(&ids, |_, bytes| {
                let id = Ids::plain().extents(&bytes).0;
                nodes.insert(id, bytes);
                Ok(id)
            })
            .unwrap();
            assert_eq!(flatten(map, &nodes), ids, "{n}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        let good = encode(1, &[[7; 32], [8; 32]]);
        assert!(decode(&good).is_ok());
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "{cut}");
        }
        for (at, value) in [(0, 9), (1, 0), (1, 99), (2, 0), (2, 3), (3, 2)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(decode(&bad).is_err(), "{at}");
        }
    }

    #[test]
    fn golden() {
        let bytes = encode(2, &[[7; 32], [8; 32]]);
        insta::assert_snapshot!(crate::id::hex(&bytes), @"0102020007070707070707070707070707070707070707070707070707070707070707070808080808080808080808080808080808080808080808080808080808080808");
    }
}
