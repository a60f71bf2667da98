use super::*;
use insta::assert_snapshot;
use zenith::diff::Pages;

fn name(name: &str) -> Name {
    Name {
        database: "app".into(),
        schema: "public".into(),
        name: name.into(),
    }
}

fn relation(shown: &str, kind: Kind, what: What, pages: (u64, u64, u64)) -> RelationChange {
    let (before, after, changed) = pages;
    let path = format!("base/5/{}", 20_000 + shown.len());
    RelationChange {
        name: name(shown),
        kind,
        oid: Some(20_000),
        table: None,
        is_catalog: false,
        what,
        pages: Pages {
            before,
            after,
            changed,
        },
        maps: Pages::default(),
        files: vec![file(&path, Some(before), Some(after), changed)],
    }
}

fn file(path: &str, before: Option<u64>, after: Option<u64>, changed: u64) -> FileChange {
    FileChange {
        path: path.into(),
        before: before.map(|pages| pages * 8192),
        after: after.map(|pages| pages * 8192),
        changed,
    }
}

fn ends() -> Ends {
    Ends {
        before: End {
            id: SnapshotId([0x77; 32]),
            ago: Some("5 min".into()),
        },
        after: None,
        glyphs: Glyphs::Unicode,
    }
}

fn example() -> Diff {
    let mut accounts = relation(
        "accounts",
        Kind::Table,
        What::Changed,
        (196_722, 196_722, 19_672),
    );
    accounts.maps.changed = 12;
    accounts.maps.before = 60;
    accounts.maps.after = 60;
    let mut pkey = relation(
        "accounts_pkey",
        Kind::Index,
        What::Changed,
        (32_904, 32_904, 0),
    );
    pkey.table = Some(name("accounts"));
    pkey.files.clear();
    let mut toast = relation("pg_toast_20000", Kind::Toast, What::Changed, (400, 410, 3));
    toast.name.schema = "pg_toast".into();
    toast.table = Some(name("accounts"));
    let mut empty = relation("pg_toast_20001", Kind::Toast, What::New, (0, 0, 0));
    empty.name.schema = "pg_toast".into();
    let mut class = relation("pg_class", Kind::Table, What::Changed, (14, 14, 3));
    class.name.schema = "pg_catalog".into();
    class.is_catalog = true;
    Diff {
        relations: vec![
            accounts,
            relation("history", Kind::Table, What::Changed, (129, 258, 0)),
            relation("view", Kind::MaterializedView, What::Rewritten, (70, 80, 0)),
            relation("old", Kind::Table, What::Dropped, (20, 0, 0)),
            relation("new", Kind::Table, What::New, (0, 11, 0)),
            toast,
            class,
            relation("emptied", Kind::Table, What::Rewritten, (0, 0, 0)),
            empty,
            pkey,
        ],
        files: vec![
            file("pg_wal/000000010000000000000009", None, Some(2048), 0),
            file("pg_xact/0000", Some(1), Some(1), 1),
            file("postgresql.conf", Some(4), Some(4), 1),
        ],
        block_size: 8192,
        pages: 289_512,
        ..Diff::default()
    }
}

fn text(lines: &[String]) -> String {
    lines.join("\n")
}

