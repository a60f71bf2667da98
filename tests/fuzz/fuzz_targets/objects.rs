//! Extent maps, trees, snapshots and rows of tables. What decodes is the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith_store::object::tree::TreeNode;
use zenith_store::object::{Snapshot, extents};
use zenith_store::root::{PackRow, Row};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((depth, ids)) = extents::decode(bytes) {
        assert_eq!(extents::encode(depth, &ids), bytes);
    }
    if let Ok(node) = TreeNode::decode(bytes) {
        assert_eq!(TreeNode::decode(&node.encode()).unwrap(), node);
    }
    if let Ok(snapshot) = Snapshot::decode(bytes) {
        assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
    }
    let _ = minicbor::decode::<Vec<Row>>(bytes);
    let _ = minicbor::decode::<Vec<PackRow>>(bytes);
});
