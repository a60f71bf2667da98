//! What a repository, and a home around it, take from the world: time, randomness, helping threads.
//!
//! It is a parameter, so that a test can run all of it from a seed. Nothing of it is
//! trusted: clocks and the labels made from them only order names and decide when to try.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Random bytes of a session's name; before them its label.
const SESSION_RANDOM: usize = 10;
const SESSION_LABEL: usize = 6;
const SESSION_LEN: usize = SESSION_LABEL + SESSION_RANDOM;

/// Where these things come from. Cheap to clone; clones are the same one.
#[derive(Clone, Debug)]
pub struct World(Arc<dyn Source>);

/// What a world must be able to give.
pub trait Source: Send + Sync + Debug {
    /// Microseconds since 1970-01-01 UTC.
    fn unix_micros(&self) -> i64;

    /// Time since a moment of its own; never goes back, whatever is done to the clock.
    fn monotonic(&self) -> Duration;

    /// Returns when so much time has passed.
    fn sleep(&self, time: Duration);

    /// Fills with bytes that nobody can guess and nobody has had.
    fn fill(&self, bytes: &mut [u8]);

    /// Threads that may work at once for one call. With 1 no helper is started.
    fn threads(&self) -> usize;

    /// Threads that get their own processor.
    fn processors(&self) -> usize;
}

impl World {
    /// The world of `source`.
    pub fn new(source: impl Source + 'static) -> World {
        World(Arc::new(source))
    }

    /// The real one.
    pub fn real() -> World {
        World::new(Real(begin()))
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn unix_micros(&self) -> i64 {
        self.0.unix_micros()
    }

    /// Begins to measure time.
    pub fn watch(&self) -> Watch {
        Watch {
            begun: self.0.monotonic(),
            world: self.clone(),
        }
    }

    /// Returns when so much time has passed.
    pub fn sleep(&self, time: Duration) {
        self.0.sleep(time);
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Threads that may work at once for one call. With 1 no helper is started.
    pub fn threads(&self) -> usize {
        self.0.threads().max(1)
    }

    /// Threads that compute without getting into each other's way; as many as [`World::threads`]
    /// at most.
    pub fn processors(&self) -> usize {
        self.0.processors().clamp(1, self.threads())
    }

    /// The name of a new session: 6 bytes of milliseconds since 1970, big-endian, then 10 random
    /// ones. Nothing relies on the clock being right: see [`PackName::label`](crate::PackName::label).
    pub fn session(&self) -> [u8; SESSION_LEN] {
        self.session_above(0)
    }

    /// The same, with a label of at least `floor`.
    pub fn session_above(&self, floor: u64) -> [u8; SESSION_LEN] {
        let millis = u64::try_from(self.unix_micros() / 1000).unwrap_or(0);
        let millis = millis.max(floor);
        let mut name = [0; SESSION_LEN];
        let (label, random) = name.split_at_mut(SESSION_LABEL);
        label.copy_from_slice(&millis.to_be_bytes()[8 - SESSION_LABEL..]);
        self.0.fill(random);
        name
    }
}

impl Default for World {
    fn default() -> World {
        World::real()
    }
}

/// Measures time from the moment it was begun.
#[derive(Clone, Debug)]
pub struct Watch {
    world: World,
    begun: Duration,
}

impl Watch {
    /// How long ago it was begun.
    pub fn elapsed(&self) -> Duration {
        self.world.0.monotonic().saturating_sub(self.begun)
    }

    /// What is left of `limit`; nothing when that is over.
    pub fn left_of(&self, limit: Duration) -> Option<Duration> {
        let left = limit.saturating_sub(self.elapsed());
        (!left.is_zero()).then_some(left)
    }
}

/// With the moment from which its monotonic time counts.
#[derive(Debug)]
struct Real(Instant);

impl Source for Real {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the clock"
    )]
    fn unix_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 orders nothing, which does no harm.
        since.map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that looks at the watch"
    )]
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks for randomness"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes);
    }

    /// As many as a call likes: most of them wait for disks and networks.
    fn threads(&self) -> usize {
        usize::MAX
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that counts processors"
    )]
    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

#[expect(clippy::disallowed_methods, reason = "where its time begins")]
fn begin() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(i64);

    impl Source for At {
        fn unix_micros(&self) -> i64 {
            self.0
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.unsigned_abs())
        }

        fn sleep(&self, _: Duration) {}

        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }

        fn threads(&self) -> usize {
            1
        }

        fn processors(&self) -> usize {
            64
        }
    }

    #[test]
    fn sessions_are_labelled_by_their_time() {
        let name = |micros| World::new(At(micros)).session();
        assert_eq!(
            crate::id::hex(&name(1_763_800_000_123_456)),
            "019aaaac267b07070707070707070707"
        );
        assert!(name(1_000) < name(2_000));
        // A clock that is nonsense makes a name all the same.
        assert_eq!(name(-5), name(0));
    }

    #[test]
    fn no_two_sessions_of_the_real_world_are_alike() {
        let world = World::real();
        assert_ne!(world.session(), world.session());
        assert!(world.unix_micros() > 1_700_000_000_000_000);
    }

    #[test]
    fn a_world_of_one_thread_has_one_processor() {
        assert_eq!(World::new(At(0)).processors(), 1);
        assert!(World::real().processors() > 0);
    }

    #[test]
    fn what_was_slept_has_passed() {
        let world = World::real();
        let watch = world.watch();
        let nap = Duration::from_millis(2);
        assert!(watch.left_of(Duration::MAX).is_some());
        world.sleep(nap);
        assert!(watch.elapsed() >= nap);
        assert_eq!(watch.left_of(nap), None);
    }
}
