//! What was set back, is gone or is another now: nothing is moved, made or hidden by that.

use std::time::Duration;

use zenith::event::ignore;
use zenith::head::Head;
use zenith::home::Wait;
use zenith::managed::{Managed, Refusal, Surroundings};
use zenith::settings::KeepSettings;
use zenith::space::Gc;
use zenith::sync::PushReport;
use zenith::{Error, publish, remote, space};
use zenith_store::{Change, RefChange};
use zenith_testkit::Place;

use crate::fixture::{is, operation};
use crate::machine::{ids, image, machine, pushed, storage};

#[test]
fn a_home_that_was_set_back_moves_nothing_at_the_storage() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    a.snapshot("main", "monday");
    a.push(&there, false).unwrap();
    image(&place.join("a"), &place.join("image"));
    a.snapshot("main", "tuesday");
    let wednesday = a.snapshot("main", "wednesday");
    a.push(&there, false).unwrap();
    image(&place.join("image"), &place.join("a"));
    let ours = a.snapshot("main", "after");
    is(
        a.push(&there, false),
        |e| matches!(e, Error::Diverged { ours: o, theirs, .. } if (*o, *theirs) == (ours, wednesday)),
    );
    let aside = a.push(&there, true).unwrap();
    assert!(matches!(aside, PushReport::Diverged { .. }), "{aside:?}");
    let state = there.state().unwrap();
    assert_eq!(state.get_ref("branch/main"), Some(wednesday));
}

#[test]
fn a_tip_that_was_deleted_here_on_purpose_is_gone_beyond() {
    let place = Place::new();
    let a = machine(&place, "a");
    let there = storage(&place);
    let one = a.snapshot("main", "1");
    let two = a.snapshot("main", "2");
    a.push(&there, false).unwrap();
    {
        let lock = a.home.lock("test", Wait::No).unwrap();
        let back = |name: &str| RefChange {
            name: name.to_owned(),
            from: Some(two),
            to: Some(one),
        };
        let change = Change {
            remove: vec![two],
            refs: vec![back("branch/main"), back("remote/origin/main")],
            operation: operation(),
        };
        a.home.writer(&lock).unwrap().commit(change).unwrap();
    }
    let three = a.snapshot("main", "3");
    pushed(a.push(&there, false), three, 1);
}

#[test]
fn a_storage_that_was_set_back_gets_what_it_lost() {
    let place = Place::new();
    let a = machine(&place, "a");
    let monday = a.snapshot("main", "monday");
    a.push(&storage(&place), false).unwrap();
    image(&place.join("storage"), &place.join("copy"));
    let tuesday = a.snapshot("main", "tuesday");
    a.push(&storage(&place), false).unwrap();
    let wednesday = a.snapshot("main", "wednesday");
    a.push(&storage(&place), false).unwrap();
    image(&place.join("copy"), &place.join("storage"));
    let last = a.snapshot("main", "thursday");
    pushed(a.push(&storage(&place), false), last, 3);
    let there = storage(&place).state().unwrap();
    assert_eq!(ids(&there), [monday, tuesday, wednesday, last]);
}

/// An empty place where there was a repository is a disk that is not mounted, or a loss.
#[test]
fn a_storage_that_is_gone_or_another_is_told() {
    let place = Place::new();
    let a = machine(&place, "a");
    let one = a.snapshot("main", "1");
    let around = Surroundings::default();
    let location = place.arg("storage");
    let mut managed = Managed::open(a.home.dir()).unwrap();
    managed.settings.storage_dest = Some(location.clone());
    let push = || publish::push_branch(&managed, &around, &location, "main", &ignore);
    pushed(push(), one, 1);
    let (there, aside) = (place.join("storage"), place.join("aside"));
    std::fs::rename(&there, &aside).unwrap();
    let gone = |e: &Error| matches!(e, Error::Managed(Refusal::StorageGone { .. }));
    is(push(), gone);
    is(remote::open(&managed, &around, "origin"), gone);
    assert!(
        !there.join("zenith.json").exists(),
        "nothing hides the loss"
    );

    drop(storage(&place));
    let another = |e: &Error| matches!(e, Error::Managed(Refusal::StorageReplaced { .. }));
    is(push(), another);
    is(remote::open(&managed, &around, "origin"), another);
    assert!(storage(&place).state().unwrap().is_empty());
    std::fs::remove_dir_all(&there).unwrap();
    std::fs::rename(&aside, &there).unwrap();
    push().unwrap();
}

