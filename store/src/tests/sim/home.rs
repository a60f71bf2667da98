//! A machine with a repository of its own, and what its program does.

use super::*;

pub(super) const FILE_MAX: usize = 3 * CHUNK;

/// A machine with a repository of its own.
pub(super) struct Home {
    pub(super) number: usize,
    pub(super) dir: tempfile::TempDir,
    pub(super) dice: Dice,
    pub(super) here: Repository,
    /// It leaves at the storage what it fetches.
    pub(super) is_lazy: bool,
    /// Its snapshots, oldest first. All of them can be read, also in a lazy home.
    pub(super) kept: Vec<SnapshotId>,
    pub(super) files: Files,
}

pub(super) fn changed(files: &Files, dice: &mut Dice) -> Files {
    let mut files = files.clone();
    let path = dice.pick(&["noise", "rows", "small"]).unwrap();
    let bytes = files.entry(path.into()).or_default();
    match dice.below(4) {
        0 => {
            let more = 1 + dice.below(CHUNK);
            bytes.extend(noise(dice.next(), more));
        }
        1 if !bytes.is_empty() => bytes.truncate(1 + dice.below(bytes.len())),
        _ if !bytes.is_empty() => {
            let at = dice.below(bytes.len());
            let end = bytes.len().min(at + 1 + dice.below(50));
            dice.fill(&mut bytes[at..end]);
        }
        _ => bytes.extend(b"row\n".repeat(1 + dice.below(4000))),
    }
    bytes.truncate(if path == "small" { 900 } else { FILE_MAX });
    files
}

impl Sim {
    pub(super) fn create_home(&self, number: usize, seed: u64) -> Home {
        let mut dice = Dice::new(seed + 1000 * (1 + number as u64));
        let dir = memory_dir();
        let objects = Arc::new(Directory::new(dir.path()));
        let (index, operation) = (IndexChoice::Memory, Operation::default());
        let (seal, world) = (self.seal.clone(), seeded(dice.next()));
        let here = Repository::create_in(objects, SMALL, seal, index, operation, world).unwrap();
        let here = here.alone();
        let files = Files::from([
            ("noise".into(), noise(seed, CHUNK + 500)),
            ("rows".into(), b"row\n".repeat(3000)),
        ]);
        Home {
            number,
            dir,
            dice,
            here,
            is_lazy: self.lazy == Some(number),
            kept: Vec::new(),
            files,
        }
    }

    /// The repository of a home; a lazy one sees the storage as an actor does.
    pub(super) fn open_home(&self, home: &Home, actor: Option<usize>, seed: u64) -> Repository {
        let local = Directory::new(home.dir.path());
        let objects: Arc<dyn Objects> = match home.is_lazy {
            true => Arc::new(Lazy::new(local, self.storage.objects(actor))),
            false => Arc::new(local),
        };
        let (seal, world) = (self.seal.clone(), seeded(seed));
        let here = Repository::open_in(objects, seal, IndexChoice::Memory, world).unwrap();
        here.alone()
    }

    /// A home to which the storage is as it should be.
    pub(super) fn calm(&self, home: &Home) -> Repository {
        // No two of them, nor the storage, give the same names.
        self.open_home(home, None, u64::MAX - 1 - home.number as u64)
    }

    /// A program on this machine.
    pub(super) fn live(&self, home: &mut Home, steps: usize) {
        let mut there = self.connect(home.number, &mut home.dice);
        self.restart(home, &mut there);
        if home.kept.is_empty() {
            self.take(home);
        }
        for _ in 0..steps {
            match home.dice.below(16) {
                0..5 => self.take(home),
                5..10 => self.push(home, &there),
                10..12 => self.fetch(home, &there),
                12 => self.look(&there, &mut home.dice),
                13 => {
                    self.forget(home);
                    // As `gc --remote` does, and the agent of a home.
                    if let Some(step) = self.collector.filter(|_| home.dice.one_in(2)) {
                        self.collect(home.number, &there, step, &mut home.dice);
                    }
                }
                14 => {
                    // Half a snapshot, which nobody will ever commit.
                    if home.is_lazy {
                        home.here.lean_on(None).unwrap();
                    }
                    let writer = home.here.writer().unwrap();
                    let bytes = noise(home.dice.next(), CHUNK);
                    writer.put_chunk(&bytes, None).unwrap();
                    writer.into_packs().unwrap();
                    self.restart(home, &mut there);
                }
                _ => self.restart(home, &mut there),
            }
            if self.storage.restart(home.number) {
                self.restart(home, &mut there);
            }
        }
    }

    /// All that the program knew is gone; what is on disk is there.
    pub(super) fn restart(&self, home: &mut Home, there: &mut Repository) {
        self.storage.note(&format!("{} starts anew", home.number));
        let seed = home.dice.next();
        home.here = self.open_home(home, Some(home.number), seed);
        *there = self.connect(home.number, &mut home.dice);
    }

