//! The names people type for snapshots: `main`, `v1`, `4f1c`, `HEAD~2`, `main@{2 hours ago}`.
//!
//! A revision is a base and any number of steps. Bases: `HEAD` (also `@`, or nothing before
//! `@{`), a branch, a tag, `origin/<branch>`, the full name of a ref such as `branch/main`, a
//! snapshot id or a prefix of one with at least four digits. A name goes before a prefix.
//! Steps, each taken from where the one before it ended:
//!
//! | step | goes to |
//! |---|---|
//! | `~N`, `~` | the N-th surviving ancestor by first parent |
//! | `^` | the same as `~1` |
//! | `@{time}` | the newest of the snapshot and its first-parent ancestors not begun after that time |
//! | `@{X/Y}` | the newest of them whose WAL does not end after that LSN |
//!
//! Times: `2 hours ago`, `1h 30m ago`, `now`, `yesterday`, `2026-11-22`, `2026-11-22 10:00`,
//! with seconds, and with `Z` or an offset; without one they are in the zone of `now`.
//! An LSN is compared within the lineage of the snapshot it is asked of and nowhere else, since
//! two runs of one cluster give the same LSNs to different changes.

use jiff::{Span, Timestamp, Zoned, civil};
use zenith_store::{SnapshotId, State};

use crate::error::ErrorKind;
use crate::head::{self, Head};
use crate::history::{History, Node};
use crate::pg::lsn::Lsn;

/// Digits that a prefix of an id has at least.
const PREFIX_MIN: usize = 4;
/// Suggestions and candidates that an error carries at most.
const LISTED_MAX: usize = 5;

/// Why a text names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// No ref and no snapshot has this name.
    #[error("no branch, tag or snapshot is called `{name}`")]
    NotFound {
        /// What was given.
        name: String,
        /// Names that look like it, nearest first.
        similar: Vec<String>,
    },
    /// No branch, no tag or no home has this name.
    #[error("no {what} is called `{name}`")]
    NoRef {
        /// `branch`, `tag` or `home`.
        what: &'static str,
        /// What was given.
        name: String,
        /// Names of its kind that look like it, nearest first.
        similar: Vec<String>,
    },
    /// HEAD is on a branch without snapshots.
    #[error("branch `{branch}` has no snapshot yet")]
    Unborn {
        /// The branch.
        branch: String,
    },
    /// Several snapshots or refs have this name.
    #[error("`{name}` is ambiguous: {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// Ids or full ref names that would be unambiguous.
        candidates: Vec<String>,
    },
    /// A prefix of an id too short to be taken as one.
    #[error("`{name}` is too short for a snapshot id: four digits are the least")]
    TooShort {
        /// What was given.
        name: String,
    },
    /// A ref points at a snapshot that is not in the table.
    #[error("`{name}` points at snapshot {id}, which is gone")]
    Gone {
        /// The base.
        name: String,
        /// The snapshot.
        id: SnapshotId,
    },
    /// The text after the base is not a step.
    #[error("`{step}` in `{revision}` is not a step: {why}")]
    Step {
        /// The whole text.
        revision: String,
        /// Where it stops making sense.
        step: String,
        /// What was expected.
        why: &'static str,
    },
    /// There are fewer ancestors.
    #[error("`{base}` has {ancestors} surviving ancestors, not {asked}")]
    NoAncestor {
        /// The revision before the step.
        base: String,
        /// How many there are.
        ancestors: u64,
        /// How many were asked for.
        asked: u64,
    },
    /// All ancestors are younger, or end after the LSN.
    #[error("no snapshot in the history of `{base}` is as old as {asked}: the first is {first}")]
    NoneAsOld {
        /// The revision before the step.
        base: String,
        /// The time or LSN asked for.
        asked: String,
        /// Id, and time or LSN, of the oldest one there is.
        first: String,
    },
    /// The snapshot found by LSN was taken from another run of the cluster.
    #[error(
        "LSN {lsn} is before the first snapshot of this lineage in the history of `{base}` \
         ({first}); an LSN means nothing in another lineage"
    )]
    OtherLineage {
        /// The revision before the step.
        base: String,
        /// What was asked for.
        lsn: Lsn,
        /// Id and LSN of the lineage's first snapshot.
        first: String,
        /// The newest snapshot before the lineage began: a base within the other one.
        before: SnapshotId,
    },
}

