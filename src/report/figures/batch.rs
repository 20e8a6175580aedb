//! The first batch of a DPO run in three layouts, from the lengths that the run recorded.

use crate::config::sweep::FigureSpec;
use crate::figures::{BatchChart, BatchPiece, BatchRow, Figure, Panel, Part};
use crate::metrics::Better;
use crate::plan::{RunId, StageKind};
use crate::report::select::{ReportError, SweepResults, TrialResult, short_label};
use crate::report::table::grouped;
use crate::rundir::{BatchLayout, PairLengths};

/// At most so many pairs are drawn, so that a piece is wide enough for its number; all are counted.
const DRAWN_PAIRS: usize = 6;

/// Builds the figure of the first trial that has a DPO run which recorded its first batch.
pub(super) fn build(results: &SweepResults, spec: &FigureSpec) -> Result<Figure, ReportError> {
    let mut missing = Vec::new();
    let mut found: Option<(&TrialResult, RunId, BatchLayout)> = None;
    let configurations = results.configurations(&spec.head.filter);
    for trial in configurations.iter().flat_map(|c| &c.trials) {
        let is_dpo = |id: &&RunId| {
            results
                .runs
                .get(*id)
                .is_some_and(|r| r.kind == StageKind::Dpo)
        };
        let Some(run) = trial.runs.iter().rfind(is_dpo) else {
            continue;
        };
        let layout = results.batch_layout(run)?;
        if let Some(layout) = layout.filter(|l| !l.pairs.is_empty()) {
            found = Some((trial, run.clone(), layout));
            break;
        }
        if missing.is_empty() {
            let why = results.why_missing(trial);
            let label = short_label(&trial.assignments, &results.varying_axes(&configurations));
            missing.push(if why.word == "not measured" {
                format!("{label}: dpo run {run} recorded no batch")
            } else {
                format!("{label}, seed {}: {}", trial.seed, why.text)
            });
        }
    }
    let mut figure = Figure {
        name: spec.head.name.clone(),
        title: spec.head.title.clone(),
        note: "Nothing to draw yet.".to_owned(),
        findings: Vec::new(),
        missing,
        caption: spec.head.caption.clone(),
        panels: vec![panel("", &[], 1, String::new())],
        columns: 1,
        runs: Vec::new(),
    };
    let Some((trial, run, layout)) = found else {
        if figure.missing.is_empty() {
            let none = "no trial of this figure has a dpo run".to_owned();
            figure.missing.push(none);
        }
        return Ok(figure);
    };
    let label = short_label(&trial.assignments, &results.varying_axes(&configurations));
    let (all, drawn) = (layout.pairs.len(), layout.pairs.len().min(DRAWN_PAIRS));
    figure.note = format!(
        "The {all} preference pairs of the first step of dpo run {run} ({label}, seed {}), the first {drawn} of them drawn to scale; \
         counts are of all {all}. Numbers are those of the pairs. In (b) and (c) all sequences are one row in memory, wrapped here.",
        trial.seed
    );
    figure.missing.clear();
    figure.panels = panels(&layout);
    figure.runs = vec![run.to_string()];
    Ok(figure)
}

fn panel(title: &str, rows: &[BatchRow], width: usize, note: String) -> Panel {
    Panel {
        title: title.to_owned(),
        x_label: "position in the row (tokens)".to_owned(),
        y_label: String::new(),
        better: Better::Neither,
        decimals: 0,
        note,
        levels: Vec::new(),
        chart: Box::new(BatchChart {
            rows: rows.to_vec(),
            width,
        }),
    }
}

/// Padded, without padding, and with shared prompts.
fn panels(layout: &BatchLayout) -> Vec<Panel> {
    let width = layout.longest();
    let drawn = &layout.pairs[..layout.pairs.len().min(DRAWN_PAIRS)];
    let (padded, flat, shared) = (layout.padded(), layout.flat(), layout.shared());
    let count = |n: usize| grouped(n as u64);
    let fewer = |now: usize, then: usize| {
        let share = 100.0 * (then.saturating_sub(now)) as f64 / then.max(1) as f64;
        format!("{share:.1} % fewer")
    };
    vec![
        panel(
            "(a) Padded: every sequence filled up to the longest of the batch",
            &padded_rows(drawn, width),
            width,
            format!(
                "{} positions computed, {} of them padding ({:.1} %).",
                count(padded),
                count(padded - flat),
                100.0 * (padded - flat) as f64 / padded.max(1) as f64
            ),
        ),
        panel(
            "(b) Padding-free: the sequences follow each other, attention stays within each",
            &wrapped(sequences(drawn), width),
            width,
            format!(
                "{} positions computed, {} than (a).",
                count(flat),
                fewer(flat, padded)
            ),
        ),
        panel(
            "(c) Shared prompts: each prompt once, then both of its replies",
            &wrapped(shared_prompts(drawn), width),
            width,
            format!(
                "{} positions computed, {} than (a) and {} than (b).",
                count(shared),
                fewer(shared, padded),
                fewer(shared, flat)
            ),
        ),
    ]
}

