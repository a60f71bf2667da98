//! Collection beside writers and readers that sleep as long as they like: the named scenarios.

use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::root::PackRow;

/// Beside others, without patience.
pub(super) fn at_once() -> Collect {
    Collect {
        grace: 0,
        ..Collect::at(4_000_000_000)
    }
}

/// One step: what was condemned before is dead, what is not used is condemned.
pub(super) fn collect_beside(repository: &Repository) -> Collected {
    repository.collect(Operation::default(), at_once()).unwrap()
}

pub(super) struct Pair {
    pub(super) dirs: (tempfile::TempDir, tempfile::TempDir),
}

impl Pair {
    pub(super) fn new() -> Self {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(home(dirs.0.path()));
        drop(home(dirs.1.path()));
        Pair { dirs }
    }

    /// The snapshot has the files of `example(1)`.
    pub(super) fn with_a_pushed_snapshot() -> (Self, SnapshotId) {
        let pair = Pair::new();
        let (local, storage) = (pair.home(), pair.storage());
        let id = snapshot(&local, &example(1), "a").id;
        push(&local, &storage, &[id]).unwrap();
        (pair, id)
    }

    pub(super) fn home(&self) -> Repository {
        reopen(self.dirs.0.path()).alone()
    }

    pub(super) fn storage(&self) -> Repository {
        reopen(self.dirs.1.path())
    }
}

pub(super) fn push(from: &Repository, to: &Repository, ids: &[SnapshotId]) -> Result<Transferred> {
    let what = Transfer {
        snapshots: ids.to_vec(),
        ..Transfer::default()
    };
    transfer(from, to, what, &|_| {})
}

/// As a push does it: packs whose names are used up go under new ones.
pub(super) fn push_until(from: &Repository, to: &Repository, ids: &[SnapshotId]) -> Transferred {
    loop {
        match push(from, to, ids) {
            Err(Error::NamesUsedUp { packs, floor }) => {
                from.rename_packs(&packs, floor, Operation::default())
                    .unwrap();
            }
            done => return done.unwrap(),
        }
    }
}

fn states(repository: &Repository) -> Vec<u8> {
    let state = repository.state().unwrap();
    state.packs.rows().map(|row| row.state).collect()
}

#[test]
fn a_pack_goes_in_steps_and_a_row_keeps_its_name() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    remove(&storage, &[id]);
    let patient = Collect::at(1000);
    let step = |now| {
        let how = Collect { now, ..patient };
        storage.collect(Operation::default(), how).unwrap()
    };
    assert_eq!(step(1000).condemned, 1);
    assert_eq!(states(&storage), [PackRow::CONDEMNED]);
    assert_eq!(
        step(1000 + patient.grace - 1),
        step(1000 + patient.grace - 1)
    );
    assert_eq!(states(&storage), [PackRow::CONDEMNED]);
    assert_eq!(step(1000 + patient.grace).packs, 1);
    assert_eq!(states(&storage), [PackRow::DELETED]);
    assert!(storage.objects().list("packs/").unwrap().is_empty());
}

#[test]
fn a_commit_rescues_what_it_uses() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let (local, storage) = (pair.home(), pair.storage());
    remove(&storage, &[id]);
    storage
        .collect(Operation::default(), Collect::at(1000))
        .unwrap();
    let done = push(&local, &pair.storage(), &[id]).unwrap();
    assert_eq!(done.packs, 0, "it is still there");
    assert_eq!(states(&pair.storage()), [PackRow::LIVE]);
    collect_beside(&storage);
    assert_eq!(files_of(&pair.storage(), id), example(1));
    assert_good(&storage);
}

