//! Index segments: fewer requests, and nothing lost with them.

use super::bulk::Counted;
use super::collection::{Pair, at_once, collect_beside, push};
use super::meanwhile::{Meanwhile, When};
use super::*;
use crate::index::segment::{self, Entry, SegmentRow};
use crate::objects::Lazy;
use crate::pack::reader;
use crate::root::PackRow;
use crate::table::Table;

/// A bucket to which so many snapshots were pushed, one by one, where a segment is made of so many
/// packs; and the home that did it.
struct Pushed {
    place: Place,
    objects: Arc<dyn Objects>,
    ids: Vec<SnapshotId>,
}

fn files(n: u64) -> Files {
    Files::from([
        ("file".into(), noise(n, 3 * CHUNK)),
        ("n".into(), n.to_le_bytes().into()),
    ])
}

impl Pushed {
    fn new(snapshots: u64, every: usize, seal: Option<Seal>) -> Pushed {
        let place = Place::new(seal.clone());
        let objects = bucket();
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        Repository::create(objects.clone(), SMALL, seal, index, operation).unwrap();
        let mut pushed = Pushed {
            place,
            objects,
            ids: Vec::new(),
        };
        let (here, there) = (pushed.place.open().alone(), pushed.there(every));
        for n in 0..snapshots {
            let parent = pushed.ids.last().copied();
            let id = snapshot_on(&here, &files(n), parent, &n.to_string()).0;
            push(&here, &there, &[id]).unwrap();
            pushed.ids.push(id);
        }
        pushed
    }

    fn there(&self, every: usize) -> Repository {
        self.over(self.objects.clone()).with_segments_of(every)
    }

    fn over(&self, objects: Arc<dyn Objects>) -> Repository {
        Repository::open(objects, self.place.seal.clone(), IndexChoice::Memory).unwrap()
    }

    fn rows(&self) -> Vec<SegmentRow> {
        let state = self.there(1).state().unwrap();
        state.index_segments().cloned().collect()
    }

    /// Everything is there, and one who has just come can read it.
    #[track_caller]
    fn is_whole(&self) {
        let there = self.there(1);
        for (n, id) in (0..).zip(&self.ids) {
            assert_eq!(files_of(&there, *id), files(n));
        }
        assert_good(&there);
    }

    /// Requests, ranges and bytes until one who has just come knows where everything is.
    fn cost(&self) -> (u64, u64, u64) {
        let counted = Counted::new(self.objects.clone());
        let there = self.over(counted.clone());
        there.ensure_indexed().unwrap();
        let (ranges, bytes) = counted.take();
        (counted.asked(), ranges, bytes)
    }

    fn delete_all(&self) {
        for listed in self.objects.list("index/").unwrap() {
            self.objects.delete(&listed.key).unwrap();
        }
    }
}

/// Segments beside each other, the older ones longer, which have all packs but the last few.
#[track_caller]
fn are_in_order(state: &State, every: usize) {
    let rows: Vec<&SegmentRow> = state.index_segments().collect();
    assert!(rows.is_sorted_by(|a, b| a.last < b.first), "{rows:?}");
    assert!(rows.is_sorted_by(|a, b| a.packs >= 2 * b.packs), "{rows:?}");
    let without = |pack: &&PackRow| !rows.iter().any(|row| row.spans(pack.ordinal));
    assert!(state.packs().filter(without).count() < every);
}

#[test]
fn who_comes_asks_for_segments_and_not_for_every_pack() {
    let (seal, _) = Seal::generate("k");
    for seal in [None, Some(seal)] {
        let pushed = Pushed::new(64, 5, seal);
        let state = pushed.there(5).state().unwrap();
        let packs = state.packs().count() as u64;
        assert_eq!(packs, 64);
        are_in_order(&state, 5);
        let segments = state.index_segments().count() as u64;
        assert!((2..=4).contains(&segments), "{segments} segments");
        let (asked, ranges, bytes) = pushed.cost();
        let alone = packs
            - state
                .index_segments()
                .map(|r| u64::from(r.packs))
                .sum::<u64>();
        assert_eq!(ranges, segments + 2 * alone);
        pushed.is_whole();

        pushed.delete_all();
        let (asked_without, ranges_without, bytes_without) = pushed.cost();
        assert_eq!(ranges_without, segments + 2 * packs);
        assert_eq!(asked_without - asked, ranges_without - ranges);
        assert!(bytes < bytes_without * 3 / 2, "{bytes} of {bytes_without}");
        pushed.is_whole();
    }
}

