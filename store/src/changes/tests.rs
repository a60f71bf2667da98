use super::*;
use crate::id::Ids;
use crate::object::{Listing, tree};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Trees(HashMap<TreeId, Vec<u8>>);

impl Trees {
    fn build(&mut self, listing: &Listing) -> TreeId {
        tree::build::<Malformed>(listing, |bytes| {
            let id = Ids::plain().tree(&bytes);
            self.0.insert(id, bytes);
            Ok(id)
        })
        .unwrap()
    }

    /// Every node of a tree.
    fn nodes(&self, tree: TreeId) -> HashSet<TreeId> {
        let mut nodes = HashSet::new();
        tree::walk::<Malformed>(
            tree,
            &mut |id| {
                nodes.insert(id);
                Ok(self.0[&id].clone())
            },
            &mut |_, _| Ok(()),
        )
        .unwrap();
        nodes
    }

    /// What differs, and the nodes that were read for it.
    fn changes(&self, before: TreeId, after: TreeId) -> (Vec<ChangedEntry>, Vec<TreeId>) {
        let (mut found, mut read) = (Vec::new(), Vec::new());
        entries::<Malformed>(
            &mut |id| {
                read.push(id);
                TreeNode::decode(&self.0[&id])
            },
            &mut |_, e| e,
            Some(before),
            Some(after),
            &mut |entry| {
                found.push(entry);
                Ok(())
            },
        )
        .unwrap();
        (found, read)
    }
}

fn with_root(paths: impl IntoIterator<Item = (String, Node)>) -> Listing {
    let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
    listing.extend(paths);
    listing
}

fn file(n: u32) -> Node {
    Node::File(File {
        mode: 0o600,
        size: 4,
        content: Content::Inline(n.to_le_bytes().to_vec()),
    })
}

/// What differs by comparing path by path.
fn naive(before: &Listing, after: &Listing) -> BTreeMap<String, (Option<Node>, Option<Node>)> {
    let paths = before.keys().chain(after.keys());
    paths
        .map(|path| {
            let sides = (before.get(path).cloned(), after.get(path).cloned());
            (path.clone(), sides)
        })
        .filter(|(_, (before, after))| before != after)
        .collect()
}

fn check(before: &Listing, after: &Listing) {
    let mut trees = Trees::default();
    let (old, new) = (trees.build(before), trees.build(after));
    let (found, read) = trees.changes(old, new);
    let mut above = HashSet::from([String::new()]);
    let mut map = BTreeMap::new();
    for change in found {
        if matches!(change.after, Some(Node::Directory { .. })) {
            above.insert(change.path.clone());
        }
        let parent = change.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        assert!(
            above.contains(parent) || before.contains_key(parent),
            "{} before its directory",
            change.path
        );
        assert!(
            map.insert(change.path, (change.before, change.after))
                .is_none()
        );
    }
    assert_eq!(map, naive(before, after));
    // Only what one of them alone has, and no node twice for one place.
    let (old, new) = (trees.nodes(old), trees.nodes(new));
    let common: HashSet<_> = old.intersection(&new).collect();
    let wasted = read.iter().filter(|id| common.contains(id)).count();
    // Content that moved to another directory is found there again; nothing else is common.
    let moved: HashSet<_> = before
        .keys()
        .chain(after.keys())
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(dir, _)| dir)
        .collect();
    assert!(wasted <= moved.len(), "{wasted} nodes that both have");
}

fn many(n: u32) -> Listing {
    with_root(
        ["base", "global"]
            .map(|dir| (dir.to_owned(), Node::Directory { mode: 0o700 }))
            .into_iter()
            .chain((0..n).map(|i| (format!("base/{}", i * 2), file(i)))),
    )
}

