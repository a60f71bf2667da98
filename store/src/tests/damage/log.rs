//! Roots and headers that cannot be read, and what is gone on from.

use super::*;

#[test]
fn a_damaged_latest_root_is_told_and_gone_on_from() {
    let (seal, _) = Seal::generate("k");
    for (seal, alone) in [(None, true), (Some(seal), true), (None, false)] {
        let changes: [fn(&mut Vec<u8>); 3] = [|b| b.truncate(100), |b| b.clear(), |b| b[60] ^= 1];
        for change in changes {
            let place = Place::new(seal.clone());
            let history = history(&place);
            let (seq, key) = latest(&place.open());
            rewrite(&place.open(), &key, change);
            let open = || match alone {
                true => place.open().alone(),
                false => place.open(),
            };
            let error = open().state().unwrap_err();
            assert!(
                matches!(&error, Error::RootLost { seq: s, previous: Some((p, _)), .. }
                    if *s == seq && *p == seq - 1),
                "{error}"
            );
            // Nobody goes on from it by mistake.
            assert!(open().commit(Change::default()).is_err());
            assert!(open().verify(Verify::Quick).is_err());
            let done = mend(&open(), &[]);
            assert_eq!(done.log.lost.as_ref().unwrap().0, seq);
            assert_eq!(done.log.base, Some(seq - 1));
            assert_eq!(done.log.root, Some(seq + 1));
            assert_eq!(done.log.unknown(), Some((seq, seq)));
            // The newest snapshot was known to that root alone.
            let branch = format!("recovered/{}", history[2].0.short());
            assert_eq!(done.log.snapshots, [(history[2].0, Some(branch.clone()))]);
            let state = place.open().state().unwrap();
            assert_eq!(
                state.get_ref(&format!("branch/{branch}")),
                Some(history[2].0)
            );
            assert_eq!(state.get_ref(MAIN), Some(history[1].0));
            let row = state.snapshot(&history[2].0).unwrap();
            assert_eq!(row.summary, sample(row.tree).body);
            assert_whole(&place, &history);
            collect(&place.open());
            assert_whole(&place, &history);
            // The log can be read, also where nothing is known of what was done.
            let logged: Vec<_> = place.open().operations(None).unwrap().collect();
            let lost = logged.iter().filter(|entry| entry.is_err()).count();
            assert_eq!(lost, 0);
            assert_eq!(mend(&open(), &[]).log.root, None, "once");
        }
    }
}

#[test]
fn snapshots_of_a_deleted_root_come_back_in_a_home() {
    let place = Place::new(None);
    let history = history(&place);
    let (seq, key) = latest(&place.open());
    place.open().objects().delete(&key).unwrap();
    assert_eq!(place.open().state().unwrap().len(), 2);
    let done = mend(&place.open().alone(), &[]);
    assert_eq!((done.log.lost, done.log.root), (None, Some(seq)));
    assert_eq!(done.log.snapshots.len(), 1);
    assert_whole(&place, &history);
}

#[test]
fn what_is_not_complete_does_not_come_back() {
    let place = Place::new(None);
    let history = history(&place);
    let repository = place.open();
    let newest = packs_of(&repository)[2];
    let chunk = chunks_of(&repository, history[2].0)["own2"][0];
    let at = repository.locate(&chunk.into()).unwrap().unwrap()[0].1;
    assert_eq!(at.pack, newest);
    rewrite(&repository, &newest.key(), |bytes| {
        bytes[at.payload_offset as usize + 3] ^= 1;
    });
    // A look at places does not read chunks; a missing pack is seen.
    let oldest = packs_of(&repository)[0];
    let (_, key) = latest(&repository);
    rewrite(&repository, &key, |bytes| bytes[60] ^= 1);
    let kept = std::fs::read(repository.objects().local_path(&oldest.key()).unwrap()).unwrap();
    repository.objects().delete(&oldest.key()).unwrap();
    let done = mend(&place.open().alone(), &[]);
    assert!(done.log.snapshots.is_empty());
    assert_eq!(done.log.incomplete[0].0, history[2].0);
    assert_eq!(place.open().state().unwrap().len(), 2);
    repository.objects().create(&oldest.key(), &kept).unwrap();
    for (id, files) in &history[..2] {
        assert!(files_of(&place.open(), *id) == *files);
    }
}

