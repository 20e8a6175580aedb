//! Tables as text, for a terminal of any width.

use crate::report::text_fit::{cut_text, display_width, wrap_text};

/// Which side of a column its texts touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextAlign {
    /// The left side.
    Left,
    /// The right side.
    Right,
}

/// What becomes of a column where the terminal is too narrow for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnFit {
    /// Nothing: numbers, and names that are typed again.
    Whole,
    /// Its texts are cut: labels.
    Cut,
    /// Its texts are broken into lines between words: sentences.
    Wrap,
}

/// Least room of a column that is cut, or broken into lines; columns of a terminal.
const LEAST_CUT: usize = 14;
const LEAST_WRAP: usize = 24;

/// Rows of texts in aligned columns. A narrow terminal shortens columns as each allows; what does not
/// fit even so stands in a further block below, beside the key columns again.
#[derive(Clone, Debug)]
pub struct TextTable<'a> {
    /// The rows, which may differ in length.
    pub rows: &'a [Vec<String>],
    /// Alignment and fit of each column.
    pub columns: &'a [(TextAlign, ColumnFit)],
    /// So many columns, from the left, name the row.
    pub keys: usize,
    /// What parts them from the others.
    pub bar: &'static str,
}

/// Columns of a table that stand side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextBlock {
    /// The lines of each row, without blanks at their ends.
    pub rows: Vec<Vec<String>>,
    /// Width of each column.
    pub widths: Vec<usize>,
}

impl TextTable<'_> {
    /// The table in blocks of at most `width` columns of the terminal, if it is one; a block is wider
    /// where its numbers are.
    pub fn blocks(&self, width: Option<usize>) -> Vec<TextBlock> {
        let natural = column_widths(self.rows, self.columns.len());
        let width = width.unwrap_or(usize::MAX);
        let least: Vec<usize> = (0..natural.len())
            .map(|column| self.least(column, natural[column], width))
            .collect();
        let side_by_side = self.side_by_side(&least, width);
        side_by_side
            .iter()
            .map(|columns| self.block(columns, &natural, &least, width))
            .collect()
    }

    /// The lines of all blocks, an empty one between two.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let blocks = self.blocks(width).into_iter();
        let texts: Vec<Vec<String>> = blocks
            .map(|block| block.rows.into_iter().flatten().collect())
            .collect();
        texts.join(&String::new())
    }

    /// The width below which a column is not narrowed.
    fn least(&self, column: usize, natural: usize, width: usize) -> usize {
        match self.columns[column].1 {
            ColumnFit::Whole => natural,
            ColumnFit::Wrap => natural.min(LEAST_WRAP),
            ColumnFit::Cut => {
                // The keys leave half of the line to what they name.
                let most = (width / 2 / self.keys.max(1)).saturating_sub(2);
                let least = if column < self.keys {
                    LEAST_CUT.min(most)
                } else {
                    LEAST_CUT
                };
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let numbers = cells.filter(|cell| cell.parse::<f64>().is_ok());
                let widest = numbers.map(|cell| display_width(cell)).max();
                natural.min(least.max(widest.unwrap_or(0)))
            }
        }
    }

    /// The columns of each block: as many as fit if they are narrowed.
    fn side_by_side(&self, least: &[usize], width: usize) -> Vec<Vec<usize>> {
        let keys: Vec<usize> = (0..self.keys.min(least.len())).collect();
        let mut blocks = vec![keys.clone()];
        let mut taken = self.room(&keys, least);
        for (column, own) in least.iter().enumerate().skip(keys.len()) {
            let more = |at: usize| display_width(self.before(at)) + own;
            let at = blocks.last().map_or(0, Vec::len);
            if at > keys.len() && taken + more(at) > width {
                blocks.push(keys.clone());
                taken = self.room(&keys, least);
            }
            // In a block of its own the bar stands before it.
            taken += more(blocks.last().map_or(0, Vec::len));
            if let Some(block) = blocks.last_mut() {
                block.push(column);
            }
        }
        blocks
    }

    /// The room that the first columns of a block take.
    fn room(&self, columns: &[usize], least: &[usize]) -> usize {
        let each = columns.iter().enumerate();
        each.map(|(at, column)| display_width(self.before(at)) + least[*column])
            .sum::<usize>()
    }

    /// What stands before the `at`th column of a block.
    fn before(&self, at: usize) -> &'static str {
        match at {
            0 => "",
            _ if at == self.keys => self.bar,
            _ => "  ",
        }
    }

    fn block(
        &self,
        columns: &[usize],
        natural: &[usize],
        least: &[usize],
        width: usize,
    ) -> TextBlock {
        let pick = |of: &[usize]| columns.iter().map(|c| of[*c]).collect::<Vec<_>>();
        let gaps = (0..columns.len()).map(|at| display_width(self.before(at)));
        let room = width.saturating_sub(gaps.sum::<usize>());
        let widths = narrowed(&pick(natural), &pick(least), room).unwrap_or_else(|| pick(least));
        let is_first = columns.last().is_none_or(|last| last + 1 == columns.len());
        let tells = |row: &Vec<String>| {
            let mut told = columns.iter().skip(self.keys);
            told.any(|column| row.get(*column).is_some_and(|cell| !cell.is_empty()))
        };
        // Below the first block a row with nothing but its name says nothing new.
        let rows = self.rows.iter().enumerate();
        let shown = rows.filter(|(at, row)| is_first || *at == 0 || tells(row));
        TextBlock {
            rows: shown
                .map(|(_, row)| self.row(row, columns, &widths))
                .collect(),
            widths,
        }
    }

    /// The lines of one row.
    fn row(&self, row: &[String], columns: &[usize], widths: &[usize]) -> Vec<String> {
        let cell = |(column, width): (&usize, &usize)| {
            let text = row.get(*column).map_or("", String::as_str);
            match self.columns[*column].1 {
                ColumnFit::Whole => vec![text.to_owned()],
                ColumnFit::Cut => vec![cut_text(&text.replace('\n', " "), *width)],
                ColumnFit::Wrap => wrap_text(text, *width, 0),
            }
        };
        let cells: Vec<Vec<String>> = columns.iter().zip(widths).map(cell).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        let line = |at: usize| {
            let mut line = String::new();
            for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let text = cell.get(at).map_or("", String::as_str);
                let gap = " ".repeat(width.saturating_sub(display_width(text)));
                line += self.before(index);
                line += &match self.columns[columns[index]].0 {
                    TextAlign::Left => format!("{text}{gap}"),
                    TextAlign::Right => format!("{gap}{text}"),
                };
            }
            line.trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }
}

