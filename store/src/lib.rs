//! A content-addressed store: bytes ⇄ ids.
pub mod objects;