/// The home's commits build on what another machine has pruned and collected meanwhile.
#[test]
fn what_unpushed_snapshots_build_on_is_collected() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let first = snapshot(&local, &example(1), "a").id;
    push(&local, &storage, &[first]).unwrap();
    let second = snapshot(&local, &example(2), "b").id;
    remove(&storage, &[first]);
    collect_beside(&storage);
    assert!(storage.objects().list("packs/").unwrap().is_empty());

    let refused = push(&local, &storage, &[second]).unwrap_err();
    assert!(matches!(refused, Error::NamesUsedUp { .. }), "{refused}");
    push_until(&local, &storage, &[second]);
    assert_eq!(files_of(&pair.storage(), second), example(2));
    assert_eq!(files_of(&pair.home(), first), example(1));
    assert_good(&storage);
    assert_good(&local);
    // No name of then is used again: a collector that slept may still delete those.
    for listed in storage.objects().list("packs/").unwrap() {
        let name: PackName = listed.key.strip_prefix("packs/").unwrap().parse().unwrap();
        assert!(!storage.state().unwrap().is_used_up(&name));
    }
}

/// A writer that uploaded and then slept across two collections.
#[test]
fn a_writer_that_slept_across_two_collections_goes_on() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let id = snapshot(&local, &example(1), "a").id;
    for listed in local.objects().list("packs/").unwrap() {
        let path = local.objects().local_path(&listed.key).unwrap();
        storage.objects().put_file(&listed.key, &path).unwrap();
    }
    let asleep = pair.storage();
    let plan = asleep.state().unwrap();
    let first = collect_beside(&storage);
    assert_eq!((first.fenced, first.orphans), (1, 1));
    collect_beside(&storage);
    assert!(storage.objects().list("packs/").unwrap().is_empty());
    // Its packs are gone, and it does not know: the commit is refused.
    let row = local.state().unwrap().snapshot(&id).unwrap().clone();
    let lens: BTreeMap<_, _> = local
        .state()
        .unwrap()
        .packs()
        .map(|pack| (pack.name, (pack.len, 1)))
        .collect();
    assert_eq!(plan.seq() + 1, storage.state().unwrap().seq());
    let refused = asleep.commit_with(Operation::default(), |state| {
        state.add_snapshot(row.clone(), &lens, false)
    });
    assert!(matches!(refused, Err(Error::NamesUsedUp { .. })));
    push_until(&local, &asleep, &[id]);
    assert_eq!(files_of(&pair.storage(), id), example(1));
    assert_good(&storage);
}

/// A writer that planned with a pack which others took all the way to dead.
#[test]
fn a_dead_pack_never_comes_back() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    let (row, pack) = {
        let state = storage.state().unwrap();
        let row = state.snapshot(&id).unwrap().clone();
        (row, *state.packs().next().unwrap())
    };
    remove(&storage, &[id]);
    collect_beside(&storage);
    let usage = BTreeMap::from([(pack.name, (pack.len, 1))]);
    let refused = storage.commit_with(Operation::default(), |state| {
        assert_eq!(state.packs.rows().next().unwrap().state, PackRow::DELETED);
        state.add_snapshot(row.clone(), &usage, false)
    });
    assert!(matches!(refused, Err(Error::NamesUsedUp { .. })));
}

/// Packs of a sealed home go up under other names as they lie.
#[test]
fn sealed_packs_take_other_names() {
    let (seal, _) = Seal::generate("k");
    let places = [(); 2].map(|()| Place::new(Some(seal.clone())));
    let (local, storage) = (places[0].open().alone(), places[1].open());
    let files = BTreeMap::from([("f".to_owned(), noise(3, 5 * CHUNK))]);
    let (id, _) = snapshot_on(&local, &files, None, "a");
    push(&local, &storage, &[id]).unwrap();
    remove(&storage, &[id]);
    collect_beside(&storage);
    push_until(&local, &storage, &[id]);
    for place in &places {
        assert_eq!(files_of(&place.open(), id), files);
        assert_good(&place.open());
    }
}

/// A writer of an old session commits between the listing of what no root names and the fence.
#[test]
fn what_was_committed_before_the_fence_stays() {
    let pair = Pair::new();
    let id = snapshot(&pair.home(), &example(1), "a").id;
    let (local, storage) = (pair.home(), pair.storage());
    let path = pair.dirs.1.path();
    // Another pack of the same session that stays behind, so that there is something to fence.
    let pack = local.state().unwrap().packs().next().unwrap().name;
    let left = PackName { number: 99, ..pack };
    std::fs::create_dir_all(path.join("packs")).unwrap();
    for name in [pack, left] {
        std::fs::copy(pair.dirs.0.path().join(pack.key()), path.join(name.key())).unwrap();
    }
    let objects = Meanwhile::new(path, When::Listed("packs/"), move || {
        push(&local, &storage, &[id]).unwrap();
    });
    let collector = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let done = collect_beside(&collector);
    assert_eq!((done.fenced, done.orphans), (1, 1));
    assert_eq!(files_of(&pair.storage(), id), example(1));
    assert_good(&pair.storage());
}

