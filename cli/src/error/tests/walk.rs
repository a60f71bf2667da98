//! Every variant of every error has a sample, and every sample is told as the house does it.

use std::collections::BTreeSet;

use super::*;
use crate::spoken;

/// The variants of an enum, and a match without a wildcard, so that a new one does not compile
/// until it is named here and is not passed until it has a sample.
macro_rules! variants {
    ($list:ident, $name:ident, $type:ident: $($variant:ident),+ $(,)?) => {
        const $list: &[&str] = &[$(stringify!($variant)),+];
        fn $name(error: &$type) -> &'static str {
            match error {
                $($type::$variant { .. } => stringify!($variant),)+
            }
        }
    };
}

variants!(STORE, store_variant, StoreError:
    Objects, NotARepository, RepositoryExists, TooNew, Sealed, NotSealed, WrongKey, NamesUsedUp,
    NoConditionalWrites, SingleWriter,
    InUse, NotUndone, WrongPassphrase, NoSlots, NoSlot, LastSlot, Damaged, RootLost,
    BlobDamaged, BaseMissing, Missing, NoSnapshot, RefMoved, Contended, ParamsDiffer, RootTooLarge, Index,
    Invalid, File);
variants!(OBJECTS, objects_variant, ObjectsError:
    NotFound, BucketMissing, NoCredentials, BadCredentials, PermissionDenied, Unreachable, NoSpace,
    ReadOnly, HttpNotAllowed, Unsupported, Configuration, InvalidKey, OutOfRange, Io, Service);
variants!(URL, url_variant, UrlError:
    Empty, UnknownScheme, BucketMissing, Credentials, ForeignHost, Malformed);
variants!(PG, pg_variant, PgError:
    NotACluster, UnsupportedMajor, UnsupportedServer, ControlDamaged, ControlBytes, BadLsn,
    BadSegmentName, BadSegmentSize, BadLabel, BadTablespaceMap, BadHistory, WalMissing, WalDamaged,
    WalRecycled, WalForeign, NoBinaries, WrongBinaries, NoSuchUser, CannotSearch, BecomeUser,
    Program, PathUnquotable, BadPidFile, PortInUse, AlreadyRunning, LockFileExists, StartFailed,
    NotReady, StopTimeout, BadDsn, Connect, Query, Privilege, WalLevelMinimal, SlotRefused,
    SlotLost, ServerChanged, CatalogUnreadable, Io);
variants!(MANAGED, managed_variant, Refusal:
    NothingToStart, NoCluster, ClusterMissing, NoStorage, BranchNotAtStorage, NothingToClone,
    BranchTaken, StorageGone, StorageReplaced, OtherStorage, OtherBranch, OtherCluster, Unmounted, Incomplete, AgentSilent,
    AgentRunning, ServerDied, SocketDirForeign, Referenced, NameTaken, CheckedOut, NotKept, NotHeld, Held,
    Needed, NothingToUndo, NoRemote, RemoteNameInvalid, RemoteExists, PullRunning, Guarded);
variants!(REVISION, revision_variant, RevisionError:
    NotFound, NoRef, Unborn, Ambiguous, TooShort, Gone, Step, NoAncestor, NoneAsOld, OtherLineage);
variants!(SCRATCH, scratch_variant, ScratchError:
    NoSpace, Died, NoProgram, NoRole, NoDatabase, NotRunning, Statement, Interrupted);
