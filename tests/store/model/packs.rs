//! Packs: uploaded, used, condemned, rescued, dead, deleted.
//!
//! A commit either goes on from the latest root or has a conflict; `log` shows that the root log
//! can be taken for that. So the latest root is all that is kept, and of what somebody has read
//! only whether it still is the latest.

use super::{check_all, check_breaks, each, is_large};
use stateright::{Model, Property};

/// Pack 0 lies there at the start; a writer uploads one pack in each of its sessions; the last one
/// is what a mended log copies.
const PACKS: usize = 1 + 2 * SESSIONS_OF_WRITER + 1;
const COPY: usize = PACKS - 1;
const SESSIONS_OF_WRITER: usize = 3;
/// Snapshot 0 is there at the start, each writer makes one.
const SNAPSHOTS: usize = 3;
/// Chunks of each snapshot, as bits. Pack 0 holds the first one.
const NEEDS: [Chunks; SNAPSHOTS] = [0b01, 0b11, 0b01];
/// A pack that two machines have and both push, under its one name.
const SHARED: usize = 1;
const SHARED_CHUNKS: Chunks = 0b10;

/// Sets of packs, by number, as bits.
type Packs = u8;
type Chunks = u8;

/// What the model does without, to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// A commit that uses a condemned pack leaves it condemned.
    Rescue,
    /// A condemned pack is declared dead without a look at what is used.
    UseCheck,
    RescueAndUseCheck,
    /// A commit may use dead packs.
    DeadCheck,
    /// A commit may give rows to packs of fenced sessions.
    FenceCheck,
    /// After a conflict a writer commits what it had validated before.
    Revalidation,
    /// After a conflict a collector declares dead what it had chosen before.
    CollectorRevalidation,
    /// Objects of condemned packs are deleted before a root declares them dead.
    DeadBeforeDelete,
    /// Leftovers are deleted and their session is not fenced.
    FenceBeforeDelete,
    /// Leftovers are those without a row in a root from before the fence.
    RowsAfterFence,
    /// Rows of deleted packs go and their sessions are not fenced.
    FenceBeforeForgetting,
    /// What a dead pack held is uploaded under its old name.
    NewName,
    /// A mended root leaves what nobody used as it was before the loss.
    Burial,
    /// A mended root has the fences of before the loss alone.
    FenceOfAll,
    /// A mended root fences only sessions of which something lies there.
    FenceOfUnseen,
    /// What comes back is used under its old names.
    CopyOfUnnamed,
    /// What was used before the loss is used under its old names, however many roots are lost.
    CopyOfUsed,
}

/// The state of a pack's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Row {
    None,
    Live,
    Condemned,
    Dead,
    Deleted,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// What it needs may be there already, says a root.
    Begin,
    /// Packs are missing, or may be.
    Upload,
    /// All is uploaded: what does the latest root say of the packs?
    Validate,
    /// They may be used, says a root.
    Commit {
        is_latest: bool,
    },
    Done {
        rescued: bool,
    },
    /// It is told that it failed.
    Failed,
}

/// Somebody who makes a snapshot, or brings one back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Writer {
    step: Step,
    snapshot: usize,
    /// Packs it will use.
    packs: Packs,
    /// Sessions it has used up.
    sessions: usize,
    /// Without revalidation: packs to set live, as it chose them.
    chosen: Packs,
    /// Without new names: packs that it uploaded again.
    again: Packs,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Collector {
    /// The pack it is about to declare dead, and whether the root it chose it by is the latest.
    choice: Option<(usize, bool)>,
    /// Packs that it has seen dead and will delete.
    doomed: Packs,
    /// Dead packs that it has deleted.
    gone: Packs,
    /// Leftovers that it will delete.
    orphans: Packs,
}

