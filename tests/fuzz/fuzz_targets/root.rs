//! Roots, with the magic and the hash put right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith_store::root::Root;

fuzz_target!(|bytes: &[u8]| {
    let mut root = b"ZENROOT1".to_vec();
    root.extend_from_slice(bytes);
    let hash = blake3::hash(&root);
    root.extend_from_slice(hash.as_bytes());
    if let Ok(root) = Root::decode(&root, 0, None) {
        assert_eq!(Root::decode(&root.encode(None), 0, None).unwrap(), root);
    }
});
