//! DPO on real pairs equals TRL: log-probabilities, losses, rewards, every gradient.

use crate::parity_engine::{Model, Packed, perturbed};
use crate::parity_support::{
    PARITY, check, distance, distance_to_fingerprint, flat, golden, ids, numbers, relative,
};
use candle_core::{DType, Device, Tensor};
use lions::config::spec::PreferenceLoss;
use lions::data::{PAIR_SEGMENTS, PairCut, TokenBatch, TokenizedPair, pair_batches};
use lions::train::{PairLogps, PairTerms, clip_by_global_norm, hidden_states, segment_sums};
use serde_json::{Value, json};

/// Segments 2i and 2i + 1 are pair i's chosen and rejected; targets are the completions.
fn pack(pairs: &serde_json::Map<String, Value>, order: &[String]) -> Packed {
    let mut documents = Vec::new();
    for id in order {
        let prompt = ids(&pairs[id]["prompt"]);
        for reply in ["chosen", "rejected"] {
            let reply = ids(&pairs[id][reply]);
            let mask = [vec![false; prompt.len()], vec![true; reply.len()]].concat();
            documents.push(([prompt.clone(), reply].concat(), mask));
        }
    }
    Packed::new(&documents)
}

/// How the two sequences of a pair are laid out.
enum Pairs {
    /// Each in a segment of its own.
    Apart(Packed),
    /// Behind one prompt, as training and scoring do it.
    Shared(TokenBatch),
}

impl Pairs {
    fn shared(pairs: &serde_json::Map<String, Value>, order: &[String]) -> Self {
        let pair = |id: &String| TokenizedPair {
            id: id.clone(),
            key: id.clone(),
            prompt: ids(&pairs[id]["prompt"]),
            chosen: ids(&pairs[id]["chosen"]),
            rejected: ids(&pairs[id]["rejected"]),
            cut: PairCut::default(),
        };
        let pairs: Vec<TokenizedPair> = order.iter().map(pair).collect();
        let pairs: Vec<&TokenizedPair> = pairs.iter().collect();
        let mut batches = pair_batches(&pairs, usize::MAX);
        assert_eq!(batches.len(), 1);
        Self::Shared(batches.remove(0).batch)
    }

    /// Summed log-probabilities of chosen and rejected, (P, 2) f64.
    fn sums(&self, model: &Model) -> Tensor {
        let decoder = model.decoder();
        match self {
            Self::Apart(batch) => {
                let segments = batch.cu_seqlens.len() - 1;
                let logps = batch.token_logps(&decoder);
                let sums = segment_sums(&logps, &batch.segments, segments).unwrap();
                sums.reshape((segments / 2, 2)).unwrap()
            }
            Self::Shared(batch) => {
                let hidden = hidden_states(&decoder, batch).unwrap();
                let logps = decoder.token_logps(&hidden, &batch.target_rows, &batch.targets);
                let count = batch.segments();
                let sums = segment_sums(&logps.unwrap(), &batch.target_segments, count).unwrap();
                let sums = sums.reshape(((), PAIR_SEGMENTS)).unwrap(); // (P, 3)
                sums.narrow(1, 1, 2).unwrap()
            }
        }
    }
}

/// Summed log-probabilities of both replies of every pair, (P,) f64 each.
fn pair_logps(model: &Model, batch: &Pairs) -> PairLogps {
    let pairs = batch.sums(model); // (P, 2)
    let column = |k: usize| pairs.narrow(1, k, 1).unwrap().squeeze(1).unwrap(); // (P,)
    PairLogps {
        chosen: column(0),
        rejected: column(1),
    }
}

fn detached(logps: &PairLogps) -> PairLogps {
    PairLogps {
        chosen: logps.chosen.detach(),
        rejected: logps.rejected.detach(),
    }
}

#[test]
fn dpo_loss_rewards_and_every_gradient_equal_trl() {
    let golden = golden("dpo.json");
    let pairs = golden["pairs"].as_object().unwrap();
    let order: Vec<String> = pairs.keys().cloned().collect();
    equals_trl(&golden, &order, &Pairs::Apart(pack(pairs, &order)));
}