variants!(TABLE, table_variant, TableError: Invalid, NotFound, Ambiguous);
variants!(ENGINE, engine_variant, Error:
    Store, Pg, NoHome, HomeExists, HomeForeign, HomeBusy, HomeInUse, SettingsInvalid, HomeDamaged,
    NotSealed, KeyMissing, KeyForeign, PassphraseMissing, NameInvalid, NoSuchPath, NotShutDown,
    ServerRunning, ClusterChanged, BackupWithoutWal, WalMissing, PathInvalid, BackupIncremental,
    BackupDamaged, UnknownEntry, NameNotUtf8, TablespaceMissing, FileVanished, FileUnstable,
    PagesDamaged, OtherServer, BranchForeign, FactsDamaged, NotACluster, TargetNotEmpty,
    TargetForeign, TargetChanged, TargetInvalid, TargetBusy, CheckoutPending, NoSuchTablespace, Revision,
    TablespacesInStream, FormatUnknown, Compressed, TarTruncated, TarEntry, StreamIncomplete,
    ExportUnfinished, Url, NothingToPush, WriteRefused, Diverged, PullDiverged, StorageBusy, Managed, Io,
    Internal, Scratch, Table);
variants!(FAILURE, failure_variant, Failure:
    Engine, CommandLine, Usage, Words, Passphrase, Damaged, No, Differs, Trouble, BrokenPipe, Output, Place, Bug, Client);

/// Facts of an error that its words leave to the hint, or say in another way: variant, field.
const UNSAID: &[(&str, &str)] = &[
    ("CannotSearch", "mode"),
    ("Damaged", "repair"),
    ("NoSpace", "free"),
    ("NoSpace", "needed"),
    ("CommandLine", "command"),
    ("HomeInUse", "collecting"),
    ("Held", "home"),
    ("NamesUsedUp", "floor"),
    ("NoRef", "similar"),
    ("NoRemote", "known"),
    ("NotFound", "similar"),
    ("OtherLineage", "before"),
    ("Passphrase", "hint"),
    ("PermissionDenied", "location"),
    ("PullRunning", "upstream"),
    ("Query", "code"),
    ("Unreachable", "key"),
    ("Unreachable", "location"),
    ("Words", "hint"),
];

/// Enum and variant: the innermost one, which has the facts.
fn names(failure: &Failure) -> Vec<(&'static str, &'static str)> {
    let mut names = vec![("Failure", failure_variant(failure))];
    let Failure::Engine(error) = failure else {
        return names;
    };
    names.push(("Error", engine_variant(error)));
    match error.as_ref() {
        Error::Store(e) => {
            names.push(("StoreError", store_variant(e)));
            if let StoreError::Objects(e) = e {
                names.push(("ObjectsError", objects_variant(e)));
            }
        }
        Error::Pg(e) => names.push(("PgError", pg_variant(e))),
        Error::Managed(e) => names.push(("Refusal", managed_variant(e))),
        Error::Revision(e) => names.push(("RevisionError", revision_variant(e))),
        Error::Scratch(e) => names.push(("ScratchError", scratch_variant(e))),
        Error::Table(e) => names.push(("TableError", table_variant(e))),
        Error::Url(e) => names.push(("UrlError", url_variant(e))),
        _ => {}
    }
    names
}

fn all() -> Vec<Failure> {
    let engine = [
        homes::homes(),
        homes::collection_and_undo(),
        homes::encryption(),
        homes::the_managed_cluster(),
        homes::remotes(),
        clusters::clusters(),
        clusters::targets_and_sources(),
        clusters::revisions(),
        clusters::urls(),
        snapshots::questions_to_snapshots(),
        storages::storages(),
        storages::damage(),
        postgresql::postgresql(),
        postgresql::files(),
        postgresql::the_machine(),
    ];
    let mut all: Vec<Failure> = engine.into_iter().flatten().map(Failure::from).collect();
    all.extend(no_errors_of_the_engine());
    all
}

#[test]
fn every_variant_has_a_sample() {
    let seen: BTreeSet<(&str, &str)> = all().iter().flat_map(names).collect();
    let enums = [
        ("Failure", FAILURE),
        ("Error", ENGINE),
        ("StoreError", STORE),
        ("ObjectsError", OBJECTS),
        ("UrlError", URL),
        ("PgError", PG),
        ("Refusal", MANAGED),
        ("RevisionError", REVISION),
        ("ScratchError", SCRATCH),
        ("TableError", TABLE),
    ];
    let missing: Vec<String> = enums
        .iter()
        .flat_map(|(name, list)| list.iter().map(move |variant| (*name, *variant)))
        .filter(|variant| !seen.contains(variant))
        .map(|(name, variant)| format!("{name}::{variant}"))
        .collect();
    assert_eq!(missing, [""; 0]);
}

