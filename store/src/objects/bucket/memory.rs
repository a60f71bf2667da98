//! Memory that uploads share.

use std::sync::{Condvar, Mutex, PoisonError};

/// Memory that is shared by threads and given back when done.
#[derive(Debug)]
pub(super) struct Memory {
    free_bytes: Mutex<u64>,
    given_back: Condvar,
}

/// A share of [`Memory`].
pub(super) struct Taken<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            free_bytes: Mutex::new(bytes),
            given_back: Condvar::new(),
        }
    }

    /// Waits until so many bytes are free; at most all there are.
    pub(super) fn take(&self, bytes: u64) -> Taken<'_> {
        let free = self
            .free_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .given_back
            .wait_while(free, |free| *free < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Taken {
            memory: self,
            bytes,
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self
            .memory
            .free_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.memory.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_and_waited_for() {
        let memory = Memory::new(10);
        let first = memory.take(8);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| drop(memory.take(5)));
            assert_eq!(*memory.free_bytes.lock().unwrap(), 2);
            drop(first);
            second.join().unwrap();
        });
        assert_eq!(*memory.free_bytes.lock().unwrap(), 10);
    }
}
