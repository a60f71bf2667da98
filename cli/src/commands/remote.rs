//! `zenith remote`: the repositories that a home fetches from and pushes to.

use zenith::managed::Managed;
use zenith::remote::{self, Remote};
use zenith::sync::ORIGIN;

use super::Context;
use crate::args::{RemoteRemoveArgs, RemoteUrlArgs, RemoteVerb};
use crate::error::Failure;
use crate::render;

pub fn run(verb: Option<RemoteVerb>, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    match verb {
        None | Some(RemoteVerb::List) => list(&managed, context),
        Some(RemoteVerb::Show(args)) => show(&args.name, &managed, context),
        Some(RemoteVerb::Add(args)) => set(&args, "added", &managed, context),
        Some(RemoteVerb::SetUrl(args)) => set(&args, "changed", &managed, context),
        Some(RemoteVerb::Remove(args)) => remove(&args, &managed, context),
    }
}

fn list(managed: &Managed, context: &Context) -> Result<(), Failure> {
    let remotes = remote::list(managed)?;
    if context.ui.is_json() {
        return remotes
            .iter()
            .try_for_each(|remote| context.ui.record(&render::remote::record(remote)));
    }
    if remotes.is_empty() {
        context
            .ui
            .talk("no remotes; `zenith remote add origin URL` adds the storage");
    }
    render::remote::lines(&remotes)
        .iter()
        .try_for_each(|line| context.ui.answer(line))
}

fn show(name: &str, managed: &Managed, context: &Context) -> Result<(), Failure> {
    let location = remote::location(managed, name)?;
    let branches = remote::show(managed, &context.around(), name)?;
    let ui = &context.ui;
    if ui.is_json() {
        return branches
            .iter()
            .try_for_each(|branch| ui.record(&render::remote::branch_record(branch, name)));
    }
    ui.talk(format_args!("{name} is {location}"));
    render::remote::branch_lines(&branches)
        .iter()
        .try_for_each(|line| ui.answer(line))
}

fn set(
    args: &RemoteUrlArgs,
    what: &'static str,
    managed: &Managed,
    context: &Context,
) -> Result<(), Failure> {
    context.env.refuse_memory(&args.url)?;
    let location = context.env.absolute_location(&args.url);
    if what == "added" {
        remote::add(managed, &args.name, &location)?;
    } else {
        remote::set_url(managed, &args.name, &location)?;
    }
    if context.ui.is_json() {
        let remote = Remote {
            name: args.name.clone(),
            location,
            branches: Vec::new(),
        };
        context.ui.record(&render::remote::record(&remote))?;
    } else {
        context
            .ui
            .answer(format_args!("{what} remote {}  {location}", args.name))?;
    }
    tell_agent(&args.name, managed, context);
    Ok(())
}

fn remove(args: &RemoteRemoveArgs, managed: &Managed, context: &Context) -> Result<(), Failure> {
    let gone = remote::remove(managed, &args.name, args.dry_run)?;
    if context.ui.is_json() {
        context.ui.record(&serde_json::json!({
            "type": "remote_removed", "v": 1,
            "name": gone.name,
            "location": gone.location,
            "branches": gone.branches.len(),
            "dry_run": args.dry_run,
        }))?;
    } else {
        let verb = if args.dry_run {
            "would remove"
        } else {
            "removed"
        };
        let known = match gone.branches.len() {
            0 => String::new(),
            1 => ", with what was known of 1 branch".to_owned(),
            n => format!(", with what was known of {n} branches"),
        };
        context.ui.answer(format_args!(
            "{verb} remote {}  {}{known}",
            gone.name, gone.location
        ))?;
    }
    if !args.dry_run {
        tell_agent(&args.name, managed, context);
    }
    Ok(())
}

/// The agent that runs goes on as it was started.
fn tell_agent(name: &str, managed: &Managed, context: &Context) {
    if name == ORIGIN && zenith::agent::is_alive(&managed.home) {
        context
            .ui
            .talk("the agent still pushes as before: `zenith start` has it follow");
    }
}