/// What a root says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Root {
    /// Rows of packs.
    rows: [Row; PACKS],
    /// Fenced sessions, of one pack each.
    fenced: Packs,
    /// Snapshots with their packs.
    snapshots: [Packs; SNAPSHOTS],
    /// Removed ones that can be brought back.
    removed: [Packs; SNAPSHOTS],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Reader {
    Idle,
    /// It has yet to read these packs.
    Reads {
        snapshot: usize,
        left: Packs,
    },
    Complete,
    /// The snapshot was removed while it read.
    Gone,
    WrongBytes,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The latest root.
    root: Root,
    /// The root that will be the newest which can be read, and how many come after it.
    readable: Option<(Root, u8)>,
    losses_left: u8,
    /// The objects under `packs/`; 0 is none.
    objects: [Chunks; PACKS],
    /// What was written first under each name.
    written: [Chunks; PACKS],
    writers: Vec<Writer>,
    collectors: Vec<Collector>,
    reader: Reader,
    undo: Option<Writer>,
    undos_left: u8,
    removals_left: u8,
    fences_left: u8,
    /// Names that were dead once.
    ever_dead: Packs,
    /// Whether a fenced session got a new row.
    broken_fence: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Write(usize),
    Undo(usize),
    UndoStep,
    Remove(usize),
    Condemn(usize),
    Choose(usize, usize),
    DeclareDead(usize),
    /// A collector reads which packs are dead.
    Doom(usize),
    Delete(usize, usize),
    DeclareDeleted(usize),
    /// The latest root is the newest that can be read later on.
    Keep,
    /// All roots since are lost, and a new one goes on from there.
    Mend,
    /// The row of a deleted pack goes; a fence of its session, as all old ones share, stands for it.
    Forget(usize),
    Fence(usize),
    ListOrphans(usize),
    DeleteOrphan(usize, usize),
    Read(usize),
    ReadPack,
}

struct Lifecycle {
    writers: usize,
    collectors: usize,
    sessions: usize,
    removals: u8,
    undos: u8,
    fences: u8,
    readers: bool,
    /// So many roots are lost at most.
    losses: u8,
    /// Both writers begin with the shared pack, and make snapshots of the same chunks.
    shares: bool,
    without: Without,
}

impl State {
    fn packs_where(&self, is: impl Fn(usize) -> bool) -> Packs {
        (0..PACKS).filter(|p| is(*p)).fold(0, |set, p| set | 1 << p)
    }

    fn used(&self) -> Packs {
        self.root
            .snapshots
            .iter()
            .fold(0, |used, packs| used | packs)
    }

    fn is_fenced(&self, pack: usize) -> bool {
        self.root.fenced & 1 << pack != 0
    }

    fn dead(&self) -> Packs {
        self.packs_where(|p| self.root.rows[p] == Row::Dead)
    }

    /// Packs without a row that lie there.
    fn orphans(&self) -> Packs {
        self.packs_where(|p| self.root.rows[p] == Row::None && self.objects[p] != 0)
    }

    fn committers(&mut self) -> impl Iterator<Item = &mut Writer> {
        self.writers.iter_mut().chain(&mut self.undo)
    }

    /// A new root: what others have read is no longer the latest.
    fn new_root(&mut self, without: Without) {
        if let Some((_, lost)) = &mut self.readable {
            *lost += 1;
        }
        for writer in self.committers() {
            if let Step::Commit { is_latest } = &mut writer.step {
                *is_latest = false;
                if without != Without::Revalidation {
                    writer.chosen = 0;
                }
            }
        }
        for collector in &mut self.collectors {
            if let Some((_, is_latest)) = &mut collector.choice {
                *is_latest = false;
            }
        }
    }
}

impl Lifecycle {
    /// Two writers and two collectors.
    fn writers(without: Without) -> Self {
        Lifecycle {
            writers: 2,
            collectors: 2,
            sessions: 2,
            removals: 1,
            undos: 0,
            fences: 1,
            readers: false,
            losses: 0,
            shares: false,
            without,
        }
    }

    /// Two machines that push the same pack.
    fn sharers(without: Without) -> Self {
        Lifecycle {
            shares: true,
            collectors: 1,
            ..Self::writers(without)
        }
    }

    /// A writer, somebody who brings snapshots back, a reader and a collector.
    fn readers(without: Without) -> Self {
        Lifecycle {
            writers: 1,
            collectors: 1,
            sessions: 2,
            removals: 2,
            undos: 1,
            fences: 0,
            readers: true,
            losses: 0,
            shares: false,
            without,
        }
    }

