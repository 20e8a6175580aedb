//! A made-up sweep with results, for the tests of this module.

use crate::base::{SeedTree, Timestamp};
use crate::config::sweep::{
    AxisInfo, BarsSpec, ChartSpec, FigureHead, FigureSpec, LinesSpec, Measured, ReportSpec,
    TableSpec, TrainingSpec,
};
use crate::plan::{RunId, StageKind};
use crate::report::select::{
    Details, RowValue, RunInfo, RunStatus, StepRow, SweepResults, TrialResult,
};
use crate::rundir::{BatchLayout, MetricValue, PairLengths, Usage};
use crate::store::StoredSweep;
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn id(text: &str) -> RunId {
    RunId(crate::base::digest_bytes(text.as_bytes()).0)
}

fn assign(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect()
}

fn table(
    name: &str,
    title: &str,
    stage: &str,
    metrics: &[&str],
    baseline: &[(&str, Value)],
) -> TableSpec {
    TableSpec {
        name: name.to_owned(),
        title: title.to_owned(),
        filter: assign(&[("stage", json!(stage))]),
        metrics: metrics.iter().map(|m| (*m).to_owned()).collect(),
        baseline: assign(baseline),
        ..TableSpec::default()
    }
}

/// A figure of the trials of one stage, with a series for each value of an axis.
fn figure(
    name: &str,
    title: &str,
    stage: &str,
    (metric, series): (&str, &str),
    chart: impl FnOnce(Measured) -> ChartSpec,
) -> FigureSpec {
    FigureSpec {
        head: FigureHead {
            name: name.to_owned(),
            title: title.to_owned(),
            filter: assign(&[("stage", json!(stage))]),
            caption: "A caption from the sweep file.".to_owned(),
            ..FigureHead::default()
        },
        chart: chart(Measured {
            metric: metric.to_owned(),
            series: Some(series.to_owned()),
            ..Measured::default()
        }),
    }
}

fn sweep() -> StoredSweep {
    let axis = |name: &str, values: Vec<Value>| AxisInfo {
        name: name.to_owned(),
        values,
        unit: String::new(),
    };
    StoredSweep {
        name: "sample".to_owned(),
        question: "Does packing beat padding at equal compute, and how do β and |D| shape DPO?"
            .to_owned(),
        tags: Vec::new(),
        notes: Vec::new(),
        axes: vec![
            axis("stage", vec![json!("sft"), json!("dpo")]),
            axis(
                "batching",
                vec![json!("padded"), json!("concat"), json!("best-fit")],
            ),
            axis(
                "loss-mask",
                vec![json!("assistant-only"), json!("all-tokens")],
            ),
            axis("beta", vec![json!(0.01), json!(0.1), json!(0.5)]),
            axis("pairs", vec![json!(110), json!(440)]),
        ],
        halving: None,
        unread: Vec::new(),
        registered: Timestamp(0),
        report: ReportSpec {
            claims: Vec::new(),
            delta: BTreeMap::new(),
            tables: vec![
                table(
                    "sft",
                    "Packing and masking at equal compute",
                    "sft",
                    &["instruct/loss", "instruct/perplexity"],
                    &[
                        ("batching", json!("padded")),
                        ("loss-mask", json!("assistant-only")),
                    ],
                ),
                table(
                    "dpo",
                    "DPO: pull to the reference and number of pairs",
                    "dpo",
                    &[
                        "polite/rewards/accuracies",
                        "polite/prob_margin",
                        "polite/logps/chosen_shift",
                    ],
                    &[("beta", json!(0.1)), ("pairs", json!(440))],
                ),
            ],
            samples: Vec::new(),
            figures: vec![
                figure(
                    "packing",
                    "Packing and masking at equal compute",
                    "sft",
                    ("instruct/loss", "loss-mask"),
                    |measured| {
                        ChartSpec::Bars(BarsSpec {
                            measured,
                            x: Some("batching".to_owned()),
                            ..BarsSpec::default()
                        })
                    },
                ),
                figure(
                    "beta",
                    "Preference accuracy over β, by number of pairs",
                    "dpo",
                    ("polite/rewards/accuracies", "pairs"),
                    |measured| {
                        ChartSpec::Lines(LinesSpec {
                            measured,
                            x: "beta".to_owned(),
                            log_x: true,
                            ..LinesSpec::default()
                        })
                    },
                ),
                figure(
                    "margin",
                    "Probability margin along training",
                    "dpo",
                    ("eval_polite_test/prob_margin", "beta"),
                    |measured| {
                        ChartSpec::Training(TrainingSpec {
                            measured,
                            ..TrainingSpec::default()
                        })
                    },
                ),
            ],
        },
    }
}

