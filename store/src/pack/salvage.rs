//! What is left of a pack whose directory cannot be read: every frame is found by its magic and
//! its check, and names what is in it by hashing it.

use super::frame::{self, FrameHeader, HEADER_LEN};
use super::{BlobEntry, Directory, FrameEntry};
use crate::delta::{self, Form};
use crate::id::{BASE_LEN, Id, Ids};
use crate::seal::Seal;
use std::collections::HashMap;

/// Gives the plain bytes of what a delta may stand on, by the beginning of its id.
pub(crate) type Bases<'a> = &'a mut dyn FnMut(&[u8; BASE_LEN]) -> Vec<Vec<u8>>;

/// The frames of a pack that are whole, with the ids of their blobs. Frames with a delta of which
/// no base is to be had are left out; `bases` knows those of other packs.
pub(crate) fn salvage(bytes: &[u8], ids: &Ids, seal: Option<&Seal>, bases: Bases<'_>) -> Directory {
    let mut found = Vec::new();
    let mut at = super::HEADER_LEN;
    while at + HEADER_LEN <= bytes.len() {
        match whole_frame(bytes, at, seal) {
            Some(frame) => {
                at = frame.end() as usize;
                found.push(frame);
            }
            None => at += next_magic(&bytes[at + 1..]) + 1,
        }
    }
    let mut scan = Scan {
        bytes,
        ids,
        seal,
        by_base: HashMap::new(),
        frames: found,
    };
    scan.name_plain();
    scan.name_deltas(bases);
    let named = |frame: &FrameEntry| frame.blobs.iter().all(|blob| blob.id != Id::default());
    let frames = scan.frames.into_iter().filter(named).collect();
    Directory { frames }
}

/// Bytes before the next that may begin a frame.
fn next_magic(bytes: &[u8]) -> usize {
    let magic = |window: &[u8]| window == frame::MAGIC;
    bytes
        .windows(frame::MAGIC.len())
        .position(magic)
        .unwrap_or(bytes.len())
}

/// The frame that begins here, if it is whole; its blobs have no ids yet.
fn whole_frame(bytes: &[u8], at: usize, seal: Option<&Seal>) -> Option<FrameEntry> {
    let header = FrameHeader::decode(&bytes[at..]).ok()?;
    let end = at + header.payload_at() + header.stored_len as usize;
    let stored = bytes.get(at..end)?;
    if !frame::check_holds(&header, &stored[HEADER_LEN..]) {
        return None;
    }
    let mut entry = FrameEntry {
        offset: at as u64,
        payload_offset: (at + header.payload_at()) as u64,
        stored_len: header.stored_len,
        plain_len: header.plain_len,
        codec: header.codec,
        table: header.has_table(),
        blobs: Vec::new(),
    };
    let plain = decode(stored, &entry, seal)?;
    let mut offset = 0;
    for part in header.parts(&plain).ok()? {
        let id = Id::default();
        entry.blobs.push(BlobEntry { id, part, offset });
        offset += part.body_len;
    }
    Some(entry)
}

fn decode(stored: &[u8], entry: &FrameEntry, seal: Option<&Seal>) -> Option<Vec<u8>> {
    let (_, payload) = frame::open(stored, seal).ok()?;
    let mut decompressor = zstd::bulk::Decompressor::new().ok()?;
    let mut plain = Vec::new();
    let len = entry.plain_len;
    frame::decode_payload(entry.codec, &payload, len, &mut decompressor, &mut plain).ok()?;
    Some(plain)
}

/// Frames on the way to their ids.
struct Scan<'a> {
    bytes: &'a [u8],
    ids: &'a Ids,
    seal: Option<&'a Seal>,
    /// Blobs that have an id, by its beginning: frame and number in it.
    by_base: HashMap<[u8; BASE_LEN], Vec<(usize, usize)>>,
    frames: Vec<FrameEntry>,
}

