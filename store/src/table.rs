//! A table of the root: rows by number, as immutable segments in packs and recent rows inline.
//!
//! A root has little room (docs/format.md). Rows live in it until it is full, then move to a
//! segment; when there are many segments they become one. Newer rows stand before older ones.

use crate::error::{Error, Result};
use crate::id::{Ids, PackName, TableId};
use crate::keys::Keys;
use crate::object::Malformed;
use crate::objects::Objects;
use crate::pack::Codec;
use crate::pack::frame::{self, PLAIN_MAX};
use minicbor::{Decode, Encode, Encoder};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// More small segments than this are written anew.
pub const SEGMENTS_MAX: usize = 8;
/// Rows of about this many bytes make a segment; more make several.
const SEGMENT_BYTES: usize = 16 << 20;

/// A row of a table, named by a number that is never used again.
pub trait Row: Encode<()> + for<'b> Decode<'b, ()> + Clone {
    /// Its number.
    fn key(&self) -> u64;
}

/// Where rows of a table lie, all that is needed to read them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Segment {
    /// In which pack, which holds nothing but segments.
    #[n(0)]
    pub pack: PackName,
    /// Bytes of that pack.
    #[n(1)]
    pub pack_len: u64,
    /// Where the payload of the frame begins.
    #[n(2)]
    pub payload_offset: u64,
    /// Bytes of the payload as it lies.
    #[n(3)]
    pub stored_len: u32,
    /// Bytes when decoded.
    #[n(4)]
    pub plain_len: u32,
    /// 0 raw, 1 zstd.
    #[n(5)]
    pub codec: u8,
    /// Hash of the decoded bytes.
    #[n(6)]
    pub id: TableId,
    /// Number of rows.
    #[n(7)]
    pub rows: u64,
    /// Bytes of the rows, at the beginning of the decoded payload; in version 1 they are all of it.
    #[n(8)]
    pub body_len: Option<u32>,
}

/// What a root holds of a table.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Inline<R> {
    /// Oldest first.
    #[n(0)]
    pub segments: Vec<Segment>,
    /// Stand before those of the segments.
    #[n(1)]
    pub rows: Vec<R>,
    /// Numbers of rows in segments that are gone.
    #[n(2)]
    pub removed: Vec<u64>,
}

impl<R> Default for Inline<R> {
    fn default() -> Self {
        Inline {
            segments: Vec::new(),
            rows: Vec::new(),
            removed: Vec::new(),
        }
    }
}

/// A whole table in memory, with what is where.
#[derive(Debug, Clone)]
pub struct Table<R> {
    segments: Vec<Segment>,
    rows: BTreeMap<u64, R>,
    /// Rows that the segments do not have, or have otherwise.
    inline: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Table {
            segments: Vec::new(),
            rows: BTreeMap::new(),
            inline: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }
}

impl<R: Row> Table<R> {
    /// The table that a root describes; segments are read from `objects`, without those that are
    /// lost where `on_lost` lets that pass.
    ///
    /// # Errors
    /// What `on_lost` gives; when a segment cannot be asked for.
    pub(crate) fn load_found(
        inline: Inline<R>,
        objects: &dyn Objects,
        keys: &Keys,
        on_lost: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<Self> {
        let mut rows = BTreeMap::new();
        let mut segments = Vec::new();
        for segment in inline.segments {
            match read_segment::<R>(&segment, objects, keys) {
                Ok(read) => rows.extend(read.into_iter().map(|row| (row.key(), row))),
                Err(e) if e.is_lost() => {
                    on_lost(e)?;
                    continue;
                }
                Err(e) => return Err(e),
            }
            segments.push(segment);
        }
        let removed: BTreeSet<u64> = inline.removed.into_iter().collect();
        rows.retain(|key, _| !removed.contains(key));
        let mut keys = BTreeSet::new();
        for row in inline.rows {
            keys.insert(row.key());
            rows.insert(row.key(), row);
        }
        Ok(Table {
            segments,
            rows,
            inline: keys,
            removed,
        })
    }

    /// What the root is to hold.
    pub fn inline(&self) -> Inline<R> {
        Inline {
            segments: self.segments.clone(),
            rows: self
                .inline
                .iter()
                .map(|key| self.rows[key].clone())
                .collect(),
            removed: self.removed.iter().copied().collect(),
        }
    }

    /// All rows in the order of their numbers.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.rows.values()
    }

    /// The row with this number.
    pub fn get(&self, key: u64) -> Option<&R> {
        self.rows.get(&key)
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A number above all that were used, as far as the table still knows.
    pub fn next_key(&self) -> u64 {
        let last = self.rows.last_key_value().map(|(key, _)| *key);
        last.max(self.removed.last().copied())
            .map_or(0, |key| key + 1)
    }

    /// Puts a row in, in the place of the one with its number.
    pub fn put(&mut self, row: R) {
        self.inline.insert(row.key());
        self.rows.insert(row.key(), row);
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: u64) -> Option<R> {
        let row = self.rows.remove(&key)?;
        self.inline.remove(&key);
        if !self.segments.is_empty() {
            self.removed.insert(key);
        }
        Some(row)
    }

    /// Rows with a number above `key`.
    pub(crate) fn after(&self, key: u64) -> impl Iterator<Item = &R> {
        let beyond = (Bound::Excluded(key), Bound::Unbounded);
        self.rows.range(beyond).map(|(_, row)| row)
    }

    /// Has the root hold all rows: what the segments have is written anew by the next spill.
    pub(crate) fn take_in(&mut self) {
        self.segments.clear();
        self.removed.clear();
        self.inline = self.rows.keys().copied().collect();
    }

    /// Bytes that a root would save if the rows moved to a segment.
    pub(crate) fn inline_len(&self) -> usize {
        let rows = self.inline.iter().map(|key| encoded(&self.rows[key]).len());
        rows.sum::<usize>() + self.removed.len() * size_of::<u64>()
    }

    /// Packs that hold segments of this table.
    pub fn segment_packs(&self) -> impl Iterator<Item = (PackName, u64)> + '_ {
        self.segments.iter().map(|s| (s.pack, s.pack_len))
    }

