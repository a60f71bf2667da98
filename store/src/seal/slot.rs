//! Key slots: the master key, wrapped under a passphrase, in the objects `keys/<n>`.
//!
//! Any slot opens the repository. A passphrase is changed by adding a slot and removing the old
//! one; nothing else is written again. A slot is not to be trusted before it opens: whoever holds
//! the storage can write what they like there, so what it asks for is bounded. Bytes:
//! docs/format.md.

use super::{
    KEY_LEN, MasterKey, TAG_LEN, cipher, open as open_aead, seal as seal_aead, zero_nonce,
};
use crate::error::{Error, Result};
use crate::object::{Malformed, Time};
use crate::objects::{Created, Objects};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

const FOLDER: &str = "keys";
const MAGIC: &[u8; 8] = b"ZENKEYS1";
const VERSION: u16 = 1;
const KDF: &str = "argon2id";
const HASH_LEN: usize = 32;
const WRAPPED_LEN: usize = KEY_LEN + TAG_LEN;
const SALT_LEN: usize = 32;
/// No slot is larger.
const SLOT_MAX: u64 = 4 << 10;
/// A label is for people; what is longer is cut.
const LABEL_MAX: usize = 200;
/// More are not looked at: each can cost seconds.
const SLOTS_MAX: usize = 32;
/// A slot is numbered anew so often when others take its number.
const CREATE_TRIES: u32 = 32;

/// What a passphrase costs to try: parameters of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Kdf {
    /// KiB of memory.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over it.
    #[n(1)]
    pub passes: u32,
    /// Lanes.
    #[n(2)]
    pub lanes: u32,
}

impl Kdf {
    /// A slot that asks for more is not tried.
    pub const MAX: Kdf = Kdf {
        memory_kib: 1 << 20,
        passes: 20,
        lanes: 16,
    };

    fn check(&self) -> Result<(), String> {
        let Kdf {
            memory_kib,
            passes,
            lanes,
        } = *self;
        if memory_kib > Self::MAX.memory_kib || passes > Self::MAX.passes || lanes > Self::MAX.lanes
        {
            return Err(format!(
                "it asks for {memory_kib} KiB of memory, {passes} passes and {lanes} lanes, of \
                 which at most {} KiB, {} and {} are allowed",
                Self::MAX.memory_kib,
                Self::MAX.passes,
                Self::MAX.lanes
            ));
        }
        Ok(())
    }
}

impl Default for Kdf {
    /// About a tenth of a second: a person does not notice, a machine that guesses does.
    fn default() -> Self {
        Kdf {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
        }
    }
}

/// What a slot says in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(0)]
    version: u16,
    #[n(1)]
    key_id: String,
    #[n(2)]
    number: u32,
    #[n(3)]
    kdf: String,
    #[n(4)]
    params: Kdf,
    #[cbor(n(5), with = "minicbor::bytes")]
    salt: [u8; SALT_LEN],
    #[n(6)]
    label: String,
    #[n(7)]
    time: Time,
}

/// A slot as it lies.
#[derive(Debug)]
struct Slot {
    header: Header,
    /// Everything before the wrapped key, to which it is bound.
    bound: Vec<u8>,
    wrapped: [u8; WRAPPED_LEN],
}

/// A slot for people. Nothing of it is proven before the slot opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// The n of `keys/<n>`.
    pub number: u32,
    /// Of the master key that it holds.
    pub key_id: String,
    /// Who made it.
    pub label: String,
    /// When.
    pub time: Time,
    /// What a try costs.
    pub kdf: Kdf,
}

/// What a passphrase opened.
#[derive(Debug)]
pub struct Unlocked {
    /// The key.
    pub master: MasterKey,
    /// Its name.
    pub key_id: String,
    /// Of the slot.
    pub number: u32,
}

/// `keys/<n>`.
pub fn key(number: u32) -> String {
    format!("{FOLDER}/{number}")
}

