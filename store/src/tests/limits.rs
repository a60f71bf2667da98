//! Long tables, many sessions, clocks that are wrong: what a root has room for, and for how long.

use super::collection::{Pair, at_once, collect_beside, push};
use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::id::TreeId;
use crate::log;
use crate::object::{SnapshotKind, Time};
use crate::root::PackRow;
use crate::state::{FENCES_MAX, FENCES_ROOM};
use crate::world::{Source, World};
use std::sync::mpsc;
use std::time::Duration;

const DAY: i64 = 24 * 3600;

/// A snapshot that is a row and nothing else.
fn bare_row(n: u64, parents: Vec<SnapshotId>) -> Row {
    let id: [u8; 32] = noise(n, 32).try_into().unwrap();
    Row {
        serial: 0,
        id: SnapshotId(id),
        tree: TreeId(id),
        parents,
        time: Time::default(),
        kind: SnapshotKind::Automatic,
        message: String::new(),
        size: 0,
        new_bytes: 0,
        summary: noise(n, 60),
        usage: BTreeMap::new(),
        made_from: None,
        line: None,
    }
}

fn packs(session: u8, numbers: std::ops::Range<u32>) -> BTreeMap<PackName, (u64, u64)> {
    let name = |number| PackName {
        session: [session; 16],
        number,
    };
    numbers
        .map(|number| (name(number), (64 << 20, 60_000_000)))
        .collect()
}

fn used(usage: &BTreeMap<PackName, (u64, u64)>) -> BTreeMap<PackName, u64> {
    usage
        .iter()
        .map(|(name, (_, bytes))| (*name, *bytes))
        .collect()
}

fn add(repository: &Repository, rows: impl Fn() -> Vec<(Row, BTreeMap<PackName, (u64, u64)>)>) {
    repository
        .commit_with(Operation::default(), |state| {
            let mut lines = state.lines();
            rows()
                .into_iter()
                .try_for_each(|(row, usage)| state.add_to(&mut lines, row, &usage, true))
        })
        .unwrap();
}

fn remove(repository: &Repository, ids: &[SnapshotId]) {
    repository
        .commit(Change {
            remove: ids.to_vec(),
            ..Change::default()
        })
        .unwrap();
}

/// Two clusters at one storage push in turn: what a row holds is the difference within its line.
#[test]
fn two_clusters_in_turn_hold_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let there = home(dir.path());
    let of = |n: u64| packs((n % 2) as u8, (n / 2) as u32..50 + (n / 2) as u32);
    add(&there, || {
        let parents = |n: u64| n.checked_sub(2).map(|n| bare_row(n, vec![]).id);
        (0..20)
            .map(|n| (bare_row(n, parents(n).into_iter().collect()), of(n)))
            .collect()
    });
    let state = reopen(dir.path()).state().unwrap();
    for (n, row) in (0..).zip(state.snapshots()) {
        assert_eq!(state.usage(&row.id), used(&of(n)), "{n}");
        // One that is new, one that is gone.
        assert_eq!(row.usage.len(), if n < 2 { 50 } else { 2 }, "{n}");
    }
    // Taken out of the middle and put back, each keeps what it uses.
    let ids: Vec<_> = state.snapshots().map(|row| row.id).collect();
    remove(&there, &ids[4..9]);
    let check = |n: usize| assert_eq!(there.state().unwrap().usage(&ids[n]), used(&of(n as u64)));
    [0, 3, 9, 10, 19].into_iter().for_each(check);
    there
        .commit_with(Operation::default(), |state| {
            [6, 4, 8, 5, 7]
                .into_iter()
                .try_for_each(|n| state.restore_snapshot(&ids[n], "here"))
        })
        .unwrap();
    (0..20).for_each(check);
}

