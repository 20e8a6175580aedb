//! Where a report's numbers come from: what was read, what it cost, which runs there are.

use crate::base::counted;
use crate::plan::StageKind;
use crate::report::doc::{PageBlock, paragraph, spans};
use crate::report::grid::Grid;
use crate::report::select::{RunInfo, RunStatus, SweepResults};
use crate::report::table::grouped;
use std::collections::{BTreeMap, BTreeSet};

fn done(results: &SweepResults) -> impl Iterator<Item = &RunInfo> {
    results
        .runs
        .values()
        .filter(|r| r.status == RunStatus::Done)
}

/// More notes of runs than this are folded.
const MOST_NOTES: usize = 8;

/// What a run counted, by name.
type Counts = Vec<(String, u64)>;

/// Counts of documents, pairs and tokens, a row per distinct set of counts.
pub(crate) fn data_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
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
        let grid = Grid::plain("", &heads, rows.collect());
        folded.push(PageBlock::table(
            &format!("Counts of {} runs", kind.name()),
            grid,
        ));
    }
    blocks.push(PageBlock::Folded {
        summary: "Counts by run".to_owned(),
        blocks: folded,
    });
    let mut notes: Vec<&String> = notes.iter().collect();
    notes.sort_by_key(|note| parts(note));
    let list = PageBlock::List(notes.iter().map(|n| spans(n)).collect());
    match notes.len() {
        0 => {}
        1..=MOST_NOTES => blocks.push(list),
        n => blocks.push(PageBlock::Folded {
            summary: format!("{n} notes of runs"),
            blocks: vec![list],
        }),
    }
}

/// Words and numbers of a text, so that 2 comes before 10.
fn parts(text: &str) -> Vec<(String, u64)> {
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    let part = |word: &str| {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        (word[digits.len()..].to_owned(), digits.parse().unwrap_or(0))
    };
    words.map(part).collect()
}

/// What the finished runs cost, by stage.
pub(crate) fn cost_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
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
    blocks.push(PageBlock::table("Cost by stage", grid));
}

/// Every run with its seed and the trials it serves, and what executed them.
pub(crate) fn runs_section(blocks: &mut Vec<PageBlock>, results: &SweepResults) {
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
        blocks: vec![PageBlock::table("All runs", grid)],
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
