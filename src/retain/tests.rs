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

fn hourly() -> Reason {
    Reason::Rule(Policy::default().rules()[1])
}

fn daily() -> Reason {
    Reason::Rule(Policy::default().rules()[2])
}

fn recent() -> Reason {
    Reason::Rule(Policy::default().rules()[0])
}

/// Times of those that stay, each with the first of its reasons. By now their lines go on.
fn kept(candidates: &[Candidate]) -> Vec<(i64, Reason)> {
    let mut all = candidates.to_vec();
    all.extend(candidates.iter().map(|candidate| Candidate {
        time: now(),
        kind: SnapshotKind::Manual,
        ..candidate.clone()
    }));
    let verdicts = decide(&all, &Policy::default(), now());
    assert_eq!(verdicts.len(), all.len());
    let keep = |(candidate, verdict): (&Candidate, Verdict)| match verdict {
        Verdict::Keep(reasons) => Some((candidate.time, reasons[0].clone())),
        Verdict::Drop => None,
    };
    candidates.iter().zip(verdicts).filter_map(keep).collect()
}

#[test]
fn a_year_and_a_half_of_five_minutes_keeps_what_the_policy_says() {
    let kept = kept(&every(5 * MINUTE, 550 * DAY));
    let count = |reason: Reason| kept.iter().filter(|(_, r)| *r == reason).count();
    // 12:30 back to 10:30, both ends included.
    assert_eq!(count(recent()), 25);
    // The newest of the hours from 12:55 two days ago to 9:55 today. 10:55 to 12:30 are recent.
    assert_eq!(count(hourly()), 46);
    // The newest of each day from 30 days ago to three days ago; later ones count as hourly.
    assert_eq!(count(daily()), 28);
    // The last of the months from November 2025; October 2026 counts as daily.
    assert_eq!(count(Reason::Rule(Policy::default().rules()[3])), 11);
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
    assert_eq!(kept(&candidates), [(at("2026-11-22T08:55:00Z"), hourly())]);
}

