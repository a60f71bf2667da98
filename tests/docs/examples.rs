//! The examples of `--help`, out of docs/cli.md: every one is typed, on a stage where it means
//! something.

use std::collections::BTreeSet;

use zenith_testkit::port;

use crate::compare::{self, Names};
use crate::read;
use crate::shell::Shell;

/// Examples that are not typed, and why.
const NOT_TYPED: &[(&str, &str)] = &[
    (
        "zenith snapshot show 'main@{2 hours ago}'",
        "nothing here is two hours old",
    ),
    (
        "zenith sql 'main@{2 hours ago}' -d app --csv -c 'table customers'",
        "nothing here is two hours old",
    ),
    (
        "zenith cp 'main@{10 minutes ago}:public.orders' | psql app",
        "nothing here is ten minutes old",
    ),
    (
        "zenith checkout 'main@{yesterday}' /srv/old",
        "nothing here is a day old",
    ),
];

/// `$ ` is an example, `: ` sets the stage, `= ID ` lets ID stand for the first id that the
/// command answers. All of them must succeed.
const NEW: &str = r#"
: mkdir /srv/a /srv/b /srv/c
: cd /srv/a
$ zenith init --initdb-arg --locale=C --port 5433
: cd /srv/b
: initdb -D /var/lib/postgresql/15/main -U postgres -A trust --no-sync
$ zenith init --snapshot-path /var/lib/postgresql/15/main
: cd /srv/c
: export ZENITH_PASSPHRASE=one ZENITH_NEW_PASSPHRASE=two
$ zenith init --storage-dest /mnt/backup --encrypt
$ zenith key list
$ zenith key add
: echo three > /root/spare; echo four > /root/new; chmod 600 /root/spare /root/new
$ zenith key add --new-passphrase-file /root/spare
$ zenith key remove 2
$ zenith key change
: printf '#!/bin/sh\necho two\n' > $(dirname $(command -v zenith))/pass
: chmod +x $(dirname $(command -v zenith))/pass
$ zenith key change --passphrase-command 'pass zenith' --new-passphrase-file /root/new
"#;

/// The same, of homes that are there.
const HOMES: &str = r#"
: zenith init --storage-dest /mnt/backup/orders
$ zenith start
: export PGHOST=$PWD/.zenith/run PGUSER=postgres
: psql -qc 'create database app' postgres
: export PGDATABASE=app
: psql -qc 'create table orders (id int primary key, what text); create table orders_old (id int)'
: psql -qc 'insert into orders select n from generate_series(1, 1000) n'
$ zenith snapshot create -m 'before migration 42'
: psql -qc "update orders set what = now() where id < 10"
$ zenith snapshot create -q
: psql -qc "update orders set what = now() where id < 10"
: zenith snapshot create
: psql -qc "update orders set what = now() where id < 10"
: zenith snapshot create
: psql -qc "update orders set what = now() where id < 10"
: zenith snapshot create
$ zenith push
$ zenith status
$ zenith status --max-age 1h
$ zenith status --json
$ zenith config
$ ZENITH_PORT=5433 zenith config
$ zenith snapshot list
$ zenith snapshot list --all -n 20
$ zenith snapshot list --remote
$ zenith snapshot show
$ zenith snapshot show main~1
$ zenith checkout main~3 /srv/old
: rm -rf /srv/old
$ zenith tag v1.0 main~2
$ zenith tag
$ zenith snapshot show v1.0 -v
$ zenith checkout v1.0 /srv/old
$ zenith branch try-index main~2
$ zenith branch
$ zenith log
$ zenith log --graph --all
$ zenith log main origin/main -n 20
$ zenith log --remote --branch main
$ zenith push --all --tags

$ zenith diff
$ zenith log --graph -- public.orders
$ zenith diff main~3 main
$ zenith diff v1.0 main --name-only
$ zenith diff main~3 main --rows public.orders
: echo 'select max(what) from orders' > report.sql
$ zenith sql v1.0 -c 'select count(*) from orders'
$ zenith sql HEAD~3 -f report.sql

$ zenith psql main~3
$ zenith psql v1.0 -d app -- -c '\d orders'
$ zenith cp v1.0:app.public.orders --data-only --format csv > orders.csv
: psql -qc 'create database test'
$ zenith cp 'HEAD~2:orders_*' --all-matching --no-owner | psql test
: psql -qc 'drop database test'

$ zenith remote
$ zenith remote add offsite s3://bucket/orders
$ zenith push offsite --all
$ zenith push offsite
$ zenith remote list
$ zenith remote show
$ zenith remote show offsite
: mkdir /srv/d && cd /srv/d
$ zenith init --storage-dest s3://bucket/orders
$ zenith clone s3://bucket/orders ./orders
: mkdir /srv/a && cd /srv/a && zenith init
$ zenith remote add origin /mnt/backup/orders
: cd ~/shop
$ zenith clone s3://bucket/orders /srv/look --lazy
$ zenith clone /mnt/backup/orders /srv/drill --branch main --port 5433
$ zenith remote set-url offsite s3://other-bucket/orders
$ zenith remote remove offsite --dry-run

