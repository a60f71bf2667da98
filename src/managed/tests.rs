use super::*;

fn managed() -> (tempfile::TempDir, Managed) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::prepare(&dir.path().join(".zenith")).unwrap();
    home.complete(&Settings::new()).unwrap();
    let managed = Managed::open(home.dir()).unwrap();
    (dir, managed)
}

#[test]
fn an_unmounted_disk_is_no_loss() {
    let (_dir, managed) = managed();
    let pgdata = managed.home.pgdata();
    assert_eq!(managed.presence().unwrap(), Presence::Missing);
    fs::create_dir(&pgdata).unwrap();
    assert_eq!(managed.presence().unwrap(), Presence::Missing);
    managed.remember().unwrap();
    assert_eq!(managed.presence().unwrap(), Presence::Missing);
    fs::create_dir(pgdata.join("lost+found")).unwrap();
    assert_eq!(managed.presence().unwrap(), Presence::Missing);
    let other = Memory {
        device: device_of(&pgdata).unwrap() + 1,
    };
    fs::write(managed.memory_path(), toml::to_string(&other).unwrap()).unwrap();
    let error = managed.presence().unwrap_err();
    assert!(
        matches!(error, Error::Managed(Refusal::Unmounted { .. })),
        "{error}"
    );
}

#[test]
fn half_a_cluster_is_neither_missing_nor_whole() {
    let (_dir, managed) = managed();
    let pgdata = managed.home.pgdata();
    fs::create_dir_all(pgdata.join("global")).unwrap();
    fs::write(pgdata.join("PG_VERSION"), "15\n").unwrap();
    let error = managed.presence().unwrap_err();
    assert!(matches!(
        error,
        Error::Managed(Refusal::Incomplete {
            missing: "global/pg_control",
            ..
        })
    ));
    fs::write(pgdata.join("global/pg_control"), "").unwrap();
    assert_eq!(managed.presence().unwrap(), Presence::Whole);
}

#[test]
fn a_checkout_that_lost_pg_control_is_not_made_anew() {
    let (_dir, managed) = managed();
    let pgdata = managed.home.pgdata();
    fs::create_dir_all(pgdata.join("global")).unwrap();
    fs::write(pgdata.join("PG_VERSION"), "15\n").unwrap();
    let id = SnapshotId([7; 32]);
    let mut marker = Marker::new(&pgdata, id.to_string(), "cd".repeat(16)).unwrap();
    marker.write(&pgdata).unwrap();
    assert_eq!(managed.presence().unwrap(), Presence::HalfMade(id));
    marker.complete(&pgdata).unwrap();
    let error = managed.presence().unwrap_err();
    assert!(
        matches!(error, Error::Managed(Refusal::Incomplete { .. })),
        "{error}"
    );
}

#[test]
fn what_the_home_stands_on_or_goes_to_is_needed() {
    let (_dir, managed) = managed();
    let (home, pgdata) = (&managed.home, managed.home.pgdata());
    home.set_head(&Head::Branch("main".into())).unwrap();
    assert_eq!(managed.needed().unwrap(), []);
    let [one, two, three] = [1, 2, 3].map(|n| SnapshotId([n; 32]));
    home.set_head(&Head::Detached(one.to_string())).unwrap();
    let text = format!("dir = \"/x\"\nsnapshot = \"{two}\"\nstep = \"begun\"\n");
    fs::write(home.dir().join("journal"), text).unwrap();
    fs::create_dir(&pgdata).unwrap();
    let marker = Marker::new(&pgdata, three.to_string(), "cd".repeat(16)).unwrap();
    marker.write(&pgdata).unwrap();
    let unfinished = "an unfinished checkout";
    assert_eq!(
        managed.needed().unwrap(),
        [(one, "HEAD"), (two, unfinished), (three, unfinished)]
    );
}

#[test]
fn long_homes_get_a_short_private_socket_directory() {
    let (dir, near) = managed();
    assert_eq!(near.socket_dir().unwrap(), near.home.run_dir());
    let far = Home::prepare(&dir.path().join("x".repeat(100)).join(".zenith")).unwrap();
    far.complete(&Settings::new()).unwrap();
    let far = Managed::open(far.dir()).unwrap();
    let short = far.socket_dir().unwrap();
    assert!(short.as_os_str().len() < 40, "{}", short.display());
    assert_eq!(fs::metadata(&short).unwrap().mode() & 0o777, 0o700);
    assert_eq!(far.socket_dir().unwrap(), short);
    fs::remove_dir(&short).unwrap();
    std::os::unix::fs::symlink("/tmp", &short).unwrap();
    let error = far.socket_dir().unwrap_err();
    fs::remove_file(&short).unwrap();
    assert!(
        matches!(error, Error::Managed(Refusal::SocketDirForeign { .. })),
        "{error}"
    );
}

#[test]
fn a_guarded_cluster_stays_local() {
    let (_dir, mut managed) = managed();
    managed.settings.server.listen = Some("*".into());
    let error = managed.start_options(Duration::from_secs(1)).unwrap_err();
    assert!(
        matches!(error, Error::Managed(Refusal::Guarded { .. })),
        "{error}"
    );
    managed.settings.primary = true;
    let options = managed
        .start_options(Duration::from_secs(1))
        .unwrap()
        .options;
    assert!(options.contains(&("listen_addresses".into(), "*".into())));
    for local in ["localhost", "127.0.0.1, ::1", ""] {
        assert!(is_local(local), "{local}");
    }
    assert!(!is_local("localhost,0.0.0.0"));
}

#[test]
fn logs_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("postgresql.log");
    rotate_log(&log, 3).unwrap();
    fs::write(&log, "four").unwrap();
    rotate_log(&log, 4).unwrap();
    assert_eq!(fs::read(&log).unwrap(), b"four");
    rotate_log(&log, 3).unwrap();
    assert!(!log.exists());
    assert_eq!(
        fs::read(dir.path().join("postgresql.log.1")).unwrap(),
        b"four"
    );
    fs::write(&log, "fives").unwrap();
    rotate_open_log(&log, 3).unwrap();
    assert_eq!(fs::read(&log).unwrap(), b"");
    assert_eq!(
        fs::read(dir.path().join("postgresql.log.1")).unwrap(),
        b"fives"
    );
}
