//! A table ready to print: texts in columns, configuration apart from results.

use crate::report::text_table::{TextAlign, column_widths, text_row};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Part of the configuration: left-aligned.
    Config,
    /// A result: right-aligned.
    Result,
    /// Words about a result: left-aligned.
    Words,
}

/// One column's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GridColumn {
    /// Its head.
    pub head: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridCell {
    /// Its text.
    pub text: String,
    /// Stands out: the best of its column.
    pub strong: bool,
    /// Stands back: says why there is no value.
    pub faint: bool,
}

impl GridCell {
    /// An ordinary cell.
    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// A table ready to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Shown above; may be empty.
    pub title: String,
    /// The columns.
    pub columns: Vec<GridColumn>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<GridCell>>,
    /// Shown below, one paragraph each.
    pub notes: Vec<String>,
}

impl Grid {
    /// A table of plain cells: heads of configuration columns end in `|`, of words in `:`.
    pub fn plain(title: &str, heads: &[&str], rows: Vec<Vec<String>>) -> Self {
        let column = |head: &&str| {
            let (head, kind) = match (head.strip_suffix('|'), head.strip_suffix(':')) {
                (Some(head), _) => (head, ColumnKind::Config),
                (None, Some(head)) => (head, ColumnKind::Words),
                (None, None) => (*head, ColumnKind::Result),
            };
            GridColumn {
                head: head.to_owned(),
                kind,
            }
        };
        Self {
            title: title.to_owned(),
            columns: heads.iter().map(column).collect(),
            rows: rows
                .into_iter()
                .map(|r| r.into_iter().map(GridCell::plain).collect())
                .collect(),
            notes: Vec::new(),
        }
    }
}

/// Aligned text for a terminal; a bar parts configuration from results, `*` marks the best, and
/// `bold` makes it stand out as well.
pub fn grid_text(grid: &Grid, bold: bool) -> String {
    let result = |index: usize| grid.columns[index].kind == ColumnKind::Result;
    let marked: Vec<bool> = (0..grid.columns.len())
        .map(|c| grid.rows.iter().any(|r| r[c].strong))
        .collect();
    // Where some results have a mark, the others leave its room, so that numbers stay in line.
    let shown = |(index, cell): (usize, &GridCell)| match (cell.strong, marked[index]) {
        (true, _) if bold => format!("\u{1b}[1m{} *\u{1b}[0m", cell.text),
        (true, _) => format!("{} *", cell.text),
        (false, true) if result(index) => format!("{}  ", cell.text),
        (false, _) => cell.text.clone(),
    };
    let heads = grid
        .columns
        .iter()
        .map(|c| GridCell::plain(&c.head))
        .collect();
    let all = std::iter::once(&heads).chain(&grid.rows);
    let rows: Vec<Vec<String>> = all
        .map(|row| row.iter().enumerate().map(shown).collect())
        .collect();
    let widths = column_widths(&rows);
    let column = |index| {
        let align = if result(index) {
            TextAlign::Right
        } else {
            TextAlign::Left
        };
        (separator(grid, index), align)
    };
    let mut lines: Vec<String> = Vec::new();
    lines.extend((!grid.title.is_empty()).then(|| grid.title.clone()));
    lines.extend(rows.iter().map(|row| text_row(row, &widths, column)));
    let rule = widths.iter().enumerate().map(|(index, width)| {
        let crossing = separator(grid, index).replace(' ', "─").replace('│', "┼");
        crossing + &"─".repeat(*width)
    });
    lines.insert(lines.len() - grid.rows.len(), rule.collect());
    lines.extend(grid.notes.iter().cloned());
    lines.join("\n") + "\n"
}

/// What stands before a column.
fn separator(grid: &Grid, index: usize) -> &'static str {
    let config = |i: usize| grid.columns[i].kind == ColumnKind::Config;
    match index {
        0 => "",
        _ if config(index - 1) && !config(index) => " │ ",
        _ => "  ",
    }
}
