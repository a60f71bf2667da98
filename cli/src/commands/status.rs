//! `zenith status`: how things stand.

use jiff::Timestamp;
use zenith::status;

use super::Context;
use crate::args::StatusArgs;
use crate::error::Failure;
use crate::render;

pub fn run(args: &StatusArgs, context: &Context) -> Result<(), Failure> {
    let managed = context.open()?;
    let status = status::status(&managed, &context.around())?;
    let now = Timestamp::now();
    if context.ui.is_json() {
        context.ui.record(&render::status::record(&status, now))?;
    } else {
        for line in render::status::lines(&status, now) {
            context.ui.answer(line)?;
        }
    }
    let Some(limit) = args.max_age else {
        return Ok(());
    };
    match render::status::too_old(status.push_age(), limit.as_secs()) {
        None => Ok(()),
        Some(why) => {
            context.ui.warn(why);
            Err(Failure::No)
        }
    }
}
