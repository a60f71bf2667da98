//! Against a real server: every type must come in one order on both sides.

use super::*;
use crate::pg::testing::{Cluster, bin_dirs};
use postgres::NoTls;

/// Two databases, `a` and `b`, with these statements run in both and in each.
struct Pair {
    cluster: Cluster,
}

impl Pair {
    fn new(bin: &std::path::Path) -> Pair {
        let cluster = Cluster::init(bin, &[]);
        cluster.start(&[]);
        let pair = Pair { cluster };
        pair.create("");
        pair
    }

    fn connect(&self, database: &str) -> Client {
        let dsn = self.cluster.dsn().replace("dbname=postgres", "");
        Client::connect(&format!("{dsn} dbname={database}"), NoTls).unwrap()
    }

    /// Both databases, empty.
    fn create(&self, options: &str) {
        let mut client = self.connect("postgres");
        for name in ["a", "b"] {
            for sql in [
                format!("DROP DATABASE IF EXISTS {name}"),
                format!("CREATE DATABASE {name} TEMPLATE template0 {options}"),
            ] {
                client.batch_execute(&sql).unwrap();
            }
        }
    }

    /// All differences of table `t` as lines, and the plan.
    fn diff(&self, options: &str, both: &str, a: &str, b: &str) -> (Vec<String>, Plan) {
        if !options.is_empty() {
            self.create(options);
        }
        for (name, own) in [("a", a), ("b", b)] {
            let mut client = self.connect(name);
            client.batch_execute("DROP TABLE IF EXISTS t").unwrap();
            client.batch_execute(both).unwrap();
            client.batch_execute(own).unwrap();
        }
        let name = TableName::parse("t").unwrap();
        let (old, new) = ((self.connect("a"), "a"), (self.connect("b"), "b"));
        let (mut old, mut new) = Side::pair(&name, old, new).unwrap();
        let plan = Plan::make(&mut old, &mut new).unwrap();
        let text = |values: &[Value]| {
            let shown = values.iter().map(|v| v.as_deref().unwrap_or("NULL"));
            shown.collect::<Vec<_>>().join("|")
        };
        let mut lines = Vec::new();
        let counts = plan.run::<Error>(&mut old, &mut new, &mut |difference| {
            lines.push(match difference {
                Difference::Added(row) => format!("+{}", text(row)),
                Difference::Removed(row) => format!("-{}", text(row)),
                Difference::Changed(old, new) => format!("~{} > {}", text(old), text(new)),
            });
            Ok(())
        });
        let counts = counts.unwrap();
        let all = counts.added + counts.removed + counts.changed;
        assert_eq!(all, lines.len() as u64);
        (lines, plan)
    }
}

