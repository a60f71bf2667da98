//! Names of stored things: BLAKE3 of their plain bytes, one derive_key context per kind.

use std::fmt;
use std::str::FromStr;

/// Length of every id in bytes.
pub const ID_LEN: usize = 32;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: {LEN} hexadecimal digits expected", LEN = ID_LEN * 2)]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $context:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// The id of these plain bytes.
            pub fn of(bytes: &[u8]) -> Self {
                // The context key costs one compression; deriving it once per process is enough.
                static BASE: std::sync::OnceLock<blake3::Hasher> = std::sync::OnceLock::new();
                let mut hasher =
                    BASE.get_or_init(|| blake3::Hasher::new_derive_key($context)).clone();
                hasher.update(bytes);
                Self(*hasher.finalize().as_bytes())
            }

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
    ChunkId,
    "zenith 2026-11 v1 chunk"
);
id_type!(
    /// Names a node of an extent map.
    ExtentsId,
    "zenith 2026-11 v1 extents"
);
id_type!(
    /// Names a node of a tree.
    TreeId,
    "zenith 2026-11 v1 tree"
);
id_type!(
    /// Names a snapshot.
    SnapshotId,
    "zenith 2026-11 v1 snapshot"
);
id_type!(
    /// Names a segment of one of the root's tables.
    TableId,
    "zenith 2026-11 v1 table"
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
    /// The kind with this number on disk.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Kind::Chunk,
            2 => Kind::Extents,
            3 => Kind::Tree,
            4 => Kind::Snapshot,
            5 => Kind::Table,
            _ => return None,
        })
    }
}

/// An id of any kind, as packs and the index know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub [u8; ID_LEN]);

impl Id {
    /// The id of these plain bytes as a thing of that kind.
    pub fn of(kind: Kind, bytes: &[u8]) -> Id {
        match kind {
            Kind::Chunk => ChunkId::of(bytes).into(),
            Kind::Extents => ExtentsId::of(bytes).into(),
            Kind::Tree => TreeId::of(bytes).into(),
            Kind::Snapshot => SnapshotId::of(bytes).into(),
            Kind::Table => TableId::of(bytes).into(),
        }
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
        // One spelling only, so that a name and its key are one to one.
        if number.is_empty() || (number.len() > 1 && number.starts_with('0')) {
            return Err(bad());
        }
        Ok(PackName {
            session: parse_hex(session).ok_or_else(bad)?,
            number: number.parse().map_err(|_| bad())?,
        })
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
        let ids: std::collections::HashSet<Id> = [
            Kind::Chunk,
            Kind::Extents,
            Kind::Tree,
            Kind::Snapshot,
            Kind::Table,
        ]
        .map(|kind| Id::of(kind, b"same bytes"))
        .into();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn names_survive_their_text() {
        let id = ChunkId::of(b"x");
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
            &hex(&[1; 16]),
        ] {
            assert!(bad.parse::<PackName>().is_err(), "{bad}");
        }
    }

    /// A changed context would make every stored id unreadable.
    #[test]
    fn golden() {
        insta::assert_snapshot!(
            [Kind::Chunk, Kind::Extents, Kind::Tree, Kind::Snapshot, Kind::Table]
                .map(|k| format!("{k:?} {}", Id::of(k, b"zenith")))
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
