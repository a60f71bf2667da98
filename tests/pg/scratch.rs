//! One-shot time travel: `sql`, `psql` and `cp` on servers that are gone when the command is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use zenith_testkit::process::{self, wait_for};
use zenith_testkit::server::{self, add_conf};
use zenith_testkit::tmpfs::Tmpfs;
use zenith_testkit::{Server, Zenith, user};

use crate::support::{Home, contents};

const SHOP: &str = "create table customers(id int primary key, name text);\n\
     insert into customers select g, 'c' || g from generate_series(1, 10) g;\n\
     create table orders(id serial primary key, customer int references customers, amount numeric, \
     note text);\n\
     insert into orders(customer, amount, note) select 1 + g % 10, g * 1.10, 'note ' || g \
     from generate_series(1, 1000) g;\n\
     create index orders_note on orders(note);\n\
     create role clerk;\n\
     grant select on orders to clerk;\n\
     comment on table orders is 'what was sold'";

/// A running home with a database `app`, and a snapshot of it.
fn shop() -> (Home, String) {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create database app");
    app(&home, SHOP);
    let id = home.snapshot("shop");
    (home, id)
}

fn dsn(home: &Home) -> String {
    home.dsn().replace("dbname=postgres", "dbname=app")
}

fn app(home: &Home, sql: &str) {
    server::execute(&dsn(home), sql);
}

fn app_value(home: &Home, sql: &str) -> String {
    server::value(&dsn(home), sql)
}

/// The directories of short-lived servers in a home.
fn rooms(zenith: &Zenith) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(zenith.home().join("tmp")) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    paths.filter(|path| path.is_dir()).collect()
}

/// That nothing is left: no directory, no process.
#[track_caller]
fn assert_gone(home: &Home) {
    assert_eq!(rooms(&home.zenith), Vec::<PathBuf>::new());
    let left = process::under(&home.zenith.home().join("tmp"));
    assert!(left.is_empty(), "{left:?}");
}

/// Waits until the server of a room answers.
fn wait_ready(zenith: &Zenith) -> PathBuf {
    wait_for("the short-lived server", Duration::from_secs(60), || {
        let room = rooms(zenith).pop()?;
        let pid = fs::read_to_string(room.join("pgdata/postmaster.pid")).ok()?;
        pid.contains("ready").then_some(room)
    })
}

#[test]
fn sql_answers_as_of_the_snapshot_and_leaves_nothing() {
    let (home, id) = shop();
    app(&home, "delete from orders");
    let count = "select count(*) from orders";
    let output = home.zenith.ok(&["sql", &id, "-c", count]);
    assert_eq!(output.stdout, " count \n-------\n  1000\n(1 row)\n\n");
    assert_eq!(output.stderr, "");
    assert_gone(&home);

    // What was committed after the last checkpoint is replayed.
    app(&home, "create table late as select 42 n");
    home.snapshot("late");
    let output = home
        .zenith
        .ok(&["sql", "HEAD", "--csv", "-c", "table late", "-c", count]);
    assert_eq!(output.stdout, "n\n42\ncount\n0\n");

    // A copy can be written to, and the next one knows nothing of it.
    let steps = [
        "-c",
        "delete from customers",
        "-c",
        "select count(*) from customers",
    ];
    let output = home.zenith.ok(&[
        &["sql", "HEAD~1", "-q", "--csv"][..],
        &["-c", "drop table orders"],
        &steps,
    ]
    .concat());
    assert_eq!(output.stdout, "count\n0\n");
    let output = home.zenith.ok(&["sql", "HEAD~1", "--csv", "-c", count]);
    assert_eq!(output.stdout, "count\n1000\n");

    // Files and stdin; variables that lead to another server do not.
    let file = home.place.join("h/ask.sql");
    fs::write(
        &file,
        "\\set n 5\nselect id, note from orders where id = :n;\n",
    )
    .unwrap();
    let elsewhere = home
        .zenith
        .env("PGHOST", "/nowhere")
        .env("PGDATABASE", "x")
        .env("PGUSER", "x");
    let output = elsewhere.ok(&["sql", &id, "--csv", "-f", "ask.sql"]);
    assert_eq!(output.stdout, "id,note\n5,note 5\n");
    for args in [
        &["sql", &id, "-"][..],
        &["sql", &id, "-f", "-"],
        &["sql", &id],
    ] {
        let output = elsewhere.run_with_input(args, b"select 1 + 1;".to_vec());
        assert_eq!(output.code, Some(0), "{output}");
        assert!(output.stdout.contains("\n        2\n"), "{output}");
    }
    let output = elsewhere.run_with_input(
        &["psql", &id, "-d", "app", "--", "-XAt"],
        b"select current_database(), current_user, inet_server_addr();\n\\! echo $PGDATABASE\n"
            .to_vec(),
    );
    assert_eq!(output.stdout, "app|postgres|\napp\n", "{output}");
    assert_gone(&home);
}