#[test]
fn what_a_ref_came_to_stand_on_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let ids = [1, 2].map(|n| snapshot(&repository, &example(n), "x").id);
    let moved = RefChange {
        name: "homes/other".into(),
        from: None,
        to: Some(ids[0]),
    };
    repository
        .commit(Change {
            refs: vec![moved],
            ..Change::default()
        })
        .unwrap();
    let removal = |id| Change {
        remove: vec![id],
        ..Change::default()
    };
    let refused = repository.commit(removal(ids[0])).unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert_eq!(repository.state().unwrap().len(), 2);
}

/// The spool of a home whose session was fenced goes up under another.
#[test]
fn a_fenced_spool_goes_up_under_another_session() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids = [1, 2].map(|n| snapshot(&local, &example(n), "x").id);
    let sessions: Vec<_> = local
        .state()
        .unwrap()
        .packs()
        .map(|pack| pack.name.session)
        .collect();
    storage
        .commit_with(Operation::default(), |state| {
            state.fence(&sessions, 0);
            Ok(())
        })
        .unwrap();
    assert!(push(&local, &storage, &ids).is_err());
    push_until(&local, &storage, &ids);
    for (n, id) in (1..).zip(ids) {
        assert_eq!(files_of(&pair.storage(), id), example(n));
        assert_eq!(files_of(&pair.home(), id), example(n));
    }
    for row in storage.state().unwrap().packs() {
        assert!(!sessions.contains(&row.name.session));
    }
}

#[test]
fn pruning_in_the_middle_frees_space_and_leaves_the_line() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids: Vec<_> = (0..5)
        .map(|n| {
            let files = BTreeMap::from([("f".to_owned(), noise(n, 300_000))]);
            snapshot(&local, &files, "x").id
        })
        .collect();
    push(&local, &storage, &ids).unwrap();
    let before = bytes_of(&storage);
    remove(&storage, &ids[1..4]);
    collect_beside(&storage);
    assert!(bytes_of(&storage) < before / 2);
    let state = storage.state().unwrap();
    assert_eq!(state.snapshot(&ids[4]).unwrap().parents, [ids[0]]);
    assert_good(&storage);
}

fn bytes_of(repository: &Repository) -> u64 {
    let packs = repository.objects().list("packs/").unwrap();
    packs.iter().map(|listed| listed.size).sum()
}

/// Two writers whose deltas stand on each other's chunks, then collection of either.
#[test]
fn two_writers_stand_on_each_others_chunks() {
    let places = [(); 3].map(|()| Place::new(None));
    let [a, b, storage] = [0, 1, 2].map(|n: usize| places[n].open());
    let (a, b) = (a.alone(), b.alone());
    let versions: Vec<Files> = (0..4)
        .map(|n| {
            let mut bytes = noise(9, 5 * CHUNK);
            bytes[..n].fill(7);
            BTreeMap::from([("f".to_owned(), bytes)])
        })
        .collect();
    // a and b in turn, each on what the other pushed last.
    let mut ids: Vec<SnapshotId> = Vec::new();
    for (n, files) in versions.iter().enumerate() {
        let (mine, theirs) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (id, stats) = snapshot_on(mine, files, ids.last().copied(), &n.to_string());
        assert_eq!(stats.chunks_delta, u64::from(n > 0));
        push(mine, &storage, &[id]).unwrap();
        push(&storage, theirs, &[id]).unwrap();
        ids.push(id);
    }
    for gone in [1, 0, 2] {
        remove(&storage, &[ids[gone]]);
        collect_beside(&storage);
        assert_good(&storage);
        assert_eq!(files_of(&places[2].open(), ids[3]), versions[3]);
    }
}