/// What went to another place by a flag or a variable is not at the home's own storage.
#[test]
fn a_push_elsewhere_is_not_noted_as_being_at_origin() {
    let place = Place::new();
    let a = machine(&place, "a");
    let around = Surroundings::default();
    let (own, other) = (place.arg("storage"), place.arg("other"));
    let mut saved = a.home.settings().unwrap();
    saved.storage_dest = Some(own.clone());
    a.home.save_settings(&saved).unwrap();
    let mut managed = Managed::open(a.home.dir()).unwrap();
    a.home.set_head(&Head::Branch("main".into())).unwrap();
    let main = a.snapshot("main", "1");
    let side = a.snapshot("side", "2");

    managed.settings.storage_dest = Some(other.clone());
    publish::push_all(&managed, &around, &other, &ignore).unwrap();
    assert_eq!(a.at("remote/origin/main"), None);
    assert_eq!(a.unpushed(), [main, side]);
    let left = |to: &str| {
        let unpushed = publish::unpushed(&managed, Some(to), &a.state()).unwrap();
        unpushed.rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(left(&own), [main, side]);
    // Of a branch that is not the last that was sent nobody knows.
    assert_eq!(left(&other), [main]);

    publish::push_all(&managed, &around, &own, &ignore).unwrap();
    assert_eq!(ids(&storage(&place).state().unwrap()), [main, side]);
    assert_eq!(a.at("remote/origin/side"), Some(side));
    assert_eq!(left(&own), []);

    // An agent that has not heard of it goes on pushing to the old place.
    remote::set_url(&managed, "origin", &other).unwrap();
    publish::push_all(&managed, &around, &own, &ignore).unwrap();
    assert_eq!(a.at("remote/origin/side"), None);
    let moved = Managed::open(a.home.dir()).unwrap();
    publish::push_all(&moved, &around, &other, &ignore).unwrap();
    assert_eq!(a.at("remote/origin/side"), Some(side));
}

/// A developer's copy must not delete what the original keeps.
#[test]
fn the_original_alone_thins_the_storage() {
    let place = Place::new();
    let a = machine(&place, "a");
    for content in ["1", "2", "3"] {
        a.snapshot("main", content);
        // What is of the same second as the newest is kept with it.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    a.push(&storage(&place), false).unwrap();
    let (around, location) = (Surroundings::default(), place.arg("storage"));
    let mut managed = Managed::open(a.home.dir()).unwrap();
    managed.settings.keep = KeepSettings {
        all_hours: 0,
        hourly_days: 0,
        daily_days: 0,
        monthly_months: 0,
    };
    for (primary, dropped) in [(false, 0), (true, 2)] {
        managed.settings.primary = primary;
        let thinned = publish::tidy(&managed, &around, &location).unwrap();
        assert_eq!(thinned.dropped, dropped);
    }
    assert_eq!(ids(&storage(&place).state().unwrap()).len(), 1);
}

/// An undo may leave HEAD on what a forced checkout had discarded.
#[test]
fn what_head_stands_on_is_not_freed() {
    let place = Place::new();
    let a = machine(&place, "a");
    a.snapshot("main", "1");
    let discarded = a.snapshot("gone", "2");
    let aside = format!("undo/main/{}", discarded.short());
    a.set_ref(&aside, Some(discarded));
    a.set_ref("branch/gone", None);
    let managed = Managed::open(a.home.dir()).unwrap();
    let free = |dry_run: bool| {
        let gc = Gc {
            dry_run,
            at_once: true,
        };
        space::collect_home(&managed, gc).unwrap().bytes
    };
    let is_there = || a.at(&aside).is_some() && a.state().snapshot(&discarded).is_some();
    let head = |head: Head| a.home.set_head(&head).unwrap();
    head(Head::Detached(discarded.to_string()));
    assert_eq!((free(true), free(false)), (0, 0));
    assert!(is_there());
    head(Head::Branch("main".into()));
    free(true);
    assert!(is_there());
    free(false);
    assert!(!is_there());
}
