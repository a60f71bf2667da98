//! The key of a sealed home: its master key in `<home>/key`, and the key slots that wrap it.
//!
//! The file holds the key as it is, since the agent starts with nobody there and the cluster lies
//! beside it in the clear; docs/security.md argues it. Slots lie at the storage and, byte for
//! byte, in the home. They are changed at the storage first: what is interrupted in between leaves
//! the home with older slots, which the next command replaces.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zenith_store::objects::{Directory, Objects, OpenOptions};
use zenith_store::seal::slot::{self, SlotInfo};
use zenith_store::seal::{MasterKey, Seal, new_key_id};
use zenith_store::{Repository, World, id};
use zeroize::Zeroizing;

use crate::disk;
use crate::error::{Error, Result};
use crate::home::Home;
use crate::managed::Surroundings;
use crate::settings::Settings;
use crate::sync;
use crate::who;

/// Variables that no process which outlives a command is to inherit; the server's are taken away in
/// `pg::server`.
pub(crate) const SECRET_VARIABLES: [&str; 2] = ["ZENITH_PASSPHRASE", "ZENITH_NEW_PASSPHRASE"];

/// The first word of the file.
const MAGIC: &str = "zenith-key-1";

/// The key of a home and its storage.
#[derive(Debug, Clone)]
pub struct HomeKey {
    /// Names it: 32 hexadecimal digits, no secret.
    pub key_id: String,
    /// The key.
    pub master: MasterKey,
}

impl HomeKey {
    /// A new one.
    pub fn generate() -> HomeKey {
        HomeKey {
            key_id: new_key_id(),
            master: MasterKey::generate(),
        }
    }

    /// What opens repositories.
    pub fn seal(&self) -> Seal {
        Seal::new(&self.master, &self.key_id)
    }
}

/// Which passphrase a command needs before it can begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// None: nothing is sealed, or the home has its key.
    Nothing,
    /// A new one, for a repository that is to be made.
    New,
    /// One that opens a slot there.
    Existing {
        /// Where the slots are.
        location: String,
    },
}

/// `<home>/key`.
pub fn path(home: &Home) -> PathBuf {
    path_in(home.dir())
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("key")
}

/// The key that the home keeps, or nothing when it keeps none.
///
/// Errors: `HomeDamaged`, `Io`.
pub fn read(home: &Home) -> Result<Option<HomeKey>> {
    read_in(home.dir())
}

fn read_in(dir: &Path) -> Result<Option<HomeKey>> {
    let path = path_in(dir);
    let Some(bytes) = disk::read_if_there(&path)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    match parse(&bytes) {
        Some(key) => Ok(Some(key)),
        None => Err(Error::HomeDamaged {
            path,
            why: "it holds no key".to_owned(),
        }),
    }
}

/// Keeps the key in the home, durably and for its owner alone.
pub fn write(home: &Home, key: &HomeKey) -> Result<()> {
    disk::replace(&path(home), text(key).as_bytes(), 0o600)
}

fn text(key: &HomeKey) -> Zeroizing<String> {
    let hex = key.master.to_hex();
    let words = Zeroizing::new(format!("{MAGIC} {} {}", key.key_id, &*hex));
    Zeroizing::new(format!("{} {}\n", &*words, check(&words)))
}

fn parse(bytes: &[u8]) -> Option<HomeKey> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (words, sum) = line.rsplit_once(' ')?;
    let mut parts = words.split(' ');
    let (MAGIC, key_id, master, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    id::parse_hex::<16>(key_id)?;
    (check(words) == sum).then_some(())?;
    Some(HomeKey {
        key_id: key_id.to_owned(),
        master: MasterKey::from_hex(master)?,
    })
}

/// Finds a digit that rotted before it becomes a key that opens nothing.
fn check(words: &str) -> String {
    zenith_store::seal::check_word(words.as_bytes())
}

/// Which passphrase init or start needs for a home in `dir`, which need not be there. `encrypt`:
/// a new repository is to be sealed.
///
/// Errors: `NotSealed` when `encrypt` is asked for what lies in the clear already, `Sealed` of the
/// store for a sealed storage when the home lies in the clear, and those of the places.
pub fn need(dir: &Path, storage: Option<&dyn Objects>, encrypt: bool) -> Result<Need> {
    let local = Directory::new(dir);
    for objects in [Some(&local as &dyn Objects), storage]
        .into_iter()
        .flatten()
    {
        if has_slots(objects)? {
            // With its key, such a home could not open its own repository any more.
            if Repository::exists(&local)? && !is_sealed(&local)? {
                return Err(zenith_store::Error::Sealed {
                    location: objects.location(),
                }
                .into());
            }
            let kept = path_in(dir).exists();
            return Ok(if kept {
                Need::Nothing
            } else {
                Need::Existing {
                    location: objects.location(),
                }
            });
        }
        if encrypt && Repository::exists(objects)? && !is_sealed(objects)? {
            return Err(Error::NotSealed {
                location: objects.location(),
            });
        }
    }
    Ok(if encrypt { Need::New } else { Need::Nothing })
}