/// A home that reads at the storage asks that for its segments, also after its index was deleted.
#[test]
fn a_lazy_home_asks_for_the_segments_of_its_storage() {
    let pushed = Pushed::new(40, 10, None);
    let lazy = Place::new(None);
    let counted = Counted::new(pushed.objects.clone());
    let home = || {
        let near = Directory::new(lazy.dir.path());
        pushed
            .over(Arc::new(Lazy::new(near, counted.clone())))
            .alone()
    };
    let what = Transfer {
        snapshots: pushed.ids.clone(),
        ..Transfer::default()
    };
    transfer_without_packs(&pushed.there(10), &home(), what).unwrap();
    let cost = || {
        counted.take();
        home().ensure_indexed().unwrap();
        counted.take().0
    };
    let segments = pushed.rows().len() as u64;
    assert_eq!(cost(), segments);
    let last = *pushed.ids.last().unwrap();
    assert_eq!(files_of(&home(), last), files(39));
    pushed.delete_all();
    assert_eq!(cost(), segments + 2 * 40);
    assert_eq!(files_of(&home(), last), files(39));
}

/// Segments that are missing, cut or changed cost requests, are named, and are written anew.
#[test]
fn a_damaged_segment_loses_nothing_and_is_mended() {
    let pushed = Pushed::new(12, 4, None);
    let last = pushed.rows().pop().unwrap();
    let whole = pushed.objects.get(&last.key()).unwrap();
    let mut changed = whole.clone();
    changed[40] ^= 1;
    let mut longer = whole.clone();
    longer.push(0);
    let other = pushed.objects.get(&pushed.rows()[0].key()).unwrap();
    for (bytes, is_seen_at_once) in [
        (None, true),
        (Some(whole[..whole.len() - 1].to_vec()), true),
        (Some(vec![]), true),
        (Some(longer), true),
        (Some(changed), false),
        (Some(other), true),
    ] {
        let row = pushed.rows().pop().unwrap();
        pushed.objects.delete(&row.key()).unwrap();
        if let Some(bytes) = &bytes {
            pushed.objects.create(&row.key(), bytes).unwrap();
        }
        pushed.is_whole();
        let there = pushed.there(4);
        let found = |how| there.verify(how).unwrap().bad_segments;
        assert_eq!(found(Verify::Quick).len(), usize::from(is_seen_at_once));
        let named = found(Verify::ReadData);
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!(named[0].0, row.name);

        let how = Repair {
            operation: Operation::default(),
            sources: Vec::new(),
            summary: &|_| Vec::new(),
        };
        let done = there.repair(&how, &|_| {}).unwrap();
        assert!(done.did_anything() && done.segments == 1, "{done:?}");
        assert!(done.after.bad_segments.is_empty());
        assert!(found(Verify::ReadData).is_empty());
        are_in_order(&there.state().unwrap(), 4);
        pushed.is_whole();
        // What was damaged is listed no more, so it goes like anything else.
        collect_beside(&there);
        let listed = pushed.objects.list("index/").unwrap();
        assert_eq!(listed.len(), pushed.rows().len());
    }
}

/// The end of a pack as a segment has it.
fn entry(objects: &dyn Objects, pack: &PackRow) -> Entry {
    let (trailer, directory) = reader::open_raw(objects, pack.name, pack.len).unwrap();
    Entry {
        pack: pack.name,
        len: pack.len,
        trailer,
        directory,
    }
}

/// Has the root list a segment of these entries that nobody would write.
fn list(there: &Repository, entries: &[Entry], last: u64) {
    let (bytes, hash) = segment::encode(entries, false);
    let row = SegmentRow {
        first: 0,
        last,
        name: PackName {
            session: [0xff; 16],
            number: 0,
        },
        len: bytes.len() as u64,
        hash,
        packs: entries.len() as u32,
    };
    there.objects().create(&row.key(), &bytes).unwrap();
    there
        .commit_with(Operation::default(), |state| {
            state.index.put(row.clone());
            Ok(())
        })
        .unwrap();
}

