//! `zenith prune`: snapshots that no rule keeps are deleted.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zenith::prune::{self, PruneOptions};
use zenith::retain::{Every, Keep, Limit, Rule, matches};
use zenith::sync::ORIGIN;

use super::Context;
use crate::args::PruneArgs;
use crate::error::Failure;
use crate::progress::Progress;
use crate::render;
use crate::ui::Tone;

pub fn run(args: PruneArgs, context: &Context) -> Result<(), Failure> {
    let rules = rules(&args);
    if rules.is_empty() && args.keep_tag.is_empty() {
        return Err(Failure::Words {
            what: "nothing says which snapshots to keep".to_owned(),
            hint: "Give at least one rule, and look first: `zenith prune --keep-last 10 \
                   --keep-daily 30 --dry-run`."
                .to_owned(),
        });
    }
    let managed = context.open()?;
    let now = Timestamp::now();
    let options = PruneOptions {
        keep: Keep {
            rules,
            tags: args.keep_tag,
            force: args.force,
            zone: TimeZone::system(),
        },
        branch: args.branch,
        dry_run: args.dry_run,
        now: now.as_second(),
    };
    let progress = Progress::of(&context.ui, "pruning");
    let (pruned, state) = if let Some(name) = &args.at.remote {
        let storage = context.storage(&managed, name)?;
        let pruned = prune::prune_storage(&managed, name, &storage, &options)?;
        (pruned, storage.state().map_err(zenith::Error::from)?)
    } else {
        let pruned = prune::prune(&managed, &options)?;
        (pruned, context.state(&managed)?)
    };
    drop(progress);
    let ui = &context.ui;
    for pattern in &options.keep.tags {
        let mut tags = state.refs().keys().filter_map(|n| n.strip_prefix("tag/"));
        if !tags.any(|tag| matches(pattern, tag)) {
            ui.warn(format_args!("no tag fits --keep-tag {pattern}"));
        }
    }
    if ui.is_json() {
        for judged in &pruned.judged {
            ui.record(&render::prune::judged_record(judged, args.dry_run))?;
        }
        return ui.record(&render::prune::pruned_record(&pruned, args.dry_run));
    }
    if args.dry_run || ui.is_verbose() {
        for (i, line) in render::prune::table(&pruned, now).into_iter().enumerate() {
            ui.answer(if i == 0 {
                ui.tone(line, Tone::Faint)
            } else {
                line
            })?;
        }
    }
    for line in render::prune::summary(&pruned, args.dry_run) {
        ui.answer(line)?;
    }
    if let Some(line) = render::prune::only_tagged(&pruned) {
        ui.talk(line);
    }
    if pruned.gone().next().is_some() && !args.dry_run {
        let remote = match args.at.remote.as_deref() {
            Some(ORIGIN) => " --remote".to_owned(),
            Some(name) => format!(" --remote={name}"),
            None => String::new(),
        };
        ui.talk(format_args!("next: zenith gc{remote} frees the space"));
    }
    Ok(())
}

/// What was typed, the finest first.
fn rules(args: &PruneArgs) -> Vec<Rule> {
    let age = |within: Duration| Rule {
        every: Every::Snapshot,
        limit: Limit::Age(i64::try_from(within.as_secs()).unwrap_or(i64::MAX)),
    };
    let counts = [
        (Every::Snapshot, args.keep_last),
        (Every::Hour, args.keep_hourly),
        (Every::Day, args.keep_daily),
        (Every::Week, args.keep_weekly),
        (Every::Month, args.keep_monthly),
        (Every::Year, args.keep_yearly),
    ];
    let count = |(every, count): (Every, Option<u32>)| {
        let limit = Limit::Count(count?);
        Some(Rule { every, limit })
    };
    let within = args.keep_within.map(age);
    within
        .into_iter()
        .chain(counts.into_iter().filter_map(count))
        .collect()
}
