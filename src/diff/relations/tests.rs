use super::*;
use crate::facts::{Database, Relation};

const BLOCK: u64 = 8192;
/// Pages of a segment here.
const SEGMENT: u64 = 10;

fn layout() -> Layout {
    Layout {
        block_size: BLOCK as u32,
        segment_blocks: SEGMENT as u32,
        catalog: crate::pg::catalog::Layout {
            major: 15,
            catalog_version: 202_209_061,
            block_size: BLOCK as u32,
        },
    }
}

fn relation(oid: u32, filenode: u32, name: &str, kind: char, table: Option<u32>) -> Relation {
    Relation {
        filenode,
        tablespace: 1663,
        schema: "public".into(),
        name: name.into(),
        kind,
        oid,
        table,
        parent: None,
    }
}

fn names(relations: &[Relation]) -> Names {
    let database = Database {
        oid: 5,
        name: "app".into(),
        relations: relations.to_vec(),
    };
    Names::new(vec![database], vec![])
}

/// Path and pages of every file of one side.
type Files = BTreeMap<String, u64>;

fn files(of: &[(&str, u64)]) -> Files {
    let of = of.iter();
    of.map(|(name, pages)| (format!("base/5/{name}"), *pages))
        .collect()
}

/// Groups what differs; files of one number of pages on both sides differ where they are named in
/// `changed`, in so many pages.
fn grouped(
    (before, old): (&Files, &Names),
    (after, new): (&Files, &Names),
    changed: &[(&str, u64)],
) -> Diff {
    let changed: BTreeMap<String, u64> = files(changed);
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let bytes = |files: &Files, path: &str| files.get(path).map(|pages| pages * BLOCK);
    let differ = paths.into_iter().filter_map(|path| {
        let (old, new) = (bytes(before, path), bytes(after, path));
        let pages = changed.get(path).copied().unwrap_or(0);
        (old != new || pages > 0).then(|| FileChange {
            path: path.clone(),
            before: old,
            after: new,
            changed: pages,
        })
    });
    group(
        differ.collect(),
        &Sides {
            before: old,
            after: new,
            size_before: &|path| Ok(bytes(before, path)),
            size_after: &|path| Ok(bytes(after, path)),
            layout: layout(),
        },
    )
    .unwrap()
}

/// `name what touched/of` of every relation.
fn told(diff: &Diff) -> Vec<String> {
    let line = |r: &RelationChange| {
        let (touched, of) = (r.touched(), r.pages.of());
        format!("{} {:?} {touched}/{of}", r.name.name, r.what)
    };
    diff.relations.iter().map(line).collect()
}

#[test]
fn pages_of_unchanged_segments_count() {
    let all = names(&[relation(20_000, 20_000, "t", 'r', None)]);
    let before = files(&[("20000", 10), ("20000.1", 10), ("20000.2", 3)]);
    let check = |after: &[(&str, u64)], changed: &[(&str, u64)], expected: &str| {
        let after = files(after);
        let diff = grouped((&before, &all), (&after, &all), changed);
        assert_eq!(told(&diff), [expected]);
    };
    let same = [("20000", 10), ("20000.1", 10), ("20000.2", 3)];
    check(&same, &[("20000", 2)], "t Changed 2/23");
    check(&same, &[("20000.2", 1)], "t Changed 1/23");
    let grown = [
        ("20000", 10),
        ("20000.1", 10),
        ("20000.2", 10),
        ("20000.3", 1),
    ];
    check(&grown, &[("20000.1", 4)], "t Changed 12/31");
    check(&[("20000", 10), ("20000.1", 10)], &[], "t Changed 3/23");
    check(&[("20000", 4)], &[("20000", 1)], "t Changed 20/23");
    check(&[("20000", 10), ("20000.1", 0)], &[], "t Changed 13/23");
    check(&[], &[], "t Dropped 23/23");
}

