//! Exports, imports and pushes against a real S3 server.

use std::path::Path;

use zenith::event::ignore;
use zenith::export::{self, tar::TarDest};
use zenith::home::Home;
use zenith::import::{self, Format, tar::TarSource};
use zenith::settings::Settings;
use zenith::snapshot::SnapshotOptions;
use zenith::sync::{self, Attached, PushOptions, PushReport};
use zenith_store::objects::{Environment, OpenOptions};
use zenith_store::{IndexChoice, Params, Repository, World};
use zenith_testkit::{S3Server, Server};

use crate::export::options;
use crate::fixture::{Fixture, operation};
use crate::import::assert_same_tree;

#[test]
fn tar_objects_and_repository_come_back_from_s3() {
    let f = Fixture::new();
    let location = f.place.dir("ts");
    let server = Server::create(&f.place, "a", &f.programs, "autovacuum = off");
    server.sql(&format!(
        "create tablespace ts location '{}'",
        location.display()
    ));
    server.sql("create table t tablespace ts as select generate_series(1, 300000) i");
    let id = f.online(&server.pgdata, &server.dsn()).unwrap().id;
    server.stop();

    let s3 = S3Server::start();
    // The credentials of snapshot_path have names of their own, which win.
    let mut env: std::collections::BTreeMap<_, _> = s3.env("bucket").into_iter().collect();
    let secret = env
        .insert("AWS_SECRET_ACCESS_KEY".into(), "wrong".into())
        .unwrap();
    let key = env["AWS_ACCESS_KEY_ID"].clone();
    env.insert("SNAPSHOT_AWS_ACCESS_KEY_ID".into(), key);
    env.insert("SNAPSHOT_AWS_SECRET_ACCESS_KEY".into(), secret);
    let snapshot_path = OpenOptions {
        snapshot_path: true,
        ..OpenOptions::default()
    };
    let open = |url: &str| {
        sync::open_objects(
            url,
            Path::new("/"),
            &Environment(env.clone()),
            &snapshot_path,
        )
        .unwrap()
    };
    let on_branch = |branch: &str| SnapshotOptions {
        branch: branch.into(),
        ..f.options()
    };

    let tars = open("s3://bucket/tars");
    let dest = TarDest::Objects(&*tars);
    export::tar::tar(&f.repo, id, dest, &options(), &ignore).unwrap();
    assert_eq!(import::detect_objects(&*tars).unwrap(), Format::Tar);
    let source = TarSource::Objects(&*tars);
    let as_tar = import::tar::tar(&f.repo, source, &on_branch("tar"), &ignore).unwrap();
    assert_same_tree(&f, as_tar.id, id);
    assert_eq!(f.facts(as_tar.id).tablespaces, f.facts(id).tablespaces);

    let files = open("s3://bucket/files");
    export::objects::pgdata(&f.repo, id, &*files, &options(), &ignore).unwrap();
    assert_eq!(import::detect_objects(&*files).unwrap(), Format::Pgdata);
    let as_files = import::objects::pgdata(&f.repo, &*files, &on_branch("files"), &ignore).unwrap();
    assert_same_tree(&f, as_files.id, id);
    assert_eq!(f.facts(as_files.id).tablespaces, f.facts(id).tablespaces);

    let place = open("s3://bucket/repository");
    let storage = sync::open_or_create(
        place.clone(),
        f.repo.params(),
        None,
        &operation(),
        &World::real(),
    )
    .unwrap();
    assert_eq!(import::detect_objects(&*place).unwrap(), Format::Zenith);
    sync::copy(&f.repo, &storage, id, "main", &operation(), &ignore).unwrap();
    let again = Repository::open(place, None, IndexChoice::Memory).unwrap();
    let tree = again.snapshot(id).unwrap().tree;
    assert_eq!(again.listing(tree).unwrap(), f.listing(id));

    // Another home takes it from there, and has nothing to push.
    let home = Home::prepare(&f.place.join("other")).unwrap();
    home.create_repository(Params::default(), operation())
        .unwrap();
    home.complete(&Settings::new()).unwrap();
    let attached = sync::attach(&home, &again, "main", &operation(), &ignore).unwrap();
    assert!(matches!(attached, Attached::Fetched { tip, .. } if tip == id));
    let (local, _guard) = home.reader().unwrap();
    assert_eq!(local.listing(tree).unwrap(), f.listing(id));
    let options = PushOptions {
        branch: "main".into(),
        background: false,
        operation: operation(),
    };
    let report = sync::push(&home, &again, &options, &ignore).unwrap();
    assert_eq!(report, PushReport::UpToDate { tip: id });
}
