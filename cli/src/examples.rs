//! Examples of every command: the end of its `--help`, and a section of its manual page.
//!
//! A test parses each line by the definition of the commands, so they can be typed as they are.

use std::fmt::Write as _;

use clap::Command;

/// A line to type, and what it is for.
type Example = (&'static str, &'static str);

/// The words of a command → its examples. The empty one is `zenith` itself.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            (
                "zenith init --storage-dest s3://bucket/orders",
                "a new cluster, pushed there",
            ),
            (
                "zenith start",
                "the server, and snapshots in the background",
            ),
            ("zenith snapshot list", "what there is to go back to"),
            (
                "zenith checkout main~3 /srv/old",
                "one of them, beside the server",
            ),
        ],
    ),
    (
        "init",
        &[
            (
                "zenith init --storage-dest s3://bucket/orders",
                "an empty cluster, made by initdb",
            ),
            (
                "zenith init --snapshot-path /var/lib/postgresql/15/main",
                "a copy of a cluster that is stopped",
            ),
            (
                "zenith init --storage-dest /mnt/backup --encrypt",
                "asks for a passphrase",
            ),
            (
                "zenith init --initdb-arg --locale=C --port 5433",
                "with words for initdb",
            ),
        ],
    ),
    (
        "start",
        &[
            ("zenith start", "the server, and the agent behind it"),
            (
                "zenith start --port 5433 --snapshot-interval 1m",
                "for this start only",
            ),
            (
                "zenith start --foreground",
                "for containers and service managers",
            ),
            (
                "zenith start --primary",
                "a copy that is the original from now on",
            ),
        ],
    ),
    (
        "stop",
        &[
            ("zenith stop", "the server, then a snapshot, then a push"),
            ("zenith stop --mode smart", "when the last client has gone"),
            ("zenith stop --no-snapshot", "at once"),
        ],
    ),
    (
        "status",
        &[
            ("zenith status", ""),
            (
                "zenith status --max-age 1h",
                "exits with 3 when the last push is older",
            ),
            ("zenith status --json", "for programs: docs/json.md"),
        ],
    ),
    (
        "snapshot",
        &[
            ("zenith snapshot create -m 'before migration 42'", ""),
            ("zenith snapshot list", ""),
            ("zenith snapshot show main~1", ""),
        ],
    ),
    (
        "snapshot create",
        &[
            (
                "zenith snapshot create -m 'before migration 42'",
                "of the managed cluster",
            ),
            (
                "zenith snapshot create --pgdata /srv/pg15 \
                 --dsn 'host=/run/postgresql user=postgres'",
                "of a server that runs elsewhere",
            ),
            ("zenith snapshot create -q", "prints the id alone"),
        ],
    ),
    (
        "snapshot list",
        &[
            ("zenith snapshot list", "of the branch that is checked out"),
            (
                "zenith snapshot list --all -n 20",
                "of every branch, the newest 20",
            ),
            ("zenith snapshot list --remote", "of the storage"),
        ],
    ),
    (
        "snapshot show",
        &[
            ("zenith snapshot show", "where HEAD is"),
            ("zenith snapshot show 'main@{2 hours ago}'", ""),
            (
                "zenith snapshot show v1.0 -v",
                "with everything that was left out",
            ),
        ],
    ),
    (
        "snapshot delete",
        &[
            (
                "zenith snapshot delete main~3 --dry-run",
                "says what would go",
            ),
            (
                "zenith snapshot delete 4f1c9a27 --force",
                "also when a branch or tag is at it",
            ),
        ],
    ),
    (
        "log",
        &[
            ("zenith log", "what led to where HEAD is"),
            ("zenith log --graph --all", "every branch, with lines"),
            (
                "zenith log --graph -- public.orders",
                "what happened to a table and its indexes",
            ),
            ("zenith log main origin/main -n 20", "two branches"),
            ("zenith log --remote --branch main", "at the storage"),
        ],
    ),
    (
        "checkout",
        &[
            (
                "zenith checkout v1.0 /srv/old",
                "a copy, to be started with pg_ctl",
            ),
            ("zenith checkout main~3", "the managed cluster goes back"),
            (
                "zenith checkout -b try-index main",
                "and goes on on a branch of its own",
            ),
            (
                "zenith checkout 'main@{yesterday}' /srv/old",
                "the same copy moves on, in place",
            ),
        ],
    ),
    (
        "diff",
        &[
            ("zenith diff", "what HEAD does not have of the cluster"),
            ("zenith diff main~3 main", "between two snapshots"),
            ("zenith diff v1.0 main --name-only", "names alone"),
            (
                "zenith diff main~3 main --rows public.orders",
                "rows of one table",
            ),
        ],
    ),
    (
        "sql",
        &[
            ("zenith sql v1.0 -c 'select count(*) from orders'", ""),
            (
                "zenith sql 'main@{2 hours ago}' -d app --csv -c 'table customers'",
                "",
            ),
            ("zenith sql HEAD~3 -f report.sql", ""),
        ],
    ),
    (
        "psql",
        &[
            ("zenith psql main~3", ""),
            ("zenith psql v1.0 -d app -- -c '\\d orders'", ""),
        ],
    ),
    (
        "cp",
        &[
            (
                "zenith cp 'main@{10 minutes ago}:public.orders' | psql app",
                "",
            ),
            (
                "zenith cp v1.0:app.public.orders --data-only --format csv > orders.csv",
                "",
            ),
            (
                "zenith cp 'HEAD~2:orders_*' --all-matching --no-owner | psql test",
                "",
            ),
        ],
    ),
    (
        "branch",
        &[
            ("zenith branch", "lists those that are here"),
            ("zenith branch try-index main~2", "a new one"),
            ("zenith branch -m try-index index", "another name"),
            (
                "zenith branch -d try-index --dry-run",
                "says what would be lost",
            ),
        ],
    ),
    (
        "tag",
        &[
            ("zenith tag", "lists them"),
            ("zenith tag v1.0 main~2", "keeps that snapshot"),
            ("zenith tag -m v1.0 v1.0.0", "another name"),
            ("zenith tag -d v1.0.0", "lets it go"),
        ],
    ),
    (
        "push",
        &[
            ("zenith push", "the branch that is checked out"),
            ("zenith push --all --tags", "every branch and every tag"),
            ("zenith push offsite", "to the remote `offsite`"),
        ],
    ),
    (
        "fetch",
        &[
            (
                "zenith fetch",
                "the branch checked out, and those known already",
            ),
            (
                "zenith fetch --all --prune",
                "every branch; those that are gone are forgotten",
            ),
            (
                "zenith fetch try-index --depth 0",
                "one branch with all of its history",
            ),
            (
                "zenith checkout origin/try-index",
                "what was fetched is called so",
            ),
        ],
    ),
    (
        "pull",
        &[
            (
                "zenith stop && zenith pull && zenith start",
                "the cluster moves, so it is stopped",
            ),
            ("zenith pull --dry-run", "says what would come"),
        ],
    ),
    (
        "clone",
        &[
            ("zenith clone s3://bucket/orders ./orders", ""),
            (
                "zenith clone /mnt/backup/orders /srv/drill --branch main --port 5433",
                "",
            ),
            (
                "zenith clone s3://bucket/orders /srv/look --lazy",
                "to look at its snapshots",
            ),
        ],
    ),
    (
        "remote",
        &[
            ("zenith remote", "lists them"),
            ("zenith remote add offsite s3://bucket/orders", ""),
            ("zenith push offsite --all", ""),
        ],
    ),
    ("remote list", &[("zenith remote list", "")]),
    (
        "remote show",
        &[
            ("zenith remote show", "the storage"),
            ("zenith remote show offsite", ""),
        ],
    ),
    (
        "remote add",
        &[
            ("zenith remote add offsite s3://bucket/orders", ""),
            (
                "zenith remote add origin /mnt/backup/orders",
                "the storage of a home without one",
            ),
        ],
    ),
    (
        "remote set-url",
        &[("zenith remote set-url offsite s3://other-bucket/orders", "")],
    ),
    (
        "remote remove",
        &[(
            "zenith remote remove offsite --dry-run",
            "says what would be forgotten",
        )],
    ),
    (
        "export",
        &[
            (
                "zenith export --snapshot-path /srv/out",
                "where HEAD is, as a data directory",
            ),
            (
                "zenith export main~3 --snapshot-path s3://bucket/out --snapshot-format tar",
                "",
            ),
            (
                "zenith export main --snapshot-path /srv/orders.tar",
                "one tar file",
            ),
            (
                "zenith export v1.0 --snapshot-path - | gzip > orders.tar.gz",
                "one tar on stdout",
            ),
        ],
    ),
    (
        "import",
        &[
            (
                "zenith import --snapshot-path /srv/basebackup --branch restored",
                "",
            ),
            (
                "pg_basebackup -D - -F tar -X fetch | zenith import --snapshot-path -",
                "a server as it runs",
            ),
        ],
    ),
    (
        "prune",
        &[
            (
                "zenith prune --keep-within 2d --keep-daily 30 --keep-monthly 12 --dry-run",
                "says of each why it stays or goes",
            ),
            (
                "zenith prune --keep-last 10 --branch try-index",
                "one branch",
            ),
            (
                "zenith prune --keep-daily 30 --keep-tag 'v*' --remote",
                "at the storage",
            ),
        ],
    ),
    (
        "gc",
        &[
            ("zenith gc --dry-run", "says what would be freed"),
            ("zenith gc --remote", "at the storage"),
            ("zenith gc --now", "what is deleted cannot come back"),
        ],
    ),
    (
        "verify",
        &[
            ("zenith verify", "lengths and structure"),
            (
                "zenith verify --read-data --remote",
                "every byte at the storage",
            ),
            (
                "zenith verify --remote --sample 5%",
                "a part of it, chosen at random",
            ),
            (
                "zenith verify --repair",
                "and bring back what another place has",
            ),
        ],
    ),
    (
        "undo",
        &[
            ("zenith undo", "the last operation that somebody asked for"),
            (
                "zenith undo 41 --dry-run",
                "one by its number in `zenith op log`",
            ),
            ("zenith undo --remote", "at the storage"),
        ],
    ),
    ("op", &[("zenith op log", "")]),
    (
        "op log",
        &[
            ("zenith op log", "the newest 20"),
            ("zenith op log --all -n 100", "fetches and collections, too"),
        ],
    ),
    (
        "key",
        &[
            ("zenith key list", ""),
            ("zenith key add", "asks for a further passphrase"),
            ("zenith key change", "asks for the old one and a new one"),
        ],
    ),
    ("key list", &[("zenith key list", "")]),
    (
        "key add",
        &[
            ("zenith key add", "asks for it"),
            ("zenith key add --new-passphrase-file /root/spare", ""),
        ],
    ),
    (
        "key change",
        &[
            ("zenith key change", "asks for the old one and a new one"),
            (
                "zenith key change --passphrase-command 'pass zenith' --new-passphrase-file /root/new",
                "",
            ),
        ],
    ),
    (
        "key remove",
        &[("zenith key remove 2", "as `zenith key list` numbers them")],
    ),
    (
        "home",
        &[
            ("zenith home list --remote", ""),
            ("zenith home forget 0a1b2c3d --remote", ""),
        ],
    ),
    (
        "home list",
        &[
            ("zenith home list", "who pushes here"),
            ("zenith home list --remote", "who pushes to the storage"),
        ],
    ),
    (
        "home forget",
        &[(
            "zenith home forget 0a1b2c3d --remote",
            "a machine that is gone for good",
        )],
    ),
    (
        "config",
        &[
            ("zenith config", ""),
            (
                "ZENITH_PORT=5433 zenith config",
                "shows what the environment changes",
            ),
        ],
    ),
    (
        "completions",
        &[
            (
                "zenith completions bash > /etc/bash_completion.d/zenith",
                "",
            ),
            ("zenith completions zsh > ~/.zfunc/_zenith", ""),
        ],
    ),
    (
        "man",
        &[
            ("zenith man | man -l -", "the page of zenith itself"),
            ("zenith man /usr/local/share/man/man1", "all pages"),
        ],
    ),
];