    /// A writer and two collectors, and roots that are lost.
    fn mended(without: Without) -> Self {
        Lifecycle {
            writers: 1,
            losses: 1,
            ..Self::writers(without)
        }
    }

    fn needs(&self, snapshot: usize) -> Chunks {
        match snapshot {
            2 if self.shares => NEEDS[1],
            _ => NEEDS[snapshot],
        }
    }

    /// A writer's or an undo's next step; `writer` is no part of `state` meanwhile.
    fn step(&self, state: &mut State, mut writer: Writer, number: Option<usize>) -> Writer {
        match writer.step {
            Step::Begin => {
                writer.packs = match state.root.rows[0] {
                    Row::Live | Row::Condemned => 1,
                    _ => 0,
                };
                writer.step = Step::Upload;
            }
            Step::Upload => {
                let held = each(writer.packs).fold(0, |held, p| held | state.written[p]);
                let missing = self.needs(writer.snapshot) & !held;
                // Where it does without new names: a name that it would take again.
                let burned = state.packs_where(|p| {
                    matches!(state.root.rows[p], Row::Dead | Row::Deleted) && state.written[p] != 0
                });
                let old = each(burned & !writer.packs).next();
                match (missing, number, old) {
                    (0, ..) => writer.step = Step::Validate,
                    (_, Some(_), Some(old)) if self.without == Without::NewName => {
                        state.objects[old] = missing;
                        writer.packs |= 1 << old;
                        writer.again |= 1 << old;
                    }
                    (_, Some(number), _) if writer.sessions < self.sessions => {
                        let own = 1 + number * SESSIONS_OF_WRITER + writer.sessions;
                        let (pack, chunks) = match self.shares && writer.sessions == 0 {
                            true => (SHARED, SHARED_CHUNKS),
                            false => (own, missing),
                        };
                        state.objects[pack] = chunks;
                        state.written[pack] = chunks;
                        writer.packs |= 1 << pack;
                        writer.sessions += 1;
                    }
                    _ => writer.step = Step::Failed,
                }
            }
            Step::Validate => {
                let unusable = each(writer.packs).filter(|p| match state.root.rows[*p] {
                    Row::Live | Row::Condemned => false,
                    Row::Dead | Row::Deleted => {
                        self.without != Without::DeadCheck && writer.again & 1 << p == 0
                    }
                    Row::None => state.is_fenced(*p) && self.without != Without::FenceCheck,
                });
                let unusable = unusable.fold(0, |set, p| set | 1 << p);
                writer.packs &= !unusable;
                writer.chosen = each(writer.packs)
                    .filter(|p| match state.root.rows[*p] {
                        Row::None => true,
                        Row::Live => false,
                        Row::Condemned => {
                            !matches!(self.without, Without::Rescue | Without::RescueAndUseCheck)
                        }
                        Row::Dead | Row::Deleted => self.without == Without::NewName,
                    })
                    .fold(0, |set, p| set | 1 << p);
                writer.step = match unusable {
                    0 => Step::Commit { is_latest: true },
                    _ => Step::Upload,
                };
            }
            Step::Commit { is_latest: false } if self.without != Without::Revalidation => {
                writer.step = Step::Validate;
            }
            Step::Commit { .. } => {
                let mut rescued = false;
                for pack in each(writer.chosen) {
                    rescued |= state.root.rows[pack] == Row::Condemned;
                    state.broken_fence |=
                        state.root.rows[pack] == Row::None && state.is_fenced(pack);
                    state.root.rows[pack] = Row::Live;
                }
                // Somebody may have mended it into the table.
                if state.root.snapshots[writer.snapshot] == 0 {
                    state.root.snapshots[writer.snapshot] = writer.packs;
                }
                state.root.removed[writer.snapshot] = 0;
                state.new_root(self.without);
                writer.step = Step::Done { rescued };
                writer.chosen = 0;
            }
            Step::Done { .. } | Step::Failed => {}
        }
        writer
    }

