//! backup_label: where replay of a backup must begin.

use super::lsn::Lsn;
use super::{Error, Result};

/// What backup_label says (build_backup_content in
/// src/backend/access/transam/xlogbackup.c). The file itself is kept byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The redo position of the backup's checkpoint: the first WAL that is needed.
    pub start_lsn: Lsn,
    pub start_segment: String,
    pub checkpoint_lsn: Lsn,
    /// BACKUP FROM: standby
    pub from_standby: bool,
    pub timeline: u32,
    /// START TIME as written, in the server's log_timezone.
    pub start_time: String,
    pub label: String,
    /// Of an incremental backup (17 and later), which is no cluster on its own.
    pub incremental_from: Option<Lsn>,
}

impl Label {
    pub fn parse(bytes: &[u8]) -> Result<Label> {
        let bad = |reason: String| Error::BadLabel { reason };
        let text = String::from_utf8_lossy(bytes);
        // The label may contain anything but line breaks, so that the first line with a
        // key is the one: the label comes late, and the timeline's line after it begins
        // a line of its own.
        let find = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
                .map(str::trim_end)
        };
        let need = |key: &str| find(key).ok_or_else(|| bad(format!("it has no {key}")));
        let lsn_of = |key: &str, text: &str| {
            text.parse::<Lsn>()
                .map_err(|_| bad(format!("{key} is `{text}`")))
        };

        let key = "START WAL LOCATION";
        let start = need(key)?;
        let (lsn, segment) = start
            .split_once(" (file ")
            .and_then(|(lsn, rest)| Some((lsn, rest.strip_suffix(')')?)))
            .ok_or_else(|| bad(format!("{key} is `{start}`")))?;
        let key = "CHECKPOINT LOCATION";
        let checkpoint_lsn = lsn_of(key, need(key)?)?;
        let from = need("BACKUP FROM")?;
        let timeline = need("START TIMELINE")?;
        Ok(Label {
            start_lsn: lsn_of("START WAL LOCATION", lsn)?,
            start_segment: segment.to_owned(),
            checkpoint_lsn,
            from_standby: match from {
                "primary" => false,
                "standby" => true,
                other => return Err(bad(format!("BACKUP FROM is `{other}`"))),
            },
            timeline: timeline
                .parse()
                .map_err(|_| bad(format!("START TIMELINE is `{timeline}`")))?,
            start_time: find("START TIME").unwrap_or_default().to_owned(),
            label: find("LABEL").unwrap_or_default().to_owned(),
            incremental_from: find("INCREMENTAL FROM LSN")
                .map(|text| lsn_of("INCREMENTAL FROM LSN", text))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "START WAL LOCATION: 16/3000028 (file 000000020000001600000003)
CHECKPOINT LOCATION: 16/3000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-22 06:52:54 UTC
LABEL: before: the migration
START TIMELINE: 2
";

    #[test]
    fn a_label_is_read() {
        assert_eq!(
            Label::parse(LABEL.as_bytes()).unwrap(),
            Label {
                start_lsn: Lsn(0x16_0300_0028),
                start_segment: "000000020000001600000003".into(),
                checkpoint_lsn: Lsn(0x16_0300_0060),
                from_standby: false,
                timeline: 2,
                start_time: "2026-11-22 06:52:54 UTC".into(),
                label: "before: the migration".into(),
                incremental_from: None,
            }
        );
        let standby = LABEL.replace("primary", "standby") + "INCREMENTAL FROM LSN: 16/2000028\n";
        let standby = Label::parse(standby.as_bytes()).unwrap();
        assert!(standby.from_standby);
        assert_eq!(standby.incremental_from, Some(Lsn(0x16_0200_0028)));
    }

    #[test]
    fn damaged_labels_are_refused() {
        for (from, to) in [
            ("START WAL", "WAL"),
            (" (file 000000020000001600000003)", ""),
            ("16/3000060", "elsewhere"),
            ("primary", "nowhere"),
            ("TIMELINE: 2", "TIMELINE: x"),
        ] {
            let text = LABEL.replace(from, to);
            assert!(
                matches!(Label::parse(text.as_bytes()), Err(Error::BadLabel { .. })),
                "{to}"
            );
        }
        assert!(Label::parse(b"").is_err());
    }
}
