//! The only place that prints. stdout is the answer, stderr is talk.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the module that prints"
)]

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{Color, Global};
use crate::config;
use crate::error::Failure;
use crate::pager::Pager;
use crate::render::glyphs::Glyphs;

const HEAD: Style = AnsiColor::Green.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// What a piece of text is; colour never carries meaning alone.
#[derive(Clone, Copy)]
pub enum Tone {
    /// The mark of HEAD.
    Head,
    /// Titles and side remarks.
    Faint,
}

/// How this run talks, decided once from flags, environment and terminals.
#[derive(Debug, Clone)]
pub struct Ui {
    quiet: bool,
    verbose: u8,
    json: bool,
    colored_out: bool,
    colored_err: bool,
    terminal_err: bool,
    /// Columns of the terminals that stdout and stderr are.
    room_out: Option<usize>,
    room_err: Option<usize>,
    /// What is drawn beside words.
    glyphs: Glyphs,
    /// Reads the answer, where that is long and for a person.
    pager: Option<Arc<Pager>>,
}

impl Ui {
    /// `no_color`: NO_COLOR is set and not empty.
    pub fn new(global: &Global, no_color: bool) -> Self {
        let colored = |terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !no_color,
        };
        let terminal_err = io::stderr().is_terminal();
        Self {
            quiet: global.quiet,
            verbose: global.verbose,
            json: global.json,
            colored_out: colored(io::stdout().is_terminal()) && !global.json,
            colored_err: colored(terminal_err) && !global.json,
            terminal_err,
            room_out: columns(io::stdout()).filter(|_| !global.json),
            room_err: columns(io::stderr()),
            glyphs: config::glyphs(),
            pager: None,
        }
    }

    /// Has a long answer read by this command, if a person is to read it.
    pub fn paged(mut self, command: Option<String>) -> Self {
        let for_people = !self.json && io::stdout().is_terminal();
        self.pager = command
            .filter(|_| for_people)
            .map(|command| Arc::new(Pager::new(command)));
        self
    }

    /// Waits until the answer is read.
    pub fn end_paging(&self) -> Result<(), Failure> {
        self.pager.as_ref().map_or(Ok(()), |pager| pager.end())
    }

    /// A Ui for errors that come before the flags are understood.
    pub fn plain() -> Self {
        Self {
            quiet: false,
            verbose: 0,
            json: false,
            colored_out: false,
            colored_err: false,
            terminal_err: false,
            room_out: None,
            room_err: None,
            glyphs: Glyphs::Ascii,
            pager: None,
        }
    }

    /// A Ui for words that are no command: the flags that decide how to talk may be among them.
    pub fn before_parsing(typed: &[OsString]) -> Self {
        let mut words = typed.iter().skip(1).map(|word| word.to_string_lossy());
        let mut global = Global::default();
        while let Some(word) = words.next().filter(|word| word != "--") {
            match word.as_ref() {
                "--json" => global.json = true,
                "--color" => {
                    let when = words.next().unwrap_or_default();
                    global.color = Color::from_str(&when, true).unwrap_or_default();
                }
                word => {
                    if let Some(when) = word.strip_prefix("--color=") {
                        global.color = Color::from_str(when, true).unwrap_or_default();
                    }
                }
            }
        }
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::new(&global, no_color)
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// What is drawn beside words.
    pub fn glyphs(&self) -> Glyphs {
        self.glyphs
    }

    /// A line of a list that may begin with the mark of HEAD, that in its colour.
    pub fn marked(&self, line: &str) -> String {
        let mark = self.glyphs.node(true);
        match line.strip_prefix(mark) {
            Some(rest) => format!("{}{rest}", self.tone(mark, Tone::Head)),
            None => line.to_owned(),
        }
    }

    /// Whether progress bars may be drawn.
    pub fn draws(&self) -> bool {
        self.terminal_err && !self.quiet && !self.json
    }

    /// Columns of the terminal that progress is drawn on.
    pub fn room_for_talk(&self) -> usize {
        self.room_err.unwrap_or(80)
    }

    /// Whether a line of the answer is not longer than the terminal is wide, if it goes to one.
    pub fn has_room(&self, line: &str) -> bool {
        self.room_out
            .is_none_or(|room| line.chars().count() <= room)
    }

    /// A line of a list, whose end is cut where a terminal has no room for it.
    pub fn fit(&self, line: &str) -> String {
        match self.room_out {
            // A window that small is none to read lists in; nothing would be left of them.
            Some(room @ 40..) if !self.has_room(line) => {
                let cut = self.glyphs.cut();
                let stays = line.chars().take(room - cut.chars().count());
                stays.chain(cut.chars()).collect()
            }
            _ => line.to_owned(),
        }
    }

    /// Whether what is said on stderr may be coloured.
    pub fn colors_talk(&self) -> bool {
        self.colored_err
    }

    /// One line of the answer, on stdout.
    pub fn answer(&self, line: impl Display) -> Result<(), Failure> {
        if let Some(pager) = &self.pager {
            pager.begin();
        }
        writeln!(io::stdout().lock(), "{line}").map_err(Failure::from_output)
    }

    /// One object of the answer, on stdout, as one line of JSON.
    pub fn record(&self, record: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json_line(record)?;
        writeln!(io::stdout().lock(), "{line}").map_err(Failure::from_output)
    }

    /// The same on stderr, where stdout is taken by what was asked for.
    pub fn record_aside(&self, record: &impl Serialize) -> Result<(), Failure> {
        self.stderr(&serde_json_line(record)?);
        Ok(())
    }

    /// Text of the answer as it is (completions, man pages).
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(Failure::from_output)
    }

    /// A text of clap's that was asked for.
    pub fn help(&self, text: &StyledStr) -> Result<(), Failure> {
        self.raw(styled(text, self.colored_out).as_bytes())
    }

    /// The same where nobody asked.
    pub fn usage(&self, text: &StyledStr) {
        self.stderr(styled(text, self.colored_err).trim_end());
    }

    /// A remark on stderr; silent with `-q` and with `--json`.
    pub fn talk(&self, line: impl Display) {
        if !self.quiet && !self.json {
            self.stderr(&line.to_string());
        }
    }

    /// What a person types without seeing it, or nothing where there is no terminal to ask on.
    pub fn ask_secret(&self, prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        match rpassword::prompt_password(prompt) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(e) => Err(Failure::usage(format!(
                "nobody can be asked for a passphrase: {e}"
            ))),
        }
    }

    /// A remark for `-v`.
    pub fn detail(&self, line: impl Display) {
        if self.verbose > 0 {
            self.talk(line);
        }
    }

    /// Something the person should know although the command goes on; `-q` does not hide it.
    pub fn warn(&self, message: impl Display) {
        if self.json {
            self.stderr(&warning_json(&message.to_string()));
        } else {
            self.stderr(&format!("{}: {message}", self.err("warning", WARNING)));
        }
    }

    /// The error that ends this run.
    pub fn fail(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        let report = failure.report();
        if self.json {
            if let Ok(line) = serde_json_line(&report) {
                self.stderr(&line);
            }
            return;
        }
        let error = self.err("error", ERROR);
        let hint = self.err("hint", HINT);
        self.stderr(report.text(&error, &hint).trim_end());
    }

    /// `text` for stdout in its tone.
    pub fn tone(&self, text: impl Display, tone: Tone) -> String {
        let style = match tone {
            Tone::Head => HEAD,
            Tone::Faint => FAINT,
        };
        paint(self.colored_out, &text.to_string(), style)
    }

    fn err(&self, text: &str, style: Style) -> String {
        paint(self.colored_err, text, style)
    }

    /// stderr that went away is nobody's business.
    fn stderr(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Columns of a terminal, where it is one that says how many.
fn columns(stream: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn paint(colored: bool, text: &str, style: Style) -> String {
    if colored {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

fn styled(text: &StyledStr, colored: bool) -> String {
    if colored {
        text.ansi().to_string()
    } else {
        text.to_string()
    }
}

fn serde_json_line(record: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(record).map_err(|e| Failure::Bug(format!("JSON of an answer: {e}")))
}

fn warning_json(message: &str) -> String {
    serde_json::json!({ "type": "warning", "v": 1, "message": message }).to_string()
}
