//! Who does something, where and when: what operation logs and snapshots record.

use jiff::Zoned;
use zenith_store::{Operation, Time};

use crate::pg::user;

/// An operation by this user on this machine, now.
pub fn operation(verb: &str, detail: impl Into<String>) -> Operation {
    Operation {
        verb: verb.to_owned(),
        detail: detail.into(),
        who: format!("{}@{}", user::current().name, host()),
        time: now(),
        ..Operation::default()
    }
}

/// Now, with the clock's zone.
pub fn now() -> Time {
    let now = Zoned::now();
    Time {
        unix_micros: now.timestamp().as_microsecond(),
        offset_secs: now.offset().seconds(),
    }
}

/// The name of this machine.
pub fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
