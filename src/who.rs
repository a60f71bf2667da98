//! Who does something, where and when: what operation logs and snapshots record.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zenith_store::{Operation, Time, World};

use crate::pg::user;

/// Verbs by which the operation log is told apart.
pub mod verb {
    /// A snapshot of the agent.
    pub const AGENT: &str = "agent";
    /// Space is freed.
    pub const GC: &str = "gc";
    /// Old automatic snapshots go.
    pub const THIN: &str = "thin";
    /// What a home has goes to a storage.
    pub const PUSH: &str = "push";
    /// What a storage has, or where it stands, comes home.
    pub const FETCH: &str = "fetch";
    /// What a storage has comes home, and the branch and the cluster move there.
    pub const PULL: &str = "pull";
    /// Packs go to a storage under other names.
    pub const RENAME_PACKS: &str = "rename packs";
    /// Where a remote is, or that it is none any more.
    pub const REMOTE: &str = "remote";
    /// What nobody means who types `undo`.
    pub const BY_ITSELF: [&str; 6] = [AGENT, GC, THIN, PUSH, FETCH, RENAME_PACKS];
}

/// An operation by this user on this machine, now.
pub fn operation(world: &World, verb: &str, detail: impl Into<String>) -> Operation {
    Operation {
        verb: verb.to_owned(),
        detail: detail.into(),
        who: format!("{}@{}", user::current().name, host()),
        time: now(world),
        ..Operation::default()
    }
}

/// Now, with the zone of this machine.
pub fn now(world: &World) -> Time {
    let now = utc(world).to_zoned(TimeZone::system());
    Time {
        unix_micros: now.timestamp().as_microsecond(),
        offset_secs: now.offset().seconds(),
    }
}

/// Now; the nearest time that has a date, where a clock says nonsense.
pub fn utc(world: &World) -> Timestamp {
    let micros = world.unix_micros();
    let limit = if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_microsecond(micros).unwrap_or(limit)
}

/// Seconds since 1970, UTC.
pub fn seconds(world: &World) -> i64 {
    world.unix_micros().div_euclid(1_000_000)
}

/// The name of this machine.
pub fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