/// A key, and where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The key.
    pub key: HomeKey,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the home's file.
    Kept,
    /// In a slot of the home.
    Home,
    /// In a slot of the storage.
    Storage,
    /// It is new.
    Nowhere,
}

/// The key for a home in `dir`, which need not be there: the one it keeps, the one that the
/// passphrase opens at the storage or in the home, or with `encrypt` a new one. Nothing when
/// nothing is sealed. Writes nothing.
///
/// Errors: `PassphraseMissing` where one is needed, `NotSealed`, `KeyForeign`, and those of slots.
pub fn find(
    dir: &Path,
    storage: Option<&dyn Objects>,
    passphrase: Option<&[u8]>,
    encrypt: bool,
) -> Result<Option<Found>> {
    if let Some(key) = read_in(dir)? {
        if let Some(storage) = storage {
            same_key(dir, storage, &key)?;
        }
        let place = Place::Kept;
        return Ok(Some(Found { key, place }));
    }
    let given = |location: String| passphrase.ok_or(Error::PassphraseMissing { location });
    Ok(Some(match need(dir, storage, encrypt)? {
        Need::Nothing => return Ok(None),
        Need::New => {
            given(dir.display().to_string())?;
            Found {
                key: HomeKey::generate(),
                place: Place::Nowhere,
            }
        }
        Need::Existing { location } => {
            let passphrase = given(location)?;
            // The storage's slots are the newer ones.
            let (found, place) = match storage {
                Some(storage) if has_slots(storage)? => {
                    (slot::unlock(storage, passphrase)?, Place::Storage)
                }
                _ => (slot::unlock(&Directory::new(dir), passphrase)?, Place::Home),
            };
            let key = HomeKey {
                key_id: found.key_id,
                master: found.master,
            };
            Found { key, place }
        }
    }))
}

impl Found {
    /// Has the home keep the key, and the slots that open it; to be called before its repository
    /// is made. What is interrupted goes on with the same passphrase.
    ///
    /// Errors: `PassphraseMissing`, and those of both places.
    pub fn keep(
        self,
        home: &Home,
        storage: Option<&dyn Objects>,
        passphrase: Option<&[u8]>,
    ) -> Result<HomeKey> {
        let key = self.key;
        let local = Directory::new(home.dir());
        match (self.place, storage) {
            (Place::Kept, _) => return Ok(key),
            (Place::Storage, Some(storage)) => slot::mirror(storage, &local)?,
            (Place::Nowhere, _) => {
                let passphrase = passphrase.ok_or_else(|| Error::PassphraseMissing {
                    location: home.dir().display().to_string(),
                })?;
                // First: a key that nobody could open again must seal nothing.
                let (id, master) = (&key.key_id, &key.master);
                slot::create(
                    &local,
                    id,
                    master,
                    passphrase,
                    &who(home.world()),
                    who::now(home.world()),
                )?;
            }
            (Place::Home | Place::Storage, _) => {}
        }
        write(home, &key)?;
        Ok(key)
    }
}

/// Gives a storage that has no slots those of the home; to be called before a sealed repository
/// is made there.
///
/// Errors: `KeyForeign` when it has those of another key.
pub fn publish(home: &Home, storage: &dyn Objects, key: &HomeKey) -> Result<()> {
    if has_slots(storage)? {
        return same_key(home.dir(), storage, key);
    }
    Ok(slot::mirror(&Directory::new(home.dir()), storage)?)
}