#[test]
fn rows_as_json_keep_their_types() {
    let (home, id) = shop();
    let output = home.zenith.ok(&[
        "sql", &id, "--json",
        "-c", "select 1 a, 2.50 b, true c, null d, 'x\"y' e, '{\"k\": [1]}'::jsonb f, 'NaN'::float8 g, 7 a -- end",
        "-c", "show server_encoding",
        "-c", "update orders set note = 'n' where id < 3 returning id",
        "-c", "select g from generate_series(1, 2500) g",
    ]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"type":"row","v":1,"statement":1,"row":{"a":1,"b":2.50,"c":true,"d":null,"e":"x\"y","f":{"k": [1]},"g":"NaN","a_2":7}}"#
    );
    let answers = output.json();
    let of = |n: u64, kind: &str| {
        let is_one = |a: &&serde_json::Value| a["statement"] == n && a["type"] == kind;
        answers.iter().filter(is_one).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(2, "row")[0]["row"]["server_encoding"], "UTF8");
    assert_eq!(of(3, "row").len(), 2);
    assert_eq!(of(3, "done")[0]["rows"], 2);
    let rows = of(4, "row");
    assert_eq!((rows.len(), &rows[2499]["row"]["g"]), (2500, &2500.into()));
    assert_eq!(of(4, "done")[0]["rows"], 2500);
    assert_gone(&home);
}

#[test]
fn what_does_not_work_is_said_once_and_leaves_nothing() {
    let (home, id) = shop();
    let zenith = &home.zenith;
    let output = zenith.run(&[
        "sql",
        &id,
        "-c",
        "select * from nope",
        "-c",
        "select 'never'",
    ]);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(
        output.stderr.contains("relation \"nope\" does not exist"),
        "{output}"
    );
    assert!(
        !output.stdout.contains("never") && !output.stderr.contains("error: "),
        "{output}"
    );
    let output = zenith.run_with_input(&["sql", &id, "-"], b"select 1; select nope;".to_vec());
    assert_eq!(output.code, Some(1), "{output}");
    zenith
        .fails(1, &["sql", &id, "-d", "ap", "-c", "select 1"])
        .says("`app`")
        .hints();
    zenith
        .fails(1, &["sql", &id, "-U", "nobody", "-c", "select 1"])
        .says("no role nobody")
        .hints();
    zenith
        .fails(1, &["cp", &format!("{id}:public.order")])
        .says("Did you mean `public.orders`?");
    zenith
        .fails(1, &["cp", &format!("{id}:*")])
        .says("names 2 tables")
        .hints();
    zenith.fails(2, &["cp", &id]).says("names no table").hints();
    zenith
        .fails(1, &["cp", "nope:orders"])
        .says("no branch, tag or snapshot")
        .hints();
    let output = zenith.run(&["sql", &id, "--json", "-c", "select nope"]);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("\"kind\":\"invalid\""), "{output}");
    assert_gone(&home);

    // The server dies under its client.
    let running = zenith.spawn(&["sql", &id, "-c", "select pg_sleep(60)"]);
    let room = wait_ready(zenith);
    process::kill9(server::postmaster_pid(&room.join("pgdata")).unwrap());
    let output = running.wait(Duration::from_secs(60)).failed(8);
    output.says("ended on its own").hints();
    assert_gone(&home);

    // The disk would be full.
    if let Some(small) = Tmpfs::mount(&home.place, "small", 16) {
        let dir = small.arg("");
        zenith
            .fails(8, &["sql", &id, "--tmp-dir", &dir, "-c", "select 1"])
            .says("MB free")
            .hints();
        assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0);
    }
    assert_gone(&home);
}

