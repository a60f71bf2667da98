//! Which snapshots to keep. Pure: rows, rules and a time in, a verdict for every row out.
//!
//! A [`Rule`] keeps the newest of every hour, day, … of a line, so many of them or up to some age.
//! Two sets of rules are judged here. The [`Policy`] thins automatic snapshots on its own: what a
//! person asked for (manual, import, init, final and safety snapshots) and what a name points at
//! (branches, tags, what a remote is known to have) stays, whatever its age. [`Keep`] is what a
//! person asks for with `prune`: every kind goes, and what a name points at stays, but for the
//! tips of branches where that is forced.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use zenith_store::{SnapshotId, SnapshotKind, State};

use crate::history::History;
use crate::settings::KeepSettings;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// A mean month of the Gregorian calendar; only the far end of the policy is measured in it.
const MONTH: i64 = 2_629_746;

/// Of what a rule keeps the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Of nothing: each one counts.
    Snapshot,
    /// Of every hour.
    Hour,
    /// Of every day.
    Day,
    /// Of every week; weeks begin on Monday.
    Week,
    /// Of every month.
    Month,
    /// Of every year.
    Year,
}

/// Where a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many; hours, days, … without a snapshot do not count.
    Count(u32),
    /// At this age, in seconds.
    Age(i64),
}

/// Keeps the newest of every so often, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Of what.
    pub every: Every,
    /// Up to where.
    pub limit: Limit,
}

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

impl Policy {
    fn rules(&self) -> [Rule; 4] {
        let rule = |every, count: u32, unit: i64| Rule {
            every,
            limit: Limit::Age(i64::from(count) * unit),
        };
        [
            rule(Every::Snapshot, self.all_hours, HOUR),
            rule(Every::Hour, self.hourly_days, DAY),
            rule(Every::Day, self.daily_days, DAY),
            rule(Every::Month, self.monthly_months, MONTH),
        ]
    }
}

/// What `prune` is to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// What any of them wants stays.
    pub rules: Vec<Rule>,
    /// Names of tags, or patterns with `*` and `?`. Every tag keeps its snapshot; these are the
    /// ones that were asked for.
    pub tags: Vec<String>,
    /// Tips of branches go like any other snapshot.
    pub force: bool,
    /// Whose hours, days, … are meant.
    pub zone: TimeZone,
}

/// Snapshots that are judged together, as numbers of candidates: the history of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The branch; nothing for what lies on none.
    pub branch: Option<String>,
    /// In any order.
    pub members: Vec<usize>,
    /// Whether it is to be pruned. What a line that is not has stays.
    pub is_asked: bool,
}

/// What a set of rules is asked about.
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
    /// This ref points at it, or what else has a name.
    Ref(String),
    /// A tag that was asked for points at it.
    Tag(String),
    /// The rule wants it.
    Rule(Rule),
    /// This branch, which is not to be pruned, has it too.
    Branch(String),
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for every one of these reasons.
    Keep(Vec<Reason>),
    /// It goes.
    Drop,
}

impl Verdict {
    fn of(reasons: Vec<Reason>) -> Verdict {
        if reasons.is_empty() {
            Verdict::Drop
        } else {
            Verdict::Keep(reasons)
        }
    }
}

/// A verdict for every candidate, in their order. `now` is in seconds since 1970, UTC.
///
/// Hours, days and months are those of UTC, so that a clock change neither merges nor splits
/// them. A snapshot from the future is recent.
///
/// The clock of who asks is believed only as far as snapshots bear it out: ages count from the
/// newest of a line where that is older than `now`, so that a clock which is ahead thins no line
/// but one that it made snapshots of, and what nobody adds to stays as it is. What lies on no
/// branch ages with the newest of all.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: i64) -> Vec<Verdict> {
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        // What is on no branch ages with the newest of all.
        for line in ["", candidate.line.as_str()] {
            let newest = newest.entry(line).or_insert(candidate.time);
            *newest = candidate.time.max(*newest);
        }
        if is_automatic(candidate) {
            lines.entry(&candidate.line).or_default().push(i);
        }
    }
    let rules = policy.rules();
    let mut wanted = Wanted::default();
    for (line, members) in lines {
        let now = newest.get(line).map_or(now, |newest| now.min(*newest));
        wanted.add(candidates, &members, &rules, now, &TimeZone::UTC);
    }
    let verdict = |(i, candidate): (usize, &Candidate)| {
        let kind = (!is_automatic(candidate)).then_some(Reason::Kind(candidate.kind));
        let refs = candidate.refs.iter().cloned().map(Reason::Ref);
        Verdict::of(kind.into_iter().chain(refs).chain(wanted.of(i)).collect())
    };
    candidates.iter().enumerate().map(verdict).collect()
}