/// A terabyte is 16,000 packs; what was removed keeps what it used, for undo, as a difference.
#[test]
fn what_is_removed_takes_little_room() {
    let dir = tempfile::tempdir().unwrap();
    let there = home(dir.path());
    let of = |n: u64| packs(1, n as u32..2000 + n as u32);
    add(&there, || {
        (0..60)
            .map(|n: u64| {
                let parent = n.checked_sub(1).map(|n| bare_row(n, vec![]).id);
                (bare_row(n, parent.into_iter().collect()), of(n))
            })
            .collect()
    });
    let ids: Vec<_> = there.state().unwrap().snapshots().map(|r| r.id).collect();
    // In two goes and not in order.
    remove(&there, &ids[20..50]);
    remove(&there, &ids[..20]);
    let state = reopen(dir.path()).state().unwrap();
    let entries: usize = state.removed.rows().map(|r| r.row.usage.len()).sum();
    assert!(entries <= 2000 + 2 * 50, "{entries}");
    // What one of them needs is dead: it and no other is lost.
    let gone = PackName {
        session: [1; 16],
        number: 0,
    };
    there
        .commit_with(Operation::default(), |state| {
            let row = state.packs().find(|row| row.name == gone).copied();
            let mut row = row.unwrap();
            row.state = PackRow::DEAD;
            state.packs.put(row);
            state.condemn(0, i64::MAX);
            Ok(())
        })
        .unwrap();
    there
        .commit_with(Operation::default(), |state| {
            state.restore_snapshot(&ids[0], "here").unwrap_err();
            [30, 1, 49, 20]
                .into_iter()
                .try_for_each(|n| state.restore_snapshot(&ids[n], "here"))
        })
        .unwrap();
    let state = reopen(dir.path()).state().unwrap();
    for n in [1, 20, 30, 49, 50, 59] {
        assert_eq!(state.usage(&ids[n]), used(&of(n as u64)), "{n}");
    }
}

/// More rows than one segment may hold make several.
#[test]
fn a_long_table_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let there = home(dir.path());
    add(&there, || {
        (0..24)
            .map(|n| {
                let mut row = bare_row(n, vec![]);
                row.summary = noise(n, 3 << 20);
                (row, BTreeMap::new())
            })
            .collect()
    });
    let state = reopen(dir.path()).state().unwrap();
    assert_eq!(state.snapshots.segment_packs().count(), 4);
    assert!(
        (0..)
            .zip(state.snapshots())
            .all(|(n, row)| row.summary == noise(n, 3 << 20))
    );
}

/// A first push of a long history to a new remote, or a clone with all of it.
#[test]
fn two_thousand_snapshots_travel() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    add(&local, || {
        (0..2000)
            .map(|n| (bare_row(n, vec![]), BTreeMap::new()))
            .collect()
    });
    let state = local.state().unwrap();
    let ids: Vec<_> = state.snapshots().map(|row| row.id).collect();
    push(&local, &storage, &ids).unwrap();
    let there = storage.state().unwrap();
    assert!(there.snapshots().map(|row| row.id).eq(ids));
}

fn tags(names: impl Iterator<Item = u64>, at: SnapshotId, made: bool) -> Vec<RefChange> {
    let tag = |n| RefChange {
        name: format!("tag/a-name-as-long-as-people-give-them-{n}"),
        from: (!made).then_some(at),
        to: made.then_some(at),
    };
    names.map(tag).collect()
}