/// A segment that says what cannot be: of a pack with another length, of one that no root lists,
/// and what no pack ends with.
#[test]
fn what_a_segment_says_of_others_is_passed_over() {
    let pushed = Pushed::new(6, 100, None);
    let there = pushed.there(100);
    let packs: Vec<PackRow> = there.state().unwrap().packs().copied().collect();
    let of = |n: usize| entry(&*pushed.objects, &packs[n]);
    let other = (1..6).find(|n| packs[*n].len != packs[0].len).unwrap();
    let mut nobodys = of(2);
    nobodys.pack.number += 77;
    let mut damaged = of(3);
    damaged.directory[5] ^= 1;
    let of_another = Entry {
        pack: packs[0].name,
        ..of(other)
    };
    list(&there, &[of_another, nobodys, damaged, of(4)], 5);
    pushed.is_whole();
    let counted = Counted::new(pushed.objects.clone());
    pushed.over(counted.clone()).ensure_indexed().unwrap();
    // The segment, and five of six packs.
    assert_eq!(counted.take().0, 1 + 2 * 5);
}

/// A segment that says of a pack what another one holds: nothing but the packs tells.
#[test]
fn a_segment_that_lies_is_found_and_written_anew() {
    let pushed = Pushed::new(6, 100, None);
    let there = pushed.there(100);
    let packs: Vec<PackRow> = there.state().unwrap().packs().copied().collect();
    let same = |n: usize, m: usize| n < m && packs[n].len == packs[m].len;
    let pairs = (0..6).flat_map(|n| (0..6).map(move |m| (n, m)));
    let (n, m) = pairs.clone().find(|(n, m)| same(*n, *m)).unwrap();
    let of = |n: usize| entry(&*pushed.objects, &packs[n]);
    let lie = Entry {
        pack: packs[n].name,
        ..of(m)
    };
    list(&there, &[lie, of(m)], 5);
    let bad = there.verify(Verify::ReadData).unwrap().bad_segments;
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(bad[0].1.contains(&packs[n].name.to_string()), "{bad:?}");
    let how = Repair {
        operation: Operation::default(),
        sources: Vec::new(),
        summary: &|_| Vec::new(),
    };
    let done = pushed.there(100).repair(&how, &|_| {}).unwrap();
    assert!(
        done.segments == 1 && done.after.bad_segments.is_empty(),
        "{done:?}"
    );
    pushed.is_whole();
}

/// As do packs, segments of which nothing is needed go; those that are needed stay.
#[test]
fn segments_follow_their_packs() {
    let pushed = Pushed::new(32, 4, None);
    let there = pushed.there(4);
    let before = pushed.rows();
    // Nothing is packed anew of the last few.
    remove(&there, &pushed.ids[..30]);
    for _ in 0..3 {
        collect_beside(&there);
        assert!(
            there
                .verify(Verify::ReadData)
                .unwrap()
                .bad_segments
                .is_empty()
        );
    }
    let state = there.state().unwrap();
    let packs = state.packs().count();
    assert!(packs < 16, "{packs}");
    are_in_order(&state, 4);
    let in_segments: u32 = state.index_segments().map(|row| row.packs).sum();
    assert!(in_segments as usize <= 2 * packs, "{in_segments}");
    assert!(!state.index_segments().any(|row| before.contains(row)));
    let kept: Vec<String> = state.index_segments().map(SegmentRow::key).collect();
    collect_beside(&there);
    let listed = pushed.objects.list("index/").unwrap();
    let listed: Vec<String> = listed.into_iter().map(|listed| listed.key).collect();
    for key in kept {
        assert!(listed.contains(&key), "{key}");
    }
    for (n, id) in (30..).zip(&pushed.ids[30..]) {
        assert_eq!(files_of(&pushed.there(4), *id), files(n));
    }
}

/// Two do it at once: one is listed, and what the other wrote goes as any leftover.
#[test]
fn two_that_write_the_same_segment_do_no_harm() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    let ids: Vec<_> = (0..6)
        .map(|n| snapshot(&local, &example(n), "s").id)
        .collect();
    for id in &ids {
        push(&local, &storage, &[*id]).unwrap();
    }
    assert_eq!(storage.state().unwrap().index_segments().count(), 0);
    let other = pair.storage().with_segments_of(3);
    let objects = Meanwhile::new(pair.dirs.1.path(), When::Created("index/"), move || {
        let done = other.tend_segments(None, &Operation::default()).unwrap();
        assert_eq!(done.written, 1);
    });
    let late = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let late = late.with_segments_of(3);
    let done = late.tend_segments(None, &Operation::default()).unwrap();
    assert_eq!((done.written, done.dropped), (0, 0));
    assert_eq!(storage.objects().list("index/").unwrap().len(), 2);
    collect_beside(&storage);
    assert_eq!(storage.objects().list("index/").unwrap().len(), 1);
    let report = pair.storage().verify(Verify::ReadData).unwrap();
    assert!(report.is_good() && report.bad_segments.is_empty());
}

