//! LaTeX tables that fit the width of a page (packages booktabs, graphicx, amssymb).

use crate::report::grid::{ColumnKind, Grid, GridCell};
use crate::report::table::{SHOWN_COLUMNS, split_grid};

/// Metrics of a table beside the first ones: so many with their intervals can still be read in the width of a page.
const MORE_COLUMNS: usize = 3;

/// `table` environments with rules of booktabs, as many as keep each within a page; the best is bold. The first has
/// the label `tab:<label>`, those behind it `tab:<label>-2` and so on.
pub fn grid_latex(grid: &Grid, label: &str) -> String {
    let mut notes = grid.notes.iter();
    let first_note = notes.next();
    let title = sentence(&grid.title);
    let mut out = "% \\usepackage{booktabs,graphicx,amssymb}\n".to_owned();
    let beyond = foreign(grid);
    if !beyond.is_empty() {
        out += &format!(
            "% pdfLaTeX knows no {beyond}: use LuaLaTeX or XeLaTeX with a font that does\n"
        );
    }
    let (first, mut rest) = split_grid(grid.clone(), SHOWN_COLUMNS);
    let caption = first_note.map_or_else(
        || title.clone(),
        |note| format!("{title} {}", sentence(note)),
    );
    let below: Vec<String> = notes.map(|note| sentence(note)).collect();
    out += &environment(&first, caption.trim(), &format!("tab:{label}"), &below);
    let mut part = 2;
    while let Some(more) = rest {
        let (shown, others) = split_grid(more, MORE_COLUMNS);
        let caption = format!("{title} Other metrics, as in Table~\\ref{{tab:{label}}}.");
        out += "\n";
        out += &environment(&shown, &caption, &format!("tab:{label}-{part}"), &[]);
        rest = others;
        part += 1;
    }
    out
}

/// Escaped, with a full stop at its end; empty if there is nothing.
fn sentence(text: &str) -> String {
    match text.trim().trim_end_matches('.') {
        "" => String::new(),
        text => format!("{}.", latex_escape(text)),
    }
}

/// One `table` with its caption and notes, which are LaTeX already. What is wider than the page is scaled to it.
fn environment(grid: &Grid, caption: &str, label: &str, notes: &[String]) -> String {
    let letter = |kind| if kind == ColumnKind::Result { 'r' } else { 'l' };
    let columns: String = grid.columns.iter().map(|c| letter(c.kind)).collect();
    let heads = grid.columns.iter().map(|c| head(&c.head, letter(c.kind)));
    let mut out = format!(
        "\\begin{{table}}\n  \\centering\n  \\caption{{{caption}}}\n  \\label{{{label}}}\n  \\small\n  \
         \\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n  \
         \\begin{{tabular}}{{{columns}}}\n    \\toprule\n    {} \\\\\n    \\midrule\n",
        heads.collect::<Vec<_>>().join(" & ")
    );
    for row in &grid.rows {
        let cells: Vec<String> = row.iter().map(cell).collect();
        out += &format!("    {} \\\\\n", cells.join(" & "));
    }
    out += "    \\bottomrule\n  \\end{tabular}}\n";
    if !notes.is_empty() {
        out += &format!(
            "  \\par\\medskip\n  {{\\footnotesize\\raggedright {}\\par}}\n",
            notes.join(" ")
        );
    }
    out + "\\end{table}\n"
}

/// A head; what a metric is measured on stands below its name, so that the column is no wider than its numbers.
fn head(text: &str, letter: char) -> String {
    match text.split_once(" on ") {
        Some((name, set)) => format!(
            "\\shortstack[{letter}]{{{}\\\\on {}}}",
            latex_escape(name),
            latex_escape(set)
        ),
        None => latex_escape(text),
    }
}

/// The characters that pdfLaTeX has no glyph for, each once.
fn foreign(grid: &Grid) -> String {
    let cells = grid.rows.iter().flatten().map(|cell| &cell.text);
    let heads = grid.columns.iter().map(|column| &column.head);
    let texts = cells.chain(heads).chain(&grid.notes).chain([&grid.title]);
    let mut found: Vec<char> = texts
        .flat_map(|text| text.chars())
        .filter(|c| latex_escape(&c.to_string()) == c.to_string())
        // Letters of Latin scripts, which inputenc composes.
        .filter(|c| !c.is_ascii() && !('\u{a1}'..='\u{17f}').contains(c))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(String::from)
        .collect::<Vec<_>>()
        .join(" ")
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
            'Δ' => out += "$\\Delta$",
            '→' => out += "$\\rightarrow$",
            '²' => out += "$^2$",
            '₀' => out += "$_0$",
            '₁' => out += "$_1$",
            '‘' => out.push('`'),
            '’' => out.push('\''),
            'Š' => out += "\\v{S}",
            'á' => out += "\\'a",
            '–' => out += "--",
            '—' => out += "---",
            '“' => out += "``",
            '”' => out += "''",
            '…' => out += "\\ldots{}",
            '\u{202f}' | '\u{2009}' => out += "\\,",
            '\u{a0}' => out.push('~'),
            other => match greek(other) {
                Some(name) => out += &format!("$\\{name}$"),
                None => out.push(other),
            },
        }
    }
    out
}

/// The command of a small Greek letter.
fn greek(c: char) -> Option<&'static str> {
    const NAMES: [&str; 25] = [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "o", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi",
        "chi", "psi", "omega",
    ];
    let place = u32::from(c).checked_sub(u32::from('α'))?;
    // Omicron is no command: it looks like an o.
    NAMES
        .get(place as usize)
        .copied()
        .filter(|name| *name != "o")
}