/// As many refs as a root has no room for, in a home and at a storage.
#[test]
fn thousands_of_refs_are_kept() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    add(&local, || {
        (0..1000)
            .map(|n| (bare_row(n, vec![]), BTreeMap::new()))
            .collect()
    });
    let state = local.state().unwrap();
    let ids: Vec<_> = state.snapshots().map(|row| row.id).collect();
    let refs = tags(0..3000, ids[999], true);
    let names: Vec<String> = refs.iter().map(|change| change.name.clone()).collect();
    let what = Transfer {
        snapshots: ids.clone(),
        refs,
        ..Transfer::default()
    };
    transfer(&local, &storage, what, &|_| {}).unwrap();
    let there = pair.storage();
    // Who does not know such a table would miss refs.
    let state = there.state().unwrap();
    assert!(state.ref_table.len() > 0 && state.ref_table.segment_packs().count() > 0);
    assert!(state.root.incompatible.iter().any(|f| f == root::REF_TABLE));
    let has = |there: &Repository, names: &[String]| {
        let state = there.state().unwrap();
        let mut names = names.to_vec();
        names.sort();
        assert!(state.refs().keys().eq(&names), "{}", state.refs().len());
        assert!(state.refs().values().all(|at| *at == ids[999]));
    };
    has(&there, &names);
    // As many snapshots as a prune removes at a time.
    let remove = Change {
        remove: ids[..500].to_vec(),
        ..Change::default()
    };
    there.commit(remove).unwrap();
    collect_beside(&there);
    has(&pair.storage(), &names);
    // One more, one that moves, one that goes.
    let moves = [
        tags(3000..3001, ids[999], true),
        tags(0..1, ids[999], false),
    ];
    let change = Change {
        refs: moves.concat(),
        ..Change::default()
    };
    there.commit(change).unwrap();
    let more = format!("{}0", names[300]);
    has(&pair.storage(), &[&names[1..], &[more]].concat());
    // Few again, they are in the root; one root cannot tell of so many that go.
    let gone = tags(1..2990, ids[999], false);
    let at_once = Change {
        refs: gone.clone(),
        ..Change::default()
    };
    let refused = there.commit(at_once).unwrap_err();
    assert!(matches!(refused, Error::RootTooLarge { .. }), "{refused}");
    there.move_each(&gone, &Operation::default()).unwrap();
    let state = pair.storage().state().unwrap();
    assert_eq!((state.refs().len(), state.ref_table.len()), (11, 0));
}

#[derive(Debug)]
pub(super) struct ClockAt(pub(super) i64);

impl Source for ClockAt {
    fn unix_micros(&self) -> i64 {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) {}

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| World::real().bytes::<1>()[0]);
    }

    fn threads(&self) -> usize {
        1
    }

    fn processors(&self) -> usize {
        1
    }
}

/// The clock of a machine that pushes is behind (or at 1970, without a battery); its commit moves
/// rows to a segment while a collection runs.
#[test]
fn a_segment_written_by_a_clock_that_is_behind_stays() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let files = |n| BTreeMap::from([("f".to_owned(), noise(n, 300_000))]);
    let a = snapshot(&local, &files(1), "a").id;
    push(&local, &storage, &[a]).unwrap();
    World::real().sleep(Duration::from_millis(20));
    let b = snapshot(&local, &files(2), "b").id;
    push(&local, &storage, &[b]).unwrap();
    remove(&storage, &[a]);
    collect_beside(&storage);
    collect_beside(&storage);
    assert!(storage.state().unwrap().floor() > 0);

    let (uploaded, is_uploaded) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (committed, is_committed) = mpsc::channel();
    let there = pair.dirs.1.path();
    let objects = Meanwhile::new(there, When::Creates("roots/"), move || {
        uploaded.send(()).unwrap();
        may_go.recv().unwrap();
    });
    let writer = std::thread::spawn(move || {
        let world = World::new(ClockAt(0));
        let objects = Arc::new(objects);
        let there = Repository::open_in(objects, None, IndexChoice::Memory, world).unwrap();
        add(&there, || {
            (0..250)
                .map(|n| (bare_row(n, vec![]), BTreeMap::new()))
                .collect()
        });
        committed.send(()).unwrap();
    });
    is_uploaded.recv().unwrap();
    let orphan = there.join("packs/00000000000000000000000000000000-0");
    std::fs::write(orphan, b"left").unwrap();
    let objects = Meanwhile::new(there, When::Deletes("packs/"), move || {
        go.send(()).unwrap();
        is_committed.recv().unwrap();
    });
    let collector = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let done = collector.collect(Operation::default(), Collect::at(4_000_000_000));
    writer.join().unwrap();
    done.unwrap();
    assert_eq!(pair.storage().state().unwrap().len(), 251);
    assert_eq!(files_of(&pair.storage(), b), files(2));
}