#[test]
fn rows_belong_together_by_their_key_whatever_its_type() {
    for bin in bin_dirs() {
        let pair = Pair::new(&bin);
        // Each list is in an order of its own: texts, numbers, case, length, signs.
        for (of, values, other) in [
            ("int", "-10, -9, 0, 1, 2, 9, 10, 100, 1000", "3"),
            (
                "numeric",
                "-1.5, 0, 1, 1.25, 2, 10, 'NaN', 'Infinity'",
                "0.5",
            ),
            (
                "float8",
                "-1e30, -0.5, 0.1, 1e-7, 2, 10, 'NaN', '-Infinity'",
                "7",
            ),
            (
                "text",
                "'', 'A', 'a', 'B', 'ä', 'z', 'Z', E'\\t', E'\\n', '\\', '-a', '😀'",
                "'aa'",
            ),
            ("char(3)", "'a', 'b', 'ab', ''", "'abc'"),
            ("bool", "true", "false"),
            (
                "date",
                "'2026-01-01', '0044-03-15 BC', 'infinity', '12026-01-01'",
                "'2025-01-01'",
            ),
            (
                "timestamptz",
                "'2026-01-01 10:00+02', '2026-01-01 10:00+00'",
                "'2026-01-01'",
            ),
            ("interval", "'1 day', '25 hours', '-1 mon'", "'2 days'"),
            ("bytea", "'\\x', '\\x00', '\\xff', '\\x00ff'", "'\\x01'"),
            (
                "uuid",
                "'00000000-0000-0000-0000-00000000000a', 'ffffffff-0000-0000-0000-000000000000'",
                "'10000000-0000-0000-0000-000000000000'",
            ),
            (
                "inet",
                "'10.0.0.1', '10.0.0.0/8', '9.0.0.1', '::1'",
                "'10.0.0.2'",
            ),
            (
                "int[]",
                "'{}', '{1}', '{1,2}', '{10}', '{2}', '{NULL}'",
                "'{3}'",
            ),
            ("jsonb", "'1', '\"a\"', '{\"a\": 1}', '[]', 'null'", "'2'"),
        ] {
            let both = format!("CREATE TABLE t(k {of} PRIMARY KEY, v int);");
            let fill = |extra: &str, v: u32| {
                format!("INSERT INTO t SELECT k, {v} FROM unnest(ARRAY[{values}{extra}]::{of}[]) k")
            };
            let fill = |extra: &str, v| match of {
                // An array of arrays is one of their elements.
                "int[]" => format!(
                    "INSERT INTO t SELECT k::int[], {v} FROM unnest(ARRAY[{values}{extra}]::text[]) k"
                ),
                _ => fill(extra, v),
            };
            let (lines, plan) = pair.diff("", &both, &fill("", 1), &fill("", 1));
            assert_eq!(lines, Vec::<String>::new(), "{of}");
            assert_eq!(plan.key.unwrap().columns, ["k"]);
            let extra = format!(", {other}");
            let (lines, _) = pair.diff("", &both, &fill("", 1), &fill(&extra, 1));
            assert!(
                lines.len() == 1 && lines[0].starts_with('+'),
                "{of}: {lines:?}"
            );
            let (lines, _) = pair.diff("", &both, &fill(&extra, 1), &fill("", 1));
            assert!(
                lines.len() == 1 && lines[0].starts_with('-'),
                "{of}: {lines:?}"
            );
            let (lines, _) = pair.diff("", &both, &fill("", 1), &fill("", 2));
            assert!(
                lines.iter().all(|l| l.starts_with('~')) && !lines.is_empty(),
                "{of}: {lines:?}"
            );
        }
    }
}

#[test]
fn every_kind_of_change() {
    let pair = Pair::new(&bin_dirs()[0]);
    let both = "CREATE TABLE t(a int, b text, c numeric, d jsonb, PRIMARY KEY (b, a));
        INSERT INTO t SELECT g, 'x', g, '{}' FROM generate_series(1, 50) g;
        INSERT INTO t VALUES (99, 'y', NULL, '{\"n\": 1.0}');";
    let (lines, plan) = pair.diff(
        "",
        both,
        "",
        "DELETE FROM t WHERE a = 7; INSERT INTO t VALUES (7, 'X', 1, NULL);
         UPDATE t SET c = '5.0' WHERE a = 5; UPDATE t SET d = NULL WHERE a = 6;
         UPDATE t SET c = 0, d = '{\"n\": 1.00}' WHERE a = 99; UPDATE t SET c = c WHERE a = 8",
    );
    assert_eq!(
        lines,
        [
            "+7|X|1|NULL",
            "~5|x|5|{} > 5|x|5.0|{}",
            "~6|x|6|{} > 6|x|6|NULL",
            "-7|x|7|{}",
            "~99|y|NULL|{\"n\": 1.0} > 99|y|0|{\"n\": 1.00}",
        ]
    );
    assert_eq!(plan.key.as_ref().unwrap().columns, ["b", "a"]);
    assert_eq!(plan.key_positions(&plan.old), [1, 0]);

    // The same key, written in another way.
    let keys = "CREATE TABLE t(k numeric PRIMARY KEY, f float8);";
    let (lines, _) = pair.diff(
        "",
        keys,
        "INSERT INTO t VALUES (1.0, 0), (2, 1)",
        "INSERT INTO t VALUES (1.00, 0), (2, 1)",
    );
    assert_eq!(lines, ["~1.0|0 > 1.00|0"]);
}

