//! Onto which branch a snapshot goes, and that no line mixes two clusters.

use zenith::Error;
use zenith::checkout::{self, CheckoutOptions};
use zenith::event::ignore;
use zenith::head::Head;
use zenith::managed::Managed;
use zenith::take::{self, Elsewhere, Take, Taken};
use zenith_store::SnapshotId;
use zenith_testkit::Server;

use crate::fixture::{Fixture, is};

fn take(f: &Fixture, what: Take) -> zenith::Result<Taken> {
    let managed = Managed::open(f.home.dir()).unwrap();
    take::take(&managed, &f.lock, &what, &ignore)
}

fn parents(f: &Fixture, id: SnapshotId) -> Vec<SnapshotId> {
    f.repo.snapshot(id).unwrap().parents
}

#[test]
fn another_cluster_never_goes_on_where_this_one_ends() {
    let f = Fixture::new();
    let [a, b] = ["a", "b"].map(|name| {
        let server = Server::create(&f.place, name, &f.programs, "autovacuum = off");
        server.stop();
        server
    });
    let one = f.offline(&a.pgdata).unwrap().id;
    let elsewhere = |branch: Option<&str>| Take {
        branch: branch.map(str::to_owned),
        cluster: Some(Elsewhere {
            pgdata: b.pgdata.clone(),
            dsn: None,
        }),
        ..Take::default()
    };
    for head in [Head::Branch("main".into()), Head::Detached(one.to_string())] {
        f.home.set_head(&head).unwrap();
        is(take(&f, elsewhere(None)), |e| {
            matches!(e, Error::BranchForeign { .. })
        });
        assert_eq!(f.home.head().unwrap(), head);
    }
    let other = take(&f, elsewhere(Some("other"))).unwrap().report.id;
    assert_eq!(parents(&f, other), []);
    assert_eq!(f.home.head().unwrap(), Head::Detached(one.to_string()));
    assert_eq!(f.repo.state().unwrap().get_ref("branch/main"), Some(one));
    b.restart("");
    is(f.online(&b.pgdata, &b.dsn()), |e| {
        matches!(e, Error::BranchForeign { .. })
    });
}

#[test]
fn a_line_that_was_begun_goes_on_until_the_next_checkout() {
    let f = Fixture::new();
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.stop();
    let one = f.offline(&server.pgdata).unwrap().id;
    let detached = Head::Detached(one.to_string());
    let pgdata = f.home.pgdata();
    // Nobody starts it, and only its owner gets into the home.
    let options = CheckoutOptions {
        owner: None,
        ..f.checkout_options()
    };
    f.try_checkout(one, &pgdata, &options).unwrap();
    f.home.set_head(&detached).unwrap();
    let first = take(&f, Take::default()).unwrap();
    assert_eq!(f.home.head().unwrap(), Head::Branch(first.branch.clone()));

    // As if we had stopped before HEAD went along.
    f.home.set_head(&detached).unwrap();
    let second = take(&f, Take::default()).unwrap();
    assert_eq!(second.branch, first.branch);
    assert_eq!(parents(&f, second.report.id), [first.report.id]);

    checkout::in_place(&f.repo, one, &pgdata, &f.home, &options, &ignore).unwrap();
    f.home.set_head(&detached).unwrap();
    let third = take(&f, Take::default()).unwrap();
    assert_eq!(third.branch, format!("{}-2", first.branch));
    assert_eq!(parents(&f, third.report.id), [one]);
}
