//! Chance from a seed, and a world made of it.

use crate::world::{Source, World};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// Random numbers, the same ones for the same seed with every version of everything (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them, unless there is none.
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())].clone())
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}

/// A world of one thread that a seed decides; its clock moves whenever it is asked.
pub(crate) fn seeded(seed: u64) -> World {
    World::new(Seeded(Mutex::new((Dice::new(seed), 1_763_800_000_000_000))))
}

#[derive(Debug)]
struct Seeded(Mutex<(Dice, i64)>);

impl Source for Seeded {
    fn unix_micros(&self) -> i64 {
        let mut inner = self.0.lock().unwrap();
        inner.1 += 1000;
        inner.1
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.unix_micros().unsigned_abs())
    }

    fn sleep(&self, time: Duration) {
        self.0.lock().unwrap().1 += time.as_micros() as i64;
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().0.fill(bytes);
    }

    fn threads(&self) -> usize {
        1
    }

    fn processors(&self) -> usize {
        1
    }
}

/// A directory in memory where the machine has that: nothing here is to outlive anything.
pub(crate) fn memory_dir() -> TempDir {
    let shm = Path::new("/dev/shm");
    match shm.is_dir() {
        true => tempfile::tempdir_in(shm).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}