#[test]
fn without_a_key_rows_are_counted() {
    let pair = Pair::new(&bin_dirs()[0]);
    let (lines, plan) = pair.diff(
        "",
        "CREATE TABLE t(a int, b text);
         INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL), (2, ''), (NULL, NULL);",
        "",
        "DELETE FROM t WHERE ctid = '(0,1)'; INSERT INTO t VALUES (2, NULL), (3, 'y');
         DELETE FROM t WHERE a IS NULL",
    );
    assert_eq!(lines, ["-NULL|NULL", "-1|x", "+2|NULL", "+3|y"]);
    assert_eq!(plan.key, None);
    // A replica identity is a key, too; a key that only one side has is none.
    let unique = "CREATE TABLE t(a int NOT NULL, b text); CREATE UNIQUE INDEX i ON t(a);
         ALTER TABLE t REPLICA IDENTITY USING INDEX i; INSERT INTO t VALUES (1, 'x');";
    let (lines, plan) = pair.diff("", unique, "", "UPDATE t SET b = 'y'");
    assert_eq!(lines, ["~1|x > 1|y"]);
    assert_eq!(plan.key.unwrap().what, "replica identity");
    let (lines, plan) = pair.diff("", unique, "", "DROP INDEX i; UPDATE t SET b = 'y'");
    assert_eq!(
        (lines, plan.key),
        (vec!["-1|x".into(), "+1|y".into()], None)
    );
}

#[test]
fn columns_and_tables_come_and_go() {
    let pair = Pair::new(&bin_dirs()[0]);
    let both = "CREATE TABLE t(k int PRIMARY KEY, a int, b int);
         INSERT INTO t VALUES (1, 1, 1), (2, 2, 2);";
    let (lines, plan) = pair.diff(
        "",
        both,
        "",
        "ALTER TABLE t DROP a; ALTER TABLE t ADD c text DEFAULT 'c';
         ALTER TABLE t ALTER b TYPE bigint; UPDATE t SET b = 3 WHERE k = 2;
         INSERT INTO t VALUES (3, 3, 'd')",
    );
    assert_eq!(lines, ["~2|2|2 > 2|3|c", "+3|3|d"]);
    assert_eq!(
        (&*plan.added, &*plan.dropped),
        (&["c".to_owned()][..], &["a".to_owned()][..])
    );
    let retyped = plan.retyped.iter().map(|r| (&*r.name, &*r.old, &*r.new));
    assert_eq!(retyped.collect::<Vec<_>>(), [("b", "integer", "bigint")]);

    let (lines, plan) = pair.diff("", "", both, "");
    assert_eq!(lines, ["-1|1|1", "-2|2|2"]);
    assert!(plan.dropped.is_empty());
    let (lines, _) = pair.diff("", "", "", both);
    assert_eq!(lines, ["+1|1|1", "+2|2|2"]);
    let (lines, _) = pair.diff("", "CREATE TABLE t();", "", "INSERT INTO t DEFAULT VALUES");
    assert_eq!(lines, ["+"]);
}

#[test]
fn orders_are_bytes_whatever_the_encoding() {
    let pair = Pair::new(&bin_dirs()[0]);
    // In KOI8-R letters have another order than in UTF-8.
    let both = "CREATE TABLE t(k text PRIMARY KEY, v int);
         INSERT INTO t SELECT chr(224 + g), g FROM generate_series(0, 31) g;";
    for (options, name) in [
        ("ENCODING 'KOI8R' LOCALE 'C'", "Ю"),
        ("ENCODING 'UTF8' LOCALE 'C'", "à"),
        ("ENCODING 'SQL_ASCII' LOCALE 'C'", ""),
    ] {
        // Bytes of no encoding are shown as well as can be.
        let both = match name {
            "" => both.replace(
                "chr(224 + g)",
                "convert_from(set_byte('\\x00', 0, 224 + g), 'SQL_ASCII')",
            ),
            _ => both.to_owned(),
        };
        let (lines, _) = pair.diff(options, &both, "", "UPDATE t SET v = -1 WHERE v = 0");
        let name = if name.is_empty() { "\u{fffd}" } else { name };
        assert_eq!(lines, [format!("~{name}|0 > {name}|-1")], "{options}");
    }
}
