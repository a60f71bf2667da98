//! Which snapshots to keep. Pure: rows, a policy and a time in, a verdict for every row out.
//!
//! Only automatic snapshots are ever thinned. What a person asked for (manual, import, init,
//! final and safety snapshots) and what a name points at (branches, tags, what a remote is known
//! to have) stays, whatever its age.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zenith_store::{SnapshotId, SnapshotKind, State};

use crate::history::History;
use crate::settings::KeepSettings;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// A mean month of the Gregorian calendar; only the far end of the policy is measured in it.
const MONTH: i64 = 2_629_746;

/// How long automatic snapshots stay, and how densely. Each line holds on top of the others: a
/// snapshot stays when any of them wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Every snapshot of the last so many hours.
    pub all_hours: u32,
    /// The newest of every hour, for so many days.
    pub hourly_days: u32,
    /// The newest of every day, for so many days.
    pub daily_days: u32,
    /// The newest of every month, for so many months.
    pub monthly_months: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            all_hours: 2,
            hourly_days: 2,
            daily_days: 30,
            monthly_months: 12,
        }
    }
}

impl From<&KeepSettings> for Policy {
    fn from(keep: &KeepSettings) -> Policy {
        Policy {
            all_hours: keep.all_hours,
            hourly_days: keep.hourly_days,
            daily_days: keep.daily_days,
            monthly_months: keep.monthly_months,
        }
    }
}

/// What the policy is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was begun, in seconds since 1970, UTC.
    pub time: i64,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// Full names of the refs that point at it.
    pub refs: Vec<String>,
    /// Snapshots of different lines never thin each other: the branch it lies on, or nothing.
    pub line: String,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It was not taken automatically.
    Kind(SnapshotKind),
    /// This ref points at it.
    Ref(String),
    /// It is younger than anything is thinned.
    Recent,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its month.
    Monthly,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep(Reason),
    /// It goes.
    Drop,
}

/// A verdict for every candidate, in their order. `now` is in seconds since 1970, UTC.
///
/// Hours, days and months are those of UTC, so that a clock change neither merges nor splits
/// them. A snapshot from the future is recent.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: i64) -> Vec<Verdict> {
    let newest_of = |bucket: fn(i64) -> i64| {
        let mut newest: BTreeMap<(&str, i64), (i64, usize)> = BTreeMap::new();
        for (i, candidate) in candidates
            .iter()
            .enumerate()
            .filter(|(_, c)| is_automatic(c))
        {
            let seat = newest
                .entry((&candidate.line, bucket(candidate.time)))
                .or_default();
            *seat = (*seat).max((candidate.time, i));
        }
        newest
            .into_values()
            .map(|(_, i)| i)
            .collect::<BTreeSet<usize>>()
    };
    let hourly = newest_of(|time| time.div_euclid(HOUR));
    let daily = newest_of(|time| time.div_euclid(DAY));
    let monthly = newest_of(month);

    let verdict = |(i, candidate): (usize, &Candidate)| {
        let age = now - candidate.time;
        let within = |count: u32, unit: i64| age <= i64::from(count) * unit;
        Verdict::Keep(if !is_automatic(candidate) {
            Reason::Kind(candidate.kind)
        } else if let Some(name) = candidate.refs.first() {
            Reason::Ref(name.clone())
        } else if within(policy.all_hours, HOUR) {
            Reason::Recent
        } else if hourly.contains(&i) && within(policy.hourly_days, DAY) {
            Reason::Hourly
        } else if daily.contains(&i) && within(policy.daily_days, DAY) {
            Reason::Daily
        } else if monthly.contains(&i) && within(policy.monthly_months, MONTH) {
            Reason::Monthly
        } else {
            return Verdict::Drop;
        })
    };
    candidates.iter().enumerate().map(verdict).collect()
}

/// The candidates of a repository, in the order of its table. `also` names snapshots that stay
/// although no ref points at them, each with the reason as a name: where a detached HEAD stands.
pub fn candidates(state: &State, also: &[(SnapshotId, &str)]) -> Vec<Candidate> {
    let mut refs: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    for (name, id) in state.refs() {
        refs.entry(*id).or_default().push(name.clone());
    }
    for (id, name) in also {
        refs.entry(*id).or_default().push((*name).to_owned());
    }
    // The line of a snapshot is the first branch, by name, that reaches it through first parents.
    let history = History::of(state);
    let mut lines: BTreeMap<SnapshotId, &str> = BTreeMap::new();
    for (name, tip) in state
        .refs()
        .iter()
        .filter(|(name, _)| name.starts_with("branch/"))
    {
        for node in history.first_parents(*tip) {
            // From here on the way is that of a branch already seen.
            let Entry::Vacant(seat) = lines.entry(node.id) else {
                break;
            };
            seat.insert(name);
        }
    }
    let candidate = |row: &zenith_store::Row| Candidate {
        id: row.id,
        time: row.time.unix_micros.div_euclid(1_000_000),
        kind: row.kind,
        refs: refs.remove(&row.id).unwrap_or_default(),
        line: lines.get(&row.id).copied().unwrap_or_default().to_owned(),
    };
    state.snapshots().map(candidate).collect()
}

fn is_automatic(candidate: &Candidate) -> bool {
    candidate.kind == SnapshotKind::Automatic
}

