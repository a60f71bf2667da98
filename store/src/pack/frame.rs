//! One frame: blobs that are compressed, and in a sealed repository sealed, as one. Pure; both
//! directions side by side.

use super::short_hash;
use crate::delta::Form;
use crate::id::{BASE_LEN, Kind};
use crate::seal::{Origin, Seal, TAG_LEN};

/// How the payload of a frame lies. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is: compression gained nothing.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The codec with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        match n {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 20;
/// Bytes of the origin that follows the header of a sealed frame.
pub const ORIGIN_LEN: usize = 24;
/// No frame decodes to more; a larger length is damage and must not allocate.
pub const PLAIN_MAX: u32 = 64 << 20;
pub(super) const MAGIC: &[u8; 4] = b"ZFR2";
const SEALED: u8 = 1;
const TABLE: u8 = 2;
/// Bytes of a row of the blob table, over all its columns.
const ROW_LEN: usize = 1 + 4 + 4;
/// What a delta has more.
const DELTA_LEN: usize = 1 + BASE_LEN;

/// A blob of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// How its body lies.
    pub form: Form,
    /// Its plain bytes.
    pub len: u32,
    /// Bytes of its body in the decoded payload.
    pub body_len: u32,
    /// Number of blobs under it: 0 for a plain one, above that of its base for a delta.
    pub depth: u8,
    /// First bytes of the base's id; zeros for a plain blob.
    pub base: [u8; BASE_LEN],
}

impl Part {
    /// A blob that needs no other.
    pub fn plain(kind: Kind, len: usize) -> Part {
        Part {
            kind,
            form: Form::Plain,
            len: len as u32,
            body_len: len as u32,
            depth: 0,
            base: [0; BASE_LEN],
        }
    }

    /// Kind and form in one byte of a table.
    pub(super) fn kind_and_form(&self) -> u8 {
        self.kind as u8 | (self.form as u8) << 4
    }

    /// Whether it can be: a delta stands on something, all else on nothing.
    pub(super) fn fits(&self) -> bool {
        match self.form {
            Form::Plain => self.len == self.body_len,
            Form::Patch | Form::Prefix => {
                Kind::OF_DELTAS.contains(&self.kind) && self.depth > 0 && self.len <= PLAIN_MAX
            }
        }
    }
}

/// A frame that is compressed and not yet in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How the payload lies.
    pub codec: Codec,
    /// Whether a blob table ends the payload; without, it is one plain chunk.
    pub table: bool,
    /// Bytes of the decoded payload.
    pub plain_len: u32,
    /// The blobs in it.
    pub parts: Vec<Part>,
    /// As it lies.
    pub payload: Vec<u8>,
}

/// Encodes one plain chunk, which has a frame of its own and no table.
pub fn encode_chunk(plain: &[u8], compressor: &mut zstd::bulk::Compressor<'_>) -> Frame {
    let (codec, payload) = compress(plain, compressor);
    Frame {
        codec,
        table: false,
        plain_len: plain.len() as u32,
        parts: vec![Part::plain(Kind::Chunk, plain.len())],
        payload,
    }
}

/// Encodes the concatenated bodies of `parts`, to which their table is appended.
///
/// # Panics
/// When `parts` do not add up to `bodies`, or there are none or too many.
pub fn encode(
    parts: Vec<Part>,
    mut bodies: Vec<u8>,
    compressor: &mut zstd::bulk::Compressor<'_>,
) -> Frame {
    let total: usize = parts.iter().map(|p| p.body_len as usize).sum();
    assert_eq!(
        total,
        bodies.len(),
        "the bodies of a frame make up its payload"
    );
    assert!(!parts.is_empty() && parts.len() <= usize::from(u16::MAX));
    append_table(&parts, &mut bodies);
    let (codec, payload) = compress(&bodies, compressor);
    Frame {
        codec,
        table: true,
        plain_len: bodies.len() as u32,
        parts,
        payload,
    }
}

/// What compression does not shrink by a sixteenth is not worth decoding.
fn compress(plain: &[u8], compressor: &mut zstd::bulk::Compressor<'_>) -> (Codec, Vec<u8>) {
    match compressor.compress(plain) {
        Ok(payload) if payload.len() + plain.len() / 16 < plain.len() => (Codec::Zstd, payload),
        _ => (Codec::Raw, plain.to_vec()),
    }
}

