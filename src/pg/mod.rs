//! What PostgreSQL is. Nothing here mentions zenith.
