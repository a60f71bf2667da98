//! Time and chance come from the world that a home was opened in, and from nowhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use zenith::event::ignore;
use zenith::home::{Home, Wait};
use zenith::settings::Settings;
use zenith::snapshot::{self, SnapshotOptions};
use zenith::who::operation;
use zenith_store::world::Source;
use zenith_store::{Params, World};
use zenith_testkit::Server;

use crate::fixture::{Fixture, contents};

/// A world of one thread that a seed decides; its clock moves whenever it is asked.
#[derive(Debug)]
struct Seeded(Mutex<u64>);

impl Seeded {
    fn world(seed: u64) -> World {
        World::new(Seeded(Mutex::new(seed)))
    }

    /// splitmix64
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Source for Seeded {
    fn unix_micros(&self) -> i64 {
        1_763_800_000_000_000 + (self.next() >> 32) as i64
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {}

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next() as u8);
    }

    fn threads(&self) -> usize {
        1
    }

    fn processors(&self) -> usize {
        1
    }
}

/// What a home holds for good after init and a snapshot in this world: path → bytes.
fn life(f: &Fixture, pgdata: &Path, name: &str, seed: u64) -> BTreeMap<String, Vec<u8>> {
    let home = Home::prepare_in(&f.place.join(name), Seeded::world(seed)).unwrap();
    home.create_repository(Params::default(), operation(home.world(), "init", ""))
        .unwrap();
    home.complete(&Settings::new_in(home.world())).unwrap();
    let lock = home.lock("test", Wait::No).unwrap();
    let repo = home.writer(&lock).unwrap();
    let options = SnapshotOptions {
        threads: 0,
        operation: operation(home.world(), "snapshot create", ""),
        home: Some(home.clone()),
        ..f.options()
    };
    snapshot::offline(&repo, pgdata, &options, &ignore).unwrap();
    let lasts = |path: &str| {
        ["config.toml", "clusters.toml", "zenith.json"].contains(&path)
            || ["roots/", "packs/"].iter().any(|dir| path.starts_with(dir))
    };
    contents(home.dir())
        .into_iter()
        .filter(|(path, _)| lasts(path))
        .map(|(path, (_, _, bytes))| (path, bytes))
        .collect()
}

#[test]
fn a_home_of_a_seed_is_the_same_each_time() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let of = |name, seed| life(&f, &server.pgdata, name, seed);
    let one = of("one", 7);
    let files = |home: &BTreeMap<String, Vec<u8>>| home.keys().cloned().collect::<Vec<_>>();
    assert!(files(&one).iter().any(|path| path.starts_with("packs/")));
    let again = of("again", 7);
    assert_eq!(files(&again), files(&one));
    for (path, bytes) in &one {
        assert!(again[path] == *bytes, "{path} differs");
    }
    let other = of("other", 8);
    assert_ne!(files(&other), files(&one), "packs have names of chance");
    for path in ["config.toml", "clusters.toml", "zenith.json"] {
        assert!(other[path] != one[path], "{path} has nothing of chance");
    }
}
