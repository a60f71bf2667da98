//! What people see, without a server: the binary is run and its words are compared.

mod complete;
mod diff;
mod help;
mod log;
mod made_up;
mod manners;
mod names;
mod pager;
mod prune;
mod revisions;
mod shapes;
mod shells;
mod zenith;
