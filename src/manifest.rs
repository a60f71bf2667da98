//! `backup_manifest`, byte for byte as PostgreSQL writes it, so that `pg_verifybackup` and
//! `UPLOAD_MANIFEST` accept it (src/backend/backup/backup_manifest.c).
//!
//! Version 1 belongs to PostgreSQL 13 to 16; version 2 adds the system identifier, from 17 on.
//! Files below `pg_wal` and the manifest itself are not listed; files of tablespaces are listed
//! as `pg_tblspc/<oid>/…`.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::pg::lsn::Lsn;

/// The name of the file, in PGDATA or beside the tar files.
pub const FILE_NAME: &str = "backup_manifest";

/// What a manifest says about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Path relative to PGDATA, '/'-separated. Bytes, since a name need not be UTF-8.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970, UTC.
    pub modified: i64,
    /// CRC-32C of the whole content.
    pub crc32c: u32,
}

/// The WAL that a start on the backup replays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRange {
    /// Timeline of both ends.
    pub timeline: u32,
    /// Redo location of the backup's checkpoint.
    pub start: Lsn,
    /// The location up to which WAL must be replayed.
    pub end: Lsn,
}

/// The content of a `backup_manifest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// PostgreSQL major of the cluster; it decides the manifest's version.
    pub major: u32,
    /// From pg_control; written from version 2 on.
    pub system_identifier: u64,
    /// In the order in which they are written.
    pub files: Vec<ManifestFile>,
    /// Empty where no WAL is needed or known.
    pub wal: Vec<WalRange>,
}

impl Manifest {
    /// Whether a file of PGDATA belongs into a manifest.
    pub fn lists(path: &str) -> bool {
        path != FILE_NAME && !path.starts_with("pg_wal/")
    }

    /// The bytes of the file.
    pub fn render(&self) -> Vec<u8> {
        let mut out = String::with_capacity(256 + self.files.len() * 160);
        if self.major >= 17 {
            out.push_str("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n");
            let _ = writeln!(out, "\"System-Identifier\": {},", self.system_identifier);
        } else {
            out.push_str("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n");
        }
        out.push_str("\"Files\": [");
        for (i, file) in self.files.iter().enumerate() {
            out.push_str(if i == 0 { "\n" } else { ",\n" });
            write_file(&mut out, file);
        }
        out.push_str("\n],\n\"WAL-Ranges\": [\n");
        for (i, range) in self.wal.iter().enumerate() {
            let comma = if i == 0 { "" } else { ",\n" };
            let WalRange {
                timeline,
                start,
                end,
            } = range;
            let _ = write!(
                out,
                "{comma}{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \
                 \"End-LSN\": \"{end}\" }}",
            );
        }
        out.push_str("\n],\n");
        // The checksum covers everything before the line that holds it.
        let digest = hex(&Sha256::digest(out.as_bytes()));
        let _ = writeln!(out, "\"Manifest-Checksum\": \"{digest}\"}}");
        out.into_bytes()
    }
}

fn write_file(out: &mut String, file: &ManifestFile) {
    match std::str::from_utf8(&file.path) {
        // serde_json escapes exactly what PostgreSQL's escape_json does.
        Ok(path) => {
            let _ = write!(out, "{{ \"Path\": {}, ", serde_json::Value::from(path));
        }
        Err(_) => {
            let _ = write!(out, "{{ \"Encoded-Path\": \"{}\", ", hex(&file.path));
        }
    }
    let _ = write!(
        out,
        "\"Size\": {}, \"Last-Modified\": \"{}\", \"Checksum-Algorithm\": \"CRC32C\", \
         \"Checksum\": \"{}\" }}",
        file.size,
        gmt(file.modified),
        // PostgreSQL prints the value as it lies in memory, which is little endian everywhere
        // it matters; pg_verifybackup compares in the same way.
        hex(&file.crc32c.to_le_bytes()),
    );
}

/// `2026-08-24 10:00:00 GMT`; a time outside the calendar is written as its nearest end.
fn gmt(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    time.strftime("%Y-%m-%d %H:%M:%S GMT").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> ManifestFile {
        let crc32c = crc32c::crc32c(b"15\n");
        ManifestFile {
            path: path.to_vec(),
            size: 3,
            modified: 1_787_565_600,
            crc32c,
        }
    }

    /// Written by pg_basebackup 15, all but one of its files cut out.
    const FROM_PG_15: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "PG_VERSION", "Size": 3, "Last-Modified": "2026-11-22 06:58:12 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "8a744722" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
],
"#;

    #[test]
    fn version_1_has_the_bytes_of_postgresql_15() {
        let manifest = Manifest {
            major: 15,
            system_identifier: 7,
            files: vec![ManifestFile {
                modified: 1_795_330_692,
                ..file(b"PG_VERSION")
            }],
            wal: vec![WalRange {
                timeline: 1,
                start: Lsn(0x2000028),
                end: Lsn(0x2000100),
            }],
        };
        let text = String::from_utf8(manifest.render()).unwrap();
        let (body, tail) = text.split_at(text.find("\"Manifest-Checksum\"").unwrap());
        assert_eq!(body, FROM_PG_15);
        let sum = hex(&Sha256::digest(body.as_bytes()));
        assert_eq!(tail, format!("\"Manifest-Checksum\": \"{sum}\"}}\n"));
    }

    #[test]
    fn version_2_names_the_system() {
        for (major, version) in [(15, 1), (16, 1), (17, 2), (18, 2)] {
            let manifest = Manifest {
                major,
                system_identifier: 7_301_234_567_890_123_456,
                files: vec![],
                wal: vec![],
            };
            let text = String::from_utf8(manifest.render()).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["PostgreSQL-Backup-Manifest-Version"], version);
            let named = json["System-Identifier"].as_u64();
            assert_eq!(named, (version == 2).then_some(7_301_234_567_890_123_456));
        }
    }

    #[test]
    fn names_outside_utf_8_are_encoded_and_odd_ones_escaped() {
        let manifest = Manifest {
            major: 18,
            system_identifier: 1,
            files: vec![file(b"a\"b\n\x01"), file(b"\xff\x00")],
            wal: vec![],
        };
        let text = String::from_utf8(manifest.render()).unwrap();
        assert!(
            text.contains(r#"{ "Path": "a\"b\n\u0001", "Size": 3"#),
            "{text}"
        );
        assert!(
            text.contains(r#"{ "Encoded-Path": "ff00", "Size": 3"#),
            "{text}"
        );
        assert!(text.contains("\"2026-08-24 10:00:00 GMT\""), "{text}");
    }

    #[test]
    fn wal_and_the_manifest_itself_are_not_listed() {
        for (path, listed) in [
            ("base/1/1259", true),
            ("backup_label", true),
            ("pg_wal/000000010000000000000002", false),
            ("backup_manifest", false),
            ("base/backup_manifest", true),
        ] {
            assert_eq!(Manifest::lists(path), listed, "{path}");
        }
    }
}