/// Each sample is told with its facts, without Rust's own notation, and with a way out that works.
#[test]
fn every_error_names_its_thing_and_hints_with_commands_that_parse() {
    let mut wrong = Vec::new();
    for failure in all().iter().filter(|failure| !failure.is_silent()) {
        let report = failure.report();
        let (_, variant) = *names(failure).last().unwrap();
        let mut complain = |what: String| wrong.push(format!("{variant}: {what}\n{report:?}"));
        let said = [vec![report.message.clone()], report.details.clone()].concat();
        let text = said.join("\n");
        if report.message.is_empty() || report.hints.is_empty() {
            complain("no words or no hint".to_owned());
        }
        for line in &said {
            if line.ends_with(['.', '!']) || line.to_lowercase().contains("failed to") {
                complain(format!("not the style of the house: {line}"));
            }
        }
        for fact in facts(&format!("{failure:?}"), variant) {
            if !text.contains(&fact) {
                complain(format!("does not say `{fact}`"));
            }
        }
        let whole = [&said[..], &report.hints[..]].concat().join("\n");
        let is_rust = |mark: &&&str| whole.contains(**mark);
        let marks = [
            "Some(", " None", "Error(", "Error {", "Kind(", " { ", "\\n", "Ok(", "::",
        ];
        for mark in marks.iter().filter(is_rust) {
            complain(format!("shows Rust's `{mark}`"));
        }
        // Of what it lists, one is that character.
        if whole.contains('"') && variant != "PathUnquotable" {
            complain("quotes as Rust does".to_owned());
        }
        for hint in &report.hints {
            if !hint.ends_with(['.', '`']) {
                complain(format!("a hint is a sentence: {hint}"));
            }
            if let Err(why) = spoken::check_text(hint) {
                complain(why);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The strings, ids and numbers of an error's fields, out of its `Debug`.
fn facts(debug: &str, variant: &str) -> Vec<String> {
    let mut facts = Vec::new();
    let mut field = String::new();
    let mut rest = debug;
    while let Some(c) = rest.chars().next() {
        if let Some(text) = rest.strip_prefix('"') {
            let end = end_of_string(text);
            let fact = text[..end].replace("\\\"", "\"").replace("\\\\", "\\");
            if !UNSAID.contains(&(variant, &field)) {
                facts.extend(fact.split("\\n").map(|line| line.trim().to_owned()));
            }
            rest = &text[end + 1..];
            continue;
        }
        let word: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        if word.is_empty() {
            rest = &rest[c.len_utf8()..];
            continue;
        }
        rest = &rest[word.len()..];
        if rest.starts_with(": ") {
            field.clone_from(&word);
            continue;
        }
        let is_number = word.bytes().all(|b| b.is_ascii_digit());
        let inner = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let fact = match (word.as_str(), inner) {
            ("Lsn", Some((number, after))) => {
                rest = after;
                Lsn(number.parse().unwrap()).to_string()
            }
            (name, Some((id, after))) if name.ends_with("Id") => {
                rest = after;
                id.to_owned()
            }
            _ if is_number => word,
            _ => continue,
        };
        if !UNSAID.contains(&(variant, &field)) {
            facts.push(fact);
        }
    }
    facts
}

fn end_of_string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// Kind and code go together as docs/exit-codes.md has them.
#[test]
fn every_kind_and_code_is_documented() {
    let page = include_str!("../../../../docs/exit-codes.md");
    for failure in all().iter().filter(|failure| !failure.is_silent()) {
        let report = failure.report();
        let row = format!("| {} |", report.exit);
        let row = page.lines().find(|line| line.starts_with(&row));
        let word = format!("`{}`", report.kind);
        assert!(row.is_some_and(|row| row.contains(&word)), "{report:?}");
    }
}
