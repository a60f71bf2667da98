//! New packs beside a writer, in a home or at a storage: what was healed, and what is moved out of
//! damaged packs. They count for nothing until a root names them.

use crate::encode::compressing;
use crate::error::{Error, Result};
use crate::id::{Id, Kind, PackName};
use crate::pack::frame::{self, Part};
use crate::pack::{
    ALONE_BYTES, Directory, FrameEntry, PACK_BLOBS, PACK_BYTES, PackWriter, SHARED_BYTES,
};
use crate::repository::Repository;
use crate::root::Operation;
use crate::state::State;
use crate::transfer::announce_sessions;
use crate::writer::LEVEL;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Packs of one session, written in files of this machine and stored when they are whole.
pub(crate) struct NewPacks<'a> {
    repository: &'a Repository,
    operation: &'a Operation,
    session: [u8; 16],
    next: u32,
    open: Option<Open>,
    stored: Vec<PackName>,
    said: Vec<String>,
    ids: Vec<Id>,
    parts: Vec<Part>,
    bodies: Vec<u8>,
}

struct Open {
    name: PackName,
    file: tempfile::NamedTempFile,
    pack: PackWriter<File>,
}

impl<'a> NewPacks<'a> {
    /// Begins a session that the repository has not fenced.
    pub(crate) fn new(
        repository: &'a Repository,
        operation: &'a Operation,
        floor: u64,
    ) -> NewPacks<'a> {
        NewPacks {
            repository,
            operation,
            session: repository.world().session_above(floor),
            next: 0,
            open: None,
            stored: Vec::new(),
            said: Vec::new(),
            ids: Vec::new(),
            parts: Vec::new(),
            bodies: Vec::new(),
        }
    }

    /// A name that no other pack has.
    fn name(&mut self) -> PackName {
        let name = PackName {
            session: self.session,
            number: self.next,
        };
        self.next += 1;
        name
    }

    /// Stores the plain bytes of a blob.
    pub(crate) fn blob(&mut self, kind: Kind, id: Id, bytes: &[u8]) -> Result<()> {
        if kind == Kind::Chunk && bytes.len() >= ALONE_BYTES {
            let frame = compressing(LEVEL, |c| frame::encode_chunk(bytes, c))?;
            return self.write(|pack| pack.append(frame, &[id]).map(drop));
        }
        let is_full = self.bodies.len() + bytes.len() > SHARED_BYTES
            || self.parts.len() == usize::from(u16::MAX);
        if is_full {
            self.flush_shared()?;
        }
        self.ids.push(id);
        self.parts.push(Part::plain(kind, bytes.len()));
        self.bodies.extend_from_slice(bytes);
        Ok(())
    }

    /// Stores a frame of another pack of this repository as it lies; `bytes` are all of it.
    pub(crate) fn frame(&mut self, entry: &FrameEntry, bytes: &[u8]) -> Result<()> {
        self.write(|pack| pack.append_verbatim(entry, bytes))
    }

    /// Stores a whole pack under another name, which is given.
    pub(crate) fn whole(
        &mut self,
        path: &Path,
        len: u64,
        directory: &Directory,
    ) -> Result<PackName> {
        let name = self.name();
        self.store(name, len, path, directory)?;
        Ok(name)
    }

    fn flush_shared(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let (parts, ids) = (
            std::mem::take(&mut self.parts),
            std::mem::take(&mut self.ids),
        );
        let bodies = std::mem::take(&mut self.bodies);
        let frame = compressing(LEVEL, |c| frame::encode(parts, bodies, c))?;
        self.write(|pack| pack.append(frame, &ids).map(drop))
    }

    fn write(
        &mut self,
        append: impl FnOnce(&mut PackWriter<File>) -> std::io::Result<()>,
    ) -> Result<()> {
        let dir = std::env::temp_dir();
        if self.open.is_none() {
            let name = self.name();
            let file = tempfile::NamedTempFile::new().map_err(Error::file("create", &dir))?;
            let out = file.reopen().map_err(Error::file("open", file.path()))?;
            let seal = self.repository.seal().cloned();
            let pack =
                PackWriter::new(out, name, seal).map_err(Error::file("write", file.path()))?;
            self.open = Some(Open { name, file, pack });
        }
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        append(&mut open.pack).map_err(Error::file("write", open.file.path()))?;
        if open.pack.position() >= PACK_BYTES || open.pack.blobs() >= PACK_BLOBS {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let Open { name, file, pack } = open;
        let (_, finished) = pack.finish().map_err(Error::file("write", file.path()))?;
        self.store(name, finished.len, file.path(), &finished.directory)
    }

    /// From here on it is read from, too.
    fn store(
        &mut self,
        name: PackName,
        len: u64,
        path: &Path,
        directory: &Directory,
    ) -> Result<()> {
        let repository = self.repository;
        if !repository.is_alone() {
            let seq = repository.loaded()?.seq();
            let packs = BTreeMap::from([(name, len)]);
            self.said = announce_sessions(&packs, repository, self.operation, seq)?;
        }
        repository.objects().put_file(&name.key(), path)?;
        repository.inner.index.add_pack(name, directory)?;
        self.stored.push(name);
        repository.lock_live_write().pending.insert(name, len);
        Ok(())
    }

    /// The packs that were stored.
    pub(crate) fn stored(&self) -> &[PackName] {
        &self.stored
    }

    /// Deletes packs of which nothing turned out to be needed, after the commit, and what was said
    /// of their session. Nobody else knows their names.
    pub(crate) fn drop_unused(self, state: &State) -> Result<()> {
        let named = state.named_packs();
        for name in self.stored.iter().filter(|name| !named.contains(name)) {
            self.repository.objects().delete(&name.key())?;
        }
        self.repository.unsay(self.said);
        Ok(())
    }

    /// Stores what waits, so that all of it can be read.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.flush_shared()?;
        self.close()
    }
}
