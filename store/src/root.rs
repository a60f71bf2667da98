//! A root: one entry of the commit log. With its tables it is the state of a repository (`state`).
//!
//! A root is written with create-if-absent under the next number; that is the only commit, and
//! the only concurrency primitive. Bytes: docs/format.md.

use crate::id::{PackName, SnapshotId, TreeId};
use crate::index::segment::SegmentRow;
use crate::object::{Malformed, SnapshotKind, Time};
use crate::seal::Seal;
use crate::table::{Inline, Row as TableRow};
use minicbor::{Decode, Encode};
use std::collections::BTreeMap;

/// A root object is never larger.
pub const ROOT_MAX: usize = 64 << 10;
/// A root that would be larger moves its rows to segments first.
pub const SPILL_BYTES: usize = 24 << 10;
/// Refs of more bytes than this are in a table.
pub(crate) const REFS_INLINE: usize = 12 << 10;
/// Bytes that the moves of refs take which one root tells of.
const MOVES_MAX: usize = 12 << 10;
/// What a ref takes beside its name, and what its move takes.
pub(crate) const REF_BYTES: usize = 40;
const MOVE_BYTES: usize = 80;
/// Fewer bytes of rows than this stay: a segment for them would be one more object and no help.
pub(crate) const SPILL_LEAST: usize = 4 << 10;

const MAGIC: &[u8; 8] = b"ZENROOT1";
const SEALED_MAGIC: &[u8; 8] = b"ZENROOTS";
/// Packs of version 2 may be there: who does not know them can't read.
pub(crate) const PACKS_2: &str = "packs 2";
/// Packs may be condemned: who does not know that would not rescue what it uses, and may not write.
pub(crate) const CONDEMNED: &str = "condemned 1";
/// Usage lists may go on from the row before of their line: who does not know that reads them
/// wrongly.
pub(crate) const LINES: &str = "usage lines 1";
/// Usage lists of removed rows may be differences: who does not know that may not bring one back.
pub(crate) const REMOVED_2: &str = "removed 2";
/// Refs may be in a table: who does not look for it sees none.
pub(crate) const REF_TABLE: &str = "ref table 1";
/// One home alone writes: who does not look for it may not write.
pub(crate) const SINGLE_WRITER: &str = "single writer 1";
pub(crate) const VERSION: u16 = 1;
pub(crate) const HASH_LEN: usize = 32;

/// What was done, by whom: the root log is the operation log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Operation {
    /// One word: `snapshot`, `push`, `delete`, …
    #[n(0)]
    pub verb: String,
    /// On what, for people.
    #[n(1)]
    pub detail: String,
    /// `user@host`.
    #[n(2)]
    pub who: String,
    /// When.
    #[n(3)]
    pub time: Time,
    /// Refs that it moved; filled in by the commit.
    #[n(4)]
    pub refs: Vec<RefChange>,
    /// Snapshots that it took out of the table; filled in by the commit.
    #[n(5)]
    pub removed: Vec<SnapshotId>,
    /// Snapshots that it put into the table; filled in by the commit.
    #[n(6)]
    pub added: Vec<SnapshotId>,
    /// Where the home went, which no ref says.
    #[n(7)]
    pub head: Option<HeadMove>,
}

/// A home that went elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HeadMove {
    /// Where it was.
    #[n(0)]
    pub from: Stand,
    /// Where it is.
    #[n(1)]
    pub to: Stand,
}

/// Where a home stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stand {
    /// As the home itself says it.
    #[n(0)]
    pub head: String,
    /// The snapshot that is all of what the home works on; none where that is not known, or did
    /// not go along.
    #[n(1)]
    pub holds: Option<SnapshotId>,
}

/// A ref to be moved from where the caller saw it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RefChange {
    /// Full name: `branch/main`, `tag/v1`, `remote/origin/main`.
    #[n(0)]
    pub name: String,
    /// Where the caller saw it; none: it did not exist.
    #[n(1)]
    pub from: Option<SnapshotId>,
    /// Where it goes; none: it is deleted.
    #[n(2)]
    pub to: Option<SnapshotId>,
}

impl RefChange {
    /// The same in parts, each of which one root can tell of.
    pub fn batches(changes: &[RefChange]) -> Vec<&[RefChange]> {
        let (mut batches, mut from, mut bytes) = (Vec::new(), 0, 0);
        for (at, change) in changes.iter().enumerate() {
            bytes += change.name.len() + MOVE_BYTES;
            if bytes > MOVES_MAX && at > from {
                batches.push(&changes[from..at]);
                (from, bytes) = (at, change.name.len() + MOVE_BYTES);
            }
        }
        if from < changes.len() {
            batches.push(&changes[from..]);
        }
        batches
    }
}

/// A ref in the table of refs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RefRow {
    /// Its number in the table, without meaning.
    #[n(0)]
    pub number: u64,
    /// Its full name.
    #[n(1)]
    pub name: String,
    /// Where it is.
    #[n(2)]
    pub at: SnapshotId,
}

