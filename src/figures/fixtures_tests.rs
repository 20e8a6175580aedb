//! Figures with made-up numbers, for the tests of this module.

use crate::figures::{
    BarChart, BatchChart, BatchPiece, BatchRow, Chart, Curve, Figure, Fit, Level, LineChart, Panel,
    Part, Point, ReferenceLine, Saturation, Scale, ScalingChart, ScalingCurve, SeedCurve,
    SeedValue, Series, TrainingChart,
};
use crate::metrics::{Better, Interval, mean, parabola};

pub(crate) fn point(x: f64, values: &[f64]) -> Point {
    let estimate = mean(values);
    Point {
        x,
        estimate,
        interval: estimate.and_then(|e| e.t_interval(0.95)),
        seeds: (1..)
            .zip(values)
            .map(|(seed, v)| SeedValue {
                seed,
                value: *v,
                x: None,
                run: format!("run{seed}{x}"),
            })
            .collect(),
        absent: if values.is_empty() {
            "failed".to_owned()
        } else {
            String::new()
        },
    }
}

fn figure(name: &str, title: &str, panels: Vec<Panel>) -> Figure {
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        note: "Mean over 3 seeds (dots); whiskers: 95 % t-interval of the mean over seeds."
            .to_owned(),
        findings: Vec::new(),
        missing: vec![
            "batching=concat mask=all-tokens: 1 of 3 seeds failed (run 3f9a1c0b27de)".to_owned(),
        ],
        caption: "Loss per reply token.".to_owned(),
        columns: if panels.len() > 1 { 2 } else { 1 },
        panels,
        runs: vec!["3f9a1c0b27de".to_owned(), "a1b2c3d4e5f6".to_owned()],
    }
}

pub(crate) fn panel(title: &str, labels: (&str, &str), better: Better, chart: impl Chart) -> Panel {
    Panel {
        title: title.to_owned(),
        x_label: labels.0.to_owned(),
        y_label: labels.1.to_owned(),
        better,
        decimals: 3,
        note: String::new(),
        levels: Vec::new(),
        chart: Box::new(chart),
    }
}

pub(crate) fn bars(from_zero: bool) -> Figure {
    let categories = ["padded", "concat", "best-fit"].map(str::to_owned).to_vec();
    let series = |name: &str, look: usize, rows: [&[f64]; 3]| Series {
        name: name.to_owned(),
        look,
        points: (0..)
            .zip(rows)
            .map(|(x, v)| point(f64::from(x), v))
            .collect(),
    };
    let k = if from_zero { 0.3 } else { 1.0 };
    let scaled = |v: &[f64]| v.iter().map(|x| x * k).collect::<Vec<_>>();
    let (a, b, c) = (
        scaled(&[2.91, 2.93, 2.90]),
        scaled(&[2.76, 2.78, 2.755]),
        scaled(&[2.74, 2.75, 2.77]),
    );
    let (d, f) = (scaled(&[2.86, 2.87, 2.85]), scaled(&[2.72, 2.735, 2.71]));
    let chart = BarChart {
        categories,
        from_zero,
        series: vec![
            series("mask = assistant-only", 0, [&a, &b, &c]),
            series("mask = all-tokens", 1, [&d, &[], &f]),
        ],
        reference: None,
        forest: false,
    };
    let label = if from_zero {
        "preference accuracy (share of pairs)"
    } else {
        "instruct: loss (nats per token)"
    };
    let better = if from_zero {
        Better::Higher
    } else {
        Better::Lower
    };
    figure(
        if from_zero { "bars" } else { "points" },
        "Does packing help at equal compute, and does masking the prompt?",
        vec![panel("", ("batching", label), better, chart)],
    )
}

pub(crate) fn lines() -> Figure {
    let series = |name: &str, look: usize, base: f64| Series {
        name: name.to_owned(),
        look,
        points: [0.01, 0.05, 0.1, 0.5]
            .iter()
            .enumerate()
            .map(|(i, x)| {
                let bump = [0.0, 0.018, 0.021, 0.012][i];
                point(*x, &[base + bump, base + bump + 0.008, base + bump - 0.006])
            })
            .collect(),
    };
    let chart = LineChart {
        scale: Scale::Log,
        series: vec![
            series("|D| = 110", 0, 0.842),
            series("|D| = 220", 1, 0.851),
            series("|D| = 440", 2, 0.878),
            series("|D| = 933", 3, 0.902),
        ],
        reference: None,
    };
    figure(
        "lines",
        "Which β is best at each dataset size?",
        vec![panel(
            "",
            (
                "β (log scale)",
                "polite: preference accuracy (share of pairs)",
            ),
            Better::Higher,
            chart,
        )],
    )
}

