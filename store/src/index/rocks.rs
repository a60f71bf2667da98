//! The index in RocksDB: the home's. Memory is capped; the directory may be deleted at any time.
//!
//! Column family `blobs.2`: id → rows of 47 bytes, one a place. Column family `packs.2`: pack name →
//! number (u32), by which rows name their pack. A pack's rows and its number are one write batch,
//! so a pack that is listed is there whole.

use super::{Index, Location, locations};
use crate::delta::Form;
use crate::error::{Error, Result};
use crate::id::{BASE_LEN, Id, PackName};
use crate::pack::{Codec, Directory};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, Options, ReadOptions, SliceTransform,
    WriteBatch, WriteOptions,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

// Rows of another form have families of another name: an index that has those is begun again.
const BLOBS: &str = "blobs.2";
const PACKS: &str = "packs.2";
const ROW: usize = 47;
const BLOCK_CACHE_BYTES: usize = 32 << 20;
const WRITE_BUFFER_BYTES: usize = 16 << 20;

/// An index in a directory.
#[derive(Debug)]
pub struct RocksIndex {
    db: DB,
    path: PathBuf,
    writable: bool,
    /// A reader's own files, which go with it.
    _secondary: Option<tempfile::TempDir>,
    packs: RwLock<Packs>,
}

#[derive(Debug, Default)]
struct Packs {
    numbers: BTreeMap<PackName, u32>,
    names: HashMap<u32, PackName>,
    next: u32,
}

fn options() -> (Options, Vec<ColumnFamilyDescriptor>) {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_max_total_wal_size(64 << 20);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(1 << 20);
    // A secondary instance needs every file open.
    db.set_max_open_files(-1);
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let families = [BLOBS, PACKS].map(|name| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_bloom_filter(10.0, false);
        let mut family = Options::default();
        family.set_block_based_table_factory(&table);
        family.set_write_buffer_size(WRITE_BUFFER_BYTES);
        family.set_max_write_buffer_number(2);
        if name == BLOBS {
            // Bases are looked up by the beginning of their id.
            family.set_prefix_extractor(SliceTransform::create_fixed_prefix(BASE_LEN));
        }
        // Ids do not compress.
        family.set_compression_type(rocksdb::DBCompressionType::None);
        ColumnFamilyDescriptor::new(name, family)
    });
    (db, families.into())
}

impl RocksIndex {
    /// Opens the index in `path` for writing, or begins one. One process at a time.
    ///
    /// # Errors
    /// [`Error::Index`] with RocksDB's words.
    pub fn open(path: &Path) -> Result<Self> {
        let (db, families) = options();
        let db = DB::open_cf_descriptors(&db, path, families).map_err(|e| error(path, e))?;
        Self::with(db, path, true, None)
    }

    /// Opens the index in `path` beside a process that may be writing it.
    ///
    /// # Errors
    /// [`Error::Index`] with RocksDB's words; also when there is none.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let (db, families) = options();
        let own = tempfile::tempdir().map_err(Error::file("create a directory for", path))?;
        let db = DB::open_cf_descriptors_as_secondary(&db, path, own.path(), families)
            .map_err(|e| error(path, e))?;
        Self::with(db, path, false, Some(own))
    }

    fn with(
        db: DB,
        path: &Path,
        writable: bool,
        secondary: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let index = RocksIndex {
            db,
            path: path.to_owned(),
            writable,
            _secondary: secondary,
            packs: RwLock::default(),
        };
        let mut packs = Packs::default();
        for row in index
            .db
            .iterator_cf(index.family(PACKS)?, rocksdb::IteratorMode::Start)
        {
            let (key, value) = row.map_err(|e| error(path, e))?;
            let (Some(name), Ok(number)) = (decode_name(&key), <[u8; 4]>::try_from(&*value)) else {
                return Err(index.damaged("a pack row of a wrong length"));
            };
            let number = u32::from_le_bytes(number);
            packs.next = packs.next.max(number + 1);
            packs.numbers.insert(name, number);
            packs.names.insert(number, name);
        }
        *index.packs.write().unwrap_or_else(PoisonError::into_inner) = packs;
        Ok(index)
    }

    fn family(&self, name: &str) -> Result<&rocksdb::ColumnFamily> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| self.damaged("a column family is missing"))
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Index {
            path: self.path.display().to_string(),
            why: why.to_owned(),
        }
    }

    /// The places in the value of one id.
    fn places(&self, value: &[u8]) -> Result<Vec<Location>> {
        if !value.len().is_multiple_of(ROW) {
            return Err(self.damaged("a blob row of a wrong length"));
        }
        let packs = self.packs.read().unwrap_or_else(PoisonError::into_inner);
        value
            .chunks_exact(ROW)
            // A number that no pack has belongs to one that was dropped.
            .filter_map(|row| packs.names.get(&row_number(row)).map(|name| (row, *name)))
            .map(|(row, name)| {
                decode_row(row, name).ok_or_else(|| self.damaged("a blob row that cannot be"))
            })
            .collect()
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        if !self.writable {
            return Err(self.damaged("it is open for reading only"));
        }
        // Not synced: what a power cut takes away is learnt again from the packs.
        self.db
            .write_opt(batch, &WriteOptions::default())
            .map_err(|e| error(&self.path, e))
    }
}

fn error(path: &Path, e: rocksdb::Error) -> Error {
    Error::Index {
        path: path.display().to_string(),
        why: e.into_string(),
    }
}

