//! Refs that keep snapshots at a storage for somebody: for a home that has commits to push, and for
//! a reader that pins what it reads, while others delete snapshots and collect.
//!
//! A lazy home has none of the packs that its commits build on; a home of the usual kind has them
//! all. A commit of a root is one step here, as in `repack`.

use super::{check_all, check_breaks, each, is_large};
use stateright::{Model, Property};

/// Pack 0 is that of snapshot 0, pack 1 that of snapshot 1.
const BASE: usize = 0;
const OTHER: usize = 1;
/// What the home made itself, and what it sends of the base under a name of its own.
const OWN: usize = 2;
const AGAIN: usize = 3;
const PACKS: usize = 4;

/// Two are there at the start; the home pushes the last one.
const SNAPSHOTS: usize = 3;
const PUSHED: usize = 2;

type Packs = u8;

/// What the model does without, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// What is fetched without its packs is not kept first.
    KeepBeforeFetch,
    /// What a commit goes on from is held after the commit.
    HoldBeforeCommit,
    /// What a commit goes on from is kept by the ref alone that says what was pushed last.
    OwnHold,
    /// A commit uses packs of other snapshots, too.
    OwnBase,
    /// What is held is let go with the branch, though a commit waits to be pushed.
    HoldWhileWaiting,
    /// A push lets go of what nothing needed when it began.
    Lock,
    /// A removal looks at the refs before, and not again when it is committed.
    RefsRecheck,
    /// A ref is set to a snapshot that is not there any more.
    WholeRefs,
    /// A reader pins nothing.
    Pin,
    /// A commit of the home leaves condemned what it uses.
    Rescue,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Row {
    None,
    Live,
    Condemned,
    Dead,
}