impl RevisionError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RevisionError::NotFound { .. }
            | RevisionError::NoRef { .. }
            | RevisionError::Unborn { .. }
            | RevisionError::NoAncestor { .. }
            | RevisionError::NoneAsOld { .. } => ErrorKind::NotFound,
            RevisionError::Ambiguous { .. }
            | RevisionError::TooShort { .. }
            | RevisionError::Step { .. }
            | RevisionError::OtherLineage { .. } => ErrorKind::Invalid,
            RevisionError::Gone { .. } => ErrorKind::Damaged,
        }
    }
}

/// The snapshot that `text` names.
///
/// # Errors
/// [`RevisionError`], which carries what could have been meant.
pub fn resolve(
    state: &State,
    head: &Head,
    text: &str,
    now: &Zoned,
) -> Result<SnapshotId, RevisionError> {
    let refs: Vec<(&str, SnapshotId)> = state
        .refs()
        .iter()
        .map(|(name, id)| (name.as_str(), *id))
        .collect();
    Names {
        refs: &refs,
        history: &History::of(state),
        head,
        now,
    }
    .resolve(text)
}

/// What to ask another repository for where this one says [`RevisionError`] of a text: that text
/// if its base is not here, steps from the very snapshot that the base is here, or nothing where
/// the text itself is wrong. `main~3` there must not be taken for `main~3` here.
pub fn elsewhere(state: &State, head: &Head, text: &str, error: &RevisionError) -> Option<String> {
    match error {
        RevisionError::NotFound { name, .. } if head::check_name(name).is_ok() => {
            Some(text.trim().to_owned())
        }
        RevisionError::NoAncestor { .. }
        | RevisionError::NoneAsOld { .. }
        | RevisionError::Gone { .. } => {
            let (base, steps) = split(text.trim());
            let base = if base.is_empty() { "HEAD" } else { base };
            // Nothing is asked of the time.
            let found = resolve(state, head, base, &Zoned::default());
            let (Ok(id) | Err(RevisionError::Gone { id, .. })) = found else {
                return None;
            };
            Some(format!("{id}{steps}"))
        }
        _ => None,
    }
}

/// The base, and the steps from there.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(['~', '^']).unwrap_or(text.len());
    let end = text.find("@{").map_or(end, |at| at.min(end));
    text.split_at(end)
}

/// The error for a branch or tag that is not there. `what` is `branch` or `tag`.
pub fn no_ref(state: &State, what: &'static str, name: &str) -> RevisionError {
    let known = state.refs().keys().filter_map(|full| {
        let (kind, known) = full.split_once('/')?;
        (kind == what).then_some(known)
    });
    RevisionError::NoRef {
        what,
        name: name.to_owned(),
        similar: similar(known, name),
    }
}

/// Names within reach of a slip of the fingers, nearest first.
pub(crate) fn similar<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Vec<String> {
    let reach = (name.chars().count() / 3).clamp(1, 3);
    let mut similar: Vec<(usize, &str)> = known
        .map(|known| {
            let (a, b) = (known.to_lowercase(), name.to_lowercase());
            (strsim::osa_distance(&a, &b), known)
        })
        .filter(|(distance, _)| *distance <= reach)
        .collect();
    similar.sort();
    similar.dedup();
    similar
        .into_iter()
        .take(LISTED_MAX)
        .map(|(_, known)| known.to_owned())
        .collect()
}

struct Names<'a> {
    /// Full names.
    refs: &'a [(&'a str, SnapshotId)],
    history: &'a History,
    head: &'a Head,
    now: &'a Zoned,
}

