//! A storage in memory whose users take turns: a seed decides who comes next and what goes wrong.
//!
//! Every actor is a thread, and one of them runs at a time: the one that holds the baton. Each call
//! passes it on before it has its effect, so that a seed is one order of all effects. Between calls
//! an actor is alone.

use crate::objects::{Created, Listed, ObjectWriter, Objects, ObjectsError};
use crate::tests::Dice;
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How often things go wrong: one call in so many; 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Profile {
    /// An error, and nothing was done.
    pub(super) fails: usize,
    /// An error, and it was done.
    pub(super) lost_answers: usize,
    /// An error, and it is done later.
    pub(super) late: usize,
    /// Listings that do not know the newest.
    pub(super) stale: usize,
    /// Someone stops for a long while.
    pub(super) pauses: usize,
    /// A program ends in the middle.
    pub(super) crashes: usize,
    /// An actor goes on with the same chance as all others together.
    pub(super) sticky: bool,
    /// `create` replaces what is there: a storage that is of no use.
    pub(super) create_replaces: bool,
}

/// What is late lands within so many events.
pub(super) const LATE_MAX: usize = 300;
/// A listing is no older than this.
const STALE_MAX: usize = 12;
const PAUSE_MAX: usize = 1500;
/// Who waits for others looks again after so many.
const STAND_ASIDE: u64 = 20;

/// The storage, and whose turn it is.
#[derive(Debug)]
pub(super) struct Storage {
    inner: Mutex<Inner>,
    /// One for each actor.
    turns: Vec<Condvar>,
}

#[derive(Debug)]
struct Inner {
    dice: Dice,
    profile: Profile,
    /// Calls so far: the clock of everything here.
    event: u64,
    turn: Option<usize>,
    actors: Vec<Actor>,
    objects: BTreeMap<String, Stored>,
    /// What was deleted, its size, and when.
    gone: Vec<(String, u64, u64)>,
    late: Vec<Late>,
    /// Hash of all that happened, and its words where someone wants to read them.
    trace: u64,
    log: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Actor {
    alive: bool,
    paused_until: u64,
    /// Its program has ended: nothing gets through.
    crashed: bool,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    since: u64,
}

#[derive(Debug)]
struct Late {
    at: u64,
    key: String,
    bytes: Vec<u8>,
    only_if_absent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    After,
    Late,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Storage {
    pub(super) fn new(seed: u64, profile: Profile, actors: usize, is_logged: bool) -> Arc<Storage> {
        Arc::new(Storage {
            inner: Mutex::new(Inner {
                dice: Dice::new(seed),
                profile,
                event: 0,
                turn: None,
                actors: vec![Actor::default(); actors],
                objects: BTreeMap::new(),
                gone: Vec::new(),
                late: Vec::new(),
                trace: 0xcbf2_9ce4_8422_2325,
                log: is_logged.then(Vec::new),
            }),
            turns: (0..actors).map(|_| Condvar::new()).collect(),
        })
    }

    /// The storage as an actor sees it; for nobody in particular it is as it should be, and no
    /// call passes the baton on.
    pub(super) fn objects(self: &Arc<Storage>, actor: Option<usize>) -> Arc<dyn Objects> {
        Arc::new(SimObjects {
            storage: self.clone(),
            actor,
        })
    }

    pub(super) fn now(&self) -> u64 {
        lock(&self.inner).event
    }

    pub(super) fn trace(&self) -> u64 {
        lock(&self.inner).trace
    }

    pub(super) fn log(&self) -> Vec<String> {
        lock(&self.inner).log.clone().unwrap_or_default()
    }

    /// Something that an actor has to say about itself.
    pub(super) fn note(&self, words: &str) {
        lock(&self.inner).note(words);
    }

    /// Whether this actor's program ended since the last call of this; a new one begins.
    pub(super) fn restart(&self, actor: usize) -> bool {
        std::mem::take(&mut lock(&self.inner).actors[actor].crashed)
    }

    /// Whoever waits for something has others go on first.
    pub(super) fn stand_aside(&self, actor: usize) {
        let mut inner = lock(&self.inner);
        inner.event += 1;
        inner.actors[actor].paused_until = inner.event + STAND_ASIDE;
        self.pass_on(&mut inner, Some(actor));
        drop(self.wait(inner, actor));
    }

    /// All that was late lands.
    pub(super) fn land_all(&self) {
        let mut inner = lock(&self.inner);
        inner.event += LATE_MAX as u64 + 1;
        inner.land();
    }

    /// Runs all of these at once, each as an actor; what each panicked with.
    pub(super) fn run(
        self: &Arc<Storage>,
        actors: Vec<Box<dyn FnOnce() + Send + '_>>,
    ) -> Vec<String> {
        {
            let mut inner = lock(&self.inner);
            for actor in inner.actors.iter_mut().take(actors.len()) {
                actor.alive = true;
            }
            self.pass_on(&mut inner, None);
        }
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, work) in actors.into_iter().enumerate() {
                threads.push(scope.spawn(move || {
                    let _end = End(self, number);
                    drop(self.wait(lock(&self.inner), number));
                    work();
                }));
            }
            let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            ended.filter_map(Result::err).map(words_of).collect()
        })
    }

    /// Chooses whose turn it is.
    fn pass_on(&self, inner: &mut Inner, from: Option<usize>) {
        let is_sticky = inner.profile.sticky && inner.dice.one_in(2);
        let ready = |inner: &Inner| -> Vec<usize> {
            let actors = inner.actors.iter().enumerate();
            let ready = actors.filter(|(_, a)| a.alive && a.paused_until <= inner.event);
            ready.map(|(number, _)| number).collect()
        };
        let mut able = ready(inner);
        if able.is_empty() {
            // Everyone has stopped: time passes until someone goes on.
            let next = inner
                .actors
                .iter()
                .filter(|a| a.alive)
                .map(|a| a.paused_until)
                .min();
            if let Some(next) = next {
                inner.event = next;
                able = ready(inner);
            }
        }
        let stays = from.filter(|from| is_sticky && able.contains(from));
        inner.turn = stays.or_else(|| inner.dice.pick(&able));
        if let Some(next) = inner.turn {
            self.turns[next].notify_one();
        }
    }

    fn wait<'a>(&'a self, inner: MutexGuard<'a, Inner>, actor: usize) -> MutexGuard<'a, Inner> {
        self.turns[actor]
            .wait_while(inner, |inner| inner.turn != Some(actor))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes the baton on for good, also from a panic.
struct End<'a>(&'a Storage, usize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.0.inner);
        inner.actors[self.1].alive = false;
        self.0.pass_on(&mut inner, None);
    }
}