#[test]
fn thinning_again_later_keeps_a_subset_and_never_empties_a_day() {
    let mut alive = every(10 * MINUTE, 3 * DAY);
    for later in 0..200 {
        let now = now() + later * HOUR;
        let mut all = alive.clone();
        all.push(automatic(9_999, now));
        let verdicts = decide(&all, &Policy::default(), now);
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
    assert_eq!(kept[0].1, daily());
}

#[test]
fn a_clock_that_was_ahead_harms_nothing() {
    let future = automatic(1, now() + 400 * DAY);
    assert_eq!(
        kept(std::slice::from_ref(&future)),
        [(future.time, recent())]
    );
}

/// One home whose clock is a year ahead judges the snapshots of all.
#[test]
fn a_clock_that_is_ahead_thins_no_line_of_others() {
    let others = every(5 * MINUTE, 3 * DAY);
    let right = kept(&others);
    let mut all = others.clone();
    let future = now() + 400 * DAY;
    all.push(Candidate {
        line: "branch/ahead".into(),
        ..automatic(9_999, future)
    });
    let verdicts = decide(&all, &Policy::default(), future);
    let stay = |(candidate, verdict): (&Candidate, &Verdict)| {
        (*verdict != Verdict::Drop).then_some(candidate.time)
    };
    let stays: Vec<i64> = all.iter().zip(&verdicts).filter_map(stay).collect();
    let right: Vec<i64> = right.iter().map(|(time, _)| *time).collect();
    assert_eq!(stays, [right, vec![future]].concat());
    // What lies on no branch is nobody's, and goes in the end.
    let mut lone = automatic(10_000, now() - 500 * DAY);
    lone.line = String::new();
    all.push(lone);
    let verdicts = decide(&all, &Policy::default(), now());
    assert_eq!(verdicts.last(), Some(&Verdict::Drop));
}

#[test]
fn equal_times_keep_one() {
    let time = now() - 3 * HOUR;
    assert_eq!(kept(&[automatic(1, time), automatic(2, time)]).len(), 1);
}

fn rule(every: Every, count: u32) -> Rule {
    let limit = Limit::Count(count);
    Rule { every, limit }
}

fn keep(rules: &[Rule]) -> Keep {
    Keep {
        rules: rules.to_vec(),
        tags: vec![],
        force: false,
        zone: TimeZone::UTC,
    }
}

fn line(branch: &str, members: impl IntoIterator<Item = usize>, is_asked: bool) -> Line {
    Line {
        branch: Some(branch.to_owned()),
        members: members.into_iter().collect(),
        is_asked,
    }
}

/// Numbers of those of one line that stay.
fn stay(candidates: &[Candidate], keep: &Keep) -> Vec<usize> {
    let lines = [line("main", 0..candidates.len(), true)];
    let verdicts = judge(candidates, &lines, keep, now());
    let stays = |(i, verdict): (usize, Option<Verdict>)| match verdict {
        Some(Verdict::Keep(_)) => Some(i),
        Some(Verdict::Drop) => None,
        None => panic!("{i} is not judged"),
    };
    verdicts.into_iter().enumerate().filter_map(stays).collect()
}

fn at_times(times: &[&str]) -> Vec<Candidate> {
    let one = |(i, t): (usize, &&str)| automatic(i as u64, at(t));
    times.iter().enumerate().map(one).collect()
}

#[test]
fn a_count_counts_buckets_that_have_snapshots() {
    let candidates = at_times(&[
        "2026-11-22T12:10:00Z",
        "2026-11-22T12:00:00Z",
        "2026-11-22T09:59:00Z",
        "2026-11-22T09:00:00Z",
        "2026-11-20T09:30:00Z",
        "2026-11-20T08:30:00Z",
        "2026-10-31T23:59:59Z",
        "2025-12-31T00:00:00Z",
        "2025-01-01T00:00:00Z",
    ]);
    for (rules, expect) in [
        (vec![rule(Every::Snapshot, 3)], vec![0, 1, 2]),
        (vec![rule(Every::Hour, 1)], vec![0]),
        (vec![rule(Every::Hour, 3)], vec![0, 2, 4]),
        (vec![rule(Every::Day, 3)], vec![0, 4, 6]),
        (vec![rule(Every::Month, 3)], vec![0, 6, 7]),
        (vec![rule(Every::Year, 2)], vec![0, 7]),
        (vec![rule(Every::Year, 100)], vec![0, 7]),
        (
            vec![rule(Every::Snapshot, 2), rule(Every::Month, 2)],
            vec![0, 1, 6],
        ),
    ] {
        assert_eq!(stay(&candidates, &keep(&rules)), expect, "{rules:?}");
    }
}

#[test]
fn weeks_begin_on_monday_and_know_no_turn_of_the_year() {
    let candidates = at_times(&[
        "2026-01-05T00:00:00Z", // Monday
        "2026-01-04T23:59:00Z", // Sunday
        "2025-12-29T00:00:00Z", // Monday of that week
        "2025-12-28T23:59:00Z",
    ]);
    assert_eq!(stay(&candidates, &keep(&[rule(Every::Week, 9)])), [0, 1, 3]);
}

#[test]
fn days_and_hours_are_those_of_the_zone() {
    // Midnight in Berlin is 23:00 UTC; on the 25th of October the hour from 2 comes twice.
    let candidates = at_times(&[
        "2026-11-21T23:30:00Z",
        "2026-11-21T22:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T00:30:00Z",
    ]);
    let berlin = |rule| Keep {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        ..keep(&[rule])
    };
    let daily = rule(Every::Day, 9);
    assert_eq!(stay(&candidates, &berlin(daily)), [0, 1, 2]);
    assert_eq!(stay(&candidates, &keep(&[daily])), [0, 2]);
    assert_eq!(
        stay(&candidates, &berlin(rule(Every::Hour, 9))),
        [0, 1, 2, 3]
    );
}

#[test]
fn an_age_ends_a_rule_whatever_there_is() {
    let candidates = every(DAY, 400 * DAY);
    let within = |days: i64| Rule {
        every: Every::Snapshot,
        limit: Limit::Age(days * DAY),
    };
    assert_eq!(stay(&candidates, &keep(&[within(3)])), [0, 1, 2, 3]);
    let old = [automatic(1, now() - 9 * DAY)];
    assert_eq!(stay(&old, &keep(&[within(3)])), [0; 0]);
}

#[test]
fn every_kind_goes_by_rules_that_were_asked_for() {
    let mut candidates = every(DAY, 3 * DAY);
    for (candidate, kind) in candidates.iter_mut().zip([
        SnapshotKind::Manual,
        SnapshotKind::Init,
        SnapshotKind::Import,
        SnapshotKind::Safety,
    ]) {
        candidate.kind = kind;
    }
    assert_eq!(stay(&candidates, &keep(&[rule(Every::Snapshot, 1)])), [0]);
}

#[test]
fn names_stay_and_only_tips_can_be_forced() {
    let names = [
        "HEAD",
        "branch/side",
        "homes/ab",
        "pins/r",
        "remote/origin/main",
        "tag/v1",
    ];
    let named = |(i, name): (usize, &&str)| Candidate {
        refs: vec![(*name).to_owned()],
        ..automatic(i as u64, now() - DAY)
    };
    let mut candidates: Vec<_> = names.iter().enumerate().map(named).collect();
    candidates.push(automatic(50, now()));
    let last = keep(&[rule(Every::Snapshot, 1)]);
    assert_eq!(stay(&candidates, &last), [0, 1, 2, 3, 4, 5, 6]);
    let forced = Keep {
        force: true,
        ..last
    };
    assert_eq!(stay(&candidates, &forced), [0, 2, 3, 4, 5, 6]);
}

#[test]
fn every_reason_is_told_once() {
    let mut candidates = every(DAY, 2 * DAY);
    candidates[0].refs = vec!["branch/main".into(), "tag/v1".into(), "tag/x".into()];
    let rules = [rule(Every::Snapshot, 1), rule(Every::Day, 1)];
    let keep = Keep {
        tags: vec!["v*".into()],
        ..keep(&rules)
    };
    let lines = [line("main", [0, 1, 2], true), line("side", [0, 1], true)];
    let verdicts = judge(&candidates, &lines, &keep, now());
    let reasons = vec![
        Reason::Rule(rules[0]),
        Reason::Rule(rules[1]),
        Reason::Ref("branch/main".into()),
        Reason::Tag("v1".into()),
        Reason::Ref("tag/x".into()),
    ];
    assert_eq!(
        verdicts,
        [
            Some(Verdict::Keep(reasons)),
            Some(Verdict::Drop),
            Some(Verdict::Drop)
        ]
    );
}

#[test]
fn each_branch_is_judged_for_itself_and_what_others_have_stays() {
    // main: 0 1 4 5, side: 2 3 4 5; 6 is on none.
    let candidates = every(HOUR, 6 * HOUR);
    let none = Line {
        branch: None,
        members: vec![6],
        is_asked: true,
    };
    let main = |is_asked| line("main", [0, 1, 4, 5], is_asked);
    let side = |is_asked| line("side", [2, 3, 4, 5], is_asked);
    let last_3 = keep(&[rule(Every::Snapshot, 3)]);
    let gone = |lines: &[Line]| -> Vec<usize> {
        let verdicts = judge(&candidates, lines, &last_3, now());
        let is_drop = |i: &usize| verdicts[*i] == Some(Verdict::Drop);
        (0..candidates.len()).filter(is_drop).collect()
    };
    assert_eq!(gone(&[main(true), side(true), none.clone()]), [5]);
    let none = Line {
        is_asked: false,
        ..none
    };
    assert_eq!(gone(&[main(true), side(false), none.clone()]), [0; 0]);
    let verdicts = judge(
        &candidates,
        &[main(true), side(false), none],
        &last_3,
        now(),
    );
    assert_eq!(
        verdicts[5],
        Some(Verdict::Keep(vec![Reason::Branch("side".into())]))
    );
    assert_eq!((&verdicts[2], &verdicts[6]), (&None, &None));
}

#[test]
fn patterns_fit_whole_names() {
    for (pattern, name, fits) in [
        ("v1", "v1", true),
        ("v1", "v10", false),
        ("v*", "v1.0/rc", true),
        ("*", "", true),
        ("v?.*", "v1.2", true),
        ("v?.*", "v10.2", false),
        ("*-rc*-x", "v1-rc2-rc3-x", true),
        ("*a", "ab", false),
        ("g?*", "größe", true),
        ("", "a", false),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
    }
}
