//! The report of a sweep as a page.

use crate::base::counted;
use crate::config::sweep::TableSpec;
use crate::figures::{Figure, FigureError, draw, draw_narrow};
use crate::metrics::{Better, metric_set, metric_spec};
use crate::report::claims::{ClaimOutcome, claims};
use crate::report::compare::{SweepTable, compare, default_table};
use crate::report::doc::{
    Document, Link, PageBlock, PageFigure, PageTable, Span, paragraph, spans,
};
use crate::report::figures::build_figure;
use crate::report::grid::Grid;
use crate::report::halving::halving_section;
use crate::report::null::null_block;
use crate::report::origin::{cost_section, data_section, runs_section};
use crate::report::published::published_blocks;
use crate::report::said::{Said, named};
use crate::report::sample_blocks::samples_blocks;
use crate::report::select::{ReportError, SweepResults};
use crate::report::summary::{answer, coverage, verdict_line};
use crate::report::table::{SHOWN_COLUMNS, split_grid, table_grid};
use crate::store::SweepNote;
use std::collections::BTreeSet;

/// A report before it is written.
#[derive(Debug)]
pub struct Report {
    /// The page.
    pub document: Document,
    /// Its tables.
    pub tables: Vec<SweepTable>,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// What was claimed beforehand.
    pub claims: Vec<ClaimOutcome>,
}

/// The tables of the sweep file, or one over everything.
pub(crate) fn table_specs(results: &SweepResults) -> Vec<TableSpec> {
    if results.sweep.report.tables.is_empty() {
        return vec![default_table(results)];
    }
    results.sweep.report.tables.clone()
}

/// Builds the page: question, answer, tables, figures, and where all of it comes from.
///
/// # Errors
/// A figure of the sweep file does not fit the sweep, or a results file cannot be read.
pub fn build_report(results: &SweepResults) -> Result<Report, ReportError> {
    let specs = table_specs(results);
    let tables: Vec<SweepTable> = specs
        .iter()
        .map(|s| compare(results, s))
        .collect::<Result<_, _>>()?;
    let figures: Vec<Figure> = results
        .sweep
        .report
        .figures
        .iter()
        .map(|s| build_figure(results, s))
        .collect::<Result<_, _>>()?;
    let claims = claims(results)?;
    let keys = metric_keys(results, &tables, &claims);
    let mut said = Said::default();
    let mut blocks = vec![PageBlock::Question(results.sweep.question.clone())];
    blocks.extend(filed_under(results));
    answer_section(&mut blocks, results, &claims, (&tables, &keys));
    if !figures.is_empty() {
        blocks.push(PageBlock::Heading("Figures".to_owned()));
        for ((number, figure), spec) in (1..).zip(&figures).zip(&results.sweep.report.figures) {
            let label = format!("Figure {number}");
            figure_blocks(&mut blocks, figure, (&figure.name, &label), &mut said)?;
            blocks.extend(published_blocks(spec.head.published.as_deref()));
        }
    }
    blocks.push(PageBlock::Heading("Tables".to_owned()));
    for ((number, table), spec) in (1..).zip(&tables).zip(&specs) {
        let label = format!("Table {number}");
        table_blocks(&mut blocks, results, table, &label, &mut said);
        blocks.extend(published_blocks(spec.published.as_deref()));
    }
    blocks.extend(null_block(results, &specs)?);
    halving_section(&mut blocks, results);
    if !results.sweep.report.samples.is_empty() {
        blocks.push(PageBlock::Heading("Samples".to_owned()));
        for spec in &results.sweep.report.samples {
            blocks.extend(samples_blocks(results, spec)?);
        }
    }
    metrics_section(&mut blocks, &keys);
    data_section(&mut blocks, results);
    cost_section(&mut blocks, results);
    runs_section(&mut blocks, results);
    if !results.source.is_empty() {
        let code = PageBlock::Code {
            text: results.source.trim_end().to_owned(),
            language: "toml".to_owned(),
        };
        let summary = format!("The text of the sweep file of {}", results.sweep.name);
        blocks.push(PageBlock::Heading("Sweep file".to_owned()));
        blocks.push(PageBlock::Folded {
            summary,
            blocks: vec![code],
        });
    }
    let document = Document {
        title: results.sweep.name.clone(),
        blocks,
    };
    Ok(Report {
        document,
        tables,
        figures,
        claims,
    })
}