fn curve(name: &str, rate: f64, steps: u32) -> Curve {
    let seed = |seed: u64| SeedCurve {
        seed,
        run: format!("run{seed}"),
        points: (0..=steps)
            .map(|k| {
                let t = f64::from(k) / f64::from(steps);
                let wiggle = (f64::from(k) * 0.9 + seed as f64 * 2.0).sin() * 0.004;
                (f64::from(k * 5), rate * (1.0 - (-4.0 * t).exp()) + wiggle)
            })
            .collect(),
    };
    let looks = ["β = 0.01", "β = 0.1", "β = 0.5"];
    Curve {
        name: name.to_owned(),
        look: looks.iter().position(|n| *n == name).unwrap_or(0),
        seeds: vec![seed(1), seed(2), seed(3)],
    }
}

pub(crate) fn training() -> Figure {
    let chart = TrainingChart {
        scale: Scale::Linear,
        curves: vec![
            curve("β = 0.01", 0.16, 40),
            curve("β = 0.1", 0.11, 40),
            curve("β = 0.5", 0.105, 40),
        ],
    };
    figure(
        "training",
        "Probability margin along training",
        vec![panel(
            "",
            ("optimiser step", "probability margin (probability)"),
            Better::Higher,
            chart,
        )],
    )
}

pub(crate) fn panels() -> Figure {
    let one = |title: &str, k: f64| {
        let chart = TrainingChart {
            scale: Scale::Linear,
            curves: vec![
                curve("β = 0.01", 0.16 * k, 30),
                curve("β = 0.1", 0.11 * k, 30),
            ],
        };
        Panel {
            note: "score 0.912, test loss 1.48".to_owned(),
            ..panel(
                title,
                ("optimiser step", "probability margin (probability)"),
                Better::Higher,
                chart,
            )
        }
    };
    figure(
        "panels",
        "Probability margin along training, by dataset size",
        vec![
            one("|D| = 110", 0.5),
            one("|D| = 440", 0.8),
            one("|D| = 933", 1.0),
        ],
    )
}

/// Long names, many groups, wide intervals: what must not break the layout.
pub(crate) fn crowded() -> Figure {
    let categories: Vec<String> = (0..9)
        .map(|k| format!("preference-strength quota={k} of a long description"))
        .collect();
    let series = (0..3)
        .map(|s| Series {
            name: format!(
                "an arm with a rather long name, number {s}, which says everything twice"
            ),
            look: s as usize,
            points: (0..9)
                .map(|k| {
                    point(
                        f64::from(k),
                        &[0.5 + f64::from(k) * 0.01, 0.52 + f64::from(s) * 0.1],
                    )
                })
                .collect(),
        })
        .collect();
    let chart = BarChart {
        categories,
        from_zero: false,
        series,
        reference: None,
        forest: false,
    };
    figure(
        "crowded",
        "A title so long that it needs more than one line, because the question it asks cannot be put any shorter than this",
        vec![panel(
            "",
            (
                "select",
                "a metric whose name goes on and on (with a unit that does as well)",
            ),
            Better::Lower,
            chart,
        )],
    )
}

/// More groups than columns have room for, and a reference: the bars lie down.
pub(crate) fn many() -> Figure {
    let names =
        "sigmoid + nll, sppo-hard, bco-pair, hinge, kto-pair, exo-pair, discopop, aot-unpaired";
    let categories: Vec<String> = names.split(", ").map(str::to_owned).collect();
    let points = (0..8).map(|k| {
        let v = 0.93 - f64::from(k) * 0.02;
        point(f64::from(k), &[v, v + 0.01, v - 0.02])
    });
    let one = Series {
        name: String::new(),
        look: 0,
        points: points.collect(),
    };
    let chart = |from_zero| BarChart {
        categories: categories.clone(),
        from_zero,
        series: vec![one.clone()],
        reference: Some(ReferenceLine {
            name: "before preference learning".to_owned(),
            point: point(0.0, &[0.62, 0.64, 0.6]),
        }),
        forest: false,
    };
    let label = ("loss", "preference accuracy (share of pairs)");
    let panels = [true, false].map(|zero| panel("", label, Better::Higher, chart(zero)));
    figure("many", "Preference accuracy by loss", panels.into())
}

