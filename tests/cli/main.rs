//! What people see, without a server: the binary is run and its words are compared.

mod help;
mod manners;
mod zenith;
