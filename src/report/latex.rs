//! LaTeX tables (packages booktabs and amssymb).

use crate::report::grid::{ColumnKind, Grid, GridCell};

/// A `table` environment with rules of booktabs; the best is bold.
pub fn grid_latex(grid: &Grid) -> String {
    let letter = |kind| if kind == ColumnKind::Result { 'r' } else { 'l' };
    let columns: String = grid.columns.iter().map(|c| letter(c.kind)).collect();
    let heads: Vec<String> = grid.columns.iter().map(|c| latex_escape(&c.head)).collect();
    let mut out = format!(
        "\\begin{{table}}\n  \\centering\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n"
    );
    out += &format!("    {} \\\\\n    \\midrule\n", heads.join(" & "));
    for row in &grid.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        out += &format!("    {} \\\\\n", cells.join(" & "));
    }
    out += "    \\bottomrule\n  \\end{tabular}\n";
    let title = match grid.title.trim_end_matches('.') {
        "" => String::new(),
        title => format!("{title}."),
    };
    let caption: Vec<String> = std::iter::once(&title)
        .chain(&grid.notes)
        .filter(|t| !t.is_empty())
        .map(|t| latex_escape(t))
        .collect();
    out + &format!("  \\caption{{{}}}\n\\end{{table}}\n", caption.join(" "))
}

fn cell(cell: &GridCell) -> String {
    let text = latex_escape(&cell.text);
    match (cell.strong, cell.faint, text.is_empty()) {
        (_, _, true) => text,
        (true, ..) => format!("\\textbf{{{text}}}"),
        (_, true, _) => format!("\\emph{{{text}}}"),
        _ => text,
    }
}

/// Text in which every character stands for itself in LaTeX.
pub fn latex_escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '<' => out += "$<$",
            '>' => out += "$>$",
            '|' => out += "$|$",
            '−' => out += "$-$",
            '±' => out += "$\\pm$",
            '×' => out += "$\\times$",
            '·' => out += "$\\cdot$",
            '≈' => out += "$\\approx$",
            '≥' => out += "$\\geq$",
            '≤' => out += "$\\leq$",
            '▲' => out += "$\\blacktriangle$",
            '▼' => out += "$\\blacktriangledown$",
            '↑' => out += "$\\uparrow$",
            '↓' => out += "$\\downarrow$",
            'β' => out += "$\\beta$",
            'π' => out += "$\\pi$",
            'Δ' => out += "$\\Delta$",
            'Š' => out += "\\v{S}",
            'á' => out += "\\'a",
            '–' => out += "--",
            '—' => out += "---",
            '“' => out += "``",
            '”' => out += "''",
            '…' => out += "\\ldots{}",
            '\u{202f}' | '\u{2009}' => out += "\\,",
            '\u{a0}' => out.push('~'),
            other => out.push(other),
        }
    }
    out
}
