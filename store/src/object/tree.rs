//! A tree: path → file entry, as a Merkle tree of directories.
//!
//! Entries hold neither times nor owners, so the same bytes give the same id. A directory is cut
//! where the hashes of its names say, so one new file among many rewrites one node a level.
//! Bytes: docs/format.md.

use super::{Extents, Malformed};
use crate::id::{ID_LEN, TreeId};
use minicbor::{Decoder, Encoder};
use std::collections::BTreeMap;

/// A file of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// In bytes.
    pub size: u64,
    /// Its bytes, or where they are named.
    pub content: Content,
}

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In the tree itself: small files and empty ones.
    Inline(Vec<u8>),
    /// In chunks.
    Extents(Extents),
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File(File),
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
        /// Its node.
        tree: TreeId,
    },
}

/// One entry of a [`Listing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File(File),
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
}

/// Path relative to the root, separated by `/`, → node. Every directory has its own node; the
/// root itself is the empty path.
pub type Listing = BTreeMap<String, Node>;

/// What a stored node of a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// Entries, sorted by name.
    Leaf(Vec<(String, Entry)>),
    /// Nodes of the level below, with the first name in each.
    Inner(u8, Vec<(String, TreeId)>),
}

const VERSION: u8 = 1;
/// A name ends its node with this probability, as a power of two.
const CUT_MASK: u16 = 127;
/// However the names hash, a node ends here.
const ITEMS_MAX: usize = 4096;
/// 128^8 names; more is damage.
const LEVEL_MAX: u8 = 8;

fn cuts_after(level: u8, name: &str) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[level]).update(name.as_bytes());
    let hash = hasher.finalize();
    u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]) & CUT_MASK == 0
}

