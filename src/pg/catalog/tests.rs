use zenith_store::World;

use super::*;
use crate::pg::Control;
use crate::pg::files::Pgdata;
use crate::pg::files::testing::Mem;
use crate::pg::testing::{Cluster, bin_dirs, give};

fn layout(cluster: &Cluster) -> Layout {
    Layout::from(&Control::read(cluster.pgdata(), &World::real()).unwrap())
}

/// What the server says about a database, one line a relation.
fn asked(cluster: &Cluster, database: &str) -> Vec<String> {
    let sql = "select c.oid, n.nspname, c.relname, c.relkind, \
         coalesce(pg_relation_filenode(c.oid), 0), \
         case when c.reltablespace <> 0 then c.reltablespace else d.dattablespace end, \
         coalesce(i.indrelid, t.oid), h.inhparent, c.relisshared \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         left join pg_index i on i.indexrelid = c.oid \
         left join pg_class t on t.reltoastrelid = c.oid \
         left join pg_inherits h on h.inhrelid = c.oid and c.relispartition, pg_database d \
         where d.datname = current_database() and c.relkind in ('r', 'i', 't', 'm', 'S', 'p', 'I') \
         and c.relpersistence <> 't' \
         and (pg_relation_filenode(c.oid) is not null or c.relkind in ('p', 'I'))";
    let mut lines: Vec<String> = cluster
        .sql_in(database, sql)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn read_lines(catalog: &Catalog, database: &str) -> Vec<String> {
    let line = |r: &Relation, shared: char| {
        let shown = |oid: Option<u32>| oid.map_or(String::new(), |oid| oid.to_string());
        let (table, parent) = (shown(r.table), shown(r.parent));
        format!(
            "{}|{}|{}|{}|{}|{}|{table}|{parent}|{shared}",
            r.oid, r.schema, r.name, r.kind, r.filenode, r.tablespace
        )
    };
    let of = |which: &dyn Fn(&Database) -> bool| -> Vec<&Relation> {
        let found = catalog.databases.iter().find(|d| which(d));
        found.map_or(vec![], |d| d.relations.iter().collect())
    };
    let own = of(&|d| d.name == database && d.oid != 0);
    let shared = of(&|d| d.oid == 0);
    let own = own.into_iter().map(|r| line(r, 'f'));
    let mut lines: Vec<String> = own
        .chain(shared.into_iter().map(|r| line(r, 't')))
        .collect();
    lines.sort();
    lines
}

/// Everything that moves relations and leaves old rows about.
fn change(cluster: &Cluster) {
    for sql in [
        "create database other",
        "create table t (id int primary key, doc text)",
        "create index on t (doc)",
        "create unlogged table u (x text)",
        "create materialized view m as select 1 as x",
        "create table dropped (x text)",
        "drop table dropped",
        "create schema \"Großes Schema\"; create sequence \"Großes Schema\".\"s\"\"q\"",
        "begin; create table aborted (x text); rollback",
        "begin; alter table t rename to renamed; rollback",
        "begin; savepoint a; create table half (x text); rollback to a; create table whole (x text); commit",
        "begin; drop table t; rollback",
        "create table p (x int) partition by range (x); create table p1 partition of p default; create index on p (x)",
        "create table parent (x int); create table child () inherits (parent)",
        "truncate t; reindex table t",
        "vacuum full u",
        "alter table whole rename to renamed",
        "select oid from pg_class where relname = 't' for update",
        "vacuum full pg_class",
        "vacuum full pg_database",
        "create table later (x text); alter table later add y text",
        "begin; select oid from pg_class where relname = 'p1' for share; savepoint a; alter table p1 set (fillfactor = 50); commit",
        "create temporary table temp (x text)",
    ] {
        cluster.sql(sql);
    }
    cluster.sql_in("other", "create table elsewhere (x text)");
}

#[test]
fn pages_say_what_the_server_says() {
    for bin in bin_dirs() {
        let cluster = Cluster::init(&bin, &[]);
        let place = cluster.dir().join("ts");
        std::fs::create_dir(&place).unwrap();
        give(&place);
        cluster.start(&["autovacuum=off"]);
        change(&cluster);
        cluster.sql(&format!(
            "create tablespace ts location '{}'",
            place.display()
        ));
        cluster.sql("create table far (x text) tablespace ts");
        cluster.sql("create database there tablespace ts");
        let databases = ["postgres", "other", "there", "template1"];
        let asked = databases.map(|database| asked(&cluster, database));
        cluster.stop("fast");
        let catalog = read(
            &Pgdata(cluster.pgdata().to_owned()),
            layout(&cluster),
            &|_| true,
        )
        .unwrap();
        assert_eq!(catalog.unreadable, []);
        assert_eq!(catalog.databases.len(), 1 + databases.len() + 1);
        for (database, asked) in databases.iter().zip(asked) {
            assert_eq!(read_lines(&catalog, database), asked, "{database} {bin:?}");
        }
        let whole = read_lines(&catalog, "postgres").join("\n");
        for name in [
            "|s\"q|S|",
            "|Großes Schema|",
            "|m|m|",
            "|far|",
            "|pg_toast_",
        ] {
            assert!(whole.contains(name), "{name}");
        }
        for name in ["|aborted|", "|half|", "|dropped|", "|temp|"] {
            assert!(!whole.contains(name), "{name}");
        }
    }
}

/// Hint bits are written when a tuple is looked at; right after a commit there are none.
#[test]
fn without_hint_bits_transactions_tell() {
    let cluster = Cluster::init(&bin_dirs()[0], &[]);
    cluster.start(&["autovacuum=off"]);
    cluster.sql("create table seen (x text)");
    cluster.sql("begin; create table unseen (x text); rollback");
    cluster.sql("drop table seen; create table last (x text)");
    cluster.stop("fast");
    let files = Pgdata(cluster.pgdata().to_owned());
    let catalog = read(&files, layout(&cluster), &|_| true).unwrap();
    let whole = read_lines(&catalog, "postgres").join("\n");
    assert!(whole.contains("|last|") && !whole.contains("seen|"));

    // Of what is not wanted nothing is read, but for the shared ones.
    let only = |oid| {
        let catalog = read(&files, layout(&cluster), &|o| o == oid).unwrap();
        let found = catalog.databases.iter().filter(|d| !d.relations.is_empty());
        found.map(|d| d.oid).collect::<Vec<_>>()
    };
    assert_eq!(only(0), [0]);
    assert_eq!(only(5), [0, 5]);
    assert!(only(7).is_empty());
}

#[test]
fn a_database_that_cannot_be_read_is_named() {
    let cluster = Cluster::init(&bin_dirs()[0], &[]);
    let files = Pgdata(cluster.pgdata().to_owned());
    let path = cluster.pgdata().join("base/5/pg_filenode.map");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let catalog = read(&files, layout(&cluster), &|_| true).unwrap();
    let [unreadable] = &catalog.unreadable[..] else {
        panic!("{:?}", catalog.unreadable);
    };
    assert_eq!(unreadable.database, "postgres");
    assert!(unreadable.reason.contains("checksum"), "{unreadable:?}");
    assert_eq!(catalog.databases.len(), 3);
    std::fs::remove_file(cluster.pgdata().join("global/pg_filenode.map")).unwrap();
    let error = read(&files, layout(&cluster), &|_| true).unwrap_err();
    assert!(
        error.to_string().contains("global/pg_filenode.map"),
        "{error}"
    );
}

/// Before WAL is replayed the row before a change may be seen as well, and its file is gone.
#[test]
fn of_two_rows_of_a_catalog_the_one_with_a_file_counts() {
    let cluster = Cluster::init(&bin_dirs()[0], &[]);
    cluster.start(&["autovacuum=off"]);
    cluster.sql("create table t (id int primary key)");
    cluster.sql("vacuum full pg_index");
    cluster.stop("fast");
    let dir = cluster.pgdata().join("base/5");
    let map = parse_map(&std::fs::read(dir.join("pg_filenode.map")).unwrap()).unwrap();
    let class = dir.join(map[&PG_CLASS].to_string());
    let mut bytes = std::fs::read(&class).unwrap();
    let mut rows = 0;
    for page in bytes.chunks_exact_mut(8192) {
        let word =
            |page: &[u8], at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
        let end = usize::from(u16::from_le_bytes([page[12], page[13]]));
        for at in (24..end).step_by(4) {
            let pointer = word(page, at);
            let row = (pointer & 0x7fff) as usize;
            if pointer >> 15 & 3 == 1 && word(page, row + usize::from(page[row + 22])) == PG_INDEX {
                // HEAP_XMAX_INVALID: nobody has deleted it.
                page[row + 21] |= 0x08;
                rows += 1;
            }
        }
    }
    assert_eq!(rows, 2, "the one before is there");
    std::fs::write(&class, bytes).unwrap();
    let files = Pgdata(cluster.pgdata().to_owned());
    let catalog = read(&files, layout(&cluster), &|_| true).unwrap();
    assert_eq!(catalog.unreadable, []);
    assert!(
        read_lines(&catalog, "postgres")
            .join("\n")
            .contains("|t_pkey|i|")
    );
}

#[test]
fn maps_of_any_size_are_checked() {
    let map = |room: usize, number: u32| {
        let mut bytes = vec![0; 8 + room * 8];
        bytes[..4].copy_from_slice(&MAP_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..12].copy_from_slice(&PG_CLASS.to_le_bytes());
        bytes[12..16].copy_from_slice(&16400u32.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    };
    for room in [62, 64] {
        assert_eq!(parse_map(&map(room, 1)), Ok(Map::from([(PG_CLASS, 16400)])));
        assert!(parse_map(&map(room, 65)).is_err());
        let mut bad = map(room, 1);
        bad[9] ^= 1;
        assert!(parse_map(&bad).is_err());
        assert!(parse_map(&map(room, 1)[..100]).is_err());
    }
    assert!(parse_map(&[]).is_err() && parse_map(&[0; 600]).is_err());
}

#[test]
fn a_cluster_of_nothing_is_an_error() {
    let layout = Layout {
        major: 15,
        catalog_version: 1,
        block_size: 8192,
    };
    assert!(read(&Mem::new(), layout, &|_| true).is_err());
}
