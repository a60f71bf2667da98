//! Bytes that are nearly right, for decoders, and what decoding them costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Counts what each thread allocates. A test binary that asks for [`peak`] has it as its
/// `#[global_allocator]`.
pub struct Counting;

#[expect(unsafe_code, reason = "an allocator is no other way; it only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(layout.size())));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

fn grow(bytes: usize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

/// How much memory this thread had at once for `work`, beyond what it had before.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let out = work();
    (out, PEAK.get().saturating_sub(before))
}

/// What may happen to bytes: how, where and with which byte, each reduced to what fits.
pub type Mutation = (u8, u32, u8);

/// The bytes with all that done to them.
pub fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (how, at, byte) in mutations {
        if out.is_empty() {
            return out;
        }
        let at = *at as usize % out.len();
        match how % 8 {
            // Numbers at their limits are what decoders trip over.
            0 => out[at] = 0xff,
            1 => out[at] = 0,
            2 => out[at] ^= 1 << (byte % 8),
            3 => out[at] = *byte,
            4 => out.truncate(at),
            5 => out.insert(at, *byte),
            6 => drop(out.remove(at)),
            _ => {
                let end = out.len().min(at + 8);
                out[at..end].fill(0xff);
            }
        }
    }
    out
}
