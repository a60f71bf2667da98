//! What a move of a cluster takes away first.

use std::process::Command;

use super::*;

#[test]
fn a_server_that_started_meanwhile_keeps_pg_control() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("d");
    fs::create_dir_all(pgdata.join("global")).unwrap();
    let control = pgdata.join(CONTROL);
    fs::write(&control, "control").unwrap();
    // By its name and its current directory a process is the server.
    let program = dir.path().join("postgres");
    symlink("/bin/sleep", &program).unwrap();
    let mut server = Command::new(&program)
        .arg("60")
        .current_dir(&pgdata)
        .spawn()
        .unwrap();
    fs::write(pgdata.join("postmaster.pid"), server.id().to_string()).unwrap();
    let refused = take_control(&pgdata);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(matches!(refused, Err(Error::ServerRunning { .. })));
    assert_eq!(fs::read(&control).unwrap(), b"control");
    take_control(&pgdata).unwrap();
    assert_eq!(fs::read_dir(pgdata.join("global")).unwrap().count(), 0);
}
