//! What happens: one file per verb.

mod completions;
mod config;
mod man;

use std::path::{Path, PathBuf};

use crate::args::Verb;
use crate::config::Environment;
use crate::error::Failure;
use crate::ui::Ui;

/// All that a command works with beside its own words.
pub struct Context {
    pub ui: Ui,
    pub env: Environment,
    /// Where the home is or would be.
    pub home: PathBuf,
}

impl Context {
    pub fn new(ui: Ui, env: Environment, home: Option<&Path>) -> Self {
        let home = env.find_home(home);
        Self { ui, env, home }
    }
}

pub fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Config(_) => config::run(context),
        Verb::Completions(args) => completions::run(&args, context),
        Verb::Man(args) => man::run(&args, context),
    }
}
