//! What happened to one table: `log -- TABLE`.

use std::time::Instant;

use serde_json::Value;

use crate::support::Home;

impl Home {
    /// Message and changes of each snapshot that a log lists, newest first.
    #[track_caller]
    fn changes(&self, args: &[&str]) -> Vec<(String, Vec<String>)> {
        let mut line = vec!["--json", "log"];
        line.extend(args);
        let change = |change: &Value| {
            format!(
                "{} {} {}",
                change["name"].as_str().unwrap(),
                change["kind"].as_str().unwrap(),
                change["what"].as_str().unwrap()
            )
        };
        let objects = self.zenith.ok(&line).json();
        let one = |object: &Value| {
            let changes = object["changes"].as_array().unwrap();
            let mut changes: Vec<String> = changes.iter().map(change).collect();
            changes.retain(|change| !change.starts_with("pg_toast"));
            (object["message"].as_str().unwrap().to_owned(), changes)
        };
        objects.iter().map(one).collect()
    }
}

/// These messages, and among the changes of each at least these: what a read leaves behind on a
/// page counts, too.
#[track_caller]
fn says(found: &[(String, Vec<String>)], expected: &[(&str, &[&str])]) {
    let messages: Vec<&str> = found.iter().map(|(message, _)| &**message).collect();
    let wanted: Vec<&str> = expected.iter().map(|(message, _)| *message).collect();
    assert_eq!(messages, wanted, "{found:?}");
    for ((_, changes), (_, wanted)) in found.iter().zip(expected) {
        for change in *wanted {
            assert!(changes.iter().any(|c| c == change), "{change}: {found:?}");
        }
    }
}

#[test]
fn only_what_happened_to_a_table() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    home.sql("create table other as select generate_series(1, 1000) n");
    home.snapshot("before");
    home.sql(
        "create table orders (id int primary key, doc text);\n\
         insert into orders select n, 'order ' || n from generate_series(1, 20000) n",
    );
    home.snapshot("made");
    home.sql("update other set n = n + 1");
    home.snapshot("other");
    home.sql("update orders set doc = 'x' where id = 20000");
    home.snapshot("row");
    home.sql("create index orders_doc_idx on orders (doc)");
    home.snapshot("index");
    home.sql(
        "create table orders2 as select 1 n;\n\
         create table \"Big\" (n int) partition by range (n);\n\
         create table big1 partition of \"Big\" for values from (1) to (9);\n\
         create index on \"Big\" (n); insert into \"Big\" values (1)",
    );
    home.snapshot("like");
    home.sql("vacuum full orders");
    home.snapshot("rewritten");
    home.sql("drop table orders");
    home.snapshot("dropped");
    let all: &[(&str, &[&str])] = &[
        (
            "dropped",
            &[
                "orders table dropped",
                "orders_doc_idx index dropped",
                "orders_pkey index dropped",
            ],
        ),
        (
            "rewritten",
            &[
                "orders table rewritten",
                "orders_doc_idx index rewritten",
                "orders_pkey index rewritten",
            ],
        ),
        ("index", &["orders_doc_idx index new"]),
        ("row", &["orders table changed"]),
        ("made", &["orders table new", "orders_pkey index new"]),
    ];
    for table in [
        "orders",
        "public.orders",
        "postgres.public.orders",
        "Orders",
    ] {
        says(&home.changes(&["--", table]), all);
    }
    let index = home.changes(&["--", "orders_doc_idx"]);
    let messages: Vec<&str> = index.iter().map(|(message, _)| &**message).collect();
    assert_eq!(messages, ["dropped", "rewritten", "index"]);
    says(
        &home.changes(&["-n", "1", "main~3", "--", "orders*"]),
        &[("index", &["orders_doc_idx index new"])],
    );
    assert_eq!(home.changes(&["--", "order?2"]).len(), 1);
    assert_eq!(home.changes(&["--", "other", "orders2"]).len(), 3);

    // What is partitioned stands for its partitions, as for their indexes.
    for table in ["Big", "\"Big\"", "big1"] {
        let made = &["big1 table new", "big1_n_idx index new"];
        says(&home.changes(&["--", table]), &[("like", made)]);
    }
    let index = &["big1_n_idx index new"];
    says(&home.changes(&["--", "\"Big_n_idx\""]), &[("like", index)]);

    // As people read it; the lines go on over what is left out.
    let text = home.zenith.ok(&["log", "--graph", "--", "orders"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[2].ends_with("pages") && lines[2].contains("orders_doc_idx new, "),
        "{text}"
    );
    assert!(lines[3].contains("orders 1 page"), "{text}");
    assert!(lines[4].contains("orders new, 1"), "{text}");

    // At the storage; and over a gap the change is still told.
    home.zenith.ok(&["push"]);
    home.wait_pushed();
    says(&home.changes(&["--remote", "--", "orders"]), all);
    home.zenith.ok(&["snapshot", "delete", "main~3", "--force"]);
    let over = home.changes(&["--", "orders_doc_idx"]);
    let messages: Vec<&str> = over.iter().map(|(message, _)| &**message).collect();
    assert_eq!(messages, ["dropped", "rewritten", "like"]);

    let refused = home.zenith.run(&["log", "--", "ordrs"]).failed(1).hints();
    assert!(
        refused.stderr.contains("Did you mean `orders`?"),
        "{refused}"
    );
    home.zenith.ok(&["stop"]);
}

/// The names of a stopped cluster are read from its pages; a long history is quick.
#[test]
fn a_history_of_fifty() {
    let home = Home::new();
    home.init(&[]);
    home.start(&[]);
    // Where it takes long, vacuum would be at work in between.
    home.sql(
        "create table orders with (autovacuum_enabled = false) as \
         select generate_series(1, 100000) n, 0 v",
    );
    home.sql("create table other (n int)");
    home.snapshot("0");
    for n in 1..=50 {
        home.sql(&format!("insert into other values ({n})"));
        if n % 10 == 0 {
            home.sql(&format!("update orders set v = {n} where n = {n}"));
        }
        home.snapshot(&n.to_string());
    }
    home.sql("update orders set v = 99 where n = 99");
    home.zenith.ok(&["stop"]);
    let begin = Instant::now();
    let found = home.changes(&["--", "public.orders"]);
    let took = begin.elapsed();
    let messages: Vec<&str> = found.iter().map(|(message, _)| &**message).collect();
    assert_eq!(messages, ["", "50", "40", "30", "20", "10", "0"]);
    assert!(took.as_secs() < 20, "it took {took:?}");
    println!("log -- TABLE over 52 snapshots: {took:?}");
}
