//! Markdown of tables and pages.

use crate::report::doc::{Document, Link, PageBlock, Span};
use crate::report::grid::{ColumnKind, Grid};

/// A Markdown table with its notes; the best is bold. The title is left to the heading above.
pub fn grid_markdown(grid: &Grid) -> String {
    let cells = |texts: Vec<String>| format!("| {} |\n", texts.join(" | "));
    let mut out = cells(grid.columns.iter().map(|c| escape(&c.head)).collect());
    let rule = |kind| {
        if kind == ColumnKind::Result {
            "---:"
        } else {
            "---"
        }
    };
    out += &cells(
        grid.columns
            .iter()
            .map(|c| rule(c.kind).to_owned())
            .collect(),
    );
    for row in &grid.rows {
        let text = |c: &crate::report::grid::GridCell| match (c.strong, c.faint, c.text.is_empty())
        {
            (_, _, true) => String::new(),
            (true, ..) => format!("**{}**", escape(&c.text)),
            (_, true, _) => format!("*{}*", escape(&c.text)),
            _ => escape(&c.text),
        };
        out += &cells(row.iter().map(text).collect());
    }
    for note in &grid.notes {
        out += &format!("\n{}\n", escape(note));
    }
    out
}

/// Characters that would start markup, escaped.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(
            c,
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#'
        ) {
            out.push('\\');
        }
        out.push(if c == '\n' { ' ' } else { c });
    }
    out
}

fn spans(text: &[Span]) -> String {
    let one = |span: &Span| match span {
        Span::Text(text) => escape(text),
        Span::Strong(text) => format!("**{}**", escape(text)),
        Span::Code(text) => format!("`{}`", text.replace('`', "'")),
        Span::Link(link) => anchor(link),
    };
    text.iter().map(one).collect()
}

fn anchor(link: &Link) -> String {
    format!("[{}]({})", escape(&link.text), link.href)
}

/// The files of a table or figure, a line.
fn files_line(files: &[Link]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let links: Vec<String> = files.iter().map(anchor).collect();
    format!("\n{}\n", links.join(" · "))
}

/// The whole page.
pub fn document_markdown(document: &Document) -> String {
    let mut out = format!("# {}\n", escape(&document.title));
    for block in &document.blocks {
        out += "\n";
        match block {
            PageBlock::Heading(text) => out += &format!("## {}\n", escape(text)),
            PageBlock::Subheading(text) => out += &format!("### {}\n", escape(text)),
            PageBlock::Question(text) => out += &format!("> {}\n", escape(text)),
            PageBlock::Paragraph(text) => out += &format!("{}\n", spans(text)),
            PageBlock::List(items) => out.extend(items.iter().map(|i| format!("- {}\n", spans(i)))),
            PageBlock::Table(table) => {
                out += &grid_markdown(&table.grid);
                out += &files_line(&table.files);
            }
            PageBlock::Figure(figure) => {
                let alt = escape(&figure.alt).replace('\n', " ");
                out += &format!("![{alt}](figures/{}.svg)\n", figure.name);
                let label = match figure.label.as_str() {
                    "" => String::new(),
                    label => format!("**{}.** ", escape(label)),
                };
                let below = format!("{label}{}", escape(&figure.caption));
                if !below.is_empty() {
                    out += &format!("\n{}\n", below.trim_end());
                }
                out += &files_line(&figure.files);
            }
            PageBlock::Code { text, language } => {
                // A fence longer than any run of backticks inside.
                let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
                let fence = "`".repeat(longest.max(2) + 1);
                out += &format!("{fence}{language}\n{}\n{fence}\n", text.trim_end());
            }
            PageBlock::Folded { summary, blocks } => {
                let inner = Document {
                    title: String::new(),
                    blocks: blocks.clone(),
                };
                let body = document_markdown(&inner);
                let body = body.trim_start_matches("# \n").trim();
                out += &format!(
                    "<details><summary>{}</summary>\n\n{body}\n\n</details>\n",
                    crate::report::html::escape(summary)
                );
            }
        }
    }
    out
}