/// Whether there is a sealed repository, by its own word: its slots may be gone.
fn is_sealed(objects: &dyn Objects) -> Result<bool> {
    match Repository::key_id(objects) {
        Ok(key_id) => Ok(key_id.is_some()),
        Err(zenith_store::Error::NotARepository { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn has_slots(objects: &dyn Objects) -> Result<bool> {
    Ok(!slot::list(objects)?.is_empty())
}

/// Errors: `KeyForeign` when there are slots, and all that can be read are of another key.
fn same_key(dir: &Path, objects: &dyn Objects, key: &HomeKey) -> Result<()> {
    let slots = slot::list(objects)?;
    let mut ids = slots
        .iter()
        .filter_map(|(_, slot)| Some(&slot.as_ref().ok()?.key_id));
    let is_other = ids.clone().next().is_some() && !ids.any(|id| *id == key.key_id);
    if is_other {
        return Err(Error::KeyForeign {
            dir: dir.to_owned(),
            location: objects.location(),
        });
    }
    Ok(())
}

/// `user@host`, the label of a slot.
fn who(world: &World) -> String {
    who::operation(world, "", "").who
}

/// The key slots of a home, and of its storage where it has one.
#[derive(Debug)]
pub struct Slots {
    key: HomeKey,
    home: Directory,
    /// None where there is no storage, or no repository at it yet: then the home's slots count.
    storage: Option<Arc<dyn Objects>>,
    world: World,
}

/// What became of a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The slot of the new one.
    pub added: u32,
    /// The slot of the old one, gone now.
    pub removed: u32,
}

impl Slots {
    /// Those of this home.
    ///
    /// Errors: `NotSealed`, `KeyMissing`, `KeyForeign`, and those of the storage.
    pub fn open(home: &Home, storage: Option<Arc<dyn Objects>>) -> Result<Slots> {
        home.check_key()?;
        let Some(key) = read(home)? else {
            return Err(Error::NotSealed {
                location: home.dir().display().to_string(),
            });
        };
        let storage = match storage {
            // Where all slots were deleted, a new one belongs there first.
            Some(storage) if has_slots(&*storage)? || is_sealed(&*storage)? => {
                same_key(home.dir(), &*storage, &key)?;
                Some(storage)
            }
            _ => None,
        };
        Ok(Slots {
            key,
            home: Directory::new(home.dir()),
            storage,
            world: home.world().clone(),
        })
    }

    /// Where the slots are that count.
    fn first(&self) -> &dyn Objects {
        match &self.storage {
            Some(storage) => &**storage,
            None => &self.home,
        }
    }

    /// The home follows its storage.
    fn follow(&self) -> Result<()> {
        match &self.storage {
            Some(storage) => Ok(slot::mirror(&**storage, &self.home)?),
            None => Ok(()),
        }
    }

    /// Where they are, for messages.
    pub fn location(&self) -> String {
        self.first().location()
    }

    /// All of them; those that cannot be read with the reason.
    pub fn list(&self) -> Result<Vec<(u32, zenith_store::Result<SlotInfo>)>> {
        Ok(slot::list(self.first())?)
    }

    /// The slot that a passphrase opens.
    ///
    /// Errors: `WrongPassphrase` of the store.
    pub fn find(&self, passphrase: &[u8]) -> Result<u32> {
        Ok(slot::open(self.first(), &self.key.key_id, passphrase)?.1)
    }

    /// A new slot for a passphrase; its number.
    pub fn add(&self, passphrase: &[u8]) -> Result<u32> {
        let number = slot::create(
            self.first(),
            &self.key.key_id,
            &self.key.master,
            passphrase,
            &who(&self.world),
            who::now(&self.world),
        )?;
        self.follow()?;
        Ok(number)
    }

    /// A new slot for `new`, then the one of `old` goes. Interrupted, both are there.
    ///
    /// Errors: `WrongPassphrase` of the store.
    pub fn change(&self, old: &[u8], new: &[u8]) -> Result<Changed> {
        let removed = self.find(old)?;
        let added = self.add(new)?;
        self.remove(removed)?;
        Ok(Changed { added, removed })
    }

    /// Removes a slot.
    ///
    /// Errors: `NoSlot`, `LastSlot` of the store.
    pub fn remove(&self, number: u32) -> Result<()> {
        slot::remove(self.first(), number)?;
        self.follow()
    }
}

/// The place that settings push to, opened for a look at its slots.
///
/// Errors: those of the place.
pub fn storage(
    dir: &Path,
    around: &Surroundings,
    settings: &Settings,
) -> Result<Option<Arc<dyn Objects>>> {
    let Some(location) = &settings.storage_dest else {
        return Ok(None);
    };
    let options = OpenOptions::interactive();
    Ok(Some(sync::open_objects(
        location,
        dir,
        &around.storage,
        &options,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use zenith_store::Time;
    use zenith_store::seal::slot::Kdf;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        (dir, home)
    }

    /// A slot that costs nothing to open.
    fn cheap(objects: &dyn Objects, key: &HomeKey, passphrase: &str) -> u32 {
        let kdf = Kdf {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        };
        let (id, master, secret) = (&key.key_id, &key.master, passphrase.as_bytes());
        slot::create_with(objects, id, master, secret, "", Time::default(), kdf).unwrap()
    }

    /// As init does it.
    fn settle(
        home: &Home,
        storage: Option<&dyn Objects>,
        passphrase: Option<&[u8]>,
        encrypt: bool,
    ) -> Result<Option<HomeKey>> {
        find(home.dir(), storage, passphrase, encrypt)?
            .map(|found| found.keep(home, storage, passphrase))
            .transpose()
    }

    fn hex(key: &Option<HomeKey>) -> String {
        key.as_ref().unwrap().master.to_hex().to_string()
    }

    #[test]
    fn a_home_keeps_its_key_to_itself() {
        let (_dir, home) = home();
        assert!(read(&home).unwrap().is_none());
        let key = HomeKey::generate();
        write(&home, &key).unwrap();
        let mode = fs::metadata(path(&home)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let back = read(&home).unwrap();
        assert_eq!(hex(&back), *key.master.to_hex());
        assert_eq!(back.unwrap().key_id, key.key_id);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&*key.master.to_hex()), "{shown}");
    }

    #[test]
    fn a_key_with_a_rotten_digit_is_no_key() {
        let (_dir, home) = home();
        write(&home, &HomeKey::generate()).unwrap();
        let good = fs::read(path(&home)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            fs::write(path(&home), &bad).unwrap();
            let error = read(&home).unwrap_err();
            assert!(matches!(error, Error::HomeDamaged { .. }), "{at}: {error}");
        }
    }

    #[test]
    fn a_home_that_lost_its_key_is_opened_by_its_own_slots_and_a_new_one_by_the_storages() {
        let ((_a, first), (_b, second)) = (home(), home());
        let dir = tempfile::tempdir().unwrap();
        let storage = Directory::new(dir.path());
        let key = HomeKey::generate();
        assert_eq!(
            need(first.dir(), Some(&storage), false).unwrap(),
            Need::Nothing
        );
        assert_eq!(need(first.dir(), Some(&storage), true).unwrap(), Need::New);
        cheap(&Directory::new(first.dir()), &key, "one");
        // As after a cut between slot and file.
        assert!(matches!(
            need(first.dir(), None, true).unwrap(),
            Need::Existing { .. }
        ));
        let nothing = settle(&first, None, None, true);
        assert!(matches!(nothing, Err(Error::PassphraseMissing { .. })));
        let found = settle(&first, None, Some(b"one"), true).unwrap();
        assert_eq!(hex(&found), *key.master.to_hex());
        assert_eq!(need(first.dir(), None, true).unwrap(), Need::Nothing);

        publish(&first, &storage, &key).unwrap();
        assert!(matches!(
            need(second.dir(), Some(&storage), false).unwrap(),
            Need::Existing { .. }
        ));
        let wrong = settle(&second, Some(&storage), Some(b"two"), false);
        assert!(matches!(
            wrong,
            Err(Error::Store(zenith_store::Error::WrongPassphrase { .. }))
        ));
        assert!(!path(&second).exists());
        let found = settle(&second, Some(&storage), Some(b"one"), false).unwrap();
        assert_eq!(hex(&found), *key.master.to_hex());
        assert!(has_slots(&Directory::new(second.dir())).unwrap());
        // Now it needs none any more.
        let kept = settle(&second, Some(&storage), None, false).unwrap();
        assert_eq!(hex(&kept), *key.master.to_hex());

        let (_c, third) = home();
        write(&third, &HomeKey::generate()).unwrap();
        for error in [
            settle(&third, Some(&storage), None, false).unwrap_err(),
            publish(&third, &storage, &HomeKey::generate()).unwrap_err(),
            Slots::open(&third, Some(Arc::new(storage))).unwrap_err(),
        ] {
            assert!(matches!(error, Error::KeyForeign { .. }), "{error}");
        }
    }

    #[test]
    fn what_lies_in_the_clear_is_not_sealed_afterwards() {
        let (_dir, home) = home();
        home.create_repository(Default::default(), Default::default())
            .unwrap();
        let error = need(home.dir(), None, true).unwrap_err();
        assert!(matches!(error, Error::NotSealed { .. }), "{error}");
        assert_eq!(need(home.dir(), None, false).unwrap(), Need::Nothing);
        assert!(settle(&home, None, None, false).unwrap().is_none());
        assert!(matches!(
            Slots::open(&home, None),
            Err(Error::NotSealed { .. })
        ));
    }

    #[test]
    fn slots_change_at_the_storage_and_the_home_follows() {
        let (_dir, home) = home();
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Objects> = Arc::new(Directory::new(dir.path()));
        let local = Directory::new(home.dir());
        let key = HomeKey::generate();
        write(&home, &key).unwrap();
        cheap(&local, &key, "old");
        publish(&home, &*storage, &key).unwrap();
        let slots = Slots::open(&home, Some(storage.clone())).unwrap();
        let changed = slots.change(b"old", b"new").unwrap();
        assert_eq!(
            changed,
            Changed {
                added: 1,
                removed: 0
            }
        );
        for place in [&local as &dyn Objects, &*storage] {
            assert_eq!(slot::list(place).unwrap().len(), 1);
            assert!(slot::unlock(place, b"old").is_err());
            assert_eq!(slot::unlock(place, b"new").unwrap().number, 1);
        }
        assert!(slots.remove(1).is_err());
        assert_eq!(slots.list().unwrap().len(), 1);
    }
}
