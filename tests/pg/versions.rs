//! Nothing is built for one major only.

use zenith_testkit::{Load, Programs, Server, load};

use crate::support::Home;

/// For 17, of which there is no pg_checksums: the server checks the checksum of each page it reads,
/// and amcheck reads all of every table and B-tree.
fn every_page_is_read(server: &Server) {
    server.sql("create extension amcheck");
    assert_eq!(
        server.value(
            "select count(*) from pg_class c, verify_heapam(c.oid) \
             where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'"
        ),
        "0"
    );
    assert_ne!(
        server.value(
            "select count(bt_index_check(c.oid, true)) from pg_class c join pg_am a on a.oid = c.relam \
             where c.relkind = 'i' and a.amname = 'btree' and c.relpersistence = 'p'"
        ),
        "0"
    );
    assert_eq!(
        server.value("select coalesce(sum(checksum_failures), 0) from pg_stat_database"),
        "0"
    );
}

fn whole_life(programs: Programs) {
    let mut home = Home::new();
    home.programs = programs;
    let bin = home.programs.bin.to_str().unwrap().to_owned();
    home.init(&["--pg-bin", &bin]);
    home.start(&[]);
    assert!(
        home.value("show server_version")
            .starts_with(&home.programs.major.to_string()),
        "--pg-bin is saved"
    );
    load::init(&home.place, &home.programs, &home.connection(), 1);
    let mut pgbench = Load::start(
        &home.place,
        &home.programs,
        &home.connection(),
        2,
        Some(100),
    );
    home.snapshot("under load");
    pgbench.stop();
    home.zenith.ok(&["stop"]);

    // The first names come from the server, the second ones from the catalogs' pages.
    let names = home.zenith.ok(&["diff", "HEAD~1", "HEAD", "--name-only"]);
    for name in ["public.pgbench_accounts\n", "public.pgbench_history\n"] {
        assert!(names.stdout.contains(name), "{names}");
    }
    assert!(!names.stdout.contains("base/"), "{names}");

    for rev in ["HEAD", "HEAD~1"] {
        let dir = home.place.arg(&format!("copy-{}", rev.len()));
        home.zenith.ok(&["checkout", rev, &dir]);
        let copy = home.serve(&dir);
        load::check_balances(&copy.dsn());
        assert_eq!(
            copy.value("select count(*) from pgbench_accounts"),
            "100000"
        );
        if home.programs.major == 17 {
            every_page_is_read(&copy);
        }
        copy.stop();
        if home.programs.major != 17 {
            load::checksums(&home.programs, home.place.path(), &copy.pgdata);
        }

        let out = home.place.arg(&format!("out-{}", rev.len()));
        home.zenith.ok(&[
            "export",
            rev,
            "--snapshot-path",
            &out,
            "--snapshot-format",
            "pgdata",
        ]);
        // There is no pg_verifybackup 17, and the wheel's 18 ends with SIGSEGV, also on what its own
        // pg_basebackup made. There the manifest is shown by an incremental backup on top of an
        // export (tests/it/export.rs), and the export by a server that starts on it.
        if matches!(home.programs.major, 17 | 18) {
            let copy = home.serve(&out);
            load::check_balances(&copy.dsn());
        } else {
            home.programs
                .run("pg_verifybackup", home.place.path(), [&out]);
        }
    }

    // The right programs are found again, and the cluster comes back from the storage.
    std::fs::remove_dir_all(home.pgdata()).unwrap();
    home.start(&[]);
    load::check_balances(&home.dsn());
    home.zenith.ok(&["stop"]);
}

#[test]
fn postgresql_16() {
    whole_life(Programs::fetched(16));
}

#[test]
fn postgresql_17() {
    whole_life(Programs::fetched(17));
}

#[test]
fn postgresql_18() {
    whole_life(Programs::fetched(18));
}

#[test]
fn postgresql_of_the_distribution() {
    whole_life(Programs::debian());
}
