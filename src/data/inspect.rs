//! A packed row, token by token, for people to look at.

use super::format::TextFormat;
use super::pack::PackedRow;

/// One position of a packed row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InspectedToken {
    /// The token.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Whether it counts as a target.
    pub target: bool,
    /// Position in its segment, from 0.
    pub position: usize,
    /// Segment of the row, from 0.
    pub segment: usize,
    /// Id of the document.
    pub document: String,
    /// Whether it only fills the row.
    pub padding: bool,
}

/// Every position of `row` in order, padding included.
pub fn inspect_row(row: &PackedRow, format: &TextFormat) -> Vec<InspectedToken> {
    let mut out = Vec::with_capacity(row.positions());
    for (index, segment) in row.segments.iter().enumerate() {
        let real = segment.len();
        let last = index + 1 == row.segments.len();
        let padding = if last { row.padding } else { 0 };
        for position in 0..real + padding {
            let at = segment.start + position;
            let is_real = position < real;
            let id = if is_real {
                row.tokens[at]
            } else {
                format.pad_token()
            };
            out.push(InspectedToken {
                id,
                text: format.token_text(id),
                target: is_real && row.loss_mask[at],
                position,
                segment: index,
                document: segment.id.clone(),
                padding: !is_real,
            });
        }
    }
    out
}
