//! A snapshot: an immutable commit of one tree.

use super::Malformed;
use crate::id::{SnapshotId, TreeId};
use minicbor::{Decode, Encode};

/// A moment and the clock it was read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
pub struct Time {
    /// Microseconds since 1970-01-01 00:00 UTC.
    #[n(0)]
    pub unix_micros: i64,
    /// What the local time was ahead of UTC, in seconds.
    #[n(1)]
    pub offset_secs: i32,
}

macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $n:literal $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// As people and JSON see it.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u8(match self { $($name::$variant => $n),* })?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                match d.u8()? {
                    $($n => Ok($name::$variant),)*
                    n => Err(minicbor::decode::Error::message(format!(
                        "{} {n} is not known", stringify!($name)
                    ))),
                }
            }
        }
    };
}

byte_enum!(
    /// Why a snapshot was taken.
    SnapshotKind {
        /// By the agent, because its interval had passed.
        Automatic = 0 "automatic",
        /// By a person.
        Manual = 1 "manual",
        /// Of a cluster that came from elsewhere.
        Import = 2 "import",
        /// When the server was stopped.
        Final = 3 "final",
        /// Before something else would have overwritten the cluster.
        Safety = 4 "safety",
        /// Of a new cluster.
        Init = 5 "init",
    }
);

byte_enum!(
    /// What state the cluster was in.
    SnapshotSource {
        /// A running primary.
        Online = 0 "online",
        /// A stopped cluster.
        Offline = 1 "offline",
        /// A running standby.
        Standby = 2 "standby",
        /// A base backup that came as files or as a stream.
        Remote = 3 "remote",
    }
);

/// A snapshot. What only PostgreSQL people know is in `body`, which the store does not read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// Of this record.
    #[n(0)]
    pub version: u16,
    /// Root of the tree.
    #[n(1)]
    pub tree: TreeId,
    /// What it was made from; may be gone.
    #[n(2)]
    pub parents: Vec<SnapshotId>,
    /// When it was begun.
    #[n(3)]
    pub time: Time,
    /// On which machine.
    #[n(4)]
    pub host: String,
    /// What its maker said.
    #[n(5)]
    pub message: String,
    /// Why it was taken.
    #[n(6)]
    pub kind: SnapshotKind,
    /// From what.
    #[n(7)]
    pub source: SnapshotSource,
    /// Version of the program that took it.
    #[n(8)]
    pub tool: String,
    /// Number of files.
    #[n(9)]
    pub files: u64,
    /// Plain bytes of all files.
    #[n(10)]
    pub size: u64,
    /// The engine's part.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

/// Version that this program writes.
pub const VERSION: u16 = 1;

impl Snapshot {
    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into memory has no errors")
    }

    /// The snapshot in these bytes.
    ///
    /// # Errors
    /// When they are not one, or a newer one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let snapshot: Snapshot = minicbor::decode(bytes)?;
        if snapshot.version != VERSION {
            return Err(Malformed(format!(
                "snapshot version {} is not known",
                snapshot.version
            )));
        }
        Ok(snapshot)
    }
}

#[cfg(test)]
pub(crate) fn sample(tree: TreeId) -> Snapshot {
    Snapshot {
        version: VERSION,
        tree,
        parents: vec![SnapshotId([3; 32])],
        time: Time {
            unix_micros: 1_763_800_000_000_000,
            offset_secs: 3600,
        },
        host: "db1".into(),
        message: "before migration 42".into(),
        kind: SnapshotKind::Manual,
        source: SnapshotSource::Online,
        tool: "0.1.0".into(),
        files: 3,
        size: 70_000,
        body: vec![1, 2, 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back() {
        let snapshot = sample(TreeId([9; 32]));
        let bytes = snapshot.encode();
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
        assert!(Snapshot::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let snapshot = sample(TreeId([9; 32]));
        let mut bytes = snapshot.encode();
        // The map of 12 becomes one of 13 with a key that nobody knows.
        assert_eq!(bytes[0], 0xac);
        bytes[0] = 0xad;
        bytes.extend_from_slice(&[0x18, 99, 0x63, b'n', b'e', b'w']);
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot);
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut snapshot = sample(TreeId([9; 32]));
        snapshot.version = 2;
        assert!(Snapshot::decode(&snapshot.encode()).is_err());
    }

    #[test]
    fn golden() {
        let bytes = sample(TreeId([9; 32])).encode();
        insta::assert_snapshot!(crate::id::hex(&bytes), @"ac0001015820090909090909090909090909090909090909090909090909090909090909090902815820030303030303030303030303030303030303030303030303030303030303030303821b0006442ab0747000190e10046364623105736265666f7265206d6967726174696f6e203432060107000865302e312e3009030a1a000111700b43010203");
    }
}
