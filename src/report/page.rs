//! The report of a sweep as a page.

use crate::base::counted;
use crate::config::sweep::TableSpec;
use crate::figures::{Figure, FigureError, draw};
use crate::metrics::{Better, metric_set, metric_spec};
use crate::plan::StageKind;
use crate::report::claims::{ClaimOutcome, claims};
use crate::report::compare::{SweepTable, compare, default_table};
use crate::report::doc::{Document, PageBlock, Span, paragraph, spans};
use crate::report::figures::build_figure;
use crate::report::grid::Grid;
use crate::report::published::published_blocks;
use crate::report::select::{ReportError, RunInfo, RunStatus, SweepResults};
use crate::report::summary::{answer, coverage};
use crate::report::table::{grouped, table_grid};
use crate::store::SweepNote;
use std::collections::{BTreeMap, BTreeSet};

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
    let mut blocks = vec![PageBlock::Question(results.sweep.question.clone())];
    blocks.extend(filed_under(results));
    let claims = claims(results)?;
    answer_section(&mut blocks, results, &claims, &tables);
    if !figures.is_empty() {
        blocks.push(PageBlock::Heading("Figures".to_owned()));
        for (figure, spec) in figures.iter().zip(&results.sweep.report.figures) {
            figure_blocks(&mut blocks, figure, &figure.name)?;
            blocks.extend(published_blocks(spec.head.published.as_deref()));
        }
    }
    blocks.push(PageBlock::Heading("Tables".to_owned()));
    for (table, spec) in tables.iter().zip(&specs) {
        table_blocks(&mut blocks, results, table);
        blocks.extend(published_blocks(spec.published.as_deref()));
    }
    metrics_section(&mut blocks, results, &tables);
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

/// What was claimed beforehand, a sentence each, and what all else is.
fn claim_blocks(claims: &[ClaimOutcome]) -> Vec<PageBlock> {
    if claims.is_empty() {
        return vec![paragraph(
            "The sweep file claims nothing beforehand: every comparison below is exploratory.",
        )];
    }
    vec![
        PageBlock::List(claims.iter().map(|claim| spans(&claim.words())).collect()),
        paragraph(
            "Claimed in the sweep file and corrected together; every comparison below is exploratory.",
        ),
    ]
}

fn answer_section(
    blocks: &mut Vec<PageBlock>,
    results: &SweepResults,
    claims: &[ClaimOutcome],
    tables: &[SweepTable],
) {
    blocks.push(PageBlock::Heading("Answer".to_owned()));
    blocks.push(paragraph(&coverage(results)));
    blocks.extend(results.sweep.unread.iter().map(|text| paragraph(text)));
    blocks.extend(claim_blocks(claims));
    for table in tables {
        let lines = answer(table);
        if lines.is_empty() {
            continue;
        }
        blocks.push(PageBlock::Subheading(table.title.clone()));
        blocks.push(PageBlock::List(lines.iter().map(|l| spans(l)).collect()));
    }
}

/// A figure, whose files are `figures/<file>.*`, and what it says in words.
pub(crate) fn figure_blocks(
    blocks: &mut Vec<PageBlock>,
    figure: &Figure,
    file: &str,
) -> Result<(), FigureError> {
    blocks.push(PageBlock::Figure {
        name: file.to_owned(),
        alt: figure.title.clone(),
        caption: figure.caption.clone(),
        svg: draw(figure)?.svg,
    });
    if !figure.findings.is_empty() {
        let items = figure.findings.iter().map(|f| vec![Span::Text(f.clone())]);
        blocks.push(PageBlock::List(items.collect()));
    }
    Ok(())
}

/// A table under its title.
pub(crate) fn table_blocks(
    blocks: &mut Vec<PageBlock>,
    results: &SweepResults,
    table: &SweepTable,
) {
    let mut grid = table_grid(table);
    grid.notes.extend(length_notes(results, table));
    blocks.push(PageBlock::Subheading(grid.title.clone()));
    blocks.push(PageBlock::Table(grid));
}

