//! Clusters as places where lost things may be found: the managed one, and those elsewhere of
//! which the home has snapshots.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zenith_store::id::{Id, Kind};
use zenith_store::object::extents;
use zenith_store::writer::Nodes;
use zenith_store::{ChunkId, Ids, PackName, Repository, Source, Wanted};

use crate::error::{Error, Result};
use crate::lineage;
use crate::managed::Managed;
use crate::pg::Control;
use crate::snapshot::rehearse;

/// Places that cannot be asked, each with the reason.
type Unavailable = Vec<(String, String)>;

/// Every cluster that may have something of what is lost in `repo`, and those that cannot be asked
/// with the reason. One that is not there any more is passed over.
///
/// Errors: `HomeDamaged`, `Io`.
pub(super) fn all(managed: &Managed, repo: &Repository) -> Result<(Vec<Cluster>, Unavailable)> {
    let (mut found, mut unavailable) = (Vec::new(), Vec::new());
    let pgdata = managed.home.pgdata();
    let own = pgdata.canonicalize().ok();
    if pgdata.is_dir() {
        found.push(Cluster::new(pgdata, repo));
    }
    for known in lineage::known(&managed.home)? {
        if Some(&known.path) == own.as_ref() || !known.path.is_dir() {
            continue;
        }
        let why = match Control::read(&known.path, repo.world()) {
            Ok(control) if control.system_identifier == known.system_identifier => {
                found.push(Cluster::new(known.path, repo));
                continue;
            }
            Ok(control) => format!(
                "another cluster lies there now: its system identifier is {}, not {}",
                control.system_identifier, known.system_identifier
            ),
            Err(e) => e.to_string(),
        };
        unavailable.push((name_of(&known.path), why));
    }
    Ok((found, unavailable))
}

fn name_of(pgdata: &Path) -> String {
    format!("the cluster in {}", pgdata.display())
}

/// A cluster as a place where chunks may be found: at the same path and offset. What changed there
/// since has another id and is not taken.
#[derive(Debug)]
pub(super) struct Cluster {
    pgdata: PathBuf,
    ids: Ids,
    chunk_size: u32,
    /// The nodes of the extent map of the file that was asked for last.
    nodes: RefCell<(String, HashMap<Id, Vec<u8>>)>,
    /// Every node that a snapshot would have now.
    trees: OnceCell<Nodes>,
    repo: Repository,
}

impl Cluster {
    fn new(pgdata: PathBuf, repo: &Repository) -> Cluster {
        Cluster {
            pgdata,
            ids: repo.ids().clone(),
            chunk_size: repo.params().chunk_size,
            nodes: RefCell::default(),
            trees: OnceCell::new(),
            repo: repo.clone(),
        }
    }

    /// The same cluster, asked for nodes of trees.
    pub(super) fn trees(&self) -> Trees<'_> {
        Trees(self)
    }

    fn open(&self, path: &str) -> Result<Option<File>> {
        let path = self.pgdata.join(path);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if matches!(e.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    /// These bytes of a file, where it has them.
    fn bytes(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Every node that the extent map of a file of this size would have now.
    fn nodes_of(&self, file: &File, size: u64) -> Option<HashMap<Id, Vec<u8>>> {
        let chunk = u64::from(self.chunk_size);
        let mut ids = Vec::new();
        for offset in (0..size).step_by(self.chunk_size as usize) {
            let bytes = Self::bytes(file, offset, chunk.min(size - offset))?;
            ids.push(match bytes.iter().all(|byte| *byte == 0) {
                true => ChunkId::ZERO,
                false => self.ids.chunk(&bytes),
            });
        }
        let mut nodes = HashMap::new();
        if !ids.is_empty() {
            let built = extents::build(&ids, |_, bytes| {
                let id = self.ids.extents(&bytes);
                nodes.insert(id.into(), bytes);
                Ok::<_, std::convert::Infallible>(id.0)
            });
            let Ok(_) = built;
        }
        Some(nodes)
    }

    fn find(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<u8>>> {
        let Some(size) = wanted.file.map(|file| file.size) else {
            return Ok(None);
        };
        let Some(file) = self.open(wanted.path)? else {
            return Ok(None);
        };
        if wanted.kind == Kind::Chunk {
            return Ok(Self::bytes(&file, wanted.offset, wanted.len));
        }
        let mut nodes = self.nodes.borrow_mut();
        if nodes.0 != wanted.path || !nodes.1.contains_key(&wanted.id) {
            let found = self.nodes_of(&file, size).unwrap_or_default();
            *nodes = (wanted.path.to_owned(), found);
        }
        Ok(nodes.1.get(&wanted.id).cloned())
    }
}

impl Source for Cluster {
    fn name(&self) -> String {
        name_of(&self.pgdata)
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> zenith_store::Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> zenith_store::Result<Option<Vec<u8>>> {
        self.find(wanted).map_err(|e| zenith_store::Error::Invalid {
            what: e.to_string(),
        })
    }
}

/// A cluster that is asked for nodes of trees, apart from the rest: where its files cannot all be
/// listed and read, it may have chunks all the same.
#[derive(Debug)]
pub(super) struct Trees<'a>(&'a Cluster);

impl Trees<'_> {
    fn find(&self, id: &Id) -> Result<Option<Vec<u8>>> {
        let Cluster {
            trees,
            repo,
            pgdata,
            ..
        } = self.0;
        let nodes = match trees.get() {
            Some(nodes) => nodes,
            None => {
                let nodes = rehearse::nodes(repo, pgdata)?;
                trees.get_or_init(|| nodes)
            }
        };
        Ok(nodes.get(id).cloned())
    }
}

impl Source for Trees<'_> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn pack(&self, _: PackName, _: u64, _: &Path) -> zenith_store::Result<bool> {
        Ok(false)
    }

    fn blob(&self, wanted: &Wanted<'_>) -> zenith_store::Result<Option<Vec<u8>>> {
        if wanted.kind != Kind::Tree {
            return Ok(None);
        }
        self.find(&wanted.id)
            .map_err(|e| zenith_store::Error::Invalid {
                what: e.to_string(),
            })
    }
}