/// Collects runs, rows and steps.
#[derive(Default)]
struct Maker {
    trials: Vec<TrialResult>,
    runs: BTreeMap<RunId, RunInfo>,
    rows: BTreeMap<RunId, Vec<RowValue>>,
    steps: BTreeMap<RunId, Vec<StepRow>>,
    batches: BTreeMap<RunId, BatchLayout>,
}

impl Maker {
    fn run(
        &mut self,
        name: &str,
        kind: StageKind,
        seed: u64,
        status: RunStatus,
        metrics: BTreeMap<String, MetricValue>,
    ) -> RunId {
        let run = id(name);
        let usage = Usage {
            wall_secs: 20.5,
            cpu_secs: 20.1,
            peak_memory_bytes: 90 << 20,
            device_memory_bytes: None,
            tokens: 300_000,
            positions: 310_000,
            flops: 8.0e11,
        };
        let done = status == RunStatus::Done;
        let counts = if kind == StageKind::Sft {
            vec![
                ("documents_kept", 5000),
                ("documents_cut", 12),
                ("tokens_kept", 300_000),
                ("tokens_cut", 900),
            ]
        } else {
            vec![]
        };
        let provenance = [("device", "cpu"), ("lions", "0.1.0")];
        self.runs.insert(
            run.clone(),
            RunInfo {
                id: run.clone(),
                kind,
                seed: Some(seed),
                status,
                metrics,
                counts: counts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
                notes: Vec::new(),
                usage: done.then_some(usage),
                provenance: provenance
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
            },
        );
        run
    }

    fn trial(
        &mut self,
        label: &str,
        seed: u64,
        assignments: BTreeMap<String, Value>,
        runs: Vec<RunId>,
    ) {
        let eval = runs.last().cloned().unwrap_or_else(|| id("none"));
        self.trials.push(TrialResult {
            index: self.trials.len(),
            label: label.to_owned(),
            seed,
            assignments,
            runs,
            eval,
        });
    }
}

fn value(value: f64, n: u64) -> MetricValue {
    MetricValue {
        value,
        stderr: None,
        n,
    }
}

/// Rows of one set whose mean is about `center`: a common part by row, a small part by run.
fn rows(set: &str, key: &str, run: &RunId, center: f64, n: usize) -> Vec<RowValue> {
    let common = SeedTree::root(1).child(set);
    let own = SeedTree::root(2).child(&run.0);
    let draw = |tree: &SeedTree, i: usize| tree.index(i as u64).rng().random::<f64>() - 0.5;
    (0..n)
        .map(|i| RowValue {
            set: set.to_owned(),
            row: format!("row{i}"),
            cluster: None,
            metrics: [(
                key.to_owned(),
                center + draw(&common, i) + 0.1 * draw(&own, i),
            )]
            .into(),
        })
        .collect()
}

fn mean_of(rows: &[RowValue], key: &str) -> f64 {
    rows.iter().map(|r| r.metrics[key]).sum::<f64>() / rows.len() as f64
}

fn add_sft(maker: &mut Maker) {
    let effect = |b: &str, m: &str| {
        (match b {
            "padded" => 2.91,
            "concat" => 2.76,
            _ => 2.75,
        }) - if m == "all-tokens" { 0.012 } else { 0.0 }
    };
    for batching in ["padded", "concat", "best-fit"] {
        for mask in ["assistant-only", "all-tokens"] {
            for seed in 1..=3u64 {
                let label = format!("batching={batching} loss-mask={mask} stage=sft");
                let name = format!("{label} {seed}");
                let fails = batching == "concat" && mask == "all-tokens" && seed == 2;
                let status = if fails {
                    RunStatus::Failed("the loss is not finite at step 17 (rows a1, b2)".to_owned())
                } else {
                    RunStatus::Done
                };
                let sft = maker.run(
                    &format!("sft {name}"),
                    StageKind::Sft,
                    seed,
                    status,
                    BTreeMap::new(),
                );
                let eval_id = id(&format!("eval {name}"));
                let r = rows(
                    "instruct",
                    "loss",
                    &eval_id,
                    effect(batching, mask) + [0.0, 0.006, -0.004][seed as usize - 1],
                    120,
                );
                let loss = mean_of(&r, "loss");
                let metrics = [("instruct/loss", loss), ("instruct/perplexity", loss.exp())]
                    .map(|(k, v)| (k.to_owned(), value(v, 120)));
                let (status, metrics) = if fails {
                    (RunStatus::Skipped, BTreeMap::new())
                } else {
                    (RunStatus::Done, metrics.into())
                };
                let eval = maker.run(&format!("eval {name}"), StageKind::Eval, 0, status, metrics);
                maker.rows.insert(eval.clone(), r);
                let assignments = assign(&[
                    ("stage", json!("sft")),
                    ("batching", json!(batching)),
                    ("loss-mask", json!(mask)),
                ]);
                maker.trial(&label, seed, assignments, vec![sft, eval]);
            }
        }
    }
}