/// What length alone explains, beside every accuracy of a table.
fn length_notes(results: &SweepResults, table: &SweepTable) -> Vec<String> {
    let accuracies = table
        .metrics
        .iter()
        .filter(|m| m.key.ends_with("rewards/accuracies"));
    let note = |key: &str| {
        let set = metric_set(key);
        let value = |end: &str| {
            let key = format!("{set}/length_baseline/{end}");
            results
                .runs
                .values()
                .find_map(|r| r.metrics.get(&key).copied())
        };
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

fn metrics_section(blocks: &mut Vec<PageBlock>, results: &SweepResults, tables: &[SweepTable]) {
    let mut keys: BTreeSet<&str> = tables
        .iter()
        .flat_map(|t| &t.metrics)
        .map(|m| m.key.as_str())
        .collect();
    for figure in &results.sweep.report.figures {
        let metrics = figure.chart.metrics().into_iter();
        keys.extend(
            metrics
                .map(|role| role.metric)
                .filter(|key| !key.is_empty()),
        );
    }
    let row = |key: &&str| {
        let spec = metric_spec(key);
        let better = match spec.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neither => "–",
        };
        vec![
            (*key).to_owned(),
            spec.unit.to_owned(),
            better.to_owned(),
            spec.description.to_owned(),
        ]
    };
    blocks.push(PageBlock::Heading("Metrics".to_owned()));
    let items = keys.iter().map(row).map(|r| {
        let unit = if r[1].is_empty() {
            String::new()
        } else {
            format!(" ({})", r[1])
        };
        let better = if r[2] == "–" {
            String::new()
        } else {
            format!(" {} is better.", capital(&r[2]))
        };
        spans(&format!("`{}`{unit}: {}{better}", r[0], r[3]))
    });
    blocks.push(PageBlock::List(items.collect()));
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().collect::<String>() + chars.as_str()
    })
}

fn done(results: &SweepResults) -> impl Iterator<Item = &RunInfo> {
    results
        .runs
        .values()
        .filter(|r| r.status == RunStatus::Done)
}

/// What a run counted, by name.
type Counts = Vec<(String, u64)>;

/// Counts of documents, pairs and tokens, a row per distinct set of counts.
fn data_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
    let mut groups: BTreeMap<(StageKind, Counts), Vec<String>> = BTreeMap::new();
    for run in done(results).filter(|r| !r.counts.is_empty()) {
        let counts = run.counts.iter().map(|(k, v)| (k.clone(), *v)).collect();
        groups
            .entry((run.kind, counts))
            .or_default()
            .push(run.id.to_string());
    }
    let notes: BTreeSet<String> = done(results)
        .flat_map(|r| r.notes.iter().map(move |n| format!("{}: {n}", r.kind)))
        .collect();
    if groups.is_empty() && notes.is_empty() {
        return;
    }
    blocks.push(PageBlock::Heading("Data".to_owned()));
    blocks.push(paragraph(
        "What each run read, kept, cut and dropped; nothing is left out silently.",
    ));
    let kinds: BTreeSet<StageKind> = groups.keys().map(|k| k.0).collect();
    let mut folded = Vec::new();
    for kind in kinds {
        let of_kind = || groups.iter().filter(|g| g.0.0 == kind);
        let names: BTreeSet<&String> = of_kind().flat_map(|g| g.0.1.iter().map(|c| &c.0)).collect();
        let mut heads: Vec<&str> = vec!["runs|"];
        heads.extend(names.iter().map(|n| n.as_str()));
        let rows = of_kind().map(|((_, counts), runs)| {
            let more = if runs.len() > 2 {
                format!(" +{}", runs.len() - 2)
            } else {
                String::new()
            };
            let mut row = vec![format!("{}{more}", runs[..runs.len().min(2)].join(" "))];
            row.extend(names.iter().map(|n| {
                counts
                    .iter()
                    .find(|c| c.0 == **n)
                    .map_or("–".to_owned(), |c| grouped(c.1))
            }));
            row
        });
        folded.push(PageBlock::Subheading(kind.name().to_owned()));
        folded.push(PageBlock::Table(Grid::plain("", &heads, rows.collect())));
    }
    blocks.push(PageBlock::Folded {
        summary: "Counts by run".to_owned(),
        blocks: folded,
    });
    if !notes.is_empty() {
        blocks.push(PageBlock::List(notes.iter().map(|n| spans(n)).collect()));
    }
}

