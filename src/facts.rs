//! The PostgreSQL part of a snapshot: what must be known beyond the bytes of the files.
//!
//! [`Facts`] is the body of a snapshot, [`Summary`] the few of them that rows of the snapshot
//! table carry, so that listing and revisions need no snapshot read. Both are CBOR maps with
//! integer keys (docs/format.md): a reader skips keys it does not know, and a key once given is
//! never used for something else.

use minicbor::{Decode, Encode};

use zenith_store::World;

use crate::error::{Error, Result};
use crate::pg::Control;

/// Random, new at every writable checkout.
///
/// A cluster and its writable copy share system identifier and timeline, so an LSN means something
/// only within one lineage. Where a cluster's lineage is kept: see [`crate::lineage`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lineage(pub [u8; 16]);

impl Lineage {
    /// A new one.
    pub fn random(world: &World) -> Lineage {
        Lineage(world.bytes())
    }
}

impl std::fmt::Display for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lineage({self})")
    }
}

impl std::str::FromStr for Lineage {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Lineage(number.to_be_bytes())),
            _ => Err(format!(
                "`{text}` is not a lineage: 32 hexadecimal digits expected"
            )),
        }
    }
}

impl<C> Encode<C> for Lineage {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Lineage {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.bytes()?
            .try_into()
            .map(Lineage)
            .map_err(|_| minicbor::decode::Error::message("lineage of a wrong length"))
    }
}

/// Everything about the cluster that a snapshot records beside its files.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Facts {
    /// Of pg_control.
    #[n(0)]
    pub system_identifier: u64,
    /// Of the cluster the snapshot was taken of.
    #[n(1)]
    pub lineage: Lineage,
    /// 15 to 18.
    #[n(2)]
    pub major: u32,
    /// `PG_CONTROL_VERSION`.
    #[n(3)]
    pub control_version: u32,
    /// `CATALOG_VERSION_NO`.
    #[n(4)]
    pub catalog_version: u32,
    /// Of the machine that wrote the files, as Rust names it: `x86_64`, `aarch64`.
    #[n(5)]
    pub architecture: String,
    /// C library and its version, where it could be told: `glibc 2.36`.
    #[n(6)]
    pub libc: Option<String>,
    /// Text order of each database, when a server could be asked.
    #[n(7)]
    #[cbor(default)]
    pub collations: Vec<Collation>,
    /// Bytes of a page.
    #[n(8)]
    pub block_size: u32,
    /// Pages of a segment file of a relation.
    #[n(9)]
    pub segment_blocks: u32,
    /// Bytes of a page of WAL.
    #[n(10)]
    pub wal_block_size: u32,
    /// Bytes of a WAL segment.
    #[n(11)]
    pub wal_segment_size: u32,
    /// 0 when data pages have no checksums.
    #[n(12)]
    pub checksum_version: u32,
    /// The timeline of the last WAL in the snapshot.
    #[n(13)]
    pub timeline: u32,
    /// The timelines before it, oldest first.
    #[n(14)]
    #[cbor(default)]
    pub history: Vec<TimelineEnd>,
    /// Where replay begins.
    #[n(15)]
    pub start_lsn: u64,
    /// Where the cluster is consistent; after a clean stop the end of its checkpoint record.
    #[n(16)]
    pub stop_lsn: u64,
    /// Of pg_control; 0 when there was none.
    #[n(17)]
    #[cbor(default)]
    pub min_recovery_point: u64,
    /// The last checkpoint of pg_control.
    #[n(18)]
    #[cbor(default)]
    pub checkpoint_lsn: u64,
    /// Tells whether anything changed since.
    #[n(19)]
    pub mark: Option<Mark>,
    /// As `pg_controldata` prints it.
    #[n(20)]
    #[cbor(default)]
    pub cluster_state: String,
    /// Where tablespaces lay.
    #[n(21)]
    #[cbor(default)]
    pub tablespaces: Vec<TablespaceFact>,
    /// `tablespace_map` byte for byte as the server gave it; empty when there was none. It is not
    /// a file of the tree: a checkout makes the links itself.
    #[cbor(n(22), with = "minicbor::bytes", default)]
    pub tablespace_map: Vec<u8>,
    /// `shared_preload_libraries`, split.
    #[n(23)]
    #[cbor(default)]
    pub preload_libraries: Vec<String>,
    /// Configuration that lay outside PGDATA.
    #[n(24)]
    #[cbor(default)]
    pub outside_files: Vec<OutsideFile>,
    /// SHA-256 over names and bytes of configuration files and relation maps.
    #[n(25)]
    pub config_digest: Option<ConfigDigest>,
    /// Names of relations, when a server could be asked.
    #[n(26)]
    #[cbor(default)]
    pub databases: Vec<Database>,
    /// What is not in the tree, and by which rule.
    #[n(27)]
    #[cbor(default)]
    pub left_out: Vec<LeftOut>,
    /// Bytes of WAL in the tree.
    #[n(28)]
    #[cbor(default)]
    pub wal_bytes: u64,
    /// `15.18`, when a server could be asked.
    #[n(29)]
    pub server_version: Option<String>,
    /// ICU of the server, where it has one.
    #[n(30)]
    pub icu: Option<String>,
    /// Pages that were damaged when they were read; nothing when there were none, or no checksums
    /// that would tell.
    #[n(31)]
    pub damage: Option<Damage>,
}