    /// A root behind lost ones, which goes on from the newest that can be read.
    fn mend(&self, state: &mut State) -> Option<()> {
        let (base, lost_roots) = state.readable.take()?;
        let lost = std::mem::replace(&mut state.root, base);
        let used = state.used();
        // A pack in use is dead three roots later at the earliest.
        let trusted = match lost_roots {
            3.. if self.without != Without::CopyOfUsed => 0,
            _ => used,
        };
        let mut copied = 0;
        let mut copy = |packs: Packs| match packs & !trusted {
            0 => packs,
            doubted => {
                copied |= doubted;
                packs & trusted | 1 << COPY
            }
        };
        let is_there = |state: &State, packs: Packs| each(packs).all(|p| state.objects[p] != 0);
        for n in 0..SNAPSHOTS {
            let packs = state.root.snapshots[n];
            match is_there(state, packs) {
                true => state.root.snapshots[n] = copy(packs),
                // It was removed and collected, is told of as damaged, and goes once more.
                false => {
                    state.root.snapshots[n] = 0;
                    state.root.removed[n] = packs;
                }
            }
        }
        for n in 0..SNAPSHOTS {
            let mut packs = lost.snapshots[n] | lost.removed[n];
            if packs == 0 {
                // One that was uploaded and not committed is as whole.
                packs = self.uploaded(state, n);
            }
            let is_known = state.root.snapshots[n] | state.root.removed[n] != 0;
            if is_known || packs == 0 || !is_there(state, packs) {
                continue;
            }
            state.root.snapshots[n] = match self.without {
                Without::CopyOfUnnamed => packs,
                _ => copy(packs),
            };
        }
        let held = each(copied).fold(0, |held, p| held | state.objects[p]);
        if copied != 0 {
            state.objects[COPY] = held;
            state.written[COPY] = held;
        }
        let used = state.used();
        for pack in 0..PACKS {
            let row = &mut state.root.rows[pack];
            match row {
                _ if used & 1 << pack != 0 => *row = Row::Live,
                Row::Live | Row::Condemned if self.without != Without::Burial => {
                    *row = Row::Dead;
                    state.ever_dead |= 1 << pack;
                }
                _ => {}
            }
        }
        let begun = state.packs_where(|p| match self.without {
            Without::FenceOfAll => false,
            Without::FenceOfUnseen => state.objects[p] != 0,
            _ => state.written[p] != 0,
        });
        let unnamed = state.packs_where(|p| state.root.rows[p] == Row::None);
        state.root.fenced |= begun & unnamed;
        state.new_root(self.without);
        Some(())
    }

    /// The packs of a snapshot that lies there whole and is in no root.
    fn uploaded(&self, state: &State, snapshot: usize) -> Packs {
        let writer = state.writers.iter().find(|w| w.snapshot == snapshot);
        let packs = writer.map_or(0, |writer| writer.packs);
        let held = each(packs).fold(0, |held, p| held | state.objects[p]);
        match self.needs(snapshot) & !held {
            0 => packs,
            _ => 0,
        }
    }

    fn read_pack(&self, state: &mut State) {
        let Reader::Reads { snapshot, left } = state.reader else {
            return;
        };
        let Some(pack) = each(left).next() else {
            state.reader = Reader::Complete;
            return;
        };
        state.reader = match state.objects[pack] {
            // It asks the newest root where things are now.
            0 => match state.root.snapshots[snapshot] {
                0 => Reader::Gone,
                left => Reader::Reads { snapshot, left },
            },
            found if found != state.written[pack] => Reader::WrongBytes,
            _ => Reader::Reads {
                snapshot,
                left: left & !(1 << pack),
            },
        };
    }
}

