//! `zenith man`: manual pages, generated from the same definitions as everything else.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use super::Context;
use crate::args::{self, ManArgs};
use crate::error::Failure;

pub fn run(args: &ManArgs, context: &Context) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let page = page(args::command())?;
        if context.ui.is_json() {
            return context.ui.record(&serde_json::json!({
                "type": "man_page", "v": 1, "name": "zenith.1",
                "page": String::from_utf8_lossy(&page),
            }));
        }
        return context.ui.raw(&page);
    };
    let dir = context.env.absolute(dir);
    let pages = write(&args::command(), "zenith", &dir)?;
    if context.ui.is_json() {
        return context.ui.record(&serde_json::json!({
            "type": "man_pages", "v": 1, "dir": dir, "pages": pages,
        }));
    }
    context
        .ui
        .answer(format_args!("{pages} manual pages in {}", dir.display()))
}

/// One page for the command and each of its visible subcommands, named as git names its own; how
/// many.
fn write(command: &Command, name: &str, dir: &Path) -> Result<u32, Failure> {
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page(command.clone().name(name.to_owned()))?).map_err(|source| {
        zenith::Error::Io {
            verb: "write",
            path,
            source,
        }
    })?;
    let mut pages = 1;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages += write(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(pages)
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(Failure::Output)?;
    Ok(page)
}
