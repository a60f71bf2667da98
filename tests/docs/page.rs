//! A Markdown page as the tests see it: fenced blocks, comments that set something up, and code
//! within the text.

/// What becomes of a fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ` ```console `: run, and what is shown compared.
    Run,
    /// `<!-- setup … -->`: run, nothing compared, invisible to readers.
    Setup,
    /// ` ```console parsed: REASON `: zenith only reads these command lines.
    Parsed(String),
    /// ` ```console shown: REASON `: nothing is done.
    Shown(String),
    /// Everything else: files, statements, formats. It holds no command line.
    Text,
}

/// One command line, and what the page says it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Lines joined by `\n`, without prompts.
    pub(crate) command: String,
    pub(crate) shown: Vec<String>,
    /// Where the command begins and where what it answers begins and ends: indexes of lines.
    pub(crate) line: usize,
    pub(crate) answer: std::ops::Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    /// Index of the line with the fence.
    pub(crate) line: usize,
    pub(crate) steps: Vec<Step>,
    /// Lines that belong to no step.
    pub(crate) other: Vec<String>,
}

/// All blocks of a page in order. `Err` names the line with a fence that means nothing.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((line, fence)) = lines.next() {
        let (kind, end) = match fence.strip_prefix("```") {
            Some(info) => (
                kind(info).map_err(|why| format!("{}: {why}", line + 1))?,
                "```",
            ),
            None if fence == "<!-- setup" => (Kind::Setup, "-->"),
            None => continue,
        };
        let mut block = Block {
            kind,
            line,
            steps: Vec::new(),
            other: Vec::new(),
        };
        loop {
            match lines.next() {
                Some((_, text)) if text == end => break,
                Some((n, text)) => block.add(n, text),
                None => return Err(format!("{}: the block has no end", line + 1)),
            }
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn kind(info: &str) -> Result<Kind, String> {
    let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
    match (language, mark.split_once(": ")) {
        ("console", None) if mark.is_empty() => Ok(Kind::Run),
        ("console", Some(("parsed", reason))) => Ok(Kind::Parsed(reason.to_owned())),
        ("console", Some(("shown", reason))) => Ok(Kind::Shown(reason.to_owned())),
        ("" | "text" | "sql" | "toml" | "json" | "ini" | "rust", None) if mark.is_empty() => {
            Ok(Kind::Text)
        }
        _ => Err(format!("`{info}` is no kind of block that the tests know")),
    }
}

impl Block {
    fn add(&mut self, line: usize, text: &str) {
        if let Some(command) = text.strip_prefix("$ ").filter(|_| self.kind != Kind::Text) {
            self.steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
                line,
                answer: line + 1..line + 1,
            });
            return;
        }
        let Some(step) = self.steps.last_mut() else {
            self.other.push(text.to_owned());
            return;
        };
        match text.strip_prefix("> ") {
            Some(more) if step.shown.is_empty() => {
                step.command.push('\n');
                step.command.push_str(more);
                step.answer = line + 1..line + 1;
            }
            _ => {
                step.shown.push(text.to_owned());
                step.answer.end = line + 1;
            }
        }
    }
}

/// Command lines within the text: `zenith …` between backticks, with the index of their line.
pub(crate) fn spans(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Every other piece stands between backticks. Derived keys begin like a command, too.
            let code = line.split('`').skip(1).step_by(2).filter(|code| {
                let words = code.strip_prefix("zenith ");
                words.is_some_and(|words| words.starts_with(|c| c == '-' || c >= 'a'))
            });
            found.extend(code.map(|code| (n, code)));
        }
    }
    found
}

/// Targets of links within the text, with the index of their line.
pub(crate) fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let ends = line.split("](").skip(1);
            found.extend(ends.filter_map(|end| Some((n, end.split_once(')')?.0))));
        }
    }
    found
}
