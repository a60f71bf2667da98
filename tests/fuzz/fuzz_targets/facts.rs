//! What snapshots say about clusters, and what homes and checkouts note for themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zenith::facts::{Facts, Summary};
use zenith::marker::Marker;
use zenith::plan::FileCache;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(facts) = Facts::decode(bytes, &"x") {
        assert_eq!(Facts::decode(&facts.encode(), &"x").unwrap(), facts);
    }
    let _ = Summary::decode(bytes, &"x");
    let _ = Marker::parse(bytes);
    let mut cache = b"zfcache1".to_vec();
    cache.extend(crc32c::crc32c(bytes).to_le_bytes());
    cache.extend_from_slice(bytes);
    let _ = FileCache::decode(&cache);
});
