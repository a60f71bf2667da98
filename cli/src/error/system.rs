//! Hints where the operating system says no.

use std::io;

pub fn hints(source: &io::Error) -> Vec<String> {
    let hint = match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "Run it as the user that owns the place, or as root, which becomes that user."
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "No space is left: make room and run the same command again; `df -h` shows where."
        }
        io::ErrorKind::ReadOnlyFilesystem => "Name a place on a file system that can be written.",
        io::ErrorKind::NotFound => "Check the path; a relative one counts from here.",
        _ => "Look at the disk (`dmesg`), then run the same command again.",
    };
    vec![hint.to_owned()]
}
