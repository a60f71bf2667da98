//! How answers look: one file per noun, each with its lines for people and its JSON.

pub mod settings;
pub mod size;
pub mod table;
pub mod time;