/// The columns of a table, of which only the last has a length that is known beforehand.
fn append_table(parts: &[Part], out: &mut Vec<u8>) {
    let deltas = || parts.iter().filter(|p| p.form != Form::Plain);
    deltas().for_each(|p| out.extend_from_slice(&p.base));
    out.extend(deltas().map(|p| p.depth));
    out.extend(parts.iter().flat_map(|p| p.len.to_le_bytes()));
    out.extend(parts.iter().flat_map(|p| p.body_len.to_le_bytes()));
    out.extend(parts.iter().map(Part::kind_and_form));
}

impl Frame {
    /// Seals the payload, and gives the bytes that go into a pack.
    pub fn finish(mut self, seal: Option<(&Seal, Origin)>) -> Vec<u8> {
        let mut flags = if self.table { TABLE } else { 0 };
        let mut origin_bytes = Vec::new();
        if let Some((seal, origin)) = seal {
            flags |= SEALED;
            let header = FrameHeader {
                codec: self.codec,
                flags,
                blobs: self.parts.len() as u16,
                plain_len: self.plain_len,
                stored_len: (self.payload.len() + TAG_LEN) as u32,
                check: [0; 4],
            };
            seal.seal_frame(&origin, &header.associated(), &mut self.payload);
            origin_bytes.extend_from_slice(&origin.encode());
        }
        let mut hashed = blake3::Hasher::new();
        hashed.update(&origin_bytes).update(&self.payload);
        let header = FrameHeader {
            codec: self.codec,
            flags,
            blobs: self.parts.len() as u16,
            plain_len: self.plain_len,
            stored_len: self.payload.len() as u32,
            check: hashed.finalize().as_bytes()[..4]
                .try_into()
                .expect("4 of 32"),
        };
        let mut bytes = Vec::with_capacity(HEADER_LEN + origin_bytes.len() + self.payload.len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&origin_bytes);
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// What the header of a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload lies.
    pub codec: Codec,
    flags: u8,
    /// Number of blobs.
    pub blobs: u16,
    /// Bytes when decoded.
    pub plain_len: u32,
    /// Bytes as it lies.
    pub stored_len: u32,
    /// Guards origin and payload.
    pub check: [u8; 4],
}

impl FrameHeader {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..4].copy_from_slice(MAGIC);
        out[4] = self.codec as u8;
        out[5] = self.flags;
        out[6..8].copy_from_slice(&self.blobs.to_le_bytes());
        out[8..12].copy_from_slice(&self.plain_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        out[16..20].copy_from_slice(&self.check);
        out
    }

    /// Decodes the first [`HEADER_LEN`] bytes of a frame.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let head: &[u8; HEADER_LEN] = bytes
            .get(..HEADER_LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or("is shorter than a frame header")?;
        if &head[..4] != MAGIC {
            return Err("is not a frame".into());
        }
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let header = FrameHeader {
            codec: Codec::from_u8(head[4]).ok_or_else(|| format!("has the codec {}", head[4]))?,
            flags: head[5],
            blobs: u16::from_le_bytes([head[6], head[7]]),
            plain_len: u32_at(8),
            stored_len: u32_at(12),
            check: head[16..20].try_into().expect("4 bytes"),
        };
        if header.flags & !(SEALED | TABLE) != 0 {
            return Err(format!("has flags {:#x} that are not known", head[5]));
        }
        if header.blobs == 0 || header.plain_len > PLAIN_MAX || header.stored_len > PLAIN_MAX {
            return Err("has lengths out of range".into());
        }
        if !header.has_table() && header.blobs != 1 {
            return Err("has several blobs and no table of them".into());
        }
        Ok(header)
    }

    /// Whether a blob table ends the payload.
    pub fn has_table(&self) -> bool {
        self.flags & TABLE != 0
    }

    /// Whether origin and tag are there.
    pub fn is_sealed(&self) -> bool {
        self.flags & SEALED != 0
    }

    /// Bytes between the beginning of the frame and its payload.
    pub fn payload_at(&self) -> usize {
        payload_at(self.is_sealed())
    }