/// A fetch that began before two collections, one of which moved what it reads.
#[test]
fn a_restore_runs_through_two_collections() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let files: Files = BTreeMap::from([
        ("kept".into(), noise(1, 200_000)),
        ("gone".into(), noise(2, 2_000_000)),
    ]);
    let first = snapshot(&storage, &files, "big").id;
    let small = BTreeMap::from([("kept".to_owned(), noise(1, 200_000))]);
    let second = snapshot(&storage, &small, "small").id;
    let reader = pair.storage();
    reader.state().unwrap();
    remove(&storage, &[first]);
    // Packs it anew, as the repository's owner does; twice, so that the old ones are gone.
    collect(&pair.storage());
    collect(&pair.storage());
    push(&reader, &local, &[second]).unwrap();
    assert_eq!(files_of(&local, second), small);
    // What was removed altogether is refused by name.
    let gone = push(&reader, &local, &[first]).unwrap_err();
    assert!(matches!(gone, Error::NoSnapshot { .. }), "{gone}");
}

#[test]
fn a_deleted_snapshot_comes_back_until_its_packs_are_dead() {
    let pair = Pair::new();
    let storage = pair.storage();
    let ids: Vec<_> = (0..3)
        .map(|n| snapshot(&storage, &example(n * 10), "x").id)
        .collect();
    remove(&storage, &[ids[1]]);
    let removal = storage.state().unwrap().seq();
    storage
        .collect(Operation::default(), Collect::at(1000))
        .unwrap();
    let undone = undo(&storage, removal).unwrap();
    assert!(!states(&storage).contains(&PackRow::CONDEMNED));
    assert_eq!(files_of(&pair.storage(), ids[1]), example(10));
    assert_good(&storage);
    let order: Vec<_> = undone.snapshots().map(|row| row.id).collect();
    assert_eq!(order, ids);
    // An undo is an operation, too.
    let state = undo(&storage, undone.seq()).unwrap();
    assert!(state.snapshot(&ids[1]).is_none());
    collect_beside(&storage);
    let gone = undo(&storage, removal).unwrap_err();
    assert!(matches!(gone, Error::NotUndone { .. }), "{gone}");
    assert_eq!(files_of(&pair.storage(), ids[2]), example(20));
    assert_good(&storage);
}

/// Undo after another machine's push: what the other did stays.
#[test]
fn undo_reverses_one_operation_alone() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids: Vec<_> = (0..3)
        .map(|n| snapshot(&local, &example(n), "x").id)
        .collect();
    let move_to = |name: &str, from: Option<SnapshotId>, to: Option<SnapshotId>| RefChange {
        name: name.into(),
        from,
        to,
    };
    let pushed = |refs: Vec<RefChange>, id| {
        let what = Transfer {
            snapshots: vec![id],
            refs,
            ..Transfer::default()
        };
        transfer(&local, &storage, what, &|_| {}).unwrap()
    };
    pushed(vec![move_to("branch/main", None, Some(ids[0]))], ids[0]);
    pushed(vec![move_to("branch/try", None, Some(ids[1]))], ids[1]);
    let gone = storage
        .commit(Change {
            refs: vec![move_to("branch/try", Some(ids[1]), None)],
            remove: vec![ids[1]],
            ..Change::default()
        })
        .unwrap();
    // The other machine.
    pushed(
        vec![move_to("branch/main", Some(ids[0]), Some(ids[2]))],
        ids[2],
    );
    let state = undo(&storage, gone.seq()).unwrap();
    assert_eq!(state.get_ref("branch/try"), Some(ids[1]));
    assert_eq!(state.get_ref("branch/main"), Some(ids[2]));
    assert_eq!(files_of(&pair.storage(), ids[1]), example(1));
    // What stands elsewhere since is not moved.
    let first = undo(&storage, 1).unwrap_err();
    assert!(
        first.to_string().contains("branch/main was moved since"),
        "{first}"
    );
}

