//! What holds for tables and pages.

use crate::config::sweep::{
    BarOrder, BarsSpec, ChartSpec, ClaimDirection, ClaimSpec, DifferencesSpec, FigureHead,
    FigureSpec, Measured, SamplesSpec, ScalingSpec, TableSpec, TrainingSpec,
};
use crate::figures::{BarChart, ScalingChart};
use crate::metrics::{Method, Verdict};
use crate::plan::RunId;
use crate::report::claims::ClaimVerdict;
use crate::report::fixtures_tests::results;
use crate::report::select::{Details, SampleText, SweepResults};
use crate::report::{
    Replication, build_figure, build_index, build_paper, claims, compare, default_table,
    grid_latex, grid_markdown, grid_text, index_entry, page_grid, table_csv, table_grid,
    table_json, write_paper, write_report,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

fn sft(results: &SweepResults) -> TableSpec {
    results.sweep.report.tables[0].clone()
}

#[test]
fn a_table_has_one_row_a_configuration_and_only_the_axes_that_differ() {
    let results = results();
    let table = compare(&results, &sft(&results)).unwrap();
    assert_eq!(table.axes, ["batching", "loss-mask"]);
    assert_eq!(table.rows.len(), 6);
    assert_eq!(table.rows[0].baseline, Some(0));
    assert!(table.rows[1..].iter().all(|r| r.baseline == Some(0)));
}

#[test]
fn a_comparison_pairs_seeds_and_rows_and_is_corrected_over_its_column() {
    let results = results();
    let table = compare(&results, &sft(&results)).unwrap();
    let concat = table.rows[2].cells[0].comparison.as_ref().unwrap();
    assert!(
        matches!(
            concat.method,
            Method::SeedsAndRows {
                seeds: 3,
                rows: 120,
                clusters: 120,
                ..
            }
        ),
        "{:?}",
        concat.method
    );
    assert_eq!(table.metrics[0].family, 5);
    assert!(concat.p_family > concat.p);
    assert!(concat.fixed_rows.is_some());
    // The failed seed of concat × all-tokens leaves two pairs.
    let partial = table.rows[3].cells[0].comparison.as_ref().unwrap();
    assert!(matches!(
        partial.method,
        Method::SeedsAndRows { seeds: 2, .. }
    ));
    assert_eq!(table.rows[3].cells[0].missing[0].1, "failed");
}

#[test]
fn no_interval_contradicts_its_word() {
    let results = results();
    for spec in &results.sweep.report.tables {
        let table = compare(&results, spec).unwrap();
        for (metric, cell) in table
            .rows
            .iter()
            .flat_map(|r| table.metrics.iter().zip(&r.cells))
        {
            let Some((c, interval)) = cell
                .comparison
                .as_ref()
                .and_then(|c| Some((c, c.interval?)))
            else {
                continue;
            };
            let open = matches!(
                c.verdict(metric.better),
                Verdict::Unresolved | Verdict::Equivalent
            );
            assert_eq!(open, interval.holds_zero(), "{c:?}");
            assert_eq!(open, c.p_family.unwrap() >= 0.05, "{c:?}");
        }
    }
}

#[test]
fn a_claim_over_several_cells_is_the_mean_of_their_differences() {
    let mut results = results();
    let claim = |direction, metric: &str| ClaimSpec {
        statement: "More pairs help".to_owned(),
        metric: metric.to_owned(),
        filter: [("stage".to_owned(), json!("dpo"))].into(),
        ours: [("pairs".to_owned(), json!(440))].into(),
        baseline: [("pairs".to_owned(), json!(110))].into(),
        direction,
        delta: None,
    };
    results.sweep.report.claims = vec![
        claim(ClaimDirection::Higher, "polite/prob_margin"),
        claim(ClaimDirection::Lower, "polite/prob_margin"),
        claim(ClaimDirection::Higher, "polite/length_baseline/longer"),
    ];
    for (at, run) in results.runs.values_mut().enumerate() {
        if let Some(margin) = run.metrics.get_mut("polite/prob_margin") {
            margin.value += 0.002 * ((at * 37 % 11) as f64 / 11.0 - 0.5);
        }
    }
    let found = claims(&results).unwrap();
    let verdicts: Vec<_> = found.iter().map(|c| c.verdict).collect();
    assert_eq!(
        verdicts,
        [
            ClaimVerdict::Supported,
            ClaimVerdict::Contradicted,
            ClaimVerdict::Untested
        ]
    );
    assert!(found.iter().all(|c| c.pairs == 3));
    // 0.3 of what β adds to the reach, its mean over the three β; noise of 0.002.
    let reach = |beta: f64| 0.05 * (1.0 - beta.ln() / 5.0);
    let want = 0.3 * [0.01, 0.1, 0.5].map(reach).iter().sum::<f64>() / 3.0;
    let difference = found[0].comparison.as_ref().unwrap().difference;
    assert!((difference / want - 1.0).abs() < 0.1, "{difference} {want}");
    assert!(
        found[0].words().contains("(Holm over 2 claims)"),
        "{}",
        found[0].words()
    );
    let page = crate::report::build_report(&results).unwrap().document;
    let page = crate::report::markdown::document_markdown(&page);
    let (claimed, table) = (
        page.find("More pairs help: **supported**"),
        page.find("## Tables"),
    );
    assert!(claimed.unwrap() < table.unwrap());
}

#[test]
fn constants_have_no_interval_mark_or_test() {
    let results = results();
    let spec = TableSpec {
        metrics: vec![
            "polite/length_baseline/longer".to_owned(),
            "training/flops".to_owned(),
        ],
        ..results.sweep.report.tables[1].clone()
    };
    let table = compare(&results, &spec).unwrap();
    let mut cells = table.rows.iter().flat_map(|r| &r.cells);
    assert!(cells.all(|c| c.interval.is_none() && !c.best));
    let mut compared = table
        .rows
        .iter()
        .flat_map(|r| &r.cells)
        .filter_map(|c| c.comparison.as_ref());
    assert!(compared.all(|c| matches!(c.method, Method::Untested { .. }) && c.p.is_none()));
    let notes = table_grid(&table).notes.join("\n");
    assert!(notes.contains("The same at every seed"), "{notes}");
}

#[test]
fn a_caption_says_what_a_seed_repeats() {
    let results = results();
    let of = |results: &SweepResults, table: usize| {
        compare(results, &results.sweep.report.tables[table])
            .unwrap()
            .replication
    };
    assert_eq!(of(&results, 0), Replication::Pipeline);
    // All its DPO runs begin at one SFT run.
    assert_eq!(
        of(&results, 1),
        Replication::From {
            shared: crate::plan::StageKind::Sft
        }
    );
}

#[test]
fn without_rows_seeds_alone_are_compared() {
    let results = results();
    let table = compare(&results, &results.sweep.report.tables[1]).unwrap();
    let methods: Vec<_> = table
        .rows
        .iter()
        .filter_map(|r| Some(r.cells[0].comparison.clone()?.method))
        .collect();
    assert_eq!(methods.len(), 5);
    let seeds = |m: &Method| matches!(m, Method::Seeds { seeds: 3, .. } | Method::Untested { .. });
    assert!(methods.iter().all(seeds), "{methods:?}");
}

#[test]
fn a_baseline_that_names_one_axis_compares_like_with_like() {
    let results = results();
    let spec = TableSpec {
        baseline: [("batching".to_owned(), json!("padded"))].into(),
        ..sft(&results)
    };
    let table = compare(&results, &spec).unwrap();
    let baselines: Vec<_> = table.rows.iter().map(|r| r.baseline).collect();
    assert_eq!(
        baselines,
        [Some(0), Some(1), Some(0), Some(1), Some(0), Some(1)]
    );
}

#[test]
fn seeds_that_share_a_run_count_once() {
    let mut results = results();
    let shared = results.trials[0].eval.clone();
    for trial in &mut results.trials[..3] {
        trial.eval = shared.clone();
    }
    let table = compare(&results, &sft(&results)).unwrap();
    let cell = &table.rows[0].cells[0];
    // One run is no sample of seeds, but its rows are one of rows.
    assert_eq!(cell.seeds.len(), 1);
    assert!(cell.interval.is_some());
}

#[test]
fn the_text_table_is_aligned_and_says_what_the_numbers_are() {
    let results = results();
    let text = grid_text(
        &table_grid(&compare(&results, &sft(&results)).unwrap()),
        false,
        None,
    );
    insta::assert_snapshot!(text);
}

#[test]
fn seeds_that_lack_a_metric_for_one_reason_are_named_together() {
    let results = results();
    let spec = TableSpec {
        metrics: vec!["nothing/loss".to_owned()],
        ..sft(&results)
    };
    let text = grid_text(&table_grid(&compare(&results, &spec).unwrap()), false, None);
    let gap = text
        .lines()
        .find(|line| line.starts_with("Missing: "))
        .unwrap();
    let named = "seeds 1, 2, 3: the evaluation has no such metric";
    assert_eq!(text.matches("no such metric").count(), 1, "{gap}");
    assert!(gap.contains(named), "{gap}");
}

#[test]
fn the_markdown_table_marks_the_best_and_keeps_its_columns() {
    let results = results();
    let text = grid_markdown(&table_grid(
        &compare(&results, &results.sweep.report.tables[1]).unwrap(),
    ));
    insta::assert_snapshot!(text);
}

#[test]
fn latex_escapes_everything_that_would_mean_something() {
    let results = results();
    let table = compare(&results, &results.sweep.report.tables[1]).unwrap();
    let text = grid_latex(&page_grid(&table), "sample-dpo");
    assert!(text.contains("\\toprule") && text.contains("\\textbf{"));
    assert!(text.contains("\\shortstack[r]{probability margin\\\\on polite $\\uparrow$}"));
    assert!(text.contains("\\label{tab:sample-dpo}") && text.contains("\\label{tab:sample-dpo-2}"));
    assert_eq!(text.matches("\\begin{table}").count(), 2);
    assert!(text.is_ascii(), "{text}");
    let mut strange = page_grid(&table);
    strange.rows[0][0].text = "大 ș 大".to_owned();
    let text = grid_latex(&strange, "strange");
    assert!(
        text.contains("% pdfLaTeX knows no ș 大: use LuaLaTeX"),
        "{text}"
    );
    assert_eq!(
        crate::report::latex::latex_escape("50% of a_b & {c}\\d ~ β"),
        "50\\% of a\\_b \\& \\{c\\}\\textbackslash{}d \\textasciitilde{} $\\beta$"
    );
}

#[test]
fn csv_and_json_hold_the_exact_numbers_and_the_runs() {
    let results = results();
    let table = compare(&results, &sft(&results)).unwrap();
    let csv = table_csv(&table);
    assert_eq!(csv.lines().count(), 1 + 6 * 2);
    let cell = &table.rows[0].cells[0];
    assert!(csv.contains(&cell.estimate.unwrap().value.to_string()));
    assert!(csv.contains(cell.seeds[0].2.short()));
    let json = table_json(&table);
    assert_eq!(json["rows"][2]["results"][0]["verdict"], "better");
    assert_eq!(
        json["rows"][3]["results"][0]["missing"][0]["status"],
        "failed"
    );
}

#[test]
fn a_sweep_without_tables_gets_one_of_every_judged_metric() {
    let mut results = results();
    results.sweep.report.tables.clear();
    let spec = default_table(&results);
    assert!(spec.metrics.contains(&"instruct/loss".to_owned()));
    assert!(!spec.metrics.iter().any(|m| m.contains("length_baseline")));
    // What only training measured (a monitor, its own loss) would be an empty column.
    let training = |m: &String| !m.contains('/') || m.starts_with("eval_");
    assert!(!spec.metrics.iter().any(training), "{:?}", spec.metrics);
    let table = compare(&results, &spec).unwrap();
    assert_eq!(table.rows.len(), 12);
}

#[test]
fn a_figure_has_all_runs_and_names_the_missing_one() {
    let results = results();
    let figure = build_figure(&results, &results.sweep.report.figures[0]).unwrap();
    assert_eq!(figure.runs.len(), 17);
    assert_eq!(figure.missing.len(), 1);
    assert!(
        figure.missing[0].starts_with("batching=concat loss-mask=all-tokens, seed 2: sft run"),
        "{}",
        figure.missing[0]
    );
    let panels = |k: usize| {
        build_figure(&results, &results.sweep.report.figures[k])
            .unwrap()
            .panels
            .len()
    };
    // `pairs` is neither x nor series of the training figure, so it makes panels.
    assert_eq!((panels(1), panels(2)), (1, 2));
}

#[test]
fn a_figure_over_words_is_refused_with_the_word() {
    let results = results();
    let mut spec = results.sweep.report.figures[1].clone();
    let ChartSpec::Lines(lines) = &mut spec.chart else {
        panic!("{:?}", spec.chart);
    };
    lines.x = "stage".to_owned();
    let error = build_figure(&results, &spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        "figure `beta` draws lines over `stage`, whose value `dpo` is not a number"
    );
    let ChartSpec::Lines(lines) = &mut spec.chart else {
        panic!("{:?}", spec.chart);
    };
    lines.x = "gamma".to_owned();
    assert_eq!(
        build_figure(&results, &spec).unwrap_err().to_string(),
        "figure `beta` asks for axis `gamma`, which the sweep does not have"
    );
}

/// A figure over the DPO part of the sample.
fn dpo_figure(name: &str, chart: ChartSpec) -> FigureSpec {
    FigureSpec {
        head: FigureHead {
            name: name.to_owned(),
            title: "A figure".to_owned(),
            filter: [("stage".to_owned(), json!("dpo"))].into(),
            ..FigureHead::default()
        },
        chart,
    }
}

fn measured(metric: &str) -> Measured {
    Measured {
        metric: metric.to_owned(),
        ..Measured::default()
    }
}

/// Accuracy over compute, a series for each number of pairs.
fn scaling(x_metric: &str) -> ChartSpec {
    ChartSpec::Scaling(ScalingSpec {
        measured: Measured {
            series: Some("pairs".to_owned()),
            ..measured(ACCURACY)
        },
        x_metric: x_metric.to_owned(),
        log_x: true,
    })
}

/// The margin along training, a panel for each β with these scores below.
fn margins(under: &[&str]) -> ChartSpec {
    ChartSpec::Training(TrainingSpec {
        measured: Measured {
            panels: Some("beta".to_owned()),
            ..measured("eval_polite_test/prob_margin")
        },
        under: under.iter().map(|key| (*key).to_owned()).collect(),
        ..TrainingSpec::default()
    })
}

/// Accuracy, the best first, with β 0.1 and 440 pairs as a line.
fn sorted(x: Option<&str>) -> ChartSpec {
    ChartSpec::Bars(BarsSpec {
        measured: measured(ACCURACY),
        x: x.map(str::to_owned),
        order: Some(BarOrder::Value),
        reference: [
            ("beta".to_owned(), json!(0.1)),
            ("pairs".to_owned(), json!(440)),
        ]
        .into(),
    })
}

/// Only the trials with this many pairs.
fn with_pairs(mut spec: FigureSpec, pairs: u64) -> FigureSpec {
    spec.head.filter.insert("pairs".to_owned(), json!(pairs));
    spec
}

const ACCURACY: &str = "polite/rewards/accuracies";

#[test]
fn lines_say_which_setting_is_best_and_what_is_not_clearly_worse() {
    let results = results();
    let figure = build_figure(&results, &results.sweep.report.figures[1]).unwrap();
    assert_eq!(
        figure.findings,
        [
            "pairs = 110: best beta: 0.1, 0.851 [0.832, 0.867].",
            "pairs = 440: best beta: 0.1, 0.901 [0.882, 0.917].",
        ]
    );
}

#[test]
fn a_scaling_figure_has_a_point_a_configuration_and_names_what_has_no_compute() {
    let results = results();
    let spec = dpo_figure("figure", scaling("training/flops"));
    let figure = build_figure(&results, &spec).unwrap();
    let curves = &figure.panels[0].chart::<ScalingChart>().unwrap().curves;
    assert_eq!(figure.panels.len(), 1);
    assert_eq!(curves.len(), 2);
    assert!(
        curves
            .iter()
            .all(|c| c.series.points.len() == 3 && c.fit.is_some())
    );
    // beta 0.01, 0.1, 0.5 cost 1, 2 and 4 units; the best is in the middle.
    assert!(
        figure.findings[0].starts_with("pairs = 110: no turn within the data is shown"),
        "{:?}",
        figure.findings
    );
    assert_eq!(
        figure.panels[0].x_label,
        "training compute (FLOPs), log scale"
    );
    let seeds = &curves[0].series.points[0].seeds;
    assert!(seeds.iter().all(|s| s.x.is_some()));

    let bare = dpo_figure("figure", scaling("training/steps"));
    let figure = build_figure(&results, &bare).unwrap();
    assert!(
        figure.missing[0].contains(
            "beta=0.01 pairs=110, seed 1: the evaluation has no such metric (`training/steps`)"
        ),
        "{:?}",
        figure.missing
    );
}

#[test]
fn bars_are_sorted_and_the_reference_is_a_line_not_a_bar() {
    let results = results();
    let spec = with_pairs(dpo_figure("figure", sorted(Some("beta"))), 110);
    let figure = build_figure(&results, &spec).unwrap();
    let BarChart {
        categories,
        series,
        reference,
        ..
    } = figure.panels[0].chart::<BarChart>().unwrap();
    // 0.01 and 0.5 are equal and keep their order.
    assert_eq!(categories, &["0.1", "0.01", "0.5"]);
    let means: Vec<f64> = series[0]
        .points
        .iter()
        .map(|p| p.estimate.unwrap().value)
        .collect();
    assert!(means.windows(2).all(|w| w[0] >= w[1]), "{means:?}");
    let reference = reference.as_ref().unwrap();
    assert_eq!(reference.name, "beta = 0.1, pairs = 440");
    assert!((reference.point.estimate.unwrap().value - 0.9006).abs() < 1e-3);
    assert_eq!(figure.runs.len(), 12);
    // Without `where` it would be one of the bars; it is left out.
    let spec = dpo_figure("figure", sorted(None));
    let figure = build_figure(&results, &spec).unwrap();
    let chart = figure.panels[0].chart::<BarChart>().unwrap();
    assert_eq!(chart.categories.len(), 5);
}

// Accuracy 0.85, 0.858, 0.844 at β 0.1 and 0.01 less at the others, at every seed; 0.05 more with 440
// pairs. Equal differences leave no spread.
#[test]
fn differences_are_paired_by_seed_and_stand_around_zero() {
    let results = results();
    let chart = ChartSpec::Differences(DifferencesSpec {
        measured: measured(ACCURACY),
        baseline: [
            ("beta".to_owned(), json!(0.1)),
            ("pairs".to_owned(), json!(110)),
        ]
        .into(),
    });
    let figure = build_figure(&results, &dpo_figure("figure", chart)).unwrap();
    let chart = figure.panels[0].chart::<BarChart>().unwrap();
    assert_eq!(chart.categories.len(), 5);
    assert!(!chart.categories.contains(&"beta=0.1 pairs=110".to_owned()));
    let point = |name: &str| {
        let at = chart.categories.iter().position(|c| c == name).unwrap();
        &chart.series[0].points[at]
    };
    let more = point("beta=0.1 pairs=440");
    let estimate = more.estimate.unwrap();
    assert!((estimate.value - 0.05).abs() < 1e-12 && estimate.n == 3);
    // Without any spread there is nothing to say how sure it is.
    assert_eq!(more.interval, None);
    let weaker = point("beta=0.5 pairs=110").estimate.unwrap();
    assert!((weaker.value + 0.01).abs() < 1e-12);
    let line = chart.reference.as_ref().unwrap();
    assert_eq!(line.name, "baseline, beta = 0.1, pairs = 110");
    assert_eq!(figure.runs.len(), 18);
    assert_eq!(
        figure.panels[0].y_label,
        "difference in polite: preference accuracy (share of pairs)"
    );
    assert!(
        figure
            .note
            .ends_with("Differences are paired by seed and by row. Dashed: none.")
    );
    assert!(crate::figures::draw(&figure).is_ok());
}

#[test]
fn panels_stand_in_one_row_with_final_scores_under_each() {
    let results = results();
    let chart = margins(&[ACCURACY, "polite/prob_margin"]);
    let spec = with_pairs(dpo_figure("figure", chart), 440);
    let figure = build_figure(&results, &spec).unwrap();
    assert_eq!((figure.panels.len(), figure.columns), (3, 3));
    assert_eq!(figure.panels[1].title, "beta = 0.1");
    // Seeds 0.900, 0.908, 0.894: half-width 4.303 · 0.00702 / √3 = 0.01745.
    assert_eq!(
        figure.panels[1].note.lines().next(),
        Some("preference accuracy on polite 0.901 ± 0.017")
    );
    assert_eq!(figure.panels[1].note.lines().count(), 2);
    assert!(
        figure.findings[0].starts_with("beta = 0.01: highest mean 0."),
        "{:?}",
        figure.findings
    );
    assert!(crate::figures::draw(&figure).is_ok());
}

#[test]
fn a_layout_figure_shows_a_real_batch_and_names_its_run() {
    let mut results = results();
    let spec = dpo_figure("figure", ChartSpec::Layout);
    let figure = build_figure(&results, &spec).unwrap();
    assert_eq!(figure.panels.len(), 3);
    assert_eq!(figure.runs.len(), 1);
    assert!(
        figure.note.contains(&format!("dpo run {}", figure.runs[0])),
        "{}",
        figure.note
    );
    assert!(figure.note.starts_with("The 8 preference pairs"));
    let drawing = crate::figures::draw(&figure).unwrap();
    for (i, a) in drawing.texts.iter().enumerate() {
        assert!(
            drawing.texts[i + 1..].iter().all(|b| !a.overlaps(b)),
            "{a:?}"
        );
    }
    let Details::Memory { batches, .. } = &mut results.details else {
        panic!("the sample is in memory");
    };
    batches.clear();
    let figure = build_figure(&results, &spec).unwrap();
    assert!(
        figure.missing[0].ends_with("recorded no batch"),
        "{:?}",
        figure.missing
    );
    assert!(crate::figures::draw(&figure).is_ok());
}

#[test]
fn the_paper_page_names_sweep_runs_gaps_and_what_is_published() {
    let mut results = results();
    results.sweep.report.figures[1].head.paper = Some("Figure 2".to_owned());
    results.sweep.report.tables[0].published = Some("final-gemma".to_owned());
    let report = build_paper(std::slice::from_ref(&results)).unwrap();
    assert_eq!(report.figures.len(), 1);
    assert_eq!(report.figures[0].name, "figure-2-sample-beta");
    let page = crate::report::markdown::document_markdown(&report.document);
    let section = |label: &str| {
        page.split(&format!("## {label}\n"))
            .nth(1)
            .unwrap()
            .split("\n## ")
            .next()
            .unwrap()
    };
    assert!(section("Figure 1").contains("no sweep in the store has a figure"));
    assert!(section("Figure 2").contains("Runs (18)</summary>"));
    assert!(section("Figure 2").contains("The best β is about the same at every dataset size."));
    let order = [
        "Figure 1",
        "Figure 2",
        "Figure 3",
        "Figure 4",
        "Figure A1",
        "Tables",
    ];
    let at = order.map(|label| page.find(&format!("## {label}\n")).unwrap());
    assert!(at.is_sorted(), "{at:?}");
    assert!(section("Tables").contains("| LION-Gemma-2b-odpo-v1.0 |"));
    assert!(
        section("Tables").contains("published = \"final-llama3\""),
        "{}",
        section("Tables")
    );
}

/// The files stay in `target/paper-sample`, for a person to look at.
#[test]
fn the_papers_figures_are_the_same_bytes_twice() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/paper-sample");
    let mut results = results();
    let of_paper = |label: &str, mut spec: FigureSpec| {
        spec.head.paper = Some(label.to_owned());
        spec
    };
    let mut margin = with_pairs(dpo_figure("margins", margins(&[ACCURACY])), 440);
    margin.head.published = Some("figure-4".to_owned());
    results.sweep.report.figures = vec![
        of_paper("Figure 1", dpo_figure("compute", scaling("training/flops"))),
        of_paper("Figure 4", margin),
        of_paper("Figure A1", dpo_figure("layout", ChartSpec::Layout)),
    ];
    let read = || {
        let paths = write_paper(std::slice::from_ref(&results), &folder).unwrap();
        paths
            .into_iter()
            .map(|p| (p.clone(), std::fs::read(p).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let first = read();
    assert_eq!(first.len(), 2 + 3 * 4);
    assert_eq!(first, read());
}

#[test]
fn a_baseline_that_is_one_run_for_all_seeds_is_said() {
    let mut results = results();
    let shared = results.trials[0].eval.clone();
    for trial in &mut results.trials[..3] {
        trial.eval = shared.clone();
    }
    let notes = table_grid(&compare(&results, &sft(&results)).unwrap()).notes;
    let said = notes.iter().filter(|n| {
        n.starts_with(
            "The baseline batching=padded loss-mask=assistant-only is one run for all seeds",
        )
    });
    assert_eq!(said.count(), 1, "{notes:?}");
}

// `stage` is not named, and the rows of `extra` have no counterpart with that axis.
#[test]
fn a_baseline_is_found_by_what_it_names() {
    let mut results = results();
    for trial in results.trials.iter_mut().take(18).skip(3) {
        trial.assignments.insert("extra".to_owned(), json!(1));
    }
    let spec = TableSpec {
        baseline: [
            ("batching".to_owned(), json!("padded")),
            ("loss-mask".to_owned(), json!("assistant-only")),
        ]
        .into(),
        ..sft(&results)
    };
    let table = compare(&results, &spec).unwrap();
    assert!(table.rows.iter().all(|r| r.baseline == Some(0)));
}

/// The files stay in `target/report-sample`, for a person to look at.
#[test]
fn a_report_is_the_same_bytes_twice() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report-sample");
    let read = || {
        let paths = write_report(&results(), &folder).unwrap();
        paths
            .into_iter()
            .map(|p| (p.clone(), std::fs::read(p).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let first = read();
    assert_eq!(first.len(), 2 + 2 * 2 + 3 * 4);
    assert_eq!(first, read());
}

#[test]
fn a_report_that_could_not_be_written_whole_has_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    crate::base::write_atomic(&at("figures"), b"no folder").unwrap();
    write_report(&results(), folder.path()).unwrap_err();
    assert!(at("report.md").is_file() && at("tables").is_dir());
    assert!(!at("index.html").exists());
}

/// Digests of every file of a report; those of a figure are drawn from what the store holds. A change
/// here is a change of every committed report: look at `target/report-sample` before accepting it.
#[test]
fn every_file_of_a_report_has_the_committed_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = results();
    let mut nothing = dpo_figure(
        "nothing",
        ChartSpec::Bars(BarsSpec {
            measured: measured(ACCURACY),
            ..BarsSpec::default()
        }),
    );
    nothing.head.filter = [("stage".to_owned(), json!("other"))].into();
    results.sweep.report.figures.extend([
        dpo_figure("compute", scaling("training/flops")),
        dpo_figure("scores", margins(&[ACCURACY, "polite/prob_margin"])),
        dpo_figure("sorted", sorted(None)),
        dpo_figure("layout", ChartSpec::Layout),
        nothing,
    ]);
    let mut lines = String::new();
    for path in write_report(&results, folder.path()).unwrap() {
        let digest = crate::base::digest_file(&path).unwrap();
        let name = path.strip_prefix(folder.path()).unwrap().display();
        lines += &format!("{name}: {}\n", &digest.0[..12]);
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn the_page_is_well_formed_and_needs_no_other_file() {
    let report = crate::report::build_report(&results()).unwrap();
    let html = crate::report::html::document_html(&report.document);
    assert_eq!(unbalanced_tag(&html), None);
    for reach in [
        "http://", "https://", "src=\"", "@import", "<script", "<link",
    ] {
        let outside = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains(reach), "{reach}");
    }
    // What it refers to is a place on it, or a file that is written beside it.
    let folder = tempfile::tempdir().unwrap();
    write_report(&results(), folder.path()).unwrap();
    let links: Vec<&str> = html.split("href=\"").skip(1).collect();
    assert!(links.len() > 20);
    for link in links {
        let link = link.split('"').next().unwrap();
        match link.strip_prefix('#') {
            Some(place) => assert_eq!(
                html.matches(&format!(" id=\"{place}\"")).count(),
                1,
                "{link}"
            ),
            None => assert!(folder.path().join(link).is_file(), "{link}"),
        }
    }
}

#[test]
fn figures_and_tables_are_numbered_and_readers_of_all_kinds_get_at_them() {
    let report = crate::report::build_report(&results()).unwrap();
    let html = crate::report::html::document_html(&report.document);
    for number in 1..=3 {
        assert_eq!(
            html.matches(&format!("<strong>Figure {number}.</strong>"))
                .count(),
            1
        );
    }
    assert!(
        html.contains("<h3 id=\"table-2-dpo-pull-to-the-reference-and-number-of-pairs\">Table 2.")
    );
    assert_eq!(html.matches("<div class=\"narrow\"><svg").count(), 3);
    // Every table scrolls by keys and says what its heads are of.
    let tables = html.matches("<table>").count();
    let regions =
        html.matches("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"");
    assert_eq!(regions.count(), tables);
    assert_eq!(
        html.matches("<th").count(),
        html.matches("<th scope=").count() + html.matches("<thead").count()
    );
    assert!(!html.contains("aria-label=\"\""));
    // The primary metric and one more are seen, the others open on demand.
    assert!(html.contains("<summary>1 other metric of this table</summary>"));
    // What a seed repeats is said once on the page: of the fine-tuned, and of what is learnt from one of them.
    let page = crate::report::markdown::document_markdown(&report.document);
    assert_eq!(page.matches("Unit of replication: the whole").count(), 1);
    assert_eq!(page.matches("Unit of replication: what").count(), 1);
    // A name of files stands with the metric's key alone.
    assert_eq!(html.matches("eval_polite").count(), 1);
    assert!(html.contains("<code>eval_polite_test/prob_margin</code>"));
}

#[test]
fn samples_stand_side_by_side_and_are_nothing_but_text() {
    let mut results = results();
    let spec = SamplesSpec {
        name: "stories".to_owned(),
        title: "What β does to the stories".to_owned(),
        set: "stories".to_owned(),
        left: [
            ("beta".to_owned(), json!(0.01)),
            ("pairs".to_owned(), json!(440)),
        ]
        .into(),
        right: [
            ("beta".to_owned(), json!(0.5)),
            ("pairs".to_owned(), json!(440)),
        ]
        .into(),
        prompts: NonZeroUsize::new(2),
    };
    results.sweep.report.samples = vec![spec];
    let page = |results: &SweepResults| {
        let report = crate::report::build_report(results).unwrap();
        crate::report::html::document_html(&report.document)
    };
    assert!(page(&results).contains("No prompt of <code>stories</code> has texts of both"));
    let trials: Vec<(f64, RunId)> = results
        .trials
        .iter()
        .filter_map(|t| Some((t.assignments.get("beta")?.as_f64()?, t.eval.clone())))
        .collect();
    let Details::Memory { samples, .. } = &mut results.details else {
        panic!("in memory");
    };
    for (beta, run) in trials {
        let text = |row: usize, sample: usize| SampleText {
            set: "stories".to_owned(),
            row: format!("row {row}"),
            sample,
            prompt: format!("Prompt {row}"),
            text: format!("<script>alert({beta})</script>\u{202e} **{sample}** of {row}"),
        };
        samples.insert(run, vec![text(0, 0), text(0, 1), text(1, 0), text(2, 0)]);
    }
    let html = page(&results);
    assert_eq!(unbalanced_tag(&html), None);
    assert!(!html.contains("<script") && !html.contains('\u{202e}'));
    for (beta, times) in [("0.01", 2), ("0.5", 2), ("0.1", 0)] {
        let text = format!("&lt;script&gt;alert({beta})&lt;/script&gt;");
        assert_eq!(html.matches(&text).count(), times, "{beta}");
    }
    assert!(
        html.contains("<th scope=\"col\" class=\"w\">beta=0.01</th>"),
        "{html}"
    );
    assert!(
        !html.contains("**1** of"),
        "the first sample of each prompt"
    );
}

#[test]
fn the_index_has_the_verdict_on_every_claim() {
    let mut results = results();
    let silent = index_entry(&results).unwrap();
    results.sweep.name = "claiming".to_owned();
    results.sweep.report.claims = vec![ClaimSpec {
        statement: "More pairs <help>".to_owned(),
        metric: "polite/prob_margin".to_owned(),
        filter: [("stage".to_owned(), json!("dpo"))].into(),
        ours: [("pairs".to_owned(), json!(440))].into(),
        baseline: [("pairs".to_owned(), json!(110))].into(),
        direction: ClaimDirection::Higher,
        delta: None,
    }];
    let entries = [index_entry(&results).unwrap(), silent];
    let html = crate::report::html::document_html(&build_index(&entries));
    assert_eq!(unbalanced_tag(&html), None);
    let verdict = entries[0].claims[0].verdict.words();
    assert!(
        html.contains(&format!(
            "More pairs &lt;help&gt;: <strong>{verdict}</strong>"
        )),
        "{html}"
    );
    assert!(html.contains(&format!("2 studies with 1 claim: 1 {verdict}.")));
    assert!(
        html.contains("<a href=\"claiming/index.html\">")
            && html.contains("<a href=\"sample/index.html\">")
    );
}

#[test]
fn the_page_answers_in_plain_words() {
    let report = crate::report::build_report(&results()).unwrap();
    let page = crate::report::markdown::document_markdown(&report.document);
    let answer = page.split("## Figures").next().unwrap();
    insta::assert_snapshot!(answer);
}

#[test]
fn a_sweep_that_never_ran_gives_a_page_that_says_so() {
    let mut results = results();
    for run in results.runs.values_mut() {
        run.status = crate::report::RunStatus::NotRun;
        run.metrics.clear();
        run.usage = None;
    }
    results.details = crate::report::Details::Memory {
        rows: BTreeMap::new(),
        steps: BTreeMap::new(),
        batches: BTreeMap::new(),
        samples: BTreeMap::new(),
    };
    let report = crate::report::build_report(&results).unwrap();
    let page = crate::report::markdown::document_markdown(&report.document);
    assert!(page.contains("**0 of 36 trials have results.**"));
}

#[test]
fn ten_thousand_runs_make_a_table_without_reading_a_row() {
    let mut results = results();
    let template = results.trials[0].clone();
    let info = results.runs[&template.eval].clone();
    results.trials.clear();
    for index in 0..10_000usize {
        let eval = RunId(format!("{index:064}"));
        let mut run = info.clone();
        run.id = eval.clone();
        results.runs.insert(eval.clone(), run);
        let mut trial = template.clone();
        trial
            .assignments
            .insert("beta".to_owned(), json!(index / 3));
        (trial.index, trial.seed, trial.eval, trial.runs) =
            (index, index as u64 % 3, eval.clone(), vec![eval]);
        results.trials.push(trial);
    }
    let spec = TableSpec {
        baseline: [("beta".to_owned(), json!(0))].into(),
        ..sft(&results)
    };
    let table = compare(&results, &spec).unwrap();
    assert_eq!(table.rows.len(), 3334);
    assert!(table.rows[1..].iter().all(|r| r.baseline == Some(0)));
    assert!(grid_text(&table_grid(&table), false, None).lines().count() > 3334);
}

/// The first tag that does not close what was opened last.
fn unbalanced_tag(html: &str) -> Option<String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>')?;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        let name = tag
            .trim_start_matches('/')
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        if !tag.starts_with('/') {
            open.push(name);
        } else if open.pop() != Some(name.clone()) {
            return Some(name);
        }
    }
    open.pop()
}