/// Text order of a database.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Collation {
    /// Its name.
    #[n(0)]
    pub database: String,
    /// `libc`, `icu` or `builtin`.
    #[n(1)]
    pub provider: String,
    /// Locale of that provider.
    #[n(2)]
    pub locale: Option<String>,
    /// The version indexes were built with.
    #[n(3)]
    pub version: Option<String>,
}

/// The end of an earlier timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TimelineEnd {
    /// Its number.
    #[n(0)]
    pub timeline: u32,
    /// Where the next one began.
    #[n(1)]
    pub end_lsn: u64,
}

/// What tells whether a cluster changed, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Mark {
    /// `pg_current_snapshot()`; empty on a standby.
    #[n(0)]
    pub xids: String,
    /// Prepared transactions.
    #[n(1)]
    pub prepared: u64,
    /// How far a standby has replayed.
    #[n(2)]
    pub replay_lsn: Option<u64>,
}

/// A tablespace of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TablespaceFact {
    /// Its oid: the name of its link in `pg_tblspc`.
    #[n(0)]
    pub oid: u32,
    /// Where the link led.
    #[n(1)]
    pub location: String,
}

/// A configuration file outside PGDATA, as Debian has them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OutsideFile {
    /// What it would be called in PGDATA: `postgresql.conf`, `pg_hba.conf`, `pg_ident.conf`.
    #[n(0)]
    pub name: String,
    /// Where it lay.
    #[n(1)]
    pub path: String,
    /// Its content.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct ConfigDigest(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

/// A database and what its files are called by people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Database {
    /// Its oid: the name of its directories. 0 holds the shared relations of `global`.
    #[n(0)]
    pub oid: u32,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// In order of `filenode`.
    #[n(2)]
    #[cbor(default)]
    pub relations: Vec<Relation>,
}

/// A relation that has files, or of which the partitions have.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Relation {
    /// The number its files are named by; 0 where it has none of its own.
    #[n(0)]
    pub filenode: u32,
    /// The oid of its tablespace: 1663 is `base`, 1664 `global`.
    #[n(1)]
    pub tablespace: u32,
    /// Its schema.
    #[n(2)]
    pub schema: String,
    /// Its name.
    #[n(3)]
    pub name: String,
    /// `pg_class.relkind`.
    #[n(4)]
    pub kind: char,
    /// Its oid.
    #[n(5)]
    pub oid: u32,
    /// The oid of the table of an index, or of what a TOAST table belongs to.
    #[n(6)]
    pub table: Option<u32>,
    /// The oid of the partitioned table or index that it is a partition of.
    #[n(7)]
    pub parent: Option<u32>,
}

/// Something of the cluster that is not in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LeftOut {
    /// Relative to PGDATA; a directory's whole content ends in `/*`.
    #[n(0)]
    pub path: String,
    /// The rule's reason.
    #[n(1)]
    pub reason: String,
}

/// Pages of the cluster that are not what PostgreSQL wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Damage {
    /// By path and block; the first of them where there are many.
    #[n(0)]
    pub pages: Vec<DamagedPage>,
    /// How many there are beside these.
    #[n(1)]
    #[cbor(default)]
    pub more: u64,
}

impl Damage {
    /// How many pages are damaged.
    pub fn count(&self) -> u64 {
        self.pages.len() as u64 + self.more
    }