/// Orphans of many sessions, as merged segments are: each run fences some, and a root has room.
#[test]
fn many_sessions_are_fenced() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let at = |millis: u64| World::real().session_above(millis);
    let now = World::real().unix_micros() / 1_000_000;
    let left = |n: u64| PackName {
        // Some are newer than any pack that is there.
        session: at((now as u64) * 1000 + n - 2000),
        number: 0,
    };
    let a = snapshot(&local, &example(1), "a").id;
    push(&local, &storage, &[a]).unwrap();
    for n in 0..3000 {
        std::fs::write(pair.dirs.1.path().join(left(n).key()), b"left").unwrap();
    }
    let mut freed = 0;
    for _ in 0..20 {
        let how = Collect::at(now + 8 * DAY);
        freed += storage.collect(Operation::default(), how).unwrap().orphans;
    }
    assert!(freed > 1000, "{freed}");
    assert!(storage.state().unwrap().root.fences.len() <= 12 * FENCES_MAX);
    assert_eq!(files_of(&storage, a), example(1));
    // Who writes goes on.
    let b = snapshot(&local, &example(2), "b").id;
    push(&local, &storage, &[b]).unwrap();
}

/// A home whose clock is behind finds its packs below the floor, and sends them under a label above.
#[test]
fn a_home_whose_clock_is_behind_sends_above_the_floor() {
    let pair = Pair::new();
    let storage = pair.storage();
    let raise = |state: &mut State| {
        state.fence(&[], 1_763_800_000_000);
        Ok(())
    };
    storage.commit_with(Operation::default(), raise).unwrap();
    let objects = Arc::new(Directory::new(pair.dirs.0.path()));
    let (index, world) = (IndexChoice::Memory, World::new(ClockAt(0)));
    let behind = Repository::open_in(objects, None, index, world).unwrap();
    let behind = behind.alone();
    let id = snapshot(&behind, &example(1), "a").id;
    match push(&behind, &storage, &[id]) {
        Err(Error::NamesUsedUp { packs, floor }) => {
            behind
                .rename_packs(&packs, floor, Operation::default())
                .unwrap();
        }
        done => panic!("{done:?}"),
    }
    push(&behind, &storage, &[id]).unwrap();
    assert_eq!(files_of(&pair.storage(), id), example(1));
}

/// Fences fill a root; rows that are few stay in it all the same.
#[test]
fn few_rows_make_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let there = home(dir.path());
    let refs = |n: u64| RefChange {
        name: format!("tag/{n:0100}"),
        from: None,
        to: Some(bare_row(0, vec![]).id),
    };
    add(&there, || vec![(bare_row(0, vec![]), BTreeMap::new())]);
    there
        .commit(Change {
            refs: (0..200).map(refs).collect(),
            ..Change::default()
        })
        .unwrap();
    let segments = || there.objects().list("packs/").unwrap().len();
    let before = segments();
    for n in 1..20 {
        add(&there, || vec![(bare_row(n, vec![]), BTreeMap::new())]);
    }
    assert!(segments() - before <= 1, "{} segments", segments() - before);
}

/// The segments of a root that was read a moment ago are merged and collected.
#[test]
fn a_reader_whose_segments_were_collected_looks_again() {
    let dir = tempfile::tempdir().unwrap();
    let there = home(dir.path());
    let many = |from: u64| {
        move || {
            (from..from + 200)
                .map(|n| (bare_row(n, vec![]), BTreeMap::new()))
                .collect::<Vec<_>>()
        }
    };
    add(&there, many(0));
    let state = there.state().unwrap();
    assert!(state.snapshots.segment_packs().count() > 0);
    let first = state.snapshots().next().unwrap().id;
    let others = reopen(dir.path());
    let objects = Meanwhile::new(dir.path(), When::Read("roots/"), move || {
        remove(&others, &[first]);
        add(&others, many(1000));
        let how = Collect {
            sessions: 0,
            ..at_once()
        };
        others.collect(Operation::default(), how).unwrap();
    });
    let reader = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    assert_eq!(reader.state().unwrap().len(), 399);
}

