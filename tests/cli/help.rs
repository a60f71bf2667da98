//! Help texts, and docs/cli.md, which is made of them.

use insta::assert_snapshot;

use crate::zenith::Zenith;

#[test]
fn what_there_is() {
    assert_snapshot!(Zenith::new().transcript("--help"), @r#"
    $ zenith --help
    git for PostgreSQL clusters: snapshots, branches and backups of a whole server

    Usage: zenith [OPTIONS] <COMMAND>

    Commands:
      config       Show the settings of this home and where each comes from
      completions  Print the completion script of a shell
      man          Print the manual page, or write one per command into a directory
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
      -D, --home <DIR>    The home; otherwise ZENITH_HOME, the nearest .zenith upwards, or ./.zenith
      -q, --quiet         Say only the answer
      -v, --verbose...    Say more; twice for the log lines of the engine
          --color <WHEN>  When to use colours [default: auto] [possible values: auto, always, never]
          --json          Answer with one JSON object per line, each with `type` and `v`

    Revisions (REV): a branch, a tag, a snapshot id or a unique prefix of one, or HEAD; then any of
    ~N and ^ (ancestors), @{2 hours ago}, @{2026-11-22 10:00} and @{0/3000028} (an LSN).

    Environment: ZENITH_HOME, ZENITH_STORAGE_DEST, ZENITH_PG_BIN, ZENITH_PORT,
    ZENITH_SNAPSHOT_INTERVAL and NO_COLOR; a flag wins over the environment, the environment over
    config.toml. Storages read the usual names of their cloud (AWS_ACCESS_KEY_ID, AWS_REGION,
    AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...); for
    --snapshot-path the same names with SNAPSHOT_ in front win.
    --- exit 0
    "#);
}
