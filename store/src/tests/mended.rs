//! A storage whose latest roots were lost, beside collectors that had read them and slept.

use super::collection::{Pair, push, push_until};
use super::damage::{mend, rewrite};
use super::*;
use crate::root::Root;

/// The last `number` roots cannot be read any more.
fn lose(storage: &Repository, number: u64) {
    let latest = storage.state().unwrap().seq();
    for seq in latest + 1 - number..=latest {
        rewrite(storage, &Root::key(seq), |bytes| bytes[60] ^= 1);
    }
}

fn names(repository: &Repository) -> Vec<PackName> {
    let state = repository.state().unwrap();
    state.packs.rows().map(|row| row.name).collect()
}

/// A root that takes one step of collection; what it declares dead is not deleted yet.
fn step(storage: &Repository) {
    let patient = |next: &mut State| {
        next.condemn(4_000_000_000, 0);
        Ok(())
    };
    storage.commit_with(Operation::default(), patient).unwrap();
}

/// A collector goes on that had read a root by which nobody used these.
fn delete(storage: &Repository, packs: &[PackName]) {
    for name in packs {
        storage.objects().delete(&name.key()).unwrap();
    }
}

fn assert_whole(pair: &Pair, snapshots: &[(SnapshotId, Files)]) {
    assert_good(&pair.storage());
    for (id, files) in snapshots {
        assert!(files_of(&pair.storage(), *id) == *files, "{id}");
    }
}

/// With what lies on its way and is in no root.
fn upload(pair: &Pair, pack: PackName) {
    let (home, storage) = (pair.home(), pair.storage());
    let path = home.objects().local_path(&pack.key()).unwrap();
    let key = format!("sessions/{}", id::hex(&pack.session));
    storage.objects().create(&key, b"").unwrap();
    storage.objects().put_file(&pack.key(), &path).unwrap();
}

#[test]
fn what_a_lost_root_declared_dead_stays_dead() {
    let (pair, id) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    remove(&storage, &[id]);
    step(&storage);
    step(&storage);
    let old = storage.state().unwrap().dead();
    let old: Vec<PackName> = old.into_iter().map(|(name, _)| name).collect();
    assert_eq!(old.len(), 1);
    lose(&storage, 1);
    assert!(mend(&pair.storage(), &[]).log.root.is_some());
    assert!(pair.storage().state().unwrap().is_used_up(&old[0]));
    push_until(&pair.home(), &pair.storage(), &[id]);
    delete(&storage, &old);
    assert_whole(&pair, &[(id, example(1))]);
}

/// One collector has deleted what a fenced session left, another has yet to.
#[test]
fn a_session_that_a_lost_root_fenced_stays_fenced() {
    for is_deleted in [true, false] {
        let (pair, first) = Pair::with_a_pushed_snapshot();
        let (home, storage) = (pair.home(), pair.storage());
        let before = names(&home);
        let second = snapshot(&home, &example(2), "b").id;
        let late: Vec<_> = names(&home);
        let late: Vec<_> = late.into_iter().filter(|n| !before.contains(n)).collect();
        assert_eq!(late.len(), 1);
        upload(&pair, late[0]);
        let fence = |next: &mut State| {
            next.fence(&[late[0].session], 0);
            Ok(())
        };
        storage.commit_with(Operation::default(), fence).unwrap();
        lose(&storage, 1);
        if is_deleted {
            let session = id::hex(&late[0].session);
            let key = format!("sessions/{session}");
            storage.objects().delete(&key).unwrap();
            delete(&storage, &late);
        }
        mend(&pair.storage(), &[]);
        let state = pair.storage().state().unwrap();
        assert!(state.is_used_up(&late[0]), "{is_deleted}");
        push_until(&home, &pair.storage(), &[second]);
        delete(&storage, &late);
        assert_whole(&pair, &[(first, example(1)), (second, example(2))]);
    }
}

/// A clock that was ahead: such a session is fenced by its name, and nobody else is shut out.
#[test]
fn a_session_of_the_future_is_fenced_by_name() {
    let (pair, first) = Pair::with_a_pushed_snapshot();
    let storage = pair.storage();
    let ahead = PackName {
        session: [0x70; 16],
        number: 0,
    };
    storage.objects().create(&ahead.key(), b"part").unwrap();
    storage.commit(Change::default()).unwrap();
    lose(&storage, 1);
    mend(&pair.storage(), &[]);
    let state = pair.storage().state().unwrap();
    assert!(state.is_used_up(&ahead));
    assert!(state.floor() < ahead.label());
    let home = pair.home();
    let second = snapshot(&home, &example(2), "b").id;
    let session = storage.world().session();
    assert!(!state.is_fenced_session(&session), "who begins now is not");
    push(&home, &pair.storage(), &[second]).unwrap();
    assert_whole(&pair, &[(first, example(1)), (second, example(2))]);
}

/// What only a lost root named is used under other names, which a home takes over.
#[test]
fn what_comes_back_lies_under_new_names() {
    let (pair, first) = Pair::with_a_pushed_snapshot();
    let (home, storage) = (pair.home(), pair.storage());
    let second = snapshot(&home, &example(2), "b").id;
    let before = names(&storage);
    push(&home, &storage, &[second]).unwrap();
    let after = names(&storage);
    let late: Vec<_> = after.into_iter().filter(|n| !before.contains(n)).collect();
    lose(&storage, 1);
    let done = mend(&pair.storage(), &[]);
    assert_eq!(done.log.snapshots.len(), 1);
    let renamed: Vec<_> = done.renamed.iter().map(|(old, _)| *old).collect();
    assert_eq!(renamed, late);
    delete(&storage, &late);
    let whole = [(first, example(1)), (second, example(2))];
    assert_whole(&pair, &whole);
    home.rename_packs_to(&done.renamed, Operation::default())
        .unwrap();
    let third = snapshot(&home, &example(3), "c").id;
    let sent = push(&home, &pair.storage(), &[third]).unwrap();
    assert_eq!(sent.packs, 1, "only what is new travels");
    assert_whole(&pair, &[&whole[..], &[(third, example(3))]].concat());
    assert_good(&home);
}