#[test]
fn relations() {
    let lines = lines(&example(), &ends(), Shown { all: false });
    assert_snapshot!(text(&lines), @r"
    77777777 (5 min ago) → cluster, 7 relations, 19,941 of 289,512 pages
      public.accounts       table    19,672 / 196,722     10.0 %  ██████████
      public.history        table       129 /     258     50.0 %  ▏
      public.view           matview      80 /      80  rewritten  ▏
      public.old            table        20 /      20    dropped  ▏
      public.new            table        11 /      11        new  ▏
      public.accounts       toast        13 /     410      3.2 %  ▏
      public.emptied        table         0 /       0  rewritten
      public.accounts_pkey  index         0 /  32,904      0.0 %
      (and 16 pages of catalogs, maps and transaction status, 16.8 MB of WAL,
       1 file of configuration; --all shows them)
    ");
}

#[test]
fn everything() {
    let lines = lines(&example(), &ends(), Shown { all: true });
    assert_snapshot!(text(&lines), @r"
    77777777 (5 min ago) → cluster, 7 relations, 19,941 of 289,512 pages
      public.accounts                  table         19,672 / 196,722     10.0 %
      public.accounts                  map               12 /      60     20.0 %
      public.history                   table            129 /     258     50.0 %
      public.view                      matview           80 /      80  rewritten
      public.old                       table             20 /      20    dropped
      public.new                       table             11 /      11        new
      public.accounts                  toast             13 /     410      3.2 %
      pg_catalog.pg_class              table              3 /      14     21.4 %
      public.emptied                   table              0 /       0  rewritten
      pg_toast.pg_toast_20001          toast              0 /       0        new
      public.accounts_pkey             index              0 /  32,904      0.0 %
      pg_wal/000000010000000000000009  wal            2,048 /   2,048        new
      pg_xact/0000                     transactions       1 /       1    100.0 %
      postgresql.conf                  config             1 /       4     25.0 %
    ");
}

#[test]
fn files() {
    assert_snapshot!(text(&stat(&example(), &ends())), @r"
      base/5/20003                     main              20 /      20  100.0 %  ▏
      base/5/20003                     main              11 /      11  100.0 %  ▏
      base/5/20004                     main              10 /      80   12.5 %  ▏
      base/5/20007                     main             129 /     258   50.0 %  ▏
      base/5/20007                     main               0 /       0
      base/5/20008                     main          19,672 / 196,722   10.0 %  ████
      base/5/20008                     main               3 /      14   21.4 %  ▏
      base/5/20014                     main              13 /     410    3.2 %  ▏
      base/5/20014                     main               0 /       0
      pg_wal/000000010000000000000009  wal            2,048 /   2,048      new  ▍
      pg_xact/0000                     transactions       1 /       1  100.0 %  ▏
      postgresql.conf                  config             1 /       4   25.0 %  ▏
    11 files changed, 1 added, 0 removed, 19,860 pages
    ");
}

#[test]
fn only_names() {
    let mut diff = example();
    assert_snapshot!(text(&names(&diff, Shown { all: false })), @r"
    public.accounts
    public.history
    public.view
    public.old
    public.new
    public.emptied
    ");
    diff.several_databases = true;
    let first = &names(&diff, Shown { all: true })[..3];
    assert_snapshot!(text(first), @r"
    app.public.accounts
    app.public.history
    app.public.view
    ");
}

#[test]
fn nothing() {
    for lines in [
        lines(&Diff::default(), &ends(), Shown { all: true }),
        stat(&Diff::default(), &ends()),
    ] {
        assert_eq!(lines, ["77777777 (5 min ago) → cluster, no difference"]);
    }
    assert!(names(&Diff::default(), Shown { all: true }).is_empty());
}

#[test]
fn bars_are_as_long_as_what_they_show() {
    let bar = |n, most| bar(n, most, BAR_CELLS, Glyphs::Unicode);
    assert_eq!(bar(0, 100), "");
    assert_eq!(bar(1, 1_000_000), "▏");
    assert_eq!(bar(100, 100), "██████████");
    assert_eq!(bar(50, 100), "█████");
    assert_eq!(bar(54, 100), "█████▍");
    assert_eq!(bar(0, 0), "");
}

/// No line is longer than a terminal is wide, where the names leave it any choice.
#[test]
fn lines_fold() {
    let mut diff = example();
    let all = |diff: &Diff| {
        let (some, every) = (Shown { all: false }, Shown { all: true });
        [
            lines(diff, &ends(), some),
            lines(diff, &ends(), every),
            stat(diff, &ends()),
        ]
        .concat()
    };
    for line in all(&diff) {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    // A name that leaves no room for bars, and one that leaves none for anything.
    for (length, bars) in [(20, true), (40, false), (90, false)] {
        diff.relations[0].name.name = "x".repeat(length);
        let lines = lines(&diff, &ends(), Shown { all: false });
        assert_eq!(lines[1].contains('█'), bars, "{}", text(&lines));
    }
    let parts = ["a".repeat(50), "b".repeat(30), "c".repeat(100), "d".into()];
    let folded = folded("(and ", &parts, ")", "  ");
    let [a, b, c, d] = parts;
    assert_eq!(
        folded,
        [
            format!("(and {a},"),
            format!("  {b},"),
            format!("  {c},"),
            format!("  {d})")
        ]
    );
}

#[test]
fn records() {
    let diff = example();
    let whole = serde_json::to_string(&record(&diff, &ends())).unwrap();
    assert_snapshot!(whole, @r#"{"type":"diff","v":1,"before":"7777777777777777777777777777777777777777777777777777777777777777","after":null,"same":false,"pages":19941,"of_pages":289512,"block_size":8192,"catalog_pages":3,"map_pages":12,"transaction_pages":1,"wal_bytes":16777216,"config_files":1,"other_files":0,"moving":false}"#);
    assert_snapshot!(relation_record(&diff.relations[5]), @r#"{"catalog":false,"database":"app","files":["base/5/20014"],"kind":"toast","map_pages":0,"name":"pg_toast_20000","oid":20000,"pages":13,"pages_after":410,"pages_before":400,"schema":"pg_toast","table":{"name":"accounts","schema":"public"},"type":"diff_relation","v":1,"what":"changed"}"#);
    assert_snapshot!(file_record(&diff.files[0], 8192), @r#"{"bytes_after":16777216,"bytes_before":null,"pages":2048,"path":"pg_wal/000000010000000000000009","type":"diff_file","v":1,"what":"new"}"#);
}
