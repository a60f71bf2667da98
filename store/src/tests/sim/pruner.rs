//! Who takes snapshots out of the storage, and repairs it without need.

use super::*;

impl Sim {
    /// Repairs a storage of which nothing is damaged: there is nothing to be done.
    fn repair(&self, there: &Repository) {
        let how = Repair {
            operation: Operation::default(),
            sources: Vec::new(),
            summary: &|_| Vec::new(),
        };
        let done = there.repair(&how, &|_| {});
        self.tell(PRUNER, "repair", &done);
        match done {
            Ok(done) => {
                self.judge_report("a repair", &done.before);
                if done.did_anything() && self.profile.stale == 0 {
                    self.wrong(format!("there was nothing to repair: {done:?}"));
                }
            }
            Err(e) => self.judge("a repair", &e),
        }
    }

    pub(super) fn prune(&self, dice: &mut Dice, steps: usize) {
        let mut there = self.connect(PRUNER, dice);
        for _ in 0..steps {
            if let Some(id) = self.pick(&there, dice).filter(|_| dice.one_in(2)) {
                let begin = self.storage.now();
                // An attempt that is under way may have had its effect already.
                self.model().facts.push(Fact {
                    id,
                    is_there: false,
                    begin,
                    end: begin,
                    acknowledged: false,
                });
                let change = Change {
                    remove: vec![id],
                    ..Change::default()
                };
                let done = there.commit(change);
                self.note(&[id], false, begin, done.is_ok());
                self.tell(PRUNER, "removal", &done);
                if let Err(e) = done {
                    self.judge("a removal", &e);
                }
            }
            if dice.one_in(4) {
                self.repair(&there);
            }
            if self.storage.restart(PRUNER) {
                there = self.connect(PRUNER, dice);
            }
        }
    }
}