#[test]
fn a_dropped_table_comes_back_in_one_line() {
    let (home, id) = shop();
    let psql = |script: &[u8]| {
        let mut args = home.connection();
        args.extend(["-X", "-d", "app", "-f", "-"].map(String::from));
        let mut command = home.programs.command("psql", home.place.path());
        command.args(args).stdin(std::process::Stdio::piped());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let script = script.to_owned();
        // A script that is refused is not read to its end.
        let writer = thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &script)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let facts = "select string_agg(x, E'\\n' order by x) from ( \
         select md5(string_agg(o::text, ',' order by id)) x from orders o \
         union all select indexdef from pg_indexes where tablename = 'orders' \
         union all select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'orders'::regclass \
         union all select relacl::text from pg_class where oid = 'orders'::regclass \
         union all select obj_description('orders'::regclass) \
         union all select pg_get_serial_sequence('orders', 'id') \
         union all select column_default from information_schema.columns where column_default <> '') t";
    let before = app_value(&home, facts);
    app(&home, "insert into orders(note) values ('after')");
    app(&home, "drop table orders");
    let what = format!("{id}:public.orders");
    let output = home.zenith.ok(&["cp", &what]);
    output.says("1,000 rows");
    let output = home.zenith.ok(&["cp", &what, "-q"]);
    assert_eq!(output.stderr, "");
    assert_eq!(
        psql(&output.bytes),
        (Some(0), "COPY 1000\n".into(), String::new())
    );
    assert_eq!(app_value(&home, facts), before);
    assert_eq!(
        app_value(
            &home,
            "insert into orders(note) values ('next') returning id"
        ),
        "1001"
    );

    // Never into a table that is there, and never half of one.
    let (code, stdout, stderr) = psql(&output.bytes);
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.contains("already exists"), "{stderr}");
    assert_eq!(app_value(&home, "select count(*) from orders"), "1001");
    app(&home, "drop table orders");
    let cut = &output.bytes[..output.bytes.len() - 40];
    psql(cut);
    assert_eq!(
        app_value(&home, "select to_regclass('orders') is null"),
        "t"
    );

    // As plain SQL; the rows alone; as CSV.
    let output = home.zenith.ok(&["cp", &what, "--format", "sql"]);
    assert!(
        output.stdout.lines().all(|line| !line.starts_with('\\')),
        "{output}"
    );
    assert_eq!(psql(&output.bytes).0, Some(0));
    assert_eq!(app_value(&home, facts), before);
    app(&home, "truncate orders");
    let output = home.zenith.ok(&["cp", &what, "--data-only"]);
    assert!(!output.stdout.contains("CREATE"), "{output}");
    assert_eq!(
        psql(&output.bytes),
        (Some(0), "COPY 1000\n".into(), String::new())
    );
    assert_eq!(app_value(&home, facts), before);
    let output = home
        .zenith
        .ok(&["cp", &format!("{id}:app.public.orders"), "--format", "csv"]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(
        (lines.len(), lines[0], lines[1]),
        (1001, "id,customer,amount,note", "1,2,1.10,note 1")
    );
    let output = home.zenith.ok(&["cp", &what, "--schema-only"]);
    assert!(output.stdout.contains("CREATE TABLE") && !output.stdout.contains("FROM stdin"));

    // A partitioned table is its partitions.
    app(&home, "create table m(t int, v int) partition by range(t)");
    app(
        &home,
        "create table m1 partition of m for values from (0) to (10)",
    );
    app(
        &home,
        "create table m2 partition of m for values from (10) to (20)",
    );
    app(
        &home,
        "insert into m select g, g from generate_series(0, 19) g",
    );
    home.snapshot("partitions");
    app(&home, "drop table m");
    let output = home.zenith.ok(&["cp", "HEAD:m"]);
    assert_eq!(psql(&output.bytes).1, "COPY 20\n");
    assert_eq!(app_value(&home, "select count(*) from m where t > 9"), "10");
    let output = home
        .zenith
        .ok(&["cp", "HEAD:m?", "--all-matching", "--data-only"]);
    assert_eq!(output.stdout.matches("FROM stdin;").count(), 2);
    assert_gone(&home);
}