impl TableRow for RefRow {
    fn key(&self) -> u64 {
        self.number
    }
}

/// A pack that snapshots use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PackRow {
    /// By which usage lists name it; never used again.
    #[n(0)]
    pub ordinal: u64,
    /// Its name.
    #[n(1)]
    pub name: PackName,
    /// Its bytes.
    #[n(2)]
    pub len: u64,
    /// One of [`PackRow::LIVE`] and the others.
    #[n(3)]
    pub state: u8,
    /// Number of the root that gave it that state.
    #[n(4)]
    pub since: u64,
    /// When that was, in seconds since 1970; a hint for when to go on, never a proof.
    #[n(5)]
    pub at: Option<i64>,
}

impl PackRow {
    /// Snapshots may use it.
    pub const LIVE: u8 = 0;
    /// No snapshot uses it; one that does again rescues it with the same commit.
    pub const CONDEMNED: u8 = 1;
    /// It is about to be deleted and never comes back; nor does its name.
    pub const DEAD: u8 = 2;
    /// It was deleted; the row keeps its name from being used again.
    pub const DELETED: u8 = 3;

    /// Whether its object is there to be read.
    pub fn is_there(&self) -> bool {
        self.state <= PackRow::CONDEMNED
    }
}

impl TableRow for PackRow {
    fn key(&self) -> u64 {
        self.ordinal
    }
}

/// A snapshot that exists, with what lists and collection must know of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Row {
    /// Counts commits; the order of the table.
    #[n(0)]
    pub serial: u64,
    /// The snapshot.
    #[n(1)]
    pub id: SnapshotId,
    /// Its tree.
    #[n(2)]
    pub tree: TreeId,
    /// What it was made from; may be gone.
    #[n(3)]
    pub parents: Vec<SnapshotId>,
    /// When it was begun.
    #[n(4)]
    pub time: Time,
    /// Why it was taken.
    #[n(5)]
    pub kind: SnapshotKind,
    /// What its maker said.
    #[n(6)]
    pub message: String,
    /// Plain bytes of all files.
    #[n(7)]
    pub size: u64,
    /// Stored bytes that came with it.
    #[n(8)]
    pub new_bytes: u64,
    /// The engine's part, opaque.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub summary: Vec<u8>,
    /// Packs it uses, as a difference to the row before of the same line: ordinal → bytes, 0 for no
    /// longer.
    #[n(10)]
    pub usage: BTreeMap<u64, u64>,
    /// Its parents as the snapshot itself names them, where `parents` goes over removed ones.
    #[n(11)]
    pub made_from: Option<Vec<SnapshotId>>,
    /// The line it belongs to: snapshots that go back to one, whose usage is much alike.
    #[n(12)]
    pub line: Option<u64>,
}

impl Row {
    /// Goes on from other parents, because some were removed or are back.
    pub(crate) fn go_on_from(&mut self, parents: Vec<SnapshotId>) {
        let before = std::mem::replace(&mut self.parents, parents);
        let made_from = self.made_from.take().unwrap_or(before);
        self.made_from = Some(made_from).filter(|made_from| *made_from != self.parents);
    }
}

impl TableRow for Row {
    fn key(&self) -> u64 {
        self.serial
    }
}

/// A snapshot that was taken out of the table, kept for undo as long as its packs are there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Removed {
    /// Its row. The usage is a difference to the removed row before of the same line, or whole.
    #[n(0)]
    pub row: Row,
    /// Number of the root that removed it.
    #[n(1)]
    pub since: u64,
    /// Rows that named it as a parent and go on from its parents instead.
    #[n(2)]
    pub children: Vec<SnapshotId>,
    /// Whether the usage is a difference.
    #[n(3)]
    pub is_difference: Option<bool>,
    /// When it was removed, by the clock of who did it: seconds since 1970.
    #[n(4)]
    pub at: Option<i64>,
}

impl TableRow for Removed {
    fn key(&self) -> u64 {
        self.row.serial
    }
}

/// A session whose new packs may never be committed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fence {
    /// Which.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
}