#[test]
fn forks_are_told_apart() {
    let all = names(&[relation(20_000, 20_000, "t", 'r', None)]);
    let side = files(&[("20000", 5), ("20000_fsm", 3), ("20000_vm", 1)]);
    let changed = [("20000", 2), ("20000_fsm", 1), ("20000_vm", 1)];
    let diff = grouped((&side, &all), (&side, &all), &changed);
    let [t] = &diff.relations[..] else {
        panic!("{diff:?}")
    };
    assert_eq!((t.touched(), t.maps_touched()), (2, 2));
    assert_eq!(t.files.len(), 3);
    assert_eq!((diff.touched(), diff.summary().maps), (4, 2));
}

#[test]
fn other_files_of_one_relation_are_a_rewrite() {
    let old = names(&[
        relation(20_000, 20_000, "t", 'r', None),
        relation(20_001, 20_001, "i", 'i', Some(20_000)),
        relation(20_002, 20_002, "again", 'r', None),
        relation(20_003, 20_003, "gone", 'r', None),
        relation(20_004, 20_004, "swapped", 'r', None),
    ]);
    let new = names(&[
        relation(20_000, 30_000, "t", 'r', None),
        relation(20_001, 30_001, "i", 'i', Some(20_000)),
        relation(30_002, 30_002, "again", 'r', None),
        // Renamed and rewritten: its old name belongs to another one.
        relation(20_004, 30_004, "other", 'r', None),
        relation(30_005, 30_005, "swapped", 'r', None),
        // An index is no table of the same name.
        relation(30_006, 30_006, "gone", 'i', Some(20_000)),
    ]);
    let before = files(&[
        ("20000", 7),
        ("20001", 2),
        ("20002", 3),
        ("20003", 4),
        ("20004", 5),
    ]);
    let after = files(&[
        ("30000", 3),
        ("30001", 1),
        ("30002", 9),
        ("30004", 5),
        ("30005", 6),
        ("30006", 1),
    ]);
    let diff = grouped((&before, &old), (&after, &new), &[]);
    assert_eq!(
        told(&diff),
        [
            "again Rewritten 9/9",
            "t Rewritten 7/7",
            "swapped New 6/6",
            "other Rewritten 5/5",
            "gone Dropped 4/4",
            "i Rewritten 2/2",
            "gone New 1/1",
        ]
    );
    let t = &diff.relations[1];
    let paths: Vec<_> = t.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["base/5/20000", "base/5/30000"]);
}

/// Until the next checkpoint the first file of what was dropped stays, empty.
#[test]
fn an_empty_file_without_a_name_was_dropped() {
    let orders = relation(20_000, 20_000, "orders", 'r', None);
    let small = relation(20_001, 20_001, "small", 'r', None);
    let before = files(&[("20000", 7), ("20001", 1)]);
    let old = names(&[orders, small.clone()]);
    let check = |left: &[Relation], after: &[(&str, u64)], expected: &[&str]| {
        let after = files(after);
        let diff = grouped((&before, &old), (&after, &names(left)), &[]);
        assert_eq!(told(&diff), expected);
    };
    let after = [("20000", 0), ("20001", 1)];
    check(
        std::slice::from_ref(&small),
        &after,
        &["orders Dropped 7/7"],
    );
    // Another of its name, and the same one with another file.
    let after = [("20000", 0), ("20001", 1), ("20005", 8)];
    let another = relation(20_005, 20_005, "orders", 'r', None);
    let told = ["orders Rewritten 8/8"];
    check(&[small.clone(), another], &after, &told);
    let truncated = relation(20_000, 20_005, "orders", 'r', None);
    check(&[small, truncated], &after, &told);
    // Nothing is known of the database any more, so nothing is said of what it has.
    check(&[], &[("20000", 0), ("20001", 1)], &["orders Changed 7/7"]);
}

