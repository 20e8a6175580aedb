//! One page over several sweeps: what each asks, what it claims and what became of that.

use crate::base::{counted, write_atomic};
use crate::report::claims::{ClaimOutcome, ClaimVerdict, claims};
use crate::report::doc::{Document, Link, PageBlock, Span, paragraph, spans};
use crate::report::html::document_html;
use crate::report::said::named;
use crate::report::select::{ReportError, SweepResults};
use crate::report::summary::coverage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the index says of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexEntry {
    /// Name of the sweep, whose report lies in the folder of this name.
    pub name: String,
    /// Its question.
    pub question: String,
    /// How much of it is there.
    pub coverage: String,
    /// What became of its claims.
    pub claims: Vec<ClaimOutcome>,
}

/// What the index says of a sweep.
///
/// # Errors
/// A results file is there and cannot be read.
pub fn index_entry(results: &SweepResults) -> Result<IndexEntry, ReportError> {
    Ok(IndexEntry {
        name: results.sweep.name.clone(),
        question: results.sweep.question.clone(),
        coverage: coverage(results),
        claims: claims(results)?,
    })
}

/// The page over these sweeps, in their order.
pub fn build_index(entries: &[IndexEntry]) -> Document {
    let mut blocks = vec![paragraph(&tally(entries))];
    for entry in entries {
        blocks.push(PageBlock::Heading(entry.name.clone()));
        blocks.push(PageBlock::Paragraph(vec![Span::Text(
            entry.question.clone(),
        )]));
        let keys: BTreeSet<String> = entry.claims.iter().map(|c| c.metric.clone()).collect();
        let told = entry
            .claims
            .iter()
            .map(|c| spans(&named(&c.words(), &keys)));
        blocks.push(match entry.claims.len() {
            0 => paragraph("Nothing is claimed beforehand: what is compared is exploratory."),
            _ => PageBlock::List(told.collect()),
        });
        let mut where_it_is = spans(&format!("{} ", entry.coverage));
        where_it_is.push(Span::Link(Link {
            text: "The whole report".to_owned(),
            href: format!("{}/index.html", entry.name),
        }));
        blocks.push(PageBlock::Paragraph(where_it_is));
    }
    Document {
        title: "Reports".to_owned(),
        blocks,
    }
}

/// `3 studies with 7 claims: 4 supported, 3 unresolved.`
fn tally(entries: &[IndexEntry]) -> String {
    let verdicts = || entries.iter().flat_map(|e| &e.claims).map(|c| c.verdict);
    let known = [
        ClaimVerdict::Supported,
        ClaimVerdict::Contradicted,
        ClaimVerdict::Equivalent,
        ClaimVerdict::Unresolved,
        ClaimVerdict::Untested,
    ];
    let part = |one: &ClaimVerdict| match verdicts().filter(|v| v == one).count() {
        0 => None,
        n => Some(format!("{n} {}", one.words())),
    };
    let parts: Vec<String> = known.iter().filter_map(part).collect();
    let studies = if entries.len() == 1 {
        "1 study".to_owned()
    } else {
        format!("{} studies", entries.len())
    };
    let claims = counted(verdicts().count(), "claim");
    match parts.as_slice() {
        [] => format!("{studies}, none of which claims anything beforehand."),
        parts => format!(
            "{studies} with {claims}: {}. Claims are corrected together within their study.",
            parts.join(", ")
        ),
    }
}

/// Writes `index.html` into `folder` (`reports`); returns its path. The same results give the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write_index(entries: &[IndexEntry], folder: &Path) -> Result<PathBuf, ReportError> {
    let path = folder.join("index.html");
    write_atomic(&path, document_html(&build_index(entries)).as_bytes())?;
    Ok(path)
}