$ zenith export --snapshot-path /srv/out
$ zenith export main --snapshot-path /srv/orders.tar
$ zenith export main~3 --snapshot-path s3://bucket/out --snapshot-format tar
$ zenith export v1.0 --snapshot-path - | gzip > orders.tar.gz
: pg_basebackup -D /srv/basebackup -X stream -c fast
$ zenith import --snapshot-path /srv/basebackup --branch restored
$ pg_basebackup -D - -F tar -X fetch | zenith import --snapshot-path -
: initdb -D /srv/pg15 -U postgres -A trust --no-sync
: mkdir /srv/e && cd /srv/e && zenith init --snapshot-path /srv/pg15
: pg_ctl -D /srv/pg15 -o "-p $((5431 + 1)) -k $HOME/../../run/postgresql -c listen_addresses=''" -l /srv/pg15.log -w start
$ zenith snapshot create --pgdata /srv/pg15 --dsn 'host=/run/postgresql user=postgres'
: pg_ctl -D /srv/pg15 -m immediate stop
: cd ~/shop

: zenith -D /srv/drill fetch --all
: zenith -D /srv/drill branch from-the-drill main
: zenith -D /srv/drill push --all
$ zenith fetch
$ zenith fetch --all --prune
$ zenith fetch try-index --depth 0
$ zenith pull --dry-run
$ zenith stop && zenith pull && zenith start
$ zenith stop
$ zenith checkout origin/try-index
: zenith checkout main
: zenith branch -d try-index --force
$ zenith checkout -b try-index main
: zenith checkout main
$ zenith checkout main~3
: zenith checkout main
$ zenith start --port 5433 --snapshot-interval 1m
$ zenith stop --no-snapshot
$ zenith start --primary
$ zenith stop --mode smart
: (until zenith status | grep 'server up'; do sleep 0.2; done; kill $(pgrep -P $$ -x zenith)) >/dev/null 2>&1 &
$ zenith start --foreground
: wait

$ zenith verify
$ zenith verify --read-data --remote
$ zenith verify --remote --sample 5%
$ zenith verify --repair
$ zenith branch -d try-index --dry-run
$ zenith branch -m try-index index
: zenith branch -m index try-index
$ zenith snapshot delete main~3 --dry-run
= 4f1c9a27 zenith --json snapshot show main~1
$ zenith snapshot delete 4f1c9a27 --force
$ zenith undo
: for i in $(seq 25); do zenith -q tag t; zenith -q tag -d t; done
$ zenith undo 41 --dry-run
$ zenith op log
$ zenith op log --all -n 100
$ zenith prune --keep-within 2d --keep-daily 30 --keep-monthly 12 --dry-run
$ zenith prune --keep-last 10 --branch try-index
$ zenith prune --keep-daily 30 --keep-tag 'v*' --remote
$ zenith undo --remote
$ zenith tag -m v1.0 v1.0.0
$ zenith tag -d v1.0.0
$ zenith gc --dry-run
$ zenith gc --remote
$ zenith gc --now
$ zenith home list
$ zenith home list --remote
= 0a1b2c3d zenith -D /srv/drill home list --remote | grep ●
$ zenith home forget 0a1b2c3d --remote
$ zenith completions bash > /etc/bash_completion.d/zenith
$ zenith completions zsh > ~/.zfunc/_zenith
$ zenith man | man -l -
$ zenith man /usr/local/share/man/man1
"#;

#[test]
fn every_example_is_typed() {
    let page = read("docs/cli.md");
    let wanted = examples(&page);
    let typed = [NEW, HOMES]
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("$ "));
    let known: BTreeSet<&str> = NOT_TYPED
        .iter()
        .map(|(example, _)| *example)
        .chain(typed)
        .collect();
    let more: Vec<_> = wanted.difference(&known).collect();
    assert!(
        more.is_empty(),
        "examples of the help that tests/docs/examples.rs does not type: {more:#?}"
    );
}

#[test]
fn of_new_homes() {
    play(NEW);
}

#[test]
fn of_homes_that_are_there() {
    play(HOMES);
}

fn play(script: &str) {
    let mut names = Names::new(port::free);
    let mut shell = Shell::new(&compare::buckets(script), names.port("5432"));
    names.root = shell.root();
    for line in script.lines().filter(|line| !line.is_empty()) {
        let (what, command) = line.split_at(2);
        let (id, command) = match what {
            "= " => command.split_at(8),
            _ => ("", command),
        };
        let (said, code) = shell
            .run(&names.typed(command))
            .unwrap_or_else(|why| panic!("{line}\n{why}"));
        assert_eq!(code, 0, "{line}\n{}", names.shown(&said).join("\n"));
        if !id.is_empty() {
            assert!(names.stand(id, &said), "{line}\n{said}");
        }
    }
}

/// Command lines below `Example:` and `Examples:` without what they are said to do, which stands
/// two spaces behind.
fn examples(page: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut within = false;
    for line in page.lines() {
        let first = line
            .strip_prefix("Example: ")
            .or(line.strip_prefix("Examples: "));
        within = match line {
            "Examples:" => true,
            _ => within && (line.starts_with("  ") || line.is_empty()),
        };
        let example = first.or(line.strip_prefix("  ").filter(|_| within));
        for example in example.into_iter().flat_map(|line| line.split("; ")) {
            let command = example
                .split_once("  ")
                .map_or(example, |(command, _)| command);
            if command.contains("zenith ") && !command.starts_with(' ') {
                found.insert(command);
            }
        }
    }
    found
}
