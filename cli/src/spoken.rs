//! Commands inside of what is said to people: they must be commands that exist. For tests.

use std::ffi::OsString;

use clap::error::ErrorKind;

use crate::args;

/// Programs of PostgreSQL and of the system that texts may name.
const PROGRAMS: &[&str] = &[
    "apt",
    "bunzip2",
    "chmod",
    "chown",
    "df",
    "dmesg",
    "gunzip",
    "gzip",
    "journalctl",
    "ls",
    "man",
    "mv",
    "pg_amcheck",
    "pg_basebackup",
    "pg_checksums",
    "pg_combinebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_upgrade",
    "pg_verifybackup",
    "ps",
    "psql",
    "rm",
    "runuser",
    "systemctl",
    "tail",
    "tar",
    "unlz4",
    "unxz",
    "unzstd",
];

/// What is between backticks in a text.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Checks every command and every flag that a text names.
pub fn check_text(text: &str) -> Result<(), String> {
    for command in quoted(text) {
        let first = command.split(' ').next().unwrap_or_default();
        // `main`, `SHOW data_directory` and `host=/x user=y` are no commands.
        let is_command = first == "zenith"
            || PROGRAMS.contains(&first)
            || (command.contains(' ')
                && first.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        if is_command {
            check_command(command)?;
        }
    }
    let known = long_flags();
    let outside = text.split('`').step_by(2);
    let words = outside.flat_map(|part| part.split([' ', '\n', ',', ';', ':', '(', ')', '=']));
    for word in words {
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.trim_end_matches('.');
            if !flag.is_empty() && !known.iter().any(|known| known == flag) {
                return Err(format!("no command has --{flag}: {text}"));
            }
        }
    }
    Ok(())
}

/// Checks a line as it would be typed: each program is known, and what is zenith's parses.
/// Words in capitals stand for something and are filled in.
pub fn check_command(line: &str) -> Result<(), String> {
    for words in commands(line) {
        let mut words = words.as_slice();
        while words.first().is_some_and(|word| {
            word.split_once('=')
                .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        }) {
            words = &words[1..];
        }
        if let [runuser, flag, _, dashes, rest @ ..] = words
            && (runuser.as_str(), flag.as_str(), dashes.as_str()) == ("runuser", "-u", "--")
        {
            words = rest;
        }
        match words.first().map(String::as_str) {
            Some("zenith") => parse(words).map_err(|why| format!("`{line}`: {why}"))?,
            Some(program) if PROGRAMS.contains(&program) => {}
            program => {
                return Err(format!(
                    "`{line}`: {} is no known program",
                    program.unwrap_or("nothing")
                ));
            }
        }
    }
    Ok(())
}

fn parse(words: &[String]) -> Result<(), String> {
    let filled = words.iter().map(|word| OsString::from(fill(word)));
    match args::parse(filled) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::DisplayHelp => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// Something that a word in capitals could stand for.
fn fill(word: &str) -> String {
    let (before, name) = match word.split_once('=') {
        Some((flag, name)) if flag.starts_with("--") => (format!("{flag}="), name),
        _ => (String::new(), word),
    };
    let filled = match name {
        "N" => "3",
        "TIME" | "DURATION" => "1h",
        "OLD=NEW" => "/old=/new",
        "URL" | "PATH" | "PATH_OR_URL" => "/srv/store",
        _ if !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase()) && name != "HEAD" => {
            "x"
        }
        name => name,
    };
    format!("{before}{filled}")
}

/// The words of each command of a line of the shell: quotes, `&&`, `||`, `;`, `|` and `>` count.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, ' ') => commands
                .last_mut()
                .expect("never empty")
                .extend(word.take()),
            (None, '&' | '|' | ';') => {
                commands
                    .last_mut()
                    .expect("never empty")
                    .extend(word.take());
                commands.push(Vec::new());
            }
            (None, '>' | '<') => {
                // A redirection and its file are no words of the command.
                commands
                    .last_mut()
                    .expect("never empty")
                    .extend(word.take());
                while chars.next_if(|c| matches!(c, ' ' | '>')).is_some() {}
                while chars
                    .next_if(|c| !matches!(c, ' ' | ';' | '&' | '|'))
                    .is_some()
                {}
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().expect("never empty").extend(word);
    commands.retain(|words| !words.is_empty());
    commands
}

/// Every long flag of every command.
fn long_flags() -> Vec<String> {
    fn walk(command: &clap::Command, flags: &mut Vec<String>) {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.extend(longs.map(str::to_owned));
        command.get_subcommands().for_each(|sub| walk(sub, flags));
    }
    let mut flags = vec!["help".to_owned(), "version".to_owned()];
    walk(&args::command(), &mut flags);
    flags
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let words = |line: &str| commands(line);
    assert_eq!(
        words("zenith sql v1 -c \"select 1\" > x | psql -d 'a b'; a && b\\ c"),
        [
            vec!["zenith", "sql", "v1", "-c", "select 1"],
            vec!["psql", "-d", "a b"],
            vec!["a"],
            vec!["b c"]
        ]
    );
    assert!(check_text("Run `zenith snapshot list --all`, or --force it.").is_ok());
    assert!(check_text("Run `zenith snapshot lst`.").is_err());
    assert!(
        check_text("Run `zenith export`.").is_err(),
        "a path is missing"
    );
    assert!(check_text("Give --no-such-flag.").is_err());
    assert!(check_text("Run `pg_reset now`.").is_err());
}

/// Whatever the sources of this program say between backticks, hints and remarks alike.
#[test]
fn every_command_in_the_sources_parses() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        // Comments are for us, but for those that are help texts.
        let is_help =
            file.ends_with("args.rs") || file.parent().is_some_and(|d| d.ends_with("args"));
        let code: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//") || (is_help && line.starts_with("///")))
            .collect();
        let code = code.join("\n").replace("\\\n", "").replace("\n/// ", " ");
        for start in code.match_indices("`zenith ").map(|(at, _)| at + 1) {
            let Some(command) = code[start..].split('`').next() else {
                continue;
            };
            // A verb that is put in is seen with the error that says it.
            let command = put_in(command);
            let Some(command) = command.filter(|c| !c.contains('"')) else {
                continue;
            };
            checked += 1;
            if let Err(why) = check_command(&command) {
                wrong.push(format!("{}: {why}", file.display()));
            }
        }
    }
    assert!(checked > 100, "{checked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A format string with something in the place of what is put in; none where that is the verb.
fn put_in(command: &str) -> Option<String> {
    let mut filled = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        if filled.is_empty() && before == "zenith " {
            return None;
        }
        filled.push_str(before);
        filled.push('1');
        rest = after.split_once('}')?.1;
    }
    Some(filled + rest)
}

fn sources(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs")
            && !path.components().any(|part| part.as_os_str() == "tests")
            && path
                .file_name()
                .is_some_and(|name| name != "tests.rs" && name != "spoken.rs")
        {
            files.push(path);
        }
    }
    files
}
