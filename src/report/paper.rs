//! One page over all sweeps: what redraws the figures of the paper, and its final tables.

use crate::base::write_atomic;
use crate::config::all_published;
use crate::config::sweep::FigureSpec;
use crate::figures::{Figure, write_figure};
use crate::report::compare::compare;
use crate::report::doc::{Document, PageBlock, Span, paragraph};
use crate::report::figures::build_figure;
use crate::report::html::document_html;
use crate::report::markdown::document_markdown;
use crate::report::page::{figure_blocks, table_blocks};
use crate::report::published::published_blocks;
use crate::report::said::Said;
use crate::report::select::{ReportError, SweepResults};
use crate::report::summary::coverage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The page before it is written.
#[derive(Debug)]
pub struct PaperReport {
    /// The page.
    pub document: Document,
    /// Its figures, named by the paper's figure, the sweep and their own name.
    pub figures: Vec<Figure>,
}

/// Gathers every figure that names one of the paper, in the paper's order, and every table that
/// names published results.
///
/// # Errors
/// A figure does not fit its sweep, or a results file cannot be read.
pub fn build_paper(sweeps: &[SweepResults]) -> Result<PaperReport, ReportError> {
    let mut labels: BTreeSet<(bool, u32, String)> = BTreeSet::new();
    let known = all_published().iter().filter_map(|p| p.figure.clone());
    let ours = sweeps.iter().flat_map(|s| &s.sweep.report.figures);
    labels.extend(
        known
            .chain(ours.filter_map(|f| f.head.paper.clone()))
            .map(place),
    );
    let mut blocks = vec![paragraph(
        "What the sweeps of this project redraw of the figures and tables of the paper, beside what is published. \
         Our numbers come from other models and other data unless a sweep says otherwise: compare directions, not values.",
    )];
    let mut figures = Vec::new();
    for (_, _, label) in &labels {
        blocks.push(PageBlock::Heading(label.clone()));
        figure_section(&mut blocks, &mut figures, sweeps, label)?;
    }
    tables_section(&mut blocks, sweeps)?;
    let document = Document {
        title: "The paper's figures and tables".to_owned(),
        blocks,
    };
    Ok(PaperReport { document, figures })
}

/// Where a figure stands in the paper: those of the appendix last.
fn place(label: String) -> (bool, u32, String) {
    let number = label.strip_prefix("Figure ").unwrap_or_default();
    let digits = number.trim_start_matches('A');
    (
        number.starts_with('A'),
        digits.parse().unwrap_or(u32::MAX),
        label,
    )
}

fn figure_section(
    blocks: &mut Vec<PageBlock>,
    figures: &mut Vec<Figure>,
    sweeps: &[SweepResults],
    label: &str,
) -> Result<(), ReportError> {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    let own = |f: &&FigureSpec| f.head.paper.as_deref() == Some(label);
    let mut drawn = 0;
    for results in sweeps {
        for spec in results.sweep.report.figures.iter().filter(own) {
            let mut figure = build_figure(results, spec)?;
            let sweep = &results.sweep.name;
            figure.name = format!("{}-{sweep}-{}", slug(label), spec.head.name);
            blocks.push(paragraph(&format!(
                "Sweep `{sweep}`: {} {}",
                results.sweep.question,
                coverage(results)
            )));
            figure_blocks(blocks, &figure, (&figure.name, ""), &mut Said::default())?;
            blocks.extend(sources(&figure));
            ids.extend(spec.head.published.clone());
            figures.push(figure);
            drawn += 1;
        }
    }
    if drawn == 0 {
        blocks.push(paragraph(&format!(
            "Missing: no sweep in the store has a figure with `paper = \"{label}\"`."
        )));
    }
    let listed = all_published().iter();
    let listed = listed.filter(|p| p.figure.as_deref() == Some(label));
    ids.extend(listed.map(|p| p.id.clone()));
    for id in &ids {
        blocks.extend(published_blocks(Some(id)));
    }
    Ok(())
}

/// What is missing from a figure, and the runs it shows, folded.
fn sources(figure: &Figure) -> Vec<PageBlock> {
    let missing = figure.missing.iter();
    let missing = missing.map(|gap| vec![Span::Text(format!("Missing: {gap}"))]);
    let missing: Vec<_> = missing.collect();
    let gaps = if missing.is_empty() {
        paragraph("Nothing is missing.")
    } else {
        PageBlock::List(missing)
    };
    if figure.runs.is_empty() {
        return vec![gaps, paragraph("Runs: none.")];
    }
    let runs = PageBlock::Folded {
        summary: format!("Runs ({})", figure.runs.len()),
        blocks: vec![paragraph(&figure.runs.join(" "))],
    };
    vec![gaps, runs]
}

/// Our tables that name published results, each above those.
fn tables_section(blocks: &mut Vec<PageBlock>, sweeps: &[SweepResults]) -> Result<(), ReportError> {
    let mut named = BTreeSet::new();
    blocks.push(PageBlock::Heading("Tables".to_owned()));
    for results in sweeps {
        for spec in &results.sweep.report.tables {
            let Some(id) = &spec.published else { continue };
            named.insert(id.clone());
            let sweep = &results.sweep.name;
            let coverage = coverage(results);
            blocks.push(paragraph(&format!("Sweep `{sweep}`: {coverage}")));
            table_blocks(
                blocks,
                results,
                &compare(results, spec)?,
                "",
                &mut Said::default(),
            );
            blocks.extend(published_blocks(Some(id)));
        }
    }
    let rest = all_published().iter().filter(|p| p.figure.is_none());
    for entry in rest.filter(|p| !named.contains(&p.id)) {
        blocks.extend(published_blocks(Some(&entry.id)));
        blocks.push(paragraph(&format!(
            "Missing: no sweep in the store has a table with `published = \"{}\"`.",
            entry.id
        )));
    }
    Ok(())
}

/// `figure-a1` for `Figure A1`.
fn slug(label: &str) -> String {
    label.to_lowercase().replace(' ', "-")
}

/// Writes `index.md`, `index.html` and `figures/<name>.{svg,png,csv,json}` into `folder`
/// (`reports/paper`); returns their paths. The same results give the same bytes.
///
/// # Errors
/// As [`build_paper`], or a file cannot be written.
pub fn write_paper(sweeps: &[SweepResults], folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let report = build_paper(sweeps)?;
    let mut paths = Vec::new();
    for (name, text) in [
        ("index.md", document_markdown(&report.document)),
        ("index.html", document_html(&report.document)),
    ] {
        let path = folder.join(name);
        write_atomic(&path, text.as_bytes())?;
        paths.push(path);
    }
    for figure in &report.figures {
        paths.extend(write_figure(&folder.join("figures"), figure)?);
    }
    Ok(paths)
}
