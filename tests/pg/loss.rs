//! Crashes and losses: what was committed comes back.

use std::fs;

use zenith_testkit::{process, server};

use crate::support::Home;

fn busy_home() -> Home {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table t (n int)");
    home
}

#[test]
fn kill_9_of_the_server_loses_nothing_committed() {
    let home = busy_home();
    let agent = home.agent_pid().expect("the agent runs");
    for n in 1..=3 {
        home.sql(&format!("insert into t values ({n})"));
        server::kill9_server(&home.pgdata());
        home.start(&[]);
        assert_eq!(home.value("select count(*) from t"), n.to_string());
    }
    assert!(
        home.agent_pid().is_some(),
        "an agent runs again, or still (it was {agent})"
    );
}

#[test]
fn kill_9_of_the_agent_leaves_the_server_alone() {
    let home = busy_home();
    let server = home.server_pid();
    let agent = home.agent_pid().expect("the agent runs");
    process::kill9(agent);
    home.sql("insert into t values (1)");
    // A second start adopts the server and brings the agent back.
    home.start(&[]);
    assert_eq!(home.server_pid(), server, "the server was not restarted");
    let new = home.agent_pid().expect("the agent was restarted");
    assert_ne!(new, agent);
    assert_eq!(home.value("select count(*) from t"), "1");
    home.snapshot("after");
}

#[test]
fn kill_9_of_both_loses_nothing_committed() {
    let home = busy_home();
    for n in 1..=3 {
        home.sql(&format!("insert into t values ({n})"));
        process::kill9(home.agent_pid().expect("the agent runs"));
        server::kill9_server(&home.pgdata());
        home.start(&[]);
        assert_eq!(home.value("select count(*) from t"), n.to_string());
        assert!(home.agent_pid().is_some());
    }
}

/// The managed cluster is rebuilt from the home's own repository.
#[test]
fn a_deleted_cluster_comes_back() {
    let home = busy_home();
    home.sql("insert into t values (1)");
    home.snapshot("one row");
    home.zenith.ok(&["push"]);
    home.sql("insert into t values (2)");
    process::kill9(home.agent_pid().expect("the agent runs"));
    server::kill9_server(&home.pgdata());
    fs::remove_dir_all(home.pgdata()).unwrap();

    home.start(&[]);
    assert_eq!(home.value("select array_agg(n) from t"), "{1}");
    // And it goes on from there.
    home.sql("insert into t values (3)");
    home.snapshot("after the loss");
    home.zenith.ok(&["push"]);
}

/// Only config.toml is left: everything comes from the storage, at the last pushed snapshot.
#[test]
fn a_deleted_home_comes_back_from_the_storage() {
    let home = busy_home();
    let older = home.snapshot("older");
    home.sql("insert into t values (1)");
    home.snapshot("pushed");
    home.zenith.ok(&["push"]);
    home.sql("insert into t values (2)");
    process::kill9(home.agent_pid().expect("the agent runs"));
    server::kill9_server(&home.pgdata());
    for entry in fs::read_dir(home.zenith.home()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() == "config.toml" {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    home.start(&[]);
    assert_eq!(home.value("select array_agg(n) from t"), "{1}");
    home.sql("insert into t values (3)");
    home.snapshot("after the loss");
    home.zenith.ok(&["push"]);
    assert!(
        home.list().iter().any(|row| row["message"] == "pushed"),
        "its history came too"
    );

    // What only the storage has is listed on request, and comes when it is asked for.
    let is_older = |rows: Vec<serde_json::Value>| rows.iter().any(|row| row["message"] == "older");
    assert!(!is_older(home.list()));
    let there = home.zenith.ok(&["snapshot", "list", "--remote", "--json"]);
    assert!(there.stdout.contains(&older), "{there}");
    let dir = home.place.arg("older");
    home.zenith.ok(&["checkout", &older, &dir]);
    let copy = home.serve(&dir);
    assert_eq!(copy.value("select count(*) from t"), "0");
}

/// An empty directory where the cluster was is an unmounted disk, not a loss.
#[test]
fn a_cluster_on_another_device_is_not_taken_for_lost() {
    let home = busy_home();
    home.snapshot("x");
    home.zenith.ok(&["stop"]);
    fs::remove_dir_all(home.pgdata()).unwrap();
    let Some(_mounted) = zenith_testkit::tmpfs::Tmpfs::mount(&home.place, "h/.zenith/pgdata", 64)
    else {
        return;
    };
    home.zenith.run(&["start"]).failed(8).hints();
}
