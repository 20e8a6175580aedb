//! Published values and claims beside our own, always apart from them and named as such.

use crate::config::{Published, published};
use crate::report::doc::{PageBlock, Span};
use crate::report::grid::{ColumnKind, Grid, GridCell, GridColumn};

/// The published numbers of an entry; `None` if only claims are known. The title says that they are
/// published, and where.
pub fn published_grid(entry: &Published) -> Option<Grid> {
    if entry.columns.is_empty() {
        return None;
    }
    // A column whose cells are all numbers or dashes is one of results.
    let numeric = |column: usize| {
        let mut cells = entry.rows.iter().map(|row| row[column].as_str());
        cells.all(|cell| cell == "–" || cell.parse::<f64>().is_ok())
    };
    let column = |(index, head): (usize, &String)| GridColumn {
        head: head.clone(),
        kind: if index > 0 && numeric(index) {
            ColumnKind::Result
        } else {
            ColumnKind::Config
        },
    };
    let row = |row: &Vec<String>| row.iter().map(GridCell::plain).collect();
    let mut notes = vec![format!(
        "Published numbers, not ours. Source: {}.",
        entry.source
    )];
    notes.extend((!entry.note.is_empty()).then(|| entry.note.clone()));
    Some(Grid {
        title: heading(entry),
        columns: entry.columns.iter().enumerate().map(column).collect(),
        rows: entry.rows.iter().map(row).collect(),
        notes,
    })
}

/// `Published (Final results, Gemma-2b)`.
fn heading(entry: &Published) -> String {
    format!("Published ({})", entry.title)
}

/// What is published under this id: claims, then numbers; nothing without an id, or if nobody knows
/// it.
pub fn published_blocks(id: Option<&str>) -> Vec<PageBlock> {
    let Some(entry) = id.and_then(published) else {
        return Vec::new();
    };
    let mut blocks = vec![PageBlock::Subheading(heading(entry))];
    let grid = published_grid(entry);
    if grid.is_none() {
        let text = format!("Not ours. Source: {}. {}", entry.source, entry.note);
        blocks.push(PageBlock::Paragraph(vec![Span::Text(
            text.trim().to_owned(),
        )]));
    }
    if !entry.claims.is_empty() {
        let claim = |text: &String| {
            vec![
                Span::Strong("Claim:".to_owned()),
                Span::Text(format!(" {text}")),
            ]
        };
        blocks.push(PageBlock::List(entry.claims.iter().map(claim).collect()));
    }
    let label = heading(entry);
    blocks.extend(grid.map(|grid| PageBlock::table(&label, grid)));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::grid_text;

    #[test]
    fn published_numbers_are_headed_as_such_and_stand_as_printed() {
        let entry = published("final-llama3").unwrap();
        let text = grid_text(&published_grid(entry).unwrap(), false, None);
        assert!(text.starts_with("Published (Final results, LLaMA-3-8b)\n"));
        assert!(
            text.contains("8.00") && text.contains("Published numbers, not ours. Source: README")
        );
    }

    #[test]
    fn claims_without_numbers_are_a_list_and_an_unknown_id_is_nothing() {
        let blocks = published_blocks(Some("figure-1"));
        assert!(
            matches!(&blocks[..], [PageBlock::Subheading(_), PageBlock::Paragraph(_), PageBlock::List(claims)] if claims.len() == 2)
        );
        assert_eq!(published_blocks(Some("figure-99")), []);
        assert_eq!(published_blocks(None), []);
    }
}
