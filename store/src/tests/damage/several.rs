//! Several things damaged at once: what one repair does must not be in the way of the next.

use super::*;
use crate::id::Id;
use std::collections::HashSet;

/// Damages the frame that a blob lies in.
fn lose(repository: &Repository, id: Id) {
    let at = repository.locate(&id).unwrap().unwrap()[0].1;
    rewrite(repository, &at.pack.key(), |bytes| {
        bytes[at.payload_offset as usize + 3] ^= 1;
    });
}

/// A place that has these blobs alone.
#[derive(Debug)]
struct Only(Repository, Vec<Id>);

impl Source for Only {
    fn name(&self) -> String {
        "only".into()
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        match self.1.contains(&wanted.id) {
            true => self.0.blob(wanted),
            false => Ok(None),
        }
    }
}

/// What is below a node that nobody has is not known, and waits with it: with the pack that it is
/// in, or with the one that this moves to.
#[test]
fn a_partial_repair_keeps_what_is_below_a_lost_node() {
    for alone in [true, false] {
        for rots_in_the_same_pack in [true, false] {
            let (place, elsewhere) = (Place::new(None), Place::new(None));
            let history = history(&place);
            self::history(&elsewhere);
            let big = &history[2].1["base/big"];
            // A snapshot with something of the others, and something of its own.
            let other = Files::from([
                ("part".into(), big[8 * CHUNK..9 * CHUNK].to_vec()),
                ("own".into(), noise(90, 20 * CHUNK)),
            ]);
            let (id, _) = snapshot_on(&place.open(), &other, None, "");
            assert_eq!(snapshot_on(&elsewhere.open(), &other, None, "").0, id);
            remove(&place.open(), &[history[0].0, history[1].0]);
            let repository = place.open();
            let chunk = match rots_in_the_same_pack {
                true => repository.ids().chunk(&big[8 * CHUNK..9 * CHUNK]),
                false => repository.ids().chunk(&other["own"][..CHUNK]),
            };
            lose(
                &repository,
                repository.snapshot(history[2].0).unwrap().tree.into(),
            );
            lose(&repository, chunk.into());
            let chunks = chunks_of(&elsewhere.open(), id).into_values().flatten();
            let only = Only(elsewhere.open(), chunks.map(Into::into).collect());
            let open = || match alone {
                true => place.open().alone(),
                false => place.open(),
            };
            let done = mend(&open(), &[&only]);
            assert!(done.from["only"].blobs > 0);
            let damaged: Vec<_> = done.after.bad_snapshots.iter().map(|(id, _)| *id).collect();
            assert_eq!(damaged, [history[2].0]);
            for _ in 0..2 {
                open().collect(Operation::default(), no_grace()).unwrap();
            }
            let done = mend(&open(), &[&Nodes(elsewhere.open())]);
            assert!(done.after.is_good(), "{:?}", done.after);
            assert_whole(&place, &[history[2].clone(), (id, other)]);
        }
    }
}

/// Rows of which the usage cannot be told, since the table is lost in which the rows before them
/// are, while a pack is damaged that heals right after.
#[test]
fn what_is_counted_anew_beside_damage_keeps_every_pack() {
    for alone in [true, false] {
        let place = Place::new(None);
        for n in 0..60u64 {
            let files = Files::from([("n".into(), noise(n, 3000))]);
            let message = "a long message ".repeat(40);
            snapshot_on(&place.open(), &files, None, &message);
        }
        let history = history(&place);
        remove(&place.open(), &[history[0].0, history[1].0]);
        let other = copy_of(&place);
        let repository = place.open();
        let state = repository.state().unwrap();
        for (pack, _) in state.snapshots.segment_packs() {
            repository.objects().delete(&pack.key()).unwrap();
        }
        let usage: Vec<PackName> = state.usage(&history[2].0).into_keys().collect();
        let tree = repository.snapshot(history[2].0).unwrap().tree;
        match alone {
            true => lose(&repository, tree.into()),
            // What is in a pack without a directory only an index knows that lasts.
            false => rewrite(&repository, &usage[0].key(), |bytes| {
                let len = bytes.len();
                bytes[len - TRAILER_LEN..].fill(0);
            }),
        }
        let open = || match alone {
            true => place.open().alone(),
            false => place.open(),
        };
        let done = mend(&open(), &[&other.open()]);
        assert!(
            !done.log.tables.is_empty() && done.after.is_good(),
            "{done:?}"
        );
        for _ in 0..2 {
            open().collect(Operation::default(), no_grace()).unwrap();
        }
        assert_whole(&place, &history[2..]);
    }
}

