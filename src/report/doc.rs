//! A page as data, before it is Markdown or HTML.

use crate::report::grid::Grid;

/// Part of running text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// As it is.
    Text(String),
    /// Standing out.
    Strong(String),
    /// A name from a file: a key, an axis, a path.
    Code(String),
    /// A reference to a file beside the page or to a place on it.
    Link(Link),
}

/// A reference to a file beside the page, or to a place on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is called.
    pub text: String,
    /// Its address relative to the page.
    pub href: String,
}

/// A table of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageTable {
    /// What is in it; the title is left to the heading above.
    pub grid: Grid,
    /// What it is called to readers that cannot see the heading above.
    pub label: String,
    /// Its files.
    pub files: Vec<Link>,
}

/// A figure of a page, whose files are `figures/<name>.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct PageFigure {
    /// File-name stem.
    pub name: String,
    /// What leads its caption: `Figure 1`; empty: nothing.
    pub label: String,
    /// For readers that cannot see it.
    pub alt: String,
    /// Shown below.
    pub caption: String,
    /// The SVG document.
    pub svg: String,
    /// The same drawn for a narrow screen.
    pub narrow: String,
    /// Its files.
    pub files: Vec<Link>,
}

/// One block of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum PageBlock {
    /// Heading of a section.
    Heading(String),
    /// Heading within a section.
    Subheading(String),
    /// The question that the page answers.
    Question(String),
    /// Running text.
    Paragraph(Vec<Span>),
    /// A list.
    List(Vec<Vec<Span>>),
    /// A table.
    Table(PageTable),
    /// A figure.
    Figure(PageFigure),
    /// Text as it stands in a file.
    Code {
        /// The text.
        text: String,
        /// Language for colouring.
        language: String,
    },
    /// Blocks that open on demand.
    Folded {
        /// What is shown before.
        summary: String,
        /// What is inside.
        blocks: Vec<PageBlock>,
    },
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its content.
    pub blocks: Vec<PageBlock>,
}

/// Running text in which `` `…` `` is a name and `**…**` stands out.
pub fn spans(text: &str) -> Vec<Span> {
    let mut out = Vec::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            out.push(Span::Code(part.to_owned()));
            continue;
        }
        for (inner, piece) in part.split("**").enumerate() {
            if piece.is_empty() {
                continue;
            }
            let piece = piece.to_owned();
            out.push(if inner % 2 == 1 {
                Span::Strong(piece)
            } else {
                Span::Text(piece)
            });
        }
    }
    out
}

impl PageBlock {
    /// A table without heading and files; `label` is what it is called.
    pub(crate) fn table(label: &str, grid: Grid) -> Self {
        Self::Table(PageTable {
            grid,
            label: label.to_owned(),
            files: Vec::new(),
        })
    }
}

/// A paragraph of [`spans`].
pub fn paragraph(text: &str) -> PageBlock {
    PageBlock::Paragraph(spans(text))
}
