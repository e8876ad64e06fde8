//! Tables of text, whose columns are as wide as they need to be.

use std::fmt;

use anstyle::Style;
use midge_protocol::shown;

/// Spaces between columns.
const GAP: usize = 2;
/// The last column is not cut to less than this, however narrow the terminal.
const LAST_WIDTH_MIN: usize = 24;

/// Which way a column leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A table, shown with a line for its heads and one for each row. The last column may be of any width.
#[derive(Debug)]
pub struct Table {
    heads: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table with these heads. One that begins with `>` is of numbers, which stand to the right.
    pub fn new(heads: &[&str]) -> Table {
        let head = |head: &&str| match head.strip_prefix('>') {
            Some(head) => (head.to_owned(), Side::Right),
            None => ((*head).to_owned(), Side::Left),
        };
        Table { heads: heads.iter().map(head).collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.heads.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Cuts the last column, so that no line is longer than this where it can be; of what it says, a little is left.
    pub fn fit(&mut self, width_max: usize) {
        let widths = self.widths();
        let Some((_, before)) = widths.split_last() else { return };
        let left = width_max.saturating_sub(before.iter().map(|width| width + GAP).sum()).max(LAST_WIDTH_MIN);
        for cell in self.rows.iter_mut().filter_map(|row| row.last_mut()).filter(|cell| width(cell) > left) {
            // Without its codes of colours: cut, they would be text.
            *cell = cut(&anstream::adapter::strip_str(cell).to_string(), left);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let column = |i: usize| self.rows.iter().map(|row| width(&row[i])).max().unwrap_or(0);
        self.heads.iter().enumerate().map(|(i, (head, _))| column(i).max(width(head))).collect()
    }

    fn line(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cells: &[String],
        style: Style,
    ) -> fmt::Result {
        // Nothing is written after the last word, not even spaces.
        let last = cells.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
        for (i, cell) in cells.iter().enumerate().take(last + 1) {
            let gap = " ".repeat(widths[i] - width(cell));
            let space = " ".repeat(if i == 0 { 0 } else { GAP });
            match self.heads[i].1 {
                Side::Right => write!(f, "{space}{gap}{style}{cell}{style:#}")?,
                Side::Left if i == last => write!(f, "{space}{style}{cell}{style:#}")?,
                Side::Left => write!(f, "{space}{style}{cell}{style:#}{gap}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| head.clone()).collect();
        let widths = self.widths();
        self.line(f, &widths, &heads, Style::new().bold())?;
        for row in &self.rows {
            writeln!(f)?;
            self.line(f, &widths, row, Style::new())?;
        }
        Ok(())
    }
}

/// Returns how many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    // Codes of colours take none.
    anstream::adapter::strip_str(text).map(|piece| piece.chars().count()).sum()
}

/// Returns the first line of a text as it may be shown; where more follow it ends with `…`.
pub fn first_line(text: &str) -> String {
    cut(text, usize::MAX)
}

/// Returns the first line of a text as it may be shown, cut to so many characters; where something is left out it ends
/// with `…`.
pub fn cut(text: &str, width_max: usize) -> String {
    let text = &*shown::text(text);
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= width_max && text.lines().nth(1).is_none() {
        return shown::line(line).into_owned();
    }
    let kept: String = shown::line(line).chars().take(width_max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_their_colour() {
        let mut table = Table::new(&["MODULE", ">SIZE", "NOTE"]);
        table.row(["hello".to_owned(), "1 B".to_owned(), "short".to_owned()]);
        table.row([crate::output::bold("word-count"), "100 B".to_owned(), String::new()]);
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        insta::assert_snapshot!(plain, @r"
        MODULE       SIZE  NOTE
        hello         1 B  short
        word-count  100 B
        ");
    }

    #[test]
    fn the_last_column_is_cut_to_what_a_terminal_has_and_to_no_less_than_a_little() {
        let mut table = Table::new(&["MODULE", "NOTE"]);
        table.row(["hello".to_owned(), "nothing that was asked for is there".to_owned()]);
        table.row(["word".to_owned(), "short".to_owned()]);
        table.fit(80);
        assert_eq!(table.to_string().lines().nth(1), Some("hello   nothing that was asked for is there"));
        table.fit(34);
        assert_eq!(table.to_string().lines().nth(1), Some("hello   nothing that was asked fo…"));
        table.fit(0);
        assert_eq!(table.to_string().lines().nth(1), Some("hello   nothing that was asked…"));
    }

    #[test]
    fn a_last_column_that_has_a_colour_is_cut_as_one_that_has_none() {
        let mut table = Table::new(&["NOTE"]);
        table.row([crate::output::bold("nothing that was asked for is there")]);
        table.row([crate::output::bold("nothing that was asked f")]);
        table.fit(24);
        let lines: Vec<String> = table.to_string().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines[0], "nothing that was asked…");
        assert_eq!(lines[1], crate::output::bold("nothing that was asked f"));
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("a long story", 6), "a lon…");
        assert_eq!(cut("one\ntwo", 10), "one…");
        assert_eq!(cut("", 3), "");
    }

    #[test]
    fn a_text_that_is_cut_is_fit_to_be_shown() {
        assert_eq!(
            cut("over\rwritten \u{202e}txt.exe\u{1b}[2J", 60),
            "over\u{fffd}written \u{fffd}txt.exe\u{fffd}[2J"
        );
        assert_eq!(cut("\u{1b}[2J\u{1b}[2J", 6), "\u{fffd}[2J\u{fffd}…");
    }
}