/// What an operation brought and others came to need stays when it is undone.
#[test]
fn an_undo_leaves_what_others_stand_on() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    let pushed = storage.state().unwrap().seq();
    let kept = |change: Change, needed: &[SnapshotId]| {
        storage.commit(change).unwrap();
        let undone = storage.undo(&[pushed], Operation::default(), needed);
        let refused = undone.unwrap_err();
        assert!(matches!(refused, Error::NotUndone { .. }), "{refused}");
        assert!(storage.state().unwrap().snapshot(&id).is_some());
    };
    let moved = |from: Option<SnapshotId>, to: Option<SnapshotId>| Change {
        refs: vec![RefChange {
            name: "homes/other".into(),
            from,
            to,
        }],
        ..Change::default()
    };
    kept(moved(None, Some(id)), &[]);
    kept(moved(Some(id), None), &[id]);
    let undone = undo(&storage, pushed).unwrap();
    assert!(undone.snapshot(&id).is_none());
}

/// What another branch was built on stays, down to the first snapshot, when the push that brought
/// it is undone.
#[test]
fn undo_takes_nothing_away_under_what_was_built_on_it() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids: Vec<_> = (0..5)
        .map(|n| snapshot(&local, &example(n), "x").id)
        .collect();
    let pushed = |name: &str, from: Option<SnapshotId>, ids: &[SnapshotId]| {
        let what = Transfer {
            snapshots: ids.to_vec(),
            refs: vec![RefChange {
                name: name.into(),
                from,
                to: ids.last().copied(),
            }],
            ..Transfer::default()
        };
        transfer(&local, &storage, what, &|_| {}).unwrap();
        storage.state().unwrap().seq()
    };
    pushed("branch/main", None, &ids[..1]);
    let pulled = pushed("branch/main", Some(ids[0]), &ids[1..4]);
    pushed("branch/dev", None, &ids[4..]);
    let state = undo(&storage, pulled).unwrap();
    assert_eq!(state.get_ref("branch/main"), Some(ids[0]));
    let left: Vec<_> = state.snapshots().map(|row| row.id).collect();
    assert_eq!(left, ids);
}

/// Several operations go back by one root, which can be undone itself.
#[test]
fn operations_are_undone_together() {
    let dir = tempfile::tempdir().unwrap();
    let repository = home(dir.path());
    let ids: Vec<_> = (0..3)
        .map(|n| snapshot(&repository, &example(n), "x").id)
        .collect();
    let to_main = |from, to| RefChange {
        name: MAIN.into(),
        from: Some(from),
        to,
    };
    let mut gone: Vec<u64> = Vec::new();
    for n in [2, 1] {
        let change = Change {
            refs: vec![to_main(ids[n], Some(ids[n - 1]))],
            remove: vec![ids[n]],
            ..Change::default()
        };
        gone.insert(0, repository.commit(change).unwrap().seq());
    }
    let operation = || Operation {
        verb: UNDO.into(),
        ..Operation::default()
    };
    let before = repository.state().unwrap().seq();
    let state = repository.undo(&gone, operation(), &[]).unwrap();
    assert_eq!(state.seq(), before + 1);
    assert_eq!(state.get_ref(MAIN), Some(ids[2]));
    assert_eq!(state.operation().refs, [to_main(ids[0], Some(ids[2]))]);
    let state = undo(&repository, before + 1).unwrap();
    assert_eq!(state.get_ref(MAIN), Some(ids[0]));
    assert_eq!(state.len(), 1);
    // All or nothing: one of them cannot be reversed.
    let last = Change {
        refs: vec![to_main(ids[0], None)],
        ..Change::default()
    };
    repository.commit(last).unwrap();
    let refused = repository.undo(&gone, operation(), &[]).unwrap_err();
    assert!(matches!(refused, Error::NotUndone { .. }), "{refused}");
    assert_eq!(repository.state().unwrap().len(), 1);
}