    /// Whether the file has, or may have, damaged pages.
    pub fn has(&self, path: &str) -> bool {
        self.more > 0 || self.pages.iter().any(|page| page.path == path)
    }
}

/// A page that is not what PostgreSQL wrote.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DamagedPage {
    /// The file, relative to PGDATA.
    #[n(0)]
    pub path: String,
    /// The page's number in its fork, as PostgreSQL counts: through all segments.
    #[n(1)]
    pub block: u64,
    /// The checksum in its header.
    #[n(2)]
    pub stored: u16,
    /// The checksum of its content; the same where only its header is wrong.
    #[n(3)]
    pub computed: u16,
}

impl Facts {
    /// What `global/pg_control` alone tells. For a base backup that came from elsewhere this, and
    /// what its label and WAL add, is all there is.
    pub fn of_control(control: &Control) -> Facts {
        Facts {
            system_identifier: control.system_identifier,
            major: control.major,
            control_version: control.control_version,
            catalog_version: control.catalog_version,
            // The only one whose pg_control can be read is the one that is laid out as here.
            architecture: std::env::consts::ARCH.to_owned(),
            block_size: control.block_size,
            segment_blocks: control.segment_blocks,
            wal_block_size: control.wal_block_size,
            wal_segment_size: control.wal_segment_size,
            checksum_version: control.page_checksum_version,
            timeline: control.timeline,
            start_lsn: control.redo_lsn.0,
            stop_lsn: control.checkpoint_lsn.0.max(control.min_recovery_point.0),
            min_recovery_point: control.min_recovery_point.0,
            checkpoint_lsn: control.checkpoint_lsn.0,
            cluster_state: control.state.to_string(),
            ..Facts::default()
        }
    }

    /// As bytes, for the body of a snapshot.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to memory succeeds")
    }

    /// From the body of a snapshot; `id` is for the error.
    ///
    /// Errors: `FactsDamaged`.
    pub fn decode(bytes: &[u8], id: &dyn std::fmt::Display) -> Result<Facts> {
        minicbor::decode(bytes).map_err(|e| Error::FactsDamaged {
            id: id.to_string(),
            why: e.to_string(),
        })
    }

    /// The few facts that rows carry.
    pub fn summary(&self) -> Summary {
        Summary {
            system_identifier: self.system_identifier,
            lineage: self.lineage,
            major: self.major,
            timeline: self.timeline,
            start_lsn: self.start_lsn,
            stop_lsn: self.stop_lsn,
            wal_bytes: self.wal_bytes,
        }
    }

    /// The name of a tablespace's directory of this version: `PG_15_202209061`.
    pub fn tablespace_version_dir(&self) -> String {
        format!("PG_{}_{}", self.major, self.catalog_version)
    }

    /// The database and relation whose files are called `filenode` in the database's directory;
    /// database 0 stands for `global`.
    pub fn relation(&self, database: u32, filenode: u32) -> Option<(&Database, &Relation)> {
        let database = self.databases.iter().find(|d| d.oid == database)?;
        let at = database
            .relations
            .binary_search_by_key(&filenode, |r| r.filenode)
            .ok()?;
        Some((database, &database.relations[at]))
    }
}

/// What rows of the snapshot table say about the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Summary {
    /// See [`Facts`].
    #[n(0)]
    pub system_identifier: u64,
    /// See [`Facts`].
    #[n(1)]
    pub lineage: Lineage,
    /// See [`Facts`].
    #[n(2)]
    pub major: u32,
    /// See [`Facts`].
    #[n(3)]
    pub timeline: u32,
    /// See [`Facts`].
    #[n(4)]
    pub start_lsn: u64,
    /// See [`Facts`].
    #[n(5)]
    pub stop_lsn: u64,
    /// See [`Facts`].
    #[n(6)]
    #[cbor(default)]
    pub wal_bytes: u64,
}

