//! Who takes snapshots out of the storage.

use super::*;

impl Sim {
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
            if self.storage.restart(PRUNER) {
                there = self.connect(PRUNER, dice);
            }
        }
    }
}