#[test]
fn indexes_of_a_changed_table_are_told_too() {
    let all = names(&[
        relation(20_000, 20_000, "t", 'r', None),
        relation(20_001, 20_001, "t_pkey", 'i', Some(20_000)),
        relation(20_002, 20_002, "other", 'r', None),
        relation(20_003, 20_003, "other_pkey", 'i', Some(20_002)),
    ]);
    let side = files(&[("20000", 5), ("20001", 4), ("20002", 5), ("20003", 4)]);
    let diff = grouped((&side, &all), (&side, &all), &[("20000", 1)]);
    assert_eq!(told(&diff), ["t Changed 1/5", "t_pkey Changed 0/4"]);
    let index = &diff.relations[1];
    assert_eq!(index.table.as_ref().unwrap().name, "t");
    assert!(index.files.is_empty());
    let diff = grouped((&side, &all), (&side, &all), &[("20001", 1)]);
    assert_eq!(told(&diff), ["t_pkey Changed 1/4"]);
}

/// A snapshot of a running server has no content of unlogged relations.
#[test]
fn unlogged_content_of_one_side_is_no_difference() {
    let all = names(&[relation(20_000, 20_000, "u", 'r', None)]);
    let without = files(&[("20000_init", 0)]);
    let with = files(&[("20000_init", 0), ("20000", 5), ("20000_fsm", 3)]);
    assert!(grouped((&without, &all), (&with, &all), &[]).is_empty());
    assert!(grouped((&with, &all), (&without, &all), &[]).is_empty());
    // New as a whole, and changed where both have it.
    let none = files(&[]);
    let diff = grouped((&none, &names(&[])), (&with, &all), &[]);
    assert_eq!(told(&diff), ["u New 5/5"]);
    let diff = grouped((&with, &all), (&with, &all), &[("20000", 2)]);
    assert_eq!(told(&diff), ["u Changed 2/5"]);
}

#[test]
fn what_has_no_name_goes_by_its_file() {
    let none = Names::default();
    let before = files(&[("20000", 5), ("1259", 9)]);
    let after = files(&[("20000", 5), ("1259", 9), ("20001", 1)]);
    let changed = [("20000", 1), ("1259", 2)];
    let diff = grouped((&before, &none), (&after, &none), &changed);
    assert_eq!(
        told(&diff),
        [
            "base/5/1259 Changed 2/9",
            "base/5/20000 Changed 1/5",
            "base/5/20001 New 1/1"
        ]
    );
    assert!(diff.relations.iter().all(|r| r.kind == Kind::Unknown));
    assert_eq!(diff.own().count(), 2);
    // One side's names are enough where the number is the same.
    let all = names(&[relation(20_000, 20_000, "t", 'r', None)]);
    let diff = grouped((&before, &all), (&before, &none), &[("20000", 1)]);
    assert_eq!(told(&diff), ["t Changed 1/5"]);
}

#[test]
fn other_files_are_summed_up() {
    let file = |path: &str, before, after, changed| FileChange {
        path: path.into(),
        before,
        after,
        changed,
    };
    let none = Names::default();
    let no_size: Size<'_> = &|_| Ok(None);
    let sides = Sides {
        before: &none,
        after: &none,
        size_before: no_size,
        size_after: no_size,
        layout: layout(),
    };
    let diff = group(
        vec![
            file("pg_xact/0000", Some(8192), Some(16384), 1),
            file("pg_multixact/offsets/0000", Some(8192), Some(8192), 1),
            file("pg_wal/000000010000000000000002", None, Some(1 << 24), 0),
            file("pg_wal/000000010000000000000001", Some(1 << 24), None, 0),
            file("postgresql.conf", Some(9), Some(10), 0),
            file("global/pg_control", Some(8192), Some(8192), 1),
        ],
        &sides,
    )
    .unwrap();
    let expected = crate::diff::Summary {
        transactions: 3,
        wal_bytes: 1 << 24,
        config_files: 1,
        other_files: 1,
        ..Default::default()
    };
    assert_eq!(diff.summary(), expected);
    assert_eq!(diff.touched(), 3);
}
