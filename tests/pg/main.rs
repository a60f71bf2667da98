//! The real program against real servers: everything a user relies on, end to end.
//!
//! One module for each topic. What is random prints its seed; `ZENITH_SEED` replays it and
//! `ZENITH_SOAK=1` makes load, size and number of rounds larger.

mod support;

mod clone;
mod diff;
mod errors;
mod harmless;
mod history;
mod idle;
mod inplace;
mod json;
mod kill;
mod load;
mod log;
mod loss;
mod manners;
mod reader;
mod repair;
mod scenarios;
mod scratch;
mod sealed;
mod storage;
mod tablespaces;
mod unreachable;
mod verify;
mod versions;
