//! Pushing from a home: which branches, to which storage, and what is remembered of it.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use zenith_store::objects::{OpenOptions, StorageUrl};
use zenith_store::{Repository, SnapshotId, State};

use crate::agent::state::{PushState, Trouble, one_line};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::head::Head;
use crate::key;
use crate::known;
use crate::managed::{Managed, Refusal, Surroundings};
use crate::remote;
use crate::sync::{self, ORIGIN, PushOptions, PushReport, TagsPushed, Unpushed};
use crate::thin::{self, Thinned};
use crate::who::{operation, seconds, verb};

/// Where this home pushes.
///
/// Errors: `Refusal::NoStorage`.
pub fn location(managed: &Managed) -> Result<&str> {
    let saved = managed.settings.storage_dest.as_deref();
    Ok(saved.ok_or_else(|| Refusal::NoStorage {
        dir: managed.home.dir().to_owned(),
    })?)
}

/// The repository at `location`, made there like the home's own where there is none.
///
/// Errors: `Refusal::{StorageGone, StorageReplaced}` where this home knows another one there, and
/// those of the store.
pub fn storage(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
    options: &OpenOptions,
) -> Result<Repository> {
    let (home, settings) = (&managed.home, &managed.settings);
    let objects = sync::open_of(home, settings, location, &around.storage, options)?;
    // The guard goes at once: a storage that does not answer must not keep packs from collection.
    let params = managed.home.reader()?.0.params();
    let key = key::read(&managed.home)?;
    let is_there = Repository::exists(&*objects)?;
    known::expect(&managed.home, location, is_there)?;
    if let Some(key) = key.as_ref().filter(|_| !is_there) {
        key::publish(&managed.home, &*objects, key)?;
    }
    let seal = key.map(|key| key.seal());
    let storage = sync::open_or_create(
        objects,
        params,
        seal,
        &operation(home.world(), "init", ""),
        home.world(),
    )?;
    known::meet(&managed.home, location, &storage)?;
    Ok(sync::only_of(settings, location, storage))
}

/// Says which variables are set, expected to work for this place, and not read.
pub fn warn_unread(
    around: &Surroundings,
    location: &str,
    options: &OpenOptions,
    on: &(dyn Fn(Event) + Sync),
) {
    // What is wrong with the location is said where it is opened.
    let Ok(url) = StorageUrl::parse(location, Path::new("/")) else {
        return;
    };
    for warning in url.warnings(&around.storage, options) {
        on(Event::Warning(warning.to_string()));
    }
}