/// A busy repository makes a thousand roots in hours: what is young stays all the same.
#[test]
fn what_was_done_lately_can_be_undone_however_many_roots_came_since() {
    const DAY: i64 = 24 * 3600;
    let at = |seconds: i64| Operation {
        time: Time {
            unix_micros: seconds * 1_000_000,
            offset_secs: 0,
        },
        ..Operation::default()
    };
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    let done = 100 * DAY;
    let removal = Change {
        remove: vec![id],
        operation: at(done),
        ..Change::default()
    };
    let removal = storage.commit(removal).unwrap().seq();
    for _ in 0..5 * log::BLOCK {
        let change = Change {
            operation: at(done + 1),
            ..Change::default()
        };
        storage.commit(change).unwrap();
    }
    let patient = |now| Collect {
        grace: 1000 * DAY,
        ..Collect::at(now)
    };
    let young = storage.collect(at(0), patient(done + 2 * DAY)).unwrap();
    assert_eq!(young.roots, 0);
    let state = undo(&storage, removal).unwrap();
    assert!(state.snapshot(&id).is_some());
    undo(&storage, state.seq()).unwrap();
    let old = storage.collect(at(0), patient(done + 4 * DAY)).unwrap();
    assert!(old.roots >= log::BLOCK, "{old:?}");
    assert!(storage.logged(removal).unwrap().is_none());
}

/// As the program undoes it.
fn undo(repository: &Repository, seq: u64) -> Result<Arc<State>> {
    let operation = Operation {
        verb: UNDO.into(),
        ..Operation::default()
    };
    repository.undo(&[seq], operation, &[])
}

/// Packs without a row are somebody's upload until their session is fenced.
#[test]
fn what_is_being_uploaded_stays() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let id = snapshot(&local, &example(1), "a").id;
    let packs = local.objects().list("packs/").unwrap();
    for listed in &packs {
        let path = local.objects().local_path(&listed.key).unwrap();
        storage.objects().put_file(&listed.key, &path).unwrap();
    }
    let name: PackName = packs[0].key["packs/".len()..].parse().unwrap();
    let how = Collect::at(name.label() as i64 / 1000 + 3600);
    let done = storage.collect(Operation::default(), how).unwrap();
    assert_eq!((done.fenced, done.orphans), (0, 0));
    assert_eq!(push(&local, &storage, &[id]).unwrap().packs, 0);
    assert_eq!(files_of(&pair.storage(), id), example(1));
}

/// What crashed writers left without a name, in a home and at a storage.
#[test]
fn unfinished_files_go_with_the_rest() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let folders = ["packs", "roots", "sessions"];
    let left = |dir: &Path| {
        let names = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(dir.join(folder)));
        let names = names.flatten().map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(".tmp-"))
            .count()
    };
    let (here, there) = (pair.dirs.0.path(), pair.dirs.1.path());
    for dir in [here, there] {
        for folder in folders {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
            std::fs::write(dir.join(folder).join(".tmp-1"), b"half").unwrap();
        }
    }
    // Beside others a file may be one that is being written: its age decides.
    let storage = pair.storage();
    let young = storage
        .collect(Operation::default(), Collect::at(1000))
        .unwrap();
    assert_eq!((young.unfinished, left(there)), (0, 3));
    assert_eq!((collect_beside(&storage).unfinished, left(there)), (3, 0));
    // A home has nobody else who writes.
    let home = pair.home();
    let done = home
        .collect(Operation::default(), Collect::at(1000))
        .unwrap();
    assert_eq!((done.unfinished, left(here)), (3, 0));
    assert_eq!(files_of(&pair.storage(), id), example(1));
    assert_good(&home);
}

/// A snapshot that the other has, and a ref is to stand on, is removed there meanwhile.
#[test]
fn what_is_removed_during_a_transfer_travels_again() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let files = |n| BTreeMap::from([("f".to_owned(), noise(n, 300_000))]);
    let ids = [1, 2].map(|n| snapshot(&local, &files(n), "x").id);
    push(&local, &storage, &ids).unwrap();
    let others = pair.storage();
    let path = pair.dirs.1.path();
    let objects = Meanwhile::new(path, When::Creates("roots/"), move || {
        remove(&others, &ids[..1]);
    });
    let there = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let what = Transfer {
        snapshots: vec![ids[0]],
        refs: vec![RefChange {
            name: "branch/other".into(),
            from: None,
            to: Some(ids[0]),
        }],
        ..Transfer::default()
    };
    let sent = transfer(&local, &there, what, &|_| {}).unwrap();
    assert_eq!(sent.snapshots, 1);
    let state = pair.storage().state().unwrap();
    assert_eq!(state.get_ref("branch/other"), Some(ids[0]));
}