impl Summary {
    /// As bytes, for the row.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to memory succeeds")
    }

    /// From a row; `id` is the row's snapshot, for the error.
    ///
    /// Errors: `FactsDamaged`.
    pub fn decode(bytes: &[u8], id: &dyn std::fmt::Display) -> Result<Summary> {
        minicbor::decode(bytes).map_err(|e| Error::FactsDamaged {
            id: id.to_string(),
            why: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Facts {
        Facts {
            system_identifier: 7_654_321,
            lineage: Lineage([7; 16]),
            major: 15,
            catalog_version: 202_209_061,
            architecture: "x86_64".into(),
            libc: Some("glibc 2.36".into()),
            timeline: 2,
            history: vec![TimelineEnd {
                timeline: 1,
                end_lsn: 0x3000028,
            }],
            stop_lsn: 0x5000000,
            mark: Some(Mark {
                xids: "730:730:".into(),
                prepared: 0,
                replay_lsn: None,
            }),
            tablespaces: vec![TablespaceFact {
                oid: 16390,
                location: "/srv/ts".into(),
            }],
            tablespace_map: b"16390 /srv/ts\n".to_vec(),
            config_digest: Some(ConfigDigest([9; 32])),
            databases: vec![Database {
                oid: 5,
                name: "postgres".into(),
                relations: vec![Relation {
                    filenode: 16384,
                    tablespace: 1663,
                    schema: "public".into(),
                    name: "accounts".into(),
                    kind: 'r',
                    oid: 16384,
                    table: None,
                    parent: None,
                }],
            }],
            left_out: vec![LeftOut {
                path: "pg_wal/*".into(),
                reason: "WAL".into(),
            }],
            damage: Some(Damage {
                pages: vec![DamagedPage {
                    path: "base/5/16384".into(),
                    block: 131_073,
                    stored: 0xBEEF,
                    computed: 7,
                }],
                more: 3,
            }),
            ..Facts::default()
        }
    }

    #[test]
    fn facts_survive_their_bytes() {
        let facts = example();
        let bytes = facts.encode();
        assert_eq!(Facts::decode(&bytes, &"x").unwrap(), facts);
        let mut without = facts.clone();
        without.damage = None;
        assert_eq!(Facts::decode(&without.encode(), &"x").unwrap(), without);
        // As docs/format.md has it: 31: {0: [[path, block, stored, computed]], 1: 3}.
        let path = "base/5/16384".bytes();
        let key = [0x18, 31, 0xa2, 0, 0x81, 0x84, 0x6c];
        let page = [0x1a, 0, 2, 0, 1, 0x19, 0xbe, 0xef, 7, 1, 3];
        let damage: Vec<u8> = key.into_iter().chain(path).chain(page).collect();
        assert!(bytes.ends_with(&damage));
        let summary = facts.summary();
        assert_eq!(Summary::decode(&summary.encode(), &"x").unwrap(), summary);
    }

    /// Relations were written without their table at first.
    #[test]
    fn relations_without_a_table_have_the_old_bytes() {
        let mut relation = example().databases[0].relations[0].clone();
        let bytes = minicbor::to_vec(&relation).unwrap();
        assert_eq!(bytes[0], 0x86, "an array of six");
        assert_eq!(minicbor::decode::<Relation>(&bytes).unwrap(), relation);
        relation.table = Some(16385);
        let bytes = minicbor::to_vec(&relation).unwrap();
        assert_eq!(bytes[0], 0x87);
        assert_eq!(minicbor::decode::<Relation>(&bytes).unwrap(), relation);
    }

    /// A newer zenith may write more.
    #[test]
    fn unknown_keys_are_skipped() {
        let summary = example().summary();
        let mut bytes = summary.encode();
        assert_eq!(bytes[0], 0xa7, "a map of seven");
        bytes[0] = 0xa8;
        bytes.extend([0x18, 200, 0x82, 1, 0x61, b'x']);
        assert_eq!(Summary::decode(&bytes, &"x").unwrap(), summary);
    }

    #[test]
    fn damaged_facts_are_an_error() {
        let bytes = example().encode();
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(Facts::decode(&bytes[..cut], &"x").is_err(), "{cut}");
        }
    }

    #[test]
    fn relations_are_found_by_their_files() {
        let facts = example();
        let (database, relation) = facts.relation(5, 16384).unwrap();
        assert_eq!(
            (database.name.as_str(), relation.name.as_str()),
            ("postgres", "accounts")
        );
        assert!(facts.relation(5, 16385).is_none() && facts.relation(6, 16384).is_none());
    }

    #[test]
    fn a_lineage_survives_its_text() {
        let lineage = Lineage::random(&World::real());
        assert_eq!(lineage.to_string().parse(), Ok(lineage));
        assert!("xyz".parse::<Lineage>().is_err());
        assert!(format!("+{}", "0".repeat(31)).parse::<Lineage>().is_err());
    }
}
