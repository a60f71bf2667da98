//! `zenith key list|add|change|remove`: the passphrases that open an encrypted repository.

use jiff::Timestamp;
use zenith::key::{self, Slots};
use zenith::managed::Managed;

use super::Context;
use crate::args::{KeyAddArgs, KeyChangeArgs, KeyRemoveArgs, NewPassphraseArgs};
use crate::error::Failure;
use crate::passphrase::{self, Ask, Passphrase, Sources};
use crate::render;

pub fn list(context: &Context) -> Result<(), Failure> {
    let (slots, _managed) = open(context)?;
    let listed = slots.list()?;
    if context.ui.is_json() {
        return listed
            .iter()
            .try_for_each(|(number, slot)| context.ui.record(&render::key::record(*number, slot)));
    }
    context.ui.talk(format_args!("{}", slots.location()));
    render::key::lines(&listed, Timestamp::now())
        .iter()
        .try_for_each(|line| context.ui.answer(line))
}

pub fn add(args: &KeyAddArgs, context: &Context) -> Result<(), Failure> {
    let (slots, _managed) = open(context)?;
    let new = new_passphrase(&args.new, context)?;
    let number = slots.add(new.bytes())?;
    done(context, Some(number), None)
}

pub fn change(args: &KeyChangeArgs, context: &Context) -> Result<(), Failure> {
    let (slots, managed) = open(context)?;
    let file = passphrase::file(&context.env, args.old.passphrase_file.as_ref());
    let old = Sources {
        file: file.as_deref(),
        command: args.old.passphrase_command.as_deref(),
        variable: context.env.passphrase.as_ref(),
        saved: Some(&managed.settings.encryption),
        ways: passphrase::WAYS,
    }
    .read(&context.ui, "old passphrase", Ask::Once)?;
    // A wrong one is said before anybody thinks of a new one.
    slots.find(old.bytes())?;
    let new = new_passphrase(&args.new, context)?;
    let changed = slots.change(old.bytes(), new.bytes())?;
    if !managed.settings.encryption.is_empty() {
        context.ui.talk(
            "config.toml says where a passphrase comes from: mind that it is the new one there",
        );
    }
    done(context, Some(changed.added), Some(changed.removed))
}

pub fn remove(args: &KeyRemoveArgs, context: &Context) -> Result<(), Failure> {
    let (slots, _managed) = open(context)?;
    slots.remove(args.number)?;
    done(context, None, Some(args.number))
}

/// The slots of this home, and its settings.
fn open(context: &Context) -> Result<(Slots, Managed), Failure> {
    let managed = context.open()?;
    let storage = key::storage(&context.home, &context.around(), &managed.settings)?;
    Ok((Slots::open(&managed.home, storage)?, managed))
}

fn new_passphrase(args: &NewPassphraseArgs, context: &Context) -> Result<Passphrase, Failure> {
    let file = passphrase::file(&context.env, args.new_passphrase_file.as_ref());
    Sources {
        file: file.as_deref(),
        command: None,
        variable: context.env.new_passphrase.as_ref(),
        saved: None,
        ways: passphrase::WAYS_NEW,
    }
    .read(&context.ui, "new passphrase", Ask::Twice)
}

fn done(context: &Context, added: Option<u32>, removed: Option<u32>) -> Result<(), Failure> {
    if context.ui.is_json() {
        return context.ui.record(&serde_json::json!({
            "type": "key", "v": 1, "added": added, "removed": removed,
        }));
    }
    match (added, removed) {
        (Some(added), Some(removed)) => context.ui.answer(format_args!(
            "passphrase changed: slot {added} instead of {removed}"
        )),
        (Some(added), None) => context.ui.answer(format_args!("key slot {added} added")),
        (None, Some(removed)) => context
            .ui
            .answer(format_args!("key slot {removed} removed")),
        (None, None) => Ok(()),
    }
}
