//! `zenith config`: the settings that hold, and where each comes from.

use zenith::home::Home;

use super::Context;
use crate::error::Failure;
use crate::render::settings;

pub fn run(context: &Context) -> Result<(), Failure> {
    let home = Home::open(&context.home)?;
    let settings = settings::settings(&home.settings()?, &context.env);
    if context.ui.is_json() {
        return settings
            .iter()
            .try_for_each(|setting| context.ui.record(setting));
    }
    context
        .ui
        .talk(format_args!("{}", home.config_path().display()));
    settings::lines(&settings)
        .iter()
        .try_for_each(|line| context.ui.answer(line))
}
