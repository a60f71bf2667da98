//! What is drawn beside words, in Unicode, or in ASCII where the locale has no other letters.

/// What lines are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    Unicode,
    Ascii,
}

/// Where a line leads from the middle of a cell.
pub const UP: u8 = 1;
pub const DOWN: u8 = 2;
pub const LEFT: u8 = 4;
pub const RIGHT: u8 = 8;

impl Glyphs {
    /// The mark of a snapshot.
    pub fn node(self, is_head: bool) -> &'static str {
        match (self, is_head) {
            (Glyphs::Unicode, true) => "●",
            (Glyphs::Unicode, false) => "○",
            (Glyphs::Ascii, true) => "*",
            (Glyphs::Ascii, false) => "o",
        }
    }

    /// The mark of HEAD in the first column of a list.
    pub fn mark(self, is_head: bool) -> String {
        if is_head { self.node(true) } else { "" }.to_owned()
    }

    /// The mark of snapshots that are missing.
    pub fn gap(self) -> &'static str {
        match self {
            Glyphs::Unicode => "┊",
            Glyphs::Ascii => ":",
        }
    }

    /// Between what was and what is.
    pub fn arrow(self) -> &'static str {
        match self {
            Glyphs::Unicode => "→",
            Glyphs::Ascii => "->",
        }
    }

    /// Where a text was cut.
    pub fn cut(self) -> &'static str {
        match self {
            Glyphs::Unicode => "…",
            Glyphs::Ascii => "...",
        }
    }

    /// Lines that lead from the middle of a cell.
    pub fn cell(self, lines: u8) -> &'static str {
        const UNICODE: [&str; 16] = [
            " ", "╵", "╷", "│", "╴", "╯", "╮", "┤", "╶", "╰", "╭", "├", "─", "┴", "┬", "┼",
        ];
        const ASCII: [&str; 16] = [
            " ", "|", "|", "|", "-", "'", ".", "+", "-", "`", ".", "+", "-", "+", "+", "+",
        ];
        match self {
            Glyphs::Unicode => UNICODE[usize::from(lines)],
            Glyphs::Ascii => ASCII[usize::from(lines)],
        }
    }

    /// A bar of so many eighths of a cell.
    pub fn bar(self, eighths: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let (whole, rest) = (eighths / 8, eighths % 8);
        match self {
            Glyphs::Unicode => "█".repeat(whole) + EIGHTHS[rest],
            Glyphs::Ascii if rest > 0 => "#".repeat(whole) + "-",
            Glyphs::Ascii => "#".repeat(whole),
        }
    }

    /// What a bar of indicatif's is made of, from whole cells to none.
    pub fn progress(self) -> &'static str {
        match self {
            Glyphs::Unicode => "█▉▊▋▌▍▎▏ ",
            Glyphs::Ascii => "#- ",
        }
    }

    /// What turns while nobody knows how much there is to do, and what is left of it.
    pub fn spinner(self) -> &'static str {
        match self {
            Glyphs::Unicode => "⠁⠂⠄⡀⢀⠠⠐⠈ ",
            Glyphs::Ascii => "|/-\\ ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is drawn: ASCII where that was asked for.
    #[test]
    fn ascii_is_ascii() {
        let a = Glyphs::Ascii;
        let mut all = [a.node(true), a.node(false), a.gap(), a.arrow(), a.cut()].concat();
        all += &[a.progress(), a.spinner(), &a.mark(true)].concat();
        all.extend((0..16).map(|lines| a.cell(lines)));
        all.extend((0..90).map(|eighths| a.bar(eighths)));
        assert!(all.is_ascii(), "{all}");
    }

    #[test]
    fn bars() {
        for (eighths, unicode, ascii) in [
            (0, "", ""),
            (1, "▏", "-"),
            (8, "█", "#"),
            (21, "██▋", "##-"),
        ] {
            assert_eq!(Glyphs::Unicode.bar(eighths), unicode);
            assert_eq!(Glyphs::Ascii.bar(eighths), ascii);
        }
    }
}