/// A listing that is late shows no root: what was acknowledged is seen all the same.
#[test]
fn a_late_listing_hides_no_commit() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let objects = Meanwhile::late(pair.dirs.1.path());
    let reader = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    assert!(reader.state().unwrap().snapshot(&id).is_some());
}

/// What is still being sent after weeks is not fenced as long as it says so.
#[test]
fn a_long_upload_that_goes_on_is_not_fenced() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let id = snapshot(&local, &Files::from([("f".into(), noise(1, 9000))]), "a").id;
    let pack = local.state().unwrap().packs().next().unwrap().name;
    let path = local.objects().local_path(&pack.key()).unwrap();
    // Something is there, so that a floor could rise.
    let other = snapshot(&local, &Files::from([("g".into(), noise(2, 9000))]), "b").id;
    push(&local, &storage, &[other]).unwrap();
    storage.objects().put_file(&pack.key(), &path).unwrap();
    let begun = session::began(&pack.session);
    let sends = |name: PackName, day: i64| {
        let world = World::new(ClockAt((begun + day * DAY) * 1_000_000));
        let objects = Arc::new(Directory::new(pair.dirs.1.path()));
        let there = Repository::open_in(objects, None, IndexChoice::Memory, world).unwrap();
        session::Pulse::new(&there, [name].iter()).beat().unwrap();
    };
    let fenced = |day: i64| {
        let how = Collect::at(begun + day * DAY);
        let said = storage.would_collect(how, &[]).unwrap();
        let done = storage.collect(Operation::default(), how).unwrap();
        assert_eq!(said.fenced, done.fenced);
        done.fenced
    };
    for day in (0..40).step_by(3) {
        sends(pack, day);
        assert_eq!(fenced(day), 0, "day {day}");
    }
    assert_eq!(
        push(&local, &storage, &[id]).unwrap().packs,
        0,
        "all is there"
    );
    assert_good(&storage);
    // One that fell silent, and one whose clock is years ahead.
    let [silent, ahead] = [7, 8].map(|random| {
        let mut name = PackName { number: 0, ..pack };
        name.session[15] ^= random;
        storage.objects().put_file(&name.key(), &path).unwrap();
        name
    });
    sends(silent, 41);
    sends(ahead, 4000);
    assert_eq!(fenced(44), 1);
    assert!(storage.state().unwrap().is_fenced(&ahead));
    assert_eq!(fenced(49), 1);
    assert!(storage.state().unwrap().is_fenced(&silent));
    assert_good(&storage);
}

/// What tells of a session goes with the push that ends it; what interrupted ones left, once in a
/// while. Who was only asleep goes on all the same.
#[test]
fn nothing_is_said_of_sessions_that_are_over() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let said = || -> Vec<String> {
        let listed = storage.objects().list("sessions/").unwrap();
        listed.into_iter().map(|listed| listed.key).collect()
    };
    let a = snapshot(&local, &example(1), "a").id;
    push(&local, &storage, &[a]).unwrap();
    assert_eq!(said(), Vec::<String>::new());

    // It uploaded a pack and slept for a month.
    let clock = |days: i64| {
        let now = World::real().unix_micros() + days * DAY * 1_000_000;
        let objects = Arc::new(Directory::new(pair.dirs.1.path()));
        let world = World::new(ClockAt(now));
        Repository::open_in(objects, None, IndexChoice::Memory, world).unwrap()
    };
    let before = local.state().unwrap();
    let of = |n: u64| Files::from([(format!("f{n}"), noise(n, 9000))]);
    let b = snapshot(&local, &of(2), "b").id;
    let after = local.state().unwrap();
    let new = after
        .packs()
        .find(|row| before.packs().all(|r| r.name != row.name));
    let asleep = new.unwrap().name;
    let path = local.objects().local_path(&asleep.key()).unwrap();
    storage.objects().put_file(&asleep.key(), &path).unwrap();
    let say = |key: String| {
        storage.objects().create(&key, b"").unwrap();
        key
    };
    say(session::key(&asleep.session));
    let at = |days: i64| {
        let millis = World::real().unix_micros() / 1000 + days * DAY * 1000;
        World::real().session_above(millis as u64)
    };
    let (young, goes_on) = (at(29), at(0));
    let today = (World::real().unix_micros() / 1_000_000 + 30 * DAY) / DAY;
    let stays = [
        say(session::key(&goes_on)),
        say(format!("{}.{today}", session::key(&goes_on))),
        say(session::key(&young)),
    ];
    while storage.state().unwrap().seq() % log::BLOCK != log::BLOCK - 1 {
        assert_eq!(said().len(), 4);
        storage.commit(Change::default()).unwrap();
    }
    let c = snapshot(&local, &of(3), "c").id;
    push(&local, &clock(30), &[c]).unwrap();
    let mut stays = Vec::from(stays);
    stays.sort();
    assert_eq!(said(), stays);
    push(&local, &storage, &[b]).unwrap();
    assert_eq!(said(), stays);
    for (id, files) in [(a, example(1)), (b, of(2)), (c, of(3))] {
        assert_eq!(files_of(&pair.storage(), id), files);
    }
    let how = Collect::at(World::real().unix_micros() / 1_000_000 + 60 * DAY);
    storage.collect(Operation::default(), how).unwrap();
    assert_eq!(said(), Vec::<String>::new());
    assert_good(&storage);
}