#[test]
fn rows_that_differ_between_snapshots_and_the_cluster() {
    let (home, id) = shop();
    app(&home, "delete from orders where id = 7");
    app(
        &home,
        "update orders set amount = 0, note = 'it''s\nnew' where id in (3, 900)",
    );
    app(&home, "insert into orders(note) values (null)");
    let changes = [
        "+ id=1001 customer=NULL amount=NULL note=NULL",
        "~ id=3  amount: 3.30 → 0, note: 'note 3' → E'it''s\\nnew'",
        "- id=7 customer=8 amount=7.70 note='note 7'",
        "~ id=900  amount: 990.00 → 0, note: 'note 900' → E'it''s\\nnew'",
    ];
    let short = &id[..8];
    let summary = "4 rows differ: 1 added, 1 removed, 2 changed; 997 are the same";
    // The running server is asked as it is.
    let output = home.zenith.ok(&["diff", &id, "--rows", "public.orders"]);
    let head = format!("public.orders  {short} → cluster, by primary key (id)");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], head);
    assert_eq!(lines[1..5], changes);
    assert_eq!(lines[5..], [summary]);

    let now = home.snapshot("now");
    let output = home
        .zenith
        .run(&["diff", &id, &now, "--rows", "orders", "--exit-code"]);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(
        output
            .stdout
            .starts_with(&format!("public.orders  {short} → {}", &now[..8]))
    );
    assert_eq!(
        output.stdout.lines().skip(1).take(4).collect::<Vec<_>>(),
        changes
    );
    // The other way round.
    let output = home.zenith.ok(&["diff", &now, &id, "--rows", "orders"]);
    assert!(
        output.stdout.contains("\n+ id=7 ") && output.stdout.contains("\n- id=1001 "),
        "{output}"
    );
    let output = home
        .zenith
        .run(&["diff", &now, "--rows", "orders", "--exit-code"]);
    assert_eq!(output.code, Some(0), "{output}");
    assert!(
        output
            .stdout
            .ends_with("\nno row differs; 1,000 are the same\n"),
        "{output}"
    );

    let output = home
        .zenith
        .ok(&["diff", &id, &now, "--rows", "app.public.orders", "--json"]);
    let records = output.json();
    assert_eq!(records[0]["type"], "rows");
    assert_eq!(records[0]["key"], serde_json::json!(["id"]));
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(
        lines[2],
        "{\"type\":\"row_changed\",\"v\":1,\"change\":\"changed\",\"key\":{\"id\":3},\
         \"old\":{\"amount\":3.30,\"note\":\"note 3\"},\
         \"new\":{\"amount\":0,\"note\":\"it's\\nnew\"}}"
    );
    assert_eq!(records[5]["added"], 1);
    assert_gone(&home);

    // Columns that one side lacks; a table that is gone.
    app(
        &home,
        "alter table orders drop amount, add paid bool default true",
    );
    let output = home.zenith.ok(&["diff", "HEAD", "--rows", "orders"]);
    assert!(
        output
            .stdout
            .contains("\n+ column paid\n- column amount\nno row differs;"),
        "{output}"
    );
    app(&home, "drop table orders");
    let output = home.zenith.ok(&["diff", "HEAD", "--rows", "orders"]);
    assert!(
        output
            .stdout
            .ends_with("1,000 rows differ: 1,000 removed; 0 are the same\n"),
        "{output}"
    );
    home.zenith
        .fails(1, &["diff", &id, "--rows", "nope"])
        .says("has no table `nope`")
        .hints();
    home.zenith
        .fails(2, &["diff", &id, "-d", "app"])
        .says("--rows")
        .hints();
    home.zenith.ok(&["stop"]);
    home.zenith
        .fails(4, &["diff", &id, "--rows", "customers"])
        .says("no server runs")
        .hints();
    assert_gone(&home);
}

