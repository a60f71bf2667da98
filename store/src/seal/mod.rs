//! Sealing: what a storage holds of a sealed repository can be neither read nor changed there.
//!
//! A [`MasterKey`] lies in no repository but wrapped, in key slots ([`slot`]). All other keys are
//! derived from it and from the key id, which repositories that exchange packs share: a home and
//! its storage. The cipher is AES-256-GCM; why it and these nonces, and what all of this does not
//! hide, is argued in docs/security.md. Bytes: docs/format.md.
//!
//! Invariants
//! * No two payloads are sealed with one key and nonce: a frame's come from its [`Origin`], which
//!   is never used again, since a restarted process is a new session and a session counts its
//!   packs; an object's key comes from a fresh salt.
//! * What opens stands where it was put: frames are bound to their origin, objects to their name.

pub mod slot;

use crate::id::{Kind, hex, parse_hex};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Bytes that sealing appends.
pub const TAG_LEN: usize = 16;
/// Bytes of an [`Origin`].
pub const ORIGIN_LEN: usize = 24;
/// Bytes in front of a sealed object.
pub const SALT_LEN: usize = 32;
/// Bytes of every key.
pub const KEY_LEN: usize = 32;
/// A restore touches many sessions, in no order; this many keep their key at hand.
const FRAME_KEYS: usize = 256;

type Key = Zeroizing<[u8; KEY_LEN]>;

/// What was to be opened cannot be: another key, name or place, or other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("was not sealed with this key, or was changed")]
pub struct NotOpened;

/// Where a frame was first written, which stays with it wherever it is moved: its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The writer's random session.
    pub session: [u8; 16],
    /// Number of the pack in the session.
    pub pack: u32,
    /// Number of the frame in the pack.
    pub frame: u32,
}

impl Origin {
    /// As it lies: session, pack u32, frame u32.
    pub fn encode(&self) -> [u8; ORIGIN_LEN] {
        let mut out = [0; ORIGIN_LEN];
        out[..16].copy_from_slice(&self.session);
        out[16..20].copy_from_slice(&self.pack.to_le_bytes());
        out[20..].copy_from_slice(&self.frame.to_le_bytes());
        out
    }

    /// What [`encode`](Origin::encode) wrote.
    pub fn decode(bytes: &[u8; ORIGIN_LEN]) -> Origin {
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let mut session = [0; 16];
        session.copy_from_slice(&bytes[..16]);
        Origin {
            session,
            pack: number(16),
            frame: number(20),
        }
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.pack.to_le_bytes());
        nonce[4..8].copy_from_slice(&self.frame.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// 32 bytes that everything is derived from; wiped from memory when dropped.
#[derive(Clone)]
pub struct MasterKey(Key);

impl MasterKey {
    /// A new one.
    pub fn generate() -> MasterKey {
        MasterKey(Zeroizing::new(random()))
    }

    /// The key of these 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<MasterKey> {
        parse_hex(text).map(|bytes| MasterKey(Zeroizing::new(bytes)))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&self.0[..]))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Eight hexadecimal digits by which a text that a key is kept in tells that it rotted.
pub fn check_word(text: &[u8]) -> String {
    hex(&blake3::hash(text).as_bytes()[..4])
}

/// A new key id: 32 hexadecimal digits that name a master key and are no secret.
pub fn new_key_id() -> String {
    hex(&random::<16>())
}

/// The keys of a sealed repository. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Seal {
    inner: Arc<Inner>,
}

struct Inner {
    key_id: String,
    frames: Key,
    objects: Key,
    /// By number of the kind, from 1.
    ids: [Key; 5],
    frame_keys: Mutex<FrameKeys>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.inner.key_id)
    }
}

impl Seal {
    /// The keys of a new repository, with the master key that slots are to wrap.
    pub fn generate(key_id: &str) -> (Seal, MasterKey) {
        let master = MasterKey::generate();
        (Seal::new(&master, key_id), master)
    }