/// A snapshot that only the lost root named, and that needs what is healed after the root.
#[test]
fn what_healing_makes_whole_comes_back_with_it() {
    for alone in [true, false] {
        let place = Place::new(None);
        let mut files = Files::from([
            ("base/big".into(), noise(1, 20 * CHUNK)),
            ("own".into(), noise(2, CHUNK)),
        ]);
        let (first, tree) = snapshot_in_directories(&place.open(), &files, None);
        let other = copy_of(&place);
        files.insert("own".into(), noise(3, CHUNK));
        let (second, _) = snapshot_in_directories(&place.open(), &files, Some(first));
        let repository = place.open();
        // Both have the same directory.
        let mut base = None;
        repository
            .walk(tree, &mut |_, entry| {
                if let object::Entry::Directory { tree, .. } = entry {
                    base = Some(tree);
                }
                Ok(())
            })
            .unwrap();
        lose(&repository, base.unwrap().into());
        let (_, key) = latest(&repository);
        rewrite(&repository, &key, |bytes| bytes[60] ^= 1);
        let open = || match alone {
            true => place.open().alone(),
            false => place.open(),
        };
        let done = mend(&open(), &[&other.open()]);
        assert!(done.after.is_good(), "{done:?}");
        assert_eq!(done.log.incomplete, []);
        assert_eq!(done.log.snapshots[0].0, second);
        // The next snapshot and collections take leftovers away.
        snapshot_on(&place.open(), &example(1), None, "next");
        for _ in 0..3 {
            open().collect(Operation::default(), no_grace()).unwrap();
        }
        assert_whole(&place, &[(second, files)]);
    }
}

/// A home without packs, which reads those of a storage.
fn lazy(dir: &Path, storage: &Place) -> Repository {
    let far = Arc::new(Directory::new(storage.dir.path()));
    let objects = Arc::new(objects::Lazy::new(Directory::new(dir), far));
    let (index, operation) = (IndexChoice::Memory, Operation::default());
    let made = match Repository::exists(&*objects).unwrap() {
        true => Repository::open(objects, None, index),
        false => Repository::create(objects, SMALL, None, index, operation),
    };
    made.unwrap().alone()
}

fn all_of(repository: &Repository) -> Transfer {
    let state = repository.state().unwrap();
    Transfer {
        snapshots: state.snapshots().map(|row| row.id).collect(),
        ..Transfer::default()
    }
}

/// What is healed at a storage has other names there, by which homes that read it there find it:
/// also what such a home made on it.
#[test]
fn a_lazy_home_goes_by_the_names_that_a_repair_gave() {
    for blob_by_blob in [true, false] {
        let (local, elsewhere) = (Place::new(None), Place::new(None));
        let history = history(&local);
        self::history(&elsewhere);
        let storage = copy_of(&local);
        let dir = tempfile::tempdir().unwrap();
        let home = lazy(dir.path(), &storage);
        transfer_without_packs(&storage.open(), &home, all_of(&storage.open())).unwrap();
        home.lean_on(Some(history[2].0)).unwrap();
        let mut files = history[2].1.clone();
        files.insert("mine".into(), noise(70, 3 * CHUNK));
        let (mine, _) = snapshot_in_directories(&home, &files, Some(history[2].0));
        let packs = packs_of(&storage.open());
        rewrite(&storage.open(), &packs[0].key(), |bytes| bytes[300] ^= 1);
        let source = match blob_by_blob {
            true => elsewhere.open(),
            false => local.open(),
        };
        let done = mend(&storage.open(), &[&source]);
        assert!(done.after.is_good(), "{done:?}");
        let freed = storage.open().collect(Operation::default(), no_grace());
        assert_eq!(freed.unwrap().packs, 1);
        let open = || lazy(dir.path(), &storage);
        assert!(open().snapshot(history[0].0).is_err());
        let follow = || follow_packs(&storage.open(), &open(), Operation::default()).unwrap();
        assert_eq!((follow(), follow()), (4, 0));
        let mut all = history.clone();
        all.push((mine, files));
        for (id, files) in &all {
            assert!(files_of(&open(), *id) == *files, "{id}");
        }
        // Nothing of what is there goes there once more, and all of it can come.
        let sent = transfer(&open(), &storage.open(), all_of(&open()), &|_| {}).unwrap();
        assert_eq!((sent.snapshots, sent.packs), (1, 1));
        let alone = Repository::open(
            Arc::new(Directory::new(dir.path())),
            None,
            IndexChoice::Memory,
        );
        let alone = alone.unwrap().alone();
        complete(&storage.open(), &alone, &|_| {}).unwrap();
        for (id, files) in &all {
            assert!(files_of(&alone, *id) == *files, "{id}");
        }
        assert_whole(&storage, &all);
    }
}