fn words_of(panic: Box<dyn std::any::Any + Send>) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    words
        .or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned()))
        .unwrap_or_else(|| "a panic without words".into())
}

impl Inner {
    fn one_in(&mut self, n: usize) -> bool {
        n > 0 && self.dice.one_in(n)
    }

    fn note(&mut self, words: &str) {
        for byte in words.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let event = self.event;
        if let Some(log) = &mut self.log {
            log.push(format!("{event:>6} {words}"));
        }
    }

    fn fault(&mut self, is_change: bool) -> Fault {
        let profile = self.profile;
        if self.one_in(profile.fails) {
            Fault::Before
        } else if is_change && self.one_in(profile.lost_answers) {
            Fault::After
        } else if is_change && self.one_in(profile.late) {
            Fault::Late
        } else {
            Fault::None
        }
    }

    fn land(&mut self) {
        let now = self.event;
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|late: &Late| late.at <= now);
        self.late = late;
        for Late {
            key,
            bytes,
            only_if_absent,
            ..
        } in due
        {
            let there = self.objects.contains_key(&key);
            self.note(&format!(
                "late {key} ({})",
                if there { "taken" } else { "new" }
            ));
            if !there || !only_if_absent {
                self.put(&key, bytes);
            }
        }
    }

    fn put(&mut self, key: &str, bytes: Vec<u8>) {
        let stored = Stored {
            bytes: Arc::new(bytes),
            since: self.event,
        };
        self.objects.insert(key.to_owned(), stored);
    }
}

/// [`Storage`] as one actor sees it.
#[derive(Debug)]
struct SimObjects {
    storage: Arc<Storage>,
    actor: Option<usize>,
}

impl SimObjects {
    /// Waits for the next turn of this actor, and says what will go wrong in it.
    fn turn(
        &self,
        verb: &str,
        key: &str,
        is_change: bool,
    ) -> Result<(MutexGuard<'_, Inner>, Fault), ObjectsError> {
        let mut inner = lock(&self.storage.inner);
        let Some(actor) = self.actor else {
            return Ok((inner, Fault::None));
        };
        assert_eq!(inner.turn, Some(actor), "{verb} {key} out of turn");
        let profile = inner.profile;
        if inner.one_in(profile.pauses) {
            let until = inner.event + 1 + inner.dice.below(PAUSE_MAX) as u64;
            inner.actors[actor].paused_until = until;
            inner.note(&format!("{actor} stops until {until}"));
        }
        self.storage.pass_on(&mut inner, Some(actor));
        if inner.turn != Some(actor) {
            inner = self.storage.wait(inner, actor);
        }
        inner.event += 1;
        inner.land();
        if inner.one_in(profile.crashes) {
            inner.actors[actor].crashed = true;
        }
        let fault = match inner.actors[actor].crashed {
            true => Fault::Before,
            false => inner.fault(is_change),
        };
        inner.note(&format!("{actor} {verb} {key} {fault:?}"));
        match fault {
            Fault::Before => Err(self.unreachable(key)),
            fault => Ok((inner, fault)),
        }
    }

    fn unreachable(&self, key: &str) -> ObjectsError {
        ObjectsError::Unreachable {
            location: self.location(),
            key: key.to_owned(),
            host: "sim".into(),
            why: "the seed says so".into(),
        }
    }

