//! Branches, tags, and the refs by which a storage keeps what homes build on.

use std::collections::BTreeSet;

use zenith_store::{Change, HeadMove, RefChange, Repository, SnapshotId, Stand, State};

use crate::error::Result;
use crate::head::{self, Head};
use crate::history::History;
use crate::home::{Home, LOCK_WAIT, Wait};
use crate::managed::{Managed, Refusal};
use crate::revision::{self, RevisionError};
use crate::sync;
use crate::who::operation;

/// Digits that a prefix of a home's id has at least.
const HOME_PREFIX_MIN: usize = 4;

/// A name that people give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes along with new snapshots.
    Branch,
    /// Stays.
    Tag,
}

impl Kind {
    /// `branch` or `tag`: the word, and the folder of its refs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Branch => "branch",
            Kind::Tag => "tag",
        }
    }

    fn full(self, name: &str) -> String {
        format!("{}/{name}", self.word())
    }

    /// Where the branch or tag is.
    ///
    /// Errors: `Revision(NoRef)`.
    pub fn find(self, state: &State, name: &str) -> Result<SnapshotId> {
        let found = state.get_ref(&self.full(name));
        Ok(found.ok_or_else(|| revision::no_ref(state, self.word(), name))?)
    }
}

/// Names a snapshot.
///
/// Errors: `NameInvalid`, `Refusal::NameTaken`, `Store(NoSnapshot)`.
pub fn create(
    managed: &Managed,
    kind: Kind,
    name: &str,
    id: SnapshotId,
    dry_run: bool,
) -> Result<()> {
    head::check_new_name(name)?;
    let full = kind.full(name);
    if dry_run {
        return refuse_taken(&*managed.home.state()?, &full);
    }
    let lock = managed.home.lock(kind.word(), Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    refuse_taken(&*repo.state()?, &full)?;
    let refs = vec![RefChange {
        name: full,
        from: None,
        to: Some(id),
    }];
    commit(&repo, refs, kind.word(), name)
}

/// A branch or tag that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Where it was.
    pub id: SnapshotId,
    /// Snapshots to which no branch, tag or note of a storage leads any more.
    pub left: u64,
}

/// Deletes a branch or tag; snapshots stay. Where nothing but the branch leads to some of them
/// that takes `force`.
///
/// Errors: `Revision(NoRef)`, `Refusal::{CheckedOut, NotKept}`.
pub fn delete(
    managed: &Managed,
    kind: Kind,
    name: &str,
    force: bool,
    dry_run: bool,
) -> Result<Deleted> {
    let lock = managed.home.lock(kind.word(), Wait::UpTo(LOCK_WAIT))?;
    let repo = managed.home.writer(&lock)?;
    let state = repo.state()?;
    let id = kind.find(&state, name)?;
    if kind == Kind::Branch && managed.home.head()? == Head::Branch(name.to_owned()) {
        let branch = name.to_owned();
        return Err(Refusal::CheckedOut { branch }.into());
    }
    let deleted = plan_delete(&state, kind, name, id, force, false)?;
    if !dry_run {
        let verb = format!("{} -d", kind.word());
        commit(&repo, vec![gone(&kind.full(name), id)], &verb, name)?;
    }
    Ok(deleted)
}

/// Deletes a branch at a remote of this home, which notes that.
///
/// Errors: `Revision(NoRef)`, `Refusal::NotKept`, `Store(RefMoved)` when somebody pushes to it
/// right now, those of the storage.
pub fn delete_at(
    managed: &Managed,
    remote: &str,
    storage: &Repository,
    branch: &str,
    force: bool,
    dry_run: bool,
) -> Result<Deleted> {
    let state = storage.state()?;
    let id = Kind::Branch.find(&state, branch)?;
    let deleted = plan_delete(&state, Kind::Branch, branch, id, force, true)?;
    if !dry_run {
        let refs = vec![gone(&Kind::Branch.full(branch), id)];
        commit(storage, refs, "branch -d", branch)?;
        sync::follow(
            &managed.home,
            remote,
            &*storage.state()?,
            &[branch],
            "branch -d",
        )?;
    }
    Ok(deleted)
}

fn plan_delete(
    state: &State,
    kind: Kind,
    name: &str,
    id: SnapshotId,
    force: bool,
    at_storage: bool,
) -> Result<Deleted> {
    let own = kind.full(name);
    let history = History::of(state);
    let mut left: BTreeSet<SnapshotId> = history.ancestors(id).iter().map(|n| n.id).collect();
    for (other, tip) in state.refs() {
        let leads = ["branch/", "tag/", "remote/"]
            .iter()
            .any(|folder| other.starts_with(folder));
        if leads && *other != own {
            for node in history.ancestors(*tip) {
                left.remove(&node.id);
            }
        }
    }
    let left = left.len() as u64;
    if kind == Kind::Branch && left > 0 && !force {
        return Err(Refusal::NotKept {
            branch: name.to_owned(),
            number: left,
            id: id.short(),
            at_storage,
        }
        .into());
    }
    Ok(Deleted { id, left })
}

