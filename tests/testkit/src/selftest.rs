//! The kit itself, on a real server.

use std::path::Path;

use crate::{Load, Place, Programs, Server, load, port, process};

fn place_with_server(programs: &Programs) -> (Place, Server) {
    let place = Place::new();
    let server = Server::create(&place, "c", programs, "");
    (place, server)
}

#[test]
fn a_server_lives_and_dies() {
    let _turn = crate::turn::shared();
    let (place, server) = place_with_server(&Programs::debian());
    let connection = server.connection();
    load::init(&place, &server.programs, &connection, 1);
    let mut pgbench = Load::start(&place, &server.programs, &connection, 2, None);
    process::wait_for("transactions", std::time::Duration::from_secs(20), || {
        (server.value("select count(*) > 10 from pgbench_history") == "t").then_some(())
    });
    assert!(pgbench.is_running());
    pgbench.stop();
    load::check_balances(&server.dsn());
    load::amcheck(&server.programs, place.path(), &connection);

    server.kill9();
    server.restart("");
    load::check_balances(&server.dsn());
    server.stop();
    load::checksums(&server.programs, place.path(), &server.pgdata);
}

#[test]
fn fetched_servers_run() {
    let _turn = crate::turn::shared();
    for major in [16, 17, 18] {
        let (_place, server) = place_with_server(&Programs::fetched(major));
        assert!(
            server
                .value("show server_version")
                .starts_with(&major.to_string())
        );
    }
}

#[test]
fn nothing_outlives_its_place() {
    let _turn = crate::turn::shared();
    let (place, server) = place_with_server(&Programs::debian());
    let (pid, dir) = (server.pid().unwrap(), place.path().to_owned());
    // As after a panic that never reached the server's own end.
    std::mem::forget(server);
    drop(place);
    assert!(!process::alive(pid));
    assert!(!Path::new(&dir).exists());
    assert!(process::under(&dir).is_empty());
}

#[test]
fn sums_that_differ_are_noticed() {
    let _turn = crate::turn::shared();
    let (place, server) = place_with_server(&Programs::debian());
    load::init(&place, &server.programs, &server.connection(), 1);
    server.sql("update pgbench_accounts set abalance = 1 where aid = 1");
    let checked = std::panic::catch_unwind(|| load::check_balances(&server.dsn()));
    assert!(checked.is_err());
}

#[test]
fn ports_are_given_once() {
    let ports: std::collections::HashSet<u16> = (0..50).map(|_| port::free()).collect();
    assert_eq!(ports.len(), 50);
}
