//! Names of stored things: BLAKE3 of their plain bytes, under a context or key of each kind.

use std::fmt;
use std::str::FromStr;

/// Length of every id in bytes.
pub const ID_LEN: usize = 32;
/// Length of the beginning of an id by which a delta names its base.
pub const BASE_LEN: usize = 8;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: {LEN} hexadecimal digits expected", LEN = ID_LEN * 2)]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// The first eight hexadecimal digits, as people are shown.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError { text: text.to_owned() })
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| minicbor::decode::Error::message("id of a wrong length"))
            }
        }
    };
}

id_type!(
    /// Names a chunk: an extent of at most the repository's chunk size.
    ChunkId
);
id_type!(
    /// Names a node of an extent map.
    ExtentsId
);
id_type!(
    /// Names a node of a tree.
    TreeId
);
id_type!(
    /// Names a snapshot.
    SnapshotId
);
id_type!(
    /// Names a segment of one of the root's tables.
    TableId
);

impl ChunkId {
    /// Stands for a chunk of zeros of any length; nothing is stored for it.
    pub const ZERO: ChunkId = ChunkId([0; ID_LEN]);

    /// Whether this stands for zeros.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// What a blob holds, and so which context its id was derived with. The number is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a file.
    Chunk = 1,
    /// A node of an extent map.
    Extents = 2,
    /// A node of a tree.
    Tree = 3,
    /// A snapshot.
    Snapshot = 4,
    /// A segment of a root's table.
    Table = 5,
}

impl Kind {
    /// Every kind, in the order of its numbers.
    pub const ALL: [Kind; 5] = [
        Kind::Chunk,
        Kind::Extents,
        Kind::Tree,
        Kind::Snapshot,
        Kind::Table,
    ];

    /// Kinds that are stored as differences where that is worth it.
    pub const OF_DELTAS: [Kind; 2] = [Kind::Chunk, Kind::Extents];

    /// The derive_key context of plain ids.
    fn context(self) -> &'static str {
        match self {
            Kind::Chunk => "zenith 2026-11 v1 chunk",
            Kind::Extents => "zenith 2026-11 v1 extents",
            Kind::Tree => "zenith 2026-11 v1 tree",
            Kind::Snapshot => "zenith 2026-11 v1 snapshot",
            Kind::Table => "zenith 2026-11 v1 table",
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Chunk => "chunk",
            Kind::Extents => "extent map node",
            Kind::Tree => "tree node",
            Kind::Snapshot => "snapshot",
            Kind::Table => "table segment",
        }
    }

    /// The kind with this number on disk.
    pub fn from_u8(n: u8) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == n)
    }
}

/// An id of any kind, as packs and the index know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub [u8; ID_LEN]);

impl Id {
    /// The beginning by which deltas name their base.
    pub fn base(&self) -> [u8; BASE_LEN] {
        *self.0.first_chunk().expect("8 of 32 bytes")
    }
}

/// How the ids of a repository are made: BLAKE3 in derive_key mode, or keyed in a sealed one.
#[derive(Clone)]
pub struct Ids {
    /// By the number of the kind − 1. A clone of a prepared hasher spares deriving its key.
    hashers: [blake3::Hasher; Kind::ALL.len()],
}

impl fmt::Debug for Ids {
    /// Keys are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

impl Ids {
    /// Ids that everyone can make: one derive_key context for each kind.
    pub fn plain() -> Ids {
        Ids {
            hashers: Kind::ALL.map(|kind| blake3::Hasher::new_derive_key(kind.context())),
        }
    }

    /// Ids that only who has the keys can make.
    pub fn keyed(key: impl Fn(Kind) -> [u8; 32]) -> Ids {
        Ids {
            hashers: Kind::ALL.map(|kind| blake3::Hasher::new_keyed(&key(kind))),
        }
    }

    /// The id of these plain bytes as a thing of that kind.
    pub fn of(&self, kind: Kind, bytes: &[u8]) -> Id {
        let mut hasher = self.hashers[kind as usize - 1].clone();
        hasher.update(bytes);
        Id(*hasher.finalize().as_bytes())
    }

    /// The id of a chunk.
    pub fn chunk(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(self.of(Kind::Chunk, bytes).0)
    }

    /// The id of a node of an extent map.
    pub fn extents(&self, bytes: &[u8]) -> ExtentsId {
        ExtentsId(self.of(Kind::Extents, bytes).0)
    }