impl Scan<'_> {
    fn plain_of(&self, frame: usize) -> Option<Vec<u8>> {
        let entry = &self.frames[frame];
        let stored = self
            .bytes
            .get(entry.offset as usize..entry.end() as usize)?;
        decode(stored, entry, self.seal)
    }

    fn body<'p>(&self, plain: &'p [u8], frame: usize, blob: usize) -> Option<&'p [u8]> {
        let blob = &self.frames[frame].blobs[blob];
        let begin = blob.offset as usize;
        plain.get(begin..begin + blob.part.body_len as usize)
    }

    fn name(&mut self, frame: usize, blob: usize, id: Id) {
        self.frames[frame].blobs[blob].id = id;
        self.by_base
            .entry(id.base())
            .or_default()
            .push((frame, blob));
    }

    fn name_plain(&mut self) {
        for frame in 0..self.frames.len() {
            let Some(plain) = self.plain_of(frame) else {
                continue;
            };
            for blob in 0..self.frames[frame].blobs.len() {
                let part = self.frames[frame].blobs[blob].part;
                if part.form != Form::Plain {
                    continue;
                }
                if let Some(body) = self.body(&plain, frame, blob) {
                    let id = self.ids.of(part.kind, body);
                    self.name(frame, blob, id);
                }
            }
        }
    }

    /// A delta says of its id only what stands under it, so its id is what it gives. Over a wrong
    /// base that is a name that nothing asks for.
    fn name_deltas(&mut self, bases: Bases<'_>) {
        let mut deltas: Vec<(u8, usize, usize)> = Vec::new();
        for (frame, entry) in self.frames.iter().enumerate() {
            for (number, blob) in entry.blobs.iter().enumerate() {
                if blob.part.form != Form::Plain {
                    deltas.push((blob.part.depth, frame, number));
                }
            }
        }
        // What is under it has a smaller depth and so an id by then.
        deltas.sort_unstable();
        for (_, frame, number) in deltas {
            let part = self.frames[frame].blobs[number].part;
            let mut under = self.here(&part.base, part.depth);
            if under.is_empty() {
                under = bases(&part.base);
            }
            // Of several none is known to be the right one.
            let [base] = &under[..] else { continue };
            let Some(plain) = self.plain_of(frame) else {
                continue;
            };
            let Some(body) = self.body(&plain, frame, number) else {
                continue;
            };
            if let Some(bytes) = apply(part.form, body, part.len as usize, base.clone()) {
                let id = self.ids.of(part.kind, &bytes);
                self.name(frame, number, id);
            }
        }
    }

    /// Plain bytes of the blobs of this pack whose id begins so, each once.
    fn here(&self, base: &[u8; BASE_LEN], below: u8) -> Vec<Vec<u8>> {
        let mut found: Vec<(Id, Vec<u8>)> = Vec::new();
        for (frame, number) in self.by_base.get(base).into_iter().flatten() {
            let blob = &self.frames[*frame].blobs[*number];
            if blob.part.depth >= below || found.iter().any(|(id, _)| *id == blob.id) {
                continue;
            }
            if let Some(bytes) = self.read(*frame, *number) {
                found.push((blob.id, bytes));
            }
        }
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The plain bytes of a blob that stands on blobs of this pack alone.
    fn read(&self, frame: usize, number: usize) -> Option<Vec<u8>> {
        let part = self.frames[frame].blobs[number].part;
        let plain = self.plain_of(frame)?;
        let body = self.body(&plain, frame, number)?;
        if part.form == Form::Plain {
            return Some(body.to_vec());
        }
        let base = self.here(&part.base, part.depth).into_iter().next()?;
        apply(part.form, body, part.len as usize, base)
    }
}

fn apply(form: Form, body: &[u8], len: usize, mut base: Vec<u8>) -> Option<Vec<u8>> {
    match form {
        Form::Plain => Some(body.to_vec()),
        Form::Patch => delta::patch(body, len, &mut base).ok().map(|()| base),
        Form::Prefix => {
            let mut out = Vec::new();
            delta::decompress(&base, body, len, &mut out)
                .ok()
                .map(|()| out)
        }
    }
}
