//! `init`: a home, a cluster in it, a first snapshot, and that pushed.
//!
//! It converges: every step looks whether it is done, so that an interrupted init goes on where
//! it stopped and one that is run again changes nothing. Nothing is ever made where something is:
//! snapshots at the storage are attached to, a cluster in the home is kept.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zenith_store::objects::{Exclusive, Objects, OpenOptions, StorageUrl, exclusive};
use zenith_store::{IndexChoice, Params, Repository, SnapshotId, SnapshotKind, World};
use zeroize::Zeroizing;

use crate::disk;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::facts::{Facts, Summary};
use crate::head::{self, Head};
use crate::home::{self, Home, LOCK_WAIT, Wait};
use crate::managed::{self, Managed, Presence, Refusal, Surroundings};
use crate::pg::{self, Binaries, Control, user};
use crate::settings::{EncryptionSettings, OnDamage, Settings};
use crate::snapshot::SnapshotReport;
use crate::sync::{self, PushReport};
use crate::take::{self, Take};
use crate::who::operation;
use crate::{bring, key, publish, start};

/// The user that runs server programs when root does not say.
pub const PG_USER: &str = "postgres";
/// Names of the directories that initdb fills begin so.
const INITDB_PREFIX: &str = ".tmp-initdb-";
/// Length of the superuser's password for TCP.
const PASSWORD_LEN: usize = 24;

/// What to make. What is not given keeps what is saved, or the default.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// An absolute path or URL.
    pub storage_dest: Option<String>,
    /// Name of the branch.
    pub branch: Option<String>,
    /// Where an existing cluster lies that becomes the first snapshot. Never saved.
    pub source: Option<bring::Source>,
    /// For initdb.
    pub initdb_args: Vec<String>,
    /// Directory of the server programs.
    pub pg_bin: Option<PathBuf>,
    /// TCP port.
    pub port: Option<u16>,
    /// Addresses to listen on.
    pub listen: Option<String>,
    /// Seconds between automatic snapshots.
    pub interval_secs: Option<u64>,
    /// What becomes of snapshots of damaged clusters.
    pub on_damage: Option<OnDamage>,
    /// Attach to what the storage has or do nothing: no cluster is made or taken over.
    pub attach_only: bool,
    /// A new home leaves packs at the storage until they are read, and makes no cluster yet.
    pub lazy: bool,
    /// This home is the only one that writes to the storage, now and later.
    pub single_writer: bool,
    /// Whether a repository that is made is sealed.
    pub encrypt: bool,
    /// What opens a sealed storage, or is to open what is made. Never saved.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// Where it comes from the next time.
    pub encryption: EncryptionSettings,
}

/// Where the cluster came from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// initdb, with the version of PostgreSQL.
    Made {
        /// `15.18`.
        version: String,
    },
    /// An import.
    Imported {
        /// Where from.
        location: String,
    },
    /// The storage had snapshots of the branch.
    Attached {
        /// Where from.
        location: String,
        /// Stored bytes that came.
        bytes: u64,
    },
    /// It was there already.
    Kept,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The home with its saved settings.
    pub managed: Managed,
    /// Whether there was a home already.
    pub was_home: bool,
    /// Where the cluster came from.
    pub origin: Origin,
    /// The branch.
    pub branch: String,
    /// The snapshot that is its tip now.
    pub tip: SnapshotId,
    /// The first snapshot, when it was taken now.
    pub report: Option<SnapshotReport>,
    /// How long that took.
    pub snapshot_took: Duration,
    /// What the push did, when there is a storage.
    pub push: Option<(String, PushReport)>,
    /// How long that took.
    pub push_took: Duration,
}