/// Refs at snapshot 0, as bits.
type Refs = u8;
/// `homes/<id>/main`: it was fetched.
const FETCHED: Refs = 1;
/// `homes/<id>/@…`: a commit goes on from it.
const HELD: Refs = 2;
/// `pins/<id>/…`: it is being read.
const PINNED: Refs = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Push {
    Idle,
    /// So many commits are on their way; nothing else waited when it began.
    Sending {
        commits: u8,
        is_all: bool,
    },
    /// The storage has lost what they build on, and so has the home.
    Lost,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Home {
    /// It knows snapshot 0, and nothing newer.
    knows: bool,
    has_newer: bool,
    /// It asked for it to be held, and is about to commit.
    ready: bool,
    /// Commits, one on the other, the first on snapshot 0; how many were pushed.
    commits: u8,
    pushed: u8,
    /// Its branch is at the last of them.
    on_branch: bool,
    push: Push,
    /// It was told that it comes too late.
    refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Reader {
    Idle,
    /// It saw the snapshot.
    Looked,
    Reads,
    Done,
    /// The snapshot was gone before it was pinned.
    Late,
    /// It was removed while it was read.
    Gone,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    rows: [Row; PACKS],
    objects: Packs,
    snapshots: [Packs; SNAPSHOTS],
    refs: Refs,
    /// `homes/<id>`: what the home pushed last.
    mine: Option<usize>,
    home: Home,
    reader: Reader,
    /// Somebody has looked at the refs and removes a snapshot next.
    removal: Option<usize>,
    removals_left: u8,
    /// A removal found a ref that had not been there.
    is_too_late: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// The storage keeps what is fetched; the home learns of it; it fetches something newer.
    Keep,
    Learn,
    FetchNewer,
    Hold,
    Commit,
    /// Its branch goes elsewhere; what it held goes.
    LeaveBranch,
    LetGo,
    BeginPush,
    EndPush,
    /// It pushes another branch.
    PushElsewhere,
    Look,
    Pin,
    Read,
    Unpin,
    ChooseRemoval(usize),
    Remove,
    Condemn(usize),
    DeclareDead(usize),
    Delete(usize),
}

struct Holds {
    is_lazy: bool,
    reads: bool,
    removals: u8,
    without: Without,
}

impl State {
    fn used(&self) -> Packs {
        self.snapshots.iter().fold(0, |used, packs| used | packs)
    }

    fn is_there(&self, snapshot: usize) -> bool {
        self.snapshots[snapshot] != 0
    }

    /// Whether a ref names this snapshot. Branches go with what they are at.
    fn is_kept(&self, snapshot: usize) -> bool {
        self.mine == Some(snapshot) || snapshot == 0 && self.refs != 0
    }

    /// Commits whose packs must not go: those to be pushed, and what the branch is at.
    fn needs_base(&self) -> bool {
        let home = &self.home;
        home.commits > home.pushed || home.on_branch && home.commits > 0
    }
}

impl Holds {
    fn lazy(without: Without) -> Self {
        Holds {
            is_lazy: true,
            reads: false,
            removals: 2,
            without,
        }
    }

    /// What the commits of the home use of the storage.
    fn base(&self) -> Packs {
        match self.without {
            Without::OwnBase => 1 << BASE | 1 << OTHER,
            _ => 1 << BASE,
        }
    }

    fn keep(&self, state: &mut State, name: Refs) -> bool {
        let is_there = state.is_there(0) || self.without == Without::WholeRefs;
        if is_there {
            state.refs |= name;
        }
        is_there
    }

    fn hold(&self, state: &mut State) {
        // One ref serves a whole line of commits.
        if state.refs & HELD != 0 {
            state.home.ready = true;
            return;
        }
        let is_held = match self.without {
            Without::OwnHold if state.is_there(0) => {
                state.mine = Some(0);
                true
            }
            Without::OwnHold => false,
            _ => self.keep(state, HELD),
        };
        state.home.refused |= !is_held;
        state.home.ready = is_held;
    }

    fn end_push(&self, state: &mut State) -> Option<()> {
        let Push::Sending { commits, is_all } = state.home.push else {
            return None;
        };
        state.home.push = Push::Idle;
        let mut packs = self.base() | 1 << OWN;
        for pack in each(self.base()) {
            match state.rows[pack] {
                Row::Condemned if self.without != Without::Rescue => {
                    state.rows[pack] = Row::Live;
                }
                Row::Live | Row::Condemned => {}
                // It goes up once more, under a name that nobody is about to delete.
                Row::Dead | Row::None if !self.is_lazy => {
                    packs = packs & !(1 << pack) | 1 << AGAIN;
                    state.rows[AGAIN] = Row::Live;
                    state.objects |= 1 << AGAIN;
                }
                Row::Dead | Row::None => {
                    state.home.push = Push::Lost;
                    return Some(());
                }
            }
        }
        state.rows[OWN] = Row::Live;
        state.objects |= 1 << OWN;
        state.snapshots[PUSHED] = packs;
        state.mine = Some(PUSHED);
        state.home.pushed = commits;
        if self.without == Without::Lock && is_all {
            state.refs &= !HELD;
        }
        Some(())
    }
}

impl Model for Holds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: [Row::Live, Row::Live, Row::None, Row::None],
            objects: 1 << BASE | 1 << OTHER,
            snapshots: [1 << BASE, 1 << OTHER, 0],
            refs: 0,
            mine: None,
            home: Home {
                knows: false,
                has_newer: false,
                ready: false,
                commits: 0,
                pushed: 0,
                on_branch: true,
                push: Push::Idle,
                refused: false,
            },
            reader: Reader::Idle,
            removal: None,
            removals_left: self.removals,
            is_too_late: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let home = &state.home;
        let comes_late = self.without == Without::KeepBeforeFetch;
        let is_kept = state.refs & FETCHED != 0 || !self.is_lazy;
        if self.is_lazy && state.refs & FETCHED == 0 && !home.has_newer && home.knows == comes_late
        {
            actions.push(Action::Keep);
        }
        if !home.knows && state.is_there(0) && (is_kept || comes_late) {
            actions.push(Action::Learn);
        }
        if home.knows && !home.has_newer && state.is_there(1) {
            actions.push(Action::FetchNewer);
        }
        let may_commit = home.knows && home.on_branch && home.commits < 2;
        let holds_late = self.without == Without::HoldBeforeCommit;
        if self.is_lazy && may_commit && !home.ready && !holds_late {
            actions.push(Action::Hold);
        }
        if may_commit && (home.ready || !self.is_lazy || holds_late) {
            actions.push(Action::Commit);
        }
        if holds_late && home.commits > 0 && !home.ready {
            actions.push(Action::Hold);
        }
        if home.commits > 0 && home.on_branch && !home.ready {
            actions.push(Action::LeaveBranch);
        }
        let is_waiting = home.commits > home.pushed && self.without != Without::HoldWhileWaiting;
        if state.refs & HELD != 0 && !home.on_branch && !is_waiting && !home.ready {
            actions.push(Action::LetGo);
        }
        match home.push {
            Push::Idle if home.commits > home.pushed => actions.push(Action::BeginPush),
            Push::Sending { .. } => actions.push(Action::EndPush),
            _ => {}
        }
        if home.pushed > 0 && state.is_there(1) && state.mine == Some(PUSHED)
            || self.without == Without::OwnHold && state.is_there(1) && state.mine == Some(0)
        {
            actions.push(Action::PushElsewhere);
        }
        match state.reader {
            Reader::Idle if self.reads && state.is_there(0) => actions.push(Action::Look),
            Reader::Looked => actions.push(Action::Pin),
            Reader::Reads => actions.push(Action::Read),
            Reader::Done if state.refs & PINNED != 0 => actions.push(Action::Unpin),
            _ => {}
        }
        match state.removal {
            None if state.removals_left > 0 => {
                let free = (0..SNAPSHOTS).filter(|s| state.is_there(*s) && !state.is_kept(*s));
                actions.extend(free.map(Action::ChooseRemoval));
            }
            None => {}
            Some(_) => actions.push(Action::Remove),
        }
        for pack in 0..PACKS {
            let is_used = state.used() & 1 << pack != 0;
            match state.rows[pack] {
                Row::Live if !is_used => actions.push(Action::Condemn(pack)),
                Row::Condemned => actions.push(Action::DeclareDead(pack)),
                Row::Dead if state.objects & 1 << pack != 0 => actions.push(Action::Delete(pack)),
                _ => {}
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Keep => drop(self.keep(&mut state, FETCHED)),
            Action::Learn => state.home.knows = true,
            Action::FetchNewer => {
                state.home.has_newer = true;
                state.refs &= !FETCHED;
            }
            Action::Hold => self.hold(&mut state),
            Action::Commit => {
                state.home.commits += 1;
                state.home.ready = false;
            }
            Action::LeaveBranch => state.home.on_branch = false,
            Action::LetGo => state.refs &= !HELD,
            Action::BeginPush => {
                state.home.push = Push::Sending {
                    commits: state.home.commits,
                    is_all: true,
                };
            }
            Action::EndPush => self.end_push(&mut state)?,
            Action::PushElsewhere => state.mine = Some(1),
            Action::Look => state.reader = Reader::Looked,
            Action::Pin => {
                let is_pinned = match self.without {
                    Without::Pin => true,
                    _ => self.keep(&mut state, PINNED),
                };
                state.reader = match is_pinned {
                    true => Reader::Reads,
                    false => Reader::Late,
                };
            }
            Action::Read => {
                state.reader = match state.is_there(0) {
                    true => Reader::Done,
                    false => Reader::Gone,
                };
            }
            Action::Unpin => state.refs &= !PINNED,
            Action::ChooseRemoval(snapshot) => state.removal = Some(snapshot),
            Action::Remove => {
                let snapshot = state.removal.take()?;
                state.removals_left -= 1;
                if state.is_kept(snapshot) && self.without != Without::RefsRecheck {
                    state.is_too_late = true;
                } else {
                    state.snapshots[snapshot] = 0;
                }
            }
            Action::Condemn(pack) => state.rows[pack] = Row::Condemned,
            Action::DeclareDead(pack) => state.rows[pack] = Row::Dead,
            Action::Delete(pack) => state.objects &= !(1 << pack),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(IN_USE_IS_LIVE, |_, s: &State| {
                each(s.used()).all(|p| s.rows[p] == Row::Live)
            }),
            Property::always(COMPLETE, |_, s: &State| s.used() & !s.objects == 0),
            Property::always(READABLE, |m: &Self, s: &State| {
                let base = m.base() & !s.objects == 0;
                let fetched = !s.home.knows || s.home.has_newer || s.objects & 1 << BASE != 0;
                !m.is_lazy || fetched && (base || !s.needs_base())
            }),
            Property::always(ARRIVES, |_, s: &State| s.home.push != Push::Lost),
            Property::always(UNDISTURBED, |_, s: &State| s.reader != Reader::Gone),
            Property::sometimes("what commits build on is deleted", |_, s: &State| {
                s.home.commits > 0 && s.objects & 1 << BASE == 0
            }),
            Property::sometimes("two commits arrive", |_, s: &State| s.home.pushed == 2),
        ];
        if self.is_lazy {
            properties.extend([
                Property::sometimes("a commit is refused", |_, s: &State| s.home.refused),
                Property::sometimes(
                    "what commits build on goes from the table",
                    |_, s: &State| s.home.pushed > 0 && !s.is_there(0),
                ),
            ]);
        } else {
            properties.push(Property::sometimes(
                "a base goes up again",
                |_, s: &State| s.snapshots[PUSHED] & 1 << AGAIN != 0,
            ));
        }
        if self.reads {
            properties.extend([
                Property::sometimes("a reader is done", |_, s: &State| s.reader == Reader::Done),
                Property::sometimes("a reader comes too late", |_, s: &State| {
                    s.reader == Reader::Late
                }),
                Property::sometimes("a removal comes too late", |_, s: &State| s.is_too_late),
            ]);
        }
        properties
    }
}

const IN_USE_IS_LIVE: &str = "a pack in use is live";
const COMPLETE: &str = "what a snapshot holds is there";
const READABLE: &str = "what a lazy home builds on is there";
const ARRIVES: &str = "a push is not refused for good";
const UNDISTURBED: &str = "what is pinned is not removed";

#[test]
fn what_a_lazy_home_builds_on_is_kept() {
    let mut model = Holds::lazy(Without::Nothing);
    model.reads = true;
    if is_large() {
        model.removals = 6;
    }
    check_all("holds, lazy home", model);
}

#[test]
fn a_home_pushes_what_others_collected_under_it() {
    let model = Holds {
        is_lazy: false,
        reads: true,
        removals: if is_large() { 6 } else { 2 },
        without: Without::Nothing,
    };
    check_all("holds, usual home", model);
}

#[test]
fn without_a_ref_before_the_fetch_nothing_can_be_read() {
    check_breaks(Holds::lazy(Without::KeepBeforeFetch), READABLE);
}

#[test]
fn without_a_hold_before_the_commit_its_base_is_deleted() {
    check_breaks(Holds::lazy(Without::HoldBeforeCommit), ARRIVES);
}

#[test]
fn without_a_hold_of_its_own_a_push_of_another_branch_lets_go() {
    check_breaks(Holds::lazy(Without::OwnHold), ARRIVES);
}

#[test]
fn without_leaning_on_its_base_alone_a_commit_loses_packs_of_others() {
    check_breaks(Holds::lazy(Without::OwnBase), ARRIVES);
}

#[test]
fn without_regard_to_what_waits_its_base_is_deleted() {
    check_breaks(Holds::lazy(Without::HoldWhileWaiting), ARRIVES);
}

#[test]
fn without_the_lock_a_push_lets_go_what_a_later_commit_needs() {
    check_breaks(Holds::lazy(Without::Lock), ARRIVES);
}

#[test]
fn without_looking_at_refs_again_a_removal_takes_what_is_kept() {
    check_breaks(Holds::lazy(Without::RefsRecheck), READABLE);
    let reads = Holds {
        reads: true,
        ..Holds::lazy(Without::RefsRecheck)
    };
    check_breaks(reads, UNDISTURBED);
}

#[test]
fn without_a_look_at_the_snapshot_a_ref_keeps_nothing() {
    check_breaks(Holds::lazy(Without::WholeRefs), READABLE);
    let reads = Holds {
        reads: true,
        ..Holds::lazy(Without::WholeRefs)
    };
    check_breaks(reads, UNDISTURBED);
}

#[test]
fn without_a_pin_a_reader_is_stopped_in_the_middle() {
    let reads = Holds {
        reads: true,
        ..Holds::lazy(Without::Pin)
    };
    check_breaks(reads, UNDISTURBED);
}

#[test]
fn without_rescue_a_push_uses_what_is_deleted() {
    let usual = Holds {
        is_lazy: false,
        ..Holds::lazy(Without::Rescue)
    };
    check_breaks(usual, COMPLETE);
}