impl Model for Lifecycle {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut rows = [Row::None; PACKS];
        rows[0] = Row::Live;
        let mut snapshots = [0; SNAPSHOTS];
        snapshots[0] = 1;
        let mut objects = [0; PACKS];
        objects[0] = NEEDS[0];
        vec![State {
            root: Root {
                rows,
                fenced: 0,
                snapshots,
                removed: [0; SNAPSHOTS],
            },
            readable: None,
            losses_left: u8::from(self.losses > 0),
            objects,
            written: objects,
            writers: (0..self.writers)
                .map(|number| Writer {
                    step: Step::Begin,
                    snapshot: 1 + number,
                    packs: 0,
                    sessions: 0,
                    chosen: 0,
                    again: 0,
                })
                .collect(),
            collectors: vec![
                Collector {
                    choice: None,
                    doomed: 0,
                    gone: 0,
                    orphans: 0,
                };
                self.collectors
            ],
            reader: Reader::Idle,
            undo: None,
            undos_left: self.undos,
            removals_left: self.removals,
            fences_left: self.fences,
            ever_dead: 0,
            broken_fence: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let goes_on = |w: &Writer| !matches!(w.step, Step::Done { .. } | Step::Failed);
        let writing = (0..self.writers).filter(|w| goes_on(&state.writers[*w]));
        actions.extend(writing.map(Action::Write));
        match &state.undo {
            Some(undo) if goes_on(undo) => actions.push(Action::UndoStep),
            _ if state.undos_left > 0 => {
                let removed = (0..SNAPSHOTS).filter(|s| state.root.removed[*s] != 0);
                actions.extend(removed.map(Action::Undo));
            }
            _ => {}
        }
        if state.removals_left > 0 {
            let there = (0..SNAPSHOTS).filter(|s| state.root.snapshots[*s] != 0);
            actions.extend(there.map(Action::Remove));
        }
        let unused = |p: &usize| state.used() & 1 << p == 0;
        let live = (0..PACKS).filter(|p| state.root.rows[*p] == Row::Live);
        actions.extend(live.filter(unused).map(Action::Condemn));
        let deleted = (0..PACKS).filter(|p| state.root.rows[*p] == Row::Deleted);
        actions.extend(deleted.map(Action::Forget));
        if state.fences_left > 0 {
            // Clocks decide whom to fence, so it can be anybody, committed or not.
            let sessions = (1..PACKS).filter(|p| {
                let (writer, session) =
                    ((p - 1) / SESSIONS_OF_WRITER, (p - 1) % SESSIONS_OF_WRITER);
                writer < self.writers && session < self.sessions
            });
            actions.extend(sessions.filter(|p| !state.is_fenced(*p)).map(Action::Fence));
        }
        for (c, collector) in state.collectors.iter().enumerate() {
            match collector.choice {
                Some(_) => actions.push(Action::DeclareDead(c)),
                None => {
                    let unchecked =
                        matches!(self.without, Without::UseCheck | Without::RescueAndUseCheck);
                    let condemned = (0..PACKS).filter(|p| state.root.rows[*p] == Row::Condemned);
                    let may_die = condemned.filter(|p| unchecked || unused(p));
                    actions.extend(may_die.map(|p| Action::Choose(c, p)));
                }
            }
            if self.dooms(state) & !collector.doomed & !collector.gone != 0 {
                actions.push(Action::Doom(c));
            }
            actions.extend(each(collector.doomed).map(|p| Action::Delete(c, p)));
            if collector.doomed == 0 && collector.gone != 0 {
                actions.push(Action::DeclareDeleted(c));
            }
            if self.leftovers(state) & !collector.orphans != 0 {
                actions.push(Action::ListOrphans(c));
            }
            let may_go = collector.orphans
                & match self.without {
                    Without::FenceBeforeDelete => Packs::MAX,
                    _ => state.root.fenced,
                };
            actions.extend(each(may_go).map(|p| Action::DeleteOrphan(c, p)));
        }
        match &state.readable {
            None if state.losses_left > 0 => actions.push(Action::Keep),
            Some((_, lost)) if (1..=self.losses).contains(lost) => actions.push(Action::Mend),
            _ => {}
        }
        match state.reader {
            Reader::Idle if self.readers => {
                let there = (0..SNAPSHOTS).filter(|s| state.root.snapshots[*s] != 0);
                actions.extend(there.map(Action::Read));
            }
            Reader::Reads { .. } => actions.push(Action::ReadPack),
            _ => {}
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Write(w) => {
                let writer = state.writers[w].clone();
                state.writers[w] = self.step(&mut state, writer, Some(w));
            }
            Action::Undo(snapshot) => {
                state.undos_left -= 1;
                state.undo = Some(Writer {
                    step: Step::Validate,
                    snapshot,
                    packs: state.root.removed[snapshot],
                    sessions: 0,
                    chosen: 0,
                    again: 0,
                });
            }
            Action::UndoStep => {
                let undo = state.undo.clone()?;
                state.undo = Some(self.step(&mut state, undo, None));
            }
            Action::Remove(snapshot) => {
                state.removals_left -= 1;
                state.root.removed[snapshot] = std::mem::take(&mut state.root.snapshots[snapshot]);
                state.new_root(self.without);
            }
            Action::Condemn(pack) => {
                state.root.rows[pack] = Row::Condemned;
                state.new_root(self.without);
            }
            Action::Choose(c, pack) => state.collectors[c].choice = Some((pack, true)),
            Action::DeclareDead(c) => {
                let (pack, is_latest) = state.collectors[c].choice.take()?;
                if is_latest || self.without == Without::CollectorRevalidation {
                    state.root.rows[pack] = Row::Dead;
                    state.ever_dead |= 1 << pack;
                    state.new_root(self.without);
                }
            }
            Action::Doom(c) => {
                let dooms = self.dooms(&state) & !state.collectors[c].gone;
                state.collectors[c].doomed |= dooms;
            }
            Action::Delete(c, pack) => {
                state.objects[pack] = 0;
                state.collectors[c].doomed &= !(1 << pack);
                state.collectors[c].gone |= 1 << pack;
            }
            Action::DeclareDeleted(c) => {
                let gone = std::mem::take(&mut state.collectors[c].gone) & state.dead();
                for pack in each(gone) {
                    state.root.rows[pack] = Row::Deleted;
                }
                if gone != 0 {
                    state.new_root(self.without);
                }
            }
            Action::Forget(pack) => {
                state.root.rows[pack] = Row::None;
                if self.without != Without::FenceBeforeForgetting {
                    state.root.fenced |= 1 << pack;
                }
                state.new_root(self.without);
            }
            Action::Fence(pack) => {
                state.fences_left -= 1;
                state.root.fenced |= 1 << pack;
                state.new_root(self.without);
            }
            Action::ListOrphans(c) => {
                state.collectors[c].orphans |= self.leftovers(&state);
            }
            Action::DeleteOrphan(c, pack) => {
                state.objects[pack] = 0;
                state.collectors[c].orphans &= !(1 << pack);
            }
            Action::Read(snapshot) => {
                state.reader = Reader::Reads {
                    snapshot,
                    left: state.root.snapshots[snapshot],
                };
            }
            Action::ReadPack => self.read_pack(&mut state),
            Action::Keep => {
                state.losses_left -= 1;
                state.readable = Some((state.root.clone(), 0));
            }
            Action::Mend => self.mend(&mut state)?,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(IN_USE_IS_LIVE, |_, s: &State| {
                each(s.used()).all(|p| s.root.rows[p] == Row::Live)
            }),
            Property::always(COMPLETE, |m: &Lifecycle, s: &State| {
                (0..SNAPSHOTS)
                    .filter(|n| s.root.snapshots[*n] != 0)
                    .all(|n| {
                        let there =
                            each(s.root.snapshots[n]).fold(0, |there, p| there | s.objects[p]);
                        m.needs(n) & !there == 0
                    })
            }),
            Property::always(DEAD_STAYS_DEAD, |_, s: &State| {
                each(s.ever_dead).all(|p| !matches!(s.root.rows[p], Row::Live | Row::Condemned))
            }),
            Property::always(FENCE_HOLDS, |_, s: &State| !s.broken_fence),
            Property::always(WRITTEN_ONCE, |_, s: &State| {
                (0..PACKS).all(|p| s.objects[p] == 0 || s.objects[p] == s.written[p])
            }),
            Property::always(NOTHING_LOST, |_, s: &State| {
                s.writers
                    .iter()
                    .filter(|w| matches!(w.step, Step::Done { .. }))
                    .all(|w| s.root.snapshots[w.snapshot] | s.root.removed[w.snapshot] != 0)
            }),
            Property::always(RIGHT_BYTES, |_, s: &State| s.reader != Reader::WrongBytes),
            Property::sometimes("a writer rescues a pack", |_, s: &State| {
                s.writers
                    .iter()
                    .any(|w| w.step == Step::Done { rescued: true })
            }),
            Property::sometimes("what a dead pack held is uploaded again", |_, s: &State| {
                s.root.snapshots[1] != 0 && s.root.snapshots[1] & 1 == 0
            }),
            Property::sometimes("a commit has a conflict", |_, s: &State| {
                s.writers
                    .iter()
                    .any(|w| w.step == Step::Commit { is_latest: false })
            }),
            Property::sometimes("a dead pack is deleted", |_, s: &State| {
                s.root.rows[0] == Row::Deleted
            }),
            Property::sometimes(
                "a name that was forgotten is not used again",
                |_, s: &State| {
                    s.root.rows[0] == Row::None
                        && s.writers.iter().any(|w| {
                            w.step == Step::Commit { is_latest: false } && w.packs & 1 != 0
                        })
                },
            ),
        ];
        if self.fences > 0 {
            properties.extend([
                Property::sometimes("a fence makes a writer upload again", |_, s: &State| {
                    s.is_fenced(1) && s.written[1] != 0 && s.root.snapshots[1] & 0b101 == 0b101
                }),
                Property::sometimes("leftovers are deleted", |_, s: &State| {
                    each(s.root.fenced & !s.ever_dead)
                        .any(|p| s.written[p] != 0 && s.objects[p] == 0)
                }),
            ]);
        }
        if self.losses > 0 {
            properties.extend([
                Property::sometimes("what a lost root held comes back", |_, s: &State| {
                    s.root.snapshots[1] & 1 << COPY != 0
                }),
                Property::sometimes("a writer goes on after a loss", |_, s: &State| {
                    s.losses_left == 0
                        && s.readable.is_none()
                        && s.root.fenced & 0b10 != 0
                        && s.root.snapshots[1] & 0b100 != 0
                }),
            ]);
        }
        if self.undos > 0 {
            properties.extend([
                Property::sometimes("an undo rescues a pack", |_, s: &State| {
                    let undo = s.undo.as_ref();
                    undo.is_some_and(|w| w.step == Step::Done { rescued: true })
                }),
                Property::sometimes("an undo is refused", |_, s: &State| {
                    s.undo.as_ref().is_some_and(|w| w.step == Step::Failed)
                }),
            ]);
        }
        if self.readers {
            properties.extend([
                Property::sometimes("a reader is done", |_, s: &State| {
                    s.reader == Reader::Complete
                }),
                Property::sometimes("a reader is told that it is gone", |_, s: &State| {
                    s.reader == Reader::Gone
                }),
            ]);
        }
        properties
    }
}

impl Lifecycle {
    /// What a collector that reads the latest root will delete.
    fn dooms(&self, state: &State) -> Packs {
        match self.without {
            Without::DeadBeforeDelete => state.packs_where(|p| {
                matches!(state.root.rows[p], Row::Dead | Row::Condemned)
                    && state.used() & 1 << p == 0
            }),
            _ => state.dead(),
        }
    }

