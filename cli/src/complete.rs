//! Completion of words that are typed, by the program itself: branches, tags, remotes, snapshots,
//! and the tables in them.
//!
//! The shell runs `zenith` with a variable set. Nothing is locked, written or asked of a storage
//! then, and what goes wrong is an empty answer.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use jiff::{Timestamp, Zoned};
use zenith::facts::Facts;
use zenith::managed::Managed;
use zenith::names::Names;
use zenith::store::{Row, State};
use zenith::sync::ORIGIN;
use zenith::{revision, table};

use crate::args;
use crate::config::{COMPLETE, Environment};
use crate::render::time::age_of;

/// Snapshots that are offered at most.
const SNAPSHOTS_MAX: usize = 50;

/// Answers a shell that asks; whether one did.
pub fn answered() -> bool {
    let current_dir = std::env::current_dir().ok();
    let engine = CompleteEnv::with_factory(args::command).var(COMPLETE);
    // A shell shows what goes wrong in the middle of the line that is typed.
    engine
        .try_complete(std::env::args_os(), current_dir.as_deref())
        .unwrap_or(true)
}

/// bash takes `main:orders` and `main@{1 hour ago}` for several words. This puts them together
/// before zenith is asked, and takes off what bash has of the word already before it answers.
const BASH: &str = include_str!("complete/zenith.bash");

/// In zsh a snapshot is followed by its table without a space between them.
const ZSH: &str = include_str!("complete/zenith.zsh");

/// fish hands out a word with its open quote.
const FISH: &str = include_str!("complete/zenith.fish");

/// The script that makes a shell ask.
pub fn script(shell: clap_complete::Shell) -> std::io::Result<Vec<u8>> {
    let own = match shell {
        clap_complete::Shell::Bash => Some(BASH),
        clap_complete::Shell::Zsh => Some(ZSH),
        clap_complete::Shell::Fish => Some(FISH),
        _ => None,
    };
    if let Some(own) = own {
        return Ok(own.replace("COMPLETE_VARIABLE", COMPLETE).into_bytes());
    }
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let shell = shells
        .completer(&name)
        .ok_or_else(|| std::io::Error::other(format!("the completions of {name} are not known")))?;
    shell.write_registration(COMPLETE, "zenith", "zenith", "zenith", &mut script)?;
    Ok(script)
}

/// Gives every argument that takes a name its completer.
pub fn with_names(command: Command) -> Command {
    let path = command.get_name().to_owned();
    command
        .mut_args(|arg| with_name(&path, arg))
        .mut_subcommands(with_names)
}

fn with_name(command: &str, arg: Arg) -> Arg {
    let what: fn(&Known) -> Vec<CompletionCandidate> = match (command, arg.get_id().as_str()) {
        ("tag", "name") => tags,
        ("branch", "name") => branches,
        (_, "branch") if command != "checkout" => branches,
        (_, "keep_tag") => tags,
        (_, "remote") => remotes,
        ("show" | "set-url" | "remove", "name") => remotes,
        ("fetch", "names") => remotes_and_branches,
        ("diff", "before" | "after") => revisions,
        ("cp", "what") => tables_of,
        // Behind `--` the engine of clap begins again with the first argument.
        ("log", "revs") => revisions_or_tables,
        ("log", "tables") => tables_of_head,
        ("diff", "rows") => tables_of_head,
        _ if is_revision(&arg) => revisions,
        _ => return arg,
    };
    arg.add(ArgValueCompleter::new(move |word: &OsStr| {
        let known = word.to_str().and_then(Known::of);
        known.map(|known| what(&known)).unwrap_or_default()
    }))
}

fn is_revision(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.as_str() == "REV")
}

/// What there is to be named, and how the word begins.
struct Known<'a> {
    word: &'a str,
    state: Arc<State>,
    managed: Managed,
}

