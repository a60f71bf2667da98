//! Packing anew: what is alive of a pack is copied into a new one, and snapshots go on to use
//! that, beside writers that use the old one, readers, undo and collectors.
//!
//! `packs` shows that everything is looked at anew after a conflict, so a commit is one step here.
//! What was looked at long before it is what may be wrong.

use super::{check_all, check_breaks, each, is_large};
use stateright::{Model, Property};

/// Lies there at the start and holds `A` and `B`.
const OLD: usize = 0;
/// Lies there at the start and holds `D`, a delta whose base is `A`.
const DELTA: usize = 1;
/// What is packed anew, a pack each time.
const MOVED: usize = 2;
const ROUNDS: usize = 2;
/// What the writer uploads, a pack for each of its sessions.
const OWN: usize = MOVED + ROUNDS;
const SESSIONS: usize = 2;
const PACKS: usize = OWN + SESSIONS;

/// Sets of chunks and of packs, as bits.
type Chunks = u8;
type Packs = u8;
const A: Chunks = 1;
const B: Chunks = 2;
const D: Chunks = 4;

/// Snapshot 0 is there at the start, the writer makes 1. What each names, and what it needs to be
/// read: bases, too.
const SNAPSHOTS: usize = 2;
const NAMES: [Chunks; SNAPSHOTS] = [D, A | B];
const NEEDS: [Chunks; SNAPSHOTS] = [D | A, A | B];