/// Becomes the user who owns the home, or is going to: as root only. For an import of a
/// directory that is the one who owns it, unless that is root; otherwise `pg_user`.
///
/// Errors: `NoSuchUser`, `CannotSearch`.
pub fn become_user(
    dir: &Path,
    source_dir: Option<&Path>,
    storage_dest: Option<&str>,
    pg_user: Option<&str>,
) -> Result<()> {
    if !user::is_root() {
        return Ok(());
    }
    if Home::is_at(dir) {
        return managed::become_owner(dir, Some(pg_user.unwrap_or(PG_USER)));
    }
    let of_source = match source_dir {
        Some(dir) if pg_user.is_none() => user::owner_of(dir).ok().filter(|owner| !owner.is_root()),
        _ => None,
    };
    let owner = match of_source {
        Some(owner) => owner,
        None => user::lookup(pg_user.unwrap_or(PG_USER))?,
    };
    if owner.is_root() {
        let reason = "PostgreSQL runs as no root".to_owned();
        return Err(pg::Error::BecomeUser {
            user: owner.name,
            reason,
        }
        .into());
    }
    if let Some(location) = storage_dest {
        sync::refuse_unusable(location, dir)?;
    }
    // A storage directory that is not there yet becomes that user's, too.
    let storage = storage_dest
        .map(|url| StorageUrl::parse(url, Path::new("/")))
        .transpose()?;
    if let Some(local) = storage.as_ref().and_then(StorageUrl::local_path) {
        user::can_search(disk::parent(local), &owner)?;
        user::can_search(dir, &owner)?;
        fs::create_dir_all(disk::parent(local)).map_err(Error::io("create", local))?;
        managed::give(local, &owner)?;
    }
    managed::give_and_become(dir, &owner)
}

