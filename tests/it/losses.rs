//! Every preference loss and its options, from the sweep file to the table: the loss that the store has
//! is that of the formula in `sweeps/README.md`, of the log-probabilities that the store has.

use crate::project::Project;
use crate::tiny::{self, Results, close};
use serde_json::json;
use std::collections::BTreeMap;

/// Training and evaluation each compute the log-probabilities in f32.
const STORED_LOGPS: f64 = 2e-4;

/// A held-out pair after training.
struct Pair {
    /// Change of the log-probability of the preferred and of the other reply against the reference.
    ratios: [f64; 2],
    /// Their log-probabilities under the policy.
    logps: [f64; 2],
    /// Their tokens.
    tokens: [f64; 2],
}

/// The mean loss of some pairs.
type Loss = Box<dyn Fn(&[Pair]) -> f64>;

/// An arm: its name, the lines of its recipe, whether it asks a reference, its loss.
struct Arm {
    name: &'static str,
    recipe: String,
    reference: bool,
    loss: Loss,
}

/// The recipe of a loss, as the sweep file has it; its parameters are those that begin with a dot.
fn recipe(loss: &str, beta: f64, options: &[(&str, &str)]) -> String {
    let mut set = format!("\"dpo.recipe.beta\" = {beta:?}");
    for (option, value) in options {
        let at = match option.strip_prefix('.') {
            Some(parameter) => format!("loss.{loss}.{parameter}"),
            None => (*option).to_owned(),
        };
        set += &format!(", \"dpo.recipe.{at}\" = {value}");
    }
    if !options.iter().any(|(option, _)| option.starts_with('.')) {
        set += &format!(", \"dpo.recipe.loss\" = \"{loss}\"");
    }
    set
}

