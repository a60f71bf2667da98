//! stdout is the answer, stderr is talk, errors have a shape, a broken pipe is no error.

use std::io::Read;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::made_up::MadeUp;
use crate::zenith::Zenith;

#[test]
fn without_a_home() {
    let zenith = Zenith::new();
    assert_snapshot!(zenith.transcript("config"), @r#"
    $ zenith config
    --- stderr
    error: there is no zenith home at DIR/.zenith

    hint: `zenith init` makes one here; -D DIR or ZENITH_HOME names another place.
    --- exit 1
    "#);
    assert_snapshot!(zenith.transcript("config --json"), @r#"
    $ zenith config --json
    --- stderr
    {"type":"error","v":1,"kind":"not_found","exit":1,"message":"there is no zenith home at DIR/.zenith","details":[],"hints":["`zenith init` makes one here; -D DIR or ZENITH_HOME names another place."]}
    --- exit 1
    "#);
    assert_snapshot!(zenith.transcript("-D elsewhere config"), @r#"
    $ zenith -D elsewhere config
    --- stderr
    error: there is no zenith home at DIR/elsewhere

    hint: `zenith init` makes one here; -D DIR or ZENITH_HOME names another place.
    --- exit 1
    "#);
}

#[test]
fn a_command_that_is_none() {
    let zenith = Zenith::new();
    assert_snapshot!(zenith.transcript("inot"), @r#"
    $ zenith inot
    --- stderr
    error: there is no command `inot`
      similar commands are: `import`, `init`
      usage: zenith [OPTIONS] <COMMAND>

    hint: `zenith --help` shows what there is.
    --- exit 2
    "#);
    assert_snapshot!(zenith.transcript("config --colour red"), @r#"
    $ zenith config --colour red
    --- stderr
    error: unexpected argument `--colour` found
      a similar argument exists: `--color`
      usage: zenith config --color <WHEN>

    hint: `zenith config --help` shows what there is.
    --- exit 2
    "#);
    assert_snapshot!(zenith.transcript("--json push --tgas"), @r#"
    $ zenith --json push --tgas
    --- stderr
    {"type":"error","v":1,"kind":"usage","exit":2,"message":"unexpected argument `--tgas` found","details":["a similar argument exists: `--tags`","usage: zenith push --tags [REMOTE]"],"hints":["`zenith push --help` shows what there is."]}
    --- exit 2
    "#);
    assert_snapshot!(zenith.transcript("snapshot --json"), @r#"
    $ zenith snapshot --json
    --- stderr
    {"type":"error","v":1,"kind":"usage","exit":2,"message":"a command is missing after `zenith snapshot`","details":[],"hints":["`zenith snapshot --help` shows what there is."]}
    --- exit 2
    "#);
    // After a double hyphen it is the name of a branch.
    assert!(
        zenith
            .transcript("branch -d a b -- --json")
            .contains("\nerror: ")
    );
}

#[test]
fn remotes_by_name() {
    let zenith = Zenith::new();
    let home = zenith.dir().join(".zenith");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("config.toml"), "home_id = \"0a\"\n").unwrap();
    let lines = [
        "remote",
        "remote add origin s3://b/p",
        "remote add offsite /srv/store",
        "remote add offsite /elsewhere",
        "remote list",
        "remote set-url offsite s3://key:secret@b/q",
        "remote remove offsite --dry-run",
        "remote remove offsite",
        "--json remote",
        "push offsite",
    ];
    let said: Vec<String> = lines.iter().map(|line| zenith.transcript(line)).collect();
    assert_snapshot!(said.join("\n"), @r#"
    $ zenith remote
    --- stderr
    no remotes; `zenith remote add origin URL` adds the storage
    --- exit 0

    $ zenith remote add origin s3://b/p
    added remote origin  s3://b/p
    --- exit 0

    $ zenith remote add offsite /srv/store
    added remote offsite  /srv/store
    --- exit 0

    $ zenith remote add offsite /elsewhere
    --- stderr
    error: the remote `offsite` is /srv/store already

    hint: `zenith remote set-url offsite URL` changes where it is.
    --- exit 4

    $ zenith remote list
    NAME     LOCATION    BRANCHES
    origin   s3://b/p
    offsite  /srv/store
    --- exit 0

    $ zenith remote set-url offsite s3://key:secret@b/q
    --- stderr
    error: `s3://b/q` holds credentials

    hint: A storage is /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come from the environment.
    --- exit 1

    $ zenith remote remove offsite --dry-run
    would remove remote offsite  /srv/store
    --- exit 0

    $ zenith remote remove offsite
    removed remote offsite  /srv/store
    --- exit 0

    $ zenith --json remote
    {"branches":[],"location":"s3://b/p","name":"origin","type":"remote","v":1}
    --- exit 0

    $ zenith push offsite
    --- stderr
    error: no remote is called `offsite`

    hint: `zenith remote` lists them; `zenith remote add offsite URL` adds this one.
    --- exit 1
    "#);
    let config = std::fs::read_to_string(home.join("config.toml")).unwrap();
    assert!(config.contains("storage_dest = \"s3://b/p\"") && !config.contains("offsite"));
}

#[test]
fn settings_and_where_they_come_from() {
    let zenith = Zenith::new();
    let home = zenith.dir().join(".zenith");
    std::fs::create_dir_all(home.join("below")).unwrap();
    let config = "home_id = \"0a\"\nstorage_dest = \"s3://b/p\"\n\n[server]\nport = 5433\n";
    std::fs::write(home.join("config.toml"), config).unwrap();
    assert_snapshot!(zenith.transcript("config"), @r#"
    $ zenith config
    SETTING             VALUE                                                                     FROM
    branch              main                                                                      config.toml
    storage_dest        s3://b/p                                                                  config.toml
    primary             false                                                                     config.toml
    lazy                false                                                                     config.toml
    pg_bin              -                                                                         default
    pg_user             -                                                                         default
    port                5433                                                                      config.toml
    listen              -                                                                         default
    snapshot_interval   5m                                                                        config.toml
    on_damage           warn                                                                      config.toml
    compression_level   1                                                                         config.toml
    push                true                                                                      config.toml
    keep                all for 2 h, hourly for 2 days, daily for 30 days, monthly for 12 months  config.toml
    spool_max           68.7 GB                                                                   config.toml
    min_free            10 %                                                                      config.toml
    repack_daily        268 MB                                                                    config.toml
    passphrase_file     -                                                                         default
    passphrase_command  -                                                                         default
    home_id             0a                                                                        config.toml
    --- stderr
    DIR/.zenith/config.toml
    --- exit 0
    "#);
    let below = zenith
        .command("config -q")
        .current_dir(home.join("below"))
        .output()
        .unwrap();
    assert_eq!(below.stderr, b"");
    let mut from_env = zenith.command("config --json");
    from_env
        .env("ZENITH_PORT", "6000")
        .env("ZENITH_STORAGE_DEST", "");
    assert_snapshot!(zenith.shown(&from_env.output().unwrap()), @r#"
    {"type":"setting","v":1,"name":"branch","value":"main","from":"config.toml"}
    {"type":"setting","v":1,"name":"storage_dest","value":"s3://b/p","from":"config.toml"}
    {"type":"setting","v":1,"name":"primary","value":"false","from":"config.toml"}
    {"type":"setting","v":1,"name":"lazy","value":"false","from":"config.toml"}
    {"type":"setting","v":1,"name":"pg_bin","value":null,"from":"default"}
    {"type":"setting","v":1,"name":"pg_user","value":null,"from":"default"}
    {"type":"setting","v":1,"name":"port","value":"6000","from":"environment"}
    {"type":"setting","v":1,"name":"listen","value":null,"from":"default"}
    {"type":"setting","v":1,"name":"snapshot_interval","value":"5m","from":"config.toml"}
    {"type":"setting","v":1,"name":"on_damage","value":"warn","from":"config.toml"}
    {"type":"setting","v":1,"name":"compression_level","value":"1","from":"config.toml"}
    {"type":"setting","v":1,"name":"push","value":"true","from":"config.toml"}
    {"type":"setting","v":1,"name":"keep","value":"all for 2 h, hourly for 2 days, daily for 30 days, monthly for 12 months","from":"config.toml"}
    {"type":"setting","v":1,"name":"spool_max","value":"68.7 GB","from":"config.toml"}
    {"type":"setting","v":1,"name":"min_free","value":"10 %","from":"config.toml"}
    {"type":"setting","v":1,"name":"repack_daily","value":"268 MB","from":"config.toml"}
    {"type":"setting","v":1,"name":"passphrase_file","value":null,"from":"default"}
    {"type":"setting","v":1,"name":"passphrase_command","value":null,"from":"default"}
    {"type":"setting","v":1,"name":"home_id","value":"0a","from":"config.toml"}
    --- exit 0
    "#);

    std::fs::write(
        home.join("config.toml"),
        "home_id = \"0a\"\n[server]\nprot = 1\n",
    )
    .unwrap();
    assert_snapshot!(zenith.transcript("config"), @r#"
    $ zenith config
    --- stderr
    error: DIR/.zenith/config.toml: TOML parse error at line 3, column 1
        |
      3 | prot = 1
        | ^^^^
      unknown field `prot`, expected one of `port`, `listen`, `pg_bin`, `pg_user`, `parameters`

    hint: Mend the file and run the command again.
    --- exit 1
    "#);
}

/// `zenith … | head -1` is not worth a word.
#[test]
fn a_reader_that_goes_away() {
    let zenith = Zenith::new();
    for line in ["completions bash", "man", "--help"] {
        let mut child = zenith
            .command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), stderr.as_str()),
            (Some(0), ""),
            "{line}"
        );
    }
}

#[test]
fn no_colour_without_a_terminal_and_colour_on_request() {
    let zenith = Zenith::new();
    let stderr =
        |line: &str| String::from_utf8(zenith.command(line).output().unwrap().stderr).unwrap();
    assert!(!stderr("config").contains('\x1b'));
    assert!(stderr("config --color always").contains("\x1b["));
    assert!(!stderr("config --color always --json").contains('\x1b'));
    assert!(stderr("cofnig --color=always").contains("\x1b["));
    assert!(!stderr("cofnig --color=always --json").contains('\x1b'));
    let help = |line: &str| zenith.command(line).output().unwrap().stdout;
    assert!(help("--help --color always").contains(&b'\x1b'));
    assert!(!help("--help").contains(&b'\x1b'));
}

/// A wrong directory never yields a home or a server.
#[test]
fn commands_without_a_home() {
    let zenith = Zenith::new();
    for line in [
        "start",
        "stop",
        "status",
        "push",
        "snapshot create",
        "snapshot list",
        "snapshot show main",
        "snapshot delete main",
        "checkout main",
        "checkout main copy",
        "diff",
        "diff main~1 main",
        "branch",
        "branch new main",
        "branch -d main",
        "branch -m main new",
        "tag v1",
        "tag -d v1",
        "home list --remote",
        "home forget 0a1b --remote",
        "prune --keep-last 3",
        "export --snapshot-path out",
        "import --snapshot-path in",
    ] {
        let output = zenith.command(line).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
        assert!(
            stderr.contains("no zenith home at") && stderr.contains("hint: "),
            "{stderr}"
        );
        assert!(output.stdout.is_empty(), "{line}");
        assert_eq!(
            std::fs::read_dir(zenith.dir()).unwrap().count(),
            0,
            "{line} made something"
        );
    }
}

#[test]
fn words_that_do_not_go_together() {
    let zenith = Zenith::new();
    for line in [
        "snapshot create --dsn host=/x",
        "snapshot list --all --branch x",
        "status --max-age never",
        "branch -d",
        "branch -m",
        "branch -d a b",
        "branch -d -m a",
        "branch a --force",
        "branch --all a",
        "branch --all --remote",
        "branch -m a b --remote",
        "branch a HEAD --remote",
        "tag -d",
        "start --port 0",
        "checkout main x --tablespace-mapping a=b",
        "diff a b c",
        "diff --stat --name-only",
        "init --snapshot-format gzip",
        "-q -v status",
        "init --storage-dest=",
        "start --storage-dest=",
        "init --storage-dest memory://x",
        "start --storage-dest memory://x",
    ] {
        let output = zenith.command(line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
    }
    let mut wrong = zenith.command("start --storage-dest /x");
    let output = wrong.env("ZENITH_PORT", "many").output().unwrap();
    assert_snapshot!(zenith.shown(&output), @r#"
    --- stderr
    error: ZENITH_PORT is `many`, not a port

    hint: Run `zenith --help` for the ways to say it.
    --- exit 2
    "#);
}

/// What keeps snapshots is neither lost with the home nor put among the files of a cluster.
#[test]
fn places_that_are_no_storage() {
    let zenith = Zenith::new();
    let cluster = zenith.dir().join("cluster");
    std::fs::create_dir_all(cluster.join("global")).unwrap();
    for (place, why) in [
        ("cluster", "it is a data directory of PostgreSQL"),
        (".zenith", "it is in the home"),
        (".zenith/store", "it is in the home"),
    ] {
        let line = format!("init --storage-dest {place}");
        let output = zenith.command(&line).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{place}: {stderr}");
        assert!(stderr.contains(why), "{stderr}");
        assert!(!zenith.dir().join(".zenith").exists(), "{place}");
    }
}

/// An empty place where a repository was is a disk that is not mounted: nothing is made there.
#[test]
fn a_storage_that_is_gone() {
    let made = MadeUp::new();
    made.snapshot("main", "one", 2);
    made.ok("push");
    let (storage, away) = (
        made.zenith.dir().join("storage"),
        made.zenith.dir().join("away"),
    );
    std::fs::rename(&storage, &away).unwrap();
    std::fs::create_dir(&storage).unwrap();
    for line in ["push", "fetch", "snapshot list --remote", "gc --remote"] {
        let refused = made.refused(line, 8);
        assert!(refused.contains("is gone"), "{line}: {refused}");
    }
    assert!(made.ok("status").contains("is gone"));
    assert_eq!(std::fs::read_dir(&storage).unwrap().count(), 0);

    // Another home's repository is not this one's.
    let other = MadeUp::new();
    other.snapshot("main", "two", 1);
    other.ok("push");
    std::fs::remove_dir(&storage).unwrap();
    std::fs::rename(other.zenith.dir().join("storage"), &storage).unwrap();
    let refused = made.refused("push", 4);
    assert!(refused.contains("is another"), "{refused}");

    std::fs::remove_dir_all(&storage).unwrap();
    std::fs::rename(&away, &storage).unwrap();
    made.ok("push");

    // Lost for good: what the hint says makes a new one.
    std::fs::remove_dir_all(&storage).unwrap();
    made.ok("remote remove origin");
    made.ok(&format!("remote add origin {}", storage.display()));
    assert!(made.ok("push").starts_with("pushed 1 snapshot"));
}

/// Where the locale has ASCII alone, so has everything that zenith draws.
#[test]
fn ascii_where_the_locale_has_nothing_else() {
    let m = MadeUp::new();
    let one = m.snapshot("main", "one", 90);
    m.name("branch/side", one);
    m.snapshot("side", "aside", 4);
    m.snapshot("main", "two", 3);
    m.ok("branch -m main trunk");
    for line in [
        "log",
        "log --graph --all",
        "snapshot list",
        "branch",
        "op log",
        "diff trunk~1 trunk --all",
        "diff trunk~1 trunk --stat",
        "fetch --dry-run",
        "status",
        "push --all",
        "snapshot show trunk",
    ] {
        let run = |locale: (&str, &str)| {
            let output = m.zenith.command(line).envs([locale]).output().unwrap();
            [output.stdout, output.stderr].concat()
        };
        for locale in [("LC_ALL", "C"), ("LC_CTYPE", "POSIX"), ("LANG", "de_DE")] {
            let said = run(locale);
            assert!(
                said.is_ascii(),
                "{line}\n{}",
                String::from_utf8_lossy(&said)
            );
            assert!(!said.is_empty(), "{line}");
        }
    }
    let graph = m
        .zenith
        .command("log --graph --all")
        .env("LC_ALL", "C.UTF-8")
        .output();
    assert!(!graph.unwrap().stdout.is_ascii());
}
