//! Plain tables: columns by width, two spaces between them, no lines.

/// Where the text of a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of equal length; every cell is plain text, colours come later.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has one cell per column"
        );
        self.rows.push(cells);
    }

    /// The title line, then one line per row, none with white space at its end.
    pub fn lines(&self) -> Vec<String> {
        let titles = self
            .columns
            .iter()
            .map(|(title, _)| (*title).to_owned())
            .collect();
        let all: Vec<&Vec<String>> = std::iter::once(&titles).chain(&self.rows).collect();
        let width = |i: usize| {
            all.iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        all.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            if i > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            match self.columns[i].1 {
                Align::Left => line.extend([cell.as_str(), &padding]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(&[
            ("ID", Align::Left),
            ("SIZE", Align::Right),
            ("NOTE", Align::Left),
        ]);
        table.row(vec!["a41c9e2f".into(), "3.9 MB".into(), "é".into()]);
        table.row(vec!["b".into(), "12 B".into(), String::new()]);
        assert_eq!(
            table.lines(),
            [
                "ID          SIZE  NOTE",
                "a41c9e2f  3.9 MB  é",
                "b           12 B"
            ]
        );
    }
}
