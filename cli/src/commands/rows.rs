//! `zenith diff --rows`: the rows of one table that differ between two snapshots, or between one
//! and the managed cluster as it is.

use std::fmt::Write as _;

use zenith::rows::{Difference, Plan, Side};
use zenith::scratch;
use zenith::store::SnapshotId;
use zenith::table::TableName;

use super::Context;
use super::scratch::{explain, keeper, resolve, serve};
use crate::args::ScratchArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render::rows;

/// Lines that are written together.
const OUT_BYTES: usize = 1 << 16;

/// Whether any row differs. Without `new` the running server of the managed cluster is read.
pub fn run(
    context: &Context,
    old: &str,
    new: Option<&str>,
    table: &str,
    args: &ScratchArgs,
) -> Result<bool, Failure> {
    let name = TableName::parse(table).map_err(zenith::Error::from)?;
    let asked = args.dbname.as_deref().or(name.database());
    let keeper = keeper(&context.ui)?;
    let managed = context.open()?;
    let before = resolve(context, &managed, old)?;
    let after = new.map(|new| resolve(context, &managed, new)).transpose()?;
    // Before anything is made for it.
    let now = match after {
        Some(_) => None,
        None => Some(scratch::connect_managed(
            &managed,
            args.username.as_deref(),
            asked,
        )?),
    };
    let first = serve(context, &managed, &keeper, before, args)?;
    let second = match after {
        Some(id) => Some(serve(context, &managed, &keeper, id, args)?),
        None => None,
    };
    let place = |id: SnapshotId| format!("snapshot {}", id.short());
    let (right, database, there) = match (&second, now) {
        (Some(second), _) => {
            let database = second.database(asked)?;
            (second.connect(&database)?, database, place(second.id()))
        }
        (None, Some((client, database))) => (client, database, "the managed cluster".to_owned()),
        (None, None) => return Err(Failure::Bug("there is nothing to compare with".to_owned())),
    };
    let left = first.connect(&first.database(Some(&database))?)?;
    let here = place(before);
    let differ = Side::pair(&name, (left, &here), (right, &there))
        .map_err(Failure::from)
        .and_then(|(left, right)| tell(context, before, after, left, right));
    let differ = differ.map_err(|e| match &second {
        Some(second) => explain(explain(e, &first), second),
        None => explain(e, &first),
    })?;
    for server in [Some(first), second].into_iter().flatten() {
        server.close()?;
    }
    Ok(differ)
}

/// Compares and answers; whether any row differs.
fn tell(
    context: &Context,
    before: SnapshotId,
    after: Option<SnapshotId>,
    mut left: Side,
    mut right: Side,
) -> Result<bool, Failure> {
    let ui = &context.ui;
    let plan = Plan::make(&mut left, &mut right)?;
    let table = left.table.clone().or(right.table.clone());
    let table = table.ok_or_else(|| Failure::Bug("neither side has the table".to_owned()))?;
    let head = || -> Result<(), Failure> {
        if ui.is_json() {
            let (old, new) = (before.to_string(), after.map(|id| id.to_string()));
            return ui.record(&rows::head_record(&table, &old, new.as_deref(), &plan));
        }
        let new = after.map_or("cluster".to_owned(), |id| id.short());
        let mut lines = rows::head(&table, &before.short(), &new, &plan, ui.glyphs()).into_iter();
        lines.try_for_each(|line| ui.answer(line))
    };
    // Until the first row that differs there is only progress to show, and a pager takes the
    // terminal from it.
    let mut progress = ui.draws().then(|| Progress::of(ui, "comparing rows"));
    if progress.is_none() {
        head()?;
    }
    let mut out = String::new();
    let mut line_out = |difference: Difference<'_>| -> Result<(), Failure> {
        if progress.take().is_some() {
            head()?;
        }
        let line = if ui.is_json() {
            rows::record(&plan, difference)
        } else {
            rows::line(&plan, difference, ui.glyphs())
        };
        let _ = writeln!(out, "{line}");
        if out.len() >= OUT_BYTES {
            ui.raw(out.as_bytes())?;
            out.clear();
        }
        Ok(())
    };
    let counts = plan.run(&mut left, &mut right, &mut line_out)?;
    if progress.take().is_some() {
        head()?;
    }
    ui.raw(out.as_bytes())?;
    if ui.is_json() {
        ui.record(&rows::summary_record(&counts))?;
    } else {
        ui.answer(rows::summary(&counts))?;
    }
    Ok(counts.differ())
}