    /// The keys that `master` and `key_id` stand for.
    pub fn new(master: &MasterKey, key_id: &str) -> Seal {
        let mut material = Zeroizing::new(Vec::with_capacity(KEY_LEN + key_id.len()));
        material.extend_from_slice(&master.0[..]);
        material.extend_from_slice(key_id.as_bytes());
        let key = |context: &str| Zeroizing::new(blake3::derive_key(context, &material));
        Seal {
            inner: Arc::new(Inner {
                key_id: key_id.to_owned(),
                frames: key("zenith 2026-11 v1 seal frames"),
                objects: key("zenith 2026-11 v1 seal objects"),
                ids: [
                    key("zenith 2026-11 v1 id chunk"),
                    key("zenith 2026-11 v1 id extents"),
                    key("zenith 2026-11 v1 id tree"),
                    key("zenith 2026-11 v1 id snapshot"),
                    key("zenith 2026-11 v1 id table"),
                ],
                frame_keys: Mutex::default(),
            }),
        }
    }

    /// 32 hexadecimal digits that name the master key; no secret.
    pub fn key_id(&self) -> &str {
        &self.inner.key_id
    }

    /// Key of keyed BLAKE3 for ids of this kind. A secret as the others: with it, whoever has a
    /// page can tell whether the repository has it, too.
    pub fn id_key(&self, kind: Kind) -> [u8; KEY_LEN] {
        *self.inner.ids[kind as usize - 1]
    }

    /// Encrypts a payload in place and appends the tag. `aad` is what stands in the clear beside
    /// it and must be the same when it is opened. An origin seals one payload, ever.
    pub fn seal_frame(&self, origin: &Origin, aad: &[u8], payload: &mut Vec<u8>) {
        let key = self.frame_key(&origin.session);
        seal(&key, origin.nonce(), &self.bound(aad), payload);
    }

    /// Decrypts in place what [`seal_frame`](Seal::seal_frame) made and takes the tag off.
    ///
    /// # Errors
    /// [`NotOpened`]; the payload is empty then.
    pub fn open_frame(
        &self,
        origin: &Origin,
        aad: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<(), NotOpened> {
        let key = self.frame_key(&origin.session);
        open(&key, origin.nonce(), &self.bound(aad), payload)
    }

    /// A whole object, or part of one, under a name that it is bound to: salt, ciphertext, tag.
    pub fn seal_object(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        self.seal_object_with(random(), name, plain)
    }

    /// A salt must be fresh: its key has one nonce.
    fn seal_object_with(&self, salt: [u8; SALT_LEN], name: &str, plain: &[u8]) -> Vec<u8> {
        let mut payload = Vec::with_capacity(plain.len() + TAG_LEN);
        payload.extend_from_slice(plain);
        let aad = self.bound(name.as_bytes());
        seal(&self.object_key(&salt), zero_nonce(), &aad, &mut payload);
        let mut out = Vec::with_capacity(SALT_LEN + payload.len());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&payload);
        out
    }

    /// The plain bytes of what [`seal_object`](Seal::seal_object) made under the same name.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open_object(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let (salt, payload) = sealed.split_first_chunk::<SALT_LEN>().ok_or(NotOpened)?;
        let mut payload = payload.to_vec();
        let aad = self.bound(name.as_bytes());
        open(&self.object_key(salt), zero_nonce(), &aad, &mut payload)?;
        Ok(payload)
    }

    /// The key id has one length in all that one key ever seals, so this is one to one.
    fn bound(&self, aad: &[u8]) -> Vec<u8> {
        [self.inner.key_id.as_bytes(), aad].concat()
    }

    fn object_key(&self, salt: &[u8; SALT_LEN]) -> LessSafeKey {
        cipher(&derived(&self.inner.objects, salt))
    }

    fn frame_key(&self, session: &[u8; 16]) -> Arc<LessSafeKey> {
        let keys = &self.inner.frame_keys;
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(session, || cipher(&derived(&self.inner.frames, session)))
    }
}

/// Ciphers of the sessions that were used last.
#[derive(Default)]
struct FrameKeys {
    clock: u64,
    by_session: HashMap<[u8; 16], (u64, Arc<LessSafeKey>)>,
}

impl FrameKeys {
    fn get(&mut self, session: &[u8; 16], make: impl FnOnce() -> LessSafeKey) -> Arc<LessSafeKey> {
        self.clock += 1;
        if let Some((used, key)) = self.by_session.get_mut(session) {
            *used = self.clock;
            return key.clone();
        }
        if self.by_session.len() >= FRAME_KEYS {
            let oldest = self.by_session.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(session, _)| *session) {
                self.by_session.remove(&oldest);
            }
        }
        let key = Arc::new(make());
        self.by_session.insert(*session, (self.clock, key.clone()));
        key
    }
}