fn encode_name(name: PackName) -> [u8; 20] {
    let mut out = [0; 20];
    out[..16].copy_from_slice(&name.session);
    out[16..].copy_from_slice(&name.number.to_le_bytes());
    out
}

fn decode_name(bytes: &[u8]) -> Option<PackName> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    Some(PackName {
        session: bytes[..16].try_into().ok()?,
        number: u32::from_le_bytes(bytes[16..].try_into().ok()?),
    })
}

fn encode_row(number: u32, l: &Location) -> [u8; ROW] {
    let mut out = [0; ROW];
    out[..4].copy_from_slice(&number.to_le_bytes());
    out[4..12].copy_from_slice(&l.payload_offset.to_le_bytes());
    out[12..16].copy_from_slice(&l.stored_len.to_le_bytes());
    out[16..20].copy_from_slice(&l.plain_len.to_le_bytes());
    out[20] = l.codec as u8;
    out[21..25].copy_from_slice(&l.offset.to_le_bytes());
    out[25..29].copy_from_slice(&l.len.to_le_bytes());
    out[29..33].copy_from_slice(&l.ordinal.to_le_bytes());
    out[33..37].copy_from_slice(&l.body_len.to_le_bytes());
    out[37] = l.form as u8;
    out[38] = l.depth;
    out[39..].copy_from_slice(&l.base);
    out
}

fn row_number(row: &[u8]) -> u32 {
    u32::from_le_bytes(row[..4].try_into().expect("rows have 47 bytes"))
}

fn decode_row(row: &[u8], pack: PackName) -> Option<Location> {
    let u32_at = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("47 bytes"));
    Some(Location {
        pack,
        payload_offset: u64::from_le_bytes(row[4..12].try_into().ok()?),
        stored_len: u32_at(12),
        plain_len: u32_at(16),
        codec: Codec::from_u8(row[20])?,
        offset: u32_at(21),
        len: u32_at(25),
        ordinal: u32_at(29),
        body_len: u32_at(33),
        form: Form::from_u8(row[37])?,
        depth: row[38],
        base: row[39..].try_into().ok()?,
    })
}

impl Index for RocksIndex {
    fn packs(&self) -> Result<HashSet<PackName>> {
        let packs = self.packs.read().unwrap_or_else(PoisonError::into_inner);
        Ok(packs.numbers.keys().copied().collect())
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn add_pack(&self, pack: PackName, directory: &Directory) -> Result<()> {
        let mut packs = self.packs.write().unwrap_or_else(PoisonError::into_inner);
        if packs.numbers.contains_key(&pack) {
            return Ok(());
        }
        let number = packs.next;
        let family = self.family(BLOBS)?;
        // An id can lie in several packs, and several times in one.
        let mut rows: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
        for (id, location) in locations(pack, directory) {
            rows.entry(id)
                .or_default()
                .extend_from_slice(&encode_row(number, &location));
        }
        let old = self
            .db
            .batched_multi_get_cf(family, rows.keys().map(|id| &id.0), true);
        let mut batch = WriteBatch::default();
        for ((id, mut value), old) in rows.into_iter().zip(old) {
            if let Some(old) = old.map_err(|e| error(&self.path, e))? {
                value.extend_from_slice(&old);
            }
            batch.put_cf(family, id.0, value);
        }
        batch.put_cf(self.family(PACKS)?, encode_name(pack), number.to_le_bytes());
        self.write(batch)?;
        packs.next += 1;
        packs.numbers.insert(pack, number);
        packs.names.insert(number, pack);
        Ok(())
    }

    fn drop_pack(&self, pack: PackName, directory: &Directory) -> Result<()> {
        let mut packs = self.packs.write().unwrap_or_else(PoisonError::into_inner);
        let Some(&number) = packs.numbers.get(&pack) else {
            return Ok(());
        };
        let family = self.family(BLOBS)?;
        let mut batch = WriteBatch::default();
        let ids: HashSet<Id> = locations(pack, directory).map(|(id, _)| id).collect();
        for id in ids {
            let Some(old) = self
                .db
                .get_cf(family, id.0)
                .map_err(|e| error(&self.path, e))?
            else {
                continue;
            };
            let rest: Vec<u8> = old
                .chunks_exact(ROW)
                .filter(|row| row_number(row) != number)
                .flatten()
                .copied()
                .collect();
            if rest.is_empty() {
                batch.delete_cf(family, id.0);
            } else {
                batch.put_cf(family, id.0, rest);
            }
        }
        batch.delete_cf(self.family(PACKS)?, encode_name(pack));
        self.write(batch)?;
        packs.numbers.remove(&pack);
        packs.names.remove(&number);
        Ok(())
    }

    fn get(&self, id: &Id) -> Result<Vec<Location>> {
        let Some(value) = self
            .db
            .get_pinned_cf(self.family(BLOBS)?, id.0)
            .map_err(|e| error(&self.path, e))?
        else {
            return Ok(Vec::new());
        };
        self.places(&value)
    }

    fn get_base(&self, base: &[u8; BASE_LEN]) -> Result<Vec<(Id, Location)>> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(BLOBS)?, options);
        let mut found = Vec::new();
        rows.seek(base);
        while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(base)) {
            let id = Id(key
                .try_into()
                .map_err(|_| self.damaged("a blob row with a key of a wrong length"))?);
            found.extend(self.places(value)?.into_iter().map(|place| (id, place)));
            rows.next();
        }
        rows.status().map_err(|e| error(&self.path, e))?;
        Ok(found)
    }
}