    /// What the seal of a frame vouches for beside its payload: the header without its check.
    fn associated(&self) -> [u8; HEADER_LEN] {
        FrameHeader {
            check: [0; 4],
            ..self.clone()
        }
        .encode()
    }

    /// The blobs of a payload that is decoded; their bodies lie in this order from its beginning.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parts(&self, plain: &[u8]) -> Result<Vec<Part>, String> {
        if !self.has_table() {
            return Ok(vec![Part::plain(Kind::Chunk, plain.len())]);
        }
        let unfit = || "has a blob table that does not fit its payload".to_owned();
        let n = usize::from(self.blobs);
        let mut rest = plain;
        let mut column = |len| take_last(&mut rest, len).ok_or_else(unfit);
        let kinds = column(n)?;
        let deltas = deltas_of(kinds);
        let body_lens = column(4 * n)?;
        let lens = column(4 * n)?;
        let depths = column(deltas)?;
        let bases = column(BASE_LEN * deltas)?;
        let parts = decode_parts(kinds, lens, body_lens, depths, bases)?;
        let total: u64 = parts.iter().map(|p| u64::from(p.body_len)).sum();
        if total != rest.len() as u64 {
            return Err(unfit());
        }
        Ok(parts)
    }
}

fn take_last<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (before, column) = rest.split_at(rest.len().checked_sub(len)?);
    *rest = before;
    Some(column)
}

/// How many of these blobs, by their kind and form, stand on a base.
pub(super) fn deltas_of(kinds: &[u8]) -> usize {
    kinds.iter().filter(|byte| **byte >> 4 != 0).count()
}

/// Bytes between the beginning of a frame and its payload.
pub fn payload_at(sealed: bool) -> usize {
    HEADER_LEN + if sealed { ORIGIN_LEN } else { 0 }
}

/// Bytes of the table that ends the payload of a frame with these blobs.
pub fn table_len(parts: impl Iterator<Item = Form>) -> usize {
    parts
        .map(|form| ROW_LEN + if form == Form::Plain { 0 } else { DELTA_LEN })
        .sum()
}