#[test]
fn lost_tables_are_made_anew_from_the_packs() {
    for root_too in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let repository = home(dir.path());
        let mut ids = Vec::new();
        for n in 0..60u64 {
            let files = BTreeMap::from([("n".to_owned(), noise(n, 3000))]);
            ids.push(snapshot(&repository, &files, &"a long message ".repeat(40)).id);
        }
        repository
            .commit(Change {
                remove: vec![ids[20]],
                ..Change::default()
            })
            .unwrap();
        repository.commit(Change::default()).unwrap();
        let state = repository.state().unwrap();
        let segments: Vec<_> = state.snapshots.segment_packs().collect();
        assert!(!segments.is_empty());
        let usage: Vec<_> = ids.iter().map(|id| state.usage(id)).collect();
        for (pack, _) in &segments {
            repository.objects().delete(&pack.key()).unwrap();
        }
        if root_too {
            let (_, key) = latest(&repository);
            rewrite(&repository, &key, |bytes| bytes.truncate(70));
        }
        let error = reopen(dir.path()).state().unwrap_err();
        assert!(matches!(error, Error::RootLost { .. }), "{error}");
        let done = mend(&reopen(dir.path()).alone(), &[]);
        assert!(!done.log.tables.is_empty(), "{:?}", done.log);
        assert_eq!(done.log.incomplete, []);
        assert!(done.log.refs.is_empty(), "{:?}", done.log.refs);
        let state = reopen(dir.path()).state().unwrap();
        assert_eq!(state.get_ref(MAIN), ids.last().copied());
        // What was deleted by a root that can be read stays so.
        assert!(state.snapshot(&ids[20]).is_none());
        assert_eq!(state.len(), 59);
        for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 20) {
            assert_eq!(state.usage(id), usage[n], "{n}");
        }
        assert_good(&reopen(dir.path()));
        collect(&reopen(dir.path()));
        assert_good(&reopen(dir.path()));
        let next = snapshot(&reopen(dir.path()), &example(1), "next").id;
        assert_eq!(files_of(&reopen(dir.path()), next), example(1));
    }
}

#[test]
fn what_the_log_says_was_deleted_is_known() {
    let place = Place::new(None);
    let history = history(&place);
    let repository = place.open();
    let change = Change {
        remove: vec![history[0].0, history[1].0],
        refs: vec![],
        operation: Operation::default(),
    };
    let seq = repository.commit(change).unwrap().seq();
    repository.undo(&[seq], Operation::default(), &[]).unwrap();
    let again = Change {
        remove: vec![history[1].0],
        ..Change::default()
    };
    let seq = repository.commit(again).unwrap().seq();
    let deleted = repository.deleted_by_log(seq).unwrap();
    assert_eq!(deleted.into_iter().collect::<Vec<_>>(), [history[1].0]);
}

#[test]
fn with_no_root_at_all_snapshots_come_back() {
    let place = Place::new(None);
    let history = history(&place);
    for root in place.open().objects().list("roots/").unwrap() {
        rewrite(&place.open(), &root.key, |bytes| bytes[60] ^= 1);
    }
    let error = place.open().state().unwrap_err();
    assert!(
        matches!(error, Error::RootLost { previous: None, .. }),
        "{error}"
    );
    let done = mend(&place.open().alone(), &[]);
    assert_eq!((done.log.base, done.log.snapshots.len()), (None, 3));
    let tips: Vec<_> = done
        .log
        .snapshots
        .iter()
        .filter(|(_, b)| b.is_some())
        .collect();
    assert_eq!(tips.len(), 1);
    assert_whole(&place, &history);
}

/// Others go on from the root that they know; who mends loses the race and sees theirs.
#[test]
fn a_root_is_mended_once() {
    let place = Place::new(None);
    history(&place);
    let knows = place.open();
    knows.state().unwrap();
    let (seq, key) = latest(&place.open());
    rewrite(&place.open(), &key, |bytes| bytes[60] ^= 1);
    knows.commit(Change::default()).unwrap();
    assert_eq!(latest(&place.open()).0, seq + 1);
    assert_eq!(place.open().state().unwrap().len(), 3);
    assert_eq!(mend(&place.open(), &[]).log.root, None);
}

