//! What a checkout discarded by force, and when it goes.
//!
//! The snapshots are made up: what they hold does not matter here.

use zenith::managed::Managed;
use zenith::space::{self, Gc};
use zenith_testkit::Place;

use crate::machine::machine;

/// What is let go takes nothing along to which a branch leads.
#[test]
fn what_others_go_on_from_stays_when_it_is_let_go() {
    let place = Place::new();
    let m = machine(&place, "a");
    m.snapshot("main", "1");
    let (gone_on_from, alone) = (m.snapshot("kept", "2"), m.snapshot("alone", "3"));
    let tip = m.snapshot("kept", "4");
    m.set_ref("branch/alone", None);
    m.set_ref("undo/main/aaaaaaaa", Some(gone_on_from));
    m.set_ref("undo/main/bbbbbbbb", Some(alone));
    let gc = |at_once| {
        let managed = Managed::open(m.home.dir()).unwrap();
        let gc = Gc {
            at_once,
            ..Gc::default()
        };
        space::collect_home(&managed, gc).unwrap();
    };
    let has = |id| m.state().snapshot(&id).is_some();
    // Not before a day has passed.
    gc(false);
    assert!(m.at("undo/main/aaaaaaaa").is_some() && has(alone));
    gc(true);
    let state = m.state();
    assert!(!state.refs().keys().any(|name| name.starts_with("undo/")));
    assert!(!has(alone), "nothing else leads to it");
    assert!(has(gone_on_from) && has(tip));
    assert_eq!(state.snapshot(&tip).unwrap().parents, [gone_on_from]);
}
