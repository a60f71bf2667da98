use std::collections::BTreeMap;

use insta::assert_snapshot;
use zenith::store::object::{SnapshotKind, Time};
use zenith::store::{Row, TreeId};

use super::*;

fn id(n: u8) -> SnapshotId {
    SnapshotId([n; 32])
}

fn row(n: u8) -> Row {
    Row {
        serial: 0,
        id: id(n),
        tree: TreeId([n; 32]),
        parents: vec![],
        time: Time::default(),
        kind: SnapshotKind::Manual,
        message: String::new(),
        size: 0,
        new_bytes: 0,
        summary: Vec::new(),
        usage: BTreeMap::new(),
        made_from: None,
        line: None,
    }
}

/// `9<8,7` is snapshot 9 made from 8 and 7; `!` after it is a gap. The first one is HEAD.
fn drawn(glyphs: Glyphs, log: &str) -> String {
    let mut graph = Graph::new(glyphs);
    let mut lines = Vec::new();
    for (i, word) in log.split(' ').enumerate() {
        let is_gap = word.ends_with('!');
        let word = word.trim_end_matches('!');
        let (own, parents) = word.split_once('<').unwrap_or((word, ""));
        let row = row(own.parse().unwrap());
        let parents = parents.split(',').filter(|parent| !parent.is_empty());
        let entry = Entry {
            row: &row,
            parents: parents.map(|p| id(p.parse().unwrap())).collect(),
            is_gap,
        };
        let drawn = graph.draw(&entry, i == 0);
        lines.extend(drawn.above);
        lines.push(format!("{} {own}", drawn.beside));
        lines.extend(drawn.below);
    }
    lines.join("\n")
}

fn unicode(log: &str) -> String {
    drawn(Glyphs::Unicode, log)
}

#[test]
fn a_line_and_a_branch() {
    assert_snapshot!(unicode("3<2 2<1 1"), @r"
    ● 3
    ○ 2
    ○ 1
    ");
    assert_snapshot!(unicode("4<1 3<1 1"), @r"
    ● 4
    │ ○ 3
    ├─╯
    ○ 1
    ");
    assert_snapshot!(drawn(Glyphs::Ascii, "4<1 3<1 1<0! 0"), @r"
    * 4
    | o 3
    +-'
    o 1
    :
    o 0
    ");
}

#[test]
fn branches_of_branches() {
    assert_snapshot!(unicode("9<5 8<6 7<5 6<5 5<4 4"), @r"
    ● 9
    │ ○ 8
    │ │ ○ 7
    │ ○ │ 6
    ├─┴─╯
    ○ 5
    ○ 4
    ");
    // What joins passes behind a line that goes on, and a free column is used again.
    assert_snapshot!(unicode("9<5 8<4 7<5 6<4 5<4 3<4 4"), @r"
    ● 9
    │ ○ 8
    │ │ ○ 7
    │ │ │ ○ 6
    ├─│─╯ │
    ○ │   │ 5
    │ │ ○ │ 3
    ├─┴─┴─╯
    ○ 4
    ");
}

#[test]
fn several_roots_and_gaps() {
    assert_snapshot!(unicode("9<8! 7<6 8 6!"), @r"
    ● 9
    ┊
    │ ○ 7
    ○ │ 8
      ○ 6
      ┊
    ");
}

#[test]
fn several_parents() {
    assert_snapshot!(unicode("9<8,7 8<6 7<6 6"), @r"
    ● 9
    ├─╮
    ○ │ 8
    │ ○ 7
    ├─╯
    ○ 6
    ");
    assert_snapshot!(unicode("9<5 8<7,5 7<6 6<5 5"), @r"
    ● 9
    │ ○ 8
    ├─┤
    │ ○ 7
    │ ○ 6
    ├─╯
    ○ 5
    ");
}