/// Puts `master` under a passphrase into a new slot; its number.
///
/// # Errors
/// [`Error::Invalid`] for an empty passphrase, and those of the place.
pub fn create(
    objects: &dyn Objects,
    key_id: &str,
    master: &MasterKey,
    passphrase: &[u8],
    label: &str,
    time: Time,
) -> Result<u32> {
    create_with(
        objects,
        key_id,
        master,
        passphrase,
        label,
        time,
        Kdf::default(),
    )
}

/// The same, at a chosen cost.
///
/// # Errors
/// Those of [`create`], and [`Error::Invalid`] for a cost out of bounds.
pub fn create_with(
    objects: &dyn Objects,
    key_id: &str,
    master: &MasterKey,
    passphrase: &[u8],
    label: &str,
    time: Time,
    kdf: Kdf,
) -> Result<u32> {
    let invalid = |what: String| Error::Invalid { what };
    if passphrase.is_empty() {
        return Err(invalid("the passphrase is empty".into()));
    }
    for _ in 0..CREATE_TRIES {
        let taken = numbers(objects)?;
        if taken.len() >= SLOTS_MAX {
            return Err(invalid(format!(
                "{} has {} key slots already, and no more are allowed",
                objects.location(),
                taken.len()
            )));
        }
        let number = taken.last().map_or(Some(0), |last| last.checked_add(1));
        let number = number.ok_or_else(|| invalid("key slots have no number left".into()))?;
        let header = Header {
            version: VERSION,
            key_id: key_id.to_owned(),
            number,
            kdf: KDF.into(),
            params: kdf,
            // New at every try: the key that it gives has one nonce.
            salt: super::random(),
            label: cut(label),
            time,
        };
        let wrapping = derive(passphrase, &header).map_err(invalid)?;
        let bytes = encode(&header, master, &wrapping);
        let name = key(number);
        let made = match objects.create(&name, &bytes) {
            Ok(Created::New) => true,
            // Ours, when the answer to an earlier try was lost: the salt tells.
            Ok(Created::Exists) => objects.get(&name)? == bytes,
            Err(e) => match objects.get(&name) {
                Ok(found) => found == bytes,
                Err(_) => return Err(e.into()),
            },
        };
        if made {
            return Ok(number);
        }
    }
    Err(Error::Contended {
        location: objects.location(),
        tries: CREATE_TRIES,
    })
}

/// The master key `key_id` and the slot that this passphrase opened.
///
/// # Errors
/// Those of [`unlock`]; slots of another key count as damaged.
pub fn open(objects: &dyn Objects, key_id: &str, passphrase: &[u8]) -> Result<(MasterKey, u32)> {
    let found = unlock_where(objects, Some(key_id), passphrase)?;
    Ok((found.master, found.number))
}

/// The same where the key's name is not known yet: the passphrase proves it.
///
/// # Errors
/// [`Error::WrongPassphrase`] when it opens no slot, [`Error::NoSlots`] when there is none,
/// [`Error::Damaged`] or [`Error::TooNew`] when it opens none and a slot could not be tried.
pub fn unlock(objects: &dyn Objects, passphrase: &[u8]) -> Result<Unlocked> {
    unlock_where(objects, None, passphrase)
}