/// Bars per filter, the best first, and a larger dataset as a line across them.
pub(crate) fn reference(from_zero: bool) -> Figure {
    let names = [
        "preference-strength",
        "random",
        "deita",
        "reward",
        "longest",
        "quality",
    ];
    let points = (0..6).map(|k| {
        let v = 0.872 - f64::from(k) * 0.006;
        point(f64::from(k), &[v, v + 0.004, v - 0.006])
    });
    let chart = BarChart {
        categories: names.map(str::to_owned).to_vec(),
        from_zero,
        series: vec![Series {
            name: String::new(),
            look: 0,
            points: points.collect(),
        }],
        reference: Some(ReferenceLine {
            name: "filter = none, pairs = 933".to_owned(),
            point: point(0.0, &[0.874, 0.881, 0.872]),
        }),
        forest: false,
    };
    figure(
        if from_zero {
            "filters"
        } else {
            "filter-points"
        },
        "Does any filter of 110 pairs beat 933 unfiltered ones?",
        vec![panel(
            "",
            ("filter", "polite: preference accuracy (share of pairs)"),
            Better::Higher,
            chart,
        )],
    )
}

/// Paired differences with intervals written beside them, one of them far, and a known value.
pub(crate) fn forest() -> Figure {
    let names = [
        "loss = ipo, label smoothing 0.1 and a length term",
        "loss = hinge",
        "loss = sigmoid",
    ];
    let points = (0..3).map(|k| {
        let v = f64::from(k) * 0.03 - 0.04;
        point(f64::from(k), &[v, v, v + 0.012])
    });
    let chart = BarChart {
        categories: names.map(str::to_owned).to_vec(),
        from_zero: false,
        series: vec![Series {
            name: String::new(),
            look: 0,
            points: points.collect(),
        }],
        reference: Some(ReferenceLine {
            name: "baseline, loss = dpo".to_owned(),
            point: point(0.0, &[0.0]),
        }),
        forest: true,
    };
    let labels = ("configuration", "difference in preference accuracy");
    let mut panel = panel("", labels, Better::Higher, chart);
    panel.levels = vec![Level {
        name: "what matters".to_owned(),
        value: 0.02,
    }];
    figure(
        "forest",
        "Which loss differs from the baseline?",
        vec![panel],
    )
}

/// Curves over a logarithmic axis of steps, the state before training at its left end.
pub(crate) fn log_steps() -> Figure {
    let mut one = curve("β = 0.1", 0.11, 40);
    for seed in &mut one.seeds {
        let kept = |step: f64| step == 0.0 || (step / 5.0).log2().fract() == 0.0;
        seed.points.retain(|(step, _)| kept(*step));
    }
    let chart = TrainingChart {
        scale: Scale::Log,
        curves: vec![one],
    };
    let labels = ("optimiser step (log scale)", "probability margin");
    let panel = panel("", labels, Better::Higher, chart);
    figure(
        "log-steps",
        "Probability margin along training",
        vec![panel],
    )
}

/// Three sizes of data over compute; the smallest saturates early, the largest not in range.
pub(crate) fn scaling() -> Figure {
    let curve = |name: &str, look: usize, top: f64, at: f64, steps: usize| {
        let points: Vec<Point> = (0..steps)
            .map(|k| {
                let x = 2e9 * 2f64.powf(k as f64);
                let u = x.log10() - at;
                let y = top - 0.03 * u * u;
                point(x, &[y, y + 0.005, y - 0.004])
            })
            .collect();
        let means = points
            .iter()
            .map(|p| (p.x.log10(), p.estimate.unwrap().value));
        let fit = parabola(&means.collect::<Vec<_>>()).map(|parabola| Fit {
            parabola,
            scale: Scale::Log,
        });
        let around = |fit: Fit, k: i32| {
            let x = 2e9 * 2f64.powf(f64::from(k) * (steps as f64 - 1.0) / 8.0);
            let half = 0.004 + 0.0004 * f64::from((k - 4) * (k - 4));
            let (low, high) = (fit.at(x) - half, fit.at(x) + half);
            (x, Interval { low, high })
        };
        let last = points[points.len() - 1].clone();
        let turn = fit.and_then(|f| Some((f.turn()?, f)));
        let on_fit = turn.filter(|(x, _)| *x < last.x);
        let saturation = match on_fit {
            Some((x, f)) => Saturation {
                x,
                y: f.at(x),
                turn: Some(Interval {
                    low: x * 0.7,
                    high: x * 1.6,
                }),
            },
            None => Saturation {
                x: last.x,
                y: last.estimate.unwrap().value,
                turn: None,
            },
        };
        ScalingCurve {
            series: Series {
                name: name.to_owned(),
                look,
                points,
            },
            band: fit.map_or_else(Vec::new, |f| (0..9).map(|k| around(f, k)).collect()),
            fit,
            saturation: Some(saturation),
        }
    };
    let chart = ScalingChart {
        scale: Scale::Log,
        curves: vec![
            curve("|D| = 110", 0, 0.842, 9.9, 6),
            curve("|D| = 440", 1, 0.871, 10.4, 7),
            curve("|D| = 933", 2, 0.893, 11.2, 7),
        ],
    };
    let labels = (
        "training compute (FLOPs) (log scale)",
        "polite: preference accuracy (share of pairs)",
    );
    let mut figure = figure(
        "scaling",
        "How do dataset size and training compute shape DPO?",
        vec![panel("", labels, Better::Higher, chart)],
    );
    figure.findings = vec!["|D| = 110 saturates at 7.94e9 FLOPs (turn of its fit).".to_owned()];
    figure
}

