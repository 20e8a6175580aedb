//! One HTML file that needs no other: styles, font and figures are in it.

use crate::figures::{FONT_REGULAR_WOFF2, FONT_SEMIBOLD_WOFF2};
use crate::report::doc::{Document, Link, PageBlock, PageFigure, PageTable, Span};
use crate::report::grid::{ColumnKind, GridCell, GridColumn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn document_html(document: &Document) -> String {
    let mut body = format!("<h1>{}</h1>\n", escape(&document.title));
    let mut anchors = Anchors::default();
    // The question stands before the list of contents.
    let lead = document
        .blocks
        .iter()
        .take_while(|b| matches!(b, PageBlock::Question(_)));
    let lead = lead.count();
    blocks(&mut body, &document.blocks[..lead], &mut anchors);
    contents(&mut body, &document.blocks);
    blocks(&mut body, &document.blocks[lead..], &mut anchors);
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

/// Names of places, each given once.
#[derive(Default)]
struct Anchors {
    given: BTreeMap<String, usize>,
    /// What is folded is in no list of contents: its places have no names, and take none from others.
    folded: bool,
}

impl Anchors {
    /// `figure-1-margins`, with a number behind it where that is taken; empty for what is folded.
    fn give(&mut self, text: &str) -> String {
        if self.folded {
            return String::new();
        }
        let mut slug = String::new();
        for c in text.to_lowercase().chars() {
            if c.is_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug = slug.trim_end_matches('-').to_owned();
        let count = self.given.entry(slug.clone()).or_default();
        *count += 1;
        match *count {
            1 => slug,
            n => format!("{slug}-{n}"),
        }
    }
}

/// What leads to a figure or is its heading.
fn figure_title(figure: &PageFigure) -> String {
    match figure.label.as_str() {
        "" => figure.alt.clone(),
        label => format!("{label}. {}", figure.alt),
    }
}

/// The list of contents of pages of several sections: sections, with their figures and tables.
fn contents(out: &mut String, list: &[PageBlock]) {
    let sections = list.iter().filter(|b| matches!(b, PageBlock::Heading(_)));
    if sections.count() < 3 {
        return;
    }
    let mut anchors = Anchors::default();
    *out += "<nav aria-label=\"Contents\">\n<ul>\n";
    let (mut open, mut nested) = (false, false);
    for block in list {
        let (title, top) = match block {
            PageBlock::Heading(text) => (text.clone(), true),
            PageBlock::Subheading(text) => (text.clone(), false),
            PageBlock::Figure(figure) => (figure_title(figure), false),
            _ => continue,
        };
        let item = format!(
            "<a href=\"#{}\">{}</a>",
            anchors.give(&title),
            escape(&title)
        );
        match (top, open, nested) {
            (true, true, true) => *out += "</ul>\n</li>\n",
            (true, true, false) => *out += "</li>\n",
            (false, true, false) => *out += "\n<ul>\n",
            _ => {}
        }
        if top {
            *out += &format!("<li>{item}");
            (open, nested) = (true, false);
        } else if open {
            *out += &format!("<li>{item}</li>\n");
            nested = true;
        }
    }
    *out += if nested { "</ul>\n</li>\n" } else { "</li>\n" };
    *out += "</ul>\n</nav>\n";
}

fn blocks(out: &mut String, list: &[PageBlock], anchors: &mut Anchors) {
    for block in list {
        match block {
            PageBlock::Heading(text) => heading(out, "h2", text, anchors),
            PageBlock::Subheading(text) => heading(out, "h3", text, anchors),
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
            PageBlock::Table(own) => table(out, own),
            PageBlock::Figure(own) => figure(out, own, anchors),
            PageBlock::Code { text, .. } => {
                *out += &format!("<pre tabindex=\"0\"><code>{}</code></pre>\n", escape(text));
            }
            PageBlock::Folded {
                summary,
                blocks: inner,
            } => {
                *out += &format!("<details>\n<summary>{}</summary>\n", escape(summary));
                let mut unnamed = Anchors {
                    folded: true,
                    ..Anchors::default()
                };
                blocks(out, inner, &mut unnamed);
                *out += "</details>\n";
            }
        }
    }
}

fn heading(out: &mut String, tag: &str, text: &str, anchors: &mut Anchors) {
    let place = place(text, anchors);
    *out += &format!("<{tag}{place}>{}</{tag}>\n", escape(text));
}

/// The attribute that names a place.
fn place(text: &str, anchors: &mut Anchors) -> String {
    match anchors.give(text).as_str() {
        "" => String::new(),
        id => format!(" id=\"{id}\""),
    }
}

/// A figure drawn twice: for wide and for narrow screens, of which one is shown.
fn figure(out: &mut String, figure: &PageFigure, anchors: &mut Anchors) {
    let place = place(&figure_title(figure), anchors);
    let label = match figure.label.as_str() {
        "" => String::new(),
        label => format!("<strong>{}.</strong> ", escape(label)),
    };
    *out += &format!(
        "<figure{place}>\n<div class=\"wide\">{}</div>\n<div class=\"narrow\">{}</div>\n<figcaption>{label}{}{}</figcaption>\n</figure>\n",
        figure.svg,
        figure.narrow,
        escape(&figure.caption),
        files(&figure.files)
    );
}

/// Where the numbers can be had.
fn files(list: &[Link]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let links: Vec<String> = list.iter().map(anchor).collect();
    format!(" <span class=\"files\">{}</span>", links.join(" · "))
}

fn anchor(link: &Link) -> String {
    format!(
        "<a href=\"{}\">{}</a>",
        escape(&link.href),
        escape(&link.text)
    )
}

/// A table that scrolls by itself, by keys too; its first column stays.
fn table(out: &mut String, table: &PageTable) {
    let grid = &table.grid;
    let is_config = |column: &&GridColumn| column.kind == ColumnKind::Config;
    let keys = grid.columns.iter().take_while(is_config).count();
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
            (ColumnKind::Config, _) if (1..keys).contains(&index) => " class=\"own\"",
            (ColumnKind::Config, _) => "",
        }
    };
    *out += &format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table>\n<thead><tr>",
        escape(&table.label)
    );
    let heads: Vec<String> = grid.columns.iter().map(|c| escape(&c.head)).collect();
    for (index, head) in heads.iter().enumerate() {
        let (class, rest) = (class(index), rest_of(&heads[..keys], index));
        *out += &format!("<th scope=\"col\"{class}>{head}{rest}</th>");
    }
    *out += "</tr></thead>\n<tbody>\n";
    for row in &grid.rows {
        let cells: Vec<String> = row.iter().map(cell_html).collect();
        *out += "<tr>";
        for (index, text) in cells.iter().enumerate() {
            let (class, rest) = (class(index), rest_of(&cells[..keys], index));
            *out += &match grid.columns[index].kind {
                ColumnKind::Config => format!("<th scope=\"row\"{class}>{text}{rest}</th>"),
                _ => format!("<td{class}>{text}</td>"),
            };
        }
        *out += "</tr>\n";
    }
    *out += "</tbody>\n</table></div>\n";
    let below = files(&table.files);
    if !below.is_empty() {
        *out += &format!("<p class=\"note\">{}</p>\n", below.trim_start());
    }
    for note in &grid.notes {
        *out += &format!("<p class=\"note\">{}</p>\n", escape(note));
    }
}

/// The rest of a configuration, behind the first of its values: shown where only the first column stays.
fn rest_of(configuration: &[String], index: usize) -> String {
    let rest = configuration.iter().skip(1);
    let rest: String = rest.map(|text| format!(" · {text}")).collect();
    if index == 0 && !rest.is_empty() {
        format!("<span class=\"rest\">{rest}</span>")
    } else {
        String::new()
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
        Span::Link(link) => anchor(link),
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