impl Names<'_> {
    fn resolve(&self, text: &str) -> Result<SnapshotId, RevisionError> {
        let text = text.trim();
        if text.is_empty() {
            // An unset variable of a script must not mean HEAD.
            return Err(RevisionError::NotFound {
                name: String::new(),
                similar: Vec::new(),
            });
        }
        let (base, mut steps) = split(text);
        let mut id = self.base(base)?;
        while !steps.is_empty() {
            let walked = &text[..text.len() - steps.len()];
            let walked = if walked.is_empty() { "HEAD" } else { walked };
            let wrong = |why| RevisionError::Step {
                revision: text.to_owned(),
                step: steps.to_owned(),
                why,
            };
            if let Some(rest) = steps.strip_prefix('~') {
                let digits = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let (number, rest) = rest.split_at(digits);
                let number = match number {
                    "" => 1,
                    number => number
                        .parse()
                        .map_err(|_| wrong("the number is too large"))?,
                };
                id = self.ancestor(walked, id, number)?;
                steps = rest;
            } else if let Some(rest) = steps.strip_prefix('^') {
                if rest.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(wrong("only the first parent can be named, by `^` alone"));
                }
                id = self.ancestor(walked, id, 1)?;
                steps = rest;
            } else if let Some(rest) = steps.strip_prefix("@{") {
                let (at, rest) = rest
                    .split_once('}')
                    .ok_or_else(|| wrong("`}` is missing"))?;
                id = match parse_at(at, self.now) {
                    Some(At::Time(time)) => self.at_time(walked, id, time)?,
                    Some(At::Lsn(lsn)) => self.at_lsn(walked, id, lsn)?,
                    None => {
                        return Err(wrong(
                            "neither a time such as `2 hours ago` or `2026-11-22 10:00` \
                             nor an LSN such as `0/3000028`",
                        ));
                    }
                };
                steps = rest;
            } else {
                return Err(wrong("`~N`, `^` or `@{…}` expected"));
            }
        }
        Ok(id)
    }

    fn base(&self, name: &str) -> Result<SnapshotId, RevisionError> {
        let id = match name {
            "HEAD" | "@" | "" => self.head()?,
            name => match self.named(name)? {
                Some(id) => id,
                None => return self.prefixed(name),
            },
        };
        if self.history.get(id).is_none() {
            let name = if name.is_empty() { "HEAD" } else { name }.to_owned();
            return Err(RevisionError::Gone { name, id });
        }
        Ok(id)
    }

    fn head(&self) -> Result<SnapshotId, RevisionError> {
        match self.head {
            Head::Branch(branch) => {
                self.get_ref(&format!("branch/{branch}"))
                    .ok_or_else(|| RevisionError::Unborn {
                        branch: branch.clone(),
                    })
            }
            Head::Detached(text) => text.parse().map_err(|_| RevisionError::NotFound {
                name: text.clone(),
                similar: Vec::new(),
            }),
        }
    }

    fn get_ref(&self, full: &str) -> Option<SnapshotId> {
        self.refs
            .iter()
            .find(|(name, _)| *name == full)
            .map(|(_, id)| *id)
    }

    /// What refs of this name point at; several that agree are one.
    fn named(&self, name: &str) -> Result<Option<SnapshotId>, RevisionError> {
        let found: Vec<(String, SnapshotId)> = ["", "branch/", "tag/", "remote/"]
            .into_iter()
            .map(|folder| format!("{folder}{name}"))
            .filter_map(|full| self.get_ref(&full).map(|id| (full, id)))
            .collect();
        let Some((_, id)) = found.first() else {
            return Ok(None);
        };
        if found.iter().any(|(_, other)| other != id) {
            let candidates = found.into_iter().map(|(full, _)| full).collect();
            return Err(RevisionError::Ambiguous {
                name: name.to_owned(),
                candidates,
            });
        }
        Ok(Some(*id))
    }

    fn prefixed(&self, name: &str) -> Result<SnapshotId, RevisionError> {
        let not_found = || {
            let (name, similar) = (name.to_owned(), self.similar(name));
            RevisionError::NotFound { name, similar }
        };
        if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(not_found());
        }
        let prefix = name.to_ascii_lowercase();
        let mut found: Vec<SnapshotId> = self
            .history
            .nodes()
            .map(|node| node.id)
            .filter(|id| id.to_string().starts_with(&prefix))
            .collect();
        found.sort();
        match found[..] {
            [] => Err(not_found()),
            [_, ..] if name.len() < PREFIX_MIN => Err(RevisionError::TooShort {
                name: name.to_owned(),
            }),
            [id] => Ok(id),
            _ => Err(RevisionError::Ambiguous {
                name: name.to_owned(),
                candidates: distinct(&found).into_iter().take(LISTED_MAX).collect(),
            }),
        }
    }

    /// Names that may have been meant.
    fn similar(&self, name: &str) -> Vec<String> {
        let known = self.refs.iter().filter_map(|(full, _)| {
            ["branch/", "tag/", "remote/"]
                .iter()
                .find_map(|f| full.strip_prefix(f))
        });
        similar(known.chain(["HEAD"]), name)
    }

    fn ancestor(
        &self,
        base: &str,
        id: SnapshotId,
        asked: u64,
    ) -> Result<SnapshotId, RevisionError> {
        let mut ancestors = 0;
        for (number, node) in (0..).zip(self.history.first_parents(id)) {
            if number == asked {
                return Ok(node.id);
            }
            ancestors = number;
        }
        Err(RevisionError::NoAncestor {
            base: base.to_owned(),
            ancestors,
            asked,
        })
    }

    fn at_time(
        &self,
        base: &str,
        id: SnapshotId,
        time: Timestamp,
    ) -> Result<SnapshotId, RevisionError> {
        let micros = time.as_microsecond();
        if let Some(node) = self
            .history
            .first_parents(id)
            .find(|n| n.unix_micros <= micros)
        {
            return Ok(node.id);
        }
        let first = self
            .history
            .first_parents(id)
            .last()
            .map_or_else(String::new, |node| {
                format!(
                    "{} of {}",
                    node.id.short(),
                    self.print_micros(node.unix_micros)
                )
            });
        let asked = self.print(time);
        Err(RevisionError::NoneAsOld {
            base: base.to_owned(),
            asked,
            first,
        })
    }

    fn at_lsn(&self, base: &str, id: SnapshotId, lsn: Lsn) -> Result<SnapshotId, RevisionError> {
        let lineage = self.history.get(id).and_then(|node| node.lineage);
        let mut first: Option<&Node> = None;
        let first_shown = |first: Option<&Node>| {
            first.map_or_else(String::new, |node| match node.stop_lsn {
                Some(lsn) => format!("{} at {lsn}", node.id.short()),
                None => node.id.short(),
            })
        };
        for node in self.history.first_parents(id) {
            if node.lineage != lineage {
                let (base, before) = (base.to_owned(), node.id);
                return Err(RevisionError::OtherLineage {
                    base,
                    lsn,
                    first: first_shown(first),
                    before,
                });
            }
            if node.stop_lsn.is_some_and(|stop| stop <= lsn) {
                return Ok(node.id);
            }
            first = Some(node);
        }
        Err(RevisionError::NoneAsOld {
            base: base.to_owned(),
            asked: lsn.to_string(),
            first: first_shown(first),
        })
    }

    fn print(&self, time: Timestamp) -> String {
        time.to_zoned(self.now.time_zone().clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    }

    fn print_micros(&self, micros: i64) -> String {
        Timestamp::from_microsecond(micros)
            .map_or_else(|_| format!("{micros} µs"), |t| self.print(t))
    }
}