impl TreeNode {
    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Encoder::new(&mut out))
            .expect("encoding into memory has no errors");
        out
    }

    fn write(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.array(3)?.u8(VERSION)?;
        match self {
            TreeNode::Inner(level, items) => {
                e.u8(*level)?.array(items.len() as u64)?;
                for (name, id) in items {
                    e.array(2)?.str(name)?.bytes(&id.0)?;
                }
            }
            TreeNode::Leaf(entries) => {
                e.u8(0)?.array(entries.len() as u64)?;
                for (name, entry) in entries {
                    match entry {
                        Entry::File(File {
                            mode,
                            content: Content::Inline(bytes),
                            ..
                        }) => {
                            e.array(4)?.str(name)?.u8(0)?.u32(*mode)?.bytes(bytes)?;
                        }
                        Entry::File(File {
                            mode,
                            size,
                            content: Content::Extents(map),
                        }) => {
                            e.array(6)?.str(name)?.u8(1)?.u32(*mode)?;
                            e.u64(*size)?.u8(map.depth)?.bytes(&map.id)?;
                        }
                        Entry::Directory { mode, tree } => {
                            e.array(4)?.str(name)?.u8(2)?.u32(*mode)?.bytes(&tree.0)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The node in these bytes.
    ///
    /// # Errors
    /// When they are not one, or when a name could lead out of the directory.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut d = Decoder::new(bytes);
        let bad = |why: String| Malformed(format!("tree node: {why}"));
        expect_array(&mut d, 3)?;
        let version = d.u8()?;
        if version != VERSION {
            return Err(bad(format!("version {version} is not known")));
        }
        let level = d.u8()?;
        let n = d.array()?.ok_or_else(|| bad("an open array".into()))?;
        if level > LEVEL_MAX || n > ITEMS_MAX as u64 {
            return Err(bad(format!("level {level} with {n} items")));
        }
        let mut last: Option<String> = None;
        let mut in_order = |name: &str| -> Result<String, Malformed> {
            let plain = !name.is_empty() && !name.contains(['/', '\0']);
            if !plain || name == "." || name == ".." || last.as_deref().is_some_and(|l| l >= name) {
                return Err(bad(format!("the name `{}`", name.escape_debug())));
            }
            last = Some(name.to_owned());
            Ok(name.to_owned())
        };
        let node = if level > 0 {
            let mut items = Vec::new();
            for _ in 0..n {
                expect_array(&mut d, 2)?;
                items.push((in_order(d.str()?)?, TreeId(id(&mut d)?)));
            }
            TreeNode::Inner(level, items)
        } else {
            let mut entries = Vec::new();
            for _ in 0..n {
                let fields = d.array()?.ok_or_else(|| bad("an open array".into()))?;
                let name = in_order(d.str()?)?;
                let tag = d.u8()?;
                let mode = d.u32()?;
                let entry = match (tag, fields) {
                    (0, 4) => {
                        let bytes = d.bytes()?.to_vec();
                        let size = bytes.len() as u64;
                        Entry::File(File {
                            mode,
                            size,
                            content: Content::Inline(bytes),
                        })
                    }
                    (1, 6) => {
                        let size = d.u64()?;
                        let map = Extents {
                            depth: d.u8()?,
                            id: id(&mut d)?,
                        };
                        Entry::File(File {
                            mode,
                            size,
                            content: Content::Extents(map),
                        })
                    }
                    (2, 4) => Entry::Directory {
                        mode,
                        tree: TreeId(id(&mut d)?),
                    },
                    _ => return Err(bad(format!("entry type {tag} with {fields} fields"))),
                };
                entries.push((name, entry));
            }
            TreeNode::Leaf(entries)
        };
        if d.position() != bytes.len() {
            return Err(bad("bytes after its end".into()));
        }
        Ok(node)
    }
}

fn expect_array(d: &mut Decoder<'_>, n: u64) -> Result<(), Malformed> {
    match d.array()? {
        Some(found) if found == n => Ok(()),
        found => Err(Malformed(format!(
            "an array of {n} expected, found {found:?}"
        ))),
    }
}

fn id(d: &mut Decoder<'_>) -> Result<[u8; ID_LEN], Malformed> {
    d.bytes()?
        .try_into()
        .map_err(|_| Malformed("an id of a wrong length".into()))
}

/// Stores one directory's sorted entries and gives the id of its topmost node.
fn build_directory<E>(
    entries: Vec<(String, Entry)>,
    put: &mut impl FnMut(Vec<u8>) -> Result<TreeId, E>,
) -> Result<TreeId, E> {
    let mut level = 0u8;
    let mut nodes: Vec<(String, TreeId)> = Vec::new();
    for group in cut(0, entries) {
        let first = group
            .first()
            .map_or(String::new(), |(name, _)| name.clone());
        nodes.push((first, put(TreeNode::Leaf(group).encode())?));
    }
    while nodes.len() > 1 {
        level += 1;
        let mut above = Vec::new();
        for group in cut(level, nodes) {
            let first = group[0].0.clone();
            above.push((first, put(TreeNode::Inner(level, group).encode())?));
        }
        nodes = above;
    }
    Ok(nodes[0].1)
}

/// Groups of items as the hashes of their names cut them; at least one group.
fn cut<T>(level: u8, items: Vec<(String, T)>) -> Vec<Vec<(String, T)>> {
    let mut groups = vec![Vec::new()];
    let mut full = false;
    for item in items {
        if full {
            groups.push(Vec::new());
        }
        let group = groups.last_mut().expect("there is always one");
        // At the last level everything must come together.
        full = level < LEVEL_MAX && cuts_after(level, &item.0) || group.len() + 1 >= ITEMS_MAX;
        group.push(item);
    }
    groups
}

/// Stores the tree of `listing`, directories before those that hold them, and gives its root.
///
/// # Errors
/// What `put` gives; [`Malformed`] where a path has no parent directory in the listing.
pub fn build<E: From<Malformed>>(
    listing: &Listing,
    mut put: impl FnMut(Vec<u8>) -> Result<TreeId, E>,
) -> Result<TreeId, E> {
    // Children by directory; a BTreeMap's order by whole path is not the order by directory.
    let mut children: BTreeMap<&str, Vec<(&str, &Node)>> = BTreeMap::new();
    for (path, node) in listing.iter().filter(|(path, _)| !path.is_empty()) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !matches!(listing.get(dir), Some(Node::Directory { .. })) && !dir.is_empty() {
            return Err(Malformed(format!("`{path}` lies in no directory of the listing")).into());
        }
        children.entry(dir).or_default().push((name, node));
    }
    fn directory<E: From<Malformed>>(
        dir: &str,
        children: &mut BTreeMap<&str, Vec<(&str, &Node)>>,
        put: &mut impl FnMut(Vec<u8>) -> Result<TreeId, E>,
    ) -> Result<TreeId, E> {
        let mut here = children.remove(dir).unwrap_or_default();
        here.sort_by_key(|(name, _)| *name);
        let mut entries = Vec::with_capacity(here.len());
        for (name, node) in here {
            let entry = match node {
                Node::File(file) => Entry::File(file.clone()),
                Node::Directory { mode } => {
                    let path = if dir.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{dir}/{name}")
                    };
                    Entry::Directory {
                        mode: *mode,
                        tree: directory(&path, children, put)?,
                    }
                }
            };
            entries.push((name.to_owned(), entry));
        }
        build_directory(entries, put)
    }
    directory("", &mut children, &mut put)
}

/// Visits every entry below `tree` with its path; directories come before what they hold.
///
/// # Errors
/// What `get` gives; [`Malformed`] for nodes that do not fit.
pub fn walk<E: From<Malformed>>(
    tree: TreeId,
    get: &mut impl FnMut(TreeId) -> Result<Vec<u8>, E>,
    visit: &mut impl FnMut(String, Entry) -> Result<(), E>,
) -> Result<(), E> {
    fn below<E: From<Malformed>>(
        prefix: &str,
        tree: TreeId,
        level_below: Option<u8>,
        get: &mut impl FnMut(TreeId) -> Result<Vec<u8>, E>,
        visit: &mut impl FnMut(String, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        match (TreeNode::decode(&get(tree)?)?, level_below) {
            (TreeNode::Leaf(entries), None | Some(1)) => {
                for (name, entry) in entries {
                    let path = if prefix.is_empty() {
                        name
                    } else {
                        format!("{prefix}/{name}")
                    };
                    let inside = match &entry {
                        Entry::Directory { tree, .. } => Some(*tree),
                        Entry::File(_) => None,
                    };
                    visit(path.clone(), entry)?;
                    if let Some(tree) = inside {
                        below(&path, tree, None, get, visit)?;
                    }
                }
                Ok(())
            }
            (TreeNode::Inner(level, items), above) if above.is_none_or(|a| a == level + 1) => items
                .into_iter()
                .try_for_each(|(_, id)| below(prefix, id, Some(level), get, visit)),
            _ => Err(Malformed("tree node: a level where another belongs".into()).into()),
        }
    }
    below("", tree, None, get, visit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Nodes(HashMap<TreeId, Vec<u8>>);

    impl Nodes {
        fn build(&mut self, listing: &Listing) -> TreeId {
            build::<Malformed>(listing, |bytes| {
                let id = Ids::plain().tree(&bytes);
                self.0.insert(id, bytes);
                Ok(id)
            })
            .unwrap()
        }

        fn listing(&self, tree: TreeId) -> Listing {
            let mut out = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
            walk::<Malformed>(
                tree,
                &mut |id| Ok(self.0[&id].clone()),
                &mut |path, entry| {
                    let node = match entry {
                        Entry::File(file) => Node::File(file),
                        Entry::Directory { mode, .. } => Node::Directory { mode },
                    };
                    assert!(out.insert(path, node).is_none());
                    Ok(())
                },
            )
            .unwrap();
            out
        }
    }

    fn inline(bytes: &[u8]) -> Node {
        Node::File(File {
            mode: 0o600,
            size: bytes.len() as u64,
            content: Content::Inline(bytes.to_vec()),
        })
    }

    fn with_root(paths: impl IntoIterator<Item = (String, Node)>) -> Listing {
        let mut listing = Listing::from([(String::new(), Node::Directory { mode: 0o700 })]);
        listing.extend(paths);
        listing
    }

    #[test]
    fn one_new_file_among_many_changes_few_nodes() {
        let many = |n: u32| {
            with_root(
                std::iter::once(("base".to_owned(), Node::Directory { mode: 0o700 }))
                    .chain((0..n).map(|i| (format!("base/{}", i * 2), inline(&i.to_le_bytes())))),
            )
        };
        let mut nodes = Nodes::default();
        let mut listing = many(20_000);
        let first = nodes.build(&listing);
        let before = nodes.0.len();
        listing.insert("base/7777".into(), inline(b"new"));
        let second = nodes.build(&listing);
        assert_ne!(first, second);
        assert!(
            nodes.0.len() - before <= 5,
            "{} new nodes",
            nodes.0.len() - before
        );
        assert_eq!(nodes.listing(second), listing);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["..", ".", "", "a/b", "a\0b"] {
            let entry = Entry::Directory {
                mode: 0o700,
                tree: TreeId([0; 32]),
            };
            let bytes = TreeNode::Leaf(vec![(name.to_owned(), entry)]).encode();
            assert!(TreeNode::decode(&bytes).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_path_without_its_directory_is_refused() {
        let listing = with_root([("a/b".to_owned(), inline(b""))]);
        assert!(build::<Malformed>(&listing, |b| Ok(Ids::plain().tree(&b))).is_err());
    }

    proptest! {
        #[test]
        fn any_listing_comes_back(
            names in prop::collection::btree_map("[a-z0-9_.]{1,6}[a-z]", any::<(u16, bool, u8)>(), 0..300)
        ) {
            let listing = with_root(names.into_iter().map(|(name, (n, dir, depth))| {
                let node = if dir {
                    Node::Directory { mode: 0o700 }
                } else if depth % 2 == 0 {
                    inline(&n.to_le_bytes())
                } else {
                    let map = Extents { depth: depth % 3, id: [depth; 32] };
                    Node::File(File { mode: 0o640, size: n.into(), content: Content::Extents(map) })
                };
                (name, node)
            }));
            let mut nodes = Nodes::default();
            let id = nodes.build(&listing);
            prop_assert_eq!(nodes.listing(id), listing);
        }

        #[test]
        fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TreeNode::decode(&bytes);
        }
    }

    #[test]
    fn golden() {
        let file = |content| {
            Entry::File(File {
                mode: 0o600,
                size: 0x12345,
                content,
            })
        };
        let map = Extents {
            depth: 1,
            id: [7; 32],
        };
        let directory = Entry::Directory {
            mode: 0o700,
            tree: TreeId([8; 32]),
        };
        let leaf = TreeNode::Leaf(vec![
            ("a".into(), directory),
            ("b".into(), file(Content::Inline(b"15".to_vec()))),
            ("c".into(), file(Content::Extents(map))),
        ]);
        let inner = TreeNode::Inner(1, vec![("a".into(), TreeId([9; 32]))]);
        insta::assert_snapshot!(crate::id::hex(&leaf.encode()), @"83010083846161021901c05820080808080808080808080808080808080808080808080808080808080808080884616200190180423135866163011901801a000123450158200707070707070707070707070707070707070707070707070707070707070707");
        insta::assert_snapshot!(crate::id::hex(&inner.encode()), @"8301018182616158200909090909090909090909090909090909090909090909090909090909090909");
    }
}