/// Makes what is not there.
///
/// Errors: `Refusal::{OtherStorage, OtherBranch, OtherCluster, BranchNotAtStorage}`,
/// `Refusal::BranchTaken`, `HomeForeign`, and those of storage, import, initdb and snapshot.
pub fn init(
    dir: &Path,
    around: &Surroundings,
    options: &InitOptions,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Initialised> {
    if let Some(branch) = &options.branch {
        head::check_name(branch)?;
    }
    let before = match Home::open_in(dir, around.world.clone()) {
        Ok(home) => Some(home.settings()?),
        Err(Error::NoHome { .. }) => None,
        Err(e) => return Err(e),
    };
    let was_home = before.is_some();
    let mut settings = settings(dir, before.unwrap_or_default(), options)?;
    // A storage that does not answer is found out before anything is made.
    let mut storage = Storage::look(around, &settings, dir, options, on)?;
    if options.attach_only {
        let chosen = options.branch.is_some() || was_home;
        settings.branch = storage.branch_to_attach(&settings, chosen)?;
        settings.lazy |= options.lazy && !was_home;
    }
    // Such a home is made without cluster; `start` makes one.
    let without_cluster = options.attach_only && settings.lazy;
    // So are missing programs.
    let binaries = match &options.source {
        None if !was_home && !storage.has(&settings.branch) => {
            storage.refuse_new_branch(&settings.branch)?;
            let explicit = settings.server.pg_bin.as_deref();
            Some(pg::binaries::find(explicit, around.path.as_deref(), None)?)
        }
        _ => None,
    };
    let home = if was_home {
        Home::open_in(dir, around.world.clone())?
    } else {
        Home::prepare_in(dir, around.world.clone())?
    };
    let home = match &storage.objects {
        Some(objects) if settings.lazy => home.with_remote(objects.clone()),
        _ => home,
    };
    let mut managed = Managed { home, settings };
    let lock = managed.home.lock("init", Wait::UpTo(LOCK_WAIT))?;
    storage.keep_key(&managed.home, options)?;
    if let (Some(repository), true) = (&storage.repository, managed.settings.single_writer) {
        repository.claim(operation(managed.home.world(), "init", "--single-writer"))?;
    }
    managed.home.create_repository(
        storage.params(),
        operation(managed.home.world(), "init", ""),
    )?;
    let branch = managed.settings.branch.clone();
    if !was_home {
        managed.home.set_head(&Head::Branch(branch.clone()))?;
    }
    let presence = managed.presence()?;
    let tip = start::local_tip(&managed, &branch)?;
    let mut report = None;
    let mut snapshot_took = Duration::ZERO;
    let mut origin = Origin::Kept;
    if let (Some(source), true) = (
        &options.source,
        presence != Presence::Missing || tip.is_some(),
    ) {
        refuse_other_cluster(&managed, tip, source)?;
    }
    match (tip, presence) {
        (Some(tip), Presence::Whole) => {
            // An earlier init was cut off when all but the settings was there.
            if !was_home && !options.attach_only && is_init(&managed, tip)? {
                managed.settings.primary = true;
            }
            drop(lock);
        }
        (Some(_), Presence::Missing) if without_cluster => drop(lock),
        (Some(_), Presence::Missing) => {
            drop(lock);
            start::rebuild(&managed, around, on)?;
        }
        (_, Presence::HalfMade(id)) => {
            drop(lock);
            start::place(&managed, id, on)?;
        }
        (None, Presence::Whole) if options.attach_only => {
            return Err(Error::HomeForeign {
                dir: managed.home.dir().to_owned(),
                found: "pgdata".to_owned(),
            });
        }
        // An earlier init was cut off between the cluster and its snapshot.
        (None, Presence::Whole) => {
            report = Some(first_snapshot(&managed, &lock, SnapshotKind::Init, on)?);
            managed.settings.primary = true;
            drop(lock);
        }
        (None, Presence::Missing) if storage.has(&branch) => {
            if let Some(source) = &options.source {
                return Err(storage.refuse_import(&branch, source)?);
            }
            let location = managed.settings.storage_dest.clone().unwrap_or_default();
            drop(lock);
            // The storage notes what this home holds, by its id: it is a home from here on, and
            // start completes it if this is cut off.
            managed.home.complete(&managed.settings)?;
            let bytes = start::fetch(&managed, around, &location, &branch, on)?;
            if !without_cluster {
                start::rebuild(&managed, around, on)?;
            }
            origin = Origin::Attached { location, bytes };
        }
        (None, Presence::Missing) => match &options.source {
            Some(source) => {
                let begun = managed.home.world().watch();
                let taken = bring::bring(&managed, &lock, around, source, &branch, "", on)?;
                snapshot_took = begun.elapsed();
                drop(lock);
                start::place(&managed, taken.id, on)?;
                report = Some(taken);
                origin = Origin::Imported {
                    location: source.location.clone(),
                };
            }
            None => {
                storage.refuse_new_branch(&branch)?;
                let binaries = match binaries {
                    Some(binaries) => binaries,
                    None => managed.binaries(around, None)?,
                };
                make_cluster(&managed, &binaries, &options.initdb_args, on)?;
                let version = binaries.version;
                let begun = managed.home.world().watch();
                report = Some(first_snapshot(&managed, &lock, SnapshotKind::Init, on)?);
                snapshot_took = begun.elapsed();
                // A cluster that was made here is no copy of another.
                managed.settings.primary = true;
                drop(lock);
                origin = Origin::Made { version };
            }
        },
    }
    // A storage that takes nothing is found out while it can still be named differently.
    if let (None, Some(location), false) = (
        &storage.repository,
        &managed.settings.storage_dest,
        managed.home.config_path().exists(),
    ) {
        let made = publish::storage(&managed, around, location, &OpenOptions::interactive())?;
        if managed.settings.single_writer {
            made.claim(operation(managed.home.world(), "init", "--single-writer"))?;
        }
    }
    // Last: without settings there is no home, and init begins or goes on.
    if was_home {
        managed.home.save_settings(&managed.settings)?;
    } else {
        managed.home.complete(&managed.settings)?;
    }
    if managed.home.pgdata().exists() {
        managed.remember()?;
    }

    let tip = start::local_tip(&managed, &branch)?.ok_or_else(|| Error::Internal {
        what: format!("branch {branch} has no snapshot after init"),
    })?;
    let begun = managed.home.world().watch();
    let push = match managed.settings.storage_dest.clone() {
        // What only attaches has nothing to send.
        Some(location) if !options.attach_only => {
            let report = publish::push_branch(&managed, around, &location, &branch, on)?;
            Some((location, report))
        }
        _ => None,
    };
    let push_took = begun.elapsed();
    Ok(Initialised {
        managed,
        was_home,
        origin,
        branch,
        tip,
        report,
        snapshot_took,
        push,
        push_took,
    })
}

/// The saved settings with what was asked for.
///
/// Errors: `Refusal::OtherStorage`, `Refusal::OtherBranch`: changing these in place would part
/// snapshots from what they belong to.
fn settings(dir: &Path, saved: Settings, options: &InitOptions) -> Result<Settings> {
    let mut settings = saved.clone();
    let is_new = !Home::is_at(dir);
    match (&saved.storage_dest, &options.storage_dest) {
        (Some(saved), Some(asked)) if saved != asked => {
            return Err(Refusal::OtherStorage {
                dir: dir.to_owned(),
                saved: saved.clone(),
                asked: asked.clone(),
            }
            .into());
        }
        (None, Some(asked)) => settings.storage_dest = Some(asked.clone()),
        _ => {}
    }
    if let Some(branch) = &options.branch {
        if !is_new && *branch != saved.branch {
            return Err(Refusal::OtherBranch {
                dir: dir.to_owned(),
                saved: saved.branch,
                asked: branch.clone(),
            }
            .into());
        }
        settings.branch.clone_from(branch);
    }
    let server = &mut settings.server;
    server.pg_bin = options.pg_bin.clone().or(server.pg_bin.take());
    server.port = options.port.or(server.port);
    server.listen = options.listen.clone().or(server.listen.take());
    if !options.encryption.is_empty() {
        settings.encryption = options.encryption.clone();
    }
    if let Some(secs) = options.interval_secs {
        settings.snapshots.interval_secs = secs;
    }
    if let Some(what) = options.on_damage {
        settings.snapshots.on_damage = what;
    }
    settings.single_writer |= options.single_writer;
    Ok(settings)
}

/// What is at the storage, when there is one.
struct Storage {
    objects: Option<Arc<dyn Objects>>,
    /// Of a sealed storage, or for a sealed home.
    key: Option<key::Found>,
    repository: Option<Repository>,
    branches: Vec<String>,
}

impl Storage {
    fn look(
        around: &Surroundings,
        settings: &Settings,
        dir: &Path,
        options: &InitOptions,
        on: &(dyn Fn(Event) + Sync),
    ) -> Result<Storage> {
        let passphrase = options.passphrase.as_ref().map(|p| p.as_slice());
        let Some(location) = &settings.storage_dest else {
            return Ok(Storage {
                objects: None,
                key: key::find(dir, None, passphrase, options.encrypt)?,
                repository: None,
                branches: vec![],
            });
        };
        sync::refuse_unusable(location, dir)?;
        publish::warn_unread(around, location, &OpenOptions::interactive(), on);
        let mut objects =
            sync::open_objects(location, dir, &around.storage, &OpenOptions::interactive())?;
        let is_bucket = objects.local_path("").is_none();
        if settings.single_writer {
            // Its directory may not be there yet; nothing is made by a look.
            objects = Arc::new(Exclusive::new(objects, home::storage_lock(dir)));
        }
        let key = key::find(dir, Some(&*objects), passphrase, options.encrypt)?;
        let seal = key.as_ref().map(|found| found.key.seal());
        let repository = match Repository::open_in(
            objects.clone(),
            seal,
            IndexChoice::Memory,
            around.world.clone(),
        ) {
            Ok(repository) => Some(repository),
            Err(zenith_store::Error::NotARepository { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let repository = repository.map(|repository| sync::only_of(settings, location, repository));
        let branches = match &repository {
            None => {
                // What is made on a bucket is made for many, unless one is declared.
                if is_bucket && !settings.single_writer && !options.attach_only {
                    exclusive::check(&*objects, &around.world)?;
                }
                vec![]
            }
            Some(repository) => {
                let state = repository.state()?;
                // A home that is known there has written there before.
                let mine = format!("homes/{}", settings.home_id);
                if !options.single_writer {
                    repository.refuse_other_writer(&state)?;
                    if is_bucket && !settings.single_writer && state.get_ref(&mine).is_none() {
                        match repository.check_create() {
                            // Who only reads there need not ask what becomes of what is written.
                            Err(e) if options.attach_only && e.is_write_refused() => {}
                            done => done?,
                        }
                    }
                }
                let names = state
                    .refs()
                    .keys()
                    .filter_map(|name| name.strip_prefix("branch/"));
                names
                    .filter(|name| !name.starts_with("diverged/"))
                    .map(str::to_owned)
                    .collect()
            }
        };
        Ok(Storage {
            objects: Some(objects),
            key,
            repository,
            branches,
        })
    }

    /// Before the home's repository is made, which goes by the key that the home keeps.
    fn keep_key(&mut self, home: &Home, options: &InitOptions) -> Result<()> {
        if let Some(found) = self.key.take() {
            let passphrase = options.passphrase.as_ref().map(|p| p.as_slice());
            found.keep(home, self.objects.as_deref(), passphrase)?;
        }
        Ok(())
    }

    /// A home takes its parameters from its storage.
    fn params(&self) -> Params {
        self.repository
            .as_ref()
            .map(Repository::params)
            .unwrap_or_default()
    }

    fn has(&self, branch: &str) -> bool {
        self.branches.iter().any(|name| name == branch)
    }

    /// The branch that a clone stands on: the one asked for, `main`, or the only one.
    ///
    /// Errors: `NotARepository` of the store, `Refusal::{NothingToClone, BranchNotAtStorage}`.
    fn branch_to_attach(&self, settings: &Settings, chosen: bool) -> Result<String> {
        let Some(repository) = &self.repository else {
            return Err(zenith_store::Error::NotARepository {
                location: settings.storage_dest.clone().unwrap_or_default(),
            }
            .into());
        };
        match &self.branches[..] {
            [] => {
                let location = repository.location();
                Err(Refusal::NothingToClone { location }.into())
            }
            [only] if !chosen => Ok(only.clone()),
            _ if self.has(&settings.branch) => Ok(settings.branch.clone()),
            branches => Err(Refusal::BranchNotAtStorage {
                branch: settings.branch.clone(),
                location: repository.location(),
                branches: branches.to_vec(),
            }
            .into()),
        }
    }

    /// A branch that is there holds a cluster; another one cannot become its next snapshot
    /// unnoticed, and the same one need not be imported again.
    fn refuse_import(&self, branch: &str, source: &bring::Source) -> Result<Error> {
        let Some(repository) = &self.repository else {
            return Ok(Error::Internal {
                what: "a branch of no storage".to_owned(),
            });
        };
        let state = repository.state()?;
        let tip = state.get_ref(&format!("branch/{branch}"));
        let row = tip.and_then(|tip| state.snapshot(&tip).cloned());
        let expected = match &row {
            Some(row) => Summary::decode(&row.summary, &row.id)?.system_identifier,
            None => 0,
        };
        Ok(Refusal::BranchTaken {
            branch: branch.to_owned(),
            location: repository.location(),
            expected,
            source_place: source.location.clone(),
        }
        .into())
    }

    /// A new cluster never goes beside those that are there: most likely the branch is misspelt.
    fn refuse_new_branch(&self, branch: &str) -> Result<()> {
        match &self.repository {
            Some(repository) if !self.branches.is_empty() => Err(Refusal::BranchNotAtStorage {
                branch: branch.to_owned(),
                location: repository.location(),
                branches: self.branches.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// initdb in a temporary directory of the home, then renamed into place: a cluster in `pgdata`
/// is a whole one.
fn make_cluster(
    managed: &Managed,
    binaries: &Binaries,
    args: &[String],
    on: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let home = &managed.home;
    on(Event::Phase("making a cluster"));
    remove_left_over(home)?;
    let temp = tempfile::Builder::new()
        .prefix(INITDB_PREFIX)
        .tempdir_in(home.dir())
        .map_err(Error::io("create a directory in", home.dir()))?;
    let made = temp.path().join("pgdata");
    let password = password(managed.home.world());
    let password_file = temp.path().join("password");
    write_private(&password_file, format!("{password}\n").as_bytes())?;
    pg::initdb::initdb(binaries, &made, args, Some(&password_file))?;
    // The password first: a cluster whose password nobody knows is of less use than the reverse.
    let line = format!("*:*:*:postgres:{password}\n");
    disk::replace(&home.dir().join("pgpass"), line.as_bytes(), 0o600)?;
    // initdb syncs what it wrote; the new name is synced here.
    let pgdata = home.pgdata();
    if pgdata.is_dir() {
        // Empty, or presence() would have said so.
        fs::remove_dir(&pgdata).map_err(Error::io("remove", &pgdata))?;
    }
    fs::rename(&made, &pgdata).map_err(Error::io("rename", &made))?;
    disk::sync_dir(home.dir())
}

/// What an init that was cut off left of its temporary directories.
fn remove_left_over(home: &Home) -> Result<()> {
    for entry in fs::read_dir(home.dir()).map_err(Error::io("read", home.dir()))? {
        let entry = entry.map_err(Error::io("read", home.dir()))?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(INITDB_PREFIX))
        {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether a snapshot is that of a cluster that was made here, which is no copy of another.
fn is_init(managed: &Managed, tip: SnapshotId) -> Result<bool> {
    let state = publish::local_state(managed)?;
    Ok(state
        .snapshot(&tip)
        .is_some_and(|row| row.kind == SnapshotKind::Init))
}

fn first_snapshot(
    managed: &Managed,
    lock: &home::HomeLock,
    kind: SnapshotKind,
    on: &(dyn Fn(Event) + Sync),
) -> Result<SnapshotReport> {
    let take = Take {
        kind: Some(kind),
        verb: "init",
        ..Take::default()
    };
    Ok(take::take(managed, lock, &take, on)?.report)
}

/// A source may be named again when it is what the home already has.
fn refuse_other_cluster(
    managed: &Managed,
    tip: Option<SnapshotId>,
    source: &bring::Source,
) -> Result<()> {
    let Some(found) = source.system_identifier(managed.home.world())? else {
        return Err(Error::HomeExists {
            dir: managed.home.dir().to_owned(),
        });
    };
    let expected = match tip {
        Some(tip) => {
            let (repo, _guard) = managed.home.reader()?;
            Facts::decode(&repo.snapshot(tip)?.body, &tip)?.system_identifier
        }
        None => Control::read(&managed.home.pgdata(), managed.home.world())?.system_identifier,
    };
    if found == expected {
        return Ok(());
    }
    Err(Refusal::OtherCluster {
        source_place: source.location.clone(),
        found,
        place: managed.home.dir().display().to_string(),
        expected,
    }
    .into())
}

fn password(world: &World) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let numbers = std::iter::repeat_with(|| world.bytes::<1>()[0] % 64);
    // Those without a letter are drawn again, so that all letters are as likely.
    let letters = numbers.filter_map(|number| LETTERS.get(usize::from(number)));
    letters
        .take(PASSWORD_LEN)
        .map(|letter| char::from(*letter))
        .collect()
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_take_what_is_new_and_refuse_what_would_part_things() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::prepare(&dir.path().join("h")).unwrap();
        let saved = Settings {
            storage_dest: Some("/a".into()),
            ..Settings::new()
        };
        home.complete(&saved).unwrap();
        let asked = |change: &dyn Fn(&mut InitOptions)| {
            let mut options = InitOptions::default();
            change(&mut options);
            settings(home.dir(), saved.clone(), &options)
        };
        assert_eq!(asked(&|_| {}).unwrap(), saved);
        assert_eq!(
            asked(&|o| o.storage_dest = Some("/a".into())).unwrap(),
            saved
        );
        assert_eq!(
            asked(&|o| o.port = Some(6000)).unwrap().server.port,
            Some(6000)
        );
        assert!(matches!(
            asked(&|o| o.storage_dest = Some("/b".into())),
            Err(Error::Managed(Refusal::OtherStorage { .. }))
        ));
        assert!(matches!(
            asked(&|o| o.branch = Some("dev".into())),
            Err(Error::Managed(Refusal::OtherBranch { .. }))
        ));
        let plain = Settings {
            storage_dest: None,
            ..saved.clone()
        };
        let options = InitOptions {
            storage_dest: Some("/b".into()),
            ..InitOptions::default()
        };
        let attached = settings(home.dir(), plain, &options).unwrap();
        assert_eq!(attached.storage_dest.as_deref(), Some("/b"));
        let nowhere = dir.path().join("new");
        let options = InitOptions {
            branch: Some("dev".into()),
            ..InitOptions::default()
        };
        assert_eq!(
            settings(&nowhere, Settings::new(), &options)
                .unwrap()
                .branch,
            "dev"
        );
    }

    #[test]
    fn passwords_are_long_and_need_no_escapes() {
        let one = password(&World::real());
        assert_eq!(one.len(), PASSWORD_LEN);
        assert!(one.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(one, password(&World::real()));
    }
}