#[test]
fn signals_and_kills_leave_nothing() {
    let (home, id) = shop();
    let sleep = ["sql", &id, "-c", "select pg_sleep(60)"];
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let running = home.zenith.spawn(&sleep);
        wait_ready(&home.zenith);
        running.signal(signal);
        let output = running.wait(Duration::from_secs(60));
        let got = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(got, Some(signal as i32), "{output}");
        assert!(!output.stderr.contains("error: "), "{output}");
        assert_gone(&home);
    }
    // While the files are still being written.
    for millis in [0, 30, 100, 250] {
        let running = home.zenith.spawn(&sleep);
        wait_for("a room", Duration::from_secs(60), || {
            rooms(&home.zenith).pop()
        });
        thread::sleep(Duration::from_millis(millis));
        running.signal(Signal::SIGINT);
        let output = running.wait(Duration::from_secs(60));
        assert_eq!(output.code, None, "{output}");
        assert_eq!(output.stderr, "");
        assert_gone(&home);
    }

    // Nobody cleans up behind a kill -9 but the next command, which leaves the living alone.
    let lives = home.zenith.spawn(&sleep);
    let room = wait_ready(&home.zenith);
    let killed = home
        .zenith
        .spawn(&["sql", &id, "-c", "select pg_sleep(61)"]);
    let left = wait_for("a second room", Duration::from_secs(60), || {
        let other = rooms(&home.zenith)
            .into_iter()
            .find(|other| *other != room)?;
        let pid = fs::read_to_string(other.join("pgdata/postmaster.pid")).ok()?;
        pid.contains("ready").then_some(other)
    });
    process::kill9(killed.pid());
    drop(killed);
    assert!(process::alive(
        server::postmaster_pid(&left.join("pgdata")).unwrap()
    ));
    home.zenith.ok(&["sql", &id, "-c", "select 1"]);
    assert_eq!(rooms(&home.zenith), std::slice::from_ref(&room));
    assert!(process::under(&left).is_empty());
    assert!(process::alive(
        server::postmaster_pid(&room.join("pgdata")).unwrap()
    ));
    lives.signal(Signal::SIGTERM);
    lives.wait(Duration::from_secs(60));
    assert_gone(&home);
}

#[test]
fn several_at_once() {
    let (home, id) = shop();
    let running: Vec<_> = (1..=3)
        .map(|n| {
            let sql = format!("select {n} * count(*) from orders");
            home.zenith.spawn(&["sql", &id, "--csv", "-c", &sql])
        })
        .collect();
    for (n, running) in (1..).zip(running) {
        let output = running.wait(Duration::from_secs(120));
        assert_eq!(
            output.stdout,
            format!("count\n{}\n", n * 1000).replace("count", "?column?"),
            "{output}"
        );
    }
    assert_gone(&home);
}

/// What its administrator has loaded for a role is not loaded for it here, nor for anybody else.
#[test]
fn libraries_of_a_role_are_not_loaded() {
    let (home, _) = shop();
    app(
        &home,
        "alter role clerk login; \
         alter role clerk set session_preload_libraries = 'not_here'; \
         alter role clerk set work_mem = '7MB'; \
         alter role clerk in database app set session_preload_libraries = 'nor_here'; \
         create role boss superuser login; alter role boss set session_preload_libraries = 'not_here'",
    );
    let id = home.snapshot("with libraries");
    for (role, sql, said) in [
        ("clerk", "select count(*) from orders", "count\n1000\n"),
        ("clerk", "show work_mem", "work_mem\n7MB\n"),
        ("boss", "select count(*) from orders", "count\n1000\n"),
    ] {
        let args = ["sql", &id, "-d", "app", "-U", role, "--csv", "-c", sql];
        assert_eq!(home.zenith.ok(&args).stdout, said, "{role}: {sql}");
    }
    assert_gone(&home);
}

