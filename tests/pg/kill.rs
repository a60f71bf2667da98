//! kill -9 at random moments: what was committed stays, the next command works, and nothing half
//! made passes for a whole.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zenith_testkit::{Output, Server, Zenith, load, seed, soak};

use crate::support::{Home, PROGRAM, remove};

/// Kills per command.
fn rounds() -> usize {
    if soak() { 100 } else { 10 }
}

/// Kills of one command, at moments spread over the time that it takes when nobody kills it.
struct Killer {
    random: StdRng,
    seed: u64,
    /// How long the command takes.
    whole: Duration,
    /// How many runs the kill came too late for.
    finished: usize,
}

impl Killer {
    fn new(whole: Duration) -> Killer {
        let seed = seed();
        Killer {
            random: StdRng::seed_from_u64(seed),
            seed,
            whole,
            finished: 0,
        }
    }

    /// Whether the command was killed before its end.
    fn kill(&mut self, zenith: &Zenith, args: &[&str]) -> bool {
        let running = zenith.spawn(args);
        sleep(self.whole.mul_f64(self.random.random_range(0.02..0.98)));
        let output: Output = running.kill9();
        match output.code {
            None => true,
            Some(0) => {
                self.finished += 1;
                false
            }
            Some(_) => panic!("it failed by itself, ZENITH_SEED={}\n{output}", self.seed),
        }
    }

    fn check(&self, rounds: usize) {
        assert!(
            self.finished < rounds,
            "every kill came too late, ZENITH_SEED={}: nothing was tested",
            self.seed
        );
    }
}

fn with_rows(scale: u32) -> Home {
    let home = Home::alone();
    home.init(&[]);
    home.start(&[]);
    load::init(&home.place, &home.programs, &home.connection(), scale);
    home.sql("create table marker (n int)");
    home
}

/// New bytes for the next snapshot, and a row that tells the rounds apart.
fn change(home: &Home, round: usize) {
    home.sql(&format!(
        "update pgbench_accounts set filler = md5(random()::text) where aid % 3 = {};\n\
         insert into marker values ({round})",
        round % 3
    ));
}

/// The markers in the newest snapshot of a home, read from a server on a checkout.
fn markers(home: &Home, zenith: &Zenith, rev: &str) -> String {
    let dir = home.place.arg("verify");
    remove(&dir);
    zenith.ok(&["checkout", rev, &dir, "--no-sync"]);
    let copy = Server::start(&home.place, &home.programs, Path::new(&dir), "");
    load::check_balances(&copy.dsn());
    let rows = copy.value("select coalesce(max(n), -1) from marker");
    copy.stop();
    load::checksums(&home.programs, home.place.path(), &copy.pgdata);
    rows
}

#[test]
fn a_killed_snapshot() {
    let home = with_rows(2);
    change(&home, 0);
    let whole = home.zenith.ok(&["snapshot", "create", "-m", "0"]).elapsed;
    let mut killer = Killer::new(whole);
    let mut last = home.list().len();
    for round in 1..=rounds() {
        change(&home, round);
        let message = round.to_string();
        let killed = killer.kill(&home.zenith, &["snapshot", "create", "-m", &message]);
        // It is there whole, or not at all.
        let list = home.list();
        if !killed {
            assert_eq!(list.len(), last + 1);
        }
        assert!(
            list.len() == last || list.len() == last + 1,
            "ZENITH_SEED={}",
            killer.seed
        );
        let newest = markers(&home, &home.zenith, list[0]["id"].as_str().unwrap());
        assert_eq!(newest, list[0]["message"], "ZENITH_SEED={}", killer.seed);
        // The server is not left in backup mode and keeps no slot.
        assert_eq!(home.value("select count(*) from pg_replication_slots"), "0");

        home.snapshot(&message);
        last = home.list().len();
    }
    killer.check(rounds());
    assert_eq!(markers(&home, &home.zenith, "HEAD"), rounds().to_string());
    home.zenith.ok(&["stop"]);
}

