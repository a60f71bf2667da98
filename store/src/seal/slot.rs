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
mod tests {
    use super::super::new_key_id;
    use super::*;
    use crate::objects::Directory;

    /// As cheap as Argon2 can be.
    const CHEAP: Kdf = Kdf {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    const KEY_ID: &str = "000102030405060708090a0b0c0d0e0f";
    const TIME: Time = Time {
        unix_micros: 1_790_000_000_000_000,
        offset_secs: 3600,
    };

    fn place() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let objects = Directory::new(dir.path());
        (dir, objects)
    }

    fn add(objects: &Directory, master: &MasterKey, passphrase: &str) -> u32 {
        let passphrase = passphrase.as_bytes();
        create_with(objects, KEY_ID, master, passphrase, "ann@host", TIME, CHEAP).unwrap()
    }

    /// A slot with these words in the place of an honest one.
    fn plant(objects: &Directory, number: u32, change: impl Fn(&mut Header)) {
        let mut header = Header {
            version: VERSION,
            key_id: KEY_ID.into(),
            number,
            kdf: KDF.into(),
            params: CHEAP,
            salt: [7; SALT_LEN],
            label: "x".into(),
            time: TIME,
        };
        let wrapping = derive(b"one", &header).unwrap();
        change(&mut header);
        let bytes = encode(&header, &MasterKey::generate(), &wrapping);
        objects.delete(&key(number)).unwrap();
        objects.create(&key(number), &bytes).unwrap();
    }