#[test]
fn dpo_behind_a_shared_prompt_equals_trl() {
    let golden = golden("dpo.json");
    let pairs = golden["pairs"].as_object().unwrap();
    let order: Vec<String> = pairs.keys().cloned().collect();
    equals_trl(&golden, &order, &Pairs::shared(pairs, &order));
}

fn equals_trl(golden: &Value, order: &[String], batch: &Pairs) {
    let pairs = golden["pairs"].as_object().unwrap();
    let policy = perturbed();
    let reference = detached(&pair_logps(&Model::shipped(), batch));

    let both = |logps: &PairLogps, key: &str| {
        let got = [flat(&logps.chosen), flat(&logps.rejected)].concat();
        let want = |k: usize| order.iter().map(move |id| numbers(&pairs[id][key])[k]);
        let want: Vec<f64> = want(0).chain(want(1)).collect();
        (key.to_owned(), distance(&got, &want))
    };
    let logps = pair_logps(&policy, batch);
    check(
        "pair logps",
        [both(&reference, "ref_logps"), both(&logps, "logps")],
        PARITY,
    );

    for (name, wanted) in golden["variants"].as_object().unwrap() {
        let number = |key: &str| wanted[key].as_f64().unwrap();
        let logps = pair_logps(&policy, batch);
        let beta = number("beta");
        let spelt = json!({
            "loss": {"sigmoid": {"label-smoothing": number("label_smoothing")}}, "beta": beta,
        });
        let preference: PreferenceLoss = serde_json::from_value(spelt).unwrap();
        let ones = Tensor::ones(order.len(), DType::F64, &Device::Cpu).unwrap();
        let terms = PairTerms {
            policy: logps.clone(),
            reference: reference.clone(),
            chosen_tokens: ones.clone(),
            rejected_tokens: ones,
            mean_chosen_tokens: 1.0,
        };
        let losses = preference.losses(&terms).unwrap();
        let loss = losses.mean_all().unwrap();
        check(
            &format!("{name}: loss"),
            [("mean".to_owned(), relative(flat(&loss)[0], number("loss")))],
            PARITY,
        );
        let per_pair = |key: &str| -> Vec<f64> {
            let rows = wanted["pairs"].as_array().unwrap();
            let find = |id: &String| rows.iter().find(|r| r["id"] == id.as_str()).unwrap();
            order
                .iter()
                .map(|id| find(id)[key].as_f64().unwrap())
                .collect()
        };
        let reward = |policy: &Tensor, reference: &Tensor| {
            ((policy.detach() - reference).unwrap() * beta).unwrap() // (P,)
        };
        let chosen_rewards = reward(&logps.chosen, &reference.chosen);
        let rejected_rewards = reward(&logps.rejected, &reference.rejected);
        let margins = (&chosen_rewards - &rejected_rewards).unwrap();
        let columns = [
            ("loss", &losses),
            ("rewards/chosen", &chosen_rewards),
            ("rewards/rejected", &rejected_rewards),
            ("rewards/margins", &margins),
        ];
        check(
            &format!("{name}: pairs"),
            columns.map(|(key, got)| (key.to_owned(), distance(&flat(got), &per_pair(key)))),
            PARITY,
        );
        let won: Vec<f64> = flat(&margins)
            .into_iter()
            .map(|m| f64::from(m > 0.0))
            .collect();
        assert_eq!(won, per_pair("rewards/accuracies"), "{name}: accuracies");

        let gradients = policy.gradients(&loss);
        check(
            &format!("{name}: gradients"),
            gradients.iter().map(|(parameter, grad)| {
                (
                    parameter.clone(),
                    distance_to_fingerprint(grad, &wanted["gradients"][parameter]),
                )
            }),
            PARITY,
        );
        let norm = clip_by_global_norm(&gradients, 0.0).unwrap().norm;
        let error = relative(norm, number("grad_norm"));
        check(
            &format!("{name}: gradient norm"),
            [("global".to_owned(), error)],
            PARITY,
        );
    }
}
