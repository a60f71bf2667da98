//! A storage that creates nothing only where there is nothing, and is declared to have one writer:
//! one home, whose programs take turns with a lock file.

use super::*;
use crate::objects::{Created, Exclusive, Layer, ObjectsError};
use std::fs::{File, TryLockError};
use std::path::PathBuf;

/// Who writes alone.
pub(super) struct Single {
    /// The lock files, one for each machine.
    locks: tempfile::TempDir,
    takes_turns: bool,
    homes: Mutex<Homes>,
}

struct Homes {
    writer: usize,
    /// Those that were told that they write alone. All but the last are wrong by now.
    told: BTreeSet<usize>,
}

impl Single {
    /// The first home writes.
    pub(super) fn new(takes_turns: bool) -> Single {
        let homes = Homes {
            writer: 0,
            told: BTreeSet::from([0]),
        };
        Single {
            locks: memory_dir(),
            takes_turns,
            homes: Mutex::new(homes),
        }
    }

    fn homes(&self) -> std::sync::MutexGuard<'_, Homes> {
        self.homes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_of(&self, home: usize) -> PathBuf {
        self.locks.path().join(home.to_string())
    }
}

fn id_of(home: usize) -> String {
    format!("{home:032x}")
}

impl Sim {
    /// The home that alone may write, if one does.
    pub(super) fn writer(&self) -> Option<usize> {
        self.single.as_ref().map(|single| single.homes().writer)
    }

    /// The machine on which an actor runs: pruner and collectors are programs of whoever writes.
    pub(super) fn machine_of(&self, actor: usize) -> usize {
        match actor {
            home if home < HOMES => home,
            _ => self.writer().unwrap_or(0),
        }
    }

    /// The storage as programs of this machine open it.
    pub(super) fn open_there(
        &self,
        machine: usize,
        actor: Option<usize>,
        seed: u64,
    ) -> Result<Repository> {
        let (objects, index) = (self.storage.objects(actor), IndexChoice::Memory);
        let told = |single: &&Single| single.homes().told.contains(&machine);
        let single = self.single.as_ref().filter(told);
        let objects: Arc<dyn Objects> = match single {
            Some(single) if single.takes_turns => {
                let lock = single.lock_of(machine);
                Arc::new(Turns {
                    inner: Exclusive::new(objects, &lock),
                    lock,
                    storage: self.storage.clone(),
                    actor,
                })
            }
            _ => objects,
        };
        let there = Repository::open_in(objects, self.seal.clone(), index, seeded(seed))?;
        let there = there.with_segments_of(SEGMENT_PACKS);
        Ok(match single {
            Some(_) => there.only(&id_of(machine)),
            None => there,
        })
    }

    /// The home is told to write alone, and says so at the storage. Nobody else is there: two that
    /// are told of at once are what such a storage cannot keep apart.
    pub(super) fn hand_over(&self, home: usize) {
        let Some(single) = &self.single else { return };
        let mut homes = single.homes();
        homes.writer = home;
        homes.told.insert(home);
        drop(homes);
        let claimed = self.as_it_is().claim(Operation::default());
        self.tell(home, "claim", &claimed);
        if let Err(e) = claimed {
            self.wrong(format!("{home} cannot be the one that writes: {e}"));
        }
    }
}

/// [`Exclusive`], whose lock file would have a thread wait that holds the baton: who finds it locked
/// stands aside first.
#[derive(Debug)]
struct Turns {
    inner: Exclusive,
    lock: PathBuf,
    storage: Arc<Storage>,
    actor: Option<usize>,
}

impl Turns {
    fn is_taken(&self) -> bool {
        let Ok(file) = File::open(&self.lock) else {
            return false;
        };
        match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(e)) => panic!("{e}"),
        }
    }
}

impl Layer for Turns {
    fn below(&self) -> &dyn Objects {
        &self.inner
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<Created, ObjectsError> {
        while let Some(actor) = self.actor.filter(|_| self.is_taken()) {
            self.storage.stand_aside(actor);
        }
        Objects::create(&self.inner, key, bytes)
    }
}