/// The home that repairs may itself have its packs there.
#[test]
fn a_lazy_home_takes_names_over_without_packs() {
    let local = Place::new(None);
    let history = history(&local);
    let storage = copy_of(&local);
    let dir = tempfile::tempdir().unwrap();
    let home = lazy(dir.path(), &storage);
    transfer_without_packs(&storage.open(), &home, all_of(&storage.open())).unwrap();
    let packs = packs_of(&storage.open());
    storage.open().objects().delete(&packs[0].key()).unwrap();
    let done = mend(&storage.open(), &[&local.open()]);
    home.rename_packs_to(&done.renamed, Operation::default())
        .unwrap();
    for (id, files) in &history {
        assert!(files_of(&lazy(dir.path(), &storage), *id) == *files, "{id}");
    }
    // Names under which the storage has nothing are none.
    let gone = packs_of(&home);
    let error = home.rename_packs(&gone, 0, Operation::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Damaged);
}

/// A fetch may bring the new name before the old one is renamed: an object has one row.
#[test]
fn a_pack_that_came_under_its_new_name_stays_beside_the_old() {
    let local = Place::new(None);
    let history = history(&local);
    let storage = copy_of(&local);
    let packs = packs_of(&storage.open());
    storage.open().objects().delete(&packs[0].key()).unwrap();
    let done = mend(&storage.open(), &[&local.open()]);
    // Another's snapshot there, with what is in that pack.
    let big = Files::from([("big".into(), history[0].1["base/big"].clone())]);
    let (other, _) = snapshot_on(&storage.open(), &big, None, "other");
    let home = local.open().alone();
    let what = Transfer {
        snapshots: vec![other],
        ..Transfer::default()
    };
    transfer(&storage.open(), &home, what, &|_| {}).unwrap();
    home.rename_packs_to(&done.renamed, Operation::default())
        .unwrap();
    let names = packs_of(&home);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    remove(&home, &[other]);
    for _ in 0..2 {
        home.collect(Operation::default(), no_grace()).unwrap();
    }
    assert_whole(&local, &history);
}

/// Who mends a log obeys what the root says that it goes on from.
#[test]
fn a_log_is_mended_by_those_who_may_write() {
    let broken = |make: &dyn Fn(&mut State)| {
        let place = Place::new(None);
        let home = place.open().only("a");
        let change = |state: &mut State| {
            make(state);
            Ok(())
        };
        let seq = home
            .commit_with(Operation::default(), change)
            .unwrap()
            .seq();
        let key = root::Root::key(seq + 1);
        home.objects().create(&key, b"torn").unwrap();
        place
    };
    let try_mend = |home: Repository| home.repair(&repair(&[]), &|_| {}).map(drop);
    let place = broken(&|state| state.set_writer("a"));
    for other in [place.open(), place.open().only("b")] {
        let refused = try_mend(other).unwrap_err();
        assert!(matches!(refused, Error::SingleWriter { .. }), "{refused}");
    }
    try_mend(place.open().only("a")).unwrap();
    let place = broken(&|state| state.root.read_only.push("of tomorrow".into()));
    let refused = try_mend(place.open()).unwrap_err();
    assert!(matches!(refused, Error::TooNew { .. }), "{refused}");
}