    /// Moves rows to new segments: `write` stores the bytes of one. With many small segments, or
    /// rows of segments that are gone, all are written anew.
    ///
    /// # Errors
    /// What `write` gives, and [`Error::Invalid`] for a row that could not be read again; the table
    /// is as it was then.
    pub(crate) fn spill(
        &mut self,
        ids: &Ids,
        mut write: impl FnMut(Vec<u8>) -> Result<SegmentPlace>,
    ) -> Result<()> {
        let is_small = |segment: &&Segment| (segment.plain_len as usize) < SEGMENT_BYTES / 2;
        let small = self.segments.iter().filter(is_small).count();
        let merge = small >= SEGMENTS_MAX || !self.removed.is_empty();
        let keys: Vec<u64> = if merge {
            self.rows.keys().copied().collect()
        } else {
            self.inline.iter().copied().collect()
        };
        let mut segments = Vec::new();
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let (mut rows, mut body) = (0, Vec::new());
            while body.len() < SEGMENT_BYTES
                && let Some(key) = keys.next()
            {
                body.extend_from_slice(&encoded(&self.rows[&key]));
                rows += 1;
            }
            let mut bytes = Vec::with_capacity(body.len() + 9);
            Encoder::new(&mut bytes)
                .array(rows)
                .expect("encoding into memory has no errors");
            bytes.append(&mut body);
            segments.push(Self::segment(ids, rows, bytes, &mut write)?);
        }
        if merge {
            self.segments.clear();
        }
        self.segments.append(&mut segments);
        self.inline.clear();
        self.removed.clear();
        Ok(())
    }

    fn segment(
        ids: &Ids,
        rows: u64,
        bytes: Vec<u8>,
        write: &mut impl FnMut(Vec<u8>) -> Result<SegmentPlace>,
    ) -> Result<Segment> {
        // Room is left for the names that a frame ends with.
        if bytes.len() > PLAIN_MAX as usize / 2 {
            return Err(Error::Invalid {
                what: format!("a table row of {} MB", bytes.len() >> 20),
            });
        }
        let (id, body_len) = (ids.table(&bytes), bytes.len() as u32);
        let place = write(bytes)?;
        Ok(Segment {
            pack: place.pack,
            pack_len: place.pack_len,
            payload_offset: place.payload_offset,
            stored_len: place.stored_len,
            plain_len: place.plain_len,
            codec: place.codec as u8,
            id,
            rows,
            body_len: Some(body_len),
        })
    }
}

fn encoded<R: Row>(row: &R) -> Vec<u8> {
    minicbor::to_vec(row).expect("encoding into memory has no errors")
}

/// Where the bytes of a segment were put.
#[derive(Debug, Clone, Copy)]
pub struct SegmentPlace {
    /// In which pack.
    pub pack: PackName,
    /// Its bytes.
    pub pack_len: u64,
    /// Where the payload begins.
    pub payload_offset: u64,
    /// Its bytes as they lie.
    pub stored_len: u32,
    /// Its bytes when decoded.
    pub plain_len: u32,
    /// How they lie.
    pub codec: Codec,
}

fn read_segment<R: Row>(segment: &Segment, objects: &dyn Objects, keys: &Keys) -> Result<Vec<R>> {
    let bad = |why: String| Error::Damaged {
        what: format!(
            "table segment {} in pack {}",
            segment.id.short(),
            segment.pack
        ),
        location: objects.location(),
        why,
    };
    if segment.plain_len > PLAIN_MAX || segment.stored_len > PLAIN_MAX {
        return Err(bad("its length is out of range".into()));
    }
    let codec = Codec::from_u8(segment.codec).ok_or_else(|| bad("its codec is unknown".into()))?;
    let head = match &keys.seal {
        Some(_) => frame::payload_at(true),
        None => 0,
    };
    let offset = segment.payload_offset.checked_sub(head as u64);
    let offset = offset.ok_or_else(|| bad("its offset is out of range".into()))?;
    let mut bytes = objects.get_range(
        &segment.pack.key(),
        offset,
        head + segment.stored_len as usize,
    )?;
    let payload = match &keys.seal {
        Some(seal) => {
            let payload = bytes.split_off(head);
            frame::unseal(&bytes, payload, seal).map_err(bad)?
        }
        None => bytes,
    };
    let mut plain = Vec::new();
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|e| bad(e.to_string()))?;
    frame::decode_payload(
        codec,
        &payload,
        segment.plain_len,
        &mut decompressor,
        &mut plain,
    )
    .map_err(bad)?;
    plain.truncate(segment.body_len.map_or(usize::MAX, |len| len as usize));
    if keys.ids.table(&plain) != segment.id {
        return Err(bad("it has another hash".into()));
    }
    minicbor::decode(&plain).map_err(|e| bad(Malformed::from(e).0))
}