/// A cluster of somebody else's: it archives, preloads, asks for passwords and certificates, is in
/// a hurry, and has a tablespace.
#[test]
fn a_foreign_cluster_is_asked_without_any_harm() {
    let home = Home::new();
    home.init(&[]);
    home.place.dir("archive");
    home.place.dir("space");
    let (archive, space) = (home.place.arg("archive"), home.place.arg("space"));
    let original = Server::create(&home.place, "orig", &home.programs, "");
    original.sql(&format!("create tablespace space location '{space}'"));
    original.sql("create table t tablespace space as select generate_series(1, 1000) n");
    original.sql("create view slow as select 1 n from pg_sleep(1.5)");
    original.sql(
        "alter role postgres set statement_timeout = '1s'; \
         alter role postgres set local_preload_libraries = 'not_here'; \
         alter database postgres set session_preload_libraries = 'not_here'",
    );
    original.stop();
    let pgdata = home.place.arg("orig");
    add_conf(
        Path::new(&pgdata),
        &format!(
            "archive_mode = on\narchive_command = 'touch {archive}/%f'\n\
             shared_preload_libraries = 'pg_stat_statements'\nssl = on\nssl_cert_file = '/nowhere'\n\
             listen_addresses = '*'\nlogging_collector = on\nlog_directory = '{archive}'\n\
             unix_socket_group = 'root'\nshared_buffers = '256MB'\nsynchronous_standby_names = '*'"
        ),
    );
    fs::write(
        home.place.join("orig/pg_hba.conf"),
        "local all all reject\n",
    )
    .unwrap();
    user::give(&home.place.join("orig/pg_hba.conf"));
    let id = home.snapshot_with(&["--pgdata", &pgdata, "--branch", "other"]);
    let before = contents(Path::new(&space));
    home.place.dir("room");
    let room = home.place.arg("room");
    let ask = |setting: &str, more: &[&str]| {
        let sql = format!("select {setting}");
        let args = [&["sql", &id, "--tmp-dir", &room][..], more, &["--", "-"]].concat();
        let args: Vec<&str> = args.into_iter().filter(|arg| *arg != "--").collect();
        let output = home.zenith.run_with_input(
            &args,
            format!("\\pset tuples_only\n\\pset format unaligned\n{sql};").into_bytes(),
        );
        assert_eq!(output.code, Some(0), "{output}");
        output.stdout.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(ask("count(*) from t", &[]), "1000");
    for (table, format, said) in [
        ("slow", "csv", "n\n1\n"),
        ("t", "sql", "INSERT INTO public.t (n) VALUES"),
    ] {
        let table = format!("{id}:{table}");
        let copied = home
            .zenith
            .ok(&["cp", &table, "--tmp-dir", &room, "--format", format]);
        assert!(copied.stdout.contains(said), "{copied}");
    }
    for (setting, value) in [
        ("archive_mode", "off"),
        ("shared_preload_libraries", ""),
        ("listen_addresses", ""),
        ("ssl", "off"),
        ("autovacuum", "off"),
        ("fsync", "off"),
        ("synchronous_standby_names", ""),
        ("max_logical_replication_workers", "0"),
    ] {
        assert_eq!(
            ask(&format!("current_setting('{setting}')"), &[]),
            value,
            "{setting}"
        );
    }
    let place = "pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'";
    let place = ask(place, &[]);
    assert!(
        place.starts_with(&room) && place.contains(".tablespaces/"),
        "{place}"
    );
    let preload = ["--preload", "pg_stat_statements"];
    assert_eq!(
        ask("current_setting('shared_preload_libraries')", &preload),
        "pg_stat_statements"
    );
    // Where the files lie: owned by who runs the server, closed to all others.
    let mode = ask(
        "(pg_stat_file(current_setting('unix_socket_directories'))).isdir",
        &[],
    );
    assert_eq!(mode, "t");
    assert_eq!(contents(Path::new(&space)), before);
    for dir in [&archive, &room] {
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "{dir}");
    }
    assert_gone(&home);

    // A start that is refused says why.
    add_conf(Path::new(&pgdata), "no_such_setting = on");
    let id = home.snapshot_with(&["--pgdata", &pgdata, "--branch", "other"]);
    let output = home.zenith.fails(8, &["sql", &id, "-c", "select 1"]);
    output.says("did not start").says("no_such_setting").hints();
    assert_gone(&home);
}