    #[test]
    fn either_of_two_passphrases_opens_until_its_slot_is_removed() {
        let (_dir, objects) = place();
        let master = MasterKey::generate();
        assert!(matches!(
            unlock(&objects, b"one"),
            Err(Error::NoSlots { .. })
        ));
        assert_eq!(add(&objects, &master, "one"), 0);
        assert!(matches!(
            remove(&objects, 0),
            Err(Error::LastSlot { number: 0, .. })
        ));
        assert_eq!(add(&objects, &master, "two"), 1);
        for (passphrase, number) in [("one", 0), ("two", 1)] {
            let (opened, slot) = open(&objects, KEY_ID, passphrase.as_bytes()).unwrap();
            assert_eq!((opened.to_hex(), slot), (master.to_hex(), number));
            let found = unlock(&objects, passphrase.as_bytes()).unwrap();
            assert_eq!((found.key_id.as_str(), found.number), (KEY_ID, number));
        }
        for wrong in ["", "On", "one ", "ONE"] {
            let error = unlock(&objects, wrong.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::WrongPassphrase { .. }), "{error}");
        }
        // A change of passphrase: the new slot, then the old one goes.
        remove(&objects, 0).unwrap();
        assert!(matches!(
            unlock(&objects, b"one"),
            Err(Error::WrongPassphrase { .. })
        ));
        assert!(unlock(&objects, b"two").is_ok());
        assert!(matches!(
            remove(&objects, 0),
            Err(Error::NoSlot { number: 0, .. })
        ));
        assert_eq!(add(&objects, &master, "three"), 2);
        let listed: Vec<_> = list(&objects)
            .unwrap()
            .into_iter()
            .map(|(_, s)| s.unwrap())
            .collect();
        assert_eq!(listed.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            (listed[0].label.as_str(), listed[0].time),
            ("ann@host", TIME)
        );
    }

    #[test]
    fn nothing_is_put_under_an_empty_passphrase_or_beyond_the_bounds() {
        let (_dir, objects) = place();
        let master = MasterKey::generate();
        let made = |passphrase: &[u8], kdf| {
            create_with(&objects, KEY_ID, &master, passphrase, "", TIME, kdf)
        };
        let large = Kdf {
            memory_kib: Kdf::MAX.memory_kib + 1,
            ..CHEAP
        };
        assert!(matches!(made(b"", CHEAP), Err(Error::Invalid { .. })));
        assert!(matches!(made(b"one", large), Err(Error::Invalid { .. })));
        assert!(list(&objects).unwrap().is_empty());
        for _ in 0..SLOTS_MAX {
            made(b"one", CHEAP).unwrap();
        }
        assert!(matches!(made(b"one", CHEAP), Err(Error::Invalid { .. })));
    }

    #[test]
    fn any_flipped_bit_of_a_slot_is_damage_and_no_wrong_passphrase() {
        let (_dir, objects) = place();
        add(&objects, &MasterKey::generate(), "one");
        let good = objects.get(&key(0)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            objects.delete(&key(0)).unwrap();
            objects.create(&key(0), &bad).unwrap();
            let error = unlock(&objects, b"one").unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
        }
    }

    /// Whoever holds the storage can make the hash fit; then only the tag refuses.
    #[test]
    fn no_word_of_a_slot_can_be_changed() {
        let (_dir, objects) = place();
        let opened = |change: &dyn Fn(&mut Header)| {
            let (_dir, objects) = place();
            plant(&objects, 0, |header| header.label = "ann".into());
            let bytes = objects.get(&key(0)).unwrap();
            let mut slot = decode(&bytes).unwrap();
            change(&mut slot.header);
            let mut forged = MAGIC.to_vec();
            minicbor::encode(&slot.header, &mut forged).unwrap();
            forged.extend_from_slice(&slot.wrapped);
            forged.extend_from_slice(blake3::hash(&forged).as_bytes());
            objects.delete(&key(0)).unwrap();
            objects.create(&key(0), &forged).unwrap();
            unlock(&objects, b"one")
        };
        assert!(opened(&|_| {}).is_ok());
        let changes: [&dyn Fn(&mut Header); 4] = [
            &|h| h.label = "bob".into(),
            &|h| h.time.unix_micros += 1,
            &|h| h.key_id = new_key_id(),
            &|h| h.salt[0] ^= 1,
        ];
        for change in changes {
            assert!(matches!(opened(change), Err(Error::WrongPassphrase { .. })));
        }
        let renumbered = opened(&|h| h.number = 1);
        assert!(matches!(renumbered, Err(Error::Damaged { .. })));
        // A slot that was honestly made does not open for a repository of another key.
        add(&objects, &MasterKey::generate(), "one");
        let other = open(&objects, &new_key_id(), b"one");
        assert!(matches!(other, Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_hostile_slot_costs_nothing_and_hides_no_other() {
        let (_dir, objects) = place();
        let master = MasterKey::generate();
        let hostile: [&dyn Fn(&mut Header); 4] = [
            &|h| h.params.memory_kib = u32::MAX,
            &|h| h.params.passes = 21,
            &|h| h.params.lanes = u32::MAX,
            &|h| h.params.memory_kib = 0,
        ];
        for change in hostile {
            plant(&objects, 0, change);
            let error = unlock(&objects, b"one").unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
        add(&objects, &master, "two");
        assert_eq!(unlock(&objects, b"two").unwrap().number, 1);
        let error = unlock(&objects, b"three").unwrap_err().to_string();
        assert!(error.ends_with("opens none of the others"), "{error}");

        plant(&objects, 0, |h| h.kdf = "rot13\u{1b}[2J".into());
        let error = unlock(&objects, b"three").unwrap_err();
        assert!(matches!(error, Error::TooNew { .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'));

        objects.delete(&key(0)).unwrap();
        objects
            .create(&key(0), &vec![0; SLOT_MAX as usize + 1])
            .unwrap();
        assert!(matches!(
            unlock(&objects, b"three"),
            Err(Error::Damaged { .. })
        ));
        let listed = list(&objects).unwrap();
        assert!(listed[0].1.is_err() && listed[1].1.is_ok());
        // What cannot open does not count as the one that is left.
        assert!(matches!(remove(&objects, 1), Err(Error::LastSlot { .. })));
        remove(&objects, 0).unwrap();
    }

    /// A place where slot 1 is removed by another just before the first deletion.
    #[derive(Debug)]
    struct Beside(Directory, std::sync::atomic::AtomicBool);

    impl crate::objects::Layer for Beside {
        fn below(&self) -> &dyn Objects {
            &self.0
        }

        fn delete(&self, key: &str) -> std::result::Result<(), crate::objects::ObjectsError> {
            if !self.1.swap(true, std::sync::atomic::Ordering::Relaxed) {
                remove(&self.0, 1).unwrap();
            }
            self.0.delete(key)
        }
    }

    #[test]
    fn two_who_remove_the_last_two_leave_one() {
        let (dir, objects) = place();
        let master = MasterKey::generate();
        for passphrase in ["one", "two"] {
            add(&objects, &master, passphrase);
        }
        let beside = Beside(Directory::new(dir.path()), false.into());
        let refused = remove(&beside, 0).unwrap_err();
        assert!(
            matches!(refused, Error::LastSlot { number: 0, .. }),
            "{refused}"
        );
        assert_eq!(unlock(&objects, b"one").unwrap().number, 0);
    }

    #[test]
    fn slots_are_mirrored_byte_for_byte() {
        let ((_a, from), (_b, to)) = (place(), place());
        assert!(matches!(mirror(&from, &to), Err(Error::NoSlots { .. })));
        let master = MasterKey::generate();
        for passphrase in ["one", "two", "three"] {
            add(&from, &master, passphrase);
        }
        mirror(&from, &to).unwrap();
        remove(&from, 1).unwrap();
        // The same number, another slot.
        remove(&from, 2).unwrap();
        add(&from, &master, "four");
        mirror(&from, &to).unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(list(&from).unwrap().len(), 2);
        for number in [0, 1] {
            assert_eq!(
                from.get(&key(number)).unwrap(),
                to.get(&key(number)).unwrap()
            );
        }
        assert_eq!(numbers(&to).unwrap(), [0, 1]);
    }

    /// A changed byte here would lock everybody out.
    #[test]
    fn golden() {
        let header = Header {
            version: VERSION,
            key_id: KEY_ID.into(),
            number: 3,
            kdf: KDF.into(),
            params: CHEAP,
            salt: [7; SALT_LEN],
            label: "ann@host".into(),
            time: TIME,
        };
        let master = MasterKey::from_hex(&"42".repeat(KEY_LEN)).unwrap();
        let bytes = encode(&header, &master, &derive(b"passphrase", &header).unwrap());
        insta::assert_snapshot!(crate::id::hex(&bytes), @"5a454e4b45595331a800010178203030303130323033303430353036303730383039306130623063306430653066020303686172676f6e32696404a300080101020105582007070707070707070707070707070707070707070707070707070707070707070668616e6e40686f737407821b00065bfeda25e000190e1097ae3f33c23fb751a355bd0c2f23d3d41c1f91860db992bb8a706d2c44653ee568fa072dad9c1c249943ebc1060fb713154d5ac9744f5491b7f5227965424c080bd3e0beee4592f34670ea71c6c5718c");
    }

    #[test]
    fn labels_are_cut_at_a_character() {
        assert_eq!(cut("ann"), "ann");
        let long = cut(&"ä".repeat(LABEL_MAX));
        assert_eq!(long.len(), LABEL_MAX);
        assert_eq!(
            cut(&format!("a{}", "ä".repeat(LABEL_MAX))).len(),
            LABEL_MAX - 1
        );
    }
}