/// These sorted ids with as many digits, at least eight, as tell each from the others.
fn distinct(ids: &[SnapshotId]) -> Vec<String> {
    let full: Vec<String> = ids.iter().map(SnapshotId::to_string).collect();
    let shared = |pair: &[String]| {
        pair[0]
            .bytes()
            .zip(pair[1].bytes())
            .take_while(|(a, b)| a == b)
            .count()
    };
    let digits = full
        .windows(2)
        .map(shared)
        .max()
        .map_or(8, |n| (n + 1).max(8));
    full.into_iter().map(|id| id[..digits].to_owned()).collect()
}

/// What stands between `@{` and `}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Time(Timestamp),
    Lsn(Lsn),
}

fn parse_at(text: &str, now: &Zoned) -> Option<At> {
    let text = text.trim();
    if let Ok(lsn) = text.parse::<Lsn>() {
        return Some(At::Lsn(lsn));
    }
    parse_time(text, now).map(At::Time)
}

/// A moment as people write it; see the head of this file. Nothing where the text is none.
pub fn parse_time(text: &str, now: &Zoned) -> Option<Timestamp> {
    match text {
        "now" => return Some(now.timestamp()),
        "yesterday" => return Some(now.checked_sub(Span::new().days(1)).ok()?.timestamp()),
        _ => {}
    }
    if let Some(span) = text.strip_suffix("ago") {
        let span = span.trim_end();
        // "an hour", "a day": the friendly format wants a number.
        let span = match span.split_once(' ') {
            Some(("a" | "an", unit)) => format!("1 {unit}"),
            _ => span.to_owned(),
        };
        let span: Span = span.parse().ok()?;
        if span.is_negative() {
            return None;
        }
        return Some(now.checked_sub(span).ok()?.timestamp());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let civil: civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Lineage;
    use crate::history::tests::{id, node};

    /// main: 1 ◂ 2 ◂ 3 ◂ 5; side: 2 ◂ 4. Minute n, LSN 0/n0. 5 is of another lineage.
    fn check(text: &str) -> Result<u8, RevisionError> {
        check_on(text, &Head::Branch("main".into()))
    }

    fn check_on(text: &str, head: &Head) -> Result<u8, RevisionError> {
        let mut like_1 = id(1);
        like_1.0[31] = 9;
        let history = History::from_nodes([
            node(1, &[]),
            node(2, &[1]),
            node(3, &[2]),
            node(4, &[2]),
            Node {
                lineage: Some(Lineage([2; 16])),
                ..node(5, &[3])
            },
            Node {
                id: like_1,
                ..node(1, &[])
            },
        ]);
        let refs = [
            ("branch/both", id(3)),
            ("branch/dead", id(2)),
            ("branch/main", id(5)),
            ("branch/side", id(4)),
            ("branch/stale", id(77)),
            ("remote/origin/main", id(3)),
            ("tag/both", id(4)),
            ("tag/same", id(2)),
            ("tag/v1", id(1)),
        ];
        let now: Zoned = "1970-01-01T03:00+01:00[Europe/Berlin]".parse().unwrap();
        Names {
            refs: &refs,
            history: &history,
            head,
            now: &now,
        }
        .resolve(text)
        .map(|id| id.0[0])
    }

    #[test]
    fn names_and_prefixes() {
        for (text, expect) in [
            ("main", 5),
            ("branch/main", 5),
            ("v1", 1),
            ("tag/v1", 1),
            ("origin/main", 3),
            ("remote/origin/main", 3),
            ("HEAD", 5),
            ("@", 5),
            ("dead", 2),
            ("0404", 4),
            (&"04".repeat(32), 4),
            ("branch/both", 3),
            ("tag/both", 4),
        ] {
            assert_eq!(check(text), Ok(expect), "{text}");
        }
        let detached = Head::Detached("03".repeat(32));
        assert_eq!(check_on("HEAD~1", &detached), Ok(2));
        assert_eq!(check_on("@{now}", &detached), Ok(3));
    }

    #[test]
    fn steps() {
        for (text, expect) in [
            ("main~0", 5),
            ("main~", 3),
            ("main^", 3),
            ("main~2", 2),
            ("main^^", 2),
            ("main~1^~1", 1),
            ("side~", 2),
            ("~1", 3),
            ("^", 3),
            // Minute 3 is 01:03 in Berlin, 00:03 in UTC.
            ("@{1970-01-01 01:03}", 3),
            ("@{1970-01-01 01:02:59}", 2),
            ("main@{1970-01-01T00:01:00Z}", 1),
            ("main@{1970-01-01 00:02:30+00}", 2),
            ("main@{1970-01-02}", 5),
            ("main@{118 minutes ago}", 2),
            ("main@{1h 57m ago}", 3),
            ("main@{an hour ago}", 5),
            ("main~1@{0/30}", 3),
            ("main~1@{0/2F}", 2),
            ("side@{0/ffff}", 4),
            ("side@{0/3F}", 2),
            ("side@{0/3F}^", 1),
            ("main@{0/50}", 5),
        ] {
            assert_eq!(check(text), Ok(expect), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let not_found = |name: &str, similar: &[&str]| RevisionError::NotFound {
            name: name.into(),
            similar: similar.iter().map(|s| (*s).to_owned()).collect(),
        };
        for (text, expect) in [
            ("mian", not_found("mian", &["main"])),
            ("orign/main~2", not_found("orign/main", &["origin/main"])),
            ("head", not_found("head", &["HEAD", "dead"])),
            ("zzzzzz", not_found("zzzzzz", &[])),
            ("beef", not_found("beef", &[])),
            ("040", RevisionError::TooShort { name: "040".into() }),
            (
                "0101",
                RevisionError::Ambiguous {
                    name: "0101".into(),
                    candidates: vec!["01".repeat(32), format!("{}09", "01".repeat(31))],
                },
            ),
            (
                "both",
                RevisionError::Ambiguous {
                    name: "both".into(),
                    candidates: vec!["branch/both".into(), "tag/both".into()],
                },
            ),
            (
                "stale",
                RevisionError::Gone {
                    name: "stale".into(),
                    id: id(77),
                },
            ),
            (
                "main~1~3",
                RevisionError::NoAncestor {
                    base: "main~1".into(),
                    ancestors: 2,
                    asked: 3,
                },
            ),
            (
                "@{1970-01-01 01:00:30}",
                RevisionError::NoneAsOld {
                    base: "HEAD".into(),
                    asked: "1970-01-01 01:00:30".into(),
                    first: "01010101 of 1970-01-01 01:01:00".into(),
                },
            ),
            (
                "side@{0/F}",
                RevisionError::NoneAsOld {
                    base: "side".into(),
                    asked: "0/F".into(),
                    first: "01010101 at 0/10".into(),
                },
            ),
            (
                "main@{0/30}",
                RevisionError::OtherLineage {
                    base: "main".into(),
                    lsn: Lsn(0x30),
                    first: "05050505 at 0/50".into(),
                    before: id(3),
                },
            ),
        ] {
            assert_eq!(check(text), Err(expect), "{text}");
        }
        let unborn = check_on("HEAD", &Head::Branch("new".into()));
        assert_eq!(
            unborn,
            Err(RevisionError::Unborn {
                branch: "new".into()
            })
        );
    }

    #[test]
    fn a_step_that_is_none_is_quoted() {
        for (text, step) in [
            ("main^2", "^2"),
            ("main~1x", "x"),
            ("main@{0/50", "@{0/50"),
            ("main@{soon}", "@{soon}"),
            ("main@{2 hours}", "@{2 hours}"),
            ("main@{-2 hours ago}", "@{-2 hours ago}"),
            ("main@{}", "@{}"),
            ("main~99999999999999999999", "~99999999999999999999"),
        ] {
            match check(text) {
                Err(RevisionError::Step {
                    revision,
                    step: got,
                    ..
                }) => {
                    assert_eq!((revision.as_str(), got.as_str()), (text, step));
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