#[test]
fn of_many_files_those_that_changed_are_read() {
    let before = many(20_000);
    let mut after = before.clone();
    after.insert("base/7777".into(), file(1));
    after.remove("base/2468");
    after.insert("base/4242".into(), file(9));
    let mut trees = Trees::default();
    let (old, new) = (trees.build(&before), trees.build(&after));
    let (found, read) = trees.changes(old, new);
    let paths: Vec<_> = found.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["base/2468", "base/4242", "base/7777"]);
    assert!(read.len() <= 24, "{} nodes read", read.len());
    assert!(trees.nodes(new).len() > 100);
    let common: HashSet<_> = trees.nodes(old);
    let common = common
        .intersection(&trees.nodes(new))
        .copied()
        .collect::<HashSet<_>>();
    assert!(read.iter().all(|id| !common.contains(id)));
    assert_eq!(trees.changes(new, new), (vec![], vec![]));
}

#[test]
fn directories_of_different_heights_are_compared() {
    for (old, new) in [
        (0, 5_000),
        (20_000, 3),
        (100, 5_000),
        (1, 0),
        (5_000, 5_001),
    ] {
        check(&many(old), &many(new));
    }
}

#[test]
fn a_file_that_becomes_a_directory_and_modes_are_changes() {
    let dir = |mode| Node::Directory { mode };
    let before = with_root([
        ("a".to_owned(), file(1)),
        ("b".to_owned(), dir(0o700)),
        ("b/x".to_owned(), file(2)),
        ("c".to_owned(), dir(0o700)),
        ("c/y".to_owned(), file(3)),
    ]);
    let after = with_root([
        ("a".to_owned(), dir(0o700)),
        ("a/x".to_owned(), file(1)),
        ("b".to_owned(), file(2)),
        ("c".to_owned(), dir(0o750)),
        ("c/y".to_owned(), file(3)),
    ]);
    check(&before, &after);
    check(&after, &before);
}

#[test]
fn a_node_of_another_level_is_damage() {
    let mut trees = Trees::default();
    let (old, new) = (trees.build(&many(20_000)), trees.build(&many(20_001)));
    let base = |trees: &Trees, tree| match TreeNode::decode(&trees.0[&tree]).unwrap() {
        TreeNode::Leaf(entries) => match entries[0].1 {
            Entry::Directory { tree, .. } => tree,
            Entry::File(_) => panic!("base is a directory"),
        },
        TreeNode::Inner(..) => panic!("a root of two entries is a leaf"),
    };
    let inner = base(&trees, new);
    // The last child of the directory becomes the directory itself.
    let TreeNode::Inner(_, items) = TreeNode::decode(&trees.0[&inner]).unwrap() else {
        panic!("20,001 entries are no leaf");
    };
    let top = trees.0[&inner].clone();
    trees.0.insert(items[items.len() - 1].1, top);
    let walked = entries::<Malformed>(
        &mut |id| TreeNode::decode(&trees.0[&id]),
        &mut |_, e| e,
        Some(old),
        Some(new),
        &mut |_| Ok(()),
    );
    assert!(walked.unwrap_err().0.contains("level"));
}

proptest! {
    #[test]
    fn any_two_listings_differ_as_their_paths_do(
        both in prop::collection::btree_map("[a-d]{1,2}", any::<u8>(), 0..12),
        before in prop::collection::btree_map("[a-h]{1,3}", (any::<u8>(), 0u32..3), 0..200),
        changes in prop::collection::btree_map("[a-h]{1,3}", prop::option::of((any::<u8>(), 0u32..3)), 0..30),
    ) {
        let listing = |files: &BTreeMap<String, (u8, u32)>| {
            let dirs = both.keys().map(|dir| (dir.clone(), Node::Directory { mode: 0o700 }));
            let dirs: BTreeMap<_, _> = dirs.collect();
            let names: Vec<_> = dirs.keys().cloned().collect();
            let files = files.iter().map(|(name, (dir, n))| {
                let dir = names.get(usize::from(*dir) % (names.len() + 1));
                let path = dir.map_or(format!("_{name}"), |dir| format!("{dir}/{name}"));
                (path, file(*n))
            });
            with_root(dirs.clone().into_iter().chain(files.collect::<Vec<_>>()))
        };
        let mut after = before.clone();
        for (name, change) in &changes {
            match change {
                Some(file) => after.insert(name.clone(), *file),
                None => after.remove(name),
            };
        }
        check(&listing(&before), &listing(&after));
    }
}

