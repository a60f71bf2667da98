//! An object that is sent in parts while it is written.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::{BLOCK_BYTES, Inner};
use crate::objects::{ObjectWriter, ObjectsError};

/// A streamed object is uploaded in parts. S3 takes 10,000 of them, and some servers (R2) want
/// equal sizes; so the size grows only where the object would not fit otherwise.
const PART_BYTES: usize = 32 << 20;
const N_PARTS_OF_FIRST_SIZE: usize = 5_000;
const LATE_PART_BYTES: usize = 128 << 20;
const N_PARTS_MAX: usize = 10_000;
/// How long a dropped writer waits for its parts to be thrown away.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// An object on its way out: one part fills while the one before it is sent.
pub(super) struct PartWriter {
    inner: Arc<Inner>,
    key: String,
    path: Path,
    part: Part,
    n_parts: usize,
    upload: Option<Box<dyn MultipartUpload>>,
    sending: Option<JoinHandle<object_store::Result<()>>>,
}

impl PartWriter {
    pub(super) fn new(inner: Arc<Inner>, key: &str, path: Path) -> Self {
        PartWriter {
            inner,
            key: key.to_owned(),
            path,
            part: Part::default(),
            n_parts: 0,
            upload: None,
            sending: None,
        }
    }
}

/// The bytes of one part.
#[derive(Default)]
struct Part {
    full: Vec<Bytes>,
    filling: Vec<u8>,
    len: usize,
}

impl Part {
    /// Takes as many bytes as fit; how many.
    fn fill(&mut self, bytes: &[u8], part_bytes: usize) -> usize {
        let room = (BLOCK_BYTES - self.filling.len()).min(part_bytes - self.len);
        let len = bytes.len().min(room);
        if self.filling.capacity() == 0 {
            self.filling.reserve_exact(BLOCK_BYTES);
        }
        self.filling.extend_from_slice(&bytes[..len]);
        self.len += len;
        if self.filling.len() == BLOCK_BYTES {
            self.full
                .push(Bytes::from(std::mem::take(&mut self.filling)));
        }
        len
    }

    fn into_payload(mut self) -> PutPayload {
        if !self.filling.is_empty() {
            self.full.push(Bytes::from(self.filling));
        }
        self.full.into_iter().collect()
    }
}

impl PartWriter {
    fn part_bytes(&self) -> usize {
        if self.n_parts < N_PARTS_OF_FIRST_SIZE {
            PART_BYTES
        } else {
            LATE_PART_BYTES
        }
    }

    /// Begins to send the filled part, once the one before it has arrived.
    fn send(&mut self) -> Result<(), ObjectsError> {
        if self.n_parts == N_PARTS_MAX {
            return Err(ObjectsError::Unsupported {
                location: self.inner.place.location.clone(),
                what: format!("an object of more than {N_PARTS_MAX} parts: {}", self.key),
            });
        }
        self.arrived()?;
        if self.upload.is_none() {
            let begin = self.inner.uploads.put_multipart(&self.path);
            self.upload = Some(self.inner.run(&self.key, begin)?);
        }
        if let Some(upload) = &mut self.upload {
            let payload = std::mem::take(&mut self.part).into_payload();
            self.sending = Some(self.inner.runtime.get().spawn(upload.put_part(payload)));
            self.n_parts += 1;
        }
        Ok(())
    }

    /// Waits for the part that is being sent.
    fn arrived(&mut self) -> Result<(), ObjectsError> {
        let Some(sending) = self.sending.take() else {
            return Ok(());
        };
        self.inner.run(&self.key, async { sending.await? })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len == self.part_bytes() {
            self.send().map_err(io::Error::other)?;
        }
        Ok(self.part.fill(bytes, self.part_bytes()))
    }

    /// Does nothing: bytes are safe only after `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for PartWriter {
    fn finish(mut self: Box<Self>) -> Result<(), ObjectsError> {
        let inner = self.inner.clone();
        if self.upload.is_none() {
            let payload = std::mem::take(&mut self.part).into_payload();
            let store = inner.store_for_upload(payload.content_length());
            inner.run(&self.key, store.put(&self.path, payload))?;
        } else {
            if self.part.len > 0 {
                self.send()?;
            }
            self.arrived()?;
            if let Some(mut upload) = self.upload.take()
                && let Err(error) = inner.run(&self.key, upload.complete())
            {
                self.upload = Some(upload);
                return Err(error);
            }
        }
        inner.make_private(&self.key)
    }
}

impl Drop for PartWriter {
    /// Throws the parts away. Best effort: parts that stay are invisible, and services have
    /// rules that delete them after some days.
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.abort();
        }
        if let Some(mut upload) = self.upload.take() {
            let abort = async move {
                let _ = tokio::time::timeout(ABORT_TIMEOUT, upload.abort()).await;
            };
            self.inner.runtime.get().block_on(abort);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_into_blocks_and_keeps_its_bytes() {
        let bytes: Vec<u8> = (0..BLOCK_BYTES * 2 + 100)
            .map(|i| (i % 251) as u8)
            .collect();
        let mut part = Part::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let len = part.fill(rest, BLOCK_BYTES * 3);
            rest = &rest[len..];
        }
        let payload = part.into_payload();
        assert_eq!(payload.iter().count(), 3);
        assert_eq!(
            payload.iter().flatten().copied().collect::<Vec<u8>>(),
            bytes
        );
    }
}
