//! How answers look: one file per noun, each with its lines for people and its JSON.

pub mod diff;
pub mod fetch;
pub mod glyphs;
pub mod graph;
pub mod key;
pub mod log;
pub mod place;
pub mod prune;
pub mod push;
pub mod refs;
pub mod remote;
pub mod rows;
pub mod settings;
pub mod size;
pub mod snapshot;
pub mod status;
pub mod table;
pub mod time;
pub mod value;