/// Maps in memory.
#[derive(Default)]
struct Maps(HashMap<[u8; 32], Vec<u8>>);

impl Maps {
    fn build(&mut self, ids: &[ChunkId]) -> Option<Map> {
        if ids.is_empty() {
            return None;
        }
        let root = extents::build::<Malformed>(ids, |_, bytes| {
            let id = Ids::plain().extents(&bytes).0;
            self.0.insert(id, bytes);
            Ok(id)
        })
        .unwrap();
        Some(Map {
            root,
            chunks: ids.len() as u64,
        })
    }

    /// What differs, and how many nodes were read for it.
    fn changes(&self, before: Option<Map>, after: Option<Map>) -> (Vec<ChangedChunk>, usize) {
        let (mut out, mut read) = (Vec::new(), 0);
        chunks::<Malformed>(
            &mut |map| {
                read += 1;
                extents::decode(&self.0[&map.id]).map(|(_, ids)| ids)
            },
            &mut |_, e| e,
            before,
            after,
            &mut out,
        )
        .unwrap();
        (out, read)
    }
}

fn ids(n: u32) -> Vec<ChunkId> {
    (0..n)
        .map(|i| Ids::plain().chunk(&i.to_le_bytes()))
        .collect()
}

fn naive_chunks(before: &[ChunkId], after: &[ChunkId]) -> Vec<ChangedChunk> {
    (0..before.len().max(after.len()))
        .map(|at| ChangedChunk {
            ordinal: at as u64,
            before: before.get(at).copied(),
            after: after.get(at).copied(),
        })
        .filter(|chunk| chunk.before != chunk.after)
        .collect()
}

#[test]
fn chunks_differ_by_their_place_at_any_depth() {
    let lengths = [0, 1, 2, 256, 257, 1000, 65_536, 66_001];
    let all: Vec<_> = (0..66_001u32)
        .map(|i| {
            let mut id = [7; 32];
            id[..4].copy_from_slice(&i.to_le_bytes());
            ChunkId(id)
        })
        .collect();
    for old in lengths {
        for new in lengths {
            let before = all[..old].to_vec();
            let mut after = all[..new].to_vec();
            for at in [0, 1, 255, 256, 999, 66_000] {
                if let Some(id) = after.get_mut(at) {
                    *id = ChunkId([at as u8; 32]);
                }
            }
            let mut maps = Maps::default();
            let (a, b) = (maps.build(&before), maps.build(&after));
            let (found, _) = maps.changes(a, b);
            assert_eq!(found, naive_chunks(&before, &after), "{old} → {new}");
        }
    }
}

#[test]
fn one_chunk_of_many_costs_one_way_down() {
    let before = ids(70_000);
    let mut after = before.clone();
    after[66_666] = ChunkId::ZERO;
    let mut maps = Maps::default();
    let (a, b) = (maps.build(&before), maps.build(&after));
    let (found, read) = maps.changes(a, b);
    assert_eq!(found, naive_chunks(&before, &after));
    assert_eq!(read, 2 * 3);
    assert_eq!(maps.changes(a, a), (vec![], 0));
}

#[test]
fn a_map_that_does_not_fit_its_size_is_damage() {
    let mut maps = Maps::default();
    let map = maps.build(&ids(300)).unwrap();
    for chunks_claimed in [0, 1, 256, 299, 301, 600, 65_537] {
        let wrong = Map {
            chunks: chunks_claimed,
            ..map
        };
        let read = chunks::<Malformed>(
            &mut |map| extents::decode(&maps.0[&map.id]).map(|(_, ids)| ids),
            &mut |_, e| e,
            None,
            Some(wrong),
            &mut Vec::new(),
        );
        assert!(read.is_err(), "{chunks_claimed}");
    }
}
