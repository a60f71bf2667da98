//! A repository in a home, and what the tests do with it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use zenith::checkout::{self, CheckoutOptions, CheckoutReport};
use zenith::event::{Event, ignore};
use zenith::facts::Facts;
use zenith::home::{Home, HomeLock, Wait};
use zenith::pg::user;
use zenith::settings::Settings;
use zenith::snapshot::{self, OnDamage, SnapshotOptions, SnapshotReport};
use zenith::{Error, Result};
use zenith_store::objects::Directory;
use zenith_store::{
    IndexChoice, Listing, Operation, Params, Repository, SnapshotId, SnapshotKind, Time,
    WriterOptions,
};
use zenith_testkit::{Place, Programs};

pub(crate) struct Fixture {
    pub(crate) place: Place,
    pub(crate) programs: Programs,
    pub(crate) home: Home,
    pub(crate) repo: Repository,
    pub(crate) lock: HomeLock,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let place = Place::new();
        let home = Home::prepare(&place.join("home")).unwrap();
        home.create_repository(Params::default(), operation())
            .unwrap();
        home.complete(&Settings::new()).unwrap();
        let lock = home.lock("test", Wait::No).unwrap();
        // An index of its own, since what is tested may open the home's.
        let objects = Arc::new(Directory::new(home.dir()));
        let repo = Repository::open(objects, None, IndexChoice::Memory).unwrap();
        Fixture {
            place,
            programs: Programs::debian(),
            home,
            repo,
            lock,
        }
    }

    pub(crate) fn options(&self) -> SnapshotOptions {
        SnapshotOptions {
            branch: "main".into(),
            parent: None,
            aside: None,
            message: "a test".into(),
            kind: SnapshotKind::Manual,
            skip_if_unchanged: true,
            fast: true,
            threads: 3,
            on_damage: OnDamage::Warn,
            read_all: false,
            writer: WriterOptions::default(),
            operation: operation(),
            host: "here".into(),
            home: Some(self.home.clone()),
        }
    }

    pub(crate) fn offline(&self, pgdata: &Path) -> Result<SnapshotReport> {
        snapshot::offline(&self.repo, pgdata, &self.options(), &ignore)
    }

    pub(crate) fn online(&self, pgdata: &Path, dsn: &str) -> Result<SnapshotReport> {
        snapshot::online(&self.repo, pgdata, dsn, &self.options(), &ignore)
    }

    /// A new checkout that belongs to the user whom server programs accept.
    pub(crate) fn checkout(&self, id: SnapshotId, name: &str) -> PathBuf {
        let dir = self.place.join(name);
        self.try_checkout(id, &dir, &self.checkout_options())
            .unwrap();
        dir
    }

    pub(crate) fn try_checkout(
        &self,
        id: SnapshotId,
        dir: &Path,
        options: &CheckoutOptions,
    ) -> Result<CheckoutReport> {
        checkout::to_new(&self.repo, id, dir, options, &ignore)
    }

    pub(crate) fn in_place(&self, id: SnapshotId, dir: &Path) -> Result<CheckoutReport> {
        let options = self.checkout_options();
        checkout::in_place(&self.repo, id, dir, &self.home, &options, &ignore)
    }

    pub(crate) fn checkout_options(&self) -> CheckoutOptions {
        CheckoutOptions {
            sync: false,
            threads: 3,
            owner: user::is_root().then(|| user::lookup("postgres").unwrap()),
            home: Some(self.home.clone()),
            ..CheckoutOptions::default()
        }
    }

    pub(crate) fn listing(&self, id: SnapshotId) -> Listing {
        self.repo
            .listing(self.repo.snapshot(id).unwrap().tree)
            .unwrap()
    }

    pub(crate) fn facts(&self, id: SnapshotId) -> Facts {
        Facts::decode(&self.repo.snapshot(id).unwrap().body, &id).unwrap()
    }
}

pub(crate) fn operation() -> Operation {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Operation {
        verb: "snapshot create".into(),
        who: "tester@here".into(),
        time: Time {
            unix_micros: since.as_micros() as i64,
            offset_secs: 0,
        },
        ..Operation::default()
    }
}

/// Path → mode, owner, and the bytes of a file or the target of a link.
type Contents = BTreeMap<String, (u32, u32, Vec<u8>)>;

/// Everything below a directory but the marker, which differs from checkout to checkout.
pub(crate) fn contents(dir: &Path) -> Contents {
    fn below(root: &Path, dir: &Path, out: &mut Contents) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let bytes = if meta.is_dir() {
                below(root, &path, out);
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            if name != zenith::marker::NAME {
                out.insert(name, (meta.mode(), meta.uid(), bytes));
            }
        }
    }
    let mut out = Contents::new();
    below(dir, dir, &mut out);
    out
}

#[track_caller]
pub(crate) fn assert_same_contents(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    let names = |x: &Contents| x.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, what) in &a {
        assert!(&b[name] == what, "{name} differs");
    }
}

#[track_caller]
pub(crate) fn is<T: std::fmt::Debug>(result: Result<T>, check: impl Fn(&Error) -> bool) {
    let error = result.unwrap_err();
    assert!(check(&error), "{error:?}");
}

/// Runs something until its `n`th event about bytes, where it is torn out of everything it does;
/// whether it came to that.
pub(crate) fn torn<T>(n: usize, work: impl FnOnce(&(dyn Fn(Event) + Sync)) -> Result<T>) -> bool {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let seen = AtomicUsize::new(0);
    let on = |event| {
        let counts = matches!(event, Event::Placed { .. } | Event::Total { .. });
        if counts && seen.fetch_add(1, Ordering::Relaxed) >= n {
            resume_unwind(Box::new("torn"));
        }
    };
    match catch_unwind(AssertUnwindSafe(|| work(&on))) {
        Ok(result) => {
            result.map(drop).unwrap();
            false
        }
        Err(_) => true,
    }
}
