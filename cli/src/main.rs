//! The `zenith` command.
fn main() {}
