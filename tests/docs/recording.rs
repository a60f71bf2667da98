//! docs/recording.cast, which `scripts/record` makes: a terminal on which README's session was
//! typed. The tests see to README, so the recording has to show what README shows.

use serde_json::Value;
use zenith_testkit::port;

use crate::compare::Names;
use crate::page::{self, Kind, Step};
use crate::read;

const CAST: &str = "docs/recording.cast";

/// README's storage, and the one of the recording. `scripts/record` knows them, too.
const BUCKET: &str = "s3://acme-db/shop";
const DIRECTORY: &str = "/srv/backup/shop";

/// What is left on a terminal of this width by what was written to it, line by line.
fn screen(width: usize, written: &str) -> Result<Vec<String>, String> {
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = written.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                rows.resize_with(rows.len().max(row + 1), Vec::new);
            }
            '\u{1b}' => {
                // Everything up to a letter.
                let mut code = String::new();
                while !code.ends_with(|c: char| c.is_ascii_alphabetic()) {
                    code.push(chars.next().ok_or("an escape sequence has no end")?);
                }
                match code.as_str() {
                    "[K" | "[0K" => rows[row].truncate(column),
                    "[2K" => rows[row].clear(),
                    style if style.ends_with('m') => {}
                    other => return Err(format!("the terminal is told {other:?}")),
                }
            }
            c if c.is_control() => return Err(format!("the terminal is told {c:?}")),
            _ if column >= width => return Err(format!("a line is longer than {width}")),
            c => {
                let line = &mut rows[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    let lines = rows.into_iter().map(String::from_iter);
    Ok(lines
        .map(|line: String| line.trim_end().to_owned())
        .collect())
}

/// The command lines of a screen with what each answered.
fn session(lines: &[String]) -> Vec<(String, Vec<String>)> {
    let mut session: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), session.last_mut()) {
            (Some(command), _) => session.push((command.to_owned(), Vec::new())),
            // The prompt at the end, at which nothing is typed any more.
            (None, _) if line == "$" => {}
            (None, Some((_, answer))) => answer.push(line.clone()),
            (None, None) => {}
        }
    }
    for (_, answer) in &mut session {
        while answer.last().is_some_and(String::is_empty) {
            answer.pop();
        }
    }
    session
}

/// What of a recording is not README's session.
fn differences(recorded: &[(String, Vec<String>)], steps: &[Step]) -> Vec<String> {
    let mut names = Names::new(port::free);
    let mut wrong = Vec::new();
    let there = |text: &String| text.replace(BUCKET, DIRECTORY);
    if recorded.len() != steps.len() {
        wrong.push(format!(
            "{} commands, {} there",
            recorded.len(),
            steps.len()
        ));
    }
    for ((command, answer), step) in recorded.iter().zip(steps) {
        let shown: Vec<String> = step.shown.iter().map(there).collect();
        // Ids that are known by now go by those of the page.
        let answer = names.shown(&answer.join("\n"));
        if *command != there(&step.command) {
            wrong.push(format!("$ {command}\nis there $ {}", step.command));
        } else if !names.agree(&shown, &answer) {
            let (answer, shown) = (answer.join("\n"), shown.join("\n"));
            wrong.push(format!("$ {command}\n{answer}\n-- there\n{shown}"));
        }
    }
    wrong
}

#[test]
fn the_recording_is_the_session_of_the_readme() {
    let text = read(CAST);
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(head["version"], 2);
    let width = usize::try_from(head["width"].as_u64().unwrap()).unwrap();
    let mut before = 0.0;
    let written: String = lines
        .map(|line| {
            let (at, kind, text): (f64, String, String) = serde_json::from_str(line).unwrap();
            assert!(at >= before, "time goes back at {at}");
            before = at;
            assert_eq!(kind, "o", "at {at}");
            text
        })
        .collect();
    let screen = screen(width, &written).unwrap();
    let readme = page::blocks(&read("README.md")).unwrap();
    let block = readme.iter().find(|block| block.kind == Kind::Run).unwrap();
    let wrong = differences(&session(&screen), &block.steps);
    assert!(
        wrong.is_empty(),
        "{CAST} and README.md differ; `scripts/record` makes it anew:\n{}",
        wrong.join("\n\n")
    );
    assert!(text.len() < 120_000, "{} bytes are too many", text.len());
}

#[test]
fn a_screen_shows_what_was_drawn_last() {
    let shown = screen(
        10,
        "$ \u{1b}[1mab\u{1b}[0m\r\n50 %\r100 %\r\u{1b}[2Kdone\r\n$ ",
    )
    .unwrap();
    assert_eq!(shown, ["$ ab", "done", "$"]);
    assert_eq!(
        session(&shown),
        [("ab".to_owned(), vec!["done".to_owned()])]
    );
    assert!(screen(3, "four").is_err());
    assert!(screen(9, "\u{1b}[5A").is_err());
}

#[test]
fn another_command_or_answer_is_told() {
    let page = "```console\n$ zenith push\npushed to s3://acme-db/shop  4 KB\n```\n";
    let steps = page::blocks(page).unwrap().remove(0).steps;
    let check = |command: &str, answer: &str, agree: bool| {
        let recorded = [(command.to_owned(), vec![answer.to_owned()])];
        assert_eq!(differences(&recorded, &steps).is_empty(), agree, "{answer}");
    };
    check("zenith push", "pushed to /srv/backup/shop  9.1 MB", true);
    check("zenith push", "sent to /srv/backup/shop  9.1 MB", false);
    check("zenith pull", "pushed to /srv/backup/shop  9.1 MB", false);
    assert_eq!(differences(&[], &steps).len(), 1);
}