/// A pack in doubt that is damaged is healed like any other; what nobody has is told.
#[test]
fn a_damaged_pack_in_doubt_is_healed_under_its_new_name() {
    for has_source in [true, false] {
        let (pair, first) = Pair::with_a_pushed_snapshot();
        let (home, storage) = (pair.home(), pair.storage());
        let second = snapshot(&home, &example(2), "b").id;
        let before = names(&storage);
        push(&home, &storage, &[second]).unwrap();
        let after = names(&storage);
        let late: Vec<_> = after.into_iter().filter(|n| !before.contains(n)).collect();
        rewrite(&storage, &late[0].key(), |bytes| bytes[300] ^= 1);
        lose(&storage, 1);
        let sources: &[&dyn Source] = if has_source { &[&home] } else { &[] };
        let done = mend(&pair.storage(), sources);
        assert_eq!(done.after.is_good(), has_source, "{:?}", done.after);
        assert_eq!(done.from.len(), usize::from(has_source));
        delete(&storage, &late);
        assert_eq!(files_of(&pair.storage(), first), example(1));
        if has_source {
            assert_whole(&pair, &[(second, example(2))]);
        }
    }
}

/// One root removes a snapshot, one condemns its pack, one declares it dead.
#[test]
fn behind_three_lost_roots_a_pack_in_use_may_be_dead() {
    for lost in 1..=4 {
        let (pair, first) = Pair::with_a_pushed_snapshot();
        let (home, storage) = (pair.home(), pair.storage());
        let second = snapshot(&home, &noise_files(2), "b").id;
        push(&home, &storage, &[second]).unwrap();
        storage.commit(Change::default()).unwrap();
        remove(&storage, &[first]);
        step(&storage);
        step(&storage);
        let old = names(&storage);
        lose(&storage, lost);
        let done = mend(&pair.storage(), &[]);
        let copied = match lost {
            // The snapshot is known to be removed.
            1 | 2 => 0,
            _ => old.len(),
        };
        assert_eq!(done.renamed.len(), copied, "{lost} roots");
        match lost {
            1 | 2 => delete(&storage, &old[..1]),
            _ => delete(&storage, &old),
        }
        assert_whole(&pair, &[(second, noise_files(2))]);
        assert_eq!(pair.storage().state().unwrap().len(), 1 + copied / 2);
    }
}

fn noise_files(seed: u64) -> Files {
    Files::from([("n".to_owned(), noise(seed, 5 * CHUNK))])
}

/// A lost root may have merged the segments of tables, and fenced who wrote them.
#[test]
fn tables_are_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let storage = home(dir.path());
    let mut last = None;
    for n in 0..60 {
        last = Some(snapshot(&storage, &noise_files(n), &"a long message ".repeat(40)).id);
    }
    storage.commit(Change::default()).unwrap();
    lose(&storage, 1);
    let segments = {
        let seq = storage.state().unwrap().seq() - 1;
        let bytes = storage.objects().get(&Root::key(seq)).unwrap();
        let state = State::load(&bytes, seq, &**storage.objects(), &storage.inner.keys).unwrap();
        let packs = state.snapshots.segment_packs().map(|(name, _)| name);
        packs.collect::<Vec<_>>()
    };
    assert!(!segments.is_empty());
    mend(&reopen(dir.path()), &[]);
    delete(&storage, &segments);
    assert_eq!(reopen(dir.path()).state().unwrap().len(), 60);
    assert_eq!(reopen(dir.path()).state().unwrap().get_ref(MAIN), last);
    assert_good(&reopen(dir.path()));
}

/// The root is whole: what its tables still say is true, and what they do not say any more is in
/// doubt.
#[test]
fn a_lost_table_of_packs_leaves_their_names_in_doubt() {
    for of_packs in [true, false] {
        let (pair, first) = Pair::with_a_pushed_snapshot();
        let (home, storage) = (pair.home(), pair.storage());
        let spill = |next: &mut State| {
            let floor = next.floor();
            let write = |rows| storage.write_segment(rows, floor);
            match of_packs {
                true => next.packs.spill(storage.ids(), write),
                false => next.snapshots.spill(storage.ids(), write),
            }
        };
        let state = storage.commit_with(Operation::default(), spill).unwrap();
        let old = names(&storage);
        let tables = state.packs.segment_packs();
        let tables = tables.chain(state.snapshots.segment_packs());
        let tables: Vec<_> = tables.map(|(name, _)| name).collect();
        assert_eq!(tables.len(), 1);
        delete(&storage, &tables);
        let second = snapshot(&home, &example(2), "b").id;
        let done = mend(&pair.storage(), &[]);
        assert!(done.after.is_good(), "{:?}", done.after);
        assert_eq!(done.renamed.len(), usize::from(of_packs));
        if of_packs {
            delete(&storage, &old);
        }
        assert_whole(&pair, &[(first, example(1))]);
        // Who began before the repair sends again only where fences are in doubt.
        let sent = push(&home, &pair.storage(), &[second]);
        assert_eq!(sent.is_err(), of_packs);
        push_until(&home, &pair.storage(), &[second]);
        assert_whole(&pair, &[(second, example(2))]);
    }
}