/// The two sequences of each pair, numbered from 1.
fn pieces_of(pair: usize, lengths: &PairLengths) -> [[BatchPiece; 2]; 2] {
    let piece = |tokens, part| BatchPiece { tokens, part, pair };
    let prompt = piece(lengths.prompt, Part::Prompt);
    [
        [prompt, piece(lengths.chosen, Part::Chosen)],
        [prompt, piece(lengths.rejected, Part::Rejected)],
    ]
}

fn padded_rows(pairs: &[PairLengths], width: usize) -> Vec<BatchRow> {
    let mut rows = Vec::new();
    for (pair, lengths) in (1..).zip(pairs) {
        for (pieces, name) in pieces_of(pair, lengths)
            .into_iter()
            .zip(["chosen", "rejected"])
        {
            let used: usize = pieces.iter().map(|p| p.tokens).sum();
            let mut pieces = pieces.to_vec();
            if used < width {
                pieces.push(BatchPiece {
                    tokens: width - used,
                    part: Part::Padding,
                    pair,
                });
            }
            rows.push(BatchRow {
                name: format!("{pair} {name}"),
                pieces,
            });
        }
    }
    rows
}

fn sequences(pairs: &[PairLengths]) -> Vec<BatchPiece> {
    let all = (1..).zip(pairs).flat_map(|(pair, l)| pieces_of(pair, l));
    all.flatten().collect()
}

fn shared_prompts(pairs: &[PairLengths]) -> Vec<BatchPiece> {
    let once = |(pair, lengths): (usize, &PairLengths)| {
        let [[prompt, chosen], [_, rejected]] = pieces_of(pair, lengths);
        [prompt, chosen, rejected]
    };
    (1..).zip(pairs).flat_map(once).collect()
}

/// One long row cut into rows of `width` positions.
fn wrapped(pieces: Vec<BatchPiece>, width: usize) -> Vec<BatchRow> {
    let width = width.max(1);
    let mut rows: Vec<Vec<BatchPiece>> = vec![Vec::new()];
    let mut room = width;
    for mut piece in pieces.into_iter().filter(|p| p.tokens > 0) {
        while piece.tokens > 0 {
            if room == 0 {
                rows.push(Vec::new());
                room = width;
            }
            let part = piece.tokens.min(room);
            if let Some(row) = rows.last_mut() {
                row.push(BatchPiece {
                    tokens: part,
                    ..piece
                });
            }
            piece.tokens -= part;
            room -= part;
        }
    }
    let row = |pieces| BatchRow {
        name: String::new(),
        pieces,
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [PairLengths; 2] = [
        PairLengths {
            prompt: 5,
            chosen: 2,
            rejected: 7,
        },
        PairLengths {
            prompt: 3,
            chosen: 3,
            rejected: 4,
        },
    ];

    fn tokens(rows: &[BatchRow]) -> Vec<usize> {
        rows.iter()
            .map(|r| r.pieces.iter().map(|p| p.tokens).sum())
            .collect()
    }

    #[test]
    fn drawn_positions_are_those_that_are_counted() {
        let layout = BatchLayout {
            pairs: PAIRS.to_vec(),
        };
        assert_eq!(tokens(&padded_rows(&PAIRS, 12)), [12; 4]);
        assert_eq!(tokens(&wrapped(sequences(&PAIRS), 12)), [12, 12, 8]);
        assert_eq!(tokens(&wrapped(shared_prompts(&PAIRS), 12)), [12, 12]);
        let sum = |pieces: Vec<BatchPiece>| pieces.iter().map(|p| p.tokens).sum::<usize>();
        assert_eq!(sum(sequences(&PAIRS)), layout.flat());
        assert_eq!(sum(shared_prompts(&PAIRS)), layout.shared());
    }

    // 48 positions, 32 real: 33.3 % are padding; 24 with shared prompts, half of 48.
    #[test]
    fn the_saved_share_is_written() {
        let panels = panels(&BatchLayout {
            pairs: PAIRS.to_vec(),
        });
        assert_eq!(
            panels[0].note,
            "48 positions computed, 16 of them padding (33.3 %)."
        );
        assert_eq!(
            panels[1].note,
            "32 positions computed, 33.3 % fewer than (a)."
        );
        assert_eq!(
            panels[2].note,
            "24 positions computed, 50.0 % fewer than (a) and 25.0 % fewer than (b)."
        );
    }
}
