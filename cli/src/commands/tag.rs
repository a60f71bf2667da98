//! `zenith tag`, and what it shares with `zenith branch`.

use jiff::Timestamp;
use serde_json::{Value, json};
use zenith::managed::Managed;
use zenith::refs::{self, Deleted, Kind};

use super::Context;
use crate::args::TagArgs;
use crate::error::Failure;
use crate::render::refs::{Listed, listed, table};
use crate::render::size::plural;
use crate::ui::Tone;

pub fn run(args: &TagArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let Some(name) = &args.name else {
        return list(&managed, context);
    };
    if args.delete {
        let deleted = refs::delete(&managed, Kind::Tag, name, false, args.dry_run)?;
        return self::deleted(Kind::Tag, name, &deleted, args.dry_run, context);
    }
    if let (true, Some(new)) = (args.rename, &args.rev) {
        return rename(Kind::Tag, name, new, args.dry_run, &managed, context);
    }
    create(
        Kind::Tag,
        name,
        args.rev.as_deref(),
        args.dry_run,
        &managed,
        context,
    )
}

fn list(managed: &Managed, context: &Context) -> Result<(), Failure> {
    let state = context.state(managed)?;
    let tags = state.refs().iter().filter_map(|(full, id)| {
        let name = full.strip_prefix("tag/")?.to_owned();
        Some(listed("tag", name, false, Some(*id), &state))
    });
    let tags: Vec<Listed> = tags.collect();
    if context.ui.is_json() {
        return tags.iter().try_for_each(|one| context.ui.record(one));
    }
    if tags.is_empty() {
        context.ui.talk("no tags");
        return Ok(());
    }
    lines(
        &table("TAG", &tags, Timestamp::now(), context.ui.glyphs()),
        context,
    )
}

/// Answers a table, its title faint and the mark of HEAD in its colour.
pub fn lines(lines: &[String], context: &Context) -> Result<(), Failure> {
    let ui = &context.ui;
    for (i, line) in lines.iter().enumerate() {
        ui.answer(match i {
            0 => ui.tone(line, Tone::Faint),
            _ => ui.marked(line),
        })?;
    }
    Ok(())
}

/// Names a revision, or HEAD.
pub fn create(
    kind: Kind,
    name: &str,
    revision: Option<&str>,
    dry_run: bool,
    managed: &Managed,
    context: &Context,
) -> Result<(), Failure> {
    // A name that cannot be one is said before anything about revisions.
    zenith::head::check_new_name(name)?;
    let state = context.state(managed)?;
    let id = context.resolve(managed, &state, revision.unwrap_or("HEAD"))?;
    refs::create(managed, kind, name, id, dry_run)?;
    let (ui, word) = (&context.ui, kind.word());
    if ui.is_json() {
        return ui.record(&json!({
            "type": format!("{word}_created"), "v": 1,
            "name": name, "id": id.to_string(), "dry_run": dry_run,
        }));
    }
    let verb = if dry_run { "would create " } else { "" };
    ui.answer(format_args!("{verb}{word} {name} at {}", id.short()))?;
    if kind == Kind::Branch && !dry_run {
        ui.talk(format_args!("`zenith checkout {name}` moves there"));
    }
    Ok(())
}

/// Gives a name to what had another one.
pub fn rename(
    kind: Kind,
    old: &str,
    new: &str,
    dry_run: bool,
    managed: &Managed,
    context: &Context,
) -> Result<(), Failure> {
    let id = refs::rename(managed, kind, old, new, dry_run)?;
    let (ui, word) = (&context.ui, kind.word());
    if ui.is_json() {
        return ui.record(&json!({
            "type": format!("{word}_renamed"), "v": 1,
            "from": old, "to": new, "id": id.to_string(), "dry_run": dry_run,
        }));
    }
    let verb = if dry_run { "would rename" } else { "renamed" };
    ui.answer(format_args!(
        "{verb} {word} {old} to {new}  (at {})",
        id.short()
    ))
}

/// Says what was deleted, and how it comes back.
pub fn deleted(
    kind: Kind,
    name: &str,
    deleted: &Deleted,
    dry_run: bool,
    context: &Context,
) -> Result<(), Failure> {
    let (ui, word, id) = (&context.ui, kind.word(), deleted.id.short());
    if ui.is_json() {
        return ui.record(&deleted_record(kind, name, deleted, dry_run));
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    ui.answer(format_args!("{verb} {word} {name}  (it was at {id})"))?;
    if deleted.left > 0 {
        ui.talk(format_args!(
            "nothing else leads to {}: the next prune may take {}",
            plural(deleted.left, "snapshot"),
            if deleted.left == 1 { "it" } else { "them" }
        ));
    }
    if !dry_run {
        ui.talk(format_args!(
            "`zenith undo` brings it back, and later `zenith {word} {name} {id}` makes it again"
        ));
    }
    Ok(())
}

pub fn deleted_record(kind: Kind, name: &str, deleted: &Deleted, dry_run: bool) -> Value {
    json!({
        "type": format!("{}_deleted", kind.word()), "v": 1,
        "name": name, "id": deleted.id.to_string(),
        "left": deleted.left, "dry_run": dry_run,
    })
}