    /// The id of a node of a tree.
    pub fn tree(&self, bytes: &[u8]) -> TreeId {
        TreeId(self.of(Kind::Tree, bytes).0)
    }

    /// The id of a snapshot.
    pub fn snapshot(&self, bytes: &[u8]) -> SnapshotId {
        SnapshotId(self.of(Kind::Snapshot, bytes).0)
    }

    /// The id of a table segment.
    pub fn table(&self, bytes: &[u8]) -> TableId {
        TableId(self.of(Kind::Table, bytes).0)
    }
}

macro_rules! into_id {
    ($($name:ident),*) => { $(
        impl From<$name> for Id { fn from(id: $name) -> Id { Id(id.0) } }
    )* };
}
into_id!(ChunkId, ExtentsId, TreeId, SnapshotId, TableId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..4])
    }
}

/// Names a pack: the session that wrote it and its number there. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
pub struct PackName {
    /// The writer's random session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// Counts from 0 within the session.
    #[n(1)]
    pub number: u32,
}

impl PackName {
    /// `packs/<session>-<n>`, the object's key.
    pub fn key(&self) -> String {
        format!("packs/{self}")
    }

    /// The first six bytes of the session: milliseconds since 1970 when it began, by the clock of
    /// its machine. It only orders sessions; nothing relies on the clock being right.
    pub fn label(&self) -> u64 {
        let mut label = [0; 8];
        label[2..].copy_from_slice(&self.session[..6]);
        u64::from_be_bytes(label)
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.session)?;
        write!(f, "-{}", self.number)
    }
}

impl fmt::Debug for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PackName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError {
            text: text.to_owned(),
        };
        let (session, number) = text.split_once('-').ok_or_else(bad)?;
        let name = PackName {
            session: parse_hex(session).ok_or_else(bad)?,
            number: number.parse().map_err(|_| bad())?,
        };
        // One spelling only, so that a name and its key are one to one.
        match name.to_string() == text {
            true => Ok(name),
            false => Err(bad()),
        }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for b in bytes {
        write!(f, "{b:02x}")?;
    }
    Ok(())
}

/// The `N` bytes that `2 N` hexadecimal digits stand for.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_different_kinds_differ() {
        let of = |ids: Ids| Kind::ALL.map(|kind| ids.of(kind, b"same bytes"));
        let keyed = |n: u8| Ids::keyed(move |kind| [n + kind as u8; 32]);
        let ids: std::collections::HashSet<Id> = of(Ids::plain())
            .into_iter()
            .chain(of(keyed(0)))
            .chain(of(keyed(100)))
            .collect();
        assert_eq!(ids.len(), 15);
    }

    #[test]
    fn names_survive_their_text() {
        let id = Ids::plain().chunk(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        let pack = PackName {
            session: [0xab; 16],
            number: 7,
        };
        assert_eq!(pack.to_string().parse(), Ok(pack));
        for bad in [
            "",
            "abc",
            "zz-1",
            &format!("{}-07", hex(&[1; 16])),
            &format!("{}-+7", hex(&[1; 16])),
            &format!("{}-7", hex(&[0xab; 16]).to_uppercase()),
            &format!("{}-7", "+f".repeat(16)),
            &hex(&[1; 16]),
        ] {
            assert!(bad.parse::<PackName>().is_err(), "{bad}");
        }
    }

    /// A changed context would make every stored id unreadable.
    #[test]
    fn golden() {
        insta::assert_snapshot!(
            Kind::ALL
                .map(|k| format!("{k:?} {}", Ids::plain().of(k, b"zenith")))
                .join("\n"),
            @r"
        Chunk 80cb6fc04e6508801a0bf7ef58bb6fdbf80290b04f127c9fefc283ae209b4afe
        Extents 4e26fba8038675843cc6213725160807ef68bfb00e13f4ea8cb26f50ad81d7d7
        Tree 1e6ce520ac8b3bbd0afebafebc0498a60c14f0987d474fcfd223c5eaff7be20e
        Snapshot c4199a84d67452539e917d57e7914b3bcbdf4b79051d0d62817ac1124c4e42c5
        Table 1997d2f3300c1b0ecd823b7b42569ca06c3f39d4d8e64f0c09cc61f4f9e4a6a4
        "
        );
    }
}