/// Gives a branch or tag another name; HEAD goes along with a branch. Where it is.
///
/// If we stop before HEAD went along, it reads as if it had, and the same call completes it.
///
/// Errors: `NameInvalid`, `Revision(NoRef)`, `Refusal::NameTaken`.
pub fn rename(
    managed: &Managed,
    kind: Kind,
    old: &str,
    new: &str,
    dry_run: bool,
) -> Result<SnapshotId> {
    head::check_new_name(new)?;
    let home = &managed.home;
    let lock = home.lock(kind.word(), Wait::UpTo(LOCK_WAIT))?;
    let repo = home.writer(&lock)?;
    let state = repo.state()?;
    let (from, to) = (kind.full(old), kind.full(new));
    let goes = Head::Branch(new.to_owned());
    let is_half_done = kind == Kind::Branch
        && home.next_head()?.as_ref() == Some(&goes)
        && home.head()? == goes
        && state.get_ref(&from).is_none();
    if is_half_done && !dry_run {
        settle(home, old, new)?;
        return kind.find(&state, new);
    }
    let id = kind.find(&state, old)?;
    refuse_taken(&state, &to)?;
    if dry_run {
        return Ok(id);
    }
    let made = RefChange {
        name: to,
        from: None,
        to: Some(id),
    };
    let is_on = kind == Kind::Branch && home.head()? == Head::Branch(old.to_owned());
    let verb = format!("{} -m", kind.word());
    let mut operation = operation(repo.world(), &verb, format!("{old} {new}"));
    operation.head = is_on.then(|| renamed(old, new));
    let change = Change {
        refs: vec![made, gone(&from, id)],
        operation,
        ..Change::default()
    };
    if is_on {
        home.move_head_with(&goes, || Ok(repo.commit(change)?))?;
    } else {
        repo.commit(change)?;
    }
    if kind == Kind::Branch {
        settle(home, old, new)?;
    }
    Ok(id)
}

/// HEAD goes from one name of its branch to another; the cluster stays.
fn renamed(old: &str, new: &str) -> HeadMove {
    let on = |branch: &str| Stand {
        head: Head::Branch(branch.to_owned()).to_string(),
        holds: None,
    };
    HeadMove {
        from: on(old),
        to: on(new),
    }
}

/// What else of a home says the name of a branch that has another one now.
pub(crate) fn settle(home: &Home, old: &str, new: &str) -> Result<()> {
    let mut saved = home.settings()?;
    if saved.branch == old {
        saved.branch = new.to_owned();
        home.save_settings(&saved)?;
    }
    // One that was cut off.
    if home.next_head()?.is_some() {
        home.set_head(&home.head()?)?;
    }
    Ok(())
}

/// A home for which a repository keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub home: String,
    /// What it last pushed or fetched.
    pub at: SnapshotId,
    /// Every ref that keeps something for it; one that reads here keeps a tip of each branch.
    refs: Vec<(String, SnapshotId)>,
}

/// Every home that a repository keeps snapshots for, by id.
pub fn homes(state: &State) -> Vec<Known> {
    let mut homes: Vec<Known> = Vec::new();
    // By name, the ref of a home itself comes before those below it, and its pins come last.
    for (name, id) in state.refs() {
        let folders = ["homes/", "pins/"];
        let Some(rest) = folders.iter().find_map(|folder| name.strip_prefix(folder)) else {
            continue;
        };
        let home = rest.split('/').next().unwrap_or(rest);
        match homes.iter_mut().find(|known| known.home == home) {
            Some(known) => known.refs.push((name.clone(), *id)),
            None => homes.push(Known {
                home: home.to_owned(),
                at: *id,
                refs: vec![(name.clone(), *id)],
            }),
        }
    }
    homes
}

/// Drops the ref that keeps what a home builds on. `id` is the home's, or a prefix that no other
/// one has. In the home's own repository the caller holds its lock.
///
/// Errors: `Revision(NoRef, Ambiguous, TooShort)`, `Store(RefMoved)` when that home pushes right
/// now, those of the repository.
pub fn forget_home(repo: &Repository, id: &str, dry_run: bool) -> Result<Known> {
    let state = repo.state()?;
    let name = || id.to_owned();
    let homes = homes(&state);
    let exact = homes.iter().find(|known| known.home == id);
    let mut found: Vec<&Known> = match exact {
        Some(known) => vec![known],
        None => homes.iter().filter(|k| k.home.starts_with(id)).collect(),
    };
    let known = match (found.pop(), found.is_empty()) {
        (None, _) => {
            let (what, similar) = ("home", vec![]);
            let name = name();
            return Err(RevisionError::NoRef {
                what,
                name,
                similar,
            }
            .into());
        }
        (Some(_), _) if exact.is_none() && id.len() < HOME_PREFIX_MIN => {
            return Err(RevisionError::TooShort { name: name() }.into());
        }
        (Some(known), true) => known,
        (Some(known), false) => {
            found.push(known);
            let candidates = found.iter().map(|known| known.home.clone()).collect();
            let name = name();
            return Err(RevisionError::Ambiguous { name, candidates }.into());
        }
    };
    if !dry_run {
        let refs = known
            .refs
            .iter()
            .map(|(name, id)| gone(name, *id))
            .collect();
        // There may be many. Begun and not ended, it is forgotten by the same call.
        let refs: Vec<RefChange> = refs;
        repo.move_each(&refs, &operation(repo.world(), "home forget", &known.home))?;
    }
    Ok(known.clone())
}

fn gone(name: &str, from: SnapshotId) -> RefChange {
    RefChange {
        name: name.to_owned(),
        from: Some(from),
        to: None,
    }
}

/// Sees that a ref, by its full name, is free.
///
/// Errors: `Refusal::NameTaken`.
pub(crate) fn refuse_taken(state: &State, full: &str) -> Result<()> {
    match (state.get_ref(full), full.split_once('/')) {
        (Some(id), Some((kind, name))) => Err(Refusal::NameTaken {
            kind: if kind == "tag" { "tag" } else { "branch" },
            name: name.to_owned(),
            id: id.short(),
        }
        .into()),
        _ => Ok(()),
    }
}

fn commit(repo: &Repository, refs: Vec<RefChange>, verb: &str, detail: &str) -> Result<()> {
    repo.commit(Change {
        refs,
        operation: operation(repo.world(), verb, detail),
        ..Change::default()
    })?;
    Ok(())
}