#[test]
fn a_killed_push() {
    let home = with_rows(2);
    change(&home, 0);
    home.snapshot("0");
    let whole = home.zenith.ok(&["push"]).elapsed;
    let mut killer = Killer::new(whole);
    for round in 1..=rounds() {
        change(&home, round);
        home.snapshot(&round.to_string());
        killer.kill(&home.zenith, &["push"]);

        // Whoever reads the storage now finds the snapshot before or this one, whole.
        let reader = Zenith::new(PROGRAM, &home.place, &format!("reader{round}"));
        reader.ok(&["init", "--storage-dest", &home.storage()]);
        let found: usize = markers(&home, &reader, "HEAD").parse().unwrap();
        assert!(
            found == round || found == round - 1,
            "round {round} found {found}, ZENITH_SEED={}",
            killer.seed
        );
        remove(reader.dir().to_str().unwrap());
        home.zenith.ok(&["push"]);
    }
    killer.check(rounds());
    let reader = Zenith::new(PROGRAM, &home.place, "reader");
    reader.ok(&["init", "--storage-dest", &home.storage()]);
    assert_eq!(markers(&home, &reader, "HEAD"), rounds().to_string());
    home.zenith.ok(&["stop"]);
}

#[test]
fn a_killed_checkout() {
    let home = with_rows(4);
    change(&home, 1);
    let id = home.snapshot("1");
    let dir = home.place.arg("copy");
    let whole = home.zenith.ok(&["checkout", &id, &dir]).elapsed;
    let mut killer = Killer::new(whole);
    for _ in 0..rounds() {
        remove(&dir);
        let killed = killer.kill(&home.zenith, &["checkout", &id, &dir]);
        never_starts_half_done(&home, &dir, killed, killer.seed);
        // The same command completes it.
        home.zenith.ok(&["checkout", &id, &dir]);
        let copy = home.serve(&dir);
        load::check_balances(&copy.dsn());
        assert_eq!(copy.value("select n from marker"), "1");
    }
    killer.check(rounds());
    home.zenith.ok(&["stop"]);
}

#[test]
fn a_killed_export() {
    let home = with_rows(4);
    change(&home, 1);
    let id = home.snapshot("1");
    let dir = home.place.arg("out");
    let args = [
        "export",
        &id,
        "--snapshot-path",
        &dir,
        "--snapshot-format",
        "pgdata",
    ];
    let whole = home.zenith.ok(&args).elapsed;
    let mut killer = Killer::new(whole);
    for _ in 0..rounds() {
        remove(&dir);
        let killed = killer.kill(&home.zenith, &args);
        never_starts_half_done(&home, &dir, killed, killer.seed);
        // The same command completes it. One that came too late for the kill is complete, and
        // nothing is exported over it.
        if !killed {
            remove(&dir);
        }
        home.zenith.ok(&args);
        home.programs
            .run("pg_verifybackup", home.place.path(), [&dir]);
        let copy = home.serve(&dir);
        load::check_balances(&copy.dsn());
        assert_eq!(copy.value("select n from marker"), "1");
    }
    killer.check(rounds());
    home.zenith.ok(&["stop"]);
}

/// What a kill left: a server does not start on it, unless it was complete already.
fn never_starts_half_done(home: &Home, dir: &str, killed: bool, seed: u64) {
    if !killed || !Path::new(dir).exists() {
        return;
    }
    if Path::new(dir).join("global/pg_control").exists() {
        // pg_control comes last, so everything else must be there.
        let copy = home.serve(dir);
        load::check_balances(&copy.dsn());
        assert_eq!(
            copy.value("select n from marker"),
            "1",
            "ZENITH_SEED={seed}"
        );
        copy.stop();
        drop(copy);
        remove(dir);
        return;
    }
    let started = Server::try_start(&home.place, &home.programs, Path::new(dir), "");
    assert!(
        started.is_err(),
        "a server started on half a cluster, ZENITH_SEED={seed}"
    );
}