    pub(super) fn take(&self, home: &mut Home) {
        home.files = changed(&home.files, &mut home.dice);
        let parent = match home.dice.one_in(4) {
            true => home.dice.pick(&home.kept),
            false => home.kept.last().copied(),
        };
        let message = format!("{} of {}", self.model().taken.len(), home.number);
        // Of the storage a lazy home uses what is held for it alone.
        if home.is_lazy {
            home.here.lean_on(parent).unwrap();
        }
        let done = try_snapshot(&home.here, &home.files, parent, &message, vec![1]);
        let id = match done {
            Ok(id) => id,
            Err(e) if home.is_lazy => {
                self.judge("a snapshot of a lazy home", &e);
                self.tell(home.number, "snapshot from afar", &Err::<(), _>(e));
                return;
            }
            Err(e) => panic!("{e}"),
        };
        self.storage
            .note(&format!("{} takes {message}", home.number));
        self.model().taken.push((id, home.files.clone()));
        home.kept.push(id);
    }

    pub(super) fn push(&self, home: &mut Home, there: &Repository) {
        let mut ids = Vec::new();
        for _ in 0..=home.dice.below(3) {
            ids.extend(home.dice.pick(&home.kept).filter(|id| !ids.contains(id)));
        }
        let begin = self.storage.now();
        let done = send(&home.here, there, &ids);
        self.judge_writer(home.number, "a push", &done);
        match &done {
            // It was told before anything went up.
            Err(Error::SingleWriter { .. }) => {
                self.tell(home.number, "a push where another writes alone", &done);
                return;
            }
            Ok(done) => {
                // Who was told of an old root may have been told that nothing was to be done.
                let added = &done.state.operation().added;
                let is_sure = |id: &SnapshotId| {
                    self.profile.stale == 0 || done.snapshots > 0 && added.contains(id)
                };
                let (sure, unsure): (Vec<_>, Vec<_>) = ids.iter().partition(|id| is_sure(id));
                self.note(&sure, true, begin, true);
                self.note(&unsure, true, begin, false);
            }
            Err(e) => {
                self.note(&ids, true, begin, false);
                self.judge("a push", e);
            }
        }
        self.tell(home.number, "push", &done);
    }

    pub(super) fn fetch(&self, home: &mut Home, there: &Repository) {
        let Some(id) = self.pick(there, &mut home.dice) else {
            return;
        };
        // What is kept there is there when it is asked for, whatever others do.
        let folder = if home.is_lazy { "homes" } else { "pins" };
        let name = format!("{folder}/{}/{id}", home.number);
        let is_kept = (home.is_lazy || home.dice.one_in(2))
            && self.set_ref(home.number, there, &name, Some(id)).is_ok();
        if home.is_lazy && !is_kept {
            return;
        }
        if home.is_lazy {
            // What an earlier snapshot did not lean on is out of sight of the handle that took it.
            let seed = home.dice.next();
            home.here = self.open_home(home, Some(home.number), seed);
        }
        let done = match home.is_lazy {
            true => transfer_without_packs(there, &home.here, whole(&[id])),
            false => transfer(there, &home.here, whole(&[id]), &|_| {}),
        };
        self.tell(home.number, "fetch", &done);
        let found = done.and_then(|_| {
            if !home.kept.contains(&id) {
                home.kept.push(id);
            }
            try_files_of(&home.here, id)
        });
        match found {
            Ok(files) if files == *self.model().files(&id) => {}
            Ok(_) => self.wrong(format!("{id} was fetched and is another")),
            Err(Error::NoSnapshot { .. }) if is_kept => {
                self.wrong(format!("{id} was kept and is gone"));
            }
            // It may have gone in the meantime.
            Err(e) if is_kept || self.model().removals(&id) == 0 => self.judge("a fetch", &e),
            Err(_) => {}
        }
        if is_kept && !home.is_lazy {
            // One that stays keeps a snapshot, and does no harm.
            let _ = self.set_ref(home.number, there, &name, None);
        }
    }

    /// Has the storage keep a snapshot, or not any more.
    pub(super) fn set_ref(
        &self,
        who: usize,
        there: &Repository,
        name: &str,
        to: Option<SnapshotId>,
    ) -> Result<()> {
        let done = there.state().and_then(|state| {
            let change = RefChange {
                name: name.to_owned(),
                from: state.get_ref(name),
                to,
            };
            let refs = Vec::from_iter((change.from != to).then_some(change));
            there.commit(Change {
                refs,
                ..Change::default()
            })
        });
        self.tell(who, "keeping", &done);
        done.map(drop)
    }

    /// Takes snapshots out of a home, and packs.
    pub(super) fn forget(&self, home: &mut Home) {
        if home.kept.len() > 1 {
            let gone = home.kept.remove(home.dice.below(home.kept.len()));
            remove(&home.here, &[gone]);
        }
        let how = Collect {
            grace: 0,
            repack: OFTEN,
            ..Collect::at(4_000_000_000)
        };
        match home.here.collect(Operation::default(), how) {
            Err(e) if home.is_lazy => self.judge("a collection of a lazy home", &e),
            done => drop(done.unwrap()),
        }
    }
}

/// As a push does it: packs whose names are used up there get others.
pub(super) fn send(
    here: &Repository,
    there: &Repository,
    ids: &[SnapshotId],
) -> Result<Transferred> {
    for _ in 0..8 {
        match transfer(here, there, whole(ids), &|_| {}) {
            Err(Error::NamesUsedUp { packs, floor }) => {
                here.rename_packs(&packs, floor, Operation::default())?;
            }
            done => return done,
        }
    }
    transfer(here, there, whole(ids), &|_| {})
}

pub(super) fn whole(snapshots: &[SnapshotId]) -> Transfer {
    Transfer {
        snapshots: snapshots.to_vec(),
        ..Transfer::default()
    }
}
