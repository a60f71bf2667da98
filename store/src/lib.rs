//! A content-addressed store: bytes ⇄ ids.