/// Sends one branch and remembers how it went. Someone waits for the answer: a branch that
/// diverged is an error.
pub fn push_branch(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
    branch: &str,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushReport> {
    warn_unread(around, location, &OpenOptions::default(), on);
    let outcome = storage(managed, around, location, &OpenOptions::interactive())
        .and_then(|storage| send(managed, &storage, branch, false, on));
    remember(
        managed,
        location,
        outcome.as_ref().map(std::slice::from_ref),
    );
    outcome
}

/// What a push to a remote did.
#[derive(Debug, Default)]
pub struct PushedTo {
    /// The branches that went well, in order.
    pub branches: Vec<(String, PushReport)>,
    /// What became of the tags, when they were asked for.
    pub tags: Option<TagsPushed>,
    /// The first error; a branch that diverged keeps no other from being sent.
    pub failed: Option<Error>,
}

/// Sends branches, and tags where asked for, to a remote. Someone waits for the answer.
///
/// Errors: those of the remote as a whole; those of one branch are in the report.
pub fn push_to(
    managed: &Managed,
    around: &Surroundings,
    name: &str,
    branches: &[String],
    tags: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushedTo> {
    let location = remote::location(managed, name)?;
    warn_unread(around, &location, &OpenOptions::default(), on);
    let mut done = PushedTo::default();
    let storage = match storage(managed, around, &location, &OpenOptions::interactive()) {
        Ok(storage) => storage,
        Err(e) => {
            if name == ORIGIN {
                remember(managed, &location, Err(&e));
            }
            return Err(e);
        }
    };
    for branch in branches {
        let options = PushOptions {
            branch: branch.clone(),
            background: false,
            operation: operation(managed.home.world(), verb::PUSH, branch),
        };
        match sync::push_to(&managed.home, &storage, name, &options, on) {
            Ok(report) => done.branches.push((branch.clone(), report)),
            Err(e @ (Error::Diverged { .. } | Error::NothingToPush { .. })) => {
                done.failed.get_or_insert(e);
            }
            Err(e) => {
                done.failed = Some(e);
                break;
            }
        }
    }
    if name == ORIGIN {
        let reports: Vec<PushReport> = done.branches.iter().map(|(_, r)| r.clone()).collect();
        remember(
            managed,
            &location,
            done.failed.as_ref().map_or(Ok(&reports), Err),
        );
    }
    if tags {
        let operation = operation(managed.home.world(), verb::PUSH, "tags");
        done.tags = Some(sync::push_tags(&managed.home, &storage, &operation, on)?);
    }
    Ok(done)
}

/// Sends every local branch that the storage is not known to have, and the current one in any
/// case, which shows that the storage answers. Nobody waits: a branch that diverged is pushed
/// under a name of its own.
pub fn push_all(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
    on: &(dyn Fn(Event) + Sync),
) -> Result<Vec<PushReport>> {
    let outcome = (|| {
        let storage = storage(managed, around, location, &OpenOptions::default())?;
        let state = local_state(managed)?;
        let head = managed.home.head()?;
        // What is noted is about the home's own storage.
        let is_noted = sync::is_origin(&managed.home, location)?;
        let wanted = |branch: &str| match &head {
            Head::Branch(current) if current == branch => true,
            _ if !is_noted => true,
            _ => {
                let tip = state.get_ref(&format!("branch/{branch}"));
                tip != state.get_ref(&format!("remote/origin/{branch}"))
            }
        };
        let branches = state
            .refs()
            .keys()
            .filter_map(|name| name.strip_prefix("branch/"));
        branches
            .filter(|branch| wanted(branch))
            .map(|branch| send(managed, &storage, branch, true, on))
            .collect::<Result<Vec<_>>>()
    })();
    remember(managed, location, outcome.as_deref());
    outcome
}

/// Snapshots of local branches that the place where this home pushes is not known to have. There
/// are notes of the home's own storage; of another place the last push alone tells.
///
/// Errors: `NoHome`, `SettingsInvalid`.
pub fn unpushed(managed: &Managed, location: Option<&str>, state: &State) -> Result<Unpushed> {
    match location {
        Some(location) if !sync::is_origin(&managed.home, location)? => {
            let tip = PushState::load(&managed.home, location).tip;
            let tip: Option<SnapshotId> = tip.and_then(|tip| tip.parse().ok());
            Ok(sync::unpushed_beside(state, tip.as_slice()))
        }
        _ => Ok(sync::unpushed(state)),
    }
}

/// Thins the storage and frees its space, as the agent does now and then: that of the original
/// alone, as the policy is its own. Homes of copies, which share the storage, leave it as it is.
///
/// Errors: those of the storage.
pub fn tidy(managed: &Managed, around: &Surroundings, location: &str) -> Result<Thinned> {
    if !managed.settings.primary {
        return Ok(Thinned::default());
    }
    let storage = storage(managed, around, location, &OpenOptions::default())?;
    thin::thin_storage(managed, &storage)
}

/// The same, for at most so long: what was not sent then stays for the next push. Nothing when
/// time ran out.
pub fn push_all_within(
    managed: &Managed,
    around: &Surroundings,
    location: &str,
    limit: Duration,
    on: &(dyn Fn(Event) + Sync),
) -> Option<Result<Vec<PushReport>>> {
    let (tell, events) = mpsc::channel();
    let (done, outcome) = mpsc::channel();
    let begun = managed.home.world().watch();
    let (managed, around, location) = (managed.clone(), around.clone(), location.to_owned());
    // A request that hangs cannot be called back; the thread ends with the process.
    std::thread::spawn(move || {
        let on = |event: Event| {
            let _ = tell.send(event);
        };
        let _ = done.send(push_all(&managed, &around, &location, &on));
    });
    loop {
        match events.recv_timeout(begun.left_of(limit).unwrap_or_default()) {
            Ok(event) => on(event),
            Err(mpsc::RecvTimeoutError::Timeout) => return None,
            // The sender went away with the thread's work.
            Err(mpsc::RecvTimeoutError::Disconnected) => return outcome.recv().ok(),
        }
    }
}

/// The state of the home's repository, read now.
pub fn local_state(managed: &Managed) -> Result<std::sync::Arc<State>> {
    managed.home.state()
}

fn send(
    managed: &Managed,
    storage: &Repository,
    branch: &str,
    background: bool,
    on: &(dyn Fn(Event) + Sync),
) -> Result<PushReport> {
    let options = PushOptions {
        branch: branch.to_owned(),
        background,
        operation: operation(managed.home.world(), verb::PUSH, branch),
    };
    let report = sync::push(&managed.home, storage, &options, on)?;
    if let PushReport::Diverged { branch: aside, .. } = &report {
        on(Event::Warning(format!(
            "{branch} at {} holds what this home lacks: pushed to {aside} instead",
            storage.location()
        )));
    }
    Ok(report)
}

/// The record is information for `status`; that it cannot be written must not fail a push.
fn remember(
    managed: &Managed,
    location: &str,
    outcome: std::result::Result<&[PushReport], &Error>,
) {
    let mut state = PushState::load(&managed.home, location);
    match outcome {
        Ok(reports) => {
            state.complete = Some(seconds(managed.home.world()));
            state.trouble = None;
            state.diverged_to = None;
            for report in reports {
                match report {
                    PushReport::UpToDate { tip } | PushReport::Pushed { tip, .. } => {
                        state.tip = Some(tip.to_string());
                    }
                    PushReport::Behind { ours, .. } => state.tip = Some(ours.to_string()),
                    PushReport::Diverged { ours, branch, .. } => {
                        state.tip = Some(ours.to_string());
                        state.diverged_to = Some(branch.clone());
                    }
                }
            }
        }
        Err(e) => {
            state.trouble = Some(Trouble {
                time: seconds(managed.home.world()),
                message: one_line(e),
            });
        }
    }
    if let Err(e) = state.save(&managed.home) {
        tracing::warn!("{}", one_line(&e));
    }
}

/// Stored bytes that these pushes sent.
pub fn sent_bytes(reports: &[PushReport]) -> u64 {
    let bytes = |report: &PushReport| match report {
        PushReport::Pushed { bytes, .. } | PushReport::Diverged { bytes, .. } => *bytes,
        PushReport::UpToDate { .. } | PushReport::Behind { .. } => 0,
    };
    reports.iter().map(bytes).sum()
}