impl<'a> Known<'a> {
    fn of(word: &'a str) -> Option<Known<'a>> {
        let env = Environment::read().ok()?;
        let home = home_typed(std::env::args_os());
        let managed = Managed::open(&env.find_home(home.as_deref())).ok()?;
        Some(Known {
            word,
            state: managed.home.peek().ok()?,
            managed,
        })
    }

    /// Names in a folder of refs, with what they are at.
    fn refs(&self, folder: &str) -> Vec<CompletionCandidate> {
        let refs = self.state.refs().iter().filter_map(|(full, id)| {
            let name = full.strip_prefix(folder)?;
            self.candidate(name, self.state.snapshot(id).map(said))
        });
        refs.collect()
    }

    fn candidate(&self, name: &str, help: Option<String>) -> Option<CompletionCandidate> {
        name.starts_with(self.word)
            .then(|| CompletionCandidate::new(name).help(help.map(Into::into)))
    }
}

/// Message and age of a snapshot.
fn said(row: &Row) -> String {
    let age = age_of(row.time.unix_micros, Timestamp::now());
    match row.message.lines().next() {
        Some(message) => format!("{message}, {age} ago"),
        None => format!("({}), {age} ago", row.kind.word()),
    }
}

fn branches(known: &Known) -> Vec<CompletionCandidate> {
    known.refs("branch/")
}

fn tags(known: &Known) -> Vec<CompletionCandidate> {
    known.refs("tag/")
}

fn remotes(known: &Known) -> Vec<CompletionCandidate> {
    let settings = &known.managed.settings;
    let origin = settings.storage_dest.iter().map(|url| (ORIGIN, url));
    let others = settings
        .remotes
        .iter()
        .map(|(name, url)| (name.as_str(), url));
    origin
        .chain(others)
        .filter_map(|(name, url)| known.candidate(name, Some(url.clone())))
        .collect()
}

fn remotes_and_branches(known: &Known) -> Vec<CompletionCandidate> {
    let noted = known.refs(&format!("remote/{ORIGIN}/"));
    remotes(known).into_iter().chain(noted).collect()
}

fn revisions(known: &Known) -> Vec<CompletionCandidate> {
    let mut found = branches(known);
    found.extend(tags(known));
    found.extend(known.candidate("HEAD", None));
    found.extend(known.refs("remote/"));
    // Ids are offered to who begins to type one.
    let word = known.word.to_ascii_lowercase();
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit()) {
        let rows = known.state.snapshots().rev().filter_map(|row| {
            let id = row.id.to_string();
            // As long as the word, and short where that is enough.
            id.starts_with(&word).then(|| {
                CompletionCandidate::new(&id[..word.len().max(8)]).help(Some(said(row).into()))
            })
        });
        found.extend(rows.take(SNAPSHOTS_MAX));
    }
    found
}

/// `REV:` of whatever can be named, and `REV:TABLE` of what is in it.
fn tables_of(known: &Known) -> Vec<CompletionCandidate> {
    let Some((revision, begun)) = table::split(known.word) else {
        let named = revisions(known).into_iter().map(|candidate| {
            let mut value = candidate.get_value().to_owned();
            value.push(":");
            CompletionCandidate::new(value).help(candidate.get_help().cloned())
        });
        return named.collect();
    };
    let tables = tables(known, revision, begun).unwrap_or_default();
    let full = tables.into_iter().map(|(name, help)| {
        CompletionCandidate::new(format!("{revision}:{name}")).help(Some(help.into()))
    });
    full.collect()
}

/// Tables behind `--`, revisions before it.
fn revisions_or_tables(known: &Known) -> Vec<CompletionCandidate> {
    if is_behind_dashes(std::env::args_os()) {
        tables_of_head(known)
    } else {
        revisions(known)
    }
}

fn tables_of_head(known: &Known) -> Vec<CompletionCandidate> {
    let tables = tables(known, "HEAD", known.word).unwrap_or_default();
    let named = tables
        .into_iter()
        .map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())));
    named.collect()
}

