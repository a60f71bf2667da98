//! Help texts, and docs/cli.md, which is made of them.

use std::path::Path;

use insta::assert_snapshot;

use crate::zenith::Zenith;

#[test]
fn what_there_is() {
    assert_snapshot!(Zenith::new().transcript("-h"), @r"
    $ zenith -h
    git for PostgreSQL clusters: snapshots, branches and backups of a whole server

    Usage: zenith [OPTIONS] <COMMAND>

    Commands:
      init         Make a home: a new cluster or an imported one, and its first snapshot
      start        Start the server and the agent that takes and pushes snapshots
      stop         Stop the server, take a last snapshot and push it
      status       Server, snapshots, storage: how things stand
      snapshot     Take, list, show and delete snapshots
      log          Show the history of branches, newest first
      checkout     Materialise a snapshot: in a new directory, or as the managed cluster
      diff         What changed between two snapshots, or since one: pages of each relation
      sql          Ask a snapshot: run SQL on a short-lived server made from it
      psql         A psql session on a short-lived server made from a snapshot
      cp           Write a table of a snapshot as SQL that makes it anew
      branch       List, create, rename and delete branches
      tag          List, create, rename and delete tags, which keep their snapshots
      push         Send snapshots that the storage does not have yet
      fetch        Bring what a remote has; local branches stay where they are
      pull         Fetch, then move the branch and the managed cluster forward
      clone        Make a home from a storage: its branches, and a guarded copy of the cluster
      remote       List, show, add, change and remove the repositories to fetch from and push to
      export       Write a snapshot as plain PostgreSQL files, as tar, or as a repository
      import       Read a cluster from plain PostgreSQL files, tar, or a repository into a branch
      gc           Free the space of what no snapshot uses
      verify       Check that everything snapshots need is there and whole
      undo         Reverse an operation that moved branches, tags or snapshots
      op           The operation log: who did what, when
      prune        Delete snapshots that no rule keeps
      key          List, add, change and remove the passphrases of an encrypted repository
      home         List the homes that build on what lies at the storage, and forget those that are gone
      config       Show the settings of this home and where each comes from
      completions  Print the completion script of a shell
      man          Print the manual page, or write one per command into a directory
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -D, --home <DIR>    The home; otherwise ZENITH_HOME, the nearest .zenith upwards, or ./.zenith
      -q, --quiet         Say only the answer
      -v, --verbose...    Say more; twice for the log lines of the engine
          --color <WHEN>  When to use colours [default: auto] [possible values: auto, always, never]
          --json          Answer with one JSON object per line, each with `type` and `v`
          --no-pager      Print long lists as they are, without a pager

    Revisions (REV): a branch, a tag, a snapshot id or a unique prefix of one, or HEAD; then any of ~N
    and ^ (ancestors), @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028} (an LSN).

    Environment: ZENITH_HOME, ZENITH_STORAGE_DEST, ZENITH_PG_BIN, ZENITH_PORT, ZENITH_SNAPSHOT_INTERVAL,
    ZENITH_PASSPHRASE, ZENITH_NEW_PASSPHRASE, ZENITH_PAGER (or PAGER) and NO_COLOR; a flag wins over the
    environment, the environment over config.toml. Storages read the usual names of their cloud
    (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS,
    AZURE_STORAGE_ACCOUNT_NAME, ...); for --snapshot-path the same names with SNAPSHOT_ in front win.
    --- exit 0
    ");
}

#[test]
fn usage_without_a_command_is_talk() {
    let output = Zenith::new().command("").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("Usage: zenith")
    );
}

/// docs/cli.md is what the program itself says; `ZENITH_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_page_of_all_commands_is_up_to_date() {
    let zenith = Zenith::new();
    let mut page = "# The command line\n\nMade from the program's own help by tests/cli/help.rs. \
                    Every long flag is understood in snake_case, too.\n"
        .to_owned();
    add(&zenith, "", &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if std::env::var_os("ZENITH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/cli.md is out of date: run this test with ZENITH_UPDATE_DOCS=1"
    );
}

/// The help of a command and of those below it.
fn add(zenith: &Zenith, command: &str, page: &mut String) {
    let output = zenith
        .command(&format!("{command} --help"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}");
    let text = String::from_utf8(output.stdout).unwrap();
    let title = format!("zenith {command}");
    // What holds for every command stands under the first one only.
    let shown = match text.split_once("\nGlobal options:") {
        Some((own, rest)) if !command.is_empty() => match rest.split_once("\n\n") {
            Some((_, examples)) => format!("{own}\n{examples}"),
            None => own.to_owned(),
        },
        _ => text.clone(),
    };
    page.push_str(&format!(
        "\n## {}\n\n```text\n{}\n```\n",
        title.trim_end(),
        shown.trim_end()
    ));
    for name in subcommands(&text) {
        add(zenith, format!("{command} {name}").trim_start(), page);
    }
}

/// The commands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help
        .split_once("Commands:\n")
        .and_then(|(_, rest)| rest.split_once("\n\n"));
    let names = listed.map(|(lines, _)| lines).unwrap_or_default().lines();
    names
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command that can be run: `snapshot list`, and `remote` beside `remote list`.
pub(crate) fn leaves(zenith: &Zenith) -> Vec<String> {
    let mut leaves = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(command) = todo.pop() {
        let line = format!("{command} --help");
        let output = zenith.command(&line).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let below = subcommands(&text);
        // Where a command below it may be left out, it is one itself.
        if !command.is_empty() && (below.is_empty() || text.contains("[COMMAND]")) {
            leaves.push(command.clone());
        }
        todo.extend(
            below
                .iter()
                .map(|name| format!("{command} {name}").trim().to_owned()),
        );
    }
    leaves.sort();
    leaves
}