#[test]
fn an_ordinary_user_in_a_deep_directory() {
    let home = Home::new();
    let deep = home
        .place
        .dir("d")
        .join("x".repeat(60))
        .join("y".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    for dir in [deep.parent().unwrap(), deep.as_path()] {
        user::give(dir);
    }
    let zenith = home.zenith.unprivileged();
    let at = deep.join("h");
    let at = at.to_str().unwrap();
    let port = home.port.to_string();
    zenith.ok(&["-D", at, "init", "--port", &port]);
    let output = zenith.ok(&[
        "-D",
        at,
        "sql",
        "HEAD",
        "--csv",
        "-c",
        "select length(current_setting('unix_socket_directories')) < 80 as short",
    ]);
    assert_eq!(output.stdout, "short\nt\n");
    let (uid, _) = user::server_user();
    let tmp = Path::new(at).join("tmp");
    assert_eq!(fs::metadata(&tmp).unwrap().uid(), uid.as_raw());
    assert_eq!(
        fs::read_dir(&tmp)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count(),
        0
    );
    let sockets = fs::read_dir("/tmp").unwrap().filter(|entry| {
        let entry = entry.as_ref().unwrap();
        let name = entry.file_name().into_string().unwrap_or_default();
        name.starts_with("zenith-") && name.ends_with(".run")
    });
    assert_eq!(sockets.count(), 0);
}

/// Ctrl-C while the differing rows are read: the pager goes, and with it what served them.
#[test]
fn an_interrupt_of_the_pager_leaves_nothing() {
    let (home, id) = shop();
    app(
        &home,
        "insert into orders(customer, note) select 1, 'more ' || g from generate_series(1, 50000) g",
    );
    let now = home.snapshot("more");
    // As the terminal sends it: to the group of processes that it shows.
    let pager = "head -n 3; kill -INT 0; sleep 60";
    let terminal = Zenith::new("/usr/bin/script", &home.place, "terminal");
    let line = format!(
        "{} -D {} diff {id} {now} --rows app.public.orders",
        env!("CARGO_BIN_EXE_zenith"),
        home.zenith.home().display()
    );
    let output = terminal
        .env("ZENITH_PAGER", pager)
        .env("TERM", "xterm")
        .run(&["-qec", &line, "/dev/null"]);
    assert!(output.stdout.contains("+ id="), "{output}");
    wait_for("the end of the servers", Duration::from_secs(60), || {
        let left = process::under(&home.zenith.home().join("tmp"));
        (left.is_empty() && rooms(&home.zenith).is_empty()).then_some(())
    });
    assert_gone(&home);
}

/// Who owns a database says where its sessions find operators; a superuser runs none of them.
#[test]
fn operators_of_a_database_are_not_run() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table orders as select 1 n");
    let id = home.snapshot("orders");
    home.sql("create schema evil");
    for kind in ["oid", "text", "\"char\""] {
        home.sql(&format!(
            "create function evil.same({kind}, {kind}) returns boolean language plpgsql \
             as 'begin raise exception ''evil was run''; end'"
        ));
        home.sql(&format!(
            "create operator evil.= (function = evil.same, leftarg = {kind}, rightarg = {kind})"
        ));
    }
    home.sql("alter database postgres set search_path = evil, pg_catalog, public");
    home.sql("insert into public.orders values (2)");
    let late = home.snapshot("late");
    let table = format!("{late}:public.orders");
    for format in ["csv", "copy"] {
        let out = home.zenith.ok(&["cp", &table, "--format", format]);
        assert!(out.stdout.contains("\n2\n"), "{out}");
    }
    // Between two snapshots, and beside the server that runs.
    for sides in [&[id.as_str(), late.as_str()][..], &[id.as_str()]] {
        let args = [&["diff"][..], sides, &["--rows", "public.orders"]].concat();
        let out = home.zenith.ok(&args);
        assert!(out.stdout.contains("1 added"), "{out}");
    }
}