/// The sweep's tags, and what people noted of it.
fn filed_under(results: &SweepResults) -> Vec<PageBlock> {
    let mut blocks = Vec::new();
    if !results.sweep.tags.is_empty() {
        let tags = format!("Tags: {}", results.sweep.tags.join(", "));
        blocks.push(PageBlock::Paragraph(vec![Span::Text(tags)]));
    }
    let note = |note: &SweepNote| {
        let date: String = note.at.iso8601().chars().take(10).collect();
        vec![Span::Text(format!("{date}: {}", note.text))]
    };
    if !results.sweep.notes.is_empty() {
        let notes = results.sweep.notes.iter().map(note);
        blocks.push(PageBlock::List(notes.collect()));
    }
    blocks
}

/// Keys of every metric that the page speaks of.
fn metric_keys(
    results: &SweepResults,
    tables: &[SweepTable],
    claims: &[ClaimOutcome],
) -> BTreeSet<String> {
    let of_tables = tables.iter().flat_map(|t| &t.metrics).map(|m| &m.key);
    let of_claims = claims.iter().map(|c| &c.metric);
    let mut keys: BTreeSet<String> = of_tables.chain(of_claims).cloned().collect();
    for figure in &results.sweep.report.figures {
        let metrics = figure.chart.metrics().into_iter().map(|role| role.metric);
        keys.extend(metrics.filter(|key| !key.is_empty()).map(str::to_owned));
    }
    keys
}

/// A verdict on each claim; what else was compared is folded, a sentence a table.
fn answer_section(
    blocks: &mut Vec<PageBlock>,
    results: &SweepResults,
    claims: &[ClaimOutcome],
    (tables, keys): (&[SweepTable], &BTreeSet<String>),
) {
    blocks.push(PageBlock::Heading("Answer".to_owned()));
    blocks.push(paragraph(&coverage(results)));
    blocks.extend(results.sweep.unread.iter().map(|text| paragraph(text)));
    let words = |text: &String| spans(&named(text, keys));
    let claimed: Vec<_> = claims.iter().map(|c| words(&c.words())).collect();
    let exploratory = match claimed.len() {
        0 => {
            "The sweep file claims nothing beforehand: every comparison is exploratory, whatever its p-value."
        }
        1 => "Claimed in the sweep file; every other comparison is exploratory.",
        _ => {
            "Claimed in the sweep file and corrected together; every other comparison is exploratory."
        }
    };
    blocks.extend((!claimed.is_empty()).then_some(PageBlock::List(claimed)));
    blocks.push(paragraph(exploratory));
    for (number, table) in (1..).zip(tables) {
        let lines = answer(table);
        if lines.is_empty() {
            continue;
        }
        let lines: Vec<_> = lines.iter().map(words).collect();
        let verdict = named(&verdict_line(table), keys);
        let title = table.title.trim_end_matches('.');
        blocks.push(PageBlock::Folded {
            summary: format!("Table {number}. {title}: {verdict}"),
            blocks: vec![PageBlock::List(lines)],
        });
    }
}

/// The files beside a page that start with this path.
fn files(stem: &str, endings: &[(&str, &str)]) -> Vec<Link> {
    let link = |(text, ending): &(&str, &str)| Link {
        text: (*text).to_owned(),
        href: format!("{stem}.{ending}"),
    };
    endings.iter().map(link).collect()
}

/// A figure, whose files are `figures/<file>.*`, under its label (`Figure 1`, or none), and what it says in words.
pub(crate) fn figure_blocks(
    blocks: &mut Vec<PageBlock>,
    figure: &Figure,
    (file, label): (&str, &str),
    said: &mut Said,
) -> Result<(), FigureError> {
    let endings = [
        ("SVG", "svg"),
        ("PNG", "png"),
        ("numbers", "csv"),
        ("runs", "json"),
    ];
    blocks.push(PageBlock::Figure(PageFigure {
        name: file.to_owned(),
        label: label.to_owned(),
        alt: figure.title.clone(),
        caption: said.rest(&figure.caption),
        svg: draw(figure)?.svg,
        narrow: draw_narrow(figure)?.svg,
        files: files(&format!("figures/{file}"), &endings),
    }));
    if !figure.findings.is_empty() {
        let items = figure.findings.iter().map(|f| vec![Span::Text(f.clone())]);
        blocks.push(PageBlock::List(items.collect()));
    }
    Ok(())
}

