//! A model of what several machines do to one storage, checked in every order of their steps.
//!
//! Four models, since one of all would have too many states: `log` is how roots are committed,
//! found and deleted; `packs` is how packs come, are used, and go; `repack` is how they are packed
//! anew; `holds` is how refs keep what homes build on and what is being read. Each takes the others
//! for granted. docs/concurrency.md says what is modelled and how far.
//!
//! Every protection of the protocol can be taken out of its model, and a test shows that the
//! checker then finds the harm: so each is needed, and the model can see what it prevents.

#![allow(clippy::print_stdout)]

mod holds;
mod log;
mod packs;
mod repack;

use stateright::{Checker, HasDiscoveries, Model};
use std::hash::Hash;

/// `ZENITH_MODEL=large` checks more of everything; it takes minutes and gigabytes.
fn is_large() -> bool {
    match std::env::var("ZENITH_MODEL").as_deref() {
        Ok("large") => true,
        Ok(other) => panic!("ZENITH_MODEL is {other:?}; `large` is the only size with a name"),
        Err(_) => false,
    }
}

/// Visits all states: what must always hold does, and what must be possible is.
fn check_all<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + Clone + Hash + PartialEq + Send + Sync + 'static,
    M::Action: std::fmt::Debug + Clone + PartialEq,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, {} deep",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// The model breaks this property, which shows that what was taken out of it is needed.
fn check_breaks<M>(model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + Clone + Hash + PartialEq + Send + Sync + 'static,
    M::Action: std::fmt::Debug + Clone + PartialEq,
{
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AllOf([property].into()))
        .spawn_bfs()
        .join();
    let found = checker.discovery(property);
    let Some(path) = found else {
        panic!(
            "`{property}` holds in all {} states",
            checker.unique_state_count()
        );
    };
    println!(
        "{} states until `{property}` breaks:",
        checker.unique_state_count()
    );
    for action in path.into_actions() {
        println!("  {action:?}");
    }
}

/// The packs in a set, one bit for each.
fn each(set: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |pack| set & 1 << pack != 0)
}