/// Puts the columns of a table together; frames and directories have the same.
///
/// # Errors
/// Says what is wrong.
pub(super) fn decode_parts(
    kinds: &[u8],
    lens: &[u8],
    body_lens: &[u8],
    depths: &[u8],
    bases: &[u8],
) -> Result<Vec<Part>, String> {
    let (lens, _) = lens.as_chunks::<4>();
    let (body_lens, _) = body_lens.as_chunks::<4>();
    let (bases, _) = bases.as_chunks::<BASE_LEN>();
    let mut deltas = depths.iter().zip(bases);
    let mut parts = Vec::with_capacity(kinds.len());
    for ((kind, len), body_len) in kinds.iter().zip(lens).zip(body_lens) {
        let form = Form::from_u8(kind >> 4)
            .ok_or_else(|| format!("has a blob of the unknown form {}", kind >> 4))?;
        let mut part = Part {
            form,
            body_len: u32::from_le_bytes(*body_len),
            ..Part::plain(
                Kind::from_u8(kind & 15)
                    .ok_or_else(|| format!("has a blob of kind {}", kind & 15))?,
                u32::from_le_bytes(*len) as usize,
            )
        };
        if form != Form::Plain {
            let (depth, base) = deltas.next().ok_or("has more deltas than bases")?;
            (part.depth, part.base) = (*depth, *base);
        }
        if !part.fits() {
            return Err("has a blob that cannot be".to_owned());
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Decodes the frame that begins `bytes`, as far as its payload.
///
/// # Errors
/// Says what is wrong.
pub fn open(bytes: &[u8], seal: Option<&Seal>) -> Result<(FrameHeader, Vec<u8>), String> {
    let header = FrameHeader::decode(bytes)?;
    let end = header.payload_at() + header.stored_len as usize;
    let stored = bytes
        .get(header.payload_at()..end)
        .ok_or("is cut short")?
        .to_vec();
    let stored = match seal {
        Some(seal) => unseal(&bytes[..header.payload_at()], stored, seal)?,
        None if header.is_sealed() => return Err("is sealed, and the key is not known".into()),
        None => stored,
    };
    Ok((header, stored))
}

/// Opens a sealed payload; `head` is what lies before it.
///
/// # Errors
/// Says what is wrong.
pub fn unseal(head: &[u8], mut payload: Vec<u8>, seal: &Seal) -> Result<Vec<u8>, String> {
    let header = FrameHeader::decode(head)?;
    let origin: &[u8; ORIGIN_LEN] = head
        .get(HEADER_LEN..)
        .filter(|_| header.is_sealed())
        .and_then(|b| b.try_into().ok())
        .ok_or("is not sealed, in a repository that is")?;
    seal.open_frame(&Origin::decode(origin), &header.associated(), &mut payload)
        .map_err(|e| e.to_string())?;
    Ok(payload)
}

/// Whether the check of a frame's header holds for what follows the header.
pub fn check_holds(header: &FrameHeader, rest: &[u8]) -> bool {
    short_hash::<4>(rest) == header.check
}

/// Decodes a payload into `plain`, which is cleared first.
///
/// # Errors
/// Says what is wrong.
pub fn decode_payload(
    codec: Codec,
    payload: &[u8],
    plain_len: u32,
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    plain: &mut Vec<u8>,
) -> Result<(), String> {
    plain.clear();
    if plain_len > PLAIN_MAX {
        return Err("has lengths out of range".into());
    }
    match codec {
        Codec::Raw => plain.extend_from_slice(payload),
        Codec::Zstd => {
            plain.reserve(plain_len as usize);
            decompressor
                .decompress_to_buffer(payload, plain)
                .map_err(|e| format!("does not decompress: {e}"))?;
        }
    }
    if plain.len() != plain_len as usize {
        return Err(format!(
            "decodes to {} bytes, {plain_len} expected",
            plain.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::hex;
    use crate::seal::MasterKey;
    use proptest::prelude::*;

    fn back(frame: &[u8], seal: Option<&Seal>) -> Result<(Vec<Part>, Vec<u8>), String> {
        let (header, payload) = open(frame, seal)?;
        if !check_holds(&header, &frame[HEADER_LEN..]) {
            return Err("check".into());
        }
        let mut plain = Vec::new();
        let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
        decode_payload(
            header.codec,
            &payload,
            header.plain_len,
            &mut decompressor,
            &mut plain,
        )?;
        let parts = header.parts(&plain)?;
        plain.truncate(parts.iter().map(|p| p.body_len as usize).sum());
        Ok((parts, plain))
    }

    fn compressor() -> zstd::bulk::Compressor<'static> {
        zstd::bulk::Compressor::new(1).unwrap()
    }

    const ORIGIN: Origin = Origin {
        session: [3; 16],
        pack: 1,
        frame: 2,
    };

    fn parts() -> impl Strategy<Value = Vec<(Part, Vec<u8>)>> {
        let blob = (
            1u8..=5,
            0u8..3,
            prop::collection::vec(0u8..4, 0..3000),
            1u8..10,
            any::<[u8; BASE_LEN]>(),
        );
        prop::collection::vec(blob, 1..20).prop_map(|blobs| {
            let part = |(kind, form, body, depth, base): (u8, u8, Vec<u8>, u8, _)| {
                let form = Form::from_u8(form).unwrap();
                let plain = Part::plain(Kind::from_u8(kind).unwrap(), body.len());
                let part = match form {
                    Form::Plain => plain,
                    _ => Part {
                        form,
                        kind: Kind::Chunk,
                        len: 65536,
                        depth,
                        base,
                        ..plain
                    },
                };
                (part, body)
            };
            blobs.into_iter().map(part).collect()
        })
    }

    proptest! {
        #[test]
        fn any_blobs_come_back(blobs in parts(), sealed: bool) {
            let bodies: Vec<u8> = blobs.iter().flat_map(|(_, body)| body.clone()).collect();
            let parts: Vec<Part> = blobs.iter().map(|(part, _)| *part).collect();
            let (seal, _) = Seal::generate("k");
            let seal = sealed.then_some(&seal);
            let frame = encode(parts.clone(), bodies.clone(), &mut compressor())
                .finish(seal.map(|seal| (seal, ORIGIN)));
            prop_assert_eq!(back(&frame, seal), Ok((parts, bodies)));
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..400, bit in 0u8..8, sealed: bool) {
            let plain: Vec<u8> = (0..150u8).collect();
            let parts = vec![Part::plain(Kind::Chunk, 100), Part::plain(Kind::Tree, 50)];
            let (seal, _) = Seal::generate("k");
            let seal = sealed.then_some(&seal);
            let mut frame = encode(parts, plain, &mut compressor())
                .finish(seal.map(|seal| (seal, ORIGIN)));
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            prop_assert!(back(&frame, seal).is_err());
        }

        #[test]
        fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = MAGIC.to_vec();
            framed.extend(&bytes);
            let _ = back(&framed, None);
            if let Ok(header) = FrameHeader::decode(&framed) {
                let _ = header.parts(&bytes);
            }
        }
    }

    /// Whoever holds the storage can make the check fit; `open` does not ask it.
    #[test]
    fn a_sealed_frame_opens_with_its_origin_alone() {
        let (seal, _) = Seal::generate("k");
        let chunk = || encode_chunk(&[7; 500], &mut compressor());
        let frame = chunk().finish(Some((&seal, ORIGIN)));
        assert!(open(&frame, Some(&seal)).is_ok());
        for at in HEADER_LEN..payload_at(true) {
            let mut moved = frame.clone();
            moved[at] ^= 1;
            assert!(open(&moved, Some(&seal)).is_err(), "byte {at}");
        }
        assert!(open(&frame, None).is_err());
        assert_eq!(
            open(&chunk().finish(None), Some(&seal)).err().as_deref(),
            Some("is not sealed, in a repository that is")
        );
    }

    #[test]
    fn what_does_not_shrink_stays_raw() {
        let noise: Vec<u8> = (0..2000u32)
            .flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..4].to_vec())
            .collect();
        assert_eq!(encode_chunk(&noise, &mut compressor()).codec, Codec::Raw);
        let frame = encode_chunk(&[7; 8000], &mut compressor());
        assert_eq!(frame.codec, Codec::Zstd);
        let chunk = (vec![Part::plain(Kind::Chunk, 8000)], vec![7; 8000]);
        assert_eq!(back(&frame.finish(None), None), Ok(chunk));
    }

    /// A frame of every form, not compressed: what zstd makes of it may change.
    fn every_form() -> Frame {
        let delta = |form, base, depth, len, body_len| Part {
            form,
            len,
            depth,
            base: [base; BASE_LEN],
            ..Part::plain(Kind::Chunk, body_len)
        };
        let parts = vec![
            delta(Form::Patch, 0xb1, 2, 0x2000, 3),
            delta(Form::Prefix, 0xb2, 9, 0x1234, 2),
            Part::plain(Kind::Tree, 4),
        ];
        let mut payload = [&[0xa1; 3][..], &[0xa2; 2], &[0xa3; 4]].concat();
        append_table(&parts, &mut payload);
        Frame {
            codec: Codec::Raw,
            table: true,
            plain_len: payload.len() as u32,
            parts,
            payload,
        }
    }

    #[test]
    fn golden() {
        let chunk = encode_chunk(b"a chunk", &mut compressor());
        let bytes = chunk.finish(None);
        insta::assert_snapshot!(hex(&bytes), @"5a465232000001000700000007000000cc96967b61206368756e6b");
        let bytes = every_form().finish(None);
        insta::assert_snapshot!(hex(&bytes), @"5a465232000203003600000036000000103909bca1a1a1a2a2a3a3a3a3b1b1b1b1b1b1b1b1b2b2b2b2b2b2b2b20209002000003412000004000000030000000200000004000000112103");
        let (parts, _) = back(&bytes, None).unwrap();
        assert_eq!(parts, every_form().parts);
        let seal = Seal::new(&MasterKey::from_hex(&"42".repeat(32)).unwrap(), "k");
        let bytes = every_form().finish(Some((&seal, ORIGIN)));
        insta::assert_snapshot!(hex(&bytes), @"5a46523200030300360000004600000062afe028030303030303030303030303030303030100000002000000c1a5e3c4cf092d5c866409e2b6164aaa557121aea33794f11ea3503bdf744eedb5f20a301af937a814cdd0eadd23b7e0516e4efa29cdc380a7b83b4f3976c3de4231daa60b0e");
        assert_eq!(back(&bytes, Some(&seal)).unwrap().0, every_form().parts);
    }
}