/// A table under its label (`Table 1`, or none) and title: its first metrics, the others folded.
pub(crate) fn table_blocks(
    blocks: &mut Vec<PageBlock>,
    results: &SweepResults,
    table: &SweepTable,
    label: &str,
    said: &mut Said,
) {
    let mut grid = page_grid(table);
    let title = match label {
        "" => grid.title.clone(),
        label => format!("{label}. {}", grid.title),
    };
    let mut all = std::mem::take(&mut grid.notes);
    all.extend(length_notes(results, table));
    let mut new: Vec<String> = all.iter().map(|note| said.rest(note)).collect();
    let repeats = new.iter().zip(&all).any(|(new, all)| new.len() < all.len());
    new.retain(|note| !note.is_empty());
    if repeats {
        new.push("What stands under figures and tables above holds here, too.".to_owned());
    }
    let table_of = |grid: Grid, files| {
        PageBlock::Table(PageTable {
            grid,
            label: title.clone(),
            files,
        })
    };
    blocks.push(PageBlock::Subheading(title.clone()));
    let mut links = Vec::new();
    if !label.is_empty() {
        let stem = format!("tables/{}", table.name);
        links = files(&stem, &[("CSV", "csv"), ("LaTeX", "tex")]);
        links.push(Link {
            text: "runs".to_owned(),
            href: "#runs".to_owned(),
        });
    }
    let (mut first, others) = split_grid(grid, SHOWN_COLUMNS);
    first.notes = new;
    blocks.push(table_of(first, links));
    if let Some(others) = others {
        let count = table.metrics.len() - SHOWN_COLUMNS;
        blocks.push(PageBlock::Folded {
            summary: format!("{} of this table", counted(count, "other metric")),
            blocks: vec![table_of(others, Vec::new())],
        });
    }
}

/// The table as a page and a paper show it: by names of metrics instead of their keys.
pub fn page_grid(table: &SweepTable) -> Grid {
    let keys: BTreeSet<String> = table.metrics.iter().map(|m| m.key.clone()).collect();
    let mut grid = table_grid(table);
    let heads = grid.columns.iter_mut().map(|column| &mut column.head);
    for text in grid.notes.iter_mut().chain(heads) {
        *text = named(text, &keys);
    }
    grid
}

/// What length alone explains, beside every accuracy of a table.
fn length_notes(results: &SweepResults, table: &SweepTable) -> Vec<String> {
    let accuracies = table
        .metrics
        .iter()
        .filter(|m| m.key.ends_with("rewards/accuracies"));
    let note = |key: &str| {
        let set = metric_set(key);
        let value = |end| results.length_baseline(set, end);
        let (longer, shorter) = (value("longer")?, value("shorter")?);
        Some(format!(
            "Length alone on {set}: always preferring the longer reply scores {:.3}, always the shorter {:.3} (n = {}).",
            longer.value,
            shorter.value,
            counted(longer.n, "pair")
        ))
    };
    accuracies.filter_map(|m| note(&m.key)).collect()
}

/// What each metric is.
fn metrics_section(blocks: &mut Vec<PageBlock>, keys: &BTreeSet<String>) {
    let item = |key: &String| {
        let spec = metric_spec(key);
        let unit = match spec.unit {
            "" => String::new(),
            unit => format!(", {unit}"),
        };
        let better = match spec.better {
            Better::Higher => " Higher is better.",
            Better::Lower => " Lower is better.",
            Better::Neither => "",
        };
        let name = spec.name_of(key);
        spans(&format!(
            "**{name}** (`{key}`{unit}): {}{better}",
            spec.description
        ))
    };
    blocks.push(PageBlock::Heading("Metrics".to_owned()));
    blocks.push(PageBlock::List(keys.iter().map(item).collect()));
}
