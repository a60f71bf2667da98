//! Who looks at the storage.

use super::*;

impl Sim {
    /// One of the snapshots at the storage.
    pub(super) fn pick(&self, there: &Repository, dice: &mut Dice) -> Option<SnapshotId> {
        let state = match there.state() {
            Ok(state) => state,
            Err(e) => {
                self.judge("a look at the root", &e);
                return None;
            }
        };
        let ids: Vec<_> = state.snapshots().map(|row| row.id).collect();
        dice.pick(&ids)
    }

    /// Reads a snapshot at the storage.
    pub(super) fn look(&self, there: &Repository, dice: &mut Dice) {
        let Some(id) = self.pick(there, dice) else {
            return;
        };
        let found = try_files_of(there, id);
        self.tell(READER, "reading", &found);
        let model = self.model();
        let is_right = found.as_ref().map(|files| files == model.files(&id));
        let removals = model.removals(&id);
        drop(model);
        match is_right {
            Ok(true) => {}
            Ok(false) => self.wrong(format!("{id} is read and is another")),
            Err(e) if removals == 0 => self.judge("a reader", e),
            Err(_) => {}
        }
    }

    /// Looks at everything: whatever others move and delete meanwhile, nothing is damaged.
    fn verify(&self, there: &Repository) {
        let report = there.verify(Verify::ReadData);
        self.tell(READER, "verification", &report);
        match report {
            Ok(report) => self.judge_report("a verification", &report),
            Err(e) => self.judge("a verification", &e),
        }
    }

    pub(super) fn watch(&self, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(READER, dice);
        for _ in 0..steps {
            match dice.one_in(3) {
                true => self.verify(&there),
                false => self.look(&there, dice),
            }
            if self.storage.restart(READER) || dice.one_in(3) {
                there = self.connect(READER, dice);
            }
        }
    }
}