fn log_sigmoid(x: f64) -> f64 {
    -(-x).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// `sigmoid` of the table: cDPO with `smoothing`.
fn logistic(x: f64, smoothing: f64) -> f64 {
    -(1.0 - smoothing) * log_sigmoid(x) - smoothing * log_sigmoid(-x)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean over pairs of a loss of `a` and `b`.
fn of_ratios(loss: impl Fn(f64, f64) -> f64 + 'static) -> Loss {
    Box::new(move |pairs| {
        mean(
            pairs
                .iter()
                .map(|pair| loss(pair.ratios[0], pair.ratios[1])),
        )
    })
}

/// The same of token means.
fn of_means(pick: fn(&Pair) -> [f64; 2], loss: impl Fn(f64, f64) -> f64 + 'static) -> Loss {
    Box::new(move |pairs| {
        mean(pairs.iter().map(|pair| {
            let [chosen, rejected] = pick(pair);
            loss(chosen / pair.tokens[0], rejected / pair.tokens[1])
        }))
    })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Negative log-likelihood of the preferred replies, a mean over their tokens.
fn nll(pairs: &[Pair]) -> f64 {
    let sum = |pick: fn(&Pair) -> f64| pairs.iter().map(pick).sum::<f64>();
    -sum(|pair| pair.logps[0]) / sum(|pair| pair.tokens[0])
}

const BETA: f64 = 0.1;
const SMOOTHING: f64 = 0.1;

fn arms() -> Vec<Arm> {
    let smoothed = [(".label-smoothing", "0.1")];
    let arm = |name, recipe, loss| Arm {
        name,
        recipe,
        reference: true,
        loss,
    };
    let plain = |name, loss| arm(name, recipe(name, BETA, &[]), loss);
    let free = |name, recipe, loss| Arm {
        name,
        recipe,
        reference: false,
        loss,
    };
    let robust = |x: f64| {
        (-(1.0 - SMOOTHING) * log_sigmoid(x) + SMOOTHING * log_sigmoid(-x))
            / (1.0 - 2.0 * SMOOTHING)
    };
    let exo = |x: f64| {
        sigmoid(x) * (log_sigmoid(x) - (1.0 - SMOOTHING).ln())
            + sigmoid(-x) * (log_sigmoid(-x) - SMOOTHING.ln())
    };
    let discopop = |x: f64, tau: f64| {
        let m = sigmoid(x / tau);
        -(1.0 - m) * log_sigmoid(x) + m * (-x).exp()
    };
    let log_odds = |x: f64| x - (1.0 - x.exp()).ln();
    vec![
        plain("sigmoid", of_ratios(|a, b| logistic(BETA * (a - b), 0.0))),
        arm(
            "cdpo",
            recipe("sigmoid", BETA, &smoothed),
            of_ratios(|a, b| logistic(BETA * (a - b), SMOOTHING)),
        ),
        arm(
            "token means",
            recipe("sigmoid", 2.0, &[("length-normalized", "true")]),
            of_means(|pair| pair.ratios, |a, b| logistic(2.0 * (a - b), 0.0)),
        ),
        arm(
            "and likelihood",
            recipe("sigmoid", BETA, &[("sft-weight", "0.5")]),
            Box::new(|pairs| {
                of_ratios(|a, b| logistic(BETA * (a - b), 0.0))(pairs) + 0.5 * nll(pairs)
            }),
        ),
        free(
            "reference-free",
            recipe("sigmoid", BETA, &[("reference-free", "true")]),
            Box::new(|pairs| {
                mean(
                    pairs
                        .iter()
                        .map(|pair| logistic(BETA * (pair.logps[0] - pair.logps[1]), 0.0)),
                )
            }),
        ),
        plain("hinge", of_ratios(|a, b| (1.0 - BETA * (a - b)).max(0.0))),
        plain(
            "ipo",
            of_means(|pair| pair.ratios, |a, b| (a - b - 0.5 / BETA).powi(2)),
        ),
        arm(
            "robust",
            recipe("robust", BETA, &smoothed),
            of_ratios(move |a, b| robust(BETA * (a - b))),
        ),
        arm(
            "exo-pair",
            recipe("exo-pair", BETA, &smoothed),
            of_ratios(move |a, b| exo(BETA * (a - b))),
        ),
        plain(
            "nca-pair",
            of_ratios(|a, b| {
                let (a, b) = (BETA * a, BETA * b);
                -log_sigmoid(a) - 0.5 * log_sigmoid(-a) - 0.5 * log_sigmoid(-b)
            }),
        ),
        plain(
            "bco-pair",
            of_ratios(|a, b| -log_sigmoid(BETA * a) - log_sigmoid(-BETA * b)),
        ),
        arm(
            "bco-pair, shifted",
            recipe("bco-pair", BETA, &[(".reward-shift", "true")]),
            Box::new(|pairs| {
                let shift = BETA * mean(pairs.iter().flat_map(|pair| pair.ratios));
                mean(pairs.iter().map(|pair| {
                    let [a, b] = pair.ratios.map(|ratio| BETA * ratio);
                    -log_sigmoid(a - shift) - log_sigmoid(shift - b)
                }))
            }),
        ),
        plain(
            "sppo-hard",
            of_ratios(|a, b| (a - 0.5 / BETA).powi(2) + (b + 0.5 / BETA).powi(2)),
        ),
        plain(
            "apo-zero",
            of_ratios(|a, b| 1.0 - sigmoid(BETA * a) + sigmoid(BETA * b)),
        ),
        plain(
            "apo-down",
            of_ratios(|a, b| sigmoid(BETA * a) + 1.0 - sigmoid(BETA * (a - b))),
        ),
        arm(
            "aot",
            recipe("aot", BETA, &smoothed),
            Box::new(|pairs| {
                let policy = sorted(pairs.iter().map(|pair| pair.logps[0] - pair.logps[1]));
                let reference = sorted(pairs.iter().map(|pair| {
                    let reference = |side: usize| pair.logps[side] - pair.ratios[side];
                    reference(0) - reference(1)
                }));
                let gaps = policy.iter().zip(&reference).map(|(p, r)| p - r);
                mean(gaps.map(|gap| logistic(BETA * gap, SMOOTHING)))
            }),
        ),
        arm(
            "aot-unpaired",
            recipe("aot-unpaired", BETA, &smoothed),
            Box::new(|pairs| {
                let a = sorted(pairs.iter().map(|pair| pair.ratios[0]));
                let b = sorted(pairs.iter().map(|pair| pair.ratios[1]));
                let gaps = a.iter().zip(&b).map(|(a, b)| a - b);
                mean(gaps.map(|gap| logistic(BETA * gap, SMOOTHING)))
            }),
        ),
        arm(
            "discopop",
            recipe("discopop", BETA, &[(".tau", "0.05")]),
            of_ratios(move |a, b| discopop(BETA * (a - b), 0.05)),
        ),
        plain(
            "kto-pair",
            Box::new(|pairs| {
                let level = |side: usize| mean(pairs.iter().map(|p| p.ratios[side])).max(0.0);
                let (of_chosen, of_rejected) = (level(0), level(1));
                mean(pairs.iter().map(|pair| {
                    let kept = 1.0 - sigmoid(BETA * (pair.ratios[0] - of_rejected));
                    let dropped = 1.0 - sigmoid(BETA * (of_chosen - pair.ratios[1]));
                    0.5 * kept + 0.5 * dropped
                }))
            }),
        ),
        free(
            "simpo",
            recipe(
                "simpo",
                2.0,
                &[(".gamma", "0.5"), (".label-smoothing", "0.1")],
            ),
            of_means(
                |pair| pair.logps,
                |w, l| logistic(2.0 * (w - l) - 0.5, SMOOTHING),
            ),
        ),
        free(
            "orpo",
            recipe("orpo", BETA, &[]),
            Box::new(move |pairs| {
                let odds = of_means(
                    |pair| pair.logps,
                    move |w, l| -BETA * log_sigmoid(log_odds(w) - log_odds(l)),
                );
                nll(pairs) + odds(pairs)
            }),
        ),
    ]
}

const PAIRS: [(&str, &str, &str, &str); 3] = [
    ("p0", "Name a fruit.", "The plum is sweet.", "No."),
    (
        "p1",
        "Tell me of Tom.",
        "Tom ran home to his mom.",
        "Tom is a very bad and sad boy, I say.",
    ),
    (
        "p2",
        "Say hello.",
        "Hello, my friend! I am so happy.",
        "Go away from here now.",
    ),
];

/// Trained on three pairs and measured on them.
fn project_of(runtime: &str) -> (Project, String) {
    let project = tiny::project();
    let rows = PAIRS.map(|(id, prompt, chosen, rejected)| {
        json!({"id": id, "prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
    });
    project.write("data/mine/three.jsonl", rows.join("\n"));
    let rest = format!(
        r#"[base]
pipeline = ["sft", "dpo"]
[base.dpo.recipe]
data = [{{ path = "data/mine/three.jsonl" }}]
global-batch-size = 3
duration = {{ steps = 3 }}
optimizer = {{ learning-rate = 1e-3 }}
schedule = {{ decay = "constant", warmup-ratio = 0.0 }}
monitor = {{ data = [{{ path = "data/mine/three.jsonl" }}], every-steps = 100 }}
{runtime}
[base.eval.recipe.preference.three]
data = [{{ path = "data/mine/three.jsonl" }}]
limits = {{ max-seq-len = 512, max-prompt-len = 256, truncation = "keep-end" }}
"#
    );
    (project, rest)
}

fn pairs(results: &Results, arm: &str, tokens: &BTreeMap<String, [f64; 2]>) -> Vec<Pair> {
    let rows = results.lines(&results.only(arm, "eval"), "rows.jsonl");
    let rows = rows.iter().filter(|row| row["set"] == "three");
    rows.map(|row| {
        let of = |key: &str| row["metrics"][key].as_f64().unwrap();
        Pair {
            ratios: [of("logps/chosen_shift"), of("logps/rejected_shift")],
            logps: [of("logps/chosen"), of("logps/rejected")],
            tokens: tokens[row["row"].as_str().unwrap()],
        }
    })
    .collect()
}

#[test]
fn every_loss_ends_in_the_table_with_the_value_of_its_formula() {
    let (project, rest) = project_of("");
    let arms = arms();
    let points: Vec<(&str, String)> = arms.iter().map(|a| (a.name, a.recipe.clone())).collect();
    let metrics = [
        "three/rewards/margins",
        "three/logps/chosen_shift",
        "tales/loss",
    ];
    let results = tiny::run_arms(&project, "losses", &points, &metrics, &rest);
    let tokens = tiny::reply_tokens(&project, "losses", 0, PAIRS.len());
    let mut ends = BTreeMap::new();
    for arm in &arms {
        let name = arm.name;
        let pairs = pairs(&results, name, &tokens);
        assert_eq!(pairs.len(), PAIRS.len());
        let moved = pairs.iter().flat_map(|pair| pair.ratios);
        assert!(
            moved.clone().any(|ratio| ratio.abs() > 0.1),
            "{name} trains"
        );
        let dpo = results.only(name, "dpo");
        let monitored = results.steps(&dpo, "eval_three/loss");
        assert_eq!(
            monitored.keys().copied().collect::<Vec<_>>(),
            [0, 3],
            "{name}"
        );
        close(monitored[&3], (arm.loss)(&pairs), STORED_LOGPS, name);
        let start: Vec<Pair> = pairs
            .iter()
            .map(|pair| Pair {
                ratios: [0.0; 2],
                logps: [0, 1].map(|side| pair.logps[side] - pair.ratios[side]),
                tokens: pair.tokens,
            })
            .collect();
        close(monitored[&0], (arm.loss)(&start), STORED_LOGPS, name);
        // Trained on what is measured. At 0 the slope of DiscoPOP points the other way.
        let falls = monitored[&3] < monitored[&0];
        assert!(falls || name == "discopop", "{name}: {monitored:?}");
        // Held-out pairs always have a reference, the training of these losses none.
        let inputs = project.json(&["show", &dpo])["identity"]["inputs"].clone();
        let asked = inputs.as_object().unwrap().contains_key("ref-logps");
        assert_eq!(asked, arm.reference, "{name}: {inputs}");
        ends.entry(results.weights(&dpo))
            .or_insert_with(Vec::new)
            .push(name);
    }
    let same: Vec<_> = ends.values().filter(|names| names.len() > 1).collect();
    assert!(same.is_empty(), "each loss trains another model: {same:?}");
}

#[test]
fn a_split_of_the_step_changes_nothing_where_pairs_are_coupled() {
    let coupled = ["aot", "aot-unpaired", "kto-pair", "bco-pair, shifted"];
    let ends = |runtime: &str| -> Vec<f64> {
        let (project, rest) = project_of(runtime);
        let arms = arms();
        let arms = arms.iter().filter(|arm| coupled.contains(&arm.name));
        let points: Vec<(&str, String)> = arms.map(|a| (a.name, a.recipe.clone())).collect();
        assert_eq!(points.len(), coupled.len());
        let metric = "three/rewards/margins";
        let results = tiny::run_arms(&project, "coupled", &points, &[metric], &rest);
        coupled.map(|name| results.value(name, metric)).into()
    };
    let whole = ends("");
    let split = ends("[base.dpo.runtime]\nmicro-batch-tokens = 80\n");
    for ((name, whole), split) in coupled.iter().zip(whole).zip(split) {
        close(split, whole, STORED_LOGPS, name);
    }
}
