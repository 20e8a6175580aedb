//! Preference losses as functions of log-probabilities equal TRL, values and gradients, far out too.

use crate::parity_support::{check, distance, flat, golden, numbers, relative};
use candle_core::{Device, Tensor, Var};
use lions::train::{PairLogps, dpo_sigmoid};

/// Both sides compute in f64; TRL holds some constants in f32, which shows at 1e-8.
const LOSS_FUNCTION: f64 = 1e-7;

#[test]
fn the_sigmoid_loss_equals_trl_for_any_log_ratio() {
    let golden = golden("dpo_losses.json");
    let mut errors = Vec::new();
    for (index, case) in golden["cases"].as_object().unwrap() {
        if case["loss_type"] != "sigmoid" || case["f_divergence"] != "reverse_kl" {
            continue;
        }
        let set = &golden["sets"][case["set"].as_str().unwrap()];
        let var = |key: &str| {
            let tensor = Tensor::new(numbers(&set[key]), &Device::Cpu).unwrap(); // (P,)
            Var::from_tensor(&tensor).unwrap()
        };
        let (chosen, rejected) = (var("chosen"), var("rejected"));
        let policy = PairLogps {
            chosen: chosen.as_tensor().clone(),
            rejected: rejected.as_tensor().clone(),
        };
        let reference = PairLogps {
            chosen: var("ref_chosen").as_detached_tensor(),
            rejected: var("ref_rejected").as_detached_tensor(),
        };
        let number = |key: &str| case[key].as_f64().unwrap();
        let out = dpo_sigmoid(
            &policy,
            &reference,
            number("beta"),
            number("label_smoothing"),
        );
        let loss = out.unwrap().losses.mean_all().unwrap();
        let store = loss.backward().unwrap();
        errors.push((
            format!("{index}: loss"),
            relative(flat(&loss)[0], number("loss")),
        ));
        for (key, var) in [("d_chosen", &chosen), ("d_rejected", &rejected)] {
            let got = flat(store.get(var.as_tensor()).unwrap());
            errors.push((
                format!("{index}: {key}"),
                distance(&got, &numbers(&case[key])),
            ));
        }
    }
    check("sigmoid loss", errors, LOSS_FUNCTION);
}
