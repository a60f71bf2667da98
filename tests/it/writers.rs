//! Who may write to a storage, and what is asked of one before anybody does.

use std::sync::atomic::Ordering;

use zenith::Error;
use zenith::event::ignore;
use zenith::sync;
use zenith_store::{Params, Repository, World};
use zenith_testkit::Place;

use crate::far::Far;
use crate::fixture::{is, operation};
use crate::machine::{Machine, machine, push_options, storage};

/// Where one home alone writes, another one reads, and takes over only when it says so.
#[test]
fn a_single_writer_is_told_from_others() {
    let place = Place::new();
    let (a, b) = (machine(&place, "a"), machine(&place, "b"));
    let options = push_options("main");
    let one = a.snapshot("main", "1");
    let as_a = || storage(&place).only(&a.id);
    as_a().claim(operation()).unwrap();
    let writer = |id: &str| assert_eq!(storage(&place).state().unwrap().writer(), Some(id));
    writer(&a.id);
    sync::push(&a.home, &as_a(), &options, &ignore).unwrap();

    let refused = |repo: &Repository, by: &Machine| {
        is(
            sync::push(&by.home, repo, &options, &ignore),
            |e| matches!(e, Error::Store(zenith_store::Error::SingleWriter { writer, .. }) if *writer == a.id),
        );
    };
    b.snapshot("main", "2");
    refused(&storage(&place), &b);
    refused(&storage(&place).only(&b.id), &b);
    // The same home without its turns is a stranger, too.
    a.snapshot("main", "3");
    refused(&storage(&place), &a);
    sync::fetch(&b.home, &storage(&place), one, &operation(), &ignore).unwrap();
    assert!(b.state().snapshot(&one).is_some());

    storage(&place).only(&b.id).claim(operation()).unwrap();
    writer(&b.id);
    is(
        sync::push(&a.home, &as_a(), &options, &ignore),
        |e| matches!(e, Error::Store(zenith_store::Error::SingleWriter { writer, .. }) if *writer == b.id),
    );
}

/// Whoever made the repository may have had a better server.
#[test]
fn a_storage_that_replaces_is_not_written_to() {
    let place = Place::new();
    let a = machine(&place, "a");
    a.snapshot("main", "1");
    let far = Far::new(&place);
    let refused = |e: &Error| {
        matches!(
            e,
            Error::Store(zenith_store::Error::NoConditionalWrites { .. })
        )
    };
    far.replaces.store(true, Ordering::Relaxed);
    let make = || {
        sync::open_or_create(
            far.clone(),
            Params::default(),
            None,
            &operation(),
            &World::real(),
        )
    };
    is(make(), refused);
    assert!(!Repository::exists(&*far).unwrap());
    far.replaces.store(false, Ordering::Relaxed);
    make().unwrap();
    far.replaces.store(true, Ordering::Relaxed);
    is(a.push(&far.open(), false), refused);
    let there = storage(&place).state().unwrap();
    assert!(there.is_empty() && there.seq() == 0);
}