/// What a collection may delete at any time is listed by no root.
#[test]
fn a_segment_of_a_fenced_session_is_not_listed() {
    let pair = Pair::new();
    let (local, storage) = (pair.home(), pair.storage());
    for n in 0..3 {
        let id = snapshot(&local, &example(n), "s").id;
        push(&local, &storage, &[id]).unwrap();
    }
    let other = pair.storage();
    let objects = Meanwhile::new(pair.dirs.1.path(), When::Created("index/"), move || {
        let how = Collect {
            sessions: 0,
            ..at_once()
        };
        let done = other.collect(Operation::default(), how).unwrap();
        assert_eq!(done.orphans, 1);
    });
    let late = Repository::open(Arc::new(objects), None, IndexChoice::Memory).unwrap();
    let late = late.with_segments_of(3);
    let done = late.tend_segments(None, &Operation::default()).unwrap();
    assert_eq!(done.written, 0);
    assert_eq!(storage.state().unwrap().index_segments().count(), 0);
    // The next one is.
    let again = pair.storage().with_segments_of(3);
    let done = again.tend_segments(None, &Operation::default()).unwrap();
    assert_eq!(done.written, 1);
}

/// A program that does not know the table leaves it out, and takes its packs for garbage.
#[test]
fn what_an_older_program_leaves_out_is_made_anew() {
    let pushed = Pushed::new(12, 4, None);
    let there = pushed.there(4);
    let forget = || {
        there
            .commit_with(Operation::default(), |state| {
                state.index = Table::default();
                Ok(())
            })
            .unwrap();
    };
    forget();
    pushed.is_whole();
    collect_beside(&there);
    are_in_order(&there.state().unwrap(), 4);
    assert_eq!(pushed.rows().iter().map(|row| row.packs).sum::<u32>(), 12);
    assert_good(&there);

    // Its rows in a pack of the table, which goes.
    there
        .commit_with(Operation::default(), |state| {
            let mut index = state.index.clone();
            index.spill(there.ids(), |rows| there.write_segment(rows, 0))?;
            state.index = index;
            Ok(())
        })
        .unwrap();
    let state = pushed.there(4).state().unwrap();
    let pack = state.index.segment_packs().next().unwrap().0;
    assert_eq!(state.index_segments().count(), pushed.rows().len());
    pushed.objects.delete(&pack.key()).unwrap();
    assert_eq!(pushed.rows(), []);
    pushed.is_whole();
    pushed
        .there(4)
        .tend_segments(None, &Operation::default())
        .unwrap();
    let state = pushed.there(4).state().unwrap();
    assert!(state.index_lost.is_empty());
    are_in_order(&state, 4);
}

/// A home keeps its packs beside it, and needs no copies of what they say.
#[test]
fn a_home_has_none() {
    let pair = Pair::new();
    let home = pair.home().with_segments_of(1);
    for n in 0..4 {
        snapshot(&home, &example(n), "s");
    }
    collect(&home);
    home.tend_segments(None, &Operation::default()).unwrap();
    assert_eq!(home.state().unwrap().index_segments().count(), 0);
    assert_eq!(home.objects().list("index/").unwrap(), []);
}

/// `ZENITH_MEASURE=2000` counts what it costs to know where everything is, with segments of a
/// hundred packs and without.
#[test]
fn what_it_costs() {
    let packs = std::env::var("ZENITH_MEASURE").ok();
    let packs = packs.and_then(|n| n.parse().ok()).unwrap_or(20);
    let pushed = Pushed::new(packs, 100, None);
    let with = (pushed.rows().len(), pushed.cost());
    pushed.delete_all();
    let without = pushed.cost();
    println!("{packs} packs: {with:?} with segments, {without:?} when they are missing");
    assert!(with.1.0 <= without.0);
}