/// Months since year 0; a time outside the calendar counts as month 0.
fn month(time: i64) -> i64 {
    Timestamp::from_second(time).map_or(0, |t| {
        let date = t.to_zoned(TimeZone::UTC).date();
        i64::from(date.year()) * 12 + i64::from(date.month())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn now() -> i64 {
        at("2026-11-22T12:30:00Z")
    }

    fn automatic(n: u64, time: i64) -> Candidate {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let id = SnapshotId(id);
        let kind = SnapshotKind::Automatic;
        Candidate {
            id,
            time,
            kind,
            refs: vec![],
            line: "branch/main".into(),
        }
    }

    /// One automatic snapshot every `step` seconds for `span` seconds up to now, newest first.
    fn every(step: i64, span: i64) -> Vec<Candidate> {
        (0..=span / step)
            .map(|i| automatic(i as u64, now() - i * step))
            .collect()
    }

    fn kept(candidates: &[Candidate]) -> Vec<(i64, Reason)> {
        let verdicts = decide(candidates, &Policy::default(), now());
        assert_eq!(verdicts.len(), candidates.len());
        let keep = |(candidate, verdict): (&Candidate, Verdict)| match verdict {
            Verdict::Keep(reason) => Some((candidate.time, reason)),
            Verdict::Drop => None,
        };
        candidates.iter().zip(verdicts).filter_map(keep).collect()
    }

    #[test]
    fn a_year_and_a_half_of_five_minutes_keeps_what_the_policy_says() {
        let kept = kept(&every(5 * MINUTE, 550 * DAY));
        let count = |reason: Reason| kept.iter().filter(|(_, r)| *r == reason).count();
        // 12:30 back to 10:30, both ends included.
        assert_eq!(count(Reason::Recent), 25);
        // The newest of the hours from 12:55 two days ago to 9:55 today. 10:55 to 12:30 are recent.
        assert_eq!(count(Reason::Hourly), 46);
        // The newest of each day from 30 days ago to three days ago; later ones count as hourly.
        assert_eq!(count(Reason::Daily), 28);
        // The last of the months from November 2025; October 2026 counts as daily.
        assert_eq!(count(Reason::Monthly), 11);
    }

    #[test]
    fn the_newest_of_a_bucket_stays() {
        let times = [
            "2026-11-22T08:05:00Z",
            "2026-11-22T08:55:00Z",
            "2026-11-22T08:30:00Z",
        ];
        let candidates: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(i, t)| automatic(i as u64, at(t)))
            .collect();
        assert_eq!(
            kept(&candidates),
            [(at("2026-11-22T08:55:00Z"), Reason::Hourly)]
        );
    }

    #[test]
    fn thinning_again_later_keeps_a_subset_and_never_empties_a_day() {
        let mut alive = every(10 * MINUTE, 3 * DAY);
        for later in 0..200 {
            let verdicts = decide(&alive, &Policy::default(), now() + later * HOUR);
            let mut verdicts = verdicts.iter();
            alive.retain(|_| *verdicts.next().unwrap() != Verdict::Drop);
        }
        // Four calendar days were covered; each keeps exactly its newest.
        let days: BTreeSet<_> = alive.iter().map(|c| c.time.div_euclid(DAY)).collect();
        assert_eq!((alive.len(), days.len()), (4, 4));
        assert_eq!(alive[0].time, now());
        assert_eq!(alive[1].time, at("2026-11-21T23:50:00Z"));
    }

    #[test]
    fn only_automatic_snapshots_without_a_name_go() {
        let ancient = now() - 5_000 * DAY;
        let mut candidates = Vec::new();
        use SnapshotKind::{Final, Import, Init, Manual, Safety};
        for (i, kind) in [Manual, Import, Init, Final, Safety]
            .into_iter()
            .enumerate()
        {
            candidates.push(Candidate {
                kind,
                ..automatic(i as u64, ancient)
            });
        }
        for (i, name) in ["branch/main", "tag/v1", "remote/origin/main"]
            .iter()
            .enumerate()
        {
            let refs = vec![(*name).to_owned()];
            candidates.push(Candidate {
                refs,
                ..automatic(10 + i as u64, ancient)
            });
        }
        let keep = |reason| (ancient, reason);
        assert_eq!(
            kept(&candidates),
            [
                keep(Reason::Kind(Manual)),
                keep(Reason::Kind(Import)),
                keep(Reason::Kind(Init)),
                keep(Reason::Kind(Final)),
                keep(Reason::Kind(Safety)),
                keep(Reason::Ref("branch/main".into())),
                keep(Reason::Ref("tag/v1".into())),
                keep(Reason::Ref("remote/origin/main".into())),
            ]
        );
        assert_eq!(kept(&[automatic(99, ancient)]), []);
    }

    #[test]
    fn branches_do_not_thin_each_other() {
        let time = at("2026-11-20T08:05:00Z");
        let mut candidates = vec![automatic(1, time), automatic(2, time + MINUTE)];
        assert_eq!(kept(&candidates).len(), 1);
        candidates[1].line = "branch/other".into();
        assert_eq!(kept(&candidates).len(), 2);
    }

    #[test]
    fn a_manual_snapshot_does_not_stand_in_for_an_automatic_one() {
        let time = at("2026-11-20T08:05:00Z");
        let manual = Candidate {
            kind: SnapshotKind::Manual,
            ..automatic(2, time + MINUTE)
        };
        let kept = kept(&[automatic(1, time), manual]);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].1, Reason::Daily);
    }

    #[test]
    fn a_clock_that_was_ahead_harms_nothing() {
        let future = automatic(1, now() + 400 * DAY);
        assert_eq!(
            kept(std::slice::from_ref(&future)),
            [(future.time, Reason::Recent)]
        );
    }

    #[test]
    fn equal_times_keep_one() {
        let time = now() - 3 * HOUR;
        assert_eq!(kept(&[automatic(1, time), automatic(2, time)]).len(), 1);
    }
}