/// Tables of a snapshot whose names begin so, as the snapshot itself lists them, and what they are.
///
/// A name is offered with its schema, without one to who begins to type the table's own, and with
/// the database where there are several.
fn tables(known: &Known, revision: &str, begun: &str) -> Option<Vec<(String, &'static str)>> {
    let head = known.managed.home.head().ok()?;
    let id = revision::resolve(&known.state, &head, revision, &Zoned::now()).ok()?;
    let snapshot = known.managed.home.peek_inside().ok()?.snapshot(id).ok()?;
    let facts = Facts::decode(&snapshot.body, &id.short()).ok()?;
    let names = Names::new(facts.databases, Vec::new());
    let several = names.has_several_databases();
    let mut found = Vec::new();
    for named in names.iter().filter(|named| !named.is_catalog()) {
        let relation = named.relation;
        let kind = match relation.kind {
            'r' => "table",
            'm' => "materialised view",
            _ => continue,
        };
        let own = table::shown(&relation.name);
        let mut full = format!("{}.{own}", table::shown(&relation.schema));
        if several {
            full = format!("{}.{full}", table::shown(&named.database.name));
        }
        if full.starts_with(begun) {
            found.push((full, kind));
        } else if own.starts_with(begun) {
            found.push((own, kind));
        }
    }
    found.sort();
    found.dedup();
    Some(found)
}

/// The words of the line: those behind the first `--`.
fn typed(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    words.skip_while(|word| word != "--").skip(1)
}

/// Whether a `--` stands before the last word of the line.
fn is_behind_dashes(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = typed(words).collect();
    let before = words.split_last().map_or(&[][..], |(_, before)| before);
    before.iter().any(|word| word == "--")
}

/// The home that the line names.
fn home_typed(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut words = typed(words);
    while let Some(word) = words.next() {
        let word = word.to_str().unwrap_or_default();
        if word == "-D" || word == "--home" {
            return words.next().map(PathBuf::from);
        }
        let given = word.strip_prefix("--home=");
        let given = given.or_else(|| word.strip_prefix("-D"));
        if let Some(dir) = given {
            return Some(Path::new(dir).to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_that_is_typed() {
        let typed = |line: &str| home_typed(line.split(' ').map(OsString::from));
        for (line, home) in [
            ("zenith -- zenith -D /h log m", Some("/h")),
            ("zenith -- zenith -D/h log m", Some("/h")),
            ("zenith -- zenith log --home=/h m", Some("/h")),
            ("zenith -- zenith log m", None),
            ("zenith -D /h log m", None),
        ] {
            assert_eq!(typed(line), home.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn what_is_behind_dashes() {
        let behind = |line: &str| is_behind_dashes(line.split(' ').map(OsString::from));
        assert!(behind("zenith -- zenith log -- ord"));
        assert!(behind("zenith -- zenith log main -- a b"));
        assert!(!behind("zenith -- zenith log ma"));
        assert!(!behind("zenith -- zenith log --"));
        assert!(!behind("zenith log -- a"));
    }

    /// A new argument that takes a revision, a branch or a remote is completed, too.
    #[test]
    fn what_takes_names_completes_them() {
        fn walk(command: &Command, path: &str, found: &mut Vec<String>) {
            for arg in command.get_arguments() {
                if arg.get::<ArgValueCompleter>().is_some() {
                    found.push(format!("{path} {}", arg.get_id()));
                }
            }
            for sub in command.get_subcommands() {
                walk(sub, &format!("{path} {}", sub.get_name()), found);
            }
        }
        let mut found = Vec::new();
        walk(&args::command(), "", &mut found);
        for wanted in [
            " log revs",
            " diff before",
            " log branch",
            " log remote",
            " checkout rev",
            " branch name",
            " branch rev",
            " tag name",
            " tag rev",
            " push remote",
            " fetch names",
            " snapshot show rev",
            " snapshot delete rev",
            " remote show name",
            " prune branch",
            " prune keep_tag",
            " export rev",
            " cp what",
            " log tables",
            " diff rows",
        ] {
            assert!(found.iter().any(|f| f == wanted), "{wanted}: {found:?}");
        }
        assert!(
            !found.iter().any(|f| f == " checkout branch"),
            "-b takes a new name"
        );
    }
}
