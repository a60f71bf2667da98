//! The power goes while something is mended, or packs get other names: what was whole stays whole,
//! what was damaged is no worse, and the same call again completes it.

use super::repairs::Blobs;
use super::*;
use crate::root::Root;

/// Packs of sessions with a smaller label are to get another name.
const FLOOR: u64 = 1_900_000_000_000;

/// As a storage does that has collected them, and a home that sends them once more.
pub(super) fn renaming() -> Case {
    Case {
        name: "packs get other names",
        before: Box::new(two),
        run: Box::new(|dir, done| {
            let home = open(dir)?;
            let old = |state: &State| -> Vec<PackName> {
                let names = state.packs().map(|pack| pack.name);
                names.filter(|name| name.label() < FLOOR).collect()
            };
            let packs = old(&*home.state()?);
            if !packs.is_empty() {
                home.rename_packs(&packs, FLOOR, Operation::default())?;
                done();
            }
            assert!(old(&*home.state()?).is_empty());
            // Names that were given up before their packs had others are nobody's.
            home.collect(Operation::default(), no_grace())?;
            let named = home.state()?.named_keys();
            let listed = home.objects().list("packs/")?;
            assert!(listed.iter().all(|listed| named.contains(&listed.key)));
            Ok(())
        }),
        states: vec![whole(0..2), whole(0..2)],
    }
}

fn two(dir: &Path) {
    take(&create(dir).unwrap(), 0..2, 0, &|| {}).unwrap();
}

fn latest_root(dir: &Path) -> std::path::PathBuf {
    let seq = open(dir).unwrap().state().unwrap().seq();
    dir.join(Root::key(seq))
}

/// Files are written anew, so that links to them stay as they are.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Repairs what is in `before`, which was `first`.
fn repair(
    name: &'static str,
    first: Found,
    before: impl Fn(&Path) + 'static,
    open: fn(&Path) -> Result<Repository>,
    source: Option<Box<dyn Source>>,
) -> Case {
    let last = match &first {
        Found::Damaged(model) => model.clone(),
        Found::Nothing | Found::Whole(_) => model(0..2),
    };
    Case {
        name,
        before: Box::new(before),
        run: Box::new(move |dir, done| {
            let how = Repair {
                operation: Operation::default(),
                sources: source.iter().map(|source| &**source).collect(),
                summary: &|_| Vec::new(),
            };
            let repository = open(dir)?;
            let mended = repository.repair(&how, &|_| {})?;
            if !mended.after.is_good() {
                let what = format!("it is not whole: {:?}", mended.after);
                return Err(Error::Invalid { what });
            }
            if mended.did_anything() {
                done();
            }
            Ok(())
        }),
        states: vec![first, Found::Whole(last)],
    }
}

fn damaged_root(open: fn(&Path) -> Result<Repository>) -> Case {
    let before = |dir: &Path| {
        two(dir);
        change(&latest_root(dir), |bytes| bytes[20] ^= 1);
    };
    let first = Found::Damaged(model(0..2));
    repair("the latest root is damaged", first, before, open, None)
}

/// Rows of the snapshot table are lost, and with them the way to what is in packs.
fn lost_table() -> Case {
    let before = |dir: &Path| {
        let repository = create(dir).unwrap();
        take(&repository, 0..5, 7000, &|| {}).unwrap();
        let state = repository.state().unwrap();
        let mut segments = state.snapshots.segment_packs();
        let (name, _) = segments.next().expect("so many bytes spill");
        std::fs::remove_file(dir.join(name.key())).unwrap();
    };
    let first = Found::Damaged(model(0..5));
    repair("a table is lost", first, before, open, None)
}

/// The root that named the last snapshot was lost whole: nothing is damaged, but it is not there.
fn lost_root() -> Case {
    let before = |dir: &Path| {
        two(dir);
        std::fs::remove_file(latest_root(dir)).unwrap();
    };
    repair("the latest root is gone", whole(0..1), before, open, None)
}

/// What is done to the packs of a repository.
fn damaged_packs(
    name: &'static str,
    original: &Path,
    damage: fn(&mut Vec<u8>),
    open: fn(&Path) -> Result<Repository>,
    source: Box<dyn Source>,
) -> Case {
    let original = original.to_owned();
    let before = move |dir: &Path| {
        copy_dir(&original, dir);
        let state = super::open(dir).unwrap().state().unwrap();
        for pack in state.packs() {
            change(&dir.join(pack.name.key()), damage);
        }
    };
    let first = Found::Damaged(model(0..2));
    repair(name, first, before, open, Some(source))
}

/// One payload of each pack is another.
const FLIP: fn(&mut Vec<u8>) = |bytes| bytes[100] ^= 1;
/// The directory of each pack is lost.
const CUT: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() - 70);

#[test]
fn packs_get_other_names_at_every_power_loss() {
    renaming().holds(10);
}

#[test]
fn a_damaged_root_is_mended_at_every_power_loss() {
    damaged_root(open).holds(4);
}

#[test]
fn a_damaged_root_of_a_storage_is_mended_at_every_power_loss() {
    damaged_root(open_storage).holds(4);
}

#[test]
fn a_lost_table_is_mended_at_every_power_loss() {
    lost_table().holds(4);
}

#[test]
fn what_no_root_names_comes_back_at_every_power_loss() {
    lost_root().holds(4);
}

#[test]
fn packs_are_replaced_at_every_power_loss() {
    let original = memory_dir();
    two(original.path());
    let source = || Box::new(open(original.path()).unwrap());
    damaged_packs("packs are replaced", original.path(), FLIP, open, source()).holds(4);
    let name = "packs are replaced at a storage";
    damaged_packs(name, original.path(), FLIP, open_storage, source()).holds(10);
}

#[test]
fn blobs_are_healed_at_every_power_loss() {
    let original = memory_dir();
    two(original.path());
    let source = || Box::new(Blobs(open(original.path()).unwrap()));
    damaged_packs("blobs are healed", original.path(), FLIP, open, source()).holds(8);
    let name = "blobs are healed at a storage";
    damaged_packs(name, original.path(), FLIP, open_storage, source()).holds(8);
}

#[test]
fn what_is_left_of_packs_is_salvaged_at_every_power_loss() {
    let original = memory_dir();
    two(original.path());
    let source = || Box::new(Blobs(open(original.path()).unwrap()));
    damaged_packs("packs are salvaged", original.path(), CUT, open, source()).holds(8);
}