/// A repository that lost what makes it one, or cannot read it, is none that could be made anew: it
/// is told, and gets it back from who remembers.
#[test]
fn a_lost_header_is_told_and_written_anew() {
    for seal in [None, Some(Seal::generate("k").0)] {
        let place = Place::new(seal.clone());
        let history = history(&place);
        let objects: Arc<dyn Objects> = Arc::new(Directory::new(place.dir.path()));
        let header = place.dir.path().join("zenith.json");
        let was = std::fs::read(&header).unwrap();
        let id = place.open().id().to_owned();
        let open = || Repository::open(objects.clone(), seal.clone(), IndexChoice::Memory);
        let remembered = Remembered {
            params: SMALL,
            seal: seal.as_ref(),
            id: Some(&id),
        };
        let restore = |remembered| Repository::restore_header(&*objects, remembered);
        assert_eq!(restore(remembered).unwrap(), None);
        for (damage, why) in [
            (None, "it is missing"),
            (Some(""), "EOF while parsing"),
            (Some("{\"kind\": \"another\"}"), "missing field"),
        ] {
            std::fs::remove_file(&header).unwrap();
            if let Some(damage) = damage {
                std::fs::write(&header, damage).unwrap();
            }
            let told = |e: Error| {
                let text = e.to_string();
                assert!(text.contains("zenith.json") && text.contains(why), "{text}");
            };
            told(open().unwrap_err());
            // Nobody makes another one there.
            let create = |objects| {
                let (index, operation) = (IndexChoice::Memory, Operation::default());
                Repository::create(objects, SMALL, seal.clone(), index, operation)
            };
            let made = create(objects.clone());
            assert!(matches!(made, Err(Error::RepositoryExists { .. })));
            assert!(Repository::exists(&*objects).unwrap());
            // What does not fit is not written.
            let another = Remembered {
                id: Some("another"),
                ..remembered
            };
            told(restore(another).unwrap_err());
            let chunks = Remembered {
                params: Params {
                    chunk_size: SMALL.chunk_size / 2,
                    ..SMALL
                },
                ..remembered
            };
            told(restore(chunks).unwrap_err());
            assert!(open().is_err());
            let said = restore(remembered).unwrap().unwrap();
            assert!(said.contains(why), "{said}");
            assert!(std::fs::read(&header).unwrap() == was);
            assert_whole(&place, &history);
        }
        // A place that has nothing else is none, and gets none.
        let empty = tempfile::tempdir().unwrap();
        let nowhere = Repository::restore_header(&Directory::new(empty.path()), remembered);
        assert!(matches!(nowhere, Err(Error::NotARepository { .. })));
    }
}

/// A rehearsal gives just the nodes that a writer stores, and stores nothing.
#[test]
fn a_rehearsal_names_what_would_be_stored() {
    let place = Place::new(None);
    let repository = place.open();
    let bytes = noise(1, 700 * CHUNK);
    let put = |writer: &Writer| {
        let ids: Vec<ChunkId> = bytes
            .chunks(CHUNK)
            .map(|chunk| writer.put_chunk(chunk, None).unwrap())
            .collect();
        let file = writer
            .put_file(0o600, bytes.len() as u64, &ids, &[])
            .unwrap();
        let listing = Listing::from([("f".to_owned(), Node::File(file))]);
        writer.put_tree(&listing).unwrap()
    };
    let rehearsal = repository.rehearsal();
    let tree = put(&rehearsal);
    assert_eq!(rehearsal.stats().bytes_new, 0);
    let nodes = rehearsal.into_nodes();
    assert!(packs_of(&repository).is_empty());
    let writer = repository.writer().unwrap();
    assert_eq!(put(&writer), tree);
    let packs = writer.into_packs().unwrap();
    let mut stored = 0;
    for (name, len) in packs {
        let directory = repository.directory(name, len).unwrap();
        for blob in directory.frames.iter().flat_map(|frame| &frame.blobs) {
            let kind = blob.part.kind;
            if kind != Kind::Chunk {
                let id = repository.ids().of(kind, &nodes[&blob.id]);
                assert_eq!(id, blob.id);
                stored += 1;
            }
        }
    }
    assert_eq!(stored, nodes.len());
    assert!(stored > 4, "an extent map of two levels and a tree");

    // It commits nothing, whatever is tried.
    let rehearsal = repository.rehearsal();
    let snapshot = sample(put(&rehearsal));
    let committed = rehearsal.commit(snapshot, vec![], vec![], Operation::default());
    assert!(matches!(committed, Err(Error::Invalid { .. })));
    assert!(repository.state().unwrap().is_empty());
}
