//! `zenith branch`: lists, creates, renames and deletes branches.

use jiff::Timestamp;
use zenith::head::Head;
use zenith::managed::Managed;
use zenith::refs::{self, Kind};
use zenith::store::State;
use zenith::{Error, remote};

use super::{Context, tag};
use crate::args::BranchArgs;
use crate::error::Failure;
use crate::render::refs::{Listed, listed, table};

pub fn run(args: &BranchArgs, context: &Context) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        return list(args, context);
    };
    if args.at.remote.is_some() && !args.delete {
        return Err(Failure::Words {
            what: "a branch comes to the storage by a push".to_owned(),
            hint: format!("Run `zenith branch {name}`, then `zenith push --branch {name}`."),
        });
    }
    let managed = context.open()?;
    if args.delete {
        return delete(name, args, &managed, context);
    }
    if args.rename {
        return rename(name, args, &managed, context);
    }
    tag::create(
        Kind::Branch,
        name,
        args.rev.as_deref(),
        args.dry_run,
        &managed,
        context,
    )
}

fn list(args: &BranchArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let head = managed.home.head()?;
    let mut branches: Vec<Listed>;
    if let Some(name) = &args.at.remote {
        let storage = context.storage(&managed, name)?;
        branches = of(&*storage.state().map_err(Error::from)?, None);
    } else {
        let state = context.state(&managed)?;
        branches = of(&state, Some(&head));
        if let Head::Detached(id) = &head {
            let name = "(no branch)".to_owned();
            branches.insert(0, listed("branch", name, true, id.parse().ok(), &state));
        }
        if args.all {
            let noted = state.refs().iter().filter_map(|(full, id)| {
                let name = full.strip_prefix("remote/")?.to_owned();
                Some(listed("tracking_branch", name, false, Some(*id), &state))
            });
            branches.extend(noted);
        }
    }
    if context.ui.is_json() {
        return branches.iter().try_for_each(|one| context.ui.record(one));
    }
    let lines = table("BRANCH", &branches, Timestamp::now(), context.ui.glyphs());
    tag::lines(&lines, context)?;
    if let Some(name) = &args.at.remote {
        context.ui.talk(remote::location(&managed, name)?);
    }
    Ok(())
}

/// The branches of a repository; that of HEAD also when it has no snapshot yet.
fn of(state: &State, head: Option<&Head>) -> Vec<Listed> {
    let on = match head {
        Some(Head::Branch(name)) => Some(name),
        _ => None,
    };
    let branches = state.refs().iter().filter_map(|(full, id)| {
        let name = full.strip_prefix("branch/")?.to_owned();
        let is_head = Some(&name) == on;
        Some(listed("branch", name, is_head, Some(*id), state))
    });
    let mut branches: Vec<Listed> = branches.collect();
    if let Some(name) = on
        && !branches.iter().any(|one| one.head)
    {
        branches.insert(0, listed("branch", name.clone(), true, None, state));
    }
    branches
}

fn delete(
    name: &str,
    args: &BranchArgs,
    managed: &Managed,
    context: &Context,
) -> Result<(), Failure> {
    let Some(at) = &args.at.remote else {
        let deleted = refs::delete(managed, Kind::Branch, name, args.force, args.dry_run)?;
        return tag::deleted(Kind::Branch, name, &deleted, args.dry_run, context);
    };
    let storage = context.storage(managed, at)?;
    let deleted = refs::delete_at(managed, at, &storage, name, args.force, args.dry_run)?;
    let ui = &context.ui;
    let here = context.state(managed)?;
    if here.get_ref(&format!("branch/{name}")).is_some() {
        ui.warn(format_args!(
            "branch {name} is here too: the agent, or the next `zenith stop`, sends it again, \
             unless `zenith branch -d {name}` deletes it here first"
        ));
    }
    if ui.is_json() {
        return ui.record(&tag::deleted_record(
            Kind::Branch,
            name,
            &deleted,
            args.dry_run,
        ));
    }
    let verb = if args.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    ui.answer(format_args!(
        "{verb} branch {name} at {}  (it was at {})",
        remote::location(managed, at)?,
        deleted.id.short()
    ))?;
    if !args.dry_run {
        ui.talk("`zenith undo --remote` brings it back");
    }
    Ok(())
}

fn rename(
    name: &str,
    args: &BranchArgs,
    managed: &Managed,
    context: &Context,
) -> Result<(), Failure> {
    let (old, new) = match (&args.rev, managed.home.head()?) {
        (Some(new), _) => (name.to_owned(), new.as_str()),
        (None, Head::Branch(current)) => (current, name),
        (None, Head::Detached(id)) => {
            return Err(Failure::Words {
                what: format!("HEAD is at {} without a branch to rename", &id[..8]),
                hint: format!("Name both: `zenith branch -m OLD {name}`."),
            });
        }
    };
    tag::rename(Kind::Branch, &old, new, args.dry_run, managed, context)?;
    let ui = &context.ui;
    let noted = format!("remote/origin/{old}");
    if context.state(managed)?.get_ref(&noted).is_some() {
        ui.talk(format_args!(
            "the storage still has {old}; `zenith branch -d {old} --remote` deletes it there once \
             {new} is pushed"
        ));
    }
    Ok(())
}
