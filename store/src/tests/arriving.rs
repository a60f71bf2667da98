//! Packs of an interrupted fetch, beside writers and collections.

use super::collection::Pair;
use super::dice::seeded;
use super::*;

/// A home into which a fetch brought all packs but one; what would bring it, and back that one.
fn interrupted(pair: &Pair) -> (Repository, impl Fn() -> Result<Transferred>, impl Fn()) {
    let there = pair.home();
    let ids: Vec<_> = (0..3)
        .map(|n| snapshot(&there, &example(n), "x").id)
        .collect();
    let here = Directory::new(pair.dirs.1.path());
    // One thread, so that the last pack comes last.
    let here = Repository::open_in(Arc::new(here), None, IndexChoice::Memory, seeded(1));
    let here = here.unwrap().alone();
    let names: Vec<_> = there.state().unwrap().packs().map(|p| p.name).collect();
    let path = there
        .objects()
        .local_path(&names.iter().max().unwrap().key());
    let (path, aside) = (path.unwrap(), pair.dirs.0.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let target = here.clone();
    let fetch = move || {
        let what = Transfer {
            snapshots: ids.clone(),
            ..Transfer::default()
        };
        transfer(&there, &target, what, &|_| {})
    };
    fetch().unwrap_err();
    assert_eq!(packs(&here), names.len() - 1);
    (here, fetch, move || std::fs::rename(&aside, &path).unwrap())
}

fn packs(repository: &Repository) -> usize {
    repository.objects().list("packs/").unwrap().len()
}

fn collect(repository: &Repository, how: Collect) -> Collected {
    repository.collect(Operation::default(), how).unwrap()
}

#[test]
fn what_an_interrupted_fetch_brought_waits_for_the_next() {
    let pair = Pair::new();
    let (here, fetch, mend) = interrupted(&pair);
    let arrived = packs(&here);
    snapshot(&here, &Files::from([("own".into(), noise(90, CHUNK))]), "y");
    assert_eq!(collect(&here, Collect::at(0)).orphans, 0);
    assert_eq!(packs(&here), arrived + 1);
    mend();
    assert_eq!(fetch().unwrap().packs, 1);
    assert!(here.arriving().unwrap().is_empty());
    assert!(!pair.dirs.1.path().join("arriving").exists());
    assert_eq!(here.state().unwrap().len(), 4);
    assert_good(&here);
}

#[test]
fn what_an_interrupted_fetch_brought_goes_when_it_is_told_to_or_old() {
    for (grace, now) in [(0, 0), (1, 4_000_000_000)] {
        let pair = Pair::new();
        let (here, fetch, mend) = interrupted(&pair);
        let arrived = packs(&here) as u64;
        let how = Collect {
            grace,
            ..Collect::at(now)
        };
        assert_eq!(here.would_collect(how, &[]).unwrap().orphans, arrived);
        assert_eq!(collect(&here, how).orphans, arrived);
        mend();
        assert_eq!(fetch().unwrap().packs, arrived + 1);
        assert_good(&here);
    }
}

#[test]
fn what_an_interrupted_fetch_brought_is_no_lost_snapshot() {
    let pair = Pair::new();
    let (here, fetch, mend) = interrupted(&pair);
    let how = Repair {
        operation: Operation::default(),
        sources: vec![],
        summary: &|_| vec![],
    };
    let done = here.repair(&how, &|_| {}).unwrap();
    assert_eq!((done.log.root, done.log.snapshots), (None, vec![]));
    mend();
    assert_eq!(fetch().unwrap().snapshots, 3);
    assert_good(&here);
}