/// One batch of pairs in the three layouts.
pub(crate) fn batch() -> Figure {
    let piece = |tokens, part, pair| BatchPiece { tokens, part, pair };
    let pairs = [
        (120, 60, 200),
        (40, 150, 90),
        (80, 260, 30),
        (200, 100, 110),
    ];
    let longest = 350;
    let mut rows = Vec::new();
    let mut flat = Vec::new();
    for (pair, (prompt, chosen, rejected)) in (1..).zip(pairs) {
        for (name, part, reply) in [
            ("chosen", Part::Chosen, chosen),
            ("rejected", Part::Rejected, rejected),
        ] {
            let mut pieces = vec![piece(prompt, Part::Prompt, pair), piece(reply, part, pair)];
            flat.extend(pieces.clone());
            if longest > prompt + reply {
                pieces.push(piece(longest - prompt - reply, Part::Padding, pair));
            }
            rows.push(BatchRow {
                name: format!("{pair} {name}"),
                pieces,
            });
        }
    }
    let flat: Vec<BatchRow> = flat
        .chunks(4)
        .map(|pieces| BatchRow {
            name: String::new(),
            pieces: pieces.to_vec(),
        })
        .collect();
    let width = flat
        .iter()
        .map(|r| r.pieces.iter().map(|p| p.tokens).sum::<usize>())
        .fold(longest, usize::max);
    let one = |title: &str, rows: Vec<BatchRow>, note: &str| Panel {
        note: note.to_owned(),
        ..panel(
            title,
            ("position in the row (tokens)", ""),
            Better::Neither,
            BatchChart { rows, width },
        )
    };
    let mut figure = figure(
        "batch",
        "One batch of preference pairs, laid out in memory",
        vec![
            one(
                "(a) Padded to the longest row",
                rows,
                "2 800 positions, 980 of them padding.",
            ),
            one("(b) Without padding", flat, "1 820 positions: 35 % fewer."),
        ],
    );
    figure.columns = 1;
    figure
}

/// Three panels in one row with scores below, as long as they come.
pub(crate) fn margins() -> Figure {
    let one = |title: &str, k: f64, note: &str| Panel {
        note: note.to_owned(),
        ..panel(
            title,
            (
                "optimiser step",
                "eval_polite_test: probability margin (probability)",
            ),
            Better::Higher,
            TrainingChart {
                scale: Scale::Linear,
                curves: vec![curve("", 0.16 * k, 30)],
            },
        )
    };
    let mut figure = figure(
        "margins",
        "Probability margin along training of three configurations",
        vec![
            one(
                "arm = few pairs, a long name",
                0.5,
                "preference accuracy 0.912 ± 0.011\nloss (nats per token) 1.482 ± 0.020",
            ),
            one(
                "arm = β 0.1",
                0.8,
                "preference accuracy 0.912 ± 0.011\nloss (nats per token) not run",
            ),
            one(
                "arm = long",
                1.0,
                "preference accuracy 0.912 ± 0.011\nloss (nats per token) 1.482",
            ),
        ],
    );
    figure.columns = 3;
    figure
}

pub(crate) fn all() -> Vec<Figure> {
    vec![
        reference(true),
        reference(false),
        scaling(),
        batch(),
        margins(),
        bars(true),
        bars(false),
        lines(),
        training(),
        panels(),
        crowded(),
        many(),
        forest(),
        log_steps(),
    ]
}