/// One of a family of keys: keyed BLAKE3 as a pseudo-random function.
fn derived(key: &Key, of: &[u8]) -> Key {
    Zeroizing::new(*blake3::keyed_hash(key, of).as_bytes())
}

fn cipher(key: &Key) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, &key[..]).expect("a key of AES-256 has 32 bytes");
    LessSafeKey::new(key)
}

/// For keys that seal one thing.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn seal(key: &LessSafeKey, nonce: Nonce, aad: &[u8], payload: &mut Vec<u8>) {
    key.seal_in_place_append_tag(nonce, Aad::from(aad), payload)
        .expect("nothing in memory reaches the 64 GiB that AES-GCM is for");
}

/// On failure `payload` is empty: bytes that nobody vouches for are not to be looked at.
fn open(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    payload: &mut Vec<u8>,
) -> Result<(), NotOpened> {
    let plain_len = match key.open_in_place(nonce, Aad::from(aad), payload) {
        Ok(plain) => plain.len(),
        Err(_) => {
            payload.clear();
            return Err(NotOpened);
        }
    };
    payload.truncate(plain_len);
    Ok(())
}

/// Fresh random bytes, from the library that makes keys of them.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY_ID: &str = "000102030405060708090a0b0c0d0e0f";

    fn fixed() -> Seal {
        let master = MasterKey::from_hex(&"42".repeat(KEY_LEN)).unwrap();
        Seal::new(&master, KEY_ID)
    }

    const ORIGIN: Origin = Origin {
        session: [0xab; 16],
        pack: 7,
        frame: 0x0102_0304,
    };

    fn frame(seal: &Seal, origin: &Origin, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut payload = plain.to_vec();
        seal.seal_frame(origin, aad, &mut payload);
        payload
    }

    fn opened(seal: &Seal, origin: &Origin, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut payload = sealed.to_vec();
        let result = seal.open_frame(origin, aad, &mut payload);
        assert!(result.is_ok() || payload.is_empty());
        result.ok().map(|()| payload)
    }

    /// A changed context, nonce or layout would make every sealed repository unreadable.
    #[test]
    fn golden() {
        let seal = fixed();
        assert_eq!(
            hex(&ORIGIN.encode()),
            format!("{}0700000004030201", "ab".repeat(16))
        );
        let ids = [
            Kind::Chunk,
            Kind::Extents,
            Kind::Tree,
            Kind::Snapshot,
            Kind::Table,
        ];
        let mut lines: Vec<String> = ids
            .iter()
            .map(|kind| format!("{kind:?} {}", hex(&seal.id_key(*kind))))
            .collect();
        lines.push(format!(
            "frame {}",
            hex(&frame(&seal, &ORIGIN, b"aad", b"zenith"))
        ));
        let object = seal.seal_object_with([0xcd; SALT_LEN], "roots/1", b"zenith");
        lines.push(format!("object {}", hex(&object)));
        insta::assert_snapshot!(lines.join("\n"), @r"
        Chunk 7c89913dae83226809f7c4b334fc1f8833ef0b605d411dd37c88660fd83b90ad
        Extents 31edaf42649add015fc2470ecb0188edc50194ad6b1b5737115b77c3bdb9374c
        Tree e5617f6c3d84ae9a2c74308fcdd3f0a1a4c1f2052e4ae0405d065dbe9f539f6e
        Snapshot 5a8e983aed0bf646db83a07d05a4237723fd47b3c8f4abbba3155e93ad573033
        Table 18d64a218ba0bdc28f99839891038087e6ffadee4c54d366cc11ae515f1dcc64
        frame 8e89ef0bbdcb251c55689645b85178f23847f117fa51
        object cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd884d3749d3473383b05a3158b2610a5ee59022b81513
        ");
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let seal = fixed();
        let sealed = frame(&seal, &ORIGIN, b"header", b"a page");
        let object = seal.seal_object("roots/1", b"a root");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&seal, &ORIGIN, b"header", &bad), None, "bit {bit}");
        }
        for bit in 0..object.len() * 8 {
            let mut bad = object.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                seal.open_object("roots/1", &bad),
                Err(NotOpened),
                "bit {bit}"
            );
        }
        for len in 0..sealed.len() {
            assert_eq!(opened(&seal, &ORIGIN, b"header", &sealed[..len]), None);
        }
        for len in 0..object.len() {
            assert_eq!(seal.open_object("roots/1", &object[..len]), Err(NotOpened));
        }
    }

    #[test]
    fn nothing_opens_in_another_place_or_with_another_key() {
        let seal = fixed();
        let sealed = frame(&seal, &ORIGIN, b"header", b"a page");
        assert!(opened(&seal, &ORIGIN, b"header", &sealed).is_some());
        assert!(opened(&seal, &ORIGIN, b"headex", &sealed).is_none());
        assert!(opened(&seal, &ORIGIN, b"", &sealed).is_none());
        let others = [
            Origin {
                session: [0xac; 16],
                ..ORIGIN
            },
            Origin { pack: 8, ..ORIGIN },
            Origin { frame: 0, ..ORIGIN },
            // The two numbers swapped.
            Origin {
                pack: ORIGIN.frame,
                frame: ORIGIN.pack,
                ..ORIGIN
            },
        ];
        for origin in others {
            assert!(
                opened(&seal, &origin, b"header", &sealed).is_none(),
                "{origin:?}"
            );
        }
        let object = seal.seal_object("roots/1", b"a root");
        assert_eq!(seal.open_object("roots/2", &object), Err(NotOpened));

        let master = MasterKey::from_hex(&"42".repeat(KEY_LEN)).unwrap();
        for other in [Seal::new(&master, &new_key_id()), Seal::generate(KEY_ID).0] {
            assert!(opened(&other, &ORIGIN, b"header", &sealed).is_none());
            assert_eq!(other.open_object("roots/1", &object), Err(NotOpened));
            assert_ne!(other.id_key(Kind::Chunk), seal.id_key(Kind::Chunk));
        }
    }

    #[test]
    fn one_object_sealed_twice_shows_no_likeness() {
        let seal = fixed();
        assert_ne!(
            seal.seal_object("a", b"same"),
            seal.seal_object("a", b"same")
        );
    }

    #[test]
    fn keys_of_kinds_differ_and_nothing_shows_them() {
        let seal = fixed();
        let kinds = [
            Kind::Chunk,
            Kind::Extents,
            Kind::Tree,
            Kind::Snapshot,
            Kind::Table,
        ];
        let keys: std::collections::HashSet<_> = kinds.map(|kind| seal.id_key(kind)).into();
        assert_eq!(keys.len(), kinds.len());
        let master = MasterKey::from_hex(&"42".repeat(KEY_LEN)).unwrap();
        assert_eq!(
            format!("{seal:?} {master:?}"),
            format!("Seal({KEY_ID}) MasterKey(..)")
        );
        assert_eq!(*master.to_hex(), "42".repeat(KEY_LEN));
        assert!(MasterKey::from_hex("42").is_none());
    }

    #[test]
    fn more_sessions_than_are_kept_open_all_the_same() {
        let seal = fixed();
        let origins: Vec<Origin> = (0..2 * FRAME_KEYS as u32)
            .map(|n| {
                let mut session = [0; 16];
                session[..4].copy_from_slice(&n.to_le_bytes());
                Origin { session, ..ORIGIN }
            })
            .collect();
        let sealed: Vec<_> = origins.iter().map(|o| frame(&seal, o, b"", b"x")).collect();
        for (origin, sealed) in origins
            .iter()
            .zip(&sealed)
            .chain(origins.iter().zip(&sealed))
        {
            assert_eq!(
                opened(&seal, origin, b"", sealed).as_deref(),
                Some(&b"x"[..])
            );
        }
        let kept = seal.inner.frame_keys.lock().unwrap().by_session.len();
        assert_eq!(kept, FRAME_KEYS);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            plain in proptest::collection::vec(any::<u8>(), 0..300),
            aad in proptest::collection::vec(any::<u8>(), 0..40),
            name in "[a-z/0-9]{0,20}",
            session: [u8; 16],
            pack: u32,
            number: u32,
        ) {
            let seal = fixed();
            let origin = Origin { session, pack, frame: number };
            prop_assert_eq!(Origin::decode(&origin.encode()), origin);
            let sealed = frame(&seal, &origin, &aad, &plain);
            prop_assert_eq!(sealed.len(), plain.len() + TAG_LEN);
            prop_assert_eq!(opened(&seal, &origin, &aad, &sealed), Some(plain.clone()));
            let object = seal.seal_object(&name, &plain);
            prop_assert_eq!(object.len(), SALT_LEN + plain.len() + TAG_LEN);
            prop_assert_eq!(seal.open_object(&name, &object), Ok(plain));
        }
    }
}
