//! The root log: commits by create-if-absent, lost answers, and old roots that are deleted.

use super::{check_all, check_breaks, is_large};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

/// Roots of one block; 256 in the store.
const BLOCK: u8 = 2;
/// A block may be marked when the latest root is this many blocks further.
const BEHIND: u8 = 2;
const WRITERS: usize = 2;
/// The number of the root that somebody knows who knows none.
const NOTHING_HELD: u8 = u8::MAX;

/// What the model does without, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// A root that exists already is taken to be somebody else's.
    OwnNonce,
    /// A root that exists already is taken to be one's own.
    ForeignNonce,
    /// An error is taken to mean that nothing was written.
    Settling,
    /// After a conflict the same state is written under the next number.
    Revalidation,
    /// A create counts though its block is marked.
    MarkAfterCreate,
    /// The last root that is found is taken for the latest though its block is marked.
    MarkOfReader,
    /// Its block is looked at before it is read, and not afterwards.
    MarkAfterRead,
    /// Roots are deleted and their block is not marked.
    MarkBeforeDelete,
    /// What is read back after an error is believed though its block is marked.
    MarkAfterError,
    /// A commit whose block was marked meanwhile is taken to have failed for certain.
    Doubt,
}

/// Operations of all commits up to a root, oldest first; the last one also serves as its nonce.
/// One hexadecimal digit each, no operation is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct History(u64);

impl History {
    fn operations(self) -> impl Iterator<Item = u8> {
        let digits = (0..16).rev().map(move |i| (self.0 >> (4 * i)) as u8 & 15);
        digits.skip_while(|op| *op == 0)
    }

    fn with(self, op: u8) -> Self {
        History(self.0 << 4 | u64::from(op))
    }

    fn before(self) -> Self {
        History(self.0 >> 4)
    }

    fn contains(self, op: u8) -> bool {
        self.operations().any(|o| o == op)
    }

    /// The operations as bits.
    fn set(self) -> u16 {
        self.operations().fold(0, |set, op| set | 1 << op)
    }