/// What the finished runs cost, by stage.
fn cost_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
    let mut rows = Vec::new();
    let mut total = (0usize, 0.0, 0.0);
    for &kind in StageKind::ALL {
        let usages: Vec<_> = done(results)
            .filter(|r| r.kind == kind)
            .filter_map(|r| r.usage)
            .collect();
        if usages.is_empty() {
            continue;
        }
        let (tokens, positions) = (
            usages.iter().map(|u| u.tokens).sum::<u64>(),
            usages.iter().map(|u| u.positions).sum::<u64>(),
        );
        let (wall, cpu) = (
            usages.iter().map(|u| u.wall_secs).sum::<f64>(),
            usages.iter().map(|u| u.cpu_secs).sum::<f64>(),
        );
        let peak = usages
            .iter()
            .map(|u| u.peak_memory_bytes)
            .max()
            .unwrap_or(0);
        let flops: f64 = usages.iter().map(|u| u.flops).sum();
        let padding = if positions > 0 {
            format!(
                "{:.1} %",
                100.0 * (positions.saturating_sub(tokens)) as f64 / positions as f64
            )
        } else {
            "–".to_owned()
        };
        total = (total.0 + usages.len(), total.1 + wall, total.2 + cpu);
        rows.push(vec![
            kind.name().to_owned(),
            usages.len().to_string(),
            grouped(tokens),
            padding,
            format!("{flops:.2e}"),
            format!("{wall:.1} s"),
            format!("{cpu:.1} s"),
            format!("{:.0} MiB", peak as f64 / 1_048_576.0),
        ]);
    }
    if rows.is_empty() {
        return;
    }
    blocks.push(PageBlock::Heading("Cost".to_owned()));
    let heads = [
        "stage|",
        "runs",
        "real tokens",
        "padding",
        "FLOPs (est.)",
        "wall time, summed",
        "processor time",
        "peak memory",
    ];
    let mut grid = Grid::plain("", &heads, rows);
    grid.notes.push(format!(
        "{}, {:.1} s of wall time one after another, {:.1} s of processor time.",
        counted(total.0, "run"),
        total.1,
        total.2
    ));
    blocks.push(PageBlock::Table(grid));
}

/// Every run with its seed and the trials it serves, and what executed them.
fn runs_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
    let mut serves: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for trial in &results.trials {
        for id in &trial.runs {
            serves.entry(&id.0).or_default().push(trial.index);
        }
    }
    blocks.push(PageBlock::Heading("Runs".to_owned()));
    let seeds: BTreeSet<u64> = results.trials.iter().map(|t| t.seed).collect();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    blocks.push(paragraph(&format!(
        "{} with {} {} {} {}.",
        counted(results.trials.len(), "trial"),
        if seeds.len() == 1 { "seed" } else { "seeds" },
        seeds.join(", "),
        if results.trials.len() == 1 {
            "needs"
        } else {
            "share"
        },
        counted(results.runs.len(), "run")
    )));
    blocks.push(PageBlock::List(
        provenance(results).iter().map(|l| spans(l)).collect(),
    ));
    let row = |run: &RunInfo| {
        let trials = serves.get(run.id.0.as_str()).map_or(0, Vec::len);
        let first = serves
            .get(run.id.0.as_str())
            .and_then(|t| results.trials.get(*t.first()?))
            .map_or(String::new(), |t| t.label.clone());
        let more = if trials > 1 {
            format!(" +{}", trials - 1)
        } else {
            String::new()
        };
        vec![
            run.id.to_string(),
            run.kind.name().to_owned(),
            run.seed.map_or_else(|| "–".to_owned(), |s| s.to_string()),
            run.status.word().to_owned(),
            format!("{first}{more}"),
        ]
    };
    let mut runs: Vec<&RunInfo> = results.runs.values().collect();
    runs.sort_by_key(|r| (r.kind, serves.get(r.id.0.as_str()).cloned(), r.id.clone()));
    let rows = runs.into_iter().map(row).collect();
    let grid = Grid::plain("", &["run|", "stage|", "seed", "status:", "trials:"], rows);
    blocks.push(PageBlock::Folded {
        summary: "All runs".to_owned(),
        blocks: vec![PageBlock::Table(grid)],
    });
}

/// What executed the runs: each named fact with its distinct values.
fn provenance(results: &SweepResults) -> Vec<String> {
    let mut facts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for run in done(results) {
        for (name, value) in &run.provenance {
            *facts.entry(name).or_default().entry(value).or_default() += 1;
        }
    }
    let line = |(name, values): (&str, BTreeMap<&str, usize>)| {
        let many = values.len() > 1;
        let values = values.iter().map(|(v, n)| {
            if many {
                format!("`{v}` ({})", counted(*n, "run"))
            } else {
                format!("`{v}`")
            }
        });
        format!("{name}: {}", values.collect::<Vec<_>>().join(", "))
    };
    facts.into_iter().map(line).collect()
}
