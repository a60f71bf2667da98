//! Configuration files that a checkout gets beyond those of the tree.

use crate::facts::Facts;

/// Settings that would lead a copy to the files of the original, or to files that are not here.
const NEUTRAL: [&str; 7] = [
    "data_directory",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "include",
    "include_dir",
    "include_if_exists",
];

/// The files that lay outside PGDATA and that the tree lacks: name in PGDATA → content.
pub(crate) fn missing(facts: &Facts, has: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let wanted = facts.outside_files.iter().filter(|file| {
        // A name from a snapshot leads nowhere else.
        matches!(
            file.name.as_str(),
            "postgresql.conf" | "pg_hba.conf" | "pg_ident.conf"
        ) && !has(&file.name)
    });
    wanted
        .map(|file| {
            let is_main = file.name == "postgresql.conf";
            let bytes = if is_main {
                neutralise(&file.bytes)
            } else {
                file.bytes.clone()
            };
            (file.name.clone(), bytes)
        })
        .collect()
}

/// `postgresql.conf` with the settings above as comments.
fn neutralise(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let text = line.trim_ascii_start();
        let end = text
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'));
        let name = &text[..end.unwrap_or(text.len())];
        if NEUTRAL
            .iter()
            .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
        {
            out.extend_from_slice(b"# not in this copy: ");
        }
        out.extend_from_slice(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::OutsideFile;

    #[test]
    fn what_leads_to_the_original_becomes_a_comment() {
        let text = "data_directory = '/var/lib/x'\n  HBA_FILE='/etc/x'\nport = 5432\n\
                    include_dir 'conf.d'\n#include 'x'\ninclude_x = 1";
        let expect = "# not in this copy: data_directory = '/var/lib/x'\n\
                      # not in this copy:   HBA_FILE='/etc/x'\nport = 5432\n\
                      # not in this copy: include_dir 'conf.d'\n#include 'x'\ninclude_x = 1";
        assert_eq!(
            String::from_utf8(neutralise(text.as_bytes())).unwrap(),
            expect
        );
    }

    #[test]
    fn only_missing_files_of_known_names_are_written() {
        let file = |name: &str| OutsideFile {
            name: name.into(),
            path: format!("/etc/{name}"),
            bytes: b"x".to_vec(),
        };
        let outside_files = vec![file("pg_hba.conf"), file("pg_ident.conf"), file("../evil")];
        let facts = Facts {
            outside_files,
            ..Facts::default()
        };
        let missing = missing(&facts, |name| name == "pg_hba.conf");
        assert_eq!(missing, [("pg_ident.conf".to_owned(), b"x".to_vec())]);
    }
}