    /// What a collector lists as leftovers by the latest root.
    fn leftovers(&self, state: &State) -> Packs {
        match self.without {
            Without::FenceBeforeDelete | Without::RowsAfterFence => state.orphans(),
            _ => state.orphans() & state.root.fenced,
        }
    }
}

const IN_USE_IS_LIVE: &str = "a pack in use is live";
const COMPLETE: &str = "what a snapshot holds is there";
const DEAD_STAYS_DEAD: &str = "what is dead stays dead";
const FENCE_HOLDS: &str = "a fenced session gets no row";
const WRITTEN_ONCE: &str = "a name means one content";
const NOTHING_LOST: &str = "an acknowledged snapshot is there until it is removed";
const RIGHT_BYTES: &str = "a reader reads what it asked for";

#[test]
fn packs_in_use_stay_beside_writers_and_collectors() {
    let mut model = Lifecycle::writers(Without::Nothing);
    if is_large() {
        model.sessions = 3;
        model.fences = 2;
    }
    check_all("packs, writers", model);
}

#[test]
fn packs_in_use_stay_when_two_machines_push_the_same() {
    let mut model = Lifecycle::sharers(Without::Nothing);
    if is_large() {
        model.collectors = 2;
        model.fences = 2;
    }
    check_all("packs, shared", model);
}

#[test]
fn packs_in_use_stay_beside_undo_and_readers() {
    let mut model = Lifecycle::readers(Without::Nothing);
    if is_large() {
        model.writers = 2;
        model.fences = 1;
    }
    check_all("packs, readers", model);
}

#[test]
fn without_rescue_a_pack_in_use_is_deleted() {
    check_breaks(Lifecycle::readers(Without::Rescue), IN_USE_IS_LIVE);
    check_breaks(Lifecycle::readers(Without::RescueAndUseCheck), COMPLETE);
}

/// A collection need not find out what is used before it declares anything dead: one condition of
/// both keeps every snapshot whole.
#[test]
fn with_rescue_the_use_of_condemned_packs_need_not_be_looked_at() {
    check_all("packs, no use check", Lifecycle::readers(Without::UseCheck));
}

#[test]
fn without_the_check_for_death_a_snapshot_needs_what_is_deleted() {
    check_breaks(Lifecycle::writers(Without::DeadCheck), COMPLETE);
}

#[test]
fn without_the_check_for_fences_a_snapshot_needs_what_is_deleted() {
    check_breaks(Lifecycle::writers(Without::FenceCheck), COMPLETE);
}

#[test]
fn without_validating_anew_a_snapshot_needs_what_is_deleted() {
    check_breaks(Lifecycle::writers(Without::Revalidation), COMPLETE);
}

#[test]
fn without_choosing_anew_a_pack_in_use_is_deleted() {
    check_breaks(Lifecycle::writers(Without::CollectorRevalidation), COMPLETE);
}

#[test]
fn without_death_before_deletion_a_pack_in_use_is_deleted() {
    check_breaks(Lifecycle::writers(Without::DeadBeforeDelete), COMPLETE);
}

#[test]
fn without_a_fence_a_pack_in_use_is_deleted_as_a_leftover() {
    check_breaks(Lifecycle::writers(Without::FenceBeforeDelete), COMPLETE);
}

#[test]
fn without_looking_at_rows_after_the_fence_a_pack_in_use_is_deleted_as_a_leftover() {
    check_breaks(Lifecycle::writers(Without::RowsAfterFence), COMPLETE);
}

#[test]
fn without_a_fence_a_forgotten_name_is_taken_for_a_new_one() {
    check_breaks(Lifecycle::writers(Without::FenceBeforeForgetting), COMPLETE);
}

#[test]
fn without_new_names_a_late_deletion_takes_what_was_uploaded_again() {
    check_breaks(Lifecycle::writers(Without::NewName), COMPLETE);
}

#[test]
fn without_new_names_a_reader_reads_something_else() {
    check_breaks(Lifecycle::readers(Without::NewName), RIGHT_BYTES);
}

#[test]
fn packs_in_use_stay_when_roots_are_lost() {
    let mut model = Lifecycle::mended(Without::Nothing);
    if is_large() {
        model.losses = 2;
    }
    check_all("packs, lost roots", model);
}

#[test]
fn without_burial_a_pack_comes_back_that_a_lost_root_declared_dead() {
    check_breaks(Lifecycle::mended(Without::Burial), COMPLETE);
}

#[test]
fn without_a_fence_of_all_a_session_comes_back_that_a_lost_root_fenced() {
    check_breaks(Lifecycle::mended(Without::FenceOfAll), COMPLETE);
}

/// Two collectors saw the fence; one has deleted what the session left, the other will.
#[test]
fn without_a_fence_of_what_is_not_seen_a_session_comes_back_that_a_lost_root_fenced() {
    check_breaks(Lifecycle::mended(Without::FenceOfUnseen), COMPLETE);
}

#[test]
fn without_copies_what_comes_back_is_deleted() {
    check_breaks(Lifecycle::mended(Without::CopyOfUnnamed), COMPLETE);
}

#[test]
fn without_copies_of_all_what_three_lost_roots_declared_dead_is_deleted() {
    let mut model = Lifecycle::mended(Without::CopyOfUsed);
    (model.losses, model.collectors) = (3, 1);
    check_breaks(model, COMPLETE);
    model = Lifecycle::mended(Without::Nothing);
    (model.losses, model.collectors) = (3, 1);
    check_all("packs, three lost roots", model);
}