/// What the model does without, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// Whatever uses the old pack goes on to the new one, also what was not looked at.
    RowsLookedAt,
    /// What deltas stand on stays behind.
    Bases,
    /// The new pack is used though its session is fenced.
    FenceCheck,
    /// The root is there before the pack that it names.
    PackFirst,
    /// A writer that uses the old pack leaves it condemned.
    Rescue,
    /// An undo leaves it condemned.
    RescueByUndo,
    /// A reader that misses a pack does not look again.
    SecondLook,
    /// What a home came to build on is moved if it was not held when that was looked at.
    HoldsRecheck,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Row {
    None,
    Live,
    Condemned,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Repacker {
    Idle,
    /// Which snapshots use the old pack, and what of it is alive.
    Looked {
        rows: u8,
        alive: Chunks,
    },
    /// The copy is there.
    Uploaded {
        rows: u8,
    },
    /// Its root is there; the copy is only on its way.
    Late {
        alive: Chunks,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Writer {
    Begin,
    Upload(Packs),
    Commit(Packs),
    Done { rescued: bool },
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Reader {
    Idle,
    Reads {
        snapshot: usize,
        left: Packs,
    },
    Complete,
    /// The snapshot was removed while it read.
    Gone,
    /// It gave up, and the snapshot is there.
    Broken,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    rows: [Row; PACKS],
    fenced: Packs,
    snapshots: [Packs; SNAPSHOTS],
    removed: [Packs; SNAPSHOTS],
    objects: [Chunks; PACKS],
    /// Somebody will delete these, whenever he goes on.
    doomed: Packs,
    repacker: Repacker,
    /// Times that it has uploaded something.
    rounds: usize,
    writer: Writer,
    /// Sessions that the writer has used up.
    sessions: usize,
    reader: Reader,
    /// What a lazy home commits on, and so keeps: the packs of snapshot 0 as it knows them.
    held: Packs,
    removals_left: u8,
    undos_left: u8,
    fences_left: u8,
    /// It found nothing to move any more.
    moved_nothing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Look,
    Copy,
    /// Snapshots go on to the new pack.
    Move,
    Write,
    Remove(usize),
    Undo(usize),
    Condemn(usize),
    DeclareDead(usize),
    Fence(usize),
    /// A collector sees that a pack is dead, or a leftover of a fenced session.
    Doom(usize),
    Delete(usize),
    Read(usize),
    ReadPack,
    /// A lazy home has snapshot 0 kept, and commits on it.
    Hold,
}

struct Repacking {
    undos: u8,
    fences: u8,
    reads: bool,
    holds: bool,
    without: Without,
}

impl State {
    fn used(&self) -> Packs {
        self.snapshots.iter().fold(0, |used, packs| used | packs)
    }

    fn is_fenced(&self, pack: usize) -> bool {
        self.fenced & 1 << pack != 0
    }

    /// Snapshots that use the old pack.
    fn on_old(&self) -> u8 {
        let on = (0..SNAPSHOTS).filter(|s| self.snapshots[*s] & 1 << OLD != 0);
        on.fold(0, |set, s| set | 1 << s)
    }

    fn is_there(&self, pack: usize) -> bool {
        matches!(self.rows[pack], Row::Live | Row::Condemned)
    }

    fn use_packs(&mut self, snapshot: usize, packs: Packs, rescues: bool) -> bool {
        let mut rescued = false;
        for pack in each(packs) {
            match self.rows[pack] {
                Row::Condemned if rescues => {
                    self.rows[pack] = Row::Live;
                    rescued = true;
                }
                Row::None => self.rows[pack] = Row::Live,
                _ => {}
            }
        }
        self.snapshots[snapshot] = packs;
        rescued
    }
}

impl Repacking {
    fn whole(without: Without) -> Self {
        Repacking {
            undos: 1,
            fences: 1,
            reads: true,
            holds: false,
            without,
        }
    }

    /// A lazy home in the place of reader and undo.
    fn held(without: Without) -> Self {
        Repacking {
            undos: 0,
            reads: false,
            holds: true,
            ..Self::whole(without)
        }
    }

    fn copy_of(&self, state: &State) -> usize {
        MOVED + state.rounds - 1
    }

    fn move_rows(&self, state: &mut State, rows: u8, new: usize) {
        if state.is_fenced(new) && self.without != Without::FenceCheck {
            return;
        }
        if state.held & 1 << OLD != 0 && self.without != Without::HoldsRecheck {
            return;
        }
        let looked_at = match self.without {
            Without::RowsLookedAt => u8::MAX,
            _ => rows,
        };
        let moves = state.on_old() & looked_at;
        state.moved_nothing |= moves == 0;
        for snapshot in (0..SNAPSHOTS).filter(|s| moves & 1 << s != 0) {
            let packs = state.snapshots[snapshot] & !(1 << OLD) | 1 << new;
            state.use_packs(snapshot, packs, true);
        }
    }

    fn write(&self, state: &mut State) {
        state.writer = match state.writer {
            Writer::Begin => match state.is_there(OLD) {
                true => Writer::Commit(1 << OLD),
                false => Writer::Upload(0),
            },
            Writer::Upload(packs) if state.sessions < SESSIONS => {
                let own = OWN + state.sessions;
                state.objects[own] = NEEDS[1];
                state.sessions += 1;
                Writer::Commit(packs | 1 << own)
            }
            Writer::Upload(_) => Writer::Failed,
            Writer::Commit(packs) => {
                let usable = each(packs).filter(|p| match state.rows[*p] {
                    Row::Live | Row::Condemned => true,
                    Row::Dead => false,
                    Row::None => !state.is_fenced(*p),
                });
                match usable.fold(0, |set, p| set | 1 << p) {
                    usable if usable == packs => Writer::Done {
                        rescued: state.use_packs(1, packs, self.without != Without::Rescue),
                    },
                    // What is not usable goes up again under another name.
                    usable => Writer::Upload(usable),
                }
            }
            done => done,
        };
    }

    fn read_pack(&self, state: &mut State) {
        let Reader::Reads { snapshot, left } = state.reader else {
            return;
        };
        let Some(pack) = each(left).next() else {
            state.reader = Reader::Complete;
            return;
        };
        let now = state.snapshots[snapshot];
        state.reader = match (state.objects[pack], now) {
            (0, 0) => Reader::Gone,
            (0, _) if self.without == Without::SecondLook => Reader::Broken,
            // All is where the newest root says.
            (0, left) => Reader::Reads { snapshot, left },
            _ => Reader::Reads {
                snapshot,
                left: left & !(1 << pack),
            },
        };
    }
}

impl Model for Repacking {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            rows: [Row::None; PACKS],
            fenced: 0,
            snapshots: [1 << DELTA | 1 << OLD, 0],
            removed: [0; SNAPSHOTS],
            objects: [0; PACKS],
            doomed: 0,
            repacker: Repacker::Idle,
            rounds: 0,
            writer: Writer::Begin,
            sessions: 0,
            reader: Reader::Idle,
            held: 0,
            removals_left: 1,
            undos_left: self.undos,
            fences_left: self.fences,
            moved_nothing: false,
        };
        (state.rows[OLD], state.objects[OLD]) = (Row::Live, A | B);
        (state.rows[DELTA], state.objects[DELTA]) = (Row::Live, D);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.repacker {
            Repacker::Idle
                if state.rounds < ROUNDS && state.on_old() != 0 && state.held & 1 << OLD == 0 =>
            {
                actions.push(Action::Look);
            }
            Repacker::Idle => {}
            Repacker::Looked { .. } | Repacker::Late { .. } => actions.push(Action::Copy),
            Repacker::Uploaded { .. } => actions.push(Action::Move),
        }
        if !matches!(state.writer, Writer::Done { .. } | Writer::Failed) {
            actions.push(Action::Write);
        }
        let there = (0..SNAPSHOTS).filter(|s| state.snapshots[*s] != 0);
        if state.removals_left > 0 {
            let free = there.clone().filter(|s| *s != 0 || state.held == 0);
            actions.extend(free.map(Action::Remove));
        }
        if state.undos_left > 0 {
            let removed = (0..SNAPSHOTS).filter(|s| state.removed[*s] != 0);
            actions.extend(removed.map(Action::Undo));
        }
        for pack in 0..PACKS {
            let is_used = state.used() & 1 << pack != 0;
            match state.rows[pack] {
                Row::Live if !is_used => actions.push(Action::Condemn(pack)),
                // With rescue it is not used then; `packs` shows that.
                Row::Condemned => actions.push(Action::DeclareDead(pack)),
                _ => {}
            }
            let is_leftover =
                state.rows[pack] == Row::None && state.is_fenced(pack) && state.objects[pack] != 0;
            let is_doomed = state.doomed & 1 << pack != 0;
            if !is_doomed && (is_leftover || state.rows[pack] == Row::Dead) {
                actions.push(Action::Doom(pack));
            }
            if is_doomed && state.objects[pack] != 0 {
                actions.push(Action::Delete(pack));
            }
            if state.fences_left > 0 && pack >= MOVED && !state.is_fenced(pack) {
                actions.push(Action::Fence(pack));
            }
        }
        match state.reader {
            Reader::Idle if self.reads => actions.extend(there.map(Action::Read)),
            Reader::Reads { .. } => actions.push(Action::ReadPack),
            _ => {}
        }
        if self.holds && state.held == 0 && state.snapshots[0] != 0 {
            actions.push(Action::Hold);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Look => {
                let rows = state.on_old();
                let of = match self.without {
                    Without::Bases => NAMES,
                    _ => NEEDS,
                };
                let needed = (0..SNAPSHOTS).filter(|s| rows & 1 << s != 0);
                let alive = needed.fold(0, |alive, s| alive | of[s]) & (A | B);
                state.repacker = Repacker::Looked { rows, alive };
            }
            Action::Copy => match state.repacker {
                Repacker::Looked { rows, alive } if self.without == Without::PackFirst => {
                    state.rounds += 1;
                    let new = self.copy_of(&state);
                    self.move_rows(&mut state, rows, new);
                    state.repacker = Repacker::Late { alive };
                }
                Repacker::Looked { rows, alive } => {
                    state.rounds += 1;
                    let new = self.copy_of(&state);
                    state.objects[new] = alive;
                    state.repacker = Repacker::Uploaded { rows };
                }
                Repacker::Late { alive } => {
                    let new = self.copy_of(&state);
                    state.objects[new] = alive;
                    state.repacker = Repacker::Idle;
                }
                _ => return None,
            },
            Action::Move => {
                let Repacker::Uploaded { rows } = state.repacker else {
                    return None;
                };
                let new = self.copy_of(&state);
                self.move_rows(&mut state, rows, new);
                state.repacker = Repacker::Idle;
            }
            Action::Write => self.write(&mut state),
            Action::Remove(snapshot) => {
                state.removals_left -= 1;
                state.removed[snapshot] = std::mem::take(&mut state.snapshots[snapshot]);
            }
            Action::Undo(snapshot) => {
                state.undos_left -= 1;
                let packs = state.removed[snapshot];
                if each(packs).all(|pack| state.is_there(pack)) {
                    state.removed[snapshot] = 0;
                    state.use_packs(snapshot, packs, self.without != Without::RescueByUndo);
                }
            }
            Action::Condemn(pack) => state.rows[pack] = Row::Condemned,
            Action::DeclareDead(pack) => state.rows[pack] = Row::Dead,
            Action::Fence(pack) => {
                state.fences_left -= 1;
                state.fenced |= 1 << pack;
            }
            Action::Doom(pack) => state.doomed |= 1 << pack,
            Action::Delete(pack) => state.objects[pack] = 0,
            Action::Read(snapshot) => {
                let left = state.snapshots[snapshot];
                state.reader = Reader::Reads { snapshot, left };
            }
            Action::ReadPack => self.read_pack(&mut state),
            Action::Hold => state.held = state.snapshots[0],
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(IN_USE_IS_LIVE, |_, s: &State| {
                each(s.used()).all(|p| s.rows[p] == Row::Live)
            }),
            Property::always(COMPLETE, |_, s: &State| {
                (0..SNAPSHOTS).filter(|n| s.snapshots[*n] != 0).all(|n| {
                    let there = each(s.snapshots[n]).fold(0, |there, p| there | s.objects[p]);
                    NEEDS[n] & !there == 0
                })
            }),
            Property::always(READ, |_, s: &State| s.reader != Reader::Broken),
            Property::always(KNOWN, |_, s: &State| {
                each(s.held).all(|pack| s.objects[pack] != 0)
            }),
            Property::sometimes("a snapshot uses what was packed anew", |_, s: &State| {
                s.snapshots[0] & 1 << MOVED != 0
            }),
            Property::sometimes(
                "the old pack is deleted, and nothing lost",
                |_, s: &State| s.objects[OLD] == 0 && s.snapshots.iter().all(|packs| *packs != 0),
            ),
            Property::sometimes("a writer rescues the old pack", |_, s: &State| {
                s.writer == Writer::Done { rescued: true } && s.snapshots[0] & 1 << OLD == 0
            }),
            Property::sometimes("what came meanwhile moves the next time", |_, s: &State| {
                s.snapshots[1] & 1 << (MOVED + 1) != 0
            }),
            Property::sometimes("nothing is left to move", |_, s: &State| s.moved_nothing),
        ];
        if self.undos > 0 {
            properties.push(Property::sometimes(
                "an undo is of the old pack",
                |_, s: &State| s.undos_left == 0 && s.snapshots[0] & 1 << OLD != 0 && s.rounds > 0,
            ));
        }
        if self.reads {
            properties.push(Property::sometimes(
                "a reader is sent on",
                |_, s: &State| s.reader == Reader::Complete && s.objects[OLD] == 0,
            ));
        }
        if self.holds {
            properties.push(Property::sometimes(
                "what is held was moved",
                |_, s: &State| s.held & 1 << MOVED != 0,
            ));
        }
        properties
    }
}

const IN_USE_IS_LIVE: &str = "a pack in use is live";
const COMPLETE: &str = "what a snapshot holds is there";
const READ: &str = "a reader reads what is there";
const KNOWN: &str = "what a lazy home builds on is where it knows it";

#[test]
fn what_is_packed_anew_is_whole_beside_writers_and_readers() {
    let mut model = Repacking::whole(Without::Nothing);
    if is_large() {
        (model.undos, model.fences) = (2, 2);
    }
    check_all("packing anew", model);
}

#[test]
fn what_homes_hold_is_not_packed_anew() {
    check_all("packing anew, held", Repacking::held(Without::Nothing));
}

#[test]
fn without_looking_at_holds_again_a_home_loses_what_it_builds_on() {
    check_breaks(Repacking::held(Without::HoldsRecheck), KNOWN);
}

#[test]
fn without_regard_to_what_was_looked_at_a_snapshot_lacks_a_chunk() {
    check_breaks(Repacking::whole(Without::RowsLookedAt), COMPLETE);
}

#[test]
fn without_bases_a_delta_cannot_be_read() {
    check_breaks(Repacking::whole(Without::Bases), COMPLETE);
}

#[test]
fn without_the_check_for_fences_the_copy_is_deleted_as_a_leftover() {
    check_breaks(Repacking::whole(Without::FenceCheck), COMPLETE);
}

#[test]
fn without_the_pack_before_its_root_a_snapshot_names_nothing() {
    check_breaks(Repacking::whole(Without::PackFirst), COMPLETE);
}

#[test]
fn without_rescue_what_was_moved_away_from_is_deleted_under_a_writer() {
    check_breaks(Repacking::whole(Without::Rescue), COMPLETE);
    check_breaks(Repacking::whole(Without::RescueByUndo), COMPLETE);
}

#[test]
fn without_a_second_look_a_reader_misses_what_was_moved() {
    check_breaks(Repacking::whole(Without::SecondLook), READ);
}
