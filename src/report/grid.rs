//! A table ready to print: texts in columns, configuration apart from results.

use unicode_width::UnicodeWidthStr as _;

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
    let shown = |cell: &GridCell| {
        if cell.strong {
            format!("{} *", cell.text)
        } else {
            cell.text.clone()
        }
    };
    let marked: Vec<bool> = (0..grid.columns.len())
        .map(|c| grid.rows.iter().any(|r| r[c].strong))
        .collect();
    let mut widths: Vec<usize> = grid.columns.iter().map(|c| c.head.width()).collect();
    for row in &grid.rows {
        for (index, cell) in row.iter().enumerate() {
            let mark = if marked[index] { 2 } else { 0 };
            widths[index] = widths[index].max(cell.text.width() + mark);
        }
    }
    let mut out = String::new();
    if !grid.title.is_empty() {
        out += &format!("{}\n", grid.title);
    }
    let heads: Vec<GridCell> = grid
        .columns
        .iter()
        .map(|c| GridCell::plain(&c.head))
        .collect();
    let line = |cells: &[GridCell]| {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            line += separator(grid, index);
            let mut text = shown(cell);
            if marked[index] && !cell.strong && grid.columns[index].kind == ColumnKind::Result {
                text += "  ";
            }
            let gap = " ".repeat(widths[index].saturating_sub(text.width()));
            if bold && cell.strong {
                text = format!("\u{1b}[1m{text}\u{1b}[0m");
            }
            line += &match grid.columns[index].kind {
                ColumnKind::Result => format!("{gap}{text}"),
                ColumnKind::Config | ColumnKind::Words => format!("{text}{gap}"),
            };
        }
        format!("{}\n", line.trim_end())
    };
    out += &line(&heads);
    let rule: Vec<String> = (0..grid.columns.len())
        .map(|i| {
            format!(
                "{}{}",
                separator(grid, i).replace(' ', "─").replace('│', "┼"),
                "─".repeat(widths[i])
            )
        })
        .collect();
    out += &format!("{}\n", rule.concat());
    out.extend(grid.rows.iter().map(|row| line(row)));
    out.extend(grid.notes.iter().map(|note| format!("{note}\n")));
    out
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
