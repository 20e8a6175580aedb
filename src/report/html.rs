//! One HTML file that needs no other: styles, font and figures are in it.

use crate::figures::{FONT_REGULAR_WOFF2, FONT_SEMIBOLD_WOFF2};
use crate::report::doc::{Document, PageBlock, Span};
use crate::report::grid::{ColumnKind, Grid, GridCell};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn document_html(document: &Document) -> String {
    let mut body = format!("<h1>{}</h1>\n", escape(&document.title));
    blocks(&mut body, &document.blocks);
    let face = |weight: u32, bytes: &[u8]| {
        format!(
            "@font-face{{font-family:Inter;font-weight:{weight};font-display:swap;src:url(data:font/woff2;base64,{}) format(\"woff2\")}}\n",
            STANDARD.encode(bytes)
        )
    };
    let faces = face(400, FONT_REGULAR_WOFF2) + &face(600, FONT_SEMIBOLD_WOFF2);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{}</title>\n\
         <style>\n{faces}{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&document.title)
    )
}

fn blocks(out: &mut String, list: &[PageBlock]) {
    for block in list {
        match block {
            PageBlock::Heading(text) => *out += &format!("<h2>{}</h2>\n", escape(text)),
            PageBlock::Subheading(text) => *out += &format!("<h3>{}</h3>\n", escape(text)),
            PageBlock::Question(text) => {
                *out += &format!("<p class=\"question\">{}</p>\n", escape(text));
            }
            PageBlock::Paragraph(text) => *out += &format!("<p>{}</p>\n", spans(text)),
            PageBlock::List(items) => {
                let items: String = items
                    .iter()
                    .map(|i| format!("<li>{}</li>\n", spans(i)))
                    .collect();
                *out += &format!("<ul>\n{items}</ul>\n");
            }
            PageBlock::Table(grid) => table(out, grid),
            PageBlock::Figure {
                name, caption, svg, ..
            } => {
                let below = if caption.is_empty() {
                    String::new()
                } else {
                    format!("<figcaption>{}</figcaption>", escape(caption))
                };
                *out += &format!(
                    "<figure id=\"{}\">\n{svg}{below}\n</figure>\n",
                    escape(name)
                );
            }
            PageBlock::Code { text, .. } => {
                *out += &format!("<pre><code>{}</code></pre>\n", escape(text));
            }
            PageBlock::Folded {
                summary,
                blocks: inner,
            } => {
                *out += &format!("<details>\n<summary>{}</summary>\n", escape(summary));
                blocks(out, inner);
                *out += "</details>\n";
            }
        }
    }
}

fn table(out: &mut String, grid: &Grid) {
    let class = |index: usize| {
        let kind = grid.columns[index].kind;
        let first_result = index > 0
            && kind != ColumnKind::Config
            && grid.columns[index - 1].kind == ColumnKind::Config;
        match (kind, first_result) {
            (ColumnKind::Result, true) => " class=\"r b\"",
            (ColumnKind::Result, false) => " class=\"r\"",
            (ColumnKind::Words, true) => " class=\"w b\"",
            (ColumnKind::Words, false) => " class=\"w\"",
            (ColumnKind::Config, _) => "",
        }
    };
    *out += "<div class=\"scroll\"><table>\n<thead><tr>";
    for (index, column) in grid.columns.iter().enumerate() {
        *out += &format!("<th{}>{}</th>", class(index), escape(&column.head));
    }
    *out += "</tr></thead>\n<tbody>\n";
    for row in &grid.rows {
        *out += "<tr>";
        for (index, cell) in row.iter().enumerate() {
            *out += &format!("<td{}>{}</td>", class(index), cell_html(cell));
        }
        *out += "</tr>\n";
    }
    *out += "</tbody>\n</table></div>\n";
    for note in &grid.notes {
        *out += &format!("<p class=\"note\">{}</p>\n", escape(note));
    }
}

fn cell_html(cell: &GridCell) -> String {
    let text = escape(&cell.text);
    match (cell.strong, cell.faint) {
        (true, _) => format!("<strong>{text}</strong>"),
        (false, true) => format!("<em>{text}</em>"),
        (false, false) => text,
    }
}

fn spans(text: &[Span]) -> String {
    let one = |span: &Span| match span {
        Span::Text(text) => escape(text),
        Span::Strong(text) => format!("<strong>{}</strong>", escape(text)),
        Span::Code(text) => format!("<code>{}</code>", escape(text)),
    };
    text.iter().map(one).collect()
}

/// Text for HTML content and attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