fn unlock_where(
    objects: &dyn Objects,
    key_id: Option<&str>,
    passphrase: &[u8],
) -> Result<Unlocked> {
    let (mut tried, mut unusable) = (false, None);
    for number in numbers(objects)?.into_iter().take(SLOTS_MAX) {
        let slot = match read(objects, number) {
            Ok(Some(slot)) => slot,
            // Removed in between.
            Ok(None) => continue,
            // Another slot may open all the same.
            Err(e @ (Error::Damaged { .. } | Error::TooNew { .. })) => {
                unusable.get_or_insert(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        if key_id.is_some_and(|key_id| key_id != slot.header.key_id) {
            let why = format!("it belongs to the key {}", slot.header.key_id);
            unusable.get_or_insert(damaged(objects, number, why));
            continue;
        }
        let wrapping = match derive(passphrase, &slot.header) {
            Ok(wrapping) => wrapping,
            Err(why) => {
                unusable.get_or_insert(damaged(objects, number, why));
                continue;
            }
        };
        tried = true;
        let mut wrapped = Zeroizing::new(slot.wrapped.to_vec());
        if open_aead(&cipher(&wrapping), zero_nonce(), &slot.bound, &mut wrapped).is_ok()
            && let Ok(master) = <[u8; KEY_LEN]>::try_from(&wrapped[..])
        {
            return Ok(Unlocked {
                master: MasterKey(Zeroizing::new(master)),
                key_id: slot.header.key_id,
                number,
            });
        }
    }
    let location = objects.location();
    Err(match unusable {
        Some(Error::Damaged {
            what,
            location,
            why,
        }) if tried => Error::Damaged {
            what,
            location,
            why: format!("{why}; the passphrase opens none of the others"),
        },
        Some(e) => e,
        None if tried => Error::WrongPassphrase { location },
        None => Error::NoSlots { location },
    })
}

/// Every slot by its number; those that cannot be read with the reason.
///
/// # Errors
/// Those of the place.
pub fn list(objects: &dyn Objects) -> Result<Vec<(u32, Result<SlotInfo>)>> {
    let mut out = Vec::new();
    for number in numbers(objects)? {
        match read(objects, number) {
            Ok(Some(slot)) => out.push((number, Ok(info(slot.header)))),
            Ok(None) => {}
            Err(e @ (Error::Damaged { .. } | Error::TooNew { .. })) => out.push((number, Err(e))),
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// Removes a slot for good: its passphrase opens nothing any more, except older copies of it.
///
/// # Errors
/// [`Error::NoSlot`], and [`Error::LastSlot`] when no other could open the repository.
pub fn remove(objects: &dyn Objects, number: u32) -> Result<()> {
    let slots = list(objects)?;
    let location = objects.location();
    let Some((_, slot)) = slots.iter().find(|(n, _)| *n == number) else {
        return Err(Error::NoSlot { number, location });
    };
    if !slots.iter().any(|(n, slot)| *n != number && slot.is_ok()) {
        return Err(Error::LastSlot { number, location });
    }
    let bytes = match slot {
        Ok(_) => bytes_of(objects, number)?,
        Err(_) => None,
    };
    objects.delete(&key(number))?;
    // Somebody else may have removed the others since: then it was the last one, and comes back.
    if list(objects)?.iter().any(|(_, slot)| slot.is_ok()) {
        return Ok(());
    }
    if let Some(bytes) = bytes {
        objects_create(objects, &key(number), &bytes)?;
    }
    Err(Error::LastSlot { number, location })
}

/// Makes the slots of `to` those of `from`, byte for byte: a home has the slots of its storage.
///
/// # Errors
/// [`Error::NoSlots`] when `from` has none, and those of both places.
pub fn mirror(from: &dyn Objects, to: &dyn Objects) -> Result<()> {
    let wanted = numbers(from)?;
    let mut copied = 0;
    for number in &wanted {
        let Some(bytes) = bytes_of(from, *number)? else {
            continue;
        };
        copied += 1;
        let name = key(*number);
        if objects_create(to, &name, &bytes)? {
            continue;
        }
        if bytes_of(to, *number)?.as_deref() != Some(&bytes[..]) {
            // A slot of its own, or one of the same number that was removed meanwhile.
            to.delete(&name)?;
            objects_create(to, &name, &bytes)?;
        }
    }
    if copied == 0 {
        return Err(Error::NoSlots {
            location: from.location(),
        });
    }
    for number in numbers(to)? {
        if !wanted.contains(&number) {
            to.delete(&key(number))?;
        }
    }
    Ok(())
}

/// Whether the object is new.
fn objects_create(objects: &dyn Objects, name: &str, bytes: &[u8]) -> Result<bool> {
    Ok(objects.create(name, bytes)? == Created::New)
}

/// Numbers of all slots, ascending.
fn numbers(objects: &dyn Objects) -> Result<Vec<u32>> {
    let mut numbers: Vec<u32> = objects
        .list(&format!("{FOLDER}/"))?
        .into_iter()
        .filter_map(|listed| {
            let number = listed.key.strip_prefix("keys/")?.parse().ok()?;
            // One spelling only.
            (key(number) == listed.key).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The stored bytes of a slot, or nothing when it is not there (any more).
fn bytes_of(objects: &dyn Objects, number: u32) -> Result<Option<Vec<u8>>> {
    let name = key(number);
    let Some(size) = objects.size(&name)? else {
        return Ok(None);
    };
    if size > SLOT_MAX {
        let why = format!("it has {size} bytes, of which at most {SLOT_MAX} are allowed");
        return Err(damaged(objects, number, why));
    }
    Ok(Some(objects.get(&name)?))
}

fn read(objects: &dyn Objects, number: u32) -> Result<Option<Slot>> {
    let Some(bytes) = bytes_of(objects, number)? else {
        return Ok(None);
    };
    let slot = decode(&bytes).map_err(|e| damaged(objects, number, e.0))?;
    let header = &slot.header;
    if header.version != VERSION || header.kdf != KDF {
        return Err(Error::TooNew {
            location: objects.location(),
            what: format!(
                "key slot {number}: version {}, derivation `{}`",
                header.version,
                shown(&header.kdf)
            ),
        });
    }
    if header.number != number {
        let why = format!("it says that it is slot {}", header.number);
        return Err(damaged(objects, number, why));
    }
    if crate::id::parse_hex::<16>(&header.key_id).is_none() {
        return Err(damaged(objects, number, "it names no key".into()));
    }
    Ok(Some(slot))
}

fn damaged(objects: &dyn Objects, number: u32, why: String) -> Error {
    Error::Damaged {
        what: format!("key slot {number}"),
        location: objects.location(),
        why,
    }
}

fn encode(header: &Header, master: &MasterKey, wrapping: &Zeroizing<[u8; KEY_LEN]>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    minicbor::encode(header, &mut out).expect("encoding into memory has no errors");
    let mut wrapped = Zeroizing::new(Vec::with_capacity(WRAPPED_LEN));
    wrapped.extend_from_slice(&master.0[..]);
    seal_aead(&cipher(wrapping), zero_nonce(), &out, &mut wrapped);
    out.extend_from_slice(&wrapped);
    // Tells damage from a wrong passphrase.
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Slot, Malformed> {
    let short = || Malformed("it is too short".into());
    let (content, hash) = bytes.split_last_chunk::<HASH_LEN>().ok_or_else(short)?;
    if blake3::hash(content).as_bytes() != hash {
        return Err(Malformed("it has another hash".into()));
    }
    let (bound, wrapped) = content
        .split_last_chunk::<WRAPPED_LEN>()
        .ok_or_else(short)?;
    let body = bound
        .strip_prefix(MAGIC)
        .ok_or_else(|| Malformed("it does not begin like a key slot".into()))?;
    Ok(Slot {
        header: minicbor::decode(body)?,
        bound: bound.to_vec(),
        wrapped: *wrapped,
    })
}

/// The key that a passphrase gives with what the slot says, or why it is not even tried.
fn derive(passphrase: &[u8], header: &Header) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    header.params.check()?;
    let Kdf {
        memory_kib,
        passes,
        lanes,
    } = header.params;
    let params = Params::new(memory_kib, passes, lanes, Some(KEY_LEN))
        .map_err(|e| format!("its parameters are not valid: {e}"))?;
    let number = params.block_count();
    let mut blocks = Zeroizing::new(Vec::new());
    blocks
        .try_reserve_exact(number)
        .map_err(|_| format!("{memory_kib} KiB of memory are not to be had"))?;
    blocks.resize_with(number, Block::new);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, &header.salt, &mut key[..], &mut blocks[..])
        .map_err(|e| format!("no key can be derived: {e}"))?;
    Ok(key)
}

fn info(header: Header) -> SlotInfo {
    SlotInfo {
        number: header.number,
        label: shown(&header.label),
        key_id: header.key_id,
        time: header.time,
        kdf: header.params,
    }
}

/// Text of a place that is not trusted, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// At most [`LABEL_MAX`] bytes of a label.
fn cut(label: &str) -> String {
    label[..label.floor_char_boundary(LABEL_MAX)].to_owned()
}

#[cfg(test)]
mod tests;
