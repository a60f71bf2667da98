//! The lines beside a log: which snapshot goes on from which.
//!
//! Every column is a line of history that waits for one snapshot. A snapshot takes the leftmost
//! column that waits for it, where the others join; a tip takes the first free one.

use zenith::log::Entry;
use zenith::store::SnapshotId;

use super::glyphs::{DOWN, Glyphs, LEFT, RIGHT, UP};

/// What is drawn for one snapshot, without white space at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// A line of its own above, where lines of history join.
    pub above: Option<String>,
    /// Beside the snapshot.
    pub beside: String,
    /// Lines of their own below.
    pub below: Vec<String>,
}

/// Draws one snapshot after the other.
#[derive(Debug)]
pub struct Graph {
    glyphs: Glyphs,
    /// What each column waits for.
    waits: Vec<Option<SnapshotId>>,
}

impl Graph {
    pub fn new(glyphs: Glyphs) -> Graph {
        Graph {
            glyphs,
            waits: Vec::new(),
        }
    }

    /// Goes on by one snapshot, in the order of the log.
    pub fn draw(&mut self, entry: &Entry<'_>, is_head: bool) -> Drawn {
        let id = Some(entry.row.id);
        let mut drawn = Drawn::default();
        let mut here = (0..self.waits.len()).filter(|at| self.waits[*at] == id);
        let at = here.next();
        let joining: Vec<usize> = here.collect();
        let at = match at {
            Some(at) => at,
            None => self.free(),
        };
        if !joining.is_empty() {
            let mut row = self.row();
            for from in &joining {
                row.lines[*from] = UP;
            }
            for from in &joining {
                row.connect(at, *from);
            }
            drawn.above = Some(row.text(self.glyphs));
            joining.iter().for_each(|from| self.waits[*from] = None);
        }

        self.waits[at] = id;
        let mut row = self.row();
        row.marks.push((at, self.glyphs.node(is_head)));
        drawn.beside = row.text(self.glyphs);

        self.waits[at] = entry.parents.first().copied();
        let more = entry.parents.get(1..).unwrap_or_default();
        if !more.is_empty() {
            let mut row = self.row();
            for parent in more {
                let to = match self.waits.iter().position(|wait| wait == &Some(*parent)) {
                    Some(to) => to,
                    None => {
                        let to = self.free();
                        self.waits[to] = Some(*parent);
                        row.lines.resize(row.lines.len().max(to + 1), 0);
                        row.lines[to] = DOWN;
                        to
                    }
                };
                row.connect(at, to);
            }
            drawn.below.push(row.text(self.glyphs));
        }
        if entry.is_gap {
            let mut row = self.row();
            row.marks.push((at, self.glyphs.gap()));
            drawn.below.push(row.text(self.glyphs));
        }
        while self.waits.last() == Some(&None) {
            self.waits.pop();
        }
        drawn
    }

    /// The first column that waits for nothing.
    fn free(&mut self) -> usize {
        let free = self.waits.iter().position(Option::is_none);
        free.unwrap_or_else(|| {
            self.waits.push(None);
            self.waits.len() - 1
        })
    }

    /// Every line of history goes straight on.
    fn row(&self) -> Row {
        let lines = self.waits.iter().map(|wait| match wait {
            Some(_) => UP | DOWN,
            None => 0,
        });
        Row {
            lines: lines.collect(),
            between: Vec::new(),
            marks: Vec::new(),
        }
    }
}

struct Row {
    /// Of each column, where lines lead from it.
    lines: Vec<u8>,
    /// Columns between which a line goes across, the smaller one first.
    between: Vec<(usize, usize)>,
    /// What stands in a column instead of lines.
    marks: Vec<(usize, &'static str)>,
}

impl Row {
    fn connect(&mut self, a: usize, b: usize) {
        let (left, right) = (a.min(b), a.max(b));
        self.lines[left] |= RIGHT;
        self.lines[right] |= LEFT;
        self.between.push((left, right));
    }

    fn text(&self, glyphs: Glyphs) -> String {
        let mut text = String::new();
        for (at, lines) in self.lines.iter().enumerate() {
            let crossed = |(left, right): &(usize, usize)| *left < at && at < *right;
            let mut lines = *lines;
            // A line of history that goes straight on is no part of what passes behind it.
            if self.between.iter().any(crossed) && lines != UP | DOWN {
                lines |= LEFT | RIGHT;
            }
            let mark = self.marks.iter().find(|(column, _)| *column == at);
            text.push_str(mark.map_or_else(|| glyphs.cell(lines), |(_, mark)| *mark));
            let goes_on = |(left, right): &(usize, usize)| *left <= at && at < *right;
            let goes_on = self.between.iter().any(goes_on);
            text.push_str(glyphs.cell(if goes_on { LEFT | RIGHT } else { 0 }));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests;