    /// A change that may be done, later done, or done and not told.
    fn change<T>(
        &self,
        verb: &str,
        key: &str,
        late: Option<(&[u8], bool)>,
        change: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, ObjectsError> {
        let (mut inner, fault) = self.turn(verb, key, true)?;
        if let (Fault::Late, Some((bytes, only_if_absent))) = (fault, late) {
            let at = inner.event + 1 + inner.dice.below(LATE_MAX) as u64;
            let (key, bytes) = (key.to_owned(), bytes.to_vec());
            inner.late.push(Late {
                at,
                key,
                bytes,
                only_if_absent,
            });
        } else {
            let done = change(&mut inner);
            if fault == Fault::None {
                return Ok(done);
            }
        }
        drop(inner);
        Err(self.unreachable(key))
    }

    fn read(&self, verb: &str, key: &str) -> Result<Option<Arc<Vec<u8>>>, ObjectsError> {
        let (inner, _) = self.turn(verb, key, false)?;
        Ok(inner.objects.get(key).map(|stored| stored.bytes.clone()))
    }

    fn found(&self, verb: &str, key: &str) -> Result<Arc<Vec<u8>>, ObjectsError> {
        self.read(verb, key)?.ok_or_else(|| ObjectsError::NotFound {
            location: self.location(),
            key: key.to_owned(),
        })
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), ObjectsError> {
        self.change("put", key, Some((bytes, false)), |inner| {
            inner.put(key, bytes.to_vec());
        })
    }
}

impl Objects for SimObjects {
    fn location(&self) -> String {
        "sim://storage".into()
    }

    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, ObjectsError> {
        Ok(self.found("get", key)?.to_vec())
    }

    fn get_range(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, ObjectsError> {
        let bytes = self.found("get range", key)?;
        let at = offset as usize;
        let range = bytes.get(at..at + len);
        range
            .map(<[u8]>::to_vec)
            .ok_or_else(|| ObjectsError::OutOfRange {
                location: self.location(),
                key: key.to_owned(),
                offset_bytes: offset,
                len_bytes: len as u64,
                size_bytes: bytes.len() as u64,
            })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, ObjectsError> {
        Ok(self.read("size", key)?.map(|bytes| bytes.len() as u64))
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        self.change("create", key, Some((bytes, true)), |inner| {
            let is_new = !inner.objects.contains_key(key);
            if is_new || inner.profile.create_replaces {
                inner.put(key, bytes.to_vec());
                return Created::New;
            }
            Created::Exists
        })
    }

    fn put_file(&self, key: &str, file: &Path) -> Result<(), ObjectsError> {
        self.put(key, &std::fs::read(file).unwrap())
    }

    fn get_to_file(&self, key: &str, file: &Path) -> Result<u64, ObjectsError> {
        let bytes = self.found("get", key)?;
        std::fs::write(file, &*bytes).unwrap();
        Ok(bytes.len() as u64)
    }

    fn reader(&self, key: &str) -> Result<Box<dyn Read + Send>, ObjectsError> {
        Ok(Box::new(Cursor::new(self.get(key)?)))
    }

    fn writer(&self, key: &str) -> Result<Box<dyn ObjectWriter>, ObjectsError> {
        Ok(Box::new(SimWriter {
            objects: SimObjects {
                storage: self.storage.clone(),
                actor: self.actor,
            },
            key: key.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.list_after(prefix, "")
    }

    fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>, ObjectsError> {
        let (mut inner, _) = self.turn("list", prefix, false)?;
        let stale = inner.profile.stale;
        let oldest = match self.actor.is_some() && inner.one_in(stale) {
            true => inner
                .event
                .saturating_sub(inner.dice.below(STALE_MAX) as u64),
            false => u64::MAX,
        };
        let is_asked_for = |key: &str| key.starts_with(prefix) && key > after;
        let mut listed: BTreeMap<String, u64> = BTreeMap::new();
        let Inner {
            dice,
            objects,
            gone,
            ..
        } = &mut *inner;
        for (key, size, when) in gone.iter().filter(|(key, _, _)| is_asked_for(key)) {
            if *when > oldest && dice.one_in(2) {
                listed.insert(key.clone(), *size);
            }
        }
        for (key, stored) in objects.iter().filter(|(key, _)| is_asked_for(key)) {
            if stored.since <= oldest || dice.one_in(2) {
                listed.insert(key.clone(), stored.bytes.len() as u64);
            }
        }
        let listed = listed.into_iter();
        Ok(listed.map(|(key, size)| Listed { key, size }).collect())
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.change("delete", key, None, |inner| {
            if let Some(stored) = inner.objects.remove(key) {
                let (size, now) = (stored.bytes.len() as u64, inner.event);
                inner.gone.push((key.to_owned(), size, now));
            }
        })
    }
}

struct SimWriter {
    objects: SimObjects,
    key: String,
    bytes: Vec<u8>,
}

impl Write for SimWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for SimWriter {
    fn finish(self: Box<Self>) -> Result<(), ObjectsError> {
        self.objects.put(&self.key, &self.bytes)
    }
}
