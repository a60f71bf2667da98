//! What is compared with the model, and what must hold in the end.

use super::*;

impl Sim {
    /// An error that no fault of the storage explains.
    pub(super) fn judge(&self, doing: &str, e: &Error) {
        // Who is told of a root that is not the newest may miss what was taken out since.
        if e.kind() == ErrorKind::Damaged && self.profile.stale == 0 {
            self.wrong(format!("{doing}: {e} ({e:?})"));
        }
    }

    /// Damage that nobody did.
    pub(super) fn judge_report(&self, doing: &str, report: &VerifyReport) {
        let is_good = report.is_good() && report.bad_segments.is_empty();
        if !is_good && self.profile.stale == 0 {
            self.wrong(format!("{doing}: {report:?}"));
        }
    }

    /// Whether somebody who may not write was told so, and nobody else was.
    pub(super) fn judge_writer<T>(&self, home: usize, doing: &str, done: &Result<T>) {
        let may = self.writer().is_none_or(|writer| writer == home);
        match done {
            Err(Error::SingleWriter { .. }) if may => {
                self.wrong(format!("{home} writes alone and was refused {doing}"));
            }
            Ok(_) if !may => self.wrong(format!("another writes alone, and {home} did {doing}")),
            _ => {}
        }
    }

    /// Compares the storage with the model while nobody does anything.
    pub(super) fn check(&self) {
        let there = self.as_it_is();
        let state = there.state().unwrap();
        let found: BTreeSet<SnapshotId> = state.snapshots().map(|row| row.id).collect();
        let mut wrong = Vec::new();
        let model = self.model();
        for (id, files) in &model.taken {
            let is_there = found.contains(id);
            if model.must(id) && !is_there {
                wrong.push(format!("{id} was acknowledged and is not there"));
            }
            if is_there && !model.may(id) {
                wrong.push(format!("{id} was removed and is there"));
            }
            if is_there {
                match try_files_of(&there, *id) {
                    Ok(read) if read == *files => {}
                    Ok(_) => wrong.push(format!("{id} is another at the storage")),
                    Err(e) => wrong.push(format!("{id} cannot be read at the storage: {e}")),
                }
            }
        }
        drop(model);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    pub(super) fn check_home(&self, home: &Home) {
        let here = self.calm(home);
        let state = here.state().unwrap();
        let found: BTreeSet<SnapshotId> = state.snapshots().map(|row| row.id).collect();
        if found != home.kept.iter().copied().collect() {
            self.wrong(format!("home {} has other snapshots", home.number));
        }
        for id in found {
            match try_files_of(&here, id) {
                Ok(files) if files == *self.model().files(&id) => {}
                Ok(_) => self.wrong(format!("{id} is another in home {}", home.number)),
                Err(e) => self.wrong(format!("{id} cannot be read in home {}: {e}", home.number)),
            }
        }
    }

    /// Once nothing fails any more, every home gets all that it has to the storage, and all of it
    /// is whole.
    pub(super) fn settle(&self, homes: &[Home]) {
        self.storage.land_all();
        self.check();
        for home in homes {
            self.check_home(home);
            self.hand_over(home.number);
            let there = self.as_it_is();
            let begin = self.storage.now();
            match send(&self.calm(home), &there, &home.kept) {
                Ok(_) => self.note(&home.kept, true, begin, true),
                Err(e) => self.wrong(format!("a last push: {e} ({e:?})")),
            }
        }
        if let Some(step) = self.collector {
            let there = self.as_it_is();
            for _ in 0..4 {
                if let Err(e) = step(&there, Patience::NONE) {
                    self.wrong(format!("a last collection: {e} ({e:?})"));
                }
            }
            // What nothing names is gone.
            let named = there.state().unwrap().named_packs();
            for listed in there.objects().list("packs/").unwrap() {
                let name = listed.key.strip_prefix("packs/").unwrap().parse().unwrap();
                if !named.contains(&name) {
                    self.wrong(format!("{name} is garbage that stays"));
                }
            }
        }
        self.check();
        let state = self.as_it_is().state().unwrap();
        let covered: u64 = state.index_segments().map(|row| u64::from(row.packs)).sum();
        self.model().counts.entry("segments").or_default().0 += covered;
        for place in homes
            .iter()
            .map(|home| self.calm(home))
            .chain([self.as_it_is()])
        {
            let report = place.verify(Verify::ReadData).unwrap();
            // No segment is deleted that the latest root lists.
            if !report.is_good() || !report.bad_segments.is_empty() {
                self.wrong(format!("{}: {report:?}", place.location()));
            }
        }
    }
}