    fn is_start_of(self, later: Self) -> bool {
        let mut rest = later.operations();
        self.operations().all(|op| rest.next() == Some(op))
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// How far somebody who looks for the latest root is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Find {
    /// Is there a root after this one?
    Probe(u8),
    /// There was none: what does this one say?
    Get(u8),
    /// Is its block marked?
    Closed(u8, History),
    /// It is: what does a listing behind that block show?
    List(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Find(Find),
    /// The state of the next root is ready.
    Create,
    /// It was told that the root exists, or nothing it can rely on: it reads what is there.
    Settle {
        error: bool,
    },
    /// Its root is there: is the block marked?
    Check,
    /// After an error it finds the root of another there: is the block marked?
    CheckForeign,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Writer {
    step: Step,
    /// The root it knows, and what it holds.
    held: (u8, History),
    /// The operation to commit.
    op: u8,
    /// Its last one.
    last: u8,
    /// It made a root in a marked block, so the operation may be in the log already.
    doubt: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Reader {
    find: Option<Find>,
    held: (u8, History),
    /// What was acknowledged when this read began.
    floor: u16,
    reads_left: u8,
    missed: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The objects under `roots/`.
    roots: BTreeMap<u8, History>,
    /// Blocks below this are marked.
    marked: u8,
    /// Creates whose writers were told of an error, and that may still take effect.
    late: BTreeSet<(u8, History)>,
    errors_left: u8,
    writers: [Writer; WRITERS],
    reader: Reader,
    /// Operations that were acknowledged.
    acknowledged: u16,
    /// Operations whose writers were told that they cannot be done any more, as when a branch has
    /// moved: each may be done once only.
    refused: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Writer(usize),
    Reader,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Step(Who),
    /// A listing does not show yet what was written of late.
    StaleList(Who),
    /// The reader begins with nothing but a listing, which may be late and show this root last.
    FirstList(u8),
    /// A root is made, and the answer is lost.
    AnswerLost(usize),
    /// After an error the request is sent once more.
    SendAgain(usize),
    /// An error is told, and the request is still under way.
    Delayed(usize),
    /// Such a request arrives.
    Arrive(u8, History),
    Mark,
    Delete(u8),
}

struct Log {
    /// Commits of each writer.
    commits: [u8; WRITERS],
    errors: u8,
    reads: u8,
    without: Without,
}

impl State {
    fn latest(&self) -> (u8, History) {
        let (seq, history) = self.roots.last_key_value().expect("the latest root stays");
        (*seq, *history)
    }

    fn is_marked(&self, seq: u8) -> bool {
        seq / BLOCK < self.marked
    }
}

impl Log {
    /// One writer sleeps while another fills blocks.
    fn writers(without: Without) -> Self {
        Log {
            commits: [5, 1],
            errors: 1,
            reads: 0,
            without,
        }
    }

    /// Two writers sleep, and requests of both are late.
    fn errors(without: Without) -> Self {
        Log {
            commits: [4, 1],
            errors: 2,
            reads: 0,
            without,
        }
    }

    /// A reader sleeps while a writer fills blocks.
    fn reader(without: Without) -> Self {
        Log {
            commits: [5, 0],
            errors: 1,
            reads: 1,
            without,
        }
    }

    /// One request of the search for the latest root: how it goes on, or its result.
    fn find(
        &self,
        state: &State,
        find: Find,
        held: (u8, History),
        stale: bool,
    ) -> Result<Find, (u8, History)> {
        Ok(match find {
            Find::Probe(seq) if state.roots.contains_key(&(seq + 1)) => Find::Probe(seq + 1),
            // Before this root is read, which is too early.
            Find::Probe(seq) if self.without == Without::MarkAfterRead && state.is_marked(seq) => {
                Find::List(seq)
            }
            Find::Probe(seq) if seq == held.0 => Find::Closed(seq, held.1),
            Find::Probe(seq) => Find::Get(seq),
            Find::Get(seq) => match state.roots.get(&seq) {
                Some(history) => Find::Closed(seq, *history),
                // Deleted meanwhile.
                None => Find::List(seq),
            },
            Find::Closed(seq, history) => {
                let looks = !matches!(self.without, Without::MarkOfReader | Without::MarkAfterRead);
                match looks && state.is_marked(seq) {
                    true => Find::List(seq),
                    false => return Err((seq, history)),
                }
            }
            Find::List(seq) => {
                let next_block = (seq / BLOCK + 1) * BLOCK;
                match state.latest().0 {
                    listed if listed >= next_block && !stale => Find::Probe(listed),
                    _ => Find::Probe(next_block),
                }
            }
        })
    }

    /// The search is over: the operation is judged by the newest root.
    fn judge(&self, state: &mut State, w: usize) {
        let writer = &mut state.writers[w];
        if !writer.held.1.contains(writer.op) {
            writer.step = Step::Create;
        } else if writer.doubt && self.without != Without::Doubt {
            self.finish(state, w, true);
        } else {
            state.refused |= 1 << writer.op;
            self.finish(state, w, false);
        }
    }

    fn finish(&self, state: &mut State, w: usize, acknowledged: bool) {
        let writer = &mut state.writers[w];
        if acknowledged {
            state.acknowledged |= 1 << writer.op;
        }
        writer.op += 1;
        writer.step = Step::Find(Find::Probe(writer.held.0));
        writer.doubt = false;
    }

    fn step_writer(&self, state: &mut State, w: usize, stale: bool) {
        let writer = &state.writers[w];
        let seq = writer.held.0 + 1;
        let root = writer.held.1.with(writer.op);
        let there = state.roots.get(&seq).copied();
        match writer.step {
            Step::Find(find) => match self.find(state, find, writer.held, stale) {
                Ok(next) => state.writers[w].step = Step::Find(next),
                Err(found) => {
                    state.writers[w].held = found;
                    self.judge(state, w);
                }
            },
            Step::Create => {
                state.writers[w].step = match there {
                    None => Step::Check,
                    Some(_) => Step::Settle { error: false },
                };
                state.roots.entry(seq).or_insert(root);
            }
            Step::Settle { error } => {
                let own = match self.without {
                    Without::OwnNonce => false,
                    Without::ForeignNonce => there.is_some(),
                    _ => there == Some(root),
                };
                if error && self.without == Without::Settling {
                    state.refused |= 1 << writer.op;
                    self.finish(state, w, false);
                } else if own {
                    state.writers[w].step = Step::Check;
                } else if error && there.is_none() {
                    // It reports the error: nothing is known of the operation.
                    self.finish(state, w, false);
                } else if error && self.without != Without::MarkAfterError {
                    state.writers[w].step = Step::CheckForeign;
                } else if self.without == Without::Revalidation {
                    state.writers[w].held.0 = seq;
                    state.writers[w].step = Step::Create;
                } else {
                    state.writers[w].step = Step::Find(Find::Probe(writer.held.0));
                }
            }
            Step::CheckForeign => {
                let writer = &mut state.writers[w];
                writer.doubt = seq / BLOCK < state.marked;
                writer.step = Step::Find(Find::Probe(writer.held.0));
            }
            Step::Check => {
                let writer = &mut state.writers[w];
                if seq / BLOCK < state.marked && self.without != Without::MarkAfterCreate {
                    writer.doubt = true;
                    writer.step = Step::Find(Find::List(seq));
                } else {
                    writer.held = (seq, root);
                    self.finish(state, w, true);
                }
            }
        }
    }

    fn begin_reading(&self, state: &mut State, seq: u8) {
        state.reader.find = Some(Find::Probe(seq));
        state.reader.floor = state.acknowledged;
        state.reader.reads_left -= 1;
    }

    fn step_reader(&self, state: &mut State, stale: bool) {
        let reader = &state.reader;
        let Some(find) = reader.find else {
            self.begin_reading(state, reader.held.0);
            return;
        };
        match self.find(state, find, reader.held, stale) {
            Ok(next) => state.reader.find = Some(next),
            Err(found) => {
                state.reader.missed |= state.reader.floor & !found.1.set() != 0;
                state.reader.held = found;
                state.reader.find = None;
                state.reader.floor = 0;
            }
        }
    }
}

impl Model for Log {
    type State = State;
    type Action = Action;

    /// The first root lies at the start or at the end of a block.
    fn init_states(&self) -> Vec<State> {
        (0..BLOCK)
            .map(|first| {
                let held = (first, History::default());
                let writer = |op: u8, commits: u8| Writer {
                    step: Step::Find(Find::Probe(first)),
                    held,
                    op,
                    last: op + commits - 1,
                    doubt: false,
                };
                State {
                    roots: BTreeMap::from([held]),
                    marked: 0,
                    late: BTreeSet::new(),
                    errors_left: self.errors,
                    writers: [
                        writer(1, self.commits[0]),
                        writer(1 + self.commits[0], self.commits[1]),
                    ],
                    reader: Reader {
                        find: None,
                        held,
                        floor: 0,
                        reads_left: self.reads,
                        missed: false,
                    },
                    acknowledged: 0,
                    refused: 0,
                }
            })
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (w, writer) in state.writers.iter().enumerate() {
            if writer.op > writer.last {
                continue;
            }
            actions.push(Action::Step(Who::Writer(w)));
            match writer.step {
                Step::Find(Find::List(_)) => actions.push(Action::StaleList(Who::Writer(w))),
                Step::Create if state.errors_left > 0 => {
                    actions.push(Action::AnswerLost(w));
                    actions.push(Action::Delayed(w));
                }
                Step::Settle { error: true } => actions.push(Action::SendAgain(w)),
                _ => {}
            }
        }
        match state.reader.find {
            None if state.reader.reads_left == 0 => {}
            None => {
                actions.push(Action::Step(Who::Reader));
                actions.extend((0..=state.latest().0).map(Action::FirstList));
            }
            Some(Find::List(_)) => {
                actions.push(Action::Step(Who::Reader));
                actions.push(Action::StaleList(Who::Reader));
            }
            Some(_) => actions.push(Action::Step(Who::Reader)),
        }
        actions.extend(state.late.iter().map(|(seq, h)| Action::Arrive(*seq, *h)));
        if state.latest().0 / BLOCK >= state.marked + BEHIND
            && self.without != Without::MarkBeforeDelete
        {
            actions.push(Action::Mark);
        }
        let may_go = |seq: &&u8| match self.without {
            Without::MarkBeforeDelete => **seq / BLOCK + BEHIND <= state.latest().0 / BLOCK,
            _ => state.is_marked(**seq),
        };
        actions.extend(
            state
                .roots
                .keys()
                .filter(may_go)
                .map(|seq| Action::Delete(*seq)),
        );
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(Who::Writer(w)) => self.step_writer(&mut state, w, false),
            Action::StaleList(Who::Writer(w)) => self.step_writer(&mut state, w, true),
            Action::Step(Who::Reader) => self.step_reader(&mut state, false),
            Action::StaleList(Who::Reader) => self.step_reader(&mut state, true),
            Action::FirstList(seq) => {
                state.reader.held.0 = NOTHING_HELD;
                self.begin_reading(&mut state, seq);
            }
            Action::AnswerLost(w) | Action::Delayed(w) => {
                let writer = &mut state.writers[w];
                let (seq, root) = (writer.held.0 + 1, writer.held.1.with(writer.op));
                writer.step = Step::Settle { error: true };
                state.errors_left -= 1;
                if action == Action::Delayed(w) {
                    state.late.insert((seq, root));
                } else {
                    state.roots.entry(seq).or_insert(root);
                }
            }
            Action::SendAgain(w) => {
                let writer = &mut state.writers[w];
                let (seq, root) = (writer.held.0 + 1, writer.held.1.with(writer.op));
                // Told that it exists, it reads what is there.
                if let Entry::Vacant(free) = state.roots.entry(seq) {
                    free.insert(root);
                    writer.step = Step::Check;
                }
            }
            Action::Arrive(seq, root) => {
                state.late.remove(&(seq, root));
                state.roots.entry(seq).or_insert(root);
            }
            Action::Mark => state.marked += 1,
            Action::Delete(seq) => {
                state.roots.remove(&seq);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// Writers with the root that each is about.
        fn writers(state: &State) -> impl Iterator<Item = (&Writer, u8, History)> {
            let about = |w: &Writer| (w.held.0 + 1, w.held.1.with(w.op));
            state
                .writers
                .iter()
                .map(move |w| (w, about(w).0, about(w).1))
        }
        let mut properties = vec![
            Property::always(NOTHING_LOST, |_, s: &State| {
                s.acknowledged & !s.latest().1.set() == 0
            }),
            Property::always(NOTHING_DENIED, |_, s: &State| {
                s.refused & s.latest().1.set() == 0
            }),
            Property::always(ONCE, |_, s: &State| {
                let history = s.latest().1;
                history.set().count_ones() as usize == history.operations().count()
            }),
            Property::always(ONE_LINE, |_, s: &State| {
                let open = || s.roots.iter().filter(|(seq, _)| !s.is_marked(**seq));
                open()
                    .zip(open().skip(1))
                    .all(|((i, before), (j, after))| *j == i + 1 && after.before() == *before)
            }),
            Property::always(NOTHING_MISSED, |_, s: &State| !s.reader.missed),
            Property::sometimes("all is committed", |m: &Log, s: &State| {
                s.acknowledged.count_ones() as u8 == m.commits.iter().sum::<u8>()
            }),
            Property::sometimes("a lost answer is found to be a commit", |_, s: &State| {
                writers(s).any(|(w, seq, root)| {
                    w.step == Step::Settle { error: true } && s.roots.get(&seq) == Some(&root)
                })
            }),
            Property::sometimes(
                "an error is reported, and the commit comes",
                |_, s: &State| {
                    let done = |op: &u8| {
                        let w = &s.writers[usize::from(*op > s.writers[0].last)];
                        *op < w.op
                    };
                    let told = s.acknowledged | s.refused;
                    s.latest()
                        .1
                        .operations()
                        .any(|op| done(&op) && told & 1 << op == 0)
                },
            ),
            Property::sometimes(
                "a late request makes a root of no meaning",
                |_, s: &State| s.roots.values().any(|h| !h.is_start_of(s.latest().1)),
            ),
            Property::sometimes("a whole block is deleted", |_, s: &State| {
                s.roots.keys().all(|seq| *seq >= 2 * BLOCK)
            }),
        ];
        if self.commits[1] > 0 {
            properties.extend([
                Property::sometimes("two want the same number", |_, s: &State| {
                    writers(s).any(|(w, seq, root)| {
                        w.step == Step::Settle { error: false } && s.roots.get(&seq) != Some(&root)
                    })
                }),
                Property::sometimes("a create under a freed name is refused", |_, s: &State| {
                    s.writers
                        .iter()
                        .any(|w| w.doubt && !s.latest().1.contains(w.op))
                }),
                Property::sometimes(
                    "a commit sleeps until its block is marked",
                    |_, s: &State| {
                        s.writers
                            .iter()
                            .any(|w| w.doubt && s.latest().1.contains(w.op))
                    },
                ),
            ]);
        }
        if self.reads > 0 {
            properties.push(Property::sometimes(
                "a reader finds that it slept",
                |_, s: &State| matches!(s.reader.find, Some(Find::List(_))),
            ));
        }
        properties
    }
}

const NOTHING_LOST: &str = "what was acknowledged is in the latest root";
const NOTHING_DENIED: &str = "what was refused is not in the latest root";
const ONCE: &str = "an operation is committed once";
const ONE_LINE: &str = "roots go on where the one before ends";
const NOTHING_MISSED: &str = "a reader sees all that was acknowledged before it began";

#[test]
fn writers_of_the_log_lose_nothing() {
    let mut model = Log::writers(Without::Nothing);
    if is_large() {
        model.commits = [5, 2];
        model.errors = 2;
    }
    check_all("log, writers", model);
}

#[test]
fn writers_of_the_log_survive_late_requests() {
    check_all("log, errors", Log::errors(Without::Nothing));
}

#[test]
fn readers_of_the_log_miss_nothing() {
    let mut model = Log::reader(Without::Nothing);
    if is_large() {
        model.commits = [6, 0];
        model.reads = 2;
    }
    check_all("log, reader", model);
}

#[test]
fn without_looking_at_the_mark_after_reading_a_late_root_is_believed() {
    check_breaks(Log::reader(Without::MarkAfterRead), NOTHING_MISSED);
}

#[test]
fn without_reading_back_its_own_root_a_commit_is_denied() {
    check_breaks(Log::writers(Without::OwnNonce), NOTHING_DENIED);
}

#[test]
fn without_the_nonce_the_commit_of_another_is_taken_for_ones_own() {
    check_breaks(Log::writers(Without::ForeignNonce), NOTHING_LOST);
}

#[test]
fn without_reading_back_an_error_hides_a_commit() {
    check_breaks(Log::writers(Without::Settling), NOTHING_DENIED);
}

#[test]
fn without_validating_anew_a_commit_undoes_another() {
    check_breaks(Log::writers(Without::Revalidation), NOTHING_LOST);
}

#[test]
fn without_the_mark_after_a_create_a_commit_lands_in_the_past() {
    check_breaks(Log::writers(Without::MarkAfterCreate), NOTHING_LOST);
}

#[test]
fn without_the_mark_of_readers_the_past_is_taken_for_the_present() {
    check_breaks(Log::reader(Without::MarkOfReader), NOTHING_MISSED);
}

#[test]
fn without_a_mark_before_deleting_a_commit_lands_in_the_past() {
    check_breaks(Log::writers(Without::MarkBeforeDelete), NOTHING_LOST);
}

#[test]
fn without_the_mark_after_an_error_a_commit_that_slept_is_denied() {
    check_breaks(Log::errors(Without::MarkAfterError), NOTHING_DENIED);
}

#[test]
fn without_doubt_a_commit_that_slept_is_denied() {
    check_breaks(Log::writers(Without::Doubt), NOTHING_DENIED);
}
