//! The key slots of an encrypted repository.

use jiff::Timestamp;
use serde_json::{Value, json};
use zenith::store;
use zenith::store::seal::slot::SlotInfo;

use super::table::{Align, Table};
use super::time::{age_of, moment, rfc3339};

type Slot = store::Result<SlotInfo>;

/// One line per slot, after the title.
pub fn lines(slots: &[(u32, Slot)], now: Timestamp) -> Vec<String> {
    let mut table = Table::new(&[
        ("SLOT", Align::Right),
        ("AGE", Align::Right),
        ("ADDED", Align::Left),
        ("BY", Align::Left),
    ]);
    for (number, slot) in slots {
        let cells = match slot {
            Ok(slot) => [
                age_of(slot.time.unix_micros, now),
                moment(slot.time.unix_micros, slot.time.offset_secs),
                slot.label.clone(),
            ],
            Err(e) => ["-".to_owned(), "-".to_owned(), e.to_string()],
        };
        table.row(std::iter::once(number.to_string()).chain(cells).collect());
    }
    table.lines()
}

/// One slot for programs.
pub fn record(number: u32, slot: &Slot) -> Value {
    match slot {
        Ok(slot) => json!({
            "type": "key_slot", "v": 1,
            "slot": number,
            "label": slot.label,
            "time": rfc3339(slot.time.unix_micros, slot.time.offset_secs),
            "key_id": slot.key_id,
            "memory_kib": slot.kdf.memory_kib,
            "passes": slot.kdf.passes,
            "lanes": slot.kdf.lanes,
            "error": null,
        }),
        Err(e) => json!({
            "type": "key_slot", "v": 1,
            "slot": number,
            "label": null,
            "time": null,
            "key_id": null,
            "memory_kib": null,
            "passes": null,
            "lanes": null,
            "error": e.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zenith::store::Time;
    use zenith::store::seal::slot::Kdf;

    #[test]
    fn slots_are_listed_with_who_and_when_and_a_damaged_one_with_why() {
        let time = Time {
            unix_micros: 1_790_000_000_000_000,
            offset_secs: 3600,
        };
        let slot = SlotInfo {
            number: 0,
            key_id: "00".repeat(16),
            label: "ann@db1".into(),
            time,
            kdf: Kdf::default(),
        };
        let damaged = store::Error::Damaged {
            what: "key slot 12".into(),
            location: "/srv/store".into(),
            why: "it has another hash".into(),
        };
        let slots = [(0, Ok(slot)), (12, Err(damaged))];
        let now = Timestamp::from_microsecond(time.unix_micros + 7_200_000_000).unwrap();
        insta::assert_snapshot!(lines(&slots, now).join("\n"), @r"
        SLOT  AGE  ADDED                       BY
           0  2 h  2026-09-21 15:13:20 +01:00  ann@db1
          12    -  -                           key slot 12 at /srv/store is damaged: it has another hash
        ");
        assert_eq!(record(0, &slots[0].1)["label"], "ann@db1");
        assert!(record(12, &slots[1].1)["error"].is_string());
    }
}
