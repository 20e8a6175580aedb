//! A table ready to print: texts in columns, configuration apart from results.

use crate::base::printable;
use crate::report::text_fit::wrap_text;
use crate::report::text_table::{ColumnFit, TextAlign, TextTable};

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

/// What parts configuration from results.
const BAR: &str = " │ ";

/// Aligned text; a bar parts configuration from results, `*` marks the best, and `bold` makes it stand
/// out as well. On a terminal of `width` columns results that do not fit beside each other stand below,
/// and sentences are broken between words.
pub fn grid_text(grid: &Grid, bold: bool, width: Option<usize>) -> String {
    let rows = text_rows(grid, bold);
    let columns: Vec<_> = grid.columns.iter().map(|c| text_column(c.kind)).collect();
    let is_config = |column: &&GridColumn| column.kind == ColumnKind::Config;
    let table = TextTable {
        rows: &rows,
        columns: &columns,
        keys: grid.columns.iter().take_while(is_config).count(),
        bar: BAR,
    };
    let sentences = |text: &str| match width {
        Some(width) => wrap_text(&printable(text), width, 0),
        None => vec![printable(text).into_owned()],
    };
    let mut lines: Vec<String> = Vec::new();
    if !grid.title.is_empty() {
        lines.extend(sentences(&grid.title));
    }
    for (index, block) in table.blocks(width).into_iter().enumerate() {
        lines.extend((index > 0).then(String::new));
        let rule = rule(&block.widths, table.keys);
        let mut shown = block.rows.into_iter();
        lines.extend(shown.next().into_iter().flatten());
        lines.push(rule);
        lines.extend(shown.flatten());
    }
    lines.extend(grid.notes.iter().flat_map(|note| sentences(note)));
    lines.join("\n") + "\n"
}

/// Heads and cells as texts. Where some results have a mark, the others leave its room, so that numbers
/// stay in line.
fn text_rows(grid: &Grid, bold: bool) -> Vec<Vec<String>> {
    let marked: Vec<bool> = (0..grid.columns.len())
        .map(|c| grid.rows.iter().any(|r| r[c].strong))
        .collect();
    let result = |index: usize| grid.columns[index].kind == ColumnKind::Result;
    let shown = |(index, cell): (usize, &GridCell)| {
        // Codes that a label holds are not among ours.
        let text = printable(&cell.text);
        match (cell.strong, marked[index]) {
            (true, _) if bold => format!("\u{1b}[1m{text} *\u{1b}[0m"),
            (true, _) => format!("{text} *"),
            (false, true) if result(index) => format!("{text}  "),
            (false, _) => text.into_owned(),
        }
    };
    let heads = grid.columns.iter().map(|c| GridCell::plain(&c.head));
    let heads: Vec<GridCell> = heads.collect();
    std::iter::once(&heads)
        .chain(&grid.rows)
        .map(|row| row.iter().enumerate().map(shown).collect())
        .collect()
}

fn text_column(kind: ColumnKind) -> (TextAlign, ColumnFit) {
    match kind {
        ColumnKind::Config => (TextAlign::Left, ColumnFit::Cut),
        ColumnKind::Result => (TextAlign::Right, ColumnFit::Whole),
        ColumnKind::Words => (TextAlign::Left, ColumnFit::Wrap),
    }
}

/// The line below the heads.
fn rule(widths: &[usize], keys: usize) -> String {
    let part = |(index, width): (usize, &usize)| {
        let crossing = match index {
            0 => "",
            _ if index == keys => "─┼─",
            _ => "──",
        };
        crossing.to_owned() + &"─".repeat(*width)
    };
    widths.iter().enumerate().map(part).collect()
}
