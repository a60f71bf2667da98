//! pgbench in the background.

use std::path::Path;
use std::process::{Child, Stdio};

use crate::{Place, Programs};

/// A running pgbench. It is killed when this goes out of scope.
pub struct Load {
    child: Option<Child>,
}

/// Makes the tables of pgbench; one unit of scale is 15 MB.
pub fn init(place: &Place, programs: &Programs, connection: &[String], scale: u32) {
    let scale = scale.to_string();
    programs.run(
        "pgbench",
        place.path(),
        connection.iter().map(String::as_str).chain([
            "-i",
            "-q",
            "--foreign-keys",
            "-s",
            &scale,
            "postgres",
        ]),
    );
}

impl Load {
    /// Starts pgbench with the TPC-B script; `rate` limits its transactions per second.
    pub fn start(
        place: &Place,
        programs: &Programs,
        connection: &[String],
        clients: u32,
        rate: Option<u32>,
    ) -> Load {
        let mut command = programs.command("pgbench", place.path());
        command
            .args(connection)
            // Long enough for any test: it ends when the test ends it.
            .args(["-n", "-T", "36000", "-c", &clients.to_string()]);
        if let Some(rate) = rate {
            command.args(["-R", &rate.to_string()]);
        }
        let child = command
            .arg("postgres")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench is part of the server package");
        Load { child: Some(child) }
    }

    /// Whether it still runs: it ends by itself when the server goes away.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("own child").is_none())
    }

    /// Ends it. Its open transactions are rolled back by the server.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Checks that the sums of balances agree, as they do after any number of whole transactions of
/// pgbench; gives the number of these transactions.
#[track_caller]
pub fn check_balances(dsn: &str) -> u64 {
    let sums = crate::server::value(
        dsn,
        "select concat_ws(' ', \
           (select coalesce(sum(abalance), 0) from pgbench_accounts), \
           (select coalesce(sum(tbalance), 0) from pgbench_tellers), \
           (select coalesce(sum(bbalance), 0) from pgbench_branches), \
           (select coalesce(sum(delta), 0) from pgbench_history))",
    );
    let values: Vec<&str> = sums.split(' ').collect();
    assert!(
        values.iter().all(|value| *value == values[0]),
        "balances differ: {sums}"
    );
    let count = crate::server::value(dsn, "select count(*) from pgbench_history");
    count.parse().expect("count(*) is a number")
}

/// Everything the server's own tools check: amcheck of a running server.
pub fn amcheck(programs: &Programs, dir: &Path, connection: &[String]) {
    programs.run(
        "pg_amcheck",
        dir,
        connection.iter().map(String::as_str).chain([
            "--install-missing",
            "--heapallindexed",
            "--all",
        ]),
    );
}

/// pg_checksums of a stopped cluster.
pub fn checksums(programs: &Programs, dir: &Path, pgdata: &Path) {
    let pgdata = pgdata.to_str().expect("UTF-8");
    programs.run("pg_checksums", dir, ["--check", "-D", pgdata]);
}