/// The width of each of `count` columns.
fn column_widths(rows: &[Vec<String>], count: usize) -> Vec<usize> {
    let mut widths = vec![0; count];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = display_width(cell).max(*width);
        }
    }
    widths
}

/// Widths of columns that would take `natural` each, so that they take `room` together: the widest are
/// narrowed first, none below its least. Nothing if the least do not fit.
fn narrowed(natural: &[usize], least: &[usize], room: usize) -> Option<Vec<usize>> {
    let capped = |cap: usize| -> Vec<usize> {
        let pairs = natural.iter().zip(least);
        pairs.map(|(n, l)| (*n).min(cap.max(*l))).collect()
    };
    let widest = natural.iter().copied().max().unwrap_or(0);
    let mut caps = (0..=widest).rev().map(capped);
    caps.find(|widths| widths.iter().sum::<usize>() <= room)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: TextAlign = TextAlign::Left;

    fn rows(texts: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|&text| text.to_owned()).collect();
        texts.iter().map(row).collect()
    }

    fn lines(
        rows: &[Vec<String>],
        columns: &[(TextAlign, ColumnFit)],
        width: Option<usize>,
    ) -> Vec<String> {
        let table = TextTable {
            rows,
            columns,
            keys: 1,
            bar: "  ",
        };
        table.lines(width)
    }

    #[test]
    fn columns_align_and_ignore_colour() {
        let rows = rows(&[&["\u{1b}[32mok\u{1b}[0m", "x"], &["failed", "y"]]);
        assert_eq!(
            lines(&rows, &[(LEFT, ColumnFit::Whole); 2], None),
            ["\u{1b}[32mok\u{1b}[0m      x", "failed  y"]
        );
    }

    #[test]
    fn columns_of_wide_text_stand_below_each_other() {
        let rows = rows(&[
            &["日本語 👍", "|"],
            &["e\u{301}té", "|"],
            &["plain text", "|"],
        ]);
        for line in lines(&rows, &[(LEFT, ColumnFit::Whole); 2], None) {
            assert_eq!(display_width(&line), 10 + 2 + 1, "{line:?}");
        }
        let right = [
            (TextAlign::Right, ColumnFit::Whole),
            (LEFT, ColumnFit::Whole),
        ];
        assert_eq!(lines(&rows, &right, None)[0], " 日本語 👍  |");
    }

    #[test]
    fn rows_may_end_early() {
        let rows = rows(&[&["a"], &["bb", "c"]]);
        assert_eq!(
            lines(&rows, &[(LEFT, ColumnFit::Whole); 2], None),
            ["a", "bb  c"]
        );
    }

    #[test]
    fn labels_are_cut_and_sentences_broken_where_the_terminal_is_narrow() {
        let rows = rows(&[
            &["run", "configuration", "why"],
            &[
                "ab12",
                "pairs=440 beta=0.1 loss=ipo",
                "the disk is full, 1 MiB free",
            ],
            &["cd34", "pairs=880 beta=0.5 loss=ipo", ""],
        ]);
        let columns = [
            (LEFT, ColumnFit::Whole),
            (LEFT, ColumnFit::Cut),
            (LEFT, ColumnFit::Wrap),
        ];
        assert_eq!(
            lines(&rows, &columns, Some(50)),
            [
                "run   configuration       why",
                "ab12  pairs=440 …         the disk is full, 1 MiB",
                "                          free",
                "cd34  pairs=880 …",
            ]
        );
        assert_eq!(
            lines(&rows, &columns, Some(32)),
            [
                "run   configuration",
                "ab12  pairs=440 beta=0.1 …",
                "cd34  pairs=880 beta=0.5 …",
                "",
                "run   why",
                "ab12  the disk is full, 1 MiB",
                "      free",
            ]
        );
    }

    #[test]
    fn numbers_stay_whole_at_any_width() {
        let rows = rows(&[
            &["rate", "tales/loss", "polite/rewards/margins"],
            &[
                "0.000123",
                "1.4821 [1.4632, 1.5011]",
                "0.0031 [-0.0012, 0.0074]",
            ],
            &["a rate of many words", "1.5", "0.1"],
        ]);
        let columns = [
            (LEFT, ColumnFit::Cut),
            (TextAlign::Right, ColumnFit::Whole),
            (TextAlign::Right, ColumnFit::Whole),
        ];
        for width in 40..=120 {
            let lines = lines(&rows, &columns, Some(width));
            for line in &lines {
                assert!(display_width(line) <= width, "{width}: {line}");
            }
            let text = lines.join("\n");
            for number in &rows[1] {
                assert!(text.contains(number), "{width}: {text}");
            }
        }
    }
}