/// The definition with the examples of each command at the end of its long help.
pub fn add(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, words: &str) -> Command {
    let command = command.mut_subcommands(|sub| {
        let words = format!("{words} {}", sub.get_name());
        below(sub, words.trim_start())
    });
    let Some((_, examples)) = EXAMPLES.iter().find(|(name, _)| *name == words) else {
        return command;
    };
    let mut text = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    command.after_long_help(text + &lines(examples))
}

/// `Examples:` and the lines, remarks in a column of their own: the one furthest to the right in
/// which a terminal has room for all of them. A longer line has its remark below.
fn lines(examples: &[Example]) -> String {
    const TERMINAL: usize = 80;
    let longest = examples.iter().map(|(_, remark)| remark.len()).max();
    let room = TERMINAL.saturating_sub(longest.unwrap_or_default() + 4);
    let short = examples.iter().map(|(line, _)| line.len());
    let width = short.filter(|len| *len <= room).max().unwrap_or_default();
    let mut text = "Examples:".to_owned();
    for (line, remark) in examples {
        let _ = match remark {
            &"" => write!(text, "\n  {line}"),
            remark if line.len() <= width => write!(text, "\n  {line:<width$}  {remark}"),
            remark => write!(text, "\n  {line}\n  {:<width$}  {remark}", ""),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use crate::spoken;

    #[test]
    fn every_command_has_examples_that_parse() {
        fn walk(command: &Command, words: &str, seen: &mut Vec<String>, wrong: &mut Vec<String>) {
            let help = command.clone().render_long_help().to_string();
            if !help.contains("\nExamples:\n  ") {
                wrong.push(format!("`{words}` has no examples"));
            }
            seen.push(words.to_owned());
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let words = format!("{words} {}", sub.get_name());
                walk(sub, words.trim_start(), seen, wrong);
            }
        }
        let (mut seen, mut wrong) = (Vec::new(), Vec::new());
        walk(&args::command(), "", &mut seen, &mut wrong);
        for (words, examples) in EXAMPLES {
            if !seen.iter().any(|command| command == words) {
                wrong.push(format!("there is no command `{words}`"));
            }
            for (line, remark) in *examples {
                if let Err(why) =
                    spoken::check_command(line).and_then(|()| spoken::check_text(remark))
                {
                    wrong.push(why);
                }
                if !line.contains("zenith") || line.len() > 96 {
                    wrong.push(format!("`{line}` is no example"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The short help is short, and says where more is.
    #[test]
    fn examples_are_in_the_long_help_alone() {
        fn walk(command: &Command) {
            let help = command.clone().render_help().to_string();
            assert!(!help.contains("Example"), "{help}");
            command.get_subcommands().for_each(walk);
        }
        walk(&args::command());
    }
}