/// A verdict for every candidate that an asked line has, in their order. A snapshot of several
/// lines stays when any of them wants it. `now` is in seconds since 1970, UTC.
pub fn judge(
    candidates: &[Candidate],
    lines: &[Line],
    keep: &Keep,
    now: i64,
) -> Vec<Option<Verdict>> {
    let mut is_asked = vec![false; candidates.len()];
    let mut wanted = Wanted::default();
    let mut others: BTreeMap<usize, Vec<Reason>> = BTreeMap::new();
    for line in lines {
        if line.is_asked {
            line.members.iter().for_each(|i| is_asked[*i] = true);
            wanted.add(candidates, &line.members, &keep.rules, now, &keep.zone);
        } else if let Some(branch) = &line.branch {
            for i in &line.members {
                let reason = Reason::Branch(branch.clone());
                others.entry(*i).or_default().push(reason);
            }
        }
    }
    let verdict = |(i, candidate): (usize, &Candidate)| {
        if !is_asked[i] {
            return None;
        }
        let named = candidate.refs.iter().filter_map(|name| {
            let tag = name.strip_prefix("tag/");
            if tag.is_some_and(|tag| keep.tags.iter().any(|pattern| matches(pattern, tag))) {
                return Some(Reason::Tag(name["tag/".len()..].to_owned()));
            }
            let may_go = keep.force && name.starts_with("branch/");
            (!may_go).then(|| Reason::Ref(name.clone()))
        });
        let other = others.get(&i).cloned().unwrap_or_default();
        Some(Verdict::of(
            wanted.of(i).chain(named).chain(other).collect(),
        ))
    };
    candidates.iter().enumerate().map(verdict).collect()
}

/// What rules want: number of a candidate → the rules, each once, in their order.
#[derive(Default)]
struct Wanted(BTreeMap<usize, Vec<Rule>>);

impl Wanted {
    /// Adds what `rules` want of a line.
    fn add(
        &mut self,
        candidates: &[Candidate],
        members: &[usize],
        rules: &[Rule],
        now: i64,
        zone: &TimeZone,
    ) {
        let mut newest_first: Vec<(i64, usize)> =
            members.iter().map(|i| (candidates[*i].time, *i)).collect();
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        for rule in rules {
            let mut seen = BTreeSet::new();
            for (time, i) in &newest_first {
                let is_over = match rule.limit {
                    Limit::Count(count) => seen.len() >= count as usize,
                    Limit::Age(age) => now - time > age,
                };
                if is_over {
                    break;
                }
                if seen.insert(bucket(rule.every, *time, *i, zone)) {
                    let rules = self.0.entry(*i).or_default();
                    if !rules.contains(rule) {
                        rules.push(*rule);
                    }
                }
            }
        }
    }

    fn of(&self, i: usize) -> impl Iterator<Item = Reason> + use<> {
        let rules = self.0.get(&i).cloned().unwrap_or_default();
        rules.into_iter().map(Reason::Rule)
    }
}

/// What is the same for all snapshots of an hour, day, … of a zone. `i` tells snapshots apart.
fn bucket(every: Every, time: i64, i: usize, zone: &TimeZone) -> (Date, i64) {
    // A time outside the calendar shares the one place at its end.
    let zoned = Timestamp::from_second(time)
        .unwrap_or(Timestamp::MAX)
        .to_zoned(zone.clone());
    let (date, offset) = (zoned.date(), i64::from(zoned.offset().seconds()));
    match every {
        Every::Snapshot => (date, i as i64),
        // By the offset, too: when clocks go back an hour comes twice.
        Every::Hour => (date, i64::from(zoned.hour()) * 10 * DAY + offset),
        Every::Day => (date, 0),
        Every::Week => {
            // Its year is not that of the date around the turn of a year.
            let week = date.iso_week_date();
            let number = i64::from(week.year()) * 100 + i64::from(week.week());
            (Date::ZERO, number)
        }
        Every::Month => (date.first_of_month(), 0),
        Every::Year => (date.first_of_year(), 0),
    }
}

/// Whether a name fits a pattern in which `*` stands for any text and `?` for one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` is, and what of the name it stands for ends before this.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, end)) = star else {
                    return false;
                };
                star = Some((at, end + 1));
                (p, n) = (at + 1, end + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The history of every branch among the candidates of a repository, and one line for what is on
/// none. Only `branch` is asked about, or all of them.
pub fn lines(state: &State, candidates: &[Candidate], branch: Option<&str>) -> Vec<Line> {
    let number: BTreeMap<SnapshotId, usize> = candidates
        .iter()
        .enumerate()
        .map(|(i, candidate)| (candidate.id, i))
        .collect();
    let history = History::of(state);
    let mut on_branch = vec![false; candidates.len()];
    let mut lines = Vec::new();
    for (name, tip) in state.refs() {
        let Some(name) = name.strip_prefix("branch/") else {
            continue;
        };
        let nodes = history.ancestors(*tip);
        let members: Vec<usize> = nodes
            .iter()
            .filter_map(|node| number.get(&node.id).copied())
            .collect();
        members.iter().for_each(|i| on_branch[*i] = true);
        lines.push(Line {
            branch: Some(name.to_owned()),
            members,
            is_asked: branch.is_none_or(|asked| asked == name),
        });
    }
    lines.push(Line {
        branch: None,
        members: (0..candidates.len()).filter(|i| !on_branch[*i]).collect(),
        is_asked: branch.is_none(),
    });
    lines
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

#[cfg(test)]
mod tests;
