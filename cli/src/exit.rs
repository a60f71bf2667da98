//! Exit codes: documented in docs/exit-codes.md, pinned by a test, never renumbered.

use zenith::ErrorKind;

/// It worked.
pub const OK: u8 = 0;
/// The request was wrong, or it names something that does not exist.
pub const INVALID: u8 = 1;
/// There are differences, for `diff --exit-code` and as with git; there a wrong request is
/// [`USAGE`].
pub const DIFFERS: u8 = INVALID;
/// The command line could not be understood.
pub const USAGE: u8 = 2;
/// The question was understood and the answer is no (`status --max-age`).
pub const NO: u8 = 3;
/// Something is running, locked, or has moved meanwhile.
pub const CONFLICT: u8 = 4;
/// A storage, network or server does not answer now.
pub const UNAVAILABLE: u8 = 5;
/// Made by a newer zenith, or by a PostgreSQL this zenith does not know.
pub const UNSUPPORTED: u8 = 6;
/// Stored data is not what was stored.
pub const DAMAGED: u8 = 7;
/// This machine refuses: permissions, a full disk, a missing program.
pub const IO: u8 = 8;
/// A bug in zenith. (130 is what shells make of SIGINT, which ends zenith at once: what was
/// committed stands, and the same command goes on from there.)
pub const INTERNAL: u8 = 70;

/// The code of each kind of error.
pub fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::NotFound => INVALID,
        ErrorKind::Conflict => CONFLICT,
        ErrorKind::Unavailable => UNAVAILABLE,
        ErrorKind::Unsupported => UNSUPPORTED,
        ErrorKind::Damaged => DAMAGED,
        ErrorKind::Io => IO,
        ErrorKind::Internal => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_documented_code() {
        let documented = [
            (ErrorKind::Invalid, 1),
            (ErrorKind::NotFound, 1),
            (ErrorKind::Conflict, 4),
            (ErrorKind::Unavailable, 5),
            (ErrorKind::Unsupported, 6),
            (ErrorKind::Damaged, 7),
            (ErrorKind::Io, 8),
            (ErrorKind::Internal, 70),
        ];
        for (kind, code) in documented {
            assert_eq!(of(kind), code, "{kind:?}");
        }
        let page = include_str!("../../docs/exit-codes.md");
        let codes = page.lines().filter_map(|line| {
            let code = line.strip_prefix("| ")?.split(' ').next()?;
            code.parse::<u8>().ok()
        });
        let all = [
            OK,
            INVALID,
            USAGE,
            NO,
            CONFLICT,
            UNAVAILABLE,
            UNSUPPORTED,
            DAMAGED,
            IO,
            INTERNAL,
            130,
        ];
        assert_eq!(codes.collect::<Vec<_>>(), all);
    }
}