/// A root as it lies.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Root {
    /// Of this record.
    #[n(0)]
    pub version: u16,
    /// Of which repository, 32 hexadecimal digits.
    #[n(1)]
    pub repository: String,
    /// Its place in the log.
    #[n(2)]
    pub seq: u64,
    /// BLAKE3 of the root object before it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub previous: Option<[u8; HASH_LEN]>,
    /// Tells one's own root from another's after an ambiguous answer.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// Features that change nothing for who does not know them.
    #[n(5)]
    pub compatible: Vec<String>,
    /// Features without which writing is refused.
    #[n(6)]
    pub read_only: Vec<String>,
    /// Features without which reading is refused.
    #[n(7)]
    pub incompatible: Vec<String>,
    /// What this root did.
    #[n(8)]
    pub operation: Operation,
    /// Every ref, unless there is a table of them.
    #[n(9)]
    pub refs: BTreeMap<String, SnapshotId>,
    /// Every snapshot.
    #[n(10)]
    pub snapshots: Inline<Row>,
    /// Every pack that they use.
    #[n(11)]
    pub packs: Inline<PackRow>,
    /// The next ordinal of a pack.
    #[n(12)]
    pub next_pack: u64,
    /// The next serial of a snapshot.
    #[n(13)]
    pub next_snapshot: u64,
    /// Sessions whose new packs may never be committed.
    #[n(14)]
    pub fences: Vec<Fence>,
    /// Snapshots that were removed, for undo.
    #[n(15)]
    pub removed: Option<Inline<Removed>>,
    /// Sessions with a label below this are fenced, too (milliseconds since 1970; see
    /// [`PackName::label`]).
    #[n(16)]
    pub floor: Option<u64>,
    /// The home that alone may write, where the storage cannot keep two apart.
    #[n(17)]
    pub writer: Option<String>,
    /// Index segments: copies of what packs say.
    #[n(18)]
    pub index: Option<Inline<SegmentRow>>,
    /// Every ref, where there are many.
    #[n(19)]
    pub ref_table: Option<Inline<RefRow>>,
}

impl Root {
    /// `roots/<seq>`.
    pub fn key(seq: u64) -> String {
        format!("roots/{seq:020}")
    }

    /// The stored bytes.
    pub fn encode(&self, seal: Option<&Seal>) -> Vec<u8> {
        let body = minicbor::to_vec(self).expect("encoding into memory has no errors");
        let mut out = match seal {
            Some(seal) => {
                let sealed = seal.seal_object(&Root::key(self.seq), &body);
                [&SEALED_MAGIC[..], &sealed].concat()
            }
            None => [&MAGIC[..], &body].concat(),
        };
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// The root in these bytes, which lie under the number `seq`; a sealed one is bound to that.
    ///
    /// # Errors
    /// When they are damaged, sealed with another key, or written by a newer program.
    pub fn decode(bytes: &[u8], seq: u64, seal: Option<&Seal>) -> Result<Self, Malformed> {
        let (content, hash) = bytes
            .split_last_chunk::<HASH_LEN>()
            .ok_or_else(|| Malformed("it is shorter than its hash".into()))?;
        if blake3::hash(content).as_bytes() != hash {
            return Err(Malformed("it has another hash".into()));
        }
        let (magic, body) = content
            .split_first_chunk::<8>()
            .ok_or_else(|| Malformed("it is shorter than its beginning".into()))?;
        let opened;
        let body = match (magic, seal) {
            (MAGIC, None) => body,
            (SEALED_MAGIC, Some(seal)) => {
                opened = seal
                    .open_object(&Root::key(seq), body)
                    .map_err(|e| Malformed(format!("it {e}")))?;
                &opened
            }
            (MAGIC, Some(_)) => {
                return Err(Malformed("it is not sealed, as all others are".into()));
            }
            _ => return Err(Malformed("it does not begin like a root".into())),
        };
        Ok(minicbor::decode(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    /// Who knows nothing of where homes go skips it, and roots from before do not have it.
    #[test]
    fn where_a_home_went_is_optional() {
        let stand = |head: &str, n: Option<u8>| Stand {
            head: head.into(),
            holds: n.map(|n| SnapshotId([n; 32])),
        };
        let mut operation = Operation {
            verb: "checkout".into(),
            ..Operation::default()
        };
        let before = minicbor::to_vec(&operation).unwrap();
        assert_eq!(before[0], 0xa7);
        assert_eq!(minicbor::decode::<Operation>(&before).unwrap(), operation);
        operation.head = Some(HeadMove {
            from: stand("ref: branch/main", Some(0x11)),
            to: stand("a", None),
        });
        let bytes = minicbor::to_vec(&operation).unwrap();
        assert_eq!(minicbor::decode::<Operation>(&bytes).unwrap(), operation);
        let shown = crate::id::hex(&bytes[before.len()..]);
        insta::assert_snapshot!(shown, @"07a200a200707265663a206272616e63682f6d61696e015820111111111111111111111111111111111111111111111111111111111111111101a1006161");
    }

    /// Whoever holds the storage can make the hash fit, and give a root another number.
    #[test]
    fn a_sealed_root_opens_under_its_number_alone() {
        let (seal, _) = Seal::generate("k");
        let root = State::empty("r".into(), [0; 16], Operation::default()).root;
        let (sealed, clear) = (root.encode(Some(&seal)), root.encode(None));
        assert!(Root::decode(&sealed, 0, Some(&seal)).is_ok());
        assert!(Root::decode(&clear, 0, None).is_ok());
        assert!(Root::decode(&sealed, 1, Some(&seal)).is_err());
        assert!(Root::decode(&sealed, 0, Some(&Seal::generate("k").0)).is_err());
        assert!(Root::decode(&sealed, 0, None).is_err());
        let error = Root::decode(&clear, 0, Some(&seal)).err().unwrap();
        assert!(error.0.contains("is not sealed"), "{}", error.0);
    }
}
