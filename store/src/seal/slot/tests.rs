//! Key slots: made, opened, changed and removed; hostile bytes.

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
    let made =
        |passphrase: &[u8], kdf| create_with(&objects, KEY_ID, &master, passphrase, "", TIME, kdf);
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
