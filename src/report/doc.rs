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
    Table(Grid),
    /// A figure whose files are `figures/<name>.*`.
    Figure {
        /// File-name stem.
        name: String,
        /// For readers that cannot see it.
        alt: String,
        /// Shown below.
        caption: String,
        /// The SVG document.
        svg: String,
    },
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

/// A paragraph of [`spans`].
pub fn paragraph(text: &str) -> PageBlock {
    PageBlock::Paragraph(spans(text))
}
