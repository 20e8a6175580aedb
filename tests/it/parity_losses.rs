//! Preference losses as functions of log-probabilities equal TRL, values and gradients, far out too.

use crate::parity_support::{check, distance, golden, numbers, relative};
use candle_core::{Device, Tensor};
use lions::config::spec::{DpoLoss, PreferenceLoss};
use lions::train::{PairLogps, PairTerms};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Both sides compute in f64; TRL holds some constants in f32, which shows at 1e-8.
const LOSS_FUNCTION: f64 = 1e-7;
/// The same where TRL takes logarithms of such constants (EXO).
const LOSS_OF_LOGS: f64 = 1e-6;

fn terms(set: &Value) -> PairTerms {
    let row = |key: &str| Tensor::new(numbers(&set[key]), &Device::Cpu).unwrap(); // (P,)
    let lengths = numbers(&set["chosen_length"]);
    PairTerms {
        policy: PairLogps {
            chosen: row("chosen"),
            rejected: row("rejected"),
        },
        reference: PairLogps {
            chosen: row("ref_chosen"),
            rejected: row("ref_rejected"),
        },
        chosen_tokens: row("chosen_length"),
        rejected_tokens: row("rejected_length"),
        mean_chosen_tokens: lengths.iter().sum::<f64>() / lengths.len() as f64,
    }
}

fn loss_of(case: &Value, discopop_tau: f64) -> PreferenceLoss {
    let name = case["loss_type"].as_str().unwrap();
    let spelt = name.replace("_norm", "").replace('_', "-");
    let smoothing = &case["label_smoothing"];
    let kind = match spelt.as_str() {
        "sigmoid" | "robust" | "exo-pair" | "aot" | "aot-unpaired" => {
            json!({spelt: {"label-smoothing": smoothing}})
        }
        "discopop" => json!({spelt: {"tau": discopop_tau}}),
        "bco-pair" => json!({spelt: {}}),
        _ => json!(spelt),
    };
    let loss = json!({
        "loss": kind, "beta": case["beta"], "length-normalized": name == "sigmoid_norm",
    });
    serde_json::from_value(loss).unwrap()
}

#[test]
fn every_loss_that_trl_has_equals_it_for_any_log_ratio() {
    let golden = golden("dpo_losses.json");
    let tau = golden["discopop_tau"].as_f64().unwrap();
    let (mut plain, mut of_logs) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (index, case) in golden["cases"].as_object().unwrap() {
        if case["f_divergence"] != "reverse_kl" {
            continue;
        }
        let terms = terms(&golden["sets"][case["set"].as_str().unwrap()]);
        let loss = loss_of(case, tau);
        let pairs = terms.policy.chosen.elem_count();
        let got = loss.gradient(&terms, pairs).unwrap();
        let column = |side: usize| got.pairs.iter().map(|pair| pair[side]).collect::<Vec<_>>();
        let name = format!("{index}, {}", loss.kind.name());
        let errors = [
            (
                format!("{name}: loss"),
                relative(got.loss, case["loss"].as_f64().unwrap()),
            ),
            (
                format!("{name}: d_chosen"),
                distance(&column(0), &numbers(&case["d_chosen"])),
            ),
            (
                format!("{name}: d_rejected"),
                distance(&column(1), &numbers(&case["d_rejected"])),
            ),
        ];
        if matches!(loss.kind, DpoLoss::ExoPair { .. }) {
            of_logs.extend(errors);
        } else {
            plain.extend(errors);
        }
        seen.insert(loss.kind.name());
    }
    let all = DpoLoss::NAMES.iter().copied();
    let lacking: Vec<&str> = all.filter(|name| !seen.contains(name)).collect();
    assert_eq!(
        lacking,
        ["kto-pair", "simpo", "orpo"],
        "TRL's DPO lacks these"
    );
    check("losses", plain, LOSS_FUNCTION);
    check("exo-pair", of_logs, LOSS_OF_LOGS);
}