fn add_dpo(maker: &mut Maker) {
    let sft = maker.run(
        "sft shared",
        StageKind::Sft,
        1,
        RunStatus::Done,
        BTreeMap::new(),
    );
    let reference = maker.run(
        "ref shared",
        StageKind::RefLogps,
        0,
        RunStatus::Done,
        BTreeMap::new(),
    );
    for beta in [0.01, 0.1, 0.5] {
        for pairs in [110, 440] {
            for seed in 1..=3u64 {
                let label = format!("beta={beta} pairs={pairs} stage=dpo");
                let name = format!("{label} {seed}");
                let dpo = maker.run(
                    &format!("dpo {name}"),
                    StageKind::Dpo,
                    seed,
                    RunStatus::Done,
                    BTreeMap::new(),
                );
                let wobble = [0.0, 0.008, -0.006][seed as usize - 1];
                let reach =
                    0.1 + 0.05 * (1.0 - f64::ln(beta) / 5.0) * if pairs == 440 { 1.3 } else { 1.0 };
                let steps = (0..=20u64).map(|k| {
                    let t = 1.0 - (-(k as f64) / 6.0).exp();
                    let y = reach * t + wobble * (k as f64).sin();
                    StepRow {
                        step: k * 10,
                        metrics: [("eval_polite_test/prob_margin".to_owned(), y)].into(),
                    }
                });
                maker.steps.insert(dpo.clone(), steps.collect());
                maker
                    .batches
                    .insert(dpo.clone(), batch(pairs + seed as usize));
                let accuracy = 0.84
                    + if pairs == 440 { 0.05 } else { 0.0 }
                    + if (0.05..0.2).contains(&beta) {
                        0.01
                    } else {
                        0.0
                    }
                    + wobble;
                let metrics = [
                    ("polite/rewards/accuracies", accuracy),
                    ("polite/prob_margin", reach + wobble),
                    (
                        "polite/logps/chosen_shift",
                        12.0 * beta.ln() + wobble * 40.0,
                    ),
                    (
                        "training/flops",
                        2e9 * if beta < 0.05 {
                            1.0
                        } else if beta < 0.2 {
                            2.0
                        } else {
                            4.0
                        },
                    ),
                    ("polite/length_baseline/longer", 0.44),
                    ("polite/length_baseline/shorter", 0.56),
                ]
                .map(|(k, v)| (k.to_owned(), value(v, 161)));
                let eval = maker.run(
                    &format!("eval {name}"),
                    StageKind::Eval,
                    0,
                    RunStatus::Done,
                    metrics.into(),
                );
                let assignments = assign(&[
                    ("stage", json!("dpo")),
                    ("beta", json!(beta)),
                    ("pairs", json!(pairs)),
                ]);
                maker.trial(
                    &label,
                    seed,
                    assignments,
                    vec![sft.clone(), reference.clone(), dpo, eval],
                );
            }
        }
    }
}

/// Eight pairs of some lengths.
fn batch(salt: usize) -> BatchLayout {
    let lengths = |k: usize| PairLengths {
        prompt: 30 + (k * 37 + salt) % 90,
        chosen: 20 + (k * 53 + salt) % 120,
        rejected: 15 + (k * 71 + salt) % 160,
    };
    BatchLayout {
        pairs: (0..8).map(lengths).collect(),
    }
}

/// Twelve configurations of three seeds; one SFT run failed.
pub(crate) fn results() -> SweepResults {
    let mut maker = Maker::default();
    add_sft(&mut maker);
    add_dpo(&mut maker);
    SweepResults {
        sweep: sweep(),
        source: "# A sample.\n[sweep]\nname = \"sample\"\n".to_owned(),
        trials: maker.trials,
        runs: maker.runs,
        stopped: Vec::new(),
        details: Details::Memory {
            rows: maker.rows,
            steps: maker.steps,
            batches: maker.batches,
            samples: BTreeMap::new(),
        },
    }
}