/// An upload that lasts longer than hundreds of others which came after it and were left.
#[test]
fn many_leftovers_fence_no_upload_that_goes_on() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let id = snapshot(&local, &Files::from([("f".into(), noise(1, 9000))]), "a").id;
    let pack = local.state().unwrap().packs().next().unwrap().name;
    let path = local.objects().local_path(&pack.key()).unwrap();
    storage.objects().put_file(&pack.key(), &path).unwrap();
    let begun = session::began(&pack.session);
    let left = |n: u64| PackName {
        session: World::real().session_above((begun as u64 + 10) * 1000 + n),
        number: 0,
    };
    let lefts = 6 * FENCES_MAX as u64;
    for n in 0..lefts {
        std::fs::write(pair.dirs.1.path().join(left(n).key()), b"left").unwrap();
    }
    // The newest that is there is newer than all of these.
    let other = snapshot(&local, &Files::from([("g".into(), noise(2, 9000))]), "b").id;
    let newest = World::new(ClockAt((begun + 60) * 1_000_000)).session();
    let names: Vec<_> = local.state().unwrap().packs().map(|row| row.name).collect();
    let newest = PackName {
        session: newest,
        number: 0,
    };
    let last = *names.last().unwrap();
    local
        .rename_packs_to(&[(last, newest)], Operation::default())
        .unwrap();
    push(&local, &storage, &[other]).unwrap();
    let goes_on = |day: i64| {
        let world = World::new(ClockAt((begun + day * DAY) * 1_000_000));
        let objects = Arc::new(Directory::new(pair.dirs.1.path()));
        let there = Repository::open_in(objects, None, IndexChoice::Memory, world).unwrap();
        session::Pulse::new(&there, [pack].iter()).beat().unwrap();
    };
    let mut freed = 0;
    for day in 8..16 {
        goes_on(day);
        let how = Collect::at(begun + day * DAY);
        freed += storage.collect(Operation::default(), how).unwrap().orphans;
        assert!(!storage.state().unwrap().is_fenced(&pack), "day {day}");
    }
    assert!(storage.state().unwrap().root.fences.len() <= FENCES_ROOM);
    assert_eq!(freed, FENCES_ROOM as u64);
    assert_eq!(push(&local, &storage, &[id]).unwrap().packs, 0);
    assert_good(&storage);
    // It is over: the others go.
    for day in 24..40 {
        let how = Collect::at(begun + day * DAY);
        freed += storage.collect(Operation::default(), how).unwrap().orphans;
    }
    assert_eq!(freed, lefts);
    assert_good(&storage);
}
